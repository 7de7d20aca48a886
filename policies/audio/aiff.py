"""AIFF and AIFC: the same chunks as WAV's, in the other byte order and by other names."""

import struct

from policies.audio.chunks import ChunkWalker, Reading
from policies.audio.plain import framed_of, frames_of
from policies.audio.wav_formats import Layout

_COMPRESSIONS = {
    b"NONE": ("pcm_s{}be", 0), b"twos": ("pcm_s{}be", 0), b"sowt": ("pcm_s{}le", 0), b"raw ": ("pcm_u8", 8),
    b"in24": ("pcm_s24be", 24), b"in32": ("pcm_s32be", 32), b"fl32": ("pcm_f32be", 32), b"FL32": ("pcm_f32be", 32),
    b"fl64": ("pcm_f64be", 64), b"FL64": ("pcm_f64be", 64), b"ulaw": ("pcm_mulaw", 8), b"ULAW": ("pcm_mulaw", 8),
    b"alaw": ("pcm_alaw", 8), b"ALAW": ("pcm_alaw", 8), b"23ni": ("pcm_s32le", 32),
}  # fmt: skip
_MANTISSA_BITS, _BIAS = 63, 16_383
_NAMES = b"NAMEAUTH(c) ANNOCOMTMARKINSTMIDIAESDAPPLID3 CHANFVERSAXL"


class _Reading(Reading):
    __slots__ = ()

    DATA = b"SSND"
    READ = {b"COMM": 18}  # noqa: RUF012  a table, never written to
    METADATA = frozenset(_NAMES[at : at + 4] for at in range(0, len(_NAMES), 4))

    def take(self, kind: bytes, whole: bytes) -> None:
        if kind == b"COMM":
            self.add_layout(_layout(whole))
        self.order = ">"


def _layout(common: bytes) -> Layout | None:
    channels, _, bits, exponent, mantissa = struct.unpack_from(">HIHHQ", common)
    shift = _MANTISSA_BITS + _BIAS - (exponent & 0x7FFF)  # an 80-bit float
    rate = mantissa >> shift if 0 <= shift <= _MANTISSA_BITS else 0
    kind = common[18:22]
    framed = framed_of(kind, channels, rate)
    if framed:
        return framed
    codec, fixed = _COMPRESSIONS.get(kind or b"NONE", ("", 0))
    bits = fixed or (bits + 7) // 8 * 8
    return frames_of(codec.format(bits), channels, rate, bits) if codec else None


class AiffWalker(ChunkWalker):
    """Counts the bytes of the sound chunk."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(_Reading())
