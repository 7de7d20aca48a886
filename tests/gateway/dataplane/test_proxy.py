"""The first door, over real sockets: what passes, what is refused, and what each side sees."""

import asyncio

import pytest

from policies.account.usage import Outcome
from policies.identity.principals import Standing
from policies.limits.rates import Rate
from storage.ports import Invalidation
from tests.gateway.harness import SMALL, Answer, Gateway, Seen


async def test_an_admitted_request_reaches_the_upstream_and_its_answer_comes_back(gateway: Gateway) -> None:
    """Path, query and method pass byte for byte; the body comes back; the key does not go on."""
    answer = await gateway.ask("GET", "/v1/models?limit=2&x=%20")
    assert (answer.status, answer.body) == (200, SMALL)
    (seen,) = gateway.upstream.seen
    assert (seen.method, seen.target) == ("GET", "/v1/models?limit=2&x=%20")
    assert not {"authorization", "x-api-key", "cookie"} & seen.names()
    assert seen.all("x-tenant-id") == ["ten_a"]
    assert seen.all("x-auth-scopes") == ["transcribe"]
    assert seen.all("x-forwarded-for") == ["127.0.0.1"]
    assert seen.all("x-request-id") == [answer["x-request-id"]]


REFUSALS = [
    ({"standing": Standing.REVOKED}, 401, "api_key_revoked"),
    ({"expires_ms": 1}, 401, "api_key_expired"),
    ({"standing": Standing.TENANT_SUSPENDED}, 403, "tenant_suspended"),
    ({"standing": Standing.USER_DISABLED}, 403, "user_disabled"),
    ({"scopes": frozenset({"other"})}, 403, "insufficient_scope"),
    ({"denied_routes": frozenset({"openai.models"})}, 403, "route_denied"),
]


@pytest.mark.parametrize(("changes", "status", "code"), REFUSALS, ids=[code for *_, code in REFUSALS])
async def test_a_credential_that_is_not_good_is_refused_with_a_code_of_its_own(
    gateway: Gateway, changes: dict[str, object], status: int, code: str
) -> None:
    """Nothing reaches the upstream, and the body says why."""
    answer = await gateway.ask(key=gateway.add_key(**changes))
    assert (answer.status, answer.code) == (status, code)
    assert not gateway.upstream.seen
    if status == 401:
        assert answer["www-authenticate"].startswith('Bearer realm="tahoe-gateway", error="invalid_token"')


async def test_without_a_credential_the_challenge_names_no_error(gateway: Gateway) -> None:
    """RFC 6750 section 3.1."""
    answer = await gateway.ask(key=None)
    assert (answer.status, answer.code) == (401, "missing_credential")
    assert answer["www-authenticate"] == 'Bearer realm="tahoe-gateway"'


async def test_an_unknown_path_is_closed_at_the_gate(gateway: Gateway) -> None:
    """404 even with a good key; nothing asks the upstream."""
    answer = await gateway.ask("POST", "/load", body=b"x")
    assert (answer.status, answer.code) == (404, "unknown_route")
    assert not gateway.upstream.seen


async def test_a_method_that_the_route_does_not_list_is_405_with_allow(gateway: Gateway) -> None:
    answer = await gateway.ask("DELETE", "/v1/models")
    assert (answer.status, answer["allow"]) == (405, "GET, HEAD")


async def test_past_the_limit_the_answer_says_when_to_come_back(gateway: Gateway) -> None:
    """The burst passes, the next is 429 with Retry-After and RateLimit; only admitted requests reach the upstream."""
    key = gateway.add_key(tenant_rate=Rate(3, 60_000), key_rate=Rate(2, 60_000))
    answers = [await gateway.ask(key=key) for _ in range(3)]
    assert [a.status for a in answers] == [200, 200, 429]
    assert answers[0]["ratelimit-policy"] == '"tenant-requests";q=3;w=60, "key-requests";q=2;w=60'
    assert answers[0]["ratelimit"].startswith('"tenant-requests";r=2;t=')
    assert answers[2].code == "rate_limit_exceeded"
    assert 25 <= int(answers[2]["retry-after"]) <= 30
    assert len(gateway.upstream.seen) == 2


async def test_no_spelling_of_a_path_has_a_limit_of_its_own(gateway: Gateway) -> None:
    """Q-05: HEAD takes from the bucket of GET; another way to write the path reaches nothing, and takes nothing."""
    key = gateway.add_key(key_rate=Rate(2, 60_000))
    for other in ("//v1/models", "/v1/models/", "/v1/./models", "/v1/%6dodels", "/V1/models"):
        assert (await gateway.ask(target=other, key=key)).status in (400, 404)
    assert [(await gateway.ask(method, key=key)).status for method in ("GET", "HEAD", "GET", "HEAD")] == [
        200, 200, 429, 429,
    ]  # fmt: skip
    assert len(gateway.upstream.seen) == 2


async def test_the_record_the_line_and_the_figures_agree(gateway: Gateway) -> None:
    """One settled request of each kind, seen alike in all three."""
    await gateway.ask("POST", "/v1/audio/transcriptions", [("Content-Type", "application/octet-stream")], b"abcde")
    await gateway.ask(key=gateway.add_key(scopes=frozenset()))
    ok, denied = gateway.journal.records
    assert (ok.status, ok.outcome, ok.bytes_in, ok.bytes_out) == (200, Outcome.OK, 5, len(SMALL))
    assert (denied.status, denied.outcome, denied.code) == (403, Outcome.DENIED, "insufficient_scope")
    lines = gateway.lines
    assert [(x["status"], x["bytes_in"], x["tenant_id"]) for x in lines] == [(200, 5, "ten_a"), (403, 0, "ten_a")]
    assert [x["request_id"] for x in lines] == [ok.request_id, denied.request_id]
    assert gateway.metrics.routes["openai.transcriptions"].requests == {("POST", 200, "ok"): 1}
    assert gateway.metrics.routes["openai.models"].requests == {("GET", 403, "denied"): 1}


async def test_a_request_id_of_the_clients_is_kept_only_when_harmless(gateway: Gateway) -> None:
    """O-07: it goes into headers and logs."""
    kept = await gateway.ask(headers=[("X-Request-ID", "abc-123")])
    replaced = await gateway.ask(headers=[("X-Request-ID", "abc 123")])
    assert kept["x-request-id"] == "abc-123"
    assert len(replaced["x-request-id"]) == 36


async def test_the_gateway_names_itself_behind_earlier_hops(gateway: Gateway) -> None:
    """RFC 9110 section 7.6.3: with the version that it was asked in."""
    await gateway.ask(headers=[("Via", "1.0 fred, 1.1 nowhere.test")])
    await gateway.raw(f"GET /v1/models HTTP/1.0\r\nX-API-Key: {gateway.key}\r\n\r\n".encode())
    ours = [["1.0 fred, 1.1 nowhere.test", "1.1 tahoe-gateway"], ["1.0 tahoe-gateway"]]
    assert [seen.all("via") for seen in gateway.upstream.seen] == ours


async def test_one_connection_serves_many_requests(gateway: Gateway) -> None:
    """Keep-alive on both sides, pipelined or not, and a refusal in the middle does not end it."""
    one = b"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + gateway.key.encode() + b"\r\n\r\n"
    last = one[:-2] + b"Connection: close\r\n\r\n"
    bad = b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n"
    rest = await gateway.raw(one + bad + one + last)
    statuses = []
    while rest:
        answer = Answer.parse(rest)
        statuses.append(answer.status)
        rest = answer.rest
    assert statuses == [200, 404, 200, 200]
    assert gateway.upstream.connections == 1


async def test_credentials_are_judged_anew_on_every_request_of_a_connection(gateway: Gateway) -> None:
    """S-13: a second request without a key on a connection whose first one had a key is refused."""
    one = b"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + gateway.key.encode() + b"\r\n\r\n"
    without = b"GET /v1/models HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    rest = (await gateway.raw(one + without)).split(b"HTTP/1.1 ")
    assert [part[:3] for part in rest[1:]] == [b"200", b"401"]


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_upload_streams_through_and_is_framed_anew(gateway: Gateway, chunked: bool) -> None:
    """Larger than any buffer, in pieces, either framing: the upstream gets the same bytes."""
    body = bytes(range(256)) * 8_192
    head = f"POST /v1/listen HTTP/1.1\r\nHost: a\r\nAuthorization: Token {gateway.key}\r\nConnection: close\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    if chunked:
        writer.write(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(body), 100_000):
            piece = body[start : start + 100_000]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
    else:
        writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), 100_000):
            writer.write(body[start : start + 100_000])
            await writer.drain()
    answer = Answer.parse(await reader.read())
    writer.close()
    assert answer.status == 200
    assert gateway.upstream.seen[0].body == body
    assert gateway.journal.records[0].bytes_in == len(body)


async def test_an_answer_streams_as_it_comes(gateway: Gateway) -> None:
    """The first event reaches the client before the upstream has written the second one."""
    second = asyncio.Event()

    async def events(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"9\r\ndata: 1\n\n\r\n")
        await second.wait()
        writer.write(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")

    gateway.upstream.respond = events
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(f"GET /v1/models HTTP/1.1\r\nHost: a\r\nX-API-Key: {gateway.key}\r\n\r\n".encode())
    first = await reader.readuntil(b"data: 1\n\n\r\n")
    assert b"Transfer-Encoding: chunked" in first
    assert not gateway.journal.rows
    second.set()
    assert await reader.readuntil(b"0\r\n\r\n") == b"9\r\ndata: 2\n\n\r\n0\r\n\r\n"
    assert gateway.journal.records[0].bytes_out == 18
    writer.close()


async def test_an_upstream_that_is_not_there_is_502(gateway: Gateway) -> None:
    await gateway.upstream.stop()
    answer = await gateway.ask()
    assert (answer.status, answer.code, answer["retry-after"]) == (502, "upstream_unreachable", "2")
    assert gateway.journal.records[0].outcome is Outcome.UPSTREAM_FAILED
    assert "127.0.0.1" not in answer.body.decode()


async def test_an_upstream_that_dies_in_the_middle_aborts_the_client(gateway: Gateway) -> None:
    """Never a clean end: the client must be able to tell that the answer is not whole."""

    async def half(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await writer.drain()
        writer.close()

    gateway.upstream.respond = half
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(f"GET /v1/models HTTP/1.1\r\nHost: a\r\nX-API-Key: {gateway.key}\r\n\r\n".encode())
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(10_000)
    writer.close()
    (record,) = gateway.journal.records
    assert (record.outcome, record.code) == (Outcome.UPSTREAM_FAILED, "upstream_broke")


@pytest.mark.parametrize("leave", ["abort", "write_eof"])
async def test_a_client_that_leaves_cancels_the_upstream(gateway: Gateway, leave: str) -> None:
    """The upstream's connection is closed while it works, and the exchange is settled as client_gone.

    Who closes only the sending half has left as well: an orderly close looks just like that (docs/clients.md).
    """
    asked, gone = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, _: asyncio.StreamWriter, __: Seen) -> None:
        asked.set()
        await reader.read(1)
        gone.set()

    gateway.upstream.respond = slow
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(f"GET /v1/models HTTP/1.1\r\nHost: a\r\nX-API-Key: {gateway.key}\r\n\r\n".encode())
    await asked.wait()
    getattr(writer.transport, leave)()
    await asyncio.wait_for(gone.wait(), 30)
    writer.close()
    (record,) = gateway.journal.records
    assert record.outcome is Outcome.CLIENT_GONE


async def test_while_the_registry_is_down_known_keys_work_and_unknown_ones_are_503(gateway: Gateway) -> None:
    """Never 401: clients throw keys away on it."""
    assert (await gateway.ask()).status == 200
    gateway.keys.down = True
    assert (await gateway.ask()).status == 200
    other = await gateway.ask(key=gateway.add_key())
    assert (other.status, other.code, other["retry-after"]) == (503, "registry_unavailable", "2")
    gateway.keys.down = False
    assert (await gateway.ask(key=gateway.add_key())).status == 200


async def test_while_redis_is_down_limits_are_counted_locally_and_counted_as_open(gateway: Gateway) -> None:
    key = gateway.add_key(key_rate=Rate(2, 60_000))
    gateway.counters.down = True
    assert [(await gateway.ask(key=key)).status for _ in range(3)] == [200, 200, 429]
    assert gateway.metrics.fail_open[("ratelimit",)] == 3


async def test_when_usage_cannot_be_recorded_nothing_is_served(gateway: Gateway) -> None:
    gateway.journal.full = True
    answer = await gateway.ask()
    assert (answer.status, answer.code) == (503, "account_unavailable")
    assert not gateway.upstream.seen


async def test_a_compressed_upload_is_refused_where_audio_is_measured(gateway: Gateway) -> None:
    """The upstream would unpack it and work on more than was seen: a free ride."""
    answer = await gateway.ask("POST", "/v1/audio/transcriptions", [("Content-Encoding", "gzip")], b"x")
    assert (answer.status, answer.code) == (415, "encoded_body")
    assert not gateway.upstream.seen


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> int:
    writer.write(data)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)
    return int(head.split(b" ")[1])


async def test_the_same_request_again_is_judged_again(gateway: Gateway) -> None:
    """Recognised by its bytes, it is not parsed twice; key, limits and account are asked each time all the same."""
    key = gateway.add_key(key_rate=Rate(3, 60_000))
    same = f"GET /v1/models HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n\r\n".encode()
    other = f"GET /v1/models?a=1 HTTP/1.1\r\nHost: a\r\nX-API-Key: {gateway.key}\r\n\r\n".encode()
    post = f"POST /v1/listen HTTP/1.1\r\nHost: a\r\nX-API-Key: {gateway.key}\r\nContent-Length: 2\r\n\r\nok".encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    statuses = [await _exchange(reader, writer, data) for data in (same, same, other, same, same, post, same)]
    assert statuses == [200, 200, 200, 200, 429, 200, 429]
    gateway.keys.by_digest.clear()
    gateway.snapshot.forget(Invalidation())
    assert await _exchange(reader, writer, same) == 401
    writer.close()
    assert [seen.target for seen in gateway.upstream.seen] == ["/v1/models"] * 2 + [
        "/v1/models?a=1",
        "/v1/models",
        "/v1/listen",
    ]
    records = gateway.journal.records
    assert [record.status for record in records] == statuses
    assert len({r.event_id for r in records}) == len({r.request_id for r in records}) == 7
    assert [r.bytes_out for r in records[:4]] == [len(SMALL)] * 4


async def test_the_end_of_a_request_again_is_no_request(gateway: Gateway) -> None:
    """Only a whole request that came alone is recognised: its last piece by itself is malformed."""
    first = b"GET /v1/models HTTP/1.1\r\n"
    last = f"Host: a\r\nX-API-Key: {gateway.key}\r\n\r\n".encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(first)
    # A round trip on another connection: by then the gateway has read the first piece on its own.
    assert (await gateway.ask()).status == 200
    assert await _exchange(reader, writer, last) == 200
    assert await _exchange(reader, writer, last) == 400
    assert await reader.read() == b""
    writer.close()
    assert len(gateway.upstream.seen) == 2


async def test_pipelined_requests_are_never_taken_for_one(gateway: Gateway) -> None:
    """Two in one piece, and the same piece again: four answers."""
    one = f"GET /v1/models HTTP/1.1\r\nHost: a\r\nX-API-Key: {gateway.key}\r\n\r\n".encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    for _ in range(2):
        assert await _exchange(reader, writer, one + one) == 200
        assert await _exchange(reader, writer, b"") == 200
    writer.close()
    assert len(gateway.upstream.seen) == 4
