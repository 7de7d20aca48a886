"""Other issuers whose access tokens are taken: those of the settings, and those that operators keep in PostgreSQL.

The settings come first: what they name no operator changes, and a name or an issuer that is there twice is theirs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from gateway.configuration.issuers import IssuerSettings
from gateway.configuration.settings import Settings
from gateway.public_addresses import NotAllowed, check_host
from storage.ports import AlreadyExists, StorageError
from storage.postgres.tokens.issuers import Definition, PostgresIssuers
from storage.token_ports import StoredIssuer


class InSettings(StorageError):
    """It is changed in the settings, and nowhere else."""


class Unfit(ValueError):
    """An operator's issuer cannot be as ``field`` says."""

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(f"{field}: {sentence}")
        self.field = field
        self.sentence = sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownIssuer:
    """One of them. ``created_at`` is None for one of the settings."""

    name: str
    settings: IssuerSettings
    enabled: bool = True
    created_at: datetime | None = None

    @property
    def in_settings(self) -> bool:
        """Whether the settings name it."""
        return self.created_at is None


Edit = Callable[[KnownIssuer], tuple[IssuerSettings, bool]]
"""What comes in place of the settings that it is given, and whether it is enabled. It may raise."""


class IssuerBook:
    """All of them. ``settings`` are the gateway's."""

    def __init__(self, settings: Settings, stored: PostgresIssuers) -> None:
        self._settings = settings
        self._stored = stored

    async def all(self) -> Sequence[KnownIssuer]:
        """Those of the settings in their order, then the others, oldest first."""
        fixed = [KnownIssuer(name=name, settings=one) for name, one in self._settings.issuers.items()]
        return [*fixed, *(known(each) for each in await self._stored.all() if each.name not in self._settings.issuers)]

    async def issuer(self, name: str) -> KnownIssuer:
        """Raises NotFound."""
        fixed = self._settings.issuers.get(name)
        return KnownIssuer(name=name, settings=fixed) if fixed else known(await self._stored.issuer(name))

    async def create(self, name: str, one: IssuerSettings, *, enabled: bool = True) -> KnownIssuer:
        """Raises AlreadyExists for a name or an issuer that is there, Unfit, ValueError."""
        if name in self._settings.issuers:
            raise AlreadyExists(f"The settings name an issuer {name} already.")
        self._check(one)
        return known(await self._stored.create(name, definition(one), enabled=enabled))

    async def change(self, name: str, edit: Edit) -> KnownIssuer:
        """Raises NotFound, InSettings, AlreadyExists for an issuer that is there, Unfit."""
        self._not_in_settings(name)

        def edited(stored: StoredIssuer) -> tuple[Definition, bool]:
            one, enabled = edit(known(stored))
            self._check(one)
            return definition(one), enabled

        return known(await self._stored.change(name, edited))

    async def delete(self, name: str, check: Callable[[KnownIssuer], None] = lambda _: None) -> None:
        """``check`` sees it as it was, and may raise. Raises NotFound, InSettings."""
        self._not_in_settings(name)
        await self._stored.delete(name, lambda stored: check(known(stored)))

    def _not_in_settings(self, name: str) -> None:
        if name in self._settings.issuers:
            raise InSettings(f"The issuer {name} stands in the settings, and is changed there.")

    def _check(self, one: IssuerSettings) -> None:
        if one.issuer.rstrip("/") == self._settings.base_url.rstrip("/"):
            raise Unfit("issuer", "This is the gateway itself.")
        if one.issuer in {other.issuer for other in self._settings.issuers.values()}:
            raise AlreadyExists(f"Tokens of {one.issuer} are taken already: it stands in the settings.")
        if self._settings.issuers_allow_private:
            return
        if urlsplit(one.jwks_url).scheme != "https":
            raise Unfit("jwks_url", "It must begin with https://.")
        try:
            check_host(one.jwks_url, allow_private=False)
        except NotAllowed as error:
            raise Unfit("jwks_url", f"{error}.") from error


def definition(one: IssuerSettings) -> Definition:
    """As it is stored."""
    return one.model_dump(mode="json")


def known(stored: StoredIssuer) -> KnownIssuer:
    """What is stored. Raises ValueError for what this release does not understand."""
    return KnownIssuer(
        name=stored.name,
        settings=IssuerSettings.model_validate(dict(stored.definition)),
        enabled=stored.enabled,
        created_at=stored.created_at,
    )
