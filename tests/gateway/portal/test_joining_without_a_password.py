"""Who is invited joins with a passkey, or as who a provider says it is: the very address, once, in its own browser."""

import re
from pathlib import Path
from typing import Any

import pytest

from policies.identity.tenants import Role
from storage.postgres.people.accounts import PostgresPeople
from tests.gateway.portal.conftest import PAGE, Client, Town, actions
from tests.gateway.portal.oidc_world import come_back, portal_with, provider, table
from tests.gateway.portal.test_joining import invited, roles
from tests.gateway.portal.test_passkeys import Authenticator, ask, client, options  # noqa: F401  a fixture

NEW = "new@example.com"


async def set_out(portal: Client, link: str) -> str:
    """Press the provider's button; where the page leads that goes on by itself."""
    page = await (await portal.get(link, headers=PAGE)).text()
    token = re.search(r'name="csrf" value="([^"]+)"', page)[1]
    assert f'action="{link}/provider/corp"' in page
    answer = await portal.post(f"{link}/provider/corp", data={"csrf": token}, headers=PAGE)
    return answer.headers["Refresh"].removeprefix("0; url=")


async def is_signed_in(portal: Client) -> bool:
    return (await portal.get("/account", headers=PAGE, allow_redirects=False)).status == 200


@pytest.mark.parametrize("domains", [[], ["example.com"]])
async def test_as_who_a_provider_says_it_is(town: Town, tmp_path: Path, domains: list[str]) -> None:
    """Though the provider's people are not let in unasked; and signs in with that account from now on."""
    async with provider() as idp, portal_with(town.parts, tmp_path, corp=table(idp, allowed_domains=domains)) as portal:
        link = await invited(portal, town, NEW, Role.ADMIN)
        answer = await come_back(portal, idp.authorize(await set_out(portal, link)))
        assert (answer.status, answer.headers["Location"]) == (303, "/account")
        assert await is_signed_in(portal)
        assert (await roles(town))[NEW] == "admin"
        account = await PostgresPeople(town.parts.pool, town.parts.trail).account(NEW)
        assert account is not None
        assert (account.person.name, account.person.has_password) == ("New Person", False)
        assert {"invitation.accepted", "user.created", "identity.linked"} <= set(await actions(town.parts))
        portal.session.cookie_jar.clear()
        location = (await portal.get("/auth/oidc/corp", headers=PAGE, allow_redirects=False)).headers["Location"]
        assert (await come_back(portal, idp.authorize(location))).status == 303
        assert (await portal.get(link, headers=PAGE)).status == 410


@pytest.mark.parametrize(
    ("said", "domains", "words"),
    [
        ({"email": "other@example.com"}, [], "by another address than the one that is invited"),
        ({"email_verified": False}, [], "does not vouch for your e-mail address"),
        ({}, ["corp.example"], "Nobody has given you access here"),
    ],
)
async def test_nobody_else_joins_by_a_provider(
    town: Town, tmp_path: Path, said: dict[str, Any], domains: list[str], words: str
) -> None:
    """Told on the invitation's page, which goes on to work in another way."""
    async with provider() as idp, portal_with(town.parts, tmp_path, corp=table(idp, allowed_domains=domains)) as portal:
        idp.said = said
        link = await invited(portal, town, NEW)
        answer = await come_back(portal, idp.authorize(await set_out(portal, link)))
        page = await answer.text()
        assert (answer.status, words in page, f'action="{link}"' in page) == (403, True, True)
        assert not await is_signed_in(portal)
        assert NEW not in await roles(town)


async def test_a_providers_account_of_somebody_else_joins_as_nobody(town: Town, tmp_path: Path) -> None:
    """One that is connected here already; and the invitation is not used up, nor half a person made."""
    async with provider() as idp, portal_with(
        town.parts, tmp_path, corp=table(idp, make_people=True, tenant="acme")
    ) as portal:  # fmt: skip
        location = (await portal.get("/auth/oidc/corp", headers=PAGE, allow_redirects=False)).headers["Location"]
        await come_back(portal, idp.authorize(location))
        portal.session.cookie_jar.clear()
        idp.said = {"email": "again@example.com"}
        link = await invited(portal, town, "again@example.com")
        answer = await come_back(portal, idp.authorize(await set_out(portal, link)))
        assert (answer.status, "connected to another account here" in await answer.text()) == (409, True)
        assert "again@example.com" not in await roles(town)
        assert (await portal.get(link, headers=PAGE)).status == 200


async def test_who_has_an_account_signs_in_and_is_told_so(town: Town, tmp_path: Path) -> None:
    """Before the way to the provider, and behind it where the account was made meanwhile; the link goes on to work."""
    async with provider() as idp, portal_with(town.parts, tmp_path, corp=table(idp)) as portal:
        link = await invited(portal, town, NEW)
        location = await set_out(portal, link)
        other = await town.directory.create_tenant("other", "Other")
        await town.add(NEW, tenant=other.id)
        behind = await come_back(portal, idp.authorize(location))
        token = re.search(r'name="csrf" value="([^"]+)"', page := await behind.text())[1]
        before = await portal.post(f"{link}/provider/corp", data={"csrf": token}, headers=PAGE)
        assert (behind.status, before.status, "Sign in" in page) == (401, 401, True)
        assert "identity.linked" not in await actions(town.parts)
        assert (await portal.get(link, headers=PAGE)).status == 200


async def test_with_a_passkey(client: Client, town: Town) -> None:  # noqa: F811
    """Two factors in one; the person has no password, and the passkey signs in from now on."""
    link = await invited(client, town, NEW)
    page = await (await client.get(link, headers=PAGE)).text()
    assert f'data-passkey="join" data-link="{link}"' in page  # which may stand at a provider's way back
    passkey = Authenticator()
    asked = await options(client, f"{link}/passkey/options")
    assert asked["user"]["name"] == NEW
    nameless = await ask(client, f"{link}/passkey", credential=passkey.make(asked), name=" ")
    assert (nameless.status, NEW in await roles(town)) == (422, False)
    asked = await options(client, f"{link}/passkey/options")
    answer = await ask(client, f"{link}/passkey", credential=passkey.make(asked), name="Grace")
    assert (answer.status, await answer.json()) == (200, {"location": "/account"})
    assert await is_signed_in(client)
    assert {"invitation.accepted", "user.created", "passkey.added"} <= set(await actions(town.parts))
    client.session.cookie_jar.clear()
    credential = passkey.use(await options(client))
    assert (await ask(client, "/auth/passkey", credential=credential)).status == 200
    assert (await client.get(link, headers=PAGE)).status == 410


async def test_a_passkeys_answer_is_for_its_invitation_and_its_browser(client: Client, town: Town) -> None:  # noqa: F811
    """And who has an account signs in to join: no link puts a passkey on an account that is there."""
    first, second = [await invited(client, town, address) for address in (NEW, "else@example.com")]
    await client.get(first, headers=PAGE)
    asked = await options(client, f"{first}/passkey/options")
    answer = await ask(client, f"{second}/passkey", credential=Authenticator().make(asked), name="Grace")
    assert (answer.status, (await answer.json())["code"]) == (401, "passkey_failed")
    asked = await options(client, f"{first}/passkey/options")
    client.session.cookie_jar.clear()
    await client.get(first, headers=PAGE)
    answer = await ask(client, f"{first}/passkey", credential=Authenticator().make(asked), name="Grace")
    assert (answer.status, (await answer.json())["code"]) == (401, "passkey_failed")
    await town.add(NEW)
    assert (await ask(client, f"{first}/passkey/options")).status == 401
    assert set(await roles(town)) == {"ada@example.com", NEW}


async def test_what_a_browser_is_in_the_midst_of_cannot_be_read_or_exchanged_in_redis(
    town: Town, tmp_path: Path
) -> None:
    """Of two on their way to a provider, one with the link to an invitation, neither is put in the other's place."""
    async with provider() as idp, portal_with(town.parts, tmp_path, corp=table(idp)) as portal:
        link = await invited(portal, town, NEW)
        location = await set_out(portal, link)
        redis = town.parts.redis
        (mine,) = [key async for key in redis.scan_iter("platform:oidc:*")]
        kept = await redis.get(mine)
        assert link.rpartition("/")[2].encode() not in kept
        assert idp.authorize(location)["state"].encode() not in kept
        other = await portal.get("/auth/oidc/corp", headers=PAGE, allow_redirects=False)
        (theirs,) = [key async for key in redis.scan_iter("platform:oidc:*") if key != mine]
        await redis.set(theirs, kept)
        assert (await come_back(portal, idp.authorize(other.headers["Location"]))).status == 401
        assert (await come_back(portal, idp.authorize(location))).headers["Location"] == "/account"
