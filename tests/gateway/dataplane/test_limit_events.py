"""That an allowance is nearly used up: logged, counted, and told as soon as the outbox can be reached."""

import asyncio
from collections.abc import Mapping

import pytest

from gateway.dataplane import limit_events
from gateway.dataplane.limit_events import LimitEvents, LimitReached
from gateway.tasks import Tasks
from gateway.telemetry.metrics import Metrics
from policies.limits.allowances import Allowance, Scope, What
from storage.ports import Unavailable
from tests.storage.waiting import until

MONTH = Allowance(what=What.AUDIO, count=360_000_000, calendar="month", scope=Scope.KEY, route="deepgram.listen")
REACHED = LimitReached("evt_1", "ten_a", "key_a", MONTH, 80, 1_796_083_200_000)


class Outbox:
    """Away for so many calls."""

    def __init__(self, away: int) -> None:
        self.away = away
        self.told: list[tuple[str, str, str, dict[str, object]]] = []

    async def tell(self, event_id: str, tenant_id: str, subject: str, data: Mapping[str, object]) -> None:
        if self.away:
            self.away -= 1
            raise Unavailable("PostgreSQL is down")
        self.told.append((event_id, tenant_id, subject, dict(data)))


@pytest.mark.parametrize("away", [0, 3])
async def test_it_is_told_when_the_outbox_can_be_reached(monkeypatch: pytest.MonkeyPatch, away: int) -> None:
    monkeypatch.setattr(limit_events, "_RETRIES_S", (0.0,) * 4)
    metrics, outbox, tasks = Metrics(), Outbox(away), Tasks()
    LimitEvents(metrics, outbox, tasks).limit_reached(REACHED)
    await until(lambda: bool(outbox.told))
    assert outbox.told == [
        ("evt_1", "ten_a", "key_a", {
            "limit": "key-audio-month:deepgram.listen", "allowance": "100h/month", "per_cent": 80,
            "route": "deepgram.listen", "holder": "key_a", "period_ends_at": "2026-12-01T00:00:00+00:00",
        }),
    ]  # fmt: skip
    assert metrics.limit_events == {("key-audio-month:deepgram.listen", "80"): 1}
    await tasks.close()


async def test_an_outbox_that_stays_away_costs_the_event_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit_events, "_RETRIES_S", (0.0, 0.0))
    outbox, tasks = Outbox(99), Tasks()
    LimitEvents(Metrics(), outbox, tasks).limit_reached(REACHED)
    await until(lambda: outbox.away == 96)
    await asyncio.sleep(0)
    assert not outbox.told
    await tasks.close()
