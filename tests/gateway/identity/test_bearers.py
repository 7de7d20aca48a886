"""Access tokens on proxied routes: believed like keys, cached like keys, revoked within the second."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from policies.identity.principals import Standing
from policies.limits.rates import Rate
from storage.ports import Invalidation
from tests.gateway.token_world import MEMBER, TokenWorld, another_key, token_world
from tests.policies.signing import b64


async def test_a_token_opens_what_its_holder_may_use() -> None:
    """The upstream is told who it is, and never sees the token."""
    async with token_world() as world:
        token = world.token()
        answer = await world.gateway.ask(key=token)
        assert answer.status == 200
        (seen,) = world.gateway.upstream.seen
        assert seen.all("X-Tenant-ID") == ["ten_a"]
        assert seen.all("X-User-ID") == ["usr_a"]
        assert seen.all("X-Auth-Roles") == ["member"]
        assert seen.all("X-Auth-Scopes") == ["transcribe"]
        assert seen.all("X-API-Key-ID") == []
        assert token.encode() not in seen.head
        (record,) = world.gateway.journal.records
        assert (record.tenant_id, record.user_id, record.key_id) == ("ten_a", "usr_a", "")
        assert world.gateway.lines[0]["auth_method"] == "jwt"
        assert world.gateway.metrics.auth[("jwt", "ok")] == 1


async def test_a_token_that_was_seen_is_not_verified_again() -> None:
    """Nor its subject asked for, while the answer is fresh, not even for another token; another subject is."""
    async with token_world() as world:
        token = world.token()
        for _ in range(3):
            assert await world.status(token) == 200
        assert world.subjects.asked == 1
        assert await world.status(world.token()) == 200
        assert world.subjects.asked == 1
        world.subjects.known["ten_a", "usr_b"] = replace(MEMBER, user_id="usr_b", scopes=frozenset())
        assert await world.status(world.token(sub="usr_b")) == 403
        assert world.subjects.asked == 2
        world.gateway.snapshot.forget(Invalidation(tenant_id="ten_a"))
        assert await world.status(world.token()) == 200
        assert world.subjects.asked == 3


async def test_an_answer_is_no_fresher_for_a_second_token() -> None:
    """A new token of a known subject must not stretch how long an old answer is believed."""
    async with token_world(fresh_s=60.0) as world:
        assert await world.status(world.token()) == 200
        assert await world.status(world.token()) == 200
        assert len({entry.fresh_until for entry in world.gateway.snapshot._entries.values()}) == 1


async def test_a_token_has_the_scopes_that_both_it_and_its_holder_have() -> None:
    """A token for little stays so; a holder who lost the role lost it in every token (J-12, A-08)."""
    async with token_world() as world:
        little = world.token(scope="")
        assert (await world.gateway.ask(key=little)).code == "insufficient_scope"
        token = world.token()
        assert await world.status(token) == 200
        world.subjects.known["ten_a", "usr_a"] = replace(MEMBER, scopes=frozenset(), roles=("viewer",))
        world.gateway.snapshot.forget(Invalidation(tenant_id="ten_a", user_id="usr_a"))
        assert (await world.gateway.ask(key=token)).code == "insufficient_scope"


@pytest.mark.parametrize(
    ("standing", "code"),
    [
        (Standing.USER_DISABLED, "user_disabled"),
        (Standing.TENANT_SUSPENDED, "tenant_suspended"),
        (Standing.REVOKED, "invalid_token"),
    ],
)
async def test_whoever_is_disabled_is_refused_within_the_second(standing: Standing, code: str) -> None:
    """J-12: the bus tells; the next request asks."""
    async with token_world() as world:
        token = world.token()
        assert await world.status(token) == 200
        world.subjects.known["ten_a", "usr_a"] = replace(MEMBER, standing=standing)
        world.gateway.snapshot.forget(Invalidation(user_id="usr_a"))
        assert (await world.gateway.ask(key=token)).code == code


async def test_whoever_is_no_member_any_more_is_refused() -> None:
    async with token_world() as world:
        token = world.token()
        assert await world.status(token) == 200
        del world.subjects.known["ten_a", "usr_a"]
        world.gateway.snapshot.forget(Invalidation(tenant_id="ten_a", user_id="usr_a"))
        assert (await world.gateway.ask(key=token)).code == "invalid_token"


@pytest.mark.parametrize("what", ["token:tok_1", "family:fam_a", "subject:usr_a"])
async def test_a_revocation_counts_at_once_also_while_cached(what: str) -> None:
    """J-11, J-14: told over the bus, whatever the database says later."""
    async with token_world() as world:
        token = world.token()
        assert await world.status(token) == 200
        world.state.hear(Invalidation(revoked=what))
        assert (await world.gateway.ask(key=token)).code == "invalid_token"
        assert world.gateway.metrics.auth[("jwt", "revoked")] == 1


async def test_a_revocation_concerns_nobody_else() -> None:
    async with token_world() as world:
        token = world.token()
        assert await world.status(token) == 200
        for what in ("token:tok_2", "family:fam_b", "subject:usr_b", "family:", "token:"):
            world.state.hear(Invalidation(revoked=what))
        assert await world.status(token) == 200
        assert world.subjects.asked == 1


async def test_a_revocation_that_the_bus_missed_is_read_from_the_database() -> None:
    """Revocations live in PostgreSQL: a restart, or a bus that was down, loses none."""
    async with token_world() as world:
        token = world.token()
        assert await world.status(token) == 200
        await world.revocations.revoke("family:fam_a")
        await world.state.refresh()
        assert (await world.gateway.ask(key=token)).code == "invalid_token"


async def test_a_token_made_after_a_revocation_is_good() -> None:
    """Log out everywhere, log in again in the same second: the new token must be issued later than the revocation."""
    async with token_world() as world:
        world.state.hear(Invalidation(revoked="subject:usr_a"))
        second = world.state.not_before("usr_a")
        assert await world.status(world.token(iat=second)) == 401
        assert await world.status(world.token(iat=second + 1)) == 200


async def test_every_process_draws_the_line_in_the_same_second() -> None:
    """A message that arrives late must not void what was issued after the revocation."""
    async with token_world() as world:
        revoked = int(time.time()) - 3
        world.state.hear(Invalidation(revoked=f"subject:usr_a@{revoked}"))
        assert world.state.not_before("usr_a") == revoked
        assert await world.status(world.token(iat=revoked)) == 401
        assert await world.status(world.token(iat=revoked + 1)) == 200


async def test_tokens_work_while_the_database_is_down() -> None:
    """Design 11: those that are cached, and those that were never seen, by their own word; each is counted."""
    async with token_world(fresh_s=0.0) as world:
        seen = world.token()
        assert await world.status(seen) == 200
        world.subjects.down = world.keys.down = world.revocations.down = True
        assert await world.status(seen) == 200
        assert await world.status(world.token()) == 200
        assert world.gateway.metrics.fail_open[("token_subject",)] >= 2
        assert world.gateway.upstream.seen[-1].all("X-User-ID") == ["usr_a"]
        world.state.hear(Invalidation(revoked="family:fam_a"))
        assert await world.status(seen) == 401


async def test_a_registry_that_is_down_is_not_asked_for_every_token() -> None:
    """One that hangs would cost each of them its time-out."""
    async with token_world() as world:
        world.subjects.down = True
        for _ in range(5):
            assert await world.status(world.token()) == 200
        assert world.subjects.asked == 1


async def test_who_was_known_to_be_disabled_stays_so_while_the_database_is_down() -> None:
    async with token_world(fresh_s=0.0) as world:
        token = world.token()
        world.subjects.known["ten_a", "usr_a"] = replace(MEMBER, standing=Standing.USER_DISABLED)
        assert await world.status(token) == 403
        world.subjects.down = True
        assert await world.status(token) == 403


async def test_before_any_key_was_read_nobody_knows() -> None:
    """503 and never 401: clients throw tokens away on 401."""
    async with token_world() as world:
        token = world.token()
        world.state.ring = type(world.state.ring)()
        world.keys.down = True
        assert (await world.gateway.ask(key=token)).code == "registry_unavailable"
        world.keys.down = False
        assert await world.status(token) == 200


async def test_a_token_of_a_key_made_a_moment_ago_is_never_refused() -> None:
    """X-02: whoever signs first, a worker that has not heard of the key asks before it refuses."""
    async with token_world() as world:
        await world.keys.succeed(another_key(algorithm="ES256"), timedelta(minutes=20))
        early = world.token()
        other = type(world.state)(world.keys, world.revocations, b"sealing key for tests, 32 bytes!")
        await other.refresh()
        world.state._asked_at = -10.0
        token = other.ring.sign({**_claims(world), "jti": "tok_x"}, "at+jwt", datetime.now(UTC))
        assert await world.status(token) == 200
        assert await world.status(early) == 200


def _claims(world: TokenWorld) -> dict[str, object]:
    now = int(time.time())
    return {
        "iss": "https://gateway.example.com", "aud": "https://gateway.example.com", "sub": "usr_a", "tenant": "ten_a",
        "client_id": "c", "scope": "transcribe", "iat": now, "exp": now + 60,
    }  # fmt: skip


async def test_a_flood_of_made_up_key_names_asks_the_database_once_a_second() -> None:
    async with token_world() as world:
        token = world.token()
        rest = token.partition(".")[2]
        asked = world.keys.asked
        world.state._asked_at = -10.0
        for number in range(20):
            head = b64(b'{"typ":"at+jwt","alg":"EdDSA","kid":"k%d"}' % number).decode()
            assert await world.status(f"{head}.{rest}") == 401
        assert world.keys.asked == asked + 1


async def test_a_key_that_is_ended_takes_its_tokens_along() -> None:
    """X-05: the compromised-key drill, while they are cached."""
    async with token_world() as world:
        token = world.token()
        assert await world.status(token) == 200
        await world.keys.end(world.state.ring.keys[0].id, datetime.now(UTC), lambda _, __: another_key())
        await world.state.refresh()
        assert await world.status(token) == 401
        assert await world.status(world.token()) == 200


async def test_limits_hold_for_tokens_as_for_keys() -> None:
    async with token_world() as world:
        world.subjects.known["ten_a", "usr_a"] = replace(MEMBER, tenant_rate=Rate(2, 3_600_000))
        assert [await world.status(world.token()) for _ in range(3)] == [200, 200, 429]


async def test_two_credentials_are_one_too_many() -> None:
    async with token_world() as world:
        answer = await world.gateway.ask(headers=[("X-API-Key", world.gateway.key)], key=world.token())
        assert answer.code == "conflicting_credentials"


async def test_a_token_ends_on_time_also_while_cached() -> None:
    """J-08: the leeway is over when it is over."""
    async with token_world() as world:
        token = world.token()
        assert await world.status(token) == 200
        (entry,) = world.gateway.snapshot._entries.values()
        assert entry.principal is not None
        entry.principal = replace(entry.principal, expires_ms=int(time.time() * 1000))
        assert (await world.gateway.ask(key=token)).code == "invalid_token"


async def test_requests_with_one_new_token_share_one_question() -> None:
    async with token_world() as world:
        token = world.token()
        assert set(await asyncio.gather(*(world.status(token) for _ in range(20)))) == {200}
        assert world.subjects.asked == 1
