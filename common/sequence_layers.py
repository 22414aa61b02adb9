"""An RNN, an LSTM and attention behind one door, and how long each of them takes."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.attention import MultiHeadAttention
from common.jacobian import jacobian


def make_layer(kind: str, d: int) -> nn.Module:
    """A fresh layer that maps (B, n, d) to a tuple whose first entry is (B, n, d).

    Args:
        kind: "RNN", "LSTM", "LSTM, forget bias 3", "attention" (one head) or "fused attention". The second entry is what the
            layer passes its information on by: the last state or states of the first three, the weights of attention; None
            for fused attention, which never holds all of them.
        d: number of features.

    Raises:
        ValueError: an unknown kind.
    """
    if kind == "fused attention":
        return FusedAttention(d, 1)
    if kind == "RNN":
        return nn.RNN(d, d, batch_first=True)
    if kind == "LSTM":
        return nn.LSTM(d, d, batch_first=True)
    if kind == "LSTM, forget bias 3":
        return open_forget_gate(nn.LSTM(d, d, batch_first=True))
    if kind == "attention":
        return MultiHeadAttention(d, 1)
    raise ValueError(f"kind must be RNN, LSTM, LSTM, forget bias 3, attention or fused attention, got {kind!r}")


class FusedAttention(MultiHeadAttention):
    """The same layers, and torch's own attention between them: block by block, so that the n x n weights never exist.

    Source: Dao et al. 2022, "FlashAttention".
    """

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """(B, n, d) -> (B, n, d), and no weights"""
        q, k, v = (self._split_heads(project(x)) for project in (self.w_q, self.w_k, self.w_v))
        return self.w_o(self._merge_heads(F.scaled_dot_product_attention(q, k, v))), None


def multiplications(kind: str, n: int, d: int) -> int:
    """Of a forward pass over n inputs of width d, by all products of matrices: 2 n d^2 for an RNN (input and state), four
    times that for an LSTM (four gates), 4 n d^2 + 2 n^2 d for attention (four projections, scores, average)."""
    return {"RNN": 2 * n * d**2, "LSTM": 8 * n * d**2, "attention": 4 * n * d**2 + 2 * n**2 * d}[kind]


def open_forget_gate(lstm: nn.LSTM, bias: float = 3.0) -> nn.LSTM:
    """torch starts the forget gate half open; with this bias it starts at sigmoid(3) = 0.95. Changes the layer in place.

    Source: Jozefowicz et al. 2015, "An Empirical Exploration of Recurrent Network Architectures" (they set 1).
    """
    d = lstm.hidden_size
    lstm.bias_ih_l0.data[d : 2 * d] = bias  # the gates are stored as input, forget, cell, output
    return lstm


@torch.no_grad()
def kept_bytes(kind: str, n: int, d: int) -> int:
    """Bytes that a layer needs to go on after n inputs: the RNN's last state, attention's keys and values."""
    layer, x = make_layer(kind, d), torch.zeros(1, n, d)
    kept = [layer.w_k(x), layer.w_v(x)] if kind == "attention" else [layer(x)[1]]
    return sum(part.element_size() * part.nelement() for part in kept)


def measure_path(kind: str, seed: int, n: int = 65, d: int = 32) -> Tensor:
    """Norm of the Jacobian d h_T / d x_t (Frobenius) of an untrained layer at the distances T - t = 0 ... n - 1."""
    torch.manual_seed(seed)
    layer, x = make_layer(kind, d), torch.randn(1, n, d)
    last = jacobian(lambda x: layer(x)[0][:, -1], x).reshape(d, n, d)  # d output i / d feature k of position t: (i, t, k)
    return last.pow(2).sum(dim=(0, 2)).sqrt().flip(0)  # (n,)


def measure_times(kinds: Collection[str], lengths: Sequence[int], d: int, n_times: int) -> dict[str, list[float]]:
    """Seconds of a forward and backward pass at each length, batch 1; the layers take turns, and the fastest of n_times
    counts: what else the machine does only makes it slower."""
    layers = {kind: make_layer(kind, d) for kind in kinds}
    found = {kind: [] for kind in kinds}
    for n in lengths:
        x = torch.randn(1, n, d, requires_grad=True)
        turns = [{kind: seconds(layer, x) for kind, layer in layers.items()} for _ in range(n_times)]
        for kind in kinds:
            found[kind].append(min(turn[kind] for turn in turns))
    return found


def seconds(layer: nn.Module, x: Tensor) -> float:
    """Wall-clock seconds of one forward and backward pass."""
    start = time.perf_counter()
    layer(x)[0].sum().backward()
    return time.perf_counter() - start


def exponent(lengths: Sequence[int], values: Sequence[float], *, fitted_from: int) -> float:
    """p in value ~ length^p, fitted to the lengths from `fitted_from` on."""
    far = [i for i, n in enumerate(lengths) if n >= fitted_from]
    return float(np.polyfit(np.log([lengths[i] for i in far]), np.log([values[i] for i in far]), 1)[0])
