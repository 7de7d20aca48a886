"""A storm of log-ins beside proxied traffic: what it costs the traffic.

    python -m tests.bench.logins [--rate N] [--logins N] [--seconds N] [--workers N]

So many proxied requests a second, alone and with so many clients that log in all the time, in turn. Each
log-in is by another address for another account, so that each is worth the hashing of a password; who is told to come
later (503) comes when it was told. A latency is counted from when the request was due.
"""

import argparse
import asyncio
import itertools
import statistics
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
    options = parser.parse_args()
    with upstreams(), gateway(9301, options.workers, _SETTINGS) as (_, key, _):
        asyncio.run(_measure(options, key))


async def _measure(options: argparse.Namespace, key: str) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(_URL, connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        for storm in (0, options.logins) * 3:
            logins: Counter[int] = Counter()
            numbers = itertools.count(int(time.time()) % 100_000 * 100)
            tasks = Tasks()
            for _ in range(storm):
                tasks.start(_log_in(session, numbers, logins), "log-ins")
            await asyncio.sleep(1)
            took = await _traffic(session, key, options.rate, options.seconds)
            await tasks.close()
            centiles = statistics.quantiles(took, n=100)
            print(
                f"{storm:4} log-ins in flight: {len(took)} requests, p50 {centiles[49] * 1000:.1f} ms, "
                f"p95 {centiles[94] * 1000:.1f} ms, p99 {centiles[98] * 1000:.1f} ms; log-ins: {dict(logins)}",
                flush=True,
            )


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


async def _log_in(session: aiohttp.ClientSession, numbers: Iterator[int], outcomes: Counter[int]) -> None:
    while True:
        number = next(numbers)
        address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        body = {"email": f"nobody-{number}@example.com", "password": "correct horse battery staple"}
        headers = {"X-Forwarded-For": address, "Sec-Fetch-Site": "same-origin"}
        async with session.post("/auth/login", json=body, headers=headers) as answer:
            await answer.read()
            outcomes[answer.status] += 1
            wait = float(answer.headers.get("Retry-After", 0))
        await asyncio.sleep(wait)


if __name__ == "__main__":
    main()
