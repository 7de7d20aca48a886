"""AU: a header, and then samples. All that follows the header counts, whatever else stands there.

It is rare, so that is fair enough, and nothing can be hidden.
"""

import struct

from policies.audio.walker import Chunk
from policies.audio.wav_formats import Layout

_AU_HEADER_BYTES = 24
_AU_CODECS = {
    1: ("pcm_mulaw", 8), 2: ("pcm_s8", 8), 3: ("pcm_s16be", 16), 4: ("pcm_s24be", 24), 5: ("pcm_s32be", 32),
    6: ("pcm_f32be", 32), 7: ("pcm_f64be", 64), 23: ("adpcm_g726", 4), 24: ("adpcm_g722", 4), 25: ("adpcm_g726", 3),
    26: ("adpcm_g726", 5), 27: ("pcm_alaw", 8),
}  # fmt: skip
_FRAMED = {
    b"ima4": ("adpcm_ima_qt", 34, 64), b"MAC3": ("mace3", 2, 6), b"MAC6": ("mace6", 1, 6),
    b"ADP4": ("adpcm_ima_ws", 1, 2), b"SDX2": ("sdx2_dpcm", 1, 1),
}  # fmt: skip
"""QuickTime's names, with a frame's bytes of each channel, and its samples."""
_MONO = {
    b"G722": ("adpcm_g722", 1, 2), b"G726": ("adpcm_g726", 1, 2), b"GSM ": ("gsm", 33, 160), b"agsm": ("gsm", 33, 160),
    b"ms\0\x31": ("gsm_ms", 65, 320), b"Qclp": ("qcelp", 8, 160), b"ilbc": ("ilbc", 38, 240),
    b"samr": ("amr_nb", 13, 160),
}  # fmt: skip
"""The same of what FFmpeg plays as one channel; where frames have several sizes, the least that holds speech."""
_ILBC, _ILBC_RATE = b"ilbc", 8000
"""The only one whose decoder knows its rate better than the file."""
MOST_RATE = 1 << 31


def frames_of(codec: str, channels: int, rate: int, bits: int) -> Layout | None:
    """Plain samples of so many bits each; None where that makes no sense."""
    if not 0 < channels < 1 << 16 or not 0 < rate < MOST_RATE or not 0 < bits <= 64:
        return None
    return Layout(codec, channels, rate, block=max(channels * bits // 8, 1), header=0, lead=0, bits=channels * bits)


def framed_of(kind: bytes, channels: int, rate: int, packet: int = 0) -> Layout | None:
    """A codec's own frames, in packets of this size if that is said; None of one that is not known."""
    codec, size, samples = _FRAMED.get(kind) or _MONO.get(kind) or ("", 0, 0)
    if not codec or not channels or not 0 < rate < MOST_RATE:
        return None
    rate = min(rate, _ILBC_RATE) if kind == _ILBC else rate
    size *= channels if kind in _FRAMED else 1
    size = min(packet or size, size)
    return Layout(codec, channels, rate, block=size, header=size, lead=samples, bits=1 << 62)


def _au(head: bytes) -> Layout | None:
    _, _, kind, rate, channels = struct.unpack_from(">5I", head, 4)
    codec, bits = _AU_CODECS.get(kind, ("", 0))
    return frames_of(codec, channels, rate, bits)


class LaidOut:
    """A walker of plain samples: codec and channels are those of the layout that a header tells, once it has."""

    __slots__ = ("_layout",)

    claimed_ms = None
    strange = 0

    def __init__(self) -> None:
        self._layout: Layout | None = None

    @property
    def codec(self) -> str:
        """FFmpeg's name; empty until known."""
        return self._layout.codec if self._layout else ""

    @property
    def channels(self) -> int | None:
        """As the header says; None until known."""
        return self._layout.channels if self._layout else None


class AuWalker(LaidOut):
    """Sun's format, also called SND: counts bytes behind a header; keeps that."""

    __slots__ = ("_held", "_is_begun", "_size")

    unsure = False

    def __init__(self) -> None:
        super().__init__()
        self._held = b""
        self._size = 0
        self._is_begun = False

    @property
    def ms(self) -> int | None:
        """Of the bytes behind the header; None for a header that cannot be read."""
        return self._layout.ms(self._size) if self._layout else None

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the file."""
        if self._is_begun:
            self._size += len(chunk)
            return
        self._held += chunk
        if len(self._held) >= _AU_HEADER_BYTES:
            self._is_begun = True
            self._layout = _au(self._held)
            self._size = len(self._held) - _AU_HEADER_BYTES
            self._held = b""
