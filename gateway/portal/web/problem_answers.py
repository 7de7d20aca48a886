"""Errors: RFC 9457 problems for programs, a page for browsers. Every one is a refusal of ``policies.http.verdict``."""

from urllib.parse import quote

import orjson
import structlog
from aiohttp import web

from gateway.dataplane.error_page import OTHER, TITLES
from gateway.dataplane.responses import PROBLEM_TYPE
from gateway.portal.caller import came_from, request_id
from gateway.portal.web.pages import render
from gateway.portal.web.problem import Handler, Problem
from policies.http.browsers import LOGIN
from policies.http.verdict import Refusal
from policies.people import safe_next
from storage.ports import ExceedsOwner, Full, Rejected, Unavailable

_log = structlog.get_logger("gateway.portal")

_BY_STATUS = {404: Refusal.UNKNOWN_ROUTE, 413: Refusal.BODY_TOO_LARGE}


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into an answer."""
    try:
        return await handler(request)
    except Problem as problem:
        return answer(request, problem)
    except Unavailable as error:
        _log.warning("a store cannot be asked", reason=str(error), request_id=request_id(request))
        return answer(request, Problem(Refusal.STORE_UNAVAILABLE, headers={"Retry-After": "2"}))
    except Full as error:
        return answer(request, Problem(Refusal.MAXIMUM_REACHED, str(error)))
    except ExceedsOwner as error:
        return answer(request, Problem(Refusal.INVALID_INPUT, fields={"scopes": str(error)}))
    except Rejected as error:
        return answer(request, Problem(Refusal.INVALID_INPUT, str(error)))
    except web.HTTPException as error:
        made = _of_router(request, error)
        if made is None:
            raise
        return made
    except Exception:  # noqa: BLE001  the last resort for our own bugs: logged whole, answered 500
        _log.exception("a request failed inside the portal", request_id=request_id(request))
        return answer(request, Problem(Refusal.INTERNAL_ERROR))


def _of_router(request: web.Request, error: web.HTTPException) -> web.Response | None:
    """What aiohttp says itself, in our words; ``OPTIONS`` is told what there is (RFC 9110 section 9.3.7)."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allow = {"Allow": ", ".join(sorted({*error.allowed_methods, "OPTIONS"}))}
        if request.method == "OPTIONS":
            return web.Response(status=204, headers=allow)
        return answer(request, Problem(Refusal.METHOD_NOT_ALLOWED, headers=allow))
    refusal = _BY_STATUS.get(error.status)
    return None if refusal is None else answer(request, Problem(refusal))


def answer(request: web.Request, problem: Problem) -> web.Response:
    """The problem as whoever asks can read it."""
    if wants_page(request):
        made = render(
            request,
            "problem.html",
            title=TITLES.get(problem.refusal.status, OTHER),
            problem=problem,
            told=_told(request, problem),
            request_id=request_id(request),
            onward=_onward(request, problem.refusal),
        )
    else:
        made = web.Response(
            body=orjson.dumps(_document(request, problem)),
            status=problem.refusal.status,
            content_type="application/problem+json",
        )
    made.headers.update(problem.headers)
    if problem.refusal.status == 401:
        made.headers["WWW-Authenticate"] = 'Bearer realm="tahoe-gateway"'
    return made


def _told(request: web.Request, problem: Problem) -> str:
    """What a person reads: whose session ended over a form knows of no credential, and asks whether it was done."""
    if problem.refusal is Refusal.LOGIN_REQUIRED and request.method == "POST":
        return "Your session has ended, so nothing was changed. Sign in, and fill in the form once more."
    return problem.for_people


def _onward(request: web.Request, refusal: Refusal) -> tuple[str, str]:
    """Where a person goes on from the page, and what its button says."""
    came = came_from(request)
    match refusal:
        case Refusal.LINK_INVALID if request.path.startswith("/auth/reset/"):
            return "/auth/forgot", "Ask for a new link"
        case Refusal.LOGIN_REQUIRED:
            goal = safe_next(came, "")
            return f"{LOGIN}?next={quote(goal, safe='/')}" if goal else LOGIN, "Sign in"
        case Refusal.FORM_EXPIRED if came:
            return came, "Open the page again"
        case Refusal.STORE_UNAVAILABLE if request.method == "GET":
            return request.rel_url.raw_path_qs, "Try again"
        case Refusal.STORE_UNAVAILABLE if came:
            return came, "Open the page again"
        case _:
            return "/account", "Your account"


def wants_page(request: web.Request) -> bool:
    """Whether a person sits there: a browser that asks for a page, anywhere but under the API, and sends no JSON."""
    asks = "text/html" in request.headers.get("Accept", "") and request.content_type != "application/json"
    return asks and not request.path.startswith("/platform/")


def _document(request: web.Request, problem: Problem) -> dict[str, object]:
    document: dict[str, object] = {
        "type": f"{PROBLEM_TYPE}{problem.refusal.code}",
        "title": TITLES.get(problem.refusal.status, OTHER),
        "status": problem.refusal.status,
        "detail": problem.sentences,
        "code": problem.refusal.code,
        "request_id": request_id(request),
    }
    if problem.fields:
        document["errors"] = [{"field": field, "message": message} for field, message in problem.fields.items()]
    return document
