"""Wave64 (Sony): WAV with GUIDs for names and sizes of 64 bits. It is read as a WAV whose samples never end.

It is rare, so that is fair enough, and nothing can be hidden. Of several formats FFmpeg obeys the last, wherever it
stands; no recorder writes two, so such a file is weighed. Source: FFmpeg's ``libavformat/w64.c`` and ``wavdec.c``.
"""

from policies.audio.walker import Chunk
from policies.audio.wav import WavWalker

_GUID = b"\xf3\xac\xd3\x11\x8c\xd1\0\xc0\x4f\x8e\xdb\x8a"
_FORMAT = b"fmt " + _GUID
_FORM_AT, _FORM = 24, b"wave" + _GUID + _FORMAT
_FORMAT_AT, _FORMAT_BYTES = 64, 40
_HEADER_BYTES = _FORMAT_AT + _FORMAT_BYTES
_DATA, _SIZE_BYTES = b"data" + _GUID, 8
_MOST_HELD_BYTES = 4096


class Wave64Walker:
    """Counts bytes behind a header; keeps that."""

    __slots__ = ("_formats", "_held", "_passed", "_samples", "_tail")

    claimed_ms = None

    def __init__(self) -> None:
        self._passed = self._formats = 0
        self._tail = b""
        self._held: bytes | None = b""
        """The header, until the samples begin."""
        self._samples = WavWalker()

    @property
    def codec(self) -> str:
        """FFmpeg's name; empty until known."""
        return self._samples.codec

    @property
    def strange(self) -> int:
        """All, where there are several formats."""
        return self._passed if self._formats > 1 else 0

    @property
    def unsure(self) -> bool:
        """Whether its codec's frames are of several sizes."""
        return self._samples.unsure

    @property
    def channels(self) -> int | None:
        """As the header says."""
        return self._samples.channels

    @property
    def ms(self) -> int | None:
        """Of the bytes behind the header; None for a header that cannot be read."""
        return self._samples.ms

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the file."""
        self._passed += len(chunk)
        seen = self._tail + chunk
        self._formats += seen.count(_FORMAT)
        self._tail = seen[-len(_FORMAT) + 1 :]
        if self._held is None:
            self._samples.feed(chunk)
            return
        self._held += chunk
        head, begins = self._held, _HEADER_BYTES
        found = head.find(_DATA, _FORMAT_AT, _MOST_HELD_BYTES)
        if found >= 0:
            begins = found + len(_DATA) + _SIZE_BYTES
        if len(head) >= (begins if found >= 0 else _MOST_HELD_BYTES):
            self._held = None
            if head[_FORM_AT:].startswith(_FORM):
                form = head[_FORMAT_AT : _FORMAT_AT + _FORMAT_BYTES]
                size = _FORMAT_BYTES.to_bytes(4, "little")
                self._samples.feed(
                    b"RIFF\xff\xff\xff\xffWAVEfmt " + size + form + b"data\xff\xff\xff\xff" + head[begins:]
                )
