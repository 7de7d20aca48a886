"""A request that comes again byte for byte is served without a task; nobody can tell, whatever happens to it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace

import pytest

from gateway.configuration.patience import Patience
from policies.account.usage import Outcome
from policies.limits.allowances import Allowance, What
from policies.limits.rates import Charge, Rate, Taken
from storage.journal.writer import JournalFull
from storage.ports import Invalidation, Unavailable, Waiter
from tests.gateway.harness import OK, SMALL, Answer, Gateway, Options, Respond, Seen, running, say_ok
from tests.storage.waiting import until

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def request(gateway: Gateway, *lines: str, target: str = "/v1/models", key: str = "") -> bytes:
    """The request that comes again."""
    head = [f"GET {target} HTTP/1.1", "Host: a", f"X-API-Key: {key or gateway.key}", *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n"


async def answer(reader: asyncio.StreamReader) -> Answer:
    """The next answer on a connection."""
    async with asyncio.timeout(30):
        head = await reader.readuntil(b"\r\n\r\n")
        body = b""
        while b"Transfer-Encoding: chunked" in head and not body.endswith(b"0\r\n\r\n"):
            body += await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        return Answer.parse(head + body + await reader.readexactly(int(length or 0)))


async def ask(client: Client, data: bytes) -> Answer:
    """One exchange."""
    client[1].write(data)
    return await answer(client[0])


class Errands:
    """Counts what was served without a task, and what the task had to go on with."""

    def __init__(self, gateway: Gateway) -> None:
        self.begun = self.stuck = 0
        self._again, self._go_on = gateway.proxy.again, gateway.proxy.go_on
        gateway.proxy.again = self.again  # type: ignore[method-assign]
        gateway.proxy.go_on = self.go_on  # type: ignore[method-assign]

    def again(self, *args: object) -> bool:
        took = self._again(*args)  # type: ignore[arg-type]
        self.begun += took
        return took

    def go_on(self, *args: object) -> Awaitable[object]:
        self.stuck += 1
        return self._go_on(*args)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def warm(gateway: Gateway, data: bytes) -> AsyncIterator[tuple[Client, Errands]]:
    """A connection on which the request is known, so that the next one is an errand."""
    errands = Errands(gateway)
    client = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        while not errands.begun:
            assert (await ask(client, data)).status < 400
        errands.begun = 0
        yield client, errands
    finally:
        client[1].close()


def after(first: Respond, then: Respond) -> Respond:
    """An upstream that says something once, and something else from then on."""
    said = iter((first,))

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
        await next(said, then)(reader, writer, seen)

    return respond


def saying(data: bytes, *, then_close: bool = False) -> Respond:
    """An upstream that says this."""

    async def respond(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        writer.write(data)
        if then_close:
            writer.close()

    return respond


class Gate:
    """An upstream that answers when it is let."""

    def __init__(self) -> None:
        self.asked, self.open = asyncio.Event(), asyncio.Event()

    async def respond(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        self.asked.set()
        await self.open.wait()
        writer.write(OK)


HELD = tuple(Allowance.parse(*one) for one in ((What.CONCURRENCY, "100"), (What.REQUESTS, "10000/month")))


@pytest.fixture(params=["rates", "held"])
async def gateway(request: pytest.FixtureRequest) -> AsyncIterator[Gateway]:
    """Under a plain request rate; and under limits besides of which a request holds something while it lasts."""
    async with running(Options(default_rate=Rate(10_000, 60_000))) as gateway:
        if request.param == "held":
            ((digest, principal),) = gateway.keys.by_digest.items()
            gateway.keys.by_digest[digest] = replace(principal, allowances=HELD)
        yield gateway
        assert not gateway.holding.holds.held


RATES = pytest.mark.parametrize("gateway", ["rates"], indirect=True)
HOLDS = pytest.mark.parametrize("gateway", ["held"], indirect=True)


SETUPS: dict[str, tuple[Options, tuple[str, ...], Respond]] = {
    "limited": (Options(default_rate=Rate(9_000, 86_400_000)), (), say_ok),
    "not limited": (Options(), (), say_ok),
    "a page of another site": (Options(cors_origins=("https://app.test",)), ("Origin: https://app.test",), say_ok),
    "a query": (Options(), (), say_ok),
    "lines that pass, lines that do not": (
        Options(),
        ("Connection: x-hop", "X-Hop: 1", "Accept: text/plain", "X-Tenant-ID: forged"),
        saying(b"HTTP/1.1 201 Made\r\nX-Own: 1\r\nConnection: x-gone\r\nX-Gone: 1\r\nContent-Length: 2\r\n\r\nok"),
    ),
    "nothing in the answer": (Options(), (), saying(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")),
    "a redirect": (Options(), (), saying(b"HTTP/1.1 302 F\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n")),
    "chunks": (Options(), (), saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")),
}


@pytest.mark.parametrize("name", SETUPS)
async def test_client_upstream_account_log_and_figures_cannot_tell_it_from_the_first(name: str) -> None:
    options, lines, respond = SETUPS[name]
    async with running(options) as gateway:
        gateway.upstream.respond = respond
        data = request(gateway, *lines, target="/v1/models?a=1" if name == "a query" else "/v1/models")
        client = await asyncio.open_connection("127.0.0.1", gateway.port)
        errands = Errands(gateway)
        answers = [await ask(client, data) for _ in range(6)]
        client[1].close()
        assert errands.begun >= 3
        assert not errands.stuck
        plain = {
            (a.status, a.body, tuple((n, v) for n, v in a.headers if n not in ("x-request-id", "ratelimit", "date")))
            for a in answers
        }
        assert len(plain) == 1
        ids = [a["x-request-id"] for a in answers]
        assert len(set(ids)) == 6
        assert [s.all("x-request-id") for s in gateway.upstream.seen] == [[i] for i in ids]
        assert len({s.head.replace(i.encode(), b"") for s, i in zip(gateway.upstream.seen, ids, strict=True)}) == 1
        if options.default_rate is not None:
            left = [int(a["ratelimit"].partition("r=")[2].partition(";")[0]) for a in answers]
            assert left == sorted(left, reverse=True)
            assert len(set(left)) == 6
            assert gateway.metrics.ratelimit == {("tenant-requests", "admitted"): 6}
        records = gateway.journal.records
        assert [r.request_id for r in records] == ids
        assert len({r.event_id for r in records}) == 6
        assert len({replace_varying(r) for r in records}) == 1  # type: ignore[arg-type]
        log = gateway.lines
        assert [line["request_id"] for line in log] == ids
        varying = {"ts", "request_id", "duration_ms", "upstream_ms"}
        assert len({tuple((k, str(v)) for k, v in line.items() if k not in varying) for line in log}) == 1
        figures = gateway.metrics.route("openai.models")
        assert sum(figures.requests.values()) == sum(figures.duration.counts) == sum(figures.overhead.counts) == 6
        assert figures.bytes_out == 6 * len(answers[0].body)
        assert sum(gateway.metrics.upstream["default"].counts) == 6
        assert gateway.metrics.auth == {("api_key", "ok"): 6}
        assert gateway.metrics.inflight == 0


def replace_varying(record: object) -> object:
    """A record without what each has of its own."""
    return record._replace(event_id="", request_id="", ended_ms=0, duration_us=0, upstream_us=0)  # type: ignore[attr-defined]


# --- what it rests on is asked each time ------------------------------------------------------------------------------


async def test_a_limit_refuses_the_very_next_one() -> None:
    async with running() as gateway:
        key = gateway.add_key(key_rate=Rate(6, 3_600_000))
        async with warm(gateway, data := request(gateway, key=key)) as (client, errands):
            statuses = []
            while 429 not in statuses:
                refused = await ask(client, data)
                statuses.append(refused.status)
            assert errands.stuck == 1
            assert refused.code == "rate_limit_exceeded"
            assert int(refused["retry-after"]) > 0
            assert len(gateway.upstream.seen) == 6
            assert [r.outcome for r in gateway.journal.records] == [Outcome.OK] * 6 + [Outcome.DENIED]
            assert gateway.metrics.inflight == 0


async def test_limits_that_a_poll_does_not_touch_cost_it_nothing(gateway: Gateway) -> None:
    """Audio on a route without any, bytes where there is no body, streams. An upload of that key is held to them."""
    several = ((What.AUDIO, "10s/d"), (What.BYTES, "9B/d"), (What.STREAMS, "1"))
    key = gateway.add_key(allowances=tuple(Allowance.parse(*one) for one in several))
    async with warm(gateway, data := request(gateway, key=key)) as (client, errands):
        upload = await gateway.ask("POST", "/v1/audio/transcriptions", body=b"0123456789", key=key)
        assert (upload.status, upload.code) == (429, "bytes_limit_exceeded")
        assert (await ask(client, data)).status == 200
        assert (errands.begun, errands.stuck) == (1, 0)


@pytest.mark.parametrize("line", ["Accept: */*", "Upgrade: websocket"])
async def test_a_poll_holds_its_place(gateway: Gateway, line: str) -> None:
    """Also one that says ``Upgrade`` and opens nothing: it was held to the limit of streams instead."""
    gate, key = Gate(), gateway.add_key(allowances=(Allowance.parse(What.CONCURRENCY, "1"),))
    client = await asyncio.open_connection("127.0.0.1", gateway.port)
    for _ in range(3):
        assert (await ask(client, request(gateway, line, key=key))).status == 200
    gateway.upstream.respond = gate.respond
    client[1].write(request(gateway, line, key=key))
    async with asyncio.timeout(30):
        await gate.asked.wait()
    refused = await gateway.ask(headers=[tuple(line.split(": "))], key=key)  # type: ignore[list-item]
    assert refused.status == 429
    gate.open.set()
    assert (await answer(client[0])).status == 200
    client[1].close()


async def test_a_revoked_key_is_refused(gateway: Gateway) -> None:
    async with warm(gateway, data := request(gateway)) as (client, errands):
        gateway.keys.by_digest.clear()
        gateway.snapshot.forget(Invalidation())
        assert (await ask(client, data)).status == 401
        assert not errands.begun


async def test_a_key_that_expires_is_refused_in_that_millisecond(gateway: Gateway) -> None:
    (digest, principal), *_ = gateway.keys.by_digest.items()
    async with warm(gateway, data := request(gateway)) as (client, errands):
        entry = next(iter(gateway.snapshot._entries.values()))
        assert entry.principal is not None
        permit = entry.permits["openai.models"]
        object.__setattr__(permit.principal, "expires_ms", 1)
        refused = await ask(client, data)
        assert (refused.status, errands.begun) == (401, 0)
        object.__setattr__(principal, "expires_ms", None)
        assert gateway.keys.by_digest[digest] is principal


async def test_a_changed_key_is_another_permit(gateway: Gateway) -> None:
    async with warm(gateway, data := request(gateway)) as (client, errands):
        (digest, principal), *_ = gateway.keys.by_digest.items()
        gateway.keys.by_digest[digest] = replace(principal, tenant_id="ten_b")
        gateway.snapshot.forget(Invalidation())
        assert (await ask(client, data)).status == 200
        assert not errands.begun
        assert gateway.upstream.seen[-1].all("x-tenant-id") == ["ten_b"]
        assert gateway.journal.records[-1].tenant_id == "ten_b"


async def test_a_full_journal_refuses(gateway: Gateway) -> None:
    async with warm(gateway, data := request(gateway)) as (client, errands):
        gateway.journal.full = True
        refused = await ask(client, data)
        assert (refused.status, refused.code, errands.begun) == (503, "account_unavailable", 0)


async def test_a_record_that_finds_no_room_is_said(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: bytes) -> None:
        raise JournalFull("no space left")

    async with warm(gateway, data := request(gateway)) as (client, errands):
        monkeypatch.setattr(gateway.journal, "append", fail)
        monkeypatch.setattr(gateway.journal, "append_all", lambda _: 0)
        assert (await ask(client, data)).status == 200
        assert errands.begun == 1
        assert gateway.metrics.journal_full[("record",)] == 1
        assert "no space left" in str(gateway.lines[-1]["cause"])


@RATES
@pytest.mark.parametrize("down", [True, False])
async def test_without_the_limiter_each_worker_counts_alone(gateway: Gateway, down: bool) -> None:
    """Whether it says so at once or after its time-out."""

    def later(_: tuple[Charge, ...], waiter: Waiter[Taken]) -> None:
        asyncio.get_running_loop().call_later(0.01, waiter.set_exception, Unavailable("Redis is down"))

    async with warm(gateway, data := request(gateway)) as (client, errands):
        gateway.counters.down = True
        if not down:
            gateway.counters.take_for = later  # type: ignore[method-assign]
        served = await ask(client, data)
        assert (served.status, errands.stuck) == (200, 1)
        assert "r=" in served["ratelimit"]
        assert gateway.metrics.fail_open[("ratelimit",)] == 1
        assert gateway.metrics.inflight == 0


@HOLDS
async def test_without_the_store_of_what_is_held_each_worker_counts_alone(gateway: Gateway) -> None:
    async with warm(gateway, data := request(gateway)) as (client, errands):
        gateway.holding.holds.down = True
        served = await ask(client, data)
        assert (served.status, errands.stuck, gateway.metrics.fail_open[("ratelimit",)]) == (200, 1, 1)
        gateway.holding.holds.down = False
        assert (await ask(client, data)).status == 200
        assert (errands.begun, errands.stuck) == (2, 1)


@HOLDS
async def test_a_counter_that_is_lost_is_told_what_was_used(gateway: Gateway) -> None:
    """The ledger is asked, for which the task has to wait."""
    async with warm(gateway, data := request(gateway)) as (client, errands):
        gateway.holding.holds._tallies.clear()
        gateway.holding.account.before = 9_998
        statuses = [(await ask(client, data)).status for _ in range(3)]
        assert (statuses, errands.stuck) == ([200, 200, 429], 2)
        assert gateway.metrics.inflight == 0


@HOLDS
async def test_each_is_counted_once(gateway: Gateway) -> None:
    """What is told with an answer is the tightest limit, as ever; nothing is held once it has left."""
    async with warm(gateway, data := request(gateway)) as (client, errands):
        before = gateway.metrics.ratelimit.copy()
        told = {(await ask(client, data))["ratelimit"] for _ in range(5)}
        assert (told, errands.begun, errands.stuck) == ({'"tenant-concurrency";r=99'}, 5, 0)
        assert not gateway.holding.holds.held
        counts = gateway.metrics.ratelimit
        assert {name: counts[name, "admitted"] - before[name, "admitted"] for name, _ in counts} == dict.fromkeys(
            ("tenant-requests", "tenant-concurrency", "tenant-requests-month"), 5
        )
        (month,) = (tally for key, tally in gateway.holding.holds._tallies.items() if ":requests:" in key)
        assert month.used == len(gateway.journal.records)


# --- the upstream does otherwise --------------------------------------------------------------------------------------

OTHERWISE: dict[str, tuple[Respond, int, bytes]] = {
    "another status": (saying(b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno"), 404, b"no"),
    "no content": (saying(b"HTTP/1.1 204 None\r\n\r\n"), 204, b""),
    "in pieces": (
        saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        200,
        b"hello",
    ),
    "another header": (saying(b"HTTP/1.1 200 OK\r\nX-New: 1\r\nContent-Length: 5\r\n\r\nhello"), 200, b"hello"),
    "until it closes": (saying(b"HTTP/1.1 200 OK\r\n\r\nhello", then_close=True), 200, b"hello"),
    "nonsense": (saying(b"nonsense\r\n\r\n", then_close=True), 502, b""),
    "nothing": (saying(b"", then_close=True), 502, b""),
    "continue": (saying(b"HTTP/1.1 100 Continue\r\n\r\n" + OK), 200, SMALL),
}


@pytest.mark.parametrize("name", OTHERWISE)
async def test_an_upstream_that_does_otherwise_is_heard_as_ever(gateway: Gateway, name: str) -> None:
    respond, status, body = OTHERWISE[name]
    async with warm(gateway, data := request(gateway)) as (client, errands):
        gateway.upstream.respond = after(respond, say_ok)
        other = await ask(client, data)
        assert errands.begun == 1
        assert other.status == status
        assert not body or other.body == body
        again = await ask(client, data)
        assert (again.status, again.body) == (200, SMALL)
        assert (other.all("x-new"), again.all("x-new")) == (["1"] * (name == "another header"), [])
        assert [r.status for r in gateway.journal.records[-2:]] == [status, 200]
        assert gateway.journal.records[-2].bytes_out == len(other.body)
        assert gateway.metrics.inflight == 0


async def test_a_slow_piece_of_the_answer_is_waited_for(gateway: Gateway) -> None:
    arrived = asyncio.Event()

    async def respond(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        await arrived.wait()
        writer.write(b"later")

    async with warm(gateway, data := request(gateway)) as (client, errands):
        gateway.upstream.respond = respond
        client[1].write(data)
        head = await client[0].readuntil(b"first")
        assert b"Content-Length: 10" in head
        arrived.set()
        assert await client[0].readexactly(5) == b"later"
        assert errands.stuck == 1


async def test_an_upstream_that_is_gone_is_502_and_its_return_is_noticed(gateway: Gateway) -> None:
    async with warm(gateway, data := request(gateway)) as (client, errands):
        await gateway.upstream.stop()
        refused = await ask(client, data)
        assert refused.status == 502
        await gateway.upstream.start()
        assert (await ask(client, data)).status == 200
        assert errands.begun >= 1


async def test_a_connection_that_was_closed_at_rest_costs_nothing(gateway: Gateway) -> None:
    """The next one is asked, and nothing is sent twice."""
    async with warm(gateway, data := request(gateway)) as (client, _):
        before = len(gateway.upstream.seen)
        for upstream in gateway.pool._idle:
            upstream.idle_since -= 1  # it has rested
        for writer in tuple(gateway.upstream._writers):
            writer.close()
        assert (await ask(client, data)).status == 200
        assert len(gateway.upstream.seen) == before + 1


async def test_too_slow_an_upstream_is_504(gateway: Gateway) -> None:
    gate = Gate()
    async with warm(gateway, data := request(gateway)) as (client, errands):
        gateway.upstream.respond = gate.respond
        client[1].write(data)
        await gate.asked.wait()
        (upstream,) = (c for c in gateway.pool._all if c not in gateway.pool._idle)
        upstream.deadline = 0.0
        assert (await answer(client[0])).status == 504
        assert errands.stuck == 1
        assert gateway.metrics.inflight == 0


# --- the client does otherwise ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("behind", ["the same", "another", "a part of one", "both"])
async def test_what_comes_behind_it_is_answered_after_it(gateway: Gateway, behind: str) -> None:
    gate, other = Gate(), request(gateway, target="/v1/models?other")
    async with warm(gateway, data := request(gateway)) as (client, errands):
        gateway.upstream.respond = after(gate.respond, say_ok)
        client[1].write(data)
        await gate.asked.wait()
        before = len(gateway.upstream.seen)
        rest = {"the same": (data,), "another": (other,), "a part of one": (other[:30],), "both": (data, other, data)}
        for piece in rest[behind]:
            client[1].write(piece)
            assert (await gateway.ask(target="/v1/models/elsewhere")).status in (200, 404)  # by now it has been read
        between = [s.target for s in gateway.upstream.seen[before:] if "elsewhere" not in s.target]
        assert between == []
        gate.open.set()
        assert (await answer(client[0])).status == 200
        if behind == "a part of one":
            client[1].write(other[30:])
        for _ in rest[behind]:
            assert (await answer(client[0])).status == 200
        asked = [s.target for s in gateway.upstream.seen[before:] if "elsewhere" not in s.target]
        assert asked == [
            piece.split()[1].decode() if piece != other[:30] else "/v1/models?other" for piece in rest[behind]
        ]
        assert (await ask(client, data)).status == 200
        assert errands.begun >= 1
        assert gateway.metrics.inflight == 0


async def test_a_client_that_leaves_is_noted_and_the_upstream_let_go(gateway: Gateway) -> None:
    gate = Gate()
    async with warm(gateway, data := request(gateway)) as (client, _):
        gateway.upstream.respond = gate.respond
        before = len(gateway.journal.rows)
        client[1].write(data)
        await gate.asked.wait()
        client[1].transport.abort()
        await until(lambda: len(gateway.journal.rows) > before)
        record = gateway.journal.records[-1]
        assert (record.outcome, record.status) == (Outcome.CLIENT_GONE, 499)
        assert gateway.metrics.inflight == 0
        assert not gateway.pool._all


@RATES
async def test_a_client_that_leaves_before_the_limiter_has_answered_asks_nobody(gateway: Gateway) -> None:
    waiting: list[Waiter[Taken]] = []
    async with warm(gateway, data := request(gateway)) as (client, _):
        gateway.counters.take_for = lambda _, waiter: waiting.append(waiter)  # type: ignore[method-assign]
        before = len(gateway.upstream.seen)
        client[1].write(data)
        await until(lambda: bool(waiting))
        client[1].transport.abort()
        await until(lambda: gateway.lines[-1]["outcome"] != "ok")
        assert waiting[0].done()
        assert not gateway.metrics.inflight
        assert len(gateway.upstream.seen) == before
        assert (gateway.lines[-1]["outcome"], gateway.lines[-1]["status"]) == ("client_gone", 499)
        record = gateway.journal.records[-1]  # whose it was is known
        assert (record.request_id, record.outcome) == (gateway.lines[-1]["request_id"], Outcome.CLIENT_GONE)


async def test_a_long_wait_is_no_idleness() -> None:
    """The time in which the next request must begin does not run while one is being served."""
    gate = Gate()
    options = Options(default_rate=Rate(10_000, 60_000), patience=Patience(idle_s=0.05))
    async with running(options) as gateway, warm(gateway, data := request(gateway)) as (client, errands):
        gateway.upstream.respond = gate.respond
        client[1].write(data)
        await gate.asked.wait()
        (connection,) = (one for one in gateway.server.connections if one.is_busy)
        connection._next_keepalive_close_time = 0.0
        connection._process_keepalive()  # the time is over
        gate.open.set()
        assert (await answer(client[0])).status == 200
        assert errands.begun == 1
        async with asyncio.timeout(30):
            assert await client[0].read() == b""  # now it is idle


# --- the end ----------------------------------------------------------------------------------------------------------


async def test_a_drain_lets_it_finish_and_takes_one_more(gateway: Gateway) -> None:
    gate = Gate()
    async with warm(gateway, data := request(gateway)) as (client, _):
        gateway.upstream.respond = after(gate.respond, say_ok)
        client[1].write(data)
        await gate.asked.wait()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(gateway.server.drain(10.0, 5.0))
            await until(lambda: gateway.server.idle is not None)
            gate.open.set()
            assert (await answer(client[0])).status == 200
            last = await ask(client, data)
            assert last["connection"] == "close"
            assert await client[0].read() == b""


async def test_what_the_end_of_a_drain_cuts_off_is_our_failure(gateway: Gateway) -> None:
    gate = Gate()
    async with warm(gateway, data := request(gateway)) as (client, _):
        gateway.upstream.respond = gate.respond
        client[1].write(data)
        await gate.asked.wait()
        await gateway.server.drain(0.05, 0.05)
        record = gateway.journal.records[-1]
        assert (record.outcome, record.status) == (Outcome.GATEWAY_FAILED, 503)
        assert gateway.metrics.inflight == 0


BUGS = [
    "gateway.dataplane.gatekeeper.Gatekeeper.stands",
    "gateway.identity.snapshot.Snapshot.known",
    "gateway.upstreams.addresses.Upstream.idle",
    "gateway.dataplane.repeats.request_head",
    "gateway.upstreams.connection.UpstreamConnection.ask",
    "gateway.upstreams.connection.UpstreamConnection.take",
    "gateway.dataplane.repeats.Errand.ends_like",
    "gateway.dataplane.settlement.fill",
    "tests.gateway.harness.MemoryJournal.append_all",
]


LIMITERS = {
    "rates": [
        "tests.gateway.harness.SwitchableCounters.take_for",
        "gateway.dataplane.gatekeeper.conclude",
        "gateway.dataplane.repeats.state_line",
    ],
    "held": [
        "tests.gateway.holding.SwitchableHolds.hold_for",
        "gateway.dataplane.holder.demands",
        "gateway.dataplane.holder._Hold",
        "gateway.dataplane.holder.conclude_held",
    ],
}
CASES = [(limits, where) for limits, own in LIMITERS.items() for where in (*BUGS, *own)]


@pytest.mark.parametrize(("gateway", "where"), CASES, indirect=["gateway"])
async def test_a_bug_is_500_is_recorded_and_leaves_nothing_behind(
    gateway: Gateway, where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Wherever it is. What only the errand stumbles over, the task may do right."""

    def bug(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    async with warm(gateway, data := request(gateway)) as (client, _):
        before = len(gateway.journal.rows)
        monkeypatch.setattr(where, bug)
        told = await ask(client, data)
        assert where.endswith((".stands", ".hold_for")) or (told.status, told.code) == (500, "internal_error")
        await until(lambda: not gateway.metrics.inflight and not gateway.pool.busy)
        assert [line["request_id"] for line in gateway.lines[before:]] == [told["x-request-id"]]
        whose = "tenant_id" in gateway.lines[-1]
        assert [r.status for r in gateway.journal.records[before:]] == [told.status] * whose
        monkeypatch.undo()
        assert (await gateway.ask()).status == 200
