"""The administrators' pages as tests read and use them."""

import html
import re
from typing import Any

from tests.gateway.portal.conftest import PAGE, Client, Town


async def read(portal: Client, path: str, status: int = 200) -> str:
    """The page's text, its marks taken out; it must have that status."""
    return text_of(await raw(portal, path, status))


async def raw(portal: Client, path: str, status: int = 200) -> str:
    """The page with its marks."""
    async with portal.get(path, headers=PAGE, allow_redirects=False) as answer:
        text = await answer.text()
        assert answer.status == status, text
        return text


def text_of(page: str) -> str:
    """What there is to be read."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


async def entries(town: Town, action: str) -> list[dict[str, Any]]:
    """What the audit trail has of an action, but for what tells one request from another."""
    rows = await town.parts.pool.read(
        "SELECT actor_kind, actor_id, address, target_name, before, after FROM platform.audit_entries"
        " WHERE action = $1 AND tenant_id = $2 ORDER BY sequence",
        action,
        town.tenant.id,
    )
    return [dict(row) for row in rows]


async def forget_the_password(town: Town) -> None:
    """As if it had been given a while ago."""
    await town.parts.pool.read(
        "UPDATE platform.sessions SET authenticated_at = authenticated_at - interval '6 minutes'"
    )
