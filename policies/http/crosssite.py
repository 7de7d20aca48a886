"""Whether a browser's own page sent a request, where the credential is a cookie, which any page can make it send.

Fetch Metadata first, as Go's ``http.CrossOriginProtection`` reads it; ``Origin`` (RFC 6454 section 7) where a browser
says no more than that. A browser that says neither could be anybody's. ``null`` is an origin too, and never ours.
"""

from collections.abc import Collection

from policies.http.headers import RequestHead, all_of

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OURS = frozenset({b"same-origin", b"none"})


def from_own_page(method: str, head: RequestHead, hosts: Collection[bytes]) -> bool:
    """For requests that change something and for WebSockets; every other one is let pass.

    ``hosts``: what else than the request's own Host is ours, as ``host[:port]`` in lower case. A WebSocket always
    names its origin, because no rule of CORS keeps other pages from reading it (CVE-2020-14368 and many after it).
    """
    websocket = bool(head.upgrade)
    if method in _SAFE and not websocket:
        return True
    sites, origins = all_of(head.raw, b"sec-fetch-site"), all_of(head.raw, b"origin")
    if len(sites) > 1 or len(origins) > 1 or not _OURS.issuperset(sites):
        return False
    if origins:
        return _host(origins[0]) in {*hosts, *(host.lower() for host in head.hosts)}
    return bool(sites) and not websocket


def _host(origin: bytes) -> bytes:
    scheme, _, rest = origin.strip().lower().partition(b"://")
    return rest if scheme in (b"http", b"https") else b""
