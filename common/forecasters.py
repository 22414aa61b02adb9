"""Two networks that continue a series: a Transformer, and a recurrent one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common import precision  # noqa: F401 (float64 and one thread)
from common.attention import MultiHeadAttention
from common.positional_encoding import sinusoidal_encoding
from common.transformer import TransformerBlock

D_MODEL, MAX_LENGTH = 32, 100


class Transformer(nn.Module):
    """(B, T) -> (B,): the next value of each series."""

    def __init__(
        self, n_heads: int = 4, *, depth: int = 1, positions: bool = True, attention: MultiHeadAttention | None = None
    ):
        super().__init__()
        self.embed, self.read_out = nn.Linear(1, D_MODEL), nn.Linear(D_MODEL, 1)
        self.lower = nn.ModuleList(TransformerBlock(D_MODEL, n_heads, d_ff=128) for _ in range(depth - 1))
        self.block = TransformerBlock(D_MODEL, n_heads, d_ff=128)
        self.block.attention = attention or self.block.attention
        self.register_buffer("positions", positions * sinusoidal_encoding(MAX_LENGTH, D_MODEL))

    def forward(self, y: Tensor) -> Tensor:
        return self.look(y)[0]

    def look(self, y: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The prediction (B,) and what the last position looks at (B, H, T); mask as in attention."""
        x = self.features(y)
        attended, weights = self.block.attention(x[:, -1:], x, mask=mask)  # (B, 1, d_model), (B, H, 1, T)
        return self.predict(x[:, -1:], attended), weights[:, :, 0]

    def features(self, y: Tensor) -> Tensor:
        """(B, T) -> (B, T, d_model), what enters the last block."""
        x = self.embed(y[..., None]) + self.positions[: y.shape[1]]  # (B, T, d_model)
        for block in self.lower:
            x, _ = block(x)
        return x

    def predict(self, last: Tensor, attended: Tensor) -> Tensor:
        """From the last position's features and what it attended to, (B, 1, d_model) each, to the next value (B,)."""
        h = self.block.norm_1(last + attended)
        h = self.block.norm_2(h + self.block.feed_forward(h))
        return self.read_out(h)[:, 0, 0]


@torch.no_grad()
def looks(model: Transformer, inputs: Tensor) -> Tensor:
    """(n, T) -> (H, n, T): the weights by steps back from the end, 1 to T."""
    return model.look(inputs)[1].transpose(0, 1).flip(-1)


class Recurrent(nn.Module):
    """nn.RNN or nn.GRU, and the top layer's last state to the next value: (B, T) -> (B,)."""

    def __init__(self, kind: type[nn.Module] = nn.RNN, n_hidden: int = 64, *, depth: int = 1, orthogonal: bool = False):
        super().__init__()
        self.layer = kind(1, n_hidden, num_layers=depth, batch_first=True)
        self.read_out = nn.Linear(n_hidden, 1)
        if orthogonal:
            nn.init.orthogonal_(self.layer.weight_hh_l0)
            nn.init.zeros_(self.layer.bias_hh_l0)
            nn.init.zeros_(self.layer.bias_ih_l0)

    def forward(self, y: Tensor) -> Tensor:
        states, _ = self.layer(y[..., None])  # (B, T, n_hidden)
        return self.read_out(states[:, -1])[:, 0]
