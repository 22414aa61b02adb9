"""The lesson tells what the labs measured, the same in both languages, in few numbers; its links, figures, commands and code
work, and so do the commands of the README."""

import ast
import errno
import math
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
import torch.nn.functional as F

import update_lesson
from common.lab import Lab
from common.study import Study, collect
from conftest import SCRIPTS, load, run_script
from update_lesson import (
    LESSONS,
    OUTPUTS,
    ROOT,
    Measured,
    complaints,
    digits,
    rounded_like,
    shown_numbers,
    undefended,
    unit,
    updated,
    with_particles,
)

KOREAN, ENGLISH = LESSONS
NUMBERS = [int(script.name[:2]) for script in SCRIPTS]
EACH_LAB = pytest.mark.parametrize("lab", NUMBERS)
BOTH = pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in LESSONS])

# --- what a lesson consists of --------------------------------------------------------------------------------------


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def prose(text: str) -> str:
    """The text without its blocks of code; the lines stay where they are."""
    return re.sub(r"^```.*?^```", lambda block: "\n" * block[0].count("\n"), text, flags=re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def headings(text: str) -> list[tuple[int, str]]:
    """(level, title) of each heading."""
    return [(len(marks), title) for marks, title in re.findall(r"^(#+) (.+)$", prose(text), flags=re.MULTILINE)]


def sections(text: str) -> list[str]:
    """The text from one heading to the next."""
    return re.split(r"^#+ .+$", prose(text), flags=re.MULTILINE)


def figures(text: str) -> list[tuple[str, str]]:
    """(alternative text, file) of each picture."""
    return re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", text)


def anchors(text: str) -> set[str]:
    """What GitHub makes of the headings: lower case, no punctuation, hyphens for spaces, numbered if they repeat."""
    found, seen = set(), Counter()
    for _, title in headings(text):
        title = re.sub(r"<!--.*?-->|`", "", title).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", title).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def dead_links(text: str, path: Path) -> list[str]:
    """Links and pictures inside the repository that lead nowhere; `path` is the file the text stands in."""
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        file, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        at = path.parent / file
        inside = at.resolve().is_relative_to(ROOT.resolve()) and at.exists()
        there = text if not file else read(at) if anchor and at.is_file() else ""
        if not inside or (anchor and anchor not in anchors(there)):
            dead.append(target)
    return dead


def differences(one: str, two: str) -> list[str]:
    """What two languages do not have in common, section by section; the order of a sentence's numbers is free."""
    found = []
    if [level for level, _ in headings(one)] != [level for level, _ in headings(two)]:
        found.append("headings")
    if [file for _, file in figures(one)] != [file for _, file in figures(two)]:
        found.append("figures")
    if commands(one) != commands(two):
        found.append("commands")
    for number, pair in enumerate(zip(sections(one), sections(two), strict=False)):
        a, b = (Counter((shown.key, shown.number) for shown in shown_numbers(section)) for section in pair)
        if a != b:
            found.append(f"markers of section {number}: {sorted((a - b) + (b - a))}")
    return found


def chapters(text: str) -> dict[str, str]:
    """The lesson by its chapters: "title", "1" to "8", and between "2" and "3" the sections "Lab 1" to "Lab 5"."""
    first, *rest = re.split(r"^(?:## (\d)|### (Lab \d))\. .*$", text, flags=re.MULTILINE)
    names = [number or lab for number, lab in zip(rest[::3], rest[1::3], strict=True)]
    return {"title": first} | dict(zip(names, rest[2::3], strict=True))


def paragraphs(text: str, *, folded: bool) -> list[str]:
    """Paragraphs, the items of lists among them, without headings, tables, pictures, code and formulas of their own.

    Args:
        text: Markdown.
        folded: whether to look into <details>, too.
    """
    text = prose(text) if folded else re.sub(r"<details>.*?</details>", "", prose(text), flags=re.DOTALL)
    text = re.sub(r"\$\$.*?\$\$", "", text, flags=re.DOTALL)
    text = re.sub(r"^(?:#|\||!\[|</?details>|<summary>).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^> ?", "", text, flags=re.MULTILINE)
    return [part.strip() for part in re.split(r"\n\s*\n|\n(?=\s*(?:[-*+]|\d+\.) )", text) if part.strip()]


_UNCOUNTED = re.compile(
    r"`[^`]*`|\$[^$]+\$|\]\([^)]*\)"  # code, formulas, where a link leads
    r"|<!--[^>]*:\s*n\s*-->\d+|(?s:\(a\) .*)"  # how many starts the study has; options
    r"|^\s*\d+\. |\*\*\d+\. "  # the numbers of lists and of questions
    r"|\b(?:lab|part|section|question|exercise|level)s? \d+(?:(?:, | and | to )\d+)*"  # names of parts
    r"|연습 \d+|\d+[장절](?![가-힣]*\s*(?:그림|열지도))|\d+번 (?:질문|문제)"
    r"|(?<![\d.,])(?:19\d\d|20[0-3]\d)(?![\d.,]*\d)"  # years
    r"|(?a-i:\b[A-Z][A-Za-z]*-\d+\b|\b[A-Za-z]\w*\d\w*|\b\d\d_\w+|\b11-7\d\d\b)",  # GPT-3, W_1, 01_masks, CMU 11-747
    re.IGNORECASE | re.MULTILINE,
)


def count_numbers(paragraph: str) -> int:
    """How many numbers a reader meets: measured ones and settings alike, and each end of a range.

    What is written as a word is not counted ("four heads"), nor is what tells no quantity: names (Lab 2, GPT-3), years, code,
    formulas, 0 and 1 where they are not measured ("mean 0", "sums to 1"), the options of a question from (a) on, and "of 24
    starts", which every claim about the study says.
    """
    marked = re.sub(r"<!--.*?-->", "\N{CURRENCY SIGN}", _UNCOUNTED.sub(" ", paragraph), flags=re.DOTALL)
    found = re.findall(r"\N{CURRENCY SIGN}?\d+(?:[.,]\d+)*(?:e[+-]?\d+)?", marked)
    return sum(number not in ("0", "1") for number in found)


def dense(text: str) -> dict[str, list[str]]:
    """By chapter, the paragraphs with more than three numbers; the folded answers of "Check yourself" count, others do not."""
    found = {}
    for name, chapter in chapters(text).items():
        many = [part for part in paragraphs(chapter, folded=name == "6") if count_numbers(part) > 3]
        if many:
            found[name] = many
    return found


def cells_to_try(text: str) -> dict[int, tuple[str, str]]:
    """By lab, the chapter in which its cell to try stands, and the code; the first line is "# try it after Lab N"."""
    found = {}
    for name, chapter in chapters(text).items():
        for code, lab in re.findall(r"^```python\n(# try it after Lab (\d)\n.*?)^```", chapter, flags=re.DOTALL | re.MULTILINE):
            assert int(lab) not in found, f"two cells to try after Lab {lab}"
            found[int(lab)] = (name, code)
    return found


def lab_headings(lab: int) -> list[str]:
    """The numbered sections of a lab's script: "2. Why divide by sqrt(d_k)"."""
    (script,) = (path for path in SCRIPTS if path.name.startswith(f"{lab:02d}_"))
    return re.findall(r"^# ## (\d+\. .+)$", read(script), flags=re.MULTILINE)


def lesson_headings(text: str, lab: int) -> list[str]:
    """The numbered sections of the lesson on a lab, written as on the console: √d_k is sqrt(d_k)."""
    found = re.findall(r"^#### (\d+\. .+)$", prose(chapters(text)[f"Lab {lab}"]), flags=re.MULTILINE)
    return [re.sub(r"√(\w+)", r"sqrt(\1)", title).replace("`", "") for title in found]


def headings_that_differ(lab: int) -> list[str]:
    """The English lesson has the script's numbered headings, the Korean one as many with the same numbers."""
    script, english = lab_headings(lab), lesson_headings(read(ENGLISH), lab)
    korean = [title.partition(" ")[0] for title in lesson_headings(read(KOREAN), lab)]
    same_numbers = korean == [title.partition(" ")[0] for title in script]
    return sorted(set(script) ^ set(english)) + ([] if same_numbers else [f"Korean: {korean}"])


def question(path: Path, number: int) -> str:
    """A question of "Check yourself" with its answer."""
    return re.search(rf"^\*\*{number}\. .*?</details>", read(path), flags=re.DOTALL | re.MULTILINE)[0]


def unrendered(text: str) -> list[str]:
    """Lines on which GitHub would not show what is meant.

    A marker at the start of a line makes it raw HTML, and in code, formulas and alternative texts it becomes visible. A
    formula in $...$ needs a space in front of it and no letter, Hangul included, right behind it; Markdown takes the
    backslash from "\\,", "\\{" and their like. A closing ** between punctuation and a letter stays two asterisks.
    """
    outside = re.sub(r"`[^`\n]*`|!\[[^\]]*\]|\$\$.*?\$\$|\$[^$\n]+\$", "", prose(text), flags=re.DOTALL)
    lost = len(shown_numbers(text)) - len(shown_numbers(outside))
    bad = [f"{lost} markers in code, in a formula or in an alternative text"] if lost else []
    for number, line in enumerate(prose(text).splitlines(), 1):
        plain = re.sub(r"`[^`]*`", "code", line)
        formulas = list(re.finditer(r"(?<!\$)\$([^$]+)\$(?!\$)", plain))
        cut = [f for f in formulas if re.search(r"\S$", plain[: f.start()]) or re.match(r"\w", plain[f.end() :])]
        escaped = [f for f in formulas if re.search(r"\\[^a-zA-Z]", f[1])]
        html = re.match(r"\s*(?:(?:[-*+>]|\d+\.)\s+)*<!--", line)
        strong = re.search(r"\*\*[^*\n]*[^\w\s*]\*\*\w", plain)
        bad += [f"line {number}: {line.strip()}" for problem in (cut, escaped, html, strong) if problem]
    return bad


# --- the checker can fail -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "example", "number"),
    [
        (0.135154, "0.99", "0.14"),
        (2.5e-7, "0.1", "0.0"),
        (-2.5e-7, "0.1", "0.0"),
        (-0.26, "0.1", "-0.3"),
        (16777216.0, "1", "16,777,216"),
        (1234.56, "1.0", "1,234.6"),
        (0.000339746, "1.0e-01", "3.4e-04"),
        (6.7e-07, "1e-01", "7e-07"),
        (5.0, "0", "5"),
    ],
)
def test_rounding_keeps_notation_and_digits(value, example, number):
    assert rounded_like(value, example) == number


def test_a_number_is_all_that_stands_behind_its_marker():
    text = "a <!--01:x.y-->0.14, b <!--02:z.lr_1e-2.d512-->16,777,216, c\n<!--01:n-->3.4e-04배 <!--01:m-->-0.5. <!--01:o-->x"
    assert [(s.key, s.number, s.line) for s in shown_numbers(text)] == [
        ("01:x.y", "0.14", 1),
        ("02:z.lr_1e-2.d512", "16,777,216", 1),
        ("01:n", "3.4e-04", 2),
        ("01:m", "-0.5", 2),
        ("01:o", "", 2),
    ]


def test_blanks_in_a_marker_do_not_matter():
    for marker in ("<!-- 01:x.y -->", "<!--01:x.y -->", "<!--\t01 : x.y-->", "<!--01:x.y\n-->"):
        assert [(s.key, s.number) for s in shown_numbers(f"a {marker}0.14")] == [("01:x.y", "0.14")]


@pytest.mark.parametrize(
    ("number", "last", "told"),
    [
        ("0.92", 0.01, 2),
        ("3.4e-04", 1e-5, 2),
        ("12", 1, 2),
        ("1,200", 1, 2),
        ("1.00", 0.01, 3),
        ("-0.05", 0.01, 1),
        ("0", 1, 0),
    ],
)
def test_what_the_digits_of_a_number_say(number, last, told):
    assert unit(number) == pytest.approx(last) and digits(number) == told


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What a made-up lab 1 recorded, and five starts of it."""
    folder = tmp_path_factory.mktemp("made up")
    starts = {
        "draw": (0.42, 0.1, 0.31, 0.27, 0.2),
        "other": (0.3, 0.2, 0.35, 0.2, 0.2),
        "steps": (345.0, 120.0, 98.0, 310.0, 400.0),
    }
    starts |= {"rate": (0.004, 0.008, 0.0125, 0.004, 0.004), "a": (0.135154, 0.2, 0.3, 0.4, 0.51)}
    runs = [
        {"lab": 1, "fast": False, "results": {key: {"value": values[i]} for key, values in starts.items()}} for i in range(5)
    ]
    (folder / "01_study.json").write_bytes(collect(runs)[0])
    entries = {
        "01:a": {"value": 0.135154, "rtol": 0.001},
        "01:count": {"value": 16_777_216.0, "rtol": 0},
        "01:residue": {"value": 2.2e-16, "rtol": 0.001, "atol": 1e-12},
        "01:draw": {"value": 0.2437, "draw": True},
        "01:other": {"value": 0.3, "draw": True},
        "01:steps": {"value": 211.0, "draw": True},
        "01:rate": {"value": 0.008, "choice": True},
        "01:unstudied": {"value": 0.3, "draw": True},
    }
    return Measured(entries, {"01": Study(1, folder)})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        # exact: the record, within what another machine may change
        ("<!--01:a-->0.14", None),
        ("<!--01:a-->0.135", None),
        ("<!--01:a-->1.4e-01", None),
        ("<!--01:a-->0.13", "01:a is 0.14, the lesson shows 0.13"),
        ("<!--01:a-->0.136.", "shows 0.136"),
        ("<!--01:a-->0.1352", None),
        ("<!--01:a-->0.1353", None),  # as the record may be after a run on another machine
        ("<!--01:a-->0.1354.", "shows 0.1354"),
        ("<!-- 01:a -->0.13", "01:a is 0.14, the lesson shows 0.13"),
        ("<!--\n01:a\n-->0.13", "01:a is 0.14, the lesson shows 0.13"),
        ("<!--01:count-->16,777,216", None),
        ("<!--01:count-->16,777,217", "is 16,777,216"),
        ("<!--01:residue-->0.0", None),
        # a draw of this run: anywhere where one more start may lie, -0.06 to 0.58
        ("<!--01:draw-->0.24", None),
        ("<!--01:draw-->0.55", None),
        ("<!--01:draw-->0.6", "01:draw is 0.2, the lesson shows 0.6"),
        ("<!--01:rate-->0.008", None),
        ("<!--01:rate-->0.0125", None),
        ("<!--01:rate-->0.006", "is 0.008"),
        # statistics of the starts
        ("<!--01:draw:median-->0.27", None),
        ("<!--01:draw:median-->0.28", "01:draw:median is 0.27, the lesson shows 0.28"),
        ("<!-- 01:draw : q10 -->0.14", None),
        ("<!--01:draw:q90-->0.38", None),
        ("<!--01:draw:min-->0.1", None),
        ("<!--01:draw:max-->0.42", None),
        ("<!--01:draw:max-->0.5", "is 0.4"),
        ("<!--01:steps:median-->310", None),
        ("<!--01:steps:max-->400", None),
        ("<!--01:steps:q90-->378", "01:steps:q90 is 380"),
        ("<!--01:draw:n-->5", None),
        ("<!--01:draw:n-->24", "is 5"),
        ("<!--01:draw:count>0.2-->3", None),
        ("<!--01:draw:count>=0.2-->4", None),
        ("<!--01:draw:count<0.2-->1", None),
        ("<!--01:draw:count<=0.2-->2", None),
        ("<!--01:draw : count > 0.2-->4", "01:draw:count>0.2 is 3, the lesson shows 4"),
        ("<!--01:rate:count=0.004-->3", None),
        ("<!--01:draw:count>other-->2", None),
        ("<!--01:draw:count>other-->3", "is 2"),
        # no such thing
        ("\n<!--01:b-->0.14", "line 2: no record 01:b"),
        ("<!--02:a-->0.14", "no record 02:a"),
        ("<!--1:a-->0.14", "no record 1:a"),
        ("<!--a note-->", "no record anote"),
        ("<!--01:draw:mean-->0.27", "no record 01:draw:mean"),
        ("<!--01:draw:count>no-->3", "no record 01:draw:count>no"),
        ("<!--01:draw:count-->3", "no record"),
        ("<!--01:unstudied-->0.3", "no record 01:unstudied"),
        ("<!--01:unstudied:n-->5", "no record"),
        # a number that a reader does not see as it is
        ("<!--01:a--> 0.14", "no number behind 01:a"),
        ("-<!--01:a-->0.14", "another number"),
        ("\u2212<!--01:a-->0.14", "another number"),
        ("1<!--01:a-->0.14", "another number"),
        ("<!--01:a-->0.14e5", "another number"),
        ("<!--01:a-->0.14 x 10", "another number"),
        ("x-<!--01:a-->0.14, 3 (<!--01:a-->0.14) and <!--01:a-->0.14.", None),
    ],
)
def test_a_wrong_number_is_named(text, complaint, measured):
    found = complaints(text, measured)
    assert [complaint in line for line in found] == ([True] if complaint else [])


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("<!--01:a-->0.135", True),
        ("<!--01:a-->0.1352", False),  # 0.135154 may become 0.1353 on another machine
        ("<!--01:a-->1.35e-01", True),
        ("<!--01:a-->1.352e-01", False),
        ("<!--01:a:median-->0.3000", False),
        ("<!--01:a:median-->0.30", True),
        ("<!--01:a:q10-->0.161", True),
        ("<!--01:count-->16,777,216", True),
        ("<!--01:residue-->2.2e-16", False),
        ("<!--01:residue-->0.0", True),
        ("<!--01:draw-->0.24", True),
        ("<!--01:draw-->0.244", False),
        ("<!--01:draw:median-->0.27", True),
        ("<!--01:draw:median-->0.270", False),
        ("<!--01:steps:median-->310", True),
        ("<!--01:steps-->211", False),
        ("<!--01:rate-->0.0125", True),
        ("<!--01:draw:n-->5", True),
        ("<!--01:draw:count>0.2-->3", True),
    ],
)
def test_a_digit_that_does_not_hold_is_named(text, holds, measured):
    assert [text.rpartition(">")[2] in line for line in undefended(text, measured)] == ([] if holds else [True])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<!--01:a-->0.99", "<!--01:a-->0.14"),
        ("<!-- 01:a -->0.9999", "<!-- 01:a -->0.135"),  # no digit that does not hold
        ("<!--01:a-->9.999e-09", "<!--01:a-->1.35e-01"),
        ("<!--01:count-->9", "<!--01:count-->16,777,216"),
        ("<!--01:draw-->0.999", "<!--01:draw-->0.24"),
        ("<!--01:draw:q90-->9", "<!--01:draw:q90-->0"),
        ("<!--01:steps-->9", "<!--01:steps-->210"),
        ("<!--01:steps:q90-->9.9", "<!--01:steps:q90-->380"),
        ("<!--01:draw:count>other-->9", "<!--01:draw:count>other-->2"),
        ("<!--01:b-->7 and 8", "<!--01:b-->7 and 8"),
    ],
)
def test_updating_mends_what_was_complained_of_and_nothing_else(old, new, measured):
    assert updated(f"1 {old} 9", measured) == f"1 {new} 9" == updated(f"1 {new} 9", measured)
    if "01:b" not in new:
        assert complaints(new, measured) == [] and undefended(new, measured) == []


def test_updating_writes_a_lesson_whole_or_not_at_all(tmp_path, monkeypatch, measured):
    lesson = tmp_path / "README.md"
    lesson.write_text("a <!--01:a-->0.99")
    monkeypatch.setattr(update_lesson, "LESSONS", (lesson,))
    monkeypatch.setattr(Measured, "read", classmethod(lambda cls: measured))

    def full_disk(self, *_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", full_disk)
        with pytest.raises(SystemExit, match=r"README\.md could not be written and is as it was: No space left"):
            update_lesson.main()
    assert lesson.read_text() == "a <!--01:a-->0.99"
    assert update_lesson.main() == 0 and lesson.read_text() == "a <!--01:a-->0.14"
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


@pytest.mark.parametrize(
    ("text", "right"),
    [("0.93를 ", "0.93을 "), ("0.92을 ", "0.92를 "), ("0.97으로,", "0.97로,"), ("0.93로 ", "0.93으로 "), ("0.4은 ", "0.4는 ")]
    + [(same, same) for same in ("0.90이 ", "0.93이고", "3e-04를 ", "256바이트", "0.45가 ", "1.8과 ", "0.98과 ")],
)
def test_a_particle_follows_the_sound_of_its_number(text, right):
    assert with_particles(f"<!--01:a-->{text}") == f"<!--01:a-->{right}"
    assert with_particles(text) == text  # not behind a marker


LESSON = "# A\n<p> <!--01:a-->1 <!--01:b-->2\n![a heat map](x.png)\n```bash\n# no heading\n```\n## B `c`, d?\n<!--01:a-->1"


@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [
        ("<!--01:a-->1 <!--01:b-->2", "<!--01:b-->2 <!--01:a-->1", None),
        ("a heat map", "열지도", None),
        ("<!--01:b-->2", "", "markers of section 1"),
        ("<!--01:b-->2", "<!--01:b-->2.0", "markers of section 1"),
        ("<!--01:b-->2", "<!--01:c-->2", "markers of section 1"),
        ("## B", "### B", "headings"),
        ("x.png", "y.png", "figures"),
        ("# no heading", "# another", "commands"),
    ],
)
def test_a_difference_between_the_languages_is_named(old, new, difference):
    found = differences(LESSON, LESSON.replace(old, new))
    assert [line.startswith(difference) for line in found] == ([True] if difference else [])


def test_dead_links_are_named():
    assert anchors(LESSON + "\n## B `c`, d?") == {"a", "b-c-d", "b-c-d-1"}
    alive = "[a](https://example.org) [b](#b-c-d) [c](tests) [d](README.md#gallery) ![e](week6/outputs/01_masks.png)"
    dead = ["#b", "no.md", "README.md#no", "week6/outputs/no.png", "../outside"]
    text = LESSON.replace("![a heat map](x.png)", "") + alive + "".join(f" [x]({target})" for target in dead)
    assert dead_links(text, ROOT / "lesson.md") == dead


@pytest.mark.parametrize(
    ("line", "n_bad"),
    [
        ("a <!--01:a-->1, $x_1$, **b** and $$y$$", 0),
        ("| <!--01:a-->1 | $x$ |", 0),
        ("<!--01:a-->1", 1),
        ("- <!--01:a-->1", 1),
        ("> 1. <!--01:a-->1", 1),
        ("`<!--01:a-->1`", 1),
        ("![a <!--01:a-->1](x.png)", 1),
        ("a $x + <!--01:a-->1$", 1),
        ("($x$)", 1),
        ("$x$를", 1),
        ("$x$, `$HOME`와 `$y`", 0),
        ("$a\\,b$", 1),
        ("**주어(subject)**를", 1),
        ("**주어**를 **b** 'c'", 0),
    ],
)
def test_what_github_would_not_render_is_named(line, n_bad):
    assert len(unrendered(line)) == n_bad


@pytest.mark.parametrize(
    ("paragraph", "n"),
    [
        ("At d_k = 512 it is <!--01:a.d512-->0.95, not <!-- 01:b -->3.4e-04.", 3),
        ("in <!--05:a:count>b-->21 of <!--05:a:n-->24 starts, from <!--05:a:min-->0.1 to <!--05:a:max-->0.42", 3),
        ("길이 24에서 <!--03:a-->1.00이고 2,048에서는 8~16개", 5),
        ("16 x 16, 1/8, -0.5, 1.0, 10 and 50 %", 7),
        ("2. item", 0),
        ("mean 0, variance 1, measured <!--01:a-->1 and <!--01:b-->0", 2),
        ("**Predict first.** Of 512 random keys? (a) 1/16 (b) 1/4\n(c) 0.9", 1),
        (
            "**12. What?** In 2017 GPT-3 and CS224N, float64, $x_1 = 3$, `(2, 3)`, W_1, [01_masks](a/01_masks.png)",
            0,
        ),
        ("Lab 5, [part 4](#4-what), Labs 2 and 3, 4장, 3절, 12번 질문, 연습 3, 2017년", 0),
        ("4장의 그림, a length-24 model", 2),
        ("48, 96 and 192; four heads, n² and √d", 3),
        ("2048 tokens in 2020", 1),
    ],
)
def test_numbers_that_a_reader_meets_are_counted(paragraph, n):
    assert count_numbers(paragraph) == n


def test_paragraphs_are_told_apart():
    text = """# 1 2
one
two

> 3
> 4

- item 5
  goes on 6
- 7
1. 8

| 9 |
![10](x.png)
$$
11
$$
```python
12
```
<details>
<summary>13</summary>

14

</details>
"""
    seen = ["one\ntwo", "3\n4", "- item 5\n  goes on 6", "- 7", "1. 8"]
    assert paragraphs(text, folded=False) == seen and paragraphs(text, folded=True) == [*seen, "14"]


def test_a_paragraph_with_more_than_three_numbers_is_found_in_its_chapter():
    folded = "<details>\n<summary>a</summary>\n\n6 7 8 9\n\n</details>\n"
    text = f"# A\n6 7 8\n## 2. B\n### Lab 1. C\n{folded}\n### Lab 2. D\n6 7\n8 9\n## 6. E\n{folded}"
    assert list(chapters(text)) == ["title", "2", "Lab 1", "Lab 2", "6"]
    assert dense(text) == {"Lab 2": ["6 7\n8 9"], "6": ["6 7 8 9"]}


# --- the lesson -----------------------------------------------------------------------------------------------------


@BOTH
def test_numbers_are_the_recorded_ones(path):
    assert complaints(read(path), Measured.read()) == []


@BOTH
def test_every_digit_holds(path):
    assert undefended(read(path), Measured.read()) == []


def test_korean_particles_fit_their_numbers():
    assert with_particles(read(KOREAN)) == read(KOREAN)


@BOTH
def test_at_least_sixty_numbers_from_every_lab(path):
    keys = {shown.key for shown in shown_numbers(read(path))}
    assert len(keys) >= 60 and {key[:2] for key in keys} == {results.name[:2] for results in OUTPUTS.glob("*_results.json")}


def test_the_languages_agree():
    assert differences(read(KOREAN), read(ENGLISH)) == []


@BOTH
def test_links_inside_the_repository_lead_somewhere(path):
    assert dead_links(read(path), path) == []


@BOTH
def test_every_figure_is_shown_and_described(path):
    shown = figures(read(path))
    assert {f"outputs/{file.name}" for file in OUTPUTS.glob("*.png")} == {file for _, file in shown}
    assert all(len(alternative) >= 20 for alternative, _ in shown)


@BOTH
def test_github_renders_it(path):
    assert unrendered(read(path)) == []


@BOTH
def test_fifteen_questions_with_folded_answers_that_point_at_a_figure(path):
    part = chapters(read(path))["6"]
    answers = re.findall(r"<details>.*?</details>", part, flags=re.DOTALL)
    assert re.findall(r"^\*\*(\d+)\. ", part, flags=re.MULTILINE) == [str(number) for number in range(1, 16)]
    assert len(answers) == 15
    assert all(re.search(r"\]\(outputs/\w+\.png\)", answer) for answer in answers)


def test_each_language_links_to_the_other():
    assert "](README.en.md)" in read(KOREAN) and "](README.md)" in read(ENGLISH)


@BOTH
def test_no_paragraph_has_more_than_three_numbers(path):
    assert dense(read(path)) == {}


@EACH_LAB
def test_headings_of_lesson_and_console_agree(lab):
    titles = re.findall(r'lab\.section\("(\d+\. .+?)"\)', read(SCRIPTS[lab - 1]))
    assert titles == lab_headings(lab) != []
    assert headings_that_differ(lab) == []


# --- what the lesson says about arithmetic and code -----------------------------------------------------------------


@BOTH
def test_the_softmax_by_hand_is_right(path):
    products, values = torch.tensor([4.0, 2.0, 0.0]), torch.tensor([10.0, 0.0, -10.0])
    rows = re.findall(r"^\|[^|]+\|([^|]+)\|([^|]+)\|([^|]+)\|([^|]+)\|$", question(path, 4), flags=re.MULTILINE)[2:]
    for row, scores in zip(rows, (products / 2, products), strict=True):
        exponentials, total, weights, output = ([float(number) for number in cell.split(",")] for cell in row)
        assert exponentials == pytest.approx(scores.exp().tolist(), rel=2e-3)
        assert total == pytest.approx([float(scores.exp().sum())], rel=1e-3)
        assert weights == pytest.approx(scores.softmax(0).tolist(), abs=5e-4)
        assert output == pytest.approx([float(scores.softmax(0) @ values)], abs=5e-3)


@BOTH
def test_the_wrong_code_leaks_and_its_correction_does_not(path):
    code, correction = re.findall(r"^```python\n(.*?)^```", question(path, 11), flags=re.DOTALL | re.MULTILINE)
    x, later = torch.randn(2, 5, 12), torch.arange(5) == 4
    changed = x + later[:, None] * torch.randn(2, 5, 12)
    layers = [torch.nn.Linear(12, 12) for _ in range(4)]

    def leak(code: str) -> float:
        names = {"math": math, "torch": torch}
        exec(code, names)
        outputs = [names["causal_self_attention"](x, *layers, n_heads=3) for x in (x, changed)]
        return (outputs[1] - outputs[0])[:, :4].abs().max().item()

    masked, merged = correction.rstrip("\n").split("\n")
    half = re.sub(r"    weights = .*", lambda _: masked, code)
    other_half = re.sub(r"    return .*", lambda _: merged, code)
    right = re.sub(r"    return .*", lambda _: merged, half)
    assert min(leak(code), leak(half), leak(other_half)) > 0.001 and leak(right) == 0
    names = {"math": math, "torch": torch}
    exec(right, names)
    q, k, v = (layer(x).view(2, 5, 3, 4).transpose(1, 2) for layer in layers[:3])
    expected = layers[3](F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(2, 5, 12))
    torch.testing.assert_close(names["causal_self_attention"](x, *layers, n_heads=3), expected)


# --- cells to try ---------------------------------------------------------------------------------------------------


@EACH_LAB
def test_a_cell_to_try_works(lab, tmp_path, capsys):
    """After a --fast run, with the names that the cells of the lab have made; it shows something."""
    korean, english = (cells_to_try(read(path)).get(lab) for path in LESSONS)
    assert korean and english and korean[0] == english[0] == f"Lab {lab}"
    assert ast.dump(ast.parse(korean[1])) == ast.dump(ast.parse(english[1]))  # the comments are each language's own
    lines = [line for line in english[1].splitlines()[1:] if line.strip()]
    assert 5 <= len(lines) <= 10
    names = run_script(lab, tmp_path)
    capsys.readouterr()
    exec(compile(english[1], f"the cell to try after Lab {lab}", "exec"), names)
    assert capsys.readouterr().out or plt.get_fignums()


# --- commands -------------------------------------------------------------------------------------------------------

WITH_COMMANDS = (ROOT / "README.md", *LESSONS)
COMMANDS = list(dict.fromkeys(line for path in WITH_COMMANDS for block in commands(read(path)) for line in block.splitlines()))
WITH_FLAGS = [line for line in COMMANDS if re.match(r"python \d\d_\S+ -", line)]  # without, test_scripts runs every lab


def lab_of(script: str) -> int | None:
    """The number of the lab whose script this is."""
    return next((int(path.name[:2]) for path in SCRIPTS if path.name == script), None)


def refused(command: str, monkeypatch) -> str:
    """Why a command would not run, by the parser of what it starts; "" if it would. Nothing runs in full."""
    runner = sys.modules["week6.__main__"]
    try:
        match shlex.split(command):
            case ["python", "-m", "week6", *flags]:
                for mode in ("run", "check", "make_study"):
                    monkeypatch.setattr(runner, mode, lambda *_: 0)
                return "" if runner.main(flags) == 0 else "the runner refuses it"
            case ["python", "-m", "pytest", *flags]:
                missing = [word for word in flags if "/" in word and not (ROOT / word).exists()]
                if missing:
                    return f"no {missing}"
                words = ["-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *flags]
                process = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
                return "" if process.returncode == 0 else process.stdout + process.stderr
            case ["python", "-m", module, *flags]:
                process = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True)
                unknown = [flag for flag in flags if flag.startswith("-") and flag not in process.stdout]
                return f"{module} --help does not name {unknown}" if unknown or process.returncode else ""
            case ["python", script, *flags] if lab_of(script):
                Lab(lab_of(script), {"__name__": "__main__"}, load(lab_of(script)).add_arguments, shlex.join(flags))
                return ""
            case ["python", script, *_] if (ROOT / script).is_file():
                return ""
    except (SystemExit, ValueError) as error:
        return f"{error}"
    return f"what is {command!r}?"


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_command_starts_and_its_flags_exist(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused(command, monkeypatch) == ""


@pytest.mark.parametrize(
    "command",
    [
        "python 01_attention_basic.py",
        "python 01_attention_basics.py --heads 2",
        'python 02_self_attention.py --sentence "the unicorn sleeps"',
        "python -m week6 --faster",
        "python -m week6 --check --fast",
        "python -m week6.nothing --watch",
        "python -m pytest week6/nothing",
        "python tests/nothing.py",
    ],
)
def test_a_command_that_would_not_run_is_found(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused(command, monkeypatch) != ""


@pytest.mark.parametrize("command", WITH_FLAGS)
def test_a_lab_runs_with_the_flags_of_the_lesson(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where `--out trial` puts its figures
    _, script, *flags = shlex.split(command)
    run_script(lab_of(script), tmp_path / "out", "--dpi", "30", *flags)
    written = tmp_path / (flags[flags.index("--out") + 1] if "--out" in flags else "out")
    assert list(written.glob("*.png")) and list(written.glob("*_results.json"))
