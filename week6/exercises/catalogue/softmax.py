"""softmax(x)_j = exp(x_j) / sum_k exp(x_k), over the last axis."""

from __future__ import annotations

from torch import Tensor

from week6.exercises import lesson
from week6.exercises.definition import Exercise, Inputs
from week6.exercises.inputs import generator, numbers, tensor
from week6.exercises.verdict import Mistake


def softmax(
    x: Tensor,
    *,
    axis: int | None = -1,
    subtract: str = "row maximum",
    maximum_keepdim: bool = True,
    divide: bool = True,
    keepdim: bool = True,
    guarded: bool = False,
) -> Tensor:
    """Right with the defaults; each keyword makes a classic mistake.

    Axis None: over all entries. Guarded: a sum of 0 divides by 1 instead, as an epsilon in the denominator does.
    """
    axes = tuple(range(x.dim())) if axis is None else axis
    subtracted = {
        "row maximum": lambda: x.amax(axes, keepdim=maximum_keepdim),
        "row minimum": lambda: x.amin(axes, keepdim=maximum_keepdim),
        "row mean": lambda: x.mean(axes, keepdim=maximum_keepdim),
        "global maximum": x.max,
        "nothing": lambda: 0.0,
    }
    exp = (x - subtracted[subtract]()).exp()
    total = exp.sum(axes, keepdim=keepdim)
    if guarded:
        total = total.masked_fill(total == 0, 1.0)
    return exp / total if divide else exp


def cases() -> list[list[Inputs]]:
    """Small numbers, then numbers whose exp is infinite or 0."""
    g = generator()
    shapes = [(1, 2), (1, 3), (2, 2), (2, 3), (1, 2, 3), (2, 2, 2), (2, 3, 2), (2, 3, 5), (2, 3, 2, 3), (3, 2, 5, 7)]
    extreme = [
        *([[1000.0, 1000.0]], [[1000.0, 998.0]], [[-1000.0, -1000.0]], [[1000.0, -1000.0]]),
        *([[0.0, 150.0]], [[-150.0, 0.0]], [[0.0, 1.0], [-1000.0, -1001.0]]),
    ]
    return [[{"x": numbers(*shape, generator=g)} for shape in shapes], [{"x": tensor(x)} for x in extreme]]


MISTAKES = [
    *(
        Mistake(
            f"wrong softmax axis (dim={axis})",
            f"합이 1이 되는 축이 마지막 축이 아니라 dim={axis}입니다: softmax를 계산하는 축을 잘못 고르지 않았나요?",
            f"The entries sum to 1 along dim={axis} and not along the last axis: softmax over the wrong axis?",
            {"axis": axis},
        )
        for axis in (-2, 0, 1)
    ),
    Mistake(
        "overflow without max subtraction",
        "값이 1000이나 -1000이면 NaN이 나옵니다: exp를 취하기 전에 각 행의 최댓값을 빼지 않아 inf/inf나 0/0이 된 것 같습니다.",
        "Entries of 1000 or -1000 give NaN: inf/inf or 0/0, because the maximum of each row is not subtracted before exp?",
        {"subtract": "nothing"},
    ),
    Mistake(
        "overflow, and 0/0 avoided",
        "값이 -1000이면 모두 0이 되고 1000이면 NaN이 나옵니다: 분모에 작은 수를 더해도 소용없으니 각 행의 최댓값을 먼저 "
        "빼세요.",
        "Entries of -1000 give 0, and of 1000 NaN: an epsilon in the denominator is no cure, the maximum must be subtracted.",
        {"subtract": "nothing", "guarded": True},
    ),
    Mistake(
        "maximum of the whole tensor",
        "다른 행보다 값이 훨씬 작은 행이 NaN이 됩니다: 각 행의 최댓값이 아니라 텐서 전체의 최댓값을 뺀 것 같습니다.",
        "A row far below the others becomes NaN: was the maximum of the whole tensor subtracted, not that of each row?",
        {"subtract": "global maximum"},
    ),
    Mistake(
        "minimum subtracted",
        "한 행에 1000과 -1000이 함께 있으면 NaN이 나옵니다: 각 행의 최댓값이 아니라 최솟값을 뺀 것 같습니다.",
        "A row that holds both 1000 and -1000 gives NaN: was the minimum of each row subtracted instead of the maximum?",
        {"subtract": "row minimum"},
    ),
    Mistake(
        "mean subtracted",
        "한 행에 1000과 -1000이 함께 있으면 NaN이 나옵니다: 각 행의 최댓값이 아니라 평균을 뺀 것 같습니다.",
        "A row that holds both 1000 and -1000 gives NaN: was the mean of each row subtracted instead of the maximum?",
        {"subtract": "row mean"},
    ),
    Mistake(
        "not normalised",
        "각 행의 합이 1이 아닙니다: exp 값을 그 합으로 나누는 단계가 빠진 것 같습니다.",
        "The rows do not sum to 1: is the division by the sum of the exponentials missing?",
        {"divide": False},
    ),
    Mistake(
        "sum without keepdim",
        "정사각 행렬은 엉뚱한 행의 합으로 나누고 다른 shape에서는 오류가 납니다: sum에 keepdim=True가 빠진 것 같습니다.",
        "A square matrix is divided by the sums of the wrong rows, other shapes give an error: is keepdim=True missing in sum?",
        {"keepdim": False},
    ),
    Mistake(
        "maximum without keepdim",
        "정사각 행렬에서는 엉뚱한 행의 최댓값을 빼고 다른 shape에서는 오류가 납니다: max에 keepdim=True가 빠진 것 같습니다.",
        "A square matrix loses the maxima of the wrong rows, other shapes give an error: is keepdim=True missing in max?",
        {"maximum_keepdim": False},
    ),
    Mistake(
        "softmax over all entries",
        "각 행이 아니라 텐서 전체의 합이 1입니다: 합을 구할 때 dim=-1을 빠뜨리지 않았나요?",
        "The whole tensor sums to 1, not each row: is dim=-1 missing in the sum?",
        {"axis": None},
    ),
]

EXERCISE = Exercise(
    "softmax",
    lesson.FOUR_STEPS,
    softmax,
    cases(),
    MISTAKES,
    forbidden=("softmax", "log_softmax", "softmin", "gumbel_softmax"),
)
