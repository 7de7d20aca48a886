"""AVI (RIFF ``AVI ``, OpenDML's further parts too): the chunks of each stream of sound behind ``movi``.

The head says which stream is sound, and in which format; a chunk's name begins with its stream's number. The walker
slides, as FFmpeg does, over what is no chunk. An index is a claim of its own, and FFmpeg may play what it points at: so
it must name the chunks of sound that have passed, and no others, which sums over their places and sizes tell. Where it
does not, all bytes count at the least bit rate there may be.
"""

import re
import struct

from policies.audio.avi_head import Head, Stream, read_head
from policies.audio.avi_sounds import Sound
from policies.audio.avi_unread import UnreadAvi
from policies.audio.walker import Chunk, Patience

_MOST_HEAD_BYTES = 65_536
_HEADER, _LIST_BYTES = struct.Struct("<4sI"), 12
_LISTS = frozenset((b"LIST", b"RIFF"))
_PASSED = frozenset((b"JUNK", b"idx1"))
_MOST_NAMES = 64
_INDEX_HEAD = struct.Struct("<4xI4xQ4x")
_ENTRY, _SHORT_ENTRY = struct.Struct("<2s6xII"), struct.Struct("<II")
_SHORT_SIZE = 0x7FFF_FFFF
_LEAST_CUT_BYTES = 262_144


class _Index:
    """Sums over the entries of an index, as they pass: of ``idx1`` for all streams, or of a part of one stream's."""

    __slots__ = ("_base", "_held", "_is_first", "_stream", "_streams", "is_wrong")

    def __init__(self, head: Head, stream: Stream | None = None) -> None:
        self._streams, self._stream = head.streams, stream
        self._base: int | None = None if stream else head.begins
        self._is_first = True
        self._held = b""
        self.is_wrong = False
        """Whether it has ended and names other chunks than those that have passed."""

    def feed(self, piece: bytes, *, is_end: bool) -> None:
        """More of it."""
        data = self._held + piece
        if self._stream is None:
            ends = len(data) - len(data) % _ENTRY.size
            self._sum_all(data[:ends])
            self._held = data[ends:]
            self.is_wrong = is_end and any(one.sound and one.indexed != one.passed for one in self._streams.values())
            return
        at = 0
        if self._base is None and len(data) >= _INDEX_HEAD.size:
            self._base, at = _INDEX_HEAD.unpack_from(data)[0] - _HEADER.size, _INDEX_HEAD.size
        if self._base is not None:
            ends = len(data) - (len(data) - at) % _SHORT_ENTRY.size
            entries = _SHORT_ENTRY.iter_unpack(data[at:ends])
            self._stream.indexed += sum(hash((self._base + offset, size & _SHORT_SIZE)) for offset, size in entries)
            at = ends
        self._held = data[at:]
        self.is_wrong = is_end and self._stream.indexed != self._stream.passed

    def _sum_all(self, data: bytes) -> None:
        streams = self._streams
        if self._is_first and data:
            self._is_first = False
            if _ENTRY.unpack_from(data)[1] > (self._base or 0):
                self._base = 0  # places in the file, not behind the list's name
        for number, offset, size in _ENTRY.iter_unpack(data):
            stream = streams.get(number)
            if stream is not None and stream.sound is not None:
                stream.indexed += hash(((self._base or 0) + offset, size))


class AviWalker:
    """Feeds each stream of sound its chunks; keeps the head, up to 64 KiB, and what the sounds keep."""

    __slots__ = (
        "_begun", "_ends", "_head", "_held", "_is_misled", "_known", "_left", "_passed", "_patience", "_search",
        "_sink", "_slid", "_unread",
    )  # fmt: skip

    claimed_ms = None

    def __init__(self) -> None:
        self._passed = self._slid = 0
        self._held = bytearray()  # the head; then what of a chunk's header is here
        self._head: Head | None = None
        self._unread: UnreadAvi | None = None
        self._patience = Patience(32)
        self._search = re.compile(b"")  # for the next chunk, where there is none
        self._known: dict[bytes, Stream] = {}  # by the names of their chunks
        self._is_misled = False
        self._ends = 0  # where the list of chunks does, until that has passed; 0: nobody says, or it has
        # the chunk that is passing: what is left of it, who takes it, where it begins
        self._left = self._begun = 0
        self._sink: Sound | _Index | None = None

    @property
    def _sounds(self) -> list[Sound]:
        return [stream.sound for stream in self._head.streams.values() if stream.sound] if self._head else []

    @property
    def _guess(self) -> UnreadAvi | None:
        """What speaks where the head is none, or not yet."""
        if self._head or self._unread:
            return self._unread
        guess = UnreadAvi()
        guess.feed(self._held)
        return guess

    @property
    def _best(self) -> Sound | None:
        return max(self._sounds, key=lambda sound: sound.ms, default=None)

    @property
    def codec(self) -> str:
        """Of the stream that plays longest."""
        speaker = self._guess or self._best
        return speaker.codec if speaker else ""

    @property
    def channels(self) -> int | None:
        """Of the same."""
        speaker = self._guess or self._best
        return speaker.channels if speaker else None

    @property
    def strange(self) -> int:
        """Bytes of no chunk; all, where no stream is sound."""
        guess = self._guess
        return guess.strange if guess else self._slid if self._sounds else self._passed

    @property
    def _is_hiding(self) -> bool:
        """Whether something else may play: what an index names, or what the last chunk hides, which is cut off."""
        cut = self._passed - self._begun if self._left and not self._sink else 0
        return self._is_misled or (cut > _LEAST_CUT_BYTES and 2 * cut > self._passed)

    @property
    def unsure(self) -> bool:
        """Whether the figure rests on a guess."""
        guess, best = self._guess, self._best
        return guess.unsure if guess else self._is_hiding or (best is not None and best.unsure)

    @property
    def ms(self) -> int | None:
        """Of the stream that plays longest."""
        guess = self._guess
        if guess:
            return guess.ms
        hidden = self._passed if self._is_hiding else 0
        ms = max((max(sound.ms, sound.most_ms(hidden)) for sound in self._sounds), default=0)
        return self._patience.extended(ms, self._passed) or None

    def feed(self, chunk: Chunk) -> None:
        """The next bytes."""
        self._passed += len(chunk)
        if self._unread:
            self._unread.feed(chunk)
        elif self._head:
            self._walk(bytes(self._held) + chunk)
        else:
            self._read_head(chunk)

    def _read_head(self, chunk: Chunk) -> None:
        seen = len(self._held)
        self._held += chunk
        limit = min(len(self._held), _MOST_HEAD_BYTES)
        if self._held.find(b"movi", max(seen - 3, 0), limit) >= 0:
            self._head = read_head(bytes(self._held[:limit]))
        if self._head:
            self._ends = self._head.ends
            self._search = self._head.pattern()
            data, self._held = bytes(self._held[self._head.begins + 4 :]), bytearray()
            self._walk(data)
        elif limit == _MOST_HEAD_BYTES:
            self._unread = UnreadAvi()
            self._unread.feed(self._held)
            self._held = bytearray()

    def _walk(self, data: bytes) -> None:
        base, end, at = self._passed - len(data), len(data), 0
        self._held = bytearray()
        if self._patience.lost_at:
            return
        if self._left:
            at = self._pass_on(data)
        while at + _HEADER.size <= end:
            name, size = _HEADER.unpack_from(data, at)
            stream = self._known.get(name)
            if stream is None or (self._ends and base + at >= self._ends):
                at = self._pass_other(name, size, data, at)
                continue
            after = at + _HEADER.size + size
            sound = stream.sound
            if sound is None:
                if self._is_too_long(base + at, size):
                    at = self._slide(data, at)
                    continue
            else:
                stream.passed += hash((base + at, size))
                sound.feed(data[at + _HEADER.size : after], is_end=after <= end)
            if after > end:
                self._sink, self._left, self._begun, at = sound, after - end, base + at, end
            elif size & 1 and data[after : after + 1] == b"\0":
                self._slid, at = self._slid + 1, after + 1
            else:
                at = after
        self._held = bytearray(data[at:])
        for stream in self._head.streams.values() if self._head else ():
            if stream.sound:
                stream.sound.flush()
            self._is_misled |= len(stream.indexes) > 0 and stream.indexes[-1] < base + at

    def _is_too_long(self, begins: int, size: int) -> bool:
        """Whether a chunk reaches behind the list that it is in: it hides sound from who believes that."""
        return begins < self._ends < begins + size

    def _slide(self, data: bytes, at: int) -> int:
        """To what may be the next chunk, and no further than to the end of the list."""
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
        if stream and max(name[2:]) < 128 and name[2:] not in {b"ix", b"wc"}:
            self._known = {name: stream, **self._known} if len(self._known) < _MOST_NAMES else {name: stream}
            return at
        if name in _LISTS:
            self._left, self._sink, self._begun = _LIST_BYTES, None, begins
            return at + self._pass_on(data[at:])
        part = streams.get(name[2:]) if name[:2] == b"ix" else None
        if (name not in _PASSED and part is None) or self._is_too_long(begins, size):
            return self._slide(data, at)
        index = _Index(self._head) if name == b"idx1" else None
        if part and part.indexes and part.indexes[-1] == begins:
            part.indexes.pop()
            index = _Index(self._head, part)
        self._left, self._sink, self._begun = size, index, begins
        rest = at + _HEADER.size
        return rest + self._pass_on(data[rest:])
