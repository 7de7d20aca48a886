"""A usage record as a CloudEvent, for metering services: OpenMeter sums up ``data`` by ``subject``."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from policies.account.events import Event, envelope
from policies.account.usage import UsageRecord

TYPE: Final = "audio.transcribed"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def usage_event(record: UsageRecord, source: str) -> dict[str, Any]:
    """In CloudEvents' JSON format; its id is the record's, so that who gets it twice can tell (CloudEvents 1.0, id).

    The record must be a tenant's: the tenant is the subject, and a subject is never empty.
    """
    measured = record.measured
    event = Event(
        id=record.event_id,
        tenant_id=record.tenant_id,
        type=TYPE,
        subject=record.tenant_id,
        at=_EPOCH + timedelta(milliseconds=record.ended_ms),
        data={
            "audio_ms": measured.audio_ms,
            "duration_source": measured.source.value,
            "model": measured.model,
            "channels": measured.channels,
            "input_tokens": measured.input_tokens,
            "output_tokens": measured.output_tokens,
            "bytes_in": record.bytes_in,
            "bytes_out": record.bytes_out,
            "key_id": record.key_id,
            "user_id": record.user_id,
            "route": record.route,
            "status": record.status,
            "outcome": record.outcome.value,
            "request_id": record.request_id,
            "job": measured.job,
            "before_ms": measured.before_ms,
        },
    )
    return envelope(event, source)
