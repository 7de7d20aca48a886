"""What stands in front of the entries of an MP4's tables, and who takes those."""

from functools import partial
from typing import NamedTuple

from policies.audio.mp4.overreads import Take
from policies.audio.mp4.tables import Tables

OFFSETS = {b"stco": 4, b"co64": 8}
"""Tables of which only tracks of AAC, FLAC and Opus need more than the head, and how long an entry is."""


class Heading(NamedTuple):
    """Of one table: its own bytes, who takes the entries behind it, how long one of them is, and how many there are."""

    size: int
    take: Take
    width: int
    entries: int


def heading(name: bytes, body: bytes, tables: Tables, room: int) -> Heading:
    """Of a box, by the first twelve bytes of its ``room``. Sizes that have no entries are added."""
    count = int.from_bytes(body[4:8], "big")
    match name:
        case b"stsz" | b"stz2":
            return _of_sizes(name, body, tables, room)
        case b"stsc":
            return Heading(8, Tables.pass_chunks, 12, count)
        case b"stco" | b"co64":
            tables.chunks, width = count, OFFSETS[name]
            return Heading(8, partial(Tables.pass_offsets, width=width), width, min(count, (room - 8) // width))
        case _:
            return Heading(8, Tables.pass_times, 8, count)


def _of_sizes(name: bytes, body: bytes, tables: Tables, room: int) -> Heading:
    size, count = int.from_bytes(body[4:8], "big"), int.from_bytes(body[8:12], "big")
    tables.expect(count)
    bits = body[7]
    if name == b"stz2" and bits in {8, 16}:
        return Heading(12, partial(Tables.pass_sizes, width=bits // 8), bits // 8, count)
    if name == b"stz2":
        tables.add_sizes(min(count, room * 8 // (bits or 8)), 0)
    elif size:
        tables.add_sizes(count, size)
    else:
        return Heading(12, Tables.pass_sizes, 4, count)
    return Heading(12, Tables.pass_sizes, 4, 0)
