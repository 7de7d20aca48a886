"""Usage records for the tests of the account: one that is easy to vary, and strategies for all of them."""

import itertools
from datetime import UTC, datetime

from hypothesis import strategies as st

from policies.account.usage import INTERIM, AudioSource, Measured, Outcome, UsageRecord
from storage.usage_rows import CURRENT, ENCODINGS, encode

ACME = "ten_acme"
OTHER = "ten_other"
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp()) * 1000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

_numbers = itertools.count(1)


def record(**changes: object) -> UsageRecord:
    """A transcription that went well, with an event id of its own; ``changes`` by field name."""
    measured = Measured(
        audio_ms=2_500,
        source=AudioSource.WALKED,
        walked_ms=2_500,
        reported_ms=2_480,
        channels=1,
        container="wav",
        codec="pcm_s16le",
        model="whisper-1",
        language="en",
        response_format="json",
    )
    number = next(_numbers)
    facts = {
        "event_id": f"evt_{number:020d}",
        "ended_ms": NOON_MS + number,
        "tenant_id": ACME,
        "key_id": "key_1",
        "user_id": "",
        "route": "openai.transcriptions",
        "method": "POST",
        "status": 200,
        "outcome": Outcome.OK,
        "code": "",
        "request_id": f"req-{number}",
        "bytes_in": 80_044,
        "bytes_out": 67,
        "duration_us": 120_500,
        "upstream_us": 119_000,
        "attempt": 1,
        "measured": measured,
    }
    return UsageRecord(**facts | changes)


def in_encoding(number: int, made: UsageRecord) -> bytes:
    """The row of a record as an earlier gateway wrote it: without what that encoding has no place for."""
    names, fields = ENCODINGS[number].names, encode(made).decode().removesuffix("\n").split("\t")
    kept = [field for name, field in zip(CURRENT.names, fields, strict=True) if name in names]
    return "\t".join([str(number), *kept[1:]]).encode() + b"\n"


def records(*, texts: st.SearchStrategy[str], tenants: st.SearchStrategy[str] | None = None) -> st.SearchStrategy:
    """Records with any figures; every text is one of ``texts``."""
    figures = st.integers(0, 10**12)
    maybe = st.none() | figures
    measured = st.builds(
        Measured,
        audio_ms=figures,
        source=st.sampled_from(AudioSource),
        walked_ms=maybe,
        reported_ms=maybe,
        estimated_ms=maybe,
        discrepant=st.booleans(),
        channels=st.none() | st.integers(0, 64),
        container=texts,
        codec=texts,
        model=texts,
        language=texts,
        response_format=texts,
        job=texts,
        before_ms=maybe,
    )
    return st.builds(
        UsageRecord,
        event_id=texts,
        ended_ms=st.integers(0, 253_402_300_799_999),
        tenant_id=tenants or texts,
        key_id=texts,
        user_id=texts,
        route=texts,
        method=texts,
        status=st.integers(0, 599) | st.just(INTERIM),
        outcome=st.sampled_from(Outcome),
        code=texts,
        request_id=texts,
        bytes_in=figures,
        bytes_out=figures,
        duration_us=figures,
        upstream_us=figures,
        attempt=st.integers(0, 10),
        measured=measured,
    )


STORABLE = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from("\\\t\n\r\\.N\b\f\v\u2028"),
    max_size=20,
)
"""What PostgreSQL can hold, rich in what its COPY format gives a meaning to."""

HOSTILE = st.text(
    st.characters(categories=["Cs", "Cc", "Lu", "So"]) | st.sampled_from("\0\ud800\udfff\\\t\n"), max_size=400
)
"""Anything that a Python string can be."""
