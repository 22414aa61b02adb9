"""Lab 4: its measurements, as orderings and bounds with room to spare, and its figures."""

import copy
import itertools
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from common import opened, stacks
from common.gpt import END, as_words, empty_cache, judge, measure_cache, next_words, shares_of_kinds
from common.jacobian import jacobian
from common.stacks import (
    N_STEPS,
    SineModel,
    gradients_by_depth,
    make_stack,
    measure_depth,
    measure_schedule,
    sines,
    train_sines,
)
from common.study import Study
from common.toy_language import (
    IDS,
    MASK,
    MAX_WORDS,
    PAD,
    VOCABULARY,
    MaskedWordModel,
    Sentence,
    encode,
    is_held_out,
    sentences,
    train_masked_words,
)
from common.training import NO_TARGET, PlainAdamW
from common.transformer import TransformerBlock, torch_block
from conftest import load, run_script
from week6.figures import transformer_block as draw

NO_STUDY = Study(0)
lab4 = load(4)


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What a student finds at the top level after the lab has run."""
    return run_script(4, tmp_path_factory.mktemp("lab 4"))


@pytest.fixture(scope="module")
def models():
    """A word model of each norm, trained for a moment: enough for everything that holds for any weights."""
    found = {}
    for norm in ("post", "pre"):
        torch.manual_seed(1)
        found[norm] = MaskedWordModel(4, lab4.D_MODEL, 37, norm)
        train_masked_words(found[norm], 30, 3)
        found[norm].requires_grad_(False)
    return found


def embedded(model):
    """The lab's sentence as it enters the block, (1, T, d_model)."""
    return model.embed(encode([lab4.WORDS])[0])


# --- 1 and 2: the flow and the heads --------------------------------------------------------------------------------


def test_the_sentence_is_one_that_training_never_sees():
    words = ["is" if word == "<mask>" else word for word in lab4.WORDS]
    assert is_held_out(Sentence(words))


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_the_flow_holds_the_seven_stages_with_their_statistics(norm, models):
    block, x = models[norm].block, embedded(models[norm])
    flow = opened.measure_flow(block, x)
    assert len(flow) == 7 == len(draw.FLOW[norm])
    torch.testing.assert_close(list(flow.values())[-1]["features"], block(x)[0][0].detach())
    for stage in flow.values():
        row = stage["features"][4].numpy()
        assert stage["mean"][4].item() == pytest.approx(row.mean(), abs=1e-5)
        assert stage["variance"][4].item() == pytest.approx(row.var(), rel=1e-3)
    assert [name for name, stage in flow.items() if "plain_variance" in stage] == ["norm 1", "norm 2"]
    stages = list(flow.values())
    for i, stage in enumerate(stages):
        if "plain_variance" in stage:  # of what enters the norm; epsilon keeps it a little below 1
            variance = stages[i - 1]["features"][4].var(unbiased=False)
            torch.testing.assert_close(stage["plain_variance"][4], variance / (variance + block.norm_1.eps))


def test_both_norms_start_from_the_same_weights_and_are_trained(names):
    post, pre = (names["untrained"][norm].state_dict() for norm in ("post", "pre"))
    assert all(torch.equal(weight, pre[name]) for name, weight in post.items())
    for norm, weights in (("post", post), ("pre", pre)):
        assert not torch.equal(names["trained"][norm].to_scores.weight, weights["to_scores.weight"])


def test_the_two_lines_of_each_norm_are_the_block(names):
    assert len(names["differences"]) == 2 and max(names["differences"]) < 1e-6
    torch.testing.assert_close(names["x"], embedded(names["model"]))


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_layer_norm_gives_variance_1_until_gamma_changes_it(norm, models):
    flow = opened.measure_flow(models[norm].block, embedded(models[norm]))
    assert all(0.97 < v <= 1.0001 for name in ("norm 1", "norm 2") for v in flow[name]["plain_variance"].tolist())
    assert all(flow[name]["variance"].sub(1).abs().max() > 0.01 for name in ("norm 1", "norm 2"))
    plain, final = (flow["norm 2"][name].mean() for name in ("plain_variance", "variance"))
    title = " ".join(draw.flow(flow, lab4.WORDS, norm).get_suptitle().split())
    assert title.endswith(f"formula gives variance {plain:.2f}; its trained gamma and beta make that {final:.2f}")


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_the_figure_names_what_each_stage_is_made_of(norm, models):
    stages = list(opened.measure_flow(models[norm].block, embedded(models[norm])).items())
    for i, (name, stage) in enumerate(stages):
        if name.startswith("add"):
            one, two = (int(n) - 1 for n in draw.FLOW[norm][i].strip(": ").split(" + "))
            torch.testing.assert_close(stage["features"], stages[one][1]["features"] + stages[two][1]["features"])
        elif i:
            assert draw.FLOW[norm][i] == f" of {i}"


def test_head_statistics_by_hand():
    test = [s for s in sentences(60, 5, held_out=True) if "agreement" in s.gaps][:7]
    uniform = MaskedWordModel(2)
    for layer in (uniform.block.attention.w_q, uniform.block.attention.w_k):
        nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
    found = opened.measure_heads(uniform, test)
    torch.testing.assert_close(found["entropy"], torch.ones(2))
    share = sum(1 / len(sentence.words) for sentence in test) / len(test)
    torch.testing.assert_close(found["subject"], torch.full((2,), share))


def test_training_makes_heads_look_at_the_subject(names):
    model, lab = copy.deepcopy(names["untrained"]["post"]).requires_grad_(True), names["lab"]
    train_masked_words(model, 250, lab.seed("words"))
    test = [s for s in sentences(800, 5, held_out=True) if s.attractor and "agreement" in s.gaps]
    before, after = opened.measure_heads(names["untrained"]["post"], test), opened.measure_heads(model, test)
    assert after["accuracy"] > 0.9
    assert before["entropy"].min() > 0.98 and after["entropy"].mean() < 0.95
    assert after["subject"].max() > 1.5 * before["subject"].max()
    weights = names["weights"]
    assert weights["untrained"].shape == (4, len(lab4.WORDS), len(lab4.WORDS))
    assert weights["untrained"].std() < 0.1 * weights["untrained"].mean()


@pytest.mark.parametrize(("n_heads", "n_panels"), [(1, 2), (2, 4), (8, 16)])
def test_any_number_of_heads_is_drawn(n_heads, n_panels):
    n = len(lab4.WORDS)
    weights = {"untrained": torch.full((n_heads, n, n), 1 / n), "trained": torch.rand(n_heads, n, n)}
    seen = {"untrained": {"subject": torch.full((n_heads,), 0.11)}, "trained": {"subject": torch.linspace(0, 0.4, n_heads)}}
    fig = draw.heads(seen, weights, lab4.WORDS, lab4.HIDDEN, NO_STUDY)
    assert len(fig.axes) == n_panels + 1  # and a colour bar
    limits = {ax.images[0].norm.vmax for ax in fig.axes[:-1]}
    assert limits == {weights["trained"].max().item()}  # both rows on one scale that shows them
    assert "of 0.11" in " ".join(fig.get_suptitle().split())


# --- 3: residuals ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def depth():
    return measure_depth(11, lab4.DEPTHS, lab4.D_MODEL)


@pytest.fixture(scope="module")
def depth_xavier():
    return measure_depth(11, lab4.DEPTHS, lab4.D_MODEL, "xavier")


def test_without_norm_and_residual_the_gradient_vanishes_from_either_start(depth, depth_xavier):
    default, xavier = (found["none", "plain"]["gradient"] for found in (depth, depth_xavier))
    assert default[8] < 1e-8 and 0 < default[48] < 1e-50
    assert 1e-16 < xavier[24] < 1e-7  # less far
    assert min(depth["none", "residual"]["gradient"].values()) > 0.5
    assert depth_xavier["none", "residual"]["gradient"][24] > 1e4  # and here residuals without a norm let it grow


def test_xaviers_start_is_that_of_nn_transformer():
    stack = stacks.xavier(make_stack(1, "post", 64))
    weight, bias = stack[0].feed_forward[0].weight, stack[0].feed_forward[0].bias
    assert weight.var().item() == pytest.approx(2 / (64 + 256), rel=0.05) and bias.abs().max() > 0


def test_normalisation_alone_keeps_the_gradient_alive_and_residuals_keep_it_near_1(depth):
    for norm in ("post", "pre"):
        plain, residual = (list(depth[norm, kind]["gradient"].values()) for kind in ("plain", "residual"))
        assert min(plain) > 1e-7 and 0.1 < min(residual) <= max(residual) < 10
        assert plain[-1] < 0.3 * residual[-1]


def test_with_xaviers_start_a_post_norm_stack_keeps_much_of_its_gradient_without_residuals(depth_xavier):
    with_them, without = (depth_xavier["post", kind]["gradient"][24] for kind in ("residual", "plain"))
    assert without > 0.01 and 0.1 < with_them < 20


def test_without_residuals_the_tokens_become_one_from_either_start(depth, depth_xavier):
    for found, norm in itertools.product((depth, depth_xavier), ("none", "post", "pre")):
        plain, residual = (found[norm, kind]["similarity"] for kind in ("plain", "residual"))
        assert len(plain) == 49 and abs(plain[0]) < 0.15 and min(plain[4:]) > 0.99
        assert residual[1] < 0.2 < plain[1]
    for norm in ("none", "post", "pre"):
        residual = depth[norm, "residual"]["similarity"]
        assert residual[12] < 0.8 and residual[4] < 0.4 and residual[48] > residual[12]  # residuals delay it
    assert depth_xavier["post", "residual"]["similarity"][12] > 0.95  # but not for long from this start


def test_gradient_by_hand():
    """Each block doubles: after n of them the gradient is 2^n, whatever enters at the top."""

    class Double(nn.Module):
        def forward(self, x):
            return 2 * x, None

    depths = (1, 2, 5, 7)
    found = stacks.measure_stack([Double() for _ in range(7)], torch.randn(2, 3, 5), torch.randn(2, 3, 5), depths)
    assert found["gradient"] == pytest.approx({n: 2.0**n for n in depths})
    assert found["similarity"] == pytest.approx([found["similarity"][0]] * 8)


def test_all_depths_at_once_are_one_backward_pass_for_each_depth():
    blocks, (x, top) = make_stack(5, "pre", 6), torch.randn(2, 2, 3, 6)
    gradients, levels = gradients_by_depth(blocks, x, top, (1, 2, 5))
    assert len(levels) == 6 and torch.equal(levels[0], x)
    y = x.clone().requires_grad_()
    start = y
    for n, block in enumerate(blocks, 1):
        y, _ = block(y)
        torch.testing.assert_close(levels[n], y.detach())
        if n in (1, 2, 5):
            (expected,) = torch.autograd.grad(y, start, grad_outputs=top, retain_graph=True)
            torch.testing.assert_close(gradients[(1, 2, 5).index(n)], expected)


def test_the_open_backward_pass_measures_what_the_table_says(names):
    found = measure_depth(names["lab"].seed("stack"), lab4.DEPTHS, lab4.D_MODEL)
    for residual, kind in ((True, "residual"), (False, "plain")):
        assert names["left"][residual] == pytest.approx(found["none", kind]["gradient"][24], rel=1e-9)


def test_similarity_by_hand():
    x = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]]])  # cosines 0, 1 / sqrt 2, 1 / sqrt 2
    assert stacks.similarity(x) == pytest.approx(math.sqrt(2) / 3)
    assert stacks.similarity(torch.ones(2, 5, 3)) == pytest.approx(1)


def test_a_stack_without_norm_has_none_and_the_same_weights():
    made = {}
    for norm in ("none", "post", "pre"):
        torch.manual_seed(5)
        made[norm] = make_stack(2, norm, lab4.D_MODEL, residual=False)
    x, block = torch.randn(1, 3, lab4.D_MODEL), made["none"][0]
    torch.testing.assert_close(block(x)[0], block.feed_forward(block.attention(x)[0]))
    for name, weight in made["none"].named_parameters():
        assert all((weight == dict(made[norm].named_parameters())[name]).all() for norm in ("post", "pre"))


def test_the_residual_figure_states_what_was_measured():
    left = {("none", "plain"): 2e-31, ("pre", "plain"): 0.007}
    cases = itertools.product(("none", "post", "pre"), ("residual", "plain"))
    found = {case: {"gradient": dict.fromkeys(lab4.DEPTHS, left.get(case, 3.0)), "similarity": [0.5] * 49} for case in cases}
    singular = {"x + F(x)": torch.tensor([0.1, 0.5, 1.5, 2.0]), "F(x) alone": torch.tensor([0.0, 0.1, 1.0, 2.0])}
    fig = draw.residuals({"default": found, "xavier": found}, singular, lab4.DEPTHS, 24, NO_STUDY)
    title = " ".join(fig.get_suptitle().split())
    assert "24 blocks leave 2e-31 of the gradient without norm and residuals, with one of the two at least 0.007" in title
    assert "0.50 of the directions shrink" in fig.axes[2].get_title(loc="left")
    assert [text.get_text() for text in fig.axes[2].texts] == ["left of 0.50\nthey shrink"]
    notes = [text.get_text() for text in fig.axes[0].texts]
    assert notes == ["2e-31 at\n48 blocks"] * 2  # from either start: what lies below the axis is told


def test_the_derivative_of_a_residual_block_is_not_at_least_1(models, names):
    x = embedded(models["pre"])
    block, alone = (
        torch.linalg.svdvals(jacobian(function, x))
        for function in (lambda x: models["pre"].block(x)[0], lambda x: models["pre"].block(x)[0] - x)
    )
    assert block.min() < 0.5 and block.median() > alone.median()
    assert alone.max() - 1 - 1e-6 < block.max() < alone.max() + 1 + 1e-6  # |s(I + J) - s(J)| <= 1 (Weyl)
    whole, branches = names["whole"], names["alone"]
    assert torch.equal(whole, whole.sort().values) and 0 < whole[0] < 1 and whole.median() > branches.median()


# --- 4: norms, activations, positions -------------------------------------------------------------------------------


def test_layer_norm_ignores_the_other_sentences_and_batch_norm_does_not():
    texts, change = [torch.randn(n, lab4.D_MODEL) + torch.randn(lab4.D_MODEL) for n in (5, 7, 11) * 40], {}
    for norm in (nn.LayerNorm(lab4.D_MODEL), nn.BatchNorm1d(lab4.D_MODEL)):
        generators = [torch.Generator().manual_seed(0) for _ in range(2)]
        change[type(norm)] = [opened.change_by_others(norm, texts, b, g, 20) for b, g in zip((4, 32), generators, strict=True)]
    assert max(change[nn.LayerNorm]) < 1e-9
    assert 1.5 > change[nn.BatchNorm1d][0] > 1.5 * change[nn.BatchNorm1d][1] > 0.1


def test_batch_norm_takes_mean_and_variance_over_all_tokens_of_all_sentences():
    seen = []

    class Spy(nn.Module):
        def forward(self, x):
            seen.append(x)
            return x

    texts = [torch.full((n, 3), float(n)) for n in (2, 3, 5, 7)]
    assert opened.change_by_others(Spy(), texts, 4, torch.Generator().manual_seed(0), 1) == 0
    for batch in seen:
        assert batch[:2].eq(2).all() and len(batch) == 2 + sum(batch[i, 0].item() for i in others_begin(batch))


def others_begin(batch):
    """Where each of the other sentences begins: its tokens all hold its length."""
    at = 2
    while at < len(batch):
        yield at
        at += int(batch[at, 0].item())


def test_only_batch_norm_refuses_a_single_token(names):
    for norm, refuses in ((nn.LayerNorm(5), False), (nn.BatchNorm1d(5), True)):
        assert opened.refuses(norm, torch.randn(1, 5)) is refuses and not opened.refuses(norm, torch.randn(2, 5))
    assert names["refused"] == {"LayerNorm": False, "BatchNorm": True}


def test_the_formula_is_that_of_nn_layer_norm(names):
    torch.testing.assert_close(names["by_formula"], names["model"].block.norm_1(names["token"]))


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_a_feed_forward_network_moves_the_replaced_token_alone(norm, models):
    block, x, (replaced, replacement) = models[norm].block, embedded(models[norm]), (1, 4)
    layers = {"attention": lambda x: block.attention(x)[0], "feed-forward": block.feed_forward}
    moved = {name: opened.moved_by_one(layer, x, replaced, replacement) for name, layer in layers.items()}
    others = [i for i in range(len(lab4.WORDS)) if i != replaced]
    assert moved["feed-forward"][others].max() < 1e-9 < 0.01 < moved["feed-forward"][replaced]
    assert moved["attention"][others].min() > 1e-4
    old, new = block.feed_forward(x[0, replaced]), block.feed_forward(x[0, replacement])
    torch.testing.assert_close(moved["feed-forward"][replaced], (new - old).norm() / old.norm())


def test_the_formula_of_the_feed_forward_network_is_the_layer(names):
    torch.testing.assert_close(names["feed_forward"](names["x"]), names["model"].block.feed_forward(names["x"]))


def test_dead_and_silent_units_by_hand():
    def shares(activation, bias):
        model = SineModel(1, "post", activation)
        first = model.blocks[0].feed_forward[0]
        nn.init.zeros_(first.weight)
        first.bias.data = torch.tensor(bias).repeat(16)
        return stacks.measure_units(model, torch.randn(3, N_STEPS, 1))

    assert shares("relu", [1.0, -1.0, -0.1, -9.0]) == {"silent": 0.75, "dead": 0.75}
    assert shares("gelu", [1.0, -1.0, -0.1, -9.0]) == {"silent": 0.75, "dead": 0.25}  # only at -9 has GELU no slope


def test_training_leaves_relu_units_dead_and_keeps_gelu_units_alive_at_no_cost():
    test, kinds = sines(256, torch.Generator().manual_seed(5)), ("relu", "gelu")
    relu, gelu = ([stacks.measure_activation(kind, 0.01, seed, 80, test) for seed in (3, 4, 5)] for kind in kinds)
    mean = {
        (kind, part): np.mean([run[part] for run in runs])
        for kind, runs in zip(kinds, (relu, gelu), strict=True)
        for part in runs[0]
    }
    assert mean["relu", "dead"] > 0.1 + max(mean["relu", "untrained"], mean["gelu", "dead"])
    assert mean["gelu", "dead"] < 0.05 < mean["gelu", "silent"]
    assert all(run["dead"] == run["silent"] for run in relu)
    assert 0.5 < mean["relu", "loss"] / mean["gelu", "loss"] < 2 and mean["relu", "loss"] < 0.1


# --- 5: warm-up -----------------------------------------------------------------------------------------------------


def test_the_sines_are_sines():
    x, y = sines(50, torch.Generator().manual_seed(0))
    assert x.shape == (50, N_STEPS, 1) and y.shape == (50,)
    whole = torch.cat([x[..., 0], y[:, None]], dim=1).double()
    ratio = (whole[:, 2:] + whole[:, :-2]) / whole[:, 1:-1]  # y(t+1) + y(t-1) = 2 cos(f) y(t)
    near_zero = whole[:, 1:-1].abs() < 0.05
    spread = (ratio - ratio.median(dim=1, keepdim=True).values).masked_fill(near_zero, 0.0).abs().max()
    assert spread < 1e-3


def test_a_pre_norm_stack_ends_with_a_norm_and_a_post_norm_stack_does_not():
    assert isinstance(SineModel(1, "pre").last_norm, nn.LayerNorm)
    assert isinstance(SineModel(1, "post").last_norm, nn.Identity)


def test_all_stacks_get_the_same_weights_and_sines(monkeypatch):
    seen = []

    def spy(model, seed, n_steps, *, lr, warmup):
        seen.append((seed, n_steps, lr, model.embedding.weight.sum().item(), model.blocks[1].attention.w_q.weight.sum().item()))
        return [1.0] * n_steps

    monkeypatch.setattr(stacks, "train_sines", spy)
    test = sines(8, torch.Generator().manual_seed(0))
    for norm, warmup in itertools.product(("post", "pre"), (0.1, 0.0)):
        measure_schedule(norm, 0.01, warmup, 5, test, 2, 3)
    assert len(seen) == 4 and len(set(seen)) == 1


def test_the_warm_up_figure_says_which_norm_fails():
    runs = {}
    for norm, schedule, rate in itertools.product(("post", "pre"), lab4.SCHEDULES, lab4.RATES):
        failed = norm == "post" and rate == lab4.RATES[-1]
        runs[norm, schedule, rate] = {"loss": 0.5 if failed else 0.05, "diverged": failed, "curve": np.ones(9)}
    fig = draw.warmup(runs, 0.5, NO_STUDY)
    (legend,) = fig.legends
    lines = {text.get_text(): line.get_linestyle() for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True)}
    assert lines["pre-norm, with warm-up"] == "-" and lines["pre-norm, without warm-up"] == "--" and len(lines) == 5
    title = " ".join(fig.get_suptitle().split())
    assert title == "At rate 0.03 post-norm fails in 1 of 1 starts even with warm-up, pre-norm in 0 even without"


def test_warm_up_is_the_only_difference_between_the_schedules(monkeypatch):
    """The learning rates that `train` sets: 0 starts at the full rate, the default climbs for a tenth of the steps."""
    seen, betas = {}, set()
    for warmup in (0.0, 0.1):
        rates = seen[warmup] = []
        step = PlainAdamW.step

        def spy(self, *args, step=step, rates=rates, **options):
            rates.append(self.param_groups[0]["lr"])
            betas.add(self.param_groups[0]["betas"])
            return step(self, *args, **options)

        monkeypatch.setattr(PlainAdamW, "step", spy)
        train_sines(SineModel(1, "post"), 3, 50, lr=0.2, warmup=warmup)
        monkeypatch.undo()
    assert betas == {(0.9, 0.999)}
    assert seen[0.0][0] == pytest.approx(0.2, rel=1e-2) and seen[0.0] == sorted(seen[0.0], reverse=True)
    assert seen[0.1][0] == pytest.approx(0.2 / 25) and np.argmax(seen[0.1]) == 4 and max(seen[0.1]) == pytest.approx(0.2)
    assert seen[0.0][-1] < 1e-3 and seen[0.1][-1] < 1e-3


def test_post_norm_needs_warm_up_where_pre_norm_does_not():
    test = sines(256, torch.Generator().manual_seed(0))

    def loss(norm, warmup):
        return np.mean([measure_schedule(norm, 0.012, warmup, seed, test, 6, 60)["loss"] for seed in (21, 22, 23)])

    assert loss("post", 0.0) > 2 * max(loss("post", 0.1), loss("pre", 0.0))
    assert measure_schedule("post", 0.03, 0.1, 21, test, 6, 60)["diverged"]
    found = measure_schedule("pre", 0.03, 0.0, 21, test, 6, 60)
    assert not found["diverged"] and len(found["curve"]) == 60


@pytest.mark.parametrize(
    ("answer", "diverged"),
    [
        (lambda y: torch.full_like(y, math.nan), True),
        (lambda y: torch.full_like(y, 1e30), True),  # its square is infinite
        (lambda y: y.mean().expand_as(y), True),
        (lambda y: y + 0.5 * y.std(), False),  # a quarter of the loss of the mean
        (lambda y: y.mean() + 0.1 * (y - y.mean()), False),  # 0.81 of it
        (lambda y: y.mean() + 0.03 * (y - y.mean()), True),  # 0.94 of it
    ],
)
def test_divergence_is_counted_and_the_losses_stay_finite(answer, diverged, monkeypatch):
    test = sines(64, torch.Generator().manual_seed(0))
    monkeypatch.setattr(stacks, "train_sines", lambda *_, **__: [1.0, math.nan])
    monkeypatch.setattr(SineModel, "forward", lambda self, x: answer(test[1]))
    found = measure_schedule("pre", 0.1, 0.1, 0, test, 1, 2)
    assert found["diverged"] is diverged and math.isfinite(found["loss"])


# --- 1 again: parameters, and PyTorch's block -------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_torchs_block_with_our_weights_gives_our_output(norm, models):
    block, x = models[norm].block, torch.randn(3, 7, lab4.D_MODEL)
    torch.testing.assert_close(torch_block(block)(x), block(x)[0], rtol=1e-4, atol=1e-5)


def test_parameters_are_counted_by_part():
    block = TransformerBlock(lab4.D_MODEL, 2, 17)
    counts, d = opened.count_parameters(block), lab4.D_MODEL
    assert counts == {"attention": 4 * (d * d + d), "feed_forward": 2 * d * 17 + 17 + d, "norms": 4 * d}
    assert sum(counts.values()) == sum(p.numel() for p in block.parameters())


# --- 6: the block writes ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def writer():
    torch.manual_seed(2)
    return lab4.TinyGPT().requires_grad_(False)


def test_no_word_sees_a_later_one(writer):
    tokens = torch.randint(2, len(VOCABULARY), (3, 11))
    changed = tokens.clone()
    changed[:, 7:] = torch.randint(2, len(VOCABULARY), (3, 4))
    before, after = writer(tokens), writer(changed)
    assert torch.equal(before[:, :7], after[:, :7]) and not torch.allclose(before[:, 7:], after[:, 7:])


def test_every_word_is_asked_for_what_follows_it():
    inputs, targets = next_words([["the", "cat", "sat"], ["the"]])
    the, cat, sat = (IDS[word] for word in ("the", "cat", "sat"))
    assert inputs.tolist() == [[END, the, cat, sat], [END, the, END, END]]
    assert targets.tolist() == [[the, cat, sat, END], [the, END, NO_TARGET, NO_TARGET]]
    assert as_words(inputs) == [["the", "cat", "sat"], ["the"]]


class Parrot(nn.Module):
    """Knows two words to follow any other, "cat" with a share of 0.8 and "dog" with 0.2, and ends after the fourth."""

    def forward(self, tokens):
        scores = torch.full((*tokens.shape, len(VOCABULARY)), -torch.inf)
        scores[..., IDS["cat"]], scores[..., IDS["dog"]] = math.log(0.8), math.log(0.2)
        if tokens.shape[1] > 4:
            scores[:, -1] = torch.full((len(VOCABULARY),), -torch.inf).index_fill(0, torch.tensor(END), 0.0)
        return scores


def test_words_are_drawn_with_their_shares_and_temperature_sharpens_them():
    def share_of_dogs(temperature):
        written = lab4.write(Parrot(), ["the"], 4000, temperature, torch.Generator().manual_seed(3))
        assert {len(words) for words in written} == {4} and {words[0] for words in written} == {"the"}
        return np.mean([words[1:].count("dog") / 3 for words in written])

    for temperature in (0.5, 1.0, 2.0):
        cat, dog = 0.8 ** (1 / temperature), 0.2 ** (1 / temperature)
        assert share_of_dogs(temperature) == pytest.approx(dog / (cat + dog), abs=0.02)
    assert share_of_dogs(0.01) == 0


def test_a_writer_that_never_ends_is_stopped(writer):
    (words,) = lab4.write(
        lambda tokens: writer(tokens).index_fill(-1, torch.tensor(END), -torch.inf), [], 1, 1.0, torch.Generator()
    )
    assert len(words) == MAX_WORDS - 1


def test_judging_by_hand():
    held_out, lesson = (sentences(3, 1, held_out=kind) for kind in (True, False))
    new, known = [s.words for s in held_out], [s.words for s in lesson]
    wrong = [["the", "cats", "is", "old"]] * 2
    found = judge(new + known + wrong, {" ".join(words) for words in known})
    assert found == {"grammatical": 6 / 8, "different": 7 / 8, "new": 0.5, "held_out": 0.5}
    assert judge(wrong, set()) == {"grammatical": 0, "different": 0.5, "new": 0, "held_out": 0}


def test_every_word_has_one_kind():
    shares = torch.eye(len(VOCABULARY))
    kinds = torch.stack(list(shares_of_kinds(shares).values()))  # (kinds, vocabulary)
    assert kinds.sum(dim=0).tolist() == [0.0 if word == MASK else 1.0 for word in VOCABULARY]
    assert shares_of_kinds(shares[IDS["sits"]])["singular verb"] == 1 == shares_of_kinds(shares[IDS[PAD]])["end"]


def test_the_cache_changes_no_score(writer):
    tokens, cache = torch.randint(2, len(VOCABULARY), (3, 13)), empty_cache(writer, 3)
    for t, word in enumerate(tokens.T):
        scores, cache = lab4.next_scores(writer, word, cache)
        torch.testing.assert_close(scores, writer(tokens[:, : t + 1])[:, -1], rtol=0, atol=1e-12)
    assert [part.shape for pair in cache for part in pair] == [(3, 4, 13, 8)] * 4


def test_the_cache_is_measured_at_each_length(writer):
    found = measure_cache(writer, lab4.next_scores, empty_cache(writer), torch.full((1, 9), IDS["the"]), (5, 9))
    assert {n: times["bytes"] for n, times in found.items()} == {n: 2 * 2 * n * lab4.D_MODEL * 8 for n in (5, 9)}
    assert all(times["with"] > 0 and times["without"] > 0 for times in found.values())


def test_a_writer_learns_the_language():
    """The lab's loop, shortened, on a training set of its own."""
    lesson = [s.words for s in sentences(32 * 250, 8, held_out=False)]
    torch.manual_seed(2)
    gpt, (inputs, targets) = lab4.TinyGPT(), (x.split(32) for x in next_words(lesson))
    shares = {}
    for n_steps in (0, 250):
        if n_steps:
            lab4.train(
                gpt,
                lambda i: lab4.F.cross_entropy(gpt(inputs[i]).flatten(0, 1), targets[i].flatten(), ignore_index=NO_TARGET),
                n_steps,
                lr=1e-2,
                label="",
            )
        with torch.no_grad():
            written = {t: lab4.write(gpt, [], 100, t, torch.Generator().manual_seed(0)) for t in (0.5, 2.0)}
        shares[n_steps] = {t: judge(texts, set(map(" ".join, lesson))) for t, texts in written.items()}
    assert shares[0][0.5]["grammatical"] == 0
    cool, hot = shares[250][0.5], shares[250][2.0]
    assert cool["grammatical"] > 0.8 and hot["grammatical"] < 0.6
    assert cool["new"] > 0.3 and 0.05 < cool["held_out"] < 0.4  # not a list learned by heart


def test_the_generation_figure_states_what_was_measured():
    judged = {t: {"grammatical": g, "different": 0.9} for t, g in zip(lab4.TEMPERATURES, (1.0, 0.98, 0.8, 0.2), strict=True)}
    kinds = {"adjective": torch.tensor([0.1, 0.9, 0.5]), "end": torch.tensor([0.9, 0.1, 0.5])}
    fig = draw.generation(["the", "cat"], kinds, judged, NO_STUDY)
    title = " ".join(fig.get_suptitle().split())
    assert title == "Two blocks write: 98 % of the sentences are grammatical at temperature 0.5, 20 % at 2"
    assert [text.get_text() for text in fig.axes[0].texts] == ["0.10", "0.90", "0.50", "0.90", "0.10", "0.50"]


# --- the run ----------------------------------------------------------------------------------------------------------


def test_required_records_and_the_printed_findings(fast_runs):
    run = fast_runs["04", "ascii"]
    results = json.loads((run.out / "04_results.json").read_text())["results"]
    cases = itertools.product(("none", "post", "pre"), ("residual", "plain"))
    depths = [f"gradient.{n}.{k}.depth_{d}" for n, k in cases for d in lab4.DEPTHS]
    warmup = [f"warmup.{n}.{s}.lr_{r:g}.{v}" for n, s in lab4.CASES for r in lab4.RATES for v in ("loss", "diverged")]
    ranks = ["rank.residual.similarity", "rank.plain.similarity", "jacobian.min_singular_value"]
    writing = [*(f"generation.grammatical.{t:g}" for t in lab4.TEMPERATURES), "generation.new", "cache.max_difference"]
    assert set(results) >= {*depths, *warmup, *ranks, *writing}
    printed = " ".join(run.process.stdout.decode("ascii").split())
    assert f"By {results['jacobian.min_singular_value']['value']:.2g} to" in printed
    assert results["others_replaced.batchnorm.batch_8"]["value"] > 0.05
    assert results["batch_of_one.refused.batchnorm"]["value"] == 1
    assert results["cache.max_difference"]["value"] < 1e-12
    assert f"{results['rank.plain.similarity']['value']:.3f} without" in printed


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--heads", "3"], "'3' must divide the width 32 and be at most 8; allowed: 1, 2, 4, 8"),
        (["--heads", "viele"], "'viele' must divide"),
        (["--heads", "16"], "allowed: 1, 2, 4, 8"),
        (["--heads", "-4"], "'-4' must divide"),
        (["--prompt", "the cow which"], "unknown word 'cow'; known words: "),
        (["--prompt", "the " * 13], "13 words, not 2 to 12"),
        (["--d-ff", "0"], "from 1 to 1024"),
        (["--norm", "none"], "post"),
    ],
)
def test_a_wrong_flag_is_one_line_and_nothing_is_written(flags, says, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        run_script(4, tmp_path / "out", *flags)
    out, error = capsys.readouterr()
    assert stop.value.code == 2 and error.count("\n") == 1 and says in error and error.isascii()
    assert out == "" and not (tmp_path / "out").exists()


def test_the_flags_shape_the_block_that_is_opened_up(tmp_path):
    model = run_script(4, tmp_path, "--heads", "8", "--d-ff", "5", "--norm", "pre", "--prompt", "These mice")["model"]
    assert (model.block.norm, model.block.attention.n_heads, model.block.feed_forward[0].out_features) == ("pre", 8, 5)
    assert len(list(tmp_path.glob("04_*.png"))) == 6
