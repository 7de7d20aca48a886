"""Sessions as PostgreSQL lists them: who, where, since when, and whether one was ended before its time."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from policies.audit import Change
from policies.people import Session
from storage.postgres.address import Connection
from storage.postgres.audit import AuditTrail
from storage.postgres.ids import Kind, new_id
from storage.postgres.pool import Pool
from storage.postgres.tokens.families import revoke_in

_SESSION = """
    s.id, s.tenant_id, s.user_id, s.methods, s.address, s.agent, s.created_at, s.seen_at, s.authenticated_at,
    s.expires_at
"""
_NOTED_EVERY = "1 minute"
"""A session that is used is not written to on every request."""
_LIVE = "s.ended_at IS NULL AND s.expires_at > now()"

Also = Callable[[Connection], Awaitable[None]]
"""What happens in the transaction of a log-in, or neither does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSession:
    """A session to be made. ``digest`` is HMAC-SHA-256 of its secret (32 bytes); ``replaces`` another one's.

    ``proved_at``: when the person proved who it is, None for just now. ``continues``: the session that it goes on from,
    where nothing was proved anew: it is no fresher than that one, and ends no later.
    """

    digest: bytes
    tenant_id: str
    user_id: str
    email: str
    methods: tuple[str, ...]
    address: str
    agent: str
    life: timedelta
    proved_at: datetime | None = None
    replaces: bytes | None = None
    continues: Session | None = None


class PostgresSessions:
    """The list. Redis is not asked here."""

    def __init__(self, pool: Pool, trail: AuditTrail) -> None:
        self._pool = pool
        self._trail = trail

    async def begin(self, new: NewSession, also: Also | None = None) -> tuple[Session, str]:
        """The session, with the entry in the tenant's trail; the one that it replaces ends in the same transaction.

        ``also`` is done in it as well; what that raises makes no session.
        Gives the id of the replaced one's person too, empty when there was none.
        """
        async with self._pool.operator() as connection:
            ended = []
            if new.replaces is not None:
                ended = await connection.fetch(
                    """
                    UPDATE platform.sessions SET ended_at = now(), ended_by = 'replaced'
                    WHERE digest = $1 AND ended_at IS NULL RETURNING user_id
                    """,
                    new.replaces,
                )
            (row,) = await connection.fetch(
                f"""
                INSERT INTO platform.sessions AS s
                    (id, digest, tenant_id, user_id, methods, address, agent, expires_at, authenticated_at)
                VALUES ($1, $2, $3, $4, $5, $6, $7, least(now() + $8, $9), least($10, now()))
                RETURNING {_SESSION}
                """,  # noqa: S608
                new_id(Kind.SESSION),
                new.digest,
                new.tenant_id,
                new.user_id,
                list(new.methods),
                new.address,
                new.agent,
                new.life,
                new.continues.expires_at if new.continues else None,
                new.continues.authenticated_at if new.continues else new.proved_at,
            )
            await connection.execute("UPDATE platform.users SET last_login_at = now() WHERE id = $1", new.user_id)
            await self._trail.record(
                connection,
                Change(
                    tenant_id=new.tenant_id,
                    action="session.started",
                    target=row["id"],
                    target_name=new.email,
                    after={"methods": list(new.methods)},
                ),
            )
            if also is not None:  # last: tenants' trails before the platform's own, as where log-ins end
                await also(connection)
        return _session(row), ended[0]["user_id"] if ended else ""

    async def live(self, digest: bytes) -> Session | None:
        """The session, unless it has ended, or its person or tenant may not be served, or has another password since.

        Who sets a password ends the sessions as well, but may be killed in between.
        """
        rows = await self._pool.read(
            f"""
            SELECT {_SESSION}, s.seen_at < now() - interval '{_NOTED_EVERY}' AS seen_long_ago FROM platform.sessions s
            JOIN platform.users u ON u.id = s.user_id JOIN platform.tenants t ON t.id = s.tenant_id
            WHERE s.digest = $1 AND {_LIVE} AND u.status = 'active' AND t.status = 'active'
                AND (u.password_changed_at IS NULL OR u.password_changed_at <= s.created_at)
            """,  # noqa: S608
            digest,
        )
        if rows and rows[0]["seen_long_ago"]:
            await self.seen(rows[0]["id"])
        return _session(rows[0]) if rows else None

    async def of(self, user_id: str) -> Sequence[Session]:
        """A person's live sessions in every tenant, the one used last first."""
        rows = await self._pool.read(
            f"""
            SELECT {_SESSION} FROM platform.sessions s WHERE s.user_id = $1 AND {_LIVE} ORDER BY s.seen_at DESC, s.id
            """,  # noqa: S608
            user_id,
        )
        return [_session(row) for row in rows]

    async def history(self, user_id: str, limit: int) -> Sequence[tuple[Session, datetime | None]]:
        """The latest log-ins, live or not, with their end."""
        rows = await self._pool.read(
            f"""
            SELECT {_SESSION}, s.ended_at FROM platform.sessions s WHERE s.user_id = $1
            ORDER BY s.created_at DESC, s.id DESC LIMIT $2
            """,  # noqa: S608
            user_id,
            limit,
        )
        return [(_session(row), row["ended_at"]) for row in rows]

    async def seen(self, session_id: str) -> None:
        """Note that it was used."""
        async with self._pool.operator() as connection:
            await connection.execute("UPDATE platform.sessions SET seen_at = now() WHERE id = $1", session_id)

    async def authenticated(self, session_id: str) -> None:
        """Note that the password was given again."""
        async with self._pool.operator() as connection:
            await connection.execute(
                "UPDATE platform.sessions SET authenticated_at = now(), seen_at = now() WHERE id = $1", session_id
            )

    async def end(self, user_id: str, why: str, *, only: str | None = None, but: str | None = None) -> Sequence[bytes]:
        """End a person's sessions: all, ``only`` one, or all ``but`` one, by id. Gives their digests.

        The tokens that were made for them, with their id as family, are void with it.
        """
        async with self._pool.operator() as connection:
            return await end_sessions_in(connection, self._trail, user_id, why, only=only, but=but)


async def end_sessions_in(
    connection: Connection,
    trail: AuditTrail,
    user_id: str,
    why: str,
    *,
    only: str | None = None,
    but: str | None = None,
) -> Sequence[bytes]:
    """:meth:`PostgresSessions.end` in a transaction of the operator's that is open already."""
    rows = await connection.fetch(
        """
        UPDATE platform.sessions s SET ended_at = now(), ended_by = $2 FROM platform.users u
        WHERE s.user_id = $1 AND s.ended_at IS NULL AND u.id = s.user_id
            AND ($3::text IS NULL OR s.id = $3) AND ($4::text IS NULL OR s.id <> $4)
        RETURNING s.id, s.digest, s.tenant_id, u.email
        """,
        user_id,
        why,
        only,
        but,
    )
    for row in rows:
        await revoke_in(connection, f"family:{row['id']}")
        await trail.record(
            connection,
            Change(
                tenant_id=row["tenant_id"],
                action="session.ended",
                target=row["id"],
                target_name=row["email"],
                after={"why": why},
            ),
        )
    return [row["digest"] for row in rows]


def _session(row: asyncpg.Record) -> Session:
    return Session(
        id=row["id"],
        tenant_id=row["tenant_id"],
        user_id=row["user_id"],
        methods=tuple(row["methods"]),
        address=row["address"],
        agent=row["agent"],
        created_at=row["created_at"],
        seen_at=row["seen_at"],
        authenticated_at=row["authenticated_at"],
        expires_at=row["expires_at"],
    )
