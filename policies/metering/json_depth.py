"""JSON as it passes, without what stands deep in it: a result of megabytes is mostly lists of words.

What is not JSON makes it say anything, never raise, and costs no more: one turn for each bracket.
"""

import re

# Everything up to the next bracket that is in no string. Only single characters are repeated possessively: before
# CPython 3.11.5 a possessive group takes half a repetition with it (python/cpython#106052).
_RUN = re.compile(rb'(?:[^"{}\[\]]++|"[^"\\]*+(?:\\.[^"\\]*+)*")*', re.DOTALL)
_IN_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*', re.DOTALL)
_QUOTE, _BACKSLASH = 0x22, 0x5C
_OPENING = frozenset(b"{[")


class Shallows:
    """Leaves objects and lists below ``deepest`` empty. The text's own object has the depth 1."""

    __slots__ = ("_deepest", "_depth", "_held", "_in_string")

    def __init__(self, deepest: int) -> None:
        self._deepest = deepest
        self._depth = 0
        self._in_string = False
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """What the next bytes have that is not too deep; in any cuts the same in all."""
        data = self._held + chunk if self._held else chunk
        self._held = b""
        at, start, end, shallow = 0, 0, len(data), []
        while True:
            if self._in_string:
                at = _end(_IN_STRING, data, at)
                if at == end:
                    break
                if data[at] == _BACKSLASH:  # it ends between a backslash and what that escapes
                    self._held, end = data[at:], at
                    break
                self._in_string = False
                at += 1
            at = _end(_RUN, data, at)
            if at == end:
                break
            mark = data[at]
            at += 1
            if mark == _QUOTE:  # of a string that does not end here
                self._in_string = True
            elif mark in _OPENING:
                self._depth += 1
                if self._depth == self._deepest + 1:
                    shallow.append(data[start:at])
            else:
                if self._depth == self._deepest + 1:
                    start = at - 1
                self._depth = max(self._depth - 1, 0)
        if self._depth <= self._deepest:
            shallow.append(data[start:end])
        return b"".join(shallow)


def _end(pattern: re.Pattern[bytes], data: bytes, at: int) -> int:
    found = pattern.match(data, at)
    return found.end() if found else at
