"""Tokens through whole processes: got, used, rotated under traffic, revoked on every worker, outliving the database."""

import http.server
import json
import os
import signal
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.cli.demo import ADMIN
from gateway.demo.samples import SAMPLES
from policies.identity.permissions import Permission
from tests.e2e.running import Demo, children, command_line, eventually
from tests.policies.signing import signer


def post(demo: Demo, path: str, **fields: str) -> Any:
    """The JSON that an endpoint answers; the status must be 200."""
    body = urllib.parse.urlencode(fields).encode()
    with urllib.request.urlopen(demo.facts["url"] + path, body, timeout=30) as answer:
        text = answer.read()
        return json.loads(text) if text else None


def log_in(demo: Demo) -> Any:
    """The demo's admin, with a password."""
    return post(
        demo,
        "/auth/token",
        grant_type="password",
        email=demo.facts["admin_email"],
        password=demo.facts["admin_password"],
    )


def status(demo: Demo, token: str) -> int:
    """What a route says to a token, on a connection of its own: any of the workers."""
    request = urllib.request.Request(demo.facts["url"] + "/v1/models", headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def granted(demo: Demo, token: str) -> str:
    """A ticket in Deepgram's way."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    asked = urllib.request.Request(f"{demo.facts['url']}/v1/auth/grant", b'{"ttl_seconds": 600}', headers)
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return str(json.load(answer)["access_token"])


def uploaded(demo: Demo, ticket: str, data: str) -> int:
    """What is answered to data that is sent with a ticket."""
    return demo.curl("/v1/listen", "--data-binary", data, "-H", "Content-Type: audio/wav", key=ticket)[0]


def test_a_person_transcribes_with_a_token_and_renews_and_ends_it(demo: Demo) -> None:
    first = log_in(demo)
    code, text = demo.transcribe(key=first["access_token"])
    assert code == 200
    assert json.loads(text)["text"] == demo.facts["sample_words"]
    second = post(demo, "/auth/token", grant_type="refresh_token", refresh_token=first["refresh_token"])
    assert {status(demo, second["access_token"]) for _ in range(20)} == {200}  # every worker has seen it
    ticket = granted(demo, second["access_token"])
    assert uploaded(demo, ticket, f"@{SAMPLES[0].path}") == 200
    assert 401 not in {uploaded(demo, ticket, "no audio") for _ in range(8)}
    post(demo, "/auth/revoke", token=second["access_token"])  # alone: its log-in goes on
    assert eventually(lambda: {uploaded(demo, ticket, "no audio") for _ in range(8)} == {401}, within_s=1.0)
    assert status(demo, first["access_token"]) == 200
    post(demo, "/auth/revoke", token=second["refresh_token"])
    assert eventually(lambda: {status(demo, first["access_token"]) for _ in range(8)} == {401}, within_s=1.0)
    assert status(demo, second["access_token"]) == 401
    assert first["access_token"].split(".")[2] not in "\n".join(demo.gateway.lines)
    assert first["refresh_token"] not in "\n".join(demo.gateway.lines)


def test_keys_rotate_under_traffic_and_no_token_is_refused(demo: Demo) -> None:
    """At once, which is harder than it ever needs to be: who signs and who verifies are different processes."""
    account = demo.run("service-account", "create", "--tenant", "demo", "--name", "rotation")
    client = {"client_id": account["client_id"], "client_secret": account["client_secret"]}
    seen: Counter[int] = Counter()
    signers: set[str] = set()
    done = threading.Event()

    def traffic() -> None:
        while not done.wait(0.02):
            token = post(demo, "/auth/token", grant_type="client_credentials", **client)["access_token"]
            signers.add(token.partition(".")[0])  # the header names the key
            for _ in range(3):
                seen[status(demo, token)] += 1

    caller = threading.Thread(target=traffic)
    caller.start()
    try:
        assert eventually(lambda: len(signers) == 1)
        demo.run("signing-keys", "rotate", "--after", "0s")
        assert eventually(lambda: len(signers) == 2)
        demo.run("signing-keys", "rotate", "--after", "1s", "--algorithm", "ES256")
        assert eventually(lambda: len(signers) == 3)
    finally:
        done.set()
        caller.join()
    assert set(seen) == {200}


@pytest.fixture
def keys_url() -> Iterator[str]:
    """Where another issuer publishes the key that it signs with."""
    body = json.dumps({"keys": [signer("RS256").jwk]}).encode()

    class Keys(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keys) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/keys"
        server.shutdown()


def test_an_issuer_that_operators_add_counts_and_ends_within_a_second_on_every_worker(
    demo: Demo, keys_url: str
) -> None:
    """Added, disabled, enabled, removed by the API; the token is a real one, and good all the time."""
    demo.run("operator", "grant", ADMIN)
    scopes = [word for permission in Permission for word in ("--scope", permission)]
    key = demo.run("key", "create", "--tenant", "demo", "--name", "issuers", "--user", ADMIN, *scopes)["key"]

    def call(method: str, path: str, body: object = None) -> int:
        sent = [] if body is None else ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        return demo.curl(f"/platform/v1/issuers{path}", "-X", method, *sent, key=key)[0]

    def become(expected: int) -> bool:
        return bool(eventually(lambda: {status(demo, token) for _ in range(8)} == {expected}, within_s=1.0))

    now = int(time.time())
    claims = {
        "iss": "https://corp.example",
        "aud": "gateway",
        "sub": "17",
        "scope": "asr",
        "iat": now,
        "exp": now + 600,
    }
    token = signer("RS256").token(claims).decode()
    wish = {"name": "corp", "issuer": claims["iss"], "jwks_url": keys_url, "audience": "gateway", "tenant": "demo"}
    assert become(401)
    assert call("POST", "", {**wish, "scopes": ["asr=transcribe"]}) == 201
    assert become(200)
    assert call("PATCH", "/corp", {"enabled": False}) == 200
    assert become(401)
    assert call("PATCH", "/corp", {"enabled": True}) == 200
    assert become(200)
    assert call("PATCH", "/corp", {"scopes": []}) == 200
    assert become(403)  # what it may is another thing now, also for a token that was seen
    assert call("PATCH", "/corp", {"scopes": ["asr=transcribe"]}) == 200
    assert become(200)
    assert call("DELETE", "/corp") == 204
    assert become(401)


def test_a_service_accounts_key_follows_it_within_a_second_on_every_worker(demo: Demo) -> None:
    """The scopes that the account loses, and its end."""
    account = demo.run("service-account", "create", "--tenant", "demo", "--name", "keyed")["id"]
    key = demo.run("key", "create", "--tenant", "demo", "--name", "k", "--service-account", account)["key"]
    for words, expected in (
        ((), 200),
        (("set", account, "--scope", "introspect"), 403),
        (("set", account, "--scope", "transcribe"), 200),
        (("disable", account), 401),
    ):
        if words:
            demo.run("service-account", *words)
        assert eventually(lambda: {status(demo, key) for _ in range(8)} == {expected}, within_s=1.0), words  # noqa: B023


def test_tokens_outlive_the_database_and_redis(demo: Demo) -> None:
    """Design: JWT and cached keys keep working; also a token of somebody whom no worker has seen, by its own word."""
    account = demo.run("service-account", "create", "--tenant", "demo", "--name", "unseen")
    client = {"client_id": account["client_id"], "client_secret": account["client_secret"]}
    unseen = post(demo, "/auth/token", grant_type="client_credentials", **client)["access_token"]
    seen = log_in(demo)["access_token"]
    assert {status(demo, seen) for _ in range(20)} == {200}
    stores = [
        pid
        for pid in children(demo.gateway.process.pid)
        if any(part in command_line(pid) for part in ("bin/postgres", "postgres: ", "valkey-server"))
    ]
    for pid in stores:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert [status(demo, token) for token in (seen, unseen, unseen)] == [200] * 3
        assert demo.metric("gateway_fail_open_total", what="token_subject") >= 1
    finally:
        for pid in stores:
            os.kill(pid, signal.SIGCONT)
    assert eventually(lambda: status(demo, log_in(demo)["access_token"]) == 200)
    assert "Traceback" not in "\n".join(demo.gateway.lines)
