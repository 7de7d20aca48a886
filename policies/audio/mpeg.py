"""MPEG audio (ISO/IEC 11172-3 and 13818-3, with the common "2.5"): layers I, II and III, alone or inside WAV.

Every frame counts, whatever a Xing or VBRI header says of their number: that is a claim. The header's own frame is
silent and does not count; the encoder's delay and padding, which LAME notes in it, are passed over as FFmpeg does. A
frame of the free format does not tell its length: those are found one by one, and the figure is flagged.
"""

import re
from functools import cache
from typing import NamedTuple

from policies.audio.frames import NS_PER_SECOND, FrameWalker

_RATES = (44_100, 48_000, 32_000)
_BITRATES = {  # kbit/s by (is MPEG-1, layer): ISO/IEC 11172-3 section 2.4.2.3, 13818-3 section 2.4.2.3
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SHORTEST_BYTES = 24
"""A frame of layer III at 8 kbit/s and 24 kHz: no free one is looked for below."""

_MONO = 3
_FIRST_BYTES = 4 + 32 + 4 + 116 + 24
"""Of the first frame: its header, side information, and all of a Xing header with LAME's extension."""
_WITH_GAPS = (b"LAME", b"Lavf", b"Lavc")
"""Encoders whose note of delay and padding FFmpeg obeys."""
_DECODER_DELAY = 529
"""Samples: what a decoder of layer III lags behind, and LAME does not count."""


class Shape(NamedTuple):
    """What the header of one frame says."""

    length: int
    """Bytes of the frame with its header."""
    key: int
    """Version, layer, rate, and whether the format is free."""
    samples: int
    rate: int

    @property
    def is_free(self) -> bool:
        """Whether its length is not told."""
        return self.key & _FREE > 0


_FREE = 1 << 16


@cache
def shapes() -> dict[bytes, Shape]:
    """Every possible beginning of a frame: its first three bytes."""
    shapes = {}
    for second in range(0xE0, 0x100):
        version, layer = second >> 3 & 3, 4 - (second >> 1 & 3)
        if version == 1 or layer == 4:
            continue
        is_one = version == 3
        samples = 384 if layer == 1 else 576 if layer == 3 and not is_one else 1152
        for third in range(0xF0):
            if third >> 2 & 3 == 3:
                continue
            rate = _RATES[third >> 2 & 3] >> (0 if is_one else 1 if version == 2 else 2)
            bitrate, padding = _BITRATES[is_one, layer][third >> 4] * 1000, third >> 1 & 1
            length = (12 * bitrate // rate + padding) * 4 if layer == 1 else samples // 8 * bitrate // rate + padding
            key = version << 8 | layer << 4 | third >> 2 & 3 | (0 if bitrate else _FREE)
            shapes[bytes((0xFF, second, third))] = Shape(length or _SHORTEST_BYTES, key, samples, rate)
    return shapes


@cache
def told_shapes() -> dict[bytes, Shape]:
    """The same without those of the free format."""
    return {begins: shape for begins, shape in shapes().items() if not shape.is_free}


class MpegWalker(FrameWalker):
    """Counts the frames of an MPEG audio stream."""

    __slots__ = ("_claimed", "_delay", "_is_begun", "_key", "_layer", "_padding", "_rate", "_samples", "_shapes")

    _PATTERN = re.compile(rb"\xff[\xe2-\xe7\xf2-\xff][\x00-\xef]", re.DOTALL)
    _HEADER_BYTES = 4
    _CHANCE_EVERY = 1 << 16

    def __init__(self, *, is_linked: bool = True) -> None:
        super().__init__(is_linked=is_linked)
        self._shapes = shapes()
        self._is_begun = False
        self._key = 0
        self._layer = 3
        self._rate = 1
        self._samples = 0
        self._claimed = 0
        self._delay = 0
        self._padding = 0

    @property
    def codec(self) -> str:
        """``mp1``, ``mp2`` or ``mp3``; empty until known."""
        return f"mp{self._layer}" if self._is_begun else ""

    @property
    def unsure(self) -> bool:
        """Whether frames of the free format are among them, or not all were looked at."""
        return self._patience.lost_at > 0 or any(key & _FREE for key in self._kinds)

    @property
    def claimed_ms(self) -> int | None:
        """By the number of frames that a Xing or VBRI header states, without what it says is silent."""
        samples = self._claimed * self._samples - self._delay - self._padding
        return max(samples * 1000 // self._rate, 0) or None

    @property
    def ns(self) -> int:
        """Without the silent samples that the encoder noted: at most 8190 of them."""
        kinds = self._kinds
        silent = self._delay
        if silent and kinds and max(kinds, key=lambda key: kinds[key].linked) != self._key:
            silent = 0  # the first frame is not like the others: FFmpeg does not obey it
        elif self._padding and sum(kind.linked + kind.sought for kind in self._kinds.values()) == self._claimed:
            silent += self._padding
        return max(super().ns - silent * NS_PER_SECOND // self._rate, 0)

    def _follow(self, data: bytes, at: int, last: int) -> int:
        shape_of = self._shapes.get
        if not self._is_begun:
            at = self._begin(data, at)
        while 0 <= at <= last:
            shape = shape_of(data[at : at + 3])
            if shape is None:
                return at
            kind = self._kinds.get(shape.key) or self._kind(shape.key, shape.samples, shape.rate)
            if shape.key & _FREE:
                kind.sought += 1
                self._is_linked = False
                at += shape.length
                continue
            if not self._is_linked:
                at = self._seek(kind, at, shape.length, data, last)
                if not self._is_linked:
                    return at
                continue
            # The fast way: as long as frames of this kind follow each other.
            key, count = shape.key, 0
            while shape is not None and shape[1] == key:
                count += 1
                at += shape[0]
                if at > last:
                    break
                shape = shape_of(data[at : at + 3])
            kind.linked += count
        return at

    def _ns_at(self, data: bytes, at: int) -> int:
        shape = self._shapes.get(data[at : at + 3])
        return shape.samples * NS_PER_SECOND // shape.rate if shape else 0

    def _begin(self, data: bytes, at: int) -> int:
        """Read what the first frame says of the stream; where its frames begin, or ``~at`` while too little is here."""
        shape = self._shapes.get(data[at : at + 3])
        if shape is None:
            return at
        whole = min(max(shape.length, _SHORTEST_BYTES), _FIRST_BYTES)
        if len(data) - at < whole:
            return ~at
        self._is_begun = True
        self._key = shape.key
        self._layer, self._rate, self._samples = shape.key >> 4 & 15, shape.rate, shape.samples
        is_mono = data[at + 3] >> 6 == _MONO
        self.channels = 1 if is_mono else 2
        if self._layer != 3 or shape.key & _FREE:
            return at
        is_one = shape.samples == 1152
        side = (17 if is_mono else 32) if is_one else (9 if is_mono else 17)
        frame = data[at : at + whole]
        return at + shape.length if self._read_xing(frame, 4 + side) or self._read_vbri(frame) else at

    def _read_xing(self, frame: bytes, at: int) -> bool:
        if frame[at : at + 4] not in {b"Xing", b"Info"}:
            return False
        flags = int.from_bytes(frame[at + 4 : at + 8], "big")
        at += 8
        if flags & 1:
            self._claimed = int.from_bytes(frame[at : at + 4], "big")
        at += 4 * (flags & 1) + 4 * (flags >> 1 & 1) + 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1)
        if frame[at : at + 4] in _WITH_GAPS and len(frame) >= at + 24 and not self.strange:
            gaps = int.from_bytes(frame[at + 21 : at + 24], "big")
            self._delay = (gaps >> 12) + _DECODER_DELAY
            self._padding = max((gaps & 0xFFF) - _DECODER_DELAY, 0) if self._claimed else 0
        return True

    def _read_vbri(self, frame: bytes) -> bool:
        if frame[36:40] != b"VBRI":
            return False
        self._claimed = int.from_bytes(frame[50:54], "big")
        return True


class ToldMpegWalker(MpegWalker):
    """Without frames of the free format: FFmpeg plays none, and the quietest samples look like nothing else."""

    __slots__ = ()

    def __init__(self, *, is_linked: bool = True) -> None:
        super().__init__(is_linked=is_linked)
        self._shapes = told_shapes()
