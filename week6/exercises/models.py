"""For each exercise a model, which is right and with keyword arguments makes the classic mistakes, and the cases.

The cases begin very small, so that the smallest that fails makes a good example; together they tell every mistake from
every other (the tests prove it, and compare the models with `common/` and with torch).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from week6.exercises.grader import Inputs


def numbers(*shape: int, generator: torch.Generator) -> Tensor:
    """Random small whole numbers but 0, so that an example can be worked by hand."""
    choices = torch.tensor([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0])
    return choices[torch.randint(len(choices), shape, generator=generator)]


def counting(*shape: int) -> Tensor:
    """1, 2, 3, ... in order, so that one sees where each number went."""
    return torch.arange(1.0, 1 + math.prod(shape)).view(shape)


# --- softmax --------------------------------------------------------------------------------------------------------


def softmax(
    x: Tensor, *, axis: int | None = -1, subtract: str = "row maximum", divide: bool = True, keepdim: bool = True
) -> Tensor:
    """Axis None: over all entries."""
    axes = tuple(range(x.dim())) if axis is None else axis
    if subtract == "row maximum":
        x = x - x.amax(axes, keepdim=True)
    elif subtract == "global maximum":
        x = x - x.max()
    exp = x.exp()
    return exp / exp.sum(axes, keepdim=keepdim) if divide else exp


def softmax_cases() -> list[Inputs]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, 2), (1, 3), (2, 2), (2, 3), (1, 2, 3), (2, 2, 2), (2, 3, 2), (2, 3, 5), (2, 3, 2, 3), (3, 2, 5, 7)]
    small = [{"x": numbers(*shape, generator=generator)} for shape in shapes]
    extreme = [[[1000.0, 1000.0]], [[-1000.0, -1000.0]], [[0.0, 1.0], [-1000.0, -1001.0]]]
    return [*small, *({"x": torch.tensor(x)} for x in extreme)]


# --- scaled dot-product attention -----------------------------------------------------------------------------------


def scaled_dot_product_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    *,
    divisor: str = "sqrt(d_k)",
    axis: int = -1,
    inverted: bool = False,
    masking: str = "before the softmax",
    blocked_row: str = "zero",
    subtract: str = "row maximum",
    order: str = "output, weights",
) -> tuple[Tensor, Tensor]:
    _, n_heads, _, d_k = q.shape
    divisors = {
        "sqrt(d_k)": math.sqrt(d_k),
        "1": 1.0,
        "d_k": d_k,
        "sqrt(d_model)": math.sqrt(n_heads * d_k),
        "1/sqrt(d_k)": 1 / math.sqrt(d_k),
    }
    scores = q @ k.transpose(-2, -1) / divisors[divisor]  # (B, H, Tq, Tk)
    blocked = torch.zeros_like(scores, dtype=torch.bool)
    if mask is not None:
        blocked |= mask if inverted else ~mask
    if masking == "before the softmax":
        # -inf in a whole row is NaN after the softmax; a very low finite number makes the row uniform
        low = torch.finfo(scores.dtype).min if blocked_row == "uniform" else -math.inf
        scores = scores.masked_fill(blocked, low)
    elif masking == "scores set to 0":
        scores = scores.masked_fill(blocked, 0.0)
    weights = softmax(scores, axis=axis, subtract=subtract)
    if masking == "after the softmax" or (masking == "before the softmax" and blocked_row == "zero"):
        weights = weights.masked_fill(blocked, 0.0)
    elif masking == "after the softmax, -inf":
        weights = weights.masked_fill(blocked, -math.inf)
    return (weights @ v, weights) if order == "output, weights" else (weights, weights @ v)


def attention_cases() -> list[Inputs]:
    """Without a mask, then with one; sizes are (B, H, Tq, Tk, d_k, d_v)."""

    def case(b: int, h: int, tq: int, tk: int, d_k: int, d_v: int, mask: list | None = None) -> Inputs:
        generator = torch.Generator().manual_seed(0)
        shapes = {"q": (b, h, tq, d_k), "k": (b, h, tk, d_k), "v": (b, h, tk, d_v)}
        inputs = {name: numbers(*shape, generator=generator) for name, shape in shapes.items()}
        return inputs if mask is None else inputs | {"mask": torch.tensor(mask)}

    large = {"q": [[[[100.0]]]], "k": [[[[100.0], [99.0]]]], "v": [[[[1.0], [2.0]]]]}  # scores 10000 and 9900
    causal = torch.ones(5, 5, dtype=torch.bool).tril()
    padding = torch.tensor([[[[True, True, True, False, False]]], [[[True, True, True, True, False]]]])
    return [
        case(1, 1, 1, 1, 1, 1),
        case(1, 1, 1, 2, 1, 1),
        case(1, 1, 2, 1, 1, 1),
        case(1, 1, 1, 2, 2, 1),
        case(1, 1, 1, 2, 1, 2),
        case(1, 1, 2, 2, 1, 1),
        case(1, 1, 2, 3, 2, 1),
        case(1, 2, 1, 2, 2, 1),
        case(2, 1, 1, 2, 2, 1),
        case(2, 3, 4, 5, 7, 6),
        case(1, 1, 1, 2, 1, 1, [[True, True]]),
        case(1, 1, 1, 2, 1, 1, [[True, False]]),
        case(1, 1, 2, 2, 1, 1, [[True, False], [True, True]]),
        case(1, 1, 1, 2, 1, 1, [[False, False]]),
        case(1, 1, 2, 2, 1, 1, [[True, False], [False, False]]),
        case(1, 2, 1, 2, 1, 1, [[[True, False]], [[True, True]]]),
        case(1, 1, 2, 3, 2, 1, [[True, True, False], [False, True, True]]),
        case(2, 3, 5, 5, 7, 4, (causal & padding).tolist()),
        case(2, 3, 4, 5, 7, 6, padding.tolist()),
        {name: torch.tensor(x) for name, x in large.items()},
    ]


# --- causal mask ----------------------------------------------------------------------------------------------------


def causal_mask(n: int, *, allowed: str = "0..t") -> Tensor:
    ones = torch.ones(n, n, dtype=torch.bool)
    return {
        "0..t": ones.tril(),
        "0..t-1": ones.tril(-1),
        "0..t+1": ones.tril(1),
        "t..n-1": ones.triu(),
        "t+1..n-1": ones.triu(1),
    }[allowed]


def causal_cases() -> list[Inputs]:
    return [{"n": n} for n in (1, 2, 3, 5)]


# --- splitting and merging heads ------------------------------------------------------------------------------------


def split_heads(x: Tensor, n_heads: int, *, how: str = "slices") -> Tensor:
    n_sequences, n_tokens, d_model = x.shape
    d_head = d_model // n_heads
    if how == "no transpose":
        return x.reshape(n_sequences, n_tokens, n_heads, d_head)
    if how == "reshape only":
        return x.reshape(n_sequences, n_heads, n_tokens, d_head)
    if how == "every n_heads-th feature":
        return x.reshape(n_sequences, n_tokens, d_head, n_heads).permute(0, 3, 1, 2)
    return x.reshape(n_sequences, n_tokens, n_heads, d_head).transpose(1, 2)  # (B, H, T, d_head)


def split_cases() -> list[Inputs]:
    sizes = [(1, 1, 1, 1), (1, 1, 2, 2), (1, 2, 2, 2), (1, 1, 4, 2), (1, 2, 4, 2), (2, 2, 2, 1), (2, 3, 10, 2), (2, 5, 12, 3)]
    return [{"x": counting(b, t, d_model), "n_heads": n_heads} for b, t, d_model, n_heads in sizes]


def merge_heads(x: Tensor, *, how: str = "side by side") -> Tensor:
    n_sequences, n_heads, n_tokens, d_head = x.shape
    if how == "reshape only":
        return x.reshape(n_sequences, n_tokens, n_heads * d_head)
    if how == "interleaved":
        return x.permute(0, 2, 3, 1).flatten(-2)
    return x.transpose(1, 2).flatten(-2)  # (B, T, H * d_head)


def merge_cases() -> list[Inputs]:
    sizes = [(1, 1, 1, 1), (1, 2, 1, 1), (1, 1, 2, 1), (1, 2, 2, 1), (1, 2, 1, 2), (1, 2, 2, 2), (2, 2, 3, 5), (2, 3, 5, 4)]
    return [{"x": counting(*size)} for size in sizes]


# --- sinusoidal encoding --------------------------------------------------------------------------------------------


def sinusoidal_encoding(
    n_positions: int, d_model: int, *, exponent: str = "2i", first: int = 0, layout: str = "sin, cos"
) -> Tensor:
    i = torch.arange(d_model // 2, dtype=torch.float64)
    of_sin, of_cos = {"2i": (2 * i, 2 * i), "4i": (4 * i, 4 * i), "i": (i, i), "column": (2 * i, 2 * i + 1)}[exponent]
    positions = first + torch.arange(n_positions, dtype=torch.float64)[:, None]
    sin = (positions / 10_000 ** (of_sin / d_model)).sin().float()  # (n_positions, d_model / 2)
    cos = (positions / 10_000 ** (of_cos / d_model)).cos().float()
    if layout == "halves":
        return torch.cat([sin, cos], dim=-1)
    pair = (cos, sin) if layout == "cos, sin" else (sin, cos)
    return torch.stack(pair, dim=-1).flatten(-2)  # (n_positions, d_model)


def sinusoidal_cases() -> list[Inputs]:
    sizes = [(1, 2), (2, 2), (1, 4), (2, 4), (2, 6), (5, 10), (7, 8)]
    return [{"n_positions": n_positions, "d_model": d_model} for n_positions, d_model in sizes]


# --- layer norm -----------------------------------------------------------------------------------------------------


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


def layer_norm_cases() -> list[Inputs]:
    generator = torch.Generator().manual_seed(0)

    def case(x: Tensor, **eps: float) -> Inputs:
        gamma = torch.arange(2.0, 2 + x.shape[-1])
        return {"x": x, "gamma": gamma, "beta": gamma.flip(0) - 3, **eps}

    plain = {"x": torch.tensor([[[1.0, 3.0]]]), "gamma": torch.ones(2), "beta": torch.zeros(2)}
    shapes = [(1, 1, 2), (1, 1, 3), (1, 2, 2), (1, 2, 3), (2, 2, 2), (2, 3, 5)]
    return [
        plain,
        *(case(numbers(*shape, generator=generator)) for shape in shapes),
        plain | {"eps": 3.0},
        case(torch.tensor([[[1.0, 5.0], [2.0, 4.0]], [[3.0, 1.0], [7.0, 2.0]]]), eps=0.5),
        case(torch.tensor([[[2.0, 2.0]]])),
        case(0.01 * numbers(2, 3, 4, generator=generator)),
    ]


# --- the block ------------------------------------------------------------------------------------------------------


def block(
    x: Tensor,
    attention: Callable,
    feed_forward: Callable,
    norm1: Callable,
    norm2: Callable,
    *,
    norm: str = "post",
    first_residual: str = "h",
    second_residual: str = "h",
    same_norm: bool = False,
    feed_forward_first: bool = False,
) -> Tensor:
    """A residual is what is added to a sub-layer's result: "h" (the stream), "none", "normed" (its own input), or "x"."""
    sub_layers = (feed_forward, attention) if feed_forward_first else (attention, feed_forward)
    norms = (norm1, norm1) if same_norm else (norm1, norm2)
    h = x
    for sub_layer, normalise, residual in zip(sub_layers, norms, (first_residual, second_residual), strict=True):
        entering = normalise(h) if norm == "pre" else h
        added = {"h": h, "none": 0.0, "normed": entering, "x": x}[residual]
        h = added + sub_layer(entering)
        if norm == "post":
            h = normalise(h)
    return h


class Layer:
    """A sub-layer that shows its formula in an example."""

    def __init__(self, formula: str, function: Callable[[Tensor], Tensor]):
        self.formula, self.function = formula, function

    def __call__(self, x: Tensor) -> Tensor:
        return self.function(x)

    def __repr__(self) -> str:
        return f"x -> {self.formula}"


def block_cases() -> list[Inputs]:
    """Arithmetic that can be done in the head, then something closer to the real sub-layers."""

    def standardise(x: Tensor) -> Tensor:
        return layer_norm(x, torch.ones(x.shape[-1]), torch.zeros(x.shape[-1]))

    arithmetic = {
        "attention": Layer("2 * x", lambda x: 2 * x),
        "feed_forward": Layer("3 * x", lambda x: 3 * x),
        "norm1": Layer("x + 10", lambda x: x + 10),
        "norm2": Layer("x - 5", lambda x: x - 5),
    }
    lifelike = {
        "attention": Layer("softmax(x @ x^T) @ x", lambda x: (x @ x.transpose(1, 2)).softmax(-1) @ x),
        "feed_forward": Layer("tanh(x) + x^2 / 4", lambda x: x.tanh() + x.square() / 4),
        "norm1": Layer("layer norm(x)", standardise),
        "norm2": Layer("2 * layer norm(x) + 1", lambda x: 2 * standardise(x) + 1),
    }
    generator = torch.Generator().manual_seed(0)
    return [
        {"x": torch.tensor([[[1.0]]]), **arithmetic},
        {"x": torch.tensor([[[2.0, -1.0]]]), **arithmetic},
        {"x": numbers(1, 2, 3, generator=generator), **lifelike},
        {"x": numbers(2, 3, 5, generator=generator), **lifelike},
    ]
