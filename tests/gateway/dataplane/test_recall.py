"""A proxy's question that comes again is answered without a task, on any connection; nobody can tell the difference."""

import asyncio
import contextlib
import ipaddress
import os
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway.dataplane.forward_auth import Manners
from gateway.dataplane.inquiries import Known
from gateway.dataplane.remembered import Remembered
from policies.account.usage import Outcome
from policies.identity.principals import Standing
from policies.limits.allowances import Allowance, Scope, What
from policies.limits.rates import Charge, Rate, Taken
from storage.journal.writer import JournalFull
from storage.ports import Invalidation, Unavailable, Waiter
from tests.gateway.dataplane.test_repeats import Client, Errands, answer, ask, replace_varying
from tests.gateway.harness import Gateway, Options, running
from tests.storage.waiting import until

HERE = ipaddress.ip_network("127.0.0.1/32")
MANY = Rate(9_000, 86_400_000)


def question(
    gateway: Gateway, *lines: str, dialect: str = "", about: str = "/v1/models", method: str = "GET", key: str = ""
) -> bytes:
    """As nginx asks, or another proxy."""
    named = "Uri" if dialect else "URI"
    said = [f"X-{'Forwarded' if dialect else 'Original'}-{named}: {about}"]
    said += [f"X-{'Forwarded' if dialect else 'Original'}-Method: {method}"]
    target, asks = f"/auth/verify/{dialect}".rstrip("/"), "GET"
    if dialect == "envoy":
        said, target, asks = [], f"{target}{about}", method
    head = [f"{asks} {target} HTTP/1.1", "Host: gateway", f"Authorization: Bearer {key or gateway.key}", *said, *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n"


async def connect(gateway: Gateway) -> Client:
    return await asyncio.open_connection("127.0.0.1", gateway.port)


@contextlib.asynccontextmanager
async def warm(gateway: Gateway, *questions: bytes) -> AsyncIterator[tuple[Client, Client, Errands]]:
    """Two connections of a proxy; the questions are known from the first one, and were never asked on the second."""
    errands = Errands(gateway)
    first, second = await connect(gateway), await connect(gateway)
    other = question(gateway, "X-Another: one")
    try:
        for data in questions:
            errands.begun = 0
            while not errands.begun:
                assert (await ask(first, data)).status == 200
        assert (await ask(second, other)).status == 200
        errands.begun = errands.stuck = 0
        yield first, second, errands
    finally:
        first[1].close()
        second[1].close()


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with running(Options(trusted=(HERE,), default_rate=MANY)) as gateway:
        yield gateway


SETUPS: dict[str, tuple[Options, str, tuple[str, ...]]] = {
    "nginx": (Options(default_rate=MANY), "", ()),
    "nginx, without a limit": (Options(), "", ()),
    "nginx, 202 and as oauth2-proxy": (Options(manners=Manners(status=202, oauth2_proxy=True)), "", ()),
    "Traefik": (Options(default_rate=MANY), "traefik", ()),
    "Caddy": (Options(default_rate=MANY), "caddy", ("X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https")),
    "Envoy": (Options(default_rate=MANY), "envoy", ()),
    "signed": (Options(assertion=lambda *_: "a.signed.one"), "", ()),
}


@pytest.mark.parametrize("name", SETUPS)
async def test_proxy_account_log_and_figures_cannot_tell_it_from_the_first(name: str) -> None:
    options, dialect, lines = SETUPS[name]
    async with running(replace(options, trusted=(HERE,))) as gateway:
        data = question(gateway, *lines, dialect=dialect, about="/v1/models?a=1")
        errands = Errands(gateway)
        clients = [await connect(gateway) for _ in range(2)]
        answers = [await ask(clients[turn % 2], data) for turn in range(8)]
        for client in clients:
            client[1].close()
        assert errands.begun >= 4
        assert not errands.stuck
        varying = ("x-request-id", "ratelimit", "date")
        plain = {(a.status, a.body, tuple((n, v) for n, v in a.headers if n not in varying)) for a in answers}
        assert len(plain) == 1
        assert len({tuple(n for n, _ in a.headers) for a in answers}) == 1
        assert all(a["x-tenant-id"] == "ten_a" and a["date"].endswith("GMT") for a in answers)
        ids = [a["x-request-id"] for a in answers]
        assert len(set(ids)) == 8
        if options.default_rate is not None:
            left = [int(a["ratelimit"].partition("r=")[2].partition(";")[0]) for a in answers]
            assert left == sorted(left, reverse=True)
            assert len(set(left)) == 8
            assert gateway.metrics.ratelimit == {("tenant-requests", "admitted"): 8}
        records = gateway.journal.records
        assert [r.request_id for r in records] == ids
        assert len({r.event_id for r in records}) == 8
        assert len({replace_varying(r) for r in records}) == 1  # type: ignore[arg-type]
        assert [line["request_id"] for line in gateway.lines] == ids
        assert {(line["door"], line["path"], line["ua"]) for line in gateway.lines} == {
            ("forward_auth", "/v1/models", "")
        }
        changing = {"ts", "request_id", "duration_ms"}
        assert len({tuple((k, str(v)) for k, v in line.items() if k not in changing) for line in gateway.lines}) == 1
        figures = gateway.metrics.route("openai.models")
        assert sum(figures.requests.values()) == sum(figures.duration.counts) == sum(figures.overhead.counts) == 8
        assert gateway.metrics.auth == {("api_key", "ok"): 8}
        assert not gateway.metrics.upstream
        assert gateway.metrics.inflight == 0
        assert not gateway.upstream.seen


# --- what it rests on is asked each time ------------------------------------------------------------------------------


async def test_each_client_of_a_proxy_is_told_of_itself_alone(gateway: Gateway) -> None:
    """Their questions differ in the key alone, and come in turn over the same connections."""
    keys = [gateway.add_key(tenant_id=f"ten_{n}") for n in range(20)]
    questions = [question(gateway, key=key) for key in keys]
    async with warm(gateway, *questions) as (first, second, errands):
        for turn in range(3):
            for number, data in enumerate(questions):
                told = await ask((first, second)[(number + turn) % 2], data)
                assert (told["x-tenant-id"], told["x-api-key-id"]) == (f"ten_{number}", f"key_{number + 2}")
        assert errands.begun == 60
        assert [r.tenant_id for r in gateway.journal.records[-20:]] == [f"ten_{n}" for n in range(20)]


async def test_a_limit_refuses_the_very_next_one_on_whichever_connection() -> None:
    async with running(Options(trusted=(HERE,))) as gateway:
        key = gateway.add_key(key_rate=Rate(8, 3_600_000))
        async with warm(gateway, data := question(gateway, key=key)) as (first, second, errands):
            statuses = []
            while 403 not in statuses:
                refused = await ask((first, second)[len(statuses) % 2], data)
                statuses.append(refused.status)
            assert errands.stuck == 1
            assert (refused["x-auth-status"], refused["x-auth-code"]) == ("429", "rate_limit_exceeded")
            assert int(refused["retry-after"]) > 0
            assert not refused.all("x-tenant-id")
            mine = [r.outcome for r in gateway.journal.records if r.key_id == "key_2"]
            assert mine == [Outcome.OK] * 8 + [Outcome.DENIED]
            assert gateway.metrics.denials == {("rate_limit_exceeded",): 1}
            assert gateway.lines[-1]["door"] == "forward_auth"
            assert gateway.metrics.inflight == 0


async def test_a_limit_of_another_dialect_refuses_as_that_does() -> None:
    async with running(Options(trusted=(HERE,))) as gateway:
        key = gateway.add_key(key_rate=Rate(8, 3_600_000))
        async with warm(gateway, data := question(gateway, dialect="traefik", key=key)) as (client, _, errands):
            while (refused := await ask(client, data)).status == 200:
                pass
            assert (refused.status, refused.code, errands.stuck) == (429, "rate_limit_exceeded", 1)


async def test_a_revoked_key_is_refused_and_let_in_again_when_it_is_good(gateway: Gateway) -> None:
    async with warm(gateway, data := question(gateway)) as (first, second, errands):
        (digest, principal), *_ = gateway.keys.by_digest.items()
        for change, status in (
            ({"standing": Standing.REVOKED}, "401"),
            ({"standing": Standing.TENANT_SUSPENDED}, "403"),
            ({"scopes": frozenset()}, "403"),
        ):
            gateway.keys.by_digest[digest] = replace(principal, **change)  # type: ignore[arg-type]
            gateway.snapshot.forget(Invalidation())
            for client in (first, second, first):
                assert (await ask(client, data))["x-auth-status"] == status
        assert not errands.begun
        gateway.keys.by_digest[digest] = principal
        gateway.snapshot.forget(Invalidation())
        assert {(await ask(client, data)).status for client in (first, second, first)} == {200}
        assert errands.begun


async def test_a_key_that_expires_is_refused_in_that_millisecond(gateway: Gateway) -> None:
    async with warm(gateway, data := question(gateway)) as (client, _, errands):
        entry = next(iter(gateway.snapshot._entries.values()))
        object.__setattr__(entry.permits["openai.models"].principal, "expires_ms", 1)
        refused = await ask(client, data)
        assert (refused["x-auth-code"], errands.begun) == ("api_key_expired", 0)
        object.__setattr__(entry.permits["openai.models"].principal, "expires_ms", None)


async def test_a_changed_key_is_said_changed(gateway: Gateway) -> None:
    async with warm(gateway, data := question(gateway)) as (first, second, errands):
        (digest, principal), *_ = gateway.keys.by_digest.items()
        gateway.keys.by_digest[digest] = replace(principal, tenant_id="ten_b", roles=("owner",))
        gateway.snapshot.forget(Invalidation())
        for client in (first, second, first, second):
            told = await ask(client, data)
            assert (told["x-tenant-id"], told["x-auth-roles"]) == ("ten_b", "owner")
        assert errands.begun
        assert {r.tenant_id for r in gateway.journal.records[-4:]} == {"ten_b"}


async def test_what_is_held_of_a_limit_is_held_and_given_back_each_time(gateway: Gateway) -> None:
    """Also where the counter of a month has to be told by the ledger, where the limit is used up, and without Redis."""
    several = Allowance.parse(What.CONCURRENCY, "99"), Allowance.parse(What.REQUESTS, "9/month")
    key = gateway.add_key(allowances=tuple(replace(one, scope=Scope.KEY) for one in several))
    async with warm(gateway, data := question(gateway, key=key)) as (first, second, errands):
        asked = len(gateway.journal.rows) - 1  # one of them was another key's
        for client in (first, second) * 2:
            told = await ask(client, data)
            assert (told.status, told["ratelimit"].partition(";")[0]) == (200, '"key-requests-month"')
            assert gateway.holding.holds.held == 0
        assert (errands.begun, errands.stuck) == (4, 0)
        gateway.holding.holds._tallies.clear()
        gateway.holding.account.before = asked + 4
        assert (await ask(first, data))["ratelimit"].startswith(f'"key-requests-month";r={4 - asked};')
        gateway.holding.holds.down = True
        assert (await ask(first, data)).status == 200
        assert (errands.begun, errands.stuck) == (6, 2)
        gateway.holding.holds.down = False
        while (refused := await ask(second, data)).status == 200:
            assert gateway.holding.holds.held == 0
        assert (refused["x-auth-status"], refused["x-auth-code"]) == ("429", "quota_exceeded")
        assert errands.stuck == 3
        mine = [r.outcome for r in gateway.journal.records if r.key_id == "key_2"]
        assert mine == [Outcome.OK] * (len(mine) - 1) + [Outcome.DENIED]
        assert gateway.metrics.inflight == gateway.holding.holds.held == 0
    elsewhere = gateway.add_key(allowances=(replace(Allowance.parse(What.STREAMS, "1"), scope=Scope.KEY),))
    async with warm(gateway, question(gateway, key=elsewhere)):  # what it does not touch makes no difference
        assert gateway.holding.holds.held == 0


async def test_a_full_journal_refuses(gateway: Gateway) -> None:
    async with warm(gateway, data := question(gateway)) as (client, _, errands):
        gateway.journal.full = True
        assert (await ask(client, data))["x-auth-code"] == "account_unavailable"
        assert not errands.begun


async def test_a_record_that_finds_no_room_is_said(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: bytes) -> None:
        raise JournalFull("no space left")

    async with warm(gateway, data := question(gateway)) as (client, _, errands):
        monkeypatch.setattr(gateway.journal, "append", fail)
        monkeypatch.setattr(gateway.journal, "append_all", lambda _: 0)
        assert (await ask(client, data)).status == 200
        assert errands.begun == 1
        assert "no space left" in str(gateway.lines[-1]["cause"])


@pytest.mark.parametrize("down", [True, False])
async def test_without_the_limiter_each_worker_counts_alone(gateway: Gateway, down: bool) -> None:
    """Whether it says so at once or after its time-out."""

    def later(_: tuple[Charge, ...], waiter: Waiter[Taken]) -> None:
        asyncio.get_running_loop().call_later(0.01, waiter.set_exception, Unavailable("Redis is down"))

    async with warm(gateway, data := question(gateway)) as (client, _, errands):
        gateway.counters.down = True
        if not down:
            gateway.counters.take_for = later  # type: ignore[method-assign]
        told = await ask(client, data)
        assert (told.status, told["x-tenant-id"], errands.stuck) == (200, "ten_a", 1)
        assert "r=" in told["ratelimit"]
        assert gateway.metrics.fail_open[("ratelimit",)] == 1
        assert gateway.metrics.inflight == 0


async def test_whence_a_client_asks_is_part_of_its_question(gateway: Gateway) -> None:
    """A key that is bound to a network is judged by the address that the proxy names."""
    key = gateway.add_key(networks=(ipaddress.ip_network("192.0.2.0/24"),))
    inside = question(gateway, "X-Forwarded-For: 192.0.2.7", key=key)
    outside = question(gateway, "X-Forwarded-For: 198.51.100.7", key=key)
    async with warm(gateway, inside) as (first, second, errands):
        for client in (first, second, first):
            assert (await ask(client, outside))["x-auth-status"] == "403"
            assert (await ask(client, inside)).status == 200
        assert errands.begun == 3


async def test_the_same_bytes_from_an_address_that_is_not_trusted_are_refused(gateway: Gateway) -> None:
    async with warm(gateway, data := question(gateway)):
        stranger = await asyncio.open_connection("127.0.0.1", gateway.port, local_addr=("127.0.0.2", 0))
        for _ in range(3):
            assert (await ask(stranger, data))["x-auth-code"] == "untrusted_proxy"
        stranger[1].close()


async def test_of_two_proxies_that_say_the_same_each_is_known_by_its_own_address() -> None:
    """Who says nothing of earlier hops is the client itself, and a key may be bound to the address of one of them."""
    async with running(Options(trusted=(ipaddress.ip_network("127.0.0.0/8"),))) as gateway:
        key = gateway.add_key(networks=(HERE,))
        other = await asyncio.open_connection("127.0.0.1", gateway.port, local_addr=("127.0.0.2", 0))
        async with warm(gateway, data := question(gateway, key=key)) as (client, _, errands):
            assert (await ask(other, question(gateway))).status == 200  # it is trusted, and remembered alike
            for _ in range(3):
                assert (await ask(other, data))["x-auth-code"] == "address_not_allowed"
                assert gateway.lines[-1]["remote_ip"] == "127.0.0.2"
                assert (await ask(client, data)).status == 200
                assert gateway.lines[-1]["remote_ip"] == "127.0.0.1"
            assert errands.begun == 3
        other[1].close()


# --- what is not remembered -------------------------------------------------------------------------------------------

ANEW: dict[str, tuple[str, ...]] = {
    "a client's own id": ("X-Request-ID: mine-1",),
    "an upgrade": ("Upgrade: websocket",),
    "a stream's subprotocols": ("Sec-WebSocket-Protocol: a, b",),
    "a long one": (f"X-Long: {'x' * 5_000}",),
    "the end of the connection": ("Connection: close",),
}


@pytest.mark.parametrize("name", ANEW)
async def test_a_question_with_more_to_it_is_judged_anew(gateway: Gateway, name: str) -> None:
    async with warm(gateway, question(gateway)) as (_, _, errands):
        for _ in range(3):
            client = await connect(gateway)
            told = await ask(client, question(gateway, *ANEW[name]))
            assert (told.status, errands.begun) == (200, 0)
            if name == "a client's own id":
                assert told["x-request-id"] == "mine-1"
            client[1].close()


async def test_no_is_not_remembered(gateway: Gateway) -> None:
    data = question(gateway, about="/load", method="POST")
    async with warm(gateway, question(gateway)) as (client, _, errands):
        for _ in range(4):
            assert (await ask(client, data))["x-auth-status"] == "404"
        assert not errands.begun


async def test_a_question_is_known_by_all_of_its_bytes(gateway: Gateway) -> None:
    """Method, target and every header: another one, an upper case, a blank."""
    data = question(gateway, "X-Extra: a")
    async with warm(gateway, data) as (client, _, errands):
        for other in (
            data.replace(b"X-Original-Method: GET", b"X-Original-Method: PUT"),
            data.replace(b"/v1/models", b"/v1/modelz"),
            data.replace(b"X-Extra: a", b"X-Extra: b"),
            data.replace(b"X-Extra: a", b"x-extra: a"),
            data.replace(b"X-Extra: a", b"X-Extra:  a"),
            data.replace(b"Host: gateway", b"Host: gatewaz"),
        ):
            assert len(other) == len(data) or b"  a" in other
            assert (await ask(client, other)).status in (200, 403)
            assert not errands.begun
        assert (await ask(client, data)).status == 200
        assert errands.begun == 1


def test_what_is_remembered_is_bounded() -> None:
    """Beginning anew costs two looks at each question that still comes; growing would cost the worker."""
    memory: Remembered[bytes, str] = Remembered()
    for number in range(5_000):
        memory.keep(b"%d" % number, "something")
    assert 0 < len(memory._kept) <= 2_000
    assert memory.find(b"4999") == "something"
    for number in range(50_000):
        assert not memory.has_come(b"%d" % number)
    assert 0 < len(memory._seen) <= 20_000
    assert memory.has_come(b"49999")


# --- how it comes -----------------------------------------------------------------------------------------------------


async def test_in_pieces_and_in_rows_it_is_answered_each_time_and_in_turn(gateway: Gateway) -> None:
    key = gateway.add_key(tenant_id="ten_b")
    data, other = question(gateway), question(gateway, key=key)
    async with warm(gateway, data, other) as (client, second, errands):
        reader, writer = client
        for place in (*range(1, len(data) - 4, 7), *range(len(data) - 4, len(data))):
            writer.write(data[:place])
            assert (await ask(second, other))["x-tenant-id"] == "ten_b"  # by now the piece has been read
            writer.write(data[place:])
            assert (await answer(reader))["x-tenant-id"] == "ten_a"
            errands.begun = 0
            assert (await ask(client, other))["x-tenant-id"] == "ten_b"
            assert errands.begun == (
                place <= len(data) - 4
            )  # the parser is between two messages again, and known to be
        for row in ((data, other), (other, data, other), (data,) * 5):
            writer.write(b"".join(row))
            told = [(await answer(reader))["x-tenant-id"] for _ in row]
            assert told == ["ten_a" if one is data else "ten_b" for one in row]
        assert gateway.metrics.inflight == 0


async def test_what_comes_behind_it_is_answered_after_it(gateway: Gateway) -> None:
    waiting: list[tuple[tuple[Charge, ...], Waiter[Taken]]] = []
    key = gateway.add_key(tenant_id="ten_b")
    data, other = question(gateway), question(gateway, key=key)
    async with warm(gateway, data, other) as ((reader, writer), second, _):
        usual = gateway.counters.take_for
        gateway.counters.take_for = lambda *take: waiting.append(take)  # type: ignore[method-assign]
        writer.write(data)
        await until(lambda: bool(waiting))
        gateway.counters.take_for = usual  # type: ignore[method-assign]
        writer.write(other)
        assert (await ask(second, data)).status == 200
        usual(*waiting[0])
        assert [(await answer(reader))["x-tenant-id"] for _ in range(2)] == ["ten_a", "ten_b"]


async def test_bytes_of_a_body_are_no_question(gateway: Gateway) -> None:
    """Also on a connection of a proxy that carries other requests to us as well."""
    data = question(gateway)
    upload = (
        f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {gateway.key}\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {2 * len(data)}\r\n\r\n"
    ).encode()
    async with warm(gateway, data) as (client, second, errands):
        client[1].write(upload)
        for _ in range(2):
            assert (await ask(second, question(gateway, "X-Another: one"))).status == 200  # the others have been read
            client[1].write(data)
        assert (await answer(client[0])).status == 200
        assert [s.body for s in gateway.upstream.seen] == [data * 2]
        errands.begun = 0
        assert (await ask(client, data))["x-tenant-id"] == "ten_a"


async def test_a_proxy_that_leaves_before_the_limiter_has_answered_is_noted(gateway: Gateway) -> None:
    waiting: list[Waiter[Taken]] = []
    async with warm(gateway, data := question(gateway)) as (client, _, _):
        gateway.counters.take_for = lambda _, waiter: waiting.append(waiter)  # type: ignore[method-assign]
        client[1].write(data)
        await until(lambda: bool(waiting))
        client[1].transport.abort()
        await until(lambda: gateway.lines[-1]["outcome"] != "ok")
        assert waiting[0].done()
        assert not gateway.metrics.inflight
        line = gateway.lines[-1]
        assert (line["outcome"], line["status"], line["door"], line["path"]) == (
            "client_gone", 499, "forward_auth", "/v1/models",
        )  # fmt: skip
        record = gateway.journal.records[-1]
        assert (record.request_id, record.outcome) == (line["request_id"], Outcome.CLIENT_GONE)


async def test_what_comes_behind_the_last_one_is_not_answered(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It found the half of the connection closed that its answer was to go to, and the answers of others with it."""
    monkeypatch.setattr("gateway.dataplane.delivery.LINGER_S", 300.0)
    async with warm(gateway, data := question(gateway)) as ((reader, writer), _, errands):
        take = gateway.counters.take

        async def late(charges: tuple[Charge, ...]) -> Taken:
            os.write(writer.transport.get_extra_info("socket").fileno(), data)
            return await take(charges)

        gateway.counters.take = late  # type: ignore[method-assign]
        before = len(gateway.journal.rows)
        assert (await ask((reader, writer), question(gateway, "Connection: close")))["connection"] == "close"
        assert await reader.read() == b""
        writer.close()
        await until(lambda: gateway.metrics.connections == 1)
        assert (errands.begun, gateway.metrics.inflight, len(gateway.journal.rows) - before) == (0, 0, 1)


async def test_a_drain_takes_one_more_and_ends(gateway: Gateway) -> None:
    async with warm(gateway, data := question(gateway)) as (client, second, _):
        second[1].close()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(gateway.server.drain(10.0, 5.0))
            await until(lambda: gateway.server.idle is not None)
            last = await ask(client, data)
            assert (last.status, last["connection"], last["x-tenant-id"]) == (200, "close", "ten_a")
            assert await client[0].read() == b""


BUGS = [
    "gateway.dataplane.gatekeeper.Gatekeeper.stands",
    "gateway.identity.snapshot.Snapshot.known",
    "tests.gateway.harness.SwitchableCounters.take_for",
    "gateway.dataplane.gatekeeper.conclude",
    "gateway.dataplane.recall.state_line",
    "gateway.dataplane.recall.Reply.ends_like",
    "gateway.dataplane.settlement.fill",
    "tests.gateway.harness.MemoryJournal.append_all",
]


BUGS_OF_HOLDING = ["gateway.dataplane.holder._Hold", "gateway.dataplane.holder.conclude_held"]


@pytest.mark.parametrize("where", BUGS + BUGS_OF_HOLDING)
async def test_a_bug_is_never_yes_is_recorded_and_leaves_nothing_behind(
    gateway: Gateway, where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Wherever it is. What only the errand stumbles over, the task may do right."""
    if where in BUGS_OF_HOLDING:
        ((digest, principal),) = gateway.keys.by_digest.items()
        gateway.keys.by_digest[digest] = replace(principal, allowances=(Allowance.parse(What.REQUESTS, "99/month"),))

    def bug(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    async with warm(gateway, data := question(gateway)) as (client, _, _):
        before = len(gateway.journal.rows)
        monkeypatch.setattr(where, bug)
        told = await ask(client, data)
        assert where.endswith(".stands") or (told.status, told.code) == (500, "internal_error")
        await until(lambda: not gateway.metrics.inflight)
        assert [line["request_id"] for line in gateway.lines[before:]] == [told["x-request-id"]]
        whose = "tenant_id" in gateway.lines[-1]
        assert [r.status for r in gateway.journal.records[before:]] == [told.status] * whose
        assert not gateway.holding.holds.held
        monkeypatch.undo()
        again = await connect(gateway)
        assert (await ask(again, data)).status == 200
        again[1].close()


# --- headers of the requests that a proxy carries ---------------------------------------------------------------------


class Counted:
    """Counts the headers that are worked out."""

    def __init__(self, gateway: Gateway) -> None:
        self.times = 0
        self._know = gateway.proxy._reader.know
        gateway.proxy._reader.know = self.know  # type: ignore[method-assign]

    def know(self, *args: object) -> Known:
        self.times += 1
        return self._know(*args)  # type: ignore[arg-type]


def carried(key: str, *lines: str) -> bytes:
    """A client's request, as a proxy passes it on."""
    head = ["GET /v1/models HTTP/1.1", "Host: a", f"X-API-Key: {key}", *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n"


async def test_headers_that_a_proxy_sends_again_are_worked_out_once_and_are_each_clients_own(gateway: Gateway) -> None:
    """Whichever of its connections they come on; who asks, whence and as whom is told, logged and accounted as ever."""
    counted = Counted(gateway)
    keys = [gateway.add_key(tenant_id=f"ten_{n}", networks=(ipaddress.ip_network("192.0.2.0/24"),)) for n in range(5)]
    requests = [carried(key, f"X-Forwarded-For: 192.0.2.{n}") for n, key in enumerate(keys)]
    outside = carried(keys[0], "X-Forwarded-For: 198.51.100.1")
    clients = [await connect(gateway) for _ in range(2)]
    for turn in range(6):
        for number, data in enumerate(requests):
            assert (await ask(clients[(turn + number) % 2], data)).status == 200
            assert gateway.upstream.seen[-1].all("x-tenant-id") == [f"ten_{number}"]
            assert gateway.upstream.seen[-1].all("x-forwarded-for") == [f"192.0.2.{number}, 127.0.0.1"]
            assert gateway.lines[-1]["remote_ip"] == f"192.0.2.{number}"
            assert gateway.journal.records[-1].tenant_id == f"ten_{number}"
        assert (await ask(clients[turn % 2], outside)).code == "address_not_allowed"
    assert counted.times == 12  # a header is kept when it comes the second time
    gateway.keys.by_digest.clear()
    gateway.snapshot.forget(Invalidation())
    assert {(await ask(client, requests[0])).status for client in clients} == {401}
    assert counted.times == 12
    for client in clients:
        client[1].close()


async def test_what_others_send_is_worked_out_for_each_connection() -> None:
    """And of a proxy's what is long, or asks for an upgrade."""
    async with running() as gateway:
        counted = Counted(gateway)
        for _ in range(3):
            client = await connect(gateway)
            assert (await ask(client, carried(gateway.key))).status == 200
            client[1].close()
        assert counted.times == 3
    async with running(Options(trusted=(HERE,))) as gateway:
        counted = Counted(gateway)
        for line in (f"X-Long: {'x' * 5_000}", "Upgrade: h2c"):
            for _ in range(3):
                client = await connect(gateway)
                assert (await ask(client, carried(gateway.key, line))).status in (200, 400)
                client[1].close()
        assert counted.times == 6
