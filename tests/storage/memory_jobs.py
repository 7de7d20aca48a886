"""The JobBook in a dictionary. It passes the same contract as PostgreSQL's."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from policies.jobs import NEVER_TOLD, Job, Ownership, record_of
from policies.usage import UsageRecord
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

    async def settle(self, job: Job, record: UsageRecord) -> bool:
        self._ask(broken=self.fails_to_settle)
        known = self.rows.get(job)
        if known is None or known.settled or known.contested:
            return False
        self.rows[job] = replace(known, settled=True)
        self.accounted.append(record)
        return True

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
