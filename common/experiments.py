"""Trainings that are compared: every network on the same data, for the same number of steps, from the same seed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common import precision  # noqa: F401 (float64 and one thread)
from common.training import train

Data = tuple[Tensor, Tensor]  # inputs (n, T) and what follows, (n,) or (n, T)
Makers = Mapping[str, Callable[[], nn.Module]]  # how each network is made
Loss = Callable[[Tensor, Tensor], Tensor]


class Run(NamedTuple):
    """One trained model: its error on test data, the loss of each step, and its training's wall-clock time."""

    model: nn.Module
    error: float
    losses: list[float]
    seconds: float


def fit(
    make: Callable[[], nn.Module], batches: Sequence[Data], test: Data, lr: float, seed: int, loss: Loss = F.mse_loss
) -> Run:
    """Train a new model, one step on each of the batches; its error is the loss on the test data.

    Args:
        make: makes the model, after the seed is set.
        batches: pairs of inputs (B, T) and targets, (B,) or (B, T).
        test: one such pair.
        lr: the highest learning rate; the schedule is that of `common.training.train`.
        seed: of the first weights.
        loss: of (prediction, targets), a scalar.
    """
    torch.manual_seed(seed)
    model, start = make(), time.perf_counter()

    def loss_at(step: int) -> Tensor:
        inputs, targets = batches[step]
        return loss(model(inputs), targets)

    losses = train(model, loss_at, len(batches), lr=lr, beta_2=0.95, label=f"training, {type(model).__name__}")
    seconds = time.perf_counter() - start
    with torch.no_grad():
        error = loss(model(test[0]), test[1]).item()
    return Run(model, error, losses, seconds)


def fit_all(
    networks: Makers,
    batches: Sequence[Data],
    test: Data,
    rates: Mapping[str, float],
    seed: int,
    loss: Loss = F.mse_loss,
) -> dict[str, Run]:
    """Train each of the networks, all on the same batches and from the same seed, each with its learning rate."""
    return {name: fit(make, batches, test, rates[name], seed, loss) for name, make in networks.items()}


def errors_of(runs: Mapping[str, Run]) -> dict[str, float]:
    """The test error of every network."""
    return {name: run.error for name, run in runs.items()}


def batches_of(data: Data, size: int) -> list[Data]:
    """The data in pieces of `size` sequences."""
    return list(zip(*(x.split(size) for x in data), strict=True))


def mse(prediction: Tensor, targets: Tensor) -> float:
    """Mean squared error."""
    return (prediction - targets).pow(2).mean().item()


@torch.no_grad()
def error_on(predict: Callable[[Tensor], Tensor], data: Data) -> float:
    """Mean squared error of a model, or of any function of the inputs."""
    inputs, targets = data
    return mse(predict(inputs), targets)


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's: 1 if both have the same order, 0 if the orders have nothing in common, -1 if they are opposite."""
    ranks = [np.argsort(np.argsort(np.asarray(x))) for x in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])
