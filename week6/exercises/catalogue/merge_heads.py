"""(B, H, T, d_head) -> (B, T, H * d_head): the inverse of `split_heads`."""

from __future__ import annotations

from torch import Tensor

from week6.exercises import lesson
from week6.exercises.definition import Exercise, Inputs
from week6.exercises.inputs import counting
from week6.exercises.verdict import Mistake


def merge_heads(x: Tensor, *, how: str = "side by side") -> Tensor:
    n_sequences, n_heads, n_tokens, d_head = x.shape
    if how == "reshape only":
        return x.reshape(n_sequences, n_tokens, n_heads * d_head)
    if how == "interleaved":
        return x.permute(0, 2, 3, 1).flatten(-2)
    return x.transpose(1, 2).flatten(-2)  # (B, T, H * d_head)


def cases() -> list[list[Inputs]]:
    sizes = [(1, 1, 1, 1), (1, 2, 1, 1), (1, 1, 2, 1), (1, 2, 2, 1), (1, 2, 1, 2), (1, 2, 2, 2), (2, 2, 3, 5), (2, 3, 5, 4)]
    return [[{"x": counting(*size)} for size in sizes]]


MISTAKES = [
    Mistake(
        "heads merged without the transpose",
        "한 토큰의 결과에 다른 토큰의 값이 섞입니다: 합치기 전에 transpose(1, 2)를 빠뜨리지 않았나요?",
        "A token's row holds values of other tokens: is transpose(1, 2) missing before the heads are merged?",
        {"how": "reshape only"},
    ),
    Mistake(
        "heads interleaved",
        "head들이 차례로 이어지지 않고 번갈아 놓입니다: (B, T, H, d_head)가 아니라 (B, T, d_head, H)에서 합친 것 같습니다.",
        "The heads alternate instead of standing side by side: merged from (B, T, d_head, H) instead of (B, T, H, d_head)?",
        {"how": "interleaved"},
    ),
]

EXERCISE = Exercise("merge_heads", lesson.SEVERAL_HEADS, merge_heads, cases(), MISTAKES)
