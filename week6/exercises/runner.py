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
from dataclasses import dataclass
from pathlib import Path

from week6.exercises import sentences as say
from week6.exercises.catalogue import NAMES
from week6.exercises.verdict import SOLVED, WRONG, Verdict
from week6.exercises.worker import FINALE

START_LIMIT = 120.0  # seconds for loading torch, on a very slow disk
GRACE = 3.0  # seconds beyond a limit before a worker that does not end by itself is killed
POLL = 0.05  # seconds between two looks at whether to stop


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
        try:
            self.process.stdin.write((json.dumps(request) + "\n").encode("ascii"))
            self.process.stdin.flush()
        except OSError:
            pass  # it has ended already, which its missing answer will show

    def next_line(self, limit: float, should_stop: Callable[[], bool]) -> str | None:
        """Its next line; None when it has ended, or is killed because it said nothing for `limit` seconds."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            if should_stop():
                raise StoppedError
            try:
                return self.lines.get(timeout=POLL)
            except queue.Empty:
                continue
        return None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            try:
                pipe.close()
            except OSError:
                pass  # a request that was never read


class Grading:
    """Grades files, one after the other. Use as a context manager: at the end no process is left.

    Args:
        spare: whether to have the next process ready in advance, so that a save is answered at once.
    """

    def __init__(self, *, spare: bool = False):
        self.keep_spare = spare
        self.ready: list[Worker] = [Worker()]
        self.under_way: Worker | None = None

    def __enter__(self) -> Grading:
        return self

    def __exit__(self, *_) -> None:
        for worker in (*self.ready, self.under_way):
            if worker:
                worker.kill()
        self.ready, self.under_way = [], None

    def verdicts(
        self,
        file: Path,
        names: Sequence[str] = NAMES,
        *,
        limits: Limits = Limits(),  # noqa: B008  (frozen)
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[str, Verdict | str]]:
        """(name, verdict) of each function as soon as it is known; if all are solved, then ("finale", line) many times.

        Raises:
            UnreadableError: the file cannot be read, or does not end being read.
            StoppedError: `should_stop` said so.
        """
        check_file(file)
        left, unsafe, solved = list(names), [], []
        while True:
            self.under_way = worker = self.ready.pop() if self.ready else Worker()
            if self.keep_spare:
                self.ready.append(Worker())
            request = {"file": str(file), "names": left, "unsafe": unsafe, "solved": solved}
            worker.ask(request | {"limits": [limits.reading, limits.grading, limits.finale]})
            try:
                ended = yield from self._follow(worker, file, left, solved, limits, should_stop)
            finally:
                worker.kill()
                self.under_way = None
            if ended is None:
                return
            name, mistake, culprit = ended
            if name == FINALE:
                yield FINALE, mistake.english
                return
            unsafe.append(culprit)
            if culprit == name:
                left.remove(name)
                yield name, Verdict(WRONG, (mistake,))
            if not left and set(solved) != set(NAMES):
                return

    def _follow(self, worker, file, left, solved, limits, should_stop):
        """Passes verdicts on. Returns None at the end, or (exercise, mistake, whose fault) if the worker ended too early."""
        current, trace, limit = None, [], START_LIMIT
        while True:
            line = worker.next_line(limit + GRACE, should_stop)
            if line is None:
                break
            if not line.startswith("{"):
                trace.append(line)  # faulthandler's
                continue
            event = json.loads(line)
            kind = event.pop("event")
            if kind == "broken":
                raise UnreadableError(
                    f"The grader cannot start: {event['error']}", f"채점기를 시작할 수 없습니다: {event['error']}"
                )
            if kind == "unreadable":
                raise unreadable(file, event["line"], event["error"])
            if kind == "ready":
                limit = limits.reading
            elif kind == "read":
                current, limit = "", limits.grading
            elif kind == "grading":
                current = event["name"]
                limit = limits.finale if current == FINALE else limits.grading
            elif kind == "verdict":
                verdict = Verdict.from_json(event["verdict"])
                left.remove(event["name"])
                solved += [event["name"]] * (verdict.outcome == SOLVED)
                yield event["name"], verdict
            elif kind == FINALE:
                yield FINALE, event["line"]
            elif kind == "done":
                return None
        hangs = worker.process.poll() is None or any(line.startswith("Timeout") for line in trace)
        if current is None and limit == START_LIMIT:
            raise UnreadableError(
                "The grader cannot start: its process ended.", "채점기를 시작할 수 없습니다: 프로세스가 끝났습니다."
            )
        number, function = place(trace, file)
        where = f" ({file.name}, line {number})" if number else ""
        seconds = limits.reading if current is None else limits.finale if current == FINALE else limits.grading
        mistake = say.HANGS.about(seconds=seconds, where=where) if hangs else say.CRASHES.about(where=where)
        if current is None:
            raise UnreadableError(
                f"The file cannot be read, so nothing is graded. {mistake.english}",
                f"파일을 읽을 수 없어 채점하지 못했습니다. {mistake.korean}",
            )
        known_culprit = function in NAMES and function != current and current != FINALE
        return current, mistake, function if known_culprit else current


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
    shown = file.name.encode("ascii", "backslashreplace").decode()
    if file.is_dir():
        raise UnreadableError(
            f"{shown} is a folder: name the .py file in it.", f"{file.name}은(는) 폴더입니다: 그 안의 .py 파일을 지정하세요."
        )
    if not file.exists():
        raise UnreadableError(f"There is no file {shown}.", f"{file.name} 파일이 없습니다.")
    if file.suffix == ".ipynb":
        raise UnreadableError(
            f"{shown} is a notebook: save it as a .py file (File, Save and Export As, Executable Script).",
            f"{file.name}은(는) 노트북입니다: .py 파일로 저장하세요. (File, Save and Export As, Executable Script)",
        )


def unreadable(file: Path, line: int | None, error: str) -> UnreadableError:
    where = f"{file.name}, line {line}" if line else file.name
    return UnreadableError(
        f"The file cannot be read, so nothing is graded ({where}): {error}",
        f"파일을 읽을 수 없어 채점하지 못했습니다 ({where}): {error}",
    )
