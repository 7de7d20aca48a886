"""Work that is done over and over beside the portal's requests: at once while there is any, else after a pause."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from storage.ports import StorageError

_log = structlog.get_logger("gateway.portal.rounds")

_PAUSE_S = 1.0
_AWAY_S = 2.0


async def repeat(work: Callable[[], Awaitable[int]], what: str, wake: asyncio.Event) -> None:
    """Repeat ``work`` for ever. It gives how much it did; a store that is away is waited for; ``wake`` ends a pause."""
    away = False
    while True:
        wake.clear()
        try:
            done = await work()
        except StorageError as error:
            if not away:
                _log.warning(f"{what} wait for a store", reason=str(error))
            away, done = True, 0
        except Exception:  # noqa: BLE001  a fault of ours in one round must not end the others
            _log.exception(f"a round of {what} failed")
            done = 0
        else:
            away = False
        if not done:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AWAY_S if away else _PAUSE_S):
                    await wake.wait()
