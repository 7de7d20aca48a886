"""PCM: sample formats, and the way from any of them to what the recogniser hears, 16 kHz mono signed 16 bit."""

import enum
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gateway.demo.resample import Resampler

RATE = 16_000
"""Hertz. The acoustic model was trained at this rate."""

_FULL_SCALE = 32_767
_WIDEST = 2**15
_SLOWEST, _FASTEST, _MOST_CHANNELS = 4_000, 192_000, 32


class Encoding(enum.StrEnum):
    """How one sample is written; little-endian unless named otherwise."""

    U8 = "u8"
    S16 = "s16"
    S16_BIG_ENDIAN = "s16be"
    S24 = "s24"
    S32 = "s32"
    F32 = "f32"
    F64 = "f64"
    MULAW = "mulaw"
    ALAW = "alaw"


class Unreadable(ValueError):
    """The bytes are no audio that can be read here; the message says so to whoever sent them."""


@dataclass(frozen=True, slots=True)
class PcmFormat:
    """Encoding, frames a second, and interleaved channels. Raises Unreadable for what no microphone sends."""

    encoding: Encoding = Encoding.S16
    rate: int = RATE
    channels: int = 1

    def __post_init__(self) -> None:
        # A claimed rate of 1 Hz would turn a few megabytes into days of audio.
        if not _SLOWEST <= self.rate <= _FASTEST:
            raise Unreadable(f"A sample rate of {self.rate} Hz is outside the {_SLOWEST} to {_FASTEST} Hz read here.")
        if not 1 <= self.channels <= _MOST_CHANNELS:
            raise Unreadable(f"{self.channels} channels are outside the 1 to {_MOST_CHANNELS} read here.")

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return _WIDTHS[self.encoding] * self.channels


class Converter:
    """Turns a stream in any format into 16 kHz mono s16, however the bytes are cut into chunks."""

    def __init__(self, source: PcmFormat) -> None:
        self._source = source
        self._resampler = Resampler(source.rate, RATE) if source.rate != RATE else None
        self._partial_frame = b""
        self._frames = 0

    @property
    def duration_ms(self) -> int:
        """How much audio has gone in, rounded to the nearest millisecond; an incomplete last frame does not count."""
        return round(self._frames * 1000 / self._source.rate)

    def feed(self, data: bytes) -> bytes:
        """Convert what is complete so far; may answer fewer bytes than were due, and the rest later."""
        data = self._partial_frame + data
        whole = len(data) - len(data) % self._source.frame_bytes
        data, self._partial_frame = data[:whole], data[whole:]
        self._frames += whole // self._source.frame_bytes
        if self._source == PcmFormat():
            return data
        samples: Iterable[float] = _mixed(_DECODERS[self._source.encoding](data), self._source.channels)
        return _s16(self._resampler.feed(list(samples)) if self._resampler else samples)

    def finish(self) -> bytes:
        """What the resampler still held."""
        return _s16(self._resampler.finish()) if self._resampler else b""


def _mixed(samples: list[float], channels: int) -> Iterable[float]:
    """The mean of the channels: never louder than the loudest, so it cannot clip."""
    if channels == 1:
        return samples
    return (sum(frame) / channels for frame in zip(*[iter(samples)] * channels, strict=True))


def _s16(samples: Iterable[float]) -> bytes:
    return array("h", [int(max(-_WIDEST, min(_FULL_SCALE, sample))) for sample in samples]).tobytes()


def _mulaw(code: int) -> float:
    """ITU-T G.711, table 2: the bits arrive inverted, the bias is 33 in steps of the 14-bit scale."""
    code = ~code & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84 << (code >> 4 & 0x07)) - 0x84
    return float(-magnitude if code & 0x80 else magnitude)


def _alaw(code: int) -> float:
    """ITU-T G.711, table 1: even bits arrive inverted; segment 0 is linear."""
    code ^= 0x55
    segment, step = code >> 4 & 0x07, (code & 0x0F) << 4
    magnitude = step + 8 if segment == 0 else step + 0x108 << segment - 1
    return float(magnitude if code & 0x80 else -magnitude)


_U8 = [(code - 128) * 256.0 for code in range(256)]
_MULAW = [_mulaw(code) for code in range(256)]
_ALAW = [_alaw(code) for code in range(256)]


def _s16_big_endian(data: bytes) -> list[float]:
    samples = array("h", data)
    samples.byteswap()
    return list(samples)


def _s24(data: bytes) -> list[float]:
    """Three bytes widened to four with a zero below, so that one array reads them all."""
    widened = bytearray(len(data) // 3 * 4)
    for byte in range(3):
        widened[byte + 1 :: 4] = data[byte::3]
    return _s32(bytes(widened))


def _s32(data: bytes) -> list[float]:
    return [sample / 65_536 for sample in array("i", data)]


def _floats(samples: Iterable[float]) -> list[float]:
    """Nominally -1 to 1. What is louder is clipped later; a NaN fails every comparison and becomes silence."""
    return [sample * _FULL_SCALE if -_WIDEST <= sample <= _WIDEST else 0.0 for sample in samples]


_DECODERS: dict[Encoding, Callable[[bytes], list[float]]] = {
    Encoding.U8: lambda data: [_U8[code] for code in data],
    Encoding.S16: lambda data: list(array("h", data)),
    Encoding.S16_BIG_ENDIAN: _s16_big_endian,
    Encoding.S24: _s24,
    Encoding.S32: _s32,
    Encoding.F32: lambda data: _floats(array("f", data)),
    Encoding.F64: lambda data: _floats(array("d", data)),
    Encoding.MULAW: lambda data: [_MULAW[code] for code in data],
    Encoding.ALAW: lambda data: [_ALAW[code] for code in data],
}

_WIDTHS = {
    Encoding.U8: 1,
    Encoding.S16: 2,
    Encoding.S16_BIG_ENDIAN: 2,
    Encoding.S24: 3,
    Encoding.S32: 4,
    Encoding.F32: 4,
    Encoding.F64: 8,
    Encoding.MULAW: 1,
    Encoding.ALAW: 1,
}
