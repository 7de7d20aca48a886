"""A second factor for whoever must have one and has none: set up between the first proof and the session."""

import pyotp
from aiohttp import web

from gateway.portal.entry import browser, halfway
from gateway.portal.entry.halfway import Halfway
from gateway.portal.entry.identity import people
from gateway.portal.entry.proving import prove_code
from gateway.portal.entry.sealing import sealed, unsealed
from gateway.portal.own.security import fresh_recovery_codes, shown
from gateway.portal.web.bodies import form_fields
from gateway.portal.web.pages import render
from gateway.portal.web.problem import Problem
from policies.people import Step
from storage.ports import AlreadyExists

routes = web.RouteTableDef()


@routes.get("/auth/mfa/setup")
async def offer(request: web.Request) -> web.Response:
    """The secret, to be confirmed by a code. A new one each time until then."""
    half = await _half(request)
    was_offered = await people(request).second_factor(half.proven.person.id) is not None
    secret = pyotp.random_base32()
    try:
        await people(request).offer_second_factor(half.proven.person.id, sealed(request, secret, half.proven.person.id))
    except AlreadyExists as error:
        raise web.HTTPSeeOther("/auth/mfa") from error
    return _page(request, half, secret, None, was_offered=was_offered)


@routes.post("/auth/mfa/setup")
async def take(request: web.Request) -> web.Response:
    """Confirm it. The session begins, and the recovery codes are shown, this once."""
    half = await _half(request)
    person = half.proven.person
    factor = await people(request).second_factor(person.id)
    if factor is None or factor.confirmed:
        raise web.HTTPSeeOther("/auth/mfa")
    try:
        method = await prove_code(request, person, (await form_fields(request)).get("code", "")[:64])
    except Problem as problem:
        return _page(request, half, unsealed(request, factor.sealed, person.id), problem)
    codes = await fresh_recovery_codes(request, person.id)
    secret = await halfway.session(request, half.proven.and_by(method), half.connects)
    response = render(request, "mfa_codes.html", title="Recovery codes", codes=codes, goal=half.goal)
    browser.set_cookie(request, response, secret)
    await halfway.forget(request, response)
    return response


async def _half(request: web.Request) -> Halfway:
    half = await halfway.paused(request)
    if half is None or half.proven.next_step is not Step.SET_UP:
        raise web.HTTPSeeOther(halfway.OVER if half is None else "/auth/mfa")
    return half


def _page(
    request: web.Request, half: Halfway, secret: str, problem: Problem | None, *, was_offered: bool = False
) -> web.Response:
    return render(
        request, "mfa_setup.html", title="Set up a second factor", problem=problem, tenant=half.proven.place.name,
        goal=half.goal, was_offered=was_offered, **shown(secret, half.proven.person.email),
    )  # fmt: skip
