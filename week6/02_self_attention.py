# %% [markdown]
# # Lab 2: self-attention and several heads
# What do heads learn, and how do we know? A layer with four heads learns to fill gaps in a small language. You will see
# 1. self-attention inside this layer, word by word, and cross-attention: questions that look for their answers;
# 2. what each head looks at and, because looking is not yet using, what breaks when a head is silenced; and which rule the
#    layer really learned;
# 3. attention against an RNN: time, memory, and how much of a distant input still arrives, each measured;
# 4. what a softmax does when there is nothing to look at.

# %%
"""Lab 2 - Self-attention and several heads: what do heads learn, and how do we know?

Run it:      python 02_self_attention.py
Then try:    python 02_self_attention.py --out trial --heads 1
             python 02_self_attention.py --out trial --sentence "these old cats which the dog saw sleep on the mat"
It writes:   02_self_attention_components, 02_multi_head_attention, 02_rnn_vs_attention, 02_attention_sink,
             02_results.json and 02_explore.html, the page to play with
"""

import sys
from pathlib import Path

# common/ stands beside this folder. A notebook has no __file__; it starts in this folder.
sys.path.insert(0, str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))
from common.command_line import Parser, sentence_of
from common.lab import Lab
from common.toy_language import BEINGS, MAX_WORDS, VOCABULARY

HEAD_COUNTS = (1, 2, 4, 8)


def add_arguments(parser: Parser) -> None:
    known = sentence_of(VOCABULARY[2:], most=MAX_WORDS)  # without padding and mask
    parser.add_argument("--heads", type=int, choices=HEAD_COUNTS, default=4, metavar="H", help="1, 2, 4 or 8; default: 4")
    parser.add_argument(
        "--sentence", type=known, metavar='"..."', help="words of the toy language, for the start and section 1"
    )


lab = Lab(2, globals(), add_arguments)

# %%
import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from common.attention import MultiHeadAttention, padding_mask, scaled_dot_product_attention
from common.heads import silenced
from common.positional_encoding import LearnedEncoding
from common.progress import progress
from common.reading import measure_reader, train_reader
from common.sequence_layers import exponent, kept_bytes, measure_path, measure_times, multiplications
from common.sink import draw, share_of_error, share_of_error_of_a_constant, train_to_answer, unused_weight
from common.skills import LOOKS_AT, accuracy, diversity, measure_heads, measure_verb, probes, summary, with_random_heads
from common.toy_language import MASK, MaskedWordModel, encode, masked_sentences, sentences, train_masked_words, verb_position
from week6.explore.page import explore_page
from week6.figures.self_attention import draw_components, draw_heads, draw_rnn, draw_sink

# %% [markdown]
# ## A layer that learns to fill gaps
# The language has some sixty words and a small grammar (`common/toy_language.py`). In each training sentence one word is
# hidden, and the model has to name it. For that it must know something: in `the cat which the dogs chased ___ very old` the
# gap is *is*, which agrees with the distant *cat* and not with *dogs* nearby. (Some gaps cannot be filled for sure: the cat,
# or the dog? The loss will not reach 0.)

# %%
n_heads = lab.options.heads
n_steps = 4 if lab.fast else 400
n_batch = 64  # sentences a step

if lab.section("A layer that learns to fill gaps"):
    tokens, lengths, hidden, missing = masked_sentences(n_steps * n_batch, lab.seed("training sentences"))
    examples = [" ".join(VOCABULARY[token] for token in row[:n]) for row, n in zip(tokens[:3], lengths, strict=False)]
    if lab.verbose:
        lab.table(["sentence", "hidden"], [[text, VOCABULARY[i]] for text, i in zip(examples, missing, strict=False)])

# %% [markdown]
# The model is an embedding with learned positions, one Transformer block, and a score for each word of the vocabulary. The
# attention inside the block has `n_heads` heads. (Lab 3 is about positions, Lab 4 about the rest of the block.)
#
# Here is a training loop in full. Take a batch of sentences and see how far off the model is (`loss`). Let autograd find
# which way each parameter makes it worse (`backward`), limit the length of that gradient for safety (`clip`), and go the
# other way (`step`). The `schedule` lets the learning rate rise for the first tenth of the steps and then fall to 0. Every
# other training in these labs is this loop again; it stands in `common/training.py`.

# %%
warmup = 0.0 if lab.fast else 0.1  # share of the steps; four steps are too few for one

if lab:
    torch.manual_seed(lab.seed("model"))
    model = MaskedWordModel(n_heads)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = OneCycleLR(optimizer, max_lr=1e-2, total_steps=n_steps, pct_start=warmup)
    losses = []
    for step in progress(range(n_steps), "training"):
        batch = slice(step * n_batch, (step + 1) * n_batch)
        scores, _ = model(tokens[batch], lengths[batch])  # (B, T, vocabulary)
        loss = F.cross_entropy(scores[torch.arange(n_batch), hidden[batch]], missing[batch])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    model.eval()
    lab.say(f"{n_steps} steps of {n_batch} sentences: the loss went from {losses[0]:.2f} to {losses[-1]:.2f}.")

# %% [markdown]
# What has it learned? We hide one word of a sentence and look at the words that the model thinks of; at the weights with which
# each head looks from the gap at the words of the sentence; and, in the last column, at what is left of the right word's
# probability when the head is *silenced*, its output set to zero (0.00 if it is no longer among the first three).

# %%


@torch.no_grad()
def guess(model: nn.Module, words: Sequence[str], at: int) -> tuple[dict[str, float], Tensor]:
    """Hide word `at`: the three most probable words for the gap, and the weights of each head (H, T, T)."""
    gapped = [MASK if i == at else word for i, word in enumerate(words)]
    scores, weights = model(*encode([gapped]))  # (1, T, vocabulary), (1, H, T, T)
    best = scores[0, at].softmax(dim=-1).topk(3)
    return {VOCABULARY[i]: round(p.item(), 3) for p, i in zip(*best, strict=True)}, weights[0]


# %%
words = lab.options.sentence or ["the", "cat", "which", "we", "found", "yesterday", "is", "very", "cute"]
at = verb_position(words)

if lab:
    best, weights = guess(model, words, at)
    guesses = ", ".join(f"{word} {p:.2f}" for word, p in best.items())
    lab.say('"{word}" is hidden; first guesses: {guesses}. Who looks where from the gap?', word=words[at], guesses=guesses)
    without = [guess(silenced(model, h), words, at)[0].get(words[at], 0.0) for h in range(n_heads)]
    rows = [[f"head {h}", *weights[h, at].tolist(), without[h]] for h in range(n_heads)]
    lab.table(["", *words, "without it"], rows)

# %% [markdown]
# From here on you can play. `weights` is there to be printed; `weights[0, at]` is what head 0 looks at from the gap. Hide
# another word, or silence a head and look again:
# ```python
# at = 1  # hide the second word instead
# best, weights = guess(model, words, at)
# best, weights = guess(silenced(model, 1), words, at)  # without head 1; they count from 0
# ```
# A silenced head still looks, but what it finds no longer reaches the output: watch `best`, not `weights`. (What a head takes
# from the right word may go to another verb of the same number, such as *sits*; section 2 compares only words that compete
# for the gap.)
#
# All this can be done with the mouse, too. Run as a script, the lab puts the model that it has just trained into a page,
# `outputs/02_explore.html`: open it in a browser, type a sentence, hide a word, silence a head.

# %%
if lab:
    lab.write("02_explore.html", explore_page(model, lab.seed("held-out sentences"), fast=lab.fast))
    lab.say("This model, to play with in a browser: 02_explore.html (a script writes it, a cell does not).")

# %% [markdown]
# ## 1. Self-attention, and cross-attention
# In **self-attention** queries, keys and values are three views of one sequence $X$, made by three matrices that are
# learned: $Q = XW_Q$, $K = XW_K$, $V = XW_V$. Each head gets a slice of their features and does on it what you saw in Lab 1.
# What the heads found is laid side by side, and a fourth matrix $W_O$ mixes it:
#
# $\mathrm{head}_i = \mathrm{Attention}(Q_i, K_i, V_i), \quad
# \mathrm{output} = \mathrm{Concat}(\mathrm{head}_1, \ldots, \mathrm{head}_H)\,W_O$
#
# These are the four projections of our trained layer, for one sentence, step by step. Follow the shapes.

# %%
sentence = lab.options.sentence or ["the", "cat", "sat", "on", "the", "mat"]
being = next((i for i, word in enumerate(sentence) if any(word in forms for forms in BEINGS)), 0)

if lab.section("1. Self-attention, and cross-attention"):
    layer = model.block.attention
    with torch.no_grad():
        x = model.embed(encode([sentence])[0])[0]  # (T, d_model)
        q, k, v = layer.w_q(x), layer.w_k(x), layer.w_v(x)  # (T, d_model) each
        # unflatten(-1, (n_heads, -1)) is the same as .view(T, n_heads, d_head)
        slices = [part.unflatten(-1, (n_heads, -1)).transpose(0, 1) for part in (q, k, v)]  # (H, T, d_head) each
        heads, weights = scaled_dot_product_attention(*slices)  # (H, T, d_head), (H, T, T)
        output = layer.w_o(heads.transpose(0, 1).flatten(1))  # (T, d_model)
    if lab.verbose:
        lab.say(f"X, Q, K and V are {tuple(x.shape)}, the weights {tuple(weights.shape)}.")
        lab.table(["mean of the heads", *sentence], [[f"{sentence[being]} looks at", *weights.mean(dim=0)[being].tolist()]])

# %% [markdown]
# In **cross-attention** the queries come from another sequence, as in a decoder that asks an encoder. Here the other sequence
# is a list of four questions, each a learned vector, and the sentence answers. The formula is the same. Look at the two
# lines of `forward` that make `query` and `output`: queries from the questions, keys and values from the sentence.

# %%
QUESTIONS = {"who?": "subject", "does what?": "verb", "what?": "object", "where?": "place"}


class Reader(nn.Module):
    """Cross-attention alone: each of QUESTIONS looks into a sentence and names a word of it."""

    def __init__(self, d_model: int = 32):
        super().__init__()
        self.embedding, self.position = nn.Embedding(len(VOCABULARY), d_model), LearnedEncoding(MAX_WORDS, d_model)
        self.questions = nn.Parameter(0.02 * torch.randn(len(QUESTIONS), d_model))
        self.attention = MultiHeadAttention(d_model, 1)
        self.to_scores = nn.Linear(d_model, len(VOCABULARY))

    def forward(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T), (B,) -> scores (B, 4, vocabulary), weights (B, 4, T)"""
        sentence = self.embedding(tokens) + self.position(tokens.shape[1])  # (B, T, d_model)
        query = self.questions.expand(len(tokens), -1, -1)  # (B, 4, d_model)
        output, weights = self.attention(query, sentence, sentence, padding_mask(lengths, tokens.shape[1]))
        return self.to_scores(output), weights[:, 0]


# %% [markdown]
# The reader is trained to name the answers. Nobody tells it where they stand, so we can measure whether it looks there.

# %%
if lab:
    torch.manual_seed(lab.seed("reader"))
    reader, roles = Reader(), list(QUESTIONS.values())
    train_reader(reader, roles, 4 if lab.fast else 200, lab.seed("reader sentences"))
    unseen = sentences(500, lab.seed("held-out sentences"), held_out=True)
    measured = lab.record("cross", measure_reader(reader, roles, unseen))
    starts = ", in the median of {cross.weight@n} starts {cross.weight@median:.2f}" if lab.study else ""
    lab.say(
        "Do they look at the answer? In this run {cross.weight:.2f} of the weight is there" + starts + " (spread evenly it "
        "would be {cross.even_weight:.2f})."
    )
    if lab.verbose:
        lab.say("{cross.accuracy:.1%} of the answers are right.")

# %% [markdown]
# Now ask it about our sentence. Where one looks need not be where the answer stands; and a question without an answer has to
# look somewhere, too, because a softmax sums to 1. (Section 4 is about that.)

# %%
if lab:
    with torch.no_grad():
        scores_of_words, asked = reader(*encode([sentence]))  # (1, 4, vocabulary), (1, 4, T)
    probability, numbers = scores_of_words[0].softmax(dim=-1).max(dim=-1)  # (4,) each
    answers = [VOCABULARY[i] for i in numbers]
    share, most = asked[0].max(dim=-1)  # (4,) each
    rows = zip(QUESTIONS, answers, probability.tolist(), [sentence[i] for i in most], share.tolist(), strict=True)
    lab.table(["question", "answer", "probability", "looks most at", "weight"], rows)

    clearest = weights.amax(dim=-1).mean(dim=-1).argmax().item()  # the head that looks most at single words
    seen = {"X": x} | {name: part[clearest] for name, part in zip("QKV", slices, strict=True)}
    seen |= {"weights": weights[clearest], "output": heads[clearest]}
    on_answer = lab.study.values("cross.weight") or [measured["weight"]]
    fig = draw_components(sentence, seen, clearest, list(QUESTIONS), asked[0], answers, on_answer)
    lab.figure(fig, "02_self_attention_components")

# %% [markdown]
# ## 2. Do heads specialise? Attention proposes, ablation decides
# Some gaps test a *skill*: the number of a verb, the object that fits a verb, *this* or *these*, *on* or *in*. Each skill is
# decided by another word of the sentence. For every head and every skill we ask two questions:
# - **attention:** how much of its weight goes from the gap to the word that decides?
# - **ablation:** set the head's output to zero. How sure is the model still?
#
# How sure, we measure in **log-odds**: $\log\frac{p}{1-p}$, where $p$ is the probability of the right word among those that
# compete for the gap. At 0 right and wrong are equally likely; each 2.3 more make the right word's odds ten times as large. To
# count right answers would not do: a model that is surer than it needs to be can lose much before its first mistake.

# %% [markdown]
# When may a head be named after a skill? Our rule, in one place for the table, the figure and the lesson: the skill **hangs on
# a head** if without it at least half of the log-odds are gone. The head **may be named** after the skill if the skill hangs
# on it, and it is also the head that looks most at the word that decides, at least twice as much as an even spread over the
# sentence would. If the skill hangs on no single head but on a pair, it is **shared**.

# %%


def verdict(data: Mapping) -> tuple[int, int, bool]:
    """For one skill: the head that looks most at the word that decides; the least number of heads without which half of the
    log-odds are gone, 3 if it takes more than two; and whether the head that looks may be named after the skill."""
    looks, costs = data["attention"].argmax().item(), data["lost"].argmax().item()
    if data["lost"][costs] >= 0.5:
        clearly = data["attention"][looks] >= 2 * data["even"]
        return looks, 1, bool(looks == costs and clearly and len(data["lost"]) > 1)
    return looks, 2 if max(data["pairs"].values(), default=0) >= 0.5 else 3, False


# %%
if lab.section("2. Do heads specialise? Attention proposes, ablation decides"):
    test = sentences(60 if lab.fast else 1000, lab.seed("held-out sentences"), held_out=True)
    across = [sentence for sentence in test if sentence.attractor]  # a noun of the other number stands in between
    found = measure_heads(model, test)
    lab.record("agreement.accuracy", found["agreement"]["accuracy"])
    lab.record("agreement.accuracy.attractor", accuracy(model, across, "agreement"))
    lab.say(
        "Which head is needed? With all, verbs agree in {agreement.accuracy.attractor:.1%} across a noun of the other number."
    )
    verdicts, rows = {skill: verdict(data) for skill, data in found.items()}, []
    for skill, (looks, needed, named) in verdicts.items():
        data = found[skill]
        lost = [data["lost"].max().item(), max(data["pairs"].values(), default="-")]  # a single head makes no pair
        outcome = f"head {looks}" if named else {1: "none", 2: "shared"}.get(needed, "by more")
        rows.append([skill, looks, data["attention"][looks].item(), data["lost"].argmax().item(), *lost, outcome])
    lab.table(["skill", "looks most", "weight", "costs most", "lost", "lost, two heads", "named"], rows)

# %% [markdown]
# One trained model is one throw of the dice. In how many random starts does each skill hang on one head? In how many may that
# head be named? And does the head that looks most take part, if only in the pair without which most is lost?

# %%
if lab:
    for skill, (looks, needed, named) in verdicts.items():
        kept = lab.record(f"heads.{skill}", summary(found[skill], looks) | {"needed": needed, "named": named})
        lab.record(f"ablation.{skill}", {f"head_{h}": drop for h, drop in enumerate(found[skill]["drop"])})
    most, subject_head = found["agreement"]["attention"].max(dim=0)
    lab.record("heads", {"subject_attention": most, "subject_head": subject_head})
    starts = {skill: {key: lab.study.values(f"heads.{skill}.{key}") for key in kept} for skill in found}
    if lab.study:
        counts = ("named", "looker_costs_most", "looker_in_worst_pair")
        rows = [[k, x["needed"].count(1), *(int(sum(x[key])) for key in counts)] for k, x in starts.items()]
        if lab.verbose:
            columns = ("hangs on one head", "may be named", "looker costs most", "in the pair")
            lab.table([f"of {lab.study.n} starts", *columns], rows)
        alone = ", ".join(f"{row[0]} {row[1]}" for row in rows)
        lab.say(f"Hangs on one head, of {lab.study.n} starts: {alone}.")
    lab.figure(draw_heads(found, LOOKS_AT, verdicts, starts), "02_multi_head_attention")

# %% [markdown]
# Do heads differ because they were trained? The Jensen-Shannon divergence between the weights of two heads is 0 if they look at
# the same words and $\ln 2 = 0.69$ if they share none. Beside the trained heads: new random ones that read the trained
# embeddings, once as they are and once brought to the size for which layers are made (standard deviation 1). Before you
# conclude that difference is learned, let the random heads have larger scores: `with_random_heads(model, 3 / size)`. The
# number says how decided heads are, not what they know. (`--verbose` prints it.)

# %%
if lab and n_heads > 1:
    torch.manual_seed(lab.seed("untrained"))
    size = model.embed(tokens).std().item()
    rivals = {"trained": model, "untrained": with_random_heads(model, 1 / size), "untrained_tiny": with_random_heads(model)}
    apart = lab.record("diversity", {name: diversity(rival, test) for name, rival in rivals.items()})
    if lab.verbose:
        lab.table(["divergence of two heads", *rivals], [["mean", *(f"{found:.2g}" for found in apart.values())]])
if lab and lab.verbose:
    verb = measure_verb(model, test)
    lab.table(["hidden verb", *verb], [[f"head {h}", *(x[h].item() for x in verb.values())] for h in range(n_heads)])

# %% [markdown]
# ### Which rule was learned?
# A perfect score does not tell. In this grammar the subject is always the first noun, and it always stands at place 1, 2 or 3
# (the first word has place 0). So *agree with the subject*, *with the first noun* and *with the noun at place 1 to 3* are
# right equally often. Sentences from outside the grammar tell them apart: in `near the dogs the cat ___ cute` the subject is
# the second noun; more words in front move both nouns without changing their order (in the fifth the gap, too, stands further
# back than in any training sentence); and the last puts both nouns where subjects stand. (`--verbose` shows all of them.)

# %%
PROBES = {  # what is tested: A is the noun whose number is counted, B the other
    "place_1": "the A near the B _ cute",
    "place_2": "the old A near the B _ cute",
    "place_3": "today the old A near the B _ cute",
    "place_4": "today the old small A near the B _ cute",
    "place_5": "today the old small happy A near the B _ cute",
    "alone_4": "today the old small A _ cute",
    "not_subject": "near the A the B _ cute",
    "both_early": "the A the B _ cute",
}

if lab:
    rows = []
    for name, pattern in PROBES.items():
        kept = lab.record(f"probe.{name}", accuracy(model, probes(pattern), "agreement"))
        if lab.verbose or name in ("place_2", "place_4", "not_subject", "both_early"):
            rows.append([pattern, kept] + ([lab.study.median(f"probe.{name}")] if lab.study else []))
    lab.record("probe.agrees_with_subject", 1 - accuracy(model, probes(PROBES["not_subject"]), "agreement"))
    lab.say("Which rule? Of all pairs of nouns A and B of different number, the share in which the verb `_` agrees with A:")
    lab.table(["sentence", "agrees with A", *["median start"] * bool(lab.study)], rows)

# %% [markdown]
# Last: are more heads better? The same width, cut into 1, 2, 4 or 8 heads, on the same sentences. Agreement across attractors
# (nouns of the other number in between) is perfect after the full training, which tells nothing. So we train for a shorter
# time, and ask who learns fastest.

# %%
if lab:
    short, rows = max(3 * n_steps // 8, 1), [["this run"]]
    keys = [f"n_heads.{count}.accuracy" for count in HEAD_COUNTS]
    for count, key in zip(HEAD_COUNTS, keys, strict=True):
        torch.manual_seed(lab.seed("model"))
        another = MaskedWordModel(count)
        train_masked_words(another, short, lab.seed("training sentences"), label=f"training, heads: {count}")
        rows[0].append(lab.record(key, accuracy(another, across, "agreement")))
    if lab.study:
        better = [lab.study.count(key, keys[0], where=float.__gt__) for key in keys[1:]]
        rows += [["median start", *map(lab.study.median, keys)], [f"ahead of 1 head, of {lab.study.n}", "", *better]]
    lab.table([f"accuracy after {short} steps, heads:", *HEAD_COUNTS], rows)

# %% [markdown]
# ## 3. Attention against an RNN
# An RNN multiplies each input and its last state by a matrix: $2 n d^2$ multiplications in $n$ steps, one after the other.
# Attention has four projections, $4 n d^2$, and compares all with all, $2 n^2 d$, but each of these is one large product. So
# attention always computes more. Does it take longer? We watch the clock, also for torch's **fused** attention
# (FlashAttention's idea: the same sums block by block, so that the $n^2$ weights never stand in memory). Times depend on the
# machine; the fastest of a few repeats is disturbed least by what else it does.

# %%
LENGTHS = (16, 32, 64, 128, 256, 512, 1024, 2048)
D_TIMED = 64
FITTED_FROM = 256  # the exponent p in time ~ n^p is fitted to the lengths from here on

if lab.section("3. Attention against an RNN"):
    n_times = 1 if lab.fast else 5
    times = measure_times(("RNN", "attention", "fused attention"), LENGTHS, D_TIMED, n_times)
    exponents = {kind: exponent(LENGTHS, values, fitted_from=FITTED_FROM) for kind, values in times.items()}
    for kind, values in times.items():
        for n, value in zip(LENGTHS, values, strict=True):
            lab.record_seconds(f"{kind.replace(' ', '_')}.n{n}", value)
    counts = {n: [multiplications(kind, n, D_TIMED) for kind in ("RNN", "attention")] for n in LENGTHS}
    lab.record("operations", {name: counts[2048][i] for i, name in enumerate(("rnn.n2048", "attention.n2048"))})
    rows = [[n, *(1e3 * values[i] for values in times.values()), counts[n][1] / counts[n][0]] for i, n in enumerate(LENGTHS)]
    if lab.verbose:
        lab.table(["ms, length", *times, "multiplications, attention / RNN"], rows, digits=1)
    clock = "; ".join(f"{kind} {1e3 * values[3]:.1f} and {1e3 * values[-1]:.0f}" for kind, values in times.items())
    lab.say(f"How long do {LENGTHS[3]} and {LENGTHS[-1]} words take on this machine? In ms: {clock}.")

# %% [markdown]
# What has to be kept while a text is read or written word by word? Of the RNN its last state, which is always the same size,
# and also all that it can remember. Of attention the keys and values of all words so far, the **key-value cache**: $2 n d$
# numbers. The $n^2$ weights are needed for a moment only, and by fused attention not at all.

# %%
if lab:
    memory = {kind: [kept_bytes(kind, n, D_TIMED) for n in LENGTHS] for kind in ("RNN", "attention")}
    kept = {f"{kind.lower()}.bytes.n2048": values[-1] for kind, values in memory.items()}
    lab.record("memory", kept | {"weights.bytes.n2048": 2048**2 * torch.zeros(1).element_size()})
    lab.say("Bytes kept after 2,048 words? RNN {memory.rnn.bytes.n2048:,.0f}, attention {memory.attention.bytes.n2048:,.0f}.")

# %% [markdown]
# The **path**: an input reaches the last output through $T - t$ steps in the RNN, and through one in attention. How much of
# it arrives? The norm of $\partial h_T / \partial x_t$, by autograd, says by how much the last output follows each input. The
# layers are untrained: this is what the first step of training would meet. An LSTM forgets, too, as torch starts it; the
# third kind starts with its forget gate open. Look whether it is the kind of layer that decides, or how its gate starts; and
# whether attention cares for distance at all.

# %%
PATH_KINDS = {"RNN": "rnn", "LSTM": "lstm", "LSTM, forget bias 3": "lstm_open", "attention": "attention"}
DISTANCES = (1, 4, 8, 16, 32, 48, 64)  # those that are recorded

if lab:
    paths = {kind: measure_path(kind, lab.seed("path")) for kind in PATH_KINDS}
    rows, keeps = [], {}
    for kind, key in PATH_KINDS.items():
        step, far = paths[kind][33] / paths[kind][1], paths[kind][64] / paths[kind][1]
        kept = lab.record(f"path.{key}", {"decay_per_step": step ** (1 / 32), "ratio_far_to_near": far})
        lab.record(f"path.{key}", {f"norm.d{distance}": paths[kind][distance] for distance in DISTANCES})
        rows.append([kind, kept["decay_per_step"], f"{kept['ratio_far_to_near']:.2g}"])
        keeps[kind] = lab.study.values(f"path.{key}.decay_per_step") or [kept["decay_per_step"]]
        if lab.study:
            name = f"path.{key}.ratio_far_to_near"
            rows[-1].append(f"{lab.study.q10(name):.2g} to {lab.study.q90(name):.2g}")
    lab.table(["untrained", "keeps, each step", "64 back / 1 back", *[f"80 % of {lab.study.n} starts"] * bool(lab.study)], rows)
    spread = {kind: [lab.study.values(f"path.{key}.norm.d{x}") for x in DISTANCES] for kind, key in PATH_KINDS.items()}
    fig = draw_rnn(LENGTHS, D_TIMED, times, n_times, exponents, FITTED_FROM, memory, paths, DISTANCES, spread, keeps)
    lab.figure(fig, "02_rnn_vs_attention")

# %% [markdown]
# ## 4. A softmax has to look somewhere
# "The cat sat on the mat" has no answer to "what?", and still the question looked somewhere. Can attention say *nothing*? A
# small task: given values between 1 and 2, two of them marked, answer with the average of the marked ones if you are asked (one
# time in five), and otherwise with 0. Any weighted average of the values lies between 1 and 2 (Lab 1), so 0 is out of reach.
# Three ways to look:
# - **without** a place to rest: the softmax over the values, nothing else;
# - **with** one: a first token that means nothing, with the value 0;
# - **with a 1 in the denominator** of the softmax, and no token: $w_i = e^{s_i} / (1 + \sum_j e^{s_j})$.
#
# All of them may scale and shift what comes out.

# %%


class Average(nn.Module):
    """One attention: the query says whether it is asked, the keys whether a value is marked; the values are the values."""

    def __init__(self, rest: str, d: int = 8):
        super().__init__()
        self.rest = rest
        self.query, self.key = nn.Embedding(2, d), nn.Embedding(3, d)  # idle, asked; other, marked, first token
        self.scale, self.shift = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(()))

    def forward(self, asked: Tensor, marked: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """(B,), (B, n), (B, n) -> answers (B,), weights (B, n), or (B, 1 + n) with a first token"""
        kinds = marked.long()
        if self.rest == "with":
            kinds, values = F.pad(kinds, (1, 0), value=2), F.pad(values, (1, 0), value=0.0)  # one more entry in front
        q, k = self.query(asked.long()), self.key(kinds)  # (B, d), (B, n, d)
        scores = (k @ q[:, :, None]).squeeze(-1) / math.sqrt(q.shape[-1])  # (B, n)
        weights = scores.softmax(dim=-1)
        if self.rest == "plus_one":
            weights = F.pad(scores, (1, 0), value=0.0).softmax(dim=-1)[:, 1:]  # e^0 = 1 joins the sum
        return self.scale * (weights * values).sum(dim=-1) + self.shift, weights


# %%
RESTS = ("without", "with", "plus_one")

if lab.section("4. A softmax has to look somewhere"):
    problems = draw(4000, lab.seed("sink test"))
    n_sink = 4 if lab.fast else 300
    averages = {rest: train_to_answer(Average, rest, n_sink, lab.seed("sink")) for rest in RESTS}
    errors = lab.record("sink.error", {rest: share_of_error(averages[rest], problems) for rest in RESTS})
    unused = {rest: unused_weight(averages[rest], problems) for rest in RESTS}
    lab.record("sink", {"idle_weight": unused["with"], "idle_missing": unused["plus_one"]})
    lab.record("sink.error.constant", share_of_error_of_a_constant(problems))
    lab.say(
        "Can it say nothing? Without a place to rest {sink.error.without:.2f} of the error is left (a constant answer: "
        "{sink.error.constant:.2f}), with a first token {sink.error.with:.1g}, with a 1 in the denominator "
        "{sink.error.plus_one:.1g}."
    )
    if lab.verbose:
        lab.say("Idle, {sink.idle_weight:.2f} rests on the first token; with the 1, {sink.idle_missing:.2f} is not there.")
    marked, values = problems[1][:1], problems[2][:1]  # of one problem
    with torch.no_grad():
        shown = {rest: [averages[rest](torch.tensor([ask]), marked, values)[1][0] for ask in (True, False)] for rest in RESTS}
    starts = {rest: lab.study.values(f"sink.error.{rest}") for rest in RESTS}
    lab.figure(draw_sink(marked[0], values[0], shown, errors, starts), "02_attention_sink")

# %% [markdown]
# In large language models many heads put much weight on the first token, whatever it is; it is thought that they rest there
# when they have nothing to say (Xiao et al. 2023, "attention sinks"). A bright first column in a picture of weights is no
# sign that what the first word says matters. (Were the values around 0, an even spread would come nearer to 0; by arithmetic
# half of the error would still be left.)

# %%
lab.finish()
