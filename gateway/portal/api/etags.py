"""ETags: which version of a thing somebody has seen, so that two who change it at once do not undo each other.

A change may carry one in ``If-Match`` (RFC 9110 section 13.1.1), and it is compared when the thing is held, so that
nobody comes in between. It is over what is shown but for what mere use changes, such as when a key was used last: else
nobody could change what is in use. Of what has such a part no 304 is given: the ETag does not tell of that part.
"""

import hashlib
from collections.abc import Sequence
from typing import ClassVar

from aiohttp import web
from pydantic import BaseModel

from gateway.portal.api.paging import Page
from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal


class Versioned(BaseModel):
    """What is shown, and can be told apart from what was there before."""

    by_use: ClassVar[frozenset[str]] = frozenset()
    """The fields that change by use alone."""


def etag(shown: BaseModel) -> str:
    """The validator of what is shown, with its quotes; of a page that says so, of the whole list."""
    versioned = shown.versioned if isinstance(shown, Page) else shown
    text = versioned.model_dump_json(exclude=set(_by_use(versioned)))
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def wanted(request: web.Request) -> list[str]:
    """The versions that the request is meant for; none where it says nothing of that."""
    lines = request.headers.getall("If-Match", [])
    return [tag.strip() for line in lines for tag in line.split(",")]


def check(versions: Sequence[str], current: BaseModel) -> None:
    """Raises Problem when a change is meant for other versions than the current one."""
    if versions and "*" not in versions and etag(current) not in versions:
        raise Problem(Refusal.STALE_VERSION)


def is_known(request: web.Request, shown: BaseModel) -> bool:
    """Whether the caller has this very answer already (``If-None-Match``, section 13.1.2)."""
    if _by_use(shown):
        return False
    lines = request.headers.getall("If-None-Match", [])
    tags = [tag.strip().removeprefix("W/") for line in lines for tag in line.split(",")]
    return "*" in tags or etag(shown) in tags


def _by_use(shown: BaseModel) -> frozenset[str]:
    return shown.by_use if isinstance(shown, Versioned) else frozenset()
