"""The account as it is read by commands: with all that the journals of this machine hold."""

from typing import TYPE_CHECKING

from gateway.cli.output import remark

if TYPE_CHECKING:
    from gateway.cli.stores import Stores
    from storage.journal.archive import Archive

PATIENCE_S = 2.0
"""How long a command waits for what is on its way to the account."""


async def complete(stores: "Stores") -> None:
    """See that the account has what the journals of this machine have; say so where it has not."""
    from gateway.cli.backlog import fetch  # noqa: PLC0415  slow: see the package's docstring

    journals, kept = stores.settings.state_dir / "journal", archive(stores)
    missing = await fetch(journals, stores.ledger, kept, own=stores.embedded, patience=PATIENCE_S)
    if missing:
        remark(missing)


def archive(stores: "Stores") -> "Archive":
    """What is kept of the journals after it was shipped."""
    from storage.journal.archive import Archive  # noqa: PLC0415  slow: see the package's docstring

    settings = stores.settings
    return Archive(
        settings.state_dir / "archive",
        keep_days=lambda: settings.journal_archive_days,
        limit_bytes=settings.journal_max_bytes,
    )
