"""Small tensors for the cases of the exercises, chosen so that an example can be worked by hand."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def tensor(values: Any) -> Tensor:
    """As torch.tensor, but floats are float32 whatever the default is."""
    made = torch.tensor(values)
    return made.float() if made.is_floating_point() else made


def numbers(*shape: int, generator: torch.Generator) -> Tensor:
    """Random small whole numbers but 0."""
    choices = tensor([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0])
    return choices[torch.randint(len(choices), shape, generator=generator)]


def counting(*shape: int) -> Tensor:
    """1, 2, 3, ... in order, so that one sees where each number went."""
    return torch.arange(1, 1 + math.prod(shape)).float().view(shape)
