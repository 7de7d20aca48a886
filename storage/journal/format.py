"""The journal as bytes: segments, records, positions, and the search for the next intact record. No I/O.

A segment is a header of 64 bytes and records to its end; what was never written is zero::

    0   magic 8 | version 2 | zero 2 | segment number 4 | journal id 16 | CRC-32 of the 32 bytes before 4 | zero 12
    48  end of the last record 8 | records in the journal so far 8      (a hint, rewritten by each append)
    64  record: magic 4 | length 4 | sequence 8 | CRC-32 of the payload 4 | payload

Integers are little-endian. A record's checksum starts from the journal's id and the record's sequence, so bytes of
another journal are not taken for a record. A copy of one of its own, where a disk wrote to the wrong place, is one: its
sequence tells the shipper that it has it already.

Invariant: a payload never holds ``RECORD_MAGIC``, because it is UTF-8 and the magic's first byte never occurs in UTF-8
(RFC 3629 section 3). So nothing that a client sends can look like a record once the search for the next one is on.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

VERSION: Final = 1
SEGMENT_MAGIC: Final = b"TahoeJnl"
RECORD_MAGIC: Final = b"\xffrec"
HEADER_BYTES: Final = 64
HINT_AT: Final = 48
LONGEST_ROW: Final = 128 * 1024
"""Bytes that one payload may have: what claims more is damage, and a reader's buffer always holds a whole record."""

POSITION_SHIFT: Final = 32
"""A position is segment number x 2^32 + offset in the segment: it says where to read without asking any header."""

_HEADER: Final = struct.Struct("<8sH2xI16sI")
_HINT: Final = struct.Struct("<QQ")
_RECORD: Final = struct.Struct("<4sIQI")
RECORD_BYTES: Final = _RECORD.size
_MASK: Final = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Header:
    """Who a segment says it is."""

    intact: bool
    """Its checksum is right; else nothing but ``blank`` is to be believed."""
    blank: bool
    """All zero."""
    version: int
    number: int
    journal_id: str
    end: int
    """Offset after the last record, by the writer's own word; 0 in a segment that is not in use yet."""
    records: int
    """Records in the whole journal when that was written."""


@dataclass(frozen=True, slots=True)
class Run:
    """Intact records whose sequences follow one another, and the offset where the run stops."""

    rows: list[bytes]
    ends: list[int]
    """The offset after each row."""
    first_sequence: int
    stop: int


def pack_header(journal_id: UUID, number: int) -> bytes:
    """The header of a new segment, without a hint."""
    fields = _HEADER.pack(SEGMENT_MAGIC, VERSION, number, journal_id.bytes, 0)[:-4]
    return (fields + struct.pack("<I", zlib.crc32(fields))).ljust(HEADER_BYTES, b"\0")


def unpack_header(data: bytes) -> Header:
    """What the first ``HEADER_BYTES`` of a segment say; fewer bytes are a damaged header."""
    data = data.ljust(HEADER_BYTES, b"\0")
    magic, version, number, journal_id, checksum = _HEADER.unpack_from(data)
    end, records = _HINT.unpack_from(data, HINT_AT)
    intact = magic == SEGMENT_MAGIC and checksum == zlib.crc32(data[: _HEADER.size - 4])
    return Header(intact, not any(data), version, number, UUID(bytes=journal_id).hex, end, records)


def seed(journal_id: UUID) -> int:
    """What a journal's checksums start from."""
    return zlib.crc32(journal_id.bytes)


def pack_record(row: bytes, sequence: int, seed: int) -> bytes:
    """One record: header and payload."""
    checksum = zlib.crc32(row, (seed + sequence + (sequence >> 32)) & _MASK)
    return _RECORD.pack(RECORD_MAGIC, len(row), sequence, checksum) + row


def pack_records(rows: Sequence[bytes], sequence: int, seed: int, room: int) -> list[bytes]:
    """Records of rows that follow one another, from the first on: as many as fit in that many bytes."""
    records = []
    for row in rows:
        size = len(row)
        room -= RECORD_BYTES + size
        if room < 0 or size > LONGEST_ROW:
            break
        checksum = zlib.crc32(row, (seed + sequence + (sequence >> 32)) & _MASK)
        records.append(_RECORD.pack(RECORD_MAGIC, size, sequence, checksum) + row)
        sequence += 1
    return records


def read_run(data: bytes, start: int, seed: int, limit: int) -> Run:
    """The intact records from ``start`` on, at most ``limit``; none when there is no intact record at ``start``."""
    rows: list[bytes] = []
    ends: list[int] = []
    first_sequence, at, size = 0, start, len(data)
    while len(rows) < limit and at + RECORD_BYTES <= size:
        magic, length, sequence, checksum = _RECORD.unpack_from(data, at)
        end = at + RECORD_BYTES + length
        if magic != RECORD_MAGIC or length > LONGEST_ROW or end > size:
            break
        row = data[at + RECORD_BYTES : end]
        if zlib.crc32(row, (seed + sequence + (sequence >> 32)) & _MASK) != checksum:
            break
        if not rows:
            first_sequence = sequence
        elif sequence != first_sequence + len(rows):
            break
        rows.append(row)
        ends.append(end)
        at = end
    return Run(rows, ends, first_sequence, at)


def find_record(data: bytes, start: int, seed: int) -> int | None:
    """The offset of the first intact record at or after ``start``; None when there is none."""
    at = data.find(RECORD_MAGIC, start)
    while at != -1:
        if read_run(data, at, seed, 1).rows:
            return at
        at = data.find(RECORD_MAGIC, at + 1)
    return None


def intact_rows(data: bytes, journal_id: UUID) -> list[bytes]:
    """Every intact row in the bytes of a segment, from its beginning on and past whatever is damaged."""
    own, rows = seed(journal_id), list[bytes]()
    start: int | None = HEADER_BYTES
    while start is not None:
        run = read_run(data, start, own, len(data))
        rows += run.rows
        start = find_record(data, run.stop, own)
    return rows


def position(number: int, offset: int) -> int:
    """Where a journal stands, as the ledger keeps it."""
    return number << POSITION_SHIFT | offset


def place(position: int) -> tuple[int, int]:
    """The segment number and the offset of a position; the very first position is the first record's."""
    number, offset = divmod(position, 1 << POSITION_SHIFT)
    return number, max(offset, HEADER_BYTES)
