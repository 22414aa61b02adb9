"""Puts the recorded numbers into the lesson: `python tests/update_lesson.py`, after the labs have run.

A measured number in the lesson stands right behind an invisible marker that names its record:

    the verb puts <!--01:sentence.verb_to_subject-->0.92 of its weight on the subject

01 is the lab, the rest the key in week6/outputs/01_results.json. The number is the recorded one, rounded to the digits
that are shown; the notations are 0.92, 16,777,216 and 3.4e-04. This script rewrites the numbers in both languages, keeps
their notation and digits, fits the Korean particles behind them, and lists what changed, because a sentence around a
number may have become false.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LESSONS = (ROOT / "week6" / "README.md", ROOT / "week6" / "README.en.md")
OUTPUTS = ROOT / "week6" / "outputs"

_MARKER = re.compile(r"<!--(\d\d:\S+?)-->")
_PARTICLE = re.compile(r"(<!--\d\d:\S+?-->-?[\d.,]*(\d))(을|를|은|는|이|가|과|와|으로|로)(?=[\s,.])")
_AFTER_CONSONANT = {"를": "을", "는": "은", "가": "이", "와": "과", "로": "으로"}
_AFTER_VOWEL = {consonant: vowel for vowel, consonant in _AFTER_CONSONANT.items()}
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.(?P<decimals>\d+))?(?P<exponent>e[+-]\d\d+)?")


@dataclass(frozen=True)
class Shown:
    """A number in the lesson and the record that its marker names.

    Attributes:
        key: as in the marker, "01:sentence.distance".
        number: as it is written, "" if no number follows the marker.
        start, end: of the number in the text.
        line: counted from 1.
    """

    key: str
    number: str
    start: int
    end: int
    line: int


def shown_numbers(text: str) -> list[Shown]:
    """Every marker of a lesson with the number behind it, in order."""
    found = []
    for marker in _MARKER.finditer(text):
        number = _NUMBER.match(text, marker.end())
        end = number.end() if number else marker.end()
        end -= text[marker.end() : end].endswith(",")  # a comma of the sentence
        line = text.count("\n", 0, marker.start()) + 1
        found.append(Shown(marker[1], text[marker.end() : end], marker.end(), end, line))
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


def with_particles(text: str) -> str:
    """The Korean text with the particle behind each number as the number is read aloud: 0.92를 (i), but 0.93을 (sam)."""

    def fitting(match: re.Match) -> str:
        number, digit, particle = match.groups()
        vowel = digit in "2459" or (particle in ("로", "으로") and digit in "178")  # il, chil, pal end in l, and take 로
        return number + (_AFTER_VOWEL if vowel else _AFTER_CONSONANT).get(particle, particle)

    return _PARTICLE.sub(fitting, text)


def recorded_values(folder: Path = OUTPUTS) -> dict[str, float]:
    """All findings of the labs, under "01:key"."""
    values = {}
    for path in sorted(folder.glob("[0-9][0-9]_results.json")):
        results = json.loads(path.read_text(encoding="ascii"))["results"]
        values |= {f"{path.name[:2]}:{key}": entry["value"] for key, entry in results.items()}
    return values


def complaints(text: str, values: Mapping[str, float]) -> list[str]:
    """One line for each marker that names no record or is not followed by the recorded number."""
    lines = []
    for shown in shown_numbers(text):
        if shown.key not in values:
            lines.append(f"line {shown.line}: no record {shown.key}")
        elif not shown.number:
            lines.append(f"line {shown.line}: no number behind {shown.key}")
        elif shown.number != (right := rounded_like(values[shown.key], shown.number)):
            lines.append(f"line {shown.line}: {shown.key} is {right}, the lesson shows {shown.number}")
    return lines


def updated(text: str, values: Mapping[str, float]) -> str:
    """The text with every number behind a marker as recorded, and Korean particles to match; what has no record stays."""
    for shown in reversed(shown_numbers(text)):
        if shown.number and shown.key in values:
            text = text[: shown.start] + rounded_like(values[shown.key], shown.number) + text[shown.end :]
    return with_particles(text)


def main() -> int:
    values, left = recorded_values(), 0
    for path in LESSONS:
        old = path.read_text(encoding="utf-8")
        new = updated(old, values)
        for line in complaints(old, values):
            print(f"{path.name} {line}")
        path.write_text(new, encoding="utf-8", newline="\n")
        left += len(complaints(new, values))
    print(f"{left} markers could not be filled in" if left else "Both lessons show the recorded numbers.")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
