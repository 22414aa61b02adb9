"""Grades one exercise: solved, not started, or wrong, and then in one sentence what it looks like and why.

How a mistake is recognised. Every exercise has a *model*: a right implementation whose keyword arguments commit the
classic mistakes. The student's function and the model run on the same small cases. If the student's answers are, in
every case, those of the model with one mistake (or a few) switched on, that is the diagnosis. The cases come in stages
(attention without a mask, then with one), and what a stage shows is said before the next is looked at. What no switch
explains is shown as the smallest case that fails. The student's source is never read.
"""

from __future__ import annotations

import inspect
import io
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from week6.exercises import sentences as say
from week6.exercises.verdict import NOT_STARTED, SOLVED, WRONG, Mistake, Section, Verdict

TOLERANCE = {"rtol": 3e-5, "atol": 3e-5}  # for float32 answers computed in any order
GRADIENT_TOLERANCE = 1e-3  # of the largest entry, or of 1 if that is larger
MAX_AT_ONCE = 3  # mistakes that are looked for together
MAX_SHOWN = 24  # larger tensors are shown by their shape
MAX_PRINTED = 1000  # letters kept of what a function prints in one call

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


# --- grading a file -------------------------------------------------------------------------------------------------


class Grader:
    """Grades the functions of one file. They may call each other, and the one that is called is judged first.

    Args:
        exercises: all there are, in the order of the course.
        answers: the student's functions.
        unsafe: names of functions that hang or crash: they count as wrong and are never called.
    """

    def __init__(self, exercises: Sequence[Exercise], answers: ModuleType | SimpleNamespace, unsafe: Sequence[str] = ()):
        self.exercises = {exercise.name: exercise for exercise in exercises}
        self.answers, self.unsafe = answers, tuple(unsafe)
        self.verdicts = {name: Verdict(WRONG) for name in unsafe}
        self.under_way: list[str] = []  # against functions that call each other in a circle

    def verdict(self, name: str) -> Verdict:
        """The verdict on the function of that name, computed once."""
        if name not in self.verdicts:
            self.under_way.append(name)
            exercise = self.exercises[name]
            about, verdict = self.about(name), self._grade(exercise)
            sections = [mistake.section for mistake in verdict.mistakes if mistake.section]
            self.verdicts[name] = replace(verdict, section=(*sections, about.section)[0], line=about.line)
            self.under_way.remove(name)
        return self.verdicts[name]

    def about(self, name: str) -> Verdict:
        """What is known of a function before it is graded: its section of the lesson, and where it begins."""
        line = getattr(code_of(getattr(self.answers, name, None)), "co_firstlineno", None)
        return Verdict(WRONG, section=self.exercises[name].section, line=line)

    def _grade(self, exercise: Exercise) -> Verdict:
        function = getattr(self.answers, exercise.name, None)
        if not callable(function):
            return Verdict(WRONG, (say.MISSING.about(name=exercise.name),))
        with self._linked(self.unsafe) as calls:
            verdict = judge(exercise, function)
        if verdict.outcome == NOT_STARTED:
            return verdict
        unsolved = [name for name in self.exercises if name in calls.names and self._is_unsolved(name)]
        if not unsolved or (verdict.outcome == SOLVED and not calls.names.intersection(self.unsafe)):
            return verdict
        # It may be right but for what it calls: with the right functions in their place only its own mistakes remain.
        with self._linked(unsolved) as calls:
            own = judge(exercise, function)
        unwritten = self.verdicts[unsolved[0]].outcome == NOT_STARTED
        blamed = (say.UNWRITTEN if unwritten else say.CALLS_WRONG).about(other=unsolved[0])
        blamed = replace(blamed, section=self.exercises[unsolved[0]].section)
        if calls.misfit:
            return Verdict(WRONG, (blamed,))
        return Verdict(WRONG, (blamed, *own.mistakes), own.example)

    def _is_unsolved(self, name: str) -> bool:
        return name not in self.under_way and self.verdict(name).outcome != SOLVED

    @contextmanager
    def _linked(self, replaced: Sequence[str]) -> Iterator[Calls]:
        """Calls between the student's functions are noticed, and go to the right answer for those in `replaced`."""
        calls = Calls()
        original = {name: getattr(self.answers, name) for name in self.exercises if callable(getattr(self.answers, name, None))}
        for name, function in original.items():
            setattr(self.answers, name, calls.link(name, self.exercises[name].model if name in replaced else function))
        try:
            yield calls
        finally:
            for name, function in original.items():
                setattr(self.answers, name, function)


class Calls:
    """Which of the student's functions were called by others.

    Attributes:
        names: of these functions.
        misfit: whether one was called with arguments that the right answer in its place does not take.
    """

    def __init__(self):
        self.names: set[str] = set()
        self.misfit = False

    def link(self, name: str, target: Callable) -> Callable:
        """`target`, but its calls are noticed."""
        parameters = inspect.signature(target).parameters if isinstance(target, FunctionType) else {}
        switches = {p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY}  # of a model

        def linked(*args, **kwargs):
            self.names.add(name)
            if switches:
                try:
                    inspect.signature(target).bind(*args, **kwargs)
                    self.misfit |= bool(switches.intersection(kwargs))
                except TypeError:
                    self.misfit = True
            return target(*args, **kwargs)

        return linked


def judge(exercise: Exercise, function: Callable) -> Verdict:
    """The verdict on one function, whatever it calls."""
    torch.set_default_dtype(torch.float32)  # whatever the file has set: the models make tensors, too
    attempts = [[attempt(exercise, function, inputs) for inputs in stage] for stage in exercise.stages]
    every = [a for stage in attempts for a in stage]
    stopped = [a.failure is not None and a.failure.stub == exercise.name for a in every]
    if all(stopped) and not written(function):
        return Verdict(NOT_STARTED)
    if any(stopped):
        return Verdict(WRONG, (say.RAISE_LEFT,))
    unwritten = next((a.failure.stub for a in every if a.failure and a.failure.stub), None)
    if unwritten:
        return Verdict(WRONG, (say.UNWRITTEN.about(other=unwritten),))

    by_the_way = [say.IN_PLACE.about(name=a.modified) for a in every if a.modified][:1]
    by_the_way += [say.USES_TORCH.about(name=a.forbidden) for a in every if a.forbidden][:1]
    mistakes, example = explain(exercise, attempts)
    if not mistakes and not by_the_way and exercise.differentiable:
        mistakes, example = check_gradients(exercise, function)
    if not mistakes and not by_the_way:
        return Verdict(SOLVED)
    return Verdict(WRONG, (*by_the_way, *mistakes), with_prints(exercise, every, example))


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


# --- what is wrong --------------------------------------------------------------------------------------------------

Found = tuple[tuple[Mistake, ...], str]  # mistakes and, where it helps, the smallest case that shows them


def explain(exercise: Exercise, stages: Sequence[Sequence[Attempt]]) -> Found:
    """The mistakes behind wrong answers; empty if all is right."""
    seen: list[Attempt] = []
    for number, stage in enumerate(stages):
        seen += stage
        failing = sorted((a for a in stage if not a.right), key=lambda a: size(a.inputs))
        if not failing:
            continue
        for a in failing:
            wrong_type = None if a.failure else check_type(a.returned, exercise.parts)
            if wrong_type:
                return (wrong_type,), describe_call(exercise, a.inputs) if any(b.right for b in seen) else ""
        known = known_mistakes(exercise, seen)
        if known:
            return with_later_stages(exercise, known, seen, stages[number + 1 :]), ""
        broken = next((a for a in failing if a.failure), None)
        if broken:
            mistake, example = error_of(exercise, broken.failure), describe_call(exercise, broken.inputs)
            if not broken.failure.mistake and mistake.name not in (say.PYTHON_ERROR.name, say.SIGNATURE.name):
                example += f"\n    {'error':<16} = {say.shortened(broken.failure.text)}"
            return (mistake,), example
        example = describe_call(exercise, failing[0].inputs) + describe_difference(exercise, failing[0])
        return (check_values(exercise, failing),), example
    return (), ""


def known_mistakes(exercise: Exercise, attempts: Sequence[Attempt]) -> list[tuple[Mistake, ...]]:
    """The smallest sets of classic mistakes with which the model gives the student's answers in every attempt."""
    if any(a.failure and not a.failure.of_shapes for a in attempts):
        return []
    for count in range(1, MAX_AT_ONCE + 1):
        found = [mistakes for mistakes in combinations(exercise.mistakes, count) if explains(exercise, mistakes, attempts)]
        if found:
            return found
    return []


def with_later_stages(
    exercise: Exercise, known: list[tuple[Mistake, ...]], seen: Sequence[Attempt], later: Sequence[Sequence[Attempt]]
) -> tuple[Mistake, ...]:
    """What explains the stages so far and as many of the later ones as can be explained, too."""
    for stage in later:
        seen = [*seen, *stage]
        candidates = [mistakes for mistakes in known if explains(exercise, mistakes, stage)]
        if not candidates and not any(a.failure and not a.failure.of_shapes for a in stage):
            for count in range(1, MAX_AT_ONCE + 1 - len(known[0])):
                for mistakes in known:
                    others = [mistake for mistake in exercise.mistakes if mistake not in mistakes]
                    for more in combinations(others, count):
                        both = tuple(mistake for mistake in exercise.mistakes if mistake in (*mistakes, *more))
                        if explains(exercise, both, seen):
                            candidates.append(both)
                if candidates:
                    break
        if not candidates:
            break  # once the mistakes found so far are mended, the next run says more
        known = candidates
    return known[0]


def explains(exercise: Exercise, mistakes: Sequence[Mistake], attempts: Sequence[Attempt]) -> bool:
    """Whether the model with these mistakes gives the student's answers."""
    change = {key: value for mistake in mistakes for key, value in mistake.change.items()}
    if len(change) < sum(len(mistake.change) for mistake in mistakes):
        return False  # two positions of one switch
    return all(same(a.answer, simulate(exercise, a.inputs, change)) for a in reversed(attempts))  # telling cases first


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
        return say.NONE
    values = as_tuple(returned) if len(parts) > 1 and not is_numpy(returned) else (returned,)
    if len(values) != len(parts) and not is_numpy(returned):
        return say.NOT_A_TUPLE.about(count=len(parts), parts=", ".join(parts), kind=type_name(returned))
    for value in values:
        if is_numpy(value):
            return say.NUMPY
        if not is_plain_tensor(value):
            return say.NOT_A_TENSOR.about(kind=type_name(value))
    return None


def check_values(exercise: Exercise, failing: Sequence[Attempt]) -> Mistake:
    """What is wrong with tensors that no known mistake explains."""
    first = failing[0]
    for i, part in enumerate(exercise.parts):
        got, expected = first.answer[i], first.expected[i]
        if got.shape != expected.shape:
            pairs = [(tuple(a.answer[i].shape), tuple(a.expected[i].shape)) for a in failing if a.answer]
            sentence = shape_sentence([(got, expected) for got, expected in pairs if got != expected])
            return sentence.about(part=part, expected=tuple(expected.shape), got=tuple(got.shape))
        if kind(got) != kind(expected):
            return say.DTYPE.about(part=part, expected=expected.dtype, got=got.dtype)
        if not got.isfinite().all():
            return say.NAN.about(part=part)
    return say.UNKNOWN


def shape_sentence(pairs: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> Mistake:
    """A hint at what happened to the axes, if the same happened in all cases; `pairs` are (got, expected)."""
    if all(sorted(got) == sorted(expected) for got, expected in pairs):
        return say.AXES_EXCHANGED
    if all(got in without_one_axis(expected) for got, expected in pairs):
        return say.AXIS_MISSING
    if all(expected in without_one_axis(got) for got, expected in pairs):
        return say.AXIS_TOO_MANY
    return say.SHAPE


def without_one_axis(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [shape[:i] + shape[i + 1 :] for i in range(len(shape))]


# --- gradients ------------------------------------------------------------------------------------------------------


def check_gradients(exercise: Exercise, function: Callable) -> Found:
    """What is wrong with the gradients of right answers: they must be the model's. A missing one counts as zero."""
    wrong = []  # (inputs, name, got, expected)
    reached = set()  # inputs that get a gradient in at least one case
    for inputs in exercise.cases:
        expected = gradients(exercise, exercise.model, inputs)
        try:
            got = gradients(exercise, function, inputs)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            return (error_of(exercise, failure_of(error, function)),), describe_call(exercise, inputs)
        reached |= {name for name, gradient in got.items() if gradient.any()}
        for name, gradient in got.items():
            tolerance = GRADIENT_TOLERANCE * max(1.0, expected[name].abs().max().item())
            if not torch.allclose(gradient, expected[name], rtol=0, atol=tolerance):
                wrong.append((inputs, name, gradient, expected[name]))
    if not wrong:
        return (), ""
    inputs, name, got, expected = next((w for w in wrong if not w[2].isfinite().all()), wrong[0])
    call = describe_call(exercise, inputs)
    if not got.isfinite().all():
        return (say.NAN_GRADIENT.about(name=name),), call
    if name not in reached:
        return (say.NO_GRADIENT.about(name=name),), ""
    shown = f"    gradient of {name}\n    {'expected':<16} = {show(expected)}\n    {'got':<16} = {show(got)}"
    return (say.WRONG_GRADIENT.about(name=name),), f"{call}\n{shown}"


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


# --- errors in the student's code -----------------------------------------------------------------------------------


def failure_of(error: BaseException, function: Callable) -> Failure:
    """What is kept of an error: its text, the last line of the student's own file that led to it, and an empty stub."""
    frames = traceback.extract_tb(error.__traceback__)
    file = getattr(code_of(function), "co_filename", None)
    own = [frame for frame in frames if frame.filename == file]
    line = f"{Path(file).name}, line {own[-1].lineno}" if own else None
    stub = frames[-1].name if isinstance(error, NotImplementedError) and not error.args else None
    text = next(iter(str(error).splitlines()), "")
    return Failure(f"{type(error).__name__}: {text}", line, stub, getattr(error, "mistake", None))


def error_of(exercise: Exercise, failure: Failure) -> Mistake:
    if failure.mistake:
        return failure.mistake
    where = failure.line or f"{exercise.name}(...)"
    return say.error_sentence(failure.text, where, by_call=failure.line is None)


def code_of(function: Any) -> Any:
    return getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None


def written(function: Callable) -> bool:
    """Whether a function that ends in `raise NotImplementedError` holds more than that: it uses other names."""
    code = code_of(function)
    if not isinstance(function, FunctionType) or code is None:
        return False
    return bool(set(code.co_names) - {"NotImplementedError"}) or code.co_nlocals > code.co_argcount + code.co_kwonlyargcount


# --- comparing and showing ------------------------------------------------------------------------------------------


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


def size(inputs: Inputs) -> int:
    """How much a student would have to read and work through: the numbers in the tensors; sizes count as themselves."""
    return sum(x.numel() if isinstance(x, Tensor) else x for x in inputs.values() if isinstance(x, Tensor | int))


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
