"""Limits: all that hold in the tenant, how much of each is in use, and where that of a month or a day is heading."""

from aiohttp import web

from gateway.portal.admin.visit import Visit, enter, filled
from gateway.portal.api.limit_use import LimitInUse, list_limit_use
from gateway.portal.api.paging import LONGEST
from gateway.portal.api.quotas import QuotaShown, list_quotas
from gateway.portal.parts import PARTS
from policies.identity.permissions import Permission

routes = web.RouteTableDef()

PATH = "/admin/limits"


@routes.get(PATH)
async def page(request: web.Request) -> web.Response:
    """The tenant's own first, then its members', its keys', its plan's."""
    visit = await enter(request, Permission.LIMITS_READ)
    found = await visit.ask(list_limit_use, filled(request, "cursor"))
    limits: list[LimitInUse] = found.data
    return visit.page(
        "admin_limits.html", tab="limits", title="Limits", path=PATH, limits=limits, next_cursor=found.next_cursor,
        quotas=await _quotas(visit), default=request.app[PARTS].settings.default_requests,
        keys=await visit.names("key", {one.key_id for one in limits if one.key_id}),
        members=await visit.names("user", {one.user_id for one in limits if one.user_id}),
    )  # fmt: skip


async def _quotas(visit: Visit) -> dict[str, QuotaShown]:
    """Those of the tenant as a whole, by name; none for whoever may not see the usage."""
    if not visit.may(Permission.USAGE_READ):
        return {}
    found: list[QuotaShown] = (await visit.ask(list_quotas, {"limit": LONGEST})).data
    return {one.name: one for one in found}
