# %% [markdown]
# # Lab 3: positional encoding
# Attention compares words; where they stand does not enter its formula. How does it learn that, and what can each way of
# telling it do? You will see
# 1. what attention without positions makes of "i love you" and "you love i": the popular "same output" put right;
# 2. the sinusoidal encoding: fast columns and slow columns;
# 3. why sines: a step of $k$ positions is a turn; and whether "similar" means "near";
# 4. relative bias, ALiBi and RoPE, which tell the scores; then all encodings, trained on the same task: which can point?
# 5. the same models on sequences 2, 4 and 8 times as long as in training, and on a second task;
# 6. two ways to read longer sequences: positions stretched after training, or shifted while training.

# %%
"""Lab 3 - Positional encoding: how does attention learn where a word stands, and what can each way of telling it do?

Run it:      python 03_positional_encoding.py
Then try:    python 03_positional_encoding.py --out trial --offset 1
             python 03_positional_encoding.py --out trial --steps 1000   (minutes: what does more training change?)
It writes:   03_position_effect, 03_positional_encoding_sinusoidal, 03_relative_position, 03_encoding_comparison,
             03_extrapolation, 03_stretched_positions and 03_results.json
"""

import sys
from pathlib import Path

# common/ stands beside this folder. A notebook has no __file__; it starts in this folder.
sys.path.insert(0, str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))
from common.command_line import Parser, whole_number
from common.lab import Lab

STEPS = 300  # of training


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--offset", type=whole_number(1, 8), default=3, metavar="K", help="steps back, 1 to 8; default: 3")
    parser.add_argument(
        "--length", type=whole_number(16, 32), default=24, metavar="N", help="in training, 16 to 32; default: 24"
    )
    parser.add_argument("--steps", type=whole_number(20, 5000), metavar="N", help=f"of training, 20 to 5000; default: {STEPS}")


lab = Lab(3, globals(), add_arguments)

# %%
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from common.attention import MultiHeadAttention, causal_mask
from common.pointing import (
    D_MODEL,
    ENCODINGS,
    N_HEADS,
    RECENT,
    SHIFTED,
    TASKS,
    VOCABULARY,
    Pointer,
    Trial,
    accuracy_turned,
    guessing,
    most_frequent,
    run_trials,
    sequences,
)
from common.positional_encoding import sinusoidal_encoding
from week6.figures import positional_encoding as figures

# %% [markdown]
# ## 1. What is lost without positions?
# "Without positions, *i love you* and *you love i* give the same output", one reads. But the output is a vector for each
# word. If the words change places, do the vectors change, or only their places? And what does their mean see, which a
# classifier may use?
#
# We ask 20 layers with random weights, in three cases: without positions, with the positions of section 2 added to the words,
# and without positions under a causal mask.

# %%
FIRST = ("i", "love", "you")
ORDER = [2, 1, 0]  # the second sentence is the first in this order
SECOND = tuple(FIRST[i] for i in ORDER)

if lab.section("1. What is lost without positions?"):
    outputs = {"without positions": [], "with positions": [], "without, causal mask": []}
    torch.manual_seed(lab.seed("order"))
    with torch.no_grad():
        for _ in range(20):
            layer = MultiHeadAttention(D_MODEL, N_HEADS)
            words = 3 * torch.randn(len(FIRST), D_MODEL)  # 3: large enough that the words look at different words
            both = torch.stack([words, words[ORDER]])  # (2, 3, D_MODEL): the two sentences
            outputs["without positions"].append(layer(both)[0])  # [0]: the output; [1] are the weights
            outputs["with positions"].append(layer(both + sinusoidal_encoding(len(FIRST), D_MODEL))[0])
            outputs["without, causal mask"].append(layer(both, mask=causal_mask(len(FIRST)))[0])

# %% [markdown]
# Three comparisons: the vectors of the same *word* in both sentences, the vectors at the same *place*, and the *mean* of the
# words.

# %%


def order_differences(outputs: Tensor) -> dict[str, Tensor]:
    """Largest difference of a feature between the sentences (layers, 2, 3, D_MODEL): of each word, "words" (layers, 3); of
    the "same_word" and at the "same_place", the largest of the three, and of the mean, "pooled", (layers,) each."""
    first, second = outputs[:, 0], outputs[:, 1]  # (layers, 3, D_MODEL) each
    words = (second[:, ORDER] - first).abs().amax(dim=-1)  # (layers, 3), ORDER being its own inverse
    same_place = (second - first).abs().amax(dim=(-2, -1))
    pooled = (second.mean(dim=-2) - first.mean(dim=-2)).abs().amax(dim=-1)
    return {"words": words, "same_word": words.amax(dim=-1), "same_place": same_place, "pooled": pooled}


if lab:
    differences = {case: order_differences(torch.stack(layers)) for case, layers in outputs.items()}
    without, with_positions, causal = differences.values()
    lab.record("equivariance.max_difference", without["same_word"].max())
    lab.record("pooled.max_difference", without["pooled"].max())
    lab.record("same_place.min_difference", without["same_place"].min())
    for name in ("same_word", "pooled"):
        smallest = {"with_positions": with_positions[name].min(), "causal": causal[name].min()}
        lab.record(f"order.{name}.min_difference", smallest)
    lab.say(
        "Without positions each word keeps its vector (difference {equivariance.max_difference:.0e}) and takes it to its new "
        "place. With positions the word that changes most changes by {order.same_word.min_difference.with_positions:.2f} or "
        "more in each of the {n} layers, under a causal mask by {order.same_word.min_difference.causal:.2f} or more.",
        n=len(outputs["with positions"]),
    )

# %% [markdown]
# "The same output" is half of the truth. Without positions each word keeps its vector and takes it to its new place: attention
# is **equivariant**. Only the mean is blind to the order. A causal mask ends that, too: each word then sees only the words
# before it, and those are others now. A mask is a bit of order.

# %%
if lab:
    fig = figures.draw_order((FIRST, SECOND), outputs, differences)
    lab.figure(fig, "03_position_effect")

# %% [markdown]
# ## 2. What do the sines look like?
# $$PE[pos, 2i] = \sin(pos \cdot w_i), \quad PE[pos, 2i+1] = \cos(pos \cdot w_i), \quad w_i = 10000^{-2i/d}$$
# Each pair of columns is the hand of a clock, which turns by $w_i$ radians a position: the first race, the last hardly move.
# This table is added to the embeddings of the words. (Try 100 for 10,000, and look at the turns.)

# %%
positions = torch.arange(1000.0)[:, None]  # (1000, 1)
frequencies = 10_000 ** (-torch.arange(0, D_MODEL, 2) / D_MODEL)  # (16,): radians a position
angles = positions * frequencies  # (1000, 16)
table = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)  # (1000, 32): sin, cos, sin, cos, ...

# %% [markdown]
# How many turns do the hands make over 96 positions? And which columns tell a position from the next one?

# %%
SHOWN_PAIRS = (0, 3, 7, 15)
beginning = table[:96]  # (96, 32)
turns = angles[len(beginning) - 1] / (2 * math.pi)  # (16,): of each pair

if lab.section("2. What do the sines look like?"):
    steps = beginning.diff(dim=0) ** 2  # (95, 32): squared distances between neighbouring positions
    lab.record("sinusoidal.turns", {"first_pair": turns[0], "last_pair": turns[-1]})
    lab.record("sinusoidal.pairs_below_one_turn", (turns < 1).sum())
    lab.record("sinusoidal.fast_share", steps[:, : D_MODEL // 2].sum() / steps.sum())
    lab.say(
        "Over {n} positions the first pair turns {sinusoidal.turns.first_pair:.1f} times; "
        "{sinusoidal.pairs_below_one_turn:.0f} of {pairs} pairs do not finish a turn.",
        n=len(beginning),
        pairs=len(turns),
    )
    fig = figures.draw_sinusoids(beginning, turns, SHOWN_PAIRS)
    lab.figure(fig, "03_positional_encoding_sinusoidal")

# %% [markdown]
# ## 3. Why sines? A step is a turn
# (This section builds on section 2: its `table` and `frequencies`.) Moving on by $k$ positions turns the hand of pair $i$ by
# $k w_i$, wherever it stood. That is what $\sin(a + b) = \sin a \cos b + \cos a \sin b$ and
# $\cos(a + b) = \cos a \cos b - \sin a \sin b$ say, with $a = pos \cdot w_i$ and $b = k w_i$:
# $$\begin{pmatrix} \sin(a + b) \\ \cos(a + b) \end{pmatrix} =
# \begin{pmatrix} \cos b & \sin b \\ -\sin b & \cos b \end{pmatrix} \begin{pmatrix} \sin a \\ \cos a \end{pmatrix}$$
# The 2 x 2 matrix knows $k$ and not $pos$. One pair, at two positions:

# %%


def turn(angle: Tensor) -> Tensor:
    """The matrix (2, 2) that moves (sin a, cos a) to (sin(a + angle), cos(a + angle)), whatever a."""
    return torch.stack([torch.stack([angle.cos(), angle.sin()]), torch.stack([-angle.sin(), angle.cos()])])


offset = lab.options.offset  # k
small = turn(offset * frequencies[1])  # (2, 2), of the second pair: columns 2 and 3

if lab.section("3. Why sines? A step is a turn"):
    rows = []
    for position in (5, 500):
        moved, there = small @ table[position, 2:4], table[position + offset, 2:4]
        rows.append([f"{position} to {position + offset}", *table[position, 2:4].tolist(), *moved.tolist(), *there.tolist()])
    lab.table(["position", "sin", "cos", "turned: sin", "cos", "in the table: sin", "cos"], rows)

# %% [markdown]
# Sixteen such turns, one for each pair, side by side are one matrix $M$, and $PE[pos + k] = M \, PE[pos]$ for every $pos$.
# Not every table has such a matrix: try the best one (least squares) for a table of random numbers.

# %%
matrix = torch.block_diag(*(turn(offset * w) for w in frequencies))  # (32, 32)


def unexplained(table: Tensor, offset: int) -> float:
    """Root mean square of table[pos + offset] - best matrix @ table[pos], relative to that of the table."""
    here, there = table[:-offset], table[offset:]
    left = there - here @ torch.linalg.lstsq(here, there).solution
    return (left.norm() / there.norm()).item()


if lab:
    error = (table[:-offset] @ matrix.T - table[offset:]).abs().max().item()
    random = torch.randn(table.shape, generator=lab.generator("random table"))
    lab.record("shift", {"max_error": error, "random_unexplained": unexplained(random, offset)})
    if lab.verbose:
        lab.say("For random numbers the best matrix leaves {shift.random_unexplained:.2f} of the table's size unexplained.")

# %% [markdown]
# What is that good for? A head can have $M^T$, which turns back, in its $W_Q$. The query at $pos$ is then $PE[pos - k]$, and
# most like the key $k$ back. ($M$ itself would look $k$ ahead.) But the largest score is not yet most of the weight: the
# softmax shares it among all keys. Larger weights in $W_Q$, which make the scores 30 times as large, mend that.

# %%
SHARPER = 30


def built_weight(scores: Tensor, offset: int, length: int, sharper: float = 1.0) -> float:
    """Mean weight on the key `offset` back of causal attention with these scores, for the last 24 queries of a sequence."""
    seen = (sharper * scores[:length, :length]).masked_fill(~causal_mask(length), -torch.inf)
    return seen.softmax(dim=-1).diagonal(-offset)[-24:].mean().item()


if lab:
    queries = table @ matrix  # (1000, 32): a row of it is M^T @ PE[pos]
    scores = queries @ table.T / math.sqrt(D_MODEL)  # (1000, 1000)
    points = scores[offset:].argmax(dim=-1) == torch.arange(len(table) - offset)  # (1000 - offset,)
    lab.record("shift.pointing_share", points.double().mean())
    for name, sharper in (("weight", 1), ("weight_sharper", SHARPER)):
        lab.record(f"shift.{name}", {n: built_weight(scores, offset, n, sharper) for n in (24, 192)})
    if lab.verbose:
        lab.say(
            "Weight on the key {k} back: {shift.weight.24:.2f} among 24 keys, {shift.weight.192:.3f} among 192. With scores "
            "{sharper} times as large: {shift.weight_sharper.24:.2f} and {shift.weight_sharper.192:.2f}.",
            k=offset,
            sharper=SHARPER,
        )

# %% [markdown]
# So a head that points $k$ back exists, and it does so in long sequences: up to position 1,000 that key has the largest score,
# and with the larger weights it gets most of the weight among 24 keys as among 192. Whether training finds such a head, section
# 5 will show. A last question: are near positions similar, and are similar positions near? We compare position 0 with the
# others by the cosine, for our width and for the 512 columns of the paper.

# %%
SHOWN_DISTANCES = 65


def first_rise(cosine: Tensor) -> int:
    """The first distance that is more similar than the one before it."""
    return int((cosine.diff() > 0).nonzero()[0]) + 1


cosines = {}  # by width, (200,) each: similarity at each distance
for width in (D_MODEL, 512):
    unit = F.normalize(sinusoidal_encoding(200, width), dim=-1)
    cosines[width] = unit @ unit[0]
cosine, rise = cosines[D_MODEL], first_rise(cosines[D_MODEL])
gain = (cosine[:SHOWN_DISTANCES] - cosine[:SHOWN_DISTANCES, None]).triu()  # (near, far)
near, far = divmod(int(gain.argmax()), SHOWN_DISTANCES)  # the pair whose further one is more similar by the most

if lab:
    lab.record("similarity", {"first_rise_distance": rise, "near_distance": near, "far_distance": far})
    distances = {"before_rise": rise - 1, "at_rise": rise, "near": near, "far": far}
    lab.record("similarity", {name: cosine[distance] for name, distance in distances.items()})
    wide_rise = first_rise(cosines[512])
    by = cosines[512][wide_rise] - cosines[512][wide_rise - 1]
    lab.record("similarity.d512", {"first_rise_distance": wide_rise, "first_rise": by})
    lab.say(
        "One matrix moves every position by {k} (error {shift.max_error:.0e}). Cosine with position 0: "
        "{similarity.near:.2f} at {similarity.near_distance:.0f} steps, but {similarity.far:.2f} at "
        "{similarity.far_distance:.0f}: further, and yet more similar.",
        k=offset,
    )
    fig = figures.draw_shift(offset, matrix, error, scores, cosines, near, far, SHOWN_DISTANCES)
    lab.figure(fig, "03_relative_position")

# %% [markdown]
# ## 4. Which encodings can point k back?
# A position can enter in two places. *Added to the embedding*: linear ($pos/n$ in every column), learned (a table of trained
# rows, as in BERT), sinusoidal. Or *in the scores*, of which there are three famous ways. In the small examples all words are
# equal, so that the position alone decides; the query is the last of 12 words.
#
# **Relative bias** (T5): $score_{ij} = q_i \cdot k_j / \sqrt{d} + b_{\min(i - j, c)}$, a trained number for each distance, and
# from the distance $c$ on one for all. Here we set one by hand: 5 at $k$ back.

# %%
N_WORDS = 12
back = torch.arange(N_WORDS)[:, None] - torch.arange(N_WORDS)  # (12, 12): how far the key (column) is behind the query (row)

numbers = torch.zeros(N_WORDS)  # b, by distance
numbers[lab.options.offset] = 5.0
bias = numbers[back.clamp(min=0)]  # (12, 12), added to the scores

# %% [markdown]
# **ALiBi** ("attention with linear biases"): $score_{ij} = q_i \cdot k_j / \sqrt{d} - m_h (i - j)$, a penalty that grows with
# the distance, steep in one head and gentle in another. The four slopes $m_h$ are fixed: nothing is learned.

# %%
slopes = 2.0 ** (-8 * torch.arange(1, N_HEADS + 1) / N_HEADS)  # (4,): 1/4, 1/16, 1/64, 1/256
penalties = -slopes[:, None, None] * back  # (4, 12, 12), added to the scores

# %% [markdown]
# **RoPE** (rotary positions): each pair of features of $q$ and of $k$ is turned by $pos \cdot w_i$, like section 2's clock, but
# the hands are the features themselves: $y_{2i} = x_{2i} \cos - x_{2i+1} \sin$, $y_{2i+1} = x_{2i} \sin + x_{2i+1} \cos$. If
# $q$ and $k$ are turned alike, their product stays. So it depends on the difference of the positions alone:

# %%
D_HEAD = D_MODEL // N_HEADS
rope_frequencies = 10_000 ** (-torch.arange(0, D_HEAD, 2) / D_HEAD)  # (4,): 1, 0.1, 0.01, 0.001


def turned(x: Tensor, positions: Tensor, frequencies: Tensor) -> Tensor:
    """The rows of x (..., T, d), each turned as RoPE turns it at its position, of positions (T,)."""
    angles = positions[:, None] * frequencies  # (T, d / 2)
    even, odd = x[..., 0::2], x[..., 1::2]  # (..., T, d / 2) each
    pairs = even * angles.cos() - odd * angles.sin(), even * angles.sin() + odd * angles.cos()
    return torch.stack(pairs, dim=-1).flatten(-2)


q, k = torch.randn(2, 1, D_HEAD, generator=lab.generator("rope"))  # (1, 8) each: a query and a key of one head
products = {}  # by the positions of the query and the key
for at, seen in ((3, 0), (103, 100), (13, 12)):
    turned_q, turned_k = (turned(x, torch.tensor([p]), rope_frequencies) for x, p in ((q, at), (k, seen)))
    products[at, seen] = (turned_q * turned_k).sum().item()

# %% [markdown]
# Can they prefer the key $k$ back? The relative bias can: it has a number for that. RoPE can: a query that is a key turned
# $k$ places back fits best there. ALiBi cannot: what is nearer always gets more.

# %%
if lab.section("4. Which encodings can point k back?"):
    keys = turned(torch.ones(N_WORDS, D_HEAD), torch.arange(N_WORDS), rope_frequencies)  # (12, 8): equal words
    queries = turned(torch.ones(N_WORDS, D_HEAD), torch.arange(N_WORDS) - lab.options.offset, rope_frequencies)
    # 3: larger scores than those of ones, so that the softmax gives most of the weight to the largest (section 3)
    examples = {"relative bias": bias, "ALiBi, slope 1/4": penalties[0], "RoPE": 3 * queries @ keys.T}
    rows = [[name, *scores[-1].softmax(dim=-1).flip(0)[:9].tolist()] for name, scores in examples.items()]  # the nearest 9
    lab.table(["weight on the key, by steps back:", *map(str, range(9))], rows)
    at_places = ", ".join(f"{product:.4f} at {at} and {seen}" for (at, seen), product in products.items())
    lab.say(f"RoPE, query times key: {at_places}.")

# %% [markdown]
# Now all of them are trained. The task is to name, at each place of a sequence, the token $k$ steps back: nothing but order.
# For $k = 3$:
#
#     sequence    5  2  9  0  7  7  1
#     asked for   -  -  -  5  2  9  0
#
# The model (`common/pointing.py`) is one layer of causal attention, as in a language model and in ALiBi's paper, with a
# LayerNorm before and after (Lab 4: it takes each token's mean away and brings it to one scale). All encodings get the same
# first weights, data and learning rate (in a trial, twice that rate or twice the steps changed no verdict). Two variants and
# a second task join for sections 5 and 6.

# %%
trial = Trial(
    length=lab.options.length,
    offset=lab.options.offset,
    n_steps=lab.options.steps or (8 if lab.fast else STEPS),
    n_test=4 if lab.fast else 48,
)
jobs = [("back", encoding) for encoding in (*ENCODINGS, SHIFTED)] + [("recent", encoding) for encoding in RECENT]
compared = [encoding for encoding in ENCODINGS if encoding != "relative_all"]  # that one joins in section 5

if lab:
    found = run_trials(jobs, trial, lab.seed)  # found["back", "rope"]["model"]: RoPE's
    for task, key in figures.KEYS.items():
        lab.record(key, {e: found[task, e]["accuracy"] for e in ENCODINGS if (task, e) in found})
    for encoding in ("sinusoidal", "relative", "rope"):
        tests = found["back", encoding]["tests"]
        lab.record(f"on_asked.{encoding}", {length: test["on_asked"] for length, test in tests.items()})

# %% [markdown]
# **`none` does about as well as can be done without order:** as well as naming the most frequent of the earlier tokens. That
# is better than a guess. What can be known without positions in one layer? Which tokens came, and how often; not where they
# stood.
#
# **`linear` does as well as `none`.** One number added to every feature changes only their mean, which a LayerNorm subtracts.
# We take the encoding out of the trained model and see whether a logit moves.

# %%


@torch.no_grad()
def linear_effect(model: Pointer, trial: Trial) -> float:
    """Largest change of a logit when a trained model loses its linear encoding."""
    tokens = torch.arange(trial.length)[None] % VOCABULARY
    without = Pointer("none", trial)
    without.load_state_dict(model.state_dict())
    return (model(tokens)[0] - without(tokens)[0]).abs().max().item()


if lab:
    tokens, _ = sequences("back", 1000, trial.length, trial.offset, lab.generator("most frequent"))
    lab.record("baseline.most_frequent", most_frequent(tokens, trial.offset))
    lab.record("linear.erased_difference", linear_effect(found["back", "linear"]["model"], trial))
    at_first = {encoding: found["back", encoding]["accuracy"][trial.length] for encoding in compared}
    listed = ", ".join(
        f"{ENCODINGS[e]} {figures.with_median(right, lab.study, f'extrapolation.{e}.{trial.length}')}"
        for e, right in at_first.items()
    )
    lab.say(
        "Right after training{note}: {listed}. The most frequent of the earlier tokens: {baseline.most_frequent:.2f}.",
        note=f" (median of {lab.study.n} starts)" if lab.study else "",
        listed=listed,
    )

# %% [markdown]
# In the figure: what each encoding adds, and below it where the best head of the trained model looks. A bright line beside
# the diagonal points $k$ back. ALiBi has none: no head can choose a distance.

# %%
if lab:
    fig = figures.draw_comparison({encoding: found["back", encoding] for encoding in compared}, trial, lab.study)
    lab.figure(fig, "03_encoding_comparison")

# %% [markdown]
# ## 5. Do they work on longer sequences?
# (This section builds on section 4: its trained models.) "Sines extrapolate", one reads. We test the models on sequences 2, 4
# and 8 times as long as in training, at the last positions, which are all new. A second task is made for what ALiBi has, a
# preference for the near: of letters among blanks (15 % are letters), name the most recent one. And a variant joins: a relative
# bias with a number for every distance. The one of section 4 is *clipped*, as in Shaw et al. and T5: far distances share one.
#
# The last column is the longest length again, but each position may see only as many keys as in training (a *window*): then
# neither more keys nor new distances are in sight. In brackets, if there is one, the study: the median of many random starts.

# %%
if lab.section("5. Do they work on longer sequences?"):
    longest, study = trial.lengths[-1], lab.study
    window = {encoding: found["back", encoding]["window"] for encoding in ENCODINGS}
    lab.record(f"window.{longest}", window)
    rows = []
    for encoding in ("learned", "sinusoidal", "relative", "rope"):  # those that point at the length of training
        right = found["back", encoding]["accuracy"]
        row = [figures.with_median(x, study, f"extrapolation.{encoding}.{length}") for length, x in right.items()]
        row.append(figures.with_median(window[encoding], study, f"window.{longest}.{encoding}"))
        rows.append([trial.label(encoding), *row])
    lab.table([f"right, {trial.offset} back; length:", *map(str, trial.lengths), f"{longest}, window"], rows)

# %% [markdown]
# **Absolute positions fail where training ended.** A learned table has no trained row there. Sines are *defined* at any
# length, but the model cannot *use* them: the weight on the token asked for is gone.
#
# **A window brings the relative ways back.** With more keys the far ones take weight together, and RoPE meets angles that it
# never met. (The window takes both away at once, so it does not tell which of the two did the harm.) The relative bias owes
# much of its reach to the clip: where every distance has a number of its own, those beyond training are never trained.
#
# **ALiBi** never learned to point; what it can do shows at the second task.

# %%
if lab:
    shown = {
        ENCODINGS[e]: figures.with_median(found["recent", e]["accuracy"][longest], study, f"recent.{e}.{longest}")
        for e in RECENT
    }
    lab.say(
        "The most recent letter at length {longest}: {shown}. A guess: {guess:.2f}.",
        guess=guessing("recent"),
        longest=longest,
        shown=", ".join(f"{name} {right}" for name, right in shown.items()),
    )
    fig = figures.draw_extrapolation(found, trial, study)
    lab.figure(fig, "03_extrapolation")

# %% [markdown]
# ## 6. Can positions be stretched or shifted?
# (This section builds on sections 4 and 5: their trained models.) A RoPE model meets angles beyond training in longer
# sequences. Two popular cures need no retraining; both turn the hands more slowly, for a sequence $s$ times as long:
# - **interpolation**: $w_i / s$ for every hand, so that position 47 looks like 23.5 (Chen et al. 2023, who train on a little);
# - **NTK scaling**: the base becomes $10000 \, s^{d/(d-2)}$, which leaves the first hand alone and turns the last one $s$ times
#   as slowly.
#
# We add a third, the core of YaRN: **by parts**. A hand that made a whole turn in training has met all its angles and keeps its
# speed; the others get $w_i / s$.

# %%


def stretched(frequencies: Tensor, s: float, length: int) -> dict[str, Tensor]:
    """RoPE's frequencies (d / 2,), in radians a position, for sequences s times as long as the `length` of training."""
    d, turns = 2 * len(frequencies), frequencies * length / (2 * math.pi)
    ntk = (10_000 * s ** (d / (d - 2))) ** (-torch.arange(0, d, 2) / d)
    by_parts = torch.where(turns >= 1, frequencies, frequencies / s)
    return {"interpolated": frequencies / s, "ntk": ntk, "by_parts": by_parts}


def turning(frequencies: Tensor) -> Callable[[Tensor, int], Tensor]:
    """RoPE with these frequencies, for vectors that stand at the positions first, first + 1, ..."""
    return lambda x, first: turned(x, first + torch.arange(x.shape[-2]), frequencies)


if lab.section("6. Can positions be stretched or shifted?"):
    rope = {task: {way: {} for way in figures.WAYS} | {"plain": found[task, "rope"]["accuracy"]} for task in TASKS}
    for task, right in rope.items():
        model, seed = found[task, "rope"]["model"], lab.seed(f"test {task}")
        for length in trial.lengths[1:]:
            for way, new in stretched(rope_frequencies, length / trial.length, trial.length).items():
                right[way][length] = accuracy_turned(model, task, length, trial, seed, turning(new))
                lab.record(figures.rope_key(task, way, length), right[way][length])
    rows = []
    for way, name in figures.WAYS.items():
        places = [(task, length) for task in TASKS for length in trial.lengths[1:]]
        right = (figures.with_median(rope[t][way][n], lab.study, figures.rope_key(t, way, n)) for t, n in places)
        rows.append([name, *right])
    lengths = [str(length) for length in trial.lengths[1:]]
    lab.table([f"RoPE: {trial.offset} back at", *lengths, f"letter at {lengths[0]}", *lengths[1:]], rows)

# %% [markdown]
# So stretching is no cure for every task. "The most recent" bears blurred positions, and there interpolation works. To point
# exactly, the fastest hand must keep its speed, which tells 3 back from 2; and the slow ones must stay in the range of
# training. By parts does both, and differs from interpolation in nothing but that one hand. (Nor is it a cure for all: try
# `--offset 8`.)
#
# The sines can be helped *in training*: each step starts to count at a random position (a *shift*), so that all positions up
# to the longest are met, though only in short sequences.

# %%
if lab:
    shifted = found["back", SHIFTED]
    lab.record("shifted", shifted["accuracy"])
    lab.record("shifted.window", shifted["window"])
    pairs = [(found["back", "sinusoidal"], "extrapolation.sinusoidal"), (shifted, "shifted")]
    twice = trial.lengths[1]
    usual, moved = (figures.with_median(run["accuracy"][twice], lab.study, f"{key}.{twice}") for run, key in pairs)
    lab.say(f"Sines, {trial.offset} back at {twice}: {usual}; with a random shift in training {moved}.")
    fig = figures.draw_stretched(rope, {key: run["accuracy"] for run, key in pairs}, trial, lab.study)
    lab.figure(fig, "03_stretched_positions")

# %%
lab.finish()
