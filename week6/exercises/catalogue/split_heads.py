"""(B, T, d_model) -> (B, H, T, d_head): head h gets the h-th slice of the features."""

from __future__ import annotations

from torch import Tensor

from week6.exercises import lesson
from week6.exercises.definition import Exercise, Inputs
from week6.exercises.inputs import counting
from week6.exercises.verdict import Mistake


def split_heads(x: Tensor, n_heads: int, *, how: str = "slices") -> Tensor:
    n_sequences, n_tokens, d_model = x.shape
    d_head = d_model // n_heads
    if how == "no transpose":
        return x.reshape(n_sequences, n_tokens, n_heads, d_head)
    if how == "reshape only":
        return x.reshape(n_sequences, n_heads, n_tokens, d_head)
    if how == "sizes exchanged":
        return x.reshape(n_sequences, n_tokens, d_head, n_heads).transpose(1, 2)
    if how == "every n_heads-th feature":
        return x.reshape(n_sequences, n_tokens, d_head, n_heads).permute(0, 3, 1, 2)
    return x.reshape(n_sequences, n_tokens, n_heads, d_head).transpose(1, 2)  # (B, H, T, d_head)


def cases() -> list[list[Inputs]]:
    sizes = [(1, 1, 1, 1), (1, 1, 2, 2), (1, 2, 2, 2), (1, 1, 4, 2), (1, 2, 4, 2), (2, 2, 2, 1), (2, 3, 10, 2), (2, 5, 12, 3)]
    return [[{"x": counting(b, t, d_model), "n_heads": n_heads} for b, t, d_model, n_heads in sizes]]


MISTAKES = [
    Mistake(
        "heads split without the transpose",
        "한 head 안에 여러 토큰의 값이 섞입니다: (B, T, H, d_head)로 나눈 뒤의 transpose(1, 2)가 빠진 것 같습니다.",
        "A head mixes several tokens: reshaped at once to (B, H, T, d_head), without (B, T, H, d_head) and transpose(1, 2)?",
        {"how": "reshape only"},
    ),
    Mistake(
        "transpose forgotten",
        "결과의 shape이 (B, H, T, d_head)가 아니라 (B, T, H, d_head)입니다: 마지막 단계인 transpose(1, 2)가 빠진 것 같습니다.",
        "The result is (B, T, H, d_head) instead of (B, H, T, d_head): is the last step, transpose(1, 2), missing?",
        {"how": "no transpose"},
    ),
    Mistake(
        "every H-th feature",
        "각 head가 H칸씩 건너뛴 feature를 받습니다: (B, T, H, d_head)가 아니라 (B, T, d_head, H)로 나눈 것 같습니다.",
        "Each head gets every H-th feature, not a slice: cut into (B, T, d_head, H) instead of (B, T, H, d_head)?",
        {"how": "every n_heads-th feature"},
    ),
    Mistake(
        "number and width of the heads exchanged",
        "head가 n_heads개가 아니라 d_head개 나옵니다: view에서 n_heads와 d_head의 자리가 바뀐 것 같습니다.",
        "There are d_head heads instead of n_heads: do n_heads and d_head stand in each other's place in the view?",
        {"how": "sizes exchanged"},
    ),
]

EXERCISE = Exercise("split_heads", lesson.SEVERAL_HEADS, split_heads, cases(), MISTAKES)
