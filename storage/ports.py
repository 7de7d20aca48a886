"""The promises of the stores: what each does, and how it fails. Nothing else is in this file.

Every method may raise :class:`Unavailable` when its server cannot be reached or does not answer in time; the foreign
exception is chained. The first argument that names a tenant scopes the call to that tenant in the database itself
(row-level security); methods without one act across tenants and belong to the operator and to the gateway's own work.
"""

from collections.abc import AsyncIterator, Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple, Protocol, TypeVar

from policies.account.usage import UsageRecord
from policies.audit import Entry, Fault, Head
from policies.corrections import Lowered
from policies.http.tickets import Ticket
from policies.identity.principals import Principal
from policies.identity.tenants import ApiKey, Membership, Role, RouteOverride, Tenant, TenantStatus, User, UserStatus
from policies.jobs import Job, Ownership
from policies.limits.allowances import Allowance, What
from policies.limits.calendars import Calendar
from policies.limits.holding import Answer, Demand, Lease
from policies.limits.rates import Charge, Taken


class StorageError(Exception):
    """Base of what a store raises on purpose; the message is written for an operator.

    ``what`` is the kind of thing that it is about, such as ``plan``, where operators can list such things.
    """

    def __init__(self, message: str = "", *, what: str = "") -> None:
        super().__init__(message)
        self.what = what


class Unavailable(StorageError):
    """The store could not be asked. Nobody knows the answer: never read this as "no"."""


class AlreadyExists(StorageError):
    """Something with that name is there already."""


class Full(StorageError):
    """The tenant has as many of them as it may."""


class NotFound(StorageError):
    """Nothing with that name or id is there, for this tenant."""


class Rejected(StorageError):
    """The store was asked and will never take these values: asking again does not help."""


class ExceedsOwner(Rejected):
    """A key would have scopes that the one whose it is does not hold."""


class RawRemoved(StorageError):
    """Single usage records of that time were removed because of their age; a part of them would pass for the whole."""


class Directory(Protocol):
    """Tenants, people, and who belongs to whom."""

    async def create_tenant(self, slug: str, name: str) -> Tenant:
        """Raises AlreadyExists."""

    async def tenant(self, slug: str) -> Tenant:
        """Raises NotFound."""

    async def tenants(self) -> Sequence[Tenant]:
        """All, by slug."""

    async def set_tenant_status(self, slug: str, status: TenantStatus) -> Tenant:
        """Raises NotFound. Idempotent."""

    async def create_user(
        self, tenant_id: str, email: str, name: str, role: Role, password_hash: str | None = None
    ) -> tuple[User, Membership]:
        """A person and the first membership, in one transaction. E-mail is compared without case.

        A person whom another tenant already knows gets only the membership. Raises AlreadyExists for a member.
        """

    async def users(self, tenant_id: str) -> Sequence[tuple[User, Membership]]:
        """The tenant's members, by e-mail."""

    async def set_user_status(self, tenant_id: str, email: str, status: UserStatus) -> User:
        """Raises NotFound when no member has that e-mail."""

    async def set_route_override(self, override: RouteOverride) -> None:
        """Set or replace one exception; ``allowed=True`` removes it."""

    async def route_overrides(self, tenant_id: str) -> Sequence[RouteOverride]:
        """The tenant's exceptions, by route."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key to be made: a member's, a service account's, or, with neither, the tenant's own.

    ``digest`` stands for the key, ``last4`` are its last four characters. ``networks`` (CIDR) and ``routes`` (by name)
    are where alone it may be used; empty: anywhere.
    """

    name: str
    digest: bytes
    last4: str
    scopes: frozenset[str]
    expires_at: datetime | None = None
    user_id: str | None = None
    service_account_id: str | None = None
    networks: Sequence[str] = ()
    routes: Sequence[str] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


class KeyRegistry(Protocol):
    """API keys. A digest is HMAC-SHA-256 over the whole key (32 bytes); the key itself never comes here."""

    async def create_key(self, tenant_id: str, new: NewKey) -> ApiKey:
        """Raises NotFound for a tenant, member or account that is not there, AlreadyExists for a known digest."""

    async def keys(self, tenant_id: str) -> Sequence[ApiKey]:
        """All of the tenant's keys, newest first, ended ones included."""

    async def rotate_key(
        self, tenant_id: str, key_id: str, *, digest: bytes, last4: str, old_ends_at: datetime
    ) -> ApiKey:
        """A successor with the same name, scopes, limits, owner and expiry.

        The old one ends at ``old_ends_at`` at the latest.

        Raises NotFound, also for a key that is revoked or expired; AlreadyExists for a key that has a successor.
        """

    async def revoke_key(self, tenant_id: str, key_id: str) -> ApiKey:
        """Raises NotFound. Idempotent: the first revocation's time stays."""

    async def key_tenant(self, key_id: str) -> str:
        """The id of the tenant that holds a key. Raises NotFound. For commands that name a key alone."""

    async def key_holder(self, key_id: str) -> Principal:
        """As :meth:`identify_key`, for whoever names a key without having it. Raises NotFound."""

    async def identify_key(self, digest: bytes) -> Principal | None:
        """Who holds this key, with standing, scopes, rates and denied routes; None when no key has that digest."""


class Grant(NamedTuple):
    """One limit that is set, and whose it is: a user's, a key's, or, with neither, the tenant's."""

    allowance: Allowance
    user_id: str | None
    key_id: str | None
    plan: str = ""
    """The tenant's plan, if that is where it comes from."""


class LimitBook(Protocol):
    """The limits that operators set. All that fit a request hold."""

    async def set_limits(
        self,
        tenant_id: str,
        *,
        user_id: str | None = None,
        key_id: str | None = None,
        route: str = "",
        lifted: Collection[What] = (),
        granted: Sequence[Allowance] = (),
    ) -> None:
        """Remove every limit of what is ``lifted``, then set what is ``granted``: one holder's, on one route.

        ``route`` is empty for limits on all routes. What the allowances say of scope and route does not count. Raises
        NotFound.
        """

    async def limits(self, tenant_id: str, only: Collection[str] | None = None) -> Sequence[Grant]:
        """The tenant's own first, then its users', its keys', and those that its plan adds.

        ``only`` of these users and keys beside the tenant's, where given.
        """

    async def set_calendar(self, tenant_id: str, calendar: Calendar) -> None:
        """When the tenant's days and months begin. Raises NotFound."""

    async def calendar(self, tenant_id: str) -> Calendar:
        """Raises NotFound."""


_ToldT_contra = TypeVar("_ToldT_contra", contravariant=True)


class Waiter(Protocol[_ToldT_contra]):
    """Who waits for an answer: a future, or whoever would rather be told there and then. Told once; raises nothing."""

    def done(self) -> bool:
        """Whether nothing is to be told any more."""

    def set_result(self, result: _ToldT_contra, /) -> None:
        """Here is the answer."""

    def set_exception(self, error: BaseException, /) -> None:
        """There is none, for this reason."""


class Counters(Protocol):
    """Request rates, exact across every process that shares the store."""

    def take(self, charges: tuple[Charge, ...]) -> Awaitable[Taken]:
        """Take one of each charge, all or nothing. The store's clock decides, never the caller's."""

    def take_for(self, charges: tuple[Charge, ...], waiter: Waiter[Taken]) -> None:
        """The same for somebody who waits otherwise. ``charges`` may be told within this call."""


class Held(NamedTuple):
    """The answer to what was wanted, and what is held from now on; ``lease`` is None when it was refused."""

    demands: tuple[Demand, ...]
    answer: Answer
    lease: Lease | None


class Holds(Protocol):
    """Leases and reservations, exact across every process that shares the store."""

    def hold(self, demands: tuple[Demand, ...]) -> Awaitable[Held]:
        """Take and reserve what a request wants of every limit, all or nothing.

        When a counter is :attr:`Answer.unknown` nothing was taken: :meth:`tell` it and ask again.
        """

    def hold_for(self, demands: tuple[Demand, ...], waiter: Waiter[Held]) -> None:
        """The same for somebody who is told. What nobody takes any more is given back, and comes to one request."""

    async def tell(self, demand: Demand, used: int) -> None:
        """What the account has of a calendar period. Counts where its counter is missing, or has less."""


@dataclass(frozen=True, slots=True)
class Invalidation:
    """Something changed that caches hold. Empty fields mean "any": an empty Invalidation empties the cache."""

    tenant_id: str = ""
    key_id: str = ""
    user_id: str = ""
    revoked: str = ""
    """As :attr:`storage.token_ports.Revocation.told`; without a second it means now. Only tokens are meant."""


class Tickets(Protocol):
    """Tickets. ``secret`` is a ticket's text; only its hash is stored, and what it is good for is sealed."""

    async def keep(self, secret: bytes, ticket: Ticket, life_s: int) -> None:
        """From now on the ticket can be taken, for so many seconds."""

    async def take(self, secret: bytes) -> Ticket | None:
        """What the ticket is good for, to the first who asks; None to everybody else, and when its time is over.

        One that :func:`policies.http.tickets.is_reusable` says it :data:`policies.http.tickets.MOST_USES` times.
        """


class Bus(Protocol):
    """Tells every process of a change within a second. Best effort: caches also have a short life of their own."""

    async def publish(self, invalidation: Invalidation) -> None:
        """Raises Unavailable: the caller says that the change takes effect only when caches expire."""

    def listen(self) -> AsyncIterator[Invalidation]:
        """Every change from now on. Yields an empty Invalidation after each (re)connection: something may be missed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageTotals:
    """Sums over records.

    ``errors`` have a status of 400 or more; ``denied``: the gateway refused it, or cut it off; ``unmeasured``: of a
    request or a job that named its audio by URL no answer told the length.
    """

    requests: int = 0
    errors: int = 0
    denied: int = 0
    audio_ms: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    unmeasured: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two books that should agree and do not: where, and both figures."""

    where: str
    expected: UsageTotals
    found: UsageTotals


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageOf:
    """Which part of the account: a tenant's, between two instants; where they are given, of one user, key or route."""

    tenant_id: str
    what: What
    since: datetime
    until: datetime
    user_id: str = ""
    key_id: str = ""
    route: str = ""


class Ledger(Protocol):
    """The account. Raw records and their roll-ups change in one transaction with the journal's position."""

    async def ship(self, journal_id: str, position: int, end: int, rows: Sequence[bytes]) -> bool:
        """Insert the journal's rows between two byte positions, exactly once.

        False when the ledger is already past ``position`` (another shipper, or a restart): nothing was inserted; ask
        :meth:`shipped` and go on from there. ``rows`` are in the journal's own encoding. Raises Rejected when a row
        among them can never be inserted; nothing was inserted then, and fewer rows may go through.
        """

    async def shipped(self, journal_id: str) -> int:
        """How far this journal has been shipped, in bytes; 0 when never."""

    async def totals(self, tenant_id: str, since: datetime, until: datetime) -> UsageTotals:
        """From the roll-ups for whole hours, from raw records at the edges. ``until`` is exclusive."""

    async def used(self, of: UsageOf) -> int:
        """Requests that were not refused, bytes of their bodies, or milliseconds of audio."""

    async def breakdown(
        self, tenant_id: str, since: datetime, until: datetime, by: str
    ) -> Sequence[tuple[str, UsageTotals]]:
        """Totals per key, user, route, day or hour (UTC)."""

    def export(self, tenant_id: str, since: datetime, until: datetime) -> AsyncIterator[UsageRecord]:
        """Every raw record of the range in order of time, streamed. Raises RawRemoved when some are kept no more."""

    async def reconcile(self) -> Sequence[Difference]:
        """Recompute the roll-ups from the raw records; every difference found."""

    async def compare(self, journal_id: str, rows: Sequence[bytes]) -> Sequence[Difference]:
        """Compare a run of shipped rows of a journal with the raw records; every difference found, either way.

        Records are the journal's by their event ids: its id, ``-``, a number that grows. Raises Rejected when a row
        cannot even be read.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """Which entries are asked for; empty fields mean any. Those ``beyond`` a sequence in the order, for paging."""

    action: str = ""
    actor_id: str = ""
    target: str = ""
    since: datetime | None = None
    until: datetime | None = None
    sort: Literal["-created", "created"] = "-created"
    beyond: str | int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditVerdict:
    """What verifying one chain found: entries looked at, where the chain stands, and the first fault."""

    tenant_id: str
    entries: int
    head: Head
    fault: Fault | None


class AuditLog(Protocol):
    """The audit trail as it is read. It is written by each repository, in the transaction of what it changes."""

    async def entries(self, tenant_id: str, sought: Sought, limit: int) -> Sequence[Entry]:
        """Newest first. An empty ``tenant_id`` is the platform's own chain."""

    async def chains(self) -> Sequence[str]:
        """The tenant ids that have a chain, the platform's ('') first."""

    async def verify(self, tenant_id: str) -> AuditVerdict:
        """Walk one chain from its start to its head."""

    async def prune(self, tenant_id: str, until: datetime) -> int:
        """Remove the entries before ``until`` and seal where the chain begins now; how many were removed."""


class JobBook(Protocol):
    """Whose the jobs are that services work on (``policies.jobs``)."""

    async def ping(self) -> None:
        """Whether the store answers."""

    async def owner(self, job: Job) -> Ownership | None:
        """None for a job that nobody made here, or so long ago that it is forgotten."""

    async def bind(self, job: Job, ownership: Ownership, days: int) -> Ownership:
        """Keep who made it, for so many days; what is known of it afterwards.

        An id that is known stays its first tenant's; given to another one it is contested for ever.
        """

    async def settle(self, job: Job, record: UsageRecord | None) -> bool:
        """Account the record, if any, and mark the job settled, or neither.

        False when it was settled or is to be lowered, or is not known.
        """

    async def lower(self, job: Job, lowered: Lowered) -> UsageRecord | None:
        """Note that a job comes to less than was accounted, and book that; the record, if this call booked one.

        It waits for the record of the request that made the job, since nothing is taken back that the account does not
        have: see :meth:`lower_noted`. Of several findings the first one holds.
        """

    async def lower_noted(self) -> Sequence[tuple[Job, Ownership, UsageRecord]]:
        """Book some of what was noted and had to wait, each once; what this call booked."""

    async def unheard(self) -> Sequence[tuple[Job, Ownership]]:
        """Some jobs that are not settled, each told to one caller: those with a tenth of their time left every hour.

        Those whose audio was uploaded also once when they are a day old: they may have failed.
        """

    async def close_overdue(self) -> Sequence[tuple[Job, Ownership]]:
        """Account some pending jobs whose time is over as unmeasured, each once; those that this call closed."""
