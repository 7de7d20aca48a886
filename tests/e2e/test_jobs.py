"""Jobs through whole processes: by upload and by URL, asked about by many at once while workers are killed."""

import http.client
import http.server
import json
import os
import signal
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.running import GATEWAY, Process, children, command_line, environment, eventually, serving
from tests.policies.audio.build import wav

_WORKER = "-m gateway.processes.worker"
_MANY = 32
_BY_URL = b'{"type": "transcription", "fetch_data": {"url": "https://cdn.example/a.mp3"}}'


class Speechmatics(http.server.ThreadingHTTPServer):
    """Makes jobs of nine seconds, which are all in one state."""

    request_queue_size = 128

    def __init__(self) -> None:
        self.state, self.made = "running", 0
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                service.made += 1
                self._say({"id": f"job-{service.made}"})

            def do_GET(self) -> None:
                self._say({"job": {"id": self.path.split("/")[3], "status": service.state, "duration": 9}})

            def _say(self, answer: object) -> None:
                body = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def service() -> Iterator[Speechmatics]:
    server = Speechmatics()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(30)


def kill_a_worker(gateway: Process) -> None:
    pid = next(pid for pid in children(gateway.process.pid) if _WORKER in command_line(pid))
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_a_job_is_settled_once_however_many_ask_while_a_worker_is_killed(tmp_path: Path, service: Speechmatics) -> None:
    """By URL it is accounted from its result, and by upload as it passes; one that fails is taken back. Each once."""
    state = tmp_path / "state"

    def exported() -> list[tuple[str, str, int]]:
        """Of the account: which job, whence the figure is, and its milliseconds."""
        lines = subprocess.run(
            [*GATEWAY, "usage", "export", "--from", "1d", "--tenant", "a"],
            env=environment(state_dir=str(state)), capture_output=True, text=True, check=True, cwd="/",
        ).stdout.splitlines()  # fmt: skip
        rows = [json.loads(line) for line in lines]
        return sorted((row["job"], row["audio_source"], row["audio_ms"]) for row in rows if row["job"])

    with serving(state, service, workers="2") as (gateway, url, key):

        def ask(path: str, body: bytes | None = None) -> Any:
            """Until a worker is there that lives long enough to answer."""
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "multipart/form-data; boundary=x"}

            def answer() -> Any:
                with suppress(OSError, http.client.HTTPException):
                    request = urllib.request.Request(url + path, data=body, headers=headers)
                    with urllib.request.urlopen(request, timeout=30) as told:
                        return json.load(told)

            return eventually(answer)

        def shipped() -> float:
            ops = f"http://127.0.0.1:{int(url.rpartition(':')[2]) + 1}/metrics"
            with urllib.request.urlopen(ops, timeout=30) as told:
                lines = told.read().decode().splitlines()
            return sum(float(line.split()[1]) for line in lines if line.startswith("gateway_usage_shipped_total"))

        def make(name: str, content: bytes) -> str:
            head = f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode()
            return str(ask("/v2/jobs", head + content + b"\r\n--x--\r\n")["id"])

        def many_ask(job: str, *, kill: bool = False) -> None:
            with ThreadPoolExecutor(16) as pool:
                asked = [pool.submit(ask, f"/v2/jobs/{job}") for _ in range(_MANY)]
                if kill:
                    kill_a_worker(gateway)
                states = {one.result()["job"]["status"] for one in asked}
            assert states == {service.state}

        uploaded, by_url, failing = make("data_file", wav(2.0)), make("config", _BY_URL), make("data_file", wav(3.0))
        made = [(f"speechmatics:{by_url}", "pending", 0)]
        made += [(f"speechmatics:{job}", "walked", ms) for job, ms in ((uploaded, 2_000), (failing, 3_000))]
        assert eventually(lambda: shipped() >= len(made))
        service.state = "done"
        many_ask(by_url, kill=True)
        ask(f"/v2/jobs/{uploaded}")
        service.state = "rejected"
        many_ask(failing)
        made += [(f"speechmatics:{by_url}", "reported", 9_000), (f"speechmatics:{failing}", "walked", -3_000)]
        made += [(f"speechmatics:{uploaded}", "reported", 7_000)]  # what its result heard more
        assert eventually(lambda: shipped() >= 3 + _MANY + 1 + _MANY)
        assert eventually(lambda: exported() == sorted(made)), exported()
