"""What limits tell beside their answers: that an allowance is nearly used up, and that it is."""

from dataclasses import dataclass
from typing import Protocol

import structlog

from gateway.telemetry.metrics import Metrics
from policies.allowances import Allowance

_log = structlog.get_logger("gateway.limits")


@dataclass(frozen=True, slots=True)
class LimitReached:
    """``event_id`` is the same from every process that notices, so that a receiver can drop the repetitions.

    ``per_cent`` is 80 or 100; ``ends_ms`` is the instant at which the period ends and the allowance is whole again.
    """

    event_id: str
    tenant_id: str
    allowance: Allowance
    per_cent: int
    ends_ms: int


class Events(Protocol):
    """Where they go. Never waits and never fails."""

    def limit_reached(self, reached: LimitReached) -> None:
        """Called once per process, counter and threshold."""


class LoggedEvents:
    """A log line and a metric each."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def limit_reached(self, reached: LimitReached) -> None:
        """See :class:`Events`."""
        self._metrics.limit_events[(reached.allowance.name, str(reached.per_cent))] += 1
        _log.warning(
            "limit reached",
            limit=reached.allowance.name,
            allowance=str(reached.allowance),
            per_cent=reached.per_cent,
            tenant_id=reached.tenant_id,
            ends_ms=reached.ends_ms,
            event_id=reached.event_id,
        )
