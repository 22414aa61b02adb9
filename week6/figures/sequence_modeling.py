"""The figures of Lab 5: this run as large markers, the random starts of the study as small grey dots."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from torch import Tensor

from common.plotting import (
    BLUE,
    GREY,
    MODEL_STYLES,
    PURPLE,
    SKY,
    VERMILLION,
    curve,
    decades,
    heatmap,
    median_of,
    number,
    panels,
    plain_ticks,
    start_dots,
)
from common.study import Study

LABELS = {
    "zero": "predict 0",
    "last": "repeat the last value",
    "linear": "linear formula",
    "rnn": "RNN",
    "rnn_2": "two-layer RNN",
    "transformer": "Transformer",
    "transformer_2": "two-layer Transformer",
    "gru": "GRU",
    "orthogonal": "RNN, orthogonal start",
    "layers_1": "one attention layer",
    "layers_2": "two attention layers",
    "limit": "limit: fitted sine",
}
STYLES = {name: MODEL_STYLES.get(label, {"color": GREY, "marker": "v", "ls": ":"}) for name, label in LABELS.items()}
STYLES |= {
    "transformer_2": {"color": SKY, "marker": "D", "ls": "-."},
    "orthogonal": {"color": PURPLE, "marker": "^", "ls": "-."},
}
STYLES |= {"rnn_2": STYLES["rnn"] | {"marker": "D"}}
MISTAKES = {
    "correct": "correct",
    "no_positions": "no positions",
    "no_scaling": "no scaling",
    "wrong_axis": "softmax over the queries",
    "correct_64": "correct, 64 features a head",
    "no_scaling_64": "no scaling, 64 features a head",
    "same_rate_64": "the same, at the rate of the correct one",
}
MISTAKE_STYLES = {
    name: {"color": BLUE if name.startswith("correct") else VERMILLION, "marker": "o" if name.startswith("correct") else "X"}
    for name in MISTAKES
}
Values = Mapping[str, float]


def rows_of_dots(
    ax: Axes, values: Values, labels: Mapping[str, str], styles: Mapping[str, Mapping], keys: Mapping[str, str], study: Study
) -> None:
    """A row for each name: a large marker and its number for this run, small grey dots for the starts of the study."""
    for i, (name, value) in enumerate(values.items()):
        starts = study.values(keys.get(name, ""))
        start_dots(ax, i, starts, along="x", width=0.5)
        ax.plot(value, i, color=styles[name]["color"], marker=styles[name]["marker"], ms=12, alpha=0.8)
        right = max([value, *starts])
        ax.annotate(number(value), (right, i), xytext=(13, 0), textcoords="offset points", va="center")
    ax.set_yticks(range(len(values)), [labels[name] for name in values])
    ax.set_ylim(len(values) - 0.4, -0.6)


def error_axis(ax: Axes) -> None:
    """Errors on a logarithmic axis, with room for the numbers at the right."""
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    ax.set_xlim(low, high * (high / low) ** 0.3)
    decades(ax.xaxis)
    ax.xaxis.set_major_locator(LogLocator(numticks=6))


def with_starts(text: str, study: Study) -> str:
    return f"{text} (small dots: {study.n} random starts)" if study else text


# --- 1. the score card ------------------------------------------------------------------------------------------------


def draw_samples(inputs: Tensor, clean: tuple[Tensor, Tensor], predictions: Mapping[str, Tensor], noise: float) -> Figure:
    """The first six of the sequences (n, T), the same without noise and their next values, and what each predicts (n,)."""
    misses = {name: (p - clean[1]).pow(2).mean().sqrt().item() for name, p in predictions.items()}
    title = (
        f"After a short training the RNN misses the curve behind noise {noise:g} by {number(misses['rnn'], 2)} "
        f"(root mean square), the Transformer by {number(misses['transformer'], 2)}"
    )
    fig, axes = panels(title, (1, 1, 1), rows=2, size=(15, 7))
    length = inputs.shape[1]
    end = length * (1 + 0.045 * (len(predictions) + 0.6))
    for i, ax in enumerate(axes):
        ax.plot(range(length), clean[0][i], color="0.75", lw=4, label="the curve without noise")
        ax.plot([length - 1, length], [clean[0][i, -1], clean[1][i]], color="0.75", lw=4)
        ax.plot(range(length), inputs[i], color="black", marker=".", lw=0.8, label="input")
        ax.plot(length, clean[1][i], color="black", marker="*", ms=15, ls="", label="where it goes next")
        for shift, (name, prediction) in enumerate(predictions.items(), 1):
            ax.plot(length + 0.045 * length * shift, prediction[i], **STYLES[name] | {"ls": ""}, ms=9, label=LABELS[name])
        ax.hlines(clean[1][i], length, end, color="black", lw=0.8, ls=":")
        ax.axvspan(length - 0.03 * length, end, color="0.92", lw=0, zorder=0)
        ax.set_xlim(right=end)
    for ax in axes[3:]:
        ax.set_xlabel(f"step t (grey field: star and predictions,\nall for step {length}, drawn side by side)")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return fig


def without(values: Values, *names: str) -> Values:
    return {name: value for name, value in values.items() if name not in names}


def draw_scores(card: Mapping[float, Values], noise: float, study: Study) -> Figure:
    """By noise: the error of each method; and, where there is noise, networks and limit enlarged."""
    pairs = [[f"sine.noise_{noise:g}.{kind}{layers}.mse" for kind in ("rnn", "transformer")] for layers in ("", "_2")]
    one, two = (study.count(*keys, where=lambda rnn, transformer: rnn < transformer) for keys in pairs)
    if one is None:
        rnn, transformer = card[noise]["rnn"], card[noise]["transformer"]
        title = f"Noise {noise:g}: the RNN's error is {number(rnn)}, that of one Transformer layer {number(transformer)}"
    else:
        title = f"Noise {noise:g}: the RNN is ahead of the Transformer in {one} of {study.n} random starts with one layer each"
        title += "" if two is None else f", in {two} with two layers each"
    shown = [
        (f"noise {level:g}", level, errors) if level else ("noise 0 (the limit is 0)", 0, without(errors, "limit"))
        for level, errors in card.items()
    ]
    if noise:
        networks = without(card[noise], "zero", "last", "linear")
        shown.append((f"noise {noise:g}: networks and limit, enlarged", noise, networks))
    fig, axes = panels(title, (1,) * len(shown), size=(6 * len(shown), 4.6))
    for ax, (heading, level, errors) in zip(axes, shown, strict=True):
        keys = {name: f"sine.noise_{level:g}.{name}{'' if name == 'limit' else '.mse'}" for name in errors}
        rows_of_dots(ax, errors, LABELS, STYLES, keys, study)
        ax.set(title=heading, xlabel="mean squared error")
    for ax in axes[: len(card)]:
        error_axis(ax)
    for ax in axes[len(card) :]:
        low, high = ax.get_xlim()
        ax.set_xlim(low, high + 0.3 * (high - low))
        ax.xaxis.set_major_locator(MaxNLocator(5))
    axes[0].set_xlabel(with_starts("mean squared error", study))
    return fig


# --- 2. what the heads look at ----------------------------------------------------------------------------------------


def draw_patterns(weights: Tensor, frequencies: tuple[float, float], n_sequences: int) -> Figure:
    """Mean weights (H, frequencies, T) by steps back, over n_sequences of each frequency, low to high."""
    n_heads, n_f, length = weights.shape
    looks = (weights @ torch.arange(1.0, length + 1)).mean(dim=1).tolist()  # mean steps back of each head
    near, far = min(range(n_heads), key=looks.__getitem__), max(range(n_heads), key=looks.__getitem__)
    title = f"This run: the heads look {looks[near]:.0f} (head {near}) to {looks[far]:.0f} (head {far}) steps back on average"
    if near == far:
        title = f"The head looks {looks[0]:.0f} steps back on average"
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


def draw_heads(weights: Tensor, factors: Sequence[float], study: Study) -> Figure:
    """The weights (H, n, T) by steps back, and by what factor the error grows without each head."""
    title = f"Silence one head, and the error is {min(factors):.2g} to {max(factors):.2g} times as large"
    fig, (left, right) = panels(title, (5, 4), size=(14, 5))
    names = [f"head {h}" for h in range(len(weights))]
    for h, line in zip(range(len(names)), itertools.cycle(("-", "--", "-.", ":")), strict=False):
        low, high = weights[h].quantile(torch.tensor([0.1, 0.9]), dim=0)
        curve(left, range(1, weights.shape[-1] + 1), weights[h].mean(dim=0), low=low, high=high, label=names[h], ls=line)
    label_steps(left, weights.shape[-1])
    left.set(xlabel="steps back (key)", ylabel="weight", ylim=(0, None))
    left.set_title("what the heads look at\n(mean; band: 10-90 % of the sequences)")
    left.legend(ncols=2, loc="upper right")
    bars = right.bar(names, factors, color=BLUE)
    right.bar_label(bars, fmt="%.2g")
    right.axhline(1, color="black", lw=1, ls=":")
    if study:
        for at, name in ((len(names), "min"), (len(names) + 1, "max")):
            start_dots(right, at, study.values(f"heads.silenced.{name}"))
        right.set_xticks(range(len(names) + 2), [*names, "least\nneeded", "most\nneeded"])
    right.set(ylabel="error without it, times that with all heads")
    right.set_title(with_starts("a head is silenced", study))
    return fig


def draw_positions(
    weight: Sequence[float], hidden: Sequence[float], replaced: Sequence[float], base: float, study: Study
) -> Figure:
    """By steps back: the weight, the error when a position is hidden from the heads, and when its value is replaced; and
    the error with nothing done."""
    most = int(np.argmax(replaced))
    title = (
        f"Replacing the value {most + 1} step{'s' * (most > 0)} back costs most (error x {replaced[most] / base:.2g}), "
        f"and yet the heads give it a weight of {weight[most]:.3f}"
    )
    fig, axes = panels(title, (1, 1, 1), size=(16, 4.8))
    back = range(1, len(weight) + 1)
    for ax, name, values in zip(axes, ("attention", "hiding", "replacing"), (weight, hidden, replaced), strict=True):
        ax.plot(back, values, **STYLES["transformer"])
        for b in back:
            start_dots(ax, b, study.values(f"position.{name}.{b}"))
        label_steps(ax, len(weight))
        ax.set_xlabel("steps back")
    axes[0].set(title=with_starts("where the heads look", study), ylabel="mean weight", ylim=(0, None))
    axes[1].set(title="a position is hidden from the heads", ylabel="error")
    axes[2].set(title="a value is taken from another sequence", ylabel="error")
    for ax in axes[1:]:
        ax.axhline(base, color="black", lw=1, ls=":", label="nothing done")
        ax.set_yscale("log")
        plain_ticks(ax.yaxis)
    axes[2].legend(loc="upper right")
    return fig


# --- 3. recall ----------------------------------------------------------------------------------------------------------

CONTENT = {
    "1.accuracy": "one layer",
    "2.accuracy": "two layers",
    "unseen": "two layers, longer periods",
    "reversed.layers_2.followed": "two layers, a round back",
    "silenced": "two layers, first silenced",
    "hidden.1": "two layers,\nprevious token hidden",
    "hidden.2": "two layers,\ntoken two before hidden",
    "gru": "GRU",
    "gru_unseen": "GRU, longer periods",
    "reversed.gru.followed": "GRU, a round back",
}


def draw_recall(
    recalled: Mapping[str, Mapping[str, float]],
    fixed_place: float,
    content: Values,
    second: Tensor,
    tokens: Tensor,
    period: int,
    study: Study,
) -> Figure:
    """The errors at a fixed distance (`fixed_place`: with the answer always at one place), the shares of right tokens by
    content, and what the second layer looks at (T, T) in a sequence of tokens (T,)."""
    one, two = (study.median(f"induction.{n}.accuracy") if study else content[f"{n}.accuracy"] for n in (1, 2))
    title = f"Recall by content: two attention layers are right in {two:.2f} of all cases, one in {one:.2f}"
    title += median_of(study.n)
    fig, (left, middle, right) = panels(title, (4, 4, 5), size=(18, 6.2))
    errors = {name: found["mse"] for name, found in recalled.items()} | {"fixed": fixed_place}
    keys = {name: f"recall.period_{period}.{name}.mse" for name in recalled} | {"fixed": "recall.fixed_place.transformer.mse"}
    labels, styles = LABELS | {"fixed": "Transformer,\nplace fixed"}, STYLES | {"fixed": STYLES["transformer"]}
    labels |= {"orthogonal": "RNN,\northogonal start"}
    rows_of_dots(left, errors, labels, styles, keys, study)
    left.axvline(1, color=GREY, ls=":")
    error_axis(left)
    left.set(xlabel="mean squared error (dotted: predict 0)", title=f"fixed distance: {period} steps back")
    styles = {name: STYLES["gru" if "gru" in name else "transformer"] for name in CONTENT}
    shown = {name: content[name] for name in CONTENT}
    rows_of_dots(middle, shown, CONTENT, styles, {name: f"induction.{name}" for name in CONTENT}, study)
    middle.set(xlim=(0, 1.25), xlabel=with_starts("share of right tokens", study), title="by content: a new period each time")
    middle.set_xticks(np.linspace(0, 1, 6))  # the rest is room for the numbers
    middle.spines["bottom"].set_bounds(0, 1)
    letters = [chr(ord("a") + t) for t in tokens.tolist()]
    image = heatmap(right, second, rows=letters, columns=letters)
    right.set_title("the second layer: from the second round on, each\ntoken looks at what followed it before")
    fig.colorbar(image, ax=right, label="weight")
    return fig


# --- 4. mistakes --------------------------------------------------------------------------------------------------------


def draw_mistakes(errors: Values, n_steps: int, d_head: int, study: Study) -> Figure:
    """The error of the correct model and of each mistake, with d_head features a head, and with 64."""
    pairs = (("no_scaling", "correct"), ("no_scaling_64", "correct_64"))
    if study:
        keys = [[f"mistakes.{name}.mse" for name in pair] for pair in pairs]
        small, large = (study.count(*pair, where=lambda wrong, right: wrong > right) for pair in keys)
        found = f"in {small} of {study.n} random starts with {d_head} features a head, in {large} with 64"
        title = f"Each at a learning rate of its own: without scaling the model is worse {found}"
    else:
        small, large = (errors[wrong] / errors[right] for wrong, right in pairs)
        title = f"No scaling multiplies the error by {small:.2g} with {d_head} features a head, by {large:.2g} with 64"
    fig, (ax,) = panels(title, (1,), size=(13, 5))
    keys = {name: f"mistakes.{name}.mse" for name in errors}
    rows_of_dots(ax, errors, MISTAKES, MISTAKE_STYLES, keys, study)
    error_axis(ax)
    ax.set_xlabel(with_starts(f"mean squared error after {n_steps} steps, noise 0", study))
    return fig


# --- 5. how many digits hold --------------------------------------------------------------------------------------------


def draw_sensitivity(apart: Mapping[tuple[str, float], np.ndarray], nudge: float, study: Study) -> Figure:
    """By network and learning rate: by how much two losses differ, relative to the loss, at each step."""
    names, rates = list(dict.fromkeys(n for n, _ in apart)), sorted({rate for _, rate in apart})
    n_steps = len(apart[names[0], rates[0]])
    ends = {name: [ending(apart, study, name, rate) for rate in (rates[0], rates[-1])] for name in names}
    name = max(names, key=lambda name: ends[name][1])
    title = (
        f"One weight changed by {nudge:.0e}: after {n_steps} steps the {LABELS[name]}'s loss differs by {ends[name][0]:.0e} "
        f"at rate {rates[0]:g}, by {ends[name][1]:.0e} at {rates[-1]:g}{median_of(study.n)}"
    )
    fig, axes = panels(title, (1,) * len(names), size=(7 * len(names), 5))
    colors = (SKY, BLUE, VERMILLION)
    for ax, name in zip(axes, names, strict=True):
        for i, (rate, color, line) in enumerate(zip(rates, colors, ("-", "--", "-."), strict=True)):
            highest = np.array([apart[name, rate][max(0, t - 9) : t + 1].max() for t in range(n_steps)])
            ax.plot(range(1, n_steps + 1), np.maximum(highest, 1e-17), color=color, ls=line, label=f"rate {rate:g}")
            values = study.values(f"sensitivity.{name}.lr_{rate:g}")
            start_dots(ax, n_steps * (1.05 + 0.06 * i), values, width=n_steps / 25, color=color)
        ax.set(yscale="log", ylim=(1e-17, 10), xlabel="training step", title=with_starts(LABELS[name], study))
        ax.set_yticks([1e-16, 1e-12, 1e-8, 1e-4, 1])
        ax.axhline(nudge, color="black", lw=1, ls=":", label="the nudge")
    axes[0].set_ylabel("difference of the two losses,\nrelative (largest of 10 steps)")
    axes[0].legend(loc="upper left")
    return fig


def ending(apart: Mapping[tuple[str, float], np.ndarray], study: Study, name: str, rate: float) -> float:
    """The difference at the end, of the median start if there is a study."""
    found = study.median(f"sensitivity.{name}.lr_{rate:g}")
    return apart[name, rate][-20:].max() if found is None else found


# --- the exercise -----------------------------------------------------------------------------------------------------


def draw_comparison(
    errors: Mapping[int, Mapping[str, Mapping[str, float]]], seconds: Mapping[int, Values], quantity: str, text: str
) -> Figure:
    """By value of the `quantity`: the errors, and the seconds that a training took; `text` says how all were trained."""
    found = {(value, name): kept["mse"] for value, by_name in errors.items() for name, kept in by_name.items()}
    value, name = min(found, key=found.get)
    title = f"Smallest error: {LABELS[name]}, {quantity} {value} ({number(found[value, name])}); {text}"
    fig, axes = panels(title, (1, 1), size=(13, 5))
    for name in errors[value]:
        curve(axes[0], list(errors), [found[value, name] for value in errors], label=LABELS[name], **STYLES[name])
        curve(axes[1], list(errors), [by_name[name] for by_name in seconds.values()], label=LABELS[name], **STYLES[name])
    axes[0].set_yscale("log")
    for ax in axes:
        ax.set(xscale="log", xlabel=quantity)
        ax.set_xticks(list(errors), list(errors))
        ax.minorticks_off()
    plain_ticks(axes[0].yaxis)
    axes[0].set_ylabel("mean squared error")
    axes[1].set(ylim=(0, None), ylabel="seconds of training")
    axes[1].legend()
    return fig
