"""What an MP4's edit list, or a tag of iTunes, leaves out of a track, as far as that is believed: an encoder's delay.

Decoders play the end to the end. An edit that leaves out more is no delay, and players that know no edits play it all.
"""

import re
import struct
from collections.abc import Iterator

from policies.audio.opus import RATE as OPUS_RATE

_NS_PER_SECOND = 1_000_000_000
_MOST_EDITS = 64
_MOST_LEFT_OUT = 4
"""Frames."""
_NUMBERS = re.compile(rb"\s*[\dA-F]+\s+([\dA-F]{1,8})\s+[\dA-F]+\s+[\dA-F]", re.IGNORECASE)
_HEADED_BYTES, _VALUE_AT = 4, 8
"""In front of what some boxes hold, and of a tag's value."""
_TOO_MANY = 16_384
"""Samples: so many are no delay for FFmpeg."""


class Edits:
    """Those of one track."""

    __slots__ = ("_gap", "_start", "pre_skip")

    def __init__(self) -> None:
        self._start: int | None = None  # where the first edit begins, if there is a list of them
        self._gap = 0
        """Samples by iTunes' tag behind the track."""
        self.pre_skip = 0
        """Of Opus, by its description: what decoders leave out where no edits are listed."""

    def read(self, body: bytes) -> None:
        """``elst`` (ISO/IEC 14496-12 section 8.6.6): where its first true edit begins; an empty one starts at -1."""
        pattern = ">Qq4x" if body[0] else ">Ii4x"
        width = struct.calcsize(pattern)
        count = min(int.from_bytes(body[4:8], "big"), _MOST_EDITS, (len(body) - 8) // width)
        edits = [struct.unpack_from(pattern, body, 8 + width * index) for index in range(count)]
        self._start = next((start for _, start in edits if start >= 0), 0)

    def read_tags(self, body: bytes) -> None:
        """``meta``: what iTunes and others call iTunSMPB has the delay for its second number, in hexadecimal digits."""
        for name, tags in _boxes(body[_HEADED_BYTES:]):
            for kind, tag in _boxes(tags) if name == b"ilst" else ():
                said = dict(_boxes(tag)) if kind == b"----" else {}
                if said.get(b"name", b"")[_HEADED_BYTES:] == b"iTunSMPB":
                    found = _NUMBERS.match(said.get(b"data", b""), _VALUE_AT)
                    gap = int(found[1], 16) if found else 0
                    self._gap = gap if 0 < gap < _TOO_MANY else self._gap

    def left_out_ns(self, gross: int, one: int, scale: int, *, is_aac: bool) -> int:
        """Of so many nanoseconds in frames of ``one`` each; ``scale`` is the track's ticks to the second.

        Of other codecs FFmpeg plays what the tag calls delay.
        """
        if self._start is None:
            start = self.pre_skip * _NS_PER_SECOND // OPUS_RATE
        else:
            start = self._start * _NS_PER_SECOND // scale
        start = max(start, self._gap * _NS_PER_SECOND // scale if is_aac else 0)
        return start if start <= min(_MOST_LEFT_OUT * one, gross) else 0


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and bodies."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at + 8 : at + size]
        at += max(size, 8)
