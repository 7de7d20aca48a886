"""The administrators' pages in a real browser: both themes, two widths, no script, no fault of policy or access."""

from datetime import timedelta

from playwright.async_api import Browser

from policies.identity.tenants import Role
from policies.limits.allowances import Allowance, What
from storage.ports import NewKey
from storage.postgres.keys.registry import PostgresKeyRegistry
from storage.postgres.limits import PostgresLimitBook
from tests.gateway.portal.admin.busy import use
from tests.gateway.portal.conftest import Town
from tests.gateway.portal.test_in_a_browser import (
    VIEWS,
    Faults,
    check,
    chromium,
    in_every_view,
    invitation,
    look,
    sign_in,
    site,
    view,
)

__all__ = ["chromium", "site"]


async def test_every_page_of_a_busy_tenant(chromium: Browser, site: str, town: Town) -> None:
    await furnish(town)
    faults = Faults()
    context = await view(chromium, site, "light", VIEWS["phone"])
    page = await context.new_page()
    faults.watch(page)
    await sign_in(page)
    await page.wait_for_url("**/account")
    for path in BUSY:
        await page.goto(path)
        await in_every_view(page, faults, name(path))
    await page.goto("/admin/members")
    await page.click("main .rows a >> nth=-1")
    await in_every_view(page, faults, "admin-member")
    await context.close()


async def test_every_page_that_has_nothing_to_show_yet(chromium: Browser, site: str, town: Town) -> None:
    """Says what comes next; in the dark and on a phone, the others look alike."""
    faults = Faults()
    context = await view(chromium, site, "dark", VIEWS["phone"])
    page = await context.new_page()
    faults.watch(page)
    await sign_in(page)
    await page.wait_for_url("**/account")
    for path in EMPTY:
        await page.goto(path)
        await page.wait_for_selector(".empty")
        await look(page, faults, f"{name(path)}-empty")
        await check(page, f"{name(path)}-empty")
    await context.close()


async def test_a_key_from_making_it_to_its_end_without_a_script(chromium: Browser, site: str, town: Town) -> None:
    """Every step is a plain form; what went wrong is said where it was typed."""
    faults = Faults()
    context = await chromium.new_context(
        base_url=site, java_script_enabled=False, viewport={"width": 390, "height": 844}
    )
    page = await context.new_page()
    faults.watch(page)
    await sign_in(page)
    await page.goto("/admin")
    await page.click("text=Make an API key")
    await page.fill("#name", "Crawler of the archive")
    await page.fill("#requests", "plenty")
    with faults.expecting("status of 422"):
        await page.click("main form button.primary")
        await page.wait_for_selector("[role=alert]")
    await look(page, faults, "admin-key-wrong-phone")
    await page.fill("#requests", "600/m")
    await page.fill("#audio", "3600s/h, 100h/month")
    await page.click("main form button.primary")
    await page.wait_for_selector(".secret")
    await look(page, faults, "admin-key-made-phone")
    await page.click("text=I have kept it")
    await look(page, faults, "admin-key-phone")
    await page.click("text=Replace…")
    await look(page, faults, "admin-key-rotate-phone")
    await page.click("main form button.primary")
    await page.wait_for_selector(".secret")
    await page.click("text=I have kept it")
    await page.click("summary:has-text('Revoke')")
    await look(page, faults, "admin-key-revoke-phone")
    await page.click("text=Revoke Crawler of the archive for ever")
    await page.wait_for_selector("text=The key has ended.")
    await context.close()


EMPTY = ("/admin", "/admin/keys", "/admin/invitations", "/admin/usage", "/admin/limits")
BUSY = (
    "/admin", "/admin?period=30d", "/admin/keys", "/admin/keys?ending_days=7", "/admin/keys/new", "/admin/members",
    "/admin/usage", "/admin/limits", "/admin/audit", "/admin/audit?action=none", "/admin/invitations",
    "/admin/invitations/new",
)  # fmt: skip


def name(path: str) -> str:
    return path.strip("/").replace("/", "-").replace("?", "-")


async def furnish(town: Town) -> None:
    limits = [Allowance.parse(What.AUDIO, "6000s/month"), Allowance.parse(What.STREAMS, "5")]
    await PostgresLimitBook(town.parts.pool, town.parts.trail).set_limits(town.tenant.id, granted=limits)
    await town.parts.pool.read("UPDATE platform.users SET time_zone = 'Asia/Tokyo', language = 'de'")
    other = await town.directory.create_tenant("other", "Other & Sons of the Long Name")
    async with town.parts.pool.operator() as connection:
        await connection.execute(
            "INSERT INTO platform.memberships (tenant_id, user_id, role) VALUES ($1, $2, 'admin')",
            other.id,
            town.user.id,
        )
    await use(town, town.parts.now(), hours=20)
    await town.add("the.longest.address.of.all.members@department.example.com", Role.ADMIN)
    await invitation(town)
    keys = PostgresKeyRegistry(town.parts.pool, town.parts.trail)
    for number, label in enumerate(("Crawler of the archive", "A" * 60, "Old")):
        await keys.create_key(
            town.tenant.id,
            NewKey(
                name=label,
                digest=bytes([number]) * 32,
                last4=f"x{number}yz",
                scopes=frozenset({"transcribe"}),
                user_id=town.user.id if number else None,
                expires_at=town.parts.now() + timedelta(days=20 * number + 1),
            ),
        )
