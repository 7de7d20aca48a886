"""Proofs by a passkey: alone, as it is two factors in one; after the password; or anew, by whoever is signed in."""

from typing import Any

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from gateway.portal.entry import browser, halfway, login
from gateway.portal.entry.identity import people, sessions
from gateway.portal.entry.passkeys.ceremony import answered, go_to, json_response, question, stored
from gateway.portal.entry.proving import limit
from gateway.portal.web.bodies import read_json
from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal
from policies.people import Proven, Step, safe_next

routes = web.RouteTableDef()

FREE_TRIES = 60
_LOGIN, _SECOND, _AGAIN = "login", "second", "again"


class Answer(BaseModel):
    """What the browser gives (AuthenticationResponseJSON), and what else the page says."""

    model_config = ConfigDict(extra="forbid")

    credential: dict[str, Any]
    next: str = Field("", max_length=2_048)
    trust: bool = False


@routes.post("/auth/passkey/options")
async def options(request: web.Request) -> web.Response:
    """What to ask for."""
    await limit(request, "passkey", free=FREE_TRIES)
    return json_response(await question(request, _LOGIN))


@routes.post("/auth/passkey")
async def sign_in(request: web.Request) -> web.Response:
    """The session."""
    await limit(request, "passkey", free=FREE_TRIES)
    sent = await read_json(request, Answer)
    try:
        passkey = await answered(request, _LOGIN, sent.credential)
    except Problem:
        await people(request).note("login.failed", "", "", {"by": "passkey"})
        raise
    account = await people(request).account_of(passkey.user_id)
    place = next((one for one in account.places if one.active), None) if account is not None else None
    if account is None or place is None or not account.may_sign_in:
        raise Problem(Refusal.PASSKEY_FAILED)
    goal = safe_next(sent.next, browser.HOME)
    proven = Proven(person=account.person, place=place, methods=("pop", "mfa"))
    return go_to(await halfway.go_on(request, proven, goal))


@routes.post("/auth/mfa/passkey/options")
async def second_options(request: web.Request) -> web.Response:
    """What to ask for after the password: one of this person's."""
    half = await _half(request)
    return json_response(await question(request, _SECOND, list(await stored(request).of(half.proven.person.id))))


@routes.post("/auth/mfa/passkey")
async def second(request: web.Request) -> web.Response:
    """The session."""
    half = await _half(request)
    await limit(request, "passkey", half.proven.person.id, free=FREE_TRIES)
    sent = await read_json(request, Answer)
    passkey = await answered(request, _SECOND, sent.credential)
    if passkey.user_id != half.proven.person.id:
        raise Problem(Refusal.PASSKEY_FAILED)
    return go_to(await login.finish(request, half, "pop", trusting=sent.trust))


@routes.post("/account/confirm/passkey/options")
async def confirm_options(request: web.Request) -> web.Response:
    """What to ask who is signed in already, for what needs a fresh proof: one of this person's."""
    session = await browser.required(request)
    await limit(request, "passkey", session.user_id, free=FREE_TRIES)
    return json_response(await question(request, _AGAIN, list(await stored(request).of(session.user_id))))


@routes.post("/account/confirm/passkey")
async def confirm(request: web.Request) -> web.Response:
    """Note the proof, and on to where it was asked for."""
    session = await browser.required(request)
    await limit(request, "passkey", session.user_id, free=FREE_TRIES)
    sent = await read_json(request, Answer)
    passkey = await answered(request, _AGAIN, sent.credential)
    if passkey.user_id != session.user_id:
        raise Problem(Refusal.PASSKEY_FAILED)
    await sessions(request).listed.authenticated(session.id)
    return json_response(orjson.dumps({"location": safe_next(sent.next, browser.HOME)}).decode())


async def _half(request: web.Request) -> halfway.Halfway:
    half = await halfway.paused(request)
    if half is None or half.proven.next_step is not Step.PROVE:
        raise Problem(Refusal.LOGIN_REQUIRED)
    return half
