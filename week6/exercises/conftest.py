"""How the grader meets pytest: the file to grade, the languages of the console, and the summary at the end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from week6.exercises.catalogue import LAB_OF, NAMES
from week6.exercises.report import Console
from week6.exercises.runner import Grading, Limits, UnreadableError
from week6.exercises.verdict import KOREAN, SOLVED, Verdict

STUBS = Path(__file__).with_name("exercises.py")


class Verdicts:
    """The verdicts of one run, waited for as they are asked for."""

    def __init__(self, file: Path, names: list[str]):
        self.grading, self.known = Grading(), {}
        self.coming = self.grading.verdicts(file, names, Limits(finale=0.0))
        self.shown: dict[str, Verdict] = {}

    def wait_for(self, name: str | None) -> Verdict | None:
        """The verdict on that function; None: only until the first one, which shows that the file can be read."""
        while name not in self.known and (name or not self.known):
            at = next(self.coming, None)
            if at is None:
                return None
            self.known[at[0]] = at[1]
        return self.known.get(name)


VERDICTS = pytest.StashKey[Verdicts]()


def pytest_addoption(parser):
    parser.addoption("--solutions", metavar="FILE", default=str(STUBS), help="file to grade (default: exercises.py)")


def pytest_configure(config):
    for stream in (sys.stdout, sys.stderr):  # no console may stop the grader because it lacks a letter
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def plain_console() -> Console:
    """What the console shows; pytest's own colours are enough."""
    return Console(korean=Console.of(sys.__stdout__).korean, colours=False)


@pytest.fixture(scope="session")
def console() -> Console:
    return plain_console()


@pytest.fixture(scope="session")
def verdicts(request) -> Verdicts:
    return request.config.stash[VERDICTS]


def pytest_collection_finish(session):
    """Begin to grade, so that a file that cannot be read is said once and ends the run."""
    wanted = {item.callspec.params["name"] for item in session.items if item.path == STUBS.with_name("test_exercises.py")}
    if not wanted or session.config.option.collectonly:
        return
    file = Path(session.config.getoption("--solutions", default=str(STUBS))).resolve()
    verdicts = Verdicts(file, [name for name in NAMES if name in wanted])
    session.config.stash[VERDICTS] = verdicts
    try:
        verdicts.wait_for(None)
    except UnreadableError as error:
        raise pytest.UsageError(error.text(korean=plain_console().korean)) from None


def pytest_unconfigure(config):
    verdicts = config.stash.get(VERDICTS, None)
    if verdicts:
        verdicts.coming.close()
        verdicts.grading.__exit__()


def pytest_terminal_summary(terminalreporter, config):
    """Solved, wrong and not started, and what comes next, instead of pytest's own list of failures."""
    verdicts = config.stash.get(VERDICTS, None)
    shown = verdicts.shown if verdicts else {}
    if not shown:
        return
    console = plain_console()
    outcomes = [verdict.outcome for verdict in shown.values()]
    terminalreporter.write_sep("=", f"exercises: {', '.join(f'{outcomes.count(outcome)} {outcome}' for outcome in KOREAN)}")
    for name, verdict in shown.items():
        terminalreporter.write_line(f"{name:<30} week6/{LAB_OF[name]:<28} {console.word(verdict.outcome)}")
    terminalreporter.write_line(console.next_step(shown, Path(config.getoption("--solutions")).name))
    if outcomes.count(SOLVED) == len(NAMES):
        terminalreporter.write_line("See your functions learn: python -m week6.exercises")
    reports = [r for category in ("passed", "failed", "skipped") for r in terminalreporter.getreports(category)]
    if len(shown) == len(reports):
        terminalreporter.reportchars = ""  # the list would repeat what stands above
