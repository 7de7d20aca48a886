"""The KeyRegistry port: API keys, and who holds them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg

from policies.audit import Change, Facts
from policies.calendars import Calendar
from policies.credentials import redacted
from policies.principals import Method, Principal, Standing
from policies.tenants import ApiKey, TenantStatus, UserStatus
from storage.ports import AlreadyExists, NotFound
from storage.postgres import values
from storage.postgres.address import Connection
from storage.postgres.audit import AuditTrail
from storage.postgres.faults import violating
from storage.postgres.ids import Kind, is_id, new_id
from storage.postgres.limits import limits_of, limits_sql
from storage.postgres.pool import Pool

if TYPE_CHECKING:
    from storage import ports

_DIGEST_BYTES = 32
_KEY = """
    SELECT id, tenant_id, user_id, name, last4, scopes, created_at, expires_at, revoked_at
    FROM platform.api_keys
    WHERE tenant_id = $1
"""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_HOLDER = f"""
    SELECT k.id, k.tenant_id, t.slug, k.user_id, m.role, k.scopes, k.expires_at,
        k.revoked_at IS NOT NULL AS revoked, t.status AS tenant_status, u.status AS user_status,
        t.time_zone, t.anchor_day, {limits_sql("k.tenant_id", "k.user_id", "k.id")} AS limits,
        ARRAY(SELECT o.route FROM platform.route_overrides o WHERE o.tenant_id = k.tenant_id) AS denied_routes
    FROM platform.api_keys k
    JOIN platform.tenants t ON t.id = k.tenant_id
    LEFT JOIN platform.users u ON u.id = k.user_id
    LEFT JOIN platform.memberships m ON m.tenant_id = k.tenant_id AND m.user_id = k.user_id
"""  # noqa: S608  made of this package's own column names

_IDENTIFY = f"{_HOLDER} WHERE k.digest = $1"

_LOCK_USABLE = """
    SELECT FROM platform.api_keys
    WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL
        AND (expires_at IS NULL OR expires_at > clock_timestamp())
    FOR NO KEY UPDATE
"""
"""By the server's clock, read when the row is ours: another rotation may have ended the key meanwhile."""

_SUCCEED = """
    WITH limit_copied AS (
        INSERT INTO platform.limits (tenant_id, key_id, what, count, period_ms, calendar, route, shadow)
        SELECT tenant_id, $3, what, count, period_ms, calendar, route, shadow
        FROM platform.limits WHERE tenant_id = $1 AND key_id = $2
    ), old_ended AS (
        UPDATE platform.api_keys SET expires_at = least(expires_at, $6) WHERE tenant_id = $1 AND id = $2
    )
    INSERT INTO platform.api_keys (id, tenant_id, user_id, name, digest, last4, scopes, expires_at, rotated_from)
    SELECT $3, tenant_id, user_id, name, $4, $5, scopes, expires_at, id
    FROM platform.api_keys
    WHERE tenant_id = $1 AND id = $2
    RETURNING id, tenant_id, user_id, name, last4, scopes, created_at, expires_at, revoked_at
"""
"""All parts read the row as it was before this statement, so the successor has the old key's original expiry."""


class PostgresKeyRegistry:
    """See :class:`storage.ports.KeyRegistry`. Storing what no key can be raises ValueError."""

    def __init__(self, pool: Pool, trail: AuditTrail) -> None:
        self._pool = pool
        self._trail = trail

    async def create_key(
        self,
        tenant_id: str,
        *,
        name: str,
        digest: bytes,
        last4: str,
        scopes: frozenset[str],
        expires_at: datetime | None = None,
        user_id: str | None = None,
    ) -> ApiKey:
        """Raises NotFound when there is no such tenant, or no such member of it; AlreadyExists for a known digest."""
        _check_secret(digest, last4)
        if expires_at is not None:
            values.check_instant(expires_at, "the expiry of a key")
        refusals = {
            "api_keys_digest_key": AlreadyExists("This very key is registered already."),
            "api_keys_tenant_fkey": NotFound(f"There is no tenant with the id {tenant_id}."),
            "api_keys_owner_fkey": NotFound(f"No member of this tenant has the id {user_id}."),
        }
        row = (
            new_id(Kind.KEY),
            tenant_id,
            user_id,
            values.clean_name(name, of="a key"),
            digest,
            last4,
            values.sorted_scopes(scopes),
            expires_at,
        )
        async with self._pool.tenant(tenant_id) as connection:
            with violating(refusals):
                (made,) = await connection.fetch(
                    """
                    INSERT INTO platform.api_keys (id, tenant_id, user_id, name, digest, last4, scopes, expires_at)
                    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
                    RETURNING id, tenant_id, user_id, name, last4, scopes, created_at, expires_at, revoked_at
                    """,
                    *row,
                )
            key = _key(made)
            await self._record(connection, "key.created", key, after=_facts(key))
        return key

    async def keys(self, tenant_id: str) -> Sequence[ApiKey]:
        """All of the tenant's keys, newest first, ended ones included."""
        rows = await self._pool.read(
            f"{_KEY} ORDER BY created_at DESC, id DESC",
            tenant_id,
            tenant_id=tenant_id,
        )
        return [_key(row) for row in rows]

    async def keys_page(
        self, tenant_id: str, limit: int, *, below: str | None, user_id: str | None
    ) -> Sequence[ApiKey]:
        """Newest first: those whose id is ``below`` another's, and which belong to one person, where given."""
        rows = await self._pool.read(
            f"{_KEY} AND ($2::text IS NULL OR id < $2) AND ($3::text IS NULL OR user_id = $3)"
            " ORDER BY id DESC LIMIT $4",
            tenant_id,
            below,
            user_id,
            limit,
            tenant_id=tenant_id,
        )
        return [_key(row) for row in rows]

    async def key(self, tenant_id: str, key_id: str) -> ApiKey:
        """One key of the tenant. Raises NotFound."""
        if not is_id(Kind.KEY, key_id):
            raise _no_key(key_id)
        rows = await self._pool.read(
            f"{_KEY} AND id = $2",
            tenant_id,
            key_id,
            tenant_id=tenant_id,
        )
        if not rows:
            raise _no_key(key_id)
        return _key(rows[0])

    async def rename_key(
        self, tenant_id: str, key_id: str, name: str, check: Callable[[ApiKey], None] = lambda _: None
    ) -> ApiKey:
        """The key with its new name. ``check`` sees the key as it is, and may raise. Raises NotFound."""
        if not is_id(Kind.KEY, key_id):
            raise _no_key(key_id)
        name = values.clean_name(name, of="a key")
        async with self._pool.tenant(tenant_id) as connection:
            rows = await connection.fetch(
                f"{_KEY} AND id = $2 FOR NO KEY UPDATE",
                tenant_id,
                key_id,
            )
            if not rows:
                raise _no_key(key_id)
            key = _key(rows[0])
            check(key)
            if key.name == name:
                return key
            await connection.execute("UPDATE platform.api_keys SET name = $2 WHERE id = $1", key_id, name)
            await self._record(connection, "key.renamed", key, before={"name": key.name}, after={"name": name})
        return replace(key, name=name)

    async def rotate_key(
        self, tenant_id: str, key_id: str, *, digest: bytes, last4: str, old_ends_at: datetime
    ) -> ApiKey:
        """The successor. Raises AlreadyExists for a key that has one: rotate that one.

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
        async with self._pool.tenant(tenant_id) as connection:
            if not await connection.fetch(_LOCK_USABLE, tenant_id, key_id):
                raise NotFound(f"This tenant has no key {key_id} that is still valid.")
            with violating(refusals):
                (made,) = await connection.fetch(
                    _SUCCEED, tenant_id, key_id, new_id(Kind.KEY), digest, last4, old_ends_at
                )
            key = _key(made)
            before: Facts = {"id": key_id, "ends_at": old_ends_at.isoformat()}
            await self._record(connection, "key.rotated", key, before=before, after=_facts(key))
        return key

    async def revoke_key(self, tenant_id: str, key_id: str) -> ApiKey:
        """The key as it is now."""
        if not is_id(Kind.KEY, key_id):
            raise _no_key(key_id)
        async with self._pool.tenant(tenant_id) as connection:
            rows = await connection.fetch(
                """
                UPDATE platform.api_keys SET revoked_at = coalesce(revoked_at, now())
                WHERE tenant_id = $1 AND id = $2
                RETURNING id, tenant_id, user_id, name, last4, scopes, created_at, expires_at, revoked_at,
                    revoked_at = now() AS just_now
                """,
                tenant_id,
                key_id,
            )
            if not rows:
                raise _no_key(key_id)
            key = _key(rows[0])
            if rows[0]["just_now"]:
                await self._record(connection, "key.revoked", key, before=_facts(key))
        return key

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
        rows = await self._pool.read(f"{_HOLDER} WHERE k.id = $1", key_id) if is_id(Kind.KEY, key_id) else []
        if not rows:
            raise _no_key(key_id)
        return _principal(rows[0])

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
        rows = await self._pool.read(_IDENTIFY, digest)
        return _principal(rows[0]) if rows else None


def _check_secret(digest: bytes, last4: str) -> None:
    if len(digest) != _DIGEST_BYTES:
        raise ValueError(f"the digest of a key has {_DIGEST_BYTES} bytes, not {len(digest)}")
    if len(last4) != 4 or not (last4.isascii() and last4.isprintable()):
        raise ValueError("last4 is the last four characters of the key")


def _no_key(key_id: str) -> NotFound:
    return NotFound(f"There is no key {redacted(key_id)!r}.")


def _key(row: asyncpg.Record) -> ApiKey:
    return ApiKey(
        id=row["id"],
        tenant_id=row["tenant_id"],
        user_id=row["user_id"],
        name=row["name"],
        last4=row["last4"],
        scopes=frozenset(row["scopes"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
    )


def _facts(key: ApiKey) -> Facts:
    return {
        "name": key.name,
        "last4": key.last4,
        "scopes": sorted(key.scopes),
        "user": key.user_id,
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
    }


def _principal(row: asyncpg.Record) -> Principal:
    limits = limits_of(row["limits"])
    return Principal(
        method=Method.API_KEY,
        standing=_standing(row),
        tenant_id=row["tenant_id"],
        tenant_slug=row["slug"],
        user_id=row["user_id"] or "",
        key_id=row["id"],
        scopes=frozenset(row["scopes"]),
        roles=(row["role"],) if row["role"] else (),
        expires_ms=_ms(row["expires_at"]),
        tenant_rate=limits.tenant_rate,
        key_rate=limits.key_rate,
        allowances=limits.allowances,
        calendar=Calendar(row["time_zone"], row["anchor_day"]),
        denied_routes=frozenset(row["denied_routes"]),
    )


def _standing(row: asyncpg.Record) -> Standing:
    if row["revoked"]:
        return Standing.REVOKED
    if row["tenant_status"] != TenantStatus.ACTIVE:
        return Standing.TENANT_SUSPENDED
    if row["user_id"] and row["user_status"] != UserStatus.ACTIVE:
        return Standing.USER_DISABLED
    return Standing.GOOD


def _ms(moment: datetime | None) -> int | None:
    # Whole numbers, rounded down: a float would let some keys live a millisecond longer than they should.
    return None if moment is None else (moment - _EPOCH) // timedelta(milliseconds=1)


if TYPE_CHECKING:
    _promised: type[ports.KeyRegistry] = PostgresKeyRegistry
