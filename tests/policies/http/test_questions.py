"""What each dialect reads, and that nothing else is ever read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.http.credentials import NOTHING
from policies.http.headers import RequestHead
from policies.http.inquiry import Inquiry, is_plain_path
from policies.http.questions import CADDY, ENVOY, SOURCES, TRAEFIK, Dialect, nginx, question
from policies.http.verdict import Deny, Refusal

DIALECTS = {"nginx": nginx(SOURCES["x-original-uri"]), "traefik": TRAEFIK, "caddy": CADDY, "envoy": ENVOY}


def asked(path: str, *fields: tuple[bytes, bytes], method: str = "GET", query: str = "") -> Inquiry:
    return Inquiry(method, path, query, RequestHead.walk(fields), NOTHING)


def read(dialect: Dialect, inquiry: Inquiry) -> tuple[str, str, str] | str:
    found = question(dialect, inquiry)
    return found.refusal.code if isinstance(found, Deny) else (found.method, found.path, found.query)


@pytest.mark.parametrize("dialect", [TRAEFIK, CADDY], ids=["traefik", "caddy"])
def test_traefik_and_caddy_ask_with_x_forwarded(dialect: Dialect) -> None:
    good = [(b"X-Forwarded-Method", b"POST"), (b"X-Forwarded-Uri", b"/v1/listen?a=b")]
    lies = [(b"X-Original-URI", b"/open"), (b"X-Original-Method", b"GET"), (b"X-Original-URL", b"https://a/open")]
    assert read(dialect, asked(dialect.path, *good, *lies, method="GET", query="x=/y")) == ("POST", "/v1/listen", "a=b")
    assert read(dialect, asked(dialect.path, *lies)) == "unreadable_question"
    for broken in (good[:1], good[1:], [*good, good[0]], [*good, (b"x-forwarded-uri", b"/open")]):
        assert read(dialect, asked(dialect.path, *broken)) == "unreadable_question"
    assert read(dialect, asked(dialect.path, good[0], (b"X-Forwarded-Uri", b"/a/../b"))) == "ambiguous_target"


def test_envoy_asks_with_its_own_request_line() -> None:
    """The path behind the prefix and the request's own method; no header has a say."""
    lies = [(b"X-Forwarded-Uri", b"/open"), (b"X-Forwarded-Method", b"GET"), (b"X-Original-URI", b"/open")]
    path = f"{ENVOY.path}/v1/audio/transcriptions"
    found = read(ENVOY, asked(path, *lies, method="POST", query="a=b"))
    assert found == ("POST", "/v1/audio/transcriptions", "a=b")
    assert read(ENVOY, asked(f"{ENVOY.path}/")) == ("GET", "/", "")
    assert read(ENVOY, asked(ENVOY.path, *lies)) == "unreadable_question"


def test_envoy_may_ask_about_the_path_of_a_question() -> None:
    """Once taken off, the prefix is a path like any other."""
    assert read(ENVOY, asked(f"{ENVOY.path}{ENVOY.path}/x")) == ("GET", f"{ENVOY.path}/x", "")


@pytest.mark.parametrize("name", DIALECTS)
def test_the_credential_is_the_one_that_the_subrequest_repeats(name: str) -> None:
    dialect = DIALECTS[name]
    fields = [(b"X-Forwarded-Method", b"GET"), (b"X-Forwarded-Uri", b"/a"), (b"X-Original-URI", b"/a")]
    inquiry = asked(f"{dialect.path}/a" if dialect is ENVOY else dialect.path, *fields, (b"X-Original-Method", b"GET"))
    found = question(dialect, inquiry)
    assert isinstance(found, Inquiry)
    assert found.head is inquiry.head
    assert found.presented is inquiry.presented


_texts = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=20).map(
    lambda text: text.encode("latin-1")
)


@given(
    name=st.sampled_from(list(DIALECTS)),
    target=st.one_of(_texts, _texts.map(b"/".__add__)),
    method=st.one_of(st.just(b"GET"), _texts),
    repeated=st.booleans(),
)
def test_what_is_read_is_plain_and_was_said_once(name: str, target: bytes, method: bytes, repeated: bool) -> None:
    """Never a normalised path, never one of two."""
    dialect = DIALECTS[name]
    if dialect.source is None:
        return
    fields = [(dialect.source.target, target)] * (2 if repeated else 1)
    found = question(dialect, asked(dialect.path, *fields, (dialect.source.method, method)))
    if isinstance(found, Deny):
        assert found.refusal in (Refusal.UNREADABLE_QUESTION, Refusal.AMBIGUOUS_TARGET)
        return
    assert not repeated
    assert is_plain_path(found.path)
    assert found.path == target.decode("latin-1").partition("?")[0]
    assert found.method == method.decode("latin-1")


def test_only_nginx_needs_its_answers_translated_and_only_envoy_insists_on_200() -> None:
    assert [name for name, dialect in DIALECTS.items() if not dialect.relays_answers] == ["nginx"]
    assert [name for name, dialect in DIALECTS.items() if not dialect.allows_on_any_2xx] == ["envoy"]
