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


# --- Vectors of other implementations -------------------------------------------------------------

# TestSign and TestOpen of golang.org/x/mod, sumdb/note/note_test.go.
GO_TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
GO_SECRET = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PETER = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6"
    "KE6RyyBwJnAM="
)
ENOCH = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33W"
    "Wd1RvMc+QQ="
)
# TestRace of FiloSottile/torchwood, internal/witness/witness_test.go: a log's three checkpoints,
# whose consistency proofs are in test_merkle.
TORCHWOOD = "sigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562"
TORCHWOOD_KEY = "/9wtTZjkEk0/6veIwML5q/15YIPR8ElUN/MC7HnPEA8="
# TestCheckpointVerify and TestCheckpointVerifyCosignatureByKey of sigsum-go,
# pkg/checkpoint/checkpoint_test.go, all by the key whose seed is 17 and 31 zeros.
SIGSUM_KEY = SecretKey(Role.COSIGN, bytes([17]) + bytes(31))
SIGSUM_HEAD = "10\nHA5HAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
SIGSUM_ORIGIN = (
    "sigsum.org/v1/tree/e796172b92befd62d9dc67e41c2f5bc9d3100a3023b20b1ca40288dd1c679e69"
)
SIGSUM_NOTE = (
    f"— {SIGSUM_ORIGIN} gJ2ho0n8F8olcerUF1FFdv235A/5as/coWrpLrtE7ovMeP5whgwouYExowG/lTznxu6OUGjjt"
    "5yJQ6bXtTcf718MqAQ="
)
SIGSUM_COSIGNATURE = (
    "— example.org/witness ys8uUAAAAAAAAATSftMzceM8zssdZ9jin9SjwIxzx9iADMf63VqirX2hafol9RsqNqbofIz"
    "0LVRqHXI2kpEBSki5RTXFtxz1vo9+Cg=="
)


def public(encoded: str) -> PublicKey:
    return PublicKey(Role.COSIGN, base64.b64decode(encoded)[-32:])


def test_a_note_is_signed_as_the_reference_implementation_signs_it() -> None:
    _, _, name, hint, encoded = GO_SECRET.split("+", 4)
    key = SecretKey(Role.COSIGN, base64.b64decode(encoded)[1:])
    assert sign_note(name, key, GO_TEXT) == PETER
    assert SignatureLine.parse(PETER).blob[:4].hex() == hint


def test_a_checkpoint_and_a_cosignature_are_signed_as_sigsum_signs_them() -> None:
    text = f"{SIGSUM_ORIGIN}\n{SIGSUM_HEAD}"
    assert sign_note(SIGSUM_ORIGIN, SIGSUM_KEY, text) == SIGSUM_NOTE
    text = f"example.org/log\n{SIGSUM_HEAD}"
    assert cosign("example.org/witness", SIGSUM_KEY, text, 1234) == SIGSUM_COSIGNATURE


@pytest.mark.parametrize(
    ("line", "key", "text"),
    [
        (ENOCH, "ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop", GO_TEXT),
        # The example of verifier keys in later versions of C2SP signed-note, as the tests of
        # several implementations quote it.
        (
            "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOB"
            "H3mFXmRKuwHjG1Yu72IneyaQM=",
            "AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
            "This is an example message.\n",
        ),
        # TestGoSumDBCheckpoint of sigsum-go: the Go checksum database on 2024-09-23.
        (
            "— sum.golang.org Az3grpgEild5qw7+5dtV13Kf1C2Xurm8q4fhdxvcsDHnqNTaxL2AFjBY+2TyGKevucFc"
            "AAlWFJJYle3EJlDCrQ+y3A8=",
            "Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
            "go.sum database tree\n30055305\nmXfgRcJ0bG0j3CPdKwgGWtUzBUbX67saZGRmFuJGGsM=\n",
        ),
        # The example of C2SP tlog-checkpoint, "example.com/behind-the-sofa", is an earlier one of
        # the same database under another name: under the true one its signature holds.
        (
            "— sum.golang.org Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGz"
            "Gku9nTo+zyWE+xeMcTOAYQ8=",
            "Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
            "go.sum database tree\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        ),
        (
            f"— {TORCHWOOD} UgIom7fPZTqpxWWhyjWduBvTvGVqsokMbqTArsQilegKoFBJQjUFAmQ0+YeSPM3wfUQMFSz"
            "VnnNuWRTYrajXpNUbIQY=",
            TORCHWOOD_KEY,
            f"{TORCHWOOD}\n1\nKgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
        ),
        (
            f"— {TORCHWOOD} UgIom2VbtIcdFbwFAy1n7s6IkAxIY6J/GQOTuZF2ORV39d75cbAj2aQYwyJre36kezNobZ"
            "s4SUUdrcawfAB8WVrx6go=",
            TORCHWOOD_KEY,
            f"{TORCHWOOD}\n3\nRcCI1Nk56ZcSmIEfIn0SleqtV7uvrlXNccFx595Iwl0=\n",
        ),
        (
            f"— {TORCHWOOD} UgIomw/EOJmWi0i1FQsOj+etB7F8IccFam/jgd6wzRns4QPVmyEZtdvl1U2KEmLOZ/ASRc"
            "WJi0tW90dJWAShei7sDww=",
            TORCHWOOD_KEY,
            f"{TORCHWOOD}\n5\nQrtXrQZCCvpIgsSmOsah7HdICzMLLyDfxToMql9WTjY=\n",
        ),
    ],
)
def test_published_notes_verify_and_their_checkpoints_are_not_ours(
    line: str, key: str, text: str
) -> None:
    """Stricter than C2SP: our checkpoint has exactly one extension line, theirs have none."""
    name = SignatureLine.parse(line).name
    verify_note(line, name, public(key), text)
    with pytest.raises(SignatureInvalid):
        verify_note(line, name, public(key), text.replace("e", "E", 1))
    with pytest.raises(NoteInvalid):
        verify_note(line, name.upper(), public(key), text)
    with pytest.raises(NoteInvalid):
        Checkpoint.parse(text)


def test_the_cosignature_of_sigsum_verifies_and_its_neighbours_do_not() -> None:
    name, text = "example.org/witness", f"example.org/log\n{SIGSUM_HEAD}"
    assert verify_cosignature(SIGSUM_COSIGNATURE, name, SIGSUM_KEY.public, text) == 1234
    for other in (  # another key id, another name, another length: its other three lines
        SIGSUM_COSIGNATURE.replace("ys8u", "yX8u"),
        SIGSUM_COSIGNATURE.replace("witness", "witness-2"),
        SIGSUM_COSIGNATURE.replace("Cg==", "CgXX"),
    ):
        SignatureLine.parse(other)
        with pytest.raises(NoteInvalid):
            verify_cosignature(other, name, SIGSUM_KEY.public, text)
    later = SIGSUM_COSIGNATURE.replace("AAATS", "AAATT")
    with pytest.raises(SignatureInvalid):
        verify_cosignature(later, name, SIGSUM_KEY.public, text)


# Verifier keys, NAME+HINT+BASE64: C2SP signed-note (example.com/foo), golang.org/x/mod
# (PeterNeumann, EnochRoot), cmd/go (sum.golang.org), transparency-dev/formats,
# note/note_cosigv1_test.go (TEST, remora.n621.de), Project Oak's t-log proof tests (the last two).
@pytest.mark.parametrize(
    "verifier",
    [
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop",
        "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
        "TEST+7997405c+AQcC+FTVKf0jlTdHDY3rbevmnKxxPjigCXlVtGe6RIr6",
        "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
        "fake.log.origin/log+527eabb8+AddT9PtBhhNAsDYZ0V0euiRbXuvrLsw4L6vKARfipnmz",
        "test-witness+26349ef0+BIQDFTUlktisMqJzWn8qhteWrRr4dLcQ9R37T+8LQyQF",
    ],
)
def test_the_key_hints_are_those_of_published_keys(verifier: str) -> None:
    """A wrong hint is a malformed note; the right one with a wrong signature is just that."""
    name, hint, encoded = verifier.split("+", 2)
    kind, key = base64.b64decode(encoded)[0], public(encoded)
    verify, size = {1: (verify_note, 64), 4: (verify_cosignature, 72)}[kind]
    blob = bytes.fromhex(hint) + bytes(size)
    with pytest.raises(SignatureInvalid):
        verify(str(SignatureLine(name, blob)), name, key, "text\n")
    with pytest.raises(NoteInvalid):
        verify(str(SignatureLine(name, bytes(4) + blob[4:])), name, key, "text\n")


def test_a_published_cosignature_has_its_time_and_a_note_signature_has_none() -> None:
    """TestCoSigV1Timestamp of transparency-dev/formats, note/note_cosigv1_test.go."""
    blob = SignatureLine.parse(
        "— w1 ZGhGuQAAAABm/qTPeyKXD+R2rzyQsxPiP8mXum7qq/iF0u4vanlqJyocWODBt97w9uL+8qT7S5gxEHWWOwor"
        "DcFiEBYJXORmnFBOBA=="
    ).blob
    assert (len(blob), int.from_bytes(blob[4:12], "big")) == (76, 1727964367)
    with pytest.raises(NoteInvalid):
        verify_cosignature(
            "— w1 eQjRQm6eSKzFoiYalgwCPXu2y3ijtg68is9M46JKxuZB+dRfTmeQeDBoXnvxZx2ugnkyV+MUMLXpWs1h"
            "Pb/W/4xkNQY=",
            "w1",
            KEY.public,
            "text\n",
        )
    with pytest.raises(NoteInvalid):
        SignatureLine.parse("— w1 5%/$!\n 2")


@pytest.mark.parametrize(
    "line",
    [
        # C2SP signed-note, tlog-cosignature and tlog-witness; then sigsum-go's "alien" line
        "— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMou"
        "FSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=",
        "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhc"
        "yv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=",
        "— witness.example/w1 CMp+6LWBU0anHGH5aNDTJkH/gj79sG+T6+iP2ThYN5krrDJbR1HDnucjL39QsZTSvVjyQ"
        "Lrdk3DXDqI5G2HgLatVs0pWh6Up69HVOw==",
        "— witness.example/w2 AWui8Sk55XjYLOijihBjhqEH6nS1ndDymE0a+6idX7pLcnoB+dhnz0854aLZgrrKbYKA7"
        "nC3HNJhm/kWl7oJlqU3rXXvpysAdyP3wQ==",
        "— example.org/log DEAD",
    ],
)
def test_published_signature_lines_are_read_and_written(line: str) -> None:
    assert str(SignatureLine.parse(line)) == line


@pytest.mark.parametrize(
    "line",
    [
        PETER.replace("PeterNeumann", "Bad Name"),  # golang.org/x/mod, TestOpen
        "Unexpected line.",
        "— a+b ABCD",  # TestSign
        "— example.org/log DEADB",  # sigsum-go, TestCheckpointVerifyIgnoreExtraSignature
    ],
)
def test_the_lines_that_others_refuse_are_refused(line: str) -> None:
    with pytest.raises(NoteInvalid):
        SignatureLine.parse(line)


@pytest.mark.parametrize(
    ("origin", "size", "root"),
    [
        ("", "12", HEAD.text().split("\n")[2]),
        ("Log", "bananas", HEAD.text().split("\n")[2]),
        ("Log", "-34", HEAD.text().split("\n")[2]),
        ("Log", "3438945738945739845734895735", HEAD.text().split("\n")[2]),
        ("Log", "12", "ThisIsn'tBase64"),
        ("Log", "12", "YmFuYW5hcw=="),  # "bananas": theirs takes a root of any length
    ],
)
def test_the_checkpoints_that_others_refuse_are_refused(origin: str, size: str, root: str) -> None:
    """TestUnmarshalLogState of transparency-dev/formats, log/checkpoint_test.go, in our form."""
    block = HEAD.text().split("\n")[3]
    Checkpoint.parse("Log\n12\n" + HEAD.text().split("\n", 2)[2])
    with pytest.raises(NoteInvalid):
        Checkpoint.parse(f"{origin}\n{size}\n{root}\n{block}\n")
