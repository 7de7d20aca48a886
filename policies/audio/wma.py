"""Windows Media Audio but Lossless: how many frames each block holds, as its first bits say.

A block is as long as the format says. Of versions 1 and 2 it holds one frame, or a number of them where it takes bits
from the block in front. Of Voice it says how many superframes of 60 ms begin in it. Of Professional the frame that the
block in front began, and then one behind the other, each of which says how many bits it has.

No specification is published: this is what FFmpeg reads (libavcodec's wmadec.c, wmavoice.c and wmaprodec.c).
"""

import struct
from collections.abc import Callable
from typing import NamedTuple

from policies.audio.walker import Chunk

_FORMAT = struct.Struct("<HHIIHHH")
_ONE, _TWO, _PRO, _VOICE = 0x0160, 0x0161, 0x0162, 0x000A
_NAMES = {_ONE: "wmav1", _TWO: "wmav2", 0x0141: "wmav2", _PRO: "wmapro", _VOICE: "wmavoice"}
TAGS = frozenset(_NAMES)
_FLAGS_AT = {_ONE: 2, _PRO: 14}
"""Within what stands behind WAVEFORMATEX."""
_TAKES_BITS, _SAYS_SIZE, _LENGTH = 0x02, 0x40, 0x06
_VOICE_SAMPLES, _VOICE_HEAD_BYTES, _ALL_ONES = 480, 16, 0x3F
_LONGER = {0x02: 1, 0x04: -1, 0x06: -2}
"""Frames of version 3 may be twice as long, half, or a quarter."""
_MOST_FRAMES = 15
_LEAST_KBITS, _LEAST_RATE = 4, 8_000
"""Of any of them, at that rate."""


class _Kind(NamedTuple):
    """How long a frame is, how many a block holds, and how many of its first bytes tell that."""

    samples: int
    frames: Callable[[bytes], int]
    head: int
    lost: int = 0
    """Of the first frames, how many no decoder plays."""
    most: int = 0
    """Frames to a block; 0 where they may be any."""


class Wma:
    """One stream: counts blocks, of which a chunk or a packet holds some, from its begin on."""

    __slots__ = ("_block", "_frames", "_held", "_is_told", "_kind", "_passed", "_rate", "_size", "channels", "codec")

    def __init__(self, form: bytes, step: int = 0) -> None:
        """``form`` is WAVEFORMATEX with what stands behind it; ``step`` is where readers cut chunks, if they do."""
        tag: int
        rate: int
        size: int
        self.channels: int
        self._block: int
        tag, self.channels, rate, _, self._block, _, size = _FORMAT.unpack_from(form)
        self.codec = _NAMES[tag]
        self._rate = max(rate, 1)
        self._kind = _kind(tag, self._rate, self._block, form[_FORMAT.size :][:size]) if self._block else None
        self._is_told = self._kind is not None and not step % self._block
        self._frames = self._size = self._passed = 0
        self._held = b""

    @property
    def unsure(self) -> bool:
        """Whether nobody knows what its blocks hold: it weighs."""
        return not self._is_told

    @property
    def ms(self) -> int:
        """Of the blocks that are whole."""
        if self._kind is None or not self._is_told:
            return self.most_ms(self._passed)
        return max(self._frames - self._kind.lost, 0) * self._kind.samples * 1000 // self._rate

    def feed(self, chunk: Chunk, *, is_end: bool = False) -> None:
        """More of a chunk. What is no whole block at its end plays nothing."""
        piece = bytes(chunk)
        self._passed += len(piece)
        if self._kind is None or not self._is_told:
            return
        at = self._end_block(piece, self._kind) if self._size else 0
        block, head, frames = self._block, self._kind.head, self._kind.frames
        while at + block <= len(piece):
            self._frames += frames(piece[at : at + head])
            at += block
        if at < len(piece):
            self._size, self._held = len(piece) - at, piece[at : at + head]
        if is_end:
            self._size, self._held = 0, b""

    def _end_block(self, piece: bytes, kind: _Kind) -> int:
        """More of a block that has begun; where it ends."""
        self._held += piece[: max(kind.head - len(self._held), 0)]
        end = self._block - self._size
        if end > len(piece):
            self._size += len(piece)
            return len(piece)
        self._frames += kind.frames(self._held)
        self._size, self._held = 0, b""
        return end

    def flush(self) -> None:
        """Nothing waits."""

    def most_ms(self, size: int) -> int:
        """What so many bytes may play."""
        samples = size * 8 * _LEAST_RATE // (_LEAST_KBITS * 1000)
        if self._rate > _LEAST_RATE:
            samples = samples * self._rate // _LEAST_RATE
        if self._kind:
            samples = max(samples, size // self._block * self._kind.most * self._kind.samples)
        return samples * 1000 // self._rate


def _kind(tag: int, rate: int, block: int, extra: bytes) -> _Kind | None:
    """None where blocks do not tell."""
    if tag == _VOICE:
        return _Kind(_VOICE_SAMPLES, _superframes, min(block, _VOICE_HEAD_BYTES))
    at = _FLAGS_AT.get(tag, 4)
    flags = int.from_bytes(extra[at : at + 2], "little")
    if tag != _PRO:
        bits = 9 if rate <= 16_000 else 10 if rate <= (32_000 if tag == _ONE else 22_050) else 11
        if flags & _TAKES_BITS:
            return _Kind(1 << bits, _told, 1, 1, _MOST_FRAMES)
        return _Kind(1 << bits, _one, 1, most=1)
    bits = 9 if rate <= 16_000 else 10 if rate <= 22_050 else 11 if rate <= 48_000 else 12 if rate <= 96_000 else 13
    width = block.bit_length() + 3
    if not flags & _SAYS_SIZE:
        return None
    return _Kind(1 << bits + _LONGER.get(flags & _LENGTH, 0), lambda data: _chained(data, width), block, 1)


def _one(_: bytes) -> int:
    return 1


def _told(block: bytes) -> int:
    return block[0] & _MOST_FRAMES


def _superframes(block: bytes) -> int:
    """Four bits of a number, one of a kind, and six of how many, again where they are all ones."""
    bits, left = int.from_bytes(block, "big"), len(block) * 8 - 11
    count = 0
    while left >= 0:
        some = bits >> left & _ALL_ONES
        count += some
        if some != _ALL_ONES:
            return count
        left -= 6
    return count


def _chained(block: bytes, width: int) -> int:
    """Six bits of a number and flags; how many bits end the frame that the block in front began; and then frames."""
    at, end, count = 6, len(block) * 8, 0
    size = _bits(block, at, width)
    at += width
    if size:
        count, at = 1, at + size
    while end - at > width:
        size = _bits(block, at, width)
        if not size or size > end - at:
            break
        count, at = count + 1, at + size
    return count


def _bits(data: bytes, at: int, width: int) -> int:
    last = at + width
    return int.from_bytes(data[at >> 3 : (last + 7) >> 3], "big") >> (-last & 7) & (1 << width) - 1
