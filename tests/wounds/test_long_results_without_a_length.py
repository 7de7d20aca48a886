"""Wound: a result too long to be held, which tells no length, was never accounted however often it was read.

Its subtitles stayed closed (``job_not_settled``) until the gateway asked for it itself, two weeks later.
"""

import asyncio
import json

from gateway.dataplane.jobs import _HELD_STATE
from policies.account.usage import AudioSource
from tests.gateway.job_service import answer, workers
from tests.storage.waiting import until
from tests.wounds.wire import request


async def test_a_long_result_without_a_length_is_settled_as_not_measured_once_it_has_passed() -> None:
    """And flagged, as a short one is; a client that hangs up before its end has settled nothing."""
    async with workers() as w:
        job_id = await w.make()
        polled = f"/v2/transcript/{job_id}"
        said = {"id": job_id, "status": "completed", "text": "word " * (_HELD_STATE * 3)}  # more than sockets hold
        w.service.sent[polled] = answer(json.dumps(said).encode())
        reader, writer = await asyncio.open_connection("127.0.0.1", w.first.port)
        writer.write(request(w.first.key, f"GET {polled} HTTP/1.1".encode(), b"Connection: close"))
        await reader.readexactly(_HELD_STATE)
        writer.transport.abort()
        await until(lambda: w.first.metrics.inflight == 0)
        assert not w.book.accounted
        assert (await w.second.ask("GET", polled)).status == 200
        await until(lambda: bool(w.book.accounted))
        (record,) = w.book.accounted
        assert (record.measured.source, record.measured.discrepant) == (AudioSource.UNMEASURED, True)
        assert (await w.second.ask("GET", f"{polled}/srt")).status == 200
