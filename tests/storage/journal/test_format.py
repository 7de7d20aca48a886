"""Records are found again whatever happened to the bytes between them, and nothing else is taken for one."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.journal import format as layout

JOURNAL = UUID(int=7)
SEED = layout.seed(JOURNAL)
ROWS = st.lists(st.text(max_size=30).map(str.encode), max_size=12)


def written(rows: list[bytes]) -> bytes:
    return b"".join(layout.pack_record(row, number, SEED) for number, row in enumerate(rows))


@given(ROWS, st.integers(0, 200))
def test_a_run_is_what_was_written_up_to_the_limit(rows: list[bytes], zeros: int) -> None:
    run = layout.read_run(written(rows) + bytes(zeros), 0, SEED, 8)
    assert run.rows == rows[:8]
    assert run.stop == len(written(rows[:8]))
    assert run.ends == [len(written(rows[: number + 1])) for number in range(len(run.rows))]


@given(ROWS.filter(bool), st.data())
def test_a_flipped_bit_costs_the_record_it_is_in_and_no_other(rows: list[bytes], data: st.DataObject) -> None:
    intact = written(rows)
    at = data.draw(st.integers(0, len(intact) - 1))
    damaged = bytearray(intact)
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    first = layout.read_run(bytes(damaged), 0, SEED, 100)
    again = layout.find_record(bytes(damaged), first.stop, SEED)
    rest = layout.read_run(bytes(damaged), again, SEED, 100).rows if again is not None else []
    hit = next(number for number in range(len(rows)) if at < len(written(rows[: number + 1])))
    assert [*first.rows, *rest] == rows[:hit] + rows[hit + 1 :]


@given(ROWS.filter(bool), st.data())
def test_a_cut_costs_what_was_cut(rows: list[bytes], data: st.DataObject) -> None:
    length = data.draw(st.integers(0, len(written(rows))))
    run = layout.read_run(written(rows)[:length], 0, SEED, 100)
    assert run.rows == [row for number, row in enumerate(rows) if len(written(rows[: number + 1])) <= length]


@given(st.binary(max_size=300))
def test_noise_is_no_record(noise: bytes) -> None:
    assert layout.read_run(noise, 0, SEED, 100).rows == []
    assert layout.find_record(noise, 0, SEED) is None


def test_a_record_of_another_journal_or_of_another_place_is_no_record() -> None:
    record = layout.pack_record(b"row", 3, SEED)
    assert layout.read_run(record, 0, layout.seed(UUID(int=8)), 1).rows == []
    moved = bytearray(record)
    moved[8] ^= 1  # its sequence
    assert layout.read_run(bytes(moved), 0, SEED, 1).rows == []


def test_a_length_beyond_all_reason_is_damage_and_not_a_reason_to_wait() -> None:
    long = layout.pack_record(b"x" * (layout.LONGEST_ROW + 1), 0, SEED)
    assert layout.read_run(long, 0, SEED, 1).rows == []


def test_a_header_says_who_the_segment_is() -> None:
    header = layout.unpack_header(layout.pack_header(JOURNAL, 12))
    assert header == layout.Header(
        intact=True, blank=False, version=layout.VERSION, number=12, journal_id=JOURNAL.hex, end=0, records=0
    )


@pytest.mark.parametrize("at", range(36))
def test_a_damaged_header_is_not_believed(at: int) -> None:
    header = bytearray(layout.pack_header(JOURNAL, 12))
    header[at] ^= 1
    assert not layout.unpack_header(bytes(header)).intact


def test_a_header_cut_short_is_damaged() -> None:
    assert not layout.unpack_header(b"").intact
    assert not layout.unpack_header(layout.pack_header(JOURNAL, 0)[:20]).intact


@given(st.integers(0, 10**8), st.integers(layout.HEADER_BYTES, 2**32 - 1))
def test_a_position_says_where_to_read_and_grows_with_it(number: int, offset: int) -> None:
    position = layout.position(number, offset)
    assert layout.place(position) == (number, offset)
    assert position < layout.position(number + 1, layout.HEADER_BYTES)


def test_a_journal_begins_behind_the_header_of_its_first_segment() -> None:
    assert layout.place(0) == (0, layout.HEADER_BYTES)
