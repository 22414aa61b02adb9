"""True for the real tokens of each sequence, False for the padding behind them."""

from __future__ import annotations

import torch
from torch import Tensor

from week6.exercises import lesson
from week6.exercises.definition import Exercise, Inputs
from week6.exercises.verdict import Mistake


def padding_mask(
    lengths: Tensor, n: int, *, shift: int = 0, inverted: bool = False, front: bool = False, masked: str = "keys"
) -> Tensor:
    """Right with the defaults; each keyword makes a classic mistake. `masked` says which axes the mask has."""
    positions = torch.arange(n)
    ends = lengths[:, None] + shift
    real = positions >= n - ends if front else positions < ends  # (B, n)
    if inverted:
        real = ~real
    if masked == "rows and columns":
        return real[:, None, :, None] & real[:, None, None, :]
    return {
        "keys": real[:, None, None, :],
        "queries": real[:, None, :, None],
        "every query": real[:, None, None, :].expand(-1, 1, n, -1),
        "(B, n)": real,
        "(B, 1, n)": real[:, None, :],
    }[masked]


def cases() -> list[list[Inputs]]:
    """Real sequences, then one that is nothing but padding."""
    usual = [([1], 1), ([1], 2), ([2], 3), ([1, 2], 2), ([3, 1], 4), ([3, 5, 2], 5), ([4, 7], 7)]
    empty = [([0], 1), ([0, 2, 3], 3)]
    return [[{"lengths": torch.tensor(lengths), "n": n} for lengths, n in lists] for lists in (usual, empty)]


MISTAKES = [
    Mistake(
        "queries masked instead of keys",
        "padding인 key의 열이 아니라 query의 행을 가립니다: 그러면 padding 토큰은 여전히 보이고, 가려진 행은 모든 key를 "
        "잃어 NaN이 됩니다. (-10000을 채우면 드러나지 않을 뿐입니다.) 마지막 축이 key입니다.",
        "The rows of padding queries are masked, not the columns of padding keys: padding is still seen, and a masked row "
        "has no key left and becomes NaN (filling with -10000 only hides it). Keys are the last axis.",
        {"masked": "queries"},
    ),
    Mistake(
        "queries and keys masked",
        "padding인 key의 열뿐 아니라 query의 행도 가립니다: 가려진 행은 볼 수 있는 key가 없으니 shape (B, 1, 1, n)으로 열만 "
        "가리세요.",
        "Rows of padding queries are masked as well as columns of padding keys, and these rows have no key left: mask the "
        "columns only, in the shape (B, 1, 1, n).",
        {"masked": "rows and columns"},
    ),
    Mistake(
        "repeated for every query",
        "값은 맞지만 같은 mask를 query마다 되풀이했습니다: (B, 1, 1, n)이면 broadcasting이 알아서 되풀이합니다.",
        "The values are right, but repeated for every query: the shape (B, 1, 1, n) leaves that to broadcasting.",
        {"masked": "every query"},
    ),
    Mistake(
        "axes for heads and queries missing",
        "(B, n)을 반환합니다: (B, H, Tq, Tk)에 맞게 broadcast되도록 head와 query를 위한 축을 [:, None, None, :]으로 넣으세요.",
        "It returns (B, n): to broadcast to (B, H, Tq, Tk) it needs axes for heads and queries, [:, None, None, :].",
        {"masked": "(B, n)"},
    ),
    Mistake(
        "axis for the heads missing",
        "(B, 1, n)을 반환합니다: (B, H, Tq, Tk)와 함께 쓰면 B가 head 축에 맞추어지니 축을 하나 더 넣어 (B, 1, 1, n)으로 "
        "만드세요.",
        "It returns (B, 1, n): beside (B, H, Tq, Tk) its B would stand for the heads, so it needs one axis more, (B, 1, 1, n).",
        {"masked": "(B, 1, n)"},
    ),
    Mistake(
        "inverted mask",
        "padding이 보이고 진짜 토큰이 가려집니다: True와 False를 반대로 쓰지 않았나요? (True = 볼 수 있음)",
        "The padding is visible and the real tokens are hidden: True and False the wrong way round (True = may attend)?",
        {"inverted": True},
    ),
    Mistake(
        "one padding token seen",
        "padding의 첫 토큰까지 보입니다: `<` 대신 `<=`를 쓰지 않았나요? (위치는 0부터 셉니다)",
        "The first token of the padding is visible: `<=` instead of `<`, where positions count from 0?",
        {"shift": 1},
    ),
    Mistake(
        "last token hidden",
        "진짜 토큰 가운데 마지막 것이 가려집니다: 길이에서 1을 빼지 않았나요? (위치는 0부터 셉니다)",
        "The last real token is hidden: was 1 subtracted from the lengths, where positions count from 0?",
        {"shift": -1},
    ),
    Mistake(
        "padding in front",
        "문장의 끝이 아니라 처음을 padding으로 취급합니다: 진짜 토큰은 위치 0 .. length - 1에 있습니다.",
        "The padding is taken to stand in front: the real tokens are the positions 0 .. length - 1.",
        {"front": True},
    ),
]

EXERCISE = Exercise("padding_mask", lesson.MASKS, padding_mask, cases(), MISTAKES)
