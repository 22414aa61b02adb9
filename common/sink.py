"""A task that asks a softmax to look nowhere: the average of the marked values if that is asked, and 0 if not.

Every sequence has LENGTH values between 1 and 2, two of them marked. One sequence in five is asked for their average; from the
others the answer is 0, which no weighted average of the values is.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.training import train

LENGTH, MARKED, ASKED = 8, 2, 0.2

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


def draw(n: int, seed: int) -> Batch:
    """n sequences: asked (n,) bool, marked (n, LENGTH) bool, values (n, LENGTH), answers (n,)."""
    generator = torch.Generator().manual_seed(seed)
    asked = torch.rand(n, generator=generator) < ASKED
    marked = torch.rand(n, LENGTH, generator=generator).argsort(dim=1) < MARKED
    values = 1 + torch.rand(n, LENGTH, generator=generator)
    return asked, marked, values, asked * (values * marked).sum(dim=1) / MARKED


def train_to_answer(
    make: Callable[[str], nn.Module], rest: str, n_steps: int, seed: int, *, lr: float = 0.1, batch: int = 64
) -> nn.Module:
    """A new model `make(rest)`, trained on fresh sequences; `model(asked, marked, values)` gives answers (B,) and weights."""
    torch.manual_seed(seed)
    model, parts = make(rest), [x.split(batch) for x in draw(n_steps * batch, seed)]

    def loss_at(step: int) -> Tensor:
        *inputs, answers = (x[step] for x in parts)
        return F.mse_loss(model(*inputs)[0], answers)

    train(model, loss_at, n_steps, lr=lr, label="")
    return model


@torch.no_grad()
def share_of_error(model: nn.Module, test: Batch) -> float:
    """The mean squared error, as a share of that of always answering 0."""
    *inputs, answers = test
    return ((model(*inputs)[0] - answers).pow(2).mean() / answers.pow(2).mean()).item()


def share_of_error_of_a_constant(test: Batch) -> float:
    """The same for the best answer that is always the same, the mean of all answers."""
    return (test[3].var(correction=0) / test[3].pow(2).mean()).item()


@torch.no_grad()
def unused_weight(model: nn.Module, test: Batch) -> float:
    """Where nothing is asked, the mean share of the weight that does not lie on one of the values."""
    asked, marked, values, _ = (x[~test[0]] for x in test)
    return 1 - model(asked, marked, values)[1][:, -values.shape[1] :].sum(dim=1).mean().item()
