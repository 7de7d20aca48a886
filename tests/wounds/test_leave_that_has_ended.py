"""Wound: what was judged once goes on being true for whoever keeps asking on one connection (A-08, J-12, T-08).

A request that comes again byte for byte is not judged from the beginning. Whatever changes, it is answered there and
then as the same bytes on a new connection are, whether the change was told or comes to light when an answer is stale.
"""

import asyncio
import ipaddress
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from policies.identity.principals import Method, Standing
from policies.identity.tokens import ACCESS_S
from policies.limits.allowances import Allowance, What
from policies.limits.rates import Rate
from storage.ports import Invalidation
from tests.gateway.dataplane.test_repeats import Client, ask, request, warm
from tests.gateway.harness import PRINCIPAL, Gateway, Options, running
from tests.gateway.token_world import TokenWorld, token_world

ELSEWHERE = (ipaddress.ip_network("10.0.0.0/8"),)

CHANGES: dict[str, tuple[dict[str, object], int]] = {
    "revoked": ({"standing": Standing.REVOKED}, 401),
    "disabled": ({"standing": Standing.DISABLED}, 401),
    "tenant suspended": ({"standing": Standing.TENANT_SUSPENDED}, 403),
    "user disabled": ({"standing": Standing.USER_DISABLED}, 403),
    "expired": ({"expires_ms": 1}, 401),
    "scope removed": ({"scopes": frozenset({"other"})}, 403),
    "route denied": ({"denied_routes": frozenset({"openai.models"})}, 403),
    "bound to another route": ({"only_routes": frozenset({"openai.model"})}, 403),
    "another plan": ({"plan_routes": frozenset({"openai.model"})}, 403),
    "bound to another network": ({"networks": ELSEWHERE}, 403),
    "a lower rate": ({"key_rate": Rate(1, 3_600_000)}, 200),
    "an allowance": ({"allowances": (Allowance.parse(What.CONCURRENCY, "3"),)}, 200),
    "moved": ({"tenant_id": "ten_b", "tenant_slug": "b", "user_id": "usr_b"}, 200),
    "other roles": ({"roles": ("owner",)}, 200),
}
TOLD: dict[str, Callable[[Gateway], object]] = {
    "the key was named": lambda gateway: gateway.snapshot.forget(Invalidation(key_id="key_1")),
    "the user was named": lambda gateway: gateway.snapshot.forget(Invalidation(user_id="usr_a")),
    "the tenant was named": lambda gateway: gateway.snapshot.forget(Invalidation(tenant_id="ten_a")),
    "nobody told": lambda gateway: setattr(gateway.snapshot, "_clock", lambda: time.monotonic() + 1_000),
}


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with running() as made:
        yield made


async def answered_alike(gateway: Gateway, client: Client, data: bytes, status: int) -> None:
    """On the connection that is kept, and on a new one; and the upstream is told the same of who asks.

    Whichever comes first: what one has looked up is there for the other.
    """
    new = await asyncio.open_connection("127.0.0.1", gateway.port)
    before = len(gateway.upstream.seen)
    answers = [await ask(each, data) for each in (client, new, client, client)]
    new[1].close()
    assert [answer.status for answer in answers] == [status] * 4
    assert status < 400 or len({answer.code for answer in answers}) == 1
    heads = [seen.head.replace(seen.all("x-request-id")[0].encode(), b"") for seen in gateway.upstream.seen[before:]]
    assert len(heads) == (4 if status == 200 else 0)
    assert len(set(heads)) <= 1


@pytest.mark.parametrize("told", TOLD)
@pytest.mark.parametrize("name", CHANGES)
async def test_a_changed_key_counts_from_its_next_request_on(gateway: Gateway, name: str, told: str) -> None:
    changes, status = CHANGES[name]
    async with warm(gateway, data := request(gateway)) as (client, errands):
        ((digest, principal),) = gateway.keys.by_digest.items()
        gateway.keys.by_digest[digest] = replace(principal, **changes)  # type: ignore[arg-type]  # as named above
        TOLD[told](gateway)
        if name == "a lower rate":
            assert (await ask(client, data)).status == 200
            status = 429
        await answered_alike(gateway, client, data, status)
        assert status < 400 or not errands.begun


async def test_a_registry_that_is_away_is_believed_no_longer_than_ever(gateway: Gateway) -> None:
    """Its last word holds for a while, and then nobody is let in."""
    async with warm(gateway, data := request(gateway)) as (client, _):
        gateway.keys.down = True
        now = time.monotonic()
        for later, status in ((20.0, 200), (40.0, 200), (70.0, 503)):
            gateway.snapshot._clock = lambda: now + later  # noqa: B023  read within this turn
            await answered_alike(gateway, client, data, status)


@pytest.mark.parametrize(
    "what", ["its id", "its family", "its subject", "all of them", "the subject is gone", "lapsed"]
)
async def test_a_token_that_has_ended_is_refused_at_once(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with token_world() as world:
        data = b"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\n\r\n" % world.token().encode()
        async with warm(world.gateway, data) as (client, errands):
            await end_tokens(world, what, monkeypatch)
            await answered_alike(world.gateway, client, data, 401)
            assert not errands.begun


async def end_tokens(world: TokenWorld, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot, gatekeeper = world.gateway.snapshot, world.gateway.proxy._gatekeeper
    entry = next(iter(snapshot._entries.values()))
    assert entry.token is not None
    if what == "lapsed":
        monkeypatch.setattr(gatekeeper, "_now_ms", lambda: int((time.time() + 2 * ACCESS_S) * 1000))
    elif what == "the subject is gone":
        world.subjects.known.clear()
        snapshot.forget(Invalidation(user_id="usr_a"))
    elif what == "all of them":
        for key in world.keys.found:
            world.keys.found = [replace(key, gone_at=key.active_at, retiring_at=key.active_at)]
        await world.state.refresh()
        snapshot.forget_tokens("")
    else:
        names = sorted(entry.token.names)
        name = {"its id": "tok_", "its family": "fam_", "its subject": "usr_"}[what]
        await world.revocations.revoke(next(one for one in names if name in one))
        await world.state.refresh()


async def test_a_signed_identity_is_renewed_with_what_it_rests_on() -> None:
    """It does not live for ever: the last one is not sent again when the answer about the key is a new one."""
    said = iter(f"assertion-{number}" for number in range(100))
    async with running(Options(assertion=lambda *_: next(said))) as gateway, warm(
        gateway, data := request(gateway)
    ) as (client, _):  # fmt: skip
        before = gateway.upstream.seen[-1].head
        gateway.snapshot._clock = lambda: time.monotonic() + 20
        await answered_alike(gateway, client, data, 200)
        assert b"assertion-0" in before
        assert b"assertion-1" in gateway.upstream.seen[-1].head


async def test_a_session_that_has_ended(gateway: Gateway) -> None:
    secret = b"s" * 43
    gateway.sessions.by_secret[secret] = replace(PRINCIPAL, method=Method.SESSION, key_id="")
    data = b"GET /v1/models HTTP/1.1\r\nHost: a\r\nCookie: tahoe_session=%b\r\n\r\n" % secret
    async with warm(gateway, data) as (client, errands):
        assert "cookie" not in gateway.upstream.seen[-1].names()
        gateway.sessions.by_secret.clear()
        gateway.snapshot.forget(Invalidation(user_id="usr_a"))
        await answered_alike(gateway, client, data, 401)
        assert not errands.begun


async def test_a_trusted_proxys_next_client_is_another_one() -> None:
    """Its connection is everybody's: what was judged of one address is not of the next."""
    trusted = (ipaddress.ip_network("127.0.0.0/8"),)
    async with running(Options(trusted=trusted)) as gateway:
        key = gateway.add_key(networks=ELSEWHERE)
        good, bad = (request(gateway, f"X-Forwarded-For: {ip}", key=key) for ip in ("10.1.1.1", "11.1.1.1"))
        async with warm(gateway, good) as (client, _):
            for _turn in range(3):
                assert (await ask(client, bad)).code == "address_not_allowed"
                assert (await ask(client, good)).status == 200
        addresses = {(line["remote_ip"], line["status"]) for line in gateway.lines}
        assert addresses == {("10.1.1.1", 200), ("11.1.1.1", 403)}
