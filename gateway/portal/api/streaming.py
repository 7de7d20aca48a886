"""Answers that are longer than memory, sent piece by piece; a client that takes nothing for a while is cut off."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from aiohttp import web

LINES = 500
"""So many lines of an export are sent together."""
_SLOWEST_S = 30.0
"""How long one may take over them."""
TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl"}


async def sent(
    request: web.Request, pieces: AsyncGenerator[bytes, None], *, name: str, form: str
) -> web.StreamResponse:
    """The answer, a file called ``name``. One that breaks off is not complete, and does not end as if it were."""
    answer = web.StreamResponse(
        headers={"Content-Type": TYPES[form], "Content-Disposition": f'attachment; filename="{name}.{form}"'}
    )
    async with aclosing(pieces):
        piece = await anext(pieces, None)
        await answer.prepare(request)  # not before: a fault until then has an answer of its own
        while piece is not None:
            if not await _is_taken(request, answer, piece):
                return answer
            piece = await anext(pieces, None)
    await answer.write_eof()
    return answer


async def _is_taken(request: web.Request, answer: web.StreamResponse, piece: bytes) -> bool:
    """Whether it is on its way. Who takes nothing for a while is cut off, so that others may read."""
    try:
        async with asyncio.timeout(_SLOWEST_S):
            await answer.write(piece)
    except (TimeoutError, ConnectionResetError):
        if request.transport is not None:
            request.transport.abort()
        return False
    return True
