"""``Idempotency-Key`` (draft-ietf-httpapi-idempotency-key-header-07): a creation that is repeated is done once.

The first answer is kept for a day and given again, secrets included: it is encrypted under a key that is derived from
the gateway's secret and the idempotency key itself, of which only a hash is stored. Nothing is kept of a request that
was refused. While the first one runs, a second one is told to wait.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass

from aiohttp import web

from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal
from storage.postgres.idempotency import Found, IdempotencyBook
from storage.sealed import seal, unseal

HEADER = "Idempotency-Key"
_KEY = re.compile(r'"?([\x21\x23-\x7e]{1,255})"?')


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An answer as it was given first."""

    status: int
    body: bytes


class Repeatable:
    """One creation under one idempotency key.

    ``scope`` is the tenant, who asks, and what that one may: a token that may less must not be given what another one
    of the same person has made.
    """

    def __init__(self, book: IdempotencyBook, secret: bytes, *, scope: str, key: str, fingerprint: bytes) -> None:
        self._book = book
        self._key = hmac.digest(secret, key.encode(), "sha256")
        self._id = hashlib.sha256(f"{scope}\0{key}".encode()).digest()
        self._fingerprint = fingerprint

    async def begin(self) -> Kept | None:
        """None: it is this caller's to do. Otherwise the answer that was given. Raises Problem."""
        found = await self._book.begin(self._id, self._fingerprint)
        if found is None:
            return None
        if not hmac.compare_digest(found.fingerprint, self._fingerprint):
            raise Problem(Refusal.IDEMPOTENCY_KEY_REUSED)
        if found.body is None:
            raise Problem(Refusal.IDEMPOTENT_REQUEST_RUNNING, headers={"Retry-After": "1"})
        return Kept(status=found.status, body=self._opened(found))

    async def keep(self, answer: Kept) -> None:
        """Keep the answer for those who repeat the request."""
        await self._book.keep(self._id, answer.status, seal(self._key, answer.body, self._id.hex()))

    async def forget(self) -> None:
        """Nothing was done: whoever asks again may do it."""
        await self._book.forget(self._id)

    def _opened(self, found: Found) -> bytes:
        assert found.body is not None
        return unseal(self._key, found.body, self._id.hex())


def idempotency_key(request: web.Request) -> str | None:
    """The key, quoted (RFC 9651 String) or bare; None where there is none. Raises Problem for one that cannot be."""
    sent = request.headers.getall(HEADER, [])
    if not sent:
        return None
    match = _KEY.fullmatch(sent[0]) if len(sent) == 1 else None
    if match is None:
        raise Problem(Refusal.INVALID_INPUT, fields={HEADER: "Send one key of 1 to 255 printable ASCII characters."})
    return match[1]


async def fingerprint(request: web.Request) -> bytes:
    """What a repetition must have in common with the first request: method, target and body."""
    digest = hashlib.sha256(f"{request.method} {request.path_qs}\n".encode())
    digest.update(await request.read())
    return digest.digest()
