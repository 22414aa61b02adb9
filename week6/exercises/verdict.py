"""What the grader says: mistakes, verdicts, and the lesson's sections they point at. Light: does not load torch."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

SOLVED, WRONG, NOT_STARTED = "solved", "wrong", "not started"
KOREAN = {SOLVED: "정답", WRONG: "오답", NOT_STARTED: "시작 전"}


@dataclass(frozen=True)
class Section:
    """A section of the lesson, by its heading in both languages."""

    korean: str
    english: str

    def link(self, *, korean: bool) -> str:
        """File and anchor, from the top folder of the repository."""
        return f"week6/README.md#{anchor(self.korean)}" if korean else f"week6/README.en.md#{anchor(self.english)}"


def anchor(heading: str) -> str:
    """What GitHub makes of a heading: lower case, no punctuation, hyphens for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@dataclass(frozen=True)
class Mistake:
    """A mistake, and the sentence that explains it in both languages: symptom, then likely cause.

    Attributes:
        change: keyword arguments with which the exercise's model makes this mistake; empty where it is found otherwise.
        section: where the lesson explains it, if not in the exercise's own section.
    """

    name: str
    korean: str
    english: str
    change: dict[str, Any] = field(default_factory=dict)
    section: Section | None = None

    def about(self, **values: object) -> Mistake:
        """The same with {placeholders} filled in."""
        return replace(self, korean=self.korean.format(**values), english=self.english.format(**values))


@dataclass(frozen=True)
class Verdict:
    """Of one function.

    Attributes:
        outcome: SOLVED, WRONG or NOT_STARTED.
        mistakes: what is wrong.
        example: the smallest call that shows it, where that helps, and what the function printed in it.
        section: of the lesson, to read on.
        line: where the function begins in the student's file, if known.
    """

    outcome: str
    mistakes: tuple[Mistake, ...] = ()
    example: str = ""
    section: Section | None = None
    line: int | None = None

    def message(self, *, korean: bool = True) -> str:
        """What the student reads: Korean (where the console can print it), English, and the example if there is one."""
        texts = [self._list("실수가 둘 이상 겹쳐 있습니다.", [mistake.korean for mistake in self.mistakes])] if korean else []
        texts.append(self._list("More than one mistake at once.", [mistake.english for mistake in self.mistakes]))
        return "\n".join(texts + [self.example] * bool(self.example))

    @staticmethod
    def _list(heading: str, sentences: list[str]) -> str:
        if len(sentences) == 1:
            return sentences[0]
        return "\n".join([heading, *(f"  {number}) {sentence}" for number, sentence in enumerate(sentences, 1))])

    def to_json(self) -> dict[str, Any]:
        return {
            "outcome": self.outcome,
            "mistakes": [[mistake.name, mistake.korean, mistake.english] for mistake in self.mistakes],
            "example": self.example,
            "section": [self.section.korean, self.section.english] if self.section else None,
            "line": self.line,
        }

    @staticmethod
    def from_json(values: dict[str, Any]) -> Verdict:
        section = Section(*values["section"]) if values["section"] else None
        mistakes = tuple(Mistake(*mistake) for mistake in values["mistakes"])
        return Verdict(values["outcome"], mistakes, values["example"], section, values["line"])
