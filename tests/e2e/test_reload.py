"""SIGHUP and SIGTERM under load: no request fails, whatever the operator wrote; and the end is an end."""

import contextlib
import http.server
import os
import re
import shutil
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.shipped import shipped
from tests.e2e.load import Load
from tests.e2e.running import Process, alive, children, command_line, eventually, serving

NEW_ROUTE = '\n[[routes]]\nname = "new"\npath = "/v1/new"\nmethods = ["GET"]\naccess = "public"\n'


class Quick(http.server.ThreadingHTTPServer):
    """Answers at once."""

    request_queue_size = 512
    daemon_threads = True


class Handler(http.server.BaseHTTPRequestHandler):
    """It says that it is done."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"done")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@dataclass
class Served:
    """A gateway with a settings file and a routes file of its own."""

    gateway: Process
    url: str
    key: str
    config: Path
    routes: Path
    workers: int

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def load(self) -> Load:
        """Three hundred requests a second: the bar's five hundred need a quiet machine, see ``tests.bench.steady``."""
        return Load("127.0.0.1", self.port, self.key, rate=300)

    def get(self, path: str) -> int:
        """The status of an anonymous request."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return int(error.code)

    def metric(self, name: str) -> float:
        """A sample without labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port + 1}/metrics", timeout=60) as page:
            (value,) = re.findall(rf"^{name} (\S+)$", page.read().decode(), re.MULTILINE)
        return float(value)

    def events(self, name: str) -> int:
        """How often the log says so."""
        return sum(f'"event":"{name}"' in line for line in self.gateway.lines)

    def hup(self) -> None:
        """Ask for a reload."""
        self.gateway.process.send_signal(signal.SIGHUP)


FAILED = "the reload failed; what was in force stays in force"


PATIENCE_S = 60.0
"""Processes are started here, on machines that may be busy."""


@contextlib.contextmanager
def started(place: Path, upstream: Quick, workers: int) -> Iterator[Served]:
    config, routes = place / "gateway.toml", place / "routes.toml"
    config.write_text("drain_timeout = 10\n")
    shutil.copy(shipped("routes.toml"), routes)
    settings = {"workers": str(workers), "config": str(config), "routes_file": str(routes)}
    with serving(place / "state", upstream, **settings) as (gateway, url, key):
        yield Served(gateway, url, key, config, routes, workers)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Quick]:
    server = Quick(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module", params=[2, 0])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, upstream: Quick
) -> Iterator[Served]:
    """With two workers, and in one process."""
    with started(tmp_path_factory.mktemp("reload"), upstream, request.param) as served:
        yield served


def test_a_reload_under_load_fails_no_request(served: Served) -> None:
    """New routes and settings are in force, nobody noticed, and no request went uncounted."""
    assert served.get("/v1/new") == 404
    served.routes.write_text(served.routes.read_text() + NEW_ROUTE)
    with served.load() as load:
        assert eventually(lambda: load.outcomes["200"] > 100)
        served.hup()
        assert eventually(lambda: served.events("reloaded") == 1, PATIENCE_S)
        before = load.outcomes["200"]
        assert eventually(lambda: load.outcomes["200"] > before + 100)
    assert load.failed == {}
    assert served.get("/v1/new") == 200
    with urllib.request.urlopen(f"http://127.0.0.1:{served.port + 1}/metrics", timeout=60) as page:
        samples = re.findall(rb'gateway_requests_total{.*route="openai.models".*} (.+)', page.read())
    counted = sum(map(float, samples))
    assert counted == load.outcomes["200"]


FAULTS = {
    "settings": ("gateway.toml", "workers_ = 2\nupstrem = 1\n", ["workers_", "did you mean 'upstream'"]),
    "not TOML": ("gateway.toml", "drain_timeout = \n", ["not TOML"]),
    "gone": ("gateway.toml", None, ["cannot be read"]),
    "a field and a file": (
        "gateway.toml",
        'drain_timeout = "soon"\n[upstreams.tls]\naddresses = ["https://127.0.0.1:1"]\nca_file = "none.pem"\n',
        ["drain_timeout", "upstreams.tls: ", "none.pem"],
    ),
    "routes": ("routes.toml", '[[routes]]\nname = "X"\n', ["a name is", "'path' is missing"]),
}


def test_a_fault_leaves_everything_as_it_was(served: Served) -> None:
    """Every fault is in the log at once, the metric says so, and the next good reload says that it is over."""
    for failures, (name, text, said) in enumerate(FAULTS.values(), start=1):
        file = served.config.parent / name
        good = file.read_text()
        if text is None:
            file.unlink()
        else:
            file.write_text(text)
        served.hup()
        assert eventually(lambda failures=failures: served.events(FAILED) == failures, PATIENCE_S)
        line = next(line for line in reversed(served.gateway.lines) if FAILED in line)
        for words in said:
            assert words in line
        assert served.metric("gateway_config_last_reload_successful") == 0
        assert served.metric("gateway_config_reload_failures_total") == failures
        assert served.get("/v1/new") == 200
        file.write_text(good)
    done = served.events("reloaded")
    served.hup()
    assert eventually(lambda: served.events("reloaded") > done, PATIENCE_S)
    assert served.metric("gateway_config_last_reload_successful") == 1


def test_what_needs_a_restart_is_said_and_the_rest_is_done(served: Served) -> None:
    """Another address in the file: the old one goes on, and the log names the setting."""
    served.config.write_text('drain_timeout = 9\ndatabase_url = "postgresql://nobody@127.0.0.1:1/none"\n')
    done = served.events("reloaded")
    served.hup()
    served.hup()  # two at once are one, or one after the other
    assert eventually(lambda: served.events("reloaded") > done, PATIENCE_S)
    (line, *_) = [line for line in served.gateway.lines if "change at a restart only" in line]
    assert '["database_url"]' in line
    assert served.get("/v1/models") == 401
    assert served.events(FAILED) == len(FAULTS)


def test_sigterm_under_load_breaks_no_request(served: Served) -> None:
    """Each is answered, or refused by a closed port: no reset, no half an answer. Exit 0, and nothing is left.

    In the midst of a reload, where there are processes: what was being made ready is given up.
    """
    before = set(children(served.gateway.process.pid))
    done = served.events("reloaded")
    with served.load() as load:
        assert eventually(lambda: load.outcomes["200"] > 100)
        if served.workers:
            served.hup()
            assert eventually(lambda: set(children(served.gateway.process.pid)) - before, PATIENCE_S)
        family = [served.gateway.process.pid, *before, *children(served.gateway.process.pid)]
        served.gateway.process.send_signal(signal.SIGTERM)
        assert served.gateway.process.wait(PATIENCE_S) == 0
    assert set(load.outcomes) <= {"200", "ConnectionRefusedError"}
    assert eventually(lambda: not alive(family), PATIENCE_S)
    if served.workers:  # else none was begun here, and the second of two at once may be told late
        assert served.events("reloaded") == done
    assert "Traceback" not in "\n".join(served.gateway.lines)


def test_a_parent_that_is_killed_takes_nothing_with_it_that_was_begun(tmp_path: Path, upstream: Quick) -> None:
    """Workers see that it is gone, answer what they have, and end; a worker that is killed is replaced meanwhile."""
    with started(tmp_path, upstream, 2) as served:
        with served.load() as load:
            assert eventually(lambda: load.outcomes["200"] > 100)
            family = children(served.gateway.process.pid)
            (victim, *_) = [pid for pid in family if "gateway.processes.worker" in command_line(pid)]
            os.kill(victim, signal.SIGKILL)
            assert eventually(lambda: served.events("worker started") == 1, PATIENCE_S)
            load.outcomes.clear()
            assert eventually(lambda: load.outcomes["200"] > 100)
            family = children(served.gateway.process.pid)
            served.gateway.process.kill()
            assert eventually(lambda: not alive(family), PATIENCE_S)
        # Its embedded stores died with it, so that what comes now may be 503; but nothing breaks off.
        assert not {"IncompleteReadError", "TimeoutError"} & set(load.outcomes)


def test_the_unit_file_is_one(tmp_path: Path) -> None:
    """As systemd reads it, where there is a systemd."""
    program = shutil.which("systemd-analyze")
    unit = Path(__file__).parents[2] / "config" / "systemd" / "gateway.service"
    text = unit.read_text()
    for line in (
        "Type=notify",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "KillMode=mixed",
        "WatchdogSec=",
        "NoNewPrivileges=",
    ):
        assert line in text
    if program is not None:
        copy = tmp_path / "gateway.service"
        copy.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE))
        done = subprocess.run([program, "verify", str(copy)], capture_output=True, text=True, check=False)
        assert done.stderr == ""
