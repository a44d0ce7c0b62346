"""Against the formats of C2SP: signed-note, tlog-checkpoint, tlog-cosignature."""

import base64
from dataclasses import replace
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.errors import NoteInvalid, SignatureInvalid
from ledger.keys import PublicKey, Role, SecretKey
from ledger.note import (
    Checkpoint,
    SignatureLine,
    cosign,
    sign_note,
    verify_cosignature,
    verify_note,
)

SEED = bytes(range(32))
KEY = SecretKey(Role.COSIGN, SEED)
OTHER = SecretKey(Role.COSIGN, bytes(32))
HEAD = Checkpoint("medpole/abc", 12, b"\x05" * 32, 0, 3, b"\xab" * 32)


def test_the_published_example_of_a_signed_note_verifies() -> None:
    """The example of Go's sumdb/note, which C2SP signed-note was written down from."""
    verifier = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    name, hint, encoded = verifier.split("+", 2)
    key = PublicKey(Role.COSIGN, base64.b64decode(encoded)[1:])
    text = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n"
    )
    line = (
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotp"
        "RZb6KE6RyyBwJnAM="
    )
    assert SignatureLine.parse(line).blob[:4].hex() == hint
    verify_note(line, name, key, text)
    with pytest.raises(SignatureInvalid):
        verify_note(line, name, key, text.replace("answer", "anwser"))


def test_the_published_example_of_a_cosignature_has_our_form() -> None:
    """Key hint, 64-bit time and signature, as in the example of C2SP tlog-cosignature."""
    line = (
        "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJs"
        "X3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA=="
    )
    parsed = SignatureLine.parse(line)
    assert len(parsed.blob) == len(SignatureLine.parse(cosign("w1", KEY, "text\n", 1)).blob)
    assert int.from_bytes(parsed.blob[4:12], "big") == 1679315147


def test_a_signature_line_is_made_as_the_specification_says() -> None:
    text = HEAD.text()
    private = Ed25519PrivateKey.from_private_bytes(SEED)
    public = private.public_key().public_bytes_raw()
    hint = sha256(b"log" + b"\n" + b"\x01" + public).digest()[:4]
    blob = base64.b64encode(hint + private.sign(text.encode())).decode()
    assert sign_note("log", KEY, text) == f"— log {blob}"


def test_a_cosignature_is_made_as_the_specification_says() -> None:
    text = HEAD.text()
    private = Ed25519PrivateKey.from_private_bytes(SEED)
    public = private.public_key().public_bytes_raw()
    hint = sha256(b"w1\n\x04" + public).digest()[:4]
    message = b"cosignature/v1\ntime 1679315147\n" + text.encode()
    blob = hint + (1679315147).to_bytes(8, "big") + private.sign(message)
    line = f"— w1 {base64.b64encode(blob).decode()}"
    assert cosign("w1", KEY, text, 1679315147) == line
    assert verify_cosignature(line, "w1", KEY.public, text) == 1679315147


def test_the_checkpoint_is_a_tlog_checkpoint_with_one_extension_line() -> None:
    root = base64.b64encode(b"\x05" * 32).decode()
    assert HEAD.text() == f"medpole/abc\n12\n{root}\nblock 0 3 {'ab' * 32}\n"
    assert Checkpoint.parse(HEAD.text()) == HEAD


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t[:-1],
        lambda t: t + "\n",
        lambda t: t + "more\n",
        lambda t: t.replace("\n", "\r\n"),
        lambda t: t.replace("12", "012"),
        lambda t: t.replace("12", "+12"),
        lambda t: t.replace("12", "-12"),
        lambda t: t.replace("12", " 12"),
        lambda t: t.replace("12", "١٢"),
        lambda t: t.replace("12", "9" * 30),
        lambda t: t.replace("block", "Block"),
        lambda t: t.replace("block 0", "block  0"),
        lambda t: t.replace("ab", "AB"),
        lambda t: t.replace("abab", "ab"),
        lambda t: t.replace("BQUF", "BQU*"),
        lambda t: t.replace("BQUFBQUF", "BQUF"),
        lambda t: t.replace("BQU=", "BQV="),
        lambda t: t.replace("medpole/abc", ""),
    ],
)
def test_a_checkpoint_in_any_other_form_is_refused(change) -> None:
    text = change(HEAD.text())
    assert text != HEAD.text()
    with pytest.raises(NoteInvalid):
        Checkpoint.parse(text)


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line[1:],
        lambda line: line.replace("—", "-"),
        lambda line: line.replace("— ", "—"),
        lambda line: line.replace("w1", "w+1"),
        lambda line: line.replace("w1 ", " "),
        lambda line: line.replace("w1", "w\u00a01"),
        lambda line: line + "\n",
        lambda line: line + " ",
        lambda line: line[:-4],
        lambda line: line[:-1],
        lambda line: line + "=",
        lambda line: line.replace(" ", "  "),
        lambda line: line[:10] + "\n" + line[10:],
        lambda line: line[:10] + "*" + line[11:],
        lambda line: line.replace("w1", "w2"),
        lambda line: "",
    ],
)
def test_a_malformed_or_foreign_line_is_refused(change) -> None:
    line = change(cosign("w1", KEY, HEAD.text(), 5))
    with pytest.raises(NoteInvalid):
        verify_cosignature(line, "w1", KEY.public, HEAD.text())


def test_every_changed_byte_of_a_cosignature_is_refused() -> None:
    blob = SignatureLine.parse(cosign("w1", KEY, HEAD.text(), 5)).blob
    for position in range(len(blob)):
        other = bytearray(blob)
        other[position] ^= 1
        with pytest.raises((NoteInvalid, SignatureInvalid)):
            verify_cosignature(
                str(SignatureLine("w1", bytes(other))), "w1", KEY.public, HEAD.text()
            )


def test_a_cosignature_covers_the_whole_head() -> None:
    line = cosign("w1", KEY, HEAD.text(), 5)
    for other in (
        replace(HEAD, origin="medpole/abd"),
        replace(HEAD, size=13),
        replace(HEAD, root=b"\x06" * 32),
        replace(HEAD, epoch=1),
        replace(HEAD, height=4),
        replace(HEAD, block_hash=b"\xac" * 32),
    ):
        with pytest.raises(SignatureInvalid):
            verify_cosignature(line, "w1", KEY.public, other.text())


def test_one_kind_of_signature_never_passes_for_the_other() -> None:
    note = sign_note("w1", KEY, HEAD.text())
    with pytest.raises(NoteInvalid):
        verify_cosignature(note, "w1", KEY.public, HEAD.text())
    with pytest.raises(NoteInvalid):
        verify_note(cosign("w1", KEY, HEAD.text(), 5), "w1", KEY.public, HEAD.text())
    with pytest.raises(NoteInvalid):
        verify_note(note, "w1", OTHER.public, HEAD.text())
