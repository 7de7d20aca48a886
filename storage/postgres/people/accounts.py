"""People as they sign in and look after themselves: passwords, profiles, second factors, the end of an account.

All in the operator's scope: a person belongs to no tenant, and who asks here has proved who it is, or is about to.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from policies.audit import Change, Facts, changed
from policies.identity.tenants import Role, TenantStatus, UserStatus
from policies.people import Person, Place
from storage.ports import AlreadyExists, NotFound
from storage.postgres import values
from storage.postgres.address import Connection
from storage.postgres.audit import AuditTrail
from storage.postgres.faults import violating
from storage.postgres.people.log_ins import end_log_ins
from storage.postgres.people.second_factor import ASKED
from storage.postgres.pool import Pool

_PERSON = """
    id, email, name, status, language, time_zone, created_at, password_changed_at, last_login_at,
    password_hash IS NOT NULL AS has_password, totp_confirmed_at IS NOT NULL AS has_second_factor,
    EXISTS (SELECT FROM platform.passkeys p WHERE p.user_id = users.id) AS has_passkey
"""
_PLACES = f"""
    SELECT t.id, t.slug, t.name, m.role, t.status, {ASKED} AS asks_second_factor
    FROM platform.memberships m JOIN platform.tenants t ON t.id = m.tenant_id
    WHERE m.user_id = $1 ORDER BY m.created_at, t.slug
"""  # noqa: S608  made of this package's own words


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a log-in is checked against. ``password_hash`` is None for whoever has not chosen a password yet."""

    person: Person
    password_hash: str | None
    places: tuple[Place, ...]

    @property
    def may_sign_in(self) -> bool:
        """Whether anybody signs in as this person at all."""
        return self.person.status is UserStatus.ACTIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondFactor:
    """The sealed secret of a TOTP generator, whether it counts yet, and the last step used."""

    sealed: bytes
    confirmed: bool
    step: int


class PostgresPeople:
    """One person at a time. ``trail`` is by whoever does it; every change is recorded in the platform's own chain."""

    def __init__(self, pool: Pool, trail: AuditTrail) -> None:
        self._pool = pool
        self._trail = trail

    async def account(self, email: str) -> Account | None:
        """By address, in any spelling; None when there is none."""
        try:
            email = values.clean_email(email)
        except ValueError:
            return None
        rows = await self._pool.read(
            f"SELECT password_hash, {_PERSON} FROM platform.users WHERE lower(email) = $1 AND status <> 'deleted'",  # noqa: S608
            email,
        )
        return await self._account(rows)

    async def account_of(self, user_id: str) -> Account | None:
        """By id."""
        rows = await self._pool.read(
            f"SELECT password_hash, {_PERSON} FROM platform.users WHERE id = $1 AND status <> 'deleted'",  # noqa: S608
            user_id,
        )
        return await self._account(rows)

    async def _account(self, rows: Sequence[asyncpg.Record]) -> Account | None:
        if not rows:
            return None
        places = await self._pool.read(_PLACES, rows[0]["id"])
        return Account(
            person=_person(rows[0]), password_hash=rows[0]["password_hash"], places=tuple(_place(row) for row in places)
        )

    async def set_password(self, user_id: str, password_hash: str, *, action: str = "password.changed") -> None:
        """Raises NotFound."""
        async with self._pool.operator() as connection:
            await self.set_password_in(connection, user_id, password_hash, action)

    async def rehash(self, user_id: str, old: str, new: str) -> None:
        """Store the same password under a newer scheme, unless it was changed meanwhile. Nothing to record."""
        async with self._pool.operator() as connection:
            await connection.execute(
                "UPDATE platform.users SET password_hash = $3 WHERE id = $1 AND password_hash = $2", user_id, old, new
            )

    async def set_password_in(self, connection: Connection, user_id: str, password_hash: str, action: str) -> None:
        """In a transaction that is open already. Raises NotFound.

        No browser is trusted any more, no link works, and nobody stays signed in.
        """
        # Links before people, as everywhere: two that wait for each other would end in a deadlock.
        await connection.execute("DELETE FROM platform.one_time_links WHERE user_id = $1 AND used_at IS NULL", user_id)
        rows = await connection.fetch(
            """
            UPDATE platform.users SET password_hash = $2, password_changed_at = now()
            WHERE id = $1 AND status <> 'deleted' RETURNING email
            """,
            user_id,
            password_hash,
        )
        if not rows:
            raise NotFound("This person is not known any more.")
        await connection.execute("DELETE FROM platform.trusted_browsers WHERE user_id = $1", user_id)
        await end_log_ins(connection, self._trail, user_id, "password")
        await self._record(connection, action, user_id, rows[0]["email"])

    async def set_profile(self, user_id: str, *, name: str, language: str, time_zone: str) -> Person:
        """Raises NotFound, and ValueError for a name that cannot be one."""
        name = values.clean_name(name, of="a person")
        async with self._pool.operator() as connection:
            rows = await connection.fetch(
                "SELECT name, language, time_zone FROM platform.users WHERE id = $1 FOR NO KEY UPDATE", user_id
            )
            if not rows:
                raise NotFound("This person is not known any more.")
            (row,) = await connection.fetch(
                f"""
                UPDATE platform.users SET name = $2, language = $3, time_zone = $4 WHERE id = $1 RETURNING {_PERSON}
                """,  # noqa: S608
                user_id,
                name,
                language,
                time_zone,
            )
            before, after = changed(dict(rows[0]), {"name": name, "language": language, "time_zone": time_zone})
            if after:
                await self._record(connection, "profile.changed", user_id, row["email"], before=before, after=after)
        return _person(row)

    async def set_email(self, connection: Connection, user_id: str, email: str) -> str:
        """In the transaction of the confirmation; returns the old address. Raises AlreadyExists and NotFound.

        What was mailed to the old address opens nothing any more.
        """
        await connection.execute(
            "DELETE FROM platform.one_time_links WHERE user_id = $1 AND purpose = 'reset' AND used_at IS NULL", user_id
        )
        rows = await connection.fetch(
            "SELECT email FROM platform.users WHERE id = $1 AND status = 'active' FOR NO KEY UPDATE", user_id
        )
        if not rows:
            raise NotFound("This person is not known any more.")
        with violating({"users_email_key": AlreadyExists("Another account has this address already.")}):
            await connection.execute("UPDATE platform.users SET email = $2 WHERE id = $1", user_id, email)
        old = str(rows[0]["email"])
        await self._record(connection, "email.changed", user_id, email, before={"email": old}, after={"email": email})
        return old

    async def erase(self, user_id: str) -> str:
        """Forget a person: name, address, password, memberships; keys end. Returns the old address. Raises NotFound.

        What a tenant did with the person's keys stays in the tenant's account, under an id that names nobody; so do the
        invitations that it took. One that is open stays whole: it waits for whoever has that address.
        """
        async with self._pool.operator() as connection:
            rows = await connection.fetch(
                "SELECT email FROM platform.users WHERE id = $1 AND status <> 'deleted' FOR UPDATE", user_id
            )
            if not rows:
                raise NotFound("This person is not known any more.")
            await _raise_if_last_owner(connection, user_id)
            await connection.execute(
                """
                UPDATE platform.api_keys SET user_id = NULL, revoked_at = coalesce(revoked_at, now()) WHERE user_id = $1
                """,
                user_id,
            )
            await connection.execute("DELETE FROM platform.memberships WHERE user_id = $1", user_id)
            await connection.execute("DELETE FROM platform.one_time_links WHERE user_id = $1", user_id)
            await connection.execute("DELETE FROM platform.recovery_codes WHERE user_id = $1", user_id)
            for table in ("identities", "passkeys", "trusted_browsers"):
                await connection.execute(f"DELETE FROM platform.{table} WHERE user_id = $1", user_id)  # noqa: S608
            await connection.execute(
                """
                UPDATE platform.invitations SET email = $1 || '@deleted.invalid'
                WHERE accepted_by = $1 OR (email = $2 AND (revoked_at IS NOT NULL OR expires_at <= now()))
                """,
                user_id,
                rows[0]["email"],
            )
            await connection.execute(
                """
                UPDATE platform.users SET email = id || '@deleted.invalid', name = '', status = 'deleted',
                    password_hash = NULL, totp_sealed = NULL, totp_confirmed_at = NULL, language = 'en',
                    time_zone = 'UTC', last_login_at = NULL
                WHERE id = $1
                """,
                user_id,
            )
            await self._record(connection, "user.erased", user_id, "")
        return str(rows[0]["email"])

    # --- second factor -----------------------------------------------------------------------------------------------

    async def second_factor(self, user_id: str) -> SecondFactor | None:
        """None without one."""
        rows = await self._pool.read(
            """
            SELECT totp_sealed, totp_confirmed_at, totp_step FROM platform.users
            WHERE id = $1 AND totp_sealed IS NOT NULL
            """,
            user_id,
        )
        if not rows:
            return None
        row = rows[0]
        return SecondFactor(
            sealed=row["totp_sealed"], confirmed=row["totp_confirmed_at"] is not None, step=row["totp_step"]
        )

    async def offer_second_factor(self, user_id: str, sealed: bytes) -> None:
        """Keep a secret that is not confirmed yet; one that counts is not touched. Raises AlreadyExists."""
        async with self._pool.operator() as connection:
            done = await connection.execute(
                """
                UPDATE platform.users SET totp_sealed = $2, totp_step = 0
                WHERE id = $1 AND totp_confirmed_at IS NULL AND status = 'active'
                """,
                user_id,
                sealed,
            )
            if done == "UPDATE 0":
                raise AlreadyExists("There is a second factor already. Remove it first.")

    async def use_step(self, user_id: str, step: int) -> bool:
        """Take a step of the generator; False when it, or a later one, was used already. Of two at once one wins."""
        async with self._pool.operator() as connection:
            done = await connection.execute(
                "UPDATE platform.users SET totp_step = $2 WHERE id = $1 AND totp_step < $2", user_id, step
            )
        return bool(done == "UPDATE 1")

    async def confirm_second_factor(self, user_id: str, codes: Sequence[bytes]) -> None:
        """From now on it is asked for. ``codes`` are the digests of the recovery codes, in place of any there were."""
        async with self._pool.operator() as connection:
            (row,) = await connection.fetch(
                """
                UPDATE platform.users SET totp_confirmed_at = coalesce(totp_confirmed_at, now()) WHERE id = $1
                RETURNING email
                """,
                user_id,
            )
            await _set_codes(connection, user_id, codes)
            await self._record(connection, "second_factor.enabled", user_id, row["email"])

    async def remove_second_factor(self, user_id: str) -> None:
        """The password is enough again."""
        async with self._pool.operator() as connection:
            (row,) = await connection.fetch(
                """
                UPDATE platform.users SET totp_sealed = NULL, totp_confirmed_at = NULL WHERE id = $1 RETURNING email
                """,
                user_id,
            )
            await _set_codes(connection, user_id, ())
            await self._record(connection, "second_factor.removed", user_id, row["email"])

    async def use_recovery_code(self, user_id: str, digest: bytes) -> bool:
        """Take one; False when it is none, or was used."""
        async with self._pool.operator() as connection:
            rows = await connection.fetch(
                """
                UPDATE platform.recovery_codes c SET used_at = now() FROM platform.users u
                WHERE c.user_id = $1 AND c.digest = $2 AND c.used_at IS NULL AND u.id = c.user_id RETURNING u.email
                """,
                user_id,
                digest,
            )
            if rows:
                await self._record(connection, "second_factor.recovered", user_id, rows[0]["email"])
        return bool(rows)

    async def recovery_codes_left(self, user_id: str) -> int:
        """How many are not used yet."""
        (row,) = await self._pool.read(
            "SELECT count(*) AS n FROM platform.recovery_codes WHERE user_id = $1 AND used_at IS NULL", user_id
        )
        return int(row["n"])

    # --- the trail ---------------------------------------------------------------------------------------------------

    async def note(self, action: str, user_id: str = "", email: str = "", facts: Facts | None = None) -> None:
        """Record what changed no row, such as a log-in that failed."""
        async with self._pool.operator() as connection:
            await self._record(connection, action, user_id, email, after=facts)

    async def _record(
        self,
        connection: Connection,
        action: str,
        user_id: str,
        email: str,
        *,
        before: Facts | None = None,
        after: Facts | None = None,
    ) -> None:
        change = Change(tenant_id="", action=action, target=user_id, target_name=email, before=before, after=after)
        await self._trail.record(connection, change)


async def _raise_if_last_owner(connection: Connection, user_id: str) -> None:
    rows = await connection.fetch(
        """
        SELECT t.slug FROM platform.memberships m JOIN platform.tenants t ON t.id = m.tenant_id
        WHERE m.user_id = $1 AND m.role = 'owner' AND m.custom_role IS NULL AND EXISTS (
            SELECT FROM platform.memberships o WHERE o.tenant_id = m.tenant_id AND o.user_id <> $1
        ) AND NOT EXISTS (
            SELECT FROM platform.memberships o JOIN platform.users u ON u.id = o.user_id
            WHERE o.tenant_id = m.tenant_id AND o.user_id <> $1 AND o.role = 'owner' AND o.custom_role IS NULL
                AND u.status = 'active'
        )
        """,
        user_id,
    )
    if rows:
        raise AlreadyExists(
            f"This is the last owner of {', '.join(row['slug'] for row in rows)}. Make another member owner first."
        )


async def _set_codes(connection: Connection, user_id: str, digests: Sequence[bytes]) -> None:
    await connection.execute("DELETE FROM platform.recovery_codes WHERE user_id = $1", user_id)
    await connection.executemany(
        "INSERT INTO platform.recovery_codes (user_id, digest) VALUES ($1, $2)",
        [(user_id, digest) for digest in digests],
    )


def _person(row: asyncpg.Record) -> Person:
    return Person(
        id=row["id"],
        email=row["email"],
        name=row["name"],
        status=UserStatus(row["status"]),
        language=row["language"],
        time_zone=row["time_zone"],
        created_at=row["created_at"],
        password_changed_at=row["password_changed_at"],
        last_login_at=row["last_login_at"],
        has_password=row["has_password"],
        has_second_factor=row["has_second_factor"],
        has_passkey=row["has_passkey"],
    )


def _place(row: asyncpg.Record) -> Place:
    return Place(
        tenant_id=row["id"],
        slug=row["slug"],
        name=row["name"],
        role=Role(row["role"]),
        active=row["status"] == TenantStatus.ACTIVE,
        asks_second_factor=row["asks_second_factor"],
    )
