"""Signing in with a provider that is not ours: Django OAuth Toolkit, with its own log-in, consent, PKCE and keys."""

import html
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import CookieJar
from yarl import URL

from tests.gateway.portal.conftest import EMAIL, PAGE, Client, Town, fill, log_in
from tests.gateway.portal.conftest import PASSWORD as OUR_PASSWORD
from tests.gateway.portal.django_provider import CLIENT, PASSWORD, SECRET
from tests.gateway.portal.oidc_world import come_back, portal_with, set_out

NAMES = ("corp", "lab")
PEOPLE = [
    {"name": "grace", "email": "grace@example.com", "verified": True},
    {"name": "ada", "email": EMAIL, "verified": True},
    {"name": "mallory", "email": EMAIL, "verified": False},
]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Where it listens; by each of its names it is an issuer of its own."""
    said = {"callbacks": [f"http://gw.test/auth/oidc/{name}/callback" for name in NAMES], "people": PEOPLE}
    words = ("-W", "ignore", "-m", "tests.gateway.portal.django_provider", json.dumps(said))
    with subprocess.Popen((sys.executable, *words), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the provider did not start; what it said stands above"
        yield int(line)
        process.terminate()


@pytest.fixture
async def there() -> AsyncIterator[aiohttp.ClientSession]:
    """The person's browser at the provider."""
    async with aiohttp.ClientSession(cookie_jar=CookieJar(unsafe=True)) as session:
        yield session


def table(port: int, host: str = "127.0.0.1", **more: Any) -> dict[str, Any]:
    """The provider's settings here."""
    known = {"issuer": f"http://{host}:{port}/o", "client_id": CLIENT, "client_secret": SECRET}
    return known | {"make_people": True, "tenant": "acme"} | more


async def consent(there: aiohttp.ClientSession, location: str, name: str, *, allow: bool = True) -> dict[str, str]:
    """Log in over there, and say yes or no on its page; the query of the way back."""
    page = await there.get(location)
    assert page.url.path == "/login/", await page.text()
    page = await there.post(page.url, data=_form(await page.text()) | {"username": name, "password": PASSWORD})
    assert page.url.path == "/o/authorize/", await page.text()
    said = _form(await page.text()) | ({"allow": "Authorize"} if allow else {})
    back = await there.post(page.url, data=said, allow_redirects=False)
    there.cookie_jar.clear()
    return dict(URL(back.headers["Location"]).query)


def _form(page: str) -> dict[str, str]:
    found = re.findall(r'<input type="hidden" name="(\w+)"(?: value="([^"]*)")?', page)
    return {name: html.unescape(value) for name, value in found}


async def agree(client: Client, back: dict[str, str]) -> None:
    """Come back with the address of an account here; nobody is in before the account's password is given."""
    asked = await come_back(client, back, "corp")
    assert (asked.status, asked.headers["Location"]) == (303, "/auth/connect")
    assert await who(client) == ""
    assert (await fill(client, "/auth/connect", "/auth/connect", password=OUR_PASSWORD)).status == 303


async def who(client: Client) -> str:
    """The address of whoever is signed in here; empty for nobody."""
    page = await client.get("/account", headers=PAGE, allow_redirects=False)
    found = re.search(r'class="who">(\S+)', await page.text())
    return found[1] if found else ""


async def test_there_and_back(port: int, there: aiohttp.ClientSession, town: Town, tmp_path: Path) -> None:
    """Discovery, log-in, consent, code, PKCE, identity token: a new person is a member; who says no is nobody."""
    async with portal_with(town.parts, tmp_path, corp=table(port)) as client:
        refused = await come_back(client, await consent(there, await set_out(client), "grace", allow=False))
        assert (refused.status, await who(client)) == (401, "")
        back = await consent(there, await set_out(client), "grace")
        assert back["iss"] == f"http://127.0.0.1:{port}/o"  # RFC 9207
        answer = await come_back(client, back)
        assert answer.status == 303, await answer.text()
        assert await who(client) == "grace@example.com"
        assert (await come_back(client, back)).status == 401


async def test_it_refuses_a_code_whose_proof_is_not_ours(
    port: int, there: aiohttp.ClientSession, town: Town, tmp_path: Path
) -> None:
    """PKCE: a code that was stolen on its way is of no use in the thief's own log-in, because the provider checks."""
    async with (
        portal_with(town.parts, tmp_path, corp=table(port)) as client,
        portal_with(town.parts, tmp_path, corp=table(port)) as thief,
    ):
        stolen = await consent(there, await set_out(client), "grace")
        own = await consent(there, await set_out(thief), "ada")
        assert (await come_back(thief, own | {"code": stolen["code"]})).status == 401
        assert await who(thief) == ""


async def test_two_providers_at_once_are_never_taken_for_each_other(
    port: int, there: aiohttp.ClientSession, town: Town, tmp_path: Path
) -> None:
    """An answer of one at the other's address is refused, whichever name it gives; a subject is one issuer's alone."""
    both = {"corp": table(port, link_by_email=True), "lab": table(port, "localhost")}
    async with portal_with(town.parts, tmp_path, **both) as client:
        for name, said in (("lab", {}), ("corp", {"iss": f"http://localhost:{port}/o"})):
            back = await consent(there, await set_out(client, "corp"), "ada")
            assert (await come_back(client, back | said, name)).status == 401
            assert await who(client) == ""
        back = await consent(there, await set_out(client, "corp"), "ada")
        await agree(client, back)
        assert await who(client) == EMAIL
        client.session.cookie_jar.clear()
        back = await consent(there, await set_out(client, "lab"), "ada")
        assert (await come_back(client, back, "lab")).status == 403
        assert await who(client) == ""


async def test_an_account_is_connected_by_verified_address_and_consent_or_by_who_is_signed_in(
    port: int, there: aiohttp.ClientSession, town: Town, tmp_path: Path
) -> None:
    """Whose address the provider does not vouch for is nobody here; else it is the person who says so, in both ways."""
    both = {"corp": table(port, link_by_email=True), "lab": table(port, "localhost")}
    async with portal_with(town.parts, tmp_path, **both) as client:
        back = await consent(there, await set_out(client, "corp"), "mallory")
        assert (await come_back(client, back, "corp")).status == 403
        await agree(client, await consent(there, await set_out(client, "corp"), "ada"))
        client.session.cookie_jar.clear()
        back = await consent(there, await set_out(client, "corp"), "ada")
        assert (await come_back(client, back, "corp")).headers["Location"] == "/account"
        assert await who(client) == EMAIL
        client.session.cookie_jar.clear()
        back = await consent(there, await set_out(client, "lab"), "ada")
        assert (await come_back(client, back, "lab")).status == 403
        assert (await log_in(client)).status == 200
        connect = await fill(client, "/account/security", "/account/identities/lab/connect")
        onward = html.unescape(re.search(r'class="button primary wide" href="([^"]+)"', await connect.text())[1])
        back = await consent(there, onward, "ada")
        assert (await come_back(client, back, "lab")).headers["Location"] == "/account/security?done=linked"
        client.session.cookie_jar.clear()
        back = await consent(there, await set_out(client, "lab"), "ada")
        assert (await come_back(client, back, "lab")).status == 303
        assert await who(client) == EMAIL
