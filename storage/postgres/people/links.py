"""Links that were mailed to a person and work once. A digest is HMAC-SHA-256 of the secret in the link (32 bytes)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from policies.people import EMAIL_CHANGE_S, RESET_S
from storage.postgres.address import Connection
from storage.postgres.people.accounts import PostgresPeople
from storage.postgres.pool import Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What a link is for: whose, and of a change of address which, and to what."""

    user_id: str
    purpose: str
    pair: str | None
    email: str | None


class PostgresLinks:
    """Makes, reads and uses them. Reading uses nothing up: mail scanners follow links."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def make_reset(self, user_id: str, digest: bytes, life_s: int = RESET_S) -> None:
        """A link for a new password, or the first one, in place of any that is out."""
        async with self._pool.operator() as connection:
            await _void(connection, user_id, ("reset",))
            await _insert(connection, digest, "reset", user_id, life_s)

    async def make_email_change(self, user_id: str, email: str, pair: str, old: bytes, new: bytes) -> None:
        """The two halves of a change of address, in place of any that are out."""
        async with self._pool.operator() as connection:
            await _void(connection, user_id, ("email_old", "email_new"))
            await _insert(connection, old, "email_old", user_id, EMAIL_CHANGE_S, pair, email)
            await _insert(connection, new, "email_new", user_id, EMAIL_CHANGE_S, pair, email)

    async def read(self, digest: bytes, *purposes: str) -> Link | None:
        """What it is for, if it works."""
        rows = await self._pool.read(
            """
            SELECT l.user_id, l.purpose, l.pair, l.email FROM platform.one_time_links l
            JOIN platform.users u ON u.id = l.user_id
            WHERE l.digest = $1 AND l.purpose = ANY($2) AND l.used_at IS NULL AND l.expires_at > now()
                AND u.status = 'active'
            """,
            digest,
            list(purposes),
        )
        return Link(**rows[0]) if rows else None

    @asynccontextmanager
    async def using(self, digest: bytes, *purposes: str) -> AsyncIterator[tuple[Link | None, Connection]]:
        """Use it up with what the block does, or not at all. Of two at once one finds None."""
        async with self._pool.operator() as connection:
            yield await _use(connection, digest, *purposes), connection

    async def confirm_email(self, digest: bytes, people: PostgresPeople) -> tuple[Link | None, str | None]:
        """Use one half; with the second one the address changes. Gives the half, and the old address when it changed.

        Raises AlreadyExists when somebody else has the address by now.
        """
        async with self._pool.operator() as connection:
            # Both halves are locked before one is used, always in one order: two at once wait, and neither for ever.
            await connection.fetch(
                """
                SELECT FROM platform.one_time_links
                WHERE pair = (SELECT pair FROM platform.one_time_links WHERE digest = $1) ORDER BY digest FOR UPDATE
                """,
                digest,
            )
            link = await _use(connection, digest, "email_old", "email_new")
            if link is None or link.email is None:
                return None, None
            open_ones = await connection.fetch(
                "SELECT FROM platform.one_time_links WHERE pair = $1 AND used_at IS NULL", link.pair
            )
            return link, None if open_ones else await people.set_email(connection, link.user_id, link.email)


async def _use(connection: Connection, digest: bytes, *purposes: str) -> Link | None:
    rows = await connection.fetch(
        """
        UPDATE platform.one_time_links l SET used_at = clock_timestamp() FROM platform.users u
        WHERE l.digest = $1 AND l.purpose = ANY($2) AND l.used_at IS NULL AND l.expires_at > clock_timestamp()
            AND u.id = l.user_id AND u.status = 'active'
        RETURNING l.user_id, l.purpose, l.pair, l.email
        """,
        digest,
        list(purposes),
    )
    return Link(**rows[0]) if rows else None


async def _void(connection: Connection, user_id: str, purposes: tuple[str, ...]) -> None:
    await connection.execute(
        "DELETE FROM platform.one_time_links WHERE user_id = $1 AND purpose = ANY($2)", user_id, list(purposes)
    )


async def _insert(
    connection: Connection,
    digest: bytes,
    purpose: str,
    user_id: str,
    life_s: int,
    pair: str | None = None,
    email: str | None = None,
) -> None:
    await connection.execute(
        """
        INSERT INTO platform.one_time_links (digest, purpose, user_id, pair, email, expires_at)
        VALUES ($1, $2, $3, $4, $5, now() + $6)
        """,
        digest,
        purpose,
        user_id,
        pair,
        email,
        timedelta(seconds=life_s),
    )
