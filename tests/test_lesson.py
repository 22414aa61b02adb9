"""The lesson tells what the labs measured, the same in both languages, and every link and figure is there."""

import re
from collections import Counter
from pathlib import Path

import pytest

from update_lesson import (
    LESSONS,
    OUTPUTS,
    ROOT,
    complaints,
    recorded_values,
    rounded_like,
    shown_numbers,
    updated,
    with_particles,
)

KOREAN, ENGLISH = LESSONS
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


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("<!--01:a-->0.14", None),
        ("<!--01:a-->0.135", None),
        ("<!--01:a-->1.4e-01", None),
        ("<!--01:a-->0.13", "01:a is 0.14, the lesson shows 0.13"),
        ("<!--01:a-->0.1351.", "shows 0.1351"),
        ("\n<!--01:b-->0.14", "line 2: no record 01:b"),
        ("<!--02:a-->0.14", "no record 02:a"),
        ("<!--01:a--> 0.14", "no number behind 01:a"),
    ],
)
def test_a_wrong_number_is_named(text, complaint):
    found = complaints(text, {"01:a": 0.135154})
    assert [complaint in line for line in found] == ([True] if complaint else [])


def test_updating_mends_what_was_complained_of_and_nothing_else():
    values = {"01:a": 0.135154, "01:b": 1e4}
    old = "1 <!--01:a-->0.99 and <!--01:b-->9,000, <!--01:c-->7 <!--01:a-->9.9e-09"
    new = "1 <!--01:a-->0.14 and <!--01:b-->10,000, <!--01:c-->7 <!--01:a-->1.4e-01"
    assert updated(old, values) == new and updated(new, values) == new
    assert [line.split(": ", 1)[1] for line in complaints(new, values)] == ["no record 01:c"]


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


# --- the lesson -----------------------------------------------------------------------------------------------------


@BOTH
def test_numbers_are_the_recorded_ones(path):
    assert complaints(read(path), recorded_values()) == []


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
def test_twelve_questions_with_folded_answers_that_point_at_a_figure(path):
    answers = re.findall(r"<details>.*?</details>", read(path), flags=re.DOTALL)
    assert len(answers) == 12
    assert all(re.search(r"\]\((?:[\w.]+)?outputs/\w+\.png\)", answer) for answer in answers)


def test_each_language_links_to_the_other():
    assert "](README.en.md)" in read(KOREAN) and "](README.md)" in read(ENGLISH)
