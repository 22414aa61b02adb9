"""Positional encodings against their closed forms and their defining properties; sizes are primes, or even."""

import math

import pytest
import torch

from common.positional_encoding import (
    LearnedEncoding,
    RelativeBias,
    alibi_bias,
    linear_encoding,
    rotary,
    shift_matrix,
    sinusoidal_encoding,
)

N, D = 53, 14
TOLERANCE = {"rtol": 0, "atol": 1e-10}


@pytest.mark.parametrize("base", [10_000.0, 37.0])
def test_sinusoids_have_their_closed_form(base):
    table = sinusoidal_encoding(N, D, base=base)
    assert table.shape == (N, D)
    for pos in range(N):
        for column in range(D):
            angle = pos / base ** (2 * (column // 2) / D)
            expected = math.cos(angle) if column % 2 else math.sin(angle)
            assert table[pos, column].item() == pytest.approx(expected, abs=1e-10)


def test_tables_come_in_the_default_dtype_and_keep_their_digits():
    torch.set_default_dtype(torch.float32)
    exact = math.sin(99_999.0)
    assert sinusoidal_encoding(100_000, 2)[-1, 0].item() == pytest.approx(exact, abs=1e-7)
    for table in (sinusoidal_encoding(3, 2), shift_matrix(1, 2), linear_encoding(3, 2), alibi_bias(2, 3)):
        assert table.dtype == torch.float32


@pytest.mark.parametrize("offset", [0, 1, 17, -5])
def test_shift_matrix_moves_every_position(offset):
    table, matrix = sinusoidal_encoding(N, D), shift_matrix(offset, D)
    for pos in range(max(0, -offset), N - max(0, offset)):
        torch.testing.assert_close(matrix @ table[pos], table[pos + offset], **TOLERANCE)


def test_shift_matrices_are_rotations_that_add_up():
    torch.testing.assert_close(shift_matrix(3, D) @ shift_matrix(4, D), shift_matrix(7, D), **TOLERANCE)
    torch.testing.assert_close(shift_matrix(3, D) @ shift_matrix(3, D).T, torch.eye(D), **TOLERANCE)
    torch.testing.assert_close(
        shift_matrix(3, D, base=37.0) @ sinusoidal_encoding(N, D, base=37.0)[5],
        sinusoidal_encoding(N, D, base=37.0)[8],
        **TOLERANCE,
    )


def test_linear_encoding_by_hand():
    assert linear_encoding(4, 3).tolist() == [[0.0] * 3, [0.25] * 3, [0.5] * 3, [0.75] * 3]


def test_learned_encoding_is_a_trained_table_that_ends():
    encoding = LearnedEncoding(7, 5)
    assert encoding(3).shape == (3, 5)
    assert (encoding(7)[:3] == encoding(3)).all()
    encoding(3).sum().backward()
    assert encoding.table.grad.sum(-1).tolist() == [5.0] * 3 + [0.0] * 4
    with pytest.raises(ValueError, match=r"7.*8"):
        encoding(8)


def test_relative_bias_has_one_number_a_clipped_distance():
    bias = RelativeBias(2, 3)
    with torch.no_grad():
        bias.table.copy_(torch.arange(14.0).view(2, 7))
    grid = bias(11, 13)
    assert grid.shape == (2, 11, 13)
    for i in range(11):
        for j in range(13):
            assert grid[:, i, j].tolist() == bias.table[:, max(-3, min(3, j - i)) + 3].tolist()


def test_relative_bias_starts_at_zero_and_learns():
    bias = RelativeBias(2, 3)
    assert (bias(5, 5) == 0).all()
    bias(5, 5).sum().backward()
    assert bias.table.grad[0].tolist() == [3.0, 3.0, 4.0, 5.0, 4.0, 3.0, 3.0]


@pytest.mark.parametrize(
    ("n_heads", "slopes"),
    [
        (1, [2**-8]),
        (2, [2**-4, 2**-8]),
        (8, [2**-1, 2**-2, 2**-3, 2**-4, 2**-5, 2**-6, 2**-7, 2**-8]),
        (3, [2**-4, 2**-8, 2**-2]),  # the authors' rule where the number of heads is no power of two
        (6, [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]),
    ],
)
def test_alibi_slopes(n_heads, slopes):
    bias = alibi_bias(n_heads, 7)
    assert bias.shape == (n_heads, 7, 7)
    for i in range(7):
        for j in range(7):
            torch.testing.assert_close(bias[:, i, j], -torch.tensor(slopes) * abs(i - j))


def test_rotary_by_hand():
    x = torch.tensor([[1.0, 3.0, 0.0, 2.0]] * 3)
    angle = 2 * 100.0 ** (-2 / 4)
    first_pair = [math.cos(2) - 3 * math.sin(2), math.sin(2) + 3 * math.cos(2)]
    expected = [*first_pair, -2 * math.sin(angle), 2 * math.cos(angle)]
    torch.testing.assert_close(rotary(x, base=100.0)[2], torch.tensor(expected))
    assert (rotary(x)[0] == x[0]).all()


def test_rotary_products_depend_on_the_distance_alone():
    q, k = torch.randn(D), torch.randn(D)
    products = rotary(q.expand(N, D)) @ rotary(k.expand(N, D)).T  # (N, N)
    for distance in range(-N + 1, N):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[0].expand_as(diagonal), **TOLERANCE)
    assert products.diagonal(1)[0] != products.diagonal(-1)[0]


def test_rotary_keeps_length_shape_and_dtype():
    x = torch.randn(2, 3, 5, 6, dtype=torch.float32)
    assert rotary(x).shape == x.shape and rotary(x).dtype == torch.float32
    torch.testing.assert_close(rotary(x).norm(dim=-1), x.norm(dim=-1))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sinusoidal_encoding(3, 5), ValueError, "even.*5"),
        (lambda: sinusoidal_encoding(0, 4), ValueError, "n_positions"),
        (lambda: sinusoidal_encoding(3, 4, base=0.0), ValueError, "base"),
        (lambda: sinusoidal_encoding(3.0, 4), TypeError, "3.0"),
        (lambda: shift_matrix(1, 5), ValueError, "even.*5"),
        (lambda: linear_encoding(0, 4), ValueError, "n_positions"),
        (lambda: LearnedEncoding(0, 4), ValueError, "max_length"),
        (lambda: LearnedEncoding(5, 4)(0), ValueError, "n_positions"),
        (lambda: RelativeBias(0, 4), ValueError, "n_heads"),
        (lambda: RelativeBias(2, 0), ValueError, "max_distance"),
        (lambda: RelativeBias(2, 4)(0, 3), ValueError, "Tq"),
        (lambda: alibi_bias(0, 4), ValueError, "n_heads"),
        (lambda: rotary(torch.ones(3, 5)), ValueError, "even.*5"),
        (lambda: rotary(torch.ones(4)), ValueError, r"\(4,\)"),
        (lambda: rotary(torch.ones(3, 4).int()), TypeError, "int32"),
    ],
)
def test_errors_name_the_sizes(call, error, message):
    with pytest.raises(error, match=message):
        call()
