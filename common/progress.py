"""A sign of life for work that takes longer than a moment."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterator
from typing import TypeVar

Item = TypeVar("Item")
WIDTH = 96  # columns of the console output


def progress(items: Collection[Item], label: str) -> Iterator[Item]:
    """Iterate; on a terminal one line is updated in place, in a log and in a notebook a line appears every ten seconds.

    Without a label it is silent: for a loop inside another one that shows its progress.
    """
    if not label:
        yield from items
        return
    live = sys.stdout.isatty()
    start = last = time.perf_counter()
    for done, item in enumerate(items, 1):
        yield item
        now = time.perf_counter()
        if now - last >= (0.1 if live else 10.0):
            last = now
            line = f"  {label}: {100 * done // len(items)} % after {now - start:.0f} s"
            print(f"\r{line:<{WIDTH}}" if live else line, end="" if live else "\n", flush=True)
    if live:
        print(f"\r{'':<{WIDTH}}\r", end="", flush=True)
