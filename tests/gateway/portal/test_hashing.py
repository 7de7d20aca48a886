"""How many passwords wait for the threads that check them."""

import asyncio
import itertools
import threading

import pytest

from gateway.portal.entry import hashing as module
from gateway.portal.entry.hashing import Busy, Hashing


@pytest.mark.parametrize(("took_s", "threads", "room"), [(0.2, 1, 32), (5, 1, 4), (5, 2, 7), (60, 1, 1)])
async def test_no_more_passwords_wait_than_can_be_checked_soon(
    monkeypatch: pytest.MonkeyPatch, took_s: float, threads: int, room: int
) -> None:
    """On a full machine each takes seconds: who would wait for too long is sent away at once, but never everybody."""
    monkeypatch.setattr(module, "monotonic", itertools.count(0, took_s).__next__)
    hashing = Hashing(b"p" * 32, 4, threads)
    await hashing.check("a wrong password", None)
    ended = threading.Event()
    async with asyncio.TaskGroup() as waiting:
        for _ in range(room):
            waiting.create_task(hashing.run(ended.wait))
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            hashing.require_room()
        ended.set()
    hashing.require_room()
    hashing.close()


async def test_the_first_account_that_is_none_takes_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """L-03: after a start, too, nothing is hashed for nobody but what is hashed for anybody."""
    hashing = Hashing(b"p" * 32, 4, 1)
    assert await hashing.run(lambda: True)  # whatever a start has to do is done
    monkeypatch.delattr(module.passwords, "dummy")
    assert not await hashing.check("a wrong password", None)
    hashing.close()
