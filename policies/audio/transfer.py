"""Base64 undone in stream: RFC 4648 as RFC 2045 section 6.8 carries it, so line breaks and strangers are ignored."""

import binascii

from policies.audio.walker import Chunk

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_STRANGERS = bytes(byte for byte in range(256) if byte not in _ALPHABET + b"=")
_QUANTUM = 4


class Base64Stream:
    """Decodes what it is fed, and ends for good at the first padding, as decoders do. Keeps up to three characters."""

    __slots__ = ("_ended", "_held")

    def __init__(self) -> None:
        self._held = b""
        self._ended = False

    def decode(self, chunk: Chunk) -> bytes:
        """What the text fed so far makes whole. Never raises."""
        if self._ended:
            return b""
        text, padding, _ = (self._held + bytes(chunk).translate(None, _STRANGERS)).partition(b"=")
        whole = len(text) - len(text) % _QUANTUM
        self._held = text[whole:]
        decoded = binascii.a2b_base64(text[:whole])
        if padding:
            self._ended = True
            decoded += _last(self._held)
        return decoded


def _last(text: bytes) -> bytes:
    """Two characters are one byte and three are two; a lone one is nothing."""
    return binascii.a2b_base64(text + b"=" * (_QUANTUM - len(text))) if len(text) > 1 else b""
