"""The opening of a WebSocket (RFC 6455 section 4): what a client must send, what an upstream may answer."""

import base64
import binascii
import hashlib
from dataclasses import dataclass

from policies.http.credentials import QUERY_NAMES, has_key, has_other
from policies.http.headers import AnswerHead, RequestHead
from policies.http.subprotocols import Offer
from policies.http.tickets import is_reusable, is_ticket
from policies.http.verdict import Deny, Refusal

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TCHAR = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A client's wish for a WebSocket, found well-formed."""

    key: bytes
    offer: Offer
    query: str
    """The query without a ticket."""
    ticket: bytes
    """The ticket that stood in the query; empty without."""

    @classmethod
    def read(cls, head: RequestHead, method: str, version: tuple[int, int], query: str) -> "Upgrade | Deny":
        """Judge a request that asks for ``Upgrade: websocket``."""
        if method != "GET" or version != (1, 1) or b"upgrade" not in head.connection:
            return Deny(refusal=Refusal.MALFORMED_HANDSHAKE)
        if head.transfer_encodings or any(int(length) for length in head.content_lengths) or head.expect:
            return Deny(refusal=Refusal.MALFORMED_HANDSHAKE, detail="It carries no body.")
        fields = head.websocket
        if [value for name, value in fields if name == b"sec-websocket-version"] != [b"13"]:
            return Deny(refusal=Refusal.WEBSOCKET_VERSION)
        keys = [value for name, value in fields if name == b"sec-websocket-key"]
        if len(keys) != 1 or not _is_key(keys[0]):
            return Deny(refusal=Refusal.MALFORMED_HANDSHAKE, detail="Sec-WebSocket-Key is 16 bytes in base64, once.")
        offer = Offer.read(fields)
        if not all(map(_is_plain, offer.passing)):
            return Deny(refusal=Refusal.MALFORMED_HANDSHAKE, detail="A subprotocol is a token, and never a bare key.")
        ticket, rest = _ticket(query)
        if has_key(rest.encode()):
            return Deny(refusal=Refusal.CREDENTIAL_IN_QUERY)
        if ticket and has_other(rest):
            return Deny(refusal=Refusal.CONFLICTING_CREDENTIALS)
        return cls(keys[0], offer, rest, ticket)

    @property
    def lines(self) -> bytes:
        """The handshake towards the upstream, each line with its end.

        No extension is offered: a frame then is as long as it says, and its text can be read.
        """
        lines = [
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: " + self.key,
        ]
        if self.offer.passing:
            lines.append(b"Sec-WebSocket-Protocol: " + b", ".join(self.offer.passing))
        return b"\r\n".join([*lines, b""])

    def answer(self, head: AnswerHead) -> list[bytes]:
        """The handshake towards the client, once the upstream has agreed by a 101. Raises ValueError when it erred."""
        fields = head.websocket
        accept = base64.b64encode(hashlib.sha1(self.key + _GUID).digest())  # noqa: S324  RFC 6455 section 4.2.2
        if [value for name, value in fields if name == b"sec-websocket-accept"] != [accept]:
            raise ValueError("its Sec-WebSocket-Accept does not answer the key")
        if any(name == b"sec-websocket-extensions" and value for name, value in fields):
            raise ValueError("it agreed to an extension that was not offered")
        chosen = [value for name, value in fields if name == b"sec-websocket-protocol"]
        if len(chosen) > 1 or (chosen and chosen[0] not in self.offer.passing):
            raise ValueError("it selected a subprotocol that was not offered")
        lines = [b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Accept: " + accept]
        selected = chosen[0] if chosen else self.offer.own
        if selected:
            lines.append(b"Sec-WebSocket-Protocol: " + selected)
        return lines


def protocols_without_credentials(head: RequestHead) -> bytes | None:
    """What an upstream may see of the subprotocols that a client offers; None when it offers none."""
    if not any(name == b"sec-websocket-protocol" for name, _ in head.websocket):
        return None
    return b", ".join(name for name in Offer.read(head.websocket).passing if _is_plain(name))


def _is_plain(protocol: bytes) -> bool:
    """Whether it is a token (RFC 9110 section 5.6.2) with nothing like a key in it."""
    return _TCHAR.issuperset(protocol) and not has_key(protocol)


def _is_key(value: bytes) -> bool:
    try:
        return len(value) == 24 and len(base64.b64decode(value, validate=True)) == 16
    except binascii.Error:
        return False


def _ticket(query: str) -> tuple[bytes, str]:
    """The ticket in a query, and the query without it; everything else stays as it came.

    One that is good more than once is none here: it would be in every log on the way while it is.
    """
    if not query:
        return b"", query
    ticket, kept = b"", []
    for pair in query.split("&"):
        name, _, text = pair.partition("=")
        value = text.encode()
        if not ticket and name in QUERY_NAMES and is_ticket(value) and not is_reusable(value):
            ticket = value
        else:
            kept.append(pair)
    return ticket, "&".join(kept)


def from_same_origin(head: RequestHead, public: bytes) -> bool:
    """Whether a browser's page of ours asks (RFC 6455 section 10.2).

    A cookie travels with every page's upgrade, so who is identified by one must say where the page came from; ``null``
    and silence are no answer. ``public``: the gateway's own origin, ``https://host[:port]``; where that is not known
    (empty), the host that was asked, for which the browser had the cookie.
    """
    origins = [value.strip().lower() for name, value in head.raw if name.lower() == b"origin"]
    if public:
        return origins == [public.lower()]
    host = head.hosts[0].lower() if head.hosts else b""
    return origins in ([b"http://" + host], [b"https://" + host])
