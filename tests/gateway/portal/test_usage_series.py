"""Usage as a series: every bucket and label adds up to the total, whichever book it is read from."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.portal.api.usage import EventShown
from gateway.portal.parts import Parts
from gateway.usage.export import COLUMNS
from storage.postgres.usage.ledger import PostgresLedger
from storage.usage_rows import encode
from tests.gateway.portal.api import Caller, Houses
from tests.storage.usage_samples import record

SINCE = datetime(2026, 6, 10, 9, 30, tzinfo=UTC)
UNTIL = SINCE + timedelta(hours=23)
EVERY = [
    (at, key, status)
    for at in (SINCE, SINCE + timedelta(seconds=59), SINCE + timedelta(minutes=90), UNTIL - timedelta(milliseconds=1))
    for key, status in (("key_a", 200), ("key_b", 200), ("key_b", 429))
]


@pytest.fixture
async def owner(houses: Houses, parts: Parts) -> Caller:
    """Of a tenant with records, one of which is outside of what is asked for."""
    made = await houses.person()
    rows = [
        encode(record(tenant_id=made.tenant.id, key_id=key, status=status, ended_ms=int(at.timestamp() * 1000)))
        for at, key, status in [*EVERY, (UNTIL, "key_a", 200)]
    ]
    await PostgresLedger(parts.pool).ship("j", 0, 1, rows)
    return made


async def asked(owner: Caller, **query: str) -> list[dict[str, Any]]:
    words = "&".join(f"{name}={value}" for name, value in query.items())
    path = f"/usage?since={SINCE:%Y-%m-%dT%H:%M:%SZ}&until={UNTIL:%Y-%m-%dT%H:%M:%SZ}&{words}"
    shown = await owner.ask("GET", path)
    for figure in ("requests", "audio_ms", "errors", "bytes_in"):
        assert sum(group[figure] for group in shown["groups"]) == shown["total"][figure], (query, figure)
    return shown["groups"]


@pytest.mark.parametrize(("bucket", "unit"), [("1m", "%H:%M"), ("1h", "%H:00"), ("1d", "00:00")])
@pytest.mark.parametrize("by", ["key", "status"])
async def test_every_bucket_of_every_label(owner: Caller, bucket: str, unit: str, by: str) -> None:
    labels = {"key": 1, "status": 2}
    expected = Counter((f"{at:%d}T{at:{unit}}", str((at, key, status)[labels[by]])) for at, key, status in EVERY)
    found = {
        (group["since"][8:16], group["label"]): group["requests"] for group in await asked(owner, bucket=bucket, by=by)
    }
    assert found == expected


async def test_a_series_or_a_breakdown_alone(owner: Caller) -> None:
    assert [(g["since"][11:16], g["label"], g["requests"]) for g in await asked(owner, bucket="1h")] == [
        ("09:00", "", 6), ("11:00", "", 3), ("08:00", "", 3),
    ]  # fmt: skip
    assert [(g["since"], g["label"], g["requests"]) for g in await asked(owner, by="status")] == [
        (None, "200", 8), (None, "429", 4),
    ]  # fmt: skip


async def test_the_hours_of_a_whole_day_are_hours(owner: Caller) -> None:
    """Sums by day would tell them faster, and all as midnight."""
    shown = await owner.ask("GET", "/usage?since=2026-06-10T00:00:00Z&until=2026-06-11T00:00:00Z&by=hour")
    assert [(group["label"], group["requests"]) for group in shown["groups"]] == [
        ("2026-06-10T09:00Z", 6), ("2026-06-10T11:00Z", 3),
    ]  # fmt: skip


@pytest.mark.parametrize("query", ["bucket=1m", "by=status", "bucket=1h&by=status"])
async def test_what_only_records_tell_is_told_of_a_day_at_the_most(owner: Caller, query: str) -> None:
    path = f"/usage?since=2026-06-01T00:00:00Z&until=2026-06-10T00:00:00Z&{query}"
    problem = await owner.ask("GET", path, status=422)
    assert "a day at the most" in problem["errors"][0]["message"]


async def test_operators_see_every_tenants_sums(owner: Caller, houses: Houses, parts: Parts) -> None:
    """Also of one that was removed; page by page they are the list. Nobody else sees them."""
    operator = await houses.person(operator=True)
    rows = [encode(record(tenant_id=f"ten_gone{n}", ended_ms=int(SINCE.timestamp() * 1000))) for n in range(2)]
    await PostgresLedger(parts.pool).ship("k", 0, 1, rows)
    path = "/usage/tenants?since=2026-06-10T00:00:00Z&until=2026-06-12T00:00:00Z&limit=2"
    first = await operator.ask("GET", path)
    rest = await operator.ask("GET", f"{path}&cursor={first['next_cursor']}")
    assert [(one["tenant"], one["requests"]) for one in first["data"] + rest["data"]] == [
        (owner.tenant.slug, len(EVERY) + 1), ("", 1), ("", 1),
    ]  # fmt: skip
    assert rest["next_cursor"] is None
    await owner.ask("GET", path, status=403)


async def test_more_than_anybody_reads_is_refused(owner: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.portal.api.usage._MOST_GROUPS", 5)
    path = f"/usage?since={SINCE:%Y-%m-%dT%H:%M:%SZ}&until={UNTIL:%Y-%m-%dT%H:%M:%SZ}&bucket=1m&by=key"
    problem = await owner.ask("GET", path, status=422)
    assert problem["errors"][0]["field"] == "bucket"


def test_a_single_record_says_all_that_an_export_does() -> None:
    """Who checks an invoice finds there what it rests on."""
    assert EventShown.model_fields.keys() == set(COLUMNS) - {"tenant"}
