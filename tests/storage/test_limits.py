"""The promises of storage.ports.LimitBook, kept by PostgreSQL."""

import asyncio
import json
from dataclasses import replace

import pytest

from policies.limits.allowances import Allowance, Scope, What
from policies.limits.calendars import Calendar
from policies.limits.rates import Rate
from storage.ports import NotFound
from storage.postgres.events.limit_events import PostgresLimitEvents
from storage.postgres.ids import Kind, new_id
from tests.storage.world import World, a_digest

PER_MINUTE = Rate(600, 60_000)
PER_SECOND = Rate(5, 1_000)


async def test_a_tenant_has_no_limit_until_one_is_set(w: World) -> None:
    assert await w.rates((await w.tenant()).id) == []


async def test_the_tenants_own_rate_comes_first_and_then_its_keys_by_age(w: World) -> None:
    acme, other = await w.tenant(), await w.tenant()
    older, newer, foreign = await w.key(acme), await w.key(acme), await w.key(other)
    await w.set_rate(acme.id, key_id=newer.id, requests=PER_SECOND)
    await w.set_rate(acme.id, key_id=older.id, requests=PER_MINUTE)
    await w.set_rate(acme.id, requests=PER_MINUTE)
    await w.set_rate(other.id, key_id=foreign.id, requests=PER_SECOND)
    assert await w.rates(acme.id) == [
        (None, PER_MINUTE),
        *sorted([(older.id, PER_MINUTE), (newer.id, PER_SECOND)]),
    ]


async def test_a_rate_is_replaced_and_removed_without_touching_the_others(w: World) -> None:
    acme = await w.tenant()
    key = await w.key(acme)
    await w.set_rate(acme.id, requests=PER_MINUTE)
    await w.set_rate(acme.id, requests=PER_SECOND)
    await w.set_rate(acme.id, key_id=key.id, requests=PER_MINUTE)
    assert await w.rates(acme.id) == [(None, PER_SECOND), (key.id, PER_MINUTE)]
    await w.set_rate(acme.id, requests=None)
    await w.set_rate(acme.id, requests=None)
    assert await w.rates(acme.id) == [(key.id, PER_MINUTE)]
    await w.set_rate(acme.id, key_id=key.id, requests=None)
    assert await w.rates(acme.id) == []


@pytest.mark.parametrize("requests", [PER_MINUTE, None])
async def test_nobody_and_nobody_elses_key_has_a_limit(w: World, requests: Rate | None) -> None:
    acme, other = await w.tenant(), await w.tenant()
    foreign = await w.key(other)
    await w.set_rate(other.id, key_id=foreign.id, requests=PER_SECOND)
    with pytest.raises(NotFound, match="tenant"):
        await w.set_rate(new_id(Kind.TENANT), requests=requests)
    for key_id in (foreign.id, new_id(Kind.KEY)):
        with pytest.raises(NotFound, match=key_id):
            await w.set_rate(acme.id, key_id=key_id, requests=requests)
    assert await w.rates(acme.id) == []
    assert await w.rates(other.id) == [(foreign.id, PER_SECOND)]


async def test_the_widest_rate_that_can_be_written_is_kept(w: World) -> None:
    acme = await w.tenant()
    widest = Rate.parse("999999999/d")
    await w.set_rate(acme.id, requests=widest)
    assert await w.rates(acme.id) == [(None, widest)]


@pytest.mark.parametrize("rate", [Rate(0, 1_000), Rate(-1, 1_000), Rate(1, 0)])
async def test_a_rate_that_admits_nothing_is_refused_with_a_sentence(w: World, rate: Rate) -> None:
    acme = await w.tenant()
    with pytest.raises(ValueError, match="admits nothing"):
        await w.set_rate(acme.id, requests=rate)


async def test_of_many_who_set_one_limit_the_last_stays_and_none_fails(w: World) -> None:
    acme = await w.tenant()
    rates = [Rate(count, 1_000) for count in range(1, 9)]
    await asyncio.gather(*(w.set_rate(acme.id, requests=rate) for rate in rates))
    ((holder, rate),) = await w.rates(acme.id)
    assert holder is None
    assert rate in rates


def limit(what: What, text: str, *, shadow: bool = False) -> Allowance:
    return replace(Allowance.parse(what, text), shadow=shadow)


async def test_limits_of_every_kind_reach_the_callers_they_bind(w: World) -> None:
    """In one question: the tenant's, the user's and the key's, of this route and of all, and the tenant's calendar."""
    acme, other = await w.tenant(), await w.tenant()
    user = await w.user(acme)
    digest = a_digest()
    key = await w.key(acme, digest=digest, user=user)
    elsewhere = await w.key(acme)
    audio, places = limit(What.AUDIO, "100h/month"), limit(What.CONCURRENCY, "3", shadow=True)
    await w.set_rate(acme.id, requests=PER_MINUTE)
    await w.limits.set_limits(acme.id, granted=[audio, limit(What.AUDIO, "60s/m")])
    await w.limits.set_limits(acme.id, user_id=user.id, route="listen", granted=[limit(What.STREAMS, "2")])
    await w.limits.set_limits(acme.id, key_id=key.id, granted=[places])
    await w.limits.set_limits(acme.id, key_id=elsewhere.id, granted=[limit(What.BYTES, "1GB/d")])
    await w.limits.set_limits(other.id, granted=[limit(What.STREAMS, "9")])
    await w.limits.set_calendar(acme.id, Calendar("Europe/Berlin", 15))
    principal = await w.registry.identify_key(digest)
    assert principal is not None
    assert (principal.tenant_rate, principal.key_rate) == (PER_MINUTE, None)
    assert principal.calendar == Calendar("Europe/Berlin", 15) == await w.limits.calendar(acme.id)
    assert set(principal.allowances) == {
        audio,
        limit(What.AUDIO, "60s/m"),
        replace(limit(What.STREAMS, "2"), scope=Scope.USER, route="listen"),
        replace(places, scope=Scope.KEY),
    }


async def test_a_plain_rate_in_shadow_is_no_plain_rate(w: World) -> None:
    acme, digest = await w.tenant(), a_digest()
    await w.key(acme, digest=digest)
    await w.limits.set_limits(acme.id, granted=[limit(What.REQUESTS, "5/s", shadow=True)])
    principal = await w.registry.identify_key(digest)
    assert principal is not None
    assert (principal.tenant_rate, principal.allowances) == (None, (limit(What.REQUESTS, "5/s", shadow=True),))


async def test_lifting_is_of_one_kind_one_holder_and_one_route(w: World) -> None:
    acme = await w.tenant()
    user = await w.user(acme)
    both = [limit(What.AUDIO, "100h/month"), limit(What.AUDIO, "60s/m"), limit(What.STREAMS, "2")]
    for holder in ({}, {"user_id": user.id}, {"route": "listen"}):
        await w.limits.set_limits(acme.id, granted=both, **holder)
    await w.limits.set_limits(acme.id, lifted=[What.AUDIO], granted=[limit(What.AUDIO, "1h/d")])
    found = [(g.user_id, g.allowance.route, str(g.allowance)) for g in await w.limits.limits(acme.id)]
    assert found == [
        (None, "", "1h/d"), (None, "", "2"), (None, "listen", "60s/m"), (None, "listen", "100h/month"),
        (None, "listen", "2"), (user.id, "", "60s/m"), (user.id, "", "100h/month"), (user.id, "", "2"),
    ]  # fmt: skip


async def test_whose_it_is_must_be_there(w: World) -> None:
    acme, other = await w.tenant(), await w.tenant()
    stranger = await w.user(other)
    one = [limit(What.STREAMS, "1")]
    with pytest.raises(NotFound, match="no member"):
        await w.limits.set_limits(acme.id, user_id=stranger.id, granted=one)
    with pytest.raises(ValueError, match="not both"):
        await w.limits.set_limits(acme.id, user_id=stranger.id, key_id="key_x", granted=one)
    with pytest.raises(ValueError, match="not a time zone"):
        await w.limits.set_calendar(acme.id, Calendar("Mars/Olympus"))
    with pytest.raises(NotFound):
        await w.limits.set_calendar(new_id(Kind.TENANT), Calendar())
    for wrong in (Allowance(what=What.AUDIO, count=5), Allowance(what=What.STREAMS, count=5, period_ms=1)):
        with pytest.raises(ValueError, match="admits nothing"):
            await w.limits.set_limits(acme.id, granted=[wrong])


async def told(w: World, tenant_id: str) -> list[tuple[str, str, dict[str, object]]]:
    """Events in the outbox, but those of making the tenant."""
    rows = await w.pool.read(
        "SELECT type, subject, data FROM platform.outbox WHERE tenant_id = $1 AND type ~ 'limit|calendar' ORDER BY id",
        tenant_id,
    )
    return [(row["type"], row["subject"], json.loads(row["data"])) for row in rows]


async def test_every_change_of_limits_is_in_the_trail_and_no_change_is_not(w: World) -> None:
    acme = await w.tenant()
    key = await w.key(acme)
    for _ in range(2):
        await w.limits.set_limits(acme.id, key_id=key.id, granted=[limit(What.AUDIO, "100h/month")])
        await w.limits.set_calendar(acme.id, Calendar("Europe/Berlin", 15))
    dark = limit(What.STREAMS, "2", shadow=True)
    await w.limits.set_limits(acme.id, key_id=key.id, lifted=[What.AUDIO], granted=[dark])
    first, calendar, second = await told(w, acme.id)
    assert first[:2] == second[:2] == ("limits.changed", key.id)
    assert calendar[:2] == ("calendar.changed", acme.id)
    assert first[2]["after"] == {"audio-month": "100h/month"}
    assert calendar[2]["before"] == {"anchor_day": 1, "zone": "UTC"}
    assert second[2]["after"] == {"audio-month": None, "streams": "2 (shadow)"}


async def test_the_trail_says_in_words_whose_limits_were_changed(w: World) -> None:
    """A key by its name, a member by its address, a tenant by its slug: ids tell a reader nothing."""
    acme = await w.tenant()
    key, user = await w.key(acme), await w.user(acme)
    streams = [limit(What.STREAMS, "2")]
    await w.limits.set_limits(acme.id, granted=streams)
    await w.limits.set_limits(acme.id, user_id=user.id, granted=streams)
    await w.limits.set_limits(acme.id, key_id=key.id, granted=streams)
    await w.limits.set_calendar(acme.id, Calendar("Europe/Berlin", 15))
    assert [data["name"] for _, _, data in await told(w, acme.id)] == [acme.slug, user.email, key.name, acme.slug]


async def test_that_a_limit_is_reached_is_told_once(w: World) -> None:
    """Every worker notices; the event has one id."""
    acme = await w.tenant()
    events = PostgresLimitEvents(w.pool)
    await asyncio.gather(*(events.tell("evt_one", acme.id, acme.id, {"per_cent": 80}) for _ in range(5)))
    await events.tell("evt_two", acme.id, acme.id, {"per_cent": 100})
    assert await told(w, acme.id) == [
        ("limit.reached", acme.id, {"per_cent": 80}),
        ("limit.reached", acme.id, {"per_cent": 100}),
    ]
