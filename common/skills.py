"""How well a masked-word model fills the gaps that test a skill, by which heads, and probes from outside the grammar."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from common.heads import jensen_shannon, silenced
from common.toy_language import BEINGS, COPULA, MaskedWordModel, Sentence, judge_gaps

LOOKS_AT = {  # skill: the word that tells what belongs into the gap
    "agreement": "subject",
    "object": "verb",
    "determiner": "subject",
    "preposition": "place",
}


def probes(pattern: str) -> list[Sentence]:
    """All sentences of a pattern, e.g. "near the A the B _ cute": for the letters every ordered pair of different beings, A of
    one number and B of the other, and for _ the copula that agrees with A, hidden."""
    found = []
    for (first, second), number in itertools.product(itertools.permutations(BEINGS, 2), (0, 1)):
        put = {"A": first[number], "B": second[1 - number], "_": COPULA[number]}
        words = pattern.split()
        gap = (words.index("_"), COPULA[number], (COPULA[1 - number],))
        found.append(Sentence([put.get(word, word) for word in words], gaps={"agreement": gap}))
    return found


def asking(test: Sequence[Sentence], skill: str) -> list[Sentence]:
    """The sentences that test a skill."""
    return [sentence for sentence in test if skill in sentence.gaps]


def accuracy(model: nn.Module, test: Sequence[Sentence], skill: str) -> float:
    """In how many of the sentences that test the skill the right word is more probable than each of its competitors."""
    return judge_gaps(model, asking(test, skill), skill)[1].double().mean().item()


def measure_heads(model: MaskedWordModel, test: Sequence[Sentence]) -> dict[str, dict]:
    """For each skill: "accuracy" and mean "log_odds"; by head, the mean "attention" (H,) from the gap to the word of LOOKS_AT
    (an "even" one would give so much), the "drop" (H,) in accuracy and the share "lost" (H,) of the log-odds when it is
    silenced; and the share lost with each pair of heads, "pairs" {(g, h): share}."""
    found, all_heads = {}, range(model.block.attention.n_heads)
    for skill, role in LOOKS_AT.items():
        usable = asking(test, skill)
        log_odds, right, weights = judge_gaps(model, usable, skill)  # (B,), (B,), (B, H, T)
        decides = torch.tensor([sentence.at[role] for sentence in usable])
        sure, good = log_odds.mean(), right.double().mean()
        without = {}
        for some in [*itertools.combinations(all_heads, 1), *itertools.combinations(all_heads, 2)]:
            less_sure, fewer_right, _ = judge_gaps(silenced(model, *some), usable, skill)
            without[some] = ((1 - less_sure.mean() / sure).item(), (good - fewer_right.double().mean()).item())
        found[skill] = {
            "accuracy": good.item(),
            "log_odds": sure.item(),
            "attention": weights[torch.arange(len(usable)), :, decides].mean(dim=0),
            "even": sum(1 / len(sentence.words) for sentence in usable) / len(usable),
            "lost": torch.tensor([without[(h,)][0] for h in all_heads]),
            "drop": torch.tensor([without[(h,)][1] for h in all_heads]),
            "pairs": {some: values[0] for some, values in without.items() if len(some) == 2},
        }
    return found


def measure_verb(model: nn.Module, test: Sequence[Sentence]) -> dict[str, Tensor]:
    """Mean attention (H,) of a hidden verb to its subject, its object and the words before and after it."""
    usable = [s for s in asking(test, "agreement") if "object" in s.at]
    weights = judge_gaps(model, usable, "agreement")[2]  # (B, H, T)
    places = {"subject": [s.at["subject"] for s in usable], "object": [s.at["object"] for s in usable]}
    places |= {"word before": [s.at["verb"] - 1 for s in usable], "word after": [s.at["verb"] + 1 for s in usable]}
    rows = torch.arange(len(usable))
    return {name: weights[rows, :, torch.tensor(at)].mean(dim=0) for name, at in places.items()}


def diversity(model: nn.Module, test: Sequence[Sentence]) -> float:
    """Mean Jensen-Shannon divergence between the weights of two heads at a hidden verb: 0 if they look at the same words, ln 2
    if they share none."""
    weights = judge_gaps(model, asking(test, "agreement"), "agreement")[2]  # (B, H, T)
    return torch.tensor([jensen_shannon(p, q) for p, q in itertools.combinations(weights.unbind(dim=1), 2)]).mean().item()


def with_random_heads(model: MaskedWordModel, size: float = 1.0) -> MaskedWordModel:
    """A new random layer of as many heads that reads the embeddings of `model`, made `size` times as large for its queries and
    keys."""
    untrained = MaskedWordModel(model.block.attention.n_heads).eval()
    untrained.embedding, untrained.position = model.embedding, model.position
    for projection in (untrained.block.attention.w_q, untrained.block.attention.w_k):
        projection.weight.data *= size
    return untrained


def summary(data: Mapping, looks: int) -> dict[str, float]:
    """Of `measure_heads` for one skill what is kept of it; `looks` is the head that looks most at the word that decides."""
    pair = max(data["pairs"], key=data["pairs"].get, default=(0,))
    lost = data["lost"].max()
    return {
        "attention": data["attention"].max(),
        "log_odds": data["log_odds"],
        "lost_by_one": lost,
        "lost_by_two": data["pairs"].get(pair, lost),
        "looker_costs_most": looks == data["lost"].argmax(),
        "looker_in_worst_pair": looks in pair,
    }
