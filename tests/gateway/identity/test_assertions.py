"""``X-Gateway-Assertion``: signed once for many requests, verified by a service that has nothing but the key set."""

import importlib.util
import ipaddress
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.identity.assertions import Assertions
from gateway.identity.token_state import TokenState
from policies.identity.jws import parse
from policies.identity.tokens import SERVICE_S
from tests.gateway.harness import PRINCIPAL, Options
from tests.gateway.token_world import (
    SEALING_KEY,
    MemoryRevocations,
    MemorySigningKeys,
    TokenWorld,
    another_key,
    token_world,
)
from tests.policies.signing import ISSUER, signer

RECIPE = Path(__file__).parents[3] / "docs" / "examples" / "gateway_assertion.py"


def recipe() -> Any:
    """The documented helper, as a service would have copied it."""
    spec = importlib.util.spec_from_file_location("gateway_assertion", RECIPE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Service:
    """A service behind the gateway that believes assertions alone."""

    url: str
    world: TokenWorld | None = None
    jwks_asked: int = 0
    jwks_down: bool = False


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    """A real aiohttp service, a gateway in front of it, and the gateway's key set on a socket."""
    made = Service("")

    async def jwks(_: web.Request) -> web.Response:
        made.jwks_asked += 1
        assert made.world is not None
        if made.jwks_down:
            raise web.HTTPServiceUnavailable
        return web.json_response(made.world.state.ring.published(), headers={"Cache-Control": "max-age=300"})

    keys = web.Application()
    keys.router.add_get("/jwks", jwks)
    async with TestServer(keys) as key_server:
        copied = recipe()
        assertions = copied.GatewayAssertions(
            issuer=ISSUER, jwks_url=str(key_server.make_url("/jwks")), audience="default"
        )
        app = web.Application(middlewares=[assertions.middleware])

        async def who(request: web.Request) -> web.Response:
            return web.json_response(request[copied.WHO])

        app.router.add_route("*", "/{any:.*}", who)
        async with TestServer(app) as server, token_world(Options(upstream_url=f"http://127.0.0.1:{server.port}")) as w:
            made.url, made.world = str(server.make_url("/v1/models")), w
            yield made


async def direct(service: Service, assertion: str | None) -> int:
    """A request that goes past the gateway."""
    headers = {"X-Tenant-ID": "ten_a"} | ({} if assertion is None else {"X-Gateway-Assertion": assertion})
    async with aiohttp.ClientSession() as session, session.get(service.url, headers=headers) as answer:
        return answer.status


async def test_a_service_knows_who_asks_from_the_assertion_alone(service: Service) -> None:
    assert service.world is not None
    gateway = service.world.gateway
    answer = await gateway.ask()
    assert answer.status == 200
    said = json.loads(answer.body)
    assert {name: said[name] for name in ("iss", "aud", "sub", "tenant", "scope", "roles", "key_id")} == {
        "iss": ISSUER, "aud": "default", "sub": "usr_a", "tenant": "ten_a", "scope": "transcribe",
        "roles": ["member"], "key_id": "key_1",
    }  # fmt: skip
    assert said["exp"] - said["iat"] == SERVICE_S
    assert (await gateway.ask(key=service.world.token())).status == 200
    assert service.jwks_asked == 1


async def test_who_comes_past_the_gateway_is_refused(service: Service) -> None:
    """Also with a client's own assertion, an access token in its place, or another service's assertion."""
    assert service.world is not None
    ring, now = service.world.state.ring, datetime.now(UTC)
    second = int(now.timestamp())
    good = {"iss": ISSUER, "aud": "default", "sub": "x", "iat": second, "exp": second + 60}
    forged = signer("EdDSA", 8).token(good, header={"typ": "gw-assertion+jwt"}).decode()
    for name, assertion in {
        "none": None,
        "empty": "",
        "forged": forged,
        "access token": service.world.token(),
        "another's": ring.sign(good | {"aud": "billing"}, "gw-assertion+jwt", now),
        "list": ring.sign(good | {"aud": ["default"]}, "gw-assertion+jwt", now),
        "old": ring.sign(good | {"exp": second - 31}, "gw-assertion+jwt", now),
        "other issuer": ring.sign(good | {"iss": "https://evil.example"}, "gw-assertion+jwt", now),
        "without an end": ring.sign({k: v for k, v in good.items() if k != "exp"}, "gw-assertion+jwt", now),
    }.items():
        assert await direct(service, assertion) == 401, name
    assert await direct(service, ring.sign(good, "gw-assertion+jwt", now)) == 200


async def test_a_client_cannot_bring_its_own(service: Service) -> None:
    """H-02: removed by its folded name, whatever its spelling."""
    assert service.world is not None
    for name in ("X-Gateway-Assertion", "x_gateway_assertion", "X-GATEWAY.ASSERTION"):
        answer = await service.world.gateway.ask(headers=[(name, "forged")])
        assert answer.status == 200


async def test_a_rotation_is_followed_and_an_outage_survived(service: Service) -> None:
    assert service.world is not None
    world = service.world
    assert (await world.gateway.ask()).status == 200
    service.jwks_down = True
    assert (await world.gateway.ask(key=world.gateway.add_key())).status == 200
    assert service.jwks_asked == 1


class _Time:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def signing() -> tuple[Assertions, TokenState, MemorySigningKeys, _Time]:
    keys = MemorySigningKeys()
    state = TokenState(keys, MemoryRevocations(), SEALING_KEY)
    await state.refresh()
    clock = _Time()
    return Assertions(state, ISSUER, clock), state, keys, clock


Signing = tuple[Assertions, TokenState, MemorySigningKeys, _Time]


async def test_one_signature_serves_until_nine_tenths_of_its_life_are_over(signing: Signing) -> None:
    assertions, _, _, clock = signing
    first = assertions.of(PRINCIPAL, "default")
    clock.now += SERVICE_S * 0.9 - 1
    assert assertions.of(PRINCIPAL, "default") == first
    clock.now += 1
    second = assertions.of(PRINCIPAL, "default")
    assert second != first
    jws = parse(second.encode())
    assert jws is not None
    assert jws.claims["exp"] == int(clock.now) + SERVICE_S


@pytest.mark.parametrize(
    "change",
    [{"tenant_id": "ten_b"}, {"user_id": "usr_b"}, {"key_id": "key_b"}, {"scopes": frozenset()}, {"roles": ("owner",)}],
    ids=str,
)
async def test_nobody_gets_another_ones(signing: Signing, change: dict[str, Any]) -> None:
    """T-16: whatever tells two callers apart tells their assertions apart; so does the upstream."""
    assertions, *_ = signing
    mine = assertions.of(PRINCIPAL, "default")
    assert assertions.of(replace(PRINCIPAL, **change), "default") != mine
    assert assertions.of(PRINCIPAL, "other") != mine
    assert assertions.of(PRINCIPAL, "default") == mine


async def test_a_key_that_is_believed_no_more_signs_no_more(signing: Signing) -> None:
    assertions, state, keys, clock = signing
    state.listeners.append(assertions.forget)
    first = assertions.of(PRINCIPAL, "default")
    await keys.end(keys.found[0].id, datetime.now(UTC), lambda _, __: another_key())
    await state.refresh()
    clock.now = time.time()
    second = assertions.of(PRINCIPAL, "default")
    assert second != first
    jws = parse(second.encode())
    assert jws is not None
    assert jws.key_id == keys.found[1].id


async def test_without_a_key_there_is_no_assertion_and_the_request_goes_on() -> None:
    """An upstream that asks for one refuses; one that does not is served."""
    for sealing_key in (SEALING_KEY, b"another secret, 32 bytes long!!!"):
        keys = MemorySigningKeys()
        if sealing_key != SEALING_KEY:
            keys.found.append(another_key(datetime.now(UTC) - timedelta(minutes=1)))
        state = TokenState(keys, MemoryRevocations(), sealing_key)
        assertions = Assertions(state, ISSUER)
        assert assertions.of(PRINCIPAL, "default") == ""
        await state.refresh()
        assert bool(assertions.of(PRINCIPAL, "default")) is (sealing_key == SEALING_KEY)


async def test_forward_auth_hands_it_on_as_well() -> None:
    async with token_world(Options(trusted=(ipaddress.ip_network("127.0.0.1/32"),))) as world:
        answer = await world.gateway.ask(
            target="/auth/verify", headers=[("X-Original-URI", "/v1/models"), ("X-Original-Method", "GET")]
        )
        assert answer.status == 200
        jws = parse(answer["X-Gateway-Assertion"].encode())
        assert jws is not None
        assert (jws.claims["aud"], jws.type) == ("default", "gw-assertion+jwt")
