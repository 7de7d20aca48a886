"""API keys as rows: the statements that read and write them, and what a row means."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import asyncpg

from policies.audit import Facts
from policies.identity.permissions import usable
from policies.identity.principals import Method, Principal, Standing
from policies.identity.tenants import ApiKey, KeyUsed, Role, TenantStatus, UserStatus
from policies.limits.calendars import Calendar
from policies.networks import network
from storage.postgres import values
from storage.postgres.limits import limits_of, limits_sql
from storage.postgres.tenants.members import held

OWN = """k.id, k.tenant_id, k.user_id, k.name, k.last4, k.scopes, k.created_at, k.expires_at, k.revoked_at,
    k.disabled_at, k.networks, k.routes, k.metadata, k.service_account_id,
    k.revoked_at IS NOT NULL AS revoked, k.disabled_at IS NOT NULL AS disabled,
    'active' AS tenant_status,
    (SELECT u.status FROM platform.users u WHERE u.id = k.user_id) AS user_status,
    (SELECT a.disabled_at IS NOT NULL FROM platform.service_accounts a
        WHERE a.tenant_id = k.tenant_id AND a.id = k.service_account_id) AS account_disabled"""
SELECT = f"SELECT {OWN}, u.used_at, u.address, u.agent"
KEY = f"{SELECT} FROM platform.api_keys k LEFT JOIN platform.key_uses u ON u.key_id = k.id WHERE k.tenant_id = $1"
STATUS = """CASE
    WHEN k.revoked_at IS NOT NULL OR EXISTS (SELECT FROM platform.service_accounts a
        WHERE a.tenant_id = k.tenant_id AND a.id = k.service_account_id AND a.disabled_at IS NOT NULL) THEN 'revoked'
    WHEN k.disabled_at IS NOT NULL THEN 'disabled'
    WHEN EXISTS (SELECT FROM platform.users u WHERE u.id = k.user_id AND u.status <> 'active') THEN 'user_disabled'
    WHEN k.expires_at <= now() THEN 'expired' ELSE 'active' END"""
"""What :meth:`policies.identity.tenants.ApiKey.status` says, where rows are chosen by it. A test compares them."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

HOLDER = f"""
    SELECT k.id, k.tenant_id, t.slug, k.user_id, k.scopes, k.expires_at,
        k.service_account_id, a.scopes AS account_scopes, a.disabled_at IS NOT NULL AS account_disabled,
        m.role, m.custom_role, r.permissions, coalesce(u.operator, false) AS operator,
        k.revoked_at IS NOT NULL AS revoked, k.disabled_at IS NOT NULL AS disabled, k.networks, k.routes,
        t.status AS tenant_status, u.status AS user_status,
        t.time_zone, t.anchor_day, {limits_sql("k.tenant_id", "k.user_id", "k.id")} AS limits,
        p.limits AS plan_limits, p.routes AS plan_routes,
        ARRAY(SELECT o.route FROM platform.route_overrides o WHERE o.tenant_id = k.tenant_id) AS denied_routes
    FROM platform.api_keys k
    JOIN platform.tenants t ON t.id = k.tenant_id
    LEFT JOIN platform.plans p ON p.name = t.plan
    LEFT JOIN platform.service_accounts a ON a.tenant_id = k.tenant_id AND a.id = k.service_account_id
    LEFT JOIN platform.users u ON u.id = k.user_id
    LEFT JOIN platform.memberships m ON m.tenant_id = k.tenant_id AND m.user_id = k.user_id
    LEFT JOIN platform.roles r ON r.tenant_id = m.tenant_id AND r.name = m.custom_role
"""  # noqa: S608  made of this package's own column names

IDENTIFY = f"{HOLDER} WHERE k.digest = $1"

CREATE = f"""
    INSERT INTO platform.api_keys AS k (
        id, tenant_id, user_id, name, digest, last4, scopes, expires_at, networks, routes, metadata, service_account_id
    )
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
    RETURNING {OWN}
"""  # noqa: S608  made of this module\'s own column names

CHANGE = f"""
    UPDATE platform.api_keys k SET name = $3, scopes = $4, expires_at = $5, disabled_at = $6, networks = $7,
        routes = $8, metadata = $9
    WHERE tenant_id = $1 AND id = $2 RETURNING {OWN}
"""  # noqa: S608  made of this module's own column names

REVOKE = f"""
    UPDATE platform.api_keys k SET revoked_at = now() WHERE tenant_id = $1 AND id = $2 RETURNING {OWN}
"""  # noqa: S608  made of this module's own column names

LOCK_USABLE = """
    SELECT FROM platform.api_keys
    WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL
        AND (expires_at IS NULL OR expires_at > clock_timestamp())
    FOR NO KEY UPDATE
"""
"""By the server's clock, read when the row is ours: another rotation may have ended the key meanwhile."""

SUCCEED = f"""
    WITH limit_copied AS (
        INSERT INTO platform.limits (tenant_id, key_id, what, count, period_ms, calendar, route, shadow, unit)
        SELECT tenant_id, $3, what, count, period_ms, calendar, route, shadow, unit
        FROM platform.limits WHERE tenant_id = $1 AND key_id = $2
    ), old_ended AS (
        UPDATE platform.api_keys SET expires_at = least(expires_at, $6) WHERE tenant_id = $1 AND id = $2
    )
    INSERT INTO platform.api_keys AS k (
        id, tenant_id, user_id, name, digest, last4, scopes, expires_at, rotated_from, networks, routes, metadata,
        service_account_id
    )
    SELECT $3, tenant_id, user_id, name, $4, $5, scopes, expires_at, id, networks, routes, metadata, service_account_id
    FROM platform.api_keys
    WHERE tenant_id = $1 AND id = $2
    RETURNING {OWN}
"""  # noqa: S608  made of this module\'s own column names
"""All parts read the row as it was before this statement, so the successor has the old key's original expiry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChange:
    """What of a key changes; None: nothing."""

    name: str | None = None
    scopes: frozenset[str] | None = None
    expires_at: datetime | None = None
    enabled: bool | None = None
    networks: Sequence[str] | None = None
    routes: Sequence[str] | None = None
    metadata: Mapping[str, str] | None = None


def changed_by(key: ApiKey, change: KeyChange) -> ApiKey:
    """The key with a change made. Raises ValueError."""
    if change.expires_at is not None:
        values.check_instant(change.expires_at, "the expiry of a key")
    disabled_at = key.disabled_at
    if change.enabled is not None:
        disabled_at = None if change.enabled else disabled_at or datetime.now(UTC)
    return replace(
        key,
        name=key.name if change.name is None else values.clean_name(change.name, of="a key"),
        scopes=key.scopes if change.scopes is None else frozenset(values.sorted_scopes(change.scopes)),
        expires_at=key.expires_at if change.expires_at is None else change.expires_at,
        disabled_at=disabled_at,
        networks=key.networks if change.networks is None else tuple(networks_text(change.networks)),
        routes=key.routes if change.routes is None else tuple(sorted(set(change.routes))),
        metadata=key.metadata if change.metadata is None else change.metadata,
    )


def networks_text(written: Sequence[str]) -> list[str]:
    """Networks as they are stored, each once. Raises ValueError."""
    return sorted({str(network(each)) for each in written})


def metadata_text(metadata: Mapping[str, str]) -> str:
    """Metadata as they are stored."""
    return json.dumps(dict(metadata), sort_keys=True)


def key_of(row: asyncpg.Record) -> ApiKey:
    """A row of ``KEY``, or of what a statement returned."""
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
        disabled_at=row["disabled_at"],
        networks=tuple(row["networks"]),
        routes=tuple(row["routes"]),
        metadata=json.loads(row["metadata"]),
        last_used=_used(row) if row.get("used_at") else None,
        service_account_id=row["service_account_id"],
        standing=_standing(row),
    )


def _used(row: asyncpg.Record) -> KeyUsed:
    return KeyUsed(at=row["used_at"], address=row["address"], agent=row["agent"])


def facts_of(key: ApiKey) -> Facts:
    """What the audit trail says of a key."""
    return {
        "name": key.name,
        "last4": key.last4,
        "scopes": sorted(key.scopes),
        "user": key.user_id,
        "service_account": key.service_account_id,
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
        "enabled": key.disabled_at is None,
        "networks": list(key.networks),
        "routes": list(key.routes),
        "metadata": metadata_text(key.metadata),
    }


def principal_of(row: asyncpg.Record) -> Principal:
    """A row of ``HOLDER``."""
    limits = limits_of(row["limits"], row["plan_limits"])
    role = row["custom_role"] or row["role"] or (Role.SERVICE if row["service_account_id"] else None)
    return Principal(
        method=Method.API_KEY,
        standing=_standing(row),
        tenant_id=row["tenant_id"],
        tenant_slug=row["slug"],
        user_id=row["user_id"] or row["service_account_id"] or "",
        key_id=row["id"],
        scopes=_usable(row),
        roles=(role,) if role else (),
        expires_ms=_ms(row["expires_at"]),
        tenant_rate=limits.tenant_rate,
        key_rate=limits.key_rate,
        allowances=limits.allowances,
        calendar=Calendar(row["time_zone"], row["anchor_day"]),
        denied_routes=frozenset(row["denied_routes"]),
        plan_routes=frozenset(row["plan_routes"] or ()),
        only_routes=frozenset(row["routes"]),
        networks=tuple(map(network, row["networks"])),
    )


def _usable(row: asyncpg.Record) -> frozenset[str]:
    """What of the scopes the owner holds now."""
    scopes = frozenset(row["scopes"])
    if row["service_account_id"]:
        return scopes & frozenset(row["account_scopes"])
    return usable(scopes, held(row)) if row["user_id"] else scopes


def _standing(row: asyncpg.Record) -> Standing:
    if row["revoked"] or row["account_disabled"]:  # an account that is disabled stays so
        return Standing.REVOKED
    if row["disabled"]:
        return Standing.DISABLED
    if row["tenant_status"] != TenantStatus.ACTIVE:
        return Standing.TENANT_SUSPENDED
    if row["user_id"] and row["user_status"] != UserStatus.ACTIVE:
        return Standing.USER_DISABLED
    return Standing.GOOD


def _ms(moment: datetime | None) -> int | None:
    # Whole numbers, rounded down: a float would let some keys live a millisecond longer than they should.
    return None if moment is None else (moment - _EPOCH) // timedelta(milliseconds=1)
