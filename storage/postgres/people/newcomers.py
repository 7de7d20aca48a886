"""A person comes to be: by an operator, an invitation or a provider, here alone, and always with ``user.created``."""

from dataclasses import dataclass

from policies.audit import Change, Facts
from storage.postgres.address import Connection
from storage.postgres.audit import AuditTrail
from storage.postgres.ids import Kind, new_id


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPerson:
    """Who is to have an account, in clean values. Without ``password_hash`` the person chooses a password later.

    ``id``: where it had to be known before; empty for a new one.
    """

    id: str = ""
    email: str
    name: str
    language: str = "en"
    time_zone: str = "UTC"
    password_hash: str | None = None


async def add_person(connection: Connection, new: NewPerson) -> str | None:
    """The new person's id, in the operator's transaction; None when somebody has that address, whatever the status.

    :func:`tell_of_person` belongs to the end of the same transaction.
    """
    rows = await connection.fetch(
        """
        INSERT INTO platform.users (id, email, name, language, time_zone, password_hash, password_changed_at)
        VALUES ($1, $2, $3, $4, $5, $6, CASE WHEN $6::text IS NOT NULL THEN now() END)
        ON CONFLICT (lower(email)) DO NOTHING RETURNING id
        """,
        new.id or new_id(Kind.USER),
        new.email,
        new.name,
        new.language,
        new.time_zone,
        new.password_hash,
    )
    return str(rows[0]["id"]) if rows else None


async def tell_of_person(connection: Connection, trail: AuditTrail, user_id: str, facts: Facts | None = None) -> None:
    """``facts`` say where the new person comes from; without them, what is known of it.

    The entry is the platform's, and comes after those of tenants, as everywhere: two transactions that took the chains
    in opposite orders would wait for each other.
    """
    (row,) = await connection.fetch(
        "SELECT email, name, language, time_zone FROM platform.users WHERE id = $1", user_id
    )
    after = facts or {name: row[name] for name in ("name", "language", "time_zone")}
    change = Change(tenant_id="", action="user.created", target=user_id, target_name=row["email"], after=after)
    await trail.record(connection, change)
