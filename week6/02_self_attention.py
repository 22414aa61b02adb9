# %% [markdown]
# # Lab 2: self-attention and several heads
# What do heads learn, and how do we know? A layer with four heads learns to fill gaps in a small language. You will see
# 1. self-attention inside this layer, word by word, and cross-attention: questions that look for their answers;
# 2. what each head looks at and, because looking is not yet using, what breaks when a head is silenced; and which rule the
#    layer really learned;
# 3. attention against an RNN: time, memory, and how much of a distant input still arrives, each measured.

# %%
"""Lab 2 - Self-attention and several heads: what do heads learn, and how do we know?

Run it:      python 02_self_attention.py
Then try:    python 02_self_attention.py --out trial --heads 1
             python 02_self_attention.py --out trial --sentence "these old cats which the dog saw sleep on the mat"
It writes:   02_self_attention_components, 02_multi_head_attention, 02_rnn_vs_attention, 02_results.json
             and 02_explore.html, the page to play with
"""

import sys
from pathlib import Path

# common/ stands beside this folder. A notebook has no __file__; it starts in this folder.
sys.path.insert(0, str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))
from common.command_line import Parser, sentence_of
from common.lab import Lab
from common.toy_language import MAX_WORDS, VOCABULARY

HEAD_COUNTS = (1, 2, 4, 8)


def add_arguments(parser: Parser) -> None:
    known = sentence_of(VOCABULARY[2:], most=MAX_WORDS)  # without padding and mask
    parser.add_argument("--heads", type=int, choices=HEAD_COUNTS, default=4, metavar="H", help="1, 2, 4 or 8; default: 4")
    parser.add_argument("--sentence", type=known, metavar='"..."', help="words of the toy language, for sections 1 and 2")


lab = Lab(2, globals(), add_arguments)

# %%
import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from common.attention import MultiHeadAttention, padding_mask, scaled_dot_product_attention
from common.heads import jensen_shannon, silenced
from common.jacobian import jacobian
from common.positional_encoding import LearnedEncoding
from common.progress import progress
from common.sequence_layers import exponent, make_layer, measure_times
from common.toy_language import (
    BEINGS,
    MASK,
    PLACES,
    MaskedWordModel,
    Sentence,
    encode,
    fill_gaps,
    masked_sentences,
    probe_sentences,
    role_words,
    sentences,
    train_masked_words,
    verb_position,
)
from common.training import train
from week6.explore.page import explore_page
from week6.figures.self_attention import draw_components, draw_heads, draw_rnn

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
    examples = [" ".join(VOCABULARY[token] for token in row[:n]) for row, n in zip(tokens[:5], lengths, strict=False)]
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
# What has it learned? We hide one word of a sentence and look at two things: the words that the model thinks of, and the
# weights with which each head looks from the gap at the words of the sentence.

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
    lab.say('"{word}" is hidden. The model thinks of {best}. What each head looks at from the gap:', word=words[at], best=best)
    rows = [[word, *from_gap] for word, from_gap in zip(words, weights[:, at].T.tolist(), strict=True)]
    lab.table(["", *(f"head {h}" for h in range(n_heads))], rows)

# %% [markdown]
# From here on you can play. `weights` is there to be printed; `weights[0, at]` is what head 0 looks at from the gap. Hide
# another word, or silence a head and look again:
# ```python
# best, weights = guess(model, words, at=1)  # hide the second word instead
# best, weights = guess(silenced(model, 1), words, at)  # without head 1; they count from 0
# ```
# A silenced head still looks, but what it finds no longer reaches the output: watch `best`, not `weights`.
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
        slices = [part.unflatten(-1, (n_heads, -1)).transpose(0, 1) for part in (q, k, v)]  # (H, T, d_head) each
        heads, weights = scaled_dot_product_attention(*slices)  # (H, T, d_head), (H, T, T)
        output = layer.w_o(heads.transpose(0, 1).flatten(1))  # (T, d_model)
    lab.say(
        'X, Q, K and V are {x}, the weights {weights}. What "{word}" looks at, mean of the heads:',
        x=tuple(x.shape),
        weights=tuple(weights.shape),
        word=sentence[being],
    )
    lab.table(["key", "weight"], list(zip(sentence, weights.mean(dim=0)[being].tolist(), strict=True)))

# %% [markdown]
# Training only ever scores hidden words; what a visible word looks at is a by-product.
#
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


def train_reader(reader: Reader, n_steps: int, seed: int, n_batch: int = 64) -> None:
    """Train it to name the answers to all its questions in new sentences, with the loop from above."""
    asked = sentences(n_steps * n_batch, seed, held_out=False)
    tokens, lengths = encode(sentence.words for sentence in asked)
    _, answers = role_words(asked, list(QUESTIONS.values()))  # (B, 4)

    def loss_at(step: int) -> Tensor:
        batch = slice(step * n_batch, (step + 1) * n_batch)
        scores, _ = reader(tokens[batch], lengths[batch])
        return F.cross_entropy(scores.flatten(0, 1), answers[batch].flatten())  # unanswerable questions do not count

    train(reader, loss_at, n_steps, lr=1e-2, label="training the reader")


@torch.no_grad()
def measure_reader(reader: Reader, test: Sequence[Sentence]) -> dict[str, float]:
    """Over all answerable questions: share answered rightly, mean weight on the answer's place, and on an even one."""
    tokens, lengths = encode(sentence.words for sentence in test)
    places, answers = role_words(test, list(QUESTIONS.values()))  # (B, 4) each
    scores, weights = reader(tokens, lengths)  # (B, 4, vocabulary), (B, 4, T)
    asked = places >= 0  # (B, 4)
    on_answer = weights.gather(2, places.clamp(min=0)[..., None]).squeeze(2)  # (B, 4)
    even = (1 / lengths)[:, None].expand_as(asked)
    right = (scores.argmax(dim=-1) == answers)[asked].float().mean().item()
    return {"accuracy": right, "weight": on_answer[asked].mean().item(), "even_weight": even[asked].mean().item()}


# %%
if lab:
    torch.manual_seed(lab.seed("reader"))
    reader = Reader()
    train_reader(reader, 4 if lab.fast else 200, lab.seed("reader sentences"))
    unseen = sentences(500, lab.seed("held-out sentences"), held_out=True)
    lab.record("cross", measure_reader(reader, unseen))
    lab.say(
        "On sentences not used in training {cross.accuracy:.2f} of the answers are right, and {cross.weight:.2f} of the "
        "weight lies on the answer; spread evenly it would be {cross.even_weight:.2f}."
    )

# %% [markdown]
# Now ask it about our sentence. Where one looks need not be what one answers; and a question without an answer has to look
# somewhere, too, because a softmax sums to 1.

# %%
if lab:
    with torch.no_grad():
        scores_of_words, asked = reader(*encode([sentence]))  # (1, 4, vocabulary), (1, 4, T)
    probability, numbers = scores_of_words[0].softmax(dim=-1).max(dim=-1)  # (4,) each
    answers = [VOCABULARY[i] for i in numbers]
    share, most = asked[0].max(dim=-1)  # (4,) each
    rows = zip(QUESTIONS, answers, probability.tolist(), [sentence[i] for i in most], share.tolist(), strict=True)
    lab.table(["question", "answer", "probability", "looks most at", "weight"], rows)

    place = next((i for i, word in enumerate(sentence) if word in PLACES), verb_position(sentence))
    gap = guess(model, sentence, place)[1][:, place]  # (H, T)
    seen = {"x": x, "q": q, "k": k, "v": v, "output": output, "weights": weights}
    fig = draw_components(sentence, seen, place, gap, list(QUESTIONS), asked[0], answers)
    lab.figure(fig, "02_self_attention_components")

# %% [markdown]
# ## 2. Do heads specialise? Attention proposes, ablation decides
# Some gaps test a *skill*: the number of a verb, the object that fits a verb, *this* or *these*, *on* or *in*. Each skill is
# decided by another word of the sentence. For every head and every skill we ask two questions:
# - **attention:** how much of its weight goes from the gap to the word that decides?
# - **ablation:** set the head's output to zero. How much accuracy is lost?
#
# Only if both point at the same head may it be named after the skill. Our rule: it looks there more than the other heads and
# at least twice as much as an even spread over the sentence would, and silencing it costs most, and more than 0.2.

# %%
LOOKS_AT = {  # skill: the word that tells what belongs into the gap
    "agreement": "subject",
    "object": "verb",
    "determiner": "subject",
    "preposition": "place",
}
NEEDED = 0.2  # a head counts as needed for a skill if silencing it costs more than this


def accuracy(model: nn.Module, test: Sequence[Sentence], skill: str) -> float:
    """In how many of the sentences that test the skill the right word scores above all its competitors."""
    usable = [sentence for sentence in test if skill in sentence.gaps]
    return fill_gaps(model, usable, skill)[0].float().mean().item()


def measure_heads(model: MaskedWordModel, test: Sequence[Sentence]) -> dict[str, dict]:
    """For each skill: "accuracy"; by head, its "drop" (H,) when the head is silenced, and from the gap the mean "attention"
    (H,) to the word of LOOKS_AT; and what an "even" attention would give."""
    found = {}
    for skill, role in LOOKS_AT.items():
        usable = [sentence for sentence in test if skill in sentence.gaps]
        right, weights = fill_gaps(model, usable, skill)  # (B,), (B, H, T)
        decides = torch.tensor([sentence.at[role] for sentence in usable])
        full = right.float().mean().item()
        found[skill] = {
            "accuracy": full,
            "drop": torch.tensor([full - accuracy(silenced(model, h), usable, skill) for h in range(weights.shape[1])]),
            "attention": weights[torch.arange(len(usable)), :, decides].mean(dim=0),
            "even": sum(1 / len(sentence.words) for sentence in usable) / len(usable),
        }
    return found


def verdict(data: dict) -> tuple[int, int | None, bool]:
    """For one skill: the head that looks most at the word that decides; the head whose silence costs most, None if it costs
    no more than NEEDED; and whether both are one head among several, which looks there at least twice as much as evenly."""
    looks, costs = data["attention"].argmax().item(), data["drop"].argmax().item()
    needed = costs if data["drop"][costs] > NEEDED else None
    twice = data["attention"][looks] >= 2 * data["even"]
    return looks, needed, bool(looks == needed and twice and len(data["drop"]) > 1)


# %%
if lab.section("2. Do heads specialise? Attention proposes, ablation decides"):
    test = sentences(60 if lab.fast else 1000, lab.seed("held-out sentences"), held_out=True)
    across = [sentence for sentence in test if sentence.attractor]  # a noun of the other number stands in between
    found = measure_heads(model, test)
    lab.record("agreement.accuracy", found["agreement"]["accuracy"])
    lab.record("agreement.accuracy.attractor", accuracy(model, across, "agreement"))
    for h in range(n_heads):
        lab.record("ablation", {skill: {f"head_{h}": data["drop"][h]} for skill, data in found.items()})
    lab.say(
        "On {n} held-out sentences the model picks the right one of two verb forms in {agreement.accuracy:.1%} of the "
        "cases, and in {agreement.accuracy.attractor:.1%} where a noun of the other number stands in between.",
        n=len(test),
    )
    rows = []
    for skill, data in found.items():
        looks, needed, named = verdict(data)
        rows.append([skill, LOOKS_AT[skill], looks, data["attention"][looks].item(), data["even"]])
        rows[-1] += ["none" if needed is None else needed, data["drop"].max().item(), looks if named else "none"]
    header = ["skill", "decided by", "head that looks", "weight", "even", "head needed", "loss", "may be named"]
    lab.table(header, rows)

# %% [markdown]
# Agreement is the famous case. From a hidden verb, what does each head look at: its subject, its object, or just the word
# beside it?

# %%


def measure_verb(model: nn.Module, test: Sequence[Sentence]) -> dict[str, Tensor]:
    """Mean attention (H,) of a hidden verb to its subject, its object and the words before and after it."""
    usable = [s for s in test if "agreement" in s.gaps and "object" in s.at]
    _, weights = fill_gaps(model, usable, "agreement")  # (B, H, T)
    places = {"subject": [s.at["subject"] for s in usable], "object": [s.at["object"] for s in usable]}
    places |= {"word before": [s.at["verb"] - 1 for s in usable], "word after": [s.at["verb"] + 1 for s in usable]}
    rows = torch.arange(len(usable))
    return {name: weights[rows, :, torch.tensor(at)].mean(dim=0) for name, at in places.items()}


if lab:
    attention = found["agreement"]["attention"]  # (H,)
    lab.record("heads", {"subject_head": attention.argmax(), "subject_attention": attention.max()})
    verb = measure_verb(model, test)
    lab.table(["hidden verb", *verb], [[f"head {h}", *(x[h].item() for x in verb.values())] for h in range(n_heads)])

# %% [markdown]
# One trained model is one throw of the dice. Does another random start, with other sentences, give a subject head, too?

# %%
N_STARTS = 3

if lab:
    starts = [found["agreement"]]
    for start in range(1, N_STARTS):
        torch.manual_seed(lab.seed(f"model {start}"))
        another = MaskedWordModel(n_heads)
        train_masked_words(another, n_steps, lab.seed(f"training sentences {start}"), label=f"training, start {start}")
        starts.append(measure_heads(another, test)["agreement"])
    lab.record("heads.named_subject_head", sum(verdict(data)[2] for data in starts))
    lab.say(
        "In {heads.named_subject_head:.0f} of {n} starts a subject head may be named. Silencing the most important head costs "
        "{costs} of the agreement.",
        n=N_STARTS,
        costs=", ".join(f"{data['drop'].max():.2f}" for data in starts),
    )

# %% [markdown]
# A head that may be silenced without loss: is it useless, or does another head do the same work? Silence two at a time.

# %%


def worst_pair(model: MaskedWordModel, test: Sequence[Sentence], skill: str) -> float:
    """Largest loss of a skill's accuracy over all pairs of heads that are silenced together."""
    pairs = itertools.combinations(range(model.block.attention.n_heads), 2)
    return accuracy(model, test, skill) - min(accuracy(silenced(model, *pair), test, skill) for pair in pairs)


if lab and n_heads > 1:
    pairs = lab.record("ablation_pair", {skill: worst_pair(model, test, skill) for skill in found})
    rows = [["one head", *(data["drop"].max().item() for data in found.values())], ["two heads", *pairs.values()]]
    lab.table(["largest loss, silencing", *found], rows)

# %% [markdown]
# Do heads differ at all? The Jensen-Shannon divergence between the weights of two heads is 0 if they look at the same words
# and $\ln 2 = 0.69$ if they share none. We compare with new random layers that read the trained embeddings.

# %%


def diversity(model: nn.Module, test: Sequence[Sentence]) -> float:
    """Mean Jensen-Shannon divergence between the weights of two heads at a hidden verb; nan for a single head."""
    usable = [sentence for sentence in test if "agreement" in sentence.gaps]
    _, weights = fill_gaps(model, usable, "agreement")  # (B, H, T)
    pairs = itertools.combinations(weights.unbind(dim=1), 2)
    return torch.tensor([jensen_shannon(p, q) for p, q in pairs]).mean().item()


if lab and n_heads > 1:
    torch.manual_seed(lab.seed("untrained"))
    untrained = MaskedWordModel(n_heads).eval()
    untrained.embedding, untrained.position = model.embedding, model.position
    lab.record("diversity", {"trained": diversity(model, test), "untrained": diversity(untrained, test)})
    lab.say("Diversity of the heads: {diversity.trained:.3f} trained, {diversity.untrained:.1e} untrained.")

# %% [markdown]
# And was it agreement with the *subject* that was learned? In this grammar the subject is always the first noun. A probe
# outside the grammar tells the two apart: `near the dogs the cat ___ very old`.

# %%
if lab:
    probe = probe_sentences()
    lab.record("probe.agrees_with_subject", accuracy(model, probe, "agreement"))
    lab.say(
        'In {probe.agrees_with_subject:.0%} of {n} sentences such as "{example}" the model agrees with the true subject, in '
        "the others with the first noun. A perfect score on held-out sentences does not tell which rule was learned.",
        n=len(probe),
        example=probe[0],
    )

# %% [markdown]
# Last: are more heads better? The same width, cut into 1, 2, 4 or 8 heads, on the same sentences.

# %%
if lab:
    models = {n_heads: model}
    for count in (count for count in HEAD_COUNTS if count != n_heads):
        torch.manual_seed(lab.seed("model"))
        models[count] = MaskedWordModel(count)
        train_masked_words(models[count], n_steps, lab.seed("training sentences"), label=f"training, heads: {count}")
    by_count = {}
    for count in HEAD_COUNTS:
        by_count[count] = lab.record(f"n_heads.{count}.accuracy", accuracy(models[count], across, "agreement"))
    lab.say(
        "Agreement across attractors: {n_heads.1.accuracy:.3f} with one head, {n_heads.2.accuracy:.3f} with two, "
        "{n_heads.4.accuracy:.3f} with four, {n_heads.8.accuracy:.3f} with eight."
    )
    gap = guess(model, words, at)[1][:, at]  # (H, T)
    fig = draw_heads(found, LOOKS_AT, verdict(found["agreement"]), words, at, gap, by_count)
    lab.figure(fig, "02_multi_head_attention")

# %% [markdown]
# ## 3. Attention against an RNN
# An RNN takes $n$ steps of about $d^2$ operations, one after the other; attention one step of about $n^2 d$. So the counts
# cross at $n = d$. But an operation count is not a time: watch the clock for a forward and a backward pass. (An LSTM step
# takes four times the operations of an RNN step. Does it take four times as long?) Times depend on the machine.

# %%
LENGTHS = (16, 32, 64, 128, 256, 512, 1024, 2048)
D_TIMED = 64
FITTED_FROM = 256  # the exponent p in time ~ n^p is fitted to the lengths from here on
operations = {"RNN": [n * D_TIMED**2 for n in LENGTHS], "attention": [n**2 * D_TIMED for n in LENGTHS]}

if lab.section("3. Attention against an RNN"):
    times = measure_times(("RNN", "LSTM", "attention"), LENGTHS, D_TIMED, repeats=1 if lab.fast else 5)
    exponents = {kind: exponent(LENGTHS, values, fitted_from=FITTED_FROM) for kind, values in times.items()}
    for kind, values in times.items():
        lab.record_seconds(f"exponent.{kind}", exponents[kind])
        for n, value in zip(LENGTHS, values, strict=True):
            lab.record_seconds(f"{kind}.n{n}", value)
    lab.say(f"Milliseconds of one forward and backward pass, batch 1, d = {D_TIMED}, median:")
    lab.table(["length", *times], [[n, *(1e3 * values[i] for values in times.values())] for i, n in enumerate(LENGTHS)])
    fits = ", ".join(f"{kind} n^{p:.1f}" for kind, p in exponents.items())
    lab.say(f"Fitted from n = {FITTED_FROM} on: {fits}.")

# %% [markdown]
# What is kept at inference, so that later words can use it? Of the RNN its last state, which is always the same size, and
# also all that it can remember. Of attention we count the weights, $n^2$ of them. (In training all keep more: the RNN every
# state.)

# %%


@torch.no_grad()
def memory_bytes(kind: str, n: int, d: int) -> int:
    """Bytes of what a layer passes information on by: the RNN's last state, the weights of one head."""
    kept = make_layer(kind, d)(torch.zeros(1, n, d))[1]
    return kept.element_size() * kept.nelement()


if lab:
    memory = {kind: [memory_bytes(kind, n, D_TIMED) for n in LENGTHS] for kind in ("RNN", "attention")}
    for kind in ("attention", "RNN"):
        lab.record(f"memory.{kind.lower()}.bytes.n2048", memory_bytes(kind, 2048, D_TIMED))
    lab.say(
        "At n = 2048 one head's weights take {memory.attention.bytes.n2048:,.0f} bytes, the state of an RNN "
        "{memory.rnn.bytes.n2048:.0f}."
    )

# %% [markdown]
# The **path**: an input reaches the last output through $T - t$ steps in the RNN, and through one in attention. How much of
# it arrives? The norm of $\partial h_T / \partial x_t$, by autograd, says by how much the last output follows each input. The
# layers are untrained: this is what the first step of training would meet. An LSTM forgets, too, as torch starts it; the
# third kind starts with its forget gate open.

# %%
PATH_KINDS = ("RNN", "LSTM", "LSTM, forget bias 3", "attention")


def measure_path(kind: str, seed: int, n: int = 65, d: int = 32) -> Tensor:
    """Norm of the Jacobian d h_T / d x_t (Frobenius) at the distances T - t = 0 ... n - 1, by autograd."""
    torch.manual_seed(seed)
    layer = make_layer(kind, d).double()  # float32 would underflow
    x = torch.randn(1, n, d, dtype=torch.float64)
    last = jacobian(lambda x: layer(x)[0][:, -1], x).reshape(d, n, d)  # d output i / d feature k of position t: (i, t, k)
    return last.pow(2).sum(dim=(0, 2)).sqrt().flip(0)  # (n,)


def path_summary(path: Tensor) -> dict[str, float]:
    """Of `measure_path` for several seeds (seeds, n), the median over the seeds: by what factor the norm shrinks with each
    step of distance between 1 and 33 ("decay"), and the norm at the farthest input ("far"), also relative to that one step
    back ("ratio")."""
    middle = path.median(dim=0).values  # (n,)
    decay, far = (middle[33] / middle[1]) ** (1 / 32), middle[-1]
    return {"decay": decay.item(), "far": far.item(), "ratio": (far / middle[1]).item()}


# %%
if lab:
    seeds = [lab.seed(f"path {i}") for i in range(1 if lab.fast else 10)]
    paths = {kind: torch.stack([measure_path(kind, seed) for seed in seeds]) for kind in PATH_KINDS}
    reach = {kind: path_summary(path) for kind, path in paths.items()}
    lab.record("path.rnn.decay_per_step", reach["RNN"]["decay"])
    lab.record("path.lstm.decay_per_step", reach["LSTM"]["decay"])
    lab.record("path.lstm_open.ratio_far_to_near", reach["LSTM, forget bias 3"]["ratio"])
    lab.record("path.attention", {"ratio_far_to_near": reach["attention"]["ratio"], "far": reach["attention"]["far"]})
    lab.say(
        "With each step of distance the RNN keeps {path.rnn.decay_per_step:.2f} of the norm, the LSTM "
        "{path.lstm.decay_per_step:.2f}. With its forget gate open the input {far} steps back counts "
        "{path.lstm_open.ratio_far_to_near:.2f} times the input one step back; in attention "
        "{path.attention.ratio_far_to_near:.2f} times. Its level is low, {path.attention.far:.3f}, for untrained attention "
        "spreads over all inputs; but no distance is worse than another.",
        far=paths["RNN"].shape[1] - 1,
    )
    fig = draw_rnn(LENGTHS, D_TIMED, times, exponents, FITTED_FROM, operations, memory, paths, reach)
    lab.figure(fig, "02_rnn_vs_attention")

# %%
lab.finish()
