"""AVI whose head is none that a recorder writes: weighed, or found by its frames, as any container that is not walked.

Of a thrifty speech codec that it describes (GSM, G.723.1 and their like) the weight would be too little: of the chunks
behind ``movi`` all count by it but their headers, and an index of as many entries.
"""

import re

from policies.audio.hunt import HuntWalker
from policies.audio.speech import G723_TAGS
from policies.audio.walker import Chunk
from policies.audio.wav_formats import Layout, read_format

_MOST_HEAD_BYTES = 65_536
_HEAD_IS_NO_SOUND = 16_384
_MOVIE = re.compile(rb"LIST....movi", re.DOTALL)
_MOVIE_BYTES = 12
_CHUNK = re.compile(rb"[0-9A-Za-z]{2}[0-9A-Za-z ]{2}")
_HEADER_BYTES, _NAME_BYTES, _ENTRY_BYTES = 8, 4, 16
_FORMAT_BYTES, _LEAST_FORMAT_BYTES = 40, 14
_MOST_FORMATS = 64
_G723_RATE, _G723_FRAMES = 8_000, (20, 20, 240, 1 << 30)
"""Its smallest frames that hold speech."""


class UnreadAvi:
    """Counts the bytes of chunks, for the slowest codec that the head describes."""

    __slots__ = (
        "_chunks", "_free", "_has_index", "_held", "_hunt", "_is_begun", "_is_lost", "_layouts",
        "_left", "_pad", "_passed", "_sound",
    )  # fmt: skip

    def __init__(self) -> None:
        self._hunt = HuntWalker()
        self._passed = 0
        self._held = bytearray()  # the head; then of a chunk's header what is here
        self._is_begun = self._is_lost = self._has_index = False
        self._layouts: list[Layout] = []
        self._left = 0  # of the chunk that is passing
        self._free = self._pad = 0  # bytes at its begin that are no sound, and behind its end
        self._chunks = self._sound = 0

    claimed_ms = None

    @property
    def codec(self) -> str:
        """Of the frames found; else what was described."""
        return self._hunt.codec or (self._layouts[0].codec if self._layouts else "")

    @property
    def channels(self) -> int | None:
        """Of the same."""
        return self._hunt.channels or (self._layouts[0].channels if self._layouts else None)

    @property
    def strange(self) -> int:
        """All, where no frames were found: what was described is no less than its weight."""
        return self._hunt.strange if self._hunt.ms else self._passed

    @property
    def unsure(self) -> bool:
        """Whether there is any sound: no reader's ways were followed."""
        return self.ms is not None

    @property
    def ms(self) -> int | None:
        """By the frames found or by what was described, whichever plays longer."""
        layouts, sound = self._layouts, self._sound
        if not self._is_begun:  # FFmpeg begins behind the first chunk that is too large for a head
            layouts, sound = _layouts_in(self._held), len(self._held) - self._held.rfind(b"strf")
        described = max((layout.ms(sound) for layout in layouts), default=0)
        return max(self._hunt.ms or 0, described) or None

    def feed(self, chunk: Chunk) -> None:
        """The next bytes."""
        self._hunt.feed(chunk)
        self._passed += len(chunk)
        view = memoryview(chunk)
        if not self._is_begun:
            view = self._pass_head(view)
        while view and not self._is_lost:
            step = min(self._left or _HEADER_BYTES - len(self._held), len(view))
            if self._left:
                self._left -= step
                self._sound += max(step - self._free, 0)
                self._free = max(self._free - step, 0)
                if self._pad and not self._left:
                    self._left = self._free = self._pad
                    self._pad = 0
            else:
                self._held += view[:step]
                if len(self._held) == _HEADER_BYTES:
                    self._open()
            view = view[step:]
        self._sound += len(view)

    def _pass_head(self, view: memoryview) -> memoryview:
        """What of these bytes stands behind the head."""
        seen = len(self._held)
        self._held += view[: _MOST_HEAD_BYTES - seen]
        rest = view[_MOST_HEAD_BYTES - seen :]
        found = _MOVIE.search(self._held, max(seen - _MOVIE_BYTES + 1, 0))
        if found is None and len(self._held) < _MOST_HEAD_BYTES:
            return rest
        self._is_begun, self._is_lost = True, found is None
        head = bytes(self._held[: found.start() if found else _MOST_HEAD_BYTES])
        self._held = self._held[found.end() if found else _MOST_HEAD_BYTES :]
        self._sound += max(len(head) - _HEAD_IS_NO_SOUND, 0)
        self._layouts = _layouts_in(head)
        behind, self._held = memoryview(bytes(self._held)), bytearray()
        return memoryview(b"".join((behind, rest))) if rest else behind

    def _open(self) -> None:
        """A chunk begins, or a list of some."""
        name, size = bytes(self._held[:4]), int.from_bytes(self._held[4:], "little")
        self._held = bytearray()
        if not _CHUNK.match(name):
            self._is_lost = True
            self._sound += _HEADER_BYTES
            return
        self._chunks += 1
        if name in {b"LIST", b"RIFF"}:
            self._left = self._free = _NAME_BYTES
            return
        self._left, self._pad = (size, size & 1) if size else (0, 0)
        is_index = name == b"idx1" and not self._has_index
        self._free = min(size, _ENTRY_BYTES * self._chunks) if is_index else 0
        self._has_index = self._has_index or is_index


def _layouts_in(head: bytes | bytearray) -> list[Layout]:
    """What a head describes."""
    layouts = []
    for at in [found.end() for found in re.finditer(b"strf", head)][:_MOST_FORMATS]:
        body = bytes(head[at + 4 : at + 4 + _FORMAT_BYTES])
        if len(body) < _LEAST_FORMAT_BYTES:
            continue
        layout = read_format(body, "<")
        if int.from_bytes(body[:2], "little") in G723_TAGS:
            rate = int.from_bytes(body[4:8], "little")
            layout = Layout("g723_1", 1, min(rate or _G723_RATE, _G723_RATE), *_G723_FRAMES)
        if layout:
            layouts.append(layout)
    return layouts
