"""Training and measuring a reader: a model that answers questions about sentences of the toy language."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.toy_language import Sentence, encode, role_words, sentences
from common.training import train


def train_reader(reader: nn.Module, roles: Sequence[str], n_steps: int, seed: int, n_batch: int = 64) -> None:
    """Train it to name the answers to all its questions in new sentences, one question for each of the `roles`:
    reader(tokens (B, T), lengths (B,)) -> scores (B, roles, vocabulary), weights (B, roles, T)."""
    asked = sentences(n_steps * n_batch, seed, held_out=False)
    tokens, lengths = encode(sentence.words for sentence in asked)
    _, answers = role_words(asked, roles)  # (B, roles)

    def loss_at(step: int) -> Tensor:
        batch = slice(step * n_batch, (step + 1) * n_batch)
        scores, _ = reader(tokens[batch], lengths[batch])
        return F.cross_entropy(scores.flatten(0, 1), answers[batch].flatten())  # unanswerable questions do not count

    train(reader, loss_at, n_steps, lr=1e-2, label="training the reader")


@torch.no_grad()
def measure_reader(reader: nn.Module, roles: Sequence[str], test: Sequence[Sentence]) -> dict[str, float]:
    """Over all answerable questions the share answered rightly ("accuracy"), and the mean "weight" on the place of the answer,
    beside what an even spread over the sentence would give it ("even_weight")."""
    tokens, lengths = encode(sentence.words for sentence in test)
    places, answers = role_words(test, roles)  # (B, roles) each
    scores, weights = reader(tokens, lengths)  # (B, roles, vocabulary), (B, roles, T)
    asked = places >= 0  # (B, roles)
    on_answer = weights.gather(2, places.clamp(min=0)[..., None]).squeeze(2)  # (B, roles)
    even = (1 / lengths)[:, None].expand_as(asked)
    right = (scores.argmax(dim=-1) == answers)[asked].float().mean().item()
    return {"accuracy": right, "weight": on_answer[asked].mean().item(), "even_weight": even[asked].mean().item()}
