"""Usage that is still in the journals when somebody asks for the account: it is brought there first, or waited for.

A running gateway ships within a second. Where the account is certainly the journals' own, this process does it at once;
two shippers do each other no harm. Otherwise it only waits: a command that names another database than the gateway
whose state directory this is would carry that gateway's usage into the wrong books.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from storage.journal.archive import Archive
from storage.journal.directory import survey
from storage.journal.reader import Unreadable, backlog
from storage.ports import Ledger
from storage.shipper import Shipper

_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class _Pending:
    """What the journals hold that the ledger does not. ``known``: the ledger has met every one of them before."""

    bytes: int
    known: bool
    trouble: str


async def fetch(journals: Path, ledger: Ledger, archive: Archive, *, own: bool, patience: float) -> str:
    """Bring everything to the ledger within ``patience`` seconds. What is missing, as a sentence; empty: nothing.

    ``own``: the ledger is certainly the one that these journals belong to.
    """
    clock = asyncio.get_running_loop().time
    until = clock() + patience
    pending = await _look(journals, ledger)
    if pending.bytes and (own or pending.known):
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await Shipper(journals, ledger, archive).drain()
        pending = await _look(journals, ledger)
    while pending.bytes and clock() < until:
        await asyncio.sleep(_POLL_S)
        pending = await _look(journals, ledger)
    missing = [f"{pending.trouble} What is in there is not in these figures."] if pending.trouble else []
    if pending.bytes:
        missing.append(
            f"Not in these figures: {pending.bytes} bytes of usage in {journals} that did not reach the account within "
            f"{patience:g} s. The gateway ships them; ask again in a moment, or see its log."
        )
    return "\n".join(missing)


async def _look(journals: Path, ledger: Ledger) -> _Pending:
    try:
        found = await asyncio.to_thread(survey, journals)
    except OSError as error:
        return _Pending(0, known=True, trouble=f"The usage journals in {journals} cannot be read: {error.strerror}.")
    total, known, troubles = 0, True, [*found.unreadable]
    for files in found.journals:
        position = await ledger.shipped(files.journal_id.hex)
        try:
            behind = await asyncio.to_thread(backlog, files, position)
        except Unreadable as error:
            troubles.append(str(error))
            continue
        total += behind.bytes
        known &= position > 0 or not behind.bytes
    return _Pending(total, known=known, trouble=" ".join(troubles))
