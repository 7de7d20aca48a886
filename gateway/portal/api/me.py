"""Who one is to the API."""

from typing import Any

from gateway.portal.api.operations import Ask, Nothing, Operations, Shown

operations = Operations("me")


class Me(Shown):
    """The caller: ids that are empty where there is none, and what it may do."""

    tenant_id: str
    user_id: str
    key_id: str
    operator: bool
    permissions: list[str]


@operations.get("/me", None, query=Nothing, answer=Me)
async def show_me(ask: Ask[Nothing, Any]) -> Me:
    """The caller, and what it may do."""
    who = ask.who
    return Me(
        tenant_id=who.tenant_id,
        user_id=who.user_id,
        key_id=who.key_id,
        operator=who.is_operator,
        permissions=sorted(who.permissions),
    )
