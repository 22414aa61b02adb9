"""The grader as pytest runs it: one test for each exercise; a stub that is still empty is skipped, not failed."""

import pytest

from week6.exercises.grader import NOT_STARTED, WRONG, grade
from week6.exercises.mistakes import EXERCISES


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
def test_exercise(exercise, answers, korean, record_property):
    verdict = grade(exercise, answers)
    record_property("exercise", exercise.name)
    record_property("outcome", verdict.outcome)
    if verdict.outcome == NOT_STARTED:
        pytest.skip("not started")
    if verdict.outcome == WRONG:
        pytest.fail(verdict.message(korean=korean), pytrace=False)
