"""Access tokens of another issuer on proxied routes, its keys on a real socket."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from structlog.testing import capture_logs

from gateway.configuration.issuers import IssuerSettings
from gateway.identity.bearers import Bearers
from gateway.identity.strangers import Strangers
from gateway.tasks import Tasks
from policies.http.credentials import Presented
from policies.identity.principals import Method, Principal, Standing
from storage.ports import Invalidation, Unavailable
from storage.token_ports import StoredIssuer
from tests.gateway.token_world import TokenWorld, token_world
from tests.policies.signing import ISSUER, Signer, signer

CORP = "https://login.corp.example/"
RS, OTHER = signer("RS256"), signer("RS256", 2)
ACME = Principal(method=Method.JWT, standing=Standing.GOOD, tenant_id="ten_acme", tenant_slug="acme")


@pytest.fixture
async def keys() -> AsyncIterator[str]:
    """Where the other issuer's keys are."""

    async def jwks(_: web.Request) -> web.Response:
        return web.json_response({"keys": [RS.jwk]})

    app = web.Application()
    app.router.add_get("/jwks", jwks)
    async with TestServer(app) as server:
        yield str(server.make_url("/jwks"))


def definition(keys: str, **changes: object) -> IssuerSettings:
    return IssuerSettings.model_validate(
        {
            "issuer": CORP,
            "jwks_url": keys,
            "audience": "gateway",
            "types": ("JWT", "at+jwt"),
            "tenant_claim": "org",
            "tenants": ("o1=acme",),
            "scopes": ("asr=transcribe",),
        }
        | changes
    )


@pytest.fixture
async def world(keys: str) -> AsyncIterator[TokenWorld]:
    settings, tasks = definition(keys), Tasks()
    async with token_world() as made:
        made.subjects.known["acme", ""] = ACME
        made.gateway.snapshot._bearers = Bearers(
            made.state, made.subjects, ISSUER, Strangers({"corp": settings}, tasks)
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


# --- those that operators keep in the database ------------------------------------------------------------------------


@dataclass
class MemoryIssuers:
    """Issuers in a list. ``down`` makes them unreachable."""

    found: list[StoredIssuer] = field(default_factory=list)
    down: bool = False

    async def all(self) -> Sequence[StoredIssuer]:
        if self.down:
            raise Unavailable("the database is down")
        return list(self.found)

    def keep(self, *settings: IssuerSettings, enabled: bool = True) -> None:
        """These, and no others; under the names corp, corp1 and so on."""
        now = datetime.now(UTC)
        self.found = [
            StoredIssuer(
                name=f"corp{number or ''}", definition=one.model_dump(mode="json"), enabled=enabled, created_at=now
            )
            for number, one in enumerate(settings)
        ]


@dataclass
class Kept:
    """A gateway, what it takes others' tokens by, and where that is kept."""

    world: TokenWorld
    strangers: Strangers
    issuers: MemoryIssuers

    async def become(self, *settings: IssuerSettings, enabled: bool = True) -> None:
        """As after a change that the bus has told of."""
        self.issuers.keep(*settings, enabled=enabled)
        await self.strangers.refresh()


@pytest.fixture
async def kept() -> AsyncIterator[Kept]:
    async with kept_with(MemoryIssuers()) as made:
        yield made


@asynccontextmanager
async def kept_with(
    issuers: MemoryIssuers, *, fixed: Mapping[str, IssuerSettings] | None = None, allow_private: bool = True
) -> AsyncIterator[Kept]:
    tasks = Tasks()
    async with token_world() as world:
        strangers = Strangers(fixed or {}, tasks, issuers, allow_private=allow_private)
        strangers.listeners.append(lambda: world.gateway.snapshot.forget_tokens(""))
        world.subjects.known["acme", ""] = ACME
        world.gateway.snapshot._bearers = Bearers(world.state, world.subjects, ISSUER, strangers)
        yield Kept(world, strangers, issuers)
        await tasks.close()


async def test_one_counts_from_its_creation_to_its_end(kept: Kept, keys: str) -> None:
    """X-05: also for a token that was let in a moment ago."""
    mine = token()
    assert await kept.world.status(mine) == 401
    for settings, enabled, expected in (
        ((definition(keys),), True, 200),
        ((definition(keys),), False, 401),
        ((definition(keys),), True, 200),
        ((definition(keys, audience="another"),), True, 401),
        ((definition(keys),), True, 200),
        ((), True, 401),
    ):
        await kept.become(*settings, enabled=enabled)
        assert await kept.world.status(mine) == expected


async def test_its_open_streams_are_judged_anew(kept: Kept, keys: str) -> None:
    """By what the token means now, though it was believed when it opened the stream."""
    await kept.become(definition(keys))
    snapshot, presented = kept.world.gateway.snapshot, Presented(token().encode())
    presented.token = (await snapshot.identify(presented)).token
    await kept.become(definition(keys, scopes=()))
    changed = (await snapshot.identify(presented)).principal
    assert changed is not None
    assert changed.scopes == frozenset()
    await kept.become()
    assert (await snapshot.identify(presented)).principal is None


async def test_before_they_were_read_nobody_knows(keys: str) -> None:
    """F-02: 503 and never 401; what was read once holds while the database is away."""
    issuers = MemoryIssuers(down=True)
    issuers.keep(definition(keys))
    async with kept_with(issuers) as kept:
        assert (await kept.world.gateway.ask(key=token())).code == "registry_unavailable"
        issuers.down = False
        assert await kept.world.status(token()) == 200
        issuers.down = True
        with pytest.raises(Unavailable):
            await kept.strangers.refresh()
        assert await kept.world.status(token(jti="k")) == 200


async def test_what_is_not_changed_keeps_its_keys(kept: Kept, keys: str) -> None:
    await kept.become(definition(keys))
    before = await kept.strangers.find(CORP)
    await kept.become(definition(keys), definition(keys, issuer="https://more.example"))
    assert await kept.strangers.find(CORP) is before


async def test_the_gateways_own_issuer_and_those_of_the_settings_come_first(keys: str) -> None:
    """J-14: a row that says otherwise, whoever wrote it, is left out, and the log says so."""
    fixed = {"corp": definition(keys)}
    async with kept_with(MemoryIssuers(), fixed=fixed) as kept:
        with capture_logs() as log:
            await kept.become(definition(keys, audience="other"), definition(keys, issuer=ISSUER))
        assert "the issuer corp is left out: the settings name it, too" in log[0]["event"]
        assert await kept.world.status(token()) == 200
        assert await kept.world.status(token(iss=ISSUER)) == 401
        assert await kept.world.status(kept.world.token()) == 200


async def test_keys_at_a_private_address_are_not_asked_for(keys: str) -> None:
    """U-02: whatever was checked when the issuer was made, the address is judged where it is used."""
    issuers = MemoryIssuers()
    async with kept_with(issuers, allow_private=False) as kept:
        for url in (keys, keys.replace("127.0.0.1", "localhost")):
            await kept.become(definition(url))
            with capture_logs() as log:
                assert (await kept.world.gateway.ask(key=token())).status == 503
            assert "not on the public internet" in log[0]["reason"]
