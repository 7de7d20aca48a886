"""J-01 to J-15 on the wire: 401 with one constant body, nothing at the upstream, not counted as a success."""

import re
import time

import pytest

from tests.gateway.harness import Answer
from tests.gateway.token_world import TokenWorld, token_world
from tests.policies.signing import b64, claim_set, signer


def forgeries(world: TokenWorld) -> dict[str, str]:
    """One of each class; the table of all is that of the policy's own tests."""
    good = world.token()
    head, body, signature = good.split(".")
    now = int(time.time())
    ours = world.state.ring.keys[0].id
    stranger = signer("EdDSA", 7)
    current = claim_set(iat=now, exp=now + 600, sub="usr_a", tenant="ten_a")
    none = b64(b'{"typ":"at+jwt","alg":"none","kid":"%b"}' % ours.encode()).decode()
    return {
        "none": f"{none}.{body}.",
        "no signature": f"{head}.{body}.",
        "another's key": stranger.token(current).decode(),
        "another's key under our name": stranger.token(current, header={"kid": ours}).decode(),
        "brings its own key": stranger.token(current, header={"jwk": stranger.jwk}).decode(),
        "points at a key": stranger.token(current, header={"jku": "http://127.0.0.1:1/keys"}).decode(),
        "path as kid": stranger.token(current, header={"kid": "../../dev/null"}).decode(),
        "expired": world.token(exp=now - 3_600, iat=now - 4_000),
        "not yet valid": world.token(nbf=now + 3_600),
        "other audience": world.token(aud="https://other.example.com"),
        "audience list": world.token(aud=["https://gateway.example.com", "x"]),
        "other issuer": world.token(iss="https://evil.example.com"),
        "assertion for an upstream": world.token(kind="gw-assertion+jwt"),
        "plain JWT": world.token(kind="JWT"),
        "padded": good + "=",
        "cut": good[:-2],
        "claims exchanged": f"{head}.{b64(b'{}').decode()}.{signature}",
        "nobody": world.token(sub="usr_nobody"),
        "another tenant": world.token(tenant="ten_b"),
        "five parts": good + "..",
    }


def without_id(answer: Answer) -> bytes:
    """The body but for the request's id."""
    return re.sub(rb"request id [^)]+", b"", answer.body)


async def test_no_forgery_gets_through_or_learns_why() -> None:
    async with token_world() as world:
        answers = {name: await world.gateway.ask(key=token) for name, token in forgeries(world).items()}
        assert {name: answer.status for name, answer in answers.items()} == dict.fromkeys(answers, 401)
        jwt_bodies = {without_id(answer) for name, answer in answers.items() if name != "five parts"}
        assert len(jwt_bodies) == 1
        assert all('error="invalid_token"' in answer["WWW-Authenticate"] for answer in answers.values())
        assert world.gateway.upstream.seen == []
        assert world.gateway.metrics.auth[("jwt", "ok")] == 0
        assert not world.gateway.journal.rows


async def test_a_refused_token_is_not_remembered() -> None:
    """J-14: a flood of made-up tokens fills no memory, and a refusal is never somebody else's."""
    async with token_world() as world:
        for token in forgeries(world).values():
            await world.gateway.ask(key=token)
        assert not world.gateway.snapshot._entries
        assert await world.status(world.token()) == 200


async def test_tokens_that_share_all_but_their_end_are_strangers() -> None:
    """J-14 (CVE-2026-35030): the cache's key is the whole token."""
    async with token_world() as world:
        token = world.token()
        assert await world.status(token) == 200
        for place in range(1, 90, 7):
            other = "A" if token[-place] != "A" else "B"
            assert await world.status(token[: len(token) - place] + other + token[len(token) - place + 1 :]) == 401


@pytest.mark.parametrize("size", [8_000, 60_000])
async def test_a_huge_token_costs_nothing(size: int) -> None:
    """J-10: refused by its size, before anything of it is read."""
    async with token_world() as world:
        head = f"GET /v1/models HTTP/1.1\r\nHost: gw\r\nConnection: close\r\nAuthorization: Bearer ey{'a' * size}.b.c"
        answer = Answer.parse(await world.gateway.raw(head.encode() + b"\r\n\r\n"))
        assert answer.status in (401, 431)
        assert world.gateway.upstream.seen == []


async def test_neither_a_token_nor_a_part_of_it_is_logged() -> None:
    """O-02: also where people paste one into a path or a user agent."""
    async with token_world() as world:
        token = world.token()
        await world.gateway.ask(target=f"/v1/models/{token}", headers=[("User-Agent", f"x {token}")], key=token)
        text = str(world.gateway.lines)
        assert token.split(".")[1] not in text
        assert token.split(".")[2] not in text
