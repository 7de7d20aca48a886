"""One JSON line a request, gathered and written some milliseconds later. A credential has no way in.

Lines go out in pieces of at most 4 096 bytes that end at a line's end: a write of that size to a pipe is atomic
(pipe(7), PIPE_BUF), so that workers sharing standard output never cut each other's lines. A longer line has its long
strings cut until it fits.
"""

import asyncio
import json
import os
import stat
from collections.abc import Iterable

from gateway.telemetry.json_lines import json_line
from gateway.telemetry.metrics import Metrics

_PIECE = 4_096
_WHOLE = 262_144
"""To a file each write is whole, whatever its size: those who share it inherited one place in it."""
_DELAY_S = 0.02


class AccessLog:
    """Writes dictionaries as JSON lines to a file descriptor. ``emit`` never blocks; ``flush`` only on the write.

    Lines that come together are kept as one piece: each apart, or all in a buffer that grows, they cost several times
    as much, in memory mapped and given back.
    """

    def __init__(self, descriptor: int, metrics: Metrics) -> None:
        self._descriptor = descriptor
        self._metrics = metrics
        self._piece = _WHOLE if stat.S_ISREG(os.fstat(descriptor).st_mode) else _PIECE
        self._queued: list[bytes] = []
        self._scheduled = False
        self._is_cut = False
        """Whether the last line that was written has no end."""

    def emit(self, line: dict[str, object], rest: bytes = b"") -> None:
        """Queue one line. ``rest`` are the fields that follow: another one, encoded, with a comma for its brace."""
        self.add([encoded(line, rest)])

    def add(self, lines: Iterable[bytes]) -> None:
        """Queue lines that are :func:`encoded`."""
        self._queued.append(b"".join([line if len(line) <= _PIECE else _cut(line) for line in lines]))
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_later(_DELAY_S, self.flush)

    def flush(self) -> None:
        """Write what is queued. A reader that has gone away, or a full disk, costs lines, which are counted."""
        self._scheduled = False
        queued, self._queued = b"".join(self._queued), []
        if self._is_cut:
            queued = b"\n" + queued
        view, start = memoryview(queued), 0
        try:
            while start < len(queued):
                stop = queued.rfind(b"\n", start, start + self._piece) + 1 or queued.find(b"\n", start) + 1
                start += os.write(self._descriptor, view[start:stop])
        except OSError:
            self._metrics.lost_lines["access",] += queued.count(b"\n", max(start, self._is_cut))
        finally:
            self._is_cut = queued[start - 1 : start] != b"\n" if start else self._is_cut


def encoded(line: dict[str, object], rest: bytes = b"") -> bytes:
    """A line, with fields that were encoded before behind its own: see :meth:`AccessLog.emit`."""
    whole = json_line(line)
    return whole[:-2] + rest if rest else whole


def _cut(encoded: bytes) -> bytes:
    line, longest = json.loads(encoded), _PIECE // 4
    while longest and len(encoded) > _PIECE:
        encoded = json_line({name: v[:longest] if isinstance(v, str) else v for name, v in line.items()})
        longest //= 2
    return encoded
