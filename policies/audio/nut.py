"""NUT behind anything: FFmpeg looks for what begins its main head wherever in a file's first megabyte it stands.

Source: FFmpeg's ``libavformat/nutdec.c``.
"""

from policies.audio.walker import Chunk

BITRATE = 4_750
"""It may hold speech in AMR."""
_BEGIN = b"NM\x7a\x56\x1f\x5f\x04\xad"


class NutWalker:
    """Weighs all bytes from there on."""

    __slots__ = ("_is_found", "_tail", "_weighed", "strange")

    codec = ""
    channels = None
    claimed_ms = None
    unsure = True

    def __init__(self) -> None:
        self.strange = 0
        """Bytes in front of it."""
        self._weighed = 0
        self._tail = b""
        self._is_found = False

    @property
    def ms(self) -> int | None:
        """None where it has not been seen."""
        return self._weighed * 8000 // BITRATE or None

    def feed(self, chunk: Chunk) -> None:
        """The next bytes."""
        if self._is_found:
            self._weighed += len(chunk)
            return
        data = self._tail + chunk
        found = data.find(_BEGIN)
        if found >= 0:
            self._is_found = True
            self.strange += found - len(self._tail)
            self._weighed = len(data) - found
        else:
            self.strange += len(chunk)
        self._tail = data[-len(_BEGIN) + 1 :]
