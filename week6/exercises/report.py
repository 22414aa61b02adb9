"""How verdicts are shown: wrapped to the console, in colour where it has colours, in Korean where it can print it."""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

from week6.exercises.catalogue import LAB_OF, NAMES
from week6.exercises.verdict import KOREAN, NOT_STARTED, SOLVED, WRONG, Verdict

COLOURS = {SOLVED: "32", WRONG: "31", NOT_STARTED: "33"}  # green, red, yellow: each stands beside its word
WIDTH = 80
BAR = 26


def console_prints_korean(stream: TextIO) -> bool:
    try:
        "한국어".encode(getattr(stream, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def console_has_colours(stream: TextIO) -> bool:
    """A terminal that nobody asked to stay plain (https://no-color.org)."""
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    if os.name == "nt":
        os.system("")  # turns escape sequences on in the Windows console
    return True


def display_width(text: str) -> int:
    """Columns on a console: a Korean letter takes two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def wrapped(text: str, width: int) -> str:
    """Each line broken at spaces to fit; what continues a line is indented as far as its text."""
    return "\n".join(_wrapped_line(line, width) for line in text.split("\n"))


def _wrapped_line(line: str, width: int) -> str:
    if display_width(line) <= width:
        return line
    body = line.lstrip(" ")
    indent = len(line) - len(body)
    hang = line.index(" = ") + 3 if " = " in line[:30] and indent >= 4 else indent + 3 * (body[1:2] == ")")
    lines, current = [], " " * indent
    for word in body.split(" "):
        if current.strip() and display_width(current) + display_width(word) > width:
            lines.append(current.rstrip(" "))
            current = " " * hang
        current += word + " "
    return "\n".join([*lines, current.rstrip(" ")])


@dataclass(frozen=True)
class Console:
    """What a console can show."""

    korean: bool
    colours: bool
    width: int = WIDTH

    @staticmethod
    def of(stream: TextIO) -> Console:
        width = min(shutil.get_terminal_size((WIDTH, 24)).columns, 100) if stream.isatty() else WIDTH
        return Console(console_prints_korean(stream), console_has_colours(stream), max(width, 40))

    def coloured(self, text: str, outcome: str) -> str:
        return f"\033[{COLOURS[outcome]}m{text}\033[0m" if self.colours else text

    def fitted(self, text: str) -> str:
        """Wrapped, after letters that the console may lack have become escapes, which take more room."""
        return wrapped(text if self.korean else text.encode("ascii", "backslashreplace").decode(), self.width)

    def word(self, outcome: str) -> str:
        return f"{outcome} ({KOREAN[outcome]})" if self.korean else outcome

    def explanation(self, verdict: Verdict) -> str:
        """What is wrong, and the lesson's section to read."""
        return self.fitted(verdict.message(korean=self.korean) + self.lesson(verdict))

    def lesson(self, verdict: Verdict) -> str:
        """Links to the section in each language that is shown; letters that the console may lack are escaped."""
        if not verdict.section:
            return ""
        korean, english = (verdict.section.link(korean=language) for language in (True, False))
        if self.korean:
            return f"\n강의 노트: {korean}\nLesson: {english}"
        return "\nLesson: " + "".join(letter if letter.isascii() else percent(letter) for letter in english)

    def both(self, english: str, korean: str) -> list[str]:
        """A line in each language that is shown."""
        return [self.fitted(line) for line in [korean] * bool(korean and self.korean) + [english]]

    def line(self, name: str, verdict: Verdict) -> str:
        """One line of the list."""
        return f"  {name:<30} {self.coloured(self.word(verdict.outcome), verdict.outcome)}"

    def bar(self, verdicts: Mapping[str, Verdict]) -> str:
        """How far one is."""
        outcomes = [verdict.outcome for verdict in verdicts.values()]
        n_solved, n_wrong = outcomes.count(SOLVED), outcomes.count(WRONG)
        filled = BAR * n_solved // len(outcomes)
        bar = self.coloured("#" * filled, SOLVED) + "." * (BAR - filled)
        return f"[{bar}] {n_solved} of {len(outcomes)} solved, {n_wrong} wrong, {outcomes.count(NOT_STARTED)} not started"

    def next_step(self, verdicts: Mapping[str, Verdict], file_name: str) -> str:
        """The first exercise that is not solved, where it stands, and where to read about it.

        Where only some were graded and all of these are solved, it is the one after them.
        """
        name = next((name for name in NAMES if name in verdicts and verdicts[name].outcome != SOLVED), None)
        later = NAMES[max(NAMES.index(name) for name in verdicts) + 1 :]
        if name is None and (len(verdicts) == len(NAMES) or not later):
            return "모두 풀었습니다! All solved!" if self.korean else "All solved!"
        name = name or later[0]
        verdict = verdicts.get(name, Verdict(NOT_STARTED))
        where = f" ({file_name}, line {verdict.line})" if verdict.line else ""
        english = f"{'Put right' if verdict.outcome == WRONG else 'Next'}: {name}{where}, shown in week6/{LAB_OF[name]}"
        korean = f"{'고칠' if verdict.outcome == WRONG else '다음'} 함수: {name}\n" if self.korean else ""
        return self.fitted(korean + english + self.lesson(verdict))


def percent(letter: str) -> str:
    return "".join(f"%{byte:02X}" for byte in letter.encode())
