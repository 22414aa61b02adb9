"""Lab 2 - Self-attention and several heads: what do heads learn, and how do we know?

A layer with four heads learns to fill gaps in a small language (common/toy_language.py). You will see
  1. self-attention inside a trained layer, word by word, and cross-attention: questions that look for their answers;
  2. what each head looks at, and, because looking is not yet using, what breaks when a head is silenced;
  3. attention against an RNN: time, memory, and how much of a distant input still arrives, each measured.

Run it:      python 02_self_attention.py
Then try:    python 02_self_attention.py --heads 1
             python 02_self_attention.py --sentence "these old cats which the dog saw sleep on the mat"
It writes:   02_self_attention_components, 02_multi_head_attention, 02_rnn_vs_attention and 02_results.json
"""

from __future__ import annotations

import argparse
import copy
import itertools
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that common/ is found from any folder
from common.lab import Lab, Parser, run  # isort: skip  (first: Ctrl-C then ends quietly while torch loads)

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from common.attention import MultiHeadAttention, padding_mask
from common.plotting import BLUE, GREY, MODEL_STYLES, VERMILLION, curve, heatmap, panels, weight_bars
from common.positional_encoding import LearnedEncoding
from common.toy_language import (
    BEINGS,
    COPULA,
    IDS,
    MASK,
    MAX_WORDS,
    VERBS,
    VOCABULARY,
    MaskedWordModel,
    Sentence,
    encode,
    fill_gaps,
    sentences,
    train_masked_words,
)
from common.training import train

D_MODEL = 32
HEAD_COUNTS = (1, 2, 4, 8)


def train_model(lab: Lab, n_heads: int, start: int = 0) -> MaskedWordModel:
    """The model of this lab with n_heads heads. All head counts see the same sentences; `start` numbers the repetitions,
    which start from other random weights and see other sentences."""
    n_steps = 40 if lab.fast else 400
    repetition = f" {start}" if start else ""
    torch.manual_seed(lab.seed("model" + repetition))
    model = MaskedWordModel(n_heads, D_MODEL)
    steps = lab.progress(range(n_steps), f"training, heads: {n_heads}, start {start}")
    train_masked_words(model, steps, n_steps, lab.seed("training sentences" + repetition))
    return model


# %% 1. Self-attention, and cross-attention
# In self-attention queries, keys and values are three views of one sequence: Q = X W_Q, K = X W_K, V = X W_V. In
# cross-attention the queries come from another sequence, as in a decoder that asks an encoder. Here the other sequence
# is a list of questions, and the sentence answers.

QUESTIONS = {"who?": "subject", "does what?": "verb", "what?": "object", "where?": "place"}


@torch.no_grad()
def look_inside(model: MaskedWordModel, words: Sequence[str]) -> dict[str, Tensor]:
    """Inside the attention layer for one sentence: x, q, k, v, output (T, d_model) and weights (H, T, T)."""
    tokens, _ = encode([words])
    x, layer = model.embed(tokens), model.block.attention
    output, weights = layer(x)
    found = {"x": x, "q": layer.w_q(x), "k": layer.w_k(x), "v": layer.w_v(x), "output": output, "weights": weights}
    return {name: tensor[0] for name, tensor in found.items()}


class Reader(nn.Module):
    """Cross-attention alone: each of QUESTIONS looks into a sentence and names a word of it."""

    def __init__(self):
        super().__init__()
        self.embedding, self.position = nn.Embedding(len(VOCABULARY), D_MODEL), LearnedEncoding(MAX_WORDS, D_MODEL)
        self.questions = nn.Parameter(0.02 * torch.randn(len(QUESTIONS), D_MODEL))
        self.attention = MultiHeadAttention(D_MODEL, 1)
        self.to_scores = nn.Linear(D_MODEL, len(VOCABULARY))

    def forward(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T), (B,) -> scores (B, 4, vocabulary), weights (B, 4, T)"""
        sentence = self.embedding(tokens) + self.position(tokens.shape[1])  # (B, T, d_model)
        query = self.questions.expand(len(tokens), -1, -1)  # (B, 4, d_model)
        output, weights = self.attention(query, sentence, sentence, padding_mask(lengths, tokens.shape[1]))
        return self.to_scores(output), weights[:, 0]


def answers(asked: Sequence[Sentence]) -> tuple[Tensor, Tensor]:
    """Where the answers stand (B, 4) and which words they are (B, 4); -100 where the sentence has no answer."""
    places = [[sentence.at.get(role, -100) for role in QUESTIONS.values()] for sentence in asked]
    words = [[IDS[s.words[i]] if i >= 0 else -100 for i in row] for s, row in zip(asked, places, strict=True)]
    return torch.tensor(places), torch.tensor(words)


def train_reader(lab: Lab, n_steps: int, batch: int = 64) -> Reader:
    torch.manual_seed(lab.seed("reader"))
    model, asked = Reader(), sentences(n_steps * batch, lab.seed("reader sentences"), held_out=False)
    (tokens, lengths), (_, words) = encode(s.words for s in asked), answers(asked)

    def loss_at(step: int) -> Tensor:
        rows = slice(step * batch, (step + 1) * batch)
        return F.cross_entropy(model(tokens[rows], lengths[rows])[0].flatten(0, 1), words[rows].flatten())

    train(model, loss_at, lab.progress(range(n_steps), "training the reader"), n_steps, lr=1e-2)
    return model


@torch.no_grad()
def measure_reader(model: Reader, test: Sequence[Sentence]) -> dict[str, float]:
    """Over all answerable questions: share answered rightly, mean weight on the answer's place, and on an even one."""
    (tokens, lengths), (places, words) = encode(s.words for s in test), answers(test)
    scores, weights = model(tokens, lengths)
    asked = places >= 0  # (B, 4)
    on_answer = weights.gather(2, places.clamp(min=0)[..., None]).squeeze(2)  # (B, 4)
    even = (1 / lengths)[:, None].expand_as(asked)
    accuracy = (scores.argmax(dim=-1) == words)[asked].float().mean().item()
    return {"accuracy": accuracy, "weight": on_answer[asked].mean().item(), "even_weight": even[asked].mean().item()}


def draw_components(words: list[str], seen: dict[str, Tensor], at: int, gap: Tensor, cross: Tensor) -> Figure:
    """`seen` from `look_inside`, `gap` (T,) what the hidden word `at` looks at, `cross` (4, T) what the questions do."""
    share, who = (x.item() for x in cross[0].max(dim=-1))
    title = f'Self-attention: every word asks the others. Cross-attention: asked "who?", it puts {share:.2f} on "{words[who]}"'
    fig, axes = panels(title, (1, 1, 1, 1), rows=2, size=(15, 8.4))
    names = {"x": "X = embedding + position", "q": "Q = X W_Q", "k": "K = X W_K", "v": "V = X W_V", "output": "output"}
    for ax, (name, text) in zip(axes[[0, 1, 2, 3, 5]], names.items(), strict=True):
        heatmap(ax, seen[name], rows=words, row_label="", column_label="feature", signed=True)
        ax.set_title(text)
    heatmap(axes[4], seen["weights"].mean(dim=0), rows=words, columns=words)
    axes[4].set_title("weights (mean of the heads)")
    weight_bars(axes[6], [f"<{w}>" if i == at else w for i, w in enumerate(words)], gap.tolist(), mark=[at])
    axes[6].set_title(f'what "{words[at]}" looks at when hidden')
    image = heatmap(axes[7], cross, rows=list(QUESTIONS), columns=words, row_label="question (row)", numbers=".2f")
    axes[7].set_title("cross-attention: questions ask")
    fig.colorbar(image, ax=axes[7], label="weight")
    return fig


def show_components(lab: Lab, model: MaskedWordModel, words: list[str]) -> None:
    lab.section("1. Self-attention, and cross-attention")
    at = next((i for i, word in enumerate(words) if any(word in forms for forms in BEINGS)), 0)
    seen = look_inside(model, words)
    hidden = look_inside(model, [MASK if i == at else word for i, word in enumerate(words)])
    gap = hidden["weights"].mean(dim=0)[at]  # (T,)
    visible = seen["weights"].mean(dim=0)[at]  # (T,)
    lab.say(
        f"{' '.join(words)}: X, Q, K and V are {tuple(seen['x'].shape)}, the weights {tuple(seen['weights'].shape)}. "
        f'What the place of "{words[at]}" looks at, mean of the heads, when the word is hidden and when it is not:'
    )
    lab.table(["key", "hidden", "not hidden"], zip(words, gap.tolist(), visible.tolist(), strict=True))
    lab.say("Training only ever scores hidden words, so the first column is what was learned; the other is a by-product.")
    reader = train_reader(lab, n_steps=40 if lab.fast else 200)
    test = sentences(500, lab.seed("held-out sentences"), held_out=True)
    found = lab.record_all("cross", measure_reader(reader, test), rtol=0.1)
    tokens, lengths = encode([words])
    with torch.no_grad():
        cross = reader(tokens, lengths)[1][0]  # (4, T)
    lab.say(
        f"Cross-attention, trained by itself: 4 questions (queries) look into a sentence of {len(words)} words (keys), weights "
        f"{tuple(cross.shape)}. On held-out sentences {found['accuracy']:.2f} of the answers are right, and "
        f"{found['weight']:.2f} of the weight lies on the answer; spread evenly it would be {found['even_weight']:.2f}. A "
        "question without an answer has to look somewhere as well: its weights sum to 1 too."
    )
    lab.figure(draw_components(words, seen, at, gap, cross), "02_self_attention_components")


# %% 2. Heads specialise, and we can prove it
# For each skill, where does the hidden word look? That is attention. Does the model need that head? That is ablation: the
# head's output is set to zero, and the skill is measured again. Only if both agree may a head be named after a skill.

LOOKS_AT = {  # hidden word: the word that tells what belongs there
    "agreement": "subject",
    "object": "verb",
    "determiner": "subject",
    "preposition": "place",
}
N_STARTS = 3
NEEDED = 0.1  # a head counts as needed for a skill if silencing it costs more than this


def silenced(model: MaskedWordModel, head: int) -> MaskedWordModel:
    """A copy whose head contributes nothing: the columns of W_O that read its output are zero."""
    model = copy.deepcopy(model)
    width = model.block.attention.d_head
    model.block.attention.w_o.weight.data[:, head * width : (head + 1) * width] = 0
    return model


def measure_heads(model: MaskedWordModel, test: Sequence[Sentence]) -> dict[str, dict]:
    """For each skill: "accuracy"; by head, "drop" of the accuracy when it is silenced; and, from the hidden word,
    mean "attention" (H,) to the word of LOOKS_AT, its standard deviation "spread" (H,) over the sentences, and what an
    "even" attention would give."""
    n_heads, found = model.block.attention.n_heads, {}
    for skill, role in LOOKS_AT.items():
        usable = [sentence for sentence in test if skill in sentence.gaps]
        right, weights = fill_gaps(model, usable, skill)  # (B,), (B, H, T)
        at = torch.tensor([sentence.at[role] for sentence in usable])
        to_word = weights[torch.arange(len(usable)), :, at]  # (B, H)
        without = [fill_gaps(silenced(model, head), usable, skill)[0].float().mean().item() for head in range(n_heads)]
        accuracy = right.float().mean().item()
        found[skill] = {"accuracy": accuracy, "drop": torch.tensor([accuracy - x for x in without])}
        even = sum(1 / len(sentence.words) for sentence in usable) / len(usable)
        found[skill] |= {"attention": to_word.mean(dim=0), "spread": to_word.std(dim=0), "even": even}
    return found


def measure_verb(model: MaskedWordModel, test: Sequence[Sentence]) -> dict[str, Tensor]:
    """Mean attention (H,) of a hidden verb to its subject, its object and the words before and after it."""
    usable = [s for s in test if "agreement" in s.gaps and "object" in s.at]
    _, weights = fill_gaps(model, usable, "agreement")  # (B, H, T)
    places = {"subject": [s.at["subject"] for s in usable], "object": [s.at["object"] for s in usable]}
    places |= {"word before": [s.at["verb"] - 1 for s in usable], "word after": [s.at["verb"] + 1 for s in usable]}
    rows = torch.arange(len(usable))
    return {name: weights[rows, :, torch.tensor(at)].mean(dim=0) for name, at in places.items()}


def diversity(model: MaskedWordModel, test: Sequence[Sentence]) -> float:
    """Mean Jensen-Shannon divergence (nats, at most log 2) between the weights of two heads at a hidden verb."""
    usable = [sentence for sentence in test if "agreement" in sentence.gaps]
    _, weights = fill_gaps(model, usable, "agreement")  # (B, H, T)
    entropy = lambda p: torch.special.entr(p).sum(dim=-1)  # noqa: E731
    pairs = itertools.combinations(range(weights.shape[1]), 2)
    divergences = [
        entropy((weights[:, a] + weights[:, b]) / 2) - (entropy(weights[:, a]) + entropy(weights[:, b])) / 2 for a, b in pairs
    ]
    return torch.stack(divergences).mean().item() if divergences else 0.0


def names_for_heads(found: dict[str, dict]) -> dict[str, int | None]:
    """The head that each skill may be named after: the one that looks most at the word that decides it, if silencing
    this same head costs most, and more than NEEDED; None where attention and ablation disagree."""
    names = {}
    for skill, data in found.items():
        looks, needed = data["attention"].argmax().item(), data["drop"].argmax().item()
        names[skill] = looks if looks == needed and data["drop"][needed] > NEEDED else None
    return names


def draw_heads(found: dict[str, dict], on_sentence: Tensor, words: list[str], by_count: dict[int, float]) -> Figure:
    named = names_for_heads(found)["agreement"]
    agreement, n_heads = found["agreement"], len(on_sentence)
    if named is not None:
        title = (
            f"Head {named} finds the subject: {agreement['attention'][named]:.2f} of its attention is there (evenly spread: "
            f"{agreement['even']:.2f}), and silencing it costs {100 * agreement['drop'][named]:.0f} points of agreement"
        )
    else:
        looks, needed = agreement["attention"].argmax().item(), agreement["drop"].argmax().item()
        title = (
            f"Head {looks} looks most at the subject ({agreement['attention'][looks]:.2f}), yet the largest loss of "
            f"agreement is {100 * agreement['drop'][needed]:.0f} points, from silencing head {needed}"
        )
    fig, axes = panels(title, (4, 3, 3, 2), size=(17, 5.2))
    heads = [f"head {h}" for h in range(n_heads)]
    heatmap(axes[0], on_sentence, rows=heads, columns=words, row_label="", numbers=".2f" if len(words) < 11 else None)
    axes[0].set_title("attention of the hidden verb, one sentence")
    targets = [f"{skill}\n-> {role}" for skill, role in LOOKS_AT.items()]
    attention = torch.stack([data["attention"] for data in found.values()], dim=1)  # (H, skills)
    heatmap(axes[1], attention, rows=heads, columns=targets, row_label="", column_label="", numbers=".2f")
    axes[1].set_title("ATTENTION from the hidden word\n(mean, held-out sentences)")
    drop = torch.stack([data["drop"] for data in found.values()], dim=1)  # (H, skills)
    heatmap(
        axes[2],
        drop.clamp(min=0),
        rows=heads,
        columns=list(found),
        row_label="",
        column_label="",
        limit=0.5,
        numbers=".2f",
    )
    axes[2].set_title("ABLATION: accuracy lost when\nthe head is silenced")
    axes[3].bar([str(count) for count in by_count], list(by_count.values()), color=BLUE, width=0.6)
    axes[3].bar_label(axes[3].containers[0], fmt="%.3f", fontsize=10)
    axes[3].axhline(0.5, color=VERMILLION, ls="--")
    axes[3].set(ylim=(0, 1.1), xlabel="number of heads, same width", title="agreement across\nattractors (dashed: guessing)")
    return fig


def attractor_accuracy(model: MaskedWordModel, test: Sequence[Sentence]) -> float:
    """Agreement where a noun of the other number stands between subject and verb."""
    hard = [sentence for sentence in test if sentence.attractor and "agreement" in sentence.gaps]
    return fill_gaps(model, hard, "agreement")[0].float().mean().item()


def show_heads(lab: Lab, model: MaskedWordModel, words: list[str]) -> None:
    lab.section("2. Heads specialise, and we can prove it")
    test, n_heads = (
        sentences(200 if lab.fast else 1000, lab.seed("held-out sentences"), held_out=True),
        model.block.attention.n_heads,
    )
    found, named = measure_heads(model, test), None
    accuracy = lab.record("agreement.accuracy", found["agreement"]["accuracy"], rtol=0.02)
    attractor = lab.record("agreement.accuracy.attractor", attractor_accuracy(model, test), rtol=0.02)
    lab.say(
        f"On {len(test)} held-out sentences the model picks the right one of two verb forms in {100 * accuracy:.1f} % of the "
        f"cases, and in {100 * attractor:.1f} % where a noun of the other number stands in between."
    )
    lab.say("Where the hidden word looks (attention, mean), and what is lost when a head is silenced (ablation):")
    rows = []
    for head in range(n_heads):
        pairs = [[float(data["attention"][head]), float(data["drop"][head])] for data in found.values()]
        rows.append([f"head {head}", *itertools.chain(*pairs)])
        lab.record_all("ablation", {f"{k}.head_{head}": data["drop"][head] for k, data in found.items()}, rtol=0, atol=0.3)
    lab.table(["", *(f"{skill[:5]}. {what}" for skill in found for what in ("att", "abl"))], rows)
    named = names_for_heads(found)
    for skill, head in named.items():
        attention, spread, drop = (found[skill][name] for name in ("attention", "spread", "drop"))
        looks, needed = attention.argmax().item(), drop.argmax().item()
        costs = f"silencing head {needed} costs most, {drop[needed]:.2f}" if drop[needed] > 0.01 else "no head is needed alone"
        verdict = f"head {head} is its head" if head is not None else "no head may be named after it"
        seen = f"head {looks} looks most at the {LOOKS_AT[skill]}, {attention[looks]:.2f} +- {spread[looks]:.2f}"
        print(f"  {skill + ':':<13}{seen}; {costs}: {verdict}")
    print()
    lab.record("heads.subject_head", found["agreement"]["attention"].argmax(), rtol=0, atol=n_heads - 1)
    lab.record("heads.subject_attention", found["agreement"]["attention"].max(), rtol=0.2)
    lab.record("heads.agreeing_skills", sum(head is not None for head in named.values()), rtol=0, atol=2)
    lab.say("Attention of a hidden verb, by head:")
    verb = measure_verb(model, test)
    lab.table(["", *verb], [[f"head {h}", *(float(x[h]) for x in verb.values())] for h in range(n_heads)])
    again = [measure_heads(train_model(lab, n_heads, start), test) for start in range(1, N_STARTS)]
    named_in = lab.record(
        "heads.named_subject_head",
        sum(names_for_heads(heads)["agreement"] is not None for heads in [found, *again]),
        rtol=0,
        atol=1,
    )
    costs = ", ".join(f"{heads['agreement']['drop'].max():.2f}" for heads in [found, *again])
    lab.say(
        f"Is that a law? The same training from {N_STARTS} random starts: a subject head may be named in {named_in:.0f} of "
        f"them. The largest loss of agreement from silencing one head: {costs}. Where it is small, others can do the work."
    )
    torch.manual_seed(lab.seed("untrained"))
    trained = lab.record("diversity.trained", diversity(model, test), rtol=0.3)
    untrained = lab.record("diversity.untrained", diversity(MaskedWordModel(n_heads, D_MODEL).eval(), test), rtol=0.3)
    lab.say(
        f"Diversity (Jensen-Shannon divergence between two heads' weights): {trained:.3f} nats trained, {untrained:.1e} "
        f"untrained; the most possible is {np.log(2):.2f}."
    )
    counts = {h: attractor_accuracy(model if h == n_heads else train_model(lab, h), test) for h in HEAD_COUNTS}
    by_count = {h: lab.record(f"n_heads.{h}.accuracy", value, rtol=0.05) for h, value in counts.items()}
    lab.table(["heads, same width", *by_count], [["agreement across attractors", *by_count.values()]], digits=3)
    tokens, _ = encode([words])
    verb_at = hidden_position(words)
    tokens[0, verb_at] = IDS[MASK]
    with torch.no_grad():
        on_sentence = model(tokens, torch.tensor([len(words)]))[1][0, :, verb_at]  # (H, T)
    shown = [f"<{word}>" if i == verb_at else word for i, word in enumerate(words)]
    lab.figure(draw_heads(found, on_sentence, shown, by_count), "02_multi_head_attention")


def hidden_position(words: list[str]) -> int:
    """Where the last verb stands; the last word if there is none."""
    verbs = [i for i, word in enumerate(words) if word in COPULA or any(word in forms for forms in VERBS)]
    return (verbs or [len(words) - 1])[-1]


# %% 3. Attention against an RNN
# An RNN takes n steps of about d^2 operations, one after the other; attention one step of about n^2 d. An input reaches
# the last state through n - t steps in the RNN and through one in attention. The models here are untrained: what is
# measured is what the first step of training would meet. Times depend on this machine and its libraries.

LENGTHS = (16, 32, 64, 128, 256, 512, 1024, 2048)
D_TIMED = 64
PATH_KINDS = ("RNN", "LSTM", "LSTM, forget bias 3", "attention")


def make_layer(kind: str, d: int) -> nn.Module:
    """A layer that maps (1, n, d) to a tuple whose first entry is (1, n, d)."""
    return {
        "RNN": lambda: nn.RNN(d, d, batch_first=True),
        "LSTM": lambda: nn.LSTM(d, d, batch_first=True),
        "LSTM, forget bias 3": lambda: open_forget_gate(nn.LSTM(d, d, batch_first=True)),
        "attention": lambda: MultiHeadAttention(d, 1),
    }[kind]()


def open_forget_gate(lstm: nn.LSTM, bias: float = 3.0) -> nn.LSTM:
    """torch starts the forget gate half open; with this bias it starts at sigmoid(3) = 0.95."""
    d = lstm.hidden_size
    lstm.bias_ih_l0.data[d : 2 * d] = bias  # the gates are stored as input, forget, cell, output
    return lstm


def measure_times(repeats: int) -> dict[str, list[float]]:
    """Median seconds of a forward and backward pass over LENGTHS, the layers in turns, batch 1."""
    found = {}
    for kind in ("RNN", "LSTM", "attention"):
        layer, found[kind] = make_layer(kind, D_TIMED), []
        for n in LENGTHS:
            x = torch.randn(1, n, D_TIMED, requires_grad=True)
            found[kind].append(median(seconds(lambda: layer(x)[0].sum().backward()) for _ in range(repeats + 1)))  # noqa: B023
    return found


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def exponent(lengths: Sequence[int], values: Sequence[float]) -> float:
    """p in value ~ length^p, fitted to lengths from 256 on, where overheads no longer count."""
    far = [i for i, n in enumerate(lengths) if n >= 256]
    return float(np.polyfit(np.log([lengths[i] for i in far]), np.log([values[i] for i in far]), 1)[0])


def measure_path(kind: str, seed: int, n: int = 65, d: int = 32) -> Tensor:
    """Norm of the Jacobian d h_T / d x_t (Frobenius) at the distances T - t = 0 ... n - 1, by autograd."""
    torch.manual_seed(seed)
    layer = make_layer(kind, d).double()  # float32 would underflow
    x = torch.randn(1, n, d, dtype=torch.float64, requires_grad=True)
    last = layer(x)[0][0, -1]  # (d,)
    (jacobian,) = torch.autograd.grad(last, x, torch.eye(d, dtype=x.dtype), is_grads_batched=True)  # (d, 1, n, d)
    return jacobian[:, 0].pow(2).sum(dim=(0, 2)).sqrt().flip(0)  # (n,)


def path_summary(paths: dict[str, Tensor]) -> tuple[dict[str, float], float]:
    """From `measure_path` for several seeds (seeds, n): by what factor the median norm shrinks with each step of distance
    (between 1 and 33), and for attention the ratio of the farthest input to the nearest but one."""
    middle = {kind: path.median(dim=0).values for kind, path in paths.items()}  # (n,) each
    decay = {kind: (values[33] / values[1]).pow(1 / 32).item() for kind, values in middle.items()}
    return decay, (middle["attention"][-1] / middle["attention"][1]).item()


def draw_rnn(times: dict[str, list[float]], paths: dict[str, Tensor]) -> Figure:
    kept, ratio = path_summary(paths)
    title = (
        f"Each step back leaves an untrained RNN {kept['RNN']:.2f} of the gradient; attention at 64 steps still has "
        f"{ratio:.2f} of what it has at one, for a memory of n^2"
    )
    fig, axes = panels(title, (1, 1, 1, 1), size=(17, 5))
    for kind, values in times.items():
        label = f"{kind}: n^{exponent(LENGTHS, values):.1f}"
        curve(axes[0], LENGTHS, [1e3 * value for value in values], label=label, **MODEL_STYLES[kind])
    axes[0].set(title=f"time, forward + backward (d = {D_TIMED})", ylabel="ms (median)")
    operations = {kind: [operation_count(kind, n) for n in LENGTHS] for kind in ("RNN", "attention")}
    state = {kind: [memory_bytes(kind, n) for n in LENGTHS] for kind in ("RNN", "attention")}
    for ax, values in ((axes[1], operations), (axes[2], state)):
        for kind, y in values.items():
            curve(ax, LENGTHS, y, label=kind, **MODEL_STYLES[kind])
    axes[1].axvline(D_TIMED, color=GREY, ls=":")
    axes[1].text(D_TIMED * 1.1, operations["RNN"][0], "n = d", color=GREY)
    axes[1].set(title="operations: n d^2 against n^2 d", ylabel="multiplications")
    axes[2].set(title="memory: state against weights", ylabel="bytes")
    for kind, path in paths.items():
        low, middle, high = path.quantile(torch.tensor([0.1, 0.5, 0.9], dtype=path.dtype), dim=0)
        style = MODEL_STYLES[kind] | {"marker": None}
        curve(axes[3], range(path.shape[1]), middle, label=kind, low=low, high=high, **style)
    axes[3].set(yscale="log", ylim=(1e-24, 30), xlabel="distance T - t", ylabel="norm of d h_T / d x_t")
    axes[3].set_title(f"path (untrained, median of {len(path)} seeds)")
    for ax in axes[:3]:
        ax.set(xscale="log", yscale="log", xlabel="length n", xticks=[16, 128, 1024], xticklabels=["16", "128", "1024"])
    for ax in axes:
        ax.legend(loc="lower left" if ax is axes[3] else "upper left", fontsize=9)
    return fig


def operation_count(kind: str, n: int, d: int = D_TIMED) -> int:
    """Multiplications of what grows with the sequence: the recurrence n d^2; for attention the scores, n^2 d (the weighted
    average needs as many again, and so do the input products of the RNN)."""
    return n * d * d if kind == "RNN" else n * n * d


@torch.no_grad()
def memory_bytes(kind: str, n: int, d: int = D_TIMED) -> int:
    """Bytes of what a layer has to keep to pass information on: the RNN's last state, one head's weights."""
    kept = make_layer(kind, d)(torch.zeros(1, n, d))[1]
    return kept.element_size() * kept.nelement()


def show_rnn(lab: Lab) -> None:
    lab.section("3. Attention against an RNN")
    times = measure_times(repeats=1 if lab.fast else 3)
    lab.say(f"Milliseconds of one forward and backward pass, batch 1, d = {D_TIMED}, median; they depend on the machine.")
    lab.table(["length", *times], [[n, *(1e3 * values[i] for values in times.values())] for i, n in enumerate(LENGTHS)])
    for kind, values in times.items():
        lab.record_seconds(f"exponent.{kind}", exponent(LENGTHS, values))
        for n, value in zip(LENGTHS, values, strict=True):
            lab.record_seconds(f"{kind}.n{n}", value)
    fitted = ", ".join(f"{kind} n^{exponent(LENGTHS, values):.1f}" for kind, values in times.items())
    faster = [n for n, a, b in zip(LENGTHS, times["attention"], times["RNN"], strict=True) if a < b]
    upto = f"attention is faster than the RNN up to n = {max(faster)}" if faster else "the RNN is faster at every length"
    lab.say(
        f"Fitted from n = 256 on: {fitted}. The operation counts n d^2 and n^2 d cross at n = d = {D_TIMED}; by the clock "
        f"{upto}: an operation count is not a time. RNN and LSTM differ although their counts grow alike."
    )
    bytes_2048 = {kind: memory_bytes(kind, 2048) for kind in ("attention", "RNN")}
    lab.record_all("memory", {f"{kind.lower()}.bytes.n2048": value for kind, value in bytes_2048.items()}, rtol=0)
    lab.say(
        f"At n = 2048 one head's weights take {bytes_2048['attention']:,} bytes, the RNN's state {bytes_2048['RNN']}: "
        "constant, and also all that it can remember."
    )
    n_seeds = 3 if lab.fast else 10
    paths = {kind: torch.stack([measure_path(kind, lab.seed(f"path {i}")) for i in range(n_seeds)]) for kind in PATH_KINDS}
    decay, far_to_near = path_summary(paths)
    names = {"RNN": "rnn", "LSTM": "lstm", "LSTM, forget bias 3": "lstm_open"}
    kept = lab.record_all("path", {f"{names[kind]}.decay_per_step": decay[kind] for kind in names}, rtol=0.1)
    ratio = lab.record("path.attention.ratio_far_to_near", far_to_near, rtol=0.3)
    lab.say(
        f"Path: the norm of d h_T / d x_t, median of {n_seeds} untrained layers. With each step of distance the RNN keeps "
        f"{kept['rnn.decay_per_step']:.2f} of it, and the LSTM as torch starts it {kept['lstm.decay_per_step']:.2f}: it "
        f"forgets too, until its forget gate is opened (bias 3: {kept['lstm_open.decay_per_step']:.2f}). For attention the "
        f"input 64 steps back counts {ratio:.2f} times the input one step back."
    )
    lab.figure(draw_rnn(times, paths), "02_rnn_vs_attention")


# %% The lab


def sentence(text: str) -> list[str]:
    """argparse type: 2 to MAX_WORDS words of the toy language."""
    words = "".join(c for c in text.lower() if c not in ",.!?;:").split()
    known = VOCABULARY[2:]  # without padding and mask
    unknown = [repr(word) for word in words if word not in known]
    if unknown or not 2 <= len(words) <= MAX_WORDS:
        problem = f"unknown word {unknown[0]}" if unknown else f"{len(words)} words, not 2 to {MAX_WORDS}"
        raise argparse.ArgumentTypeError(f"{problem}; known words: {', '.join(sorted(known))}")
    return words


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--heads", type=int, choices=HEAD_COUNTS, default=4, metavar="H", help="1, 2, 4 or 8; default: 4")
    parser.add_argument("--sentence", type=sentence, metavar='"..."', help="words of the toy language, for sections 1 and 2")


def main(lab: Lab) -> None:
    model = train_model(lab, lab.options.heads)
    show_components(lab, model, lab.options.sentence or sentence("the cat sat on the mat"))
    show_heads(lab, model, lab.options.sentence or sentence("the cat which we found yesterday is very cute"))
    show_rnn(lab)


if __name__ == "__main__":
    run(main, __file__, add_arguments)
