"""Every listed mistake, as a student would make it: WRONG[exercise][mistake] is a wrong solution.

They are written apart from the grader's models, so that the models are tested and not compared with themselves.
"""

import math

import torch

import right_answers as right

# --- softmax --------------------------------------------------------------------------------------------------------


def softmax_over(dim):
    def softmax(x):
        e = torch.exp(x - x.max(dim=dim, keepdim=True).values)
        return e / e.sum(dim=dim, keepdim=True)

    return softmax


def softmax_over_everything(x):
    e = torch.exp(x - x.max())
    return e / e.sum()


def softmax_overflows(x):
    e = torch.exp(x)
    return e / e.sum(dim=-1, keepdim=True)


def softmax_global_maximum(x):
    e = torch.exp(x - x.max())
    return e / e.sum(dim=-1, keepdim=True)


def softmax_not_normalised(x):
    return torch.exp(x - x.amax(-1, keepdim=True))


def softmax_without_keepdim(x):
    e = torch.exp(x - x.amax(-1, keepdim=True))
    return e / e.sum(-1)


def softmax_in_place(x):
    x -= x.amax(-1, keepdim=True)
    e = x.exp()
    return e / e.sum(-1, keepdim=True)


# --- attention ------------------------------------------------------------------------------------------------------


def attention_divided_by(divisor):
    """The right attention but for what the scores are divided by, a function of q."""

    def attention(q, k, v, mask=None):
        return right.scaled_dot_product_attention(q * q.shape[-1] ** 0.5 / divisor(q), k, v, mask)

    return attention


def attention_softmax_over(dim):
    def attention(q, k, v, mask=None):
        scores = q @ k.mT / math.sqrt(q.size(-1))
        if mask is None:
            weights = torch.softmax(scores, dim)
        else:
            weights = torch.softmax(scores.masked_fill(mask == 0, -1e9), dim) * mask
        return weights @ v, weights

    return attention


def attention_inverted_mask(q, k, v, mask=None):
    return right.scaled_dot_product_attention(q, k, v, None if mask is None else ~mask)


def attention_mask_after_softmax(q, k, v, mask=None):
    weights = torch.softmax(q @ k.mT / math.sqrt(q.size(-1)), -1)
    if mask is not None:
        weights = weights * mask.float()
    return weights @ v, weights


def attention_infinity_after_softmax(q, k, v, mask=None):
    weights = torch.softmax(q @ k.mT / math.sqrt(q.size(-1)), -1)
    if mask is not None:
        weights = weights.masked_fill(mask == 0, float("-inf"))
    return weights @ v, weights


def attention_masked_scores_zero(q, k, v, mask=None):
    scores = q @ k.mT / math.sqrt(q.size(-1))
    if mask is not None:
        scores = scores * mask
    weights = torch.softmax(scores, -1)
    return weights @ v, weights


def attention_ignores_mask(q, k, v, mask=None):
    scores = q @ k.mT / math.sqrt(q.size(-1))
    if mask is not None:
        scores.masked_fill(~mask, -1e9)
    weights = torch.softmax(scores, -1)
    return weights @ v, weights


def attention_nan_row(q, k, v, mask=None):
    scores = q @ k.mT / math.sqrt(q.size(-1))
    if mask is not None:
        scores = torch.where(mask, scores, float("-inf"))
    weights = torch.softmax(scores, -1)
    return weights @ v, weights


def attention_uniform_row(q, k, v, mask=None):
    scores = q @ k.mT / math.sqrt(q.size(-1))
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e9)
    weights = torch.softmax(scores, -1)
    return weights @ v, weights


def attention_overflows(q, k, v, mask=None):
    e = torch.exp(q @ k.mT / math.sqrt(q.size(-1)))
    if mask is not None:
        e = e * mask
    total = e.sum(-1, keepdim=True)
    weights = e / torch.where(total == 0, 1.0, total)
    return weights @ v, weights


def attention_exchanged(q, k, v, mask=None):
    output, weights = right.scaled_dot_product_attention(q, k, v, mask)
    return weights, output


def attention_in_place(q, k, v, mask=None):
    q /= q.shape[-1] ** 0.5
    scores = q @ k.mT
    if mask is None:
        mask = torch.tensor(True)
    weights = torch.softmax(scores.masked_fill(~mask, -1e9), -1) * mask
    return weights @ v, weights


# --- masks and heads ------------------------------------------------------------------------------------------------


def causal_without_diagonal(n):
    return torch.arange(n)[None, :] < torch.arange(n)[:, None]


def causal_ahead(n):
    return torch.tril(torch.ones(n, n), diagonal=1).bool()


def causal_inverted(n):
    return torch.triu(torch.ones(n, n), diagonal=1) == 1


def causal_transposed(n):
    return torch.ones(n, n).triu() == 1


def split_reshape_only(x, n_heads):
    return x.view(x.size(0), n_heads, x.size(1), x.size(2) // n_heads)


def split_without_transpose(x, n_heads):
    return x.view(x.size(0), x.size(1), n_heads, x.size(2) // n_heads)


def split_every_hth(x, n_heads):
    return torch.stack([x[..., h::n_heads] for h in range(n_heads)], dim=1)


def merge_reshape_only(x):
    return x.reshape(x.size(0), x.size(2), -1)


def merge_interleaved(x):
    return torch.stack(list(x.unbind(1)), dim=-1).reshape(x.size(0), x.size(2), -1)


# --- sinusoidal encoding --------------------------------------------------------------------------------------------


def encoding_swapped(n_positions, d_model):
    pe = right.sinusoidal_encoding(n_positions, d_model)
    return torch.stack([pe[:, 1::2], pe[:, 0::2]], dim=-1).reshape(n_positions, d_model)


def encoding_in_halves(n_positions, d_model):
    pe = right.sinusoidal_encoding(n_positions, d_model)
    return torch.cat([pe[:, 0::2], pe[:, 1::2]], dim=1)


def encoding_with(exponent_of_column, first=0):
    """PE[pos, column] with any exponent; plain loops."""

    def encoding(n_positions, d_model):
        rows = []
        for pos in range(first, first + n_positions):
            angles = [pos / 10000 ** (exponent_of_column(column) / d_model) for column in range(d_model)]
            rows.append([math.cos(a) if column % 2 else math.sin(a) for column, a in enumerate(angles)])
        return torch.tensor(rows)

    return encoding


# --- layer norm -----------------------------------------------------------------------------------------------------


def norm_unbiased(x, gamma, beta, eps=1e-5):
    return gamma * (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True) + eps) + beta


def norm_without_epsilon(x, gamma, beta, eps=1e-5):
    return gamma * (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True, unbiased=False) + beta


def norm_epsilon_outside(x, gamma, beta, eps=1e-5):
    return gamma * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True, unbiased=False) + eps) + beta


def norm_epsilon_fixed(x, gamma, beta, eps=1e-5):
    return right.layer_norm(x, gamma, beta)


def norm_over(dim):
    def layer_norm(x, gamma, beta, eps=1e-5):
        mean = x.mean(dim, keepdim=True)
        var = (x - mean).square().mean(dim, keepdim=True)
        return gamma * (x - mean) / (var + eps).sqrt() + beta

    return layer_norm


def norm_over_everything(x, gamma, beta, eps=1e-5):
    return gamma * (x - x.mean()) / torch.sqrt(x.var(unbiased=False) + eps) + beta


def norm_without_mean(x, gamma, beta, eps=1e-5):
    return gamma * x / torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + eps) + beta


def norm_without_root(x, gamma, beta, eps=1e-5):
    return gamma * (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + eps) + beta


def norm_without_affine(x, gamma, beta, eps=1e-5):
    return (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + eps)


def norm_exchanged(x, gamma, beta, eps=1e-5):
    return right.layer_norm(x, beta, gamma, eps)


def norm_without_keepdim(x, gamma, beta, eps=1e-5):
    return gamma * (x - x.mean(-1)) / torch.sqrt(x.var(-1, unbiased=False) + eps) + beta


def norm_in_place(x, gamma, beta, eps=1e-5):
    x -= x.mean(-1, keepdim=True)
    return gamma * x / torch.sqrt(x.square().mean(-1, keepdim=True) + eps) + beta


# --- blocks ---------------------------------------------------------------------------------------------------------


def post_without_first_residual(x, attention, feed_forward, norm1, norm2):
    x = norm1(attention(x))
    return norm2(x + feed_forward(x))


def post_without_second_residual(x, attention, feed_forward, norm1, norm2):
    x = norm1(x + attention(x))
    return norm2(feed_forward(x))


def post_residual_from_input(x, attention, feed_forward, norm1, norm2):
    h = norm1(x + attention(x))
    return norm2(x + feed_forward(h))


def post_in_place(x, attention, feed_forward, norm1, norm2):
    x += attention(x)
    x = norm1(x)
    return norm2(x + feed_forward(x))


def pre_without_first_residual(x, attention, feed_forward, norm1, norm2):
    x = attention(norm1(x))
    return x + feed_forward(norm2(x))


def pre_without_second_residual(x, attention, feed_forward, norm1, norm2):
    x = x + attention(norm1(x))
    return feed_forward(norm2(x))


def pre_residual_from_input(x, attention, feed_forward, norm1, norm2):
    h = x + attention(norm1(x))
    return x + feed_forward(norm2(h))


def pre_normalised_residual(x, attention, feed_forward, norm1, norm2):
    x = norm1(x)
    x = x + attention(x)
    x = norm2(x)
    return x + feed_forward(x)


def pre_in_place(x, attention, feed_forward, norm1, norm2):
    x += attention(norm1(x))
    return x + feed_forward(norm2(x))


def rewired(block, order):
    """A block that gets its four sub-layers in another order."""
    return lambda x, *layers: block(x, *(layers[i] for i in order))


SAME_NORM, EXCHANGED_LAYERS = (0, 1, 2, 2), (1, 0, 2, 3)

WRONG = {
    "softmax": {
        "wrong softmax axis (dim=-2)": softmax_over(-2),
        "wrong softmax axis (dim=0)": softmax_over(0),
        "wrong softmax axis (dim=1)": softmax_over(1),
        "softmax over all entries": softmax_over_everything,
        "overflow without max subtraction": softmax_overflows,
        "maximum of the whole tensor": softmax_global_maximum,
        "not normalised": softmax_not_normalised,
        "sum without keepdim": softmax_without_keepdim,
        "input modified in place": softmax_in_place,
    },
    "scaled_dot_product_attention": {
        "no scaling": attention_divided_by(lambda q: 1),
        "scaling by d_k": attention_divided_by(lambda q: q.shape[-1]),
        "scaling by sqrt(d_model)": attention_divided_by(lambda q: math.sqrt(q.shape[1] * q.shape[-1])),
        "multiplied by sqrt(d_k)": attention_divided_by(lambda q: q.shape[-1] ** -0.5),
        "wrong softmax axis (queries)": attention_softmax_over(2),
        "wrong softmax axis (heads)": attention_softmax_over(1),
        "wrong softmax axis (batch)": attention_softmax_over(0),
        "inverted mask": attention_inverted_mask,
        "mask applied after the softmax": attention_mask_after_softmax,
        "-inf filled in after the softmax": attention_infinity_after_softmax,
        "masked scores set to 0": attention_masked_scores_zero,
        "mask ignored": attention_ignores_mask,
        "NaN on a fully masked row": attention_nan_row,
        "uniform weights on a fully masked row": attention_uniform_row,
        "overflow without max subtraction": attention_overflows,
        "output and weights exchanged": attention_exchanged,
        "input modified in place": attention_in_place,
    },
    "causal_mask": {
        "causal mask without the diagonal": causal_without_diagonal,
        "causal mask one step ahead": causal_ahead,
        "inverted mask": causal_inverted,
        "transposed causal mask": causal_transposed,
    },
    "split_heads": {
        "heads split without the transpose": split_reshape_only,
        "transpose forgotten": split_without_transpose,
        "every H-th feature": split_every_hth,
    },
    "merge_heads": {
        "heads merged without the transpose": merge_reshape_only,
        "heads interleaved": merge_interleaved,
    },
    "sinusoidal_encoding": {
        "sine and cosine swapped": encoding_swapped,
        "sines and cosines in two halves": encoding_in_halves,
        "exponent counted twice": encoding_with(lambda column: 2 * (column - column % 2)),
        "factor 2 missing in the exponent": encoding_with(lambda column: column // 2),
        "a frequency for each column": encoding_with(lambda column: column),
        "positions from 1": encoding_with(lambda column: column - column % 2, first=1),
    },
    "layer_norm": {
        "unbiased variance": norm_unbiased,
        "missing epsilon": norm_without_epsilon,
        "epsilon outside the root": norm_epsilon_outside,
        "epsilon fixed": norm_epsilon_fixed,
        "normalised over the tokens": norm_over(1),
        "normalised over the batch": norm_over(0),
        "normalised over tokens and features": norm_over((1, 2)),
        "normalised over everything": norm_over_everything,
        "mean not subtracted": norm_without_mean,
        "variance without the root": norm_without_root,
        "gamma and beta missing": norm_without_affine,
        "gamma and beta exchanged": norm_exchanged,
        "mean and variance without keepdim": norm_without_keepdim,
        "input modified in place": norm_in_place,
    },
    "post_norm_block": {
        "pre and post swapped": right.pre_norm_block,
        "missing residual around the attention": post_without_first_residual,
        "missing residual around the feed-forward network": post_without_second_residual,
        "second residual from the input": post_residual_from_input,
        "one norm used twice": rewired(right.post_norm_block, SAME_NORM),
        "feed-forward before attention": rewired(right.post_norm_block, EXCHANGED_LAYERS),
        "input modified in place": post_in_place,
    },
    "pre_norm_block": {
        "pre and post swapped": right.post_norm_block,
        "missing residual around the attention": pre_without_first_residual,
        "missing residual around the feed-forward network": pre_without_second_residual,
        "second residual from the input": pre_residual_from_input,
        "one norm used twice": rewired(right.pre_norm_block, SAME_NORM),
        "feed-forward before attention": rewired(right.pre_norm_block, EXCHANGED_LAYERS),
        "residual from the normalised input": pre_normalised_residual,
        "input modified in place": pre_in_place,
    },
}
