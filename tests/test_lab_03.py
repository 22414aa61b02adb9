"""Lab 3: its measurements, as orderings and bounds with room to spare, and its tasks and masks by hand."""

import json
import math
import zlib

import numpy as np
import pytest
import torch

from common import pointing
from common.attention import MultiHeadAttention
from common.pointing import (
    D_MODEL,
    ENCODINGS,
    N_HEADS,
    RECENT,
    SHIFTED,
    TASKS,
    VOCABULARY,
    Pointer,
    RotaryAttention,
    Trial,
    accuracy_turned,
    evaluate,
    most_frequent,
    rotary_from,
    run_trials,
    sequences,
    train_pointer,
)
from common.positional_encoding import alibi_bias, rotary, shift_matrix, sinusoidal_encoding
from common.study import Study
from conftest import load, run_script
from week6.figures.positional_encoding import (
    STYLES,
    WAY_STYLES,
    WAYS,
    draw_comparison,
    draw_extrapolation,
    draw_order,
    draw_stretched,
    portrait,
    rope_key,
    with_median,
)

lab3 = load(3)
TRIAL = Trial(length=16, offset=3, n_steps=1, n_test=5)


@pytest.fixture(scope="module", params=[(0, 3, 24), (1, 1, 32), (0, 8, 16)], ids=str)
def names(request, tmp_path_factory):
    """What a student finds at the top level after the lab has run with this seed, offset and length."""
    seed, offset, length = map(str, request.param)
    flags = ("--seed", seed, "--offset", offset, "--length", length)
    return run_script(3, tmp_path_factory.mktemp("lab 3"), *flags)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# --- order, sines, shift ------------------------------------------------------------------------------------------


def test_without_positions_the_vectors_change_places_and_nothing_else(names):
    without = names["differences"]["without positions"]
    assert len(without["same_word"]) == 20
    assert without["same_word"].max() < 1e-13 and without["pooled"].max() < 1e-13
    assert without["same_place"].min() > 0.01  # not "the same output"


@pytest.mark.parametrize("case", ["with positions", "without, causal mask"])
def test_positions_and_a_causal_mask_end_the_equivariance(case, names):
    different = names["differences"][case]
    assert different["same_word"].min() > 0.01 and different["pooled"].min() > 0.001


def test_order_differences_by_hand():
    first = torch.tensor([[1.0, 0.0], [2.0, 0.0], [4.0, 0.0]])
    second = torch.tensor([[4.0, 0.5], [2.0, 0.0], [1.0, 0.0]])  # "you" alone has changed, by 0.5
    found = lab3.order_differences(torch.stack([first, second])[None])
    assert found["words"].tolist() == [[0.0, 0.0, 0.5]] and found["same_word"].item() == 0.5
    assert found["same_place"].item() == 3.0 and found["pooled"].item() == pytest.approx(0.5 / 3)


def test_what_stands_in_the_open_is_what_common_computes(names):
    torch.testing.assert_close(names["table"], sinusoidal_encoding(1000, D_MODEL), rtol=0, atol=1e-12)
    torch.testing.assert_close(names["matrix"], shift_matrix(names["offset"], D_MODEL), rtol=0, atol=1e-12)
    torch.testing.assert_close(names["penalties"].tril(), alibi_bias(N_HEADS, lab3.N_WORDS).tril(), rtol=0, atol=1e-12)
    x = torch.randn(2, 7, lab3.D_HEAD, generator=generator())
    turned = lab3.turned(x, torch.arange(7), lab3.rope_frequencies)
    torch.testing.assert_close(turned, rotary(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(lab3.turning(lab3.rope_frequencies)(x, 5), rotary_from(x, 5), rtol=0, atol=1e-12)


def test_a_turn_of_one_pair_moves_it_by_the_offset(names):
    for position in (0, 17, 600):
        moved = names["small"] @ names["table"][position, 2:4]
        torch.testing.assert_close(moved, names["table"][position + names["offset"], 2:4], rtol=0, atol=1e-12)


def test_turned_vectors_know_their_distance_alone(names):
    products = names["products"]
    assert products[103, 100] == pytest.approx(products[3, 0], abs=1e-12)
    assert abs(products[13, 12] - products[3, 0]) > 1e-3


def test_of_equal_words_two_can_prefer_the_one_asked_for_and_alibi_the_nearest(names):
    largest = {name: scores[-1].flip(0).argmax().item() for name, scores in names["examples"].items()}
    assert largest == {"relative bias": names["offset"], "ALiBi, slope 1/4": 0, "RoPE": names["offset"]}


def test_by_parts_keeps_the_hand_that_made_a_turn_and_slows_the_others():
    for length, s in ((24, 2.0), (24, 8.0), (16, 4.0), (32, 8.0)):
        ways = lab3.stretched(lab3.rope_frequencies, s, length)
        assert list(ways) == [way for way in WAYS if way != "plain"]
        slower = {way: (lab3.rope_frequencies / frequencies).tolist() for way, frequencies in ways.items()}
        assert slower["interpolated"] == pytest.approx([s] * 4)
        assert slower["by_parts"] == pytest.approx([1, s, s, s])
        assert slower["ntk"] == pytest.approx([1, s ** (1 / 3), s ** (2 / 3), s])


def test_fast_columns_turn_as_their_wavelength_says(names):
    wavelengths = 2 * math.pi * 10_000 ** (np.arange(0, D_MODEL, 2) / D_MODEL)
    np.testing.assert_allclose(names["turns"], (len(names["beginning"]) - 1) / wavelengths, rtol=1e-3)
    pairs = np.unwrap(np.arctan2(names["beginning"].numpy()[:, 0::2], names["beginning"].numpy()[:, 1::2]), axis=0)
    np.testing.assert_allclose(names["turns"], (pairs[-1] - pairs[0]) / (2 * np.pi), rtol=1e-3)
    assert results(names)["sinusoidal.fast_share"]["value"] > 0.99


def results(names):
    return json.loads((names["lab"].options.out / "03_results.json").read_text())["results"]


def test_one_matrix_shifts_sines_and_no_matrix_shifts_random_numbers(names):
    found = results(names)
    assert found["shift.max_error"]["value"] < 1e-11 and found["shift.random_unexplained"]["value"] > 0.9
    assert found["shift.pointing_share"]["value"] == 1.0


def test_the_matrix_looks_ahead_and_its_transpose_back(names):
    table, matrix, offset = names["table"][:50], names["matrix"], names["offset"]
    ahead, back = (table @ m.T @ table.T for m in (matrix, matrix.T))
    assert ahead[:-offset].argmax(dim=-1).tolist() == list(range(offset, 50))
    torch.testing.assert_close(back / D_MODEL**0.5, names["scores"][:50, :50], atol=1e-5, rtol=0)


def test_a_largest_score_is_most_of_the_weight_only_if_it_is_sharp():
    scores = torch.zeros(60, 60)
    scores.diagonal(-2).fill_(math.log(3))  # three times the weight of another key
    by_hand = np.mean([3 / (keys + 2) for keys in range(17, 41)])  # the last 24 queries see 17 to 40 keys
    assert lab3.built_weight(scores, 2, 40) == pytest.approx(by_hand)
    built = lab3.table @ lab3.matrix @ lab3.table.T / D_MODEL**0.5  # 3 back, the default
    assert lab3.built_weight(built, 3, 24) < 0.2 and lab3.built_weight(built, 3, 192) < 0.03
    assert all(lab3.built_weight(built, 3, n, lab3.SHARPER) > 0.94 for n in (24, 192, 1000))


def test_unexplained_by_hand():
    doubling = 2.0 ** torch.arange(5, dtype=torch.float64)[:, None]
    assert lab3.unexplained(doubling, 2) < 1e-12
    ends = torch.tensor([[1.0], [1.0], [1.0], [0.0]], dtype=torch.float64)  # best factor 2/3: leaves (1/3, 1/3, -2/3)
    assert lab3.unexplained(ends, 1) == pytest.approx(math.sqrt((1 + 1 + 4) / 9) / math.sqrt(2))


def test_similarity_falls_first_and_not_for_ever():
    similarity, rise, near, far = lab3.cosine, lab3.rise, lab3.near, lab3.far
    wide = lab3.cosines[512]
    first = lab3.first_rise(wide)
    assert 40 < first < 50 and 1e-5 < wide[first] - wide[first - 1] < 1e-4  # at the paper's width hardly a wave
    assert similarity[0] == pytest.approx(1) and 2 < rise < 20
    assert (similarity[:rise].diff() < 0).all() and similarity[rise] > similarity[rise - 1]
    gains = [similarity[b] - similarity[a] for b in range(lab3.SHOWN_DISTANCES) for a in range(b)]
    assert near < far < lab3.SHOWN_DISTANCES and similarity[far] - similarity[near] == max(gains) > 0.2
    angles = 5 / 10_000 ** (torch.arange(0, D_MODEL, 2) / D_MODEL)
    assert similarity[5].item() == pytest.approx(angles.cos().mean().item(), abs=1e-6)


# --- the tasks and the model --------------------------------------------------------------------------------------


def test_back_asks_for_the_token_offset_steps_back():
    tokens, asked = sequences("back", 5, 7, 3, generator())
    assert tokens.shape == asked.shape == (5, 7) and set(tokens.flatten().tolist()) <= set(range(VOCABULARY))
    assert asked[0].tolist() == [-1, -1, -1, 0, 1, 2, 3]


def test_recent_asks_at_every_blank_for_the_last_letter():
    tokens, asked = sequences("recent", 11, 53, 3, generator())
    assert 0.08 < (tokens > 0).float().mean() < 0.25
    for row, positions in zip(tokens.tolist(), asked.tolist(), strict=True):
        latest = -1
        for t, token in enumerate(row):
            assert positions[t] == (-1 if token else latest)
            latest = t if token else latest


@pytest.mark.parametrize("encoding", [*ENCODINGS, SHIFTED])
def test_no_encoding_lets_a_model_see_the_future_or_beyond_its_window(encoding):
    torch.manual_seed(0)
    model, tokens = Pointer(encoding, TRIAL).eval(), torch.randint(16, (1, 19), generator=generator())
    changed = tokens.clone()
    changed[0, 7] = (tokens[0, 7] + 1) % 16
    moved = (model(changed)[0] - model(tokens)[0]).abs().amax(dim=-1)[0] > 0
    assert not moved[:7].any() and moved[7:].all()
    moved = (model(changed, window=5)[0] - model(tokens, window=5)[0]).abs().amax(dim=-1)[0] > 0
    assert moved.nonzero().flatten().tolist() == [7, 8, 9, 10, 11]
    for all_of_it, part in zip(model(tokens), model(tokens, first=11), strict=True):
        torch.testing.assert_close(all_of_it[..., 11:, :], part)


def test_all_encodings_start_from_the_same_weights():
    models = []
    for encoding in (*ENCODINGS, SHIFTED):
        torch.manual_seed(7)
        models.append(Pointer(encoding, TRIAL).state_dict())
    for model in models:
        assert all(torch.equal(model[name], models[0][name]) for name in models[0])


def test_rotary_attention_depends_on_distances_alone_and_only_through_q_and_k():
    torch.manual_seed(0)
    layer, x = RotaryAttention(8, 2).double(), torch.randn(1, 5, 8, dtype=torch.float64)
    longer = torch.cat([torch.randn(1, 3, 8, dtype=torch.float64), x], dim=1)
    visible = torch.arange(8).expand(5, 8) >= 3  # the words in front are there, but hidden
    output = layer(x, x, mask=torch.ones(5, 5, dtype=torch.bool))[0]
    torch.testing.assert_close(layer(x, longer, mask=visible)[0], output, rtol=0, atol=1e-12)
    plain = MultiHeadAttention(8, 2).double()
    plain.load_state_dict(layer.state_dict())
    assert (plain(x)[0] - output).abs().max() > 1e-4
    alone = torch.eye(5, dtype=torch.bool)  # each word sees itself alone, and its value is not turned
    torch.testing.assert_close(plain(x, mask=alone)[0], layer(x, x, mask=alone)[0])


class Oracle:
    """Answers with the token `offset` back, but wrongly at the positions `wrong`; heads 1 and 2 look there a little."""

    def __init__(self, offset, wrong=()):
        self.offset, self.wrong = offset, list(wrong)

    def __call__(self, tokens, first, window):
        answers = tokens.roll(self.offset, dims=1)
        answers[:, self.wrong] = (answers[:, self.wrong] + 1) % VOCABULARY
        weights = torch.zeros(len(tokens), N_HEADS, tokens.shape[1], tokens.shape[1])
        weights[:, 1] = 0.25 * torch.eye(tokens.shape[1]).roll(self.offset, dims=0)
        weights[:, 2] = 3 * weights[:, 1]
        return torch.nn.functional.one_hot(answers, VOCABULARY).float()[:, first:], weights[:, :, first:]


def test_evaluation_counts_the_last_positions_and_finds_the_head():
    test = evaluate(Oracle(3, wrong=(2, 5, 40)), "back", 48, TRIAL, seed=0)
    assert test["accuracy"] == pytest.approx(15 / 16)  # of the last 16 positions, 40 is wrong
    assert test["head"] == 2 and test["on_asked"] == pytest.approx(0.75)
    assert test["by_position"].tolist() == [float(t != 40) for t in range(32, 48)]
    assert test["weights"].tolist() == (0.75 * torch.eye(48).roll(3, dims=0))[32:, 32:].tolist()
    assert evaluate(Oracle(3), "back", 16, TRIAL, seed=0)["accuracy"] == 1.0  # where nothing is asked nothing counts
    assert evaluate(Oracle(0), "recent", 48, TRIAL, seed=0)["accuracy"] == 0.0


def test_linear_is_erased_by_the_layer_norm():
    torch.manual_seed(0)
    model, tokens = Pointer("linear", TRIAL), torch.arange(16)[None]
    assert 0 < lab3.linear_effect(model, TRIAL) < 1e-12  # not 0: it was taken out, and rounding shows it
    with_norm, model.norm_1 = model(tokens)[0], torch.nn.Identity()
    assert (model(tokens)[0] - with_norm).abs().max() > 0.01


def test_a_shift_starts_to_count_elsewhere_in_training_only():
    model, sines = Pointer(SHIFTED, TRIAL), sinusoidal_encoding(128, D_MODEL)
    starts = set()
    for _ in range(30):
        first = model.added(16)
        (start,) = ((sines - first[0]).abs().amax(dim=-1) < 1e-12).nonzero().flatten().tolist()
        torch.testing.assert_close(first, sines[start : start + 16], rtol=0, atol=1e-12)
        starts.add(start)
    assert len(starts) > 15 and max(starts) > 80
    torch.testing.assert_close(model.eval().added(128), sines, rtol=0, atol=1e-12)


def test_another_turn_is_tried_and_taken_back():
    torch.manual_seed(0)
    model = Pointer("rope", TRIAL)
    usual, seen = model.attention.turn, []

    def turn(x, first):
        seen.append((x.shape[-2], first))
        return x

    accuracy_turned(model, "back", 48, TRIAL, 0, turn)
    assert seen == [(16, 32), (48, 0)] and model.attention.turn is usual


def test_counting_needs_no_positions():
    tokens = torch.tensor([[2, 2, 1, 3, 3, 3]])  # most frequent before positions 2 to 5: 2, 2, 2, 2 (3 stood there once)
    assert most_frequent(tokens, 2) == pytest.approx(2 / 4)  # two steps back: 2, 2, 1, 3


def test_distances_without_training_keep_their_first_number():
    model = Pointer("relative_all", TRIAL)
    train_pointer(model, "back", Trial(16, 3, 5, 1), generator())
    back = model.relative.table.detach()[:, : 8 * 16 + 1].flip(-1)  # (H, 129), by distance
    assert (back[:, :16] != 0).all() and (back[:, 16:] == 0).all()
    clipped = Pointer("relative", TRIAL)
    torch.nn.init.normal_(clipped.relative.table)
    last_row = clipped.bias(128)[:, -1].flip(-1)  # (H, 128), by distance
    assert (last_row[:, TRIAL.clip :] == last_row[:, TRIAL.clip, None]).all()
    assert (last_row[:, TRIAL.clip - 1] != last_row[:, TRIAL.clip]).all()


def test_trials_differ_in_the_encoding_alone_and_are_tested_on_other_data(monkeypatch):
    first, training, tests = {}, set(), []

    def train_pointer(model, task, trial, data):
        first.setdefault((task, data.initial_seed()), []).append(model.readout.weight.clone())
        training.add(data.initial_seed())

    def evaluate(model, task, length, trial, seed, window=None):
        tests.append((task, length, window, seed))
        return {"accuracy": window}

    monkeypatch.setattr(pointing, "train_pointer", train_pointer)
    monkeypatch.setattr(pointing, "evaluate", evaluate)
    found = run_trials(lab3.jobs, TRIAL, lab3.lab.seed)
    assert list(found) == lab3.jobs
    assert all(torch.equal(model, models[0]) for models in first.values() for model in models)
    assert len(first) == 2 and not training & {seed for *_, seed in tests}  # two tasks, each with its data
    assert len({seed for *_, seed in tests}) == 2
    assert {test[1:3] for test in tests} == {(16, None), (32, None), (64, None), (128, None), (128, 16)}
    assert all(run["window"] == 16 and list(run["accuracy"]) == TRIAL.lengths for run in found.values())


def test_one_training_among_many_is_silent(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    train_pointer(Pointer("none", TRIAL), "back", TRIAL, generator())
    assert capsys.readouterr().out == ""


# --- what the figures say -------------------------------------------------------------------------------------------


NO_STUDY = Study(0)


def run_of(encoding, right=1.0, window=1.0):
    """A made-up run, whose best head is number 2, with this accuracy at every length."""
    model, test = Pointer(encoding, TRIAL), {"head": 2, "weights": torch.eye(16)}
    accuracy = dict.fromkeys(TRIAL.lengths, right)
    return {"model": model, "tests": {16: test}, "accuracy": accuracy, "window": window}


def study_of(tmp_path, **values):
    """A study of three starts that knows these keys (with _ for a dot)."""
    entries = {
        key.replace("__", "."): {
            "min": min(x),
            "q10": min(x),
            "median": sorted(x)[1],
            "q90": max(x),
            "max": max(x),
            "values": x,
        }
        for key, x in values.items()
    }
    content = {"lab": 3, "n": 3, "fast": False, "results": entries}
    (tmp_path / "03_study.json").write_text(json.dumps(content))
    return Study(3, tmp_path)


def title_of(fig):
    return fig.get_suptitle().replace("\n", " ")


def comparison(right, study=NO_STUDY):
    """The title of the figure for these accuracies."""
    return title_of(draw_comparison({encoding: run_of(encoding, x) for encoding, x in right.items()}, TRIAL, study))


def test_the_comparison_names_who_points(tmp_path):
    right = {encoding: 1.0 for encoding in ENCODINGS if encoding != "relative_all"} | {"none": 0.2, "linear": 0.2}
    title = comparison(right | {"alibi": 0.3})
    assert title.startswith("4 of 7 learn to point 3 back; none, linear and ALiBi do not (0.30 right at most; this start)")
    assert comparison(dict.fromkeys(right, 0.06)).startswith("None of 7 learn to point 3 back (0.06 right at most")
    assert comparison(dict.fromkeys(right, 1.0)) == "7 of 7 learn to point 3 back (this start)"
    study = study_of(tmp_path, extrapolation__rope__16=[0.5, 0.4, 1.0])
    title = comparison(right | {"alibi": 0.3}, study)  # the study's typical start counts, not this one
    assert title.startswith("3 of 7 learn") and title.endswith("RoPE and ALiBi do not (0.50 right at most; median of 3 starts)")


def test_the_encoding_that_adds_nothing_is_not_drawn_and_the_figure_says_so():
    shown = [encoding for encoding in ENCODINGS if encoding != "relative_all"]
    fig = draw_comparison({encoding: run_of(encoding, 1.0) for encoding in shown}, TRIAL, NO_STUDY)
    titles = [ax.get_title(loc="left").split("\n")[0] for ax in fig.axes[: len(shown) - 1]]
    assert titles == [ENCODINGS[encoding] for encoding in shown if encoding != "none"]
    assert 'of the 7, "none" adds nothing and is not drawn' in fig.get_supxlabel()


def test_the_order_figure_says_which_layer_it_draws():
    outputs = {case: torch.rand(3, 2, 3, 5) for case in ("without positions", "with positions")}
    differences = {case: lab3.order_differences(layers) for case, layers in outputs.items()}
    fig = draw_order((lab3.FIRST, lab3.SECOND), outputs, differences)
    assert fig.get_suptitle().startswith('"you love i": without positions the same vectors')
    assert fig.get_supxlabel() == "Drawn: the first of 3 layers with random weights."


def test_the_portrait_is_of_the_best_head():
    run = run_of("relative")
    torch.nn.init.normal_(run["model"].relative.table)
    picture, _ = portrait(run, 16)
    assert torch.equal(picture, run["model"].bias(16)[2]) and not torch.equal(picture, run["model"].bias(16)[0])


def test_this_run_stands_before_the_typical_start(tmp_path):
    study = study_of(tmp_path, a__b=[0.1, 0.2, 0.9])
    assert with_median(0.5, study, "a.b") == "0.50 (0.20)" and with_median(0.5, NO_STUDY, "a.b") == "0.50"


def extrapolation(final, window, study=NO_STUDY):
    """The figure for these accuracies at the longest sequences, without and with the window."""
    found = {}
    for task in TASKS:
        for encoding in ENCODINGS if task == "back" else RECENT:
            run = found[task, encoding] = run_of(encoding, 1.0, window)
            run["accuracy"] = dict(zip(TRIAL.lengths, (1.0, 0.5, 0.3, final[encoding]), strict=True))
    return draw_extrapolation(found, TRIAL, study)


def test_everything_has_its_style():
    assert list(STYLES) == list(ENCODINGS) and list(WAY_STYLES) == list(WAYS)


def test_the_extrapolation_names_who_reaches_furthest_if_somebody_does():
    fig = extrapolation(dict.fromkeys(ENCODINGS, 0.15) | {"alibi": 0.8, "relative": 0.9}, window=1.0)
    assert title_of(fig).startswith("Sines do not extrapolate: 1.00 right at the trained length 16, 0.50 at 32")
    assert "best at 128: relative bias (0.90)" in fig.axes[0].get_title(loc="left")
    fig = extrapolation(dict.fromkeys(ENCODINGS, 0.06), window=0.07)
    assert all("none clearly above guessing" in ax.get_title(loc="left") for ax in fig.axes[:2])
    assert "nothing gained" in fig.axes[2].get_title(loc="left")


def test_the_study_decides_who_reaches_furthest(tmp_path):
    study = study_of(tmp_path, extrapolation__rope__128=[0.9, 1.0, 0.95], extrapolation__sinusoidal__32=[0.9, 0.95, 1.0])
    fig = extrapolation(dict.fromkeys(ENCODINGS, 0.15) | {"relative": 0.9}, window=1.0, study=study)
    assert "best at 128: RoPE (0.95)" in fig.axes[0].get_title(loc="left")
    assert title_of(fig).startswith("Sines beyond training") and title_of(fig).endswith("(median of 3 starts)")


def test_open_marks_are_for_all_keys_and_filled_ones_for_the_last():
    final = dict.fromkeys(ENCODINGS, 0.1) | {"rope": 0.2}
    marks = [line for line in extrapolation(final, window=0.9).axes[2].lines if line.get_marker() == "o"]
    opened = [line.get_xdata()[0] for line in marks if line.get_markerfacecolor() == "white"]
    filled = [line.get_xdata()[0] for line in marks if line.get_markerfacecolor() not in ("white", "0.55")]
    assert opened == pytest.approx(list(final.values()))
    assert filled == pytest.approx([0.9] * len(ENCODINGS))


def stretched_figure(letter, pointing, study=NO_STUDY):
    ways = {way: dict.fromkeys(TRIAL.lengths[1:], 0.1) for way in WAYS}
    rope = {task: dict(ways) for task in TASKS}
    for task, right in (("recent", letter), ("back", pointing)):
        rope[task]["plain"] = dict.fromkeys(TRIAL.lengths, 0.1)
        rope[task]["interpolated"] = dict.fromkeys(TRIAL.lengths[1:], right)
    sines = {key: dict.fromkeys(TRIAL.lengths, 0.3) for key in ("extrapolation.sinusoidal", "shifted")}
    return draw_stretched(rope, sines, TRIAL, study)


def test_the_stretched_title_says_no_more_than_was_found(tmp_path):
    title = title_of(stretched_figure(0.9, 0.06))
    assert title.startswith("Interpolated to 128, RoPE finds the most recent letter (0.90), not the token 3 back (0.06; this")
    assert title_of(stretched_figure(0.2, 0.06)).startswith("RoPE interpolated to 128: the most recent letter 0.20 right")
    assert title_of(stretched_figure(0.9, 0.9)).startswith("RoPE interpolated")
    study = study_of(tmp_path, **{rope_key("recent", "interpolated", 128).replace(".", "__"): [0.2, 0.1, 0.9]})
    assert "letter 0.20 right" in title_of(stretched_figure(0.9, 0.06, study))


# --- what training finds ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    """Every model once: shorter sequences than in a full run, and another seed."""
    trial = Trial(length=16, offset=2, n_steps=300, n_test=24)
    found = run_trials(lab3.jobs, trial, lambda text: zlib.crc32(f"test {text}".encode()))
    return trial, found


def accuracy(trained, task, encoding):
    return list(trained[1][task, encoding]["accuracy"].values())


def test_four_encodings_point_and_three_cannot(trained):
    for encoding in ("learned", "sinusoidal", "relative", "relative_all", "rope", SHIFTED):
        assert accuracy(trained, "back", encoding)[0] > 0.9
    for encoding in ("none", "linear", "alibi"):
        assert accuracy(trained, "back", encoding)[0] < 0.6


def test_absolute_positions_fail_where_training_ended_and_the_relative_bias_fails_last(trained):
    for encoding in ("learned", "sinusoidal"):
        assert accuracy(trained, "back", encoding)[1] < 0.6
        assert trained[1]["back", encoding]["window"] < 0.7
    others = [accuracy(trained, "back", encoding)[-1] for encoding in ENCODINGS if encoding != "relative"]
    assert accuracy(trained, "back", "relative")[-1] > max(others) + 0.1


def test_the_relative_bias_needs_its_clip(trained):
    clipped, free = (accuracy(trained, "back", encoding) for encoding in ("relative", "relative_all"))
    assert clipped[1] > free[1] + 0.1 and clipped[-1] > free[-1] + 0.2


def test_hiding_new_distances_mends_relative_methods(trained):
    for encoding in ("relative", "rope"):
        assert trained[1]["back", encoding]["window"] > 0.9
    assert accuracy(trained, "back", "rope")[-1] < 0.5


def test_alibi_keeps_the_most_recent_letter_at_any_length(trained):
    final = {encoding: accuracy(trained, "recent", encoding)[-1] for encoding in RECENT}
    assert final["alibi"] > 0.5 and final["alibi"] == max(final.values())
    assert final["alibi"] > max(final["sinusoidal"], final["rope"]) + 0.3


def test_a_shift_in_training_lets_sines_reach_further(trained):
    assert accuracy(trained, "back", SHIFTED)[1] > accuracy(trained, "back", "sinusoidal")[1] + 0.2


def test_interpolation_finds_the_latest_letter_and_does_not_point(trained):
    trial, found = trained
    length, s = trial.lengths[-1], 8
    right = {}
    for task in TASKS:
        for way, frequencies in lab3.stretched(lab3.rope_frequencies, s, trial.length).items():
            turn = lab3.turning(frequencies)
            right[task, way] = accuracy_turned(found[task, "rope"]["model"], task, length, trial, 5, turn)
    assert right["recent", "interpolated"] > accuracy(trained, "recent", "rope")[-1] + 0.3
    assert right["back", "interpolated"] < 0.3 and right["back", "by_parts"] > right["back", "interpolated"] + 0.3


# --- the run ------------------------------------------------------------------------------------------------------


def test_required_records_and_printed_findings(fast_runs):
    run = fast_runs["03", "ascii"]
    results = json.loads((run.out / "03_results.json").read_text())["results"]
    required = {"equivariance.max_difference", "pooled.max_difference", "shift.max_error", "similarity.first_rise_distance"}
    required |= {f"extrapolation.{encoding}.{length}" for encoding in ENCODINGS for length in (24, 48, 96, 192)}
    required |= {f"shifted.{length}" for length in (24, 48, 96, 192)}
    required |= {f"stretched.{t}.{way}.{n}" for t in TASKS for way in list(WAYS)[1:] for n in (48, 96, 192)}
    assert set(results) >= required
    lines = run.process.stdout.decode("ascii").splitlines()
    assert sum("models trained:" not in line for line in lines) <= 62  # two of them say that it was --fast
    printed = " ".join(" ".join(lines).split())
    assert f"{results['similarity.far']['value']:.2f} at {results['similarity.far_distance']['value']:.0f}: further" in printed
    assert f"moves every position by 3 (error {results['shift.max_error']['value']:.0e})" in printed


@pytest.mark.parametrize(
    "flags",
    [("--offset", "0"), ("--offset", "9"), ("--offset", "two"), ("--length", "15"), ("--length", "33"), ("--steps", "0")],
)
def test_a_bad_flag_is_one_line_and_nothing_is_written(flags, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        run_script(3, tmp_path / "out", *flags)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and "whole number from" in error
    assert not (tmp_path / "out").exists()


def test_extreme_flags_give_every_figure(names):
    options = names["lab"].options
    assert len(list(options.out.glob("03_*.png"))) == 6
    lengths = [options.length * factor for factor in (1, 2, 4, 8)]
    assert set(results(names)) >= {f"extrapolation.{encoding}.{length}" for encoding in ENCODINGS for length in lengths}
