"""Write attention yourself: thirteen functions, graded by `python -m week6.exercises`.

Replace a `raise NotImplementedError` by your code and run the grader: it says what is right, what a mistake looks like
and where it probably comes from, and what comes next. With `--watch` it grades again whenever you save this file. When
all is solved, your functions become a small Transformer, which learns to fill the gaps in sentences.

다음 열세 함수를 직접 작성해 보세요. `raise NotImplementedError`를 여러분의 코드로 바꾸고 위의 명령을 실행하면,
답이 맞았는지, 틀렸다면 어떤 증상이 있고 무엇이 원인일지 한국어와 영어로 알려 주고, 다음에 풀 함수도 알려 줍니다.
`--watch`를 붙이면 이 파일을 저장할 때마다 다시 채점합니다. 모두 풀면 여러분의 함수들이 모여 작은 Transformer가 되고,
문장의 빈칸을 채우는 법을 배웁니다.

Rules for all of them:
- Return torch tensors, computed by torch operations, so that gradients flow (no NumPy, no .item() on the way).
- Leave the inputs as they are: what you are given is still needed by others.
- The later functions may call the earlier ones.

Shape letters: B sequences, H heads, T tokens, Tq / Tk queries / keys, d_k / d_v features of a key / value.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

# --- Lab 1: attention -----------------------------------------------------------------------------------------------


def softmax(x: Tensor) -> Tensor:
    r"""softmax(x)_j = exp(x_j) / sum_k exp(x_k), over the last axis. Do not use torch's own softmax.

    It must also work for numbers like 1000 and -1000, whose exp is infinite or 0: the result does not change when
    the same number is subtracted from all entries of a row.

    마지막 축 방향의 softmax입니다. 1000처럼 큰 값이나 -1000처럼 작은 값에서도 NaN이 나오지 않아야 합니다.

    Args:
        x: (..., n), two or more axes.

    Returns:
        (..., n), positive, of sum 1 along the last axis.
    """
    raise NotImplementedError


def scaled_dot_product_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    r"""Attention(Q, K, V) = softmax(Q K^T / sqrt(d_k)) V, for each sequence and head.

    A position that the mask forbids gets weight 0. A query that may attend nowhere gets weights 0 and output 0,
    and no gradient is NaN.

    mask에서 True는 '볼 수 있음'을 뜻합니다. 볼 수 있는 key가 하나도 없는 query의 weight와 output은 0이어야 합니다. 이때도
    gradient는 NaN이 아니어야 합니다.

    Args:
        q: (B, H, Tq, d_k).
        k: (B, H, Tk, d_k).
        v: (B, H, Tk, d_v).
        mask: bool, True = may attend, broadcastable to (B, H, Tq, Tk); None: every query may attend to every key.

    Returns:
        output (B, H, Tq, d_v) and weights (B, H, Tq, Tk), in this order.
    """
    raise NotImplementedError


def causal_mask(n: int) -> Tensor:
    """The mask of a language model: position t (row) may attend to the positions 0..t (columns), itself included.

    각 위치는 자기 자신과 그 이전의 위치만 볼 수 있습니다.

    Returns:
        (n, n) bool, True = may attend.
    """
    raise NotImplementedError


def padding_mask(lengths: Tensor, n: int) -> Tensor:
    """Sequences of different lengths are filled up with padding to n tokens, and no query may attend to the padding.

    문장마다 길이가 다르면 끝에 padding을 붙여 길이를 n으로 맞춥니다. padding은 어떤 query에게도 보이지 않아야 합니다.
    마지막 축이 key입니다.

    Args:
        lengths: (B,) whole numbers; sequence b has lengths[b] real tokens, at the positions 0 .. lengths[b] - 1.

    Returns:
        (B, 1, 1, n) bool, True = may attend. The axes of size 1 stand for heads and queries: all see the same keys.
    """
    raise NotImplementedError


# --- Lab 2: several heads -------------------------------------------------------------------------------------------


def split_heads(x: Tensor, n_heads: int) -> Tensor:
    """Cut the features of each token into n_heads slices: head h gets the features h*d_head .. (h+1)*d_head - 1.

    각 토큰의 feature를 n_heads개의 연속된 조각으로 나눕니다.

    Args:
        x: (B, T, d_model), where n_heads divides d_model.

    Returns:
        (B, H, T, d_head), where H = n_heads and d_head = d_model / n_heads.
    """
    raise NotImplementedError


def merge_heads(x: Tensor) -> Tensor:
    """Put the heads of each token side by side again: the inverse of `split_heads`.

    split_heads의 역연산입니다. 각 토큰에 대해 head들의 결과를 다시 이어 붙입니다.

    Args:
        x: (B, H, T, d_head).

    Returns:
        (B, T, d_model), where d_model = H * d_head.
    """
    raise NotImplementedError


def multi_head_attention(
    x: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, w_o: Tensor, n_heads: int, mask: Tensor | None = None
) -> Tensor:
    r"""MultiHead(X) = Concat(head_1, ..., head_H) W_O, where the heads attend to slices of X W_Q, X W_K and X W_V.

    Here the parts come together: project, split into heads, attend, merge, project.

    지금까지 작성한 함수들을 조립합니다: x에 w_q, w_k, w_v를 곱하고, head로 나누고, attention을 적용하고, 다시 합쳐 w_o를
    곱합니다.

    Args:
        x: (B, T, d_model).
        w_q, w_k, w_v, w_o: (d_model, d_model), multiplied from the right: x @ w_q.
        n_heads: a divisor of d_model.
        mask: as in `scaled_dot_product_attention`, broadcastable to (B, H, T, T).

    Returns:
        (B, T, d_model)
    """
    raise NotImplementedError


# --- Lab 3: positions -----------------------------------------------------------------------------------------------


def sinusoidal_encoding(n_positions: int, d_model: int) -> Tensor:
    r"""PE[pos, 2i] = sin(pos / 10000^(2i/d_model)),  PE[pos, 2i+1] = cos(pos / 10000^(2i/d_model)).

    pos runs over 0 .. n_positions - 1, and i over 0 .. d_model/2 - 1: columns 2i and 2i+1 share one frequency.

    짝수 열은 sin, 홀수 열은 cos이고, 이웃한 두 열(2i와 2i+1)은 같은 주파수를 씁니다.

    Args:
        d_model: an even number.

    Returns:
        (n_positions, d_model)
    """
    raise NotImplementedError


# --- Lab 4: the block -----------------------------------------------------------------------------------------------


def layer_norm(x: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
    r"""LN(x) = gamma * (x - mean) / sqrt(var + eps) + beta, over the features of each token.

    mean and var are those of the d features of one token; var is the mean of the squared deviations (divided by d,
    not by d - 1). Do not use torch's own layer norm.

    토큰마다 d개의 feature로 평균과 분산을 구합니다. 분산은 d-1이 아니라 d로 나눕니다.

    Args:
        x: (B, T, d).
        gamma: (d,).
        beta: (d,).

    Returns:
        (B, T, d)
    """
    raise NotImplementedError


def feed_forward(x: Tensor, w_1: Tensor, b_1: Tensor, w_2: Tensor, b_2: Tensor) -> Tensor:
    r"""FFN(x) = relu(x W_1 + b_1) W_2 + b_2, applied to each token alone.

    각 토큰에 따로 적용하는 두 층짜리 신경망입니다. 두 선형 변환 사이에 ReLU를 둡니다.

    Args:
        x: (B, T, d_model).
        w_1: (d_model, d_ff).
        b_1: (d_ff,).
        w_2: (d_ff, d_model).
        b_2: (d_model,).

    Returns:
        (B, T, d_model)
    """
    raise NotImplementedError


Layer = Callable[[Tensor], Tensor]  # (B, T, d) -> (B, T, d)


def post_norm_block(x: Tensor, attention: Layer, feed_forward: Layer, norm1: Layer, norm2: Layer) -> Tensor:
    """The block of the 2017 paper: h = norm1(x + attention(x)), output = norm2(h + feed_forward(h)).

    residual을 더한 다음에 정규화합니다.

    Args:
        x: (B, T, d).
        attention, feed_forward, norm1, norm2: the sub-layers, functions of one tensor.

    Returns:
        (B, T, d)
    """
    raise NotImplementedError


def pre_norm_block(x: Tensor, attention: Layer, feed_forward: Layer, norm1: Layer, norm2: Layer) -> Tensor:
    """The block of GPT-2 and later: h = x + attention(norm1(x)), output = h + feed_forward(norm2(h)).

    각 sub-layer의 입력만 정규화하고, residual 경로는 그대로 둡니다.

    Args:
        x: (B, T, d).
        attention, feed_forward, norm1, norm2: the sub-layers, functions of one tensor.

    Returns:
        (B, T, d)
    """
    raise NotImplementedError


# --- Lab 5: training ------------------------------------------------------------------------------------------------


def training_step(
    model: nn.Module,
    loss_function: Callable[[Tensor, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    targets: Tensor,
) -> float:
    """One step of training: predictions = model(inputs), their loss, its gradients, and a step of the optimizer.

    The gradients of the step before must not be added to the new ones.

    학습의 한 step입니다. 예측하고, loss를 구하고, gradient를 계산하고, optimizer로 weight를 고칩니다. 이전 step의 gradient가 새
    gradient에 더해지지 않게 하세요.

    Args:
        loss_function: of (predictions, targets), in this order; gives one number, as a tensor.
        optimizer: has `zero_grad()` and `step()`, for the parameters of `model`.

    Returns:
        the loss of these predictions, from before the step, as a plain number: loss.item().
    """
    raise NotImplementedError
