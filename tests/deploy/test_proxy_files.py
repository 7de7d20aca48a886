"""The shipped files for Caddy, Envoy and Traefik say all that the header algebra says, name by name.

They are also tried on the programs themselves (``tests/e2e``), which would not notice a name that is missing.
"""

import re
from typing import Any

import pytest
import yaml

from policies.http import headers
from policies.http.headers import CREDENTIALS, IDENTITY
from tests.deploy.files import text

CLAIMED = sorted({
    *(name.decode() for name in (*headers._FORWARDED, *headers._CLAIMS) if not name.startswith(b"x-forwarded-")),
    "x-forwarded-user", "x-forwarded-prefix", "x-forwarded-uri", "x-forwarded-method", "x-forwarded-scheme",
    "x-auth-anything", "x-internal-anything", "x-original-anything", "x-envoy-anything",
})  # fmt: skip
ALIASES = ["X_Tenant_ID", "X.Tenant.ID", "X-Tenant_ID", "x_auth_roles", "X_Forwarded_For"]


def traefik() -> dict[str, Any]:
    return yaml.safe_load(text("config/traefik/tahoe.yml"))["http"]


def envoy_manager() -> dict[str, Any]:
    listener = yaml.safe_load(text("config/envoy/envoy.yaml"))["static_resources"]["listeners"][0]
    return listener["filter_chains"][0]["filters"][0]["typed_config"]


def test_traefik_asks_first_cleans_afterwards_and_names_only_what_exists() -> None:
    made = traefik()
    router, own = made["routers"].values()
    assert (own["service"], "middlewares" in own) == ("tahoe-gateway", False)
    assert own["rule"].endswith("&& !PathPrefix(`/auth/verify`)")
    assert router["middlewares"] == list(made["middlewares"]) == ["tahoe-verify", "tahoe-clean"]
    assert router["service"] in made["services"]
    balancer = made["services"][router["service"]]["loadBalancer"]
    assert balancer["serversTransport"] in made["serversTransports"]


def test_traefik_takes_every_identity_from_the_gateway_and_asks_in_its_dialect() -> None:
    ask = traefik()["middlewares"]["tahoe-verify"]["forwardAuth"]
    assert ask["address"].endswith("/auth/verify/traefik")
    assert ask["authResponseHeaders"] == [*IDENTITY, "X-Request-ID", "Sec-WebSocket-Protocol"]
    assert (ask["trustForwardHeader"], ask["forwardBody"]) == (False, False)
    assert "authRequestHeaders" not in ask  # all of them are asked about


@pytest.mark.parametrize("name", [name for name in (*CLAIMED, *ALIASES) if name != "x-real-ip"])
def test_traefik_removes_what_no_client_may_say(name: str) -> None:
    """Its expression is Go's, which reads these alike. X-Real-IP is Traefik's own word."""
    removed = re.compile(traefik()["middlewares"]["tahoe-verify"]["forwardAuth"]["authResponseHeadersRegex"])
    assert removed.match(name.title())
    assert not removed.match("Content-Type")
    assert not [kept for kept in ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host") if removed.match(kept)]


def test_traefik_keeps_credentials_from_the_transcriber_and_the_identity_from_the_client() -> None:
    clean = traefik()["middlewares"]["tahoe-clean"]["headers"]
    assert {name.lower(): value for name, value in clean["customRequestHeaders"].items()} == dict.fromkeys(
        (name.lower() for name in (*CREDENTIALS, "Referer")), ""
    )
    assert clean["customResponseHeaders"] == dict.fromkeys(IDENTITY, "")


def test_caddy_copies_every_identity_and_removes_all_else() -> None:
    told = text("config/caddy/Caddyfile")
    copied = " ".join(re.findall(r"copy_headers (.*)", told))
    assert copied.split() == [*IDENTITY, "X-Request-ID", "Sec-WebSocket-Protocol"]
    removed = [name.lower() for name in re.findall(r"request_header -(\S+)", told)]
    patterns = re.compile("|".join(re.escape(name).replace(r"\*", ".*") for name in removed))
    assert [name for name in (*CLAIMED, *ALIASES) if not patterns.fullmatch(name.lower())] == []
    sent_on = {name.lower() for name in re.findall(r"header_up -(\S+)", told)}
    assert {name.lower() for name in CREDENTIALS} <= sent_on


def test_envoy_asks_about_every_credential_takes_every_identity_and_removes_all_else() -> None:
    manager = envoy_manager()
    authz = manager["http_filters"][0]["typed_config"]
    asked = {pattern["exact"] for pattern in authz["allowed_headers"]["patterns"]}
    assert {name.lower() for name in CREDENTIALS} <= asked
    # What tells a person from a program, and our own pages from others.
    assert {"accept", "origin", "sec-fetch-mode", "sec-fetch-site", "sec-websocket-protocol"} <= asked
    response = authz["http_service"]["authorization_response"]
    taken = [pattern["exact"] for pattern in response["allowed_upstream_headers"]["patterns"]]
    assert taken == [name.lower() for name in (*IDENTITY, "X-Request-ID", "Sec-WebSocket-Protocol")]
    assert authz["http_service"]["path_prefix"] == "/auth/verify/envoy"
    assert authz["failure_mode_allow"] is False
    mutations = manager["early_header_mutation_extensions"][0]["typed_config"]["mutations"]
    exact = {mutation["remove"] for mutation in mutations if "remove" in mutation}
    prefixes = tuple(
        matcher["prefix"]
        for mutation in mutations
        if "prefix" in (matcher := mutation.get("remove_on_match", {}).get("key_matcher", {}))
    )
    assert [name for name in CLAIMED if name not in exact and not name.startswith(prefixes)] == []
    hidden = manager["route_config"]["virtual_hosts"][0]["response_headers_to_remove"]
    assert hidden == [name.lower() for name in IDENTITY]
