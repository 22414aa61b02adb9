"""The study of many starts: what is collected, how it is read, and which code a run belongs to."""

import json

import numpy as np
import pytest

from common.code_version import code_version
from common.study import Study, collect, quantile, read_study, summary


def run(seed, **results):
    return {
        "lab": 9,
        "seed": seed,
        "fast": False,
        "options": {},
        "results": {key: {"value": value, "draw": True} for key, value in results.items()},
    }


@pytest.fixture
def study(tmp_path):
    """Five starts of lab 9: `rnn` against `attention`, and a number that all starts share."""
    rnn, attention = (0.3, 0.1, 0.2, 0.5, 0.4), (0.1, 0.2, 0.1, 0.1, 0.1)
    runs = [run(i, rnn=r, attention=a, size=64.0) for i, (r, a) in enumerate(zip(rnn, attention, strict=True), 1)]
    content, missing = collect(runs)
    assert missing == []
    (tmp_path / "09_study.json").write_bytes(content)
    return Study(9, tmp_path, committed=True)


# --- statistics -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5, 24])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_quantiles_are_numpys(n, share):
    values = sorted(np.random.default_rng(n).normal(size=n))
    assert quantile(values, share) == pytest.approx(np.quantile(values, share), abs=1e-12)


def test_a_summary_keeps_statistics_and_the_values_in_their_order():
    found = summary([3.0, 1.0, 2.0, 1 / 3])
    assert found == {"min": 0.3333, "q10": 0.53331, "median": 1.5, "q90": 2.7, "max": 3.0, "values": [3.0, 1.0, 2.0, 0.3333]}
    assert summary([64.0, 64.0]) == dict.fromkeys(("min", "q10", "median", "q90", "max"), 64.0)


@pytest.mark.parametrize("values", [[12346.0, 12345.4, 12345.6], [2**21, 2**21 + 1], [-1e-12, 1e-12], [1e300, -1e300]])
def test_what_is_collected_can_be_read_whatever_it_is_rounded_to(tmp_path, values):
    content, _ = collect([run(i, a=value) for i, value in enumerate(values, 1)])
    (tmp_path / "09_study.json").write_bytes(content)
    assert read_study(tmp_path / "09_study.json")["n"] == len(values)


def test_a_key_that_a_start_lacks_is_left_out_and_named():
    content, missing = collect([run(1, a=1.0, b=2.0), run(2, a=1.5)])
    assert missing == ["b"] and list(json.loads(content)["results"]) == ["a"]


# --- reading --------------------------------------------------------------------------------------------------------


def test_a_study_answers(study):
    assert study and study.n == 5 and set(study.keys) == {"rnn", "attention", "size"}
    assert study.values("rnn") == (0.3, 0.1, 0.2, 0.5, 0.4)
    assert study.values("size") == (64.0,) * 5
    statistics = [getattr(study, name)("rnn") for name in ("min", "q10", "median", "q90", "max")]
    assert statistics == pytest.approx([0.1, 0.14, 0.3, 0.46, 0.5])
    assert study.count("rnn", where=lambda r: r > 0.25) == 3
    assert study.count("rnn", "attention", where=lambda r, a: r > a) == 4  # start by start, not median by median


def test_a_choice_is_found_again_though_fewer_digits_are_kept(tmp_path):
    content, _ = collect([run(1, rate=0.0078125), run(2, rate=0.015625)])
    (tmp_path / "09_study.json").write_bytes(content)
    study = Study(9, tmp_path)
    assert study.chosen("rate", 0.0078125) and not study.chosen("rate", 0.03125) and not study.chosen("no", 0.0078125)


def test_what_a_study_does_not_know_is_none(study):
    assert study.values("no") == () and study.median("no") is None and study.room("no") is None
    assert study.count("rnn", "no", where=lambda r, n: True) is None
    assert not study.plausible("no", 1.0)


def test_without_a_file_there_is_no_study(tmp_path):
    study = Study(9, tmp_path)
    assert not study and study.n == 0 and list(study.keys) == []
    assert study.values("rnn") == () and study.q90("rnn") is None and study.count("rnn", where=bool) is None


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        ([1.0, 4.0, 2.0], -0.5, 5.5),
        ([1.0, 100.0, 3.0], 0.1, 1000.0),  # decades: by their logarithms
        ([-1.0, 100.0], -51.5, 150.5),
        ([0.0, 100.0], -50.0, 150.0),
        ([64.0, 64.0], 63.936, 64.064),
        ([0.0, 0.0], 0.0, 0.0),
    ],
)
def test_room_for_one_more_start(tmp_path, values, low, high):
    content, _ = collect([run(i, a=value) for i, value in enumerate(values, 1)])
    (tmp_path / "09_study.json").write_bytes(content)
    study = Study(9, tmp_path)
    assert study.room("a") == pytest.approx((low, high))
    assert study.plausible("a", low) and study.plausible("a", high)
    assert not study.plausible("a", low - 1e-3) and not study.plausible("a", high + 1e-3)


@pytest.mark.parametrize("draw", ["normal", "lognormal", "exponential", "uniform"])
def test_one_more_start_of_the_same_kind_is_hardly_ever_reported(tmp_path, draw):
    generator = np.random.default_rng(0)
    samples = getattr(generator, draw)(size=(400, 25))
    content, _ = collect(
        [run(i, **{f"k{j}": x for j, x in enumerate(column)}) for i, column in enumerate(samples[:, :24].T, 1)]
    )
    (tmp_path / "09_study.json").write_bytes(content)
    study = Study(9, tmp_path)
    inside = [study.plausible(f"k{j}", x) for j, x in enumerate(samples[:, 24])]
    assert np.mean(inside) > 0.98
    span = [study.min(f"k{j}") <= x <= study.max(f"k{j}") for j, x in enumerate(samples[:, 24])]
    assert np.mean(span) < 0.95  # the bare span would report every twelfth


GOOD = {"min": 1.0, "q10": 1.1, "median": 2.0, "q90": 2.9, "max": 3.0, "values": [3.0, 1.0, 2.0]}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, None),
        ({"median": 0.5}, "must not fall"),
        ({"max": float("inf")}, "finite"),
        ({"values": [3.0, 1.0]}, "must be 3, from min to max"),
        ({"values": [3.0, 1.0, 2.0, 4.0]}, "must be 3"),
        ({"values": [3.0, 1.5, 2.0]}, "from min to max"),
        ({"values": [3.0, 1.0, None]}, "finite"),
        ({"values": None}, "must hold"),
        ({"values": []}, "values are missing"),
        ({"mean": 2.0}, "must hold"),
    ],
)
def test_a_spoilt_study_is_one_line_that_names_it(tmp_path, change, says):
    path = tmp_path / "09_study.json"
    path.write_text(json.dumps({"lab": 9, "n": 3, "fast": False, "results": {"a": GOOD | change}}))
    if says is None:
        assert Study(9, tmp_path).values("a") == (3.0, 1.0, 2.0)
        return
    with pytest.raises(ValueError, match=r"^09_study\.json: a: ") as error:
        Study(9, tmp_path)
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("change", "says"), [({"n": 0}, "no starts"), ({"fast": True}, "--fast"), ({"lab": 8}, "lab 8")])
def test_a_study_of_the_wrong_kind_is_refused(tmp_path, change, says):
    path = tmp_path / "09_study.json"
    path.write_text(json.dumps({"lab": 9, "n": 3, "fast": False, "results": {"a": GOOD}} | change))
    with pytest.raises(ValueError, match=says):
        Study(9, tmp_path, committed=True)


# --- which code a number comes from ---------------------------------------------------------------------------------

SCRIPT = '''"""Lab 9."""
from common import heads
from common.training import train

# %% [markdown]
# Prose.

def answer():
    """It is 42."""
    return 42

lab.say("The answer is {answer}.")
'''


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("# Prose.", "# Other prose,\n# and more.", True),
        ("It is 42.", "The answer.", True),
        ('"The answer is {answer}."', '"We found {answer}.", rounded=2', True),
        ("return 42", "return (42)  # as ever", True),
        ("return 42", "return 43", False),
        ('"The answer is {answer}."', "lab.record('answer', answer())", False),
        ("from common import heads", "from common import jacobian", False),
    ],
)
def test_a_run_belongs_to_the_code_that_computes(tmp_path, old, new, same):
    script = tmp_path / "09_tiny.py"
    script.write_text(SCRIPT)
    before = code_version(script)
    script.write_text(SCRIPT.replace(old, new))
    assert (code_version(script) == before) == same


def test_a_run_belongs_to_all_that_its_script_imports_from_common(tmp_path, monkeypatch):
    monkeypatch.setattr("common.code_version.COMMON", tmp_path)
    script, heads, deep, plotting = (tmp_path / name for name in ("09_tiny.py", "heads.py", "deep.py", "plotting.py"))
    script.write_text("from common import heads\nimport common.plotting")
    heads.write_text("from common.deep import x")
    deep.write_text("x = 1")
    plotting.write_text("colour = 'blue'")
    (tmp_path / "other.py").write_text("y = 1")
    before = code_version(script)
    plotting.write_text("colour = 'red'")  # figures are no numbers
    (tmp_path / "other.py").write_text("y = 2")  # not imported
    assert code_version(script) == before
    deep.write_text("x = 2")
    assert code_version(script) != before
