"""What log-ins stand on: people, sessions, tries, password threads; and who acts, for the audit trail.

Repositories are made for each request, because each records by its own actor.
"""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta

from aiohttp import web

from gateway.identity.digests import digest
from gateway.portal.caller import caller, client_address, request_id, user_agent
from gateway.portal.entry.hashing import Hashing
from gateway.portal.parts import PARTS, Parts
from policies.audit import Actor, ActorKind
from policies.people import Person, Session
from storage.postgres.audit import AuditTrail
from storage.postgres.people.accounts import PostgresPeople
from storage.postgres.people.identities import PostgresIdentities
from storage.postgres.people.sessions import PostgresSessions
from storage.postgres.tokens.families import PostgresFamilies
from storage.redis.attempts import RedisAttempts
from storage.redis.sessions import RedisSessions
from storage.sessions import Sessions

routes = web.RouteTableDef()

SIGNED_IN = web.RequestKey("session", Session)
"""The session that a request belongs to, once it was looked up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What all log-ins share."""

    parts: Parts
    hashing: Hashing
    attempts: RedisAttempts
    living: RedisSessions
    life: timedelta
    _peppers: dict[str, bytes] = field(default_factory=dict)

    def digest(self, purpose: str, secret: str) -> bytes:
        """What a store keeps instead of a secret: HMAC-SHA-256 under a key of that purpose."""
        if purpose not in self._peppers:
            self._peppers[purpose] = self.parts.secret_for(purpose)
        return digest(self._peppers[purpose], secret.encode("utf-8", "surrogatepass"))


IDENTITY = web.AppKey("identity", Identity)


async def lifetime(app: web.Application) -> AsyncIterator[None]:
    """Open the threads and the scripts; close the threads."""
    parts = app[PARTS]
    # Half of the cores at the most: what is left serves the data plane.
    threads = max(1, (os.cpu_count() or 2) // 2)
    app[IDENTITY] = made = Identity(
        parts=parts,
        hashing=Hashing(parts.secret_for("passwords"), parts.settings.password_cost, threads),
        attempts=RedisAttempts(parts.redis),
        living=RedisSessions(parts.redis, parts.settings.session_idle),
        life=timedelta(seconds=parts.settings.session_lifetime),
    )
    yield
    made.hashing.close()


def actor(request: web.Request) -> Actor:
    """Who acts, and from where: the session's person, the credential's holder, or nobody."""
    asked, session = caller(request), request.get(SIGNED_IN)
    kind, name = ActorKind.ANONYMOUS, ""
    if session is not None:
        kind, name = ActorKind.USER, session.user_id
    elif asked.key_id:
        kind, name = ActorKind.API_KEY, asked.key_id
    elif asked.user_id:
        kind, name = ActorKind.USER, asked.user_id
    return Actor(
        kind=kind,
        id=name,
        address=client_address(request),
        agent=user_agent(request),
        request_id=request_id(request),
    )


def acting(request: web.Request, person: Person) -> Actor:
    """Who acts where a person has just proved who it is, before there is a session."""
    return replace(actor(request), kind=ActorKind.USER, id=person.id, name=person.email)


def trail(request: web.Request, who: Actor | None = None) -> AuditTrail:
    """The audit trail for what this request does; ``who`` where it has just become known."""
    return request.app[PARTS].trail.by(who or actor(request))


def people(request: web.Request, who: Actor | None = None) -> PostgresPeople:
    """The people, as this request may change them."""
    return PostgresPeople(request.app[PARTS].pool, trail(request, who))


def identities(request: web.Request, who: Actor | None = None) -> PostgresIdentities:
    """The accounts at other providers, as this request may connect them."""
    by = who or actor(request)
    if by.kind is ActorKind.ANONYMOUS:
        by = replace(by, name="another provider")
    return PostgresIdentities(request.app[PARTS].pool, trail(request, by))


def families(request: web.Request) -> PostgresFamilies:
    """The log-ins of programs, as this request may end them."""
    return PostgresFamilies(request.app[PARTS].pool, trail(request))


def sessions(request: web.Request, who: Actor | None = None) -> Sessions:
    """The sessions, as this request may begin and end them."""
    return Sessions(PostgresSessions(request.app[PARTS].pool, trail(request, who)), request.app[IDENTITY].living)
