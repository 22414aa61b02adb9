"""The toy language: its grammar is true English, its halves do not overlap, and its gaps have one right answer."""

import random

import pytest
import torch

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
