"""ACT, a dictation machine's: G.729 behind what looks like the head of a WAV of plain samples. FFmpeg prefers it.

Source: FFmpeg's ``libavformat/act.c``.
"""

import re

from policies.audio.walker import Chunk

_HEAD_BYTES = 512
_HEAD = re.compile(rb"RIFF.{4}WAVE.{32}\0{212}\x84.{7}\0{248}", re.DOTALL)
_FRAME_BYTES, _FRAME_MS = 10, 10


class Act:
    """Tells whether a file is one, and how long that plays; keeps its head."""

    __slots__ = ("_head", "_size", "is_none")

    def __init__(self) -> None:
        self.is_none = False
        """Whether it certainly is none."""
        self._head = b""
        self._size = 0

    @property
    def ms(self) -> int:
        """Of its frames; 0 while it may be something else."""
        return max(self._size - _HEAD_BYTES, 0) // _FRAME_BYTES * _FRAME_MS

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the file, from its first one on."""
        self._size += len(chunk)
        if len(self._head) < _HEAD_BYTES:
            self._head += chunk[: _HEAD_BYTES - len(self._head)]
            self.is_none = len(self._head) == _HEAD_BYTES and not _HEAD.match(self._head)
