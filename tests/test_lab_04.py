"""Lab 4: each part of the block is taken away and measured; the measurements on cases whose answers are known."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from common.toy_language import IDS, MaskedWordModel, sentences
from common.transformer import TransformerBlock
from conftest import load, make_lab

lab4 = load(4)


@pytest.fixture(scope="module")
def depth():
    return lab4.measure_depth([0])


def test_the_stages_after_a_norm_have_variance_one_before_gamma_and_beta():
    model = MaskedWordModel().eval()
    with torch.no_grad():
        model.block.norm_2.weight.fill_(3.0)
    flow = lab4.measure_flow(model)
    assert len(flow) == 7 and [name for name in flow if "plain" in flow[name]] == ["norm 1", "norm 2"]
    torch.testing.assert_close(flow["norm 2"]["plain"], torch.ones(len(lab4.WORDS)), rtol=0, atol=0.01)
    torch.testing.assert_close(flow["norm 2"]["variance"], 9 * flow["norm 2"]["plain"])
    torch.testing.assert_close(flow["input"]["mean"], flow["input"]["features"].mean(dim=-1))


def test_even_attention_has_entropy_one():
    model = MaskedWordModel().eval()
    for layer in (model.block.attention.w_q, model.block.attention.w_k):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    test = [s for s in sentences(200, 0, held_out=True) if "agreement" in s.gaps and s.attractor]
    with torch.no_grad():
        found = lab4.measure_heads(model, test)
    torch.testing.assert_close(found["entropy"], torch.ones(4))
    even = sum(1 / len(s.words) for s in test) / len(test)
    torch.testing.assert_close(found["subject"], torch.full((4,), even))


def test_similarity_by_hand():
    assert lab4.similarity(torch.ones(2, 3, 5)) == pytest.approx(1)
    assert lab4.similarity(torch.eye(3)[None]) == pytest.approx(0, abs=1e-6)
    assert lab4.similarity(torch.tensor([[[1.0, 0.0], [-2.0, 0.0]]])) == pytest.approx(-1)


def test_the_gradient_of_a_stack_is_a_vector_jacobian_product():
    torch.manual_seed(0)
    blocks = lab4.make_stack(max(lab4.DEPTHS), "pre").double()
    x, top = torch.randn(2, 1, 3, lab4.D_MODEL, dtype=torch.float64)
    found = lab4.measure_stack(blocks, x.clone(), top)
    jacobian = torch.autograd.functional.jacobian(lambda x: blocks[0](x)[0], x).reshape(x.numel(), x.numel())
    assert lab4.DEPTHS[0] == 1
    assert found["gradient"][0] == pytest.approx((jacobian.T @ top.flatten()).norm().item() / top.norm().item())
    assert len(found["similarity"]) == max(lab4.DEPTHS) + 1
    assert found["similarity"][0] == pytest.approx(lab4.similarity(x))


def test_without_norm_and_residual_the_gradient_vanishes(depth):
    plain, kept = (np.median(depth["none", kind]["gradient"], axis=0) for kind in ("plain", "residual"))
    assert plain[lab4.AT_24] < 1e-20 and kept[lab4.AT_24] > 0.1
    assert plain[-1] == 0 and (depth["none", "float64"]["gradient"][:, -1] > 0).all()
    for norm in ("post", "pre"):
        residual, without = (np.median(depth[norm, kind]["gradient"][:, -1]) for kind in ("residual", "plain"))
        assert residual > 0.1 > without


def test_without_residuals_all_tokens_become_one(depth):
    for norm in ("none", "post", "pre"):
        plain, residual = (depth[norm, kind]["similarity"][:, lab4.ALIKE_AT].mean() for kind in ("plain", "residual"))
        assert plain > 0.99 and residual < 0.7


def test_no_norm_really_means_none():
    assert not any(isinstance(m, nn.LayerNorm) for m in lab4.make_stack(2, "none").modules())
    assert sum(isinstance(m, nn.LayerNorm) for m in lab4.make_stack(2, "post").modules()) == 4


def test_singular_values_of_a_known_map():
    scales = torch.tensor([3.0, 0.5, 0.0, 1.0], dtype=torch.float64)
    values = lab4.singular_values(lambda x: x * scales, torch.ones(1, 1, 4, dtype=torch.float64))
    torch.testing.assert_close(values, torch.tensor([3.0, 1.0, 0.5, 0.0], dtype=torch.float64))


def test_the_derivative_of_a_block_is_not_always_at_least_one():
    models = {norm: MaskedWordModel(norm=norm).eval() for norm in ("pre", "post")}
    found = lab4.measure_jacobian(models, sentences(2, 0, held_out=True))
    assert all(values.min() < 0.9 for values in found[lab4.BLOCK])
    assert len(found[lab4.BLOCK]) == 2


def test_layer_norm_formula():
    norm, x = nn.LayerNorm(7), torch.randn(3, 7)
    with torch.no_grad():
        norm.weight.uniform_()
        norm.bias.uniform_()
    torch.testing.assert_close(lab4.layer_norm(x, norm), norm(x))
    assert (lab4.layer_norm(x, norm, unbiased=True) - norm(x)).abs().max() > 1e-3


def test_only_batch_norm_depends_on_the_others():
    samples, generator = torch.randn(200, 7), torch.Generator().manual_seed(0)
    assert lab4.change_by_others(nn.LayerNorm(7), samples, 8, generator) == 0
    two, many = (lab4.change_by_others(nn.BatchNorm1d(7), samples, size, generator) for size in (2, 64))
    assert two > 2 * many > 0.05
    assert lab4.refusal(nn.LayerNorm(7), samples[:1]) == ""
    assert "more than 1 value" in lab4.refusal(nn.BatchNorm1d(7), samples[:1])


def test_the_feed_forward_network_moves_the_changed_token_alone():
    moved = lab4.measure_positions(MaskedWordModel().eval())
    others = torch.arange(len(lab4.WORDS)) != lab4.REPLACED
    assert (moved["feed-forward"][others] == 0).all() and moved["feed-forward"][lab4.REPLACED] > 0
    assert (moved["attention"] > 0).all()


@pytest.mark.parametrize(("activation", "dead"), [("relu", 1.0), ("gelu", 0.0)])
def test_a_unit_that_is_never_above_zero_is_dead_with_relu_only(activation, dead):
    model, (x, _) = lab4.SineModel(1, "post", activation), lab4.sines(20, torch.Generator().manual_seed(0))
    first = model.blocks[0].feed_forward[0]
    with torch.no_grad():
        first.weight.zero_()
        first.bias.fill_(-0.3)
    assert lab4.measure_units(model, x) == {"silent": 1.0, "dead": dead}
    with torch.no_grad():
        first.bias.fill_(0.3)
    assert lab4.measure_units(model, x) == {"silent": 0.0, "dead": 0.0}


def test_sines_are_sines():
    x, y = lab4.sines(50, torch.Generator().manual_seed(0))
    series = torch.cat([x.squeeze(-1), y[:, None]], dim=1).double()  # y[t+1] + y[t-1] = 2 cos(f) y[t]
    middle, sides = series[:, 1:-1], series[:, 2:] + series[:, :-2]
    factor = (middle * sides).sum(dim=1) / middle.square().sum(dim=1)
    torch.testing.assert_close(sides, factor[:, None] * middle, rtol=0, atol=1e-3)
    assert factor.std() > 0.01


def test_post_norm_without_warm_up_fails_where_pre_norm_trains():
    test = lab4.sines(256, torch.Generator().manual_seed(9))
    runs = [(norm, "cold", 0.03, 0) for norm in ("post", "pre")]
    found = lab4.measure_warmup(runs, test, 6, 60)
    assert found["post", "cold", 0.03]["diverged"].all() and not found["pre", "cold", 0.03]["diverged"].any()


def test_warm_up_zero_starts_at_the_full_rate(monkeypatch):
    rates = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: (rates.append(self.param_groups[0]["lr"]), step(self)))
    for warmup in (0.0, 0.5):
        lab4.train_sines(lab4.SineModel(1, "pre"), 0, 10, lr=0.01, warmup=warmup)
    assert rates[0] == pytest.approx(0.01, rel=0.05) and max(rates[:10]) == rates[0]  # the first step is on its way down
    assert rates[10] == pytest.approx(0.01 / 25) and max(rates[10:]) == pytest.approx(0.01, rel=0.05)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_torchs_block_with_our_weights(norm):
    block, x = TransformerBlock(lab4.D_MODEL, 4, 17, norm=norm).double(), torch.randn(2, 5, lab4.D_MODEL).double()
    torch.testing.assert_close(lab4.torch_block(block).double()(x), block(x)[0], rtol=0, atol=1e-10)
    assert sum(lab4.count_parameters(block).values()) == sum(p.numel() for p in block.parameters())


def test_the_hidden_verb_is_hidden():
    assert lab4.WORDS[lab4.HIDDEN] == "<mask>" and all(word in IDS for word in lab4.WORDS)


def test_required_records(fast_runs):
    results = json.loads((fast_runs["04", "ascii"].out / "04_results.json").read_text())["results"]
    required = {"jacobian.min_singular_value", "rank.residual.similarity", "rank.plain.similarity"}
    for norm in ("none", "post", "pre"):
        required |= {f"gradient.{norm}.{kind}.depth_{n}" for kind in ("residual", "plain") for n in (1, 24, 48)}
    for rate in lab4.RATES:
        stems = (f"warmup.{norm}.{schedule}.lr_{rate:g}" for norm in ("pre", "post") for schedule in ("warm", "cold"))
        required |= {f"{stem}.{name}" for stem in stems for name in ("loss", "diverged")}
    assert set(results) >= required


@pytest.mark.parametrize(
    ("flags", "says"),
    [(["--heads", "3"], "1, 2, 4 or 8"), (["--d-ff", "0"], "from 1 to 1024"), (["--norm", "middle"], "post")],
)
def test_a_mistake_is_one_line(flags, says, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        make_lab(lab4, tmp_path / "out", *flags)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and says in error and not (tmp_path / "out").exists()


@pytest.mark.parametrize("flags", [("--heads", "1", "--norm", "pre"), ("--heads", "8", "--d-ff", "7")])
def test_other_blocks(flags, tmp_path):
    lab = make_lab(lab4, tmp_path, *flags)
    model = lab4.make_model(lab, lab.options.norm).eval()
    lab4.show_flow(lab, model)
    lab4.show_heads(lab, model)
    lab4.show_parameters(lab, model)
    assert {path.stem for path in tmp_path.glob("*.png")} == {"04_transformer_dataflow", "04_attention_patterns"}
