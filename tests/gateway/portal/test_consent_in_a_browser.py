"""The page that asks whether an account is theirs, in a real browser: by password without a script, and by passkey."""

from pathlib import Path

from playwright.async_api import Browser

from tests.gateway.portal.conftest import EMAIL, PASSWORD, Town, actions
from tests.gateway.portal.oidc_world import CLIENT, SECRET, FakeProvider, provider
from tests.gateway.portal.test_in_a_browser import (
    VIEWS,
    Faults,
    at,
    chromium,
    device,
    in_every_view,
    make_passkey,
    opened,
    view,
)

__all__ = ["chromium"]


def lines(idp: FakeProvider) -> str:
    """The provider's table."""
    return (
        f'label = "Corp"\nissuer = "{idp.url}"\nclient_id = "{CLIENT}"\nclient_secret = "{SECRET}"\n'
        "link_by_email = true\n"
    )


async def test_consent_by_password_without_a_script_and_by_passkey(
    chromium: Browser, town: Town, tmp_path: Path
) -> None:
    """From the provider's button to the page that was wanted; looked at in both themes and at two widths."""
    faults = Faults()
    async with provider() as idp, opened(town, tmp_path, lines(idp)) as site:
        idp.said = {"email": EMAIL}
        plain = await chromium.new_context(base_url=site, java_script_enabled=False)
        page = await plain.new_page()
        await page.goto("/auth/login?next=/account/sessions")
        await page.click("text=Continue with Corp")
        await page.wait_for_url("**/auth/connect")
        await page.click("text=Do not connect")
        await page.wait_for_url("**/auth/login?next=*")
        assert await town.parts.pool.read("SELECT 1 FROM platform.identities") == []
        await page.click("text=Continue with Corp")
        await page.fill("#password", PASSWORD)
        await page.click("button.primary")
        await page.wait_for_url(at("/account/sessions"))
        await plain.close()

        async with town.parts.pool.operator() as connection:
            await connection.execute("DELETE FROM platform.identities")
        context = await view(chromium, site, "light", VIEWS["desktop"])
        page = await context.new_page()
        faults.watch(page)
        await device(page)
        await make_passkey(page, faults)
        await context.clear_cookies()
        await page.goto("/auth/oidc/corp?next=/account/sessions")
        await in_every_view(page, faults, "connect")
        with faults.expecting("status of 401"):
            await page.fill("#password", "not the password at all")
            await page.click("button.primary")
            await page.wait_for_selector("main .alert:not([hidden])")
        await in_every_view(page, faults, "connect-wrong")
        await page.click("[data-passkey=connect] button")
        await page.wait_for_url(at("/account/sessions"))
        assert (await actions(town.parts)).count("identity.linked") == 2

        idp.said = {"email": EMAIL, "sub": "another"}
        async with town.parts.pool.operator() as connection:
            await connection.execute("UPDATE platform.users SET password_hash = NULL")
            await connection.execute("DELETE FROM platform.passkeys")
        await context.clear_cookies()
        await page.goto("/auth/oidc/corp")
        await in_every_view(page, faults, "connect-without-means")
        assert not faults.found
        await context.close()
