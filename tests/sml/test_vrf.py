"""The VRF against RFC 9381, Appendix B.3, and against whoever bends a proof."""

import doctest
import hashlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_core_ed25519_add, crypto_sign_seed_keypair

from sml import vrf
from sml.errors import SmlError, VrfKeyInvalid, VrfProofInvalid

Q = 2**252 + 27742317777372353535851937790883648493
P = 2**255 - 19

# Examples 16, 17, 18: SK, PK, alpha, counter, H, k, U = k*B, V = k*H, pi, beta.
VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "91bbed02a99461df1ad4c6564a5f5d829d0b90cfc7903e7a5797bd658abf3318",
        "8a49edbd1492a8ee09766befe50a7d563051bf3406cbffc20a88def030730f0f",
        "aef27c725be964c6a9bf4c45ca8e35df258c1878b838f37d9975523f09034071",
        "5016572f71466c646c119443455d6cb9b952f07d060ec8286d678615d55f954f",
        "8657106690b5526245a92b003bb079ccd1a92130477671f6fc01ad16f26f723f"
        "26f8a57ccaed74ee1b190bed1f479d97"
        "27d2d0f9b005a6e456a35d4fb0daab1268a1b0db10836d9826a528ca76567805",
        "90cf1df3b703cce59e2a35b925d411164068269d7b2d29f3301c03dd757876ff"
        "66b71dda49d2de59d03450451af026798e8f81cd2e333de5cdf4f3e140fdd8ae",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "5b659fc3d4e9263fd9a4ed1d022d75eaacc20df5e09f9ea937502396598dc551",
        "d8c3a66921444cb3427d5d989f9b315aa8ca3375e9ec4d52207711a1fdb44107",
        "1dcb0a4821a2c48bf53548228b7f170962988f6d12f5439f31987ef41f034ab3",
        "fd03c0bf498c752161bae4719105a074630a2aa5f200ff7b3995f7bfb1513423",
        "f3141cd382dc42909d19ec5110469e4feae18300e94f304590abdced48aed593"
        "3bf0864a62558b3ed7f2fea45c92a465"
        "301b3bbf5e3e54ddf2d935be3b67926da3ef39226bbc355bdc9850112c8f4b02",
        "eb4440665d3891d668e7e0fcaf587f1b4bd7fbfe99d0eb2211ccec90496310eb"
        "5e33821bc613efb94db5e5b54c70a848a0bef4553a41befc57663b56373a5031",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "bf4339376f5542811de615e3313d2b36f6f53c0acfebb482159711201192576a",
        "5ffdbc72135d936014e8ab708585fda379405542b07e3bd2c0bd48437fbac60a",
        "2bae73e15a64042fcebf062abe7e432b2eca6744f3e8265bc38e009cd577ecd5",
        "88cba1cb0d4f9b649d9a86026b69de076724a93a65c349c988954f0961c5d506",
        "9bc0f79119cc5604bf02d23b4caede71393cedfbb191434dd016d30177ccbf80"
        "96bb474e53895c362d8628ee9f9ea3c0"
        "e52c7a5c691b6c18c9979866568add7a2d41b00b05081ed0f58ee5e31b3a970e",
        "645427e5d00c62a23fb703732fa5d892940935942101e456ecca7bb217c61c45"
        "2118fec1219202a0edcf038bb6373241578be7217ba85a2687f7a0310b2df19f",
    ),
]
SECRET, PUBLIC, ALPHA = (bytes.fromhex(x) for x in VECTORS[2][:3])
PROOF = bytes.fromhex(VECTORS[2][7])
BETA = bytes.fromhex(VECTORS[2][8])

# The eight points of small order, canonical, and encodings of some of them that are not.
ORDER_8 = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")
SMALL = [
    (0).to_bytes(32, "little"),
    (1).to_bytes(32, "little"),
    (P - 1).to_bytes(32, "little"),
    (0 | 1 << 255).to_bytes(32, "little"),
    ORDER_8,
    ORDER_8[:31] + bytes([ORDER_8[31] ^ 0x80]),
]
NON_CANONICAL = [y.to_bytes(32, "little") for y in (P, P + 1, P + 3, P + 18, P | 1 << 255)]


@pytest.mark.parametrize("vector", VECTORS, ids=["example16", "example17", "example18"])
def test_rfc_9381_appendix_b_3(vector: tuple[str, ...]) -> None:
    sk, pk, alpha, h, k, u, v, pi, beta = (bytes.fromhex(x) for x in vector)

    assert vrf.public_key(sk) == pk
    assert vrf.prove(sk, alpha) == pi
    assert vrf.proof_to_hash(pi) == beta
    assert vrf.verify(pk, alpha, pi) == beta

    assert vrf._encode_to_curve(pk, alpha) == h
    assert vrf._nonce(vrf._expand(sk)[1], h) == k
    assert vrf._multiply_base(k) == u
    assert vrf._multiply(k, h) == v
    assert vrf._challenge(pk, h, pi[:32], u, v) == pi[32:48]


def test_the_docstrings_example() -> None:
    assert doctest.testmod(vrf).failed == 0


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200))
def test_what_is_proved_verifies(secret: bytes, alpha: bytes) -> None:
    public = vrf.public_key(secret)
    proof = vrf.prove(secret, alpha)

    assert public == crypto_sign_seed_keypair(secret)[0]
    assert (len(public), len(proof)) == (32, 80)
    assert proof == vrf.prove(secret, alpha)
    beta = vrf.verify(public, alpha, proof)
    assert len(beta) == 64
    assert beta == vrf.proof_to_hash(proof)


def test_secrets_differ() -> None:
    assert len({vrf.generate_secret() for _ in range(100)}) == 100
    assert len(vrf.generate_secret()) == 32


def test_every_flipped_bit_of_a_proof_is_refused() -> None:
    for bit in range(8 * len(PROOF)):
        with pytest.raises(VrfProofInvalid):
            vrf.verify(PUBLIC, ALPHA, flipped(PROOF, bit))


def test_every_flipped_bit_of_a_key_is_refused() -> None:
    for bit in range(8 * len(PUBLIC)):
        with pytest.raises((VrfKeyInvalid, VrfProofInvalid)):
            vrf.verify(flipped(PUBLIC, bit), ALPHA, PROOF)


@given(st.binary(min_size=1, max_size=64), st.data())
def test_any_flipped_bit_is_refused(alpha: bytes, data: st.DataObject) -> None:
    proof = vrf.prove(SECRET, alpha)
    parts = [PUBLIC, alpha, proof]
    which = data.draw(st.integers(0, 2))
    parts[which] = flipped(parts[which], data.draw(st.integers(0, 8 * len(parts[which]) - 1)))
    with pytest.raises((VrfKeyInvalid, VrfProofInvalid)):
        vrf.verify(*parts)


@given(st.binary(max_size=100))
def test_no_bytes_crash_the_verifier(proof: bytes) -> None:
    with pytest.raises(VrfProofInvalid):
        vrf.verify(PUBLIC, ALPHA, proof)
    with pytest.raises((VrfKeyInvalid, VrfProofInvalid)):
        vrf.verify(proof, ALPHA, PROOF)


def test_s_is_below_the_order() -> None:
    s = int.from_bytes(PROOF[48:], "little")
    assert s < Q
    for multiple in range(1, 15):
        bent = PROOF[:48] + (s + multiple * Q).to_bytes(32, "little")
        with pytest.raises(VrfProofInvalid):
            vrf.verify(PUBLIC, ALPHA, bent)
        with pytest.raises(VrfProofInvalid):
            vrf.proof_to_hash(bent)


@pytest.mark.parametrize("point", SMALL + NON_CANONICAL)
def test_small_and_non_canonical_points_are_refused(point: bytes) -> None:
    with pytest.raises(VrfKeyInvalid):
        vrf.verify(point, ALPHA, PROOF)
    with pytest.raises(VrfProofInvalid):
        vrf.verify(PUBLIC, ALPHA, point + PROOF[32:])
    with pytest.raises(VrfProofInvalid):
        vrf.proof_to_hash(point + PROOF[32:])


def test_points_with_a_component_of_small_order_are_refused() -> None:
    with pytest.raises(VrfKeyInvalid):
        vrf.verify(crypto_core_ed25519_add(PUBLIC, ORDER_8), ALPHA, PROOF)
    twisted = crypto_core_ed25519_add(PROOF[:32], ORDER_8)
    with pytest.raises(VrfProofInvalid):
        vrf.verify(PUBLIC, ALPHA, twisted + PROOF[32:])


@pytest.mark.parametrize(("c", "s"), [(0, 0), (0, 1), (1, 0), (2**128 - 1, Q - 1)])
def test_scalars_that_libsodium_refuses_are_plain_refusals(c: int, s: int) -> None:
    proof = PROOF[:32] + c.to_bytes(16, "little") + s.to_bytes(32, "little")
    with pytest.raises(VrfProofInvalid):
        vrf.verify(PUBLIC, ALPHA, proof)


def test_zero_times_a_point_is_the_identity() -> None:
    identity = b"\x01" + bytes(31)
    assert vrf._multiply(bytes(32), PUBLIC) == identity
    assert vrf._multiply_base(bytes(32)) == identity
    assert vrf._multiply_base(b"\x01" + bytes(31)) == b"\x58" + b"\x66" * 31


def test_wrong_lengths_are_refused() -> None:
    for length in (0, 31, 33, 64):
        with pytest.raises(VrfKeyInvalid):
            vrf.public_key(bytes(length))
        with pytest.raises(VrfKeyInvalid):
            vrf.prove(bytes(length), ALPHA)
        with pytest.raises(VrfKeyInvalid):
            vrf.verify(bytes(length), ALPHA, PROOF)
    for proof in (b"", PROOF[:-1], PROOF + b"\0"):
        with pytest.raises(VrfProofInvalid):
            vrf.verify(PUBLIC, ALPHA, proof)


def test_try_and_increment_agrees_with_the_field_arithmetic_of_rfc_8032() -> None:
    """The same H from integers alone, over inputs that need none to several attempts."""
    attempts = set()
    for i in range(60):
        alpha = i.to_bytes(2, "big")
        counter, h = encode_to_curve_by_hand(PUBLIC, alpha)
        attempts.add(counter)
        assert vrf._encode_to_curve(PUBLIC, alpha) == h
    assert {0, 1, 2} <= attempts


def test_errors_carry_a_code_and_a_way_out() -> None:
    with pytest.raises(SmlError) as caught:
        vrf.verify(PUBLIC, b"another", PROOF)
    assert caught.value.code == "VrfProofInvalid"
    assert caught.value.what in str(caught.value)
    assert caught.value.resolve in str(caught.value)


def test_what_is_evaluated_is_what_is_proved_and_need_not_be_verified(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    beta, proof = vrf.evaluate(SECRET, b"evaluated")
    assert proof == vrf.prove(SECRET, b"evaluated")
    monkeypatch.setattr(vrf, "_KNOWN", vrf._Known(2))
    assert vrf.verify(PUBLIC, b"evaluated", proof) == beta
    vrf.evaluate(SECRET, b"evaluated")
    monkeypatch.setattr(vrf, "_challenge", None)
    assert vrf.verify(PUBLIC, b"evaluated", proof) == beta
    for key in ((PUBLIC, b"another", proof), (PUBLIC, b"evaluated", flipped(proof, 400))):
        with pytest.raises(TypeError):  # not known, so computed
            vrf.verify(*key)


def test_only_the_newest_outputs_are_kept() -> None:
    known = vrf._Known(2)
    for i in range(3):
        known.keep((b"", b"", bytes([i])), bytes([i]))
    assert [known.get((b"", b"", bytes([i]))) for i in range(3)] == [None, b"\1", b"\2"]


def test_speed_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    rounds = 200
    start = time.perf_counter()
    inputs = [i.to_bytes(4, "big") for i in range(rounds)]
    proofs = [vrf.prove(SECRET, alpha) for alpha in inputs]
    middle = time.perf_counter()
    for alpha, proof in zip(inputs, proofs, strict=True):
        vrf.verify(PUBLIC, alpha, proof)
    end = time.perf_counter()
    with capsys.disabled():
        print(
            f"\n  vrf: prove {(middle - start) / rounds * 1e3:.2f} ms, "
            f"verify {(end - middle) / rounds * 1e3:.2f} ms"
        )


def flipped(value: bytes, bit: int) -> bytes:
    bent = bytearray(value)
    bent[bit // 8] ^= 1 << bit % 8
    return bytes(bent)


D = -121665 * pow(121666, -1, P) % P


def decode_point(encoded: bytes) -> tuple[int, int] | None:
    """RFC 8032, section 5.1.3."""
    y = int.from_bytes(encoded, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    if x * x % P != square or (x == 0 and sign):
        return None
    return (P - x if x % 2 != sign else x), y


def encode_to_curve_by_hand(public: bytes, alpha: bytes) -> tuple[int, bytes]:
    for counter in range(256):
        text = b"\x03\x01" + public + alpha + bytes([counter, 0])
        point = decode_point(hashlib.sha512(text).digest()[:32])
        if point is None:
            continue
        x, y = point
        for _ in range(3):
            t = D * x * x * y * y
            x, y = (
                2 * x * y * pow(1 + t, -1, P) % P,
                (y * y + x * x) * pow(1 - t, -1, P) % P,
            )
        if (x, y) != (0, 1):
            return counter, (y | (x & 1) << 255).to_bytes(32, "little")
    raise AssertionError
