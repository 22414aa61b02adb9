"""Small tensors for the cases of the exercises, chosen so that an example can be worked by hand."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def numbers(*shape: int, generator: torch.Generator) -> Tensor:
    """Random small whole numbers but 0."""
    choices = torch.tensor([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0])
    return choices[torch.randint(len(choices), shape, generator=generator)]


def counting(*shape: int) -> Tensor:
    """1, 2, 3, ... in order, so that one sees where each number went."""
    return torch.arange(1.0, 1 + math.prod(shape)).view(shape)
