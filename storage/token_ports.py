"""The promises of the stores of tokens: signing keys, revocations, log-ins, service accounts. As ``ports``."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from policies.identity.principals import Principal
from policies.identity.refresh import Family
from policies.identity.signing_keys import SigningKey
from policies.identity.tenants import ServiceAccount


class Subjects(Protocol):
    """Whose a token is, as things are now."""

    async def identify_subject(self, tenant: str, subject: str) -> Principal | None:
        """The subject of a token in a tenant, which is given by id or slug: a member, a service account, or a guest.

        A guest is known to another issuer alone: the subject is ``""``, and the principal is the tenant's own, with
        its rates and its denied routes. A member's scopes are the person's permissions. None when the person is no
        member (any more), or account or tenant do not exist.
        """


class SigningKeys(Protocol):
    """The keys that sign tokens. Private halves come here sealed; no store can open them."""

    async def keys(self) -> Sequence[SigningKey]:
        """All, gone ones included, in the order in which they became active."""

    async def add_first(self, key: SigningKey) -> bool:
        """Add it unless a key is there that signs, or will; whether it was added. Many may try at once."""

    async def succeed(self, key: SigningKey, overlap: timedelta) -> None:
        """Add a key that takes over at its ``active_at``; the others stay believed for ``overlap`` after that."""

    async def end(
        self,
        key_id: str,
        now: datetime,
        heir: Callable[[SigningKey, datetime], SigningKey],
        check: Callable[[SigningKey], None] = lambda _: None,
    ) -> SigningKey | None:
        """Believe it no more, from ``now`` on. Gives the key that takes its place where at some time none would sign.

        ``heir`` makes that from the one that ended and the instant from which on it signs; both happen or neither.
        ``check`` sees the key as it was, and may raise. Raises NotFound.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredIssuer:
    """Another issuer, as an operator has made it. Tokens of one that is not ``enabled`` are refused.

    ``definition`` is JSON, texts and lists of texts with ``issuer`` among them; what it means the gateway knows.
    """

    name: str
    definition: Mapping[str, Any]
    enabled: bool
    created_at: datetime


class Issuers(Protocol):
    """Other issuers whose access tokens are taken."""

    async def all(self) -> Sequence[StoredIssuer]:
        """Oldest first."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """``token:<jti>``, ``family:<sid>`` or ``subject:<sub>``: void are its tokens issued in that second or before."""

    what: str
    revoked_at: datetime

    @property
    def told(self) -> str:
        """As the bus tells it: with the second, so that all processes draw the line in the same place."""
        return f"{self.what}@{int(self.revoked_at.timestamp())}"


class Revocations(Protocol):
    """Tokens that are void although their signature is good, for as long as one of them could live."""

    async def revoke(self, what: str, tenant_id: str = "") -> Revocation:
        """From now on. Idempotent but for the instant, which moves on. The tenant is for the audit trail."""

    async def since(self, instant: datetime | None) -> Sequence[Revocation]:
        """All that count, or (a superset of) those made since an instant."""


class FamilyHold(Protocol):
    """What can be done to a family of refresh tokens while it is held."""

    async def rotate(self) -> int:
        """The number of the successor, which is the newest token from now on."""

    async def end(self, why: str) -> None:
        """End it: ``revoked``, ``reused`` or ``ended``. Its access tokens are revoked in the same transaction."""


class RefreshFamilies(Protocol):
    """Log-ins that can be renewed."""

    async def begin(
        self,
        tenant_id: str,
        user_id: str,
        *,
        client_id: str,
        scopes: frozenset[str],
        seed: bytes,
        life: timedelta,
        address: str = "",
        agent: str = "",
    ) -> Family:
        """A new one, begun at an address by what calls itself ``agent``.

        Raises NotFound when the user is no member of the tenant.
        """

    def held(self, family_id: str) -> AbstractAsyncContextManager[tuple[Family | None, FamilyHold]]:
        """One family, nobody else's until the block ends; None when there is none of that id."""

    async def living(self, user_id: str) -> Sequence[Family]:
        """A person's, in every tenant, the one renewed last first."""

    async def end_one(self, user_id: str, family_id: str) -> bool:
        """End one of a person's as ``revoked``; whether there was such a one."""

    async def end_all(self, user_id: str, tenant_id: str | None = None) -> Sequence[str]:
        """End all of a person's, in one tenant or in all; the ids of those that were alive."""


class ServiceAccounts(Protocol):
    """Programs that ask for tokens. A digest is HMAC-SHA-256 over the whole secret, which never comes here."""

    async def create(
        self, tenant_id: str, *, name: str, scopes: frozenset[str], audiences: frozenset[str], digest: bytes
    ) -> ServiceAccount:
        """With its first secret. Raises AlreadyExists for a name that the tenant has."""

    async def accounts(self, tenant_id: str) -> Sequence[ServiceAccount]:
        """The tenant's, by name."""

    async def account(self, account_id: str) -> ServiceAccount:
        """By its id alone. Raises NotFound."""

    async def rotate(self, tenant_id: str, account_id: str, *, digest: bytes, old_ends_at: datetime) -> ServiceAccount:
        """A new secret; the old ones end at ``old_ends_at`` at the latest. Raises NotFound for a disabled one too."""

    async def change(
        self,
        tenant_id: str,
        account_id: str,
        *,
        name: str | None = None,
        scopes: frozenset[str] | None = None,
        audiences: frozenset[str] | None = None,
    ) -> ServiceAccount:
        """What is None stays. Raises NotFound, also for a disabled one; AlreadyExists."""

    async def disable(self, tenant_id: str, account_id: str) -> ServiceAccount:
        """It gets no more tokens. Raises NotFound. Idempotent."""

    async def authenticate(self, account_id: str, digest: bytes) -> ServiceAccount | None:
        """The account, when the secret is its own and nothing is suspended, disabled or expired."""
