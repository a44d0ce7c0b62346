"""Against C2SP tlog-proof, the tests of other implementations, and a ledger of our own."""

import base64
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_examples import CREATED, Consortium

from ledger import merkle
from ledger.errors import LedgerError, NoteInvalid, ProofInvalid, SignatureInvalid
from ledger.keys import Role, SecretKey
from ledger.note import Checkpoint, cosign, sign_note, verify_cosignature, verify_note
from ledger.tlog_proof import MAX_EXTRA, MAX_HASHES, MAX_TEXT, TlogProof

KEY = SecretKey(Role.COSIGN, bytes(range(32)))
ENTRIES = [f"entry {i}".encode() for i in range(7)]
LEAVES = [merkle.leaf_hash(entry) for entry in ENTRIES]
HEAD = Checkpoint("medpole/abc", len(LEAVES), merkle.root(LEAVES), 0, 3, b"\xab" * 32)


def proof_of(index: int, head: Checkpoint = HEAD) -> TlogProof:
    text = head.text()
    lines = (sign_note(head.origin, KEY, text), cosign("w1", KEY, text, 5))
    return TlogProof(index, tuple(merkle.inclusion_proof(LEAVES, index)), text, lines)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


# --- The specification and other implementations ------------------------------------------------

# The example of C2SP tlog-proof.md. It shows its signature lines shortened ("hI2DJw[...]1roloI="),
# so they stand apart from what can be read.
EXAMPLE_EXTRA = "YWdlLXYxLjIuMS1kYXJ3aW4tYXJtNjQudGFyLmd6kYXJ3aW4tYXJ"
EXAMPLE_HASHES = (
    "gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=",
    "B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=",
    "EKNzoDWG8LGC0Yp9o+sv3qllpMP9uHQ9B20KNL+Q1zs=",
    "RoopEkOdqkYqMB4MJXrbt/hMjOxsVn0IrWjpz1ZMMes=",
    "AHCioX9nLjsrse6YhjRRmk1WUEirVOLLRoOQ6vfO5vk=",
)
EXAMPLE_CHECKPOINT = "example.com/fancylog\n109482\nsFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=\n"
EXAMPLE = (
    f"c2sp.org/tlog-proof@v1\nextra {EXAMPLE_EXTRA}\nindex 73894\n"
    + "".join(f"{step}\n" for step in EXAMPLE_HASHES)
    + f"\n{EXAMPLE_CHECKPOINT}\n"
)
EXAMPLE_SIGNERS = (
    "example.com/fancylog", "witness1.example", "witness2.example", "witness3.example",
)  # fmt: skip


def test_the_example_of_the_specification_is_read_and_written() -> None:
    lines = tuple(f"— {name} {encoded(bytes(68))}" for name in EXAMPLE_SIGNERS)
    text = EXAMPLE + "".join(f"{line}\n" for line in lines)
    proof = TlogProof.parse(text)
    assert proof == TlogProof(
        index=73894,
        hashes=tuple(base64.b64decode(step) for step in EXAMPLE_HASHES),
        checkpoint=EXAMPLE_CHECKPOINT,
        signatures=lines,
        extra=b"age-v1.2.1-darwin-arm64.tar.gz\x91\x85\xc9\xdd\xa5\xb8\xb5\x85\xc9",
    )
    assert proof.text() == text


def test_the_example_of_the_specification_is_not_a_proof_of_our_ledger() -> None:
    """Stricter than C2SP: our checkpoint has exactly one extension line."""
    proof = TlogProof.parse(f"{EXAMPLE}— example.com/fancylog {encoded(bytes(68))}\n")
    with pytest.raises(NoteInvalid):
        proof.verify_entry(b"entry")


# The cases of TestMarshal in transparency-dev/formats, proof/tlog_proof_test.go. Their checkpoints
# carry no signatures, so that our text ends with the empty line before those.
@pytest.mark.parametrize(
    ("proof", "want"),
    [
        (
            TlogProof(
                5,
                (sha256(b"hash1").digest(), sha256(b"hash2").digest()),
                "test checkpoint\n",
                (),
            ),
            f"c2sp.org/tlog-proof@v1\nindex 5\n{encoded(sha256(b'hash1').digest())}\n"
            f"{encoded(sha256(b'hash2').digest())}\n\ntest checkpoint\n",
        ),
        (
            TlogProof(
                10, (sha256(b"hash1").digest(),), "checkpoint data\n", (), b"extra information"
            ),
            f"c2sp.org/tlog-proof@v1\nextra {encoded(b'extra information')}\nindex 10\n"
            f"{encoded(sha256(b'hash1').digest())}\n\ncheckpoint data\n",
        ),
        (
            TlogProof(0, (), "checkpoint\n", ()),
            "c2sp.org/tlog-proof@v1\nindex 0\n\ncheckpoint\n",
        ),
    ],
)
def test_the_text_is_that_of_the_reference_implementation(proof: TlogProof, want: str) -> None:
    assert proof.text() == f"{want}\n"


# The heads of TestUnmarshalErrors there and of TestVerifyProof_* in FiloSottile/torchwood, which
# both refuse; here over a checkpoint that is sound, so that the head alone is at fault.
@pytest.mark.parametrize(
    "head",
    [
        "wrong-header\nindex 0\n",
        "index 0\n",
        "c2sp.org/tlog-proof@v1\nextra !!notbase64!!\nindex 0\n",
        "c2sp.org/tlog-proof@v1\nextra not-valid-base64!!!\nindex 0\n",
        "c2sp.org/tlog-proof@v1\n",
        "c2sp.org/tlog-proof@v1\n\n",
        "c2sp.org/tlog-proof@v1\nindex notanumber\n",
        "c2sp.org/tlog-proof@v1\nindex -1\n",
        "c2sp.org/tlog-proof@v1\nindex -5\n",
        "c2sp.org/tlog-proof@v1\nindex 0\n!!notbase64!!\n",
        "c2sp.org/tlog-proof@v1\nindex 0\n" + encoded(bytes(64)) + "\n",
        "c2sp.org/tlog-proof@v1\nindex 0\n" + encoded(bytes(16)) + "\n",
        "c2sp.org/tlog-proof@v1\nindex 0\n" + "a" * 65 * 1024 + "\n",
    ],
)
def test_what_the_reference_implementations_refuse_is_refused(head: str) -> None:
    rest = proof_of(3).text().partition("\n\n")[2]
    TlogProof.parse(f"c2sp.org/tlog-proof@v1\nindex 0\n\n{rest}")
    with pytest.raises(ProofInvalid):
        TlogProof.parse(f"{head}\n{rest}")


# A path of a public log: TEST_REAL_* in the t-log proof tests of Project Oak (Google). Only the
# path, index, size and root are theirs; the checkpoint around them is of our form.
OAK_ENTRY = b"hello tesseroak\n"
OAK_ROOT = "QYfrD7XAd4qUHbRBs4dDyDZwpZN4M/cccXr2G56pxkY="
OAK_HASHES = (
    "fGRlLyuz+L9Jb8+uTSut/2aVc4z7fKFW+clvsb6xjEM=",
    "F6LautOHD5eppkWC0xn/lz00X5g2yLlZAkl2jCI/wdE=",
    "qH7OJxFNup+TDvJuohd2HphKVngfMeMzUK8QChEDcas=",
    "+Y3g758yXtPCRh/eqhLTA3bdcx+cCV1Uah0JdgB0YEs=",
    "vq8cJSjj8dPVmFBRUqDLlaMqW6aAYR2GKugVhgudXLs=",
    "J0z3X5qTb9WFC1gABhVFx0bW1rVZRL+DAoBL2e2h4G4=",
    "NmSbYg25xNFzTRerIsF3HbEMyTIDqW87AQd9ekzopE8=",
    "L8BZipjURnkctkjJtGJs+YyTXMssvNKA7+a8nV2JT/s=",
    "pva4RFzCejMkVMVmYc93As2lbk7WAyrw58TvrzEOjNc=",
)


def test_a_path_of_a_public_log_verifies() -> None:
    head = replace(HEAD, size=76959, root=base64.b64decode(OAK_ROOT))
    hashes = tuple(base64.b64decode(step) for step in OAK_HASHES)
    proof = replace(proof_of(0, head), index=76958, hashes=hashes)
    assert TlogProof.parse(proof.text()).verify_entry(OAK_ENTRY) == head
    for wrong in (b"hello tesseroak", b"hello tesseroaK\n"):
        with pytest.raises(ProofInvalid):
            proof.verify_entry(wrong)


# --- Our ledger ---------------------------------------------------------------------------------


def test_a_proof_of_a_ledgers_block_convinces_whoever_knows_the_keys() -> None:
    consortium = Consortium(4)
    block = consortium.founding_block
    lines = (block.signature, *consortium.cosign(block.checkpoint))
    leaves = [block.entries[0].leaf, block.header.leaf]
    for index, entry in enumerate((block.entries[0].data, block.header.data())):
        path = tuple(merkle.inclusion_proof(leaves, index))
        text = TlogProof(index, path, block.checkpoint.text(), lines).text()
        proof = TlogProof.parse(text)
        head = proof.verify_entry(entry)
        assert head == block.checkpoint
        key = consortium.coordinator[Role.COSIGN].public
        verify_note(proof.signatures[0], head.origin, key, proof.checkpoint)
        for name, line in zip(consortium.members, proof.signatures[1:], strict=True):
            member = consortium.members[name][Role.COSIGN].public
            assert verify_cosignature(line, name, member, proof.checkpoint) == CREATED + 9


@pytest.mark.parametrize("index", range(len(ENTRIES)))
def test_a_proof_holds_for_its_entry_alone(index: int) -> None:
    proof = TlogProof.parse(proof_of(index).text())
    assert proof.verify_entry(ENTRIES[index]) == HEAD
    for other in (*ENTRIES[:index], *ENTRIES[index + 1 :], b"", LEAVES[index]):
        with pytest.raises(ProofInvalid):
            proof.verify_entry(other)


def test_a_proof_holds_for_its_index_path_size_and_root_alone() -> None:
    proof = proof_of(3)
    for changed in (
        replace(proof, index=2),
        replace(proof, index=7),
        replace(proof, hashes=proof.hashes[:-1]),
        replace(proof, hashes=proof.hashes[::-1]),
        replace(proof, hashes=(*proof.hashes, bytes(32))),
        replace(proof, checkpoint=replace(HEAD, size=3).text()),
        replace(proof, checkpoint=replace(HEAD, root=bytes(32)).text()),
    ):
        with pytest.raises(ProofInvalid):
            TlogProof.parse(changed.text()).verify_entry(ENTRIES[3])


def test_the_signatures_are_left_to_the_reader() -> None:
    forged = replace(HEAD, root=LEAVES[0], size=1)
    proof = TlogProof(0, (), forged.text(), proof_of(0).signatures)
    head = TlogProof.parse(proof.text()).verify_entry(ENTRIES[0])
    with pytest.raises(SignatureInvalid):
        verify_note(proof.signatures[0], head.origin, KEY.public, proof.checkpoint)


# --- One exact form -----------------------------------------------------------------------------


@given(
    st.integers(0, 10**19 - 1),
    st.lists(st.binary(min_size=32, max_size=32), max_size=MAX_HASHES),
    st.none() | st.binary(min_size=1, max_size=100),
    st.integers(1, 20),
)
def test_whatever_is_written_is_read_again(
    index: int, hashes: list[bytes], extra: bytes | None, signers: int
) -> None:
    lines = tuple(f"— w{i} {encoded(bytes(76))}" for i in range(signers))
    proof = TlogProof(index, tuple(hashes), HEAD.text(), lines, extra)
    assert TlogProof.parse(proof.text()) == proof


@pytest.mark.parametrize(
    "change",
    [
        lambda t: "",
        lambda t: t[:-1],
        lambda t: t + "\n",
        lambda t: "\n" + t,
        lambda t: "\ufeff" + t,
        lambda t: t + "more\n",
        lambda t: t.replace("\n", "\r\n"),
        lambda t: t.replace("@v1", "@v2"),
        lambda t: t.replace("index 3", "Index 3"),
        lambda t: t.replace("index 3", "index  3"),
        lambda t: t.replace("index 3", "index 3 "),
        lambda t: t.replace("index 3", "index 03"),
        lambda t: t.replace("index 3", "index +3"),
        lambda t: t.replace("index 3", "index 3.0"),
        lambda t: t.replace("index 3", "index ٣"),
        lambda t: t.replace("index 3", "index " + "9" * 20),
        lambda t: t.replace("index 3", "index 3\nindex 3"),
        lambda t: t.replace("index 3", "index 3\nextra AAAA"),
        lambda t: t.replace("index 3", "extra \nindex 3"),
        lambda t: t.replace("index 3", "extra  AAAA\nindex 3"),
        lambda t: t.replace("index 3", "extra AAA\nindex 3"),
        lambda t: t.replace("index 3", "extra AB==\nindex 3"),
        lambda t: t.replace("index 3", "extra AA_-\nindex 3"),
        lambda t: t.replace("index 3", "extra AAAA\nextra AAAA\nindex 3"),
        lambda t: t.replace("=\n", "\n", 1),
        lambda t: t.replace("=\n", "= \n", 1),
        lambda t: t.replace("=\n", "==\n", 1),
        lambda t: t.replace("=\n", "=\n\n", 1),
        lambda t: t.replace("\n\n", "\n"),
        lambda t: t.replace("\n\n", "\n", 1),
        lambda t: t.replace("\n\n", "\n\n\n", 1),
        lambda t: t.replace("\nblock", "\n\nblock"),
        lambda t: t.replace("\nblock", "\n\x00block"),
        lambda t: t.replace("\nblock", "\n\tblock"),
        lambda t: t.replace("\nblock", "\n\ud800block"),
        lambda t: t.replace("— w1", "- w1"),
        lambda t: t.replace("— w1", "—  w1"),
        lambda t: t.replace("— w1", "— w+1"),
        lambda t: t[: t.index("—")],
        lambda t: t[: t.index("medpole/abc")],
        lambda t: t.replace("medpole/abc\n7\n", "medpole/abc\n").replace("\nblock", " block"),
    ],
)
def test_a_proof_in_any_other_form_is_refused(change) -> None:
    text = proof_of(3).text()
    TlogProof.parse(text)
    assert change(text) != text
    with pytest.raises((ProofInvalid, NoteInvalid)):
        TlogProof.parse(change(text))


@given(st.integers(0, 2**12), st.sampled_from("A/=+ \n0—é\x7f"))
def test_no_changed_character_goes_unnoticed(position: int, character: str) -> None:
    text = replace(proof_of(3), extra=b"extra").text()
    at = position % len(text)
    changed = text[:at] + character + text[at + 1 :]
    try:
        proof = TlogProof.parse(changed)
    except LedgerError:
        return
    assert proof.text() == changed
    assert (proof == TlogProof.parse(text)) == (changed == text)


def test_the_sizes_are_bounded() -> None:
    proof = replace(proof_of(3), hashes=(bytes(32),) * MAX_HASHES, extra=bytes(MAX_EXTRA))
    assert TlogProof.parse(proof.text()) == proof
    for large in (
        replace(proof, hashes=(bytes(32),) * (MAX_HASHES + 1)),
        replace(proof, extra=bytes(MAX_EXTRA + 1)),
        replace(proof, signatures=proof.signatures * (MAX_TEXT // 150)),
    ):
        with pytest.raises(ProofInvalid):
            TlogProof.parse(large.text())


def test_no_extra_data_is_no_extra_line() -> None:
    assert replace(proof_of(3), extra=b"").text() == proof_of(3).text()
    assert TlogProof.parse(proof_of(3).text()).extra is None
