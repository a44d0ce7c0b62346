import os
import stat
from pathlib import Path

import pytest

from ledger.errors import KeyInvalid, SignatureInvalid
from ledger.keys import KeyRing, PublicKey, Role, SecretKey


def test_keys_are_made_once_and_closed_to_others(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        ring = KeyRing.open(tmp_path / "keys")
    finally:
        os.umask(previous)
    for role in Role:
        assert stat.S_IMODE((tmp_path / "keys" / f"{role}.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert sorted(p.name for p in (tmp_path / "keys").iterdir()) == sorted(
        f"{role}.key" for role in Role
    )
    again = KeyRing.open(tmp_path / "keys")
    assert {r: ring[r].public for r in Role} == {r: again[r].public for r in Role}
    assert len({ring[r].public.public for r in Role}) == len(Role)


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
    ring = KeyRing.open(tmp_path)
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
