"""What forward-auth costs: ``python -m tests.bench.forward [--rounds N] [--seconds N] [--keys N]``.

The shipped ``config/nginx/forward-auth.conf`` in front of the gateway, beside the same file in front of an endpoint that
always says 200 with an empty body (an nginx that returns it). CPU of both processes together; the gateway's is all of its
tree: key check, two exact limits, metrics, access log, usage record, PostgreSQL and Valkey. With ``--keys`` so many
clients ask in turn, each with a key and a limit of its own.
"""

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.bench.cost import NGINX_HEAD, cpu_seconds, nginx, stop, tree, wrk
from tests.bench.run import PORT, gateway, run, upstreams

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "nginx"
ENDPOINT_PORT, EDGE_PORTS = 9313, {"gateway": 9314, "endpoint": 9315}
ENDPOINT = (
    NGINX_HEAD
    + """
http {{ access_log off; keepalive_requests 100000000;
  server {{ listen 127.0.0.1:9313 reuseport; location / {{ return 200; }} }} }}
"""
)
EDGE = NGINX_HEAD + "http {{ access_log off; keepalive_requests 100000000;\n{upstreams}\n{server}\n}}"


def edge(name: str, asked: int) -> int:
    """An nginx with the shipped files, whose gateway is on that port; its process id."""
    where = (SHIPPED / "upstreams.conf").read_text()
    where = where.replace("127.0.0.1:9200", f"127.0.0.1:{asked}").replace("127.0.0.1:9300", "127.0.0.1:9301")
    server = (SHIPPED / "forward-auth.conf").read_text().replace("listen 80;", f"listen 127.0.0.1:{EDGE_PORTS[name]};")
    return nginx(f"edge-{name}", EDGE, upstreams=where, server=server)


LIMIT = "900000000/m"
IN_TURN = """
local headers, at = {%s}, 0
request = function()
  at = at %% #headers + 1
  return wrk.format("GET", nil, {["Authorization"] = headers[at]})
end
"""


def keys(number: int, env: Mapping[str, str]) -> list[str]:
    """So many keys, each with a limit, made by the API: a command for each would take a while."""
    who = ("--tenant", "bench", "--name", "maker", "--scope", "keys:write", "--scope", "limits:write")
    scopes = ("--scope", "transcribe")
    maker = json.loads(run("key", "create", *who, *scopes, "--json", env=dict(env)))["key"]

    def send(method: str, path: str, body: object) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {maker}", "Content-Type": "application/json"}
        data = json.dumps(body).encode()
        asking = urllib.request.Request(f"http://127.0.0.1:{PORT}/platform/v1{path}", data, headers, method=method)
        with urllib.request.urlopen(asking) as answer:
            return json.load(answer)  # type: ignore[no-any-return]

    made = [send("POST", "/keys", {"name": f"key {n}"}) for n in range(number)]
    for key in made:
        send("PUT", "/limits", {"key_id": key["id"], "requests": [LIMIT]})
    return [key["key"] for key in made]


@contextlib.contextmanager
def in_turn(secrets: Sequence[str]) -> Iterator[str]:
    """A script for wrk that asks with one key after the other."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(IN_TURN % ",".join(f'"Bearer {secret}"' for secret in secrets))
        file.flush()
        yield file.name


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--keys", type=int, default=1)
    options = parser.parse_args()
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    trusting = {"GATEWAY_TRUSTED_PROXIES": "127.0.0.1"}
    with contextlib.ExitStack() as stack:
        stack.enter_context(upstreams())
        pid, key, env = stack.enter_context(gateway(9301, 1, trusting))
        script = stack.enter_context(in_turn([key] if options.keys == 1 else keys(options.keys, env)))
        asked = {"gateway": pid, "endpoint": nginx("endpoint", ENDPOINT)}
        edges = {"gateway": edge("gateway", PORT), "endpoint": edge("endpoint", ENDPOINT_PORT)}
        rows: dict[str, list[float]] = {name: [] for name in asked}
        try:
            for number in range(options.rounds + 1):
                for name, costs in rows.items():
                    pids = tree(asked[name]) | tree(edges[name])
                    before = cpu_seconds(pids)
                    url = f"http://127.0.0.1:{EDGE_PORTS[name]}/v1/models"
                    row = wrk(url, [], 64, options.seconds, script)
                    if row["bad"]:
                        raise SystemExit(f"{row['bad']} bad answers with the {name}")
                    if number:  # the first round warms up
                        costs.append((cpu_seconds(pids) - before) * 1e6 / row["requests"])
        finally:
            for name in ("endpoint", "edge-gateway", "edge-endpoint"):
                stop(name)
    for name, costs in rows.items():
        print(f"nginx + {name:8} {statistics.median(costs):7.1f} CPU us/request")
    ratios = [ours / bare for ours, bare in zip(rows["gateway"], rows["endpoint"], strict=True)]
    print(f"ratio: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
