"""The findings' file: what it holds, that it is written whole or not at all, and how two runs are compared."""

import json
import os
import subprocess
import sys
import time

import pytest

from common.results import Results, kind, moved, one_key_a_line, read_results, write_whole
from common.study import Study, read_study, summary
from conftest import ROOT


def test_record_keeps_rounds_and_returns():
    results = Results(lab=9, seed=3, fast=True, options={})
    assert results.record("a.b", 1 / 3) == 0.333333
    results.record("a.c", 0.0, rtol=0, atol=1e-12)
    assert results.record("a.d", 16_777_216, rtol=0) == 16_777_216
    results.record("b.draw", 0.4, draw=True)
    results.record("b.choice", 0.008, choice=True)
    results.seconds["training"] = 1.5
    assert json.loads(results.to_json()) == {
        "lab": 9,
        "seed": 3,
        "fast": True,
        "options": {},
        "results": {
            "a.b": {"value": 0.333333, "rtol": 0.001},
            "a.c": {"value": 0.0, "rtol": 0, "atol": 1e-12},
            "a.d": {"value": 16777216.0, "rtol": 0},
            "b.draw": {"value": 0.4, "draw": True},
            "b.choice": {"value": 0.008, "choice": True},
        },
    }
    assert json.loads(results.seconds_to_json()) == {"training": 1.5}


def test_a_number_is_a_line_of_its_own():
    results = Results(lab=9)
    results.record("a", 1)
    results.record("b", 2)
    assert b'\n"a": {"value": 1.0, "rtol": 0.001},\n"b": {' in results.to_json()


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


@pytest.mark.parametrize("other", [{"seed": 1}, {"options": {"heads": 2}}])
def test_runs_of_another_seed_or_with_other_flags_are_not_compared(other):
    run = {"seed": 0, "options": {"heads": 4}, "results": {"a": {"value": 2.0, "rtol": 0.1}}}
    (line,) = moved(run | other, run)
    assert line.startswith("recorded with seed ")


STUDY = {"lab": 9, "n": 3, "fast": False}


@pytest.fixture
def study(tmp_path):
    """Three starts gave 1, 2 and 4 for a draw, and chose 0.01, 0.03 and 0.01."""
    entries = {"draw": summary([1.0, 4.0, 2.0]), "choice": summary([0.01, 0.03, 0.01])}
    (tmp_path / "09_study.json").write_bytes(one_key_a_line(STUDY, entries))
    return Study(9, tmp_path)


@pytest.mark.parametrize(
    ("key", "now", "line"),
    [
        ("draw", 3.0, None),
        ("draw", 5.4, None),  # half the span of 1 to 4 beyond it: room for one more start
        ("draw", -0.4, None),
        ("draw", 5.6, "outside -0.5 to 5.5, what 3 starts leave room for"),
        ("draw", -0.6, "outside"),
        ("draw", float("nan"), "outside"),
        ("choice", 0.03, None),
        ("choice", 0.02, "none of the study's 3 starts chose"),
        ("new", 3.0, "no study says"),
    ],
)
def test_a_draw_moved_if_no_start_comes_near_it(study, key, now, line):
    kind = "choice" if key == "choice" else "draw"
    run = {"seed": 0, "options": {}}
    was = {key: {"value": 2.0, kind: True}}
    found = moved(run | {"results": was}, run | {"results": {key: {"value": now, kind: True}}}, study)
    assert [line in text for text in found] == ([True] if line else [])


# --- a file that anything may have happened to ----------------------------------------------------------------------

GOOD = {"lab": 9, "seed": 0, "fast": False, "options": {}, "results": {"a": {"value": 2.0, "rtol": 0.001}}}
RESIDUE = {"value": 2e-16, "rtol": 0.001, "atol": 1e-12}


def entry(**changes):
    return {"results": {"a": {"value": 2.0, "rtol": 0.001} | changes}}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, None),
        ({"results": {"a": RESIDUE, "b": {"value": 1, "draw": True}, "c-1.d_2+x": {"value": 1, "choice": True}}}, None),
        ({"lab": 8}, "from lab 8"),
        ({"lab": True}, "'lab' must be of type int"),
        ({"seed": "0"}, "'seed' must be of type int"),
        ({"seed": 5}, "recorded with seed 5"),
        ({"fast": True}, "--fast"),
        ({"fast": 0}, "'fast' must be of type bool"),
        ({"options": None}, "'options'"),
        ({"results": {}}, "empty"),
        ({"results": []}, "'results' must be of type dict"),
        ({"seconds": {}}, "and nothing else"),
        ({"results": {"a:b": RESIDUE}}, "'a:b' is no key"),
        ({"results": {"a": 1}}, "a must be a dict"),
        ({"results": {"a": {"value": 1}}}, "must hold value and rtol"),
        ({"results": {"a": {"value": 1, "rtol": 0, "draw": True}}}, "must hold"),
        ({"results": {"a": {"value": 1, "draw": False}}}, "draw must be true"),
        (entry(value=float("nan")), "not a finite number"),
        (entry(value=10**400), "not a finite number"),
        (entry(value="2"), "not a finite number"),
        (entry(value=True), "not a finite number"),
        (entry(rtol=float("inf")), "rtol inf"),
        (entry(rtol=-0.1), "rtol -0.1"),
        (entry(rtol=0.01), "rtol 0.01 is larger than 0.001"),
        (entry(atol=1e-8), "atol 1e-08 is larger than 1e-09"),
        (entry(value=1e-9, atol=9e-10), "is for values that are 0 up to rounding"),
        (entry(value=2.0, atol=1e-12), None),  # smaller than what rtol allows
    ],
)
def test_a_spoilt_results_file_is_one_line_that_names_it(tmp_path, change, says):
    path = tmp_path / "09_results.json"
    path.write_text(json.dumps(GOOD | change))
    if says is None:
        assert read_results(path, committed=True) == GOOD | change
        return
    with pytest.raises(ValueError, match=r"^09_results\.json: ") as error:
        read_results(path, committed=True)
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"lab": 1, "lab": 1}', b"1" * 5000, b"\x00"]
)
def test_what_is_no_results_file_at_all_is_named_too(tmp_path, content):
    path = tmp_path / "09_results.json"
    for read in (read_results, read_study):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"^09_results\.json: ") as error:
            read(path)
        assert "\n" not in str(error.value)


def test_a_key_that_stands_there_twice_is_refused(tmp_path):
    path = tmp_path / "09_results.json"
    path.write_text(json.dumps(GOOD).replace('"a": ', '"a": {"value": 1.0, "rtol": 0.001}, "a": '))
    with pytest.raises(ValueError, match="a key stands there twice"):
        read_results(path)


@pytest.mark.parametrize("missing", list(GOOD))
def test_a_missing_part_is_named(tmp_path, missing):
    path = tmp_path / "09_results.json"
    path.write_text(json.dumps({key: value for key, value in GOOD.items() if key != missing}))
    with pytest.raises(ValueError, match=missing):
        read_results(path)


def test_a_run_of_any_seed_may_be_read(tmp_path):
    path = tmp_path / "09_results.json"
    path.write_text(json.dumps(GOOD | {"seed": 5, "fast": True}))
    assert read_results(path)["seed"] == 5


@pytest.mark.parametrize("path", sorted((ROOT / "week6" / "outputs").glob("*_results.json")), ids=lambda path: path.name)
def test_committed_records_are_exact_or_draws(path):
    read_results(path, committed=True)


def test_at_least_two_thirds_of_the_committed_records_are_exact():
    paths = sorted((ROOT / "week6" / "outputs").glob("*_results.json"))
    kinds = [kind(entry) for path in paths for entry in read_results(path)["results"].values()]
    assert kinds.count("exact") >= 2 / 3 * len(kinds)


@pytest.mark.parametrize("path", sorted((ROOT / "week6" / "outputs").glob("*_results.json")), ids=lambda path: path.name)
def test_the_committed_study_knows_every_record_from_24_starts(path):
    study = read_study(path.with_name(path.name.replace("results", "study")), committed=True)
    assert study["n"] >= 24 and study["results"].keys() == read_results(path)["results"].keys()


# --- files are written whole or not at all --------------------------------------------------------------------------


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


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_writing_follows_no_link(tmp_path, monkeypatch):
    monkeypatch.setattr("secrets.token_hex", lambda n: "known")
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / ".a.txt.known.part").symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "a.txt", b"new")
    assert victim.read_text() == "mine"


@pytest.mark.skipif(os.name == "nt", reason="modes are a POSIX matter")
def test_a_written_file_may_be_read_by_those_whom_the_umask_allows(tmp_path):
    write_whole(tmp_path / "a.txt", b"new")
    (tmp_path / "b.txt").write_text("new")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "b.txt").stat().st_mode
