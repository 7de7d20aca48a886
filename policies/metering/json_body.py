"""A body that may be JSON, as services read it: behind any white space, in UTF-8, UTF-16 or UTF-32.

RFC 8259 takes UTF-8 alone. CPython's ``json.loads``, and with it Starlette and Flask, still tells the three by the
first four bytes (RFC 4627 section 3), and what the meter cannot read is audio for nothing.
"""

import codecs
from collections.abc import Callable

from policies.audio.walker import Chunk
from policies.metering.elsewhere import Elsewhere
from policies.metering.inline_audio import InlineAudio

_HEAD_BYTES = 16
"""What tells text from audio."""
_TELLING_BYTES = 4
"""What tells an encoding from another."""
_BEFORE_JSON = b"\xef\xbb\xbf \t\r\n"
_MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
          (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip
"""The longer ones first: UTF-32's begins with UTF-16's."""


class JsonBody:
    """Walks a body in any cuts for as long as it may be JSON; what it holds is for ``inline`` then."""

    __slots__ = ("_elsewhere", "_first", "_in_utf8", "head", "inline")

    def __init__(self, elsewhere: Elsewhere) -> None:
        self.head = b""
        """Its first bytes behind white space, in UTF-8."""
        self.inline: InlineAudio | None = None
        """None until it begins like JSON."""
        self._elsewhere = elsewhere
        self._first = b""
        self._in_utf8: Callable[[Chunk], bytes] | None = None

    def feed(self, chunk: Chunk) -> None:
        """The next bytes. Never raises."""
        if self.inline is None and len(self.head) == _HEAD_BYTES:
            return
        if self._in_utf8 is None:
            self._first += chunk
            if len(self._first) < _TELLING_BYTES:
                return
            self._in_utf8, chunk, self._first = _reader(self._first), self._first, b""
        text = self._in_utf8(chunk)
        if len(self.head) < _HEAD_BYTES:
            rest = text if self.head else text.lstrip(_BEFORE_JSON)
            self.head += rest[: _HEAD_BYTES - len(self.head)]
            if self.inline is None and self.head[:1] in {b"{", b"["}:
                self.inline = InlineAudio(self._elsewhere)
        if self.inline is not None:
            self.inline.feed(text)


def _reader(first: bytes) -> Callable[[Chunk], bytes]:
    encoding = _encoding(first)
    if not encoding:
        return bytes
    decode = codecs.getincrementaldecoder(encoding)("replace").decode
    return lambda chunk: decode(bytes(chunk)).encode("utf-8", "replace")


def _encoding(first: bytes) -> str:
    """As CPython's ``json.detect_encoding``, empty for UTF-8."""
    for mark, encoding in _MARKS:
        if first.startswith(mark):
            return encoding
    if not first[0]:
        return "utf-16-be" if first[1] else "utf-32-be"
    if not first[1]:
        return "utf-16-le" if first[2] or first[3] else "utf-32-le"
    return ""
