"""Lab 3 - Positional encoding: how does attention learn where a word stands, and what can each way of telling it do?

You will see
  1. what attention without positions does to "i love you" and "you love i": the popular "same output" put right;
  2. the sinusoidal encoding: fast columns and slow columns;
  3. why sines: a step of k positions is one fixed matrix; and whether "similar" means "near";
  4. none, linear, learned, sinusoidal, relative bias, RoPE and ALiBi, trained on the same task: what each can point at;
  5. the same models, and a relative bias that is not clipped, on sequences 2, 4 and 8 times as long as in training, and
     on a second task.

Run it:      python 03_positional_encoding.py
Then try:    python 03_positional_encoding.py --out trial --offset 1
             python 03_positional_encoding.py --out trial --steps 1000   (minutes: what does more training change?)
It writes:   03_position_effect, 03_positional_encoding_sinusoidal, 03_relative_position, 03_encoding_comparison,
             03_extrapolation and 03_results.json
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that common/ is found from any folder
from common.command_line import Parser, whole_number  # isort: skip  (first: Ctrl-C then ends quietly while torch loads)
from common.lab import Lab, run  # isort: skip  (loads torch and matplotlib faster)

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from common.attention import MultiHeadAttention, causal_mask, scaled_dot_product_attention
from common.plotting import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, heatmap, panels, seed_band
from common.positional_encoding import (
    LearnedEncoding,
    RelativeBias,
    alibi_bias,
    linear_encoding,
    rotary,
    shift_matrix,
    sinusoidal_encoding,
)
from common.training import train

D_MODEL, N_HEADS = 32, 4


@contextmanager
def float64() -> Iterator[None]:
    """Layers and tables made inside are float64: what is equal then differs by 1e-15 or so."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


# %% 1. What attention without positions makes of a sentence
# "Without positions, i love you and you love i give the same output", one reads. But the output is a vector for each
# word. If the words change places, do the vectors change, or only their places? And what does their mean see?

FIRST = ("i", "love", "you")
ORDER = [2, 1, 0]  # the second sentence is the first in this order
SECOND = tuple(FIRST[i] for i in ORDER)
N_LAYERS = 20
CASES = ("without positions", "with positions", "without, causal mask")
COMPARED = {"same_word": "same word", "same_place": "same place (largest)", "pooled": "mean of the words"}


def measure_order() -> dict[str, Tensor]:
    """Outputs of N_LAYERS random layers for both sentences, (N_LAYERS, 2, 3, D_MODEL), in each of CASES."""
    found = {case: [] for case in CASES}
    with float64(), torch.no_grad():
        for _ in range(N_LAYERS):
            layer = MultiHeadAttention(D_MODEL, N_HEADS)
            words = 3 * torch.randn(len(FIRST), D_MODEL)  # 3: large enough that the words look at different words
            both = torch.stack([words, words[ORDER]])  # (2, 3, D_MODEL)
            found[CASES[0]].append(layer(both)[0])
            found[CASES[1]].append(layer(both + sinusoidal_encoding(len(FIRST), D_MODEL))[0])
            found[CASES[2]].append(layer(both, mask=causal_mask(len(FIRST)))[0])
    return {case: torch.stack(outputs) for case, outputs in found.items()}


def order_differences(outputs: Tensor) -> dict[str, Tensor]:
    """Largest difference of a feature between the sentences, for each layer and COMPARED; "words": word by word."""
    first, second = outputs[:, 0], outputs[:, 1]  # (N_LAYERS, 3, D_MODEL) each
    words = (second[:, ORDER] - first).abs().amax(dim=-1)  # (N_LAYERS, 3), ORDER being its own inverse
    same_place = (second - first).abs().amax(dim=(-2, -1))
    pooled = (second.mean(dim=-2) - first.mean(dim=-2)).abs().amax(dim=-1)
    return {"words": words, "same_word": words.amax(dim=-1), "same_place": same_place, "pooled": pooled}


def draw_order(found: dict[str, Tensor]) -> Figure:
    differences = {case: order_differences(found[case]) for case in CASES[:2]}
    without, changed = (different["same_word"][0].item() for different in differences.values())
    title = f'"{" ".join(SECOND)}" without positions: the same vectors in another order (difference {without:.0e}); '
    title += f"with positions the vector of each word changes (by up to {changed:.2f})"
    fig, axes = panels(title, (4, 4, 3), size=(14, 6.2), rows=2)
    limit = max(found[case][0].abs().max().item() for case in CASES[:2])
    for row, (case, different) in zip((axes[:3], axes[3:]), differences.items(), strict=True):
        for ax, words, output in zip(row, (FIRST, SECOND), found[case][0], strict=False):
            labels = {"rows": words, "row_label": "output of", "column_label": "feature"}
            image = heatmap(ax, output, signed=True, limit=limit, **labels)
            ax.set_title(f'"{" ".join(words)}" {case}')
        values = [*different["words"][0].tolist(), different["pooled"][0].item()]
        bars = row[2].barh(range(4), values, color=[BLUE] * 3 + [ORANGE], hatch=["", "", "", "//"])
        row[2].bar_label(bars, fmt="%.2g", padding=4)
        row[2].set_yticks(range(4), [*FIRST, "mean of all"])
        row[2].set(xlim=(0, 1.3 * changed), ylim=(3.5, -0.5), xlabel="largest difference", title="same word in both sentences")
    fig.colorbar(image, ax=axes[[1, 4]], label="value of a feature", fraction=0.05)
    return fig


def show_order(lab: Lab) -> None:
    lab.section("1. What attention without positions makes of a sentence")
    torch.manual_seed(lab.seed("order"))
    found = measure_order()
    differences = {case: order_differences(found[case]) for case in CASES}
    lab.say(
        f'"{" ".join(FIRST)}" against "{" ".join(SECOND)}": the largest difference of an output feature, in float64; '
        f"smallest to largest of {N_LAYERS} random layers with {N_HEADS} heads."
    )
    rows = [[c, *(f"{d[name].min():.2g} to {d[name].max():.2g}" for name in COMPARED)] for c, d in differences.items()]
    lab.table(["", *COMPARED.values()], rows)
    without, with_positions, causal = differences.values()
    lab.record("equivariance.max_difference", without["same_word"].max(), rtol=0, atol=1e-12)
    lab.record("pooled.max_difference", without["pooled"].max(), rtol=0, atol=1e-12)
    lab.record("same_place.min_difference", without["same_place"].min(), rtol=1e-3)
    for name in ("same_word", "pooled"):
        smallest = {"with_positions": with_positions[name].min(), "causal": causal[name].min()}
        lab.record_all(f"order.{name}.min_difference", smallest, rtol=1e-3)
    lab.say(
        '"The same output" is half of the truth. Without positions each word keeps its vector, to rounding, and takes it '
        f'to its new place: attention is equivariant. So another vector stands first and last ("{FIRST[1]}" alone has not '
        "moved); only the mean, as a classifier may use it, is blind to the order. With positions neither holds. Nor under "
        "a causal mask: each word then sees only the words before it, and those are others now. A mask is a bit of order too."
    )
    lab.figure(draw_order(found), "03_position_effect")


# %% 2. The sinusoidal encoding
# PE[pos, 2i] = sin(pos / 10000^(2i/d)), PE[pos, 2i+1] = cos(the same angle). Each pair of columns is the hand of a
# clock: the first race, the last hardly move.

N_POSITIONS = 96
SHOWN_PAIRS = (0, 3, 7, 15)


def measure_sinusoids() -> dict[str, np.ndarray | float]:
    """The table (96, 32), the turns of each pair of columns over it (16,), and the share of the squared distance between
    neighbouring positions that lies in the faster half of the columns."""
    table = sinusoidal_encoding(N_POSITIONS, D_MODEL).numpy()
    angles = np.unwrap(np.arctan2(table[:, 0::2], table[:, 1::2]), axis=0)  # (96, 16)
    steps = np.diff(table, axis=0) ** 2  # (95, 32)
    share = float(steps[:, : D_MODEL // 2].sum() / steps.sum())
    return {"table": table, "turns": (angles[-1] - angles[0]) / (2 * np.pi), "fast_share": share}


def draw_sinusoids(found: dict) -> Figure:
    table, turns = found["table"], found["turns"]
    title = f"Fast columns and slow ones: over {N_POSITIONS} positions the first pair turns {turns[0]:.1f} times, "
    title += f"the last {turns[-1]:.4f} times"
    fig, (whole, columns, rows) = panels(title, (4, 5, 5), size=(15, 6))
    image = heatmap(whole, table, row_label="position", column_label="column", signed=True, limit=1.0)
    fig.colorbar(image, ax=whole, label="value", location="bottom")
    whole.set_title("the whole table")
    styles = zip(SHOWN_PAIRS, (VERMILLION, ORANGE, GREEN, BLUE), ("-", "--", "-.", ":"), strict=True)
    for place, (pair, color, ls) in enumerate(styles):
        columns.plot(table[:, 2 * pair] - 2.8 * place, color=color, ls=ls)
        columns.text(0, 1.2 - 2.8 * place, f"column {2 * pair}: {turns[pair]:.2g} turns", color=color, fontweight="bold")
    columns.set(title="sine columns, all on the same scale", xlabel="position", yticks=[], ylim=(-9.7, 2.1))
    for position, color, marker in ((40, BLUE, "o"), (41, ORANGE, "^"), (80, GREY, "s")):
        sines = table[position, 0::2]
        rows.plot(range(0, D_MODEL, 2), sines, color=color, marker=marker, lw=1.5, label=f"position {position}")
    rows.set(title="single positions: neighbours differ in fast columns", xlabel="column (fast to slow)", ylim=(-1.1, 1.4))
    rows.legend(loc="upper center", ncols=3, columnspacing=1, handletextpad=0.4)
    return fig


def show_sinusoids(lab: Lab) -> None:
    lab.section("2. The sinusoidal encoding")
    found = measure_sinusoids()
    turns = found["turns"]
    rows = [[f"{2 * i}, {2 * i + 1}", f"{turns[i]:.3g}", f"{(N_POSITIONS - 1) / turns[i]:.0f}"] for i in SHOWN_PAIRS]
    lab.table(["pair of columns", f"turns over {N_POSITIONS} positions", "positions a turn"], rows)
    lab.record_all("sinusoidal.turns", {"first_pair": turns[0], "last_pair": turns[-1]}, rtol=1e-3)
    slow = lab.record("sinusoidal.pairs_below_one_turn", (turns < 1).sum(), rtol=0)
    share = lab.record("sinusoidal.fast_share", found["fast_share"], rtol=1e-4)
    lab.say(
        f"{slow:.0f} of the {D_MODEL // 2} pairs do not finish a turn. The faster half of the columns carries "
        f"{100 * share:.2f} % of the squared distance between neighbouring positions."
    )
    lab.figure(draw_sinusoids(found), "03_positional_encoding_sinusoidal")


# %% 3. Why sines: a step is one fixed matrix
# sin(a + b) and cos(a + b) are sums of sin(a) and cos(a) with factors that depend on b alone. So one matrix moves every
# position by k, and a head with its transpose in W_Q, which moves the query k back, has its largest score k steps back.

MANY = 1000  # positions on which the matrix is tried
SHOWN = 65  # distances in the figure
SHARPER = 30  # a head may also have larger weights in its W_Q: its scores times this


def measure_shift(offset: int, generator: torch.Generator) -> dict[str, Tensor | float]:
    """On MANY positions, in float64: the largest error of shift_matrix; what the best matrix leaves of random numbers; the
    scores (MANY, MANY) of queries shifted back by `offset`, and the share of queries that point there."""
    with float64():
        table = sinusoidal_encoding(MANY, D_MODEL)
        matrix, back = (shift_matrix(steps, D_MODEL) for steps in (offset, -offset))
        random = torch.randn(MANY, D_MODEL, generator=generator)
    scores = table @ back.T @ table.T / D_MODEL**0.5  # (MANY, MANY); back is the transpose of matrix
    return {
        "matrix": matrix,
        "error": (table[:-offset] @ matrix.T - table[offset:]).abs().max().item(),
        "random_left": unexplained(random, offset),
        "scores": scores,
        "pointing": (scores[offset:].argmax(dim=-1) == torch.arange(MANY - offset)).double().mean().item(),
    }


def unexplained(table: Tensor, offset: int) -> float:
    """Root mean square of table[pos + offset] - best matrix @ table[pos], relative to that of the table."""
    here, there = table[:-offset], table[offset:]
    left = there - here @ torch.linalg.lstsq(here, there).solution
    return (left.norm() / there.norm()).item()


def built_weight(scores: Tensor, offset: int, length: int, sharper: float = 1.0) -> float:
    """Mean weight on the key `offset` back of causal attention with these scores, for the last 24 queries of a sequence."""
    seen = (sharper * scores[:length, :length]).masked_fill(~causal_mask(length), -torch.inf)
    return seen.softmax(dim=-1).diagonal(-offset)[-24:].mean().item()


def measure_similarity(n: int = 200) -> dict[str, Tensor | int]:
    """The cosine of PE[0] and PE[distance], (n,); the first distance at which it is larger than one step nearer ("rise");
    and of all pairs of distances below SHOWN the one whose further position is more similar by the most ("near", "far")."""
    with float64():
        table = F.normalize(sinusoidal_encoding(n, D_MODEL), dim=-1)
    cosine = table @ table[0]  # (n,)
    gain = (cosine[:SHOWN] - cosine[:SHOWN, None]).triu()  # (near, far)
    near, far = divmod(int(gain.argmax()), SHOWN)
    return {"cosine": cosine, "rise": int((cosine.diff() > 0).nonzero()[0]) + 1, "near": near, "far": far}


def draw_shift(offset: int, shift: dict, similarity: dict) -> Figure:
    cosine, rise, near, far = similarity.values()
    title = f"One matrix moves every position by {offset} (error {shift['error']:.0e}), so a head can point {offset} back; but "
    title += f"similarity does not only fall: {cosine[near]:.2f} at distance {near}, {cosine[far]:.2f} at {far}"
    fig, (left, middle, right) = panels(title, (4, 4, 5.5), size=(15, 6.2))
    labels = {"row_label": f"column of PE[pos + {offset}]", "column_label": "column of PE[pos]"}
    image = heatmap(left, shift["matrix"][:12, :12], signed=True, limit=1, **labels)
    fig.colorbar(image, ax=left, label="factor", location="bottom", ticks=[-1, 0, 1])
    left.set_title("the matrix turns each pair by its own angle\n(first 12 of 32 columns)")
    scores = shift["scores"][:24, :24]
    fig.colorbar(heatmap(middle, scores, limit=scores.max().item()), ax=middle, label="score", location="bottom")
    middle.plot(scores[offset:].argmax(dim=-1), range(offset, 24), "kx", ms=6, mew=1.5)
    middle.set_title(f"scores of a head with the transpose in its W_Q\n(x: largest of a row, from row {offset})")
    right.plot(cosine[:SHOWN], color=BLUE)
    right.plot(range(rise), cosine[:rise], "o", color=BLUE, label=f"falls up to distance {rise - 1}")
    right.plot(rise, cosine[rise], "^", color=VERMILLION, ms=11, label=f"first rise, at distance {rise}")
    right.plot([near, far], cosine[[near, far]], "s--", color=ORANGE, ms=8, label=f"further off, more similar: {near}, {far}")
    right.set(title="similarity of two positions", xlabel="distance", ylabel="cosine", ylim=(min(0, cosine.min()), 1.03))
    right.legend(loc="upper right")
    return fig


def show_shift(lab: Lab, offset: int) -> None:
    lab.section("3. Why sines: a step is one fixed matrix")
    shift = measure_shift(offset, lab.generator("random table"))
    error = lab.record("shift.max_error", shift["error"], rtol=0, atol=1e-10)
    random = lab.record("shift.random_unexplained", shift["random_left"], rtol=0.01)
    pointing = lab.record("shift.pointing_share", shift["pointing"], rtol=1e-3)
    lab.say(
        f"shift_matrix({offset}) moves each of {MANY} positions by {offset}, with an error of at most {error:.0e}. Not every "
        f"table has such a matrix: of a random table of the same shape the best one (least squares) leaves {random:.2f} of the "
        f"root mean square unexplained. In W_Q the matrix would make a head look {offset} ahead. Its transpose, "
        f"shift_matrix({-offset}), gives the largest score to the key {offset} back at {100 * pointing:.1f} % of the positions."
    )
    lengths, rows = (24, 192, MANY), []
    for name, sharper in (("weight", 1), ("weight_sharper", SHARPER)):
        weights = {n: built_weight(shift["scores"], offset, n, sharper) for n in lengths}
        rows.append([f"times {sharper}", *lab.record_all(f"shift.{name}", weights, rtol=1e-3).values()])
    lab.table([f"weight {offset} back; keys:", *map(str, lengths)], rows)
    lab.say(
        f"The largest score is not yet most of the weight: the softmax shares it among all keys. With {SHARPER} times the "
        "scores, that is larger weights in W_Q, the head points at any length. So such a head exists. Whether training "
        "finds it, section 5 will show."
    )
    similarity = measure_similarity()
    cosine, rise, near, far = similarity.values()
    lab.record_all("similarity", {"first_rise_distance": rise, "near_distance": near, "far_distance": far}, rtol=0)
    shown = [1, 2, rise - 1, rise, 16, 32, 64, 128]
    lab.table(["distance", *map(str, shown)], [["similarity", *cosine[shown].tolist()]], digits=3)
    kept = {"before_rise": rise - 1, "at_rise": rise, "near": near, "far": far, "at_128": 128}
    kept = lab.record_all("similarity", {name: cosine[distance] for name, distance in kept.items()}, rtol=1e-4)
    lab.say(
        f"Near positions are similar, but similar positions need not be near: the cosine falls up to distance {rise - 1}, "
        f"is larger again at {rise}, and goes on in waves: {kept['near']:.2f} at {near}, {kept['far']:.2f} at {far}."
    )
    lab.figure(draw_shift(offset, shift, similarity), "03_relative_position")


# %% 4. Six encodings and none, trained on the same task
# Name the token k steps back: a task of nothing but order. One layer of causal attention, as in a language model (and
# in ALiBi's paper), with a LayerNorm before and after; the same first weights, data and learning rate for all.

VOCABULARY = 16
STYLES = {
    "none": {"color": GREY, "marker": "X", "ls": "-", "lw": 4, "ms": 10},
    "linear": {"color": PURPLE, "marker": "D", "ls": ":"},
    "learned": {"color": ORANGE, "marker": "s", "ls": "--"},
    "sinusoidal": {"color": BLUE, "marker": "o", "ls": "-"},
    "relative": {"color": GREEN, "marker": "^", "ls": "-"},
    "relative_all": {"color": GREEN, "marker": "^", "ls": ":", "mfc": "white", "ms": 8},  # a number for every distance
    "rope": {"color": SKY, "marker": "v", "ls": "--"},
    "alibi": {"color": VERMILLION, "marker": "P", "ls": "-."},
}
NAMES = {name: name for name in STYLES} | {"relative": "relative bias", "rope": "RoPE", "alibi": "ALiBi"}
NAMES["relative_all"] = "relative bias, no clip"
SIX_AND_NONE = [encoding for encoding in STYLES if encoding != "relative_all"]  # that one joins in section 5
UNNORMED = "linear without LayerNorm"
TASKS = {"back": "name the token {} back", "recent": "name the most recent letter"}
BATCH, LEARNING_RATE = 16, 2e-2
LETTER_RATE = 0.15  # in the second task, which section 5 explains


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
        return [self.length * factor for factor in (1, 2, 4, 8)]


class RotaryAttention(MultiHeadAttention):
    """Queries and keys are turned by their position (RoPE); values stay as they are. The queries are the last of the keys."""

    def forward(self, query: Tensor, key: Tensor, *, mask: Tensor, bias: None = None) -> tuple[Tensor, Tensor]:
        q, k, v = (self._split_heads(w(x)) for w, x in ((self.w_q, query), (self.w_k, key), (self.w_v, key)))
        before = k.shape[-2] - q.shape[-2]
        q = rotary(F.pad(q, (0, 0, before, 0)))[..., before:, :]  # the filling in front gives them their positions
        heads, weights = scaled_dot_product_attention(q, rotary(k), v, mask, bias=bias)
        return self.w_o(self._merge_heads(heads)), weights


class Pointer(nn.Module):
    """One layer of causal attention with one of the encodings (or UNNORMED), between embedding and read-out.

    The learned table has rows, and "relative_all" numbers, for 8 times the length of training; "relative" is clipped.
    """

    def __init__(self, encoding: str, trial: Trial):
        super().__init__()
        self.encoding = encoding
        self.embedding = nn.Embedding(VOCABULARY, D_MODEL)
        self.norm_1 = nn.Identity() if encoding == UNNORMED else nn.LayerNorm(D_MODEL)
        self.attention = (RotaryAttention if encoding == "rope" else MultiHeadAttention)(D_MODEL, N_HEADS)
        self.norm_2 = nn.LayerNorm(D_MODEL)
        self.readout = nn.Linear(D_MODEL, VOCABULARY)
        if encoding == "learned":  # after what all share, so that this starts from the same numbers
            self.table = LearnedEncoding(trial.lengths[-1], D_MODEL)
        if encoding in ("relative", "relative_all"):
            self.relative = RelativeBias(N_HEADS, trial.clip if encoding == "relative" else trial.lengths[-1])

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
        if self.encoding == "sinusoidal":
            return sinusoidal_encoding(n, D_MODEL)
        return linear_encoding(n, D_MODEL) if self.encoding in ("linear", UNNORMED) else None

    def bias(self, n: int) -> Tensor | None:
        """What is added to the scores, (H, T, T)."""
        if self.encoding in ("relative", "relative_all"):
            return self.relative(n, n)
        return alibi_bias(N_HEADS, n) if self.encoding == "alibi" else None


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


def train_pointer(model: Pointer, task: str, trial: Trial, generator: torch.Generator) -> None:
    tokens, asked = sequences(task, trial.n_steps * BATCH, trial.length, trial.offset, generator)
    targets = tokens.gather(1, asked.clamp(min=0)).masked_fill(asked < 0, -100)  # -100: left out of the loss
    tokens, targets = tokens.split(BATCH), targets.split(BATCH)

    def loss_at(step: int) -> Tensor:
        return F.cross_entropy(model(tokens[step])[0].flatten(0, 1), targets[step].flatten())

    train(model, loss_at, range(trial.n_steps), trial.n_steps, lr=LEARNING_RATE)


@torch.no_grad()
def evaluate(model: Pointer, task: str, length: int, trial: Trial, seed: int, window: int | None = None) -> dict:
    """On new sequences, over their last N = trial.length positions: the share of right answers ("accuracy"; "by_position",
    (N,)), and for the "head" that puts most on the token asked for its mean weight there ("on_asked") and all its mean
    "weights" among these positions (N, N)."""
    generator, first = torch.Generator().manual_seed(seed), length - trial.length
    tokens, asked = sequences(task, trial.n_test, length, trial.offset, generator)
    logits, weights = model(tokens, first, window)  # (n, N, VOCABULARY), (n, H, N, T)
    asked = asked[:, first:]  # (n, N)
    counted, at = (asked >= 0).float(), asked.clamp(min=0)
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


def run_trials(lab: Lab, trial: Trial, n_seeds: int) -> dict[tuple[str, str], list[dict]]:
    """For each (task, encoding) a dictionary a seed: the trained "model", its "tests" at trial.lengths, and "window", the
    longest again with the keys hidden that are further away than any in training."""
    jobs = [(task, encoding) for task in TASKS for encoding in STYLES] + [("back", UNNORMED)]
    found = {job: [] for job in jobs}
    for seed, (task, encoding) in lab.progress([(seed, job) for seed in range(n_seeds) for job in jobs], "training"):
        torch.manual_seed(lab.seed(f"weights {seed}"))
        model = Pointer(encoding, trial)
        train_pointer(model, task, trial, lab.generator(f"{task} {seed}"))
        test_seed = lab.seed(f"test {task} {seed}")
        tests = [evaluate(model, task, length, trial, test_seed) for length in trial.lengths]
        window = evaluate(model, task, trial.lengths[-1], trial, test_seed, window=trial.length)
        found[task, encoding].append({"model": model, "tests": tests, "window": window})
    return found


def over_seeds(runs: list[dict], name: str = "accuracy") -> np.ndarray:
    """(seeds, lengths): one of the numbers of `evaluate`."""
    return np.array([[test[name] for test in run["tests"]] for run in runs])


@torch.no_grad()
def linear_effect(models: list[Pointer], trial: Trial) -> float:
    """Largest change of a logit, in float64, when trained models lose their linear encoding."""
    tokens = torch.arange(trial.length)[None] % VOCABULARY
    worst = 0.0
    for model in models:
        variants = [Pointer(encoding, trial).double() for encoding in ("linear", "none")]
        for variant in variants:
            variant.load_state_dict(model.state_dict())
        worst = max(worst, (variants[0](tokens)[0] - variants[1](tokens)[0]).abs().max().item())
    return worst


def by_distance(runs: list[dict], furthest: int) -> list[float]:
    """Mean weight that the best head gives the keys 0, 1, ..., `furthest` back, at the length of training."""
    weights = torch.stack([run["tests"][0]["weights"] for run in runs]).mean(dim=0)  # (T, T)
    return [weights.diagonal(-distance)[furthest - distance :].mean().item() for distance in range(furthest + 1)]


@torch.no_grad()
def one_back(runs: list[dict], trial: Trial, generator: torch.Generator) -> dict[str, float]:
    """Mean weight that the best head gives the key 1 back, where it holds the query's own token and where another one."""
    tokens = sequences("back", 200, trial.length, trial.offset, generator)[0]
    same = tokens[:, 1:] == tokens[:, :-1]  # (200, T - 1)
    given = torch.stack([run["model"](tokens)[1][:, run["tests"][0]["head"]].diagonal(-1, 1, 2) for run in runs])
    return {"own_token": given[:, same].mean().item(), "other_token": given[:, ~same].mean().item()}


def most_frequent(tokens: Tensor, offset: int) -> float:
    """How often the most frequent of the tokens so far is the one `offset` back: what can be had without positions."""
    counts = F.one_hot(tokens, VOCABULARY).cumsum(dim=1)[:, offset:]  # (n, T - offset, VOCABULARY)
    return (counts.argmax(dim=-1) == tokens[:, :-offset]).float().mean().item()


def portrait(run: dict, length: int) -> tuple[Tensor, str]:
    """What the encoding adds, and to what: a table (T, D_MODEL), or the scores (T, T) of the best head."""
    model = run["model"]
    if model.encoding == "rope":
        turned = rotary(torch.ones(length, D_MODEL // N_HEADS))
        return turned @ turned.T / turned.shape[1] ** 0.5, "scores if all q, k are 1"
    if (bias := model.bias(length)) is not None:
        return bias[run["tests"][0]["head"]].detach(), "added to the scores"
    return model.added(length).detach(), "added to the embedding"


def comparison_title(means: dict[str, float], offset: int) -> str:
    able = [NAMES[encoding] for encoding, mean in means.items() if mean >= 0.9]
    others: dict[str, list[str]] = {}  # by their number
    for encoding, mean in means.items():
        if mean < 0.9:
            others.setdefault(f"{mean:.2f}", []).append(NAMES[encoding])
    listed = ", ".join(f"{' and '.join(names)} ({mean})" for mean, names in others.items())
    if not able:
        return f"None of {len(means)} has learned to point {offset} back: {listed}"
    return f"{len(able)} of {len(means)} learn to point {offset} back: {', '.join(able)}" + f"; not {listed}" * bool(others)


def draw_comparison(found: dict, trial: Trial) -> Figure:
    means = {encoding: over_seeds(found["back", encoding])[:, 0].mean() for encoding in SIX_AND_NONE}
    title, shown = comparison_title(means, trial.offset), [encoding for encoding in SIX_AND_NONE if encoding != "none"]
    fig, axes = panels(title, [1] * len(shown), size=(17, 7.4), rows=2)
    later = ~causal_mask(trial.length)
    for place, (above, below, encoding) in enumerate(zip(axes[: len(shown)], axes[len(shown) :], shown, strict=True)):
        run = found["back", encoding][0]
        picture, what = portrait(run, trial.length)
        labels = {"row_label": "position" * (place == 0), "column_label": "column"}
        if picture.shape[1] == trial.length:
            picture = picture.masked_fill(later, torch.nan)
            labels = {"row_label": "query (row)" * (place == 3), "column_label": "key (column)"}
        limit = picture.nan_to_num().abs().max().item()
        heatmap(above, picture, signed=True, limit=limit, **labels)
        above.set_title(f"{NAMES[encoding]}\n{what}\n(colours: -{limit:.2g} to {limit:.2g})")
        weights = run["tests"][0]["weights"].masked_fill(later, torch.nan)
        image = heatmap(below, weights, row_label="query (row)" * (place == 0))
        below.set_title(f"best head; accuracy {means[encoding]:.2f}")
    fig.colorbar(image, ax=axes[len(shown) :], label="weight (mean)", fraction=0.02, pad=0.01)
    note = f"grey: the future, masked    best head: the one of {N_HEADS} that gives the token {trial.offset} back most    "
    note += f"maps: seed 0; accuracy: mean over the seeds ({len(found['back', 'none'])})"
    fig.supxlabel(note, fontsize=11)
    return fig


def show_comparison(lab: Lab, found: dict, trial: Trial) -> None:
    lab.say(
        f"One layer, d_model {D_MODEL}, {N_HEADS} heads; {trial.n_steps} steps of {BATCH} sequences of {trial.length} tokens "
        f"out of {VOCABULARY}; seeds: {len(found['back', 'none'])}. Accuracy: how often the token {trial.offset} back is "
        f"named; guessing gives {1 / VOCABULARY:.2f}. Weight: what the head that looks at that token most gives it, on average."
    )
    rows = []
    for encoding in (*SIX_AND_NONE, UNNORMED):
        accuracy, weight = (over_seeds(found["back", encoding], name)[:, 0] for name in ("accuracy", "on_asked"))
        rows.append([NAMES.get(encoding, encoding), accuracy.mean(), accuracy.min(), accuracy.max(), weight.mean()])
    lab.table(["encoding", "accuracy (mean)", "min", "max", "weight"], rows)
    some = sequences("back", 1000, trial.length, trial.offset, lab.generator("most frequent"))[0]
    counting = lab.record("baseline.most_frequent", most_frequent(some, trial.offset), rtol=0.01)
    lab.say(
        f"None: {over_seeds(found['back', 'none'])[:, 0].mean():.2f}. Naming the most frequent of the tokens so far gives "
        f"{counting:.2f}: which tokens came, and how often, is known without positions; where they stood is not."
    )
    erased = linear_effect([run["model"] for run in found["back", "linear"]], trial)
    erased = lab.record("linear.erased_difference", erased, rtol=0, atol=1e-11)
    control = lab.record("linear.without_norm", over_seeds(found["back", UNNORMED])[:, 0].mean(), rtol=0.1, atol=0.03)
    lab.say(
        "Linear: adding one number to every feature changes only their mean, which a LayerNorm subtracts. Taking "
        f"the encoding out of the trained models moves no logit by more than {erased:.0e}: linear is none, and where the two "
        f"differ in a table, rounding has grown in training. Without the LayerNorm linear gets {control:.2f}: its scores "
        "rise or fall steadily with the key's position, which favours one end"
        + (", not a place well inside." if control < 0.5 else "; one place beside it can be found.")
    )
    weights = {str(distance): weight for distance, weight in enumerate(by_distance(found["back", "alibi"], trial.offset))}
    weights = lab.record_all("alibi.weight_at_distance", weights, rtol=0.15, atol=0.02)
    own = one_back(found["back", "alibi"], trial, lab.generator("one back"))
    own, other = lab.record_all("alibi.one_back", own, rtol=0.15, atol=0.02).values()
    lab.say(
        "ALiBi takes a fixed penalty for distance off the scores: a head can favour what is near, not a distance. The best "
        f"one gives the tokens {', '.join(weights)} back {', '.join(f'{w:.2f}' for w in weights.values())} of its weight. "
        f"What it can do is turn to or from a token: to the key 1 back it gives {own:.2f} if that holds the query's own "
        f"token and {other:.2f} if not."
        + (" It has learned to avoid the query's own token, and so the query itself, 0 back." if own < other - 0.02 else "")
    )
    lab.figure(draw_comparison(found, trial), "03_encoding_comparison")


# %% 5. Longer than in training
# "Sines extrapolate", one reads. Tested here: pointing, as before, and a second task, made for what ALiBi has: the most
# recent letter among blanks. Right answers count at the last positions, which at 2, 4, 8 times the length are all new.
# The relative bias is clipped, as in Shaw et al. and T5: all far distances share a number. Does it need that?

CLEAR = 0.2  # what is less above guessing than this is not ranked


def label(encoding: str, trial: Trial) -> str:
    return NAMES[encoding] + f", clip {trial.clip}" * (encoding == "relative")


def guessing(task: str) -> float:
    return 1 / (VOCABULARY - (task == "recent"))  # no blank is asked for


def ranking(found: dict, task: str, trial: Trial) -> list[str]:
    """The encodings that are clearly better than guessing at the longest sequences, best first, with their accuracy."""
    final = {encoding: over_seeds(found[task, encoding])[:, -1].mean() for encoding in STYLES}
    able = [encoding for encoding in STYLES if final[encoding] > guessing(task) + CLEAR]
    return [f"{label(e, trial)} ({final[e]:.2f})" for e in sorted(able, key=final.get, reverse=True)]


def windowed(runs: list[dict]) -> np.ndarray:
    """(seeds,): accuracy at the longest sequences, where only the last keys are seen."""
    return np.array([run["window"]["accuracy"] for run in runs])


def draw_extrapolation(found: dict, trial: Trial) -> Figure:
    start, *_, end = over_seeds(found["back", "sinusoidal"]).mean(axis=0)
    back, recent = ((*ranking(found, task, trial), "no model clearly above guessing")[0] for task in TASKS)
    title = f"Trained on {trial.length} tokens, tested on {trial.lengths[-1]}: sinusoidal goes from {start:.2f} to {end:.2f} "
    title += f"at pointing. Best then at pointing: {back}; at the most recent letter: {recent}"
    fig, axes = panels(title, (5, 5, 4), size=(15, 6.6))
    for ax, (task, text) in zip(axes, TASKS.items(), strict=False):
        for encoding, style in STYLES.items():
            seed_band(ax, trial.lengths, over_seeds(found[task, encoding]), label(encoding, trial), **style)
        ax.axhline(guessing(task), color="black", ls=":", lw=1)
        ax.set_xscale("log", base=2)
        ax.set_xticks(trial.lengths, trial.lengths)
        ax.set(title=text.format(trial.offset), xlabel="length of the sequence (dotted line: guessing)", ylim=(0, 1.04))
    axes[0].set_ylabel(f"accuracy (mean and range, seeds: {len(found['back', 'none'])})")
    draw_window(axes[2], found, trial)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(STYLES), columnspacing=1.2)
    return fig


def draw_window(ax: Axes, found: dict, trial: Trial) -> None:
    """At the longest sequences: accuracy with all keys (open) and with the last ones only (filled)."""
    gains = {}
    for place, (encoding, style) in enumerate(STYLES.items()):
        runs = found["back", encoding]
        every, last = over_seeds(runs)[:, -1], windowed(runs)
        gains[last.mean() - every.mean()] = f"{NAMES[encoding]} from {every.mean():.2f} to {last.mean():.2f}"
        ax.plot([every.mean(), last.mean()], [place, place], color=style["color"], lw=1.5)
        for values, face, size in ((every, "white", 10), (last, style["color"], 6)):
            ax.plot(values.mean(), place, "o", color=style["color"], mfc=face, ms=size, mew=2)
            ax.plot([values.min(), values.max()], [place + 0.3] * 2, color=style["color"], marker="|", lw=1.5)
    best = gains[max(gains)] if max(gains) > CLEAR else "nothing gained"
    ax.set_title(f"{best} if only the\nlast {trial.length} keys are seen (filled; open: all keys)", x=-0.42)
    ax.set_yticks(range(len(STYLES)), [label(encoding, trial) for encoding in STYLES])
    axis = f"accuracy, {trial.offset} back, length {trial.lengths[-1]} (bars: range)"
    ax.set(xlim=(0, 1.04), ylim=(len(STYLES) - 0.4, -0.5), xlabel=axis)


def show_extrapolation(lab: Lab, found: dict, trial: Trial) -> None:
    lab.section("5. Longer than in training")
    lab.say(
        f"Accuracy at the last {trial.length} positions of sequences of each length, mean over the seeds. The relative bias "
        f"of section 4 is clipped: from {trial.clip} back on all distances share one number. A variant has one for each."
    )
    for task, prefix, atol in (("back", "extrapolation", 0.05), ("recent", "recent", 0.1)):
        if task == "recent":
            lab.say(
                f"The second task: {100 * LETTER_RATE:.0f} % of the places hold one of {VOCABULARY - 1} letters, the others "
                f"are blank; at each blank the most recent letter is asked for. Guessing gives {guessing(task):.2f}."
            )
        rows = []
        for encoding in STYLES:
            accuracy = dict(zip(trial.lengths, over_seeds(found[task, encoding]).mean(axis=0), strict=True))
            accuracy = lab.record_all(f"{prefix}.{encoding}", accuracy, rtol=2 * atol, atol=atol)
            rows.append([label(encoding, trial), *accuracy.values()])
        lab.table([TASKS[task].format(trial.offset), *map(str, trial.lengths)], rows)
    weight = {}
    for encoding in STYLES:
        mean = dict(zip(trial.lengths, over_seeds(found["back", encoding], "on_asked").mean(axis=0), strict=True))
        kept = lab.record_all(f"on_asked.{encoding}", mean, rtol=0.15, atol=0.02)
        weight[encoding] = [f"{value:.2f}" for value in kept.values()]
    say_absolute(lab, found, trial, weight["sinusoidal"])
    say_relative(lab, found, trial, weight)
    lab.say(
        f"The most recent letter asks for what ALiBi has, a preference for the near. Best at {trial.lengths[-1]}, after "
        f"{trial.n_steps} steps of training: {', '.join(ranking(found, 'recent', trial)) or 'no model'}. All others are less "
        f"than {CLEAR} above guessing."
    )
    lab.figure(draw_extrapolation(found, trial), "03_extrapolation")


def learned_ends(runs: list[dict]) -> dict[str, float]:
    """Accuracy at the last position of training and at the one behind it, the first of twice the length."""
    known, new = (torch.stack([run["tests"][i]["by_position"] for run in runs]).mean(dim=0) for i in (0, 1))
    return {"last_trained": known[-1].item(), "first_untrained": new[0].item()}


def columns_beyond(n: int, margin: float) -> int:
    """Columns of the sines that at n to 2 n - 1 leave the range which they had at 0 to n - 1 by more than the margin."""
    known, new = sinusoidal_encoding(2 * n, D_MODEL).split(n)
    return int(((new > known.amax(dim=0) + margin) | (new < known.amin(dim=0) - margin)).any(dim=0).sum())


def say_absolute(lab: Lab, found: dict, trial: Trial, weight: list[str]) -> None:
    n = trial.length
    last, first = lab.record_all("learned", learned_ends(found["back", "learned"]), rtol=0.1, atol=0.1).values()
    try:
        LearnedEncoding(n, D_MODEL)(n + 1)
    except ValueError as error:
        refusal = error
    lab.say(
        f"Learned: {last:.2f} at position {n - 1}, the last in training, and {first:.2f} at {n}, whose row of the table was "
        f'never trained. A table of {n} rows does not even run: "{refusal}".'
    )
    beyond = {"columns_beyond": columns_beyond(n, 0.05), "columns_far_beyond": columns_beyond(n, 0.5)}
    beyond, far = lab.record_all("sinusoidal", beyond, rtol=0).values()
    lab.say(
        f"Sinusoidal: section 3's head, with its scores times {SHARPER} and bare positions as input, keeps its weight at any "
        f"length. The head that training on {n} found gives the token asked for {weight[0]} of its weight at {n} and "
        f"{weight[1]} at {2 * n}. A likely cause, not a proven one: there {beyond:.0f} of the {D_MODEL} columns leave the "
        f"range of training by more than 0.05, {far:.0f} of them by more than 0.5."
    )


def unasked_bias(runs: list[dict], trial: Trial) -> float:
    """Mean number of the best heads of "relative_all" for the distances of training, without the one that is asked for."""
    table = torch.stack([run["model"].relative.table[run["tests"][0]["head"]] for run in runs]).detach().mean(dim=0)
    back = table[: trial.lengths[-1] + 1].flip(0)[: trial.length]  # entry k is for the key k back
    return ((back.sum() - back[trial.offset]) / (trial.length - 1)).item()


def say_relative(lab: Lab, found: dict, trial: Trial, weight: dict[str, list[str]]) -> None:
    n, longest, relative, rope = trial.length, trial.lengths[-1], weight["relative"], weight["rope"]
    near = {encoding: windowed(found["back", encoding]).mean() for encoding in STYLES}
    near = lab.record_all(f"window.{longest}", near, rtol=0.1, atol=0.05)
    lab.say(
        f"Relative bias: all distances from {trial.clip} on share one trained number, so none is new. But the far keys are "
        f"more: the token asked for gets {relative[0]} of the weight at {n} and {relative[-1]} at {longest}. RoPE meets angles "
        f"that it never met: {rope[0]} and {rope[-1]}. If each position may see only the last {n} keys, there are neither "
        f"more keys nor new distances (the window takes both away at once): {near['relative']:.2f} and {near['rope']:.2f} "
        f"are right at {longest}. Learned and sinusoidal, whose positions stay new, then get {near['learned']:.2f} and "
        f"{near['sinusoidal']:.2f}."
    )
    bias = lab.record("relative_all.bias", unasked_bias(found["back", "relative_all"], trial), rtol=0.1, atol=0.05)
    free, clipped = (over_seeds(found["back", encoding])[:, 1].mean() for encoding in ("relative_all", "relative"))
    lab.say(
        f"Why the clip? With a number for every distance, those from {n} on are never trained: they stay at 0, where they "
        f"start, while training moves the others, but for the one at {trial.offset}, to {bias:.2f}. A far key then gets "
        f"{np.exp(-bias):.1f} times the weight of a near one: {free:.2f} are right at {2 * n}, with the clip {clipped:.2f}."
    )


# %% The lab


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--offset", type=whole_number(1, 8), default=3, metavar="K", help="steps back, 1 to 8; default: 3")
    parser.add_argument(
        "--length", type=whole_number(16, 32), default=24, metavar="N", help="in training, 16 to 32; default: 24"
    )
    parser.add_argument("--steps", type=whole_number(20, 5000), metavar="N", help="of training, 20 to 5000; default: 250")


def main(lab: Lab) -> None:
    show_order(lab)
    show_sinusoids(lab)
    show_shift(lab, lab.options.offset)
    lab.section("4. Six encodings and none, trained on the same task")
    n_steps, n_test, n_seeds = (8, 4, 1) if lab.fast else (250, 32, 3)
    trial = Trial(lab.options.length, lab.options.offset, lab.options.steps or n_steps, n_test)
    found = run_trials(lab, trial, n_seeds)
    show_comparison(lab, found, trial)
    show_extrapolation(lab, found, trial)


if __name__ == "__main__":
    run(main, __file__, add_arguments)
