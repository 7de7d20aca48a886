"""Keys and tokens for tests: signers of every kind, and tokens wrong in one place each."""

import base64
import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import get_default_algorithms

from policies.identity.verification_keys import KeySet, read_key_set, thumbprint

ISSUER = "https://gateway.example.com"
NOW_S = 1_800_000_000
_ALGORITHMS = get_default_algorithms()


def b64(data: bytes) -> bytes:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


@dataclass(frozen=True)
class Signer:
    """A private key, its algorithm and its name."""

    algorithm: str
    private: Any
    kid: str

    @property
    def jwk(self) -> dict[str, Any]:
        """The public half."""
        jwk = json.loads(_ALGORITHMS[self.algorithm].to_jwk(self.private.public_key()))
        return {**jwk, "kid": self.kid, "alg": self.algorithm, "use": "sig"}

    def sign(self, data: bytes) -> bytes:
        """The raw signature."""
        return _ALGORITHMS[self.algorithm].sign(data, self.private)

    def token(self, claims: Any = None, header: dict[str, Any] | None = None) -> bytes:
        """A whole token; ``header`` members replace the right ones, None removes one; bytes are taken as they are."""
        said = {"typ": "at+jwt", "alg": self.algorithm, "kid": self.kid} | (header or {})
        said = {name: value for name, value in said.items() if value is not None}
        return self.raw(json.dumps(said).encode(), claims)

    def raw(self, header: bytes, claims: Any = None) -> bytes:
        """A token with these very header bytes."""
        body = claims if isinstance(claims, bytes) else json.dumps(claim_set() if claims is None else claims).encode()
        signed = b64(header) + b"." + b64(body)
        return signed + b"." + b64(self.sign(signed))


def claim_set(**changes: Any) -> dict[str, Any]:
    """Good claims with changes; None removes one."""
    claims = {
        "iss": ISSUER,
        "aud": ISSUER,
        "sub": "usr_01",
        "client_id": "first-party",
        "tenant": "ten_01",
        "scope": "transcribe",
        "roles": ["member"],
        "iat": NOW_S,
        "exp": NOW_S + 600,
        "jti": "tok_01",
        "sid": "fam_01",
    } | changes
    return {name: value for name, value in claims.items() if value is not None}


@cache
def signer(algorithm: str = "EdDSA", number: int = 1) -> Signer:
    """One of several keys of a kind; its name is its thumbprint."""
    private: Any = {
        "EdDSA": Ed25519PrivateKey.generate,
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "RS256": lambda: rsa.generate_private_key(65_537, 2_048),
    }[algorithm]()
    made = Signer(algorithm, private, "")
    return Signer(algorithm, private, thumbprint(made.jwk))


def key_set(*signers: Signer) -> KeySet:
    """Their public halves, as read from a JWK Set."""
    found = read_key_set({"keys": [each.jwk for each in signers]})
    assert not found.left_out, found.left_out
    return found
