"""Which refused requests come from a person before a browser, and where that person can sign in."""

from urllib.parse import quote

from policies.http.headers import RequestHead, first
from policies.http.inquiry import Inquiry
from policies.http.verdict import Deny, Refusal

LOGIN = "/auth/login"
_RANGES = 64
"""How many media ranges of an Accept are looked at; browsers send eight."""

_SIGN_IN = frozenset({Refusal.MISSING_CREDENTIAL, Refusal.SESSION_ENDED})


def login_location(public_url: str, inquiry: Inquiry, deny: Deny) -> str | None:
    """Where another proxy is to send the browser: as :func:`login_path`, on our own public URL; None without one."""
    path = login_path(inquiry, deny)
    return f"{public_url}{path}" if public_url and path is not None else None


def login_path(inquiry: Inquiry, deny: Deny) -> str | None:
    """Where to send the browser: our own login page, and from there back. None when it is no browser's matter.

    Only a request that could be repeated after the login is sent there, and only one that carried no credential, or a
    session that is over: who sends a bad key must learn that. ``next`` is a path and a query, never another origin; its
    receiver checks again.
    """
    if deny.refusal not in _SIGN_IN or not navigates(inquiry):
        return None
    target = f"{inquiry.path}?{inquiry.query}" if inquiry.query else inquiry.path
    return f"{LOGIN}?next={quote(target, safe='/')}"


def navigates(inquiry: Inquiry) -> bool:
    """Whether a browser asks for a page in a way that can be repeated."""
    return inquiry.method in ("GET", "HEAD") and shows_pages(inquiry.head)


def shows_pages(head: RequestHead) -> bool:
    """Whether what is answered is put before a person's eyes, also after a form was sent.

    Such a request names ``text/html``; a bare ``*/*`` is a program's.
    """
    return (
        _takes_html(head)
        and not head.upgrade
        and first(head.raw, b"x-requested-with").lower() != b"xmlhttprequest"
        and first(head.raw, b"sec-fetch-mode").lower() in (b"", b"navigate")
    )


def head_so_far(beginning: bytes) -> RequestHead:
    """What a header that was not read to its end says of who sent it, by its first whole lines: no more than that."""
    lines = beginning.split(b"\r\n")[1:-1]
    pairs = (line.partition(b":") for line in lines)
    raw = [(name, value.strip(b" \t")) for name, colon, value in pairs if colon]
    return RequestHead(raw, upgrade=first(raw, b"upgrade"))


def path_so_far(beginning: bytes) -> str:
    """The path that the beginning of such a header asks for; empty where that cannot be told."""
    method, _, rest = beginning.partition(b"\r\n")[0].partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    return path.decode("ascii", "replace") if method.isalpha() and path.startswith(b"/") else ""


def _takes_html(head: RequestHead) -> bool:
    """Whether ``text/html`` is among the media ranges, and not with a weight of nought (RFC 9110 section 12.5.1)."""
    accepted = first(head.raw, b"accept").lower()
    for media_range in accepted.split(b",", _RANGES)[:_RANGES] if b"text/html" in accepted else ():
        kind, *parameters = (part.strip() for part in media_range.split(b";"))
        if kind == b"text/html":
            return not any(part.startswith(b"q=") and not part[2:].strip(b"0. ") for part in parameters)
    return False
