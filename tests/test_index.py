"""`outputs/index.html`: every figure with its finding, the page to play with, and which numbers moved."""

import json
import re
import shutil
import subprocess
from html import unescape

import pytest

from common.plotting import figure_bytes, panels
from common.study import collect
from week6.index import write_index

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


TITLES = {
    "01_a": 'A "finding" (0.98) \\\\ of',
    "01_b": "B < 3 & more is so long that it does not fit into a single line of a title",
}


def results(number: int, value: float, *, fast: bool = False) -> str:
    found = {"answer": {"value": value, "rtol": 0.001}}
    return json.dumps({"lab": number, "seed": 0, "fast": fast, "options": {}, "results": found})


@pytest.fixture
def course(tmp_path):
    """A course with two labs, and what they have left in outputs/."""
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    (tmp_path / "01_first_things.py").touch()
    (tmp_path / "01_first_things_copy.py").touch()
    (tmp_path / "02_second_things.py").touch()
    (outputs / "01_results.json").write_text(results(1, 10))
    (outputs / "02_results.json").write_text(results(2, 20))
    draw(outputs, "png")
    for name in ("02_c.svg", "02_explore.html"):
        (outputs / name).touch()
    return tmp_path


def draw(folder, suffix: str) -> None:
    for name, title in TITLES.items():
        fig, _ = panels(title, (1,), size=(4, 3))
        (folder / f"{name}.{suffix}").write_bytes(figure_bytes(fig, suffix, dpi=30))


def commit(folder) -> None:
    git = ["git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=e"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)


def index(course, out=None, failed=()) -> str:
    out = out or course / "outputs"
    write_index(out, failed, course=course)
    return (out / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_every_figure_stands_below_its_finding(course, suffix):
    for name in TITLES:
        (course / "outputs" / f"{name}.png").unlink()
    draw(course / "outputs", suffix)
    page = index(course)
    shown = [unescape(text) for text in re.findall(r"<figcaption>(.*?)<small>", page)]
    assert shown == [*TITLES.values(), "02_c"]  # a file without a title goes by its name
    images = [] if suffix == "pdf" else [f"01_a.{suffix}", f"01_b.{suffix}"]
    assert re.findall(r'<img src="(.*?)"', page) == [*images, "02_c.svg"]
    assert f'<a href="01_a.{suffix}">' in page and '<h2 id="lab-1">Lab 1: first things</h2>' in page


def test_of_several_formats_the_picture_is_shown(course):
    draw(course / "outputs", "pdf")
    page = index(course)
    assert page.count("<figcaption>") == 3 and 'src="01_a.png"' in page and 'href="01_a.pdf"' in page


def test_every_link_leads_somewhere(course):
    page = index(course)
    targets = re.findall(r'(?:href|src)="(.*?)"', page)
    assert "02_explore.html" in targets and len(targets) > 8
    for target in targets:
        assert f'id="{target[1:]}"' in page if target.startswith("#") else (course / "outputs" / target).exists()


def test_two_runs_give_the_same_bytes(course):
    assert index(course) == index(course)


@needs_git
def test_numbers_that_moved_since_the_commit_are_named(course):
    commit(course)
    assert "2 numbers compared, 0 moved" in index(course)
    (course / "outputs" / "02_results.json").write_text(results(2, 21))
    page = index(course)
    assert "2 numbers compared, 1 moved" in page and "Lab 2: answer: recorded 20, now 21" in page


@needs_git
def test_a_fast_run_is_not_compared(course):
    commit(course)
    (course / "outputs" / "02_results.json").write_text(results(2, 21, fast=True))
    page = index(course)
    assert "1 numbers compared, 0 moved" in page and "no committed numbers): lab 2." in page


def test_without_git_another_folder_is_compared_with_outputs(course, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert "0 numbers compared" in index(course) and "no committed numbers): lab 1, 2." in index(course)
    out = tmp_path_factory.mktemp("elsewhere")
    (out / "01_results.json").write_text(results(1, 11))
    assert "Lab 1: answer: recorded 10, now 11" in index(course, out)


def test_draws_are_judged_by_the_study(course):
    outputs = course / "outputs"
    draw = results(1, 10).replace('"rtol": 0.001', '"draw": true')
    runs = [json.loads(draw.replace("10", value)) for value in ("8", "12")]
    (outputs / "01_study.json").write_bytes(collect(runs)[0])
    (outputs / "01_results.json").write_text(draw)
    out = course / "elsewhere"
    out.mkdir()
    for value, moved in (("9", 0), ("20", 1)):
        (out / "01_results.json").write_text(draw.replace("10", value))
        assert f"1 numbers compared, {moved} moved" in index(course, out)


def test_spoilt_results_are_named(course):
    (course / "outputs" / "01_results.json").write_text('{"lab": 1')
    assert "Lab 1: 01_results.json: not JSON" in index(course)


def test_a_failed_lab_is_marked_even_if_it_left_nothing(course):
    (course / "03_third.py").touch()
    marked = re.findall(r'<h2 id="lab-(\d)">.*</h2>\n<p class="alarm">', index(course, failed=[1, 3]))
    assert marked == ["1", "3"]


def test_an_interrupted_run_leaves_the_old_page_whole(course, monkeypatch):
    before = index(course)
    (course / "outputs" / "01_results.json").write_text(results(1, 99))
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        index(course)
    assert (course / "outputs" / "index.html").read_text(encoding="utf-8") == before
    assert not list((course / "outputs").glob(".*"))
