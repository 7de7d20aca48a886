"""Tokens of other issuers: what no table of ours names gives nothing, and nobody of theirs is somebody of ours."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.identity.foreign import Meaning, read_foreign
from policies.identity.permissions import ROLES
from policies.identity.tenants import Role
from policies.identity.tokens import AccessToken, Fault
from tests.policies.signing import NOW_S

MEANING = Meaning(
    name="corp",
    tenant_claim="org",
    tenants={"o1": "acme", "o2": "globex"},
    scopes={"asr:use": "transcribe", "asr:stats": "usage:read"},
    roles_claim="realm_access.roles",
    roles={"asr-admins": Role.ADMIN, "asr-users": Role.MEMBER},
)


def claims(**changes: Any) -> dict[str, Any]:
    found = {"iss": "x", "sub": "auth0|17", "org": "o1", "iat": NOW_S, "exp": NOW_S + 60, "jti": "j1"} | changes
    return {name: value for name, value in found.items() if value is not None}


def read(meaning: Meaning = MEANING, **changes: Any) -> AccessToken:
    found = read_foreign(claims(**changes), meaning)
    assert isinstance(found, AccessToken)
    return found


def test_a_stranger_is_a_guest_under_its_issuers_name() -> None:
    """``usr_…`` of theirs is not ``usr_…`` of ours."""
    token = read(sub="usr_01", scope="asr:use openid")
    assert (token.subject, token.tenant_id, token.client_id, token.guest) == ("corp:usr_01", "acme", "corp", True)
    assert token.scopes == {"transcribe"}
    assert token.names == ("token:corp:j1", "family:", "subject:corp:usr_01")


@pytest.mark.parametrize(
    ("scope", "scopes"),
    [
        ("asr:use asr:stats", {"transcribe", "usage:read"}),
        (["asr:use", 7, None], {"transcribe"}),
        ("transcribe keys:write", set()),
        ("", set()),
        (7, set()),
        ({"asr:use": True}, set()),
    ],
)
def test_only_scopes_that_the_operator_named_mean_something(scope: Any, scopes: set[str]) -> None:
    assert read(scope=scope).scopes == scopes


def test_roles_bring_what_they_may() -> None:
    """Inside another claim too, as Keycloak has them."""
    token = read(realm_access={"roles": ["offline", "asr-admins", "asr-admins"]})
    assert token.roles == (Role.ADMIN,)
    assert token.scopes == ROLES[Role.ADMIN]
    for odd in ({"roles": {"asr-admins": 1}}, ["asr-admins"], "asr-admins", {"roles": None}, None):
        assert read(realm_access=odd).roles == ()


@pytest.mark.parametrize("org", [None, "", "o3", "acme", 7, ["o1", "o2"], {"o1": 1}, "o1 o2"])
def test_whose_tenant_is_not_plain_has_none(org: Any) -> None:
    """Of two tenants it is not the token's bearer who chooses."""
    assert read_foreign(claims(org=org), MEANING) is Fault.BAD_CLAIMS


def test_a_tenant_may_be_given_once_for_all() -> None:
    assert read(replace(MEANING, tenant="acme", tenant_claim=""), org="o2").tenant_id == "acme"
    assert read(org=["o2", "elsewhere"]).tenant_id == "globex"


@pytest.mark.parametrize("subject", [None, "", 7, "a b", "é", "x" * 300, "a\n", ["a"]])
def test_a_subject_that_two_could_share_is_refused(subject: Any) -> None:
    """It becomes a header; what would be changed on the way there could become somebody else's."""
    assert read_foreign(claims(sub=subject), MEANING) is Fault.BAD_CLAIMS


def test_a_token_without_an_id_cannot_be_revoked_alone() -> None:
    assert read(jti=None).names[0] == "token:"
    assert read_foreign(claims(jti=7), MEANING) is Fault.BAD_CLAIMS


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(sub=json, org=json, scope=json, realm=json)
def test_no_claims_make_the_reader_fall_over(sub: Any, org: Any, scope: Any, realm: Any) -> None:
    found = read_foreign(claims(sub=sub, org=org, scope=scope, realm_access=realm), MEANING)
    assert isinstance(found, Fault) or found.tenant_id in ("acme", "globex")
