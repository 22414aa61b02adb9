"""Lab 3 - Positional encoding: how does attention learn where a word stands, and what can each way of telling it do?

You will see
  1. what attention without positions does to "i love you" and "you love i": the popular "same output" put right;
  2. the sinusoidal encoding: fast columns and slow columns;
  3. why sines: a step of k positions is one fixed matrix; and whether "similar" means "near";
  4. none, linear, learned, sinusoidal, relative bias, RoPE and ALiBi, trained on the same task: what each can point at;
  5. the same models on sequences 2, 4 and 8 times as long as in training, and on a second task.

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
from matplotlib.figure import Figure
from torch import Tensor, nn

from common.attention import MultiHeadAttention, causal_mask, scaled_dot_product_attention
from common.plotting import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, curve, heatmap, panels
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
COMPARED = {"same_word": "same word", "same_place": "same place", "pooled": "mean of the words"}


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
        row[2].set(xlim=(0, 1.3 * changed), ylim=(3.5, -0.5), title="between the sentences", xlabel="largest difference")
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
    rows = [[c, *(f"{d[name].min():.0e} to {d[name].max():.0e}" for name in COMPARED)] for c, d in differences.items()]
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
        "to its new place: attention is equivariant. Place by place the outputs differ; only their mean, as a classifier "
        "may use it, is blind to the order. With positions neither holds. Nor under a causal mask, which gives the words "
        "different neighbours to look at: a mask is a bit of order too."
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
    fig, (whole, columns, rows) = panels(title, (4, 5, 5), size=(15, 5.4))
    image = heatmap(whole, table, row_label="position", column_label="column", signed=True, limit=1.0)
    fig.colorbar(image, ax=whole, label="value")
    whole.set_title("the whole table")
    styles = zip(SHOWN_PAIRS, (VERMILLION, ORANGE, GREEN, BLUE), ("-", "--", "-.", ":"), strict=True)
    for place, (pair, color, ls) in enumerate(styles):
        columns.plot(table[:, 2 * pair] - 2.8 * place, color=color, ls=ls)
        columns.text(0, 1.2 - 2.8 * place, f"column {2 * pair}: {turns[pair]:.2g} turns", color=color, fontweight="bold")
    columns.set(title="single sine columns, each from -1 to 1", xlabel="position", yticks=[], ylim=(-9.7, 2.1))
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
# position by k, and a head with that matrix in its W_Q points k steps back, wherever it stands.

MANY = 1000  # positions on which the matrix is tried


def measure_shift(offset: int, generator: torch.Generator) -> dict[str, Tensor | float]:
    """On MANY positions, in float64: the largest error of shift_matrix; what the best matrix leaves of random numbers; the
    scores (MANY, MANY) of queries shifted back by `offset`, and the share of queries that point there."""
    with float64():
        table = sinusoidal_encoding(MANY, D_MODEL)
        matrix, back = (shift_matrix(steps, D_MODEL) for steps in (offset, -offset))
        random = torch.randn(MANY, D_MODEL, generator=generator)
    scores = table @ back.T @ table.T / D_MODEL**0.5  # (MANY, MANY)
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


def measure_similarity(n: int = 200) -> tuple[Tensor, int]:
    """Cosine of PE[0] and PE[distance] (n,), and the first distance at which it is larger than one step nearer."""
    with float64():
        table = F.normalize(sinusoidal_encoding(n, D_MODEL), dim=-1)
    similarity = table @ table[0]  # (n,)
    return similarity, int((similarity.diff() > 0).nonzero()[0]) + 1


def draw_shift(offset: int, shift: dict, similarity: Tensor, rise: int) -> Figure:
    title = f"One matrix moves every position by {offset} (error {shift['error']:.0e}), so a head can point {offset} back; "
    title += f"but similarity falls only up to distance {rise - 1} and rises again at {rise}"
    fig, (left, middle, right) = panels(title, (4, 4, 5.5), size=(15, 5.4))
    labels = {"row_label": f"column of PE[pos + {offset}]", "column_label": "column of PE[pos]"}
    fig.colorbar(heatmap(left, shift["matrix"][:12, :12], signed=True, limit=1, **labels), ax=left, label="factor")
    left.set_title("the matrix turns each pair by its own angle\n(first 12 of 32 columns)")
    scores = shift["scores"][:24, :24]
    fig.colorbar(heatmap(middle, scores, limit=scores.max().item()), ax=middle, label="score")
    middle.plot(scores[offset:].argmax(dim=-1), range(offset, 24), "kx", ms=6, mew=1.5)
    middle.set_title(f"scores of a head built from it\n(x: largest of a row, from row {offset})")
    right.plot(similarity[:65], color=BLUE)
    right.plot(range(rise), similarity[:rise], "o", color=BLUE, label=f"falls up to distance {rise - 1}")
    right.plot(rise, similarity[rise], "^", color=VERMILLION, ms=11, label=f"first rise, at distance {rise}")
    right.set(title="similarity (cosine) of two positions", xlabel="distance", ylim=(min(0, similarity.min()), 1.03))
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
        f"table has such a matrix: of random numbers the best one (least squares) leaves {random:.2f} unexplained. A head "
        f"with it in its W_Q gives its largest score to the key {offset} back at {100 * pointing:.1f} % of the positions. So "
        "such a head exists. Whether training finds it, section 5 will show."
    )
    similarity, rise = measure_similarity()
    lab.record("similarity.first_rise_distance", rise, rtol=0)
    shown = [1, 2, rise - 1, rise, 16, 32, 64, 128]
    lab.table(["distance", *map(str, shown)], [["similarity", *similarity[shown].tolist()]], digits=3)
    kept = {"before_rise": similarity[rise - 1], "at_rise": similarity[rise], "at_128": similarity[128]}
    lab.record_all("similarity", kept, rtol=1e-4)
    lab.say(
        f"Near positions are similar, but similar positions need not be near: the cosine falls up to distance {rise - 1}, "
        f"is larger again at {rise}, and goes on in waves."
    )
    lab.figure(draw_shift(offset, shift, similarity, rise), "03_relative_position")


# %% 4. Seven encodings, trained on the same task
# Name the token k steps back: a task of nothing but order. One layer of causal attention, as in a language model (and
# in ALiBi's paper), with a LayerNorm before and after; the same first weights, data and learning rate for all.

VOCABULARY = 16
STYLES = {
    "none": {"color": GREY, "ls": "-", "lw": 7, "alpha": 0.4},
    "linear": {"color": PURPLE, "marker": "D", "ls": ":"},
    "learned": {"color": ORANGE, "marker": "s", "ls": "--"},
    "sinusoidal": {"color": BLUE, "marker": "o", "ls": "-"},
    "relative": {"color": GREEN, "marker": "^", "ls": "-"},
    "rope": {"color": SKY, "marker": "v", "ls": "--"},
    "alibi": {"color": VERMILLION, "marker": "P", "ls": "-."},
}
NAMES = {name: name for name in STYLES} | {"relative": "relative bias", "rope": "RoPE", "alibi": "ALiBi"}
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

    The learned table has rows for 8 times the length of training; the relative bias tells distances up to 2/3 of it apart.
    """

    def __init__(self, encoding: str, length: int):
        super().__init__()
        self.encoding = encoding
        self.embedding = nn.Embedding(VOCABULARY, D_MODEL)
        self.norm_1 = nn.Identity() if encoding == UNNORMED else nn.LayerNorm(D_MODEL)
        self.attention = (RotaryAttention if encoding == "rope" else MultiHeadAttention)(D_MODEL, N_HEADS)
        self.norm_2 = nn.LayerNorm(D_MODEL)
        self.readout = nn.Linear(D_MODEL, VOCABULARY)
        if encoding == "learned":  # after what all share, so that this starts from the same numbers
            self.table = LearnedEncoding(8 * length, D_MODEL)
        if encoding == "relative":
            self.relative = RelativeBias(N_HEADS, 2 * length // 3)

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
        if self.encoding == "relative":
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
        model = Pointer(encoding, trial.length)
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
def linear_effect(models: list[Pointer], length: int) -> float:
    """Largest change of a logit, in float64, when trained models lose their linear encoding."""
    tokens = torch.arange(length)[None] % VOCABULARY
    worst = 0.0
    for model in models:
        variants = [Pointer(encoding, length).double() for encoding in ("linear", "none")]
        for variant in variants:
            variant.load_state_dict(model.state_dict())
        worst = max(worst, (variants[0](tokens)[0] - variants[1](tokens)[0]).abs().max().item())
    return worst


def by_distance(runs: list[dict], furthest: int) -> list[float]:
    """Mean weight that the best head gives the keys 0, 1, ..., `furthest` back, at the length of training."""
    weights = torch.stack([run["tests"][0]["weights"] for run in runs]).mean(dim=0)  # (T, T)
    return [weights.diagonal(-distance)[furthest - distance :].mean().item() for distance in range(furthest + 1)]


def portrait(run: dict, length: int) -> tuple[Tensor, str]:
    """What the encoding adds, and to what: a table (T, D_MODEL), or the scores (T, T) of the best head."""
    model = run["model"]
    if model.encoding == "rope":
        turned = rotary(torch.ones(length, D_MODEL // N_HEADS))
        return turned @ turned.T / turned.shape[1] ** 0.5, "scores if all q, k are 1"
    if (bias := model.bias(length)) is not None:
        return bias[run["tests"][0]["head"]].detach(), "added to the scores"
    return model.added(length).detach(), "added to the embedding"


def draw_comparison(found: dict, trial: Trial) -> Figure:
    means = {encoding: over_seeds(found["back", encoding])[:, 0].mean() for encoding in STYLES}
    able = [NAMES[encoding] for encoding, mean in means.items() if mean >= 0.9]
    others = [f"{NAMES[encoding]} {mean:.2f}" for encoding, mean in means.items() if mean < 0.9]
    title = f"{len(able)} of {len(means)} learn to point {trial.offset} back (accuracy 0.9 or more): "
    title += ", ".join(able) or "none of them"
    title += f". Not so: {', '.join(others)}" if others else ""
    shown = [encoding for encoding in STYLES if encoding != "none"]
    fig, axes = panels(title, [1] * len(shown), size=(17, 7), rows=2)
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
    return fig


def show_comparison(lab: Lab, found: dict, trial: Trial) -> None:
    lab.say(
        f"One layer, d_model {D_MODEL}, {N_HEADS} heads; {trial.n_steps} steps of {BATCH} sequences of {trial.length} tokens "
        f"out of {VOCABULARY}; seeds: {len(found['back', 'none'])}. Accuracy: how often the token {trial.offset} back is "
        f"named; guessing gives {1 / VOCABULARY:.2f}. Weight: what the head that looks at that token most gives it, on average."
    )
    rows = []
    for encoding in (*STYLES, UNNORMED):
        accuracy, weight = (over_seeds(found["back", encoding], name)[:, 0] for name in ("accuracy", "on_asked"))
        rows.append([NAMES.get(encoding, encoding), accuracy.mean(), accuracy.min(), accuracy.max(), weight.mean()])
    lab.table(["encoding", "accuracy (mean)", "min", "max", "weight"], rows)
    erased = linear_effect([run["model"] for run in found["back", "linear"]], trial.length)
    erased = lab.record("linear.erased_difference", erased, rtol=0, atol=1e-11)
    control = lab.record("linear.without_norm", over_seeds(found["back", UNNORMED])[:, 0].mean(), rtol=0.1, atol=0.03)
    lab.say(
        "Linear: the same number in every feature is all mean, and a LayerNorm subtracts the mean of the features. Taking "
        f"the encoding out of the trained models moves no logit by more than {erased:.0e}: linear is none, and where the two "
        f"differ in a table, rounding has grown in training. Without the LayerNorm linear gets {control:.2f}: its scores "
        "rise or fall steadily with the key's position, which favours one end, not a place between."
    )
    weights = {str(distance): weight for distance, weight in enumerate(by_distance(found["back", "alibi"], trial.offset))}
    weights = lab.record_all("alibi.weight_at_distance", weights, rtol=0.15, atol=0.02)
    lab.say(
        "ALiBi takes a fixed penalty for distance off the scores, so no head can choose which distance to favour. The best "
        f"one gives the tokens {', '.join(weights)} back {', '.join(f'{w:.2f}' for w in weights.values())} of its weight."
    )
    lab.figure(draw_comparison(found, trial), "03_encoding_comparison")


# %% 5. Longer than in training
# "Sines extrapolate", one reads. Tested here: pointing, as before, and a second task, made for what ALiBi has: the most
# recent letter among blanks. Right answers count at the last positions, which at 2, 4, 8 times the length are all new.


def draw_extrapolation(found: dict, trial: Trial) -> Figure:
    final = {job: over_seeds(found[job])[:, -1].mean() for job in found}
    best = [max(STYLES, key=lambda encoding, task=task: final[task, encoding]) for task in TASKS]
    back, recent = (f"{NAMES[encoding]} ({final[task, encoding]:.2f})" for task, encoding in zip(TASKS, best, strict=True))
    title = f"Trained on {trial.length} tokens, tested on {trial.lengths[-1]}: sinusoidal goes from "
    title += f"{over_seeds(found['back', 'sinusoidal'])[:, 0].mean():.2f} to {final['back', 'sinusoidal']:.2f} at pointing. "
    title += f"Best then at pointing: {back}; at finding the most recent: {recent}"
    fig, axes = panels(title, (5, 5, 4), size=(15, 6))
    for ax, (task, text) in zip(axes, TASKS.items(), strict=False):
        for encoding, style in STYLES.items():
            accuracy = over_seeds(found[task, encoding])
            band = {"low": accuracy.min(axis=0), "high": accuracy.max(axis=0)}
            curve(ax, trial.lengths, accuracy.mean(axis=0), label=NAMES[encoding], **band, **style)
        ax.axhline(1 / (VOCABULARY - (task == "recent")), color="black", ls=":", lw=1)
        ax.set_xscale("log", base=2)
        ax.set_xticks(trial.lengths, trial.lengths)
        ax.set(title=text.format(trial.offset), xlabel="length of the sequence (dotted line: guessing)", ylim=(0, 1.04))
    axes[0].set_ylabel(f"accuracy (mean and range, seeds: {len(found['back', 'none'])})")
    for place, (encoding, style) in enumerate(STYLES.items()):
        near, color = np.mean([run["window"]["accuracy"] for run in found["back", encoding]]), style["color"]
        axes[2].plot([final["back", encoding], near], [place, place], color=color)
        axes[2].plot(final["back", encoding], place, "o", color=color, mfc="white", ms=10, mew=2)
        axes[2].plot(near, place, "o", color=color)
    axes[2].set_yticks(range(len(STYLES)), NAMES.values())
    axes[2].set(xlim=(0, 1.04), ylim=(len(STYLES) - 0.5, -0.5), xlabel="accuracy")
    axes[2].set_title(
        f"{trial.offset} back, length {trial.lengths[-1]}; open: all keys seen,\nfilled: the last {trial.length} keys only"
    )
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(STYLES))
    return fig


def show_extrapolation(lab: Lab, found: dict, trial: Trial) -> None:
    lab.section("5. Longer than in training")
    lab.say(f"Accuracy at the last {trial.length} positions of sequences of each length, mean over the seeds.")
    for task, prefix, atol in (("back", "extrapolation", 0.05), ("recent", "recent", 0.1)):
        rows = []
        for encoding in STYLES:
            accuracy = dict(zip(trial.lengths, over_seeds(found[task, encoding]).mean(axis=0), strict=True))
            accuracy = lab.record_all(f"{prefix}.{encoding}", accuracy, rtol=2 * atol, atol=atol)
            rows.append([NAMES[encoding], *accuracy.values()])
        lab.table([TASKS[task].format(trial.offset), *map(str, trial.lengths)], rows)
    say_why(lab, found, trial)
    lab.figure(draw_extrapolation(found, trial), "03_extrapolation")


def say_why(lab: Lab, found: dict, trial: Trial) -> None:
    """What stands behind each of the outcomes, as far as it is measured."""
    n, longest = trial.length, trial.lengths[-1]
    seen, new = (torch.stack([run["tests"][i]["by_position"] for run in found["back", "learned"]]).mean(dim=0) for i in (0, 1))
    ends = {"last_trained": seen[-1], "first_untrained": new[0]}
    last, first = lab.record_all("learned", ends, rtol=0.1, atol=0.1).values()
    try:
        LearnedEncoding(n, D_MODEL)(n + 1)
    except ValueError as error:
        refusal = error
    lab.say(
        f"Learned: {last:.2f} at position {n - 1}, the last in training, and {first:.2f} at {n}, whose row of the table was "
        f'never trained. A table of {n} rows does not even run: "{refusal}".'
    )
    known, new = sinusoidal_encoding(2 * n, D_MODEL).split(n)
    beyond = ((new > known.amax(dim=0)) | (new < known.amin(dim=0))).any(dim=0).sum()
    beyond = lab.record("sinusoidal.columns_beyond", beyond, rtol=0)
    weight = {}
    for encoding in STYLES:
        mean = dict(zip(trial.lengths, over_seeds(found["back", encoding], "on_asked").mean(axis=0), strict=True))
        kept = lab.record_all(f"on_asked.{encoding}", mean, rtol=0.15, atol=0.02)
        weight[encoding] = [f"{value:.2f}" for value in kept.values()]
    lab.say(
        f"Sinusoidal: section 3 built a head that points at any length. The best that training on {n} found gives the token "
        f"asked {weight['sinusoidal'][0]} of its weight at {n}, and {weight['sinusoidal'][1]} at {2 * n}. There {beyond:.0f} "
        f"of the {D_MODEL} columns take values outside of what they took in training."
    )
    near = {encoding: np.mean([run["window"]["accuracy"] for run in found["back", encoding]]) for encoding in STYLES}
    near = lab.record_all(f"window.{longest}", near, rtol=0.1, atol=0.05)
    relative, rope = weight["relative"], weight["rope"]
    lab.say(
        "Relative bias and RoPE know distances only, and longer sequences bring new ones. Weight on the token asked: "
        f"{relative[0]} and {rope[0]} at {n}, {relative[-1]} and {rope[-1]} at {longest}. If each position may see only the "
        f"last {n} keys, all distances are known ones, and the accuracy at {longest} is {near['relative']:.2f} and "
        f"{near['rope']:.2f}. Learned and sinusoidal, whose positions stay new, then get {near['learned']:.2f} and "
        f"{near['sinusoidal']:.2f}."
    )
    accuracy = {task: over_seeds(found[task, "alibi"]).mean(axis=0) for task in TASKS}
    final = {NAMES[encoding]: over_seeds(found["recent", encoding])[:, -1].mean() for encoding in STYLES}
    ranking = ", ".join(f"{name} {final[name]:.2f}" for name in sorted(final, key=final.get, reverse=True))
    lab.say(
        f"ALiBi names the token {trial.offset} back with {accuracy['back'][0]:.2f} at {n} and {accuracy['back'][-1]:.2f} at "
        f"{longest}. The most recent letter asks for what it has, a preference for the near: {accuracy['recent'][0]:.2f} at "
        f"{n}. At {longest}, after {trial.n_steps} steps of training, the order there is: {ranking}."
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
    lab.section("4. Seven encodings, trained on the same task")
    n_steps, n_test, n_seeds = (8, 4, 1) if lab.fast else (250, 32, 3)
    trial = Trial(lab.options.length, lab.options.offset, lab.options.steps or n_steps, n_test)
    found = run_trials(lab, trial, n_seeds)
    show_comparison(lab, found, trial)
    show_extrapolation(lab, found, trial)


if __name__ == "__main__":
    run(main, __file__, add_arguments)
