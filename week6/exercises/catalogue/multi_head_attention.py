"""Project, split into heads, attend, merge, project: several attentions side by side."""

from __future__ import annotations

import torch
from torch import Tensor

from week6.exercises import lesson
from week6.exercises.catalogue.merge_heads import merge_heads
from week6.exercises.catalogue.scaled_dot_product_attention import scaled_dot_product_attention
from week6.exercises.catalogue.split_heads import split_heads
from week6.exercises.definition import Exercise, Inputs
from week6.exercises.inputs import generator, numbers
from week6.exercises.verdict import Mistake


def multi_head_attention(
    x: Tensor,
    w_q: Tensor,
    w_k: Tensor,
    w_v: Tensor,
    w_o: Tensor,
    n_heads: int,
    mask: Tensor | None = None,
    *,
    transposed: bool = False,
    keys_from: str = "w_k",
    values_from: str = "w_v",
    split: str = "slices",
    merge: str = "side by side",
    transposes: bool = True,
    divisor: str = "sqrt(d_k)",
    project: bool = True,
    masking: str = "before the softmax",
    blocked_row: str = "zero",
) -> Tensor:
    """Right with the defaults; each keyword makes a classic mistake.

    Split "one head": as if n_heads were 1. Without transposes heads stand where attention expects the tokens.
    """
    matrices = {"w_q": w_q, "w_k": w_k, "w_v": w_v, "nothing": torch.eye(x.shape[-1], dtype=x.dtype)}
    q, k, v = (x @ (matrices[name].T if transposed else matrices[name]) for name in ("w_q", keys_from, values_from))
    heads = 1 if split == "one head" else n_heads
    how = "no transpose" if not transposes else "slices" if split == "one head" else split
    q, k, v = (split_heads(a, heads, how=how) for a in (q, k, v))
    switches = {"divisor": divisor, "masking": masking, "blocked_row": blocked_row}
    attended, _ = scaled_dot_product_attention(q, k, v, mask, **switches)
    output = merge_heads(attended, how=merge) if transposes else attended.flatten(-2)  # (B, T, d_model)
    return output @ (w_o.T if transposed else w_o) if project else output


def case(b: int, t: int, d_model: int, n_heads: int, mask: Tensor | None = None) -> Inputs:
    g = generator()
    inputs = {"x": numbers(b, t, d_model, generator=g)}
    for name in ("w_q", "w_k", "w_v", "w_o"):
        inputs[name] = numbers(d_model, d_model, generator=g) / (1 if d_model < 4 else 4)  # the softmax stays soft
    inputs["n_heads"] = n_heads
    return inputs if mask is None else inputs | {"mask": mask}


def cases() -> list[list[Inputs]]:
    """Without a mask, with one, with queries that may attend nowhere; sizes are (B, T, d_model, n_heads)."""
    causal = torch.ones(5, 5, dtype=torch.bool).tril()
    padding = torch.tensor([[[[True, True, False]]], [[[True, False, False]]]])
    nothing = torch.tensor([[False, False], [True, True]])
    return [
        [
            *(case(1, 1, 1, 1), case(1, 1, 2, 1), case(1, 1, 2, 2), case(1, 2, 2, 1), case(1, 2, 2, 2), case(2, 2, 2, 2)),
            *(case(1, 3, 4, 2), case(2, 3, 6, 2), case(2, 5, 6, 3)),
        ],
        [case(1, 2, 2, 2, torch.ones(2, 2, dtype=torch.bool).tril()), case(2, 3, 6, 3, padding), case(2, 5, 6, 2, causal)],
        [case(1, 2, 2, 2, nothing)],
    ]


MISTAKES = [
    Mistake(
        "output projection missing",
        "head들을 합친 결과를 그대로 반환합니다: 마지막에 w_o를 곱하는 단계가 빠진 것 같습니다.",
        "The merged heads are returned as they are: is the last step missing, the product with w_o?",
        {"project": False},
    ),
    Mistake(
        "weight matrices transposed",
        "w_q, w_k, w_v, w_o가 모두 전치(transpose)되어 쓰입니다: x @ w_q.T나 F.linear가 아니라 x @ w_q로 곱하세요.",
        "All four matrices are used transposed: multiply by x @ w_q, not by x @ w_q.T or F.linear.",
        {"transposed": True},
    ),
    Mistake(
        "one matrix for queries and keys",
        "key를 w_k가 아니라 w_q로 만듭니다: 복사한 줄에서 이름을 고치지 않은 것 같습니다.",
        "The keys are made by w_q instead of w_k: a copied line whose name was not changed?",
        {"keys_from": "w_q"},
    ),
    Mistake(
        "one matrix for keys and values",
        "value를 w_v가 아니라 w_k로 만듭니다: 복사한 줄에서 이름을 고치지 않은 것 같습니다.",
        "The values are made by w_k instead of w_v: a copied line whose name was not changed?",
        {"values_from": "w_k"},
    ),
    Mistake(
        "values not projected",
        "value로 x @ w_v가 아니라 x를 그대로 씁니다: attention에 x를 넘기지 않았나요?",
        "The values are x itself and not x @ w_v: was x passed to the attention?",
        {"values_from": "nothing"},
    ),
    Mistake(
        "heads not split",
        "head가 하나뿐인 것처럼 계산합니다: attention을 적용하기 전에 split_heads로 나누지 않은 것 같습니다.",
        "It computes as if there were one head: are q, k and v not split by split_heads before the attention?",
        {"split": "one head"},
    ),
    Mistake(
        "heads split without the transpose",
        "한 head 안에 여러 토큰의 값이 섞입니다: (B, T, H, d_head)로 나눈 뒤의 transpose(1, 2)가 빠진 것 같습니다.",
        "A head mixes several tokens: reshaped at once to (B, H, T, d_head), without (B, T, H, d_head) and transpose(1, 2)?",
        {"split": "reshape only"},
    ),
    Mistake(
        "heads merged without the transpose",
        "한 토큰의 결과에 다른 토큰의 값이 섞입니다: head를 합치기 전에 transpose(1, 2)를 빠뜨리지 않았나요?",
        "A token's row holds values of other tokens: is transpose(1, 2) missing before the heads are merged?",
        {"merge": "reshape only"},
    ),
    Mistake(
        "heads attend to each other",
        "토큰이 아니라 head끼리 서로를 봅니다: (B, T, H, d_head)를 그대로 attention에 넘긴 것 같으니 먼저 transpose(1, 2)를 "
        "하세요.",
        "The heads of a token attend to each other, not the tokens: was (B, T, H, d_head) given to the attention as it is, "
        "without transpose(1, 2)?",
        {"transposes": False},
    ),
    Mistake(
        "scaled twice",
        "score를 sqrt(d_head)로 두 번 나눕니다: scaled_dot_product_attention이 이미 나누므로 여기서 또 나누지 마세요.",
        "The scores are divided by sqrt(d_head) twice: scaled_dot_product_attention does it already.",
        {"divisor": "d_k"},
        lesson.SCALING,
    ),
    Mistake(
        "no scaling",
        "score를 sqrt(d_head)로 나누지 않습니다: scaled_dot_product_attention을 거치지 않고 직접 계산하면서 빠뜨린 것 "
        "같습니다.",
        "The scores are not divided by sqrt(d_head): left out where the attention was written anew?",
        {"divisor": "1"},
        lesson.SCALING,
    ),
    Mistake(
        "scaling by sqrt(d_model)",
        "score를 head의 폭 sqrt(d_head)가 아니라 sqrt(d_model)로 나눕니다: head마다 feature는 d_model / n_heads개입니다.",
        "The scores are divided by sqrt(d_model), not by sqrt(d_head): each head has d_model / n_heads features.",
        {"divisor": "sqrt(d_model)"},
        lesson.SCALING,
    ),
    Mistake(
        "mask not passed on",
        "mask를 주어도 결과가 달라지지 않습니다: scaled_dot_product_attention에 mask를 넘기지 않은 것 같습니다.",
        "The mask changes nothing: is it not passed on to scaled_dot_product_attention?",
        {"masking": "none"},
        lesson.MASKS,
    ),
    Mistake(
        "NaN on a fully masked row",
        "모든 key가 가려진 query의 결과가 NaN입니다: -inf뿐인 행의 softmax는 0/0이므로 여러분의 "
        "scaled_dot_product_attention을 쓰세요.",
        "A query whose keys are all masked gets NaN: the softmax of nothing but -inf is 0/0, so use your "
        "scaled_dot_product_attention.",
        {"blocked_row": "nan"},
        lesson.MASKS,
    ),
    Mistake(
        "uniform weights on a fully masked row",
        "모든 key가 가려진 query가 모든 key를 고르게 봅니다: 여러분의 scaled_dot_product_attention을 쓰면 0이 됩니다.",
        "A query whose keys are all masked sees all of them equally: with your scaled_dot_product_attention it gets 0.",
        {"blocked_row": "uniform"},
        lesson.MASKS,
    ),
]

EXERCISE = Exercise("multi_head_attention", lesson.SEVERAL_HEADS, multi_head_attention, cases(), MISTAKES)
