"""Recall by content: sequences of tokens that repeat, each with a period of its own.

What comes next is known from the second round on: find where the present token stood before, and name what followed it.
How far back that is differs from sequence to sequence, so no fixed distance helps. Olsson et al. 2022, "In-context
Learning and Induction Heads", found heads in large language models that do this.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common import precision  # noqa: F401 (float64 and one thread)
from common.attention import MultiHeadAttention, causal_mask
from common.experiments import Data
from common.positional_encoding import sinusoidal_encoding
from common.training import NO_TARGET

N_TOKENS, LENGTH = 16, 18
PERIODS, LONGER = (4, 9), (10, 15)  # smallest and largest period: in training, and in the test of what was never seen


def repeating(n: int, periods: tuple[int, int], generator: torch.Generator) -> Data:
    """n sequences (n, LENGTH) and at each position the token that follows, NO_TARGET in the first round (n, LENGTH).

    Within a round all tokens differ, so the answer is unique.
    """
    low, high = periods
    period = torch.randint(low, high + 1, (n, 1), generator=generator)
    rounds = torch.rand(n, N_TOKENS, generator=generator).argsort(dim=1)  # each token once, in a random order
    steps = torch.arange(LENGTH + 1)
    tokens = rounds.gather(1, steps % period)  # (n, LENGTH + 1)
    return tokens[:, :-1], tokens[:, 1:].masked_fill(steps[:-1] < period, NO_TARGET)


def there_and_back(n: int, period: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """n rounds of `period` tokens, each read forwards and then backwards: a b c d c b a, (n, 2 period - 1).

    And two answers at each position of the way back, NO_TARGET before it, both of the same shape: what followed the
    present token the last time, and the token that was not seen for longest. Where a round repeats they are the same.
    """
    there = torch.rand(n, N_TOKENS, generator=generator).argsort(dim=1)[:, :period]
    back = there.flip(1)
    before = torch.full_like(there, NO_TARGET)
    oldest = torch.cat([before, there[:, :1].expand(n, period - 2), there[:, -1:]], dim=1)
    return torch.cat([there, back[:, 1:]], dim=1), torch.cat([before, back[:, :-1]], dim=1), oldest


def token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of logits (n, T, N_TOKENS) where the next token is known."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=NO_TARGET)


@torch.no_grad()
def accuracy(predict, data: Data) -> float:
    """The share of the known next tokens that get the largest logit."""
    inputs, targets = data
    right = predict(inputs).argmax(dim=-1) == targets
    return right[targets != NO_TARGET].double().mean().item()


class Attentions(nn.Module):
    """Attention layers of one head, causal, with residuals: tokens (B, T) -> logits of the next ones (B, T, n_tokens)."""

    def __init__(self, n_layers: int, d_model: int = 32):
        super().__init__()
        self.embed, self.read_out = nn.Embedding(N_TOKENS, d_model), nn.Linear(d_model, N_TOKENS)
        self.layers = nn.ModuleList(MultiHeadAttention(d_model, n_heads=1) for _ in range(n_layers))
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(n_layers + 1))
        self.register_buffer("positions", sinusoidal_encoding(LENGTH, d_model))

    def forward(self, tokens: Tensor, first: Tensor | None = None) -> Tensor:
        return self.look(tokens, first)[0]

    def look(self, tokens: Tensor, first: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """The logits and each layer's weights (B, 1, T, T); `first` is a mask for the first layer, besides the causal one."""
        causal, seen = causal_mask(tokens.shape[1]), []
        x = self.embed(tokens) + self.positions[: tokens.shape[1]]  # (B, T, d_model)
        for layer, norm in zip(self.layers, self.norms, strict=False):
            mask = causal if first is None or seen else causal & first
            attended, weights = layer(norm(x), mask=mask)
            x, seen = x + attended, [*seen, weights]
        return self.read_out(self.norms[-1](x)), seen


class TokenGRU(nn.Module):
    """nn.GRU on the same task: tokens (n, T) -> logits (n, T, N_TOKENS)."""

    def __init__(self, d_model: int = 32, n_hidden: int = 64):
        super().__init__()
        self.embed, self.read_out = nn.Embedding(N_TOKENS, d_model), nn.Linear(n_hidden, N_TOKENS)
        self.layer = nn.GRU(d_model, n_hidden, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.read_out(self.layer(self.embed(tokens))[0])
