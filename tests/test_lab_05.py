"""Lab 5: its task and its limit against references, its networks against the whole block, its measurements on models whose
answer is known, and the required findings in the committed numbers."""

import json
import math
import sys
from functools import partial
from statistics import mean

import numpy as np
import pytest
import torch
from torch import nn

from common import experiments
from common.attention import MultiHeadAttention
from common.experiments import Run, error_on, errors_of, fit, fit_all, rank_correlation, try_rates
from common.heads import silenced
from common.sines import AMPLITUDES, FREQUENCIES, curve_fit, least_squares, sines
from conftest import ROOT, load, run_script
from week6.figures import sequence_modeling as figures

lab5 = load(5)
SCORED = ("zero", "last", "linear", "rnn", "transformer")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# --- the task, its baselines and its limit --------------------------------------------------------------------------


def test_sines_follow_their_recurrence_and_the_next_value_is_the_next():
    f = torch.linspace(*FREQUENCIES, 7, dtype=torch.float64)
    inputs, targets = sines(7, 5, 0.0, generator(), f)
    y = torch.cat([inputs, targets[:, None]], dim=1)
    torch.testing.assert_close(y[:, 2:], 2 * f.cos().float()[:, None] * y[:, 1:-1] - y[:, :-2])


def test_noise_is_added_to_the_same_sines():
    quiet, loud = (sines(2000, 11, noise, generator()) for noise in (0.0, 0.3))
    for a, b in zip(quiet, loud, strict=True):
        assert (b - a).std().item() == pytest.approx(0.3, rel=0.1)
    assert 0.9 < quiet[0].abs().max() <= AMPLITUDES[1]


def test_waves_ask_for_the_value_one_period_back():
    inputs, targets = lab5.waves(3, 7, generator())
    assert inputs.shape == (3, 8)
    assert torch.equal(targets, inputs[:, -7]) and torch.equal(inputs[:, 7], inputs[:, 0])


def test_least_squares_finds_the_recurrence():
    f = torch.full((50,), 0.7, dtype=torch.float64)
    weights = least_squares(*sines(50, 2, 0.0, generator(), f))
    torch.testing.assert_close(weights, torch.tensor([-1.0, 2 * math.cos(0.7)]).double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", [5, 20, 41])
def test_the_fit_is_exact_without_noise(length):
    inputs, targets = sines(200, length, 0.0, generator())
    assert error_on(curve_fit, (inputs, targets)) < 1e-9
    torch.testing.assert_close(curve_fit(3 * inputs), 3 * curve_fit(inputs), atol=1e-4, rtol=0)


def test_the_fit_is_the_best_sine_on_a_fine_grid():
    inputs, _ = sines(40, 20, 0.1, generator())
    x, t, found = inputs.double().numpy().T, np.arange(20), []
    for f in np.linspace(*FREQUENCIES, 2001):
        basis = np.stack([np.sin(f * t), np.cos(f * t)], axis=1)
        a, b = np.linalg.lstsq(basis, x, rcond=None)[0]  # (n,) each
        found.append((((x - basis @ [a, b]) ** 2).sum(axis=0), a * np.sin(20 * f) + b * np.cos(20 * f)))
    errors, predictions = np.array(found).transpose(1, 0, 2)  # (frequencies, n) each
    best = predictions[errors.argmin(axis=0), np.arange(40)]
    np.testing.assert_allclose(curve_fit(inputs).numpy(), best, atol=4e-3)


def posterior_mean(x, noise, sizes=(161, 15, 40)):
    """(n,): the best prediction there is, by quadrature over the distribution that f, A and phi are drawn from."""
    t, amplitudes, phases = np.arange(x.shape[1]), np.linspace(*AMPLITUDES, sizes[1]), np.arange(sizes[2])
    weighted, total = np.zeros(len(x)), np.zeros(len(x))
    phases = 2 * math.pi * phases / sizes[2]
    for f in np.linspace(*FREQUENCIES, sizes[0]):
        curves = (amplitudes[:, None, None] * np.sin(f * t + phases[:, None])).reshape(-1, len(t))
        after = (amplitudes[:, None] * np.sin(f * len(t) + phases)).ravel()
        square = (x**2).sum(axis=1)[:, None] - 2 * x @ curves.T + (curves**2).sum(axis=1)
        likelihood = np.exp((20 * noise**2 - square / 2) / noise**2)  # scaled against underflow
        weighted, total = weighted + likelihood @ after, total + likelihood.sum(axis=1)
    return torch.from_numpy(weighted / total)


def test_the_limit_is_within_two_percent_of_the_best_there_is():
    data = sines(60, 20, 0.1, generator(1))
    best = error_on(lambda x: posterior_mean(x.double().numpy(), 0.1), data)
    assert 0.995 * best < error_on(curve_fit, data) < 1.02 * best


# --- the networks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", [True, False])
def test_the_last_position_alone_gives_what_the_whole_block_gives(positions):
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

    data, test = sines(96, 5, 0.0, generator()), sines(3, 5, 0.0, generator(1))
    run = fit(Recorder, data, test, 32, 1e-2, 7)
    assert torch.equal(torch.cat(seen[:3]), data[0]) and torch.equal(seen[3], test[0]) and len(run.losses) == 3
    torch.rand(5)
    assert fit(Recorder, data, test, 32, 1e-2, 7).mse == run.mse
    assert fit(Recorder, data, test, 32, 1e-2, 8).mse != run.mse
    assert fit(Recorder, data, test, 32, 2e-2, 7).mse != run.mse


def test_all_networks_get_the_same_data():
    same, draw = {"a": lab5.Recurrent, "b": lab5.Recurrent}, partial(sines, length=5, noise=0.1)
    found = errors_of(fit_all(same, draw, {"a": 1e-2, "b": 1e-2}, [3, 5], 2, 10, 32))
    assert found["a"] == found["b"] and len(set(found["a"])) == 2
    slow = errors_of(fit_all(same, draw, {"a": 1e-2, "b": 1e-3}, [3], 2, 10, 32))
    assert slow["a"] == found["a"][:1] != slow["b"]


@pytest.fixture(scope="module")
def trained():
    """Both networks after a short training without noise, and the test data."""
    test = sines(500, 20, 0.0, generator(9))
    draw, rates = partial(sines, length=20, noise=0.0), dict.fromkeys(lab5.networks, 1e-2)
    return fit_all(lab5.networks, draw, rates, [1, 2], 250, test), test


def test_networks_learn_the_sine_and_a_linear_formula_is_better_without_noise(trained):
    runs, test = trained
    by_seed = [lab5.baselines(sines(250 * 64, 20, 0.0, generator(seed)), test) for seed in (1, 2)]
    error = {name: np.mean([found[name] for found in by_seed]) for name in by_seed[0]}
    error |= {name: np.mean(errors) for name, errors in errors_of(runs).items()}
    assert error["zero"] > error["last"] > 0.1 > 0.03 > max(error["rnn"], error["transformer"]) > 1e-5
    assert error_on(curve_fit, test) < error["linear"] < 1e-7


def test_baselines_by_hand():
    ramp = torch.arange(8.0)
    data = torch.stack([ramp[i : i + 3] for i in range(5)]), ramp[3:]  # the next value: 2 y(t) - y(t-1)
    test = torch.tensor([[1.0, 2.0, 4.0], [0.0, 5.0, 5.0]]), torch.tensor([6.0, 4.0])
    found = lab5.baselines(data, test)
    assert found["zero"] == pytest.approx((36 + 16) / 2) and found["last"] == pytest.approx((4 + 1) / 2)
    weights = least_squares(*data).tolist()
    expected = [sum(w * y for w, y in zip(weights, row, strict=True)) for row in test[0].tolist()]
    assert found["linear"] == pytest.approx(((expected[0] - 6) ** 2 + (expected[1] - 4) ** 2) / 2)
    assert lab5.baselines(data, data)["linear"] < 1e-10


def test_noise_takes_the_linear_formula_far_from_the_limit():
    test = sines(2000, 20, 0.1, generator(9))
    found = lab5.baselines(sines(20_000, 20, 0.1, generator(1)), test)
    assert 2 * error_on(curve_fit, test) < found["linear"] < 0.5 * found["last"]


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What a run of the script leaves: its top-level names."""
    return run_script(5, tmp_path_factory.mktemp("run"))


def recorded(names, key):
    return names["lab"]._results.values[key]["value"]


def test_the_limit_and_the_errors_beyond_noise_by_hand(names):
    (inputs, targets), (_, clean) = names["tests"][0.1], names["tests"][0.0]
    assert (targets - clean).std().item() == pytest.approx(0.1, rel=0.15)  # the same sines, with and without noise
    limit = (curve_fit(inputs) - targets).pow(2).mean().item()
    assert recorded(names, "sine.noise_0.1.limit") == pytest.approx(limit, rel=1e-4)
    assert recorded(names, "sine.noise_0.1.beyond_noise.limit") < 0.5 * limit
    for name in ("rnn", "transformer"):
        with torch.no_grad():
            by_start = [(run.model(inputs) - clean).pow(2).mean().item() for run in names["runs"][0.1][name]]
        assert recorded(names, f"sine.noise_0.1.beyond_noise.{name}") == pytest.approx(np.mean(by_start), rel=1e-4)
        over = recorded(names, f"sine.noise_0.1.{name}.mse_mean") / recorded(names, "sine.noise_0.1.limit")
        assert recorded(names, f"sine.noise_0.1.over_limit.{name}") == pytest.approx(over, rel=1e-4)


def test_the_card_holds_the_error_of_every_start(names):
    for noise, test in names["tests"].items():
        assert list(names["scores"][noise]) == list(SCORED)
        for name, runs in names["runs"][noise].items():
            by_start = [error_on(run.model, test) for run in runs]
            assert len(set(by_start)) == 3 and names["scores"][noise][name] == by_start
            assert recorded(names, f"sine.noise_{noise:g}.{name}.mse_mean") == pytest.approx(mean(by_start), rel=1e-5)


def test_the_open_training_is_what_the_search_does(names):
    found = try_rates(names["networks"], (8e-3,), names["trial"], names["validation"], [names["seed"]])
    for name in ("rnn", "transformer"):
        assert error_on(names[name], names["validation"]) == found[name][8e-3]


def test_rates_are_judged_on_validation_data():
    data, validation = (sines(n, 7, 0.1, generator(n)) for n in (128, 50))
    found = try_rates({"rnn": lab5.Recurrent}, (4e-3, 8e-3), data, validation, [3, 4])
    assert list(found["rnn"]) == [4e-3, 8e-3]
    by_start = [fit(lab5.Recurrent, data, validation, 64, 8e-3, seed).mse for seed in (3, 4)]
    assert found["rnn"][8e-3] == pytest.approx(np.mean(by_start)) and by_start[0] != by_start[1]


def test_the_best_rate_is_kept_and_validation_data_are_new(names):
    found = try_rates(names["networks"], lab5.RATES, names["trial"], names["validation"], [names["seed"]])
    assert names["rates"] == {name: min(lab5.RATES, key=by_rate.get) for name, by_rate in found.items()}
    assert len(set(names["rates"].values()) | set(names["recall_rates"].values())) > 1
    (trial, _), (validation, _), (test, _) = names["trial"], names["validation"], names["tests"][0.1]
    for one, other in ((trial, validation), (test, validation), (names["wave_trial"][0], names["wave_validation"][0])):
        assert not (one[:, None] == other).all(dim=-1).any()


def test_no_positions_reaches_the_networks_of_sections_1_to_3(names, tmp_path):
    def positions(names):
        runs = [names["runs"][0.1], *names["recall_runs"].values()]
        return [bool(run.model.positions.any()) for by_name in runs for run in by_name["transformer"]]

    assert all(positions(names)) and not any(positions(run_script(5, tmp_path, "--no-positions")))


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
    model, data = ThreeBack(), (inputs, inputs[:, -3])
    weights = lab5.looks(model, inputs)
    assert weights.shape == (2, 200, 11) and (weights[..., 2] == 1).all() and weights.sum() == 400
    hidden = [lab5.hidden_error(model, data, back) for back in range(1, 12)]
    swapped = [error_on(model, (lab5.replace(inputs, back), data[1])) for back in range(1, 12)]
    assert error_on(model, data) == 0
    for values, expected in ((hidden, 1.0), (swapped, 2.0)):
        assert values.pop(2) == pytest.approx(expected, rel=0.4) and set(values) == {0.0}


def test_a_value_is_replaced_by_that_of_the_neighbour():
    inputs = torch.arange(35.0).reshape(5, 7)
    for back in range(1, 8):
        swapped = lab5.replace(inputs, back)
        assert torch.equal(swapped[1:, -back], inputs[:-1, -back])
        assert (swapped != inputs).sum() == 5


def test_the_table_by_steps_back_shows_what_was_measured(names):
    (inputs, targets), runs = names["data"], names["runs"][0.1]
    for back in (1, 7, 20):
        found = [lab5.hidden_error(run.model, (inputs, targets), back) for run in runs["transformer"]]
        assert recorded(names, f"position.hiding.{back}") == pytest.approx(mean(found), rel=1e-5)
        found = [names["looks"](run.model, inputs)[..., back - 1].mean().item() for run in runs["transformer"]]
        assert recorded(names, f"position.attention.{back}") == pytest.approx(mean(found), rel=1e-4)
        for name, some in runs.items():
            found = [error_on(run.model, (lab5.replace(inputs, back), targets)) for run in some]
            assert recorded(names, f"position.swapping.{name}.{back}") == pytest.approx(mean(found), rel=1e-5)
    assert not (inputs[:, None] == names["tests"][0.1][0]).all(dim=-1).any()


def test_the_ways_of_the_last_value_add_up():
    model, data = lab5.Transformer(2).eval(), sines(50, 6, 0.1, generator())
    found = lab5.errors_by_way(model, data)
    other = data[0].clone()
    other[:, -1] = data[0][:, -1].roll(1)
    assert found["none"] == pytest.approx(error_on(model, data))
    assert found["all"] == pytest.approx(error_on(model, (other, data[1])))
    torch.nn.init.zeros_(model.block.attention.w_o.weight)  # now nothing comes in by attention
    found = lab5.errors_by_way(model, data)
    assert found["query"] == found["key_value"] == found["none"] != found["residual"] == found["all"]


def test_hiding_masks_one_key_of_the_real_model():
    model, (inputs, targets) = lab5.Transformer(2).eval(), sines(5, 4, 0.1, generator())
    found = lab5.hidden_error(model, (inputs, targets), 3)
    x = model.embed(inputs[..., None]) + model.positions[:4]
    attended, _ = model.block.attention(x[:, -1:], x[:, [0, 2, 3]])  # without the key three steps back
    h = model.block.norm_1(x[:, -1:] + attended)
    expected = model.read_out(model.block.norm_2(h + model.block.feed_forward(h)))[:, 0, 0]
    assert found == pytest.approx((expected - targets).pow(2).mean().item(), rel=1e-5)


def test_rank_correlation():
    assert rank_correlation([1, 2, 3, 9], [0.1, 0.2, 5, 6]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3, 9], [4, 3, 2, 1]) == pytest.approx(-1)
    assert rank_correlation([1, 2, 3, 4], [2, 1, 4, 3]) == pytest.approx(0.6)  # 1 - 6 * 4 / (4 * 15)


def test_silencing_a_head_costs_something_unless_it_did_nothing(trained):
    runs, test = trained
    model = runs["transformer"][0].model
    again = silenced(model, 1)  # its head 1 does nothing any more
    factors = np.array([lab5.silenced_factors(m, test) for m in (model, again)])
    assert factors.shape == (2, 4) and factors[1, 1] == 1 and factors[0].max() > 1.5


def test_weights_by_frequency_are_weights(trained):
    model = trained[0]["transformer"][0].model
    weights = lab5.looks_by_frequency(model, 11, 0.1, generator(), 5, 7)
    assert weights.shape == (4, 5, 11)
    torch.testing.assert_close(weights.sum(-1), torch.ones(4, 5))
    assert (lab5.looks_by_frequency(ThreeBack(), 11, 0.1, generator(), 5, 7)[..., 2] == 1).all()  # counted back from the end
    f = torch.tensor([FREQUENCIES[0]] * 7 + [FREQUENCIES[1]] * 7, dtype=torch.float64)
    expected = lab5.looks(model, sines(14, 11, 0.1, generator(), f)[0])  # 7 slow ones, then 7 fast ones
    torch.testing.assert_close(lab5.looks_by_frequency(model, 11, 0.1, generator(), 2, 7)[:, 1], expected[:, 7:].mean(dim=1))


# --- recall and mistakes --------------------------------------------------------------------------------------------


def test_attention_recalls_what_an_rnn_does_not():
    rates = {"transformer": 2e-2, "rnn": 1e-2}
    found = errors_of(fit_all(lab5.networks, partial(lab5.waves, period=25), rates, [0], 200, 1000))
    assert found["transformer"][0] < 0.01 and found["rnn"][0] > 30 * found["transformer"][0]


@pytest.mark.parametrize("draw", [partial(lab5.waves, period=5), partial(sines, length=7, noise=0.0)])
def test_recall_and_mistakes_are_tested_on_new_sequences(draw, monkeypatch):
    def check(make, data, test, *_):
        assert data[0].shape == (64, *test[0].shape[1:]) and len(test[0]) == 20
        assert not (data[0][:, None] == test[0]).all(dim=-1).any()
        return Run(None, 0.0, [], 0.0)

    monkeypatch.setattr(experiments, "fit", check)
    assert fit_all(lab5.networks, draw, dict.fromkeys(lab5.networks, 0), [3], 1, 20)


def test_the_mistaken_attention_without_a_mistake_is_attention():
    right = MultiHeadAttention(10, 2)
    same = lab5.MistakenAttention(10, 2, scale=1 / math.sqrt(5))
    same.load_state_dict(right.state_dict())
    query, key = torch.randn(3, 1, 10), torch.randn(3, 7, 10)
    for a, b in zip(same(query, key), right(query, key), strict=True):
        torch.testing.assert_close(a, b)


def test_the_wrong_axis_normalises_over_the_queries():
    layer, x = lab5.MistakenAttention(10, 1, scale=0.5, axis=-2), torch.randn(3, 7, 10)
    scores = layer.w_q(x) @ layer.w_k(x).transpose(1, 2) * 0.5  # (3, query, key)
    expected = scores.exp() / scores.exp().sum(dim=1, keepdim=True)
    output, weights = layer(x[:, -1:], x)
    torch.testing.assert_close(weights[:, 0, 0], expected[:, -1])
    torch.testing.assert_close(output[:, 0], layer.w_o((expected @ layer.w_v(x))[:, -1]))


def test_mistakes_differ_from_the_correct_model_in_one_thing():
    models = {name: make() for name, make in lab5.mistaken.items()}
    assert not models["no_positions"].positions.any() and models["correct"].positions.any()
    assert models["no_scaling"].block.attention.scale == 1 and models["no_scaling"].block.attention.axis == -1
    assert models["wrong_axis"].block.attention.scale == 1 / math.sqrt(8) and models["wrong_axis"].block.attention.axis == -2


def test_a_model_without_positions_learns_far_less():
    rates = dict.fromkeys(lab5.mistaken, 1e-2)
    runs = fit_all(lab5.mistaken, partial(sines, length=20, noise=0.0), rates, [0], 150, 2000)
    error = {name: errors[0] for name, errors in errors_of(runs).items()}
    assert error["no_positions"] > 4 * error["correct"] and error["no_positions"] > 2 * error["wrong_axis"]
    inputs, _ = sines(50, 20, 0.0, generator())
    off = {name: lab5.row_sum_error(r[0].model, inputs) for name, r in runs.items()}
    assert max(off[name] for name in ("correct", "no_positions", "no_scaling")) < 1e-5 and off["wrong_axis"] > 0.1


def test_worse_from_every_start_is_each_against_every_other():
    errors = {"correct": [0.1, 0.3], "no_positions": [0.9, 0.31], "no_scaling": [0.2, 0.4], "wrong_axis": [0.05, 0.09]}
    assert lab5.worse_from_every_start(errors) == ["no_positions"]


# --- figures that have to tell the truth ----------------------------------------------------------------------------


def scores(transformer):
    return {"zero": [1.0, 1.0], "last": [0.5, 0.5], "linear": [0.1, 0.1], "rnn": [0.2, 0.3], "transformer": transformer}


def test_headlines_name_the_winner_of_that_run():
    title = figures.draw_scores({0.1: scores([0.05, 0.07])}, {0.1: 0.04}).get_suptitle()
    assert "Transformer at noise 0.1 (0.06)" in title
    title = figures.draw_scores({0.1: scores([0.5, 0.7])}, {0.1: 0.04}).get_suptitle()
    assert "least squares at noise 0.1 (0.1)" in title


def test_who_never_passes_least_squares_is_said_to_never_pass():
    losses = {"rnn": np.ones((2, 3)), "transformer": np.array([[1.0, 0.5, 0.05]] * 2)}
    title = figures.draw_learning({0.1: losses}, {0.1: 0.1}, {0.1: 0.04}).get_suptitle()
    assert "after about RNN never, Transformer 2 steps" in title.replace("\n", " ")


def test_smooth_averages_stretches():
    steps, losses = figures.smooth(np.array([[1.0, 3.0, 5.0, 7.0]]), n_stretches=2)
    assert steps.tolist() == [0.5, 2.5] and losses.tolist() == [[2.0, 6.0]]


def test_a_mistake_whose_starts_overlap_is_said_to_overlap():
    errors = {"correct": [0.1, 0.3], "no_positions": [0.9, 0.8], "no_scaling": [0.2, 0.4], "wrong_axis": [0.4, 0.5]}
    losses = {name: np.ones((2, 3)) for name in errors}
    title = figures.draw_mistakes(errors, losses, ["no_positions", "wrong_axis"], noise=0).get_suptitle().replace("\n", " ")
    assert "no scaling 1.5 (starts overlap)" in title and "no positions 4.2," in title


# --- the whole lab --------------------------------------------------------------------------------------------------

REQUIRED = {
    *(f"sine.noise_{s}.{m}.{k}" for s in ("0", "0.1") for m in SCORED for k in ("mse_mean", "mse_std")),
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
        run_script(5, tmp_path / "out", *flags)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and says in error and error.isascii()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "written", "says"),
    [
        (
            ["--heads", "8", "1", "8", "--noise", "0"],
            ["05_heads.png", "05_results.json"],
            "Noise 0, 6 steps, 20 values in, Transformer with positions",
        ),
        (
            ["--lengths", "10", "3", "--no-positions"],
            ["05_lengths.png", "05_results.json"],
            "Noise 0.1, 6 steps, 4 heads, Transformer without positions",
        ),
    ],
)
def test_several_values_are_compared_and_nothing_else_is_done(flags, written, says, tmp_path, capsys):
    run_script(5, tmp_path, *flags)
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        sorted(path.name for path in tmp_path.iterdir()) == written and says in printed and "1. The score card" not in printed
    )
    assert "Written to" in printed


def test_cells_compare_several_values_too_and_skip_the_sections(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT / "week6")
    monkeypatch.setenv("LAB_FLAGS", "--fast --lengths 3 5")
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    monkeypatch.setattr(sys, "argv", ["kernel.py"])
    names = {"__name__": "__main__"}
    exec(compile((ROOT / "week6" / "05_sequence_modeling.py").read_text(encoding="utf-8"), "cells", "exec"), names)
    printed = " ".join(capsys.readouterr().out.split())
    assert "Exercise: length of the input" in printed and "1. The score card" not in printed and "runs" not in names
    assert "In cells nothing was written" in printed


def test_two_comparisons_leave_each_other_alone(tmp_path, capsys):
    run_script(5, tmp_path, "--heads", "1", "2", "--lengths", "3", "5")
    printed = " ".join(capsys.readouterr().out.split())
    assert "20 values in, Transformer with" in printed and "4 heads, Transformer with" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["05_heads.png", "05_lengths.png", "05_results.json"]


def test_the_flags_reach_the_lab(tmp_path, capsys):
    flags = ("--heads", "1", "--lengths", "3", "--noise", "2", "0.5", "-0", "--no-positions")
    names = run_script(5, tmp_path, *flags)
    assert names["options"].noise == [0.0, 0.5, 2.0] and names["runs"][2.0]["transformer"][0].model.block.attention.n_heads == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "no Transformer has positions" in printed and "Noise 0:" in printed and "noise 2, peak" in printed
    assert "32 and n_heads 5" in printed and "With 32 features a head" in printed and len(list(tmp_path.glob("05_*.png"))) == 8
