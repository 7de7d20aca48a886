"""Signing keys: what is sealed opens for its own row and its own secret alone; a damaged row costs that row."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.identity.signing import ALGORITHMS, CannotSign, KeyRing, new_key, successor
from policies.identity.jws import parse
from policies.identity.signing_keys import LEAD
from policies.identity.tokens import Fault, Trust, verify
from policies.identity.verification_keys import MOST_KEYS
from storage.sealed import Unsealable, seal, unseal

SECRET, OTHER = b"s" * 32, b"o" * 32
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_a_key_signs_its_public_half_verifies(algorithm: str) -> None:
    key = new_key(algorithm, SECRET, created_at=NOW, active_at=NOW)
    ring = KeyRing.of([key], SECRET, NOW)
    second = int(NOW.timestamp())
    jws = parse(ring.sign({"iss": "i", "aud": "a", "iat": second, "exp": second + 60}, "at+jwt", NOW).encode())
    assert jws is not None
    assert (jws.key_id, jws.algorithm) == (key.id, algorithm)
    assert not isinstance(verify(jws, Trust(issuer="i", audience="a", keys=ring.believed), second), Fault)


def test_a_sealed_half_opens_for_its_own_row_alone() -> None:
    sealed = seal(SECRET, b"private", "row")
    assert b"private" not in sealed
    assert unseal(SECRET, sealed, "row") == b"private"
    assert seal(SECRET, b"private", "row") != sealed
    broken = sealed[:-1] + bytes([sealed[-1] ^ 1])
    wrong = [(OTHER, sealed, "row"), (SECRET, sealed, "other"), (SECRET, b"\2" + sealed[1:], "row")]
    for key, text, row in [*wrong, *((SECRET, text, "row") for text in (broken, b"", sealed[:5]))]:
        with pytest.raises(Unsealable):
            unseal(key, text, row)


def test_a_key_of_another_secret_verifies_and_does_not_sign() -> None:
    """X-03: what it has signed stays good; nothing new is signed until an operator rotates."""
    key = new_key("EdDSA", OTHER, created_at=NOW, active_at=NOW)
    ring = KeyRing.of([key], SECRET, NOW)
    assert list(ring.believed.keys) == [key.id]
    assert not ring.can_sign(NOW)
    assert "GATEWAY_SECRET_KEY" in ring.broken[0]
    with pytest.raises(CannotSign):
        ring.sign({}, "at+jwt", NOW)
    assert successor([key], SECRET, NOW).active_at == NOW


def test_a_damaged_row_costs_that_row_alone() -> None:
    good, bad = (new_key("EdDSA", SECRET, created_at=NOW, active_at=NOW) for _ in range(2))
    for damage in ("", "{", "[]", '{"kty": "oct"}'):
        ring = KeyRing.of([replace(bad, public_jwk=damage), good], SECRET, NOW)
        assert list(ring.believed.keys) == [good.id]
    ring = KeyRing.of([good, replace(bad, sealed=b"x")], SECRET, NOW)
    assert ring.opened.keys() == {good.id}


def test_a_successor_waits_until_it_is_known_and_takes_the_same_algorithm() -> None:
    assert successor([], SECRET, NOW).active_at == NOW
    old = new_key("ES256", SECRET, created_at=NOW, active_at=NOW)
    made = successor([old], SECRET, NOW)
    assert (made.algorithm, made.active_at) == ("ES256", NOW + LEAD)
    assert successor([old], SECRET, NOW, after=timedelta(), algorithm="EdDSA").algorithm == "EdDSA"


def test_the_published_set_holds_no_private_half() -> None:
    keys = [new_key(algorithm, SECRET, created_at=NOW, active_at=NOW) for algorithm in ALGORITHMS]
    published = KeyRing.of(keys, SECRET, NOW).published()["keys"]
    assert [jwk["kid"] for jwk in published] == [key.id for key in keys]
    assert all("d" not in jwk and jwk["use"] == "sig" for jwk in published)
    assert len(published) < MOST_KEYS
