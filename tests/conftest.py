"""What the tests share: the labs as modules, as scripts within a test, and as processes."""

import importlib
import os
import runpy
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

import two_processes
from common.plotting import give_style_back
from common.precision import settle
from week6.__main__ import SCRIPTS as LABS

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = list(LABS.values())  # the labs as the runner finds them, without a student's copies
matplotlib.use("Agg")


def pytest_collection_modifyitems(items):
    """What needs the fast runs comes last, where one of the two processes begins: so they are made once."""
    items.sort(key=lambda item: "fast_runs" in item.fixturenames)


def pytest_runtestloop(session):
    return two_processes.run_tests(session)


@pytest.fixture(autouse=True)
def clean_state():
    """Each test starts with the same random state and leaves no figure, look, default dtype or thread behind."""
    torch.manual_seed(0)
    yield
    plt.close("all")
    give_style_back()
    settle()


def load(number: int):
    """A lab's script as a module."""
    (script,) = (path for path in SCRIPTS if path.name.startswith(f"{number:02d}_"))
    return importlib.import_module(f"week6.{script.stem}")


def run_script(number: int, out: Path, *flags: str) -> dict:
    """Run a lab as a script in --fast mode, within this process; returns its top-level names."""
    script = str(load(number).__file__)
    argv, sys.argv = sys.argv, [script, "--fast", "--out", str(out), *flags]
    try:
        return runpy.run_path(script, run_name="__main__")
    finally:
        sys.argv = argv


# what warns today is refused tomorrow; the oldest matplotlib warns by itself beside a new pyparsing
WARNINGS_AS_ERRORS = ["-W", "error"] if matplotlib.__version_info__ >= (3, 11) else []
ON_A_TERMINAL = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
for name in {"SIGTERM", "SIGHUP"} & set(dir(signal)):
    signal.signal(getattr(signal, name), signal.SIG_DFL)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def on_a_terminal(script: Path, *flags: str) -> list[str]:
    """The command for a script that can be stopped, even where the tests cannot: `pytest &` and nohup ignore signals."""
    return [sys.executable, "-c", ON_A_TERMINAL, str(script), *flags]


CONSOLES = ("cp949", "cp1252", "ascii")  # of Korean and Western Windows, and of a bare C locale
OTHER_MACHINE = "cp949"  # here it rounds in other places, too: two threads, and no instructions that some lack
TWO_THREADS = """
import runpy, sys, torch
torch.set_num_threads(2)
torch.set_num_threads = lambda n: None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
assert torch.get_num_threads() == 2 and torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "NO AVX")
"""
NO_NETWORK = """
import socket
def refuse(*_, **__):
    raise OSError("a lab asked for the network")
socket.socket.connect = socket.getaddrinfo = refuse
"""


@dataclass
class FastRun:
    """A script that ran as a process in --fast mode, the folder it ran in, and the folder it wrote to."""

    process: subprocess.CompletedProcess
    folder: Path
    out: Path


@pytest.fixture(scope="session")
def fast_runs(tmp_path_factory) -> dict[tuple[str, str], FastRun]:
    """Every script in --fast mode on every console, offline, from a path with spaces and Hangul; two at a time.

    On "ascii" it runs as a student would, from the script's own folder; otherwise from elsewhere, into --out; on "cp1252"
    with warnings as errors; on "cp949" as on OTHER_MACHINE.
    """
    course = tmp_path_factory.mktemp("home") / "6주차 어텐션 실습"
    for name in ("common", "week6"):
        shutil.copytree(ROOT / name, course / name, ignore=shutil.ignore_patterns("outputs", "__pycache__"))
    offline = tmp_path_factory.mktemp("offline")
    (offline / "sitecustomize.py").write_text(NO_NETWORK)

    def run(script: Path, console: str) -> FastRun:
        flags = ["--fast"]
        if console == "ascii":
            folder, out = course / "week6", course / "week6" / "outputs" / "fast"
        else:
            folder = tmp_path_factory.mktemp("elsewhere")
            out = folder / "그림 1"
            flags += ["--out", str(out)]
        path = script.name if console == "ascii" else str(course / "week6" / script.name)
        environment = os.environ | {"PYTHONPATH": str(offline), "PYTHONIOENCODING": console}
        command = [sys.executable, path, *flags]
        if console == "cp1252":
            command[1:1] = WARNINGS_AS_ERRORS
        if console == OTHER_MACHINE:
            command[1:1] = ["-c", TWO_THREADS]
            environment |= {"ATEN_CPU_CAPABILITY": "default", "OMP_WAIT_POLICY": "PASSIVE"}  # waiting threads take no time
        return FastRun(subprocess.run(command, capture_output=True, cwd=folder, env=environment), folder, out)

    keys = [(script, console) for script in SCRIPTS for console in CONSOLES]
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda key: run(*key), keys))
    return {(script.name[:2], console): run for (script, console), run in zip(keys, runs, strict=True)}
