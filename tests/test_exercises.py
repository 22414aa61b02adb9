"""The grader of the exercises: a right answer passes, each mistake gets its own diagnosis, and nothing makes it crash."""

import importlib
import math
import sys
from functools import partial
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import more_answers
import right_answers as right
from common.attention import MultiHeadAttention, causal_mask, padding_mask, scaled_dot_product_attention
from common.positional_encoding import sinusoidal_encoding
from common.transformer import TransformerBlock
from conftest import ROOT, SCRIPTS
from test_lesson import anchors
from week6.exercises import attempt, catalogue, diagnosis, exercises, lesson, showing
from week6.exercises import sentences as say
from week6.exercises.catalogue.multi_head_attention import multi_head_attention
from week6.exercises.catalogue.post_norm_block import block
from week6.exercises.catalogue.split_heads import split_heads
from week6.exercises.catalogue.training_step import training_step
from week6.exercises.definition import as_tuple, is_float, same
from week6.exercises.grader import Grader
from week6.exercises.verdict import NOT_STARTED, SOLVED, WRONG, Mistake, Section, Verdict
from wrong_answers import WRONG as WRONG_ANSWERS
from wrong_answers import norm_in_place, softmax_in_place, softmax_overflows

EXERCISES = catalogue.load()
BY_NAME = {exercise.name: exercise for exercise in EXERCISES}
EACH = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
GENERAL = [mistake for mistake in vars(say).values() if isinstance(mistake, Mistake)]
GENERAL += [Mistake(name, korean, english) for name, _, korean, english in say.ERRORS]


def grade(exercise, answers):
    return Grader(EXERCISES, answers).verdict(exercise.name)


def verdict_on(name, function):
    return grade(BY_NAME[name], SimpleNamespace(**{name: function}))


def names(verdict):
    return [mistake.name for mistake in verdict.mistakes]


def smallest_failure(name, function):
    """The inputs of fewest numbers on which the function is wrong, found without the grader's own search."""
    exercise = BY_NAME[name]
    for stage in exercise.stages:
        failing = [x for x in stage if not same_output(function(*x.values()), getattr(right, name)(*x.values()))]
        if failing:
            break
    return min(failing, key=showing.size)


def same_output(a, b):
    return torch.allclose(a[0], b[0], atol=1e-4) and torch.allclose(a[-1], b[-1], atol=1e-4)


# --- right answers --------------------------------------------------------------------------------------------------


@EACH
def test_a_right_answer_is_solved(exercise):
    verdict = grade(exercise, right)
    assert verdict.outcome == SOLVED and not verdict.mistakes and not verdict.example
    assert right.__dict__[exercise.name].__code__.co_firstlineno == verdict.line


def test_the_course_passes():
    heads = MultiHeadAttention(6, 2)
    answers = {
        "scaled_dot_product_attention": scaled_dot_product_attention,
        "causal_mask": causal_mask,
        "padding_mask": lambda lengths, n: padding_mask(lengths, n)[:, None],
        "merge_heads": heads._merge_heads,
        "sinusoidal_encoding": sinusoidal_encoding,
    }
    for name, function in answers.items():
        assert verdict_on(name, function).outcome == SOLVED, name
    x = torch.randn(3, 5, 6)
    torch.testing.assert_close(split_heads(x, 2), heads._split_heads(x))


def test_the_model_of_multi_head_attention_is_the_course_one():
    heads, x = MultiHeadAttention(6, 2, bias=False), torch.randn(3, 5, 6)
    matrices = [layer.weight.T for layer in (heads.w_q, heads.w_k, heads.w_v, heads.w_o)]
    mask = padding_mask([5, 2, 3], 5) & causal_mask(5)
    for function in (multi_head_attention, right.multi_head_attention):
        torch.testing.assert_close(function(x, *matrices, 2), heads(x)[0])
        torch.testing.assert_close(function(x, *matrices, 2, mask[:, None]), heads(x, mask=mask)[0])


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_the_model_of_the_block_is_the_course_block(norm):
    course, x = TransformerBlock(6, 2, norm=norm, activation="relu"), torch.randn(3, 5, 6)
    first, _, _, second = course.feed_forward
    parameters = (first.weight.T, first.bias, second.weight.T, second.bias)
    for feed_forward in (right.feed_forward, BY_NAME["feed_forward"].model):
        sub_layers = (lambda x: course.attention(x)[0], lambda x: feed_forward(x, *parameters), course.norm_1, course.norm_2)  # noqa: B023
        torch.testing.assert_close(block(x, *sub_layers, norm=norm), course(x)[0])
        torch.testing.assert_close(getattr(right, f"{norm}_norm_block")(x, *sub_layers), course(x)[0])


def test_a_training_step_is_that_of_torch():
    x, y = torch.randn(5, 3), torch.randn(5, 2)
    models = [nn.Linear(3, 2) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    optimizer = torch.optim.SGD(models[1].parameters(), lr=0.1)
    for _ in range(3):
        by_hand = nn.functional.mse_loss(models[0](x), y)
        gradients = torch.autograd.grad(by_hand, list(models[0].parameters()))
        with torch.no_grad():
            for p, gradient in zip(models[0].parameters(), gradients, strict=True):
                p -= 0.1 * gradient
        assert training_step(models[1], nn.functional.mse_loss, optimizer, x, y) == pytest.approx(by_hand.item())
    torch.testing.assert_close(models[0].state_dict(), models[1].state_dict())


def listed(answers):
    return [pytest.param(name, label, id=f"{name}-{label}") for name, group in answers.items() for label in group]


@pytest.mark.parametrize(("name", "label"), listed(more_answers.RIGHT))
def test_unusual_right_answers_pass(name, label):
    verdict = verdict_on(name, more_answers.RIGHT[name][label])
    assert verdict.outcome == SOLVED, verdict.message()


@pytest.mark.parametrize(("name", "label"), listed(more_answers.WRONG))
def test_other_wrong_answers_are_told_their_cause_and_no_other(name, label):
    function, expected = more_answers.WRONG[name][label]
    verdict = verdict_on(name, function)
    assert verdict.outcome == WRONG and names(verdict) == expected, verdict.message()


def test_a_file_that_sets_the_default_dtype_is_graded_all_the_same():
    torch.set_default_dtype(torch.float64)
    assert verdict_on("softmax", lambda x: right.softmax(x @ torch.eye(x.shape[-1]))).outcome == SOLVED


@EACH
def test_the_cases_are_float32_whatever_the_default_is(exercise):
    torch.set_default_dtype(torch.float64)
    module = importlib.reload(importlib.import_module(f"week6.exercises.catalogue.{exercise.name}"))
    tensors = [x for case in module.EXERCISE.cases for x in case.values() if is_float(x)]
    assert all(x.dtype == torch.float32 for x in tensors)
    assert Grader([module.EXERCISE], right).verdict(exercise.name).outcome == SOLVED


def test_an_error_of_another_kind_is_no_mistake_about_shapes():
    def softmax(x):
        try:
            return WRONG_ANSWERS["softmax"]["sum without keepdim"](x)
        except RuntimeError:
            raise KeyError("key") from None

    assert names(verdict_on("softmax", softmax)) == ["Python error"]


def test_there_are_a_hundred_more_answers_and_half_of_them_are_right():
    assert min(len(listed(more_answers.RIGHT)), len(listed(more_answers.WRONG))) >= 50


# --- each mistake gets its own diagnosis ------------------------------------------------------------------------------


@EACH
def test_every_listed_mistake_has_a_wrong_answer(exercise):
    listed = [mistake.name for mistake in exercise.mistakes]
    assert len(set(listed)) == len(listed)
    assert set(WRONG_ANSWERS[exercise.name]) - {say.IN_PLACE.name} == set(listed)


@pytest.mark.parametrize(("name", "mistake"), [(name, mistake) for name, wrong in WRONG_ANSWERS.items() for mistake in wrong])
def test_a_mistake_gets_its_own_diagnosis_and_no_other(name, mistake):
    verdict = verdict_on(name, WRONG_ANSWERS[name][mistake])
    assert verdict.outcome == WRONG and names(verdict) == [mistake]
    assert len(verdict.message().splitlines()) == 2 and not verdict.example  # one sentence in each language


def test_the_specified_mistakes_are_all_listed():
    specified = """wrong softmax axis; no scaling; scaling by d_k; scaling by sqrt(d_model); inverted mask; mask
        applied after the softmax; causal mask without the diagonal; NaN on a fully masked row; overflow without max
        subtraction; heads merged without the transpose; sine and cosine swapped; exponent counted twice; unbiased
        variance; missing epsilon; missing residual; pre and post swapped; input modified in place; minimum subtracted;
        mean subtracted; masked scores not low enough; queries masked instead of keys; one padding token seen;
        gradients not cleared; no activation; output projection missing"""
    listed = [mistake for wrong in WRONG_ANSWERS.values() for mistake in wrong]
    for words in " ".join(specified.split()).split("; "):
        assert any(mistake.startswith(words) for mistake in listed), words


@pytest.mark.filterwarnings("ignore:var")
@EACH
def test_two_mistakes_at_once_are_both_named(exercise):
    """Or, where the two together cannot be told from something simpler, that; never are they unknown."""
    for pair in combinations(exercise.mistakes, 2):
        change = {key: value for mistake in pair for key, value in mistake.change.items()}
        if len(change) < sum(len(mistake.change) for mistake in pair):
            continue  # two positions of one switch
        function = training_step if exercise.name == "training_step" else exercise.model
        found = names(verdict_on(exercise.name, partial(function, **change)))
        assert found == [mistake.name for mistake in pair] or equivalent(exercise, change, found)


def equivalent(exercise, change, found):
    """Whether what was found is at most two mistakes that give the same answers on other inputs too."""
    by_name = {mistake.name: mistake for mistake in exercise.mistakes}
    other = {key: value for name in found for key, value in by_name[name].change.items()}
    generator = torch.Generator().manual_seed(5)

    def renew(x, inputs):
        if is_float(x):
            return torch.randn(x.shape, generator=generator)
        if isinstance(x, torch.Tensor) and x.dtype == torch.bool:  # the mask; of attention another in each sequence and head
            shape = (inputs["q"] @ inputs["k"].mT).shape if "q" in inputs else x.shape
            return torch.rand(shape, generator=generator) < 0.5
        return 0.7 if isinstance(x, float) else x

    cases = [{name: renew(x, inputs) for name, x in inputs.items()} for inputs in exercise.cases]
    equal = [same(diagnosis.simulate(exercise, x, change), diagnosis.simulate(exercise, x, other)) for x in cases]
    return len(found) <= 2 and all(equal)


def test_mistakes_come_together_also_as_students_write_them():
    def inverted_nan_unscaled(q, k, v, mask=None):
        scores = q @ k.mT
        if mask is not None:
            scores = scores.masked_fill(mask, -torch.inf)
        weights = scores.softmax(-1)
        return weights @ v, weights

    def in_place_over_queries(x):
        x -= x.amax(-2, keepdim=True)
        return x.exp() / x.exp().sum(-2, keepdim=True)

    def no_residuals(x, attention, feed_forward, norm1, norm2):
        return norm2(feed_forward(norm1(attention(x))))

    verdict = verdict_on("scaled_dot_product_attention", inverted_nan_unscaled)
    assert names(verdict) == ["no scaling", "inverted mask", "NaN on a fully masked row"]
    assert len(verdict.message().splitlines()) == 2 * (1 + 3)
    verdict = verdict_on("softmax", in_place_over_queries)
    assert names(verdict) == ["input modified in place", "wrong softmax axis (dim=-2)"]
    assert [name.split(" around")[0] for name in names(verdict_on("post_norm_block", no_residuals))] == ["missing residual"] * 2


# --- wrong in no known way ------------------------------------------------------------------------------------------


def attention_scaled_by(size):
    def attention(q, k, v, mask=None):
        return right.scaled_dot_product_attention(q * (q.shape[-1] / size(q, k, v)) ** 0.5, k, v, mask)

    return attention


def attention_of_values_as_keys(q, k, v, mask=None):
    return right.scaled_dot_product_attention(q, v if v.shape == k.shape else k, v, mask)


def encoding_of_base_1000(n_positions, d_model):
    angles = torch.arange(n_positions)[:, None] / 1000 ** (torch.arange(0, d_model, 2) / d_model)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)


UNKNOWN = {
    "divided by sqrt(n_keys)": ("scaled_dot_product_attention", attention_scaled_by(lambda q, k, v: k.shape[2])),
    "divided by sqrt(n_queries)": ("scaled_dot_product_attention", attention_scaled_by(lambda q, k, v: q.shape[2])),
    "divided by sqrt(d_v)": ("scaled_dot_product_attention", attention_scaled_by(lambda q, k, v: v.shape[3])),
    "divided by 8": ("scaled_dot_product_attention", attention_scaled_by(lambda q, k, v: 64)),
    "values as keys": ("scaled_dot_product_attention", attention_of_values_as_keys),
    "causal mask shifted by two": ("causal_mask", lambda n: torch.ones(n, n).tril(2).bool()),
    "causal mask shifted back by two": ("causal_mask", lambda n: torch.ones(n, n).tril(-2).bool()),
    "only the diagonal": ("causal_mask", lambda n: torch.eye(n).bool()),
    "heads in reverse": ("split_heads", lambda x, n_heads: right.split_heads(x, n_heads).flip(1)),
    "tokens in reverse": ("merge_heads", lambda x: right.merge_heads(x).flip(1)),
    "base 1000": ("sinusoidal_encoding", encoding_of_base_1000),
    "temperature": ("softmax", lambda x: right.softmax(x / 2)),
    "gamma added": ("layer_norm", lambda x, gamma, beta, eps=1e-5: right.layer_norm(x, gamma, beta, eps) + gamma - 1),
    "a third residual": ("pre_norm_block", lambda x, *layers: x + right.pre_norm_block(x, *layers)),
}


@pytest.mark.parametrize("mistake", UNKNOWN, ids=lambda mistake: f"{UNKNOWN[mistake][0]}-{mistake}")
def test_an_unknown_mistake_gets_the_smallest_failing_example(mistake):
    name, function = UNKNOWN[mistake]
    verdict = verdict_on(name, function)
    assert names(verdict) == ["unknown"]
    inputs = smallest_failure(name, function)
    expected, got = (as_tuple(f(*inputs.values())) for f in (getattr(right, name), function))
    for label, x in inputs.items():
        assert f"    {label:<16} = {showing.show(x)}" in verdict.example.splitlines()
    for part, e, g in zip(BY_NAME[name].parts, expected, got, strict=True):
        label = f" {part}" if len(expected) > 1 else ""
        if not torch.allclose(e.double(), g.double(), atol=1e-4):
            assert f"    {'expected' + label:<16} = {showing.show(e)}" in verdict.example.splitlines()
            assert f"    {'got' + label:<16} = {showing.show(g)}" in verdict.example.splitlines()
    assert verdict.example in verdict.message()


def test_the_example_by_hand():
    verdict = verdict_on("causal_mask", lambda n: torch.zeros(n, n, dtype=torch.bool))
    assert verdict.example.split("\n") == [
        "  causal_mask(n)",
        "    n                = 1",
        "    expected         = [[True]]",
        "    got              = [[False]]",
    ]


def test_an_answer_wrong_only_on_large_inputs_shows_where():
    def softmax(x):
        weights = right.softmax(x)
        if x.numel() > 100:
            weights[2, 1, 4, 3] = 7
        return weights

    example = verdict_on("softmax", softmax).example
    assert "x                = a tensor of shape (3, 2, 5, 7)" in example
    assert "first difference: at [2, 1, 4, 3], expected 0." in example and example.endswith("got 7")


# --- answers that are no answers ------------------------------------------------------------------------------------


def stub(*_):
    raise NotImplementedError


def softmax_that_divides_by_zero(x):
    return x / (0 // int(x.numel() < 6))


def softmax_without_end(x):
    return softmax_without_end(x)


BROKEN = {
    "returns None": lambda x: None,
    "NumPy array": lambda x: x.numpy(),
    "NumPy number": (lambda x: np.float32(1), "NumPy array"),
    "list": (lambda x: x.tolist(), "not a tensor"),
    "a pair": (lambda x: (x, x), "not a tensor"),
    "wrong shape": lambda x: right.softmax(x).sum(-1),
    "an axis too many": (lambda x: right.softmax(x)[None], "wrong shape"),
    "wrong dtype": lambda x: right.softmax(x) > 0.5,
    "whole numbers": (lambda x: right.softmax(x).long(), "wrong dtype"),
    "NaN": lambda x: x * torch.nan,
    "infinity": (lambda x: x / 0, "NaN"),
    "no such attribute": lambda x: x.nonsense(),
    "no arguments": (lambda: None, "other arguments"),
    "too many arguments": (lambda x, dim: x, "other arguments"),
    "division by zero": (softmax_that_divides_by_zero, "Python error"),
    "recursion": (softmax_without_end, "calls itself without end"),
    "exit": lambda x: sys.exit(3),
    "a number": (3, "missing function"),
    "torch's function as it is": (torch.softmax, "other arguments"),
    "no gradient": lambda x: right.softmax(x.detach()),
    "numpy inside": lambda x: torch.from_numpy(right.softmax(x).numpy()),
    "one number from a tensor": lambda x: x / math.exp(x),
    "unknown name": lambda x: softmaxx(x),  # noqa: F821
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_answer_gets_a_helpful_sentence(case):
    function, expected = BROKEN[case] if isinstance(BROKEN[case], tuple) else (BROKEN[case], case)
    verdict = verdict_on("softmax", function)
    assert verdict.outcome == WRONG and names(verdict) == [expected]
    assert "{" not in verdict.message() and "}" not in verdict.message()


def test_a_float_mask_is_told_the_dtype():
    verdict = verdict_on("causal_mask", lambda n: torch.ones(n, n).tril())
    assert names(verdict) == ["wrong dtype"] and "torch.bool and is torch.float32" in verdict.mistakes[0].english


def line_above():
    """The number of the line above the call."""
    return sys._getframe(1).f_lineno - 1


def test_a_python_error_says_where_and_on_which_input():
    verdict = verdict_on("softmax", softmax_that_divides_by_zero)
    line = softmax_that_divides_by_zero.__code__.co_firstlineno + 1
    assert f"(test_exercises.py, line {line}): ZeroDivisionError: " in verdict.mistakes[0].english
    x = min((inputs["x"] for inputs in BY_NAME["softmax"].cases if inputs["x"].numel() >= 6), key=torch.numel)
    assert verdict.example.split("\n") == ["  softmax(x)", f"    x                = {showing.show(x)}"]
    verdict = verdict_on("softmax", lambda x: x[0, 0, 0, 0, 0])
    assert f"(test_exercises.py, line {line_above()})" in verdict.mistakes[0].english
    assert verdict.example.splitlines()[-1] == "    error            = IndexError: too many indices for tensor of dimension 2"
    assert "takes 0 positional arguments but 1 was given" in verdict_on("softmax", lambda: None).mistakes[0].english


def test_the_pair_of_attention_is_checked():
    attention = right.scaled_dot_product_attention
    for function, expected in (
        (lambda q, k, v, mask=None: attention(q, k, v, mask)[0], "not a tuple"),
        (lambda q, k, v, mask=None: attention(q, k, v, mask) * 2, "not a tuple"),
        (lambda q, k, v, mask=None: (attention(q, k, v, mask)[0], None), "not a tensor"),
        (lambda q, k, v, mask=None: attention(q, k, v, mask)[0].numpy(), "NumPy array"),
        (lambda q, k, v, mask: attention(q, k, v, mask), "other arguments"),  # mask has a default
        (lambda q, k, v, mask=None: attention(q, k, v, mask.bool()), "None is used"),
        (lambda q, k, v, mask=None: attention(q, k, v, mask)[::-1], "output and weights exchanged"),
    ):
        verdict = verdict_on("scaled_dot_product_attention", function)
        assert verdict.outcome == WRONG and names(verdict) == [expected]


@pytest.mark.parametrize(
    ("pairs", "hint"),
    [
        ([((3, 2), (2, 3)), ((5, 7), (7, 5))], "are two axes exchanged?"),
        ([((2,), (2, 3)), ((7, 5), (7, 5, 3))], "an axis is missing."),
        ([((2, 3, 1), (2, 3))], "there is an axis too many."),
        ([((2, 5), (2, 3))], "is (2, 5)."),
        ([((3, 2), (2, 3)), ((5, 1), (7, 5))], "is (3, 2)."),  # true of the first case only
        ([((6,), (2, 3))], "is (6,)."),
    ],
)
def test_a_hint_at_the_axes_is_given_only_where_it_holds_in_all_cases(pairs, hint):
    sentence = diagnosis.shape_sentence(pairs).about(part="answer", got=pairs[0][0], expected=pairs[0][1])
    assert sentence.english.endswith(hint)


def test_a_type_that_is_wrong_in_one_case_only_comes_with_the_case():
    def attention(q, k, v, mask=None):
        if mask is None:
            return right.scaled_dot_product_attention(q, k, v)
        return None

    verdict = verdict_on("scaled_dot_product_attention", attention)
    assert names(verdict) == ["returns None"] and "mask             = [[True, " in verdict.example


def test_a_nan_that_returns_in_the_backward_pass_is_found():
    def attention(q, k, v, mask=None):
        scores = q @ k.mT / q.shape[-1] ** 0.5
        if mask is not None:
            scores = scores + torch.where(mask, 0, -torch.inf)
        weights = scores.softmax(-1).nan_to_num()
        return weights @ v, weights

    verdict = verdict_on("scaled_dot_product_attention", attention)
    assert names(verdict) == ["NaN gradient"] and "[[False, False]]" in verdict.example


def test_a_missing_gradient_names_the_input():
    verdict = verdict_on("layer_norm", lambda x, gamma, beta, eps=1e-5: right.layer_norm(x, gamma.detach(), beta, eps))
    assert names(verdict) == ["no gradient"] and "gamma" in verdict.mistakes[0].english


def test_a_wrong_gradient_is_shown_beside_the_right_one():
    def post(x, attention, feed_forward, norm1, norm2):
        return right.post_norm_block(x, attention, lambda h: feed_forward(h).detach(), norm1, norm2)

    verdict = verdict_on("post_norm_block", post)
    assert names(verdict) == ["wrong gradient"]
    assert verdict.example.splitlines()[-3:] == [
        "    gradient of x",
        "    expected         = [[[6.48363]]]",  # (1 + 2) (1 + 3) cos(1)
        "    got              = [[[1.62091]]]",
    ]


def test_in_place_names_the_input_and_spares_the_next_case():
    verdict = verdict_on("layer_norm", norm_in_place)
    assert "input x" in verdict.mistakes[0].english and "입력 x" in verdict.mistakes[0].korean
    before = [inputs["x"].clone() for inputs in BY_NAME["softmax"].cases]
    verdict_on("softmax", softmax_in_place)
    assert all(torch.equal(a, inputs["x"]) for a, inputs in zip(before, BY_NAME["softmax"].cases, strict=True))


@EACH
def test_nothing_that_a_function_returns_makes_the_grader_crash(exercise):
    odd = [
        None,
        1,
        1.5,
        "text",
        b"",
        [],
        (),
        {},
        (None, None),
        ([], []),
        object,
        np.zeros(3),
        np.float64(1),
        ...,
        NotImplemented,
    ]
    odd += [torch.tensor(1.0), torch.tensor([]), torch.zeros(0, 3), torch.zeros(2, 3, 5, 7), torch.tensor(True)]
    odd += [
        torch.zeros(2, dtype=torch.complex64),
        torch.zeros(2, 2).half(),
        torch.eye(2).to_sparse(),
        torch.zeros(2, device="meta"),
        (torch.zeros(1),) * 2,
    ]
    for value in odd:
        verdict = verdict_on(exercise.name, lambda *_, value=value: value)
        assert verdict.outcome == WRONG and len(verdict.message().splitlines()) >= 2, repr(value)
    errors = [ValueError("a\nb"), ValueError(), KeyError("{x}"), AssertionError(), StopIteration()]
    for error in [*errors, NotImplementedError("not implemented for 'Bfloat'")]:  # the last as torch raises it
        verdict = verdict_on(exercise.name, partial(raise_it, error))
        assert names(verdict) == ["Python error"] and type(error).__name__ in verdict.message()
    for error, expected in ((SystemExit(), "exit"), (KeyboardInterrupt(), "interrupt"), (MemoryError(), "too much memory")):
        assert names(verdict_on(exercise.name, partial(raise_it, error))) == [expected]


def raise_it(error, *_):
    raise error


# --- not started ----------------------------------------------------------------------------------------------------


@EACH
def test_the_stubs_are_not_started_and_explain_themselves(exercise):
    assert grade(exercise, exercises).outcome == NOT_STARTED
    doc = getattr(exercises, exercise.name).__doc__
    assert "Returns:" in doc and any("가" <= letter <= "힣" for letter in doc)


def code_below(x):
    raise NotImplementedError
    e = x.exp()
    return e / e.sum(-1, keepdim=True)


def code_above(x):
    e = x.exp()  # noqa: F841
    raise NotImplementedError


def code_above_without_names(n):
    k = n + 1  # noqa: F841
    raise NotImplementedError


def reached_with_a_mask_only(q, k, v, mask=None):
    if mask is None:
        return right.scaled_dot_product_attention(q, k, v)
    raise NotImplementedError


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("softmax", code_below),
        ("softmax", code_above),
        ("causal_mask", code_above_without_names),
        ("scaled_dot_product_attention", reached_with_a_mask_only),
    ],
)
def test_a_raise_that_was_left_standing_is_no_empty_stub(name, function):
    function.__code__ = function.__code__.replace(co_name=name)  # as in the student's file
    verdict = verdict_on(name, function)
    assert verdict.outcome == WRONG and names(verdict) == ["raise left standing"]


# --- functions that call each other ---------------------------------------------------------------------------------


def file_with(**functions):
    """A student's file, whose functions look each other up in it, as a module's do."""
    return SimpleNamespace(**{name: function for name, function in vars(right).items() if name in BY_NAME} | functions)


def attention_of(file, **options):
    """Attention that calls the file's softmax."""

    def attention(q, k, v, mask=None):
        scores = q @ k.mT / q.shape[-1] ** options.get("power", 0.5)
        if mask is not None:
            scores = scores.masked_fill(~mask, -1e9)
        weights = file.softmax(scores, **options.get("keywords", {}))
        return weights @ v, weights if mask is None else weights * mask

    def zeroed(q, k, v, mask=None):
        _, weights = attention(q, k, v, mask)
        return weights @ v, weights

    return zeroed


def test_a_stub_that_another_function_needs():
    file = file_with(softmax=exercises.softmax)
    file.scaled_dot_product_attention = attention_of(file)
    verdict = grade(BY_NAME["scaled_dot_product_attention"], file)
    assert names(verdict) == ["unwritten function"] and "softmax()" in verdict.message()
    assert names(grade(BY_NAME["softmax"], SimpleNamespace())) == ["missing function"]


def test_the_function_that_is_called_is_blamed_before_the_one_that_calls_it():
    file = file_with(softmax=softmax_overflows)
    file.scaled_dot_product_attention = attention_of(file)
    verdict = grade(BY_NAME["scaled_dot_product_attention"], file)
    assert names(verdict) == ["calls a wrong function"] and "softmax()" in verdict.message()
    assert verdict.section == BY_NAME["softmax"].section
    assert file.softmax is softmax_overflows  # nothing is left in the student's file


def test_a_caller_keeps_its_own_mistakes_beside_the_blame():
    file = file_with(softmax=softmax_overflows)
    file.scaled_dot_product_attention = attention_of(file, power=1)
    assert names(grade(BY_NAME["scaled_dot_product_attention"], file)) == ["calls a wrong function", "scaling by d_k"]


def test_a_caller_with_other_arguments_is_not_judged_by_the_right_function():
    file = file_with(softmax=lambda x, dim: x.exp() / x.exp().sum(dim, True))
    file.scaled_dot_product_attention = attention_of(file, keywords={"dim": -1})
    assert names(grade(BY_NAME["scaled_dot_product_attention"], file)) == ["calls a wrong function"]


def test_a_caller_that_is_right_all_the_same_is_solved():
    file = file_with(softmax=lambda x: x.exp() / x.exp().sum(-1, True))  # wrong for large numbers only

    def heads(x, w_q, w_k, w_v, w_o, n_heads, mask=None):
        q, k, v = (right.split_heads(x @ w, n_heads) for w in (w_q, w_k, w_v))
        scores = q @ k.mT / q.shape[-1] ** 0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, -1e9)
        weights = file.softmax(scores - scores.amax(-1, True))
        return right.merge_heads((weights if mask is None else weights * mask) @ v) @ w_o

    file.multi_head_attention = heads
    assert grade(BY_NAME["softmax"], file).outcome == WRONG
    assert grade(BY_NAME["multi_head_attention"], file).outcome == SOLVED


def test_functions_that_call_each_other_in_a_circle_end():
    file = file_with()
    file.split_heads = lambda x, n_heads: file.merge_heads(x)
    file.merge_heads = lambda x: file.split_heads(x, 1)
    assert names(grade(BY_NAME["split_heads"], file))[0] in ("calls itself without end", "calls a wrong function")


def test_an_unsafe_function_is_never_called():
    file = file_with(softmax=lambda x: pytest.fail("called"))
    file.scaled_dot_product_attention = attention_of(file)
    verdict = Grader(EXERCISES, file, unsafe=["softmax"]).verdict("scaled_dot_product_attention")
    assert names(verdict) == ["calls a wrong function"]


# --- what the function prints ---------------------------------------------------------------------------------------


def test_prints_of_the_failing_case_are_shown_and_no_others():
    def softmax(x):
        print(f"row: {x.tolist()}")
        return right.softmax(x) if x.numel() != 3 else right.softmax(x) * 2

    verdict = verdict_on("softmax", softmax)
    assert verdict.example.count("row:") == 1
    assert verdict.example.splitlines()[-2:] == ["    printed:", f"      row: {BY_NAME['softmax'].cases[1]['x'].tolist()}"]
    assert not verdict_on("softmax", lambda x: print("noise") or right.softmax(x)).example


def test_a_function_that_closes_what_it_prints_to_is_graded_all_the_same():
    assert verdict_on("softmax", lambda x: sys.stdout.close() or right.softmax(x)).outcome == SOLVED


def test_a_flood_of_prints_is_cut():
    verdict = verdict_on("softmax", lambda x: [print("flood" * 1000) for _ in range(100)] and softmax_overflows(x))
    assert len(verdict.example) < 2 * attempt.MAX_PRINTED


# --- the sentences --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mistake", [*GENERAL, *(m for exercise in EXERCISES for m in exercise.mistakes)], ids=lambda m: m.name)
def test_sentences_stand_in_both_languages_and_on_a_korean_console(mistake):
    assert mistake.english.isascii() and "\n" not in mistake.english + mistake.korean
    assert any("가" <= letter <= "힣" for letter in mistake.korean)
    assert mistake.korean.encode("cp949")
    assert mistake.korean[-1] in ".?)}" and mistake.english[-1] in ".?})"


def test_korean_is_left_out_where_it_cannot_be_printed():
    for function in (stub, softmax_in_place, lambda x: x, lambda x: x.nonsense()):
        verdict = verdict_on("softmax", function)
        assert verdict.message(korean=False).isascii()
        assert verdict.message(korean=False) in verdict.message()


def test_the_labs_that_are_named_exist_and_the_stubs_are_in_order():
    scripts = {path.name[:2]: path.name for path in SCRIPTS}
    for lab in catalogue.LABS:
        assert scripts.get(lab[:2], lab) == lab
    stubs = [name for name, value in vars(exercises).items() if getattr(value, "__module__", "") == exercises.__name__]
    assert tuple(stubs) == catalogue.NAMES == tuple(BY_NAME)


@pytest.mark.parametrize("section", [s for s in vars(lesson).values() if isinstance(s, Section)], ids=lambda s: s.english)
def test_links_lead_to_a_section_of_the_lesson(section):
    for korean in (True, False):
        file, _, anchor = section.link(korean=korean).partition("#")
        assert anchor in anchors((ROOT / file).read_text(encoding="utf-8"))


@EACH
def test_every_verdict_names_a_section(exercise):
    for wrong in WRONG_ANSWERS[exercise.name].values():
        assert isinstance(verdict_on(exercise.name, wrong).section, Section)
    assert grade(exercise, exercises).section and grade(exercise, right).section


def test_a_verdict_survives_the_way_between_two_processes():
    for verdict in (verdict_on("softmax", softmax_that_divides_by_zero), grade(BY_NAME["softmax"], right)):
        assert Verdict.from_json(verdict.to_json()) == verdict
