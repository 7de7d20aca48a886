"""NIST SPHERE, as collections of speech have it: a header of lines, and then samples.

All behind the header counts, at the slowest that any of its lines says. Shortened samples are weighed.
Source: FFmpeg's ``libavformat/nistspheredec.c``.
"""

import re

from policies.audio.plain import LaidOut, frames_of
from policies.audio.walker import Chunk

_MOST_HEAD_BYTES = 16_384
_USUAL_BYTES = 1024
_SIZE_AT, _SIZE_BYTES = 8, 8
_END, _NUMBER = re.compile(rb"[\n\r\0]end_head"), re.compile(rb"\+?0*(\d{1,9})(?!\d)")
"""Of the header, on a line of its own; and as far as a word is one."""
_CODECS = {b"": "pcm_s{}", b"pcm": "pcm_s{}", b"alaw": "pcm_alaw", b"ulaw": "pcm_mulaw", b"mu-law": "pcm_mulaw"}


class NistWalker(LaidOut):
    """Counts bytes behind the header; keeps that."""

    __slots__ = ("_held", "_size", "passed")

    unsure = False

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0
        self._held: bytes | None = b""
        """The header, until it is whole."""
        self._size = 0

    @property
    def ms(self) -> int | None:
        """Of the bytes behind the header; None for one that says too little."""
        return self._layout.ms(max(self.passed - self._size, 0)) if self._layout else None

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the file, from its magic on."""
        self.passed += len(chunk)
        if self._held is not None:
            self._held += chunk[: _MOST_HEAD_BYTES - len(self._held)]
            end = _END.search(self._held)
            if end:
                self._read(self._held[: end.start()])
            if end or len(self._held) == _MOST_HEAD_BYTES:
                self._held = None

    def _read(self, head: bytes) -> None:
        """FFmpeg's samples begin where the header says that it ends, other readers' at the usual place."""
        size = head[_SIZE_AT : _SIZE_AT + _SIZE_BYTES].strip()
        self._size = min(int(size) if size.isdigit() else 0, _USUAL_BYTES)
        # FFmpeg ends a line at a NUL too.
        words = [line.lower().split(maxsplit=3) for line in head.replace(b"\0", b"\n").splitlines()]
        said = [(line[0], line[2]) for line in words if len(line) > 2]
        rate, channels = _least(said, b"sample_rate"), _least(said, b"channel_count")
        widths = (_least(said, b"sample_n_bytes"), (_least(said, b"sample_sig_bits") + 7) // 8)
        codings = _said(said, b"sample_coding") or [b""]
        codecs = sorted({_CODECS[coding] for coding in codings if coding in _CODECS})
        if codecs:
            # Those of one byte to the sample come first, and play longest.
            is_plain = "{}" in codecs[0]
            width = min(filter(None, widths), default=2) if is_plain else 1
            order = "be" if b"10" in _said(said, b"sample_byte_format") else "le"
            name = codecs[0].format(f"{8 * width}{order}") if width > 1 else "pcm_u8" if is_plain else codecs[0]
            self._layout = frames_of(name, channels or 1, rate, 8 * width)


def _said(said: list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """What lines say whose first word begins so, which is all that FFmpeg asks of it."""
    return [word for first, word in said if first.startswith(name)]


def _least(said: list[tuple[bytes, bytes]], name: bytes) -> int:
    """Of the numbers that those begin with; 0 where there is none."""
    numbers = (_NUMBER.match(word) for word in _said(said, name))
    return min((int(number[1]) for number in numbers if number), default=0)
