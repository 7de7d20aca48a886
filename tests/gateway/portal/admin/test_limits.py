"""The page of limits: all that hold in the tenant, by whom, how much is in use and where it is heading."""

import pytest

from policies.identity.tenants import Role
from policies.limits.allowances import Allowance, What
from storage.ports import NewKey
from storage.postgres.keys.registry import PostgresKeyRegistry
from storage.postgres.limits import PostgresLimitBook
from tests.gateway.portal.admin.busy import use
from tests.gateway.portal.admin.reading import raw, read
from tests.gateway.portal.conftest import Client, Town, log_in

pytestmark = pytest.mark.usefixtures("one_instant")


def allowed(**texts: str) -> list[Allowance]:
    return [Allowance.parse(What(what), text) for what, text in texts.items()]


async def test_it_says_whose_they_are_and_how_much_is_in_use(portal: Client, town: Town) -> None:
    """By the names of keys and members, which are links; the tenant's own first."""
    book = PostgresLimitBook(town.parts.pool, town.parts.trail)
    key = await PostgresKeyRegistry(town.parts.pool, town.parts.trail).create_key(
        town.tenant.id, NewKey(name="Crawler", digest=b"x" * 32, last4="last", scopes=frozenset())
    )
    await book.set_limits(town.tenant.id, granted=allowed(audio="100h/month", streams="5"))
    await book.set_limits(town.tenant.id, user_id=town.user.id, granted=allowed(requests="50/day"))
    await book.set_limits(town.tenant.id, key_id=key.id, route="openai.models", granted=allowed(requests="600/m"))
    await use(town, town.parts.now(), hours=1)
    await log_in(portal)
    said = await read(portal, "/admin/limits")
    for told in (
        "100h/month of audio 2.5 min of 6,000.0 min in use; begins anew 1 ",
        "5 streams at one time 0 of 5 in use of the organisation",
        "50/day requests 0 of 50 in use; begins anew",
        "of the member ada@example.com",
        "600/m requests openai.models 0 of 600 in use of the key Crawler",
    ):
        assert told in said, (told, said)
    page = await raw(portal, "/admin/limits")
    assert f'href="/admin/keys/{key.id}"' in page
    assert page.index("of the organisation") < page.index("of the member") < page.index("of the key")


async def test_it_says_where_a_month_is_heading(portal: Client, town: Town) -> None:
    """As the API's quotas do; nothing yet in a month's first 24th."""
    await PostgresLimitBook(town.parts.pool, town.parts.trail).set_limits(
        town.tenant.id, granted=allowed(audio="100h/month")
    )
    await use(town, town.parts.now(), hours=1)
    await log_in(portal)
    (quota,) = (await (await portal.get("/platform/v1/usage/quotas")).json())["data"]
    assert ("at this pace" in await read(portal, "/admin/limits")) is (quota["forecast"] is not None)


async def test_there_may_be_none(portal: Client, town: Town) -> None:
    await log_in(portal)
    assert "There is no limit." in await read(portal, "/admin/limits")


async def test_who_may_not_read_limits_sees_none(portal: Client, town: Town) -> None:
    """Nor anybody another tenant's."""
    other = await town.directory.create_tenant("other", "Other")
    await PostgresLimitBook(town.parts.pool, town.parts.trail).set_limits(other.id, granted=allowed(streams="5"))
    await town.add("bob@example.com", Role.SERVICE)
    await log_in(portal)
    assert "There is no limit." in await read(portal, "/admin/limits")
    await log_in(portal, "bob@example.com")
    await read(portal, "/admin/limits", 403)
