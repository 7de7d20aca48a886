"""The Issuers port: others whose access tokens are taken, as operators make, change and remove them."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import asyncpg

from policies.audit import Change, Facts, changed
from storage.ports import AlreadyExists, NotFound
from storage.postgres import values
from storage.postgres.address import Connection
from storage.postgres.audit import AuditTrail
from storage.postgres.faults import violating
from storage.postgres.pool import Pool
from storage.postgres.tenant_rows import FORMER
from storage.token_ports import StoredIssuer

if TYPE_CHECKING:
    from storage import token_ports as ports

Definition = Mapping[str, Any]
"""See :class:`StoredIssuer`."""

_ISSUER = "name, definition, enabled, created_at"
_ISSUERS = f"SELECT {_ISSUER} FROM platform.issuers"  # noqa: S608  made of this module's own column names


Edit = Callable[[StoredIssuer], tuple[Definition, bool]]
"""The definition, and whether it is enabled, that come in place of those that it is given. It may raise."""


class PostgresIssuers:
    """See :class:`storage.token_ports.Issuers`. All of it is the operator's."""

    def __init__(self, pool: Pool, trail: AuditTrail) -> None:
        self._pool = pool
        self._trail = trail

    async def all(self) -> Sequence[StoredIssuer]:
        """Oldest first."""
        return [_stored(row) for row in await self._pool.read(f"{_ISSUERS} ORDER BY created_at, name")]

    async def issuer(self, name: str) -> StoredIssuer:
        """Raises NotFound."""
        rows = await self._pool.read(f"{_ISSUERS} WHERE name = $1", name)
        if not rows:
            raise _none(name)
        return _stored(rows[0])

    async def create(self, name: str, definition: Definition, *, enabled: bool = True) -> StoredIssuer:
        """Raises AlreadyExists for a name, or an issuer, that is there, and ValueError for a former tenant's slug."""
        values.check_slug(name)
        refusals = {
            "issuers_pkey": AlreadyExists(f"There is an issuer {name} already.", what="issuer"),
            "issuers_issuer_key": _taken(definition),
        }
        async with self._pool.operator() as connection:
            await _check_slugs(connection, _tenants(definition))
            with violating(refusals):
                (row,) = await connection.fetch(
                    f"""
                    INSERT INTO platform.issuers (name, issuer, definition, enabled) VALUES ($1, $2, $3, $4)
                    RETURNING {_ISSUER}
                    """,  # noqa: S608
                    name,
                    definition["issuer"],
                    json.dumps(dict(definition)),
                    enabled,
                )
            made = _stored(row)
            await self._trail.record(connection, _change("issuer.created", made, after=_facts(made)))
        return made

    async def change(self, name: str, edit: Edit) -> StoredIssuer:
        """What ``edit`` makes of it. Raises NotFound, and what creating raises."""
        async with self._pool.operator() as connection:
            rows = await connection.fetch(f"{_ISSUERS} WHERE name = $1 FOR NO KEY UPDATE", name)
            if not rows:
                raise _none(name)
            old = _stored(rows[0])
            definition, enabled = edit(old)
            await _check_slugs(connection, _tenants(definition) - _tenants(old.definition))
            with violating({"issuers_issuer_key": _taken(definition)}):
                (row,) = await connection.fetch(
                    f"""
                    UPDATE platform.issuers SET issuer = $2, definition = $3, enabled = $4 WHERE name = $1
                    RETURNING {_ISSUER}
                    """,  # noqa: S608
                    name,
                    definition["issuer"],
                    json.dumps(dict(definition)),
                    enabled,
                )
            new = _stored(row)
            before, after = changed(_facts(old), _facts(new))
            if after:
                await self._trail.record(connection, _change("issuer.changed", new, before=before, after=after))
        return new

    async def delete(self, name: str, check: Callable[[StoredIssuer], None] = lambda _: None) -> None:
        """``check`` sees it as it was, and may raise. Raises NotFound."""
        async with self._pool.operator() as connection:
            rows = await connection.fetch(f"DELETE FROM platform.issuers WHERE name = $1 RETURNING {_ISSUER}", name)  # noqa: S608
            if not rows:
                raise _none(name)
            gone = _stored(rows[0])
            check(gone)
            await self._trail.record(connection, _change("issuer.deleted", gone, before=_facts(gone)))


def _tenants(definition: Definition) -> set[str]:
    """The slugs and ids that it names."""
    return {definition["tenant"], *(pair.rpartition("=")[2] for pair in definition["tenants"])}


async def _check_slugs(connection: Connection, slugs: set[str]) -> None:
    """Raises ValueError for one by which nobody is found any more."""
    rows = await connection.fetch(FORMER, list(slugs))
    if rows:
        raise ValueError(
            f"{rows[0]['slug']} was the slug of a tenant that is gone: name the tenant that you mean by its id"
        )


def _none(name: str) -> NotFound:
    return NotFound(f"There is no issuer {name!r}.", what="issuer")


def _taken(definition: Definition) -> AlreadyExists:
    return AlreadyExists(f"Tokens of {definition['issuer']} are taken already, under another name.", what="issuer")


def _stored(row: asyncpg.Record) -> StoredIssuer:
    return StoredIssuer(
        name=row["name"],
        definition=json.loads(row["definition"]),
        enabled=row["enabled"],
        created_at=row["created_at"],
    )


def _facts(issuer: StoredIssuer) -> Facts:
    return {**issuer.definition, "enabled": issuer.enabled}


def _change(action: str, issuer: StoredIssuer, *, before: Facts | None = None, after: Facts | None = None) -> Change:
    return Change(tenant_id="", action=action, target=issuer.name, target_name=issuer.name, before=before, after=after)


if TYPE_CHECKING:
    _promised: type[ports.Issuers] = PostgresIssuers
