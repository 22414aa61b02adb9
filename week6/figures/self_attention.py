"""The figures of Lab 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator
from torch import Tensor

from common.plotting import (
    BLUE,
    GREY,
    MODEL_STYLES,
    ORANGE,
    SKY,
    VERMILLION,
    curve,
    decades,
    heatmap,
    number,
    panels,
    start_band,
    start_dots,
)

TIMED_STYLES = MODEL_STYLES | {"fused attention": MODEL_STYLES["attention"] | {"ls": ":", "marker": "D", "mfc": "white"}}


def over_starts(values: Sequence[float], digits: int = 2) -> str:
    """ "0.97", or with several starts "0.95 (median of 24 starts, 0.86 to 0.97)"."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    low, middle, high = min(values), median(values), max(values)
    return f"{middle:.{digits}f} (median of {len(values)} starts, {low:.{digits}f} to {high:.{digits}f})"


def draw_components(
    words: Sequence[str],
    seen: Mapping[str, Tensor],
    head: int,
    questions: Sequence[str],
    asked: Tensor,
    answers: Sequence[str],
    weight: Sequence[float],
) -> Figure:
    """`seen`: "X" (T, d_model), "Q", "K", "V" and "output" (T, d_head) and "weights" (T, T) of the `head` that looks most at
    single words; `asked` (questions, T) and `answers`: where each question looks, and the word that it names; `weight`: how
    much lies on the answer, by start."""
    title = f"Cross-attention on new sentences: {over_starts(weight)} of the weight lies on the answer"
    fig, axes = panels(title, (3.6, 2.0, 2.0), size=(18, 5.2))
    components(axes[0], words, {name: seen[name] for name in ("X", "Q", "K", "V", "output")})
    axes[0].set_title(f"head {head}, which looks most at single words: each row\na word, each column a feature (red +, blue -)")
    numbers = ".2f" if len(words) < 10 else None
    heatmap(axes[1], seen["weights"], rows=words, columns=words, numbers=numbers)
    d_head = seen["Q"].shape[1]
    axes[1].set_title(f"SELF: words ask words\nweights = softmax(Q K^T / sqrt({d_head}))")
    rows = [f"{question} {answer}" for question, answer in zip(questions, answers, strict=True)]
    image = heatmap(axes[2], asked, rows=rows, columns=words, row_label="", numbers=numbers)
    axes[2].set_title("CROSS: questions ask words\n(question, and the answer that it gives)")
    fig.colorbar(image, ax=axes[1:], label="weight")
    return fig


def components(ax: Axes, words: Sequence[str], parts: Mapping[str, Tensor]) -> None:
    """Matrices with one row a word side by side, each scaled to its own largest value."""
    gap = np.full((len(words), 2), np.nan)
    columns, places, start = [], [], 0
    for part in parts.values():
        matrix = np.asarray(part / part.abs().max())
        places.append(start + (matrix.shape[1] - 1) / 2)
        columns += [matrix, gap]
        start += matrix.shape[1] + gap.shape[1]
    heatmap(ax, np.hstack(columns[:-1]), rows=words, row_label="", column_label="", signed=True)
    ax.set_facecolor("white")
    labels = {
        "X": "X\nembedding + position",
        "Q": "Q\n= X W_Q",
        "K": "K\n= X W_K",
        "V": "V\n= X W_V",
        "output": "output",
    }
    ax.set_xticks(places, [labels[name] for name in parts])
    ax.tick_params(length=0)


def draw_heads(
    found: Mapping[str, Mapping],
    looks_at: Mapping[str, str],
    verdicts: Mapping[str, tuple[int, int, bool]],
    starts: Mapping[str, Mapping[str, Sequence[float]]],
) -> Figure:
    """`found` for each skill: "attention" (H,) to the word that it `looks_at`, and the share of the log-odds "lost" (H,)
    without each head, and without its "pairs"; `verdicts` on this run; `starts`: for each skill what each start of the study
    gave, on how many heads it hangs ("needed") and whether one may be "named"."""
    n_heads, n = len(found["agreement"]["lost"]), len(starts["agreement"]["needed"])
    outcomes = {skill: [verdict[1:]] for skill, verdict in verdicts.items()}  # this run
    if n:
        outcomes = {skill: list(zip(some["needed"], some["named"], strict=True)) for skill, some in starts.items()}
    single = {skill: sum(needed == 1 for needed, _ in some) for skill, some in outcomes.items()}
    if n:
        agreement, objects = single["agreement"], single["object"]
        title = f"Agreement hangs on a single head in {agreement} of {n} random starts, the choice of the object in {objects}"
    else:
        alone = [skill for skill, count in single.items() if count]
        title = f"In this run what hangs on a single head: {', '.join(alone) if alone else 'nothing'}"
    fig, axes = panels(title, (3, 3, 3), size=(16, 5))
    heads = [f"head {h}" for h in range(n_heads)]
    targets = [f"{skill}:\n{role}" for skill, role in looks_at.items()]
    looking, using = (torch.stack([data[name] for data in found.values()], dim=1) for name in ("attention", "lost"))
    if n_heads > 1:
        using = torch.cat([using, torch.tensor([[max(data["pairs"].values()) for data in found.values()]])])
    rows = [*heads, "a pair"][: len(using)]  # the pair that costs most
    image = heatmap(axes[0], looking, rows=heads, columns=targets, row_label="", column_label="", numbers=".2f")
    heatmap(axes[1], using, rows=rows, columns=list(found), row_label="", column_label="", numbers=".2f")
    for ax, columns in ((axes[0], targets), (axes[1], list(found))):
        ax.set_xticks(range(len(columns)), columns, rotation=0, ha="center", fontsize=9)
    axes[0].set_title("LOOKING (this run): weight from the gap\nto the word that decides")
    axes[1].set_title("USING (this run): share of the log-odds lost\nwithout the head, and without the pair that costs most")
    axes[1].axhline(n_heads - 0.5, color="white", lw=4)
    fig.colorbar(image, ax=axes[1], label="weight, or share lost")
    stacked(axes[2], outcomes)
    axes[2].set_title(f"{n} random starts" if n else "this run")
    return fig


def stacked(ax: Axes, outcomes: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """For each skill a bar of all starts: one head that may be named, one head that does not look, two heads, more."""
    kinds = {
        "one head, which may be named": (BLUE, lambda needed, named: named),
        "one head, which may not": (SKY, lambda needed, named: needed == 1 and not named),
        "shared by two": (ORANGE, lambda needed, named: needed == 2),
        "by more": (GREY, lambda needed, named: needed > 2),
    }
    left = np.zeros(len(outcomes))
    for label, (color, holds) in kinds.items():
        counts = np.array([sum(bool(holds(*outcome)) for outcome in some) for some in outcomes.values()])
        bars = ax.barh(range(len(outcomes)), counts, left=left, color=color, label=label, height=0.6)
        ax.bar_label(
            bars, [str(count) if count else "" for count in counts], label_type="center", color="white", fontweight="bold"
        )
        left += counts
    ax.set_yticks(range(len(outcomes)), list(outcomes))
    ax.set(ylim=(len(outcomes) - 0.4, -0.6), xlabel="starts", xlim=(0, max(left)))
    ax.grid(False)
    ax.legend(loc="upper center", bbox_to_anchor=(0.45, -0.16), ncols=2, fontsize=9)


def draw_rnn(
    lengths: Sequence[int],
    d: int,
    times: Mapping[str, Sequence[float]],
    n_times: int,
    exponents: Mapping[str, float],
    fitted_from: int,
    memory: Mapping[str, Sequence[int]],
    paths: Mapping[str, Tensor],
    distances: Sequence[int],
    spread: Mapping[str, Sequence[Sequence[float]]],
    keeps: Mapping[str, Sequence[float]],
) -> Figure:
    """Over the lengths, in layers of width d: seconds, the fastest of `n_times`, with the exponents fitted from the length
    `fitted_from` on, and bytes kept; `paths` (n,): the gradient by distance, `spread`: what the starts of the study gave at the
    `distances`, and `keeps`: what the layers keep with each step, by start."""
    rnn, attention = over_starts(keeps["RNN"]), median(keeps["attention"])
    title = f"With each step back an untrained RNN keeps {rnn} of its gradient, attention {attention:.2f}"
    fig, axes = panels(title, (1, 1, 1.2), size=(16, 5))
    for kind, values in times.items():
        label = f"{kind}: n^{exponents[kind]:.1f}"
        curve(axes[0], lengths, [1e3 * value for value in values], label=label, **TIMED_STYLES[kind])
    axes[0].set(title=f"time, forward + backward (d = {d}),\nn^p fitted from n = {fitted_from} on")
    axes[0].set_ylabel(f"ms (fastest of {n_times})")
    for kind, y in memory.items():
        label = {"RNN": "RNN: its state", "attention": "attention: keys and values"}.get(kind, kind)
        curve(axes[1], lengths, y, label=label, **MODEL_STYLES[kind])
    axes[1].set(title="kept at inference, so that the\nnext word can use it", ylabel="memory")
    for kind, path in paths.items():
        curve(axes[2], range(len(path)), path, label=kind, **MODEL_STYLES[kind] | {"marker": None})
        start_band(axes[2], distances, spread[kind], color=MODEL_STYLES[kind]["color"])
    n = len(spread["RNN"][0])
    band = f", band: 80 % of {n} starts" if n else ""
    axes[2].set(yscale="log", ylim=(1e-25, 300), xlabel="distance T - t", ylabel="norm of d h_T / d x_t")
    axes[2].set_title(f"path: how much of an input arrives\n(untrained; line: this run{band})")
    for ax in axes[:2]:
        ax.set(xscale="log", yscale="log", xlabel="length n", xticks=lengths[::3], xticklabels=[str(n) for n in lengths[::3]])
    for ax in axes:
        ax.minorticks_off()
        ax.legend(loc="lower left" if ax is axes[2] else "upper left", fontsize=9)
    axes[0].set_ylim(top=axes[0].get_ylim()[1] * 4)
    axes[1].set_ylim(top=axes[1].get_ylim()[1] * 4)
    decades(axes[0].yaxis)
    axes[2].yaxis.set_major_locator(LogLocator(base=1e6, numticks=9))
    axes[2].yaxis.set_major_formatter(lambda y, _: f"{y:.0e}".replace("e-0", "e-") if y < 1e-3 else f"{y:g}")
    axes[1].yaxis.set_major_formatter(EngFormatter("B"))  # 10 kB, 1 MB
    return fig


SINK_NAMES = {"without": "without", "with": "first token", "plus_one": "1 in the\ndenominator"}


def draw_sink(
    marked: Tensor,
    values: Tensor,
    shown: Mapping[str, Sequence[Tensor]],
    measured: Mapping[str, float],
    errors: Mapping[str, Sequence[float]],
) -> Figure:
    """One problem's `marked` and `values` (n,); `shown`: by place to rest the weights when asked and when idle, (n,) or
    with one for a first token before it; `measured`: the error left in this run; `errors`: in each start."""
    left = {rest: median(errors[rest] or [measured[rest]]) for rest in measured}
    title = (
        f"Idle, a softmax must look somewhere: without a place to rest {left['without']:.2f} of the error is left, "
        f"with one {number(left['with'], 1)}"
    )
    fig, axes = panels(title, (2.4, 1), size=(15, 5))
    rows, names = [], []
    for rest, pair in shown.items():
        for weights, state in zip(pair, ("asked", "idle"), strict=True):
            missing = 1 - weights.sum()
            first = {"with": weights[0], "plus_one": missing}.get(rest, torch.tensor(torch.nan))
            rows.append(torch.cat([first[None], weights[-len(values) :]]))
            names.append(f"{SINK_NAMES[rest]}: {state}".replace("\n", " "))
    columns = ["rest", *(f"*{value:.2f}*" if mark else f"{value:.2f}" for value, mark in zip(values, marked, strict=True))]
    image = heatmap(
        axes[0], torch.stack(rows), rows=names, columns=columns, row_label="", column_label="value (*marked*)", numbers=".2f"
    )
    for text in axes[0].texts:
        if text.get_text() == "nan":
            text.set(text="none", color="black")
    axes[0].set_title("weights of one problem: a place to rest takes what is not needed")
    fig.colorbar(image, ax=axes[0], label="weight")
    for i, (rest, value) in enumerate(measured.items()):
        axes[1].plot(i, value, "o", ms=12, color=VERMILLION if rest == "without" else BLUE)
        axes[1].annotate(number(value, 2), (i, value), xytext=(10, 6), textcoords="offset points")
        start_dots(axes[1], i, errors[rest])
    n = len(errors["with"])
    spread = f"\n(large: this run; grey: {n} starts)" if n else ""
    axes[1].set(yscale="log", ylim=(1e-6, 5), xlim=(-0.5, len(measured) - 0.3))
    axes[1].set_title(f"error, if always answering 0 is 1{spread}")
    axes[1].set_xticks(range(len(measured)), [SINK_NAMES[rest] for rest in measured])
    decades(axes[1].yaxis)
    return fig
