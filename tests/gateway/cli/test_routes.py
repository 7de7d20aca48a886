"""`gateway routes`: what is open, and why one request is let in or not."""

from pathlib import Path

import pytest

from gateway.shipped import shipped
from policies.http.credentials import mint_key
from tests.gateway.cli.conftest import Operator

TABLE = """\
[[routes]]
name = "listen"
path = "/v1/listen"
methods = ["GET"]
websocket = true
scope = "transcribe"
without_limiter = "closed"

[[routes]]
name = "open"
path = "/open/{id}"
methods = ["GET"]
access = "public"
"""


def facts(operator: Operator, *words: str) -> dict[str, str]:
    return {name: value for name, value in operator.table("routes", "explain", *words)}  # noqa: C416  cells are pairs


def test_every_route_is_listed_and_the_gateways_own_last(stranger: Operator) -> None:
    headings, *rows = stranger.table("routes", "list")
    assert headings == ["NAME", "METHODS", "PATH", "ACCESS", "SCOPE", "METER", "UPSTREAM"]
    first = ["openai.transcriptions", "POST", "/v1/audio/transcriptions", "credential", "transcribe", "multipart"]
    assert rows[0] == [*first, "default"]
    assert rows[-1][-1] == "portal"
    found = stranger.json("routes", "list")
    assert [route["name"] for route in found] == [row[0] for row in rows]
    assert {route["name"] for route in found if route["websocket"]} >= {"openai.realtime", "deepgram.stream"}


def test_a_request_is_explained_without_any_store(stranger: Operator) -> None:
    told = facts(stranger, "POST", "/v1/audio/transcriptions?x=%2F")
    line = 1 + shipped("routes.toml").read_text().split("\n").index('name = "openai.transcriptions"')
    assert told["verdict"].startswith("admitted, with a credential that may")
    assert told["route"].startswith("openai.transcriptions (")
    assert told["route"].endswith(f"routes.toml:{line - 1})")
    assert told["open to"] == "who has a valid credential with the scope 'transcribe'"
    assert told["upstream"] == "default (http://127.0.0.1:9300)"
    assert told["without Redis"] == "each worker counts its share of the limits"
    assert "largest body" in told


def test_a_call_that_the_gateway_answers_itself_is_explained(stranger: Operator) -> None:
    told = facts(stranger, "POST", "/v1/auth/grant")
    assert told["route"].startswith("deepgram.grant (")
    assert told["upstream"] == "portal (the gateway itself)"
    assert told["grants"] == "a ticket for deepgram.stream, deepgram.flux, deepgram.listen, in the shape of 'deepgram'"
    said = stranger.json("routes", "explain", "GET", "/v3/token")
    assert said["route"]["grants"] == ["assemblyai.stream"]


def test_a_table_of_ones_own_is_explained_with_its_lines(stranger: Operator, tmp_path: Path) -> None:
    path = tmp_path / "routes.toml"
    path.write_text(TABLE)
    stranger.environment |= {"GATEWAY_ROUTES_FILE": str(path), "GATEWAY_DEFAULT_REQUESTS": "600/m"}
    stream = facts(stranger, "GET", "/v1/listen")
    assert (stream["route"], stream["without Redis"]) == (f"listen ({path}:1)", "503 until limits can be checked again")
    assert stream["limit tenant-requests"] == "600/m, unless the tenant has a rate of its own"
    assert "stream" in stream
    public = stranger.json("routes", "explain", "GET", "/open/7")
    assert (public["verdict"], public["limits"]) == ("admitted, within the limits", [])
    assert public["route"]["defined"] == f"{path}:9"
    assert public["route"]["why"] == "the path fits, and no route names more of it in full"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/load", 404, "unknown_route"),
        ("DELETE", "/v1/models/x", 405, "method_not_allowed"),
        ("get", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1//models", 400, "ambiguous_target"),
        ("GET", "v1/models", 400, "ambiguous_target"),
        ("GET", "/v1/models#x", 400, "ambiguous_target"),
        ("GET", f"/v1/models?api_key={mint_key(bytes(17))}", 400, "credential_in_query"),
    ],
)
def test_a_refusal_is_explained_and_is_no_failure_of_the_command(
    stranger: Operator, method: str, path: str, status: int, code: str
) -> None:
    told = stranger.json("routes", "explain", method, path)
    assert told["verdict"] == f"refused: {status} {code}"
    assert (told["refusal"]["status"], told["refusal"]["code"], told["route"]) == (status, code, None)
    result = stranger.run("routes", "explain", method, path)
    assert told["refusal"]["message"] in result.stderr
    if status == 405:
        assert "methods there\tGET, HEAD" in result.stdout


@pytest.mark.parametrize("path", ["/auth/verify", "/auth/verify/traefik", "/auth/verify/envoy/v1/models?a=b"])
def test_where_forward_auth_answers_no_route_is_told(stranger: Operator, path: str) -> None:
    """The portal has all else below /auth, and never hears of it."""
    assert facts(stranger, "GET", path)["verdict"].startswith("answered by forward-auth, to trusted proxies alone")
    told = stranger.json("routes", "explain", "DELETE", path)
    assert (told["route"], told["refusal"]) == (None, None)
    assert facts(stranger, "GET", "/auth/verifying")["route"] == "portal.auth (built in)"


def test_what_is_wrong_with_the_table_is_told_instead(stranger: Operator, tmp_path: Path) -> None:
    path = tmp_path / "routes.toml"
    path.write_text(TABLE.replace("websocket", "websockets"))
    stranger.environment["GATEWAY_ROUTES_FILE"] = str(path)
    for words in (("list",), ("explain", "GET", "/")):
        fault = f"{path}:5: route 1 (listen): unknown setting 'websockets'; did you mean 'websocket'?"
        assert fault in stranger.run("routes", *words, status=1).stderr


def test_a_key_is_judged_as_the_gateway_would(operator: Operator) -> None:
    """Standing, exceptions, scope, and every limit that it touches."""
    operator.run("migrate")
    operator.run("tenant", "create", "acme")
    key = operator.json("key", "create", "--tenant", "acme", "--name", "n")["id"]
    words = ("POST", "/v1/audio/transcriptions", "--as", key)
    operator.run("limits", "set", "--tenant", "acme", "--requests", "600/m")
    operator.run("limits", "set", "--tenant", "acme", "--key", key, "--requests", "5/s", "--audio", "90m/d")
    told = facts(operator, *words)
    assert told["verdict"] == "admitted, within the limits"
    assert told["asked as"] == f"key {key} of tenant acme; scopes: transcribe; good"
    assert (told["limit tenant-requests"], told["limit key-requests"]) == ("600/m", "5/s")
    assert told["limit key-audio"].startswith("90m/d")
    said = operator.json("routes", "explain", *words)
    assert said["as"]["tenant"] == "acme"
    assert {limit["name"] for limit in said["limits"]} == {"tenant-requests", "key-requests", "key-audio"}
    operator.run("plan", "create", "gold", "--route", "openai.models")
    operator.run("plan", "assign", "gold", "acme")
    assert facts(operator, *words)["closed by"] == "the tenant's plan (gateway plan list)"
    operator.run("plan", "assign", "none", "acme")
    operator.run("tenant", "route", "acme", "openai.transcriptions", "--deny")
    told = facts(operator, *words)
    assert told["closed by"] == "an exception of the tenant (gateway tenant route acme openai.transcriptions --allow)"
    assert told["verdict"] == "refused: 403 route_denied"
    operator.run("tenant", "route", "acme", "openai.transcriptions", "--allow")
    other = operator.json("key", "create", "--tenant", "acme", "--name", "o", "--scope", "usage:read")["id"]
    refused = operator.json("routes", "explain", "POST", "/v1/audio/transcriptions", "--as", other)
    assert refused["verdict"] == "refused: 403 insufficient_scope"
    assert "It needs 'transcribe'." in refused["refusal"]["message"]
    operator.run("key", "revoke", key)
    assert operator.json("routes", "explain", *words)["verdict"] == "refused: 401 api_key_revoked"
    operator.run("tenant", "suspend", "acme")
    still = operator.json("routes", "explain", "POST", "/v1/audio/transcriptions", "--as", other)
    assert still["verdict"] == "refused: 403 tenant_suspended"


@pytest.mark.parametrize("key_id", ["key_unknown", "", "thk_live_0000000000000000000000000000", "x'; --"])
def test_a_key_that_is_none_is_an_error(operator: Operator, key_id: str) -> None:
    operator.run("migrate")
    assert "There is no key" in operator.run("routes", "explain", "GET", "/v1/models", "--as", key_id, status=1).stderr


def test_a_secret_given_for_an_id_is_not_repeated(operator: Operator) -> None:
    """People paste what they have."""
    operator.run("migrate")
    secret = "thk_live_" + "0" * 28
    assert secret not in operator.run("routes", "explain", "GET", "/", "--as", secret, status=1).stderr


def test_wrong_usage_ends_with_status_2(stranger: Operator) -> None:
    for words in (("explain",), ("explain", "GET"), ("list", "extra"), ("explain", "GET", "/", "--as")):
        stranger.run("routes", *words, status=2)
