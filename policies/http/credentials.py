"""Where a credential may stand in a request, and what an API key looks like.

A key is ``thk_<live|test>_<22 base62 characters><6 base62 characters of CRC-32>``: 131 random bits, a prefix that
secret scanners know, and a checksum that turns away a mistyped key without asking any store (the shape that GitHub
made common). The alphabet ``A-Za-z0-9_`` also makes it a legal WebSocket subprotocol token (RFC 9110 section 5.6.2).
"""

import binascii
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from policies.http.cookies import values
from policies.http.headers import RequestHead
from policies.http.subprotocols import Offer
from policies.http.tickets import Ticket
from policies.identity.tokens import AccessToken

KEY_PATTERN = r"thk_(?:live|test)_[0-9A-Za-z]{28}"
"""The published regular expression, for secret scanners."""
_KEY = re.compile(KEY_PATTERN)
_ANY_KEY = re.compile(r"(thk_[a-z]{2,8}_|tkt_|thr_|ths_)[0-9A-Za-z_-]+")
_ANY_TOKEN = re.compile(r"eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_.-]*")
_TOKEN_LETTERS = string.ascii_letters + string.digits + "_-"
_SHORTEST = len("eyJ") + 8
"""The shortest beginning of a token, up to its first dot."""
_OURS = re.compile(r"thk_[a-z]{2,8}_[0-9A-Za-z]|ths_[0-9A-Za-z]{20}|thr_[0-9a-z]{20}_[0-9]|tkt_[0-9a-f]{40}")
"""What nobody writes by chance: ``lengths_in_ms`` is none of them."""
QUERY_NAMES = frozenset({"token", "access_token", "api_key", "api-key", "apikey", "key", "jwt"})
"""Where clients put a credential that they have no header for: AssemblyAI's and ElevenLabs' token, Speechmatics' jwt,
Azure's api-key, speaches' api_key."""
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_CHARACTERS = 22
_CHECK_CHARACTERS = 6
RANDOM_BYTES = 17
"""How much randomness :func:`mint_key` wants: 136 bits, of which 22 base62 characters carry 131."""

_PREFIX = b"thk_"
_SCHEMES = frozenset({b"bearer", b"token", b"key", b"apikey"})


@dataclass(slots=True)
class Presented:
    """The one credential of a request, as bytes: nothing has been believed yet.

    ``digest`` is filled in by whoever looks it up first, because a connection presents the same one again and again.
    Of what a ticket stands for only the digest is known, and ``secret`` is empty.
    """

    secret: bytes
    digest: bytes = b""
    ticket: Ticket | None = None
    token: AccessToken | None = None
    """What a token said when it opened a stream, which may last longer than the token; or asked for a ticket."""
    session: bool = False
    """Whether it is a browser's cookie, which any page can make the browser send."""


class Nothing:
    """No credential at all."""


class Conflict:
    """Two different credentials: there is no precedence, the request is refused."""


NOTHING = Nothing()
CONFLICT = Conflict()


def present(head: RequestHead, session_cookie: str = "") -> Presented | Nothing | Conflict:
    """Find the credential: ``Authorization`` (any known scheme, or bare), a key header, or a WebSocket subprotocol.

    Where ``session_cookie`` is a name, also a browser's session; with another credential beside it is one too many. Not
    beside what a script offers as a subprotocol: no script can open a WebSocket without the browser's cookies.

    The same credential twice is one credential; an empty header is none. An unknown scheme presents its whole value,
    which then is no valid key: a credential that is present but bad ends the decision, it never falls through. The
    headers of other services (Azure's ``api-key`` and the like) count only with a key of ours in them: what else may
    stand there was not meant for us.
    """
    found = {secret for value in head.authorizations for secret in _authorization(value.strip())}
    if head.api_keys:
        found.update(value.strip() for value in head.api_keys)
    if head.foreign_keys:
        found.update(key for value in head.foreign_keys if (key := value.strip()).startswith(_PREFIX))
    found.discard(b"")
    offered = set(Offer.read(head.websocket).secrets) - {b""} if head.websocket else set()
    found |= offered
    if head.cookies and session_cookie and not (found and found == offered):
        sessions = values([line.decode("latin-1") for line in head.cookies], session_cookie) - {""}
        if sessions:
            return CONFLICT if found or len(sessions) > 1 else Presented(sessions.pop().encode("latin-1"), session=True)
    if not found:
        return NOTHING
    return Presented(found.pop()) if len(found) == 1 else CONFLICT


def _authorization(value: bytes) -> tuple[bytes, ...]:
    """``Bearer x`` -> ``x``; a bare ``x`` -> ``x``; a scheme alone is an empty credential.

    Of ``Basic`` (RFC 7617) the user or the password, whichever is a key of ours; both, if both are.
    """
    scheme, _, rest = value.partition(b" ")
    scheme = scheme.lower()
    if scheme == b"basic":
        return _basic(rest.strip()) or (value,)
    return (rest.lstrip() if scheme in _SCHEMES else value,)


def _basic(encoded: bytes) -> tuple[bytes, ...]:
    try:
        user, _, password = binascii.a2b_base64(encoded, strict_mode=True).partition(b":")
    except ValueError:
        return ()
    return tuple(part for part in (user, password) if part.startswith(_PREFIX))


def mint_key(randomness: bytes, *, live: bool = True) -> str:
    """A new key from :data:`RANDOM_BYTES` of a cryptographic source."""
    return _checked(f"thk_{'live' if live else 'test'}_", randomness)


def mint_client_secret(randomness: bytes) -> str:
    """A service account's new secret, ``ths_...``, in the shape of a key; it is no key, and opens no route."""
    return _checked("ths_", randomness)


def is_well_formed(secret: bytes) -> bool:
    """Whether these bytes can be a key at all: alphabet, length, checksum. Costs no I/O and tells nobody anything."""
    try:
        text = secret.decode("ascii")
    except UnicodeDecodeError:
        return False
    return _KEY.fullmatch(text) is not None and _checksum(text[:-_CHECK_CHARACTERS]) == text[-_CHECK_CHARACTERS:]


def redacted(text: str) -> str:
    """The text without keys and tokens, whole or not: people paste them into paths and user agents, which we log."""
    if "_" in text:
        text = _ANY_KEY.sub(r"\1[redacted]", text)
    return _ANY_TOKEN.sub("eyJ[redacted]", text) if "eyJ" in text else text


def has_key(text: bytes) -> bool:
    """Whether there is something in it that looks like a key, a ticket or a token."""
    readable = text.decode("latin-1")
    return _OURS.search(readable) is not None or _has_token(readable)


def _has_token(text: str) -> bool:
    """What ``_ANY_TOKEN`` finds, in one pass: of a query that is nothing but beginnings it would take 20 ms."""
    parts = [part for part in text.split(".")[:-1] if len(part) >= _SHORTEST]
    tails = (part[len(part.rstrip(_TOKEN_LETTERS)) :] for part in parts)
    return any(0 <= tail.find("eyJ") <= len(tail) - _SHORTEST for tail in tails)


def _readable(text: bytes) -> str:
    """Without its percent escapes, for who looks for a credential: no other character need be what it was.

    Quoted-printable has the same escapes behind another mark; its decoder takes a tenth of ``unquote``'s time, which
    was milliseconds for a header of nothing else.
    """
    # Of two marks in a row it would make one.
    marked = text.replace(b"=", b" ").replace(b"%%", b" %").replace(b"%%", b" %").replace(b"%", b"=")
    return binascii.a2b_qp(marked).decode("latin-1")


def stands_in(path: str, query: str) -> bool:
    """Whether a credential of ours stands in a target, which goes into the logs of whatever is behind.

    A token alone may be somebody else's, and a callback's address have it: it counts where clients put ours.
    """
    if "_" in path and _OURS.search(path):
        return True
    if not query:
        return False
    plain = _readable(query.encode()) if "%" in query else query
    if _OURS.search(plain):
        return True
    return "eyJ" in plain and any(map(_has_token, _in_credentials_place(query)))


def has_other(query: str) -> bool:
    """Whether a query has a credential besides the ticket that was taken out of it, of whoever's."""
    return any(_in_credentials_place(query))


def _in_credentials_place(query: str) -> Iterator[str]:
    """What stands where clients put a credential into a query, however the name is written."""
    pairs = (pair.partition("=") for pair in query.split("&"))
    return (unquote(value) for name, _, value in pairs if unquote(name).lower() in QUERY_NAMES)


_TELLING = frozenset({b"referer", b"user-agent"})
"""Where a credential stands that nobody sends there on purpose, an access token too."""


def without_credentials(lines: list[bytes]) -> list[bytes]:
    """The lines in which no credential of ours stands: an address that a page was called by, what was pasted.

    A token elsewhere may be somebody else's, and meant for what is behind.
    """
    if not _may_tell(b"".join(lines)):  # nearly all
        return lines
    return [line for line in lines if not (_may_tell(line) and _tells(line))]


def _may_tell(text: bytes) -> bool:
    return b"_" in text or b"eyJ" in text or b"%" in text


def _tells(line: bytes) -> bool:
    text = _readable(line) if b"%" in line else line.decode("latin-1")
    if "_" in text and _OURS.search(text):
        return True
    return "eyJ" in text and line.partition(b":")[0].lower() in _TELLING and _has_token(text)


def _checked(prefix: str, randomness: bytes) -> str:
    if len(randomness) != RANDOM_BYTES:
        raise ValueError(f"a key takes exactly {RANDOM_BYTES} random bytes")
    body = prefix + _base62(int.from_bytes(randomness), _RANDOM_CHARACTERS)
    return body + _checksum(body)


def _checksum(body: str) -> str:
    return _base62(binascii.crc32(body.encode("ascii")), _CHECK_CHARACTERS)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))
