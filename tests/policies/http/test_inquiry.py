"""One reading: whatever a target is made of, it is refused, or every server takes it for the same segments."""

import posixpath
import re
from urllib.parse import unquote, unquote_to_bytes, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from policies.http.inquiry import MAX_TARGET, Target, is_plain_host, is_plain_path, is_plain_query, plain_reading

UNRESERVED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"

_escapes = st.one_of(
    st.integers(0, 255).map(lambda byte: f"%{byte:02X}"),
    st.integers(0, 255).map(lambda byte: f"%{byte:02x}"),
    st.sampled_from(["%C3%A9", "%c3%a9", "%25", "%252e", "%2525", "%20", "%3A", "%3a", "%40", "%FF", "%E2%82%AC"]),
)
_pieces = st.one_of(
    st.text(st.sampled_from(UNRESERVED + "!$&'()*+,=:@"), min_size=1, max_size=4),
    st.sampled_from([".", "..", "...", ";", "\\", "#", "%", "%2", "é", "\x00", " ", "\n", "{", "~"]),
    _escapes,
)
_segments = st.lists(_pieces, max_size=4).map("".join)
paths = st.lists(_segments, min_size=1, max_size=5).map(lambda segments: "/" + "/".join(segments))
plain_paths = (
    st.lists(st.lists(st.one_of(st.text(st.sampled_from(UNRESERVED + "!$&'()*+,=:@"), min_size=1), _escapes),
                      min_size=1, max_size=3).map("".join), min_size=1, max_size=5)
    .map(lambda segments: "/" + "/".join(segments)).filter(is_plain_path)
)  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "path", "query"),
    [
        ("/", "/", ""),
        ("/v1/models", "/v1/models", ""),
        ("/v1/models/", "/v1/models/", ""),
        ("/v1/listen?model=a&model=b", "/v1/listen", "model=a&model=b"),
        ("/?", "/", ""),
        ("/a?b?c", "/a", "b?c"),
        ('/a?/../b//c;d=\\&e=[]{}|^`"<>', "/a", '/../b//c;d=\\&e=[]{}|^`"<>'),
        ("/.well-known/x", "/.well-known/x", ""),
        ("/.../..x/x../.x", "/.../..x/x../.x", ""),
        ("/a%20b/%25/%C3%A9/%e2%82%ac", "/a%20b/%25/%C3%A9/%e2%82%ac", ""),
        ("/%252e%252e/a", "/%252e%252e/a", ""),
        ("/whisper:large@v3!$&'()*+,=", "/whisper:large@v3!$&'()*+,=", ""),
    ],
)
def test_a_plain_target_is_split_and_nothing_else(raw: str, path: str, query: str) -> None:
    assert Target.parse(raw) == Target(path, query)


@pytest.mark.parametrize(
    "raw",
    [
        "", "a", "*", "?", "?a", "http://h/", "//h/a", "//", "/a//b", "/a//",  # other forms, empty segments
        "/.", "/..", "/a/.", "/a/..", "/./a", "/../a", "/a/./b", "/a/../b", "/a/.?b", "/a/../",  # dot segments
        "/%2e", "/%2E%2e/a", "/.%2e/a", "/a%2fb", "/a%2Fb", "/a%5cb", "/a\\b", "/\\a",  # and in disguise
        "/a;b", "/a;b=c/d", "/..;/a", "/a%3bb", "/a%3B", "/a#b", "/a?b#c", "/#",  # parameters, fragments
        "/%61", "/%41", "/%30", "/%7e", "/%5F", "/%2d", "/%5a", "/%6F",  # needless escapes
        "/%", "/%2", "/%zz", "/a%2", "/%1", "/a?b=%", "/a?b=%z1",  # broken escapes
        "/%00", "/%0d%0a", "/%09", "/%1f", "/%7f", "/%7F", "/\x00", "/\t", "/a b", "/a\n", "/\x7f", "/é", "/\udcff",
        "/a?b c", "/a?b\n", "/a?é", "/a?\x00", "/a?\x7f",
        "/<", "/>", '/"', "/{id}", "/|", "/^", "/`", "/[a]",  # nowhere legal in a path
        "/%c0%ae%c0%ae/a", "/%C0%AE", "/%c1%9c", "/%e0%80%af", "/%E0%80%AE", "/%f0%80%80%af",  # overlong '.', '/', '\'
    ],
)  # fmt: skip
def test_an_ambiguous_target_is_refused(raw: str) -> None:
    assert Target.parse(raw) is None


def test_a_target_has_a_longest_length() -> None:
    assert Target.parse("/" + "a" * (MAX_TARGET - 1)) is not None
    assert Target.parse("/" + "a" * MAX_TARGET) is None
    assert Target.parse("/a?" + "a" * MAX_TARGET) is None


@given(paths)
def test_what_is_accepted_has_no_empty_and_no_dot_segment_before_and_after_decoding(path: str) -> None:
    """Decoding once finds no separator, control, parameter or dot segment; unreserved characters are never escaped."""
    if not is_plain_path(path):
        return
    assert path.isascii()
    segments = path[1:].split("/")
    assert all(segments[:-1])
    for segment in segments:
        decoded = unquote_to_bytes(segment)
        assert decoded not in (b".", b"..")
        assert not set(decoded) & {*range(0x20), 0x7F, *b"/\\;"}
        assert not re.search(rb"[\xc0\xc1]|\xe0[\x80-\x9f]|\xf0[\x80-\x8f]", decoded)
    assert all(unquote(escape, "latin-1") not in UNRESERVED for escape in re.findall("%..", path))


@given(plain_paths, st.booleans())
def test_no_library_reads_an_accepted_path_in_another_way(path: str, slash: bool) -> None:
    """Normalised, split or joined by posixpath, urllib and yarl, it is what it was: the same segments in order."""
    path += "/" * slash
    assert posixpath.normpath(path) == path.removesuffix("/")
    parts = urlsplit(f"http://host{path}?a=b")
    assert (parts.netloc, parts.path, parts.query, parts.fragment) == ("host", path, "a=b", "")
    assert urljoin("http://host/x/y", path) == f"http://host{path}"
    read = URL(f"http://host{path}?a=b")
    assert (read.host, read.raw_query_string, read.fragment) == ("host", "a=b", "")
    assert list(map(unquote_to_bytes, read.raw_path.split("/"))) == list(map(unquote_to_bytes, path.split("/")))


@given(plain_paths)
def test_the_plain_reading_names_the_same_thing_once_and_for_all(path: str) -> None:
    """It decodes to the same bytes, and two spellings of one path have one reading."""
    reading = plain_reading(path)
    assert unquote_to_bytes(reading) == unquote_to_bytes(path)
    assert plain_reading(reading) == reading
    assert is_plain_path(reading)
    assert plain_reading(re.sub("%..", lambda escape: escape[0].lower(), path)) == reading
    assert plain_reading(path.replace(":", "%3A").replace("@", "%40").replace("+", "%2b")) == reading


@given(st.text(st.characters(max_codepoint=0x100), max_size=12))
def test_a_query_is_visible_ascii_without_a_fragment(query: str) -> None:
    if is_plain_query(query):
        assert query.isascii()
        assert "#" not in query
        assert not any(c <= " " or c == "\x7f" for c in query)
        assert urlsplit(f"http://host/?{query}").query == query


@pytest.mark.parametrize(
    "host",
    [
        "a",
        "gw.test",
        "GW.Test.",
        "gw.test:443",
        "gw_1.test:65535",
        "127.0.0.1:80",
        "[::1]",
        "[::1]:9200",
        "xn--bcher-kva.example",
    ],
)
def test_a_plain_host(host: str) -> None:
    assert is_plain_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "", ":80", "a:", "a:99999", "a:65536", "a:-1", "a:0x50", "a b", "a/b", "a\\b", "user@evil", "a?b", "a#b", "a,b",
        "[::1", "::1", "[::1]x", "[]", "a..b", ".a", "-a", "a-", "a%2eb", "é", "a\n", "a\r\nX: y",
        "a\x00", "a:80:80", "a;b", "(a)",
    ],
)  # fmt: skip
def test_an_odd_host_is_refused(host: str) -> None:
    assert not is_plain_host(host)


@given(st.from_regex(r"[a-zA-Z0-9.:\[\]_@/-]{1,20}", fullmatch=True))
def test_an_accepted_host_is_the_whole_authority_of_a_url(host: str) -> None:
    """It can be repeated in X-Forwarded-Host, and in a link, without becoming another place."""
    if is_plain_host(host):
        try:
            parts = urlsplit(f"http://{host}/x")
        except ValueError:  # brackets around what is no IPv6 address
            assert host.startswith("[")
            return
        assert (parts.netloc, parts.path, parts.username) == (host, "/x", None)
        assert parts.port is None or 0 <= parts.port <= 65_535
