"""One track of a Matroska file: which codec it holds, and what its blocks add up to."""

import struct
from collections.abc import Callable, Sequence
from functools import cache

from policies.audio import vorbis
from policies.audio.aac import setup as aac
from policies.audio.flac import StreamInfo
from policies.audio.opus import MOST_SKIP
from policies.audio.packets import (
    AacPackets,
    Ac3Packets,
    AlacPackets,
    FlacPackets,
    LayoutPackets,
    MpegPackets,
    OpusPackets,
    Packets,
    PcmPackets,
    VorbisPackets,
    WavPackPackets,
)
from policies.audio.wav_formats import read_format

_NS_PER_SECOND = 1_000_000_000
_AUDIO = 2
_NO_LACING, _XIPH, _FIXED = 0, 1, 2
_LACING = 0x06
_STRIPPED_HEADERS = 3
_NOT_COMPRESSED = -1
_MOST_LOSSY_NS = 160_000_000
"""What an encoder of AAC or MP3 delays at most: 1105 samples at 8 kHz are 138 ms."""
_LEAST_FORMAT_BYTES, _FORMAT_BYTES = 16, 40
"""Of a format of WAV."""
_MP2, _MP3, _AC3 = 0x0050, 0x0055, 0x2000
_FRAME_BYTES = 16
"""Of a frame, enough to tell how long it plays."""


class Track:
    """What the file says of it, and what has passed. Times of blocks are in the file's ticks."""

    __slots__ = (
        "_discard_ns", "_discarded_at", "_earlier_ns", "_first_time", "_last", "_last_time", "_reader", "_tail_ticks",
        "as_first", "bits", "by_head", "channels", "codec_id", "compression", "default_ns", "delay_ns", "is_begun",
        "kind", "number", "output_rate", "packets", "private", "rate", "says_rate", "stripped", "total",
    )  # fmt: skip

    def __init__(self) -> None:
        self.number = 0
        self.kind = 0
        self.codec_id = b""
        self.private = b""
        self.rate = 8000.0  # what RFC 9559 section 5.1.4.1.29.1 says where the file does not
        self.says_rate = False
        self.output_rate = 0.0
        """0 where the file says none."""
        self.channels = 0
        self.bits = 0
        self.default_ns = 0
        self.delay_ns = 0
        self.compression = _NOT_COMPRESSED
        self.stripped = b""
        self.is_begun = False
        self.packets: Packets | None = None
        """Once begun, where a frame's bytes in the file are those of its packet: the fast way is open."""
        self.by_head: Sequence[int] = ()
        """Likewise samples by a block's flags and the first byte of its frame; 0 where that does not tell."""
        self.total = 0
        self._reader: Packets | None = None
        self.as_first: Track | None = None
        """The first track of its number, where that was of another kind."""
        self._earlier_ns = 0
        self._last = 0
        self._discard_ns = 0
        self._discarded_at = -1
        self._first_time: int | None = None
        self._last_time = 0
        self._tail_ticks = 0

    @property
    def is_audio(self) -> bool:
        """Whether it may be what a decoder plays."""
        return self.kind == _AUDIO

    @property
    def slowest_rate(self) -> int:
        """Readers play samples at the rate, or at that of the output: FFmpeg obeys the latter."""
        return int(min(self.rate, self.output_rate) if self.output_rate >= 1 else self.rate)

    @property
    def is_unsure(self) -> bool:
        """Whether timestamps are all there is, since its codec is unknown, or packets are not what they should be."""
        return self.is_begun and self.is_audio and (self._reader is None or self._reader.unsure)

    @property
    def codec(self) -> str:
        """FFmpeg's name."""
        return self._reader.codec if self._reader else ""

    def carry(self, old: "Track") -> None:
        """Take over what an earlier track of this number came to: a decoder drops the delay once.

        FFmpeg reads all blocks of a number by its first description, others by the last: the longer playing counts.
        """
        self._earlier_ns = old.ns(1) + old.skipped_ns
        self.as_first = old.as_first or (old if old.is_audio else None)

    def begin(self) -> None:
        """Its first block is here: what the file says of it is complete."""
        self.is_begun = True
        first = self.as_first
        if first is not None and (first.codec_id, first.private) == (self.codec_id, self.private):
            self.as_first = None
        elif first is not None and not first.is_begun:
            first.begin()
        if not self.is_audio:
            return
        if self.compression in {_NOT_COMPRESSED, _STRIPPED_HEADERS}:
            self._reader = _packets_of(self)
        if self.compression == _NOT_COMPRESSED and self._reader and self.as_first is None:
            self.packets = self._reader
            self.by_head = _by_head(tuple(self._reader.by_first))
        if self._reader and not self.channels:
            self.channels = self._reader.channels or 0

    def add(self, samples: int) -> None:
        """One more frame."""
        self._last = samples
        self.total += samples

    def add_run(self, samples: int, last: int) -> None:
        """Several more, of which the last one plays so long."""
        self._last = last
        self.total += samples

    def pass_frames(self, data: bytes, frames: Sequence[tuple[int, int]], time: int, *, is_whole: bool) -> None:
        """The frames of one block, each by where it begins and ends; ``is_whole``: nothing of them is missing."""
        if self.as_first is not None:
            self.as_first.pass_frames(data, frames, time, is_whole=is_whole)
        for at, end in frames:
            if self._reader is None:
                break
            if self.stripped and self.compression == _STRIPPED_HEADERS:
                size = len(self.stripped) + end - at
                if is_whole:
                    self.add(self._reader.samples(self.stripped + data[at:end], 0, size))
                else:
                    self.add(self._reader.samples_by_head(self.stripped + data[at : at + _FRAME_BYTES], 0, size))
            elif not is_whole:
                self.add(self._reader.samples_by_head(data, at, end))
            else:
                self.add(self._reader.samples(data, at, end))
        if self._first_time is None:
            self._first_time = self._last_time = time
        if time > self._last_time:
            self._tail_ticks, self._last_time = time - self._last_time, time

    def end_block(self, value: int, *, is_discard: bool) -> None:
        """DiscardPadding in nanoseconds, honoured behind the last block alone; or BlockDuration in ticks."""
        if is_discard:
            self._discard_ns, self._discarded_at = max(value, 0), self.total
        else:
            self._tail_ticks = max(value, self._tail_ticks)

    def ns(self, scale: int) -> int:
        """What has passed so far; ``scale`` is nanoseconds to the tick."""
        return max(self._own_ns(scale), self.as_first.ns(scale) if self.as_first is not None else 0)

    def _own_ns(self, scale: int) -> int:
        reader = self._reader
        if reader is None:
            if self._first_time is None:
                return self._earlier_ns
            tail = self.default_ns or self._tail_ticks * scale
            return self._earlier_ns + (self._last_time - self._first_time) * scale + tail
        played = reader.played(self.total) * _NS_PER_SECOND // reader.rate
        played -= self.skipped_ns
        if self._discarded_at == self.total:
            played -= min(self._discard_ns, self._last * _NS_PER_SECOND // reader.rate)
        return self._earlier_ns + max(played, 0)

    @property
    def skipped_ns(self) -> int:
        """CodecDelay, as far as it is believed. A Vorbis decoder has none: its first packet plays nothing."""
        if self._reader is None or self._reader.codec == "vorbis":
            return 0
        if self._reader.codec not in {"aac", "mp3"}:
            return min(self.delay_ns, MOST_SKIP * _NS_PER_SECOND // 48_000)
        # FFmpeg makes samples of it by the rate that the file says, and drops those at the true one.
        said = int(self.rate) if self.says_rate else 0
        true = self._reader.rate if self._reader.codec == "aac" else max(said, 1)  # frames of MP3 say their own
        return min(self.delay_ns, _MOST_LOSSY_NS) * min(said, true) // true

    def frames(self, data: bytes, at: int, end: int, lacing: int) -> list[tuple[int, int]]:
        """Where the frames of one block lie (RFC 9559 section 10.3): those that begin in it, cut at its end."""
        if lacing == _NO_LACING:
            return [(at, end)] if at < end else []
        known = end if end <= len(data) else len(data) - _FRAME_BYTES
        if at >= known:
            return []
        count = data[at] + 1
        at += 1
        if lacing == _FIXED:
            sizes = [(end - at) // count] * (count - 1)
        else:
            sizes, at = (_xiph_sizes if lacing == _XIPH else _ebml_sizes)(data, at, known, count - 1)
        frames = []
        for size in [*sizes, end - at - sum(sizes)]:
            if 0 <= at < known and size > 0:
                frames.append((at, min(at + size, end)))
            at += max(size, 0)
        return frames


@cache
def _by_head(by_first: tuple[int, ...]) -> Sequence[int]:
    """For blocks without lacing."""
    return [0 if flags & _LACING else samples for flags in range(256) for samples in by_first]


def _xiph_sizes(data: bytes, at: int, end: int, count: int) -> tuple[list[int], int]:
    sizes = []
    for _ in range(count):
        size = 0
        while at < end:
            size += data[at]
            at += 1
            if data[at - 1] != 0xFF:
                break
        sizes.append(size)
    return sizes, at


def _ebml_sizes(data: bytes, at: int, end: int, count: int) -> tuple[list[int], int]:
    """The first size is a number, each later one a signed difference to the one before."""
    sizes: list[int] = []
    for _ in range(count):
        width = 9 - data[at].bit_length() if at < end else 9
        if width > 8:
            break
        value = int.from_bytes(data[at : at + width], "big") & (1 << 7 * width) - 1
        at += width
        sizes.append(max(value if not sizes else sizes[-1] + value - ((1 << 7 * width - 1) - 1), 0))
    return sizes, at


def _opus(track: Track) -> Packets:
    return OpusPackets(track.private[:19].ljust(19, b"\0"))


def _vorbis(track: Track) -> Packets | None:
    """CodecPrivate holds the three headers behind each other, as Xiph laces them."""
    private = track.private
    if len(private) < 3 or private[0] != 2:
        return None
    sizes, at = _xiph_sizes(private, 1, len(private), 2)
    head = private[at : at + 30]
    if len(head) < 30 or not vorbis.is_sound(head):
        return None
    packets = VorbisPackets(head)
    packets.set_up(private[at + sum(sizes) :])
    return packets


def _aac(track: Track) -> Packets | None:
    samples, rate = aac.frame_of(track.private) or (aac.SAMPLES, track.slowest_rate)
    return AacPackets(track.private, samples, rate) if rate else None


def _flac(track: Track) -> Packets:
    at = max(track.private.find(b"fLaC"), 0) + 8
    return FlacPackets(StreamInfo.read(track.private[at : at + 34].ljust(34, b"\0")), track.slowest_rate)


def _alac(track: Track) -> Packets | None:
    """Readers believe the track's rate, or the cookie's: the slower one plays longer."""
    samples, rate = (int.from_bytes(track.private[at : at + 4], "big") for at in (0, 20))
    rates = [hz for hz in (track.slowest_rate, rate) if hz > 0]
    return AlacPackets(samples, min(rates)) if 0 < samples < 1 << 20 and rates else None


def _pcm(track: Track) -> Packets | None:
    """Of a depth that they do not know, or that is not said, readers take samples of 16 bits, or floats of 32."""
    if track.slowest_rate < 1:
        return None
    is_float = track.codec_id.startswith(b"A_PCM/FLOAT")
    known, usual = ((32, 64), 32) if is_float else ((8, 16, 24, 32), 16)
    bits = track.bits if track.bits in known else usual
    order = "be" if track.codec_id.startswith(b"A_PCM/INT/BIG") else "le"
    return PcmPackets(f"pcm_{'f' if is_float else 's'}{bits}{order}", bits, track.slowest_rate, max(track.channels, 1))


def _acm(track: Track) -> Packets | None:
    """CodecPrivate is a WAV's format. Readers believe the track's rate and channels, or that: what plays longer."""
    form = track.private
    if len(form) < _LEAST_FORMAT_BYTES:
        return None
    tag, said, hz = struct.unpack_from("<HHI", form)
    if tag in {_MP2, _MP3}:
        return MpegPackets("mp2" if tag == _MP2 else "mp3")
    if tag == _AC3:
        return Ac3Packets("ac3")
    channels, rate = min(said, max(track.channels, 1)), min(hz, track.slowest_rate)
    layout = read_format(struct.pack("<HHI", tag, channels, rate) + form[8:_FORMAT_BYTES], "<")
    return LayoutPackets(layout) if layout and not layout.is_guess else None


def _wavpack(track: Track) -> Packets | None:
    return WavPackPackets(track.slowest_rate) if track.slowest_rate >= 1 else None


def _mpeg(track: Track) -> Packets:
    return MpegPackets("mp" + track.codec_id[-1:].decode("ascii", "replace"))


_CODECS: dict[bytes, Callable[[Track], Packets | None]] = {
    b"A_OPUS": _opus,
    b"A_VORBIS": _vorbis,
    b"A_FLAC": _flac,
    b"A_ALAC": _alac,
    b"A_MPEG/L1": _mpeg,
    b"A_MPEG/L2": _mpeg,
    b"A_MPEG/L3": _mpeg,
    b"A_AC3": lambda _: Ac3Packets("ac3"),
    b"A_EAC3": lambda _: Ac3Packets("eac3"),
    b"A_MS/ACM": _acm,
    b"A_WAVPACK4": _wavpack,
}


def _packets_of(track: Track) -> Packets | None:
    name = track.codec_id.rstrip(b"\0")
    if name.startswith(b"A_AAC"):
        return _aac(track)
    if name.startswith(b"A_PCM/"):
        return _pcm(track)
    make = _CODECS.get(name)
    return make(track) if make else None
