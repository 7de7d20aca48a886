"""Another issuer's keys: fetched when first needed, kept for as long as it says, and longer when it cannot be asked.

Nothing of a token decides where keys come from: there is one address, the operator's. A key name that is not known may
be a new key, so it is a reason to ask again at once; but anybody can make one up, so that is done once in ten seconds.
"""

import asyncio
import re
import time
from collections.abc import Callable, Collection

import aiohttp
import structlog

from gateway.public_addresses import NotAllowed, PublicResolver, check_host
from gateway.tasks import Tasks
from policies.identity import strict_json
from policies.identity.verification_keys import NO_KEYS, KeySet, read_key_set
from storage.ports import Unavailable

_log = structlog.get_logger("gateway.tokens")

_TIMEOUT_S = 5.0
_LONGEST = 262_144
_KEPT_S = 600.0
"""How long a key set is fresh whose issuer does not say."""
_LEAST_S, _MOST_S = 60.0, 86_400.0
_STALE_S = 86_400.0
"""How long an old key set is believed while its issuer cannot be asked."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 60.0
_UNKNOWN_PAUSE_S = 10.0
_MAX_AGE = re.compile(r"(?:^|[,\s])max-age=\"?([0-9]{1,9})", re.IGNORECASE)


class _Unusable(Exception):
    """The issuer's answer is no key set."""


class JwksCache:
    """The keys at one address. ``clock`` gives monotonic seconds.

    ``public_only``: the address was not named by the operator, and must not lead to our own network (U-02).
    """

    def __init__(
        self,
        url: str,
        algorithms: Collection[str],
        tasks: Tasks,
        clock: Callable[[], float] = time.monotonic,
        *,
        public_only: bool = False,
    ) -> None:
        self._url = url
        self._algorithms = algorithms
        self._tasks = tasks
        self._clock = clock
        self._public_only = public_only
        self._keys = NO_KEYS
        self._fresh_until = self._believed_until = self._rests_until = -1.0
        self._looked_at = -_UNKNOWN_PAUSE_S
        self._pause = _FIRST_PAUSE_S
        self._fetching: asyncio.Task[None] | None = None
        self._unanswered = False
        self._complaint = ""

    async def keys(self) -> KeySet:
        """The keys; old ones at once while new ones are fetched. Raises Unavailable when there are none to believe."""
        now = self._clock()
        if now < self._fresh_until:
            return self._keys
        if now < self._believed_until:
            self._fetch()
            return self._keys
        fetching = self._fetch()
        if fetching is not None:
            await asyncio.shield(fetching)
        if self._clock() >= self._believed_until:
            raise self._unavailable()
        return self._keys

    async def look_again(self) -> KeySet:
        """The keys, asked for anew unless that was done a moment ago: for a key that is not among them.

        Those who look at the same time share the question. What was asked without such a reason does not count.
        Raises Unavailable where the last question was not answered: then nobody knows whether there is such a key.
        """
        if self._fetching is not None or self._clock() - self._looked_at >= _UNKNOWN_PAUSE_S:
            self._looked_at = self._clock()
            fetching = self._fetch()
            if fetching is not None:
                await asyncio.shield(fetching)
        if self._unanswered:
            raise self._unavailable()
        return self._keys

    def _unavailable(self) -> Unavailable:
        return Unavailable(f"The keys at {self._url} cannot be had.")

    def _fetch(self) -> asyncio.Task[None] | None:
        """The question under way, or a new one; None while a failure is too fresh."""
        if self._fetching is None:
            if self._clock() < self._rests_until:
                return None
            self._fetching = self._tasks.start(self._ask(), f"keys at {self._url}")
        return self._fetching

    async def _ask(self) -> None:
        try:
            keys, kept_s = await self._answer()
        except (aiohttp.ClientError, TimeoutError, OSError, NotAllowed, _Unusable) as error:
            self._rests_until = self._clock() + self._pause
            self._pause = min(self._pause * 2, _LONGEST_PAUSE_S)
            self._unanswered = True
            self._complain(str(error) or type(error).__name__)
            return
        finally:
            self._fetching = None
        now = self._clock()
        self._keys, self._fresh_until, self._believed_until = keys, now + kept_s, now + kept_s + _STALE_S
        self._pause, self._unanswered = _FIRST_PAUSE_S, False
        self._complain("; ".join(keys.left_out))

    async def _answer(self) -> tuple[KeySet, float]:
        check_host(self._url, allow_private=not self._public_only)
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        connector = aiohttp.TCPConnector(resolver=PublicResolver()) if self._public_only else None
        async with (
            aiohttp.ClientSession(
                connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            ) as session,
            session.get(self._url, allow_redirects=False, headers={"Accept": "application/json"}) as answer,
        ):
            if answer.status != 200:
                raise _Unusable(f"it answers {answer.status}")
            body = b""
            async for piece in answer.content.iter_chunked(65_536):
                body += piece
                if len(body) > _LONGEST:
                    raise _Unusable(f"it is longer than {_LONGEST} bytes")
            kept = _MAX_AGE.search(answer.headers.get("Cache-Control", ""))
        try:
            keys = read_key_set(strict_json.read(body.decode("utf-8")), self._algorithms)
        except ValueError as error:
            raise _Unusable(str(error)) from error
        if not keys.keys:
            raise _Unusable(f"it has no key that can be used ({'; '.join(keys.left_out) or 'it is empty'})")
        return keys, min(max(float(kept[1]) if kept else _KEPT_S, _LEAST_S), _MOST_S)

    def _complain(self, text: str) -> None:
        if text and text != self._complaint:
            _log.warning("an issuer's keys are not as they should be", url=self._url, reason=text)
        self._complaint = text
