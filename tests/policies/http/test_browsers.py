"""Who is sent to the login page: people before browsers, and nobody else."""

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.http.browsers import login_location, navigates, shows_pages
from policies.http.credentials import NOTHING
from policies.http.headers import RequestHead
from policies.http.inquiry import Inquiry, Target
from policies.http.verdict import Deny, Refusal

CHROME = b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
MISSING = Deny(refusal=Refusal.MISSING_CREDENTIAL)


def inquiry(*fields: tuple[bytes, bytes], method: str = "GET", path: str = "/a", query: str = "") -> Inquiry:
    return Inquiry(method, path, query, RequestHead.walk(fields), NOTHING)


@pytest.mark.parametrize(
    ("fields", "method", "page"),
    [
        ([(b"Accept", CHROME)], "GET", True),
        ([(b"Accept", CHROME)], "HEAD", True),
        ([(b"accept", b"TEXT/HTML;level=1")], "GET", True),
        ([(b"Accept", CHROME), (b"Sec-Fetch-Mode", b"navigate")], "GET", True),
        ([(b"Accept", CHROME)], "POST", False),
        ([(b"Accept", CHROME)], "OPTIONS", False),
        ([], "GET", False),
        ([(b"Accept", b"*/*")], "GET", False),
        ([(b"Accept", b"application/json, text/*")], "GET", False),
        ([(b"Accept", b"application/json, text/html;q=0")], "GET", False),
        ([(b"Accept", b"text/html; q=0.000, */*")], "GET", False),
        ([(b"Accept", b"text/html;q=0.01")], "GET", True),
        ([(b"Accept", b"text/htmlx")], "GET", False),
        ([(b"Accept", CHROME), (b"X-Requested-With", b"XMLHttpRequest")], "GET", False),
        ([(b"Accept", CHROME), (b"Sec-Fetch-Mode", b"cors")], "GET", False),
        ([(b"Accept", CHROME), (b"Sec-Fetch-Mode", b"websocket")], "GET", False),
        ([(b"Accept", CHROME), (b"Upgrade", b"websocket")], "GET", False),
    ],
)
def test_a_browser_that_navigates_is_told_from_a_program(
    fields: list[tuple[bytes, bytes]], method: str, page: bool
) -> None:
    assert navigates(inquiry(*fields, method=method)) is page
    assert (login_location("https://u.test", inquiry(*fields, method=method), MISSING) is not None) is page


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_form_that_a_browser_sent_ends_on_a_page_too(method: str) -> None:
    """It cannot be sent to the log-in, which would lose what it holds, but a person reads the answer."""
    assert shows_pages(inquiry((b"Accept", CHROME), (b"Sec-Fetch-Mode", b"navigate"), method=method).head)
    assert not shows_pages(inquiry((b"Accept", CHROME), (b"Sec-Fetch-Mode", b"cors"), method=method).head)


@pytest.mark.parametrize("refusal", [r for r in Refusal if r.name not in ("MISSING_CREDENTIAL", "SESSION_ENDED")])
def test_only_who_carries_no_credential_or_a_session_that_ended_is_sent_there(refusal: Refusal) -> None:
    """A bad key is told to be bad; a store that is down must not become a loop of redirects."""
    assert login_location("https://u.test", inquiry((b"Accept", CHROME)), Deny(refusal=refusal)) is None


def test_without_a_public_address_nobody_is_sent_anywhere() -> None:
    """Never to an address taken from the request (R-06)."""
    assert login_location("", inquiry((b"Accept", CHROME), (b"X-Forwarded-Host", b"evil.test")), MISSING) is None


_targets = st.from_regex(
    r"/[A-Za-z0-9\-._~!$&'()*+,=:@/%]{0,12}(\?[A-Za-z0-9\-._~!$&'()*+,;=:@/?\\%]{0,12})?", fullmatch=True
)


@given(raw=_targets)
def test_the_way_back_is_the_target_and_never_another_origin(raw: str) -> None:
    """R-01, R-02: whatever a plain target holds, the login page is ours and ``next`` is a path on ours."""
    target = Target.parse(raw)
    if target is None:
        return
    location = login_location(
        "https://u.test", inquiry((b"Accept", CHROME), path=target.path, query=target.query), MISSING
    )
    assert location is not None
    parts = urlsplit(location)
    assert (parts.scheme, parts.netloc, parts.path, parts.fragment) == ("https", "u.test", "/auth/login", "")
    (back,) = parse_qs(parts.query, strict_parsing=True)["next"]
    assert back == (raw if target.query else target.path)
    assert not back.startswith(("//", "/\\"))
    assert location.isascii()
    assert location.isprintable()
