"""Pages: Jinja templates with everything escaped, and the style sheet and scripts that they name."""

import hashlib
import mimetypes
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

import aiohttp_jinja2
import jinja2
from aiohttp import web
from markupsafe import Markup

from gateway.portal.entry.ending import ending
from gateway.portal.web import figures
from gateway.portal.web.cached import kept
from gateway.portal.web.crosssite import token
from gateway.portal.web.dates import written
from gateway.portal.web.problem import Problem

_PORTAL = Path(__file__).parents[1]
routes = web.RouteTableDef()


def setup(app: web.Application) -> None:
    """Prepare the templates. What a template names and nobody gave is an error, not an empty string."""
    environment = aiohttp_jinja2.setup(
        app,
        loader=jinja2.FileSystemLoader(_PORTAL / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "moment": _moment, "day": _day, "utc_day": _utc_day, "number": figures.number, "minutes": figures.minutes,
        "size": figures.size, "amount": figures.amount,
    }  # fmt: skip
    app[STATIC] = static = {path.name: path.read_bytes() for path in sorted((_PORTAL / "static").iterdir())}
    environment.globals["version"] = hashlib.sha256(b"".join(static.values())).hexdigest()[:12]


@jinja2.pass_context
def _moment(context: jinja2.runtime.Context, at: datetime) -> Markup:
    """Date and time as the person's clock says it, UTC where nobody is known; UTC on hovering."""
    return _time(context, at, ", %H:%M %Z")


@jinja2.pass_context
def _day(context: jinja2.runtime.Context, at: datetime) -> Markup:
    """The date, where the person is."""
    return _time(context, at, "")


@jinja2.pass_context
def _utc_day(context: jinja2.runtime.Context, at: datetime) -> Markup:
    """The date in UTC, as days of figures are."""
    return _time(context, at, "", UTC)


def _time(context: jinja2.runtime.Context, at: datetime, clock: str, zone: tzinfo | None = None) -> Markup:
    """``clock`` is what follows the date, for strftime; ``zone`` is the person's if nothing else is said.

    A date in another language than the page's says so.
    """
    person, utc = context.get("person"), at.astimezone(UTC)
    language = person.language if person else "en"
    local = at.astimezone(zone or (ZoneInfo(person.time_zone) if person else UTC))
    return Markup('<time datetime="{}" title="{}"{}>{}</time>').format(
        utc.isoformat(),
        f"{utc:%Y-%m-%d %H:%M} UTC",
        Markup(' lang="{}"').format(language) if language != "en" else "",
        written(local, language) + (local.strftime(clock) if clock else ""),
    )


STATIC: web.AppKey[Mapping[str, bytes]] = web.AppKey("static")


def render(request: web.Request, template: str, *, problem: Problem | None = None, **context: object) -> web.Response:
    """A page, with the status and the header of what it says went wrong. ``csrf()`` gives its forms their token."""
    context = {
        "title": "Tahoe",
        "csrf": lambda: token(request),
        "problem": problem,
        "ending": ending(request),
        **context,
    }
    response = aiohttp_jinja2.render_template(template, request, context)
    if problem is not None:
        response.set_status(problem.refusal.status)
        response.headers.update(problem.headers)
    return response


@routes.get("/auth/static/{name}")
async def static(request: web.Request) -> web.Response:
    """A file that pages name, with a digest of all of them in its query: it may be kept for long."""
    name = request.match_info["name"]
    body = request.app[STATIC].get(name)
    if body is None:
        raise web.HTTPNotFound
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return kept(request, body, kind, "public, max-age=86400")
