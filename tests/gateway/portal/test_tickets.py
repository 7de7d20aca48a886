"""``/auth/grant``: a ticket for one stream, as whoever asked, and never for more than that one may."""

from typing import Any

from gateway.portal.oauth.parts import OAUTH
from policies.http.tickets import LIFE_S, Ticket
from policies.identity.tokens import ACCESS_S
from storage.ports import NewKey
from storage.postgres.keys.registry import PostgresKeyRegistry
from storage.redis.tickets import PURPOSE, RedisTickets
from tests.gateway.portal.conftest import SAME_ORIGIN, Client, Town, log_in

DIGEST = bytes(range(32))


async def ask(portal: Client, headers: dict[str, str] | None = None, *, status: int = 200, **wish: Any) -> Any:
    """What the endpoint answers; for the realtime route if nothing else is said."""
    body = wish or {"path": "/v1/realtime"}
    async with portal.post("/auth/grant", json=body, headers=headers or {}) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json(content_type=None)


async def key(town: Town, scopes: str = "transcribe") -> dict[str, str]:
    """The gateway's word for an API key."""
    registry = PostgresKeyRegistry(town.parts.pool, town.parts.trail)
    made = await registry.create_key(
        town.tenant.id, NewKey(name="k", digest=DIGEST, last4="WXYZ", scopes=frozenset(scopes.split()))
    )
    return {"X-Tenant-ID": town.tenant.id, "X-API-Key-ID": made.id, "X-Auth-Scopes": scopes}


async def person(portal: Client, town: Town, scopes: str = "transcribe", life_s: int = ACCESS_S) -> dict[str, str]:
    """The gateway's word for an access token, and the token."""
    tokens = portal.app[OAUTH].tokens  # type: ignore[union-attr]
    principal = await tokens.subject(town.tenant.id, town.user.id)
    token = tokens.access(principal, frozenset(scopes.split()), client_id="x", life_s=life_s)
    identity = {"X-Tenant-ID": town.tenant.id, "X-User-ID": town.user.id, "X-Auth-Scopes": scopes}
    return {**identity, "Authorization": f"Bearer {token}"}


async def taken(town: Town, text: str) -> Ticket:
    """What the gateway finds behind a ticket."""
    found = await RedisTickets(town.parts.redis, town.parts.secret_for(PURPOSE)).take(text.encode())
    assert found is not None
    return found


async def test_a_key_gets_a_ticket_that_stands_for_it(portal: Client, town: Town) -> None:
    answer = await ask(portal, await key(town))
    assert (answer["expires_in"], answer["route"]) == (LIFE_S, "openai.realtime")
    ticket = await taken(town, answer["ticket"])
    assert (ticket.tenant_id, ticket.key, ticket.routes) == (town.tenant.id, DIGEST, ("openai.realtime",))
    assert ticket.longest_s == answer["max_session_seconds"]


async def test_a_persons_stands_for_the_token_that_asked(portal: Client, town: Town) -> None:
    """For this one scope, for a minute, and until that very token is revoked."""
    tokens, headers = portal.app[OAUTH].tokens, await person(portal, town, "transcribe usage:read")  # type: ignore[union-attr]
    ticket = await taken(town, (await ask(portal, headers, route="openai.realtime", max_session_seconds=90))["ticket"])
    found = ticket.token
    assert found is not None
    assert (ticket.longest_s, found.subject, found.scopes) == (90, town.user.id, {"transcribe"})
    assert found.expires_s - int(town.parts.now().timestamp()) <= LIFE_S
    await tokens.revoke((await person(portal, town))["Authorization"].removeprefix("Bearer "))
    assert (await tokens.bearers.believes(found), tokens.bearers.is_revoked(found)) == (True, False)
    await tokens.revoke(headers["Authorization"].removeprefix("Bearer "))
    assert tokens.bearers.is_revoked(found)


async def test_a_session_gets_one_from_our_own_pages_alone(portal: Client, town: Town) -> None:
    """C-01: another site's page can make the browser ask, and gets nothing."""
    await log_in(portal)
    answer = await ask(portal, SAME_ORIGIN)
    assert (await taken(town, answer["ticket"])).tenant_id == town.tenant.id
    await ask(portal, {"Sec-Fetch-Site": "cross-site"}, status=403)
    await ask(portal, {"Origin": "https://evil.example"}, status=403)


async def test_nobody_gets_none(portal: Client, town: Town) -> None:
    """Nor learns what else is wrong with the question."""
    assert (await ask(portal, status=401))["code"] == "missing_credential"
    assert (await ask(portal, status=401, path="/nope"))["code"] == "missing_credential"
    async with portal.post("/auth/grant") as answer:
        assert answer.status == 401


async def test_a_ticket_is_no_more_than_its_holder(portal: Client, town: Town) -> None:
    """A-08: without the scope, without the membership, with a key that has ended."""
    await ask(portal, await key(town, "usage:read"), status=403)
    await ask(portal, await person(portal, town, "usage:read"), status=403)
    await ask(portal, {**(await person(portal, town)), "X-User-ID": "usr_" + "0" * 20}, status=403)
    await ask(portal, {**(await person(portal, town)), "X-User-ID": "corp:17"}, status=403)
    gone = {"X-Tenant-ID": town.tenant.id, "X-API-Key-ID": "key_x", "X-Auth-Scopes": "transcribe"}
    assert (await ask(portal, gone, status=401))["code"] == "invalid_api_key"


async def test_only_a_stream_can_be_asked_for(portal: Client, town: Town) -> None:
    wishes: list[dict[str, Any]] = [
        {"path": "/v1/models"},
        {"path": "/nowhere"},
        {"path": "/auth/grant"},
        {"route": "openai.models"},
        {"route": "x"},
        {"path": "/v1/realtime", "route": "openai.realtime"},
        {"max_session_seconds": 60},
        {"path": "/v1/realtime", "max_session_seconds": 0},
        {"path": "/v1/realtime", "max_session_seconds": 1e9},
        {"path": "/v1/realtime", "colour": "blue"},
    ]
    for wish in wishes:
        await ask(portal, await person(portal, town), status=422, **wish)


async def test_the_routes_own_bound_is_the_longest(portal: Client, town: Town) -> None:
    usual = (await ask(portal, await person(portal, town)))["max_session_seconds"]
    assert (await ask(portal, await person(portal, town), path="/v1/realtime", max_session_seconds=86_400))[
        "max_session_seconds"
    ] == usual
