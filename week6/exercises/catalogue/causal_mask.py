"""Position t may attend to the positions 0..t."""

from __future__ import annotations

import torch
from torch import Tensor

from week6.exercises import lesson
from week6.exercises.definition import Exercise, Inputs
from week6.exercises.verdict import Mistake


def causal_mask(n: int, *, allowed: str = "0..t") -> Tensor:
    ones = torch.ones(n, n, dtype=torch.bool)
    return {
        "0..t": ones.tril(),
        "0..t-1": ones.tril(-1),
        "0..t+1": ones.tril(1),
        "t..n-1": ones.triu(),
        "t+1..n-1": ones.triu(1),
    }[allowed]


def cases() -> list[list[Inputs]]:
    return [[{"n": n} for n in (1, 2, 3, 5, 67)]]


MISTAKES = [
    Mistake(
        "causal mask without the diagonal",
        "어떤 위치도 자기 자신을 볼 수 없습니다: 대각선이 빠졌는데 tril(diagonal=-1)이나 `<=` 대신 `<`를 쓰지 않았나요?",
        "No position may attend to itself: the diagonal is missing, from tril(diagonal=-1) or `<` instead of `<=`?",
        {"allowed": "0..t-1"},
    ),
    Mistake(
        "causal mask one step ahead",
        "각 위치가 바로 다음 위치, 즉 예측할 정답을 봅니다: mask가 한 칸 밀려 있는데 tril(diagonal=1)을 쓰지 않았나요?",
        "Each position may see the next one, which it is to predict: shifted by one, as by tril(diagonal=1)?",
        {"allowed": "0..t+1"},
    ),
    Mistake(
        "inverted mask",
        "과거가 가려지고 미래만 보입니다: True와 False를 반대로 쓰지 않았나요? (True = 볼 수 있음)",
        "The past is hidden and only the future visible: True and False the wrong way round (True = may attend)?",
        {"allowed": "t+1..n-1"},
    ),
    Mistake(
        "transposed causal mask",
        "각 위치가 자기 자신과 미래를 봅니다: tril 대신 triu를 썼거나 행(query)과 열(key)이 뒤바뀐 것 같습니다.",
        "Each position sees itself and the future: triu instead of tril, or rows (queries) and columns (keys) exchanged?",
        {"allowed": "t..n-1"},
    ),
]

EXERCISE = Exercise("causal_mask", lesson.MASKS, causal_mask, cases(), MISTAKES)
