"""Examples as a student reads them: the call, one input a line, what was expected and what came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from week6.exercises.attempt import Attempt
from week6.exercises.definition import TOLERANCE, Exercise, Inputs, same

MAX_SHOWN = 24  # larger tensors are shown by their shape


def size(inputs: Inputs) -> int:
    """How much a student would have to read and work through: the numbers in the tensors; sizes count as themselves."""
    return sum(x.numel() if isinstance(x, Tensor) else x for x in inputs.values() if isinstance(x, Tensor | int))


def describe_call(exercise: Exercise, inputs: Inputs) -> str:
    """The call, one input a line."""
    lines = [f"  {exercise.name}({', '.join(inputs)})"]
    lines += [f"    {name:<16} = {show(x)}" for name, x in inputs.items()]
    return "\n".join(lines)


def describe_difference(exercise: Exercise, failing: Attempt) -> str:
    """Expected and got, of each part that is wrong."""
    lines = []
    for part, got, expected in zip(exercise.parts, failing.answer, failing.expected, strict=True):
        if same((got,), (expected,)):
            continue
        of_part = f" {part}" if len(exercise.parts) > 1 else ""
        lines += [f"    {'expected' + of_part:<16} = {show(expected)}", f"    {'got' + of_part:<16} = {show(got)}"]
        if got.shape == expected.shape and got.numel() > MAX_SHOWN:
            wrong = ~torch.isclose(got.double(), expected.double(), equal_nan=True, **TOLERANCE)
            place = tuple(wrong.nonzero()[0].tolist())
            lines.append(f"    first difference: at {list(place)}, expected {show(expected[place])}, got {show(got[place])}")
    return "\n" + "\n".join(lines)


def with_prints(exercise: Exercise, attempts: Sequence[Attempt], example: str) -> str:
    """The example and what the function printed in it; where there is none, the smallest failing case that printed."""
    shown = [a for a in attempts if f"{example}\n".startswith(f"{describe_call(exercise, a.inputs)}\n")]
    shown = shown or sorted((a for a in attempts if not a.right), key=lambda a: size(a.inputs))
    printed = next((a for a in shown[:1] if a.printed.strip()), None)
    if printed is None:
        return example
    lines = [f"      {line}" for line in printed.printed.splitlines()]
    return "\n".join([example or describe_call(exercise, printed.inputs), "    printed:", *lines])


def show(x: object) -> str:
    """A value as a student would write it; of a large tensor only the shape."""
    if not isinstance(x, Tensor):
        return repr(x)
    return nested(x.tolist()) if x.numel() <= MAX_SHOWN else f"a tensor of shape {tuple(x.shape)}"


def nested(values: Any) -> str:
    if isinstance(values, list):
        return f"[{', '.join(map(nested, values))}]"
    return f"{values:.6g}" if isinstance(values, float) else str(values)
