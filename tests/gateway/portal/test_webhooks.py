"""Events reach the stream and webhooks: each at least once, with one id, signed, and nowhere that is ours."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.configuration.blueprint import Blueprint
from gateway.configuration.sources import load
from gateway.portal.parts import Parts
from gateway.portal.webhooks import Courier, publish, sender
from gateway.public_addresses import NotAllowed, PublicResolver
from gateway.tasks import Tasks
from tests.gateway.portal.api import Houses
from tests.gateway.portal.conftest import SECRET_KEY, Client


@dataclass
class Receiver:
    """Somebody else's server."""

    url: str = ""
    status: int = 204
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        self.got.append((dict(request.headers), await request.read()))
        return web.Response(status=self.status, headers={"Location": "/elsewhere"})


@pytest.fixture
async def parts(emptied_url: str, redis_url: str, tmp_path: Any) -> AsyncIterator[Parts]:
    """With webhooks that may go to this machine."""
    told = {"state_dir": tmp_path, "public_url": "http://gw.test", "webhooks_allow_private": True}
    async with Parts.open(Blueprint(load(told, None, {}), emptied_url, redis_url, SECRET_KEY)) as made:
        yield made


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = web.Application()
    app.router.add_post("/hook", made.take)
    async with TestServer(app) as server:
        made.url = str(server.make_url("/hook"))
        yield made


async def rounds(parts: Parts) -> None:
    """One of publishing, one of delivering, beside those that the portal makes itself."""
    await publish(parts)
    async with sender(allow_private=True) as session:
        courier = Courier(parts, session, Tasks(), asyncio.Event())
        await courier.deliver()
        await asyncio.gather(*courier.under_way)


async def settled(caller: Any, hook: str, state: str) -> list[dict[str, Any]]:
    """The webhook's deliveries, once there are some and all are in this state."""
    while True:
        found = (await caller.ask("GET", f"/webhooks/{hook}/deliveries"))["data"]
        if found and all(each["state"] == state and each["attempts"] for each in found):
            return list(found)
        await asyncio.sleep(0)


async def test_an_event_arrives_signed(houses: Houses, parts: Parts, receiver: Receiver) -> None:
    owner = await houses.person()
    hook = await owner.ask("POST", "/webhooks", {"url": receiver.url, "events": ["key.*"]}, status=201)
    key = await owner.ask("POST", "/keys", {"name": "ci"}, status=201)
    await rounds(parts)
    (delivery,) = await settled(owner, hook["id"], "delivered")
    assert (delivery["type"], delivery["status"], delivery["next_at"]) == ("key.created", 204, None)
    ((headers, body),) = receiver.got
    event = json.loads(body)
    assert (event["type"], event["subject"], event["source"]) == ("key.created", key["id"], "http://gw.test")
    assert key["key"] not in body.decode()
    secret = base64.b64decode(hook["secret"].removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    signature = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{signature}"
    assert headers["webhook-id"] == event["id"] == delivery["event_id"]


async def test_the_stream_has_every_event(houses: Houses, parts: Parts) -> None:
    owner = await houses.person()
    await owner.ask("POST", "/keys", {"name": "ci"}, status=201)
    await publish(parts)
    events = [json.loads(fields[b"event"]) for _, fields in await parts.redis.xrange("platform:events")]
    types = [event["type"] for event in events if event["tenantid"] == owner.tenant.id]
    assert types == ["tenant.created", "membership.created", "key.created"]


async def test_a_webhook_gets_its_own_tenants_events_alone(houses: Houses, parts: Parts, receiver: Receiver) -> None:
    owner, other = await houses.person(), await houses.person()
    hook = await owner.ask("POST", "/webhooks", {"url": receiver.url, "events": ["*"]}, status=201)
    await other.ask("POST", "/keys", {"name": "theirs"}, status=201)
    await owner.ask("POST", "/keys", {"name": "ours"}, status=201)
    await rounds(parts)
    await settled(owner, hook["id"], "delivered")
    assert {json.loads(body)["tenantid"] for _, body in receiver.got} == {owner.tenant.id}


@pytest.mark.parametrize("status", [500, 302, 404])
async def test_what_did_not_arrive_is_tried_again(
    houses: Houses, parts: Parts, receiver: Receiver, status: int
) -> None:
    """A redirect is no arrival and is not followed."""
    receiver.status = status
    owner = await houses.person()
    hook = await owner.ask("POST", "/webhooks", {"url": receiver.url, "events": ["key.*"]}, status=201)
    await owner.ask("POST", "/keys", {"name": "ci"}, status=201)
    await rounds(parts)
    while True:
        (delivery,) = await settled(owner, hook["id"], "pending")
        if delivery["status"]:
            break
    assert (delivery["status"], delivery["trouble"]) == (status, f"it answered {status}")
    assert len(receiver.got) == 1
    receiver.status = 200
    await owner.ask("POST", f"/webhooks/{hook['id']}/deliveries/{delivery['id']}/replay", status=202)
    entry, *_ = (await owner.ask("GET", "/audit"))["data"]
    assert (entry["action"], entry["after"]) == ("webhook.replayed", {"event": delivery["event_id"]})
    await rounds(parts)
    await settled(owner, hook["id"], "delivered")
    assert [headers["webhook-id"] for headers, _ in receiver.got] == [delivery["event_id"]] * 2


async def test_a_replaced_secret_signs_beside_the_new_one(houses: Houses, parts: Parts, receiver: Receiver) -> None:
    owner = await houses.person()
    hook = await owner.ask("POST", "/webhooks", {"url": receiver.url, "events": ["key.*"]}, status=201)
    again = await owner.ask("POST", f"/webhooks/{hook['id']}/secret", {})
    assert again["secret"] != hook["secret"]
    await owner.ask("POST", "/keys", {"name": "ci"}, status=201)
    await rounds(parts)
    await settled(owner, hook["id"], "delivered")
    assert len(receiver.got[0][0]["webhook-signature"].split(" ")) == 2


async def test_what_waits_while_a_webhook_is_off_is_sent_when_it_is_on(
    houses: Houses, parts: Parts, receiver: Receiver
) -> None:
    receiver.status = 500
    owner = await houses.person()
    hook = await owner.ask("POST", "/webhooks", {"url": receiver.url, "events": ["key.*"]}, status=201)
    await owner.ask("PATCH", f"/webhooks/{hook['id']}", {"enabled": False})
    await owner.ask("POST", "/keys", {"name": "ci"}, status=201)
    await rounds(parts)
    assert receiver.got == []
    await owner.ask("DELETE", f"/webhooks/{hook['id']}", status=204)
    await owner.ask("GET", f"/webhooks/{hook['id']}", status=404)


async def test_what_waits_goes_to_the_new_address(houses: Houses, parts: Parts, receiver: Receiver) -> None:
    """An event that did not arrive until the address was mended is not lost; the trail says from where to where."""
    owner = await houses.person()
    hook = await owner.ask("POST", "/webhooks", {"url": f"{receiver.url}/gone", "events": ["role.*"]}, status=201)
    path = f"/webhooks/{hook['id']}"
    await owner.ask("POST", "/roles", {"name": "clerk", "permissions": []}, status=201)
    await rounds(parts)
    (delivery,) = await settled(owner, hook["id"], "pending")
    while delivery["status"] is None:  # taken, and not yet answered
        (delivery,) = await settled(owner, hook["id"], "pending")
    await owner.ask("PATCH", path, {"enabled": False})
    edit = {"url": receiver.url, "events": ["key.*", "key.*"], "description": "mended", "enabled": True}
    await owner.ask("PATCH", path, edit, status=412, headers={"If-Match": '"stale"'})
    changed = await owner.ask("PATCH", path, edit)
    assert changed == await owner.ask("GET", path)
    assert {name: changed[name] for name in edit} == edit | {"events": ["key.*"]}
    async with parts.pool.operator() as connection:
        await connection.execute("UPDATE platform.deliveries SET next_at = now()")
    await rounds(parts)
    (delivery,) = await settled(owner, hook["id"], "delivered")
    assert delivery["type"] == "role.created"
    assert [headers["webhook-id"] for headers, _ in receiver.got] == [delivery["event_id"]]
    told = {each["action"]: each for each in (await owner.ask("GET", f"/audit?target={hook['id']}"))["data"]}
    assert told.keys() == {"webhook.created", "webhook.disabled", "webhook.enabled", "webhook.changed"}
    assert told["webhook.changed"]["before"] == {
        "url": f"{receiver.url}/gone", "events": ["role.*"], "description": ""
    }  # fmt: skip
    assert told["webhook.changed"]["after"] == {"url": receiver.url, "events": ["key.*"], "description": "mended"}


@pytest.mark.parametrize(
    "url", ["ftp://a.example/", "https://", "https://user@a.example/", "nothing-at-all", "https://a.example/#x"]
)
async def test_what_is_no_place_for_events_is_refused(houses: Houses, url: str) -> None:
    owner = await houses.person()
    hook = await owner.ask("POST", "/webhooks", {"url": "https://a.example/", "events": ["*"]}, status=201)
    for method, path, body in (("POST", "/webhooks", {"events": ["*"]}), ("PATCH", f"/webhooks/{hook['id']}", {})):
        problem = await owner.ask(method, path, body | {"url": url}, status=422)
        assert problem["errors"][0]["field"] == "url"
        for events in ([], ["KEY.*"], ["*.created"], ["key."]):
            await owner.ask(method, path, body | {"url": "https://a.example/", "events": events}, status=422)
    assert await owner.ask("GET", f"/webhooks/{hook['id']}") == {name: hook[name] for name in hook if name != "secret"}


async def test_another_tenants_webhook_is_not_there(houses: Houses, receiver: Receiver) -> None:
    owner, other = await houses.person(), await houses.person()
    hook = await owner.ask("POST", "/webhooks", {"url": receiver.url, "events": ["*"]}, status=201)
    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {"enabled": False}),
        ("DELETE", "", None),
        ("GET", "/deliveries", None),
        ("POST", "/secret", {}),
        ("POST", "/deliveries/1/replay", None),
    ):
        await other.ask(method, f"/webhooks/{hook['id']}{path}", body, status=404)


async def test_a_name_that_leads_to_our_own_network_gets_nothing(portal: Client) -> None:
    with pytest.raises(NotAllowed):
        await PublicResolver().resolve("localhost", 443)
