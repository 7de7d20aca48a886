"""What is ours cannot be sent by anybody else, in any spelling; what is not ours passes byte for byte."""

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.http import headers
from policies.http.headers import (
    IDENTITY,
    AnswerHead,
    RequestHead,
    ascii_value,
    connection_tokens,
    first,
    identity,
    identity_lines,
    single,
)
from policies.identity.principals import Method, Principal, Standing

PRINCIPAL = Principal(
    method=Method.API_KEY,
    standing=Standing.GOOD,
    tenant_id="ten_a",
    tenant_slug="a",
    user_id="usr_a",
    key_id="key_a",
    scopes=frozenset({"transcribe", "admin"}),
    roles=("owner", "member"),
)

MANAGED = [
    *(name.lower() for name in IDENTITY),
    "forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix",
    "x-forwarded-uri", "x-forwarded-method", "x-forwarded-anything", "x-real-ip", "x-original-url", "x-original-uri",
    "x-original-method", "x-original-anything", "x-rewrite-url", "x-http-method-override", "x-http-method",
    "x-method-override", "x-envoy-anything", "x-internal-anything", "x-auth-user", "x-auth-request-email",
]  # fmt: skip
CREDENTIALS = [
    "authorization", "x-api-key", "api-key", "apikey", "xi-api-key", "x-gladia-key", "cookie",
    "proxy-authorization",
]  # fmt: skip
HOP_BY_HOP = [
    "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings",
    "proxy-authenticate",
]  # fmt: skip
FRAMING = ["content-length", "host", "expect", "x-request-id"]
GONE = [*MANAGED, *CREDENTIALS, *HOP_BY_HOP, *FRAMING]


def answer_head(raw: Sequence[tuple[bytes, bytes]]) -> AnswerHead:
    """The walk over these fields, as lines."""
    return AnswerHead.walk([name + b": " + value for name, value in raw])


def respelt(name: str) -> st.SearchStrategy[bytes]:
    """Any spelling that some server reads as this name."""
    return st.tuples(*(st.sampled_from("-_." if c == "-" else sorted({c, c.upper()})) for c in name)).map(
        lambda characters: "".join(characters).encode()
    )


_token = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~"
ours = st.sampled_from(GONE).flatmap(respelt)
others = st.text(st.sampled_from(_token), min_size=1, max_size=12).map(str.encode)
names = st.one_of(ours, others, st.sampled_from([b"Accept", b"Content-Type", b"X-Custom", b"close", b"User-Agent"]))
values = st.binary(max_size=20).map(lambda value: value.translate(None, b"\r\n\x00").strip(b" \t"))
lists = st.lists(st.tuples(names, values), max_size=12)


def folded(name: bytes) -> bytes:
    return name.lower().translate(bytes.maketrans(b"_.", b"--"))


def is_ours(name: bytes) -> bool:
    plain = folded(name).decode()
    return plain in GONE or plain.startswith(("x-auth-", "x-internal-", "x-envoy-", "x-forwarded-", "x-original-"))


@pytest.fixture(autouse=True)
def _as_fresh() -> Iterator[None]:
    """Spellings that tests teach are forgotten again."""
    before = dict(headers._REQUEST.known), dict(headers._ANSWER.known)
    yield
    headers._REQUEST.known, headers._ANSWER.known = before


@given(raw=lists)
def test_nothing_of_ours_survives_in_any_spelling(raw: list[tuple[bytes, bytes]]) -> None:
    """H-01, H-02, H-03, H-06, H-08: identity, forwarding, credentials, hop-by-hop fields and framing."""
    for line in RequestHead.walk(raw).lines:
        assert not is_ours(line.partition(b":")[0])


@given(raw=lists, listed=st.lists(names, max_size=5), spaces=st.sampled_from([b",", b", ", b",, ,", b" ,\t"]))
def test_what_connection_lists_is_gone(raw: list[tuple[bytes, bytes]], listed: list[bytes], spaces: bytes) -> None:
    """H-04, H-05: in any case, over several lines; ``close`` names no field."""
    raw = [*raw, *((b"CONNECTION", spaces + spaces.join(listed[at : at + 2])) for at in range(0, len(listed), 2))]
    left = {line.partition(b":")[0].lower() for line in RequestHead.walk(raw).lines}
    assert not left & ({name.lower() for name in listed} - {b"close"})


@given(raw=lists)
def test_everything_else_passes_byte_for_byte_and_in_order(raw: list[tuple[bytes, bytes]]) -> None:
    """Duplicates, odd values and odd names included."""
    unlisted = [(name, value) for name, value in raw if folded(name) != b"connection"]
    reserved = {b"content-type", b"content-encoding", b"user-agent"}
    expected = [
        name + b": " + value
        for name, value in unlisted
        if not is_ours(name) and (folded(name) not in reserved or name.lower() in reserved)
    ]
    assert RequestHead.walk(unlisted).lines == expected


def test_fields_that_the_gateway_reads_are_noted_raw() -> None:
    head = RequestHead.walk(
        [
            (b"hOST", b"gw.test"),
            (b"Authorization", b"Bearer a"),
            (b"authorization", b"Bearer b"),
            (b"X-Api-Key", b"k"),
            (b"Content-Length", b"3"),
            (b"Content-Length", b"4"),
            (b"Transfer-Encoding", b"chunked"),
            (b"Content-Type", b"audio/wav"),
            (b"Content-Encoding", b"gzip"),
            (b"Expect", b"100-continue"),
            (b"Upgrade", b"websocket"),
            (b"Connection", b"Upgrade, X-Drop"),
            (b"User-Agent", b"curl/8"),
            (b"X-Request-ID", b"r-1"),
            (b"X-Forwarded-For", b"1.2.3.4"),
            (b"X-Drop", b"1"),
            (b"Accept", b"*/*"),
        ]
    )
    assert (head.hosts, head.authorizations, head.api_keys) == ([b"gw.test"], [b"Bearer a", b"Bearer b"], [b"k"])
    assert (head.content_lengths, head.transfer_encodings) == ([b"3", b"4"], [b"chunked"])
    assert (head.content_type, head.content_encoding, head.expect) == (b"audio/wav", b"gzip", b"100-continue")
    assert (head.upgrade, head.user_agent, head.request_id) == (b"websocket", b"curl/8", b"r-1")
    assert (head.forwarded_for, head.connection) == ([b"1.2.3.4"], {b"upgrade", b"x-drop"})
    assert head.lines == [b"Content-Type: audio/wav", b"Content-Encoding: gzip", b"User-Agent: curl/8", b"Accept: */*"]


@pytest.mark.parametrize(
    "name",
    [b"Content_Length", b"transfer.encoding", b"X_API_KEY", b"x.api.key", b"Ho_st", b"X-Forwarded_For", b"user_agent"],
)
def test_an_alias_of_a_field_that_we_read_is_neither_read_nor_passed_on(name: bytes) -> None:
    """It must not act as the real one does: not as framing, not as a credential, not as an address."""
    head = RequestHead.walk([(name, b"7")])
    read = (head.content_lengths, head.transfer_encodings, head.api_keys, head.forwarded_for, head.user_agent)
    assert read == ([], [], [], [], b"")
    assert head.lines == ([b"Ho_st: 7"] if name == b"Ho_st" else [])


@pytest.mark.parametrize("codings", [[b"gzip", b"identity"], [b"identity", b"gzip"], [b"gzip", b""], [b"", b"gzip"]])
def test_two_content_encoding_lines_are_one_list(codings: list[bytes]) -> None:
    """The last line is not all of it: an upstream that reads both would decode what the meter took for plain audio."""
    raw = [(b"Content-Encoding", coding) for coding in codings]
    assert b"gzip" in RequestHead.walk(raw).content_encoding
    assert b"gzip" in answer_head(raw).content_encoding


def test_a_flood_of_spellings_changes_no_verdict_and_fills_no_memory() -> None:
    """Names are remembered up to a bound; what comes later is judged all the same."""
    for number in range(5_000):
        RequestHead.walk([(b"x-junk-%d" % number, b"1")])
    assert len(headers._REQUEST.known) <= 2_048
    assert RequestHead.walk([(b"X_TeNaNt.Id", b"t2"), (b"X-Fine", b"1")]).lines == [b"X-Fine: 1"]


@given(raw=lists)
def test_an_answer_carries_no_identity_no_framing_and_no_session_of_ours(raw: list[tuple[bytes, bytes]]) -> None:
    """H-06, H-07; the upstream's other fields pass byte for byte."""
    raw = [(n, v) for n, v in raw if folded(n) not in (b"content-length", b"transfer-encoding")]
    head = answer_head(raw)
    for line in head.lines:
        name = folded(line.partition(b":")[0]).decode()
        assert name not in [n.lower() for n in IDENTITY]
        assert name not in [*HOP_BY_HOP, "content-length", "x-request-id", "proxy-authorization"]
        assert not name.startswith(("x-auth-", "x-internal-"))
    assert set(head.lines) <= {name + b": " + value for name, value in raw}


@pytest.mark.parametrize(
    ("cookie", "passes"),
    [
        (b"sid=1; Path=/", True),
        (b"host-sid=1", True),
        (b"__Secure-sid=1", True),
        (b"__Host-sid=1; Secure", False),
        (b"__HOST-other=1", False),
        (b" __host-x=1", False),
        (b"=__Host-sid=1", False),
        (b"= __Host-sid=1", False),
        (b"\t=\t__Host-sid=1", False),
    ],
)
def test_an_upstream_sets_cookies_but_never_one_of_ours(cookie: bytes, passes: bool) -> None:
    assert answer_head([(b"Set-Cookie", cookie)]).lines == ([b"Set-Cookie: " + cookie] if passes else [])


def test_an_answers_framing_is_noted_and_not_copied() -> None:
    head = answer_head(
        [(b"Content-Length", b"12"), (b"Connection", b"close, X-Hop"), (b"X-Hop", b"1"), (b"Content-Type", b"a/b")]
    )
    assert (head.length, head.chunked, head.content_type, head.lines) == (12, False, b"a/b", [b"Content-Type: a/b"])
    assert answer_head([(b"Transfer-Encoding", b" Chunked ")]).chunked


@pytest.mark.parametrize("codings", [[b"gzip"], [b"gzip, chunked"], [b"chunked", b"chunked"], [b""]])
def test_a_transfer_coding_that_nobody_asked_for_is_an_error(codings: list[bytes]) -> None:
    with pytest.raises(ValueError, match="transfer coding"):
        answer_head([(b"Transfer-Encoding", coding) for coding in codings])


@pytest.mark.parametrize(
    ("value", "tokens"),
    [
        (b"close", set()),
        (b"Keep-Alive", set()),
        (b"close, X-Tenant-ID", {b"x-tenant-id"}),
        (b",,x-tenant-id ,", {b"x-tenant-id"}),
        (b"", set()),
        (b"a\t,\tB", {b"a", b"b"}),
    ],
)
def test_connection_options(value: bytes, tokens: set[bytes]) -> None:
    assert connection_tokens(value) == tokens


def test_every_identity_header_is_there_for_forward_auth_and_only_full_ones_for_the_upstream() -> None:
    assert identity(PRINCIPAL) == {
        "X-Tenant-ID": "ten_a",
        "X-User-ID": "usr_a",
        "X-API-Key-ID": "key_a",
        "X-Auth-Scopes": "admin transcribe",
        "X-Auth-Roles": "owner member",
        "X-Gateway-Assertion": "",
    }
    bare = Principal(method=Method.API_KEY, standing=Standing.GOOD, tenant_id="ten_a", tenant_slug="a")
    assert tuple(identity(bare)) == IDENTITY
    assert identity_lines(bare) == [b"X-Tenant-ID: ten_a"]
    assert len(identity_lines(PRINCIPAL)) == len(IDENTITY) - 1


@given(text=st.text())
def test_an_identity_value_cannot_leave_its_line(text: str) -> None:
    """Whatever a registry holds: visible ASCII and spaces, as long as it was."""
    safe = ascii_value(text)
    assert len(safe) == len(text)
    assert all(" " <= c <= "~" for c in safe)
    evil = Principal(method=Method.API_KEY, standing=Standing.GOOD, tenant_id=text, tenant_slug="", roles=(text,))
    for line in identity_lines(evil):
        assert not set(line) & set(b"\r\n\x00")


def test_a_field_that_must_not_repeat() -> None:
    raw = [(b"X-Original-URI", b"/a"), (b"x-original-method", b"GET"), (b"X-ORIGINAL-METHOD", b"POST")]
    assert single(raw, b"x-original-uri") == b"/a"
    assert single(raw, b"x-absent") is None
    with pytest.raises(ValueError, match="2 times"):
        single(raw, b"x-original-method")
    assert (first(raw, b"x-original-method"), first(raw, b"x-absent")) == (b"GET", b"")
