"""ECVRF-EDWARDS25519-SHA512-TAI, the verifiable random function of RFC 9381, suite 0x03.

One secret and one `alpha` give one `beta`, which nobody predicts without the secret and anybody
checks with the public key and the proof. A plain Ed25519 signature is not unique to its message
and would let an institution choose among mappings.

Sections: 5.1 prove, 5.2 proof to hash, 5.3 verify, 5.4.1.1 encode to curve, 5.4.2.2 nonce,
5.4.3 challenge, 5.4.4 decoding, 5.4.5 key validation, 5.5 the suite's parameters.

Rules that hold here:

- points and scalars are 32 little-endian bytes, scalars below the group's order q;
- a public key and a proof's Gamma are canonical encodings of points in the group of order q. The
  RFC asks only that they are no points of small order; honest keys and proofs have no other
  component, and refusing it leaves nothing to the version of libsodium in use;
- a proof's s is below q, so a valid proof has no second encoding;
- arithmetic on secrets is libsodium's, in constant time; encoding alpha to the curve takes a
  number of attempts that depends on alpha, which is public (RFC 9381, section 7.4).

    >>> secret = generate_secret()
    >>> proof = prove(secret, b"alpha")
    >>> verify(public_key(secret), b"alpha", proof) == proof_to_hash(proof)
    True
"""

import hashlib
import secrets
from functools import lru_cache
from threading import Lock
from typing import Final

from nacl.bindings import (
    crypto_core_ed25519_add,
    crypto_core_ed25519_is_valid_point,
    crypto_core_ed25519_scalar_add,
    crypto_core_ed25519_scalar_mul,
    crypto_core_ed25519_scalar_reduce,
    crypto_core_ed25519_sub,
    crypto_scalarmult_ed25519_base_noclamp,
    crypto_scalarmult_ed25519_noclamp,
)
from nacl.exceptions import RuntimeError as SodiumRefusal

from sml.errors import VrfKeyInvalid, VrfProofInvalid

SECRET_BYTES: Final = 32
PUBLIC_BYTES: Final = 32
PROOF_BYTES: Final = 80
BETA_BYTES: Final = 64

_SUITE: Final = b"\x03"
_ENCODE, _CHALLENGE, _HASH, _BACK = b"\x01", b"\x02", b"\x03", b"\x00"
_CHALLENGE_BYTES: Final = 16
_P: Final = 2**255 - 19
_Q: Final = 2**252 + 27742317777372353535851937790883648493
_ZERO: Final = bytes(32)
_IDENTITY: Final = b"\x01" + bytes(31)


class _Known:
    """The newest proofs that hold, with their outputs.

    A member needs each proof of a round twice, for its verdict and before it co-signs, and its own
    it has made itself. Refusals are not kept.
    """

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, Lock()
        self._outputs: dict[tuple[bytes, bytes, bytes], bytes] = {}

    def get(self, key: tuple[bytes, bytes, bytes]) -> bytes | None:
        return self._outputs.get(key)

    def keep(self, key: tuple[bytes, bytes, bytes], beta: bytes) -> None:
        with self._lock:
            self._outputs[key] = beta
            if len(self._outputs) > self._most:
                del self._outputs[next(iter(self._outputs))]


_KNOWN: Final = _Known(256)


def generate_secret() -> bytes:
    """Draw a secret key: 32 bytes of the operating system's randomness."""
    return secrets.token_bytes(SECRET_BYTES)


def public_key(secret: bytes) -> bytes:
    """The public key of a secret: 32 bytes, as an Ed25519 key of the same seed.

    Raises:
        VrfKeyInvalid: `secret` is not 32 bytes.
    """
    return _multiply_base(_expand(secret)[0])


def prove(secret: bytes, alpha: bytes) -> bytes:
    """Prove the output for `alpha` (RFC 9381, section 5.1). Deterministic.

    Args:
        secret: 32 bytes.
        alpha: the input, of any length.

    Returns:
        The proof: Gamma (32 bytes), challenge c (16), s (32).

    Raises:
        VrfKeyInvalid: `secret` is not 32 bytes.
    """
    return _prove(secret, alpha)[1]


def evaluate(secret: bytes, alpha: bytes) -> tuple[bytes, bytes]:
    """Compute the output for `alpha`, and its proof, which this process need not verify again.

    Args:
        secret: 32 bytes.
        alpha: the input, of any length.

    Returns:
        beta (64 bytes) and the proof (80), as `proof_to_hash` and `prove` give them.

    Raises:
        VrfKeyInvalid: `secret` is not 32 bytes.
    """
    public, proof = _prove(secret, alpha)
    beta = _hash_of(proof[:32])
    _KNOWN.keep((public, alpha, proof), beta)
    return beta, proof


def verify(public: bytes, alpha: bytes, proof: bytes) -> bytes:
    """Check a proof and return the output it proves (RFC 9381, section 5.3).

    Args:
        public: the prover's public key, 32 bytes; validated here (section 5.4.5).
        alpha: the input, of any length.
        proof: 80 bytes.

    Returns:
        beta, 64 bytes.

    Raises:
        VrfKeyInvalid: `public` is no canonical point of the group of order q.
        VrfProofInvalid: the proof does not decode, or belongs to another key or alpha.
    """
    known = _KNOWN.get((public, alpha, proof))
    if known is not None:
        return known
    if not _is_key(public):
        raise VrfKeyInvalid(
            "The VRF public key is not a valid point of edwards25519.",
            "Register the key that `public_key` derives from the institution's secret.",
        )
    gamma, c, s = _parts(proof)
    h = _encode_to_curve(public, alpha)
    u = crypto_core_ed25519_sub(_multiply_base(s), _multiply(_widen(c), public))
    v = crypto_core_ed25519_sub(_multiply(s, h), _multiple_of_gamma(c, gamma))
    if _challenge(public, h, gamma, u, v) != c:
        raise VrfProofInvalid(
            "The VRF proof does not hold for this public key and this alpha.",
            "Prove again with the registered key, over the alpha of this very round.",
        )
    beta = _hash_of(gamma)
    _KNOWN.keep((public, alpha, proof), beta)
    return beta


@lru_cache(maxsize=256)
def _is_key(public: bytes) -> bool:
    return len(public) == PUBLIC_BYTES and crypto_core_ed25519_is_valid_point(public)


@lru_cache(maxsize=256)
def proof_to_hash(proof: bytes) -> bytes:
    """The output that a proof carries (RFC 9381, section 5.2): 64 bytes.

    It says nothing about the proof's truth: use it on one's own proof, else use `verify`.

    Raises:
        VrfProofInvalid: the proof does not decode.
    """
    return _hash_of(_decode(proof)[0])


def _prove(secret: bytes, alpha: bytes) -> tuple[bytes, bytes]:
    """The public key, and the proof."""
    x, nonce_key, public = _key(secret)
    h = _encode_to_curve(public, alpha)
    gamma = _multiply(x, h)
    k = _nonce(nonce_key, h)
    c = _challenge(public, h, gamma, _multiply_base(k), _multiply(k, h))
    s = crypto_core_ed25519_scalar_add(k, crypto_core_ed25519_scalar_mul(_widen(c), x))
    return public, gamma + c + s


@lru_cache(maxsize=16)  # a member's one, which its process holds anyway
def _key(secret: bytes) -> tuple[bytes, bytes, bytes]:
    """The secret scalar, the key of the nonces, and the public key."""
    x, nonce_key = _expand(secret)
    return x, nonce_key, _multiply_base(x)


def _expand(secret: bytes) -> tuple[bytes, bytes]:
    """The secret scalar x, reduced below q, and the key of the nonces (RFC 8032, section 5.1.5)."""
    if len(secret) != SECRET_BYTES:
        raise VrfKeyInvalid(
            f"The VRF secret has {len(secret)} bytes, not {SECRET_BYTES}.",
            "Draw one with `generate_secret`.",
        )
    digest = bytearray(hashlib.sha512(secret).digest())
    digest[0] &= 0xF8
    digest[31] = digest[31] & 0x7F | 0x40
    return crypto_core_ed25519_scalar_reduce(bytes(digest[:32]) + _ZERO), bytes(digest[32:])


def _encode_to_curve(public: bytes, alpha: bytes) -> bytes:
    """Try and increment (section 5.4.1.1), with the public key as its salt (section 5.5)."""
    for counter in range(256):
        attempt = _SUITE + _ENCODE + public + alpha + bytes([counter]) + _BACK
        candidate = hashlib.sha512(attempt).digest()[:32]
        # libsodium would reduce y modulo p; RFC 8032, section 5.1.3, refuses such an encoding.
        if int.from_bytes(candidate, "little") & (2**255 - 1) >= _P:
            continue
        try:
            h = _clear_cofactor(candidate)
        except SodiumRefusal:
            continue
        if h != _IDENTITY:
            return h
    raise VrfProofInvalid(  # pragma: no cover: about 2^-256 of all inputs
        "No counter encodes this alpha to the curve.", "Use another alpha."
    )


def _nonce(nonce_key: bytes, h: bytes) -> bytes:
    """The deterministic nonce k (section 5.4.2.2)."""
    return crypto_core_ed25519_scalar_reduce(hashlib.sha512(nonce_key + h).digest())


def _challenge(*points: bytes) -> bytes:
    """The challenge c over the points Y, H, Gamma, U, V: 16 bytes (section 5.4.3)."""
    digest = hashlib.sha512(_SUITE + _CHALLENGE + b"".join(points) + _BACK).digest()
    return digest[:_CHALLENGE_BYTES]


def _hash_of(gamma: bytes) -> bytes:
    return hashlib.sha512(_SUITE + _HASH + _clear_cofactor(gamma) + _BACK).digest()


def _decode(proof: bytes) -> tuple[bytes, bytes, bytes]:
    """Gamma, c and s of a proof (section 5.4.4); Gamma is a point of the group."""
    gamma, c, s = _parts(proof)
    if not crypto_core_ed25519_is_valid_point(gamma):
        raise _malformed()
    return gamma, c, s


def _multiple_of_gamma(c: bytes, gamma: bytes) -> bytes:
    """c times Gamma. Multiplying refuses what is no point of the group: it need not be asked."""
    try:
        return _multiply(_widen(c), gamma if any(c) else _decode(gamma + bytes(48))[0])
    except SodiumRefusal:
        raise _malformed() from None


def _malformed() -> VrfProofInvalid:
    return VrfProofInvalid(
        "The VRF proof holds an invalid point, or a scalar that is not below the order.",
        "Send the proof as `prove` returned it.",
    )


def _parts(proof: bytes) -> tuple[bytes, bytes, bytes]:
    """Gamma, which may be anything, c and s."""
    if len(proof) != PROOF_BYTES:
        raise VrfProofInvalid(
            f"The VRF proof has {len(proof)} bytes, not {PROOF_BYTES}.",
            "Send the proof as `prove` returned it.",
        )
    gamma, c, s = proof[:32], proof[32:48], proof[48:]
    if int.from_bytes(s, "little") >= _Q:
        raise _malformed()
    return gamma, c, s


def _clear_cofactor(point: bytes) -> bytes:
    """Eight times a point of the curve; scalar multiplication refuses points off the group."""
    for _ in range(3):
        point = crypto_core_ed25519_add(point, point)
    return point


# libsodium refuses a product that is the identity. Points are of order q and scalars below it
# here, so that is the scalar 0 and nothing else.
def _multiply(scalar: bytes, point: bytes) -> bytes:
    return _IDENTITY if scalar == _ZERO else crypto_scalarmult_ed25519_noclamp(scalar, point)


def _multiply_base(scalar: bytes) -> bytes:
    return _IDENTITY if scalar == _ZERO else crypto_scalarmult_ed25519_base_noclamp(scalar)


def _widen(challenge: bytes) -> bytes:
    return challenge + bytes(32 - _CHALLENGE_BYTES)
