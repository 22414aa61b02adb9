"""Lab 5: the models, the limit and the interventions on cases whose answers are known; the targets on the committed run."""

import json

import numpy as np
import pytest
import torch

from conftest import ROOT, load, make_lab

lab5 = load(5)


def value(key):
    """A finding of the committed run."""
    results = json.loads((ROOT / "week6" / "outputs" / "05_results.json").read_text(encoding="ascii"))["results"]
    return results[key]["value"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_sines_are_sines_and_the_target_is_the_next_value():
    x, y = lab5.sines(50, 20, 0.0, generator())
    series = torch.cat([x, y[:, None]], dim=1).double()  # y[t+1] + y[t-1] = 2 cos(f) y[t]
    middle, sides = series[:, 1:-1], series[:, 2:] + series[:, :-2]
    factor = (middle * sides).sum(dim=1) / middle.square().sum(dim=1)
    torch.testing.assert_close(sides, factor[:, None] * middle, rtol=0, atol=1e-4)
    assert factor.std() > 0.1
    noisy = lab5.sines(2000, 20, 0.1, generator())
    clean = lab5.sines(2000, 20, 0.0, generator())
    assert (noisy[0] - clean[0]).std().item() == pytest.approx(0.1, rel=0.05)


def test_the_curve_fit_finds_a_clean_sine_and_beats_least_squares_on_a_noisy_one():
    clean, noisy = (lab5.sines(400, 20, noise, generator(1)) for noise in (0.0, 0.1))
    assert lab5.mse(lab5.curve_fit, clean) < 1e-8
    weights = lab5.least_squares(*lab5.sines(5000, 20, 0.1, generator(2)))
    linear = lab5.mse(lambda x: x.double() @ weights, noisy)
    assert 0.01 < lab5.mse(lab5.curve_fit, noisy) < 0.02 < linear


def test_least_squares_recovers_a_linear_rule():
    x, rule = torch.randn(100, 5), torch.tensor([0.0, 1.0, 0.0, -2.0, 0.5])
    torch.testing.assert_close(lab5.least_squares(x, x @ rule), rule.double(), rtol=0, atol=1e-5)


def test_computing_the_last_query_alone_changes_nothing():
    model, y = lab5.Transformer().double(), torch.randn(3, 20, dtype=torch.float64)
    prediction, weights = model.look(y)
    full, full_weights = model.block(model.embed(y[..., None]) + model.positions[:20])
    torch.testing.assert_close(prediction, model.read_out(full[:, -1])[:, 0], rtol=0, atol=1e-10)
    torch.testing.assert_close(weights, full_weights[:, :, -1], rtol=0, atol=1e-10)


def test_without_positions_the_order_of_the_earlier_values_does_not_count():
    y = torch.randn(2, 20)
    shuffled = torch.cat([y[:, :19].flip(1), y[:, 19:]], dim=1)
    blind, sighted = lab5.Transformer(positions=False), lab5.Transformer()
    torch.testing.assert_close(blind(y), blind(shuffled), rtol=0, atol=1e-5)
    assert (sighted(y) - sighted(shuffled)).abs().max() > 1e-3


def test_a_wave_repeats_its_second_value_one_period_later():
    inputs, targets = lab5.waves(7, 5, generator())
    assert inputs.shape == (7, 6)
    assert (inputs[:, 0] == inputs[:, 5]).all() and (targets == inputs[:, 6 - 5]).all()


def test_rank_correlation_by_hand():
    assert lab5.rank_correlation([1, 2, 9], [10, 20, 21]) == pytest.approx(1)
    assert lab5.rank_correlation([1, 2, 9], [3, 2, 1]) == pytest.approx(-1)


def test_hiding_and_swapping_reach_the_position_that_they_name():
    class LastButOne(torch.nn.Module):
        """Predicts the value two steps back, and looks at it, unless it is hidden."""

        def look(self, y, mask=None):
            visible = 1.0 if mask is None else float(mask[0, 0, -2])
            weights = torch.zeros(len(y), 4, y.shape[1])
            weights[..., -2] = 1
            return visible * y[:, -2], weights

        def forward(self, y):
            return self.look(y)[0]

    inputs = torch.randn(500, 6)
    run = lab5.Run(LastButOne(), 0.0, [], 0.0)
    found = lab5.measure_positions({"transformer": [run]}, (inputs, inputs[:, -2]))
    assert found["base"]["transformer"].item() == 0
    for damage in (found["hiding"], found["swapping"]["transformer"]):
        assert damage[0, 1] > 0.5 and (np.delete(damage[0], 1) == 0).all()
    assert (found["weights"].mean(dim=2)[0, :, 1] == 1).all()


def test_both_networks_learn_and_positions_are_needed():
    sines = lambda g: (lab5.sines(120 * 64, 20, 0.0, g), lab5.sines(500, 20, 0.0, g))  # noqa: E731
    networks = {**lab5.makers(), "blind": lambda: lab5.Transformer(positions=False)}
    found = lab5.fit_all(networks, sines, 64, dict.fromkeys(networks, 5e-3), [0])
    rnn, transformer, blind = (found[name][0].mse for name in ("rnn", "transformer", "blind"))
    assert rnn < 0.05 and transformer < 0.08 and blind > 2 * transformer


def test_the_wrong_axis_shows_in_the_row_sums_and_wrong_heads_in_an_error():
    makers, inputs = lab5.mistaken_makers(), torch.randn(9, 20)
    assert lab5.row_sum(makers["correct"](), inputs) == pytest.approx(1, abs=1e-5)
    assert abs(lab5.row_sum(makers["wrong_axis"](), inputs) - 1) > 0.01
    assert "n_heads must divide d_model" in lab5.wrong_head_count()


def test_the_mistaken_attention_without_a_mistake_is_attention():
    ours = lab5.Transformer()
    mistaken = lab5.Transformer(attention=lab5.MistakenAttention(32, 4, scale=8**-0.5))
    mistaken.load_state_dict(ours.state_dict())
    y = torch.randn(3, 20)
    torch.testing.assert_close(mistaken(y), ours(y), rtol=0, atol=1e-5)


def test_the_committed_run_reaches_the_targets():
    for name in ("rnn", "transformer"):
        assert value(f"sine.noise_0.{name}.mse_mean") < 1e-3
        assert value(f"sine.noise_0.1.{name}.mse_mean") < 1.5 * value("sine.noise_0.1.limit")
    assert value("sine.noise_0.linear.mse_mean") < 1e-6 < value("sine.noise_0.rnn.mse_mean")
    assert value("sine.noise_0.1.linear.mse_mean") > 2 * value("sine.noise_0.1.rnn.mse_mean")
    assert value("recall.period_25.rnn.mse") > 100 * value("recall.period_25.transformer.mse")
    assert value("mistakes.no_positions.mse") > 10 * value("mistakes.correct.mse")


def test_required_records(fast_runs):
    results = json.loads((fast_runs["05", "ascii"].out / "05_results.json").read_text())["results"]
    required = {f"position.{what}.{lag}" for what in ("attention", "hiding") for lag in (1, 20)}
    required |= {f"recall.period_{p}.{name}.mse" for p in lab5.PERIODS for name in ("transformer", "rnn", "gru")}
    required |= {f"mistakes.{name}.mse" for name in ("correct", "no_positions", "no_scaling", "wrong_axis")}
    for noise in ("0", "0.1"):
        required |= {f"sine.noise_{noise}.limit"}
        required |= {f"sine.noise_{noise}.{n}.mse_{s}" for n in ("rnn", "transformer") for s in ("mean", "std")}
    assert set(results) >= required | {"parameters.rnn", "parameters.transformer"}


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--heads", "5"], "'5' does not divide the width 32; allowed: 1, 2, 4, 8, 16, 32"),
        (["--heads", "1", "3"], "'3' does not divide"),
        (["--lengths", "2"], "from 3 to 100"),
        (["--noise", "-0.1"], "from 0 to 10"),
        (["--noise", "nan"], "from 0 to 10"),
    ],
)
def test_a_mistake_is_one_line(flags, says, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        make_lab(lab5, tmp_path / "out", *flags)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and says in error and not (tmp_path / "out").exists()


@pytest.mark.parametrize("flags", [("--heads", "1", "2"), ("--lengths", "5", "9")])
def test_several_values_print_a_table_and_draw_the_comparison(flags, tmp_path, capsys):
    lab5.main(make_lab(lab5, tmp_path, *flags))
    assert len(list(tmp_path.glob("*.png"))) == 1
    printed = capsys.readouterr().out
    assert all(n in printed for n in flags[1:])
