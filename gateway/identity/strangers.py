"""The other issuers whose tokens a worker takes: those of the settings, and those that operators keep in PostgreSQL.

The latter are read at the start, after every change that the bus tells of, and every few seconds in case it told
nothing. While PostgreSQL cannot be asked what was read last holds; before it was read once, whether an issuer is one of
them is unknown, and unknown is not no.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import structlog

from gateway.configuration.issuers import IssuerSettings
from gateway.configuration.settings import Settings
from gateway.identity.issuer_book import known
from gateway.identity.jwks import JwksCache
from gateway.identity.keeping_up import KeepingUp
from gateway.tasks import Tasks
from policies.identity.foreign import Meaning
from storage.ports import Invalidation
from storage.token_ports import Issuers, StoredIssuer

_log = structlog.get_logger("gateway.tokens")


@dataclass(frozen=True, slots=True)
class Stranger:
    """Another issuer: where its keys are, what is believed of it, what its claims mean."""

    settings: IssuerSettings
    meaning: Meaning
    jwks: JwksCache


class Strangers:
    """Other issuers by ``iss``. ``listeners`` are told when one is believed no more, or its claims mean something else.

    Without ``stored`` there are those of the settings alone.
    """

    def __init__(
        self,
        fixed: Mapping[str, IssuerSettings],
        tasks: Tasks,
        stored: Issuers | None = None,
        *,
        allow_private: bool = False,
    ) -> None:
        self.listeners: list[Callable[[], None]] = []
        self._tasks = tasks
        self._stored = stored
        self._public_only = not allow_private
        self._names = frozenset(fixed)
        self._fixed = {one.issuer: self._stranger(name, one, public_only=False) for name, one in fixed.items()}
        self._found: dict[str, Stranger] = {}
        self._was_read = stored is None
        self._reading = KeepingUp(self._load, "other issuers")

    @classmethod
    def over(cls, settings: Settings, stored: Issuers, tasks: Tasks) -> Self:
        """Those of a worker with these settings."""
        return cls(settings.issuers, tasks, stored, allow_private=settings.issuers_allow_private)

    async def run(self) -> None:
        """Keep up, for ever."""
        await self._reading.run()

    def hear(self, change: Invalidation) -> None:
        """Take what the bus tells."""
        if change == Invalidation():
            self._reading.soon()

    async def find(self, issuer: str) -> Stranger | None:
        """Who that is; None when its tokens are not taken. Waits only before the first reading. Raises Unavailable."""
        if issuer not in self._fixed and not self._was_read:
            await self.refresh()
        return self._fixed.get(issuer) or self._found.get(issuer)

    def believes(self, name: str, version: str) -> bool:
        """Whether claims are still read as they were in this version of an issuer's meaning."""
        strangers = (*self._fixed.values(), *self._found.values())
        return any((one.meaning.name, one.meaning.version) == (name, version) for one in strangers)

    async def refresh(self) -> None:
        """Read them; those who ask meanwhile share the question. Raises StorageError."""
        await self._reading.refresh()

    async def _load(self) -> None:
        assert self._stored is not None
        trouble: list[str] = []
        found: dict[str, Stranger] = {}
        for each in await self._stored.all():
            try:
                stranger = self._read(each) if each.enabled else None
            except ValueError as error:
                trouble.append(f"the issuer {each.name} is left out: {error}")
                continue
            if stranger is not None:
                found[stranger.settings.issuer] = stranger
        self._replace(found)
        self._reading.complain("; ".join(trouble))

    def _read(self, stored: StoredIssuer) -> Stranger:
        """The one that is there already, with the keys that it has, if nothing has changed. Raises ValueError."""
        one = known(stored).settings
        if stored.name in self._names or one.issuer in self._fixed:
            raise ValueError("the settings name it, too")
        old = self._found.get(one.issuer)
        if old is not None and old.meaning == one.meaning(stored.name):
            return old
        return self._stranger(stored.name, one, public_only=self._public_only)

    def _stranger(self, name: str, one: IssuerSettings, *, public_only: bool) -> Stranger:
        jwks = JwksCache(one.jwks_url, one.algorithms, self._tasks, public_only=public_only)
        return Stranger(one, one.meaning(name), jwks)

    def _replace(self, found: dict[str, Stranger]) -> None:
        is_less = any(found.get(issuer) is not old for issuer, old in self._found.items())
        self._found, self._was_read = found, True
        if is_less:
            for listener in self.listeners:
                listener()
