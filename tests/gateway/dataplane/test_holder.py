"""Limits that a request holds while it lasts: how they are taken, refused, and freed on every end of a request."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_network

import pytest

from policies.limits.allowances import Allowance, Scope, What
from policies.routing.route_table import RouteTable
from tests.gateway.harness import Gateway, Options, Seen, running
from tests.storage.waiting import until

PLAIN = {"name": "models", "path": "/v1/models", "methods": ["GET", "POST"], "scope": "transcribe"}


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with running() as made:
        yield made


def limit(what: What, text: str, scope: Scope = Scope.KEY, *, shadow: bool = False, route: str = "") -> Allowance:
    return replace(Allowance.parse(what, text), scope=scope, shadow=shadow, route=route)


class Slow:
    """An upstream that answers when told."""

    def __init__(self, gateway: Gateway) -> None:
        self.go = asyncio.Event()
        self.waiting = 0
        gateway.upstream.respond = self

    async def __call__(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        self.waiting += 1
        await self.go.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


async def open_request(gateway: Gateway, key: str, slow: Slow) -> asyncio.StreamWriter:
    """A request that the upstream has and does not answer."""
    before = slow.waiting
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(f"GET /v1/models HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n\r\n".encode())
    await until(lambda: slow.waiting > before)
    return writer


async def test_a_question_of_a_proxy_takes_no_place_and_needs_none() -> None:
    """When its request ends is not told: a place would be held for the question alone, and refuse others at random."""
    async with running(Options(trusted=(ip_network("127.0.0.0/8"),))) as gateway:
        key = gateway.add_key(allowances=(limit(What.CONCURRENCY, "1"), limit(What.BYTES, "1KB/d")))
        slow = Slow(gateway)
        writer = await open_request(gateway, key, slow)
        about = [("X-Original-URI", "/v1/models"), ("X-Original-Method", "GET")]
        for _ in range(3):  # the last ones are remembered
            answer = await gateway.ask("GET", "/auth/verify", about, key=key)
            assert (answer.status, "ratelimit" in dict(answer.headers)) == (200, False)
        slow.go.set()
        writer.close()


async def test_no_more_requests_at_one_time_than_allowed_and_the_refusal_says_so(gateway: Gateway) -> None:
    key = gateway.add_key(allowances=(limit(What.CONCURRENCY, "2"),))
    slow = Slow(gateway)
    asking = [asyncio.ensure_future(gateway.ask(key=key)) for _ in range(2)]  # noqa: TID251  awaited below
    await until(lambda: slow.waiting == 2)
    refused = await gateway.ask(key=key)
    assert (refused.status, refused.code, refused["retry-after"]) == (429, "concurrency_limit_exceeded", "1")
    assert refused["ratelimit-policy"] == '"key-concurrency";q=2;qu="concurrent-requests"'
    assert refused["ratelimit"] == '"key-concurrency";r=0'
    slow.go.set()
    assert [(await one).status for one in asking] == [200, 200]
    answer = await gateway.ask(key=key)
    assert (answer.status, answer["ratelimit"]) == (200, '"key-concurrency";r=1')
    assert gateway.holding.holds.held == 0
    assert gateway.metrics.ratelimit == {("key-concurrency", "admitted"): 3, ("key-concurrency", "refused"): 1}


async def test_a_client_that_leaves_frees_its_place(gateway: Gateway) -> None:
    key = gateway.add_key(allowances=(limit(What.CONCURRENCY, "1"),))
    slow = Slow(gateway)
    writer = await open_request(gateway, key, slow)
    assert (await gateway.ask(key=key)).status == 429
    writer.transport.abort()
    await until(lambda: not gateway.holding.holds.held)
    slow.go.set()
    assert (await gateway.ask(key=key)).status == 200


async def test_an_upstream_that_dies_frees_the_place(gateway: Gateway) -> None:
    async def die(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        writer.transport.abort()

    key = gateway.add_key(allowances=(limit(What.CONCURRENCY, "1"),))
    gateway.upstream.respond = die
    assert [(await gateway.ask(key=key)).status for _ in range(3)] == [502] * 3
    assert gateway.holding.holds.held == 0


async def test_a_request_that_is_refused_after_its_limits_frees_its_place(gateway: Gateway) -> None:
    """An expectation that cannot be met, a body that is too large: found when the limits have been taken."""
    key = gateway.add_key(allowances=(limit(What.CONCURRENCY, "1"),))
    for _ in range(3):
        assert (await gateway.ask(headers=[("Expect", "miracles")], key=key)).status == 417
    assert gateway.holding.holds.held == 0


async def test_shadow_refuses_nobody_and_is_counted(gateway: Gateway) -> None:
    key = gateway.add_key(allowances=(limit(What.REQUESTS, "1/h", shadow=True),))
    answers = [await gateway.ask(key=key) for _ in range(3)]
    assert [answer.status for answer in answers] == [200] * 3
    assert "ratelimit" not in {name.lower() for name, _ in answers[0].headers}
    assert gateway.metrics.ratelimit == {("key-requests", "admitted"): 1, ("key-requests", "shadow_refused"): 2}


async def test_the_tightest_limit_wins_and_a_refusal_takes_nothing_of_the_others(gateway: Gateway) -> None:
    wide, narrow = limit(What.REQUESTS, "5/h", Scope.TENANT, route="openai.models"), limit(What.REQUESTS, "2/h")
    key = gateway.add_key(allowances=(wide, limit(What.CONCURRENCY, "9"), replace(narrow, scope=Scope.USER)))
    answers = [await gateway.ask(key=key) for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 429, 429]
    assert answers[0]["ratelimit"].startswith('"user-requests";r=1')
    assert answers[3]["ratelimit-policy"] == '"user-requests";q=2;w=3600'
    other = gateway.add_key(allowances=(wide,))
    assert [(await gateway.ask(key=other)).status for _ in range(4)] == [200, 200, 200, 429]


async def test_a_limit_of_another_route_or_of_streams_does_not_bind(gateway: Gateway) -> None:
    """And costs nothing: such a request goes the way of those without."""
    key = gateway.add_key(
        allowances=(limit(What.REQUESTS, "1/h", route="deepgram.listen"), limit(What.STREAMS, "1")),
    )
    assert [(await gateway.ask(key=key)).status for _ in range(3)] == [200] * 3
    assert not gateway.holding.holds._tallies


async def test_requests_of_a_calendar_period_go_on_from_the_ledger(gateway: Gateway) -> None:
    gateway.holding.account.before = 98
    key = gateway.add_key(allowances=(limit(What.REQUESTS, "100/month", Scope.TENANT),))
    answers = [await gateway.ask(key=key) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert (answers[2].code, answers[2]["x-should-retry"]) == ("quota_exceeded", "false")
    assert len(gateway.holding.account.asked) == 1
    assert [(event.per_cent, event.allowance.name) for event in gateway.holding.events] == [
        (80, "tenant-requests-month"),
        (100, "tenant-requests-month"),
    ]
    raised = gateway.add_key(allowances=(limit(What.REQUESTS, "110/month", Scope.TENANT),))
    assert (await gateway.ask(key=raised)).status == 200
    told = gateway.holding.events  # who was given more is warned before that is used up as well
    assert [event.per_cent for event in told] == [80, 100, 80]
    assert len({event.event_id for event in told}) == 3


async def test_what_passes_while_redis_is_away_is_counted_afterwards(gateway: Gateway) -> None:
    """From the ledger, when it has had time to get there; and the next outage begins with what is left then."""
    key = gateway.add_key(allowances=(limit(What.REQUESTS, "100/month", Scope.TENANT),))
    holder, holding = gateway.proxy._gatekeeper._holder, gateway.holding
    assert (await gateway.ask(key=key)).status == 200
    holding.holds.down = True
    assert (await gateway.ask(key=key)).status == 200
    await holder.recount()
    holding.account.before = 99
    await holder.recount()
    holding.holds.down = False
    await holder.recount()
    assert [(await gateway.ask(key=key)).status for _ in range(2)] == [200, 429]
    holding.account.before = 100
    holding.holds.down = True
    assert (await gateway.ask(key=key)).status == 429


async def test_when_neither_redis_nor_the_ledger_can_tell_the_route_decides(gateway: Gateway) -> None:
    key = gateway.add_key(allowances=(limit(What.REQUESTS, "100/month"), limit(What.CONCURRENCY, "1")))
    gateway.holding.account.down = True
    assert (await gateway.ask(key=key)).status == 200
    assert gateway.metrics.fail_open[("quota",)] == 1
    gateway.holding.holds.down = True
    assert (await gateway.ask(key=key)).status == 200
    assert gateway.metrics.fail_open[("ratelimit",)] == 1
    for mode, status, opened in (("closed", 503, 0), ("open", 200, 1)):
        routes = RouteTable.compile({"routes": [PLAIN | {"without_limiter": mode}]})
        async with running(Options(routes=routes)) as other:
            key = other.add_key(allowances=(limit(What.CONCURRENCY, "1"),))
            other.holding.holds.down = True
            assert [(await other.ask(key=key)).status for _ in range(2)] == [status] * 2
            assert other.metrics.fail_open[("ratelimit",)] == 2 * opened


async def test_a_client_address_has_limits_of_its_own_on_a_public_route() -> None:
    """Q-02, Q-04: without a credential the address is all there is to count by."""
    public = PLAIN | {"access": "public", "scope": "", "address_requests": "2/h"}
    async with running(Options(routes=RouteTable.compile({"routes": [public]}))) as gateway:
        answers = [await gateway.ask(key=None) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert answers[2]["ratelimit-policy"] == '"address-requests";q=2;w=3600'
        spoofed = await gateway.ask(headers=[("X-Forwarded-For", "192.0.2.7")], key=None)
        assert spoofed.status == 429
        assert set(gateway.holding.holds._tallies) == {"limit:{127.0.0.1}:models:requests"}


async def test_forward_auth_judges_by_the_same_limits_and_holds_nothing_afterwards() -> None:
    async with running(Options(trusted=(ip_network("127.0.0.1"),))) as gateway:
        twice = limit(What.REQUESTS, "2/h", route="openai.models")
        key = gateway.add_key(allowances=(limit(What.CONCURRENCY, "1"), twice))
        asked = [("X-Original-URI", "/v1/models"), ("X-Original-Method", "GET")]
        answers = [await gateway.ask("GET", "/auth/verify", asked, key=key) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 403]
        assert (answers[2]["x-auth-status"], answers[2]["x-auth-code"]) == ("429", "rate_limit_exceeded")
        assert gateway.holding.holds.held == 0
