"""Lab 1 - Attention basics: what does softmax(Q K^T / sqrt(d_k)) V do, and why is it written that way?

You will see
  1. attention as a soft look-up: three readers ask five books, in four steps;
  2. why the scores are divided by sqrt(d_k): what happens to the softmax and its gradient when they are not;
  3. a verb that finds its subject five words away;
  4. masks: how to hide the future and the padding, and what an inverted mask lets through.

Run it:      python 01_attention_basics.py
Then try:    python 01_attention_basics.py --out trial --sentence "the old dogs which she saw are happy"
It writes:   01_attention_weights, 01_scaling_effect, 01_longer_sequence, 01_masks and 01_results.json
Nothing is trained here: features and projections are made by hand, so that every number can be followed.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that common/ is found from any folder
from common.command_line import Parser  # isort: skip  (first: Ctrl-C then ends quietly while torch loads)
from common.lab import Lab, run  # isort: skip  (loads torch and matplotlib faster)

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from common.attention import causal_mask, padding_mask, scaled_dot_product_attention
from common.plotting import BLUE, VERMILLION, curve, decades, heatmap, panels, weight_bars

# %% 1. Attention is a soft look-up
# A reader's query is compared with the key of every book (what it is about). The softmax turns the scores into shares,
# and the answer is the average of the books' values (what is in them) with those shares. A dictionary returns one
# entry; attention returns a mixture. All four sizes differ, so that no axis can be taken for another.

TOPICS = ("math", "code", "nature", "history")  # d_k = 4: what queries and keys speak of
CONTENTS = ("formulas", "stories")  # d_v = 2: what a book hands over
BOOKS = {  # title: (key, value)
    "Linear Algebra": ((3.0, 1.0, 0.0, 0.0), (9.0, 0.0)),
    "Machine Learning": ((3.0, 3.0, 0.0, 0.0), (7.0, 2.0)),
    "Python for All": ((1.0, 3.0, 0.0, 0.0), (2.0, 3.0)),
    "Wild Birds": ((0.0, 0.0, 3.0, 1.0), (0.0, 8.0)),
    "World History": ((0.0, 0.0, 0.0, 3.0), (0.0, 10.0)),
}
READERS = {  # what is wanted: query
    "machine learning": (2.0, 2.0, 0.0, 0.0),
    "birds long ago": (0.0, 0.0, 2.0, 1.0),
    "some math": (1.0, 0.0, 0.0, 0.0),
}
STEPS = {  # name: (title, number format)
    "scores": ("1. scores = Q K^T", ".0f"),
    "scaled": ("2. scores / sqrt(d_k)", ".1f"),
    "weights": ("3. softmax: rows sum to 1", ".2f"),
    "output": ("4. weights V", ".1f"),
}


def look_up() -> dict[str, Tensor]:
    """The four steps of attention for READERS and BOOKS, the values, and "torch": the same from PyTorch's function."""
    q = torch.tensor(list(READERS.values()))  # (3, 4)
    k = torch.tensor([key for key, _ in BOOKS.values()])  # (5, 4)
    v = torch.tensor([value for _, value in BOOKS.values()])  # (5, 2)
    scores = q @ k.T  # (3, 5)
    scaled = scores / math.sqrt(k.shape[-1])  # (3, 5)
    weights = scaled.softmax(dim=-1)  # (3, 5)
    output = weights @ v  # (3, 2)
    torchs = F.scaled_dot_product_attention(q, k, v)
    return {"scores": scores, "scaled": scaled, "weights": weights, "output": output, "values": v, "torch": torchs}


def draw_look_up(steps: dict[str, Tensor]) -> Figure:
    clear, vague = steps["weights"][0].max(), steps["weights"][2].max()
    title = f"A soft look-up: a clear request takes {clear:.2f} from one book, a vague one at most {vague:.2f} from any"
    fig, axes = panels(title, (5, 5, 5, 3), size=(14, 4.4))
    for ax, (name, (step, numbers)) in zip(axes, STEPS.items(), strict=True):
        columns = list(CONTENTS if name == "output" else BOOKS)
        limit = 1.0 if name == "weights" else steps["scores" if name != "output" else "values"].max().item()
        heatmap(ax, steps[name], columns=columns, limit=limit, numbers=numbers, row_label="")
        ax.set(title=step, yticks=[])
    axes[0].set(ylabel="query (row)", yticks=range(len(READERS)), yticklabels=READERS)
    axes[3].set(xlabel="feature of the value")
    return fig


def show_look_up(lab: Lab) -> None:
    lab.section("1. Attention is a soft look-up")
    lab.say("Three readers (queries) ask five books (keys). Sizes: Q (3, 4), K (5, 4), V (5, 2).")
    lab.table(["Q: reader", *TOPICS], [[reader, *query] for reader, query in READERS.items()], digits=0)
    rows = [[book, *key, "", *value] for book, (key, value) in BOOKS.items()]
    lab.table(["K and V: book", *TOPICS, "|", *CONTENTS], rows, digits=0)
    steps = look_up()
    for name, (title, _) in STEPS.items():
        rows = [[reader, *row] for reader, row in zip(READERS, steps[name].tolist(), strict=True)]
        lab.table([title, *(CONTENTS if name == "output" else BOOKS)], rows)
    weights, output, values = steps["weights"], steps["output"], steps["values"]
    tops = dict(zip((reader.replace(" ", "_") for reader in READERS), weights.amax(dim=-1), strict=True))
    lab.record_all("lookup.top_weight", tops, rtol=1e-4)
    error = lab.record("lookup.row_sum_error", (weights.sum(dim=-1) - 1).abs().max(), rtol=0, atol=1e-6)
    beyond = torch.maximum(output - values.amax(dim=0), values.amin(dim=0) - output).clamp(min=0)
    outside = lab.record("lookup.outside_values", beyond.max(), rtol=0)
    difference = lab.record("lookup.torch_difference", (output - steps["torch"]).abs().max(), rtol=0, atol=1e-5)
    lab.say(
        f"Checked before rounding: each row of weights sums to 1 (error {error:.0e}); outputs leave the range of the "
        f"values by {outside:.1e}; F.scaled_dot_product_attention agrees (difference {difference:.0e})."
    )
    lab.figure(draw_look_up(steps), "01_attention_weights")


# %% 2. Why divide by sqrt(d_k)
# A product q.k is a sum of d_k terms. If the features are independent, with mean 0 and variance 1, each term has variance
# 1 and the sum d_k: scores of size sqrt(d_k). Large scores saturate the softmax: one key takes nearly all, and the
# gradient that comes back through it is nearly 0 for most queries.

SIZES = tuple(2**i for i in range(11))  # d_k = 1 ... 1024
AT_512 = SIZES.index(512)
N_KEYS = 16
VARIANTS = ("unscaled", "scaled")


def measure_scaling(generator: torch.Generator, n_queries: int) -> dict[str, dict[str, np.ndarray]]:
    """What `softmax_statistics` finds over SIZES, for each of VARIANTS, with independent normal q, k and v."""
    found = {variant: [] for variant in VARIANTS}
    for d_k in SIZES:
        q = torch.randn(n_queries, 1, d_k, generator=generator)
        k = torch.randn(n_queries, N_KEYS, d_k, generator=generator)
        v = torch.randn(n_queries, N_KEYS, 1, generator=generator)
        found["unscaled"].append(softmax_statistics(q, k, v, scale=1.0))
        found["scaled"].append(softmax_statistics(q, k, v, scale=1 / math.sqrt(d_k)))
    return {v: {name: np.array([row[name] for row in rows]) for name in rows[0]} for v, rows in found.items()}


def softmax_statistics(q: Tensor, k: Tensor, v: Tensor, scale: float) -> dict[str, float]:
    """For n queries (n, 1, d_k) with their own keys (n, N, d_k) and values (n, N, 1): the variance of the scores, and over
    the queries the mean entropy (nats) and largest weight, and the norms of two gradients: of the output with respect to
    the scores ("gradient": median, mean, 10 and 90 % quantiles) and to q ("q_gradient": median and mean)."""
    q = q.clone().requires_grad_()
    scores = q @ k.transpose(-2, -1) * scale  # (n, 1, N)
    weights = scores.softmax(dim=-1)  # (n, 1, N)
    # the queries are independent, so each gets the gradient of its own output
    at_scores, at_q = (g.norm(dim=-1).flatten() for g in torch.autograd.grad((weights @ v).sum(), (scores, q)))
    low, median, high = at_scores.quantile(torch.tensor([0.1, 0.5, 0.9])).tolist()
    return {
        "variance": scores.var().item(),
        "entropy": torch.special.entr(weights).sum(dim=-1).mean().item(),
        "largest": weights.amax(dim=-1).mean().item(),
        "gradient_norm": median,
        "gradient_norm_mean": at_scores.mean().item(),
        "gradient_low": low,
        "gradient_high": high,
        "q_gradient_norm": at_q.median().item(),
        "q_gradient_norm_mean": at_q.mean().item(),
    }


def variance_slope(variance: np.ndarray) -> float:
    """The exponent in variance ~ d_k^exponent: slope of a straight line through the logarithms."""
    return float(np.polyfit(np.log(SIZES), np.log(variance), 1)[0])


def three_keys(generator: torch.Generator) -> dict[str, Tensor]:
    """Weights of one random query over three random keys at d_k = 512: the first draw, not a chosen one."""
    q, k = torch.randn(1, 512, generator=generator), torch.randn(3, 512, generator=generator)
    scales = {"unscaled": 1.0, "scaled": None}
    return {variant: scaled_dot_product_attention(q, k, k, scale=scales[variant])[1][0] for variant in VARIANTS}


def draw_scaling(found: dict[str, dict[str, np.ndarray]], example: dict[str, Tensor]) -> Figure:
    top = found["unscaled"]["largest"][AT_512]
    title = f"Unscaled at d_k = 512, one of {N_KEYS} keys takes {top:.2f} on average, and most queries get almost no gradient"
    fig, axes = panels(title, (4, 4, 4, 3), size=(15, 4.6))
    styles = {"unscaled": {"color": VERMILLION, "marker": "s", "ls": "--"}, "scaled": {"color": BLUE, "marker": "o"}}
    hatches = {"unscaled": "//", "scaled": None}
    for side, variant in zip((-0.2, 0.2), VARIANTS, strict=True):
        data, style = found[variant], styles[variant]
        curve(axes[0], SIZES, data["variance"], label=variant, **style)
        curve(axes[1], SIZES, data["largest"], label=variant, **style)
        band = {"low": data["gradient_low"], "high": data["gradient_high"]}
        curve(axes[2], SIZES, data["gradient_norm"], label=f"{variant}, median", **band, **style)
        axes[2].plot(SIZES, data["gradient_norm_mean"], color=style["color"], ls=":", label=f"{variant}, mean")
        bars = axes[3].bar(
            np.arange(3) + side, example[variant].tolist(), width=0.4, color=style["color"], hatch=hatches[variant]
        )
        axes[3].bar_label(bars, fmt="%.2f", fontsize=10)
    for ax in axes[:3]:
        ax.set_xscale("log", base=2)
        ax.set(xlabel="size of the keys d_k", xticks=[1, 8, 64, 512], xticklabels=["1", "8", "64", "512"])
    axes[0].set(yscale="log", title="variance of the scores")
    axes[0].legend(loc="upper left")
    axes[2].legend(loc="lower left", fontsize=9)
    axes[1].set(ylim=(0, 1.05), title=f"largest of {N_KEYS} weights (mean)")
    axes[2].set(yscale="log", ylim=(1e-8, 3), title="gradient that reaches the scores\n(band: 10-90 % of the queries)")
    for ax in (axes[0], axes[2]):
        decades(ax.yaxis)
    axes[3].set(ylim=(0, 1.12), title="one random query,\nthree keys, d_k = 512")
    axes[3].set_xticks(range(3), ["key 1", "key 2", "key 3"])
    return fig


def show_scaling(lab: Lab) -> None:
    lab.section("2. Why divide by sqrt(d_k)")
    n_queries = 300 if lab.fast else 2000
    found, example = measure_scaling(lab.generator("scaling"), n_queries), three_keys(lab.generator("three keys"))
    lab.say(f"Independent normal q and k, {n_queries} queries, {N_KEYS} keys each; u = unscaled, s = scaled.")
    names = [(name, v) for name in ("variance", "entropy", "largest") for v in VARIANTS]
    rows = zip(SIZES, *(found[v][name].tolist() for name, v in names), strict=True)
    lab.table(["d_k", *(f"{name} ({v[0]})" for name, v in names)], rows)
    slopes = {variant: variance_slope(found[variant]["variance"]) for variant in VARIANTS}
    slope = lab.record_all("scaling.variance_slope", slopes, rtol=0.02, atol=0.02)
    at_512 = {}
    for name in (
        "entropy",
        "largest",
        "gradient_norm",
        "gradient_norm_mean",
        "q_gradient_norm",
        "q_gradient_norm_mean",
    ):
        values = {f"{v}.d512": found[v][name][AT_512] for v in VARIANTS}
        rtol = 0.3 if name == "gradient_norm" else 0.1  # the median unscaled gradient is a small number out of a wide spread
        at_512[name] = list(lab.record_all(f"scaling.{name}", values, rtol=rtol).values())
    lab.record_all("scaling.three_keys", {v: weights.max() for v, weights in example.items()}, rtol=0.01)
    lab.say(
        f"The variance of q.k grows like d_k^{slope['unscaled']:.2f}; divided by sqrt(d_k) the scores keep a variance near 1. "
        "At d_k = 512 the weights have an entropy of {:.2f} nats unscaled and {:.2f} scaled; equal weights have "
        "{:.2f}.".format(*at_512["entropy"], math.log(N_KEYS))
    )
    lab.say(
        "Gradient of the output with respect to the scores, by autograd: {:.0e} for the median query unscaled, {:.2f} scaled. "
        "The means are {:.3f} and {:.2f}: a minority of the queries gets nearly all there "
        "is.".format(*at_512["gradient_norm"], *at_512["gradient_norm_mean"])
    )
    lab.say(
        "Is it true, then, that scaling gives larger gradients? Not so simply. The gradient goes on to q with a further "
        "factor of the scale: there the median is {:.1e} unscaled and {:.2f} scaled, but the mean is {:.2f} against {:.2f}. "
        "Unscaled, learning is all or nothing: most queries get next to nothing, a few "
        "get a lot.".format(*at_512["q_gradient_norm"], *at_512["q_gradient_norm_mean"])
    )
    lab.figure(draw_scaling(found, example), "01_scaling_effect")


# %% 3. A longer sentence
# Words as hand-made features. The projections say what a word looks for (W_Q) and what it is found by (W_K): a verb
# looks for a noun or pronoun of its own number, a determiner or an adjective for a noun, "very" for an adjective. A
# trained model must find such projections by itself; Lab 2 shows one that did.

FEATURES = ("noun", "pronoun", "relative", "verb", "adjective", "degree", "time", "determiner", "number")  # d_model = 9
CHANNELS = ("noun", "pronoun", "verb", "adjective", "number")  # d_k = 5
SINGULAR, PLURAL, EITHER = 1, -1, 0
LEXICON = {
    ("noun", SINGULAR): "cat dog mouse house",
    ("noun", PLURAL): "cats dogs mice houses",
    ("pronoun", SINGULAR): "she he it",
    ("pronoun", PLURAL): "we you they",
    ("relative", EITHER): "which that who",
    ("verb", SINGULAR): "is was sleeps",
    ("verb", PLURAL): "are were sleep",
    ("verb", EITHER): "found saw chased",
    ("adjective", EITHER): "cute old small happy",
    ("degree", EITHER): "very quite",
    ("time", EITHER): "yesterday today",
    ("determiner", EITHER): "the",
    ("determiner", SINGULAR): "a this",
    ("determiner", PLURAL): "these",
}
KINDS = {word: kind for kind, words in LEXICON.items() for word in words.split()}
LOOKS_FOR = {
    "verb": {"noun": 8.0, "pronoun": 8.0},
    "noun": {"adjective": 8.0},
    "pronoun": {"verb": 8.0},
    "relative": {"noun": 8.0},
    "adjective": {"noun": 8.0},
    "degree": {"adjective": 8.0},
    "time": {"verb": 8.0},
    "determiner": {"noun": 8.0},
    "number": {"number": 4.0},  # +1 meets +1 or -1 meets -1: agreement attracts, disagreement repels
}
W_Q = torch.tensor([[LOOKS_FOR[feature].get(channel, 0.0) for channel in CHANNELS] for feature in FEATURES])  # (9, 5)
W_K = torch.tensor([[float(feature == channel) for channel in CHANNELS] for feature in FEATURES])  # (9, 5)
SENTENCE = "the cat which we found yesterday is very cute"


def embed(words: list[str]) -> Tensor:
    """(T, 9): FEATURES of each word."""
    rows = [[float(number if f == "number" else f == kind) for f in FEATURES] for kind, number in map(KINDS.get, words)]
    return torch.tensor(rows)


def attend(x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Self-attention over x (..., T, 9) with W_Q and W_K; each word hands over all its features."""
    return scaled_dot_product_attention(x @ W_Q, x @ W_K, x, mask)


def agreeing_verb(words: list[str]) -> int:
    """Position of the last verb that shows a number; without one, of the last verb, or else of the last word."""
    verbs = [i for i, word in enumerate(words) if KINDS[word][0] == "verb"]
    agreeing = [i for i in verbs if KINDS[words[i]][1] != EITHER]
    return (agreeing or verbs or [len(words) - 1])[-1]


def looks_at(weights: Tensor) -> list[int]:
    """Positions of the largest of the weights (T,), several if they are equal."""
    return (weights > weights.max() - 1e-6).nonzero().flatten().tolist()


def draw_sentence(words: list[str], weights: Tensor) -> Figure:
    verb = agreeing_verb(words)
    found = looks_at(weights[verb])
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


def show_sentence(lab: Lab, words: list[str]) -> None:
    lab.section("3. A longer sentence")
    weights = attend(embed(words))[1]  # (T, T)
    best = [looks_at(row) for row in weights]
    rows = [
        [w, " or ".join(words[j] for j in js), float(weights[i, js[0]])]
        for i, (w, js) in enumerate(zip(words, best, strict=True))
    ]
    lab.table(["word", "looks most at", "weight"], rows)
    verb = agreeing_verb(words)
    share = lab.record("sentence.verb_to_subject", weights[verb].max(), rtol=1e-4)
    distance = lab.record("sentence.distance", abs(verb - best[verb][0]), rtol=0)
    lab.say(
        f'"{words[verb]}" puts {share:.2f} on "{words[best[verb][0]]}", at a distance of {distance:.0f}. Distance does not '
        "enter the formula: any word is one step away. Nor does order: where a word looks at two words, it matches both "
        "equally well, and nothing in the formula tells it which of them stands where. Lab 3 is about positions."
    )
    lab.figure(draw_sentence(words, weights), "01_longer_sequence")


# %% 4. Masks
# True = may attend, here and in F.scaled_dot_product_attention; in nn.MultiheadAttention True = blocked. Mixing them up
# raises no error: the model looks exactly where it must not. A mask is tested by perturbation: replace a word, and see
# which outputs move.

MASKS = {
    "none": "no mask; replaced: a later word",
    "causal": "causal mask; replaced: a later word",
    "padding": "padding mask; replaced: a padding word",
    "inverted": "causal mask given to nn.MultiheadAttention; replaced: a later word",
}


def measure_masks(words: list[str], n_padding: int = 3) -> dict[str, dict[str, Tensor | float]]:
    """Weights (T, T) and `leak` under each of MASKS, and the difference from nn.MultiheadAttention used rightly."""
    x, causal = embed(words)[None], causal_mask(len(words))  # (1, T, 9), (T, T)
    padded = torch.cat([x, embed(["the"] * n_padding)[None]], dim=1)  # (1, T + n_padding, 9)
    padding = padding_mask([len(words)], padded.shape[1])  # (1, 1, T + n_padding)
    torchs = torch_attention()
    cases = {  # name: (layer, input, what it may attend to)
        "none": (attend, x, causal),
        "causal": (lambda x: attend(x, causal), x, causal),
        "padding": (lambda x: attend(x, padding), padded, padding[0]),
        "inverted": (lambda x: torchs(x, x, x, attn_mask=causal), x, causal),
    }
    found = {
        name: {"weights": layer(x)[1][0], "leak": leak(layer, x, may), "may": may.expand(x.shape[1], x.shape[1])}
        for name, (layer, x, may) in cases.items()
    }
    found["inverted"]["may"] = ~causal  # what it does look at
    rightly = torchs(x, x, x, attn_mask=~causal)[0]
    found["causal"]["torch_difference"] = (rightly - attend(x, causal)[0]).abs().max().item()
    return found


def torch_attention() -> nn.MultiheadAttention:
    """nn.MultiheadAttention with the projections of `attend`: the same function, with torch's meaning of a mask."""
    d_model, d_k = W_Q.shape
    layer = nn.MultiheadAttention(d_model, num_heads=1, bias=False, batch_first=True)
    w_q = W_Q * math.sqrt(d_model / d_k)  # torch's head has d_k = d_model; zeros fill it up, this undoes its divisor
    w_q, w_k = (F.pad(w, (0, d_model - d_k)) for w in (w_q, W_K))  # (9, 9) each
    layer.in_proj_weight.data = torch.cat([w_q.T, w_k.T, torch.eye(d_model)])
    layer.out_proj.weight.data = torch.eye(d_model)
    return layer.requires_grad_(False)


def leak(layer, x: Tensor, may_attend: Tensor) -> float:
    """Largest change of an output feature at t when a word s != t with may_attend[t, s] False is replaced by any other.

    An output that is NaN, replaced or not, is left out; that one word is blocked from everything.
    """
    n, worst = x.shape[1], 0.0
    hidden = ~may_attend.expand(n, n) & ~torch.eye(n, dtype=torch.bool)  # (T, T)
    before = layer(x)[0]  # (1, T, 9)
    for s in range(n):
        changed = x.repeat(len(KINDS), 1, 1)  # (words of the lexicon, T, 9)
        changed[:, s] = embed(list(KINDS))
        concerned = hidden[:, s] & ~before[0].isnan().any(dim=-1)  # (T,)
        moved = (layer(changed)[0] - before).abs()[:, concerned]
        worst = max(worst, moved.max().item() if moved.numel() else 0.0)
    return worst


def draw_masks(words: list[str], found: dict[str, dict]) -> Figure:
    title = f"A mask read the wrong way round shows the future: hidden words move outputs by {found['inverted']['leak']:.1f}"
    fig, axes = panels(title, (9, 12, 9), size=(15, 5.4))
    titles = {
        "causal": "causal mask: later words are hidden",
        "padding": "padding mask: the filling is hidden",
        "inverted": "MISTAKE: that causal mask in\nnn.MultiheadAttention (True = blocked)",
    }
    for ax, (name, text) in zip(axes, titles.items(), strict=True):
        weights, may = found[name]["weights"], found[name]["may"]
        names = words + ["<pad>"] * (len(weights) - len(words))
        image = heatmap(ax, weights.masked_fill(~may, torch.nan), rows=names, columns=names)
        ax.set_title(f"{text}\na hidden word moves outputs by {found[name]['leak']:.1f}")
        ax.tick_params(axis="x", labelsize=10 if len(weights) < 15 else 8)
    axes[2].text(-0.4, len(words) - 1, "blocked from everything: NaN", va="center")
    fig.colorbar(image, ax=axes, label="weight (grey: hidden by the mask)", fraction=0.03)
    return fig


def show_masks(lab: Lab, words: list[str]) -> None:
    lab.section("4. Masks")
    lab.say("Leak: the largest change of an output feature when a word that its position must not see is replaced.")
    found = measure_masks(words)
    leaks = lab.record_all("masks.leak", {name: found[name]["leak"] for name in MASKS}, rtol=1e-3)
    lab.table(["", "leak"], [[MASKS[name], value] for name, value in leaks.items()], digits=3)
    difference = lab.record("masks.torch_difference", found["causal"]["torch_difference"], rtol=0, atol=1e-5)
    blocked = int(found["inverted"]["weights"][-1].isnan().sum())
    ours = attend(embed(words), ~causal_mask(len(words)))[1][-1].abs().sum()
    lab.say(
        f"With the mask negated, nn.MultiheadAttention agrees with ours (difference {difference:.0e}). Given our mask as it "
        "is, each word sees only the words after it, which a language model is asked to predict. The last word is blocked "
        f"from everything: {blocked} of its {len(words)} weights become NaN; ours sum to {ours:.0f}."
    )
    lab.figure(draw_masks(words, found), "01_masks")


# %% The lab


def sentence(text: str) -> list[str]:
    """argparse type: 2 to 20 words of the lexicon; capitals and punctuation are ignored."""
    words = "".join(c for c in text.lower() if c not in ",.!?;:").split()
    unknown = [repr(word) for word in words if word not in KINDS]
    if unknown or not 2 <= len(words) <= 20:
        problem = f"unknown word {unknown[0]}" if unknown else f"{len(words)} words, not 2 to 20"
        raise argparse.ArgumentTypeError(f"{problem}; known words: {', '.join(sorted(KINDS))}")
    return words


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--sentence", type=sentence, default=SENTENCE, metavar='"..."', help=f'default: "{SENTENCE}"')


def main(lab: Lab) -> None:
    show_look_up(lab)
    show_scaling(lab)
    show_sentence(lab, lab.options.sentence)
    show_masks(lab, lab.options.sentence)


if __name__ == "__main__":
    run(main, __file__, add_arguments)
