"""Lab 4 - The Transformer block, opened up: what does each of its parts do, and what breaks without it?

You will see
  1. a sentence on its way through a trained block, stage by stage, with mean and variance;
  2. what its heads look at, trained against untrained;
  3. stacks of up to 48 blocks with and without residuals: what becomes of the gradient and of the tokens, and whether
     "the derivative is always at least 1" is true;
  4. LayerNorm against BatchNorm, GELU against ReLU, and a feed-forward network that sees one token at a time;
  5. pre-norm against post-norm, with and without warm-up: which of them trains at which learning rate;
  6. where the parameters are, and PyTorch's own block with the same weights.

Run it:      python 04_transformer_block.py
Then try:    python 04_transformer_block.py --out trial --norm pre
             python 04_transformer_block.py --out trial --heads 8 --d-ff 32
It writes:   04_transformer_dataflow, 04_attention_patterns, 04_residual_effect, 04_norm_and_activation,
             04_pre_vs_post_norm and 04_results.json
"""

from __future__ import annotations

import argparse
import copy
import itertools
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that common/ is found from any folder
from common.command_line import Parser, whole_number  # isort: skip  (first: Ctrl-C then ends quietly while torch loads)
from common.lab import Lab, run  # isort: skip  (loads torch and matplotlib faster)

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from common.jacobian import jacobian
from common.plotting import BLUE, GREEN, GREY, PURPLE, VERMILLION, curve, decades, heatmap, panels
from common.positional_encoding import sinusoidal_encoding
from common.toy_language import IDS, MaskedWordModel, Sentence, encode, fill_gaps, sentences, train_masked_words
from common.training import train
from common.transformer import ACTIVATIONS, NORMS, TransformerBlock

D_MODEL = 32
STYLES = {
    "none": {"color": GREY, "marker": "^"},
    "post": {"color": PURPLE, "marker": "s"},
    "pre": {"color": GREEN, "marker": "o"},
}

# %% 1. A sentence on its way through a block
# A block is trained to name hidden words of Lab 2's toy language. Then a sentence that training never saw, with its
# verb hidden, goes through it. Every stage has the same shape, one row of features a token, so that they can be
# compared: what does each stage do to a token's mean and variance?

WORDS = ["the", "cat", "which", "the", "dogs", "chased", "<mask>", "very", "old"]
HIDDEN, ANSWER, RIVAL = WORDS.index("<mask>"), "is", "are"  # "dogs", of the other number, is nearer to the verb
FLOW = {  # what each of the seven stages is made of
    "post": ("", " of 1", ": 1 + 2", " of 3", " of 4", ": 4 + 5", " of 6"),
    "pre": ("", " of 1", " of 2", ": 1 + 3", " of 4", " of 5", ": 4 + 6"),
}


def make_model(lab: Lab, norm: str) -> MaskedWordModel:
    """The untrained word model that the flags ask for; the same weights for both norms."""
    torch.manual_seed(lab.seed("word model"))
    return MaskedWordModel(lab.options.heads, D_MODEL, lab.options.d_ff, norm)


def train_model(lab: Lab, norm: str) -> MaskedWordModel:
    model, n_steps = make_model(lab, norm), 4 if lab.fast else 250
    steps = lab.progress(range(n_steps), f"training a {norm}-norm block")
    train_masked_words(model, steps, n_steps, lab.seed("words"))
    return model


@torch.no_grad()
def measure_flow(model: MaskedWordModel) -> dict[str, dict[str, Tensor]]:
    """For each stage its "features" (T, d_model) and each token's "mean" and "variance" over the features (T,).

    After a norm also "plain": the variance that the norm gives without its gamma and beta.
    """
    found, before = {}, None
    for name, x in model.block.stages(model.embed(encode([WORDS])[0])).items():
        found[name] = {"features": x[0], "mean": x[0].mean(dim=-1), "variance": x[0].var(dim=-1, unbiased=False)}
        if name.startswith("norm"):
            found[name]["plain"] = F.layer_norm(before[0], (D_MODEL,)).var(dim=-1, unbiased=False)
        before = x
    return found


def draw_flow(flow: dict[str, dict[str, Tensor]], norm: str) -> Figure:
    plain, final = ([flow[name][key].mean() for name in ("norm 1", "norm 2")] for key in ("plain", "variance"))
    title = (
        f"LayerNorm brings the tokens to variance {plain[0]:.2f} and {plain[1]:.2f}; "
        f"its trained gamma and beta make that {final[0]:.2f} and {final[1]:.2f}"
    )
    fig, axes = panels(title, (1, 1, 1, 1), size=(15, 8.2), rows=2)
    last = axes[7]
    for i, (name, stage) in enumerate(flow.items()):
        words, at = WORDS if i in (0, 4) else [], [i + 1] * len(WORDS)
        limit = 3 * stage["features"].std().item()
        label = "feature" if i >= 3 else ""
        heatmap(axes[i], stage["features"], row_label="", column_label=label, signed=True, limit=limit)
        numbers = f"mean {stage['mean'].mean():.2f}, variance {stage['variance'].mean():.2g}"
        axes[i].set_title(f"{i + 1} {name.rstrip(' 12')}{FLOW[norm][i]}\n{numbers}")
        axes[i].set_yticks(range(len(words)), words)
        axes[i].set_xticks(range(0, D_MODEL, 10) if label else [])
        last.plot(at, stage["variance"], "o", color=BLUE, alpha=0.6, label="a token" if i == 0 else None)
        if "plain" in stage:
            label = "before gamma and beta" if name == "norm 1" else None
            last.plot(at, stage["plain"], "_", ms=20, mew=3, color=VERMILLION, label=label)
    last.set(yscale="log", xlabel="stage", xticks=range(1, 8), title="variance of each token")
    decades(last.yaxis)
    last.legend(loc="lower right")
    fig.supxlabel("Red: above 0, blue: below 0, full colour: three standard deviations of that stage.", fontsize=10)
    return fig


def show_flow(lab: Lab, model: MaskedWordModel) -> None:
    lab.section("1. A sentence on its way through a block")
    with torch.no_grad():
        shares = model(*encode([WORDS]))[0][0, HIDDEN].softmax(dim=-1)  # (vocabulary,)
    verb = lab.record_all("verb.probability", {word: shares[IDS[word]] for word in (ANSWER, RIVAL)}, rtol=0.1, atol=0.1)
    lab.say(
        f'"{" ".join(WORDS)}": the trained {model.block.norm}-norm block gives "{ANSWER}" {verb[ANSWER]:.3f} and "{RIVAL}" '
        f"{verb[RIVAL]:.3f}. Its stages; mean and variance over a token's {D_MODEL} features, averaged over the tokens:"
    )
    flow, rows = measure_flow(model), []
    for name, stage in flow.items():
        key = f"dataflow.{name.replace(' ', '_')}"
        mean = lab.record(f"{key}.mean", stage["mean"].mean(), rtol=0.1, atol=0.1)
        variance = lab.record(f"{key}.variance", stage["variance"].mean(), rtol=0.3)
        plain = lab.record(f"{key}.plain_variance", stage["plain"].mean(), rtol=0.02) if "plain" in stage else ""
        rows.append([name, mean, variance, plain])
    lab.table(["stage", "mean", "variance", "variance before gamma and beta"], rows, digits=3)
    lab.say(
        "'Mean 0 and variance 1 after LayerNorm' is what its formula computes. What comes out has been through gamma and "
        "beta, which are trained and set the scale for the next stage."
    )
    lab.figure(draw_flow(flow, model.block.norm), "04_transformer_dataflow")


# %% 2. What the heads look at
# The same block before and after training. Over many held-out sentences: how evenly does the hidden verb look around
# (entropy, 1 = evenly), and how much of its attention goes to its subject?


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


def draw_heads(before: dict[str, Tensor], after: dict[str, Tensor], n_sentences: int) -> Figure:
    n_heads, best = len(after["subject"]), int(after["subject"].argmax())
    title = (
        f"Untrained, a hidden verb looks around evenly (entropy {before['entropy'].mean():.2f}); trained, "
        f"head {best} gives the subject {after['subject'][best]:.2f} instead of "
        f"{before['subject'][best]:.2f} (means of {n_sentences} sentences)"
    )
    columns = 2 if n_heads == 1 else 4
    rows = 2 * n_heads // columns
    fig, axes = panels(title, [1] * columns, size=(3.6 * columns + 1, 3.7 * rows + 1.2), rows=rows)
    cases = [(name, found, h) for name, found in (("untrained", before), ("trained", after)) for h in range(n_heads)]
    for i, (ax, (name, found, h)) in enumerate(zip(axes, cases, strict=True)):
        left, bottom = i % columns == 0, i >= len(cases) - columns
        image = heatmap(ax, found["weights"][h], rows=WORDS if left else [], columns=WORDS if bottom else [])
        ax.axhspan(HIDDEN - 0.48, HIDDEN + 0.48, fill=False, ec="white", lw=1.5)  # the row of the hidden verb
        ax.set_title(f"{name}, head {h}")
        ax.label_outer()
    fig.colorbar(image, ax=axes.tolist(), label="weight in this one sentence (white frame: the hidden verb)", fraction=0.03)
    return fig


def show_heads(lab: Lab, model: MaskedWordModel) -> None:
    lab.section("2. What the heads look at")
    drawn = sentences(60 if lab.fast else 1500, lab.seed("test sentences"), held_out=True)
    test = [sentence for sentence in drawn if sentence.attractor and "agreement" in sentence.gaps]
    found = {"untrained": measure_heads(make_model(lab, model.block.norm), test), "trained": measure_heads(model, test)}
    accuracy = lab.record("heads.accuracy", found["trained"]["accuracy"], rtol=0.05)
    lab.say(
        f"{len(test)} held-out sentences in which a noun of the other number stands before the hidden verb; the trained block "
        f"names the right number in {accuracy:.3f} of them. The attention of the hidden verb, by head, mean over sentences:"
    )
    columns = [found[when][name].tolist() for name in ("entropy", "subject") for when in found]
    rows = [[f"head {h}", *row] for h, row in enumerate(zip(*columns, strict=True))]
    lab.table(["", "entropy untrained", "trained", "to the subject untrained", "trained"], rows)
    for when, data in found.items():
        lab.record(f"heads.entropy.{when}", data["entropy"].mean(), rtol=0.2)
        lab.record(f"heads.subject_attention.{when}", data["subject"].max(), rtol=0.4)
    lab.figure(draw_heads(*found.values(), len(test)), "04_attention_patterns")


# %% 3. What residuals are for
# Stacks of fresh blocks, all with the same weights: without normalisation, post-norm and pre-norm, each with the residual
# "x +" and plain, that is, without it. A gradient of length 1 enters at the top: how long is it at the bottom? And how
# alike (cosine) do the tokens of a sequence become on the way up? Last, trained blocks: is the derivative of x + F(x)
# always at least 1?

DEPTHS = (1, 2, 4, 8, 16, 24, 32, 48)
AT_24, TOP = DEPTHS.index(24), DEPTHS[-1]
STACKS = tuple(itertools.product(STYLES, ("residual", "plain")))
ALIKE_AT = 12  # blocks (post-norm) after which rank.<residual|plain>.similarity is taken
BLOCK, BRANCHES = "pre-norm block, x + F(x)", "F(x) alone"
PARTS = ((BLOCK, "block"), (BRANCHES, "branches"))


def make_stack(n_blocks: int, norm: str, **options) -> nn.ModuleList:
    """Blocks with two heads and norm "post", "pre" or "none", that is, without any normalisation."""
    kind = "post" if norm == "none" else norm
    blocks = nn.ModuleList(TransformerBlock(D_MODEL, 2, norm=kind, **options) for _ in range(n_blocks))
    for block in blocks if norm == "none" else ():
        block.norm_1, block.norm_2 = nn.Identity(), nn.Identity()
    return blocks


def similarity(x: Tensor) -> float:
    """Mean cosine between two different tokens of a sequence, x (B, T, d): 1 if all point the same way."""
    unit, n = F.normalize(x, dim=-1), x.shape[1]
    return ((unit.sum(dim=1).square().sum(dim=-1) - n) / (n * (n - 1))).mean().item()


def measure_stack(blocks: nn.ModuleList, x: Tensor, top: Tensor) -> dict[str, list[float]]:
    """For the first n blocks, n in DEPTHS: the "gradient" left at the bottom, |top^T dy_n/dx| / |top|, with both norms
    computed in float64, and "naive", the same in the stack's own precision. After 0, 1, ... blocks: the "similarity"."""
    copies = x.repeat(len(DEPTHS), 1, 1).requires_grad_()  # one for each depth, so that one backward pass does for all
    levels = [copies]
    for block in blocks:
        levels.append(block(levels[-1])[0])
    entering = [(levels[n].chunk(len(DEPTHS))[i] * top).sum() for i, n in enumerate(DEPTHS)]
    gradients = torch.autograd.grad(sum(entering), copies)[0].chunk(len(DEPTHS))
    return {
        "gradient": [(g.double().norm() / top.double().norm()).item() for g in gradients],
        "naive": [(g.norm() / top.norm()).item() for g in gradients],
        "similarity": [similarity(level[: len(x)].detach()) for level in levels],
    }


def measure_depth(seeds: Sequence[int], n_sequences: int = 2) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """`measure_stack` in float32 for each of STACKS, arrays (seeds, depths), and ("none", "float64"): plain in float64."""
    cases = (*STACKS, ("none", "float64"))
    runs = {case: [] for case in cases}
    for norm, seed in itertools.product(STYLES, seeds):
        torch.manual_seed(seed)
        x, top = torch.randn(2, n_sequences, 12, D_MODEL)  # (n_sequences, 12, d_model) each
        blocks = make_stack(TOP, norm)  # the same weights for every kind
        for kind in (kind for other, kind in cases if other == norm):  # float64 comes last
            if kind == "float64":
                blocks, x, top = blocks.double(), x.double(), top.double()
            for block in blocks:
                block.residual = kind == "residual"
            runs[norm, kind].append(measure_stack(blocks, x, top))
    return {case: {name: np.array([r[name] for r in some]) for name in some[0]} for case, some in runs.items()}


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


def draw_residuals(found: dict[tuple[str, str], dict[str, np.ndarray]], jacobians: dict[str, list[Tensor]]) -> Figure:
    lost = np.median(found["none", "plain"]["gradient"][:, AT_24])
    alike = np.median(found["post", "plain"]["similarity"], axis=0)[2]
    below = (torch.cat(jacobians[BLOCK]) < 0.99).double().mean()
    title = (
        f"Without residuals 24 blocks leave {lost:.0e} of the gradient if there is no norm; with post-norm 2 blocks make the "
        f"tokens alike (cosine {alike:.2f}). With residuals, 'derivative at least 1' is false: {below:.2f} of the directions "
        "shrink"
    )
    fig, axes = panels(title, (1, 1, 1, 1), size=(16, 6))
    depths, n_seeds = np.array(DEPTHS), len(found["none", "plain"]["gradient"])
    for (norm, kind), data in found.items():
        style = STYLES[norm] | {"ls": {"residual": "-", "plain": "--", "float64": ":"}[kind]}
        words = {"residual": "residual", "plain": "no residual", "float64": "no residual, float64"}[kind]
        label = f"{'no ' if norm == 'none' else norm + '-'}norm, {words}"
        middle, low, high = (f(data["gradient"], axis=0) for f in (np.median, np.min, np.max))
        shown, ax = low > 0, axes[0 if norm == "none" else 1]
        curve(ax, depths[shown], middle[shown], low=low[shown], high=high[shown], label=label, **style)
        for depth in depths[~shown]:  # a logarithmic axis has no 0
            ax.plot(depth, 1e-76, "v", color=style["color"], mfc="white", ms=10, clip_on=False)
            ax.annotate("0 in float32", (depth, 1e-76), xytext=(-9, 9), textcoords="offset points", ha="right")
        if kind != "float64":
            curve(axes[2], range(TOP + 1), np.median(data["similarity"], axis=0), label=label, markevery=8, **style)
    for name, line in ((BLOCK, "-"), (BRANCHES, "--")):
        for i, values in enumerate(jacobians[name]):
            share, label = np.linspace(0, 1, len(values)), name if i == 0 else None
            axes[3].plot(share, values.flip(0), color=GREEN, ls=line, lw=1.2, label=label)
    axes[3].axhline(1, color="black", lw=1.2, ls=":", label="claimed: none below 1")
    axes[0].set(yscale="log", ylim=(1e-76, 1e30), yticks=[1e-60, 1e-40, 1e-20, 1])
    axes[0].set_title("gradient left at the bottom,\nno norm")
    axes[1].set(yscale="log", ylim=(1e-6, 10), title=f"gradient left at the bottom,\nwith norm (bands: all {n_seeds} seeds)")
    axes[2].set(ylim=(-0.05, 1.1), title="similarity of the tokens\n(mean cosine, median over seeds)")
    axes[2].text(TOP, 1.02, "all three without residuals", ha="right")
    axes[3].set(yscale="log", ylim=(1e-6, 1e5))
    axes[3].set_title(f"singular values of the Jacobian,\ntrained block (sentences: {len(jacobians[BLOCK])})")
    for ax in axes:
        ax.set_xlabel("blocks" if ax is not axes[3] else "share of the directions")
        decades(ax.yaxis)
    axes[0].legend(loc="upper left", handlelength=3.2)
    axes[3].legend(loc="upper left")
    fig.legend(*axes[2].get_legend_handles_labels(), loc="outside lower center", ncols=3, handlelength=4)
    return fig


def show_residuals(lab: Lab, models: dict[str, MaskedWordModel]) -> None:
    lab.section("3. What residuals are for")
    n_seeds, n_sequences = (1, 1) if lab.fast else (11, 2)
    found = measure_depth([lab.seed(f"stack {i}") for i in range(n_seeds)], n_sequences)
    gradient = {case: np.median(data["gradient"], axis=0) for case, data in found.items()}
    for (norm, kind), values in gradient.items():
        prefix = f"gradient_float64.{norm}.plain" if kind == "float64" else f"gradient.{norm}.{kind}"
        atol = 0 if kind == "float64" else 1e-38  # where float32 runs out
        lab.record_all(prefix, {f"depth_{n}": v for n, v in zip(DEPTHS, values, strict=True)}, rtol=0.05, atol=atol)
    plain, header = gradient["none", "plain"], ["blocks", *(f"{norm}, {kind}" for norm, kind in STACKS)]
    lab.say("Columns: no normalisation (none), post-norm and pre-norm, each with residuals and without them (plain).")
    lab.say(
        "Fresh blocks, the same weights in every column. What is left at the bottom of a gradient that enters at the top "
        f"with length 1 (float32; median over seeds: {len(found['none', 'plain']['gradient'])}):"
    )
    lab.table(
        header,
        [[n, *(f"{gradient[case][i]:.1e}" if gradient[case][i] else "0" for case in STACKS)] for i, n in enumerate(DEPTHS)],
    )
    naive = np.median(found["none", "plain"]["naive"][:, AT_24])
    naive = lab.record("gradient.none.plain.float32_norm.depth_24", naive, rtol=0)
    spread = {}
    for norm in NORMS:
        seeds = found[norm, "plain"]["gradient"][:, AT_24]
        ends = lab.record_all(
            f"gradient_seeds.{norm}.plain.depth_24", {"lowest": seeds.min(), "highest": seeds.max()}, rtol=0.1
        )
        spread[norm] = "{lowest:.1g} to {highest:.1g}".format(**ends)
    lab.say(
        f"No norm, plain: after {TOP} blocks float32 holds {plain[-1]:.0e}, float64 {gradient['none', 'float64'][-1]:.0e}. "
        f"After 24 it is {plain[AT_24]:.0e}, although the usual norm in float32 gives {naive:.0e}: its squares underflow "
        f"first. With normalisation and no residual {gradient['post', 'plain'][AT_24]:.2g} (post; seeds {spread['post']}) and "
        f"{gradient['pre', 'plain'][AT_24]:.2g} (pre; {spread['pre']}) are left: residuals are not alone in keeping the "
        f"gradient alive. But with them it is {gradient['post', 'residual'][AT_24]:.2g} and "
        f"{gradient['pre', 'residual'][AT_24]:.2g}."
    )
    alike = {case: np.median(found[case]["similarity"], axis=0) for case in STACKS}
    for (norm, kind), values in alike.items():
        lab.record_all(f"similarity.{norm}.{kind}", {f"depth_{n}": values[n] for n in DEPTHS}, rtol=0.03, atol=0.01)
    lab.say("How alike the tokens of a sequence are (mean cosine; random tokens at the start):")
    lab.table(header, [[n, *(float(alike[case][n]) for case in STACKS)] for n in DEPTHS], digits=3)
    ranks = {f"{kind}.similarity": alike["post", kind][ALIKE_AT] for kind in ("residual", "plain")}
    with_it, without = lab.record_all("rank", ranks, rtol=0.05).values()
    lab.say(
        f"Post-norm without residuals: {alike['post', 'plain'][1]:.3f} after one block, {alike['post', 'plain'][2]:.3f} after "
        "two, for an untrained head looks at all words alike, so that every token gets nearly the same average (and the same "
        f"biases). After {ALIKE_AT} blocks: {without:.3f} without residuals, {with_it:.2f} with them. Residuals delay it: at "
        f"{TOP} blocks it is {alike['post', 'residual'][TOP]:.2f} (post) and {alike['pre', 'residual'][TOP]:.2f} (pre)."
    )
    jacobians = measure_jacobian(models, sentences(1 if lab.fast else 5, lab.seed("jacobian"), held_out=True))
    show_jacobian(lab, jacobians)
    lab.figure(draw_residuals(found, jacobians), "04_residual_effect")


def show_jacobian(lab: Lab, jacobians: dict[str, list[Tensor]]) -> None:
    values = {name: torch.cat(parts).round(decimals=12) for name, parts in jacobians.items()}
    lab.say(
        "'y = x + F(x), so dy/dx = 1 + dF/dx is always at least 1.' Is it? By how much trained blocks stretch a small change "
        f"of their input: singular values of the Jacobian, in float64 (held-out sentences: {len(jacobians[BLOCK])})."
    )
    shrunk = {name: (v < 0.99).double().mean().item() for name, v in values.items()}
    rows = [[n, *(f"{f(v):.2g}" for f in (torch.min, torch.median, torch.max)), shrunk[n]] for n, v in values.items()]
    lab.table(["", "smallest", "median", "largest", "share below 0.99"], rows)
    smallest = lab.record("jacobian.min_singular_value", np.median([v.min() for v in jacobians[BLOCK]]), rtol=1.0)
    below = lab.record("jacobian.share_below_0.99", shrunk[BLOCK], rtol=0.2)
    middle = lab.record("jacobian.median", values[BLOCK].median(), rtol=0.3)
    alone = lab.record("jacobian.median_of_branches", values[BRANCHES].median(), rtol=0.5)
    largest = {name: lab.record(f"jacobian.largest.{key}", values[name].max(), rtol=0.5) for name, key in PARTS}
    lab.say(
        f"{'No' if smallest < 1 else 'Here, yes'}: 1 + dF/dx is a matrix, and dF/dx may take away as well as add. The pre-norm "
        f"block shrinks {below:.2f} of its directions below 0.99, the smallest value of a sentence (median over sentences) is "
        f"{smallest:.2g}. What 'x +' does is to lift the small values: the median is {alone:.2g} for F alone and {middle:.2g} "
        f"with x, the largest {largest[BRANCHES]:.3g} and {largest[BLOCK]:.3g}. Values of 0: directions that LayerNorm removes."
    )


# %% A small task for the next two sections
# Eight values of a sine of random amplitude, frequency and phase: what is the ninth? Small, so that many stacks can be
# trained.

N_STEPS, BATCH = 8, 16


def sines(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """x (n, N_STEPS, 1) and the value that follows (n,)."""
    amplitude, frequency, phase = torch.rand(3, n, 1, generator=generator)  # (n, 1) each
    angle = (0.2 + 0.6 * frequency) * torch.arange(N_STEPS + 1) + 2 * math.pi * phase  # (n, N_STEPS + 1)
    y = (0.5 + amplitude) * angle.sin()
    return y[:, :-1, None], y[:, -1]


class SineModel(nn.Module):
    """(B, N_STEPS, 1) -> (B,): a stack of blocks, read at its last position. Pre-norm ends with a LayerNorm, as in GPT-2."""

    def __init__(self, n_blocks: int, norm: str, activation: str = "gelu"):
        super().__init__()
        self.embedding = nn.Linear(1, D_MODEL)
        self.blocks = make_stack(n_blocks, norm, d_ff=2 * D_MODEL, activation=activation)
        self.last_norm = nn.LayerNorm(D_MODEL) if norm == "pre" else nn.Identity()
        self.to_value = nn.Linear(D_MODEL, 1)

    def embed(self, x: Tensor) -> Tensor:
        return self.embedding(x) + sinusoidal_encoding(N_STEPS, D_MODEL)  # (B, N_STEPS, d_model)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x, _ = block(x)
        return self.to_value(self.last_norm(x)[:, -1]).squeeze(-1)


def train_sines(model: SineModel, seed: int, n_steps: int, *, lr: float, warmup: float = 0.1) -> list[float]:
    x, y = sines(n_steps * BATCH, torch.Generator().manual_seed(seed))

    def loss_at(step: int) -> Tensor:
        rows = slice(step * BATCH, (step + 1) * BATCH)
        return F.mse_loss(model(x[rows]), y[rows])

    return train(model, loss_at, range(n_steps), n_steps, lr=lr, warmup=warmup, cycle_momentum=False)


# %% 4. Normalisation and the feed-forward network
# LayerNorm takes mean and variance over the features of one token, BatchNorm over the batch, feature by feature: what
# happens to a sample when the others of its batch are replaced? A feed-forward network takes each token alone, attention
# does not: replace one token and see which outputs move. And its activation: how many units lose their slope?

BATCHES = (2, 4, 8, 16, 32, 64, 128, 256)
REPLACED, REPLACEMENT = WORDS.index("cat"), WORDS.index("dogs")
UNIT_RATES = (0.0, 0.01, 0.1)  # learning rates; 0: untrained


def layer_norm(x: Tensor, norm: nn.LayerNorm, *, unbiased: bool = False) -> Tensor:
    """gamma (x - mean) / sqrt(variance + eps) + beta over the features of each token."""
    mean, variance = x.mean(dim=-1, keepdim=True), x.var(dim=-1, keepdim=True, unbiased=unbiased)
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


def refusal(norm: nn.Module, samples: Tensor) -> str:
    """What the layer says to these samples in training mode: "" if it takes them."""
    try:
        norm(samples)
    except ValueError as error:
        return str(error)
    return ""


@torch.no_grad()
def measure_positions(model: MaskedWordModel) -> dict[str, Tensor]:
    """How far each token's output moves (T,), as a share of its length, when one token of the sub-layer's input changes."""
    block, flow = model.block, model.block.stages(model.embed(encode([WORDS])[0]))
    names, moved = list(flow), {}
    for name, layer in (("attention", lambda x: block.attention(x)[0]), ("feed-forward", block.feed_forward)):
        x = flow[names[names.index(name) - 1]]  # (1, T, d_model), what the sub-layer gets in the trained block
        changed = x.clone()
        changed[:, REPLACED] = x[:, REPLACEMENT]
        before, after = layer(x)[0], layer(changed)[0]
        moved[name] = (after - before).norm(dim=-1) / before.norm(dim=-1)
    return moved


def measure_units(model: SineModel, x: Tensor) -> dict[str, float]:
    """Shares of the hidden units of the first block: "silent", never above 0 on any token of x, and "dead", with a slope
    of the activation below 0.01 on every token, so that hardly any gradient reaches their weights."""
    block = model.blocks[0]
    first, activation = block.feed_forward[0], block.feed_forward[1]
    z = first(block.stages(model.embed(x))["norm 1"]).flatten(0, 1).detach().requires_grad_()  # (B T, d_ff)
    (slope,) = torch.autograd.grad(activation(z).sum(), z)
    silent, dead = z.amax(dim=0) <= 0, slope.abs().amax(dim=0) < 0.01
    return {"silent": silent.float().mean().item(), "dead": dead.float().mean().item()}


def measure_activations(seeds: Sequence[int], n_steps: int) -> dict[tuple[str, float], dict[str, list[float]]]:
    """`measure_units` of one post-norm block, for each activation at each of UNIT_RATES, a list over the seeds."""
    found, (x, _) = {}, sines(256, torch.Generator().manual_seed(seeds[0] + 1))
    for activation, rate, seed in itertools.product(ACTIVATIONS, UNIT_RATES, seeds):
        torch.manual_seed(seed)
        model = SineModel(1, "post", activation)
        if rate:
            train_sines(model, seed, n_steps, lr=rate)
        for name, share in measure_units(model, x).items():
            found.setdefault((activation, rate), {}).setdefault(name, []).append(share)
    return found


def draw_norm_and_activation(changes: dict[str, list[float]], moved: dict[str, Tensor], units: dict) -> Figure:
    batch_norm, others = changes["BatchNorm"][BATCHES.index(8)], max(changes["LayerNorm"])
    dead = {activation: np.mean(units[activation, UNIT_RATES[1]]["dead"]) for activation in ACTIVATIONS}
    title = (
        f"Replacing the other 7 of a batch moves a sample by {batch_norm:.2f} (BatchNorm) or {others:.2g} (LayerNorm); "
        f"trained at rate {UNIT_RATES[1]:g}, {dead['relu']:.2f} of the ReLU units are dead and "
        f"{dead['gelu']:.2f} of the GELU units"
    )
    fig, axes = panels(title, (4, 4, 4, 4), size=(16, 5.4))
    one, two = {"color": BLUE}, {"color": VERMILLION}
    curve(axes[0], BATCHES, changes["BatchNorm"], label="BatchNorm", marker="s", ls="--", **two)
    curve(axes[0], BATCHES, changes["LayerNorm"], label="LayerNorm", marker="o", **one)
    axes[0].set_xscale("log", base=2)
    axes[0].set_xticks(BATCHES, map(str, BATCHES))
    axes[0].set(xlabel="samples in the batch", title="change of a sample when the\nothers are replaced (r.m.s.)")
    at = np.arange(len(WORDS))
    axes[1].bar(at - 0.2, moved["attention"], width=0.4, label="attention", color=GREEN)
    label = f"feed-forward (others: {np.delete(moved['feed-forward'].numpy(), REPLACED).max():.2g})"
    axes[1].bar(at + 0.2, moved["feed-forward"], width=0.4, label=label, hatch="//", color=PURPLE)
    axes[1].set_xticks(at, WORDS, rotation=40, ha="right")
    axes[1].margins(y=0.35)  # room for the legend
    swap = f'"{WORDS[REPLACED]}" gets the features of "{WORDS[REPLACEMENT]}": change'
    axes[1].set_title(f"{swap}\nof each output, as a share of its length")
    x, at = torch.linspace(-4, 2, 241, requires_grad=True), np.arange(len(UNIT_RATES))
    for name, side, line, style in (("relu", -0.2, "--", two | {"hatch": "//"}), ("gelu", 0.2, "-", one)):
        label, y = ACTIVATIONS[name].__name__, ACTIVATIONS[name]()(x)
        (slope,) = torch.autograd.grad(y.sum(), x)
        axes[2].plot(x.detach(), y.detach(), label=label, ls=line, color=style["color"])
        axes[2].plot(x.detach(), slope, label=f"slope of {label}", ls=line, color=style["color"], lw=1.0)
        shares = np.array([units[name, rate]["dead"] for rate in UNIT_RATES])  # (rates, seeds)
        axes[3].bar(at + side, shares.mean(axis=1), width=0.4, label=label, **style)
        axes[3].plot(at + side, shares, "o", color="black", ms=4, clip_on=False, zorder=5)
    axes[2].set(title="the activation and its slope\n(thin lines)", xlabel="x")
    axes[3].set_xticks(at, ["untrained", *(f"{rate:g}" for rate in UNIT_RATES[1:])])
    axes[3].set(ylim=(0, 1), xlabel="learning rate", title="share of dead units\n(bars: mean; dots: each seed)")
    for ax in axes:
        ax.legend()
    return fig


def show_norm_and_activation(lab: Lab, model: MaskedWordModel) -> None:
    lab.section("4. Normalisation and the feed-forward network")
    texts = sentences(200, lab.seed("samples"), held_out=True)
    with torch.no_grad():
        samples = torch.stack([model.embed(encode([t.words])[0])[0, t.at["subject"]] for t in texts])  # (200, d_model)
    changes = show_norms(lab, samples, model.block.norm_1)
    moved = measure_positions(model)
    largest = {name.replace("-", "_"): np.delete(m.numpy(), REPLACED).max() for name, m in moved.items()}
    others = lab.record_all("other_tokens_move", largest, rtol=0.4, atol=1e-6)
    lab.say(
        f'"{WORDS[REPLACED]}" gets the features of "{WORDS[REPLACEMENT]}". The output of another token moves by up to '
        f"{others['attention']:.2f} of its length in attention, by {others['feed_forward']:.2g} in the feed-forward network."
    )
    n_seeds, n_steps = (1, 4) if lab.fast else (3, 80)
    units, rows = measure_activations([lab.seed(f"units {i}") for i in range(n_seeds)], n_steps), []
    for (activation, rate), shares in units.items():
        when, name = (f"lr_{rate:g}", f"rate {rate:g}") if rate else ("untrained", "untrained")
        means = {share: np.mean(values) for share, values in shares.items()}
        means = lab.record_all(f"units.{activation}.{when}", means, rtol=0, atol=0.25)
        rows.append([f"{ACTIVATIONS[activation].__name__}, {name}", *means.values()])
    lab.say(
        f"Hidden units of one block trained on sines (mean share; seeds: {n_seeds}): silent, that is, never above 0, and dead, "
        "that is, with a slope of the activation below 0.01 on every token. A silent ReLU unit is dead, a silent GELU unit "
        "need not be:"
    )
    lab.table(["", "silent", "dead"], rows)
    lab.figure(draw_norm_and_activation(changes, moved, units), "04_norm_and_activation")


@torch.no_grad()
def show_norms(lab: Lab, samples: Tensor, trained: nn.LayerNorm) -> dict[str, list[float]]:
    norms = {"LayerNorm": nn.LayerNorm(D_MODEL), "BatchNorm": nn.BatchNorm1d(D_MODEL)}  # fresh, in training mode
    n = 4 if lab.fast else 40
    changes = {
        name: [change_by_others(norm, samples, size, lab.generator("batch"), n) for size in BATCHES]
        for name, norm in norms.items()
    }
    for name, values in changes.items():
        at_size = {f"batch_{b}": v for b, v in zip(BATCHES, values, strict=True)}
        lab.record_all(f"others_replaced.{name.lower()}", at_size, rtol=0.2, atol=1e-6)
    lab.say(
        "Samples: the subjects of held-out sentences. Root mean square change of a sample's normalised features (about 1 in "
        "size) when all other samples of its batch are drawn anew:"
    )
    lab.table(["batch", *norms], zip(BATCHES, *changes.values(), strict=True), digits=3)
    answers = {name: refusal(norm, samples[:1]) for name, norm in norms.items()}
    lab.record_all("batch_of_one.refused", {name.lower(): bool(answer) for name, answer in answers.items()}, rtol=0)
    lab.say("A batch of one: " + "; ".join(f"{n} {f'refuses it ({a})' if a else 'takes it'}" for n, a in answers.items()) + ".")
    right, wrong = ((layer_norm(samples, trained, unbiased=u) - trained(samples)).abs().max() for u in (False, True))
    right = lab.record("layernorm.difference", right, rtol=0, atol=1e-5)
    wrong = lab.record("layernorm.difference_unbiased", wrong, rtol=0.3)
    lab.say(f"The formula of LayerNorm against nn.LayerNorm: difference {right:.0e}; with the unbiased variance {wrong:.2g}.")
    return changes


# %% 5. Pre-norm against post-norm
# Stacks on the sine task, post and pre, with warm-up (a tenth of the steps) and cold (the full rate at once), over
# learning rates and seeds; else only the last LayerNorm differs, which pre-norm needs. So "pre-norm needs less warm-up"
# becomes something to count.

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


def draw_warmup(found: dict[tuple[str, str, float], dict[str, np.ndarray]], mean_loss: float) -> Figure:
    middle, top = RATES[1:]
    ratio = {n: f"{np.divide(*(np.median(found[n, s, middle]['loss']) for s in ('cold', 'warm'))):.1f}" for n in NORMS}
    failed = {n: np.concatenate([found[n, schedule, top]["diverged"] for schedule in SCHEDULES]) for n in NORMS}
    title = (
        f"Leaving out warm-up multiplies the loss at rate {middle:g} by {ratio['post']} (post-norm) and {ratio['pre']} "
        f"(pre-norm); at {top:g}, with or without, {failed['post'].sum()} of {len(failed['post'])} post-norm stacks fail to "
        f"learn and {failed['pre'].sum()} pre-norm stacks"
    )
    fig, axes = panels(title, (4, 4, 5), size=(15, 5.4))
    for i, (norm, schedule) in enumerate(CASES):
        words = "warm-up" if schedule == "warm" else "no warm-up"
        label, color = f"{norm}-norm, {words}", STYLES[norm]["color"]
        for ax, rate in zip(axes, RATES[1:], strict=False):
            smooth = np.array([np.convolve(c, np.ones(5) / 5, "valid") for c in found[norm, schedule, rate]["curve"]])
            band = {"low": smooth.min(axis=0), "high": smooth.max(axis=0), "ls": "-" if schedule == "warm" else "--"}
            curve(ax, np.arange(5, 5 + smooth.shape[1]), np.median(smooth, axis=0), label=label, color=color, **band)
        for j, rate in enumerate(RATES):
            losses = np.sort(found[norm, schedule, rate]["loss"])
            style = {"marker": STYLES[norm]["marker"], "mec": color, "mfc": color if schedule == "warm" else "white"}
            at = j + (i - 1.5) * 0.2 + np.linspace(-0.05, 0.05, len(losses))
            axes[2].plot(at, losses, ls="none", ms=8, mew=1.8, label=label if j == 0 else None, **style)
    for ax in axes:
        ax.axhline(mean_loss, color="black", lw=1.2, ls=":", label="predict the mean")
        ax.set(yscale="log", ylim=(0.01, 4))
        decades(ax.yaxis)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    for ax, rate in zip(axes, RATES[1:], strict=False):
        ax.set(title=f"training loss at rate {rate:g}\n(mean of 5 steps; line: median, band: all seeds)", xlabel="step")
    axes[2].set_xticks(range(len(RATES)), [f"{rate:g}" for rate in RATES])
    axes[2].set(xlabel="learning rate", title="loss on new sines after training\n(each point a seed; filled: with warm-up)")
    return fig


def show_warmup(lab: Lab) -> None:
    lab.section("5. Pre-norm against post-norm")
    seeds = [lab.seed(f"warm-up {i}") for i in range(1 if lab.fast else 3)]
    n_blocks, n_steps = (1, 11) if lab.fast else (6, 80)
    runs = lab.progress([(*case, rate, seed) for case in CASES for rate in RATES for seed in seeds], "training stacks")
    test = sines(512, lab.generator("warm-up"))
    found, mean_loss = measure_warmup(runs, test, n_blocks, n_steps), test[1].var(unbiased=False).item()
    loss, diverged = {}, {}
    for case, data in found.items():
        key = "warmup.{}.{}.lr_{:g}".format(*case)
        edge = bool(data["diverged"].any())  # there another machine's rounding may tip a seed over, either way
        loss[case] = lab.record(f"{key}.loss", np.median(data["loss"]), rtol=0.5, atol=0.5 if edge else 0.0)
        diverged[case] = lab.record(f"{key}.diverged", data["diverged"].sum(), rtol=0, atol=2 if edge else 1)
    lab.say(
        f"{n_blocks} blocks, {n_steps} steps, gradients clipped to norm 1. Median loss on new sines and, in brackets, how many "
        f"of the seeds ({len(seeds)}) failed, that is, ended above {FAILED} of the {mean_loss:.2f} that "
        "predicting the mean gives. Warm: a tenth of the "
        "steps warm up; cold: none."
    )
    cells = {case: f"{loss[case]:.3f} ({diverged[case]:.0f})" for case in found}
    rows = [[f"{norm}-norm, {schedule}", *(cells[norm, schedule, rate] for rate in RATES)] for norm, schedule in CASES]
    lab.table(["learning rate", *(f"{rate:g}" for rate in RATES)], rows)
    total = {case: sum(diverged[(*case, rate)] for rate in RATES) for case in CASES}
    ratio = {n: ", ".join(f"{loss[n, 'cold', rate] / loss[n, 'warm', rate]:.1f}" for rate in RATES) for n in NORMS}
    lab.say(
        f"'Pre-norm needs less warm-up': without it {total['post', 'cold']:.0f} post-norm and {total['pre', 'cold']:.0f} "
        f"pre-norm runs fail, with it {total['post', 'warm']:.0f} and {total['pre', 'warm']:.0f}. Leaving it out multiplies "
        f"the median loss by {ratio['post']} at these rates with post-norm, and by {ratio['pre']} with pre-norm."
    )
    lab.figure(draw_warmup(found, mean_loss), "04_pre_vs_post_norm")


# %% 6. Parameters, and PyTorch's own block
# The same weights in nn.TransformerEncoderLayer must give the same output.


def torch_block(block: TransformerBlock) -> nn.TransformerEncoderLayer:
    """nn.TransformerEncoderLayer with the weights of a GELU block."""
    attention, first, second = block.attention, block.feed_forward[0], block.feed_forward[3]
    sizes, pre = (D_MODEL, attention.n_heads, first.out_features), block.norm == "pre"
    theirs = nn.TransformerEncoderLayer(*sizes, dropout=0.0, activation="gelu", batch_first=True, norm_first=pre)
    projections = (attention.w_q, attention.w_k, attention.w_v)
    theirs.self_attn.in_proj_weight.data = torch.cat([layer.weight.data for layer in projections])
    theirs.self_attn.in_proj_bias.data = torch.cat([layer.bias.data for layer in projections])
    ours = (attention.w_o, first, second, block.norm_1, block.norm_2)
    targets = (theirs.self_attn.out_proj, theirs.linear1, theirs.linear2, theirs.norm1, theirs.norm2)
    for target, source in zip(targets, ours, strict=True):
        target.load_state_dict(source.state_dict())
    return theirs


def count_parameters(block: TransformerBlock) -> dict[str, int]:
    parts = {"attention": [block.attention], "feed_forward": [block.feed_forward], "norms": [block.norm_1, block.norm_2]}
    return {name: sum(p.numel() for m in modules for p in m.parameters()) for name, modules in parts.items()}


@torch.no_grad()
def show_parameters(lab: Lab, model: MaskedWordModel) -> None:
    lab.section("6. Parameters, and PyTorch's own block")
    counts = lab.record_all("parameters", count_parameters(model.block), rtol=0)
    total = lab.record("parameters.block", sum(counts.values()), rtol=0)
    lab.table(["part of the block", "parameters", "share"], [[name, f"{n:.0f}", n / total] for name, n in counts.items()])
    x = model.embed(encode([WORDS])[0])
    difference = (model.block(x)[0] - torch_block(model.block)(x)).abs().max()
    difference = lab.record("torch_difference", difference, rtol=0, atol=1e-4)
    lab.say(f"{total:.0f} in all. nn.TransformerEncoderLayer with the same weights differs by at most {difference:.0e}.")


# %% The lab


def heads(text: str) -> int:
    """argparse type: a number of heads that divides the model width and can be drawn."""
    if text not in ("1", "2", "4", "8"):
        raise argparse.ArgumentTypeError(f"{text!r} is not 1, 2, 4 or 8 (heads must divide the model width, {D_MODEL})")
    return int(text)


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--heads", type=heads, default=4, metavar="H", help="of the word block: 1, 2, 4 or 8; default: 4")
    parser.add_argument("--d-ff", type=whole_number(1, 1024), default=128, metavar="N", help="its inner width; default: 128")
    parser.add_argument("--norm", choices=NORMS, default="post", help="of the word block that is opened up; default: post")


def main(lab: Lab) -> None:
    models = {norm: train_model(lab, norm) for norm in NORMS}
    model = models[lab.options.norm]
    show_flow(lab, model)
    show_heads(lab, model)
    show_residuals(lab, models)
    show_norm_and_activation(lab, model)
    show_warmup(lab)
    show_parameters(lab, model)


if __name__ == "__main__":
    run(main, __file__, add_arguments)
