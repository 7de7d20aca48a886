"""A process that owns a state directory with embedded servers. A script: ``owner.py STATE``.

Says where they are in one line of JSON, or why there are none; ends in good order when its standard input does.
"""

import asyncio
import dataclasses
import json
import sys
from pathlib import Path

from storage.embedded import EmbeddedServers
from storage.ports import StorageError


@dataclasses.dataclass(frozen=True, slots=True)
class Said:
    """What the owner says about itself."""

    database_url: str = ""
    redis_url: str = ""
    postgres: int = 0
    valkey: int = 0
    error: str = ""


async def main(state: Path) -> None:
    try:
        servers = await EmbeddedServers.start(state)
    except StorageError as error:
        say(Said(error=f"{type(error).__name__}: {error}"))
        return
    say(Said(servers.database_url, servers.redis_url, servers.postgres_pid or 0, servers.valkey_pid or 0))
    await asyncio.to_thread(sys.stdin.read)
    await servers.stop()


def say(said: Said) -> None:
    print(json.dumps(dataclasses.asdict(said)), flush=True)  # noqa: T201  the answer


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
