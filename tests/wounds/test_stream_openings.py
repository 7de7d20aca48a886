"""A WebSocket is opened by whoever may: one request with one reading; secrets go neither on nor back nor into logs."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from policies.account.usage import Outcome
from policies.http.tickets import TICKET_BYTES, Ticket, mint_ticket
from policies.http.websocket import BINARY, TEXT, frame
from policies.identity.principals import Method, Standing
from storage.ports import Invalidation
from tests.gateway.harness import PEPPER, PRINCIPAL, Answer, digest
from tests.gateway.stream_harness import ACCEPT, MASK, NONCE, PATH, RawSite, Site, closed, opening, raw_site, site

TICKET = mint_ticket(bytes(TICKET_BYTES))
REUSABLE = mint_ticket(bytes(TICKET_BYTES), reusable=True)


@pytest.fixture
async def here() -> AsyncIterator[Site]:
    async with site() as made:
        yield made


@pytest.fixture
async def raw() -> AsyncIterator[RawSite]:
    async with raw_site() as made:
        yield made


async def refused(client: connect) -> Response:
    """The answer to an opening that is refused."""
    with pytest.raises(InvalidStatus) as caught:
        await client
    return caught.value.response


async def secrets_seen(here: Site, secret: str) -> list[str]:
    """Where a secret turned up that was to be kept."""
    await here.settled()
    seen = [f"upstream: {name}" for r in here.upstream.requests for name, v in r.headers.raw_items() if secret in v]
    seen += [f"upstream: {r.path}" for r in here.upstream.requests if secret in r.path]
    return seen + [f"log: {line}" for line in here.gateway.lines if secret in str(line)]


@pytest.mark.parametrize(
    ("offered", "chosen_upstream", "expected", "passed"),
    [
        (["realtime", "openai-insecure-api-key.{}"], "realtime", "realtime", "realtime"),
        (["realtime", "openai-insecure-api-key.{}"], None, "realtime", "realtime"),
        (["realtime", "openai-insecure-api-key.{}", "openai-beta.realtime-v1"], "openai-beta.realtime-v1",
         "openai-beta.realtime-v1", "realtime, openai-beta.realtime-v1"),
        (["token", "{}"], "token", "token", "token"),
        (["token", "{}"], None, "token", "token"),
        (["bearer", "{}", "x-deepgram-session-id", "17"], None, "bearer", "bearer, x-deepgram-session-id, 17"),
        (["chat", "xai-client-secret.{}"], None, "chat", "chat"),
    ],
)  # fmt: skip
async def test_a_browser_puts_its_key_among_the_subprotocols(
    here: Site, offered: list[str], chosen_upstream: str | None, expected: str, passed: str
) -> None:
    """And gets one that it offered and the upstream chose, or the one that names the key's place; never the key."""
    here.upstream.subprotocols = (chosen_upstream,) if chosen_upstream else ()
    key = here.gateway.key
    async with here.connect(key=None, subprotocols=[name.format(key) for name in offered]) as client:
        assert client.subprotocol == expected
        await client.send("x")
        assert await client.recv() == "x"
    assert here.upstream.requests[0].headers["Sec-WebSocket-Protocol"] == passed
    assert await secrets_seen(here, key) == []


async def test_no_header_of_the_clients_credential_goes_on(here: Site) -> None:
    headers = {"Cookie": "__Host-sid=secret-sid; a=b", "X-Tenant-ID": "ten_b"}
    async with here.connect(additional_headers=headers):
        pass
    sent = here.upstream.requests[0].headers
    assert {name for name in sent if name.lower() in ("authorization", "cookie", "x-api-key")} == set()
    assert sent["X-Tenant-ID"] == "ten_a"
    assert sent.get_all("X-Tenant-ID") == ["ten_a"]
    assert await secrets_seen(here, here.gateway.key) == []


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://127.0.0.1:{port}", 101), ("https://evil.test", 403), ("null", 403), (None, 403)],
)
async def test_a_cookie_opens_a_stream_from_our_own_pages_only(here: Site, origin: str | None, status: int) -> None:
    """W-01: a browser sends it along from every page. And signing out ends what it opened."""
    secret = "s" * 43
    here.gateway.sessions.by_secret[secret.encode()] = replace(
        PRINCIPAL, method=Method.SESSION, key_id="", user_id="usr_ada"
    )
    client = here.connect(
        key=None,
        origin=origin.format(port=here.gateway.port) if origin else None,
        additional_headers={"Cookie": f"tahoe_session={secret}"},
    )
    if status == 403:
        answer = await refused(client)
        assert (answer.status_code, b"origin_not_allowed" in answer.body) == (403, True)
        assert here.upstream.requests == []
        return
    async with client as stream:
        await stream.send("x")
        assert await stream.recv() == "x"
        here.gateway.sessions.by_secret.clear()
        change = Invalidation(user_id="usr_ada")
        here.gateway.snapshot.forget(change)
        here.gateway.streams.forget(change)
        assert (await closed(stream))[0] == 4001
    assert await secrets_seen(here, secret) == []


async def test_two_credentials_are_refused(here: Site) -> None:
    other = here.gateway.add_key()
    answer = await refused(here.connect(subprotocols=["token", other]))
    assert answer.status_code == 400
    here.gateway.tickets.kept[TICKET.encode()] = ticket(here)
    answer = await refused(here.connect(f"{PATH}?token={TICKET}"))
    assert answer.status_code == 400
    assert here.upstream.requests == []


@pytest.mark.parametrize("where", ["?token={}", "?model=a&access_token={}", "?x={}"])
async def test_a_key_in_the_query_is_refused(here: Site, where: str) -> None:
    """It would stand in every log on the way, so it is not accepted even where it would be good."""
    answer = await refused(here.connect(PATH + where.format(here.gateway.key), key=None))
    assert answer.status_code == 400
    assert b"credential_in_query" in answer.body
    assert here.upstream.requests == []
    assert await secrets_seen(here, here.gateway.key) == []


def ticket(here: Site, **changes: object) -> Ticket:
    made = Ticket(
        tenant_id="ten_a",
        key=digest(PEPPER, here.gateway.key.encode()),
        routes=("openai.realtime",),
        longest_s=60,
    )
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("path", "offered", "selected"),
    [
        (PATH, [TICKET], TICKET),
        (PATH, ["realtime", f"openai-insecure-api-key.{TICKET}"], "realtime"),
        (PATH, ["token", TICKET], "token"),
        (f"{PATH}?token={TICKET}&model=x", None, None),
    ],
)
async def test_a_ticket_opens_one_stream(
    here: Site, path: str, offered: list[str] | None, selected: str | None
) -> None:
    """Once: the second one finds it used up. And it never gets further than here."""
    here.gateway.tickets.kept[TICKET.encode()] = ticket(here)
    async with here.connect(path, key=None, subprotocols=offered) as client:
        assert client.subprotocol == selected
        await client.send("x")
        assert await client.recv() == "x"
    answer = await refused(here.connect(path, key=None, subprotocols=offered))
    assert answer.status_code == 401
    assert b"invalid_ticket" in answer.body
    (request,) = here.upstream.requests
    assert request.path == (f"{PATH}?model=x" if "?" in path else PATH)
    assert request.headers["X-API-Key-ID"] == "key_1"
    await here.settled(2)
    assert await secrets_seen(here, TICKET) == []


async def test_a_ticket_is_for_its_route_alone(here: Site) -> None:
    here.gateway.tickets.kept[TICKET.encode()] = ticket(here, routes=("deepgram.stream",))
    assert (await refused(here.connect(key=None, subprotocols=[TICKET]))).status_code == 401
    assert here.gateway.tickets.kept == {}, "it is used up all the same"
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/audio/transcriptions")):
        here.gateway.tickets.kept[TICKET.encode()] = ticket(here)
        answer = await here.gateway.ask(method, path, key=TICKET)
        assert (answer.status, answer.code) == (401, "invalid_ticket")
    assert here.upstream.requests == []


@pytest.mark.parametrize(
    ("offered", "header", "selected"),
    [
        (["realtime", "openai-insecure-api-key.{}"], "", "realtime"),
        (["token", "{}"], "", "token"),
        (["bearer", "{}"], "", "bearer"),
        (["{}"], "", None),
        (None, "Bearer {}", None),
    ],
)
async def test_a_reusable_ticket_opens_streams_until_it_ends(
    here: Site, offered: list[str] | None, header: str, selected: str | None
) -> None:
    """Where SDKs put it, and never back: it is worth something still."""
    here.gateway.tickets.kept[REUSABLE.encode()] = ticket(here)
    subprotocols = offered and [name.format(REUSABLE) for name in offered]
    headers = {"Authorization": header.format(REUSABLE)} if header else {}
    for _ in range(2):
        async with here.connect(key=None, subprotocols=subprotocols, additional_headers=headers) as client:
            assert client.subprotocol == selected
    del here.gateway.tickets.kept[REUSABLE.encode()]
    answer = await refused(here.connect(key=None, subprotocols=subprotocols, additional_headers=headers))
    assert (answer.status_code, b"invalid_ticket" in answer.body) == (401, True)
    assert len(here.upstream.requests) == 2
    await here.settled(3)
    assert await secrets_seen(here, REUSABLE) == []


async def test_a_reusable_ticket_is_for_its_routes_and_no_query(here: Site) -> None:
    """Nor does it make another one."""
    kept = here.gateway.tickets.kept
    kept[REUSABLE.encode()] = ticket(here, routes=("deepgram.stream", "deepgram.flux"))
    assert (await refused(here.connect(key=None, subprotocols=["token", REUSABLE]))).status_code == 401
    for path in ("/v1/listen", "/v2/listen"):
        async with here.connect(path, key=None, subprotocols=["token", REUSABLE]):
            pass
        answer = await refused(here.connect(f"{path}?token={REUSABLE}", key=None))
        assert (answer.status_code, b"credential_in_query" in answer.body) == (400, True)
    for method, path in (("POST", "/v1/listen"), ("GET", "/v1/models"), ("POST", "/v1/auth/grant")):
        answer = await here.gateway.ask(method, path, key=REUSABLE)
        assert (answer.status, answer.code) == (401, "invalid_ticket")
    assert len(here.upstream.requests) == 2
    assert await secrets_seen(here, REUSABLE) == []


async def test_a_ticket_that_configures_its_streams_speaks_first(here: Site) -> None:
    """Before anything that the client says, also in the same segment. Of its bytes none are the client's."""
    first = '{"type": "session.update", "session": {"type": "realtime"}}'
    here.gateway.tickets.kept[REUSABLE.encode()] = ticket(here, first=first)
    for count in (1, 2):
        async with here.connect(key=None, subprotocols=["realtime", f"openai-insecure-api-key.{REUSABLE}"]) as client:
            await client.send("x")
            assert [await client.recv(), await client.recv()] == [first, "x"]
        await here.settled(count)
        assert here.gateway.journal.records[-1].bytes_in == 1


async def test_a_ticket_of_a_revoked_key_opens_nothing(here: Site) -> None:
    """It is the key that is asked for at redemption."""
    key = here.gateway.add_key(standing=Standing.REVOKED)
    here.gateway.tickets.kept[TICKET.encode()] = ticket(here, key=digest(PEPPER, key.encode()))
    answer = await refused(here.connect(key=None, subprotocols=[TICKET]))
    assert answer.status_code == 401
    assert b"api_key_revoked" in answer.body


async def test_a_ticket_that_cannot_be_asked_for_is_not_refused_for_good(here: Site) -> None:
    here.gateway.tickets.down = True
    assert (await refused(here.connect(key=None, subprotocols=[TICKET]))).status_code == 503


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("Content-Length: 5", 400),
        ("Transfer-Encoding: chunked", 400),
        ("Expect: 100-continue", 400),
        ("Sec-WebSocket-Version: 13", 426),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", 400),
        ("Sec-WebSocket-Protocol: a b", 400),
        ("Sec-WebSocket-Protocol: thk_live_0", 400),
        ("Authorization: Bearer thk_live_0000000000000000000000000000", 400),
    ],
)
async def test_an_opening_that_can_be_read_in_two_ways_is_refused(raw: RawSite, line: str, status: int) -> None:
    """And what follows it is not read as a request."""
    data = opening(raw.gateway.key, line) + opening(raw.gateway.key)
    answer = Answer.parse(await (await raw.send(data)).rest())
    assert answer.status == status
    assert answer.all("connection") == ["close, Upgrade" if status == 426 else "close"]
    assert answer.rest == b""
    assert raw.upstream.opened == 0
    if status == 426:
        assert answer["sec-websocket-version"] == "13"


async def test_the_first_of_two_upgrade_lines_counts_for_nobody(raw: RawSite) -> None:
    """The parser goes by one of them and the gateway by the other: frames would be read as requests."""
    data = opening(raw.gateway.key).replace(b"Upgrade: websocket", b"Upgrade: h2c\r\nUpgrade: websocket")
    answer = Answer.parse(await (await raw.send(data)).rest())
    assert answer.status == 400
    assert raw.upstream.opened == 0


async def test_an_opening_on_a_route_without_streams_is_refused(raw: RawSite) -> None:
    answer = Answer.parse(await (await raw.send(opening(raw.gateway.key, path="/v1/models"))).rest())
    assert (answer.status, answer.code) == (501, "upgrade_not_supported")


@pytest.mark.parametrize("byte_by_byte", [False, True])
async def test_frames_may_follow_the_handshake_at_once(raw: RawSite, byte_by_byte: bool) -> None:
    """On both sides, in the same segment or split at every byte: nothing is lost, and nothing taken for HTTP."""
    raw.upstream.tail = frame(TEXT, b"welcome")
    sent = frame(BINARY, b"GET / HTTP/1.1\r\n\r\n", MASK) + frame(TEXT, b"early", MASK)
    data = opening(raw.gateway.key) + sent
    pieces = [data[i : i + 1] for i in range(len(data))] if byte_by_byte else [data]
    client = await raw.send(*pieces)
    async with asyncio.timeout(30):
        peer = await raw.upstream.peers.get()
        head = await client.reader.readuntil(b"\r\n\r\n")
    assert await peer.exactly(len(sent)) == sent
    assert await client.exactly(len(raw.upstream.tail)) == raw.upstream.tail
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 101 Switching Protocols"
    assert b"Sec-WebSocket-Accept: " + ACCEPT in lines
    assert b"Sec-WebSocket-Key: " + NONCE.encode() in peer.head.split(b"\r\n")


@pytest.mark.parametrize(
    ("answer", "lines", "status"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n", b"X-Why: so\r\n", 403),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", b"", 200),
        (b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n", b"Sec-WebSocket-Version: 14\r\n", 426),
        (b"HTTP/1.1 500 Oh\r\n", b"", 500),
    ],
)
async def test_an_upstream_that_does_not_agree_is_passed_on(
    raw: RawSite, answer: bytes, lines: bytes, status: int
) -> None:
    """With its body, as an answer like any other."""
    raw.upstream.answer, raw.upstream.lines = answer, lines
    raw.upstream.tail = b"2\r\nno\r\n0\r\n\r\n" if b"chunked" in answer else b"no"
    client = await raw.send(opening(raw.gateway.key))
    peer = await raw.upstream.peers.get()
    peer.writer.close()
    got = Answer.parse(await client.rest())
    assert (got.status, got.body) == (status, b"no")
    assert raw.gateway.metrics.open_streams == 0


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"Sec-WebSocket-Accept: bm90IHRoZSBhbnN3ZXI=\r\n",
        b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\nSec-WebSocket-Protocol: other\r\n",
        b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n",
    ],
)
async def test_an_upstream_whose_handshake_is_wrong_gets_no_stream(raw: RawSite, lines: bytes) -> None:
    raw.upstream.lines = lines
    client = await raw.send(opening(raw.gateway.key))
    got = Answer.parse(await client.rest())
    assert (got.status, got.code) == (502, "upstream_broke")
    assert raw.gateway.metrics.open_streams == 0
    peer = await raw.upstream.peers.get()
    assert await peer.rest() == b""


async def test_an_upstream_that_switches_without_having_been_asked_is_not_followed(raw: RawSite) -> None:
    """CVE-2026-69243: what follows would be somebody's answer."""
    answer = await raw.gateway.ask("GET", "/v1/models")
    assert (answer.status, answer.code) == (502, "upstream_broke")


async def test_a_ticket_is_not_good_twice_because_the_request_is_the_same_again(here: Site) -> None:
    """What a request's bytes amount to is remembered; what was put in the ticket's place is not."""
    here.gateway.tickets.kept[TICKET.encode()] = ticket(here)
    same = f"GET {PATH} HTTP/1.1\r\nHost: a\r\nX-API-Key: {TICKET}\r\n\r\n".encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", here.gateway.port)
    statuses = []
    async with asyncio.timeout(30):
        for _ in range(2):
            writer.write(same)
            head = await reader.readuntil(b"\r\n\r\n")
            statuses.append(int(head.split()[1]))
            size = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            await reader.readexactly(int(size.partition(b":")[2]))
    writer.close()
    assert statuses[0] != 401
    assert statuses[1] == 401


@pytest.mark.parametrize("line", ["Accept: */*", "Upgrade: websocket", "Content-Length: 0"])
async def test_where_streams_open_a_plain_request_is_told_so(raw: RawSite, line: str) -> None:
    """It has no meter and no limit of streams: what an upstream would make of it is nobody's to find out."""
    plain = f"GET /v1/listen HTTP/1.1\r\nHost: a\r\nX-API-Key: {raw.gateway.key}\r\n{line}\r\n"
    data = f"{plain}\r\n{plain}Connection: close\r\n\r\n".encode()
    first = Answer.parse(await (await raw.send(data)).rest())
    second = Answer.parse(first.rest)
    for answer, connection in ((first, "Upgrade"), (second, "close, Upgrade")):
        assert (answer.status, answer.code) == (426, "upgrade_required")
        assert (answer["upgrade"], answer["connection"]) == ("websocket", connection)
    assert raw.upstream.opened == 0
    assert [record.outcome for record in raw.gateway.journal.records] == [Outcome.DENIED] * 2
