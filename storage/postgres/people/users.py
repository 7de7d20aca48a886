"""People across tenants, as operators see and change them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import asyncpg

from policies.audit import Change, Facts
from policies.identity.tenants import UserStatus
from policies.people import INVITATION_S, RESET_S
from storage.ports import AlreadyExists, Rejected
from storage.postgres import values
from storage.postgres.absences import no_person
from storage.postgres.address import Connection
from storage.postgres.audit import AuditTrail
from storage.postgres.ids import Kind, is_id
from storage.postgres.order import Order, by_age
from storage.postgres.people.accounts import PostgresPeople
from storage.postgres.people.links import PostgresLinks
from storage.postgres.people.log_ins import end_log_ins, end_tokens
from storage.postgres.people.newcomers import NewPerson, add_person, tell_of_person
from storage.postgres.pool import Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A person whom some tenant knows, or knew, or whom an operator made. ``tenants`` are slugs."""

    id: str
    email: str
    name: str
    language: str
    time_zone: str
    status: UserStatus
    has_password: bool
    operator: bool
    created_at: datetime
    last_login_at: datetime | None
    tenants: tuple[str, ...]


_KNOWN = """
    SELECT u.id, u.email, u.name, u.language, u.time_zone, u.status, u.password_hash IS NOT NULL AS has_password,
        u.operator, u.created_at, u.last_login_at,
        ARRAY(
            SELECT t.slug FROM platform.memberships m JOIN platform.tenants t ON t.id = m.tenant_id
            WHERE m.user_id = u.id ORDER BY t.slug
        ) AS tenants
    FROM platform.users u WHERE u.status <> 'deleted'
"""
_HAS_ANOTHER_WAY_IN = """
    SELECT EXISTS (SELECT FROM platform.passkeys WHERE user_id = $1)
        OR EXISTS (SELECT FROM platform.identities WHERE user_id = $1) AS found
"""
_SORTS = {"email": Order("lower(u.email)"), **by_age("u.id")}


class PostgresUsers:
    """The operator's; those who deleted themselves are nowhere to be seen."""

    def __init__(self, pool: Pool, trail: AuditTrail) -> None:
        self._pool = pool
        self._trail = trail

    async def page(
        self,
        limit: int,
        *,
        sort: str = "email",
        beyond: str | int | None = None,
        email: str = "",
        status: UserStatus | None = None,
    ) -> Sequence[Known]:
        """Those ``beyond`` an address or, by age, an id; whose address contains ``email`` (in lower case)."""
        order = _SORTS[sort]
        rows = await self._pool.read(
            f"{_KNOWN} AND strpos(u.email, $2) > 0 AND ($3::text IS NULL OR u.status = $3) {order.page('$1', '$4')}",
            order.after(beyond),
            email,
            status,
            limit,
        )
        return [_known(row) for row in rows]

    async def user(self, user_id: str) -> Known:
        """Raises NotFound."""
        rows = await self._pool.read(f"{_KNOWN} AND u.id = $1", user_id) if is_id(Kind.USER, user_id) else []
        if not rows:
            raise no_person(user_id)
        return _known(rows[0])

    async def create(self, new: NewPerson, password_link: bytes | None = None) -> Known:
        """A new person, in no tenant. Raises AlreadyExists for an address that somebody has, ValueError.

        ``password_link`` is the digest of a link by which the first password is chosen, as long as an invitation works.
        """
        clean = replace(new, email=values.clean_email(new.email), name=values.clean_name(new.name, of="a person"))
        async with self._pool.together() as one:
            async with one.operator() as connection:
                user_id = await add_person(connection, clean)
            if user_id is None:
                raise AlreadyExists(f"{clean.email} has an account already.")
            if password_link is not None:
                await PostgresLinks(one).make_reset(user_id, password_link, INVITATION_S)
            async with one.operator() as connection:
                await tell_of_person(connection, self._trail, user_id)
            return await PostgresUsers(one, self._trail).user(user_id)

    async def link(self, user_id: str, digest: bytes) -> tuple[Known, int]:
        """A link by which a person chooses a password, in place of any that is out; and for how many seconds it works.

        Who cannot sign in yet has as long as an invitation; a link beside another way in works no longer than one that
        the person asks for itself. ``digest`` is that of the link's secret. Raises NotFound, and
        Rejected for a person who is disabled: the link would not work.
        """
        async with self._pool.together() as one:
            known = await PostgresUsers(one, self._trail).user(user_id)
            if known.status is not UserStatus.ACTIVE:
                raise Rejected(f"{known.email} is disabled: a link would not work before it is enabled.")
            (has_another,) = await one.read(_HAS_ANOTHER_WAY_IN, user_id)
            life_s = RESET_S if known.has_password or has_another["found"] else INVITATION_S
            await PostgresLinks(one).make_reset(user_id, digest, life_s)
            await PostgresPeople(one, self._trail).note("password.reset_requested", user_id, known.email)
            return known, life_s

    async def change(
        self,
        user_id: str,
        *,
        name: str | None = None,
        language: str | None = None,
        time_zone: str | None = None,
        check: Callable[[Known], None] = lambda _: None,
    ) -> Known:
        """The person with what is given changed. ``check`` as in :meth:`set_status`. Raises NotFound, ValueError."""
        async with self._pool.together() as one:
            async with one.operator() as connection:
                old = await _locked(connection, user_id)
            check(old)
            await PostgresPeople(one, self._trail).set_profile(
                user_id,
                name=old.name if name is None else name,
                language=old.language if language is None else language,
                time_zone=old.time_zone if time_zone is None else time_zone,
            )
            return await PostgresUsers(one, self._trail).user(user_id)

    async def set_status(
        self, user_id: str, status: UserStatus, check: Callable[[Known], None] = lambda _: None
    ) -> Known:
        """The person as it is now, in every tenant. ``check`` sees it as it was, and may raise. Raises NotFound.

        Its log-ins are over with it: when it is disabled, and those that came in between when it is enabled.
        """
        async with self._pool.operator() as connection:
            old = await _locked(connection, user_id)
            check(old)
            if old.status is not status:
                await connection.execute("UPDATE platform.users SET status = $2 WHERE id = $1", user_id, status)
                action = "user.disabled" if status is UserStatus.DISABLED else "user.enabled"
                await end_log_ins(connection, self._trail, user_id, "disabled")
                await self._record(connection, action, old, before={"status": old.status}, after={"status": status})
            if status is UserStatus.DISABLED:
                await end_tokens(connection, user_id)
            return await _locked(connection, user_id)

    async def erase(self, user_id: str, check: Callable[[Known], None] = lambda _: None) -> None:
        """Forget the person, as it could itself (:meth:`PostgresPeople.erase`, which says what is raised)."""
        async with self._pool.together() as one:
            async with one.operator() as connection:
                check(await _locked(connection, user_id, "FOR UPDATE"))  # as strongly as erasing does
            await PostgresPeople(one, self._trail).erase(user_id)

    async def _record(
        self,
        connection: Connection,
        action: str,
        who: Known,
        *,
        before: Facts | None = None,
        after: Facts | None = None,
    ) -> None:
        change = Change(tenant_id="", action=action, target=who.id, target_name=who.email, before=before, after=after)
        await self._trail.record(connection, change)


async def _locked(connection: Connection, user_id: str, lock: str = "FOR NO KEY UPDATE") -> Known:
    """The person as it is until the transaction ends. Raises NotFound."""
    rows = []
    if is_id(Kind.USER, user_id):
        rows = await connection.fetch(f"{_KNOWN} AND u.id = $1 {lock} OF u", user_id)
    if not rows:
        raise no_person(user_id)
    return _known(rows[0])


def _known(row: asyncpg.Record) -> Known:
    return Known(
        id=row["id"],
        email=row["email"],
        name=row["name"],
        language=row["language"],
        time_zone=row["time_zone"],
        status=UserStatus(row["status"]),
        has_password=row["has_password"],
        operator=row["operator"],
        created_at=row["created_at"],
        last_login_at=row["last_login_at"],
        tenants=tuple(row["tenants"]),
    )
