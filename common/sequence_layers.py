"""An RNN, an LSTM and attention behind one door, and how long each of them takes."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from common.attention import MultiHeadAttention


def make_layer(kind: str, d: int) -> nn.Module:
    """A fresh layer that maps (B, n, d) to a tuple whose first entry is (B, n, d).

    Args:
        kind: "RNN", "LSTM", "LSTM, forget bias 3" or "attention" (one head). The second entry is what the layer passes its
            information on by: the last state or states of the first three, the weights of attention.
        d: number of features.

    Raises:
        ValueError: an unknown kind.
    """
    if kind == "RNN":
        return nn.RNN(d, d, batch_first=True)
    if kind == "LSTM":
        return nn.LSTM(d, d, batch_first=True)
    if kind == "LSTM, forget bias 3":
        return open_forget_gate(nn.LSTM(d, d, batch_first=True))
    if kind == "attention":
        return MultiHeadAttention(d, 1)
    raise ValueError(f"kind must be RNN, LSTM, LSTM, forget bias 3 or attention, got {kind!r}")


def open_forget_gate(lstm: nn.LSTM, bias: float = 3.0) -> nn.LSTM:
    """torch starts the forget gate half open; with this bias it starts at sigmoid(3) = 0.95."""
    d = lstm.hidden_size
    lstm.bias_ih_l0.data[d : 2 * d] = bias  # the gates are stored as input, forget, cell, output
    return lstm


def measure_times(kinds: Collection[str], lengths: Sequence[int], d: int, repeats: int) -> dict[str, list[float]]:
    """Median seconds of a forward and backward pass at each length, batch 1; the layers take turns, the first turn is a
    warm-up that does not count."""
    layers = {kind: make_layer(kind, d) for kind in kinds}
    found = {kind: [] for kind in kinds}
    for n in lengths:
        x = torch.randn(1, n, d, requires_grad=True)
        turns = [{kind: seconds(layer, x) for kind, layer in layers.items()} for _ in range(repeats + 1)]
        for kind in kinds:
            found[kind].append(median(turn[kind] for turn in turns[1:]))
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
