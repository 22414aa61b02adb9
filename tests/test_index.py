"""`outputs/index.html`: every figure with its finding, the page to play with, and which numbers moved."""

import json
import re
import shutil
import subprocess
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest

from common.plotting import panels
from conftest import load, make_lab
from week6.index import write_index

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def results(number: int, value: float, *, fast: bool = False, **figures: str) -> str:
    found = {"answer": {"value": value, "rtol": 0.01}}
    return json.dumps({"lab": number, "seed": 0, "fast": fast, "options": {}, "figures": figures, "results": found})


@pytest.fixture
def course(tmp_path):
    """A course with two labs, and what they have left in outputs/."""
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    (tmp_path / "01_first_things.py").touch()
    (tmp_path / "02_second_things.py").touch()
    (outputs / "01_results.json").write_text(results(1, 10, **{"01_b": "B < 3 is found", "01_a": 'A "finding"'}))
    (outputs / "02_results.json").write_text(results(2, 20))
    for name in ("01_a.png", "01_b.png", "02_c.svg", "02_explore.html"):
        (outputs / name).touch()
    return tmp_path


def commit(folder) -> None:
    git = ["git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=e"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)


def index(course, out=None, outcomes=()) -> str:
    out = out or course / "outputs"
    write_index(out, outcomes, course=course)
    return (out / "index.html").read_text(encoding="utf-8")


def test_every_figure_stands_below_its_finding_in_the_order_of_the_lab(course):
    page = index(course)
    assert re.findall(r"<figcaption>(.*?)<small>", page) == ["B &lt; 3 is found", "A &quot;finding&quot;", "02_c"]
    assert re.findall(r'<img src="(.*?)"', page) == ["01_b.png", "01_a.png", "02_c.svg"]
    assert '<h2 id="lab-1">Lab 1: first things</h2>' in page


def test_every_link_leads_somewhere(course):
    page = index(course)
    targets = re.findall(r'(?:href|src)="(.*?)"', page)
    assert "02_explore.html" in targets and len(targets) > 8
    for target in targets:
        assert f'id="{target[1:]}"' in page if target.startswith("#") else (course / "outputs" / target).exists()


def test_a_figure_as_pdf_is_a_link(course):
    (course / "outputs" / "01_a.png").rename(course / "outputs" / "01_a.pdf")
    page = index(course)
    assert '<a href="01_a.pdf">' in page and 'src="01_a.pdf"' not in page


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
    assert "1 numbers compared, 0 moved" in page and "no committed numbers): lab 2." in page and "A fast run" in page


def test_without_git_another_folder_is_compared_with_outputs(course, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert "0 numbers compared" in index(course) and "no committed numbers): lab 1, 2." in index(course)
    out = tmp_path_factory.mktemp("elsewhere")
    (out / "01_results.json").write_text(results(1, 11))
    assert "Lab 1: answer: recorded 10, now 11" in index(course, out)


def test_a_failed_lab_is_marked_even_if_it_left_nothing(course):
    (course / "03_third.py").touch()
    page = index(course, outcomes=[SimpleNamespace(number=1, status=1), SimpleNamespace(number=3, status=2)])
    marked = re.findall(r'<h2 id="lab-(\d)">.*</h2>\n<p class="alarm">', page)
    assert marked == ["1", "3"]


def test_an_interrupted_run_leaves_the_old_page_whole(course, monkeypatch):
    before = index(course)
    (course / "outputs" / "01_results.json").write_text(results(1, 99))
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        index(course)
    assert (course / "outputs" / "index.html").read_text(encoding="utf-8") == before
    assert not list((course / "outputs").glob(".*"))


def test_a_lab_keeps_the_titles_of_its_figures(tmp_path):
    module = load(2)
    lab = make_lab(module, tmp_path)
    fig, _ = panels("A finding that is so long that it has to be broken into two lines: 0.98", (1,), size=(4, 3))
    lab.figure(fig, "02_a")
    plt.close(fig)
    lab.finish()
    kept = json.loads((tmp_path / "02_results.json").read_text(encoding="ascii"))["figures"]
    assert kept == {"02_a": "A finding that is so long that it has to be broken into two lines: 0.98"}
    assert "two lines: 0.98<small>" in index(tmp_path, tmp_path)
