"""Trainings that are compared: every network on the same data, for the same number of steps, from the same seeds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import mean
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common import precision  # noqa: F401 (float64 and one thread)
from common.training import train

Data = tuple[Tensor, Tensor]  # inputs (n, T) and the values that follow (n,)
Makers = Mapping[str, Callable[[], nn.Module]]  # how each network is made


class Run(NamedTuple):
    """One trained model: its mean squared error on test data, the loss of each step, and its training's wall-clock time."""

    model: nn.Module
    mse: float
    losses: list[float]
    seconds: float


def fit(make: Callable[[], nn.Module], data: Data, test: Data, batch: int, lr: float, seed: int) -> Run:
    """Train a new model on `data`, each sequence once."""
    torch.manual_seed(seed)
    model, (inputs, targets), start = make(), (x.split(batch) for x in data), time.perf_counter()

    def loss_at(step: int) -> Tensor:
        return F.mse_loss(model(inputs[step]), targets[step])

    losses = train(model, loss_at, len(inputs), lr=lr, beta_2=0.95, label=f"training, {type(model).__name__}")
    seconds = time.perf_counter() - start
    return Run(model, error_on(model, test), losses, seconds)


def fit_all(
    networks: Makers,
    draw: Callable[..., Data],
    rates: Mapping[str, float],
    seeds: Sequence[int],
    n_steps: int,
    test: Data | int,
    batch: int = 64,
) -> dict[str, list[Run]]:
    """Train each of the networks once for each seed, all on the same data.

    Args:
        networks: how each is made.
        draw: draw(n, generator=...) gives n new sequences.
        rates: the learning rate of each network.
        seeds: one for each start; it decides the data and the first weights.
        n_steps, batch: number of steps, and sequences a step.
        test: the test data, or how many sequences are drawn for it after the training data.
    """
    runs = {name: [] for name in networks}
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        data = draw(n_steps * batch, generator=generator)
        unseen = draw(test, generator=generator) if isinstance(test, int) else test
        for name, make in networks.items():
            runs[name].append(fit(make, data, unseen, batch, rates[name], seed))
    return runs


def try_rates(
    networks: Makers, rates: Sequence[float], data: Data, validation: Data, seeds: Sequence[int]
) -> dict[str, dict[float, float]]:
    """For each network and each of the rates: the error on validation data after training on `data`, mean over the seeds."""
    return {
        name: {lr: mean(fit(make, data, validation, 64, lr, seed).mse for seed in seeds) for lr in rates}
        for name, make in networks.items()
    }


def mse(prediction: Tensor, targets: Tensor) -> float:
    """Mean squared error."""
    return (prediction - targets).double().pow(2).mean().item()


@torch.no_grad()
def error_on(predict: Callable[[Tensor], Tensor], data: Data) -> float:
    """Mean squared error of a model, or of any function of the inputs."""
    inputs, targets = data
    return mse(predict(inputs), targets)


def errors_of(runs: Mapping[str, Sequence[Run]]) -> dict[str, list[float]]:
    """The test error of every start."""
    return {name: [run.mse for run in some] for name, some in runs.items()}


def losses_of(runs: Mapping[str, Sequence[Run]]) -> dict[str, np.ndarray]:
    """The loss of every start at every step, (seeds, steps)."""
    return {name: np.array([run.losses for run in some]) for name, some in runs.items()}


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's: 1 if both have the same order, 0 if the orders have nothing in common, -1 if they are opposite."""
    ranks = [np.argsort(np.argsort(np.asarray(x))) for x in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])
