"""Noisy sines to continue, the linear formula for the next value, and the best that can be done.

y(t) = A sin(f t + phi) + noise; amplitude, frequency and phase are new in every sequence. The next value is predicted with
its noise, so no prediction can have a mean squared error below the noise's variance.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from common.experiments import Data, mse

AMPLITUDES, FREQUENCIES = (0.5, 1.5), (0.2, 1.0)  # uniform; f in radians a step: periods of 6 to 31 steps


def sines(n: int, length: int, noise: float, generator: torch.Generator, f: Tensor | None = None) -> Data:
    """n sequences of `length` inputs and the value that follows; with the frequencies f (n,) if given."""
    a, any_f, phi = torch.rand(3, n, 1, generator=generator, dtype=torch.float64)  # (n, 1) each
    a, any_f = (low + (high - low) * x for x, (low, high) in ((a, AMPLITUDES), (any_f, FREQUENCIES)))
    angle = (any_f if f is None else f[:, None]) * torch.arange(length + 1)  # (n, length + 1)
    y = angle.add_(2 * math.pi * phi).sin_().mul_(a)  # (in place: this is the largest array of the lab)
    y.add_(torch.randn(y.shape, generator=generator), alpha=noise)
    return y[:, :-1].contiguous(), y[:, -1].contiguous()


def curve_fit(inputs: Tensor, n_grid: int = 200, n_steps: int = 10) -> Tensor:
    """(n, T) -> (n,): continue the sine that fits each sequence best, by non-linear least squares.

    This is the limit of the score card. It knows that the curve is a sine with f in FREQUENCIES, and nothing about A and
    phi. Given f, a sin(f t) + b cos(f t) is linear in a and b; so f comes from a grid, by the smallest error that is left,
    and is refined by Gauss-Newton steps. With Gaussian noise this is the maximum-likelihood fit. It is not a strict bound:
    the posterior mean also uses how A, f and phi are drawn. At noise 0.1 that gains less than 2 % (see the tests); where
    noise drowns the sine, it gains more.
    """
    x, t = inputs.double().numpy(), np.arange(inputs.shape[1])
    grid = np.linspace(*FREQUENCIES, n_grid)
    bases = (np.linalg.qr(np.stack([np.sin(f * t), np.cos(f * t)], axis=1))[0] for f in grid)  # (T, 2) each
    f = grid[np.argmax([((x @ basis) ** 2).sum(axis=1) for basis in bases], axis=0)]  # (n,)
    for _ in range(n_steps):
        (a, b), (sine, cosine) = fit_amplitudes(x, f)
        jacobian = np.stack([sine, cosine, t * (a * cosine - b * sine)], axis=2)  # d fit / d (a, b, f): (n, T, 3)
        residual = x - a * sine - b * cosine  # (n, T)
        f = np.clip(f + (np.linalg.pinv(jacobian) @ residual[..., None])[:, 2, 0], *FREQUENCIES)
    (a, b), _ = fit_amplitudes(x, f)
    return torch.from_numpy(a[:, 0] * np.sin(f * len(t)) + b[:, 0] * np.cos(f * len(t)))


def fit_amplitudes(x: np.ndarray, f: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the best a sin(f t) + b cos(f t) for each of x (n, T): a and b (2, n, 1), the sines and the cosines (2, n, T)."""
    angle = f[:, None] * np.arange(x.shape[1])
    basis = np.stack([np.sin(angle), np.cos(angle)])  # (2, n, T)
    return (np.linalg.pinv(basis.transpose(1, 2, 0)) @ x[..., None]).transpose(1, 0, 2), basis


def least_squares(inputs: Tensor, targets: Tensor) -> Tensor:
    """(T,): the weights of the best linear formula for the next value."""
    return torch.linalg.lstsq(inputs.double(), targets.double()[:, None]).solution[:, 0]


def baselines(data: Data, test: Data) -> dict[str, float]:
    """Errors on `test` of what needs no network; the linear formula is fitted to `data`."""
    inputs, targets = test
    weights = least_squares(*data)  # (T,)
    linear = mse(inputs @ weights, targets)
    linear = float(f"{linear:.2g}") if linear < 1e-9 else linear  # nothing but rounding, whose digits depend on the memory
    return {"zero": mse(0 * targets, targets), "last": mse(inputs[:, -1], targets), "linear": linear}
