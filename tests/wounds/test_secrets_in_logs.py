"""Wound: a secret in a log, or a log line written by a client (Vault CVE-2024-8365, Envoy Gateway CVE-2025-25294).

One credential is sent through every way a request can end; then everything the gateway wrote is searched for it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

import pytest
import structlog

from gateway.identity.digests import digest
from gateway.telemetry import application_log
from policies.limits.rates import Rate
from policies.routing.route_table import RouteTable
from storage.ports import Invalidation
from tests.gateway.harness import PEPPER, Answer, Gateway, Options, Seen, running
from tests.storage.waiting import until
from tests.wounds.wire import HERE, byte_by_byte, request

CANARY = 0x0CA9_A27C_A9A2_7CA9_A27C_A9A2_7CA9_A27C
POST = b"POST /v1/listen HTTP/1.1"
MODELS = b"GET /v1/models HTTP/1.1"
_UP = {"methods": ["POST"], "scope": "transcribe", "meter": "raw", "max_body": 1_000}
_QUICK = {"idle_s": 0.1, "first_byte_s": 0.1}
ROUTES = RouteTable.compile(
    {
        "routes": [
            {"name": "up", "path": "/v1/listen", **_UP, **_QUICK},
            {"name": "models", "path": "/v1/models", "methods": ["GET", "HEAD"], "scope": "transcribe"},
            {"name": "model", "path": "/v1/models/{m}", "methods": ["GET"], "scope": "transcribe"},
            {"name": "closed", "path": "/closed", "methods": ["GET"], "without_limiter": "closed"},
        ]
    }
)


class Journey:
    """A gateway and the canary; each method is one way to end a request with it."""

    def __init__(self, gateway: Gateway, key: str) -> None:
        self.gateway = gateway
        self.key = key

    async def send(self, line: bytes = MODELS, *fields: bytes, body: bytes = b"") -> None:
        """One request with the key in its place."""
        await self.gateway.raw(request(self.key, line, *fields, b"Connection: close", body=body))

    async def admitted(self) -> None:
        """Nothing is wrong with it."""
        await self.send()
        await self.send(b"HEAD /v1/models HTTP/1.1")
        await self.send(POST, b"Content-Length: 5", body=b"audio")

    async def closed_to_it(self) -> None:
        """Known, and refused for what it may do."""
        keys, row = self.gateway.keys.by_digest, digest(PEPPER, self.key.encode())
        good = keys[row]
        for changes in ({"scopes": frozenset()}, {"expires_ms": 1}, {"denied_routes": frozenset({"models"})}):
            keys[row] = replace(good, **changes)
            self.gateway.snapshot.forget(Invalidation())
            await self.send()

    async def misplaced(self) -> None:
        """Where people paste keys."""
        key = self.key.encode()
        for line in (
            b"GET /v1/models/" + key + b" HTTP/1.1",
            b"GET /" + key + b" HTTP/1.1",
            b"GET /v1/models?k=" + key + b" HTTP/1.1",
        ):
            await self.gateway.raw(request(None, line, b"Connection: close"))
            await self.send(line)
        for line in (
            b"GET /" + key + b"/../x HTTP/1.1",
            b"GET " + key + b" HTTP/1.1",
            key + b" / HTTP/1.1",
            b"GET http://" + key + b"/ HTTP/1.1",
        ):
            await self.gateway.raw(request(None, line, b"Connection: close"))
        for name in (
            b"User-Agent",
            b"Referer",
            b"X-Request-ID",
            b"Cookie",
            b"Proxy-Authorization",
            b"Accept",
            b"X-Forwarded-For",
            b"Upgrade",
        ):
            await self.send(MODELS, name + b": " + key)
        await self.gateway.raw(request(None, MODELS, b"Connection: close", host=b"Host: " + key + b"@x"))

    async def conflicting(self) -> None:
        """Beside another credential, or nearly itself."""
        await self.send(MODELS, b"X-API-Key: other")
        await self.send(MODELS, b"Authorization: Basic " + self.key.encode())
        await self.gateway.raw(request(None, MODELS, b"X-API-Key: " + self.key.encode() + b"x", b"Connection: close"))

    async def refused(self) -> None:
        """Known, and refused for what it asks."""
        await self.send(b"GET /nowhere HTTP/1.1")
        await self.send(b"DELETE /v1/models HTTP/1.1")
        await self.send(POST, b"Content-Length: 5000", body=bytes(5_000))
        await self.send(POST, b"Expect: " + self.key.encode(), b"Content-Length: 1", body=b"x")
        await self.send(POST, b"Transfer-Encoding: chunked", body=b"fff\r\n" + bytes(0xFFF) + b"\r\n0\r\n\r\n")
        await self.send(MODELS, b"Connection: Upgrade", b"Upgrade: websocket")
        await self.send(POST, b"Content-Length: 10", body=b"x")

    async def malformed(self) -> None:
        """In what is no HTTP."""
        key = self.key.encode()
        for line in (
            key,
            b"X-A: " + key + b"\x00",
            key + b"\x01: x",
            b"Content-Length: " + key,
            b"Transfer-Encoding: " + key,
            b"X-A: b\n" + key,
            b"X-A: b\r\n " + key,
            b"Authorization: Bearer " + key + b"\x7f",
        ):
            await self.gateway.raw(request(None, MODELS, line))
            await byte_by_byte(self.gateway, request(None, MODELS, line))
        for size in (9_000, 100_000):
            await self.gateway.raw(request(None, MODELS, b"Authorization: Bearer " + key + b"k" * size))
            await self.gateway.raw(request(None, b"GET /" + key + b"k" * size + b" HTTP/1.1"))
        for body in (
            key + b"\r\n",
            b"5\r\n" + key + b"\r\n",
            b"5;" + key + b"\n\r\nhello\r\n0\r\n\r\n",
            b"0\r\n" + key + b"\r\n\r\n",
        ):
            for send in (self.gateway.raw, lambda data: byte_by_byte(self.gateway, data)):
                await send(request(self.key, POST, b"Transfer-Encoding: chunked", body=body))

    async def stores_down(self) -> None:
        """Nobody can be asked about it."""
        self.gateway.snapshot.forget(Invalidation())
        self.gateway.keys.down = True
        await self.send()
        self.gateway.keys.down = False
        self.gateway.counters.down = True
        await self.send()
        await self.send(b"GET /closed HTTP/1.1")
        self.gateway.counters.down = False
        self.gateway.journal.full = True
        await self.send()
        self.gateway.journal.full = False

    async def limited(self) -> None:
        """Over its limit."""
        keys, row = self.gateway.keys.by_digest, digest(PEPPER, self.key.encode())
        keys[row] = replace(keys[row], key_rate=Rate(1, 60_000))
        self.gateway.snapshot.forget(Invalidation())
        await self.send()
        await self.send()
        assert [line["status"] for line in self.gateway.lines] == [200, 429]

    async def upstream_failing(self) -> None:
        """Admitted, and the upstream fails, repeating it."""
        key = self.key.encode()
        before = self.gateway.upstream.respond
        for answer in (
            b"",
            key,
            b"HTTP/1.1 200 OK\r\n" + key,
            b"HTTP/1.1 200 OK\r\nX: " + key + b"\x00\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx",
            b"HTTP/1.1 500 " + key + b"\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + key,
        ):

            async def fail(
                _: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen, answer: bytes = answer
            ) -> None:
                writer.write(answer)
                await writer.drain()
                writer.close()

            self.gateway.upstream.respond = fail
            try:
                await self.send()
            except ConnectionError:
                continue

        async def silent(*_: object) -> None:
            await asyncio.Event().wait()

        self.gateway.upstream.respond = silent
        await self.send(POST, b"Content-Length: 5", body=b"audio")
        self.gateway.upstream.respond = before

    async def our_own_bug(self) -> None:
        """A bug in one stage after the other."""
        with pytest.MonkeyPatch.context() as patch:
            for where in (
                "gateway.identity.snapshot.Snapshot.known",
                "gateway.dataplane.relay.Relay.carry",
                "gateway.dataplane.upload.meter_for",
                "gateway.dataplane.settlement.Settlement._record",
                "gateway.upstreams.connection.UpstreamConnection.begin",
            ):
                with patch.context() as bug:
                    bug.setattr(where, _broken)
                    await self.send(POST, b"Content-Length: 5", body=b"audio")

    async def forward_auth(self) -> None:
        """At the second door."""
        key = self.key.encode()
        line = b"GET /auth/verify HTTP/1.1"
        for fields in (
            (b"X-Original-URI: /v1/models", b"X-Original-Method: GET"),
            (b"X-Original-URI: /" + key, b"X-Original-Method: GET"),
            (b"X-Original-URI: /" + key + b"/..", b"X-Original-Method: GET"),
            (b"X-Original-URI: /v1/models", b"X-Original-Method: " + key),
            (b"X-Original-URI: /v1/models?k=" + key, b"X-Original-Method: GET", b"X-API-Key: x"),
            (b"X-Original-URI: " + key,),
            (),
        ):
            await self.send(line, *fields)

    async def gone(self) -> None:
        """Its client leaves."""
        asked = asyncio.Event()
        before = self.gateway.upstream.respond

        async def silent(*_: object) -> None:
            asked.set()
            await asyncio.Event().wait()

        self.gateway.upstream.respond = silent
        _, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port)
        writer.write(request(self.key))
        await asked.wait()
        writer.transport.abort()
        await until(lambda: not self.gateway.metrics.inflight)
        self.gateway.upstream.respond = before


def _broken(*_: object, **__: object) -> object:
    raise RuntimeError("a bug")


WAYS: dict[str, Callable[[Journey], Awaitable[None]]] = {
    name: way for name, way in vars(Journey).items() if not name.startswith("_") and name != "send"
}


@pytest.fixture
def production_log(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """The application's log as a worker writes it, at its most talkative; as it was before, afterwards."""
    root = logging.getLogger()
    handlers, level, before = root.handlers[:], root.level, structlog.get_config()
    application_log.configure("debug")
    structlog.configure(**structlog.get_config() | {"cache_logger_on_first_use": False})
    root.handlers += handlers
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


@pytest.mark.usefixtures("production_log")
@pytest.mark.parametrize("way", WAYS)
async def test_a_credential_is_written_nowhere(
    way: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A-02, O-02, O-03, H-14: not in a log line at any level, nor in metrics, records or answers."""
    answered: list[bytes] = []
    real = Gateway.raw

    async def noting(self: Gateway, data: bytes, *, timeout: float = 10.0) -> bytes:
        answered.append(await real(self, data, timeout=timeout))
        return answered[-1]

    monkeypatch.setattr(Gateway, "raw", noting)
    async with running(Options(routes=ROUTES, trusted=(HERE,))) as gateway:
        gateway.numbers = CANARY
        key = gateway.add_key(key_rate=Rate(1_000, 60_000))
        secret = key.removeprefix("thk_live_")
        await WAYS[way](Journey(gateway, key))
        assert gateway.lines, "this way was not gone at all"
        written = [str(gateway.lines), str(gateway.journal.rows), str(gateway.metrics.snapshot()), str(answered)]
    out, err = capfd.readouterr()
    for text in (*written, out, err, caplog.text, *(str(entry.__dict__) for entry in caplog.records)):
        assert secret not in text


HOSTILE = {
    "CR LF": b'a\r\n{"level":"info","event":"access"}',
    "escape": b"\x1b[2J\x1b[31mred",
    "NUL": b"a\x00b",
    "line separator": "a\u2028b\u2029c\u0085d".encode(),
    "invalid UTF-8": b"\xff\xfe\xc3(",
    "overlong": b"\xc0\x80",
    "quote": b'","level":"error","x":"',
    "backslash": b"\\u0000\\n",
    "long": b"a" * 7_000,
    "right to left": "\u202eabc".encode(),
}


@pytest.mark.parametrize("text", HOSTILE)
async def test_a_hostile_text_stays_inside_its_field_on_one_line(gateway: Gateway, text: str) -> None:
    """O-01: in path, query, User-Agent and request id, admitted or not: one JSON line a request, and short."""
    hostile = HOSTILE[text]
    for data in (
        request(gateway.key, MODELS, b"User-Agent: " + hostile, b"Connection: close"),
        request(gateway.key, MODELS, b"X-Request-ID: " + hostile, b"Connection: close"),
        request(gateway.key, b"GET /v1/models/" + hostile + b" HTTP/1.1", b"Connection: close"),
        request(None, b"GET /nowhere/" + hostile + b" HTTP/1.1", b"Connection: close"),
        request(None, b"GET /v1/models?" + hostile + b" HTTP/1.1", b"Connection: close"),
        request(None, hostile + b" /v1/models HTTP/1.1", b"Connection: close"),
    ):
        before = len(gateway.lines)
        await gateway.raw(data)
        assert len(gateway.lines) == before + 1
    gateway._log.flush()
    lines = gateway._log_path.read_bytes().split(b"\n")
    assert lines.pop() == b""
    for line in lines:
        assert line.startswith(b'{"ts":')
        assert line.endswith(b"}")
        assert len(line) < 4_096  # what a pipe takes whole (pipe(7), PIPE_BUF)
        assert not set(line) & {*range(0x20), 0x7F}
        assert line.count(b'"level":"') == 1 or b"\\" in line


IDS = [
    (b"abc-123", True), (b"A" * 64, True), (b"0", True), (b"A" * 65, False), (b"", False), (b"a b", False),
    (b"a_b", False),
    (b"a.b", False), (b"a\tb", False), (b"a;b", False), ("\u00e9".encode(), False), (b"\xb2", False),
    (b"a/../b", False),
    (b"a,b", False), (b"<script>", False), (b'"', False),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "kept"), IDS, ids=[ascii(sent[:12])[2:-1] for sent, _ in IDS])
async def test_a_request_id_is_kept_when_harmless_and_replaced_otherwise(
    gateway: Gateway, sent: bytes, kept: bool
) -> None:
    """O-07: in the answer, at the upstream, in the log and in the record, always the same one."""
    answer = Answer.parse(
        await gateway.raw(request(gateway.key, MODELS, b"X-Request-ID: " + sent, b"Connection: close"))
    )
    assert (answer["x-request-id"] == sent.decode("latin-1")) is kept
    assert kept or len(answer["x-request-id"]) == 36
    same = {
        answer["x-request-id"],
        *gateway.upstream.seen[0].all("x-request-id"),
        gateway.journal.records[0].request_id,
    }
    assert same == {gateway.lines[0]["request_id"]}


async def test_request_ids_of_our_own_are_never_alike(gateway: Gateway) -> None:
    """However fast they are made, and on one connection or many."""
    data = request(None) * 300 + request(None, MODELS, b"Connection: close")
    await gateway.raw(data)
    assert len({line["request_id"] for line in gateway.lines}) == 301
