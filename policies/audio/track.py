"""One file: skips its ID3v2 tag, sniffs the container, feeds the walker for it. The table of walkers is here."""

from collections.abc import Callable, Mapping

from policies.audio.flac import FlacWalker
from policies.audio.sniff import SNIFF_BYTES, Container, id3v2_bytes, sniff
from policies.audio.walker import LONGEST_MS, Chunk, Walker
from policies.audio.wav import WavWalker

WALKERS: Mapping[Container, Callable[[], Walker]] = {
    Container.WAV: WavWalker,
    Container.FLAC: FlacWalker,
}
"""A new container is one line here, and a file beside this one."""

ASSUMED_BITRATES: Mapping[Container, int] = {
    Container.OGG: 32_000,
    Container.MP3: 64_000,
    Container.ADTS: 64_000,
    Container.MP4: 64_000,
    Container.MATROSKA: 32_000,
    Container.AMR: 12_200,
}
"""Bits per second of common speech recordings, for a file whose container has no walker."""

UNKNOWN_BITRATE = 32_000
"""For bytes that nothing explains: a foreign container, a foreign codec in a known one, a file that says nothing.

Low, so that bytes count for much: the sender chooses the container, and the unknown must not be the cheap one. Who
wants a true account of raw PCM puts a WAV header in front of it.
"""


class Track:
    """One file's bytes, from the first to the last, in any cuts."""

    __slots__ = ("_held", "_tag_left", "_walker", "container", "size", "tag_size")

    def __init__(self) -> None:
        self.container: Container | None = None
        """None until there were bytes enough to tell."""
        self.size = 0
        self.tag_size = 0
        self._tag_left = 0
        self._held = b""
        self._walker: Walker | None = None

    @property
    def walked_ms(self) -> int | None:
        """What a decoder would play of it; None when that could not be counted. Never 0: that is a file unexplained."""
        return (self._walker and self._walker.ms) or None

    @property
    def claimed_ms(self) -> int | None:
        """What its header says of itself, under the sanity cap."""
        claimed = self._walker.claimed_ms if self._walker else None
        return claimed and min(claimed, LONGEST_MS)

    @property
    def estimated_ms(self) -> int:
        """Its bytes over an assumed bit rate. A tag counts only where nothing followed it."""
        sound = self.size - self.tag_size if self.size > self.tag_size else self.size
        return sound * 8000 // ASSUMED_BITRATES.get(self.container or Container.UNKNOWN, UNKNOWN_BITRATE)

    @property
    def codec(self) -> str:
        """FFmpeg's name; empty until known."""
        return self._walker.codec if self._walker else ""

    @property
    def channels(self) -> int | None:
        """None until known."""
        return self._walker.channels if self._walker else None

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the file."""
        self.size += len(chunk)
        if self._walker:
            self._walker.feed(chunk)
        elif self.container is None:
            self._begin(memoryview(chunk))

    def _begin(self, view: memoryview) -> None:
        while view:
            if self._tag_left:
                step = min(self._tag_left, len(view))
                self._tag_left -= step
                view = view[step:]
                continue
            step = SNIFF_BYTES - len(self._held)
            self._held += view[:step]
            view = view[step:]
            if len(self._held) < SNIFF_BYTES:
                return
            tag = id3v2_bytes(self._held)
            if not tag:
                self._open(view)
                return
            self.tag_size += tag
            self._tag_left = max(tag - SNIFF_BYTES, 0)
            self._held = self._held[tag:]

    def _open(self, view: memoryview) -> None:
        self.container = sniff(self._held)
        make = WALKERS.get(self.container)
        if make:
            self._walker = make()
            self._walker.feed(self._held)
            self._walker.feed(view)
        self._held = b""
