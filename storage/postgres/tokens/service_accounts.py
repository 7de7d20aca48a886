"""The ServiceAccounts port: programs that ask for tokens with an id and a secret."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import asyncpg

from policies.audit import Change, changed
from policies.identity.tenants import ServiceAccount
from policies.limits.plans import Counted
from storage.ports import AlreadyExists, Full
from storage.postgres import values
from storage.postgres.absences import no_account, no_enabled_account, no_tenant
from storage.postgres.address import Connection
from storage.postgres.audit import AuditTrail
from storage.postgres.faults import violating
from storage.postgres.ids import Kind, is_id, new_id
from storage.postgres.order import Order, by_age
from storage.postgres.pool import Pool
from storage.postgres.room import require_room

if TYPE_CHECKING:
    from storage import token_ports as ports

_COLUMNS = "id, tenant_id, name, scopes, audiences, created_at, disabled_at"
_SORTS = {"name": Order("name"), **by_age("id")}
_MOST_SECRETS = 10
"""Secrets of one account that may work at one time, for those who replace them before the old ones end."""
_PREFIXED = "a.id, a.tenant_id, a.name, a.scopes, a.audiences, a.created_at, a.disabled_at"


class PostgresServiceAccounts:
    """See :class:`storage.token_ports.ServiceAccounts`. Storing what no account can be raises ValueError."""

    def __init__(self, pool: Pool, trail: AuditTrail) -> None:
        self._pool = pool
        self._trail = trail

    async def create(
        self, tenant_id: str, *, name: str, scopes: frozenset[str], audiences: frozenset[str], digest: bytes
    ) -> ServiceAccount:
        """The account and its first secret, in one transaction."""
        name = values.clean_name(name, of="a service account")
        refusals = {
            "service_accounts_name_key": _name_taken(name),
            "service_accounts_tenant_fkey": no_tenant(tenant_id),
        }
        async with self._pool.tenant(tenant_id) as connection:
            await require_room(connection, tenant_id, Counted.SERVICE_ACCOUNTS)
            with violating(refusals):
                (row,) = await connection.fetch(
                    f"""
                    INSERT INTO platform.service_accounts (id, tenant_id, name, scopes, audiences)
                    VALUES ($1, $2, $3, $4, $5) RETURNING {_COLUMNS}
                    """,  # noqa: S608  a constant
                    new_id(Kind.SERVICE),
                    tenant_id,
                    name,
                    values.sorted_scopes(scopes),
                    sorted(audiences),
                )
            await connection.execute(_ADD_SECRET, digest, tenant_id, row["id"])
            made = _account(row)
            await self._trail.record(connection, _change("created", made))
        return made

    async def accounts(self, tenant_id: str) -> Sequence[ServiceAccount]:
        """The tenant's, by name, disabled ones included."""
        rows = await self._pool.read(
            f"SELECT {_COLUMNS} FROM platform.service_accounts WHERE tenant_id = $1 ORDER BY name",  # noqa: S608  a constant
            tenant_id,
            tenant_id=tenant_id,
        )
        return [_account(row) for row in rows]

    async def page(
        self, tenant_id: str, limit: int, *, sort: str, beyond: str | int | None, disabled: bool | None
    ) -> Sequence[ServiceAccount]:
        """The tenant's: those ``beyond`` a name or, by age, an id; ``disabled`` ones, or the others, where given."""
        order = _SORTS[sort]
        rows = await self._pool.read(
            f"SELECT {_COLUMNS} FROM platform.service_accounts WHERE tenant_id = $1"  # noqa: S608  a constant
            f" AND ($2::bool IS NULL OR (disabled_at IS NOT NULL) = $2) {order.page('$3', '$4')}",
            tenant_id,
            disabled,
            order.after(beyond),
            limit,
            tenant_id=tenant_id,
        )
        return [_account(row) for row in rows]

    async def account(self, account_id: str) -> ServiceAccount:
        """By its id alone, across tenants."""
        rows: Sequence[asyncpg.Record] = []
        if is_id(Kind.SERVICE, account_id):
            rows = await self._pool.read(
                f"SELECT {_COLUMNS} FROM platform.service_accounts WHERE id = $1",  # noqa: S608  a constant
                account_id,
            )
        if not rows:
            raise no_account(account_id)
        return _account(rows[0])

    async def rotate(self, tenant_id: str, account_id: str, *, digest: bytes, old_ends_at: datetime) -> ServiceAccount:
        """One more secret; those before it end at ``old_ends_at`` at the latest."""
        values.check_instant(old_ends_at, "the end of the old secret")
        async with self._pool.tenant(tenant_id) as connection:
            account = await _locked(connection, tenant_id, account_id)
            if account.disabled_at is not None:
                raise no_enabled_account(account_id)
            await connection.execute(
                "DELETE FROM platform.service_secrets WHERE account_id = $1 AND expires_at <= now()", account_id
            )
            there = await connection.fetchval(
                "SELECT count(*) FROM platform.service_secrets WHERE tenant_id = $1 AND account_id = $2",
                tenant_id,
                account_id,
            )
            if there >= _MOST_SECRETS:
                raise Full(f"{there} secrets of it still work, which is the most.")
            await connection.execute(
                """
                UPDATE platform.service_secrets SET expires_at = least(expires_at, $3)
                WHERE tenant_id = $1 AND account_id = $2
                """,
                tenant_id,
                account_id,
                old_ends_at,
            )
            await connection.execute(_ADD_SECRET, digest, tenant_id, account_id)
            await self._trail.record(connection, _change("rotated", account))
        return account

    async def change(
        self,
        tenant_id: str,
        account_id: str,
        *,
        name: str | None = None,
        scopes: frozenset[str] | None = None,
        audiences: frozenset[str] | None = None,
        check: Callable[[ServiceAccount], None] = lambda _: None,
    ) -> ServiceAccount:
        """The account with what is given changed; tokens that are out have the new scopes when they are used next.

        ``check`` sees it as it was, and may raise. Raises AlreadyExists for another one's name.
        """
        async with self._pool.tenant(tenant_id) as connection:
            old = await _locked(connection, tenant_id, account_id)
            check(old)
            if old.disabled_at is not None:
                raise no_enabled_account(account_id)
            new = replace(
                old,
                name=old.name if name is None else values.clean_name(name, of="a service account"),
                scopes=old.scopes if scopes is None else frozenset(values.sorted_scopes(scopes)),
                audiences=old.audiences if audiences is None else audiences,
            )
            before, after = changed(_facts(old) | {"name": old.name}, _facts(new) | {"name": new.name})
            if not after:
                return old
            with violating({"service_accounts_name_key": _name_taken(new.name)}):
                await connection.execute(
                    "UPDATE platform.service_accounts SET name = $2, scopes = $3, audiences = $4 WHERE id = $1",
                    account_id,
                    new.name,
                    sorted(new.scopes),
                    sorted(new.audiences),
                )
            change = replace(_change("changed", new), before=before, after=after)
            await self._trail.record(connection, change)
        return new

    async def disable(
        self, tenant_id: str, account_id: str, check: Callable[[ServiceAccount], None] = lambda _: None
    ) -> ServiceAccount:
        """The account as it is now. ``check`` sees it as it was, and may raise."""
        async with self._pool.tenant(tenant_id) as connection:
            old = await _locked(connection, tenant_id, account_id)
            check(old)
            if old.disabled_at is not None:
                return old
            (row,) = await connection.fetch(
                f"UPDATE platform.service_accounts SET disabled_at = now() WHERE id = $1 RETURNING {_COLUMNS}",  # noqa: S608  a constant
                account_id,
            )
            account = _account(row)
            await self._trail.record(connection, _change("disabled", account))
        return account

    async def authenticate(self, account_id: str, digest: bytes) -> ServiceAccount | None:
        """The account whose secret this is, if account, secret and tenant are all in order; else None."""
        rows = await self._pool.read(
            f"""
            SELECT {_PREFIXED}
            FROM platform.service_secrets s
            JOIN platform.service_accounts a ON a.tenant_id = s.tenant_id AND a.id = s.account_id
            JOIN platform.tenants t ON t.id = a.tenant_id
            WHERE s.digest = $1 AND a.id = $2 AND a.disabled_at IS NULL AND t.status = 'active'
                AND (s.expires_at IS NULL OR s.expires_at > now())
            """,  # noqa: S608  a constant
            digest,
            account_id,
        )
        return _account(rows[0]) if rows else None


_ADD_SECRET = "INSERT INTO platform.service_secrets (digest, tenant_id, account_id) VALUES ($1, $2, $3)"  # noqa: S105  SQL


def _change(verb: str, account: ServiceAccount) -> Change:
    return Change(
        tenant_id=account.tenant_id,
        action=f"service_account.{verb}",
        target=account.id,
        target_name=account.name,
        after=_facts(account),
    )


def _facts(account: ServiceAccount) -> dict[str, str | list[str]]:
    return {"scopes": sorted(account.scopes), "audiences": sorted(account.audiences)}


def _name_taken(name: str) -> AlreadyExists:
    return AlreadyExists(f"This tenant has a service account {name!r} already.", what="service-account")


async def _locked(connection: Connection, tenant_id: str, account_id: str) -> ServiceAccount:
    """Until the transaction ends. Raises NotFound."""
    rows = []
    if is_id(Kind.SERVICE, account_id):
        rows = await connection.fetch(
            f"SELECT {_COLUMNS} FROM platform.service_accounts WHERE tenant_id = $1 AND id = $2 FOR NO KEY UPDATE",  # noqa: S608  a constant
            tenant_id,
            account_id,
        )
    if not rows:
        raise no_account(account_id)
    return _account(rows[0])


def _account(row: asyncpg.Record) -> ServiceAccount:
    return ServiceAccount(
        **{**row, "scopes": frozenset(row["scopes"]), "audiences": frozenset(row["audiences"])},
    )


if TYPE_CHECKING:
    _promised: type[ports.ServiceAccounts] = PostgresServiceAccounts
