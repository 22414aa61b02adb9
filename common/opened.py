"""What Lab 4 asks of a block that it opens up: its stages, its heads, its parameters, and who moves whom."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.toy_language import MaskedWordModel, Sentence, fill_gaps
from common.transformer import TransformerBlock


@torch.no_grad()
def measure_flow(block: TransformerBlock, x: Tensor) -> dict[str, dict[str, Tensor]]:
    """For each stage of x (1, T, d_model) its "features" (T, d_model) and each token's "mean" and "variance" over them (T,);
    after a norm also "plain_variance": the variance that the norm gives without its gamma and beta."""
    found, before = {}, None
    for name, batch in block.stages(x).items():
        features = batch[0]  # (T, d_model)
        mean, variance = features.mean(dim=-1), features.var(dim=-1, unbiased=False)  # (T,) each
        found[name] = {"features": features, "mean": mean, "variance": variance}
        if name.startswith("norm"):
            found[name]["plain_variance"] = F.layer_norm(before, before.shape[-1:]).var(dim=-1, unbiased=False)
        before = features
    return found


@torch.no_grad()
def measure_heads(model: MaskedWordModel, test: Sequence[Sentence]) -> dict[str, Tensor]:
    """Over sentences with a hidden verb: "accuracy" of its number; by head (H,) the "entropy" of the verb's attention, as a
    share of the largest possible, and its attention to the "subject"."""
    right, weights = fill_gaps(model, test, "agreement")  # (B,), (B, H, T)
    largest = torch.tensor([math.log(len(sentence.words)) for sentence in test])
    subjects = torch.tensor([sentence.at["subject"] for sentence in test])
    return {
        "accuracy": right.double().mean(),
        "entropy": (torch.special.entr(weights).sum(dim=-1) / largest[:, None]).mean(dim=0),
        "subject": weights[torch.arange(len(test)), :, subjects].mean(dim=0),
    }


def count_parameters(block: TransformerBlock) -> dict[str, int]:
    """The number of weights and biases in each part of a block."""
    parts = {"attention": [block.attention], "feed_forward": [block.feed_forward], "norms": [block.norm_1, block.norm_2]}
    return {name: sum(p.numel() for m in modules for p in m.parameters()) for name, modules in parts.items()}


@torch.no_grad()
def change_by_others(norm: nn.Module, texts: Sequence[Tensor], size: int, generator: torch.Generator, n: int) -> float:
    """Root mean square change of a sentence's normalised features when the size - 1 others of its batch are replaced.

    Args:
        norm: takes the tokens of all sentences of a batch, (tokens, d_model).
        texts: sentences, (T, d_model) each; the first n are watched, the others are drawn from the rest.
        size: sentences in a batch.
    """
    changes = []
    for text in texts[:n]:
        drawn = [torch.randint(n, len(texts), (size - 1,), generator=generator).tolist() for _ in range(2)]
        one, two = (norm(torch.cat([text, *(texts[i] for i in others)]))[: len(text)] for others in drawn)  # (T, d_model) each
        changes.append((one - two).square().mean())
    return torch.stack(changes).mean().sqrt().item()


def refuses(norm: nn.Module, tokens: Tensor) -> bool:
    """Whether the norm raises an error on these tokens."""
    try:
        norm(tokens)
    except ValueError:
        return True
    return False


def moved_by_one(layer: Callable[[Tensor], Tensor], x: Tensor, replaced: int, replacement: int) -> Tensor:
    """How far each token's output moves (T,), as a share of its length, when in x (1, T, d_model) the token number `replaced`
    gets the features of number `replacement`."""
    changed = x.clone()
    changed[:, replaced] = x[:, replacement]
    before, after = layer(x)[0], layer(changed)[0]  # (T, d_model) each
    return (after - before).norm(dim=-1) / before.norm(dim=-1)
