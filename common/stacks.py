"""Stacks of Transformer blocks for Lab 4: their gradient at every depth, and a small task on which many can be trained.

The task: eight values of a sine of random amplitude, frequency and phase; what is the ninth?
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.positional_encoding import sinusoidal_encoding
from common.training import train
from common.transformer import TransformerBlock

N_STEPS, BATCH = 8, 16


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

    return train(model, loss_at, n_steps, lr=lr, warmup=warmup, cycle_momentum=False)


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
