"""Letters that nobody waits for: written down, sealed, before they are sent, so that no end of a process loses one.

Each leaves at least once: whose sender dies as the server takes it is sent again. Whoever finds one due sends it, in
whichever portal, and nobody else meanwhile. What is given up is in the log, the figures, the trail and the events.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

import orjson
import structlog
from aiohttp import web

from gateway.portal.mail.sending import MAILER, Mailer, MailFailed
from gateway.portal.parts import PARTS, Parts
from gateway.portal.rounds import repeat
from gateway.tasks import Tasks
from policies.audit import Facts
from storage.ports import StorageError
from storage.postgres.events.letters import Letter, PostgresLetters
from storage.postgres.ids import Kind, new_id
from storage.sealed import Unsealable, seal, unseal

_log = structlog.get_logger("gateway.portal.mail.posting")

routes: tuple[web.RouteDef, ...] = ()

NEWS_S = 86_400
"""How long a letter is worth sending that tells of something, and has no link."""
_PURPOSE = "letters"
_AGAIN_S = (5.0, 60.0, 240.0, 600.0, 3_600.0)
"""Waits between tries, the last again and again; a link to a new password works for as long as the first four."""
_AT_ONCE = 10
_SEND_S = 60.0
"""Whole, of which a server takes its time for each command; well below the lease of a letter."""
_FAREWELL_S = 5.0


class Postman:
    """Sends what is due, each letter in a task of its own."""

    def __init__(self, parts: Parts, mailer: Mailer) -> None:
        self._parts = parts
        self._mailer = mailer
        self._letters = PostgresLetters(parts.pool, parts.trail)
        self._tasks = Tasks()
        self._under_way: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()

    async def post(self, to: str, subject: str, text: str, life_s: int) -> None:
        """Have it sent soon. Where mail is off nothing is."""
        if not self._mailer.is_on:
            return
        letter_id = new_id(Kind.LETTER)
        sealed = seal(self._parts.secret_for(_PURPOSE), orjson.dumps([to, subject, text]), letter_id)
        try:
            await self._letters.put(letter_id, sealed, timedelta(seconds=life_s))
        except StorageError as error:  # what it tells of is done, and its answer must not say otherwise
            self._parts.metrics.mail[("failed",)] += 1
            _log.error("a mail did not leave", reason=str(error), subject=subject)
        self._wake.set()

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Send until the block ends; what is being sent then is finished."""
        rounds = self._tasks.start(repeat(self._round, "letters", self._wake), "letters")
        yield
        rounds.cancel()
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=_FAREWELL_S)
        await self._tasks.close()

    async def _round(self) -> int:
        room = _AT_ONCE - len(self._under_way)
        due = await self._letters.due(room) if room else ()
        for letter in due:
            task = self._tasks.start(self._send(letter), "a letter")
            self._under_way.add(task)
            task.add_done_callback(self._over)
        return len(due)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._wake.set()

    async def _send(self, letter: Letter) -> None:
        to, subject = "", ""
        trouble: MailFailed | None = None
        try:
            unsealed = unseal(self._parts.secret_for(_PURPOSE), letter.sealed, letter.id)
            to, subject, text = orjson.loads(unsealed)
            if not letter.is_late:
                async with asyncio.timeout(_SEND_S):
                    await self._mailer.send(to, subject, text)
            else:
                trouble = MailFailed("there was nobody to send it while what it says held", for_good=True)
        except Unsealable as error:
            trouble = MailFailed(str(error), for_good=True)
        except TimeoutError:
            trouble = MailFailed(f"the mail server took longer than {_SEND_S:.0f} s")
        except MailFailed as error:
            trouble = error
        with contextlib.suppress(StorageError):  # it is due again when its lease is over
            if trouble is None:
                self._parts.metrics.mail[("sent",)] += 1
                await self._letters.sent(letter.id)
            else:
                await self._settle(letter, to, subject, trouble)

    async def _settle(self, letter: Letter, to: str, subject: str, trouble: MailFailed) -> None:
        wait_s = _AGAIN_S[min(letter.tries, len(_AGAIN_S)) - 1]
        said = {"reason": str(trouble), "subject": subject, "letter": letter.id, "tries": letter.tries}
        if not trouble.for_good and await self._letters.put_off(letter.id, timedelta(seconds=wait_s)):
            self._parts.metrics.mail[("put_off",)] += 1
            _log.warning("a mail is tried again", wait_s=wait_s, **said)
            return
        _log.error("a mail did not leave", **said)
        facts: Facts = {"subject": subject, "reason": str(trouble)[:500], "tries": letter.tries}
        await self._letters.give_up(letter.id, to, facts)
        self._parts.metrics.mail[("failed",)] += 1


POSTMAN = web.AppKey("postman", Postman)


async def lifetime(app: web.Application) -> AsyncIterator[None]:
    """The postman, who stands on the mailer."""
    app[POSTMAN] = postman = Postman(app[PARTS], app[MAILER])
    async with postman.at_work():
        yield


async def post(request: web.Request, to: str, subject: str, text: str, *, life_s: int = NEWS_S) -> None:
    """Have a letter sent soon, however long it takes until its ``life_s`` are over."""
    await request.app[POSTMAN].post(to, subject, text, life_s)
