"""The end of all of a person's log-ins, in the transaction of what ends them: nobody can be killed in between."""

from storage.postgres.address import Connection
from storage.postgres.audit import AuditTrail
from storage.postgres.sessions import end_sessions_in
from storage.postgres.tokens import end_families_in, revoke_in


async def end_log_ins(connection: Connection, trail: AuditTrail, user_id: str, why: str) -> None:
    """Sessions, and log-ins that can be renewed, in every tenant: the operator's scope. Access tokens go with them."""
    await end_sessions_in(connection, trail, user_id, why)
    await end_families_in(connection, trail, user_id)


async def end_tokens(connection: Connection, user_id: str) -> None:
    """Void every token that names the person and was issued until now, whatever it was made for."""
    await revoke_in(connection, f"subject:{user_id}")
