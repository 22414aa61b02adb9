"""The scripts as their users run them: as processes, from other folders, on other consoles, without a network."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time

import matplotlib.image
import numpy as np
import pytest

from common.results import kind, moved, read_results
from conftest import CONSOLES, OTHER_MACHINE, ROOT, SCRIPTS, on_a_terminal

FIGURES = {
    "01": ["attention_weights", "longer_sequence", "masks", "scaling_effect"],
    "02": ["self_attention_components", "multi_head_attention", "rnn_vs_attention", "attention_sink"],
    "03": [
        "encoding_comparison",
        "extrapolation",
        "position_effect",
        "positional_encoding_sinusoidal",
        "relative_position",
        "stretched_positions",
    ],
    "04": [
        "transformer_dataflow",
        "attention_patterns",
        "residual_effect",
        "norm_and_activation",
        "pre_vs_post_norm",
        "generation",
    ],
    "05": [
        "sample_sequences",
        "performance_comparison",
        "attention_patterns",
        "multihead_analysis",
        "position_importance",
        "recall",
        "common_mistakes",
        "sensitivity",
    ],
}
PAGES = {"02": ["02_explore.html"]}
TIMED = ("02",)  # labs whose figures show wall-clock times, and so differ from run to run

LABS = pytest.mark.parametrize("lab", [path.name[:2] for path in SCRIPTS])


def script_of(lab):
    (script,) = (path for path in SCRIPTS if path.name.startswith(lab))
    return script


def figures_of(lab):
    return [f"{lab}_{name}.png" for name in FIGURES[lab]]


def results_in(folder, lab):
    return json.loads((folder / f"{lab}_results.json").read_text(encoding="ascii"))


def test_importing_the_scripts_runs_nothing():
    imports = "".join(f"importlib.import_module('week6.{script.stem}'); assert not plt.get_fignums()\n" for script in SCRIPTS)
    command = [sys.executable, "-c", f"import importlib, matplotlib.pyplot as plt\n{imports}"]
    process = subprocess.run(command, capture_output=True, cwd=ROOT)
    assert process.returncode == 0 and process.stdout == b"" and process.stderr == b""


@LABS
@pytest.mark.parametrize("console", CONSOLES)
def test_a_script_runs_anywhere(lab, console, fast_runs):
    run = fast_runs[lab, console]
    assert run.process.returncode == 0, run.process.stderr.decode(errors="replace")
    assert run.process.stdout.isascii() and run.process.stderr == b""
    written = sorted(name for name in os.listdir(run.out) if name.startswith(lab) and name != f"{lab}_seconds.json")
    assert written == sorted([*figures_of(lab), *PAGES.get(lab, []), f"{lab}_results.json"])
    if console != "ascii":
        assert os.listdir(run.folder) == [run.out.name]  # nothing outside --out


@LABS
def test_the_console_of_a_first_reading_is_short(lab, fast_runs):
    lines = fast_runs[lab, "ascii"].process.stdout.decode("ascii").splitlines()
    assert sum(bool(line.strip()) for line in lines) <= 60


def test_no_script_leaves_anything_beside_itself(fast_runs):
    week6 = fast_runs["01", "ascii"].folder
    left = {path.relative_to(week6.parent) for path in week6.parent.rglob("*") if path.is_file()}
    strange = [p for p in left if "__pycache__" not in p.parts and p.parts[:3] != ("week6", "outputs", "fast")]
    assert [path for path in strange if not (ROOT / path).is_file()] == []


@LABS
def test_findings_agree_with_those_of_another_machine(lab, fast_runs):
    """In all exact numbers; draws of a fast run have no study to judge them by."""
    one, other = (results_in(fast_runs[lab, console].out, lab) for console in ("cp1252", OTHER_MACHINE))
    for run in (one, other):
        run["results"] = {key: entry for key, entry in run["results"].items() if kind(entry) == "exact"}
    assert one["results"] and moved(one, other) == []


@LABS
def test_figures_are_readable_pictures(lab, fast_runs):
    for name in figures_of(lab):
        pixels = matplotlib.image.imread(fast_runs[lab, "ascii"].out / name)
        assert pixels.shape[0] > 300 and pixels.shape[1] > 600
        assert len(np.unique(pixels[..., 0])) > 50 and (pixels[..., 0] < 0.5).mean() > 0.005  # neither blank nor flat


@LABS
def test_two_runs_give_the_same_bytes(lab, fast_runs):
    one, two = (fast_runs[lab, console].out for console in ("ascii", "cp1252"))
    assert results_in(one, lab)["results"] == results_in(two, lab)["results"]
    for name in PAGES.get(lab, []):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    if lab not in TIMED:
        for name in {*figures_of(lab), f"{lab}_results.json"}:
            assert (one / name).read_bytes() == (two / name).read_bytes(), name


@LABS
def test_results_say_what_run_they_are_from(lab, fast_runs):
    results = results_in(fast_runs[lab, "ascii"].out, lab)
    assert (results["lab"], results["seed"], results["fast"]) == (int(lab), 0, True)
    read_results(fast_runs[lab, "ascii"].out / f"{lab}_results.json")  # raises if an entry is none of the kinds


@LABS
def test_committed_outputs_are_complete_and_from_a_full_run(lab, fast_runs):
    outputs = ROOT / "week6" / "outputs"
    assert {*figures_of(lab), *PAGES.get(lab, []), f"{lab}_results.json"} <= set(os.listdir(outputs))
    committed = results_in(outputs, lab)
    assert (committed["seed"], committed["fast"]) == (0, False)
    assert list(committed["results"]) == list(results_in(fast_runs[lab, "ascii"].out, lab)["results"])


@LABS
def test_the_docstring_names_the_lab_and_its_figures(lab):
    text = importlib.import_module(f"week6.{script_of(lab).stem}").__doc__
    assert text.startswith(f"Lab {int(lab)} - ")
    assert all(name.removesuffix(".png") in text for name in figures_of(lab))


@pytest.mark.skipif(os.name == "nt", reason="SIGINT is a POSIX signal")
@pytest.mark.parametrize("delay", [0.3, 1.0, 3.0])  # at the start, while torch loads, and at work
def test_ctrl_c_ends_a_script_with_one_line(delay, tmp_path):
    command = on_a_terminal(SCRIPTS[0], "--out", str(tmp_path / "out"), "--dpi", "1200")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    assert process.returncode == 130 and stderr.strip() == "Interrupted."
