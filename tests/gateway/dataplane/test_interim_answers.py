"""An upstream's answers before the answer (1xx): passed on at once to whoever can tell them apart, to nobody else."""

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
from websockets.utils import accept_key

from policies.routing.route_table import RouteTable
from tests.gateway.dataplane.test_repeats import Errands
from tests.gateway.harness import OK, SMALL, Answer, Gateway, Options, Respond, Seen, running
from tests.gateway.stream_harness import PATH
from tests.wounds.wire import HERE, answers, statuses

HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"


def saying(*pieces: bytes, close: bool = False) -> Respond:
    """An upstream that says this, and lets the gateway read each piece alone."""

    async def respond(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        for piece in pieces:
            writer.write(piece)
            for _turn in range(4):
                await asyncio.sleep(0)
        if close:
            writer.close()

    return respond


def asking(
    gateway: Gateway, *lines: str, method: str = "GET", version: str = "1.1", target: str = "/v1/models"
) -> bytes:
    head = [f"{method} {target} HTTP/{version}", "Host: a", f"X-API-Key: {gateway.key}", *lines, "", ""]
    return "\r\n".join(head).encode()


async def heard(gateway: Gateway, *lines: str, version: str = "1.1") -> list[Answer]:
    """All that one request is answered with."""
    return answers(await gateway.raw(asking(gateway, "Connection: close", *lines, version=version)))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("said", "first"),
    [
        (HINT, HINT),
        (PROCESSING, PROCESSING),
        (b"HTTP/1.1 199 Own\r\nA: b\r\n\r\n", b"HTTP/1.1 199 Unknown\r\nA: b\r\n\r\n"),
    ],
)
async def test_an_interim_answer_reaches_the_client_before_the_answer_is_made(
    gateway: Gateway, said: bytes, first: bytes, method: str
) -> None:
    """RFC 9110 section 15.2: a proxy must forward them, and those that it does not know."""
    read = asyncio.Event()

    async def respond(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        for _turn in range(2):
            writer.write(said)
            await read.wait()
            read.clear()
        writer.write(OK if method == "GET" else OK.removesuffix(SMALL))

    gateway.upstream.respond = respond
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    async with asyncio.timeout(30):
        for _request in range(2):
            writer.write(asking(gateway, method=method))
            for _turn in range(2):
                assert await reader.readuntil(b"\r\n\r\n") == first
                read.set()
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
            if method == "GET":
                assert await reader.readexactly(len(SMALL)) == SMALL
    writer.close()
    assert [record.status for record in gateway.journal.records] == [200, 200]
    assert gateway.upstream.connections == 1


async def test_an_interim_answer_comes_while_the_body_is_still_being_sent(gateway: Gateway) -> None:
    """The client sends the rest when it has heard it; the service answers when it has the rest."""

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: bytes) -> bool:
        assert await reader.readuntil(b"begun\r\n") == b"5\r\nbegun\r\n"
        writer.write(HINT)
        assert await reader.readuntil(b"0\r\n\r\n") == b"4\r\ndone\r\n0\r\n\r\n"
        writer.write(OK)
        return True

    gateway.upstream.early = early
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    async with asyncio.timeout(30):
        fields = ("Transfer-Encoding: chunked", "Content-Type: audio/wav", "Expect: 100-continue")
        writer.write(asking(gateway, *fields, method="POST", target="/v1/listen"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"5\r\nbegun\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == HINT
        writer.write(b"4\r\ndone\r\n0\r\n\r\n")
        assert (await reader.readuntil(SMALL)).startswith(b"HTTP/1.1 200 OK\r\n")
    writer.close()
    assert [record.bytes_in for record in gateway.journal.records] == [9]


async def test_what_passes_of_its_header_is_what_passes_of_an_answer(gateway: Gateway) -> None:
    """Neither identity in any spelling, nor hop-by-hop fields, nor framing, nor a session cookie of ours."""
    gateway.upstream.respond = saying(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX-Tenant-ID: b\r\nx_user_id: b\r\nX-Auth-Other: b\r\n"
        b"X-Request-ID: b\r\nKeep-Alive: b\r\nConnection: X-Own\r\nX-Own: b\r\nUpgrade: b\r\nTrailer: b\r\n"
        b"Content-Length: 9\r\nSet-Cookie: __Host-sid=b\r\nset-cookie: theirs=1\r\nlink: </c>\r\n\r\n" + OK
    )
    interim, answer = await heard(gateway)
    assert interim.headers == (("link", "</a>"), ("set-cookie", "theirs=1"), ("link", "</c>"))
    assert (answer.status, answer.body) == (200, SMALL)


@pytest.mark.parametrize("coding", [b"gzip", b"chunked, chunked"])
async def test_an_interim_answer_with_a_coding_is_a_fault(gateway: Gateway, coding: bytes) -> None:
    """RFC 9112 section 6.1: there can be none."""
    gateway.upstream.respond = saying(b"HTTP/1.1 103 E\r\nTransfer-Encoding: " + coding + b"\r\n\r\n" + OK)
    assert [answer.status for answer in await heard(gateway)] == [502]


async def test_other_sites_are_told_the_same_of_an_interim_answer_as_of_the_answer() -> None:
    """The upstream's own word on that would be a second one."""
    async with running(Options(cors_origins=("https://a.test",))) as gateway:
        gateway.upstream.respond = saying(
            b"HTTP/1.1 103 E\r\nAccess-Control-Allow-Origin: *\r\nLink: </a>\r\n\r\n" + OK
        )
        interim, _ = await heard(gateway, "Origin: https://a.test")
        assert interim.headers == (("link", "</a>"),)


NOT_FOR = {
    "HTTP/1.0": ("1.0", Options(), ()),
    "a trusted proxy": ("1.1", Options(trusted=(HERE,)), ()),
    "another proxy": ("1.1", Options(), ("x-forwarded-for: 192.0.2.1",)),
}


@pytest.mark.parametrize("case", NOT_FOR)
async def test_who_would_take_it_for_the_answer_gets_none(case: str) -> None:
    """HTTP/1.0 knows no interim answers; nginx before 1.29 waits for the end of a 103, trusted or forgotten to be."""
    version, options, lines = NOT_FOR[case]
    async with running(options) as gateway:
        gateway.upstream.respond = saying(HINT, PROCESSING + OK)
        assert [answer.status for answer in await heard(gateway, *lines, version=version)] == [200]


async def test_continue_ends_here(gateway: Gateway) -> None:
    """Who waits for a 100 had it from the gateway, after the admission."""
    gateway.upstream.respond = saying(b"HTTP/1.1 100 Continue\r\n\r\n" + HINT + b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
    assert [answer.status for answer in await heard(gateway)] == [103, 200]


@pytest.mark.parametrize("agrees", [True, False])
async def test_who_opens_a_stream_gets_none(gateway: Gateway, agrees: bool) -> None:
    """WebSocket clients take the first answer for the only one; the handshake with the service is the gateway's own."""

    async def early(_: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        key = re.search(rb"(?i)sec-websocket-key: *(\S+)", head)
        assert key is not None
        agreed = "101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        agreed += accept_key(key[1].decode())
        writer.write(HINT)
        await asyncio.sleep(0)
        writer.write(f"HTTP/1.1 {agreed if agrees else '403 No'}\r\n\r\n".encode())
        writer.close()
        return True

    gateway.upstream.early = early
    fields = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(asking(gateway, *fields, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", target=PATH))
    async with asyncio.timeout(30):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 " if agrees else b"HTTP/1.1 403 ")
    writer.close()


WHOLE = HINT + PROCESSING + OK


@pytest.mark.parametrize(
    "pieces", [[WHOLE], [HINT, PROCESSING + OK], [HINT, PROCESSING, OK], [HINT[:9], HINT[9:] + OK]]
)
async def test_a_request_that_comes_again_gets_its_interim_answers(gateway: Gateway, pieces: list[bytes]) -> None:
    """What serves it without a task knows no such answer: the task goes on, and nothing is lost or said twice."""
    errands = Errands(gateway)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    async with asyncio.timeout(30):
        while not errands.begun:
            writer.write(asking(gateway))
            await reader.readuntil(SMALL)
        gateway.upstream.respond = saying(*pieces)
        for _turn in range(3):
            writer.write(asking(gateway))
            got = await reader.readuntil(SMALL)
            wanted = [one for one in (103, 102) if b"HTTP/1.1 %d " % one in b"".join(pieces)]
            assert statuses(got) == [*wanted, 200]
    writer.close()
    assert (errands.begun, errands.stuck) == (4, 3)
    assert {record.status for record in gateway.journal.records} == {200}
    assert gateway.upstream.connections == 1


async def test_pipelined_requests_have_each_their_own(gateway: Gateway) -> None:
    """In order: behind the answer to the one before."""

    async def respond(_: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
        writer.write(HINT.replace(b"/a", seen.target.encode()))
        await asyncio.sleep(0)
        writer.write(OK.replace(b"hello", seen.target[-5:].encode()))

    gateway.upstream.respond = respond
    targets = [f"/v1/models/no-{number}" for number in range(10, 15)]
    requests = [asking(gateway, target=target) for target in targets]
    raw = await gateway.raw(b"".join(requests) + asking(gateway, "Connection: close", target=targets[0]))
    told = answers(raw)
    assert [answer.status for answer in told] == [103, 200] * 6
    for interim, answer, target in zip(told[::2], told[1::2], [*targets, targets[0]], strict=True):
        assert interim["link"] == f"<{target}>"
        assert target[-5:].encode() in answer.body


@pytest.mark.parametrize("said", [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", OK])
async def test_interim_answers_cut_anywhere_are_the_same(gateway: Gateway, said: bytes) -> None:
    """The service's segments end where they will."""
    whole, body = PROCESSING + HINT + said, SMALL if said is OK else b"ok"
    for cut in range(1, len(whole)):
        gateway.upstream.respond = saying(whole[:cut], whole[cut:])
        processing, hint, answer = await heard(gateway)
        assert (processing.status, processing.headers) == (102, ()), whole[:cut]
        assert (hint.status, hint.headers) == (103, (("link", "</a>"),)), whole[:cut]
        assert (answer.status, answer.body) == (200, body), whole[:cut]
    assert gateway.upstream.connections == 1


# --- services that do not stop ----------------------------------------------------------------------------------------


@pytest.fixture
async def hurried(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    """A gateway that waits half a second for the beginning of an answer."""
    monkeypatch.setattr("gateway.upstreams.pool._TICK_S", 0.02)
    route = {"name": "models", "path": "/v1/models", "methods": ["GET"], "first_byte_s": 0.5}
    async with running(Options(routes=RouteTable.compile({"routes": [route]}))) as made:
        yield made


async def test_interim_answers_put_no_time_out_off(hurried: Gateway) -> None:
    """The client hears those that came in time, and then a 504."""

    async def respond(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        while not writer.transport.is_closing():
            writer.write(HINT)
            await writer.drain()
            await asyncio.sleep(0.01)  # the pace is what is under test

    hurried.upstream.respond = respond
    told = await heard(hurried)
    assert (told[0].status, told[-1].status, told[-1].code) == (103, 504, "upstream_timeout")
    assert {answer.status for answer in told[:-1]} == {103}
    assert [record.status for record in hurried.journal.records] == [504]


async def test_interim_answers_without_end_are_a_fault(gateway: Gateway) -> None:
    """64 KiB of header, with the answer's own: a 502 behind what was passed on of them, and the service is left."""

    async def respond(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        for _turn in range(10_000):
            writer.write(HINT * 50)
            await writer.drain()

    gateway.upstream.respond = respond
    told = await heard(gateway)
    assert (told[-1].status, told[-1].code) == (502, "upstream_broke")
    assert {answer.status for answer in told[:-1]} <= {103}
    assert len(told) <= 65_536 // len(HINT) + 1


@pytest.mark.parametrize("then", [b"", b"HTTP/1.1 2", b"nonsense\r\n\r\n"])
async def test_an_interim_answer_begins_nothing(gateway: Gateway, then: bytes) -> None:
    """A service that breaks behind it is a 502 that can be read, no connection that is cut; nobody is asked twice."""
    gateway.upstream.respond = saying(HINT, then, close=True)
    told = await heard(gateway)
    assert [answer.status for answer in told] == [103, 502]
    assert [record.status for record in gateway.journal.records] == [502]
    assert len(gateway.upstream.seen) == 1
