# %% [markdown]
# # Lab 3: positional encoding
# Attention compares words; where they stand does not enter its formula. How does it learn that, and what can each way of
# telling it do? You will see
# 1. what attention without positions makes of "i love you" and "you love i": the popular "same output" put right;
# 2. the sinusoidal encoding: fast columns and slow columns;
# 3. why sines: a step of $k$ positions is one fixed matrix; and whether "similar" means "near";
# 4. none, linear, learned, sinusoidal, relative bias, RoPE and ALiBi, trained on the same task: which of them can point;
# 5. the same models on sequences 2, 4 and 8 times as long as in training, and on a second task.

# %%
"""Lab 3 - Positional encoding: how does attention learn where a word stands, and what can each way of telling it do?

Run it:      python 03_positional_encoding.py
Then try:    python 03_positional_encoding.py --out trial --offset 1
             python 03_positional_encoding.py --out trial --steps 1000   (minutes: what does more training change?)
It writes:   03_position_effect, 03_positional_encoding_sinusoidal, 03_relative_position, 03_encoding_comparison,
             03_extrapolation and 03_results.json
"""

import sys
from pathlib import Path

# common/ stands beside this folder. A notebook has no __file__; it starts in this folder.
sys.path.insert(0, str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))
from common.command_line import Parser, whole_number
from common.lab import Lab


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--offset", type=whole_number(1, 8), default=3, metavar="K", help="steps back, 1 to 8; default: 3")
    parser.add_argument(
        "--length", type=whole_number(16, 32), default=24, metavar="N", help="in training, 16 to 32; default: 24"
    )
    parser.add_argument("--steps", type=whole_number(20, 5000), metavar="N", help="of training, 20 to 5000; default: 250")


lab = Lab(3, globals(), add_arguments)

# %%
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.attention import MultiHeadAttention, causal_mask
from common.pointing import (
    BATCH,
    D_MODEL,
    ENCODINGS,
    LETTER_RATE,
    N_HEADS,
    TASKS,
    UNNORMED,
    VOCABULARY,
    Pointer,
    Trial,
    guessing,
    over_seeds,
    run_trials,
    sequences,
)
from common.positional_encoding import rotary, shift_matrix, sinusoidal_encoding
from week6.figures.positional_encoding import draw_comparison, draw_extrapolation, draw_order, draw_shift, draw_sinusoids

# %% [markdown]
# ## 1. What attention without positions makes of a sentence
# "Without positions, *i love you* and *you love i* give the same output", one reads. But the output is a vector for each
# word. If the words change places, do the vectors change, or only their places? And what does their mean see, which a
# classifier may use?
#
# We ask 20 layers with random weights, in three cases: without positions, with the positions of section 2 added to the words,
# and without positions under a causal mask. Here everything is in float64, so that what is equal differs by 1e-15 or so.

# %%
FIRST = ("i", "love", "you")
ORDER = [2, 1, 0]  # the second sentence is the first in this order
SECOND = tuple(FIRST[i] for i in ORDER)

if lab.section("1. What attention without positions makes of a sentence"):
    outputs = {"without positions": [], "with positions": [], "without, causal mask": []}
    torch.manual_seed(lab.seed("order"))
    torch.set_default_dtype(torch.float64)
    with torch.no_grad():
        for _ in range(20):
            layer = MultiHeadAttention(D_MODEL, N_HEADS)
            words = 3 * torch.randn(len(FIRST), D_MODEL)  # 3: large enough that the words look at different words
            both = torch.stack([words, words[ORDER]])  # (2, 3, D_MODEL): the two sentences
            outputs["without positions"].append(layer(both)[0])  # [0]: the output; [1] are the weights
            outputs["with positions"].append(layer(both + sinusoidal_encoding(len(FIRST), D_MODEL))[0])
            outputs["without, causal mask"].append(layer(both, mask=causal_mask(len(FIRST)))[0])
    torch.set_default_dtype(torch.float32)
    first, second = outputs["without positions"][0]  # (3, D_MODEL) each, of the first layer
    numbers = [[word, *(f"{x:.2f}" for x in row[:5])] for word, row in zip((*FIRST, *SECOND), (*first, *second), strict=True)]
    lab.table(["without positions, first layer", *(f"feature {i}" for i in range(5))], numbers)

# %% [markdown]
# The rows of the table are the same vectors in another order. Is it so in all layers, and in the other cases? Three
# comparisons: the vectors of the same *word* in both sentences, the vectors at the same *place*, and the *mean* of the words.

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
    names = {"same_word": "same word", "same_place": "same place (largest)", "pooled": "mean of the words"}
    rows = [[case, *(f"{d[name].min():.2g} to {d[name].max():.2g}" for name in names)] for case, d in differences.items()]
    lab.table([f"difference in {len(outputs['with positions'])} layers", *names.values()], rows)

# %% [markdown]
# "The same output" is half of the truth. Without positions each word keeps its vector and takes it to its new place: attention
# is **equivariant**. Only the mean is blind to the order. A causal mask ends that, too: each word then sees only the words
# before it, and those are others now. A mask is a bit of order.

# %%
if lab:
    without, with_positions, causal = differences.values()
    lab.record("equivariance.max_difference", without["same_word"].max())
    lab.record("pooled.max_difference", without["pooled"].max())
    lab.record("same_place.min_difference", without["same_place"].min())
    for name in ("same_word", "pooled"):
        smallest = {"with_positions": with_positions[name].min(), "causal": causal[name].min()}
        lab.record(f"order.{name}.min_difference", smallest)
    lab.say(
        "Without positions the vector of a word moves with it (difference {equivariance.max_difference:.0e}), so another "
        "vector stands first and last (difference {same_place.min_difference:.2f} or more). With positions the vector of a "
        "word changes by {order.same_word.min_difference.with_positions:.2f} or more, under a causal mask by "
        "{order.same_word.min_difference.causal:.2f} or more."
    )
    fig = draw_order((FIRST, SECOND), outputs, differences)
    lab.figure(fig, "03_position_effect")

# %% [markdown]
# ## 2. The sinusoidal encoding
# $$PE[pos, 2i] = \sin(pos \cdot w_i), \quad PE[pos, 2i+1] = \cos(pos \cdot w_i), \quad w_i = 10000^{-2i/d}$$
# Each pair of columns is the hand of a clock, which turns by $w_i$ radians a position: the first race, the last hardly move.
# This table is added to the embeddings of the words. (Try 100 for 10,000, and look at the turns.)

# %%
positions = torch.arange(1000, dtype=torch.float64)[:, None]  # (1000, 1)
frequencies = 10_000 ** (-torch.arange(0, D_MODEL, 2, dtype=torch.float64) / D_MODEL)  # (16,): radians a position
angles = positions * frequencies  # (1000, 16)
table = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)  # (1000, 32): sin, cos, sin, cos, ...

if lab.section("2. The sinusoidal encoding"):
    difference = (table - sinusoidal_encoding(len(table), D_MODEL)).abs().max()
    lab.say("sinusoidal_encoding in common/ gives the same table (difference {x:.0e}).", x=difference)

# %% [markdown]
# How many turns do the hands make over 96 positions? And which columns tell a position from the next one?

# %%
SHOWN_PAIRS = (0, 3, 7, 15)
beginning = table[:96].float().numpy()  # (96, 32), in float32 as a model gets it
turns = angles[len(beginning) - 1] / (2 * math.pi)  # (16,): of each pair

if lab:
    n = len(beginning)
    rows = [[f"{2 * i}, {2 * i + 1}", f"{turns[i]:.3g}", f"{(n - 1) / turns[i]:.0f}"] for i in SHOWN_PAIRS]
    lab.table(["pair of columns", f"turns over {n} positions", "positions a turn"], rows)
    steps = np.diff(beginning, axis=0) ** 2  # (95, 32): squared distances between neighbouring positions
    lab.record("sinusoidal.turns", {"first_pair": turns[0], "last_pair": turns[-1]})
    lab.record("sinusoidal.pairs_below_one_turn", (turns < 1).sum())
    lab.record("sinusoidal.fast_share", steps[:, : D_MODEL // 2].sum() / steps.sum())
    lab.say(
        "{sinusoidal.pairs_below_one_turn:.0f} of the {pairs} pairs do not finish a turn. The faster half of the columns "
        "carries {sinusoidal.fast_share:.2%} of the squared distance between neighbouring positions.",
        pairs=len(turns),
    )
    fig = draw_sinusoids(beginning, turns, SHOWN_PAIRS)
    lab.figure(fig, "03_positional_encoding_sinusoidal")

# %% [markdown]
# ## 3. Why sines: a step is one fixed matrix
# (This section builds on section 2: its `table` and `frequencies`.) Moving on by $k$ positions turns the hand of pair $i$ by
# $k w_i$, wherever it stood: $\sin(a + b) = \sin a \cos b + \cos a \sin b$ and $\cos(a + b) = \cos a \cos b - \sin a \sin b$.
# So one matrix $M$, which turns each pair by its own angle, moves every position: $PE[pos + k] = M \, PE[pos]$.

# %%
offset = lab.options.offset  # k
turn = offset * frequencies  # (16,): the angle of each pair
sines, cosines = torch.arange(0, D_MODEL, 2), torch.arange(1, D_MODEL, 2)  # their columns
matrix = torch.zeros(D_MODEL, D_MODEL, dtype=torch.float64)
matrix[sines, sines], matrix[sines, cosines] = turn.cos(), turn.sin()  # sin(a + b), from sin a and cos a
matrix[cosines, sines], matrix[cosines, cosines] = -turn.sin(), turn.cos()  # cos(a + b)


def unexplained(table: Tensor, offset: int) -> float:
    """Root mean square of table[pos + offset] - best matrix @ table[pos], relative to that of the table."""
    here, there = table[:-offset], table[offset:]
    left = there - here @ torch.linalg.lstsq(here, there).solution
    return (left.norm() / there.norm()).item()


if lab.section("3. Why sines: a step is one fixed matrix"):
    error = (table[:-offset] @ matrix.T - table[offset:]).abs().max().item()
    random = torch.randn(table.shape, dtype=table.dtype, generator=lab.generator("random table"))
    lab.record("shift", {"max_error": error, "random_unexplained": unexplained(random, offset)})
    lab.say(
        "The matrix moves each of {n} positions by {k}, with an error of at most {shift.max_error:.0e}. Not every table has "
        "such a matrix: of a random table of the same shape the best one (least squares) leaves "
        "{shift.random_unexplained:.2f} of the root mean square unexplained. (shift_matrix in common/ is the same matrix; "
        "difference {x:.0e}.)",
        n=len(table),
        k=offset,
        x=(matrix - shift_matrix(offset, D_MODEL)).abs().max(),
    )

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
    lengths = (24, 192, 1000)
    rows = []
    for name, sharper in (("weight", 1), ("weight_sharper", SHARPER)):
        kept = lab.record(f"shift.{name}", {n: built_weight(scores, offset, n, sharper) for n in lengths})
        rows.append([f"scores times {sharper}", *kept.values()])
    lab.say("The largest score is that of the key {k} back at {shift.pointing_share:.1%} of the positions.", k=offset)
    lab.table([f"weight {offset} back; keys:", *map(str, lengths)], rows)

# %% [markdown]
# So a head that points $k$ back at any length exists. Whether training finds it, section 5 will show. A last question: are
# near positions similar, and are similar positions near? We compare position 0 with the others by the cosine.

# %%
SHOWN_DISTANCES = 65
unit = F.normalize(table[:200], dim=-1)
cosine = unit @ unit[0]  # (200,): similarity at each distance
rise = int((cosine.diff() > 0).nonzero()[0]) + 1  # the first distance that is more similar than one step nearer
gain = (cosine[:SHOWN_DISTANCES] - cosine[:SHOWN_DISTANCES, None]).triu()  # (near, far)
near, far = divmod(int(gain.argmax()), SHOWN_DISTANCES)  # the pair whose further one is more similar by the most

if lab:
    lab.record("similarity", {"first_rise_distance": rise, "near_distance": near, "far_distance": far})
    distances = {"before_rise": rise - 1, "at_rise": rise, "near": near, "far": far, "at_128": 128}
    lab.record("similarity", {name: cosine[distance] for name, distance in distances.items()})
    lab.say(
        "The cosine falls up to distance {before}, is larger again at {similarity.first_rise_distance:.0f}, and goes on in "
        "waves: {similarity.near:.2f} at {similarity.near_distance:.0f}, {similarity.far:.2f} at "
        "{similarity.far_distance:.0f}. Near positions are similar, but similar positions need not be near.",
        before=rise - 1,
    )
    fig = draw_shift(offset, matrix, error, scores, cosine, rise, near, far, SHOWN_DISTANCES)
    lab.figure(fig, "03_relative_position")

# %% [markdown]
# ## 4. Six encodings and none, trained on the same task
# A position can enter in three places:
# - *added to the embedding*: linear ($pos/n$ in every column), learned (a table of trained rows), sinusoidal;
# - *added to the scores*: a relative bias (a trained number for each distance, one for all far ones), ALiBi (a fixed penalty
#   that grows with the distance);
# - *in the products*: RoPE turns each pair of features of $q$ and $k$ by an angle that grows with the position. It is
#   section 2's clock, but the hands are the features themselves.
#
# The product of a query and a key then depends on their distance alone, wherever they stand:

# %%


def turned(x: Tensor, position: int) -> Tensor:
    """The vector x (d,) as RoPE turns it at this position."""
    angle = position * 10_000 ** (-torch.arange(0, len(x), 2) / len(x))  # (d / 2,)
    even, odd = x[0::2], x[1::2]  # (d / 2,) each
    return torch.stack([even * angle.cos() - odd * angle.sin(), even * angle.sin() + odd * angle.cos()], dim=-1).flatten()


q, k = torch.randn(2, D_MODEL // N_HEADS, generator=lab.generator("rope"))  # (8,) each: a query and a key of one head

if lab.section("4. Six encodings and none, trained on the same task"):
    pairs = [(3, 0), (13, 10), (103, 100), (13, 12), (13, 9)]
    products = [(turned(q, at) @ turned(k, seen)).item() for at, seen in pairs]
    rows = [[at, seen, at - seen, product] for (at, seen), product in zip(pairs, products, strict=True)]
    lab.table(["query at", "key at", "distance", "product"], rows, digits=4)
    everywhere = torch.stack([turned(q, position) for position in range(104)])  # (104, 8)
    difference = (everywhere - rotary(q.repeat(104, 1))).abs().max()
    lab.say("rotary in common/ turns a whole sequence at once, to the same numbers (difference {x:.0e}).", x=difference)

# %% [markdown]
# The task is to name, at each place of a sequence, the token $k$ steps back: nothing but order.

# %%


def example(task: str, offset: int, generator: torch.Generator) -> list[list]:
    """A short sequence of the task and, below it, what is asked for at each place; as rows of a table."""
    tokens, asked = sequences(task, 1, 16, offset, generator)  # (1, 16) each
    answers = ["-" if at < 0 else tokens[0, at].item() for at in asked[0]]
    return [["sequence", *tokens[0].tolist()], ["asked for", *answers]]


if lab:
    lab.table(["place", *range(16)], example("back", lab.options.offset, lab.generator("example")))

# %% [markdown]
# The model (`common/pointing.py`) is one layer of causal attention, as in a language model and in ALiBi's paper, with a
# LayerNorm before and after. All encodings get the same first weights, data and learning rate. The last job is a control,
# explained below.

# %%
n_steps, n_test, n_seeds = (8, 4, 1) if lab.fast else (250, 32, 3)
trial = Trial(lab.options.length, lab.options.offset, lab.options.steps or n_steps, n_test)
jobs = [(task, encoding) for task in TASKS for encoding in ENCODINGS] + [("back", UNNORMED)]
compared = [encoding for encoding in ENCODINGS if encoding != "relative_all"]  # that one joins in section 5

if lab:
    found = run_trials(jobs, trial, n_seeds, lab.seed)  # found["back", "rope"][0]["model"]: RoPE's, of the first seed
    accuracy = {job: over_seeds(runs) for job, runs in found.items()}  # (seeds, lengths) each
    lab.say(
        f"Trained for {trial.n_steps} steps of {BATCH} sequences of {trial.length} tokens; seeds: {n_seeds}. Accuracy: how "
        f"often the token {trial.offset} back is named. Weight: what the head that looks at it most gives it."
    )
    rows = []
    for encoding in (*compared, UNNORMED):
        right, weight = accuracy["back", encoding][:, 0], over_seeds(found["back", encoding], "on_asked")[:, 0]
        rows.append([ENCODINGS.get(encoding, encoding), right.mean(), right.min(), right.max(), weight.mean()])
    lab.table(["encoding", "accuracy (mean)", "min", "max", "weight"], rows)

# %% [markdown]
# **None is counting.** It does better than a guess. What can be had without positions? Which tokens came, and how often, is
# known; where they stood is not. So one can always name the most frequent of the tokens so far:

# %%


def most_frequent(tokens: Tensor, offset: int) -> float:
    """How often the most frequent of the tokens so far is the one `offset` back."""
    counts = F.one_hot(tokens, VOCABULARY).cumsum(dim=1)[:, offset:]  # (n, T - offset, VOCABULARY)
    return (counts.argmax(dim=-1) == tokens[:, :-offset]).float().mean().item()


if lab:
    tokens, _ = sequences("back", 1000, trial.length, trial.offset, lab.generator("most frequent"))
    lab.record("baseline.most_frequent", most_frequent(tokens, trial.offset))
    lab.say(
        "None: {none:.2f}. Naming the most frequent of the tokens so far: {baseline.most_frequent:.2f}. Guessing: {guess:.2f}.",
        none=accuracy["back", "none"][:, 0].mean(),
        guess=guessing("back"),
    )

# %% [markdown]
# **Linear is none.** One number added to every feature changes only their mean, which a LayerNorm subtracts. We take the
# encoding out of the trained models and see whether a logit moves. (Where the two differ in a table, rounding has grown in
# training.) The control has no LayerNorm in front: its scores rise or fall steadily with the key's position. That favours one
# end, and a place beside it (try `--offset 1`), but not a place well inside.

# %%


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


if lab:
    lab.record("linear.erased_difference", linear_effect([run["model"] for run in found["back", "linear"]], trial))
    lab.record("linear.without_norm", accuracy["back", UNNORMED][:, 0].mean())
    lab.say(
        "Taking the linear encoding out moves no logit by more than {linear.erased_difference:.0e}. Without the LayerNorm it "
        "gets {linear.without_norm:.2f}."
    )

# %% [markdown]
# **ALiBi cannot choose a distance.** It takes a fixed penalty off the scores: a head can favour what is near, not what is $k$
# back. Then one would expect the most weight on the nearest key of all, the query itself, 0 back. Is it there? What a head can
# still do is to turn to or from a *token*: compare the key 1 back where it holds the query's own token and where another one.

# %%


def by_distance(runs: list[dict], furthest: int) -> list[float]:
    """Mean weight that the best head gives the keys 0, 1, ..., `furthest` back, at the length of training."""
    weights = torch.stack([run["tests"][0]["weights"] for run in runs]).mean(dim=0)  # (T, T)
    return [weights.diagonal(-distance)[furthest - distance :].mean().item() for distance in range(furthest + 1)]


@torch.no_grad()
def one_back(runs: list[dict], tokens: Tensor) -> dict[str, float]:
    """Mean weight that the best head gives the key 1 back, where it holds the query's own token and where another one."""
    same = tokens[:, 1:] == tokens[:, :-1]  # (n, T - 1)
    given = torch.stack([run["model"](tokens)[1][:, run["tests"][0]["head"]].diagonal(-1, 1, 2) for run in runs])
    return {"own_token": given[:, same].mean().item(), "other_token": given[:, ~same].mean().item()}


if lab:
    alibi = found["back", "alibi"]
    kept = lab.record("alibi.weight_at_distance", dict(enumerate(by_distance(alibi, trial.offset))))
    some, _ = sequences("back", 200, trial.length, trial.offset, lab.generator("one back"))
    lab.record("alibi.one_back", one_back(alibi, some))
    lab.table(["ALiBi: keys back", *map(str, kept)], [["weight of its best head", *kept.values()]])
    lab.say(
        "The key 1 back gets {alibi.one_back.own_token:.2f} if it holds the query's own token, "
        "{alibi.one_back.other_token:.2f} if another one."
    )

# %% [markdown]
# If the second number is larger, the head has learned to avoid the query's own token, and so the query itself. In the figure:
# what each encoding adds, and below it where the best head of a trained model looks. A bright line beside the diagonal points
# $k$ back.

# %%
if lab:
    means = {encoding: accuracy["back", encoding][:, 0].mean() for encoding in compared}
    first_runs = {encoding: found["back", encoding][0] for encoding in means}  # of the first seed
    fig = draw_comparison(means, first_runs, trial, n_seeds)
    lab.figure(fig, "03_encoding_comparison")

# %% [markdown]
# ## 5. Longer than in training
# (This section builds on section 4: its trained models.) "Sines extrapolate", one reads. We test the models on sequences 2, 4
# and 8 times as long as in training, at the last positions, which are all new. A second task is made for what ALiBi has, a
# preference for the near: among blanks, name the most recent letter. And a variant joins: a relative bias with a number for
# every distance. The one of section 4 is *clipped*, as in Shaw et al. and T5: all far distances share a number.

# %%
if lab.section("5. Longer than in training"):
    lab.say(
        f"The second task: {100 * LETTER_RATE:.0f} % of the places hold one of {VOCABULARY - 1} letters, the others are blank "
        f"(0); at each blank the most recent letter is asked for. Guessing gives {guessing('recent'):.2f}."
    )
    lab.table(["place", *range(16)], example("recent", trial.offset, lab.generator("letters among blanks")))
    lab.say(f"Accuracy at the last {trial.length} positions of sequences of each length, mean over the seeds:")
    for task, key in (("back", "extrapolation"), ("recent", "recent")):
        means_at = {e: dict(zip(trial.lengths, accuracy[task, e].mean(axis=0), strict=True)) for e in ENCODINGS}
        kept = lab.record(key, means_at)
        header = [TASKS[task].format(trial.offset), *map(str, trial.lengths)]
        lab.table(header, [[trial.label(encoding), *row.values()] for encoding, row in kept.items()])

# %% [markdown]
# **Absolute positions fail where training ended.** A learned table has no trained row there. Sines are *defined* at any
# length, but can the model *use* them? The weight on the token asked for tells. A likely cause, not a proven one: the slow
# columns take values that they never had in training.

# %%


def learned_ends(runs: list[dict]) -> dict[str, float]:
    """Accuracy at the last position of training and at the one behind it, the first of twice the length."""
    known, new = (torch.stack([run["tests"][i]["by_position"] for run in runs]).mean(dim=0) for i in (0, 1))
    return {"last_trained": known[-1].item(), "first_untrained": new[0].item()}


def columns_beyond(n: int, margin: float) -> int:
    """Columns of the sines that at n to 2 n - 1 leave the range which they had at 0 to n - 1 by more than the margin."""
    known, new = sinusoidal_encoding(2 * n, D_MODEL).split(n)
    return int(((new > known.amax(dim=0) + margin) | (new < known.amin(dim=0) - margin)).any(dim=0).sum())


if lab:
    on_asked = {encoding: over_seeds(found["back", encoding], "on_asked").mean(axis=0) for encoding in ENCODINGS}
    lab.record("on_asked", {name: dict(zip(trial.lengths, row, strict=True)) for name, row in on_asked.items()})
    lab.record("learned", learned_ends(found["back", "learned"]))
    beyond = {"columns_beyond": columns_beyond(trial.length, 0.05), "columns_far_beyond": columns_beyond(trial.length, 0.5)}
    lab.record("sinusoidal", beyond)
    lab.say(
        "Learned: {learned.last_trained:.2f} at position {last}, the last in training, and {learned.first_untrained:.2f} at "
        "the next. Sinusoidal: the token asked for gets {before:.2f} of the weight at {n}, {after:.2f} at twice the "
        "length. There {sinusoidal.columns_beyond:.0f} of the {columns} columns leave the range of training by more than 0.05, "
        "{sinusoidal.columns_far_beyond:.0f} by more than 0.5.",
        last=trial.length - 1,
        n=trial.length,
        before=on_asked["sinusoidal"][0],
        after=on_asked["sinusoidal"][1],
        columns=D_MODEL,
    )

# %% [markdown]
# **A window brings the relative ways back.** With more keys the far ones take weight together, and RoPE meets angles that it
# never met. If each position may see only as many keys as in training, there are neither more keys nor new distances. (The
# window takes both away at once, so it does not tell which of the two did the harm.)
#
# **The relative bias owes its reach to the clip.** Where every distance has a number of its own, those beyond training are
# never trained: they stay at 0, where they start, while training moves the others. A far key then outweighs a near one.

# %%


def unasked_bias(runs: list[dict], trial: Trial) -> float:
    """Mean number of the best heads of "relative_all" for the distances of training, without the one that is asked for."""
    best = torch.stack([run["model"].relative.table[run["tests"][0]["head"]] for run in runs]).detach().mean(dim=0)
    back = best[: trial.lengths[-1] + 1].flip(0)[: trial.length]  # entry k is for the key k back
    return ((back.sum() - back[trial.offset]) / (trial.length - 1)).item()


if lab:
    window = {name: np.array([run["window"]["accuracy"] for run in found["back", name]]) for name in ENCODINGS}  # (seeds,)
    kept = lab.record(f"window.{trial.lengths[-1]}", {encoding: right.mean() for encoding, right in window.items()})
    bias = lab.record("relative_all.bias", unasked_bias(found["back", "relative_all"], trial))
    rows = [[trial.label(e), on_asked[e][0], on_asked[e][-1], accuracy["back", e][:, -1].mean(), kept[e]] for e in ENCODINGS]
    n, longest = trial.length, trial.lengths[-1]
    lab.table(["", f"weight at {n}", f"weight at {longest}", f"accuracy at {longest}", f"last {n} keys only"], rows)
    lab.say(
        "Without the clip the trained numbers lie at {relative_all.bias:.2f} on average, but for the one asked for; the "
        "untrained ones at 0. So a far key gets {times:.1f} times the weight of a near one.",
        times=math.exp(-bias),
    )

# %% [markdown]
# **Which encoding reaches furthest depends on the task.** It is named here if it is clearly better than guessing.

# %%
CLEAR = 0.2  # above guessing


def ranking(final: dict[str, float], guess: float) -> list[str]:
    """The names whose accuracy is clearly above guessing, best first, with that accuracy."""
    able = [name for name in final if final[name] > guess + CLEAR]
    return [f"{name} ({final[name]:.2f})" for name in sorted(able, key=final.get, reverse=True)]


if lab:
    best = {}
    for task in TASKS:
        final = {trial.label(encoding): accuracy[task, encoding][:, -1].mean() for encoding in ENCODINGS}
        ranked = ranking(final, guessing(task))
        best[task] = (*ranked, "no model clearly above guessing")[0]
        lab.say(f'Best at {trial.lengths[-1]} at "{TASKS[task].format(trial.offset)}": {", ".join(ranked) or "no model"}.')
    fig = draw_extrapolation(accuracy, window, best, trial, clear=CLEAR)
    lab.figure(fig, "03_extrapolation")

# %%
lab.finish()
