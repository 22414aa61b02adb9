"""The whole suite in two processes, which share the tests: one begins at the front, the other at the back, until they meet.

The second process is started by the first with the same command line. Who is about to run a test claims it by making a
file of its number, so no test runs twice. What the second has found it writes down, and the first reports it as its own.
A few files of tests, a debugger or a single core need no second process.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

WORTH_IT = 1000  # tests; the second process takes some seconds until it has loaded torch and found them
SHARED = os.environ.pop("TESTS_SHARED", "")  # in the second process: the folder where tests are claimed; gone for its children


def run_tests(session: pytest.Session) -> bool | None:
    """For pytest_runtestloop: True if all tests have run, None if pytest shall run them as usual."""
    if SHARED:
        return run_from_the_back(session, Path(SHARED))
    options = session.config.option
    debugged = options.usepdb or options.trace or options.capture == "no"
    shared = hasattr(session.config, "workerinput") or getattr(options, "numprocesses", None)  # by pytest-xdist
    alone = debugged or shared or options.collectonly or options.basetemp or os.cpu_count() == 1
    if alone or session.testsfailed or len(session.items) < WORTH_IT:
        return None
    with tempfile.TemporaryDirectory() as folder:
        return run_from_the_front(session, Path(folder))


def run_from_the_front(session: pytest.Session, shared: Path) -> bool:
    """Run tests, and report what the second process finds."""
    found, printed = shared / "found", shared / "printed"
    found.touch()
    command = [sys.executable, "-m", "pytest", *session.config.invocation_params.args]
    reported = set()
    with found.open(encoding="utf-8") as news, printed.open("wb") as output:
        second = subprocess.Popen(
            command,
            cwd=session.config.invocation_params.dir,
            env=os.environ | {"TESTS_SHARED": str(shared)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            for item in claimed(session.items, shared):
                reported.add(item.nodeid)
                report_all(session, news, reported)
        finally:
            (shared / "stop").touch()
            second.wait()
        report_all(session, news, reported)
    if missing := [item.nodeid for item in session.items if item.nodeid not in reported]:
        end = printed.read_text(encoding="utf-8", errors="replace")[-3000:]
        session.shouldfail = f"the second process ended without {missing[0]} (status {second.returncode}):\n{end}"
    stop_if_asked(session)
    return True


def report_all(session: pytest.Session, news, reported: set[str]) -> None:
    """Report what has been found since the last time."""
    while True:
        at = news.tell()
        line = news.readline()
        if not line.endswith("\n"):  # nothing new, or only half of it
            news.seek(at)
            break
        data = json.loads(line)
        if isinstance(data["longrepr"], list):
            data["longrepr"] = tuple(data["longrepr"])  # where and why a test was skipped
        report = session.config.hook.pytest_report_from_serializable(config=session.config, data=data)
        session.config.hook.pytest_runtest_logreport(report=report)
        reported.add(report.nodeid)
    stop_if_asked(session)


def run_from_the_back(session: pytest.Session, shared: Path) -> bool:
    """Run tests as the second process, and write down what is found."""
    with (shared / "found").open("a", encoding="utf-8") as found:
        session.config.pluginmanager.register(Writer(session.config, found))
        parent = os.getppid()
        for _ in claimed(session.items[::-1], shared):
            if os.getppid() != parent:  # the first process was killed
                break
    return True


class Writer:
    """A plugin that writes each report down, one a line."""

    def __init__(self, config: pytest.Config, found):
        self.config, self.found = config, found

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        self.found.write(json.dumps(data, default=str) + "\n")
        self.found.flush()


def claimed(items: list[pytest.Item], shared: Path) -> Iterator[pytest.Item]:
    """Run those tests that the other process has not begun, and yield each when it has ended."""

    def free() -> Iterator[pytest.Item]:
        for item in items:
            number = numbers[item]
            if (shared / "stop").exists():
                return
            try:
                (shared / str(number)).touch(exist_ok=False)
            except FileExistsError:
                continue
            yield item

    numbers = {item: number for number, item in enumerate(sorted(items, key=lambda item: item.nodeid))}
    left = free()
    item = next(left, None)
    while item is not None:
        following = next(left, None)  # known beforehand, so that fixtures which it needs are kept
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        yield item
        stop_if_asked(item.session)
        item = following


def stop_if_asked(session: pytest.Session) -> None:
    """As pytest's own loop does: -x, --maxfail and plugins may end a run."""
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if session.shouldstop:
        raise session.Interrupted(session.shouldstop)
