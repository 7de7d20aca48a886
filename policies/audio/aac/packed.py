"""Several blocks of AAC, or frames of FLAC, in what a file calls one sample: a decoder plays them all.

None of them says how long it is. To read every block to its end costs a hundred times what may be spent. So now and
then one sample is read, which its sender cannot foresee, and the most blocks that any such sample had count for every
sample. Whoever packs some of them pays, as one expects it, for all that is played with a single look, and more with
several: the blocks of a sample that chance has chosen are on average no fewer than the file's, and the most of several
such are more.
"""

import hashlib
import secrets

from policies.audio.aac.blocks import Blocks

_SECRET = secrets.token_bytes(16)
"""Of this process. No input and no time: the same bytes are looked at alike, in whatever cuts they come."""
_FIRST_STRETCH, _MOST_STRETCH = 4_096, 262_144
"""Bytes of which one is chosen, and the sample that has it looked at: so large ones are it sooner."""
_MOST_BLOCKS = 16
"""That are read of one sample; of what is behind them is assumed the same."""


class Chance:
    """Numbers that nobody foresees who does not know this process; they depend on what is mixed in."""

    __slots__ = ("_state",)

    def __init__(self) -> None:
        self._state = _SECRET

    def mix(self, data: bytes) -> None:
        """Let these bytes have a say in what comes next."""
        self._state = hashlib.blake2b(data, digest_size=16, key=self._state, salt=_SECRET).digest()

    def below(self, bound: int) -> int:
        """From 0 on."""
        return int.from_bytes(self._state[:8], "big") % bound


class Looks:
    """Which samples of one stream are read, and the most blocks that one of them had."""

    __slots__ = ("_chance", "_rest", "_stretch", "blocks", "left", "looks", "most")

    def __init__(self) -> None:
        self._chance = Chance()
        self._stretch = _FIRST_STRETCH
        self.left = self._chance.below(_FIRST_STRETCH)
        """Bytes up to the next one that is chosen: for who passes samples, and looks when it is below 0."""
        self._rest = _FIRST_STRETCH - self.left
        self.most = 1
        self.blocks = self.looks = 0
        """Of all samples that were read, and how many those are."""

    def note(self, sample: bytes, blocks: int) -> None:
        """One sample that was chosen had so many."""
        self.most = max(self.most, blocks)
        self.blocks += blocks
        self.looks += 1
        while self.left < 0:
            self._chance.mix(sample)
            self._stretch = min(16 * self._stretch, _MOST_STRETCH)
            pick = self._chance.below(self._stretch)
            self.left += self._rest + pick
            self._rest = self._stretch - pick


def blocks_in(sample: bytes, blocks: Blocks) -> int:
    """How many blocks a decoder plays of a sample."""
    at, count, size = 0, 0, len(sample.rstrip(b"\0"))
    while at < size and count < _MOST_BLOCKS:
        after, has_sound = blocks.pass_block(sample, at)
        if after == at:
            break
        at, count = after, count + has_sound
    return count * size // at if count == _MOST_BLOCKS else count
