"""The training loop: torch's AdamW to the last bit, and what the labs rely on."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from common.training import PlainAdamW, train
from conftest import ROOT


def trained_by(optimizer: type[torch.optim.Optimizer], n_steps: int = 7) -> list[torch.Tensor]:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)), torch.randn(11, 3)
    steps = optimizer(model.parameters(), lr=0.1, betas=(0.8, 0.95), weight_decay=0.3, foreach=True)
    for _ in range(n_steps):
        steps.zero_grad()
        model(x).square().mean().backward()
        steps.step()
    return [parameter.detach() for parameter in model.parameters()]


def test_the_optimizer_is_torchs_adamw_to_the_last_bit():
    for ours, theirs in zip(trained_by(PlainAdamW), trained_by(torch.optim.AdamW), strict=True):
        assert torch.equal(ours, theirs)


def test_training_does_not_load_torchs_compiler():
    """It would take a second in every process; a lab in --fast mode takes four in all."""
    code = """
import sys, torch
from common.training import train
model = torch.nn.Linear(3, 1)
train(model, lambda i: model(torch.ones(2, 3)).mean(), 3, lr=0.1)
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("n_steps", [1, 2, 9, 10, 11, 20])
def test_any_number_of_steps_trains(n_steps):
    """Ten steps are the odd case: a tenth of warm-up is then exactly one step."""
    torch.manual_seed(0)
    model, seen = nn.Linear(3, 1), []
    x, y = torch.randn(64, 3), torch.randn(64, 1)

    def loss_at(step: int) -> torch.Tensor:
        seen.append(step)
        return (model(x) - y).square().mean()

    losses = train(model, loss_at, n_steps, lr=0.03)
    assert seen == list(range(n_steps)) and len(losses) == n_steps and not model.training
    assert all(isinstance(loss, float) for loss in losses) and losses == sorted(losses, reverse=True)


def test_gradients_are_clipped_to_norm_1():
    """A loss that is a million times as large in every other step moves the weights as the steady one does."""
    weights = []
    for scale in (1.0, 1e6):
        model = nn.Linear(3, 1)
        nn.init.ones_(model.weight)
        loss_at = lambda i, model=model, scale=scale: scale ** (i % 2) * model(torch.ones(1, 3)).sum()  # noqa: E731
        train(model, loss_at, 6, lr=0.1)
        weights.append(model.weight.detach())
    torch.testing.assert_close(*weights)
