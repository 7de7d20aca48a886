"""Signing: new keys, and the ring of those that are believed, of which one signs."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt import PyJWS
from jwt.algorithms import get_default_algorithms

from policies.identity.signing_keys import LEAD, SigningKey, Stage, signer
from policies.identity.verification_keys import NO_KEYS, KeySet, read_key_set, thumbprint
from storage.sealed import Unsealable, seal, unseal

SEALING = "signing-keys"
"""The purpose for which the sealing key is derived from the gateway's secret."""
ALGORITHMS = ("EdDSA", "ES256")
_MAKE: Mapping[str, Callable[[], Any]] = {
    "EdDSA": Ed25519PrivateKey.generate,
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
}
_JWS = PyJWS(algorithms=list(ALGORITHMS))


class CannotSign(Exception):
    """There is no key to sign with, or it does not open."""


def new_key(algorithm: str, sealing_key: bytes, *, created_at: datetime, active_at: datetime) -> SigningKey:
    """A fresh key, its private half sealed. Its id is its thumbprint (RFC 7638)."""
    private = _MAKE[algorithm]()
    public = json.loads(get_default_algorithms()[algorithm].to_jwk(private.public_key()))
    key_id = thumbprint(public)
    raw = private.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return SigningKey(
        id=key_id,
        algorithm=algorithm,
        public_jwk=json.dumps(public | {"kid": key_id, "alg": algorithm, "use": "sig"}),
        sealed=seal(sealing_key, raw, key_id),
        created_at=created_at,
        active_at=active_at,
    )


def successor(
    keys: Iterable[SigningKey], sealing_key: bytes, now: datetime, *, after: timedelta = LEAD, algorithm: str = ""
) -> SigningKey:
    """The key that takes over from those: published for ``after`` first, with the algorithm of the one that signs.

    Where none signs, or the one that should does not open, it signs at once: there is nothing to wait for.
    """
    ring = KeyRing.of(keys, sealing_key, now)
    signing = signer(ring.keys, now)
    waits = after if ring.can_sign(now) else timedelta()
    algorithm = algorithm or (signing.algorithm if signing is not None else ALGORITHMS[0])
    return new_key(algorithm, sealing_key, created_at=now, active_at=now + waits)


def heirs(sealing_key: bytes, now: datetime) -> Callable[[SigningKey, datetime], SigningKey]:
    """What makes the key that takes the place of one that is believed no more, with its algorithm."""
    return lambda ended, active_at: new_key(ended.algorithm, sealing_key, created_at=now, active_at=active_at)


def is_sealed_with_another(keys: Iterable[SigningKey], sealing_key: bytes) -> bool:
    """Whether there are private halves, and none of them opens with this key."""
    sealed = [key for key in keys if key.sealed is not None]
    return bool(sealed) and not any(_opens(key, sealing_key) for key in sealed)


def _opens(key: SigningKey, sealing_key: bytes) -> bool:
    try:
        unseal(sealing_key, key.sealed or b"", key.id)
    except Unsealable:
        return False
    return True


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys as last read. ``opened`` are the private halves by key id; ``broken`` says which do not open."""

    keys: tuple[SigningKey, ...] = ()
    believed: KeySet = NO_KEYS
    opened: Mapping[str, Any] = field(default_factory=dict)
    broken: tuple[str, ...] = ()

    @classmethod
    def of(cls, keys: Iterable[SigningKey], sealing_key: bytes, now: datetime) -> "KeyRing":
        """What is not gone, with the private halves of what signs or will."""
        kept: list[SigningKey] = []
        halves: list[Any] = []
        opened: dict[str, Any] = {}
        broken: list[str] = []
        for key in keys:
            if key.stage(now) is Stage.GONE:
                continue
            try:
                halves.append(json.loads(key.public_jwk))
            except ValueError:
                broken.append(f"{key.id}: its public half is damaged")
                continue
            kept.append(key)
            if key.stage(now) is Stage.RETIRING or key.sealed is None:
                continue
            try:
                raw = unseal(sealing_key, key.sealed, key.id)
                opened[key.id] = serialization.load_der_private_key(raw, None)
            except (Unsealable, ValueError) as error:
                broken.append(str(error))
        return cls(tuple(kept), read_key_set({"keys": halves}), opened, tuple(broken))

    def sign(self, claims: Mapping[str, Any], kind: str, now: datetime) -> str:
        """A token of that ``typ``, signed by the key whose turn it is. Raises CannotSign."""
        key = signer(self.keys, now)
        private = self.opened.get(key.id) if key is not None else None
        if key is None or private is None:
            raise CannotSign("there is no signing key that opens with this GATEWAY_SECRET_KEY")
        payload = json.dumps(claims, separators=(",", ":")).encode()
        return _JWS.encode(payload, private, algorithm=key.algorithm, headers={"typ": kind, "kid": key.id})

    def can_sign(self, now: datetime) -> bool:
        """Whether :meth:`sign` would."""
        key = signer(self.keys, now)
        return key is not None and key.id in self.opened

    def published(self) -> dict[str, Any]:
        """The JWK Set for others (RFC 7517)."""
        return {"keys": [json.loads(key.public_jwk) for key in self.keys]}
