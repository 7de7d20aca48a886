"""Packets of a transport stream (ISO/IEC 13818-1 section 2.4.3), many at once, by columns."""

import struct
from functools import cache
from itertools import chain, compress

PACKET_BYTES, HEAD_BYTES = 188, 4
PES, PES_BYTES = b"\0\0\1", 9
FIRST, NUMBER = 0x40, 0x1FFF
"""In the second byte, that an element or a section begins in this packet; in the second and third, whose it is."""
_LONGEST = PACKET_BYTES - HEAD_BYTES
_BEGINS = bytes(HEAD_BYTES if flags & 0x10 else PACKET_BYTES for flags in range(256))
"""Where a payload does without a field of adaptation, by a packet's flags."""
_HAVE_FIELD = bytes(0xFF * (flags & 0x30 == 0x30) for flags in range(256))
_FIELD_BYTES = bytes(min(1 + size, _LONGEST) for size in range(256))
_IS_FIRST = bytes(high >> 6 & 1 for high in range(256))
_IS_LATE = bytes(begin != HEAD_BYTES for begin in range(256))


class Packets:
    """A column has a byte for each packet. Which of them are something is a number of as many bytes, each 0 or 1."""

    __slots__ = ("_at", "_begins", "_data", "_high", "_low", "_of", "_stride", "count", "first", "odd")

    def __init__(self, data: bytes, at: int, count: int, stride: int) -> None:
        self.count = count
        self._data, self._at, self._stride = data, at, stride
        self._high, self._low = self._column(1), self._column(2)
        self._of: dict[int, int] = {}
        self.first = _number(self._high.translate(_IS_FIRST))
        """In which something begins."""
        self.odd = 0
        """Of those, in which it is something else than an element whose header ends there."""
        self._begins = bytearray()
        """Where in each the payload does, behind such a header; at its end where there is none."""

    def _column(self, byte: int) -> bytes:
        return self._data[self._at + byte : self._at + self.count * self._stride : self._stride]

    def of(self, number: int) -> int:
        """Which are of this stream."""
        of = self._of.get(number)
        if of is None:
            high, low = self._high.translate(_same(number >> 8, 0x1F)), self._low.translate(_same(number & 0xFF, 0xFF))
            of = self._of[number] = _number(high) & _number(low)
        return of

    def flags(self, those: int) -> bytes:
        """A byte for each packet, 1 for those."""
        return those.to_bytes(self.count, "big")

    def at(self, n: int) -> int:
        """Where one begins."""
        return self._at + n * self._stride

    def find_payloads(self) -> None:
        """Look where the payloads begin."""
        if self._begins:
            return
        flags, fields = self._column(3), self._column(4)
        begins = _number(flags.translate(_BEGINS))
        begins += _number(flags.translate(_HAVE_FIELD)) & _number(fields.translate(_FIELD_BYTES))
        self._begins = bytearray(self.flags(begins))
        self._pass_headers()

    def _pass_headers(self) -> None:
        data, begins, stride, at = self._data, self._begins, self._stride, self._at
        odd = bytearray(self.count)
        for n in compress(range(self.count), self.flags(self.first)):
            begin = begins[n]
            payload = at + n * stride + begin
            if begin == PACKET_BYTES:
                continue
            if begin <= PACKET_BYTES - PES_BYTES and data.startswith(PES, payload):
                begin += PES_BYTES + data[payload + PES_BYTES - 1]
                if begin <= PACKET_BYTES:
                    begins[n] = begin
                    continue
            odd[n] = 1
        self.odd = _number(odd)

    def up_to(self, own: bytes, n: int, end: int, room: int) -> int:
        """From one packet on, the first one that brings so many bytes of a stream together, or ``end``."""
        if own.count(1, n, end) * _LONGEST < room:
            return end
        begins = self._begins
        for one in compress(range(n, end), own[n:end]):
            room -= PACKET_BYTES - begins[one]
            if room <= 0:
                return one
        return end

    def payload(self, own: bytes, n: int, end: int) -> bytes:
        """What a stream's packets carry, from one on up to another."""
        data, begins, at, stride, count = self._data, self._begins, self.at(n), self._stride, own.count(1, n, end)
        if count * 2 < end - n:
            begun = zip(range(at, self.at(end), stride), begins[n:end], strict=False)
            return b"".join([data[at + begin : at + PACKET_BYTES] for at, begin in compress(begun, own[n:end])])
        pieces = _payloads(data, at, end - n, stride)
        for late in compress(range(end - n), begins[n:end].translate(_IS_LATE)):
            pieces[late] = pieces[late][begins[n + late] - HEAD_BYTES :]
        return b"".join(pieces if count == end - n else compress(pieces, own[n:end]))


def _payloads(data: bytes, at: int, count: int, stride: int) -> list[bytes]:
    """All that stands behind the heads."""
    last = at + (count - 1) * stride
    pieces = list(chain.from_iterable(_cutter(stride).iter_unpack(memoryview(data)[at:last])))
    pieces.append(data[last + HEAD_BYTES : last + PACKET_BYTES])
    return pieces


def said(data: bytes, at: int) -> bytes:
    """What one packet says: all of it but its sync byte and its counter."""
    flags = data[at + 3] & 0xF0
    return b"%b%c%b" % (data[at + 1 : at + 3], flags, data[at + HEAD_BYTES : at + PACKET_BYTES])


@cache
def _cutter(stride: int) -> struct.Struct:
    return struct.Struct(f"{HEAD_BYTES}x{_LONGEST}s{stride - PACKET_BYTES}x")


@cache
def _same(value: int, mask: int) -> bytes:
    """A table that makes 1 of this value and 0 of all others."""
    return bytes(other & mask == value for other in range(256))


def _number(column: bytes | bytearray) -> int:
    return int.from_bytes(column, "big")
