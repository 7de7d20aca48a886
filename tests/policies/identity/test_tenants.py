"""The nouns of the registry: names that can become host names, and values that cannot be changed."""

import dataclasses
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.identity.tenants import SLUG, ApiKey, Role, Tenant, TenantStatus, UserStatus


@pytest.mark.parametrize("slug", ["a", "0", "acme", "acme-2", "a--b", "a" * 63])
def test_a_slug_is_one_dns_label(slug: str) -> None:
    assert SLUG.fullmatch(slug)


@pytest.mark.parametrize("slug", ["", "-", "-a", "a-", "A", "a_b", "a.b", "a b", "a\n", "é", "a" * 64, "a/b", "٣"])
def test_what_is_no_dns_label_is_no_slug(slug: str) -> None:
    assert not SLUG.fullmatch(slug)


@given(st.from_regex(SLUG, fullmatch=True))
def test_every_slug_is_safe_wherever_it_is_written(slug: str) -> None:
    """RFC 1035 section 2.3.1: 63 letters, digits and hyphens, a hyphen at neither end."""
    assert slug.isascii()
    assert slug == slug.lower()
    assert 1 <= len(slug) <= 63
    assert slug.strip("-") == slug
    assert slug.replace("-", "").isalnum()


def test_the_words_that_are_stored_are_stable() -> None:
    assert [str(role) for role in Role] == ["owner", "admin", "member", "viewer", "service"]
    assert [str(status) for status in TenantStatus] == ["active", "suspended", "deleting"]
    assert [str(status) for status in UserStatus] == ["active", "disabled", "deleted"]


def test_a_noun_is_a_value() -> None:
    tenant = Tenant(id="ten_a", slug="a", name="A", status=TenantStatus.ACTIVE, created_at=datetime.now(UTC))
    assert tenant == dataclasses.replace(tenant)
    with pytest.raises(dataclasses.FrozenInstanceError):
        tenant.slug = "b"


def test_a_key_as_the_registry_knows_it_holds_no_key() -> None:
    assert {field.name for field in dataclasses.fields(ApiKey)} & {"key", "secret", "digest"} == set()
