"""common/jacobian.py against torch's own, a map whose Jacobian is known, and what it refuses."""

import pytest
import torch

from common.jacobian import jacobian
from common.transformer import TransformerBlock


def test_of_a_linear_map_it_is_the_matrix():
    matrix = torch.randn(3, 5, dtype=torch.float64)  # d to d'
    found = jacobian(lambda x: x @ matrix, torch.randn(1, 2, 3, dtype=torch.float64))
    torch.testing.assert_close(found, torch.block_diag(matrix.T, matrix.T))  # each token alone


@pytest.mark.parametrize("last_only", [False, True])
def test_agrees_with_torch(last_only):
    torch.manual_seed(0)
    block, x = TransformerBlock(6, 2, 7).double(), torch.randn(1, 5, 6, dtype=torch.float64)

    def function(x):
        y, _ = block(x)
        return y[:, -1] if last_only else y

    found, theirs = jacobian(function, x), torch.autograd.functional.jacobian(function, x)
    assert found.shape == (6 if last_only else 30, 30)
    torch.testing.assert_close(found, theirs.reshape(found.shape), rtol=1e-10, atol=1e-12)


def test_leaves_its_input_and_the_parameters_without_a_gradient():
    block, x = TransformerBlock(6, 2), torch.randn(1, 3, 6)
    assert not jacobian(lambda x: block(x)[0], x).requires_grad
    assert not x.requires_grad and all(p.grad is None for p in block.parameters())


def test_refuses_more_than_one_sequence():
    with pytest.raises(ValueError, match=r"\(2, 3, 5\)"):
        jacobian(lambda x: x, torch.randn(2, 3, 5))
