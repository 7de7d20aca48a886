"""Base64, quoted-printable and the escapes of URLs undone in stream.

Base64 is RFC 4648's as RFC 2045 section 6.8 carries it, so line breaks and strangers are ignored. Decoders differ on
padding that stands where none belongs: CPython reads on behind it, others behind any, and so does this one. They differ
on the two URL-safe letters as well, which are letters or strangers: whoever cares tries both.
"""

import binascii
import re
from urllib.parse import unquote_to_bytes

from policies.audio.walker import Chunk

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_STRANGERS = bytes(byte for byte in range(256) if byte not in _ALPHABET + b"=")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_QUANTUM = 4
_MOST_PADDINGS = 64
"""How many are looked at; in a text full of them the others are strangers, too."""


class Base64Stream:
    """Decodes what it is fed. Keeps up to three characters."""

    __slots__ = ("_held", "_paddings", "is_url_safe")

    def __init__(self, *, is_url_safe: bool = False) -> None:
        self.is_url_safe = is_url_safe
        self._held = b""
        self._paddings = 0

    def decode(self, chunk: Chunk) -> bytes:
        """What the text fed so far makes whole. Never raises."""
        text = bytes(chunk).translate(_URL_SAFE) if self.is_url_safe else bytes(chunk)
        text = self._held + text.translate(None, _STRANGERS)
        *padded, rest = text.split(b"=", _MOST_PADDINGS - self._paddings)
        self._paddings += len(padded)
        decoded, before = b"", b""
        for part in padded:
            before += part
            # Behind one letter or none there is nothing to pad: CPython goes on as if it were not there.
            if len(before) % _QUANTUM > 1:
                decoded += _padded(before)
                before = b""
        rest = before + rest.replace(b"=", b"")
        whole = len(rest) - len(rest) % _QUANTUM
        self._held = rest[whole:]
        return decoded + binascii.a2b_base64(rest[:whole])


def _padded(text: bytes) -> bytes:
    """Two characters behind the last quantum are one byte more, and three are two."""
    return binascii.a2b_base64(text + b"=" * (-len(text) % _QUANTUM))


class QuotedStream:
    """Undoes quoted-printable (RFC 2045 section 6.7), which Go's forms are read through. Keeps up to 67 characters."""

    __slots__ = ("_held",)

    _SOFT_BREAK = re.compile(rb"=[ \t]{0,64}\r?\n")
    _CUT = re.compile(rb"=(?:[0-9A-Fa-f]|[ \t]{0,64}\r?)\Z")

    def __init__(self) -> None:
        self._held = b""

    def decode(self, chunk: Chunk) -> bytes:
        """What the text fed so far makes whole. Never raises."""
        text = self._held + chunk
        cut = self._CUT.search(text, max(len(text) - 67, 0))
        text, self._held = (text[: cut.start()], text[cut.start() :]) if cut else (text, b"")
        text = self._SOFT_BREAK.sub(b"", text)
        return unquote_to_bytes(text.replace(b"%", b"=25").replace(b"=", b"%"))


class PercentStream:
    """Undoes a URL's escapes (RFC 3986 section 2.1) in what it is fed. Keeps up to two characters."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def decode(self, chunk: Chunk) -> bytes:
        """What the text fed so far makes whole. What only looks like an escape stays. Never raises."""
        text = self._held + chunk
        cut = text.rfind(b"%", max(len(text) - 2, 0))
        text, self._held = (text[:cut], text[cut:]) if cut >= 0 else (text, b"")
        return unquote_to_bytes(text)
