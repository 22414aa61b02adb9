"""A right solution of every exercise, written as a good student would; also a file for `--solutions`."""

import torch


def softmax(x):
    e = torch.exp(x - x.max(dim=-1, keepdim=True).values)
    return e / e.sum(dim=-1, keepdim=True)


def scaled_dot_product_attention(q, k, v, mask=None):
    scores = torch.matmul(q, k.transpose(-2, -1)) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e9)
    weights = softmax(scores)
    if mask is not None:
        weights = weights * mask
    return torch.matmul(weights, v), weights


def causal_mask(n):
    positions = torch.arange(n)
    return positions[None, :] <= positions[:, None]


def padding_mask(lengths, n):
    return (torch.arange(n) < lengths[:, None])[:, None, None, :]


def split_heads(x, n_heads):
    return x.view(x.shape[0], x.shape[1], n_heads, -1).transpose(1, 2)


def merge_heads(x):
    x = x.transpose(1, 2).contiguous()
    return x.view(x.shape[0], x.shape[1], -1)


def multi_head_attention(x, w_q, w_k, w_v, w_o, n_heads, mask=None):
    q, k, v = split_heads(x @ w_q, n_heads), split_heads(x @ w_k, n_heads), split_heads(x @ w_v, n_heads)
    output, _ = scaled_dot_product_attention(q, k, v, mask)
    return merge_heads(output) @ w_o


def sinusoidal_encoding(n_positions, d_model):
    pe = torch.zeros(n_positions, d_model)
    pos = torch.arange(n_positions)[:, None]
    rates = 10000 ** (torch.arange(0, d_model, 2) / d_model)
    pe[:, 0::2] = torch.sin(pos / rates)
    pe[:, 1::2] = torch.cos(pos / rates)
    return pe


def layer_norm(x, gamma, beta, eps=1e-5):
    mean = x.mean(-1, keepdim=True)
    var = ((x - mean) ** 2).mean(-1, keepdim=True)
    return gamma * (x - mean) / torch.sqrt(var + eps) + beta


def feed_forward(x, w_1, b_1, w_2, b_2):
    return torch.relu(x @ w_1 + b_1) @ w_2 + b_2


def post_norm_block(x, attention, feed_forward, norm1, norm2):
    x = norm1(x + attention(x))
    return norm2(x + feed_forward(x))


def pre_norm_block(x, attention, feed_forward, norm1, norm2):
    x = x + attention(norm1(x))
    return x + feed_forward(norm2(x))


def training_step(model, loss_function, optimizer, inputs, targets):
    optimizer.zero_grad()
    loss = loss_function(model(inputs), targets)
    loss.backward()
    optimizer.step()
    return loss.item()
