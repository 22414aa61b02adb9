"""A lab where students really run it: editors and kernels, odd settings, streams that break, and runs that are stopped."""

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

from common import ending, plotting, results
from common.lab import Lab
from common.locking import locked
from common.results import write_together
from common.study import Study
from conftest import ROOT, WARNINGS_AS_ERRORS, on_a_terminal

POSIX = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals and shells")

TINY = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from common.command_line import Parser
from common.lab import Lab
from common.plotting import panels

lab = Lab(9, globals())
if lab.section("1. A section"):
    lab.record("answer", 42)
    fig, axes = panels("A figure with $x^2$ and words", (1, 1), size=(6, 3))
    axes[0].plot([1, 2, 3], [1, 4, 9], label="squares")
    axes[0].legend()
    axes[1].imshow([[1, 2], [3, 4]])
    lab.figure(fig, "09_figure")
BODY
lab.finish()
"""
EARLY = TINY.replace("from common.lab", "BODY\nfrom common.lab").replace("\nBODY\nlab.finish", "\nlab.finish")


def make(folder, body="", text=TINY, name="09_tiny.py"):
    script = folder / name
    script.write_text(text.replace("BODY", body))
    return script


def run(command, folder, **options):
    """It runs in a folder of its own, as the tests do in the background: with Ctrl-C ignored."""
    ignore = None if os.name == "nt" else lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, preexec_fn=ignore, **options)


def shell(line, folder, **options):
    return run(["sh", "-c", line.format(python=f"'{sys.executable}'")], folder, **options)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- the settings of the user ---------------------------------------------------------------------------------------

RC = """
backend: module://of_another_environment
figure.facecolor: black
axes.facecolor: black
text.color: white
axes.labelcolor: white
text.usetex: True
font.family: A Font That Nobody Has
font.size: 30
savefig.bbox: tight
savefig.transparent: True
svg.fonttype: none
pdf.compression: 0
path.sketch: 1, 100, 2
lines.linestyle: :
image.interpolation: bicubic
timezone: Asia/Seoul
"""


def test_figures_are_the_same_bytes_with_any_matplotlibrc_locale_time_zone_and_backend(tmp_path):
    script = make(tmp_path)
    flags = [word for suffix in plotting._METADATA for word in ("--format", suffix)]
    usual = run([sys.executable, str(script), *flags, "--out", "usual"], tmp_path)
    (tmp_path / "matplotlibrc").write_text(RC)
    odd = {"MPLBACKEND": "module://of_another_kernel", "LC_ALL": "de_DE.UTF-8", "TZ": "Asia/Seoul", "PYTHONHASHSEED": "5"}
    command = [sys.executable, *WARNINGS_AS_ERRORS, str(script), *flags, "--out", "odd"]
    theirs = run(command, tmp_path, env=os.environ | odd)
    assert usual.stderr == theirs.stderr == ""
    assert len(contents(tmp_path / "usual")) == 4 and contents(tmp_path / "usual") == contents(tmp_path / "odd")


@pytest.fixture
def cells(monkeypatch):
    monkeypatch.delenv("LAB_FLAGS", raising=False)
    return Lab(9, {"__name__": "__main__"})


def test_in_a_session_that_goes_on_the_look_is_given_back_with_each_figure(cells, monkeypatch):
    sizes = []
    monkeypatch.setattr(plt, "show", lambda: sizes.append(matplotlib.rcParams["font.size"]))
    with plt.rc_context({"font.size": 30, "axes.grid": False}):
        for _ in range(2):
            fig, axes = plotting.panels("A title", (1,), size=(4, 3))
            assert axes[0].xaxis.label.get_size() == 11
            cells.figure(fig, "09_figure")
            assert matplotlib.rcParams["font.size"] == 30 and not matplotlib.rcParams["axes.grid"]
    assert sizes == [11, 11]


def test_a_dtype_and_a_grad_mode_set_elsewhere_do_not_reach_a_section(cells):
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(False)
    assert cells.section("1. A section")
    assert torch.get_default_dtype() is torch.float64 and torch.is_grad_enabled()


SESSION = """
import os, signal, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
import matplotlib
matplotlib.use("svg")
matplotlib.rcParams["font.size"] = 30

def state():
    hook = sys.excepthook.__module__
    handlers = [signal.getsignal(getattr(signal, name)) for name in ("SIGINT", "SIGTERM")]
    return hook, handlers, matplotlib.get_backend().lower(), matplotlib.rcParams["font.size"]

before = state()
shell.run_cell("%run 09_tiny.py --out out", store_history=True)
assert state() == before and sorted(os.listdir("out")) == ["09_figure.png", "09_results.json"]
shell.run_cell("%run 10_fails.py --out out", store_history=True)
assert state() == before
shell.run_cell("from common.plotting import panels; fig, axes = panels('By hand', (1,), size=(4, 3))")
assert axes[0].xaxis.label.get_size() == 11 and state() == before
print("all given back")
"""


def test_percent_run_writes_the_files_and_gives_the_session_back(tmp_path):
    pytest.importorskip("IPython")
    make(tmp_path)
    make(tmp_path, body="1 / 0", name="10_fails.py")
    session = SESSION.replace("axes[0]", "shell.user_ns['axes'][0]")
    process = run([sys.executable, "-c", session], tmp_path, env=os.environ | {"IPYTHONDIR": str(tmp_path)})
    assert process.stdout.endswith("all given back\n") and "ZeroDivisionError" in process.stdout, process


class EditorConsole(io.TextIOBase):
    """As IDLE's: no encoding to reconfigure, no file descriptor."""

    def write(self, text):
        return len(text)


def test_a_console_that_cannot_be_reconfigured_is_no_error(tmp_path, monkeypatch):
    script = str(tmp_path / "09_tiny.py")
    monkeypatch.setattr(sys, "argv", [script])
    monkeypatch.setattr(sys, "stdout", EditorConsole())
    lab = Lab(9, {"__name__": "__main__", "__file__": script})
    lab.record("answer", 42)
    lab.finish()
    assert os.listdir(tmp_path / "outputs") == ["09_results.json"]


def test_nothing_is_taken_from_a_process_that_is_not_the_scripts():
    assert not ending.runs_a_lab() and sys.excepthook is not ending._one_line
    assert signal.getsignal(signal.SIGINT) is not ending._stop


def test_a_spoilt_study_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "09_study.json").write_text('{"lab": 9, "n": 2')
    monkeypatch.setattr("common.lab.Study", lambda number: Study(number, tmp_path))
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "09_tiny.py")])
    with pytest.raises(SystemExit) as stop:
        Lab(9, {"__name__": "__main__", "__file__": sys.argv[0]})
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and "09_study.json: not JSON" in error and "git checkout" in error
    with pytest.raises(ValueError, match=r"09_study\.json: not JSON"):
        Lab(9, {"__name__": "__main__"}, flags="")


# --- streams that break ---------------------------------------------------------------------------------------------


@POSIX
def test_closed_streams_are_no_error(tmp_path):
    make(tmp_path)
    process = shell("{python} 09_tiny.py --format pdf <&- >&- 2>&-", tmp_path)
    assert process.returncode == 0
    assert contents(tmp_path / "outputs")["09_figure.pdf"].startswith(b"%PDF")


@POSIX
def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    make(tmp_path)
    process = shell("{{ sleep 0.2; {python} 09_tiny.py; echo status $? >&2; }} | true", tmp_path)
    assert process.stderr == "status 1\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full disk")
def test_a_full_disk_behind_stdout_is_one_line(tmp_path):
    make(tmp_path)
    process = shell("{python} 09_tiny.py --help > /dev/full", tmp_path)
    assert (process.returncode, process.stderr) == (1, "09_tiny.py: no space left where it writes\n")


@POSIX
def test_a_deleted_working_folder_is_one_line(tmp_path):
    script = make(tmp_path)
    process = shell(f"mkdir gone && cd gone && rmdir ../gone && {{python}} '{script}'", tmp_path)
    assert process.returncode == 2 and process.stderr.count("\n") == 1 and "no longer exists" in process.stderr


# --- runs that are stopped ------------------------------------------------------------------------------------------


@POSIX
@pytest.mark.parametrize(("name", "status", "line"), [("SIGINT", 130, "Interrupted."), ("SIGTERM", 143, "Stopped.")])
def test_a_stopped_script_says_so_and_leaves_figures_and_numbers_of_one_run(tmp_path, name, status, line):
    out = tmp_path / "outputs"
    out.mkdir()
    for file in ("09_figure.png", "09_results.json"):
        (out / file).write_text("of the run before")
    before = contents(out)
    script = make(tmp_path, body=f"os.kill(os.getpid(), signal.{name})")
    process = run(on_a_terminal(script), tmp_path)
    assert (process.returncode, process.stderr.strip()) == (status, line) and "1. A section" in process.stdout
    assert contents(out) == before


@POSIX
@pytest.mark.parametrize(("name", "status", "line"), [("SIGINT", 130, "Interrupted."), ("SIGHUP", 129, "Stopped.")])
def test_ctrl_c_ends_a_script_while_libraries_load_that_swallow_exceptions(tmp_path, name, status, line):
    swallow = f"try: os.kill(os.getpid(), signal.{name})\nexcept BaseException: pass\nraise SystemExit('went on')"
    process = run(on_a_terminal(make(tmp_path, swallow, EARLY)), tmp_path)
    assert (process.returncode, process.stderr.strip()) == (status, line)


@POSIX
def test_ctrl_c_ends_the_grader_in_one_line(tmp_path):
    command = on_a_terminal(ROOT / "week6" / "exercises" / "__main__.py", "--watch")
    grader = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert grader.stdout.readline()
    grader.send_signal(signal.SIGINT)
    _, error = grader.communicate(timeout=60)
    assert (grader.returncode, error.strip()) == (130, "Interrupted.")


@POSIX
def test_a_script_in_the_background_is_not_stopped_by_ctrl_c(tmp_path):
    script = make(tmp_path, "os.kill(os.getpid(), signal.SIGINT)\nraise SystemExit(7)", EARLY)
    assert run([sys.executable, str(script)], tmp_path).returncode == 7


@POSIX
def test_a_stop_waits_until_the_files_stand(monkeypatch):
    ended = []
    monkeypatch.setattr(ending, "_end", lambda *how: ended.append(how))
    with ending.held():
        ending._stop(signal.SIGTERM)
        assert not ended
    assert ended == [(143, "\nStopped.")]
    ending._stop(signal.SIGINT)
    assert ended[1:] == [(130, "\nInterrupted.")]


FILES = {"09_a.png": b"new a", "09_b.png": b"new b", "09_results.json": b"new numbers"}


@pytest.mark.parametrize("writes", range(8))  # three files are written, the folder locked, three files moved
def test_wherever_a_run_breaks_off_numbers_stand_beside_their_own_figures(tmp_path, monkeypatch, writes):
    write_together(tmp_path, dict.fromkeys(FILES, b"old"))
    left = writes

    def until_it_breaks(function):
        def call(*arguments, **options):
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(28, "No space left on device", "a file")
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(Path, "open", until_it_breaks(Path.open))
    monkeypatch.setattr(os, "replace", until_it_breaks(os.replace))
    with suppress(OSError):
        write_together(tmp_path, FILES)
    monkeypatch.undo()
    found = contents(tmp_path)
    assert not any(name.endswith(".part") for name in found)
    if "09_results.json" in found:
        assert found in (FILES, dict.fromkeys(FILES, b"old"))
    else:
        assert 4 <= writes < 7


MEET = """
import time
for name in ("09_a.txt", "09_b.txt"):
    lab.write(name, str(lab.options.seed).encode())
me, other = (lab.options.out / f"{seed} is here" for seed in (lab.options.seed, 3 - lab.options.seed))
me.touch()
while not other.exists():
    time.sleep(0.001)
"""
ROUNDS = """
import os, runpy, sys, time
seed, replace = sys.argv[-1], os.replace
hesitates = {("1", "09_a.txt"): 0.2, ("2", "09_b.txt"): 0.4}  # so that each would have the last word on one of the files
os.replace = lambda part, path: (time.sleep(hesitates.get((seed, path.name), 0)), replace(part, path))
for i in range(3):
    sys.argv = ["09_tiny.py", "--out", f"round {i}", "--dpi", "30", "--seed", seed]
    runpy.run_path("09_tiny.py", run_name="__main__")
"""


def test_of_two_runs_that_end_in_the_same_moment_all_files_of_one_stay(tmp_path):
    make(tmp_path, MEET)
    commands = [[sys.executable, "-c", ROUNDS, seed] for seed in "12"]
    runs = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) for command in commands]
    assert [run.wait(100) for run in runs] == [0, 0]
    for folder in (tmp_path / f"round {i}" for i in range(3)):
        files = contents(folder)
        seed = b"%d" % json.loads(files["09_results.json"])["seed"]
        assert files["09_a.txt"] == files["09_b.txt"] == seed
        assert not [name for name in files if name.startswith(".")]


@pytest.mark.skipif(os.name == "nt", reason="another process would have to hold the lock there")
def test_who_waits_in_vain_for_another_run_says_so_and_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "_PATIENCE", 0.1)
    write_together(tmp_path, dict.fromkeys(FILES, b"old"))
    with locked(tmp_path / results._LOCK), pytest.raises(OSError, match=f"process {os.getpid()} is writing there"):
        write_together(tmp_path, FILES)
    assert contents(tmp_path) == dict.fromkeys(FILES, b"old")


def test_a_script_writes_nothing_before_its_end(tmp_path, monkeypatch):
    script = str(tmp_path / "09_tiny.py")
    monkeypatch.setattr(sys, "argv", [script])
    lab = Lab(9, {"__name__": "__main__", "__file__": script})
    lab.record("answer", 42)
    lab.figure(plt.figure(), "09_figure")
    lab.write("09_page.html", b"text")
    assert os.listdir(lab.options.out) == []
    lab.finish()
    assert sorted(os.listdir(lab.options.out)) == ["09_figure.png", "09_page.html", "09_results.json"]
    assert json.loads((lab.options.out / "09_results.json").read_text())["results"]["answer"]["value"] == 42


# --- the files as git hands them out --------------------------------------------------------------------------------


def test_a_checkout_where_git_writes_crlf_still_runs(tmp_path):
    clone = ["git", "-c", "core.autocrlf=true", "clone", "-q", "--shared", str(ROOT), str(tmp_path / "clone")]
    try:
        if subprocess.run(clone, capture_output=True).returncode:
            pytest.skip("this is no git repository that may be cloned")
    except OSError:
        pytest.skip("there is no git")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=tmp_path / "clone", capture_output=True, text=True).stdout
    names = [name for name in tracked.split("\0") if name and not name.endswith(".png")]
    assert ".ci/run" in names and [name for name in names if b"\r" in (tmp_path / "clone" / name).read_bytes()] == []
