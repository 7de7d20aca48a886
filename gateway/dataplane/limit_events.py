"""What limits tell beside their answers: that an allowance is nearly used up, and that it is."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog

from gateway.tasks import Tasks
from gateway.telemetry.metrics import Metrics
from policies.limits.allowances import Allowance
from storage.ports import Unavailable

_log = structlog.get_logger("gateway.limits")


@dataclass(frozen=True, slots=True)
class LimitReached:
    """``event_id`` is the same from every process that notices, so that a receiver can drop the repetitions.

    ``holder`` is the id of the key, the user or the tenant whose allowance it is. ``per_cent`` is 80 or 100;
    ``ends_ms`` is the instant at which the period ends and the allowance is whole again.
    """

    event_id: str
    tenant_id: str
    holder: str
    allowance: Allowance
    per_cent: int
    ends_ms: int


class Events(Protocol):
    """Where they go. Never waits and never fails."""

    def limit_reached(self, reached: LimitReached) -> None:
        """Called once per process, counter and threshold."""


class Outbox(Protocol):
    """Where events wait until they have reached everybody."""

    async def tell(self, event_id: str, tenant_id: str, subject: str, data: Mapping[str, str | int | None]) -> None:
        """Once for each id. Raises Unavailable."""


_RETRIES_S = (1.0, 10.0, 60.0, 300.0)


class LimitEvents:
    """A log line, a metric, and an event in the outbox each."""

    def __init__(self, metrics: Metrics, outbox: Outbox, tasks: Tasks) -> None:
        self._metrics = metrics
        self._outbox = outbox
        self._tasks = tasks

    def limit_reached(self, reached: LimitReached) -> None:
        """See :class:`Events`."""
        self._metrics.limit_events[(reached.allowance.name, str(reached.per_cent))] += 1
        _log.warning("limit reached", tenant_id=reached.tenant_id, event_id=reached.event_id, **_data(reached))
        self._tasks.start(self._tell(reached), "limit events")

    async def _tell(self, reached: LimitReached) -> None:
        for wait_s in (*_RETRIES_S, None):
            try:
                await self._outbox.tell(reached.event_id, reached.tenant_id, reached.holder, _data(reached))
            except Unavailable as error:
                if wait_s is None:
                    _log.error("an event is lost", event_id=reached.event_id, reason=str(error))
                    return
                await asyncio.sleep(wait_s)
            else:
                return


def _data(reached: LimitReached) -> dict[str, str | int | None]:
    allowance = reached.allowance
    return {
        "limit": allowance.name,
        "allowance": str(allowance),
        "per_cent": reached.per_cent,
        "route": allowance.route or None,
        "holder": reached.holder,
        "period_ends_at": datetime.fromtimestamp(reached.ends_ms / 1000, UTC).isoformat(),
    }
