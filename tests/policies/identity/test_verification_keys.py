"""Key sets: what is not plainly a strong public signing key is left out, with a reason (J-15, J-16)."""

import math
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from policies.identity.verification_keys import MOST_KEYS, read_key, read_key_set, thumbprint
from tests.policies.signing import signer

ED, ES, RS = signer("EdDSA"), signer("ES256"), signer("RS256")
SMALL = {**RSAAlgorithm.to_jwk(rsa.generate_private_key(65_537, 1_024).public_key(), as_dict=True), "kid": "small"}
P384 = {**ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True), "kid": "p384"}
PRIVATE = {**ED.jwk, "d": "AAAA"}

BAD: dict[str, tuple[Any, str]] = {
    "not an object": ([], "not an object"),
    "no kid": ({**ED.jwk, "kid": None}, "kid"),
    "long kid": ({**ED.jwk, "kid": "x" * 300}, "kid"),
    "kid with a line break": ({**ED.jwk, "kid": "a\nb"}, "kid"),
    "private": (PRIVATE, "not a public key"),
    "symmetric": ({"kty": "oct", "k": "c2VjcmV0", "kid": "x", "alg": "HS256"}, "not a public key"),
    "symmetric without its key": ({"kty": "oct", "kid": "x", "alg": "HS256"}, "only keys for"),
    "for encryption": ({**RS.jwk, "use": "enc"}, "signatures"),
    "for signing alone": ({**RS.jwk, "key_ops": ["sign"]}, "signatures"),
    "no list of operations": ({**RS.jwk, "key_ops": None}, "signatures"),
    "a number of operations": ({**RS.jwk, "key_ops": 5}, "signatures"),
    "operations in one text": ({**RS.jwk, "key_ops": "sign verify"}, "signatures"),
    "another algorithm": ({**RS.jwk, "alg": "PS256"}, "only keys for"),
    "another key's algorithm": ({**RS.jwk, "alg": "ES256"}, "only keys for"),
    "none": ({**RS.jwk, "alg": "none"}, "only keys for"),
    "P-384": (P384, "only keys for"),
    "RSA-1024": (SMALL, "bits"),
    "exponent 3": ({**RS.jwk, "e": "Aw"}, "exponent"),
    "x missing": ({**ED.jwk, "x": None}, "'x'"),
    "x padded": ({**ED.jwk, "x": ED.jwk["x"] + "="}, "'x'"),
    "x cut": ({**ED.jwk, "x": "AAAA"}, "cannot be read"),
    "x huge": ({**ED.jwk, "x": "A" * 4_000}, "'x'"),
    "not on the curve": ({**ES.jwk, "y": ES.jwk["x"]}, "cannot be read"),
}


@pytest.mark.parametrize(("jwk", "reason"), BAD.values(), ids=BAD)
def test_a_key_that_is_not_plainly_good_is_left_out(jwk: Any, reason: str) -> None:
    found = read_key_set({"keys": [jwk, ED.jwk]})
    assert list(found.keys) == [ED.kid]
    assert [text.startswith("key 1: ") and reason in text for text in found.left_out] == [True]


def test_a_key_as_weak_as_rocas_is_left_out() -> None:
    """CVE-2017-15361: the modulus is in the group that 65537 generates, modulo each small prime."""
    product = math.prod((11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157))
    modulus = ((1 << 2_047) // product + 2) * product + pow(65_537, 5, product)
    with pytest.raises(ValueError, match="ROCA"):
        read_key({"kty": "RSA", "kid": "roca", "e": "AQAB", "n": number(modulus)})


def number(value: int) -> str:
    """A number as a JWK has it."""
    return RSAAlgorithm.to_jwk(rsa.RSAPublicNumbers(65_537, value).public_key(), as_dict=True)["n"]


def test_two_keys_of_one_name_are_none() -> None:
    """J-04, J-15: a name that means two keys selects neither; a third of that name changes nothing."""
    other = {**signer("EdDSA", 2).jwk, "kid": ED.kid}
    found = read_key_set({"keys": [ED.jwk, other, RS.jwk, ED.jwk]})
    assert list(found.keys) == [RS.kid]
    assert found.left_out == (f"two keys are called {ED.kid!r}",)


def test_a_key_is_bound_to_its_one_algorithm() -> None:
    for each in (ED, ES, RS):
        assert read_key(each.jwk).algorithm == each.algorithm
        assert read_key({name: value for name, value in each.jwk.items() if name != "alg"}).algorithm == each.algorithm
    assert read_key({**ED.jwk, "alg": "Ed25519"}).algorithm == "EdDSA"


def test_only_the_algorithms_that_an_issuer_may_use_count() -> None:
    found = read_key_set({"keys": [ED.jwk, ES.jwk, RS.jwk]}, algorithms=["RS256"])
    assert list(found.keys) == [RS.kid]
    assert len(found.left_out) == 2


@pytest.mark.parametrize("document", [None, [], {}, {"keys": {}}, {"keys": [ED.jwk] * (MOST_KEYS + 1)}])
def test_what_is_no_key_set_is_refused_whole(document: Any) -> None:
    with pytest.raises(ValueError, match=r"JWK Set|at most"):
        read_key_set(document)


def test_the_thumbprint_is_that_of_the_standard() -> None:
    """RFC 7638 section 3.1, and RFC 8037 appendix A.3 for Ed25519."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3o"
        "knjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZH"
        "zu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEg"
        "U8awapJzKnqDKgw"
    )
    rsa_key = {"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}
    assert thumbprint(rsa_key) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    okp = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    assert thumbprint(okp) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
