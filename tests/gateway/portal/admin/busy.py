"""Usage of a tenant, such that every figure of a page has something to say."""

from datetime import datetime, timedelta

from policies.account.usage import AudioSource, Measured, Outcome
from storage.postgres.usage.ledger import PostgresLedger
from storage.usage_rows import encode
from tests.gateway.portal.conftest import Town
from tests.storage.usage_samples import record

ENDS = (
    (Outcome.OK, 200, 60_000),
    (Outcome.OK, 200, 90_000),
    (Outcome.DENIED, 429, 0),
    (Outcome.UPSTREAM_FAILED, 502, 0),
)


async def use(town: Town, now: datetime, *, hours: int = 3, tenant_id: str = "", key_id: str = "key_x") -> None:
    """Four requests an hour: two answered with 2.5 minutes of audio, one refused, one that failed upstream."""
    rows = [
        encode(
            record(
                tenant_id=tenant_id or town.tenant.id,
                key_id=key_id,
                ended_ms=int((now - timedelta(hours=hour)).timestamp() * 1000),
                outcome=outcome,
                status=status,
                measured=Measured(audio_ms=audio_ms, source=AudioSource.WALKED, walked_ms=audio_ms, model="whisper-1"),
            )
        )
        for hour in range(hours)
        for outcome, status, audio_ms in ENDS
    ]
    await PostgresLedger(town.parts.pool).ship(f"j-{tenant_id}{key_id}", 0, 1, rows)
