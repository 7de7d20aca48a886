"""The KeyRegistry port: API keys, and who holds them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from policies.audit import Change, Facts, changed
from policies.http.credentials import redacted
from policies.identity.principals import Principal
from policies.identity.tenants import ApiKey
from policies.limits.plans import Counted
from storage.ports import AlreadyExists, NewKey, NotFound
from storage.postgres import values
from storage.postgres.absences import no_enabled_account, no_member, no_tenant
from storage.postgres.address import Connection
from storage.postgres.audit import AuditTrail
from storage.postgres.faults import violating
from storage.postgres.ids import Kind, is_id, new_id
from storage.postgres.keys.owners import require_held
from storage.postgres.keys.rows import (
    CHANGE,
    CREATE,
    HOLDER,
    IDENTIFY,
    KEY,
    LOCK_USABLE,
    REVOKE,
    STATUS,
    SUCCEED,
    KeyChange,
    changed_by,
    facts_of,
    key_of,
    metadata_text,
    networks_text,
    principal_of,
)
from storage.postgres.order import by_age
from storage.postgres.pool import Pool
from storage.postgres.room import before_memberships, require_room

if TYPE_CHECKING:
    from storage import ports

_DIGEST_BYTES = 32
_SORTS = by_age("k.id")


class PostgresKeyRegistry:
    """See :class:`storage.ports.KeyRegistry`. Storing what no key can be raises ValueError."""

    def __init__(self, pool: Pool, trail: AuditTrail) -> None:
        self._pool = pool
        self._trail = trail

    async def create_key(self, tenant_id: str, new: NewKey) -> ApiKey:
        """Raises NotFound when there is no such tenant, member or account of it; AlreadyExists for a known digest.

        Raises ExceedsOwner for scopes that the owner does not hold, ValueError for two owners.
        """
        user_id, account_id = new.user_id, new.service_account_id
        _check_secret(new.digest, new.last4)
        if new.expires_at is not None:
            values.check_instant(new.expires_at, "the expiry of a key")
        if user_id is not None and account_id is not None:
            raise ValueError("a key is a member's or a service account's, not both")
        refusals = {
            "api_keys_digest_key": AlreadyExists("This very key is registered already."),
            "api_keys_tenant_fkey": no_tenant(tenant_id),
            "api_keys_owner_fkey": no_member(user_id or ""),
            "api_keys_account_fkey": no_enabled_account(account_id),
        }
        row = (
            new_id(Kind.KEY),
            tenant_id,
            user_id,
            values.clean_name(new.name, of="a key"),
            new.digest,
            new.last4,
            values.sorted_scopes(new.scopes),
            new.expires_at,
            networks_text(new.networks),
            sorted(set(new.routes)),
            metadata_text(new.metadata),
            account_id,
        )
        await require_held(self._pool, tenant_id, new.scopes, user_id=user_id, service_account_id=account_id)
        async with self._pool.tenant(tenant_id) as connection:
            await before_memberships(connection)
            await require_room(connection, tenant_id, Counted.KEYS)
            with violating(refusals):
                (made,) = await connection.fetch(CREATE, *row)
            key = key_of(made)
            await self._record(connection, "key.created", key, after=facts_of(key))
        return key

    async def keys(self, tenant_id: str) -> Sequence[ApiKey]:
        """All of the tenant's keys, newest first, ended ones included."""
        rows = await self._pool.read(
            f"{KEY} ORDER BY k.created_at DESC, k.id DESC",
            tenant_id,
            tenant_id=tenant_id,
        )
        return [key_of(row) for row in rows]

    async def keys_page(
        self,
        tenant_id: str,
        limit: int,
        *,
        sort: str = "-created",
        beyond: str | int | None = None,
        user_id: str | None = None,
        service_account_id: str | None = None,
        status: str | None = None,
        unused_since: datetime | None = None,
        ending_before: datetime | None = None,
        name: str = "",
    ) -> Sequence[ApiKey]:
        """Those ``beyond`` another's id; of one person or service account, of one status, where given.

        ``name``: a part of what it is called, or the four characters that it ends in.
        ``unused_since``: not revoked, and not used since; ``ending_before``: still valid, and not for long.
        """
        order = _SORTS[sort]
        rows = await self._pool.read(
            f"{KEY} AND ($3::text IS NULL OR k.user_id = $3)"
            " AND ($4::timestamptz IS NULL OR k.created_at < $4 AND k.revoked_at IS NULL)"
            " AND ($4::timestamptz IS NULL OR coalesce(u.used_at, k.created_at) < $4)"
            " AND ($5::timestamptz IS NULL OR k.expires_at < $5 AND k.expires_at > now() AND k.revoked_at IS NULL)"
            " AND ($7::text IS NULL OR k.service_account_id = $7)"
            f" AND ($8::text IS NULL OR $8 = {STATUS})"
            " AND (strpos(lower(k.name), lower($9)) > 0 OR k.last4 = $9)"
            f" {order.page('$2', '$6')}",
            tenant_id,
            order.after(beyond),
            user_id,
            unused_since,
            ending_before,
            limit,
            service_account_id,
            status,
            name,
            tenant_id=tenant_id,
        )
        return [key_of(row) for row in rows]

    async def key(self, tenant_id: str, key_id: str) -> ApiKey:
        """One key of the tenant. Raises NotFound."""
        if not is_id(Kind.KEY, key_id):
            raise _no_key(key_id)
        rows = await self._pool.read(
            f"{KEY} AND k.id = $2",
            tenant_id,
            key_id,
            tenant_id=tenant_id,
        )
        if not rows:
            raise _no_key(key_id)
        return key_of(rows[0])

    async def change_key(
        self, tenant_id: str, key_id: str, change: KeyChange, check: Callable[[ApiKey], None] = lambda _: None
    ) -> ApiKey:
        """The key as it is then. ``check`` sees it as it was, and may raise. Raises NotFound.

        One that had lapsed takes a place again: raises Full. New scopes are within its owner's: raises ExceedsOwner.
        """
        if not is_id(Kind.KEY, key_id):
            raise _no_key(key_id)
        if change.scopes is not None:
            await self._require_held(await self.key(tenant_id, key_id), change.scopes)
        async with self._pool.tenant(tenant_id) as connection:
            old = await _locked(connection, tenant_id, key_id)
            check(old)
            new = changed_by(old, change)
            before, after = changed(facts_of(old), facts_of(new))
            if not after:
                return old
            if new.expires_at != old.expires_at and await connection.fetchval(_IS_OVER, old.expires_at):
                await require_room(connection, tenant_id, Counted.KEYS)  # as if it were made now
            (row,) = await connection.fetch(
                CHANGE,
                tenant_id,
                key_id,
                new.name,
                sorted(new.scopes),
                new.expires_at,
                new.disabled_at,
                list(new.networks),
                list(new.routes),
                metadata_text(new.metadata),
            )
            action = "key.changed"
            if before.keys() == {"enabled"}:
                action = "key.enabled" if new.disabled_at is None else "key.disabled"
            await self._record(connection, action, new, before=before, after=after)
        return replace(new, standing=key_of(row).standing)

    async def rotate_key(
        self, tenant_id: str, key_id: str, *, digest: bytes, last4: str, old_ends_at: datetime
    ) -> ApiKey:
        """The successor. Raises AlreadyExists for a key that has one: rotate that one; ExceedsOwner.

        One successor at most, so that a command given twice cannot leave a valid key behind that nobody keeps.
        """
        _check_secret(digest, last4)
        values.check_instant(old_ends_at, "the end of the old key")
        if not is_id(Kind.KEY, key_id):
            raise _no_key(key_id)
        refusals = {
            "api_keys_rotated_from_key": AlreadyExists(f"{key_id} was rotated already: rotate its successor instead."),
            "api_keys_digest_key": AlreadyExists("This very key is registered already."),
        }
        old = await self.key(tenant_id, key_id)
        await self._require_held(old, old.scopes)
        async with self._pool.tenant(tenant_id) as connection:
            await before_memberships(connection)
            if not await connection.fetch(LOCK_USABLE, tenant_id, key_id):
                raise NotFound(f"This tenant has no key {key_id} that is still valid.", what="key")
            await require_room(
                connection, tenant_id, Counted.KEYS, times=2
            )  # a full house can rotate, and not without end
            with violating(refusals):
                (made,) = await connection.fetch(
                    SUCCEED, tenant_id, key_id, new_id(Kind.KEY), digest, last4, old_ends_at
                )
            key = key_of(made)
            before: Facts = {"id": key_id, "ends_at": old_ends_at.isoformat()}
            await self._record(connection, "key.rotated", key, before=before, after=facts_of(key))
        return key

    async def revoke_key(self, tenant_id: str, key_id: str, check: Callable[[ApiKey], None] = lambda _: None) -> ApiKey:
        """The key as it is now. ``check`` sees it as it was, and may raise."""
        if not is_id(Kind.KEY, key_id):
            raise _no_key(key_id)
        async with self._pool.tenant(tenant_id) as connection:
            old = await _locked(connection, tenant_id, key_id)
            check(old)
            if old.revoked_at is not None:
                return old
            (row,) = await connection.fetch(REVOKE, tenant_id, key_id)
            await self._record(connection, "key.revoked", old, before=facts_of(old))
        return key_of(row)

    async def _require_held(self, key: ApiKey, scopes: frozenset[str]) -> None:
        await require_held(
            self._pool, key.tenant_id, scopes, user_id=key.user_id, service_account_id=key.service_account_id
        )

    async def _record(
        self, connection: Connection, action: str, key: ApiKey, before: Facts | None = None, after: Facts | None = None
    ) -> None:
        change = Change(
            tenant_id=key.tenant_id, action=action, target=key.id, target_name=key.name, before=before, after=after
        )
        await self._trail.record(connection, change)

    async def key_tenant(self, key_id: str) -> str:
        """The id of the tenant that holds a key."""
        if not is_id(Kind.KEY, key_id):
            raise _no_key(key_id)
        rows = await self._pool.read("SELECT tenant_id FROM platform.api_keys WHERE id = $1", key_id)
        if not rows:
            raise _no_key(key_id)
        return str(rows[0]["tenant_id"])

    async def key_holder(self, key_id: str) -> Principal:
        """One round trip."""
        rows = await self._pool.read(f"{HOLDER} WHERE k.id = $1", key_id) if is_id(Kind.KEY, key_id) else []
        if not rows:
            raise _no_key(key_id)
        return principal_of(rows[0])

    async def key_digest(self, tenant_id: str, key_id: str) -> bytes | None:
        """What is stored instead of a key that could be used now; None when there is no such key."""
        rows = await self._pool.read(
            """
            SELECT digest FROM platform.api_keys
            WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
            """,
            tenant_id,
            key_id,
        )
        return bytes(rows[0]["digest"]) if rows else None

    async def identify_key(self, digest: bytes) -> Principal | None:
        """One round trip. An expired key is still identified: ``expires_ms`` is for whoever holds the clock."""
        rows = await self._pool.read(IDENTIFY, digest)
        return principal_of(rows[0]) if rows else None


_IS_OVER = "SELECT $1::timestamptz <= now()"


async def _locked(connection: Connection, tenant_id: str, key_id: str) -> ApiKey:
    """Until the transaction ends. Raises NotFound."""
    rows = await connection.fetch(f"{KEY} AND k.id = $2 FOR NO KEY UPDATE OF k", tenant_id, key_id)
    if not rows:
        raise _no_key(key_id)
    return key_of(rows[0])


def _check_secret(digest: bytes, last4: str) -> None:
    if len(digest) != _DIGEST_BYTES:
        raise ValueError(f"the digest of a key has {_DIGEST_BYTES} bytes, not {len(digest)}")
    if len(last4) != 4 or not (last4.isascii() and last4.isprintable()):
        raise ValueError("last4 is the last four characters of the key")


def _no_key(key_id: str) -> NotFound:
    return NotFound(f"There is no key {redacted(key_id)!r}.", what="key")


if TYPE_CHECKING:
    _promised: type[ports.KeyRegistry] = PostgresKeyRegistry
