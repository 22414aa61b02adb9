"""Lab 2 - Self-attention and several heads: what do heads learn, and how do we know?

A layer with four heads learns to fill gaps in a small language (common/toy_language.py). You will see
  1. self-attention inside a trained layer, word by word, and cross-attention: questions that look for their answers;
  2. what each head looks at, and, because looking is not yet using, what breaks when a head is silenced;
     and a probe of the rule that the model really learned;
  3. attention against an RNN: time, memory, and how much of a distant input still arrives, each measured.

Run it:      python 02_self_attention.py
Then try:    python 02_self_attention.py --out trial --heads 1
             python 02_self_attention.py --out trial --sentence "these old cats which the dog saw sleep on the mat"
It writes:   02_self_attention_components, 02_multi_head_attention, 02_rnn_vs_attention, 02_results.json
             and 02_explore.html, the page to play with
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that common/ is found from any folder
from common.command_line import Parser  # isort: skip  (first: Ctrl-C then ends quietly while torch loads)
from common.lab import Lab, run  # isort: skip  (loads torch and matplotlib faster)

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from torch import Tensor, nn

from common.attention import MultiHeadAttention, padding_mask
from common.heads import jensen_shannon, silenced
from common.jacobian import jacobian
from common.plotting import BLUE, GREY, MODEL_STYLES, VERMILLION, curve, decades, heatmap, panels
from common.positional_encoding import LearnedEncoding
from common.toy_language import (
    ADJECTIVES,
    BEINGS,
    COPULA,
    IDS,
    MASK,
    MAX_WORDS,
    PLACES,
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
from week6.explore.page import explore_page

D_MODEL = 32
HEAD_COUNTS = (1, 2, 4, 8)


def train_model(lab: Lab, n_heads: int, start: int = 0) -> MaskedWordModel:
    """The model of this lab with n_heads heads. All head counts see the same sentences; `start` numbers the repetitions,
    which start from other random weights and see other sentences."""
    n_steps = 4 if lab.fast else 400
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


def draw_components(words: list[str], seen: dict[str, Tensor], at: int, gap: Tensor, asked: dict[str, Tensor]) -> Figure:
    """`seen` from `look_inside`, `gap` (H, T) what the hidden word `at` looks at, `asked` from `ask`."""
    share, who = (x.item() for x in asked["weights"][0].max(dim=-1))
    title = (
        f'Asked "who?", cross-attention puts {share:.2f} of its weight on "{words[who]}" and answers "{asked["answers"][0]}"'
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
    rows = [f"{question} {answer}" for question, answer in zip(QUESTIONS, asked["answers"], strict=True)]
    image = heatmap(axes[7], asked["weights"], rows=rows, columns=words, row_label="", numbers=numbers)
    axes[7].set_title("cross-attention: question, answer")
    fig.colorbar(image, ax=axes[[6, 7]], label="weight")
    return fig


@torch.no_grad()
def ask(model: Reader, words: Sequence[str]) -> dict:
    """What the reader makes of a sentence: weights (4, T), its "answers" to QUESTIONS and how sure it is of them (4,)."""
    scores, weights = model(*encode([words]))
    probability, best = scores[0].softmax(dim=-1).max(dim=-1)  # (4,)
    return {"weights": weights[0], "answers": [VOCABULARY[i] for i in best], "probability": probability}


def show_components(lab: Lab, model: MaskedWordModel, words: list[str]) -> None:
    lab.section("1. Self-attention, and cross-attention")
    noun = next((i for i, word in enumerate(words) if any(word in forms for forms in BEINGS)), 0)
    at = next((i for i, word in enumerate(words) if word in PLACES), hidden_position(words))
    seen = look_inside(model, words)
    gap = look_inside(model, [MASK if i == at else word for i, word in enumerate(words)])["weights"][:, at]  # (H, T)
    lab.say(
        f"{' '.join(words)}: X, Q, K and V are {tuple(seen['x'].shape)}, the weights {tuple(seen['weights'].shape)}. What "
        f'"{words[noun]}" looks at (mean of the heads), and each head from the place of "{words[at]}" when that word is hidden:'
    )
    columns = [seen["weights"].mean(dim=0)[noun], *gap]  # (T,) each
    header = ["key", f'"{words[noun]}"', *(f"hidden, head {h}" for h in range(len(gap)))]
    lab.table(header, [[word, *(float(c[i]) for c in columns)] for i, word in enumerate(words)])
    lab.say("Training only ever scores hidden words; what a visible word looks at is a by-product.")
    reader = train_reader(lab, n_steps=4 if lab.fast else 200)
    test = sentences(500, lab.seed("held-out sentences"), held_out=True)
    found = lab.record_all("cross", measure_reader(reader, test), rtol=0.1)
    asked = ask(reader, words)
    lab.say(
        f"Cross-attention, trained by itself: 4 questions (queries) look into a sentence of {len(words)} words (keys), weights "
        f"{tuple(asked['weights'].shape)}. On held-out sentences {found['accuracy']:.2f} of the answers are right, and "
        f"{found['weight']:.2f} of the weight lies on the answer; spread evenly it would be {found['even_weight']:.2f}."
    )
    shares, most = asked["weights"].max(dim=-1)
    sure = zip(QUESTIONS, asked["answers"], asked["probability"].tolist(), most.tolist(), shares.tolist(), strict=True)
    rows = [[question, answer, probability, words[i], share] for question, answer, probability, i, share in sure]
    lab.table(["question", "answer", "probability", "looks most at", "weight"], rows)
    lab.say("Where one looks need not be what one answers; and a question without an answer has to look somewhere, too.")
    lab.figure(draw_components(words, seen, at, gap, asked), "02_self_attention_components")


# %% 2. Do heads specialise? Attention proposes, ablation decides
# For each skill, where does the hidden word look? That is attention. Does the model need that head? That is ablation: the
# head's output is set to zero, and the skill is measured again. Only if both agree may a head be named after a skill.

LOOKS_AT = {  # hidden word: the word that tells what belongs there
    "agreement": "subject",
    "object": "verb",
    "determiner": "subject",
    "preposition": "place",
}
N_STARTS = 3
FIGURE_2 = "02_multi_head_attention"
NEEDED = 0.2  # a head counts as needed for a skill if silencing it costs more than this


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
    """Mean Jensen-Shannon divergence between the weights of two heads at a hidden verb; nan for a single head."""
    usable = [sentence for sentence in test if "agreement" in sentence.gaps]
    _, weights = fill_gaps(model, usable, "agreement")  # (B, H, T)
    pairs = itertools.combinations(weights.unbind(dim=1), 2)
    return torch.tensor([jensen_shannon(p, q) for p, q in pairs]).mean().item()


def untrained_heads(model: MaskedWordModel) -> MaskedWordModel:
    """New random layers that read the trained embeddings, so that they get inputs of the same size."""
    fresh = MaskedWordModel(model.block.attention.n_heads, D_MODEL).eval()
    fresh.embedding, fresh.position = model.embedding, model.position
    return fresh


def worst_pair(model: MaskedWordModel, test: Sequence[Sentence], skill: str) -> float:
    """Largest loss of a skill's accuracy over all pairs of heads that are silenced together."""
    usable = [sentence for sentence in test if skill in sentence.gaps]
    share = lambda m: fill_gaps(m, usable, skill)[0].float().mean().item()  # noqa: E731
    pairs = itertools.combinations(range(model.block.attention.n_heads), 2)
    return share(model) - min(share(silenced(model, *pair)) for pair in pairs)


def probe_sentences() -> list[Sentence]:
    """ "near the dogs the cat is very old": English, but outside the grammar; the first noun is not the subject."""
    found = []
    for (first, second), number, adjective in itertools.product(itertools.permutations(BEINGS, 2), (0, 1), ADJECTIVES):
        words = ["near", "the", first[1 - number], "the", second[number], COPULA[number], "very", adjective]
        found.append(Sentence(words, gaps={"agreement": (5, COPULA[number], (COPULA[1 - number],))}))
    return found


def verdict(data: dict) -> tuple[int, int | None, bool]:
    """For one skill of `measure_heads`: the head that looks most at the deciding word, the head whose silence costs most
    (None if no single head costs more than NEEDED), and whether it may be named after the skill: if it is one of several
    heads, both are the same, and it looks there at least twice as much as an even attention would."""
    looks, costs = data["attention"].argmax().item(), data["drop"].argmax().item()
    needed = costs if data["drop"][costs] > NEEDED else None
    twice = data["attention"][looks] >= 2 * data["even"]
    return looks, needed, bool(looks == needed and twice and len(data["drop"]) > 1)


def draw_heads(found: dict[str, dict], on_sentence: Tensor, words: list[str], by_count: dict[int, float]) -> Figure:
    data, n_heads = found["agreement"], len(on_sentence)
    looks, needed, named = verdict(data)
    seen = f"Head {looks} looks at the subject ({data['attention'][looks]:.2f}; evenly spread: {data['even']:.2f})"
    if needed is None:
        title = f"{seen}, yet silencing any one head costs at most {100 * data['drop'].max():.0f} points of agreement"
    else:
        whom = "it" if named else f"head {needed}"
        title = f"{seen}, and silencing {whom} costs {100 * data['drop'][needed]:.0f} points of agreement"
    fig, axes = panels(title, (4, 3, 3, 2), size=(18, 5.4))
    heads = [f"head {h}" for h in range(n_heads)]
    heatmap(axes[0], on_sentence, rows=heads, columns=words, row_label="", numbers=".2f" if len(words) < 11 else None)
    axes[0].set_title("attention of the hidden word, one sentence")
    targets = [f"{skill}\n-> {role}" for skill, role in LOOKS_AT.items()]
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


def attractor_accuracy(model: MaskedWordModel, test: Sequence[Sentence]) -> float:
    """Agreement where a noun of the other number stands between subject and verb."""
    hard = [sentence for sentence in test if sentence.attractor and "agreement" in sentence.gaps]
    return fill_gaps(model, hard, "agreement")[0].float().mean().item()


def show_heads(lab: Lab, model: MaskedWordModel, words: list[str]) -> None:
    lab.section("2. Do heads specialise? Attention proposes, ablation decides")
    test, n_heads = sentences(60 if lab.fast else 1000, lab.seed("held-out sentences"), held_out=True), lab.options.heads
    found = measure_heads(model, test)
    accuracy = lab.record("agreement.accuracy", found["agreement"]["accuracy"], rtol=0.02)
    attractor = lab.record("agreement.accuracy.attractor", attractor_accuracy(model, test), rtol=0.02)
    lab.say(
        f"On {len(test)} held-out sentences the model picks the right one of two verb forms in {100 * accuracy:.1f} % of the "
        f"cases, and in {100 * attractor:.1f} % where a noun of the other number stands in between. By head: attention (att) "
        "from the hidden word to the word that decides it, and the accuracy lost (abl) when the head is silenced:"
    )
    rows = []
    for head in range(n_heads):
        pairs = [[float(data["attention"][head]), float(data["drop"][head])] for data in found.values()]
        rows.append([f"head {head}", *itertools.chain(*pairs)])
        lab.record_all("ablation", {f"{k}.head_{head}": data["drop"][head] for k, data in found.items()}, rtol=0, atol=0.3)
    short = {"agreement": "agree", "object": "object", "determiner": "determ", "preposition": "prepos"}
    lab.table(["", *(f"{short[skill]} {what}" for skill in found for what in ("att", "abl"))], rows)
    rows = []
    for skill, data in found.items():
        looks, needed, named = verdict(data)
        most = f"{data['attention'][looks]:.2f}"
        lost = f"{data['drop'].max():.2f}"
        rows.append([skill, LOOKS_AT[skill], f"head {looks}", most, f"{data['even']:.2f}"])
        rows[-1] += ["none" if needed is None else f"head {needed}", lost, f"head {looks}" if named else "none"]
    lab.table(["skill", "decided by", "looks most", "att", "even", "needed", "abl", "may be named"], rows)
    lab.record("heads.subject_head", found["agreement"]["attention"].argmax(), rtol=0, atol=n_heads - 1)
    lab.record("heads.subject_attention", found["agreement"]["attention"].max(), rtol=0.2)
    lab.say(f"Needed: silencing it alone costs more than {NEEDED}. Attention of a hidden verb, by head:")
    verb = measure_verb(model, test)
    lab.table(["", *verb], [[f"head {h}", *(float(x[h]) for x in verb.values())] for h in range(n_heads)])
    show_redundancy(lab, model, found, test)
    probe = fill_gaps(model, probe_sentences(), "agreement")[0].float().mean()
    probe = lab.record("probe.agrees_with_subject", probe, rtol=0, atol=0.1)
    lab.say(
        'But what was learned? In this grammar the subject is always the first noun. A probe outside it, for instance "near '
        f'the dogs the cat <is> very old": in {100 * probe:.0f} % of {len(probe_sentences())} such sentences the model '
        "agrees with the true subject, and with the first noun in the others. A perfect score on held-out sentences does "
        "not tell which rule was learned."
    )
    counts = {h: attractor_accuracy(model if h == n_heads else train_model(lab, h), test) for h in HEAD_COUNTS}
    by_count = lab.record_all("n_heads", {f"{h}.accuracy": value for h, value in counts.items()}, rtol=0.05)
    lab.table(["heads, same width", *counts], [["agreement across attractors", *by_count.values()]], digits=3)
    spread = max(counts.values()) - min(counts.values())
    lab.say(f"Between the best and the worst number of heads lie {spread:.3f}: here, more heads are hardly better heads.")
    at = hidden_position(words)
    hidden = look_inside(model, [MASK if i == at else word for i, word in enumerate(words)])
    shown = [f"<{word}>" if i == at else word for i, word in enumerate(words)]
    lab.figure(draw_heads(found, hidden["weights"][:, at], shown, dict(zip(counts, by_count.values(), strict=True))), FIGURE_2)


def show_redundancy(lab: Lab, model: MaskedWordModel, found: dict[str, dict], test: Sequence[Sentence]) -> None:
    """What one silenced head cannot tell: pairs of heads, other random starts, and how different the heads are."""
    n_heads = lab.options.heads
    again = [measure_heads(train_model(lab, n_heads, start), test)["agreement"] for start in range(1, N_STARTS)]
    starts = [found["agreement"], *again]
    named = sum(verdict(data)[2] for data in starts)
    named = lab.record("heads.named_subject_head", named, rtol=0, atol=1)
    costs = ", ".join(f"{data['drop'].max():.2f}" for data in starts)
    lab.say(
        f"The same training from {N_STARTS} random starts: a subject head may be named in {named:.0f} of them; silencing "
        f"the most important head costs {costs}."
    )
    if n_heads == 1:
        return
    pairs = lab.record_all("ablation_pair", {skill: worst_pair(model, test, skill) for skill in found}, rtol=0, atol=0.4)
    rows = [["one head", *(float(data["drop"].max()) for data in found.values())], ["two heads", *pairs.values()]]
    lab.table(["largest loss, silencing", *found], rows)
    torch.manual_seed(lab.seed("untrained"))
    trained = lab.record("diversity.trained", diversity(model, test), rtol=0.3)
    untrained = lab.record("diversity.untrained", diversity(untrained_heads(model), test), rtol=0.5)
    lab.say(
        f"Diversity (Jensen-Shannon divergence between the weights of two heads, nats): {trained:.3f} trained, {untrained:.3f} "
        f"for random heads that read the same embeddings; the most possible is {np.log(2):.2f}."
    )


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
    """Median seconds of a forward and backward pass over LENGTHS, batch 1; the layers take turns, the first turn is a
    warm-up that does not count."""
    layers = {kind: make_layer(kind, D_TIMED) for kind in ("RNN", "LSTM", "attention")}
    found = {kind: [] for kind in layers}
    for n in LENGTHS:
        x = torch.randn(1, n, D_TIMED, requires_grad=True)
        turns = [{kind: seconds(layer, x) for kind, layer in layers.items()} for _ in range(repeats + 1)]
        for kind in layers:
            found[kind].append(median(turn[kind] for turn in turns[1:]))
    return found


def seconds(layer: nn.Module, x: Tensor) -> float:
    """Wall-clock seconds of one forward and backward pass."""
    start = time.perf_counter()
    layer(x)[0].sum().backward()
    return time.perf_counter() - start


def exponent(lengths: Sequence[int], values: Sequence[float]) -> float:
    """p in value ~ length^p, fitted to the lengths from 256 on."""
    far = [i for i, n in enumerate(lengths) if n >= 256]
    return float(np.polyfit(np.log([lengths[i] for i in far]), np.log([values[i] for i in far]), 1)[0])


def measure_path(kind: str, seed: int, n: int = 65, d: int = 32) -> Tensor:
    """Norm of the Jacobian d h_T / d x_t (Frobenius) at the distances T - t = 0 ... n - 1, by autograd."""
    torch.manual_seed(seed)
    layer = make_layer(kind, d).double()  # float32 would underflow
    x = torch.randn(1, n, d, dtype=torch.float64)
    last = jacobian(lambda x: layer(x)[0][:, -1], x).reshape(d, n, d)  # d output i / d feature k of position t: (i, t, k)
    return last.pow(2).sum(dim=(0, 2)).sqrt().flip(0)  # (n,)


def path_summary(paths: dict[str, Tensor]) -> dict[str, dict[str, float]]:
    """From `measure_path` for several seeds (seeds, n), of the median over the seeds: by what factor the norm shrinks with
    each step of distance between 1 and 33 ("decay"), and the norm at the farthest input ("far") also relative to that one
    step back ("ratio")."""
    found = {}
    for kind, path in paths.items():
        middle = path.median(dim=0).values  # (n,)
        decay, far = (middle[33] / middle[1]) ** (1 / 32), middle[-1]
        found[kind] = {"decay": decay.item(), "far": far.item(), "ratio": (far / middle[1]).item()}
    return found


def draw_rnn(times: dict[str, list[float]], paths: dict[str, Tensor]) -> Figure:
    summary = path_summary(paths)
    title = (
        f"With each step back an untrained RNN keeps {summary['RNN']['decay']:.2f} of its gradient; attention keeps "
        f"{summary['attention']['ratio']:.2f} of it from distance 1 to 64, for a memory of n^2"
    )
    fig, axes = panels(title, (1, 1, 1, 1), size=(17, 5))
    for kind, values in times.items():
        label = f"{kind}: n^{exponent(LENGTHS, values):.1f}"
        curve(axes[0], LENGTHS, [1e3 * value for value in values], label=label, **MODEL_STYLES[kind])
    axes[0].set(title=f"time, forward + backward (d = {D_TIMED}),\nn^p fitted from n = 256 on", ylabel="ms (median)")
    operations = {kind: [operation_count(kind, n) for n in LENGTHS] for kind in ("RNN", "attention")}
    state = {kind: [memory_bytes(kind, n) for n in LENGTHS] for kind in ("RNN", "attention")}
    for ax, values in ((axes[1], operations), (axes[2], state)):
        for kind, y in values.items():
            curve(ax, LENGTHS, y, label=kind, **MODEL_STYLES[kind])
    axes[1].axvline(D_TIMED, ymax=0.8, color=GREY, ls=":")  # ends below the legend
    axes[1].text(D_TIMED * 1.1, operations["RNN"][0], "n = d", color=GREY)
    axes[1].set(title="operations: n d^2 against n^2 d", ylabel="multiplications")
    axes[2].set(title="what is kept at inference:\nlast state against weights", ylabel="memory")
    for kind, path in paths.items():
        low, middle, high = path.quantile(torch.tensor([0.1, 0.5, 0.9], dtype=path.dtype), dim=0)
        style = MODEL_STYLES[kind] | {"marker": None}
        curve(axes[3], range(path.shape[1]), middle, label=kind, low=low, high=high, **style)
    axes[3].set(yscale="log", ylim=(1e-24, 30), xlabel="distance T - t", ylabel="norm of d h_T / d x_t")
    axes[3].set_title(f"path (untrained, median of {len(path)} seeds)")
    for ax in axes[:3]:
        ax.set(xscale="log", yscale="log", xlabel="length n", xticks=[16, 128, 1024], xticklabels=["16", "128", "1024"])
    for ax in axes:
        ax.minorticks_off()
        ax.legend(loc="lower left" if ax is axes[3] else "upper left", fontsize=9)
    for ax in (axes[0], axes[3]):
        decades(ax.yaxis)
    axes[1].yaxis.set_major_formatter(EngFormatter())  # 10 k, 1 M
    axes[2].yaxis.set_major_formatter(EngFormatter("B"))  # 10 kB, 1 MB
    return fig


def operation_count(kind: str, n: int, d: int = D_TIMED) -> int:
    """Multiplications of what grows with the sequence: the recurrence n d^2; for attention the scores, n^2 d (the weighted
    average needs as many again, and so do the input products of the RNN)."""
    return n * d * d if kind == "RNN" else n * n * d


@torch.no_grad()
def memory_bytes(kind: str, n: int, d: int = D_TIMED) -> int:
    """Bytes of what a layer keeps at inference to pass information on: the RNN's last state, one head's weights. (For
    training, all of them keep more: the RNN keeps every state.)"""
    kept = make_layer(kind, d)(torch.zeros(1, n, d))[1]
    return kept.element_size() * kept.nelement()


def show_rnn(lab: Lab) -> None:
    lab.section("3. Attention against an RNN")
    times = measure_times(repeats=1 if lab.fast else 5)
    lab.say(f"Milliseconds of one forward and backward pass, batch 1, d = {D_TIMED}, median; they depend on the machine.")
    lab.table(["length", *times], [[n, *(1e3 * values[i] for values in times.values())] for i, n in enumerate(LENGTHS)])
    exponents = {kind: lab.record_seconds(f"exponent.{kind}", exponent(LENGTHS, values)) for kind, values in times.items()}
    for kind, values in times.items():
        for n, value in zip(LENGTHS, values, strict=True):
            lab.record_seconds(f"{kind}.n{n}", value)
    slower = [n for n, a, b in zip(LENGTHS, times["attention"], times["RNN"], strict=True) if a > b]
    where = "n = " + ", ".join(map(str, slower)) if slower else "none of these lengths"
    lab.say(
        f"Fitted from n = 256 on: {', '.join(f'{kind} n^{p:.1f}' for kind, p in exponents.items())}. The operation counts "
        f"n d^2 and n^2 d cross at n = d = {D_TIMED}; by the clock attention is slower than the RNN at "
        f"{where}: an operation count is not a time. An LSTM step costs four times the operations of an RNN step, yet "
        f"takes {times['LSTM'][-1] / times['RNN'][-1]:.2f} times its time at n = {LENGTHS[-1]}: the library computes it "
        "in another way."
    )
    bytes_2048 = {kind: memory_bytes(kind, 2048) for kind in ("attention", "RNN")}
    lab.record_all("memory", {f"{kind.lower()}.bytes.n2048": value for kind, value in bytes_2048.items()}, rtol=0)
    lab.say(
        f"At n = 2048 one head's weights take {bytes_2048['attention']:,} bytes, the state that an RNN carries on "
        f"{bytes_2048['RNN']}: constant, and also all that it can remember."
    )
    n_seeds = 1 if lab.fast else 10
    paths = {kind: torch.stack([measure_path(kind, lab.seed(f"path {i}")) for i in range(n_seeds)]) for kind in PATH_KINDS}
    found = path_summary(paths)
    rnn, lstm, opened, attention = (found[kind] for kind in PATH_KINDS)
    lab.record("path.rnn.decay_per_step", rnn["decay"], rtol=0.1)
    lab.record("path.lstm.decay_per_step", lstm["decay"], rtol=0.1)
    lab.record("path.lstm_open.ratio_far_to_near", opened["ratio"], rtol=0.3)
    lab.record("path.attention.ratio_far_to_near", attention["ratio"], rtol=0.3)
    lab.record("path.attention.far", attention["far"], rtol=0.3)
    lab.say(
        f"Path: the norm of d h_T / d x_t, median of {n_seeds} untrained layers. With each step of distance the RNN keeps "
        f"{rnn['decay']:.2f} of it, and the LSTM as torch starts it {lstm['decay']:.2f}: it forgets too. With its forget gate "
        f"opened (bias 3) the input 64 steps back counts {opened['ratio']:.2f} times the input one step back; in attention "
        f"{attention['ratio']:.2f} times. Its level is low, {attention['far']:.3f}, for untrained attention spreads over all "
        "inputs; but no distance is worse than another."
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
    lab.write("02_explore.html", explore_page(model, lab.seed("held-out sentences"), fast=lab.fast))
    show_components(lab, model, lab.options.sentence or sentence("the cat sat on the mat"))
    show_heads(lab, model, lab.options.sentence or sentence("the cat which we found yesterday is very cute"))
    show_rnn(lab)


if __name__ == "__main__":
    run(main, __file__, add_arguments)
