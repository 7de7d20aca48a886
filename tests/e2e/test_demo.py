"""The two-commands promise, with real clients: speech goes in, words come out, the account agrees."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest

from gateway.demo.samples import SAMPLES
from tests.e2e.running import (
    GATEWAY,
    READY_S,
    Demo,
    Process,
    alive,
    children,
    command,
    command_line,
    environment,
    eventually,
    prepare,
)
from tests.ports import free_port

WORDS = SAMPLES[0].words


@pytest.fixture
def client(demo: Demo) -> openai.OpenAI:
    """The official SDK, unmodified."""
    return openai.OpenAI(base_url=demo.facts["url"] + "/v1", api_key=demo.key, max_retries=0)


def test_the_printed_curl_gets_the_right_words(tmp_path: Path) -> None:
    """The greeting's lines work when pasted into a shell, and each stands alone; in a place with an odd name too."""
    port = free_port(and_next=True)
    state, long = tmp_path / "Ann's state", tmp_path / ("t" * 100)
    long.mkdir()
    env = environment(state_dir=str(state)) | {"TMPDIR": str(long)}
    demo = Process.start("demo", "--port", str(port), env=env)
    try:
        usage = demo.wait_for("usage report")
        curls = [line for line in demo.lines if line.startswith("curl ")]
        outputs = [subprocess.run(c, shell=True, capture_output=True, text=True, check=True).stdout for c in curls]
        report = json.loads(subprocess.run(usage, shell=True, capture_output=True, text=True, check=True).stdout)
    finally:
        demo.stop()
    assert demo.lines[0].startswith("Starting ")  # or a newcomer looks at nothing for ten seconds
    [pages] = [line for line in demo.lines if line.startswith("  sign in ")]
    for page in ("/account", "/admin"):
        assert f"http://localhost:{port}{page}" in pages, "where letters lead and where browsers keep passkeys"
    assert json.loads(outputs[0])["text"] == WORDS
    assert "-->" in outputs[1]
    assert '"transcript.text.done"' in outputs[2]
    assert "401 Unauthorized" in outputs[3]
    assert report["requests"] == 3
    assert report["audio_ms"] == 3 * SAMPLES[0].duration_ms


@pytest.mark.parametrize("response_format", ["json", "verbose_json"])
def test_the_openai_sdk_works_unmodified(client: openai.OpenAI, response_format: str) -> None:
    with SAMPLES[0].path.open("rb") as clip:
        answer = client.audio.transcriptions.create(model="demo", file=clip, response_format=response_format)
    assert answer.text == WORDS


@pytest.mark.parametrize("response_format", ["text", "srt", "vtt"])
def test_text_formats_come_through(client: openai.OpenAI, response_format: str) -> None:
    with SAMPLES[0].path.open("rb") as clip:
        answer = client.audio.transcriptions.create(model="demo", file=clip, response_format=response_format)
    assert WORDS in str(answer).replace("\n", " ")


def test_server_sent_events_come_through(client: openai.OpenAI) -> None:
    with SAMPLES[0].path.open("rb") as clip:
        events = list(client.audio.transcriptions.create(model="demo", file=clip, stream=True))
    assert len(events) > 2
    assert events[-1].type == "transcript.text.done"
    assert events[-1].text == WORDS


def test_the_sdk_names_a_refusal(demo: Demo) -> None:
    """It raises by status and shows our code and request id."""
    stranger = openai.OpenAI(base_url=demo.facts["url"] + "/v1", api_key="sk-not-ours", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as refused:
        stranger.models.list()
    assert refused.value.code == "invalid_api_key"
    assert refused.value.request_id


def test_report_metrics_and_log_agree_with_what_was_sent(demo: Demo) -> None:
    """Five requests of four kinds: the same sums in all three books."""
    before = demo.run("usage", "report", "--from", "1d", "--tenant", "demo")
    counted = demo.metric("gateway_requests_total")
    lines = len(demo.gateway.access)
    seconds = demo.metric("gateway_audio_seconds_total", source="walked")
    assert [demo.transcribe()[0] for _ in range(2)] == [200, 200]
    assert demo.curl("/v1/models")[0] == 200
    assert demo.curl("/v1/models", key=None)[0] == 401
    assert demo.curl("/v1/nothing")[0] == 404
    after = demo.run("usage", "report", "--from", "1d", "--tenant", "demo")
    assert after["requests"] - before["requests"] == 3
    assert after["audio_ms"] - before["audio_ms"] == 2 * SAMPLES[0].duration_ms
    assert after["errors"] == before["errors"]
    new = eventually(lambda: len(demo.gateway.access) >= lines + 5 and demo.gateway.access[lines:])
    assert sorted(line["status"] for line in new) == [200, 200, 200, 401, 404]  # of two workers: in either order
    assert sum(line["bytes_in"] for line in new) == after["bytes_in"] - before["bytes_in"]
    assert demo.metric("gateway_requests_total") - counted == 5
    walked = demo.metric("gateway_audio_seconds_total", source="walked") - seconds
    assert walked == pytest.approx(2 * SAMPLES[0].duration_ms / 1000)
    assert eventually(lambda: demo.metric("gateway_usage_journal_pending") == 0)


def test_revocation_suspension_expiry_and_scope_have_codes_of_their_own(demo: Demo) -> None:
    """Made and unmade by the command line, effective within a second on every worker."""

    def code(key: str) -> tuple[int, str]:
        status, body = demo.curl("/v1/models", key=key)
        return status, json.loads(body)["error"]["code"] if status != 200 else ""

    demo.run("tenant", "create", "acme")
    made = demo.run("key", "create", "--tenant", "acme", "--name", "a")
    narrow = demo.run("key", "create", "--tenant", "acme", "--name", "b", "--scope", "usage:read")
    brief = demo.run("key", "create", "--tenant", "acme", "--name", "c", "--expires", "1s")
    assert code(made["key"]) == (200, "")
    assert code(narrow["key"]) == (403, "insufficient_scope")
    assert eventually(lambda: code(brief["key"]) == (401, "api_key_expired"), 3)
    demo.run("tenant", "suspend", "acme")
    assert eventually(lambda: code(made["key"]) == (403, "tenant_suspended"), 1)
    demo.run("tenant", "resume", "acme")
    assert eventually(lambda: code(made["key"]) == (200, ""), 1)
    demo.run("key", "revoke", made["id"])
    assert eventually(lambda: code(made["key"]) == (401, "api_key_revoked"), 1)
    assert code("thk_live_" + "0" * 28) == (401, "invalid_api_key")


def test_a_link_that_a_command_prints_leads_to_this_gateway(demo: Demo) -> None:
    """The command is told the state directory alone, and neither the port nor an address."""
    invited = demo.run("user", "invite", "--tenant", "demo", "--email", "ann@example.com")["link"]
    port = demo.facts["url"].rpartition(":")[2]
    assert invited.startswith(f"http://localhost:{port}/auth/invite/")


def test_a_limit_set_by_the_command_line_is_exact_across_workers(demo: Demo) -> None:
    """Ten requests in parallel over two workers against a limit of four: exactly four pass."""
    demo.run("tenant", "create", "tight")
    key = demo.run("key", "create", "--tenant", "tight", "--name", "k")["key"]
    demo.run("limits", "set", "--tenant", "tight", "--requests", "4/h")
    config = "\n".join(f'url = "{demo.facts["url"]}/v1/models"\noutput = /dev/null' for _ in range(10))
    done = subprocess.run(
        ["curl", "-sS", "-Z", "-H", f"Authorization: Bearer {key}", "-w", "%{http_code}\n", "-K", "-"],
        input=config, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert sorted(done.stdout.split()) == ["200"] * 4 + ["429"] * 6
    status, body = demo.curl("/v1/models", "-i", key=key)
    assert status == 429
    head = body.lower()
    assert "retry-after: " in head
    assert 'ratelimit-policy: "tenant-requests";q=4;w=3600' in head
    shown = demo.run("limits", "show", "--tenant", "tight")
    assert "4/h" in json.dumps(shown)


def test_no_secret_is_in_the_log_or_in_a_process_list(demo: Demo) -> None:
    """After all the tests above: neither key nor password nor the secret key."""
    secret = (demo.state / "secret_key").read_text().strip()
    said = "\n".join(line for line in demo.gateway.lines if '"sample_words"' not in line)
    shown = "\n".join(command_line(pid) for pid in children(demo.gateway.process.pid))
    environments = b"".join(
        Path(f"/proc/{pid}/environ").read_bytes() for pid in children(demo.gateway.process.pid) if command_line(pid)
    )
    for value in (demo.key, demo.facts["admin_password"], secret):
        assert value not in said
        assert value not in shown
        assert value.encode() not in environments


def test_a_killed_worker_is_replaced_and_its_usage_is_in_the_account(demo: Demo) -> None:
    """After kill -9 of all workers others start, and nothing acknowledged is lost."""
    before = demo.run("usage", "report", "--from", "1d", "--tenant", "demo")["requests"]
    assert [demo.curl("/v1/models")[0] for _ in range(4)] == [200] * 4
    workers = [pid for pid in children(demo.gateway.process.pid) if "gateway.processes.worker" in command_line(pid)]
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: json.loads(demo.ops("/readyz"))["status"] == "ok")
    assert demo.curl("/v1/models")[0] == 200
    assert demo.run("usage", "report", "--from", "1d", "--tenant", "demo")["requests"] - before == 5


def test_whatever_ends_it_leaves_no_process_and_the_next_start_finds_the_data(tmp_path: Path) -> None:
    """Ctrl-C; kill -9 of the parent, whose journals the next start adopts; and a terminal that closes.

    The same key, and all in the account.
    """
    state = tmp_path / "state"
    prepare(state)
    with Demo.started(state) as first:
        family = [first.gateway.process.pid, *children(first.gateway.process.pid)]
        assert first.curl("/v1/models")[0] == 200
        assert len(family) > 5
        key = first.key
        assert first.gateway.stop() == 0
    assert eventually(lambda: not alive(family))
    with Demo.started(state) as second:
        assert second.key == key
        family = [second.gateway.process.pid, *children(second.gateway.process.pid)]
        assert [second.curl("/v1/models")[0] for _ in range(3)] == [200] * 3
        second.gateway.process.kill()
        second.gateway.process.wait(30)
        assert eventually(lambda: not alive(family)), [command_line(pid) for pid in alive(family)]
    with in_a_window(state) as (third, close, url):
        family = [third.pid, *children(third.pid)]
        with urllib.request.urlopen(urllib.request.Request(f"{url}/v1/models", headers={"X-API-Key": key})) as answer:
            assert answer.status == 200
        report = command(state, "usage", "report", "--from", "1d", "--tenant", "demo", "--json").stdout
        assert json.loads(report)["requests"] == 5
        close()
        assert third.wait(READY_S) == 0
    assert eventually(lambda: not alive(family)), [command_line(pid) for pid in alive(family)]


@contextlib.contextmanager
def in_a_window(state: Path) -> Iterator[tuple["subprocess.Popen[bytes]", Callable[[], None], str]]:
    """A demo at a terminal, how its window closes, and its URL.

    Nobody could press Ctrl-C any more then, and what it writes goes nowhere.
    """
    window, terminal = pty.openpty()
    port = free_port(and_next=True)
    demo = subprocess.Popen(
        ["env", "--default-signal=HUP", "setsid", "--ctty", *GATEWAY, "demo", "--port", str(port)],
        env=environment(state_dir=str(state)), stdin=terminal, stdout=terminal, stderr=terminal, cwd="/",
    )  # fmt: skip
    os.close(terminal)
    try:
        shown = b""
        while b'"event":"ready"' not in shown:
            shown += os.read(window, 65_536)
        yield demo, lambda: os.close(window), f"http://127.0.0.1:{port}"
    finally:
        demo.kill()


def test_two_gateways_on_one_state_directory(demo: Demo) -> None:
    """The second one says who owns it and what to do, and exits 1."""
    done = subprocess.run(
        [*GATEWAY, "demo", "--port", str(free_port(and_next=True))],
        env=environment(state_dir=str(demo.state)), capture_output=True, text=True, check=False, timeout=60, cwd="/",
    )  # fmt: skip
    assert done.returncode == 1
    assert f"process {demo.gateway.process.pid}" in done.stderr
    assert "GATEWAY_STATE_DIR" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_occupied_port(demo: Demo, tmp_path: Path) -> None:
    """Named, with the option that moves it; nothing is left running."""
    port = demo.facts["url"].rpartition(":")[2]
    done = subprocess.run(
        [*GATEWAY, "demo", "--port", port],
        env=environment(state_dir=str(tmp_path / "state")), capture_output=True, text=True, check=False, timeout=60,
        cwd="/",
    )  # fmt: skip
    assert done.returncode == 1
    assert f"127.0.0.1:{port} is in use by another process" in done.stderr
    assert "choose another with --port" in done.stderr
