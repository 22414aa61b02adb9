"""Puts the measured numbers into the lesson: `python tests/update_lesson.py`, after the labs or a study have run.

A measured number in the lesson stands right behind an invisible marker that names where it comes from:

    the verb puts <!--01:sentence.verb_to_subject-->0.92 of its weight on the subject
    the RNN's error is <!--05:recall.rnn.p25:median-->0.42 (<!--05:recall.rnn.p25:min-->0.1 to ...
    it is larger in <!--05:recall.rnn.p25:count>recall.transformer.p25-->21 of <!--05:recall.rnn.p25:n-->24 starts

01 is the lab, then comes the key in week6/outputs/01_results.json. Alone it means the number of this run; :median, :q10,
:q90, :min, :max and :n mean the starts in 01_study.json, and :count with one of > >= < <= = and a number or another key
means in how many of them that holds. Blanks inside a marker do not matter. The notations of numbers are 0.92, 16,777,216
and 3.4e-04.

A number shows no digit that another machine could not repeat: of an exact number the last digit is not smaller than what
its tolerance allows, of a draw two digits are shown, and a draw of this run has to lie where the study leaves room.

This script rewrites the numbers in both languages, keeps their notation and as many of their digits as hold, fits the
Korean particles behind them, and lists what changed, because a sentence around a number may have become false.
"""

from __future__ import annotations

import json
import operator
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from common.results import RTOL, kind, tolerance, write_whole
from common.study import STATISTICS, Study

LESSONS = (ROOT / "week6" / "README.md", ROOT / "week6" / "README.en.md")
OUTPUTS = ROOT / "week6" / "outputs"

_COMMENT = re.compile(r"<!--(.*?)-->", re.DOTALL)  # every comment in a lesson is a marker, or a mistake in one
_PARTICLE = re.compile(r"(<!--(?:(?!-->)[\s\S])*-->-?[\d.,]*(\d))(을|를|은|는|이|가|과|와|으로|로)(?=[\s,.])")
_AFTER_CONSONANT = {"를": "을", "는": "은", "가": "이", "와": "과", "로": "으로"}
_AFTER_VOWEL = {consonant: vowel for vowel, consonant in _AFTER_CONSONANT.items()}
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.(?P<decimals>\d+))?(?P<exponent>e[+-]\d\d+)?")
_GLUED_BEFORE = re.compile(r"[\d.,]$|(?:^|[\s(|])[-\u2212]$")  # a digit or a sign in front of the marker belongs to the number
_GLUED_BEHIND = re.compile(r"[eE][-+]?\d|[.,]\d|\s?[x*\u00d7]\s?10\b")

_KEY = r"[\w.+-]+"
_MARKER = re.compile(
    rf"(?P<lab>\d\d):(?P<key>{_KEY})(?::(?:(?P<statistic>{'|'.join(STATISTICS)}|n)|count(?P<sign>[<>]=?|=)(?P<than>{_KEY})))?",
    re.ASCII,
)
_SIGNS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "=": operator.eq}

# --- numbers and markers in a text ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """A number in the lesson and the marker in front of it.

    Attributes:
        key: the marker without blanks, "01:sentence.distance" or "05:recall.rnn:median".
        number: as it is written, "" if no number follows the marker.
        start, end: of the number in the text.
        line: counted from 1.
        glued: whether a reader sees another number, because of what stands around it: -<!--01:a-->0.5, 0.5e3.
    """

    key: str
    number: str
    start: int
    end: int
    line: int
    glued: bool = False


def shown_numbers(text: str) -> list[Shown]:
    """Every marker of a lesson with the number behind it, in order."""
    found = []
    for marker in _COMMENT.finditer(text):
        number = _NUMBER.match(text, marker.end())
        end = number.end() if number else marker.end()
        end -= text[marker.end() : end].endswith(",")  # a comma of the sentence
        line = text.count("\n", 0, marker.start()) + 1
        glued = bool(_GLUED_BEFORE.search(text[: marker.start()][-3:]) or _GLUED_BEHIND.match(text, end))
        key = re.sub(r"\s+", "", marker[1])
        found.append(Shown(key, text[marker.end() : end], marker.end(), end, line, glued))
    return found


def rounded_like(value: float, example: str) -> str:
    """The value in the notation of the example, with as many digits: (0.12345, "0.99") -> "0.12".

    Raises:
        ValueError: the example is not a number.
    """
    match = _NUMBER.fullmatch(example)
    if not match:
        raise ValueError(f"{example!r} is not a number")
    number = f"{value:,.{len(match['decimals'] or '')}{'e' if match['exponent'] else 'f'}}"
    return number if number.strip("-0.,") else number.lstrip("-")  # no "-0.00"


def unit(number: str) -> float:
    """What one more in the last digit means: "0.92" -> 0.01, "3.4e-04" -> 1e-05, "12" -> 1."""
    match = _NUMBER.fullmatch(number)
    return 10.0 ** (int((match["exponent"] or "e0")[1:]) - len(match["decimals"] or ""))


def digits(number: str) -> int:
    """How many digits a number tells: "0.042" -> 2, "1.00" -> 3, "350" -> 2, because its 0 may be a filler."""
    mantissa = number.partition("e")[0].lstrip("-").replace(",", "")
    return len((mantissa.replace(".", "") if "." in mantissa else mantissa.rstrip("0")).lstrip("0"))


def with_particles(text: str) -> str:
    """The Korean text with the particle behind each number as the number is read aloud: 0.92를 (i), but 0.93을 (sam)."""

    def fitting(match: re.Match) -> str:
        number, digit, particle = match.groups()
        vowel = digit in "2459" or (particle in ("로", "으로") and digit in "178")  # il, chil, pal end in l, and take 로
        return number + (_AFTER_VOWEL if vowel else _AFTER_CONSONANT).get(particle, particle)

    return _PARTICLE.sub(fitting, text)


# --- what a marker stands for ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """What a marker names.

    Attributes:
        value: the number, unrounded.
        holds: whether a shown number is honest, where something else than the value would be, too.
        defends: whether all digits of a shown number hold.
    """

    value: float
    holds: Callable[[str], bool]
    defends: Callable[[str], bool]


class Measured:
    """Everything that the labs recorded, and what the studies saw.

    Args:
        entries: those of the results files, under "01:key".
        studies: by lab, "01"; a lab without one may be missing.
    """

    def __init__(self, entries: Mapping[str, Mapping], studies: Mapping[str, Study]):
        self.entries, self.studies = entries, studies

    @classmethod
    def read(cls, folder: Path = OUTPUTS) -> Measured:
        entries, studies = {}, {}
        for path in sorted(folder.glob("[0-9][0-9]_results.json")):
            lab = path.name[:2]
            results = json.loads(path.read_text(encoding="ascii"))["results"]
            entries |= {f"{lab}:{key}": entry for key, entry in results.items()}
            studies[lab] = Study(int(lab), folder)
        return cls(entries, studies)

    def source(self, marker: str) -> Source | None:
        """What the marker (without blanks) names; None if there is no such thing."""
        match = _MARKER.fullmatch(marker)
        entry = self.entries.get(f"{match['lab']}:{match['key']}") if match else None
        if entry is None:
            return None
        study = self.studies.get(match["lab"])
        if not match["statistic"] and not match["sign"]:
            return self._of_this_run(entry, match["key"], study)
        if not study or not study.values(match["key"]):
            return None
        if match["statistic"] == "n":
            return _plain(study.n)
        if match["sign"]:
            count = self._count(study, match["key"], _SIGNS[match["sign"]], match["than"])
            return None if count is None else _plain(count)
        return _statistic(study.statistic(match["key"], match["statistic"]), entry)

    def _of_this_run(self, entry: Mapping, key: str, study: Study | None) -> Source | None:
        value = entry["value"]
        if kind(entry) == "exact":
            # within one in the last digit, so that the lesson is still right after a run on another machine
            return Source(
                value, lambda n: _near(n, value, min(tolerance(entry), unit(n))), lambda n: unit(n) >= tolerance(entry)
            )
        if not study or not study.values(key):
            return None
        if kind(entry) == "choice":
            return Source(value, lambda n: any(_near(n, chosen) for chosen in study.values(key)), lambda n: True)
        return Source(_for_a_reader(value), lambda n: study.plausible(key, _number(n)), lambda n: digits(n) <= 2)

    def _count(self, study: Study, key: str, compare: Callable, than: str) -> int | None:
        try:
            limit = float(than)
        except ValueError:
            return study.count(key, than, where=compare)
        return study.count(key, where=lambda value: compare(value, limit))


def _number(shown: str) -> float:
    return float(shown.replace(",", ""))


def _near(shown: str, value: float, leeway: float = 0.0) -> bool:
    """Whether the shown number is the value, rounded."""
    return abs(_number(shown) - value) <= leeway + unit(shown) * (0.5 + 1e-9)


def _plain(value: int) -> Source:
    """A number that no machine changes."""
    return Source(value, lambda n: _number(n) == value, lambda n: True)


def _for_a_reader(value: float) -> float:
    """A draw from 100 on with two digits; below, the notation sees to that."""
    return float(f"{value:.2g}") if abs(value) >= 100 else value


def _statistic(value: float, entry: Mapping) -> Source:
    """A statistic over starts: of draws two digits hold, of exact numbers as many as in one start."""
    if kind(entry) == "draw":
        shown = _for_a_reader(value)
        return Source(shown, lambda n: _near(n, shown), lambda n: digits(n) <= 2)
    least = RTOL * abs(value) if kind(entry) == "exact" and entry["rtol"] else 0.0
    return Source(value, lambda n: _near(n, value), lambda n: unit(n) >= least)


# --- a lesson and what was measured ---------------------------------------------------------------------------------


def complaints(text: str, measured: Measured) -> list[str]:
    """One line for each marker that names nothing, or is not followed by what it names."""
    lines = []
    for shown in shown_numbers(text):
        source = measured.source(shown.key)
        if source is None:
            lines.append(f"line {shown.line}: no record {shown.key}")
        elif not shown.number:
            lines.append(f"line {shown.line}: no number behind {shown.key}")
        elif shown.glued:
            lines.append(f"line {shown.line}: what stands around {shown.key} makes {shown.number} another number")
        elif not source.holds(shown.number):
            right = rounded_like(source.value, shown.number)
            lines.append(f"line {shown.line}: {shown.key} is {right}, the lesson shows {shown.number}")
    return lines


def undefended(text: str, measured: Measured) -> list[str]:
    """One line for each number that shows a digit which another machine, or another start, would not repeat."""
    lines = []
    for shown in shown_numbers(text):
        source = measured.source(shown.key)
        if source is not None and shown.number and not source.defends(shown.number):
            lines.append(f"line {shown.line}: {shown.key}: not all digits of {shown.number} hold")
    return lines


def updated(text: str, measured: Measured) -> str:
    """The text with every number behind a marker as measured, and Korean particles to match; what has no record stays."""
    for shown in reversed(shown_numbers(text)):
        source = measured.source(shown.key)
        if shown.number and source is not None:
            text = text[: shown.start] + _fitting(source, shown.number) + text[shown.end :]
    return with_particles(text)


def _fitting(source: Source, example: str) -> str:
    """The value like the example, without decimals that do not hold."""
    number = rounded_like(source.value, example)
    while not source.defends(number) and "." in number:
        number = rounded_like(source.value, re.sub(r"\.?\d(?=$|e)", "", number, count=1))
    return number


def main() -> int:
    measured, left, new = Measured.read(), 0, {}
    for path in LESSONS:
        old = path.read_text(encoding="utf-8")
        new[path] = updated(old, measured)
        for line in complaints(old, measured):
            print(f"{path.name} {line}")
        left += len(complaints(new[path], measured)) + len(undefended(new[path], measured))
    try:
        for path, text in new.items():
            write_whole(path, text.encode("utf-8"))
    except OSError as error:
        sys.exit(f"{path.name} could not be written and is as it was: {error.strerror}")
    print(f"{left} markers could not be filled in" if left else "Both lessons show the measured numbers.")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
