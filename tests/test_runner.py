"""`python -m week6`: finds the labs, runs them, reports, and compares with the committed numbers."""

import importlib
import json
import os
import subprocess
import sys

import pytest

from conftest import ROOT

# Stands in for a lab: it takes the same flags and writes the same files, but needs no torch.
TINY = """
import argparse, json, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--fast", action="store_true")
parser.add_argument("--format", action="append")
for flag in ("--out", "--seed", "--dpi"):
    parser.add_argument(flag, default="0")
options = parser.parse_args()
out = pathlib.Path(options.out)
for suffix in options.format or ["png"]:
    (out / f"{name}_figure.{{suffix}}").touch()
answer = {{"value": {answer}, "rtol": 0.01}}
results = {{"seed": options.seed, "options": {{}}, "fast": options.fast, "results": {{"answer": answer}}}}
(out / "{name}_results.json").write_text(json.dumps(results))
"""


@pytest.fixture
def runner(tmp_path, monkeypatch):
    """The runner's module over a folder with two tiny labs, the second of which can be made to fail."""
    module = importlib.import_module("week6.__main__")
    scripts = {}
    for number in (1, 2):
        path = tmp_path / f"{number:02d}_tiny.py"
        path.write_text(TINY.format(answer=10 * number, name=f"{number:02d}"))
        scripts[number] = path
    monkeypatch.setattr(module, "SCRIPTS", scripts)
    monkeypatch.setattr(module, "HERE", tmp_path)
    return module


def test_all_labs_run_and_are_listed(runner, tmp_path, capsys):
    assert runner.main(["--seed", "5"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[:2] for line in out.splitlines() if line.startswith("0")] == [
        ["01_tiny.py", "ok"],
        ["02_tiny.py", "ok"],
    ]
    assert sorted(os.listdir(tmp_path / "outputs")) == [
        "01_figure.png",
        "01_results.json",
        "02_figure.png",
        "02_results.json",
        "index.html",
    ]
    assert json.loads((tmp_path / "outputs" / "02_results.json").read_text())["seed"] == "5"


def test_flags_reach_the_labs(runner, tmp_path):
    out = tmp_path / "그림 폴더"
    assert runner.main(["--only", "2", "--fast", "--out", str(out), "--format", "svg", "--format", "pdf"]) == 0
    assert sorted(os.listdir(out)) == ["02_figure.pdf", "02_figure.svg", "02_results.json", "index.html"]


def test_a_failed_lab_is_shown_and_stops_no_other(runner, tmp_path, capsys):
    runner.SCRIPTS[1].write_text("raise RuntimeError('broken \\ud55c lab')", encoding="ascii")
    assert runner.main([]) == 1
    out = capsys.readouterr().out
    assert "01_tiny.py                   FAILED" in out and "broken" in out and out.isascii()
    assert (tmp_path / "outputs" / "02_figure.png").exists()


def test_check_passes_on_the_same_numbers_and_names_those_that_moved(runner, tmp_path, capsys):
    runner.main([])
    before = {path: path.read_bytes() for path in (tmp_path / "outputs").iterdir()}
    assert runner.main(["--check"]) == 0
    assert "2 recorded numbers compared, 0 moved" in capsys.readouterr().out
    runner.SCRIPTS[2].write_text(TINY.format(answer=20.3, name="02"))
    assert runner.main(["--check"]) == 1
    assert "lab 2: answer: recorded 20, now 20.3" in capsys.readouterr().out
    assert before == {path: path.read_bytes() for path in (tmp_path / "outputs").iterdir()}


def test_check_refuses_numbers_from_another_seed(runner, capsys):
    runner.main(["--seed", "5"])
    assert runner.main(["--check"]) == 1
    assert "recorded with seed 5" in capsys.readouterr().out


def test_check_fails_if_a_lab_fails(runner):
    runner.main([])
    runner.SCRIPTS[2].write_text("raise SystemExit(1)")
    assert runner.main(["--check"]) == 1


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--only", "9"], "choose from"),
        (["--jobs", "0"], "from 1 to 64"),
        (["--check"], "nothing"),
        (["--check", "--fast"], "--fast does not go"),
        (["--check", "--dpi", "50"], "--dpi does not go"),
        (["--out", "01_tiny.py"], "give a folder"),
        (["--fas"], "--fas"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(runner, tmp_path, monkeypatch, capsys, flags, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        runner.main(flags)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1
    assert says in error.replace("there is no", "nothing")


def test_the_command_finds_the_numbered_scripts():
    process = subprocess.run([sys.executable, "-m", "week6", "--only", "77"], cwd=ROOT, capture_output=True, text=True)
    numbers = ", ".join(str(int(path.name[:2])) for path in sorted((ROOT / "week6").glob("[0-9][0-9]_*.py")))
    assert process.returncode == 2 and f"(choose from {numbers})" in process.stderr
