"""The figures of Lab 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from common.plotting import BLUE, GREEN, GREY, PURPLE, VERMILLION, curve, decades, heatmap, panels
from common.transformer import ACTIVATIONS

STYLES = {
    "none": {"color": GREY, "marker": "^"},
    "post": {"color": PURPLE, "marker": "s"},
    "pre": {"color": GREEN, "marker": "o"},
}
FLOW = {  # what each of the seven stages is made of
    "post": ("", " of 1", ": 1 + 2", " of 3", " of 4", ": 4 + 5", " of 6"),
    "pre": ("", " of 1", " of 2", ": 1 + 3", " of 4", " of 5", ": 4 + 6"),
}


def draw_flow(flow: Mapping[str, Mapping[str, Tensor]], words: Sequence[str], norm: str) -> Figure:
    """The features (T, d_model) of each stage of a block with this norm, and the variance of each of the words there."""
    plain, final = ([flow[name][key].mean() for name in ("norm 1", "norm 2")] for key in ("plain_variance", "variance"))
    title = (
        f"LayerNorm brings the tokens to variance {plain[0]:.2f} and {plain[1]:.2f}; "
        f"its trained gamma and beta make that {final[0]:.2f} and {final[1]:.2f}"
    )
    fig, axes = panels(title, (1, 1, 1, 1), size=(15, 8.2), rows=2)
    last = axes[7]
    for i, (name, stage) in enumerate(flow.items()):
        shown, at = words if i in (0, 4) else [], [i + 1] * len(words)
        limit = 3 * stage["features"].std().item()
        label = "feature" if i >= 3 else ""
        heatmap(axes[i], stage["features"], row_label="", column_label=label, signed=True, limit=limit)
        numbers = f"mean {stage['mean'].mean():.2f}, variance {stage['variance'].mean():.2g}"
        axes[i].set_title(f"{i + 1} {name.rstrip(' 12')}{FLOW[norm][i]}\n{numbers}")
        axes[i].set_yticks(range(len(shown)), shown)
        axes[i].set_xticks(range(0, stage["features"].shape[1], 10) if label else [])
        last.plot(at, stage["variance"], "o", color=BLUE, alpha=0.6, label="a token" if i == 0 else None)
        if "plain_variance" in stage:
            label = "before gamma and beta" if name == "norm 1" else None
            last.plot(at, stage["plain_variance"], "_", ms=20, mew=3, color=VERMILLION, label=label)
    last.set(yscale="log", xlabel="stage", xticks=range(1, 8), title="variance of each token")
    decades(last.yaxis)
    last.legend(loc="lower right")
    fig.supxlabel("Red: above 0, blue: below 0, full colour: three standard deviations of that stage.", fontsize=10)
    return fig


def draw_heads(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], words: Sequence[str], hidden: int, n_sentences: int
) -> Figure:
    """The weights (H, T, T) over the words before and after training; word number `hidden` is the hidden verb."""
    n_heads, best = len(after["subject"]), int(after["subject"].argmax())
    title = (
        f"Untrained, a hidden verb looks around evenly (entropy {before['entropy'].mean():.2f}); trained, "
        f"head {best} gives the subject {after['subject'][best]:.2f} instead of "
        f"{before['subject'][best]:.2f} (means of {n_sentences} sentences)"
    )
    columns = 2 if n_heads == 1 else 4
    rows = 2 * n_heads // columns
    fig, axes = panels(title, [1] * columns, size=(3.6 * columns + 1, 3.7 * rows + 1.2), rows=rows)
    cases = [(name, found, h) for name, found in (("untrained", before), ("trained", after)) for h in range(n_heads)]
    for i, (ax, (name, found, h)) in enumerate(zip(axes, cases, strict=True)):
        left, bottom = i % columns == 0, i >= len(cases) - columns
        image = heatmap(ax, found["weights"][h], rows=words if left else [], columns=words if bottom else [])
        ax.axhspan(hidden - 0.48, hidden + 0.48, fill=False, ec="white", lw=1.5)  # the row of the hidden verb
        ax.set_title(f"{name}, head {h}")
        ax.label_outer()
    fig.colorbar(image, ax=axes.tolist(), label="weight in this one sentence (white frame: the hidden verb)", fraction=0.03)
    return fig


def draw_residuals(
    found: Mapping[tuple[str, str], Mapping[str, np.ndarray]],
    singular_values: Mapping[str, Sequence[Tensor]],
    depths: Sequence[int],
    at: int,
) -> Figure:
    """What `measure_depth` gives at these depths, the title at the depth `at`; and of two functions, x + F(x) and F(x) alone,
    the singular values of the Jacobian for each sentence, the largest first."""
    with_residual, _ = singular_values.values()
    lost = np.median(found["none", "plain"]["gradient"][:, depths.index(at)])
    alike = np.median(found["post", "plain"]["similarity"], axis=0)[2]
    below = (torch.cat(list(with_residual)) < 0.99).double().mean()
    title = (
        f"Without residuals {at} blocks leave {lost:.0e} of the gradient if there is no norm; with post-norm 2 blocks make the "
        f"tokens alike (cosine {alike:.2f}). With residuals, 'derivative at least 1' is false: {below:.2f} of the directions "
        "shrink"
    )
    fig, axes = panels(title, (1, 1, 1, 1), size=(16, 6))
    depths, n_seeds, top = np.array(depths), len(found["none", "plain"]["gradient"]), depths[-1]
    for (norm, kind), data in found.items():
        style = STYLES[norm] | {"ls": {"residual": "-", "plain": "--", "float64": ":"}[kind]}
        words = {"residual": "residual", "plain": "no residual", "float64": "no residual, float64"}[kind]
        label = f"{'no ' if norm == 'none' else norm + '-'}norm, {words}"
        middle, low, high = (f(data["gradient"], axis=0) for f in (np.median, np.min, np.max))
        shown, ax = low > 0, axes[0 if norm == "none" else 1]
        curve(ax, depths[shown], middle[shown], low=low[shown], high=high[shown], label=label, **style)
        for depth in depths[~shown]:  # a logarithmic axis has no 0
            ax.plot(depth, 1e-76, "v", color=style["color"], mfc="white", ms=10, clip_on=False)
            ax.annotate("0 in float32", (depth, 1e-76), xytext=(-9, 9), textcoords="offset points", ha="right")
        if kind != "float64":
            curve(axes[2], range(top + 1), np.median(data["similarity"], axis=0), label=label, markevery=8, **style)
    for (name, sentences), line in zip(singular_values.items(), ("-", "--"), strict=True):
        for i, values in enumerate(sentences):
            share, label = np.linspace(0, 1, len(values)), name if i == 0 else None
            axes[3].plot(share, values.flip(0), color=GREEN, ls=line, lw=1.2, label=label)
    axes[3].axhline(1, color="black", lw=1.2, ls=":", label="claimed: none below 1")
    axes[0].set(yscale="log", ylim=(1e-76, 1e30), yticks=[1e-60, 1e-40, 1e-20, 1])
    axes[0].set_title("gradient left at the bottom,\nno norm")
    axes[1].set(yscale="log", ylim=(1e-6, 10), title=f"gradient left at the bottom,\nwith norm (bands: all {n_seeds} seeds)")
    axes[2].set(ylim=(-0.05, 1.1), title="similarity of the tokens\n(mean cosine, median over seeds)")
    axes[2].text(top, 1.02, "all three without residuals", ha="right")
    axes[3].set(yscale="log", ylim=(1e-6, 1e5))
    axes[3].set_title(f"singular values of the Jacobian,\ntrained block (sentences: {len(with_residual)})")
    for ax in axes:
        ax.set_xlabel("blocks" if ax is not axes[3] else "share of the directions")
        decades(ax.yaxis)
    axes[0].legend(loc="upper left", handlelength=3.2)
    axes[3].legend(loc="upper left")
    fig.legend(*axes[2].get_legend_handles_labels(), loc="outside lower center", ncols=3, handlelength=4)
    return fig


def draw_norm_and_activation(
    changes: Mapping[str, Mapping[int, float]],
    moved: Mapping[str, Tensor],
    words: Sequence[str],
    replaced: int,
    replacement: int,
    units: Mapping[tuple[str, float], Mapping[str, Sequence[float]]],
    batch: int,
) -> Figure:
    """How far a sample moves with the others of its batch, by batch size; how far each of the words moves when number
    `replaced` gets the features of number `replacement`; and the units by activation and rate, as `measure_activations`
    gives them. The title speaks of batches of the size `batch` and of the first rate that trains."""
    sizes, rates = list(changes["LayerNorm"]), list(dict.fromkeys(rate for _, rate in units))
    batch_norm, others = changes["BatchNorm"][batch], max(changes["LayerNorm"].values())
    dead = {activation: np.mean(units[activation, rates[1]]["dead"]) for activation in ACTIVATIONS}
    title = (
        f"Replacing the other {batch - 1} of a batch moves a sample by {batch_norm:.2f} (BatchNorm) or {others:.2g} "
        f"(LayerNorm); trained at rate {rates[1]:g}, {dead['relu']:.2f} of the ReLU units are dead and "
        f"{dead['gelu']:.2f} of the GELU units"
    )
    fig, axes = panels(title, (4, 4, 4, 4), size=(16, 5.4))
    one, two = {"color": BLUE}, {"color": VERMILLION}
    curve(axes[0], sizes, list(changes["BatchNorm"].values()), label="BatchNorm", marker="s", ls="--", **two)
    curve(axes[0], sizes, list(changes["LayerNorm"].values()), label="LayerNorm", marker="o", **one)
    axes[0].set_xscale("log", base=2)
    axes[0].set_xticks(sizes, map(str, sizes))
    axes[0].set(xlabel="samples in the batch", title="change of a sample when the\nothers are replaced (r.m.s.)")
    at = np.arange(len(words))
    axes[1].bar(at - 0.2, moved["attention"], width=0.4, label="attention", color=GREEN)
    label = f"feed-forward (others: {np.delete(moved['feed-forward'].numpy(), replaced).max():.2g})"
    axes[1].bar(at + 0.2, moved["feed-forward"], width=0.4, label=label, hatch="//", color=PURPLE)
    axes[1].set_xticks(at, words, rotation=40, ha="right")
    axes[1].margins(y=0.35)  # room for the legend
    swap = f'"{words[replaced]}" gets the features of "{words[replacement]}": change'
    axes[1].set_title(f"{swap}\nof each output, as a share of its length")
    x, at = torch.linspace(-4, 2, 241, requires_grad=True), np.arange(len(rates))
    for name, side, line, style in (("relu", -0.2, "--", two | {"hatch": "//"}), ("gelu", 0.2, "-", one)):
        label, y = ACTIVATIONS[name].__name__, ACTIVATIONS[name]()(x)
        (slope,) = torch.autograd.grad(y.sum(), x)
        axes[2].plot(x.detach(), y.detach(), label=label, ls=line, color=style["color"])
        axes[2].plot(x.detach(), slope, label=f"slope of {label}", ls=line, color=style["color"], lw=1.0)
        shares = np.array([units[name, rate]["dead"] for rate in rates])  # (rates, seeds)
        axes[3].bar(at + side, shares.mean(axis=1), width=0.4, label=label, **style)
        axes[3].plot(at + side, shares, "o", color="black", ms=4, clip_on=False, zorder=5)
    axes[2].set(title="the activation and its slope\n(thin lines)", xlabel="x")
    axes[3].set_xticks(at, [f"{rate:g}" if rate else "untrained" for rate in rates])
    axes[3].set(ylim=(0, 1), xlabel="learning rate", title="share of dead units\n(bars: mean; dots: each seed)")
    for ax in axes:
        ax.legend()
    return fig


def draw_warmup(found: Mapping[tuple[str, str, float], Mapping[str, np.ndarray]], mean_loss: float) -> Figure:
    """What `measure_warmup` gives for each norm, "warm" and "cold", at two learning rates or more; and the loss of the mean."""
    rates = sorted({rate for *_, rate in found})
    middle, top = rates[-2:]
    cases = list(dict.fromkeys((norm, schedule) for norm, schedule, _ in found))
    norms = ("post", "pre")
    ratio = {n: f"{np.divide(*(np.median(found[n, s, middle]['loss']) for s in ('cold', 'warm'))):.1f}" for n in norms}
    failed = {n: np.concatenate([found[n, s, top]["diverged"] for s in ("warm", "cold")]) for n in norms}
    title = (
        f"Leaving out warm-up multiplies the loss at rate {middle:g} by {ratio['post']} (post-norm) and {ratio['pre']} "
        f"(pre-norm); at {top:g}, with or without, {failed['post'].sum()} of {len(failed['post'])} post-norm stacks fail to "
        f"learn and {failed['pre'].sum()} pre-norm stacks"
    )
    fig, axes = panels(title, (4, 4, 5), size=(15, 5.4))
    for i, (norm, schedule) in enumerate(cases):
        words = "warm-up" if schedule == "warm" else "no warm-up"
        label, color = f"{norm}-norm, {words}", STYLES[norm]["color"]
        for ax, rate in zip(axes, (middle, top), strict=False):
            smooth = np.array([np.convolve(c, np.ones(5) / 5, "valid") for c in found[norm, schedule, rate]["curve"]])
            band = {"low": smooth.min(axis=0), "high": smooth.max(axis=0), "ls": "-" if schedule == "warm" else "--"}
            curve(ax, np.arange(5, 5 + smooth.shape[1]), np.median(smooth, axis=0), label=label, color=color, **band)
        for j, rate in enumerate(rates):
            losses = np.sort(found[norm, schedule, rate]["loss"])
            style = {"marker": STYLES[norm]["marker"], "mec": color, "mfc": color if schedule == "warm" else "white"}
            at = j + (i - 1.5) * 0.2 + np.linspace(-0.05, 0.05, len(losses))
            axes[2].plot(at, losses, ls="none", ms=8, mew=1.8, label=label if j == 0 else None, **style)
    for ax in axes:
        ax.axhline(mean_loss, color="black", lw=1.2, ls=":", label="predict the mean")
        ax.set(yscale="log", ylim=(0.01, 4))
        decades(ax.yaxis)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    for ax, rate in zip(axes, (middle, top), strict=False):
        ax.set(title=f"training loss at rate {rate:g}\n(mean of 5 steps; line: median, band: all seeds)", xlabel="step")
    axes[2].set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    axes[2].set(xlabel="learning rate", title="loss on new sines after training\n(each point a seed; filled: with warm-up)")
    return fig
