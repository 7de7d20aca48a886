"""The question, as both doors ask it, and the rule that what is judged is what is forwarded, byte for byte.

Most gateway advisories come from two views of one path: dot segments (GHSA-7rh7-c77v-6434, CVE-2026-33494), escapes
(CVE-2026-95811), backslashes and encoded slashes (CVE-2021-29492), fragments (GHSA-pxq7-h93f-9jrg), path parameters
(CVE-2026-73551). We do not normalise: normalising is the second view. A target that anybody could read differently is
refused, and the very string that was judged goes upstream.
"""

import re
from dataclasses import dataclass

from policies.http.credentials import Conflict, Nothing, Presented
from policies.http.headers import RequestHead

# A segment: pchar of RFC 3986 without ';', where an escape is needed (not of an unreserved character), is no
# separator ('/' '\\'), no control and no NUL, nor any of these in overlong UTF-8 (CVE-2008-2938: Tomcat read %c0%ae as
# a dot). Segments are not empty, save the last one, and not dots alone.
_ESCAPE = (
    r"%(?!2[dDeEfF]|5[cCfF]|7[eEfF]|3[0-9bB]|4[1-9a-fA-F]|5[0-9aA]|6[1-9a-fA-F]|7[0-9aA]|[01][0-9a-fA-F]"
    r"|[cC][01]|[eE]0%[89][0-9a-fA-F]|[fF]0%8[0-9a-fA-F])[0-9a-fA-F]{2}"
)
_SEGMENT = rf"(?:[A-Za-z0-9\-._~!$&'()*+,=:@]|{_ESCAPE})+"
_PATH = re.compile(rf"/(?:(?!\.{{1,2}}(?:/|$)){_SEGMENT}/)*(?!\.{{1,2}}$)(?:{_SEGMENT})?")
_QUERY = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?\[\]|{}\"<>^`\\]|%[0-9a-fA-F]{2})*")
# reg-name, IPv4 or bracketed IPv6, optional port up to 65535 (RFC 9112 section 3.2); stricter than the RFC's reg-name.
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?)*\.?|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?:[0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?"
)
MAX_TARGET = 8_192


@dataclass(frozen=True, slots=True)
class Target:
    """A target that has one reading. ``path`` and ``query`` are raw: escapes are never decoded."""

    path: str
    query: str

    @classmethod
    def parse(cls, raw: str) -> "Target | None":
        """Split an origin-form target (RFC 9112 section 3.2.1); None when it is in another form or ambiguous."""
        path, mark, query = raw.partition("?")
        if len(raw) > MAX_TARGET or not is_plain_path(path) or (mark and not is_plain_query(query)):
            return None
        return cls(path, query)


def is_plain_path(path: str) -> bool:
    """Whether every server would read this path alike. A NUL, a space or a non-ASCII character fails as well."""
    return _PATH.fullmatch(path) is not None


def plain_reading(path: str) -> str:
    """A plain path as a server may compare it (RFC 3986 section 6.2.2). Never forwarded.

    An escape of what could stand for itself is undone, every other one is in upper case.
    """
    return re.sub(r"%[0-9a-fA-F]{2}", lambda escape: _plain_escape(escape[0]), path)


def _plain_escape(escape: str) -> str:
    character = chr(int(escape[1:], 16))
    return character if character in "!$&'()*+,=:@" else escape.upper()


def is_plain_query(query: str) -> bool:
    """Whether the query is visible ASCII with whole escapes and no fragment; its meaning is the upstream's business."""
    return _QUERY.fullmatch(query) is not None


def is_plain_host(host: str) -> bool:
    """Whether a Host value is a plain ``name[:port]``, and so safe to repeat in ``X-Forwarded-Host``."""
    return _HOST.fullmatch(host) is not None


@dataclass(slots=True)
class Inquiry:
    """One question. Immutable by use; not frozen, because a frozen one costs a microsecond more to make.

    ``path`` is plain. ``head`` and the credential presented in it are the request's; for forward-auth the
    subrequest's, which repeats the client's.
    """

    method: str
    path: str
    query: str
    head: RequestHead
    presented: Presented | Nothing | Conflict
