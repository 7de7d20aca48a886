"""A forgotten password: nothing is told, a link works once and for half an hour, and looking at it costs nothing."""

import asyncio
import email
import email.policy
import re
from pathlib import Path

import pytest

from gateway.portal.parts import Parts
from policies.identity.tenants import UserStatus
from tests.gateway.portal.conftest import EMAIL, PAGE, PASSWORD, Client, Town, actions, fill, log_in
from tests.storage.waiting import until

NEW = "tr0mbone lantern basil 9"


def letters(parts: Parts, to: str = EMAIL) -> list[tuple[str, str]]:
    """Subject and text of what was sent to an address, in order."""
    directory = Path(parts.settings.mail.get_secret_value().removeprefix("file:"))
    found = []
    for path in sorted(directory.glob("*.eml"), key=lambda path: path.stat().st_mtime_ns):
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        if message["To"] == to:
            found.append((str(message["Subject"]), message.get_content()))
    return found


def link_in(text: str, base: str = "http://gw.test") -> str:
    """The path of the link in a letter; its ``base`` is the public address."""
    (link,) = re.findall(rf"^{re.escape(base)}(/auth/\S+)\r?$", text, re.MULTILINE)
    return link


async def asked(portal: Client, town: Town, address: str = EMAIL) -> str:
    """Ask for a link, and take it out of the letter box."""
    before = len(letters(town.parts))
    answer = await fill(portal, "/auth/forgot", email=address)
    assert answer.status == 200
    await until(lambda: len(letters(town.parts)) > before)
    return link_in(letters(town.parts)[-1][1])


async def test_a_new_password_by_a_link(portal: Client, town: Town) -> None:
    """The old one is worth nothing, every browser is out, the owner is told, the trail knows."""
    await log_in(portal)
    link = await asked(portal, town)
    for _ in range(3):  # a scanner of mail follows links
        assert (await portal.get(link, headers=PAGE)).status == 200
    answer = await fill(portal, link, password=NEW, again=NEW)
    assert answer.status == 200
    assert (await portal.get("/account", headers=PAGE, allow_redirects=False)).status == 303
    assert (await log_in(portal)).status == 401
    assert (await log_in(portal, password=NEW)).status == 200
    await until(lambda: "was changed" in letters(town.parts)[-1][0])
    assert {"password.reset_requested", "password.reset", "session.ended"} <= set(await actions(town.parts))


async def test_password_managers_learn_whose_password_it_is(portal: Client, town: Town) -> None:
    """The address stands in every form that takes a password, also where people need not see it (WCAG 2.2, 3.3.8)."""
    link = await asked(portal, town)
    await log_in(portal)
    for path in (link, "/account/confirm", "/account/security"):
        page = await (await portal.get(path, headers=PAGE)).text()
        assert f'value="{EMAIL}" autocomplete="username"' in page


async def test_a_link_works_once(portal: Client, town: Town) -> None:
    """Of many at once one wins; afterwards, and with a link that is older than another one, it is 410."""
    old, link = await asked(portal, town), await asked(portal, town)
    answers = await asyncio.gather(*(fill(portal, link, password=f"{NEW} {n}", again=f"{NEW} {n}") for n in range(4)))
    assert sorted(answer.status for answer in answers) == [200, 410, 410, 410]
    for dead in (link, old, "/auth/reset/nonsense", "/auth/reset/" + "x" * 300):
        answer = await portal.get(dead, headers=PAGE)
        assert answer.status == 410
        assert 'href="/auth/forgot">Ask for a new link' in await answer.text()


async def test_a_link_ends_after_half_an_hour(portal: Client, town: Town) -> None:
    link = await asked(portal, town)
    sql = "UPDATE platform.one_time_links SET expires_at = expires_at - interval '29 minutes 50 seconds'"
    await town.parts.pool.read(sql)
    assert (await portal.get(link, headers=PAGE)).status == 200
    await town.parts.pool.read("UPDATE platform.one_time_links SET expires_at = expires_at - interval '10 seconds'")
    assert (await portal.get(link, headers=PAGE)).status == 410


async def test_nobody_learns_who_has_an_account(portal: Client, town: Town) -> None:
    """The same page for everybody; nothing is sent to whoever is disabled or unknown."""
    pages = set()
    await town.add("off@example.com")
    await town.directory.set_user_status(town.tenant.id, "off@example.com", UserStatus.DISABLED)
    for address in ("off@example.com", "nobody@example.com", "nonsense", EMAIL):
        answer = await fill(portal, "/auth/forgot", email=address)
        pages.add((answer.status, await answer.text()))
    assert len(pages) == 1
    await until(lambda: letters(town.parts))
    assert not letters(town.parts, "off@example.com")


async def test_mails_are_bounded(portal: Client, town: Town) -> None:
    """Q-06: nobody floods another one's letter box."""
    statuses = [(await fill(portal, "/auth/forgot", email=address)).status for address in [EMAIL, EMAIL.upper()] * 3]
    assert statuses == [200] * 3 + [429] * 3


@pytest.mark.parametrize(
    ("password", "again", "says"),
    [
        ("short", "short", "at least 15 characters"),
        ("passwordpassword", "passwordpassword", "tried first"),
        ("ada ada ada example", "ada ada ada example", "too easy"),
        ("x" * 1_025, "x" * 1_025, "at most 1024"),
        (NEW, NEW + "!", "not the same"),
    ],
)
async def test_a_password_that_cannot_be_taken_is_told_why(
    portal: Client, town: Town, password: str, again: str, says: str
) -> None:
    """L-13, L-08; and the link is still good."""
    link = await asked(portal, town)
    answer = await fill(portal, link, password=password, again=again)
    assert answer.status == 422
    assert says in await answer.text()
    assert (await fill(portal, link, password=NEW, again=NEW)).status == 200


async def test_links_come_from_the_configured_address_alone(portal: Client, town: Town) -> None:
    """T-14 (CVE-2025-64101): whatever a request says of its host."""
    evil = {"Host": "evil.test", "X-Forwarded-Host": "evil.test", "X-Forwarded-Proto": "https"}
    token = re.search(r'name="csrf" value="([^"]+)"', await (await portal.get("/auth/forgot", headers=PAGE)).text())[1]
    await portal.post("/auth/forgot", data={"email": EMAIL, "csrf": token}, headers=PAGE | evil)
    await until(lambda: letters(town.parts))
    text = letters(town.parts)[-1][1]
    assert "evil" not in text
    assert link_in(text)


async def test_the_page_of_a_link_tells_nobody_its_address(portal: Client, town: Town) -> None:
    link = await asked(portal, town)
    page = await portal.get(link, headers=PAGE)
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert page.headers["Cache-Control"] == "no-store"


async def test_the_meter_says_what_the_server_would(portal: Client, town: Town) -> None:
    """And is bounded, because each answer costs milliseconds."""
    answer = await portal.post("/auth/strength", json={"password": NEW}, headers=PAGE)
    assert (await answer.json())["ok"] is True
    answer = await portal.post("/auth/strength", json={"password": PASSWORD[:9]}, headers=PAGE)
    assert (await answer.json())["ok"] is False
    statuses = [(await portal.post("/auth/strength", json={"password": "x"}, headers=PAGE)).status for _ in range(250)]
    assert statuses[-1] == 429
