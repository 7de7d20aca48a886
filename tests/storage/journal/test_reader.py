"""Every intact row of a journal is read, once and in order; what is damaged is passed over and counted."""

import time
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.journal import format as layout
from storage.journal.reader import Exhausted, Unreadable, backlog, read_batch
from storage.journal.writer import Journal
from tests.storage.journal.reading import only_journal, path, read_all, write_dead

ROWS = [b"row %d\n" % number for number in range(12)]
RECORD = layout.RECORD_BYTES + len(ROWS[0])


def test_rows_are_read_across_segments(tmp_path: Path) -> None:
    write_dead(tmp_path, [ROWS[:5], ROWS[5:7], ROWS[7:]])
    read = read_all(only_journal(tmp_path))
    assert (read.rows, read.lost_bytes, read.complete) == (ROWS, 0, True)


def test_reading_goes_on_from_a_position(tmp_path: Path) -> None:
    write_dead(tmp_path, [ROWS[:5], ROWS[5:]])
    batch = read_batch(only_journal(tmp_path), 0, max_rows=3, max_bytes=1)
    assert not isinstance(batch, Exhausted)
    assert read_all(only_journal(tmp_path), batch.after(1)).rows == ROWS[2:]


def test_a_batch_has_no_more_bytes_than_asked_for_beyond_one_record(tmp_path: Path) -> None:
    long = [bytes([65 + number]) * 100_000 for number in range(4)]
    write_dead(tmp_path, [long], size=500_000)
    batch = read_batch(only_journal(tmp_path), 0, max_rows=100, max_bytes=1)
    assert not isinstance(batch, Exhausted)
    assert batch.rows == long[:1]


def test_a_living_journal_ends_where_its_writer_is(tmp_path: Path) -> None:
    journal = Journal(tmp_path, segment_bytes=64 * 1024)
    for row in ROWS:
        journal.append(row)
    read = read_all(only_journal(tmp_path))
    assert (read.rows, read.complete) == (ROWS, False)
    journal.close()
    assert read_all(only_journal(tmp_path)).complete


def test_a_spare_segment_is_not_mistaken_for_the_one_in_use(tmp_path: Path) -> None:
    journal = Journal(tmp_path, segment_bytes=64 * 1024)
    journal.flush()
    assert len(only_journal(tmp_path).segments) == 2
    journal.append(b"row")
    assert read_all(only_journal(tmp_path)).rows == [b"row"]
    journal.append(b"more")
    assert read_all(only_journal(tmp_path)).rows == [b"row", b"more"]
    journal.close()


@pytest.mark.parametrize("cut", [1, layout.RECORD_BYTES - 1, layout.RECORD_BYTES, RECORD - 1])
@pytest.mark.parametrize("rest", ["zeros", "nothing"])
def test_a_half_written_record_at_the_end_is_skipped_and_reported(tmp_path: Path, cut: int, rest: str) -> None:
    """Test M-10: a torn last line after a power cut."""
    write_dead(tmp_path, [ROWS[:3]], size=0)
    torn = layout.pack_record(ROWS[3], 3, layout.seed(UUID(int=7)))[:cut]
    file = path(tmp_path)
    file.write_bytes(file.read_bytes() + torn + (bytes(500) if rest == "zeros" else b""))
    read = read_all(only_journal(tmp_path))
    assert (read.rows, read.complete) == (ROWS[:3], True)
    assert read.lost_bytes == len(torn.rstrip(b"\0"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_flipped_bit_anywhere_costs_one_record_at_most(tmp_path: Path, data: st.DataObject) -> None:
    """Also in a header: the name says the same."""
    write_dead(tmp_path, [ROWS[:6], ROWS[6:]], size=1000)
    number = data.draw(st.integers(0, 1))
    damaged = bytearray(path(tmp_path, number).read_bytes())
    at = data.draw(st.integers(0, 64 + 6 * RECORD - 1))
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    path(tmp_path, number).write_bytes(damaged)
    files = only_journal(tmp_path)
    try:
        read = read_all(files)
    except Unreadable:
        pytest.fail("damage stopped the reading of what is intact")
    missing = [row for row in ROWS if row not in read.rows]
    assert read.rows == [row for row in ROWS if row not in missing]
    assert len(missing) <= 1
    assert bool(missing) == bool(read.lost_bytes)
    if at < 64:
        assert not missing


def test_zeros_in_the_middle_are_damage(tmp_path: Path) -> None:
    """A page that never reached the disk before a power cut, while later ones did."""
    write_dead(tmp_path, [ROWS])
    data = bytearray(path(tmp_path).read_bytes())
    data[64 + 2 * RECORD : 64 + 5 * RECORD] = bytes(3 * RECORD)
    path(tmp_path).write_bytes(data)
    read = read_all(only_journal(tmp_path))
    assert read.rows == ROWS[:2] + ROWS[5:]
    assert read.lost_bytes == 3 * RECORD


def test_a_missing_segment_does_not_stop_the_next(tmp_path: Path) -> None:
    write_dead(tmp_path, [ROWS[:3], ROWS[3:6], ROWS[6:]])
    path(tmp_path, 1).unlink()
    assert read_all(only_journal(tmp_path)).rows == ROWS[:3] + ROWS[6:]


def test_a_segment_that_another_shipper_removes_meanwhile_reads_as_empty(tmp_path: Path) -> None:
    write_dead(tmp_path, [ROWS[:3], ROWS[3:]])
    files = only_journal(tmp_path)
    path(tmp_path, 0).unlink()
    assert read_all(files).rows == ROWS[3:]


def test_damage_in_a_living_journal_is_passed_over_once_a_later_record_proves_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path, segment_bytes=64 * 1024)
    for row in ROWS[:4]:
        journal.append(row)
    (segment,) = only_journal(tmp_path).segments
    with segment.path.open("r+b") as file:
        file.seek(64 + 3 * RECORD + 5)
        file.write(b"\xee")
    read = read_all(only_journal(tmp_path))
    assert (read.rows, read.lost_bytes) == (ROWS[:3], 0)  # it may be a record that is being copied in
    journal.append(ROWS[4])
    read = read_all(only_journal(tmp_path))
    assert (read.rows, read.lost_bytes) == ([*ROWS[:3], ROWS[4]], RECORD)
    journal.close()


def test_a_record_that_is_whole_at_the_second_look_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A processor may show a later store before an earlier one."""
    journal = Journal(tmp_path, segment_bytes=64 * 1024)
    for row in ROWS[:3]:
        journal.append(row)
    (segment,) = only_journal(tmp_path).segments
    whole = segment.path.read_bytes()

    def write(data: bytes) -> None:
        with segment.path.open("r+b") as file:
            file.write(data)

    write(whole[:70] + bytes(20) + whole[90:])
    monkeypatch.setattr(time, "sleep", lambda _: write(whole))
    read = read_all(only_journal(tmp_path))
    assert (read.rows, read.lost_bytes) == (ROWS[:3], 0)
    journal.close()


@pytest.mark.parametrize("hint", [0, 10, 2**63, 2**64 - 1])
def test_a_damaged_hint_delays_a_living_journal_until_the_next_append(tmp_path: Path, hint: int) -> None:
    journal = Journal(tmp_path, segment_bytes=64 * 1024)
    journal.append(ROWS[0])
    (segment,) = only_journal(tmp_path).segments
    with segment.path.open("r+b") as file:
        file.seek(layout.HINT_AT)
        file.write(hint.to_bytes(8, "little"))
    read_all(only_journal(tmp_path))
    journal.append(ROWS[1])
    assert read_all(only_journal(tmp_path)).rows == ROWS[:2]
    journal.close()


def test_a_renamed_journal_is_refused_and_says_its_name(tmp_path: Path) -> None:
    """Under another name its rows would be shipped a second time."""
    write_dead(tmp_path, [ROWS])
    path(tmp_path).rename(path(tmp_path, 0, UUID(int=8)))
    with pytest.raises(Unreadable, match=f"segment 0 of {UUID(int=7).hex}"):
        read_all(only_journal(tmp_path))


def test_a_journal_of_a_newer_format_is_left_for_the_newer_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "VERSION", 2)
    write_dead(tmp_path, [ROWS])
    monkeypatch.undo()
    with pytest.raises(Unreadable, match="newer gateway"):
        read_all(only_journal(tmp_path))


def test_a_file_with_a_journals_name_and_nothing_intact_is_left_alone(tmp_path: Path) -> None:
    path(tmp_path).write_bytes(b"somebody's notes")
    with pytest.raises(Unreadable, match="left alone"):
        read_all(only_journal(tmp_path))


@pytest.mark.parametrize("content", [b"", bytes(64), bytes(1000)])
def test_a_segment_that_was_emptied_is_told_by_its_header_and_can_go(tmp_path: Path, content: bytes) -> None:
    path(tmp_path).write_bytes(content)
    read = read_all(only_journal(tmp_path))
    assert (read.rows, read.lost_bytes, read.complete) == ([], layout.HEADER_BYTES, True)


def test_a_journal_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    write_dead(tmp_path, [ROWS])
    files = only_journal(tmp_path)
    path(tmp_path).unlink()
    path(tmp_path).mkdir()
    with pytest.raises(Unreadable, match="Is a directory"):
        read_all(files)


def test_the_backlog_is_what_the_writer_says_it_is(tmp_path: Path) -> None:
    journal = Journal(tmp_path, segment_bytes=64 * 1024)
    for row in ROWS:
        journal.append(row)
    batch = read_batch(only_journal(tmp_path), 0, max_rows=2, max_bytes=1)
    assert not isinstance(batch, Exhausted)
    behind = backlog(only_journal(tmp_path), batch.after(-1))
    assert behind.records == len(ROWS)
    assert behind.bytes == sum(layout.RECORD_BYTES + len(row) for row in ROWS[2:])
    journal.close()
