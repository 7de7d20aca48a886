"""What the tests of the account share: records put into it and taken out, and what it should say of them."""

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from policies.account.usage import INTERIM, AudioSource, Outcome, UsageRecord
from storage.ports import UsageTotals
from storage.postgres.usage.ledger import PostgresLedger
from storage.usage_rows import encode
from tests.storage.usage_samples import ACME

EVER = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))


async def keep(ledger: PostgresLedger, *kept: UsageRecord) -> None:
    """Ship records as a journal of their own."""
    assert await ledger.ship(uuid.uuid4().hex, 0, 1, [encode(one) for one in kept])


async def exported(ledger: PostgresLedger, tenant: str = ACME, since: datetime = EVER[0], until: datetime = EVER[1]):
    return [one async for one in ledger.export(tenant, since, until)]


def totals(kept: Iterable[UsageRecord]) -> UsageTotals:
    """What the ledger should say of these: of a stream's records only the last one is a request."""
    kept = list(kept)
    asked = [one for one in kept if one.status != INTERIM]
    return UsageTotals(
        requests=len(asked),
        errors=sum(one.status >= 400 for one in kept),
        denied=sum(one.outcome is Outcome.DENIED for one in asked),
        audio_ms=sum(one.measured.audio_ms for one in kept),
        bytes_in=sum(one.bytes_in for one in kept),
        bytes_out=sum(one.bytes_out for one in kept),
        unmeasured=sum(one.measured.source is AudioSource.UNMEASURED for one in kept),
    )


def at(milliseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
