"""The administrators' pages in a real browser: both themes, two widths, no script, no fault of policy or access."""

from pathlib import Path

from playwright.async_api import Browser

from policies.allowances import Allowance, What
from storage.postgres.limits import PostgresLimitBook
from tests.gateway.portal.admin.busy import use
from tests.gateway.portal.conftest import Town
from tests.gateway.portal.test_in_a_browser import VIEWS, Faults, chromium, in_every_view, sign_in, site, view

__all__ = ["chromium", "site"]


async def test_every_page_of_a_new_tenant_and_of_a_busy_one(
    chromium: Browser, site: str, town: Town, tmp_path: Path
) -> None:
    faults = Faults()
    context = await view(chromium, site, "light", VIEWS["phone"])
    page = await context.new_page()
    faults.watch(page)
    await sign_in(page)
    await page.wait_for_url("**/account")
    for path in EMPTY:
        await page.goto(path)
        await in_every_view(page, faults, f"{name(path)}-empty")
    await furnish(town)
    for path in BUSY:
        await page.goto(path)
        await in_every_view(page, faults, name(path))
    await context.close()


EMPTY = ("/admin",)
BUSY = ("/admin", "/admin?period=30d")


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
