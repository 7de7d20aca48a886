"""Opus as transport streams carry it: each packet behind a header that says its size."""

import re

from policies.audio import opus
from policies.audio.frames import NS_PER_SECOND, FrameWalker

_HEADER_BYTES, _SIZE_AT = 5, 2
"""Of the usual header of a small packet, with that one's first two bytes."""
_MOST_HEADER_BYTES = 280
_CUT = -1
"""The length of a packet whose header has not come whole."""
_START_TRIM, _END_TRIM, _EXTENSION = 0x10, 0x08, 0x04
_TRIM_BYTES = 2


class OpusWalker(FrameWalker):
    """Counts packets."""

    __slots__ = ()

    _PATTERN = re.compile(rb"\x7f[\xe0-\xff]")
    _HEADER_BYTES = _HEADER_BYTES
    _CHANCE_EVERY = 1 << 9

    @property
    def codec(self) -> str:
        """Of every packet."""
        return "opus"

    def align(self) -> None:
        """An element begins, and with it a packet, whatever the one before has said of its size."""
        packet = _packet_at(self._held, 0) if len(self._held) > _SIZE_AT else None
        if packet and packet[0] == len(self._held):
            self._kind(packet[1], packet[1], opus.RATE).linked += 1
        else:
            self.strange += len(self._held)
        self.strange += self._skip
        self._skip, self._held, self._pending, self._is_linked = 0, b"", None, True

    def _follow(self, data: bytes, at: int, last: int) -> int:
        while at <= last:
            packet = _packet_at(data, at)
            if packet is None:
                break
            length, samples = packet
            if length == _CUT:
                return ~at
            kind = self._kind(samples, samples, opus.RATE)
            if self._is_linked:
                kind.linked += 1
                at += length
                continue
            at = self._seek(kind, at, length, data, last)
            if not self._is_linked:
                break
        return at

    def _ns_at(self, data: bytes, at: int) -> int:
        packet = _packet_at(data, at) if at + _SIZE_AT <= len(data) else None
        return packet[1] * NS_PER_SECOND // opus.RATE or 1 if packet else 0


def _packet_at(data: bytes, at: int) -> tuple[int, int] | None:
    """Bytes with the header, and samples, of the packet that begins there."""
    if data[at] != 0x7F or data[at + 1] < 0xE0:
        return None
    flags, begin, size, end = data[at + 1], at + _SIZE_AT, 0, len(data)
    while begin < end and data[begin] == 0xFF and begin - at < _MOST_HEADER_BYTES:
        size += 0xFF
        begin += 1
    if begin < end:
        size += data[begin]
    begin += 1 + (_TRIM_BYTES if flags & _START_TRIM else 0) + (_TRIM_BYTES if flags & _END_TRIM else 0)
    if flags & _EXTENSION:
        begin += 1 + (data[begin] if begin < end else 0)
    if begin + min(size, 2) > end:
        return _CUT, 0
    return begin + size - at, opus.packet_samples(data, begin, min(begin + size, begin + 2))
