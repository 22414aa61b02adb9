"""Lab 1's words: a small lexicon with hand-made features, so that every number of an attention can be followed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from common import precision  # noqa: F401 (float64 and one thread)

FEATURES = ("noun", "pronoun", "relative", "verb", "adjective", "degree", "time", "determiner", "number")
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


def embed(words: Sequence[str]) -> Tensor:
    """(T, 9): for each word 1 at its kind, 0 at the other kinds, and its number, +1, -1 or 0; columns as in FEATURES."""
    rows = [[float(number if f == "number" else f == kind) for f in FEATURES] for kind, number in map(KINDS.get, words)]
    return torch.tensor(rows)


def agreeing_verb(words: Sequence[str]) -> int:
    """Position of the last verb that shows a number; without one, of the last verb, or else of the last word."""
    verbs = [i for i, word in enumerate(words) if KINDS[word][0] == "verb"]
    agreeing = [i for i in verbs if KINDS[words[i]][1] != EITHER]
    return (agreeing or verbs or [len(words) - 1])[-1]
