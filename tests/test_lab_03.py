"""Lab 3: its measurements, as orderings and bounds with room to spare, and its tasks and masks by hand."""

import json
import math

import numpy as np
import pytest
import torch

from common import pointing
from common.attention import MultiHeadAttention
from common.pointing import (
    D_MODEL,
    ENCODINGS,
    N_HEADS,
    TASKS,
    UNNORMED,
    VOCABULARY,
    Pointer,
    RotaryAttention,
    Trial,
    evaluate,
    run_trials,
    sequences,
    train_pointer,
)
from common.positional_encoding import rotary, shift_matrix, sinusoidal_encoding
from conftest import load, run_script
from week6.figures.positional_encoding import STYLES, draw_comparison, draw_extrapolation, portrait

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
    x = torch.randn(7, 6, generator=generator())
    turned = torch.stack([lab3.turned(row, position) for position, row in enumerate(x)])
    torch.testing.assert_close(turned, rotary(x), rtol=0, atol=1e-6)


def test_turned_vectors_know_their_distance_alone():
    q, k = torch.randn(2, 6, generator=generator())
    product = lab3.turned(q, 7) @ lab3.turned(k, 4)
    torch.testing.assert_close(lab3.turned(q, 53) @ lab3.turned(k, 50), product, rtol=0, atol=1e-5)
    assert (lab3.turned(q, 7) @ lab3.turned(k, 3) - product).abs() > 0.01


def test_fast_columns_turn_as_their_wavelength_says(names):
    wavelengths = 2 * math.pi * 10_000 ** (np.arange(0, D_MODEL, 2) / D_MODEL)
    np.testing.assert_allclose(names["turns"], (len(names["beginning"]) - 1) / wavelengths, rtol=1e-3)
    pairs = np.unwrap(np.arctan2(names["beginning"][:, 0::2], names["beginning"][:, 1::2]), axis=0)
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


def test_the_examples_show_what_is_asked_for():
    (_, *tokens), (_, *answers) = lab3.example("back", 3, generator())
    assert answers == ["-", "-", "-", *tokens[:-3]]
    (_, *tokens), (_, *answers) = lab3.example("recent", 3, generator())
    assert all(answer == "-" for token, answer in zip(tokens, answers, strict=True) if token > 0)
    assert all(tokens[i - 1] in (0, answer) for i, answer in enumerate(answers) if i > 0 and answer != "-")
    assert any(answer != "-" for answer in answers)


def test_recent_asks_at_every_blank_for_the_last_letter():
    tokens, asked = sequences("recent", 11, 53, 3, generator())
    assert 0.08 < (tokens > 0).float().mean() < 0.25
    for row, positions in zip(tokens.tolist(), asked.tolist(), strict=True):
        latest = -1
        for t, token in enumerate(row):
            assert positions[t] == (-1 if token else latest)
            latest = t if token else latest


@pytest.mark.parametrize("encoding", [*ENCODINGS, UNNORMED])
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
    for encoding in ENCODINGS:
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


def test_weights_by_distance_by_hand():
    weights = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], [0.2, 0.3, 0.5, 0.0], [0.0, 0.2, 0.1, 0.7]])
    assert lab3.by_distance([{"tests": [{"weights": weights}]}], 2) == pytest.approx([0.6, 0.2, 0.2])


def test_linear_is_erased_by_the_layer_norm():
    torch.manual_seed(0)
    models = [Pointer("linear", TRIAL), Pointer("linear", TRIAL)]
    assert 0 < lab3.linear_effect(models, TRIAL) < 1e-12  # not 0: it was taken out, and rounding shows it
    tokens = torch.arange(16)[None]
    unnormed, none = Pointer(UNNORMED, TRIAL), Pointer("none", TRIAL)
    none.norm_1 = torch.nn.Identity()
    none.load_state_dict(unnormed.state_dict())
    assert (unnormed(tokens)[0] - none(tokens)[0]).abs().max() > 0.01


def test_counting_needs_no_positions():
    tokens = torch.tensor([[2, 1, 1, 2, 3, 3, 3]])  # most frequent so far, from position 2 on: 1, 1, 1, 1, 3
    assert lab3.most_frequent(tokens, 2) == pytest.approx(3 / 5)  # two steps back: 2, 1, 1, 2, 3


def test_weight_one_back_by_hand():
    def model(tokens):  # each head gives the own token of the query 1 back a tenth of its number, another token 0.9
        weights = torch.full((len(tokens), N_HEADS, tokens.shape[1], tokens.shape[1]), 0.5)
        same = tokens[:, 1:] == tokens[:, :-1]
        for head in range(N_HEADS):
            weights[:, head].diagonal(-1, 1, 2).copy_(torch.where(same, head / 10, 0.9))
        return None, weights

    tokens, _ = sequences("back", 200, TRIAL.length, TRIAL.offset, generator())
    found = lab3.one_back([{"model": model, "tests": [{"head": 2}]}], tokens)
    assert found["own_token"] == pytest.approx(0.2) and found["other_token"] == pytest.approx(0.9)


@pytest.mark.parametrize(("n", "margin"), [(24, 0.0), (24, 0.05), (24, 0.5), (16, 0.05)])
def test_columns_beyond_the_range_of_training_are_counted_column_by_column(n, margin):
    columns = sinusoidal_encoding(2 * n, D_MODEL).T.tolist()
    beyond = [max(c[n:]) > max(c[:n]) + margin or min(c[n:]) < min(c[:n]) - margin for c in columns]
    assert lab3.columns_beyond(n, margin) == sum(beyond)


def test_the_learned_table_ends_between_two_tests():
    runs = [
        {"tests": [{"by_position": torch.tensor(known)}, {"by_position": torch.tensor(new)}]}
        for known, new in (([0.1, 0.2, 0.9], [0.3, 0.5, 0.6]), ([0.1, 0.2, 0.7], [0.1, 0.5, 0.6]))
    ]
    assert lab3.learned_ends(runs) == pytest.approx({"last_trained": 0.8, "first_untrained": 0.2})


def test_distances_without_training_keep_their_first_number():
    model = Pointer("relative_all", TRIAL)
    train_pointer(model, "back", Trial(16, 3, 5, 1), generator())
    back = model.relative.table.detach()[:, : 8 * 16 + 1].flip(-1)  # (H, 129), by distance
    assert (back[:, :16] != 0).all() and (back[:, 16:] == 0).all()
    trained = [back[2, distance].item() for distance in range(16) if distance != 3]
    assert lab3.unasked_bias([{"model": model, "tests": [{"head": 2}]}], TRIAL) == pytest.approx(np.mean(trained))
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
        return {"window": window}

    monkeypatch.setattr(pointing, "train_pointer", train_pointer)
    monkeypatch.setattr(pointing, "evaluate", evaluate)
    found = run_trials(lab3.jobs, TRIAL, 2, lab3.lab.seed)
    assert list(found) == lab3.jobs and all(len(runs) == 2 for runs in found.values())
    assert all(torch.equal(model, models[0]) for models in first.values() for model in models)
    assert len(first) == 4 and len({models[0].sum().item() for models in first.values()}) == 2  # two tasks, two seeds
    assert not training & {seed for *_, seed in tests} and len({seed for *_, seed in tests}) == 4
    assert {test[1:3] for test in tests} == {(16, None), (32, None), (64, None), (128, None), (128, 16)}
    assert all(run["window"] == {"window": 16} for runs in found.values() for run in runs)


def test_one_training_among_many_is_silent(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    train_pointer(Pointer("none", TRIAL), "back", TRIAL, generator())
    assert capsys.readouterr().out == ""


# --- what the figures say -------------------------------------------------------------------------------------------


def run_of(encoding):
    """A made-up run, whose best head is number 2."""
    test = {"head": 2, "weights": torch.eye(16)}
    return {"model": Pointer(encoding, TRIAL), "tests": [test]}


def comparison(means):
    """The title of the figure for these accuracies."""
    fig = draw_comparison(means, {encoding: run_of(encoding) for encoding in means}, TRIAL, 2)
    return fig.get_suptitle().replace("\n", " ")


def test_the_comparison_names_who_points():
    means = {encoding: 1.0 for encoding in ENCODINGS if encoding != "relative_all"} | {"none": 0.2, "linear": 0.2}
    title = comparison(means | {"alibi": 0.3})
    assert title.startswith(
        "4 of 7 learn to point 3 back: learned, sinusoidal, relative bias, RoPE; not none and linear (0.20)"
    )
    assert title.endswith("ALiBi (0.30)")
    assert comparison(dict.fromkeys(means, 0.06)).startswith("None of 7 has learned")


def test_the_comparison_counts_at_the_length_of_training(names):
    assert list(names["means"]) == [encoding for encoding in ENCODINGS if encoding != "relative_all"]
    for encoding, mean in names["means"].items():
        runs = names["found"]["back", encoding]
        assert mean == pytest.approx(np.mean([run["tests"][0]["accuracy"] for run in runs]))
        assert names["first_runs"][encoding] is runs[0]


def test_the_portrait_is_of_the_best_head():
    run = run_of("relative")
    torch.nn.init.normal_(run["model"].relative.table)
    picture, _ = portrait(run, 16)
    assert torch.equal(picture, run["model"].bias(16)[2]) and not torch.equal(picture, run["model"].bias(16)[0])


def extrapolation(final, window, best):
    """The figure for two seeds with these accuracies at the longest sequences, without and with the window."""
    accuracy = {(task, encoding): np.array([[1.0, 0.5, 0.3, final[encoding]]] * 2) for task in TASKS for encoding in ENCODINGS}
    last = {encoding: np.array([window] * 2) for encoding in ENCODINGS}
    return draw_extrapolation(accuracy, last, dict.fromkeys(TASKS, best), TRIAL, lab3.CLEAR)


def test_every_encoding_has_its_style():
    assert list(STYLES) == list(ENCODINGS)


def test_what_is_near_guessing_is_not_ranked():
    final = dict.fromkeys(ENCODINGS, 0.15) | {"alibi": 0.8, "relative": 0.9}
    ranked = lab3.ranking({TRIAL.label(encoding): right for encoding, right in final.items()}, pointing.guessing("recent"))
    assert ranked == ["relative bias, clip 10 (0.90)", "ALiBi (0.80)"]
    fig = extrapolation(dict.fromkeys(ENCODINGS, 0.06), window=0.07, best="no model")
    assert "Best then at pointing: no model" in fig.get_suptitle().replace("\n", " ")
    assert "nothing gained" in fig.axes[2].get_title(loc="left")


def test_the_best_is_that_of_the_longest_sequences(names):
    for task, best in names["best"].items():
        final = {encoding: names["accuracy"][task, encoding][:, -1].mean() for encoding in ENCODINGS}
        top = max(final, key=final.get)
        clear = final[top] > pointing.guessing(task) + 0.2
        assert best.startswith(names["trial"].label(top) if clear else "no model clearly above guessing")


def test_open_marks_are_for_all_keys_and_filled_ones_for_the_last():
    final = dict.fromkeys(ENCODINGS, 0.1) | {"rope": 0.2}
    fig = extrapolation(final, window=0.9, best="RoPE")
    marks = [line for line in fig.axes[2].lines if line.get_marker() == "o"]
    opened = [line.get_xdata()[0] for line in marks if line.get_markerfacecolor() == "white"]
    filled = [line.get_xdata()[0] for line in marks if line.get_markerfacecolor() != "white"]
    assert opened == pytest.approx(list(final.values()))
    assert filled == pytest.approx([0.9] * len(ENCODINGS))


# --- what training finds ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    """Every encoding on both tasks, once: shorter sequences than in a full run, and another seed."""
    trial, found = Trial(length=16, offset=2, n_steps=200, n_test=24), {}
    for task in TASKS:
        for encoding in ENCODINGS:
            torch.manual_seed(3)
            model = Pointer(encoding, trial)
            train_pointer(model, task, trial, generator(3))
            lengths = (trial.lengths[0], trial.lengths[1], trial.lengths[3])
            tests = [evaluate(model, task, length, trial, seed=5) for length in lengths]
            window = evaluate(model, task, lengths[-1], trial, seed=5, window=trial.length)
            found[task, encoding] = {"model": model, "tests": tests, "window": window}
    return found


def accuracy(trained, task, encoding):
    return [test["accuracy"] for test in trained[task, encoding]["tests"]]


def test_four_encodings_point_and_three_cannot(trained):
    for encoding in ("learned", "sinusoidal", "relative", "relative_all", "rope"):
        assert accuracy(trained, "back", encoding)[0] > 0.9
    for encoding in ("none", "linear", "alibi"):
        assert accuracy(trained, "back", encoding)[0] < 0.6


def test_absolute_positions_fail_where_training_ended_and_the_relative_bias_fails_last(trained):
    for encoding in ("learned", "sinusoidal"):
        assert accuracy(trained, "back", encoding)[1] < 0.6
        assert trained["back", encoding]["window"]["accuracy"] < 0.7
    others = [accuracy(trained, "back", encoding)[-1] for encoding in ENCODINGS if encoding != "relative"]
    assert accuracy(trained, "back", "relative")[-1] > max(others) + 0.1


def test_the_relative_bias_needs_its_clip(trained):
    clipped, free = (accuracy(trained, "back", encoding) for encoding in ("relative", "relative_all"))
    assert clipped[1] > free[1] + 0.1 and clipped[-1] > free[-1] + 0.3


def test_hiding_new_distances_mends_relative_methods(trained):
    for encoding in ("relative", "rope"):
        assert trained["back", encoding]["window"]["accuracy"] > 0.9
    assert accuracy(trained, "back", "rope")[-1] < 0.5


def test_the_learned_table_fails_at_its_first_untrained_row(trained):
    known, new = (test["by_position"] for test in trained["back", "learned"]["tests"][:2])
    assert known[-4:].mean() > 0.8 and new[:4].mean() < 0.4


def test_alibi_keeps_the_most_recent_letter_at_any_length(trained):
    final = {encoding: accuracy(trained, "recent", encoding)[-1] for encoding in ENCODINGS}
    assert final["alibi"] > 0.5 and final["alibi"] == max(final.values())
    assert final["alibi"] > max(final[encoding] for encoding in ("none", "learned", "sinusoidal", "rope")) + 0.3


# --- the run ------------------------------------------------------------------------------------------------------


def test_required_records_and_printed_findings(fast_runs):
    run = fast_runs["03", "ascii"]
    results = json.loads((run.out / "03_results.json").read_text())["results"]
    required = {"equivariance.max_difference", "pooled.max_difference", "shift.max_error", "similarity.first_rise_distance"}
    required |= {f"extrapolation.{encoding}.{length}" for encoding in ENCODINGS for length in (24, 48, 96, 192)}
    assert set(results) >= required
    printed = " ".join(run.process.stdout.decode("ascii").split())
    assert "The second task: 15 % of the places" in printed
    assert f"is larger again at {results['similarity.first_rise_distance']['value']:.0f}" in printed
    assert f"of at most {results['shift.max_error']['value']:.0e}" in printed


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
    assert len(list(options.out.glob("03_*.png"))) == 5
    lengths = [options.length * factor for factor in (1, 2, 4, 8)]
    assert set(results(names)) >= {f"extrapolation.{encoding}.{length}" for encoding in ENCODINGS for length in lengths}
