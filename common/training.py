"""The one training loop of the suite."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from common import precision  # noqa: F401 (float64 and one thread)
from common.progress import progress

NO_TARGET = -100  # where there is nothing to name: F.cross_entropy leaves it out of the loss


def train(
    model: nn.Module,
    loss_at: Callable[[int], Tensor],
    n_steps: int,
    *,
    lr: float,
    label: str = "training",
    warmup: float = 0.1,
    cycle_momentum: bool = True,
    beta_2: float = 0.999,
) -> list[float]:
    """AdamW with gradients clipped to norm 1 and a one-cycle schedule: warm-up from lr / 25 to `lr`, then a cosine to 0.

    Args:
        model: its parameters are trained in place; it is left in evaluation mode.
        loss_at: the loss of step i, a scalar tensor.
        n_steps: the number of steps.
        lr: the highest learning rate.
        label: says what is trained while one waits; "" is silent, for one of many trainings.
        warmup: share of the steps that warm up; 0 starts at the full rate, and the same cosine follows.
        cycle_momentum: whether Adam's first beta takes the opposite way, from 0.95 to 0.85 and back; otherwise it is 0.9.
        beta_2: how long AdamW remembers squared gradients; runs of a thousand steps gain from less than the default.

    Returns:
        the loss of each step.
    """
    # foreach: all parameters in one go, about a quarter faster for small models
    optimizer = PlainAdamW(model.parameters(), lr=lr, betas=(0.9, beta_2), foreach=True)
    warmup = float(warmup) if warmup * n_steps > 1 else 0.0  # OneCycleLR divides by zero at exactly one step
    schedule = OneCycleLR(optimizer, lr, total_steps=n_steps, pct_start=warmup, cycle_momentum=cycle_momentum)
    model.train()
    losses = []
    for step in progress(range(n_steps), label):
        optimizer.zero_grad()
        loss = loss_at(step)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())  # a number: a tensor would keep memory of its step from being given back
    model.eval()
    return losses


class PlainAdamW(torch.optim.AdamW):
    """torch's AdamW, without the second that its first step spends on loading a compiler that is not used here.

    Three methods carry decorators that only tell the compiler (torch.compile) to leave them alone; they are taken off.
    """

    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.AdamW.zero_grad)
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))
