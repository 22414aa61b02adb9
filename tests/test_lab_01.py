"""Lab 1: its measurements, as orderings and bounds with room to spare, and its figures."""

import json
import math

import pytest
import torch
import torch.nn.functional as F

from common.attention import causal_mask, scaled_dot_product_attention
from common.command_line import sentence_of
from common.lexicon import KINDS, agreeing_verb, embed
from conftest import load, run_script
from week6.figures.attention_basics import draw_look_up, draw_masks, draw_sentence

lab1 = load(1)
AT_512 = lab1.SIZES.index(512)
WORDS = lab1.SENTENCE.split()


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What a student finds at the top level after the lab has run."""
    return run_script(1, tmp_path_factory.mktemp("lab 1"))


def test_look_up_is_attention_with_four_different_sizes():
    assert lab1.scores.shape == (3, 5) and lab1.output.shape == (3, 2)
    torch.testing.assert_close(lab1.output, F.scaled_dot_product_attention(lab1.q, lab1.k, lab1.v))
    torch.testing.assert_close(lab1.weights.sum(-1), torch.ones(3))
    torch.testing.assert_close(lab1.scaled * 2, lab1.scores)  # sqrt(d_k) = 2
    assert lab1.weights.argmax(-1)[0] == list(lab1.BOOKS).index("Machine Learning")


def test_the_scores_are_drawn_with_the_decimals_that_they_have():
    steps = (lab1.scores, lab1.scaled, lab1.weights, lab1.output, lab1.v)
    fig = draw_look_up(*steps, list(lab1.READERS), list(lab1.BOOKS), lab1.CONTENTS)
    first, second = ([text.get_text() for text in ax.texts] for ax in fig.axes[:2])
    assert first[:2] == ["8", "12"] and first[10:13] == ["8.4", "8.4", "2.8"]
    assert [float(text) / 2 for text in first] == [float(text) for text in second]  # sqrt(d_k) = 2


@pytest.fixture(scope="module", params=[0, 1])
def scaling(request):
    return lab1.measure_scaling(torch.Generator().manual_seed(request.param), 300)


def test_the_variance_grows_like_d_k_unless_divided(scaling, names):
    for d_k, unscaled, scaled in zip(lab1.SIZES, *(data["variance"] for data in scaling.values()), strict=True):
        assert unscaled == pytest.approx(d_k, rel=0.15) and scaled == pytest.approx(1, rel=0.15)
    assert names["slopes"]["unscaled"] == pytest.approx(1, abs=0.05)
    assert names["slopes"]["scaled"] == pytest.approx(0, abs=0.05)


def test_the_unscaled_softmax_saturates_and_loses_its_gradient(scaling):
    at, one = scaling["unscaled"], scaling["scaled"]
    assert at["entropy"][AT_512] < 0.4 < 2 < one["entropy"][AT_512] < math.log(lab1.N_KEYS)
    assert at["largest"][AT_512] > 0.8 > 0.4 > one["largest"][AT_512]
    assert at["gradient_norm"][AT_512] < 0.02 * one["gradient_norm"][AT_512]
    assert at["gradient_norm"][0] == one["gradient_norm"][0]  # d_k = 1: the same thing
    assert at["gradient_norm_mean"][AT_512] > 10 * at["gradient_norm"][AT_512]


def test_at_the_query_the_unscaled_gradient_is_smaller_in_the_median_and_larger_in_the_mean(scaling):
    at, one = scaling["unscaled"], scaling["scaled"]
    assert at["q_gradient_norm"][AT_512] < 0.2 * one["q_gradient_norm"][AT_512]
    assert at["q_gradient_norm_mean"][AT_512] > 2 * one["q_gradient_norm_mean"][AT_512]


def test_softmax_statistics_by_hand():
    q, k, v = torch.tensor([[[1.0]]]), torch.tensor([[[math.log(9.0)], [0.0]]]), torch.tensor([[[1.0], [5.0]]])
    found = lab1.softmax_statistics(q, k, v, scale=0.5)  # weights 3/4 and 1/4, output 2; d output / d score_i = w_i (v_i - 2)
    assert found["largest"] == pytest.approx(0.75)
    assert found["entropy"] == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert found["gradient_norm"] == pytest.approx(math.hypot(0.75 * -1, 0.25 * 3))
    assert found["q_gradient_norm"] == pytest.approx(0.75 * math.log(9.0) * 0.5)


def test_three_keys_collapse_when_unscaled():
    examples = [three_keys(torch.Generator().manual_seed(seed)) for seed in range(20)]
    assert all(example["unscaled"].max() > example["scaled"].max() for example in examples)
    assert sum(example["unscaled"].max().item() > 0.95 for example in examples) > 14  # the rest: two keys nearly tied


def three_keys(generator):
    q, k = torch.randn(1, 512, generator=generator), torch.randn(3, 512, generator=generator)
    scales = {"unscaled": 1.0, "scaled": None}
    return {name: scaled_dot_product_attention(q, k, k, scale=scale)[1][0] for name, scale in scales.items()}


def test_the_example_in_the_figure_is_the_first_draw(names):
    for name, shares in three_keys(names["lab"].generator("three keys")).items():
        torch.testing.assert_close(names["example"][name], shares)


def test_a_verb_finds_its_subject():
    weights = lab1.attend(embed(WORDS))[1]
    verb = agreeing_verb(WORDS)
    assert WORDS[verb] == "is" and WORDS[weights[verb].argmax()] == "cat" and weights[verb].max() > 0.8


@pytest.mark.parametrize(
    ("text", "verb", "subject"),
    [("the dogs which she saw are happy", "are", "dogs"), ("The mouse, that we chased, sleeps.", "sleeps", "mouse")],
)
def test_agreement_decides_between_two_candidates(text, verb, subject):
    words = sentence_of(KINDS, most=20)(text)
    weights = lab1.attend(embed(words))[1]
    assert words[agreeing_verb(words)] == verb and words[weights[words.index(verb)].argmax()] == subject


def test_a_tie_is_reported_as_a_tie():
    words = ["she", "found", "the", "mouse", "which", "is", "cute"]
    weights = lab1.attend(embed(words))[1]
    found = lab1.looks_at(weights[words.index("is")])
    assert [words[i] for i in found] == ["she", "mouse"]
    fig = draw_sentence(words, weights, words.index("is"), found)
    assert '"she" and "mouse"' in fig.get_suptitle() and "cannot tell" in fig.get_suptitle()


def test_words_with_equal_features_get_equal_weights_wherever_they_stand():
    weights = lab1.attend(embed(["the", "cat", "which", "we", "found", "yesterday", "is", "a", "mouse"]))[1]
    torch.testing.assert_close(weights[:, 1], weights[:, 8])


def test_right_masks_leak_nothing_and_the_inverted_one_shows_the_future(names):
    leaks, seen = names["leaks"], names["seen"]
    assert leaks["causal"] == 0 and leaks["padding"] == 0
    assert leaks["none"] > 0.5 and leaks["inverted"] > 0.5
    torch.testing.assert_close(names["rightly"], lab1.attend(embed(WORDS)[None], causal_mask(len(WORDS)))[0])
    assert (seen["inverted"][:-1].tril() == 0).all() and seen["inverted"][-1].isnan().all()
    assert (seen["padding"][:, -3:] == 0).all()


def test_the_filling_is_named_as_padding_and_as_the_word_that_it_is():
    weights = {"causal": torch.rand(2, 2), "padding": torch.rand(4, 4), "inverted": torch.rand(2, 2)}
    may = {name: torch.ones_like(matrix, dtype=torch.bool) for name, matrix in weights.items()}
    fig = draw_masks(["the", "cat"], ["a", "dog"], weights, may, dict.fromkeys(weights, 0.0))
    rows = [[label.get_text() for label in ax.get_yticklabels()] for ax in fig.axes[:3]]
    assert rows == [["the", "cat"], ["the", "cat", "<pad> (= a)", "<pad> (= dog)"], ["the", "cat"]]


def test_leak_sees_a_mask_that_is_wrong_in_one_place():
    x = embed(WORDS)[None]
    causal = causal_mask(len(WORDS))
    shifted = causal.clone()
    shifted[2, 3] = True
    assert lab1.leak(lambda x: lab1.attend(x, shifted), x, causal) > 0


def test_required_records_and_the_printed_finding(fast_runs):
    run = fast_runs["01", "ascii"]
    results = json.loads((run.out / "01_results.json").read_text())["results"]
    assert set(results) >= {
        "scaling.variance_slope.unscaled",
        "scaling.variance_slope.scaled",
        "scaling.gradient_norm.unscaled.d512",
        "scaling.gradient_norm.scaled.d512",
        "scaling.entropy.unscaled.d512",
        "scaling.entropy.scaled.d512",
    }
    printed = " ".join(run.process.stdout.decode("ascii").split())
    assert f'"is" puts {results["sentence.verb_to_subject"]["value"]:.2f} on "cat"' in printed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("the cat is a unicorn", "unknown word 'unicorn'; known words: a, are, cat"),
        ("", "0 words"),
        ("   ", "0 words"),
        ("cat", "1 words"),
        ("the " * 21, "21 words"),
        ("고양이", "\\uace0"),
    ],
)
def test_a_bad_sentence_is_one_line_and_nothing_is_written(text, says, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        run_script(1, tmp_path / "out", "--sentence", text)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and says in error and error.isascii()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["The cats, yesterday.", "is is", " ".join(["these mice"] * 10), "very quite"])
def test_any_sentence_over_the_lexicon_works(text, tmp_path):
    run_script(1, tmp_path, "--sentence", text)
    assert len(list(tmp_path.glob("01_*.png"))) == 4
