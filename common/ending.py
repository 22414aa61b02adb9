"""How the process of a script ends when it is stopped or its output breaks: with one line and a status, nothing half done.

Whatever of `common` a script imports first, this loads before it: so Ctrl-C is answered from then on, also while torch and
matplotlib load. In a kernel, an editor's console or a test nothing is changed: the process is theirs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Iterator

_held: list[int] | None = None  # the signals that arrived while they were held; None: they are not


def owns_process(script: str) -> bool:
    """Whether this process was started to run that file and ends with it: no kernel, no IDLE, no `python -i`."""
    return not sys.flags.interactive and _absolute(script) in map(_absolute, sys.orig_argv[1:])


def _absolute(path: str) -> str:
    with contextlib.suppress(OSError):  # the working folder was deleted
        path = os.path.abspath(path)
    return os.path.normcase(path)


def runs_a_lab() -> bool:
    """Whether this process runs a numbered script; known before the script has made its lab."""
    script = getattr(sys.modules["__main__"], "__file__", None) or ""
    return os.path.basename(script)[:2].isdigit() and owns_process(script)


def in_order() -> None:
    """For a process of our own: streams that exist, and one line for Ctrl-C, a closed pipe and a full disk."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed: else the next file that is opened would stand in its place
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 (stays open)
    sys.excepthook = _one_line


def at_once() -> None:
    """For a script: Ctrl-C, a stop button and a closed terminal end it there and then, unless they are ignored.

    An exception instead would be swallowed in some places where libraries load and in callbacks.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _stop)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """What stands in the block is finished before a signal ends the script."""
    global _held
    _held = []
    try:
        yield
    finally:
        numbers, _held = _held, None
        if numbers:
            _stop(numbers[0])


def _stop(number: int, frame: object = None) -> None:
    if _held is not None:
        _held.append(number)
        return
    _end(128 + number, "\nInterrupted." if number == signal.SIGINT else "\nStopped.")


def _end(status: int, line: str = "") -> None:
    for stream, text in ((sys.stdout, ""), (sys.stderr, f"{line}\n" if line else "")):
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # closed, or in the middle of a print
            stream.write(text)
            stream.flush()
    os._exit(status)  # not sys.exit, which an excepthook cannot turn into a status, and which would print once more


def _one_line(kind, error, traceback) -> None:
    if issubclass(kind, KeyboardInterrupt):
        _end(130, "\nInterrupted.")
    if issubclass(kind, BrokenPipeError):  # the reader of a pipe (head, less) has seen enough
        _end(1)
    if issubclass(kind, OSError) and error.errno == errno.ENOSPC:
        _end(1, f"{os.path.basename(sys.argv[0])}: no space left where it writes")
    sys.__excepthook__(kind, error, traceback)


if runs_a_lab():
    in_order()
    at_once()
