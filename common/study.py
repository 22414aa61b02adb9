"""What many random starts found: `NN_study.json`, for labs, figures, the lesson and the tests.

A lab run is one draw of everything. `python -m week6 --study 24` runs each lab with the seeds 1 to 24 and collects of
every key the median, the quantiles, the extremes, and the values themselves, in the order of the seeds:

    study = Study(5)
    study.median("recall.rnn.p25"), study.q10("recall.rnn.p25"), study.n
    study.count("recall.rnn.p25", where=lambda error: error > 0.5)                      # in how many starts
    study.count("recall.rnn.p25", "recall.transformer.p25", where=lambda r, t: r > t)   # start by start

Where there is no study yet, `bool(study)` is false, `values` gives () and everything else None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from common.results import RTOL, is_number, load, one_key_a_line, rounded

OUTPUTS = Path(__file__).resolve().parents[1] / "week6" / "outputs"
STATISTICS = {"min": 0.0, "q10": 0.1, "median": 0.5, "q90": 0.9, "max": 1.0}  # each the quantile of so much
DIGITS = 4  # of each value that is kept


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which a share of the ordered values lies, on a straight line between neighbours (NumPy's "linear")."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = math.ceil(place)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def summary(values: Sequence[float]) -> dict:
    """The entry of one key: its statistics, and the values unless all starts agree."""
    kept = [rounded(value, DIGITS) for value in values]
    entry = {name: float(f"{quantile(sorted(kept), share):.12g}") for name, share in STATISTICS.items()}
    return entry if len(set(kept)) == 1 else entry | {"values": kept}


def collect(runs: Sequence[dict]) -> tuple[bytes, list[str]]:
    """The content of `NN_study.json` from the results of all starts, and the keys that some of them lack."""
    keys = list(dict.fromkeys(key for run in runs for key in run["results"]))
    missing = [key for key in keys if any(key not in run["results"] for run in runs)]
    head = {"lab": runs[0]["lab"], "n": len(runs), "fast": runs[0]["fast"]}
    entries = {k: summary([run["results"][k]["value"] for run in runs]) for k in keys if k not in missing}
    return one_key_a_line(head, entries), missing


def read_study(path: Path, *, committed: bool = False) -> dict:
    """A `NN_study.json`; `committed` refuses one of --fast runs.

    Raises:
        ValueError: one line that names the file and what is wrong with it.
    """
    content = load(path, {"lab": int, "n": int, "fast": bool})
    if content["n"] < 1:
        raise ValueError(f"{path.name}: n is {content['n']}: no starts")
    if committed and content["fast"]:
        raise ValueError(f"{path.name}: from --fast runs; make the study without it")
    for key, entry in content["results"].items():
        if problem := _problem(entry, content["n"]):
            raise ValueError(f"{path.name}: {key}: {problem}")
    return content


def _problem(entry: Mapping, n: int) -> str | None:
    """What is wrong with one entry."""
    values = entry.get("values", [])
    if not set(STATISTICS) <= set(entry) <= {*STATISTICS, "values"} or not isinstance(values, list):
        return f"must hold {', '.join(STATISTICS)} (and values), not {', '.join(entry)}"
    statistics = [entry[name] for name in STATISTICS]
    if not all(map(is_number, [*statistics, *values])):
        return "not all of it are finite numbers"
    if statistics != sorted(statistics):
        return f"{', '.join(STATISTICS)} must not fall"
    if values and (len(values), min(values), max(values)) != (n, entry["min"], entry["max"]):
        return f"its values must be {n}, from min to max"
    if not values and entry["min"] != entry["max"]:
        return "its values are missing"
    return None


class Study:
    """One lab's study.

    Args:
        lab: number of the lab.
        folder: where `NN_study.json` lies; the course's by default.

    Attributes:
        n: the number of starts, 0 if there is no study.
        keys: what it knows.

    Raises:
        ValueError: the file is there, but spoilt; the message is one line that names it.
    """

    def __init__(self, lab: int, folder: Path = OUTPUTS, *, committed: bool = False):
        path = Path(folder) / f"{lab:02d}_study.json"
        content = read_study(path, committed=committed) if path.is_file() else {"n": 0, "results": {}}
        self.n: int = content["n"]
        self._entries: dict[str, dict] = content["results"]
        self.keys = self._entries.keys()

    def __bool__(self) -> bool:
        return self.n > 0

    def statistic(self, key: str, name: str) -> float | None:
        """One of STATISTICS; None for a key that the study does not know."""
        return self._entries.get(key, {}).get(name)

    def median(self, key: str) -> float | None:
        return self.statistic(key, "median")

    def q10(self, key: str) -> float | None:
        return self.statistic(key, "q10")

    def q90(self, key: str) -> float | None:
        return self.statistic(key, "q90")

    def min(self, key: str) -> float | None:
        return self.statistic(key, "min")

    def max(self, key: str) -> float | None:
        return self.statistic(key, "max")

    def values(self, key: str) -> tuple[float, ...]:
        """What each start gave, in the order of the seeds; () for a key that the study does not know."""
        entry = self._entries.get(key)
        return () if entry is None else tuple(entry.get("values", [entry["median"]] * self.n))

    def count(self, *keys: str, where: Callable[..., bool]) -> int | None:
        """In how many starts `where` holds of the values under `keys`; None if the study does not know one of them."""
        columns = [self.values(key) for key in keys]
        return sum(bool(where(*row)) for row in zip(*columns, strict=True)) if all(columns) else None

    def room(self, key: str) -> tuple[float, float] | None:
        """Between what one more start may lie: the span of all starts, and half of it again on either side.

        One more start leaves the bare span of 24 in 2 of 25 cases, however good the code. It leaves this room in 1 of 700
        (normal values; 1 of 160 for uniform or exponential ones). Values above 0 that span a factor of ten or more are
        measured by their logarithms. Where all starts agree, what an exact number may move is left: a thousandth.
        """
        if key not in self._entries:
            return None
        low, high = self._entries[key]["min"], self._entries[key]["max"]
        if low > 0 and high >= 10 * low:
            factor = math.sqrt(high / low)
            return low / factor, high * factor
        room = max((high - low) / 2, RTOL * max(abs(low), abs(high)))
        return low - room, high + room

    def plausible(self, key: str, value: float) -> bool:
        """Whether one more start may give this value; false for a key that the study does not know."""
        room = self.room(key)
        return room is not None and room[0] <= value <= room[1]

    def chosen(self, key: str, value: float) -> bool:
        """Whether a start of the study made this choice."""
        return rounded(value, DIGITS) in self.values(key)
