"""Packets of a transport stream (ISO/IEC 13818-1 section 2.4.3), many at once, by columns."""

from functools import cache
from itertools import compress

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
        """Pass those of elements; note where something else begins, or one that does not end."""
        data, begins, stride, at = self._data, self._begins, self._stride, self._at
        odd = bytearray(self.count)
        for n, begin in compress(enumerate(begins), self.flags(self.first)):
            payload = at + n * stride + begin
            if begin == PACKET_BYTES:
                continue
            if begin <= PACKET_BYTES - PES_BYTES and data.startswith(PES, payload):
                behind = begin + PES_BYTES + data[payload + PES_BYTES - 1]
                if behind <= PACKET_BYTES:
                    begins[n] = behind
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
        data, starts = self._data, range(self.at(n), self.at(end), self._stride)
        begun = compress(zip(starts, self._begins[n:end], strict=False), own[n:end])
        return b"".join([data[at + begin : at + PACKET_BYTES] for at, begin in begun])


def said(data: bytes, at: int) -> bytes:
    """What one packet says: all of it but its sync byte and its counter."""
    flags = data[at + 3] & 0xF0
    return b"%b%c%b" % (data[at + 1 : at + 3], flags, data[at + HEAD_BYTES : at + PACKET_BYTES])


@cache
def _same(value: int, mask: int) -> bytes:
    """A table that makes 1 of this value and 0 of all others."""
    return bytes(other & mask == value for other in range(256))


def _number(column: bytes | bytearray) -> int:
    return int.from_bytes(column, "big")
