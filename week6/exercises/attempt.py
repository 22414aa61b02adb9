"""One call of a student's function: what it returned, raised, printed and changed, and its gradients."""

from __future__ import annotations

import inspect
import io
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from week6.exercises.definition import Answer, Exercise, Inputs, as_tuple, is_float, same
from week6.exercises.verdict import Mistake

MAX_PRINTED = 1000  # letters kept of what a function prints in one call


@dataclass(frozen=True)
class Failure:
    """An error in the student's code. The exception itself is not kept: it would keep all local variables alive.

    Attributes:
        text: "Type: first line of the message".
        line: file and line in the student's file, or None if the error arose in the call itself.
        stub: the name of the function that raised a bare NotImplementedError.
        mistake: what it is, where the exercise itself knows.
    """

    text: str
    line: str | None = None
    stub: str | None = None
    mistake: Mistake | None = None

    @property
    def of_shapes(self) -> bool:
        """Whether a model that makes a mistake could have ended in the same error."""
        return self.text.startswith(("RuntimeError", "IndexError"))


@dataclass(frozen=True)
class Attempt:
    """What the student's function did in one case."""

    inputs: Inputs
    expected: Answer
    returned: Any = None
    answer: Answer | None = None  # what was returned, as a tuple; None after an error
    failure: Failure | None = None
    modified: str | None = None  # the name of an input that it changed
    printed: str = ""
    forbidden: str | None = None  # the name of a torch function that it may not use

    @property
    def right(self) -> bool:
        return same(self.answer, self.expected)


def attempt(exercise: Exercise, function: Callable, inputs: Inputs) -> Attempt:
    """One call on copies of the inputs, whatever happens in it."""
    given = {name: fresh(x) for name, x in inputs.items()}
    expected = as_tuple(exercise.model(**inputs))
    printed, watch = Prints(), Watch(exercise.forbidden)
    returned = answer = failure = None
    watched = watch if exercise.forbidden else nullcontext()
    with redirect_stdout(printed), redirect_stderr(printed), warnings.catch_warnings(), watched:
        warnings.simplefilter("ignore")
        try:
            returned = exercise.call(function, given)
            answer = exercise.answer(returned)
        except (Exception, SystemExit, KeyboardInterrupt, GeneratorExit) as error:
            failure = failure_of(error, function)
    tensors = [name for name, x in inputs.items() if isinstance(x, Tensor)]
    modified = next((name for name in tensors if not torch.equal(given[name], inputs[name])), None)
    return Attempt(inputs, expected, returned, answer, failure, modified, printed.getvalue(), watch.seen)


def fresh(x: Any) -> Any:
    """A copy of an input, where a call could change it."""
    if isinstance(x, Tensor):
        return x.clone()
    return x.fresh() if hasattr(x, "fresh") else x


class Prints(io.StringIO):
    """Keeps the beginning of what is printed."""

    def close(self) -> None:
        """Not even if the student's code asks for it: what was printed is still to be read."""

    def write(self, text: str) -> int:
        super().write(text[: max(0, MAX_PRINTED - self.tell())])
        return len(text)


class Watch(TorchFunctionMode):
    """Notices, by their names, the torch functions that would do the whole exercise."""

    def __init__(self, forbidden: Sequence[str]):
        super().__init__()
        self.forbidden, self.seen = forbidden, None

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "").removeprefix("special_").strip("_")
        if name in self.forbidden:
            self.seen = name
        return func(*args, **(kwargs or {}))


def gradients(exercise: Exercise, function: Callable, inputs: Inputs) -> dict[str, Tensor]:
    """For each floating-point input the gradient of a weighted sum of all that is returned."""
    given = {name: fresh(x).requires_grad_() if is_float(x) else fresh(x) for name, x in inputs.items()}
    leaves = {name: x for name, x in given.items() if is_float(x)}
    with redirect_stdout(Prints()), redirect_stderr(Prints()), warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        answer = exercise.answer(exercise.call(function, given))
        total = sum((x * torch.arange(1.0, x.numel() + 1).cos().view(x.shape)).sum() for x in answer if is_float(x))
        if not leaves or not isinstance(total, Tensor) or not total.requires_grad:
            return {name: torch.zeros_like(x) for name, x in leaves.items()}
        found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    return {
        name: torch.zeros_like(x) if gradient is None else gradient.to(x.dtype)
        for (name, x), gradient in zip(leaves.items(), found, strict=True)
    }


def failure_of(error: BaseException, function: Callable) -> Failure:
    """What is kept of an error: its text, the last line of the student's own file that led to it, and an empty stub."""
    frames = traceback.extract_tb(error.__traceback__)
    file = getattr(code_of(function), "co_filename", None)
    own = [frame for frame in frames if frame.filename == file]
    line = f"{Path(file).name}, line {own[-1].lineno}" if own else None
    stub = frames[-1].name if isinstance(error, NotImplementedError) and not error.args else None
    text = next(iter(str(error).splitlines()), "")
    return Failure(f"{type(error).__name__}: {text}", line, stub, getattr(error, "mistake", None))


def code_of(function: Any) -> Any:
    """Also of an nn.Module, of what `partial` makes, and of any object that can be called."""
    if not callable(function):
        return None
    for candidate in (function, getattr(function, "forward", None), getattr(function, "func", None), type(function).__call__):
        code = getattr(inspect.unwrap(candidate), "__code__", None) if callable(candidate) else None
        if code:
            return code
    return None


def written(function: Callable) -> bool:
    """Whether a function that ends in `raise NotImplementedError` holds more than that: it uses other names."""
    code = code_of(function)
    if not isinstance(function, FunctionType) or code is None:
        return False
    return bool(set(code.co_names) - {"NotImplementedError"}) or code.co_nlocals > code.co_argcount + code.co_kwonlyargcount
