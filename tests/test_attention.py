"""Attention against PyTorch's own, in float64, values and gradients. All sizes are distinct primes."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from common.attention import MultiHeadAttention, causal_mask, padding_mask, scaled_dot_product_attention

B, TQ, TK, D_K, D_V = 2, 7, 11, 5, 3
HEADS, D_MODEL = 3, 39
INF = torch.full((3, 3), -math.inf, dtype=torch.float64)
TOLERANCE = {"rtol": 0, "atol": 1e-10}
MASKS = {
    "none": None,
    "causal": causal_mask(TK),
    "padding": padding_mask([TK, 4], TK),
    "both": causal_mask(TK) & padding_mask([TK, 4], TK),
}


def gradients(output, *inputs):
    """Gradients under a random but fixed weighting of the outputs."""
    weighting = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    return torch.autograd.grad((output * weighting).sum(), inputs)


def leaves(*shapes):
    return [torch.randn(shape, requires_grad=True) for shape in shapes]


# --- the function ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MASKS)
def test_function_agrees_with_torch(name):
    q, k, v = leaves((B, TK, D_K), (B, TK, D_K), (B, TK, D_V))
    ours, _ = scaled_dot_product_attention(q, k, v, MASKS[name])
    torchs = F.scaled_dot_product_attention(q, k, v, attn_mask=MASKS[name])
    torch.testing.assert_close(ours, torchs, **TOLERANCE)
    for a, b in zip(gradients(ours, q, k, v), gradients(torchs, q, k, v), strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE)


def test_cross_attention_with_bias_agrees_with_torch():
    q, k, v, bias = leaves((B, HEADS, TQ, D_K), (B, HEADS, TK, D_K), (B, HEADS, TK, D_V), (HEADS, TQ, TK))
    ours, weights = scaled_dot_product_attention(q, k, v, bias=bias)
    torchs = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.expand(B, -1, -1, -1))
    assert weights.shape == (B, HEADS, TQ, TK)
    torch.testing.assert_close(ours, torchs, **TOLERANCE)
    for a, b in zip(gradients(ours, q, k, v, bias), gradients(torchs, q, k, v, bias), strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE)


def test_one_example_by_hand():
    q = torch.tensor([[2.0, 0.0, 0.0, 0.0]])
    k = torch.tensor([[math.log(3.0), 9.0, 9.0, 9.0], [0.0, 9.0, 9.0, 9.0]])  # scaled scores: log 3 and 0
    v = torch.tensor([[4.0], [8.0]])
    output, weights = scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(weights, torch.tensor([[0.75, 0.25]]))
    torch.testing.assert_close(output, torch.tensor([[5.0]]))


def test_scale_one_is_the_unscaled_variant():
    q, k, v = leaves((TQ, D_K), (TK, D_K), (TK, D_V))
    torch.testing.assert_close(scaled_dot_product_attention(q, k, v, scale=1.0)[1], (q @ k.T).softmax(-1), **TOLERANCE)


def test_rows_sum_to_one_and_outputs_are_averages():
    q, k, v = leaves((B, TQ, D_K), (B, TK, D_K), (B, TK, D_V))
    output, weights = scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, TQ), **TOLERANCE)
    assert (weights >= 0).all()
    assert (output <= v.amax(-2, keepdim=True)).all() and (output >= v.amin(-2, keepdim=True)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("blocked_by", ["mask", "bias", "mask and bias"])
def test_a_query_that_may_attend_nowhere_gets_zeros_and_finite_gradients(blocked_by, dtype):
    q, k, v = (x.detach().to(dtype).requires_grad_() for x in leaves((B, TQ, D_K), (B, TK, D_K), (B, TK, D_V)))
    mask, bias, half = None, None, 4 if blocked_by == "mask and bias" else 0
    if "mask" in blocked_by:
        mask = torch.ones(TQ, TK, dtype=torch.bool)
        mask[2, half:] = False
    if "bias" in blocked_by:
        bias = torch.zeros(TQ, TK, dtype=dtype)
        bias[2, : half or TK] = -math.inf
    output, weights = scaled_dot_product_attention(q, k, v, mask, bias=bias)
    assert (weights[:, 2] == 0).all() and (output[:, 2] == 0).all()
    torch.testing.assert_close(weights[:, 3].sum(-1), torch.ones(B, dtype=dtype), rtol=0, atol=0.02)
    output.sum().backward()
    for x in (q, k, v):
        assert x.grad.isfinite().all() and x.grad.abs().sum() > 0
    assert (q.grad[:, 2] == 0).all()


def test_masked_keys_get_exactly_no_weight_and_no_gradient():
    q, k, v = leaves((TQ, D_K), (TK, D_K), (TK, D_V))
    mask = torch.ones(TQ, TK, dtype=torch.bool)
    mask[:, 3] = False
    output, weights = scaled_dot_product_attention(q, k, v, mask)
    assert (weights[:, 3] == 0).all()
    output.sum().backward()
    assert (k.grad[3] == 0).all() and (v.grad[3] == 0).all()


# --- masks ----------------------------------------------------------------------------------------------------------


def test_causal_mask_by_hand():
    assert causal_mask(3).tolist() == [[True, False, False], [True, True, False], [True, True, True]]


def test_padding_mask_by_hand():
    mask = padding_mask([2, 0, 3], 3)
    assert mask.shape == (3, 1, 3)
    assert mask[:, 0].tolist() == [[True, True, False], [False, False, False], [True, True, True]]
    assert (padding_mask(torch.tensor([2, 0, 3]), 3) == mask).all()


def test_a_perturbed_future_changes_no_past_output():
    attention = MultiHeadAttention(D_MODEL, HEADS)
    x = torch.randn(B, TK, D_MODEL)
    for t in range(TK - 1):
        changed = x.clone()
        changed[:, t + 1 :] += torch.randn(B, TK - t - 1, D_MODEL)
        before, after = (attention(y, mask=causal_mask(TK))[0] for y in (x, changed))
        assert (before[:, : t + 1] == after[:, : t + 1]).all()
        assert (before[:, t + 1 :] != after[:, t + 1 :]).any()


# --- several heads --------------------------------------------------------------------------------------------------


def with_weights_of(ours: MultiHeadAttention) -> nn.MultiheadAttention:
    theirs = nn.MultiheadAttention(ours.d_model, ours.n_heads, batch_first=True)
    inputs = (ours.w_q, ours.w_k, ours.w_v)
    theirs.in_proj_weight.data = torch.cat([layer.weight.data for layer in inputs])
    theirs.in_proj_bias.data = torch.cat([layer.bias.data for layer in inputs])
    theirs.out_proj.load_state_dict(ours.w_o.state_dict())
    return theirs


@pytest.mark.parametrize("name", MASKS)
def test_heads_agree_with_torch(name):
    ours = MultiHeadAttention(D_MODEL, HEADS)
    theirs = with_weights_of(ours)
    (x,) = leaves((B, TK, D_MODEL))
    mask = MASKS[name]
    blocked = None if mask is None else ~mask.expand(B, TK, TK).repeat_interleave(HEADS, dim=0)  # True = blocked there
    output, weights = ours(x, mask=mask)
    output_2, weights_2 = theirs(x, x, x, attn_mask=blocked, average_attn_weights=False)
    torch.testing.assert_close(output, output_2, **TOLERANCE)
    torch.testing.assert_close(weights, weights_2, **TOLERANCE)
    (gradient, w_q, w_o), (gradient_2, w_in, w_out) = (
        gradients(output, x, ours.w_q.weight, ours.w_o.weight),
        gradients(output_2, x, theirs.in_proj_weight, theirs.out_proj.weight),
    )
    torch.testing.assert_close(gradient, gradient_2, **TOLERANCE)
    torch.testing.assert_close(w_q, w_in[:D_MODEL], **TOLERANCE)
    torch.testing.assert_close(w_o, w_out, **TOLERANCE)


def test_cross_attention_agrees_with_torch():
    ours = MultiHeadAttention(D_MODEL, HEADS)
    query, key, value = leaves((B, TQ, D_MODEL), (B, TK, D_MODEL), (B, TK, D_MODEL))
    mask = padding_mask([TK, 4], TK)
    output, weights = ours(query, key, value, mask)
    blocked = ~mask.expand(B, TQ, TK).repeat_interleave(HEADS, dim=0)
    output_2, _ = with_weights_of(ours)(query, key, value, attn_mask=blocked)
    assert weights.shape == (B, HEADS, TQ, TK)
    torch.testing.assert_close(output, output_2, **TOLERANCE)
    for a, b in zip(gradients(output, query, key, value), gradients(output_2, query, key, value), strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE)


def test_key_defaults_to_query_and_value_to_key():
    attention = MultiHeadAttention(D_MODEL, HEADS)
    x, memory = torch.randn(B, TQ, D_MODEL), torch.randn(B, TK, D_MODEL)
    assert (attention(x)[0] == attention(x, x, x)[0]).all()
    assert (attention(x, memory)[0] == attention(x, memory, memory)[0]).all()


def test_bias_reaches_its_own_head():
    attention = MultiHeadAttention(D_MODEL, HEADS)
    x = torch.randn(B, TQ, D_MODEL)
    bias = torch.zeros(HEADS, TQ, TQ)
    bias[1, :, 4] = 50.0
    plain, biased = attention(x)[1], attention(x, bias=bias)[1]
    torch.testing.assert_close(biased[:, 1, :, 4], torch.ones(B, TQ))
    torch.testing.assert_close(biased[:, [0, 2]], plain[:, [0, 2]])


def test_masks_of_every_broadcastable_shape_mean_the_same():
    attention = MultiHeadAttention(D_MODEL, HEADS)
    x = torch.randn(B, TK, D_MODEL)
    full = causal_mask(TK).expand(B, TK, TK)
    for mask in (causal_mask(TK), causal_mask(TK)[None]):
        assert (attention(x, mask=mask)[0] == attention(x, mask=full)[0]).all()
    keys = padding_mask([5], TK)
    assert (attention(x, mask=keys[0, 0])[0] == attention(x, mask=keys.expand(B, TK, TK))[0]).all()


def test_dropout_acts_in_training_on_the_output_but_not_on_the_returned_weights():
    attention = MultiHeadAttention(D_MODEL, HEADS, dropout=0.5)
    x = torch.randn(B, TK, D_MODEL)
    output, weights = attention(x)
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, HEADS, TK), **TOLERANCE)
    assert (attention(x)[0] != output).any()
    attention.eval()
    assert (attention(x)[0] == attention(x)[0]).all()
    torch.testing.assert_close(attention(x)[0], with_weights_of(attention)(x, x, x)[0], **TOLERANCE)


def test_without_bias_there_are_four_matrices():
    sizes = [p.shape for p in MultiHeadAttention(D_MODEL, HEADS, bias=False).parameters()]
    assert sizes == [(D_MODEL, D_MODEL)] * 4


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: scaled_dot_product_attention(*leaves((TQ, 5), (TK, 3), (TK, 3))), ValueError, r"\(7, 5\).*\(11, 3\)"),
        (lambda: scaled_dot_product_attention(*leaves((TQ, 5), (TK, 5), (3, 5))), ValueError, r"\(11, 5\).*\(3, 5\)"),
        (lambda: scaled_dot_product_attention(*leaves((2, TQ, 5), (3, TK, 5), (3, TK, 5))), ValueError, "leading"),
        (lambda: scaled_dot_product_attention(*leaves((2, TQ, 5), (2, TK, 5), (3, TK, 5))), ValueError, "leading"),
        (lambda: scaled_dot_product_attention(*leaves((5,), (TK, 5), (TK, 5))), ValueError, r"\(5,\)"),
        (lambda: scaled_dot_product_attention(*[torch.ones(3, 2).int()] * 3), TypeError, "int32"),
        (lambda: scaled_dot_product_attention(*[torch.ones(3, 2)] * 2, torch.ones(3, 2).float()), TypeError, "float32"),
        (lambda: scaled_dot_product_attention(*[torch.ones(3, 2)] * 3, torch.ones(3, 3)), TypeError, "bool"),
        (lambda: scaled_dot_product_attention(*[torch.ones(3, 2)] * 3, causal_mask(2)), ValueError, r"\(2, 2\)"),
        (
            lambda: scaled_dot_product_attention(*[torch.ones(3, 2)] * 3, bias=causal_mask(3)),
            TypeError,
            "bias must be torch.float64",
        ),
        (lambda: scaled_dot_product_attention(*[torch.ones(3, 0)] * 3), ValueError, r"\(3, 0\)"),
        (lambda: scaled_dot_product_attention(*[torch.ones(3, 2)] * 3, torch.ones(3, 3), bias=INF), TypeError, "mask"),
        (lambda: scaled_dot_product_attention(*[torch.ones(3, 2)] * 3, bias=torch.ones(5)), ValueError, r"\(5,\)"),
        (lambda: causal_mask(0), ValueError, "0"),
        (lambda: causal_mask(2.0), TypeError, "2.0"),
        (lambda: padding_mask([4], 3), ValueError, r"0\.\.3"),
        (lambda: padding_mask([-1], 3), ValueError, r"0\.\.3"),
        (lambda: padding_mask([[1]], 3), ValueError, r"\(1, 1\)"),
        (lambda: padding_mask([1.5], 3), TypeError, "float"),
        (lambda: padding_mask([], 3), ValueError, r"\(0,\)"),
        (lambda: MultiHeadAttention(6, 2)(torch.ones(2, 3, 6).float()), TypeError, "query must be torch.float64"),
        (lambda: MultiHeadAttention(7, 3), ValueError, "7.*3"),
        (lambda: MultiHeadAttention(0, 1), ValueError, "d_model"),
        (lambda: MultiHeadAttention(4, 0), ValueError, "n_heads"),
        (lambda: MultiHeadAttention(4, True), TypeError, "True"),
        (lambda: MultiHeadAttention(6, 2)(torch.ones(2, 3, 5)), ValueError, r"6.*\(2, 3, 5\)"),
        (lambda: MultiHeadAttention(6, 2)(torch.ones(3, 6)), ValueError, r"\(3, 6\)"),
        (lambda: MultiHeadAttention(6, 2)(torch.ones(2, 3, 6), torch.ones(1, 3, 6)), ValueError, "one B"),
        (lambda: MultiHeadAttention(6, 2)(*torch.ones(3, 2, 3, 6)[:2], torch.ones(2, 5, 6)), ValueError, "Tk"),
        (lambda: MultiHeadAttention(6, 2)(torch.ones(2, 3, 6), mask=causal_mask(5)), ValueError, r"\(5, 5\)"),
        (lambda: MultiHeadAttention(6, 2)(torch.ones(2, 3, 6), mask=torch.ones(3, 3)), TypeError, "bool"),
    ],
)
def test_errors_name_the_sizes(call, error, message):
    with pytest.raises(error, match=message):
        call()
