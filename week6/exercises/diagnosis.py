"""What is wrong with answers: a classic mistake, or a few at once, or what can be said of any wrong answer.

How a mistake is recognised. Every exercise has a *model*: a right implementation whose keyword arguments commit the
classic mistakes. The student's function and the model run on the same small cases. If the student's answers are, in
every case, those of the model with one mistake (or a few) switched on, that is the diagnosis. The cases come in stages
(attention without a mask, then with one), and what a stage shows is said before the next is looked at. What no switch
explains is shown as the smallest case that fails.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import torch

from week6.exercises import sentences as say
from week6.exercises.attempt import Attempt, Failure, failure_of, gradients
from week6.exercises.definition import Answer, Exercise, Inputs, as_tuple, is_numpy, is_plain_tensor, kind, same, type_name
from week6.exercises.showing import describe_call, describe_difference, show, size
from week6.exercises.verdict import Mistake

GRADIENT_TOLERANCE = 1e-3  # of the largest entry, or of 1 if that is larger
MAX_AT_ONCE = 3  # mistakes that are looked for together

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


def known_mistakes(
    exercise: Exercise, attempts: Sequence[Attempt], found_before: Sequence[tuple[Mistake, ...]] = ((),)
) -> list[tuple[Mistake, ...]]:
    """The smallest sets of classic mistakes with which the model gives the student's answers in every attempt.

    Each holds one of the sets `found_before` and something more.
    """
    if any(a.failure and not a.failure.of_shapes for a in attempts):
        return []
    for count in range(1, MAX_AT_ONCE + 1 - len(found_before[0])):
        larger = (
            tuple(mistake for mistake in exercise.mistakes if mistake in (*before, *more))
            for before in found_before
            for more in combinations(exercise.mistakes, count)
        )
        found = [mistakes for mistakes in larger if explains(exercise, mistakes, attempts)]
        if found:
            return found
    return []


def with_later_stages(
    exercise: Exercise, known: list[tuple[Mistake, ...]], seen: Sequence[Attempt], later: Sequence[Sequence[Attempt]]
) -> tuple[Mistake, ...]:
    """What explains the stages so far and as many of the later ones as can be explained, too.

    What then remains is said by the next run, when the mistakes found so far are mended.
    """
    for stage in later:
        seen = [*seen, *stage]
        both = [mistakes for mistakes in known if explains(exercise, mistakes, stage)]
        both = both or known_mistakes(exercise, seen, known)
        if not both:
            break
        known = both
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


def error_of(exercise: Exercise, failure: Failure) -> Mistake:
    if failure.mistake:
        return failure.mistake
    where = failure.line or f"{exercise.name}(...)"
    return say.error_sentence(failure.text, where, by_call=failure.line is None)
