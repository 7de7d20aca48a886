"""A signed token as text: taken apart with one reading only, before a single byte of it is believed (RFC 7515).

Three segments of canonical base64url; the first two hold JSON objects in which no name comes twice. Whatever has a
second reading is no token: padding, stray bits in the last character, white space, other encodings of text, names
written twice (of which parsers keep the first or the last), numbers that are none. What a header says about where keys
are to be found is refused and not skipped (RFC 8725 section 3.10), and so is every extension (``crit``).
"""

import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policies.identity import strict_json

LONGEST = 8_192
"""Bytes of a whole token; the longest header line that is read has about as many."""
_LONGEST_HEADER = 2_048
_FROM_URL = bytes.maketrans(b"-_", b"+/")
_TO_URL = bytes.maketrans(b"+/", b"-_")
_REFUSED = frozenset({"crit", "b64", "jku", "jwk", "x5u", "x5c", "zip", "enc", "cty"})
"""Header members that change what is verified, or say with what: no token of ours has them, and none may."""


@dataclass(frozen=True, slots=True)
class Jws:
    """One token, unverified. ``text`` is the whole of it; ``header`` and ``claims`` are what it says of itself."""

    text: bytes
    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    algorithm: str
    key_id: str
    """Empty without one: then no key is meant, and none is found by it."""
    type: str
    """``typ`` as a media subtype in lower case: ``application/`` is optional in it (RFC 7515 section 4.1.9).

    Empty without one, as in identity tokens of some providers; no access token may do without.
    """


def looks_like_one(secret: bytes) -> bool:
    """Whether a credential is meant as one: no key of ours begins so, and every JSON object in base64url does."""
    return secret.startswith(b"ey") and secret.count(b".") == 2


def parse(text: bytes) -> Jws | None:
    """Take a token apart; None when it is not exactly one token."""
    if len(text) > LONGEST or text.count(b".") != 2:
        return None
    header_text, claims_text, signature_text = text.split(b".")
    if len(header_text) > _LONGEST_HEADER or not unpadded(signature_text):
        return None
    header, claims = _json_object(header_text), _json_object(claims_text)
    if header is None or claims is None or not _REFUSED.isdisjoint(header):
        return None
    algorithm, key_id, kind = header.get("alg"), header.get("kid", ""), header.get("typ", "")
    if not (isinstance(algorithm, str) and isinstance(key_id, str) and isinstance(kind, str)):
        return None
    return Jws(text, header, claims, algorithm, key_id, kind.lower().removeprefix("application/"))


def unpadded(segment: bytes) -> bytes:
    """What canonical base64url without padding stands for (RFC 7515 section 2); empty when it is not that."""
    try:
        data = binascii.a2b_base64(segment.translate(_FROM_URL) + b"==")
    except binascii.Error:
        return b""
    # Decoders skip what they do not know and ignore left-over bits: only what encodes to the same text was the text.
    canonical = binascii.b2a_base64(data, newline=False).rstrip(b"=").translate(_TO_URL)
    return data if canonical == segment else b""


def _json_object(segment: bytes) -> dict[str, Any] | None:
    try:
        # Decoded here: left to itself the JSON reader would also take UTF-16 and UTF-32.
        value = strict_json.read(unpadded(segment).decode("utf-8"))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
