# %% [markdown]
# # Lab 4: the Transformer block
# A Transformer is a stack of equal blocks. What does each part of a block do, and what breaks without it? You will see
# 1. a sentence on its way through a trained block, stage by stage;
# 2. what its heads look at, trained and untrained;
# 3. stacks of up to 48 blocks with and without residuals, and whether "the derivative is always at least 1" is true;
# 4. LayerNorm against BatchNorm, GELU against ReLU, and a feed-forward network that sees one token at a time;
# 5. pre-norm against post-norm, with and without warm-up: which of them trains at which learning rate;
# 6. two blocks that write: a tiny GPT, its temperature, and the cache that makes it fast.
#
# One run is one random start. Where the lab speaks of many starts, it says what a study of them has found.

# %%
"""Lab 4 - The Transformer block, opened up: what does each of its parts do, and what breaks without it?

Run it:      python 04_transformer_block.py
Then try:    python 04_transformer_block.py --out trial --norm pre
             python 04_transformer_block.py --out trial --heads 8 --d-ff 32 --prompt "the cat which"
It writes:   04_transformer_dataflow, 04_attention_patterns, 04_residual_effect, 04_norm_and_activation,
             04_pre_vs_post_norm, 04_generation and 04_results.json
"""

import sys
from pathlib import Path

# common/ stands beside this folder. A notebook has no __file__; it starts in this folder.
sys.path.insert(0, str(Path(globals().get("__file__", "notebook")).resolve().parents[1]))
from common.command_line import Parser, divisor_of, sentence_of, whole_number
from common.lab import Lab
from common.toy_language import MAX_WORDS, VOCABULARY

D_MODEL = 32


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--heads", type=divisor_of(D_MODEL, 8), default=4, metavar="H", help="of the word block; default: 4")
    parser.add_argument("--d-ff", type=whole_number(1, 1024), default=128, metavar="N", help="its inner width; default: 128")
    parser.add_argument("--norm", choices=("post", "pre"), default="post", help="of the word block; default: post")
    words = sentence_of(VOCABULARY[2:], most=MAX_WORDS - 4)  # without padding and mask, and with room to go on
    start = ["the", "cat", "which", "the", "dogs", "chased"]
    parser.add_argument("--prompt", type=words, default=start, metavar='"..."', help="how the sentences of section 6 begin")


lab = Lab(4, globals(), add_arguments)

# %%
import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.attention import causal_mask, scaled_dot_product_attention
from common.gpt import END, GPTParts, as_words, empty_cache, judge, measure_cache, next_words, shares_of_kinds
from common.jacobian import jacobian
from common.opened import change_by_others, count_parameters, measure_flow, measure_heads, moved_by_one, refuses
from common.progress import progress
from common.stacks import make_stack, measure_activation, measure_depth, measure_schedule, sines
from common.toy_language import IDS, MaskedWordModel, encode, is_grammatical, sentences, train_masked_words
from common.training import NO_TARGET, train
from common.transformer import ACTIVATIONS, NORMS, torch_block
from week6.figures import transformer_block as draw

# %% [markdown]
# ## The blocks that are opened up
# Two small models, each with one block, learn to name hidden words of Lab 2's toy language, from the same starting weights. One
# block is post-norm, the other pre-norm; section 1 says what that is. Then a sentence that training never saw goes through
# them, its verb hidden. "dogs", a noun of the other number, stands nearer to the verb than its subject "cat" does.

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
    lab.say(f"Two blocks have learned to fill gaps in sentences ({n_steps} steps each).")
    model = trained[lab.options.norm]
    x = model.embed(encode([WORDS])[0])  # (1, T, d_model): the sentence as it enters the block

# %% [markdown]
# ## 1. A sentence on its way through a block
# Which word does the model put into the gap? And what if the subject, or the other noun, had the other number?

# %%
if lab.section("1. A sentence on its way through a block"):
    lab.say('Which verb belongs into the gap? The trained {norm}-norm block says "is" or "are":', norm=lab.options.norm)
    rows = []
    for key, old, new in (("probability", "", ""), ("other_subject", "cat", "cats"), ("other_noun", "dogs", "dog")):
        words = [new if word == old else word for word in WORDS]
        scores, _ = model(*encode([words]))  # (1, T, vocabulary), and the attention weights
        shares = scores[0, HIDDEN].softmax(dim=-1)  # (vocabulary,)
        kept = lab.record(f"verb.{key}", {word: shares[IDS[word]] for word in ("is", "are")})
        rows.append([" ".join(words), *kept.values()])
    lab.table(["", "is", "are"], rows, digits=3)

# %% [markdown]
# A block is two lines. A sub-layer, attention or the feed-forward network, changes what comes in; `x +`, the *residual*, adds
# it to what came in; and a *LayerNorm* brings each token back to one scale. The paper of 2017 puts the norm behind the sum
# (post-norm), GPT-2 and later models put it in front of the sub-layer (pre-norm). What comes out has the shape of what came
# in, so that any number of blocks can be stacked.
#
# Take a part away, run the cell again, and see that it is no longer our `TransformerBlock`, nor PyTorch's
# `nn.TransformerEncoderLayer` with the same weights.

# %%
if lab:
    post, pre = trained["post"].block, trained["pre"].block

    h = post.norm_1(x + post.attention(x)[0])  # (1, T, d_model); attention gives its output and its weights
    y = post.norm_2(h + post.feed_forward(h))  # (1, T, d_model)
    differences = [(y - post(x)[0]).abs().max()]

    h = x + pre.attention(pre.norm_1(x))[0]
    y = h + pre.feed_forward(pre.norm_2(h))
    differences.append((y - pre(x)[0]).abs().max())

    theirs = torch_block(model.block).requires_grad_(False)
    lab.record("torch_difference", (model.block(x)[0] - theirs(x)).abs().max())
    counts = lab.record("parameters", count_parameters(model.block))
    lab.record("parameters.block", sum(counts.values()))
    if lab.verbose:
        lab.say(
            "Difference to TransformerBlock {difference:.0e}, to PyTorch's {torch_difference:.0e}; {parameters.block:,.0f} "
            "parameters.",
            difference=max(differences),
        )

# %% [markdown]
# Every intermediate result has the same shape, a row of features a token, so that the seven stages can be compared. "After
# LayerNorm a token has mean 0 and variance 1", one says. That is what its formula computes. What comes out has been through
# $\gamma$ and $\beta$ as well, which are trained and set the scale for the next stage.

# %%
if lab:
    flow = measure_flow(model.block, x)
    for name, stage in flow.items():
        means = {key: tokens.mean() for key, tokens in stage.items() if key != "features"}  # over the tokens
        lab.record(f"dataflow.{name.replace(' ', '_')}", means)
    lab.say(
        "Is the variance 1 after the second LayerNorm? Before gamma and beta {dataflow.norm_2.plain_variance:.2f}, after them "
        "{dataflow.norm_2.variance:.2f}."
    )
    fig = draw.flow(flow, WORDS, lab.options.norm)
    lab.figure(fig, "04_transformer_dataflow")

# %% [markdown]
# ## 2. What the heads look at
# The same block before and after training. Over many held-out sentences: how evenly does the hidden verb look around? We
# measure it by the entropy of its weights, as a share of the largest possible: 1 means evenly. And how much of its attention
# goes to its subject?

# %%
if lab.section("2. What the heads look at"):
    drawn = sentences(60 if lab.fast else 1500, lab.seed("test sentences"), held_out=True)
    test = [sentence for sentence in drawn if sentence.attractor and "agreement" in sentence.gaps]
    seen, weights = {}, {}
    for when, word_model in {"untrained": untrained[lab.options.norm], "trained": model}.items():
        seen[when], weights[when] = measure_heads(word_model, test), word_model(*encode([WORDS]))[1][0]  # (H, T, T)
        lab.record(f"heads.entropy.{when}", seen[when]["entropy"].mean())
        lab.record(f"heads.subject_attention.{when}", seen[when]["subject"].max())
    lab.record("heads.accuracy", seen["trained"]["accuracy"])
    lab.say(
        "How much of its attention does a hidden verb give its subject? The head that gives most: "
        "{heads.subject_attention.untrained:.2f} before training, {heads.subject_attention.trained:.2f} after it; the number "
        "is right in {heads.accuracy:.3f} of {n} sentences.",
        n=len(test),
    )
    if lab.study:
        lab.say(
            "Over {heads.accuracy@n} starts: {heads.subject_attention.trained@min:.2f} to "
            "{heads.subject_attention.trained@max:.2f} (median {heads.subject_attention.trained@median:.2f}); right in "
            "{heads.accuracy@min:.3f} and more. So the right number does not need a large weight."
        )
    fig = draw.heads(seen, weights, WORDS, HIDDEN, lab.study)
    lab.figure(fig, "04_attention_patterns")

# %% [markdown]
# ## 3. What residuals are for
# Untrained blocks, one on the other: a gradient enters at the top and goes down to the bottom. How long is it when it arrives,
# as a share of its length at the top? First one stack of 24 blocks without any normalisation, the same weights with residuals,
# $y = x + F(x)$, and without, $y = F(x)$.

# %%
if lab.section("3. What residuals are for"):
    torch.manual_seed(lab.seed("stack"))
    bottom, top = torch.randn(2, 2, 12, D_MODEL)  # (2, 12, d_model) each: what enters at the bottom, the gradient at the top
    stack = make_stack(24, "none", D_MODEL)
    bottom.requires_grad_()
    left = {}
    for residual in (True, False):
        y = bottom
        for block in stack:
            block.residual = residual
            y, _ = block(y)  # (2, 12, d_model)
        # grad_outputs: the gradient that enters at the top
        (arrived,) = torch.autograd.grad(y, bottom, grad_outputs=top)  # (2, 12, d_model)
        left[residual] = (arrived.norm() / top.norm()).item()
    if lab.verbose:
        lab.say(f"24 blocks, no norm: {left[True]:.2g} of the gradient arrives with residuals, {left[False]:.0e} without.")

# %% [markdown]
# Now for stacks of 1 to 48 blocks, without normalisation ("none"), post-norm and pre-norm; `measure_depth` of
# `common/stacks.py` does what stands above for all of them. And because such a number depends on the weights that one begins
# with, for two usual starts: that of PyTorch's `nn.Linear`, and the larger one of Xavier, which `nn.Transformer` uses.

# %%
DEPTHS = (1, 2, 4, 8, 16, 24, 32, 48)
STARTS = {"default": "", "xavier": "_xavier"}  # torch's and Xavier's, and what their records are called

if lab:
    by_depth = {start: measure_depth(lab.seed("stack"), DEPTHS, D_MODEL, start) for start in STARTS}
    for start, suffix in STARTS.items():
        for (norm, kind), data in by_depth[start].items():
            lab.record(f"gradient{suffix}.{norm}.{kind}", {f"depth_{n}": share for n, share in data["gradient"].items()})
            lab.record(f"similarity{suffix}.{norm}.{kind}", {f"depth_{n}": data["similarity"][n] for n in DEPTHS})
        alike = {kind: by_depth[start]["post", kind]["similarity"][12] for kind in ("residual", "plain")}
        lab.record(f"rank{suffix}", {kind: {"similarity": value} for kind, value in alike.items()})
    rows = []
    for norm in ("none", *NORMS):
        shares = [by_depth[start][norm, kind]["gradient"][24] for start in STARTS for kind in ("residual", "plain")]
        rows.append([f"norm: {norm}", *(f"{share:.1e}" for share in shares)])
    lab.say("How much of the gradient is left after 24 blocks, with and without residuals?")
    lab.table(["", "torch's start: with", "without", "Xavier: with", "without"], rows)

# %% [markdown]
# Without normalisation and without residuals the gradient vanishes, as the textbooks say, from either start. The other columns
# say what the textbooks do not: residuals are not alone in keeping the gradient alive, and without a norm they let it grow.
#
# And the tokens? They start as independent random vectors. An untrained head averages over many words (from torch's start
# nearly evenly), so the tokens' averages are alike (and all get the same biases). `x +` keeps them apart, for a while. We
# measure how alike they are by the mean cosine between two tokens of a sequence: 1 if all point the same way.

# %%
if lab:
    lab.say(
        "How alike are the tokens after 12 post-norm blocks (1: all the same)? torch's start: {rank.residual.similarity:.2f} "
        "with residuals, {rank.plain.similarity:.3f} without; Xavier's: {rank_xavier.residual.similarity:.2f} and "
        "{rank_xavier.plain.similarity:.3f}."
    )

# %% [markdown]
# One often reads: $y = x + F(x)$, so $dy/dx = 1 + dF/dx$ is always at least 1. For vectors $dF/dx$ is a matrix, the Jacobian.
# Its singular values say by how much the block stretches a small change of its input, direction by direction. Were the
# sentence true, none of $I + dF/dx$ could be below 1. We ask the trained pre-norm block.

# %%
if lab:
    block = trained["pre"].block
    functions = {"x + F(x)": lambda x: block(x)[0], "F(x) alone": lambda x: block(x)[0] - x}
    texts = sentences(1 if lab.fast else 3, lab.seed("jacobian"), held_out=True)
    inputs = [trained["pre"].embed(encode([text.words])[0]) for text in texts]  # (1, T, d_model) each
    singular = {}  # of all the sentences, (directions,)
    for name, function in functions.items():
        singular[name] = torch.cat([torch.linalg.svdvals(jacobian(function, x)) for x in inputs]).sort().values
    whole, alone = singular.values()
    lab.record("jacobian", {"min_singular_value": whole[0], "share_below_0.99": (whole < 0.99).double().mean()})
    lab.record("jacobian", {"median": whole.median(), "median_of_branches": alone.median()})
    lab.record("jacobian.largest", {"block": whole[-1], "branches": alone[-1]})
    lab.say(
        f"By how much does a trained pre-norm block stretch its input (sentences: {len(texts)})? By "
        "{jacobian.min_singular_value:.2g} to {jacobian.largest.block:.3g}; {jacobian.share_below_0.99:.2f} of the directions "
        "shrink."
    )
    fig = draw.residuals(by_depth, singular, DEPTHS, 24, lab.study)
    lab.figure(fig, "04_residual_effect")

# %% [markdown]
# ## 4. Normalisation and the feed-forward network
# LayerNorm takes mean and variance over the features of *one token*:
# $$\mathrm{LN}(x) = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta$$
# BatchNorm has the same formula, but takes them over *the batch*, feature by feature, over all tokens of all its sentences. So
# what happens to a sentence when the others of its batch are replaced? (In training, that is. Later BatchNorm uses averages
# that it has collected.)

# %%
BATCHES = (2, 4, 8, 16, 32, 64, 128)

if lab.section("4. Normalisation and the feed-forward network"):
    drawn = sentences(300, lab.seed("samples"), held_out=True)
    texts = [model.embed(encode([text.words])[0])[0] for text in drawn]  # (T, d_model) each
    norms = {"LayerNorm": nn.LayerNorm(D_MODEL), "BatchNorm": nn.BatchNorm1d(D_MODEL)}  # fresh, in training mode
    n = 4 if lab.fast else 40
    changes = {}
    for name, norm in norms.items():
        changes[name] = {b: change_by_others(norm, texts, b, lab.generator("batch"), n) for b in BATCHES}
        lab.record(f"others_replaced.{name.lower()}", {f"batch_{b}": change for b, change in changes[name].items()})
    lab.say(
        "How far does a sentence move (1: the size of a feature) when all others of its batch are replaced? With BatchNorm "
        "{others_replaced.batchnorm.batch_8:.2f} in a batch of 8, {others_replaced.batchnorm.batch_128:.2f} in one of 128; "
        "with LayerNorm {others_replaced.layernorm.batch_8:.2g}."
    )

# %% [markdown]
# A single token, as when a model writes word by word, has no spread over the batch at all. And is the formula above right?
# PyTorch's `nn.LayerNorm` must give the same, here with the trained $\gamma$ and $\beta$.

# %%
if lab:
    refused = {name: refuses(norm, texts[0][:1]) for name, norm in norms.items()}
    lab.record("batch_of_one.refused", {name.lower(): no for name, no in refused.items()})
    if lab.verbose:
        lab.say("A single token: " + " ".join(f"{name} {'refuses' if no else 'takes'} it." for name, no in refused.items()))

    token, norm = texts[0], model.block.norm_1  # (T, d_model)
    mean, variance = token.mean(dim=-1, keepdim=True), token.var(dim=-1, keepdim=True, unbiased=False)  # (T, 1) each
    by_formula = norm.weight * (token - mean) / torch.sqrt(variance + norm.eps) + norm.bias  # (T, d_model)
    lab.record("layernorm.difference", (by_formula - norm(token)).abs().max())

# %% [markdown]
# The feed-forward network takes each token to a wider layer and back:
# $$\mathrm{FFN}(x) = \mathrm{GELU}(x W_1 + b_1)\,W_2 + b_2$$
# It takes each token alone; attention does not. To see the difference, give one token the features of another, and look which
# outputs move.

# %%
if lab:
    first, gelu, _, second = model.block.feed_forward  # d_model to d_ff, activation, (dropout,) d_ff to d_model

    def feed_forward(x: Tensor) -> Tensor:
        return gelu(x @ first.weight.T + first.bias) @ second.weight.T + second.bias

    swap = WORDS.index("cat"), WORDS.index("dogs")
    layers = {"attention": lambda x: model.block.attention(x)[0], "feed-forward": feed_forward}
    moved = {name: moved_by_one(layer, x, *swap) for name, layer in layers.items()}  # (T,) each
    others = [i for i in range(len(WORDS)) if i != swap[0]]
    lab.record("other_tokens_move", {name.replace("-", "_"): m[others].max() for name, m in moved.items()})
    lab.say(
        '"cat" gets the features of "dogs". Another token moves by up to {other_tokens_move.attention:.2f} of its length in '
        "attention, by {other_tokens_move.feed_forward:.2g} in the feed-forward network."
    )

# %% [markdown]
# The activation between the two layers: ReLU drops what is negative, GELU lets a little of it through. A unit that is never
# above 0, whatever the input, is *silent*. If the slope of its activation is 0 everywhere, too (below 0.01, say), no gradient
# reaches its weights any more: it is *dead*. A silent ReLU unit is dead, a silent GELU unit need not be. How many are there
# after training, and do they cost anything? We train one block on a small task of `common/stacks.py`: eight values of a random
# sine, what is the ninth? The learning rate is the best of 0.003, 0.01 and 0.03 for either activation.

# %%
if lab:
    test_sines = sines(512, lab.generator("units"))
    units = {}
    for name in ACTIVATIONS:
        found = measure_activation(name, 0.01, lab.seed("units"), 4 if lab.fast else 80, test_sines)
        units[name] = lab.record(f"units.{name}", found)
    if lab.verbose or not lab.study:
        lab.say("How many hidden units are dead? ReLU: {units.relu.dead:.2f}, GELU: {units.gelu.dead:.2f}.")
    if lab.study:
        lab.say(
            "Over {units.relu.dead@n} starts {units.relu.dead@median:.2f} of the ReLU units are dead after training and "
            "{units.gelu.dead@median:.2f} of the GELU units; ReLU has the smaller loss in {fewer} of them.",
            fewer=lab.study.count("units.relu.loss", "units.gelu.loss", where=lambda relu, gelu: relu < gelu),
        )
    fig = draw.norm_and_activation(changes, moved, WORDS, swap, units, 8, lab.study)
    lab.figure(fig, "04_norm_and_activation")

# %% [markdown]
# ## 5. Pre-norm against post-norm
# Which form is easier to train? Stacks of both learn the sine task. *Warm-up* raises the learning rate from a small one to its
# highest in the first tenth of the steps; without it, training starts at the highest. Else only the last LayerNorm differs,
# which pre-norm needs. A run has *failed* if it ends not much better than predicting the mean (above 0.9 of its loss). One run
# is one start; how often a stack fails, the study has counted.

# %%
RATES = (0.003, 0.01, 0.03)
SCHEDULES = {"warm": 0.1, "cold": 0.0}
CASES = tuple((norm, schedule) for norm in NORMS for schedule in SCHEDULES)

if lab.section("5. Pre-norm against post-norm"):
    n_blocks, n_steps = (1, 11) if lab.fast else (6, 80)
    test_sines = sines(512, lab.generator("warm-up"))
    mean_loss = test_sines[1].var(unbiased=False).item()
    runs = {}
    for norm, schedule, rate in progress([(*case, rate) for case in CASES for rate in RATES], "training stacks"):
        seed, warmup = lab.seed("warm-up"), SCHEDULES[schedule]
        found = measure_schedule(norm, rate, warmup, seed, test_sines, n_blocks, n_steps)
        lab.record(f"warmup.{norm}.{schedule}.lr_{rate:g}", {name: found[name] for name in ("loss", "diverged")})
        runs[norm, schedule, rate] = found
    many = f", median of {lab.study.n} starts (and how many failed)" if lab.study else ""
    lab.say(f"Which of them trains? Loss of {n_blocks} blocks{many}; predicting the mean gives {mean_loss:.2f}:")
    rows = []
    for norm, schedule in CASES:
        cells = [f"{runs[norm, schedule, rate]['loss']:.3f}" for rate in RATES]
        if lab.study:
            keys = [f"warmup.{norm}.{schedule}.lr_{rate:g}" for rate in RATES]
            failed = [lab.study.count(f"{key}.diverged", where=bool) for key in keys]
            cells = [f"{lab.study.median(f'{key}.loss'):.3f} ({n})" for key, n in zip(keys, failed, strict=True)]
        rows.append([f"{norm}-norm, {'with warm-up' if SCHEDULES[schedule] else 'without'}", *cells])
    lab.table(["learning rate", *(f"{rate:g}" for rate in RATES)], rows)
    fig = draw.warmup(runs, mean_loss, lab.study)
    lab.figure(fig, "04_pre_vs_post_norm")

# %% [markdown]
# "Pre-norm needs no warm-up", one says. What does leaving it out cost?

# %%
if lab and lab.study:
    for norm, rate in [(norm, rate) for norm in NORMS for rate in RATES] if lab.verbose else [("pre", RATES[-1])]:
        pair = [f"warmup.{norm}.{schedule}.lr_{rate:g}.loss" for schedule in ("cold", "warm")]
        worse = lab.study.count(*pair, where=lambda cold, warm: cold > warm)
        lab.say(f"{norm}-norm, rate {rate:g}: the loss is larger without warm-up in {worse} of {lab.study.n} starts.")

# %% [markdown]
# ## 6. The block writes
# So far a block has read. Two pre-norm blocks with a *causal mask*, which hides from each word what comes after it, can learn
# to name the next word, and then write, word by word. That is a GPT, and this one is a tiny one. Its layers are made in
# `GPTParts` of `common/gpt.py`; the cell puts them together.

# %%


class TinyGPT(GPTParts):
    """Word numbers (B, T) -> scores (B, T, vocabulary) of the word that follows each of them."""

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.position(tokens.shape[1])  # (B, T, d_model)
        for block in self.blocks:
            x, _ = block(x, causal_mask(tokens.shape[1]))
        return self.to_scores(self.last_norm(x))


if lab.section("6. The block writes"):
    lesson = [s.words for s in sentences(32 * (4 if lab.fast else 400), lab.seed("lesson"), held_out=False)]
    torch.manual_seed(lab.seed("writer"))
    gpt = TinyGPT()
    inputs, targets = (x.split(32) for x in next_words(lesson))  # 32 sentences a step; (32, T) each

    # of naming the next word at every place of every sentence
    def loss_at(step: int) -> Tensor:
        return F.cross_entropy(gpt(inputs[step]).flatten(0, 1), targets[step].flatten(), ignore_index=NO_TARGET)

    losses = train(gpt, loss_at, len(inputs), lr=1e-2, label="training the writer")
    gpt.requires_grad_(False)

# %% [markdown]
# To write is to ask for the next word, to draw one of those that the model thinks possible, to append it, and to ask again.
# The scores are divided by a *temperature* before the softmax: below 1 the likely words become more likely, above 1 the
# others get their chance. A sign of its own, `END`, stands before the first word and behind the last one.

# %%


def write(gpt: TinyGPT, prompt: list[str], n: int, temperature: float, generator: torch.Generator) -> list[list[str]]:
    """n sentences that begin with the prompt."""
    tokens = torch.tensor([[END, *(IDS[word] for word in prompt)]]).repeat(n, 1)  # (n, words so far)
    while tokens.shape[1] < MAX_WORDS:
        shares = (gpt(tokens)[:, -1] / temperature).softmax(dim=-1)  # (n, vocabulary)
        # a wheel of fortune, whose sectors are the shares: a draw such as torch.multinomial(shares, 1) makes
        spin = torch.rand(n, 1, generator=generator)
        word = (shares.cumsum(dim=-1) < spin).sum(dim=-1, keepdim=True).clamp(max=len(VOCABULARY) - 1)  # (n, 1)
        tokens = torch.cat([tokens, word], dim=1)
    return as_words(tokens)


if lab:
    lab.say("How does it go on? Four sentences, drawn at temperature 1:")
    for words in write(gpt, lab.options.prompt, 4, 1.0, lab.generator("prompt")):
        print(f"  {' '.join(words)}{'' if is_grammatical(words) else '   (not in the grammar)'}")
    print()

# %% [markdown]
# Is that a sentence of the language? `is_grammatical` of `common/toy_language.py` knows the rules, the model does not. And is
# it a new one, or one that it has learned by heart? A fifth of the language was held out of all training: a model that has
# learned the language, and not a list, writes nearly as many of those. What is to be expected is told by sentences that the
# grammar itself draws. And how many of the sentences are *different* from each other (a sentence written twice counts once)?

# %%
TEMPERATURES = (0.25, 0.5, 1.0, 2.0)

if lab:
    known, judged = set(map(" ".join, lesson)), {}
    for t in TEMPERATURES:
        written = write(gpt, [], 20 if lab.fast else 500, t, lab.generator(f"temperature {t}"))
        judged[t] = judge(written, known)
        for name in ("grammatical", "different"):
            lab.record(f"generation.{name}.{t:g}", judged[t][name])
    fresh = judge([s.words for s in sentences(20 if lab.fast else 2000, lab.seed("fresh"), held_out=None)], known)
    lab.record("generation", {name: judged[1.0][name] for name in ("new", "held_out")} | {"new_in_grammar": fresh["new"]})
    lab.say(
        "In the grammar are, at temperature 0.5, {generation.grammatical.0.5:.3f} of the sentences, at 1 "
        "{generation.grammatical.1:.3f}, at 2 {generation.grammatical.2:.3f}. Of those at 1, {generation.new:.2f} were not in "
        "the training (of the grammar's own {generation.new_in_grammar:.2f}), {generation.held_out:.2f} of the held-out fifth."
    )

# %% [markdown]
# What does it think on the way? We follow the prompt and, at a temperature near 0, always the likeliest word.

# %%
if lab:
    (line,) = write(gpt, lab.options.prompt, 1, 0.01, lab.generator("line"))
    shares = gpt(torch.tensor([[END, *(IDS[word] for word in line)]]))[0].softmax(dim=-1)  # (words + 1, vocabulary)
    by_kind = shares_of_kinds(shares)  # (words + 1,) each
    after = len(lab.options.prompt)  # what follows its last word
    lab.record("generation.next", {"one": by_kind["singular verb"][after], "several": by_kind["plural verb"][after]})
    lab.say(
        'Which verb after "{prompt}"? A singular verb (is, eats): {generation.next.one:.3f}; a plural verb (are, eat): '
        "{generation.next.several:.3f}.",
        prompt=" ".join(lab.options.prompt),
    )
    fig = draw.generation(line, by_kind, judged, lab.study)
    lab.figure(fig, "04_generation")

# %% [markdown]
# To name the 100th word the loop above computes keys and values of all 99 before it, as it did for the 99th. But with a causal
# mask they cannot have changed! So they are kept: the *key-value cache*. Then only the new word goes through the blocks.


# %%


@torch.no_grad()
def next_scores(gpt: TinyGPT, word: Tensor, cache: list) -> tuple[Tensor, list]:
    """The scores (B, vocabulary) of what follows `word` (B,), and the new cache. The cache holds, for each block, keys and
    values (B, H, T - 1, d_head) of all words before it."""
    place, new_cache = cache[0][0].shape[2], []
    x = (gpt.embedding(word) + gpt.position.table[place])[:, None]  # (B, 1, d_model): one word
    for block, (old_keys, old_values) in zip(gpt.blocks, cache, strict=True):  # (B, H, T - 1, d_head) each
        attention, normed = block.attention, block.norm_1(x)
        layers, n_heads = (attention.w_q, attention.w_k, attention.w_v), attention.n_heads
        q, k, v = (w(normed).unflatten(-1, (n_heads, -1)).transpose(1, 2) for w in layers)  # (B, H, 1, d_head) each
        keys, values = torch.cat([old_keys, k], dim=2), torch.cat([old_values, v], dim=2)  # (B, H, T, d_head) each
        heads, _ = scaled_dot_product_attention(q, keys, values)  # (B, H, 1, d_head): one query, all keys
        h = x + attention.w_o(heads.transpose(1, 2).flatten(-2))  # (B, 1, d_model)
        x = h + block.feed_forward(block.norm_2(h))
        new_cache.append((keys, values))
    return gpt.to_scores(gpt.last_norm(x))[:, 0], new_cache


if lab:
    tokens, _ = next_words(lesson[:20])  # (B, T)
    cache, one_by_one = empty_cache(gpt, len(tokens)), []
    for word in tokens.T:
        scores, cache = next_scores(gpt, word, cache)
        one_by_one.append(scores)
    lab.record("cache.max_difference", (torch.stack(one_by_one, dim=1) - gpt(tokens)).abs().max())

# %% [markdown]
# What does it save? A longer model of the same kind, untrained, for time does not depend on what the weights are.

# %%
if lab:
    torch.manual_seed(lab.seed("cache"))
    long_gpt = TinyGPT(max_words=512).requires_grad_(False)
    tokens, start = torch.full((1, 512), IDS["the"]), empty_cache(long_gpt)
    times = measure_cache(long_gpt, next_scores, start, tokens, (16, 64, 256, 512))
    for n, found in times.items():
        lab.record(f"cache.bytes.n{n}", found["bytes"])
        for name in ("without", "with"):
            lab.record_seconds(f"cache.{name}.n{n}", found[name])
    ratios = ", ".join(f"{found['without'] / found['with']:.1f} (word {n})" for n, found in times.items())
    lab.say(
        "The same scores up to {cache.max_difference:.0e}. Times faster on this machine: {ratios}. The cache then holds "
        "{size:,} bytes.",
        ratios=ratios,
        size=found["bytes"],
    )

# %%
lab.finish()
