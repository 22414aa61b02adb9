"""The block against nn.TransformerEncoderLayer with the same weights, in float64, and its stages one by one."""

import pytest
import torch
from torch import nn

from common.attention import causal_mask, padding_mask
from common.transformer import TransformerBlock

B, T, HEADS, D_MODEL, D_FF = 2, 11, 3, 39, 17
TOLERANCE = {"rtol": 0, "atol": 1e-10}
MASKS = {
    "none": None,
    "causal": causal_mask(T),
    "padding": padding_mask([T, 4], T),
    "both": causal_mask(T) & padding_mask([T, 4], T),
}


def with_weights_of(ours: TransformerBlock, norm: str, activation: str) -> nn.TransformerEncoderLayer:
    theirs = nn.TransformerEncoderLayer(
        D_MODEL, HEADS, D_FF, dropout=0.0, activation=activation, batch_first=True, norm_first=norm == "pre"
    )
    inputs = (ours.attention.w_q, ours.attention.w_k, ours.attention.w_v)
    theirs.self_attn.in_proj_weight.data = torch.cat([layer.weight.data for layer in inputs])
    theirs.self_attn.in_proj_bias.data = torch.cat([layer.bias.data for layer in inputs])
    pairs = (
        (theirs.self_attn.out_proj, ours.attention.w_o),
        (theirs.linear1, ours.feed_forward[0]),
        (theirs.linear2, ours.feed_forward[3]),
        (theirs.norm1, ours.norm_1),
        (theirs.norm2, ours.norm_2),
    )
    for target, source in pairs:
        target.load_state_dict(source.state_dict())
    return theirs


def scrambled(**options) -> TransformerBlock:
    """A block whose norms are not at their initial 1 and 0, so that swapping the two would show."""
    block = TransformerBlock(D_MODEL, HEADS, D_FF, **options)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return block


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("name", MASKS)
def test_block_agrees_with_torch(name, norm, activation):
    ours = scrambled(norm=norm, activation=activation)
    theirs = with_weights_of(ours, norm, activation)
    x, mask = torch.randn(B, T, D_MODEL, requires_grad=True), MASKS[name]
    blocked = None if mask is None else ~mask.expand(B, T, T).repeat_interleave(HEADS, dim=0)
    output, weights = ours(x, mask)
    output_2 = theirs(x, src_mask=blocked)
    assert weights.shape == (B, HEADS, T, T)
    torch.testing.assert_close(output, output_2, **TOLERANCE)
    weighting = torch.randn(B, T, D_MODEL)
    grads = torch.autograd.grad((output * weighting).sum(), (x, ours.feed_forward[0].weight, ours.norm_1.weight))
    grads_2 = torch.autograd.grad((output_2 * weighting).sum(), (x, theirs.linear1.weight, theirs.norm1.weight))
    for a, b in zip(grads, grads_2, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE)


@pytest.mark.parametrize("residual", [True, False])
def test_stages_of_post_follow_the_formula(residual):
    block, x = scrambled(residual=residual), torch.randn(B, T, D_MODEL)
    stages = block.stages(x)
    kept = 1.0 if residual else 0.0
    assert list(stages) == ["input", "attention", "add 1", "norm 1", "feed-forward", "add 2", "norm 2"]
    assert (stages["input"] == x).all()
    torch.testing.assert_close(stages["attention"], block.attention(x)[0])
    torch.testing.assert_close(stages["add 1"], kept * x + stages["attention"])
    torch.testing.assert_close(stages["norm 1"], block.norm_1(stages["add 1"]))
    torch.testing.assert_close(stages["feed-forward"], block.feed_forward(stages["norm 1"]))
    torch.testing.assert_close(stages["add 2"], kept * stages["norm 1"] + stages["feed-forward"])
    torch.testing.assert_close(stages["norm 2"], block.norm_2(stages["add 2"]))
    assert (block(x)[0] == stages["norm 2"]).all()


@pytest.mark.parametrize("residual", [True, False])
def test_stages_of_pre_follow_the_formula(residual):
    block, x = scrambled(norm="pre", residual=residual), torch.randn(B, T, D_MODEL)
    stages = block.stages(x)
    kept = 1.0 if residual else 0.0
    assert list(stages) == ["input", "norm 1", "attention", "add 1", "norm 2", "feed-forward", "add 2"]
    torch.testing.assert_close(stages["norm 1"], block.norm_1(x))
    torch.testing.assert_close(stages["attention"], block.attention(stages["norm 1"])[0])
    torch.testing.assert_close(stages["add 1"], kept * x + stages["attention"])
    torch.testing.assert_close(stages["norm 2"], block.norm_2(stages["add 1"]))
    torch.testing.assert_close(stages["feed-forward"], block.feed_forward(stages["norm 2"]))
    torch.testing.assert_close(stages["add 2"], kept * stages["add 1"] + stages["feed-forward"])
    assert (block(x)[0] == stages["add 2"]).all()


def test_mask_reaches_the_stages():
    block, x = TransformerBlock(D_MODEL, HEADS), torch.randn(B, T, D_MODEL)
    masked = list(block.stages(x, causal_mask(T)).values())[-1]
    assert (masked == block(x, causal_mask(T))[0]).all()
    assert (masked != block(x)[0]).any()


def test_d_ff_defaults_to_four_times_d_model():
    assert TransformerBlock(D_MODEL, HEADS).feed_forward[0].out_features == 4 * D_MODEL


def test_dropout_acts_in_training_only():
    block, x = TransformerBlock(D_MODEL, HEADS, D_FF, dropout=0.5), torch.randn(B, T, D_MODEL)
    assert (block(x)[0] != block(x)[0]).any()
    block.eval()
    expected = with_weights_of(block, "post", "gelu")(x)
    torch.testing.assert_close(block(x)[0], expected, **TOLERANCE)


def test_dropout_reaches_each_of_its_four_places():
    block = TransformerBlock(D_MODEL, HEADS, D_FF, dropout=0.5)
    calls = []
    for module in block.modules():
        if isinstance(module, nn.Dropout) and module.p == 0.5:
            module.register_forward_hook(lambda module, inputs, output: calls.append(inputs[0].shape))
    block(torch.randn(B, T, D_MODEL))
    assert calls == [(B, HEADS, T, T), (B, T, D_MODEL), (B, T, D_FF), (B, T, D_MODEL)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TransformerBlock(6, 2, norm="middle"), "post, pre.*middle"),
        (lambda: TransformerBlock(6, 2, activation="tanh"), "gelu, relu.*tanh"),
        (lambda: TransformerBlock(7, 2), "7.*2"),
        (lambda: TransformerBlock(6, 2, 0), "d_ff"),
        (lambda: TransformerBlock(6, 2)(torch.ones(2, 3, 5)), r"\(2, 3, 5\)"),
        (lambda: TransformerBlock(6, 2).stages(torch.ones(3, 6)), r"\(3, 6\)"),
    ],
)
def test_errors_name_the_sizes(call, message):
    with pytest.raises(ValueError, match=message):
        call()
