"""The second listener: metrics and health, for Prometheus and the orchestrator, never for the internet.

``/livez`` asks nobody, or an outage of PostgreSQL would restart every gateway. ``/readyz`` asks each dependency: 503
while draining, without a worker, or without PostgreSQL, because then nobody new can be identified; Redis away is 200
``degraded``, because limits are then counted locally.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import orjson
from aiohttp import web

from gateway import __version__
from gateway.telemetry import exposition
from gateway.telemetry.metrics import Metrics
from storage.ports import StorageError

_CHECK_S = 2.0


@dataclass(frozen=True, slots=True)
class Check:
    """One dependency: how to ask it (raises StorageError or OSError), and whether nothing works without it.

    Asking may tell more than that it is well: its ``status`` (ok, degraded or down) and details.
    """

    ask: Callable[[], Awaitable[Mapping[str, Any] | None]]
    required: bool


class Overview(Protocol):
    """What the parent knows."""

    draining: bool

    async def metrics(self) -> tuple[Metrics, exposition.State]:
        """Everybody's figures, merged."""

    def workers(self) -> Mapping[str, bool]:
        """Each worker, and whether it serves."""

    async def room(self) -> Mapping[str, int]:
        """How many connections are open, and how many there may be; empty where nobody can say now."""


OVERVIEW = web.AppKey("overview", Overview)
CHECKS = web.AppKey("checks", Mapping[str, Check])
STARTED = web.AppKey("started", float)


def application(overview: Overview, checks: Mapping[str, Check]) -> web.Application:
    """The listener's application."""
    app = web.Application()
    app[OVERVIEW] = overview
    app[CHECKS] = checks
    app[STARTED] = time.monotonic()
    app.router.add_get("/", index)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/{rest:.*}", nothing)
    return app


_PATHS = {
    "/livez": "the process is alive; asks no dependency",
    "/readyz": "whether traffic should come here, per dependency",
    "/healthz": "a summary for people",
    "/metrics": "figures for Prometheus",
}


async def index(_: web.Request) -> web.Response:
    """What there is."""
    return _json({"tahoe_gateway": __version__, "paths": _PATHS})


async def nothing(_: web.Request) -> web.Response:
    """What there is instead."""
    return _json({"error": "The ops listener has no such path.", "paths": _PATHS}, 404)


async def metrics(request: web.Request) -> web.Response:
    """The Prometheus page; the dependencies are asked as for ``/readyz``."""
    (figures, state), (_, parts) = await asyncio.gather(request.app[OVERVIEW].metrics(), _examine(request.app))
    state = replace(state, dependencies={name: parts[name]["status"] != "down" for name in request.app[CHECKS]})
    return web.Response(body=exposition.render(figures, state), headers={"Content-Type": exposition.CONTENT_TYPE})


async def livez(_: web.Request) -> web.Response:
    """The process is alive: it answered."""
    return _json({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """Whether traffic should come here, per dependency."""
    status, parts = await _examine(request.app)
    return _json({"status": status, "checks": parts}, 503 if status == "down" else 200)


async def healthz(request: web.Request) -> web.Response:
    """A summary for people: always 200 while the process answers."""
    status, parts = await _examine(request.app)
    overview = request.app[OVERVIEW]
    return _json(
        {
            "status": status,
            "version": __version__,
            "uptime_s": int(time.monotonic() - request.app[STARTED]),
            "workers": dict(overview.workers()),
            "checks": {name: part["status"] for name, part in parts.items()},
        }
    )


async def obstacle(checks: Mapping[str, Check]) -> str:
    """What keeps it from being ready, among the dependencies without which nothing works; empty when it is."""
    required = {name: check for name, check in checks.items() if check.required}
    answers = await asyncio.gather(*map(_ask, required.values()))
    return "; ".join(
        f"{name}: {answer['detail']}"
        for name, answer in zip(required, answers, strict=True)
        if answer["status"] == "down"
    )


async def lacking(checks: Mapping[str, Check]) -> Mapping[str, Any]:
    """What is served without, and why: dependencies that are down and not needed by everything."""
    optional = {name: check for name, check in checks.items() if not check.required}
    answers = await asyncio.gather(*map(_ask, optional.values()))
    return {
        name: answer.get("detail") or answer.get("addresses")
        for name, answer in zip(optional, answers, strict=True)
        if answer["status"] == "down"
    }


async def _examine(app: web.Application) -> tuple[str, dict[str, Mapping[str, Any]]]:
    checks = app[CHECKS]
    answers = await asyncio.gather(*(_ask(check) for check in checks.values()))
    parts: dict[str, Mapping[str, Any]] = dict(zip(checks, answers, strict=True))
    overview = app[OVERVIEW]
    up = sum(overview.workers().values())
    parts["workers"] = {"status": "ok" if up else "down", "detail": f"{up} serving", **await overview.room()}
    if overview.draining:
        parts["drain"] = {"status": "down", "detail": "shutting down"}
    down = {name for name, part in parts.items() if part["status"] != "ok"}
    if not down:
        return "ok", parts
    optional = {name for name, check in checks.items() if not check.required}
    return ("degraded" if down <= optional else "down"), parts


async def _ask(check: Check) -> Mapping[str, Any]:
    try:
        async with asyncio.timeout(_CHECK_S):
            return await check.ask() or {"status": "ok"}
    except (StorageError, OSError, TimeoutError) as error:
        return {"status": "down", "detail": str(error) or f"no answer within {_CHECK_S:g} s"}


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(
        body=orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
