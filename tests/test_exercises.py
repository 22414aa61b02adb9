"""The grader of the exercises: a right answer passes, each mistake gets its own diagnosis, and nothing makes it crash."""

import os
import subprocess
import sys
from functools import partial
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from week6.exercises.mistakes import EXERCISES

import right_answers as right
from common.attention import MultiHeadAttention, causal_mask, scaled_dot_product_attention
from common.positional_encoding import sinusoidal_encoding
from common.transformer import TransformerBlock
from conftest import ROOT, SCRIPTS
from week6.exercises import exercises, grader, models
from week6.exercises.grader import NOT_STARTED, SOLVED, WRONG, grade
from wrong_answers import WRONG as WRONG_ANSWERS
from wrong_answers import norm_in_place, softmax_in_place

BY_NAME = {exercise.name: exercise for exercise in EXERCISES}
EACH = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
GENERAL = [mistake for mistake in vars(grader).values() if isinstance(mistake, grader.Mistake)]


def verdict_on(name, function):
    return grade(BY_NAME[name], SimpleNamespace(**{name: function}))


def names(verdict):
    return [mistake.name for mistake in verdict.mistakes]


def smallest_failure(name, function):
    """The inputs of fewest numbers on which the function is wrong, found without the grader's own search."""
    exercise = BY_NAME[name]
    failing = [x for x in exercise.cases if not same_output(function(*x.values()), getattr(right, name)(*x.values()))]
    return min(failing, key=grader.size)


def same_output(a, b):
    return torch.allclose(a[0], b[0], atol=1e-4) and torch.allclose(a[-1], b[-1], atol=1e-4)


# --- right answers --------------------------------------------------------------------------------------------------


@EACH
def test_a_right_answer_is_solved(exercise):
    assert grade(exercise, right) == grader.Verdict(SOLVED)


def test_the_course_and_torch_pass():
    heads = MultiHeadAttention(6, 2)
    answers = {
        "softmax": lambda x: F.softmax(x, dim=-1),
        "scaled_dot_product_attention": scaled_dot_product_attention,
        "causal_mask": causal_mask,
        "merge_heads": heads._merge_heads,
        "sinusoidal_encoding": sinusoidal_encoding,
        "layer_norm": lambda x, gamma, beta, eps=1e-5: F.layer_norm(x, gamma.shape, gamma, beta, eps),
    }
    for name, function in answers.items():
        assert verdict_on(name, function).outcome == SOLVED, name
    x = torch.randn(3, 5, 6)
    torch.testing.assert_close(models.split_heads(x, 2), heads._split_heads(x))


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_the_model_of_the_block_is_the_course_block(norm):
    block, x = TransformerBlock(6, 2, norm=norm), torch.randn(3, 5, 6)
    sub_layers = (lambda x: block.attention(x)[0], block.feed_forward, block.norm_1, block.norm_2)
    torch.testing.assert_close(models.block(x, *sub_layers, norm=norm), block(x)[0])
    torch.testing.assert_close(getattr(right, f"{norm}_norm_block")(x, *sub_layers), block(x)[0])


def test_other_ways_to_be_right_pass():
    def attention(q, k, v, mask=None):  # float64, -inf in the rows that have a key, and a list instead of a tuple
        scores = (q @ k.mT).double() / q.shape[-1] ** 0.5
        if mask is not None:
            mask = mask.expand(scores.shape)
            scores = scores.masked_fill(~mask & mask.any(-1, keepdim=True), -torch.inf)
        weights = scores.softmax(-1)
        if mask is not None:
            weights = weights.masked_fill(~mask, 0)
        return [weights @ v.double(), weights]

    assert verdict_on("scaled_dot_product_attention", attention).outcome == SOLVED
    assert verdict_on("softmax", lambda x: (x - torch.logsumexp(x, -1, keepdim=True)).exp()).outcome == SOLVED
    assert verdict_on("softmax", torch.nn.Softmax(dim=-1)).outcome == SOLVED
    assert verdict_on("causal_mask", lambda n: ~torch.ones(n, n).triu(1).bool()).outcome == SOLVED


# --- each mistake gets its own diagnosis ------------------------------------------------------------------------------


@EACH
def test_every_listed_mistake_has_a_wrong_answer(exercise):
    listed = [mistake.name for mistake in exercise.mistakes]
    assert len(set(listed)) == len(listed)
    assert set(WRONG_ANSWERS[exercise.name]) - {grader.IN_PLACE.name} == set(listed)


@pytest.mark.parametrize(("name", "mistake"), [(name, mistake) for name, wrong in WRONG_ANSWERS.items() for mistake in wrong])
def test_a_mistake_gets_its_own_diagnosis_and_no_other(name, mistake):
    verdict = verdict_on(name, WRONG_ANSWERS[name][mistake])
    assert verdict.outcome == WRONG and names(verdict) == [mistake]
    assert len(verdict.message().splitlines()) == 2 and not verdict.example  # one sentence in each language


def test_the_specified_mistakes_are_all_listed():
    specified = """wrong softmax axis; no scaling; scaling by d_k; scaling by sqrt(d_model); inverted mask; mask
        applied after the softmax; causal mask without the diagonal; NaN on a fully masked row; overflow without max
        subtraction; heads merged without the transpose; sine and cosine swapped; exponent counted twice; unbiased
        variance; missing epsilon; missing residual; pre and post swapped; input modified in place"""
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
        found = names(verdict_on(exercise.name, partial(exercise.model, **change)))
        assert found == [mistake.name for mistake in pair] or equivalent(exercise, change, found)


def equivalent(exercise, change, found):
    """Whether what was found is at most two mistakes that give the same answers on other inputs too."""
    by_name = {mistake.name: mistake for mistake in exercise.mistakes}
    other = {key: value for name in found for key, value in by_name[name].change.items()}
    generator = torch.Generator().manual_seed(5)

    def renew(x, inputs):
        if grader.is_float(x):
            return torch.randn(x.shape, generator=generator)
        if isinstance(x, torch.Tensor):  # the mask: another in each sequence and head
            scores = inputs["q"] @ inputs["k"].mT
            return torch.rand(scores.shape, generator=generator) < 0.5
        return 0.7 if isinstance(x, float) else x

    cases = [{name: renew(x, inputs) for name, x in inputs.items()} for inputs in exercise.cases]
    same = [grader.same(grader.simulate(exercise, x, change), grader.simulate(exercise, x, other)) for x in cases]
    return len(found) <= 2 and all(same)


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


@pytest.mark.parametrize("mistake", UNKNOWN)
def test_an_unknown_mistake_gets_the_smallest_failing_example(mistake):
    name, function = UNKNOWN[mistake]
    verdict = verdict_on(name, function)
    assert names(verdict) == ["unknown"]
    inputs = smallest_failure(name, function)
    expected, got = (grader.as_tuple(f(*inputs.values())) for f in (getattr(right, name), function))
    for label, x in inputs.items():
        assert f"    {label:<16} = {grader.show(x)}" in verdict.example.splitlines()
    for part, e, g in zip(BY_NAME[name].parts, expected, got, strict=True):
        label = f" {part}" if len(expected) > 1 else ""
        if not torch.allclose(e.double(), g.double(), atol=1e-4):
            assert f"    {'expected' + label:<16} = {grader.show(e)}" in verdict.example.splitlines()
            assert f"    {'got' + label:<16} = {grader.show(g)}" in verdict.example.splitlines()
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
    "Python error": lambda x: x.nonsense(),
    "no arguments": (lambda: None, "Python error"),
    "too many arguments": (lambda x, dim: x, "Python error"),
    "division by zero": (softmax_that_divides_by_zero, "Python error"),
    "recursion": (softmax_without_end, "Python error"),
    "exit": (lambda x: sys.exit(3), "Python error"),
    "a number": (3, "missing function"),
    "torch's function as it is": (torch.softmax, "Python error"),
    "no gradient": lambda x: right.softmax(x.detach()),
    "numpy inside": (lambda x: torch.from_numpy(right.softmax(x).numpy()), "Python error"),
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


def test_a_python_error_says_where_and_on_which_input():
    verdict = verdict_on("softmax", softmax_that_divides_by_zero)
    line = softmax_that_divides_by_zero.__code__.co_firstlineno + 1
    assert f"(test_exercises.py, line {line}): ZeroDivisionError: " in verdict.mistakes[0].english
    x = min((inputs["x"] for inputs in BY_NAME["softmax"].cases if inputs["x"].numel() >= 6), key=torch.numel)
    assert verdict.example.split("\n") == ["  softmax(x)", f"    x                = {grader.show(x)}"]
    assert "(softmax(...)): TypeError" in verdict_on("softmax", lambda: None).mistakes[0].english


def test_the_pair_of_attention_is_checked():
    attention = right.scaled_dot_product_attention
    for function, expected in (
        (lambda q, k, v, mask=None: attention(q, k, v, mask)[0], "not a tuple"),
        (lambda q, k, v, mask=None: attention(q, k, v, mask) * 2, "not a tuple"),
        (lambda q, k, v, mask=None: (attention(q, k, v, mask)[0], None), "not a tensor"),
        (lambda q, k, v, mask=None: attention(q, k, v, mask)[0].numpy(), "NumPy array"),
        (lambda q, k, v, mask: attention(q, k, v, mask), "Python error"),  # mask has a default
        (lambda q, k, v, mask=None: attention(q, k, v, mask.bool()), "Python error"),  # None
        (lambda q, k, v, mask=None: attention(q.mT, k.mT, v, mask), "wrong shape"),
    ):
        verdict = verdict_on("scaled_dot_product_attention", function)
        assert verdict.outcome == WRONG and names(verdict)[0] in (expected, "Python error"), expected


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
    errors = [ValueError("a\nb"), ValueError(), KeyError("{x}"), AssertionError(), StopIteration(), SystemExit()]
    for error in [*errors, NotImplementedError("not implemented for 'Bool'")]:  # the last as torch raises it
        verdict = verdict_on(exercise.name, partial(raise_it, error))
        assert names(verdict) == ["Python error"] and type(error).__name__ in verdict.message()


def raise_it(error, *_):
    raise error


# --- not started ----------------------------------------------------------------------------------------------------


@EACH
def test_the_stubs_are_not_started_and_explain_themselves(exercise):
    assert grade(exercise, exercises).outcome == NOT_STARTED
    doc = getattr(exercises, exercise.name).__doc__
    assert "Returns:" in doc and any("가" <= letter <= "힣" for letter in doc)


def test_a_stub_that_another_function_needs():
    module = SimpleNamespace(softmax=exercises.softmax)
    module.scaled_dot_product_attention = lambda q, k, v, mask=None: (v, module.softmax(q @ k.mT))
    verdict = grade(BY_NAME["scaled_dot_product_attention"], module)
    assert names(verdict) == ["unwritten function"] and "softmax()" in verdict.message()
    assert names(grade(BY_NAME["softmax"], SimpleNamespace())) == ["missing function"]


# --- the sentences --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mistake", [*GENERAL, *(m for exercise in EXERCISES for m in exercise.mistakes)], ids=lambda m: m.name)
def test_sentences_stand_in_both_languages_and_on_a_korean_console(mistake):
    assert mistake.english.isascii() and "\n" not in mistake.english + mistake.korean
    assert any("가" <= letter <= "힣" for letter in mistake.korean)
    assert mistake.korean.encode("cp949")
    assert mistake.korean[-1] in ".?)}" and mistake.english[-1] in ".?}"


def test_korean_is_left_out_where_it_cannot_be_printed():
    for function in (stub, softmax_in_place, lambda x: x, lambda x: x.nonsense()):
        verdict = verdict_on("softmax", function)
        assert verdict.message(korean=False).isascii()
        assert verdict.message(korean=False) in verdict.message()


def test_the_labs_named_in_the_summary_exist():
    scripts = {path.name[:2]: path.name for path in SCRIPTS}
    for exercise in EXERCISES:
        assert scripts.get(exercise.lab[:2], exercise.lab) == exercise.lab


# --- as students run it ---------------------------------------------------------------------------------------------


def run_pytest(encoding, *flags, cwd=ROOT):
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *flags]
    process = subprocess.run(command, capture_output=True, cwd=cwd, env=environment)
    return process.returncode, *(x.decode(encoding).replace("\r\n", "\n") for x in (process.stdout, process.stderr))


MISTAKEN = """

def softmax(x):
    e = torch.exp(x)
    return e / e.sum(-1, keepdim=True)


def causal_mask(n):
    print(f"크기 {n}")
    return nonsense


def merge_heads(x):
    raise NotImplementedError


def sinusoidal_encoding(n_positions, d_model):
    return torch.zeros(n_positions, d_model)
"""


def test_untouched_stubs_end_clearly_and_do_not_fail():
    status, output, errors = run_pytest("cp1252", "exercises", cwd=ROOT / "week6")
    assert status == 0 and errors == "" and output.isascii()
    assert "0 solved, 0 wrong, 9 not started" in output and "9 skipped" in output
    assert output.count("not started\n") == 9 and "SKIPPED" not in output


@pytest.mark.parametrize("encoding", ["cp949", "ascii"])
def test_the_report_is_the_message_and_a_summary(encoding, tmp_path):
    file = tmp_path / "과제 1" / "김철수.py"
    file.parent.mkdir()
    file.write_text((ROOT / "tests" / "right_answers.py").read_text(encoding="utf-8") + MISTAKEN, encoding="utf-8")
    status, output, errors = run_pytest(encoding, "week6/exercises", "--solutions", str(file))
    assert status == 1 and errors == "" and "4 solved, 4 wrong, 1 not started" in output
    assert "Traceback" not in output and "test_exercises.py:" not in output and "FAILED" not in output
    (overflow,) = (m for m in BY_NAME["softmax"].mistakes if m.name.startswith("overflow"))
    assert f"{overflow.english}\n" in output
    assert "NameError: name 'nonsense' is not defined\n  causal_mask(n)\n    n                = 1\n" in output
    assert "    expected         = [[0, 1]]\n    got              = [[0, 0]]\n" in output
    summary = output[output.index("4 solved, 4 wrong") :]
    for exercise in EXERCISES:
        assert exercise.name in summary and f"week6/{exercise.lab}" in summary
    assert "크기 1\n".encode(encoding, "backslashreplace").decode(encoding) in output  # what the student printed
    if encoding == "cp949":
        assert f"{overflow.korean}\n{overflow.english}\n" in output and "(정답)" in summary
    else:
        assert not any("가" <= letter <= "힣" for letter in output)


def test_a_file_that_cannot_be_read_is_said_once(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def softmax(x):\n    return (x\n", encoding="utf-8")
    status, output, errors = run_pytest("utf-8", "week6/exercises", "--solutions", str(file))
    assert status == pytest.ExitCode.USAGE_ERROR and "Traceback" not in output + errors
    korean, english = errors.strip().splitlines()
    assert korean.startswith("ERROR: 파일을 읽을 수 없어 채점하지 못했습니다 (mine.py, line 2): SyntaxError:")
    assert english.startswith("The file cannot be read, so nothing is graded (mine.py, line 2): SyntaxError:")
