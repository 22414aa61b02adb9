"""h = x + attention(norm1(x)), output = h + feed_forward(norm2(h)). Its model is that of `post_norm_block`."""

from __future__ import annotations

from functools import partial

from week6.exercises import lesson
from week6.exercises.catalogue.post_norm_block import SHARED_MISTAKES, block, cases
from week6.exercises.definition import Exercise
from week6.exercises.verdict import Mistake

MISTAKES = [
    Mistake(
        "pre and post swapped",
        "sub-layer에 들어가기 전이 아니라 residual을 더한 다음에 정규화합니다: pre-norm 대신 post-norm을 작성한 것 같습니다.",
        "The sum with the residual is normalised, not the input of each sub-layer: post-norm written instead of pre-norm?",
        {"norm": "post"},
    ),
    *SHARED_MISTAKES,
    Mistake(
        "residual from the normalised input",
        "residual로 원래 값이 아니라 정규화한 값을 더합니다: `x = norm1(x)`처럼 변수를 덮어쓰지 않았나요?",
        "The normalised value instead of the original one is added as the residual: overwritten, as by `x = norm1(x)`?",
        {"first_residual": "normed", "second_residual": "normed"},
        lesson.RESIDUALS,
    ),
]

EXERCISE = Exercise("pre_norm_block", lesson.PRE_AND_POST, partial(block, norm="pre"), cases(), MISTAKES)
