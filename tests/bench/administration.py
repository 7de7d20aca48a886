"""What administration costs when there is much of it: ``python -m tests.bench.administration [--port N] [--rounds N]``.

A gateway with two workers; one tenant with 100 000 keys; 1 000 tenants with roll-ups of 30 days by hour (2.9 million rows,
what some hundred million requests leave). Pages of keys and usage by the API, and how long after the answer a revocation, a
change of plan and a suspension are in force on every connection, whichever worker holds it.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from policies.identity.permissions import Permission
from storage.embedded import attached
from tests.bench.run import GATEWAY, run

KEYS, TENANTS, DAYS = 100_000, 1_000, 30
CONNECTIONS = 16

SEED_KEYS = """
    INSERT INTO platform.api_keys (id, tenant_id, name, digest, last4, scopes, expires_at)
    SELECT 'key_' || lpad(to_hex(n), 20, '0'), $1, 'key ' || n, sha256(n::text::bytea), 'last', '{transcribe}',
        CASE WHEN n % 100 = 0 THEN now() + interval '10 days' END
    FROM generate_series(1, $2) n
"""
SEED_USES = """
    INSERT INTO platform.key_uses (key_id, tenant_id, used_at, address, agent)
    SELECT id, tenant_id, now() - interval '1 hour', '192.0.2.1', 'bench' FROM platform.api_keys
    WHERE tenant_id = $1 AND right(id, 1) < '8'
"""
SEED_USAGE = """
    INSERT INTO platform.usage_hourly (bucket, requests, errors, denied, audio_ms, bytes_in, bytes_out, duration_us,
        upstream_us, tenant_id, key_id, user_id, route, outcome)
    SELECT date_trunc('hour', now()) - h * interval '1 hour', 40, 1, 0, 600000, 1000000, 10000, 4000000, 3900000,
        CASE t WHEN 1 THEN $1 ELSE 'ten_' || t END, 'key_' || k, '', 'openai.transcriptions', o
    FROM generate_series(1, $2) t, generate_series(1, $3) h, generate_series(1, 2) k, unnest(ARRAY['ok', 'denied']) o
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=9200)
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as place:
        env = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")} | {
            "GATEWAY_STATE_DIR": f"{place}/state",
            "GATEWAY_LISTEN": f"127.0.0.1:{options.port}",
            "GATEWAY_OPS_LISTEN": f"127.0.0.1:{options.port + 1}",
            "GATEWAY_UPSTREAM": f"http://127.0.0.1:{options.port + 2}",
            "GATEWAY_WORKERS": "2",
        }
        with Path(f"{place}/log").open("wb") as log:
            process = subprocess.Popen([*GATEWAY, "serve", "--embedded"], stdout=log, stderr=log, env=env)
        try:
            _ready(Path(f"{place}/log"), process)
            tenant, key = _operator(env)
            asyncio.run(_all(Path(env["GATEWAY_STATE_DIR"]), f"http://127.0.0.1:{options.port}", tenant, key, options))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _ready(log: Path, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 60
    while b'"event":"ready"' not in log.read_bytes():
        if process.poll() is not None or time.monotonic() > until:
            raise SystemExit(log.read_text())
        time.sleep(0.1)


def _operator(env: dict[str, str]) -> tuple[str, str]:
    """The tenant's id, and an operator's key."""
    tenant = json.loads(run("tenant", "create", "bench", "--json", env=env))
    run("user", "create", "--tenant", "bench", "--email", "op@example.com", "--role", "owner", env=env)
    run("operator", "grant", "op@example.com", env=env)
    scopes = [word for each in Permission for word in ("--scope", each)]
    who = ("--tenant", "bench", "--name", "op", "--user", "op@example.com")
    return tenant["id"], json.loads(run("key", "create", *who, *scopes, "--json", env=env))["key"]


async def _all(state: Path, url: str, tenant_id: str, key: str, options: argparse.Namespace) -> None:
    async with attached(state) as (database, _):
        connection = await asyncpg.connect(database)
        await connection.execute(SEED_KEYS, tenant_id, KEYS)
        await connection.execute(SEED_USES, tenant_id)
        await connection.execute(SEED_USAGE, tenant_id, TENANTS, DAYS * 24)
        await connection.execute("ANALYZE platform.api_keys")
        await connection.execute("ANALYZE platform.key_uses")
        await connection.execute("ANALYZE platform.usage_hourly")
        rows = await connection.fetchval("SELECT count(*) FROM platform.usage_hourly")
        print(f"{KEYS} keys in one tenant; {rows} rows of roll-ups of {TENANTS} tenants")
        await connection.close()
    async with aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {key}"}) as api:
        await _pages(api, options.rounds)
        await _in_force(api, url, options.rounds)


async def _pages(api: aiohttp.ClientSession, rounds: int) -> None:
    until = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    since = until - timedelta(days=DAYS)
    month = {"since": since.isoformat(), "until": until.isoformat()}
    cursor = ""
    for _ in range(200):  # 40 000 keys deep
        cursor = (await _get(api, "/keys", limit=200, cursor=cursor))["next_cursor"]
    for name, path, query in (
        ("keys, first page of 50", "/keys", {}),
        ("keys, first page of 200", "/keys", {"limit": 200}),
        ("keys, a page after 40 000", "/keys", {"limit": 200, "cursor": cursor}),
        ("keys not used for 30 days", "/keys", {"unused_days": 30}),
        ("keys that end within 30 days", "/keys", {"ending_days": 30}),
        ("usage of 30 days by hour", "/usage", {"by": "hour", **month}),
        ("usage of 30 days by key", "/usage", {"by": "key", **month}),
    ):
        took = []
        for _ in range(rounds):
            started = time.perf_counter()
            await _get(api, path, **query)
            took.append((time.perf_counter() - started) * 1000)
        print(f"{name:32} {_figures(took)}")


async def _in_force(api: aiohttp.ClientSession, url: str, rounds: int) -> None:
    """From the answer to the change until the last of many connections is refused."""
    await _send(api, "POST", "/plans", {"name": "narrow", "routes": ["deepgram.listen"]})
    for name in ("a key is revoked", "a plan is given", "a tenant is suspended"):
        took = []
        for number in range(rounds):
            slug = f"t{name[-4:].strip()}{number}"
            body = {"slug": slug, "owner": "o@example.com", "key": {}}
            made = await _send(api, "POST", "/onboarding", body)
            lines = [aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=1)) for _ in range(CONNECTIONS)]
            key = made["key"]["key"]
            assert not {401, 403} & {await _status(line, key) for line in lines}
            if name == "a key is revoked":
                await _send(api, "DELETE", f"/keys/{made['key']['id']}?tenant={slug}")
            elif name == "a plan is given":
                await _send(api, "PATCH", f"/tenants/{slug}", {"plan": "narrow"})
            else:
                await _send(api, "POST", f"/tenants/{slug}/suspend")
            started = time.perf_counter()
            await asyncio.gather(*(_until_refused(line, key) for line in lines))
            took.append((time.perf_counter() - started) * 1000)
            for line in lines:
                await line.close()
        print(f"{name:32} {_figures(took)}, on {CONNECTIONS} connections")


def _figures(took: list[float]) -> str:
    """In milliseconds. The p99 lies between what was measured: of fewer rounds than 100 it is nearly the most."""
    p99 = statistics.quantiles(took, n=100, method="inclusive")[98]
    return f"median {statistics.median(took):7.1f} ms, p99 {p99:7.1f} ms, most {max(took):7.1f} ms"


async def _until_refused(line: aiohttp.ClientSession, key: str) -> None:
    while await _status(line, key) not in (401, 403):
        pass


async def _status(line: aiohttp.ClientSession, key: str) -> int:
    async with line.get("/v1/models", headers={"Authorization": f"Bearer {key}"}) as answer:
        await answer.read()
        return answer.status


async def _get(api: aiohttp.ClientSession, path: str, **query: Any) -> Any:
    async with api.get(f"/platform/v1{path}", params=query) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def _send(api: aiohttp.ClientSession, method: str, path: str, body: object = None) -> Any:
    async with api.request(method, f"/platform/v1{path}", json=body) as answer:
        text = await answer.text()
        assert answer.status < 300, text
        return json.loads(text) if text else None


if __name__ == "__main__":
    main()
