"""Live speech through whole processes: words while it is spoken, and an end when the key, the process or both end."""

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import Server, ServerConnection, serve

from gateway.demo.samples import SAMPLES
from tests.e2e.running import GATEWAY, Demo, Process, children, command_line, environment, eventually, serving

FIRST = SAMPLES[0]
PCM = FIRST.path.read_bytes()[44:]
PAUSE = bytes(32_000)
BLOCK_BYTES = 3_200
LISTEN = "/v1/listen?encoding=linear16&sample_rate=16000&channels=1"


def opened(url: str, path: str, **options: Any) -> ClientConnection:
    return connect(url.replace("http://", "ws://") + path, proxy=None, **options)


def spoken(stream: ClientConnection) -> tuple[str, dict[str, Any]]:
    """Send the sample as a microphone would, only faster; the words of the final results, and the metadata."""
    audio = PCM + PAUSE
    for at in range(0, len(audio), BLOCK_BYTES):
        stream.send(audio[at : at + BLOCK_BYTES])
    stream.send('{"type":"CloseStream"}')
    words = []
    while (message := json.loads(stream.recv(30)))["type"] == "Results":
        if message["is_final"]:
            words.append(message["channel"]["alternatives"][0]["transcript"])
    return " ".join(filter(None, words)), message


def test_live_speech_becomes_words_and_an_account(demo: Demo) -> None:
    """By the header of Deepgram's SDKs, and by the subprotocols of its browser SDK."""
    before = demo.run("usage", "report", "--from", "1d", "--tenant", "demo")
    url, key = demo.facts["url"], demo.key
    with opened(url, LISTEN, additional_headers={"Authorization": f"Token {key}"}) as stream:
        words, metadata = spoken(stream)
    assert words == FIRST.words
    assert metadata["duration"] == pytest.approx((FIRST.duration_ms + 1_000) / 1000)
    with opened(url, LISTEN, subprotocols=["token", key]) as stream:
        assert stream.subprotocol == "token"
        assert spoken(stream)[0] == FIRST.words

    def booked() -> bool:
        after = demo.run("usage", "report", "--from", "1d", "--tenant", "demo")
        sent = after["bytes_in"] - before["bytes_in"]
        return after["requests"] - before["requests"] == 2 and sent == 2 * (len(PCM) + len(PAUSE) + 22)

    assert eventually(booked)
    assert demo.metric("gateway_open_streams") == 0
    assert demo.metric("gateway_stream_closes_total", code="1000") == 2
    assert demo.run("usage", "reconcile")["agree"]


def test_a_token_as_deepgrams_sdk_asks_for_it_opens_streams_until_its_key_ends(demo: Demo) -> None:
    """More than one; words come back, and the account has them under the key."""
    made = demo.run("key", "create", "--tenant", "demo", "--name", "a page's server")
    url = demo.facts["url"]
    headers = {"Authorization": f"Token {made['key']}", "Content-Type": "application/json"}
    asked = urllib.request.Request(f"{url}/v1/auth/grant", b'{"ttl_seconds": 600}', headers)
    with urllib.request.urlopen(asked, timeout=30) as answer:
        token = json.load(answer)["access_token"]
    with opened(url, LISTEN, additional_headers={"Authorization": f"Bearer {token}"}) as stream:
        assert spoken(stream)[0] == FIRST.words
    with opened(url, LISTEN, subprotocols=["bearer", token]) as stream:
        demo.run("key", "revoke", made["id"])
        with contextlib.suppress(ConnectionClosed):
            while stream.recv(30):
                pass
        assert stream.close_code == 4001
    with pytest.raises(InvalidHandshake), opened(url, LISTEN, subprotocols=["bearer", token]):
        pass
    assert token not in "\n".join(demo.gateway.lines)
    by_key = ("usage", "report", "--from", "1d", "--tenant", "demo", "--by", "key")
    assert eventually(lambda: {g["key"]: g["audio_ms"] for g in demo.run(*by_key)["groups"]}.get(made["id"]))


@pytest.mark.parametrize("owner", ["tenant", "service account"])
def test_a_key_that_is_revoked_ends_its_streams_within_a_second(demo: Demo, owner: str) -> None:
    """Also by the end of the service account whose it is."""
    words = ["key", "create", "--tenant", "demo", "--name", "soon gone"]
    if owner == "tenant":
        made = demo.run(*words)
        ending = ("key", "revoke", made["id"])
    else:
        account = demo.run("service-account", "create", "--tenant", "demo", "--name", "streams")["id"]
        made = demo.run(*words, "--service-account", account)
        ending = ("service-account", "disable", account)
    ended: list[float] = []
    with opened(demo.facts["url"], LISTEN, additional_headers={"X-API-Key": made["key"]}) as stream:
        stream.send(PCM[:BLOCK_BYTES])

        def listen() -> None:
            try:
                while True:
                    stream.recv()
            except ConnectionClosed:
                ended.append(time.monotonic())

        listening = threading.Thread(target=listen)
        listening.start()
        demo.run(*ending)
        revoked = time.monotonic()
        listening.join(60)
    assert ended[0] - revoked < 1
    assert stream.close_code == 4001
    assert stream.close_reason is not None
    assert stream.close_reason.startswith("api_key_revoked: ")


class Echo:
    """A WebSocket service that says back what it hears."""

    def __init__(self) -> None:
        self._server: Server = serve(self._serve, "127.0.0.1", 0, max_size=None)
        self.server_port: int = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def _serve(self, peer: ServerConnection) -> None:
        for message in peer:
            peer.send(message)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


def metrics(url: str) -> str:
    """The operations listener is one port further."""
    host, _, port = url.rpartition(":")
    with urllib.request.urlopen(f"{host}:{int(port) + 1}/metrics", timeout=60) as answer:
        return answer.read().decode()


def listening(process: int, url: str) -> int:
    """How many files of this process are sockets that listen on that port (proc_pid_net(5): state 0A, and the inode).

    One is in its hands all its life, and one more while it accepts.
    """
    port = f"{urlsplit(url).port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port}") and row[3] == "0A"}
    held = []
    for file in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            held.append(str(file.readlink()))
    return sum(file in sockets for file in held)


def workers_of(gateway: Process) -> list[int]:
    return [p for p in children(gateway.process.pid) if "gateway.processes.worker" in command_line(p)]


def test_a_reload_lets_streams_go_on_and_the_next_one_ends_those_before_it(tmp_path: Path, echo: Echo) -> None:
    """Whoever is in the midst of a call notices nothing; and there are never more than two generations of workers."""
    with serving(tmp_path / "state", echo, workers="1") as (gateway, url, key):
        header = {"Authorization": f"Bearer {key}"}

        def says(stream: ClientConnection, text: str) -> bool:
            stream.send(text)
            return stream.recv(60) == text

        with opened(url, "/v1/realtime", additional_headers=header) as old:
            assert says(old, "before")
            (worker,) = workers_of(gateway)
            accepting = listening(worker, url)
            gateway.process.send_signal(signal.SIGHUP)
            gateway.wait_for('"event":"reloaded"')
            assert says(old, "after")
            assert eventually(lambda: listening(worker, url) < accepting)  # who comes now comes to the new one
            with opened(url, "/v1/realtime", additional_headers=header) as new:
                assert says(new, "new")
                gateway.process.send_signal(signal.SIGHUP)
                with contextlib.suppress(ConnectionClosed):
                    while old.recv(60):
                        pass  # the message that goes before a close frame
                assert old.close_code == 1012
                assert eventually(lambda: sum('"event":"reloaded"' in line for line in gateway.lines) == 2, 30)
                assert says(new, "still there")
        assert "Traceback" not in "\n".join(gateway.lines)


def test_a_killed_worker_loses_seconds_and_a_drain_says_goodbye(tmp_path: Path, echo: Echo) -> None:
    """What passed until the last checkpoint is in the account; SIGTERM sends 1012, and the process ends at once."""
    with serving(tmp_path / "state", echo, workers="1", drain_timeout="600") as (gateway, url, key):
        header = {"Authorization": f"Bearer {key}"}
        with opened(url, "/v1/realtime", additional_headers=header) as stream:
            stream.send(bytes(100_000))
            assert len(stream.recv(60)) == 100_000
            (worker,) = workers_of(gateway)
            assert eventually(lambda: 'direction="in",route="openai.realtime"} 100000.0' in metrics(url)), metrics(url)
            os.kill(worker, signal.SIGKILL)
            with pytest.raises(ConnectionClosed):
                stream.recv(60)

        def is_back() -> bool:
            with contextlib.suppress(OSError, InvalidHandshake), opened(url, "/v1/realtime", additional_headers=header):
                return True
            return False

        assert eventually(is_back)
        with opened(url, "/v1/realtime", additional_headers=header) as stream:
            stream.send("again")
            assert stream.recv(60) == "again"
            gateway.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(ConnectionClosed):
                while stream.recv(60):
                    pass  # the message that goes before a close frame
            assert stream.close_code == 1012
        assert gateway.process.wait(60) == 0
    report = json.loads(
        subprocess.run(
            [*GATEWAY, "usage", "report", "--from", "1d", "--tenant", "a", "--json"],
            env=environment(state_dir=str(tmp_path / "state")), capture_output=True, text=True, check=True, cwd="/",
        ).stdout
    )  # fmt: skip
    assert (report["bytes_in"], report["requests"]) == (100_005, 2)
