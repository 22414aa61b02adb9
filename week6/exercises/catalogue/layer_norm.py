"""gamma * (x - mean) / sqrt(var + eps) + beta, over the features of each token."""

from __future__ import annotations

import torch
from torch import Tensor

from week6.exercises import lesson
from week6.exercises.definition import Exercise, Inputs
from week6.exercises.inputs import generator, numbers, tensor
from week6.exercises.verdict import Mistake


def layer_norm(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    eps: float = 1e-5,
    *,
    axes: tuple[int, ...] = (-1,),
    unbiased: bool = False,
    epsilon: str = "in the root",
    centre: bool = True,
    root: bool = True,
    affine: str = "gamma, beta",
    keepdim: bool = True,
) -> Tensor:
    mean = x.mean(axes, keepdim=keepdim)
    var = x.var(axes, unbiased=unbiased, keepdim=keepdim)
    added = {"in the root": eps, "fixed": 1e-5, "after the root": 0.0, "missing": 0.0}[epsilon]
    scale = (var + added).sqrt() if root else var + added
    if epsilon == "after the root":
        scale = scale + eps
    normed = (x - mean if centre else x) / scale
    if affine == "none":
        return normed
    return beta * normed + gamma if affine == "beta, gamma" else gamma * normed + beta


def cases() -> list[list[Inputs]]:
    """The usual eps, then what depends on it."""
    g = generator()

    def case(x: Tensor, **eps: float) -> Inputs:
        gamma = torch.arange(2, 2 + x.shape[-1]).float()
        return {"x": x, "gamma": gamma, "beta": gamma.flip(0) - 3, **eps}

    plain = {"x": tensor([[[1.0, 3.0]]]), "gamma": tensor([1.0, 1.0]), "beta": tensor([0.0, 0.0])}
    shapes = [(1, 1, 2), (1, 1, 3), (1, 2, 2), (1, 2, 3), (2, 2, 2), (2, 3, 5)]
    usual = [plain, *(case(numbers(*shape, generator=g)) for shape in shapes)]
    of_epsilon = [
        plain | {"eps": 3.0},
        case(tensor([[[1.0, 5.0], [2.0, 4.0]], [[3.0, 1.0], [7.0, 2.0]]]), eps=0.5),
        case(tensor([[[2.0, 2.0]]])),
        case(0.01 * numbers(2, 3, 4, generator=g)),
    ]
    return [usual, of_epsilon]


MISTAKES = [
    Mistake(
        "unbiased variance",
        "정규화한 값이 sqrt((d-1)/d)배로 작아집니다: 분산을 d-1로 나눈 것 같은데 unbiased=False가 빠지지 않았나요?",
        "The normalised values are too small by sqrt((d-1)/d): variance divided by d - 1, so is unbiased=False missing?",
        {"unbiased": True},
    ),
    Mistake(
        "missing epsilon",
        "feature가 모두 같은 토큰에서 NaN이 나옵니다: 분산이 0일 때를 위해 sqrt 안에 더하는 eps가 빠진 것 같습니다.",
        "A token whose features are all equal gives NaN: is eps, which prevents the division by 0, missing in the root?",
        {"epsilon": "missing"},
    ),
    Mistake(
        "epsilon outside the root",
        "eps가 크면 결과가 어긋납니다: sqrt(var + eps)가 아니라 sqrt(var) + eps로 나눈 것 같습니다.",
        "The result is off when eps is large: divided by sqrt(var) + eps instead of sqrt(var + eps)?",
        {"epsilon": "after the root"},
    ),
    Mistake(
        "epsilon fixed",
        "eps를 바꾸어도 결과가 그대로입니다: 인자 eps를 쓰지 않고 1e-5를 코드에 직접 써 넣은 것 같습니다.",
        "Another eps changes nothing: is 1e-5 written into the code instead of the argument eps?",
        {"epsilon": "fixed"},
    ),
    Mistake(
        "normalised over the tokens",
        "평균이 0이 되는 방향이 feature 축이 아니라 토큰 축입니다: 평균과 분산을 dim=-1이 아니라 dim=1로 구한 것 같습니다.",
        "The mean is 0 over the tokens, not over the features: mean and variance over dim=1 instead of dim=-1?",
        {"axes": (1,)},
    ),
    Mistake(
        "normalised over the batch",
        "결과가 batch 안의 다른 문장에 따라 달라집니다: batch norm처럼 dim=0으로 평균과 분산을 구한 것 같습니다.",
        "The result depends on the other sequences of the batch: mean and variance over dim=0, as in batch norm?",
        {"axes": (0,)},
    ),
    Mistake(
        "normalised over tokens and features",
        "토큰마다가 아니라 문장 하나를 통째로 정규화합니다: 평균과 분산을 구하는 축이 dim=(1, 2)인 것 같습니다.",
        "A whole sequence is normalised at once, not each token: mean and variance over dim=(1, 2)?",
        {"axes": (1, 2)},
    ),
    Mistake(
        "normalised over everything",
        "토큰마다가 아니라 텐서 전체를 통째로 정규화합니다: mean과 var에 dim=-1을 빠뜨린 것 같습니다.",
        "The whole tensor is normalised at once, not each token: is dim=-1 missing in mean and var?",
        {"axes": (0, 1, 2)},
    ),
    Mistake(
        "mean not subtracted",
        "정규화한 뒤에도 평균이 0이 아닙니다: x에서 평균을 빼는 단계가 빠진 것 같습니다.",
        "The mean is not 0 after normalising: is the subtraction of the mean missing?",
        {"centre": False},
    ),
    Mistake(
        "variance without the root",
        "정규화한 뒤의 분산이 1이 아닙니다: 표준편차가 아니라 분산으로 나누었으니 sqrt가 빠진 것 같습니다.",
        "The variance is not 1 after normalising: divided by the variance, with the square root missing?",
        {"root": False},
    ),
    Mistake(
        "gamma and beta missing",
        "gamma와 beta를 바꾸어도 결과가 그대로입니다: gamma를 곱하고 beta를 더하는 마지막 단계가 빠진 것 같습니다.",
        "gamma and beta change nothing: is the last step missing, gamma times the result plus beta?",
        {"affine": "none"},
    ),
    Mistake(
        "gamma and beta exchanged",
        "beta를 곱하고 gamma를 더합니다: gamma와 beta의 역할이 서로 바뀐 것 같습니다.",
        "beta multiplies and gamma is added: are the two exchanged?",
        {"affine": "beta, gamma"},
    ),
    Mistake(
        "mean and variance without keepdim",
        "다른 토큰의 평균과 분산을 쓰거나 shape 오류가 납니다: mean과 var에 keepdim=True가 빠진 것 같습니다.",
        "Means and variances meet the wrong tokens, or the shapes do not fit: is keepdim=True missing in mean and var?",
        {"keepdim": False},
    ),
]

EXERCISE = Exercise(
    "layer_norm",
    lesson.LAYER_NORM,
    layer_norm,
    cases(),
    MISTAKES,
    forbidden=("layer_norm", "native_layer_norm", "group_norm", "instance_norm", "batch_norm"),
)
