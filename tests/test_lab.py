"""What all labs share: flags, console, seeds, records and figures. A tiny lab of the test's own stands in for them."""

import json
import os
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from common import plotting
from common.command_line import console_path
from common.lab import Lab
from common.study import Study
from conftest import ROOT

TINY = """
import sys
sys.path.insert(0, {root!r})
from common.lab import Lab
import matplotlib.pyplot as plt

lab = Lab(9, globals())
if lab.section("1. A section"):
    lab.record("answer", 42)
    {body}
    fig, ax = plt.subplots()
    lab.figure(fig, "09_figure")
lab.finish()
"""


@pytest.fixture
def tiny(tmp_path):
    """Runs the tiny lab as a process: tiny("--flag", body="statement") -> the finished process."""

    def run(*flags, body="pass", **options):
        script = tmp_path / "09_tiny.py"
        script.write_text(TINY.format(root=str(ROOT), body=body))
        return subprocess.run([sys.executable, str(script), *flags], capture_output=True, text=True, **options)

    return run


@pytest.fixture
def script(tmp_path, monkeypatch):
    """A lab as a script gets it: script("--flag") -> Lab."""

    def make(*flags):
        monkeypatch.setattr(sys, "argv", [str(tmp_path / "09_tiny.py"), *flags])
        return Lab(9, {"__name__": "__main__", "__file__": str(tmp_path / "09_tiny.py")})

    return make


@pytest.fixture
def lab(script, tmp_path):
    return script("--out", str(tmp_path / "out"), "--format", "png", "--format", "svg")


@pytest.fixture
def cells(monkeypatch):
    """A lab as a notebook gets it, which has no __file__: cells("--flags") -> Lab."""

    def make(words="", **options):
        monkeypatch.setenv("LAB_FLAGS", words)
        return Lab(9, {"__name__": "__main__"}, **options)

    return make


def test_a_lab_writes_figures_and_results_beside_the_script(tiny, tmp_path):
    process = tiny()
    assert process.returncode == 0, process.stderr
    assert sorted(os.listdir(tmp_path / "outputs")) == ["09_figure.png", "09_results.json"]


def test_a_fast_run_has_a_folder_of_its_own(script, tmp_path):
    assert script("--fast").options.out == tmp_path / "outputs" / "fast"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--seed", "x"], "whole number from 0 to 4294967295"),
        (["--seed", "-1"], "whole number from 0"),
        (["--seed", "4294967296"], "whole number from 0"),
        (["--format", "gif"], "png"),
        (["--dpi", "7"], "from 30 to 1200"),
        (["--fas"], "--fas"),
        (["--unknown"], "--unknown"),
        (["--out", ""], "give a folder"),
        (["--out", "a_file"], "give a folder"),
        (["--out", "a_file/below"], "give a folder"),
        (["--out", "x" * 300], "give a folder"),
        (["--out", "new", "--dpi", "x"], "from 30 to 1200"),
        (["둘\n셋"], "\\ub458"),
        pytest.param(["--out", "/proc/x"], "may write to", marks=pytest.mark.skipif(not os.path.isdir("/proc"), reason="")),
    ],
)
def test_a_mistake_ends_with_one_ascii_line_and_status_2(script, tmp_path, monkeypatch, capsys, flags, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").touch()
    with pytest.raises(SystemExit) as stop:
        script(*flags)
    out, error = capsys.readouterr()
    assert stop.value.code == 2 and out == "" and error.isascii()
    assert error.count("\n") == 1 and says in error
    assert os.listdir(tmp_path) == ["a_file"]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="these always have a display")
def test_show_without_a_display_is_a_mistake(tiny):
    without = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    process = tiny("--show", env=without | {"MPLBACKEND": "module://of_a_kernel"})  # which opens no windows, either
    assert process.returncode == 2 and "display" in process.stderr and process.stderr.count("\n") == 1


def test_a_defect_keeps_its_traceback(tiny):
    process = tiny(body="1 / 0")
    assert process.returncode == 1 and "ZeroDivisionError" in process.stderr


def test_seeds_depend_on_section_and_flag(cells):
    def draw(seed, section):
        return torch.rand(3, generator=cells(f"--seed {seed}").generator(section)).tolist()

    assert draw("0", "a") == draw("0", "a")
    assert draw("0", "a") != draw("0", "b")
    assert draw("0", "a") != draw("1", "a")


FIRST_IMPORT = """
import importlib, sys, torch
for module in sys.argv[1:]:
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(2)
    for name in [name for name in sys.modules if name.split(".")[0] == "common"]:
        del sys.modules[name]
    importlib.import_module(f"common.{module}")
    print(module, torch.get_default_dtype(), torch.get_num_threads())
"""


def test_everything_is_float64_on_one_thread_also_without_a_lab():
    modules = ["attention", "positional_encoding", "transformer", "training", "toy_language", "lab"]
    process = subprocess.run([sys.executable, "-c", FIRST_IMPORT, *modules], capture_output=True, text=True, cwd=ROOT)
    assert process.stdout.splitlines() == [f"{module} torch.float64 1" for module in modules], process.stderr


def test_table_aligns(lab, capsys):
    lab.table(["word", "n"], [["a", 1.0], ["long", 12.345]], digits=1)
    assert capsys.readouterr().out == "  word     n\n  a      1.0\n  long  12.3\n\n"


def test_a_sentence_shows_what_was_kept(lab, capsys):
    lab.record("a", {"noise_0.1": {"rnn": 1 / 3}})
    lab.say("The error is {a.noise_0.1.rnn:.2f} after {n:,} steps.", n=1500)
    assert capsys.readouterr().out == "The error is 0.33 after 1,500 steps.\n\n"
    with pytest.raises(KeyError, match=r"a\.rnn"):
        lab.say("{a.rnn}")


def test_records_are_flattened_and_returned_as_kept(lab):
    assert lab.record("a", {"b": {"c": 1 / 3}, "d": torch.tensor(2.0)}) == {"b": {"c": 0.333333}, "d": 2.0}
    lab.finish()
    results = json.loads((lab.options.out / "09_results.json").read_text())["results"]
    assert {key: entry["value"] for key, entry in results.items()} == {"a.b.c": 0.333333, "a.d": 2.0}


def test_the_first_fitting_line_says_what_kind_of_number_it_is(script, tmp_path, monkeypatch):
    kinds = {"09": {"a.*": "draw", "a.b": "choice", "c": "choice", "d": "zero"}, "10": {"e": "draw"}}
    (tmp_path / "kinds.json").write_text(json.dumps(kinds))
    monkeypatch.setattr("common.lab.KINDS", tmp_path / "kinds.json")
    lab = script()
    for key in ("a.b", "c", "d", "e"):
        lab.record(key, 0.0)
    lab.finish()
    results = json.loads((lab.options.out / "09_results.json").read_text())["results"]
    assert results == {
        "a.b": {"value": 0.0, "draw": True},
        "c": {"value": 0.0, "choice": True},
        "d": {"value": 0.0, "rtol": 1e-3, "atol": 1e-9},
        "e": {"value": 0.0, "rtol": 1e-3},
    }


def test_seconds_stand_apart(script):
    lab = script()
    lab.record_seconds("training", 1.23456)
    lab.finish()
    assert json.loads((lab.options.out / "09_seconds.json").read_text()) == {"training": 1.23}


# --- the study ------------------------------------------------------------------------------------------------------


@pytest.fixture
def with_study(monkeypatch):
    """Every lab has a study of three starts."""

    class Three(Study):
        def __init__(self, lab):
            super().__init__(lab)
            self.n = 3 * (lab > 0)
            self._entries = {"a.b": {"min": 1.0, "q10": 1.2, "median": 2.0, "q90": 3.8, "max": 4.0, "values": [1.0, 2.0, 4.0]}}

    monkeypatch.setattr("common.lab.Study", Three)


def test_a_sentence_shows_what_the_study_found(with_study, cells, capsys):
    cells().say("{a.b@median:.1f}, {a.b@q10:.1f} to {a.b@q90:.1f}, in {n} of {a.b@n} starts", n=2)
    assert capsys.readouterr().out == "2.0, 1.2 to 3.8, in 2 of 3 starts\n\n"
    with pytest.raises(KeyError, match=r"the study has no a\.c@median"):
        cells().say("{a.c@median}")


def test_a_run_that_is_another_experiment_has_no_study(with_study, cells):
    add = lambda parser: parser.add_argument("--heads", type=int, default=4)  # noqa: E731
    assert cells("--seed 3 --dpi 50", add_arguments=add).study
    assert not cells("--heads 2", add_arguments=add).study
    assert not cells("--fast", add_arguments=add).study


def test_a_study_run_draws_nothing(script, monkeypatch):
    monkeypatch.setenv("LAB_NO_FIGURES", "1")
    lab = script()
    lab.record("answer", 42)
    lab.figure(plt.figure(), "09_a")
    lab.finish()
    assert os.listdir(lab.options.out) == ["09_results.json"] and not plt.get_fignums()


def test_a_run_without_findings_leaves_the_files_of_the_run_before(script):
    for found in (True, False):
        lab = script()
        if found:
            lab.record("answer", 42)
        lab.finish()
    assert json.loads((lab.options.out / "09_results.json").read_text())["results"]["answer"]["value"] == 42


# --- the four ways to run -------------------------------------------------------------------------------------------


def test_an_import_runs_no_section_and_reads_no_flags(monkeypatch, capsys):
    monkeypatch.setenv("LAB_FLAGS", "--unknown")
    monkeypatch.setattr(sys, "argv", ["pytest", "--unknown"])
    lab = Lab(1, {"__name__": "week6.01_attention_basics", "__file__": "01_attention_basics.py"})
    assert not lab and not lab.section("1. A section") and lab.options.seed == 0
    lab.finish()
    assert capsys.readouterr().out == ""


def test_cells_take_lab_flags_and_ignore_the_command_line_of_the_kernel(cells, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ipykernel_launcher.py", "-f", "kernel.json"])
    lab = cells("--fast --seed 3")
    assert lab and lab.fast and lab.options.seed == 3
    assert cells("--fast", flags="--seed 5").options.seed == 5


def test_a_mistake_in_cells_is_an_error_that_names_the_flag(cells):
    with pytest.raises(ValueError, match=r"LAB_FLAGS: .*--fats"):
        cells("--fats")


def test_cells_write_nothing_and_may_be_run_again(cells, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.get_fignums()))
    lab = cells("--out folder")
    for value in (1.0, 2.0):
        assert lab.section("1. A section") and lab.record("answer", value) == value
        lab.figure(plt.figure(), "09_figure")
    lab.say("{answer}")
    lab.finish()
    assert len(shown) == 2 and os.listdir(tmp_path) == []
    assert "2.0" in capsys.readouterr().out


def test_a_script_refuses_a_key_twice(lab):
    lab.record("answer", 1.0)
    with pytest.raises(ValueError, match="answer is recorded twice"):
        lab.record("answer", 1.0)


def test_console_path_is_ascii(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert console_path(tmp_path / "a" / "b") == os.path.join("a", "b")
    assert console_path(ROOT) == (str(ROOT) if str(ROOT).isascii() else ROOT.as_uri())
    assert console_path(tmp_path / "한글").startswith("file://")


# --- figures --------------------------------------------------------------------------------------------------------


def test_figures_carry_no_date_and_come_out_byte_for_byte_the_same(lab):
    for name in ("09_a", "09_b"):
        fig, ax = plt.subplots()
        ax.plot([1, 2], [3, 4])
        lab.figure(fig, name)
        assert not plt.fignum_exists(fig.number)
    lab.finish()
    contents = [[(lab.options.out / f"{name}.{suffix}").read_bytes() for suffix in ("png", "svg")] for name in ("09_a", "09_b")]
    assert contents[0] == contents[1]
    png, svg = contents[0]
    assert b"Software" not in png and b"Matplotlib" not in svg and b"<dc:date>" not in svg
    fig, _ = plt.subplots()
    assert b"CreationDate" not in plotting.figure_bytes(fig, "pdf", 100)


def test_a_figure_that_cannot_be_written_names_itself(lab):
    lab.figure(plt.figure(), "09_a")
    (lab.options.out / "09_a.png" / "in the way").mkdir(parents=True)
    with pytest.raises(SystemExit, match=r"cannot write .*09_a.png"):
        lab.finish()


def test_heatmap_of_weights_runs_from_zero_to_one_and_of_signed_values_is_symmetric():
    _, ax = plt.subplots()
    assert plotting.heatmap(ax, np.full((2, 3), 0.5)).get_clim() == (0, 1)
    image = plotting.heatmap(ax, np.array([[-1.0, 3.0]]), signed=True)
    assert image.get_clim() == (-3, 3)
    assert ax.get_xlabel() == "key (column)" and ax.get_ylabel() == "query (row)"


def test_heatmap_puts_row_i_and_column_j_where_they_belong():
    _, ax = plt.subplots()
    plotting.heatmap(ax, np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]), rows="ab", columns="xyz", numbers=".1f")
    assert {(t.get_text(), t.get_position()) for t in ax.texts} >= {("0.3", (2, 0)), ("0.4", (0, 1))}
    assert [t.get_text() for t in ax.get_xticklabels()] == list("xyz")
    assert [t.get_text() for t in ax.get_yticklabels()] == list("ab")


def test_curve_draws_its_band_in_its_colour():
    _, ax = plt.subplots()
    plotting.curve(ax, [1, 2], [3, 4], label="name", low=[2, 3], high=[4, 5], color="#0072B2")
    assert to_rgb(ax.lines[0].get_color()) == tuple(ax.collections[0].get_facecolor()[0][:3])
    assert ax.get_legend_handles_labels()[1] == ["name"]


def test_decades_are_written_out_and_stand_alone():
    fig, ax = plt.subplots()
    ax.set(yscale="log", ylim=(1e-7, 2))
    plotting.decades(ax.yaxis)
    fig.draw_without_rendering()
    assert {"1e-06", "0.01", "1"} <= {t.get_text().replace("\N{MINUS SIGN}", "-") for t in ax.get_yticklabels()}
    assert not ax.yaxis.get_minorticklocs().size


def test_a_title_says_whose_median_it_gives():
    assert plotting.median_of(3) == " (median of 3 starts)" and plotting.median_of(0) == ""


def test_panels_wrap_their_headline():
    fig, axes = plotting.panels("word " * 60, (2, 1), size=(8, 3))
    assert len(axes) == 2 and fig.get_suptitle().count("\n") >= 2


def test_the_starts_of_a_study_are_dots_beside_their_place_and_a_band_from_q10_to_q90():
    _, ax = plt.subplots()
    plotting.start_dots(ax, 2.0, [0.1, 0.2, 0.4], width=0.3)
    x, y = ax.lines[0].get_data()
    assert list(y) == [0.1, 0.2, 0.4] and (abs(x - 2) <= 0.15).all() and len(set(x)) == 3
    plotting.start_band(ax, [1, 2], [range(11), range(0, 110, 10)])
    corners = ax.collections[0].get_paths()[0].vertices
    assert {(1, 1), (1, 9), (2, 10), (2, 90)} <= {tuple(corner) for corner in corners}
    plotting.start_band(ax, [1, 2], [[], []])
    assert len(ax.collections) == 1
