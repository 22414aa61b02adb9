"""Scaled dot-product attention, its masks, and multi-head attention (Vaswani et al. 2017, section 3.2).

Shape letters: B batch, H heads, Tq / Tk number of queries / keys, d_k / d_v features of a key / value.
In every mask True means "may attend". `F.scaled_dot_product_attention` reads a boolean mask the same way;
`nn.MultiheadAttention` and `nn.TransformerEncoderLayer` read it the opposite way (True = blocked).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor, nn

from common import precision  # noqa: F401 (float64 and one thread)


def attention_weights(
    q: Tensor, k: Tensor, mask: Tensor | None = None, *, bias: Tensor | None = None, scale: float | None = None
) -> Tensor:
    r"""How much each query takes from each key: softmax(q k^T * scale + bias) over the keys.

    The softmax runs over the last axis, so each row (one query) sums to 1. Arguments and errors are those of
    `scaled_dot_product_attention`.

    Returns:
        (..., Tq, Tk), rows of sum 1; a row whose query may attend nowhere is all 0.
    """
    _check_queries_and_keys(q, k)
    scale = 1.0 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = q @ k.transpose(-2, -1) * scale  # (..., Tq, Tk)
    if mask is not None:
        _check_broadcast("mask", mask, scores.shape, torch.bool)
    if bias is not None:
        _check_broadcast("bias", bias, scores.shape, scores.dtype)
        scores = scores + bias
        if torch.isneginf(bias).any():  # a bias of -inf blocks a key, so it is a mask and gets a mask's guarantees
            mask = ~torch.isneginf(bias) if mask is None else mask & ~torch.isneginf(bias)
    if mask is None:
        return scores.softmax(dim=-1)
    # The lowest finite number rather than -inf: a row that is blocked everywhere would be exp(-inf) / 0 = NaN. With
    # it such a row is uniform for a moment, until the second masked_fill makes it 0, in value and in gradient.
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(dim=-1).masked_fill(~mask, 0.0)


def scaled_dot_product_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    *,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Attention(Q, K, V) = softmax(Q K^T / sqrt(d_k)) V.

    Args:
        q: (..., Tq, d_k) what each position looks for.
        k: (..., Tk, d_k) what each position offers to be found by.
        v: (..., Tk, d_v) what each position hands over.
        mask: bool, True = may attend, broadcastable to (..., Tq, Tk).
        bias: float, added to the scaled scores, broadcastable to (..., Tq, Tk).
        scale: factor on the scores, 1/sqrt(d_k) by default; 1.0 gives the unscaled variant.

    Returns:
        output (..., Tq, d_v) and weights (..., Tq, Tk). A query that may attend nowhere gets weights 0, output 0
        and finite gradients.

    Raises:
        ValueError: sizes that do not fit together.
        TypeError: dtypes that are not floating point or not the same, or a mask that is not bool.

    Source: Vaswani et al. 2017, "Attention Is All You Need", equation 1.
    """
    if v.dim() < 2 or v.shape[-2] != k.shape[-2]:
        raise ValueError(f"k and v need one row a key each, got k {tuple(k.shape)} and v {tuple(v.shape)}")
    if v.dtype != q.dtype:
        raise TypeError(f"q and v need the same dtype, got {q.dtype} and {v.dtype}")
    weights = attention_weights(q, k, mask, bias=bias, scale=scale)  # (..., Tq, Tk)
    _check_leading("weights and v", weights, v)
    return weights @ v, weights  # (..., Tq, d_v), (..., Tq, Tk)


def causal_mask(n: int) -> Tensor:
    """(n, n) bool: position t (row) may attend to positions 0..t (columns), so no word sees a later one.

    Raises:
        ValueError: n below 1.
        TypeError: n is not a whole number.
    """
    check_size("n", n)
    return torch.ones(n, n, dtype=torch.bool).tril()


def padding_mask(lengths: Sequence[int] | Tensor, n: int) -> Tensor:
    """(B, 1, n) bool: True for the first `lengths[b]` tokens of sequence b, False for the padding behind them.

    The middle axis stands for the queries, all of which see the same keys.

    Raises:
        ValueError: lengths that are not one flat list with an entry, a length outside 0..n, or n below 1.
        TypeError: lengths or n that are not whole numbers.
    """
    check_size("n", n)
    lengths = torch.as_tensor(lengths)
    if lengths.dim() != 1 or not len(lengths):
        raise ValueError(f"lengths need to be one flat list, got the shape {tuple(lengths.shape)}")
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise TypeError(f"lengths need to be whole numbers, got {lengths.dtype}")
    if lengths.min() < 0 or lengths.max() > n:
        raise ValueError(f"lengths need to lie in 0..{n}, got {lengths.tolist()}")
    positions = torch.arange(n, device=lengths.device)
    return (positions < lengths[:, None])[:, None, :]  # (B, 1, n)


class MultiHeadAttention(nn.Module):
    r"""Several attentions side by side, each over its own slice of the features.

    head_i = Attention(Q_i, K_i, V_i),  output = Concat(head_1, ..., head_H) W_O, where Q = query W_Q, K = key W_K and
    V = value W_V are cut into H slices of d_head = d_model / n_heads features.

    Args:
        d_model: features of a token.
        n_heads: number of heads; must divide d_model.
        bias: whether the four linear layers have a bias.
        dropout: share of the weights dropped in training.

    Raises:
        ValueError: n_heads does not divide d_model, or a size below 1.
        TypeError: a size that is not a whole number.

    Source: Vaswani et al. 2017, section 3.2.2.
    """

    def __init__(self, d_model: int, n_heads: int, *, bias: bool = True, dropout: float = 0.0):
        super().__init__()
        check_size("d_model", d_model)
        check_size("n_heads", n_heads)
        if d_model % n_heads:
            raise ValueError(f"n_heads must divide d_model, got d_model {d_model} and n_heads {n_heads}")
        self.d_model, self.n_heads, self.d_head = d_model, n_heads, d_model // n_heads
        self.w_q = nn.Linear(d_model, d_model, bias=bias)
        self.w_k = nn.Linear(d_model, d_model, bias=bias)
        self.w_v = nn.Linear(d_model, d_model, bias=bias)
        self.w_o = nn.Linear(d_model, d_model, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        bias: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Self-attention with `query` alone; cross-attention when `key` (and `value`) come from another sequence.

        Args:
            query: (B, Tq, d_model).
            key: (B, Tk, d_model), the query by default.
            value: (B, Tk, d_model), the key by default.
            mask: bool, True = may attend, broadcastable to (B, Tq, Tk); every head gets the same.
            bias: float, added to the scaled scores, broadcastable to (B, H, Tq, Tk).

        Returns:
            output (B, Tq, d_model) and the weights before dropout (B, H, Tq, Tk).

        Raises:
            ValueError, TypeError: sizes or dtypes that do not fit.
        """
        key = query if key is None else key
        value = key if value is None else value
        for name, x in (("query", query), ("key", key), ("value", value)):
            if x.dim() != 3 or x.shape[-1] != self.d_model:
                raise ValueError(f"{name} must be (B, T, {self.d_model}), got {tuple(x.shape)}")
            if x.dtype != self.w_q.weight.dtype:
                raise TypeError(f"{name} must be {self.w_q.weight.dtype}, as the layers are, got {x.dtype}")
        if not query.shape[0] == key.shape[0] == value.shape[0] or key.shape[1] != value.shape[1]:
            sizes = ", ".join(str(tuple(x.shape)) for x in (query, key, value))
            raise ValueError(f"query, key and value need one B, and key and value one Tk, got {sizes}")
        if mask is not None:
            _check_broadcast("mask", mask, (query.shape[0], query.shape[1], key.shape[1]), torch.bool)
            mask = mask.unsqueeze(-3) if mask.dim() == 3 else mask  # one axis more, for the heads

        q = self._split_heads(self.w_q(query))  # (B, H, Tq, d_head)
        k = self._split_heads(self.w_k(key))  # (B, H, Tk, d_head)
        v = self._split_heads(self.w_v(value))  # (B, H, Tk, d_head)
        weights = attention_weights(q, k, mask, bias=bias)  # (B, H, Tq, Tk)
        heads = self.dropout(weights) @ v  # (B, H, Tq, d_head)
        return self.w_o(self._merge_heads(heads)), weights

    def _split_heads(self, x: Tensor) -> Tensor:
        """(B, T, d_model) -> (B, H, T, d_head): head h gets the features h*d_head .. (h+1)*d_head - 1."""
        return x.unflatten(-1, (self.n_heads, self.d_head)).transpose(1, 2)

    def _merge_heads(self, x: Tensor) -> Tensor:
        """(B, H, T, d_head) -> (B, T, d_model), the inverse of `_split_heads`."""
        return x.transpose(1, 2).flatten(-2)


def check_size(name: str, value: int) -> None:
    """Raises TypeError unless the value is a whole number, ValueError if it is below 1."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def _check_queries_and_keys(q: Tensor, k: Tensor) -> None:
    if q.dim() < 2 or k.dim() < 2 or q.shape[-1] != k.shape[-1] or q.shape[-1] == 0:
        raise ValueError(f"q and k need to be (..., T, d_k) with the same d_k, got {tuple(q.shape)} and {tuple(k.shape)}")
    if not q.is_floating_point() or q.dtype != k.dtype:
        raise TypeError(f"q and k need the same floating-point dtype, got {q.dtype} and {k.dtype}")
    _check_leading("q and k", q, k)


def _check_leading(names: str, a: Tensor, b: Tensor) -> None:
    # (torch.broadcast_shapes would do, but it loads all of sympy, which takes longer than a small lab)
    pairs = zip(reversed(a.shape[:-2]), reversed(b.shape[:-2]), strict=False)
    if not all(m == n or 1 in (m, n) for m, n in pairs):
        raise ValueError(f"the leading sizes of {names} do not fit together: {tuple(a.shape)} and {tuple(b.shape)}")


def _check_broadcast(name: str, x: Tensor, shape: Sequence[int], dtype: torch.dtype) -> None:
    if x.dtype != dtype:
        meaning = " (True = may attend)" if dtype == torch.bool else ", as q and k are"
        raise TypeError(f"{name} must be {dtype}{meaning}, got {x.dtype}")
    pairs = zip(reversed(x.shape), reversed(shape), strict=False)
    if x.dim() > len(shape) or not all(n in (1, m) for n, m in pairs):
        raise ValueError(f"{name} of shape {tuple(x.shape)} does not broadcast to {tuple(shape)}")
