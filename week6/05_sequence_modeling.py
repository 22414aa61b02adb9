# %% [markdown]
# # Lab 5: sequence modelling
# A Transformer and an RNN continue a series. Which is better, and compared with what? Both are trained here, from several
# random starts, on the same data. You will see
# 1. a noisy sine, 20 steps in and the next one out, beside baselines and the best that fitting the curve can reach;
# 2. what the trained heads look at, and whether that is what the prediction needs;
# 3. recall: the next value stands P steps back, and attention gets there in one look;
# 4. four classic mistakes, trained beside the right model.

# %%
"""Lab 5 - Sequence modelling: a Transformer and an RNN continue a series. Which is better, and compared with what?

Run it:      python 05_sequence_modeling.py
Then try:    python 05_sequence_modeling.py --out trial --heads 1 2 4 8       (several values: only that comparison)
             python 05_sequence_modeling.py --out trial --lengths 10 20 50 100
             python 05_sequence_modeling.py --out trial --no-positions       (sections 1 to 3 without positions)
             python 05_sequence_modeling.py --out trial --noise 0.3
It writes:   05_sample_sequences, 05_performance_comparison, 05_learning_curves, 05_attention_patterns,
             05_multihead_analysis, 05_position_importance, 05_recall, 05_common_mistakes and 05_results.json;
             a comparison writes 05_heads or 05_lengths instead
"""

import sys
from pathlib import Path

# common/ stands beside this folder. A notebook has no __file__; it starts in this folder.
sys.path.insert(0, str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))
from common.command_line import Ordered, Parser, divisor_of, noise_level, whole_number
from common.lab import Lab

D_MODEL, MAX_LENGTH = 32, 100
VARIED = {"heads": "number of heads", "lengths": "length of the input"}  # flags that take several values
DEFAULTS = {"heads": 4, "lengths": 20}


def add_arguments(parser: Parser) -> None:
    for flag, kind in (("heads", divisor_of(D_MODEL)), ("lengths", whole_number(3, MAX_LENGTH))):
        text = f"{VARIED[flag]}, default: {DEFAULTS[flag]}; several values: only their comparison"
        parser.add_argument(f"--{flag}", type=kind, nargs="+", action=Ordered, default=[DEFAULTS[flag]], metavar="N", help=text)
    text = "standard deviation of the noise, one or several; default: 0 0.1"
    parser.add_argument("--noise", type=noise_level, nargs="+", action=Ordered, default=[0.0, 0.1], metavar="S", help=text)
    parser.add_argument("--no-positions", action="store_true", help="give no Transformer a positional encoding")


lab = Lab(5, globals(), add_arguments)
options = lab.options
several = {flag: values for flag, values in (("heads", options.heads), ("lengths", options.lengths)) if len(values) > 1}
lab.only = "Exercise" if several else ""  # how the titles of the sections that run begin

# %%
import math
from functools import partial
from statistics import mean, stdev

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.attention import MultiHeadAttention
from common.experiments import Data, error_on, errors_of, fit_all, losses_of, mse, rank_correlation, try_rates
from common.heads import silenced
from common.plotting import number
from common.positional_encoding import sinusoidal_encoding
from common.sines import FREQUENCIES, curve_fit, least_squares, sines
from common.training import train
from common.transformer import TransformerBlock
from week6.figures import sequence_modeling as figures
from week6.figures.sequence_modeling import LABELS, MISTAKES

# %% [markdown]
# ## The two networks
# Both take a series of T numbers and name the next one. The **Transformer** makes 32 features of each number, adds its
# position (Lab 3), and sends all through one block (Lab 4). Only the last position is read out, so only its query is computed:
# the same result as from the whole block, in less time. The last position comes in by three ways: as query, among the keys
# and values, and by the residual `last + attended`.

# %%


class Transformer(nn.Module):
    """(B, T) -> (B,): the next value of each series."""

    def __init__(self, n_heads: int = 4, *, positions: bool = True, attention: MultiHeadAttention | None = None):
        super().__init__()
        self.embed, self.read_out = nn.Linear(1, D_MODEL), nn.Linear(D_MODEL, 1)
        self.block = TransformerBlock(D_MODEL, n_heads, d_ff=128)
        self.block.attention = attention or self.block.attention
        self.register_buffer("positions", positions * sinusoidal_encoding(MAX_LENGTH, D_MODEL))

    def forward(self, y: Tensor) -> Tensor:
        return self.look(y)[0]

    def look(self, y: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The prediction (B,) and what the last position looks at (B, H, T); mask as in attention."""
        x = self.features(y)
        attended, weights = self.block.attention(x[:, -1:], x, mask=mask)  # (B, 1, d_model), (B, H, 1, T)
        return self.predict(x[:, -1:], attended), weights[:, :, 0]

    def features(self, y: Tensor) -> Tensor:
        return self.embed(y[..., None]) + self.positions[: y.shape[1]]  # (B, T, d_model)

    def predict(self, last: Tensor, attended: Tensor) -> Tensor:
        """From the last position's features and what it attended to, (B, 1, d_model) each, to the next value (B,)."""
        h = self.block.norm_1(last + attended)
        h = self.block.norm_2(h + self.block.feed_forward(h))
        return self.read_out(h)[:, 0, 0]


@torch.no_grad()
def looks(model: Transformer, inputs: Tensor) -> Tensor:
    """(n, T) -> (H, n, T): the weights by steps back from the end, 1 to T."""
    return model.look(inputs)[1].transpose(0, 1).flip(-1)


if lab:
    prediction, shares = Transformer(n_heads=4).look(torch.randn(3, 20))
    lab.say(f"3 series of 20 values: prediction {tuple(prediction.shape)}, weights of 4 heads {tuple(shares.shape)}")

# %% [markdown]
# The **recurrent network** reads one number after the other into a state of 64 numbers, and predicts from the last state.
# Section 3 uses it with a GRU, too.

# %%


class Recurrent(nn.Module):
    """nn.RNN or nn.GRU, and its last state to the next value: (B, T) -> (B,)."""

    def __init__(self, kind: type[nn.Module] = nn.RNN, n_hidden: int = 64):
        super().__init__()
        self.layer, self.read_out = kind(1, n_hidden, batch_first=True), nn.Linear(n_hidden, 1)

    def forward(self, y: Tensor) -> Tensor:
        states, _ = self.layer(y[..., None])  # (B, T, n_hidden)
        return self.read_out(states[:, -1])[:, 0]


# %% [markdown]
# What the flags decide: how each network is made (`networks`), how many values go in, and the noise.

# %%
n_heads = DEFAULTS["heads"] if "heads" in several else options.heads[0]
length = DEFAULTS["lengths"] if "lengths" in several else options.lengths[0]
noise = options.noise[-1]
networks = {"rnn": Recurrent, "transformer": partial(Transformer, n_heads, positions=not options.no_positions)}
n_test = 200 if lab.fast else 2000  # series to test on

if lab:
    y = torch.randn(3, length)
    rows = [[LABELS[name], tuple(y.shape), tuple(make()(y).shape)] for name, make in networks.items()]
    lab.table(["network", "input", "output"], rows)
    if options.no_positions:
        lab.say("In sections 1 to 3 no Transformer has positions.")

# %% [markdown]
# ## 1. The score card
# The task: $y(t) = A \sin(f t + \varphi) + \mathrm{noise}$, with an amplitude, a frequency and a phase that are new in every
# series. In go 20 values, out comes the next one. It is predicted with its noise, so no error can be below the noise's
# variance.
#
# First one training of each network, in the open: 64 new series a step, and the squared error of the next value. `train`
# (`common/training.py`) is the loop of Lab 2; with `beta_2=0.95` its AdamW forgets old gradients sooner, which short trainings
# gain from. `torch.manual_seed` decides the first weights, so that the cell gives the same each time.

# %%
if lab.section("1. The score card"):
    generator, seed = lab.generator("learning rates"), lab.seed("sine rates 0")
    n_steps = 2 if lab.fast else 200
    trial = sines(64 * n_steps, length, noise, generator)  # inputs (n, T), targets (n,)
    validation = sines(n_test, length, noise, generator)  # new series, to judge by
    inputs, targets = (x.split(64) for x in trial)  # (64, T) and (64,) for each step

    torch.manual_seed(seed)
    rnn = networks["rnn"]()
    rnn_losses = train(rnn, lambda i: F.mse_loss(rnn(inputs[i]), targets[i]), n_steps, lr=8e-3, beta_2=0.95)

    torch.manual_seed(seed)
    transformer = networks["transformer"]()
    transformer_losses = train(
        transformer, lambda i: F.mse_loss(transformer(inputs[i]), targets[i]), n_steps, lr=8e-3, beta_2=0.95
    )

    lab.say(f"One training of each: {n_steps} steps of 64 series, noise {noise:g}, peak learning rate 0.008.")
    rows = [["RNN", rnn_losses[0], rnn_losses[-1], error_on(rnn, validation)]]
    rows += [["Transformer", transformer_losses[0], transformer_losses[-1], error_on(transformer, validation)]]
    lab.table(["", "loss, first step", "last step", "error on new series"], rows, digits=4)

# %% [markdown]
# Is 0.008 a good learning rate? A comparison is fair if each network has the rate that does best for it. `try_rates` does what
# you have just seen, once for each rate; its column 0.008 holds the errors from above.

# %%
RATES = (4e-3, 8e-3, 1.5e-2)

if lab:
    found = try_rates(networks, RATES, trial, validation, [seed])
    rates = lab.record("rate.sine", {name: min(by_rate, key=by_rate.get) for name, by_rate in found.items()})
    lab.say("Error on validation data by learning rate. The best is kept, for sections 1 and 4.")
    rows = [[LABELS[name], *by_rate.values(), f"{rates[name]:g}"] for name, by_rate in found.items()]
    lab.table(["peak learning rate", *(f"{lr:g}" for lr in RATES), "chosen"], rows, digits=4)

# %% [markdown]
# Is an error of 0.015 good? Alone it says nothing. Beside the networks stand three **baselines**: predict 0, repeat the last
# value, and the best linear formula (a weighted sum of the 20 values, fitted to the same training data); and the **limit**:
# fit the sine itself to each series by non-linear least squares (`curve_fit` in `common/sines.py`) and continue it.

# %%


def baselines(data: Data, test: Data) -> dict[str, float]:
    """Errors on `test` of what needs no network; the linear formula is fitted to `data`."""
    inputs, targets = test
    weights = least_squares(*data)  # (T,)
    return {
        "zero": mse(0 * targets, targets),
        "last": mse(inputs[:, -1], targets),
        "linear": mse(inputs.double() @ weights, targets),
    }


if lab:
    sizes = {name: sum(p.numel() for p in make().parameters()) for name, make in networks.items()}
    lab.record("parameters", sizes | {"linear": length})
    lab.say(
        "Parameters: linear formula {parameters.linear:.0f}, RNN {parameters.rnn:,.0f}, Transformer "
        "{parameters.transformer:,.0f}."
    )

# %% [markdown]
# Now the full training, from three starts. `fit_all` (`common/experiments.py`) trains both networks on the same data, once for
# each seed. With noise the training is longer, for noise has to be averaged out.

# %%
N_SEEDS = 3

if lab:
    seeds = [lab.seed(f"training {i}") for i in range(N_SEEDS)]
    tests, runs, scores, fitted = {}, {}, {}, {}  # by noise
    for level in options.noise:
        n_steps, batch = (6, 64) if lab.fast else (1600, 128) if level else (800, 64)
        draw = partial(sines, length=length, noise=level)
        tests[level] = draw(2 * n_test, generator=lab.generator("test"))
        runs[level] = fit_all(networks, draw, rates, seeds, n_steps, tests[level], batch)
        # the baselines, with the formula fitted to what the networks of each start were trained on
        training_data = [draw(n_steps * batch, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        simple = [baselines(data, tests[level]) for data in training_data]
        scores[level] = {name: [found[name] for found in simple] for name in simple[0]} | errors_of(runs[level])
        fitted[level] = curve_fit(tests[level][0])
        lab.say(f"Noise {level:g}: {n_steps} steps of {batch} series, {N_SEEDS} starts, {2 * n_test} test series.")

# %% [markdown]
# The card: who is best without noise, and who with noise?

# %%
if lab:
    card, limits = {}, {}
    for level, errors in scores.items():
        key = f"sine.noise_{level:g}"
        found = {name: {"mse_mean": mean(by_seed), "mse_std": stdev(by_seed)} for name, by_seed in errors.items()}
        limits[level] = mse(fitted[level], tests[level][1])
        card[level] = lab.record(key, found | {"limit": limits[level]})
        seconds = {name: mean(run.seconds for run in some) for name, some in runs[level].items()}
        for name, value in seconds.items():
            lab.record_seconds(f"{key}.{name}.training", value)
        rows = []
        for name in errors:
            kept = card[level][name]
            rows.append([LABELS[name], number(kept["mse_mean"]), number(kept["mse_std"], 1), seconds.get(name, "")])
        rows.append([LABELS["limit"], number(limits[level]), "", ""])
        lab.table([f"noise {level:g}", "MSE, mean", "std", "seconds"], rows, digits=1)
        ahead = sum(rnn < transformer for rnn, transformer in zip(errors["rnn"], errors["transformer"], strict=True))
        lab.say(f"The RNN is ahead of the Transformer from {ahead} of {N_SEEDS} starts.")

# %% [markdown]
# Without noise the linear formula wins by far: with a known frequency a sine is a linear formula of two past values,
# $y(t+1) = 2 \cos(f)\, y(t) - y(t-1)$; with an unknown one, 20 values still come very close. With noise it falls back.
#
# How far from the limit is each? And how far from the next value *without* its noise, which no model gets to see? (What is
# below 1 times the limit beats the fitted sine, which does not use how A, f and phi are drawn.)

# %%
if lab:
    for level in [level for level in options.noise if level > 0]:
        key, (inputs, _) = f"sine.noise_{level:g}", tests[level]
        _, clean = sines(2 * n_test, length, 0.0, lab.generator("test"))  # the same sines without noise
        over = {name: card[level][name]["mse_mean"] / card[level]["limit"] for name in ("linear", *networks)}
        lab.record(f"{key}.over_limit", over)
        beyond = {name: mean(error_on(run.model, (inputs, clean)) for run in some) for name, some in runs[level].items()}
        beyond["limit"] = mse(fitted[level], clean)
        lab.record(f"{key}.beyond_noise", beyond)
        lab.say(
            f"Noise {level:g}, relative to the limit: least squares {over['linear']:.2f}, RNN {over['rnn']:.2f}, Transformer "
            f"{over['transformer']:.2f}. Measured against the next value without its noise: RNN {number(beyond['rnn'])}, "
            f"Transformer {number(beyond['transformer'])}, limit {number(beyond['limit'])}."
        )

# %% [markdown]
# Six of the test series, the card as a picture, and the losses during training. At which step does each network pass the
# linear formula?

# %%
if lab:
    inputs, targets = tests[noise]
    with torch.no_grad():
        predictions = {name: some[0].model(inputs) for name, some in runs[noise].items()} | {"limit": fitted[noise]}
    fig = figures.draw_samples(inputs, targets, predictions, noise)
    lab.figure(fig, "05_sample_sequences")

# %%
if lab:
    fig = figures.draw_scores(scores, limits)
    lab.figure(fig, "05_performance_comparison")

# %%
if lab:
    losses = {level: losses_of(runs[level]) for level in runs}
    linear = {level: mean(errors["linear"]) for level, errors in scores.items()}
    fig = figures.draw_learning(losses, linear, limits)
    lab.figure(fig, "05_learning_curves")

# %% [markdown]
# ## 2. What the heads look at, and what the prediction needs
# (This section builds on section 1: its trained networks.) Attention says where a head looks. Whether the prediction needs it
# is asked by intervention: **hide** a position from all heads by a mask, or **replace** its value by that of another series,
# and measure the error again. The last position, hidden from the heads, still comes in by the query and the residual; a
# replaced value is replaced for all ways in.

# %%


def hidden_error(model: Transformer, data: Data, back: int) -> float:
    """The error when the position `back` steps back is hidden from the heads."""
    mask = torch.ones(1, 1, data[0].shape[1], dtype=torch.bool)
    mask[..., -back] = False
    return error_on(lambda y: model.look(y, mask)[0], data)


def replace(inputs: Tensor, back: int) -> Tensor:
    """(n, T) -> (n, T): the values `back` steps back come from the neighbouring series."""
    other = inputs.clone()
    other[:, -back] = inputs[:, -back].roll(1)
    return other


# %%
if lab.section("2. What the heads look at, and what the prediction needs"):
    data = sines(200 if lab.fast else 1000, length, noise, lab.generator("positions"))
    inputs, targets = data
    models = {name: [run.model for run in some] for name, some in runs[noise].items()}
    steps = range(1, length + 1)  # back from the value that is asked

    weights = torch.stack([looks(model, inputs) for model in models["transformer"]])  # (seeds, H, n, T)
    weight = weights.mean(dim=(1, 2)).numpy()  # (seeds, T)
    hidden = np.array([[hidden_error(model, data, back) for back in steps] for model in models["transformer"]])
    swapped = {
        name: np.array([[error_on(model, (replace(inputs, back), targets)) for back in steps] for model in some])
        for name, some in models.items()
    }
    base = {name: [error_on(model, data) for model in some] for name, some in models.items()}  # with nothing done

# %% [markdown]
# Is a position with a large weight an important one? Step 1 back is the last value that goes in.

# %%
if lab:
    found = {"attention": weight, "hiding": hidden} | {f"swapping.{name}": values for name, values in swapped.items()}
    means = {name: dict(zip(steps, values.mean(axis=0), strict=True)) for name, values in found.items()}
    positions = lab.record("position", means)
    lab.record("position.base", {name: mean(errors) for name, errors in base.items()})
    rows = [[back, *(values[back] for values in positions.values())] for back in steps]
    lab.table(["steps back", "weight", "MSE, hidden", "replaced (RNN)", "replaced (Transformer)"], rows, digits=3)
    lab.record("position.rank_correlation", mean(map(rank_correlation, weight, hidden)))
    lab.say(
        "Over the positions, weight and error when hidden have a rank correlation of {position.rank_correlation:.2f} (1 = same "
        "order). The value one step back has {position.attention.1:.3f} of the weight. With nothing done the error is "
        "{position.base.transformer:.3f}, with this value hidden from the heads {position.hiding.1:.3f}, with it replaced "
        "{position.swapping.transformer.1:.3f}."
    )
    fig = figures.draw_positions(weight, hidden, swapped, base)
    lab.figure(fig, "05_position_importance")

# %% [markdown]
# In the full run the last value has little weight, and yet replacing it costs most. It has three ways into the prediction: the
# residual, the query, and key and value. We replace it on one of them at a time. Attention weights show only the third.

# %%


@torch.no_grad()
def errors_by_way(model: Transformer, data: Data) -> dict[str, float]:
    """The error when the last value comes from another series on none, one or all of its ways to the prediction."""
    inputs, targets = data
    own, other = model.features(inputs), model.features(replace(inputs, 1))  # (n, T, d_model) each
    cases = {
        "none": (own, own, own),
        "residual": (other, own, own),
        "query": (own, other, own),
        "key_value": (own, own, other),
        "all": (other, other, other),
    }
    found = {}
    for case, (last, query, keys) in cases.items():
        attended, _ = model.block.attention(query[:, -1:], keys)
        found[case] = F.mse_loss(model.predict(last[:, -1:], attended), targets).item()
    return found


if lab:
    by_start = [errors_by_way(model, data) for model in models["transformer"]]
    lab.record("position.last_value", {case: mean(found[case] for found in by_start) for case in by_start[0]})
    lab.say(
        "The last value replaced on one way alone: residual {position.last_value.residual:.3f}, query "
        "{position.last_value.query:.3f}, key and value {position.last_value.key_value:.3f} (on none "
        "{position.last_value.none:.3f}, on all {position.last_value.all:.3f})."
    )

# %% [markdown]
# Do the heads do different things? Look at each over slow and fast sines, and silence one at a time.

# %%


def looks_by_frequency(
    model: Transformer, length: int, noise: float, generator: torch.Generator, n_f: int, n_each: int
) -> Tensor:
    """(H, n_f, T): mean weights by steps back for n_f frequencies, slow to fast, over n_each series of each."""
    f = torch.linspace(*FREQUENCIES, n_f, dtype=torch.float64).repeat_interleave(n_each)
    inputs, _ = sines(len(f), length, noise, generator, f)
    return looks(model, inputs).unflatten(1, (n_f, n_each)).mean(dim=2)


def silenced_factors(model: Transformer, data: Data) -> list[float]:
    """(H,): the error without a head, relative to the error with all."""
    return [error_on(silenced(model, h), data) / error_on(model, data) for h in range(model.block.attention.n_heads)]


if lab:
    n_each = 50
    by_frequency = looks_by_frequency(models["transformer"][0], length, noise, lab.generator("frequencies"), 41, n_each)
    fig = figures.draw_patterns(by_frequency, FREQUENCIES, n_each)
    lab.figure(fig, "05_attention_patterns")

# %%
if lab:
    factors = np.array([silenced_factors(model, data) for model in models["transformer"]])  # (seeds, H)
    lab.record("heads.silenced", {"min": factors.min(), "max": factors.max()})
    lab.say(
        "Silencing one head multiplies the error by {heads.silenced.min:.2g} to {heads.silenced.max:.2g} ({n} heads).",
        n=factors.size,
    )
    fig = figures.draw_heads(weights[0], factors)
    lab.figure(fig, "05_multihead_analysis")

# %% [markdown]
# ## 3. Recall
# Where does attention win? A random wave of P values, then its first value again; asked is the second. So the answer stands P
# steps back, and nothing has to be computed. For attention that is one look; an RNN has to carry the value through P steps in
# a state of fixed size. Predicting 0 has an error of 1.
#
# Each P has its own models. A GRU takes part, and rates are searched widely: with a small one it learns nothing at P = 25.

# %%
PERIODS = (5, 10, 25, 50)
RECALL_RATES = (8e-3, 1.5e-2, 3e-2, 6e-2, 0.12)


def waves(n: int, period: int, generator: torch.Generator) -> Data:
    """n random waves: one whole period and the first value of the next one as inputs, then its second."""
    y = torch.randn(n, period, generator=generator)
    return torch.cat([y, y[:, :1]], dim=1), y[:, 1].contiguous()


if lab.section("3. Recall"):
    recall_networks = networks | {"gru": partial(Recurrent, nn.GRU)}
    n_steps, generator = 2 if lab.fast else 150, lab.generator("recall rates")
    wave_trial, wave_validation = waves(64 * n_steps, 25, generator), waves(n_test, 25, generator)
    found = try_rates(
        recall_networks, RECALL_RATES, wave_trial, wave_validation, [lab.seed(f"recall rates {i}") for i in range(2)]
    )
    recall_rates = lab.record("rate.recall", {name: min(by_rate, key=by_rate.get) for name, by_rate in found.items()})
    lab.record("parameters.gru", sum(p.numel() for p in recall_networks["gru"]().parameters()))
    lab.say(f"Error on validation data by learning rate, after {n_steps} steps at P = 25, mean of 2 starts.")
    rows = [[LABELS[name], *by_rate.values(), f"{recall_rates[name]:g}"] for name, by_rate in found.items()]
    lab.table(["peak learning rate", *(f"{lr:g}" for lr in RECALL_RATES), "chosen"], rows, digits=4)

# %%
if lab:
    recall_steps, recall_runs = 4 if lab.fast else 200, {}
    for period in PERIODS:
        seeds = [lab.seed(f"recall {period} {i}") for i in range(2)]
        recall_runs[period] = fit_all(recall_networks, partial(waves, period=period), recall_rates, seeds, recall_steps, n_test)
    recall_errors = {period: errors_of(runs) for period, runs in recall_runs.items()}
    for period, errors in recall_errors.items():
        lab.record(f"recall.period_{period}", {name: {"mse": mean(by_seed)} for name, by_seed in errors.items()})
    lab.say(f"Error after {recall_steps} steps of 64 waves, one number for each start:")
    rows = [[p, *(" / ".join(f"{x:.1e}" for x in by_seed) for by_seed in e.values())] for p, e in recall_errors.items()]
    lab.table(["period P", *(LABELS[name] for name in recall_networks)], rows)

# %% [markdown]
# Does the Transformer look where the answer stands?

# %%
if lab:
    waves_25, _ = waves(1000, 25, lab.generator("recall test"))
    recall_weight = looks(recall_runs[25]["transformer"][0].model, waves_25).mean(dim=1)  # (H, 26)
    lab.record("recall.period_25.weight", recall_weight[:, 24].max())  # 25 steps back
    lab.say(
        "At P = 25 the head that looks most at the value 25 steps back gives it {recall.period_25.weight:.2f} of its weight. "
        "This is what these rates and {n_steps} steps reach, not what a network could ever learn.",
        n_steps=recall_steps,
    )
    fig = figures.draw_recall(recall_errors, recall_steps, recall_weight, at=25)
    lab.figure(fig, "05_recall")

# %% [markdown]
# ## 4. Four classic mistakes
# (This section builds on section 1: its learning rate.) Three of these raise no error, and the model trains:
# - **no positions**: nothing tells the model the order of the values;
# - **no scaling**: the scores are not divided by $\sqrt{d_k}$;
# - **wrong axis**: the softmax runs over the queries, so what a query takes from all keys does not sum to 1;
# - **heads that do not divide the width**: this one says so.
#
# How much worse the model gets is measured, not assumed. `MistakenAttention` is multi-head attention with a scale and an axis
# that can be wrong; both stand in the line of its weights.

# %%


class MistakenAttention(MultiHeadAttention):
    """Multi-head attention of the last position, with another scale or another axis of the softmax."""

    def __init__(self, d_model: int, n_heads: int, *, scale: float, axis: int = -1):
        super().__init__(d_model, n_heads)
        self.scale, self.axis = scale, axis

    def forward(self, query: Tensor, key: Tensor, mask: None = None) -> tuple[Tensor, Tensor]:
        query = query if self.axis == -1 else key  # a softmax over the queries needs all of them
        layers = ((self.w_q, query), (self.w_k, key), (self.w_v, key))
        q, k, v = (self._split_heads(w(x)) for w, x in layers)  # (B, H, T, d_head)
        weights = (q @ k.transpose(-2, -1) * self.scale).softmax(dim=self.axis)[:, :, -1:]  # (B, H, 1, T)
        return self.w_o(self._merge_heads(weights @ v)), weights


def make_mistaken(scale: float, axis: int = -1) -> Transformer:
    """A Transformer whose attention has this scale and axis."""
    return Transformer(n_heads, attention=MistakenAttention(D_MODEL, n_heads, scale=scale, axis=axis))


right_scale = 1 / math.sqrt(D_MODEL // n_heads)
mistaken = {
    "correct": partial(Transformer, n_heads),
    "no_positions": partial(Transformer, n_heads, positions=False),
    "no_scaling": partial(make_mistaken, scale=1.0),
    "wrong_axis": partial(make_mistaken, scale=right_scale, axis=-2),
}

# %%
if lab.section("4. Four classic mistakes"):
    n_steps, seeds = 4 if lab.fast else 250, [lab.seed(f"mistakes {i}") for i in range(2)]
    same_rate = dict.fromkeys(mistaken, rates["transformer"])
    mistake_runs = fit_all(mistaken, partial(sines, length=length, noise=0.0), same_rate, seeds, n_steps, n_test)
    mistake_errors = errors_of(mistake_runs)
    lab.record("mistakes", {name: {"mse": mean(by_seed)} for name, by_seed in mistake_errors.items()})
    lab.say(f"Noise 0, {n_steps} steps of 64 series, mean of {len(seeds)} starts, all at section 1's rate of the Transformer.")
    rows = [[MISTAKES[name], number(mean(by_seed)), *map(number, by_seed)] for name, by_seed in mistake_errors.items()]
    lab.table(["", "error, mean", *(f"start {i + 1}" for i in range(len(seeds)))], rows)
    try:
        Transformer(n_heads=5)
    except ValueError as problem:
        lab.say(f"Five heads end at once: ValueError: {problem}.")

# %% [markdown]
# Do the weights of a query sum to 1? And which mistakes are worse than the correct model from every start, each against every
# other? Lab 1 showed what missing scaling does with 512 features; how many has a head here?

# %%


@torch.no_grad()
def row_sum_error(model: Transformer, inputs: Tensor) -> float:
    """How far from 1 the weights of the last query sum up, mean over heads and series."""
    return (model.look(inputs)[1].sum(dim=-1) - 1).abs().mean().item()


def worse_from_every_start(errors: dict[str, list[float]]) -> list[str]:
    """Those whose best start is worse than the worst of the correct model."""
    return [name for name, by_seed in errors.items() if min(by_seed) > max(errors["correct"])]


if lab:
    inputs, _ = sines(1000, length, 0.0, lab.generator("row sums"))
    sums = {name: mean(row_sum_error(run.model, inputs) for run in some) for name, some in mistake_runs.items()}
    lab.record("mistakes", {name: {"row_sum_error": value} for name, value in sums.items()})
    worse = worse_from_every_start(mistake_errors)
    lab.say(
        "Rows of weights sum to 1 but for {mistakes.correct.row_sum_error:.0e} in the correct model, and for "
        "{mistakes.wrong_axis.row_sum_error:.2f} with the softmax over the queries. Worse than the correct model from every "
        "start: {worse}. With {d_head} features a head the scores are multiplied by {scale:.2f}, or without scaling by 1.",
        worse=", ".join(MISTAKES[name] for name in worse) or "none",
        d_head=D_MODEL // n_heads,
        scale=right_scale,
    )
    fig = figures.draw_mistakes(mistake_errors, losses_of(mistake_runs), worse, noise=0)
    lab.figure(fig, "05_common_mistakes")

# %% [markdown]
# ## Exercise: one flag, several values
# `--heads 1 2 4 8` or `--lengths 10 20 50 100` leaves out the sections above, and trains models for each value instead, all
# alike and with the last noise. Without such a flag this cell shows nothing.

# %%
for flag, values in several.items():
    if lab.section(f"Exercise: {VARIED[flag]}"):
        n_steps, seeds, compared = 6 if lab.fast else 800, [lab.seed(f"variants {i}") for i in range(2)], {}
        for value in values:
            other_heads = partial(Transformer, value, positions=not options.no_positions)
            made = {"transformer": other_heads} if flag == "heads" else networks
            draw = partial(sines, length=value if flag == "lengths" else length, noise=noise)
            compared[value] = fit_all(made, draw, dict.fromkeys(made, 1e-2), seeds, n_steps, n_test)
        errors = {value: errors_of(runs) for value, runs in compared.items()}
        rows, seconds = [], {value: {} for value in values}
        for value, by_name in errors.items():
            for name, by_seed in by_name.items():
                key = f"{flag}_{value}.{name}"
                kept = lab.record(key, {"mse_mean": mean(by_seed), "mse_std": stdev(by_seed)})
                # the faster training: the very first one of a process is slow
                seconds[value][name] = lab.record_seconds(key, min(run.seconds for run in compared[value][name]))
                rows.append([value, LABELS[name], *map(number, kept.values()), seconds[value][name]])
        fixed = f"{length} values in" if flag == "heads" else f"{n_heads} heads"
        without = "without" if options.no_positions else "with"
        text = f"noise {noise:g}, {n_steps} steps, {fixed}, Transformer {without} positions"
        lab.say(f"{text[0].upper()}{text[1:]}; learning rate 0.01, {len(seeds)} starts.")
        lab.table([VARIED[flag], "", "MSE, mean", "std", "seconds"], rows, digits=1)
        fig = figures.draw_comparison(errors, seconds, VARIED[flag], text)
        lab.figure(fig, f"05_{flag}")

# %%
lab.finish()
