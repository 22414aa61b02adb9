"""How the grader meets pytest: the file to grade, the languages of the console, and the summary at the end."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
import torch

from week6.exercises.grader import NOT_STARTED, SOLVED, WRONG
from week6.exercises.mistakes import EXERCISES

STUBS = Path(__file__).with_name("exercises.py")
ANSWERS = pytest.StashKey[ModuleType]()
KOREAN = {SOLVED: "정답", WRONG: "오답", NOT_STARTED: "시작 전"}


def pytest_addoption(parser):
    parser.addoption("--solutions", metavar="FILE", default=str(STUBS), help="file to grade (default: exercises.py)")


def pytest_configure(config):
    for stream in (sys.stdout, sys.stderr):  # no console may stop the grader because it lacks a letter
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def console_prints_korean() -> bool:
    try:
        "한국어".encode(getattr(sys.__stdout__, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True


@pytest.fixture(scope="session")
def korean() -> bool:
    """Whether to explain in Korean too: not on a console that would print it as escapes."""
    return console_prints_korean()


@pytest.fixture(scope="session")
def answers(request) -> ModuleType:
    """The file to grade, as a module."""
    torch.set_num_threads(1)  # on tensors this small more threads are slower
    return request.config.stash[ANSWERS]


def pytest_collection_finish(session):
    """Read the file to grade before any test, so that a file that cannot be read is said once and ends the run."""
    path = Path(session.config.getoption("--solutions", default=str(STUBS))).resolve()
    try:
        spec = importlib.util.spec_from_file_location("answers", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise pytest.UsageError(unreadable(path, error, korean=console_prints_korean())) from None
    session.config.stash[ANSWERS] = module


def unreadable(path: Path, error: BaseException, *, korean: bool) -> str:
    """What stopped the student's file from being read, and in which line."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    for frame in traceback.extract_tb(error.__traceback__):
        line = frame.lineno if Path(frame.filename) == path else line
    where = f"{path.name}, line {line}" if line else path.name
    reason = error.msg if isinstance(error, SyntaxError) else str(error)
    reason = f"{type(error).__name__}: {reason}"
    english = f"The file cannot be read, so nothing is graded ({where}): {reason}"
    return f"파일을 읽을 수 없어 채점하지 못했습니다 ({where}): {reason}\n{english}" if korean else english


def pytest_terminal_summary(terminalreporter):
    """Solved, wrong and not started, and the lab that shows the idea, instead of pytest's own list of failures."""
    reports = [r for category in ("passed", "failed", "skipped") for r in terminalreporter.getreports(category)]
    properties = [dict(report.user_properties) for report in reports]
    outcomes = {p["exercise"]: p["outcome"] for p in properties if "exercise" in p}
    if not outcomes:
        return
    counts = Counter(outcomes.values())
    korean = console_prints_korean()
    heading = ", ".join(f"{counts[outcome]} {outcome}" for outcome in KOREAN)
    terminalreporter.write_sep("=", f"exercises: {heading}")
    for exercise in EXERCISES:
        if exercise.name in outcomes:
            outcome = outcomes[exercise.name]
            word = f"{outcome} ({KOREAN[outcome]})" if korean else outcome
            terminalreporter.write_line(f"{exercise.name:<30} week6/{exercise.lab:<28} {word}")
    if len(outcomes) == len(reports):
        terminalreporter.reportchars = ""  # the list would repeat what stands above
