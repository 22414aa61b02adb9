"""Lab 5: its task and its limit against references, its networks against the whole block, its measurements on models whose
answer is known, and the required findings in the committed numbers."""

import json
import math
import re
import sys
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from common import induction
from common.attention import MultiHeadAttention
from common.experiments import batches_of, error_on, errors_of, fit, fit_all, rank_correlation
from common.heads import silenced
from common.sines import AMPLITUDES, FREQUENCIES, baselines, curve_fit, least_squares, sines
from common.study import Study
from common.training import NO_TARGET
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


@pytest.mark.parametrize("filler", [0, 9])
def test_waves_ask_for_the_value_one_period_back(filler):
    p, lengths = lab5.PERIOD, set()
    for seed in range(30):
        inputs, targets = lab5.waves(3, generator(seed), filler)
        assert torch.equal(targets, inputs[:, -p]) and torch.equal(inputs[:, -1], inputs[:, -1 - p])
        lengths.add(inputs.shape[1] - p - 1)
    assert min(lengths) == 0 and max(lengths) == filler


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
    (inputs, _), (_, clean) = (sines(60, 20, noise, generator(1)) for noise in (0.1, 0.0))  # with and without noise
    best = error_on(lambda x: posterior_mean(x.numpy(), 0.1), (inputs, clean)) + 0.1**2
    assert 0.98 * best < error_on(curve_fit, (inputs, clean)) + 0.1**2 < 1.02 * best


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


def test_a_second_layer_comes_before_the_first():
    model, y = lab5.Transformer(2, depth=2), torch.randn(3, 7)
    x, _ = model.lower[0](model.embed(y[..., None]) + model.positions[:7])
    expected = model.read_out(model.block(x)[0][:, -1])[:, 0]
    torch.testing.assert_close(model(y), expected, atol=1e-12, rtol=0)


def test_an_orthogonal_start_keeps_lengths():
    layer = lab5.Recurrent(orthogonal=True).layer
    torch.testing.assert_close(layer.weight_hh_l0 @ layer.weight_hh_l0.T, torch.eye(64), atol=1e-12, rtol=0)
    assert not layer.bias_hh_l0.any() and not layer.bias_ih_l0.any() and lab5.Recurrent().layer.bias_hh_l0.any()


def test_fit_sees_each_sequence_once_and_depends_on_the_seed_alone():
    seen = []

    class Recorder(lab5.Recurrent):
        def forward(self, y):
            seen.append(y)
            return super().forward(y)

    data, test = sines(96, 5, 0.0, generator()), sines(3, 5, 0.0, generator(1))
    batches = batches_of(data, 32)
    run = fit(Recorder, batches, test, 1e-2, 7)
    assert torch.equal(torch.cat(seen[:3]), data[0]) and torch.equal(seen[3], test[0]) and len(run.losses) == 3
    assert run.error == pytest.approx(error_on(run.model, test))
    torch.rand(5)
    assert fit(Recorder, batches, test, 1e-2, 7).error == run.error
    assert fit(Recorder, batches, test, 1e-2, 8).error != run.error
    assert fit(Recorder, batches, test, 2e-2, 7).error != run.error


def test_all_networks_get_the_same_data_and_their_own_rate():
    same = {"a": lab5.Recurrent, "b": lab5.Recurrent}
    batches, test = batches_of(sines(64, 5, 0.1, generator()), 32), sines(10, 5, 0.1, generator(1))
    found = errors_of(fit_all(same, batches, test, {"a": 1e-2, "b": 1e-2}, 3))
    assert found["a"] == found["b"]
    slow = errors_of(fit_all(same, batches, test, {"a": 1e-2, "b": 1e-3}, 3))
    assert slow["a"] == found["a"] != slow["b"]


@pytest.fixture(scope="module")
def trained():
    """Both networks after a short training without noise, and the test data."""
    test = sines(500, 20, 0.0, generator(9))
    batches = batches_of(sines(250 * 64, 20, 0.0, generator(1)), 64)
    return fit_all(lab5.networks, batches, test, dict.fromkeys(lab5.networks, 1e-2), 1), test


def test_networks_learn_the_sine_and_a_linear_formula_is_better_without_noise(trained):
    runs, test = trained
    error = baselines(sines(250 * 64, 20, 0.0, generator(1)), test) | errors_of(runs)
    assert error["zero"] > error["last"] > 0.1 > 0.03 > max(error["rnn"], error["transformer"]) > 1e-5
    assert error_on(curve_fit, test) < error["linear"] < 1e-7


def test_baselines_by_hand():
    ramp = torch.arange(8.0)
    data = torch.stack([ramp[i : i + 3] for i in range(5)]), ramp[3:]  # the next value: 2 y(t) - y(t-1)
    test = torch.tensor([[1.0, 2.0, 4.0], [0.0, 5.0, 5.0]]), torch.tensor([6.0, 4.0])
    found = baselines(data, test)
    assert found["zero"] == pytest.approx((36 + 16) / 2) and found["last"] == pytest.approx((4 + 1) / 2)
    weights = least_squares(*data).tolist()
    expected = [sum(w * y for w, y in zip(weights, row, strict=True)) for row in test[0].tolist()]
    assert found["linear"] == pytest.approx(((expected[0] - 6) ** 2 + (expected[1] - 4) ** 2) / 2)
    assert baselines(data, data)["linear"] < 1e-10


def test_noise_takes_the_linear_formula_far_from_the_limit():
    test = sines(2000, 20, 0.1, generator(9))
    found = baselines(sines(20_000, 20, 0.1, generator(1)), test)
    assert 2 * error_on(curve_fit, test) < found["linear"] < 0.5 * found["last"]


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What a run of the script leaves: its top-level names."""
    return run_script(5, tmp_path_factory.mktemp("run"))


def recorded(names, key):
    return names["lab"]._results.values[key]["value"]


def test_the_limit_and_the_excess_by_hand(names):
    (inputs, targets), (_, clean) = names["tests"][0.1], names["tests"][0.0]
    assert (targets - clean).std().item() == pytest.approx(0.1, rel=0.15)  # the same sines, with and without noise
    limit = (curve_fit(inputs) - targets).pow(2).mean().item()
    assert recorded(names, "sine.noise_0.1.limit") == pytest.approx(limit, rel=1e-4)
    excess = recorded(names, "sine.noise_0.1.excess.limit")
    assert excess == pytest.approx((curve_fit(inputs) - clean).pow(2).mean().item(), rel=1e-4) and excess < 0.5 * limit
    for name in ("rnn", "transformer"):
        with torch.no_grad():
            found = (names["runs"][0.1][name].model(inputs) - clean).pow(2).mean().item()
        assert recorded(names, f"sine.noise_0.1.excess.{name}") == pytest.approx(found, rel=1e-4)
        assert recorded(names, f"sine.noise_0.1.times_limit.{name}") == pytest.approx(found / excess, rel=1e-4)


def test_the_card_holds_the_error_of_every_method(names):
    for noise, test in names["tests"].items():
        two_layers = ["rnn_2", "transformer_2"] if noise else []
        assert list(names["card"][noise]) == [*SCORED, *two_layers, "limit"]
        for name, run in names["runs"][noise].items():
            assert recorded(names, f"sine.noise_{noise:g}.{name}.mse") == pytest.approx(error_on(run.model, test), rel=1e-5)


def test_the_open_training_is_what_fit_does(names):
    test, batches = names["tests"][0.1], names["short_batches"]
    run = fit(lab5.Recurrent, batches, test, lab5.RATES["short"]["rnn"], names["lab"].seed("sine"))
    assert error_on(names["rnn"], test) == pytest.approx(run.error, rel=1e-5)
    torch.testing.assert_close(list(run.model.parameters()), list(names["rnn"].parameters()))


def test_the_later_records_are_what_the_models_do(names):
    model, data, content = names["runs"][0.1]["transformer"].model, names["data"], names["content"]
    factors, layers = lab5.silenced_factors(model, data), content["layers_2"].model
    previous = torch.ones(induction.LENGTH, induction.LENGTH, dtype=torch.bool)
    previous[range(1, induction.LENGTH), range(induction.LENGTH - 1)] = False
    expected = {
        "position.base": error_on(model, data),
        "heads.silenced.min": min(factors),
        "heads.silenced.max": max(factors),
        "recall.fixed_place.transformer.mse": names["fixed"]["transformer"].error,
        "induction.unseen": induction.accuracy(layers, names["longer"]),
        "induction.gru_unseen": induction.accuracy(content["gru"].model, names["longer"]),
        "induction.hidden.1": induction.accuracy(partial(layers, first=previous), names["seen"]),
    }
    tokens, *answers = induction.there_and_back(200, 7, names["lab"].generator("there and back"))
    for name, run in content.items():
        for rule, answer in zip(("followed", "oldest"), answers, strict=True):
            expected[f"induction.reversed.{name}.{rule}"] = induction.accuracy(run.model, (tokens, answer))
    for name, run in names["recall_runs"].items():
        errors = [error_on(run.model, test) for test in names["wave_tests"]]
        expected[f"recall.period_25.{name}.mse"] = sum(errors) / 10
    expected |= {f"mistakes.{name}.mse": run.error for name, run in names["mistake_runs"].items()}
    for (name, rate), difference in names["apart"].items():
        expected[f"sensitivity.{name}.lr_{rate:g}"] = difference[-20:].max()
    assert {key: recorded(names, key) for key in expected} == pytest.approx(expected, rel=1e-5)


def test_no_positions_reaches_the_networks_of_sections_1_to_3(names, tmp_path):
    def positions(names):
        runs = [names["runs"][0.1]["transformer"], names["recall_runs"]["transformer"], names["fixed"]["transformer"]]
        return [bool(run.model.positions.any()) for run in runs]

    assert all(positions(names)) and not any(positions(run_script(5, tmp_path, "--no-positions")))


def test_the_search_tries_both_sides_of_every_rate_and_nothing_else_is_done(tmp_path, capsys):
    run_script(5, tmp_path, "--search")
    printed = capsys.readouterr().out
    assert "1. The score card" not in printed and printed.count("x 1/4") == len(lab5.RATES)
    assert sum(f"  {rate:g}  " in printed for rates in lab5.RATES.values() for rate in rates.values()) == sum(
        len(rates) for rates in lab5.RATES.values()
    )


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
    inputs = torch.randn(200, 11, generator=generator())
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
    (inputs, targets), model = names["data"], names["runs"][0.1]["transformer"].model
    for back in (1, 5, 20):
        found = lab5.hidden_error(model, (inputs, targets), back)
        assert recorded(names, f"position.hiding.{back}") == pytest.approx(found, rel=1e-5)
        found = lab5.looks(model, inputs)[..., back - 1].mean().item()
        assert recorded(names, f"position.attention.{back}") == pytest.approx(found, rel=1e-4)
        found = error_on(model, (lab5.replace(inputs, back), targets))
        assert recorded(names, f"position.replacing.{back}") == pytest.approx(found, rel=1e-5)
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
    model = runs["transformer"].model
    again = silenced(model, 1)  # its head 1 does nothing any more
    factors = np.array([lab5.silenced_factors(m, test) for m in (model, again)])
    assert factors.shape == (2, 4) and factors[1, 1] == 1 and factors[0].max() > 1.5


def test_weights_by_frequency_are_weights(trained):
    model = trained[0]["transformer"].model
    weights = lab5.looks_by_frequency(model, 11, 0.1, generator(), 5, 7)
    assert weights.shape == (4, 5, 11)
    torch.testing.assert_close(weights.sum(-1), torch.ones(4, 5))
    assert (lab5.looks_by_frequency(ThreeBack(), 11, 0.1, generator(), 5, 7)[..., 2] == 1).all()  # counted back from the end
    f = torch.tensor([FREQUENCIES[0]] * 7 + [FREQUENCIES[1]] * 7, dtype=torch.float64)
    expected = lab5.looks(model, sines(14, 11, 0.1, generator(), f)[0])  # 7 slow ones, then 7 fast ones
    torch.testing.assert_close(lab5.looks_by_frequency(model, 11, 0.1, generator(), 2, 7)[:, 1], expected[:, 7:].mean(dim=1))


# --- recall -----------------------------------------------------------------------------------------------------------


def test_repeating_tokens_repeat_and_only_what_is_known_is_asked():
    inputs, targets = induction.repeating(200, (4, 9), generator())
    for row, asked in zip(inputs.tolist(), targets.tolist(), strict=True):
        period = row.index(row[0], 1)
        assert 4 <= period <= 9 and len(set(row[:period])) == period
        assert all(row[t] == row[t % period] for t in range(induction.LENGTH))
        assert asked == [NO_TARGET] * period + [row[(t + 1) % period] for t in range(period, induction.LENGTH)]
    longest = max(row.index(row[0], 1) for row in induction.repeating(200, induction.LONGER, generator())[0].tolist())
    assert longest == induction.LONGER[1] > induction.PERIODS[1]


def test_accuracy_and_loss_count_known_tokens_only():
    inputs, targets = induction.repeating(50, (4, 9), generator())
    right = torch.nn.functional.one_hot(targets.clamp(min=0), induction.N_TOKENS).double()
    assert induction.accuracy(lambda _: right, (inputs, targets)) == 1
    assert induction.accuracy(lambda _: right.roll(1, dims=-1), (inputs, targets)) == 0
    assert induction.token_loss(100 * right, targets).item() == pytest.approx(0, abs=1e-12)


def test_attention_layers_see_no_future_and_a_mask_reaches_the_first_alone():
    model, tokens = induction.Attentions(2), torch.randint(16, (3, 11))
    later = tokens.clone()
    later[:, 6:] = (tokens[:, 6:] + 1) % 16
    torch.testing.assert_close(model(tokens)[:, :6], model(later)[:, :6])
    hide_previous = ~torch.eye(11, dtype=torch.bool).roll(-1, dims=1)
    _, (first, second) = model.look(tokens, hide_previous)
    assert not first[:, 0].diagonal(-1, dim1=1, dim2=2).any() and second[:, 0].diagonal(-1, dim1=1, dim2=2).all()
    _, (first, second) = model.look(tokens, torch.zeros(11, 11, dtype=torch.bool))
    assert not first.any() and second.any()


def test_on_the_way_back_two_rules_give_different_answers():
    tokens, followed, oldest = induction.there_and_back(3, 4, generator())
    a, b, c, d = tokens[:, :4].T
    assert all(len(set(row)) == 4 for row in tokens[:, :4].tolist())
    assert torch.equal(tokens, torch.stack([a, b, c, d, c, b, a], dim=1))
    assert torch.equal(followed[:, 4:], torch.stack([d, c, b], dim=1))  # c, b and a were followed by these before
    assert torch.equal(oldest[:, 4:], torch.stack([a, a, d], dim=1))
    assert (followed[:, :4] == induction.NO_TARGET).all() and (oldest[:, :4] == induction.NO_TARGET).all()


def test_two_layers_recall_by_content_and_one_does_not():
    g = generator(3)
    batches = [induction.repeating(64, induction.PERIODS, g) for _ in range(200)]
    seen, longer = (induction.repeating(500, periods, g) for periods in (induction.PERIODS, induction.LONGER))
    runs = fit_all(
        {name: lab5.content_networks[name] for name in ("layers_1", "layers_2")},
        batches,
        seen,
        lab5.RATES["content"],
        3,
        induction.token_loss,
    )
    one, two = runs["layers_1"].model, runs["layers_2"].model
    assert induction.accuracy(one, seen) < 0.6 and induction.accuracy(two, seen) > 0.9 < induction.accuracy(two, longer)
    silent = partial(two, first=torch.zeros(induction.LENGTH, induction.LENGTH, dtype=torch.bool))
    assert induction.accuracy(silent, seen) < 0.6


# --- mistakes and digits ------------------------------------------------------------------------------------------------


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


def test_without_scaling_64_features_are_trained_at_the_rate_of_the_correct_model_too(names):
    lab, rates = names["lab"], lab5.RATES["mistakes"]
    batches, test = lab5.sine_batches(0.0, 4, 64, lab.generator("mistakes")), sines(200, 20, 0.0, lab.generator("tests"))
    for name, rate in (("no_scaling_64", rates["no_scaling_64"]), ("same_rate_64", rates["correct_64"])):
        run = fit(lab5.mistaken["no_scaling_64"], batches, test, rate, lab.seed("mistakes"))
        assert recorded(names, f"mistakes.{name}.mse") == pytest.approx(run.error, rel=1e-5)
    assert rates["no_scaling_64"] < rates["correct_64"]


def test_mistakes_differ_from_the_correct_model_in_one_thing():
    models = {name: make() for name, make in lab5.mistaken.items()}
    attention = {name: model.block.attention for name, model in models.items()}
    assert not models["no_positions"].positions.any() and models["correct"].positions.any()
    assert attention["no_scaling"].scale == 1 and attention["no_scaling"].axis == -1
    assert attention["wrong_axis"].scale == 1 / math.sqrt(8) and attention["wrong_axis"].axis == -2
    assert attention["correct_64"].scale == 1 / 8 and attention["no_scaling_64"].scale == 1
    assert all(attention[name].w_q.out_features == 4 * 64 for name in ("correct_64", "no_scaling_64"))


def test_a_model_without_positions_learns_far_less():
    batches, test = batches_of(sines(150 * 64, 20, 0.0, generator()), 64), sines(2000, 20, 0.0, generator(1))
    made = {name: lab5.mistaken[name] for name in ("correct", "no_positions", "wrong_axis")}
    runs = fit_all(made, batches, test, dict.fromkeys(made, 1e-2), 0)
    error = errors_of(runs)
    assert error["no_positions"] > 4 * error["correct"] and error["no_positions"] > 2 * error["wrong_axis"]
    inputs, _ = sines(50, 20, 0.0, generator())
    off = {name: lab5.row_sum_error(run.model, inputs) for name, run in runs.items()}
    assert max(off["correct"], off["no_positions"]) < 1e-12 and off["wrong_axis"] > 0.1


def test_a_nudge_changes_one_weight_by_a_trace():
    torch.manual_seed(3)
    one = torch.cat([p.flatten() for p in lab5.Recurrent().parameters()])
    torch.manual_seed(3)
    two = torch.cat([p.flatten() for p in lab5.nudged(lab5.Recurrent).parameters()])
    changed = (one != two).nonzero().flatten()
    assert len(changed) == 1 and (two / one - 1).abs().max().item() == pytest.approx(1e-12, rel=0.01)


# --- figures that have to tell the truth ----------------------------------------------------------------------------


NO_STUDY = Study(0)


def card(transformer):
    return {"zero": 1.0, "last": 0.5, "linear": 0.1, "rnn": 0.2, "transformer": transformer, "limit": 0.04}


class FakeStudy:
    """Three starts; the RNN is ahead of the Transformer in one of them, with two layers in all."""

    n = 3

    def values(self, key):
        found = {
            "sine.noise_0.1.rnn.mse": (0.2, 0.3, 0.4),
            "sine.noise_0.1.transformer.mse": (0.25, 0.25, 0.25),
            "sine.noise_0.1.rnn_2.mse": (0.1, 0.1, 0.1),
            "sine.noise_0.1.transformer_2.mse": (0.2, 0.3, 0.2),
            "mistakes.correct.mse": (0.1, 0.2, 0.3),
            "mistakes.no_scaling.mse": (0.2, 0.1, 0.1),
            "mistakes.correct_64.mse": (0.1, 0.1, 0.3),
            "mistakes.no_scaling_64.mse": (0.2, 0.2, 0.1),
        }
        return found.get(key, ())

    def count(self, *keys, where):
        return sum(where(*row) for row in zip(*map(self.values, keys), strict=True))


def title_of(fig):
    return fig.get_suptitle().replace("\n", " ")


def test_the_score_card_counts_the_starts():
    title = title_of(figures.draw_scores({0.1: card(0.05)}, 0.1, NO_STUDY))
    assert "RNN's error is 0.2, that of one Transformer layer 0.05" in title
    title = title_of(figures.draw_scores({0.1: card(0.05)}, 0.1, FakeStudy()))
    assert "in 1 of 3 random starts with one layer each, in 3 with two layers each" in title


def test_a_dot_for_each_start_of_the_study():
    fig = figures.draw_scores({0.1: card(0.05) | {"rnn_2": 0.1, "transformer_2": 0.2}}, 0.1, FakeStudy())
    for ax in fig.axes:  # all methods, and the networks enlarged
        small = [line for line in ax.lines if line.get_markersize() == 3 and len(line.get_xdata()) == 3]
        assert len(small) == 4


def test_networks_and_limit_are_shown_enlarged_where_there_is_noise():
    scores = {0.0: card(0.05), 0.1: card(0.05)}
    *_, enlarged = figures.draw_scores(scores, 0.1, NO_STUDY).axes
    assert [label.get_text() for label in enlarged.get_yticklabels()] == ["RNN", "Transformer", "limit: fitted sine"]
    assert enlarged.get_xscale() == "linear"
    assert len(figures.draw_scores({0.0: card(0.05)}, 0.0, NO_STUDY).axes) == 1


def test_a_row_shows_its_name_and_its_number():
    ax = figures.draw_scores({0.1: card(0.05)}, 0.1, FakeStudy()).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == [figures.LABELS[name] for name in card(0.05)]
    assert [text.get_text() for text in ax.texts] == ["1", "0.5", "0.1", "0.2", "0.05", "0.04"]
    assert [line.get_xdata()[0] for line in ax.lines if line.get_markersize() == 12] == list(card(0.05).values())


def test_the_mistakes_are_compared_at_both_sizes():
    errors = dict(zip(figures.MISTAKES, (0.1, 0.9, 0.2, 0.4, 0.1, 0.5, 0.6), strict=True))
    title = title_of(figures.draw_mistakes(errors, 10, 8, NO_STUDY))
    assert "by 2 with 8 features a head, by 5 with 64" in title
    title = title_of(figures.draw_mistakes(errors, 10, 8, FakeStudy()))
    assert "worse in 1 of 3 random starts with 8 features a head, in 2 with 64" in title


def numbers_in(fig):
    """The numbers of a figure's title, in order."""
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?(?:e[-+]\d+)?", title_of(fig))]


def test_the_samples_say_by_how_much_each_network_misses_the_curve():
    predictions = {"rnn": torch.full((6,), 0.3), "transformer": torch.full((6,), 0.7), "limit": torch.zeros(6)}
    fig = figures.draw_samples(torch.zeros(6, 5), (torch.zeros(6, 5), torch.zeros(6)), predictions, 0.2)
    assert numbers_in(fig) == [0.2, 0.3, 0.7]
    assert "all for step 5, drawn side by side" in fig.axes[3].get_xlabel()


def test_the_patterns_name_the_heads_that_look_nearest_and_furthest():
    weights = torch.zeros(3, 4, 7)
    for head, back in enumerate((3, 6, 2)):
        weights[head, :, back - 1] = 1
    assert numbers_in(figures.draw_patterns(weights, FREQUENCIES, 5)) == [2, 2, 6, 1]


def test_the_heads_say_what_the_least_and_the_most_needed_cost():
    assert numbers_in(figures.draw_heads(torch.full((2, 5, 7), 1 / 7), [3.0, 1.5], NO_STUDY)) == [1.5, 3]


def test_the_positions_name_the_value_that_costs_most_when_it_is_replaced():
    fig = figures.draw_positions([0.5, 0.125, 0.375], [9.0, 1.0, 1.0], [1.0, 3.0, 2.0], 0.5, NO_STUDY)
    assert numbers_in(fig) == [2, 6, 0.125]


def test_recall_by_content_is_that_of_two_layers_and_of_one():
    content = dict.fromkeys(figures.CONTENT, 0.5) | {"1.accuracy": 0.25, "2.accuracy": 0.75}
    recalled = {name: {"mse": 0.5} for name in lab5.recall_networks}
    fig = figures.draw_recall(recalled, 0.1, content, torch.eye(5), torch.arange(5), 25, NO_STUDY)
    assert numbers_in(fig) == [0.75, 0.25]
    assert max(fig.axes[1].get_xticks()) == 1  # a share


def test_the_sensitivity_is_that_of_the_network_that_drifts_furthest():
    ends = {"rnn": (1e-14, 1e-13, 1e-12), "transformer": (1e-9, 1e-6, 1e-2)}
    rates = (0.002, 0.008, 0.03)
    apart = {(n, rate): np.full(40, end) for n, by_rate in ends.items() for rate, end in zip(rates, by_rate, strict=True)}
    fig = figures.draw_sensitivity(apart, 1e-12, NO_STUDY)
    assert numbers_in(fig) == [1e-12, 40, 1e-9, 0.002, 1e-2, 0.03] and "Transformer" in title_of(fig)


def test_a_comparison_names_the_smallest_error():
    errors = {n: {"rnn": {"mse": 0.5}, "transformer": {"mse": error}} for n, error in ((1, 0.25), (2, 0.125), (4, 0.75))}
    fig = figures.draw_comparison(errors, {n: {"rnn": 1.0, "transformer": 2.0} for n in errors}, "number of heads", "briefly")
    assert numbers_in(fig) == [2, 0.125] and "Transformer" in title_of(fig)


# --- the whole lab --------------------------------------------------------------------------------------------------

REQUIRED = {
    *(f"sine.noise_{s}.{m}.mse" for s in ("0", "0.1") for m in SCORED),
    *(f"sine.noise_{s}.limit" for s in ("0", "0.1")),
    *(f"recall.period_25.{m}.mse" for m in ("transformer", "rnn", "orthogonal", "gru")),
    *(f"induction.{key}" for key in ("1.accuracy", "2.accuracy", "unseen", "silenced", "gru")),
    *(f"induction.reversed.{m}.{rule}" for m in lab5.content_networks for rule in ("followed", "oldest")),
    *(f"mistakes.{name}.mse" for name in ("correct", "no_positions", "no_scaling", "wrong_axis", "same_rate_64")),
    *(f"position.{kind}.{lag}" for kind in ("attention", "hiding") for lag in lab5.SHOWN),
    *(f"sensitivity.{m}.lr_{lr:g}" for m in ("rnn", "transformer") for lr in lab5.NUDGED_RATES),
    *(f"parameters.{m}" for m in ("transformer", "transformer_2", "rnn", "rnn_2", "gru")),
    *(f"sine.noise_0.1.{m}.mse" for m in ("rnn_2", "transformer_2")),
}


def test_required_records_and_a_printed_finding(fast_runs):
    run = fast_runs["05", "ascii"]
    results = json.loads((run.out / "05_results.json").read_text())["results"]
    assert set(results) >= REQUIRED
    assert results["parameters.transformer"]["value"] == 12801 and results["parameters.rnn"]["value"] == 4353
    rows = [line.split() for line in run.process.stdout.decode("ascii").splitlines()]
    times = f"{results['sine.noise_0.1.times_limit.rnn']['value']:.1f}"
    assert any(row[:1] == ["RNN"] and row[-1] == times for row in rows)


def test_the_study_reaches_what_the_course_says():
    study = Study(5)
    assert study.n >= 24
    for name in ("rnn", "transformer"):
        assert study.median(f"sine.noise_0.{name}.mse") < 1e-3
        assert study.median(f"sine.noise_0.1.{name}.mse") < 1.5 * study.median("sine.noise_0.1.limit")
        assert study.median("sine.noise_0.linear.mse") < 1e-3 * study.median(f"sine.noise_0.{name}.mse")
    assert study.median("mistakes.no_positions.mse") > 10 * study.median("mistakes.correct.mse")
    assert study.median("induction.2.accuracy") > 0.9 > 0.6 > study.median("induction.1.accuracy")
    assert study.median("induction.silenced") < 0.5
    assert study.median("induction.reversed.layers_2.followed") > 0.9 > 0.1 > study.median("induction.reversed.gru.followed")


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
            ["05_heads.png", "05_results.json", "05_seconds.json"],
            "Noise 0, 6 steps, 20 values in, Transformer with positions",
        ),
        (
            ["--lengths", "10", "3", "--no-positions"],
            ["05_lengths.png", "05_results.json", "05_seconds.json"],
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


def test_cells_compare_several_values_too_and_skip_the_sections(capsys, monkeypatch):
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
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "05_heads.png",
        "05_lengths.png",
        "05_results.json",
        "05_seconds.json",
    ]


def test_the_flags_reach_the_lab(tmp_path, capsys):
    flags = ("--heads", "1", "--lengths", "3", "--noise", "2", "0.5", "-0", "--no-positions")
    names = run_script(5, tmp_path, *flags)
    assert names["options"].noise == [0.0, 0.5, 2.0] and names["runs"][2.0]["transformer"].model.block.attention.n_heads == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        "no Transformer has positions" in printed
        and "noise 0 noise 0.5 noise 2" in printed
        and "64 series, noise 2:" in printed
    )
    assert "32 and n_heads 5" in printed and len(list(tmp_path.glob("05_*.png"))) == 8
