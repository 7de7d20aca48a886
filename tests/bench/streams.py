"""Open WebSockets on one worker: what an idle one weighs, whether any time-out is missed, what busy ones cost.

    python -m tests.bench.streams [--idle N] [--busy N] [--seconds N] [--port P]

A real gateway (embedded PostgreSQL and Valkey, one worker, a key check and a limit per opening), a WebSocket service and
the clients, each a process of its own. Clients come from several loopback addresses, as one has too few ports. Of the
worker's files (RLIMIT_NOFILE) a stream takes two: with fewer than 20 080 there are fewer streams, and the run says so.
"""

import argparse
import asyncio
import contextlib
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import uvloop

from policies.http.websocket import BINARY, CLOSE, PING, PONG, TEXT, frame
from tests.bench.run import GATEWAY, run

KEY_LINE = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
AGREE = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\n\r\n"
)
MASK = b"\x37\xfa\x21\x3d"
FRAME_BYTES, FRAMES_PER_S = 3_200, 10
WORDS = frame(TEXT, b'{"type":"Results","is_final":false}')
PING_S, IDLE_S = 15, 40
"""The bench's route: every stream is to be asked every 15 s, and ended after 40 s without a message."""
OPENING_AT_ONCE = 200
SPARE_FILES = 80


# --- the service behind the gateway ----------------------------------------------------------------------------------


class Service(asyncio.Protocol):
    """Agrees to every stream, and answers every whole audio frame with a few words."""

    def __init__(self) -> None:
        self._open = False
        self._received = 0
        self._data = b""
        self._size = len(frame(BINARY, bytes(FRAME_BYTES), MASK))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        if not self._open:
            self._data += data
            if b"\r\n\r\n" in self._data:
                self._open, self._data = True, b""
                self._transport.write(AGREE)
            return
        if data[0] & 0x0F > BINARY and not self._received % self._size:
            if data[0] & 0x0F == CLOSE:
                self._transport.close()
            return  # a pong that passes through
        before = self._received // self._size
        self._received += len(data)
        self._transport.write(WORDS * (self._received // self._size - before))


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Service, "127.0.0.1", port, backlog=4_096)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


# --- the clients -----------------------------------------------------------------------------------------------------


class Client(asyncio.Protocol):
    """One stream. Answers pings as a browser does."""

    __slots__ = ("closed_at", "code", "opened", "opened_at", "pings", "sent_at", "took", "transport")

    def __init__(self) -> None:
        self.opened = asyncio.get_running_loop().create_future()
        self.pings = 0
        self.code = 0
        self.opened_at = self.closed_at = 0.0
        self.sent_at: list[float] = []
        self.took: list[tuple[float, float]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(exc or ConnectionResetError("closed before the 101"))

    def data_received(self, data: bytes) -> None:
        if not self.opened.done():
            if data.startswith(b"HTTP/1.1 101 "):
                self.opened.set_result(None)
                self.opened_at = time.perf_counter()
            else:
                self.opened.set_exception(ConnectionError(data[:300].decode()))
            return
        now = time.perf_counter()
        while data:  # small unmasked frames, never split on loopback
            opcode, size, start = data[0] & 0x0F, data[1], 2
            if size == 126:
                size, start = int.from_bytes(data[2:4], "big"), 4
            payload, data = data[start : start + size], data[start + size :]
            if opcode == PING:
                self.pings += 1
                self.transport.write(frame(PONG, payload, MASK))
            elif opcode == CLOSE:
                self.code, self.closed_at = int.from_bytes(payload[:2], "big"), now
                self.transport.write(frame(CLOSE, payload[:2], MASK))
            elif self.sent_at:
                sent = self.sent_at.pop(0)
                self.took.append((sent, now - sent))


async def open_all(port: int, key: str, count: int, path: str) -> list[Client]:
    request = "\r\n".join(
        [f"GET {path} HTTP/1.1", "Host: bench", "Connection: Upgrade", "Upgrade: websocket", KEY_LINE,
         "Sec-WebSocket-Version: 13", f"Authorization: Bearer {key}", "", ""]
    ).encode()  # fmt: skip
    gate = asyncio.Semaphore(OPENING_AT_ONCE)
    loop = asyncio.get_running_loop()

    async def one(number: int) -> Client:
        async with gate:
            source = (f"127.0.{1 + number // 5_000}.1", 0)
            _, client = await loop.create_connection(Client, "127.0.0.1", port, local_addr=source)
            client.transport.write(request)
            await client.opened
            return client

    return list(await asyncio.gather(*(one(number) for number in range(count))))


async def idle(port: int, key: str, count: int) -> dict[str, object]:
    """Open, say nothing, and see what the gateway does when."""
    began = time.perf_counter()
    clients = await open_all(port, key, count, "/idle")
    opened = time.perf_counter()
    tell({"opened": count, "opening_s": opened - began})
    await asyncio.sleep(IDLE_S + 20 - min(time.perf_counter() - opened, 10))
    lasted = [client.closed_at - client.opened_at for client in clients if client.closed_at]
    return {
        "ended": len(lasted),
        "codes": sorted({client.code for client in clients}),
        "fewest_pings": min(client.pings for client in clients),
        "most_pings": max(client.pings for client in clients),
        "shortest_s": round(min(lasted, default=0), 3),
        "longest_s": round(max(lasted, default=0), 3),
    }


async def busy(port: int, key: str, count: int, seconds: int) -> dict[str, object]:
    """Every stream sends a tenth of a second of audio ten times a second, metered, and waits for words."""
    clients = await open_all(port, key, count, "/busy?encoding=linear16&sample_rate=16000")
    tell({"opened": count})
    audio = frame(BINARY, bytes(FRAME_BYTES), MASK)
    loop = asyncio.get_running_loop()
    began, start = time.perf_counter(), loop.time()
    steps = 20  # in each period a twentieth of the clients sends at a time: they are not in step
    late = []
    for turn in range(seconds * FRAMES_PER_S):
        for step in range(steps):
            at = start + (turn + step / steps) / FRAMES_PER_S
            await asyncio.sleep(max(at - loop.time(), 0))
            late.append(loop.time() - at)
            for client in clients[step::steps]:
                client.sent_at.append(time.perf_counter())
                client.transport.write(audio)
    await asyncio.sleep(1)
    took = sorted(pair for client in clients for pair in client.took)
    windows = []
    width = max(seconds // 5, 1)
    for first in range(0, seconds, width):
        inside = sorted(t for sent, t in took if first <= sent - began < first + width)
        if inside:
            windows.append(
                {"from_s": first, "p50_ms": round(statistics.median(inside) * 1e3, 2),
                 "p99_ms": round(inside[int(len(inside) * 0.99)] * 1e3, 2)}
            )  # fmt: skip
    unanswered = sum(len(client.sent_at) for client in clients)
    lag = sorted(late)[int(len(late) * 0.99)]
    return {
        "answered": len(took),
        "unanswered": unanswered,
        "senders_late_p99_ms": round(lag * 1e3, 1),
        "windows": windows,
    }


def tell(facts: dict[str, object]) -> None:
    print(json.dumps(facts), flush=True)


# --- the run ---------------------------------------------------------------------------------------------------------

ROUTES = f"""
[[routes]]
name = "idle"
path = "/idle"
methods = ["GET"]
websocket = true
ping_s = {PING_S}
stream_idle_s = {IDLE_S}

[[routes]]
name = "busy"
path = "/busy"
methods = ["GET"]
websocket = true
meter = "deepgram"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--busy", type=int, default=1_000)
    parser.add_argument("--seconds", type=int, default=30, help="how long the busy ones send")
    parser.add_argument("--port", type=int, default=9200, help="and the next two")
    parser.add_argument("part", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    match options.part:
        case ["serve", port]:
            uvloop.run(serve(int(port)))
        case ["idle", port, count]:
            tell(uvloop.run(idle(int(port), os.environ["KEY"], int(count))))
        case ["busy", port, count, seconds]:
            tell(uvloop.run(busy(int(port), os.environ["KEY"], int(count), int(seconds))))
        case _:
            most = (hard - SPARE_FILES) // 2
            if options.idle > most:
                print(f"RLIMIT_NOFILE is {hard:,}: {most:,} idle streams instead of {options.idle:,}")
            with gateway(options.port) as (worker, key):
                measure("idle", worker, options.port, key, min(options.idle, most))
                print("\nThe same clients, straight to the service:")
                measure("busy", worker, options.port + 2, key, min(options.busy, most), options.seconds)
                print("\nThrough the gateway:")
                measure("busy", worker, options.port, key, min(options.busy, most), options.seconds)


def measure(part: str, worker: int, port: int, key: str, *numbers: int) -> None:
    """Run one set of clients, and look at the worker meanwhile."""
    before, cpu = resident(worker), cpu_s(worker)
    words = [sys.executable, "-m", "tests.bench.streams", part, str(port), *map(str, numbers)]
    clients = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ, "KEY": key})
    assert clients.stdout is not None
    opened = json.loads(clients.stdout.readline())
    spent = cpu_s(worker) - cpu
    time.sleep(2)
    grown = resident(worker) - before
    print(f"\n{part}: {json.dumps(opened)}")
    print(f"  worker: {before / 1024:.1f} MB before, {grown / numbers[0]:.2f} kB a stream, {spent:.2f} s CPU to open")
    began, cpu = time.monotonic(), cpu_s(worker)
    time.sleep(5)
    share = (cpu_s(worker) - cpu) / (time.monotonic() - began)
    print(f"  worker: {share * 100:.1f} % of a core while they are {part}")
    print("  " + json.dumps(json.loads(clients.stdout.readline())))
    print(f"  worker at its end: {cpu_s(worker) - cpu:.1f} s CPU in all, {resident(worker) / 1024:.1f} MB")
    clients.wait(30)


@contextlib.contextmanager
def gateway(port: int) -> Iterator[tuple[int, str]]:
    """A gateway with one worker in front of the service: the worker's pid, and a key."""
    service = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.streams", "serve", str(port + 2)], stdout=subprocess.PIPE, text=True
    )
    assert service.stdout is not None
    service.stdout.readline()
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as place:
        Path(f"{place}/routes.toml").write_text(ROUTES)
        env = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")} | {
            "GATEWAY_STATE_DIR": f"{place}/state",
            "GATEWAY_LISTEN": f"127.0.0.1:{port}",
            "GATEWAY_OPS_LISTEN": f"127.0.0.1:{port + 1}",
            "GATEWAY_UPSTREAM": f"http://127.0.0.1:{port + 2}",
            "GATEWAY_ROUTES_FILE": f"{place}/routes.toml",
            "GATEWAY_WORKERS": "1",
            "GATEWAY_MAX_CONNECTIONS_PER_ADDRESS": "100000",
        }
        with Path(f"{place}/log").open("wb") as log:
            parent = subprocess.Popen([*GATEWAY, "serve", "--embedded"], stdout=log, stderr=log, env=env)
        try:
            wait_until_ready(port + 1, parent)
            run("tenant", "create", "bench", env=env)
            key = json.loads(run("key", "create", "--tenant", "bench", "--name", "bench", "--json", env=env))
            run("limits", "set", "--tenant", "bench", "--requests", "900000000/m", env=env)
            yield worker_of(parent.pid), key["key"]
        finally:
            parent.send_signal(signal.SIGTERM)
            parent.wait(60)
            service.send_signal(signal.SIGTERM)
            service.wait(10)


def wait_until_ready(ops: int, parent: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        if parent.poll() is not None:
            sys.exit("the gateway did not start")
        answer = subprocess.run(["curl", "-sf", f"http://127.0.0.1:{ops}/readyz"], capture_output=True, check=False)
        if answer.returncode == 0:
            return
        time.sleep(0.1)
    sys.exit("the gateway did not become ready")


def worker_of(parent: int) -> int:
    for task in Path(f"/proc/{parent}/task").glob("*/children"):
        for pid in task.read_text().split():
            if b"gateway.processes.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return int(pid)
    raise LookupError("no worker")


def resident(pid: int) -> int:
    """VmRSS in kB."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0])


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
