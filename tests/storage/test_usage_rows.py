"""A usage record survives its encoding, whatever its texts hold."""

import dataclasses

import pytest
from hypothesis import given

from policies.account.usage import NOT_AUDIO, Measured, UsageRecord
from storage.journal.format import LONGEST_ROW, RECORD_MAGIC
from storage.ports import StorageError
from storage.usage_rows import (
    CURRENT,
    DIMENSION_LIMIT,
    ENCODINGS,
    LONG,
    TEXT_LIMIT,
    decode,
    encode,
    fill,
    instant,
    outline,
)
from tests.storage.usage_samples import HOSTILE, STORABLE, in_encoding, record, records


@given(records(texts=STORABLE))
def test_what_was_encoded_is_decoded_to_an_equal_record(given_record: UsageRecord) -> None:
    assert decode(encode(given_record)) == given_record


@given(records(texts=HOSTILE))
def test_whatever_the_texts_hold_the_row_is_one_line_of_as_many_fields(given_record: UsageRecord) -> None:
    row = encode(given_record)
    assert row.endswith(b"\n")
    assert row.count(b"\n") == 1
    assert b"\r" not in row
    assert b"\0" not in row
    assert row.count(b"\t") == len(CURRENT.names) - 1
    assert RECORD_MAGIC not in row
    assert len(row) < LONGEST_ROW
    decode(row)


@given(records(texts=STORABLE))
def test_a_filled_outline_is_the_row_that_encoding_makes(given_record: UsageRecord) -> None:
    """Of another record, with other ids, instant, sizes and times; or there is no outline."""
    like = given_record._replace(event_id="event-1", request_id="request-1", measured=NOT_AUDIO)
    found = outline(like._replace(event_id="event-2", request_id="", ended_ms=0, bytes_in=1, duration_us=2))
    ended = instant(like.ended_ms)
    filled = ended, "event-1", "request-1", like.bytes_in, like.bytes_out, like.duration_us, like.upstream_us
    assert not found or fill(found, *filled) == encode(like)


def test_a_row_has_an_outline_unless_its_texts_must_be_looked_at() -> None:
    silent = record(measured=NOT_AUDIO)
    assert outline(silent)
    odd = "\t", "\n", "\\", "%", "\0", "\ud800", "é", "r" * 500
    assert not any(outline(silent._replace(route=text)) for text in odd)


def test_nul_and_lone_surrogates_become_replacement_characters() -> None:
    row = encode(record(code="a\0b", request_id="c\ud800d", route="\udfff"))
    assert (decode(row).code, decode(row).request_id, decode(row).route) == ("a\ufffdb", "c\ufffdd", "\ufffd")


def test_texts_are_whole_as_long_as_all_of_them_are_short_together() -> None:
    spare = LONG - len("\t".join(encode(record()).decode().split("\t")[2:18]))
    whole = record(key_id="k" * (spare + len("key_1")))
    assert decode(encode(whole)) == whole
    cut = decode(encode(record(key_id="k" * LONG, request_id="r" * 100_000)))
    assert (cut.key_id, cut.request_id) == ("k" * DIMENSION_LIMIT, "r" * TEXT_LIMIT)


def test_the_longest_row_fits_into_a_journal() -> None:
    """Audio would be free for whoever could make a record that no journal takes."""
    wide = "\N{GRINNING FACE}" * 1_000_000
    texts = dict.fromkeys(("event_id", "tenant_id", "key_id", "user_id", "route", "method", "code"), wide)
    measured = Measured(container=wide, codec=wide, model=wide, language=wide, response_format=wide, job=wide)
    assert len(encode(record(**texts, request_id="\\" * 1_000_000, measured=measured))) < LONGEST_ROW


def test_a_negative_figure_is_written_as_nothing() -> None:
    bent = decode(encode(record(bytes_in=-5, duration_us=-(10**30), measured=Measured(audio_ms=-1, walked_ms=-1))))
    assert (bent.bytes_in, bent.duration_us, bent.measured.audio_ms, bent.measured.walked_ms) == (0, 0, 0, 0)
    assert bent.bytes_out == 67


@pytest.mark.parametrize(
    ("before_ms", "audio_ms", "kept_ms"), [(900, -900, -900), (900, -901, -900), (0, -1, 0), (-5, -1, 0), (7, 3, 3)]
)
def test_a_correction_takes_back_what_was_accounted_and_no_more(before_ms: int, audio_ms: int, kept_ms: int) -> None:
    taken = record(bytes_in=-5, measured=Measured(audio_ms=audio_ms, before_ms=before_ms, walked_ms=-1))
    bent = decode(encode(taken))
    assert (bent.measured.audio_ms, bent.measured.walked_ms, bent.bytes_in) == (kept_ms, 0, 0)


@pytest.mark.parametrize(
    ("ended_ms", "written"),
    [
        (-1, b"1970-01-01T00:00:00.999Z"),
        (10**18, b"9999-12-31T23:59:59.000Z"),
        (0, b"1970-01-01T00:00:00.000Z"),
        (1_795_694_400_007, b"2026-11-26T12:00:00.007Z"),
    ],
)
def test_an_instant_is_written_as_the_nearest_that_a_date_can_have(ended_ms: int, written: bytes) -> None:
    assert encode(record(ended_ms=ended_ms)).split(b"\t")[1] == written


def test_every_fact_of_a_record_has_a_column() -> None:
    facts = set(UsageRecord._fields) - {"measured", "ended_ms"}
    facts |= {f"measured.{field.name}" for field in dataclasses.fields(Measured)}
    assert {column.attribute for column in CURRENT.columns} == facts


def test_a_row_without_audio_says_null_where_nothing_was_measured() -> None:
    quiet = record(measured=NOT_AUDIO)
    assert encode(quiet).count(rb"\N") == 7
    assert decode(encode(quiet)) == quiet


@pytest.mark.parametrize("row", [b"4\tx\n", b"\n", b"", b"x\ty\n"])
def test_a_row_of_an_unknown_encoding_names_the_remedy(row: bytes) -> None:
    with pytest.raises(StorageError, match="newer gateway"):
        decode(row)


def test_a_row_of_another_shape_is_refused() -> None:
    with pytest.raises(StorageError, match="fields"):
        decode(encode(record()).replace(b"\n", b"\tmore\n"))


def test_encodings_are_listed_under_their_own_numbers() -> None:
    assert all(number == encoding.number for number, encoding in ENCODINGS.items())


@pytest.mark.parametrize("number", ENCODINGS)
def test_a_row_of_every_encoding_is_still_read(number: int) -> None:
    """It may lie in a journal since before an update; it says nothing of tokens, or of jobs."""
    made = record()
    assert decode(in_encoding(number, made)) == made
