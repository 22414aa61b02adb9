"""Grades one exercise: solved, not started, or wrong, and then in one sentence what it looks like and why.

How a mistake is recognised. Every exercise has a *model*: a right implementation whose keyword arguments commit the
classic mistakes. The student's function and the model run on the same small cases. If the student's answers are, in
every case, those of the model with one mistake (or a few) switched on, that is the diagnosis. What no switch explains
is shown as the smallest case that fails. The student's source is never read.
"""

from __future__ import annotations

import inspect
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

SOLVED, WRONG, NOT_STARTED = "solved", "wrong", "not started"
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}  # for float32 answers computed in any order
MAX_AT_ONCE = 3  # mistakes that are looked for together
MAX_SHOWN = 24  # larger tensors are shown by their shape

Inputs = dict[str, Any]  # the arguments of one call by name, in order
Answer = tuple[Tensor, ...]  # what a function returned; one tensor is a tuple of one


@dataclass(frozen=True)
class Mistake:
    """A mistake, and the sentence that explains it in both languages: symptom, then likely cause.

    Attributes:
        change: keyword arguments with which the exercise's model makes this mistake; empty where it is found otherwise.
    """

    name: str
    korean: str
    english: str
    change: dict[str, Any] = field(default_factory=dict)

    def about(self, **values: object) -> Mistake:
        """The same with {placeholders} filled in."""
        return replace(self, korean=self.korean.format(**values), english=self.english.format(**values))


@dataclass(frozen=True)
class Exercise:
    """One function to write.

    Attributes:
        name: of the function.
        lab: the script that shows the idea.
        model: the right answer, and with keyword arguments the wrong ones.
        cases: the inputs to try.
        mistakes: the classic ones.
        parts: names of the tensors that are returned.
    """

    name: str
    lab: str
    model: Callable[..., Tensor | Answer]
    cases: Sequence[Inputs]
    mistakes: Sequence[Mistake]
    parts: tuple[str, ...] = ("answer",)


@dataclass(frozen=True)
class Attempt:
    """What the student's function did in one case."""

    inputs: Inputs
    expected: Answer
    returned: Any = None
    error: BaseException | None = None
    modified: str | None = None  # the name of an input that it changed

    @property
    def answer(self) -> Answer | None:
        """None after an error."""
        return None if self.error else as_tuple(self.returned)


@dataclass(frozen=True)
class Verdict:
    outcome: str
    mistakes: tuple[Mistake, ...] = ()
    example: str = ""

    def message(self, *, korean: bool = True) -> str:
        """What the student reads: Korean (where the console can print it), English, and the example if there is one."""
        texts = [self._list("실수가 둘 이상 겹쳐 있습니다.", [mistake.korean for mistake in self.mistakes])] if korean else []
        texts.append(self._list("More than one mistake at once.", [mistake.english for mistake in self.mistakes]))
        return "\n".join(texts + [self.example] * bool(self.example))

    @staticmethod
    def _list(heading: str, sentences: list[str]) -> str:
        if len(sentences) == 1:
            return sentences[0]
        return "\n".join([heading, *(f"  {number}) {sentence}" for number, sentence in enumerate(sentences, 1))])


# --- what can go wrong in any exercise ------------------------------------------------------------------------------

MISSING = Mistake(
    "missing function",
    "{name}() 함수를 찾을 수 없습니다: 이름을 바꾸거나 지우지 않았나요?",
    "There is no function {name}(): was it renamed or deleted?",
)
UNWRITTEN = Mistake(
    "unwritten function",
    "아직 작성하지 않은 함수 {other}()를 호출하고 있습니다: 그 함수를 먼저 작성하거나 torch의 함수로 바꾸세요.",
    "It calls {other}(), which is not written yet: write that first, or use torch's.",
)
PYTHON_ERROR = Mistake(
    "Python error",
    "아래 입력으로 실행하는 도중에 오류가 났습니다 ({where}): {error}",
    "Python stopped with an error on the input below ({where}): {error}",
)
NONE = Mistake(
    "returns None",
    "함수가 None을 반환합니다: return 문을 빠뜨리지 않았나요?",
    "It returns None: is the return statement missing?",
)
NUMPY = Mistake(
    "NumPy array",
    "torch 텐서가 아니라 NumPy 값을 반환합니다: NumPy에서는 gradient가 끊기므로 torch 연산만 사용하세요.",
    "It returns a NumPy value, not a torch tensor: NumPy cuts off the gradient, so use torch operations only.",
)
NOT_A_TENSOR = Mistake(
    "not a tensor",
    "torch 텐서를 반환해야 하는데 반환값의 타입이 {kind}입니다.",
    "It must return a torch tensor, and returns this type: {kind}.",
)
NOT_A_TUPLE = Mistake(
    "not a tuple",
    "텐서 {count}개({parts})를 이 순서로 반환해야 하는데 반환값의 타입이 {kind}입니다.",
    "It must return {count} tensors ({parts}), in this order, and returns this type: {kind}.",
)
SHAPE = Mistake(
    "wrong shape",
    "{part}의 shape이 {expected}이어야 하는데 {got}입니다: 빠지거나 순서가 바뀐 축이 있는지 확인하세요.",
    "The shape of the {part} must be {expected} and is {got}: is an axis missing, or are two exchanged?",
)
DTYPE = Mistake(
    "wrong dtype",
    "{part}의 dtype이 {expected}이어야 하는데 {got}입니다.",
    "The dtype of the {part} must be {expected} and is {got}.",
)
NAN = Mistake(
    "NaN",
    "{part}에 NaN이나 무한대가 들어 있습니다: 아래의 가장 작은 예에서 0/0, inf - inf, 0 * inf가 생기는 곳을 찾아보세요.",
    "The {part} contains NaN or infinity: look for 0/0, inf - inf or 0 * inf in the smallest example below.",
)
UNKNOWN = Mistake(
    "unknown",
    "답이 틀렸지만 채점기가 아는 실수는 아닙니다: 아래의 가장 작은 예를 손으로 계산해 비교해 보세요.",
    "The answer is wrong in a way the grader does not recognise: work the smallest example below by hand and compare.",
)
IN_PLACE = Mistake(
    "input modified in place",
    "함수를 호출하고 나면 입력 {name}의 값이 바뀝니다: `-=`나 `masked_fill_()`처럼 입력을 직접 고치는(in-place) 연산을 "
    "쓰지 않았나요?",
    "The call changes its input {name}: an in-place operation such as `-=` or `masked_fill_()` on what was passed in?",
)
NO_GRADIENT = Mistake(
    "no gradient",
    "값은 맞지만 입력 {name}까지 gradient가 전달되지 않습니다: detach(), item(), no_grad()나 torch.tensor()로 계산이 끊기지 "
    "않았나요?",
    "The values are right, but no gradient reaches the input {name}: cut off by detach(), item(), no_grad() or torch.tensor()?",
)
NAN_GRADIENT = Mistake(
    "NaN gradient",
    "값은 맞지만 아래 입력에서 {name}의 gradient가 NaN입니다: 앞에서 생긴 NaN을 나중에 0으로 덮으면 backward에서 되살아나므로, "
    "-inf 대신 아주 작은 유한한 값을 채워 NaN이 처음부터 생기지 않게 하세요.",
    "The values are right, but on the input below the gradient of {name} is NaN: a NaN that is overwritten with 0 comes back "
    "in the backward pass, so fill with a very low finite number instead of -inf and let none arise.",
)


# --- grading --------------------------------------------------------------------------------------------------------


def grade(exercise: Exercise, answers: ModuleType | SimpleNamespace) -> Verdict:
    """The verdict on the function of that name in `answers`."""
    function = getattr(answers, exercise.name, None)
    if not callable(function):
        return Verdict(WRONG, (MISSING.about(name=exercise.name),))
    attempts = [attempt(exercise, function, inputs) for inputs in exercise.cases]
    unwritten = unwritten_function(attempts[0].error)
    if unwritten == exercise.name:
        return Verdict(NOT_STARTED)
    if unwritten:
        return Verdict(WRONG, (UNWRITTEN.about(other=unwritten),))

    in_place = [IN_PLACE.about(name=a.modified) for a in attempts if a.modified][:1]
    mistakes, example = explain(exercise, function, attempts)
    if not mistakes and not in_place:
        mistakes, example = check_gradients(exercise, function)
    mistakes = (*in_place, *mistakes)
    return Verdict(WRONG, mistakes, example) if mistakes else Verdict(SOLVED)


def attempt(exercise: Exercise, function: Callable, inputs: Inputs) -> Attempt:
    """One call on copies of the inputs, whatever happens in it."""
    given = {name: x.clone() if isinstance(x, Tensor) else x for name, x in inputs.items()}
    expected = as_tuple(exercise.model(**inputs))
    try:
        returned = function(*given.values())
    except (Exception, SystemExit) as error:
        return Attempt(inputs, expected, error=error)
    tensors = [name for name, x in inputs.items() if isinstance(x, Tensor)]
    modified = next((name for name in tensors if not torch.equal(given[name], inputs[name])), None)
    return Attempt(inputs, expected, returned, modified=modified)


def explain(exercise: Exercise, function: Callable, attempts: list[Attempt]) -> tuple[tuple[Mistake, ...], str]:
    """The mistakes behind wrong answers and, where it helps, the smallest case that shows them; empty if all is right."""
    for a in attempts:
        wrong_type = None if a.error else check_type(a.returned, exercise.parts)
        if wrong_type:
            return (wrong_type,), ""
    failing = sorted((a for a in attempts if not same(a.answer, a.expected)), key=lambda a: size(a.inputs))
    if not failing:
        return (), ""
    known = known_mistakes(exercise, attempts)
    if known:
        return known, ""
    broken = next((a for a in failing if a.error), None)
    if broken:
        return (python_error(exercise, function, broken.error),), describe_call(exercise, broken.inputs)
    smallest = failing[0]
    example = describe_call(exercise, smallest.inputs) + describe_difference(exercise, smallest)
    return (check_values(exercise, smallest),), example


def known_mistakes(exercise: Exercise, attempts: list[Attempt]) -> tuple[Mistake, ...]:
    """The fewest classic mistakes with which the model gives the student's answers in every case; () if none do."""
    for count in range(1, MAX_AT_ONCE + 1):
        for mistakes in combinations(exercise.mistakes, count):
            change = {key: value for mistake in mistakes for key, value in mistake.change.items()}
            if len(change) < sum(len(mistake.change) for mistake in mistakes):
                continue  # two positions of one switch
            if all(same(a.answer, simulate(exercise, a.inputs, change)) for a in reversed(attempts)):  # telling cases first
                return mistakes
    return ()


def simulate(exercise: Exercise, inputs: Inputs, change: dict[str, Any]) -> Answer | None:
    """The model's answer with mistakes switched on; None where they end in an error, as the student's code would."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return as_tuple(exercise.model(**inputs, **change))
        except (RuntimeError, IndexError):
            return None


def check_type(returned: object, parts: tuple[str, ...]) -> Mistake | None:
    """What is wrong if the function did not return a tensor, or one for each of `parts`."""
    if returned is None:
        return NONE
    values = as_tuple(returned) if len(parts) > 1 and not is_numpy(returned) else (returned,)
    if len(values) != len(parts) and not is_numpy(returned):
        return NOT_A_TUPLE.about(count=len(parts), parts=", ".join(parts), kind=type_name(returned))
    for value in values:
        if is_numpy(value):
            return NUMPY
        if not is_plain_tensor(value):
            return NOT_A_TENSOR.about(kind=type_name(value))
    return None


def check_values(exercise: Exercise, failing: Attempt) -> Mistake:
    """What is wrong with tensors that no known mistake explains."""
    for part, got, expected in zip(exercise.parts, failing.answer, failing.expected, strict=True):
        if got.shape != expected.shape:
            return SHAPE.about(part=part, expected=tuple(expected.shape), got=tuple(got.shape))
        if kind(got) != kind(expected):
            return DTYPE.about(part=part, expected=expected.dtype, got=got.dtype)
        if not got.isfinite().all():
            return NAN.about(part=part)
    return UNKNOWN


def check_gradients(exercise: Exercise, function: Callable) -> tuple[tuple[Mistake, ...], str]:
    """What is wrong with the gradients of right answers: they must arrive at every input and be finite."""
    for inputs in exercise.cases:
        given = {n: x.clone().requires_grad_() if is_float(x) else x for n, x in inputs.items()}
        leaves = {name: x for name, x in given.items() if is_float(x)}
        if not leaves:
            continue
        call = describe_call(exercise, inputs)
        try:
            answer = as_tuple(function(*given.values()))
            total = sum((x * torch.arange(1, x.numel() + 1).view(x.shape)).sum() for x in answer)
            if not total.requires_grad:
                return (NO_GRADIENT.about(name=next(iter(leaves))),), ""
            gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
        except (Exception, SystemExit) as error:
            return (python_error(exercise, function, error),), call
        for name, gradient in zip(leaves, gradients, strict=True):
            if gradient is None:
                return (NO_GRADIENT.about(name=name),), ""
            if not gradient.isfinite().all():
                return (NAN_GRADIENT.about(name=name),), call
    return (), ""


# --- errors in the student's code -----------------------------------------------------------------------------------


def unwritten_function(error: BaseException | None) -> str | None:
    """The name of the stub that raised the bare NotImplementedError, if that is what happened."""
    if isinstance(error, NotImplementedError) and not error.args:
        return traceback.extract_tb(error.__traceback__)[-1].name
    return None


def python_error(exercise: Exercise, function: Callable, error: BaseException) -> Mistake:
    """The error in one line, with the last line of the student's own file that led to it."""
    file = getattr(getattr(inspect.unwrap(function), "__code__", None), "co_filename", None)
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    where = f"{Path(file).name}, line {own[-1].lineno}" if own else f"{exercise.name}(...)"
    text = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    return PYTHON_ERROR.about(where=where, error=text.rstrip(": ")[:200])


# --- comparing and showing ------------------------------------------------------------------------------------------


def as_tuple(returned: Any) -> Answer:
    return tuple(returned) if isinstance(returned, tuple | list) else (returned,)


def same(a: Answer | None, b: Answer | None) -> bool:
    """Equal in number, shape, kind and, within TOLERANCE, in value (NaN equals NaN); None stands for an error."""
    if a is None or b is None:
        return a is b
    return len(a) == len(b) and all(
        x.shape == y.shape and kind(x) == kind(y) and torch.allclose(x.double(), y.double(), equal_nan=True, **TOLERANCE)
        for x, y in zip(a, b, strict=True)
    )


def kind(x: Tensor) -> str:
    """Any floating-point precision will do."""
    return "float" if x.is_floating_point() else str(x.dtype)


def size(inputs: Inputs) -> int:
    """How much a student would have to read and work through: the numbers in the tensors; sizes count as themselves."""
    return sum(x.numel() if isinstance(x, Tensor) else x for x in inputs.values() if isinstance(x, Tensor | int))


def is_float(x: object) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point()


def is_plain_tensor(x: object) -> bool:
    """One whose numbers can be read: neither sparse nor on another device."""
    return isinstance(x, Tensor) and x.layout == torch.strided and x.device.type == "cpu"


def is_numpy(x: object) -> bool:
    return type(x).__module__ == "numpy"


def type_name(x: object) -> str:
    if isinstance(x, Tensor):
        return f"Tensor ({str(x.layout).removeprefix('torch.')}, {x.device})"
    return f"{type(x).__name__} ({len(x)})" if isinstance(x, tuple | list) else type(x).__name__


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


def show(x: object) -> str:
    """A value as a student would write it; of a large tensor only the shape."""
    if not isinstance(x, Tensor):
        return repr(x)
    return nested(x.tolist()) if x.numel() <= MAX_SHOWN else f"a tensor of shape {tuple(x.shape)}"


def nested(values: Any) -> str:
    if isinstance(values, list):
        return f"[{', '.join(map(nested, values))}]"
    return f"{values:.6g}" if isinstance(values, float) else str(values)
