"""softmax(Q K^T / sqrt(d_k)) V, with a mask."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from week6.exercises import lesson
from week6.exercises.catalogue.softmax import softmax
from week6.exercises.definition import Exercise, Inputs
from week6.exercises.inputs import generator, numbers, tensor
from week6.exercises.verdict import Mistake


def scaled_dot_product_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    *,
    keys: str = "transposed",
    divisor: str = "sqrt(d_k)",
    axis: int = -1,
    inverted: bool = False,
    masking: str = "before the softmax",
    fill: float | None = None,
    blocked_row: str = "zero",
    subtract: str = "row maximum",
    guarded: bool = False,
    order: str = "output, weights",
) -> tuple[Tensor, Tensor]:
    """Right with the defaults; each keyword makes a classic mistake. Fill None: the lowest number there is."""
    _, n_heads, _, d_k = q.shape
    divisors = {
        "sqrt(d_k)": math.sqrt(d_k),
        "1": 1.0,
        "d_k": d_k,
        "sqrt(d_model)": math.sqrt(n_heads * d_k),
        "1/sqrt(d_k)": 1 / math.sqrt(d_k),
    }
    turned = {"transposed": (0, 1, 3, 2), "as they are": (0, 1, 2, 3), ".T": (3, 2, 1, 0), "tokens and heads": (0, 2, 1, 3)}
    scores = q @ k.permute(turned[keys]) / divisors[divisor]  # (B, H, Tq, Tk)
    blocked = torch.zeros_like(scores, dtype=torch.bool)
    if mask is not None:
        blocked = blocked | (mask if inverted else ~mask)
    if masking == "before the softmax":
        # -inf in a whole row is NaN after the softmax; a very low finite number makes the row uniform
        lowest = torch.finfo(scores.dtype).min if fill is None else fill
        scores = scores.masked_fill(blocked, -math.inf if blocked_row == "nan" else lowest)
    elif masking == "scores set to 0":
        scores = scores.masked_fill(blocked, 0.0)
    weights = softmax(scores, axis=axis, subtract=subtract, guarded=guarded)
    if masking == "after the softmax" or (masking == "before the softmax" and blocked_row == "zero"):
        weights = weights.masked_fill(blocked, 0.0)
    elif masking == "after the softmax, -inf":
        weights = weights.masked_fill(blocked, -math.inf)
    elif masking == "after the softmax, renormalised":
        weights = weights.masked_fill(blocked, 0.0)
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-9)
    return (weights @ v, weights) if order == "output, weights" else (weights, weights @ v)


def case(b: int, h: int, tq: int, tk: int, d_k: int, d_v: int, mask: list | None = None) -> Inputs:
    g = generator()
    shapes = {"q": (b, h, tq, d_k), "k": (b, h, tk, d_k), "v": (b, h, tk, d_v)}
    inputs = {name: numbers(*shape, generator=g) for name, shape in shapes.items()}
    return inputs if mask is None else inputs | {"mask": torch.tensor(mask)}


def softer(inputs: Inputs) -> Inputs:
    """With scores so close that every key gets some weight."""
    return inputs | {"q": inputs["q"] / 4}


def cases() -> list[list[Inputs]]:
    """Without a mask, with one, with queries that may attend nowhere, with extreme scores; sizes (B, H, Tq, Tk, d_k, d_v)."""
    causal = torch.ones(5, 5, dtype=torch.bool).tril()
    padding = torch.tensor([[[[True, True, True, False, False]]], [[[True, True, True, True, False]]]])
    large = {"q": [[[[100.0]]]], "k": [[[[100.0], [99.0]]]], "v": [[[[1.0], [2.0]]]]}  # scores 10000 and 9900
    low = {"q": [[[[1000.0]]]], "k": [[[[-900.0], [-900.0]]]], "v": [[[[1.0], [2.0]]]], "mask": [[True, False]]}
    apart = {"q": [[[[1.0]]]], "k": [[[[0.0], [60.0]]]], "v": [[[[1.0], [2.0]]]], "mask": [[True, False]]}
    return [
        [
            case(1, 1, 1, 1, 1, 1),
            case(1, 1, 1, 2, 1, 1),
            case(1, 1, 2, 1, 1, 1),
            case(1, 1, 1, 2, 2, 1),
            case(1, 1, 1, 2, 1, 2),
            case(1, 1, 2, 2, 1, 1),
            case(1, 1, 2, 3, 2, 1),
            case(1, 2, 1, 2, 2, 1),
            case(2, 1, 1, 2, 2, 1),
            case(2, 2, 2, 2, 2, 2),
            case(2, 3, 4, 5, 7, 6),
        ],
        [
            case(1, 1, 1, 2, 1, 1, [[True, True]]),
            case(1, 1, 1, 2, 1, 1, [[True, False]]),
            case(1, 1, 2, 2, 1, 1, [[True, False], [True, True]]),
            case(1, 2, 1, 2, 1, 1, [[[True, False]], [[True, True]]]),
            case(1, 1, 2, 3, 2, 1, [[True, True, False], [False, True, True]]),
            softer(case(2, 3, 5, 5, 7, 4, (causal & padding).tolist())),
            softer(case(2, 3, 4, 5, 7, 6, padding.tolist())),
        ],
        [
            case(1, 1, 1, 2, 1, 1, [[False, False]]),
            case(1, 1, 2, 2, 1, 1, [[True, False], [False, False]]),
        ],
        [{name: tensor(x) for name, x in inputs.items()} for inputs in (large, low, apart)],
    ]


MISTAKES = [
    Mistake(
        "keys not transposed",
        "q @ k를 계산합니다: shape이 우연히 맞으면 엉뚱한 값이 나오고 아니면 오류가 납니다. k.transpose(-2, -1)을 빠뜨린 것 "
        "같습니다.",
        "It computes q @ k, an error unless the shapes fit by chance: is k.transpose(-2, -1) missing?",
        {"keys": "as they are"},
    ),
    Mistake(
        "keys transposed by .T",
        "k.T는 축 네 개의 순서를 모두 뒤집어, shape 오류가 나거나 엉뚱한 key와 비교합니다: k.transpose(-2, -1)이나 k.mT를 "
        "쓰세요.",
        "k.T reverses all four axes, so shapes do not fit or the wrong keys are compared: use k.transpose(-2, -1), or k.mT.",
        {"keys": ".T"},
    ),
    Mistake(
        "wrong axes of the keys transposed",
        "k의 뒤쪽 두 축이 아니라 head 축과 토큰 축을 바꾸었습니다: transpose(1, 2)가 아니라 transpose(-2, -1)을 쓰세요.",
        "Heads and tokens of k are exchanged, not its last two axes: transpose(1, 2) instead of transpose(-2, -1)?",
        {"keys": "tokens and heads"},
    ),
    Mistake(
        "no scaling",
        "score가 sqrt(d_k)배 커서 weight가 한쪽으로 쏠립니다: q k^T를 sqrt(d_k)로 나누는 단계가 빠진 것 같습니다.",
        "The scores are too large by a factor sqrt(d_k), so the weights are too sharp: is the division by sqrt(d_k) missing?",
        {"divisor": "1"},
        lesson.SCALING,
    ),
    Mistake(
        "scaling by d_k",
        "score가 1/sqrt(d_k)배로 줄어서 weight가 지나치게 고르게 퍼집니다: sqrt(d_k)가 아니라 d_k로 나눈 것 같습니다.",
        "The scores are too small by a factor sqrt(d_k), so the weights are too even: divided by d_k instead of sqrt(d_k)?",
        {"divisor": "d_k"},
        lesson.SCALING,
    ),
    Mistake(
        "scaling by sqrt(d_model)",
        "head가 H개이면 score가 1/sqrt(H)배로 작아집니다: sqrt(d_k)가 아니라 sqrt(d_model) = sqrt(H * d_k)로 나눈 것 같습니다.",
        "With H heads the scores are too small by a factor sqrt(H): divided by sqrt(d_model) = sqrt(H * d_k), not sqrt(d_k)?",
        {"divisor": "sqrt(d_model)"},
        lesson.SCALING,
    ),
    Mistake(
        "multiplied by sqrt(d_k)",
        "score가 d_k배 커서 weight가 한쪽으로 쏠립니다: sqrt(d_k)로 나누지 않고 곱한 것 같습니다.",
        "The scores are too large by a factor d_k, so the weights are too sharp: multiplied by sqrt(d_k) instead of divided?",
        {"divisor": "1/sqrt(d_k)"},
        lesson.SCALING,
    ),
    *(
        Mistake(
            f"wrong softmax axis ({english})",
            f"weight의 합이 key 방향이 아니라 {korean} 방향으로 1입니다: softmax의 축(dim={axis})을 잘못 고른 것 같습니다.",
            f"The weights sum to 1 along the {english}, not the keys: softmax over the wrong axis, dim={axis} and not -1?",
            {"axis": axis},
        )
        for axis, korean, english in ((-2, "query", "queries"), (1, "head", "heads"), (0, "batch", "batch"))
    ),
    Mistake(
        "inverted mask",
        "mask가 True인 key는 가려지고 False인 key가 보입니다: mask를 반대로 해석하지 않았나요? (True = 볼 수 있음)",
        "Keys with mask True are hidden and those with False are seen: mask read the wrong way round (True = may attend)?",
        {"inverted": True},
        lesson.MASKS,
    ),
    Mistake(
        "mask applied after the softmax",
        "mask를 쓰면 각 행의 weight 합이 1보다 작아집니다: softmax를 취한 뒤에 mask를 적용한 것 같습니다.",
        "With a mask the rows of the weights sum to less than 1: was the mask applied after the softmax instead of before?",
        {"masking": "after the softmax"},
        lesson.MASKS,
    ),
    Mistake(
        "masked keys take part in the softmax",
        "가려진 key의 score가 훨씬 크면, 보이는 key의 weight까지 모두 0이 됩니다: score를 -20처럼 조금만 낮추었거나, "
        "softmax를 취한 뒤에 mask를 적용하고 합으로 다시 나눈 것 같습니다.",
        "Where masked keys have far higher scores, all weights become 0: are their scores lowered too little, by 20, say, or "
        "masked only after the softmax, and the rest divided by its sum?",
        {"masking": "after the softmax, renormalised"},
        lesson.MASKS,
    ),
    Mistake(
        "-inf filled in after the softmax",
        "가려진 key의 weight가 0이 아니라 -inf입니다: softmax를 취한 뒤에 -inf를 채운 것 같습니다.",
        "Masked keys have the weight -inf instead of 0: was -inf filled in after the softmax instead of before?",
        {"masking": "after the softmax, -inf"},
        lesson.MASKS,
    ),
    Mistake(
        "masked scores set to 0",
        "가려진 key도 weight를 받습니다: 가려야 할 score를 -inf가 아니라 0으로 만든 것 같습니다. (exp(0)은 0이 아니라 1)",
        "Masked keys still get weight: were their scores set to 0 instead of -inf (exp(0) is 1, not 0)?",
        {"masking": "scores set to 0"},
        lesson.MASKS,
    ),
    Mistake(
        "masked scores not low enough",
        "score가 아주 작으면 가려진 key가 보입니다: -inf나 -1e9가 아니라 -100이나 -10000처럼 충분히 작지 않은 값을 채운 것 "
        "같습니다.",
        "Where all scores are very low, masked keys are seen: filled with -100 or -10000, say, instead of -inf or -1e9?",
        {"fill": -100.0},
        lesson.MASKS,
    ),
    Mistake(
        "mask ignored",
        "mask를 주어도 결과가 달라지지 않습니다: mask를 적용하지 않았거나 masked_fill의 결과를 받지 않은 것 같습니다.",
        "The mask changes nothing: is it not applied, or is the result of masked_fill not kept?",
        {"masking": "none"},
        lesson.MASKS,
    ),
    Mistake(
        "NaN on a fully masked row",
        "모든 key가 가려진 query의 결과가 NaN입니다: -inf뿐인 행의 softmax는 0/0이므로 0으로 따로 처리해야 하지 않을까요?",
        "A query whose keys are all masked gets NaN: the softmax of nothing but -inf is 0/0, and such a row is not set to 0?",
        {"blocked_row": "nan"},
        lesson.MASKS,
    ),
    Mistake(
        "uniform weights on a fully masked row",
        "모든 key가 가려진 query가 모든 key를 고르게 봅니다: -1e9 같은 값을 채운 뒤 그 weight를 0으로 만들지 않은 것 같습니다.",
        "A query whose keys are all masked sees all of them equally: filled with -1e9 or so, and its weights not set to 0?",
        {"blocked_row": "uniform"},
        lesson.MASKS,
    ),
    Mistake(
        "overflow without max subtraction",
        "score가 10000쯤 되면 NaN이 나옵니다: softmax에서 exp를 취하기 전에 각 행의 최댓값을 빼지 않은 것 같습니다.",
        "Scores near 10000 give NaN: is the maximum of each row not subtracted before exp in the softmax?",
        {"subtract": "nothing"},
    ),
    Mistake(
        "overflow, and 0/0 avoided",
        "score가 10000쯤 되면 NaN이 나오고 아주 작으면 weight가 모두 0이 됩니다: exp를 취하기 전에 각 행의 최댓값을 빼지 "
        "않은 것 같습니다.",
        "Scores near 10000 give NaN, and very low ones only weights 0: is the maximum of each row not subtracted before exp?",
        {"subtract": "nothing", "guarded": True},
    ),
    Mistake(
        "output and weights exchanged",
        "두 반환값의 순서가 바뀌어 있습니다: (output, weights)가 아니라 (weights, output)을 반환하지 않았나요?",
        "The two results stand in each other's place: is (weights, output) returned instead of (output, weights)?",
        {"order": "weights, output"},
    ),
]

EXERCISE = Exercise(
    "scaled_dot_product_attention",
    lesson.FOUR_STEPS,
    scaled_dot_product_attention,
    cases(),
    MISTAKES,
    parts=("output", "weights"),
)
