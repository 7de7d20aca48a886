"""The header algebra of both directions: what is dropped, what passes, and the identity that only we may set.

Identity headers are deleted by normalised name, then set (Caddy GHSA-7r4p-vjf4-gxv4; the underscore spellings are
oauth2-proxy GHSA-vjrc-mh2v-45x6: WSGI, CGI and PHP read ``X_Tenant_ID`` as ``X-Tenant-ID``). Hop-by-hop fields are
removed by name and by ``Connection``, and ours are added last, so that ``Connection: X-Tenant-ID`` removes nothing of
ours (Traefik CVE-2024-45410). Framing is never copied: the relay writes its own (RFC 9112 section 6).

A header is walked once. What a name means is looked up by its exact spelling in a table that remembers; only a
spelling seen for the first time is folded and judged.
"""

import enum
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache

from policies.identity.principals import Principal

RawHeaders = Sequence[tuple[bytes, bytes]]

ASSERTION = "X-Gateway-Assertion"
IDENTITY = ("X-Tenant-ID", "X-User-ID", "X-API-Key-ID", "X-Auth-Scopes", "X-Auth-Roles", ASSERTION)
"""What tells the upstream who is asking. Forward-auth always emits every one, empty where there is no value."""

_FORWARDED = (
    b"forwarded", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-prefix",
    b"x-forwarded-uri", b"x-forwarded-method", b"x-forwarded-scheme", b"x-real-ip", b"x-original-url",
    b"x-original-uri", b"x-original-method", b"x-rewrite-url", b"x-http-method-override", b"x-http-method",
    b"x-method-override",
)  # fmt: skip
_CLAIMS = (
    b"remote-user", b"x-remote-user", b"x-webauth-user", b"x-authenticated-user", b"x-forwarded-user", b"x-user",
    b"true-client-ip", b"x-client-ip", b"cf-connecting-ip", b"proxy",
)  # fmt: skip
"""Who somebody else's gateway says is asking, or from where; ``Proxy`` is httpoxy (CVE-2016-5385)."""
_FOREIGN_KEYS = (b"api-key", b"apikey", b"xi-api-key", b"x-gladia-key")
"""Where clients of Azure, Kong and APISIX, ElevenLabs and Gladia put their key. None of them reaches the upstream."""
CREDENTIALS = ("Authorization", "X-API-Key", "Cookie", *(name.decode() for name in _FOREIGN_KEYS))
"""Where a client's credential may stand: what an upstream never gets, whoever carries the request there."""
_HOP_BY_HOP = (
    b"keep-alive", b"proxy-connection", b"te", b"trailer", b"http2-settings", b"proxy-authenticate",
    b"proxy-authorization",
)  # fmt: skip
_HANDSHAKE = (
    b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-protocol", b"sec-websocket-extensions",
    b"sec-websocket-accept",
)  # fmt: skip
"""Each side of a stream has a handshake of its own (RFC 6455 section 4), and the protocols may hold a credential."""
_OURS = (b"x-auth-", b"x-internal-", b"x-envoy-", b"x-forwarded-", b"x-original-")
"""Families that upstreams and neighbouring proxies trust; a client has no business in them."""

_OWN_COOKIES = (b"__host-", b"tahoe_")
"""How names of the gateway's own cookies begin: over https, and over plain http, where a browser takes no __Host-."""

_MARKS = b"_.!#$%&'*+^`|~"
"""Of what a name may hold beside letters, digits and hyphens (RFC 9110 section 5.6.2), all: lighttpd and CGI before
Apache 2.4 make an underscore of each."""
_FOLD = bytes.maketrans(_MARKS, b"-" * len(_MARKS))
_LONGEST_BODY = 2**63 - 1
"""In bytes: beyond it the numbers of many a client begin anew, below zero."""
_AUTHORITY_END = re.compile(rb"[/?#]")
_REMEMBERED = 2_048
"""How many spellings a table remembers, so that a client cannot grow it without end."""


class _Kind(enum.Enum):
    """What becomes of a field."""

    PASS = enum.auto()
    DROP = enum.auto()
    CONNECTION = enum.auto()
    HOST = enum.auto()
    COOKIE = enum.auto()
    AUTHORIZATION = enum.auto()
    API_KEY = enum.auto()
    FOREIGN_KEY = enum.auto()
    CONTENT_LENGTH = enum.auto()
    TRANSFER_ENCODING = enum.auto()
    CONTENT_TYPE = enum.auto()
    CONTENT_ENCODING = enum.auto()
    EXPECT = enum.auto()
    UPGRADE = enum.auto()
    USER_AGENT = enum.auto()
    REQUEST_ID = enum.auto()
    FORWARDED_FOR = enum.auto()
    SET_COOKIE = enum.auto()
    DATE = enum.auto()
    LOCATION = enum.auto()
    WEBSOCKET = enum.auto()


_PASS, _DROP = _Kind.PASS, _Kind.DROP


class _Table:
    """Tells a field's kind from its name, as spelt."""

    def __init__(self, kinds: Mapping[bytes, _Kind], families: tuple[bytes, ...]) -> None:
        self._kinds = kinds
        self._families = families
        self.known: dict[bytes, _Kind] = {}

    def learn(self, name: bytes) -> _Kind:
        """Judge a spelling, and remember it while there is room.

        A name that is ours only after folding is dropped: it must not act as the real one does.
        """
        lower = name.lower()
        kind = self._kinds.get(lower)
        if kind is None:
            loose = folded(lower)
            ours = loose in self._kinds or loose.startswith(self._families)
            kind = _Kind.DROP if ours else _Kind.PASS
        if len(self.known) < _REMEMBERED:
            self.known[name] = kind
        return kind


_DROPPED = dict.fromkeys((*_HOP_BY_HOP, *(name.lower().encode() for name in IDENTITY)), _Kind.DROP)
_REQUEST = _Table(
    _DROPPED
    | dict.fromkeys((*_FORWARDED, *_CLAIMS), _Kind.DROP)
    | dict.fromkeys(_FOREIGN_KEYS, _Kind.FOREIGN_KEY)
    | {
        b"connection": _Kind.CONNECTION,
        b"host": _Kind.HOST,
        b"cookie": _Kind.COOKIE,
        b"authorization": _Kind.AUTHORIZATION,
        b"x-api-key": _Kind.API_KEY,
        b"content-length": _Kind.CONTENT_LENGTH,
        b"transfer-encoding": _Kind.TRANSFER_ENCODING,
        b"content-type": _Kind.CONTENT_TYPE,
        b"content-encoding": _Kind.CONTENT_ENCODING,
        b"expect": _Kind.EXPECT,
        b"upgrade": _Kind.UPGRADE,
        b"user-agent": _Kind.USER_AGENT,
        b"x-request-id": _Kind.REQUEST_ID,
        b"x-forwarded-for": _Kind.FORWARDED_FOR,
    } | dict.fromkeys(_HANDSHAKE, _Kind.WEBSOCKET),
    _OURS,
)  # fmt: skip
_ANSWER = _Table(
    _DROPPED | {
        b"connection": _Kind.CONNECTION,
        b"upgrade": _Kind.DROP,
        b"x-request-id": _Kind.DROP,
        b"content-length": _Kind.CONTENT_LENGTH,
        b"transfer-encoding": _Kind.TRANSFER_ENCODING,
        b"content-type": _Kind.CONTENT_TYPE,
        b"content-encoding": _Kind.CONTENT_ENCODING,
        b"set-cookie": _Kind.SET_COOKIE,
        b"date": _Kind.DATE,
        b"location": _Kind.LOCATION,
        b"content-location": _Kind.LOCATION,
        b"refresh": _Kind.LOCATION,
        b"link": _Kind.LOCATION,
    } | dict.fromkeys(_HANDSHAKE, _Kind.WEBSOCKET),
    (b"x-auth-", b"x-internal-"),
)  # fmt: skip


_REPEATABLE = {
    _Kind.HOST: "hosts",
    _Kind.COOKIE: "cookies",
    _Kind.AUTHORIZATION: "authorizations",
    _Kind.API_KEY: "api_keys",
    _Kind.FOREIGN_KEY: "foreign_keys",
    _Kind.CONTENT_LENGTH: "content_lengths",
    _Kind.TRANSFER_ENCODING: "transfer_encodings",
    _Kind.FORWARDED_FOR: "forwarded_for",
}
_NOTED = {
    _Kind.CONTENT_TYPE: "content_type",
    _Kind.UPGRADE: "upgrade",
    _Kind.USER_AGENT: "user_agent",
    _Kind.REQUEST_ID: "request_id",
}
_PASSED_AND_NOTED = frozenset({_Kind.CONTENT_TYPE, _Kind.USER_AGENT})


@dataclass(slots=True)
class RequestHead:
    """A client's header, walked once. ``lines`` pass on to the upstream; the rest is what the gateway itself reads.

    Values are raw bytes, empty where the field is absent; of a field that must not repeat, the count or list tells.
    """

    raw: RawHeaders
    lines: list[bytes] = field(default_factory=list)
    hosts: list[bytes] = field(default_factory=list)
    cookies: list[bytes] = field(default_factory=list)
    authorizations: list[bytes] = field(default_factory=list)
    api_keys: list[bytes] = field(default_factory=list)
    foreign_keys: list[bytes] = field(default_factory=list)
    content_lengths: list[bytes] = field(default_factory=list)
    transfer_encodings: list[bytes] = field(default_factory=list)
    forwarded_for: list[bytes] = field(default_factory=list)
    connection: AbstractSet[bytes] = frozenset()
    content_type: bytes = b""
    content_encoding: bytes = b""
    expect: bytes = b""
    upgrade: bytes = b""
    user_agent: bytes = b""
    request_id: bytes = b""
    websocket: tuple[tuple[bytes, bytes], ...] = ()
    """The fields of a WebSocket handshake, names in lower case."""

    @classmethod
    def walk(cls, raw: RawHeaders) -> "RequestHead":
        """Sort every field to where it belongs."""
        head = cls(raw)
        lines, known = head.lines, _REQUEST.known
        for name, value in raw:
            kind = known.get(name) or _REQUEST.learn(name)
            if kind is _PASS:
                lines.append(name + b": " + value)
            elif kind is not _DROP:
                head._note(kind, name, value)
        if head.connection:
            head.pass_only(_without(lines, head.connection))
        return head

    def pass_only(self, lines: list[bytes]) -> None:
        """Leave the others of the lines out. What one of them says of the body is not believed: it is not heard behind.

        Audio that is l16 of 384 kHz to us alone costs a hundredth of what is transcribed.
        """
        if len(lines) < len(self.lines):
            names = {line.partition(b":")[0].lower() for line in lines}
            if b"content-type" not in names:
                self.content_type = b""
            if b"content-encoding" not in names:
                self.content_encoding = b""
        self.lines = lines

    def _note(self, kind: _Kind, name: bytes, value: bytes) -> None:
        """Keep what the gateway reads itself; some of it passes on as well."""
        if kind in _REPEATABLE:
            getattr(self, _REPEATABLE[kind]).append(value)
        elif kind is _Kind.CONNECTION:
            self.connection |= connection_tokens(value)
        elif kind is _Kind.WEBSOCKET:
            self.websocket += ((name.lower(), value),)
        elif kind is _Kind.CONTENT_ENCODING:
            self.content_encoding = _listed(self.content_encoding, value)
            self.lines.append(name + b": " + value)
        elif kind is _Kind.EXPECT:
            self.expect = _listed(self.expect, value)
        else:
            setattr(self, _NOTED[kind], value)
            if kind in _PASSED_AND_NOTED:
                self.lines.append(name + b": " + value)


@dataclass(slots=True)
class AnswerHead:
    """An upstream's header, walked once. Immutable by use: equal headers share one.

    ``lines`` pass on to the client: neither identity, nor our session cookie, nor framing. ``length`` is the declared
    one, or None; the parser has seen to it that it is a number and the only one.
    """

    lines: list[bytes] = field(default_factory=list)
    length: int | None = None
    chunked: bool = False
    content_type: bytes = b""
    content_encoding: bytes = b""
    is_dated: bool = False
    """Whether ``Date`` is among the lines; who passes it on must add one otherwise (RFC 9110 section 6.6.1)."""
    is_located: bool = False
    """Whether a line says where the client is sent, or where it would find the same, or more."""
    own_cookies: list[bytes] = field(default_factory=list)
    """The lines that set a cookie of the gateway's own: only the portal may."""
    websocket: tuple[tuple[bytes, bytes], ...] = ()
    """The fields of a WebSocket handshake, names in lower case."""

    @classmethod
    def walk(cls, lines: Sequence[bytes]) -> "AnswerHead":
        """Sort every line, as received and without its end, to where it belongs.

        Raises ValueError for a transfer coding other than chunked, once, and for a length that clients read as another.
        """
        head = cls()
        passing, known = head.lines, _ANSWER.known
        listed: AbstractSet[bytes] = frozenset()
        for line in lines:
            name, _, value = line.partition(b":")
            kind = known.get(name) or _ANSWER.learn(name)
            if kind is _PASS:
                passing.append(line)
            elif kind is _Kind.CONTENT_LENGTH:
                head.length = int(value)
                if head.length > _LONGEST_BODY:
                    raise ValueError("a length that no body has")
            elif kind is _Kind.CONTENT_TYPE:
                head.content_type = value.strip()
                passing.append(line)
            elif kind is _Kind.CONNECTION:
                listed |= connection_tokens(value)
            elif kind is not _DROP:
                head._note(kind, line, value)
        if listed:
            head.lines = _without(passing, listed)
            head.is_dated = head.is_dated and b"date" not in listed
        return head

    def _note(self, kind: _Kind, line: bytes, value: bytes) -> None:
        if kind is _Kind.TRANSFER_ENCODING:
            if self.chunked or value.strip().lower() != b"chunked":
                raise ValueError("a transfer coding that was not asked for")
            self.chunked = True
        elif kind is _Kind.CONTENT_ENCODING:
            self.content_encoding = _listed(self.content_encoding, value.strip())
            self.lines.append(line)
        elif kind is _Kind.DATE:
            self.is_dated = True
            self.lines.append(line)
        elif kind is _Kind.LOCATION:
            self.is_located = True
            self.lines.append(line)
        elif kind is _Kind.WEBSOCKET:
            self.websocket += ((line.partition(b":")[0].lower(), value.strip()),)
        elif value.lstrip(b"= \t").lower().startswith(_OWN_COOKIES):  # SET_COOKIE
            # The '=' too: a nameless cookie '=__Host-sid=1' comes back from some browsers as '__Host-sid=1'.
            self.own_cookies.append(line)
        else:
            self.lines.append(line)

    def found_at(self, hosts: AbstractSet[bytes]) -> None:
        """Let the client look here for what the upstream says is at the upstream: those names are for us alone.

        ``hosts``, in lower case, are the names that it is asked by.
        """
        self.lines = [_line_here(line, hosts) for line in self.lines]


_ADDRESSES = {
    b"location": re.compile(rb"()(.+)"),
    b"content-location": re.compile(rb"()(.+)"),
    b"refresh": re.compile(rb"(?i)\A([\d.\s]*+[;,]?\s*+(?:url\s*+=\s*+)?['\"]?)([^'\"]+)"),
    b"link": re.compile(rb"(<\s*)([^>]+)"),
}
"""Where addresses stand, and what before them: in Refresh as browsers read it, which only HTML has written down."""


def _line_here(line: bytes, hosts: AbstractSet[bytes]) -> bytes:
    """The line with what is at one of ``hosts`` found here."""
    name, _, value = line.partition(b":")
    addresses = _ADDRESSES.get(name.lower())
    if addresses is None:
        return line
    return name + b": " + addresses.sub(lambda found: found[1] + _found_here(found[2], hosts), value.strip())


def _found_here(location: bytes, hosts: AbstractSet[bytes]) -> bytes:
    """The path of an address at one of ``hosts``; what a browser would read as another host's stays as it is."""
    scheme, mark, rest = location.partition(b"://")
    host = _AUTHORITY_END.split(rest, 1)[0]
    path = rest[len(host) :]
    if not mark or scheme.lower() not in (b"http", b"https") or host.lower() not in hosts:
        return location
    if path[1:2] in (b"/", b"\\", b"\t"):
        return location
    return path if path[:1] == b"/" else b"/" + path


def _listed(before: bytes, value: bytes) -> bytes:
    """A list field over several lines is one list (RFC 9110 section 5.3): the last line is not all of it."""
    return b", ".join(filter(None, (before, value)))


def _without(lines: list[bytes], names: AbstractSet[bytes]) -> list[bytes]:
    return [line for line in lines if line.partition(b":")[0].lower() not in names]


def without_folded(lines: Sequence[bytes], names: AbstractSet[bytes]) -> list[bytes]:
    """The lines whose name is none of ``names`` (:func:`folded`), however it is spelt."""
    return [line for line in lines if folded(line.partition(b":")[0]) not in names]


def folded(name: bytes) -> bytes:
    """A field name as the loosest reader of it takes it."""
    return name.lower().translate(_FOLD)


@lru_cache(maxsize=256)
def connection_tokens(value: bytes) -> frozenset[bytes]:
    """The field names that a ``Connection`` value lists, in lower case (RFC 9110 section 7.6.1).

    ``close`` and ``keep-alive`` are options of the connection and name no field worth looking for.
    """
    return frozenset(token.strip().lower() for token in value.split(b",")) - {b"", b"close", b"keep-alive"}


def identity(principal: Principal, assertion: str = "") -> dict[str, str]:
    """Every identity header with its value, empty where the principal has none.

    Values are identifiers and names of ours, so they need no escaping; ``ascii_value`` is the belt to that brace.
    """
    values = (
        principal.tenant_id,
        principal.user_id,
        principal.key_id,
        " ".join(sorted(principal.scopes)),
        " ".join(principal.roles),
        assertion,
    )
    return dict(zip(IDENTITY, map(ascii_value, values), strict=True))


def identity_lines(principal: Principal) -> list[bytes]:
    """The identity headers that have a value, as lines for the upstream; the others stay deleted."""
    return [f"{name}: {value}".encode("ascii") for name, value in identity(principal).items() if value]


def ascii_value(value: str) -> str:
    """A value that is safe in a header line whatever it holds: visible ASCII and spaces, everything else ``?``."""
    return "".join(c if " " <= c <= "~" else "?" for c in value)


def single(headers: RawHeaders, name: bytes) -> bytes | None:
    """The value of a field that must not repeat; None when absent. Raises ValueError when it repeats."""
    values = [value for field, value in headers if field.lower() == name]
    if len(values) > 1:
        raise ValueError(f"{name.decode()} is there {len(values)} times")
    return values[0] if values else None


def all_of(headers: RawHeaders, name: bytes) -> list[bytes]:
    """Every value of a field."""
    return [value for field, value in headers if field.lower() == name]


def first(headers: RawHeaders, name: bytes) -> bytes:
    """The first value of a field, empty when absent."""
    return next((value for field, value in headers if field.lower() == name), b"")
