"""One track of an MP4 file: what it plays, by its description, its tables and what was read of its samples."""

from collections.abc import Sequence
from functools import partial

from policies.audio.aac.blocks import Blocks
from policies.audio.mp4.descriptions import SHORT_MPEG, Description, Frames
from policies.audio.mp4.edits import Edits
from policies.audio.mp4.looks import Kept, SampleLooks
from policies.audio.mp4.media import Media
from policies.audio.mp4.opus import OpusHeads
from policies.audio.mp4.packed import FlacWindows, SizePairs, Windows, blocks_of, frames_of
from policies.audio.mp4.places import Places
from policies.audio.mp4.tables import Tables
from policies.audio.opus import RATE as OPUS_RATE
from policies.audio.opus import packet_samples

_NS_PER_SECOND = 1_000_000_000
_OPUS_NS = 20_000_000
"""What an Opus packet is said to play at least, where it could not be read."""
_MOST_OPUS_NS = 120_000_000
_TIMED_PART = 50
"""Of the stated durations, up to which they are like those that were looked at."""
_FLAC_READ_BYTES = 32_768


def milliseconds_of(ticks: int, scale: int) -> int:
    """Ticks of a time scale, in whole milliseconds."""
    return ticks * 1000 // scale


class Track:
    """Its boxes may come in any order, and may lie."""

    __slots__ = (
        "_frames", "channels", "claimed", "codec", "default", "default_bytes", "edits", "kind", "media_in_front",
        "scale", "tables",
    )  # fmt: skip

    def __init__(self) -> None:
        self.kind = b""
        self.media_in_front = 0
        """Bytes of media that had passed when it began: of a file behind another one, or with its tables at its end."""
        self.scale = 1
        self.claimed = 0
        self.channels = 0
        self.codec = ""
        self._frames: Frames | None = None
        self.edits = Edits()
        self.tables = Tables()
        self.default = self.default_bytes = 0
        """Of a sample in a fragment, where that says nothing."""

    @property
    def is_audio(self) -> bool:
        """Whether it may be what a decoder plays: readers that know no handler believe the sample description."""
        return self.kind == b"soun" or (self.kind != b"vide" and self._frames is not None)

    @property
    def is_timed(self) -> bool:
        """Whether its codec's frames are unknown, so that stated durations are all there is."""
        if self._frames is None or self._frames.samples:
            return self._frames is None
        heads, looks = self.tables.heads, self.tables.looks
        unread = self.tables.samples - (heads.count if heads else 0)
        if unread <= 0 or not (looks and looks.looks and heads and heads.count):
            return unread > 0
        stated = self._stated_ns
        return abs(self.read_ns + unread * self._unread_ns - stated) * _TIMED_PART > stated

    @property
    def claimed_ms(self) -> int:
        """By its header."""
        return milliseconds_of(self.claimed, self.scale)

    def describe(self, body: bytes, pairs: SizePairs, kept: tuple[Kept, Kept] | None) -> None:
        """``stsd``: the first entry. Raises struct.error for one that is cut short.

        ``pairs``: for tracks of AAC and FLAC. ``kept``: of the media so far, of FLAC more at once, if samples are to
        be read in it.
        """
        said = Description.read(body)
        tables, frames = self.tables, said.frames
        self.channels, self.codec = said.channels, frames.codec if frames else ""
        self._frames = frames if frames and 0 < frames.rate < 1 << 31 else None
        tables.pairs = pairs if frames and (frames.blocks or frames.codec == "flac") else None
        if frames and kept and not tables.looks:
            tables.looks = _looks_at(frames, *kept)
            tables.places = Places(tables.looks.found) if tables.looks else None
        if self.codec == "opus":
            tables.heads = tables.heads or OpusHeads()
            self.edits.pre_skip = said.pre_skip

    # --- the figure --------------------------------------------------------------------------------------------------

    @property
    def read_ns(self) -> int:
        """What its packets of Opus play, as far as they have been read."""
        heads = self.tables.heads
        return heads.samples * _NS_PER_SECOND // OPUS_RATE if heads else 0

    @property
    def ns(self) -> int:
        """What it plays, in nanoseconds."""
        tables, frames = self.tables, self._frames
        if frames is None:
            return self._stated_ns
        if frames.size:
            return self._pcm_frames(frames) * _NS_PER_SECOND // frames.rate
        if not frames.samples:
            played = self._opus_ns
            return played - self._left_out_ns(played, _OPUS_NS)
        count = tables.samples
        if tables.constant:
            count = min(count, tables.bytes // tables.constant + tables.run_count)
        if frames.most:
            count = max(count, tables.size // frames.most)
        one = frames.samples * _NS_PER_SECOND // frames.rate
        gross = count * frames.samples * _NS_PER_SECOND // frames.rate
        if frames.codec == "mp3" and frames.samples == SHORT_MPEG:
            # Of layer II each has twice as many, and only its duration says so.
            gross = max(gross, min(self._stated_ns, 2 * gross))
        if frames.codec in {"alac", "flac"}:
            # The last frame alone may be shorter, and only its duration says so.
            short = one - tables.last_delta * _NS_PER_SECOND // self.scale
            gross -= short if count and 0 < short < one else 0
        return gross - self._left_out_ns(gross, one)

    @property
    def _stated_ns(self) -> int:
        """By the durations of its samples."""
        return self.tables.stated_ticks * _NS_PER_SECOND // self.scale

    def _left_out_ns(self, gross: int, one: int) -> int:
        return self.edits.left_out_ns(gross, one, self.scale, is_aac=self.codec == "aac")

    def _pcm_frames(self, frames: Frames) -> int:
        tables = self.tables
        spread = max(tables.count, tables.spread_over(tables.chunks))
        in_tables = spread if tables.constant else tables.bytes // frames.size
        return in_tables + tables.run_bytes // frames.size

    @property
    def _opus_ns(self) -> int:
        """Packets tell; those that could not be read are as long as is stated, and as :attr:`_unread_ns` says."""
        tables, heads = self.tables, self.tables.heads
        unread = tables.samples - (heads.count + heads.waiting if heads else 0)
        if unread <= 0:
            return self.read_ns
        # The last packet is said to end where the sound does, and is played whole.
        longest, last = (n * _NS_PER_SECOND // self.scale for n in (tables.longest_delta, tables.last_delta))
        stated = self._stated_ns + max(min(longest, _MOST_OPUS_NS) - last, 0)
        return max(stated, self.read_ns + unread * self._unread_ns)

    @property
    def _unread_ns(self) -> int:
        """What a packet of Opus plays that was not read: as the longest of those that chance chose.

        Of tables that lead to no packet at all nobody knows where they lead a decoder.
        """
        looks, heads = self.tables.looks, self.tables.heads
        return looks.most * _NS_PER_SECOND // OPUS_RATE if looks and looks.most and heads and heads.count else _OPUS_NS

    # --- frames beyond its tables ------------------------------------------------------------------------------------

    def packed_ns(self, media: Media, *, is_alone: bool) -> int:
        """What the frames in the media play, if they are this track's.

        Media of a track that ``is_alone`` and yet is not made of its frames is none that an encoder writes: then as
        much as there may be.
        """
        frames = self._frames
        if frames is None:
            return 0
        gross = media.ns(frames.codec)
        if gross is None:
            gross = media.most_ns(frames.codec, self.tables.size) if is_alone else 0
        return gross - self._left_out_ns(gross, frames.samples * _NS_PER_SECOND // frames.rate)

    @property
    def blocks_said(self) -> tuple[Blocks | None, int, int]:
        """How its blocks of AAC are to be read, how many samples its tables have, and their bytes."""
        return self._frames and self._frames.blocks, self.tables.samples, self.tables.size

    def block_ns(
        self, windows: Windows, flac: FlacWindows, of_several: Sequence[tuple[Blocks | None, int, int]] | None
    ) -> int:
        """What frames of AAC or FLAC that stand within its samples play, with all others; 0 where none were found.

        ``of_several`` has :attr:`blocks_said` of all tracks, where there are others.
        """
        frames, tables = self._frames, self.tables
        if frames is None or tables.pairs is None:
            return 0
        blocks, samples, size = frames.blocks, tables.samples, tables.size
        looks, is_followed = tables.looks, tables.places is not None and not tables.places.is_odd
        count = samples * looks.most if looks and looks.most > 1 else 0
        if looks and looks.looks and is_followed:
            pass  # else the tables that were followed may be a decoy's
        elif not blocks:
            count = max(count, flac.most_frames(tables.pairs, size))
        elif of_several is None:
            count = max(count, windows.most_blocks(blocks, tables.pairs, size))
        else:
            count = count if is_followed else max(count, 2 * samples)
            if all(others == blocks for others, _, _ in of_several):  # read by what is another's, they end anywhere
                named, of_all = sum(count for _, count, _ in of_several), sum(taken for _, _, taken in of_several)
                count = max(count, windows.most_of_several(blocks, named, of_all) * size // max(of_all, 1))
        return count * frames.samples * _NS_PER_SECOND // frames.rate


def _looks_at(frames: Frames, kept: Kept, more: Kept) -> SampleLooks | None:
    if frames.blocks:
        return SampleLooks(partial(blocks_of, blocks=frames.blocks), kept)
    if frames.codec == "flac":
        return SampleLooks(frames_of, more, _FLAC_READ_BYTES)
    return SampleLooks(_opus_samples, kept) if frames.codec == "opus" else None


def _opus_samples(part: bytes, size: int, is_begin: bool) -> int:  # noqa: ARG001, FBT001
    """What a packet plays that begins so."""
    return packet_samples(part, 0, len(part)) if is_begin else 0
