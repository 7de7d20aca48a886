"""What is done for the account once a day: raw records that are too old leave, the books and the archives are compared.

Every replica looks every minute whether it is due. The books are compared by one of them, and all show the result; the
archive of shipped journals lies on this machine, and is compared by whoever runs here.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import structlog

from storage.ports import Difference, StorageError
from storage.postgres.usage.care import Reconciled, UsageCare

_log = structlog.get_logger("gateway.nightly")

_HOUR = 3
"""The hour of UTC at which it becomes due. Not midnight: the day's last records are still on their way."""
_LOOK_S = 60.0
_SHOWN = 10


def last_due(now: datetime) -> datetime:
    """The last time it became due."""
    due = now.astimezone(UTC).replace(hour=_HOUR, minute=0, second=0, microsecond=0)
    return due if due <= now else due - timedelta(days=1)


class Nightly:
    """``compare`` tells what the archive has otherwise; ``keep_days`` how long raw records are kept, 0 for ever."""

    def __init__(
        self, care: UsageCare, compare: Callable[[], AsyncIterator[Difference]], *, keep_days: Callable[[], int]
    ) -> None:
        self._care = care
        self._compare = compare
        self._keep_days = keep_days
        self._silent = False
        self.reconciled: Reconciled | None = None
        """The last comparison of the books that came to its end; None before it is known."""
        self.archive_compared: Reconciled | None = None
        """The last comparison with the archive, by this process."""

    @property
    def comparisons(self) -> Mapping[str, tuple[float, int]]:
        """When the account was last compared, in seconds since the Unix epoch or 0, and what differed; by with what."""
        done = {"sums": self.reconciled, "archive": self.archive_compared}
        return {name: (one.at.timestamp(), one.differences) if one else (0.0, 0) for name, one in done.items()}

    async def run(self) -> None:
        """Look again and again, for ever. A PostgreSQL that is away is asked again at the next look."""
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
        # One clock that is wrong, here or there, must not take records for too old: they cannot be had again.
        now = min(now, await self._care.clock())
        due = last_due(now)
        await self._look_at_books(now, due)
        if self.archive_compared is None or self.archive_compared.at < due:
            await self._compare_archive(now)

    async def _compare_archive(self, now: datetime) -> None:
        count, where = 0, []
        async for difference in self._compare():  # there may be more of them than memory has room for
            count += 1
            if count <= _SHOWN:
                where.append(difference.where)
        _tell("the account and the journals of this machine", count, where)
        self.archive_compared = Reconciled(at=now, differences=count)

    async def _look_at_books(self, now: datetime, due: datetime) -> None:
        self.reconciled = await self._care.reconciled()
        if self.reconciled is not None and self.reconciled.at >= due:
            return
        if keep_days := self._keep_days():
            # Read by no book, but by whoever exports them: it may have to wait, and must not hold up the comparison.
            await self._remove(now - timedelta(days=keep_days))
        found = await self._care.reconcile(due)
        if found is not None:
            _tell("the books", len(found), [difference.where for difference in found[:_SHOWN]])
            self.reconciled = await self._care.reconciled()

    async def _remove(self, before: datetime) -> None:
        try:
            removed = await self._care.remove_raw(before)
        except StorageError as error:
            _log.warning("old usage records could not be removed; tried again tomorrow", reason=str(error))
            return
        if removed:
            _log.info("old usage records were removed", days=removed, before=before.date().isoformat())


def _tell(books: str, differences: int, where: Sequence[str]) -> None:
    if differences:
        _log.error(f"{books} differ: see gateway usage reconcile", differences=differences, where=where)
    else:
        _log.info(f"{books} agree")
