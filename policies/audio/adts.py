"""AAC as a stream: ADTS frames (ISO/IEC 13818-7 section 6.2), and LOAS (ISO/IEC 14496-3 section 1.7), flagged.

A frame holds 1024 samples for each of its blocks, at the core's rate: with spectral band replication a decoder puts out
twice as many at twice the rate, which plays as long.
"""

import re
from collections import Counter

from typing_extensions import override

from policies.audio.aac import RATES, SAMPLES
from policies.audio.frames import NS_PER_SECOND, FrameWalker
from policies.audio.walker import Chunk

_ADTS_BYTES = 7
_HEADER = re.compile(rb"\xff[\xf0\xf1\xf8\xf9]([\x00-\x33\x40-\x73\x80-\xb3\xc0-\xf3])")
"""The third byte says the rate."""
_FEW_HIDDEN, _HIDDEN_EVERY = 4, 1 << 12
"""Headers that belong to no frame: five times what chance makes, with room."""
_MOST_MONO_BYTES = 777
"""Of a frame: 6144 bits a channel (ISO/IEC 14496-3 section 4.5.3.1), and a header. More than two take less."""
_LOAS_SYNC = 0x2B7
_LEAST_MUX_BYTES = 4
_SLOWEST_LATM = 8_000
"""For a LATM stream whose configuration is not read."""


class AdtsWalker(FrameWalker):
    """Counts the blocks of ADTS frames.

    A frame's length is a claim: decoders stop where its sound ends, and play on with what else is in it. So headers
    inside frames count, where they are more than chance makes, and so do frames longer than one can be.
    """

    __slots__ = ("_tail", "_third_bytes")

    _PATTERN = re.compile(rb"\xff[\xf0\xf1\xf8\xf9]")
    _HEADER_BYTES = _ADTS_BYTES
    _CHANCE_EVERY = 1 << 16

    def __init__(self, *, is_linked: bool = True) -> None:
        super().__init__(is_linked=is_linked)
        self._third_bytes: Counter[bytes] = Counter()  # of every header, wherever it stands
        self._tail = b""

    @property
    def codec(self) -> str:
        """Of every frame."""
        return "aac"

    @property
    def ns(self) -> int:
        """See :class:`FrameWalker`."""
        ns = super().ns
        found = sum((kind.linked + kind.sought) * ((key & 3) + 1) for key, kind in self._kinds.items())
        if not ns:
            return 0
        if self._third_bytes.total() - found > _FEW_HIDDEN + self.passed // _HIDDEN_EVERY:
            return max(ns, sum(count * _ns_of(third[0]) for third, count in self._third_bytes.items()))
        needed = (self.passed - self.strange) // (_MOST_MONO_BYTES * (1 if self.channels == 1 else 2))
        return ns * max(needed, found) // found

    @override
    def feed(self, chunk: Chunk) -> None:
        """See :class:`FrameWalker`."""
        super().feed(chunk)
        seam = self._tail + chunk[:2]
        self._third_bytes.update(_HEADER.findall(seam))
        self._third_bytes.update(_HEADER.findall(chunk))
        self._tail = (self._tail + chunk[-2:])[-2:]

    def _follow(self, data: bytes, at: int, last: int) -> int:
        number = int.from_bytes
        while at <= last:
            header = number(data[at : at + 7], "big")
            length = header >> 13 & 0x1FFF
            rate = header >> 34 & 15
            if header >> 40 & 0xFFF6 != 0xFFF0 or length < _ADTS_BYTES or rate >= len(RATES):
                break
            key = rate << 2 | header & 3
            kind = self._kinds.get(key) or self._kind(key, SAMPLES * ((header & 3) + 1), RATES[rate])
            if self.channels is None:
                self.channels = (header >> 30 & 7) or None
            if self._is_linked:
                kind.linked += 1
                at += length
                continue
            at = self._seek(kind, at, length, data, last)
            if not self._is_linked:
                break
        return at

    def _ns_at(self, data: bytes, at: int) -> int:
        header = int.from_bytes(data[at : at + _ADTS_BYTES], "big")
        rate = header >> 34 & 15
        if header >> 40 & 0xFFF6 != 0xFFF0 or header >> 13 & 0x1FFF < _ADTS_BYTES or rate >= len(RATES):
            return 0
        return SAMPLES * ((header & 3) + 1) * NS_PER_SECOND // RATES[rate]


def _ns_of(third: int) -> int:
    return SAMPLES * NS_PER_SECOND // RATES[third >> 2 & 15]


class LatmWalker(FrameWalker):
    """Counts LOAS frames; the rate is that of the first configuration."""

    __slots__ = ("_kind_known",)

    _PATTERN = re.compile(rb"\x56[\xe0-\xff]")
    _HEADER_BYTES = 3
    _CHANCE_EVERY = 1 << 9

    @property
    def codec(self) -> str:
        """Of every frame."""
        return "aac_latm"

    @property
    def unsure(self) -> bool:
        """A later configuration may say another rate."""
        return True

    def __init__(self, *, is_linked: bool = True) -> None:
        super().__init__(is_linked=is_linked)
        self._kind_known = False

    def _follow(self, data: bytes, at: int, last: int) -> int:
        while at <= last:
            header = int.from_bytes(data[at : at + 3], "big")
            if header >> 13 != _LOAS_SYNC or header & 0x1FFF < _LEAST_MUX_BYTES:
                break
            kind = self._kind(0, SAMPLES, _SLOWEST_LATM)
            if not self._is_linked:
                at = self._seek(kind, at, 3 + (header & 0x1FFF), data, last)
                if not self._is_linked:
                    break
                continue
            if not self._kind_known:
                if len(data) - at < 12:
                    return ~at
                self._kind_known = True
                samples, rate = _latm_frame(data[at + 3 : at + 12])
                kind.ns = samples * NS_PER_SECOND // rate
            kind.linked += 1
            at += 3 + (header & 0x1FFF)
        return at

    def _ns_at(self, data: bytes, at: int) -> int:
        header = int.from_bytes(data[at : at + 3], "big")
        return self._kind(0, SAMPLES, _SLOWEST_LATM).ns if header >> 13 == _LOAS_SYNC else 0


def _latm_frame(mux: bytes) -> tuple[int, int]:
    """Samples and rate by StreamMuxConfig (section 1.7.3): only its first version is read."""
    bits = int.from_bytes(mux, "big")
    width = 8 * len(mux)

    def field(start: int, size: int) -> int:
        return bits >> width - start - size & (1 << size) - 1

    # useSameStreamMux, audioMuxVersion, allStreamsSameTimeFraming; numSubFrames 6, numProgram 4, numLayer 3;
    # then AudioSpecificConfig: object type 5, frequency index 4.
    if field(0, 2) != 0:
        return SAMPLES, _SLOWEST_LATM
    rate = field(21, 4)
    return SAMPLES * (field(3, 6) + 1), RATES[rate] if rate < len(RATES) else _SLOWEST_LATM
