"""The findings' file: what it holds, that it is written whole or not at all, and how two runs are compared."""

import json
import os
import subprocess
import sys
import time

import pytest

from common.results import Results, moved, write_whole
from conftest import ROOT


def test_record_keeps_rounds_and_returns():
    results = Results(lab=9, seed=3, fast=True, options={})
    assert results.record("a.b", 1 / 3, rtol=0.01) == 0.333333
    results.record("a.c", 0.0, rtol=0, atol=1e-6)
    assert results.record("a.d", 16_777_216, rtol=0) == 16_777_216
    results.seconds["training"] = 1.5
    assert json.loads(results.to_json()) == {
        "lab": 9,
        "seed": 3,
        "fast": True,
        "options": {},
        "results": {
            "a.b": {"value": 0.333333, "rtol": 0.01},
            "a.c": {"value": 0.0, "rtol": 0, "atol": 1e-6},
            "a.d": {"value": 16777216.0, "rtol": 0},
        },
        "seconds": {"training": 1.5},
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_record_refuses_what_is_not_finite(value):
    with pytest.raises(ValueError, match="finite"):
        Results().record("key", value, rtol=0)


def test_record_refuses_a_key_twice():
    results = Results()
    results.record("key", 1.0, rtol=0)
    with pytest.raises(ValueError, match="twice"):
        results.record("key", 1.0, rtol=0)


@pytest.mark.parametrize(
    ("was", "now", "lines"),
    [
        ({"a": {"value": 2.0, "rtol": 0.1}}, {"a": {"value": 2.19, "rtol": 0.1}}, 0),
        ({"a": {"value": 2.0, "rtol": 0.1}}, {"a": {"value": 2.21, "rtol": 0.1}}, 1),
        ({"a": {"value": -2.0, "rtol": 0.1}}, {"a": {"value": 2.0, "rtol": 0.1}}, 1),
        ({"a": {"value": 0.0, "rtol": 0.1}}, {"a": {"value": 1e-9, "rtol": 0.1}}, 1),
        ({"a": {"value": 0.0, "rtol": 0, "atol": 1e-6}}, {"a": {"value": 1e-9, "rtol": 0}}, 0),
        ({"a": {"value": 1.0, "rtol": 1}}, {}, 1),
        ({}, {"a": {"value": 1.0, "rtol": 1}}, 1),
        ({"a": {"value": 1.0, "rtol": 1}}, {"a": {"value": float("nan"), "rtol": 1}}, 1),
    ],
)
def test_moved_names_what_is_beyond_its_tolerance(was, now, lines):
    run = {"seed": 0, "options": {}}
    found = moved(run | {"results": was}, run | {"results": now})
    assert len(found) == lines and all(line.startswith("a: ") for line in found)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    target = tmp_path / "figure.png"
    target.write_bytes(b"old")

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_whole(target, b"new")
    assert target.read_bytes() == b"old" and os.listdir(tmp_path) == ["figure.png"]


def test_a_killed_writer_leaves_one_of_the_two_contents(tmp_path):
    target = tmp_path / "figure.png"
    size = 3_000_000
    code = (
        "import sys, pathlib; from common.results import write_whole\n"
        f"while True:\n  for c in (b'a', b'b'): write_whole(pathlib.Path(sys.argv[1]), c * {size})"
    )
    for delay in (0.0, 0.013, 0.029):
        writer = subprocess.Popen([sys.executable, "-c", code, str(target)], cwd=ROOT)
        while not target.exists():
            time.sleep(0.005)
        time.sleep(delay)
        writer.kill()
        writer.wait()
        assert target.read_bytes() in (b"a" * size, b"b" * size)
        target.unlink()
