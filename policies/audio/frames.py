"""Streams of bare frames (MPEG audio, ADTS, LOAS, AC-3, DTS): found by their headers, followed by their lengths.

A frame that begins where the last one ended is *linked*; one found by search behind something else is *sought*. FFmpeg
plays both, so a byte of rubbish between every two frames must not make them free. Rubbish imitates a header by chance,
though: frames of a kind that was never linked count only where they are more than chance makes.
"""

import re
from abc import ABC, abstractmethod
from collections import deque
from typing import ClassVar

from policies.audio.walker import Chunk, Patience

NS_PER_SECOND = 1_000_000_000
_NS_PER_MS = 1_000_000

_FEW = 4


class Kind:
    """Frames of one shape: how long each plays, and how many there were."""

    __slots__ = ("linked", "ns", "sought")

    def __init__(self, samples: int, rate: int) -> None:
        self.ns = samples * NS_PER_SECOND // rate
        self.linked = 0
        self.sought = 0


class FrameWalker(ABC):
    """Walks frames in any cuts; keeps no more of the stream than one frame, 19 KiB at most.

    A subclass gives the pattern of a header, its size, how seldom chance makes one of a given kind, and ``_follow``.
    """

    __slots__ = (
        "_held", "_inner", "_inner_ns", "_is_linked", "_kinds", "_looked_at", "_patience", "_pending", "_skip",
        "channels", "passed", "strange",
    )  # fmt: skip

    _PATTERN: ClassVar[re.Pattern[bytes]]
    _HEADER_BYTES: ClassVar[int]
    _CHANCE_EVERY: ClassVar[int]
    """Bytes of rubbish to one imitated header of a kind, with room."""

    def __init__(self, *, is_linked: bool = True) -> None:
        """``is_linked`` says that the stream begins with a frame, as a sniffer saw."""
        self.channels: int | None = None
        self.passed = 0
        self.strange = 0
        """Bytes that belong to no frame."""
        self._pending: Kind | None = None  # a frame that was found, and waits for its end
        self._inner: deque[tuple[int, int]] = deque()  # the headers inside that: where, and how long each plays
        self._inner_ns = self._looked_at = 0
        self._kinds: dict[int, Kind] = {}
        self._is_linked = is_linked
        self._patience = Patience(64)
        self._held = b""
        self._skip = 0

    @property
    @abstractmethod
    def codec(self) -> str:
        """FFmpeg's name; empty until known."""

    @property
    def unsure(self) -> bool:
        """Whether the figure rests on a guess."""
        return self._patience.lost_at > 0

    @property
    def ms(self) -> int | None:
        """Of the frames whose headers have passed; None before the first."""
        ns = self.ns
        return (ns + _NS_PER_MS // 2) // _NS_PER_MS if ns > 0 else None

    @property
    def ns(self) -> int:
        """The same in nanoseconds."""
        chance = _FEW + self.strange // self._CHANCE_EVERY
        found = sum(
            kind.ns * (kind.linked + kind.sought)
            for kind in self._kinds.values()
            if kind.linked or kind.sought > chance
        )
        if self._pending and (found or self._is_linked):
            found += self._inside()
        return self._patience.extended(found, self.passed)

    def _inside(self) -> int:
        """The headers inside the frame that waits: if nothing more comes its length was false, and readers find those.

        Each byte is looked at once, though they may come in thousands of pieces, and the figure be asked for after
        each.
        """
        held, inner, search = self._held, self._inner, self._PATTERN.search
        begins, last = self.passed - len(held), len(held) - self._HEADER_BYTES
        while inner and inner[0][0] < begins:
            self._inner_ns -= inner.popleft()[1]
        at = max(self._looked_at - begins, 0)
        while (frame := search(held, at)) and frame.start() <= last:
            ns, at = self._ns_at(held, frame.start()), frame.end()
            inner.append((begins + frame.start(), ns))
            self._inner_ns += ns
        self._looked_at = begins + max(at, last + 1)
        return self._inner_ns

    @property
    def claimed_ms(self) -> int | None:
        """Bare frames claim nothing."""
        return None

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the stream."""
        size = len(chunk)
        self.passed += size
        if self._patience.lost_at:
            self.strange += size
            return
        if self._skip >= size:
            self._skip -= size
            return
        data = self._held + chunk if self._held else bytes(chunk)
        at, self._skip, self._held = self._skip, 0, b""
        last = len(data) - self._HEADER_BYTES
        while at <= last:
            after = self._follow(data, at, last)
            if after < 0:
                self._held = data[~after:]
                return
            if after > last:
                at = after
                break
            found = self._PATTERN.search(data, after + 1)
            self._is_linked = False
            at = found.start() if found else max(last + 1, after)
            self.strange += at - after
            if found and self._patience.is_lost(self.passed - len(data) + at):
                self.strange += len(data) - at
                return
        self._skip = max(at - len(data), 0)
        self._held = data[at:]

    @abstractmethod
    def _follow(self, data: bytes, at: int, last: int) -> int:
        """Count the frames from ``at`` on, one behind the other; where the first thing stands that is none.

        Looks at no position behind ``last``. The complement of a position (``~at``): more is wanted from there on.
        """

    def _seek(self, kind: Kind, at: int, length: int, data: bytes, last: int) -> int:
        """Count a sought frame. Its length is believed only when a header follows it; else the search goes on inside.

        Where to go on; the complement of ``at`` while the next header has not arrived.
        """
        if at + length > last:
            self._pending = kind
            return ~at
        self._pending = None
        kind.sought += 1
        self._is_linked = self._ns_at(data, at + length) > 0
        return at + length if self._is_linked else at

    @abstractmethod
    def _ns_at(self, data: bytes, at: int) -> int:
        """How long the frame plays whose header stands there; 0 where none does, or not all of it."""

    def _kind(self, key: int, samples: int, rate: int) -> Kind:
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = Kind(samples, rate)
        return kind
