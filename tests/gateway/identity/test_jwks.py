"""Another issuer's keys over HTTP: asked rarely, believed while it is away, never fetched from anywhere else."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from gateway.identity.jwks import JwksCache
from gateway.tasks import Tasks
from policies.identity.verification_keys import ALGORITHMS
from storage.ports import Unavailable
from tests.gateway.identity.test_snapshot import Clock
from tests.policies.signing import Signer, signer

ED, RS = signer("EdDSA"), signer("RS256")


@dataclass
class Issuer:
    """An issuer's key set on a real socket."""

    clock: Clock
    signers: list[Signer] = field(default_factory=lambda: [ED])
    answer: web.Response | None = None
    cache_control: str = "max-age=300"
    asked: int = 0
    cache: Any = None

    async def serve(self, _: web.Request) -> web.Response:
        self.asked += 1
        if self.answer is not None:
            headers = {"Location": "/elsewhere", "Cache-Control": ""}
            return web.Response(status=self.answer.status, body=self.answer.body, headers=headers)
        return web.json_response(
            {"keys": [each.jwk for each in self.signers]}, headers={"Cache-Control": self.cache_control}
        )

    async def kids(self) -> set[str]:
        return set((await self.cache.keys()).keys)

    async def settled(self) -> None:
        """Until no question is under way."""
        if self.cache._fetching is not None:
            await self.cache._fetching


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    made, app, tasks = Issuer(Clock()), web.Application(), Tasks()
    app.router.add_get("/jwks", made.serve)
    app.router.add_get("/elsewhere", made.serve)
    async with TestServer(app) as server:
        made.cache = JwksCache(str(server.make_url("/jwks")), ALGORITHMS, tasks, made.clock)
        yield made
        await tasks.close()


async def test_keys_are_fetched_once_and_kept_as_long_as_the_issuer_says(issuer: Issuer) -> None:
    assert await asyncio.gather(*(issuer.kids() for _ in range(10))) == [{ED.kid}] * 10
    assert issuer.asked == 1
    issuer.clock.now += 299
    assert await issuer.kids() == {ED.kid}
    assert issuer.asked == 1


async def test_old_keys_serve_while_new_ones_are_fetched(issuer: Issuer) -> None:
    """No request waits for another company's server but the first."""
    await issuer.kids()
    issuer.clock.now += 301
    issuer.signers = [RS]
    assert await issuer.kids() == {ED.kid}
    await issuer.settled()
    assert await issuer.kids() == {RS.kid}


@pytest.mark.parametrize("seconds", ["0", "5", "999999999"])
async def test_how_long_is_bounded_both_ways(issuer: Issuer, seconds: str) -> None:
    issuer.cache_control = f"public, max-age={seconds}"
    await issuer.kids()
    issuer.clock.now += 59
    await issuer.kids()
    assert issuer.asked == 1
    issuer.clock.now += 86_400
    await issuer.kids()
    await issuer.settled()
    assert issuer.asked == 2


async def test_an_issuer_that_is_away_is_believed_for_a_day(issuer: Issuer) -> None:
    """Stale if error; then nobody knows, which is 503 and never 401."""
    await issuer.kids()
    issuer.answer = web.Response(status=500)
    for _ in range(50):
        issuer.clock.now += 1_000
        assert await issuer.kids() == {ED.kid}
        await issuer.settled()
    issuer.clock.now += 86_400
    with pytest.raises(Unavailable):
        await issuer.kids()
    issuer.answer = None
    issuer.clock.now += 61
    assert await issuer.kids() == {ED.kid}


async def test_an_issuer_that_was_never_there_is_asked_later_and_later(issuer: Issuer) -> None:
    issuer.answer = web.Response(status=404)
    for _ in range(200):
        with pytest.raises(Unavailable):
            await issuer.kids()
        issuer.clock.now += 1
    assert issuer.asked < 10


async def test_an_unknown_key_is_a_reason_to_ask_at_once_but_not_every_time(issuer: Issuer) -> None:
    """Anybody can make up a key's name."""
    await issuer.kids()
    issuer.signers = [RS]
    for found in await asyncio.gather(*(issuer.cache.look_again() for _ in range(20))):
        assert RS.kid in found.keys
    assert issuer.asked == 2
    issuer.signers = [ED]
    for _ in range(20):
        assert ED.kid not in (await issuer.cache.look_again()).keys
    assert issuer.asked == 2
    issuer.clock.now += 30
    assert ED.kid in (await issuer.cache.look_again()).keys
    assert issuer.asked == 3


async def test_a_key_that_cannot_be_asked_for_is_not_one_that_there_is_not(issuer: Issuer) -> None:
    """Its token may be good: 503, and the keys that are known go on."""
    await issuer.kids()
    issuer.answer = web.Response(status=500)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await issuer.cache.look_again()
    assert issuer.asked == 2
    assert await issuer.kids() == {ED.kid}
    issuer.answer, issuer.signers = None, [RS]
    issuer.clock.now += 30
    assert RS.kid in (await issuer.cache.look_again()).keys


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(body=b"not json"),
        web.Response(body=b"[]"),
        web.Response(body=b'{"keys": []}'),
        web.Response(body=b'{"keys": [], "keys": []}'),
        web.Response(body=b'{"keys": [{"kty": "oct", "k": "AAAA", "kid": "x"}]}'),
        web.Response(body=b"\xff\xfe"),
        web.Response(body=b" " * 300_000),
        web.Response(status=302),
        web.Response(status=204),
    ],
    ids=["text", "list", "empty", "double", "symmetric", "bytes", "huge", "redirect", "nothing"],
)
async def test_what_is_no_key_set_changes_nothing(issuer: Issuer, answer: web.Response) -> None:
    """A redirect is not followed: the operator named one address (U-02)."""
    await issuer.kids()
    issuer.answer = answer
    issuer.clock.now += 400
    await issuer.kids()
    await issuer.settled()
    assert await issuer.kids() == {ED.kid}
    assert issuer.asked == 2


@pytest.mark.parametrize(
    "host", ["2130706433", "127.1", "0177.0.0.1", "127.0.0.1.", "0", "[::ffff:127.0.0.1]", "localhost"]
)
async def test_keys_that_an_operator_names_are_not_fetched_from_our_own_network(issuer: Issuer, host: str) -> None:
    """U-02: however the address is written; aiohttp asks no resolver for what looks like a number."""
    port = URL(issuer.cache._url).port
    tasks = Tasks()
    silent = JwksCache(f"http://{host}:{port}/jwks", ALGORITHMS, tasks, public_only=True)
    with pytest.raises(Unavailable):
        await silent.keys()
    assert issuer.asked == 0
    await tasks.close()
