"""ETags: which version of a thing somebody has seen, so that two who change it at once do not undo each other.

Strong validators over the representation (RFC 9110 section 8.8.3); a change may carry ``If-Match`` (section 13.1.1).
"""

import hashlib

from aiohttp import web
from pydantic import BaseModel

from gateway.portal.api.paging import Page
from gateway.portal.problems import Problem
from policies.verdict import Refusal


def etag(shown: BaseModel) -> str:
    """The validator of what is shown, with its quotes; of a page that says so, of the whole list."""
    versioned = shown.versioned if isinstance(shown, Page) else shown
    return f'"{hashlib.sha256(versioned.model_dump_json().encode()).hexdigest()[:32]}"'


def check(request: web.Request, current: BaseModel) -> None:
    """Raises Problem when the request is meant for another version than the current one."""
    wanted = request.headers.getall("If-Match", [])
    tags = [tag.strip() for line in wanted for tag in line.split(",")]
    if tags and "*" not in tags and etag(current) not in tags:
        raise Problem(Refusal.STALE_VERSION)


def is_known(request: web.Request, shown: BaseModel) -> bool:
    """Whether the caller has this version already (``If-None-Match``, section 13.1.2)."""
    lines = request.headers.getall("If-None-Match", [])
    tags = [tag.strip().removeprefix("W/") for line in lines for tag in line.split(",")]
    return "*" in tags or etag(shown) in tags
