"""Wound: one caller's answer in another caller's hands (redis-py CVE-2023-28858, Traefik CVE-2026-71326)."""

import asyncio
import random

import orjson
import pytest

from tests.gateway.harness import Answer, Gateway, Seen
from tests.storage.waiting import until
from tests.wounds.wire import request


async def test_fifty_parallel_requests_of_two_tenants_do_not_mix(gateway: Gateway) -> None:
    """C-12: the upstream answers all of them out of order; each caller gets the echo of its own identity and target."""
    keys = {"ten_a": gateway.key, "ten_b": gateway.add_key(tenant_id="ten_b", user_id="usr_b")}
    waiting: list[tuple[asyncio.StreamWriter, Seen]] = []
    all_there = asyncio.Event()

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
        waiting.append((writer, seen))
        if len(waiting) == 50:
            all_there.set()

    gateway.upstream.respond = hold
    asked = [
        (tenant, f"/v1/models/{tenant}-{number}", gateway.ask("GET", f"/v1/models/{tenant}-{number}", key=keys[tenant]))
        for number in range(25)
        for tenant in keys
    ]
    group = asyncio.gather(*(asking for *_, asking in asked))
    await all_there.wait()
    random.Random(1).shuffle(waiting)
    for writer, seen in waiting:
        body = orjson.dumps([seen.all("x-tenant-id"), seen.all("x-user-id"), seen.target])
        writer.write(
            b"HTTP/1.1 200 OK\r\nSet-Cookie: t=%b\r\nContent-Length: %d\r\n\r\n%b"
            % (seen.target.encode(), len(body), body)
        )
    for (tenant, target, _), answer in zip(asked, await group, strict=True):
        assert orjson.loads(answer.body) == [[tenant], [tenant.replace("ten", "usr")], target]
        assert answer["set-cookie"] == f"t={target}"
    assert {(r.tenant_id, r.key_id) for r in gateway.journal.records} == {("ten_a", "key_1"), ("ten_b", "key_2")}
    assert len(gateway.journal.records) == 50


async def test_a_shared_upstream_connection_remembers_nobody(gateway: Gateway) -> None:
    """U-05: cookies, identity and request ids of one request are not on the next one that travels the same way."""

    async def sets_a_cookie(_: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: session=of-a\r\nContent-Length: 0\r\n\r\n")

    gateway.upstream.respond = sets_a_cookie
    other = gateway.add_key(tenant_id="ten_b", user_id="", roles=())
    await gateway.ask(headers=[("X-Mine", "a"), ("X-Request-ID", "id-a")])
    answer = await gateway.ask(key=other)
    first, second = gateway.upstream.seen
    assert first.connection == second.connection
    assert not {"cookie", "x-mine", "x-user-id", "x-auth-roles"} & second.names()
    assert (second.all("x-tenant-id"), second.all("x-request-id")) == (["ten_b"], [answer["x-request-id"]])
    assert answer["x-request-id"] != "id-a"


async def test_two_tenants_on_one_client_connection_are_told_apart(gateway: Gateway) -> None:
    """A front proxy mixes its users on one connection; what is remembered of the last header is that header's."""
    other = gateway.add_key(tenant_id="ten_b")
    data = b"".join(request(key) for key in (gateway.key, other, other, gateway.key, gateway.key, other))
    await gateway.raw(data + request(None, b"GET /v1/models HTTP/1.1", b"Connection: close"))
    tenants = [seen.all("x-tenant-id")[0] for seen in gateway.upstream.seen]
    assert tenants == ["ten_a", "ten_b", "ten_b", "ten_a", "ten_a", "ten_b"]


async def test_callers_that_vanish_leave_nothing_for_those_who_stay(gateway: Gateway) -> None:
    """F-05: half of the callers drop at random moments; the others get their own answers."""
    chance = random.Random(2)

    async def echo(_: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
        for _turn in range(chance.randrange(6)):
            await asyncio.sleep(0)
        body = seen.target.encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        for _turn in range(chance.randrange(6)):
            await asyncio.sleep(0)
        writer.write(body)

    gateway.upstream.respond = echo

    async def drops(number: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(request(gateway.key, b"GET /v1/models/gone-%d HTTP/1.1" % number))
        for _turn in range(chance.randrange(30)):
            await asyncio.sleep(0)
        writer.transport.abort()

    async def stays(number: int) -> None:
        answer = await gateway.ask("GET", f"/v1/models/{number}")
        assert (answer.status, answer.body) == (200, f"/v1/models/{number}".encode())

    for _ in range(4):
        await asyncio.gather(*(drops(n) for n in range(25)), *(stays(n) for n in range(25)))
    await until(lambda: not gateway.metrics.inflight)
    assert sum(record.status == 200 and record.bytes_out > 0 for record in gateway.journal.records) >= 100


@pytest.mark.parametrize("tail", [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen"])
async def test_what_an_upstream_says_unasked_is_nobodys_answer(gateway: Gateway, tail: bytes) -> None:
    """S-12: bytes behind an answer, at once or a moment later, end the connection."""

    async def too_much(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + tail)

    gateway.upstream.respond = too_much
    for number in range(5):
        answer = await gateway.ask()
        assert (answer.status, answer.body) == (200, b"ok")
        assert gateway.upstream.connections == number + 1


async def test_a_second_request_without_credentials_is_nobodys(gateway: Gateway) -> None:
    """S-13: neither the key nor the identity of the first request of a connection holds for the second."""
    end = request(None, b"GET /v1/models HTTP/1.1", b"Connection: close")
    data = request(gateway.key) + request(None) + request("nonsense") + request(gateway.key) + end
    rest, statuses = await gateway.raw(data), []
    while rest:
        answer = Answer.parse(rest)
        statuses.append(answer.status)
        rest = answer.rest
    assert statuses == [200, 401, 401, 200, 401]
    assert len(gateway.upstream.seen) == 2
