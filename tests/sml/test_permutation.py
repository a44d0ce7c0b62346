"""The draw is specified, unbiased, separated by group; acting is exact to the bit."""

import hashlib
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sml.errors import MappingInvalid
from sml.permutation import SignedPermutation, _shuffle
from sml.stream import first_words, words

BETA = bytes(range(64))


def draw_by_the_text(
    beta: bytes, name: str, size: int, signed: bool
) -> tuple[list[int], list[int]]:
    """The module's specification read by somebody else: integers and one long squeeze."""
    head = "medpole/sml/signed-permutation/v1\n{}\n" + f"{name}\n{size}\n"
    stream = hashlib.shake_256(head.format("permutation").encode() + beta).digest(8 * 4 * size)
    perm, at = list(range(size)), 0
    for i in reversed(range(1, size)):
        while True:
            word = int.from_bytes(stream[at : at + 8], "big")
            at += 8
            if word < 2**64 - 2**64 % (i + 1):
                break
        perm[i], perm[word % (i + 1)] = perm[word % (i + 1)], perm[i]
    signs = [1] * size
    if signed:
        bits = hashlib.shake_256(head.format("signs").encode() + beta).digest(size)
        signs = [-1 if bits[i // 8] >> i % 8 & 1 else 1 for i in range(size)]
    return perm, signs


def test_a_known_answer() -> None:
    q = SignedPermutation.draw(BETA, "input", 13, signed=True)
    assert q.perm.tolist() == [8, 5, 4, 9, 12, 10, 11, 3, 6, 2, 0, 7, 1]
    assert q.signs.tolist() == [1, 1, -1, 1, 1, -1, -1, -1, 1, -1, -1, 1, 1]


@given(st.binary(min_size=64, max_size=64), st.integers(1, 300), st.booleans())
def test_the_draw_is_as_specified(beta: bytes, size: int, signed: bool) -> None:
    q = SignedPermutation.draw(beta, "hidden.1", size, signed=signed)
    perm, signs = draw_by_the_text(beta, "hidden.1", size, signed)
    assert q.perm.tolist() == perm
    assert q.signs.tolist() == signs
    assert q.size == size
    assert q.perm.dtype == np.int64
    assert q.signs.dtype == np.int8


def test_words_beyond_the_last_whole_multiple_are_drawn_again() -> None:
    assert _shuffle(3, [2**64 - 1, 2, 1]) == _shuffle(3, [2, 1])
    # 2^64 is a multiple of 2, so the largest word serves there: j = 1, no swap.
    assert _shuffle(2, [2**64 - 1]) == [0, 1]
    assert _shuffle(2, [0]) == [1, 0]


def test_the_stream_goes_on_after_the_first_squeeze() -> None:
    read = list(itertools.islice(words(b"seed", 2), 50))
    stream = hashlib.shake_256(b"seed").digest(400)
    assert read == [int.from_bytes(stream[i : i + 8], "big") for i in range(0, 400, 8)]
    assert first_words(b"seed", 50).tolist() == read


def test_groups_and_outputs_are_separated() -> None:
    draws = [
        SignedPermutation.draw(beta, name, size, signed=True)
        for beta in (BETA, bytes(64))
        for name in ("input", "hidden.1")
        for size in (50, 51)
    ]
    for one, other in itertools.combinations(draws, 2):
        n = min(one.size, other.size)
        assert np.mean(one.perm[:n] == other.perm[:n]) < 0.2
        assert 0.2 < np.mean(one.signs[:n] == other.signs[:n]) < 0.8


def test_permutations_and_signs_are_uniform() -> None:
    """Chi-square over all 24 permutations and 16 sign patterns of four coordinates."""
    draws = 6000
    perms: dict[tuple[int, ...], int] = dict.fromkeys(itertools.permutations(range(4)), 0)
    signs: dict[tuple[int, ...], int] = dict.fromkeys(itertools.product((1, -1), repeat=4), 0)
    for i in range(draws):
        beta = hashlib.sha512(i.to_bytes(4, "big")).digest()
        q = SignedPermutation.draw(beta, "input", 4, signed=True)
        perms[tuple(q.perm.tolist())] += 1
        signs[tuple(q.signs.tolist())] += 1
    for counts, bound in ((perms, 61.0), (signs, 47.0)):  # beyond the quantiles at 1 - 5e-5
        expected = draws / len(counts)
        assert sum((n - expected) ** 2 / expected for n in counts.values()) < bound


def test_no_coordinate_prefers_a_place() -> None:
    size, draws = 20, 4000
    seen = np.zeros((size, size))
    for i in range(draws):
        beta = hashlib.sha512(b"place" + i.to_bytes(4, "big")).digest()
        seen[np.arange(size), SignedPermutation.draw(beta, "input", size, signed=False).perm] += 1
    chi2 = float(((seen - draws / size) ** 2 / (draws / size)).sum())
    assert abs(chi2 - (size - 1) ** 2) < 5 * np.sqrt(2 * (size - 1) ** 2)


@given(st.binary(min_size=64, max_size=64), st.integers(1, 40), st.booleans())
def test_the_matrix_is_orthogonal_and_what_apply_does(beta: bytes, size: int, signed: bool) -> None:
    q = SignedPermutation.draw(beta, "input", size, signed=signed)
    np.testing.assert_array_equal(q.matrix @ q.matrix.T, np.eye(size))
    np.testing.assert_array_equal(q.inverse.matrix, q.matrix.T)
    x = torch.randn(3, size, 2, dtype=torch.float64)
    expected = torch.einsum("ij,ajb->aib", torch.tensor(q.matrix), x)
    assert torch.equal(q.apply(x, 1), expected)
    assert torch.equal(q.apply(x, -2), expected)


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [
        (torch.float32, torch.int32),
        (torch.float64, torch.int64),
        (torch.float16, torch.int16),
        (torch.bfloat16, torch.int16),
    ],
)
@given(data=st.data())
def test_every_bit_pattern_comes_back(
    dtype: torch.dtype, bits: torch.dtype, data: st.DataObject
) -> None:
    """Also signed zeros, infinities, subnormals and, but for half precision, NaNs."""
    width = torch.iinfo(bits)
    patterns = data.draw(st.lists(st.integers(width.min, width.max), min_size=1, max_size=40))
    x = torch.tensor(patterns, dtype=bits).view(dtype)
    if bits is torch.int16:
        x = torch.where(x.isnan(), torch.full_like(x, -0.0), x)
    q = SignedPermutation.draw(
        data.draw(st.binary(min_size=64, max_size=64)), "g", len(x), signed=True
    )
    there = q.apply(x, 0)
    assert torch.equal(q.inverse.apply(there, 0).view(bits), x.view(bits))
    assert torch.equal(q.apply(q.inverse.apply(x, 0), 0).view(bits), x.view(bits))
    top = torch.tensor(width.min, dtype=bits)
    flips = torch.where(torch.tensor(q.signs < 0), top, torch.zeros((), dtype=bits))
    assert torch.equal(there.view(bits), x.view(bits)[torch.tensor(q.perm)] ^ flips)
    if dtype is not torch.bfloat16:  # which numpy has not
        assert q.apply(x.numpy(), 0).tobytes() == there.numpy().tobytes()


def test_zero_keeps_its_sign_there_and_back() -> None:
    q = SignedPermutation(np.array([1, 0]), np.array([-1, 1]))
    there = q.apply(torch.tensor([0.0, 0.0]), 0)
    assert torch.signbit(there).tolist() == [True, False]
    assert torch.signbit(q.inverse.apply(there, 0)).tolist() == [False, False]


def test_gradients_pass() -> None:
    q = SignedPermutation.draw(BETA, "input", 5, signed=True)
    x = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: q.apply(t, -1), (x,))


def test_what_does_not_fit_is_refused() -> None:
    q = SignedPermutation.draw(BETA, "input", 5, signed=True)
    for tensor, axis in [
        (torch.zeros(4), 0),
        (torch.zeros(5), 1),
        (torch.zeros(5), -2),
        (torch.zeros(()), 0),
        (torch.zeros(5, dtype=torch.int64), 0),
    ]:
        with pytest.raises(MappingInvalid):
            q.apply(tensor, axis)
    for beta, name, size in [(BETA[1:], "g", 3), (BETA, "a\nb", 3), (BETA, "", 3), (BETA, "g", 0)]:
        with pytest.raises(MappingInvalid):
            SignedPermutation.draw(beta, name, size, signed=True)
    for perm, signs in [
        ([0, 0], [1, 1]),
        ([0, 2], [1, 1]),
        ([0, 1], [1, 0]),
        ([0, 1], [1]),
        ([[0]], [[1]]),
    ]:
        with pytest.raises(MappingInvalid):
            SignedPermutation(np.array(perm), np.array(signs))


def test_an_unsigned_permutation_takes_integers() -> None:
    q = SignedPermutation.draw(BETA, "input", 5, signed=False)
    assert q.apply(torch.arange(5), 0).tolist() == q.perm.tolist()


def test_q_is_frozen_and_stays_out_of_logs() -> None:
    q = SignedPermutation.draw(BETA, "input", 5, signed=True)
    with pytest.raises(ValueError, match="read-only"):
        q.perm[0] = 3
    assert repr(q) == "SignedPermutation()"
