# %% [markdown]
# # Lab 5: sequence modelling
# A Transformer and an RNN continue a series. Which is better, and compared with what? Both are trained here, on the same data.
# You will see
# 1. a noisy sine, 20 steps in and the next one out, beside baselines and the best that fitting the curve can reach;
# 2. what the trained heads look at, and whether that is what the prediction needs;
# 3. recall: of a value at a fixed distance, and by content, where two layers of attention do what one does not;
# 4. classic mistakes, trained beside the right model;
# 5. how many digits of all this hold on another machine.

# %%
"""Lab 5 - Sequence modelling: a Transformer and an RNN continue a series. Which is better, and compared with what?

Run it:      python 05_sequence_modeling.py
Then try:    python 05_sequence_modeling.py --out trial --heads 1 2 4 8       (several values: only that comparison)
             python 05_sequence_modeling.py --out trial --lengths 10 20 50 100
             python 05_sequence_modeling.py --out trial --no-positions --noise 0.3
It writes:   05_sample_sequences, 05_performance_comparison, 05_attention_patterns, 05_multihead_analysis,
             05_position_importance, 05_recall, 05_common_mistakes, 05_sensitivity and 05_results.json;
             a comparison writes 05_heads or 05_lengths instead
"""

import sys
from pathlib import Path

# common/ stands beside this folder. A notebook has no __file__; it starts in this folder.
sys.path.insert(0, str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))
from common.command_line import Ordered, Parser, divisor_of, noise_level, whole_number
from common.forecasters import D_MODEL, MAX_LENGTH
from common.lab import Lab

VARIED = {"heads": "number of heads", "lengths": "length of the input"}  # flags that take several values
DEFAULTS = {"heads": 4, "lengths": 20}


def add_arguments(parser: Parser) -> None:
    for flag, kind in (("heads", divisor_of(D_MODEL)), ("lengths", whole_number(3, MAX_LENGTH))):
        text = f"{VARIED[flag]}, default: {DEFAULTS[flag]}; several values: only their comparison"
        parser.add_argument(f"--{flag}", type=kind, nargs="+", action=Ordered, default=[DEFAULTS[flag]], metavar="N", help=text)
    text = "standard deviation of the noise, one or several; default: 0 0.1"
    parser.add_argument("--noise", type=noise_level, nargs="+", action=Ordered, default=[0.0, 0.1], metavar="S", help=text)
    parser.add_argument("--no-positions", action="store_true", help="give no Transformer a positional encoding")
    parser.add_argument("--search", action="store_true", help="only the search for the learning rates, some minutes")


lab = Lab(5, globals(), add_arguments)
options = lab.options
several = {flag: values for flag, values in (("heads", options.heads), ("lengths", options.lengths)) if len(values) > 1}
lab.only = "Search" if options.search else "Exercise" if several else ""  # how the titles of the sections that run begin

# %%
import math
from functools import partial
from statistics import mean

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.attention import MultiHeadAttention
from common.experiments import Data, batches_of, error_on, errors_of, fit, fit_all, mse, rank_correlation
from common.forecasters import Recurrent, Transformer, looks
from common.induction import LENGTH, LONGER, PERIODS, Attentions, TokenGRU, accuracy, repeating, there_and_back, token_loss
from common.plotting import number
from common.probing import errors_by_way, hidden_error, looks_by_frequency, replace, row_sum_error, silenced_factors
from common.sines import FREQUENCIES, baselines, curve_fit, sines
from common.training import train
from week6.figures import sequence_modeling as figures
from week6.figures.sequence_modeling import LABELS, MISTAKES

# %% [markdown]
# ## The two networks
# Both take a series of T numbers and name the next one. The **Transformer** makes 32 features of each number, adds where it
# stands, and sends all through one block (Lab 4), or, with `depth=2`, through two. Only the last position is read out, so of
# the last block only its query is computed: the same result as from the whole block, in less time. The last position comes in
# by three ways: as query, among the keys and values, and by the residual `last + attended`.
#
# The **recurrent network** reads one number after the other into a state of 64 numbers, and predicts from the last state.
# With `depth=2` a second RNN reads the states of the first. Section 3 uses it with a GRU, too, and with another start:
# `orthogonal` makes the matrix from state to state one that by itself neither shrinks nor stretches the state, so that what
# came in long ago can still be there. Both classes stand in `common/forecasters.py`.
#
# What the flags decide: how each network is made (`networks`), how many values go in, and the noise. And the learning rates.
# A comparison is fair if each network has the rate that does best for it, in the training in which it is compared. So each
# training has its own, from a search in steps of a factor of two.
# `python 05_sequence_modeling.py --search` repeats it (some minutes).
#
# (`partial(Recurrent, depth=2)` is a function: called, it makes a `Recurrent` with depth 2. So each network is new whenever
# it is trained.)

# %%
RATES = {
    # section 1: a short training, the full one without noise, and the full one with noise
    "short": {"rnn": 8e-3, "transformer": 1.6e-2},
    "quiet": {"rnn": 8e-3, "transformer": 1.6e-2},
    "noisy": {"rnn": 8e-3, "rnn_2": 8e-3, "transformer": 1.6e-2, "transformer_2": 1.6e-2},
    # section 3: a value at a fixed distance, its place varying or fixed; and what followed the same token
    "recall": {"transformer": 8e-3, "rnn": 8e-3, "orthogonal": 2e-3, "gru": 6e-2},
    "fixed place": {"transformer": 1.6e-2},
    "content": {"layers_1": 2e-2, "layers_2": 2e-2, "gru": 4e-2},
    # section 4
    "mistakes": {
        "correct": 3.2e-2,
        "no_positions": 1.6e-2,
        "no_scaling": 1.6e-2,
        "wrong_axis": 3.2e-2,
        "correct_64": 1.6e-2,
        "no_scaling_64": 4e-3,
    },
}
n_heads = DEFAULTS["heads"] if "heads" in several else options.heads[0]
length = DEFAULTS["lengths"] if "lengths" in several else options.lengths[0]
noise = options.noise[-1]
make_transformer = partial(Transformer, n_heads, positions=not options.no_positions)
networks = {"rnn": Recurrent, "transformer": make_transformer}
deeper = networks | {"rnn_2": partial(Recurrent, depth=2), "transformer_2": partial(make_transformer, depth=2)}
n_test = 200 if lab.fast else 2000  # series to test on

if lab:
    kept = {name: sum(p.numel() for p in make().parameters()) for name, make in deeper.items()}
    lab.record("parameters", kept | {"linear": length})
    if lab.verbose:
        lab.say("Parameters: " + ", ".join(f"{LABELS[name]} {n:,.0f}" for name, n in kept.items()) + ".")
    if options.no_positions:
        lab.say("In sections 1 to 3 no Transformer has positions.")


def sine_batches(level: float, n_steps: int, size: int, generator: torch.Generator, length: int = length) -> list[Data]:
    """n_steps batches of new series with this noise."""
    return batches_of(sines(n_steps * size, length, level, generator), size)


# %% [markdown]
# ## 1. The score card
# The task: $y(t) = A \sin(f t + \varphi) + \mathrm{noise}$, with an amplitude, a frequency and a phase that are new in every
# series. In go 20 values, out comes the next one. It is predicted with its noise, so no error can be below the noise's
# variance.
#
# First one short training, in the open: 64 new series a step, and the squared error of the next value. `train`
# (`common/training.py`) is the loop of Lab 2; with `beta_2=0.95` its AdamW forgets old gradients sooner, which short trainings
# gain from.

# %%
if lab.section("1. The score card"):
    seed, short = lab.seed("sine"), RATES["short"]
    n_steps = 2 if lab.fast else 500
    short_batches = sine_batches(noise, n_steps, 64, lab.generator("short training"))
    tests = {level: sines(2 * n_test, length, level, lab.generator("test")) for level in options.noise}

    torch.manual_seed(seed)
    rnn = networks["rnn"]()
    x, y = zip(*short_batches, strict=True)  # of each step: inputs (64, T) and targets (64,)
    losses = train(rnn, lambda step: F.mse_loss(rnn(x[step]), y[step]), n_steps, lr=short["rnn"], beta_2=0.95)
    lab.say(
        f"{n_steps} steps of 64 series, noise {noise:g}: the loss fell from {losses[0]:.3f} to {losses[-1]:.3f}; on new series "
        f"the error is {error_on(rnn, tests[noise]):.4f}, of which {noise**2:g} is noise."
    )

# %% [markdown]
# The Transformer, on the same series and from the same seed (`fit` in `common/experiments.py` does what you have just seen).
# Six of the new series: the curve that hides behind the noise, where each network says it goes, and, as a cross, where the
# sine goes that fits the 20 values best.

# %%
if lab:
    transformer = fit(networks["transformer"], short_batches, tests[noise], short["transformer"], seed)
    clean = sines(2 * n_test, length, 0.0, lab.generator("test"))  # the same sines without noise
    inputs, _ = tests[noise]
    with torch.no_grad():
        predictions = {"rnn": rnn(inputs), "transformer": transformer.model(inputs), "limit": curve_fit(inputs)}
    fig = figures.draw_samples(inputs, clean, predictions, noise)
    lab.figure(fig, "05_sample_sequences")

# %% [markdown]
# Is such an error good? Alone it says nothing. Beside the networks stand three **baselines**: predict 0, repeat the last
# value, and the best linear formula (a weighted sum of the 20 values, fitted to the same training data); and the **limit**:
# fit the sine itself to each series by non-linear least squares (`curve_fit` in `common/sines.py`) and continue it.
#
# Now the full training, on the same data for all. With noise it is longer, for noise has to be averaged out, and there each
# network is trained with a second layer, too.

# %%
if lab:
    runs, card, fitted = {}, {}, {}  # by noise
    for level, test in tests.items():
        n_steps, size = (6, 64) if lab.fast else (1200, 128) if level else (800, 64)
        batches = sine_batches(level, n_steps, size, lab.generator("training"))
        made, rates = (deeper, RATES["noisy"]) if level else (networks, RATES["quiet"])
        runs[level] = fit_all(made, batches, test, rates, seed)
        fitted[level] = curve_fit(test[0])
        data = tuple(torch.cat(pieces) for pieces in zip(*batches, strict=True))
        errors, key = baselines(data, test) | errors_of(runs[level]), f"sine.noise_{level:g}"
        card[level] = {name: lab.record(f"{key}.{name}.mse", error) for name, error in errors.items()}
        card[level]["limit"] = lab.record(f"{key}.limit", mse(fitted[level], test[1]))
        for name, run in runs[level].items():
            lab.record_seconds(f"{key}.{name}.training", run.seconds)
    rows = [
        [LABELS[name], *(number(errors[name]) if name in errors else "" for errors in card.values())] for name in card[noise]
    ]
    lab.table(["mean squared error", *(f"noise {level:g}" for level in card)], rows)

# %% [markdown]
# Without noise the linear formula wins by far: with a known frequency a sine is a linear formula of two past values,
# $y(t+1) = 2 \cos(f)\, y(t) - y(t-1)$; with an unknown one, 20 values still come very close. With noise it falls back.
#
# How far from the limit is each? Most of the error is noise that nobody can predict. So we measure against the next value
# *without* its noise, which no model gets to see: what is left is its **excess**. Part of that comes from the noise in the 20
# values, as the limit's own excess shows. (Less than the limit's is possible: the fitted sine does not use how A, f and phi
# are drawn.)

# %%
if lab:
    for level in [level for level in options.noise if level > 0]:
        own = {name: error_on(run.model, (tests[level][0], clean[1])) for name, run in runs[level].items()}
        excess = lab.record(f"sine.noise_{level:g}.excess", own | {"limit": mse(fitted[level], clean[1])})
        times = lab.record(f"sine.noise_{level:g}.times_limit", {name: excess[name] / excess["limit"] for name in own})
        rows = [[LABELS[name], number(excess[name], 2), f"{factor:.1f}"] for name, factor in times.items()]
        lab.table([f"noise {level:g}, beyond the noise", "error", "times the limit's"], rows)

# %%
if lab:
    fig = figures.draw_scores(card, noise, lab.study)
    lab.figure(fig, "05_performance_comparison")

# %% [markdown]
# ## 2. What the heads look at, and what the prediction needs
# (This section builds on section 1: its trained networks.) Attention says where a head looks. Whether the prediction needs it
# is asked by intervention: **hide** a position from all heads by a mask, or **replace** its value by that of another series,
# and measure the error again. The last position, hidden from the heads, still comes in by the query and the residual; a
# replaced value is replaced for all ways in.

# %%
if lab.section("2. What the heads look at, and what the prediction needs"):
    inputs, targets = data = sines(200 if lab.fast else 1000, length, noise, lab.generator("positions"))
    model = runs[noise]["transformer"].model
    steps = range(1, length + 1)  # back from the value that is asked
    weights = looks(model, inputs)  # (H, n, T)
    weight = weights.mean(dim=(0, 1)).tolist()  # (T,)
    hidden = [hidden_error(model, data, back) for back in steps]
    swapped = [error_on(model, (replace(inputs, back), targets)) for back in steps]
    base = lab.record("position.base", error_on(model, data))  # with nothing done

# %% [markdown]
# Is a position with a large weight an important one? Step 1 back is the last value that goes in.

# %%
SHOWN = (1, 2, 3, 5, 10, 20)  # steps back

if lab:
    found = {"attention": weight, "hiding": hidden, "replacing": swapped}
    shown = [back for back in SHOWN if back <= length]
    positions = lab.record("position", {name: {back: values[back - 1] for back in shown} for name, values in found.items()})
    rows = [[back, *(values[back] for values in positions.values())] for back in shown if lab.verbose or back in (1, 3, 10)]
    lab.table(["steps back", "weight", "error, hidden", "replaced"], rows, digits=3)
    lab.record("position.rank_correlation", rank_correlation(weight, hidden))
    lab.say(
        "With nothing done the error is {position.base:.3f}. Over all positions, weight and error when hidden have a rank "
        "correlation of {position.rank_correlation:.2f} (1 = same order). Replacing the value {most} back costs most.",
        most=int(np.argmax(swapped)) + 1,
    )
    fig = figures.draw_positions(weight, hidden, swapped, base, lab.study)
    lab.figure(fig, "05_position_importance")

# %% [markdown]
# The last value has three ways into the prediction: the residual, the query, and key and value. We replace it on one of them
# at a time. Attention weights show only the third.

# %%
if lab:
    lab.record("position.last_value", errors_by_way(model, data))
    lab.say(
        "Replaced on one way alone: residual {position.last_value.residual:.2f}, query {position.last_value.query:.2f}, "
        "key and value {position.last_value.key_value:.3f}."
    )

# %% [markdown]
# Do the heads do different things? Look at each over slow and fast sines, and silence one at a time.

# %%
if lab:
    by_frequency = looks_by_frequency(model, length, noise, lab.generator("frequencies"), n_f=41, n_each=50)
    fig = figures.draw_patterns(by_frequency, FREQUENCIES, n_sequences=50)
    lab.figure(fig, "05_attention_patterns")

# %%
if lab:
    factors = silenced_factors(model, data)
    lab.record("heads.silenced", {"min": min(factors), "max": max(factors)})
    lab.say("Silencing one head multiplies the error by {heads.silenced.min:.2g} to {heads.silenced.max:.2g}.")
    fig = figures.draw_heads(weights, factors, lab.study)
    lab.figure(fig, "05_multihead_analysis")

# %% [markdown]
# ## 3. Recall: at a fixed distance, and by content
# Where does attention win? First a case that is often shown: a random wave of P = 25 values, then its first value again; asked
# is the second. So the answer stands P steps back, and nothing has to be computed, only fetched. Before the wave stand 0 to 9
# random values, so that the answer does not always stand at the same *place*. Predicting 0 has an error of 1.

# %%
PERIOD, FILLER = 25, 9


def waves(n: int, generator: torch.Generator, filler: int = FILLER) -> Data:
    """n random waves behind up to `filler` other values: a whole period and the first value of the next; then its second."""
    extra = int(torch.randint(filler + 1, (1,), generator=generator))
    y = torch.randn(n, extra + PERIOD, generator=generator)
    return torch.cat([y, y[:, extra : extra + 1]], dim=1), y[:, extra + 1].contiguous()


recall_networks = {
    "transformer": make_transformer,
    "orthogonal": partial(Recurrent, orthogonal=True),
    "rnn": Recurrent,
    "gru": partial(Recurrent, nn.GRU),
}

if lab.section("3. Recall: at a fixed distance, and by content"):
    seed, generator = lab.seed("recall"), lab.generator("recall")
    n_steps = 4 if lab.fast else 200
    wave_batches = [waves(64, generator) for _ in range(n_steps)]
    wave_tests = [waves(n_test // 10, generator) for _ in range(10)]  # each at a place of its own
    recall_runs = fit_all(recall_networks, wave_batches, wave_tests[0], RATES["recall"], seed)
    fixed_batches = [waves(64, generator, filler=0) for _ in range(n_steps)]
    fixed = fit_all({"transformer": make_transformer}, fixed_batches, waves(n_test, generator, 0), RATES["fixed place"], seed)
    lab.record("parameters.gru", sum(p.numel() for p in recall_networks["gru"]().parameters()))
    by_name = {name: {"mse": mean(error_on(run.model, test) for test in wave_tests)} for name, run in recall_runs.items()}
    recalled = lab.record(f"recall.period_{PERIOD}", by_name)
    fixed_place = lab.record("recall.fixed_place.transformer.mse", fixed["transformer"].error)

    rows = [[LABELS[name], number(found["mse"])] for name, found in recalled.items()]
    rows += [["Transformer, place fixed", number(fixed_place)]]
    lab.table([f"{PERIOD} steps back, {n_steps} steps of training", "error"], rows)
    if lab.study:
        keys = [f"recall.period_{PERIOD}.{name}.mse" for name in ("orthogonal", "transformer")]
        ahead = lab.study.count(*keys, where=lambda rnn, transformer: rnn < transformer)
        lab.say(f"The RNN that starts orthogonal is ahead of the Transformer in {ahead} of {lab.study.n} starts.")

# %% [markdown]
# Now recall **by content**. A random sequence of tokens repeats, with a period that is new in every sequence:
# `d a f b d a f b d a ...` What comes next? Find where the present token stood before, and name what followed it. How far
# back that is nobody knows beforehand.
#
# One such attention layer does not manage it: it may find where the present token stood before, but there stands that token,
# not the one after it. With two, the first can note at each position which token came before, and the second looks for the
# position whose note says "behind the present token". These two are the **induction circuit**. Below are attention layers of
# one head each and nothing else, so that nobody else can do the work. They are tested on the periods of the training, and on
# longer ones that never occurred in it.
#
# Beware: there is a second way, to name the token that has not been seen for longest. Where rounds repeat, both give the same
# answer. So there is a third test, rounds that come back in reverse, as in `d a f b f a d`: there they do not.

# %%
content_networks = {"layers_1": partial(Attentions, 1), "layers_2": partial(Attentions, 2), "gru": TokenGRU}

if lab:
    generator, n_steps = lab.generator("content"), 2 if lab.fast else 250
    token_batches = [repeating(64, PERIODS, generator) for _ in range(n_steps)]
    seen, longer = (repeating(n_test, periods, generator) for periods in (PERIODS, LONGER))
    content = fit_all(content_networks, token_batches, seen, RATES["content"], lab.seed("content"), token_loss)
    shares = {name: [accuracy(run.model, seen), accuracy(run.model, longer)] for name, run in content.items()}
    (one, _), (two, unseen), (gru, gru_unseen) = shares.values()
    induction = {"1.accuracy": one, "2.accuracy": two, "unseen": unseen, "gru": gru, "gru_unseen": gru_unseen}
    tokens, *answers = there_and_back(n_test, 7, lab.generator("there and back"))  # what followed; not seen for longest
    ways = {name: [accuracy(run.model, (tokens, answer)) for answer in answers] for name, run in content.items()}
    for name, (followed, oldest) in ways.items():
        induction |= {f"reversed.{name}.followed": followed, f"reversed.{name}.oldest": oldest}
    lab.record("induction", induction)
    rows = [[LABELS[name], *share, *ways[name]] for name, share in shares.items()]
    columns = [f"periods {low} to {high}" for low, high in (PERIODS, LONGER)]
    lab.table([f"share right, {n_steps} steps", *columns, "back: followed", "back: longest ago"], rows)

# %% [markdown]
# Is it that circuit? In the two-layer model we **silence** the first layer's head (it looks nowhere). And we leave it its
# weights but hide a single token from every query: the one before it, which the circuit needs, or the one two before.

# %%
if lab:
    circuit = content["layers_2"].model
    # row t of each mask is True but for the token that stands 1 or 2 before t: roll moves the diagonal by 1 or 2
    hide = {f"hidden.{back}": ~torch.eye(LENGTH, dtype=torch.bool).roll(-back, dims=1) for back in (1, 2)}
    hide |= {"silenced": torch.zeros(LENGTH, LENGTH, dtype=torch.bool)}
    broken = {name: accuracy(partial(circuit, first=mask), seen) for name, mask in hide.items()}
    lab.record("induction", broken)
    with torch.no_grad():
        _, (first, second) = circuit.look(seen[0])
    lab.record("induction.previous", first[:, 0].diagonal(-1, dim1=1, dim2=2).mean())  # weight of the previous token
    lab.say(
        "Two layers are right in {induction.2.accuracy:.2f} of all cases, with the first head silenced in "
        "{induction.silenced:.2f}, with the previous token hidden from it in {induction.hidden.1:.2f}, with the one before "
        "that in {induction.hidden.2:.2f}."
    )
    fig = figures.draw_recall(recalled, fixed_place, induction | broken, second[0, 0], seen[0][0], PERIOD, lab.study)
    lab.figure(fig, "05_recall")

# %% [markdown]
# ## 4. Four classic mistakes
# Three of these raise no error, and the model trains:
# - **no positions**: nothing tells the model the order of the values;
# - **no scaling**: the scores are not divided by $\sqrt{d_k}$;
# - **wrong axis**: the softmax runs over the queries, so what a query takes from all keys does not sum to 1;
# - **heads that do not divide the width**: this one says so.
#
# How much worse the model gets is measured, not assumed. `MistakenAttention` is multi-head attention with a scale and an axis
# that can be wrong; both stand in the line of its weights. Lab 1 showed that scaling matters for large $d_k$; here a head has
# 8 features. So we also give it 64 features for queries and keys, the size in BERT and GPT-2, with scaling and without.
#
# Each model has the learning rate that a search found for it. The one without scaling and with 64 features is trained twice,
# also at the rate of the correct model: does the mistake make a worse model, or one that bears a smaller rate only?

# %%


class MistakenAttention(MultiHeadAttention):
    """Multi-head attention of the last position, with another scale, another axis of the softmax, or another d_k."""

    def __init__(self, d_model: int, n_heads: int, *, scale: float, axis: int = -1, d_k: int | None = None):
        super().__init__(d_model, n_heads)
        self.scale, self.axis = scale, axis
        if d_k:
            self.w_q, self.w_k = nn.Linear(d_model, n_heads * d_k), nn.Linear(d_model, n_heads * d_k)

    def forward(self, query: Tensor, key: Tensor, mask: None = None) -> tuple[Tensor, Tensor]:
        query = query if self.axis == -1 else key  # a softmax over the queries needs all of them
        layers = ((self.w_q, query), (self.w_k, key), (self.w_v, key))
        q, k, v = (w(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for w, x in layers)  # (B, H, T, d_k or d_head)
        weights = (q @ k.transpose(-2, -1) * self.scale).softmax(dim=self.axis)[:, :, -1:]  # (B, H, 1, T)
        return self.w_o(self._merge_heads(weights @ v)), weights


def make_mistaken(scale: float, axis: int = -1, d_k: int | None = None) -> Transformer:
    """A Transformer whose attention has this scale, axis and size of the keys."""
    return Transformer(n_heads, attention=MistakenAttention(D_MODEL, n_heads, scale=scale, axis=axis, d_k=d_k))


right_scale = 1 / math.sqrt(D_MODEL // n_heads)
mistaken = {
    "correct": partial(Transformer, n_heads),
    "no_positions": partial(Transformer, n_heads, positions=False),
    "no_scaling": partial(make_mistaken, scale=1.0),
    "wrong_axis": partial(make_mistaken, scale=right_scale, axis=-2),
    "correct_64": partial(make_mistaken, scale=1 / math.sqrt(64), d_k=64),
    "no_scaling_64": partial(make_mistaken, scale=1.0, d_k=64),
}

# %%
if lab.section("4. Four classic mistakes"):
    n_steps = 4 if lab.fast else 150
    batches = sine_batches(0.0, n_steps, 64, lab.generator("mistakes"))
    test = sines(n_test, length, 0.0, lab.generator("tests"))
    rates, seed = RATES["mistakes"], lab.seed("mistakes")
    mistake_runs = fit_all(mistaken, batches, test, rates, seed)
    mistake_runs["same_rate_64"] = fit(mistaken["no_scaling_64"], batches, test, rates["correct_64"], seed)
    mistakes = lab.record("mistakes", {name: {"mse": run.error} for name, run in mistake_runs.items()})
    worse = dict.fromkeys(mistakes)  # in how many starts it is worse than the correct model of its size, if a study tells
    for name in [name for name in mistakes if lab.study and "correct" not in name]:
        keys = [f"mistakes.{other}.mse" for other in (name, "correct_64" if name.endswith("64") else "correct")]
        worse[name] = lab.study.count(*keys, where=lambda wrong, right: wrong > right)
    counts = {name: "" if count is None else count for name, count in worse.items()}
    rows = [[MISTAKES[name], number(found["mse"]), counts[name]] for name, found in mistakes.items()]
    lab.table([f"noise 0, {n_steps} steps", "error", f"worse in, of {lab.study.n}" if lab.study else ""], rows)
    try:
        Transformer(n_heads=5)
    except ValueError as problem:
        lab.say(f"Five heads end at once: ValueError: {problem}.")

# %% [markdown]
# Do the weights of a query sum to 1?

# %%
if lab:
    sums = {name: row_sum_error(mistake_runs[name].model, test[0]) for name in ("correct", "wrong_axis")}
    lab.record("mistakes", {name: {"row_sum_error": value} for name, value in sums.items()})
    lab.say(
        "The sums of the rows of weights are off from 1 by {mistakes.correct.row_sum_error:.0e} in the correct model, and by "
        "{mistakes.wrong_axis.row_sum_error:.2f} with the softmax over the queries."
    )
    fig = figures.draw_mistakes(errors_of(mistake_runs), n_steps, D_MODEL // n_heads, lab.study)
    lab.figure(fig, "05_common_mistakes")

# %% [markdown]
# ## 5. How many digits hold
# Why do your numbers differ from your neighbour's? Two processors add in another order and round differently, in the 16th
# digit. What becomes of it? We train each network twice on the same data. The second time one single starting weight is larger
# by a factor of $1 + 10^{-12}$. How far apart are the two losses, relative to the loss, step by step?

# %%
NUDGE, NUDGED_RATES = 1e-12, (2e-3, 8e-3, 3e-2)


def nudged(make) -> nn.Module:
    """A new model with one of its weights a trace larger."""
    model = make()
    next(model.parameters()).data.view(-1)[0] *= 1 + NUDGE
    return model


if lab.section("5. How many digits hold"):
    n_steps, seed = 20 if lab.fast else 200, lab.seed("digits")
    batches = sine_batches(0.1, n_steps, 32, lab.generator("digits"))
    test = sines(10, length, 0.1, lab.generator("digit tests"))
    apart = {}
    for name, make in networks.items():
        for lr in NUDGED_RATES:
            one, two = (np.array(fit(start, batches, test, lr, seed).losses) for start in (make, partial(nudged, make)))
            apart[name, lr] = np.abs(one - two) / one  # (n_steps,)
            lab.record(f"sensitivity.{name}.lr_{lr:g}", apart[name, lr][-20:].max())
    rows = [[f"{lr:g}", *(f"{apart[name, lr][-20:].max():.0e}" for name in networks)] for lr in NUDGED_RATES]
    lab.table(["peak learning rate", *(f"{LABELS[name]}, difference" for name in networks)], rows)
    fig = figures.draw_sensitivity(apart, NUDGE, lab.study)
    lab.figure(fig, "05_sensitivity")

# %% [markdown]
# With a calm rate the trace stays a trace in these steps, and the same digits should come out everywhere. With a lively one
# it grows by many powers of ten while the rate is high, as in weather: such a training is *chaotic*, and its loss is one draw
# from a distribution. Which rate is calm depends on the network. Nothing is wrong with a draw, but its last digits mean
# nothing. So this course judges draws by what many random starts give.

# %% [markdown]
# ## Search: the learning rates
# `--search` leaves out the sections above and tries each of `RATES`, half and twice as much, and a quarter and four times: for
# every network, in the very training in which it is compared. Without the flag this cell shows nothing.

# %%
if options.search and lab.section("Search: learning rates"):
    g, seed, few = lab.generator("search"), lab.seed("search"), lab.fast
    test = {level: sines(n_test, length, level, g) for level in (0.0, 0.1)}
    trainings = [
        ("short", networks, sine_batches(0.1, 2 if few else 500, 64, g), test[0.1]),
        ("quiet", networks, sine_batches(0.0, 2 if few else 800, 64, g), test[0.0]),
        ("noisy", deeper, sine_batches(0.1, 2 if few else 1200, 128, g), test[0.1]),
        ("recall", recall_networks, [waves(64, g) for _ in range(2 if few else 200)], waves(n_test, g)),
        ("fixed place", recall_networks, [waves(64, g, 0) for _ in range(2 if few else 200)], waves(n_test, g, 0)),
        (
            "content",
            content_networks,
            [repeating(64, PERIODS, g) for _ in range(2 if few else 250)],
            repeating(n_test, PERIODS, g),
        ),
        ("mistakes", mistaken, sine_batches(0.0, 2 if few else 150, 64, g), test[0.0]),
    ]
    for title, made, batches, unseen_data in trainings:
        loss = token_loss if title == "content" else F.mse_loss
        rows = []
        for name, rate in RATES[title].items():
            tried = [fit(made[name], batches, unseen_data, rate * f, seed, loss).error for f in (0.25, 0.5, 1, 2, 4)]
            rows.append([(LABELS | MISTAKES)[name], f"{rate:g}", *map(number, tried)])
        lab.table([f"{title}: error", "rate", "x 1/4", "x 1/2", "x 1", "x 2", "x 4"], rows)

# %% [markdown]
# ## Exercise: one flag, several values
# `--heads 1 2 4 8` or `--lengths 10 20 50 100` leaves out the sections above, and trains models for each value instead, all
# alike and with the last noise. Without such a flag this cell shows nothing.

# %%
for flag, values in several.items():
    if lab.section(f"Exercise: {VARIED[flag]}"):
        n_steps, errors, seconds, rows = 6 if lab.fast else 800, {}, {}, []
        for value in values:
            t, generator = value if flag == "lengths" else length, lab.generator("variants")
            batches, test = sine_batches(noise, n_steps, 64, generator, t), sines(n_test, t, noise, generator)
            other_heads = partial(Transformer, value, positions=not options.no_positions)
            made = {"transformer": other_heads} if flag == "heads" else networks
            found = fit_all(made, batches, test, dict.fromkeys(made, 1e-2), lab.seed("variants"))
            errors[value] = lab.record(f"{flag}_{value}", {name: {"mse": run.error} for name, run in found.items()})
            seconds[value] = {name: lab.record_seconds(f"{flag}_{value}.{name}", run.seconds) for name, run in found.items()}
            rows += [[value, LABELS[name], number(run.error), run.seconds] for name, run in found.items()]
        fixed = f"{length} values in" if flag == "heads" else f"{n_heads} heads"
        without = "without" if options.no_positions else "with"
        text = f"noise {noise:g}, {n_steps} steps, {fixed}, Transformer {without} positions"
        lab.say(f"{text[0].upper()}{text[1:]}; learning rate 0.01.")
        lab.table([VARIED[flag], "", "error", "seconds"], rows, digits=1)
        fig = figures.draw_comparison(errors, seconds, VARIED[flag], text)
        lab.figure(fig, f"05_{flag}")

# %%
lab.finish()
