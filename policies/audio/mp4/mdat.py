"""The media of an MP4 as it passes, and who looks into it.

Before the first movie nobody knows what it is: its first bytes are kept, and all look for what is theirs.
"""

from collections.abc import Set as AbstractSet

from policies.audio.mp4.media import Media
from policies.audio.mp4.opus import MOST_FRONT_BYTES
from policies.audio.mp4.packed import FlacWindows, Windows
from policies.audio.walker import Chunk


class Mdat:
    """All boxes of media of one file, one behind the other."""

    __slots__ = ("_ends", "_sampled", "flac", "frames", "front", "front_begins", "size", "windows")

    def __init__(self) -> None:
        self.size = 0
        """With their headers, and with what has not come yet of the last one."""
        self._ends = 0
        self.frames: Media | None = None
        """Once there is some."""
        self.windows, self.flac = Windows(), FlacWindows()
        self._sampled: list[Windows | FlacWindows] = []  # those of them whose codec may be in the media
        self.front = bytearray()
        """The first bytes of media that stands before its tables; where they do is ``front_begins``."""
        self.front_begins = 0

    def prepare(self, media: memoryview, position: int, codecs: AbstractSet[str], *, is_in_front: bool) -> None:
        """The first box's body stands there in the file, of which this much has come.

        ``codecs`` are those of the tracks so far; ``is_in_front``: there are none.
        """
        if is_in_front:
            self.front_begins = position
            self.front += media[:MOST_FRONT_BYTES]
        self.frames = Media(codecs)
        self._sampled += [self.windows] if not codecs or codecs & {"aac", "opus"} else []
        self._sampled += [self.flac] if not codecs or "flac" in codecs else []

    def begin(self, media: memoryview, position: int, ends: int) -> None:
        """A box's body stands there in the file, of which this much has come."""
        self._ends = ends
        self._look(media, position)

    def feed(self, chunk: Chunk, position: int, *, is_in_front: bool) -> None:
        """The next bytes of the file, which stand there; ``is_in_front``: there are no tracks so far."""
        if self.frames is None or self._ends <= position:
            return
        media = memoryview(chunk)[: self._ends - position]
        self._look(media, position)
        if is_in_front and len(self.front) < MOST_FRONT_BYTES:
            self.front += media[: MOST_FRONT_BYTES - len(self.front)]

    def _look(self, media: memoryview, position: int) -> None:
        assert self.frames is not None
        self.frames.feed(media)
        for windows in self._sampled:
            windows.feed(media, position)

    def missing(self, passed: int) -> int:
        """Bytes that have not come, once so many of the file have."""
        return max(self._ends - passed, 0)
