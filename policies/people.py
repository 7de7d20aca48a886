"""People: who they are, how they are signed in, how they are asked to join, and what of that still holds."""

import enum
import re
import unicodedata
from dataclasses import dataclass, replace
from datetime import datetime

from policies.http.inquiry import Target
from policies.identity.permissions import ROLES, Permission, excess
from policies.identity.tenants import Role, UserStatus

RESET_S = 1_800
"""Seconds that a link for a new password works."""
EMAIL_CHANGE_S = 86_400
INVITATION_S = 604_800
FRESH_S = 300
"""How long ago, in seconds, a password may have been given for what asks for a fresh log-in."""
SET_UP_S = 1_800
"""To take a phone, install an app and scan a key: for a second factor that was begun while the proof was fresh."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A person's own data, as the person sees it."""

    id: str
    email: str
    name: str
    status: UserStatus
    language: str
    time_zone: str
    created_at: datetime
    password_changed_at: datetime | None
    last_login_at: datetime | None
    has_password: bool
    has_second_factor: bool
    """An authenticator app: its codes are asked for."""
    has_passkey: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A tenant that a person belongs to, and as what."""

    tenant_id: str
    slug: str
    name: str
    role: Role
    active: bool
    asks_second_factor: bool
    """Whether the tenant lets a member of that role in with two factors only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A browser that somebody signed in with.

    ``methods`` are those of RFC 8176: ``pwd``, ``otp``, ``pop`` (a passkey), ``mfa``; and two of our own: ``oidc``
    (another provider) and ``browser`` (one that is trusted). Its secret is not here: the cookie has it, the stores have
    its digest. ``authenticated_at`` is when the password was given last.
    """

    id: str
    tenant_id: str
    user_id: str
    methods: tuple[str, ...]
    address: str
    agent: str
    created_at: datetime
    seen_at: datetime
    authenticated_at: datetime
    expires_at: datetime

    def is_fresh(self, now: datetime, within_s: int = FRESH_S) -> bool:
        """Whether the person behind it proved itself just now, as sensitive changes ask."""
        return (now - self.authenticated_at).total_seconds() < within_s


SECOND_FACTORS = frozenset({"otp", "mfa", "pop", "browser"})
"""Methods of which one in a session says that there were two factors."""


class Step(enum.Enum):
    """What comes after a proof of who somebody is."""

    DONE = "done"
    PROVE = "prove"
    SET_UP = "set up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """Who somebody is, the tenant that the log-in goes to, and how that was proved: ``methods`` as of a session.

    ``at`` is when, None for just now. ``continues``: the session that this one goes on from, where nothing was proved
    anew: it is no fresher than that one, and ends no later.
    """

    person: Person
    place: Place
    methods: tuple[str, ...]
    at: datetime | None = None
    continues: Session | None = None

    @property
    def next_step(self) -> Step:
        """Whether the proof is enough to enter that place, a second one is asked for, or one must be made first.

        A person with an authenticator app is always asked; one with passkeys alone only where the tenant wants two
        factors.
        """
        if not SECOND_FACTORS.isdisjoint(self.methods):
            return Step.DONE
        if self.person.has_second_factor or (self.place.asks_second_factor and self.person.has_passkey):
            return Step.PROVE
        return Step.SET_UP if self.place.asks_second_factor else Step.DONE

    def and_by(self, method: str) -> "Proven":
        """The same, with one proof more."""
        return replace(self, methods=(*self.methods, method))


class InvitationState(enum.StrEnum):
    """What has become of an invitation."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    EXPIRED = "expired"
    REVOKED = "revoked"
    DECLINED = "declined"
    """By the invited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """An address that was asked to join a tenant in a role.

    ``invited_by`` is a user, a key of the tenant or a service account, by id; None for the operator's command line.
    """

    id: str
    tenant_id: str
    email: str
    role: Role
    invited_by: str | None
    created_at: datetime
    sent_at: datetime
    expires_at: datetime
    accepted_at: datetime | None
    revoked_at: datetime | None
    declined: bool
    """Whether the invited revoked it."""

    def state(self, now: datetime) -> InvitationState:
        """Its end is exact: at ``expires_at`` it has expired (CVE-2025-64708 was five minutes late)."""
        if self.accepted_at is not None:
            return InvitationState.ACCEPTED
        if self.revoked_at is not None:
            return InvitationState.DECLINED if self.declined else InvitationState.REVOKED
        return InvitationState.PENDING if now < self.expires_at else InvitationState.EXPIRED


def may_invite(held: frozenset[Permission], role: Role) -> bool:
    """Whether who holds these permissions may invite into a role: nobody gives what they do not hold themselves."""
    return Permission.USERS_WRITE in held and not excess(held, ROLES[role])


_LONGEST_EMAIL = 254
"""What fits in a path of RFC 5321 section 4.5.3.1.3 (erratum 1690)."""
_UNWRITABLE = frozenset(("Cc", "Cs", "Zl", "Zp"))
"""Unicode categories: control characters, halves of surrogate pairs, line and paragraph separators."""
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def is_unwritable(character: str) -> bool:
    """Whether it stands in no name and no address.

    What turns the direction of text would turn that of the page around it as well (CVE-2021-42574).
    """
    return unicodedata.category(character) in _UNWRITABLE or character in _TURNING


def folded_email(text: str) -> str | None:
    """An address in the one spelling under which it is stored and found: trimmed, composed (NFC), in small letters.

    None for what is no address. Only what any address has is checked; whether it works is found out by writing to it.
    No letter becomes one of ASCII that was none: with the Kelvin sign for a ``k`` it is another mailbox, whose owner
    would be taken for the account's (GitHub's reset of passwords, 2019).
    """
    folded = unicodedata.normalize("NFC", text.strip().lower())
    local, at, domain = folded.rpartition("@")
    odd = any(character.isspace() or is_unwritable(character) for character in folded)
    changed = any(
        not character.isascii() and unicodedata.normalize("NFC", character.lower()).isascii()
        for character in text.strip()
    )
    whole = local and at and domain and "@" not in local and len(folded) <= _LONGEST_EMAIL
    return folded if whole and not odd and not changed else None


def account_bucket(email: str) -> str:
    """The one name under which tries at an account are counted, however it is spelt.

    Stricter than what finds the account: of ``A.B+c@Example.com.`` and its other spellings none is a bucket of its own
    (Authelia CVE-2025-24806, Vault CVE-2025-6004).
    """
    folded = unicodedata.normalize("NFKC", email).strip().casefold()
    local, _, domain = folded.rpartition("@")
    return f"{local.partition('+')[0].strip()}@{domain.strip().rstrip('.')}"


_OWN_PAGES = re.compile(r"/auth(?:/(?!invite/thk_invite_[\w-]+$)|$)", re.ASCII)


def safe_next(target: str, default: str) -> str:
    """Where to go on after a log-in: a plain path of this origin, else ``default``.

    Anything that a browser could take for another origin is not plain: ``//``, a backslash, a tab, a scheme. Our own
    pages are no goal either, so that no chain of redirects is built (oauth2-proxy CVE-2020-11053); but for
    an invitation, which leads nowhere by itself.
    """
    parsed = Target.parse(target)
    if parsed is None or _OWN_PAGES.match(parsed.path):
        return default
    return target
