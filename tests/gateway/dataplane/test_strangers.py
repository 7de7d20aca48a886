"""Access tokens of another issuer on proxied routes, its keys on a real socket."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.configuration.issuers import IssuerSettings
from gateway.identity.bearers import Bearers, Stranger
from gateway.tasks import Tasks
from policies.principals import Method, Principal, Standing
from storage.ports import Invalidation
from tests.gateway.token_world import TokenWorld, token_world
from tests.policies.signing import ISSUER, Signer, signer

CORP = "https://login.corp.example/"
RS, OTHER = signer("RS256"), signer("RS256", 2)
ACME = Principal(method=Method.JWT, standing=Standing.GOOD, tenant_id="ten_acme", tenant_slug="acme")


@pytest.fixture
async def world() -> AsyncIterator[TokenWorld]:
    signers: list[Signer] = [RS]

    async def jwks(_: web.Request) -> web.Response:
        return web.json_response({"keys": [each.jwk for each in signers]})

    app, tasks = web.Application(), Tasks()
    app.router.add_get("/jwks", jwks)
    async with TestServer(app) as server, token_world() as made:
        settings = IssuerSettings(
            issuer=CORP,
            jwks_url=str(server.make_url("/jwks")),
            audience="gateway",
            types=("JWT", "at+jwt"),
            tenant_claim="org",
            tenants=("o1=acme",),
            scopes=("asr=transcribe",),
        )
        made.subjects.known["acme", ""] = ACME
        made.gateway.snapshot._bearers = Bearers(
            made.state, made.subjects, ISSUER, Stranger.each({"corp": settings}, tasks)
        )
        yield made
        await tasks.close()


def token(key: Signer = RS, **changes: object) -> str:
    now = int(time.time())
    claims = {"iss": CORP, "aud": ["gateway", "other"], "sub": "17", "org": "o1", "scope": "asr", "iat": now,
              "exp": now + 3_600, "jti": "j"} | changes  # fmt: skip
    return key.token(claims, header={"typ": "JWT"}).decode()


async def test_a_strangers_token_opens_what_its_claims_mean_here(world: TokenWorld) -> None:
    assert await world.status(token()) == 200
    (seen,) = world.gateway.upstream.seen
    assert seen.all("X-Tenant-ID") == ["ten_acme"]
    assert seen.all("X-User-ID") == ["corp:17"]
    assert seen.all("X-Auth-Scopes") == ["transcribe"]


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "other"},
        {"aud": ["other"]},
        {"org": "o2"},
        {"sub": None},
        {"exp": 1},
        {"iss": CORP[:-1]},
        {"iss": ISSUER},
    ],
    ids=str,
)
async def test_what_is_not_plainly_for_us_is_refused(world: TokenWorld, changes: dict[str, object]) -> None:
    assert await world.status(token(**changes)) == 401


async def test_neither_issuer_can_speak_for_the_other(world: TokenWorld) -> None:
    """J-14: each key counts for its own issuer alone."""
    assert await world.status(token(OTHER)) == 401
    assert await world.status(world.token(iss=CORP, aud="gateway", org="o1")) == 401
    forged = signer("EdDSA", 9).token({"iss": ISSUER, "aud": ISSUER}, header={"kid": RS.kid}).decode()
    assert await world.status(forged) == 401


async def test_the_tenants_state_counts_for_its_guests(world: TokenWorld) -> None:
    mine = token()
    assert await world.status(mine) == 200
    world.subjects.known["acme", ""] = replace(ACME, standing=Standing.TENANT_SUSPENDED)
    world.gateway.snapshot.forget(Invalidation(tenant_id="ten_acme"))
    assert await world.status(mine) == 403
    del world.subjects.known["acme", ""]
    world.gateway.snapshot.forget(Invalidation(tenant_id="ten_acme"))
    assert await world.status(mine) == 401


async def test_a_guest_without_a_scope_gets_no_further(world: TokenWorld) -> None:
    assert (await world.gateway.ask(key=token(scope="openid"))).code == "insufficient_scope"


async def test_a_guest_can_be_shut_out(world: TokenWorld) -> None:
    mine = token(iat=int(time.time()) - 5)
    assert await world.status(mine) == 200
    world.state.hear(Invalidation(revoked="subject:corp:17"))
    assert await world.status(mine) == 401


async def test_whose_tenant_cannot_be_looked_up_is_unknown(world: TokenWorld) -> None:
    """503: by its own word a guest has a slug, and no tenant."""
    world.subjects.down = True
    assert (await world.gateway.ask(key=token())).code == "registry_unavailable"
