"""Roles and permissions: who may do what, and that nobody gives away more than they have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.identity.permissions import (
    ASSIGNABLE,
    OPERATOR,
    ROLES,
    Permission,
    check_scopes,
    excess,
    known_scopes,
    permitted,
)
from policies.identity.tenants import Role

PERMISSIONS = st.frozensets(st.sampled_from(Permission))


def test_a_scope_is_a_permission_a_routes_or_an_operators_own() -> None:
    """Whoever mistypes one is told all that there are."""
    known = known_scopes(["", "asr", "asr"])
    check_scopes(["asr", *Permission], known)
    with pytest.raises(ValueError, match=r"no scope 'nonsense'; there are asr, audit:read, .*webhooks:write$"):
        check_scopes(["asr", "nonsense"], known)
    with pytest.raises(ValueError, match="no scope ''"):
        check_scopes([""], known)


MAY = [
    (Role.OWNER, Permission.TENANT_WRITE, True),
    (Role.OWNER, Permission.LIMITS_WRITE, True),
    (Role.OWNER, Permission.PLATFORM_READ, False),
    (Role.ADMIN, Permission.KEYS_WRITE, True),
    (Role.ADMIN, Permission.USERS_WRITE, True),
    (Role.ADMIN, Permission.TENANT_WRITE, False),
    (Role.ADMIN, Permission.LIMITS_WRITE, False),
    (Role.MEMBER, Permission.USAGE_READ, True),
    (Role.MEMBER, Permission.KEYS_WRITE, False),
    (Role.MEMBER, Permission.USERS_READ, False),
    (Role.VIEWER, Permission.USERS_READ, True),
    (Role.VIEWER, Permission.AUDIT_READ, False),
    (Role.VIEWER, Permission.TRANSCRIBE, False),
    (Role.SERVICE, Permission.TRANSCRIBE, True),
    (Role.SERVICE, Permission.USAGE_READ, False),
]


@pytest.mark.parametrize(("role", "permission", "may"), MAY)
def test_a_role_gives_what_it_says(role: Role, permission: Permission, may: bool) -> None:
    assert (permission in ROLES[role]) is may


def test_only_operators_reach_across_tenants() -> None:
    across = {Permission.PLATFORM_READ, Permission.PLATFORM_WRITE}
    assert across <= OPERATOR
    assert not any(across & ROLES[role] for role in Role)
    assert not across & set(ASSIGNABLE)


def test_viewers_change_nothing() -> None:
    assert all(permission.endswith(":read") for permission in ROLES[Role.VIEWER])


@given(st.frozensets(st.sampled_from([*Permission, "own-scope", "KEYS:WRITE", "*"])), st.none() | PERMISSIONS)
def test_a_key_never_exceeds_its_scopes_nor_its_holder(scopes: frozenset[str], holder: frozenset | None) -> None:
    may = permitted(scopes, holder)
    assert may <= scopes
    assert holder is None or may <= holder
    assert Permission.PLATFORM_WRITE not in may or (holder is not None and Permission.PLATFORM_WRITE in holder)


@given(PERMISSIONS, PERMISSIONS)
def test_what_may_be_given_is_what_one_has(giver: frozenset, wanted: frozenset) -> None:
    assert (excess(giver, wanted) == []) is (wanted <= giver)


def test_scopes_of_other_services_are_no_permission() -> None:
    assert excess(frozenset(), {"own-scope", "keys:read"}) == ["keys:read"]
