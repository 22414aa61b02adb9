"""Lab 5: its task and its limit against references, its networks against the whole block, its measurements on models whose
answer is known, and the required findings in the committed numbers."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from common.attention import MultiHeadAttention
from conftest import ROOT, load, make_lab

lab5 = load(5)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# --- the task, its baselines and its limit --------------------------------------------------------------------------


def test_sines_follow_their_recurrence_and_the_next_value_is_the_next():
    f = torch.linspace(*lab5.FREQUENCIES, 7, dtype=torch.float64)
    inputs, targets = lab5.sines(7, 5, 0.0, generator(), f)
    y = torch.cat([inputs, targets[:, None]], dim=1)
    torch.testing.assert_close(y[:, 2:], 2 * f.cos().float()[:, None] * y[:, 1:-1] - y[:, :-2])


def test_noise_is_added_to_the_same_sines():
    quiet, loud = (lab5.sines(2000, 11, noise, generator()) for noise in (0.0, 0.3))
    for a, b in zip(quiet, loud, strict=True):
        assert (b - a).std().item() == pytest.approx(0.3, rel=0.1)
    assert 0.9 < quiet[0].abs().max() <= lab5.AMPLITUDES[1]


def test_waves_ask_for_the_value_one_period_back():
    inputs, targets = lab5.waves(3, 7, generator())
    assert inputs.shape == (3, 8)
    assert torch.equal(targets, inputs[:, -7]) and torch.equal(inputs[:, 7], inputs[:, 0])


def test_least_squares_finds_the_recurrence():
    f = torch.full((50,), 0.7, dtype=torch.float64)
    weights = lab5.least_squares(*lab5.sines(50, 2, 0.0, generator(), f))
    torch.testing.assert_close(weights, torch.tensor([-1.0, 2 * math.cos(0.7)]).double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", [5, 20, 41])
def test_the_fit_is_exact_without_noise(length):
    inputs, targets = lab5.sines(200, length, 0.0, generator())
    assert lab5.mse(lab5.curve_fit, (inputs, targets)) < 1e-9
    torch.testing.assert_close(lab5.curve_fit(3 * inputs), 3 * lab5.curve_fit(inputs), atol=1e-4, rtol=0)


def test_the_fit_is_the_best_sine_on_a_fine_grid():
    inputs, _ = lab5.sines(40, 20, 0.1, generator())
    x, t, found = inputs.double().numpy().T, np.arange(20), []
    for f in np.linspace(*lab5.FREQUENCIES, 2001):
        basis = np.stack([np.sin(f * t), np.cos(f * t)], axis=1)
        a, b = np.linalg.lstsq(basis, x, rcond=None)[0]  # (n,) each
        found.append((((x - basis @ [a, b]) ** 2).sum(axis=0), a * np.sin(20 * f) + b * np.cos(20 * f)))
    errors, predictions = np.array(found).transpose(1, 0, 2)  # (frequencies, n) each
    best = predictions[errors.argmin(axis=0), np.arange(40)]
    np.testing.assert_allclose(lab5.curve_fit(inputs).numpy(), best, atol=4e-3)


def posterior_mean(x, noise, sizes=(161, 15, 40)):
    """(n,): the best prediction there is, by quadrature over the distribution that f, A and phi are drawn from."""
    t, amplitudes, phases = np.arange(x.shape[1]), np.linspace(*lab5.AMPLITUDES, sizes[1]), np.arange(sizes[2])
    weighted, total = np.zeros(len(x)), np.zeros(len(x))
    phases = 2 * math.pi * phases / sizes[2]
    for f in np.linspace(*lab5.FREQUENCIES, sizes[0]):
        curves = (amplitudes[:, None, None] * np.sin(f * t + phases[:, None])).reshape(-1, len(t))
        after = (amplitudes[:, None] * np.sin(f * len(t) + phases)).ravel()
        square = (x**2).sum(axis=1)[:, None] - 2 * x @ curves.T + (curves**2).sum(axis=1)
        likelihood = np.exp((20 * noise**2 - square / 2) / noise**2)  # scaled against underflow
        weighted, total = weighted + likelihood @ after, total + likelihood.sum(axis=1)
    return torch.from_numpy(weighted / total)


def test_the_limit_is_within_two_percent_of_the_best_there_is():
    data = lab5.sines(60, 20, 0.1, generator(1))
    best = lab5.mse(lambda x: posterior_mean(x.double().numpy(), 0.1), data)
    assert 0.995 * best < lab5.mse(lab5.curve_fit, data) < 1.02 * best


# --- the networks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", [True, False])
def test_the_last_position_alone_gives_what_the_whole_block_gives(positions, float64):
    model, y = lab5.Transformer(2, positions=positions), torch.randn(3, 7)
    x = model.embed(y[..., None]) + model.positions[:7]
    whole, weights = model.block(x)
    expected = model.read_out(whole[:, -1])[:, 0]
    found, seen = model.look(y)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(seen, weights[:, :, -1], atol=1e-12, rtol=0)
    one, other = (torch.autograd.grad(p.sum(), list(model.parameters())) for p in (found, expected))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


def test_without_positions_the_order_of_the_earlier_values_is_lost():
    y = torch.randn(5, 11)
    shuffled = torch.cat([y[:, :-1].flip(1), y[:, -1:]], dim=1)
    blind, seeing = lab5.Transformer(positions=False), lab5.Transformer()
    torch.testing.assert_close(blind(y), blind(shuffled))
    assert (seeing(y) - seeing(shuffled)).abs().max() > 1e-4


def test_the_recurrent_network_reads_its_last_state():
    model, y = lab5.Recurrent(nn.GRU), torch.randn(3, 7)
    torch.testing.assert_close(model(y), model.read_out(model.layer(y[..., None])[1][0])[:, 0])


def test_fit_sees_each_sequence_once_and_depends_on_the_seed_alone():
    seen = []

    class Recorder(lab5.Recurrent):
        def forward(self, y):
            seen.append(y)
            return super().forward(y)

    data, test = lab5.sines(96, 5, 0.0, generator()), lab5.sines(3, 5, 0.0, generator(1))
    run = lab5.fit(Recorder, data, test, 32, 1e-2, 7)
    assert torch.equal(torch.cat(seen[:3]), data[0]) and torch.equal(seen[3], test[0]) and len(run.losses) == 3
    torch.rand(5)
    assert lab5.fit(Recorder, data, test, 32, 1e-2, 7).mse == run.mse
    assert lab5.fit(Recorder, data, test, 32, 1e-2, 8).mse != run.mse
    assert lab5.fit(Recorder, data, test, 32, 2e-2, 7).mse != run.mse


def test_all_networks_get_the_same_data():
    sample = lambda g: (lab5.sines(64, 5, 0.1, g), lab5.sines(10, 5, 0.1, g))  # noqa: E731
    same = lambda: lab5.Recurrent()  # noqa: E731
    runs = lab5.fit_all({"a": same, "b": same}, sample, 32, {"a": 1e-2, "b": 1e-2}, [3, 5])
    assert lab5.errors(runs["a"]) == lab5.errors(runs["b"]) and len(set(lab5.errors(runs["a"]))) == 2
    slow = lab5.fit_all({"a": same, "b": same}, sample, 32, {"a": 1e-2, "b": 1e-3}, [3])
    assert lab5.errors(slow["a"]) == lab5.errors(runs["a"])[:1] != lab5.errors(slow["b"])


@pytest.fixture(scope="module")
def card():
    """Both networks after a short training without noise."""
    rates, test = dict.fromkeys(lab5.TRAINED, 1e-2), lab5.sines(500, 20, 0.0, generator(9))
    sample = lambda g: lab5.sines(250 * 64, 20, 0.0, g)  # noqa: E731
    return lab5.measure_card(lab5.makers(), rates, [1, 2], sample, 64, test, test[1])


def test_networks_learn_the_sine_and_a_linear_formula_is_better_without_noise(card):
    mean = {name: np.mean(errors) for name, errors in card.errors.items()}
    assert mean["zero"] > mean["last"] > 0.1 > 0.03 > max(mean["rnn"], mean["transformer"]) > 1e-5
    assert card.limit < mean["linear"] < 1e-7
    assert card.beyond_noise["rnn"] == pytest.approx(mean["rnn"])  # there is no noise


def test_noise_takes_the_linear_formula_far_from_the_limit():
    test = lab5.sines(2000, 20, 0.1, generator(9))
    sample = lambda g: (lab5.sines(20_000, 20, 0.1, g), test)  # noqa: E731
    found = lab5.measure_baselines(sample, [1])
    assert 2 * lab5.mse(lab5.curve_fit, test) < found["linear"][0] < 0.5 * found["last"][0]


def test_the_limit_and_the_errors_beyond_noise_by_hand():
    test, (_, clean) = (lab5.sines(400, 20, noise, generator(9)) for noise in (0.1, 0.0))
    sample = lambda g: lab5.sines(640, 20, 0.1, g)  # noqa: E731
    card = lab5.measure_card(lab5.makers(), dict.fromkeys(lab5.TRAINED, 1e-2), [1, 2], sample, 64, test, clean)
    assert card.limit == pytest.approx((lab5.curve_fit(test[0]) - test[1]).pow(2).mean().item())
    assert card.beyond_noise["limit"] < 0.5 * card.limit
    with torch.no_grad():
        by_start = [(run.model(test[0]) - clean).pow(2).mean().item() for run in card.runs["rnn"]]
    assert card.beyond_noise["rnn"] == pytest.approx(np.mean(by_start), rel=1e-4)


def test_rates_are_judged_on_validation_data():
    data, validation = (lab5.sines(n, 7, 0.1, generator(n)) for n in (128, 50))
    found = lab5.measure_rates({"rnn": lab5.Recurrent}, (4e-3, 8e-3), data, validation, [3, 4])
    assert list(found["rnn"]) == [4e-3, 8e-3]
    by_start = [lab5.fit(lab5.Recurrent, data, validation, 64, 8e-3, seed).mse for seed in (3, 4)]
    assert found["rnn"][8e-3] == pytest.approx(np.mean(by_start)) and by_start[0] != by_start[1]


def test_the_best_rate_is_kept_and_validation_data_are_new(tmp_path, monkeypatch):
    lab, seen, tested = make_lab(lab5, tmp_path), [], []

    def measured(networks, rates, data, validation, seeds, progress):
        seen.extend((data, validation))
        return {"rnn": {0.1: 3.0, 0.2: 2.0, 0.3: 4.0}}

    monkeypatch.setattr(lab5, "measure_rates", measured)
    draw, g = lab5.sines, generator()
    assert lab5.show_rates(lab, "x", {}, (0.1, 0.2, 0.3), lambda n: draw(n, 5, 0.1, g), 2, 1, "") == {"rnn": 0.2}
    (data, _), (validation, _) = seen
    assert not (data[:, None] == validation).all(dim=-1).any()

    class StopError(Exception):
        pass

    def stop(networks, rates, seeds, sample, batch, test, *_):
        tested.append(test[0])
        raise StopError

    monkeypatch.setattr(lab5, "measure_card", stop)
    with pytest.raises(StopError):
        lab5.show_scores(lab, lab5.makers())
    assert not (tested[0][:, None] == seen[3][0]).all(dim=-1).any()  # nor are they the test data


def test_no_positions_reaches_the_networks_of_the_score_card(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(lab5, "show_scores", lambda lab, networks: seen.append(networks) or ({0.1: None}, {"transformer": 0}))
    monkeypatch.setattr(lab5, "show_attention", lambda *_: None)
    monkeypatch.setattr(lab5, "show_recall", lambda lab, networks: seen.append(networks))
    monkeypatch.setattr(lab5, "show_mistakes", lambda *_: None)
    for flags, expected in ((["--no-positions"], False), ([], True)):
        lab5.main(make_lab(lab5, tmp_path, *flags))
        assert all(networks["transformer"]().positions.any() == expected for networks in seen)
        seen.clear()


# --- looking and needing --------------------------------------------------------------------------------------------


class ThreeBack(nn.Module):
    """Predicts the value three steps back, and looks there with both heads; hidden, it answers 0."""

    def look(self, y, mask=None):
        weights = torch.zeros(len(y), 2, y.shape[1])
        weights[..., -3] = 1
        visible = 1.0 if mask is None else float(mask[0, 0, -3])
        return visible * y[:, -3], weights

    def forward(self, y):
        return self.look(y)[0]


def test_positions_are_counted_back_from_the_end():
    inputs, _ = lab5.waves(200, 10, generator())
    run = lab5.Run(ThreeBack(), 0.0, [], 0.0)
    found = lab5.measure_positions({"transformer": [run, run]}, (inputs, inputs[:, -3]))
    assert found["weights"].shape == (2, 2, 200, 11) and found["hiding"].shape == (2, 11)
    assert (found["weights"][..., 2] == 1).all() and (found["base"]["transformer"] == 0).all()
    others = [i for i in range(11) if i != 2]
    for values, expected in ((found["hiding"], 1.0), (found["swapping"]["transformer"], 2.0)):
        assert values[:, 2] == pytest.approx(expected, rel=0.4) and (values[:, others] == 0).all()


def test_a_value_is_replaced_by_that_of_the_neighbour():
    inputs = torch.arange(35.0).reshape(5, 7)
    seen = []

    class Spy(ThreeBack):
        def forward(self, y):
            seen.append(y)
            return super().forward(y)

    lab5.measure_positions({"transformer": [lab5.Run(Spy(), 0.0, [], 0.0)]}, (inputs, inputs[:, -3]))
    for back in range(1, 8):
        (swapped,) = (y for y in seen if (y[:, -back] != inputs[:, -back]).all())
        assert torch.equal(swapped[1:, -back], inputs[:-1, -back])
        assert (swapped != inputs).sum() == 5


def test_the_ways_of_the_last_value_add_up():
    model, data = lab5.Transformer(2).eval(), lab5.sines(50, 6, 0.1, generator())
    found = lab5.measure_paths(model, data)
    other = data[0].clone()
    other[:, -1] = data[0][:, -1].roll(1)
    assert found["none"] == pytest.approx(lab5.mse(model, data))
    assert found["all"] == pytest.approx(lab5.mse(model, (other, data[1])))
    torch.nn.init.zeros_(model.block.attention.w_o.weight)  # now nothing comes in by attention
    found = lab5.measure_paths(model, data)
    assert found["query"] == found["key_value"] == found["none"] != found["residual"] == found["all"]


def test_hiding_masks_one_key_of_the_real_model():
    model, (inputs, targets) = lab5.Transformer(2).eval(), lab5.sines(5, 4, 0.1, generator())
    found = lab5.measure_positions({"transformer": [lab5.Run(model, 0.0, [], 0.0)]}, (inputs, targets))
    x = model.embed(inputs[..., None]) + model.positions[:4]
    attended, _ = model.block.attention(x[:, -1:], x[:, [0, 2, 3]])  # without the key three steps back
    h = model.block.norm_1(x[:, -1:] + attended)
    expected = model.read_out(model.block.norm_2(h + model.block.feed_forward(h)))[:, 0, 0]
    assert found["hiding"][0, 2] == pytest.approx((expected - targets).pow(2).mean().item(), rel=1e-5)


def test_rank_correlation():
    assert lab5.rank_correlation([1, 2, 3, 9], [0.1, 0.2, 5, 6]) == pytest.approx(1)
    assert lab5.rank_correlation([1, 2, 3, 9], [4, 3, 2, 1]) == pytest.approx(-1)
    assert lab5.rank_correlation([1, 2, 3, 4], [2, 1, 4, 3]) == pytest.approx(0.6)  # 1 - 6 * 4 / (4 * 15)


def test_silencing_a_head_costs_something_unless_it_did_nothing(card):
    model = card.runs["transformer"][0].model
    again = lab5.silenced(model, 1)  # its head 1 does nothing any more
    factors = lab5.measure_heads([lab5.Run(m, 0.0, [], 0.0) for m in (model, again)], card.test)
    assert factors.shape == (2, 4) and factors[1, 1] == 1 and factors[0].max() > 1.5


def test_weights_by_frequency_are_weights(card):
    weights = lab5.measure_by_frequency(card.runs["transformer"][0].model, 11, 0.1, generator())
    assert weights.shape == (4, 41, 11)
    torch.testing.assert_close(weights.sum(-1), torch.ones(4, 41))
    assert (lab5.measure_by_frequency(ThreeBack(), 11, 0.1, generator())[..., 2] == 1).all()  # counted back from the end


# --- recall and mistakes --------------------------------------------------------------------------------------------


def test_attention_recalls_what_an_rnn_does_not():
    rates = {"transformer": 2e-2, "rnn": 1e-2}
    runs = lab5.measure_recall(lab5.makers(), 25, rates, [0], (200 * 64, 1000))
    transformer, rnn = (lab5.errors(runs[name])[0] for name in ("transformer", "rnn"))
    assert transformer < 0.01 and rnn > 30 * transformer


def test_recall_and_mistakes_are_tested_on_new_sequences(monkeypatch):
    def check(make, data, test, *_):
        assert data[0].shape == (64, *test[0].shape[1:]) and len(test[0]) == 20
        assert not (data[0][:, None] == test[0]).all(dim=-1).any()
        return lab5.Run(None, 0.0, [], 0.0)

    monkeypatch.setattr(lab5, "fit", check)
    assert lab5.measure_recall(lab5.makers(), 5, dict.fromkeys(lab5.TRAINED, 0), [3], (64, 20))
    assert lab5.measure_mistakes(4, 7, 0, [3], (64, 20))


def test_the_mistaken_attention_without_a_mistake_is_attention(float64):
    right = MultiHeadAttention(10, 2)
    same = lab5.MistakenAttention(10, 2, scale=1 / math.sqrt(5))
    same.load_state_dict(right.state_dict())
    query, key = torch.randn(3, 1, 10), torch.randn(3, 7, 10)
    for a, b in zip(same(query, key), right(query, key), strict=True):
        torch.testing.assert_close(a, b)


def test_the_wrong_axis_normalises_over_the_queries(float64):
    layer, x = lab5.MistakenAttention(10, 1, scale=0.5, axis=-2), torch.randn(3, 7, 10)
    scores = layer.w_q(x) @ layer.w_k(x).transpose(1, 2) * 0.5  # (3, query, key)
    expected = scores.exp() / scores.exp().sum(dim=1, keepdim=True)
    output, weights = layer(x[:, -1:], x)
    torch.testing.assert_close(weights[:, 0, 0], expected[:, -1])
    torch.testing.assert_close(output[:, 0], layer.w_o((expected @ layer.w_v(x))[:, -1]))


def test_mistakes_differ_from_the_correct_model_in_one_thing():
    models = {name: make() for name, make in lab5.mistaken_makers(4).items()}
    assert not models["no_positions"].positions.any() and models["correct"].positions.any()
    assert models["no_scaling"].block.attention.scale == 1 and models["no_scaling"].block.attention.axis == -1
    assert models["wrong_axis"].block.attention.scale == 1 / math.sqrt(8) and models["wrong_axis"].block.attention.axis == -2
    assert "32 and n_heads 5" in lab5.wrong_head_count()


def test_a_model_without_positions_learns_far_less():
    runs = lab5.measure_mistakes(4, 20, 1e-2, [0], (150 * 64, 2000))
    error = {name: lab5.errors(r)[0] for name, r in runs.items()}
    assert error["no_positions"] > 4 * error["correct"] and error["no_positions"] > 2 * error["wrong_axis"]
    inputs, _ = lab5.sines(50, 20, 0.0, generator())
    off = {name: lab5.row_sum_error(r[0].model, inputs) for name, r in runs.items()}
    assert max(off[name] for name in ("correct", "no_positions", "no_scaling")) < 1e-5 and off["wrong_axis"] > 0.1


# --- figures that have to tell the truth ----------------------------------------------------------------------------


def runs_of(errors, losses):
    return [lab5.Run(None, error, losses, 0.0) for error in errors]


def fake_card(transformer, losses):
    scores = {"zero": [1.0, 1.0], "last": [0.5, 0.5], "linear": [0.1, 0.1], "rnn": [0.2, 0.3], "transformer": transformer}
    runs = {"rnn": runs_of([0.2, 0.3], [1.0, 1.0, 1.0]), "transformer": runs_of(transformer, losses)}
    return lab5.Card(scores, runs, 0.04, None, {}, None)


def test_headlines_name_the_winner_of_that_run():
    title = lab5.draw_scores({0.1: fake_card([0.05, 0.07], [1.0])}).get_suptitle()
    assert "Transformer at noise 0.1 (0.06)" in title
    title = lab5.draw_scores({0.1: fake_card([0.5, 0.7], [1.0])}).get_suptitle()
    assert "least squares at noise 0.1 (0.1)" in title


def test_who_never_passes_least_squares_is_said_to_never_pass():
    title = lab5.draw_learning({0.1: fake_card([0.05, 0.07], [1.0, 0.5, 0.05])}).get_suptitle()
    assert "after about RNN never, Transformer 2 steps" in title.replace("\n", " ")


def test_smooth_averages_stretches():
    steps, losses = lab5.smooth(runs_of([0], [1.0, 3.0, 5.0, 7.0]), n_stretches=2)
    assert steps.tolist() == [0.5, 2.5] and losses.tolist() == [[2.0, 6.0]]


# --- the whole lab --------------------------------------------------------------------------------------------------

REQUIRED = {
    *(f"sine.noise_{s}.{m}.{k}" for s in ("0", "0.1") for m in lab5.SCORED for k in ("mse_mean", "mse_std")),
    *(f"sine.noise_{s}.limit" for s in ("0", "0.1")),
    *(f"recall.period_{p}.{m}.mse" for p in (5, 10, 25, 50) for m in ("transformer", "rnn", "gru")),
    *(f"mistakes.{name}.mse" for name in ("correct", "no_positions", "no_scaling", "wrong_axis")),
    *(f"position.{kind}.{lag}" for kind in ("attention", "hiding") for lag in range(1, 21)),
    *(f"parameters.{m}" for m in ("transformer", "rnn", "gru")),
}


def test_required_records_and_a_printed_finding(fast_runs):
    run = fast_runs["05", "ascii"]
    results = json.loads((run.out / "05_results.json").read_text())["results"]
    assert set(results) >= REQUIRED
    assert results["parameters.transformer"]["value"] == 12801 and results["parameters.rnn"]["value"] == 4353
    printed = " ".join(run.process.stdout.decode("ascii").split())
    assert f"RNN {results['sine.noise_0.1.over_limit.rnn']['value']:.2f}" in printed


def test_the_committed_run_reaches_what_the_course_says():
    entries = json.loads((ROOT / "week6" / "outputs" / "05_results.json").read_text())["results"]
    value = {key: entry["value"] for key, entry in entries.items()}
    for name in ("rnn", "transformer"):
        assert value[f"sine.noise_0.{name}.mse_mean"] < 1e-3
        assert value[f"sine.noise_0.1.{name}.mse_mean"] < 1.5 * value["sine.noise_0.1.limit"]
        assert value["sine.noise_0.linear.mse_mean"] < 1e-3 * value[f"sine.noise_0.{name}.mse_mean"]
    assert value["recall.period_25.rnn.mse"] > 100 * value["recall.period_25.transformer.mse"]
    assert value["recall.period_25.weight"] > 0.5
    assert value["mistakes.no_positions.mse"] > 10 * value["mistakes.correct.mse"]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--heads", "5"], "'5' does not divide the width 32; allowed: 1, 2, 4, 8, 16, 32"),
        (["--heads", "4", "0"], "'0' does not divide"),
        (["--lengths", "2"], "whole number from 3 to 100"),
        (["--lengths", "10", "two"], "whole number from 3 to 100"),
        (["--noise", "-0.1"], "'-0.1' is not a standard deviation from 0 to 10"),
        (["--noise", "nan"], "standard deviation"),
        (["--noise", "inf"], "standard deviation"),
        (["--heads"], "expected at least one"),
    ],
)
def test_a_bad_flag_is_one_line_and_nothing_is_written(flags, says, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        make_lab(lab5, tmp_path / "out", *flags)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and says in error and error.isascii()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "written", "says"),
    [
        (
            ["--heads", "8", "1", "8", "--noise", "0"],
            ["05_heads.png"],
            "Noise 0, 6 steps, 20 values in, Transformer with positions",
        ),
        (
            ["--lengths", "10", "3", "--no-positions"],
            ["05_lengths.png"],
            "Noise 0.1, 6 steps, 4 heads, Transformer without positions",
        ),
    ],
)
def test_several_values_are_compared_and_nothing_else_is_done(flags, written, says, tmp_path, capsys):
    lab5.main(make_lab(lab5, tmp_path, *flags))
    printed = " ".join(capsys.readouterr().out.split())
    assert [path.name for path in tmp_path.iterdir()] == written and says in printed and "1. The score card" not in printed


def test_two_comparisons_leave_each_other_alone(tmp_path, capsys):
    lab5.main(make_lab(lab5, tmp_path, "--heads", "1", "2", "--lengths", "3", "5"))
    printed = " ".join(capsys.readouterr().out.split())
    assert "20 values in, Transformer with" in printed and "4 heads, Transformer with" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["05_heads.png", "05_lengths.png"]


def test_the_flags_reach_the_lab(tmp_path, capsys):
    lab = make_lab(lab5, tmp_path, "--heads", "1", "--lengths", "3", "--noise", "2", "0.5", "-0", "--no-positions")
    assert lab.options.noise == [0.0, 0.5, 2.0]
    lab5.main(lab)
    printed = " ".join(capsys.readouterr().out.split())
    assert "no Transformer has positions" in printed and "Noise 0:" in printed and "at noise 2," in printed
    assert "with 32 features a head" in printed and len(list(tmp_path.glob("05_*.png"))) == 8
