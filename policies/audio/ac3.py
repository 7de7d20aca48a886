"""AC-3 and E-AC-3 as a bare stream (ATSC A/52 sections 5.4.1 and E.1.3.1)."""

import re

from policies.audio.frames import NS_PER_SECOND, FrameWalker

_SYNC = b"\x0b\x77"
_HEADER_BYTES = 6
_RATES = (48_000, 44_100, 32_000)
_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
ENDLESS = 1 << 30
_DEPENDENT = 1
"""A stream of more channels for the frame in front of it: both play at once (section E.1.3.1.1)."""
LAST_AC3, _LAST_EAC3 = 10, 16
"""Of the bit stream's identification."""


class Ac3Walker(FrameWalker):
    """Counts sync frames."""

    __slots__ = ()

    _PATTERN = re.compile(_SYNC)
    _HEADER_BYTES = _HEADER_BYTES
    _CHANCE_EVERY = 1 << 12

    @property
    def codec(self) -> str:
        """Of every frame."""
        return "ac3"

    def _follow(self, data: bytes, at: int, last: int) -> int:
        while at <= last:
            frame = frame_of(data[at : at + _HEADER_BYTES])
            if frame is None:
                break
            length, samples, rate = frame
            kind = self._kind(samples << 20 | rate, samples, rate)
            if self._is_linked:
                kind.linked += 1
                at += length
                continue
            at = self._seek(kind, at, length, data, last)
            if not self._is_linked:
                break
        return at

    def _ns_at(self, data: bytes, at: int) -> int:
        frame = frame_of(data[at : at + _HEADER_BYTES])
        return frame[1] * NS_PER_SECOND // frame[2] or 1 if frame else 0


def frame_bytes(head: bytes) -> int:
    """Of the frame that begins so; without an end where none does."""
    frame = frame_of(head)
    return frame[0] if frame else ENDLESS


def frame_of(head: bytes) -> tuple[int, int, int] | None:
    """Bytes, samples and rate of the frame that begins so."""
    if len(head) < _HEADER_BYTES or not head.startswith(_SYNC):
        return None
    code, size, version = head[4] >> 6, head[4] & 63, head[5] >> 3
    if version <= LAST_AC3:
        if code == 3 or size >> 1 >= len(_KBITS):
            return None
        kbits = _KBITS[size >> 1]
        length = (4 * kbits, 2 * (320 * kbits // 147 + (size & 1)), 6 * kbits)[code]
        return length, 1536, _RATES[code] >> max(version - 8, 0)
    if version > _LAST_EAC3 or size >> 4 == 3 == code:
        return None
    length = max(2 * (((head[2] & 7) << 8 | head[3]) + 1), _HEADER_BYTES)
    samples, rate = (1536, _RATES[size >> 4] // 2) if code == 3 else (256 * (1, 2, 3, 6)[size >> 4], _RATES[code])
    return length, 0 if head[2] >> 6 == _DEPENDENT else samples, rate
