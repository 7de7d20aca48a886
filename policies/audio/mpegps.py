"""MPEG programme streams (ISO/IEC 13818-1 section 2.5; .mpg, .vob): the frames that the packets of each stream carry.

Streams of pictures are sound where their first 64 KiB are frames of it, or where a map of the streams calls them so.
What no frames explain in any other one is weighed, and so is what stands between packets. The longest stream counts.
"""

import re
from collections.abc import Generator

from policies.audio.frames import NS_PER_SECOND
from policies.audio.hunt import HuntWalker
from policies.audio.mpegts.streams import Frames, Said, Stream, weight_ms
from policies.audio.mpegts.tables import PICTURES
from policies.audio.steps import Lost, Reader, Steps
from policies.audio.walker import Chunk, Patience

_PREFIX, _START_BYTES = b"\0\0\1", 4
_ZEROS, _NO_ZERO = bytes(_START_BYTES), re.compile(rb"[^\0]")
_PACK, _SYSTEM, _MAP, _PRIVATE = 0xBA, 0xBB, 0xBC, 0xBD
_SILENT = frozenset((0xBE, 0xBF))
"""Padding, and menus."""
_MOST_CUT_BYTES = 4096
"""Of one of them that has not ended. Longer ones weigh, at 8 kbit/s: who reads a pipe reads those that never end."""
_MOST_SYSTEM_BYTES = 64
_PICTURE_NUMBERS = range(0xE0, 0xF0)
_LONG_PACK_BYTES, _SHORT_PACK_BYTES = 9, 7
_MAP_HEAD_BYTES, _MAP_ENTRY_BYTES, _CHECKSUM_BYTES = 4, 4, 4
"""Of a map, what it says of each stream, and its end."""
_SUBTITLES, _WITH_HEAD, _SAMPLES, _LOSSLESS = range(0x20, 0x40), range(0x80, 0xD0), range(0xA0, 0xB0), range(0xB0, 0xC0)
"""Of what private streams are divided into."""
_HEAD_BYTES, _LOSSLESS_HEAD_BYTES, _FORM_BYTES = 3, 4, 3
_RATES = (48_000, 96_000, 44_100, 32_000)
_AC3, _BARE = b"\x0b\x77", 0x80
_NS_PER_MS = 1_000_000
_TRIED_BYTES, _MOST_UNREAD_BYTES = 65_536, 1_024
"""Behind which, with so few in no packet, it is one."""


_MOST_HEAD_BYTES = 24
"""Of the usual packs and packets."""
_FRAMED = range(0x80, 0xA0)
_UNUSUAL = frozenset((_PACK, _SYSTEM, _MAP, _PRIVATE)) | _SILENT


def _pass_zeros(data: bytes, at: int) -> int:
    """Where they end."""
    found = _NO_ZERO.search(data, at)
    return found.start() if found else len(data)


def _begin(data: bytes, at: int) -> int:
    """Where the bytes of a packet begin whose header begins there; behind all where that is unusual."""
    first = data[at]
    if first >> 6 == 2:
        return at + 3 + data[at + 2]
    if first >> 6 == 1:
        at += 2
        first = data[at]
    more = {0x0F: 1, 2: 5, 3: 10}.get(first if first == 0x0F else first >> 4)
    return at + more if more else len(data) + 1


class _Sound(Stream):
    """One stream."""

    __slots__ = ("is_picture", "samples_ns")

    def __init__(self, *, is_picture: bool) -> None:
        super().__init__()
        self.is_picture = is_picture
        self.samples_ns = 0
        """What plain samples play, as DVDs have them."""

    @property
    def ms(self) -> int:
        """How long it plays."""
        said = self.said
        found = 0 if self.is_picture and said.frames is None else said.ms
        return max(found, self.samples_ns // _NS_PER_MS)

    def take(self, piece: bytes, _is_last: bool) -> None:  # noqa: FBT001
        """More of it. It is looked at after as many bytes, however they come."""
        while piece and not (self.is_picture and self.is_judged and self.said.frames is None):
            part = piece[: self.room]
            piece = piece[len(part) :]
            self.go_on(part)
            if self.room == 0:
                self.look()


class PsWalker:
    """Walks packets in any cuts; keeps their headers, and of each stream what :class:`Stream` keeps."""

    __slots__ = ("_cut", "_held", "_hunt", "_patience", "_reader", "_sounding", "_streams", "_unread", "passed")

    claimed_ms = None

    def __init__(self) -> None:
        self.passed = self._unread = self._cut = 0
        self._hunt: HuntWalker | None = None
        """What else it may be, where packets do not explain its first bytes."""
        self._held: bytearray | None = bytearray()
        """Those, while they do."""
        self._patience = Patience(64)
        self._streams: dict[int, _Sound] = {}
        self._sounding: set[int] = set()
        """Numbers of pictures that a map calls something else."""
        self._reader = Reader(self._read())

    @property
    def _best(self) -> _Sound | None:
        return max(self._streams.values(), key=lambda stream: stream.ms, default=None)

    @property
    def _said(self) -> Said | None:
        best = self._best
        return best.said if best and not best.samples_ns else None

    @property
    def _frames(self) -> Frames | None:
        return self._said.frames if self._said else None

    @property
    def _is_other(self) -> bool:
        """Whether it is something else that only begins like one: FFmpeg looks further."""
        hunt = self._hunt
        return hunt is not None and self._unread > _MOST_UNREAD_BYTES and (hunt.ms or 0) > (self._ms or 0)

    @property
    def codec(self) -> str:
        """Of the longest stream."""
        if self._hunt and self._is_other:
            return self._hunt.codec
        best = self._best
        return "pcm_dvd" if best and best.samples_ns else self._frames.codec if self._frames else ""

    @property
    def channels(self) -> int | None:
        """Of the same."""
        if self._hunt and self._is_other:
            return self._hunt.channels
        return self._frames.channels if self._frames else None

    @property
    def strange(self) -> int:
        """Bytes in no packet, or in no frame of what else it is."""
        return self._hunt.strange if self._hunt and self._is_other else self._unread

    @property
    def _ms(self) -> int | None:
        best = self._best
        cut_ms = self._cut if self._cut > _MOST_CUT_BYTES else 0
        ms = (best.ms if best else 0) + weight_ms(self._unread) + cut_ms
        return self._patience.weighed(ms * _NS_PER_MS, self.passed) // _NS_PER_MS or None

    @property
    def ms(self) -> int | None:
        """Of the longest stream, and of what is in no packet."""
        return self._hunt.ms if self._hunt and self._is_other else self._ms

    @property
    def unsure(self) -> bool:
        """Whether any of it was weighed."""
        return self._unread > 0 or self._cut > _MOST_CUT_BYTES or (self._said is not None and self._said.weighed_ms > 0)

    def feed(self, chunk: Chunk) -> None:
        """The next bytes."""
        if self.passed < _TRIED_BYTES <= self.passed + len(chunk):
            first = memoryview(chunk)[: _TRIED_BYTES - self.passed]
            self._feed(first)
            self._held = None
            chunk = memoryview(chunk)[len(first) :]
        self._feed(chunk)

    def _feed(self, chunk: Chunk) -> None:
        self.passed += len(chunk)
        if self._hunt:
            self._hunt.feed(chunk)
        elif self._held is not None:
            self._held += chunk
        unread = self._reader.feed(chunk)
        self._unread += unread
        if self._held is not None and self._unread > _MOST_UNREAD_BYTES and not self._hunt:
            self._hunt, held, self._held = HuntWalker(), self._held, None
            self._hunt.feed(held)
        for stream in self._streams.values():
            stream.flush()

    def _read(self) -> Steps:
        while True:
            head = yield _START_BYTES
            while not head.startswith(_PREFIX) or head[-1] < _PACK:
                if head == _ZEROS:  # recorders fill up with them
                    self._reader.quick = _pass_zeros
                elif self._patience.is_lost(self._reader.position):
                    raise Lost
                self._unread += head[0] > 0
                head = head[1:] + (yield 1)
            number = head[-1]
            if number == _PACK:
                yield from self._pass_pack()
            elif number == _MAP:
                yield from self._pass_map()
            else:
                size = int.from_bytes((yield 2), "big")
                if number == _SYSTEM:
                    yield from self._pass_system(size)
                elif number in _SILENT:
                    yield self._over(size)
                else:
                    yield from self._pass_packet(number, size)
            self._reader.quick = self._follow

    def _follow(self, data: bytes, at: int) -> int:
        """Read the usual packs and packets that are whole, one behind the other; where the first other one begins."""
        last, before = len(data) - _MOST_HEAD_BYTES, self._reader.position - at
        while at <= last and data.startswith(_PREFIX, at):
            number, first = data[at + 3], data[at + 4]
            if number == _PACK:
                end = at + (14 + (data[at + 13] & 7) if first >> 6 == 1 else 12)
                if first >> 6 != 1 and first >> 4 != 2:
                    break
            else:
                end = at + 6 + (first << 8 | data[at + 5])
                if number not in _SILENT and not self._take_usual(number, data, at + 6, end, before + at):
                    break
            if end > len(data):
                break
            at = end
        return at

    def _take_usual(self, number: int, data: bytes, at: int, end: int, position: int) -> bool:
        """Take what a packet of a stream carries; False, and nothing taken, where it is unusual or not whole."""
        begin = _begin(data, at)
        if number == _PRIVATE and begin < len(data):
            number = data[begin] if data[begin] in _FRAMED else 0
            begin += 1 + _HEAD_BYTES
        if number < _FRAMED.start or number in _UNUSUAL or not begin <= end <= len(data):
            return False
        if not self._patience.affords(1, position):
            return False
        self._patience.spend(1)
        self._stream(number).take(data[begin:end], _is_last=True)
        return True

    @staticmethod
    def _pass_pack() -> Generator[int, bytes, None]:
        """A clock, as the first or the second version of MPEG has it."""
        first = (yield 1)[0]
        if first >> 6 == 1:
            yield -((yield _LONG_PACK_BYTES)[-1] & 7)
        elif first >> 4 == 2:
            yield -_SHORT_PACK_BYTES

    def _pass_map(self) -> Generator[int, bytes, None]:
        """What kind each stream is. It ends where readers see its end, who do not ask how long the list is."""
        size = int.from_bytes((yield _MAP_HEAD_BYTES)[:2], "big")
        said = int.from_bytes((yield 2), "big")
        yield self._over(said)
        yield 2
        left = size - said - _MAP_HEAD_BYTES - 2 - _CHECKSUM_BYTES
        while left >= _MAP_ENTRY_BYTES and not self._patience.is_lost(self._reader.position):
            kind, number, high, low = yield _MAP_ENTRY_BYTES
            if number in _PICTURE_NUMBERS and kind not in PICTURES:
                self._sounding.add(number)
            yield self._over(high << 8 | low)
            left -= _MAP_ENTRY_BYTES + (high << 8 | low)
        yield _CHECKSUM_BYTES

    def _pass_system(self, size: int) -> Generator[int, bytes, None]:
        """A header of all, inside which readers look for the next packet."""
        if self._patience.is_lost(self._reader.position):
            raise Lost
        if size <= _MOST_SYSTEM_BYTES:
            body = yield size
            begins = body.find(_PREFIX)
            self._reader.again = body[begins if begins >= 0 else len(body.rstrip(b"\0")) :]

    def _over(self, size: int) -> int:
        """So many bytes are next that are no sound; what to pass over."""
        self._reader.sink = self._skip
        return -size

    def _skip(self, piece: bytes, is_last: bool) -> None:  # noqa: FBT001
        self._cut = 0 if is_last else self._cut + len(piece)

    def _pass_packet(self, number: int, size: int) -> Generator[int, bytes, None]:
        """One packet of a stream."""
        if self._patience.is_lost(self._reader.position):
            raise Lost
        left = yield from self._pass_header(size)
        if left is None:
            return
        if number == _PRIVATE and left:
            number = (yield 1)[0]
            left -= 1
            if number == _AC3[0] and left and (yield 1) == _AC3[1:]:
                stream = self._stream(_BARE)
                stream.take(_AC3, False)  # noqa: FBT003
                self._reader.sink = stream.take
                yield -(left - 1)
                return
            if number in _SUBTITLES:
                yield self._over(left)
                return
            if number in _WITH_HEAD:
                head = min(_LOSSLESS_HEAD_BYTES if number in _LOSSLESS else _HEAD_BYTES, left)
                yield -head
                left -= head
            if number in _SAMPLES and left >= _FORM_BYTES:
                self._hear_samples(self._stream(number), (yield _FORM_BYTES)[1], left - _FORM_BYTES)
                yield _FORM_BYTES - left
                return
        self._reader.sink = self._stream(number).take
        yield -left

    @staticmethod
    def _pass_header(size: int) -> Generator[int, bytes, int | None]:
        """What stands in a packet in front of its bytes, in either version of MPEG; how many those are."""
        left, first = size, 0xFF
        while left and first == 0xFF:
            first = (yield 1)[0]
            left -= 1
        if first >> 6 == 1 and left >= 2:
            first = (yield 2)[1]
            left -= 2
        if first >> 6 == 2 and left >= 2:
            long = (yield 2)[1]
            left -= 2
        else:
            long = {2: 4, 3: 9}.get(first >> 4, 0 if first == 0x0F else left + 1)
        if long > left:
            return None
        yield -long
        return left - long

    @staticmethod
    def _hear_samples(stream: _Sound, form: int, size: int) -> None:
        bits = 16 + 4 * (form >> 6)
        samples = size * 8 // (bits * (1 + (form & 7)))
        stream.samples_ns += samples * NS_PER_SECOND // _RATES[form >> 4 & 3]

    def _stream(self, number: int) -> _Sound:
        stream = self._streams.get(number)
        if stream is None:
            is_picture = number in _PICTURE_NUMBERS and number not in self._sounding
            stream = self._streams[number] = _Sound(is_picture=is_picture)
        return stream
