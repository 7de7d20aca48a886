"""May they: the whole table of standing, expiry, access, method, exception and scope, and what a permit says."""

import dataclasses
import itertools

import pytest

from policies.authorise import ANONYMOUS, Permit, authorise, charges
from policies.http.verdict import Deny, Refusal
from policies.identity.principals import Method, Principal, Standing
from policies.limits.rates import Charge, Rate
from policies.routing.routes import Access, Route

NOW = 1_000_000
PRINCIPAL = Principal(
    method=Method.API_KEY, standing=Standing.GOOD, tenant_id="ten_a", tenant_slug="a", key_id="key_a",
    scopes=frozenset({"transcribe"}),
)  # fmt: skip
ROUTE = Route(name="r", path="/r", methods=("GET",), scope="transcribe")
WIDE, NARROW, USUAL = Rate(600, 60_000), Rate(10, 60_000), Rate(60, 60_000)

STANDINGS = {
    Standing.GOOD: None,
    Standing.REVOKED: Refusal.API_KEY_REVOKED,
    Standing.DISABLED: Refusal.API_KEY_DISABLED,
    Standing.USER_DISABLED: Refusal.USER_DISABLED,
    Standing.TENANT_SUSPENDED: Refusal.TENANT_SUSPENDED,
}
EXPIRIES = {None: False, NOW + 1: False, NOW: True, NOW - 1: True, 0: True}
OVERRIDES = {frozenset(): False, frozenset({"other"}): False, frozenset({"r", "other"}): True}
SCOPES = {
    ("", frozenset()): True,
    ("transcribe", frozenset({"transcribe"})): True,
    ("admin", frozenset({"transcribe"})): False,
    ("transcribe", frozenset({"Transcribe", "transcribe2", ""})): False,
    ("transcribe", frozenset()): False,
}


def test_every_standing_is_in_the_table() -> None:
    assert set(STANDINGS) == set(Standing)


@pytest.mark.parametrize("access", Access)
@pytest.mark.parametrize("standing", Standing)
def test_the_first_reason_against_it_is_the_answer(standing: Standing, access: Access) -> None:
    """Standing, expiry, then what the route is; a public route asks nothing else. Every combination."""
    for expires, method, denied, (scope, held) in itertools.product(EXPIRIES, Method, OVERRIDES, SCOPES):
        principal = dataclasses.replace(
            PRINCIPAL, standing=standing, expires_ms=expires, method=method, denied_routes=denied, scopes=held
        )
        reasons = [(STANDINGS[standing], True), (Refusal.API_KEY_EXPIRED, EXPIRIES[expires])]
        if access is Access.CREDENTIAL or (access is Access.OPTIONAL and method is not Method.NONE):
            reasons += [
                (Refusal.MISSING_CREDENTIAL, method is Method.NONE),
                (Refusal.ROUTE_DENIED, OVERRIDES[denied]),
                (Refusal.INSUFFICIENT_SCOPE, not SCOPES[scope, held]),
            ]
        expected = next((refusal for refusal, applies in reasons if applies and refusal is not None), None)
        if (
            method is Method.JWT
            and expected is not None
            and expected.status == 401
            and expected is not Refusal.MISSING_CREDENTIAL
        ):
            expected = Refusal.INVALID_TOKEN
        answer = authorise(principal, dataclasses.replace(ROUTE, access=access, scope=scope), NOW)
        if expected is None:
            assert isinstance(answer, Permit)
            assert answer.principal is principal
        else:
            assert isinstance(answer, Deny)
            assert answer.refusal is expected


def test_a_missing_scope_is_named() -> None:
    """RFC 6750 section 3: the challenge says which one."""
    answer = authorise(PRINCIPAL, dataclasses.replace(ROUTE, scope="admin"), NOW)
    assert isinstance(answer, Deny)
    assert answer.scope == "admin"
    assert "'admin'" in answer.message


def test_a_refusal_knows_whose_it_is_except_where_nobody_asked() -> None:
    """For the log and the account."""
    revoked = dataclasses.replace(PRINCIPAL, standing=Standing.REVOKED)
    answer = authorise(revoked, ROUTE, NOW)
    assert isinstance(answer, Deny)
    assert answer.principal is revoked
    missing = authorise(ANONYMOUS, ROUTE, NOW)
    assert isinstance(missing, Deny)
    assert missing.principal is None


def test_a_public_route_identifies_nobody_and_charges_nothing() -> None:
    permit = authorise(PRINCIPAL, dataclasses.replace(ROUTE, access=Access.PUBLIC), NOW, WIDE)
    assert isinstance(permit, Permit)
    assert (permit.charges, permit.identity, permit.rate_policy) == ((), b"", b"")


def test_an_optional_route_passes_nobody_as_nobody_and_somebody_by_name() -> None:
    route = Route(name="r", path="/r", methods=("GET",), access=Access.OPTIONAL)
    nobody = authorise(ANONYMOUS, route, 0)
    assert isinstance(nobody, Permit)
    assert (nobody.identity, nobody.charges) == (b"", ())
    somebody = authorise(PRINCIPAL, route, 0)
    assert isinstance(somebody, Permit)
    assert somebody.identity
    bad = authorise(dataclasses.replace(PRINCIPAL, standing=Standing.REVOKED), route, 0)
    assert isinstance(bad, Deny)


def test_a_permit_carries_the_identity_lines_and_the_policy_line() -> None:
    permit = authorise(dataclasses.replace(PRINCIPAL, tenant_rate=WIDE, key_rate=NARROW), ROUTE, NOW)
    assert isinstance(permit, Permit)
    assert permit.identity == b"X-Tenant-ID: ten_a\r\nX-API-Key-ID: key_a\r\nX-Auth-Scopes: transcribe\r\n"
    assert permit.rate_policy == b'RateLimit-Policy: "tenant-requests";q=600;w=60, "key-requests";q=10;w=60'


TENANT = Charge("tenant-requests", "rate:{ten_a}", WIDE)
KEY = Charge("key-requests", "rate:{ten_a}:key_a", NARROW)


@pytest.mark.parametrize(
    ("tenant_rate", "key_rate", "default", "expected"),
    [
        (None, None, None, ()),
        (WIDE, None, None, (TENANT,)),
        (None, NARROW, None, (KEY,)),
        (WIDE, NARROW, None, (TENANT, KEY)),
        (WIDE, NARROW, USUAL, (TENANT, KEY)),
        (None, None, USUAL, (dataclasses.replace(TENANT, rate=USUAL),)),
        (None, NARROW, USUAL, (dataclasses.replace(TENANT, rate=USUAL), KEY)),
    ],
)
def test_every_limit_that_a_request_touches_widest_first(
    tenant_rate: Rate | None, key_rate: Rate | None, default: Rate | None, expected: tuple[Charge, ...]
) -> None:
    """A tenant without a rate has the default one; a key's rate comes on top. All in one Cluster slot."""
    assert charges(dataclasses.replace(PRINCIPAL, tenant_rate=tenant_rate, key_rate=key_rate), default) == expected
    assert {charge.key.partition("{")[2].partition("}")[0] for charge in expected} <= {"ten_a"}
