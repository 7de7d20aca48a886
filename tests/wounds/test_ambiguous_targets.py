"""Wound: the path judged is not the path forwarded.

oauth2-proxy GHSA-7rh7-c77v-6434 and GHSA-pxq7-h93f-9jrg, Oathkeeper CVE-2026-33494, LemonLDAP::NG CVE-2026-95811,
Envoy CVE-2026-73551.

Here ``/public/…`` is open to everybody and ``/admin…`` to nobody who asks: whatever a target is made of, it is either
refused, or judged and forwarded as the very same bytes.
"""

from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.http.inquiry import Target
from policies.http.verdict import Deny
from policies.routing.route_table import RouteTable
from policies.routing.routes import Route
from tests.gateway.harness import Gateway, Options, running
from tests.wounds.wire import byte_by_byte, in_pieces, request, statuses, targets

_OPEN = {"methods": ["GET", "OPTIONS"], "access": "public"}
_CLOSED = {"methods": ["GET", "OPTIONS"], "scope": "admin", "upstream": "portal"}
ROUTES = RouteTable.compile(
    {
        "routes": [
            {"name": "public", "path": "/public", **_OPEN},
            {"name": "public.one", "path": "/public/{a}", **_OPEN},
            {"name": "public.two", "path": "/public/{a}/{b}", **_OPEN},
            {"name": "public.three", "path": "/public/{a}/{b}/{c}", **_OPEN},
            {"name": "admin", "path": "/admin", **_CLOSED},
            {"name": "admin.one", "path": "/admin/{a}", **_CLOSED},
            {"name": "admin.two", "path": "/admin/{a}/{b}", **_CLOSED},
        ]
    }
)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with running(Options(routes=ROUTES)) as made:
        yield made


AMBIGUOUS = [
    # P-01 dot segments and empty segments
    b"/public/../admin", b"/public/./../admin", b"//admin", b"/public//../admin", b"/public//x", b"/public/..", b"/..",
    b"/.", b"/public/.", b"/admin/.", b"///", b"//", b"/../admin",
    # P-02 escapes that need not be
    b"/%61dmin", b"/adm%69n", b"/public/%2e%2e/admin", b"/%2E%2E/admin", b"/public/%2e./admin", b"/public/.%2E/admin",
    b"/public/%2e", b"/%70ublic/x", b"/public/%7ex", b"/public/%5fx", b"/public/%2dx", b"/public/%30",
    # P-03 encoded separators and backslashes
    b"/public/..%2fadmin", b"/public%2f..%2fadmin", b"/public%2Fx", b"/public/..%5cadmin", b"/public/..\\admin",
    b"/public\\..\\admin", b"\\admin", b"/\\admin", b"/public/%5C..%5Cadmin",
    # P-06 path parameters
    b"/public;x/../admin", b"/public/..;/admin", b"/public/..;foo=bar/admin", b"/admin;x=1", b"/public/x;y",
    b"/public/%3bx", b"/public/..%3b/admin",
    # P-08 fragments
    b"/public#/../admin", b"/public/x#", b"#", b"/public?a#b", b"/public?#/../admin", b"/public/x?a=#",
    # controls, spaces, what is not ASCII, broken escapes
    b"/public/%00", b"/admin%00", b"/public/%0d%0aX-Tenant-ID:%20t2", b"/public/%09", b"/admin%09", b"/public/%7f",
    b"/public/\xc3\xa9", b"/public/\xff", b"/public?\xc3\xa9", b"/public/%", b"/public/%2", b"/public/%zz",
    b"/public?a=%zz",
    b"/public?a=%", b"/public/\x01", b"/public/\x7f", b"/public/x\x00", b"/public?\x00", b"/public\tx", b"/public?a\tb",
    b"/public/<x>", b'/public/"x"', b"/public/{x}", b"/public/|x", b"/public/^x", b"/public/`x",
    # P-13 other forms of target
    b"http://gateway.test/public/x", b"http://evil.test/admin", b"HTTP://gateway.test/public", b"https://gateway.test/public",
    b"http:/public", b"http:///public", b"http://", b"gateway.test:80", b"gateway.test/public", b"*", b"public",
    b"?", b"?a",
    b"@evil.test/public", b"//evil.test/public", b"/http://evil.test/", b"/public/http://evil.test", b"ftp://gateway.test/public",
    b"javascript:alert(1)", b"http://gateway.test@evil.test/public", b"http://[::1/public", b"http://gateway.test:99999/public",
]  # fmt: skip


@pytest.mark.parametrize("method", [b"GET", b"OPTIONS", b"POST"])
async def test_a_target_with_two_readings_is_refused(gateway: Gateway, method: bytes) -> None:
    """P-01, P-02, P-03, P-06, P-08, P-13, U-01: 400 and the connection is closed, whoever asks; nothing goes on."""
    for target in AMBIGUOUS:
        if target == b"*" and method == b"OPTIONS":
            continue  # the one form that means something: the server as a whole (below)
        got = statuses(await gateway.raw(request(None, method + b" " + target + b" HTTP/1.1", b"Connection: close")))
        assert got == [400], target
    assert not gateway.upstream.seen


async def test_the_server_as_a_whole_is_nobodys_to_ask(gateway: Gateway) -> None:
    """``OPTIONS *`` has no path that could be judged."""
    assert statuses(await gateway.raw(request(gateway.key, b"OPTIONS * HTTP/1.1"))) == [400]


@pytest.mark.parametrize("target", AMBIGUOUS[::6], ids=lambda target: ascii(target)[2:-1])
async def test_splitting_the_target_changes_nothing(gateway: Gateway, target: bytes) -> None:
    """The same refusal when the target arrives in two segments cut anywhere, or byte by byte."""
    data = request(None, b"GET " + target + b" HTTP/1.1", b"Connection: close")
    for cut in range(5, 5 + len(target)):
        assert statuses(await in_pieces(gateway, [data[:cut], data[cut:]])) == [400]
    assert statuses(await byte_by_byte(gateway, data)) == [400]
    assert not gateway.upstream.seen


NOT_OPEN = [
    # P-04 a doubly encoded name is a name; P-05 case, trailing dots and spaces
    (b"/ADMIN", 404), (b"/Admin", 404), (b"/admin%20", 404), (b"/admin.", 404), (b"/Admin/x", 404),
    (b"/admin%2520", 404),
    # P-07 the query says nothing about the path
    (b"/admin?x=/public/health", 401), (b"/admin?/public/", 401), (b"/admin/public/health", 401), (b"/admin?", 401),
    (b"/admin/..?/public", 400), (b"/?/public", 404),
    # P-08 an encoded '#' or '?' is part of a name
    (b"/admin%23", 404), (b"/admin%3f/public", 404), (b"/admin/%23/public", 401), (b"/admin/%3Fpublic", 401),
    (b"/publicx", 404), (b"/xpublic/x", 404), (b"/public.x/y", 404), (b"/public/", 404), (b"/public/x/", 404),
    (b"/admin/", 404),
]  # fmt: skip


@pytest.mark.parametrize(("target", "status"), NOT_OPEN, ids=[ascii(target)[2:-1] for target, _ in NOT_OPEN])
async def test_what_is_not_named_stays_closed(gateway: Gateway, target: bytes, status: int) -> None:
    """P-05, P-07, P-08: rules see the whole path and nothing but the path."""
    head = request(None, b"GET " + target + b" HTTP/1.1", b"Connection: close")
    assert statuses(await gateway.raw(head)) == [status]
    assert not gateway.upstream.seen


PASSED_ON = [
    b"/public", b"/public/x", b"/public/%252e%252e/admin", b"/public/%2525",
    b"/public/%20", b"/public/%23", b"/public/%3F", b"/public/%C3%A9", b"/public/%c3%a9", b"/public/%FF",
    b"/public/a~b_c-d.e", b"/public/...", b"/public/.x", b"/public/x..", b"/public/a:b@c!$&'()*+,=",
    b"/public?a=1;b=2", b"/public?a=1&a=2", b"/public?a=%00", b"/public?a=%2e%2e%2f&b=//../x", b"/public?a=/../admin",
    b"/public?a[]=1&b={x}|y", b"/public?a=\\", b"/public?" + b"a=1&" * 1_500, b"/public?a?b?c",
]  # fmt: skip


@pytest.mark.parametrize("target", PASSED_ON, ids=lambda target: ascii(target[:40])[2:-1])
async def test_a_plain_target_is_forwarded_byte_for_byte(gateway: Gateway, target: bytes) -> None:
    """P-04, P-09: escapes are never decoded, not once and not twice; the query is the upstream's business."""
    head = request(None, b"GET " + target + b" HTTP/1.1", b"Connection: close")
    assert statuses(await gateway.raw(head)) == [200]
    assert targets(gateway) == [target.decode()]


async def test_a_bare_question_mark_is_the_only_thing_dropped(gateway: Gateway) -> None:
    """An empty query goes on as none: to a server they are one."""
    await gateway.raw(request(None, b"GET /public? HTTP/1.1", b"Connection: close"))
    assert targets(gateway) == ["/public"]


async def test_a_target_over_the_limit_is_refused(gateway: Gateway) -> None:
    """P-09: 10 001 parameters do not fit a request line."""
    got = statuses(await gateway.raw(request(None, b"GET /public?" + b"a=1&" * 10_001 + b" HTTP/1.1")))
    assert got == [431]
    assert not gateway.upstream.seen


_PIECES = [
    b"/", b"//", b"public", b"admin", b".", b"..", b"...", b"%2e", b"%2E", b"%2f", b"%5c", b"%25", b"%252e", b"%61",
    b"%20",
    b"%00", b"%0a", b"%c3%a9", b"%", b"%zz", b"\\", b";", b";x=1", b"#", b"?", b"??", b"&", b"=", b"@", b":", b"*",
    b"~", b"!",
    b"a", b"A", b"http:", b"\xc3\xa9", b"\xff", b"\t", b"\x0b", b"\x01", b"\x7f", b"<", b'"', b"|", b"{", b"[", b"^",
    b"`",
]  # fmt: skip
_targets = st.one_of(
    st.lists(st.sampled_from(_PIECES), min_size=1, max_size=10).map(b"".join),
    st.lists(st.sampled_from(_PIECES), max_size=8).map(b"".join).map(lambda rest: b"/public/" + rest),
    st.binary(min_size=1, max_size=20)
    .filter(lambda data: not set(data) & set(b" \r\n"))
    .map(lambda data: b"/public/" + data),
)


@given(target=_targets)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_path_judged_is_the_path_received(gateway: Gateway, target: bytes) -> None:
    """P-15: the path judged is byte for byte the path the upstream received, or the request was refused.

    Anonymous, so that whatever arrives at the upstream must be below ``/public`` by every reading.
    """
    gateway.upstream.seen.clear()
    judged: list[str] = []
    table = gateway.proxy._gatekeeper.routes

    class Spy:
        exact, dialect_near = table.exact, table.dialect_near

        def match(self, method: str, path: str) -> Route | Deny:
            judged.append(path)
            return table.match(method, path)

    gateway.proxy._gatekeeper.routes = Spy()
    try:
        got = statuses(await gateway.raw(request(None, b"GET " + target + b" HTTP/1.1", b"Connection: close")))
    finally:
        gateway.proxy._gatekeeper.routes = table
    if got != [200]:
        assert len(got) == 1
        assert 400 <= got[0] < 500
        assert not gateway.upstream.seen
        return
    (seen,) = gateway.upstream.seen
    assert seen.target.partition("?")[0] == target.decode("latin-1").partition("?")[0] == judged[0]
    assert seen.target.removesuffix("?") == target.decode("latin-1").removesuffix("?")
    assert judged[0] == "/public" or judged[0].startswith("/public/")


@given(st.text(st.characters(codec="latin-1"), max_size=30).map(lambda text: "/" + text))
def test_a_parsed_target_is_its_text(raw: str) -> None:
    """The same promise of the pure half: parsing takes nothing away and adds nothing."""
    target = Target.parse(raw)
    if target is not None:
        assert raw.removesuffix("?") == (f"{target.path}?{target.query}" if target.query else target.path)
        assert raw.isascii()
        assert ".." not in target.path.split("/")
