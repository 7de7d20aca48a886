"""A person's own pages: profile, browsers, data. ``security`` has the password and the second factor."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import orjson
from aiohttp import web

from gateway.locales import LANGUAGES, time_zones
from gateway.portal.admin.sections import open_to
from gateway.portal.entry import browser
from gateway.portal.entry.agents import browser_name
from gateway.portal.entry.identity import SIGNED_IN, families, people, sessions
from gateway.portal.oauth.tokens import FIRST_PARTY
from gateway.portal.parts import PARTS
from gateway.portal.web.bodies import form_fields
from gateway.portal.web.pages import render
from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal
from policies.identity.permissions import Permission
from policies.people import Proven, Session
from storage.ports import AlreadyExists, Invalidation
from storage.postgres.people.accounts import Account
from storage.postgres.people.identities import PostgresIdentities
from storage.postgres.people.passkeys import PostgresPasskeys
from storage.postgres.tenants.members import permissions_in

routes = web.RouteTableDef()

_HELD: web.RequestKey[AbstractSet[Permission]] = web.RequestKey("permissions")
"""What the person may do in the tenant, for the navigation of the page."""
_HISTORY = 30
_ELSEWHERE = "Nothing was done: since the page was opened you have changed the organisation, perhaps in another tab."
_KEYS = """
    SELECT id, tenant_id, name, scopes, created_at, expires_at, revoked_at FROM platform.api_keys
    WHERE user_id = $1 ORDER BY created_at
"""
_PROGRAMS = """
    SELECT client_id AS client, tenant_id, scopes, address, agent, created_at AS at, rotated_at AS renewed_at,
        expires_at, ended_at
    FROM platform.refresh_families WHERE user_id = $1 ORDER BY created_at
"""
_TRUSTED = """
    SELECT agent AS browser, created_at, expires_at FROM platform.trusted_browsers
    WHERE user_id = $1 ORDER BY created_at
"""


async def own(request: web.Request, session: Session) -> Account:
    """The account of whoever is signed in. Raises Problem when it was deleted this moment."""
    account = await people(request).account_of(session.user_id)
    if account is None:
        raise Problem(Refusal.LOGIN_REQUIRED)
    request[_HELD] = await permissions_in(request.app[PARTS].pool, session.tenant_id, session.user_id)
    return account


def account_page(
    request: web.Request,
    template: str,
    account: Account,
    session: Session,
    *,
    problem: Problem | None = None,
    **more: object,
) -> web.Response:
    """A page of the account, with what its frame needs."""
    place = next((p for p in account.places if p.tenant_id == session.tenant_id), None)
    return render(
        request, template, problem=problem, person=account.person, places=account.places, place=place,
        tenant_id=session.tenant_id,
        has_statements=request.app[PARTS].price_lists is not None, administers=bool(open_to(request[_HELD])),
        **{"done": request.query.get("done", "")} | more,
    )  # fmt: skip


async def fields_in(request: web.Request, session: Session) -> dict[str, str]:
    """What a form says of the session's tenant. Raises Problem for one of a page that was opened in another.

    A session changes its tenant in all tabs at once, and the others go on to show the one before.
    """
    found = await form_fields(request)
    if found.pop("in", "") != session.tenant_id:
        raise Problem(Refusal.FORM_EXPIRED, _ELSEWHERE)
    return found


def back(path: str, done: str) -> web.Response:
    """Send the browser to a page that says what was done (POST, redirect, GET)."""
    return web.Response(status=303, headers={"Location": f"{path}?done={done}"})


@routes.get("/account")
async def profile(request: web.Request) -> web.Response:
    """Name, language, time zone; the tenants one belongs to."""
    session = await browser.required(request)
    return await _profile(request, session, None)


@routes.get("/account/")
@routes.get("/account/{page}/")
async def with_slash(request: web.Request) -> web.Response:
    """As people type it. The page has one address, and it is below ours whatever stands there (R-08)."""
    await browser.required(request)
    return web.Response(status=303, headers={"Location": request.rel_url.raw_path.removesuffix("/")})


@routes.post("/account")
async def change_profile(request: web.Request) -> web.Response:
    """What is shown of a person. Only these fields are taken, whatever else a form holds."""
    session = await browser.required(request)
    fields = await form_fields(request)
    language, time_zone = fields.get("language", "en"), fields.get("time_zone", "UTC")
    faults = {}
    if language not in LANGUAGES:
        faults["language"] = "This language is not among those."
    if time_zone not in time_zones():
        faults["time_zone"] = "This time zone is not among those."
    try:
        if faults:
            return await _profile(request, session, Problem(Refusal.INVALID_INPUT, fields=faults), fields)
        await people(request).set_profile(
            session.user_id, name=fields.get("name", ""), language=language, time_zone=time_zone
        )
    except ValueError as error:
        wrong = Problem(Refusal.INVALID_INPUT, fields={"name": f"{str(error).capitalize()}."})
        return await _profile(request, session, wrong, fields)
    return back("/account", "profile")


async def _profile(
    request: web.Request, session: Session, problem: Problem | None, typed: Mapping[str, str] | None = None
) -> web.Response:
    """``typed``: what was sent and not taken, to be corrected there."""
    account = await own(request, session)
    person = account.person
    shown = {"name": person.name, "language": person.language, "time_zone": person.time_zone} | dict(typed or {})
    return account_page(
        request, "account_profile.html", account, session, title="Profile", problem=problem, shown=shown,
        languages=LANGUAGES, time_zones=time_zones(), tab="profile",
    )  # fmt: skip


@routes.post("/account/tenant")
async def switch(request: web.Request) -> web.Response:
    """Go on in another tenant that one belongs to: with a new session, because other rights are a new session's."""
    session = await browser.required(request)
    account = await own(request, session)
    fields = await form_fields(request)
    wanted = fields.get("tenant", "")
    place = next((p for p in account.places if p.tenant_id == wanted and p.active), None)
    if place is None:
        raise Problem(Refusal.NOT_FOUND)
    proven = Proven(person=account.person, place=place, methods=session.methods, continues=session)
    _, secret = await browser.begin(request, proven)
    await request.app[PARTS].bus.publish(Invalidation(user_id=session.user_id))
    response = back("/admin" if fields.get("on") == "admin" else "/account", "tenant")
    browser.set_cookie(request, response, secret)
    return response


# --- browsers ---------------------------------------------------------------------------------------------------------


@routes.get("/account/sessions")
async def browsers(request: web.Request) -> web.Response:
    """Where one is signed in, and has been; and programs that have tokens for the password."""
    session = await browser.required(request)
    listed = sessions(request).listed
    account = await own(request, session)
    return account_page(
        request,
        "account_sessions.html",
        account,
        session,
        title="Sessions",
        tab="sessions",
        current=session,
        live=await listed.of(session.user_id),
        programs=await families(request).living(session.user_id),
        first_party=FIRST_PARTY,
        place_names={place.tenant_id: place.name for place in account.places},
        history=await listed.history(session.user_id, _HISTORY),
        browser_name=browser_name,
    )


@routes.post("/account/sessions")
async def end_browsers(request: web.Request) -> web.Response:
    """Sign one out, or all others, or everywhere: then also programs that signed in with the password."""
    session = await browser.required(request)
    fields = await form_fields(request)
    match fields.get("which", ""):
        case "others":
            await browser.end(request, session.user_id, "revoked", but=session.id)
        case "everywhere":
            await browser.end(request, session.user_id, "revoked")
            response = web.Response(status=303, headers={"Location": "/auth/login?said=out"})
            browser.clear_cookie(request, response)
            return response
        case one:
            if not await browser.end_one(request, session.user_id, one):
                raise Problem(Refusal.NOT_FOUND)
    return back("/account/sessions", "ended")


# --- data -------------------------------------------------------------------------------------------------------------


@routes.get("/account/data")
async def data(request: web.Request) -> web.Response:
    """Take what there is about oneself, or have it forgotten."""
    session = await browser.required(request)
    return account_page(
        request, "account_data.html", await own(request, session), session, title="Your data", tab="data"
    )


@routes.get("/account/data/export.json")
async def export(request: web.Request) -> web.Response:
    """What is kept about the person, as JSON; no secrets. The audit trail and the account are the organisations'."""
    session = await browser.required(request)
    account = await own(request, session)
    history = await sessions(request).listed.history(session.user_id, 10_000)
    parts = request.app[PARTS]
    document = {
        "person": account.person,
        "memberships": account.places,
        "log_ins": [{**_fields(one), "ended_at": ended} for one, ended in history],
        "other_accounts": await PostgresIdentities(parts.pool, parts.trail).of(session.user_id),
        "passkeys": [
            {"name": one.name, "created_at": one.created_at, "last_used_at": one.last_used_at}
            for one in await PostgresPasskeys(parts.pool, parts.trail).of(session.user_id)
        ],
        "keys": await _rows(request, _KEYS),
        "programs": await _rows(request, _PROGRAMS),
        "trusted_browsers": await _rows(request, _TRUSTED),
    }
    body = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z)
    return web.Response(
        body=body,
        content_type="application/json",
        headers={"Content-Disposition": 'attachment; filename="tahoe-account.json"'},
    )


@routes.post("/account/data/delete")
async def delete(request: web.Request) -> web.Response:
    """Forget the person. Asks for the password, and for the address as a sign that it is meant."""
    session = await browser.required_fresh(request)
    account = await own(request, session)
    typed = (await form_fields(request)).get("email", "").strip().lower()
    problem = None
    if typed != account.person.email:
        problem = Problem(Refusal.INVALID_INPUT, fields={"email": "This is not the address of your account."})
    else:
        try:
            await people(request).erase(session.user_id)
        except AlreadyExists as error:
            problem = Problem(Refusal.LAST_OWNER, str(error))
        else:
            await browser.end(request, session.user_id, "disabled")
    if problem is not None:
        return account_page(
            request, "account_data.html", account, session, title="Your data", tab="data", problem=problem
        )
    await request.app[PARTS].bus.publish(Invalidation())  # the person's keys, in whichever tenant
    response = render(request, "message.html", title="Your account is deleted", link=None, link_text="",
                      message="Your name, address and password are forgotten, and your keys have ended.")  # fmt: skip
    browser.clear_cookie(request, response)
    return response


def _fields(session: Session) -> dict[str, object]:
    return {
        "at": session.created_at,
        "last_seen_at": session.seen_at,
        "address": session.address,
        "browser": session.agent,
        "methods": session.methods,
        "tenant_id": session.tenant_id,
    }


async def _rows(request: web.Request, query: str) -> list[dict[str, object]]:
    """What ``query`` finds of whoever is signed in."""
    return [dict(row) for row in await request.app[PARTS].pool.read(query, request[SIGNED_IN].user_id)]
