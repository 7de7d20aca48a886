"""A second factor that is made on an old proof: a browser that somebody left open, or is signed in at a provider.

To make one proves nothing. Whoever could have made it pass for a fresh log-in would have had the account: the password
and the address of who has no password, another passkey.
"""

import re
from datetime import timedelta
from pathlib import Path

from gateway.portal.oauth.parts import OAUTH
from tests.gateway.portal.conftest import (
    PAGE,
    PASSWORD,
    Client,
    Town,
    compiled_templates,
    fill,
    log_in,
    parts,
    portal,
    quick_bcrypt,
    town,
)
from tests.gateway.portal.oidc_world import portal_with, provider, sign_in, table
from tests.gateway.portal.test_joining import invited
from tests.gateway.portal.test_second_factor import ask_for, code, secret_on

__all__ = ["compiled_templates", "parts", "portal", "quick_bcrypt", "town"]


async def set_up(client: Client) -> None:
    """Make one, as the half log-in of this browser asks."""
    page = await (await client.get("/auth/mfa/setup", headers=PAGE)).text()
    token = re.search(r'name="csrf" value="([^"]+)"', page)[1]
    confirming = {"csrf": token, "code": code(await secret_on(page))}
    assert (await client.post("/auth/mfa/setup", data=confirming, headers=PAGE)).status == 200


async def is_fresh(client: Client) -> bool:
    """Whether the change of the address asks for no proof."""
    return (await client.get("/account/email", headers=PAGE, allow_redirects=False)).status == 200


async def age(town: Town) -> None:
    """The proofs of all sessions are ten minutes old, and they end in an hour."""
    async with town.parts.pool.operator() as connection:
        await connection.execute(
            "UPDATE platform.sessions SET authenticated_at = now() - $1::interval, expires_at = now() + $2::interval",
            timedelta(minutes=10),
            timedelta(hours=1),
        )


async def test_a_wrong_code_shows_the_key_to_nobody_who_proved_nothing_just_now(portal: Client, town: Town) -> None:
    """A key that was offered and not confirmed lies there; whoever finds the browser open does not get it."""
    await log_in(portal)
    page = await (await portal.get("/account/second-factor", headers=PAGE)).text()
    sent = {"csrf": re.search(r'name="csrf" value="([^"]+)"', page)[1], "code": "000000"}
    wrong = await portal.post("/account/second-factor", data=sent, headers=PAGE)
    assert (wrong.status, await secret_on(await wrong.text())) == (401, await secret_on(page))
    await age(town)
    wrong = await portal.post("/account/second-factor", data=sent, headers=PAGE)
    text = await wrong.text()
    assert (wrong.status, "<code>" in text, "otpauth:" in text, "qr" in text) == (401, False, False, False)
    assert "get another one" in text


async def test_a_factor_that_is_made_does_not_freshen_what_a_provider_says_is_old(town: Town, tmp_path: Path) -> None:
    async with provider() as idp, portal_with(
        town.parts, tmp_path, corp=table(idp, make_people=True, tenant="acme")
    ) as client:  # fmt: skip
        await ask_for(town, "member")
        idp.said = {"auth_time": 1_700_000_000}
        assert (await sign_in(client, idp)).headers["Location"] == "/auth/mfa/setup"
        await set_up(client)
        assert (await client.get("/account", headers=PAGE, allow_redirects=False)).status == 200
        assert not await is_fresh(client)


async def test_a_session_that_goes_on_by_an_invitation_is_no_fresher_for_a_factor(portal: Client, town: Town) -> None:
    """Nor does it end later."""
    await join_on_an_old_proof(portal, town)
    await set_up(portal)
    assert (await portal.get("/account", headers=PAGE, allow_redirects=False)).status == 200
    assert not await is_fresh(portal)
    (row,) = await town.parts.pool.read(
        "SELECT expires_at <= now() + interval '1 hour' AS in_time FROM platform.sessions WHERE ended_at IS NULL"
    )
    assert row["in_time"]


async def test_nothing_goes_on_from_a_session_that_was_ended_meanwhile(portal: Client, town: Town) -> None:
    await join_on_an_old_proof(portal, town)
    await town.parts.pool.read("UPDATE platform.sessions SET ended_at = now(), ended_by = 'revoked'")
    answer = await portal.get("/auth/mfa/setup", headers=PAGE, allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (303, "/auth/login?said=over")


async def test_who_signs_out_everywhere_ends_what_others_have_half_begun(portal: Client, town: Town) -> None:
    """What is begun afterwards goes on, in the same second too."""

    async def begin() -> None:
        half = await fill(portal, "/auth/login", email="ada@example.com", password=PASSWORD)
        assert half.headers["Location"] == "/auth/mfa/setup"
        assert (await portal.get("/auth/mfa/setup", headers=PAGE, allow_redirects=False)).status == 200

    await ask_for(town, "owner")
    await begin()
    await portal.server.app[OAUTH].tokens.log_out_everywhere(town.user.id)
    over = await portal.get("/auth/mfa/setup", headers=PAGE, allow_redirects=False)
    assert (over.status, over.headers["Location"]) == (303, "/auth/login?said=over")
    await begin()


async def join_on_an_old_proof(portal: Client, town: Town) -> None:
    """Accept an invitation, signed in for long, to an organisation that asks for two factors."""
    other = await town.directory.create_tenant("other", "Other")
    await town.add("eve@example.com", tenant=other.id)
    link = await invited(portal, town, "eve@example.com")
    await log_in(portal, "eve@example.com")
    await age(town)
    await ask_for(town, "member")
    assert (await fill(portal, link)).headers["Location"] == "/auth/mfa/setup"
