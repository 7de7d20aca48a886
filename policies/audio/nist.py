"""NIST SPHERE, as collections of speech have it: a header of lines, and then samples.

All behind the header counts, at the slowest that any of its lines says. Shortened samples are weighed.
"""

from policies.audio.plain import frames_of
from policies.audio.walker import Chunk
from policies.audio.wav_formats import Layout

_MOST_HEAD_BYTES = 16_384
_USUAL_BYTES = 1024
_SIZE_AT, _SIZE_BYTES = 8, 8
_END = b"end_head"
_CODECS = {b"": "pcm_s{}", b"pcm": "pcm_s{}", b"alaw": "pcm_alaw", b"ulaw": "pcm_mulaw", b"mu-law": "pcm_mulaw"}


class NistWalker:
    """Counts bytes behind the header; keeps that."""

    __slots__ = ("_held", "_layout", "_size", "passed")

    strange = 0
    unsure = False
    claimed_ms = None

    def __init__(self) -> None:
        self.passed = 0
        self._held: bytes | None = b""
        """The header, until it is whole."""
        self._size = 0
        self._layout: Layout | None = None

    @property
    def codec(self) -> str:
        """FFmpeg's name; empty until known."""
        return self._layout.codec if self._layout else ""

    @property
    def channels(self) -> int | None:
        """As the header says."""
        return self._layout.channels if self._layout else None

    @property
    def ms(self) -> int | None:
        """Of the bytes behind the header; None for one that says too little."""
        return self._layout.ms(max(self.passed - self._size, 0)) if self._layout else None

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the file, from its magic on."""
        self.passed += len(chunk)
        if self._held is not None:
            self._held += chunk[: _MOST_HEAD_BYTES - len(self._held)]
            end = self._held.find(_END)
            if end >= 0:
                self._read(self._held[:end])
            if end >= 0 or len(self._held) == _MOST_HEAD_BYTES:
                self._held = None

    def _read(self, head: bytes) -> None:
        """FFmpeg's samples begin where the header says that it ends, other readers' at the usual place."""
        size = head[_SIZE_AT : _SIZE_AT + _SIZE_BYTES].strip()
        self._size = min(int(size) if size.isdigit() else 0, _USUAL_BYTES)
        said: dict[bytes, list[bytes]] = {}
        for line in head.splitlines():
            words = line.split(maxsplit=3)
            if len(words) > 2:
                said.setdefault(words[0], []).append(words[2].lower())
        rate, channels = _least(said, b"sample_rate"), _least(said, b"channel_count")
        width = min(
            filter(None, (_least(said, b"sample_n_bytes"), (_least(said, b"sample_sig_bits") + 7) // 8)), default=2
        )
        coding = said.get(b"sample_coding", [b""])[0]
        codec = _CODECS.get(coding)
        if codec:
            is_plain = "{}" in codec
            order = "be" if b"10" in said.get(b"sample_byte_format", []) else "le"
            name = codec.format(f"{8 * width}{order}") if is_plain and width > 1 else "pcm_u8" if is_plain else codec
            self._layout = frames_of(name, channels or 1, rate, 8 * width if is_plain else 8)


def _least(said: dict[bytes, list[bytes]], name: bytes) -> int:
    """Of the numbers that the lines of this name say; 0 where there is none."""
    return min((int(word) for word in said.get(name, []) if word.isdigit() and len(word) < 10), default=0)
