"""Against the reference tree of certificate-transparency, and the definition of RFC 6962."""

from base64 import b64decode
from collections.abc import Sequence
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import merkle
from ledger.errors import ProofInvalid

REFERENCE_LEAVES = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
REFERENCE_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
REFERENCE_CONSISTENCY = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
    (6, 7): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
}
# (index, size), the index from 0; transparency-dev/merkle, proof/verify_test.go counts it from 1.
REFERENCE_INCLUSION = {
    (0, 1): [],
    (0, 8): REFERENCE_CONSISTENCY[1, 8],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
SOME_HASH = bytes.fromhex("abacaba000000000000000000000000000000000000000000060061e00123456")
SIZES = st.integers(1, 70)


def leaves_of(n: int) -> list[bytes]:
    return [merkle.leaf_hash(i.to_bytes(4, "big")) for i in range(n)]


def defined_root(leaves: Sequence[bytes]) -> bytes:
    """MTH as RFC 6962, section 2.1 defines it, by recursion on the largest power of two below."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    left, right = defined_root(leaves[:k]), defined_root(leaves[k:])
    return sha256(b"\x01" + left + right).digest()


@pytest.mark.parametrize("n", range(9))
def test_the_reference_tree_has_its_known_roots(n: int) -> None:
    leaves = [merkle.leaf_hash(data) for data in REFERENCE_LEAVES[:n]]
    assert merkle.root(leaves).hex() == REFERENCE_ROOTS[n]


@pytest.mark.parametrize(("sizes", "proof"), REFERENCE_CONSISTENCY.items())
def test_the_reference_tree_has_its_known_consistency_proofs(
    sizes: tuple[int, int], proof: list[str]
) -> None:
    old, new = sizes
    leaves = [merkle.leaf_hash(data) for data in REFERENCE_LEAVES[:new]]
    assert [step.hex() for step in merkle.consistency_proof(leaves, old)] == proof


def test_the_frontier_is_the_recursive_definition_at_every_size() -> None:
    frontier, leaves = merkle.Frontier(), leaves_of(130)
    for size, leaf in enumerate(leaves):
        assert frontier.root() == defined_root(leaves[:size])
        frontier.append(leaf)
    assert frontier.size == 130


def test_a_copied_frontier_grows_alone() -> None:
    frontier = merkle.Frontier()
    for leaf in leaves_of(5):
        frontier.append(leaf)
    before = frontier.root()
    frontier.copy().append(b"\x00" * 32)
    assert frontier.root() == before
    assert frontier.size == 5


def test_a_node_never_passes_for_a_leaf() -> None:
    left, right = leaves_of(2)
    assert merkle.node_hash(left, right) != merkle.leaf_hash(left + right)


def test_every_proof_of_every_small_tree_verifies() -> None:
    for size in range(1, 34):
        leaves = leaves_of(size)
        root = merkle.root(leaves)
        for index in range(size):
            proof = merkle.inclusion_proof(leaves, index)
            merkle.verify_inclusion(leaves[index], index, size, proof, root)
        for old in range(size + 1):
            proof = merkle.consistency_proof(leaves, old)
            merkle.verify_consistency(old, merkle.root(leaves[:old]), size, root, proof)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=12), st.data())
def test_a_subtree_grows_from_any_smaller_tree(blocks: list[int], data: st.DataObject) -> None:
    leaves = leaves_of(sum(blocks))
    index = data.draw(st.integers(0, len(leaves) - 1))
    sizes = [sum(blocks[:n]) for n in range(len(blocks))]
    for first, last in [
        *merkle.inclusion_path(index, len(leaves)), *merkle.consistency_path(index, len(leaves))
    ]:  # fmt: skip
        before, size = merkle.Frontier(), max(size for size in sizes if size < last)
        for leaf in leaves[:size]:
            before.append(leaf)
        root = merkle.span_root((first, last), before, leaves[size:last])
        assert root == defined_root(leaves[first:last])


def changed(proof: list[bytes], position: int, byte: int) -> list[list[bytes]]:
    """The proof with one bit flipped, one step less, one step more, two steps swapped."""
    others = [[*proof, b"\x07" * 32], [b"\x07" * 32, *proof]]
    if proof:
        step = bytearray(proof[position % len(proof)])
        step[byte % 32] ^= 1
        at = position % len(proof)
        others += [[*proof[:at], bytes(step), *proof[at + 1 :]], proof[:at] + proof[at + 1 :]]
    if len(proof) > 1:
        others.append([proof[1], proof[0], *proof[2:]])
    return others


@given(SIZES, st.integers(0, 69), st.integers(0, 9), st.integers(0, 31))
def test_a_changed_inclusion_proof_fails(size: int, index: int, position: int, byte: int) -> None:
    index %= size
    leaves = leaves_of(size)
    root, proof = merkle.root(leaves), merkle.inclusion_proof(leaves, index)
    merkle.verify_inclusion(leaves[index], index, size, proof, root)
    for other in changed(proof, position, byte):
        with pytest.raises(ProofInvalid):
            merkle.verify_inclusion(leaves[index], index, size, other, root)
    for wrong in (-1, size, (index + 1) % size):
        if wrong != index:
            with pytest.raises(ProofInvalid):
                merkle.verify_inclusion(leaves[index], wrong, size, proof, root)
    with pytest.raises(ProofInvalid):
        merkle.verify_inclusion(b"\x00" * 32, index, size, proof, root)
    with pytest.raises(ProofInvalid):
        merkle.verify_inclusion(leaves[index], index, size, proof, b"\x00" * 32)


@given(SIZES, st.integers(0, 70), st.integers(0, 9), st.integers(0, 31))
def test_a_changed_consistency_proof_fails(size: int, old: int, position: int, byte: int) -> None:
    old %= size + 1
    leaves = leaves_of(size)
    old_root, new_root = merkle.root(leaves[:old]), merkle.root(leaves)
    proof = merkle.consistency_proof(leaves, old)
    merkle.verify_consistency(old, old_root, size, new_root, proof)
    for other in changed(proof, position, byte):
        with pytest.raises(ProofInvalid):
            merkle.verify_consistency(old, old_root, size, new_root, other)
    with pytest.raises(ProofInvalid):
        merkle.verify_consistency(old, b"\x00" * 32, size, new_root, proof)
    if old:
        with pytest.raises(ProofInvalid):
            merkle.verify_consistency(old, old_root, size, b"\x00" * 32, proof)
        with pytest.raises(ProofInvalid):
            merkle.verify_consistency(size + 1, new_root, size, new_root, [])


def test_a_rewritten_leaf_has_no_consistency_proof() -> None:
    leaves = leaves_of(11)
    rewritten = [*leaves[:3], b"\x01" * 32, *leaves[4:]]
    proof = merkle.consistency_proof(rewritten, 6)
    with pytest.raises(ProofInvalid):
        merkle.verify_consistency(6, merkle.root(leaves[:6]), 11, merkle.root(rewritten), proof)


@pytest.mark.parametrize("index", [-1, 5])
def test_no_proof_is_made_for_what_is_not_there(index: int) -> None:
    leaves = leaves_of(5)
    with pytest.raises(ProofInvalid):
        merkle.inclusion_proof(leaves, index)
    with pytest.raises(ProofInvalid):
        merkle.consistency_proof(leaves, index if index < 0 else 6)
    with pytest.raises(ProofInvalid):
        merkle.inclusion_proof([], 0)


# --- Vectors of other implementations -------------------------------------------------------------


def test_leaves_and_nodes_have_their_known_hashes() -> None:
    """TestRFC6962Hasher of transparency-dev/merkle, rfc6962/rfc6962_test.go."""
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    empty_leaf = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    leaf = "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56"
    node = "aa217fe888e47007fa15edab33c2b492a722cb106c64667fc2b044444de66bbb"
    assert merkle.EMPTY_ROOT.hex() == merkle.root([]).hex() == empty
    assert merkle.leaf_hash(b"").hex() == empty_leaf
    assert merkle.leaf_hash(b"L123456").hex() == leaf
    assert merkle.node_hash(b"N123", b"N456").hex() == node


def test_the_example_tree_of_the_rfc_has_its_known_proofs() -> None:
    """RFC 6962, section 2.1.3: seven leaves, the nodes by the names in its figure."""
    data = [f"d{i}".encode() for i in range(7)]
    a, b, c, d, e, f, j = leaves = [sha256(b"\x00" + d).digest() for d in data]
    g, h, i = (sha256(b"\x01" + x + y).digest() for x, y in ((a, b), (c, d), (e, f)))
    k, l_ = sha256(b"\x01" + g + h).digest(), sha256(b"\x01" + i + j).digest()
    root = sha256(b"\x01" + k + l_).digest()
    assert [merkle.leaf_hash(entry) for entry in data] == leaves
    assert merkle.root(leaves) == root
    for index, path in {0: [b, h, l_], 3: [c, g, l_], 4: [f, j, k], 6: [i, k]}.items():
        assert merkle.inclusion_proof(leaves, index) == path
        merkle.verify_inclusion(leaves[index], index, 7, path, root)
    for old, proof in {3: [c, d, g, l_], 4: [l_], 6: [i, j, k]}.items():
        assert merkle.consistency_proof(leaves, old) == proof
        merkle.verify_consistency(old, merkle.root(leaves[:old]), 7, root, proof)


@pytest.mark.parametrize(("place", "expected"), REFERENCE_INCLUSION.items())
def test_the_reference_tree_has_its_known_inclusion_proofs(
    place: tuple[int, int], expected: list[str]
) -> None:
    """And what TestVerifyInclusion of transparency-dev/merkle changes in them is refused."""
    index, size = place
    leaf, root = merkle.leaf_hash(REFERENCE_LEAVES[index]), bytes.fromhex(REFERENCE_ROOTS[size])
    path = [bytes.fromhex(step) for step in expected]
    leaves = [merkle.leaf_hash(data) for data in REFERENCE_LEAVES[:size]]
    assert merkle.inclusion_proof(leaves, index) == path
    merkle.verify_inclusion(leaf, index, size, path, root)
    flipped = [
        [*path[:at], bytes([step[0] ^ 8]) + step[1:], *path[at + 1 :]]
        for at, step in enumerate(path)
    ]
    probes = [
        *((leaf, wrong, size, path, root) for wrong in (index - 1, index + 1, index ^ 2)),
        *((leaf, index, wrong, path, root) for wrong in (size * 2, size // 2)),
        *((wrong, index, size, path, root) for wrong in (b"WrongLeaf", b"")),
        *((leaf, index, size, path, wrong) for wrong in (merkle.EMPTY_ROOT, SOME_HASH, b"")),
        *((leaf, index, size, [*path, more], root) for more in (b"", root)),
        *((leaf, index, size, [more, *path], root) for more in (b"", root)),
        *((leaf, index, size, wrong, root) for wrong in flipped),
        *((leaf, index, size, path[:-1], root) for _ in path[:1]),
        *((leaf, index, size, [path[0], SOME_HASH, *path[1:]], root) for _ in path[1:2]),
    ]
    for probe in probes:
        with pytest.raises(ProofInvalid):
            merkle.verify_inclusion(*probe)


@pytest.mark.parametrize(
    ("sizes", "expected"), [item for item in REFERENCE_CONSISTENCY.items() if item[1]]
)
def test_what_changes_the_reference_consistency_proofs_is_refused(
    sizes: tuple[int, int], expected: list[str]
) -> None:
    """The probes of TestVerifyConsistency of transparency-dev/merkle."""
    old, new = sizes
    first, second = (bytes.fromhex(REFERENCE_ROOTS[size]) for size in sizes)
    proof = [bytes.fromhex(step) for step in expected]
    merkle.verify_consistency(old, first, new, second, proof)
    flipped = [
        [*proof[:at], bytes([step[0] ^ 16]) + step[1:], *proof[at + 1 :]]
        for at, step in enumerate(proof)
    ]
    probes = [
        *((wrong, first, new, second, proof) for wrong in (old - 1, old + 1, old ^ 2)),
        *((old, first, wrong, second, proof) for wrong in (new * 2, new // 2)),
        (old, b"WrongRoot", new, second, proof),
        (old, first, new, b"WrongRoot", proof),
        (old, second, new, first, proof),
        (old, first, new, second, []),
        *((old, first, new, second, [*proof, more]) for more in (b"", first, second)),
        *((old, first, new, second, [more, *proof]) for more in (b"", first, second, proof[0])),
        (old, first, new, second, proof[:-1]),
        *((old, first, new, second, wrong) for wrong in flipped),
    ]
    for probe in probes:
        with pytest.raises(ProofInvalid):
            merkle.verify_consistency(*probe)


@pytest.mark.parametrize(
    ("old", "first", "new", "second", "proof"),
    [
        (0, SOME_HASH, 0, b"", []),
        (1, SOME_HASH, 1, b"", []),
        (1, SOME_HASH, 0, b"", []),
        (2, SOME_HASH, 1, b"", []),
        (1, SOME_HASH, 2, b"", []),
        (0, merkle.EMPTY_ROOT, 0, merkle.EMPTY_ROOT, [merkle.EMPTY_ROOT]),
        (0, merkle.EMPTY_ROOT, 1, merkle.EMPTY_ROOT, [merkle.EMPTY_ROOT]),
        (1, merkle.EMPTY_ROOT, 1, merkle.EMPTY_ROOT, [merkle.EMPTY_ROOT]),
        # Stricter than theirs, which asks nothing of the root of a tree of 0 leaves.
        (0, SOME_HASH, 0, SOME_HASH, []),
        (0, SOME_HASH, 1, merkle.EMPTY_ROOT, []),
    ],
)
def test_trivial_heads_are_held_to_the_rules(
    old: int, first: bytes, new: int, second: bytes, proof: list[bytes]
) -> None:
    """The table of TestVerifyConsistency of transparency-dev/merkle."""
    with pytest.raises(ProofInvalid):
        merkle.verify_consistency(old, first, new, second, proof)


# TestRace of FiloSottile/torchwood, internal/witness/witness_test.go: what the log of three signed
# checkpoints (see test_note) sends to a witness that knows its tree of one leaf.
@pytest.mark.parametrize(
    ("size", "root", "proof"),
    [
        (
            3,
            "RcCI1Nk56ZcSmIEfIn0SleqtV7uvrlXNccFx595Iwl0=",
            [
                "KgEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
                "KgIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            ],
        ),
        (
            5,
            "QrtXrQZCCvpIgsSmOsah7HdICzMLLyDfxToMql9WTjY=",
            [
                "KgEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
                "+fUDV+k970B4I3uKrqJM4aP1lloPZP8mvr2Z4wRw2LI=",
                "KgQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            ],
        ),
    ],
)
def test_a_witness_accepts_the_growth_of_a_published_log(
    size: int, root: str, proof: list[str]
) -> None:
    leaves = [bytes([42, i]) + bytes(30) for i in range(size)]
    steps = [b64decode(step) for step in proof]
    assert merkle.root(leaves) == b64decode(root)
    assert merkle.consistency_proof(leaves, 1) == steps
    merkle.verify_consistency(1, leaves[0], size, b64decode(root), steps)
