"""The session cookie: its name, and how it is found in a header that may hold anything.

Over https it has the prefix ``__Host-`` (RFC 6265bis section 4.1.3.2): no other host, no sub-domain and no plain http
can set it. Where the gateway itself is reached by plain http, on a laptop, a browser takes no such cookie, and the name
is another one; a gateway takes only the one that goes with its own address.
"""

from collections.abc import Sequence


def session_cookie(*, secure: bool) -> str:
    """The name."""
    return "__Host-tahoe_session" if secure else "tahoe_session"


def values(lines: Sequence[str], name: str) -> set[str]:
    """Every value that a name has in ``Cookie`` lines, as sent: cut at the first ``=``, and nothing is decoded."""
    found = set()
    for line in lines:
        for pair in line.split(";"):
            key, mark, value = pair.strip(" \t").partition("=")
            if mark and key == name:
                found.add(value)
    return found


def single(lines: Sequence[str], name: str) -> str | None:
    """The one value; None for none, and for two that differ: which of them the browser meant, nobody can know."""
    found = values(lines, name) - {""}
    return found.pop() if len(found) == 1 else None
