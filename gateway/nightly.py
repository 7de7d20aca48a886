"""What is done for the account once a day, by one replica: raw records that are too old leave, the books are compared.

Every replica looks every minute whether it is due, and shows the result in its metrics, whoever found it.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import structlog

from storage.ports import Difference, StorageError
from storage.postgres.usage_care import Reconciled, UsageCare

_log = structlog.get_logger("gateway.nightly")

_HOUR = 3
"""Of UTC, when it becomes due. Not at midnight: the day's last records are still on their way."""
_LOOK_S = 60.0
_SHOWN = 10


def last_due(now: datetime) -> datetime:
    """The last time it became due."""
    due = now.astimezone(UTC).replace(hour=_HOUR, minute=0, second=0, microsecond=0)
    return due if due <= now else due - timedelta(days=1)


class Nightly:
    """``keep_days`` tells how long raw records are kept; 0 for ever."""

    def __init__(self, care: UsageCare, *, keep_days: Callable[[], int]) -> None:
        self._care = care
        self._keep_days = keep_days
        self._silent = False
        self.reconciled: Reconciled | None = None
        """The last comparison that came to its end; None before it is known."""

    async def run(self) -> None:
        """For ever. A PostgreSQL that is away is asked again at the next look."""
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await self.look(datetime.now(UTC))
                self._silent = False
            except StorageError as error:
                if not self._silent:
                    _log.warning("the account's daily care could not be done; tried again soon", reason=str(error))
                self._silent = True

    async def look(self, now: datetime) -> None:
        """Do what is due, unless another replica has done it or does it now. Raises StorageError."""
        due = last_due(now)
        self.reconciled = await self._care.reconciled()
        if self.reconciled is not None and self.reconciled.at >= due:
            return
        if keep_days := self._keep_days():
            # Read by no book, but by whoever exports them: it may have to wait, and must not hold up the comparison.
            await self._remove(now - timedelta(days=keep_days))
        found = await self._care.reconcile(due)
        if found is not None:
            _tell(found)
            self.reconciled = await self._care.reconciled()

    async def _remove(self, before: datetime) -> None:
        try:
            removed = await self._care.remove_raw(before)
        except StorageError as error:
            _log.warning("old usage records could not be removed; tried again tomorrow", reason=str(error))
            return
        if removed:
            _log.info("old usage records were removed", days=removed, before=before.date().isoformat())


def _tell(found: Sequence[Difference]) -> None:
    if not found:
        _log.info("the books agree")
        return
    where = [difference.where for difference in found[:_SHOWN]]
    _log.error("the books differ: see gateway usage reconcile", differences=len(found), where=where)
