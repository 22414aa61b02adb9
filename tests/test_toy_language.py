"""The toy language: its grammar is true English, its halves do not overlap, and its gaps have one right answer."""

import random

import pytest
import torch

from common import toy_language
from common.toy_language import (
    ADJECTIVES,
    BEINGS,
    COPULA,
    DETERMINERS,
    IDS,
    MASK,
    MAX_WORDS,
    PAD,
    PLACES,
    PRONOUNS,
    RELATIVE_VERBS,
    SKILLS,
    VERBS,
    VOCABULARY,
    MaskedWordModel,
    encode,
    fill_gaps,
    is_grammatical,
    is_held_out,
    random_sentence,
    sentences,
    train_masked_words,
)

SAMPLE = sentences(3000, 0, held_out=False) + sentences(1000, 1, held_out=True)
NUMBER = {
    form: number for forms in (*BEINGS, *(verb[:2] for verb in VERBS), COPULA, DETERMINERS) for number, form in enumerate(forms)
}


def test_training_and_held_out_sentences_are_different_sentences():
    training = {str(s) for s in sentences(5000, 2, held_out=False)}
    held_out = {str(s) for s in sentences(2000, 3, held_out=True)}
    assert not training & held_out
    assert all(is_held_out(s) for s in sentences(50, 4, held_out=True))
    assert {is_held_out(s) for s in sentences(50, 5, held_out=None)} == {True, False}


def test_a_fifth_is_held_out():
    rng = random.Random(0)
    share = sum(is_held_out(random_sentence(rng)) for _ in range(3000)) / 3000
    assert 0.15 < share < 0.25


def test_verbs_and_determiners_have_the_number_of_the_subject():
    for s in SAMPLE:
        number = NUMBER[s.words[s.at["subject"]]]
        for role in ("verb", "determiner"):
            if role in s.at and s.words[s.at[role]] in NUMBER:
                assert NUMBER[s.words[s.at[role]]] == number, str(s)


def test_an_attractor_is_a_noun_of_the_other_number_before_the_verb():
    beings = {form for forms in BEINGS for form in forms}
    for s in SAMPLE:
        between = [w for w in s.words[s.at["subject"] + 1 : s.at["verb"]] if w in beings]
        other = any(NUMBER[w] != NUMBER[s.words[s.at["subject"]]] for w in between)
        assert s.attractor == other, str(s)
    assert 0.15 < sum(s.attractor for s in SAMPLE) / len(SAMPLE) < 0.6


def test_objects_fit_their_verbs_and_prepositions_their_places():
    for s in SAMPLE:
        if "object" in s.at:
            (objects,) = (nouns for forms, nouns in VERBS.items() if s.words[s.at["verb"]] in forms)
            assert s.words[s.at["object"]] in objects
        if "preposition" in s.at:
            assert s.words[s.at["place"]] in PLACES[s.words[s.at["preposition"]]]


def test_every_gap_holds_its_word_and_competitors_that_would_be_wrong():
    seen = set()
    for s in SAMPLE:
        for skill, (position, word, competitors) in s.gaps.items():
            seen.add(skill)
            assert s.words[position] == word and competitors and word not in competitors
            assert all(other in IDS for other in competitors)
    assert seen == set(SKILLS)


# --- the recogniser -------------------------------------------------------------------------------------------------


def test_every_sentence_of_the_language_is_recognised():
    assert all(is_grammatical(s.words) for s in SAMPLE)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "the cat",
        "the cat are old",  # agreement
        "the cat which the dogs chased are old",
        "these cat is old",  # determiner
        "the cat eats the milk",  # object
        "the cat sat in the mat",  # preposition
        "the girl which we saw is old",  # which is for animals
        "today the cat sat on the mat",  # today and a past form
        "yesterday the cat is old",
        "yesterday the cat which we saw yesterday sat on the mat",  # one time is enough
        "the cat which chased is old",
        "the cat near the dogs near the birds is old",
        "the old small cat is old",
        "the cat is very very old",
        "the cat is old today",
        "the cat is old the cat is old",
        "<pad> the cat is old",
        "the mat is old",
    ],
)
def test_what_the_grammar_does_not_say_is_not_recognised(text):
    assert not is_grammatical(text.split())


class EveryChoice:
    """Stands for a random.Random: takes every choice in turn, so that a generator says everything that it can."""

    def __init__(self):
        self.path, self.at = [], 0  # of each choice [the option taken, how many there are]

    def choice(self, options):
        if self.at == len(self.path):
            self.path.append([0, len(options)])
        self.at += 1
        return options[self.path[self.at - 1][0]]

    def random(self):
        return self.choice((0.1, 0.5, 0.9))  # one number between any two limits in the grammar

    def randrange(self, n):
        return self.choice(range(n))

    def next(self):
        """Whether there is another way."""
        while self.path and self.path[-1][0] + 1 == self.path[-1][1]:
            self.path.pop()
        if self.path:
            self.path[-1][0] += 1
        self.at = 0
        return bool(self.path)


@pytest.fixture
def small_language(monkeypatch):
    """All sentences of the same grammar with fewer words."""
    smaller = {"BEINGS": [("cat", "cats"), ("girl", "girls")], "ANIMALS": [("cat", "cats")], "ADJECTIVES": ("old",)}
    smaller |= {"PRONOUNS": ("we",), "RELATIVE_VERBS": ("saw",), "PLACES": {"on": ("mat",), "in": ("box",)}}
    smaller["VERBS"] = {("eats", "eat", "ate"): ("bread",), ("sits", "sit", "sat"): ()}
    for name, words in smaller.items():
        monkeypatch.setattr(toy_language, name, words)
    toy_language._grammar.cache_clear()
    every, found = EveryChoice(), set()
    found.add(str(random_sentence(every)))
    while every.next():
        found.add(str(random_sentence(every)))
    yield found
    toy_language._grammar.cache_clear()


def test_all_that_can_be_said_is_recognised_and_what_is_recognised_can_be_said(small_language):
    """Every sentence; and whatever is recognised among all that differ from one in a word, or by a word more or less."""
    assert len(small_language) > 4000 and all(is_grammatical(text.split()) for text in small_language)
    words, found = sorted({word for text in small_language for word in text.split()}), 0
    for text in random.Random(1).sample(sorted(small_language), 100):
        old = text.split()
        for i in range(len(old) + 1):
            changed = [[*old[:i], word, *old[i + rest :]] for word in words for rest in (0, 1)] + [old[:i] + old[i + 1 :]]
            recognised = {" ".join(new) for new in changed if is_grammatical(new)}
            assert recognised <= small_language, recognised - small_language
            found += len(recognised - {text})
    assert found > 200  # and there were many such


def shape(words):
    """The sentence with words of one kind made equal."""
    kinds = {form: str(number) for forms in BEINGS for number, form in enumerate(forms)}
    kinds |= {word: words[0] for words in (*PLACES.values(), ADJECTIVES, PRONOUNS, RELATIVE_VERBS) for word in words}
    kinds |= {forms[2]: "slept" for forms, objects in VERBS.items() if not objects}
    return [kinds.get(word, word) for word in words]


@pytest.mark.parametrize("text", ["the cat sat on the mat", "the cat which we found yesterday is very cute"])
def test_the_lessons_sentences_belong_to_the_language(text):
    rng = random.Random(0)
    assert all(word in IDS for word in text.split())
    assert any(shape(random_sentence(rng).words) == shape(text.split()) for _ in range(20_000))


def test_sentences_fit_the_model_and_encode_fills_up():
    assert max(len(s.words) for s in SAMPLE) <= MAX_WORDS
    assert len(VOCABULARY) == len(set(VOCABULARY)) and IDS[PAD] == 0
    tokens, lengths = encode([["the", "cat"], ["the", "cat", "sat"]])
    assert tokens.tolist() == [[IDS["the"], IDS["cat"], 0], [IDS["the"], IDS["cat"], IDS["sat"]]]
    assert lengths.tolist() == [2, 3]


def test_padding_does_not_reach_the_scores():
    model = MaskedWordModel().eval()
    tokens, lengths = encode([["the", "cat", "sat"]])
    longer = torch.cat([tokens, torch.full((1, 4), IDS["dog"])], dim=1)
    torch.testing.assert_close(model(longer, lengths)[0][:, :3], model(tokens, lengths)[0])


def test_fill_gaps_hides_the_word_and_compares_with_its_competitors():
    class Spy(torch.nn.Module):
        """Prefers the word that stood in the first sentence's gap, whatever it is asked."""

        def forward(self, tokens, lengths):
            self.tokens = tokens
            scores = torch.zeros(*tokens.shape, len(VOCABULARY))
            scores[..., IDS["is"]] = 1
            return scores, torch.arange(tokens.numel()).view(len(tokens), 1, 1, -1).expand(-1, 2, tokens.shape[1], -1).float()

    test = [s for s in SAMPLE if "agreement" in s.gaps and s.words[s.at["verb"]] in COPULA][:40]
    spy = Spy()
    right, weights = fill_gaps(spy, test, "agreement")
    assert right.tolist() == [s.words[s.at["verb"]] == "is" for s in test] and right.any() and not right.all()
    assert all(row[s.at["verb"]] == IDS[MASK] for row, s in zip(spy.tokens, test, strict=True))
    assert weights.shape == (len(test), 2, spy.tokens.shape[1])


def test_training_lowers_the_loss():
    torch.manual_seed(0)
    losses = train_masked_words(MaskedWordModel(), 60, seed=0)
    assert len(losses) == 60 and sum(losses[-5:]) < 0.7 * sum(losses[:5])
