"""API keys: made and shown once, listed, renamed, replaced, revoked."""

import secrets
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import Field

from gateway.portal.api.operations import Ask, InTenant, Operations, Sent, Shown
from gateway.portal.api.paging import Page, Paged
from gateway.portal.api.shapes import Instant, Name, Scopes, SentInstant
from gateway.portal.problems import Problem
from gateway.snapshot import digest
from policies.credentials import RANDOM_BYTES, mint_key
from policies.permissions import Permission, excess
from policies.tenants import ApiKey
from policies.verdict import Refusal
from storage.ports import Invalidation

operations = Operations("keys")

_LONGEST_OVERLAP_S = 30 * 86_400


class KeyShown(Shown):
    """A key as it can be shown: never the key itself."""

    id: str
    name: str
    last4: str
    scopes: list[str]
    user_id: str | None = Field(description="The member whose key it is; null: the tenant's.")
    status: Literal["active", "expired", "revoked"]
    created_at: Instant
    expires_at: Instant | None
    revoked_at: Instant | None


class KeyMade(KeyShown):
    """A new key, with the key itself: the only time that it is shown."""

    key: str


class KeyWish(Sent):
    """A new key."""

    name: Name
    scopes: Scopes = Field(default=["transcribe"])
    expires_at: SentInstant | None = Field(default=None, description="When it ends; null: never.")
    user_id: str | None = Field(default=None, max_length=64, description="The member whose key it is to be.")
    test: bool = Field(default=False, description="A `thk_test_` key.")


class KeyChange(Sent):
    """What of a key changes."""

    name: Name


class Rotation(Sent):
    """How a key is replaced."""

    overlap_s: int = Field(
        default=3_600, ge=0, le=_LONGEST_OVERLAP_S, description="Seconds for which the old key still works."
    )
    test: bool = Field(default=False, description="A `thk_test_` key.")


class KeyList(Paged, InTenant):
    """Which keys."""

    user_id: str | None = Field(default=None, max_length=64, description="Those of one member.")


@operations.get("/keys", Permission.KEYS_READ, query=KeyList, answer=Page[KeyShown])
async def list_keys(ask: Ask[KeyList, Any]) -> Page[KeyShown]:
    """The tenant's keys, newest first, ended ones included."""
    query = ask.query
    cursors = ask.cursors(query.user_id)
    below = cursors.open(query.cursor)
    found = await ask.keys.keys_page(
        ask.tenant_id, query.limit + 1, below=str(below[0]) if below else None, user_id=query.user_id
    )
    now = ask.parts.now()
    return cursors.page([_shown(each, now) for each in found], query.limit, [[each.id] for each in found])


@operations.post("/keys", Permission.KEYS_WRITE, body=KeyWish, answer=KeyMade)
async def create_key(ask: Ask[InTenant, KeyWish]) -> KeyMade:
    """Make a key. The key itself is in this answer and nowhere else."""
    wish, now = ask.body, ask.parts.now()
    lacking = excess(ask.who.permissions, wish.scopes)
    if lacking:
        raise Problem(Refusal.EXCEEDS_OWN_PERMISSIONS, f"You do not hold {', '.join(lacking)}.")
    if wish.expires_at is not None and wish.expires_at <= now:
        raise Problem(Refusal.INVALID_INPUT, fields={"expires_at": "This is not in the future."})
    secret, its_digest = _mint(ask, test=wish.test)
    made = await ask.keys.create_key(
        ask.tenant_id,
        name=wish.name,
        digest=its_digest,
        last4=secret[-4:],
        scopes=frozenset(wish.scopes),
        expires_at=wish.expires_at,
        user_id=wish.user_id,
    )
    return KeyMade(**_facts(made, now), key=secret)


@operations.get("/keys/{key_id}", Permission.KEYS_READ, answer=KeyShown)
async def show_key(ask: Ask[InTenant, Any]) -> KeyShown:
    """One key."""
    return _shown(await ask.keys.key(ask.tenant_id, ask.path("key_id")), ask.parts.now())


@operations.patch("/keys/{key_id}", Permission.KEYS_WRITE, body=KeyChange, answer=KeyShown)
async def change_key(ask: Ask[InTenant, KeyChange]) -> KeyShown:
    """Rename a key."""
    now = ask.parts.now()
    changed = await ask.keys.rename_key(
        ask.tenant_id, ask.path("key_id"), ask.body.name, lambda current: ask.check_version(_shown(current, now))
    )
    return _shown(changed, now)


@operations.post("/keys/{key_id}/rotate", Permission.KEYS_WRITE, body=Rotation, answer=KeyMade)
async def rotate_key(ask: Ask[InTenant, Rotation]) -> KeyMade:
    """Replace a key by a new one with the same name, scopes, limits, owner and expiry."""
    now, key_id = ask.parts.now(), ask.path("key_id")
    old = await ask.keys.key(ask.tenant_id, key_id)
    lacking = excess(ask.who.permissions, old.scopes)
    if lacking:  # whoever sees the successor can use it
        raise Problem(Refusal.EXCEEDS_OWN_PERMISSIONS, f"You do not hold {', '.join(lacking)}.")
    secret, its_digest = _mint(ask, test=ask.body.test)
    made = await ask.keys.rotate_key(
        ask.tenant_id,
        key_id,
        digest=its_digest,
        last4=secret[-4:],
        old_ends_at=now + timedelta(seconds=ask.body.overlap_s),
    )
    await ask.announce(Invalidation(tenant_id=ask.tenant_id, key_id=key_id))
    return KeyMade(**_facts(made, now), key=secret)


@operations.delete("/keys/{key_id}", Permission.KEYS_WRITE)
async def revoke_key(ask: Ask[InTenant, Any]) -> None:
    """End a key now and for ever."""
    key = await ask.keys.revoke_key(ask.tenant_id, ask.path("key_id"))
    await ask.announce(Invalidation(tenant_id=ask.tenant_id, key_id=key.id))


def _mint(ask: Ask[Any, Any], *, test: bool) -> tuple[str, bytes]:
    secret = mint_key(secrets.token_bytes(RANDOM_BYTES), live=not test)
    return secret, digest(ask.parts.secret_for("api-keys"), secret.encode("ascii"))


def _shown(key: ApiKey, now: datetime) -> KeyShown:
    return KeyShown(**_facts(key, now))


def _facts(key: ApiKey, now: datetime) -> dict[str, Any]:
    expired = key.expires_at is not None and key.expires_at <= now
    return {
        "id": key.id,
        "name": key.name,
        "last4": key.last4,
        "scopes": sorted(key.scopes),
        "user_id": key.user_id,
        "status": "revoked" if key.revoked_at else "expired" if expired else "active",
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    }
