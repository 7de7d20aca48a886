"""WavPack: the blocks that begin a packet, by the samples that they say; a decoder plays no more and no fewer.

A rate that is not in its table stands deep in a block, and is taken for the slowest one, flagged. DSD is weighed.
"""

from policies.audio.walker import Chunk, Patience, milliseconds

_HEAD_BYTES = 32
_MAGIC = b"wvpk"
RATES = (6_000, 8_000, 9_600, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000,
         192_000)  # fmt: skip
"""By what a block's flags say."""
MOST_SAMPLES = 150_000
"""In a block, for FFmpeg."""
_MONO, _LAST, _DSD = 1 << 2, 1 << 12, 1 << 31
_UNKNOWN = 0xFFFF_FFFF
_UNCOUNTED_BYTES = 8
"""At the beginning of a block: its size is that of the rest."""
_LEAST_BYTES = _HEAD_BYTES - _UNCOUNTED_BYTES


class WavPackWalker:
    """Walks blocks in any cuts; keeps the header of one."""

    __slots__ = (
        "_ends", "_held", "_is_first", "_left", "_packets", "_patience", "_pending", "_rate", "_samples", "channels",
        "claimed_ms", "passed", "strange", "unsure",
    )  # fmt: skip

    codec = "wavpack"

    def __init__(self) -> None:
        self.channels: int | None = None
        self.claimed_ms: int | None = None
        self.passed = self.strange = 0
        self._held = b""
        self._left = 0
        self._is_first = True
        """Whether the next block begins a packet: those that follow it play beside it, on other channels."""
        self._rate = self._samples = self._packets = 0
        self._pending = self._ends = 0
        """Samples of the block that passes, and where it ends: of half a block nothing is played."""
        self.unsure = False
        """Whether a rate had to be guessed."""
        self._patience = Patience(_HEAD_BYTES)

    @property
    def ms(self) -> int | None:
        """Of all packets, at the slowest rate that any says."""
        whole = self._samples + (self._pending if self.passed >= self._ends else 0)
        return milliseconds(whole, self._rate) or None if self._rate else None

    def feed(self, chunk: Chunk) -> None:
        """The next bytes."""
        self.passed += len(chunk)
        if self._patience.lost_at:
            self.strange += len(chunk)
            return
        if self._left >= len(chunk):
            self._left -= len(chunk)
            return
        data = self._held + chunk if self._held else bytes(chunk)
        at, self._left, self._held = self._left, 0, b""
        last = len(data) - _HEAD_BYTES
        while at <= last:
            size = self._block(data, at)
            if not size:
                found = data.find(_MAGIC, at + 1, last + len(_MAGIC))
                size = (found if found >= 0 else last + 1) - at
                self.strange += size
                if self._patience.is_lost(self.passed - len(data) + at):
                    self.strange += len(data) - at - size
                    return
            at += size
        self._left = max(at - len(data), 0)
        self._held = data[at:]

    def _block(self, data: bytes, at: int) -> int:
        """Count the block that begins there; its bytes, or 0 where none does."""
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        samples, flags = (int.from_bytes(data[at + n : at + n + 4], "little") for n in (20, 24))
        if not data.startswith(_MAGIC, at) or size < _LEAST_BYTES or samples > MOST_SAMPLES or flags & _DSD:
            return 0
        self._samples, self._pending = self._samples + self._pending, 0
        self._ends = self.passed - len(data) + at + size + _UNCOUNTED_BYTES
        if samples:  # else it holds a description alone
            self._count(samples, flags, int.from_bytes(data[at + 12 : at + 16], "little"))
        return size + _UNCOUNTED_BYTES

    def _count(self, samples: int, flags: int, total: int) -> None:
        """A block of sound; ``total`` samples are what it says of the whole file."""
        index = flags >> 23 & 15
        rate = RATES[index] if index < len(RATES) else RATES[0]
        self.unsure = self.unsure or index >= len(RATES)
        if self._is_first:
            self._packets += 1
            self._pending = samples
            self._rate = min(self._rate or rate, rate)
            if self._packets == 1 and total < _UNKNOWN:
                self.claimed_ms = milliseconds(total, rate)
        if self._packets == 1:
            self.channels = (self.channels or 0) + (1 if flags & _MONO else 2)
        self._is_first = bool(flags & _LAST)
