"""What heads do: how much two of them differ, and what happens without one of them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from common import precision  # noqa: F401 (float64 and one thread)


def silenced(model: nn.Module, *heads: int) -> nn.Module:
    """A copy whose `heads` contribute nothing: the columns of W_O that read their outputs are zero.

    Args:
        model: has a `block.attention`, a MultiHeadAttention.
        heads: their numbers, from 0.
    """
    model = copy.deepcopy(model)
    width = model.block.attention.d_head
    for head in heads:
        model.block.attention.w_o.weight.data[:, head * width : (head + 1) * width] = 0
    return model


def jensen_shannon(p: Tensor, q: Tensor) -> float:
    """Mean over the rows of H((p + q) / 2) - (H(p) + H(q)) / 2, with the entropy H in nats: 0 if equal, at most log 2.

    Args:
        p, q: (..., n), rows of sum 1.

    Source: Lin 1991, "Divergence Measures Based on the Shannon Entropy", for two distributions of equal weight.
    """
    h_mixed, h_p, h_q = (torch.special.entr(x).sum(dim=-1) for x in ((p + q) / 2, p, q))
    return (h_mixed - (h_p + h_q) / 2).mean().item()
