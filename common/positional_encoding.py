"""Six ways to tell attention where a token stands.

Added to the embeddings: `sinusoidal_encoding`, `LearnedEncoding`, `linear_encoding`.
Added to the scores: `RelativeBias`, `alibi_bias`. Applied to queries and keys: `rotary`.
Tables come in torch's default dtype; angles are computed in float64, so that large positions lose no digits.
All sizes are whole numbers of at least 1: TypeError and ValueError otherwise, besides the errors that are named.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from common.attention import check_size


def _angular_frequencies(d_model: int, base: float) -> Tensor:
    """(d_model / 2,) float64, in radians a position: base^(-2i / d_model), from 1 down to nearly 1 / base."""
    check_size("d_model", d_model)
    if d_model % 2:
        raise ValueError(f"sines and cosines come in pairs: d_model must be even, got {d_model}")
    if not base > 0:
        raise ValueError(f"base must be positive, got {base}")
    return base ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)


def _angles(n_positions: int, d_model: int, base: float) -> Tensor:
    """(n_positions, d_model / 2) float64, in radians: position times angular frequency."""
    check_size("n_positions", n_positions)
    frequencies = _angular_frequencies(d_model, base)
    return torch.arange(n_positions, dtype=torch.float64)[:, None] * frequencies


def sinusoidal_encoding(n_positions: int, d_model: int, *, base: float = 10_000.0) -> Tensor:
    r"""PE[pos, 2i] = sin(pos / base^(2i/d_model)),  PE[pos, 2i+1] = cos(pos / base^(2i/d_model)).

    Column pair i has a wavelength of 2 pi base^(2i/d_model) positions: low columns are fast, high columns slow.

    Returns:
        (n_positions, d_model)

    Raises:
        ValueError: an odd d_model or a base that is not positive.

    Source: Vaswani et al. 2017, section 3.5.
    """
    angles = _angles(n_positions, d_model, base)  # (n_positions, d_model / 2)
    pairs = torch.stack([angles.sin(), angles.cos()], dim=-1)  # (n_positions, d_model / 2, 2)
    return pairs.flatten(-2).to(torch.get_default_dtype())  # (n_positions, d_model)


def shift_matrix(offset: int, d_model: int, *, base: float = 10_000.0) -> Tensor:
    r"""The matrix M with PE[pos + offset] = M @ PE[pos] for every pos: moving by `offset` is one fixed linear map.

    With w_i = base^(-2i/d_model), M is block diagonal; block i rotates the pair (sin, cos) by offset * w_i:
        [ cos(offset w_i)  sin(offset w_i)]
        [-sin(offset w_i)  cos(offset w_i)]

    Returns:
        (d_model, d_model)

    Raises:
        ValueError: an odd d_model or a base that is not positive.

    Source: Vaswani et al. 2017, section 3.5 ("can be represented as a linear function of PE_pos").
    """
    angles = offset * _angular_frequencies(d_model, base)  # (d_model / 2,)
    cos, sin = angles.cos(), angles.sin()
    blocks = torch.stack([torch.stack([cos, sin], dim=-1), torch.stack([-sin, cos], dim=-1)], dim=-2)
    return torch.block_diag(*blocks).to(torch.get_default_dtype())  # blocks are (d_model / 2, 2, 2)


def linear_encoding(n_positions: int, d_model: int) -> Tensor:
    """PE[pos, :] = pos / n_positions, the same number in every column: the obvious idea, kept for comparison.

    Returns:
        (n_positions, d_model)

    Raises:
        ValueError: a size below 1.
    """
    check_size("n_positions", n_positions)
    check_size("d_model", d_model)
    return (torch.arange(n_positions) / n_positions)[:, None].repeat(1, d_model)


class LearnedEncoding(nn.Module):
    """A table with one trained vector for each position (BERT, GPT-2).

    Args:
        max_length: number of positions in the table; there is nothing behind its end.
        d_model: features of a token.
    """

    def __init__(self, max_length: int, d_model: int):
        super().__init__()
        check_size("max_length", max_length)
        check_size("d_model", d_model)
        self.table = nn.Parameter(0.02 * torch.randn(max_length, d_model))  # BERT's standard deviation

    def forward(self, n_positions: int) -> Tensor:
        """The first n_positions rows, (n_positions, d_model).

        Raises:
            ValueError: n_positions beyond max_length.
        """
        check_size("n_positions", n_positions)
        if n_positions > len(self.table):
            raise ValueError(f"the table ends at max_length {len(self.table)}, got n_positions {n_positions}")
        return self.table[:n_positions]


class RelativeBias(nn.Module):
    """One trained number for each head and each distance key - query, clipped to -max_distance..max_distance.

    The bias joins the scores; it depends on the signed distance alone and reaches any length; beyond max_distance all
    distances of one sign look alike.

    Source: Shaw et al. 2018 (clipped distances), Raffel et al. 2020 (T5: a scalar for each head, added to the scores).
    """

    def __init__(self, n_heads: int, max_distance: int):
        super().__init__()
        check_size("n_heads", n_heads)
        check_size("max_distance", max_distance)
        self.max_distance = max_distance
        self.table = nn.Parameter(torch.zeros(n_heads, 2 * max_distance + 1))

    def forward(self, Tq: int, Tk: int) -> Tensor:  # noqa: N803 (shape letters of the suite)
        """(H, Tq, Tk): entry [h, i, j] is head h's bias for the distance j - i."""
        check_size("Tq", Tq)
        check_size("Tk", Tk)
        distance = torch.arange(Tk) - torch.arange(Tq)[:, None]  # (Tq, Tk)
        clipped = distance.clamp(-self.max_distance, self.max_distance)
        return self.table[:, clipped + self.max_distance]  # (H, Tq, Tk)


def alibi_bias(n_heads: int, n: int) -> Tensor:
    r"""bias[h, i, j] = -slope_h |i - j|: a fixed penalty for distance, steep in some heads and gentle in others.

    For n_heads a power of two, slope_h = 2^(-8 (h+1) / n_heads). Otherwise the slopes of the next lower power of two
    come first, then every other slope of the next higher one. The paper's causal models use the half j <= i.

    Returns:
        (H, n, n)

    Source: Press et al. 2022, "Train Short, Test Long", section 3 and the authors' code.
    """
    check_size("n_heads", n_heads)
    check_size("n", n)
    positions = torch.arange(n)
    distance = (positions - positions[:, None]).abs()  # (n, n)
    slopes = torch.tensor(_alibi_slopes(n_heads))
    return -slopes[:, None, None] * distance  # (H, n, n)


def _alibi_slopes(n_heads: int) -> list[float]:
    power = 2 ** int(math.log2(n_heads))
    slopes = [2 ** (-8 * (h + 1) / power) for h in range(power)]
    return slopes if power == n_heads else slopes + _alibi_slopes(2 * power)[::2][: n_heads - power]


def rotary(x: Tensor, *, base: float = 10_000.0) -> Tensor:
    r"""Rotate each pair of features by an angle that grows with the position (RoPE).

    The pairs are neighbouring columns (2i, 2i+1), as in the paper; some implementations pair i with i + d/2. At
    position t, pair i turns by t * base^(-2i/d):
        y[2i]   = x[2i] cos - x[2i+1] sin
        y[2i+1] = x[2i] sin + x[2i+1] cos
    Applied to q and k, it makes their product depend on the signed distance of the positions alone.

    Args:
        x: (..., T, d) with even d; the second to last axis counts the positions.

    Returns:
        the shape and dtype of x.

    Raises:
        ValueError: fewer than two axes, an odd d or a base that is not positive.
        TypeError: x is not floating point.

    Source: Su et al. 2021, "RoFormer", equation 34.
    """
    if x.dim() < 2:
        raise ValueError(f"x must be (..., T, d), got {tuple(x.shape)}")
    if not x.is_floating_point():
        raise TypeError(f"x must be floating point, got {x.dtype}")
    angles = _angles(x.shape[-2], x.shape[-1], base).to(x.device)  # (T, d / 2)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    even, odd = x[..., 0::2], x[..., 1::2]  # (..., T, d / 2) each
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)
