"""The Transformer block: self-attention, a feed-forward network, and what holds them together."""

from __future__ import annotations

from torch import Tensor, nn

from common.attention import MultiHeadAttention, check_size

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU}
NORMS = ("post", "pre")


class TransformerBlock(nn.Module):
    r"""One encoder block, post-norm (the 2017 paper) or pre-norm (GPT-2 and later).

    post:  h = LN(x + Attention(x)),   y = LN(h + FFN(h))
    pre:   h = x + Attention(LN(x)),   y = h + FFN(LN(h))
    FFN(h) = activation(h W_1 + b_1) W_2 + b_2, applied to each position alone.

    Args:
        d_model: features of a token.
        n_heads: number of heads; must divide d_model.
        d_ff: inner width of the feed-forward network, 4 * d_model by default.
        norm: "post" or "pre".
        activation: "gelu" or "relu".
        residual: False leaves out the two "x +", to show what they are for.
        dropout: share dropped in training: of the attention weights, inside the FFN and of both sub-layers' results.

    Raises:
        ValueError: an unknown norm or activation, a size below 1, or n_heads does not divide d_model.
        TypeError: a size that is not a whole number.

    Source: Vaswani et al. 2017, section 3; Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture".
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        d_ff: int | None = None,
        *,
        norm: str = "post",
        activation: str = "gelu",
        residual: bool = True,
        dropout: float = 0.0,
    ):
        super().__init__()
        d_ff = 4 * d_model if d_ff is None else d_ff
        check_size("d_ff", d_ff)
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {norm!r}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        self.norm, self.residual = norm, residual
        self.attention = MultiHeadAttention(d_model, n_heads, dropout=dropout)
        self.feed_forward = nn.Sequential(
            nn.Linear(d_model, d_ff), ACTIVATIONS[activation](), nn.Dropout(dropout), nn.Linear(d_ff, d_model)
        )
        self.norm_1 = nn.LayerNorm(d_model)
        self.norm_2 = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, T, d_model) -> (B, T, d_model) and the attention weights (B, H, T, T); mask as in attention."""
        stages, weights = self._flow(x, mask)
        return list(stages.values())[-1], weights

    def stages(self, x: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """Every intermediate result (B, T, d_model), in the order of the data flow: seven, the last is the output."""
        return self._flow(x, mask)[0]

    def _flow(self, x: Tensor, mask: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
        return self._post(x, mask) if self.norm == "post" else self._pre(x, mask)

    def _post(self, x: Tensor, mask: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
        attended, weights = self.attention(x, mask=mask)
        added = self._add(x, attended)
        normed = self.norm_1(added)
        transformed = self.feed_forward(normed)
        added_2 = self._add(normed, transformed)
        output = self.norm_2(added_2)
        names = ("input", "attention", "add 1", "norm 1", "feed-forward", "add 2", "norm 2")
        return dict(zip(names, (x, attended, added, normed, transformed, added_2, output), strict=True)), weights

    def _pre(self, x: Tensor, mask: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
        normed = self.norm_1(x)
        attended, weights = self.attention(normed, mask=mask)
        added = self._add(x, attended)
        normed_2 = self.norm_2(added)
        transformed = self.feed_forward(normed_2)
        output = self._add(added, transformed)
        names = ("input", "norm 1", "attention", "add 1", "norm 2", "feed-forward", "add 2")
        return dict(zip(names, (x, normed, attended, added, normed_2, transformed, output), strict=True)), weights

    def _add(self, x: Tensor, branch: Tensor) -> Tensor:
        branch = self.dropout(branch)
        return x + branch if self.residual else branch
