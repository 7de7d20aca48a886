"""A storm of log-ins beside proxied traffic: what it costs the traffic.

    python -m tests.bench.logins [--rate N] [--logins N] [--seconds N] [--workers N] [--rounds N]

So many proxied requests a second, alone and with so many clients that log in all the time, in turn; after each storm
the passwords that still wait are checked first. Each log-in is by another address for another account, so that each is
worth the hashing of a password; who is told to come later (503) comes when it was told. A latency is counted from when
the request was due.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator

import aiohttp

from gateway.tasks import Tasks
from tests.bench.run import PORT, gateway, upstreams

_URL = f"http://127.0.0.1:{PORT}"
_SETTINGS = {"GATEWAY_TRUSTED_PROXIES": "127.0.0.1"}


def main() -> None:
    """Run it and print the percentiles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=200)
    parser.add_argument("--logins", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--storm", action="store_true", help="only log in, until SIGTERM; the benchmark starts itself so"
    )
    options = parser.parse_args()
    if options.storm:
        asyncio.run(_storm(options.logins))
        return
    with upstreams(), gateway(9301, options.workers, _SETTINGS) as (_, key, _):
        ratios = []
        for _ in range(options.rounds):
            alone, beside = (_p99(options, key, logins) for logins in (0, options.logins))
            ratios.append(beside / alone)
            asyncio.run(_until_quiet())
    print(f"p99 with them: {statistics.median(ratios):.2f} times ({', '.join(f'{ratio:.2f}' for ratio in ratios)})")


def _p99(options: argparse.Namespace, key: str, logins: int) -> float:
    """The traffic's, in seconds, with so many clients that log in beside it."""
    with _clients(logins) as told:
        took = asyncio.run(_measure(options, key))
    centiles = statistics.quantiles(took, n=100)
    print(
        f"{logins:4} log-ins in flight: {len(took)} requests, p50 {centiles[49] * 1000:.1f} ms, "
        f"p95 {centiles[94] * 1000:.1f} ms, p99 {centiles[98] * 1000:.1f} ms; log-ins: {told}",
        flush=True,
    )
    return centiles[98]


@contextlib.contextmanager
def _clients(count: int) -> Iterator[dict[str, int]]:
    """So many clients in a process of their own: what they cost their own loop is no latency of the gateway."""
    told: dict[str, int] = {}
    if not count:
        yield told
        return
    command = (sys.executable, "-m", "tests.bench.logins", "--storm", "--logins", str(count))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield told
        process.send_signal(signal.SIGTERM)
        told |= json.loads(process.communicate()[0])


async def _measure(options: argparse.Namespace, key: str) -> list[float]:
    async with _session() as session:
        return await _traffic(session, key, options.rate, options.seconds)


async def _storm(count: int) -> None:
    """Log in without end; at the end say how it went."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    logins: Counter[int] = Counter()
    numbers = itertools.count(int(time.time()) % 100_000 * 100)
    tasks = Tasks()
    async with _session() as session:
        for _ in range(count):
            tasks.start(_log_in(session, numbers, logins), "log-ins")
        await asyncio.sleep(1)
        print(flush=True)
        await ended.wait()
        await tasks.close()
    print(json.dumps(logins))


def _session() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(_URL, connector=connector, cookie_jar=aiohttp.DummyCookieJar())


async def _traffic(session: aiohttp.ClientSession, key: str, rate: int, seconds: float) -> list[float]:
    took: list[float] = []
    began = time.monotonic()

    async def ask(due: float) -> None:
        async with session.get("/v1/models", headers={"Authorization": f"Bearer {key}"}) as answer:
            await answer.read()
            answer.raise_for_status()
        took.append(time.monotonic() - due)

    async with asyncio.TaskGroup() as pending:
        for number in range(int(rate * seconds)):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            pending.create_task(ask(due))
    return took


async def _until_quiet() -> None:
    """Passwords are checked in the order of their coming: when one more is, none of the storm's waits."""
    async with _session() as session:
        while (await _answered(session, int(time.time()) % 100_000 * 100))[0] == 503:  # noqa: ASYNC110  another process's queue
            await asyncio.sleep(1)


async def _log_in(session: aiohttp.ClientSession, numbers: Iterator[int], outcomes: Counter[int]) -> None:
    while True:
        status, wait = await _answered(session, next(numbers))
        outcomes[status] += 1
        await asyncio.sleep(wait + random.random())  # people and lines are not as punctual as this loop


async def _answered(session: aiohttp.ClientSession, number: int) -> tuple[int, float]:
    """One log-in's status, and the seconds after which to come again."""
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    body = {"email": f"nobody-{number}@example.com", "password": "correct horse battery staple"}
    headers = {"X-Forwarded-For": address, "Sec-Fetch-Site": "same-origin"}
    async with session.post("/auth/login", json=body, headers=headers) as answer:
        await answer.read()
        return answer.status, float(answer.headers.get("Retry-After", 0))


if __name__ == "__main__":
    main()
