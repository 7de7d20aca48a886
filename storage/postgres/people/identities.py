"""Accounts at other providers and whose they are here; people who come by one for the first time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from policies.audit import Change, Facts
from policies.federation import Asserted
from storage.ports import AlreadyExists, NotFound
from storage.postgres import values
from storage.postgres.address import Connection
from storage.postgres.audit import AuditTrail
from storage.postgres.people.newcomers import NewPerson, add_person, tell_of_person
from storage.postgres.pool import Pool
from storage.postgres.tenant_rows import MEANT


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """An account elsewhere that is connected to somebody here."""

    issuer: str
    subject: str
    provider: str
    email: str
    created_at: datetime
    last_used_at: datetime | None


class PostgresIdentities:
    """In the operator's scope, like people themselves. ``trail`` is by whoever does it."""

    def __init__(self, pool: Pool, trail: AuditTrail) -> None:
        self._pool = pool
        self._trail = trail

    async def owner(self, issuer: str, subject: str) -> str | None:
        """The person's id; None for an account that is connected to nobody."""
        rows = await self._pool.read(
            "SELECT user_id FROM platform.identities WHERE issuer = $1 AND subject = $2", issuer, subject
        )
        return str(rows[0]["user_id"]) if rows else None

    async def of(self, user_id: str) -> Sequence[Identity]:
        """A person's, oldest first."""
        rows = await self._pool.read(
            """
            SELECT issuer, subject, provider, email, created_at, last_used_at FROM platform.identities
            WHERE user_id = $1 ORDER BY created_at
            """,
            user_id,
        )
        return [Identity(**row) for row in rows]

    async def link(self, user_id: str, email: str, provider: str, asserted: Asserted) -> None:
        """Connect. ``email`` is the person's own, for the trail. Raises AlreadyExists: it is somebody else's."""
        async with self._pool.operator() as connection:
            await _insert(connection, user_id, provider, asserted)
            await self._record(connection, "identity.linked", user_id, email, _facts(provider, asserted))

    async def link_in(
        self, connection: Connection, user_id: str, provider: str, asserted: Asserted, *, joins: bool
    ) -> None:
        """Connect who has consented, in the transaction of that log-in; ``joins`` as :meth:`join`.

        Raises AlreadyExists: it is somebody else's; NotFound: the person has not that address any more, or as `join`.
        """
        rows = await connection.fetch(
            """
            SELECT email FROM platform.users WHERE id = $1 AND lower(email) = $2 AND status = 'active'
            FOR NO KEY UPDATE
            """,
            user_id,
            asserted.email,
        )
        if not rows:
            raise NotFound("This address is not the account's any more.")
        await _insert(connection, user_id, provider, asserted)
        if joins:
            await self._join(connection, user_id, rows[0]["email"], asserted)
        await self._record(connection, "identity.linked", user_id, rows[0]["email"], _facts(provider, asserted))

    async def unlink(self, user_id: str, email: str, issuer: str, subject: str) -> bool:
        """Disconnect; False when it was not connected."""
        async with self._pool.operator() as connection:
            rows = await connection.fetch(
                """
                DELETE FROM platform.identities WHERE user_id = $1 AND issuer = $2 AND subject = $3 RETURNING provider
                """,
                user_id,
                issuer,
                subject,
            )
            if rows:
                facts = {"provider": rows[0]["provider"], "subject": subject}
                await self._record(connection, "identity.unlinked", user_id, email, facts)
        return bool(rows)

    async def make(self, provider: str, asserted: Asserted) -> str:
        """A new person with a place in the tenant; the id. Raises AlreadyExists, NotFound, ValueError."""
        email = values.clean_email(asserted.email)
        async with self._pool.operator() as connection:
            new = NewPerson(email=email, name=name_of(asserted))
            user_id = await add_person(connection, new)
            if user_id is None:  # somebody else was faster, or an address of somebody who was shut out
                raise AlreadyExists("Another account has this address already.")
            await _insert(connection, user_id, provider, asserted)
            await self._join(connection, user_id, email, asserted)
            await tell_of_person(connection, self._trail, user_id, _facts(provider, asserted))
        return user_id

    async def join(self, user_id: str, email: str, asserted: Asserted) -> None:
        """Give a known person the place that the provider tells of; one that it has is left as it is."""
        async with self._pool.operator() as connection:
            await self._join(connection, user_id, email, asserted)

    async def used(self, issuer: str, subject: str) -> None:
        """Note that somebody signed in with it."""
        async with self._pool.operator() as connection:
            await connection.execute(
                "UPDATE platform.identities SET last_used_at = now() WHERE issuer = $1 AND subject = $2",
                issuer,
                subject,
            )

    async def _join(self, connection: Connection, user_id: str, email: str, asserted: Asserted) -> None:
        tenants = await connection.fetch(f"SELECT t.id FROM platform.tenants t WHERE {MEANT}", asserted.tenant)  # noqa: S608  a constant
        if not tenants:
            raise NotFound("The tenant that the provider's people belong to does not exist.")
        tenant_id = tenants[0]["id"]
        joined = await connection.execute(
            """
            INSERT INTO platform.memberships (tenant_id, user_id, role) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
            """,
            tenant_id,
            user_id,
            asserted.role.value,
        )
        if joined == "INSERT 0 1":
            facts: Facts = {"role": asserted.role, "by": asserted.issuer}
            await self._trail.record(
                connection,
                Change(tenant_id=tenant_id, action="member.joined", target=user_id, target_name=email, after=facts),
            )

    async def _record(self, connection: Connection, action: str, user_id: str, email: str, facts: Facts) -> None:
        change = Change(tenant_id="", action=action, target=user_id, target_name=email, after=facts)
        await self._trail.record(connection, change)


async def _insert(connection: Connection, user_id: str, provider: str, asserted: Asserted) -> None:
    rows = await connection.fetch(
        """
        INSERT INTO platform.identities (issuer, subject, user_id, provider, email) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT ON CONSTRAINT identities_pkey DO UPDATE SET email = excluded.email
        WHERE platform.identities.user_id = excluded.user_id RETURNING user_id
        """,
        asserted.issuer,
        asserted.subject,
        user_id,
        provider,
        asserted.email,
    )
    if not rows:
        raise AlreadyExists("That account of the provider is connected to somebody else.")


def _facts(provider: str, asserted: Asserted) -> Facts:
    return {"provider": provider, "subject": asserted.subject, "email": asserted.email}


def name_of(asserted: Asserted) -> str:
    """What somebody new is called."""
    try:
        return values.clean_name(asserted.name, of="a person")
    except ValueError:
        return asserted.email.partition("@")[0][:200]
