"""The numbers a lab found: kept under stable keys, written whole or not at all, compared with an earlier run."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader only ever sees the old content or the new, even if the run is killed meanwhile.

    Raises:
        OSError: the folder cannot be written or the disk is full; the old file is then still there, untouched.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)  # a rename within one folder is atomic
    finally:
        part.unlink(missing_ok=True)


class Results:
    """Findings under dotted keys, each with the tolerance within which another machine must agree.

    In the file: {"lab": 1, "seed": 0, "fast": false, "options": {...}, "results": {key: {"value": 0.9, "rtol": 0.01}},
    "seconds": {...}}. Wall-clock times stand apart under "seconds"; they are never compared.
    """

    def __init__(self, **run):
        self.run = run
        self.values: dict[str, dict[str, float]] = {}
        self.seconds: dict[str, float] = {}

    def record(self, key: str, value: float, *, rtol: float, atol: float = 0.0) -> float:
        """Keep one finding and return it, so that what is printed is what is kept: whole numbers as they are, others
        rounded to six digits.

        Args:
            key: dotted, the same in every run.
            value: a finite number.
            rtol: a re-run must lie within rtol * |value| (+ atol, for values that are 0 up to rounding).

        Raises:
            ValueError: a key used twice, or a value that is not finite.
        """
        value = float(value)
        if not value.is_integer():
            value = float(f"{value:.6g}")
        if key in self.values:
            raise ValueError(f"{key} is recorded twice")
        if not math.isfinite(value):
            raise ValueError(f"{key} is {value}: only finite numbers can be recorded")
        self.values[key] = {"value": value, "rtol": rtol} | ({"atol": atol} if atol else {})
        return value

    def to_json(self) -> bytes:
        content = self.run | {"results": self.values, "seconds": self.seconds}
        lines = json.dumps(content, indent=1, allow_nan=False)
        return (lines + "\n").encode("ascii")


def moved(committed: dict, rerun: dict) -> list[str]:
    """One line for each finding of `committed` that `rerun` does not confirm, or that is new; both as in the file."""
    if (committed["seed"], committed["options"]) != (rerun["seed"], rerun["options"]):
        return [f"recorded with seed {committed['seed']} and {committed['options']}, not with the course's defaults"]
    old, new = committed["results"], rerun["results"]
    lines = [f"{key}: recorded, but the re-run has no such key" for key in old if key not in new]
    lines += [f"{key}: found by the re-run, but not recorded" for key in new if key not in old]
    for key in old.keys() & new.keys():
        was, now = old[key]["value"], new[key]["value"]
        allowed = old[key]["rtol"] * abs(was) + old[key].get("atol", 0.0)
        if not abs(now - was) <= allowed:
            lines.append(f"{key}: recorded {was:g}, now {now:g} (may differ by {allowed:.2g})")
    return sorted(lines)
