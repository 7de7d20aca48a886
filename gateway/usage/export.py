"""Usage records as lines of text: one JSON object each, or CSV.

A spreadsheet takes a cell that begins with ``=``, ``+``, ``-`` or ``@`` for a formula, and clients choose some of the
texts here (a request id, a model): what would be one gets an apostrophe in front (CWE-1236).
"""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from gateway.times import stamp
from policies.account.usage import UsageRecord

Value = str | int | bool | None

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FORMULA = re.compile(r"(^|;)(?=[\s\u200b-\u200f\u2060\ufeff]*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20])")
"""The last four are = + - @ in full width, which East Asian spreadsheets take for the same (OWASP, CSV injection).

Where the decimal point is a comma spreadsheets part cells at semicolons, whatever is quoted. Blanks may be invisible.
"""

COLUMNS = (
    "event_id", "ended_at", "tenant", "key_id", "user_id", "route", "method", "status", "outcome", "code", "request_id",
    "audio_ms", "audio_source", "walked_ms", "reported_ms", "estimated_ms", "discrepant", "channels", "container",
    "codec", "model", "language", "response_format", "input_tokens", "output_tokens", "bytes_in", "bytes_out",
    "duration_us", "upstream_us", "attempt", "job", "before_ms",
)  # fmt: skip


def flat(record: UsageRecord, tenant: str) -> dict[str, Value]:
    """A record as one flat object, its keys in the order of :data:`COLUMNS`."""
    measured = record.measured
    facts: dict[str, Value] = {
        "ended_at": stamp(_EPOCH + timedelta(milliseconds=record.ended_ms), "milliseconds"),
        "tenant": tenant,
        "outcome": record.outcome.value,
        "audio_source": measured.source.value,
    }
    for name in COLUMNS:
        if name not in facts:
            facts[name] = getattr(measured if hasattr(measured, name) else record, name)
    return {name: facts[name] for name in COLUMNS}


def jsonl_line(facts: Mapping[str, Value]) -> str:
    """One line with one JSON object."""
    return json.dumps(facts) + "\n"


def csv_line(facts: Mapping[str, Value]) -> str:
    """One CSV record."""
    return csv_record(list(facts.values()))


def csv_heading() -> str:
    """The first line of a CSV."""
    return csv_record(COLUMNS)


def harmless(text: str) -> str:
    """``text``, such that no spreadsheet takes it for a formula, with blanks before it or not."""
    return _FORMULA.sub(r"\1'", text)


def _csv_cell(value: Value) -> Value:
    if isinstance(value, bool):
        return "true" if value else "false"
    return harmless(value) if isinstance(value, str) else value


def csv_record(cells: Sequence[Value]) -> str:
    """One CSV record (RFC 4180) of cells that are harmless."""
    buffer = io.StringIO()
    # The line end of RFC 4180 is also what makes this writer quote a lone CR.
    csv.writer(buffer, lineterminator="\r\n").writerow([_csv_cell(value) for value in cells])
    return buffer.getvalue()


FORMATS: Mapping[str, tuple[str, Callable[[Mapping[str, Value]], str]]] = {
    "jsonl": ("", jsonl_line),
    "csv": (csv_heading(), csv_line),
}
"""The heading, and what makes a line."""
