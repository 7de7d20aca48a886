"""The page that a person sees where the gateway itself says no: whole in one answer, with nothing from elsewhere.

What stands behind the gateway may be what has failed, the portal included. So the page carries its style with it, named
in its policy by digest, and the workers need no template engine. The look is the portal's; a test compares them.
"""

import base64
import hashlib
import html
from pathlib import Path
from string import Template

from policies.http.browsers import LOGIN
from policies.http.verdict import Deny

TITLES = {
    401: "Please sign in",
    403: "Not allowed",
    404: "Not found",
    405: "Wrong method",
    408: "Too slow",
    409: "Not as things are",
    410: "This link has ended",
    413: "Too large",
    415: "Wrong kind of content",
    422: "Please correct",
    429: "Too many requests",
    431: "Too much in the header",
    500: "Something went wrong",
    502: "The service cannot be reached",
    503: "Not now",
    504: "The service took too long",
}
"""The title of a page that refuses, by status; another one is just :data:`OTHER`."""
OTHER = "Refused"

_SOURCE = Path(__file__).with_suffix(".html").read_text()
_PAGE = Template(_SOURCE)
_STYLE = _SOURCE.partition("<style>")[2].partition("</style>")[0]
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
LINES = b"\r\n".join(
    (
        b"Content-Type: text/html; charset=utf-8",
        f"Content-Security-Policy: default-src 'none'; style-src 'sha256-{_DIGEST}'; img-src data:; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'".encode(),
        b"X-Content-Type-Options: nosniff",
        b"X-Frame-Options: DENY",
        b"Referrer-Policy: same-origin",
    )
)
"""The header lines that belong to the page."""
_ELSEWHERE = {401: (LOGIN, "Sign in"), 403: ("/account", "Your account"), 404: ("/account", "Your account")}
"""Where a person goes on, by status. To repeat the request is the browser's own button, which knows what it sent."""


def page(deny: Deny, request_id: str, retry_after: int | None, pages: str | None = "") -> bytes:
    """What happened, what to do next, and what to tell the operator. ``retry_after``: seconds, where it passes.

    ``pages`` is what stands before the paths of the portal's pages, None where it is not known.
    """
    status = deny.refusal.status
    where, name = _ELSEWHERE.get(status, ("", "")) if pages is not None else ("", "")
    return _PAGE.substitute(
        title=TITLES.get(status, OTHER),
        message=html.escape(for_people(deny.message, retry_after)),
        next=f'<p><a class="next" href="{html.escape(f"{pages}{where}")}">{name}</a></p>' if where else "",
        status=status,
        code=deny.refusal.code,
        request_id=html.escape(request_id),
    ).encode()


def for_people(message: str, retry_after: int | None) -> str:
    """A refusal's sentences without the name of a header field, which a person cannot see."""
    if retry_after is None:
        return message
    return message.replace("as long as Retry-After says", in_words(retry_after))


def in_words(seconds: int) -> str:
    """A wait as people say it, rounded up: ``1 second``, ``40 seconds``, ``3 minutes``, ``2 hours``."""
    for size, unit in ((3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{-(-seconds // size)} {unit}"
    return "1 second" if seconds == 1 else f"{seconds} seconds"
