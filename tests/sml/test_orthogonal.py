"""The dense kind: orthogonal, uniform, as specified, its own inverse to rounding."""

import hashlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sml.errors import MappingInvalid
from sml.orthogonal import DenseOrthogonal
from sml.permutation import SignedPermutation

BETA = bytes(range(64))


def draw_by_the_text(beta: bytes, name: str, size: int) -> np.ndarray:
    """The module's specification read by somebody else: whole reflections, one after the other."""
    seed = f"medpole/sml/orthogonal/v1\ngaussians\n{name}\n{size}\n".encode() + beta
    count = size * (size + 1) // 2
    stream = hashlib.shake_256(seed).digest(16 * count)
    words = [int.from_bytes(stream[i : i + 8], "big") >> 11 for i in range(0, 16 * count, 8)]
    normal = [
        math.sqrt(-2 * math.log((words[i] + 1) / 2**53))
        * math.cos(2 * math.pi * words[count + i] / 2**53)
        for i in range(count)
    ]
    q = np.array([[math.copysign(1, normal.pop(0))]])
    for k in range(2, size + 1):
        x, normal = np.array(normal[:k]), normal[k:]
        s = math.copysign(1, x[0])
        u = x + s * np.linalg.norm(x) * np.eye(k)[0]
        reflection = np.eye(k) - 2 * np.outer(u, u) / (u @ u)
        np.testing.assert_allclose(reflection @ x, -s * np.linalg.norm(x) * np.eye(k)[0], atol=1e-9)
        inner = np.eye(k)
        inner[1:, 1:] = q
        q = -s * reflection @ inner
    return q


@pytest.mark.parametrize("size", [1, 2, 3, 13, 40])
def test_the_draw_is_as_specified(size: int) -> None:
    q = DenseOrthogonal.draw(BETA, "input", size)
    np.testing.assert_allclose(q.matrix, draw_by_the_text(BETA, "input", size), atol=1e-12)
    np.testing.assert_allclose(q.matrix @ q.matrix.T, np.eye(size), atol=1e-13)
    assert q.size == size


def test_draws_are_separated_by_name_output_and_kind() -> None:
    q = DenseOrthogonal.draw(BETA, "input", 6).matrix
    assert np.array_equal(q, DenseOrthogonal.draw(BETA, "input", 6).matrix)
    for beta, name in ((BETA, "hidden.1"), (bytes(64), "input")):
        assert abs(q - DenseOrthogonal.draw(beta, name, 6).matrix).max() > 0.1
    assert not np.array_equal(q != 0, SignedPermutation.draw(BETA, "input", 6, signed=True).matrix)


def test_the_draw_is_uniform() -> None:
    """Moments of the Haar measure: each entry has mean 0, variance 1/n, fourth moment 3/(n(n+2)).

    And half of all matrices are reflections; the bounds are five standard errors.
    """
    size, draws = 3, 1500
    found = np.array(
        [
            DenseOrthogonal.draw(
                hashlib.sha512(i.to_bytes(4, "big")).digest(), "input", size
            ).matrix
            for i in range(draws)
        ]
    )
    error = 5 / math.sqrt(draws)
    assert abs(found.mean(0)).max() < error * math.sqrt(1 / size)
    assert abs((found**2).mean(0) - 1 / size).max() < error * math.sqrt(3 / 15 - 1 / 9)
    assert abs((found**4).mean(0) - 3 / 15).max() < error * math.sqrt(105 / 945)
    assert abs(np.linalg.det(found).mean()) < error


@settings(deadline=None, max_examples=20)
@given(st.binary(min_size=64, max_size=64), st.integers(1, 30))
def test_apply_is_the_matrix_and_comes_back(beta: bytes, size: int) -> None:
    q = DenseOrthogonal.draw(beta, "input", size)
    x = torch.linspace(-3, 3, 6 * size, dtype=torch.float64).reshape(3, size, 2)
    expected = torch.einsum("ij,ajb->aib", torch.tensor(q.matrix), x)
    for axis in (1, -2):
        torch.testing.assert_close(q.apply(x, axis), expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(q.apply(x.numpy(), axis), expected.numpy(), atol=1e-12)
    narrow = x.float()
    torch.testing.assert_close(q.inverse.apply(q.apply(x, 1), 1), x, rtol=0, atol=1e-12)
    back = q.inverse.apply(q.apply(narrow, 1), 1)
    assert back.dtype == torch.float32
    torch.testing.assert_close(back, narrow, rtol=0, atol=3e-6)
    assert q.apply(narrow.numpy(), 1).dtype == np.float32


def test_gradients_are_mapped_back() -> None:
    q = DenseOrthogonal.draw(BETA, "input", 4)
    x = torch.randn(2, 4, requires_grad=True)
    weights = torch.randn(2, 4)
    (gradient,) = torch.autograd.grad((q.apply(x, -1) * weights).sum(), x)
    torch.testing.assert_close(gradient, q.inverse.apply(weights, -1))


def test_what_does_not_fit_is_refused() -> None:
    q = DenseOrthogonal.draw(BETA, "input", 5)
    integers = torch.zeros(5, dtype=torch.int64)
    for tensor, axis in [(torch.zeros(4), 0), (torch.zeros(5), 1), (integers, 0)]:
        with pytest.raises(MappingInvalid):
            q.apply(tensor, axis)
    for matrix in (np.ones((2, 3)), 2 * np.eye(2), np.zeros(3), np.eye(3) + 1e-6):
        with pytest.raises(MappingInvalid):
            DenseOrthogonal(matrix)
    for beta, name, size in [(BETA[1:], "g", 3), (BETA, "a\nb", 3), (BETA, "g", 0)]:
        with pytest.raises(MappingInvalid):
            DenseOrthogonal.draw(beta, name, size)


def test_q_is_frozen_and_stays_out_of_logs() -> None:
    q = DenseOrthogonal.draw(BETA, "input", 5)
    with pytest.raises(ValueError, match="read-only"):
        q.matrix[0, 0] = 3
    assert repr(q) == "DenseOrthogonal()"
