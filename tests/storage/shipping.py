"""Ships journals until it is killed. A script: ``shipping.py DIRECTORY DATABASE_URL``.

Says so after each batch that it brought to the ledger, and goes on when it is told to, or when nobody can.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from storage.journal.archive import Archive
from storage.postgres.pool import Pool
from storage.postgres.usage.ledger import PostgresLedger
from storage.shipper import Shipper

BATCH_ROWS = 20


class TellingLedger(PostgresLedger):
    """Says when rows are in."""

    async def ship(self, journal_id: str, position: int, end: int, rows: Sequence[bytes]) -> bool:
        """See the port."""
        accepted = await super().ship(journal_id, position, end, rows)
        print("shipped", flush=True)  # noqa: T201  the answer
        sys.stdin.readline()
        return accepted


async def main(directory: Path, url: str) -> None:
    archive = Archive(directory / "archive", keep_days=lambda: 1, limit_bytes=1 << 30)
    ledger = TellingLedger(Pool(url))
    await Shipper(directory, ledger, archive, poll_s=0.001, gather_s=0.0, batch_rows=BATCH_ROWS).run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
