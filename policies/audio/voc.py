"""VOC (Creative Voice): blocks of samples, each with a format, or going on in the last one's.

Of several formats the slowest counts for all, since readers obey the first or each. What is in blocks of other kinds,
or behind the end, counts as samples where it is more than marks and texts take.
Source: FFmpeg's ``libavformat/vocdec.c`` and ``voc.c``.
"""

from policies.audio.plain import LaidOut, frames_of
from policies.audio.walker import Chunk, Patience

_HEAD_BYTES, _SIZE_AT = 22, 20
_BLOCK_BYTES = 4
_FILE, _END, _SAMPLES, _MORE, _EXTENDED, _NEW = -1, 0, 1, 2, 8, 9
_FORMAT_BYTES = {_SAMPLES: 2, _EXTENDED: 4, _NEW: 12}
_CODECS = {
    0: ("pcm_u8", 8), 1: ("adpcm_sbpro_4", 4), 2: ("adpcm_sbpro_3", 2), 3: ("adpcm_sbpro_2", 2), 4: ("pcm_s16le", 16),
    6: ("pcm_alaw", 8), 7: ("pcm_mulaw", 8), 0x200: ("adpcm_ct", 4),
}  # fmt: skip
"""By their numbers, with the bits of a sample at the least."""
_MOST_OTHER_BYTES = 8192
_TO_THE_END = 1 << 63
_BYTES_EACH = 64


class VocWalker(LaidOut):
    """Walks blocks in any cuts; keeps the header of one."""

    __slots__ = (
        "_behind", "_extended", "_held", "_is_sound", "_kind", "_left", "_other", "_patience", "_played",
        "_wanted", "passed",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.passed = self._played = self._other = self._left = 0
        self._held = b""
        self._wanted = _HEAD_BYTES
        self._kind: int | None = _FILE
        """Of the block whose format is read; None in front of a block."""
        self._behind = 0
        """Bytes of that block behind its format."""
        self._is_sound = False
        self._extended: tuple[int, int] | None = None
        """Rate and channels that were said in a block of their own for the next one."""
        self._patience = Patience(_BYTES_EACH)

    @property
    def unsure(self) -> bool:
        """Whether what is no sound was counted as such."""
        return self._other > _MOST_OTHER_BYTES

    @property
    def ms(self) -> int | None:
        """Of all samples; None without a format that is known."""
        hidden = self._other if self.unsure else 0
        return self._layout.ms(self._played + hidden) or None if self._layout else None

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the file, from its magic on."""
        self.passed += len(chunk)
        at, end = 0, len(chunk)
        while at < end:
            if self._left:
                step = min(self._left, end - at)
                self._left -= step
                if self._is_sound:
                    self._played += step
                else:
                    self._other += step
            else:
                step = min(self._wanted - len(self._held), end - at)
                self._held += chunk[at : at + step]
                if len(self._held) == self._wanted:
                    held, self._held = self._held, b""
                    self._read(held, self.passed - end + at)
            at += step

    def _read(self, held: bytes, position: int) -> None:
        kind, self._wanted, self._kind = self._kind, _BLOCK_BYTES, None
        if kind is None:
            self._open(held, position)
            return
        self._left = self._behind
        if kind == _FILE:
            self._left = max(int.from_bytes(held[_SIZE_AT:], "little") - _HEAD_BYTES, 0)
        elif kind == _EXTENDED:
            channels, speed = held[3] + 1, 65_536 - int.from_bytes(held[:2], "little")
            self._extended = 256_000_000 // (channels * speed), channels
        elif kind == _NEW:
            self._describe(int.from_bytes(held[6:8], "little"), int.from_bytes(held[:4], "little"), held[5])
        else:
            rate, channels = self._extended or (1_000_000 // (256 - held[0]), 1)
            self._describe(held[1], rate, channels)

    def _open(self, head: bytes, position: int) -> None:
        """A block begins."""
        kind, size = head[0], int.from_bytes(head[1:], "little") or _TO_THE_END
        said = _FORMAT_BYTES.get(kind, 0)
        if kind == _END or self._patience.is_lost(position):
            self._is_sound, self._left = kind != _END, _TO_THE_END
        elif 0 < said <= size:
            self._wanted, self._kind, self._behind = said, kind, size - said
            self._is_sound = kind != _EXTENDED
        else:
            self._is_sound, self._left = kind == _MORE, size

    def _describe(self, codec: int, rate: int, channels: int) -> None:
        """What the samples are that follow."""
        name, bits = _CODECS.get(codec, ("", 0))
        layout = frames_of(name, channels, rate, bits) if name else None
        if layout and (self._layout is None or layout.ms(_TO_THE_END) > self._layout.ms(_TO_THE_END)):
            self._layout = layout
