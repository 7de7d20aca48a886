"""Packets of a transport stream (ISO/IEC 13818-1 section 2.4.3), many at once, by columns."""

from collections.abc import Iterable
from functools import cache
from itertools import accumulate, compress

PACKET_BYTES, HEAD_BYTES = 188, 4
PES, PES_BYTES = b"\0\0\1", 9
FIRST, NUMBER = 0x40, 0x1FFF
"""In the second byte, that an element or a section begins in this packet; in the second and third, whose it is."""
_LONGEST = PACKET_BYTES - HEAD_BYTES
_BEGINS = bytes(HEAD_BYTES if flags & 0x10 else PACKET_BYTES for flags in range(256))
"""Where a payload does without a field of adaptation, by a packet's flags."""
_HAVE_FIELD = bytes(0xFF * (flags & 0x30 == 0x30) for flags in range(256))
_FIELD_BYTES = bytes(min(1 + size, _LONGEST) for size in range(256))
_SIZES = bytes(max(PACKET_BYTES - begins, 0) for begins in range(256))
_IS_FIRST = bytes(high >> 6 & 1 for high in range(256))
_HEADER_BYTES = bytes(min(PES_BYTES + size, _LONGEST) for size in range(256))
_MANY = 16
"""Headers that are passed together, by columns."""
_MOST_HEARD = 64
"""Packets that are known by all their bytes: each table comes with sixteen counters."""


class Packets:
    """A column has a byte for each packet. Which of them are something is a number of as many bytes, each 0 or 1."""

    __slots__ = ("_at", "_begins", "_data", "_high", "_low", "_of", "_passed", "_stride", "count", "first", "odd")

    def __init__(self, data: bytes, at: int, count: int, stride: int) -> None:
        self.count = count
        self._data, self._at, self._stride = data, at, stride
        self._high, self._low = self._column(1), self._column(2)
        self._of: dict[int, int] = {}
        self.first = _number(self._high.translate(_IS_FIRST))
        """In which something begins."""
        self.odd = 0
        """Of those whose headers were passed, in which it is something else than an element whose header ends there."""
        self._passed = 0
        self._begins = b""
        """Where in each the payload does, behind a header that was passed; at its end where there is none."""

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

    def find_payloads(self, those: int) -> None:
        """Look where the payloads begin, in those behind the headers of elements."""
        if not self._begins:
            flags, fields = self._column(3), self._column(4)
            begins = _number(flags.translate(_BEGINS))
            begins += _number(flags.translate(_HAVE_FIELD)) & _number(fields.translate(_FIELD_BYTES))
            self._begins = self.flags(begins)
        heads = those & self.first & ~self._passed
        self._passed |= heads
        if heads.bit_count() >= _MANY:
            heads ^= self._pass_usual(heads)
        if heads:
            self._pass_others(heads)

    def _pass_usual(self, heads: int) -> int:
        """Pass those that begin as far within their packets as the first one does, and end there; which they are."""
        begin = self._begins[self.flags(heads).find(1)]
        if begin > PACKET_BYTES - PES_BYTES:
            return 0
        usual = heads & _number(self._begins.translate(_same(begin, 0xFF)))
        for byte, value in enumerate(PES, start=begin):
            usual &= _number(self._column(byte).translate(_same(value, 0xFF)))
        sizes = self._column(begin + PES_BYTES - 1)
        usual &= _number(sizes.translate(_up_to(PACKET_BYTES - PES_BYTES - begin)))
        self._begins = self.flags(_number(self._begins) + (_number(sizes.translate(_HEADER_BYTES)) & 0xFF * usual))
        return usual

    def _pass_others(self, heads: int) -> None:
        """The same one by one. Note where something else begins, or one that does not end."""
        data, begins, stride, at = self._data, bytearray(self._begins), self._stride, self._at
        odd = bytearray(self.count)
        for n, begin in compress(enumerate(begins), self.flags(heads)):
            payload = at + n * stride + begin
            if begin == PACKET_BYTES:
                continue
            if begin <= PACKET_BYTES - PES_BYTES and data.startswith(PES, payload):
                behind = begin + PES_BYTES + data[payload + PES_BYTES - 1]
                if behind <= PACKET_BYTES:
                    begins[n] = behind
                    continue
            odd[n] = 1
        self.odd |= _number(odd)
        self._begins = bytes(begins)

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

    def begins(self, own: bytes, n: int, end: int) -> Iterable[int]:
        """Where in that elements begin."""
        places = accumulate(compress(self._begins[n:end].translate(_SIZES), own[n:end]), initial=0)
        return compress(places, compress(self.flags(self.first)[n:end], own[n:end]))


class Heard:
    """What packets have said that say nothing new: tables come ten times a second."""

    __slots__ = ("_last", "_most", "_said")

    def __init__(self, most: int) -> None:
        """Of so many packets."""
        self._most = most
        self._said: set[bytes] = set()
        self._last: set[bytes] = set()  # with their counters

    def add(self, data: bytes, at: int) -> None:
        """This one did."""
        if len(self._said) < self._most:
            self._said.add(_said(data, at))

    def knows(self, data: bytes, at: int) -> bool:
        """Whether one that says the same did."""
        last, whole = self._last, data[at + 1 : at + PACKET_BYTES]
        if whole in last:
            return True
        if _said(data, at) not in self._said:
            return False
        if len(last) >= _MOST_HEARD:
            last.clear()
        last.add(whole)
        return True


def _said(data: bytes, at: int) -> bytes:
    """All of a packet but its sync byte and its counter."""
    flags = data[at + 3] & 0xF0
    return b"%b%c%b" % (data[at + 1 : at + 3], flags, data[at + HEAD_BYTES : at + PACKET_BYTES])


@cache
def _same(value: int, mask: int) -> bytes:
    """A table that makes 1 of this value and 0 of all others."""
    return bytes(other & mask == value for other in range(256))


@cache
def _up_to(value: int) -> bytes:
    """The same of values up to this one."""
    return bytes(other <= value for other in range(256))


def _number(column: bytes | bytearray) -> int:
    return int.from_bytes(column, "big")
