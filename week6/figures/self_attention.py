"""The figures of Lab 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from torch import Tensor

from common.plotting import BLUE, GREY, MODEL_STYLES, VERMILLION, curve, decades, heatmap, panels


def draw_components(
    words: Sequence[str],
    seen: Mapping[str, Tensor],
    at: int,
    gap: Tensor,
    questions: Sequence[str],
    asked: Tensor,
    answers: Sequence[str],
) -> Figure:
    """`seen`: x, q, k, v, output (T, d_model) and weights (H, T, T) of the sentence; `gap` (H, T): what the hidden word `at`
    looks at; `asked` (questions, T) and `answers`: where each question looks, and the word that it names."""
    share, who = (x.item() for x in asked[0].max(dim=-1))
    title = (
        f'Asked "{questions[0]}", cross-attention puts {share:.2f} of its weight on "{words[who]}" and answers "{answers[0]}"'
    )
    fig, axes = panels(title, (1, 1, 1, 1), rows=2, size=(16, 8.4))
    names = {"x": "X = embedding + position", "q": "Q = X W_Q", "k": "K = X W_K", "v": "V = X W_V", "output": "output"}
    for ax, (name, text) in zip(axes[[0, 1, 2, 3, 5]], names.items(), strict=True):
        heatmap(ax, seen[name], rows=words, row_label="", column_label="feature", signed=True)
        ax.set_title(text)
    numbers = ".2f" if len(words) < 10 else None
    heatmap(axes[4], seen["weights"].mean(dim=0), rows=words, columns=words)
    axes[4].set_title("weights (mean of the heads)")
    gapped = [f"<{w}>" if i == at else w for i, w in enumerate(words)]
    heatmap(axes[6], gap, rows=[f"head {h}" for h in range(len(gap))], columns=gapped, row_label="", numbers=numbers)
    axes[6].set_title(f'what the hidden "{words[at]}" looks at')
    rows = [f"{question} {answer}" for question, answer in zip(questions, answers, strict=True)]
    image = heatmap(axes[7], asked, rows=rows, columns=words, row_label="", numbers=numbers)
    axes[7].set_title("cross-attention: question, answer")
    fig.colorbar(image, ax=axes[[6, 7]], label="weight")
    return fig


def draw_heads(
    found: Mapping[str, Mapping],
    looks_at: Mapping[str, str],
    verdict: tuple[int, int | None, bool],
    words: Sequence[str],
    at: int,
    gap: Tensor,
    by_count: Mapping[int, float],
) -> Figure:
    """`found` for each skill: "attention" (H,) to the word that it `looks_at`, an "even" one, and the "drop" (H,) without each
    head; `verdict` on agreement: which head looks most, which is needed, whether it may be named; `gap` (H, T): what the
    hidden word `at` looks at; `by_count`: agreement across attractors by the number of heads."""
    data, n_heads = found["agreement"], len(gap)
    looks, needed, named = verdict
    seen = f"Head {looks} looks at the subject ({data['attention'][looks]:.2f}; evenly spread: {data['even']:.2f})"
    if needed is None:
        title = f"{seen}, yet silencing any one head costs at most {100 * data['drop'].max():.0f} points of agreement"
    else:
        whom = "it" if named else f"head {needed}"
        title = f"{seen}, and silencing {whom} costs {100 * data['drop'][needed]:.0f} points of agreement"
    fig, axes = panels(title, (4, 3, 3, 2), size=(18, 5.4))
    heads = [f"head {h}" for h in range(n_heads)]
    gapped = [f"<{w}>" if i == at else w for i, w in enumerate(words)]
    heatmap(axes[0], gap, rows=heads, columns=gapped, row_label="", numbers=".2f" if len(words) < 11 else None)
    axes[0].set_title("attention of the hidden word, one sentence")
    targets = [f"{skill}\n-> {role}" for skill, role in looks_at.items()]
    for ax, name, columns in ((axes[1], "attention", targets), (axes[2], "drop", list(found))):
        values = torch.stack([x[name] for x in found.values()], dim=1)  # (H, skills)
        image = heatmap(ax, values, rows=heads, columns=columns, row_label="", column_label="", numbers=".2f")
    axes[1].set_title("ATTENTION from the hidden word\n(mean, held-out sentences)")
    axes[2].set_title("ABLATION: accuracy lost\nwhen the head is silenced")
    fig.colorbar(image, ax=axes[2], label="weight, or accuracy lost")
    bars = axes[3].bar([str(count) for count in by_count], list(by_count.values()), color=BLUE, width=0.6)
    axes[3].bar_label(bars, fmt="%.3f", fontsize=10)
    axes[3].axhline(0.5, color=VERMILLION, ls="--")
    axes[3].set(ylim=(0, 1.1), xlabel="number of heads, same width", title="agreement across\nattractors (dashed: guessing)")
    return fig


def draw_rnn(
    lengths: Sequence[int],
    d: int,
    times: Mapping[str, Sequence[float]],
    exponents: Mapping[str, float],
    fitted_from: int,
    operations: Mapping[str, Sequence[int]],
    memory: Mapping[str, Sequence[int]],
    paths: Mapping[str, Tensor],
    summary: Mapping[str, Mapping[str, float]],
) -> Figure:
    """Over the lengths, in layers of width d: seconds, with the exponents fitted from the length `fitted_from` on,
    multiplications and bytes; `paths` (seeds, n): the gradient by distance, and what `path_summary` says of it."""
    farthest = len(paths["attention"][0]) - 1
    title = (
        f"With each step back an untrained RNN keeps {summary['RNN']['decay']:.2f} of its gradient; attention keeps "
        f"{summary['attention']['ratio']:.2f} of it from distance 1 to {farthest}, for a memory of n^2"
    )
    fig, axes = panels(title, (1, 1, 1, 1), size=(17, 5))
    for kind, values in times.items():
        label = f"{kind}: n^{exponents[kind]:.1f}"
        curve(axes[0], lengths, [1e3 * value for value in values], label=label, **MODEL_STYLES[kind])
    axes[0].set(title=f"time, forward + backward (d = {d}),\nn^p fitted from n = {fitted_from} on", ylabel="ms (median)")
    for ax, values in ((axes[1], operations), (axes[2], memory)):
        for kind, y in values.items():
            curve(ax, lengths, y, label=kind, **MODEL_STYLES[kind])
    axes[1].axvline(d, ymax=0.8, color=GREY, ls=":")  # ends below the legend
    axes[1].text(d * 1.1, operations["RNN"][0], "n = d", color=GREY)
    axes[1].set(title="operations: n d^2 against n^2 d", ylabel="multiplications")
    axes[2].set(title="what is kept at inference:\nlast state against weights", ylabel="memory")
    for kind, path in paths.items():
        low, middle, high = path.quantile(torch.tensor([0.1, 0.5, 0.9], dtype=path.dtype), dim=0)
        style = MODEL_STYLES[kind] | {"marker": None}
        curve(axes[3], range(path.shape[1]), middle, label=kind, low=low, high=high, **style)
    axes[3].set(yscale="log", ylim=(1e-24, 30), xlabel="distance T - t", ylabel="norm of d h_T / d x_t")
    axes[3].set_title(f"path (untrained, median of {len(paths['attention'])} seeds)")
    for ax in axes[:3]:
        ax.set(xscale="log", yscale="log", xlabel="length n", xticks=lengths[::3], xticklabels=[str(n) for n in lengths[::3]])
    for ax in axes:
        ax.minorticks_off()
        ax.legend(loc="lower left" if ax is axes[3] else "upper left", fontsize=9)
    for ax in (axes[0], axes[3]):
        decades(ax.yaxis)
    axes[1].yaxis.set_major_formatter(EngFormatter())  # 10 k, 1 M
    axes[2].yaxis.set_major_formatter(EngFormatter("B"))  # 10 kB, 1 MB
    return fig
