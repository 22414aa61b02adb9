"""The figures of Lab 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from common.plotting import BLUE, VERMILLION, curve, decades, heatmap, panels, start_dots, weight_bars

STYLES = {
    "unscaled": {"color": VERMILLION, "marker": "s", "ls": "--"},
    "scaled": {"color": BLUE, "marker": "o"},
}
HATCHES = {"unscaled": "//", "scaled": None}


def draw_look_up(
    scores: Tensor,
    scaled: Tensor,
    weights: Tensor,
    output: Tensor,
    values: Tensor,
    readers: Sequence[str],
    books: Sequence[str],
    contents: Sequence[str],
) -> Figure:
    """The four steps, (readers, books) each and last (readers, contents); `values` (books, contents) set its colours."""
    clear, vague = weights[0].max(), weights[2].max()
    title = f"A soft look-up: a clear request takes {clear:.2f} from one book, a vague one at most {vague:.2f} from any"
    fig, axes = panels(title, (5, 5, 5, 3), size=(14, 4.4))
    highest = scores.max().item()
    steps = (
        ("1. scores = Q K^T", scores, books, highest, ".3g"),  # 8.4 and 12
        ("2. scores / sqrt(d_k)", scaled, books, highest, ".1f"),
        ("3. softmax: rows sum to 1", weights, books, 1.0, ".2f"),
        ("4. weights V", output, contents, values.max().item(), ".1f"),
    )
    for ax, (step, matrix, columns, limit, numbers) in zip(axes, steps, strict=True):
        heatmap(ax, matrix, columns=columns, limit=limit, numbers=numbers, row_label="")
        ax.set(title=step, yticks=[])
    axes[0].set(ylabel="query (row)", yticks=range(len(readers)), yticklabels=readers)
    axes[3].set(xlabel="feature of the value")
    return fig


def draw_scaling(
    sizes: Sequence[int],
    found: Mapping[str, Mapping[str, np.ndarray]],
    example: Mapping[str, Tensor],
    others: Mapping[str, Sequence[float]],
    at: int,
    n_keys: int,
) -> Figure:
    """`found`: what `softmax_statistics` gives at each of the sizes d_k; `example`: weights of three keys at d_k = `at`;
    `others`: the largest of three such weights in other starts."""
    top = found["unscaled"]["largest"][sizes.index(at)]
    title = f"Unscaled at d_k = {at}, one of {n_keys} keys takes {top:.2f} on average, and most queries get almost no gradient"
    fig, axes = panels(title, (4, 4, 4, 3.6), size=(15.5, 4.6))
    for side, (variant, style) in zip((-0.2, 0.2), STYLES.items(), strict=True):
        data = found[variant]
        curve(axes[0], sizes, data["variance"], label=variant, **style)
        curve(axes[1], sizes, data["largest"], label=variant, **style)
        band = {"low": data["gradient_low"], "high": data["gradient_high"]}
        curve(axes[2], sizes, data["gradient_norm"], label=f"{variant}, median", **band, **style)
        axes[2].plot(sizes, data["gradient_norm_mean"], color=style["color"], ls=":", label=f"{variant}, mean")
        shares = example[variant].tolist()
        bars = axes[3].bar(np.arange(3) + side, shares, width=0.4, color=style["color"], hatch=HATCHES[variant])
        axes[3].bar_label(bars, fmt="%.2f", fontsize=10)
        start_dots(axes[3], 3 + side, others[variant], color=style["color"])
    for ax in axes[:3]:
        ax.set_xscale("log", base=2)
        ax.set(xlabel="size of the keys d_k", xticks=[1, 8, 64, 512], xticklabels=["1", "8", "64", "512"])
    axes[0].set(yscale="log", title="variance of the scores")
    axes[0].legend(loc="upper left")
    axes[2].legend(loc="lower left", fontsize=9)
    axes[1].set(ylim=(0, 1.05), title=f"largest of {n_keys} weights (mean)")
    axes[2].set(yscale="log", ylim=(1e-8, 3), title="gradient that reaches the scores\n(band: 10-90 % of the queries)")
    for ax in (axes[0], axes[2]):
        decades(ax.yaxis)
    axes[3].set(ylim=(0, 1.12), title=f"one random query,\nthree keys, d_k = {at}")
    starts = len(others["scaled"])
    names = ["key 1", "key 2", "key 3", f"largest,\n{starts} starts"]
    axes[3].set_xticks(range(3 + (starts > 0)), names[: 3 + (starts > 0)])
    return fig


def draw_sentence(words: Sequence[str], weights: Tensor, verb: int, found: Sequence[int]) -> Figure:
    """The weights (T, T), and what the `verb` looks at; most at the positions `found`."""
    names = " and ".join(f'"{words[i]}"' for i in found)
    each = f"at a distance of {abs(verb - found[0])}" if len(found) == 1 else "each: it cannot tell them apart"
    title = f'"{words[verb]}" puts {weights[verb].max():.2f} of its attention on {names}, {each}'
    fig, (left, right) = panels(title, (3, 2), size=(13, 5.8))
    image = heatmap(left, weights, rows=words, columns=words, numbers=".2f" if len(words) <= 12 else None)
    fig.colorbar(image, ax=left, label="weight")
    left.set_title("the weights of every word")
    weight_bars(right, words, weights[verb].tolist(), mark=found)
    right.set_title(f'the weights of "{words[verb]}"')
    return fig


def draw_masks(
    words: Sequence[str],
    filling: Sequence[str],
    weights: Mapping[str, Tensor],
    may: Mapping[str, Tensor],
    leaks: Mapping[str, float],
) -> Figure:
    """The weights (T, T) under each mask, those that the layer `may` not use left grey, and how much leaks through it. Under
    the padding mask the words are followed by the `filling`."""
    title = f"A mask read the wrong way round shows the future: hidden words move outputs by {leaks['inverted']:.1f}"
    fig, axes = panels(title, (9, 12, 9), size=(15, 5.4))
    titles = {
        "causal": "causal mask: later words are hidden",
        "padding": "padding mask: the filling is hidden",
        "inverted": "MISTAKE: that causal mask in\nnn.MultiheadAttention (True = blocked)",
    }
    for ax, (name, text) in zip(axes, titles.items(), strict=True):
        n = len(weights[name])
        rows = [*words, *(f"<pad> (= {word})" for word in filling)][:n]
        columns = [*words, *["<pad>"] * len(filling)][:n]
        image = heatmap(ax, weights[name].masked_fill(~may[name], torch.nan), rows=rows, columns=columns)
        ax.set_title(f"{text}\na hidden word moves outputs by {leaks[name]:.1f}")
        ax.tick_params(axis="x", labelsize=10 if n < 15 else 8)
    axes[2].text(-0.4, len(words) - 1, "blocked from everything: NaN", va="center")
    fig.colorbar(image, ax=axes, label="weight (grey: hidden by the mask)", fraction=0.03)
    return fig
