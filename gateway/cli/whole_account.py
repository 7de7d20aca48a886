"""The account as it is read by commands: with all that the journals of this machine hold."""

from typing import TYPE_CHECKING

from gateway.cli.output import remark

if TYPE_CHECKING:
    from gateway.cli.stores import Stores
    from storage.journal.archive import Archive


async def complete(stores: "Stores") -> None:
    """See that the account has what the journals of this machine have; say so where it has not."""
    from gateway.cli.backlog import fetch  # noqa: PLC0415  slow: see the package's docstring

    missing = await fetch(stores.settings.state_dir / "journal", stores.ledger, archive(stores), own=stores.embedded)
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
