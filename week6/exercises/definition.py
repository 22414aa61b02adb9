"""What an exercise consists of, and when two answers are the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from week6.exercises.verdict import Mistake, Section

TOLERANCE = {"rtol": 3e-5, "atol": 3e-5}  # for float32 answers computed in any order

Inputs = dict[str, Any]  # the arguments of one call by name, in order
Answer = tuple[Tensor, ...]  # what a function returned; one tensor is a tuple of one


def call_once(function: Callable, given: Inputs) -> Any:
    return function(*given.values())


@dataclass(frozen=True)
class Exercise:
    """One function to write.

    Attributes:
        name: of the function.
        section: of the lesson, which explains it.
        model: the right answer, and with keyword arguments the wrong ones.
        stages: the inputs to try, the simplest first.
        mistakes: the classic ones.
        parts: names of the tensors that are returned.
        forbidden: names of torch functions that would do the whole exercise.
        call: how the function is called and what of it is looked at.
        differentiable: whether gradients are compared, too.
    """

    name: str
    section: Section
    model: Callable[..., Tensor | Answer]
    stages: Sequence[Sequence[Inputs]]
    mistakes: Sequence[Mistake]
    parts: tuple[str, ...] = ("answer",)
    forbidden: tuple[str, ...] = ()
    call: Callable[[Callable, Inputs], Any] = call_once
    differentiable: bool = True

    def answer(self, returned: Any) -> Answer:
        """What was returned, as a tuple; one tensor in a list or tuple is not one tensor."""
        return as_tuple(returned) if len(self.parts) > 1 else (returned,)

    @property
    def cases(self) -> list[Inputs]:
        return [inputs for stage in self.stages for inputs in stage]


class MistakeError(Exception):
    """What an exercise's `call` raises where it knows the mistake."""

    def __init__(self, mistake: Mistake):
        super().__init__(mistake.english)
        self.mistake = mistake


def as_tuple(returned: Any) -> Answer:
    return tuple(returned) if isinstance(returned, tuple | list) else (returned,)


def same(a: Answer | None, b: Answer | None) -> bool:
    """Equal in number, shape, kind and, within TOLERANCE, in value (NaN equals NaN); None stands for an error."""
    if a is None or b is None:
        return a is b
    return len(a) == len(b) and all(
        is_plain_tensor(x)
        and x.shape == y.shape
        and kind(x) == kind(y)
        and torch.allclose(x.double(), y.double(), equal_nan=True, **TOLERANCE)
        for x, y in zip(a, b, strict=True)
    )


def kind(x: Tensor) -> str:
    """Any floating-point precision will do."""
    return "float" if x.is_floating_point() else str(x.dtype)


def is_float(x: object) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point()


def is_plain_tensor(x: object) -> bool:
    """One whose numbers can be read: neither sparse nor nested nor on another device."""
    return isinstance(x, Tensor) and x.layout == torch.strided and x.device.type == "cpu" and not x.is_nested


def is_numpy(x: object) -> bool:
    return type(x).__module__ == "numpy"


def type_name(x: object) -> str:
    if isinstance(x, Tensor):
        return f"Tensor ({str(x.layout).removeprefix('torch.')}, {x.device})"
    return f"{type(x).__name__} ({len(x)})" if isinstance(x, tuple | list) else type(x).__name__
