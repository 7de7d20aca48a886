"""Frames of MPEG audio, AAC, AC-3 or DTS in what a WAV calls plain samples: FFmpeg probes it, and plays what it finds.

Bare, or as S/PDIF carries them (IEC 61937): bursts between zeros, each in words of 16 bits whose bytes are exchanged.
"""

import struct
from array import array

from policies.audio.ac3 import Ac3Walker
from policies.audio.adts import AdtsWalker, LatmWalker
from policies.audio.dts import DtsWalker
from policies.audio.frames import FrameWalker
from policies.audio.mpeg import ToldMpegWalker
from policies.audio.walker import Chunk, Patience

_LOOKED_AT_BYTES = 262_144
"""FFmpeg looks at 32 packets of 4096 bytes."""
_MOST_STRANGE_BYTES = _LOOKED_AT_BYTES // 2
"""A walker that has passed more of them without a frame says nothing of the file, however it goes on."""
_AT_ONCE_BYTES = 32_768
_PREAMBLE = b"\x72\xf8\x1f\x4e"
"""The first two words of a burst (IEC 61937-1 section 6.1.4), the lower byte first; its kind and length follow."""
_PREAMBLES_BYTES = 8
_KIND, _IN_BYTES = 31, frozenset({21, 22})
"""Which bits say what a burst holds; of E-AC-3 and MLP its length is in bytes, else in bits (IEC 61937-2)."""
_DTS = frozenset({11, 12, 13})
_LEAST_BYTES_A_MS = 29
"""Of what readers pass over from one burst to the next: four bytes a sample, at 7350 Hz or more."""
_BYTES_EACH = 64
"""Of a burst at least; true ones have 1536."""
_KINDS: tuple[type[FrameWalker], ...] = (ToldMpegWalker, AdtsWalker, LatmWalker, Ac3Walker, DtsWalker)


class _Bursts:
    """Walks the frames that bursts hold, wherever one begins; what is between them plays nothing."""

    __slots__ = ("_doubted_at", "_first_at", "_held", "_is_dts", "_left", "_odd", "_passed", "_patience", "_walkers")

    def __init__(self) -> None:
        self._held = b""
        self._left = 0
        self._odd = b""
        self._passed = 0
        self._is_dts = True
        """Whether all bursts say so."""
        self._first_at: int | None = None
        self._doubted_at: int | None = None
        """Behind a preamble whose words are others than those of the first readers may see other bursts; and so they
        may where too many were read."""
        self._patience = Patience(_BYTES_EACH)
        self._walkers = [kind(is_linked=False) for kind in _KINDS]

    @property
    def ms(self) -> int:
        """Of the kind of frames that plays longest, and of what may be bursts."""
        doubted = 0 if self._doubted_at is None else self._passed - self._doubted_at
        dts = self._walkers[-1]
        walkers = [dts] if self._is_dts and not dts.strange else self._walkers
        return max(walker.ms or 0 for walker in walkers) + doubted // _LEAST_BYTES_A_MS

    def feed(self, samples: bytes) -> None:
        """The next samples."""
        self._passed += len(samples)
        data, self._held = self._held + samples, b""
        at, end = 0, len(data)
        while at < end and self._doubted_at is None:
            if self._left:
                piece = data[at : at + self._left]
                self._left -= len(piece)
                at += len(piece)
                self._take(piece)
                continue
            found = data.find(_PREAMBLE, at)
            at = found if found >= 0 else max(at, end - len(_PREAMBLE) + 1)
            if found < 0 or end - at < _PREAMBLES_BYTES:
                self._held = data[at:]
                return
            kind, length = struct.unpack_from("<HH", data, at + len(_PREAMBLE))
            self._is_dts = self._is_dts and kind & _KIND in _DTS
            self._left = length if kind & _KIND in _IN_BYTES else length + 15 >> 4 << 1
            at += _PREAMBLES_BYTES
            self._odd = b""
            position = self._passed - end + at
            self._first_at = position if self._first_at is None else self._first_at
            if self._patience.is_lost(position) or (position - self._first_at) & 1:
                self._doubted_at = position

    def _take(self, piece: bytes) -> None:
        piece = self._odd + piece
        whole = len(piece) & ~1
        self._odd = piece[whole:]
        words = array("H", piece[:whole])
        words.byteswap()
        for walker in self._walkers:
            walker.feed(words.tobytes())


class Disguise:
    """Looks at the first samples, and goes on where half of them are frames."""

    __slots__ = ("_bursts", "_left", "_seen", "_tail", "_walkers")

    def __init__(self) -> None:
        self._left = _LOOKED_AT_BYTES
        self._seen = 0
        self._tail = b""
        self._bursts: _Bursts | None = None  # once a preamble has been seen
        self._walkers = [kind(is_linked=False) for kind in _KINDS]

    @property
    def ms(self) -> int | None:
        """Of the frames found; None where there are none."""
        found = [walker.ms or 0 for walker in self._walkers if walker.strange * 2 <= self._seen]
        return max([*found, self._bursts.ms if self._bursts else 0]) or None

    @property
    def is_none(self) -> bool:
        """Whether there are certainly none."""
        return not (self._left or self._walkers or self._bursts)

    def feed(self, chunk: Chunk) -> None:
        """The next samples."""
        view = memoryview(chunk)
        while view and not self.is_none:
            step = min(self._left, _AT_ONCE_BYTES) or len(view)
            self._look_at(view[:step])
            view = view[step:]

    def _look_at(self, samples: memoryview) -> None:
        self._seen += len(samples)
        for walker in self._walkers:
            walker.feed(samples)
        self._feed_bursts(bytes(samples))
        if self._left:
            self._left -= len(samples)
            self._walkers = [one for one in self._walkers if one.strange <= _MOST_STRANGE_BYTES]
            if not self._left:
                self._walkers = [one for one in self._walkers if one.ms and one.strange * 2 <= self._seen]

    def feed_behind(self, chunk: Chunk) -> None:
        """The next bytes of the file that are no samples: readers of bursts read on behind the samples' end."""
        self._feed_bursts(bytes(chunk))

    def _feed_bursts(self, samples: bytes) -> None:
        if self._bursts:
            self._bursts.feed(samples)
        elif self._left:
            samples = self._tail + samples
            if _PREAMBLE in samples:
                self._bursts = _Bursts()
                self._bursts.feed(samples)
            self._tail = samples[-len(_PREAMBLE) + 1 :]
