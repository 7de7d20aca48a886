"""The first page: what the tenant has used lately, what was refused or failed, and how much of its limits is in use."""

from aiohttp import web

from gateway.portal.admin.lines import ENDS, lines, requests_of
from gateway.portal.admin.sections import open_to
from gateway.portal.admin.times import PRESETS, lately
from gateway.portal.admin.visit import Visit, arrive, filled
from gateway.portal.api.limit_use import LimitInUse, list_limit_use
from gateway.portal.api.usage import UsageShown, show_usage
from gateway.portal.parts import PARTS
from policies.identity.permissions import Permission

routes = web.RouteTableDef()

_FIRST_LIMITS = 100
_SHOWN_LIMITS = 8


@routes.get("/admin")
async def page(request: web.Request) -> web.Response:
    """Whoever may not see the usage goes to the first page that they may."""
    visit = await arrive(request)
    if not visit.may(Permission.USAGE_READ):
        return web.Response(status=303, headers={"Location": open_to(visit.who.permissions)[0].path})
    wanted = filled(request, "period").get("period", "")
    period = wanted if wanted in PRESETS else "24h"
    span = lately(period, request.app[PARTS].now())
    found: UsageShown = await visit.ask(show_usage, {**span.asked(), "bucket": span.bucket, "by": "outcome"})
    before: UsageShown = await visit.ask(show_usage, span.before.asked())
    buckets = lines(found.groups, span)
    return visit.page(
        "admin_overview.html", tab="overview", title="Overview", period=period, presets=PRESETS, span=span,
        total=found.total, before=before.total, lines=buckets, ends=ENDS, chart=requests_of(buckets),
        is_new=not (found.total.requests or before.total.requests), limits=await _limits(visit),
        public_url=request.app[PARTS].public_url,
    )  # fmt: skip


@routes.get("/admin/")
@routes.get("/admin/{page}/")
async def with_slash(request: web.Request) -> web.Response:
    """As people type it. The page has one address."""
    await arrive(request)
    return web.Response(status=303, headers={"Location": request.rel_url.raw_path.rstrip("/")})


async def _limits(visit: Visit) -> list[LimitInUse]:
    """Those of the tenant itself, the fullest first."""
    if not visit.may(Permission.LIMITS_READ):
        return []
    page = await visit.ask(list_limit_use, {"limit": _FIRST_LIMITS})
    own = [one for one in page.data if not (one.key_id or one.user_id)]
    return sorted(own, key=lambda one: one.used / one.allowed, reverse=True)[:_SHOWN_LIMITS]
