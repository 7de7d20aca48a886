"""Between the first proof and the session: who must still give a second factor, or set one up, waits here for minutes.

There is no session until then, so that nothing else can be done with half a log-in.
"""

from dataclasses import dataclass
from datetime import datetime

from aiohttp import web

from gateway.portal.entry import browser
from gateway.portal.entry.identity import people, sessions
from gateway.portal.entry.oidc import pending
from gateway.portal.entry.oidc.pending import Pending
from gateway.portal.entry.slips import LIFE_S, Slip
from gateway.portal.entry.trusted import is_trusted
from gateway.portal.oauth.parts import OAUTH
from gateway.portal.parts import PARTS
from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal
from policies.people import SET_UP_S, Person, Proven, Step
from storage.ports import AlreadyExists, NotFound

OVER = "/auth/login?said=over"
"""Where a half log-in leads that has lapsed."""
_SLIP = Slip("tahoe_challenge", "halfway", "challenges")


@dataclass(frozen=True, slots=True, kw_only=True)
class Halfway:
    """A log-in whose first half is done: what was proved, and where it was to go.

    ``connects``: what its person has consented to, and is done with the session.
    """

    proven: Proven
    goal: str
    connects: Pending | None


async def go_on(request: web.Request, proven: Proven, goal: str, connects: Pending | None = None) -> web.Response:
    """The session, or on to what is missing."""
    if proven.next_step is Step.PROVE and await is_trusted(request, proven.person.id):
        proven = proven.and_by("browser")
    match proven.next_step:
        case Step.PROVE:
            return await _pause(request, proven, goal, connects, "/auth/mfa")
        case Step.SET_UP:
            return await _pause(request, proven, goal, connects, "/auth/mfa/setup", life_s=SET_UP_S)
        case Step.DONE:
            return await begin(request, proven, goal, connects)


async def begin(request: web.Request, proven: Proven, goal: str, connects: Pending | None) -> web.Response:
    """The session, and on to the goal; a half log-in of this browser is over."""
    secret = await session(request, proven, connects)
    response = web.Response(status=303, headers={"Location": goal})
    browser.set_cookie(request, response, secret)
    await forget(request, response)
    return response


async def session(request: web.Request, proven: Proven, connects: Pending | None) -> str:
    """Its secret. What the person has consented to is done in the same transaction. Raises Problem."""
    if connects is None:
        return (await browser.begin(request, proven))[1]
    try:
        _, secret = await browser.begin(request, proven, pending.linking(request, connects, proven.person))
    except AlreadyExists as error:
        raise Problem(Refusal.PROVIDER_TAKEN) from error
    except NotFound as error:
        raise Problem(Refusal.PROVIDER_FAILED) from error
    provider = pending.provider_of(request, connects)
    await pending.tell(request, proven.person, provider.label if provider is not None else connects.provider)
    return secret


async def paused(request: web.Request) -> Halfway | None:
    """The half log-in of this browser, as things are now. Raises Unavailable."""
    kept = await _SLIP.read(request)
    if kept is None:
        return None
    user_id, continued, at = kept["user_id"], kept["continues"], kept["at"]
    if kept["since_s"] <= _ended_s(request, user_id):
        return None
    account = await people(request).account_of(user_id)
    connecting = pending.read(kept["connects"])
    if connecting is not None and connecting.until_s <= request.app[PARTS].now().timestamp():
        return None  # before a second factor is made that no log-in would follow
    if account is not None and kept["password"] != _password_of(account.person):
        return None  # the password that was given is not the password any more
    place = (
        next((p for p in account.places if p.tenant_id == kept["tenant_id"] and p.active), None) if account else None
    )
    if account is None or place is None or not account.may_sign_in:
        return None
    living = await sessions(request).listed.of(user_id) if continued else ()
    continues = next((one for one in living if one.id == continued), None)
    if continued and continues is None:
        return None  # nothing goes on from a session that has ended
    proved_at = datetime.fromisoformat(at) if at else None
    methods = tuple(kept["methods"])
    proven = Proven(person=account.person, place=place, methods=methods, at=proved_at, continues=continues)
    return Halfway(proven=proven, goal=kept["goal"], connects=connecting)


async def forget(request: web.Request, response: web.Response) -> None:
    """It is over."""
    await _SLIP.forget(request, response)


async def _pause(
    request: web.Request, proven: Proven, goal: str, connects: Pending | None, where: str, life_s: int = LIFE_S
) -> web.Response:
    """Have it wait. A proof that is given then makes a fresh session; a factor that is made then proves nothing."""
    person, continues = proven.person, proven.continues
    at = (proven.at or request.app[PARTS].now()) if proven.next_step is Step.SET_UP else None
    kept = {
        "user_id": person.id,
        "tenant_id": proven.place.tenant_id,
        "methods": proven.methods,
        "goal": goal,
        "password": _password_of(person),
        "connects": connects,
        "at": at,
        "continues": continues.id if continues is not None else "",
        "since_s": max(int(request.app[PARTS].now().timestamp()), _ended_s(request, person.id) + 1),
    }
    response = web.Response(status=303, headers={"Location": where})
    await _SLIP.leave(request, response, kept, life_s)
    return response


def _ended_s(request: web.Request, user_id: str) -> int:
    """The second up to which all that the person has begun is over: signed out everywhere, or shut out."""
    return request.app[OAUTH].tokens.state.not_before(user_id)


def _password_of(person: Person) -> str:
    """Another one for each password that the person has had."""
    return person.password_changed_at.isoformat() if person.password_changed_at else ""
