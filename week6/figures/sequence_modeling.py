"""The figures of Lab 5. A network's errors are lists with one number for each start."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from statistics import mean

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

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
Errors = Mapping[str, Sequence[float]]


# --- 1. the score card ------------------------------------------------------------------------------------------------


def draw_samples(inputs: Tensor, targets: Tensor, predictions: Mapping[str, Tensor], noise: float) -> Figure:
    """The first six of the sequences (n, T), their next values and those that each predicts (n,)."""
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


def draw_scores(scores: Mapping[float, Errors], limits: Mapping[float, float]) -> Figure:
    """By noise: the errors of each method, and the limit."""
    best = {noise: min(errors, key=lambda name, errors=errors: mean(errors[name])) for noise, errors in scores.items()}
    texts = [f"{LABELS[name]} at noise {noise:g} ({number(mean(scores[noise][name]))})" for noise, name in best.items()]
    fig, axes = panels(
        f"Smallest error, the limit apart: {', '.join(texts)}", (1,) * len(scores), size=(max(9, 7 * len(scores)), 4.6)
    )
    for ax, (noise, errors) in zip(axes, scores.items(), strict=True):
        seed_dots(ax, {LABELS[name]: by_seed for name, by_seed in errors.items()}, [STYLES[name] for name in errors])
        if noise:
            ax.axvline(limits[noise], color="black", ls="--")
            ax.set_xlim(left=min(ax.get_xlim()[0], limits[noise] / 2))
        line = "dashed: " if noise else "not shown: "
        ax.set(xlabel=f"mean squared error (dots: {len(errors['linear'])} seeds)")
        ax.set_title(f"noise {noise:g} ({line}{LABELS['limit']}, {number(limits[noise])})")
    return fig


def draw_learning(
    losses: Mapping[float, Mapping[str, np.ndarray]], linear: Mapping[float, float], limits: Mapping[float, float]
) -> Figure:
    """By noise: the losses (seeds, steps) of each network, the error of least squares, and the limit."""
    noise = list(losses)[-1]
    steps = ", ".join(f"{LABELS[name]} {passing(some, linear[noise])}" for name, some in losses[noise].items())
    title = f"Noise {noise:g}: the loss falls below that of least squares after about {steps} steps"
    fig, axes = panels(title, (1,) * len(losses), size=(max(11, 7 * len(losses)), 4.6))
    for ax, (noise, by_name) in zip(axes, losses.items(), strict=True):
        ax.set_yscale("log")
        for name, some in by_name.items():
            steps, smoothed = smooth(some)
            seed_band(ax, steps, smoothed, LABELS[name], **STYLES[name] | {"marker": None})
        if noise:
            ax.axhline(linear[noise], color=GREY, ls=":", label=LABELS["linear"])
            ax.axhline(limits[noise], color="black", ls="--", label=LABELS["limit"])
            plain_ticks(ax.yaxis)
        else:
            decades(ax.yaxis)
        ax.set(xlabel=f"training step (each point: mean of {2 * steps[0] + 1:.0f})", title=f"noise {noise:g}")
        ax.legend()
    axes[0].set_ylabel(f"loss on new sequences\n(mean and range of {len(some)} seeds)")
    return fig


def smooth(losses: np.ndarray, n_stretches: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """(seeds, steps) -> the steps in the middle of each stretch, and the mean loss in it (seeds, stretches)."""
    stretches = np.array_split(np.arange(losses.shape[1]), min(n_stretches, losses.shape[1]))
    middles = np.array([stretch.mean() for stretch in stretches])
    return middles, np.stack([losses[:, stretch].mean(axis=1) for stretch in stretches], axis=1)


def passing(losses: np.ndarray, level: float) -> str:
    """When the mean of the losses (seeds, steps) falls below the level for the first time."""
    steps, smoothed = smooth(losses)
    below = steps[smoothed.mean(axis=0) < level]
    return f"{below[0]:.0f}" if len(below) else "never"


# --- 2. what the heads look at ----------------------------------------------------------------------------------------


def draw_patterns(weights: Tensor, frequencies: tuple[float, float], n_sequences: int) -> Figure:
    """Mean weights (H, frequencies, T) of the first start by steps back, over n_sequences of each frequency, low to high."""
    n_heads, n_f, length = weights.shape
    looks = weights @ torch.arange(1.0, length + 1)  # mean steps back, (H, frequencies)
    means, spans = (" / ".join(f"{x:.1f}" for x in values) for values in (looks.mean(1), looks.amax(1) - looks.amin(1)))
    title = f"First start: heads look {means} steps back on average; over frequencies this varies by {spans}"
    fig, axes = panels(title, (1,) * n_heads, size=(max(11, 3.9 * n_heads), 5))
    for head, ax in enumerate(axes):
        image = heatmap(ax, weights[head], column_label="steps back (key)", row_label="", limit=weights.max().item())
        ax.set(title=f"head {head}", yticks=[])
        label_steps(ax, length, first=0)
    axes[0].set_yticks(np.linspace(0, n_f - 1, 5), [f"{f:.1f}" for f in np.linspace(*frequencies, 5)])
    axes[0].set_ylabel("frequency f of the sequence (rad / step)")
    fig.colorbar(image, ax=axes, label=f"weight (mean of {n_sequences} sequences)", fraction=0.03)
    return fig


def label_steps(ax: Axes, length: int, first: int = 1) -> None:
    """Ticks at 1, 5, 10, ... steps back; `first` is where 1 stands on the axis."""
    back = [1, *range(5, length + 1, 5 if length <= 30 else 10)]
    ax.set_xticks([b - 1 + first for b in back], back)


def draw_heads(weights: Tensor, factors: np.ndarray) -> Figure:
    """The weights (H, n, T) of the first start by steps back, and by what factor (starts, H) the error grows without a head."""
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


def draw_positions(
    weight: np.ndarray, hidden: np.ndarray, replaced: Mapping[str, np.ndarray], base: Mapping[str, Sequence[float]]
) -> Figure:
    """By steps back, (seeds, T) each: the weight, the error when a position is hidden from the heads, for each network the
    error when a value is replaced; and the error of each start with nothing done."""
    factors = {name: errors / np.array(base[name])[:, None] for name, errors in replaced.items()}
    most = int(replaced["transformer"].mean(axis=0).argmax())
    title = (
        f"Replacing the value {most + 1} step{'s' * (most > 0)} back costs most (error x "
        f"{factors['transformer'].mean(axis=0)[most]:.2g}); the heads give it "
        f"a weight of {weight.mean(axis=0)[most]:.3f} (equal shares: {1 / weight.shape[1]:.2g})"
    )
    fig, axes = panels(title, (1, 1, 1), size=(16, 4.8))
    back = range(1, weight.shape[1] + 1)
    hidden = hidden / np.array(base["transformer"])[:, None]
    for ax, values in zip(axes, (weight, hidden), strict=False):
        seed_band(ax, back, values, LABELS["transformer"], **STYLES["transformer"])
    for name, values in factors.items():
        seed_band(axes[2], back, values, LABELS[name], **STYLES[name])
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


# --- 3. and 4. recall and mistakes ------------------------------------------------------------------------------------


def draw_recall(errors: Mapping[int, Errors], n_steps: int, weight: Tensor, at: int) -> Figure:
    """The errors by period; `weight` (H, T) by steps back: of the first Transformer with the period `at`, mean over test
    sequences."""
    texts = [f"{LABELS[name]} {number(mean(by_seed))}" for name, by_seed in errors[at].items()]
    title = f"Recall of a value {at} steps back after {n_steps} training steps: error {', '.join(texts)}"
    fig, (left, right) = panels(title, (1, 1), size=(14, 5.2))
    for name in errors[at]:
        values = np.array([by_name[name] for by_name in errors.values()]).T  # (seeds, periods)
        seed_band(left, list(errors), values, LABELS[name], **STYLES[name])
    left.axhline(1, color=GREY, ls=":", label=LABELS["zero"])
    left.set(xscale="log", yscale="log", xlabel="period P", ylabel="mean squared error")
    left.set_xticks(list(errors), list(errors))
    left.minorticks_off()
    decades(left.yaxis)
    left.legend(loc="best")
    left.set_title(f"the next value stands P steps back (band: {len(errors[at]['rnn'])} seeds)")
    names = [f"head {h}" for h in range(len(weight))]
    image = heatmap(right, weight, rows=names, row_label="", column_label="steps back (key)")
    label_steps(right, weight.shape[1], first=0)
    right.set_title(f"P = {at}: what the Transformer looks at (first start)")
    fig.colorbar(image, ax=right, label="weight (mean)")
    return fig


def draw_mistakes(errors: Errors, losses: Mapping[str, np.ndarray], worse: Sequence[str], noise: float) -> Figure:
    """Of each of MISTAKES the errors and the losses (seeds, steps); `worse`: those that are worse from every start."""
    means = {name: mean(by_seed) for name, by_seed in errors.items()}
    notes = {name: "" if name in worse else " (starts overlap)" for name in means}
    factors = [f"{MISTAKES[name]} {means[name] / means['correct']:.2g}{notes[name]}" for name in list(MISTAKES)[1:]]
    title = f"Error, correct model = 1: {', '.join(factors)}"
    fig, (left, right) = panels(title, (1, 1), size=(14, 4.8))
    seed_dots(left, {MISTAKES[name]: by_seed for name, by_seed in errors.items()}, MISTAKE_STYLES)
    left.set(xlabel=f"mean squared error, noise {noise:g} (dots: {len(errors['correct'])} seeds)")
    left.set_title("after training (heads that do not divide the width:\nan error before any training)")
    for (name, some), style in zip(losses.items(), MISTAKE_STYLES, strict=True):
        seed_band(right, *smooth(some), MISTAKES[name], **style | {"marker": None})
    right.set(yscale="log", xlabel="training step", ylabel="loss on new sequences", title="during training (mean and range)")
    decades(right.yaxis)
    right.legend(loc="lower left")
    return fig


# --- the exercise -----------------------------------------------------------------------------------------------------


def draw_comparison(
    errors: Mapping[int, Errors], seconds: Mapping[int, Mapping[str, float]], quantity: str, text: str
) -> Figure:
    """By value of the `quantity`: the errors, and the seconds that a training took; `text` says how all were trained."""
    means = {(value, name): mean(by_seed) for value, by_name in errors.items() for name, by_seed in by_name.items()}
    value, name = min(means, key=means.get)
    title = f"Smallest error: {LABELS[name]}, {quantity} {value} ({number(means[value, name])}); {text}"
    fig, axes = panels(title, (1, 1), size=(13, 5))
    for name in errors[value]:
        scores = np.array([by_name[name] for by_name in errors.values()]).T  # (seeds, values)
        seed_band(axes[0], list(errors), scores, LABELS[name], **STYLES[name])
        curve(axes[1], list(errors), [by_name[name] for by_name in seconds.values()], label=LABELS[name], **STYLES[name])
    axes[0].set_yscale("log")
    for ax in axes:
        ax.set(xscale="log", xlabel=quantity)
        ax.set_xticks(list(errors), list(errors))
        ax.minorticks_off()
    plain_ticks(axes[0].yaxis)
    axes[0].set_ylabel(f"mean squared error (band: {len(scores)} seeds)")
    axes[1].set(ylim=(0, None), ylabel=f"seconds of training (the faster of {len(scores)})")
    axes[1].legend()
    return fig
