"""Cursors: where a list goes on. Opaque and sealed, and good for the very list, filters included, that gave them."""

import base64
import binascii
import hmac
from collections.abc import Callable, Sequence
from typing import Generic, Literal, Protocol, TypeVar

import orjson
from pydantic import BaseModel, Field, PrivateAttr

from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal

_Item = TypeVar("_Item")
_SEAL_BYTES = 12
LONGEST = 200


class Paged(BaseModel):
    """The query of a list."""

    limit: int = Field(default=50, ge=1, le=LONGEST, description="How many at most.")
    cursor: str = Field(
        default="", max_length=1_024, description="`next_cursor` of the page before; empty for the first page."
    )


class ByAge(Paged):
    """The query of a list whose newest come first if nothing else is said."""

    sort: Literal["-created", "created"] = Field(default="-created", description="Newest first, or oldest.")


class OldestFirst(Paged):
    """The query of a list whose oldest come first if nothing else is said."""

    sort: Literal["created", "-created"] = Field(default="created", description="Oldest first, or newest.")


class ByEmail(Paged):
    """The query of a list of people."""

    sort: Literal["email", "created", "-created"] = Field(
        default="email", description="By e-mail, oldest first, or newest first."
    )


class ByName(Paged):
    """The query of a list of what has a name."""

    sort: Literal["name", "created", "-created"] = Field(
        default="name", description="By name, oldest first, or newest first."
    )


class Sorted(Protocol):
    """The query of any list."""

    limit: int
    cursor: str

    @property
    def sort(self) -> str:
        """The order of the list; falling with a minus before it."""
        ...


class Page(BaseModel, Generic[_Item]):
    """One page of a list."""

    data: list[_Item]
    next_cursor: str | None = Field(description="Where the list goes on; null at its end.")
    _whole: BaseModel | None = PrivateAttr(default=None)

    def of(self, whole: BaseModel) -> "Page[_Item]":
        """This page, with the version of the whole list that it is a page of."""
        self._whole = whole
        return self

    @property
    def versioned(self) -> BaseModel:
        """What the page's ``ETag`` is the version of."""
        return self._whole or self


class Cursors:
    """Seals and opens the cursors of one list. ``list_name`` says which: operation, tenant, path, filters and order."""

    def __init__(self, key: bytes, list_name: str) -> None:
        self._key = key
        self._list = list_name

    def seal(self, position: Sequence[str | int]) -> str:
        """The cursor of a position: the sort key of the last item shown."""
        body = orjson.dumps(position)
        return base64.urlsafe_b64encode(self._tag(body) + body).decode().rstrip("=")

    def open(self, cursor: str) -> list[str | int] | None:
        """The position; None for the first page. Raises Problem for what this list has not given."""
        if not cursor:
            return None
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            tag, body = raw[:_SEAL_BYTES], raw[_SEAL_BYTES:]
            if hmac.compare_digest(tag, self._tag(body)):
                return list(orjson.loads(body))
        except (binascii.Error, ValueError):
            pass
        raise Problem(Refusal.INVALID_INPUT, fields={"cursor": "This list has not given this cursor. Begin anew."})

    def beyond(self, cursor: str) -> str | int | None:
        """The position in a list that goes by one value; None for the first page. Raises Problem."""
        last = self.open(cursor)
        return None if last is None else last[0]

    def cut(
        self, items: Sequence[_Item], query: Sorted, key: Callable[[_Item], tuple[str, ...]]
    ) -> tuple[list[_Item], str | None]:
        """A page of a short list that is here whole, and the next cursor; ``key`` is unique. Raises Problem."""
        falling = query.sort.startswith("-")
        opened = self.open(query.cursor)
        last = tuple(map(str, opened)) if opened else None
        rest = [
            item
            for item in sorted(items, key=key, reverse=falling)
            if last is None or (key(item) < last if falling else key(item) > last)
        ]
        page = self.page(rest[: query.limit + 1], query.limit, [key(item) for item in rest])
        return page.data, page.next_cursor

    def page(self, items: Sequence[_Item], limit: int, position: Sequence[Sequence[str | int]]) -> Page[_Item]:
        """A page of ``items``, of which one more than ``limit`` were asked for; ``position`` are their sort keys."""
        more = len(items) > limit
        return Page(data=list(items[:limit]), next_cursor=self.seal(position[limit - 1]) if more else None)

    def _tag(self, body: bytes) -> bytes:
        return hmac.digest(self._key, self._list.encode() + b"\0" + body, "sha256")[:_SEAL_BYTES]
