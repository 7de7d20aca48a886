"""Cursors: where a list goes on. Opaque and sealed, and good for the very list, filters included, that gave them."""

import base64
import binascii
import hmac
from collections.abc import Sequence
from typing import Generic, TypeVar

import orjson
from pydantic import BaseModel, Field

from gateway.portal.problems import Problem
from policies.verdict import Refusal

_Item = TypeVar("_Item")
_SEAL_BYTES = 12
LONGEST = 200


class Paged(BaseModel):
    """The query of a list."""

    limit: int = Field(default=50, ge=1, le=LONGEST, description="How many at most.")
    cursor: str = Field(
        default="", max_length=1_024, description="`next_cursor` of the page before; empty for the first page."
    )


class Page(BaseModel, Generic[_Item]):
    """One page of a list."""

    data: list[_Item]
    next_cursor: str | None = Field(description="Where the list goes on; null at its end.")


class Cursors:
    """Seals and opens the cursors of one list. ``list_name`` says which: operation, tenant and filters."""

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

    def page(self, items: Sequence[_Item], limit: int, position: Sequence[Sequence[str | int]]) -> Page[_Item]:
        """A page of ``items``, of which one more than ``limit`` were asked for; ``position`` are their sort keys."""
        more = len(items) > limit
        return Page(data=list(items[:limit]), next_cursor=self.seal(position[limit - 1]) if more else None)

    def _tag(self, body: bytes) -> bytes:
        return hmac.digest(self._key, self._list.encode() + b"\0" + body, "sha256")[:_SEAL_BYTES]
