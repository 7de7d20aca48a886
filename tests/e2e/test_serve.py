"""``gateway serve`` as an operator meets it: faults at start, draining, one process or several."""

import contextlib
import http.client
import http.server
import json
import signal
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.running import GATEWAY, alive, children, environment, eventually, serving


class SlowUpstream(http.server.ThreadingHTTPServer):
    """Answers when told to. ``begun`` is set at the first byte of a body of known length, ``sent`` is all of it."""

    request_queue_size = 128

    def __init__(self) -> None:
        self.asked, self.begun, self.go = threading.Event(), threading.Event(), threading.Event()
        self.sent = b""
        upstream = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                if "Content-Length" in self.headers:
                    size = int(self.headers["Content-Length"])
                    first = self.rfile.read(min(size, 1))
                    upstream.begun.set()
                    upstream.sent = first + self.rfile.read(size - len(first))
                else:
                    while size := int(self.rfile.readline(), 16):
                        self.rfile.read(size + 2)
                    self.rfile.readline()
                self.do_GET()

            def do_GET(self) -> None:
                upstream.asked.set()
                upstream.go.wait(120)
                self.send_response(200)
                self.send_header("Content-Length", "4")
                self.end_headers()
                self.wfile.write(b"done")

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def upstream() -> Iterator[SlowUpstream]:
    server = SlowUpstream()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.go.set()
    server.shutdown()
    server.server_close()
    thread.join()


def _get(url: str, key: str, answers: list[bytes]) -> None:
    request = urllib.request.Request(url + "/v1/models", headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        answers.append(answer.read())


@pytest.mark.parametrize("workers", ["0", "2"])
def test_sigterm_lets_requests_and_uploads_in_flight_finish(
    tmp_path: Path, upstream: SlowUpstream, workers: str
) -> None:
    """The listener closes at once, answers arrive whole, the rest of a body goes on arriving.

    Both requests are in the account, exit 0, nothing is left; a second signal would cut them off.
    """
    with serving(tmp_path / "state", upstream, workers=workers) as (gateway, url, key):
        answers: list[bytes] = []
        asking = threading.Thread(target=_get, args=(url, key, answers))
        asking.start()
        assert upstream.asked.wait(60)
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=60) as client:
            head = f"POST /v1/listen HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nContent-Length: 12\r\n\r\n"
            client.sendall(head.encode() + b"half, ")
            assert upstream.begun.wait(60)
            family = [gateway.process.pid, *children(gateway.process.pid)]
            gateway.process.send_signal(signal.SIGTERM)
            assert eventually(lambda: _refuses(url))
            client.sendall(b"whole.")
            assert eventually(lambda: upstream.sent == b"half, whole.")
            assert gateway.process.poll() is None
            upstream.go.set()
            answer = b""
            while piece := client.recv(65_536):
                answer += piece
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert answer.endswith(b"done")
        asking.join(30)
        assert answers == [b"done"]
        assert gateway.process.wait(30) == 0
        assert eventually(lambda: not alive(family))
        assert [line["bytes_in"] for line in gateway.access if line["method"] == "POST"] == [12]
    report = subprocess.run(
        [*GATEWAY, "usage", "report", "--from", "1d", "--tenant", "a", "--json"],
        env=environment(state_dir=str(tmp_path / "state")), capture_output=True, text=True, check=True, cwd="/",
    )  # fmt: skip
    assert json.loads(report.stdout)["requests"] == 2


def _refuses(url: str) -> bool:
    """Whether nobody listens there any more."""
    try:
        urllib.request.urlopen(url + "/", timeout=2)
    except urllib.error.HTTPError:
        return False
    except OSError:
        return True
    return False


def test_every_fault_of_the_configuration_is_said_at_once(tmp_path: Path) -> None:
    """Each by the name that was written, in a sentence; exit 1, no traceback, nothing started."""
    config = tmp_path / "gateway.toml"
    config.write_text('trusted_proxies = ["0.0.0.0/0"]\nupstrem = "http://x"\n')
    done = subprocess.run(
        [*GATEWAY, "serve", "--config", str(config)],
        env=environment(workers="many", listen="nowhere", secret_key="short", databse_url="x", redis_url="http://x"),
        capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip
    assert done.returncode == 1
    for said in (
        "GATEWAY_WORKERS", "GATEWAY_LISTEN", "GATEWAY_SECRET_KEY", "GATEWAY_REDIS_URL", "GATEWAY_DATABSE_URL",
        "did you mean 'GATEWAY_DATABASE_URL'", "upstrem", "did you mean 'upstream'", "trust everybody",
    ):  # fmt: skip
        assert said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert "short" not in done.stderr.replace("shorter", "")


def test_without_stores_the_way_out_is_named() -> None:
    done = subprocess.run([*GATEWAY, "serve"], env=environment(), capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 1
    assert "GATEWAY_DATABASE_URL" in done.stderr
    assert "--embedded" in done.stderr


def test_a_state_directory_that_cannot_be_one(tmp_path: Path) -> None:
    """A file stands where the directory should be: named, with what to do."""
    place = tmp_path / "file"
    place.write_text("")
    done = subprocess.run(
        [*GATEWAY, "serve", "--embedded"],
        env=environment(state_dir=str(place), listen="127.0.0.1:0", ops_listen="127.0.0.1:0"),
        capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip
    assert done.returncode == 1
    assert str(place) in done.stderr
    assert "GATEWAY_STATE_DIR" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_signal_stops_at_once(tmp_path: Path, upstream: SlowUpstream) -> None:
    """Nobody has to wait for the drain time: what is in flight is cut off. Exit 0, and nothing is left."""
    with serving(tmp_path / "state", upstream, workers="1", drain_timeout="600") as (gateway, url, key):
        asking = threading.Thread(target=_get_nothing, args=(url, key))
        asking.start()
        assert upstream.asked.wait(60)
        gateway.process.send_signal(signal.SIGTERM)
        gateway.wait_for('"event":"draining"')
        family = [gateway.process.pid, *children(gateway.process.pid)]
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(60) == 0
        asking.join(30)
        assert eventually(lambda: not alive(family))
        gateway.wait_for('"event":"stopping at once: requests in flight are cut off"')
        assert not [line for line in gateway.lines if '"event":"worker started"' in line or "Traceback" in line]


def _get_nothing(url: str, key: str) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        _get(url, key, [])
