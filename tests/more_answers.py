"""Answers that students might write: RIGHT ones in unusual ways, and WRONG ones with what must be said about them.

Each stands under its exercise. Of a wrong answer the names of the mistakes are given, in the order in which they are
said. Nothing here may be misjudged: no right answer fails, no wrong one passes, and no message names a cause that is not
there.
"""

import functools
import math
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import right_answers as right
from wrong_answers import attention_hidden_by, heads_that, network, step_of

# --- softmax --------------------------------------------------------------------------------------------------------


def softmax_by_rows(x):
    rows = [row - row.max() for row in x.reshape(-1, x.shape[-1])]
    return torch.stack([row.exp() / row.exp().sum() for row in rows]).reshape(x.shape)


def softmax_by_numbers(x):
    result = torch.zeros_like(x)
    flat, out = x.reshape(-1, x.shape[-1]), result.view(-1, x.shape[-1])
    for i in range(flat.shape[0]):
        total = sum(torch.exp(other - max(flat[i])) for other in flat[i])
        for j in range(flat.shape[1]):
            out[i, j] = torch.exp(flat[i, j] - max(flat[i])) / total
    return result


def softmax_recursive(x):
    if x.dim() > 2:
        return torch.stack([softmax_recursive(part) for part in x])
    return (x - x.logsumexp(1)[:, None]).exp()


def softmax_sorted(x):
    top = x.sort(dim=-1, descending=True).values[..., :1]
    return (x - top).exp().div((x - top).exp().sum(-1, keepdim=True))


def softmax_in_numbers(x):
    return torch.tensor([[math.exp(a - max(row)) for a in row] for row in x.tolist()])


def softmax_in_place_of_own(x):
    x = x - x.max(-1, keepdim=True)[0]
    x = x.exp_()
    return x / x.sum(-1, keepdim=True)


def softmax_that_stops_autograd(x):
    e = (x - x.amax(-1, keepdim=True)).exp()
    e /= e.sum(-1, keepdim=True)
    return e


def softmax_printing(x):
    print("x is", x.shape)
    e = x.exp()
    return e / e.sum(-1, keepdim=True)


class SoftmaxModule(nn.Module):
    def forward(self, x):
        e = (x - x.amax(-1, keepdim=True)).exp()
        return F.normalize(e, p=1, dim=-1)


class SoftmaxObject:
    def __call__(self, x):
        return right.softmax(x) / x.size[0]


SOFTMAX_RIGHT = {
    "module": SoftmaxModule(),
    "partial": partial(lambda dim, x: right.softmax(x), -1),
    "cached": functools.lru_cache(right.softmax),
    "by rows": softmax_by_rows,
    "by numbers": softmax_by_numbers,
    "recursive": softmax_recursive,
    "sorted": softmax_sorted,
    "own tensor in place": softmax_in_place_of_own,
    "log space": lambda x: (x - torch.logsumexp(x, -1, keepdim=True)).exp(),
    "logaddexp": lambda x: (x - torch.logcumsumexp(x, -1)[..., -1:]).exp(),
    "double": lambda x: right.softmax(x.double()),
    "maximum detached": lambda x: (e := (x - x.detach().amax(-1, True)).exp()) / e.sum(-1, True),
    "powers of two": lambda x: (e := torch.exp2((x - x.amax(-1, True)) / math.log(2))) / e.sum(-1, True),
    "tiny epsilon": lambda x: (e := (x - x.amax(-1, True)).exp()) / (e.sum(-1, True) + 1e-9),
    "moved axis": lambda x: right.softmax(x).movedim(-1, 0).movedim(0, -1),
    "einsum": lambda x: (e := (x - x.amax(-1, True)).exp()) * (1 / torch.einsum("...i->...", e))[..., None],
    "default argument": lambda x, dim=-1: (e := (x - x.amax(dim, True)).exp()) / e.sum(dim, True),
}
SOFTMAX_WRONG = {
    "object": (SoftmaxObject(), ["brackets for parentheses"]),
    "minimum": (lambda x: (e := (x - x.amin(-1, True)).exp()) / e.sum(-1, True), ["minimum subtracted"]),
    "mean": (lambda x: (e := (x - x.mean(-1, True)).exp()) / e.sum(-1, True), ["mean subtracted"]),
    "sum detached": (lambda x: (e := (x - x.amax(-1, True)).exp()) / e.sum(-1, True).detach(), ["wrong gradient"]),
    "rounded to 4": (lambda x: right.softmax(x).round(decimals=4), ["unknown"]),
    "rounded to 6": (lambda x: right.softmax(x).round(decimals=6), ["no gradient"]),
    "rounded to 2": (lambda x: right.softmax(x).round(decimals=2), ["unknown"]),
    "no values": (lambda x: (e := torch.exp(x - x.max(dim=-1))) / e.sum(-1, True), ["max without values"]),
    "no values, later": (lambda x: torch.exp(x.max(-1, keepdim=True)), ["max without values"]),
    "max without keepdim": (lambda x: (e := (x - x.max(-1).values).exp()) / e.sum(-1, True), ["maximum without keepdim"]),
    "no keepdim at all": (
        lambda x: (e := (x - x.max(-1).values).exp()) / e.sum(-1),
        ["sum without keepdim", "maximum without keepdim"],
    ),
    "math.exp": (lambda x: math.exp(x) / math.exp(x).sum(), ["one number from a tensor"]),
    "numbers": (softmax_in_numbers, ["Python error"]),
    "missing import": (lambda x: Functional.relu(x), ["unknown name"]),  # noqa: F821
    "in place": (softmax_that_stops_autograd, ["in-place change stops autograd"]),
    "torch's": (lambda x: torch.softmax(x, -1), ["torch's own function"]),
    "torch's module": (nn.Softmax(dim=-1), ["torch's own function"]),
    "torch's method": (lambda x: x.softmax(dim=-1), ["torch's own function"]),
    "torch's logarithm": (lambda x: F.log_softmax(x, -1).exp(), ["torch's own function"]),
    "torch's, wrong axis": (lambda x: x.softmax(-2), ["torch's own function", "wrong softmax axis (dim=-2)"]),
    "inverse of differences": (lambda x: 1 / (x[..., None, :] - x[..., :, None]).exp().sum(-1), ["NaN gradient"]),
    "prints": (softmax_printing, ["overflow without max subtraction"]),
    "logarithm": (lambda x: right.softmax(x).log(), ["unknown"]),
    "clamped": (lambda x: (e := x.clamp(-80, 80).exp()) / e.sum(-1, True), ["unknown"]),
    "absolute maximum": (lambda x: (e := (x - x.abs().amax(-1, True)).exp()) / e.sum(-1, True), ["NaN"]),
    "typo": (lambda x: x.exq(), ["no such attribute"]),
    "typo in torch": (lambda x: torch.expp(x), ["no such attribute"]),
    "no axis": (lambda x: x.sum(7), ["no such axis"]),
    "shape called": (lambda x: x.view(x.shape(0), -1), ["shape called like a function"]),
    "size in brackets": (lambda x: x.view(x.size[0], -1), ["brackets for parentheses"]),
    "no return": (lambda x: None, ["returns None"]),
    "numpy inside": (lambda x: torch.from_numpy(np.exp(x.numpy())) / 2, ["unknown"]),
    "list": (lambda x: right.softmax(x).tolist(), ["not a tensor"]),
    "a comma too many": (lambda x: (right.softmax(x),), ["not a tensor"]),
    "list of a tensor": (lambda x: [right.softmax(x)], ["not a tensor"]),
    "transposed": (lambda x: right.softmax(x).transpose(0, -1), ["wrong shape"]),
    "memory": (lambda x: torch.zeros(10**13), ["too much memory"]),
    "memory of Python": (lambda x: [0] * 10**14, ["too much memory"]),
    "keyboard": (lambda x: exec("raise KeyboardInterrupt"), ["interrupt"]),
    "keepdim without dim": (lambda x: x - x.max(keepdim=True), ["wrong arguments"]),
    "an argument missing": (lambda x: x - torch.exp(), ["wrong arguments"]),
    "if a tensor": (lambda x: x if x > 0 else -x, ["tensor as a condition"]),
    "two axes given": (lambda x, dim: right.softmax(x), ["other arguments"]),
}

# --- attention ------------------------------------------------------------------------------------------------------


def attention_early_return(q, k, v, mask=None):
    if mask is not None and not mask.any():
        return torch.zeros(*q.shape[:-1], v.shape[-1]), torch.zeros(*q.shape[:-1], k.shape[-2])
    return right.scaled_dot_product_attention(q, k, v, mask)


def attention_by_rows(q, k, v, mask=None):
    b, h, tq, tk = *q.shape[:3], k.shape[2]
    weights = torch.zeros(b, h, tq, tk)
    allowed = torch.ones(b, h, tq, tk, dtype=torch.bool) if mask is None else mask.expand(b, h, tq, tk)
    for i in range(b):
        for j in range(h):
            for t in range(tq):
                seen = allowed[i, j, t]
                if seen.any():
                    scores = k[i, j, seen] @ q[i, j, t] / math.sqrt(q.shape[-1])
                    weights[i, j, t, seen] = torch.softmax(scores, 0)
    return weights @ v, weights


def attention_einsum(q, k, v, mask=None):
    scores = torch.einsum("bhqd,bhkd->bhqk", q, k) * q.size(-1) ** -0.5
    if mask is not None:
        scores = scores + (~mask) * -1e9
    weights = scores.softmax(-1)
    weights = weights if mask is None else weights.where(mask, torch.zeros(()))
    return torch.einsum("bhqk,bhkd->bhqd", weights, v), weights


def attention_renormalised(q, k, v, mask=None):
    weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
    if mask is not None:
        weights = weights * mask
        total = weights.sum(-1, keepdim=True)
        weights = weights / torch.where(total > 0, total, 1.0)
    return weights @ v, weights


def attention_renormalised_by_epsilon(q, k, v, mask=None):
    weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
    if mask is not None:
        weights = torch.where(mask, weights, 0.0)
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-9)
    return weights @ v, weights


def attention_of_rows_with_keys(q, k, v, mask=None):
    scores = (q / q.shape[-1] ** 0.5) @ k.transpose(2, 3)
    if mask is None:
        mask = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    any_key = mask.any(dim=-1, keepdim=True).expand(*scores.shape[:-1], 1)
    scores = scores.masked_fill(~mask & any_key, float("-inf"))
    weights = scores.softmax(dim=-1).masked_fill(~mask, 0.0)
    return weights.matmul(v), weights


def attention_flattened(q, k, v, mask=None):
    b, h, tq, _ = q.shape
    scores = torch.bmm(q.flatten(0, 1), k.flatten(0, 1).mT).view(b, h, tq, -1) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = torch.where(mask, scores, torch.finfo(scores.dtype).min)
    weights = torch.softmax(scores, -1)
    return (weights @ v, weights) if mask is None else ((weights * mask) @ v, weights * mask)


def attention_by_torch(q, k, v, mask=None):
    _, weights = right.scaled_dot_product_attention(q, k, v, mask)
    if mask is None:
        return F.scaled_dot_product_attention(q, k, v), weights
    nowhere = ~mask.expand(weights.shape).any(-1, keepdim=True)  # such a row is NaN in torch before 2.5
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask | nowhere).masked_fill(nowhere, 0.0), weights


def attention_log_space(q, k, v, mask=None):
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    low = scores if mask is None else scores.masked_fill(~mask, -1e30)
    weights = (low - low.logsumexp(-1, keepdim=True)).exp()
    weights = weights if mask is None else weights * mask.to(weights.dtype)
    return weights @ v, weights


def attention_over_queries_and_nan(q, k, v, mask=None):
    """The softmax over the queries, as in the README, and masked rows set to 0 by nan_to_num."""
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(-2).nan_to_num(0.0)
    return weights @ v, weights


def attention_over_queries_and_early_return(q, k, v, mask=None):
    if mask is not None and not mask.any():
        return torch.zeros(*q.shape[:-1], v.shape[-1]), torch.zeros(*q.shape[:-1], k.shape[-2])
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e9)
    weights = scores.softmax(-2)
    return weights @ v, weights


def attention_scores_only(scores_of, guard=True):
    def attention(q, k, v, mask=None):
        scores = scores_of(q, k)
        if mask is not None:
            scores = scores.masked_fill(~mask, -1e9)
        weights = scores.softmax(-1)
        return weights @ v, weights if mask is None or not guard else weights * mask

    return attention


def attention_lowered_by(amount):
    def attention(q, k, v, mask=None):
        mask = torch.ones(1, dtype=torch.bool) if mask is None else mask
        weights = (q @ k.mT / q.shape[-1] ** 0.5 - amount * (~mask)).softmax(-1) * mask
        return weights @ v, weights

    return attention


def attention_that(q, k, v, mask=None, change=None):
    return right.scaled_dot_product_attention(*change(q, k, v), mask)


def attention_masks_always(q, k, v, mask=None):
    weights = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(mask == 0, -1e9).softmax(-1)
    return weights @ v, weights


def attention_inverts_none(q, k, v, mask=None):
    weights = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, -1e9).softmax(-1)
    return weights @ v, weights


def attention_if_mask(q, k, v, mask=None):
    return right.scaled_dot_product_attention(q, k, v, mask if mask else None)


def attention_minus_mask(q, k, v, mask=None):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    weights = (scores if mask is None else scores - (1 - mask) * 1e9).softmax(-1)
    return weights @ v, weights


def attention_sqrt_of_an_int(q, k, v, mask=None):
    weights = (q @ k.mT / torch.sqrt(q.shape[-1])).softmax(-1)
    return weights @ v, weights


def attention_added_ones(q, k, v, mask=None):
    """The bool mask added to the scores, as in "+ mask"."""
    scores = q @ k.mT / q.shape[-1] ** 0.5
    weights = (scores if mask is None else scores + mask).softmax(-1)
    return weights @ v, weights


def attention_without_numbers(q, k, v, mask=None):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(mask.float(), -1e9)
    weights = scores.softmax(-1)
    return weights @ v, weights


ATTENTION_RIGHT = {
    "early return": attention_early_return,
    "by rows": attention_by_rows,
    "einsum": attention_einsum,
    "renormalised": attention_renormalised,
    "-inf where there are keys": attention_of_rows_with_keys,
    "flattened": attention_flattened,
    "with torch's attention": attention_by_torch,
    "log space": attention_log_space,
    "list": lambda q, k, v, mask=None: list(right.scaled_dot_product_attention(q, k, v, mask)),
    "double": lambda q, k, v, mask=None: right.scaled_dot_product_attention(q.double(), k.double(), v.double(), mask),
    "half each": partial(attention_that, change=lambda q, k, v: (q / 2, k * 2, v)),
}
ATTENTION_WRONG = {
    "README's showcase, NaN to 0": (attention_over_queries_and_nan, ["wrong softmax axis (queries)"]),
    "README's showcase, early return": (
        attention_over_queries_and_early_return,
        ["wrong softmax axis (queries)", "uniform weights on a fully masked row"],
    ),
    "k untransposed": (attention_scores_only(lambda q, k: q @ k / q.shape[-1] ** 0.5), ["keys not transposed"]),
    "k.T": (attention_scores_only(lambda q, k: q @ k.T / q.shape[-1] ** 0.5), ["keys transposed by .T"]),
    "k.transpose(1, 2)": (
        attention_scores_only(lambda q, k: q @ k.transpose(1, 2) / q.shape[-1] ** 0.5),
        ["wrong axes of the keys transposed"],
    ),
    "-100 filled in": (attention_hidden_by(-100.0), ["masked scores not low enough"]),
    "-20 added": (attention_lowered_by(20.0), ["masked keys take part in the softmax"]),
    "renormalised with an epsilon": (attention_renormalised_by_epsilon, ["masked keys take part in the softmax"]),
    "mask needed": (attention_masks_always, ["None is used"]),
    "mask inverted when None": (attention_inverts_none, ["None is used"]),
    "if mask": (attention_if_mask, ["tensor as a condition"]),
    "1 - mask": (attention_minus_mask, ["minus a mask"]),
    "torch.sqrt(d_k)": (attention_sqrt_of_an_int, ["number instead of a tensor"]),
    "mask of floats": (attention_without_numbers, ["mask that is not bool"]),
    "scores + mask": (attention_added_ones, ["unknown"]),
    "v detached": (partial(attention_that, change=lambda q, k, v: (q, k, v.detach())), ["no gradient"]),
    "q detached": (partial(attention_that, change=lambda q, k, v: (q.data, k, v)), ["no gradient"]),
    "half of k detached": (partial(attention_that, change=lambda q, k, v: (q, (k + k.detach()) / 2, v)), ["wrong gradient"]),
    "cosine": (
        attention_scores_only(lambda q, k: F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT),
        ["unknown"],
    ),
    "squared": (attention_scores_only(lambda q, k: (q @ k.mT).square() / q.shape[-1] ** 0.5), ["unknown"]),
    "only the output": (lambda q, k, v, mask=None: attention_einsum(q, k, v, mask)[0], ["not a tuple"]),
    "weights of one head": (
        lambda q, k, v, mask=None: (lambda o, w: (o, w[:, 0]))(*right.scaled_dot_product_attention(q, k, v, mask)),
        ["wrong shape"],
    ),
    "no mask argument": (lambda q, k, v: right.scaled_dot_product_attention(q, k, v), ["other arguments"]),
}

# --- masks ----------------------------------------------------------------------------------------------------------


def causal_by_loop(n):
    mask = torch.zeros(n, n, dtype=torch.bool)
    for i in range(n):
        for j in range(i + 1):
            mask[i, j] = True
    return mask


def causal_of_a_table(n):
    return torch.ones(64, 64, dtype=torch.bool).tril()[:n, :n]


def padding_by_loop(lengths, n):
    mask = torch.zeros(len(lengths), 1, 1, n, dtype=torch.bool)
    for i, length in enumerate(lengths.tolist()):
        mask[i, :, :, :length] = True
    return mask


def padding_by_slices(lengths, n):
    mask = torch.zeros(len(lengths), 1, 1, n, dtype=torch.bool)
    for i, length in enumerate(lengths):
        mask[i, 0, 0, : length - 1] = True
    return mask


CAUSAL_RIGHT = {
    "loop": causal_by_loop,
    "cumulative": lambda n: torch.eye(n).cumsum(0).bool().mT.flip(0, 1) if n > 10**9 else torch.eye(n).cumsum(0) > 0,
    "indices": lambda n: torch.tril_indices(n, n).T.tolist() and torch.ones(n, n).tril() > 0,
    "list": lambda n: torch.tensor([[j <= i for j in range(n)] for i in range(n)]),
    "not the future": lambda n: ~torch.triu(torch.ones(n, n, dtype=torch.bool), diagonal=1),
    "infinite": lambda n: nn.Transformer.generate_square_subsequent_mask(n) == 0,
}
CAUSAL_WRONG = {
    "table of 64": (causal_of_a_table, ["wrong shape"]),
    "floats": (lambda n: torch.ones(n, n).tril(), ["wrong dtype"]),
    "infinite": (lambda n: nn.Transformer.generate_square_subsequent_mask(n), ["wrong dtype"]),
    "batch axis": (lambda n: torch.ones(1, n, n).tril().bool(), ["wrong shape"]),
    "numpy": (lambda n: np.tril(np.ones((n, n), dtype=bool)), ["NumPy array"]),
    "everything": (lambda n: torch.ones(n, n).bool(), ["unknown"]),
    "window": (lambda n: torch.ones(n, n).tril().triu(-2).bool(), ["unknown"]),
}
PADDING_RIGHT = {
    "loop": padding_by_loop,
    "view": lambda lengths, n: torch.arange(n).view(1, 1, 1, n) < lengths.view(-1, 1, 1, 1),
    "cumulative": lambda lengths, n: (torch.ones(len(lengths), n).cumsum(1) <= lengths[:, None])[:, None, None],
    "stacked": lambda lengths, n: torch.stack([(torch.arange(n) < length)[None, None] for length in lengths]),
    "one-hot": lambda lengths, n: ~F.one_hot(lengths, n + 1)[:, None, None, :n].cumsum(-1).bool(),
}
PADDING_WRONG = {
    "floats": (lambda lengths, n: padding_by_loop(lengths, n).float(), ["wrong dtype"]),
    "-10000": (lambda lengths, n: torch.where(padding_by_loop(lengths, n), 0.0, -10000.0), ["wrong dtype"]),
    "queries": (lambda lengths, n: padding_by_loop(lengths, n).mT, ["queries masked instead of keys"]),
    "inverted queries": (
        lambda lengths, n: ~padding_by_loop(lengths, n).transpose(2, 3),
        ["queries masked instead of keys", "inverted mask"],
    ),
    "longest for all": (lambda lengths, n: padding_by_loop(lengths.max().expand(len(lengths)), n), ["unknown"]),
    "longest as n": (lambda lengths, n: padding_by_loop(lengths, int(lengths.max())), ["wrong shape"]),
    "off by one, three axes": (
        lambda lengths, n: (torch.arange(n) <= lengths[:, None])[:, None],
        ["axis for the heads missing", "one padding token seen"],
    ),
    "one token less": (padding_by_slices, ["last token hidden"]),
    "no broadcasting": (lambda lengths, n: torch.arange(n) < lengths, ["sizes do not fit"]),
}

# --- heads ----------------------------------------------------------------------------------------------------------


def split_by_loop(x, n_heads):
    d_head = x.shape[-1] // n_heads
    return torch.stack([x[:, :, h * d_head : (h + 1) * d_head] for h in range(n_heads)], dim=1)


def heads_by_loop(x, w_q, w_k, w_v, w_o, n_heads, mask=None):
    d_head, heads = x.shape[-1] // n_heads, []
    for h in range(n_heads):
        at = slice(h * d_head, (h + 1) * d_head)
        q, k, v = (x @ w[:, at] for w in (w_q, w_k, w_v))
        scores = q @ k.mT / math.sqrt(d_head)
        if mask is not None:
            own = mask.expand(x.shape[0], n_heads, *scores.shape[1:])[:, h]
            heads.append(torch.softmax(scores.masked_fill(~own, -1e9), -1).masked_fill(~own, 0) @ v)
        else:
            heads.append(torch.softmax(scores, -1) @ v)
    return torch.cat(heads, dim=-1) @ w_o


def heads_by_sums(x, w_q, w_k, w_v, w_o, n_heads, mask=None):
    q, k, v = (right.split_heads(x @ w, n_heads) for w in (w_q, w_k, w_v))
    attended = right.scaled_dot_product_attention(q, k, v, mask)[0]
    parts = w_o.view(n_heads, -1, w_o.shape[-1])
    return torch.einsum("bhtd,hdm->btm", attended, parts)


SPLIT_RIGHT = {
    "loop": split_by_loop,
    "chunk": lambda x, n_heads: torch.stack(x.chunk(n_heads, dim=-1), dim=1),
    "unflatten": lambda x, n_heads: x.unflatten(2, (n_heads, -1)).permute(0, 2, 1, 3),
    "split": lambda x, n_heads: torch.stack(x.split(x.shape[2] // n_heads, 2), 1),
    "transposed first": lambda x, n_heads: x.mT.reshape(x.shape[0], n_heads, -1, x.shape[1]).mT,
}
SPLIT_WRONG = {
    "/ for //": (lambda x, n_heads: x.view(*x.shape[:2], n_heads, x.shape[2] / n_heads).transpose(1, 2), ["float as a size"]),
    "reshape / for //": (lambda x, n_heads: x.reshape(*x.shape[:2], n_heads, x.shape[-1] / n_heads), ["float as a size"]),
    "range of a float": (lambda x, n_heads: list(range(x.shape[2] / n_heads)), ["float as a size"]),
    "view after transpose": (lambda x, n_heads: x.mT.view(x.shape[0], n_heads, x.shape[1], -1), ["view after transpose"]),
    "too many numbers": (lambda x, n_heads: x.view(x.shape[0], n_heads + 1, x.shape[1], -1), ["reshape to another size"]),
    "detached": (lambda x, n_heads: right.split_heads(x.detach(), n_heads), ["no gradient"]),
    "last two axes": (lambda x, n_heads: right.split_heads(x, n_heads).mT, ["wrong shape"]),
}
MERGE_RIGHT = {
    "cat": lambda x: torch.cat(list(x.unbind(1)), dim=-1),
    "reshape": lambda x: x.permute(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1),
    "loop": lambda x: torch.stack([torch.cat([x[:, h, t] for h in range(x.shape[1])], -1) for t in range(x.shape[2])], 1),
    "einsum": lambda x: torch.einsum("bhtd->bthd", x).flatten(2),
}
MERGE_WRONG = {
    "view after transpose": (lambda x: x.transpose(1, 2).view(x.shape[0], x.shape[2], -1), ["view after transpose"]),
    "mean": (lambda x: x.mean(1), ["wrong shape"]),
    "heads left": (lambda x: x.transpose(1, 2), ["wrong shape"]),
    "half detached": (lambda x: right.merge_heads(torch.cat([x[:, :1], x[:, 1:].detach()], 1)), ["wrong gradient"]),
}
HEADS_RIGHT = {
    "loop": heads_by_loop,
    "sum over heads": heads_by_sums,
    "one product": lambda x, w_q, w_k, w_v, w_o, n_heads, mask=None: (
        lambda q, k, v: right.merge_heads(right.scaled_dot_product_attention(q, k, v, mask)[0]) @ w_o
    )(*(right.split_heads(part, n_heads) for part in (x @ torch.cat([w_q, w_k, w_v], 1)).chunk(3, -1))),
    "linear, transposed": lambda x, w_q, w_k, w_v, w_o, n_heads, mask=None: F.linear(
        heads_by_loop(x, w_q, w_k, w_v, torch.eye(len(w_o)), n_heads, mask), w_o.T
    ),
}
HEADS_WRONG = {
    "all slips": (
        heads_that(order=(0, 0, 2), project=False),
        ["output projection missing", "one matrix for queries and keys"],
    ),
    "F.linear": (heads_that(turn=lambda w: w.t()), ["weight matrices transposed"]),
    "w_o transposed": (lambda x, q, k, v, o, n, mask=None: right.multi_head_attention(x, q, k, v, o.T, n, mask), ["unknown"]),
    "tuple passed on": (
        heads_that(merge=lambda x: x, attend=lambda q, k, v, mask: (right.scaled_dot_product_attention(q, k, v, mask),)),
        ["pair used like a tensor"],
    ),
    "w_o detached": (
        lambda x, q, k, v, o, n, mask=None: right.multi_head_attention(x, q, k, v, o.detach(), n, mask),
        ["no gradient"],
    ),
}

# --- positions ------------------------------------------------------------------------------------------------------


def encoding_by_loop(n_positions, d_model):
    table = torch.zeros(n_positions, d_model)
    for pos in range(n_positions):
        for i in range(d_model // 2):
            table[pos, 2 * i] = math.sin(pos / 10000 ** (2 * i / d_model))
            table[pos, 2 * i + 1] = math.cos(pos / 10000 ** (2 * i / d_model))
    return table


def encoding_by_exp(n_positions, d_model):
    position = torch.arange(n_positions).unsqueeze(1).float()
    div_term = torch.exp(torch.arange(0, d_model, 2).float() * (-math.log(10000.0) / d_model))
    pe = torch.empty(n_positions, d_model)
    pe[:, 0::2], pe[:, 1::2] = torch.sin(position * div_term), torch.cos(position * div_term)
    return pe


def encoding_as_cosine(n_positions, d_model):
    column = torch.arange(d_model)
    angles = torch.arange(n_positions)[:, None] / 10000 ** ((column - column % 2) / d_model)
    return torch.where(column % 2 == 0, angles.sin(), angles.cos())


def encoding_complex(n_positions, d_model):
    angles = torch.outer(torch.arange(n_positions).double(), 10000 ** (-torch.arange(0, d_model, 2).double() / d_model))
    turned = torch.polar(torch.ones_like(angles), angles)
    return torch.stack([turned.imag, turned.real], -1).view(n_positions, d_model)


def encoding_of_64(n_positions, d_model):
    return right.sinusoidal_encoding(64, d_model)[:n_positions]


def encoding_that_repeats(n_positions, d_model):
    return right.sinusoidal_encoding(64, d_model).repeat(100, 1)[:n_positions]


POSITIONS_RIGHT = {
    "loop": encoding_by_loop,
    "exp of a logarithm": encoding_by_exp,
    "where": encoding_as_cosine,
    "complex numbers": encoding_complex,
    "double": lambda n_positions, d_model: right.sinusoidal_encoding(n_positions, d_model).double(),
}
POSITIONS_WRONG = {
    "table of 64": (encoding_of_64, ["wrong shape"]),
    "64, then again": (encoding_that_repeats, ["unknown"]),
    "rounded": (lambda n, d: right.sinusoidal_encoding(n, d).round(decimals=4), ["unknown"]),
    "radians and degrees": (lambda n, d: right.sinusoidal_encoding(n, d).rad2deg().sin(), ["unknown"]),
    "float width": (lambda n, d: torch.zeros(n, d / 2), ["float as a size"]),
    "torch.sin of a number": (lambda n, d: torch.sin(n / 10000 ** (1 / d)), ["number instead of a tensor"]),
    "math.sin": (lambda n, d: math.sin(torch.arange(n)) + torch.zeros(n, d), ["one number from a tensor"]),
    "transposed": (lambda n, d: right.sinusoidal_encoding(n, d).T, ["wrong shape"]),
    "d_model columns of sine": (lambda n, d: torch.arange(n)[:, None] / 10000 ** (torch.arange(d) / d), ["unknown"]),
}

# --- layer norm and feed-forward ------------------------------------------------------------------------------------


def norm_by_tokens(x, gamma, beta, eps=1e-5):
    out = torch.empty_like(x)
    for b in range(x.shape[0]):
        for t in range(x.shape[1]):
            token = x[b, t]
            centred = token - sum(token) / len(token)
            out[b, t] = gamma * centred / ((centred @ centred) / len(token) + eps) ** 0.5 + beta
    return out


def norm_by_moments(x, gamma, beta, eps=1e-5):
    var, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
    return torch.addcmul(beta, gamma.expand_as(x), (x - mean) * torch.rsqrt(var + eps))


def norm_detached(part):
    def layer_norm(x, gamma, beta, eps=1e-5):
        mean, var = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
        mean, var = mean.detach() if "mean" in part else mean, var.detach() if "var" in part else var
        return gamma * (x - mean) / (var + eps).sqrt() + beta

    return layer_norm


def norm_that(change):
    return lambda x, gamma, beta, eps=1e-5: change(x, gamma, beta, eps)


NORM_RIGHT = {
    "by tokens": norm_by_tokens,
    "moments": norm_by_moments,
    "mean of squares": norm_that(
        lambda x, g, b, e: (lambda m: g * (x - m) / ((x.square().mean(-1, True) - m.square()).clamp(min=0) + e).sqrt() + b)(
            x.mean(-1, True)
        )
    ),
    "sum over d": norm_that(
        lambda x, g, b, e: (lambda c: g * c * ((c * c).sum(2, True) / x.shape[2] + e).pow(-0.5) + b)(
            x - x.sum(2, True) / x.shape[2]
        )
    ),
    "double": norm_that(lambda x, g, b, e: right.layer_norm(x.double(), g.double(), b.double(), e)),
    "std with Bessel undone": norm_that(
        lambda x, g, b, e: (
            g * (x - x.mean(-1, True)) / (x.var(-1, keepdim=True) * (x.shape[-1] - 1) / x.shape[-1] + e).sqrt() + b
        )
    ),
}
NORM_WRONG = {
    "mean detached": (norm_detached("mean"), ["wrong gradient"]),
    "variance detached": (norm_detached("var"), ["wrong gradient"]),
    "both detached": (norm_detached("mean, var"), ["wrong gradient"]),
    "torch's": (norm_that(lambda x, g, b, e: F.layer_norm(x, g.shape, g, b, e)), ["torch's own function"]),
    "absolute deviation": (
        norm_that(lambda x, g, b, e: (lambda c: g * c / (c.abs().mean(-1, True) + e) + b)(x - x.mean(-1, True))),
        ["unknown"],
    ),
    "median": (norm_that(lambda x, g, b, e: g * (x - x.median(-1, keepdim=True)) + b), ["max without values"]),
    "epsilon squared": (norm_that(lambda x, g, b, e: right.layer_norm(x, g, b, e * e)), ["unknown"]),
    "gamma twice": (norm_that(lambda x, g, b, e: right.layer_norm(x, g * g, b, e)), ["unknown"]),
    "three slips": (
        norm_that(lambda x, g, b, e: g * (x - x.mean(-1)) / x.std(-1) + b),
        ["unbiased variance", "missing epsilon", "mean and variance without keepdim"],
    ),
    "math.sqrt": (
        norm_that(lambda x, g, b, e: (x - x.mean(-1, True)) / math.sqrt(x.var(-1, keepdim=True) + e)),
        ["one number from a tensor"],
    ),
}
NETWORK_RIGHT = {
    "clamp": network(lambda x: x.clamp(min=0)),
    "maximum": network(lambda x: torch.maximum(x, torch.zeros(()))),
    "times a mask": network(lambda x: x * (x > 0)),
    "where": network(lambda x: torch.where(x > 0, x, torch.zeros_like(x))),
    "half of the sum": network(lambda x: (x + x.abs()) / 2),
    "linear": lambda x, w_1, b_1, w_2, b_2: F.linear(F.relu(F.linear(x, w_1.T, b_1)), w_2.T, b_2),
    "einsum": lambda x, w_1, b_1, w_2, b_2: (
        torch.einsum("btf,fd->btd", nn.ReLU()(torch.einsum("btd,df->btf", x, w_1) + b_1), w_2) + b_2
    ),
    "by tokens": lambda x, *p: torch.stack([right.feed_forward(token, *p) for token in x.unbind(1)], 1),
}
NETWORK_WRONG = {
    "transposed": (lambda x, w_1, b_1, w_2, b_2: F.linear(F.relu(F.linear(x, w_1, b_1)), w_2, b_2), ["sizes do not fit"]),
    "leaky": (network(lambda x: F.leaky_relu(x, 0.1)), ["unknown"]),
    "absolute": (network(torch.abs), ["unknown"]),
    "Python's max": (network(lambda x: max(0, x)), ["tensor as a condition"]),
    "torch's max": (network(lambda x: torch.max(0, x)), ["wrong arguments"]),
    "softmax between": (network(lambda x: x.softmax(-1)), ["unknown"]),
    "both biases missing": (network(first=0, second=0), ["first bias missing", "second bias missing"]),
    "w_2 detached": (lambda x, w_1, b_1, w_2, b_2: right.feed_forward(x, w_1, b_1, w_2.detach(), b_2), ["no gradient"]),
    "own tensor": (lambda x, w_1, b_1, w_2, b_2: right.feed_forward(x, torch.tensor(w_1), b_1, w_2, b_2), ["no gradient"]),
    "F not imported": (lambda x, w_1, b_1, w_2, b_2: einops.relu(x), ["missing import"]),  # noqa: F821
}

# --- blocks and training --------------------------------------------------------------------------------------------


def post_step_by_step(x, attention, feed_forward, norm1, norm2):
    for layer, norm in ((attention, norm1), (feed_forward, norm2)):
        x = norm(torch.add(x, layer(x)))
    return x


def pre_step_by_step(x, attention, feed_forward, norm1, norm2):
    total = [x]
    for layer, norm in ((attention, norm1), (feed_forward, norm2)):
        total.append(layer(norm(sum(total))))
    return sum(total)


def step_by_hand(model, loss_function, optimizer, inputs, targets):
    model.train()
    for p in model.parameters():
        p.grad = None
    with torch.enable_grad():
        loss = loss_function(model(inputs), targets)
    loss.backward()
    optimizer.step()
    return float(loss)


def step_by_autograd(model, loss_function, optimizer, inputs, targets):
    loss = loss_function(model.forward(inputs), targets)
    parameters = list(model.parameters())
    for p, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        p.grad = gradient
    optimizer.step()
    return loss.detach().item()


def step_that(change):
    def training_step(model, loss_function, optimizer, inputs, targets):
        optimizer.zero_grad()
        loss = loss_function(model(inputs), targets)
        return change(loss, optimizer, model)

    return training_step


def step_under_no_grad(model, loss_function, optimizer, inputs, targets):
    with torch.no_grad():
        return right.training_step(model, loss_function, optimizer, inputs, targets)


def step_on_item(model, loss_function, optimizer, inputs, targets):
    loss = loss_function(model(inputs), targets).item()
    loss.backward()
    return loss


BLOCKS_WRONG = {
    "residual detached": (lambda x, a, f, n1, n2: n2((h := n1(x.detach() + a(x))) + f(h)), ["wrong gradient"]),
    "attention detached": (lambda x, a, f, n1, n2: n2((h := n1(x + a(x).detach())) + f(h)), ["wrong gradient"]),
    "second residual detached": (lambda x, a, f, n1, n2: n2((h := n1(x + a(x))).detach() + f(h)), ["wrong gradient"]),
    "norms exchanged": (lambda x, a, f, n1, n2: right.post_norm_block(x, a, f, n2, n1), ["unknown"]),
    "attention forgotten": (lambda x, a, f, n1, n2: n2(x + f(x)), ["attention left out"]),
    "layer passed on": (lambda x, a, f, n1, n2: n1(x + a), ["function used like a tensor"]),
}


def step_by_closure(model, loss_function, optimizer, inputs, targets):
    def closure():
        optimizer.zero_grad()
        loss = loss_function(model(inputs), targets)
        loss.backward()
        return loss

    return optimizer.step(closure).item()


STEP_RIGHT = {
    "closure": step_by_closure,
    "by hand": step_by_hand,
    "by autograd": step_by_autograd,
    "cleared at the end": step_of("lbsz"),
    "cleared twice": step_of("zlzbsz"),
    "cleared through the model": step_that(lambda loss, o, m: (m.zero_grad(), loss.backward(), o.step(), loss.item())[-1]),
    "loss detached": step_that(lambda loss, o, m: (loss.backward(), o.step(), loss.detach())[-1]),
    "zeros instead of None": lambda m, f, o, x, y: (o.zero_grad(set_to_none=False), step_of("lbsz")(m, f, o, x, y))[-1],
}
STEP_WRONG = {
    "no return": (step_that(lambda loss, o, m: (loss.backward(), o.step(), None)[-1]), ["returns None"]),
    "loss as text": (step_that(lambda loss, o, m: (loss.backward(), o.step(), str(loss))[-1]), ["not a number"]),
    "two steps": (step_that(lambda loss, o, m: (loss.backward(), o.step(), o.step(), loss.item())[-1]), ["unknown"]),
    "no_grad": (step_under_no_grad, ["backward without a graph"]),
    "item first": (step_on_item, ["no such attribute"]),
    "backward twice": (
        step_that(lambda loss, o, m: (loss.backward(), loss.backward(), o.step(), loss.item())[-1]),
        ["backward twice"],
    ),
    "not cleared, and the graph": (
        lambda m, f, o, x, y: (loss := f(m(x), y), loss.backward(), o.step())[0],
        ["gradients not cleared", "loss keeps its graph"],
    ),
    "nothing": (step_of("l"), ["backward missing", "step missing"]),
    "negative": (step_that(lambda loss, o, m: ((-loss).backward(), o.step(), loss.item())[-1]), ["unknown"]),
}

RIGHT = {
    "softmax": SOFTMAX_RIGHT,
    "scaled_dot_product_attention": ATTENTION_RIGHT,
    "causal_mask": CAUSAL_RIGHT,
    "padding_mask": PADDING_RIGHT,
    "split_heads": SPLIT_RIGHT,
    "merge_heads": MERGE_RIGHT,
    "multi_head_attention": HEADS_RIGHT,
    "sinusoidal_encoding": POSITIONS_RIGHT,
    "layer_norm": NORM_RIGHT,
    "feed_forward": NETWORK_RIGHT,
    "post_norm_block": {"step by step": post_step_by_step},
    "pre_norm_block": {"step by step": pre_step_by_step},
    "training_step": STEP_RIGHT,
}
WRONG = {
    "softmax": SOFTMAX_WRONG,
    "scaled_dot_product_attention": ATTENTION_WRONG,
    "causal_mask": CAUSAL_WRONG,
    "padding_mask": PADDING_WRONG,
    "split_heads": SPLIT_WRONG,
    "merge_heads": MERGE_WRONG,
    "multi_head_attention": HEADS_WRONG,
    "sinusoidal_encoding": POSITIONS_WRONG,
    "layer_norm": NORM_WRONG,
    "feed_forward": NETWORK_WRONG,
    "post_norm_block": BLOCKS_WRONG,
    "training_step": STEP_WRONG,
}
