"""The Jacobian of a layer: by how much each of its outputs follows each of its inputs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from common import precision  # noqa: F401 (float64 and one thread)


def jacobian(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """d function(x)_i / d x_j at x, by autograd.

    torch.autograd.functional.jacobian gives the same; its vectorized variant loads for a fifth of a second at its first call.

    Args:
        function: takes (B, T, d) and treats every sequence of the batch alone (so not a BatchNorm in training).
        x: (1, T, d).

    Returns:
        (n_outputs, T d): a row for each output of the one sequence, inputs in the order of x.flatten().

    Raises:
        ValueError: x is more than one sequence.
    """
    if x.shape[0] != 1:
        raise ValueError(f"the Jacobian is taken at one sequence (1, T, d), got {tuple(x.shape)}")
    with torch.no_grad():
        n = function(x).numel()
    copies = x.detach().repeat(n, 1, 1).requires_grad_()  # one for each output, so that one backward pass does for all
    outputs = function(copies).reshape(n, n).diagonal()  # (n,), output i of copy i
    return torch.autograd.grad(outputs.sum(), copies)[0].flatten(1)
