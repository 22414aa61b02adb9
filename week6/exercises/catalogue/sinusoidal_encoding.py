"""PE[pos, 2i] = sin(pos / 10000^(2i/d_model)), PE[pos, 2i+1] the cosine of the same."""

from __future__ import annotations

import torch
from torch import Tensor

from week6.exercises import lesson
from week6.exercises.definition import Exercise, Inputs
from week6.exercises.verdict import Mistake


def sinusoidal_encoding(
    n_positions: int, d_model: int, *, exponent: str = "2i", first: int = 0, layout: str = "sin, cos"
) -> Tensor:
    i = torch.arange(d_model // 2, dtype=torch.float64)
    of_sin, of_cos = {"2i": (2 * i, 2 * i), "4i": (4 * i, 4 * i), "i": (i, i), "column": (2 * i, 2 * i + 1)}[exponent]
    positions = first + torch.arange(n_positions, dtype=torch.float64)[:, None]  # (n_positions, 1)
    sin = (positions / 10_000 ** (of_sin / d_model)).sin().float()  # (n_positions, d_model / 2)
    cos = (positions / 10_000 ** (of_cos / d_model)).cos().float()
    if layout == "halves":
        return torch.cat([sin, cos], dim=-1)
    pair = (cos, sin) if layout == "cos, sin" else (sin, cos)
    return torch.stack(pair, dim=-1).flatten(-2)  # (n_positions, d_model)


def cases() -> list[list[Inputs]]:
    """Small tables, then long ones, whose angles float32 still holds exactly enough."""
    small, long = [(1, 2), (2, 2), (1, 4), (2, 4), (2, 6), (5, 10), (7, 8)], [(70, 4), (130, 6), (5003, 2)]
    return [[{"n_positions": n, "d_model": d_model} for n, d_model in sizes] for sizes in (small, long)]


MISTAKES = [
    Mistake(
        "sine and cosine swapped",
        "위치 0의 값이 0, 1, 0, 1, ...이 아니라 1, 0, 1, 0, ...입니다: sin과 cos의 자리가 바뀐 것 같습니다. (짝수 열이 sin)",
        "Position 0 reads 1, 0, 1, 0, ... instead of 0, 1, 0, 1, ...: sine and cosine swapped (even columns are sines)?",
        {"layout": "cos, sin"},
    ),
    Mistake(
        "sines and cosines in two halves",
        "앞쪽 절반의 열이 모두 sin이고 뒤쪽 절반이 모두 cos입니다: 번갈아 놓지 않고 cat으로 이어 붙인 것 같습니다.",
        "The first half of the columns are sines and the second half cosines: joined by cat instead of alternating?",
        {"layout": "halves"},
    ),
    Mistake(
        "exponent counted twice",
        "번호가 큰 열로 갈수록 주파수가 너무 빨리 줄어듭니다: 지수가 4i/d_model인데 "
        "arange(0, d_model, 2)에 2를 또 곱하지 않았나요?",
        "The frequencies fall too fast from column to column: the exponent is 4i/d_model, from 2 * arange(0, d_model, 2)?",
        {"exponent": "4i"},
    ),
    Mistake(
        "factor 2 missing in the exponent",
        "번호가 큰 열로 갈수록 주파수가 너무 천천히 줄어듭니다: 지수 2i/d_model에서 2가 빠진 것 같습니다.",
        "The frequencies fall too slowly from column to column: is the 2 of the exponent 2i/d_model missing?",
        {"exponent": "i"},
    ),
    Mistake(
        "a frequency for each column",
        "cos 열의 주파수가 짝인 sin 열의 주파수와 다릅니다: cos의 지수에 2i가 아니라 열 번호 2i+1을 쓴 것 같습니다.",
        "Each cosine has another frequency than its sine: the column number 2i+1 in the exponent instead of 2i?",
        {"exponent": "column"},
    ),
    Mistake(
        "positions from 1",
        "첫 행이 위치 0이 아니라 위치 1의 값입니다: 위치를 1부터 센 것 같습니다.",
        "The first row is that of position 1, not 0: are the positions counted from 1?",
        {"first": 1},
    ),
]

EXERCISE = Exercise("sinusoidal_encoding", lesson.SINES, sinusoidal_encoding, cases(), MISTAKES)
