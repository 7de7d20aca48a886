"""Reloads and the end under a steady load: what became of every request.

    python -m tests.bench.steady [--rate N] [--reloads N] [--workers N]

From kept connections and new ones, so many requests a second; SIGHUP again and again, the next one when the last one's
old workers have gone; at last SIGTERM. Nothing but 200 may happen until then, and nothing but 200 or a refused
connection afterwards.
"""

import argparse
import os
import re
import signal
import sys
import time
import urllib.request

from tests.bench.run import PORT, gateway, upstreams
from tests.e2e.load import Load
from tests.e2e.running import alive, children, command_line, eventually


def main() -> None:
    """Run it; exit 1 when a request failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--reloads", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with upstreams(), gateway(9301, options.workers) as (pid, key, _):
        with Load("127.0.0.1", PORT, key, rate=options.rate) as load:
            started = time.monotonic()
            for number in range(options.reloads):
                workers = serving(pid)
                os.kill(pid, signal.SIGHUP)
                eventually(lambda before=workers: not set(alive(before)), 120)
                print(
                    f"reload {number + 1}: {load.outcomes.total()} requests, {load.failed or 'none failed'}", flush=True
                )
            before, lasted = dict(load.outcomes), time.monotonic() - started
            counted = failed_reloads()
            os.kill(pid, signal.SIGTERM)
            eventually(lambda: not alive([pid]), 120)
        print(f"{sum(before.values())} requests in {lasted:.1f} s, slowest {load.slowest_s * 1000:.0f} ms: {before}")
        print(
            f"failed reloads: {counted}; after SIGTERM: { ({n: c - before.get(n, 0) for n, c in load.outcomes.items()}) }"
        )
    sys.exit(set(before) != {"200"} or not set(load.outcomes) <= {"200", "ConnectionRefusedError"})


def serving(parent: int) -> list[int]:
    """The workers of now."""
    return [pid for pid in children(parent) if "gateway.processes.worker" in command_line(pid)]


def failed_reloads() -> str:
    """As the metrics have it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT + 1}/metrics", timeout=10) as page:
        (count,) = re.findall(r"^gateway_config_reload_failures_total (\S+)$", page.read().decode(), re.MULTILINE)
    return str(count)


if __name__ == "__main__":
    main()
