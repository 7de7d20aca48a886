"""bcrypt off the event loop: a few threads of the portal's process, and an end to how much may wait for them.

The threads step back behind the portal's other work, and its process behind the data plane (``processes.portal``):
a storm of log-ins takes what proxied requests leave.
"""

import asyncio
import contextlib
import os
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import TypeVar

from gateway.identity import passwords
from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal

_T = TypeVar("_T")

_WAITING_PER_THREAD = 32
"""About eight seconds' worth at the usual cost: who came later would have given up before an answer."""
_LONGEST_WAIT_S = 16.0
"""How long a password may wait, at the pace of the last one, which is slow on a full machine: the gateway waits 30."""
_NICE = 5
_SOONEST_S, _LATEST_S = 5, 30
"""When those who find no room are to come again: when some of the queue is worked off, and not all at one moment."""


class Busy(Problem):
    """As many passwords wait as can be checked soon. When to come again is drawn for each who is sent away."""

    def __init__(self) -> None:
        wait_s = _SOONEST_S + secrets.randbelow(_LATEST_S - _SOONEST_S + 1)
        super().__init__(Refusal.TOO_MANY_LOGINS, headers={"Retry-After": str(wait_s)})


class Hashing:
    """Hashes and checks passwords. ``cost`` is bcrypt's; checking nobody's password takes as long as anybody's."""

    def __init__(self, pepper: bytes, cost: int, threads: int) -> None:
        self._pepper = pepper
        self._cost = cost
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="bcrypt", initializer=_step_back)
        self._most_waiting = threads * _WAITING_PER_THREAD
        self._waiting = 0
        self._count = threads
        self._pace_s = 0.0  # between two passwords, when all threads are busy
        # Made before the first check: made in it, the first account that is none would take twice as long.
        self._nobody = self._threads.submit(passwords.dummy, pepper, cost)

    async def hash(self, password: str, *, shortest: int) -> str:
        """What to store. Raises ValueError with a sentence, and Busy."""
        passwords.check_length(password, shortest)
        return await self._run(
            lambda: passwords.hash_password(password, self._pepper, cost=self._cost, shortest=shortest)
        )

    async def check(self, password: str, stored: str | None) -> bool:
        """Whether it is the password that was stored; with None, no after the same time. Raises Busy."""
        return await self._run(lambda: self._timed_check(password[: passwords.LONGEST + 1], stored))

    def require_room(self) -> None:
        """Raises Busy where :meth:`check` would now: asked before a try is counted, which none would be."""
        if self._waiting >= self._most_waiting or self._waiting * self._pace_s >= _LONGEST_WAIT_S:
            raise Busy

    def is_old(self, stored: str) -> bool:
        """Whether the setting has changed since it was stored."""
        return passwords.needs_rehash(stored, self._cost)

    def _timed_check(self, password: str, stored: str | None) -> bool:
        began = monotonic()
        try:
            return self._check(password, stored)
        finally:
            self._pace_s = (monotonic() - began) / self._count

    def _check(self, password: str, stored: str | None) -> bool:
        if stored is None or not passwords.is_usable(stored):
            passwords.verify(password, self._nobody.result(), self._pepper)
            return False
        return passwords.verify(password, stored, self._pepper)

    async def run(self, work: Callable[[], _T]) -> _T:
        """Other work that takes long, on the same threads."""
        return await self._run(work)

    async def _run(self, work: Callable[[], _T]) -> _T:
        self.require_room()
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the threads; what waits is dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _step_back() -> None:
    """Linux keeps a niceness for each thread (sched(7)); elsewhere it would be the whole process's."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
