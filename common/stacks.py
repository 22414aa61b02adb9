"""Stacks of Transformer blocks for Lab 4: their gradient at every depth, and a small task on which many can be trained.

The task: eight values of a sine of random amplitude, frequency and phase; what is the ninth?
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.positional_encoding import sinusoidal_encoding
from common.training import train
from common.transformer import TransformerBlock

N_STEPS, BATCH = 8, 16
FAILED = 0.9  # a run that ends above this share of the loss of predicting the mean has failed


def make_stack(n_blocks: int, norm: str, d_model: int = 32, **options) -> nn.ModuleList:
    """Fresh blocks with two heads and norm "post", "pre" or "none", that is, without any normalisation.

    After the same torch.manual_seed all three get the same weights.
    """
    kind = "post" if norm == "none" else norm
    blocks = nn.ModuleList(TransformerBlock(d_model, 2, norm=kind, **options) for _ in range(n_blocks))
    for block in blocks if norm == "none" else ():
        block.norm_1, block.norm_2 = nn.Identity(), nn.Identity()
    return blocks


class SineModel(nn.Module):
    """(B, N_STEPS, 1) -> (B,): a stack of blocks, read at its last position. Pre-norm ends with a LayerNorm, as in GPT-2."""

    def __init__(self, n_blocks: int, norm: str, activation: str = "gelu", d_model: int = 32):
        super().__init__()
        self.embedding = nn.Linear(1, d_model)
        self.blocks = make_stack(n_blocks, norm, d_model, d_ff=2 * d_model, activation=activation)
        self.last_norm = nn.LayerNorm(d_model) if norm == "pre" else nn.Identity()
        self.to_value = nn.Linear(d_model, 1)

    def embed(self, x: Tensor) -> Tensor:
        """(B, N_STEPS, 1) -> (B, N_STEPS, d_model)"""
        return self.embedding(x) + sinusoidal_encoding(N_STEPS, self.embedding.out_features)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x, _ = block(x)
        return self.to_value(self.last_norm(x)[:, -1]).squeeze(-1)


def sines(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """x (n, N_STEPS, 1) and the value that follows (n,)."""
    amplitude, frequency, phase = torch.rand(3, n, 1, generator=generator)  # (n, 1) each
    angle = (0.2 + 0.6 * frequency) * torch.arange(N_STEPS + 1) + 2 * math.pi * phase  # (n, N_STEPS + 1)
    y = (0.5 + amplitude) * angle.sin()
    return y[:, :-1, None], y[:, -1]


def train_sines(model: SineModel, seed: int, n_steps: int, *, lr: float, warmup: float = 0.1) -> list[float]:
    """Train a model to name the next value, on BATCH new sines a step. Returns the loss of each step."""
    x, y = (part.split(BATCH) for part in sines(n_steps * BATCH, torch.Generator().manual_seed(seed)))

    def loss_at(step: int) -> Tensor:
        return F.mse_loss(model(x[step]), y[step])

    return train(model, loss_at, n_steps, lr=lr, warmup=warmup, cycle_momentum=False, label="")


@torch.no_grad()
def sine_loss(model: SineModel, test: tuple[Tensor, Tensor]) -> float:
    """Mean squared error on test sines; where it is not finite, that of predicting their mean."""
    x, y = test
    loss = F.mse_loss(model(x), y).item()
    return loss if math.isfinite(loss) else y.var(unbiased=False).item()


def measure_schedule(
    norm: str, rate: float, warmup: float, seed: int, test: tuple[Tensor, Tensor], n_blocks: int, n_steps: int
) -> dict[str, Any]:
    """Train one stack: its "loss" on the test sines; whether it "diverged", that is, FAILED; and its training "curve"."""
    torch.manual_seed(seed)
    model = SineModel(n_blocks, norm)
    steps = train_sines(model, seed, n_steps, lr=rate, warmup=warmup)
    loss = sine_loss(model, test)
    return {"loss": loss, "diverged": loss > FAILED * test[1].var(unbiased=False).item(), "curve": steps}


# --- units that have died -------------------------------------------------------------------------------------------


def measure_units(model: SineModel, x: Tensor) -> dict[str, float]:
    """Shares of the hidden units of the first block: "silent", never above 0 on any token of x, and "dead", with a slope
    of the activation below 0.01 on every token, so that hardly any gradient reaches their weights."""
    block = model.blocks[0]
    first, activation = block.feed_forward[0], block.feed_forward[1]
    z = first(block.stages(model.embed(x))["norm 1"]).flatten(0, 1).detach().requires_grad_()  # (B T, d_ff)
    (slope,) = torch.autograd.grad(activation(z).sum(), z)
    silent, dead = z.amax(dim=0) <= 0, slope.abs().amax(dim=0) < 0.01
    return {"silent": silent.double().mean().item(), "dead": dead.double().mean().item()}


def measure_activation(activation: str, rate: float, seed: int, n_steps: int, test: tuple[Tensor, Tensor]) -> dict[str, float]:
    """`measure_units` of one post-norm block, "untrained" and after training; and the "loss" on the test sines."""
    torch.manual_seed(seed)
    model = SineModel(1, "post", activation)
    before = measure_units(model, test[0])["dead"]
    train_sines(model, seed, n_steps, lr=rate)
    return {"untrained": before} | measure_units(model, test[0]) | {"loss": sine_loss(model, test)}


# --- gradients and tokens by depth ----------------------------------------------------------------------------------


def xavier(blocks: nn.ModuleList) -> nn.ModuleList:
    """Draw all matrices anew as nn.Transformer does: uniform, variance 2 / (inputs + outputs). Changes the blocks in place.

    Source: Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks".
    """
    for parameter in blocks.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    return blocks


def similarity(x: Tensor) -> float:
    """Mean cosine between two different tokens of a sequence, x (B, T, d): 1 if all point the same way."""
    unit, n = F.normalize(x, dim=-1), x.shape[1]
    all_pairs = unit.sum(dim=1).square().sum(dim=-1)  # (B,): |u_1 + ... + u_n|^2 is the sum over all pairs u_i . u_j
    return ((all_pairs - n) / (n * (n - 1))).mean().item()


def measure_stack(blocks: Sequence[nn.Module], x: Tensor, top: Tensor, depths: Sequence[int]) -> dict[str, Any]:
    """For the first n blocks, n in depths: the "gradient" left at the bottom, {n: |top^T dy_n/dx| / |top|}. After 0, 1, ...
    blocks: the "similarity" of the tokens."""
    gradients, levels = gradients_by_depth(blocks, x, top, depths)
    return {
        "gradient": {n: (g.norm() / top.norm()).item() for n, g in zip(depths, gradients, strict=True)},
        "similarity": [similarity(level) for level in levels],
    }


def measure_depth(seed: int, depths: Sequence[int], d_model: int, start: str = "default") -> dict[tuple[str, str], dict]:
    """`measure_stack` of untrained stacks without normalisation ("none"), post-norm and pre-norm, each with ("residual") and
    without ("plain") residuals, the same weights; `start` is torch's "default" or "xavier"."""
    found = {}
    for norm in ("none", "post", "pre"):
        torch.manual_seed(seed)
        x, top = torch.randn(2, 2, 12, d_model)  # (2, 12, d_model) each
        blocks = make_stack(depths[-1], norm, d_model)
        if start == "xavier":
            xavier(blocks)
        for kind in ("residual", "plain"):
            for block in blocks:
                block.residual = kind == "residual"
            found[norm, kind] = measure_stack(blocks, x, top, depths)
    return found


def gradients_by_depth(
    blocks: Sequence[nn.Module], x: Tensor, top: Tensor, depths: Sequence[int]
) -> tuple[list[Tensor], list[Tensor]]:
    """What a backward pass from the top of the first n blocks leaves at the bottom, for each n in `depths`.

    Args:
        blocks: each returns its output and something more, as a TransformerBlock does.
        x: (B, T, d_model), the input of the first.
        top: like x, the gradient that enters at the top.
        depths: numbers of blocks, at most len(blocks).

    Returns:
        for each n in `depths` the gradient of (y_n * top).sum() with respect to x, y_n being the output of the first n blocks;
        and y_0, y_1, ... of all of them.
    """
    copies = x.repeat(len(depths), 1, 1).requires_grad_()  # one for each depth, so that one backward pass does for all
    levels = [copies]
    for block in blocks:
        levels.append(block(levels[-1])[0])
    entering = [(levels[n].chunk(len(depths))[i] * top).sum() for i, n in enumerate(depths)]
    gradients = torch.autograd.grad(sum(entering), copies)[0].chunk(len(depths))
    return list(gradients), [level[: len(x)].detach() for level in levels]
