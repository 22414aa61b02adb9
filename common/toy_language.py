"""A small language with something true to learn, and the masked-word model that Labs 2 and 4 train on it.

The grammar (what stands in brackets is optional; every sentence is plain English):

    sentence  = [today | yesterday] subject [modifier] predicate
    subject   = the/this/these [adjective] being           the cat, these old dogs
    modifier  = near the being                             near the dogs
              | which agent past-verb [yesterday]          which we found yesterday, which the girls saw (of animals)
    predicate = verb the object                            eats the cheese, wrote the letter
              | verb place                                 sat on the mat, sleeps near the bird
              | is/are [very] adjective                    is very cute
    place     = on the mat | in the house | near the being

What one has to know to fill a gap in it, the *skills*:
    agreement    the verb has the number of its subject, whatever stands in between: the cat which the dogs chased *is*
                 very cute. A noun of the other number in between is called an attractor.
    object       each verb has objects of its own: eats the *cheese*, writes the *letter*
    determiner   *this* cat, *these* cats
    preposition  *on* the mat, *in* the house
Past forms (sat, ate) show no number. The subject is always the first noun of its sentence. A fifth of all
sentences is held out and never occurs in training.
"""

from __future__ import annotations

import functools
import itertools
import random
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.attention import padding_mask
from common.positional_encoding import LearnedEncoding
from common.training import NO_TARGET, train
from common.transformer import TransformerBlock

ANIMALS = [("cat", "cats"), ("dog", "dogs"), ("mouse", "mice"), ("bird", "birds")]
BEINGS = [*ANIMALS, ("girl", "girls"), ("boy", "boys")]
DETERMINERS = ("this", "these")  # beside "the", which goes with both numbers
COPULA = ("is", "are")
VERBS = {  # (singular, plural, past): objects; where there are none, a place follows
    ("eats", "eat", "ate"): ("cheese", "apple", "bread"),
    ("drinks", "drink", "drank"): ("milk", "water", "tea"),
    ("writes", "write", "wrote"): ("letter", "story", "poem"),
    ("sits", "sit", "sat"): (),
    ("sleeps", "sleep", "slept"): (),
}
PLACES = {"on": ("mat", "table", "chair"), "in": ("house", "garden", "box")}
ADJECTIVES = ("cute", "old", "small", "happy")
PRONOUNS = ("we", "they", "she")
RELATIVE_VERBS = ("found", "saw", "chased")
OBJECTS = [noun for objects in VERBS.values() for noun in objects]
PAD, MASK = "<pad>", "<mask>"
VOCABULARY = [
    *(PAD, MASK, "the", "near", "which", "very", "today", "yesterday", *DETERMINERS, *COPULA, *ADJECTIVES, *PRONOUNS),
    *(form for forms in (*BEINGS, *VERBS, RELATIVE_VERBS, PLACES, *PLACES.values()) for form in forms),
    *OBJECTS,
]
IDS = {word: i for i, word in enumerate(VOCABULARY)}
MAX_WORDS = 16
SKILLS = ("agreement", "object", "determiner", "preposition")


@dataclass
class Sentence:
    """Words, and what one has to know about them.

    Attributes:
        words: at most MAX_WORDS.
        at: position of the "subject", "verb", "object", "preposition", "place" and of a "determiner" that shows
            the subject's number (this, these), as far as the sentence has them.
        gaps: for each skill that the sentence can test, (position, the word there, its competitors).
        attractor: whether a noun of the other number stands between subject and verb.
    """

    words: list[str] = field(default_factory=list)
    at: dict[str, int] = field(default_factory=dict)
    gaps: dict[str, tuple[int, str, tuple[str, ...]]] = field(default_factory=dict)
    attractor: bool = False

    def add(self, word: str, role: str | None = None, skill: str | None = None, against: Sequence[str] = ()) -> None:
        """The next word; the role that it plays, the skill that decides it, and the competitors it stands `against`."""
        if role is not None:
            self.at[role] = len(self.words)
        if skill is not None:
            self.gaps[skill] = (len(self.words), word, tuple(against))
        self.words.append(word)

    def __str__(self) -> str:
        return " ".join(self.words)


def random_sentence(rng: random.Random) -> Sentence:
    """One sentence of the grammar."""
    sentence, number, past = Sentence(), rng.randrange(2), rng.random() < 0.2
    starts_with_time = rng.random() < 0.2
    if starts_with_time:
        sentence.add("yesterday" if past else "today")
    if rng.random() < 0.3:
        sentence.add(DETERMINERS[number], "determiner", "determiner", [DETERMINERS[1 - number]])
    else:
        sentence.add("the")
    if rng.random() < 0.2:
        sentence.add(rng.choice(ADJECTIVES))
    being, kind = rng.choice(BEINGS), rng.random()
    sentence.add(being[number], "subject")
    if kind < 0.35:
        sentence.attractor = _add_being(sentence, rng, before="near") != number
    elif kind < 0.8 and being in ANIMALS:
        sentence.add("which")
        if rng.random() < 0.3:
            sentence.add(rng.choice(PRONOUNS))
        else:
            sentence.attractor = _add_being(sentence, rng) != number
        sentence.add(rng.choice(RELATIVE_VERBS))
        if rng.random() < 0.3 and not starts_with_time:
            sentence.add("yesterday")
    _add_predicate(sentence, rng, number, past)
    return sentence


def _add_being(sentence: Sentence, rng: random.Random, before: str | None = None) -> int:
    """[near] the being; returns its number."""
    number = rng.randrange(2)
    if before is not None:
        sentence.add(before)
    sentence.add("the")
    sentence.add(rng.choice(BEINGS)[number])
    return number


def _add_predicate(sentence: Sentence, rng: random.Random, number: int, past: bool) -> None:
    if not past and rng.random() < 0.25:
        sentence.add(COPULA[number], "verb", "agreement", [COPULA[1 - number]])
        if rng.random() < 0.4:
            sentence.add("very")
        sentence.add(rng.choice(ADJECTIVES))
        return
    forms, objects = rng.choice(list(VERBS.items()))
    if past:
        sentence.add(forms[2], "verb")
    else:
        sentence.add(forms[number], "verb", "agreement", [forms[1 - number]])
    if objects:
        sentence.add("the")
        sentence.add(rng.choice(objects), "object", "object", [noun for noun in OBJECTS if noun not in objects])
    elif rng.random() < 0.2:
        _add_being(sentence, rng, before="near")
    else:
        preposition = rng.choice(list(PLACES))
        others = [other for other in PLACES if other != preposition]
        sentence.add(preposition, "preposition", "preposition", others)
        sentence.add("the")
        sentence.add(rng.choice(PLACES[preposition]), "place")


@functools.cache
def _grammar() -> re.Pattern:
    """The grammar as one regular expression, which can be, because nothing in it nests to any depth."""

    def one_of(words: Iterable[str]) -> str:
        return f"(?:{'|'.join(words)})"

    anyone = "the " + one_of(form for forms in BEINGS for form in forms)
    who = f"which (?:{one_of(PRONOUNS)}|{anyone}) {one_of(RELATIVE_VERBS)}"
    place = one_of([f"near {anyone}", *(f"{word} the {one_of(nouns)}" for word, nouns in PLACES.items())])
    cases = []
    for number, past, starts_with_time in itertools.product((0, 1), (False, True), (False, True)):
        form = 2 if past else number
        predicates = [f"{forms[form]} {'the ' + one_of(objects) if objects else place}" for forms, objects in VERBS.items()]
        if not past:
            predicates.append(f"{COPULA[number]} (?:very )?{one_of(ADJECTIVES)}")
        time = ("yesterday " if past else "today ") * starts_with_time
        being, animal = (one_of(forms[number] for forms in some) for some in (BEINGS, ANIMALS))
        subject = f"(?:{being}(?: near {anyone})?|{animal} {who}{'' if starts_with_time else '(?: yesterday)?'})"
        opening = f"{time}{one_of(('the', DETERMINERS[number]))} (?:{one_of(ADJECTIVES)} )?"
        cases.append(f"{opening}{subject} {one_of(predicates)}")
    return re.compile("|".join(cases))


def is_grammatical(words: Sequence[str]) -> bool:
    """Whether `random_sentence` can say this: the words of a whole sentence of the grammar."""
    return _grammar().fullmatch(" ".join(words)) is not None


def is_held_out(sentence: Sentence) -> bool:
    """Whether a sentence belongs to the fifth that training never sees; decided by its words alone."""
    return zlib.crc32(str(sentence).encode()) % 5 == 0


def sentences(n: int, seed: int, *, held_out: bool | None) -> list[Sentence]:
    """n random sentences, all held out or none, or with None from the whole language."""
    rng, found = random.Random(seed), []
    while len(found) < n:
        sentence = random_sentence(rng)
        if held_out is None or is_held_out(sentence) == held_out:
            found.append(sentence)
    return found


def verb_position(words: Sequence[str]) -> int:
    """Where the last verb stands; the last word if there is none."""
    verbs = [i for i, word in enumerate(words) if word in COPULA or any(word in forms for forms in VERBS)]
    return (verbs or [len(words) - 1])[-1]


def encode(texts: Iterable[Sequence[str]]) -> tuple[Tensor, Tensor]:
    """Word numbers (B, T), filled up with PAD to the longest sentence, and the lengths (B,)."""
    rows = [torch.tensor([IDS[word] for word in words]) for words in texts]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])


def role_words(texts: Sequence[Sentence], roles: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Where the word of each role stands in each sentence (B, roles), and its number (B, roles); NO_TARGET where the sentence
    has none."""
    places = [[text.at.get(role, NO_TARGET) for role in roles] for text in texts]
    words = [[IDS[text.words[i]] if i >= 0 else NO_TARGET for i in row] for text, row in zip(texts, places, strict=True)]
    return torch.tensor(places), torch.tensor(words)


class MaskedWordModel(nn.Module):
    """Embedding + learned position, one Transformer block, and a score for each word of the vocabulary.

    forward(tokens (B, T), lengths (B,)) -> scores (B, T, vocabulary), attention weights (B, H, T, T)
    """

    def __init__(self, n_heads: int = 4, d_model: int = 32, d_ff: int | None = None, norm: str = "post", **options):
        super().__init__()
        self.embedding = nn.Embedding(len(VOCABULARY), d_model)
        nn.init.normal_(self.embedding.weight, std=0.02)  # as small as the positions, or these drown at first
        self.position = LearnedEncoding(MAX_WORDS, d_model)
        self.block = TransformerBlock(d_model, n_heads, d_ff, norm=norm, **options)
        self.to_scores = nn.Linear(d_model, len(VOCABULARY))

    def embed(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, T, d_model)"""
        return self.embedding(tokens) + self.position(tokens.shape[1])

    def forward(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x, weights = self.block(self.embed(tokens), padding_mask(lengths, tokens.shape[1]))
        return self.to_scores(x), weights


def masked_sentences(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """n training sentences with one hidden word each: four times in five one that a skill decides, otherwise any word.

    Returns:
        tokens (n, T) with MASK at the hidden word, lengths (n,), where it stands (n,), and its number (n,).
    """
    rng, training = random.Random(seed), sentences(n, seed, held_out=False)
    hidden = torch.tensor([_gap(sentence, rng) for sentence in training])
    tokens, lengths = encode(sentence.words for sentence in training)
    answers = tokens.gather(1, hidden[:, None]).squeeze(1)  # (n,)
    return tokens.scatter(1, hidden[:, None], IDS[MASK]), lengths, hidden, answers


def train_masked_words(
    model: MaskedWordModel, n_steps: int, seed: int, *, batch: int = 64, lr: float = 1e-2, label: str = "training"
) -> list[float]:
    """Train a model to name the hidden word of each of `masked_sentences`. Returns the loss of each step."""
    tokens, lengths, hidden, answers = (x.split(batch) for x in masked_sentences(n_steps * batch, seed))

    def loss_at(step: int) -> Tensor:
        scores, _ = model(tokens[step], lengths[step])  # (B, T, vocabulary)
        return F.cross_entropy(scores[torch.arange(batch), hidden[step]], answers[step])

    return train(model, loss_at, n_steps, lr=lr, label=label)


def _gap(sentence: Sentence, rng: random.Random) -> int:
    if sentence.gaps and rng.random() < 0.8:
        return rng.choice(list(sentence.gaps.values()))[0]
    return rng.randrange(len(sentence.words))


@torch.no_grad()
def judge_gaps(model: nn.Module, test: Sequence[Sentence], skill: str) -> tuple[Tensor, Tensor, Tensor]:
    """Hide the word that `skill` decides in each of the sentences, all of which must have one.

    Returns:
        log_odds (B,): log p / (1 - p), where p is the probability of the hidden word among itself and its competitors;
        right (B,) bool: whether it is more probable than each of them;
        weights (B, H, T): what the gap looks at.
    """
    positions, words, competitors = zip(*(sentence.gaps[skill] for sentence in test), strict=True)
    tokens, lengths = encode(sentence.words for sentence in test)
    rows, gaps = torch.arange(len(test)), torch.tensor(positions)
    tokens[rows, gaps] = IDS[MASK]
    scores, weights = model(tokens, lengths)
    scores = scores[rows, gaps]  # (B, vocabulary)
    wrong, n_wrong = encode(competitors)  # (B, most competitors), (B,)
    at_wrong = scores.gather(1, wrong).masked_fill(torch.arange(wrong.shape[1]) >= n_wrong[:, None], -torch.inf)
    at_right = scores[rows, [IDS[word] for word in words]]  # (B,)
    return at_right - at_wrong.logsumexp(dim=1), at_right > at_wrong.amax(dim=1), weights[rows, :, gaps]


def fill_gaps(model: nn.Module, test: Sequence[Sentence], skill: str) -> tuple[Tensor, Tensor]:
    """What `judge_gaps` gives, without the log-odds: right (B,) and weights (B, H, T)."""
    return judge_gaps(model, test, skill)[1:]
