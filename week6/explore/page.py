"""The page to play with, `outputs/02_explore.html`: the model that Lab 2 trained, to be asked, disturbed and looked into.

`explore_page` puts the parts in this folder (page.html, style.css and the scripts) and the model's weights together to one
file that needs nothing else. The weights are rounded to float32. So that a reader can trust the script, sentences that torch
computed from the same weights are in the page, too: opened with `#check` it computes them again and says whether it agrees.
"""

from __future__ import annotations

import base64
import copy
import json
from pathlib import Path

import torch
from matplotlib import colormaps
from matplotlib.colors import to_hex
from torch import Tensor

from common.attention import causal_mask
from common.heads import silenced
from common.plotting import BLUE, GREY, ORANGE, SKY, VERMILLION
from common.toy_language import (
    ADJECTIVES,
    BEINGS,
    COPULA,
    DETERMINERS,
    IDS,
    MASK,
    MAX_WORDS,
    OBJECTS,
    PLACES,
    PRONOUNS,
    RELATIVE_VERBS,
    VERBS,
    VOCABULARY,
    MaskedWordModel,
    Sentence,
    encode,
    fill_gaps,
    sentences,
)

HERE = Path(__file__).resolve().parent
SCRIPTS = ("model.js", "check.js", "texts.js", "state.js", "view.js", "tasks.js", "page.js")
PRESETS = (  # a sentence, the word hidden in it, and the skill that filling this gap takes; the page starts with the first
    ("the cat which we found yesterday is very cute", 6, "agreement"),
    ("the cats which we found yesterday are very cute", 6, "agreement"),
    ("the cat near the dogs is very cute", 5, "agreement"),
    ("the dogs near the cat are very cute", 5, "agreement"),
    ("the mice which the dog chased eat the cheese", 6, "agreement"),
    ("today the girl near the birds writes the letter", 6, "agreement"),
    ("this bird which the girls saw drinks the milk", 6, "agreement"),
    ("these old dogs sleep in the house", 0, "determiner"),
    ("the cat sat on the mat", 3, "preposition"),
    ("the boy drinks the milk", 4, "object"),
)
WORD_GROUPS = {  # all words, as the page lists them
    "beings": [form for forms in BEINGS for form in forms],
    "verbs": [*COPULA, *(form for forms in VERBS for form in forms)],
    "small_words": ["the", *DETERMINERS, "very", "near", *PLACES, "which", "today", "yesterday"],
    "adjectives": [*ADJECTIVES],
    "objects": OBJECTS,
    "places": [place for places in PLACES.values() for place in places],
    "finders": [*PRONOUNS, *RELATIVE_VERBS],
}
CHANGES = (  # what is done to the model in the recorded cases, by the names in model.js; every head is silenced once more
    {},
    {"silenced_heads": [0]},
    {"factor": 0.0},
    {"factor": 2.0},
    {"positions": False},
    {"causal": True},
    {"factor": 16.0},
    {"positions": False, "causal": True},
    {"factor": 0.5, "causal": True, "silenced_heads": [0]},
)


def explore_page(model: MaskedWordModel, seed: int, *, fast: bool = False) -> bytes:
    """The page for a trained model, the same bytes each time.

    Args:
        model: from Lab 2, with one post-norm block and any number of heads; it is not changed.
        seed: of the held-out sentences on which the heads are measured.
        fast: whether the model was hardly trained; the page then says so.
    """
    model = rounded(model)
    heads = measure_heads(model, sentences(60 if fast else 1000, seed, held_out=True))
    return build_page(model, record_cases(model, seed), heads, fast=fast)


def rounded(model: MaskedWordModel) -> MaskedWordModel:
    """A copy with weights as the page has them, float32, that computes in float64 as the page does."""
    return copy.deepcopy(model).float().double().eval()


@torch.no_grad()
def compute(
    model: MaskedWordModel,
    tokens: Tensor,
    *,
    positions: bool = True,
    causal: bool = False,
    factor: float = 1.0,
    silenced_heads: tuple[int, ...] = (),
) -> tuple[Tensor, Tensor]:
    """The scores (T, vocabulary) and weights (H, T, T) of a changed model.

    Args:
        tokens: (T,) word numbers.
        positions: whether they are added to the words.
        causal: whether a word sees no later one.
        factor: on the scores of attention, beside 1/sqrt(d_head).
        silenced_heads: their numbers, from 0.
    """
    model = silenced(model, *silenced_heads)  # a copy
    model.position.table.data *= positions
    model.block.attention.w_q.weight.data *= factor  # q k^T is linear in q
    model.block.attention.w_q.bias.data *= factor
    x, weights = model.block(model.embed(tokens[None]), causal_mask(len(tokens)) if causal else None)
    return model.to_scores(x)[0], weights[0]


def record_cases(model: MaskedWordModel, seed: int) -> list[dict]:
    """Sentences computed by torch: tokens, what was changed, and at one position the scores and each head's weights."""
    n_heads = model.block.attention.n_heads
    changes = [*CHANGES, {"factor": model.block.attention.d_head**0.5}]  # the last: not divided by sqrt(d_head)
    changes += [{"silenced_heads": [head]} for head in range(1, n_heads)]
    changes += [{"silenced_heads": list(range(0, n_heads, 2))}, {"silenced_heads": list(range(n_heads))}]
    texts = [text.split() for text, *_ in PRESETS]
    texts += [sentence.words for sentence in sentences(2 * len(changes) - len(texts), seed, held_out=True)]
    cases = []
    for number, words in enumerate(texts):
        at, change = (5 * number) % len(words), changes[number % len(changes)]
        tokens = encode([words])[0][0]
        if number % 4:  # in every fourth sentence no word is hidden
            tokens[at] = IDS[MASK]
        scores, weights = compute(model, tokens, **change)
        found = {"scores": rounded_list(scores[at]), "weights": [rounded_list(head[at]) for head in weights]}
        cases.append({"tokens": tokens.tolist(), "changes": change, "at": at} | found)
    return cases


def rounded_list(x: Tensor) -> list[float]:
    """With twelve decimals, a thousand times as fine as the page's script has to agree."""
    return [round(value, 12) for value in x.tolist()]


@torch.no_grad()
def measure_heads(model: MaskedWordModel, test: list[Sentence]) -> dict:
    """Of each head, over the sentences with a verb to hide: "attention" to the subject, and "wrong", the share of verbs
    that get the wrong number when it is silenced, also "by_number" (with a singular subject, with a plural one); and "n" of
    the sentences, the "accuracy" of the whole model and what an "even" attention would be."""
    test = [sentence for sentence in test if "agreement" in sentence.gaps]
    right, weights = fill_gaps(model, test, "agreement")  # (B,), (B, H, T)
    subjects = torch.tensor([sentence.at["subject"] for sentence in test])
    attention = weights[torch.arange(len(test)), :, subjects].mean(dim=0)  # (H,)
    without = [fill_gaps(silenced(model, head), test, "agreement")[0] for head in range(len(attention))]
    wrong = 1 - torch.stack(without).double()  # (H, B)
    plurals = {plural for _, plural in BEINGS}
    plural = torch.tensor([sentence.words[sentence.at["subject"]] in plurals for sentence in test])  # (B,)
    found = {"accuracy": right.double().mean().item(), "even": sum(1 / len(sentence.words) for sentence in test) / len(test)}
    found |= {"attention": attention.tolist(), "wrong": wrong.mean(dim=1).tolist()}
    found["by_number"] = [wrong[:, some].mean(dim=1).tolist() for some in (~plural, plural)]
    return {"n": len(test)} | json.loads(json.dumps(found), parse_float=lambda text: round(float(text), 6))


def build_page(model: MaskedWordModel, cases: list[dict], heads: dict, *, fast: bool = False) -> bytes:
    """The file from its parts: a `rounded` model, what torch computed with it, and how its heads were measured."""
    weights = {
        name: {"shape": list(tensor.shape), "values": base64.b64encode(tensor.float().numpy().tobytes()).decode()}
        for name, tensor in model.state_dict().items()
    }
    course = {
        "n_heads": model.block.attention.n_heads,
        "vocabulary": VOCABULARY,
        "mask": IDS[MASK],
        "max_words": MAX_WORDS,
        "beings": BEINGS,
        "determiners": DETERMINERS,
        "verbs": [COPULA, *(forms[:2] for forms in VERBS)],  # singular, plural
        "presets": PRESETS,
        "word_groups": WORD_GROUPS,
        "heads": heads,
        "fast": fast,
        "viridis": [to_hex(colormaps["viridis"](i)) for i in range(256)],
    }
    parts = {
        "STYLE": read("style.css"),
        "COLOURS": f"--blue: {BLUE}; --sky: {SKY}; --vermillion: {VERMILLION}; --orange: {ORANGE}; --grey: {GREY};",
        "COURSE": to_json(course),
        "WEIGHTS": to_json(weights),
        "CASES": to_json(cases),
        "SCRIPT": "\n".join(read(name) for name in SCRIPTS),
    }
    page = read("page.html")
    for name, content in parts.items():
        page = page.replace(f"{{{{{name}}}}}", content)
    return page.encode()


def read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def to_json(content: object) -> str:
    """JSON that may stand inside a <script> of a page: no "<" in it can end the script."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
