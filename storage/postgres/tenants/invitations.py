"""Invitations: an address is asked to join a tenant in a role, and joins once."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import asyncpg

from policies.audit import Change
from policies.identity.permissions import permitted
from policies.identity.tenants import Role
from policies.limits.plans import Counted
from policies.people import INVITATION_S, Invitation, InvitationState, may_invite
from storage.ports import AlreadyExists, NotFound
from storage.postgres import values
from storage.postgres.absences import no_tenant
from storage.postgres.address import Connection
from storage.postgres.audit import AuditTrail
from storage.postgres.faults import violating
from storage.postgres.ids import Kind, is_id, new_id
from storage.postgres.order import by_age
from storage.postgres.people.newcomers import NewPerson, add_person, tell_of_person
from storage.postgres.pool import Pool
from storage.postgres.room import require_room
from storage.postgres.tenants.members import held

_INVITATION = """
    id, tenant_id, email, role, invited_by, created_at, sent_at, expires_at, accepted_at, revoked_at, declined
"""
_STATE = """
    CASE WHEN accepted_at IS NOT NULL THEN 'accepted' WHEN declined THEN 'declined'
        WHEN revoked_at IS NOT NULL THEN 'revoked'
        WHEN now() < expires_at THEN 'pending' ELSE 'expired' END
"""
_SORTS = by_age("id")
_LIFE = timedelta(seconds=INVITATION_S)

Means = Callable[[Connection, str], Awaitable[None]]
"""Gives a new person, by its id, what it signs in with."""


class PostgresInvitations:
    """See the module. A digest is HMAC-SHA-256 of the secret in the link (32 bytes)."""

    def __init__(self, pool: Pool, trail: AuditTrail) -> None:
        self._pool = pool
        self._trail = trail

    async def create(
        self, tenant_id: str, email: str, role: Role, digest: bytes, invited_by: str | None = None
    ) -> Invitation:
        """A new one; an open one for the same address is revoked by it. Raises AlreadyExists for a member."""
        email = values.clean_email(email)
        async with self._pool.operator() as connection:
            members = await connection.fetch(
                """
                SELECT FROM platform.memberships m JOIN platform.users u ON u.id = m.user_id
                WHERE m.tenant_id = $1 AND lower(u.email) = $2
                """,
                tenant_id,
                email,
            )
            if members:
                raise AlreadyExists(f"{email} is a member already.", what="user")
            await connection.execute(
                """
                UPDATE platform.invitations SET revoked_at = now()
                WHERE tenant_id = $1 AND email = $2 AND accepted_at IS NULL AND revoked_at IS NULL
                """,
                tenant_id,
                email,
            )
            await require_room(connection, tenant_id, Counted.INVITATIONS)
            refusals = {
                "invitations_tenant_fkey": no_tenant(tenant_id),
                "invitations_open_key": AlreadyExists(f"{email} is being invited by somebody else this moment."),
            }
            with violating(refusals):
                (row,) = await connection.fetch(
                    f"""
                    INSERT INTO platform.invitations (id, tenant_id, email, role, digest, invited_by, expires_at)
                    VALUES ($1, $2, $3, $4, $5, $6, now() + $7) RETURNING {_INVITATION}
                    """,  # noqa: S608
                    new_id(Kind.INVITATION),
                    tenant_id,
                    email,
                    role.value,
                    digest,
                    invited_by,
                    _LIFE,
                )
            made = _invitation(row)
            await self._record(connection, "invitation.created", made)
        return made

    async def page(
        self,
        tenant_id: str,
        limit: int,
        *,
        sort: str = "-created",
        beyond: str | int | None = None,
        state: InvitationState | None = None,
    ) -> Sequence[Invitation]:
        """The tenant's, also those that are over: those ``beyond`` another's id, in one ``state`` where given."""
        order = _SORTS[sort]
        rows = await self._pool.read(
            f"""
            SELECT {_INVITATION} FROM platform.invitations
            WHERE tenant_id = $1 AND ($4::text IS NULL OR {_STATE} = $4) {order.page("$2", "$3")}
            """,  # noqa: S608
            tenant_id,
            order.after(beyond),
            limit,
            state,
            tenant_id=tenant_id,
        )
        return [_invitation(row) for row in rows]

    async def get(self, tenant_id: str, invitation_id: str) -> Invitation:
        """Raises NotFound."""
        rows = []
        if is_id(Kind.INVITATION, invitation_id):
            rows = await self._pool.read(
                f"SELECT {_INVITATION} FROM platform.invitations WHERE tenant_id = $1 AND id = $2",  # noqa: S608
                tenant_id,
                invitation_id,
                tenant_id=tenant_id,
            )
        if not rows:
            raise _unknown(invitation_id)
        return _invitation(rows[0])

    async def send_again(self, tenant_id: str, invitation_id: str, digest: bytes) -> Invitation:
        """A new link in place of the old one, and the whole time anew. Raises NotFound for one that is over.

        One that had lapsed takes a place again: raises Full.
        """
        return await self._change(
            tenant_id,
            invitation_id,
            "digest = $3, sent_at = now(), expires_at = now() + $4",
            "invitation.sent_again",
            digest,
            _LIFE,
            renews=True,
        )

    async def revoke(
        self, tenant_id: str, invitation_id: str, check: Callable[[Invitation], None] = lambda _: None
    ) -> Invitation:
        """``check`` sees it as it was, and may raise. Raises NotFound for one that is over."""
        return await self._change(tenant_id, invitation_id, "revoked_at = now()", "invitation.revoked", check=check)

    async def _change(
        self,
        tenant_id: str,
        invitation_id: str,
        assignments: str,
        action: str,
        *more: object,
        renews: bool = False,
        check: Callable[[Invitation], None] = lambda _: None,
    ) -> Invitation:
        if not is_id(Kind.INVITATION, invitation_id):
            raise _unknown(invitation_id)
        open_one = "tenant_id = $1 AND id = $2 AND accepted_at IS NULL AND revoked_at IS NULL"
        async with self._pool.tenant(tenant_id) as connection:
            rows = await connection.fetch(
                f"SELECT {_INVITATION}, expires_at <= now() AS is_over FROM platform.invitations"  # noqa: S608
                f" WHERE {open_one} FOR NO KEY UPDATE",
                tenant_id,
                invitation_id,
            )
            if not rows:
                raise _unknown(invitation_id)
            check(_invitation(rows[0]))
            if renews and rows[0]["is_over"]:
                await require_room(connection, tenant_id, Counted.INVITATIONS)
            rows = await connection.fetch(
                f"UPDATE platform.invitations SET {assignments} WHERE {open_one} RETURNING {_INVITATION}",  # noqa: S608
                tenant_id,
                invitation_id,
                *more,
            )
            changed = _invitation(rows[0])
            await self._record(connection, action, changed)
        return changed

    async def read(self, digest: bytes) -> Invitation | None:
        """Whatever has become of it; None when no link has that digest."""
        rows = await self._pool.read(
            f"SELECT {_INVITATION} FROM platform.invitations WHERE digest = $1",  # noqa: S608
            digest,
        )
        return _invitation(rows[0]) if rows else None

    async def accept(
        self,
        digest: bytes,
        *,
        name: str = "",
        password_hash: str | None = None,
        user_id: str = "",
        also: Means | None = None,
    ) -> tuple[Invitation, str] | None:
        """Join: the person with the invited address, made now if it is new. Gives the invitation and the person's id.

        ``user_id`` is who is signed in, and must have that address; empty for somebody new, who signs in from now on
        with the password, or by what ``also`` gives it in the same transaction. Of two at once one joins.
        None when the link does not work: used, expired, revoked, for somebody else, or given by an inviter who could
        not give that role any more (a demoted inviter's invitations are worth nothing).
        """
        async with self._pool.operator() as connection:
            rows = await connection.fetch(
                f"""
                SELECT {_INVITATION}, clock_timestamp() < expires_at AS in_time FROM platform.invitations
                WHERE digest = $1 AND accepted_at IS NULL AND revoked_at IS NULL FOR UPDATE
                """,  # noqa: S608
                digest,
            )
            if not rows or not rows[0]["in_time"]:
                return None
            invitation = _invitation(rows[0])
            if not await _may_still_invite(connection, invitation):
                return None
            is_new = bool(password_hash or also)
            new = NewPerson(id=newcomer(invitation), email=invitation.email, name=name, password_hash=password_hash)
            joining = await _joining(connection, new if is_new else None, invitation.email, user_id)
            if joining is None:
                return None
            await connection.execute(
                """
                INSERT INTO platform.memberships (tenant_id, user_id, role) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
                """,
                invitation.tenant_id,
                joining,
                invitation.role.value,
            )
            await connection.execute(
                "UPDATE platform.invitations SET accepted_at = now(), accepted_by = $2 WHERE id = $1",
                invitation.id,
                joining,
            )
            await self._record(connection, "invitation.accepted", invitation)
            if joining != user_id:
                await tell_of_person(connection, self._trail, joining)
                if also is not None:
                    await also(connection, joining)
        return invitation, joining

    async def decline(self, digest: bytes) -> Invitation | None:
        """End it in the name of the invited, for ever. Of this and whatever else ends it at once one is done.

        None when the link does not work.
        """
        async with self._pool.operator() as connection:
            rows = await connection.fetch(
                f"""
                UPDATE platform.invitations SET revoked_at = now(), declined = true
                WHERE digest = $1 AND accepted_at IS NULL AND revoked_at IS NULL AND clock_timestamp() < expires_at
                RETURNING {_INVITATION}
                """,  # noqa: S608
                digest,
            )
            if not rows:
                return None
            declined = _invitation(rows[0])
            await self._record(connection, "invitation.declined", declined)
        return declined

    async def _record(self, connection: Connection, action: str, invitation: Invitation) -> None:
        await self._trail.record(
            connection,
            Change(
                tenant_id=invitation.tenant_id,
                action=action,
                target=invitation.id,
                target_name=invitation.email,
                after={"role": invitation.role, "expires_at": _text(invitation.expires_at)},
            ),
        )


_BY_PROGRAM = """
    WITH RECURSIVE successors AS (
        SELECT k.* FROM platform.api_keys k WHERE k.tenant_id = $1 AND k.id = $2
        UNION ALL SELECT k.* FROM platform.api_keys k JOIN successors s ON k.rotated_from = s.id AND k.tenant_id = $1
    )
    SELECT scopes FROM successors
    WHERE user_id IS NULL AND revoked_at IS NULL AND disabled_at IS NULL AND (expires_at IS NULL OR expires_at > now())
    UNION ALL SELECT scopes FROM platform.service_accounts WHERE tenant_id = $1 AND id = $2 AND disabled_at IS NULL
"""
"""The scopes of a key of the tenant, or of what it was rotated to; or of a service account."""


async def _may_still_invite(connection: Connection, invitation: Invitation) -> bool:
    if invitation.invited_by is None:
        return True
    if not is_id(Kind.USER, invitation.invited_by):
        programs = await connection.fetch(_BY_PROGRAM, invitation.tenant_id, invitation.invited_by)
        return any(may_invite(permitted(frozenset(row["scopes"]), None), invitation.role) for row in programs)
    rows = await connection.fetch(
        """
        SELECT u.operator, m.role, m.custom_role, r.permissions FROM platform.users u
        LEFT JOIN platform.memberships m ON m.user_id = u.id AND m.tenant_id = $1
        LEFT JOIN platform.roles r ON r.tenant_id = m.tenant_id AND r.name = m.custom_role
        WHERE u.id = $2 AND u.status = 'active'
        """,
        invitation.tenant_id,
        invitation.invited_by,
    )
    return bool(rows) and may_invite(held(rows[0]), invitation.role)


def newcomer(invitation: Invitation) -> str:
    """The id of whoever is made by accepting it: known before, because authenticators keep it with a new passkey."""
    return f"{Kind.USER}{invitation.id.removeprefix(Kind.INVITATION)}"


async def _joining(connection: Connection, new: NewPerson | None, email: str, user_id: str) -> str | None:
    """The id of whoever joins; None when the link is not theirs, or is used to let somebody else into their account."""
    rows = await connection.fetch(
        "SELECT id FROM platform.users WHERE lower(email) = $1 AND status = 'active' FOR NO KEY UPDATE", email
    )
    if rows:
        return str(rows[0]["id"]) if rows[0]["id"] == user_id else None
    if user_id or new is None:
        return None
    clean = replace(new, name=values.clean_name(new.name, of="a person"))
    return await add_person(connection, clean)  # None: a disabled person has that address


def _text(moment: datetime) -> str:
    return moment.isoformat()


def _unknown(invitation_id: str) -> NotFound:
    return NotFound(f"There is no open invitation {invitation_id!r}.")


def _invitation(row: asyncpg.Record) -> Invitation:
    return Invitation(
        id=row["id"],
        tenant_id=row["tenant_id"],
        email=row["email"],
        role=Role(row["role"]),
        invited_by=row["invited_by"],
        created_at=row["created_at"],
        sent_at=row["sent_at"],
        expires_at=row["expires_at"],
        accepted_at=row["accepted_at"],
        revoked_at=row["revoked_at"],
        declined=row["declined"],
    )
