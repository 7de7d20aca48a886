"""When the account's daily care is due, and that trouble with one part does not keep the other from being done."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone

import pytest

from gateway.usage.nightly import Nightly, last_due
from storage.ports import Difference, Unavailable, UsageTotals
from storage.postgres.usage.care import Reconciled


@pytest.mark.parametrize(
    ("now", "due"),
    [
        (datetime(2026, 11, 26, 3, 0, tzinfo=UTC), datetime(2026, 11, 26, 3, tzinfo=UTC)),
        (datetime(2026, 11, 26, 2, 59, 59, tzinfo=UTC), datetime(2026, 11, 25, 3, tzinfo=UTC)),
        (datetime(2026, 3, 1, 0, 0, tzinfo=UTC), datetime(2026, 2, 28, 3, tzinfo=UTC)),
        (datetime(2026, 11, 26, 4, 0, tzinfo=timezone(timedelta(hours=5))), datetime(2026, 11, 25, 3, tzinfo=UTC)),
    ],
)
def test_it_is_due_at_three_in_the_morning_of_utc(now: datetime, due: datetime) -> None:
    assert last_due(now) == due


class Care:
    """Stands for storage.postgres.usage.care.UsageCare; its own promises are tested with PostgreSQL."""

    def __init__(self, *, locked: bool = False) -> None:
        self.now = datetime(2026, 11, 26, 12, tzinfo=UTC)
        self.done: list[str] = []
        self.last: Reconciled | None = None
        self.locked = locked
        self.server = datetime.max.replace(tzinfo=UTC)

    async def clock(self) -> datetime:
        return self.server

    async def reconciled(self) -> Reconciled | None:
        return self.last

    async def reconcile(self, due: datetime) -> list[object]:
        self.done.append(f"compared, due {due:%d %H}")
        self.last = Reconciled(at=self.now, differences=0)
        return []

    async def remove_raw(self, before: datetime) -> int:
        if self.locked:
            raise Unavailable("somebody reads it")
        self.done.append(f"removed before {before:%m-%d}")
        return 1


async def nothing() -> AsyncIterator[Difference]:
    for difference in ():
        yield difference


async def test_it_is_done_once_a_day_and_its_result_is_known_afterwards() -> None:
    care = Care()
    nightly = Nightly(care, nothing, keep_days=lambda: 62)
    assert nightly.reconciled is None
    await nightly.look(care.now)
    assert nightly.reconciled == care.last
    await nightly.look(care.now + timedelta(hours=14))
    assert care.done == ["removed before 09-25", "compared, due 26 03"]
    care.now += timedelta(hours=15)
    await nightly.look(care.now)
    assert care.done[2:] == ["removed before 09-26", "compared, due 27 03"]


async def test_without_a_retention_nothing_is_removed() -> None:
    care = Care()
    await Nightly(care, nothing, keep_days=lambda: 0).look(care.now)
    assert care.done == ["compared, due 26 03"]


@pytest.mark.parametrize("ahead", [timedelta(days=300), timedelta(days=-300)])
async def test_a_clock_that_is_wrong_removes_nothing_that_the_other_has_not_for_too_old(ahead: timedelta) -> None:
    """A gateway that starts in another year must not take everybody's records; nor a server that does."""
    care = Care()
    care.server = care.now + min(ahead, timedelta())
    await Nightly(care, nothing, keep_days=lambda: 62).look(care.now + max(ahead, timedelta()))
    assert care.done[0] == f"removed before {care.server - timedelta(days=62):%m-%d}"


async def test_records_that_cannot_be_removed_now_do_not_keep_the_books_from_being_compared() -> None:
    care = Care(locked=True)
    await Nightly(care, nothing, keep_days=lambda: 62).look(care.now)
    assert care.done == ["compared, due 26 03"]


async def test_what_another_replica_found_is_shown_here_too() -> None:
    care = Care()
    care.last = Reconciled(at=care.now, differences=3)
    nightly = Nightly(care, nothing, keep_days=lambda: 62)
    await nightly.look(care.now)
    assert nightly.reconciled == care.last
    assert care.done == []


async def test_the_archive_of_this_machine_is_compared_by_its_own_replica_once_a_day() -> None:
    """Also when another one has compared the books; and its result is shown until the next day's."""
    care = Care()
    care.last = Reconciled(at=care.now, differences=0)
    looks = []

    async def compare() -> AsyncIterator[Difference]:
        looks.append(1)
        yield Difference(where="record event_id='j-1'", expected=UsageTotals(requests=1), found=UsageTotals())

    nightly = Nightly(care, compare, keep_days=lambda: 0)
    assert nightly.comparisons["archive"] == (0.0, 0)
    await nightly.look(care.now)
    await nightly.look(care.now + timedelta(hours=14))
    assert nightly.comparisons == {"sums": (care.now.timestamp(), 0), "archive": (care.now.timestamp(), 1)}
    assert len(looks) == 1
    await nightly.look(care.now + timedelta(hours=15))
    assert len(looks) == 2
