"""PostgreSQL, Valkey or the upstream die under it: the stated answers, no traceback, recovery without a restart."""

import json
import os
import signal
from collections.abc import Iterator

import pytest

from tests.e2e.running import Demo, children, command_line, eventually, prepare


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One that waits no longer for its transcriber than a test can."""
    state = tmp_path_factory.mktemp("outages") / "state"
    prepare(state)
    with Demo.started(state, upstream_timeout="10") as running:
        yield running


def _pids(demo: Demo, part: str) -> list[int]:
    return [pid for pid in children(demo.gateway.process.pid) if part in command_line(pid)]


def _kill(demo: Demo, part: str) -> None:
    for pid in _pids(demo, part):
        os.kill(pid, signal.SIGKILL)


def _stop(demo: Demo, part: str) -> None:
    """SIGSTOP: the server is there and answers nothing, which is worse than being dead."""
    for pid in _pids(demo, part):
        os.kill(pid, signal.SIGSTOP)


def _go_on(demo: Demo, part: str) -> None:
    for pid in _pids(demo, part):
        os.kill(pid, signal.SIGCONT)


def _no_traceback(demo: Demo) -> bool:
    return "Traceback" not in "\n".join(demo.gateway.lines)


def test_valkey_that_hangs_costs_exactness_and_no_request(demo: Demo) -> None:
    """Limits are then counted locally, each counted as a fail-open; readiness says degraded; it recovers."""
    demo.run("limits", "set", "--tenant", "demo", "--requests", "1000/m")
    assert demo.curl("/v1/models")[0] == 200
    _stop(demo, "valkey-server")
    try:
        assert [demo.curl("/v1/models")[0] for _ in range(3)] == [200] * 3
        assert demo.metric("gateway_fail_open_total", what="ratelimit") >= 3
        assert json.loads(demo.ops("/readyz"))["status"] == "degraded"
        assert json.loads(demo.ops("/livez"))["status"] == "ok"
    finally:
        _go_on(demo, "valkey-server")
    assert eventually(lambda: json.loads(demo.ops("/readyz"))["status"] == "ok")

    def counts_again() -> bool:
        before = demo.metric("gateway_fail_open_total", what="ratelimit")
        assert demo.curl("/v1/models")[0] == 200
        return demo.metric("gateway_fail_open_total", what="ratelimit") == before

    assert eventually(counts_again)  # a worker tries a moment after the parent has found it
    assert _no_traceback(demo)


def test_valkey_that_is_killed_comes_back_by_itself(demo: Demo) -> None:
    _kill(demo, "valkey-server")
    assert demo.curl("/v1/models")[0] == 200
    assert eventually(lambda: json.loads(demo.ops("/readyz"))["status"] == "ok")
    assert _no_traceback(demo)


def test_postgresql_that_hangs_leaves_known_keys_working_and_refuses_unknown_ones_with_503(demo: Demo) -> None:
    """Never 401. Usage waits in the journal and arrives afterwards, once."""
    fresh = demo.run("key", "create", "--tenant", "demo", "--name", "fresh")["key"]
    before = demo.run("usage", "report", "--from", "1d", "--tenant", "demo")["requests"]
    assert [demo.curl("/v1/models")[0] for _ in range(20)] == [200] * 20  # seen by both workers, but once in 500 000
    _stop(demo, "bin/postgres")
    _stop(demo, "postgres: ")
    try:
        assert [demo.curl("/v1/models")[0] for _ in range(4)] == [200] * 4
        status, body = demo.curl("/v1/models", key=fresh)
        assert (status, json.loads(body)["error"]["code"]) == (503, "registry_unavailable")
        assert json.loads(demo.ops("/readyz"))["checks"]["postgres"]["status"] == "down"
        assert json.loads(demo.ops("/livez"))["status"] == "ok"
    finally:
        _go_on(demo, "postgres: ")
        _go_on(demo, "bin/postgres")
    assert eventually(lambda: demo.curl("/v1/models", key=fresh)[0] == 200)
    assert eventually(
        lambda: demo.run("usage", "report", "--from", "1d", "--tenant", "demo")["requests"] >= before + 13
    )
    assert _no_traceback(demo)


def test_postgresql_that_is_killed_comes_back_by_itself(demo: Demo) -> None:
    before = demo.run("usage", "report", "--from", "1d", "--tenant", "demo")["requests"]
    assert demo.curl("/v1/models")[0] == 200
    _kill(demo, "bin/postgres -D")
    assert demo.curl("/v1/models")[0] == 200
    assert eventually(lambda: json.loads(demo.ops("/readyz"))["status"] == "ok")
    assert eventually(lambda: demo.run("usage", "report", "--from", "1d", "--tenant", "demo")["requests"] == before + 2)
    assert _no_traceback(demo)


def test_an_upstream_that_is_killed_is_502_until_it_is_back(demo: Demo) -> None:
    """The demo starts its transcriber again; the gateway needs no restart."""
    _kill(demo, "gateway.demo.transcriber")
    status, body = demo.curl("/v1/models")
    assert status in (200, 502)
    if status == 502:
        assert json.loads(body)["error"]["code"] in ("upstream_unreachable", "upstream_broke")
    assert eventually(lambda: demo.curl("/v1/models")[0] == 200)
    assert _no_traceback(demo)


def test_an_upstream_that_hangs_is_504(demo: Demo) -> None:
    """Too slow to begin: the setting GATEWAY_UPSTREAM_TIMEOUT."""
    _stop(demo, "gateway.demo.transcriber")
    try:
        status, body = demo.curl("/v1/models")
    finally:
        _go_on(demo, "gateway.demo.transcriber")
    assert (status, json.loads(body)["error"]["code"]) == (504, "upstream_timeout")
    assert eventually(lambda: demo.curl("/v1/models")[0] == 200)
    assert _no_traceback(demo)
