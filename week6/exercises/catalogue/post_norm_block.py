"""h = norm1(x + attention(x)), output = norm2(h + feed_forward(h)). What `pre_norm_block` shares stands here, too."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from week6.exercises import lesson
from week6.exercises.catalogue.layer_norm import layer_norm
from week6.exercises.definition import Exercise, Inputs
from week6.exercises.inputs import generator, numbers, tensor
from week6.exercises.verdict import Mistake


def identity(x: Tensor) -> Tensor:
    return x


def block(
    x: Tensor,
    attention: Callable,
    feed_forward: Callable,
    norm1: Callable,
    norm2: Callable,
    *,
    norm: str = "post",
    first_residual: str = "h",
    second_residual: str = "h",
    same_norm: bool = False,
    feed_forward_first: bool = False,
    second_input: str = "h",
    left_out: str = "nothing",
    without_norm: int | None = None,
) -> Tensor:
    """Norm "post", "pre", "branch" (of the sub-layer's result alone) or "none".

    A residual is what is added to a sub-layer's result: "h" (the stream), "none", "normed" (its own input), or "x".
    """
    sub_layers = (feed_forward, attention) if feed_forward_first else (attention, feed_forward)
    norms = (norm1, norm1) if same_norm else (norm1, norm2)
    h = x
    for number, residual in enumerate((first_residual, second_residual)):
        sub_layer, normalise = sub_layers[number], norms[number]
        if left_out == ("attention" if sub_layer is attention else "feed_forward"):
            continue
        if without_norm == number:
            normalise = identity
        entering = x if number and second_input == "x" else h
        if norm == "pre":
            entering = normalise(entering)
        branch = sub_layer(entering)
        if norm == "branch":
            branch = normalise(branch)
        h = {"h": h, "none": 0.0, "normed": entering, "x": x}[residual] + branch
        if norm == "post":
            h = normalise(h)
    return h


class Layer:
    """A sub-layer that shows its formula in an example."""

    def __init__(self, formula: str, function: Callable[[Tensor], Tensor]):
        self.formula, self.function = formula, function

    def __call__(self, x: Tensor) -> Tensor:
        return self.function(x)

    def __repr__(self) -> str:
        return f"x -> {self.formula}"


def cases() -> list[list[Inputs]]:
    """Arithmetic that can be done in the head, then something closer to the real sub-layers."""

    def standardise(x: Tensor) -> Tensor:
        return layer_norm(x, torch.ones_like(x[0, 0]), torch.zeros_like(x[0, 0]))

    arithmetic = {
        "attention": Layer("2 * x", lambda x: 2 * x),
        "feed_forward": Layer("3 * x", lambda x: 3 * x),
        "norm1": Layer("x + 10", lambda x: x + 10),
        "norm2": Layer("x - 5", lambda x: x - 5),
    }
    lifelike = {
        "attention": Layer("softmax(x @ x^T) @ x", lambda x: (x @ x.transpose(1, 2)).softmax(-1) @ x),
        "feed_forward": Layer("tanh(x) + x^2 / 4", lambda x: x.tanh() + x.square() / 4),
        "norm1": Layer("layer norm(x)", standardise),
        "norm2": Layer("2 * layer norm(x) + 1", lambda x: 2 * standardise(x) + 1),
    }
    g = generator()
    return [
        [
            {"x": tensor([[[1.0]]]), **arithmetic},
            {"x": tensor([[[2.0, -1.0]]]), **arithmetic},
            {"x": numbers(1, 2, 3, generator=g), **lifelike},
            {"x": numbers(2, 3, 5, generator=g), **lifelike},
        ]
    ]


SHARED_MISTAKES = [
    Mistake(
        "missing residual around the attention",
        "attention의 결과에 block의 입력 x를 더하지 않습니다: 첫 번째 residual 연결이 빠진 것 같습니다.",
        "Nothing is added to the result of the attention: is the first residual connection missing?",
        {"first_residual": "none"},
        lesson.RESIDUALS,
    ),
    Mistake(
        "missing residual around the feed-forward network",
        "feed_forward의 결과에 h를 더하지 않습니다: 두 번째 residual 연결이 빠진 것 같습니다.",
        "Nothing is added to the result of the feed-forward network: is the second residual connection missing?",
        {"second_residual": "none"},
        lesson.RESIDUALS,
    ),
    Mistake(
        "second residual from the input",
        "feed_forward의 결과에 h가 아니라 block의 처음 입력 x를 더합니다: 두 번째 residual에서 변수를 잘못 쓴 것 같습니다.",
        "The block's input x is added to the result of the feed-forward network: x instead of h in the second residual?",
        {"second_residual": "x"},
        lesson.RESIDUALS,
    ),
    Mistake(
        "one norm used twice",
        "두 번 모두 norm1로 정규화합니다: 두 번째에는 norm2를 써야 하지 않을까요?",
        "Both normalisations are norm1: should the second be norm2?",
        {"same_norm": True},
    ),
    Mistake(
        "feed-forward before attention",
        "feed_forward가 attention보다 먼저 적용됩니다: 두 sub-layer의 순서가 바뀐 것 같습니다.",
        "The feed-forward network comes before the attention: are the two sub-layers exchanged?",
        {"feed_forward_first": True},
    ),
    Mistake(
        "feed-forward of the input",
        "feed_forward에 h가 아니라 block의 처음 입력 x가 들어갑니다: 두 번째 sub-layer에서 변수를 잘못 쓴 것 같습니다.",
        "The feed-forward network gets the block's input x: x instead of h in the second sub-layer?",
        {"second_input": "x"},
    ),
    Mistake(
        "attention left out",
        "attention과 norm1을 바꾸어도 결과가 그대로입니다: 첫 번째 sub-layer의 결과를 쓰지 않은 것 같습니다.",
        "attention and norm1 change nothing: is the result of the first sub-layer not used?",
        {"left_out": "attention"},
    ),
    Mistake(
        "feed-forward network left out",
        "feed_forward와 norm2를 바꾸어도 결과가 그대로입니다: 두 번째 sub-layer의 결과를 쓰지 않은 것 같습니다.",
        "feed_forward and norm2 change nothing: is the result of the second sub-layer not used?",
        {"left_out": "feed_forward"},
    ),
    Mistake(
        "normalised before adding",
        "residual을 더한 값도, sub-layer의 입력도 아니라 sub-layer의 결과만 정규화합니다: x + norm1(attention(x))로 쓴 것 "
        "같습니다.",
        "Only the sub-layer's result is normalised, neither its input nor the sum: written as x + norm1(attention(x))?",
        {"norm": "branch"},
    ),
    Mistake(
        "first norm missing",
        "norm1을 바꾸어도 결과가 그대로입니다: 첫 번째 sub-layer에서 정규화를 빠뜨린 것 같습니다.",
        "norm1 changes nothing: is the normalisation missing in the first sub-layer?",
        {"without_norm": 0},
    ),
    Mistake(
        "second norm missing",
        "norm2를 바꾸어도 결과가 그대로입니다: 두 번째 sub-layer에서 정규화를 빠뜨린 것 같습니다.",
        "norm2 changes nothing: is the normalisation missing in the second sub-layer?",
        {"without_norm": 1},
    ),
    Mistake(
        "nothing normalised",
        "norm1과 norm2를 어디에도 쓰지 않습니다: 정규화하는 단계가 빠진 것 같습니다.",
        "norm1 and norm2 change nothing: is the normalisation missing?",
        {"norm": "none"},
    ),
]

MISTAKES = [
    Mistake(
        "pre and post swapped",
        "residual을 더한 다음이 아니라 sub-layer에 들어가기 전에 정규화합니다: post-norm 대신 pre-norm을 작성한 것 같습니다.",
        "The input of each sub-layer is normalised, not the sum with the residual: pre-norm written instead of post-norm?",
        {"norm": "pre"},
    ),
    *SHARED_MISTAKES,
]

EXERCISE = Exercise("post_norm_block", lesson.PRE_AND_POST, block, cases(), MISTAKES)
