"""When each API key was used last, from where and with what: noted by the workers, written now and then."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from storage.postgres.pool import Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUse:
    """The last use of a key that somebody has seen."""

    key_id: str
    tenant_id: str
    used_at: datetime
    address: str
    agent: str


class PostgresKeyUses:
    """Keeps the newest use of each key."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def note(self, uses: Sequence[KeyUse]) -> None:
        """Write what is newer than what is known; keys that are gone are left out."""
        async with self._pool.operator() as connection:
            await connection.execute(
                """
                INSERT INTO platform.key_uses AS known (key_id, tenant_id, used_at, address, agent)
                SELECT seen.* FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[])
                    AS seen (key_id, tenant_id, used_at, address, agent)
                JOIN platform.api_keys k ON k.id = seen.key_id AND k.tenant_id = seen.tenant_id
                ON CONFLICT (key_id) DO UPDATE
                    SET used_at = excluded.used_at, address = excluded.address, agent = excluded.agent
                    WHERE known.used_at < excluded.used_at
                """,
                [use.key_id for use in uses],
                [use.tenant_id for use in uses],
                [use.used_at for use in uses],
                [use.address for use in uses],
                [use.agent for use in uses],
            )
