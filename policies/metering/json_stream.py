"""JSON as it passes: short values by where they stand, and long strings handed on piece by piece.

For messages and bodies whose audio is a string of megabytes. It is no validator: what is not JSON makes it say less,
never raise. Of a name that comes twice both values are seen, since parsers keep the first or the last.
"""

import re
from collections.abc import Callable
from typing import TypeAlias

from policies.audio.walker import Chunk

Path: TypeAlias = tuple[str, ...]
"""Names from the top down; lists leave no trace in it."""
Consumer: TypeAlias = Callable[[bytes], None]

MOST_KEPT_BYTES = 1024
"""How much of a name or of a short value is kept."""
_DEEPEST = 64
"""Below this nothing has a name."""

_NEXT = re.compile(rb'[{}\[\]:,"]')
_IN_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_ESCAPE = re.compile(rb"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_CUT_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_CONTROL = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"b": b"\b", b"f": b"\f"}


class JsonStream:
    """Reads one JSON text in any cuts; keeps its depth in names and one short value.

    ``value`` takes every short scalar or string with its path. ``string`` is asked at the beginning of every string
    that is a value, and returns what takes its unescaped bytes, or None to have it kept as a short value.
    """

    __slots__ = (
        "_before", "_consumer", "_deep", "_held", "_in_list", "_in_string", "_is_key", "_kept", "_names", "_string",
        "_value", "depth",
    )  # fmt: skip

    def __init__(
        self, value: Callable[[Path, str], None], string: Callable[[Path], Consumer | None] | None = None
    ) -> None:
        self._value = value
        self._string = string
        self._names: list[str] = []
        self._in_list: list[bool] = []
        self._deep = 0
        self._is_key = False
        self._in_string = False
        self._consumer: Consumer | None = None
        self._kept = bytearray()
        self._held = b""
        self.depth = 0
        """0 before the text and behind it."""

    def feed(self, chunk: Chunk) -> None:
        """The next bytes."""
        data = self._held + chunk if self._held else bytes(chunk)
        self._held = b""
        at, end = 0, len(data)
        while at < end:
            if self._in_string:
                at = self._pass_string(data, at)
                continue
            found = _NEXT.search(data, at)
            if found is None:
                self._keep(data[at:])
                return
            self._keep(data[at : found.start()])
            at = found.end()
            self._pass_mark(data[at - 1])

    def finish(self) -> None:
        """The text has ended."""
        self._say()

    def _pass_string(self, data: bytes, at: int) -> int:
        run = _IN_STRING.match(data, at)
        stop = run.end() if run else at
        piece = data[at:stop]
        if b"\\" in piece:
            cut = _CUT_ESCAPE.search(piece) if stop == len(data) else None
            if cut and _is_escape(piece, cut.start()):
                self._held, piece = piece[cut.start() :], piece[: cut.start()]
            piece = _unescaped(piece)
        if piece:
            if self._consumer:
                self._consumer(piece)
            else:
                self._keep(piece)
        if stop == len(data):
            return stop
        if data[stop] == 0x5C:  # a backslash at the very end
            self._held = data[stop:]
            return len(data)
        self._in_string = False
        if self._consumer:
            self._consumer = None
            self._kept.clear()
        elif self._is_key:
            self._name()
        else:
            self._kept = self._kept or bytearray(b"\0")
            self._say(is_string=True)
        return stop + 1

    def _keep(self, piece: bytes) -> None:
        room = MOST_KEPT_BYTES - len(self._kept)
        if room > 0:
            self._kept += piece[:room]

    def _name(self) -> None:
        if self._names and not self._deep:
            self._names[-1] = self._kept.decode("utf-8", "replace")
        self._kept.clear()

    def _say(self, *, is_string: bool = False) -> None:
        text = self._kept.decode("utf-8", "replace")
        self._kept.clear()
        if is_string:
            text = "" if text == "\0" else text
        else:
            text = text.strip()
            if not text:
                return
        if not self._deep:
            self._value(self._path, text)

    @property
    def _path(self) -> Path:
        return tuple(name for name, is_list in zip(self._names, self._in_list, strict=True) if not is_list)

    def _pass_mark(self, mark: int) -> None:
        match mark:
            case 0x22:  # a quote
                self._kept.clear()
                self._in_string = True
                if not self._is_key and self._string and not self._deep:
                    self._consumer = self._string(self._path)
            case 0x3A:  # a colon
                self._kept.clear()
                self._is_key = False
            case 0x2C:  # a comma
                self._say()
                self._is_key = bool(self._in_list) and not self._in_list[-1]
            case 0x7B | 0x5B:  # an opening bracket
                self._kept.clear()
                self.depth += 1
                if len(self._names) < _DEEPEST and not self._deep:
                    self._names.append("")
                    self._in_list.append(mark == 0x5B)
                else:
                    self._deep += 1
                self._is_key = mark == 0x7B
            case _:
                self._say()
                self.depth = max(self.depth - 1, 0)
                if self._deep:
                    self._deep -= 1
                elif self._names:
                    self._names.pop()
                    self._in_list.pop()
                self._is_key = False


def _is_escape(piece: bytes, at: int) -> bool:
    """Whether the backslash at ``at`` begins an escape, and is not itself escaped."""
    before = piece[:at]
    return (len(before) - len(before.rstrip(b"\\"))) % 2 == 0


def _unescaped(piece: bytes) -> bytes:
    piece = piece.replace(b"\\/", b"/") if b"\\\\" not in piece else piece
    return _ESCAPE.sub(_one, piece) if b"\\" in piece else piece


def _one(found: re.Match[bytes]) -> bytes:
    escaped = found[1]
    if len(escaped) == 5:
        return chr(int(escaped[1:], 16)).encode("utf-8", "surrogatepass")
    return _CONTROL.get(escaped, escaped)
