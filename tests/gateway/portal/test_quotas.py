"""Limits that are looked at: what is left and where it is heading; a request that is tried and not made."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from aiohttp.test_utils import TestClient, TestServer

from gateway.portal.application import application
from gateway.portal.parts import Parts
from policies.account.price_book import PriceBook
from policies.account.usage import AudioSource, Measured
from policies.limits.allowances import Allowance, What
from policies.limits.calendars import Calendar
from policies.limits.holding import Demand, Spent
from storage.postgres.usage.ledger import PostgresLedger
from storage.redis.holds import RedisHolds
from storage.usage_rows import encode
from tests.gateway.portal.api import Houses
from tests.gateway.portal.conftest import Client
from tests.storage.usage_samples import record

LISTEN = "deepgram.listen"
CONTRACT = {
    "currency": "EUR", "price_per_minute": Decimal("0.006"), "rounding": "up", "increment_s": 1, "minimum_s": 10,
    "per_channel": True, "models": {"nova-*": Decimal("0.012")},
}  # fmt: skip
BOOK = PriceBook.read({"default": "contract", "plans": {"contract": CONTRACT}})


@pytest.fixture
async def parts(parts: Parts) -> Parts:
    return replace(parts, price_lists=BOOK)


@pytest.fixture
async def portal(parts: Parts) -> AsyncIterator[Client]:
    async with TestClient(TestServer(application(parts))) as client:
        yield client


@pytest.fixture
async def holds(parts: Parts) -> AsyncIterator[RedisHolds]:
    made = RedisHolds(parts.redis_url)
    yield made
    await made.close()


@pytest.mark.usefixtures("one_instant")
async def test_a_request_is_tried_without_taking_anything(houses: Houses, holds: RedisHolds, parts: Parts) -> None:
    """The tenant's, the key's and its holder's; not those of other keys, routes, or of streams."""
    operator = await houses.person(operator=True)
    tenant = operator.tenant.id
    key = await operator.ask(
        "POST", "/keys", {"name": "k", "user_id": operator.user.id, "scopes": ["transcribe"]}, status=201
    )
    other = await operator.ask("POST", "/keys", {"name": "other"}, status=201)
    await operator.ask("PUT", "/limits", {"audio": ["60s/month"], "streams": ["1"]})
    await operator.ask("PUT", "/limits", {"key_id": key["id"], "requests": ["5/h"], "bytes": ["1MB/h"]})
    await operator.ask("PUT", "/limits", {"key_id": other["id"], "requests": ["1/h"]})
    await operator.ask("PUT", "/limits", {"user_id": operator.user.id, "concurrency": ["1"], "route": "openai.models"})
    month = Allowance.parse(What.AUDIO, "60s/month")
    period = Calendar().period("month", int(parts.now().timestamp() * 1000))
    taken = Demand(month, f"limit:{{{tenant}}}::audio::month:{period.label}", 30_000, period.end_ms)
    await holds.tell(taken, 0)
    lease = (await holds.hold((taken,))).lease
    assert lease is not None
    listen = {"route": LISTEN, "key_id": key["id"]}
    before = await _counters(parts)
    for wish, too_much, code, decides in (
        ({"duration_s": 29.5, "bytes": 1_000}, set(), None, "tenant-audio-month"),
        ({"duration_s": 30.5}, {"tenant-audio-month"}, "audio_limit_exceeded", "tenant-audio-month"),  # only held
        ({"bytes": 2_000_000}, {"key-bytes"}, "bytes_limit_exceeded", "key-bytes"),  # a guess refuses nobody
        ({"bytes": 20_000_000}, {"tenant-audio-month", "key-bytes"}, "bytes_limit_exceeded", "key-bytes"),  # for ever
        # Its bytes are known before its audio, so they are refused before that is looked at.
        (
            {"duration_s": 61, "bytes": 2_000_000},
            {"tenant-audio-month", "key-bytes"},
            "bytes_limit_exceeded",
            "key-bytes",
        ),
        ({"duration_s": 61, "bytes": 1_000}, {"tenant-audio-month"}, "quota_exceeded", "tenant-audio-month"),
    ):
        for _ in range(3):
            said = await operator.ask("POST", "/limits/check", listen | wish)
            assert {one["name"] for one in said["limits"]} == {"tenant-audio-month", "key-requests", "key-bytes"}
            assert {one["name"] for one in said["limits"] if not one["fits"]} == too_much
            assert (said["allowed"], said["refusal"], said["decides"]) == (code is None, code, decides)
    assert [one["used"] for one in said["limits"] if one["name"] == "tenant-audio-month"] == [30_000]
    assert await _counters(parts) == before
    settled = asyncio.Event()
    lease.hear = lambda _: settled.set()
    lease.settle(Spent(30_000))
    await settled.wait()
    said = await operator.ask("POST", "/limits/check", listen | {"duration_s": 30.5})
    assert (said["allowed"], said["refusal"]) == (False, "quota_exceeded")
    await operator.ask("POST", "/limits/check", {"route": "nowhere"}, status=422)
    await operator.ask("POST", "/limits/check", {"route": LISTEN, "key_id": "key_x"}, status=422)


async def _counters(parts: Parts) -> dict[bytes, object]:
    """All that Redis holds of limits."""
    names = [*await parts.redis.keys("limit:*"), *await parts.redis.keys("rate:*")]
    return {name: await parts.redis.dump(name) for name in names}


async def test_what_refuses_before_any_limit_is_told_as_well(houses: Houses) -> None:
    """A scope that is missing, a key that was revoked: as the gateway itself would say."""
    owner = await houses.person()
    idle = await owner.ask("POST", "/keys", {"name": "k", "scopes": ["usage:read"]}, status=201)
    said = await owner.ask("POST", "/limits/check", {"route": LISTEN, "key_id": idle["id"]})
    assert (said["allowed"], said["refusal"], said["limits"]) == (False, "insufficient_scope", [])
    key = await owner.ask("POST", "/keys", {"name": "k", "scopes": ["transcribe"]}, status=201)
    assert (await owner.ask("POST", "/limits/check", {"route": LISTEN, "key_id": key["id"]}))["allowed"]
    await owner.ask("DELETE", f"/keys/{key['id']}", status=204)
    said = await owner.ask("POST", "/limits/check", {"route": LISTEN, "key_id": key["id"]})
    assert said["refusal"] == "api_key_revoked"


async def test_what_it_would_cost_follows_the_price_list(houses: Houses, parts: Parts) -> None:
    """Rounding, minimum, channels and model, to four decimals more than a statement has."""
    operator = await houses.person(operator=True)
    await operator.ask("PUT", "/limits", {"audio": ["1h/month"]})
    slug = (await houses.tenant()).slug
    for wish, billable_ms, amount in (
        ({"duration_s": 3}, 10_000, "0.001000"),
        ({"duration_s": 60.4}, 61_000, "0.006100"),
        ({"duration_s": 60.4, "channels": 2}, 121_000, "0.012100"),
        ({"duration_s": 60.4, "model": "nova-3"}, 61_000, "0.012200"),
        ({"duration_s": 0}, 0, "0.000000"),
    ):
        said = await operator.ask("POST", f"/limits/check?tenant={slug}", {"route": LISTEN} | wish)
        assert said["allowed"]
        cost = said["cost"]
        assert (cost["plan"], cost["currency"], cost["billable_ms"], cost["amount"]) == (
            "contract", "EUR", billable_ms, amount,
        )  # fmt: skip
    async with TestClient(TestServer(application(replace(parts, price_lists=None)))) as bare:
        said = await replace(operator, client=bare).ask("POST", f"/limits/check?tenant={slug}", {"route": LISTEN})
        assert said["cost"] is None


async def test_quotas_tell_what_is_left_and_where_it_is_heading(
    houses: Houses, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a day gone and 40 of 60 s used: 80 s by midnight in Tokyo, and nothing left at six in the evening."""
    operator = await houses.person(operator=True)
    noon = datetime(2026, 6, 10, 3, tzinfo=UTC)
    monkeypatch.setattr(Parts, "now", lambda _: noon)
    async with parts.pool.operator() as connection:
        await connection.execute(
            "UPDATE platform.tenants SET time_zone = 'Asia/Tokyo' WHERE id = $1", operator.tenant.id
        )
    key = await operator.ask("POST", "/keys", {"name": "k"}, status=201)
    used = record(
        tenant_id=operator.tenant.id,
        key_id=key["id"],
        ended_ms=int((noon - timedelta(hours=1)).timestamp() * 1000),
        measured=Measured(audio_ms=40_000, source=AudioSource.WALKED, walked_ms=40_000),
    )
    await PostgresLedger(parts.pool).ship("j", 0, 1, [encode(used)])
    await operator.ask("PUT", "/limits", {"audio": ["60s/day", "100h/month", "90s/m"], "requests": ["600/m"]})
    await operator.ask("PUT", "/limits", {"key_id": key["id"], "requests": ["10/day"]})

    day, month = (await operator.ask("GET", "/usage/quotas"))["data"]
    assert (day["name"], day["allowed"], day["used"], day["left"]) == ("tenant-audio-day", 60_000, 40_000, 20_000)
    assert (day["since"], day["resets_at"]) == ("2026-06-09T15:00:00.000Z", "2026-06-10T15:00:00.000Z")
    assert (day["forecast"], day["exhausted_at"]) == (80_000, "2026-06-10T09:00:00.000Z")
    assert (month["name"], month["used"], month["exhausted_at"]) == ("tenant-audio-month", 40_000, None)
    assert month["forecast"] == 40_000 * 30 * 24 // (9 * 24 + 12)
    of_key = (await operator.ask("GET", f"/usage/quotas?key_id={key['id']}"))["data"]
    assert [one["name"] for one in of_key] == ["tenant-audio-day", "tenant-audio-month", "key-requests-day"]
    assert of_key[2]["used"] == 1


@pytest.mark.usefixtures("one_instant")
async def test_more_than_there_was_is_told_as_it_is(houses: Houses, holds: RedisHolds, parts: Parts) -> None:
    """In shadow nobody is refused, and no result of a job is kept back: all of it is shown, as the account has it.

    What takes nothing of it passes all the same.
    """
    operator = await houses.person(operator=True)
    await operator.ask("PUT", "/limits", {"audio": ["60s/month"], "shadow": True})
    period = Calendar().period("month", int(parts.now().timestamp() * 1000))
    month = replace(Allowance.parse(What.AUDIO, "60s/month"), shadow=True)
    key = f"limit:{{{operator.tenant.id}}}::audio::month:{period.label}"
    await holds.tell(Demand(month, key, 0, period.end_ms), 90_000)
    (told,) = (await operator.ask("GET", "/usage/quotas"))["data"]
    assert (told["used"], told["left"]) == (90_000, 0)
    await operator.ask("PUT", "/limits", {"audio": []})
    used = record(
        tenant_id=operator.tenant.id,
        ended_ms=int(parts.now().timestamp() * 1000),
        measured=Measured(audio_ms=95_000, source=AudioSource.WALKED, walked_ms=95_000),
    )
    await PostgresLedger(parts.pool).ship("j", 0, 1, [encode(used)])
    await operator.ask("PUT", "/limits", {"audio": ["60s/month"]})
    (told,) = (await operator.ask("GET", "/usage/quotas"))["data"]
    assert told["used"] == 95_000, "what passed while there was no limit"
    key = await operator.ask("POST", "/keys", {"name": "k", "scopes": ["transcribe"]}, status=201)
    for wish, refusal in (({}, None), ({"bytes": 1_000}, "quota_exceeded")):
        said = await operator.ask("POST", "/limits/check", {"route": LISTEN, "key_id": key["id"]} | wish)
        assert (said["refusal"], [one["fits"] for one in said["limits"]]) == (refusal, [refusal is None])
