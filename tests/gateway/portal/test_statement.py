"""Statements by API and as a page: one month's money, the same everywhere, for whoever may see the usage."""

import csv
import io
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from aiohttp import CookieJar
from aiohttp.test_utils import TestClient, TestServer

from gateway.portal.application import application
from gateway.portal.parts import Parts
from policies.account.price_book import PriceBook
from policies.account.usage import INTERIM, AudioSource, Measured
from policies.identity.tenants import Role
from policies.limits.calendars import Calendar
from storage.ports import NewKey
from storage.postgres.keys.registry import PostgresKeyRegistry
from storage.postgres.limits import PostgresLimitBook
from storage.postgres.usage.ledger import PostgresLedger
from storage.usage_rows import encode
from tests.gateway.portal.api import Houses, make_operator
from tests.gateway.portal.conftest import EMAIL, PAGE, PASSWORD, Client, Town, log_in
from tests.storage.usage_samples import record

BOOK = PriceBook.read(
    {"default": "usual", "plans": {"usual": {"currency": "EUR", "price_per_minute": Decimal("0.006")}}}
)
ZONE = Calendar("Pacific/Auckland", 15)
JUNE = datetime(2026, 6, 14, 12, tzinfo=UTC)
"""When that tenant's June begins."""


@pytest.fixture
async def parts(parts: Parts) -> Parts:
    return replace(parts, price_lists=BOOK)


@pytest.fixture
async def june(parts: Parts, town: Town) -> str:
    """Five minutes on each of three models in the tenant's June, and more in the last instant before it."""
    await PostgresLimitBook(parts.pool, parts.trail).set_calendar(town.tenant.id, ZONE)
    used = [(JUNE + timedelta(hours=n), name) for n, name in enumerate(("a", "b", "=c()"))]
    rows = [
        encode(
            record(
                tenant_id=town.tenant.id,
                key_id="key_x",
                ended_ms=int(at.timestamp() * 1000),
                event_id=f"ev-{model}",
                measured=Measured(audio_ms=65_000, source=AudioSource.WALKED, walked_ms=65_000, model=model),
            )
        )
        for at, model in [*used, (JUNE - timedelta(milliseconds=1), "before")]
    ]
    await PostgresLedger(parts.pool).ship("j", 0, 1, rows)
    return "2026-06"


@pytest.fixture
async def portal(parts: Parts) -> AsyncIterator[Client]:
    async with TestClient(TestServer(application(parts)), cookie_jar=CookieJar(unsafe=True)) as client:
        yield client


async def test_page_json_and_csv_say_the_same_and_add_up_to_the_cent(portal: Client, june: str, town: Town) -> None:
    """Three times 0.0065 is 0.0195, so 0.02, and lines of 0.01, 0.01 and 0.00: not three times 0.01."""
    await log_in(portal)
    path = f"/platform/v1/usage/statement?month={june}"
    made = await (await portal.get(path)).json()
    assert (made["since"], made["until"]) == ("2026-06-14T12:00:00.000Z", "2026-07-14T12:00:00.000Z")
    assert [line["model"] for line in made["lines"]] == ["=c()", "a", "b"]
    assert (made["amount"], made["complete"]) == ("0.02", True)
    assert sum(Decimal(line["amount"]) for line in made["lines"]) == Decimal("0.02")

    answer = await portal.get(f"{path}&format=csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    rows = list(csv.reader(io.StringIO(await answer.text())))
    assert [row[0] for row in rows] == ["model", "'=c()", "a", "b", "total"]
    assert [row[-3] for row in rows[1:]] == [line["amount"] for line in made["lines"]] + ["0.02"]

    page = await (await portal.get(f"/account/statement?month={june}", headers=PAGE)).text()
    figures = re.findall(r'<td class="figure">([0-9.]+)</td>\s*</tr>', page)
    assert figures == [line["amount"] for line in made["lines"]] + ["0.02"]
    assert "2026-06-15 to 2026-07-14, Pacific/Auckland" in page
    assert re.search(r"<dt>Made</dt><dd>[-0-9]{10} [0-9:]{5} NZ[DS]T</dd>", page)
    assert not re.search(r"<style|<script(?! src)|\sstyle=|\son\w+=", page)


async def test_a_month_that_was_stated_stays_and_its_credit_is_in_the_next(
    portal: Client, june: str, town: Town
) -> None:
    """The job of the last day fails in July; the page says what the line below nothing is for."""
    path = f"/platform/v1/usage/statement?month={june}"
    await log_in(portal)
    before = await (await portal.get(path)).json()
    taken = record(
        tenant_id=town.tenant.id, key_id="key_x", ended_ms=int((JUNE + timedelta(days=31)).timestamp() * 1000),
        measured=Measured(audio_ms=-65_000, before_ms=65_000, source=AudioSource.WALKED, model="b"), status=INTERIM,
    )  # fmt: skip
    await PostgresLedger(town.parts.pool).ship("k", 0, 1, [encode(taken)])
    assert await (await portal.get(path)).json() == before
    july = await (await portal.get("/platform/v1/usage/statement?month=2026-07")).json()
    assert [(one["kind"], one["requests"], one["audio_ms"], one["amount"]) for one in july["lines"]] == [
        ("credit", -1, -65_000, "-0.01")
    ]
    assert july["amount"] == "-0.01"
    page = await (await portal.get("/account/statement?month=2026-07", headers=PAGE)).text()
    assert re.findall(r'<td class="figure">(-[0-9:.]+)</td>', page)[1:4] == ["-0:01:05.000", "-0:01:05.000", "-0.01"]
    assert "b: credit" in page
    assert "failed later" in page


async def test_an_empty_month_leads_to_the_one_that_goes_on(portal: Client, town: Town) -> None:
    """Who has just begun sees the last month first, and that there was nothing in it."""
    await log_in(portal)
    empty = await (await portal.get("/account/statement?by=key", headers=PAGE)).text()
    link = re.search(r'href="(/account/statement[?]month=([0-9-]+)&amp;by=key)">\2, which goes on</a>', empty)
    assert link is not None
    going_on = await (await portal.get(link[1].replace("&amp;", "&"), headers=PAGE)).text()
    assert "the month is not over" in going_on
    assert "which goes on" not in going_on


async def test_who_may_not_see_the_usage_sees_no_statement(portal: Client, june: str, town: Town) -> None:
    await town.add("bob@example.com", Role.SERVICE)
    await log_in(portal, "bob@example.com", PASSWORD)
    for path in ("/account/statement", "/platform/v1/usage/statement"):
        assert (await portal.get(path, headers=PAGE)).status == 403


async def test_another_tenants_statement_is_not_there_but_for_operators(portal: Client, june: str, town: Town) -> None:
    other = await town.directory.create_tenant("other", "Other & Sons")
    eve = await town.add("eve@example.com", Role.OWNER, tenant=other.id)
    await log_in(portal, "eve@example.com", PASSWORD)
    for slug in ("acme", "nobody"):
        answer = await portal.get(f"/account/statement?tenant={slug}&month={june}", headers=PAGE)
        assert answer.status == 404
        assert "Acme" not in await answer.text()
    await make_operator(town.parts.pool, eve)
    page = await (await portal.get(f"/account/statement?tenant=acme&month={june}&by=key", headers=PAGE)).text()
    assert "Acme (acme)" in page
    assert "key_x" in page
    assert 'name="tenant" value="acme"' in page


@pytest.mark.parametrize("query", ["month=2098-01", "month=2026-13", "month=x", "by=model", "by=key&by=key&x=1"])
async def test_what_is_asked_wrongly_is_told(portal: Client, town: Town, query: str) -> None:
    await log_in(portal)
    assert (await portal.get(f"/account/statement?{query}", headers=PAGE)).status == 422
    assert (await portal.get(f"/platform/v1/usage/statement?{query}")).status == 422


async def test_lines_are_called_what_people_call_them(portal: Client, june: str, town: Town) -> None:
    """A member by the address; a key that is gone by its id alone. Hostile names stay text."""
    key = await PostgresKeyRegistry(town.parts.pool, town.parts.trail).create_key(
        town.tenant.id, NewKey(name="<b>ci", digest=b"d" * 32, last4="last", scopes=frozenset())
    )
    used = record(tenant_id=town.tenant.id, key_id=key.id, user_id=town.user.id, ended_ms=int(JUNE.timestamp() * 1000))
    await PostgresLedger(town.parts.pool).ship("k", 0, 1, [encode(used)])
    await log_in(portal)
    path = f"/platform/v1/usage/statement?month={june}&by="
    lines = (await (await portal.get(f"{path}key")).json())["lines"]
    assert {(line["label"], line["name"]) for line in lines} == {("key_x", ""), (key.id, "<b>ci")}
    lines = (await (await portal.get(f"{path}user")).json())["lines"]
    assert {(line["label"], line["name"]) for line in lines} == {("", ""), (town.user.id, EMAIL)}
    page = await (await portal.get(f"/account/statement?month={june}&by=key", headers=PAGE)).text()
    assert f'&lt;b&gt;ci <span class="quiet">{key.id}</span>' in page


async def test_a_month_that_takes_too_long_is_told_and_given_up(
    portal: Client, june: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And holds up nobody: the next statement is made."""
    await log_in(portal)
    path = f"/platform/v1/usage/statement?month={june}"
    with monkeypatch.context() as patched:
        patched.setattr("gateway.portal.api.statements._PATIENCE_S", 0.0)
        for _ in range(5):
            problem = await (await portal.get(path)).json(content_type=None)
            assert "gateway usage statement" in problem["errors"][0]["message"]
    assert (await (await portal.get(path)).json())["amount"] == "0.02"


async def test_without_price_lists_there_is_no_statement(houses: Houses, town: Town, portal: Client) -> None:
    """And nobody is told which other lists the operator has."""
    caller = await houses.person()
    async with TestClient(TestServer(application(replace(town.parts, price_lists=None)))) as bare:
        answer = await replace(caller, client=bare).ask("GET", "/usage/statement", status=404)
        assert "plans_file" in answer["detail"]
    book = PriceBook(BOOK.plans, {})
    async with TestClient(TestServer(application(replace(town.parts, price_lists=book)))) as lacking:
        answer = await replace(caller, client=lacking).ask("GET", "/usage/statement", status=404)
        assert "usual" not in answer["detail"]
