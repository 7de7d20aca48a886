"""Appends to a journal until it is killed. A script: ``appender.py DIRECTORY PREFIX``.

Events are named ``PREFIX_0``, ``PREFIX_1``, …; says the number of each once its append has returned.
"""

import asyncio
import sys
from pathlib import Path

from storage.journal.writer import Journal
from storage.usage_rows import encode
from tests.storage.usage_samples import record

SEGMENT_BYTES = 64 * 1024


async def main(directory: Path, prefix: str) -> None:
    journal = Journal(directory, segment_bytes=SEGMENT_BYTES, flush_s=0.001)
    keeping = asyncio.create_task(journal.keep())  # noqa: TID251  killed with the process
    number = 0
    while not keeping.done():
        for _ in range(20):
            journal.append(encode(record(event_id=f"{prefix}_{number}")))
            sys.stdout.write(f"{number}\n")
            number += 1
        sys.stdout.flush()
        await asyncio.sleep(0)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
