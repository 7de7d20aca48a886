"""AVI (RIFF ``AVI ``, OpenDML's further parts too): the chunks of each stream of sound behind ``movi``.

The head says which stream is sound, and in which format; a chunk's name begins with its stream's number. The walker
slides, as FFmpeg does, over what is no chunk. An index is a claim of its own, and FFmpeg may play what it points at: so
it must name the chunks of sound that have passed, and no others, which sums over their places and sizes tell. Where it
does not, all bytes count at the least bit rate there may be.
"""

import re
import secrets
import struct
from collections.abc import Generator

from policies.audio.avi.head import Head, Stream, reading
from policies.audio.avi.unread import UnreadAvi
from policies.audio.sounds import Sound
from policies.audio.walker import Chunk, Patience

_MOST_HEAD_BYTES = 65_536
_HEADER, _LIST_BYTES = struct.Struct("<4sI"), 12
_NS_PER_MS = 1_000_000
_LISTS = frozenset((b"LIST", b"RIFF"))
_PASSED = frozenset((b"JUNK", b"idx1", b"indx"))
_LEAST_BYTES = _HEADER.size + 2
"""Of a chunk that is looked at: with two more a palette says how long it is."""
_MOST_NAMES = 64
_INDEX_HEAD = struct.Struct("<HBBI2s2xQ4x")
_OF_CHUNKS, _OF_PARTS = (2, 0, 1), 0
"""What an index that FFmpeg reads begins with, and what ends that of one whose entries are indexes."""
_ENTRY, _SHORT_ENTRY = struct.Struct("<2s2s4xII"), struct.Struct("<II")
_SHORT_SIZE = 0x7FFF_FFFF
_FAR = 500
"""Bytes between the list's begin and its first chunk from which on an index may count from the file's begin."""
_PALETTE, _PALETTE_HEAD_BYTES, _COLOR_BYTES, _MOST_PALETTE_BYTES = b"pc", 4, 4, 1_028
_CHANGE_BYTES = 56
"""Of ``wc``, whatever it says."""
_KEY = secrets.randbits(62)
"""Of the sums, so that nobody makes one entry out of others."""
_HELD_BYTES = _HEADER.size - 1
_ENTRY_FLAGS = frozenset((b"\0\0\0\0", b"\x10\0\0\0"))


class _Index:
    """Sums over the entries of an index, as they pass: of ``idx1`` for all streams, or of a part of one stream's."""

    __slots__ = ("_base", "_count", "_first", "_head", "_held", "_is_strange", "_stream", "_sums", "is_wrong")

    def __init__(self, head: Head, first: int | None) -> None:
        """``first`` is where the first chunk stands, for ``idx1``."""
        self._head, self._first = head, first or 0
        self._base: int | None = None
        self._stream: Stream | None = None
        self._count = 0
        self._sums = dict.fromkeys(head.streams, 0)
        self._held = b""
        self._is_strange = False
        self.is_wrong = False
        """Whether it has ended and names other chunks than those that have passed."""

    def feed(self, piece: bytes, *, is_end: bool) -> None:
        """More of it."""
        data = self._held + piece
        ends = len(data) - len(data) % _ENTRY.size
        self._sum(data[:ends])
        self._held = data[ends:]
        named = ((stream, self._sums[number]) for number, stream in self._head.streams.items() if stream.sound)
        self.is_wrong = is_end and (self._is_strange or any(stream.passed != sums for stream, sums in named))

    def _sum(self, data: bytes) -> None:
        streams, sums = self._head.streams, self._sums
        for number, kind, offset, size in _ENTRY.iter_unpack(data):
            if number not in streams:
                # FFmpeg reckons with what are no digits.
                self._is_strange |= 0 <= (number[0] - 48) * 10 + number[1] - 48 < len(streams) and kind != _PALETTE
            elif kind != _PALETTE:
                if self._base is None:
                    is_in_file = offset == self._head.begins + 4 and offset + _FAR <= self._first
                    self._base = 0 if is_in_file or not self._first else self._first - offset
                sums[number] += hash((_KEY, self._base + offset, size))


class _Part(_Index):
    """Of the index of one stream, which it names itself."""

    __slots__ = ()

    def feed(self, piece: bytes, *, is_end: bool) -> None:
        """More of it."""
        data, at = self._held + piece, 0
        if self._base is None and len(data) >= _INDEX_HEAD.size:
            *kind, self._count, number, base = _INDEX_HEAD.unpack_from(data)
            self._base, at = base - _HEADER.size, _INDEX_HEAD.size
            self._stream = self._head.streams.get(number)
            if tuple(kind) != _OF_CHUNKS:
                self._is_strange = kind[-1] == _OF_PARTS
                self._count, self._stream = 0, None
        if self._base is not None:
            ends = at + min((len(data) - at) // _SHORT_ENTRY.size, self._count) * _SHORT_ENTRY.size
            self._count -= (ends - at) // _SHORT_ENTRY.size
            if self._stream and self._stream.sound:
                entries = _SHORT_ENTRY.iter_unpack(data[at:ends])
                self._stream.indexed += sum(
                    hash((_KEY, self._base + offset, size & _SHORT_SIZE)) for offset, size in entries
                )
            at = ends if self._count else len(data)
        self._held = data[at:]
        is_other = self._stream is not None and self._stream.indexed != self._stream.passed
        self.is_wrong = is_end and (self._is_strange or self._count > 0 or is_other)


class AviWalker:
    """Feeds each stream of sound its chunks; keeps the head, up to 64 KiB, and what the sounds keep."""

    __slots__ = (
        "_begun", "_ends", "_first", "_head", "_held", "_hidden_at", "_hides", "_is_misled", "_known", "_left",
        "_passed", "_patience", "_reading", "_search", "_sink", "_slid", "_sync", "_tail", "_unread",
    )  # fmt: skip

    claimed_ms = None

    def __init__(self) -> None:
        self._passed = self._slid = 0
        self._held = bytearray()  # the head; then what of a chunk's header is here
        self._reading: Generator[None, None, Head | None] | None = reading(self._held)
        self._head: Head | None = None
        self._unread: UnreadAvi | None = UnreadAvi()  # speaks until the head is known, and where it is none
        self._patience = Patience(32)
        self._search = re.compile(b"")  # for the next chunk, where there is none
        self._known: dict[bytes, Stream] = {}  # by the names of their chunks
        self._is_misled = False
        self._ends = 0  # where the list of chunks does, until that has passed; 0: nobody says, or it has
        # the chunk that is passing: what is left of it, who takes it, where it begins
        self._left = self._begun = 0
        self._sink: Sound | _Index | None = None
        # what looks like a chunk of sound inside one that is none, until that has passed; the last bytes looked at
        self._hides = re.compile(b"")
        self._hidden_at = 0
        self._tail = b""
        self._first: int | None = None  # where the first chunk begins
        self._sync = -1  # where sliding began; -1: it does not slide

    @property
    def _sounds(self) -> list[Sound]:
        return [stream.sound for stream in self._head.streams.values() if stream.sound] if self._head else []

    @property
    def _best(self) -> Sound | None:
        return max(self._sounds, key=lambda sound: sound.ms, default=None)

    @property
    def codec(self) -> str:
        """Of the stream that plays longest."""
        speaker = self._unread or self._best
        return speaker.codec if speaker else ""

    @property
    def channels(self) -> int | None:
        """Of the same."""
        speaker = self._unread or self._best
        return speaker.channels if speaker else None

    @property
    def strange(self) -> int:
        """Bytes of no chunk; all, where no stream is sound."""
        unread = self._unread
        return unread.strange if unread else self._slid if self._sounds else self._passed

    @property
    def _hidden(self) -> int:
        """Bytes in which something else may play: FFmpeg looks inside what the file has no room for."""
        return self._passed - self._hidden_at if self._left and self._hidden_at else 0

    @property
    def unsure(self) -> bool:
        """Whether the figure rests on a guess."""
        unread, best = self._unread, self._best
        is_hiding = self._is_misled or self._hidden > 0
        return unread.unsure if unread else is_hiding or (best is not None and best.unsure)

    @property
    def ms(self) -> int | None:
        """Of the stream that plays longest."""
        if self._unread:
            return self._unread.ms
        misled, hidden = self._passed if self._is_misled else 0, self._hidden
        ms = max((max(one.ms + one.most_ms(hidden), one.most_ms(misled)) for one in self._sounds), default=0)
        return self._patience.weighed(ms * _NS_PER_MS, self._passed) // _NS_PER_MS or None

    def feed(self, chunk: Chunk) -> None:
        """The next bytes."""
        self._passed += len(chunk)
        if self._unread is None:
            self._walk(bytes(self._held) + chunk)
        elif self._reading is None or not self._has_begun(self._reading, chunk):
            self._unread.feed(chunk)

    def _has_begun(self, reading: Generator[None, None, Head | None], chunk: Chunk) -> bool:
        """Whether the head ends in these bytes, or in front of them: then what is behind it has been walked."""
        room = _MOST_HEAD_BYTES - len(self._held)
        self._held += memoryview(chunk)[:room]
        head, is_over = None, len(self._held) == _MOST_HEAD_BYTES
        try:
            next(reading)
        except StopIteration as end:
            head, is_over = end.value, True
        if head is None:
            if is_over:
                self._reading, self._held = None, bytearray()
            return False
        self._head, self._reading, self._unread = head, None, None
        self._ends = head.ends
        self._search, self._hides = head.pattern(), head.sound_pattern()
        self._walk(bytes(self._held[head.begins + 4 :]) + memoryview(chunk)[room:])
        return True

    def _walk(self, data: bytes) -> None:
        base, end, at = self._passed - len(data), len(data), 0
        self._held = bytearray()
        if self._patience.lost_at:
            return
        if self._left:
            at = self._pass_on(data)
        while at + _LEAST_BYTES <= end:
            name, size = _HEADER.unpack_from(data, at)
            stream = self._known.get(name)
            if stream is None or (self._ends and base + at >= self._ends):
                at = self._pass_other(name, size, data, at)
                continue
            after, sound = at + _HEADER.size + size, stream.sound
            if self._sync >= 0 or name != stream.name or base + at < self._ends < base + after:
                if self._is_refused(stream, name, base + at, size):
                    at = self._slide(data, at)
                    continue
            else:
                stream.names += size > 0
            if sound is not None:
                stream.passed += hash((_KEY, base + at, size))
                sound.feed(data[at + _HEADER.size : after], is_end=after <= end)
            if after > end:
                self._sink, self._left, self._begun = sound, after - end, base + at
                self._hidden_at, self._tail = 0, b""
                self._look_inside(data[at + _HEADER.size :], base + at + _HEADER.size)
                at = end
            elif size & 1 and data[after : after + 1] == b"\0":
                self._slid, at = self._slid + 1, after + 1
            else:
                at = after
        self._held = bytearray(data[at:])
        self._flush(base + at)

    def _flush(self, position: int) -> None:
        """Nothing more comes for now; what stands in front of there has passed."""
        for stream in self._head.streams.values() if self._head else ():
            if stream.sound:
                stream.sound.flush()
            self._is_misled |= len(stream.indexes) > 0 and stream.indexes[-1] < position

    def _is_refused(self, stream: Stream, name: bytes, begins: int, size: int) -> bool:
        """Whether what does not follow another one of its name is no chunk of the stream; one that is is noted."""
        if self._sync >= 0 and begins > self._sync + 1 and stream.is_doubtful(name):
            self._is_misled |= stream.sound is None
            return True
        if self._is_too_long(begins, size):
            self._is_misled |= stream.sound is not None
            if stream.sound is None:
                return True
        self._sync = -1
        if size:
            stream.name, stream.names = name, stream.names + 1 if stream.name == name else 0
            if self._first is None:
                self._first = begins
        return False

    def _pass_palette(self, data: bytes, at: int, size: int) -> int:
        """What changes colors is as long as those; where to go on. Not all readers do if it says otherwise."""
        first, count = data[at + _HEADER.size : at + _HEADER.size + 2]
        last = (first + count - 1) & 0xFF
        self._left, self._sink, self._sync = _PALETTE_HEAD_BYTES + _COLOR_BYTES * max(last - first + 1, 0), None, -1
        self._is_misled |= self._left != size
        self._begun, self._hidden_at, self._tail = self._passed - len(data) + at, 0, b""
        rest = at + _HEADER.size
        return rest + self._pass_on(data[rest:])

    def _look_inside(self, piece: bytes, begins: int) -> None:
        """Look for sound inside the chunk that is passing, of which these bytes come next."""
        if self._hidden_at or (self._sink is not None and not isinstance(self._sink, _Index)):
            return
        data, begins = self._tail + piece, begins - len(self._tail)
        body = self._begun + _HEADER.size
        for found in self._hides.finditer(data):
            is_entry = (begins + found.start() - body) % _ENTRY.size == 0 and found[0][4:] in _ENTRY_FLAGS
            if not (is_entry and isinstance(self._sink, _Index)):
                self._hidden_at = begins + found.start()
                return
        self._tail = data[-_HELD_BYTES:]

    def _is_too_long(self, begins: int, size: int) -> bool:
        """Whether a chunk reaches behind the list that it is in: it hides sound from who believes that."""
        return begins < self._ends < begins + _HEADER.size + size

    def _slide(self, data: bytes, at: int) -> int:
        """To what may be the next chunk, and no further than to the end of the list."""
        if self._sync < 0:
            self._sync = self._passed - len(data) + at
        found = self._search.search(data, at + 1)
        to = found.start() if found else max(len(data) - _HEADER.size + 1, at + 1)
        ends = self._ends - self._passed + len(data)
        if self._ends and at < ends < to:
            to = ends
        self._slid += to - at
        return to

    def _pass_on(self, data: bytes) -> int:
        """More of the chunk that is passing; where it ends."""
        piece = data[: self._left]
        self._left -= len(piece)
        if self._left:
            self._look_inside(piece, self._passed - len(data))
        if self._sink is not None:
            self._sink.feed(piece, is_end=not self._left)
            self._is_misled |= isinstance(self._sink, _Index) and self._sink.is_wrong
        return len(piece)

    def _pass_other(self, name: bytes, size: int, data: bytes, at: int) -> int:
        """What is none of the usual chunks; where to go on."""
        begins = self._passed - len(data) + at
        assert self._head is not None
        if self._ends and begins >= self._ends:
            self._is_misled |= begins > self._ends + 1
            self._ends = 0
            return at
        if self._patience.is_lost(begins):
            return len(data)
        streams = self._head.streams
        stream = streams.get(name[:2])
        if stream and name[2:] == _PALETTE and size <= _MOST_PALETTE_BYTES:
            return self._pass_palette(data, at, size)
        is_usual = stream is not None and max(name[2:]) < 128 and name[2:] not in {b"ix", b"wc"}
        if stream and is_usual and (stream.sound or name[1:3] not in streams):
            if name == b"00wb" and not stream.sound and streams.get(b"01", stream).sound:
                stream = streams[b"01"]  # FFmpeg mends what a recorder once got wrong
            self._known = {name: stream, **self._known} if len(self._known) < _MOST_NAMES else {name: stream}
            return at
        is_part = name[:2] == b"ix" and name[2:] in streams
        is_index = name[2:] == b"ix" and stream is not None
        if name in _LISTS:
            size = _LIST_BYTES - _HEADER.size
        elif name[2:] == b"wc" and stream is not None:
            size = _CHANGE_BYTES
        elif not (name in _PASSED or is_part or is_index) or self._is_too_long(begins, size):
            return self._slide(data, at)
        index = _Index(self._head, self._first) if name == b"idx1" else None
        part = streams[name[2:]] if is_part else None
        if part and part.indexes and part.indexes[-1] == begins:
            part.indexes.pop()
            index = _Part(self._head, None)
        self._left, self._sink, self._begun, self._sync = size, index, begins, -1
        rest = at + _HEADER.size
        self._hidden_at, self._tail = 0, b""
        return rest + self._pass_on(data[rest:])
