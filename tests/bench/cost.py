"""CPU per request of a gateway, side by side with peers doing the same job, in one run.

Each round measures every peer in turn, so the ratios hold although the machine's speed drifts: quote medians of ratios.
CPU of a process tree is read from /proc; Redis's is added where the peer, or the gateway, uses one. Peers: ``nginx``
(bare proxy_pass: the floor) and ``openresty`` (nginx + Lua: key check, one Redis INCR, access log: the bar).
``python -m tests.bench.run`` starts everything that is needed.
"""

import argparse
import asyncio
import contextlib
import os
import pathlib
import re
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
RUN = pathlib.Path(tempfile.gettempdir()) / "gateway-bench"
TICK = os.sysconf("SC_CLK_TCK")
ANSWER = b'{"text":"the quick brown fox jumps over the lazy dog","language":"en","duration":2.5,"segments":[]}\n'

NGINX_HEAD = """
worker_processes 1; daemon on; pid {run}/{name}.pid; error_log {run}/{name}.err;
events {{ worker_connections 8192; }}
"""
UPSTREAM = (
    NGINX_HEAD
    + """
http {{ access_log off; keepalive_requests 100000000; client_max_body_size 0;
  server {{ listen 127.0.0.1:9301 reuseport backlog=4096; default_type application/json;
    location / {{ return 200 '{answer}'; }} }} }}
"""
)
PLAIN = (
    NGINX_HEAD
    + """
http {{ access_log off; keepalive_requests 100000000; client_max_body_size 0; proxy_request_buffering off; proxy_buffering off;
  upstream u {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:9311 reuseport backlog=4096;
    location / {{ proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header X-Tenant-ID acme; }} }} }}
"""
)
OPENRESTY = (
    """
load_module /usr/lib/nginx/modules/ndk_http_module.so;
load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;
"""
    + NGINX_HEAD
    + """
http {{ access_log {run}/openresty.access.log; keepalive_requests 100000000; client_max_body_size 0;
  proxy_request_buffering off; proxy_buffering off; lua_shared_dict keys 10m; lua_shared_dict counts 10m;
  upstream u {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:9312 reuseport backlog=4096;
    location / {{
      access_by_lua_block {{
        local key = ngx.req.get_headers()["authorization"]
        if not key then return ngx.exit(401) end
        local redis = require("nginx.redis"):new()
        redis:set_timeout(1000)
        if not redis:connect("127.0.0.1", 9319) then return ngx.exit(503) end
        local tenant = ngx.shared.keys:get(key)
        if not tenant then
          tenant = redis:get("key:" .. key)
          if tenant == ngx.null then return ngx.exit(401) end
          ngx.shared.keys:set(key, tenant, 10)
        end
        local script = "local n=redis.call('INCR',KEYS[1]); if n==1 then redis.call('EXPIRE',KEYS[1],60) end; return n"
        local used = redis:eval(script, 1, "limit:" .. tenant .. ":" .. math.floor(ngx.time() / 60))
        redis:set_keepalive(60000, 256)
        if used > 1000000000 then return ngx.exit(429) end
        ngx.req.set_header("X-Tenant-ID", tenant)
      }}
      log_by_lua_block {{ ngx.shared.counts:incr("requests", 1, 0); ngx.shared.counts:incr("bytes", tonumber(ngx.var.bytes_sent), 0) }}
      proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; }} }} }}
"""
)


def tree(pid: int) -> set[int]:
    """A process and all its descendants."""
    found, queue = set(), [pid]
    while queue:
        one = queue.pop()
        found.add(one)
        try:
            for task in pathlib.Path(f"/proc/{one}/task").iterdir():
                queue += [int(p) for p in (task / "children").read_text().split()]
        except OSError:
            pass
    return found


def cpu_seconds(pids: set[int]) -> float:
    total = 0
    for pid in pids:
        try:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def peak_memory_mb(pids: set[int]) -> float:
    total = 0
    for pid in pids:
        try:
            total += int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])
        except (OSError, TypeError):
            continue
    return total / 1024


def nginx(name: str, text: str, **values) -> int:
    RUN.mkdir(exist_ok=True)
    conf = RUN / f"{name}.conf"
    conf.write_text(text.format(run=RUN, name=name, **values))
    stop(name)
    subprocess.run(["nginx", "-c", str(conf)], check=True, stderr=subprocess.DEVNULL)
    return written_pid(RUN / f"{name}.pid")


def stop(name: str) -> None:
    """End a server and wait, at most 5 s, until it has removed its pid file: its port is needed again."""
    path = RUN / f"{name}.pid"
    with contextlib.suppress(OSError, ValueError):
        os.kill(int(path.read_text()), signal.SIGTERM)
        for _ in range(500):
            if not path.exists():
                break
            time.sleep(0.01)
    path.unlink(missing_ok=True)


def redis() -> int:
    (RUN / "redis.pid").unlink(missing_ok=True)
    subprocess.run(
        ["redis-server", "--port", "9319", "--save", "", "--daemonize", "yes", "--pidfile", f"{RUN}/redis.pid"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return written_pid(RUN / "redis.pid")


def written_pid(path: pathlib.Path) -> int:
    """The pid of a daemon that was just started: it listens before it writes this file, and nothing else tells us."""
    while not (path.exists() and path.read_text().strip()):
        time.sleep(0.01)
    return int(path.read_text())


class Sink(asyncio.Protocol):
    """An upstream that really reads the whole body before it answers."""

    def connection_made(self, transport):
        self.transport, self.head, self.left = transport, b"", None

    def data_received(self, data):
        if self.left is None:
            self.head += data
            if b"\r\n\r\n" not in self.head:
                return
            head, data = self.head.split(b"\r\n\r\n", 1)
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            self.chunked = re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head) is not None
            self.left, self.head = int(length[1]) if length else 0, b""
        self.left -= len(data)
        if data.endswith(b"0\r\n\r\n") if self.chunked else self.left <= 0:
            self.left = None
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER)
                + ANSWER
            )


async def upstream_forever() -> None:
    loop, told_to_end = asyncio.get_running_loop(), asyncio.Event()
    for end in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(end, told_to_end.set)
    server = await loop.create_server(Sink, "127.0.0.1", 9302, backlog=1024)
    nginx("upstream", UPSTREAM, answer=ANSWER.decode().rstrip())
    print("upstreams: http://127.0.0.1:9301 (small JSON), http://127.0.0.1:9302 (reads bodies)", flush=True)
    try:
        await told_to_end.wait()
    finally:
        server.close()
        stop("upstream")


def wrk(url: str, headers: list[str], connections: int, seconds: int, script: str = "") -> dict:
    """``script``: a file in Lua that says what is asked."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency", *(["-s", script] if script else []), url]
    for header in headers:
        command += ["-H", header]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    unit = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    latency = {p: float(v) * unit[u] for p, v, u in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)", text)}
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    sockets = re.search(r"Socket errors: (.*)", text)
    return {
        "requests": int(re.search(r"(\d+) requests in", text)[1]),
        "p50": latency["50"],
        "p99": latency["99"],
        "bad": int(errors[1]) if errors else 0,
        "sockets": sockets[1] if sockets else "",
    }


BOUNDARY = b"a-boundary-of-the-benchmark"


def form(size_mb: int) -> pathlib.Path:
    """A form with a WAV in it (16 kHz mono, silence), as clients send it: whoever counts audio has to walk it."""
    path = RUN / f"form-{size_mb}"
    if path.exists():
        return path
    size = size_mb * 1_000_000
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 16_000, 32_000, 2, 16)
    wav = b"RIFF" + struct.pack("<I", size + 36) + b"WAVE" + fmt + b"data" + struct.pack("<I", size)
    part = b"--%b\r\nContent-Disposition: form-data; name=%b\r\n\r\n"
    with path.open("wb") as file:
        file.write(part % (BOUNDARY, b'"model"') + b"whisper-1\r\n")
        file.write(part % (BOUNDARY, b'"file"; filename="a.wav"') + wav)
        file.seek(size, os.SEEK_CUR)
        file.write(b"\r\n--%b--\r\n" % BOUNDARY)
    return path


def upload(url: str, headers: list[str], size_mb: int) -> None:
    body = form(size_mb)
    command = [
        "curl",
        "-sS",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "-H",
        "Expect:",
        "-H",
        f"Content-Type: multipart/form-data; boundary={BOUNDARY.decode()}",
        "-X",
        "POST",
        "-T",
        str(body),
        url,
    ]
    for header in headers:
        command += ["-H", header]
    code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if code != "200":
        sys.exit(f"upload to {url} answered {code}")


def measure(options) -> None:
    RUN.mkdir(exist_ok=True)
    upstream = 9302 if options.mode == "upload" else 9301
    path = "/" + options.url.split("/", 3)[3]
    redis_pid = redis()
    subprocess.run(
        ["redis-cli", "-p", "9319", "set", "key:Bearer bench", "acme"], check=True, stdout=subprocess.DEVNULL
    )
    masters = {
        "nginx": nginx("nginx", PLAIN, upstream=upstream),
        "openresty": nginx("openresty", OPENRESTY, upstream=upstream),
    }
    subjects = {
        "nginx": (f"http://127.0.0.1:9311{path}", [], {masters["nginx"]}),
        "openresty": (
            f"http://127.0.0.1:9312{path}",
            ["Authorization: Bearer bench"],
            {masters["openresty"], redis_pid},
        ),
        "gateway": (options.url, options.header, set(options.pid)),
    }
    rows = {name: [] for name in subjects}
    try:
        for round_ in range(options.rounds + 1):
            for name, (url, headers, roots) in subjects.items():
                pids = set().union(*(tree(p) for p in roots))
                before, started = cpu_seconds(pids), time.monotonic()
                if options.mode == "upload":
                    upload(url, headers, options.megabytes)
                    wall = time.monotonic() - started
                    row = {
                        "cost": (cpu_seconds(pids) - before) / (options.megabytes / 1000),
                        "gb_s": options.megabytes / 1000 / wall,
                        "peak_mb": peak_memory_mb(pids),
                    }
                else:
                    row = wrk(url, headers, 1 if options.mode == "latency" else options.connections, options.seconds)
                    row["rps"] = row["requests"] / options.seconds
                    row["cost"] = (cpu_seconds(pids) - before) * 1e6 / row["requests"]
                if round_:  # the first round warms up
                    rows[name].append(row)
    finally:
        for name in masters:
            stop(name)
        os.kill(redis_pid, signal.SIGTERM)
    report(options.mode, rows)


def report(mode: str, rows: dict[str, list[dict]]) -> None:
    median = lambda name, key: statistics.median(r[key] for r in rows[name])
    for name in rows:
        if mode == "upload":
            print(
                f"{name:10} {median(name, 'cost'):.3f} CPU s/GB   {median(name, 'gb_s'):.2f} GB/s   {median(name, 'peak_mb'):.0f} MB, the peaks of its processes added up"
            )
        else:
            bad = sum(r["bad"] for r in rows[name])
            print(
                f"{name:10} {median(name, 'cost'):7.1f} CPU us/request   {median(name, 'rps'):8.0f} requests/s   "
                f"p50 {median(name, 'p50'):.3f} ms   p99 {median(name, 'p99'):.3f} ms"
                + (f"   {bad} BAD ANSWERS" if bad else "")
                + (f"   {rows[name][-1]['sockets']}" if rows[name][-1]["sockets"] else "")
            )
    key = "p50" if mode == "latency" else "cost"
    for peer in ("nginx", "openresty"):
        ratios = [g[key] / p[key] for g, p in zip(rows["gateway"], rows[peer])]
        print(f"ratio gateway/{peer} ({key}): {statistics.median(ratios):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["upstream", "requests", "latency", "upload"])
    parser.add_argument("--url")
    parser.add_argument(
        "--pid", type=int, action="append", help="a root process of the gateway; its descendants are counted too"
    )
    parser.add_argument("--header", action="append", default=[])
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=1000)
    options = parser.parse_args()
    if options.mode == "upstream":
        asyncio.run(upstream_forever())
    elif not options.url or not options.pid:
        parser.error("--url and --pid are needed")
    else:
        measure(options)


if __name__ == "__main__":
    main()
