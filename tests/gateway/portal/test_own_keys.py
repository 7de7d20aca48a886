"""A person's own API tokens: shown once, never more than the person, nobody else's to end."""

import re
from collections.abc import Awaitable, Callable
from datetime import date

import pytest

from gateway.portal.own import keys as own_keys
from gateway.portal.web.dates import written
from policies.identity.tenants import Role
from storage.ports import Invalidation
from storage.postgres.keys.registry import PostgresKeyRegistry
from tests.gateway.portal.conftest import PAGE, Client, Town, actions, fill, log_in

NEW, REVOKE = "/account/tokens/new", "/account/tokens/revoke"


async def made(portal: Client, **fields: str) -> tuple[int, str]:
    """Make one; the status and the page."""
    answer = await fill(portal, NEW, NEW, **({"name": "My laptop", "life": "30", "transcribe": "on"} | fields))
    return answer.status, await answer.text()


async def test_a_token_is_made_shown_once_and_revoked(
    portal: Client, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its page alone has it, the trail names who made it, and workers are told of its end."""
    await log_in(portal)
    status, page = await made(portal)
    assert status == 200
    (secret,) = set(re.findall(r"thk_live_\w+", page))
    (key,) = await PostgresKeyRegistry(town.parts.pool, town.parts.trail).keys_page(town.tenant.id, 9)
    assert (key.user_id, key.name, key.last4, key.scopes) == (town.user.id, "My laptop", secret[-4:], {"transcribe"})
    assert key.expires_at is not None
    listed = await (await portal.get("/account/tokens", headers=PAGE)).text()
    assert "My laptop" in listed
    assert secret not in listed
    told: list[Invalidation] = []
    monkeypatch.setattr(town.parts.bus, "publish", _noting(told))
    assert (await fill(portal, "/account/tokens", REVOKE)).headers["Location"] == "/account/tokens?done=revoked"
    assert told == [Invalidation(tenant_id=town.tenant.id, key_id=key.id)]
    assert REVOKE not in await (await portal.get("/account/tokens", headers=PAGE)).text()
    assert {"key.created", "key.revoked"} <= set(await actions(town.parts))


def _noting(told: list[Invalidation]) -> Callable[[Invalidation], Awaitable[None]]:
    """In the place of the bus: what would go to the workers."""

    async def publish(change: Invalidation) -> None:
        told.append(change)

    return publish


async def test_nobody_gives_a_token_more_than_they_hold(portal: Client, town: Town) -> None:
    """A-08, T-05: a member sees and gets a member's permissions, whatever the form says; and at least one."""
    await town.add("grace@example.com", Role.MEMBER)
    await log_in(portal, "grace@example.com")
    page = await (await portal.get(NEW, headers=PAGE)).text()
    assert 'name="transcribe"' in page
    assert 'name="keys:write"' not in page
    for more in ({"keys:write": "on"}, {"platform:write": "on"}, {"transcribe": ""}, {"life": "9999"}, {"name": " "}):
        assert (await made(portal, **more))[0] == 422, more
    assert (await made(portal, transcribe="", **{"usage:read": "on"}))[0] == 200


async def test_a_token_of_somebody_else_is_not_there(portal: Client, town: Town) -> None:
    """Not even for an owner on this page: administration has its own."""
    await town.add("grace@example.com")
    await log_in(portal, "grace@example.com")
    await made(portal)
    (row,) = await town.parts.pool.read("SELECT id, revoked_at FROM platform.api_keys")
    await log_in(portal)
    await made(portal, name="Another")
    for other in (row["id"], "key_none", ""):
        answer = await fill(portal, "/account/tokens", REVOKE, id=other)
        assert answer.status == 404
    assert "My laptop" not in await (await portal.get("/account/tokens", headers=PAGE)).text()
    rows = await town.parts.pool.read("SELECT revoked_at FROM platform.api_keys")
    assert {row["revoked_at"] for row in rows} == {None}


async def test_making_one_asks_for_the_password_of_who_signed_in_a_while_ago(portal: Client, town: Town) -> None:
    """It outlives the session, so a browser that was left open is not enough."""
    await log_in(portal)
    await town.parts.pool.read(
        "UPDATE platform.sessions SET authenticated_at = authenticated_at - interval '6 minutes'"
    )
    answer = await portal.get(NEW, headers=PAGE, allow_redirects=False)
    assert answer.headers["Location"] == "/account/confirm?next=/account/tokens/new"


async def test_times_are_told_by_the_persons_clock(portal: Client, town: Town) -> None:
    """In the time zone of the profile, with UTC beside it."""
    await town.parts.pool.read("UPDATE platform.users SET time_zone = 'Asia/Tokyo'")
    await log_in(portal)
    page = await (await portal.get("/account/sessions", headers=PAGE)).text()
    assert re.search(
        r'<time datetime="[^"]+\+00:00" title="[\d-]+ \d\d:\d\d UTC">\d+ \w+ \d{4}, \d\d:\d\d JST</time>', page
    )
    await town.parts.pool.read("UPDATE platform.users SET language = 'uk'")
    page = await (await portal.get("/account/sessions", headers=PAGE)).text()
    assert re.search(r' UTC" lang="uk">\d+ \w+\.? \d{4} \w\., \d\d:\d\d JST</time>', page)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "9 Mar 2026"),
        ("de", "9. März 2026"),
        ("fr", "9 mars 2026"),
        ("es", "9 mar 2026"),
        ("uk", "9 бер. 2026 р."),  # noqa: RUF001
        ("xx", "9 Mar 2026"),
    ],
)
def test_a_date_is_written_as_in_the_persons_language(language: str, text: str) -> None:
    assert written(date(2026, 3, 9), language) == text
    assert all(written(date(2026, month, 1), language) for month in range(1, 13))


async def test_nobody_fills_the_registry_with_tokens(
    portal: Client, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever makes one after the other waits, longer and longer; wrong forms cost none."""
    monkeypatch.setattr(own_keys, "_FREE_TOKENS", 2)
    await log_in(portal)
    assert [(await made(portal, **more))[0] for more in ({"life": "9999"}, {}, {}, {})] == [422, 200, 200, 429]
    assert len(await PostgresKeyRegistry(town.parts.pool, town.parts.trail).keys_page(town.tenant.id, 9)) == 2
