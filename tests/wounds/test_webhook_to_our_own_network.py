"""U-02: a webhook to loopback, a private network or a metadata service gets nothing, and its maker is told."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from gateway.configuration.blueprint import Blueprint
from gateway.configuration.sources import load
from gateway.portal.application import application
from gateway.portal.parts import Parts
from gateway.portal.webhooks import sender
from tests.gateway.portal.api import Caller, Houses

PLACES = [
    "https://127.0.0.1/", "https://localhost/", "https://169.254.169.254/latest/meta-data/", "https://10.0.0.5/",
    "https://[::1]/", "https://[::ffff:169.254.169.254]/", "https://[fd00:ec2::254]/", "http://93.184.216.34/",
    "https://0.0.0.0/", "https://2130706433/", "https://0x7f.1/",
]  # fmt: skip


@pytest.fixture
async def owner(emptied_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Caller]:
    settings = load({"state_dir": tmp_path}, None, {})
    blueprint = Blueprint(settings, emptied_url, redis_url, "a secret key of thirty-two letters")
    async with Parts.open(blueprint) as parts, TestClient(TestServer(application(parts))) as client:
        yield await Houses(client, parts).person()


@pytest.mark.parametrize("url", PLACES)
async def test_no_event_goes_to_our_own_network(owner: Caller, url: str) -> None:
    """Refused at once when it is written so; else when the name is looked up, for every attempt anew."""
    hook = await owner.ask("POST", "/webhooks", {"url": "https://example.com/", "events": ["*"]}, status=201)
    statuses = []
    for method, path in (("POST", ""), ("PATCH", f"/{hook['id']}")):
        async with owner.client.request(
            method, f"/platform/v1/webhooks{path}", json={"url": url, "events": ["*"]}, headers=dict(owner.headers)
        ) as answer:
            statuses.append(answer.status)
    if statuses == [422, 422]:
        return
    assert statuses == [201, 200]
    async with sender(allow_private=False) as session:
        with pytest.raises(Exception, match=r"not on the public internet|not a canonical"):
            await session.post(url)
