"""The audit trail: who changed what, and the chain that makes a change of the trail itself show.

Each tenant has a chain of its own, and the platform has one, whose ``tenant_id`` is empty. An entry's link is an HMAC
over the link before it and everything the entry says, so that an entry that was changed, removed, added or moved breaks
the chain there. The key is derived from the gateway's secret: who can write to the database alone cannot mend it. What
no chain can show is that its newest entries are gone together with the head that counts them; an export kept elsewhere
can.
"""

import enum
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

Value: TypeAlias = str | int | bool | list[str] | None
Facts: TypeAlias = Mapping[str, Value]
"""What a thing was or is: names and plain values, and never a secret. No floats: their text is not one thing."""

GENESIS = bytes(32)
"""The link before a chain's first entry."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ActorKind(enum.StrEnum):
    """What kind of caller acted."""

    USER = "user"
    API_KEY = "api_key"
    SERVICE = "service"
    OPERATOR = "operator"
    """Whoever may run commands on the gateway's machine."""
    SYSTEM = "system"
    """The gateway itself, by a rule."""
    ANONYMOUS = "anonymous"
    """Nobody known: a login that failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acted, from where. ``id`` is empty for operators and for nobody; ``name`` is for people who read it."""

    kind: ActorKind
    id: str = ""
    name: str = ""
    address: str = ""
    agent: str = ""
    request_id: str = ""


OPERATOR = Actor(kind=ActorKind.OPERATOR, name="command line")
SYSTEM = Actor(kind=ActorKind.SYSTEM, name="gateway")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that was done. ``action`` is ``noun.verb`` (``key.created``); ``target`` is an id.

    ``before`` and ``after`` hold what changed, and for something made or ended what it was. ``tenant_id`` is empty for
    what concerns no tenant.
    """

    tenant_id: str
    action: str
    target: str = ""
    target_name: str = ""
    before: Facts | None = None
    after: Facts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A change in the trail. ``sequence`` counts the chain's entries from 1 without gaps; ``link`` has 32 bytes."""

    sequence: int
    at: datetime
    actor: Actor
    change: Change
    link: bytes = b""


def link(key: bytes, previous: bytes, entry: Entry) -> bytes:
    """What ties ``entry`` to all before it: HMAC-SHA-256 over the previous link and the entry in one spelling."""
    change, actor = entry.change, entry.actor
    said = [
        entry.sequence,
        (entry.at - _EPOCH) // timedelta(microseconds=1),
        [actor.kind, actor.id, actor.name, actor.address, actor.agent, actor.request_id],
        [change.tenant_id, change.action, change.target, change.target_name],
        canonical(change.before),
        canonical(change.after),
    ]
    return hmac.digest(key, previous + json.dumps(said, separators=(",", ":")).encode(), "sha256")


def canonical(facts: Facts | None) -> str | None:
    """The one spelling of facts: JSON in ASCII, names sorted, no blanks."""
    return None if facts is None else json.dumps(facts, sort_keys=True, separators=(",", ":"))


def text(value: Value) -> str:
    """A fact as people read it; empty where there is none."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(value)
        case _:
            return str(value)


def changed(before: Facts, after: Facts) -> tuple[Facts, Facts]:
    """Only what differs between two states of one thing."""
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return {name: before.get(name) for name in names}, {name: after.get(name) for name in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A place in a chain: a sequence and its link.

    A chain stands at one; one whose oldest entries were pruned begins at one.
    """

    sequence: int = 0
    link: bytes = GENESIS


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Where a chain does not hold, and what that means, in a sentence."""

    sequence: int
    finding: str


def verify(key: bytes, start: Head, entries: Iterable[Entry], head: Head) -> Fault | None:
    """The first place where the chain from ``start`` to ``head`` is not what was written; None when all of it is."""
    at, previous = start.sequence, start.link
    for entry in entries:
        if entry.sequence != at + 1:
            return Fault(sequence=at + 1, finding=_missing(at + 1, entry.sequence))
        if not hmac.compare_digest(link(key, previous, entry), entry.link):
            return Fault(
                sequence=entry.sequence,
                finding="This entry is not as it was written, or the one before it was exchanged.",
            )
        at, previous = entry.sequence, entry.link
    if head.sequence != at or not hmac.compare_digest(head.link, previous):
        return Fault(sequence=at + 1, finding=_missing(at + 1, head.sequence + 1))
    return None


def _missing(expected: int, found: int) -> str:
    if found <= expected:
        return f"Entry {expected} should follow, and {found} does: entries were moved, or added twice."
    if found == expected + 1:
        return f"Entry {expected} was removed."
    return f"Entries {expected} to {found - 1} were removed."
