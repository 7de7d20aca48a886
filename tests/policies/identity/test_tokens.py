"""Access tokens: each known attack on a JWT verifier is refused, whatever the signature says (security groups J and X).

Every token here is signed with the right key unless its row is about the signature, so that a row fails when the rule
that it names is taken out.
"""

import base64
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from policies.identity.jws import LONGEST, looks_like_one, parse
from policies.identity.tokens import (
    LEEWAY_S,
    AccessToken,
    Fault,
    Trust,
    access_claims,
    read_access_token,
    read_scope,
    verify,
)
from tests.policies.signing import ISSUER, NOW_S, b64, claim_set, key_set, signer

ED, ES, RS = signer("EdDSA"), signer("ES256"), signer("RS256")
OTHER = signer("EdDSA", 2)
TRUST = Trust(issuer=ISSUER, audience=ISSUER, keys=key_set(ED, ES, RS))
HUGE = 10**400


def judged(token: bytes, now_s: int = NOW_S, trust: Trust = TRUST) -> AccessToken | Fault:
    """As the gateway judges: taken apart, verified, read."""
    jws = parse(token)
    if jws is None:
        return Fault.MALFORMED
    claims = verify(jws, trust, now_s)
    return claims if isinstance(claims, Fault) else read_access_token(claims)


@pytest.mark.parametrize("key", [ED, ES, RS], ids=lambda key: key.algorithm)
@pytest.mark.parametrize("kind", ["at+jwt", "application/at+jwt", "AT+JWT"])
def test_a_good_token_is_believed(key: Any, kind: str) -> None:
    token = judged(key.token(header={"typ": kind}))
    assert token == AccessToken(
        id="tok_01",
        subject="usr_01",
        tenant_id="ten_01",
        client_id="first-party",
        scopes=frozenset({"transcribe"}),
        roles=("member",),
        issued_s=NOW_S,
        expires_s=NOW_S + 600,
        family="fam_01",
    )
    assert token.lapses_ms == (NOW_S + 600 + LEEWAY_S) * 1_000


def test_what_is_written_is_what_is_read() -> None:
    for family in ("", "fam_02"):
        token = AccessToken(
            id="tok_2",
            subject="svc_2",
            tenant_id="ten_2",
            client_id="svc_2",
            scopes=frozenset({"b", "a"}),
            roles=("service",),
            issued_s=NOW_S,
            expires_s=NOW_S + 300,
            family=family,
        )
        claims = access_claims(token, ISSUER, ISSUER)
        assert read_access_token(claims) == token
        assert ("sid" in claims) is bool(family)


def unsigned(alg: Any) -> bytes:
    head = b64(json.dumps({"typ": "at+jwt", "alg": alg, "kid": ED.kid}).encode())
    return head + b"." + b64(json.dumps(claim_set()).encode())


def hmac_with(secret: bytes, alg: str = "HS256", kid: str = RS.kid) -> bytes:
    head = b64(json.dumps({"typ": "at+jwt", "alg": alg, "kid": kid}).encode())
    signed = head + b"." + b64(json.dumps(claim_set()).encode())
    return signed + b"." + b64(hmac.digest(secret, signed, "sha256"))


def public(encoding: serialization.Encoding) -> bytes:
    return RS.private.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)


ALGORITHMS = {
    **{f"J-01 {alg!r}, empty signature": unsigned(alg) + b"." for alg in ("none", "None", "nOnE", "", None, [], 0)},
    **{f"J-01 {alg!r}, signed": ED.token(header={"alg": alg}) for alg in ("none", "None", "nOnE", "", ["EdDSA"], 0)},
    "J-01 alg missing": ED.token(header={"alg": None}),
    "J-01 zero signature": unsigned("EdDSA") + b"." + b64(bytes(64)),
    "J-01 blank HMAC key": hmac_with(b""),
    "J-02 HMAC with the PEM": hmac_with(public(serialization.Encoding.PEM)),
    "J-02 HMAC with the DER": hmac_with(public(serialization.Encoding.DER)),
    "J-02 HMAC with the JWK": hmac_with(json.dumps(RS.jwk).encode()),
    "J-02 HMAC with the modulus": hmac_with(RS.private.public_key().public_numbers().n.to_bytes(256)),
    **{f"J-03 {alg}": ED.token(header={"alg": alg}) for alg in ("HS384", "HS512", "PS256", "RS256", "ES256", "eddsa")},
    "J-03 RS256 with the key of ES256": RS.token(header={"kid": ES.kid}),
    "J-03 ES256 said of an RSA key": RS.token(header={"alg": "ES256"}),
    "J-03 PS256 said of an RSA key": RS.token(header={"alg": "PS256"}),
}
KEYS = {
    **{
        f"J-04 kid {kid[:20]!r}": ED.token(header={"kid": kid})
        for kid in ("unknown", "../../dev/null", "' OR 1=1--", "x" * 10_000, "a\0b", "", "https://evil.example/k", " ")
    },
    "J-04 kid missing": ED.token(header={"kid": None}),
    "J-04 kid a list": ED.token(header={"kid": [ED.kid]}),
    "J-04 kid twice": ED.raw(b'{"typ":"at+jwt","alg":"EdDSA","kid":"x","kid":"%b"}' % ED.kid.encode()),
    "J-05 jku": ED.token(header={"jku": "https://evil.example/keys"}),
    "J-05 x5u": ED.token(header={"x5u": "https://evil.example/cert"}),
    "J-05 x5c": ED.token(header={"x5c": ["MIIB"]}),
    "J-05 own key brought along": OTHER.token(header={"jwk": OTHER.jwk}),
    "J-14 same kid, another key": OTHER.token(header={"kid": ED.kid}),
}
AUDIENCES: dict[str, Any] = {
    "J-06 aud missing": None,
    "J-06 aud other": "https://other.example.com",
    "J-06 aud in a list": [ISSUER, "https://other.example.com"],
    "J-06 aud alone in a list": [ISSUER],
    "J-06 aud a part": ISSUER[:-1],
    "J-06 aud longer": ISSUER + "/",
    "J-06 aud an object": {"x": ISSUER},
    "J-06 aud other case": ISSUER.upper(),
}
ISSUERS: dict[str, Any] = {
    "J-07 iss missing": None,
    "J-07 iss a prefix": ISSUER[:-4],
    "J-07 iss longer": ISSUER + ".evil.example",
    "J-07 iss a list": [ISSUER],
}
TIMES = {
    f"J-08 {name} {str(value)[:12]}": ED.token(claim_set(**{name: value}))
    for name, values in {
        "exp": (None, NOW_S - LEEWAY_S, str(NOW_S + 60), NOW_S + 60.5, -1, True, HUGE, [NOW_S], NOW_S * 1_000_000_000),
        "nbf": (NOW_S + LEEWAY_S + 1, str(NOW_S), 1.5, -1, False),
        "iat": (None, NOW_S + LEEWAY_S + 1, str(NOW_S), 1.5, True),
    }.items()
    for value in values
}
TIMES["J-08 exp 1e400"] = ED.token(json.dumps(claim_set(exp="?")).replace('"?"', "1e400").encode())
TIMES["J-08 exp NaN"] = ED.token(json.dumps(claim_set(exp="?")).replace('"?"', "NaN").encode())
KINDS = {
    f"J-09 typ {kind!r}": ED.token(header={"typ": kind})
    for kind in ("JWT", "gw-assertion+jwt", "refresh+jwt", "logout+jwt", "id+jwt", "", None, 1, "at+jwt ", "xat+jwt")
}
CLAIMS = {
    f"{name} {str(value)[:12]!r}": ED.token(claim_set(**{name: value}))
    for name, values in {
        "sub": (None, "", 1, "usr_\n01", "x" * 300, ["usr_01"], "\ud800"),
        "jti": (None, "", 1, {"a": 1}),
        "tenant": (None, "", "ten 01"),
        "client_id": (None, "é"),
        "scope": (["transcribe"], "a  b", " a", 'a"b', 1),
        "roles": ("owner", [1]),
        "sid": (1,),
    }.items()
    for value in values
}
GOOD = ED.token()
HEAD, BODY, SIGNATURE = GOOD.split(b".")
ES_SIGNED = ES.token().rpartition(b".")[0]
SHAPES = {
    "J-10 crit": ED.token(header={"crit": ["exp"]}),
    "J-10 crit, unknown": ED.token(header={"crit": ["x"], "x": 1}),
    "J-10 crit, empty": ED.token(header={"crit": []}),
    "J-10 b64": ED.token(header={"b64": False}),
    "J-10 zip": ED.token(header={"zip": "DEF"}),
    "J-10 nested": ED.token(header={"cty": "JWT"}),
    "J-10 JSON serialisation": json.dumps({"protected": HEAD.decode(), "payload": BODY.decode()}).encode(),
    "J-10 five parts": GOOD + b"..",
    "J-10 two parts": HEAD + b"." + BODY,
    "J-10 nothing": b"..",
    "J-10 claims twice": ED.token(b'{"exp":1,' + json.dumps(claim_set()).encode()[1:]),
    "J-10 header not an object": ED.raw(b'["at+jwt"]'),
    "J-10 claims a list": ED.token(b"[]"),
    "J-10 claims a text": ED.token(b'"x"'),
    "J-10 claims not UTF-8": ED.token(json.dumps(claim_set()).replace("usr", "\xff").encode("latin-1")),
    "J-10 claims UTF-16": ED.token(json.dumps(claim_set()).encode("utf-16")),
    "J-10 claims with a BOM": ED.token(b"\xef\xbb\xbf" + json.dumps(claim_set()).encode()),
    "J-10 deep claims": ED.token(b'{"a":' + b"[" * 2_500 + b"]" * 2_500 + b"}"),
    "J-10 long": ED.token(claim_set(x="x" * LONGEST)),
    "J-10 a megabyte": ED.token(claim_set(x="x" * 1_000_000)),
    "J-10 long header": ED.token(header={"x": "x" * 2_000}),
    "J-10 number of 5000 digits": ED.token(b'{"a":' + b"9" * 5_000 + b"}"),
    "J-15 padded": GOOD + b"=",
    "J-15 padded twice": GOOD + b"==",
    "J-15 signature empty": HEAD + b"." + BODY + b".",
    "J-15 signature cut": GOOD[:-4],
    "J-15 signature longer": GOOD + b"AAAA",
    "J-15 white space after": GOOD + b"\n",
    "J-15 white space within": HEAD + b" ." + BODY + b"." + SIGNATURE,
    "J-15 junk in a segment": HEAD + b"!!!!." + BODY + b"." + SIGNATURE,
    "J-15 the other alphabet": base64.b64encode(b"\xff\xff\xff") + b"." + BODY + b"." + SIGNATURE,
    "J-15 stray bits": GOOD[:-1] + bytes([GOOD[-1] + 1]),
    "J-15 ES256 as DER": ES_SIGNED + b"." + b64(ES.private.sign(ES_SIGNED, ec.ECDSA(hashes.SHA256()))),
    "J-15 ES256 with zeros": ES_SIGNED + b"." + b64(bytes(64)),
    "J-15 ES256 with ones": ES_SIGNED + b"." + b64(b"\xff" * 64),
    "J-15 ES256, r zero": ES_SIGNED + b"." + b64(bytes(32) + b"\1" * 32),
}
ATTACKS = (
    ALGORITHMS
    | KEYS
    | {name: ED.token(claim_set(aud=value)) for name, value in AUDIENCES.items()}
    | {name: ED.token(claim_set(iss=value)) for name, value in ISSUERS.items()}
    | TIMES
    | KINDS
    | CLAIMS
    | SHAPES
)


@pytest.mark.parametrize("token", ATTACKS.values(), ids=ATTACKS)
def test_a_known_attack_is_refused(token: bytes) -> None:
    assert isinstance(judged(token), Fault)


def test_the_reason_is_told_to_the_operator() -> None:
    """One of each, so that a dashboard can tell a clock that is wrong from an attack."""
    reasons = {
        Fault.MALFORMED: b"ey..",
        Fault.WRONG_ISSUER: ED.token(claim_set(iss="https://other.example")),
        Fault.WRONG_TYPE: ED.token(header={"typ": "JWT"}),
        Fault.WRONG_AUDIENCE: ED.token(claim_set(aud="x")),
        Fault.BAD_CLAIMS: ED.token(claim_set(exp="soon")),
        Fault.EXPIRED: ED.token(claim_set(exp=1)),
        Fault.NOT_YET_VALID: ED.token(claim_set(nbf=NOW_S + 999)),
        Fault.UNKNOWN_KEY: OTHER.token(),
        Fault.WRONG_ALGORITHM: ED.token(header={"alg": "ES256"}),
        Fault.BAD_SIGNATURE: OTHER.token(header={"kid": ED.kid}),
    }
    assert {reason: judged(token) for reason, token in reasons.items()} == {reason: reason for reason in reasons}


@pytest.mark.parametrize(
    ("now_s", "good"),
    [
        (NOW_S - LEEWAY_S - 1, False),
        (NOW_S - LEEWAY_S, True),
        (NOW_S + 600 + LEEWAY_S - 1, True),
        (NOW_S + 600 + LEEWAY_S, False),
        (NOW_S - 3_600, False),
        (NOW_S + 3_600 + 600, False),
    ],
)
def test_clocks_may_differ_by_the_leeway_and_no_more(now_s: int, good: bool) -> None:
    """J-08, J-17: both edges."""
    assert isinstance(judged(GOOD, now_s), AccessToken) is good


def test_an_issuer_whose_audiences_are_lists_is_believed_when_ours_is_among_them() -> None:
    """Others' tokens may name several (RFC 7519 section 4.1.3); ours never do."""
    trust = Trust(issuer=ISSUER, audience="us", keys=key_set(ED), sole_audience=False)
    assert isinstance(judged(ED.token(claim_set(aud=["us", "others"])), trust=trust), AccessToken)
    assert isinstance(judged(ED.token(claim_set(aud="us")), trust=trust), AccessToken)
    for audience in (["others"], [["us"]], [], "u"):
        assert judged(ED.token(claim_set(aud=audience)), trust=trust) is Fault.WRONG_AUDIENCE


def test_the_other_signature_of_ecdsa_names_the_same_token() -> None:
    """J-11: (r, n-s) is as good as (r, s) by the standard, so what is revoked is the ``jti`` and never a text."""
    token = ES.token()
    signed, _, signature = token.rpartition(b".")
    raw = base64.urlsafe_b64decode(signature + b"==")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    twin = signed + b"." + b64(raw[:32] + (order - int.from_bytes(raw[32:])).to_bytes(32))
    first, second = judged(token), judged(twin)
    assert twin != token
    assert isinstance(first, AccessToken)
    assert isinstance(second, AccessToken)
    assert first.id == second.id


@given(place=st.integers(0, len(GOOD) * 8 - 1))
def test_no_bit_can_be_changed(place: int) -> None:
    """J-18."""
    changed = bytearray(GOOD)
    changed[place // 8] ^= 1 << place % 8
    assert isinstance(judged(bytes(changed)), Fault)


@given(secret=st.binary(max_size=300) | st.binary(max_size=60).map(lambda tail: GOOD[:-30] + tail))
def test_no_bytes_make_the_reader_fall_over(secret: bytes) -> None:
    """Whatever is presented is a token or a fault, and never an exception."""
    looks_like_one(secret)
    assert isinstance(judged(secret), Fault) or secret == GOOD


@given(parts=st.lists(st.binary(max_size=40).map(b64), min_size=3, max_size=3))
def test_no_three_segments_make_the_reader_fall_over(parts: list[bytes]) -> None:
    assert isinstance(judged(b".".join(parts)), Fault)


def test_what_is_meant_as_a_token_is_known_by_its_beginning() -> None:
    assert looks_like_one(GOOD)
    assert not looks_like_one(b"thk_live_" + b"0" * 28)
    assert not looks_like_one(b"eyJhIjoxfQ")


@pytest.mark.parametrize(
    ("text", "scopes"), [("", set()), ("a", {"a"}), ("a b:c", {"a", "b:c"}), ("a a", {"a"}), ("a  b", None), (3, None)]
)
def test_scopes_are_separated_by_one_space(text: Any, scopes: set[str] | None) -> None:
    assert read_scope(text) == (None if scopes is None else frozenset(scopes))


def test_signatures_of_ecdsa_have_two_halves() -> None:
    """The vectors above are what they say they are."""
    der = base64.urlsafe_b64decode(SHAPES["J-15 ES256 as DER"].rpartition(b".")[2] + b"==")
    assert all(decode_dss_signature(der))
