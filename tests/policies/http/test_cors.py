"""What a browser is told of other sites' pages: who may read, which methods and headers, and nothing with cookies."""

import pytest

from policies.http.cors import Cors, without_upstreams

APP, EVIL = b"https://app.example.com", b"https://evil.example"
ONE, ANY, NONE = Cors(["https://app.example.com"]), Cors(["*"]), Cors()
METHOD = (b"Access-Control-Request-Method", b"POST")


def origin(*values: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"Origin", value) for value in values]


@pytest.mark.parametrize(
    ("cors", "raw", "allowed"),
    [
        (ONE, origin(APP), APP),
        (ANY, origin(EVIL), b"*"),
        (ANY, origin(b"null"), b"*"),
        (ONE, origin(EVIL), None),
        (ONE, origin(b"null"), None),
        (ONE, origin(b"https://app.example.com.evil.example"), None),
        (ONE, origin(b"http://app.example.com"), None),
        (ONE, origin(APP, EVIL), None),
        (ANY, [], None),
        (NONE, origin(APP), None),
    ],
)
def test_an_answer_may_be_read_by_pages_that_the_operator_names(
    cors: Cors, raw: list[tuple[bytes, bytes]], allowed: bytes | None
) -> None:
    lines = cors.lines(raw)
    assert lines[:1] == (() if allowed is None else (b"Access-Control-Allow-Origin: " + allowed,))
    assert not lines or b"Vary: Origin" in lines
    assert bool(cors.preflight([*raw, METHOD], ["POST"])) is (allowed is not None)
    assert not any(b"credentials" in line.lower() for line in (*lines, *cors.preflight([*raw, METHOD], ["POST"])))


def test_a_browser_that_asks_first_learns_methods_and_headers() -> None:
    raw = [*origin(APP), METHOD, (b"Access-Control-Request-Headers", b"authorization,x-stainless-lang")]
    lines = ONE.preflight(raw, ("GET", "POST"))
    assert b"Access-Control-Allow-Methods: GET, POST" in lines
    assert b"Access-Control-Allow-Headers: authorization, x-stainless-lang" in lines
    assert ONE.preflight(origin(APP), ("POST",)) == ()  # it asks for no method: a plain OPTIONS


@pytest.mark.parametrize("asked", [b"a b", b"a\x00", "é".encode(), b"x," * 1024, b"a: b"])
def test_what_is_no_field_name_is_not_said_back(asked: bytes) -> None:
    lines = ONE.preflight([*origin(APP), METHOD, (b"Access-Control-Request-Headers", asked)], ("POST",))
    assert lines
    assert not any(line.startswith(b"Access-Control-Allow-Headers") for line in lines)


def test_an_upstreams_own_word_is_left_out() -> None:
    lines = [b"Access-Control-Allow-Origin: *", b"access-control-allow-credentials: true", b"Content-Type: text/plain"]
    assert without_upstreams(lines) == lines[2:]
