"""Grades the functions of a file: solved, not started, or wrong, and then what it looks like and why.

The student's source is never read; what the functions do is looked at (`attempt.py`) and explained (`diagnosis.py`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import FunctionType, ModuleType, SimpleNamespace

import torch

from week6.exercises import sentences as say
from week6.exercises.attempt import attempt, code_of, written
from week6.exercises.definition import Exercise
from week6.exercises.diagnosis import check_gradients, explain
from week6.exercises.showing import with_prints
from week6.exercises.verdict import NOT_STARTED, SOLVED, WRONG, Verdict


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
