# %% [markdown]
# # Lab 1: attention basics
# What does $\mathrm{softmax}(QK^T/\sqrt{d_k})\,V$ do, and why is it written that way? You will see
# 1. attention as a soft look-up: three readers ask five books, in four steps;
# 2. why the scores are divided by $\sqrt{d_k}$: what happens to the softmax and its gradient when they are not;
# 3. a verb that finds its subject five words away;
# 4. masks: how to hide the future and the padding, and what an inverted mask lets through.
#
# Nothing is trained here: features and projections are made by hand, so that every number can be followed.
#
# (You may skip the lines that begin with `lab.`; what is to be learned stands above them. `if lab:` is true when you run the
# cell. `lab.record` keeps a number under a name, `lab.say` prints a sentence with what was kept, and `lab.study` knows what 24
# other random starts found.)

# %%
"""Lab 1 - Attention basics: what does softmax(Q K^T / sqrt(d_k)) V do, and why is it written that way?

Run it:      python 01_attention_basics.py
Then try:    python 01_attention_basics.py --out trial --sentence "the old dogs which she saw are happy"
It writes:   01_attention_weights, 01_scaling_effect, 01_longer_sequence, 01_masks and 01_results.json
"""

import sys
from pathlib import Path

# common/ stands beside this folder. A notebook has no __file__; it starts in this folder.
sys.path.insert(0, str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))
from common.command_line import Parser, sentence_of
from common.lab import Lab
from common.lexicon import FEATURES, KINDS, agreeing_verb, embed

SENTENCE = "the cat which we found yesterday is very cute"


def add_arguments(parser: Parser) -> None:
    text = f'default: "{SENTENCE}"'
    parser.add_argument("--sentence", type=sentence_of(KINDS, most=20), default=SENTENCE, metavar='"..."', help=text)


lab = Lab(1, globals(), add_arguments)

# %%
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.attention import causal_mask, padding_mask, scaled_dot_product_attention
from week6.figures.attention_basics import draw_look_up, draw_masks, draw_scaling, draw_sentence

# %% [markdown]
# ## 1. Attention is a soft look-up
# A reader asks a library. The request is the **query**; each book has a **key**, what it is about, and a **value**, what is
# in it. The query is compared with the key of every book, a softmax turns the scores into shares, and the answer is the
# average of the values with those shares. A dictionary returns one entry; attention returns a mixture.
#
# All four sizes differ, so that no axis can be taken for another: 3 queries, 5 keys, $d_k = 4$, $d_v = 2$.

# %%
TOPICS = ("math", "code", "nature", "history")  # d_k = 4: what queries and keys speak of
CONTENTS = ("formulas", "stories")  # d_v = 2: what a book hands over
BOOKS = {  # title: (key, value)
    "Linear Algebra": ((3.0, 1.0, 0.0, 0.0), (9.0, 0.0)),
    "Machine Learning": ((3.0, 3.0, 0.0, 0.0), (7.0, 2.0)),
    "Python for All": ((1.0, 3.0, 0.0, 0.0), (2.0, 3.0)),
    "Wild Birds": ((0.0, 0.0, 3.0, 1.0), (0.0, 8.0)),
    "World History": ((0.0, 0.0, 0.0, 3.0), (0.0, 10.0)),
}
READERS = {  # what is wanted: query (the first and the last are equally long, so that neither is louder)
    "machine learning": (2.0, 2.0, 0.0, 0.0),
    "birds long ago": (0.0, 0.0, 2.0, 1.0),
    "some math": (2.8, 0.0, 0.0, 0.0),
}
q = torch.tensor(list(READERS.values()))  # (3, 4)
k = torch.tensor([key for key, _ in BOOKS.values()])  # (5, 4)
v = torch.tensor([value for _, value in BOOKS.values()])  # (5, 2)

if lab.section("1. Attention is a soft look-up"):
    lab.say("Three readers ask five books. Which books does each of them get, and how much of each?")
    if lab.verbose:
        lab.table(["Q: reader", *TOPICS], [[reader, *query] for reader, query in READERS.items()], digits=1)
        rows = [[book, *key, "", *value] for book, (key, value) in BOOKS.items()]
        lab.table(["K and V: book", *TOPICS, "|", *CONTENTS], rows, digits=0)

# %% [markdown]
# The four steps of attention, for all readers at once:

# %%
scores = q @ k.T  # (3, 5): one product for each reader and book
scaled = scores / math.sqrt(k.shape[-1])  # (3, 5)
weights = scaled.softmax(dim=-1)  # (3, 5): shares of each row
output = weights @ v  # (3, 2)

if lab:
    for name, step in {"1. scores": scores, "2. scaled": scaled, "3. weights": weights}.items():
        if lab.verbose or step is weights:
            # strict=True: zip complains if the lengths differ
            rows = [[reader, *row] for reader, row in zip(READERS, step.tolist(), strict=True)]
            lab.table([name, *BOOKS], rows)
    rows = [[reader, *row] for reader, row in zip(READERS, output.tolist(), strict=True)]
    lab.table(["4. output", *CONTENTS], rows)

# %% [markdown]
# Is it right? Each row of weights must sum to 1, an average cannot leave the range of what it averages, and PyTorch's own
# function must give the same.

# %%
if lab:
    tops = dict(zip((reader.replace(" ", "_") for reader in READERS), weights.amax(dim=-1), strict=True))
    outside = torch.maximum(output - v.amax(dim=0), v.amin(dim=0) - output).clamp(min=0)
    checks = {
        "row_sum_error": (weights.sum(dim=-1) - 1).abs().max(),
        "outside_values": outside.max(),
        "torch_difference": (output - F.scaled_dot_product_attention(q, k, v)).abs().max(),
    }
    lab.record("lookup", {"top_weight": tops, **checks})
    lab.say(
        "A clear request takes {lookup.top_weight.machine_learning:.2f} from one book, the vague one at most "
        "{lookup.top_weight.some_math:.2f} from any. PyTorch's own function gives the same (difference "
        "{lookup.torch_difference:.0e})."
    )
    fig = draw_look_up(scores, scaled, weights, output, v, list(READERS), list(BOOKS), CONTENTS)
    lab.figure(fig, "01_attention_weights")

# %% [markdown]
# ## 2. Why divide by sqrt(d_k)
# A product $q \cdot k$ is a sum of $d_k$ terms. If the features are independent, with mean 0 and variance 1, each term has
# variance 1 and the sum $d_k$: scores of size $\sqrt{d_k}$. Large scores saturate the softmax: one key takes nearly all, and
# the gradient that comes back through it is nearly 0 for most queries. We measure this on random queries, each with 16 keys.

# %%
SIZES = tuple(2**i for i in range(11))  # d_k = 1 ... 1024
N_KEYS = 16


def softmax_statistics(q: Tensor, k: Tensor, v: Tensor, scale: float) -> dict[str, float]:
    """For n queries (n, 1, d_k) with their own keys (n, N, d_k) and values (n, N, 1): the variance of the scores, and over
    the queries the mean entropy (nats) and largest weight, and the norms of two gradients: of the output with respect to
    the scores ("gradient": median, mean, 10 and 90 % quantiles) and to q ("q_gradient": median and mean)."""
    q = q.clone().requires_grad_()
    scores = q @ k.transpose(-2, -1) * scale  # (n, 1, N)
    weights = scores.softmax(dim=-1)  # (n, 1, N)
    # like backward(), but returns the gradients; the queries are independent, so each gets the gradient of its own output
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


def measure_scaling(generator: torch.Generator, n_queries: int) -> dict[str, dict[str, np.ndarray]]:
    """`softmax_statistics` over SIZES, unscaled and scaled, of independent normal q, k and v."""
    found = {"unscaled": [], "scaled": []}
    for d_k in SIZES:
        q = torch.randn(n_queries, 1, d_k, generator=generator)
        k = torch.randn(n_queries, N_KEYS, d_k, generator=generator)
        v = torch.randn(n_queries, N_KEYS, 1, generator=generator)
        found["unscaled"].append(softmax_statistics(q, k, v, scale=1.0))
        found["scaled"].append(softmax_statistics(q, k, v, scale=1 / math.sqrt(d_k)))
    return {
        variant: {name: np.array([row[name] for row in rows]) for name in rows[0]}  # (sizes,) each
        for variant, rows in found.items()
    }


# %%
if lab.section("2. Why divide by sqrt(d_k)"):
    n_queries = 300 if lab.fast else 1000
    found = measure_scaling(lab.generator("scaling"), n_queries)
    lab.say(f"What do large keys do to a softmax? ({n_queries} random queries, {N_KEYS} keys; u: unscaled, s: scaled)")
    names = [(name, variant) for name in ("variance", "entropy", "largest") for variant in found]
    rows = list(zip(SIZES, *(found[variant][name].tolist() for name, variant in names), strict=True))
    shown = rows if lab.verbose else rows[::3]  # of d_k = 1, 8, 64 and 512
    lab.table(["d_k", *(f"{name} ({variant[0]})" for name, variant in names)], shown)

# %% [markdown]
# The table in numbers: the exponent in $\mathrm{variance} \sim d_k^p$ is the slope of a straight line through the logarithms;
# and at $d_k = 512$, what is left of the entropy and of the gradients. One example with three keys, the first random one,
# shows how the shares collapse.

# %%
if lab:
    slopes = {variant: np.polyfit(np.log(SIZES), np.log(data["variance"]), 1)[0] for variant, data in found.items()}
    lab.record("scaling.variance_slope", slopes)
    for name in ("entropy", "largest", "gradient_norm", "gradient_norm_mean", "q_gradient_norm", "q_gradient_norm_mean"):
        lab.record(f"scaling.{name}", {variant: {"d512": data[name][SIZES.index(512)]} for variant, data in found.items()})
    lab.say(
        "The variance grows like d_k^{scaling.variance_slope.unscaled:.2f}; scaled, it stays near 1. Unscaled at d_k = 512 the "
        "median query gets a gradient of {scaling.gradient_norm.unscaled.d512:.0e} at its scores; the mean is "
        "{scaling.gradient_norm_mean.unscaled.d512:.2f}: few get all."
    )

# %% [markdown]
# Does scaling give *larger* gradients, then? Not so simply: on its way to q the gradient meets the scale once more. Compare
# the median query with the mean over all of them. Unscaled, the gradient is all or nothing.

# %%
if lab:
    lab.say(
        "At q the median is {scaling.q_gradient_norm.unscaled.d512:.3f} unscaled and {scaling.q_gradient_norm.scaled.d512:.2f} "
        "scaled, the mean {scaling.q_gradient_norm_mean.unscaled.d512:.2f} and {scaling.q_gradient_norm_mean.scaled.d512:.2f}."
    )
    generator = lab.generator("three keys")
    one, three = torch.randn(1, 512, generator=generator), torch.randn(3, 512, generator=generator)
    example = {
        # [1]: the weights, (1, 3); [0]: those of the only query, (3,)
        "unscaled": scaled_dot_product_attention(one, three, three, scale=1.0)[1][0],
        "scaled": scaled_dot_product_attention(one, three, three)[1][0],
    }
    lab.record("scaling.three_keys", {variant: shares.max() for variant, shares in example.items()})
    others = {variant: lab.study.values(f"scaling.three_keys.{variant}") for variant in example}
    fig = draw_scaling(SIZES, found, example, others, at=512, n_keys=N_KEYS)
    lab.figure(fig, "01_scaling_effect")

# %% [markdown]
# ## 3. A longer sentence
# In a sentence every word is query, key and value at once. Words are made of hand-made features (`common/lexicon.py`); the
# projections $W_Q$ and $W_K$ say what a word looks for and what it is found by. A verb looks for a noun or a pronoun of its
# own number, a determiner or an adjective for a noun, "very" for an adjective. A trained model must find such projections by
# itself; Lab 2 shows one that did.

# %%
CHANNELS = ("noun", "pronoun", "verb", "adjective", "number")  # d_k = 5
LOOKS_FOR = {  # 8: large, so that the softmax decides clearly
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


def attend(x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Self-attention over x (..., T, 9) with W_Q and W_K; each word hands over all its features."""
    return scaled_dot_product_attention(x @ W_Q, x @ W_K, x, mask)


def looks_at(weights: Tensor) -> list[int]:
    """Positions of the largest of the weights (T,), several if they are equal."""
    return (weights > weights.max() - 1e-6).nonzero().flatten().tolist()


# %% [markdown]
# What does each word look at most? Put in a sentence of your own: `words = "the mice that she chased are old".split()`.

# %%
words = lab.options.sentence
x = embed(words)  # (T, 9)

if lab.section("3. A longer sentence"):
    lab.say("What does each word look at most? (The five that look furthest; --verbose shows all.)")
    weights = attend(x)[1]  # (T, T)
    best = [looks_at(row) for row in weights]
    rows = [[w, " or ".join(words[j] for j in js), row.max().item()] for w, js, row in zip(words, best, weights, strict=True)]
    furthest = sorted(range(len(words)), key=lambda i: -abs(best[i][0] - i))[: None if lab.verbose else 5]
    lab.table(["word", "looks most at", "weight"], [rows[i] for i in sorted(furthest)])

# %%
if lab:
    verb = agreeing_verb(words)
    subjects = best[verb]
    lab.record("sentence", {"verb_to_subject": weights[verb].max(), "distance": abs(verb - subjects[0])})
    lab.say(
        '"{verb}" puts {sentence.verb_to_subject:.2f} on {subjects}, at a distance of {sentence.distance:.0f}. Distance does '
        "not enter the formula, and nor does order: a word that matches two words equally well looks at both.",
        verb=words[verb],
        subjects=" and on ".join(f'"{words[i]}"' for i in subjects),
    )
    fig = draw_sentence(words, weights, verb, subjects)
    lab.figure(fig, "01_longer_sequence")

# %% [markdown]
# ## 4. Masks
# A mask hides keys. Here and in `F.scaled_dot_product_attention` True means "may attend"; in `nn.MultiheadAttention` True
# means "blocked". Mixing them up raises no error: the model looks exactly where it must not. (This section builds on
# section 3: its words and `attend`.)
#
# How does a mask hide? Where it is False the score becomes $-\infty$ before the softmax, and $\exp(-\infty) = 0$ is the
# weight: `scores.masked_fill(~mask, -inf).softmax(dim=-1)`. A row that is hidden entirely would be 0/0, so
# `common/attention.py` uses a very low finite number and sets such rows to 0.
#
# A mask is tested by perturbation: replace a word that must not be seen, by any other word, and see whether an output moves.

# %%


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


def torch_attention() -> nn.MultiheadAttention:
    """nn.MultiheadAttention with the projections of `attend`: the same function, with torch's meaning of a mask."""
    d_model, d_k = W_Q.shape
    layer = nn.MultiheadAttention(d_model, num_heads=1, bias=False, batch_first=True)
    w_q = W_Q * math.sqrt(d_model / d_k)  # torch's head has d_k = d_model; zeros fill it up, this undoes its divisor
    w_q, w_k = (F.pad(w, (0, d_model - d_k)) for w in (w_q, W_K))  # (9, 9) each
    layer.in_proj_weight.data = torch.cat([w_q.T, w_k.T, torch.eye(d_model)])
    layer.out_proj.weight.data = torch.eye(d_model)
    return layer.requires_grad_(False)


# %% [markdown]
# Four cases: no mask, a causal mask, a padding mask over a sentence that is filled up with three more words, and the causal
# mask in the hands of `nn.MultiheadAttention`, which reads it the other way round.

# %%
batch = x[None]  # (1, T, 9): a batch of one sentence
causal = causal_mask(len(words))  # (T, T)
FILLING = ["the"] * 3  # any words would do: as keys they are hidden. As queries they look around as a "the" does.
padded = torch.cat([batch, embed(FILLING)[None]], dim=1)  # (1, T + 3, 9)
padding = padding_mask([len(words)], padded.shape[1])  # (1, 1, T + 3)
torchs = torch_attention()

if lab.section("4. Masks"):
    leaks = {
        "none": leak(attend, batch, causal),
        "causal": leak(lambda x: attend(x, causal), batch, causal),
        "padding": leak(lambda x: attend(x, padding), padded, padding[0]),
        "inverted": leak(lambda x: torchs(x, x, x, attn_mask=causal), batch, causal),
    }
    cases = {
        "none": "no mask, a later word",
        "causal": "causal mask, a later word",
        "padding": "padding mask, a padding word",
        "inverted": "causal mask given to nn.MultiheadAttention, a later word",
    }
    lab.record("masks.leak", leaks)
    lab.say("Does a hidden word leak? Replace it, and see by how much an output that must not see it changes.")
    lab.table(["replaced", "leak"], [[cases[name], value] for name, value in leaks.items()], digits=3)

# %% [markdown]
# With the mask negated, `nn.MultiheadAttention` agrees with ours. Given our mask as it is, each word sees only the words
# after it, which a language model is asked to predict; and the last word is blocked from everything.

# %%
if lab:
    rightly, _ = torchs(batch, batch, batch, attn_mask=~causal)
    _, inverted = torchs(batch, batch, batch, attn_mask=causal)
    lab.record("masks.torch_difference", (rightly - attend(batch, causal)[0]).abs().max())
    lab.say(
        "Given the negated mask, nn.MultiheadAttention agrees with ours (difference {masks.torch_difference:.0e}). Given ours, "
        "{blocked} of the {n} weights of the last word become NaN; our own function, given the same wrong mask, gives that "
        "word weights of {ours:.0f} instead.",
        blocked=int(inverted[0, -1].isnan().sum()),
        n=len(words),
        ours=attend(x, ~causal)[1][-1].max(),
    )
    seen = {"causal": attend(x, causal)[1], "padding": attend(padded, padding)[1][0], "inverted": inverted[0]}
    may = {"causal": causal, "padding": padding[0].expand(len(padded[0]), -1), "inverted": ~causal}
    fig = draw_masks(words, FILLING, seen, may, leaks)
    lab.figure(fig, "01_masks")

# %%
lab.finish()
