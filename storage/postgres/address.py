"""Where a PostgreSQL is and how to open one connection to it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

from storage.postgres.faults import connecting

if TYPE_CHECKING:  # generic in the stubs only
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection


@dataclass(frozen=True, slots=True)
class Address:
    """A libpq URL (``postgresql://user@host/db?sslmode=…``, ``postgresql:///db?host=/socket/dir``).

    ``pgbouncer``: a PgBouncer in transaction mode stands there, which may give the next statement to another session,
    so that no prepared statement can be kept. Said by ``pgbouncer=true`` in the URL, or by the caller.
    """

    dsn: str
    pgbouncer: bool = False

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Raises ValueError; the message never shows the URL, which may hold a password."""
        scheme = url.partition(":")[0]
        if scheme not in ("postgresql", "postgres"):
            raise ValueError(f"a PostgreSQL address begins with postgresql://, not with {scheme[:20]!r}")
        # Only our own word is taken out. The rest stays as it was written, because it is asyncpg's to read.
        base, _, query = url.partition("?")
        options = query.split("&") if query else []
        ours = [option for option in options if option.partition("=")[0] == "pgbouncer"]
        rest = "&".join(option for option in options if option not in ours)
        for option in ours:
            if option not in ("pgbouncer=true", "pgbouncer=false"):
                raise ValueError(f"{option!r} in the PostgreSQL address: write pgbouncer=true or pgbouncer=false")
        return cls(f"{base}?{rest}" if rest else base, "pgbouncer=true" in ours)

    async def connect(self, *, timeout: float, command_timeout: float | None) -> Connection:
        """Both in seconds; no ``command_timeout``: statements may take as long as they take. Raises Unavailable."""
        with connecting():
            return await asyncpg.connect(
                self.dsn,
                timeout=timeout,
                command_timeout=command_timeout,
                statement_cache_size=0 if self.pgbouncer else 100,
            )
