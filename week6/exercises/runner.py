"""Grades a file in a process of its own (`worker.py`), which is replaced when it hangs or crashes.

Light: does not load torch, so that the process that does so is ready sooner.
"""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from week6.exercises import sentences as say
from week6.exercises.catalogue import NAMES
from week6.exercises.verdict import SOLVED, WRONG, Verdict
from week6.exercises.worker import FINALE

START_LIMIT = 120.0  # seconds for loading torch, on a very slow disk
GRACE = 3.0  # seconds beyond a limit before a worker that does not end by itself is killed
SUSPICIOUS = 1.0  # seconds after which an exercise that is being graded seems to hang
POLL = 0.05  # seconds between two looks at whether to stop
CANNOT_START = ("The grader cannot start.", "채점기를 시작할 수 없습니다.")
NOT_READ = ("The file cannot be read, so nothing is graded", "파일을 읽을 수 없어 채점하지 못했습니다")

Line = tuple[str, str]  # English, Korean (empty where it would say the same)


@dataclass(frozen=True)
class Limits:
    """Seconds for reading the file, grading one exercise, and the finale (0: no finale)."""

    reading: float = 8.0
    grading: float = 5.0
    finale: float = 60.0


class UnreadableError(Exception):
    """The file cannot be graded at all. The text is the reason in English, and in Korean where there is one."""

    def __init__(self, english: str, korean: str):
        super().__init__(english)
        self.english, self.korean = english, korean

    def text(self, *, korean: bool) -> str:
        return f"{self.korean}\n{self.english}" if korean else self.english


class StoppedError(Exception):
    """Grading was given up, because the file has been saved again."""


class Worker:
    """One process. It begins to load torch at once; `ask` may be called before it has."""

    def __init__(self):
        command = [sys.executable, str(Path(__file__).with_name("worker.py"))]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        self.lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self.process.stdout:
            self.lines.put(line.decode("ascii", "replace").rstrip("\r\n"))
        self.lines.put(None)

    def ask(self, request: dict) -> None:
        with suppress(OSError):  # it has ended already, which its missing answer will show
            self.process.stdin.write((json.dumps(request) + "\n").encode("ascii"))
            self.process.stdin.flush()

    def next_line(self, limit: float, meanwhile: Callable[[float], None] = lambda seconds: None) -> str | None:
        """Its next line; None when it has ended.

        Args:
            limit: seconds to wait.
            meanwhile: called again and again with the seconds since the last line.

        Raises:
            TimeoutError: it said nothing for `limit` seconds.
        """
        start = time.monotonic()
        while (waited := time.monotonic() - start) < limit:
            meanwhile(waited)
            try:
                return self.lines.get(timeout=POLL)
            except queue.Empty:
                continue
        raise TimeoutError

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):  # a request that was never read
                pipe.close()


@dataclass
class State:
    """What is known of one file so far.

    Attributes:
        left: functions still to grade.
        unsafe: those that hang or crash.
        solved: those that are solved.
        current: what is being done: "" before the file is read, then a function or FINALE.
        about: section and line of that function.
        trace: what a dying worker said.
    """

    left: list[str]
    unsafe: list[str] = field(default_factory=list)
    solved: list[str] = field(default_factory=list)
    current: str = ""
    about: Verdict = Verdict(WRONG)  # noqa: RUF009  (frozen)
    trace: list[str] = field(default_factory=list)


class Grading:
    """Grades files, one after the other. Use as a context manager: at the end no process is left.

    Args:
        spare: whether to have the next process ready in advance, so that a save is answered at once.
    """

    def __init__(self, *, spare: bool = False):
        self.keep_spare = spare
        self.ready: list[Worker] = [Worker()]

    def __enter__(self) -> Grading:
        return self

    def __exit__(self, *_) -> None:
        while self.ready:
            self.ready.pop().kill()

    def verdicts(
        self,
        file: Path,
        names: Sequence[str] = NAMES,
        limits: Limits | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[str, Verdict | Line]]:
        """(name, verdict) of each function as soon as it is known; if all are solved, then (FINALE, line) many times.

        Raises:
            UnreadableError: the file cannot be read, or does not end being read.
            StoppedError: `should_stop` said so.
        """
        check_file(file)
        limits, state = limits or Limits(), State(left=list(names))

        def meanwhile(waited: float) -> None:
            if should_stop():
                raise StoppedError
            if waited > SUSPICIOUS and state.current in NAMES and not self.ready:
                self.ready.append(Worker())  # this one seems to hang: have the next one ready when it is ended

        while True:
            worker = self.ready.pop() if self.ready else Worker()
            if self.keep_spare:
                self.ready.append(Worker())
            request = {"file": str(file), "names": state.left, "unsafe": state.unsafe, "solved": state.solved}
            worker.ask(request | {"limits": [limits.reading, limits.grading, limits.finale]})
            state.current, state.trace = "", []
            try:
                done = yield from follow(worker, state, file, limits, meanwhile)
                hangs = any(line.startswith("Timeout") for line in state.trace)
            except TimeoutError:
                done, hangs = False, True
            finally:
                worker.kill()
            if done:
                return
            yield from self._after_death(state, file, limits, hangs)
            if state.current == FINALE:
                return

    def _after_death(self, state: State, file: Path, limits: Limits, hangs: bool) -> Iterator[tuple[str, Verdict | Line]]:
        """Says whose fault it is that the worker ended, and leaves that function out from now on."""
        number, function = place(state.trace, file)
        where = f" ({file.name}, line {number})" if number else ""
        seconds = {"": limits.reading, FINALE: limits.finale}.get(state.current, limits.grading)
        mistake = (say.HANGS if hangs else say.CRASHES).about(seconds=seconds, where=where)
        if not state.current:
            raise UnreadableError(f"{NOT_READ[0]}. {mistake.english}", f"{NOT_READ[1]}. {mistake.korean}")
        if state.current == FINALE:
            yield FINALE, (mistake.english, mistake.korean)
            return
        # The function that hangs may be another one that it calls; then that is wrong, and this one is graded without it.
        culprit = function if function in NAMES and function not in state.unsafe else state.current
        state.unsafe.append(culprit)
        if culprit == state.current:
            state.left.remove(culprit)
            yield culprit, replace(state.about, mistakes=(mistake,))


def follow(
    worker: Worker, state: State, file: Path, limits: Limits, meanwhile: Callable[[float], None]
) -> Iterator[tuple[str, Verdict | Line]]:
    """Passes verdicts on. Returns whether the worker came to its end, and did not hang or crash before."""
    limit = START_LIMIT
    while True:
        line = worker.next_line(limit + GRACE, meanwhile)
        if line is None and limit == START_LIMIT:
            raise UnreadableError(*CANNOT_START)
        if line is None:
            return False
        if not line.startswith("{"):
            state.trace.append(line)  # from faulthandler
            continue
        event = json.loads(line)
        kind = event["event"]
        if kind == "broken":
            raise UnreadableError(*(f"{sentence} {event['error']}" for sentence in CANNOT_START))
        if kind == "unreadable":
            where = f"{file.name}, line {event['line']}" if event["line"] else file.name
            raise UnreadableError(*(f"{sentence} ({where}): {event['error']}" for sentence in NOT_READ))
        if kind == "done":
            return True
        if kind == "ready":
            limit = limits.reading
        elif kind == "grading":
            state.current = event["name"]
            state.about = Verdict.from_json(event["about"]) if event["about"] else Verdict(WRONG)
            limit = limits.finale if state.current == FINALE else limits.grading
        elif kind == "verdict":
            verdict = Verdict.from_json(event["verdict"])
            state.left.remove(event["name"])
            state.solved += [event["name"]] * (verdict.outcome == SOLVED)
            yield event["name"], verdict
        elif kind == FINALE:
            yield FINALE, (event["english"], event["korean"])


def place(trace: Sequence[str], file: Path) -> tuple[int | None, str]:
    """(line, function) of the innermost call in the file, from what faulthandler wrote."""
    name = str(file).encode("ascii", "backslashreplace").decode()
    for line in trace:
        found = re.match(r'\s*File "(.*)", line (\d+) in (.*)$', line)
        if found and (found[1] == name or (found[1].endswith("...") and name.startswith(found[1][:-3]))):
            return int(found[2]), found[3]
    return None, ""


def check_file(file: Path) -> None:
    """Raises UnreadableError for what is no Python file, in one line."""
    if file.is_dir():
        raise UnreadableError(
            f"{file.name} is a folder: name the .py file in it.", f"{file.name}: 폴더입니다. 그 안의 .py 파일을 지정하세요."
        )
    if not file.exists():
        raise UnreadableError(f"There is no file {file.name}.", f"{file.name}: 이런 파일이 없습니다.")
    if file.suffix == ".ipynb":
        raise UnreadableError(
            f"{file.name} is a notebook: save it as a .py file (File, Save and Export As, Executable Script).",
            f"{file.name}: 노트북입니다. .py 파일로 저장하세요. (File, Save and Export As, Executable Script)",
        )
