"""Calls of stock SDKs for a temporary token, on routes with ``grants``: answered with a ticket of the gateway.

Each service's question and answer is one class. What is asked beyond that is refused and not dropped. Lifetimes are
those of the service, up to ten minutes; where an answer says one, it is the true one. A ticket whose place is a URL is
good once, the others many times.

Sources: developers.deepgram.com/reference/auth/tokens/grant, docs.speechmatics.com/get-started/authentication,
assemblyai.com/docs/streaming/authenticate-with-a-temporary-token, elevenlabs.io/docs/api-reference/tokens/create,
developers.openai.com/api/reference/resources/realtime/subresources/client_secrets; November 2026.
"""

import json
import secrets
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from gateway.dataplane.responses import refusal_body
from gateway.portal.caller import caller, request_id
from gateway.portal.tickets import Issued, Terms, issue
from gateway.portal.web.bodies import validated
from gateway.portal.web.crosssite import exempt
from gateway.portal.web.problem import Problem
from gateway.portal.web.shield import as_service
from policies.http.tickets import LONGEST_S
from policies.http.verdict import Deny, Refusal
from policies.identity import strict_json
from policies.routing.route_table import RouteTable
from policies.routing.routes import Route
from storage.ports import Unavailable

_LONGEST_FIRST = 8_192
"""Characters of a session's configuration: it lies in Redis with its ticket, of which there may be thousands."""
_TOO_LONG = (
    f"It has more than {_LONGEST_FIRST} characters. Leave some of it to the page, which sends a session.update itself."
)
_MOST_FAULTS, _LONGEST_NAME = 5, 64
"""Of what a refusal tells: a body can have thousands of names that nobody knows."""


class _Call(BaseModel, ABC):
    """One service's question: what its query and its body say together."""

    model_config = ConfigDict(extra="forbid")

    @property
    def terms(self) -> Terms:
        """What is asked for."""
        return Terms(life_s=LONGEST_S)

    @abstractmethod
    def answer(self, issued: Issued) -> dict[str, object]:
        """What the service would say."""


class _Deepgram(_Call):
    """``POST /v1/auth/grant``. Its SDK for Node connects again with the same token."""

    ttl_seconds: float = Field(30, ge=1, le=3_600)

    @property
    def terms(self) -> Terms:
        return Terms(life_s=int(self.ttl_seconds), reusable=True)

    def answer(self, issued: Issued) -> dict[str, object]:
        return {"access_token": issued.text, "expires_in": issued.life_s}


class _AssemblyAI(_Call):
    """``GET /v3/token``."""

    expires_in_seconds: int = Field(ge=1, le=600)
    max_session_duration_seconds: int | None = Field(None, ge=60, le=10_800)

    @property
    def terms(self) -> Terms:
        return Terms(life_s=self.expires_in_seconds, longest_s=self.max_session_duration_seconds)

    def answer(self, issued: Issued) -> dict[str, object]:
        return {"token": issued.text, "expires_in_seconds": issued.life_s}


class _ElevenLabs(_Call):
    """``POST /v1/single-use-token/realtime_scribe``: nothing is asked; there a token lasts for 15 minutes."""

    def answer(self, issued: Issued) -> dict[str, object]:
        return {"token": issued.text}


class _Speechmatics(_Call):
    """``POST /v1/api_keys?type=rt``. The region is the gateway's own, and a reference is for jobs."""

    type: Literal["rt"]
    ttl: int = Field(60, ge=60, le=86_400)
    region: str | None = None
    client_ref: str | None = None

    @property
    def terms(self) -> Terms:
        return Terms(life_s=self.ttl)

    def answer(self, issued: Issued) -> dict[str, object]:
        return {"apikey_id": None, "key_value": issued.text}


class _Expiry(BaseModel):
    model_config = ConfigDict(extra="forbid")
    anchor: Literal["created_at"] = "created_at"
    seconds: int = Field(default=600, ge=10, le=7_200)


class _Session(BaseModel):
    """What it says beside these is for the upstream to judge, as in a ``session.update``."""

    model_config = ConfigDict(extra="allow")
    type: Literal["realtime", "transcription"] = "realtime"
    model: str | None = None


class _OpenAI(_Call):
    """``POST /v1/realtime/client_secrets``. There a secret makes sessions until it expires.

    And they are configured as it says, until their client configures them anew. The model is not: it stands in the
    stream's address, and no ``session.update`` may change it.
    """

    expires_after: _Expiry = _Expiry()
    session: _Session = _Session()

    @property
    def terms(self) -> Terms:
        return Terms(life_s=self.expires_after.seconds, reusable=True, first=self._first)

    @property
    def _first(self) -> str:
        said = self.session
        if said.type == "realtime" and not said.model_extra:
            return ""
        first = json.dumps({"type": "session.update", "session": said.model_dump(exclude={"model"})})
        if len(first) > _LONGEST_FIRST:
            raise Problem(Refusal.INVALID_INPUT, fields={"session": _TOO_LONG})
        return first

    def answer(self, issued: Issued) -> dict[str, object]:
        kind = "realtime.session" if self.session.type == "realtime" else "realtime.transcription_session"
        session = self.session.model_dump(exclude_unset=True) | {"type": self.session.type}
        session |= {"id": f"sess_{secrets.token_hex(12)}", "object": kind}
        return {"value": issued.text, "expires_at": issued.expires_at, "session": session}


_CALLS: Mapping[str, type[_Call]] = {
    "openai": _OpenAI, "deepgram": _Deepgram, "assemblyai": _AssemblyAI, "speechmatics": _Speechmatics,
    "elevenlabs": _ElevenLabs,
}  # fmt: skip
"""By the dialect of the route."""


def setup(app: web.Application, table: RouteTable) -> None:
    """A handler for every route of the table with ``grants``."""
    by_name = {route.name: route for route in table.routes}
    for route in table.routes:
        for method in route.methods if route.grants else ():
            app.router.add_route(method, route.path, _handler(route, [by_name[name] for name in route.grants]))


def _handler(route: Route, granted: list[Route]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        as_service(request)
        if not caller(request).is_known:
            return _refused(request, route, Problem(Refusal.MISSING_CREDENTIAL))
        try:
            call = validated(_CALLS[route.dialect], await _said(request))
            issued = await issue(request, granted, call.terms)
        except Problem as problem:
            return _refused(request, route, problem)
        except Unavailable:
            return _refused(request, route, Problem(Refusal.STORE_UNAVAILABLE, headers={"Retry-After": "2"}))
        return web.json_response(call.answer(issued))

    exempt(handle)  # whoever asks has a credential: cookies do not count here
    return handle


async def _said(request: web.Request) -> dict[str, Any]:
    """The fields of the query and of a JSON body, if there is one; none of them twice."""
    pairs, body = list(request.query.items()), await request.read()
    if body:
        if request.content_type != "application/json":
            raise Problem(Refusal.NOT_JSON)
        try:
            said = strict_json.read(body.decode("utf-8"))
        except ValueError as error:
            raise Problem(Refusal.INVALID_INPUT, "The body is not well-formed JSON, or says a name twice.") from error
        if not isinstance(said, dict):
            raise Problem(Refusal.INVALID_INPUT, "The body is an object.")
        pairs += said.items()
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Problem(Refusal.INVALID_INPUT, "A name is there more than once.")
    return found


def _refused(request: web.Request, route: Route, problem: Problem) -> web.Response:
    """In the shape that the route's clients know; what is wrong with the first fields is told behind their names."""
    told = islice(problem.fields.items(), _MOST_FAULTS)
    wrong = " ".join(f"{name[:_LONGEST_NAME]}: {sentence.removesuffix('.')}." for name, sentence in told)
    deny = Deny(refusal=problem.refusal, detail=problem.detail or wrong)
    body = refusal_body(deny, request_id(request), route.dialect)
    made = web.Response(body=body, status=problem.refusal.status, content_type="application/json")
    made.headers.update(problem.headers)
    if problem.refusal.status == 401:
        made.headers["WWW-Authenticate"] = 'Bearer realm="tahoe-gateway"'
    return made
