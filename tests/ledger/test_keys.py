import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import KeyInvalid, SignatureInvalid
from ledger.keys import AGENT_ROLES, KeyRing, PublicKey, Role, SecretKey


def test_keys_are_made_once_and_closed_to_others(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        ring = KeyRing.open(tmp_path / "keys")
    finally:
        os.umask(previous)
    for role in AGENT_ROLES:
        assert stat.S_IMODE((tmp_path / "keys" / f"{role}.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert sorted(p.name for p in (tmp_path / "keys").iterdir()) == sorted(
        f"{role}.key" for role in AGENT_ROLES
    )
    again = KeyRing.open(tmp_path / "keys")
    assert {r: ring[r].public for r in AGENT_ROLES} == {r: again[r].public for r in AGENT_ROLES}
    assert len({ring[r].public.public for r in AGENT_ROLES}) == len(AGENT_ROLES)


def test_an_agent_neither_makes_nor_reads_the_approval_key(tmp_path: Path) -> None:
    """It is a person's: an agent that held it could be made to approve invented hospitals."""
    assert set(Role) - set(AGENT_ROLES) == {Role.APPROVAL}
    persons = KeyRing.open(tmp_path, [Role.APPROVAL])
    assert [p.name for p in tmp_path.iterdir()] == ["approval.key"]
    ring = KeyRing.open(tmp_path)
    assert set(ring.keys) == set(AGENT_ROLES)
    with pytest.raises(KeyError):
        ring[Role.APPROVAL]
    again = KeyRing.open(tmp_path, [Role.APPROVAL], make=False)
    assert again[Role.APPROVAL].seed == persons[Role.APPROVAL].seed


def test_an_institution_on_a_ledger_never_makes_a_new_key(tmp_path: Path) -> None:
    with pytest.raises(KeyInvalid, match="missing"):
        KeyRing.open(tmp_path, make=False)
    assert not list(tmp_path.iterdir())
    made = KeyRing.open(tmp_path)
    assert KeyRing.open(tmp_path, make=False)[Role.COSIGN].seed == made[Role.COSIGN].seed


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_key_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    KeyRing.open(tmp_path)
    (tmp_path / "vrf.key").chmod(mode)
    with pytest.raises(KeyInvalid, match=r"vrf\.key"):
        KeyRing.open(tmp_path)


@pytest.mark.parametrize("content", [b"", b"00" * 31, b"00" * 33, b"zz" * 32, b"\xff" * 64])
def test_a_damaged_key_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    KeyRing.open(tmp_path)
    path = tmp_path / "record.key"
    path.write_bytes(content)
    with pytest.raises(KeyInvalid, match=r"record\.key is damaged"):
        KeyRing.open(tmp_path)
    assert path.read_bytes() == content


def test_the_seed_is_in_no_text_and_no_error(tmp_path: Path) -> None:
    ring = KeyRing.open(tmp_path, Role)
    for role in Role:
        assert ring[role].seed.hex() not in repr(ring) + str(ring[role])


def test_a_signature_holds_for_its_message_and_key_only() -> None:
    key, other = SecretKey(Role.RECORD, bytes(32)), SecretKey(Role.RECORD, b"\x01" * 32)
    signature = key.sign(b"message")
    key.public.verify(signature, b"message")
    for public, signed, message in [
        (key.public, signature, b"massage"),
        (other.public, signature, b"message"),
        (key.public, signature[:-1], b"message"),
        (key.public, b"", b"message"),
        (key.public, bytes([signature[0] ^ 1]) + signature[1:], b"message"),
    ]:
        with pytest.raises(SignatureInvalid):
            public.verify(signed, message)


def test_a_second_encoding_of_a_signature_is_refused() -> None:
    """s + q signs the same in a lax verifier: RFC 8032 asks for s < q."""
    order = 2**252 + 27742317777372353535851937790883648493
    key = SecretKey(Role.RECORD, bytes(32))
    signature = key.sign(b"message")
    s = int.from_bytes(signature[32:], "little") + order
    with pytest.raises(SignatureInvalid):
        key.public.verify(signature[:32] + s.to_bytes(32, "little"), b"message")


def test_the_key_id_depends_on_the_role_and_the_algorithm() -> None:
    public = SecretKey(Role.RECORD, bytes(32)).public.public
    ids = {PublicKey(role, public).key_id for role in Role}
    assert len(ids) == len(Role)
    assert PublicKey(Role.RECORD, public, "ml-dsa-44").key_id not in ids


@pytest.mark.parametrize(
    "key", [PublicKey(Role.RECORD, bytes(32), "ml-dsa-44"), PublicKey(Role.RECORD, b"short")]
)
def test_a_key_that_cannot_be_used_is_refused(key: PublicKey) -> None:
    with pytest.raises(KeyInvalid):
        key.verify(bytes(64), b"message")


# points of small order, by the arithmetic of RFC 8032 section 5.1 written out

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]


def added(a: Point, b: Point) -> Point:
    (x1, y1), (x2, y2) = a, b
    t = D * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + t, -1, P) % P
    return x, (y1 * y2 + x1 * x2) * pow(1 - t, -1, P) % P


def times(n: int, point: Point) -> Point:
    result = (0, 1)
    while n:
        if n & 1:
            result = added(result, point)
        point, n = added(point, point), n >> 1
    return result


def decoded(y: int) -> Point | None:
    """A point with this y, or None."""
    x2 = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if x * x % P != x2:
        x = x * pow(2, (P - 1) // 4, P) % P
    return (x, y) if x * x % P == x2 else None


def small_points() -> set[Point]:
    """All eight: multiples of [L]P, for the first P that gives one of order 8."""
    found = (decoded(y) for y in range(2, 100))
    for torsion in (times(L, point) for point in found if point):
        points = {times(n, torsion) for n in range(8)}
        if len(points) == 8:
            return points
    raise AssertionError


SMALL = sorted(
    (y | sign << 255).to_bytes(32, "little")
    for small in {y for _, y in small_points()}
    for y in (small, small + P)
    if y < 2**255
    for sign in (0, 1)
)


def test_there_are_fourteen_encodings_of_the_eight_points_of_small_order() -> None:
    assert all(times(8, point) == (0, 1) for point in small_points())
    assert len(small_points()) == 8
    assert len(set(SMALL)) == len(SMALL) == 14


@pytest.mark.parametrize("encoding", SMALL, ids=lambda e: e[::-1].hex()[:8])
def test_a_key_of_small_order_is_refused_in_every_encoding(encoding: bytes) -> None:
    for role in Role:
        with pytest.raises(KeyInvalid, match=f"the {role} key"):
            PublicKey(role, encoding).verify(encoding + bytes(32), b"message")


def test_a_key_close_to_one_of_small_order_is_not_refused() -> None:
    for y in (y for y in range(2, 100) if decoded(y)):
        with pytest.raises(SignatureInvalid):
            PublicKey(Role.RECORD, y.to_bytes(32, "little")).verify(bytes(64), b"message")


def test_without_that_anybody_could_sign_for_such_a_key() -> None:
    """The neutral point as R and as the key, and s = 0: OpenSSL lets it pass for any message."""
    neutral = (1).to_bytes(32, "little")
    assert neutral in SMALL
    for message in (b"message", b"massage"):
        Ed25519PublicKey.from_public_bytes(neutral).verify(neutral + bytes(32), message)


@given(st.binary(min_size=32, max_size=32))
def test_no_key_that_somebody_made_is_refused(seed: bytes) -> None:
    key = SecretKey(Role.RECORD, seed)
    key.public.verify(key.sign(seed), seed)


@given(st.binary(max_size=66).filter(lambda public: len(public) != 32))
def test_a_key_of_another_length_is_refused(public: bytes) -> None:
    with pytest.raises(KeyInvalid):
        PublicKey(Role.RECORD, public).verify(bytes(64), b"message")
