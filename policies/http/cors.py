"""Pages of other sites that may call the proxied routes from a browser (the Fetch standard, "CORS protocol").

Never with the browser's own credentials: a page brings its key, and no cookie of ours travels or is believed. So it
does no harm to name any origin (``*``), and the gateway's own pages are not among what is opened.
"""

from collections.abc import Collection, Sequence

from policies.http.headers import RawHeaders, all_of

ANY = "*"
_TCHAR = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_MOST_ASKED_BYTES = 1024
_EXPOSED = b"Access-Control-Expose-Headers: X-Request-ID, Retry-After, RateLimit, RateLimit-Policy, X-Should-Retry"
"""What a script may read beside the few that it always may."""
_MAX_AGE = b"Access-Control-Max-Age: 7200"
"""Seconds for which a browser need not ask again; Chromium takes no more."""
_UPSTREAMS_OWN = b"access-control-"


class Cors:
    """Which origins: ``https://app.example.com`` and their like, as browsers write them; or ``*``."""

    __slots__ = ("_is_any", "_origins")

    def __init__(self, origins: Collection[str] = ()) -> None:
        self._is_any = ANY in origins
        self._origins = frozenset(origin.encode() for origin in origins)

    def lines(self, raw: RawHeaders) -> tuple[bytes, ...]:
        """What an answer to a request with this header says to the browser; empty where it may not be read.

        An answer differs by who asks, and a cache must know: also where it is the same for all, since it is there for
        requests with an origin alone.
        """
        if not self._origins:
            return ()
        origins = all_of(raw, b"origin")
        if len(origins) != 1 or not (self._is_any or origins[0] in self._origins):
            return ()
        allowed = b"*" if self._is_any else origins[0]
        return b"Access-Control-Allow-Origin: " + allowed, b"Vary: Origin", _EXPOSED

    def preflight(self, raw: RawHeaders, methods: Sequence[str]) -> tuple[bytes, ...]:
        """The header of the answer to a browser's question whether it may ask; empty where it is no such question.

        ``methods`` are those of the path. Any header may be sent: what a request may say is judged when it comes.
        """
        lines = self.lines(raw)
        if not lines or len(all_of(raw, b"access-control-request-method")) != 1:
            return ()
        asked = b", ".join(all_of(raw, b"access-control-request-headers"))
        names = [name for name in map(bytes.strip, asked.split(b",")) if name]
        allow = b"Access-Control-Allow-Methods: " + ", ".join(methods).encode()
        vary = b"Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
        answer = (lines[0], vary, allow, _MAX_AGE)
        if not names or len(asked) > _MOST_ASKED_BYTES or not all(map(_TCHAR.issuperset, names)):
            return answer
        return (*answer, b"Access-Control-Allow-Headers: " + b", ".join(names))


def without_upstreams(lines: Sequence[bytes]) -> list[bytes]:
    """An upstream's header lines without its own CORS fields: a browser that finds two believes neither."""
    return [line for line in lines if line[: len(_UPSTREAMS_OWN)].lower() != _UPSTREAMS_OWN]
