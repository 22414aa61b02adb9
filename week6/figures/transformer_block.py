"""The figures of Lab 4. Each takes the lab's study, of which it shows the starts; without one it shows this run alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from common.plotting import (
    BLUE,
    GREEN,
    GREY,
    PURPLE,
    VERMILLION,
    curve,
    decades,
    heatmap,
    median_of,
    panels,
    start_band,
    start_dots,
)
from common.study import Study
from common.transformer import ACTIVATIONS

STYLES = {
    "none": {"color": GREY, "marker": "^"},
    "post": {"color": PURPLE, "marker": "s"},
    "pre": {"color": GREEN, "marker": "o"},
}
LOWEST = 1e-12  # share of a gradient that is drawn; below it the curves that matter would lie on each other
FLOW = {  # what each of the seven stages is made of
    "post": ("", " of 1", ": 1 + 2", " of 3", " of 4", ": 4 + 5", " of 6"),
    "pre": ("", " of 1", " of 2", ": 1 + 3", " of 4", " of 5", ": 4 + 6"),
}


def flow(stages: Mapping[str, Mapping[str, Tensor]], words: Sequence[str], norm: str) -> Figure:
    """The features (T, d_model) of each stage of a block with this norm, and the variance of each of the words there."""
    plain, final = (stages["norm 2"][key].mean() for key in ("plain_variance", "variance"))
    title = f"The second LayerNorm's formula gives variance {plain:.2f}; its trained gamma and beta make that {final:.2f}"
    fig, axes = panels(title, (1, 1, 1, 1), size=(15, 8.2), rows=2)
    last = axes[7]
    for i, (name, stage) in enumerate(stages.items()):
        shown, at = words if i in (0, 4) else [], [i + 1] * len(words)
        limit = 3 * stage["features"].std().item()
        label = "feature" if i >= 3 else ""
        heatmap(axes[i], stage["features"], row_label="", column_label=label, signed=True, limit=limit)
        mean = round(stage["mean"].mean().item(), 2) + 0.0  # + 0: no "-0.00"
        numbers = f"mean {mean:.2f}, variance {stage['variance'].mean():.2g}"
        axes[i].set_title(f"{i + 1} {name.rstrip(' 12')}{FLOW[norm][i]}\n{numbers}")
        axes[i].set_yticks(range(len(shown)), shown)
        axes[i].set_xticks(range(0, stage["features"].shape[1], 10) if label else [])
        last.plot(at, stage["variance"].numpy(), "o", color=BLUE, alpha=0.6, label="a token" if i == 0 else None)
        if "plain_variance" in stage:
            label = "before gamma and beta" if name == "norm 1" else None
            last.plot(at, stage["plain_variance"].numpy(), "_", ms=20, mew=3, color=VERMILLION, label=label)
    last.set(yscale="log", xlabel="stage", xticks=range(1, 8), title="variance of each token")
    decades(last.yaxis)
    last.legend(loc="lower right")
    fig.supxlabel("Red: above 0, blue: below 0, full colour: three standard deviations of that stage.", fontsize=10)
    return fig


def heads(
    seen: Mapping[str, Mapping[str, Tensor]],
    weights: Mapping[str, Tensor],
    words: Sequence[str],
    hidden: int,
    study: Study,
) -> Figure:
    """The weights (H, T, T) over the words, "untrained" and "trained"; word number `hidden` is the hidden verb. The title
    speaks of the mean attention to the "subject" that was seen in many sentences, of the head that gives it most."""
    shares = [found["subject"].max().item() for found in seen.values()]
    if study:
        shares = [study.median(f"heads.subject_attention.{when}") for when in seen]
    title = (
        f"Untrained, a verb looks at all words alike; trained, one head gives its subject {shares[1]:.2f} instead of "
        f"{shares[0]:.2f}{median_of(study.n)}"
    )
    n_heads, limit = len(weights["trained"]), float(max(found.max() for found in weights.values()))
    columns = 2 if n_heads == 1 else 4
    rows = 2 * n_heads // columns
    fig, axes = panels(title, [1] * columns, size=(3.6 * columns + 1, 3.7 * rows + 1.2), rows=rows)
    cases = [(name, found[h], h) for name, found in weights.items() for h in range(n_heads)]
    for i, (ax, (name, found, h)) in enumerate(zip(axes, cases, strict=True)):
        left, bottom = i % columns == 0, i >= len(cases) - columns
        image = heatmap(ax, found, rows=words if left else [], columns=words if bottom else [], limit=limit)
        ax.axhspan(hidden - 0.48, hidden + 0.48, fill=False, ec="white", lw=2)  # the row of the hidden verb
        ax.set_title(f"{name}, head {h}")
        ax.label_outer()
    fig.colorbar(image, ax=axes.tolist(), label="weight in this one sentence (white frame: the hidden verb)", fraction=0.03)
    return fig


def note_vanished(ax: Axes, shares: Mapping[int, float]) -> None:
    """Where the curve of these shares, by depth, leaves the axis at its bottom: how little is left at last."""
    depths, logs = list(shares), np.log10(list(shares.values()))
    if logs[-1] < np.log10(LOWEST):
        at = np.interp(-np.log10(LOWEST), -logs, depths)
        text = f"{shares[depths[-1]]:.0e} at\n{depths[-1]} blocks"
        ax.annotate(text, (at, LOWEST), (at + 1.5, 30 * LOWEST), arrowprops={"arrowstyle": "->"}, fontsize=10)


def residuals(
    found: Mapping[str, Mapping[tuple[str, str], Mapping]],
    singular: Mapping[str, Tensor],
    depths: Sequence[int],
    at: int,
    study: Study,
) -> Figure:
    """What `measure_depth` gives at these depths from the "default" and the "xavier" start; and the singular values of two
    functions, x + F(x) and F(x) alone, the smallest first. The title speaks of stacks of `at` blocks."""
    left = {case: data["gradient"][at] for case, data in found["default"].items()}
    if study:
        left = {(norm, kind): study.median(f"gradient.{norm}.{kind}.depth_{at}") for norm, kind in left}
    lost = left.pop(("none", "plain"))
    title = (
        f"From torch's start {at} blocks leave {lost:.0e} of the gradient without norm and residuals, with one of the two "
        f"at least {min(left.values()):.1g}{median_of(study.n)}"
    )
    fig, axes = panels(title, (5, 4, 4), size=(16, 6.4))
    drawn = {("default", *case): data for case, data in found["default"].items()}
    drawn |= {("xavier", *case): found["xavier"][case] for case in (("none", "plain"), ("post", "residual"))}
    for (start, norm, kind), data in drawn.items():
        style = STYLES[norm] | {"ls": {"residual": "-", "plain": "--"}[kind] if start == "default" else ":"}
        label = f"{'no ' if norm == 'none' else norm + '-'}norm, {'residuals' if kind == 'residual' else 'no residuals'}"
        label += "" if start == "default" else ", Xavier"
        suffix = "" if start == "default" else "_xavier"
        starts = [study.values(f"gradient{suffix}.{norm}.{kind}.depth_{n}") for n in depths]
        curve(axes[0], depths, list(data["gradient"].values()), label=label, **style)
        note_vanished(axes[0], data["gradient"])
        start_band(axes[0], depths, starts, color=style["color"])
        starts = [study.values(f"similarity{suffix}.{norm}.{kind}.depth_{n}") for n in depths]
        curve(axes[1], range(depths[-1] + 1), data["similarity"], label=label, markevery=8, **style)
        start_band(axes[1], depths, starts, color=style["color"])
    axes[0].set(yscale="log", ylim=(LOWEST, 1e4), yticks=[1e-12, 1e-8, 1e-4, 1, 1e4], xlabel="blocks")
    axes[0].set_title("gradient left at the bottom")
    axes[1].set(ylim=(-0.05, 1.1), xlabel="blocks", title="mean cosine between tokens\n(1: all tokens are one)")
    for (name, values), line in zip(singular.items(), ("-", "--"), strict=True):
        share = np.linspace(0, 1, len(values))
        axes[2].plot(share, values.clamp(min=1e-12).numpy(), color=GREEN, ls=line, lw=2, label=name)
    below = (next(iter(singular.values())) < 0.99).double().mean().item()
    axes[2].axhline(1, color="black", lw=1.2, ls=":", label='claimed: "none below 1"')
    if study:
        lowest, highest = (study.statistic("jacobian.share_below_0.99", name) for name in ("min", "max"))
        label = f"{study.n} starts: {lowest:.2f} to {highest:.2f}"
        axes[2].fill_between([lowest, highest], 1e-4, 1, color="0.85", lw=0, label=label)
    axes[2].vlines(below, 1e-4, 1, color="black", lw=1.2)
    axes[2].text(below - 0.04, 2e-4, f"left of {below:.2f}\nthey shrink", ha="right")
    axes[2].set(yscale="log", ylim=(1e-4, 1e3), xlabel="directions, sorted by stretching (share)")
    axes[2].set_title(f"stretching by a trained pre-norm block:\n{below:.2f} of the directions shrink")
    decades(axes[0].yaxis)
    decades(axes[2].yaxis)
    axes[2].legend(loc="upper left")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, handlelength=4)
    return fig


def norm_and_activation(
    changes: Mapping[str, Mapping[int, float]],
    moved: Mapping[str, Tensor],
    words: Sequence[str],
    swap: tuple[int, int],
    units: Mapping[str, Mapping[str, float]],
    batch: int,
    study: Study,
) -> Figure:
    """How far a sentence moves with the others of its batch, by batch size; how far each of the words moves when number
    `swap[0]` gets the features of number `swap[1]`; and the units by activation, as `measure_activation` gives them. The title
    speaks of batches of the size `batch`."""
    sizes = list(changes["LayerNorm"])
    title = (
        f"Replacing the other {batch - 1} sentences of a batch moves a sentence by {changes['BatchNorm'][batch]:.2f} with "
        f"BatchNorm, by {max(changes['LayerNorm'].values()):.2g} with LayerNorm"
    )
    fig, axes = panels(title, (4, 4, 4, 4), size=(16, 5.4))
    one, two = {"color": BLUE}, {"color": VERMILLION}
    starts = [study.values(f"others_replaced.batchnorm.batch_{b}") for b in sizes]
    curve(axes[0], sizes, list(changes["BatchNorm"].values()), label="BatchNorm", marker="s", ls="--", **two)
    curve(axes[0], sizes, list(changes["LayerNorm"].values()), label="LayerNorm", marker="o", **one)
    start_band(axes[0], sizes, starts)
    axes[0].set_xscale("log", base=2)
    axes[0].set_xticks(sizes, map(str, sizes))
    axes[0].set(xlabel="sentences in the batch", title="change of a sentence when the\nothers are replaced (r.m.s.)")
    at = np.arange(len(words))
    axes[1].bar(at - 0.2, moved["attention"].numpy(), width=0.4, label="attention", color=GREEN)
    label = f"feed-forward (others: {np.delete(moved['feed-forward'].numpy(), swap[0]).max():.2g})"
    axes[1].bar(at + 0.2, moved["feed-forward"].numpy(), width=0.4, label=label, hatch="//", color=PURPLE)
    axes[1].set_xticks(at, words, rotation=40, ha="right")
    axes[1].margins(y=0.35)  # room for the legend
    sentence = f'"{words[swap[0]]}" gets the features of "{words[swap[1]]}": change'
    axes[1].set_title(f"{sentence}\nof each output, as a share of its length")
    x = torch.linspace(-4, 2, 241, requires_grad=True)
    for name, side, line, style in (("relu", -0.2, "--", two | {"hatch": "//"}), ("gelu", 0.2, "-", one)):
        label, y = ACTIVATIONS[name].__name__, ACTIVATIONS[name]()(x)
        (slope,) = torch.autograd.grad(y.sum(), x)
        axes[2].plot(x.detach().numpy(), y.detach().numpy(), label=label, ls=line, color=style["color"])
        axes[2].plot(x.detach().numpy(), slope.numpy(), label=f"slope of {label}", ls=line, color=style["color"], lw=1.0)
        for place, part in enumerate(("untrained", "dead")):
            axes[3].bar(place + side, units[name][part], width=0.36, label=None if place else label, **style)
            start_dots(axes[3], place + side, study.values(f"units.{name}.{part}"), width=0.25)
    for dots in axes[3].lines:
        dots.set(zorder=3, color="0.25")  # before the bars
    axes[2].set(title="the activation and its slope\n(thin lines)", xlabel="x")
    axes[3].set_xticks([0, 1], ["untrained", "trained"])
    losses = {name: study.median(f"units.{name}.loss") if study else found["loss"] for name, found in units.items()}
    axes[3].set(ylim=(0, 1), title=f"share of dead units (loss: ReLU {losses['relu']:.3f},\nGELU {losses['gelu']:.3f})")
    for ax in axes:
        ax.legend()
    return fig


def warmup(found: Mapping[tuple[str, str, float], Mapping], mean_loss: float, study: Study) -> Figure:
    """What `measure_schedule` gives for each norm, "warm" and "cold", at three learning rates; and the loss of the mean."""
    rates = sorted({rate for *_, rate in found})
    middle, top = rates[-2:]
    cases = list(dict.fromkeys((norm, schedule) for norm, schedule, _ in found))

    def key(norm: str, schedule: str, rate: float, name: str = "loss") -> str:
        return f"warmup.{norm}.{schedule}.lr_{rate:g}.{name}"

    fails = {(n, s): int(found[n, s, top]["diverged"]) for n, s in cases}
    if study:
        fails = {case: study.count(key(*case, top, "diverged"), where=bool) for case in cases}
    title = (
        f"At rate {top:g} post-norm fails in {fails['post', 'warm']} of {study.n or 1} starts even with warm-up, pre-norm in "
        f"{fails['pre', 'cold']} even without"
    )
    fig, axes = panels(title, (4, 5, 4), size=(15, 5.6))
    for i, (norm, schedule) in enumerate(cases):
        color, filled = STYLES[norm]["color"], schedule == "warm"
        style = STYLES[norm] | {"mec": color, "mfc": color if filled else "white", "ms": 9, "mew": 1.8}
        smooth = np.convolve(found[norm, schedule, middle]["curve"], np.ones(5) / 5, "valid")
        label, line = f"{norm}-norm, {'with' if filled else 'without'} warm-up", "-" if filled else "--"
        curve(axes[0], np.arange(5, 5 + len(smooth)), smooth, label=label, ls=line, markevery=(5 * i, 20), **style)
        for j, rate in enumerate(rates):
            at = j + (i - 1.5) * 0.2
            start_dots(axes[1], at, study.values(key(norm, schedule, rate)), width=0.14)
            axes[1].plot(at, found[norm, schedule, rate]["loss"], **style | {"ls": "none"})
    for i, norm in enumerate(("post", "pre")):
        for j, rate in enumerate(rates):
            both = [study.values(key(norm, schedule, rate)) for schedule in ("cold", "warm")]
            start_dots(axes[2], j + (i - 0.5) * 0.4, np.divide(*both) if study else [], width=0.28)
            ratio = found[norm, "cold", rate]["loss"] / found[norm, "warm", rate]["loss"]
            axes[2].plot(j + (i - 0.5) * 0.4, ratio, ms=9, ls="none", label=None if j else f"{norm}-norm", **STYLES[norm])
    for ax in axes[:2]:
        ax.axhline(mean_loss, color="black", lw=1.2, ls=":", label="predict the mean")
        ax.set(yscale="log", ylim=(0.008, 4))
        decades(ax.yaxis)
    axes[2].axhline(1, color="black", lw=1.2)
    axes[2].set(yscale="log", yticks=[0.5, 1, 2, 5, 10, 20], ylim=(0.25, 40))
    decades(axes[2].yaxis)
    axes[2].legend()
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, handlelength=4)
    for ax in axes[1:]:
        ax.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
        ax.set_xlabel("learning rate")
    small = f"\n(grey: {study.n} other starts)" if study else ""
    axes[0].set(title=f"training loss at rate {middle:g}, this start\n(mean of 5 steps)", xlabel="step")
    axes[1].set_title(f"loss on new sines after training{small}")
    axes[2].set_title(f"loss without warm-up / loss with it{small}")
    return fig


def generation(
    line: Sequence[str], kinds: Mapping[str, Tensor], judged: Mapping[float, Mapping[str, float]], study: Study
) -> Figure:
    """Along one sentence the shares of each kind of word, (words + 1,), and of the sentences written at each temperature
    the shares that are "grammatical" and "different"."""
    temperatures = list(judged)
    right = {t: found["grammatical"] for t, found in judged.items()}
    if study:
        right = {t: study.median(f"generation.grammatical.{t:g}") for t in temperatures}
    cool, hot = temperatures[1], temperatures[-1]
    title = (
        f"Two blocks write: {100 * right[cool]:.0f} % of the sentences are grammatical at temperature {cool:g}, "
        f"{100 * right[hot]:.0f} % at {hot:g}{median_of(study.n)}"
    )
    fig, axes = panels(title, (10, 6), size=(15, 6.8))
    shares = np.array([np.asarray(values) for values in kinds.values()])  # (kinds, words + 1)
    columns = ["(start)", *line]
    image = heatmap(axes[0], shares, rows=list(kinds), columns=columns, row_label="kind of the next word", column_label="after")
    for (i, j), share in np.ndenumerate(shares):
        if share >= 0.05:
            axes[0].text(j, i, f"{share:.2f}", ha="center", va="center", fontsize=9, color="black" if share > 0.5 else "white")
    axes[0].set_title("what it expects next, along one sentence")
    fig.colorbar(image, ax=axes[0], label="probability", fraction=0.03)
    for name, style in (
        ("grammatical", {"color": BLUE, "marker": "o"}),
        ("different", {"color": VERMILLION, "marker": "s", "ls": "--"}),
    ):
        label = {"different": "different from each other"}.get(name, name)
        curve(axes[1], temperatures, [found[name] for found in judged.values()], label=label, ms=9, **style)
        for t in temperatures:
            start_dots(axes[1], t, study.values(f"generation.{name}.{t:g}"), width=0.1 * t)
    axes[1].set_xscale("log", base=2)
    axes[1].set_xticks(temperatures, [f"{t:g}" for t in temperatures])
    axes[1].set(ylim=(0, 1.05), xlabel="temperature", title="share of the written sentences")
    axes[1].legend(loc="lower left")
    return fig
