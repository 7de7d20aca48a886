"""An upstream with several addresses: who gets a request, who gets none, and what is never sent twice."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from gateway.configuration.upstreams import UpstreamSettings
from gateway.tasks import Tasks
from gateway.telemetry.metrics import Metrics
from gateway.upstreams import addresses as upstreams
from gateway.upstreams.addresses import Upstream
from gateway.upstreams.connection import UpstreamConnection
from gateway.upstreams.failures import Broke, NoneLeft, Unreachable, Unsent
from gateway.upstreams.pool import UpstreamPool
from gateway.upstreams.status import upstream_status
from policies.routing.upstreams import Rules
from tests.certificates import LOCALHOST, make_certificate
from tests.gateway.harness import Gateway, Options, RecordingUpstream, running, say_ok
from tests.gateway.upstreams.test_connection import ASK, Scripted, answer_of, ask, says
from tests.ports import free_port
from tests.storage.waiting import until


def dead_address() -> str:
    """An address at which nobody listens."""
    return f"http://127.0.0.1:{free_port()}"


@contextlib.asynccontextmanager
async def recorders(count: int) -> AsyncIterator[list[RecordingUpstream]]:
    made = [RecordingUpstream() for _ in range(count)]
    for one in made:
        await one.start()
    try:
        yield made
    finally:
        for one in made:
            await one.stop()


def addresses(*given: RecordingUpstream | str) -> tuple[str, ...]:
    return tuple(a if isinstance(a, str) else f"http://127.0.0.1:{a.port}" for a in given)


@contextlib.asynccontextmanager
async def in_front_of(*given: RecordingUpstream | str, **settings: object) -> AsyncIterator[Gateway]:
    made = UpstreamSettings(addresses=addresses(*given), **settings)  # type: ignore[arg-type]
    async with running(Options(upstream_settings=made)) as gateway:
        yield gateway


# --- choice ----------------------------------------------------------------------------------------------------------


async def test_requests_are_shared_by_what_is_in_flight() -> None:
    """One that is busy gets nothing while another is idle; equals take turns."""
    async with recorders(3) as (a, b, c), in_front_of(a, b, c) as gateway:
        release = asyncio.Event()

        async def wait(*_: object) -> None:
            await release.wait()
            _[1].write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")  # type: ignore[attr-defined]

        a.respond = wait
        slow = asyncio.get_running_loop().create_task(gateway.ask())
        await until(lambda: len(a.seen) == 1)
        for _ in range(6):
            assert (await gateway.ask()).status == 200
        release.set()
        assert (await slow).status == 200
        assert [len(one.seen) for one in (a, b, c)] == [1, 3, 3]


async def test_a_dead_address_costs_no_client_anything() -> None:
    """Connect failures go to another address; after three in a row it is set aside, and counted."""
    dead = dead_address()
    async with recorders(1) as (good,), in_front_of(dead, good) as gateway:
        assert [(await gateway.ask()).status for _ in range(12)] == [200] * 12
        assert len(good.seen) == 12
        assert gateway.metrics.upstream_retries[("default", "connect")] == 3
        name = dead.removeprefix("http://")
        assert gateway.metrics.upstream_ejections == {("default", name): 1}
        assert gateway.metrics.upstream_addresses == {
            ("default", name): [0, 0, 1],
            ("default", f"127.0.0.1:{good.port}"): [1, 0, 1],
        }


async def test_one_dead_address_is_502_and_used_with_the_first_request_once_it_is_back() -> None:
    async with running() as gateway:
        await gateway.upstream.stop()
        answers = [await gateway.ask() for _ in range(6)]
        assert {(a.status, a.code) for a in answers} == {(502, "upstream_unreachable")}
        await gateway.upstream.start()
        assert (await gateway.ask()).status == 200


async def test_an_address_that_is_back_is_used_again_without_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """One connection tries it when its time has come, again after a longer time; nobody's request is spent on it."""
    tried = asyncio.Event()
    connect = UpstreamPool.connect

    async def watched(pool: UpstreamPool) -> UpstreamConnection:
        try:
            return await connect(pool)
        finally:
            tried.set()

    async with recorders(2) as (gone, good), in_front_of(gone, good) as gateway:
        gateway.upstreams._rules = Rules(faults=1, aside_s=0.05)
        pool = gateway.upstreams.addresses[0]
        await gone.stop()
        assert {(await gateway.ask()).status for _ in range(2)} == {200}
        monkeypatch.setattr(UpstreamPool, "connect", watched)
        await tried.wait()
        await until(lambda: pool.health.rounds == 2)
        assert gateway.metrics.upstream_addresses[("default", pool.address)] == [0, 0, 1]
        await gone.start()
        await until(lambda: pool.health.in_use)
        assert gateway.metrics.upstream_addresses[("default", pool.address)] == [1, 0, 1]
        assert not gone.seen


async def test_an_address_that_broke_requests_waits_for_one_and_says_so() -> None:
    """A connection says nothing about it: the next request tries it, one of many at the same time."""

    async def hang_up(_: object, writer: asyncio.StreamWriter, __: object) -> None:
        writer.close()

    async with recorders(2) as (bad, good), in_front_of(bad, good) as gateway:
        gateway.upstreams._rules = Rules(faults=1, aside_s=0.05)
        pool = gateway.upstreams.addresses[0]
        bad.respond = hang_up
        assert sorted([(await gateway.ask()).status for _ in range(2)]) == [200, 502]
        states = gateway.metrics.upstream_addresses
        assert states[("default", pool.address)] == [0, 0, 1]
        await until(lambda: states[("default", pool.address)] == [0, 1, 1])
        assert not pool.health.in_use
        release, bad.respond = asyncio.Event(), say_ok

        async def wait(_: asyncio.StreamReader, __: asyncio.StreamWriter, ___: bytes) -> bool:
            await release.wait()
            return False

        bad.early = wait
        before, connections = len(good.seen), bad.connections
        trying = asyncio.gather(*(gateway.ask() for _ in range(5)))
        await until(lambda: bad.connections > connections and len(good.seen) == before + 4)
        assert (bad.connections, states[("default", pool.address)]) == (connections + 1, [0, 1, 1])
        release.set()
        assert [one.status for one in await trying] == [200] * 5
        assert pool.health.in_use


async def test_with_all_addresses_dead_one_request_waits_and_the_others_are_refused_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """503 with Retry-After, which is no fault of theirs; nothing is sent."""
    async with running() as gateway:
        (pool,) = gateway.upstreams.addresses
        waiting, release = asyncio.Event(), asyncio.Event()

        async def black_hole() -> None:
            waiting.set()
            await release.wait()
            raise Unreachable("no connection within 5 s")

        monkeypatch.setattr(pool, "connect", black_hole)
        for _ in range(3):
            gateway.upstreams.failed(pool, Unreachable("before"))
        first = asyncio.get_running_loop().create_task(gateway.ask())
        await waiting.wait()
        second = await gateway.ask()
        assert (second.status, second.code, second["retry-after"]) == (503, "upstream_unavailable", "2")
        release.set()
        assert (await first).code == "upstream_unreachable"
        assert not gateway.upstream.seen


async def test_an_address_that_breaks_its_answers_is_set_aside_while_another_is_there() -> None:
    """Requests that it may have seen end in 502, each once; no more go there."""

    async def hang_up(_: object, writer: asyncio.StreamWriter, __: object) -> None:
        writer.close()

    async with recorders(2) as (bad, good), in_front_of(bad, good) as gateway:
        bad.respond = hang_up
        statuses = [(await gateway.ask("POST", "/v1/audio/transcriptions", body=b"x")).status for _ in range(20)]
        assert statuses.count(502) == len(bad.seen) == 3
        assert len(good.seen) == 17


async def test_one_address_that_breaks_its_answers_stays_in_use() -> None:
    """A request may bring its own breakage; others must not be refused for it."""

    async def hang_up(_: object, writer: asyncio.StreamWriter, __: object) -> None:
        writer.close()

    async with running() as gateway:
        gateway.upstream.respond = hang_up
        answers = [await gateway.ask() for _ in range(5)]
        assert {(a.status, a.code) for a in answers} == {(502, "upstream_broke")}
        assert len(gateway.upstream.seen) == 5
        assert gateway.pool.health.in_use


async def test_an_error_status_is_an_answer() -> None:
    """A 500 says nothing of the address: it may be the request's own."""

    async def fail(_: object, writer: asyncio.StreamWriter, __: object) -> None:
        writer.write(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")

    async with recorders(2) as (a, b), in_front_of(a, b) as gateway:
        a.respond = b.respond = fail
        assert [(await gateway.ask()).status for _ in range(8)] == [500] * 8
        assert all(pool.health.in_use for pool in gateway.upstreams.addresses)


# --- what was never sent ---------------------------------------------------------------------------------------------


def say_farewell(upstream: RecordingUpstream) -> None:
    """The upstream ends its side of every connection now: the kernel knows, and no loop has told anybody."""
    for writer in upstream._writers:
        writer.get_extra_info("socket")._sock.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("rested_s", [0.0, 1.0])
async def test_a_request_on_a_connection_that_closes_at_that_moment_is_sent_on_another(rested_s: float) -> None:
    """Twenty times, with a body at hand and with one that streams: no client sees it, and none is sent twice."""
    async with running() as gateway:
        body = b"x" * 300_000
        for number in range(20):
            assert (await gateway.ask()).status == 200
            (connection,) = gateway.pool._idle
            connection.idle_since -= rested_s
            say_farewell(gateway.upstream)
            answer = await gateway.ask("POST", "/v1/audio/transcriptions", body=body[: 10 if number % 2 else None])
            assert answer.status == 200
        posts = [seen for seen in gateway.upstream.seen if seen.method == "POST"]
        assert len(gateway.upstream.seen) == 40
        assert [len(seen.body) for seen in posts] == [300_000, 10] * 10


async def test_a_farewell_that_the_loop_has_not_told_of_is_seen_before_writing() -> None:
    """Nothing is written, and the error says so: it may be sent again."""
    made = Scripted()
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    pool = UpstreamPool("up", f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
    connection, _, _ = await ask(pool)
    connection.release()
    connection.idle_since -= 1.0
    taken = pool.idle()
    assert taken is connection
    ours = connection._transport.get_extra_info("socket").getsockname()  # type: ignore[union-attr]
    for writer in made.writers:
        if writer.get_extra_info("peername") == ours:
            writer.get_extra_info("socket")._sock.shutdown(socket.SHUT_WR)
    connection.begin(ASK, bodyless_answer=False, idle_s=5.0)
    connection.flush()
    with pytest.raises(Unsent):
        await connection.answered()
    assert made.requests == 1
    pool.close()
    listening.close()


@pytest.mark.parametrize("seen", [b"", b"HTTP/1.1 ", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_what_may_have_been_seen_is_never_sent_again(seen: bytes) -> None:
    """Once written it may have been read, whatever the method: 502, and one request at the upstream."""

    async def hang_up(_: object, writer: asyncio.StreamWriter, __: object) -> None:
        writer.write(seen)
        writer.close()

    async with recorders(2) as (a, b), in_front_of(a, b) as gateway:
        assert (await gateway.ask()).status == 200
        assert (await gateway.ask()).status == 200
        a.respond = b.respond = hang_up
        for method, target in (("GET", "/v1/models"), ("POST", "/v1/audio/transcriptions")):
            before = len(a.seen) + len(b.seen)
            answer = await gateway.ask(method, target, body=b"x" if method == "POST" else b"")
            assert (answer.status, answer.code) == (502, "upstream_broke")
            assert len(a.seen) + len(b.seen) == before + 1


async def test_an_address_that_accepts_and_hangs_up_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was written to it: another one answers."""
    hanging = await asyncio.start_server(lambda _, writer: writer.transport.abort(), "127.0.0.1", 0)
    bad = f"http://127.0.0.1:{hanging.sockets[0].getsockname()[1]}"
    async with recorders(1) as (good,), in_front_of(bad, good) as gateway:
        statuses = [(await gateway.ask()).status for _ in range(10)]
        # A reset that comes after the first bytes were written is a request that may have been seen.
        assert statuses.count(200) >= 7
        assert set(statuses) <= {200, 502}
        assert len(good.seen) == statuses.count(200)
    hanging.close()


# --- checks and names ------------------------------------------------------------------------------------------------


async def test_active_checks_take_an_address_out_and_bring_it_back() -> None:
    """Without a request of anybody: so a model that is still loading gets none."""
    well = asyncio.Event()

    async def health(_: object, writer: asyncio.StreamWriter, seen: object) -> None:
        status = b"200 OK" if well.is_set() or seen.target != "/health" else b"503 Loading"  # type: ignore[attr-defined]
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % status)

    async with recorders(2) as (a, b):
        a.respond = health
        async with in_front_of(a, b, health_path="/health", health_interval=0.1, health_fall=2) as gateway:
            first = gateway.upstreams.addresses[0]
            await until(lambda: not first.health.in_use)
            assert [(await gateway.ask()).status for _ in range(4)] == [200] * 4
            assert all(seen.target == "/health" for seen in a.seen)
            well.set()
            await until(lambda: first.health.in_use)
            assert {(await gateway.ask()).status for _ in range(4)} == {200}
            assert any(seen.target == "/v1/models" for seen in a.seen)


async def test_a_check_that_is_not_answered_has_failed() -> None:
    async with recorders(1) as (one,):

        async def hang(*_: object) -> None:
            await asyncio.Event().wait()

        one.respond = hang
        made = UpstreamSettings(
            addresses=addresses(one), health_path="/health", health_interval=0.1, health_timeout=0.05, health_fall=1
        )
        upstream, tasks = Upstream("default", made, Metrics()), Tasks()
        upstream.start(tasks)
        await until(lambda: not upstream.addresses[0].health.in_use)
        await tasks.close()
        upstream.close()


class Names:
    """A resolver whose answers change."""

    def __init__(self, *answers: list[str] | OSError) -> None:
        self.answers = list(answers)

    async def __call__(self, _: object) -> list[str]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, OSError):
            raise answer
        return answer


@contextlib.asynccontextmanager
async def looked_up(monkeypatch: pytest.MonkeyPatch, names: Names) -> AsyncIterator[Upstream]:
    monkeypatch.setattr(upstreams, "_addresses", names)
    monkeypatch.setattr(upstreams, "_RESOLVE_S", 0.01)
    monkeypatch.setattr(upstreams, "_RESOLVE_SOON_S", 0.01)
    metrics, tasks = Metrics(), Tasks()
    upstream = Upstream("default", UpstreamSettings(addresses=("http://asr.internal:9300",)), metrics, 0.2)
    upstream.start(tasks)
    try:
        yield upstream
    finally:
        await tasks.close()
        upstream.close()


async def test_every_address_of_a_name_is_used_and_new_ones_without_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that stays keeps its connections and what is known of it; one that is gone is told of no more."""
    names = Names(["127.0.0.1", "::1"], ["127.0.0.1", "127.0.0.2"])
    async with looked_up(monkeypatch, names) as upstream:
        await until(lambda: len(upstream.addresses) == 2)
        first, second = upstream.addresses
        assert [pool.address for pool in upstream.addresses] == ["127.0.0.1:9300", "[::1]:9300"]
        assert first.host_line == b"Host: asr.internal:9300\r\n"
        await until(lambda: upstream.addresses[1] is not second)
        assert upstream.addresses[0] is first
        assert [pool.address for pool in upstream.addresses] == ["127.0.0.1:9300", "127.0.0.2:9300"]
        assert set(upstream._metrics.upstream_addresses) == {
            ("default", "127.0.0.1:9300"),
            ("default", "127.0.0.2:9300"),
        }


async def test_a_name_that_cannot_be_looked_up_any_more_keeps_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(["127.0.0.1"], OSError("resolver down"), OSError("resolver down"), ["127.0.0.3"])
    async with looked_up(monkeypatch, names) as upstream:
        seen = set()
        async with asyncio.timeout(30):
            while "127.0.0.3:9300" not in seen:
                seen |= {pool.address for pool in upstream.addresses}
                assert upstream.addresses or not seen
                await asyncio.sleep(0.001)
        assert seen == {"127.0.0.1:9300", "127.0.0.3:9300"}


async def test_a_name_that_has_never_been_found_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, not after a time-out; and it is found as soon as it is there."""
    names = Names(OSError("no such name"))
    async with looked_up(monkeypatch, names) as upstream:
        with pytest.raises(Unreachable, match="cannot be looked up"):
            await upstream.take()
        names.answers = [["127.0.0.1"]]
        await until(lambda: bool(upstream.addresses))


async def test_a_look_up_that_hangs_blocks_nothing_and_is_waited_for_at_most_as_long_as_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def hang(_: object) -> list[str]:
        await asyncio.Event().wait()
        return []

    async with looked_up(monkeypatch, hang) as upstream:  # type: ignore[arg-type]
        with pytest.raises(Unreachable, match="not looked up within"):
            await upstream.take()


async def test_an_address_that_needs_no_look_up_does_not_wait_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that hangs costs the names, not the addresses beside them."""

    async def hang(_: object) -> list[str]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(upstreams, "_addresses", hang)
    async with recorders(1) as (one,), in_front_of("http://asr.internal:9300", one) as gateway:
        assert (await gateway.ask()).status == 200


async def test_a_real_name_is_looked_up() -> None:
    async with recorders(1) as (one,), in_front_of(f"http://localhost:{one.port}") as gateway:
        assert (await gateway.ask()).status == 200
        assert one.seen[0].all("host") == [f"localhost:{one.port}"]


async def test_nobody_left_is_told_apart_from_nobody_reached() -> None:
    upstream = Upstream("default", UpstreamSettings(addresses=(dead_address(), dead_address())), Metrics())
    with pytest.raises(Unreachable):
        await upstream.take()
    for pool in upstream.addresses:
        for _ in range(3):
            upstream.failed(pool, Unreachable("x"))
    chosen = upstream._choose([])
    assert chosen is not None
    with pytest.raises(NoneLeft):
        await upstream.take()


# --- TLS and credentials ---------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def over_tls(context: ssl.SSLContext) -> AsyncIterator[int]:
    made = Scripted()
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=context)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


Take = Callable[[UpstreamSettings], Awaitable[bytes]]


async def taken(settings: UpstreamSettings) -> bytes:
    """One exchange; the body of its answer."""
    upstream = Upstream("default", settings, Metrics())
    try:
        connection = await upstream.take()
        connection.begin(ASK, bodyless_answer=False, idle_s=5.0)
        connection.expect_answer(5.0)
        await connection.answered()
        return await connection.read()
    finally:
        upstream.close()


async def test_https_to_an_ip_is_verified_by_its_name_and_own_authority(tmp_path: Path) -> None:
    """U-06: the wrong name, or the system's authorities alone, is unreachable, and nothing was sent."""
    certificate, key = make_certificate(tmp_path, LOCALHOST)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with over_tls(context) as port:
        address = (f"https://127.0.0.1:{port}",)
        good = UpstreamSettings(addresses=address, ca_file=certificate, server_name="localhost")
        assert await taken(good) == b"ok"
        assert Upstream("x", good, Metrics()).addresses[0].host_line == b"Host: localhost\r\n"
        for bad in ({"ca_file": certificate}, {"server_name": "localhost"}):
            settings = UpstreamSettings(addresses=address, **bad)  # type: ignore[arg-type]
            with pytest.raises(Unreachable, match=r"(?i)certificate"):
                await taken(settings)
            told = await upstream_status(settings, {})
            assert (told["status"], "certificate verify failed" in told["addresses"][address[0]]) == ("down", True)
        assert (await upstream_status(good, {}))["status"] == "ok"


async def test_a_service_that_wants_our_certificate_gets_it(tmp_path: Path) -> None:
    """mTLS; without it the service hangs up."""
    certificate, key = make_certificate(tmp_path, LOCALHOST)
    (tmp_path / "client").mkdir()
    ours, our_key = make_certificate(tmp_path / "client", LOCALHOST)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(ours)
    context.verify_mode = ssl.CERT_REQUIRED
    async with over_tls(context) as port:
        made = UpstreamSettings(
            addresses=(f"https://127.0.0.1:{port}",), ca_file=certificate, server_name="localhost",
            client_certificate=ours, client_key=our_key,
        )  # fmt: skip
        assert await taken(made) == b"ok"
        with pytest.raises((Broke, Unreachable)):
            await taken(made.model_copy(update={"client_certificate": None, "client_key": None}))


@pytest.mark.parametrize(
    ("settings", "header", "value"),
    [
        ({}, "authorization", "Bearer s3cr3t-of-ours"),
        ({"credential_scheme": "Token"}, "authorization", "Token s3cr3t-of-ours"),
        ({"credential_header": "X-API-Key"}, "x-api-key", "s3cr3t-of-ours"),
        ({"credential_header": "X-Service-Key"}, "x-service-key", "s3cr3t-of-ours"),
    ],
)
async def test_our_own_credential_goes_to_the_upstream_and_nowhere_else(
    settings: dict[str, object], header: str, value: str
) -> None:
    """Whatever spelling the client tries, the upstream reads one value, ours; no log and no answer has it."""
    async with recorders(1) as (one,), in_front_of(one, credential="s3cr3t-of-ours", **settings) as gateway:
        forged = [(name, "forged") for name in ("X-Service-Key", "x_service_key", "X.Service.Key")]
        answer = await gateway.ask(headers=forged)
        assert answer.status == 200
        (seen,) = one.seen
        assert seen.all(header) == [value]
        assert gateway.key.encode() not in seen.head
        if header == "x-service-key":
            assert b"forged" not in seen.head
        assert "s3cr3t" not in str(gateway.lines)
        assert b"s3cr3t" not in answer.body + str(answer.headers).encode()


# --- readiness -------------------------------------------------------------------------------------------------------


async def test_readiness_tells_of_every_address() -> None:
    """Both by connecting now and by what the workers think."""
    async with recorders(1) as (one,):
        good, dead = addresses(one)[0], dead_address()
        both = UpstreamSettings(addresses=(good, dead))
        name = f"127.0.0.1:{one.port}"
        told = await upstream_status(both, {name: [2, 0, 2], dead.removeprefix("http://"): [0, 1, 2]})
        assert told["status"] == "degraded"
        assert told["addresses"][good] == "ok"
        assert "onnect" in told["addresses"][dead]
        assert told["workers"] == {
            name: "2 of 2 use it",
            dead.removeprefix("http://"): "0 of 2 use it, 1 try it with the next request",
        }
        alone = UpstreamSettings(addresses=(good,))
        assert (await upstream_status(alone, {name: [2, 0, 2]}))["status"] == "ok"
        assert (await upstream_status(alone, {name: [1, 0, 2]}))["status"] == "degraded"
        assert (await upstream_status(alone, {name: [0, 0, 2]}))["status"] == "down"
        assert (await upstream_status(alone, {}))["status"] == "ok"
        assert (await upstream_status(UpstreamSettings(addresses=(dead,)), {}))["status"] == "down"


async def test_a_fresh_answer_after_trouble_is_good_news() -> None:
    """A connection lost in the middle of requests is forgotten with the next answer."""
    made = Scripted()
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    upstream = Upstream("default", UpstreamSettings(addresses=(f"http://127.0.0.1:{port}",)), Metrics())
    (pool,) = upstream.addresses
    upstream.failed(pool, Broke("it closed the connection"))
    assert pool.is_suspect
    made.script = says(b"HTTP/1.1 204 No Content\r\n\r\n")
    connection = upstream.idle() or await upstream.take()
    connection.begin(ASK, bodyless_answer=False, idle_s=5.0)
    await answer_of(connection)
    upstream.went_well(pool)
    assert not pool.is_suspect
    upstream.close()
    listening.close()
