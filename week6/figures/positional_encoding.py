"""The figures of Lab 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from common.attention import causal_mask
from common.plotting import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    heatmap,
    panels,
    start_band,
    start_dots,
)
from common.pointing import ENCODINGS, TASKS, Trial, guessing
from common.positional_encoding import rotary
from common.study import Study

CLEAR = 0.2  # so much above guessing, or above another accuracy, is no accident of the start
KEYS = {"back": "extrapolation", "recent": "recent"}  # under which a task's accuracies are recorded
WAYS = {  # to turn RoPE's hands in longer sequences
    "plain": "as trained",
    "interpolated": "interpolated",
    "ntk": "NTK",
    "by_parts": "by parts",
}

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


WAY_STYLES = {
    "plain": {"color": SKY, "marker": "v", "ls": "--"},
    "interpolated": {"color": ORANGE, "marker": "s", "ls": ":"},
    "ntk": {"color": PURPLE, "marker": "D", "ls": "-."},
    "by_parts": {"color": GREEN, "marker": "o", "ls": "-"},
}


def rope_key(task: str, way: str, length: int) -> str:
    """Under which RoPE's accuracy is recorded."""
    return f"{KEYS[task]}.rope.{length}" if way == "plain" else f"stretched.{task}.{way}.{length}"


def typical(value: float, study: Study, key: str) -> float:
    """The median of the study's starts; this run's value if there is no study."""
    median = study.median(key)
    return value if median is None else median


def with_median(value: float, study: Study, key: str) -> str:
    """This run's value, and behind it the median of the study's starts if there is a study."""
    median = study.median(key)
    return f"{value:.2f}" if median is None else f"{value:.2f} ({median:.2f})"


def starts_note(study: Study) -> str:
    """What a title says of whose numbers it gives."""
    return f"median of {study.n} starts" if study else "this start"


def draw_order(
    sentences: Sequence[Sequence[str]],
    outputs: Mapping[str, Sequence[Tensor]],
    differences: Mapping[str, Mapping[str, Tensor]],
) -> Figure:
    """What the first of several layers makes of two sentences, without and with positions: the vectors (2, T, d_model) and
    by how much they differ; `differences` of each layer in "words" (layers, T), "pooled" and "same_word" (layers,)."""
    cases = ("without positions", "with positions")
    changed = differences["with positions"]["same_word"][0].item()
    title = f'"{" ".join(sentences[1])}": without positions the same vectors, moved; with positions, other vectors'
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
    fig.supxlabel(f"Drawn: the first of {len(outputs[cases[0]])} layers with random weights.", fontsize=11)
    return fig


def draw_sinusoids(table: Tensor, turns: Tensor, pairs: Sequence[int]) -> Figure:
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
    offset: int,
    matrix: Tensor,
    error: float,
    scores: Tensor,
    cosines: Mapping[int, Tensor],
    near: int,
    far: int,
    shown: int,
) -> Figure:
    """The matrix that moves by `offset` and its error, the scores (queries, keys) of the head built from it, and for each
    width the similarity of positions by distance, of which so many are shown; of the first width also a pair."""
    width, cosine = next(iter(cosines.items()))
    title = f"A step of {offset} is one matrix everywhere (error {error:.0e}); "
    title += f"in {width} columns similar positions need not be near"
    fig, (left, middle, right) = panels(title, (4, 4, 5.5), size=(15, 6.2))
    corner = matrix[:12, :12]
    labels = {"row_label": f"column of PE[pos + {offset}]", "column_label": "column of PE[pos]"}
    image = heatmap(left, corner, signed=True, limit=1, **labels)
    fig.colorbar(image, ax=left, label="factor", location="bottom", ticks=[-1, 0, 1])
    left.set_title(f"the matrix: a turn (2 x 2) for each pair\n(first {len(corner)} of {len(matrix)} columns)")
    scores = scores[:24, :24]
    fig.colorbar(heatmap(middle, scores, limit=scores.max().item()), ax=middle, label="score", location="bottom")
    middle.plot(scores[offset:].argmax(dim=-1), range(offset, len(scores)), "kx", ms=6, mew=1.5)
    middle.set_title(f"scores of a head with the transpose in its W_Q\n(x: largest of a row, from row {offset})")
    for (width, values), color, ls in zip(cosines.items(), (BLUE, GREY), ("-", "--"), strict=True):
        right.plot(values[:shown], color=color, ls=ls, label=f"{width} columns")
    right.plot([near, far], cosine[[near, far]], "s", color=ORANGE, ms=9)
    for distance, up in ((near, -16), (far, 10)):
        place = {"xytext": (0, up), "textcoords": "offset points", "ha": "center"}
        right.annotate(f"{cosine[distance]:.2f} at {distance}", (distance, cosine[distance]), **place)
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
        return bias[run["tests"][length]["head"]].detach(), "added to the scores"
    return model.added(length).detach(), "added to the embedding"


def listed(names: Sequence[str]) -> str:
    """As one says it: a, b and c."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def comparison_title(right: Mapping[str, float], offset: int, note: str) -> str:
    """Who points, by the accuracy of each encoding, and how well the best of the others does."""
    able = [encoding for encoding, accuracy in right.items() if accuracy >= 0.9]
    others = {ENCODINGS[encoding]: accuracy for encoding, accuracy in right.items() if encoding not in able}
    title = f"{len(able) or 'None'} of {len(right)} learn to point {offset} back"
    if not others:
        return f"{title} ({note})"
    names = f"; {listed(list(others))} do not" if able else ""
    return f"{title}{names} ({max(others.values()):.2f} right at most; {note})"


def draw_comparison(runs: Mapping[str, Mapping], trial: Trial, study: Study) -> Figure:
    """One trained model of each encoding: what it adds, and below it the weights of its best head."""
    n = trial.length
    here = {encoding: run["accuracy"][n] for encoding, run in runs.items()}
    usual = {encoding: typical(value, study, f"extrapolation.{encoding}.{n}") for encoding, value in here.items()}
    title, shown = comparison_title(usual, trial.offset, starts_note(study)), [e for e in runs if e != "none"]
    fig, axes = panels(title, [1] * len(shown), size=(17, 7.4), rows=2)
    later = ~causal_mask(n)
    for place, (above, below, encoding) in enumerate(zip(axes[: len(shown)], axes[len(shown) :], shown, strict=True)):
        picture, what = portrait(runs[encoding], n)
        labels = {"row_label": "position" * (place == 0), "column_label": "column"}
        if picture.shape[1] == n:
            picture = picture.masked_fill(later, torch.nan)
            labels = {"row_label": "query (row)" * (place == 3), "column_label": "key (column)"}
        limit = picture.nan_to_num().abs().max().item()
        heatmap(above, picture, signed=True, limit=limit, **labels)
        above.set_title(f"{ENCODINGS[encoding]}\n{what}\n(colours: -{limit:.2g} to {limit:.2g})")
        weights = runs[encoding]["tests"][n]["weights"].masked_fill(later, torch.nan)
        image = heatmap(below, weights, row_label="query (row)" * (place == 0))
        below.set_title(f"best head; right {here[encoding]:.2f}")
    fig.colorbar(image, ax=axes[len(shown) :], label="weight (mean)", fraction=0.02, pad=0.01)
    n_heads = runs["none"]["model"].attention.n_heads
    note = f"grey: the future, masked    best head: the one of {n_heads} that gives the token {trial.offset} back most    "
    note += f'maps: of this start    of the {len(runs)}, "none" adds nothing and is not drawn'
    fig.supxlabel(note, fontsize=11)
    return fig


def furthest(right: Mapping[str, float], guess: float) -> str:
    """Which of the names does best, and how well, if that is clearly better than guessing."""
    best = max(right, key=right.get)
    return f"{best} ({right[best]:.2f})" if right[best] > guess + CLEAR else "none clearly above guessing"


def share_label(study: Study) -> str:
    """What is drawn by the length, and of which starts."""
    starts = f" (lines: this run;\nbands: 10 to 90 %, titles: medians of {study.n} starts)"
    return "share right" + starts * bool(study)


def lengths_axis(ax: Axes, trial: Trial, task: str) -> None:
    """Accuracy against the length, with a line for guessing."""
    ax.axhline(guessing(task), color="black", ls=":", lw=1)
    ax.set_xscale("log", base=2)
    ax.set_xticks(trial.lengths, trial.lengths)
    ax.set(xlabel="length of the sequence (dotted line: guessing)", ylim=(0, 1.04))


def draw_extrapolation(found: Mapping[tuple[str, str], Mapping], trial: Trial, study: Study) -> Figure:
    """Accuracy by length for each task and encoding, of this run and of the study's starts, and at "back" with a window."""
    title = sines_title(
        {n: typical(x, study, f"extrapolation.sinusoidal.{n}") for n, x in found["back", "sinusoidal"]["accuracy"].items()},
        trial,
        starts_note(study),
    )
    fig, axes = panels(title, (5, 5, 4), size=(15, 6.6))
    longest = trial.lengths[-1]
    for ax, (task, text) in zip(axes, TASKS.items(), strict=False):
        final = {}
        for encoding in (e for e in STYLES if (task, e) in found):
            right, keys = found[task, encoding]["accuracy"], [f"{KEYS[task]}.{encoding}.{n}" for n in trial.lengths]
            start_band(ax, trial.lengths, [study.values(key) for key in keys], color=STYLES[encoding]["color"])
            ax.plot(trial.lengths, list(right.values()), label=trial.label(encoding), **STYLES[encoding])
            final[ENCODINGS[encoding]] = typical(right[longest], study, keys[-1])
        lengths_axis(ax, trial, task)
        ax.set_title(f"{text.format(trial.offset)}\nbest at {longest}: {furthest(final, guessing(task))}")
    axes[0].set_ylabel(share_label(study))
    every = {encoding: found["back", encoding]["accuracy"][longest] for encoding in STYLES}
    draw_window(axes[2], every, {encoding: found["back", encoding]["window"] for encoding in STYLES}, trial, study)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(STYLES), columnspacing=1.2)
    return fig


def sines_title(right: Mapping[int, float], trial: Trial, note: str) -> str:
    """What sines do at twice the length of training, by their accuracy at each length."""
    known, twice = (right[n] for n in trial.lengths[:2])
    verdict = "Sines do not extrapolate" if twice < known - CLEAR else "Sines beyond training"
    return f"{verdict}: {known:.2f} right at the trained length {trial.length}, {twice:.2f} at {trial.lengths[1]} ({note})"


def draw_window(ax: Axes, every: Mapping[str, float], last: Mapping[str, float], trial: Trial, study: Study) -> None:
    """At the longest sequences: accuracy with all keys (open) and with the last ones only (filled)."""
    gains, n = {}, trial.lengths[-1]
    for place, (encoding, style) in enumerate(STYLES.items()):
        keys = f"extrapolation.{encoding}.{n}", f"window.{n}.{encoding}"
        before, after = (typical(x[encoding], study, key) for x, key in zip((every, last), keys, strict=True))
        gains[after - before] = f"{ENCODINGS[encoding]} from {before:.2f} to {after:.2f}"
        ax.plot([every[encoding], last[encoding]], [place, place], color=style["color"], lw=1.5)
        for values, face, size, key in ((every, "white", 10, keys[0]), (last, style["color"], 6, keys[1])):
            ax.plot(values[encoding], place, "o", color=style["color"], mfc=face, ms=size, mew=2)
            start_dots(ax, place + 0.32, study.values(key), along="x", width=0.2)
    best = gains[max(gains)] if max(gains) > CLEAR else "nothing gained"
    ax.set_title(f"only the last {trial.length} keys seen (filled; open: all)\n{best}", x=-0.42)
    ax.set_yticks(range(len(STYLES)), [trial.label(encoding) for encoding in STYLES])
    axis = f"share right, {trial.offset} back, length {n}" + f"\n(circles: this run; dots: {study.n} starts)" * bool(study)
    ax.set(xlim=(0, 1.04), ylim=(len(STYLES) - 0.4, -0.5), xlabel=axis)


def stretched_title(letter: float, pointing: float, plain: float, trial: Trial, note: str) -> str:
    """What interpolation does for RoPE at the longest sequences."""
    n, k = trial.lengths[-1], trial.offset
    if letter > plain + CLEAR and pointing < guessing("back") + CLEAR:
        verdict = f"Interpolated to {n}, RoPE finds the most recent letter ({letter:.2f}), "
        return verdict + f"not the token {k} back ({pointing:.2f}; {note})"
    return f"RoPE interpolated to {n}: the most recent letter {letter:.2f} right, the token {k} back {pointing:.2f} ({note})"


def draw_stretched(
    rope: Mapping[str, Mapping[str, Mapping[int, float]]], sines: Mapping[str, Mapping[int, float]], trial: Trial, study: Study
) -> Figure:
    """Accuracy by length: of RoPE by task and way of stretching, and of the sines as usual and shifted in training, by the
    key under which they are recorded."""
    n = trial.lengths[-1]
    letter, pointing = (typical(rope[t]["interpolated"][n], study, rope_key(t, "interpolated", n)) for t in ("recent", "back"))
    plain = typical(rope["recent"]["plain"][n], study, rope_key("recent", "plain", n))
    title = stretched_title(letter, pointing, plain, trial, starts_note(study))
    fig, axes = panels(title, (1, 1, 1), size=(15, 6.4))
    for ax, task in zip(axes, ("recent", "back"), strict=False):
        for way, name in WAYS.items():
            right = {length: rope[task][way].get(length, rope[task]["plain"][trial.length]) for length in trial.lengths}
            values = [study.values(rope_key(task, way if length in rope[task][way] else "plain", length)) for length in right]
            start_band(ax, trial.lengths, values, color=WAY_STYLES[way]["color"])
            ax.plot(trial.lengths, list(right.values()), label=name, **WAY_STYLES[way])
        ax.set_title(f"RoPE, stretched after training:\n{TASKS[task].format(trial.offset)}")
        lengths_axis(ax, trial, task)
    for (key, right), name, face in zip(sines.items(), ("as usual", "shift in training"), (BLUE, "white"), strict=True):
        start_band(axes[2], trial.lengths, [study.values(f"{key}.{length}") for length in trial.lengths], color=BLUE)
        style = STYLES["sinusoidal"] | {"mfc": face, "ls": "-" if face == BLUE else "--"}
        axes[2].plot(trial.lengths, list(right.values()), label=name, **style)
    axes[2].set_title(f"sines, shifted in training:\n{TASKS['back'].format(trial.offset)}")
    lengths_axis(axes[2], trial, "back")
    axes[0].legend(loc="lower left")
    axes[2].legend(loc="upper right")
    axes[0].set_ylabel(share_label(study))
    return fig
