"""``make bench``: a gateway with everything switched on, beside nginx and OpenResty.

    python -m tests.bench.run [requests|latency|upload ...] [--rounds N] [--seconds N] [--workers N] [--connections N]

One worker, embedded PostgreSQL and Valkey, key check, scope, two exact limits, identity headers, metrics, JSON access log
(to a file), usage journal and shipping: the CPU of all of it is counted.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

GATEWAY = (sys.executable, "-P", "-m", "gateway")
COST = (sys.executable, str(Path(__file__).with_name("cost.py")))
NEEDED = {"nginx": "nginx", "redis-server": "redis-server", "wrk": "wrk", "curl": "curl"}
LUA = Path("/usr/lib/nginx/modules/ngx_http_lua_module.so")
PORT = 9200


def main() -> None:
    """Run the modes asked for, each against a fresh gateway."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modes", nargs="*", default=["requests", "latency"], help="requests, latency, upload")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    missing = [package for program, package in NEEDED.items() if shutil.which(program, path=_PATH) is None]
    if not LUA.exists():
        missing += ["libnginx-mod-http-lua", "lua-nginx-redis"]
    if missing:
        sys.exit(f"The peers are missing. Install them with: apt-get install -y {' '.join(missing)}")
    with upstreams():
        for mode in options.modes:
            with gateway(9302 if mode == "upload" else 9301, options.workers) as (pid, key, _):
                path = "/v1/audio/transcriptions" if mode == "upload" else "/v1/models"
                print(f"\n{mode}:", flush=True)
                subprocess.run(
                    [*COST, mode, "--url", f"http://127.0.0.1:{PORT}{path}", "--pid", str(pid),
                     "--header", f"Authorization: Bearer {key}",
                     "--rounds", str(options.rounds), "--seconds", str(options.seconds),
                     "--connections", str(options.connections)],
                    check=True, env={**os.environ, "PATH": _PATH},
                )  # fmt: skip
                print(f"resident memory per worker: {', '.join(memory(pid))}", flush=True)


_PATH = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"


@contextlib.contextmanager
def upstreams() -> Iterator[None]:
    """The services behind everybody."""
    process = subprocess.Popen(
        [*COST, "upstream"], stdout=subprocess.PIPE, text=True, env={**os.environ, "PATH": _PATH}
    )
    assert process.stdout is not None
    if not process.stdout.readline():
        sys.exit("the upstreams did not start; what they said stands above")
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


@contextlib.contextmanager
def gateway(upstream: int, workers: int, settings: Mapping[str, str] = {}) -> Iterator[tuple[int, str, dict[str, str]]]:
    """A gateway of its own state, with a tenant, a key, and limits that never refuse; and its settings, for commands."""
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as place:
        env = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")} | {
            "GATEWAY_STATE_DIR": f"{place}/state",
            "GATEWAY_LISTEN": f"127.0.0.1:{PORT}",
            "GATEWAY_UPSTREAM": f"http://127.0.0.1:{upstream}",
            "GATEWAY_WORKERS": str(workers),
            **settings,
        }
        with Path(f"{place}/log").open("wb") as log:
            process = subprocess.Popen([*GATEWAY, "serve", "--embedded"], stdout=log, stderr=log, env=env)
        try:
            wait_until_ready(process)
            run("tenant", "create", "bench", env=env)
            key = json.loads(run("key", "create", "--tenant", "bench", "--name", "bench", "--json", env=env))
            run("limits", "set", "--tenant", "bench", "--requests", "900000000/m", env=env)
            run("limits", "set", "--tenant", "bench", "--key", key["id"], "--requests", "900000000/m", env=env)
            yield process.pid, key["key"], env
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def run(*words: str, env: dict[str, str]) -> str:
    """A ``gateway`` command's output."""
    return subprocess.run([*GATEWAY, *words], env=env, check=True, capture_output=True, text=True).stdout


def wait_until_ready(process: "subprocess.Popen[bytes]") -> None:
    """Until /readyz says so."""
    for _ in range(600):
        if process.poll() is not None:
            sys.exit("the gateway did not start")
        with contextlib.suppress(OSError), urllib.request.urlopen("http://127.0.0.1:9201/readyz", timeout=2):
            return
        time.sleep(0.1)
    sys.exit("the gateway did not become ready")


def memory(parent: int) -> list[str]:
    """VmRSS of each worker."""
    found = []
    for task in Path(f"/proc/{parent}/task").glob("*/children"):
        for pid in task.read_text().split():
            if b"gateway.processes.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                status = Path(f"/proc/{pid}/status").read_text()
                kilobytes = int(status.partition("VmRSS:")[2].split()[0])
                found.append(f"{kilobytes / 1024:.1f} MB")
    return found


if __name__ == "__main__":
    main()
