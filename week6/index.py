"""`outputs/index.html`, which the runner writes: every figure with its finding, the page to play with, and what moved."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Collection
from html import escape, unescape
from pathlib import Path

from common.results import moved, read_results, write_whole
from common.study import Study

HERE = Path(__file__).resolve().parent
FORMATS = (".png", ".svg", ".pdf")  # of several files of one figure the first is shown
STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1e23; --line: #d5d9de; --accent: #0072B2; --alarm: #D55E00; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171b; --ink: #e9ecef; --line: #3a4149; --accent: #56B4E9; --alarm: #E69F00; }
}
body { max-width: 1100px; margin: 0 auto; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Apple SD Gothic Neo", "Malgun Gothic", "Noto Sans CJK KR", sans-serif; overflow-wrap: anywhere; }
h2 { border-top: 1px solid var(--line); padding-top: 1rem; }
nav a { margin-right: 1rem; }
a { color: var(--accent); }
a.play { display: inline-block; border: 2px solid; border-radius: 8px; padding: .5rem .9rem; font-weight: 600; }
figure { margin: 1rem 0 2rem; }
figcaption { font-weight: 600; }
figcaption small { display: block; font-weight: 400; opacity: .75; }
img { max-width: 100%; background: #fff; border-radius: 6px; }
.alarm { color: var(--alarm); }
"""


def write_index(out: Path, failed: Collection[int] = (), *, course: Path = HERE) -> None:
    """Write `out/index.html` from the files that the labs left in `out`, whole or not at all.

    Args:
        out: the folder with the figures and `NN_results.json`.
        failed: the labs that just ran and failed; they are marked.
        course: the folder of the labs; the committed numbers are those of its `outputs/`.
    """
    found = {int(path.name[:2]) for path in out.glob("[0-9][0-9]_results.json")}
    names = {number: lab_name(course, number) for number in sorted({*found, *failed})}
    links = " ".join(f'<a href="#lab-{number}">{escape(name)}</a>' for number, name in names.items())
    play = "".join(f"<p>{link}</p>\n" for link in map(play_link, sorted(out.glob("[0-9][0-9]_explore.html"))))
    labs = "".join(lab_section(out, number, name, number in failed) for number, name in names.items())
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Week 6: figures and findings</title>
<style>{STYLE}</style>
</head>
<body>
<h1>Week 6: figures and findings</h1>
<p>Above each figure stands what was found; every number in it was measured by the run that drew it.
<span lang="ko">그림 위의 문장은 그 그림에서 알아낸 것이고, 숫자는 모두 그림을 그린 실행에서 측정한 값입니다.</span></p>
{play}<nav>{links} <a href="#moved">What moved</a></nav>
{labs}{moved_section(sorted(found), out, course)}</body>
</html>
"""
    write_whole(out / "index.html", page.encode())


def results_file(folder: Path, number: int) -> Path:
    return folder / f"{number:02d}_results.json"


def lab_name(course: Path, number: int) -> str:
    """ "Lab 2: self attention", from the script's name."""
    stem = min((path.stem for path in course.glob(f"{number:02d}_*.py")), key=len, default="")  # copies have longer names
    return f"Lab {number}: {stem[3:].replace('_', ' ')}"


def play_link(path: Path) -> str:
    text = (
        'Play with the model of Lab 2: silence a head <span lang="ko">· Lab 2의 모델을 직접 만져 보기: head를 꺼 보세요</span>'
    )
    return f'<a class="play" href="{escape(path.name)}">{text}</a>'


def lab_section(out: Path, number: int, name: str, failed: bool) -> str:
    """A lab's figures, each under its finding."""
    names = sorted({path.stem for path in out.glob(f"{number:02d}_*") if path.suffix in FORMATS and path.is_file()})
    alarm = '<p class="alarm">This lab failed in this run; figures below are from an earlier one.</p>\n' if failed else ""
    figures = "".join(figure_block([out / f"{figure}{suffix}" for suffix in FORMATS]) for figure in names)
    return f'<h2 id="lab-{number}">{escape(name)}</h2>\n{alarm}{figures}'


def figure_block(files: list[Path]) -> str:
    """The finding, the figure and links to its files, as far as they are there; a PDF is a link alone."""
    files = [file for file in files if file.is_file()]
    title = escape(next(filter(None, map(figure_title, files)), files[0].stem))
    links = " ".join(f'<a href="{escape(file.name)}">{escape(file.name)}</a>' for file in files)
    image = f'<img src="{escape(files[0].name)}" alt="{title}" loading="lazy">' if files[0].suffix != ".pdf" else ""
    return f"<figure><figcaption>{title}<small>{links}</small></figcaption>{image}</figure>\n"


def figure_title(file: Path) -> str | None:
    """The finding that `common.plotting.figure_bytes` has written into the file's metadata; None if there is none."""
    content = file.read_bytes()
    if file.suffix == ".png":  # a chunk: its length, its kind, the key, a zero, the text
        start = content.find(b"tEXtTitle\0")
        length = int.from_bytes(content[start - 4 : start], "big")
        return content[start + 10 : start + 4 + length].decode("latin-1") if start >= 4 else None
    if file.suffix == ".svg":
        found = re.search(rb"<dc:title>(.*?)</dc:title>", content, re.DOTALL)
        return unescape(found[1].decode()) if found else None
    found = re.search(rb"/Title \(((?:\\.|[^\\)])*)\)", content)
    return re.sub(r"\\(.)", r"\1", found[1].decode("latin-1")) if found else None


def moved_section(found: list[int], out: Path, course: Path) -> str:
    """For an instructor: each number that this run does not confirm within what it may differ."""
    compared, lines, without = 0, [], []
    for number in found:
        try:
            rerun = read_results(results_file(out, number))
            committed = None if rerun["fast"] else committed_results(course, number, out)
            if committed is None:
                without.append(number)
                continue
            study = Study(number, course / "outputs")
        except ValueError as error:
            lines.append(f"Lab {number}: {error}")
            continue
        compared += len(committed["results"])
        lines += [f"Lab {number}: {line}" for line in moved(committed, rerun, study)]
    text = f"{compared} numbers compared, {len(lines)} moved beyond what they may."
    items = "".join(f"<li>{escape(line)}</li>\n" for line in lines)
    listed = f'<ul class="alarm">\n{items}</ul>\n' if lines else ""
    note = (
        f"<p>Not compared (a fast run, or no committed numbers): lab {', '.join(map(str, without))}.</p>\n" if without else ""
    )
    return f'<h2 id="moved">Which numbers moved since the committed run</h2>\n<p>{text}</p>\n{listed}{note}'


def committed_results(course: Path, number: int, out: Path) -> dict | None:
    """The lab's numbers in the last commit; without git those in `outputs/`, unless this run has just overwritten them."""
    path = results_file(course / "outputs", number)
    try:
        command = ["git", "-C", str(course), "show", f"HEAD:./outputs/{path.name}"]
        return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    except (OSError, subprocess.CalledProcessError):
        same = out.resolve() == path.parent.resolve()
        return None if same or not path.exists() else json.loads(path.read_text(encoding="ascii"))
