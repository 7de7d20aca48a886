"""What PostgreSQL's and asyncpg's errors mean here: the one place where they are translated.

Nothing foreign leaves ``storage.postgres``. What could not be asked is :class:`storage.ports.Unavailable`; an error
that repositories read themselves, such as a violated constraint, never reaches these translators.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import asyncpg

from storage.ports import Rejected, StorageError, Unavailable


class Lost(Unavailable):
    """The connection broke. A fresh one may work: the only fault after which asking again at once makes sense."""


_BROKEN = (
    asyncpg.PostgresConnectionError,  # class 08: also "the connection was closed in the middle of operation"
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InvalidCachedStatementError,  # a migration ran; the session's prepared statements are stale
    asyncpg.OutdatedSchemaCacheError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    ConnectionError,
)

_PASSING = (
    asyncpg.InsufficientResourcesError,  # class 53: disk, memory, connections
    asyncpg.OperatorInterventionError,  # class 57: starting up, cancelled by an operator or by statement_timeout
    asyncpg.TransactionRollbackError,  # class 40: deadlock, serialisation
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby, for as long as a failover takes
    asyncpg.PostgresSystemError,  # class 58: the server's own I/O
)

_UNPREPARED = (
    asyncpg.InvalidSchemaNameError,
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.InvalidParameterValueError,  # set_config('role', …) when the cluster has no such role
    asyncpg.InsufficientPrivilegeError,
)

_MIGRATE = (
    "Run `gateway migrate` as the role that owns the schema `platform`, and let the gateway connect as that role."
)
JOIN = (
    "Ask a database administrator to run, once: `GRANT platform_app TO {role};` (where there is no such role, before "
    "it `CREATE ROLE platform_app NOLOGIN;`)."
)
"""What to do when the connecting role may not become the one that tenants' rows are shown to."""


@contextmanager
def connecting() -> Iterator[None]:
    """Every failure to connect is Unavailable: refused, missing, too slow, starting up, full, or not let in."""
    try:
        yield
    except TimeoutError as error:
        raise Unavailable("PostgreSQL did not accept a connection in time.") from error
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise Unavailable(f"PostgreSQL cannot be reached: {_redacted(error)}") from error


@contextmanager
def asking() -> Iterator[None]:
    """Translate what a statement on an open connection can raise. Values of our own pass through."""
    try:
        yield
    except TimeoutError as error:
        raise Unavailable("PostgreSQL did not answer in time.") from error
    except _BROKEN as error:
        raise Lost(f"The connection to PostgreSQL broke: {_redacted(error)}") from error
    except _PASSING as error:
        raise Unavailable(f"PostgreSQL cannot answer now: {_redacted(error)}") from error
    except _UNPREPARED as error:
        what = str(_redacted(error))
        todo = JOIN.format(role="ROLE_OF_THE_GATEWAY") if "role" in what and "platform_app" in what else _MIGRATE
        raise Unavailable(f"The database is not ready for this release: {what}. {todo}") from error
    except (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError) as error:
        raise Rejected("A text holds a character that PostgreSQL cannot keep, such as NUL.") from _redacted(error)
    except asyncpg.PostgresError as error:
        raise StorageError(f"PostgreSQL refused a statement: {_redacted(error)}") from error


@contextmanager
def violating(meanings: Mapping[str, StorageError]) -> Iterator[None]:
    """Raise what a violated constraint means to the caller, by the constraint's name. Stands inside a transaction."""
    try:
        yield
    except asyncpg.IntegrityConstraintViolationError as error:
        meaning = meanings.get(str(error.constraint_name))
        if meaning is None:
            raise
        raise meaning from _redacted(error)


def _redacted(error: Exception) -> Exception:
    """``error`` without its detail, which may be a whole row, and a digest or a password hash with it."""
    if isinstance(error, asyncpg.PostgresError):
        error.detail = None
    return error
