"""Lab 5 - Sequence modelling: a Transformer and an RNN continue a series. Which is better, and compared with what?

Both are trained in this run, from several random starts, on the same data. You will see
  1. a noisy sine, 20 steps in and the next one out, beside baselines and the best that fitting the curve can reach;
  2. what the trained heads look at, and whether that is what the prediction needs;
  3. recall: the next value stands P steps back, and attention gets there in one look;
  4. four classic mistakes, trained beside the right model.

Run it:      python 05_sequence_modeling.py
Then try:    python 05_sequence_modeling.py --out trial --heads 1 2 4 8       (several values: only that comparison)
             python 05_sequence_modeling.py --out trial --lengths 10 20 50 100
             python 05_sequence_modeling.py --out trial --no-positions       (sections 1 to 3 without positions)
             python 05_sequence_modeling.py --out trial --noise 0.3
It writes:   05_sample_sequences, 05_performance_comparison, 05_learning_curves, 05_attention_patterns,
             05_multihead_analysis, 05_position_importance, 05_recall, 05_common_mistakes and 05_results.json;
             a comparison writes 05_heads or 05_lengths instead
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that common/ is found from any folder
from common.command_line import Parser, whole_number  # isort: skip  (first: Ctrl-C then ends quietly while torch loads)
from common.lab import Lab, run  # isort: skip  (loads torch and matplotlib faster)

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from common.attention import MultiHeadAttention
from common.heads import silenced
from common.plotting import (
    BLUE,
    GREY,
    MODEL_STYLES,
    PURPLE,
    SKY,
    curve,
    decades,
    heatmap,
    number,
    panels,
    plain_ticks,
    seed_band,
    seed_dots,
)
from common.positional_encoding import sinusoidal_encoding
from common.training import train
from common.transformer import TransformerBlock

# %% The task, and the best that can be done
# y(t) = A sin(f t + phi) + noise; amplitude, frequency and phase are new in every sequence. The next value is predicted
# with its noise, so no prediction can have a mean squared error below the noise's variance.

AMPLITUDES, FREQUENCIES = (0.5, 1.5), (0.2, 1.0)  # uniform; f in radians a step: periods of 6 to 31 steps
Data = tuple[Tensor, Tensor]  # inputs (n, T) and the next values (n,)


def sines(n: int, length: int, noise: float, generator: torch.Generator, f: Tensor | None = None) -> Data:
    """n sequences of `length` inputs and the value that follows; with the frequencies f (n,) if given."""
    a, any_f, phi = torch.rand(3, n, 1, generator=generator, dtype=torch.float64)  # (n, 1) each
    a, any_f = (low + (high - low) * x for x, (low, high) in ((a, AMPLITUDES), (any_f, FREQUENCIES)))
    angle = (any_f if f is None else f[:, None]) * torch.arange(length + 1)  # (n, length + 1)
    y = angle.add_(2 * math.pi * phi).sin_().mul_(a).float()  # (in place: this is the largest array of the lab)
    y.add_(torch.randn(y.shape, generator=generator), alpha=noise)
    return y[:, :-1].contiguous(), y[:, -1].contiguous()


def curve_fit(inputs: Tensor, n_grid: int = 200, n_steps: int = 10) -> Tensor:
    """(n, T) -> (n,): continue the sine that fits each sequence best, by non-linear least squares.

    This is the limit of the score card. It knows that the curve is a sine with f in FREQUENCIES, and nothing about A and
    phi. Given f, a sin(f t) + b cos(f t) is linear in a and b; so f comes from a grid, by the smallest error that is left,
    and is refined by Gauss-Newton steps. With Gaussian noise this is the maximum-likelihood fit. It is not a strict bound:
    the posterior mean also uses how A, f and phi are drawn. At noise 0.1 that gains less than 2 % (see the tests); where
    noise drowns the sine, it gains more.
    """
    x, t = inputs.double().numpy(), np.arange(inputs.shape[1])
    grid = np.linspace(*FREQUENCIES, n_grid)
    bases = (np.linalg.qr(np.stack([np.sin(f * t), np.cos(f * t)], axis=1))[0] for f in grid)  # (T, 2) each
    f = grid[np.argmax([((x @ basis) ** 2).sum(axis=1) for basis in bases], axis=0)]  # (n,)
    for _ in range(n_steps):
        (a, b), (sine, cosine) = fit_amplitudes(x, f)
        jacobian = np.stack([sine, cosine, t * (a * cosine - b * sine)], axis=2)  # d fit / d (a, b, f): (n, T, 3)
        residual = x - a * sine - b * cosine  # (n, T)
        f = np.clip(f + (np.linalg.pinv(jacobian) @ residual[..., None])[:, 2, 0], *FREQUENCIES)
    (a, b), _ = fit_amplitudes(x, f)
    return torch.from_numpy(a[:, 0] * np.sin(f * len(t)) + b[:, 0] * np.cos(f * len(t)))


def fit_amplitudes(x: np.ndarray, f: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the best a sin(f t) + b cos(f t) for each of x (n, T): a and b (2, n, 1), the sines and the cosines (2, n, T)."""
    angle = f[:, None] * np.arange(x.shape[1])
    basis = np.stack([np.sin(angle), np.cos(angle)])  # (2, n, T)
    return (np.linalg.pinv(basis.transpose(1, 2, 0)) @ x[..., None]).transpose(1, 0, 2), basis


def least_squares(inputs: Tensor, targets: Tensor) -> Tensor:
    """(T,): the weights of the best linear formula for the next value."""
    return torch.linalg.lstsq(inputs.double(), targets.double()[:, None]).solution[:, 0]


# %% The two networks, and how they are trained

D_MODEL, D_FF, N_HIDDEN, MAX_LENGTH = 32, 128, 64, 100


class Transformer(nn.Module):
    """1 to 32 features, positions, one block, and the last position to the next value.

    Only the last position is read out, so only its query is computed: the same numbers as from the whole block (a test
    compares them) in less time.
    """

    def __init__(self, n_heads: int = 4, *, positions: bool = True, attention: MultiHeadAttention | None = None):
        super().__init__()
        self.embed, self.read_out = nn.Linear(1, D_MODEL), nn.Linear(D_MODEL, 1)
        self.block = TransformerBlock(D_MODEL, n_heads, D_FF)
        self.block.attention = attention or self.block.attention
        self.register_buffer("positions", positions * sinusoidal_encoding(MAX_LENGTH, D_MODEL))

    def look(self, y: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, T) -> the prediction (B,) and what the last position looks at (B, H, T); mask as in attention."""
        x = self.features(y)
        attended, weights = self.block.attention(x[:, -1:], x, mask=mask)  # (B, 1, d_model), (B, H, 1, T)
        return self.predict(x[:, -1:], attended), weights[:, :, 0]

    def features(self, y: Tensor) -> Tensor:
        """(B, T) -> (B, T, d_model)"""
        return self.embed(y[..., None]) + self.positions[: y.shape[1]]

    def predict(self, last: Tensor, attended: Tensor) -> Tensor:
        """From the last position's features and what it attended to, (B, 1, d_model) each, to the next value (B,)."""
        h = self.block.norm_1(last + attended)
        h = self.block.norm_2(h + self.block.feed_forward(h))
        return self.read_out(h)[:, 0, 0]

    def forward(self, y: Tensor) -> Tensor:
        return self.look(y)[0]


class Recurrent(nn.Module):
    """nn.RNN or nn.GRU with 64 hidden units, and its last state to the next value: (B, T) -> (B,)."""

    def __init__(self, kind: type[nn.Module] = nn.RNN):
        super().__init__()
        self.layer, self.read_out = kind(1, N_HIDDEN, batch_first=True), nn.Linear(N_HIDDEN, 1)

    def forward(self, y: Tensor) -> Tensor:
        states, _ = self.layer(y[..., None])  # (B, T, n_hidden)
        return self.read_out(states[:, -1])[:, 0]


LABELS = {
    "zero": "predict 0",
    "last": "repeat the last value",
    "linear": "least squares",
    "rnn": "RNN",
    "transformer": "Transformer",
    "gru": "GRU",
    "limit": "limit: fitted sine",
}
STYLES = {name: MODEL_STYLES.get(label, {"color": GREY, "marker": "v", "ls": ":"}) for name, label in LABELS.items()}
Makers = Mapping[str, Callable[[], nn.Module]]


def makers(n_heads: int = 4, positions: bool = True) -> Makers:
    """How each network is made."""
    return {"rnn": Recurrent, "transformer": lambda: Transformer(n_heads, positions=positions)}


class Run(NamedTuple):
    """One trained model: its mean squared error on test data, the loss of each step, and its training's wall-clock time."""

    model: nn.Module
    mse: float
    losses: list[float]
    seconds: float


def quiet(steps: range, label: str) -> range:
    """Stands in for lab.progress where there is no lab."""
    return steps


def fit(
    make: Callable[[], nn.Module], data: Data, test: Data, batch: int, lr: float, seed: int, label="", progress=quiet
) -> Run:
    """Train a new model on `data`, each sequence once."""
    torch.manual_seed(seed)
    model, (inputs, targets) = make(), (x.split(batch) for x in data)
    steps, start = range(len(inputs)), time.perf_counter()
    loss_at = lambda i: F.mse_loss(model(inputs[i]), targets[i])  # noqa: E731
    losses = train(model, loss_at, progress(steps, f"training, {label}"), len(steps), lr=lr, beta_2=0.95)
    seconds = time.perf_counter() - start
    return Run(model, mse(model, test), losses, seconds)


def fit_all(
    networks: Makers, sample: Callable[[torch.Generator], tuple[Data, Data]], batch: int, rates, seeds, label="", progress=quiet
) -> dict[str, list[Run]]:
    """Train each of the networks once for each seed, on the same data: sample(generator) gives training and test data."""
    runs = {name: [] for name in networks}
    for seed in seeds:
        data, test = sample(torch.Generator().manual_seed(seed))
        for name, make in networks.items():
            runs[name].append(fit(make, data, test, batch, rates[name], seed, f"{LABELS.get(name, name)}{label}", progress))
    return runs


@torch.no_grad()
def mse(predict: Callable[[Tensor], Tensor], data: Data) -> float:
    """Mean squared error over all sequences."""
    return (predict(data[0]) - data[1]).double().pow(2).mean().item()


def errors(runs: Sequence[Run]) -> list[float]:
    return [run.mse for run in runs]


def smooth(runs: Sequence[Run], n_stretches: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """The steps in the middle of each stretch, and the mean loss in it (runs, stretches)."""
    losses = np.array([run.losses for run in runs])
    stretches = np.array_split(np.arange(losses.shape[1]), min(n_stretches, losses.shape[1]))
    middles = np.array([stretch.mean() for stretch in stretches])
    return middles, np.stack([losses[:, stretch].mean(axis=1) for stretch in stretches], axis=1)


# %% 1. The score card
# Same data and number of steps for both networks; each has the rate that does best for it on validation data with noise.
# Beside them stand what needs no training, the best linear formula, fitted to the same training data, and the fitted sine.

RATES = (4e-3, 8e-3, 1.5e-2)
TRAINED = ("rnn", "transformer")
SCORED = ("zero", "last", "linear", *TRAINED)
N_SEEDS = 3


def budget(noise: float, fast: bool) -> tuple[int, int]:
    """Steps, and sequences a step: noise has to be averaged out, which takes more data."""
    if fast:
        return 6, 64
    return (1600, 128) if noise else (800, 64)


def test_size(lab: Lab) -> int:
    """Test or validation sequences where a thousand or two are enough."""
    return 200 if lab.fast else 2000


def measure_rates(
    networks: Makers, rates: Sequence[float], data: Data, validation: Data, seeds: Sequence[int], progress=quiet
) -> dict[str, dict[float, float]]:
    """For each network and each of the rates: the error on validation data after training on `data`, mean over the seeds."""

    def error(name: str, lr: float) -> float:
        label = f"{LABELS[name]}, rate {lr:g}"
        return mean(fit(networks[name], data, validation, 64, lr, seed, label, progress).mse for seed in seeds)

    return {name: {lr: error(name, lr) for lr in rates} for name in networks}


def measure_baselines(sample: Callable, seeds: Sequence[int]) -> dict[str, list[float]]:
    """The errors of predicting 0, of repeating the last value, and of the linear formula of each seed's training data."""
    found = {"zero": [], "last": [], "linear": []}
    for seed in seeds:
        data, test = sample(torch.Generator().manual_seed(seed))
        weights = least_squares(*data)
        found["zero"].append(mse(lambda x: 0 * x[:, -1], test))
        found["last"].append(mse(lambda x: x[:, -1], test))
        found["linear"].append(mse(lambda x, w=weights: x.double() @ w, test))
    return found


class Card(NamedTuple):
    """The score card of one noise level: errors by seed for each of SCORED, the trained runs, the limit, the test data, for
    the networks and the limit the error against the next value without its noise, which no model gets to see, and what the
    fitted sines predict (n,)."""

    errors: dict[str, list[float]]
    runs: dict[str, list[Run]]
    limit: float
    test: Data
    beyond_noise: dict[str, float]
    fitted: Tensor


def measure_card(networks, rates, seeds, sample, batch: int, test: Data, clean: Tensor, label="", progress=quiet) -> Card:
    """`sample(generator)` gives training data; `clean` (n,) are the targets of `test` without their noise."""
    both = lambda generator: (sample(generator), test)  # noqa: E731
    runs, fitted = fit_all(networks, both, batch, rates, seeds, label, progress), curve_fit(test[0])
    predictors = {name: [run.model for run in runs[name]] for name in TRAINED} | {"limit": [lambda _: fitted]}
    beyond = {name: mean(mse(predict, (test[0], clean)) for predict in some) for name, some in predictors.items()}
    scores = measure_baselines(both, seeds) | {name: errors(runs[name]) for name in TRAINED}
    return Card(scores, runs, mse(lambda _: fitted, test), test, beyond, fitted)


def draw_samples(card: Card, noise: float) -> Figure:
    inputs, targets = card.test
    with torch.no_grad():
        predictions = {name: card.runs[name][0].model(inputs) for name in TRAINED} | {"limit": card.fitted}
    misses = ", ".join(f"{LABELS[n].split(': ')[-1]} {number(F.mse_loss(p, targets).item())}" for n, p in predictions.items())
    title = f"Mean squared error ({len(targets)} sequences, noise {noise:g}, first start): {misses}"
    fig, axes = panels(title, (1, 1, 1), rows=2, size=(15, 7))
    length = inputs.shape[1]
    for i, ax in enumerate(axes):
        ax.plot(range(length), inputs[i], color=GREY, marker=".", lw=1, label="input")
        ax.plot(length, targets[i], color="black", marker="*", ms=15, ls="", label="the next value")
        ax.axhline(targets[i], xmin=0.8, color="black", lw=0.8, ls=":")
        for shift, (name, prediction) in enumerate(predictions.items(), 1):
            ax.plot(length + 0.045 * length * shift, prediction[i], **STYLES[name] | {"ls": ""}, ms=9, label=LABELS[name])
    for ax in axes[3:]:
        ax.set_xlabel("step t (predictions are for the step of the star)")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return fig


def draw_scores(cards: Mapping[float, Card]) -> Figure:
    best = {noise: min(SCORED, key=lambda name, card=card: mean(card.errors[name])) for noise, card in cards.items()}
    texts = [f"{LABELS[name]} at noise {noise:g} ({number(mean(cards[noise].errors[name]))})" for noise, name in best.items()]
    fig, axes = panels(
        f"Smallest error, the limit apart: {', '.join(texts)}", (1,) * len(cards), size=(max(9, 7 * len(cards)), 4.6)
    )
    for ax, (noise, card) in zip(axes, cards.items(), strict=True):
        seed_dots(ax, {LABELS[name]: card.errors[name] for name in SCORED}, [STYLES[name] for name in SCORED])
        if noise:
            ax.axvline(card.limit, color="black", ls="--")
            ax.set_xlim(left=min(ax.get_xlim()[0], card.limit / 2))
        line = "dashed: " if noise else "not shown: "
        ax.set(xlabel=f"mean squared error (dots: {N_SEEDS} seeds)")
        ax.set_title(f"noise {noise:g} ({line}{LABELS['limit']}, {number(card.limit)})")
    return fig


def draw_learning(cards: Mapping[float, Card]) -> Figure:
    noise, card = list(cards.items())[-1]
    title = f"Noise {noise:g}: the loss falls below that of least squares after about {', '.join(passing(card))} steps"
    fig, axes = panels(title, (1,) * len(cards), size=(max(11, 7 * len(cards)), 4.6))
    for ax, (noise, card) in zip(axes, cards.items(), strict=True):
        ax.set_yscale("log")
        for name in TRAINED:
            steps, losses = smooth(card.runs[name])
            seed_band(ax, steps, losses, LABELS[name], **STYLES[name] | {"marker": None})
        if noise:
            ax.axhline(mean(card.errors["linear"]), color=GREY, ls=":", label=LABELS["linear"])
            ax.axhline(card.limit, color="black", ls="--", label=LABELS["limit"])
            plain_ticks(ax.yaxis)
        else:
            decades(ax.yaxis)
        ax.set(xlabel=f"training step (each point: mean of {2 * steps[0] + 1:.0f})", title=f"noise {noise:g}")
        ax.legend()
    axes[0].set_ylabel(f"loss on new sequences\n(mean and range of {N_SEEDS} seeds)")
    return fig


def passing(card: Card) -> list[str]:
    """For each network, when its mean loss over the seeds falls below the error of least squares for the first time."""
    found = []
    for name in TRAINED:
        steps, losses = smooth(card.runs[name])
        below = steps[losses.mean(axis=0) < mean(card.errors["linear"])]
        found.append(f"{LABELS[name]} {below[0]:.0f}" if len(below) else f"{LABELS[name]} never")
    return found


def show_rates(
    lab: Lab,
    key: str,
    networks: Makers,
    rates: Sequence[float],
    sample: Callable[[int], Data],
    n_steps: int,
    n_seeds: int,
    text: str,
) -> dict[str, float]:
    """The best learning rate for each network on validation data; sample(n) gives n new sequences."""
    seeds = [lab.seed(f"{key} rates {i}") for i in range(n_seeds)]
    found = measure_rates(networks, rates, sample(64 * n_steps), sample(test_size(lab)), seeds, lab.progress)
    best = {name: min(by_rate, key=by_rate.get) for name, by_rate in found.items()}
    lab.say(f"Learning rates: error on validation data after {n_steps} steps {text}. The best is kept.")
    rows = [[LABELS[name], *by_rate.values(), f"{best[name]:g}"] for name, by_rate in found.items()]
    lab.table(["peak learning rate", *(f"{lr:g}" for lr in rates), "chosen"], rows, digits=4)
    return lab.record_all(f"rate.{key}", best, rtol=30)  # some are close: on another machine another may win


def show_scores(lab: Lab, networks: Makers) -> tuple[dict[float, Card], dict[str, float]]:
    lab.section("1. The score card")
    length, noise, generator = lab.options.lengths[0], lab.options.noise[-1], lab.generator("learning rates")
    lab.say(
        f"{length} values of a sine{' with noise' * bool(noise)} in, the next one out; amplitude, frequency and phase are new "
        f"in every sequence.{' In sections 1 to 3 no Transformer has positions.' * lab.options.no_positions}"
    )
    sample = lambda n: sines(n, length, noise, generator)  # noqa: E731
    text = f"at noise {noise:g}; it is used in sections 1 and 4"
    rates = show_rates(lab, "sine", networks, RATES, sample, 2 if lab.fast else 200, 1, text)
    sizes = {name: sum(p.numel() for p in make().parameters()) for name, make in networks.items()}
    sizes = lab.record_all("parameters", sizes | {"linear": length}, rtol=0)
    seeds, cards = [lab.seed(f"training {i}") for i in range(N_SEEDS)], {}
    for noise in lab.options.noise:
        (n_steps, batch), n_test = budget(noise, lab.fast), 2 * test_size(lab)
        test, (_, clean) = (sines(n_test, length, s, lab.generator("test")) for s in (noise, 0.0))  # the same sines twice
        sample = lambda generator, n=n_steps * batch, s=noise: sines(n, length, s, generator)  # noqa: E731
        label = f", noise {noise:g}"
        cards[noise] = measure_card(networks, rates, seeds, sample, batch, test, clean, label, lab.progress)
        lab.say(f"Noise {noise:g}: {n_steps} steps of {batch} sequences, {N_SEEDS} seeds, {n_test} test sequences.")
        print_card(lab, noise, cards[noise], sizes)
    lab.figure(draw_samples(cards[noise], noise), "05_sample_sequences")  # of the last noise level
    lab.figure(draw_scores(cards), "05_performance_comparison")
    lab.figure(draw_learning(cards), "05_learning_curves")
    return cards, rates


def print_card(lab: Lab, noise: float, card: Card, sizes: Mapping[str, float]) -> None:
    key, rows, means = f"sine.noise_{noise:g}", [], {}
    for name in SCORED:
        # trained errors vary with the instruction set as they do with the seed
        rtol, atol, atol_std = (0.2, 5e-4, 2e-3) if name in TRAINED else (0.02, 0.0, 1e-3)
        means[name] = lab.record(f"{key}.{name}.mse_mean", mean(card.errors[name]), rtol=rtol, atol=atol)
        deviation = lab.record(f"{key}.{name}.mse_std", stdev(card.errors[name]), rtol=rtol, atol=atol_std)
        row = [LABELS[name], number(means[name]), number(deviation, digits=1), f"{sizes.get(name, 0):.0f}", ""]
        if name in TRAINED:
            seconds = mean(run.seconds for run in card.runs[name])
            row[-1] = f"{lab.record_seconds(f'{key}.{name}.training', seconds):.1f}"
        rows.append(row)
    limit = lab.record(f"{key}.limit", card.limit, rtol=1e-3, atol=1e-12)
    lab.table(["", "MSE, mean", "std", "parameters", "seconds"], [*rows, [LABELS["limit"], number(limit), "", "", ""]])
    first, second = sorted(means, key=means.get)[:2]
    ahead = sum(rnn < transformer for rnn, transformer in zip(*(card.errors[name] for name in TRAINED), strict=True))
    text = (
        f"Smallest, the limit apart: {LABELS[first]}; {LABELS[second]} has {times(means[second] / means[first])} its error. "
        f"The RNN is ahead of the Transformer from {ahead} of {N_SEEDS} starts. "
    )
    if noise:
        over = lab.record_all(f"{key}.over_limit", {name: means[name] / limit for name in ("linear", *TRAINED)}, rtol=0.3)
        beyond = lab.record_all(f"{key}.beyond_noise", card.beyond_noise, rtol=0.6)
        text += (
            f"Relative to the limit: least squares {over['linear']:.2f}, RNN {over['rnn']:.2f}, Transformer "
            f"{over['transformer']:.2f}. Each error holds the noise of the next value itself, which nobody can know. "
            f"Measured against that value without its noise: RNN {number(beyond['rnn'])}, Transformer "
            f"{number(beyond['transformer'])}, limit {number(beyond['limit'])}."
        )
        if min(over.values()) < 1:
            text += " What is below 1 beats the fitted sine, which does not use how A, f and phi are drawn."
    else:
        text += (
            "With a known frequency a sine is a linear formula of two past values, y(t+1) = 2 cos(f) y(t) - y(t-1). Here the "
            f"frequency is not known, and one formula of {card.test[0].shape[1]} values serves all: its error is "
            f"{number(means['linear'])}."
        )
    lab.say(text)


# %% 2. What the heads look at, and what the prediction needs
# Attention says where a head looks. Whether the prediction needs it is asked by intervention: hide a position from all
# heads (mask), or replace its value by that of another sequence, and measure the error again. The last position, hidden
# from the heads, still comes in by the query and the residual path; a replaced value is replaced for all paths.


def swap(inputs: Tensor, back: int) -> Tensor:
    """(n, T) -> (n, T): the values `back` steps back come from the neighbouring sequence."""
    other = inputs.clone()
    other[:, -back] = inputs[:, -back].roll(1)
    return other


@torch.no_grad()
def measure_positions(runs: Mapping[str, Sequence[Run]], data: Data) -> dict:
    """By steps back, 1 to T, for each seed: "weights" (seeds, H, n, T); "hiding" (seeds, T), the error when a position is
    hidden from the heads; for each network "swapping" (seeds, T), the error when its value comes from another sequence,
    and "base" (seeds, 1), the error with nothing done."""
    (inputs, targets), steps_back = data, range(1, data[0].shape[1] + 1)
    transformers = [run.model for run in runs["transformer"]]

    def hidden(model: Transformer, back: int) -> float:
        mask = torch.ones(1, 1, len(steps_back), dtype=torch.bool)
        mask[..., -back] = False
        return mse(lambda x: model.look(x, mask)[0], data)

    def swapped(model: nn.Module, back: int) -> float:
        return mse(model, (swap(inputs, back), targets))

    return {
        "weights": torch.stack([model.look(inputs)[1].transpose(0, 1).flip(-1) for model in transformers]),
        "hiding": np.array([[hidden(model, back) for back in steps_back] for model in transformers]),
        "swapping": {name: np.array([[swapped(r.model, back) for back in steps_back] for r in runs[name]]) for name in runs},
        "base": {name: np.array([[mse(r.model, data)] for r in runs[name]]) for name in runs},
    }


@torch.no_grad()
def measure_paths(model: Transformer, data: Data) -> dict[str, float]:
    """The error when the last value comes from another sequence on one of its ways to the prediction, or on all."""
    inputs, targets = data
    own, strange = model.features(inputs), model.features(swap(inputs, 1))  # (n, T, d_model) each
    ways = ("residual", "query", "key_value")

    def error(changed: Sequence[str]) -> float:
        last, query, keys = (strange if way in changed else own for way in ways)
        attended, _ = model.block.attention(query[:, -1:], keys)
        return F.mse_loss(model.predict(last[:, -1:], attended), targets).item()

    return {"none": error(()), **{way: error((way,)) for way in ways}, "all": error(ways)}


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's: 1 if both have the same order, 0 if the orders have nothing in common, -1 if they are opposite."""
    ranks = [np.argsort(np.argsort(np.asarray(x))) for x in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def measure_heads(runs: Sequence[Run], data: Data) -> np.ndarray:
    """(seeds, H): the error without a head, relative to the error with all."""
    n_heads = runs[0].model.block.attention.n_heads
    return np.array([[mse(silenced(r.model, h), data) / mse(r.model, data) for h in range(n_heads)] for r in runs])


@torch.no_grad()
def measure_by_frequency(model: Transformer, length: int, noise: float, generator: torch.Generator) -> Tensor:
    """(H, 41, T): mean weights by steps back for 41 frequencies, slow to fast, over 50 sequences of each."""
    f = torch.linspace(*FREQUENCIES, 41, dtype=torch.float64).repeat_interleave(50)
    weights = model.look(sines(len(f), length, noise, generator, f)[0])[1]  # (41 * 50, H, T)
    return weights.unflatten(0, (41, 50)).mean(dim=1).transpose(0, 1).flip(-1)


def draw_patterns(weights: Tensor) -> Figure:
    """`weights` as from `measure_by_frequency`."""
    n_heads, n_f, length = weights.shape
    looks = weights @ torch.arange(1.0, length + 1)  # mean steps back, (H, frequencies)
    means, spans = (" / ".join(f"{x:.1f}" for x in values) for values in (looks.mean(1), looks.amax(1) - looks.amin(1)))
    title = f"First start: heads look {means} steps back on average; over frequencies this varies by {spans}"
    fig, axes = panels(title, (1,) * n_heads, size=(max(11, 3.9 * n_heads), 5))
    for head, ax in enumerate(axes):
        image = heatmap(ax, weights[head], column_label="steps back (key)", row_label="", limit=weights.max().item())
        ax.set(title=f"head {head}", yticks=[])
        label_steps(ax, length, first=0)
    axes[0].set_yticks(np.linspace(0, n_f - 1, 5), [f"{f:.1f}" for f in np.linspace(*FREQUENCIES, 5)])
    axes[0].set_ylabel("frequency f of the sequence (rad / step)")
    fig.colorbar(image, ax=axes, label="weight (mean of 50 sequences)", fraction=0.03)
    return fig


def label_steps(ax: Axes, length: int, first: int = 1) -> None:
    """Ticks at 1, 5, 10, ... steps back; `first` is where 1 stands on the axis."""
    back = [1, *range(5, length + 1, 5 if length <= 30 else 10)]
    ax.set_xticks([b - 1 + first for b in back], back)


def draw_heads(weights: Tensor, factors: np.ndarray) -> Figure:
    """`weights` (H, n, T) of the first seed, `factors` from `measure_heads`."""
    title = (
        f"Without one head the error is {factors.min():.2g} to {factors.max():.2g} times as large "
        f"({factors.shape[1]} heads, {len(factors)} random starts)"
    )
    fig, (left, right) = panels(title, (5, 4), size=(14, 5))
    names = [f"head {h}" for h in range(len(weights))]  # of each start: the numbers mean nothing across starts
    for h, line in zip(range(len(names)), itertools.cycle(("-", "--", "-.", ":")), strict=False):
        low, high = weights[h].quantile(torch.tensor([0.1, 0.9]), dim=0)
        curve(left, range(1, weights.shape[-1] + 1), weights[h].mean(dim=0), low=low, high=high, label=names[h], ls=line)
    label_steps(left, weights.shape[-1])
    left.set(xlabel="steps back (key)", ylabel="weight", ylim=(0, None))
    left.set_title("first start: what the heads look at\n(mean; band: 10-90 % of the sequences)")
    left.legend(ncols=2, loc="upper right")
    numbers = ".1f" if len(names) <= 8 else None
    rows = [f"start {i + 1}" for i in range(len(factors))]
    heatmap(right, factors, rows=rows, columns=names, row_label="", column_label="", limit=factors.max(), numbers=numbers)
    right.set_title("error without this head, times that with all\n(head numbers mean nothing across starts)")
    return fig


def draw_positions(found: dict) -> Figure:
    weight, swapping = found["weights"].mean(dim=(1, 2)).numpy(), found["swapping"]["transformer"]  # (seeds, T) each
    most = int(swapping.mean(axis=0).argmax())
    title = (
        f"Replacing the value {most + 1} step{'s' * (most > 0)} back costs most (error x "
        f"{(swapping / found['base']['transformer']).mean(axis=0)[most]:.2g}); the heads give it "
        f"a weight of {weight.mean(axis=0)[most]:.3f} (equal shares: {1 / weight.shape[1]:.2g})"
    )
    fig, axes = panels(title, (1, 1, 1), size=(16, 4.8))
    back = range(1, weight.shape[1] + 1)
    seed_band(axes[0], back, weight, LABELS["transformer"], **STYLES["transformer"])
    seed_band(axes[1], back, found["hiding"] / found["base"]["transformer"], LABELS["transformer"], **STYLES["transformer"])
    for name, values in found["swapping"].items():
        seed_band(axes[2], back, values / found["base"][name], LABELS[name], **STYLES[name])
    axes[0].set(title="where the heads look", ylabel=f"mean weight (band: {len(weight)} seeds)", ylim=(0, None))
    axes[1].set_title("a position is hidden from the heads")
    axes[2].set(title="a value is taken from another sequence\n(logarithmic scale)", yscale="log")
    axes[2].legend(loc="upper right")
    plain_ticks(axes[2].yaxis)
    for ax in axes:
        label_steps(ax, weight.shape[1])
        ax.set_xlabel("steps back")
    for ax in axes[1:]:
        ax.axhline(1, color="black", lw=1, ls=":")
        ax.set_ylabel("error, times that with nothing done")
    return fig


def show_attention(lab: Lab, card: Card, noise: float) -> None:
    lab.section("2. What the heads look at, and what the prediction needs")
    length = lab.options.lengths[0]
    data = sines(200 if lab.fast else 1000, length, noise, lab.generator("positions"))
    found = measure_positions(card.runs, data)
    weight = found["weights"].mean(dim=(1, 2)).numpy()  # (seeds, T)
    columns = {"attention": weight, "hiding": found["hiding"]}
    columns |= {f"swapping.{name}": values for name, values in found["swapping"].items()}
    rows = [[f"{i + 1}"] for i in range(length)]
    for name, values in columns.items():
        for row, value in zip(rows, values.mean(axis=0), strict=True):
            row.append(lab.record(f"position.{name}.{row[0]}", value, rtol=0.6, atol=0.06))
    base = lab.record_all("position.base", {name: values.mean() for name, values in found["base"].items()}, rtol=0.6)
    lab.say(
        f"The models of section 1 at noise {noise:g}, mean of {N_SEEDS} seeds, on {len(data[0])} other sequences. MSE with "
        f"nothing done: Transformer {base['transformer']:.4f}, RNN {base['rnn']:.4f}. Hidden: from the heads of the "
        "Transformer. Replaced: the value comes from another sequence."
    )
    lab.table(["steps back", "weight", "MSE, hidden", "replaced (RNN)", "replaced (Transformer)"], rows, digits=3)
    by_seed = [rank_correlation(a, b) for a, b in zip(weight, found["hiding"], strict=True)]
    correlation = lab.record("position.rank_correlation", mean(by_seed), rtol=0, atol=0.5)
    looked, hidden, swapped = (int(columns[n].mean(axis=0).argmax()) for n in ("attention", "hiding", "swapping.transformer"))
    spread = np.ptp(weight.mean(axis=0)) > 1e-3
    looks = f"Of all positions the heads look most {looked + 1} back" if spread else "The heads look at all positions alike"
    lab.say(
        f"{looks}, hiding {hidden + 1} back costs most, replacing {swapped + 1} "
        f"back costs most. Over the positions, weight and error when hidden have a rank correlation of {correlation:.2f} (1 = "
        f"same order; {', '.join(f'{c:.2f}' for c in by_seed)} by seed). The value one step back has {rows[0][1]:.3f} of the "
        f"weight; hidden from the heads it gives an error of {rows[0][2]:.3f}, replaced {rows[0][4]:.3f}."
    )
    paths = [measure_paths(run.model, data) for run in card.runs["transformer"]]
    ways = {way: lab.record(f"position.last_value.{way}", mean(p[way] for p in paths), rtol=0.6, atol=0.06) for way in paths[0]}
    lab.say(
        f"The last value has three ways in. Replaced on one of them alone: residual path {ways['residual']:.3f}, query "
        f"{ways['query']:.3f}, key and value {ways['key_value']:.3f} (on none {ways['none']:.3f}, on all {ways['all']:.3f}). "
        "Attention weights show the third only."
    )
    factors = measure_heads(card.runs["transformer"], data)
    ends = lab.record_all("heads.silenced", {"min": factors.min(), "max": factors.max()}, rtol=0.9, atol=1)
    lab.say(f"Silencing one head multiplies the error by {ends['min']:.2g} to {ends['max']:.2g} ({factors.size} heads).")
    first = card.runs["transformer"][0].model
    by_frequency = measure_by_frequency(first, length, noise, lab.generator("frequencies"))
    lab.figure(draw_patterns(by_frequency), "05_attention_patterns")
    lab.figure(draw_heads(found["weights"][0], factors), "05_multihead_analysis")
    lab.figure(draw_positions(found), "05_position_importance")


# %% 3. Recall
# A random waveform of P values repeats: the next value stands P steps back. For attention that is one look; an RNN has to
# carry the value through P steps in a state of fixed size. Each P has its own models, which never meet another P, so the
# place to look at is always the same. Rates are searched widely: with a small one the GRU learns nothing at P = 25.

PERIODS = (5, 10, 25, 50)
RECALL_RATES = (8e-3, 1.5e-2, 3e-2, 6e-2, 0.12)
RECALL_ATOL = {5: 0.05, 10: 0.15, 25: 0.8, 50: 1.0}  # RNN and GRU: whether a start learns it depends on any rounding


def waves(n: int, period: int, generator: torch.Generator) -> Data:
    """n random waveforms: one whole period and the first value of the next one as inputs, then its second."""
    y = torch.randn(n, period, generator=generator)
    return torch.cat([y, y[:, :1]], dim=1), y[:, 1].contiguous()


def measure_recall(networks: Makers, period: int, rates, seeds, sizes: Sequence[int], progress=quiet) -> dict[str, list[Run]]:
    """Each of the networks trained to recall what stands `period` steps back; sizes of training and test data."""
    sample = lambda generator: tuple(waves(n, period, generator) for n in sizes)  # noqa: E731
    return fit_all(networks, sample, 64, rates, seeds, f", period {period}", progress)


def times(factor: float) -> str:
    """ "3.2 times", "1,500 times"."""
    return f"{factor:.2g} times" if factor < 100 else f"{float(f'{factor:.2g}'):,.0f} times"


def draw_recall(runs: Mapping[int, Mapping[str, Sequence[Run]]], weight: Tensor) -> Figure:
    """`weight` (H, 26): of the first Transformer with P = 25, mean over test sequences, by steps back."""
    texts = [f"{LABELS[name]} {number(mean(errors(r)))}" for name, r in runs[25].items()]
    title = f"Recall of a value 25 steps back after {len(runs[25]['rnn'][0].losses)} training steps: error {', '.join(texts)}"
    fig, (left, right) = panels(title, (1, 1), size=(14, 5.2))
    for name in runs[25]:
        values = np.array([errors(runs[period][name]) for period in PERIODS]).T  # (seeds, periods)
        seed_band(left, PERIODS, values, LABELS[name], **STYLES[name])
    left.axhline(1, color=GREY, ls=":", label=LABELS["zero"])
    left.set(xscale="log", yscale="log", xlabel="period P", ylabel="mean squared error")
    left.set_xticks(PERIODS, PERIODS)
    left.minorticks_off()
    decades(left.yaxis)
    left.legend(loc="best")
    left.set_title(f"the next value stands P steps back (band: {len(runs[25]['rnn'])} seeds)")
    names = [f"head {h}" for h in range(len(weight))]
    image = heatmap(right, weight, rows=names, row_label="", column_label="steps back (key)")
    label_steps(right, weight.shape[1], first=0)
    right.set_title("P = 25: what the Transformer looks at (first start)")
    fig.colorbar(image, ax=right, label="weight (mean)")
    return fig


def show_recall(lab: Lab, networks: Makers) -> None:
    lab.section("3. Recall")
    n_steps, n_seeds = (4, 2) if lab.fast else (200, 2)
    networks, generator = {**networks, "gru": lambda: Recurrent(nn.GRU)}, lab.generator("recall rates")
    lab.say(
        "A random wave of P values, then its first value again; asked is the second. So the answer stands P steps back. Each "
        "P has its own models, and predicting 0 has an error of 1."
    )
    text, sample = f"at P = 25, mean of {n_seeds} starts", lambda n: waves(n, 25, generator)
    rates = show_rates(lab, "recall", networks, RECALL_RATES, sample, 2 if lab.fast else 150, n_seeds, text)
    lab.record("parameters.gru", sum(p.numel() for p in networks["gru"]().parameters()), rtol=0)
    runs, rows, means = {}, [], {}
    for period in PERIODS:
        seeds = [lab.seed(f"recall {period} {i}") for i in range(n_seeds)]
        runs[period] = measure_recall(networks, period, rates, seeds, (n_steps * 64, test_size(lab)), lab.progress)
        for name, r in runs[period].items():
            atol = 5e-3 if name == "transformer" else RECALL_ATOL[period]
            means[period, name] = lab.record(f"recall.period_{period}.{name}.mse", mean(errors(r)), rtol=1, atol=atol)
        rows.append([f"{period}", *(" / ".join(f"{x:.1e}" for x in errors(r)) for r in runs[period].values())])
    lab.say(f"MSE after {n_steps} steps of 64 sequences, one number for each of {n_seeds} starts:")
    lab.table(["period P", *(LABELS[name] for name in networks)], rows)
    model, test = runs[25]["transformer"][0].model, waves(1000, 25, lab.generator("recall test"))
    with torch.no_grad():
        weight = model.look(test[0])[1].mean(dim=0).flip(-1)  # (H, 26)
    most = lab.record("recall.period_25.weight", weight[:, 24].max(), rtol=0.6)
    factors = {p: [times(means[p, n] / means[p, "transformer"]) for n in ("rnn", "gru")] for p in (5, 25, 50)}
    lab.say(
        "Mean error against that of the Transformer: "
        + "; ".join(f"at P = {p} RNN {rnn}, GRU {gru}" for p, (rnn, gru) in factors.items())
        + f". At P = 25 the head that looks most at the value 25 steps back gives it {most:.2f} of its weight. This is what "
        f"these rates and {n_steps} steps reach, not what a network could ever learn."
    )
    lab.figure(draw_recall(runs, weight), "05_recall")


# %% 4. Four classic mistakes
# Three of them raise no error: the model trains. How much worse it gets is measured, not assumed.

MISTAKES = {
    "correct": "correct",
    "no_positions": "no positions",
    "no_scaling": "no scaling",
    "wrong_axis": "softmax over the queries",
}
MISTAKE_STYLES = [
    {"color": BLUE, "marker": "o", "ls": "-"},
    {"color": PURPLE, "marker": "v", "ls": "--"},
    {"color": SKY, "marker": "D", "ls": "-."},
    {"color": GREY, "marker": "X", "ls": ":"},
]


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


def mistaken_makers(n_heads: int = 4) -> Makers:
    """How the model of each of MISTAKES is made."""
    scale = 1 / math.sqrt(D_MODEL // n_heads)
    return {
        "correct": lambda: Transformer(n_heads),
        "no_positions": lambda: Transformer(n_heads, positions=False),
        "no_scaling": lambda: Transformer(n_heads, attention=MistakenAttention(D_MODEL, n_heads, scale=1.0)),
        "wrong_axis": lambda: Transformer(n_heads, attention=MistakenAttention(D_MODEL, n_heads, scale=scale, axis=-2)),
    }


def measure_mistakes(n_heads: int, length: int, lr: float, seeds, sizes: Sequence[int], progress=quiet) -> dict[str, list[Run]]:
    """Each of MISTAKES trained on sines without noise; sizes of training and test data."""
    sample = lambda generator: tuple(sines(n, length, 0.0, generator) for n in sizes)  # noqa: E731
    return fit_all(mistaken_makers(n_heads), sample, 64, dict.fromkeys(MISTAKES, lr), seeds, "", progress)


@torch.no_grad()
def row_sum_error(model: Transformer, inputs: Tensor) -> float:
    """How far from 1 the weights of the last query sum up, mean over heads and sequences."""
    return (model.look(inputs)[1].sum(dim=-1) - 1).abs().mean().item()


def wrong_head_count() -> str:
    """What five heads end with, which do not divide 32 features."""
    try:
        Transformer(n_heads=5)
    except ValueError as error:
        return f"ValueError: {error}"
    return "no error"


def worse(runs: Mapping[str, Sequence[Run]]) -> list[str]:
    """Which are worse than the correct model from every start, each against every other."""
    return [name for name, r in runs.items() if min(errors(r)) > max(errors(runs["correct"]))]


def draw_mistakes(runs: Mapping[str, Sequence[Run]]) -> Figure:
    means = {name: mean(errors(r)) for name, r in runs.items()}
    clear = worse(runs)
    notes = {name: "" if name in clear else " (starts overlap)" for name in means}
    factors = [f"{MISTAKES[name]} {means[name] / means['correct']:.2g}{notes[name]}" for name in list(MISTAKES)[1:]]
    title = f"Error, correct model = 1: {', '.join(factors)}"
    fig, (left, right) = panels(title, (1, 1), size=(14, 4.8))
    seed_dots(left, {MISTAKES[name]: errors(r) for name, r in runs.items()}, MISTAKE_STYLES)
    left.set(xlabel=f"mean squared error, noise 0 (dots: {len(runs['correct'])} seeds)")
    left.set_title("after training (heads that do not divide the width:\nan error before any training)")
    for (name, r), style in zip(runs.items(), MISTAKE_STYLES, strict=True):
        seed_band(right, *smooth(r), MISTAKES[name], **style | {"marker": None})
    right.set(yscale="log", xlabel="training step", ylabel="loss on new sequences", title="during training (mean and range)")
    decades(right.yaxis)
    right.legend(loc="lower left")
    return fig


def show_mistakes(lab: Lab, lr: float) -> None:
    lab.section("4. Four classic mistakes")
    (n_heads,), (length,) = lab.options.heads, lab.options.lengths
    n_steps, n_seeds = (4, 2) if lab.fast else (250, 2)
    seeds = [lab.seed(f"mistakes {i}") for i in range(n_seeds)]
    runs = measure_mistakes(n_heads, length, lr, seeds, (n_steps * 64, test_size(lab)), lab.progress)
    inputs, _ = sines(1000, length, 0.0, lab.generator("row sums"))
    means = {name: lab.record(f"mistakes.{name}.mse", mean(errors(r)), rtol=0.9) for name, r in runs.items()}
    off = {name: mean(row_sum_error(run.model, inputs) for run in r) for name, r in runs.items()}
    off = {name: lab.record(f"mistakes.{name}.row_sum_error", value, rtol=0.5, atol=1e-5) for name, value in off.items()}
    lab.say(
        f"Noise 0, {n_steps} steps of 64 sequences, mean of {n_seeds} seeds, all at section 1's rate of the Transformer; the "
        "weights are those of the last query."
    )
    rows = [[MISTAKES[n], number(means[n]), f"{means[n] / means['correct']:.2g}", off[n]] for n in MISTAKES]
    lab.table(["", "MSE", "times correct", "sum of weights off 1 by"], rows)
    named = ", ".join(MISTAKES[name] for name in worse(runs)) or "none"
    scale = 1 / math.sqrt(D_MODEL // n_heads)
    makes_up = f"are multiplied by {scale:.2f} or by 1, which training can make up for in W_Q and W_K"
    lab.say(
        f"Worse than the correct model from every start: {named}. Heads that do not divide the width end at once: "
        f"{wrong_head_count()}. No scaling: with {D_MODEL // n_heads} features a head the scores "
        f"{makes_up if scale < 1 else 'are multiplied by 1 in any case'}; Lab 1 shows the case of 512 features."
    )
    lab.figure(draw_mistakes(runs), "05_common_mistakes")


# %% Exercises: --heads 1 2 4 8 and --lengths 10 20 50 100
# A model is trained for each value; all are trained alike.

EXERCISES = {"heads": "number of heads", "lengths": "length of the input"}
EXERCISE_DEFAULTS = {"heads": 4, "lengths": 20}
ALIKE = {"rnn": 1e-2, "transformer": 1e-2}  # learning rates


def measure_variants(lab: Lab, flag: str, values: Sequence[int]) -> dict[int, dict[str, list[Run]]]:
    """For each value of the flag: runs of the Transformer, and of the RNN where the flag concerns it, at the last noise."""
    noise, n_steps = lab.options.noise[-1], 6 if lab.fast else 800
    seeds, runs = [lab.seed(f"variants {i}") for i in range(2)], {}
    for value in values:
        heads, length = (value, fixed(lab, "lengths")) if flag == "heads" else (fixed(lab, "heads"), value)
        networks = makers(heads, not lab.options.no_positions)
        networks = {name: networks[name] for name in TRAINED if name == "transformer" or flag == "lengths"}
        sample = lambda g, n=length: tuple(sines(size, n, noise, g) for size in (n_steps * 64, test_size(lab)))  # noqa: E731
        runs[value] = fit_all(networks, sample, 64, ALIKE, seeds, f", {EXERCISES[flag]} {value}", lab.progress)
    return runs


def fixed(lab: Lab, flag: str) -> int:
    """What the other comparison uses: the flag's value, or the default if it has several."""
    values = getattr(lab.options, flag)
    return values[0] if len(values) == 1 else EXERCISE_DEFAULTS[flag]


def draw_variants(runs: Mapping[int, Mapping[str, Sequence[Run]]], flag: str, text: str) -> Figure:
    means = {(value, name): mean(errors(r)) for value, by_name in runs.items() for name, r in by_name.items()}
    value, name = min(means, key=means.get)
    title = f"Smallest error: {LABELS[name]}, {EXERCISES[flag]} {value} ({number(means[value, name])}); {text}"
    fig, axes = panels(title, (1, 1), size=(13, 5))
    for name in runs[value]:
        scores = np.array([errors(by_name[name]) for by_name in runs.values()]).T  # (seeds, values)
        seed_band(axes[0], list(runs), scores, LABELS[name], **STYLES[name])
        curve(axes[1], list(runs), [fastest(by_name[name]) for by_name in runs.values()], label=LABELS[name], **STYLES[name])
    axes[0].set_yscale("log")
    for ax in axes:
        ax.set(xscale="log", xlabel=EXERCISES[flag])
        ax.set_xticks(list(runs), list(runs))
        ax.minorticks_off()
    plain_ticks(axes[0].yaxis)
    axes[0].set_ylabel("mean squared error (band: 2 seeds)")
    axes[1].set(ylim=(0, None), ylabel="seconds of training (the faster of 2)")
    axes[1].legend()
    return fig


def fastest(runs: Sequence[Run]) -> float:
    """Seconds of the fastest training; the very first one of a process is slow."""
    return min(run.seconds for run in runs)


def show_variants(lab: Lab, flag: str, values: Sequence[int]) -> None:
    lab.section(f"Exercise: {EXERCISES[flag]}")
    runs, rows = measure_variants(lab, flag, values), []
    for value, by_name in runs.items():
        rows.append([f"{value}"])
        for name, r in by_name.items():
            key = f"{flag}_{value}.{name}"
            average, deviation = (
                lab.record(f"{key}.mse_{k}", f(errors(r)), rtol=0.9) for k, f in (("mean", mean), ("std", stdev))
            )
            rows[-1] += [number(average), number(deviation), lab.record_seconds(key, fastest(r))]
    positions = "without" if lab.options.no_positions else "with"
    n_steps = len(r[0].losses)
    other = f"{fixed(lab, 'lengths')} values in" if flag == "heads" else f"{fixed(lab, 'heads')} heads"
    text = f"noise {lab.options.noise[-1]:g}, {n_steps} steps, {other}, Transformer {positions} positions"
    lab.say(
        f"{text[0].upper()}{text[1:]}, 64 sequences a step, learning rate {ALIKE['transformer']:g}; mean and standard "
        "deviation of 2 seeds, and the faster training."
    )
    header = [f"{LABELS[name]}: {column}" for name in by_name for column in ("MSE", "std", "seconds")]
    lab.table([EXERCISES[flag], *header], rows, digits=1)
    lab.figure(draw_variants(runs, flag, text), f"05_{flag}")


# %% The lab


def head_count(text: str) -> int:
    """argparse type: a number of heads that divides the width."""
    allowed = [str(n) for n in range(1, D_MODEL + 1) if D_MODEL % n == 0]
    if text not in allowed:
        raise argparse.ArgumentTypeError(f"{text!r} does not divide the width {D_MODEL}; allowed: {', '.join(allowed)}")
    return int(text)


def noise_level(text: str) -> float:
    """argparse type: a standard deviation from 0 to 10."""
    try:
        value = float(f"{float(text):g}") + 0.0  # as it is shown; turns -0 into 0
    except ValueError:
        value = -1.0
    if not 0 <= value <= 10:
        raise argparse.ArgumentTypeError(f"{text!r} is not a standard deviation from 0 to 10")
    return value


class Ordered(argparse.Action):
    """Several values, in ascending order and each once."""

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, sorted(set(values)))


def add_arguments(parser: Parser) -> None:
    for flag, kind in (("heads", head_count), ("lengths", whole_number(3, MAX_LENGTH))):
        default = EXERCISE_DEFAULTS[flag]
        text = f"{EXERCISES[flag]}, default: {default}; several values: only their comparison"
        parser.add_argument(f"--{flag}", type=kind, nargs="+", action=Ordered, default=[default], metavar="N", help=text)
    text = "standard deviation of the noise, one or several; default: 0 0.1"
    parser.add_argument("--noise", type=noise_level, nargs="+", action=Ordered, default=[0.0, 0.1], metavar="S", help=text)
    parser.add_argument("--no-positions", action="store_true", help="give no Transformer a positional encoding")


def main(lab: Lab) -> None:
    several = {flag: getattr(lab.options, flag) for flag in EXERCISES if len(getattr(lab.options, flag)) > 1}
    for flag, values in several.items():
        show_variants(lab, flag, values)
    if several:
        return
    networks = makers(lab.options.heads[0], not lab.options.no_positions)
    cards, rates = show_scores(lab, networks)
    show_attention(lab, cards[lab.options.noise[-1]], lab.options.noise[-1])
    show_recall(lab, networks)
    show_mistakes(lab, rates["transformer"])


if __name__ == "__main__":
    run(main, __file__, add_arguments)
