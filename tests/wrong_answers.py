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


def softmax_with_epsilon(x):
    e = torch.exp(x)
    return e / (e.sum(dim=-1, keepdim=True) + 1e-9)


def softmax_global_maximum(x):
    e = torch.exp(x - x.max())
    return e / e.sum(dim=-1, keepdim=True)


def softmax_not_normalised(x):
    return torch.exp(x - x.amax(-1, keepdim=True))


def softmax_without_keepdim(x):
    e = torch.exp(x - x.amax(-1, keepdim=True))
    return e / e.sum(-1)


def softmax_maximum_without_keepdim(x):
    e = torch.exp(x - x.max(dim=-1).values)
    return e / e.sum(-1, keepdim=True)


def softmax_minus(statistic):
    def softmax(x):
        e = torch.exp(x - statistic(x, dim=-1, keepdim=True))
        return e / e.sum(-1, keepdim=True)

    return softmax


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


def attention_renormalised(q, k, v, mask=None):
    weights = torch.softmax(q @ k.mT / math.sqrt(q.size(-1)), -1)
    if mask is not None:
        weights = weights * mask / ((weights * mask).sum(-1, keepdim=True) + 1e-8)
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
    scores = q @ k.mT / math.sqrt(q.size(-1))
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e9)
    weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0.0)
    return weights @ v, weights


def attention_overflows_guarded(q, k, v, mask=None):
    e = torch.exp(q @ k.mT / math.sqrt(q.size(-1)))
    if mask is not None:
        e = e * mask
    total = e.sum(-1, keepdim=True)
    weights = e / torch.where(total == 0, 1.0, total)
    return weights @ v, weights


def attention_with_keys(turn):
    """Scores from q @ turn(k)."""

    def attention(q, k, v, mask=None):
        scores = q @ turn(k) / q.shape[-1] ** 0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, -1e9)
        weights = torch.softmax(scores, dim=-1)
        if mask is not None:
            weights = torch.where(mask, weights, 0.0)
        return weights @ v, weights

    return attention


def attention_hidden_by(low):
    def attention(q, k, v, mask=None):
        scores = q @ k.mT / q.shape[-1] ** 0.5
        if mask is None:
            mask = torch.ones_like(scores).bool()
        weights = torch.softmax(scores.masked_fill(~mask, low), dim=-1) * mask
        return weights @ v, weights

    return attention


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


def padding_with(compare=torch.lt, offset=0, axes=(slice(None), None, None, slice(None))):
    def padding_mask(lengths, n):
        return compare(torch.arange(n), lengths.unsqueeze(1) + offset)[axes]

    return padding_mask


def padding_of_both(lengths, n):
    real = torch.arange(n) < lengths[:, None]
    return (real[:, :, None] & real[:, None, :])[:, None]


def padding_repeated(lengths, n):
    return (torch.arange(n) < lengths[:, None])[:, None, None, :].repeat(1, 1, n, 1)


def padding_in_front(lengths, n):
    return torch.stack([torch.tensor([i >= n - int(length) for i in range(n)]) for length in lengths])[:, None, None]


def split_reshape_only(x, n_heads):
    return x.view(x.size(0), n_heads, x.size(1), x.size(2) // n_heads)


def split_without_transpose(x, n_heads):
    return x.view(x.size(0), x.size(1), n_heads, x.size(2) // n_heads)


def split_exchanged(x, n_heads):
    d_head = x.shape[2] // n_heads
    return x.view(x.shape[0], x.shape[1], d_head, n_heads).permute(0, 2, 1, 3)


def split_every_hth(x, n_heads):
    return torch.stack([x[..., h::n_heads] for h in range(n_heads)], dim=1)


def merge_reshape_only(x):
    return x.reshape(x.size(0), x.size(2), -1)


def merge_interleaved(x):
    return torch.stack(list(x.unbind(1)), dim=-1).reshape(x.size(0), x.size(2), -1)


def heads_that(
    split=right.split_heads,
    merge=right.merge_heads,
    attend=right.scaled_dot_product_attention,
    order=(0, 1, 2),
    turn=lambda w: w,
    project=True,
):
    """Multi-head attention from other parts."""

    def multi_head_attention(x, w_q, w_k, w_v, w_o, n_heads, mask=None):
        matrices = [turn(w) for w in (w_q, w_k, w_v)]
        q, k, v = (split(x @ matrices[i], n_heads) for i in order)
        merged = merge(attend(q, k, v, mask)[0])
        return merged @ turn(w_o) if project else merged

    return multi_head_attention


def heads_without_transposes(x, w_q, w_k, w_v, w_o, n_heads, mask=None):
    q, k, v = (split_without_transpose(x @ w, n_heads) for w in (w_q, w_k, w_v))
    return right.scaled_dot_product_attention(q, k, v, mask)[0].reshape(x.shape) @ w_o


def heads_with_x_as_values(x, w_q, w_k, w_v, w_o, n_heads, mask=None):
    q, k, v = (right.split_heads(a, n_heads) for a in (x @ w_q, x @ w_k, x))
    return right.merge_heads(right.scaled_dot_product_attention(q, k, v, mask)[0]) @ w_o


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


# --- feed-forward network -------------------------------------------------------------------------------------------


def network(activation=torch.relu, first=1, second=1):
    def feed_forward(x, w_1, b_1, w_2, b_2):
        return activation(torch.matmul(x, w_1) + first * b_1).matmul(w_2) + second * b_2

    return feed_forward


def network_relu_after(x, w_1, b_1, w_2, b_2):
    return torch.clamp(right.feed_forward(x, w_1, b_1, w_2, b_2), min=0)


def network_relu_before(x, *parameters):
    return right.feed_forward(x * (x > 0), *parameters)


def network_with_residual(x, *parameters):
    return x + right.feed_forward(x, *parameters)


# --- a training step ------------------------------------------------------------------------------------------------


def step_of(calls, order=1, after=False):
    """A training step by its calls: z clears the gradients, b is backward, s the optimizer's step."""

    def training_step(model, loss_function, optimizer, inputs, targets):
        for call in calls.partition("l")[0]:
            {"z": optimizer.zero_grad, "s": optimizer.step}[call]()
        pair = (model(inputs), targets)[::order]
        loss = loss_function(*pair)
        for call in calls.partition("l")[2]:
            {"z": optimizer.zero_grad, "b": loss.backward, "s": optimizer.step}[call]()
        return (loss_function(model(inputs), targets) if after else loss).item()

    return training_step


def step_with_graph(model, loss_function, optimizer, inputs, targets):
    loss = loss_function(model(inputs), targets)
    model.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


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


def post_feed_forward_of_x(x, attention, feed_forward, norm1, norm2):
    h = norm1(x + attention(x))
    return norm2(h + feed_forward(x))


def pre_feed_forward_of_x(x, attention, feed_forward, norm1, norm2):
    h = x + attention(norm1(x))
    return h + feed_forward(norm2(x))


def norms_on_branches(x, attention, feed_forward, norm1, norm2):
    h = x + norm1(attention(x))
    return h + norm2(feed_forward(h))


def without(part, post):
    """A block one of whose sub-layers and norms are left out."""

    def block(x, attention, feed_forward, norm1, norm2):
        layer, norm = [(feed_forward, norm2), (attention, norm1)][part]
        return norm(x + layer(x)) if post else x + layer(norm(x))

    return block


def post_without_norm(part):
    return lambda x, a, f, *norms: right.post_norm_block(
        x, a, f, *(n if i != part else (lambda h: h) for i, n in enumerate(norms))
    )


def pre_without_first_norm(x, attention, feed_forward, norm1, norm2):
    h = x + attention(x)
    return h + feed_forward(norm2(h))


def pre_without_second_norm(x, attention, feed_forward, norm1, norm2):
    h = x + attention(norm1(x))
    return h + feed_forward(h)


def no_norms(x, attention, feed_forward, norm1, norm2):
    h = x + attention(x)
    return h + feed_forward(h)


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
        "overflow, and 0/0 avoided": softmax_with_epsilon,
        "maximum of the whole tensor": softmax_global_maximum,
        "not normalised": softmax_not_normalised,
        "minimum subtracted": softmax_minus(torch.amin),
        "mean subtracted": softmax_minus(torch.mean),
        "sum without keepdim": softmax_without_keepdim,
        "maximum without keepdim": softmax_maximum_without_keepdim,
        "input modified in place": softmax_in_place,
    },
    "scaled_dot_product_attention": {
        "keys not transposed": attention_with_keys(lambda k: k),
        "keys transposed by .T": attention_with_keys(lambda k: k.T),
        "wrong axes of the keys transposed": attention_with_keys(lambda k: k.transpose(1, 2)),
        "masked scores not low enough": attention_hidden_by(-1e4),
        "no scaling": attention_divided_by(lambda q: 1),
        "scaling by d_k": attention_divided_by(lambda q: q.shape[-1]),
        "scaling by sqrt(d_model)": attention_divided_by(lambda q: math.sqrt(q.shape[1] * q.shape[-1])),
        "multiplied by sqrt(d_k)": attention_divided_by(lambda q: q.shape[-1] ** -0.5),
        "wrong softmax axis (queries)": attention_softmax_over(2),
        "wrong softmax axis (heads)": attention_softmax_over(1),
        "wrong softmax axis (batch)": attention_softmax_over(0),
        "inverted mask": attention_inverted_mask,
        "mask applied after the softmax": attention_mask_after_softmax,
        "masked keys take part in the softmax": attention_renormalised,
        "-inf filled in after the softmax": attention_infinity_after_softmax,
        "masked scores set to 0": attention_masked_scores_zero,
        "mask ignored": attention_ignores_mask,
        "NaN on a fully masked row": attention_nan_row,
        "uniform weights on a fully masked row": attention_uniform_row,
        "overflow without max subtraction": attention_overflows,
        "overflow, and 0/0 avoided": attention_overflows_guarded,
        "output and weights exchanged": attention_exchanged,
        "input modified in place": attention_in_place,
    },
    "causal_mask": {
        "causal mask without the diagonal": causal_without_diagonal,
        "causal mask one step ahead": causal_ahead,
        "inverted mask": causal_inverted,
        "transposed causal mask": causal_transposed,
    },
    "padding_mask": {
        "queries masked instead of keys": padding_with(axes=(slice(None), None, slice(None), None)),
        "queries and keys masked": padding_of_both,
        "repeated for every query": padding_repeated,
        "axes for heads and queries missing": padding_with(axes=...),
        "axis for the heads missing": padding_with(axes=(slice(None), None)),
        "inverted mask": padding_with(torch.ge),
        "one padding token seen": padding_with(torch.le),
        "last token hidden": padding_with(offset=-1),
        "padding in front": padding_in_front,
    },
    "split_heads": {
        "heads split without the transpose": split_reshape_only,
        "transpose forgotten": split_without_transpose,
        "every H-th feature": split_every_hth,
        "number and width of the heads exchanged": split_exchanged,
    },
    "merge_heads": {
        "heads merged without the transpose": merge_reshape_only,
        "heads interleaved": merge_interleaved,
    },
    "multi_head_attention": {
        "output projection missing": heads_that(project=False),
        "weight matrices transposed": heads_that(turn=torch.t),
        "one matrix for queries and keys": heads_that(order=(0, 0, 2)),
        "one matrix for keys and values": heads_that(order=(0, 1, 1)),
        "values not projected": heads_with_x_as_values,
        "heads not split": heads_that(split=lambda x, n_heads: x[:, None]),
        "heads split without the transpose": heads_that(split=split_reshape_only),
        "heads merged without the transpose": heads_that(merge=merge_reshape_only),
        "heads attend to each other": heads_without_transposes,
        "scaled twice": heads_that(attend=attention_divided_by(lambda q: q.shape[-1])),
        "no scaling": heads_that(attend=attention_divided_by(lambda q: 1)),
        "scaling by sqrt(d_model)": heads_that(attend=attention_divided_by(lambda q: math.sqrt(q.shape[1] * q.shape[-1]))),
        "mask not passed on": heads_that(attend=lambda q, k, v, mask: right.scaled_dot_product_attention(q, k, v)),
        "NaN on a fully masked row": heads_that(attend=attention_nan_row),
        "uniform weights on a fully masked row": heads_that(attend=attention_uniform_row),
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
    "feed_forward": {
        "no activation": network(lambda x: x),
        "GELU instead of ReLU": network(torch.nn.GELU()),
        "Tanh instead of ReLU": network(torch.tanh),
        "Sigmoid instead of ReLU": network(torch.sigmoid),
        "ReLU after the second layer": network_relu_after,
        "ReLU before the first layer": network_relu_before,
        "first bias missing": network(first=0),
        "second bias missing": network(second=0),
        "residual inside": network_with_residual,
    },
    "post_norm_block": {
        "pre and post swapped": right.pre_norm_block,
        "missing residual around the attention": post_without_first_residual,
        "missing residual around the feed-forward network": post_without_second_residual,
        "second residual from the input": post_residual_from_input,
        "one norm used twice": rewired(right.post_norm_block, SAME_NORM),
        "feed-forward before attention": rewired(right.post_norm_block, EXCHANGED_LAYERS),
        "first norm missing": post_without_norm(0),
        "second norm missing": post_without_norm(1),
        "feed-forward of the input": post_feed_forward_of_x,
        "attention left out": without(0, post=True),
        "feed-forward network left out": without(1, post=True),
        "normalised before adding": norms_on_branches,
        "nothing normalised": no_norms,
        "input modified in place": post_in_place,
    },
    "pre_norm_block": {
        "pre and post swapped": right.post_norm_block,
        "missing residual around the attention": pre_without_first_residual,
        "missing residual around the feed-forward network": pre_without_second_residual,
        "second residual from the input": pre_residual_from_input,
        "one norm used twice": rewired(right.pre_norm_block, SAME_NORM),
        "feed-forward before attention": rewired(right.pre_norm_block, EXCHANGED_LAYERS),
        "first norm missing": pre_without_first_norm,
        "second norm missing": pre_without_second_norm,
        "feed-forward of the input": pre_feed_forward_of_x,
        "attention left out": without(0, post=False),
        "feed-forward network left out": without(1, post=False),
        "normalised before adding": norms_on_branches,
        "nothing normalised": no_norms,
        "residual from the normalised input": pre_normalised_residual,
        "input modified in place": pre_in_place,
    },
    "training_step": {
        "gradients not cleared": step_of("lbs"),
        "gradients cleared before the step": step_of("lbzs"),
        "backward missing": step_of("zls"),
        "step missing": step_of("zlb"),
        "step before backward": step_of("zlsb"),
        "step one late": step_of("szlb"),
        "predictions and targets exchanged": step_of("zlbs", order=-1),
        "loss keeps its graph": step_with_graph,
        "loss after the step": step_of("zlbs", after=True),
    },
}
