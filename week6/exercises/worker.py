"""The process in which a student's file is read and graded, so that nothing in it can harm the grading of the rest.

Started by `runner.py`. It loads torch, says that it is ready, waits for one request, and answers with events, one JSON
object a line. An endless loop ends it after a time limit, with the place where it was; so does a crash. The runner then
starts another one for what is left. It ends when its standard input does, so it never outlives the runner.

    request   {"file": ..., "names": [...], "unsafe": [...], "solved": [...], "limits": [reading, grading, finale]}
    events    {"event": "ready"}, or {"event": "unreadable", "line": ..., "error": ...}
              {"event": "grading", "name": ..., "about": {...}} and {"event": "verdict", "name": ..., "verdict": {...}} in turn
              {"event": "finale", "english": ..., "korean": ...} as often as it has something to say; {"event": "done"}
"""

from __future__ import annotations

import faulthandler
import io
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parents[2]
MEMORY = 2 << 30  # bytes that a student's file may take, where the system can limit them
FINALE = "finale"


def main() -> None:
    channel, requests = private_channel()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the runner's; here it could only come from the file

    def send(event: str, **values: Any) -> None:
        channel.write(json.dumps({"event": event, **values}) + "\n")
        channel.flush()

    try:
        import_everything()
    except Exception as error:
        send("broken", error=f"{type(error).__name__}: {error}")
        return
    faulthandler.enable(channel)
    limit_memory()
    send("ready")
    request = requests.readline()
    if not request:
        return
    threading.Thread(target=end_with, args=(requests,), daemon=True).start()
    answer(json.loads(request), send, channel)
    send("done")
    os._exit(0)  # whatever threads the file has started


def private_channel() -> tuple[TextIO, TextIO]:
    """Copies of standard output and input; what the file prints, reads, or closes goes nowhere."""
    channel = os.fdopen(os.dup(1), "w", encoding="ascii")
    requests = os.fdopen(os.dup(0), "r", encoding="ascii")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    sys.stdin, sys.stdout, sys.stderr = io.StringIO(), io.StringIO(), io.StringIO()
    return channel, requests


def import_everything() -> None:
    """The slow part, before there is anything to do."""
    sys.path[0] = str(ROOT)  # instead of this folder, whose modules are no concern of the file
    sys.dont_write_bytecode = True
    import torch

    from week6.exercises import catalogue

    torch.set_num_threads(1)  # on tensors this small more threads are slower
    catalogue.load()


def limit_memory() -> None:
    """No more than MEMORY above what is taken now. Only Linux can tell and limit it."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (ImportError, OSError, ValueError):
        return


def end_with(requests: TextIO) -> None:
    """End this process when the runner has gone."""
    requests.read()
    os._exit(1)


def answer(request: dict[str, Any], send: Callable[..., None], channel: TextIO) -> None:
    """Read the file, grade it, and, if all is solved, let its functions learn."""
    from week6.exercises import catalogue
    from week6.exercises.grader import Grader
    from week6.exercises.verdict import SOLVED

    reading, grading, learning = request["limits"]
    path = Path(request["file"])
    faulthandler.dump_traceback_later(reading, exit=True, file=channel)
    try:
        answers = read(path)
    except BaseException as error:
        line = line_of(error, path)
        faulthandler.cancel_dump_traceback_later()
        send("unreadable", line=line, error=f"{type(error).__name__}: {getattr(error, 'msg', None) or error}")
        return
    grader = Grader(catalogue.load(), answers, request["unsafe"])
    for name in request["names"]:
        send("grading", name=name, about=grader.about(name).to_json())
        faulthandler.dump_traceback_later(grading, exit=True, file=channel)
        verdict = safely(lambda name=name: grader.verdict(name))
        faulthandler.cancel_dump_traceback_later()
        send("verdict", name=name, verdict=verdict.to_json())
        if verdict.outcome == SOLVED:
            request["solved"].append(name)
    if set(request["solved"]) == set(catalogue.NAMES) and learning:
        from week6.exercises import finale

        send("grading", name=FINALE, about=None)
        faulthandler.dump_traceback_later(learning, exit=True, file=channel)
        try:
            finale.run(answers, lambda english, korean: send(FINALE, english=english, korean=korean))
        except BaseException as error:
            where = f" ({path.name}, line {line_of(error, path)})" if line_of(error, path) else ""
            text = f"{type(error).__name__}: {error}"
            send(FINALE, english=f"Here it stopped{where}: {text}", korean=f"여기서 멈추었습니다{where}: {text}")
        faulthandler.cancel_dump_traceback_later()


def read(path: Path) -> ModuleType:
    """The file as a module, compiled anew: two saves within a second would look the same to Python's cache."""
    module = ModuleType("answers")
    module.__file__ = str(path)
    sys.modules["answers"] = module
    sys.path.append(str(path.parent))  # the file may import its neighbours
    exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    return module


def line_of(error: BaseException, path: Path) -> int | None:
    """Where in the file it went wrong."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    for frame in traceback.extract_tb(error.__traceback__):
        line = frame.lineno if frame.filename == str(path) else line
    return line


def safely(grade: Callable[[], Any]) -> Any:
    """The verdict; what the grader itself cannot cope with is said and costs this verdict only."""
    from week6.exercises.sentences import GRADER_FAILED
    from week6.exercises.verdict import WRONG, Verdict

    try:
        return grade()
    except BaseException as error:
        return Verdict(WRONG, (GRADER_FAILED.about(error=f"{type(error).__name__}: {error}"[:200]),))


if __name__ == "__main__":
    main()
