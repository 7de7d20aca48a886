"""API keys: made and shown once, listed, renamed, replaced, revoked."""

import secrets
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from gateway.identity.digests import digest
from gateway.portal.api.operations import Ask, InTenant, Operations, Sent, Shown
from gateway.portal.api.paging import ByAge, Page
from gateway.portal.api.shapes import Instant, Name, Scopes, SentInstant
from gateway.portal.parts import Parts
from gateway.portal.web.bodies import Known
from gateway.portal.web.problem import Problem
from policies.http.credentials import RANDOM_BYTES, mint_key
from policies.http.verdict import Refusal
from policies.identity.permissions import Permission
from policies.identity.tenants import ApiKey
from policies.networks import lie_within, network
from storage.ports import Invalidation, NewKey
from storage.postgres.keys.rows import KeyChange

operations = Operations("keys")

_LONGEST_OVERLAP_S = 30 * 86_400


def _network(text: str) -> str:
    return str(network(text))


Networks = Annotated[
    list[Annotated[str, AfterValidator(_network), Field(max_length=64)]],
    Field(max_length=64, description="Addresses and networks whence it may be used; empty: from everywhere."),
]


def _are_there(routes: list[str], info: ValidationInfo[Known]) -> list[str]:
    """Bound to a route that is not there, a key would be good for nothing."""
    strangers = sorted(set(routes) - info.context.routes)
    if strangers:
        raise ValueError(f"There is no route {strangers[0]!r}.")
    return routes


def _is_ahead(moment: datetime, info: ValidationInfo[Known]) -> datetime:
    if moment <= info.context.now:
        raise ValueError("This is not in the future.")
    return moment


RouteNames = Annotated[
    list[Annotated[str, Field(max_length=120)]],
    AfterValidator(_are_there),
    Field(max_length=64, description="Names of the routes where it may be used; empty: wherever its scopes allow."),
]
KeyStatus = Literal["active", "disabled", "expired", "revoked", "user_disabled"]
Metadata = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=64)], Annotated[str, Field(max_length=500)]],
    Field(max_length=16, description="Notes of your own."),
]


class LastUse(Shown):
    """When a key was used last, from where and with what."""

    at: Instant
    address: str
    agent: str


class KeyShown(Shown):
    """A key as it can be shown: never the key itself."""

    by_use = frozenset({"last_used"})

    id: str
    name: str
    last4: str
    scopes: list[str]
    user_id: str | None = Field(description="The member whose key it is; null: no member's.")
    service_account_id: str | None = Field(description="The service account whose key it is; null: none's.")
    status: KeyStatus = Field(
        description="Whether it is accepted now, if its tenant is active, or why not. With its service account it is "
        "`revoked`."
    )
    created_at: Instant
    expires_at: Instant | None
    revoked_at: Instant | None
    networks: list[str] = Field(description="Whence it may be used, in CIDR notation; empty: from everywhere.")
    routes: list[str] = Field(description="Where it may be used, by route name; empty: wherever its scopes allow.")
    metadata: dict[str, str]
    last_used: LastUse | None = Field(description="To within some seconds.")


class KeyMade(KeyShown):
    """A new key, with the key itself: the only time that it is shown."""

    key: str


class KeyWish(Sent):
    """A new key."""

    name: Name
    scopes: Scopes = Field(default=["transcribe"])
    expires_at: Annotated[SentInstant, AfterValidator(_is_ahead)] | None = Field(
        default=None, description="When it ends; null: never."
    )
    user_id: str | None = Field(default=None, max_length=64, description="The member whose key it is to be.")
    service_account_id: str | None = Field(
        default=None, max_length=64, description="The service account whose key it is to be, instead of a member."
    )
    test: bool = Field(default=False, description="A `thk_test_` key.")
    networks: Networks = Field(default=[])
    routes: RouteNames = Field(default=[])
    metadata: Metadata = Field(default={})


class KeyEdit(Sent):
    """What of a key changes; what is left out stays."""

    name: Name | None = None
    enabled: bool | None = Field(default=None, description="Whether it is accepted; a revoked key never is again.")
    scopes: Scopes | None = None
    expires_at: SentInstant | None = None
    networks: Networks | None = None
    routes: RouteNames | None = None
    metadata: Metadata | None = None


class Rotation(Sent):
    """How a key is replaced."""

    overlap_s: int = Field(
        default=3_600, ge=0, le=_LONGEST_OVERLAP_S, description="Seconds for which the old key still works."
    )
    test: bool = Field(default=False, description="A `thk_test_` key.")


class KeyList(ByAge, InTenant):
    """Which keys."""

    user_id: str | None = Field(default=None, max_length=64, description="Those of one member.")
    service_account_id: str | None = Field(default=None, max_length=64, description="Those of one service account.")
    name: str = Field(
        default="", max_length=200, description="A part of the name, or the four characters that the key ends in."
    )
    status: KeyStatus | None = Field(default=None, description="Those of which this is the status now.")
    unused_days: int | None = Field(default=None, ge=1, le=3_650, description="Not used for so many days, not revoked.")
    ending_days: int | None = Field(default=None, ge=1, le=3_650, description="Valid, but not for so many days more.")


@operations.get("/keys", Permission.KEYS_READ, query=KeyList, answer=Page[KeyShown])
async def list_keys(ask: Ask[KeyList, Any]) -> Page[KeyShown]:
    """The tenant's keys, newest first if nothing else is said, ended ones included."""
    query, now = ask.query, ask.parts.now()
    found = await ask.keys.keys_page(
        ask.tenant_id,
        query.limit + 1,
        sort=query.sort,
        beyond=ask.cursors.beyond(query.cursor),
        user_id=query.user_id,
        service_account_id=query.service_account_id,
        name=query.name,
        status=query.status,
        unused_since=now - timedelta(days=query.unused_days) if query.unused_days else None,
        ending_before=now + timedelta(days=query.ending_days) if query.ending_days else None,
    )
    return ask.cursors.page([_shown(each, now) for each in found], query.limit, [[each.id] for each in found])


@operations.post("/keys", Permission.KEYS_WRITE, body=KeyWish, answer=KeyMade)
async def create_key(ask: Ask[InTenant, KeyWish]) -> KeyMade:
    """Make a key. The key itself is in this answer and nowhere else."""
    wish, now = ask.body, ask.parts.now()
    ask.who.may_give(wish.scopes)
    if wish.user_id and wish.service_account_id:
        both = "A key is a member's or a service account's, not both."
        raise Problem(Refusal.INVALID_INPUT, fields={"service_account_id": both})
    secret, its_digest = mint(ask.parts, test=wish.test)
    made = await ask.keys.create_key(
        ask.tenant_id,
        NewKey(
            name=wish.name,
            digest=its_digest,
            last4=secret[-4:],
            scopes=frozenset(wish.scopes),
            expires_at=wish.expires_at,
            user_id=wish.user_id,
            service_account_id=wish.service_account_id,
            networks=wish.networks,
            routes=wish.routes,
            metadata=wish.metadata,
        ),
    )
    return KeyMade(**facts(made, now), key=secret)


@operations.get("/keys/{key_id}", Permission.KEYS_READ, answer=KeyShown)
async def show_key(ask: Ask[InTenant, Any]) -> KeyShown:
    """One key."""
    return _shown(await ask.keys.key(ask.tenant_id, ask.path("key_id")), ask.parts.now())


@operations.patch("/keys/{key_id}", Permission.KEYS_WRITE, body=KeyEdit, answer=KeyShown)
async def change_key(ask: Ask[InTenant, KeyEdit]) -> KeyShown:
    """Change a key: in effect everywhere within a second."""
    edit, now, key_id = ask.body, ask.parts.now(), ask.path("key_id")

    def check(current: ApiKey) -> None:
        ask.check_version(_shown(current, now))
        stronger = edit.enabled or edit.expires_at or edit.scopes is not None or _is_wider(current, edit)
        if stronger:  # that is giving it anew
            ask.who.may_give(current.scopes | frozenset(edit.scopes or ()))

    changed = await ask.keys.change_key(
        ask.tenant_id,
        key_id,
        KeyChange(
            name=edit.name,
            scopes=None if edit.scopes is None else frozenset(edit.scopes),
            expires_at=edit.expires_at,
            enabled=edit.enabled,
            networks=edit.networks,
            routes=edit.routes,
            metadata=edit.metadata,
        ),
        check,
    )
    await ask.announce(Invalidation(tenant_id=ask.tenant_id, key_id=key_id))
    return _shown(changed, now)


@operations.post("/keys/{key_id}/rotate", Permission.KEYS_WRITE, body=Rotation, answer=KeyMade)
async def rotate_key(ask: Ask[InTenant, Rotation]) -> KeyMade:
    """Replace a key by a new one with the same name, scopes, limits, owner and expiry."""
    now, key_id = ask.parts.now(), ask.path("key_id")
    old = await ask.keys.key(ask.tenant_id, key_id)
    ask.who.may_give(old.scopes)  # whoever sees the successor can use it
    secret, its_digest = mint(ask.parts, test=ask.body.test)
    made = await ask.keys.rotate_key(
        ask.tenant_id,
        key_id,
        digest=its_digest,
        last4=secret[-4:],
        old_ends_at=now + timedelta(seconds=ask.body.overlap_s),
    )
    await ask.announce(Invalidation(tenant_id=ask.tenant_id, key_id=key_id))
    return KeyMade(**facts(made, now), key=secret)


@operations.delete("/keys/{key_id}", Permission.KEYS_WRITE)
async def revoke_key(ask: Ask[InTenant, Any]) -> None:
    """End a key now and for ever."""
    now = ask.parts.now()
    key = await ask.keys.revoke_key(
        ask.tenant_id, ask.path("key_id"), lambda current: ask.check_version(_shown(current, now))
    )
    await ask.announce(Invalidation(tenant_id=ask.tenant_id, key_id=key.id))


def _is_wider(key: ApiKey, edit: KeyEdit) -> bool:
    """Whether the key would work from where, or on routes where, it does not."""
    more_routes = edit.routes is not None and (not edit.routes or not {*edit.routes} <= {*key.routes})
    more_networks = edit.networks is not None and not lie_within(edit.networks, key.networks)
    return (bool(key.routes) and more_routes) or (bool(key.networks) and more_networks)


def mint(parts: Parts, *, test: bool) -> tuple[str, bytes]:
    """A new key, and its digest."""
    secret = mint_key(secrets.token_bytes(RANDOM_BYTES), live=not test)
    return secret, digest(parts.secret_for("api-keys"), secret.encode("ascii"))


def _shown(key: ApiKey, now: datetime) -> KeyShown:
    return KeyShown(**facts(key, now))


def facts(key: ApiKey, now: datetime) -> dict[str, Any]:
    """What :class:`KeyShown` says of a key."""
    used = key.last_used
    return {
        "id": key.id,
        "name": key.name,
        "last4": key.last4,
        "scopes": sorted(key.scopes),
        "user_id": key.user_id,
        "service_account_id": key.service_account_id,
        "status": key.status(now),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "networks": list(key.networks),
        "routes": list(key.routes),
        "metadata": dict(key.metadata),
        "last_used": LastUse(at=used.at, address=used.address, agent=used.agent) if used else None,
    }
