"""An invitation accepted with a passkey: made for somebody who is new, in the transaction that makes the person."""

from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from gateway.portal.entry.joining import FREE_TRIES, join, pending_new
from gateway.portal.entry.passkeys.ceremony import Owner, go_to, json_response, registered, registration, stored
from gateway.portal.entry.proving import limit
from gateway.portal.web.bodies import read_json
from gateway.portal.web.crosssite import token
from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal
from policies.people import Invitation
from storage.ports import AlreadyExists
from storage.postgres.address import Connection
from storage.postgres.tenants.invitations import newcomer

routes = web.RouteTableDef()

_PATH = "/auth/invite/{secret}/passkey"


class Joining(BaseModel):
    """What the browser gives (RegistrationResponseJSON), and what the person is called."""

    model_config = ConfigDict(extra="forbid")

    credential: dict[str, Any]
    name: str = Field(max_length=200)


@routes.post(f"{_PATH}/options")
async def options(request: web.Request) -> web.Response:
    """What to ask the authenticator."""
    invitation = await _new(request)
    owner = Owner(id=newcomer(invitation), email=invitation.email, name="")
    return json_response(await registration(request, owner, [], _bound(request, invitation)))


@routes.post(_PATH)
async def accept(request: web.Request) -> web.Response:
    """Keep it, and join: the session is that of a log-in with it."""
    invitation = await _new(request)
    sent = await read_json(request, Joining)
    made = await registered(request, newcomer(invitation), sent.credential, _bound(request, invitation))

    async def keep(connection: Connection, user_id: str) -> None:
        await stored(request).add_in(connection, user_id, invitation.email, made)

    try:
        return go_to(await join(request, request.match_info["secret"], sent.name.strip(), keep, ("pop", "mfa")))
    except AlreadyExists as error:
        raise Problem(Refusal.ALREADY_EXISTS, str(error)) from error
    except ValueError as error:
        raise Problem(Refusal.INVALID_INPUT, f"{error}.", fields={"name": f"{error}."}) from error


async def _new(request: web.Request) -> Invitation:
    """The invitation of somebody who has no account yet. Raises Problem."""
    await limit(request, "invite", free=FREE_TRIES)
    return await pending_new(request, request.match_info["secret"])


def _bound(request: web.Request, invitation: Invitation) -> str:
    """A challenge is answered for this invitation, in the browser that asked."""
    return f"{invitation.id}:{token(request)}"
