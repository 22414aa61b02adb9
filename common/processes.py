"""Labs as processes: side by side, each with its output kept, into a folder that no other run writes to.

None outlives whoever started it, however that ends: each lab runs in `watched.py`, which holds the other end of a pipe.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.locking import locked
from common.results import PARTS, move_together

WATCHED = Path(__file__).with_name("watched.py")
LOCK, STAGING = ".running.lock", ".running"  # in a run's folder while it runs
PATIENCE = 5.0  # seconds that a lab gets to end by itself


@dataclass(frozen=True)
class Task:
    """One run of one lab: its number, its script, its flags without --out, and the seed they ask for."""

    number: int
    script: Path
    flags: Sequence[str]
    seed: int = 0
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a run ended: the exit status, everything it printed, and the wall-clock seconds it took."""

    task: Task
    status: int
    output: str
    seconds: float


class _Run:
    """A lab under way; its output goes to a file without a name, which vanishes with the last process that holds it."""

    def __init__(self, task: Task, out: Path):
        self.task, self.start = task, time.perf_counter()
        self.printed = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `outcome` or `close`)
        surroundings = os.environ | {"PYTHONIOENCODING": "utf-8", "MPLBACKEND": "Agg"} | task.environment
        command = [sys.executable, str(WATCHED), str(task.script), *task.flags, f"--out={out}"]
        streams = {"stdin": subprocess.PIPE, "stdout": self.printed, "stderr": subprocess.STDOUT}
        self.process = subprocess.Popen(command, env=surroundings, **streams)

    def outcome(self) -> Outcome | None:
        """None while it runs."""
        status = self.process.poll()
        if status is None:
            return None
        self.printed.seek(0)
        output = self.printed.read().decode("utf-8", "replace").replace("\r\n", "\n")
        self.close()
        return Outcome(self.task, status, output, time.perf_counter() - self.start)

    def close(self) -> None:
        self.process.stdin.close()  # a lab that still runs ends
        self.printed.close()

    def wait(self, seconds: float) -> None:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def side_by_side(
    tasks: Iterable[Task], jobs: int, out_of: Callable[[Task], Path], started: Callable[[Task], None] = lambda task: None
) -> Iterator[Outcome]:
    """Run the tasks, `jobs` at a time, and yield how each ended, as it ends; closing the iterator ends those under way.

    Args:
        tasks: in the order in which they start.
        jobs: how many run at a time.
        out_of: the folder for a task's files; it is made.
        started: called when a task starts.
    """
    waiting, running = iter(tasks), []
    try:
        while True:
            while len(running) < jobs and (task := next(waiting, None)) is not None:
                out_of(task).mkdir(parents=True, exist_ok=True)
                running.append(_Run(task, out_of(task)))
                started(task)
            if not running:
                return
            time.sleep(0.05)
            for run in list(running):
                if (outcome := run.outcome()) is not None:
                    running.remove(run)
                    yield outcome
    finally:
        for run in running:
            run.close()
        deadline = time.monotonic() + PATIENCE
        for run in running:
            run.wait(max(0.0, deadline - time.monotonic()))


# --- a folder for one run at a time ---------------------------------------------------------------------------------


@contextlib.contextmanager
def folder_to_itself(folder: Path) -> Iterator[Path]:
    """Hold the folder while the block runs, sweep what a killed run left there, and give a staging folder inside.

    A lab writes to the staging folder, and `publish` moves its files when it has succeeded: so figures and numbers in
    `folder` are always from one run.

    Raises:
        BusyError: another run holds the folder.
    """
    with locked(folder / LOCK):
        staging = folder / STAGING
        shutil.rmtree(staging, ignore_errors=True)
        for part in folder.glob(PARTS):
            with contextlib.suppress(OSError):
                if time.time() - part.stat().st_mtime > 60:  # a lab on its own may be writing a younger one
                    part.unlink()
        try:
            staging.mkdir(exist_ok=True)
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def publish(staged: Path, folder: Path) -> None:
    """Move all files of a lab to where they belong, together.

    Raises:
        OSError: one of them cannot be replaced.
    """
    move_together({path.name: path for path in staged.iterdir()}, folder)
