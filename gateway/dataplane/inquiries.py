"""An aiohttp request becomes an Inquiry, or is refused because it could be read in more than one way.

Also the one module that reads forwarding headers, and only from peers that the operator trusts (oauth2-proxy
CVE-2026-76835: its default trust was everybody).
"""

import ipaddress
import os
import re
import secrets
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from gateway.dataplane.exchange import Caller
from gateway.dataplane.remembered import Remembered
from policies.http.cors import Cors
from policies.http.credentials import Conflict, Nothing, Presented, present, redacted, without_credentials
from policies.http.headers import RawHeaders, RequestHead, first, without_folded
from policies.http.inquiry import Inquiry, Target, is_plain_host
from policies.http.questions import Dialect
from policies.http.verdict import Deny, Refusal
from policies.networks import Network, address

_LONGEST = 4_096
"""Bytes of a header that is worth keeping for the whole worker."""
_LENGTH_DIGITS = 18
"""Digits of the longest ``Content-Length`` that is read as a number; no route takes as much."""
_VIA = b"Via: %d.%d tahoe-gateway"
"""Behind those of earlier hops, which pass as they are (RFC 9110 section 7.6.3: a gateway must, towards the origin)."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


class TrustedProxies:
    """The addresses whose forwarding headers are believed. Empty: nobody's.

    ``files``: whoever opens a socket file of ours was let in by the file system, and is believed.
    """

    def __init__(self, networks: Sequence[Network], *, files: bool = False) -> None:
        self._networks = tuple(networks)
        self._files = files
        self._known: dict[str, bool] = {}

    def __contains__(self, peer: str) -> bool:
        if not self._networks and not self._files:
            return False
        known = self._known.get(peer)
        if known is None:
            known = self._judge(peer)
            if len(self._known) < 10_000:
                self._known[peer] = known
        return known

    def _judge(self, peer: str) -> bool:
        if peer == "unix":
            return True  # whoever can open our socket file was let in by the file system
        plain = address(peer)
        return plain is not None and any(ipaddress.ip_address(plain) in network for network in self._networks)

    def client_address(self, peer: str, forwarded_for: bytes) -> str:
        """The right-most address of ``X-Forwarded-For`` that is not a trusted proxy's; the peer if it is not trusted.

        An entry that is no address ends the walk at the last address that was one: nothing left of it is believed.
        """
        best = address(peer) or peer
        if peer not in self:
            return best
        for entry in reversed(forwarded_for.split(b",")):
            said = address(entry.decode("latin-1"))
            if said is None:
                return best
            best = said
            if best not in self:
                return best
        return best


class RequestIds:
    """Request ids of our own: UUIDv7 (RFC 9562 section 5.7), the random part counted up from a random start.

    Unguessable they need not be; unique and sortable by time they are, and cheap: only the last group is written anew
    while the millisecond is the same.
    """

    def __init__(self) -> None:
        self._middle = f"7{secrets.token_hex(2)[:3]}-8{secrets.token_hex(2)[:3]}"
        self._count = int.from_bytes(os.urandom(6))
        self._ms = 0
        self._head = ""

    def make(self, now_ms: int) -> str:
        """A new id; ``now_ms`` are milliseconds since the Unix epoch."""
        if now_ms != self._ms:
            self._ms = now_ms
            stamp = f"{now_ms:012x}"
            self._head = f"{stamp[:8]}-{stamp[8:]}-{self._middle}-"
        self._count = (self._count + 1) & 0xFFFF_FFFF_FFFF
        return f"{self._head}{self._count:012x}"


def usable_request_id(sent: bytes) -> str | None:
    """A client's request id when it is harmless to repeat in headers and logs, else None."""
    if not sent or len(sent) > 64:
        return None
    text = sent.decode("latin-1")
    return text if _REQUEST_ID.fullmatch(text) else None


@dataclass(slots=True)
class Known:
    """What one header amounts to.

    A connection sends the same header again and again: it is worked out once, and found again by comparing bytes.
    """

    head: RequestHead
    version: tuple[int, int]
    presented: Presented | Nothing | Conflict
    fault: Deny | None
    caller: Caller
    passing: bytes
    """What goes to the upstream of it, with the ``X-Forwarded-*`` lines, joined and with its last line end."""
    cors: tuple[bytes, ...] = ()
    """What the answers to it say to the browser of another site's page."""
    takes_interim: bool = False
    """Whether answers before the answer are for its sender. HTTP/1.0 knows none (RFC 9110 section 15.2); before its
    version 1.29 nginx takes a 103 for the answer, and waits for its end: who can be told to be a proxy gets none."""
    question: tuple[Dialect, Inquiry | Deny] | None = None
    """What it asks as a proxy's question, where a header says it, and the dialect it was read in."""


def request_line(inquiry: Inquiry) -> bytes:
    """What an upstream is asked, with its line end: the path and query that were judged."""
    target = f"{inquiry.path}?{inquiry.query}" if inquiry.query else inquiry.path
    return b"%b %b HTTP/1.1\r\n" % (inquiry.method.encode("ascii"), target.encode("ascii"))


def request_head(
    line: bytes, host_line: bytes, passing: bytes, id_line: bytes, framing: bytes, identity: bytes
) -> bytes:
    """The whole header that an upstream gets: the lines that pass, and last what only we may say.

    Each part but ``id_line`` with its own line ends.
    """
    return b"%b%b%b%b\r\n%b%b\r\n" % (line, host_line, passing, id_line, framing, identity)


_FOR_THE_PORTAL = frozenset({b"authorization", b"x-api-key", b"cookie"})


def portal_lines(known: Known) -> bytes:
    """What the portal gets beside what any upstream gets: the credentials, and the client's address as we know it.

    ``X-Client-IP`` is among the names that no client can send on.
    """
    lines = [name + b": " + value for name, value in known.head.raw if name.lower() in _FOR_THE_PORTAL]
    return b"\r\n".join([*lines, b"X-Client-IP: " + known.caller.address.encode(), b""])


class Reader:
    """Reads questions. ``exact_paths`` are plain by construction and need no second look.

    ``withheld``: headers, folded, that carry our own credential to an upstream and never a client's value.
    ``session_cookie``: the name of the one that holds a browser's session; empty to take none.
    """

    def __init__(
        self,
        exact_paths: frozenset[str],
        trusted: TrustedProxies,
        withheld: AbstractSet[bytes] = frozenset(),
        session_cookie: str = "",
        cors: Cors | None = None,
    ) -> None:
        self._exact_paths = exact_paths
        self.cors = cors or Cors()
        self._trusted = trusted
        self._withheld = withheld
        self._session_cookie = session_cookie
        self._remembered: Remembered[tuple[str, tuple[int, int], RawHeaders], Known] = Remembered()

    def recall(self, raw: RawHeaders, version: tuple[int, int], peer: str) -> Known:
        """As :meth:`know`, but a trusted proxy's header that comes again on any of its connections is worked out once.

        Those connections carry the requests of all its clients in turn. An upgrade is another one each time.
        """
        if peer not in self._trusted:
            return self.know(raw, version, peer)
        place = (peer, version, raw)
        known = self._remembered.find(place)
        if known is None:
            known = self.know(raw, version, peer)
            if not known.head.upgrade and _size(raw) <= _LONGEST and self._remembered.has_come(place):
                self._remembered.keep(place, known)
        return known

    def know(self, raw: RawHeaders, version: tuple[int, int], peer: str) -> Known:
        """Work a header out."""
        head = RequestHead.walk(raw)
        head.pass_only(without_credentials(head.lines))
        if self._withheld:
            head.pass_only(without_folded(head.lines, self._withheld))
        trusted = peer in self._trusted
        return Known(
            head=head,
            version=version,
            presented=present(head, self._session_cookie),
            fault=_fault(head, version),
            caller=Caller(
                self._trusted.client_address(peer, b",".join(head.forwarded_for)),
                redacted(head.user_agent[:256].decode("utf-8", "replace")),
            ),
            passing=b"\r\n".join([*head.lines, *_forwarding(head, peer, trusted=trusted), _VIA % version, b""]),
            cors=self.cors.lines(raw),
            takes_interim=version == (1, 1) and not trusted and not head.forwarded_for,
        )

    def read(self, method: str, raw: str, known: Known) -> Inquiry | Deny:
        """The question of the proxy door, from the target as received and the header as known."""
        if known.fault is not None:
            return known.fault
        if raw in self._exact_paths:
            return Inquiry(method, raw, "", known.head, known.presented)
        target = Target.parse(raw)
        if target is None:
            return Deny(refusal=Refusal.AMBIGUOUS_TARGET)
        return Inquiry(method, target.path, target.query, known.head, known.presented)


def _size(raw: RawHeaders) -> int:
    return sum(len(name) + len(value) for name, value in raw)


def _fault(head: RequestHead, version: tuple[int, int]) -> Deny | None:
    """What llhttp lets through and we do not: other versions, odd framing, Host missing, twice or odd."""
    if version not in ((1, 1), (1, 0)):
        return Deny(refusal=Refusal.UNSUPPORTED_HTTP_VERSION)
    if head.transfer_encodings and (
        version != (1, 1)
        or head.content_lengths
        or [v.strip().lower() for v in head.transfer_encodings] != [b"chunked"]
    ):
        return Deny(refusal=Refusal.MALFORMED_REQUEST)
    if len(head.content_lengths) > 1 or not all(v.isdigit() for v in head.content_lengths):
        return Deny(refusal=Refusal.MALFORMED_REQUEST)
    # 2^64 - 1 means "no length" to aiohttp's C parser, and a number of 4 300 digits is an error to int().
    if head.content_lengths and len(head.content_lengths[0]) > _LENGTH_DIGITS:
        huge = len(head.content_lengths[0].lstrip(b"0")) > _LENGTH_DIGITS
        return Deny(refusal=Refusal.BODY_TOO_LARGE if huge else Refusal.MALFORMED_REQUEST)
    if not head.hosts and version == (1, 0):
        return None
    if len(head.hosts) != 1 or not is_plain_host(head.hosts[0].decode("latin-1")):
        return Deny(refusal=Refusal.INVALID_HOST)
    return None


def _forwarding(head: RequestHead, peer: str, *, trusted: bool) -> list[bytes]:
    """The three lines that we set; what the peer said of earlier hops is repeated only if it is trusted."""
    chain, proto, host = (address(peer) or peer).encode(), b"http", head.hosts[0] if head.hosts else b""
    if trusted:
        if head.forwarded_for:
            here = () if peer == "unix" else (chain,)  # a socket file has no address, and readers take each for one
            chain = b", ".join((*head.forwarded_for, *here))
        if first(head.raw, b"x-forwarded-proto").lower() == b"https":
            proto = b"https"
        forwarded_host = first(head.raw, b"x-forwarded-host")
        if is_plain_host(forwarded_host.decode("latin-1")):
            host = forwarded_host
    return [b"X-Forwarded-For: " + chain, b"X-Forwarded-Proto: " + proto, b"X-Forwarded-Host: " + host]
