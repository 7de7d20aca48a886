"""Signing keys in PostgreSQL: one first key however many make one, and no moment without a key that signs."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from policies.identity.signing_keys import SigningKey, Stage, signer, unsigned_from
from storage.ports import NotFound
from storage.postgres.pool import Pool
from storage.postgres.tokens.signing_keys import PostgresSigningKeys
from tests.storage.world import TRAIL

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
OVERLAP = timedelta(minutes=20)


@pytest.fixture
async def keys(migrated_url: str) -> AsyncIterator[PostgresSigningKeys]:
    pool = Pool(migrated_url)
    yield PostgresSigningKeys(pool, TRAIL)
    await pool.close()


def key(name: str, active_at: datetime = NOW) -> SigningKey:
    return SigningKey(
        id=name, algorithm="EdDSA", public_jwk="{}", sealed=name.encode(), created_at=NOW, active_at=active_at
    )


async def stages(keys: PostgresSigningKeys, now: datetime) -> dict[str, Stage]:
    return {each.id: each.stage(now) for each in await keys.keys()}


async def test_of_many_first_keys_one_is_kept(keys: PostgresSigningKeys) -> None:
    added = await asyncio.gather(*(keys.add_first(key(f"k{number}")) for number in range(10)))
    assert sum(added) == 1
    assert len(await keys.keys()) == 1


async def test_a_key_comes_back_as_it_was_stored(keys: PostgresSigningKeys) -> None:
    await keys.add_first(key("a"))
    assert await keys.keys() == [key("a")]


async def test_a_successor_takes_over_at_its_moment(keys: PostgresSigningKeys) -> None:
    """Pending, active, retiring, gone; and at every instant exactly one key signs."""
    await keys.add_first(key("old"))
    handover = NOW + timedelta(minutes=10)
    await keys.succeed(key("new", handover), OVERLAP)
    second = timedelta(seconds=1)
    for moment, old, new in (
        (NOW, Stage.ACTIVE, Stage.PENDING),
        (handover - second, Stage.ACTIVE, Stage.PENDING),
        (handover, Stage.RETIRING, Stage.ACTIVE),
        (handover + OVERLAP - second, Stage.RETIRING, Stage.ACTIVE),
        (handover + OVERLAP, Stage.GONE, Stage.ACTIVE),
    ):
        assert await stages(keys, moment) == {"old": old, "new": new}
        signing = signer(await keys.keys(), moment)
        assert signing is not None
        assert signing.id == ("old" if moment < handover else "new")


async def test_a_rotation_that_overtakes_another_leaves_one_signer(keys: PostgresSigningKeys) -> None:
    """Rotated at once while a slower rotation was under way: the pending key never signs."""
    await keys.add_first(key("a"))
    await keys.succeed(key("slow", NOW + timedelta(minutes=10)), OVERLAP)
    await keys.succeed(key("fast", NOW + timedelta(minutes=1)), OVERLAP)
    for minutes in (0, 1, 5, 10, 11, 60):
        moment = NOW + timedelta(minutes=minutes)
        signing = signer(await keys.keys(), moment)
        assert signing is not None
        assert signing.id == ("a" if minutes < 1 else "fast")


async def test_the_private_half_of_a_key_that_is_gone_is_forgotten(keys: PostgresSigningKeys) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=2)
    await keys.add_first(key("old", long_ago))
    await keys.succeed(key("new", long_ago + timedelta(days=1)), OVERLAP)
    assert {each.id: each.sealed for each in await keys.keys()} == {"old": None, "new": b"new"}


async def test_a_key_can_be_ended_at_once(keys: PostgresSigningKeys) -> None:
    """X-05: also one that was never used, and again; and whichever it is, there is always one that signs."""
    now = datetime.now(UTC)
    turn = now + timedelta(minutes=10)
    await keys.add_first(key("a", now))
    await keys.succeed(key("b", turn), OVERLAP)
    for name, heir, at in (("b", "c", turn), ("b", None, None), ("a", "d", now), ("c", None, None), ("d", "e", now)):
        made = await keys.end(name, now, lambda _, moment, heir=heir: key(heir, moment))
        assert (made and made.id, made and made.active_at) == (heir, at), name
        found = await keys.keys()
        assert unsigned_from(found, now) is None
        assert [(each.stage(now), each.sealed) for each in found if each.id == name] == [(Stage.GONE, None)]
    with pytest.raises(NotFound, match="no signing key 'x'"):
        await keys.end("x", NOW, lambda _, moment: key("y", moment))
