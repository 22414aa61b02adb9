"""`python -m week6`: finds the labs, runs them, compares with the committed numbers, studies starts, and ends in order."""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from common.processes import LOCK
from conftest import ROOT, SCRIPTS

POSIX = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")

# Stands in for a lab: it takes the same flags and writes the same files, but needs no torch.
TINY = """
import argparse, json, os, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--fast", action="store_true")
parser.add_argument("--format", action="append")
parser.add_argument("--seed", type=int, default=0)
for flag in ("--out", "--dpi"):
    parser.add_argument(flag, default="0")
options = parser.parse_args()
seed, out = options.seed, pathlib.Path(options.out)
if "LAB_NO_FIGURES" not in os.environ:
    for suffix in options.format or ["png"]:
        (out / f"{name}_figure.{{suffix}}").write_text(os.environ["MPLBACKEND"])
{body}
answer = {{"value": {answer}, "rtol": 0.001}}
results = {{"lab": int("{name}"), "seed": seed, "fast": options.fast, "options": {{}}, "results": {{"answer": answer}}}}
{last}
(out / "{name}_results.json").write_text(json.dumps(results))
"""
NEVER_ENDS = """
import time
with open(os.environ["PIDS"], "a") as file:
    file.write(f"{os.getpid()}\\n")
while True:
    (out / ".busy.json.part").write_text("x")
    time.sleep(0.01)
"""


def tiny(number, *, answer=None, body="", last=""):
    return TINY.format(name=f"{number:02d}", answer=10 * number if answer is None else answer, body=body, last=last)


def draws(number, choice=0.01, **numbers):
    """A lab whose "draw" depends on its seed, and is what `numbers` says with seed 0."""
    draw = numbers.get("draw", "seed % 5")
    last = f"results['results'] |= {{'draw': {{'value': {draw}, 'draw': True}}, 'best': {{'value': {choice}, 'choice': True}}}}"
    return tiny(number, last=last)


@pytest.fixture
def runner(tmp_path, monkeypatch):
    """The runner's module over a folder with two tiny labs, the second of which can be made to fail."""
    module = importlib.import_module("week6.__main__")
    scripts = {}
    for number in (1, 2):
        path = tmp_path / f"{number:02d}_tiny.py"
        path.write_text(tiny(number))
        scripts[number] = path
    monkeypatch.setattr(module, "SCRIPTS", scripts)
    monkeypatch.setattr(module, "COPIES", [])
    monkeypatch.setattr(module, "HERE", tmp_path)
    return module


def test_when_a_lab_ends_the_runner_says_what_it_found(runner, capsys):
    title = b"Two of three heads \xb1 1"  # the metadata of a PNG; not every console can print it
    chunk = len(b"Title\0" + title).to_bytes(4, "big") + b"tEXtTitle\0" + title
    runner.SCRIPTS[2].write_text(tiny(2, body=f"(out / '02_other.png').write_bytes({chunk!r})"))
    assert runner.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    done = next(i for i, line in enumerate(lines) if "lab 2 done" in line)
    assert lines[done + 1] == "  Two of three heads \\xb1 1"
    assert sum(line.startswith("  ") for line in lines) == 1


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
    assert json.loads((tmp_path / "outputs" / "02_results.json").read_text())["seed"] == 5


def test_flags_reach_the_labs(runner, tmp_path):
    out = tmp_path / "그림 폴더"
    assert runner.main(["--only", "2", "--fast", "--out", str(out), "--format", "svg", "--format", "pdf"]) == 0
    assert sorted(os.listdir(out)) == ["02_figure.pdf", "02_figure.svg", "02_results.json", "index.html"]


def test_an_out_folder_may_start_with_a_dash(runner, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert runner.main(["--only", "1", "--out=-dash"]) == 0
    assert sorted(os.listdir(tmp_path / "-dash")) == ["01_figure.png", "01_results.json", "index.html"]


def test_labs_draw_without_the_users_backend(runner, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    assert runner.main([]) == 0
    assert (tmp_path / "outputs" / "01_figure.png").read_text() == "Agg"


def test_a_failed_lab_is_shown_and_stops_no_other(runner, tmp_path, capsys):
    runner.SCRIPTS[1].write_text("raise RuntimeError('broken \\ud55c lab')", encoding="ascii")
    assert runner.main([]) == 1
    out = capsys.readouterr().out
    assert "01_tiny.py                   FAILED" in out and "broken" in out and out.isascii()
    assert (tmp_path / "outputs" / "02_figure.png").exists()


def test_a_failed_lab_replaces_nothing(runner, tmp_path):
    def of_labs():
        return {path: path.read_bytes() for path in (tmp_path / "outputs").glob("0*")}

    runner.main([])
    before = of_labs()
    runner.SCRIPTS[2].write_text(tiny(2, body="(out / '02_figure.png').write_text('new'); raise SystemExit(3)"))
    assert runner.main(["--seed", "1", "--only", "2"]) == 1
    assert before == of_labs()
    assert "failed in this run" in (tmp_path / "outputs" / "index.html").read_text(encoding="utf-8")


def test_a_figure_that_cannot_be_replaced_is_a_failure_that_names_it(runner, tmp_path, capsys):
    (tmp_path / "outputs" / "02_figure.png" / "in the way").mkdir(parents=True)
    assert runner.main([]) == 1
    out = capsys.readouterr().out
    assert "02_figure.png cannot be replaced" in out and "01_tiny.py                   ok" in out


# --- which files are labs -------------------------------------------------------------------------------------------


def test_a_copy_of_a_lab_is_not_run_and_a_new_lab_is(tmp_path, runner):
    names = ["01_attention_basics.py", "01_attention_basics_backup.py", "01_a.py", "02_self_attention - Copy.py"]
    names += ["06_x.py", "06_x_mine.py", "attempt1.py", "1_x.py", "\uff10\uff17_x.py", "03_notes.txt"]
    folder = tmp_path / "labs"
    folder.mkdir()
    for name in names:
        (folder / name).touch()
    labs, copies = runner.find_labs(folder)
    assert {n: path.name for n, path in labs.items()} == {1: names[0], 2: names[3], 6: "06_x.py"}
    assert {path.name for path in copies} == {names[1], names[2], "06_x_mine.py"}


def test_a_copy_is_said_not_to_run(runner, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner, "COPIES", [tmp_path / "01_\ub0b4\uac83.py"])
    assert runner.main(["--only", "2"]) == 0
    assert capsys.readouterr().out.startswith("01_\\ub0b4\\uac83.py is not run: lab 1 is 01_tiny.py\n")


# --- --check --------------------------------------------------------------------------------------------------------


def test_check_passes_on_the_same_numbers_and_names_those_that_moved(runner, tmp_path, capsys):
    runner.main([])
    before = {path: path.read_bytes() for path in (tmp_path / "outputs").iterdir()}
    assert runner.main(["--check"]) == 0
    assert "2 recorded numbers compared (2 exact, 0 draws and choices), 0 moved" in capsys.readouterr().out
    runner.SCRIPTS[2].write_text(tiny(2, answer=20.3))
    assert runner.main(["--check"]) == 1
    assert "lab 2: answer: recorded 20, now 20.3" in capsys.readouterr().out
    assert before == {path: path.read_bytes() for path in (tmp_path / "outputs").iterdir()}


@pytest.mark.parametrize(
    ("rerun", "line"),
    [
        ({"draw": 2}, None),
        ({"draw": 5.9}, None),  # the starts gave 0 to 4, and half of that is left for one more
        ({"draw": 6.1}, "draw: now 6.1, outside -2 to 6"),
        ({"choice": 0.02}, "best: now 0.02, which none of the study's 5 starts chose"),
    ],
)
def test_check_judges_draws_by_the_study(runner, capsys, rerun, line):
    for number in (1, 2):
        runner.SCRIPTS[number].write_text(draws(number))
    assert runner.main([]) == 0 and runner.main(["--study", "5"]) == 0
    runner.SCRIPTS[2].write_text(draws(2, **rerun))
    assert runner.main(["--check"]) == (1 if line else 0)
    out = capsys.readouterr().out
    assert "6 recorded numbers compared (2 exact, 4 draws and choices)" in out
    assert line is None or f"lab 2: {line}" in out


def test_check_needs_a_study_for_draws(runner, capsys):
    runner.SCRIPTS[2].write_text(draws(2))
    runner.main([])
    capsys.readouterr()
    with pytest.raises(SystemExit):
        runner.main(["--check"])
    out, error = capsys.readouterr()
    assert "02_results.json: draw is a draw, but no 02_study.json knows it" in error and "started" not in out


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("01_results.json", "{", "01_results.json: not JSON"),
        ("01_results.json", '{"seed": 0}', "01_results.json: must hold"),
        ("02_study.json", "[]", "02_study.json: must hold"),
        ("02_results.json", None, "there is no"),
    ],
)
def test_check_names_a_spoilt_file_before_any_lab_starts(runner, tmp_path, capsys, name, content, says):
    runner.main([])
    path = tmp_path / "outputs" / name
    path.unlink(missing_ok=True) if content is None else path.write_text(content)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        runner.main(["--check"])
    out, error = capsys.readouterr()
    assert stop.value.code == 2 and error.count("\n") == 1 and says in error and out == ""


@pytest.mark.parametrize("flags", [["--seed", "5"], ["--fast", "--out", "outputs"]])
def test_check_refuses_numbers_from_another_run(runner, tmp_path, monkeypatch, capsys, flags):
    monkeypatch.chdir(tmp_path)
    runner.main(flags)
    with pytest.raises(SystemExit):
        runner.main(["--check"])
    assert "recorded with seed 5" in (error := capsys.readouterr().err) or "--fast" in error


def test_check_says_what_is_wrong_with_the_rerun(runner, capsys):
    runner.main([])
    runner.SCRIPTS[2].write_text(tiny(2, last="answer['value'] = float('nan')"))
    assert runner.main(["--check"]) == 1
    assert "lab 2: the re-run's 02_results.json: answer: nan is not a finite number" in capsys.readouterr().out


def test_check_fails_if_a_lab_fails(runner):
    runner.main([])
    runner.SCRIPTS[2].write_text("raise SystemExit(1)")
    assert runner.main(["--check"]) == 1


# --- --study --------------------------------------------------------------------------------------------------------


def read_json(path):
    return json.loads(path.read_text())


def test_a_study_collects_what_the_starts_found_and_leaves_no_figures(runner, tmp_path, capsys):
    runner.SCRIPTS[2].write_text(draws(2))
    assert runner.main(["--study", "6"]) == 0
    assert sorted(os.listdir(tmp_path / "outputs")) == ["01_study.json", "02_study.json", "study"]
    study = read_json(tmp_path / "outputs" / "02_study.json")
    assert (study["lab"], study["n"], study["fast"]) == (2, 6, False)
    assert study["results"]["draw"]["values"] == [1, 2, 3, 4, 0, 1] and study["results"]["draw"]["median"] == 1.5
    assert study["results"]["answer"]["max"] == 20 and "values" not in study["results"]["answer"]
    folders = sorted(os.listdir(tmp_path / "outputs" / "study"))
    assert folders == [f"seed_00{seed}" for seed in range(1, 7)]
    assert sorted(os.listdir(tmp_path / "outputs" / "study" / "seed_001")) == [
        f"0{n}_{name}.json" for n in (1, 2) for name in ("code", "results")
    ]
    out = capsys.readouterr().out
    assert "6 starts, 12 runs: 0 are there, 12 to make" in out and "[12 of 12]" in out and " left\n" in out


def test_only_a_study_asks_its_labs_for_no_figures(runner):
    runner.SCRIPTS[1].write_text(tiny(1, body="assert os.environ['LAB_NO_FIGURES'] == '1'"))
    assert runner.main(["--only", "1", "--study", "2"]) == 0 and runner.main(["--only", "1"]) == 1


def test_a_study_goes_on_where_it_was_and_runs_again_what_changed(runner, tmp_path, capsys):
    log = tmp_path / "log"
    for number in (1, 2):
        runner.SCRIPTS[number].write_text(tiny(number, body=f"open({str(log)!r}, 'a').write(f'{number}.{{seed}} ')"))
    runner.main(["--study", "2"])
    assert sorted(log.read_text().split()) == ["1.1", "1.2", "2.1", "2.2"]
    log.unlink()
    runner.main(["--study", "3"])
    assert sorted(log.read_text().split()) == ["1.3", "2.3"]
    log.unlink()
    with runner.SCRIPTS[1].open("a") as script:
        script.write("seed += 0\n")
    runner.main(["--study", "3", "--only", "1"])
    assert sorted(log.read_text().split()) == ["1.1", "1.2", "1.3"]
    (tmp_path / "outputs" / "study" / "seed_002" / "01_results.json").write_text("{")
    (tmp_path / "outputs" / "study" / "seed_003" / "01_code.json").write_text("{}")
    log.unlink()
    runner.main(["--study", "3", "--only", "1"])
    assert sorted(log.read_text().split()) == ["1.2", "1.3"]
    assert "3 starts, 3 runs: 1 are there, 2 to make" in capsys.readouterr().out


def test_a_study_of_fast_runs_stays_with_them(runner, tmp_path):
    assert runner.main(["--study", "2", "--fast"]) == 0
    assert os.listdir(tmp_path / "outputs") == ["fast"]
    assert read_json(tmp_path / "outputs" / "fast" / "01_study.json")["fast"] is True


def test_a_start_that_fails_is_named_and_the_other_labs_are_collected(runner, tmp_path, capsys):
    runner.SCRIPTS[1].write_text(tiny(1, body="assert seed != 2, 'unlucky'"))
    assert runner.main(["--study", "3"]) == 1
    out = capsys.readouterr().out
    assert "lab 1, seed 2 FAILED (status 1)" in out and "unlucky" in out
    assert "lab 1: no study, because 1 of 3 runs are missing (seed 2 for one)" in out
    assert not (tmp_path / "outputs" / "01_study.json").exists() and (tmp_path / "outputs" / "02_study.json").exists()


@pytest.mark.parametrize("spoil", ["results['seed'] = 0", "results['fast'] = True", "answer['value'] = float('nan')"])
def test_a_run_that_is_not_what_was_asked_for_is_not_kept(runner, tmp_path, capsys, spoil):
    runner.SCRIPTS[1].write_text(tiny(1, last=spoil))
    assert runner.main(["--study", "2"]) == 1
    assert "lab 1, seed 1 FAILED (01_results.json: " in capsys.readouterr().out
    assert not (tmp_path / "outputs" / "study" / "seed_001" / "01_results.json").exists()


def test_a_key_that_not_every_start_has_is_said(runner, tmp_path, capsys):
    runner.SCRIPTS[1].write_text(tiny(1, last="if seed == 1: results['results']['rare'] = answer"))
    assert runner.main(["--study", "2"]) == 1
    assert "lab 1: left out 1 keys that not every start recorded: rare" in capsys.readouterr().out
    assert list(read_json(tmp_path / "outputs" / "01_study.json")["results"]) == ["answer"]


def test_the_courses_study_is_not_overwritten_by_a_smaller_one(runner, tmp_path, capsys):
    runner.main(["--study", "3"])
    with pytest.raises(SystemExit):
        runner.main(["--study", "2"])
    assert "the course's has 3 starts" in capsys.readouterr().err
    assert runner.main(["--study", "2", "--out", str(tmp_path / "mine")]) == 0


# --- mistakes, and a folder for one run at a time -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--only", "9"], "choose from"),
        (["--jobs", "0"], "from 1 to 64"),
        (["--check"], "there is no"),
        (["--check", "--fast"], "--fast does not go"),
        (["--check", "--dpi", "50"], "--dpi does not go"),
        (["--study", "1"], "from 2 to"),
        (["--study", "--seed", "3"], "--seed does not go"),
        (["--study", "--check"], "not together"),
        (["--out", "01_tiny.py"], "give a folder"),
        (["--fas"], "--fas"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(runner, tmp_path, monkeypatch, capsys, flags, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        runner.main(flags)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and says in error


def test_a_broken_script_is_named_by_a_study(runner, capsys):
    runner.SCRIPTS[1].write_text("x = 1\nif:\n")
    with pytest.raises(SystemExit):
        runner.main(["--study", "2"])
    assert "01_tiny.py, line 2: " in capsys.readouterr().err


def test_what_a_killed_run_left_is_swept(runner, tmp_path):
    out = tmp_path / "outputs"
    (out / ".running" / "01").mkdir(parents=True)
    (out / ".running" / "01" / "01_figure.png").touch()
    (out / LOCK).write_text("1")  # a process that lives, but holds no lock
    for name, age in (("old", 3600), ("young", 1)):
        (out / f".{name}.png.1a2b.part").touch()
        os.utime(out / f".{name}.png.1a2b.part", (time.time() - age,) * 2)
    assert runner.main(["--only", "1"]) == 0
    assert sorted(os.listdir(out)) == [".young.png.1a2b.part", "01_figure.png", "01_results.json", "index.html"]


# --- the command as a process, and how it ends ----------------------------------------------------------------------


@pytest.fixture
def course(tmp_path):
    """A copy of the course, in a path with spaces and Hangul, with a quick lab 1 and a lab 2 that never ends."""
    folder = tmp_path / "6\uc8fc\ucc28 \uc2e4\uc2b5"
    shutil.copytree(ROOT / "common", folder / "common", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "week6").mkdir()
    for name in ("__init__.py", "__main__.py", "index.py"):
        shutil.copy(ROOT / "week6" / name, folder / "week6" / name)
    (folder / "week6" / "01_tiny.py").write_text(tiny(1))
    (folder / "week6" / "02_slow.py").write_text(tiny(2, body=NEVER_ENDS))
    return folder


AS_ON_A_TERMINAL = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
for name in {"SIGTERM", "SIGHUP"} & set(dir(signal)):
    signal.signal(getattr(signal, name), signal.SIG_DFL)
runpy.run_module("week6", run_name="__main__", alter_sys=True)
"""


def start(course, *flags, **options):
    """`python -m week6` there, with the signals of a terminal even where the tests run in the background."""
    environment = os.environ | {"PIDS": str(course / "pids"), "TMPDIR": str(course / "tmp"), "PYTHONPATH": str(course)}
    (course / "tmp").mkdir(exist_ok=True)
    command = [sys.executable, "-c", AS_ON_A_TERMINAL, *flags]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    return subprocess.Popen(command, cwd=course, env=environment, **pipes)


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


def slow_labs(course):
    """The process numbers of the slow labs that have started."""
    return [int(line) for line in (course / "pids").read_text().split()] if (course / "pids").exists() else []


def alive(pid):
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest.fixture
def no_slow_lab_survives(course):
    yield
    for pid in slow_labs(course):
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


@POSIX
@pytest.mark.parametrize(
    ("name", "status", "line"), [("SIGTERM", 143, "Stopped."), ("SIGINT", 130, "Interrupted."), ("SIGHUP", 129, "Stopped.")]
)
@pytest.mark.parametrize("flags", [[], ["--study", "2"]])
def test_a_stopped_runner_ends_its_labs_and_clears_up(course, no_slow_lab_survives, name, status, line, flags):
    runner = start(course, *flags, "--jobs", "2")
    pids = wait_for(lambda: slow_labs(course))
    runner.send_signal(getattr(signal, name))
    _, error = runner.communicate()
    assert (runner.returncode, error.strip()) == (status, line)
    assert not any(map(alive, pids)) and os.listdir(course / "tmp") == []
    left = [path.name for path in (course / "week6").rglob("*") if path.name.startswith(".")]
    assert left == []


@POSIX
@pytest.mark.parametrize("flags", [[], ["--study", "2"]])
def test_labs_notice_that_their_runner_was_killed_and_the_next_run_clears_up(course, no_slow_lab_survives, flags):
    runner = start(course, *flags, "--jobs", "2")
    pids = wait_for(lambda: slow_labs(course))
    runner.kill()
    runner.communicate()
    wait_for(lambda: not any(map(alive, pids)), 5.0)
    assert os.listdir(course / "tmp") == []
    (course / "week6" / "02_slow.py").write_text(tiny(2))
    runner = start(course, *flags)
    out, error = runner.communicate()
    assert (runner.returncode, error) == (0, ""), out
    assert [path.name for path in (course / "week6").rglob("*") if path.name.startswith(".")] == []


@POSIX
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_a_lab_that_ignores_ctrl_c_ends_all_the_same(course, no_slow_lab_survives, name):
    ignore = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    (course / "week6" / "02_slow.py").write_text(tiny(2, body=ignore + NEVER_ENDS))
    runner = start(course, "--only", "2")
    pids = wait_for(lambda: slow_labs(course))
    runner.send_signal(getattr(signal, name))
    runner.communicate()
    wait_for(lambda: not any(map(alive, pids)), 5.0)


@POSIX
def test_a_second_run_into_the_folder_is_refused_in_one_line(course, no_slow_lab_survives):
    first = start(course, "--only", "2")
    wait_for(lambda: slow_labs(course))
    for flags in ([], ["--check"]):
        if flags:
            first_results = course / "week6" / "outputs" / "01_results.json"
            one = {"lab": 1, "seed": 0, "fast": False, "options": {}, "results": {"answer": {"value": 1, "rtol": 0}}}
            first_results.write_text(json.dumps(one))
        second = start(course, "--only", "1", *flags)
        _, error = second.communicate()
        assert second.returncode == 2 and error.count("\n") == 1 and f"another run (process {first.pid})" in error
    elsewhere = start(course, "--only", "1", "--out", "elsewhere")
    elsewhere.communicate()
    assert elsewhere.returncode == 0
    first.terminate()
    first.communicate()


@POSIX
def test_a_reader_that_has_seen_enough_is_no_error(course):
    (course / "week6" / "02_slow.py").write_text(tiny(2))
    piped = subprocess.run(f"'{sys.executable}' -m week6 | head -1", shell=True, cwd=course, capture_output=True, text=True)
    assert piped.stdout.count("\n") == 1 and piped.stderr == ""


@POSIX
def test_a_reader_that_went_away_ends_the_labs(course, no_slow_lab_survives):
    runner = start(course, "--jobs", "2", stdin=subprocess.DEVNULL)
    runner.stdout.close()
    _, error = runner.communicate()
    assert (runner.returncode, error) == (1, "") and not any(map(alive, slow_labs(course)))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full disk")
def test_a_full_disk_behind_stdout_is_one_line(course):
    with open("/dev/full", "w") as full:
        runner = start(course, "--only", "1", stdout=full)
        _, error = runner.communicate()
    assert runner.returncode == 1 and error.count("\n") == 1 and "no space left" in error


def test_the_folder_can_be_run_from_anywhere(course, tmp_path):
    command = [sys.executable, str(course / "week6"), "--only", "1"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 0 and (course / "week6" / "outputs" / "01_figure.png").exists(), process.stderr


@POSIX
def test_a_deleted_working_folder_is_one_line(course, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"cd '{gone}' && rmdir '{gone}' && '{sys.executable}' '{course / 'week6'}' --only 1"
    process = subprocess.run(script, shell=True, capture_output=True, text=True)
    assert process.returncode == 2 and process.stderr.count("\n") == 1 and "no longer exists" in process.stderr


def test_the_command_finds_the_numbered_scripts():
    process = subprocess.run([sys.executable, "-m", "week6", "--only", "77"], cwd=ROOT, capture_output=True, text=True)
    numbers = ", ".join(str(int(path.name[:2])) for path in SCRIPTS)
    assert process.returncode == 2 and f"(choose from {numbers})" in process.stderr
