"""The Transformer block: self-attention, a feed-forward network, and what holds them together."""

from __future__ import annotations

import torch
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
        if self.norm == "post":
            attended, weights = self.attention(x, mask=mask)
            h = self.norm_1(self.add(x, attended))
            y = self.norm_2(self.add(h, self.feed_forward(h)))
        else:
            attended, weights = self.attention(self.norm_1(x), mask=mask)
            h = self.add(x, attended)
            y = self.add(h, self.feed_forward(self.norm_2(h)))
        return y, weights

    def add(self, x: Tensor, branch: Tensor) -> Tensor:
        """x + what a sub-layer made of it, the residual; the sub-layer's result alone if `residual` is False."""
        branch = self.dropout(branch)
        return x + branch if self.residual else branch

    def stages(self, x: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """Every intermediate result (B, T, d_model), in the order of the data flow: seven, the last is the output."""
        found = {"input": x}
        parts = {"attention": self.attention, "norm 1": self.norm_1, "feed-forward": self.feed_forward, "norm 2": self.norm_2}

        def keep(name: str, inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, Tensor]) -> None:
            sum_before = {"post": {"norm 1": "add 1", "norm 2": "add 2"}, "pre": {"norm 2": "add 1"}}[self.norm].get(name)
            if sum_before:
                found[sum_before] = inputs[0]
            found[name] = output[0] if isinstance(output, tuple) else output

        hooks = [part.register_forward_hook(lambda _, *io, name=name: keep(name, *io)) for name, part in parts.items()]
        try:
            y, _ = self(x, mask)
        finally:
            for hook in hooks:
                hook.remove()
        return found if self.norm == "post" else found | {"add 2": y}


def torch_block(block: TransformerBlock) -> nn.TransformerEncoderLayer:
    """nn.TransformerEncoderLayer with the weights of a GELU block, so that it gives the same output."""
    attention, first, second = block.attention, block.feed_forward[0], block.feed_forward[3]
    sizes, pre = (attention.d_model, attention.n_heads, first.out_features), block.norm == "pre"
    theirs = nn.TransformerEncoderLayer(*sizes, dropout=0.0, activation="gelu", batch_first=True, norm_first=pre)
    projections = (attention.w_q, attention.w_k, attention.w_v)
    theirs.self_attn.in_proj_weight.data = torch.cat([layer.weight.data for layer in projections])
    theirs.self_attn.in_proj_bias.data = torch.cat([layer.bias.data for layer in projections])
    ours = (attention.w_o, first, second, block.norm_1, block.norm_2)
    targets = (theirs.self_attn.out_proj, theirs.linear1, theirs.linear2, theirs.norm1, theirs.norm2)
    for target, source in zip(targets, ours, strict=True):
        target.load_state_dict(source.state_dict())
    return theirs
