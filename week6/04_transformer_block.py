# %% [markdown]
# # Lab 4: the Transformer block
# A Transformer is a stack of equal blocks. What does each part of a block do, and what breaks without it? You will see
# 1. a sentence on its way through a trained block, stage by stage;
# 2. what its heads look at, trained and untrained;
# 3. stacks of up to 48 blocks with and without residuals, and whether "the derivative is always at least 1" is true;
# 4. LayerNorm against BatchNorm, GELU against ReLU, and a feed-forward network that sees one token at a time;
# 5. pre-norm against post-norm, with and without warm-up: which of them trains at which learning rate;
# 6. where the parameters are, and PyTorch's own block with the same weights.

# %%
"""Lab 4 - The Transformer block, opened up: what does each of its parts do, and what breaks without it?

Run it:      python 04_transformer_block.py
Then try:    python 04_transformer_block.py --out trial --norm pre
             python 04_transformer_block.py --out trial --heads 8 --d-ff 32
It writes:   04_transformer_dataflow, 04_attention_patterns, 04_residual_effect, 04_norm_and_activation,
             04_pre_vs_post_norm and 04_results.json
"""

import argparse
import sys
from pathlib import Path

# common/ stands beside this folder. A notebook has no __file__; it starts in this folder.
sys.path.insert(0, str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))
from common.command_line import Parser, whole_number
from common.lab import Lab

D_MODEL = 32


def heads(text: str) -> int:
    """argparse type: a number of heads that divides the model width and can be drawn."""
    if text not in ("1", "2", "4", "8"):
        raise argparse.ArgumentTypeError(f"{text!r} is not 1, 2, 4 or 8 (heads must divide the model width, {D_MODEL})")
    return int(text)


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--heads", type=heads, default=4, metavar="H", help="of the word block: 1, 2, 4 or 8; default: 4")
    parser.add_argument("--d-ff", type=whole_number(1, 1024), default=128, metavar="N", help="its inner width; default: 128")
    parser.add_argument("--norm", choices=("post", "pre"), default="post", help="of the word block; default: post")


lab = Lab(4, globals(), add_arguments)

# %%
import copy
import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.jacobian import jacobian
from common.progress import progress
from common.stacks import SineModel, gradients_by_depth, make_stack, sines, train_sines
from common.toy_language import IDS, MaskedWordModel, Sentence, encode, fill_gaps, sentences, train_masked_words
from common.transformer import ACTIVATIONS, NORMS, TransformerBlock, torch_block
from week6.figures.transformer_block import draw_flow, draw_heads, draw_norm_and_activation, draw_residuals, draw_warmup

# %% [markdown]
# ## The blocks that are opened up
# Two small models, each with one block, learn to name hidden words of Lab 2's toy language, from the same starting weights. One
# block is post-norm, the other pre-norm; section 1 says what that is. Then a sentence that training never saw goes through
# them, its verb hidden. "dogs", a noun of the other number, stands nearer to
# the verb than its subject "cat" does.

# %%
WORDS = ["the", "cat", "which", "the", "dogs", "chased", "<mask>", "very", "old"]
HIDDEN = WORDS.index("<mask>")

if lab:
    n_steps = 4 if lab.fast else 250
    untrained, trained = {}, {}
    for norm in NORMS:
        torch.manual_seed(lab.seed("word model"))
        model = MaskedWordModel(lab.options.heads, D_MODEL, lab.options.d_ff, norm)
        untrained[norm] = copy.deepcopy(model).requires_grad_(False)
        losses = train_masked_words(model, n_steps, lab.seed("words"), label=f"training a {norm}-norm block")
        trained[norm] = model.requires_grad_(False)  # from here on it is only looked at
        lab.say(f"A {norm}-norm block, {n_steps} steps: the loss goes from {losses[0]:.2f} to {losses[-1]:.2f}.")
    model = trained[lab.options.norm]
    x = model.embed(encode([WORDS])[0])  # (1, T, d_model): the sentence as it enters the block

# %% [markdown]
# ## 1. A sentence on its way through a block
# Which word does the model put into the gap?

# %%
if lab.section("1. A sentence on its way through a block"):
    scores, weights = model(*encode([WORDS]))  # (1, T, vocabulary), (1, H, T, T)
    shares = scores[0, HIDDEN].softmax(dim=-1)  # (vocabulary,)
    lab.record("verb.probability", {word: shares[IDS[word]] for word in ("is", "are")})
    lab.say(
        '"{sentence}": the trained {norm}-norm block gives "is" {verb.probability.is:.3f}, "are" {verb.probability.are:.3f}.',
        sentence=" ".join(WORDS),
        norm=lab.options.norm,
    )

# %% [markdown]
# A block is two lines. A sub-layer, attention or the feed-forward network, changes what comes in; `x +`, the *residual*, adds
# it to what came in; and a *LayerNorm* brings each token back to one scale. The paper of 2017 puts the norm behind the sum
# (post-norm), GPT-2 and later models put it in front of the sub-layer (pre-norm). What comes out has the shape of what came
# in, so that any number of blocks can be stacked.
#
# Take a part away, run the cell again, and see that it is no longer our `TransformerBlock`.

# %%
if lab:
    post, pre = trained["post"].block, trained["pre"].block

    h = post.norm_1(x + post.attention(x)[0])  # (1, T, d_model); attention gives its output and its weights
    y = post.norm_2(h + post.feed_forward(h))  # (1, T, d_model)
    differences = [(y - post(x)[0]).abs().max()]

    h = x + pre.attention(pre.norm_1(x))[0]
    y = h + pre.feed_forward(pre.norm_2(h))
    differences.append((y - pre(x)[0]).abs().max())

    lab.say("Difference to TransformerBlock: {:.0e} (post-norm) and {:.0e} (pre-norm).".format(*differences))

# %% [markdown]
# Every intermediate result has the same shape, a row of features a token, so that the seven stages can be compared. "After
# LayerNorm a token has mean 0 and variance 1", one says. That is what its formula computes (last column of the table). What
# comes out has been through $\gamma$ and $\beta$ as well, which are trained and set the scale for the next stage.

# %%


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


if lab:
    flow = measure_flow(model.block, x)
    rows = []
    for name, stage in flow.items():
        means = {key: tokens.mean() for key, tokens in stage.items() if key != "features"}
        means = lab.record(f"dataflow.{name.replace(' ', '_')}", means)
        rows.append([name, means["mean"], means["variance"], means.get("plain_variance", "")])
    lab.table(["stage", "mean", "variance", "variance before gamma and beta"], rows, digits=3)
    fig = draw_flow(flow, WORDS, lab.options.norm)
    lab.figure(fig, "04_transformer_dataflow")

# %% [markdown]
# ## 2. What the heads look at
# The same block before and after training. Over many held-out sentences: how evenly does the hidden verb look around? We
# measure it by the entropy of its weights, as a share of the largest possible: 1 means evenly. And how much of its attention
# goes to its subject?

# %%


@torch.no_grad()
def measure_heads(model: MaskedWordModel, test: Sequence[Sentence]) -> dict[str, Tensor]:
    """Over sentences with a hidden verb: "accuracy" of its number; by head (H,) the "entropy" of the verb's attention, as a
    share of the largest possible, and its attention to the "subject". With the "weights" (H, T, T) for WORDS."""
    right, weights = fill_gaps(model, test, "agreement")  # (B,), (B, H, T)
    largest = torch.tensor([math.log(len(sentence.words)) for sentence in test])
    subjects = torch.tensor([sentence.at["subject"] for sentence in test])
    return {
        "accuracy": right.float().mean(),
        "entropy": (torch.special.entr(weights).sum(dim=-1) / largest[:, None]).mean(dim=0),
        "subject": weights[torch.arange(len(test)), :, subjects].mean(dim=0),
        "weights": model(*encode([WORDS]))[1][0],
    }


# %%
if lab.section("2. What the heads look at"):
    drawn = sentences(60 if lab.fast else 1500, lab.seed("test sentences"), held_out=True)
    test = [sentence for sentence in drawn if sentence.attractor and "agreement" in sentence.gaps]
    seen = {"untrained": measure_heads(untrained[lab.options.norm], test), "trained": measure_heads(model, test)}
    lab.record("heads.accuracy", seen["trained"]["accuracy"])
    for when, data in seen.items():
        lab.record(f"heads.entropy.{when}", data["entropy"].mean())
        lab.record(f"heads.subject_attention.{when}", data["subject"].max())
    lab.say(
        "{n} held-out sentences in which a noun of the other number stands before the hidden verb; the trained block "
        "names the right number in {heads.accuracy:.3f} of them. The hidden verb's attention, by head, mean over sentences:",
        n=len(test),
    )
    columns = [seen[when][name].tolist() for name in ("entropy", "subject") for when in seen]
    rows = [[f"head {h}", *row] for h, row in enumerate(zip(*columns, strict=True))]
    lab.table(["", "entropy untrained", "trained", "to the subject untrained", "trained"], rows)
    fig = draw_heads(seen["untrained"], seen["trained"], WORDS, HIDDEN, len(test))
    lab.figure(fig, "04_attention_patterns")

# %% [markdown]
# ## 3. What residuals are for
# Untrained blocks, one on the other: a gradient enters at the top and goes down to the bottom. How long is it when it arrives,
# as a share of its length at the top? First one stack of 24 blocks without any normalisation, the same weights with residuals,
# $y = x + F(x)$, and without, $y = F(x)$.

# %%
if lab.section("3. What residuals are for"):
    torch.manual_seed(lab.seed("stack 0"))
    bottom, top = torch.randn(2, 2, 12, D_MODEL)  # (2, 12, d_model) each: what enters at the bottom, the gradient at the top
    stack = make_stack(24, "none", D_MODEL)
    bottom.requires_grad_()
    left = {}
    for residual in (True, False):
        y = bottom
        for block in stack:
            block.residual = residual
            y, _ = block(y)  # (2, 12, d_model)
        (arrived,) = torch.autograd.grad(y, bottom, grad_outputs=top)  # (2, 12, d_model)
        left[residual] = (arrived.double().norm() / top.double().norm()).item()
    lab.say(f"24 blocks, no norm: {left[True]:.2g} of the gradient arrives with residuals, {left[False]:.0e} without.")

# %% [markdown]
# Now for stacks of 1 to 48 blocks, without normalisation ("none"), post-norm and pre-norm, from several random starts;
# `gradients_by_depth` does what stands above for all depths at once. And what becomes of the tokens on the way up? We
# measure how alike they are by the mean cosine between two tokens of a sequence: 1 if all point the same way.

# %%
DEPTHS = (1, 2, 4, 8, 16, 24, 32, 48)
AT_24, TOP = DEPTHS.index(24), DEPTHS[-1]
KINDS = ("none", "post", "pre")
STACKS = tuple(itertools.product(KINDS, ("residual", "plain")))  # plain: without residuals


def similarity(x: Tensor) -> float:
    """Mean cosine between two different tokens of a sequence, x (B, T, d): 1 if all point the same way."""
    unit, n = F.normalize(x, dim=-1), x.shape[1]
    all_pairs = unit.sum(dim=1).square().sum(dim=-1)  # (B,): |u_1 + ... + u_n|^2 is the sum over all pairs u_i . u_j
    return ((all_pairs - n) / (n * (n - 1))).mean().item()


def measure_stack(blocks: Sequence[nn.Module], x: Tensor, top: Tensor) -> dict[str, list[float]]:
    """For the first n blocks, n in DEPTHS: the "gradient" left at the bottom, |top^T dy_n/dx| / |top|, with both norms
    computed in float64, and "naive", the same in the stack's own precision. After 0, 1, ... blocks: the "similarity"."""
    gradients, levels = gradients_by_depth(blocks, x, top, DEPTHS)
    return {
        "gradient": [(g.double().norm() / top.double().norm()).item() for g in gradients],
        "naive": [(g.norm() / top.norm()).item() for g in gradients],
        "similarity": [similarity(level) for level in levels],
    }


def measure_depth(seeds: Sequence[int], n_sequences: int = 2) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """`measure_stack` in float32 for each of STACKS, arrays (seeds, depths), and ("none", "float64"): plain in float64."""
    runs = {case: [] for case in (*STACKS, ("none", "float64"))}
    for norm, seed in itertools.product(KINDS, seeds):
        torch.manual_seed(seed)
        x, top = torch.randn(2, n_sequences, 12, D_MODEL)  # (n_sequences, 12, d_model) each
        blocks = make_stack(TOP, norm, D_MODEL)  # the same weights with residuals and without
        for kind in ("residual", "plain"):
            for block in blocks:
                block.residual = kind == "residual"
            runs[norm, kind].append(measure_stack(blocks, x, top))
        if norm == "none":
            runs[norm, "float64"].append(measure_stack(blocks.double(), x.double(), top.double()))
    return {case: {name: np.array([r[name] for r in some]) for name in some[0]} for case, some in runs.items()}


# %%
if lab:
    n_seeds, n_sequences = (1, 1) if lab.fast else (11, 2)
    by_depth = measure_depth([lab.seed(f"stack {i}") for i in range(n_seeds)], n_sequences)
    gradient = {case: np.median(data["gradient"], axis=0) for case, data in by_depth.items()}  # (depths,) each
    for (norm, kind), values in gradient.items():
        key = f"gradient_float64.{norm}.plain" if kind == "float64" else f"gradient.{norm}.{kind}"
        lab.record(key, {f"depth_{n}": value for n, value in zip(DEPTHS, values, strict=True)})
    lab.say(f"What is left of the gradient, with residuals and without them (float32; median over seeds: {n_seeds}):")
    header = ["blocks", *(f"{norm}, {'with' if kind == 'residual' else 'without'}" for norm, kind in STACKS)]
    lab.table(header, [[n, *(f"{gradient[case][i]:.1e}" for case in STACKS)] for i, n in enumerate(DEPTHS)])

# %% [markdown]
# Without normalisation and without residuals the gradient vanishes, as the textbooks say: float32 cannot hold numbers so
# small. (Its length has to be computed in float64, for the squares underflow first.) The other columns say what the
# textbooks do not: residuals are not alone in keeping the gradient alive.

# %%
if lab:
    naive = np.median(by_depth["none", "plain"]["naive"][:, AT_24])
    lab.record("gradient.none.plain.float32_norm.depth_24", naive)
    for norm in NORMS:
        seeds = by_depth[norm, "plain"]["gradient"][:, AT_24]
        lab.record(f"gradient_seeds.{norm}.plain.depth_24", {"lowest": seeds.min(), "highest": seeds.max()})
    lab.say(
        "No norm, no residuals: after 48 blocks float32 holds {gradient.none.plain.depth_48:.0e}, float64 "
        "{gradient_float64.none.plain.depth_48:.0e}. With normalisation and no residuals {gradient.post.plain.depth_24:.2g} "
        "(post) and {gradient.pre.plain.depth_24:.2g} (pre) are left after 24; with them {gradient.post.residual.depth_24:.2g} "
        "and {gradient.pre.residual.depth_24:.2g}."
    )

# %% [markdown]
# And the tokens? They start as independent random vectors. An untrained head looks at all words alike, so every token gets
# nearly the same average (and the same biases). `x +` keeps them apart, for a while.

# %%
if lab:
    alike = {case: np.median(by_depth[case]["similarity"], axis=0) for case in STACKS}  # (TOP + 1,) each
    for (norm, kind), values in alike.items():
        lab.record(f"similarity.{norm}.{kind}", {f"depth_{n}": values[n] for n in DEPTHS})
    lab.record("rank", {kind: {"similarity": alike["post", kind][12]} for kind in ("residual", "plain")})
    lab.say("How alike the tokens of a sequence are (mean cosine):")
    lab.table(header, [[n, *(float(alike[case][n]) for case in STACKS)] for n in DEPTHS], digits=3)
    lab.say(
        "Post-norm after 12 blocks: {rank.plain.similarity:.3f} without residuals, {rank.residual.similarity:.2f} with them. "
        "Residuals delay it: at 48 blocks it is {similarity.post.residual.depth_48:.2f} (post) and "
        "{similarity.pre.residual.depth_48:.2f} (pre)."
    )

# %% [markdown]
# One often reads: $y = x + F(x)$, so $dy/dx = 1 + dF/dx$ is always at least 1. For vectors $dF/dx$ is a matrix, the Jacobian.
# Its singular values say by how much the block stretches a small change of its input, direction by direction. Were the
# sentence true, none of $I + dF/dx$ could be below 1. We ask the trained blocks and their parts.

# %%
BLOCK, BRANCHES = "pre-norm block, x + F(x)", "F(x) alone"


def measure_jacobian(models: dict[str, MaskedWordModel], texts: Sequence[Sentence]) -> dict[str, list[Tensor]]:
    """Singular values (T d_model,) of the Jacobian of trained blocks and their parts, in float64, for each sentence: by how
    much they stretch the directions of their input."""
    pre, post = (copy.deepcopy(models[norm]).double().requires_grad_(False) for norm in ("pre", "post"))
    block, found = pre.block, {}
    for sentence in texts:
        tokens = encode([sentence.words])[0]
        x, h = pre.embed(tokens), block.stages(pre.embed(tokens))["add 1"]
        cases = {
            "x + Attention(LN(x))": (lambda x: x + block.attention(block.norm_1(x))[0], x),
            "h + FFN(LN(h))": (lambda h: h + block.feed_forward(block.norm_2(h)), h),
            BLOCK: (lambda x: block(x)[0], x),
            BRANCHES: (lambda x: block(x)[0] - x, x),
            "post-norm block": (lambda x: post.block(x)[0], post.embed(tokens)),
        }
        for name, (function, at) in cases.items():
            found.setdefault(name, []).append(torch.linalg.svdvals(jacobian(function, at)))
    return found


# %%
if lab:
    stretched = measure_jacobian(trained, sentences(1 if lab.fast else 5, lab.seed("jacobian"), held_out=True))
    singular = {name: torch.cat(parts).round(decimals=12) for name, parts in stretched.items()}
    shrunk = {name: (v < 0.99).double().mean().item() for name, v in singular.items()}
    lab.say(f"Singular values of the Jacobian, in float64 (held-out sentences: {len(stretched[BLOCK])}):")
    rows = []
    for name, v in singular.items():
        rows.append([name, f"{v.min():.2g}", f"{v.median():.2g}", f"{v.max():.2g}", shrunk[name]])
    lab.table(["", "smallest", "median", "largest", "share below 0.99"], rows)

# %% [markdown]
# The claim is false: $dF/dx$ may take away as well as add. What `x +` does is to lift the small singular values.

# %%
if lab:
    smallest = lab.record("jacobian.min_singular_value", np.median([v.min() for v in stretched[BLOCK]]))
    lab.record("jacobian.share_below_0.99", shrunk[BLOCK])
    lab.record("jacobian", {"median": singular[BLOCK].median(), "median_of_branches": singular[BRANCHES].median()})
    lab.record("jacobian.largest", {"block": singular[BLOCK].max(), "branches": singular[BRANCHES].max()})
    lab.say(
        "Always at least 1? {verdict}. The pre-norm block shrinks {jacobian.share_below_0.99:.2f} of its directions below "
        "0.99, the smallest value of a sentence (median over sentences) is {jacobian.min_singular_value:.2g}. The median is "
        "{jacobian.median_of_branches:.2g} for F alone and {jacobian.median:.2g} with x, the largest "
        "{jacobian.largest.branches:.3g} and {jacobian.largest.block:.3g}. Values of 0: directions that LayerNorm removes.",
        verdict="No" if smallest < 1 else "Here, yes",
    )
    fig = draw_residuals(by_depth, {name: stretched[name] for name in (BLOCK, BRANCHES)}, DEPTHS, at=24)
    lab.figure(fig, "04_residual_effect")

# %% [markdown]
# ## 4. Normalisation and the feed-forward network
# LayerNorm takes mean and variance over the features of *one token*:
# $$\mathrm{LN}(x) = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta$$
# BatchNorm has the same formula, but takes them over *the batch*, feature by feature. So what happens to a sample when the
# others of its batch are replaced? Our samples are the subjects of held-out sentences.

# %%
BATCHES = (2, 4, 8, 16, 32, 64, 128, 256)


def layer_norm(x: Tensor, norm: nn.LayerNorm, *, unbiased: bool = False) -> Tensor:
    """gamma (x - mean) / sqrt(variance + eps) + beta over the features of each token."""
    mean, variance = x.mean(dim=-1, keepdim=True), x.var(dim=-1, keepdim=True, unbiased=unbiased)  # (..., 1) each
    return norm.weight * (x - mean) / torch.sqrt(variance + norm.eps) + norm.bias


@torch.no_grad()
def change_by_others(norm: nn.Module, samples: Tensor, size: int, generator: torch.Generator, n: int) -> float:
    """Root mean square change of a sample's normalised features when the size - 1 others of its batch are replaced; over
    the first n samples, the others are drawn from the rest."""
    changes = []
    for sample in samples[:n, None]:  # (1, d_model)
        batches = [samples[torch.randint(n, len(samples), (size - 1,), generator=generator)] for _ in range(2)]
        one, two = (norm(torch.cat([sample, others]))[0] for others in batches)  # (d_model,) each
        changes.append((one - two).square().mean())
    return torch.stack(changes).mean().sqrt().item()


# %%
if lab.section("4. Normalisation and the feed-forward network"):
    texts = sentences(200, lab.seed("samples"), held_out=True)
    samples = torch.stack([model.embed(encode([t.words])[0])[0, t.at["subject"]] for t in texts])  # (200, d_model)
    norms = {"LayerNorm": nn.LayerNorm(D_MODEL), "BatchNorm": nn.BatchNorm1d(D_MODEL)}  # fresh, in training mode
    n = 4 if lab.fast else 40
    changes = {}
    for name, norm in norms.items():
        changes[name] = {b: change_by_others(norm, samples, b, lab.generator("batch"), n) for b in BATCHES}
        lab.record(f"others_replaced.{name.lower()}", {f"batch_{b}": change for b, change in changes[name].items()})
    lab.say("Root mean square change of a sample's normalised features (about 1 in size) when all others are drawn anew:")
    lab.table(["batch", *norms], [[b, *(changes[name][b] for name in norms)] for b in BATCHES], digits=3)

# %% [markdown]
# A batch of one has no spread over the batch at all. And is the formula above right? PyTorch's `nn.LayerNorm` must give the
# same, here with the trained $\gamma$ and $\beta$. A classic slip is the unbiased variance, which divides by one less.

# %%
if lab:
    answers = dict.fromkeys(norms, "")
    for name, norm in norms.items():
        try:
            norm(samples[:1])
        except ValueError as error:
            answers[name] = str(error)
    lab.record("batch_of_one.refused", {name.lower(): bool(answer) for name, answer in answers.items()})
    lab.say("A batch of one: " + "; ".join(f"{n} {f'refuses it ({a})' if a else 'takes it'}" for n, a in answers.items()) + ".")
    norm = model.block.norm_1
    right, wrong = ((layer_norm(samples, norm, unbiased=u) - norm(samples)).abs().max() for u in (False, True))
    lab.record("layernorm", {"difference": right, "difference_unbiased": wrong})
    lab.say(
        "The formula of LayerNorm against nn.LayerNorm: difference {layernorm.difference:.0e}; with the unbiased variance "
        "{layernorm.difference_unbiased:.2g}."
    )

# %% [markdown]
# The feed-forward network takes each token to a wider layer and back:
# $$\mathrm{FFN}(x) = \mathrm{GELU}(x W_1 + b_1)\,W_2 + b_2$$

# %%
if lab:
    first, gelu, _, second = model.block.feed_forward  # d_model to d_ff, activation, (dropout,) d_ff to d_model
    hidden = gelu(x @ first.weight.T + first.bias)  # (1, T, d_ff)
    by_hand = hidden @ second.weight.T + second.bias  # (1, T, d_model)
    difference = (by_hand - model.block.feed_forward(x)).abs().max()
    lab.say(f"The formula of the feed-forward network against the layer: difference {difference:.0e}.")

# %% [markdown]
# It takes each token alone; attention does not. To see the difference, give one token the features of another, and look which
# outputs move.

# %%
REPLACED, REPLACEMENT = WORDS.index("cat"), WORDS.index("dogs")


def moved_by_one(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """How far each token's output moves (T,), as a share of its length, when one token of x (1, T, d_model) changes."""
    changed = x.clone()
    changed[:, REPLACED] = x[:, REPLACEMENT]
    before, after = layer(x)[0], layer(changed)[0]  # (T, d_model) each
    return (after - before).norm(dim=-1) / before.norm(dim=-1)


if lab:
    stages = list(model.block.stages(x).items())
    entering = {name: before for (_, before), (name, _) in itertools.pairwise(stages)}  # a sub-layer gets the stage before it
    moved = {
        "attention": moved_by_one(lambda x: model.block.attention(x)[0], entering["attention"]),
        "feed-forward": moved_by_one(model.block.feed_forward, entering["feed-forward"]),
    }
    others = {name.replace("-", "_"): np.delete(m.numpy(), REPLACED).max() for name, m in moved.items()}
    lab.record("other_tokens_move", others)
    lab.say(
        f'"{WORDS[REPLACED]}" gets the features of "{WORDS[REPLACEMENT]}". The output of another token moves by up to '
        "{other_tokens_move.attention:.2f} of its length in attention, by {other_tokens_move.feed_forward:.2g} in the "
        "feed-forward network."
    )

# %% [markdown]
# The activation between the two layers: ReLU drops what is negative, GELU lets a little of it through. A unit that is never
# above 0, whatever the input, is *silent*. If the slope of its activation is 0 everywhere, too (below 0.01, say), no gradient
# reaches its weights any more: it is *dead*. A silent ReLU unit is dead, a silent GELU unit need not be. How many are there
# after training? We train one block on a small task of `common/stacks.py`: eight values of a random sine, what is the ninth?

# %%
UNIT_RATES = (0.0, 0.01, 0.1)  # learning rates; 0: untrained


def measure_units(model: SineModel, x: Tensor) -> dict[str, float]:
    """Shares of the hidden units of the first block: "silent", never above 0 on any token of x, and "dead", with a slope
    of the activation below 0.01 on every token, so that hardly any gradient reaches their weights."""
    block = model.blocks[0]
    first, activation = block.feed_forward[0], block.feed_forward[1]
    z = first(block.stages(model.embed(x))["norm 1"]).flatten(0, 1).detach().requires_grad_()  # (B T, d_ff)
    (slope,) = torch.autograd.grad(activation(z).sum(), z)
    silent, dead = z.amax(dim=0) <= 0, slope.abs().amax(dim=0) < 0.01
    return {"silent": silent.float().mean().item(), "dead": dead.float().mean().item()}


def measure_activations(
    seeds: Sequence[int], n_steps: int, rates: Sequence[float] = UNIT_RATES
) -> dict[tuple[str, float], dict[str, list[float]]]:
    """`measure_units` of one post-norm block, for each activation at each of the rates, a list over the seeds."""
    found, (x, _) = {}, sines(256, torch.Generator().manual_seed(seeds[0] + 1))
    for activation, rate, seed in itertools.product(ACTIVATIONS, rates, seeds):
        torch.manual_seed(seed)
        model = SineModel(1, "post", activation)
        if rate:
            train_sines(model, seed, n_steps, lr=rate)
        for name, share in measure_units(model, x).items():
            found.setdefault((activation, rate), {}).setdefault(name, []).append(share)
    return found


# %%
if lab:
    n_seeds, n_steps = (1, 4) if lab.fast else (3, 80)
    units = measure_activations([lab.seed(f"units {i}") for i in range(n_seeds)], n_steps)
    rows = []
    for (activation, rate), shares in units.items():
        when, name = (f"lr_{rate:g}", f"rate {rate:g}") if rate else ("untrained", "untrained")
        means = lab.record(f"units.{activation}.{when}", {share: np.mean(values) for share, values in shares.items()})
        rows.append([f"{ACTIVATIONS[activation].__name__}, {name}", *means.values()])
    lab.say(f"Hidden units that are silent and that are dead (mean share; seeds: {n_seeds}):")
    lab.table(["", "silent", "dead"], rows)
    fig = draw_norm_and_activation(changes, moved, WORDS, REPLACED, REPLACEMENT, units, batch=8)
    lab.figure(fig, "04_norm_and_activation")

# %% [markdown]
# ## 5. Pre-norm against post-norm
# Which form is easier to train? Stacks of both learn the sine task of `common/stacks.py`: eight values of a random sine, what
# is the ninth? *Warm-up* ("warm") raises the learning rate from a small one to its highest in the first tenth of the steps;
# "cold" starts at the highest. Else only the last LayerNorm differs, which pre-norm needs. So "pre-norm needs less warm-up"
# becomes something to count: a run has failed if it ends not much better than predicting the mean.

# %%
RATES = (0.005, 0.01, 0.02)
SCHEDULES = {"warm": 0.1, "cold": 0.0}
CASES = tuple(itertools.product(NORMS, SCHEDULES))
FAILED = 0.9  # failed, "diverged": the final loss is not finite or above this share of what predicting the mean gives


def measure_warmup(
    runs: Iterable[tuple[str, str, float, int]], test: tuple[Tensor, Tensor], n_blocks: int, n_steps: int
) -> dict[tuple[str, str, float], dict[str, np.ndarray]]:
    """For runs (norm, schedule, rate, seed), over the seeds: the "loss" on the test sines, with the loss of predicting the
    mean in place of one that is not finite; whether the run "diverged"; its "curve", (seeds, steps)."""
    found, (x, y) = {}, test
    mean_loss = y.var(unbiased=False).item()
    for norm, schedule, rate, seed in runs:
        torch.manual_seed(seed)
        model = SineModel(n_blocks, norm)
        steps = train_sines(model, seed, n_steps, lr=rate, warmup=SCHEDULES[schedule])
        with torch.no_grad():
            loss = F.mse_loss(model(x), y).item()
        loss = loss if math.isfinite(loss) else mean_loss
        for name, value in (("loss", loss), ("diverged", loss > FAILED * mean_loss), ("curve", steps)):
            found.setdefault((norm, schedule, rate), {}).setdefault(name, []).append(value)
    return {case: {name: np.array(values) for name, values in data.items()} for case, data in found.items()}


# %%
if lab.section("5. Pre-norm against post-norm"):
    n_seeds, n_blocks, n_steps = (1, 1, 11) if lab.fast else (3, 6, 80)
    seeds = [lab.seed(f"warm-up {i}") for i in range(n_seeds)]
    plan = [(*case, rate, seed) for case in CASES for rate in RATES for seed in seeds]
    test_sines = sines(512, lab.generator("warm-up"))
    runs = measure_warmup(progress(plan, "training stacks"), test_sines, n_blocks, n_steps)
    mean_loss = test_sines[1].var(unbiased=False).item()
    kept = {}  # the findings of each case and rate
    for (norm, schedule, rate), data in runs.items():
        counted = {"loss": np.median(data["loss"]), "diverged": data["diverged"].sum()}
        kept[norm, schedule, rate] = lab.record(f"warmup.{norm}.{schedule}.lr_{rate:g}", counted)
    lab.say(
        f"{n_blocks} blocks, {n_steps} steps, gradients clipped to norm 1. Median loss on new sines and, in brackets, how many "
        f"of the seeds ({n_seeds}) failed, that is, ended above {FAILED} of the {mean_loss:.2f} that predicting the mean gives:"
    )
    cells = {case: f"{found['loss']:.3f} ({found['diverged']:.0f})" for case, found in kept.items()}
    rows = [[f"{norm}-norm, {schedule}", *(cells[norm, schedule, rate] for rate in RATES)] for norm, schedule in CASES]
    lab.table(["learning rate", *(f"{rate:g}" for rate in RATES)], rows)

# %% [markdown]
# "Pre-norm needs no warm-up", one says. What does leaving it out cost?

# %%
if lab:
    for norm in NORMS:
        cold, warm = ([kept[norm, schedule, rate] for rate in RATES] for schedule in ("cold", "warm"))
        failed = [sum(found["diverged"] for found in some) for some in (cold, warm)]
        ratios = ", ".join(f"{one['loss'] / other['loss']:.1f}" for one, other in zip(cold, warm, strict=True))
        lab.say(
            f"{norm}-norm: {failed[0]:.0f} runs fail without warm-up, {failed[1]:.0f} with it. Leaving it out multiplies the "
            f"median loss by {ratios} at these rates."
        )
    fig = draw_warmup(runs, mean_loss)
    lab.figure(fig, "04_pre_vs_post_norm")

# %% [markdown]
# ## 6. Parameters, and PyTorch's own block
# Where are the numbers that training changes? And does `nn.TransformerEncoderLayer` with the same weights, copied by
# `torch_block` of `common/transformer.py`, give the same output?

# %%


def count_parameters(block: TransformerBlock) -> dict[str, int]:
    """The number of weights and biases in each part of a block."""
    parts = {"attention": [block.attention], "feed_forward": [block.feed_forward], "norms": [block.norm_1, block.norm_2]}
    return {name: sum(p.numel() for m in modules for p in m.parameters()) for name, modules in parts.items()}


if lab.section("6. Parameters, and PyTorch's own block"):
    counts = lab.record("parameters", count_parameters(model.block))
    total = lab.record("parameters.block", sum(counts.values()))
    lab.table(["part of the block", "parameters", "share"], [[name, f"{n:.0f}", n / total] for name, n in counts.items()])
    theirs = torch_block(model.block).requires_grad_(False)
    lab.record("torch_difference", (model.block(x)[0] - theirs(x)).abs().max())
    lab.say(
        "{parameters.block:.0f} in all. nn.TransformerEncoderLayer with the same weights differs by at most "
        "{torch_difference:.0e}."
    )

# %%
lab.finish()
