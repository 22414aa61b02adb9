"""A lock that one process holds at a time, and nobody once that process has ended, however it ends. On every system."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

if os.name == "nt":
    import msvcrt
else:
    import fcntl


class BusyError(OSError):
    """Another process, the `holder`, has the lock."""

    def __init__(self, path: Path, holder: str):
        super().__init__(errno.EBUSY, f"{holder} is writing there", str(path.parent))
        self.holder = holder


@contextlib.contextmanager
def locked(path: Path, *, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock while the block runs.

    Args:
        path: of the file that stands for it, which is there while somebody holds it.
        patience: seconds to wait until it is free.

    Raises:
        BusyError: somebody else held it all the time.
        OSError: the file cannot be made.
    """
    file = _wait_for(path, time.monotonic() + patience)
    try:
        file.truncate(0)
        file.write(str(os.getpid()).encode("ascii"))
        file.flush()
        yield
    finally:
        if os.name == "nt":
            file.close()  # an open file cannot be removed there
        with contextlib.suppress(OSError):  # gone, or the next run has it
            path.unlink()
        file.close()


def _wait_for(path: Path, deadline: float) -> BinaryIO:
    while True:
        try:
            return _open_locked(path)
        except BusyError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(0.01)


def _open_locked(path: Path) -> BinaryIO:
    while True:
        try:
            file = path.open("a+b")
        except PermissionError:
            if os.name == "nt":  # who held it is removing it at this moment
                raise BusyError(path, "process (unknown)") from None
            raise
        if not _lock(file.fileno()):
            file.seek(0)
            holder = file.read(20).decode("ascii", "replace").strip()
            file.close()
            raise BusyError(path, f"process {holder or '(unknown)'}")
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # who held the lock has removed this file between our two lines


def _lock(descriptor: int) -> bool:
    """Lock a file for this process; whether nobody else has it. Where a file system knows no locks, nobody has."""
    try:
        if os.name == "nt":
            os.lseek(descriptor, 1 << 20, os.SEEK_SET)  # a byte behind the text: what is locked, nobody can read there
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
    return True
