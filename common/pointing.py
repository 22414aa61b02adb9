"""Two tasks that ask where a token stands, and the one-layer model that Lab 3 trains on them, once with each encoding.

    back      any tokens; asked is, at each position, the token `offset` steps back
    recent    letters among blanks; asked is, at each blank, the most recent letter

All models share their first weights, data and learning rate; they differ in the encoding alone. With SHIFTED, the
positions start to count elsewhere in each step of training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.attention import MultiHeadAttention, causal_mask, scaled_dot_product_attention
from common.positional_encoding import (
    LearnedEncoding,
    RelativeBias,
    alibi_bias,
    linear_encoding,
    rotary,
    sinusoidal_encoding,
)
from common.progress import progress
from common.training import NO_TARGET, train

D_MODEL, N_HEADS = 32, 4
VOCABULARY = 16
BATCH, LEARNING_RATE = 16, 1e-2
LETTER_RATE = 0.15  # of the places in "recent"
TASKS = {"back": "name the token {} back", "recent": "name the most recent letter"}
ENCODINGS = {  # what a model may have, and what tables and figures call it
    "none": "none",
    "linear": "linear",
    "learned": "learned",
    "sinusoidal": "sinusoidal",
    "relative": "relative bias",  # clipped: from Trial.clip on all distances share one number
    "relative_all": "relative bias, no clip",  # a number for every distance
    "rope": "RoPE",
    "alibi": "ALiBi",
}
RECENT = ("sinusoidal", "relative", "rope", "alibi")  # those that are trained on the second task, too
SHIFTED = "sinusoidal_shifted"  # in training its positions start anywhere up to the longest that is tested


@dataclass
class Trial:
    """What all encodings share: the length of the training sequences, and how much is trained and tested."""

    length: int
    offset: int
    n_steps: int
    n_test: int  # sequences, for each length

    @property
    def clip(self) -> int:
        """From this distance on the relative bias has one number for all."""
        return 2 * self.length // 3

    @property
    def lengths(self) -> list[int]:
        """Of the sequences on which it is tested: as long as in training, and 2, 4 and 8 times as long."""
        return [self.length * factor for factor in (1, 2, 4, 8)]

    def label(self, encoding: str) -> str:
        """What a figure's legend calls an encoding: the relative bias with its clip."""
        return ENCODINGS[encoding] + f", clip {self.clip}" * (encoding == "relative")


def sequences(task: str, n: int, length: int, offset: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Tokens (n, length), and the position of the token asked for at each position, -1 where nothing is asked.

    "back": any tokens; asked is the one `offset` back. "recent": letters (1, 2, ...) among blanks (0); asked, at each blank,
    is the most recent letter.
    """
    here = torch.arange(length).expand(n, length)
    if task == "back":
        return torch.randint(VOCABULARY, (n, length), generator=generator), (here - offset).clamp(min=-1)
    letters = torch.randint(1, VOCABULARY, (n, length), generator=generator)
    is_letter = torch.rand(n, length, generator=generator) < LETTER_RATE
    latest = here.masked_fill(~is_letter, -1).cummax(dim=-1).values
    return letters * is_letter, latest.masked_fill(is_letter, -1)


def guessing(task: str) -> float:
    """The accuracy of a guess."""
    return 1 / (VOCABULARY - (task == "recent"))  # no blank is asked for


def most_frequent(tokens: Tensor, offset: int) -> float:
    """How often the most frequent of the earlier tokens is the one `offset` back: as much as one can do without order.

    The present token itself is known not to be the answer, so it is not counted.
    """
    present = F.one_hot(tokens, VOCABULARY)
    counts = (present.cumsum(dim=1) - present)[:, offset:]  # (n, T - offset, VOCABULARY)
    return (counts.argmax(dim=-1) == tokens[:, :-offset]).double().mean().item()


class Pointer(nn.Module):
    """One layer of causal attention with one of the ENCODINGS (or SHIFTED), between embedding and read-out.

    The learned table has rows, and "relative_all" numbers, for 8 times the length of training; "relative" is clipped.
    """

    def __init__(self, encoding: str, trial: Trial):
        super().__init__()
        self.encoding = encoding
        self.longest = trial.lengths[-1]
        self.embedding = nn.Embedding(VOCABULARY, D_MODEL)
        self.norm_1 = nn.LayerNorm(D_MODEL)
        self.attention = (RotaryAttention if encoding == "rope" else MultiHeadAttention)(D_MODEL, N_HEADS)
        self.norm_2 = nn.LayerNorm(D_MODEL)
        self.readout = nn.Linear(D_MODEL, VOCABULARY)
        if encoding == "learned":  # after what all share, so that this starts from the same numbers
            self.table = LearnedEncoding(self.longest, D_MODEL)
        if encoding in ("relative", "relative_all"):
            self.relative = RelativeBias(N_HEADS, trial.clip if encoding == "relative" else self.longest)

    def forward(self, tokens: Tensor, first: int = 0, window: int | None = None) -> tuple[Tensor, Tensor]:
        """(B, T) -> logits (B, Tq, VOCABULARY) and weights (B, H, Tq, T) of the positions from `first` on. Keys `window` or
        more steps back are hidden."""
        n = tokens.shape[1]
        mask = causal_mask(n) if window is None else causal_mask(n).triu(1 - window)
        x, added, bias = self.embedding(tokens), self.added(n), self.bias(n)
        x = x if added is None else x + added  # (B, T, D_MODEL)
        normed = self.norm_1(x)
        bias = bias if bias is None else bias[:, first:]
        output, weights = self.attention(normed[:, first:], normed, mask=mask[first:], bias=bias)
        return self.readout(self.norm_2(x[:, first:] + output)), weights

    def added(self, n: int) -> Tensor | None:
        """What is added to the embeddings, (T, D_MODEL)."""
        if self.encoding == "learned":
            return self.table(n)
        if self.encoding in ("sinusoidal", SHIFTED):
            shifted = self.encoding == SHIFTED and self.training
            start = int(torch.randint(self.longest - n + 1, ())) if shifted else 0
            return sinusoidal_encoding(start + n, D_MODEL)[start:]
        return linear_encoding(n, D_MODEL) if self.encoding == "linear" else None

    def bias(self, n: int) -> Tensor | None:
        """What is added to the scores, (H, T, T)."""
        if self.encoding in ("relative", "relative_all"):
            return self.relative(n, n)
        return alibi_bias(N_HEADS, n) if self.encoding == "alibi" else None


def train_pointer(model: Pointer, task: str, trial: Trial, generator: torch.Generator) -> None:
    """Train a model to name what is asked for, at all positions at once."""
    tokens, asked = sequences(task, trial.n_steps * BATCH, trial.length, trial.offset, generator)
    targets = tokens.gather(1, asked.clamp(min=0)).masked_fill(asked < 0, NO_TARGET)
    tokens, targets = tokens.split(BATCH), targets.split(BATCH)

    def loss_at(step: int) -> Tensor:
        return F.cross_entropy(model(tokens[step])[0].flatten(0, 1), targets[step].flatten())

    train(model, loss_at, trial.n_steps, lr=LEARNING_RATE, label="")  # silent: run_trials shows its own progress


@torch.no_grad()
def evaluate(model: Pointer, task: str, length: int, trial: Trial, seed: int, window: int | None = None) -> dict:
    """On new sequences, over their last N = trial.length positions: the share of right answers ("accuracy"; "by_position",
    (N,)), and for the "head" that puts most on the token asked for its mean weight there ("on_asked") and all its mean
    "weights" among these positions (N, N)."""
    generator, first = torch.Generator().manual_seed(seed), length - trial.length
    tokens, asked = sequences(task, trial.n_test, length, trial.offset, generator)
    logits, weights = model(tokens, first, window)  # (n, N, VOCABULARY), (n, H, N, T)
    asked = asked[:, first:]  # (n, N)
    counted, at = (asked >= 0).double(), asked.clamp(min=0)
    right = (logits.argmax(dim=-1) == tokens.gather(1, at)) * counted  # (n, N)
    given = weights.gather(-1, at[:, None, :, None].expand(-1, N_HEADS, -1, 1)).squeeze(-1)  # (n, H, N)
    on_asked = (given * counted[:, None]).sum(dim=(0, 2)) / counted.sum()  # (H,)
    head = int(on_asked.argmax())
    return {
        "accuracy": (right.sum() / counted.sum()).item(),
        "by_position": right.mean(dim=0),
        "head": head,
        "on_asked": on_asked[head].item(),
        "weights": weights[:, head, :, first:].mean(dim=0),
    }


def accuracy_turned(
    model: Pointer, task: str, length: int, trial: Trial, seed: int, turn: Callable[[Tensor, int], Tensor]
) -> float:
    """Accuracy of a trained RoPE model whose queries and keys are turned in another way (see RotaryAttention)."""
    usual, model.attention.turn = model.attention.turn, turn
    right = evaluate(model, task, length, trial, seed)["accuracy"]
    model.attention.turn = usual
    return right


def run_trials(jobs: Sequence[tuple[str, str]], trial: Trial, seed_of: Callable[[str], int]) -> dict[tuple[str, str], dict]:
    """Train and test a model for each (task, encoding).

    Args:
        jobs: the pairs (task, encoding).
        trial: what they share.
        seed_of: gives the seed of what a text names, such as "weights" or "test back".

    Returns:
        for each pair the trained "model", its "tests" and its "accuracy" at trial.lengths, and its accuracy with a
        "window": at the longest again, with the keys hidden that are further away than any in training.
    """
    found = {}
    for task, encoding in progress(jobs, "models trained"):
        torch.manual_seed(seed_of("weights"))
        model = Pointer(encoding, trial)
        train_pointer(model, task, trial, torch.Generator().manual_seed(seed_of(task)))
        seed = seed_of(f"test {task}")
        tests = {length: evaluate(model, task, length, trial, seed) for length in trial.lengths}
        window = evaluate(model, task, trial.lengths[-1], trial, seed, window=trial.length)["accuracy"]
        accuracy = {length: test["accuracy"] for length, test in tests.items()}
        found[task, encoding] = {"model": model, "tests": tests, "accuracy": accuracy, "window": window}
    return found


class RotaryAttention(MultiHeadAttention):
    """Queries and keys are turned by their position (RoPE, Su et al. 2021, "RoFormer"); values stay as they are. The queries
    are the last of the keys.

    Attributes:
        turn: turn(x, first) turns x (..., T, d), which stand at `first`, first + 1, ...; another one may be put in its place.
    """

    def __init__(self, d_model: int, n_heads: int):
        super().__init__(d_model, n_heads)
        self.turn = rotary_from

    def forward(self, query: Tensor, key: Tensor, *, mask: Tensor, bias: None = None) -> tuple[Tensor, Tensor]:
        q, k, v = (self._split_heads(w(x)) for w, x in ((self.w_q, query), (self.w_k, key), (self.w_v, key)))
        q, k = self.turn(q, k.shape[-2] - q.shape[-2]), self.turn(k, 0)
        heads, weights = scaled_dot_product_attention(q, k, v, mask, bias=bias)
        return self.w_o(self._merge_heads(heads)), weights


def rotary_from(x: Tensor, first: int) -> Tensor:
    """RoPE for x (..., T, d) at the positions first, first + 1, ..."""
    return rotary(F.pad(x, (0, 0, first, 0)))[..., first:, :]  # the filling in front gives them their positions
