"""The passkeys of whoever is signed in: made, renamed, removed."""

from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from gateway.portal.entry import browser
from gateway.portal.entry.identity import identities
from gateway.portal.entry.passkeys.ceremony import Owner, json_response, registered, registration, stored
from gateway.portal.mail import letters
from gateway.portal.mail.posting import post
from gateway.portal.own.account import back, own
from gateway.portal.own.security import told_there
from gateway.portal.parts import PARTS
from gateway.portal.web.bodies import form_fields, read_json
from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal
from storage.ports import AlreadyExists

routes = web.RouteTableDef()


class Made(BaseModel):
    """What the browser gives for a new one (RegistrationResponseJSON)."""

    model_config = ConfigDict(extra="forbid")

    credential: dict[str, Any]
    name: str = Field("", max_length=100)


@routes.post("/account/passkeys/options")
async def options(request: web.Request) -> web.Response:
    """What to ask the authenticator."""
    session = await browser.required_fresh(request)
    account = await own(request, session)
    known = await stored(request).of(session.user_id)
    owner = Owner(id=session.user_id, email=account.person.email, name=account.person.name)
    return json_response(await registration(request, owner, list(known), session.id))


@routes.post("/account/passkeys")
async def add(request: web.Request) -> web.Response:
    """Keep it."""
    session = await browser.required_fresh(request)
    account = await own(request, session)
    sent = await read_json(request, Made)
    made = await registered(request, session.user_id, sent.credential, session.id, sent.name)
    try:
        await stored(request).add(session.user_id, account.person.email, made)
    except AlreadyExists as error:
        raise Problem(Refusal.ALREADY_EXISTS, str(error)) from error
    except ValueError as error:
        raise Problem(Refusal.INVALID_INPUT, fields={"name": f"{str(error).capitalize()}."}) from error
    await post(request, account.person.email, *letters.way_added(request.app[PARTS].public_url, "A passkey"))
    return json_response('{"location": "/account/security?done=passkey"}', 201)


@routes.post("/account/passkeys/rename")
@told_there
async def rename(request: web.Request) -> web.Response:
    """Call it something else."""
    session = await browser.required(request)
    fields = await form_fields(request)
    try:
        done = await stored(request).rename(session.user_id, fields.get("id", ""), fields.get("name", "")[:100])
    except ValueError as error:
        raise Problem(Refusal.INVALID_INPUT, fields={"name": f"{str(error).capitalize()}."}) from error
    if not done:
        raise Problem(Refusal.NOT_FOUND)
    return back("/account/security", "passkey")


@routes.post("/account/passkeys/remove")
@told_there
async def remove(request: web.Request) -> web.Response:
    """Not the last way to sign in, nor the last second factor where one is asked for."""
    session = await browser.required_fresh(request)
    person, places = (account := await own(request, session)).person, account.places
    is_last = len(await stored(request).of(person.id)) == 1
    if is_last and not person.has_second_factor and any(one.asks_second_factor for one in places):
        raise Problem(Refusal.SECOND_FACTOR_NEEDED)
    if is_last and not person.has_password and not await identities(request).of(person.id):
        raise Problem(Refusal.IN_USE, "It is the only way in which you can sign in. Set a password first.")
    if not await stored(request).remove(person.id, person.email, (await form_fields(request)).get("id", "")):
        raise Problem(Refusal.NOT_FOUND)
    return back("/account/security", "passkey-removed")
