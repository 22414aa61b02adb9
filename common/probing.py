"""What is asked of a trained Transformer of `common/forecasters.py`: where it looks, and what its prediction needs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from common.experiments import Data, error_on
from common.forecasters import Transformer, looks
from common.heads import silenced
from common.sines import FREQUENCIES, sines


def hidden_error(model: Transformer, data: Data, back: int) -> float:
    """The error when the position `back` steps back is hidden from the heads."""
    mask = torch.ones(1, 1, data[0].shape[1], dtype=torch.bool)
    mask[..., -back] = False
    return error_on(lambda y: model.look(y, mask)[0], data)


def replace(inputs: Tensor, back: int) -> Tensor:
    """(n, T) -> (n, T): the values `back` steps back come from the neighbouring series."""
    other = inputs.clone()
    other[:, -back] = inputs[:, -back].roll(1)
    return other


@torch.no_grad()
def errors_by_way(model: Transformer, data: Data) -> dict[str, float]:
    """The error when the last value comes from another series on none, one or all of its ways to the prediction."""
    inputs, targets = data
    own, other = model.features(inputs), model.features(replace(inputs, 1))  # (n, T, d_model) each
    cases = {
        "none": (own, own, own),
        "residual": (other, own, own),
        "query": (own, other, own),
        "key_value": (own, own, other),
        "all": (other, other, other),
    }
    found = {}
    for case, (last, query, keys) in cases.items():
        attended, _ = model.block.attention(query[:, -1:], keys)
        found[case] = F.mse_loss(model.predict(last[:, -1:], attended), targets).item()
    return found


def looks_by_frequency(
    model: Transformer, length: int, noise: float, generator: torch.Generator, n_f: int, n_each: int
) -> Tensor:
    """(H, n_f, T): mean weights by steps back for n_f frequencies, slow to fast, over n_each series of each."""
    f = torch.linspace(*FREQUENCIES, n_f).repeat_interleave(n_each)
    inputs, _ = sines(len(f), length, noise, generator, f)
    return looks(model, inputs).unflatten(1, (n_f, n_each)).mean(dim=2)


def silenced_factors(model: Transformer, data: Data) -> list[float]:
    """(H,): the error without a head, relative to the error with all."""
    return [error_on(silenced(model, h), data) / error_on(model, data) for h in range(model.block.attention.n_heads)]


@torch.no_grad()
def row_sum_error(model: Transformer, inputs: Tensor) -> float:
    """How far from 1 the weights of the last query sum up, mean over heads and series."""
    return (model.look(inputs)[1].sum(dim=-1) - 1).abs().mean().item()
