"""What Lab 4's tiny GPT learns from and is measured with; the model itself, how it writes, and its cache stand in the lab."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from common.positional_encoding import LearnedEncoding
from common.toy_language import (
    ADJECTIVES,
    BEINGS,
    COPULA,
    DETERMINERS,
    IDS,
    MAX_WORDS,
    OBJECTS,
    PAD,
    PLACES,
    PRONOUNS,
    RELATIVE_VERBS,
    VERBS,
    VOCABULARY,
    Sentence,
    encode,
    is_grammatical,
    is_held_out,
)
from common.training import NO_TARGET
from common.transformer import TransformerBlock

END = IDS[PAD]  # stands before the first and behind the last word of a sentence, as GPT-2's <|endoftext|> between texts


class GPTParts(nn.Module):
    """The layers of a tiny GPT: how they are put together, its `forward`, stands in the lab.

    Args:
        n_blocks: pre-norm blocks.
        d_model, n_heads: of each block.
        max_words: number of positions.
    """

    def __init__(self, n_blocks: int = 2, d_model: int = 32, n_heads: int = 4, max_words: int = MAX_WORDS):
        super().__init__()
        self.embedding = nn.Embedding(len(VOCABULARY), d_model)
        nn.init.normal_(self.embedding.weight, std=0.02)  # as small as the positions, or these drown at first
        self.position = LearnedEncoding(max_words, d_model)
        self.blocks = nn.ModuleList(TransformerBlock(d_model, n_heads, norm="pre") for _ in range(n_blocks))
        self.last_norm = nn.LayerNorm(d_model)
        self.to_scores = nn.Linear(d_model, len(VOCABULARY))


def empty_cache(gpt: GPTParts, n: int = 1) -> list[tuple[Tensor, Tensor]]:
    """For each block keys and values of no words yet, (n, H, 0, d_head) each."""
    nothing = [torch.empty(n, block.attention.n_heads, 0, block.attention.d_head) for block in gpt.blocks]
    return list(zip(nothing, nothing, strict=True))


def next_words(texts: Iterable[Sequence[str]]) -> tuple[Tensor, Tensor]:
    """For each sentence END and its words, (B, T), and the word that follows each of them, (B, T); NO_TARGET behind the end."""
    tokens, lengths = encode([PAD, *words, PAD] for words in texts)  # (B, T + 1), (B,)
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    behind = torch.arange(targets.shape[1]) >= lengths[:, None] - 1
    return inputs, targets.masked_fill(behind, NO_TARGET)


def as_words(tokens: Tensor) -> list[list[str]]:
    """The words of each row (T,) of tokens, without the END it begins with, up to the next one."""
    rows = tokens[:, 1:].tolist()
    return [[VOCABULARY[i] for i in (row[: row.index(END)] if END in row else row)] for row in rows]


def judge(written: Sequence[Sequence[str]], known: set[str]) -> dict[str, float]:
    """Of written sentences the shares that are "grammatical" and "different"; of the grammatical ones those that are "new",
    that is, not among the known, and "held_out" of all training."""
    right = [" ".join(words) for words in written if is_grammatical(words)]
    n_right = max(len(right), 1)
    return {
        "grammatical": len(right) / len(written),
        "different": len(set(map(tuple, written))) / len(written),
        "new": sum(text not in known for text in right) / n_right,
        "held_out": sum(is_held_out(Sentence(text.split())) for text in right) / n_right,
    }


def shares_of_kinds(shares: Tensor) -> dict[str, Tensor]:
    """Of shares (..., vocabulary) what falls to words of each kind, (...), a kind being where in a sentence they may stand."""
    nouns = [noun for some in (OBJECTS, *PLACES.values()) for noun in some]
    kinds = {
        "the, this, these": ("the", *DETERMINERS),
        "adjective": ADJECTIVES,
        "one being": [one for one, _ in BEINGS],
        "several beings": [several for _, several in BEINGS],
        "which, near": ("which", "near"),
        "we, they, she": PRONOUNS,
        "found, saw, chased": RELATIVE_VERBS,
        "today, yesterday": ("today", "yesterday"),
        "singular verb": [COPULA[0], *(forms[0] for forms in VERBS)],
        "plural verb": [COPULA[1], *(forms[1] for forms in VERBS)],
        "past verb": [forms[2] for forms in VERBS],
        "very": ("very",),
        "on, in": tuple(PLACES),
        "thing or place": nouns,
        "end": (PAD,),
    }
    return {kind: shares[..., [IDS[word] for word in words]].sum(dim=-1) for kind, words in kinds.items()}


def measure_cache(
    gpt: GPTParts, step: Callable, cache: list, tokens: Tensor, lengths: Sequence[int]
) -> dict[int, dict[str, float]]:
    """For each of the lengths the "bytes" of a cache of so many words, and the seconds of the last word: "without" it, by
    gpt(all the words so far, (1, T)), and "with" it, by step(gpt, the one word, (1,), the cache before it)."""
    found = {}
    for n in range(1, max(lengths) + 1):
        word, before = tokens[:, n - 1], cache
        _, cache = step(gpt, word, before)
        if n in lengths:
            size = sum(part.numel() * part.element_size() for pair in cache for part in pair)
            seconds = [seconds_of(gpt, tokens[:, :n]), seconds_of(step, gpt, word, before)]
            found[n] = {"bytes": size, "without": seconds[0], "with": seconds[1]}
    return found


def seconds_of(function: Callable[..., object], *arguments: object, n: int = 5) -> float:
    """Wall-clock seconds of the fastest of n calls."""
    times = []
    for _ in range(n):
        start = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - start)
    return min(times)
