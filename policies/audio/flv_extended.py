"""What later versions (Enhanced RTMP) added to FLV: tags of sound that name their codec by four letters, and a track.

As FFmpeg and OBS write them: one track to the tag. Others (several tracks in one, modifiers, codecs that are not in the
tables) are weighed. Source: Enhanced RTMP v2 (veovera.org), "Enhanced Audio".
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from policies.audio.aac import setup as aac
from policies.audio.ac3 import Ac3Walker
from policies.audio.flac import StreamInfo
from policies.audio.frames import NS_PER_SECOND, FrameWalker
from policies.audio.mpeg import MpegWalker
from policies.audio.packets import AacPackets, FlacPackets, OpusPackets, Packets

_KIND, _DESCRIPTION, _FRAMES, _END, _CHANNELS, _TRACKED = 15, 0, 1, 2, 4, 5
"""Which bits of the first byte say what the tag holds, and what that may be."""
_HEAD_BYTES, _TRACKED_BYTES = 5, 7
"""Of what stands in front of sound: the first byte and the codec; with what it holds of a track, and which."""
_MOST_CHANNELS_BYTES = 257
_MOST_STREAMS = 16
_MOST_DESCRIPTIONS = 4096
_OPUS_HEAD_BYTES, _STREAMINFO_BYTES = 19, 34
_SLOWEST = 7_350
_UNKNOWN_KBITS = 32
_NS_PER_MS = 1_000_000


class _Stream(Protocol):
    """Sound of one codec and one track."""

    @property
    def codec(self) -> str:
        """FFmpeg's name; empty until known."""

    @property
    def ns(self) -> int:
        """What it plays."""

    @property
    def unsure(self) -> bool:
        """Whether that is a guess."""

    def describe(self, config: bytes) -> None:
        """What its description says."""

    def take(self, data: bytes, at: int, end: int) -> None:
        """One packet."""

    def flush(self) -> None:
        """Nothing more comes for now."""


class _Packed:
    """A packet to the tag, by the first description, and behind another one by the slowest so far."""

    __slots__ = ("_config", "_earlier_ns", "_make", "_packets", "_slowest", "_total", "codec")

    def __init__(self, make: Callable[[bytes, int], Packets]) -> None:
        self._make = make
        self._config = b""
        self._earlier_ns = self._total = 0
        self._packets = make(b"", 0)
        self._slowest = 0
        """Hz, of the descriptions so far."""
        self.codec = self._packets.codec

    @property
    def ns(self) -> int:
        packets = self._packets
        return self._earlier_ns + packets.played(self._total) * NS_PER_SECOND // packets.rate

    @property
    def unsure(self) -> bool:
        return self._packets.unsure

    def describe(self, config: bytes) -> None:
        if config != self._config:
            is_first = not (self._config or self._total)
            self._earlier_ns, self._config = self.ns, config
            self._packets = self._make(config, self._slowest)
            self._slowest = self._packets.rate
            self._total = -self._packets.skip if is_first else 0

    def take(self, data: bytes, at: int, end: int) -> None:
        if at < end:
            self._total += self._packets.samples(data, at, end)

    def flush(self) -> None:
        pass


class _Framed:
    """Frames that say themselves where they end."""

    __slots__ = ("_pieces", "_walker")

    def __init__(self, walker: FrameWalker) -> None:
        self._walker = walker
        self._pieces: list[bytes] = []

    @property
    def codec(self) -> str:
        return self._walker.codec

    @property
    def ns(self) -> int:
        return self._walker.ns + self._walker.strange * 8 // _UNKNOWN_KBITS * _NS_PER_MS

    @property
    def unsure(self) -> bool:
        return self._walker.unsure or self._walker.strange > 0

    def describe(self, config: bytes) -> None:
        """FFmpeg takes no description of such a codec for one."""
        self._pieces.append(config)

    def take(self, data: bytes, at: int, end: int) -> None:
        self._pieces.append(data[at:end])

    def flush(self) -> None:
        if self._pieces:
            self._walker.feed(b"".join(self._pieces))
            self._pieces = []


def _opus(config: bytes, _: int) -> Packets:
    return OpusPackets(config[:_OPUS_HEAD_BYTES].ljust(_OPUS_HEAD_BYTES, b"\0"))


def _aac(config: bytes, slowest: int) -> Packets:
    samples, rate = aac.frame_of(config) or (aac.SAMPLES, _SLOWEST)
    return AacPackets(config, samples, min(rate, slowest or rate))


def _flac(config: bytes, _: int) -> Packets:
    """The description is STREAMINFO, bare or behind its magic and its block's header."""
    info = config[8:] if config.startswith(b"fLaC") else config
    return FlacPackets(StreamInfo.read(info[:_STREAMINFO_BYTES].ljust(_STREAMINFO_BYTES, b"\0")))


_PACKED: Mapping[bytes, Callable[[bytes, int], Packets]] = {b"Opus": _opus, b"mp4a": _aac, b"fLaC": _flac}
_FRAMED: Mapping[bytes, Callable[[], FrameWalker]] = {
    b".mp3": lambda: MpegWalker(is_linked=False),
    b"ac-3": lambda: Ac3Walker(is_linked=False),
    b"ec-3": lambda: Ac3Walker(is_linked=False),
}


class ExtendedSound:
    """All such tags of a file."""

    __slots__ = ("_descriptions", "_streams", "_usual", "other")

    def __init__(self) -> None:
        self.other = 0
        """Bytes of what is weighed."""
        self._streams: dict[tuple[bytes, int], _Stream] = {}
        """By codec and track."""
        self._usual: dict[bytes, _Stream] = {}
        """By the head of a tag that has no more of it than a codec."""
        self._descriptions = 0

    @property
    def codec(self) -> str:
        """Of the first stream."""
        return next((stream.codec for stream in self._streams.values()), "")

    @property
    def unsure(self) -> bool:
        """Whether any of it is a guess."""
        return self.other > 0 or any(stream.unsure for stream in self._streams.values())

    def ns(self, beside: int) -> int:
        """Of the track that plays longest; tags of the old kind, which play so long, are of the first one."""
        tracks = {0: beside}
        for (_, track), stream in self._streams.items():
            tracks[track] = tracks.get(track, 0) + max(stream.ns, 0)
        return max(tracks.values())

    def take(self, data: bytes, at: int, end: int) -> None:
        """One tag's sound, from its first byte on."""
        stream = self._usual.get(data[at : at + _HEAD_BYTES])
        if stream is None:
            self._read(data, at, end)
        else:
            stream.take(data, at + _HEAD_BYTES, end)

    def flush(self) -> None:
        """Nothing more comes for now."""
        for stream in self._streams.values():
            stream.flush()

    def _read(self, data: bytes, at: int, end: int) -> None:
        kind, track, begins = data[at] & _KIND, 0, at + _HEAD_BYTES
        codec = data[at + 1 : begins]
        if kind == _TRACKED and end - at >= _TRACKED_BYTES:
            kind, codec, track = data[at + 1], data[at + 2 : at + 6], data[at + 6]
            begins = at + _TRACKED_BYTES
        stream = self._stream(codec, track) if begins <= end and kind <= _CHANNELS else None
        if stream is None or (kind == _CHANNELS and end - begins > _MOST_CHANNELS_BYTES):
            self.other += end - at
        elif kind == _DESCRIPTION:
            self._descriptions += 1
            if self._descriptions > _MOST_DESCRIPTIONS:
                self._usual.clear()
            else:
                stream.describe(data[begins:end])
        elif kind != _CHANNELS:
            stream.take(data, begins, end)
            if kind == _FRAMES and not track:
                self._usual[data[at:begins]] = stream

    def _stream(self, codec: bytes, track: int) -> _Stream | None:
        """None of a codec that is not walked, and behind too many tracks or descriptions."""
        stream = self._streams.get((codec, track))
        if stream is None and len(self._streams) < _MOST_STREAMS and (codec in _PACKED or codec in _FRAMED):
            stream = _Packed(_PACKED[codec]) if codec in _PACKED else _Framed(_FRAMED[codec]())
            self._streams[codec, track] = stream
        return stream if self._descriptions <= _MOST_DESCRIPTIONS else None
