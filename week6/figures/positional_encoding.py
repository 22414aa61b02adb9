"""The figures of Lab 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from common.attention import causal_mask
from common.plotting import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, heatmap, panels, seed_band
from common.pointing import ENCODINGS, TASKS, Trial, guessing
from common.positional_encoding import rotary

STYLES = {
    "none": {"color": GREY, "marker": "X", "ls": "-", "lw": 4, "ms": 10},
    "linear": {"color": PURPLE, "marker": "D", "ls": ":"},
    "learned": {"color": ORANGE, "marker": "s", "ls": "--"},
    "sinusoidal": {"color": BLUE, "marker": "o", "ls": "-"},
    "relative": {"color": GREEN, "marker": "^", "ls": "-"},
    "relative_all": {"color": GREEN, "marker": "^", "ls": ":", "mfc": "white", "ms": 8},
    "rope": {"color": SKY, "marker": "v", "ls": "--"},
    "alibi": {"color": VERMILLION, "marker": "P", "ls": "-."},
}


def draw_order(
    sentences: Sequence[Sequence[str]],
    outputs: Mapping[str, Sequence[Tensor]],
    differences: Mapping[str, Mapping[str, Tensor]],
) -> Figure:
    """What the first of several layers makes of two sentences, without and with positions: the vectors (2, T, d_model) and
    by how much they differ; `differences` of each layer in "words" (layers, T), "pooled" and "same_word" (layers,)."""
    cases = ("without positions", "with positions")
    without, changed = (differences[case]["same_word"][0].item() for case in cases)
    title = f'"{" ".join(sentences[1])}" without positions: the same vectors in another order (difference {without:.0e}); '
    title += f"with positions the vector of each word changes (by up to {changed:.2f})"
    fig, axes = panels(title, (4, 4, 3), size=(14, 6.2), rows=2)
    limit = max(outputs[case][0].abs().max().item() for case in cases)
    for row, case in zip((axes[:3], axes[3:]), cases, strict=True):
        for ax, words, output in zip(row, sentences, outputs[case][0], strict=False):
            labels = {"rows": words, "row_label": "output of", "column_label": "feature"}
            image = heatmap(ax, output, signed=True, limit=limit, **labels)
            ax.set_title(f'"{" ".join(words)}" {case}')
        values = [*differences[case]["words"][0].tolist(), differences[case]["pooled"][0].item()]
        n = len(sentences[0])
        bars = row[2].barh(range(n + 1), values, color=[BLUE] * n + [ORANGE], hatch=[""] * n + ["//"])
        row[2].bar_label(bars, fmt="%.2g", padding=4)
        row[2].set_yticks(range(n + 1), [*sentences[0], "mean of all"])
        limits = {"xlim": (0, 1.3 * changed), "ylim": (n + 0.5, -0.5)}
        row[2].set(**limits, xlabel="largest difference", title="same word in both sentences")
    fig.colorbar(image, ax=axes[[1, 4]], label="value of a feature", fraction=0.05)
    return fig


def draw_sinusoids(table: np.ndarray, turns: Tensor, pairs: Sequence[int]) -> Figure:
    """The table (positions, columns), and the turns of each pair of columns over it, four `pairs` of which are shown."""
    title = f"Fast columns and slow ones: over {len(table)} positions the first pair turns {turns[0]:.1f} times, "
    title += f"the last {turns[-1]:.4f} times"
    fig, (whole, columns, rows) = panels(title, (4, 5, 5), size=(15, 6))
    image = heatmap(whole, table, row_label="position", column_label="column", signed=True, limit=1.0)
    fig.colorbar(image, ax=whole, label="value", location="bottom")
    whole.set_title("the whole table")
    styles = zip(pairs, (VERMILLION, ORANGE, GREEN, BLUE), ("-", "--", "-.", ":"), strict=True)
    for place, (pair, color, ls) in enumerate(styles):
        columns.plot(table[:, 2 * pair] - 2.8 * place, color=color, ls=ls)
        columns.text(0, 1.2 - 2.8 * place, f"column {2 * pair}: {turns[pair]:.2g} turns", color=color, fontweight="bold")
    columns.set(title="sine columns, all on the same scale", xlabel="position", yticks=[], ylim=(-9.7, 2.1))
    for position, color, marker in ((40, BLUE, "o"), (41, ORANGE, "^"), (80, GREY, "s")):
        sines = table[position, 0::2]
        rows.plot(range(0, table.shape[1], 2), sines, color=color, marker=marker, lw=1.5, label=f"position {position}")
    rows.set(title="single positions: neighbours differ in fast columns", xlabel="column (fast to slow)", ylim=(-1.1, 1.4))
    rows.legend(loc="upper center", ncols=3, columnspacing=1, handletextpad=0.4)
    return fig


def draw_shift(
    offset: int, matrix: Tensor, error: float, scores: Tensor, cosine: Tensor, rise: int, near: int, far: int, shown: int
) -> Figure:
    """The matrix that moves by `offset` and its error, the scores (queries, keys) of the head built from it, and the
    similarity of positions by distance, of which so many are shown."""
    title = f"One matrix moves every position by {offset} (error {error:.0e}), so a head can point {offset} back; but "
    title += f"similarity does not only fall: {cosine[near]:.2f} at distance {near}, {cosine[far]:.2f} at {far}"
    fig, (left, middle, right) = panels(title, (4, 4, 5.5), size=(15, 6.2))
    corner = matrix[:12, :12]
    labels = {"row_label": f"column of PE[pos + {offset}]", "column_label": "column of PE[pos]"}
    image = heatmap(left, corner, signed=True, limit=1, **labels)
    fig.colorbar(image, ax=left, label="factor", location="bottom", ticks=[-1, 0, 1])
    left.set_title(f"the matrix turns each pair by its own angle\n(first {len(corner)} of {len(matrix)} columns)")
    scores = scores[:24, :24]
    fig.colorbar(heatmap(middle, scores, limit=scores.max().item()), ax=middle, label="score", location="bottom")
    middle.plot(scores[offset:].argmax(dim=-1), range(offset, len(scores)), "kx", ms=6, mew=1.5)
    middle.set_title(f"scores of a head with the transpose in its W_Q\n(x: largest of a row, from row {offset})")
    right.plot(cosine[:shown], color=BLUE)
    right.plot(range(rise), cosine[:rise], "o", color=BLUE, label=f"falls up to distance {rise - 1}")
    right.plot(rise, cosine[rise], "^", color=VERMILLION, ms=11, label=f"first rise, at distance {rise}")
    right.plot([near, far], cosine[[near, far]], "s--", color=ORANGE, ms=8, label=f"further off, more similar: {near}, {far}")
    right.set(title="similarity of two positions", xlabel="distance", ylabel="cosine", ylim=(min(0, cosine.min()), 1.03))
    right.legend(loc="upper right")
    return fig


def portrait(run: Mapping, length: int) -> tuple[Tensor, str]:
    """What the encoding adds, and to what: a table (T, d_model), or the scores (T, T) of the best head."""
    model = run["model"]
    if model.encoding == "rope":
        turned = rotary(torch.ones(length, model.attention.d_head))
        return turned @ turned.T / turned.shape[1] ** 0.5, "scores if all q, k are 1"
    if (bias := model.bias(length)) is not None:
        return bias[run["tests"][0]["head"]].detach(), "added to the scores"
    return model.added(length).detach(), "added to the embedding"


def comparison_title(means: Mapping[str, float], offset: int) -> str:
    able = [ENCODINGS[encoding] for encoding, mean in means.items() if mean >= 0.9]
    others: dict[str, list[str]] = {}  # by their number
    for encoding, mean in means.items():
        if mean < 0.9:
            others.setdefault(f"{mean:.2f}", []).append(ENCODINGS[encoding])
    listed = ", ".join(f"{' and '.join(names)} ({mean})" for mean, names in others.items())
    if not able:
        return f"None of {len(means)} has learned to point {offset} back: {listed}"
    return f"{len(able)} of {len(means)} learn to point {offset} back: {', '.join(able)}" + f"; not {listed}" * bool(others)


def draw_comparison(means: Mapping[str, float], runs: Mapping[str, Mapping], trial: Trial, n_seeds: int) -> Figure:
    """The mean accuracy of each encoding, and one of its runs: what it adds, and below it the weights of its best head."""
    title, shown = comparison_title(means, trial.offset), [encoding for encoding in means if encoding != "none"]
    fig, axes = panels(title, [1] * len(shown), size=(17, 7.4), rows=2)
    later = ~causal_mask(trial.length)
    for place, (above, below, encoding) in enumerate(zip(axes[: len(shown)], axes[len(shown) :], shown, strict=True)):
        run = runs[encoding]
        picture, what = portrait(run, trial.length)
        labels = {"row_label": "position" * (place == 0), "column_label": "column"}
        if picture.shape[1] == trial.length:
            picture = picture.masked_fill(later, torch.nan)
            labels = {"row_label": "query (row)" * (place == 3), "column_label": "key (column)"}
        limit = picture.nan_to_num().abs().max().item()
        heatmap(above, picture, signed=True, limit=limit, **labels)
        above.set_title(f"{ENCODINGS[encoding]}\n{what}\n(colours: -{limit:.2g} to {limit:.2g})")
        weights = run["tests"][0]["weights"].masked_fill(later, torch.nan)
        image = heatmap(below, weights, row_label="query (row)" * (place == 0))
        below.set_title(f"best head; accuracy {means[encoding]:.2f}")
    fig.colorbar(image, ax=axes[len(shown) :], label="weight (mean)", fraction=0.02, pad=0.01)
    n_heads = run["model"].attention.n_heads
    note = f"grey: the future, masked    best head: the one of {n_heads} that gives the token {trial.offset} back most    "
    note += f"maps: seed 0; accuracy: mean over the seeds ({n_seeds})"
    fig.supxlabel(note, fontsize=11)
    return fig


def draw_extrapolation(
    accuracy: Mapping[tuple[str, str], np.ndarray],
    window: Mapping[str, np.ndarray],
    best: Mapping[str, str],
    trial: Trial,
    clear: float,
) -> Figure:
    """Accuracy (seeds, lengths) for each task and encoding, at "back" also (seeds,) with a window; the `best` of each task in
    words; a gain is named if it is larger than `clear`."""
    start, *_, end = accuracy["back", "sinusoidal"].mean(axis=0)
    title = f"Trained on {trial.length} tokens, tested on {trial.lengths[-1]}: sinusoidal goes from {start:.2f} to {end:.2f} "
    title += f"at pointing. Best then at pointing: {best['back']}; at the most recent letter: {best['recent']}"
    fig, axes = panels(title, (5, 5, 4), size=(15, 6.6))
    for ax, (task, text) in zip(axes, TASKS.items(), strict=False):
        for encoding, style in STYLES.items():
            seed_band(ax, trial.lengths, accuracy[task, encoding], trial.label(encoding), **style)
        ax.axhline(guessing(task), color="black", ls=":", lw=1)
        ax.set_xscale("log", base=2)
        ax.set_xticks(trial.lengths, trial.lengths)
        ax.set(title=text.format(trial.offset), xlabel="length of the sequence (dotted line: guessing)", ylim=(0, 1.04))
    axes[0].set_ylabel(f"accuracy (mean and range, seeds: {len(accuracy['back', 'none'])})")
    draw_window(axes[2], {encoding: accuracy["back", encoding][:, -1] for encoding in STYLES}, window, trial, clear)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(STYLES), columnspacing=1.2)
    return fig


def draw_window(ax: Axes, every: Mapping[str, np.ndarray], last: Mapping[str, np.ndarray], trial: Trial, clear: float) -> None:
    """At the longest sequences: accuracy (seeds,) with all keys (open) and with the last ones only (filled)."""
    gains = {}
    for place, (encoding, style) in enumerate(STYLES.items()):
        before, after = every[encoding].mean(), last[encoding].mean()
        gains[after - before] = f"{ENCODINGS[encoding]} from {before:.2f} to {after:.2f}"
        ax.plot([before, after], [place, place], color=style["color"], lw=1.5)
        for values, face, size in ((every[encoding], "white", 10), (last[encoding], style["color"], 6)):
            ax.plot(values.mean(), place, "o", color=style["color"], mfc=face, ms=size, mew=2)
            ax.plot([values.min(), values.max()], [place + 0.3] * 2, color=style["color"], marker="|", lw=1.5)
    best = gains[max(gains)] if max(gains) > clear else "nothing gained"
    ax.set_title(f"{best} if only the\nlast {trial.length} keys are seen (filled; open: all keys)", x=-0.42)
    ax.set_yticks(range(len(STYLES)), [trial.label(encoding) for encoding in STYLES])
    axis = f"accuracy, {trial.offset} back, length {trial.lengths[-1]} (bars: range)"
    ax.set(xlim=(0, 1.04), ylim=(len(STYLES) - 0.4, -0.5), xlabel=axis)
