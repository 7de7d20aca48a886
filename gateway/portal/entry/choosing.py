"""Choosing a password: judged, hashed off the loop, and told to its owner when it replaces another."""

from collections.abc import Sequence

from aiohttp import web
from pydantic import BaseModel, Field

from gateway.identity.passwords import SHORTEST, SHORTEST_WITH_SECOND_FACTOR
from gateway.portal.entry import browser
from gateway.portal.entry.identity import IDENTITY, people
from gateway.portal.entry.proving import limit
from gateway.portal.entry.strength import Strength, strength
from gateway.portal.web.bodies import form_fields, read_json
from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal

routes = web.RouteTableDef()

_FREE_JUDGEMENTS = 60


async def judged(
    request: web.Request, password: str, *, about: Sequence[str] = (), second_factor: bool = False
) -> Strength:
    """How good a password is; zxcvbn takes milliseconds, so on the threads of the hashes. Raises Unavailable."""
    shortest = SHORTEST_WITH_SECOND_FACTOR if second_factor else SHORTEST
    return await request.app[IDENTITY].hashing.run(lambda: strength(password, shortest=shortest, about=about))


async def hashed(request: web.Request, password: str, *, about: Sequence[str] = (), second_factor: bool = False) -> str:
    """What to store of a password that may be taken. Raises Problem with the reason at the field ``password``."""
    found = await judged(request, password, about=about, second_factor=second_factor)
    if found.fault:
        raise Problem(Refusal.INVALID_INPUT, fields={"password": " ".join((found.fault, *found.advice))})
    shortest = SHORTEST_WITH_SECOND_FACTOR if second_factor else SHORTEST
    return await request.app[IDENTITY].hashing.hash(password, shortest=shortest)


class Candidate(BaseModel):
    """A password that somebody thinks of. It is judged and forgotten."""

    password: str = Field(max_length=8_192)
    about: list[str] = Field(default_factory=list, max_length=4)


@routes.post("/auth/strength")
async def meter(request: web.Request) -> web.Response:
    """The strength meter: evaluated here, so that every page and program has the same."""
    await limit(request, "strength", free=_FREE_JUDGEMENTS)
    candidate = await read_json(request, Candidate)
    session = await browser.current(request)
    factor = await people(request).second_factor(session.user_id) if session is not None else None
    second_factor = factor is not None and factor.confirmed
    about = [text[:254] for text in candidate.about]
    found = await judged(request, candidate.password, about=about, second_factor=second_factor)
    return web.json_response(
        {"score": found.score, "word": found.word, "ok": not found.fault, "fault": found.fault, "advice": found.advice}
    )


async def new_password(request: web.Request) -> tuple[dict[str, str], str]:
    """The fields of a form with a new password, which stands there twice. Raises Problem when the two differ."""
    fields = await form_fields(request)
    password = fields.get("password", "")[:8_192]
    if fields.get("again", password) != password:
        raise Problem(Refusal.INVALID_INPUT, fields={"again": "This is not the same password."})
    return fields, password
