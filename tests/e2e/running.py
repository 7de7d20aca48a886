"""``gateway demo`` and ``gateway serve`` as child processes, and what a user reads off them."""

import atexit
import contextlib
import functools
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from click.testing import CliRunner, Result

from gateway.cli.root import gateway as commands
from tests.ports import free_port

GATEWAY = (sys.executable, "-P", "-m", "gateway")
READY_S = 120.0


def environment(**settings: str) -> dict[str, str]:
    """This process's environment without any gateway settings but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    return kept | {"GATEWAY_" + name.upper(): value for name, value in settings.items()}


def children(pid: int) -> list[int]:
    """Every descendant of a process; one that ends meanwhile may be among them."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # it has ended since it was listed
            for child in map(int, task.read_text().split()):
                found += [child, *children(child)]
    return found


def command_line(pid: int) -> str:
    """What a process was started as; empty when it has gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def alive(pids: list[int]) -> list[int]:
    """Which of them still exist, zombies aside."""
    still = []
    for pid in pids:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                still.append(pid)
    return still


def eventually(ask: Any, within_s: float = 60.0) -> Any:
    """Ask until the answer is truthy: what another process does has no event to wait for. Returns the answer."""
    until = time.monotonic() + within_s
    while True:
        last = time.monotonic() > until  # one that began in time may have taken long, and asked too early
        if (answer := ask()) or last:
            return answer
        threading.Event().wait(0.05)


class Listening(Protocol):
    """A server of the test's own, on loopback."""

    server_port: int


@dataclass
class Process:
    """A gateway process. Its output is read all the time, so that it never blocks on it."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    _news: "queue.Queue[str | None]" = field(default_factory=queue.Queue)
    _reader: threading.Thread | None = None

    @classmethod
    def start(cls, *arguments: str, env: Mapping[str, str]) -> Self:
        """Start ``gateway …`` with standard output and error together."""
        process = subprocess.Popen(
            [*GATEWAY, *arguments], env=dict(env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/"
        )
        self = cls(process)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            self._news.put(line)
        self._news.put(None)

    def wait_for(self, text: str, within_s: float = READY_S) -> str:
        """The first line that holds ``text``; fails with all output when the process ends or time is up first."""
        until = time.monotonic() + within_s
        seen = 0
        while True:
            for line in self.lines[seen:]:
                if text in line:
                    return line
            seen = max(len(self.lines) - 1, 0)
            try:
                if self._news.get(timeout=max(until - time.monotonic(), 0.01)) is None and text not in "\n".join(
                    self.lines
                ):
                    raise AssertionError(f"the process ended without {text!r}:\n" + "\n".join(self.lines))
            except queue.Empty:
                raise AssertionError(f"no {text!r} within {within_s} s:\n" + "\n".join(self.lines)) from None

    def stop(self, sign: signal.Signals = signal.SIGINT) -> int:
        """Send a signal and wait for the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(sign)
        status = self.process.wait(120)
        if self._reader is not None:  # to the end of the output, which children may still hold open for a moment
            self._reader.join(30)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return status

    @property
    def access(self) -> list[dict[str, Any]]:
        """The access lines so far."""
        return [json.loads(line) for line in self.lines if '"event":"access"' in line]


def command(state: Path, *words: str) -> Result:
    """What a ``gateway`` command says that is told the state directory alone.

    It runs in this process, beside a loop that may run here: most of a command is its start, and starts are what
    ``test_demo`` and ``test_serve`` try.
    """
    inherited = dict.fromkeys((name for name in os.environ if name.startswith("GATEWAY_")), None)
    runner = CliRunner(env={**inherited, "GATEWAY_STATE_DIR": str(state)})
    with ThreadPoolExecutor(1) as elsewhere:
        done = elsewhere.submit(runner.invoke, commands, words).result()
    assert done.exit_code == 0, (done.output, done.exception)
    return done


@dataclass
class Demo:
    """A running demo."""

    gateway: Process
    state: Path
    facts: dict[str, str]

    @classmethod
    @contextlib.contextmanager
    def started(cls, state: Path, **settings: str) -> Iterator[Self]:
        """From start to Ctrl-C."""
        port = free_port(and_next=True)
        env = environment(state_dir=str(state), **settings)
        gateway = Process.start("demo", "--json", "--port", str(port), env=env)
        try:
            facts = json.loads(gateway.wait_for('"sample_words"'))
            yield cls(gateway, state, facts)
        finally:
            gateway.stop()

    @property
    def key(self) -> str:
        return self.facts["key"]

    def run(self, *arguments: str) -> Any:
        """What a ``gateway … --json`` command says that is told the state directory alone."""
        return json.loads(command(self.state, *arguments, "--json").stdout)

    def ops(self, path: str) -> str:
        """A page of the operations listener."""
        try:
            with urllib.request.urlopen(self.facts["ops_url"] + path, timeout=60) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        total = 0.0
        for line in self.ops("/metrics").splitlines():
            if line.startswith((name + "{", name + " ")) and all(f'{k}="{v}"' in line for k, v in labels.items()):
                total += float(line.rpartition(" ")[2])
        return total

    def curl(self, path: str, *arguments: str, key: str | None = "") -> tuple[int, str]:
        """Status and body by the real curl."""
        auth = [] if key is None else ["-H", f"Authorization: Bearer {key or self.key}"]
        done = subprocess.run(
            ["curl", "-sS", "-w", "\n%{http_code}", self.facts["url"] + path, *auth, *arguments],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body

    def transcribe(self, *arguments: str, key: str | None = "") -> tuple[int, str]:
        """Send the sample."""
        sample = self.facts["sample"]
        return self.curl("/v1/audio/transcriptions", "-F", f"file=@{sample}", "-F", "model=demo", *arguments, key=key)


@functools.cache
def _state_made_once() -> tuple[Path, str]:
    """A state directory whose stores were made, with a tenant ``a``, and a key of it."""
    place = Path(tempfile.mkdtemp(prefix="gateway-state-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    state = place / "state"
    command(state, "tenant", "create", "a", "--embedded")
    made = command(state, "key", "create", "--tenant", "a", "--name", "k", "--json", "--embedded").stdout
    return state, json.loads(made)["key"]


def prepare(state: Path) -> str:
    """Make a state directory as a gateway leaves it, with a tenant ``a``, and tell a key of it.

    A first start takes twice as long as any other, and is what ``test_demo`` is about.
    """
    made, key = _state_made_once()
    subprocess.run(["cp", "-a", made, state], check=True)
    return key


@contextlib.contextmanager
def serving(state: Path, upstream: Listening, *, key: str = "", **settings: str) -> Iterator[tuple[Process, str, str]]:
    """``gateway serve --embedded``, its URL, and a key. With a ``key`` the state is as another gateway left it."""
    key = key or prepare(state)
    port = free_port(and_next=True)
    env = environment(
        state_dir=str(state),
        listen=f"127.0.0.1:{port}",
        ops_listen=f"127.0.0.1:{port + 1}",
        upstream=f"http://127.0.0.1:{upstream.server_port}",
        **settings,
    )
    gateway = Process.start("serve", "--embedded", env=env)
    try:
        gateway.wait_for('"event":"ready"')
        yield gateway, f"http://127.0.0.1:{port}", key
    finally:
        gateway.stop(signal.SIGKILL)
