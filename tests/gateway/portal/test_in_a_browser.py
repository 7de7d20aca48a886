"""The pages in a real browser: in both themes and at two widths, without a fault of policy, script or accessibility."""

import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pyotp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Browser, BrowserContext, CDPSession, Page, async_playwright

from gateway.configuration.sources import load
from gateway.dataplane import error_page
from gateway.identity.digests import digest
from gateway.portal.application import application
from gateway.portal.entry import joining
from gateway.portal.entry.recovery import mint
from gateway.shipped import shipped
from gateway.usage.statements import read_price_lists
from policies.http.verdict import Deny, Refusal
from policies.identity.tenants import Role
from storage.postgres.tenants.invitations import PostgresInvitations
from tests import programs
from tests.gateway.portal.conftest import EMAIL, PASSWORD, Town, actions
from tests.gateway.portal.test_recovery import letters
from tests.ports import free_port
from tests.storage.waiting import until

PICTURES = os.environ.get("PAGES_PICTURES", "")
"""A directory: a picture of every page is left there, to be looked at."""
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
VIEWS = {"desktop": (1280, 860), "phone": (390, 844), "least": (320, 568)}


@dataclass
class Faults:
    """What a browser complained of."""

    found: list[str] = field(default_factory=list)
    expected: str = "$^"

    def watch(self, page: Page) -> None:
        page.on("console", lambda said: self._note(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self._note(str(error)))

    def _note(self, text: str) -> None:
        if not re.search(self.expected, text):
            self.found.append(text)

    @contextlib.contextmanager
    def expecting(self, pattern: str) -> Iterator[None]:
        """A refused form is an error in the console as well."""
        self.expected = pattern
        yield
        self.expected = "$^"


@pytest.fixture
async def site(town: Town, tmp_path: Path) -> AsyncIterator[str]:
    """The portal, with a provider that nobody asks."""
    async with opened(town, tmp_path, 'label = "Corp"\nissuer = "http://localhost:1/"\nclient_id = "x"\n') as url:
        yield url


@contextlib.asynccontextmanager
async def opened(town: Town, tmp_path: Path, provider: str) -> AsyncIterator[str]:
    """The portal at an address that browsers take for a safe one. ``provider``: the lines of its table."""
    port = free_port()
    url = f"http://localhost:{port}"
    config = tmp_path / "oidc.toml"
    config.write_text(f"[oidc.corp]\n{provider}")
    mail = f"file:{tmp_path}/mail"
    settings = load({"state_dir": tmp_path, "public_url": url, "password_cost": 10, "mail": mail}, config, {})
    lists = read_price_lists(shipped("plans.example.toml"))
    parts = replace(town.parts, settings=settings, price_lists=lists)
    async with TestServer(application(parts), host="127.0.0.1", port=port):
        yield url


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=programs.chromium(), args=["--no-sandbox"])
        yield browser
        await browser.close()


async def look(page: Page, faults: Faults, name: str) -> None:
    """What is wrong with a page; and its picture where one is wanted."""
    assert not faults.found, (name, faults.found)
    overflow = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert overflow <= 0, f"{name} is {overflow} pixels too wide"
    if PICTURES:
        await page.screenshot(path=f"{PICTURES}/{name}.png", full_page=True)


EVERY_RULE = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
OF_COLOURS = ["color-contrast", "link-in-text-block"]


async def check(page: Page, name: str, rules: Sequence[str] = EVERY_RULE) -> None:
    """WCAG 2.2 AA, as far as a machine can tell."""
    options = {"runOnly": rules, "resultTypes": ["violations"]}
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(AXE_SCRIPT)
    told = await page.evaluate(
        "options => axe.run(options)"
        ".then(found => found.violations.map(({id, nodes}) => [id, nodes.map(node => node.html).slice(0, 3)]))",
        options,
    )
    assert not told, (name, told)


async def sign_in(page: Page, secret: str = "") -> None:
    """To the page behind it: who goes elsewhere before that breaks the log-in off."""
    await page.goto("/auth/login")
    await page.fill("#email", EMAIL)
    await page.fill("#password", PASSWORD)
    await page.click("button.primary")
    await page.wait_for_url(lambda url: not url.endswith("/auth/login"))
    if secret:
        await page.fill("#code", pyotp.TOTP(secret).at(int(time.time()) + 30))
        await page.click("button.primary")
        await page.wait_for_url(lambda url: not url.endswith("/auth/mfa"))


async def set_up(page: Page, faults: Faults) -> str:
    """The second factor that the tenant asks for; the secret."""
    await sign_in(page)
    await page.wait_for_url("**/auth/mfa/setup")
    await look(page, faults, "mfa-setup")
    await check(page, "mfa-setup")
    secret = (await page.inner_text("ol code")).replace(" ", "")
    await page.fill("#code", pyotp.TOTP(secret).now())
    await page.click("button.primary")
    await page.wait_for_selector(".codes")
    await look(page, faults, "mfa-codes")
    await check(page, "mfa-codes")
    await page.click("a.primary")
    await page.wait_for_url("**/account")
    return secret


async def view(chromium: Browser, site: str, theme: Literal["light", "dark"], size: tuple[int, int]) -> BrowserContext:
    width, height = size
    return await chromium.new_context(
        base_url=site, color_scheme=theme, viewport={"width": width, "height": height}, reduced_motion="reduce"
    )


OPEN = ("/auth/login", "/auth/forgot", "/auth/reset/none", "/auth/invite/none", "/no/such/page")
SIGNED_IN = (
    "/account", "/account/security", "/account/sessions", "/account/tokens", "/account/tokens/new", "/account/email",
    "/account/data", "/account/confirm", "/account/statement",
)  # fmt: skip


async def test_every_page_in_both_themes_at_two_widths(chromium: Browser, site: str, town: Town) -> None:
    """Log-in, second factor, account: no report of the policy, no error, nothing too wide, nothing inaccessible."""
    async with town.parts.pool.operator() as connection:
        await connection.execute("UPDATE platform.tenants SET second_factor_for = '{owner}'")
    faults = Faults()
    context = await view(chromium, site, "light", VIEWS["phone"])
    page = await context.new_page()
    faults.watch(page)
    secret = await set_up(page, faults)
    state = await context.storage_state()
    await context.clear_cookies()
    await sign_in(page)
    await page.wait_for_url("**/auth/mfa")
    await check(page, "mfa")
    await look(page, faults, "mfa")
    with faults.expecting("status of 401"):
        await page.fill("#code", "000000")
        await page.click("button.primary")
        await page.wait_for_selector("[role=alert]")
    await check(page, "mfa-wrong")
    await look(page, faults, "mfa-wrong")
    await page.fill("#code", pyotp.TOTP(secret).at(int(time.time()) + 30))
    await page.check("#trust")
    await page.click("button.primary")
    await page.wait_for_url("**/account")
    await context.close()
    context = await view(chromium, site, "light", VIEWS["phone"])
    page = await context.new_page()
    faults.watch(page)
    links = (await mailed_link(page, faults, town), await invitation(town))
    for cookies, paths in (([], (*OPEN, *links)), (state["cookies"], SIGNED_IN)):
        await context.add_cookies(cookies)
        for path in paths:
            with faults.expecting("status of (404|410)"):
                await page.goto(path)
            await in_every_view(page, faults, path.partition("thk_")[0].strip("/").replace("/", "-"))
    await page.goto("/account/tokens/new")
    await page.fill("#name", "My laptop")
    await page.click("main button.primary")
    await page.wait_for_selector(".secret")
    await in_every_view(page, faults, "account-tokens-made")
    await page.get_by_role("button", name="Copy").first.click()
    await page.wait_for_selector("text=Copied")
    await page.goto("/account/tokens")
    await in_every_view(page, faults, "account-tokens-one")
    await context.close()


async def test_a_password_is_shown_while_its_button_says_so(chromium: Browser, site: str, town: Town) -> None:
    """By keys alone; and it is sent as a password, so that no browser keeps it among other texts."""
    context = await view(chromium, site, "light", VIEWS["phone"])
    page = await context.new_page()
    await page.goto("/auth/login")
    await page.focus("#email")
    for keys in (EMAIL, PASSWORD):
        await page.keyboard.type(keys)
        await page.keyboard.press("Tab")
    button = page.get_by_role("button", name="Show: Password")
    assert await button.evaluate("it => it === document.activeElement")
    await page.keyboard.press("Enter")
    assert await page.get_attribute("#password", "type") == "text"
    await page.evaluate(
        "addEventListener('submit', () => sessionStorage.setItem('sent', document.forms[0].password.type))"
    )
    await page.focus("#password")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/account")
    assert await page.evaluate("sessionStorage.getItem('sent')") == "password"
    await context.close()


async def test_who_reads_long_is_told_before_the_session_ends_and_goes_on(
    chromium: Browser, site: str, town: Town
) -> None:
    """WCAG 2.2, 2.2.1: with time to answer, by keys alone, in every tab; what was typed is not lost at the end."""
    faults = Faults()
    context = await view(chromium, site, "light", VIEWS["phone"])
    page, other = await context.new_page(), await context.new_page()
    for one in (page, other):
        faults.watch(one)
    await sign_in(page)
    await context.clock.install()
    await other.goto("/account")
    await page.goto("/account")
    said, stay = page.locator("#session-end"), page.get_by_role("button", name="Stay signed in")
    idle_s = town.parts.settings.session_idle
    await page.fill("#name", "Ada Lovelace")
    await context.clock.fast_forward(int(idle_s - 121) * 1000)
    assert await said.inner_text() == ""
    await context.clock.fast_forward(2_000)
    for tab in (page, other):
        await tab.wait_for_selector("text=You will be signed out within 2 minutes")
    await check(page, "account-ends")
    await look(page, faults, "account-ends")
    await stay.focus()
    async with page.expect_response(lambda answer: answer.request.method == "HEAD") as answered:
        await page.keyboard.press("Enter")
    assert (await answered.value).status == 200
    await stay.wait_for(state="hidden")
    assert await page.evaluate("document.activeElement.id") == "name"
    await other.get_by_role("button", name="Stay signed in").wait_for(state="hidden")
    await context.clock.fast_forward(int(idle_s + 1) * 1000)
    await page.wait_for_selector("text=What you have typed here stays")
    await look(page, faults, "account-ended")
    async with context.expect_page():  # the server's clock has not run on, so one is in again at once
        await page.click("#session-end a")
    await said.get_by_role("link").wait_for(state="hidden")
    await page.click("main button.primary")
    await page.wait_for_url("**/account?done=profile")
    assert await page.input_value("#name") == "Ada Lovelace"
    await context.close()


async def mailed_link(page: Page, faults: Faults, town: Town) -> str:
    """Ask for a new password; the path of the link that comes."""
    await page.goto("/auth/forgot")
    await page.fill("#email", EMAIL)
    await page.click("main button")
    await page.wait_for_selector("[role=status]")
    await in_every_view(page, faults, "auth-forgot-sent")
    await until(lambda: len(letters(town.parts)) > 0)
    link = re.search(r"/auth/reset/\S+", letters(town.parts)[-1][1])
    assert link is not None
    return link[0]


async def invitation(town: Town) -> str:
    """The path of one."""
    secret, parts = mint("invite"), town.parts
    made = PostgresInvitations(parts.pool, parts.trail)
    its_digest = digest(parts.secret_for(joining.PURPOSE), secret.encode())
    await made.create(town.tenant.id, "new@example.com", Role.MEMBER, its_digest, town.user.id)
    return f"/auth/invite/{secret}"


async def test_the_page_of_the_gateway_itself(chromium: Browser) -> None:
    """What workers show without the portal: under its own policy, whole in one answer."""
    headers = dict(line.split(": ", 1) for line in error_page.LINES.decode().split("\r\n"))

    async def refuse(_: web.Request) -> web.Response:
        body = error_page.page(Deny(refusal=Refusal.RATE_LIMIT_EXCEEDED), "0192f3c1-7a55-7000-8000-3f1f2d0c9a11", 40)
        return web.Response(status=429, body=body, headers=headers)

    app, faults = web.Application(), Faults()
    app.router.add_get("/", refuse)
    async with TestServer(app) as server:
        context = await view(chromium, str(server.make_url("/")), "light", VIEWS["phone"])
        page = await context.new_page()
        faults.watch(page)
        with faults.expecting("status of 429"):
            await page.goto("/")
        await in_every_view(page, faults, "error")
        await context.close()


async def in_every_view(page: Page, faults: Faults, name: str) -> None:
    """Every rule in one theme, what colours decide in the other: ``light-dark()`` gives a colour and nothing else."""
    for theme in THEMES:
        await page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        first = theme == THEMES[0]
        for size, (width, height) in VIEWS.items() if first or PICTURES else ():
            await page.set_viewport_size({"width": width, "height": height})
            await look(page, faults, f"{name}-{theme}-{size}")
        await check(page, f"{name}-{theme}", EVERY_RULE if first else OF_COLOURS)


@dataclass
class Device:
    """A page, and the authenticator of its device."""

    page: Page
    devtools: CDPSession
    id: str

    async def finger(self, *, there: bool) -> None:
        """Whether the person is there to prove itself."""
        said = {"authenticatorId": self.id, "isUserVerified": there}
        await self.devtools.send("WebAuthn.setUserVerified", said)


async def device(page: Page) -> Device:
    devtools = await page.context.new_cdp_session(page)
    await devtools.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
        "isUserVerified": True, "automaticPresenceSimulation": True,
    }  # fmt: skip
    made = await devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    return Device(page, devtools, made["authenticatorId"])


def at(path: str) -> re.Pattern[str]:
    """The page of that path, and not one that is on the way to it and names it in its query."""
    return re.compile(rf"^[^?]*{path}$")


async def make_passkey(page: Page, faults: Faults) -> None:
    """Make one, and call it something else."""
    await sign_in(page)
    await page.goto("/account/security")
    await page.fill("#passkey-name", "My phone")
    await page.click("[data-passkey=make] button")
    await page.wait_for_url("**/account/security?done=passkey")
    assert "My phone" in await page.inner_text(".rows")
    await look(page, faults, "passkeys")
    await check(page, "passkeys")
    await page.click("summary")
    await page.fill("#name-1", "Old phone")
    await page.click("details button")
    await page.wait_for_selector("text=Old phone")


async def ask_elsewhere(page: Page, site: str) -> None:
    """At an address that is not the gateway's own: no authenticator would ever answer."""
    await page.goto(site.replace("localhost", "127.0.0.1") + "/auth/login")
    await page.click("[data-passkey=login] button")
    await page.wait_for_selector("[role=alert]:has-text('Passkeys belong to localhost. Open this page there.')")


async def test_a_passkey_from_making_it_to_removing_it(chromium: Browser, site: str, town: Town) -> None:
    """On Chromium's own authenticator: alone, after the password where the tenant asks for two factors, and anew."""
    faults = Faults()
    context = await view(chromium, site, "light", VIEWS["desktop"])
    page = await context.new_page()
    faults.watch(page)
    phone = await device(page)
    await make_passkey(page, faults)

    await ask_elsewhere(page, site)

    await context.clear_cookies()
    await page.goto("/auth/login?next=/account/sessions")
    with contextlib.suppress(Exception):  # what the browser offers by itself may be faster than the button
        await page.click("[data-passkey=login] button", timeout=2_000)
    await page.wait_for_url(at("/account/sessions"))

    async with town.parts.pool.operator() as connection:
        await connection.execute("UPDATE platform.tenants SET second_factor_for = '{owner}'")
    await context.clear_cookies()
    await phone.finger(there=False)
    await sign_in(page)
    await page.wait_for_url("**/auth/mfa")
    await look(page, faults, "mfa-passkey")
    await check(page, "mfa-passkey")
    await page.click("[data-passkey=second] button")
    await page.wait_for_selector("[role=alert]:not([hidden])")  # without a finger it is not the person
    await phone.finger(there=True)
    await page.check("#trust-passkey")
    await page.click("[data-passkey=second] button")
    await page.wait_for_url("**/account")
    rows = await town.parts.pool.read("SELECT sign_count, last_used_at FROM platform.passkeys")
    assert rows[0]["sign_count"] > 1

    async with town.parts.pool.operator() as connection:
        await connection.execute("UPDATE platform.sessions SET authenticated_at = now() - interval '1 hour'")
    await page.goto("/account/email")
    await page.wait_for_url("**/account/confirm?next=/account/email")
    await look(page, faults, "confirm-passkey")
    await check(page, "confirm-passkey")
    await page.click("[data-passkey=confirm] button")
    await page.wait_for_url(at("/account/email"))

    await page.goto("/account/security")
    with faults.expecting("status of 403"):
        await page.click("text=Remove >> nth=0")
        await page.wait_for_selector("text=asks for a second factor")
    async with town.parts.pool.operator() as connection:
        await connection.execute("UPDATE platform.tenants SET second_factor_for = '{}'")
    await page.goto("/account/security")
    await page.click("text=Remove >> nth=0")
    await page.wait_for_url("**/account/security?done=passkey-removed")
    assert not faults.found
    assert {"passkey.added", "passkey.removed", "browser.trusted"} <= set(await actions(town.parts))
    await context.close()
