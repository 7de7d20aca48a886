"""MP4, M4A, MOV, 3GP (ISO/IEC 14496-12, QuickTime): the number of samples in the tables, by what each one plays.

Tables are walked as they pass and not kept: of each only its sums. Durations are claims (``mvhd``, ``mdhd``, ``stts``):
a decoder plays every frame it is given. Fragments add up the same way. The walker descends into every box that FFmpeg
descends into, wherever it stands, and a child is cut at its parent's end.
"""

import re
import struct
from functools import partial

from typing_extensions import override

from policies.audio.elements import ElementWalker
from policies.audio.mp4.media import Media
from policies.audio.mp4.opus import MOST_FRONT_BYTES, OpusHeads
from policies.audio.mp4.overreads import MOST_OVERREADS, Overread, Take
from policies.audio.mp4.packed import FlacWindows, SizePairs, Windows
from policies.audio.mp4.tracks import Run, Track, milliseconds_of
from policies.audio.walker import LONGEST_MS, Chunk

_NS_PER_MS = 1_000_000
_CONTAINERS = frozenset(
    (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"stbl", b"edts", b"mvex", b"moof", b"traf", b"tref", b"udta")
)
_MAY_BE_MOVIES = frozenset((b"free", b"hoov"))
"""Where FFmpeg finds a movie that was taken out of sight: it begins with the movie's header."""
_FROM_MOOF = 0x2_0000
_DEEPEST = 16
_MOST_TRACKS = 64
_MOST_LOOKED_AT = 32
"""Tracks of AAC and Opus, of those: more are odd."""
_TO_THE_END = 1 << 63
_MOST_PLACE = (1 << 64) - 1
_MOST_READ_BYTES = 65_536
"""Of a box that is read whole: a sample description may hold a decoder's whole set-up."""
_MOST_UNSIZED = 1 << 20
"""Samples that one run may claim without a byte of its own for each."""
_PACKED_PART = 50
"""Frames beyond the tables are none of an encoder when they are more than this part of them."""
_BOX = struct.Struct(">I4s")
_TABLE = struct.Struct(">II")
"""The version and flags of a table, and its entries; of ``stsz`` what is before them."""
_LANDMARK = re.compile(rb"moo[vf]|mdat")

_WHOLE = {b"mvhd": 32, b"tkhd": 24, b"mdhd": 36, b"hdlr": 12, b"stsd": _MOST_READ_BYTES, b"elst": 1024, b"mehd": 12,
          b"trex": 24, b"tfhd": 40, b"stco": 8, b"co64": 8}  # fmt: skip
"""Boxes that are read at once, and how much of them."""
_TABLES = {b"stts": 8, b"stsz": 12, b"stz2": 12, b"stsc": 8, b"trun": 12}
"""Boxes whose entries pass, and how much stands before them."""
_OFFSETS = {b"stco": 4, b"co64": 8}
"""Tables of which only tracks of AAC and Opus need more than the head, and how long an entry is."""
_LEAST = _TABLES | {b"trun": 8, b"tkhd": 24, b"hdlr": 12, b"tfhd": 32, b"trex": 24, b"stco": 8, b"co64": 8, b"stsd": 16}
"""What FFmpeg reads even of a box that is shorter: from behind its end."""
_HEADS = _WHOLE | _TABLES | dict.fromkeys(_MAY_BE_MOVIES, 8)
_READ = _CONTAINERS | _HEADS.keys() | {b"mdat"}


class Mp4Walker(ElementWalker):
    """Walks boxes in any cuts; keeps up to 64 KiB, for a sample description, and 64 tracks' sums."""

    __slots__ = (
        "_default",
        "_default_bytes",
        "_ends",
        "_entries",
        "_entry_bytes",
        "_flac",
        "_front",
        "_front_begins",
        "_is_first_fragment",
        "_is_lost",
        "_mdat",
        "_mdat_ends",
        "_media",
        "_moof",
        "_movie_scale",
        "_movie_ticks",
        "_overreads",
        "_pairs",
        "_pass_entries",
        "_run_base",
        "_run_begins",
        "_run_bytes",
        "_run_ends",
        "_sampled",
        "_table",
        "_table_ends",
        "_track",
        "_tracks",
        "_windows",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__(need=8)
        self._tracks: dict[int, Track] = {}
        self._track = Track()
        self._movie_scale = 1
        self._movie_ticks = 0
        self._mdat = 0
        self._mdat_ends = 0
        self._media: Media | None = None  # once there is some
        self._windows, self._flac = Windows(), FlacWindows()
        self._sampled: list[Windows | FlacWindows] = []  # those of them whose codec may be in the media
        self._pairs = SizePairs()
        self._front = bytearray()  # of media that stands before its tables
        self._front_begins = 0
        self._moof = 0
        self._is_first_fragment = False
        self._run_base = self._run_begins = self._run_bytes = self._run_ends = 0
        self._ends: list[int] = []
        self._default = self._default_bytes = 0
        # the table that is passing: who takes its entries, how long one is, how many there are, where it ends
        self._pass_entries: Take | None = None
        self._entry_bytes = 1
        self._entries = 0
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
        return self._mdat > 0 or bool(self._tracks)

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
            return None
        ns = max(track.ns for track in heard)
        missing = max(self._mdat_ends - self.passed, 0)
        held, needed = self._mdat - missing, sum(track.bytes for track in self._tracks.values())
        if missing and held < needed <= self._mdat:
            whole = (track.ns for track in heard if track.bytes <= track.media_in_front)
            read = (track.read_ns for track in heard)
            ns = max(ns * max(held, 0) // needed, *whole, *read)
        ns = max(ns, self._packed_ns(heard))
        ns = self.patience.extended(ns, self.passed)
        return (ns + _NS_PER_MS // 2) // _NS_PER_MS

    def _packed_ns(self, heard: list[Track]) -> int:
        """By the frames in the media. Of several tracks nobody knows whose one is: as if they were of one length."""
        if self._media is None:
            return 0
        is_alone = len(self._tracks) <= 1
        packed = max(track.packed_ns(self._media, is_alone=is_alone) for track in heard) // len(heard)
        of_several = [track.blocks_said for track in heard] if len(heard) > 1 else None
        return max(packed, *(track.block_ns(self._windows, self._flac, of_several) for track in heard))

    @override
    def feed(self, chunk: Chunk) -> None:
        """See :class:`ElementWalker`."""
        if self._overreads:
            for overread in self._overreads:
                overread.feed(chunk)
            self._overreads = [overread for overread in self._overreads if not overread.is_over]
        if self._media and self._mdat_ends > self.passed:
            media = memoryview(chunk)[: self._mdat_ends - self.passed]
            self._media.feed(media)
            for windows in self._sampled:
                windows.feed(media, self.passed)
            if not self._tracks and len(self._front) < MOST_FRONT_BYTES:
                self._front += media[: MOST_FRONT_BYTES - len(self._front)]
        for track in dict.fromkeys((*self._tracks.values(), self._track)):
            if track.heads and track.heads.waiting:
                track.heads.feed(chunk, self.passed)
            if track.looks:
                track.looks.take(chunk, self.passed)
        super().feed(chunk)

    def _walk(self, data: bytes, at: int) -> int:
        end, before, is_lost = len(data), self.passed - len(data), self.patience.is_lost
        self._need = 8
        while at < end:
            if self._pass_entries is not None:
                after = self._pass_table(data, at, end)
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
        if self._pass_entries is not None:
            self._need = self._entry_bytes
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
        if name in _CONTAINERS:
            return self._descend(name, before + body - 8, ends, body, after)  # where FFmpeg says that it begins
        return self._pass_body(name, data, at, body, after) if name in _READ else after

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
            self._pass_media(data, at, body, after)
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
        if name in _TABLES or (name in _OFFSETS and (self._track.heads or self._track.places)):
            return self._begin_table(name, data, body, after)
        self._read(name, whole)
        return after

    def _pass_media(self, data: bytes, at: int, body: int, after: int) -> None:
        before = self.passed - len(data)
        self._mdat += after - at
        self._mdat_ends = before + after
        if not (self._tracks or self._media):
            self._front_begins = before + body
            self._front += memoryview(data)[body : min(after, body + MOST_FRONT_BYTES)]
        if self._media is None:
            codecs = {track.codec for track in self._heard}
            self._media = Media(codecs)
            self._sampled += [self._windows] if not codecs or codecs & {"aac", "opus"} else []
            self._sampled += [self._flac] if not codecs or "flac" in codecs else []
        media = memoryview(data)[body:after]
        self._media.feed(media)
        for windows in self._sampled:
            windows.feed(media, before + body)

    def _open(self, name: bytes, begins: int) -> None:
        if name == b"moof":
            self._moof, self._is_first_fragment = begins, True
        if name == b"trak":
            if self._track.is_audio and self._track not in self._tracks.values():
                self._register(0)  # a track that has no number
            if self._track.places:
                self._track.places.end()
            self._track = Track()
            self._track.media_in_front = self._mdat - max(self._mdat_ends - self.passed, 0)

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
                    is_looked_at = sum(one.looks is not None for one in self._tracks.values()) < _MOST_LOOKED_AT
                    track.describe(
                        body, self._pairs, (self._windows.kept_of, self._flac.kept_of) if is_looked_at else None
                    )
                case b"elst":
                    track.edit(body)
                case b"mehd":
                    self._movie_ticks = max(self._movie_ticks, int.from_bytes(body[4 : 12 if body[0] else 8], "big"))
                case b"trex":
                    number, duration, size = struct.unpack_from(">I4xII", body, 4)
                    if number in self._tracks:
                        self._tracks[number].default, self._tracks[number].default_bytes = duration, size
                case b"tfhd":
                    self._begin_fragment(body)
                case _:
                    track.chunks = int.from_bytes(body[4:8], "big")
        except (struct.error, IndexError):
            return  # a box shorter than what it must say: it says nothing

    def _register(self, number: int) -> None:
        tracks = self._tracks
        if tracks.get(number) is not self._track and number in tracks:
            number = min(*tracks, 0) - 1  # taken: two movies in one file, of which the longer plays
        if len(tracks) >= _MOST_TRACKS and number not in tracks:
            del tracks[min(tracks, key=lambda other: (tracks[other].is_audio, tracks[other].ns))]
        tracks[number] = self._track

    def _begin_fragment(self, body: bytes) -> None:
        flags, number = struct.unpack_from(">II", body)
        if flags & 1:
            self._run_base = int.from_bytes(body[8:16], "big")
        elif flags & _FROM_MOOF or self._is_first_fragment:
            self._run_base = self._moof
        else:
            self._run_base = self._run_ends
        self._is_first_fragment = False
        self._track = self._tracks.get(number) or self._track
        at = 8 + 8 * (flags & 1) + 4 * (flags >> 1 & 1)
        self._default = int.from_bytes(body[at : at + 4], "big") if flags & 8 else self._track.default
        at += 4 * (flags >> 3 & 1)
        self._default_bytes = int.from_bytes(body[at : at + 4], "big") if flags & 16 else self._track.default_bytes

    def _begin_table(self, name: bytes, data: bytes, body: int, after: int) -> int:
        """Read the head of a table whose box ends at ``after``; where to go on."""
        track, room = self._track, after - body
        track.begin_table(self.passed - len(data) + body)
        flags, count = _TABLE.unpack_from(data, body)
        at, width = body + 8, 8
        take: Take = Track.pass_times
        match name:
            case b"trun":
                at += 4 * (flags & 1) + 4 * (flags >> 2 & 1)
                width = 4 * (flags >> 8 & 15).bit_count()
                offset = int.from_bytes(data[body + 8 : body + 12], "big", signed=True) if flags & 1 else 0
                self._run_begins, self._run_bytes = self._run_base + offset & _MOST_PLACE, track.run_bytes
                track.begin_run(self._run_begins)
                if not width:
                    count = min(count, _MOST_UNSIZED)
                    track.add_run(count, count * self._default_bytes, self._default, count * self._default)
                    track.pass_alike(count, self._default_bytes)
                    count = 0
                run = Run(width // 4, flags >> 8 & 1, flags >> 9 & 1, self._default, self._default_bytes)
                take = partial(Track.pass_run, run=run)
            case b"stsz" | b"stz2":
                size, count, at = count, int.from_bytes(data[body + 8 : body + 12], "big"), body + 12
                track.expect(count)
                take, width = Track.pass_sizes, 4
                if name == b"stz2" and data[body + 7] in {8, 16}:
                    width = data[body + 7] // 8
                    take = partial(Track.pass_sizes, width=width)
                elif name == b"stz2":
                    track.add_sizes(min(count, room * 8 // (data[body + 7] or 8)), 0)
                    count = 0
                elif size:
                    track.add_sizes(count, size)
                    count = 0
            case b"stsc":
                take, width = Track.pass_chunks, 12
            case b"stco" | b"co64":
                track.chunks, width = count, _OFFSETS[name]
                take, count = partial(Track.pass_offsets, width=width), min(count, (room - 8) // width)
            case _:
                pass
        self._pass_entries, self._entry_bytes, self._entries, self._table = take, width or 4, count, name
        self._table_ends = self.passed - len(data) + after
        if at <= after:
            return at
        self._read_on(data, at)
        return after

    def _pass_table(self, data: bytes, at: int, end: int) -> int:
        assert self._pass_entries is not None
        left = self._table_ends - (self.passed - end + at)
        count = min(self._entries, left // self._entry_bytes)
        if not count:
            self._read_on(data, at)
            return at + left
        here = min(count, (end - at) // self._entry_bytes)
        if not here:
            self._need = self._entry_bytes
            return -1
        size = here * self._entry_bytes
        self._pass_entries(self._track, data[at : at + size])
        self._entries -= here
        if self._entries:
            return at + size
        self._read_on(data, at + size)
        return at + left

    def _read_on(self, data: bytes, at: int) -> None:
        """End a table. What it has no room for stands from ``at`` on."""
        take, self._pass_entries = self._pass_entries, None
        track = self._track
        if self._table == b"trun":
            self._run_ends = self._run_begins + track.run_bytes - self._run_bytes
        if track.heads:
            self._find_heads(track.heads, data, at)
        if track.places and track.looks:
            track.places.end_table(self._table, is_whole=not self._entries)
            track.looks.settle(track.bytes)
            track.looks.take(data, self.passed - len(data))
        if not self._entries or take is None:
            return
        if len(self._overreads) >= MOST_OVERREADS:
            self.patience.lose(self.passed - len(data) + at)
            return
        overread = Overread(track, take, self._entry_bytes, self._entries, max(at - len(data), 0))
        overread.feed(data[at:])
        if not overread.is_over:
            self._overreads.append(overread)

    def _find_heads(self, heads: OpusHeads, data: bytes, at: int) -> None:
        """A table has ended there: read those of its packets that are here behind it, or were kept."""
        heads.end_table(self._table, is_whole=not self._entries)
        if heads.waiting:
            begins = self.passed - len(data)
            if self._front:
                heads.take(bytes(self._front), self._front_begins, self._front_begins)
            heads.take(data, begins, begins + at)


def _scale_and_duration(body: bytes) -> tuple[int, int]:
    """Of ``mvhd`` and ``mdhd``: ticks to the second, and ticks."""
    scale, duration = struct.unpack_from(">IQ", body, 20) if body[0] else struct.unpack_from(">II", body, 12)
    return max(scale, 1), duration if duration < (1 << 32) - 1 else 0
