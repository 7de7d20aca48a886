"""The JobBook in a dictionary. It passes the same contract as PostgreSQL's."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from policies.account.usage import UsageRecord
from policies.corrections import Lowered, correction_of
from policies.jobs import NEVER_TOLD, Job, Ownership, name_of, record_of
from storage.ports import Unavailable

if TYPE_CHECKING:
    from storage import ports


class MemoryJobs:
    """``down`` makes it unreachable, ``fails_to_bind`` only for new jobs; ``asked`` counts look-ups."""

    def __init__(self) -> None:
        self.rows: dict[Job, Ownership] = {}
        self.accounted: list[UsageRecord] = []
        self.down = False
        self.fails_to_bind = False
        self.fails_to_settle = False
        self.asked = 0
        self.late: set[Job] = set()
        """Those that have a tenth of their time left."""
        self.shipped: Sequence[UsageRecord] = ()
        """Records of requests that the account has."""
        self.noted: dict[Job, Lowered] = {}
        """What was found to come to less, and is not booked yet."""
        self.over: set[Job] = set()
        """Those whose time is over."""

    async def ping(self) -> None:
        self._ask()

    async def owner(self, job: Job) -> Ownership | None:
        self._ask()
        self.asked += 1
        return self.rows.get(job)

    async def bind(self, job: Job, ownership: Ownership, days: int) -> Ownership:
        self._ask(broken=self.fails_to_bind)
        assert days > 0
        known = self.rows.setdefault(job, ownership)
        if known.tenant_id != ownership.tenant_id:
            known = self.rows[job] = replace(known, contested=True)
        return known

    async def settle(self, job: Job, record: UsageRecord | None) -> bool:
        self._ask(broken=self.fails_to_settle)
        known = self.rows.get(job)
        if known is None or known.settled or known.contested:
            return False
        self.rows[job] = replace(known, settled=True)
        if record is not None:
            self.accounted.append(record)
        return True

    async def lower(self, job: Job, lowered: Lowered) -> UsageRecord | None:
        self._ask(broken=self.fails_to_settle)
        known = self.rows.get(job)
        if known is None or known.settled or known.contested:
            return None
        self.rows[job] = replace(known, settled=True)
        self.noted[job] = lowered
        return self._lower(job)

    async def lower_noted(self) -> Sequence[tuple[Job, Ownership, UsageRecord]]:
        self._ask()
        booked = [(job, self.rows[job], self._lower(job)) for job in list(self.noted)]
        return [(job, ownership, record) for job, ownership, record in booked if record is not None]

    def _lower(self, job: Job) -> UsageRecord | None:
        first = next((record for record in self.shipped if record.measured.job == name_of(job)), None)
        if first is None:
            return None
        record = correction_of(job, self.rows[job], first, self.noted.pop(job), first.ended_ms + 1)
        if record is not None:
            self.accounted.append(record)
        return record

    async def unheard(self) -> Sequence[tuple[Job, Ownership]]:
        self._ask()
        found, self.late = [job for job in self.late if not self.rows[job].settled], set()
        return [(job, self.rows[job]) for job in found]

    async def close_overdue(self) -> Sequence[tuple[Job, Ownership]]:
        self._ask()
        waiting = [(job, self.rows[job]) for job in self.over if self.rows[job].pending and not self.rows[job].settled]
        for job, ownership in waiting:
            self.rows[job] = replace(ownership, settled=True)
            self.accounted.append(record_of(job, ownership, NEVER_TOLD, "", 0))
        return waiting

    def _ask(self, *, broken: bool = False) -> None:
        if self.down or broken:
            raise Unavailable("the book of jobs is down")


if TYPE_CHECKING:
    _promised: type[ports.JobBook] = MemoryJobs
