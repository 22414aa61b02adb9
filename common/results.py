"""The numbers a lab found: kept under stable keys, written whole or not at all, read with care, compared with another run.

A recorded number is one of three things, and its entry in `NN_results.json` says which:

    exact   {"value": 0.9, "rtol": 0.001}                     every machine agrees to rtol, 0.001 or less
            {"value": 2e-16, "rtol": 0.001, "atol": 1e-12}    0 up to rounding: within atol of it, 1e-9 or less
    draw    {"value": 0.4, "draw": true}                      depends on the random start; judged by `NN_study.json`
    choice  {"value": 0.008, "choice": true}                  the best of a few, which another start may choose otherwise
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from common.locking import locked

RTOL = 1e-3  # of an exact number, if nothing smaller is asked for; nothing larger is allowed
LARGEST_ATOL = 1e-9
PARTS = ".*.part"  # what a killed run may leave behind
_LOCK, _PATIENCE = ".writing.lock", 30.0  # moving files takes no time: who waits longer, in seconds, waits in vain
_KINDS = ({"value", "rtol"}, {"value", "rtol", "atol"}, {"value", "draw"}, {"value", "choice"})


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader only ever sees the old content or the new, even if the run is killed meanwhile.

    Raises:
        OSError: the folder cannot be written or the disk is full; the old file is then still there, untouched.
    """
    write_together(path.parent, {path.name: content})


def write_together(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write all files of a run, each whole: all are on the disk before the first is seen, and `move_together` follows.

    Raises:
        OSError: the folder cannot be written or the disk is full; the old files are then still there, all of them.
    """
    parts = {name: folder / f".{name}.{secrets.token_hex(4)}.part" for name in files}
    try:
        for name, part in parts.items():
            with part.open("xb") as file:  # a new file: never through somebody's link
                file.write(files[name])
        move_together(parts, folder)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def move_together(parts: Mapping[str, Path], folder: Path) -> None:
    """Move the files of a run to their names in a folder, and never let figures stand beside the numbers of another run.

    With figures, the old numbers go first and the new ones come last: a run that is killed in between leaves none. Of two
    runs that end in the same moment the second waits for the first.

    Raises:
        OSError: one of them cannot be replaced, e.g. because a program holds it open.
    """
    if len(parts) == 1:
        ((name, part),) = parts.items()
        os.replace(part, folder / name)  # a rename within one file system is atomic
        return
    numbers = [name for name in parts if name.endswith("_results.json")]
    with locked(folder / _LOCK, patience=_PATIENCE):
        for name in numbers:
            (folder / name).unlink(missing_ok=True)
        for name in sorted(parts, key=lambda name: (name in numbers, name)):
            os.replace(parts[name], folder / name)


def rounded(value: float, digits: int) -> float:
    """The value to so many significant digits; whole numbers as they are."""
    value = float(value)
    return value if value.is_integer() or not math.isfinite(value) else float(f"{value:.{digits}g}")


def one_key_a_line(head: Mapping, results: Mapping[str, Mapping]) -> bytes:
    """The content of a results or study file: {..., "results": {...}}, so that a changed number is one changed line."""
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(entry, allow_nan=False)}" for key, entry in results.items())
    return f'{json.dumps(dict(head))[:-1]}, "results": {{\n{lines}\n}}}}\n'.encode("ascii")


class Results:
    """The findings of one run, and apart from them its wall-clock seconds.

    Args:
        run: which run it is: lab, seed, fast and options.

    Attributes:
        values: the entries of `NN_results.json` by key.
        seconds: those of `NN_seconds.json`, which are never compared: they differ on every machine.
    """

    def __init__(self, **run):
        self.run = run
        self.values: dict[str, dict[str, float]] = {}
        self.seconds: dict[str, float] = {}

    def record(
        self, key: str, value: float, *, rtol: float = RTOL, atol: float = 0.0, draw: bool = False, choice: bool = False
    ) -> float:
        """Keep one finding and return it, so that what is printed is what is kept: whole numbers as they are, others
        rounded to six digits.

        Args:
            key: dotted, the same in every run.
            value: a finite number.
            rtol: a re-run must lie within rtol * |value| (+ atol, for values that are 0 up to rounding).
            draw: the value depends on the random start: the study judges it, no tolerance.
            choice: the value is the best of a few, and another start may choose another.

        Raises:
            ValueError: a key used twice, or a value that is not finite.
        """
        value = rounded(value, 6)
        if key in self.values:
            raise ValueError(f"{key} is recorded twice")
        if not math.isfinite(value):
            raise ValueError(f"{key} is {value}: only finite numbers can be recorded")
        if draw or choice:
            self.values[key] = {"value": value, "draw" if draw else "choice": True}
        else:
            self.values[key] = {"value": value, "rtol": rtol} | ({"atol": atol} if atol else {})
        return value

    def to_json(self) -> bytes:
        """The content of `NN_results.json`."""
        return one_key_a_line(self.run, self.values)

    def seconds_to_json(self) -> bytes:
        """The content of `NN_seconds.json`."""
        return (json.dumps(self.seconds, indent=1, allow_nan=False) + "\n").encode("ascii")


# --- reading a file that anything may have happened to --------------------------------------------------------------


def load(path: Path, head: Mapping[str, type]) -> dict:
    """A results or study file, with what both have in common checked.

    Args:
        path: `NN_….json`.
        head: what stands beside "results", with its types.

    Raises:
        ValueError: one line that names the file and what is wrong with it.
    """

    def fail(what: str):
        raise ValueError(f"{path.name}: {what}")

    def without_doubles(items: list[tuple]) -> dict:
        if len(dict(items)) != len(items):
            raise ValueError("a key stands there twice")
        return dict(items)

    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=without_doubles)
    except OSError as error:
        fail(f"cannot be read ({error.strerror})")
    except (ValueError, RecursionError) as error:
        fail(f"not JSON ({error})")
    expected = {*head, "results"}
    if not isinstance(content, dict) or content.keys() != expected:
        fail(f"must hold {', '.join(sorted(expected))} and nothing else")
    for name, kind in (head | {"results": dict}).items():
        if type(content[name]) is not kind:  # True is no number here
            fail(f"{name!r} must be of type {kind.__name__}, not {content[name]!r:.40}")
    if not content["results"]:
        fail("'results' is empty")
    if f"{content['lab']:02d}" != path.name[:2]:
        fail(f"says that it is from lab {content['lab']}")
    for key, entry in content["results"].items():
        if not re.fullmatch(r"[\w.+-]+", key, re.ASCII):
            fail(f"{key!r:.40} is no key: letters, digits and ._+- only")
        if not isinstance(entry, dict):
            fail(f"{key} must be a dict, not {entry!r:.40}")
    return content


def is_number(value: object) -> bool:
    """Whether it is a finite number, and no True or False."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= 1e300


def read_results(path: Path, *, committed: bool = False) -> dict:
    """A `NN_results.json`.

    Args:
        path: the file.
        committed: whether it is one that re-runs are compared with: a full run with seed 0, and no tolerance above
            0.001.

    Raises:
        ValueError: one line that names the file and what is wrong with it.
    """
    content = load(path, {"lab": int, "seed": int, "fast": bool, "options": dict})
    if committed and content["fast"]:
        raise ValueError(f"{path.name}: from a --fast run; run the lab without it")
    if committed and content["seed"] != 0:
        raise ValueError(f"{path.name}: recorded with seed {content['seed']}, not with the course's 0")
    for key, entry in content["results"].items():
        if problem := _problem(entry, committed):
            raise ValueError(f"{path.name}: {key}: {problem}")
    return content


def _problem(entry: dict, committed: bool) -> str | None:
    """What is wrong with one entry."""
    if set(entry) not in _KINDS:
        return f"must hold value and rtol (and atol), value and draw, or value and choice, not {', '.join(entry)}"
    if not is_number(entry["value"]):
        return f"{entry['value']!r:.40} is not a finite number"
    if kind(entry) != "exact":
        return None if entry[kind(entry)] is True else f"{kind(entry)} must be true"
    for name in ("rtol", "atol"):
        if not is_number(entry.get(name, 0)) or entry.get(name, 0) < 0:
            return f"{name} {entry[name]!r:.40} is not a finite number of 0 or more"
    value, rtol, atol = abs(entry["value"]), entry["rtol"], entry.get("atol", 0.0)
    if committed and rtol > RTOL:
        return f"rtol {rtol:g} is larger than {RTOL:g}: what varies more is a draw"
    if committed and atol > LARGEST_ATOL:
        return f"atol {atol:g} is larger than {LARGEST_ATOL:g}: what varies more is a draw"
    if committed and RTOL * value < atol < value:
        return f"atol {atol:g} is for values that are 0 up to rounding, and {value:g} is not"
    return None


# --- what a number is, and whether it moved -------------------------------------------------------------------------


def kind(entry: Mapping) -> str:
    """ "exact", "draw" or "choice"."""
    return next((name for name in ("draw", "choice") if name in entry), "exact")


def tolerance(entry: Mapping) -> float:
    """By how much an exact number may differ on another machine."""
    return entry["rtol"] * abs(entry["value"]) + entry.get("atol", 0.0)


def moved(committed: dict, rerun: dict, study=None) -> list[str]:
    """One line for each finding of `committed` that `rerun` does not confirm, or that is new.

    Args:
        committed, rerun: as in the files.
        study: the `common.study.Study` by which draws and choices are judged; exact numbers need none.
    """
    if (committed["seed"], committed["options"]) != (rerun["seed"], rerun["options"]):
        return [f"recorded with seed {committed['seed']} and {committed['options']}, not with the course's defaults"]
    old, new = committed["results"], rerun["results"]
    lines = [f"{key}: recorded, but the re-run has no such key" for key in old if key not in new]
    lines += [f"{key}: found by the re-run, but not recorded" for key in new if key not in old]
    for key in old.keys() & new.keys():
        was, now = old[key]["value"], new[key]["value"]
        if kind(old[key]) == "exact":
            if not abs(now - was) <= tolerance(old[key]):
                lines.append(f"{key}: recorded {was:g}, now {now:g} (may differ by {tolerance(old[key]):.2g})")
        elif study is None or not study.values(key):
            lines.append(f"{key}: a {kind(old[key])}, but no study says what other starts give")
        elif kind(old[key]) == "choice":
            if not study.chosen(key, now):
                lines.append(f"{key}: now {now:g}, which none of the study's {study.n} starts chose")
        elif not study.plausible(key, now):
            low, high = study.room(key)
            lines.append(f"{key}: now {now:g}, outside {low:.3g} to {high:.3g}, what {study.n} starts leave room for")
    return sorted(lines)
