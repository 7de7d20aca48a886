"""A cookie counts only where our own page sent it: the whole table of methods, Sec-Fetch-Site and Origin."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.http.crosssite import from_own_page
from policies.http.headers import RequestHead


def head(*fields: tuple[str, str], upgrade: bool = False) -> RequestHead:
    """A header of a request to ``gw.test``."""
    lines = [("Host", "gw.test"), *fields, *([("Upgrade", "websocket")] if upgrade else [])]
    return RequestHead.walk([(name.encode(), value.encode("latin-1")) for name, value in lines])


SITE, ORIGIN = "Sec-Fetch-Site", "Origin"
TABLE = [
    ((), False, False),
    (((SITE, "same-origin"),), True, False),
    (((SITE, "none"),), True, False),
    (((SITE, "same-site"),), False, False),
    (((SITE, "cross-site"),), False, False),
    (((SITE, "Same-Origin"),), False, False),
    (((SITE, "same-origin"), (SITE, "cross-site")), False, False),
    (((ORIGIN, "http://gw.test"),), True, True),
    (((ORIGIN, "HTTP://GW.TEST"),), True, True),
    (((ORIGIN, "https://public.test"),), True, True),
    (((ORIGIN, "http://gw.test:80"),), False, False),
    (((ORIGIN, "http://evil.test"),), False, False),
    (((ORIGIN, "http://gw.test.evil.test"),), False, False),
    (((ORIGIN, "http://evil.test@gw.test"),), False, False),
    (((ORIGIN, "null"),), False, False),
    (((ORIGIN, ""),), False, False),
    (((ORIGIN, "file://gw.test"),), False, False),
    (((ORIGIN, "http://gw.test"), (ORIGIN, "http://evil.test")), False, False),
    (((SITE, "same-origin"), (ORIGIN, "http://evil.test")), False, False),
    (((SITE, "cross-site"), (ORIGIN, "http://gw.test")), False, False),
    (((SITE, "same-origin"), (ORIGIN, "http://gw.test")), True, True),
]


@pytest.mark.parametrize(("fields", "changes", "opens"), TABLE)
def test_what_changes_something_comes_from_our_own_page(
    fields: tuple[tuple[str, str], ...], changes: bool, opens: bool
) -> None:
    """C-01, W-01. A WebSocket that does not name its origin is no browser's."""
    for method in ("POST", "PUT", "PATCH", "DELETE", "post", "BREW"):
        assert from_own_page(method, head(*fields), (b"public.test",)) == changes
    assert from_own_page("GET", head(*fields, upgrade=True), (b"public.test",)) == opens
    for method in ("GET", "HEAD", "OPTIONS"):
        assert from_own_page(method, head(*fields), ())


@given(st.text(max_size=40), st.text(max_size=20))
def test_any_origin_is_ours_or_not(origin: str, site: str) -> None:
    """No error; and nothing but our own host passes."""
    fields = [(b"Host", b"gw.test"), (b"Origin", origin.encode()), (b"Sec-Fetch-Site", site.encode())]
    if from_own_page("POST", RequestHead.walk(fields), ()):
        assert origin.strip().lower() in ("http://gw.test", "https://gw.test")
