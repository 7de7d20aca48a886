"""Wound: a tenant's webhook that never answers held up everybody's events: all places of a round were its own.

Twenty at a time, fifteen seconds each: a thousand events for one such address, which a tenant can send again as often
as it likes, were a quarter of an hour for all others.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.configuration.blueprint import Blueprint
from gateway.configuration.sources import load
from gateway.portal.application import application
from gateway.portal.parts import Parts
from tests.gateway.portal.api import Houses


class Receivers:
    """One that never answers, and one that does."""

    def __init__(self) -> None:
        self.hanging = 0
        self.told = asyncio.Event()
        self.end = asyncio.Event()
        self.app = web.Application()
        self.app.router.add_post("/hangs", self._hang)
        self.app.router.add_post("/well", self._answer)

    async def _hang(self, _: web.Request) -> web.Response:
        self.hanging += 1
        await self.end.wait()
        return web.Response()

    async def _answer(self, _: web.Request) -> web.Response:
        self.told.set()
        return web.Response()


@pytest.fixture
async def houses(
    emptied_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Houses]:
    """The platform API, which waits for a receiver as good as for ever."""
    monkeypatch.setattr("gateway.portal.webhooks._TIMEOUT_S", 600.0)
    settings = load({"state_dir": tmp_path, "webhooks_allow_private": True}, None, {})
    blueprint = Blueprint(settings, emptied_url, redis_url, "a secret key of thirty-two letters")
    async with Parts.open(blueprint) as parts, TestClient(TestServer(application(parts))) as client:
        yield Houses(client, parts)


async def test_a_webhook_that_hangs_keeps_no_other_tenants_events_back(houses: Houses) -> None:
    receivers = Receivers()
    async with TestServer(receivers.app) as server, asyncio.timeout(60):
        slow, quick = await houses.person(), await houses.person()
        for caller, path in ((slow, "/hangs"), (quick, "/well")):
            wish = {"url": str(server.make_url(path)), "events": ["key.*"]}
            await caller.ask("POST", "/webhooks", wish, status=201)
        for number in range(40):
            await slow.ask("POST", "/keys", {"name": f"k{number}"}, status=201)
        while not receivers.hanging:  # noqa: ASYNC110  another server sets no event
            await asyncio.sleep(0.01)
        await quick.ask("POST", "/keys", {"name": "k"}, status=201)
        await receivers.told.wait()
        assert receivers.hanging <= 10
        receivers.end.set()
