"""Streams of sound in an AVI or an ASF, by their format (WAVEFORMATEX): what the bytes of their chunks play."""

from collections.abc import Callable, Mapping
from typing import Protocol

from policies.audio import vorbis
from policies.audio.aac import setup as aac
from policies.audio.ac3 import Ac3Walker
from policies.audio.adts import AdtsWalker
from policies.audio.dts import DtsWalker
from policies.audio.flac import FlacWalker
from policies.audio.mpeg import MpegWalker
from policies.audio.packets import AacPackets, Packets, SpeexPackets, VorbisPackets
from policies.audio.speech import G723_TAGS, G723Walker
from policies.audio.walker import Walker
from policies.audio.wav_formats import Layout, read_format
from policies.audio.wma import TAGS as WMA
from policies.audio.wma import Wma

_LEAST_FORMAT_BYTES = 14
_FORMAT_BYTES = 40
_BLOCK_AT, _SET_UP_SIZE_AT, _SET_UP_AT = 12, 16, 18
"""Of a frame's size, of that of what stands behind WAVEFORMATEX, and of that."""
_FEW_BYTES, _FEW_TIMES = 32, 1024
"""Below so many bytes to the sample a packet has so many samples."""
_OTHER_KBITS = 16
_LEAST_KBITS, _LEAST_RATE = 8, 8_000
"""Of frames whose sizes nobody knows, at that rate."""
_MOST_READ_BYTES = 8_192
"""Of a packet."""
_MOST_CUT_BYTES = 2_048
"""Of a packet that has not ended: more may be many."""
_AAC, _VORBIS, _SPEEX, _EXTENSIBLE = (0x00FF, 0x706D), 0x566F, 0xA109, 0xFFFE
_VORBIS_HEAD_BYTES, _SPEEX_HEAD_BYTES = 30, 80
_KIND_AT, _EAC3 = 24, b"\xaf\x87\xfb\xa7"
"""Of what stands behind an extensible format: the kind that E-AC-3 is."""
_FRAMED: Mapping[int, Callable[[], Walker]] = {
    0x0050: lambda: MpegWalker(is_linked=False),
    0x0055: lambda: MpegWalker(is_linked=False),
    0x1600: lambda: AdtsWalker(is_linked=False),
    0x1610: lambda: AdtsWalker(is_linked=False),
    0x2000: lambda: Ac3Walker(is_linked=False),
    0x2001: lambda: DtsWalker(is_linked=False),
    0xF1AC: FlacWalker,
}


class Sound(Protocol):
    """One stream: takes its chunks."""

    @property
    def codec(self) -> str:
        """FFmpeg's name; empty until known."""

    @property
    def channels(self) -> int | None:
        """None until known."""

    @property
    def ms(self) -> int:
        """What they play."""

    @property
    def unsure(self) -> bool:
        """Whether that is a guess."""

    def feed(self, piece: bytes, *, is_end: bool) -> None:
        """More of a chunk; ``is_end`` says that it ends there."""

    def flush(self) -> None:
        """Nothing more comes for now."""

    def most_ms(self, size: int) -> int:
        """What so many bytes may play."""


class _Plain:
    """Samples, by their bytes."""

    __slots__ = ("_layout", "_size", "channels", "codec")

    def __init__(self, layout: Layout) -> None:
        self._layout, self._size = layout, 0
        self.codec, self.channels = layout.codec, layout.channels

    @property
    def ms(self) -> int:
        return self._layout.ms(self._size)

    @property
    def unsure(self) -> bool:
        return self._layout.is_guess

    def feed(self, piece: bytes, *, is_end: bool) -> None:  # noqa: ARG002
        self._size += len(piece)

    def flush(self) -> None:
        pass

    def most_ms(self, size: int) -> int:
        return self._layout.ms(size)


class _Framed:
    """A stream of frames that is cut anywhere."""

    __slots__ = ("_pieces", "_walker")

    def __init__(self, walker: Walker) -> None:
        self._walker = walker
        self._pieces: list[bytes] = []

    @property
    def codec(self) -> str:
        return self._walker.codec

    @property
    def channels(self) -> int | None:
        return self._walker.channels

    @property
    def ms(self) -> int:
        return self._walker.ms or 0

    @property
    def unsure(self) -> bool:
        return self._walker.unsure

    def feed(self, piece: bytes, *, is_end: bool) -> None:  # noqa: ARG002
        self._pieces.append(piece)

    def flush(self) -> None:
        if self._pieces:
            self._walker.feed(b"".join(self._pieces))
            self._pieces = []

    def most_ms(self, size: int) -> int:
        return size * 8 // _LEAST_KBITS


class _Packed:
    """A packet to the chunk, or to so many bytes (``step``) of it."""

    __slots__ = ("_held", "_packets", "_played", "_size", "_step", "channels", "codec")

    def __init__(self, packets: Packets, channels: int, step: int) -> None:
        self._packets, self.codec, self.channels, self._step = packets, packets.codec, channels, step
        self._held, self._size, self._played = bytearray(), 0, 0

    @property
    def ms(self) -> int:
        rest = self._packets.samples_by_head(b"", 0, self._size) if self._size and self.codec == "aac" else 0
        cut_ms = self.most_ms(self._size) if self._size > _MOST_CUT_BYTES else 0
        return self._packets.played(self._played + rest) * 1000 // self._packets.rate + cut_ms

    @property
    def unsure(self) -> bool:
        return self._packets.unsure

    def feed(self, piece: bytes, *, is_end: bool) -> None:
        while self._step and self._size + len(piece) > self._step:
            room = self._step - self._size
            self.feed(piece[:room], is_end=True)
            piece = piece[room:]
        self._size += len(piece)
        self._held += memoryview(piece)[: _MOST_READ_BYTES - len(self._held)]
        if is_end and self._size:
            is_whole = self._size == len(self._held)
            count = self._packets.samples if is_whole else self._packets.samples_by_head
            self._played += count(bytes(self._held), 0, self._size)
            self._held, self._size = bytearray(), 0

    def flush(self) -> None:
        pass

    def most_ms(self, size: int) -> int:
        return size * 8 * _LEAST_RATE // (_LEAST_KBITS * min(self._packets.rate, _LEAST_RATE))


class _Other:
    """A codec that is not walked: its weight."""

    __slots__ = ("_size", "channels")

    codec = ""
    unsure = True

    def __init__(self, channels: int) -> None:
        self.channels, self._size = channels, 0

    @property
    def ms(self) -> int:
        return self.most_ms(self._size)

    def feed(self, piece: bytes, *, is_end: bool) -> None:  # noqa: ARG002
        self._size += len(piece)

    def flush(self) -> None:
        pass

    def most_ms(self, size: int) -> int:
        return size * 8 // _OTHER_KBITS


def sound_of(form: bytes, sample_size: int = 0) -> Sound | None:
    """Of a stream with this ``strf``; None where it says too little. ``sample_size`` is what ``strh`` says."""
    if len(form) < _SET_UP_AT and len(form) not in {_LEAST_FORMAT_BYTES, _SET_UP_SIZE_AT}:
        return None
    tag, channels = int.from_bytes(form[:2], "little"), int.from_bytes(form[2:4], "little")
    if tag in _FRAMED:
        return _Framed(_FRAMED[tag]())
    if tag in G723_TAGS:
        rate, block = int.from_bytes(form[4:8], "little"), int.from_bytes(form[_BLOCK_AT:_SET_UP_SIZE_AT][:2], "little")
        return _Framed(G723Walker(rate or _LEAST_RATE, block or 1))
    config = form[_SET_UP_AT:][: int.from_bytes(form[_SET_UP_SIZE_AT:_SET_UP_AT], "little")]
    packets = _packets(tag, config)
    if packets:
        size = (int.from_bytes(form[_BLOCK_AT : _BLOCK_AT + 2], "little") or sample_size) if sample_size else 0
        step = 0 if size <= 1 else size if size >= _FEW_BYTES else size * _FEW_TIMES
        return _Packed(packets, channels, step)
    if tag in _AAC:  # without a set-up
        return _Framed(AdtsWalker(is_linked=False))
    if tag == _EXTENSIBLE and form[_KIND_AT:].startswith(_EAC3):
        return _Framed(Ac3Walker(is_linked=False))
    if tag in WMA and len(form) >= _SET_UP_AT:
        return Wma(form, sample_size if sample_size > 1 else 0)
    layout = read_format(form[:_FORMAT_BYTES], "<")
    return _Plain(layout) if layout else _Other(channels)


def _packets(tag: int, config: bytes) -> Packets | None:
    """Of a codec that has one to the chunk, by its set-up."""
    said = aac.frame_of(config) if tag in _AAC else None
    if said:
        return AacPackets(config, *said)
    if tag == _VORBIS and config[:1] == b"\x02" and 0xFF not in config[1:3]:
        head, sizes = config[3 : 3 + config[1]], config[1] + config[2]
        if len(head) >= _VORBIS_HEAD_BYTES and vorbis.is_sound(head) and len(config) > 3 + sizes:
            packets = VorbisPackets(head)
            packets.set_up(config[-vorbis.KEPT_BYTES :])
            return packets
    if tag == _SPEEX and config.startswith(b"Speex   ") and len(config) >= _SPEEX_HEAD_BYTES:
        speex = SpeexPackets(config)
        return speex if speex.rate else None
    return None
