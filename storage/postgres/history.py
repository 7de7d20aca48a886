"""Migrations as files, as the database remembers them, and whether the two agree. No I/O but reading the files.

A file is ``NNNN_name.sql`` in dbmate's format: ``-- migrate:up``, then SQL; what follows a ``-- migrate:down`` is not
for us. ``-- migrate:up transaction:false`` is for a statement that refuses a transaction, one to a file. Numbers have
no gaps, and a file never changes once released.
"""

import enum
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from storage.ports import StorageError

MIGRATIONS = Path(__file__).parent / "migrations"

_NAME = re.compile(r"(\d{4})_[a-z0-9_]+")
_MARK = re.compile(r"--\s*migrate:(up|down)\b(.*)")


class MigrationError(StorageError):
    """The schema cannot be brought up to date; the message says what to do."""


class State(enum.StrEnum):
    """Where a migration stands."""

    APPLIED = "applied"
    PENDING = "pending"
    EDITED = "edited"
    """Applied, and the file is no longer what was applied."""
    UNKNOWN = "unknown"
    """Applied, and this release has no such file."""


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """One line of ``gateway migrate --status``."""

    name: str
    state: State
    applied_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Migration:
    """A file: ``sql`` is padded so that its line numbers are the file's."""

    name: str
    sql: str
    in_transaction: bool
    sha256: str


@dataclass(frozen=True, slots=True)
class Applied:
    """A row of ``platform.schema_migrations``."""

    name: str
    sha256: str
    applied_at: datetime


def names(directory: Path) -> list[str]:
    """What :func:`load` would find, in order, unread. Raises MigrationError when there is nothing."""
    return [file.stem for file in _files(directory)]


def load(directory: Path) -> list[Migration]:
    """All files, in order. Raises MigrationError for an unreadable, misnamed, doubly numbered or missing one."""
    files = _files(directory)
    for number, file in enumerate(files, start=1):
        match = _NAME.fullmatch(file.stem)
        if match is None:
            raise MigrationError(f"{file.name} is not the name of a migration: those look like 0001_registry.sql")
        if int(match[1]) < number:
            raise MigrationError(f"Two migrations are numbered {match[1]}. Give the newer one the next free number.")
        if int(match[1]) > number:
            raise MigrationError(f"Migration {number:04} is missing from {directory}. Install this release again.")
    return [parse(file.stem, file.read_text(encoding="utf-8")) for file in files]


def parse(name: str, text: str) -> Migration:
    """Read one file's text. Raises MigrationError."""
    lines = text.splitlines()
    marks = [(number, match) for number, line in enumerate(lines) if (match := _MARK.match(line))]
    if [match[1] for _, match in marks] not in (["up"], ["up", "down"]):
        raise MigrationError(f"{name}.sql needs one line `-- migrate:up`, and after it at most one `-- migrate:down`")
    start, options = marks[0][0], marks[0][1][2].strip()
    end = marks[1][0] if len(marks) > 1 else len(lines)
    if options not in ("", "transaction:false", "transaction:true"):
        raise MigrationError(f"{name}.sql: {options!r} is not an option of `-- migrate:up`")
    if any(line.strip() and not line.lstrip().startswith("--") for line in lines[:start]):
        raise MigrationError(f"{name}.sql: what stands before `-- migrate:up` would never be run")
    return Migration(
        name=name,
        sql="\n" * (start + 1) + "\n".join(lines[start + 1 : end]),
        in_transaction=options != "transaction:false",
        sha256=hashlib.sha256("\n".join(lines).encode()).hexdigest(),  # the same on a checkout that has CRLF
    )


def compare(files: Sequence[Migration], applied: Sequence[Applied]) -> list[MigrationStatus]:
    """Every migration that either side knows, in order."""
    known = {migration.name: migration for migration in files}
    done = {row.name: row for row in applied}
    found = []
    for name in sorted(known.keys() | done.keys()):
        if name not in done:
            found.append(MigrationStatus(name, State.PENDING))
        elif name not in known:
            found.append(MigrationStatus(name, State.UNKNOWN, done[name].applied_at))
        else:
            same = known[name].sha256 == done[name].sha256
            found.append(MigrationStatus(name, State.APPLIED if same else State.EDITED, done[name].applied_at))
    return found


def outstanding(files: Sequence[Migration], applied: Sequence[Applied]) -> list[Migration]:
    """What is to be applied, in order. Raises MigrationError with every disagreement, one a line."""
    statuses = compare(files, applied)
    pending = {status.name for status in statuses if status.state is State.PENDING}
    newest_known = max((migration.name for migration in files), default="")
    newest_applied = max((row.name for row in applied), default="")
    troubles = [
        trouble
        for status in statuses
        if (trouble := _trouble(status, newest_known=newest_known, newest_applied=newest_applied))
    ]
    if troubles:
        raise MigrationError("\n".join(troubles))
    return [migration for migration in files if migration.name in pending]


def _files(directory: Path) -> list[Path]:
    files = sorted(directory.glob("*.sql"))
    if not files:  # else an installation that lost them would call an empty database up to date
        raise MigrationError(f"There are no migrations in {directory}. Install this release again.")
    return files


def _trouble(status: MigrationStatus, *, newest_known: str, newest_applied: str) -> str:
    name = status.name
    match status.state:
        case State.APPLIED:
            return ""
        case State.PENDING if name > newest_applied:
            return ""
        case State.PENDING:
            return (
                f"Migration {name} was never applied, although the later {newest_applied} was. Released numbers never "
                "change: give it the next free one."
            )
        case State.EDITED:
            return (
                f"Migration {name} was changed after it was applied ({status.applied_at:%Y-%m-%d %H:%M} UTC). Put its "
                "file back as it was released, and write the change as a new migration."
            )
        case State.UNKNOWN if name > newest_known:
            return (
                f"The database is newer than this release: {name} was applied to it, and this release ends with "
                f"{newest_known or 'none'}. Run the release that brought {name}, or restore a backup from before it."
            )
        case State.UNKNOWN:
            return (
                f"Migration {name} was applied to the database, but its file is missing from this release. "
                "Install the release again."
            )
