"""FFN(x) = relu(x W_1 + b_1) W_2 + b_2, applied to each token alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from week6.exercises import lesson
from week6.exercises.definition import Exercise, Inputs
from week6.exercises.inputs import generator, numbers
from week6.exercises.verdict import Mistake

ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "none": lambda x: x}


def feed_forward(
    x: Tensor,
    w_1: Tensor,
    b_1: Tensor,
    w_2: Tensor,
    b_2: Tensor,
    *,
    activation: str = "relu",
    before: bool = False,
    after: bool = False,
    first_bias: bool = True,
    second_bias: bool = True,
    residual: bool = False,
) -> Tensor:
    """Right with the defaults; each keyword makes a classic mistake. Before, after: where else a ReLU stands."""
    hidden = (x.relu() if before else x) @ w_1  # (B, T, d_ff)
    if first_bias:
        hidden = hidden + b_1
    output = ACTIVATIONS[activation](hidden) @ w_2  # (B, T, d_model)
    if second_bias:
        output = output + b_2
    if after:
        output = output.relu()
    return x + output if residual else output


def case(b: int, t: int, d_model: int, d_ff: int) -> Inputs:
    g = generator()
    shapes = {"x": (b, t, d_model), "w_1": (d_model, d_ff), "b_1": (d_ff,), "w_2": (d_ff, d_model), "b_2": (d_model,)}
    inputs = {name: numbers(*shape, generator=g) for name, shape in shapes.items()}
    return inputs | {"b_1": inputs["b_1"] + 0.5}  # nothing lands on the kink of the ReLU, whose gradient has no one value


def cases() -> list[list[Inputs]]:
    sizes = [(1, 1, 1, 1), (1, 1, 1, 2), (1, 1, 2, 1), (1, 1, 2, 3), (1, 2, 2, 2), (2, 3, 3, 5), (2, 3, 5, 7)]
    return [[case(*size) for size in sizes]]


def another_activation(name: str, formula: str) -> Mistake:
    return Mistake(
        f"{name} instead of ReLU",
        f"음수인 값이 0이 되지 않습니다: relu(x) = max(0, x)가 아니라 {formula}를 쓴 것 같습니다.",
        f"Negative values do not become 0: {formula} instead of relu(x) = max(0, x)?",
        {"activation": name.lower()},
    )


MISTAKES = [
    Mistake(
        "no activation",
        "두 선형 변환 사이에 아무것도 없어 하나의 선형 변환과 같습니다: ReLU가 빠진 것 같습니다.",
        "Nothing stands between the two linear maps, so they are one: is the ReLU missing?",
        {"activation": "none"},
    ),
    another_activation("GELU", "gelu(x)"),
    another_activation("Tanh", "tanh(x)"),
    another_activation("Sigmoid", "sigmoid(x)"),
    Mistake(
        "ReLU after the second layer",
        "출력에 음수가 없습니다: 두 번째 선형 변환 다음에도 ReLU를 쓴 것 같습니다. ReLU는 두 변환 사이에만 둡니다.",
        "The output has no negative entries: a ReLU behind the second linear map? It belongs between the two only.",
        {"after": True},
    ),
    Mistake(
        "ReLU before the first layer",
        "입력의 음수가 결과에 영향을 주지 않습니다: 첫 번째 선형 변환보다 먼저 x에 ReLU를 쓴 것 같습니다.",
        "Negative entries of the input change nothing: was the ReLU applied to x, before the first linear map?",
        {"before": True},
    ),
    Mistake(
        "first bias missing",
        "b_1을 바꾸어도 결과가 그대로입니다: 첫 번째 선형 변환에서 b_1을 더하지 않은 것 같습니다.",
        "b_1 changes nothing: is it not added after the first product?",
        {"first_bias": False},
    ),
    Mistake(
        "second bias missing",
        "b_2를 바꾸어도 결과가 그대로입니다: 두 번째 선형 변환에서 b_2를 더하지 않은 것 같습니다.",
        "b_2 changes nothing: is it not added after the second product?",
        {"second_bias": False},
    ),
    Mistake(
        "residual inside",
        "결과에 입력 x가 더해져 있습니다: residual은 이 함수가 아니라 block에서 더합니다.",
        "The input x is added to the result: the residual belongs to the block, not to this function.",
        {"residual": True},
        lesson.RESIDUALS,
    ),
]

EXERCISE = Exercise("feed_forward", lesson.FEED_FORWARD, feed_forward, cases(), MISTAKES)
