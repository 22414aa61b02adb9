"""Lab 4: its measurements, as orderings and bounds with room to spare, and its figures."""

import copy
import itertools
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from common.stacks import N_STEPS, SineModel, gradients_by_depth, make_stack, sines, train_sines
from common.toy_language import MaskedWordModel, Sentence, encode, is_held_out, sentences, train_masked_words
from common.training import PlainAdamW
from common.transformer import TransformerBlock, torch_block
from conftest import load, run_script
from week6.figures.transformer_block import FLOW, draw_heads, draw_residuals, draw_warmup

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
    flow = lab4.measure_flow(block, x)
    assert len(flow) == 7 == len(FLOW[norm])
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
    flow = lab4.measure_flow(models[norm].block, embedded(models[norm]))
    assert all(0.97 < v <= 1.0001 for name in ("norm 1", "norm 2") for v in flow[name]["plain_variance"].tolist())
    assert all(flow[name]["variance"].sub(1).abs().max() > 0.01 for name in ("norm 1", "norm 2"))


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_the_figure_names_what_each_stage_is_made_of(norm, models):
    stages = list(lab4.measure_flow(models[norm].block, embedded(models[norm])).items())
    for i, (name, stage) in enumerate(stages):
        if name.startswith("add"):
            one, two = (int(n) - 1 for n in FLOW[norm][i].strip(": ").split(" + "))
            torch.testing.assert_close(stage["features"], stages[one][1]["features"] + stages[two][1]["features"])
        elif i:
            assert FLOW[norm][i] == f" of {i}"


def test_head_statistics_by_hand():
    test = [s for s in sentences(60, 5, held_out=True) if "agreement" in s.gaps][:7]
    uniform = MaskedWordModel(2)
    for layer in (uniform.block.attention.w_q, uniform.block.attention.w_k):
        nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
    found = lab4.measure_heads(uniform, test)
    torch.testing.assert_close(found["entropy"], torch.ones(2))
    share = sum(1 / len(sentence.words) for sentence in test) / len(test)
    torch.testing.assert_close(found["subject"], torch.full((2,), share))
    assert found["weights"].shape == (2, len(lab4.WORDS), len(lab4.WORDS))


def test_training_makes_heads_look_at_the_subject(names):
    model, lab = copy.deepcopy(names["untrained"]["post"]).requires_grad_(True), names["lab"]
    train_masked_words(model, 250, lab.seed("words"))
    test = [s for s in sentences(800, 5, held_out=True) if s.attractor and "agreement" in s.gaps]
    before, after = lab4.measure_heads(names["untrained"]["post"], test), lab4.measure_heads(model, test)
    assert after["accuracy"] > 0.9
    assert before["entropy"].min() > 0.98 and after["entropy"].mean() < 0.95
    assert after["subject"].max() > 1.5 * before["subject"].max()
    assert before["weights"].std() < 0.2 * after["weights"].std()


@pytest.mark.parametrize(("n_heads", "n_panels"), [(1, 2), (2, 4), (8, 16)])
def test_any_number_of_heads_is_drawn(n_heads, n_panels):
    torch.manual_seed(0)
    test = [s for s in sentences(40, 5, held_out=True) if "agreement" in s.gaps]
    found = lab4.measure_heads(MaskedWordModel(n_heads), test)
    fig = draw_heads(found, found, lab4.WORDS, lab4.HIDDEN, len(test))
    assert len(fig.axes) == n_panels + 1  # and a colour bar


# --- 3: residuals ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def depth():
    return lab4.measure_depth([11])


def at(n):
    return lab4.DEPTHS.index(n)


def test_without_norm_and_residual_the_gradient_vanishes_and_at_last_underflows(depth):
    plain, double = depth["none", "plain"], depth["none", "float64"]
    assert plain["gradient"][0, at(8)] < 1e-8 and plain["gradient"][0, at(48)] == 0
    assert 0 < double["gradient"][0, at(48)] < 1e-50
    assert depth["none", "residual"]["gradient"].min() > 0.5


def test_at_24_blocks_only_the_float32_norm_is_zero_not_the_gradient(depth):
    plain = depth["none", "plain"]
    assert plain["naive"][0, at(24)] == 0 < plain["gradient"][0, at(24)] < 1e-25
    assert plain["gradient"][0, at(24)] == pytest.approx(depth["none", "float64"]["gradient"][0, at(24)], rel=1e-2)


def test_normalisation_alone_keeps_the_gradient_alive_and_residuals_keep_it_near_1(depth):
    for norm in ("post", "pre"):
        assert depth[norm, "plain"]["gradient"].min() > 1e-7
        assert depth[norm, "residual"]["gradient"].min() > 0.1 and depth[norm, "residual"]["gradient"].max() < 10
        assert depth[norm, "plain"]["gradient"][0, -1] < 0.3 * depth[norm, "residual"]["gradient"][0, -1]


def test_without_residuals_the_tokens_become_one(depth):
    for norm in ("none", "post", "pre"):
        plain, residual = (depth[norm, kind]["similarity"][0] for kind in ("plain", "residual"))
        assert plain.shape == (49,) and abs(plain[0]) < 0.15
        assert plain[4:].min() > 0.99 and residual[12] < 0.8 and residual[4] < 0.4
        assert residual[48] > residual[12]  # residuals delay it


def test_gradient_by_hand():
    """Each block doubles: after n of them the gradient is 2^n, whatever enters at the top."""

    class Double(nn.Module):
        def forward(self, x):
            return 2 * x, None

    blocks = [Double() for _ in range(lab4.TOP)]
    found = lab4.measure_stack(blocks, torch.randn(2, 3, 5), torch.randn(2, 3, 5))
    np.testing.assert_allclose(found["gradient"], [2.0**n for n in lab4.DEPTHS], rtol=1e-5)
    assert found["similarity"] == pytest.approx([found["similarity"][0]] * (lab4.TOP + 1), abs=1e-5)


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
    seed = names["lab"].seed("stack 0")
    found = lab4.measure_depth([seed])
    for residual, kind in ((True, "residual"), (False, "plain")):
        assert names["left"][residual] == pytest.approx(found["none", kind]["gradient"][0, at(24)], rel=1e-4)


def test_similarity_by_hand():
    x = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]]])  # cosines 0, 1 / sqrt 2, 1 / sqrt 2
    assert lab4.similarity(x) == pytest.approx(math.sqrt(2) / 3)
    assert lab4.similarity(torch.ones(2, 5, 3)) == pytest.approx(1)


def test_a_stack_without_norm_has_none_and_the_same_weights():
    made = {}
    for norm in ("none", "post", "pre"):
        torch.manual_seed(5)
        made[norm] = make_stack(2, norm, lab4.D_MODEL, residual=False)
    x, block = torch.randn(1, 3, lab4.D_MODEL), made["none"][0]
    torch.testing.assert_close(block(x)[0], block.feed_forward(block.attention(x)[0]))
    for name, weight in made["none"].named_parameters():
        assert all((weight == dict(made[norm].named_parameters())[name]).all() for norm in ("post", "pre"))


def test_the_singular_values_belong_to_the_parts_they_name(models):
    sentence = sentences(1, 7, held_out=True)
    found = lab4.measure_jacobian(models, sentence)
    pre, tokens = models["pre"], encode([sentence[0].words])[0]
    block, eye = copy.deepcopy(pre.block).double(), torch.eye(lab4.D_MODEL, dtype=torch.float64)
    x = pre.embed(tokens).double().detach()
    h = block.stages(x)["add 1"].detach()
    feed_forward = torch.autograd.functional.jacobian(lambda token: block.feed_forward(block.norm_2(token)), h[0, 3])
    alone = torch.linalg.svdvals(feed_forward + eye)  # the FFN acts on each token alone, so its Jacobian is block-diagonal
    assert all((found["h + FFN(LN(h))"][0] - value).abs().min() < 1e-6 for value in alone)
    attention = torch.autograd.functional.jacobian(lambda x: block.attention(block.norm_1(x))[0], x).reshape(x.numel(), -1)
    torch.testing.assert_close(
        found["x + Attention(LN(x))"][0], torch.linalg.svdvals(attention + torch.eye(x.numel(), dtype=x.dtype))
    )


def test_the_residual_figure_states_what_was_measured():
    seeds, n = 3, len(lab4.DEPTHS)
    found = {}
    for norm, kind in (*lab4.STACKS, ("none", "float64")):
        left = 2e-31 if (norm, kind) == ("none", "plain") else 3.0
        alike = 0.97 if kind == "plain" else 0.25
        found[norm, kind] = {"gradient": np.full((seeds, n), left), "similarity": np.full((seeds, lab4.TOP + 1), alike)}
    values = torch.tensor([2.0, 1.5, 0.5, 0.1])
    singular_values = {lab4.BLOCK: [values, values], lab4.BRANCHES: [values]}
    fig = draw_residuals(found, singular_values, lab4.DEPTHS, at=24)
    title = " ".join(fig.get_suptitle().split())
    assert "24 blocks leave 2e-31 of the gradient" in title
    assert "make the tokens alike (cosine 0.97)" in title and "0.50 of the directions shrink" in title


def test_the_derivative_of_a_residual_block_is_not_at_least_1(models):
    found = lab4.measure_jacobian(models, sentences(2, 7, held_out=True))
    for block, branches in zip(found[lab4.BLOCK], found[lab4.BRANCHES], strict=True):
        assert block.dtype == torch.float64 and block.min() < 0.5
        assert block.median() > branches.median()
        assert branches.max() - 1 - 1e-6 < block.max() < branches.max() + 1 + 1e-6  # |s(I + J) - s(J)| <= 1 (Weyl)
    assert all(values.min() < 1e-6 for values in found["post-norm block"])  # LayerNorm removes a direction of each token


# --- 4: norms, activations, positions -------------------------------------------------------------------------------


def test_layer_norm_ignores_the_other_samples_and_batch_norm_does_not():
    samples, change = torch.randn(200, lab4.D_MODEL), {}
    for norm in (nn.LayerNorm(lab4.D_MODEL), nn.BatchNorm1d(lab4.D_MODEL)):
        change[type(norm)] = [lab4.change_by_others(norm, samples, b, torch.Generator().manual_seed(0), 40) for b in (4, 64)]
    assert max(change[nn.LayerNorm]) < 1e-6
    assert 1.5 > change[nn.BatchNorm1d][0] > 2 * change[nn.BatchNorm1d][1] > 0.1


def test_only_batch_norm_refuses_a_batch_of_one(names):
    assert names["answers"]["LayerNorm"] == "" and "more than 1 value" in names["answers"]["BatchNorm"]
    for norm in names["norms"].values():
        assert norm(names["samples"][:3]).shape == (3, lab4.D_MODEL)  # but none refuses three


def test_the_formula_is_that_of_nn_layer_norm():
    norm, x = nn.LayerNorm(7), 3 * torch.randn(5, 7) + 2
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    torch.testing.assert_close(lab4.layer_norm(x, norm), norm(x))
    assert (lab4.layer_norm(x, norm, unbiased=True) - norm(x)).abs().max() > 0.01


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_a_feed_forward_network_moves_the_replaced_token_alone(norm, models):
    block, flow = models[norm].block, models[norm].block.stages(embedded(models[norm]))
    stages = list(flow)
    entering = {name: flow[stages[stages.index(name) - 1]] for name in ("attention", "feed-forward")}
    moved = {
        "attention": lab4.moved_by_one(lambda x: block.attention(x)[0], entering["attention"]),
        "feed-forward": lab4.moved_by_one(block.feed_forward, entering["feed-forward"]),
    }
    others = [i for i in range(len(lab4.WORDS)) if i != lab4.REPLACED]
    assert moved["feed-forward"][others].max() < 1e-6 < 0.05 < moved["feed-forward"][lab4.REPLACED]
    assert moved["attention"][others].min() > 1e-4
    x = entering["feed-forward"][0]  # (T, d_model)
    old, new = block.feed_forward(x[lab4.REPLACED]), block.feed_forward(x[lab4.REPLACEMENT])
    torch.testing.assert_close(moved["feed-forward"][lab4.REPLACED], (new - old).norm() / old.norm())


def test_the_formula_of_the_feed_forward_network_is_the_layer(names):
    torch.testing.assert_close(names["by_hand"], names["model"].block.feed_forward(names["x"]))


def test_a_sub_layer_gets_the_stage_before_it(names):
    stages, entering = dict(names["stages"]), names["entering"]
    assert torch.equal(entering["attention"], stages["input"]) and torch.equal(entering["feed-forward"], stages["norm 1"])


def test_dead_and_silent_units_by_hand():
    def shares(activation, bias):
        model = SineModel(1, "post", activation)
        first = model.blocks[0].feed_forward[0]
        nn.init.zeros_(first.weight)
        first.bias.data = torch.tensor(bias).repeat(16)
        return lab4.measure_units(model, torch.randn(3, N_STEPS, 1))

    assert shares("relu", [1.0, -1.0, -0.1, -9.0]) == {"silent": 0.75, "dead": 0.75}
    assert shares("gelu", [1.0, -1.0, -0.1, -9.0]) == {"silent": 0.75, "dead": 0.25}  # only at -9 has GELU no slope


def test_training_leaves_relu_units_dead_and_keeps_gelu_units_alive():
    units = lab4.measure_activations([3, 4], 60, rates=(0.0, 0.01))
    assert np.mean(units["relu", 0.01]["dead"]) > 0.05 + np.mean(units["relu", 0.0]["dead"])
    assert np.mean(units["relu", 0.01]["dead"]) > 0.05 + np.mean(units["gelu", 0.01]["dead"])
    assert np.mean(units["gelu", 0.01]["dead"]) < 0.05 < np.mean(units["gelu", 0.01]["silent"])
    assert units["relu", 0.0]["dead"] == units["relu", 0.0]["silent"] == units["gelu", 0.0]["silent"]


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

    monkeypatch.setattr(lab4, "train_sines", spy)
    lab4.measure_warmup([(*case, 0.01, 5) for case in lab4.CASES], sines(8, torch.Generator().manual_seed(0)), 2, 3)
    assert len(seen) == 4 and len(set(seen)) == 1


def test_the_warm_up_figure_says_what_warm_up_changes():
    loss = {("post", "warm"): 0.1, ("post", "cold"): 0.7, ("pre", "warm"): 0.2, ("pre", "cold"): 0.3}
    failed = {("post", "warm"): [True, False], ("post", "cold"): [True, True], ("pre", "warm"): [False] * 2}
    found = {}
    for case, rate in itertools.product(lab4.CASES, lab4.RATES):
        diverged = np.array(failed.get(case, [False, True]) if rate == lab4.RATES[2] else [True, True])
        found[(*case, rate)] = {"diverged": diverged, "loss": np.full(2, loss[case] * rate), "curve": np.ones((2, 9))}
    title = " ".join(draw_warmup(found, 0.5).get_suptitle().split())
    assert "the loss at rate 0.01 by 7.0 (post-norm) and 1.5 (pre-norm)" in title
    assert "at 0.02, with or without, 3 of 4 post-norm stacks fail to learn and 1 pre-norm stacks" in title


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
    runs = [(*case, 0.012, seed) for case in lab4.CASES if case != ("pre", "warm") for seed in (21, 22, 23)]
    runs += [(*case, 0.03, 21) for case in (("post", "warm"), ("pre", "cold"))]
    found = lab4.measure_warmup(runs, sines(256, torch.Generator().manual_seed(0)), 6, 60)
    cold, *others = (np.mean(found[(*case, 0.012)]["loss"]) for case in (("post", "cold"), ("post", "warm"), ("pre", "cold")))
    assert cold > 2 * max(others)
    assert found["post", "warm", 0.03]["diverged"].all() and not found["pre", "cold", 0.03]["diverged"].any()
    assert found["post", "warm", 0.012]["curve"].shape == (3, 60)


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
    monkeypatch.setattr(lab4, "train_sines", lambda *_, **__: [1.0, math.nan])
    monkeypatch.setattr(SineModel, "forward", lambda self, x: answer(test[1]))
    found = lab4.measure_warmup([("pre", "warm", 0.1, 0)], test, 1, 2)["pre", "warm", 0.1]
    assert found["diverged"].tolist() == [diverged] and np.isfinite(found["loss"]).all()


# --- 6 and the run --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_torchs_block_with_our_weights_gives_our_output(norm, models):
    block, x = models[norm].block, torch.randn(3, 7, lab4.D_MODEL)
    torch.testing.assert_close(torch_block(block)(x), block(x)[0], rtol=1e-4, atol=1e-5)


def test_parameters_are_counted_by_part():
    block = TransformerBlock(lab4.D_MODEL, 2, 17)
    counts, d = lab4.count_parameters(block), lab4.D_MODEL
    assert counts == {"attention": 4 * (d * d + d), "feed_forward": 2 * d * 17 + 17 + d, "norms": 4 * d}
    assert sum(counts.values()) == sum(p.numel() for p in block.parameters())


def test_required_records_and_the_printed_findings(fast_runs):
    run = fast_runs["04", "ascii"]
    results = json.loads((run.out / "04_results.json").read_text())["results"]
    depths = [f"gradient.{n}.{k}.depth_{d}" for n, k in lab4.STACKS for d in lab4.DEPTHS]
    warmup = [f"warmup.{n}.{s}.lr_{r:g}.{v}" for n, s in lab4.CASES for r in lab4.RATES for v in ("loss", "diverged")]
    ranks = ["rank.residual.similarity", "rank.plain.similarity", "jacobian.min_singular_value"]
    assert set(results) >= {*depths, *warmup, *ranks}
    printed = " ".join(run.process.stdout.decode("ascii").split())
    assert f"(median over sentences) is {results['jacobian.min_singular_value']['value']:.2g}." in printed
    assert (
        results["others_replaced.batchnorm.batch_8"]["value"] > 0.3 and results["batch_of_one.refused.batchnorm"]["value"] == 1
    )
    assert f"{results['rank.plain.similarity']['value']:.3f} without residuals" in printed


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--heads", "3"], "'3' is not 1, 2, 4 or 8 (heads must divide the model width, 32)"),
        (["--heads", "viele"], "'viele' is not"),
        (["--heads", "-4"], "'-4' is not 1, 2, 4 or 8"),
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
    model = run_script(4, tmp_path, "--heads", "8", "--d-ff", "5", "--norm", "pre")["model"]
    assert (model.block.norm, model.block.attention.n_heads, model.block.feed_forward[0].out_features) == ("pre", 8, 5)
    assert len(list(tmp_path.glob("04_*.png"))) == 5
