"""MP4, M4A, MOV, 3GP (ISO/IEC 14496-12, QuickTime): the number of samples in the tables, by what each one plays.

Tables are walked as they pass and not kept: of each only its sums. Durations are claims (``mvhd``, ``mdhd``, ``stts``):
a decoder plays every frame it is given. Fragments add up the same way. The walker descends into every box that FFmpeg
descends into, wherever it stands, and a child is cut at its parent's end.
"""

import re
import struct

from typing_extensions import override

from policies.audio.elements import ElementWalker
from policies.audio.mp4.fragments import MOST_BOXES, Fragments, Parts, parts
from policies.audio.mp4.headings import OFFSETS, Heading, heading
from policies.audio.mp4.mdat import Mdat
from policies.audio.mp4.opus import OpusHeads
from policies.audio.mp4.overreads import MOST_OVERREADS, Overread
from policies.audio.mp4.packed import SizePairs
from policies.audio.mp4.tracks import Track, milliseconds_of
from policies.audio.walker import LONGEST_MS, Chunk

_NS_PER_MS = 1_000_000
_CONTAINERS = frozenset(
    (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"stbl", b"edts", b"mvex", b"moof", b"traf", b"tref", b"udta")
)
_MAY_BE_MOVIES = frozenset((b"free", b"hoov"))
"""Where FFmpeg finds a movie that was taken out of sight: it begins with the movie's header."""
_DEEPEST = 16
_MOST_TRACKS = 64
_MOST_LOOKED_AT = 32
"""Tracks of AAC, FLAC and Opus, of those: more are odd."""
_TO_THE_END = 1 << 63
_MOST_READ_BYTES = 65_536
"""Of a box that is read whole: a sample description may hold a decoder's whole set-up."""
_PACKED_PART = 50
"""Frames beyond the tables are none of an encoder when they are more than this part of them."""
_BOX = struct.Struct(">I4s")
_LANDMARK = re.compile(rb"moo[vf]|mdat")

_WHOLE = {b"mvhd": 32, b"tkhd": 24, b"mdhd": 36, b"hdlr": 12, b"stsd": _MOST_READ_BYTES, b"elst": 1024, b"meta": 4096,
          b"mehd": 12, b"trex": 24, b"tfhd": 40, b"stco": 8, b"co64": 8}  # fmt: skip
"""Boxes that are read at once, and how much of them."""
_TABLES = {b"stts": 8, b"stsz": 12, b"stz2": 12, b"stsc": 8, b"trun": 12}
"""Boxes whose entries pass, and how much stands before them."""
_LEAST = _TABLES | {b"trun": 8, b"tkhd": 24, b"hdlr": 12, b"tfhd": 32, b"trex": 24, b"stco": 8, b"co64": 8, b"stsd": 16}
"""What FFmpeg reads even of a box that is shorter: from behind its end."""
_HEADS = _WHOLE | _TABLES | dict.fromkeys(_MAY_BE_MOVIES, 8)
_READ = _CONTAINERS | _HEADS.keys() | {b"mdat"}


class Mp4Walker(ElementWalker):
    """Walks boxes in any cuts; keeps up to 64 KiB, for a sample description, and 64 tracks' sums."""

    __slots__ = (
        "_ends", "_fragments", "_heading", "_is_lost", "_left", "_mdat", "_movie_scale", "_movie_ticks", "_overreads",
        "_pairs", "_table", "_table_ends", "_track", "_tracks",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__(need=8)
        self._tracks: dict[int, Track] = {}
        self._track = Track()
        self._movie_scale = 1
        self._movie_ticks = 0
        self._mdat = Mdat()
        self._fragments = Fragments()
        self._pairs = SizePairs()
        self._ends: list[int] = []
        # the table that is passing: its heading, how many entries are to come, its name, where it ends
        self._heading: Heading | None = None
        self._left = 0
        self._table = b""
        self._table_ends = 0
        self._overreads: list[Overread] = []
        self._is_lost = False

    @property
    def _heard(self) -> list[Track]:
        return [track for track in dict.fromkeys((*self._tracks.values(), self._track)) if track.is_audio]

    @property
    def _main(self) -> Track | None:
        return max(self._heard, key=lambda track: track.ns, default=None)

    @property
    def codec(self) -> str:
        """Of the track that plays longest."""
        main = self._main
        return main.codec if main else ""

    @property
    def channels(self) -> int | None:
        """Of the same track."""
        main = self._main
        return main.channels or None if main else None

    @property
    def holds_media(self) -> bool:
        """Whether it has come to a box that holds media or tells of them: then it is no chance."""
        return self._mdat.size > 0 or bool(self._tracks)

    @property
    def unsure(self) -> bool:
        """Whether the figure rests on stated durations, on what came first, or on frames beyond its tables."""
        main = self._main
        if main is None:
            return self.patience.lost_at > 0
        is_packed = self._packed_ns(self._heard) > main.ns + main.ns // _PACKED_PART
        return self.patience.lost_at > 0 or main.is_timed or is_packed

    @property
    def claimed_ms(self) -> int | None:
        """What the headers say of the sound, or where they do not, of the whole: pictures may go on for longer."""
        claimed = max((track.claimed_ms for track in self._heard), default=0)
        return min(claimed or milliseconds_of(self._movie_ticks, self._movie_scale), LONGEST_MS) or None

    @property
    def ms(self) -> int | None:
        """Of the longest audio track; None without one. Of a file cut short, the part that is there."""
        heard = self._heard
        if not heard:
            return self.patience.weighed(0, self.passed) // _NS_PER_MS or None
        ns = max(track.ns for track in heard)
        missing = self._mdat.missing(self.passed)
        held, needed = self._mdat.size - missing, sum(track.tables.bytes for track in self._tracks.values())
        if missing and held < needed <= self._mdat.size:
            whole = (track.ns for track in heard if track.tables.bytes <= track.media_in_front)
            read = (track.read_ns for track in heard)
            ns = max(ns * max(held, 0) // needed, *whole, *read)
        ns = max(ns, self._packed_ns(heard))
        ns = self.patience.weighed(ns, self.passed)
        return (ns + _NS_PER_MS // 2) // _NS_PER_MS

    def _packed_ns(self, heard: list[Track]) -> int:
        """By the frames in the media. Of several tracks nobody knows whose one is: as if they were of one length."""
        mdat = self._mdat
        if mdat.frames is None:
            return 0
        is_alone = len(self._tracks) <= 1
        packed = max(track.packed_ns(mdat.frames, is_alone=is_alone) for track in heard) // len(heard)
        of_several = [track.blocks_said for track in heard] if len(heard) > 1 else None
        return max(packed, *(track.block_ns(mdat.windows, mdat.flac, of_several) for track in heard))

    @override
    def feed(self, chunk: Chunk) -> None:
        """See :class:`ElementWalker`."""
        if self._overreads:
            for overread in self._overreads:
                overread.feed(chunk)
            self._overreads = [overread for overread in self._overreads if not overread.is_over]
        self._mdat.feed(chunk, self.passed, is_in_front=not self._tracks)
        for track in dict.fromkeys((*self._tracks.values(), self._track)):
            heads, looks = track.tables.heads, track.tables.looks
            if heads and heads.waiting:
                heads.feed(chunk, self.passed)
            if looks:
                looks.take(chunk, self.passed)
        super().feed(chunk)

    def _walk(self, data: bytes, at: int) -> int:
        end, before, is_lost = len(data), self.passed - len(data), self.patience.is_lost
        self._need = 8
        while at < end:
            if self._heading:
                after = self._pass_table(self._heading, data, at, end)
            elif self._is_lost:
                after = self._search(data, at, end)
            else:
                after = self._pass_box(data, at, end)
                if after >= 0 and is_lost(before + after):
                    self.strange += max(end - after, 0)
                    return end
            if after < 0:
                return at
            at = after
        if self._heading:
            self._need = self._heading.width
        return at

    def _search(self, data: bytes, at: int, end: int) -> int:
        found = _LANDMARK.search(data, at + 4)
        to = found.start() - 4 if found else max(at, end - 7)
        self.strange += to - at
        self._is_lost = found is None
        return to if to > at or found else -1

    def _pass_box(self, data: bytes, at: int, end: int) -> int:
        """Pass one box, or descend into it; where to go on. -1, with ``_need`` set, while too little has arrived."""
        before, parents = self.passed - end, self._ends
        begins = before + at
        while parents and begins >= parents[-1]:
            parents.pop()
        parent_ends = parents[-1] if parents else _TO_THE_END
        if parent_ends - begins < 8:
            return parent_ends - before
        if end - at < 8:
            return -1
        size, name = _BOX.unpack_from(data, at)
        body = at + 8
        if size == 1:
            if end - at < 16:
                self._need = 16
                return -1
            size, body = int.from_bytes(data[body : body + 8], "big"), body + 8
        ends = begins + size
        if not size or ends > parent_ends:
            ends = parent_ends
        after = ends - before
        if after < body:
            # No box is smaller than its header: FFmpeg leaves the parent here.
            self._is_lost = not parents
            return at + 1 if self._is_lost else parent_ends - before
        if name == b"moof" and body == at + 8 and after <= end and self.patience.affords(MOST_BOXES, begins):
            found = parts(data, body, after)
            if found:
                return self._pass_fragment(data, begins, after, found)
        if name in _CONTAINERS:
            return self._descend(name, before + body - 8, ends, body, after)  # where FFmpeg says that it begins
        return self._pass_body(name, data, at, body, after) if name in _READ else after

    def _pass_fragment(self, data: bytes, begins: int, after: int, found: Parts) -> int:
        """One that is here and whose parts were found."""
        self.patience.spend(found.boxes)
        self._open(b"moof", begins)
        head = max(min(_WHOLE[b"tfhd"], found.header_ends - found.header), _LEAST[b"tfhd"])
        self._read(b"tfhd", data[found.header : found.header + head])
        at = self._begin_table(b"trun", data, found.run, after)
        return self._pass_table(self._heading, data, at, len(data)) if self._heading else after

    def _descend(self, name: bytes, begins: int, ends: int, body: int, after: int) -> int:
        """Into a box; where to go on, which is behind it where that is too deep."""
        if len(self._ends) >= _DEEPEST:
            return after
        self._open(name, begins)
        self._ends.append(ends)
        return body

    def _pass_body(self, name: bytes, data: bytes, at: int, body: int, after: int) -> int:
        """The same, of a box that holds something: it begins at ``at``, its body at ``body``, the rest behind."""
        if name == b"mdat":
            self._mdat.size += after - at
            before, media = self.passed - len(data), memoryview(data)[body:after]
            if self._mdat.frames is None:
                codecs = {track.codec for track in self._heard}
                self._mdat.prepare(media, before + body, codecs, is_in_front=not self._tracks)
            self._mdat.begin(media, before + body, before + after)
            return after
        head = max(min(_HEADS[name], after - body), _LEAST.get(name, 0))
        if name == b"stsd" and len(data) - body >= head:
            head = max(head, min(8 + int.from_bytes(data[body + 8 : body + 12], "big"), _MOST_READ_BYTES))
        if len(data) - body < head:
            self._need = body - at + head
            return -1
        before, whole = self.passed - len(data), data[body : body + head]
        if name in _MAY_BE_MOVIES:
            return self._descend(name, before + at, before + after, body, after) if whole[4:] == b"mvhd" else after
        if name in _TABLES or (name in OFFSETS and (self._track.tables.heads or self._track.tables.places)):
            return self._begin_table(name, data, body, after)
        self._read(name, whole)
        return after

    def _open(self, name: bytes, begins: int) -> None:
        if name == b"moof":
            self._fragments.begin(begins)
        if name == b"trak":
            if self._track.is_audio and self._track not in self._tracks.values():
                self._register(0)  # a track that has no number
            if self._track.tables.places:
                self._track.tables.places.end()
            self._track = Track()
            self._track.media_in_front = self._mdat.size - self._mdat.missing(self.passed)

    def _read(self, name: bytes, body: bytes) -> None:
        track = self._track
        try:
            match name:
                case b"mvhd":
                    self._movie_scale, self._movie_ticks = _scale_and_duration(body)
                case b"tkhd":
                    self._register(int.from_bytes(body[20:24] if body[0] else body[12:16], "big"))
                case b"mdhd":
                    track.scale, track.claimed = _scale_and_duration(body)
                case b"hdlr":
                    # QuickTime has a second one in the same track, for where its data lies.
                    track.kind = body[8:12] if track.kind != b"soun" else track.kind
                case b"stsd":
                    looked_at = sum(one.tables.looks is not None for one in self._tracks.values())
                    kept = self._mdat.windows.kept_of, self._mdat.flac.kept_of
                    track.describe(body, self._pairs, kept if looked_at < _MOST_LOOKED_AT else None)
                case b"elst" | b"meta":
                    (track.edits.read if name == b"elst" else track.edits.read_tags)(body)
                case b"mehd":
                    self._movie_ticks = max(self._movie_ticks, int.from_bytes(body[4 : 12 if body[0] else 8], "big"))
                case b"trex":
                    number, duration, size = struct.unpack_from(">I4xII", body, 4)
                    if number in self._tracks:
                        self._tracks[number].default, self._tracks[number].default_bytes = duration, size
                case b"tfhd":
                    self._track = self._tracks.get(int.from_bytes(body[4:8], "big")) or track
                    self._fragments.begin_track(body, self._track)
                case _:
                    track.tables.chunks = int.from_bytes(body[4:8], "big")
        except (struct.error, IndexError):
            return  # a box shorter than what it must say: it says nothing

    def _register(self, number: int) -> None:
        tracks = self._tracks
        if tracks.get(number) is not self._track and number in tracks:
            number = min(*tracks, 0) - 1  # taken: two movies in one file, of which the longer plays
        if len(tracks) >= _MOST_TRACKS and number not in tracks:
            del tracks[min(tracks, key=lambda other: (tracks[other].is_audio, tracks[other].ns))]
        tracks[number] = self._track

    def _begin_table(self, name: bytes, data: bytes, body: int, after: int) -> int:
        """Read the head of a table whose box ends at ``after``; where to go on."""
        tables, before = self._track.tables, self.passed - len(data)
        tables.begin(before + body)
        head = data[body : body + 12]
        if name == b"trun":
            self._heading = self._fragments.begin_run(head, tables)
        else:
            self._heading = heading(name, head, tables, after - body)
        self._left, self._table, self._table_ends = self._heading.entries, name, before + after
        at = body + self._heading.size
        if at <= after:
            return at
        self._end_table(self._heading, data, at)
        return after

    def _pass_table(self, table: Heading, data: bytes, at: int, end: int) -> int:
        room = self._table_ends - (self.passed - end + at)
        count = min(self._left, room // table.width)
        here = min(count, (end - at) // table.width)
        if count and not here:
            self._need = table.width
            return -1
        size = here * table.width
        if here:
            table.take(self._track.tables, data[at : at + size])
            self._left -= here
            if self._left:
                return at + size
        self._end_table(table, data, at + size)
        return at + room

    def _end_table(self, table: Heading, data: bytes, at: int) -> None:
        """What it has no room for stands from ``at`` on."""
        self._heading = None
        tables, begins = self._track.tables, self.passed - len(data)
        if self._table == b"trun":
            self._fragments.end_run(tables)
        if tables.heads:
            self._find_heads(tables.heads, data, at)
        if tables.places and tables.looks:
            tables.places.end_table(self._table, is_whole=not self._left)
            tables.looks.settle(tables.bytes)
            tables.looks.take(data, begins)
        if not self._left:
            return
        if len(self._overreads) >= MOST_OVERREADS:
            self.patience.lose(begins + at)
            return
        overread = Overread(tables, table.take, table.width, self._left, max(at - len(data), 0))
        overread.feed(data[at:])
        if not overread.is_over:
            self._overreads.append(overread)

    def _find_heads(self, heads: OpusHeads, data: bytes, at: int) -> None:
        """A table has ended there: read those of its packets that are here behind it, or were kept."""
        heads.end_table(self._table, is_whole=not self._left)
        if heads.waiting:
            begins, mdat = self.passed - len(data), self._mdat
            if mdat.front:
                heads.take(bytes(mdat.front), mdat.front_begins, mdat.front_begins)
            heads.take(data, begins, begins + at)


def _scale_and_duration(body: bytes) -> tuple[int, int]:
    """Of ``mvhd`` and ``mdhd``: ticks to the second, and ticks."""
    scale, duration = struct.unpack_from(">IQ", body, 20) if body[0] else struct.unpack_from(">II", body, 12)
    return max(scale, 1), duration if duration < (1 << 32) - 1 else 0
