"""The second listener: alive asks nobody, ready asks everybody, and the summary is for people."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import pytest
from aiohttp.test_utils import TestClient

from gateway import __version__
from gateway.processes import ops
from gateway.processes.ops import Check
from gateway.telemetry.exposition import State
from gateway.telemetry.metrics import Metrics
from storage.ports import Unavailable

Client = Callable[..., Awaitable[TestClient]]


@dataclass
class Parent:
    """What the parent would know."""

    draining: bool = False
    up: dict[str, bool] = field(default_factory=lambda: {"1": True, "2": True})

    async def metrics(self) -> tuple[Metrics, State]:
        """Figures."""
        metrics = Metrics()
        metrics.inflight = 7
        return metrics, State(workers=self.up)

    def workers(self) -> Mapping[str, bool]:
        """Workers."""
        return self.up

    async def room(self) -> Mapping[str, int]:
        """Connections."""
        return {"connections": 3, "connections_most": 475}


async def well() -> None:
    """Answer."""


async def ill() -> None:
    """Do not."""
    raise Unavailable("PostgreSQL cannot be reached")


async def refusing() -> None:
    """The upstream's way."""
    raise ConnectionRefusedError(111, "Connect call failed")


async def hung() -> None:
    """Never answer."""
    await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "_CHECK_S", 0.1)


READINESS = [
    (well, well, Parent(), 200, "ok"),
    (well, ill, Parent(), 200, "degraded"),
    (well, hung, Parent(), 200, "degraded"),
    (well, refusing, Parent(), 200, "degraded"),
    (ill, well, Parent(), 503, "down"),
    (hung, well, Parent(), 503, "down"),
    (ill, ill, Parent(), 503, "down"),
    (well, well, Parent(up={"1": False, "2": True}), 200, "ok"),
    (well, well, Parent(up={"1": False, "2": False}), 503, "down"),
    (well, well, Parent(up={}), 503, "down"),
    (well, well, Parent(draining=True), 503, "down"),
    (well, ill, Parent(draining=True), 503, "down"),
]


@pytest.mark.parametrize(("postgres", "redis", "parent", "code", "status"), READINESS)
async def test_ready_as_long_as_somebody_new_can_be_served(
    aiohttp_client: Client,
    postgres: Callable[[], Awaitable[None]],
    redis: Callable[[], Awaitable[None]],
    parent: Parent,
    code: int,
    status: str,
) -> None:
    """F-07. Without what is optional it is degraded; the summary says the same and is always 200."""
    checks = {"postgres": Check(postgres, required=True), "redis": Check(redis, required=False)}
    client = await aiohttp_client(ops.application(parent, checks))
    ready = await client.get("/readyz")
    assert (ready.status, (await ready.json())["status"]) == (code, status)
    health = await client.get("/healthz")
    summary = await health.json()
    assert (health.status, summary["status"], summary["version"]) == (200, status, __version__)
    assert summary["workers"] == parent.up
    assert {"postgres", "redis", "workers"} <= set(summary["checks"])
    assert ready.headers["Cache-Control"] == health.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(("path", "status"), [("/", 200), ("/nothing", 404)])
async def test_it_says_what_there_is(aiohttp_client: Client, path: str, status: int) -> None:
    client = await aiohttp_client(ops.application(Parent(), {}))
    told = await client.get(path)
    assert told.status == status
    assert list((await told.json())["paths"]) == ["/livez", "/readyz", "/healthz", "/metrics"]


async def test_a_check_says_what_is_wrong(aiohttp_client: Client) -> None:
    checks = {"a": Check(ill, required=True), "b": Check(hung, required=True), "c": Check(well, required=True)}
    client = await aiohttp_client(ops.application(Parent(draining=True), checks))
    answer = await (await client.get("/readyz")).json()
    assert answer["checks"] == {
        "a": {"status": "down", "detail": "PostgreSQL cannot be reached"},
        "b": {"status": "down", "detail": "no answer within 0.1 s"},
        "c": {"status": "ok"},
        "workers": {"status": "ok", "detail": "2 serving", "connections": 3, "connections_most": 475},
        "drain": {"status": "down", "detail": "shutting down"},
    }


async def test_checks_are_asked_side_by_side(aiohttp_client: Client) -> None:
    """One that hangs does not add to the next: a probe has a time-out of its own."""
    meeting = asyncio.Barrier(5)

    async def meet() -> None:
        await meeting.wait()

    client = await aiohttp_client(ops.application(Parent(), {str(n): Check(meet, required=True) for n in range(5)}))
    assert (await client.get("/readyz")).status == 200


async def test_alive_asks_nobody(aiohttp_client: Client) -> None:
    """Or an outage of PostgreSQL would restart every gateway."""
    asked = 0

    async def count() -> None:
        nonlocal asked
        asked += 1

    client = await aiohttp_client(ops.application(Parent(draining=True, up={}), {"x": Check(count, required=True)}))
    answer = await client.get("/livez")
    assert (answer.status, await answer.json(), asked) == (200, {"status": "ok"}, 0)


async def test_metrics_are_a_prometheus_page(aiohttp_client: Client) -> None:
    client = await aiohttp_client(ops.application(Parent(), {}))
    answer = await client.get("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "gateway_inflight_requests 7.0" in await answer.text()


@pytest.mark.parametrize("path", ["/debug", "/metrics/", "/x/metrics", "/auth/verify", "/v1/models"])
async def test_nothing_else_is_here(aiohttp_client: Client, path: str) -> None:
    client = await aiohttp_client(ops.application(Parent(), {}))
    assert (await client.get(path)).status == 404
