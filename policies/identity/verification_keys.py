"""Public keys that signatures are verified with: each has one algorithm, and a name that only selects it.

A key set (RFC 7517) is judged when it is loaded, because the verifying library takes what it is given: it reads neither
``use`` nor ``key_ops``, keeps the last of two keys with one ``kid``, and accepts RSA of 1024 bits and ROCA's weak keys
(CVE-2017-15361). What is not plainly a strong public signing key is left out, with a reason.
"""

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from jwt.algorithms import get_default_algorithms
from jwt.exceptions import InvalidKeyError

from policies.identity.jws import unpadded

MOST_KEYS = 64
"""How many keys one set may have."""
_ALGORITHMS = get_default_algorithms()
_SHAPES = {
    "EdDSA": {"kty": "OKP", "crv": "Ed25519"},
    "ES256": {"kty": "EC", "crv": "P-256"},
    "RS256": {"kty": "RSA"},
}
"""Every algorithm there is here, and what its keys are. Nothing symmetric: a public key is no secret to MAC with."""
ALGORITHMS = frozenset(_SHAPES)
_THUMBPRINT = {"OKP": ("crv", "kty", "x"), "EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n")}
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_FEWEST_RSA_BITS, _MOST_RSA_BITS = 2_048, 8_192
_SMALL_PRIMES = (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One public key. ``public`` is the library's own form of it."""

    id: str
    algorithm: str
    public: Any


@dataclass(frozen=True, slots=True)
class KeySet:
    """Keys by ``kid``; ``left_out`` says of each key that is not among them why, for the operator's log."""

    keys: Mapping[str, VerificationKey]
    left_out: tuple[str, ...] = ()

    def get(self, key_id: str) -> VerificationKey | None:
        """The key of that name."""
        return self.keys.get(key_id)


NO_KEYS = KeySet({})


def read_key_set(document: object, algorithms: Iterable[str] = ALGORITHMS) -> KeySet:
    """The usable keys of a parsed JWK Set. Raises ValueError when it is none, or has too many.

    A ``kid`` that comes twice names nothing any more, so neither key is used.
    """
    members = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list):
        raise ValueError("it is not a JWK Set: an object with a list 'keys'")  # noqa: TRY004  data, not a type
    if len(members) > MOST_KEYS:
        raise ValueError(f"it has {len(members)} keys; at most {MOST_KEYS} are read")
    found: dict[str, VerificationKey] = {}
    twice: set[str] = set()
    left_out: list[str] = []
    for number, member in enumerate(members, 1):
        try:
            key = read_key(member, algorithms)
        except ValueError as error:
            left_out.append(f"key {number}: {error}")
            continue
        if key.id in found:
            twice.add(key.id)
        found[key.id] = key
    for key_id in twice:
        del found[key_id]
        left_out.append(f"two keys are called {key_id!r}")
    return KeySet(found, tuple(left_out))


def read_key(jwk: object, algorithms: Iterable[str] = ALGORITHMS) -> VerificationKey:
    """One JWK with a name. Raises ValueError for whatever is not a strong public key for signatures."""
    if not isinstance(jwk, dict):
        raise ValueError("it is not an object")  # noqa: TRY004  data, not a type
    key_id = jwk.get("kid")
    if not isinstance(key_id, str) or not 0 < len(key_id) <= 256 or not key_id.isprintable():
        raise ValueError("it has no usable kid")
    if not _PRIVATE.isdisjoint(jwk):
        raise ValueError("it is not a public key; whoever published it must replace it")
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        raise ValueError("it is not meant for signatures")
    algorithm = _algorithm(jwk, frozenset(algorithms))
    _check_canonical(jwk)
    try:
        public = _ALGORITHMS[algorithm].from_jwk({name: jwk[name] for name in _THUMBPRINT[jwk["kty"]]})
    except (InvalidKeyError, ValueError, TypeError) as error:
        raise ValueError(f"it cannot be read: {error}") from error
    if jwk["kty"] == "RSA":
        _check_rsa(public)
    return VerificationKey(key_id, algorithm, public)


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """The key's own name: RFC 7638 with SHA-256, in base64url."""
    members = {name: jwk[name] for name in sorted(_THUMBPRINT[jwk["kty"]])}
    digest = sha256(json.dumps(members, separators=(",", ":")).encode()).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def _algorithm(jwk: Mapping[str, Any], allowed: frozenset[str]) -> str:
    """The one algorithm of a key: what it says, or else what its shape says."""
    fitting = [name for name, shape in _SHAPES.items() if all(jwk.get(field) == text for field, text in shape.items())]
    said = jwk.get("alg", fitting[0] if fitting else None)
    if said == "Ed25519" and fitting == ["EdDSA"]:  # RFC 9864 renamed it; tokens still say EdDSA
        said = "EdDSA"
    if said not in fitting:
        raise ValueError(f"only keys for {', '.join(sorted(allowed))} are used")
    if said not in allowed:
        raise ValueError(f"keys for {said} are not allowed here")
    return str(said)


def _check_canonical(jwk: Mapping[str, Any]) -> None:
    for name in _THUMBPRINT[jwk["kty"]]:
        value = jwk.get(name)
        if not isinstance(value, str) or len(value) > 2_048:
            raise ValueError(f"its member '{name}' is missing or no text")
        if name in {"x", "y", "n", "e"} and not unpadded(value.encode("ascii", "replace")):
            raise ValueError(f"its member '{name}' is not canonical base64url")


def _check_rsa(public: Any) -> None:
    modulus, exponent = public.public_numbers().n, public.public_numbers().e
    if not _FEWEST_RSA_BITS <= modulus.bit_length() <= _MOST_RSA_BITS:
        raise ValueError(f"an RSA key has {_FEWEST_RSA_BITS} to {_MOST_RSA_BITS} bits, not {modulus.bit_length()}")
    if exponent < 65_537 or exponent % 2 == 0:
        raise ValueError("its RSA exponent is below 65537 or even")
    if all(modulus % prime in powers for prime, powers in _ROCA.items()):
        raise ValueError("it is one of the weak RSA keys of CVE-2017-15361 (ROCA)")


def _powers(prime: int) -> frozenset[int]:
    """The group that 65537 generates modulo a prime: ROCA's primes are in it for every small prime, others are not."""
    found, power = set(), 1
    while power not in found:
        found.add(power)
        power = power * 65_537 % prime
    return frozenset(found)


_ROCA = {prime: _powers(prime) for prime in _SMALL_PRIMES}
