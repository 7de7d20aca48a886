"""One track of an MP4 file: what its sample description says that a sample plays, and what its tables add up to."""

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from policies.audio.aac import setup as aac
from policies.audio.aac.blocks import Blocks
from policies.audio.flac import StreamInfo
from policies.audio.mp4.looks import Kept, SampleLooks
from policies.audio.mp4.media import Media
from policies.audio.mp4.opus import OpusHeads
from policies.audio.mp4.packed import FlacWindows, SizePairs, Windows, blocks_of, frames_of
from policies.audio.mp4.places import Places
from policies.audio.opus import RATE as OPUS_RATE
from policies.audio.opus import packet_samples

_NS_PER_SECOND = 1_000_000_000
_SPEC_TYPE, _CONFIG_TYPE, _ELEMENTARY = 0x05, 0x04, 0x03
_ENTRY_BYTES = 36
"""Of an audio sample entry, up to its own boxes (QuickTime's later versions have more)."""
_MOST_TRIMMED = 4
"""Frames that an edit list is believed to leave out at the start: an encoder's delay."""
_OPUS_NS = 20_000_000
"""What an Opus packet is said to play at least, where it could not be read."""
_MOST_OPUS_NS = 120_000_000
_TIMED_PART = 50
"""Of the stated durations, up to which they are like those that were looked at."""
_MOST_EDITS = 64
_MOST_ALIKE = 64
"""Samples of a run without entries whose places are told."""
_UNSIGNED = {1: "B", 2: "H", 4: "I"}
_MOST_MPEG_BYTES = 1729
"""Of a frame: 384 kbit/s of layer II at 32 kHz."""
_MOST_AC3_BYTES = 4096
_MOST_AMR_BYTES, _MOST_AMR_WB_BYTES = 32, 61
_FLAC_READ_BYTES = 32_768
_FLAC_FRAME_BYTES = 64
"""Around its samples, with room."""
_SHORT_MPEG = 576
"""Samples of an MP3 frame below 32 kHz."""


class Frames(NamedTuple):
    """What one sample plays: ``samples`` at ``rate``; of plain PCM, a frame of ``size`` bytes is one.

    ``most`` is what a codec's frame takes at most: decoders play on in a sample that holds several. ``blocks``: of AAC.
    """

    codec: str
    samples: int
    rate: int
    size: int = 0
    most: int = 0
    blocks: Blocks | None = None


class Run(NamedTuple):
    """What each entry of a ``trun`` says: ``words`` of 32 bits, and what is the fragment's default instead."""

    words: int
    has_duration: int
    has_size: int
    duration: int
    size: int


def milliseconds_of(ticks: int, scale: int) -> int:
    """Ticks of a time scale, in whole milliseconds."""
    return ticks * 1000 // scale


class Track:
    """The sums of its tables; each table may come in any order, and may lie."""

    __slots__ = (
        "_edit_start",
        "_frames",
        "_last_delta",
        "_pre_skip",
        "bytes",
        "channels",
        "chunk_runs",
        "chunks",
        "claimed",
        "codec",
        "constant",
        "count",
        "default",
        "default_bytes",
        "heads",
        "kind",
        "last_chunk",
        "last_spread",
        "longest_delta",
        "looks",
        "media_in_front",
        "pairs",
        "places",
        "rate",
        "run_bytes",
        "run_count",
        "run_ticks",
        "scale",
        "ticks",
        "timed",
    )  # fmt: skip

    def __init__(self) -> None:
        self.kind = b""
        self.media_in_front = 0
        """Bytes of media that had passed when it began: of a file behind another one, or with its tables at its end."""
        self.scale = 1
        self.claimed = 0
        self.heads: OpusHeads | None = None
        """Of a track of Opus."""
        self.pairs: SizePairs | None = None
        """Where the sizes of its samples are noted, if it is of AAC or FLAC."""
        self.places: Places | None = None
        self.looks: SampleLooks | None = None
        """Of a track of AAC or Opus: where its samples stand, and some that are read there."""
        self.channels = 0
        self.rate = 0
        self.codec = ""
        self.default = self.default_bytes = 0
        self.bytes = 0
        """Of all samples together, by the table of sizes."""
        self.count = 0
        self.constant = 0
        """The size that all samples share; 0 where each has its own."""
        self.chunks = 0
        self.timed = 0
        self.ticks = 0
        self.run_bytes = self.run_count = 0
        self.run_ticks = 0
        self._last_delta = self.longest_delta = 0
        self._frames: Frames | None = None
        self.chunk_runs = 0
        self.last_chunk = 0
        self.last_spread = 0
        self._edit_start: int | None = None  # where the first edit begins, if there is a list of them
        self._pre_skip = 0  # of Opus, by its description: where no edits are listed decoders leave it out

    @property
    def is_audio(self) -> bool:
        """Whether it may be what a decoder plays: readers that know no handler believe the sample description."""
        return self.kind == b"soun" or (self.kind != b"vide" and self._frames is not None)

    @property
    def is_timed(self) -> bool:
        """Whether its codec's frames are unknown, so that stated durations are all there is."""
        if self._frames is None or self._frames.samples:
            return self._frames is None
        unread = self.count + self.run_count - (self.heads.count if self.heads else 0)
        if unread <= 0 or not (self.looks and self.looks.looks and self.heads and self.heads.count):
            return unread > 0
        stated = self._stated_ns
        return abs(self.read_ns + unread * self._unread_ns - stated) * _TIMED_PART > stated

    @property
    def claimed_ms(self) -> int:
        """By its header."""
        return milliseconds_of(self.claimed, self.scale)

    # --- tables ------------------------------------------------------------------------------------------------------

    def begin_table(self, position: int) -> None:
        """One stands there in the file."""
        if self.looks:
            self.looks.begin(position, self.bytes)

    def expect(self, count: int) -> None:
        """``stsz`` and ``stz2``: so many sizes are to come."""
        if self.places:
            self.places.expect(count)

    def begin_run(self, position: int) -> None:
        """``trun``: its samples stand from there on, one behind the other."""
        if self.places:
            self.places.begin_run(position)
        if self.heads:
            self.heads.begin_run(position)
            self.places = None  # all packets of fragments are read

    def pass_times(self, entries: bytes) -> None:
        """``stts``: pairs of a count and what each of so many samples lasts."""
        for count, delta in struct.iter_unpack(">II", entries):
            self.timed += count
            self.ticks += count * delta
            self._last_delta = delta
            self.longest_delta = max(self.longest_delta, delta)

    def pass_sizes(self, entries: bytes, width: int = 4) -> None:
        """``stsz`` and ``stz2``: one size a sample."""
        count = len(entries) // width
        self.count += count
        sizes = struct.unpack(f">{count}{_UNSIGNED[width]}", entries)
        self.bytes += sum(sizes)
        if self.pairs:
            self.pairs.add(sizes)
        if self.places:
            self.places.pass_sizes(sizes)
        if self.heads:
            self.heads.pass_sizes(sizes)

    def add_sizes(self, count: int, size: int) -> None:
        """``stsz`` where all samples have one size; and ``stz2`` of four bits."""
        self.count += count
        self.constant = size
        if self.pairs:
            self.pairs.add((size, size))
        if self.places:
            self.places.pass_alike(count, size)
        if self.heads:
            self.heads.refuse()
        self.bytes += count * size

    def pass_alike(self, count: int, size: int) -> None:
        """``trun`` whose samples have no entries."""
        if self.pairs:
            self.pairs.add((size,) * min(count, 2))
        if self.places:
            self.places.pass_alike(min(count, _MOST_ALIKE), size)
        if self.heads:
            self.heads.pass_alike(count, size)

    def pass_chunks(self, entries: bytes) -> None:
        """``stsc``: from which chunk on a chunk has how many samples."""
        for first, spread, _ in struct.iter_unpack(">III", entries):
            self.chunk_runs += max(first - self.last_chunk, 0) * self.last_spread
            self.last_chunk, self.last_spread = first, spread
        if self.places:
            self.places.pass_spreads(entries)
        if self.heads:
            self.heads.pass_spreads(entries)

    def pass_offsets(self, entries: bytes, width: int) -> None:
        """``stco`` and ``co64``, which only tracks of AAC and Opus need."""
        if self.places:
            self.places.pass_offsets(entries, width)
        if self.heads:
            self.heads.pass_offsets(entries, width)

    def add_run(self, count: int, size: int, last: int, ticks: int) -> None:
        """``trun``: samples of a fragment, their bytes, what the last one lasts, and all."""
        self.run_count += count
        self.run_bytes += size
        self.run_ticks += ticks
        if count:
            self._last_delta = last
            self.longest_delta = max(self.longest_delta, min(last, ticks))

    def pass_run(self, entries: bytes, run: Run) -> None:
        """``trun`` whose samples have entries."""
        words = run.words
        count = len(entries) // (4 * words)
        if not count:
            return
        values = struct.unpack(f">{count * words}I", entries)
        sizes = values[run.has_duration :: words] if run.has_size else (run.size,) * count
        if self.pairs:
            self.pairs.add(sizes)
        if self.places:
            self.places.pass_sizes(sizes)
        if self.heads:
            self.heads.pass_sizes(sizes)
        ticks = sum(values[::words]) if run.has_duration else count * run.duration
        self.add_run(count, sum(sizes), values[-words] if run.has_duration else run.duration, ticks)

    def beginning_beside(self) -> "Track":
        """A track for entries that are read beside this one's."""
        beside = Track()
        beside.last_chunk, beside.last_spread = self.last_chunk, self.last_spread
        return beside

    def add(self, beside: "Track") -> None:
        """What was read beside it."""
        self.count += beside.count
        self.bytes += beside.bytes
        self.timed += beside.timed
        self.ticks += beside.ticks
        self.run_count += beside.run_count
        self.run_bytes += beside.run_bytes
        self.run_ticks += beside.run_ticks
        self.chunk_runs += beside.chunk_runs + max(self.chunks - beside.last_chunk + 1, 0) * beside.last_spread
        self.longest_delta = max(self.longest_delta, beside.longest_delta)

    # --- descriptions ------------------------------------------------------------------------------------------------

    def describe(self, body: bytes, pairs: SizePairs, kept: tuple[Kept, Kept] | None) -> None:
        """``stsd``: the first entry. Raises struct.error for one that is cut short.

        ``pairs``: for tracks of AAC and FLAC. ``kept``: of the media so far, of FLAC more at once, if samples are to
        be read in it.
        """
        entry = body[8:]
        name = entry[4:8]
        version, channels, bits, rate = struct.unpack_from(">H6xHH4xI", entry, 16)
        self.rate, self.channels = rate >> 16, channels
        if version == 2 and len(entry) >= 72:
            exact, channels, bits = struct.unpack_from(">dI4xI", entry, 40)
            self.rate, self.channels = int(exact) if 0 < exact < 1 << 31 else self.rate, channels
        make = _CODECS.get(name)
        bits = (_inner(entry, b"pcmC")[5:6] or bytes((bits & 0xFF,)))[0]
        frames = make(entry, self.rate) if make else _pcm(name, self.rate, self.channels, bits)
        self._frames = frames if frames is not None and 0 < frames.rate < 1 << 31 else None
        self.codec = frames.codec if frames else ""
        self.pairs = pairs if frames and (frames.blocks or frames.codec == "flac") else None
        if frames and kept and not self.looks:
            self.looks = _looks_at(frames, *kept)
            self.places = Places(self.looks.found) if self.looks else None
        if self.codec == "opus":
            self.heads = self.heads or OpusHeads()
            self._pre_skip = int.from_bytes(_inner(entry, b"dOps")[2:4], "big")

    def edit(self, body: bytes) -> None:
        """``elst``: where its first true edit begins; an empty one has a start of -1."""
        pattern = ">Qq4x" if body[0] else ">Ii4x"
        width = struct.calcsize(pattern)
        count = min(int.from_bytes(body[4:8], "big"), _MOST_EDITS, (len(body) - 8) // width)
        edits = [struct.unpack_from(pattern, body, 8 + width * index) for index in range(count)]
        self._edit_start = next((start for _, start in edits if start >= 0), 0)

    # --- the figure --------------------------------------------------------------------------------------------------

    @property
    def read_ns(self) -> int:
        """What its packets of Opus play, as far as they have been read."""
        return self.heads.samples * _NS_PER_SECOND // OPUS_RATE if self.heads else 0

    @property
    def ns(self) -> int:
        """What it plays, in nanoseconds."""
        stated = self._stated_ns
        frames, count = self._frames, self.count + self.run_count
        if frames is None:
            return stated
        if frames.size:
            return self._pcm_frames(frames) * _NS_PER_SECOND // frames.rate
        if not frames.samples:
            # The last packet is said to end where the sound does, and is played whole.
            longest, last = (n * _NS_PER_SECOND // self.scale for n in (self.longest_delta, self._last_delta))
            stated += max(min(longest, _MOST_OPUS_NS) - last, 0)
            stated = self._opus_ns(stated, count)
            return stated - self._trimmed(stated, _OPUS_NS)
        if self.constant:
            count = min(count, self.bytes // self.constant + self.run_count)
        if frames.most:
            count = max(count, (self.bytes + self.run_bytes) // frames.most)
        one = frames.samples * _NS_PER_SECOND // frames.rate
        gross = count * frames.samples * _NS_PER_SECOND // frames.rate
        if frames.codec == "mp3" and frames.samples == _SHORT_MPEG:
            # Of layer II each has twice as many, and only its duration says so.
            gross = max(gross, min(stated, 2 * gross))
        if frames.codec in {"alac", "flac"}:
            # The last frame alone may be shorter, and only its duration says so.
            short = one - self._last_delta * _NS_PER_SECOND // self.scale
            gross -= short if count and 0 < short < one else 0
        return gross - self._trimmed(gross, one)

    @property
    def _stated_ns(self) -> int:
        """By the durations of its samples."""
        ticks = self.ticks + max(self.count - self.timed, 0) * self._last_delta + self.run_ticks
        return ticks * _NS_PER_SECOND // self.scale

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
            gross = media.most_ns(frames.codec, self.bytes + self.run_bytes) if is_alone else 0
        return gross - self._trimmed(gross, frames.samples * _NS_PER_SECOND // frames.rate)

    @property
    def blocks_said(self) -> tuple[Blocks | None, int, int]:
        """How its blocks of AAC are to be read, how many samples its tables have, and their bytes."""
        return self._frames and self._frames.blocks, self.count + self.run_count, self.bytes + self.run_bytes

    def block_ns(
        self, windows: Windows, flac: FlacWindows, of_several: Sequence[tuple[Blocks | None, int, int]] | None
    ) -> int:
        """What frames of AAC or FLAC that stand within its samples play, with all others; 0 where none were found.

        ``of_several`` has :attr:`blocks_said` of all tracks, where there are others.
        """
        frames = self._frames
        if frames is None or self.pairs is None:
            return 0
        size = self.bytes + self.run_bytes
        blocks, samples = frames.blocks, self.count + self.run_count
        is_followed = self.places is not None and not self.places.is_odd
        count = samples * self.looks.most if self.looks and self.looks.most > 1 else 0
        if self.looks and self.looks.looks and is_followed:
            pass  # else the tables that were followed may be a decoy's
        elif not blocks:
            count = max(count, flac.most_frames(self.pairs, size))
        elif of_several is None:
            count = max(count, windows.most_blocks(blocks, self.pairs, size))
        else:
            count = count if is_followed else max(count, 2 * samples)
            if all(others == blocks for others, _, _ in of_several):  # read by what is another's, they end anywhere
                named, of_all = sum(count for _, count, _ in of_several), sum(taken for _, _, taken in of_several)
                count = max(count, windows.most_of_several(blocks, named, of_all) * size // max(of_all, 1))
        return count * frames.samples * _NS_PER_SECOND // frames.rate

    def _trimmed(self, gross: int, one: int) -> int:
        """What an edit list leaves out at the start, as far as it is believed. Decoders play the end to the end."""
        if self._edit_start is None:
            start = self._pre_skip * _NS_PER_SECOND // OPUS_RATE
        else:
            start = self._edit_start * _NS_PER_SECOND // self.scale
        return start if start <= min(_MOST_TRIMMED * one, gross) else 0

    def _opus_ns(self, stated: int, count: int) -> int:
        """Packets tell; those that could not be read are as long as is stated, and as :attr:`_unread_ns` says."""
        known = self.heads.count + self.heads.waiting if self.heads else 0
        unread = count - known
        return max(stated, self.read_ns + unread * self._unread_ns) if unread > 0 else self.read_ns

    @property
    def _unread_ns(self) -> int:
        """What a packet of Opus plays that was not read: as the longest of those that chance chose.

        Of tables that lead to no packet at all nobody knows where they lead a decoder.
        """
        looks, heads = self.looks, self.heads
        return looks.most * _NS_PER_SECOND // OPUS_RATE if looks and looks.most and heads and heads.count else _OPUS_NS

    def _pcm_frames(self, frames: Frames) -> int:
        spread = self.chunk_runs + max(self.chunks - self.last_chunk + 1, 0) * self.last_spread
        frames_of_runs = self.run_bytes // frames.size
        return (max(self.count, spread) if self.constant else self.bytes // frames.size) + frames_of_runs


def _looks_at(frames: Frames, kept: Kept, more: Kept) -> SampleLooks | None:
    if frames.blocks:
        return SampleLooks(partial(blocks_of, blocks=frames.blocks), kept)
    if frames.codec == "flac":
        return SampleLooks(frames_of, more, _FLAC_READ_BYTES)
    return SampleLooks(_opus_samples, kept) if frames.codec == "opus" else None


def _opus_samples(part: bytes, size: int, is_begin: bool) -> int:  # noqa: ARG001, FBT001
    """What a packet plays that begins so."""
    return packet_samples(part, 0, len(part)) if is_begin else 0


def _inner(entry: bytes, name: bytes) -> bytes:
    """What stands behind the first four bytes of this name inside an entry; empty without it."""
    at = entry.find(name, _ENTRY_BYTES)
    return entry[at + 4 :] if at >= 0 else b""


def _mp4a(entry: bytes, rate: int) -> Frames | None:
    """ISO/IEC 14496-1 section 7.2.6: descriptors within ``esds``."""
    body = _inner(entry, b"esds")[4:]
    at, kind = 0, 0x40
    config = b""
    while at + 2 <= len(body):
        tag, size = body[at], 0
        at += 1
        for _ in range(4):
            if at >= len(body):
                break
            size = size << 7 | body[at] & 0x7F
            at += 1
            if not body[at - 1] & 0x80:
                break
        if tag == _ELEMENTARY:
            at += 3
        elif tag == _CONFIG_TYPE and at < len(body):
            kind = body[at]
            at += 13
        elif tag == _SPEC_TYPE:
            config = body[at : at + size]
            break
        else:
            at += size
    if kind in {0x69, 0x6B}:
        return _mp3(entry, rate)
    if kind in {0x40, 0x66, 0x67, 0x68}:
        samples, core = aac.frame_of(config) or (aac.SAMPLES, rate)
        most = aac.MOST_BYTES * aac.channels_of(config)
        said = aac.blocks_of(config)
        return Frames("aac", samples, core, most=most, blocks=Blocks(*said) if said else None)
    return {0xA5: _ac3, 0xA6: _ac3}.get(kind, lambda *_: None)(entry, rate)


def _mp3(entry: bytes, rate: int) -> Frames:  # noqa: ARG001  one shape for all
    return Frames("mp3", 1152 if rate >= 32_000 else _SHORT_MPEG, rate, most=_MOST_MPEG_BYTES)


def _ac3(entry: bytes, rate: int) -> Frames:
    return Frames("eac3" if entry[4:8] == b"ec-3" else "ac3", 1536, rate, most=_MOST_AC3_BYTES)


def _alac(entry: bytes, rate: int) -> Frames:
    # QuickTime names the format once more in front of it.
    cookie = _inner(entry, b"\0\0\0\x24alac")[8:]
    samples, exact = int.from_bytes(cookie[:4], "big"), int.from_bytes(cookie[20:24], "big")
    return Frames("alac", samples if 0 < samples < 1 << 20 else 4096, exact or rate)


def _flac(entry: bytes, rate: int) -> Frames:
    info = _inner(entry, b"dfLa")[8:]  # version and flags, and the metadata block's header
    exact = int.from_bytes(info[10:13], "big") >> 4
    # A rate that does not fit the entry's 16 bits is cut there, or left out; of two others the slower one plays longer.
    slowest = exact if rate in {0, exact & 0xFFFF} else min(exact or rate, rate)
    samples, stream = int.from_bytes(info[2:4], "big"), StreamInfo.read(info)
    plain = samples * stream.channels * ((stream.bits + 7) // 8)  # a frame that does not get smaller stays as it is
    return Frames("flac", samples, slowest, most=plain + _FLAC_FRAME_BYTES if plain else 0)


def _opus(entry: bytes, rate: int) -> Frames:  # noqa: ARG001
    return Frames("opus", 0, 48_000)


def _amr(entry: bytes, rate: int) -> Frames:
    wide = entry[4:8] == b"sawb"
    packed = max(_inner(entry, b"damr")[8:9].ljust(1, b"\1")[0], 1)  # frames to the sample (3GPP TS 26.244)
    samples, rate, most = (320, 16_000, _MOST_AMR_WB_BYTES) if wide else (160, 8_000, _MOST_AMR_BYTES)
    return Frames("amr_wb" if wide else "amr_nb", samples * packed, rate, most=most * packed)


_CODECS: Mapping[bytes, Callable[[bytes, int], Frames | None]] = {
    b"mp4a": _mp4a,
    b".mp3": _mp3,
    b"ac-3": _ac3,
    b"ec-3": _ac3,
    b"alac": _alac,
    b"fLaC": _flac,
    b"Opus": _opus,
    b"samr": _amr,
    b"sawb": _amr,
}

_PCM_BITS = {b"sowt": 16, b"twos": 16, b"raw ": 8, b"in24": 24, b"in32": 32, b"fl32": 32, b"fl64": 64, b"ulaw": 8,
             b"alaw": 8, b"lpcm": 0, b"ipcm": 0, b"fpcm": 0}  # fmt: skip


def _pcm(name: bytes, rate: int, channels: int, bits: int) -> Frames | None:
    known = _PCM_BITS.get(name)
    if known is None:
        return None
    wide = bits if name in {b"sowt", b"twos", b"raw "} and bits in {8, 16, 24, 32} else known or bits
    size = channels * (wide // 8)
    return Frames(f"pcm_{name.decode().strip()}", 1, rate, size) if size else None
