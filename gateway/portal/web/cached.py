"""What anybody may keep: with an ETag, so that whoever has it learns that it is still the same (RFC 9110, 13.1.2)."""

import functools
import hashlib

from aiohttp import web


def kept(request: web.Request, body: bytes, kind: str, cache: str) -> web.Response:
    """The body, or 304 to a client that has it. ``cache`` is how it may be kept (``Cache-Control``)."""
    tag = _tag(body)
    headers = {"ETag": f'"{tag}"', "Cache-Control": cache}
    if any(one.value in (tag, "*") for one in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers={"Content-Type": kind, **headers})


@functools.lru_cache(maxsize=64)
def _tag(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:32]
