"""What an access token costs beside an API key: ``python -m tests.bench.tokens [--rounds N] [--seconds N]``.

One gateway, one worker, the same requests: with a key, with one token again and again (cached), and with thousands of
tokens that are each seen once (verified, and whose it is asked). CPU of the whole tree, PostgreSQL included.
"""

import argparse
import asyncio
import json
import statistics
import time
import urllib.parse
import urllib.request

from tests.bench.cost import cpu_seconds, tree, wrk
from tests.bench.run import PORT, gateway, run, upstreams

BASE = f"http://127.0.0.1:{PORT}"
URL = f"{BASE}/v1/models"
DISTINCT = 10_000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    options = parser.parse_args()
    with upstreams(), gateway(9301, 1) as (pid, key, env):
        made = run("service-account", "create", "--tenant", "bench", "--name", "bench", "--json", env=env)
        client = json.loads(made)
        rows: dict[str, list[float]] = {"key": [], "token": []}
        for number in range(options.rounds + 1):
            for name, secret in (("key", key), ("token", token(client))):
                before = cpu_seconds(tree(pid))
                row = wrk(URL, [f"Authorization: Bearer {secret}"], 64, options.seconds)
                if row["bad"]:
                    raise SystemExit(f"{row['bad']} bad answers with the {name}")
                if number:  # the first round warms up
                    rows[name].append((cpu_seconds(tree(pid)) - before) * 1e6 / row["requests"])
        for name, costs in rows.items():
            print(f"{name:8} {statistics.median(costs):7.1f} CPU us/request")
        ratios = [t / k for t, k in zip(rows["token"], rows["key"], strict=True)]
        print(f"ratio token/key: {statistics.median(ratios):.3f}")
        tokens = asyncio.run(mint(client, DISTINCT))
        before, started = cpu_seconds(tree(pid)), time.monotonic()
        asyncio.run(use(tokens))
        took, cost = time.monotonic() - started, cpu_seconds(tree(pid)) - before
        print(
            f"{DISTINCT} distinct tokens: {cost * 1e6 / DISTINCT:.1f} CPU us/request, {DISTINCT / took:.0f} requests/s"
        )


def token(client: dict[str, str]) -> str:
    """One access token."""
    with urllib.request.urlopen(f"{BASE}/auth/token", _form(client)) as answer:
        return str(json.load(answer)["access_token"])


async def mint(client: dict[str, str], count: int) -> list[str]:
    """Many access tokens."""
    body = _form(client)
    asked = (
        b"POST /auth/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    return [json.loads(answer)["access_token"] for answer in await _ask([asked] * count)]


async def use(tokens: list[str]) -> None:
    """One request with each."""
    await _ask(
        [f"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {each}\r\n\r\n".encode() for each in tokens]
    )


async def _ask(questions: list[bytes], connections: int = 64) -> list[bytes]:
    """The bodies of the answers, over some connections."""
    answers: list[bytes] = []
    left = iter(questions)

    async def line() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        for question in left:
            writer.write(question)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(head.decode())
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            answers.append(await reader.readexactly(length))
        writer.close()

    await asyncio.gather(*(line() for _ in range(connections)))
    return answers


def _form(client: dict[str, str]) -> bytes:
    fields = {
        "grant_type": "client_credentials",
        "client_id": client["client_id"],
        "client_secret": client["client_secret"],
    }
    return urllib.parse.urlencode(fields).encode()


if __name__ == "__main__":
    main()
