"""What a person before a browser sees where the gateway itself says no; programs on the same paths keep their JSON."""

import base64
import hashlib
import re
from pathlib import Path

import pytest

from gateway import portal
from gateway.dataplane import error_page
from policies.account.usage import Outcome
from policies.http.verdict import Deny, Refusal
from policies.limits.rates import Rate
from tests.gateway.harness import Gateway

CHROME = ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8")
FORM = [CHROME, ("Sec-Fetch-Mode", "navigate"), ("Content-Type", "application/octet-stream")]
PORTAL_CSS = Path(portal.__file__).with_name("static") / "portal.css"


@pytest.mark.parametrize("refusal", Refusal, ids=lambda refusal: refusal.code)
def test_every_refusal_has_a_page_that_says_what_why_and_what_next(refusal: Refusal) -> None:
    """Title, sentences, status, code and request id; nothing is left of the template."""
    text = error_page.page(Deny(refusal=refusal), "req-1", 40).decode()
    assert re.search("<h1>[A-Z][a-z ]+</h1>", text)
    for told in (str(refusal.status), f"<code>{refusal.code}</code>", "<code>req-1</code>"):
        assert told in text
    assert "$" not in text
    assert "Retry-After" not in text


def test_nothing_that_a_refusal_says_becomes_markup() -> None:
    """C-09: whatever a detail may hold one day."""
    bad = "<script>alert(1)</script>\"'&$title ${title}\u2028{{7*7}}"
    text = error_page.page(Deny(refusal=Refusal.NOT_FOUND, detail=bad), "a<b", None).decode()
    assert "<script" not in text
    assert "a&lt;b" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;$title ${title}" in text


def test_the_policy_allows_the_style_of_the_page_and_nothing_else() -> None:
    """No script at all, no address, no frame; the style is named by its digest."""
    text = error_page.page(Deny(refusal=Refusal.UNKNOWN_ROUTE), "r", None).decode()
    style = text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = re.search(r"Content-Security-Policy: ([^\r]+)", error_page.LINES.decode())[1]
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "style=" not in text
    assert "<script" not in text


def test_it_looks_like_the_portal() -> None:
    """The same colours, in light and in dark."""
    portal = set(re.findall(r"light-dark\(([^)]+)\)", PORTAL_CSS.read_text()))
    own = set(re.findall(r"light-dark\(([^)]+)\)", error_page.page(Deny(refusal=Refusal.DRAINING), "r", 2).decode()))
    assert len(own) > 5
    assert own <= portal


def test_where_our_pages_are_not_known_the_page_has_no_link() -> None:
    """Behind another proxy its own host need not have them."""
    deny = Deny(refusal=Refusal.UNKNOWN_ROUTE)
    assert "href=" not in error_page.page(deny, "r", None, None).decode().partition("<main>")[2]
    assert 'href="https://a.test/x&amp;y/account"' in error_page.page(deny, "r", None, "https://a.test/x&y").decode()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "1 second"), (2, "2 seconds"), (119, "119 seconds"), (120, "2 minutes"), (121, "3 minutes"),
     (7_199, "120 minutes"), (7_201, "3 hours")],
)  # fmt: skip
def test_a_wait_is_told_as_people_say_it_and_never_too_short(seconds: int, words: str) -> None:
    assert error_page.in_words(seconds) == words


async def test_a_browser_gets_a_page_for_every_answer_of_the_gateway_itself(gateway: Gateway) -> None:
    """403, 404, 413, 429, 502: same status, same header lines, and a record like any other."""
    closed, once = gateway.add_key(scopes=frozenset({"other"})), gateway.add_key(key_rate=Rate(1, 60_000))
    assert (await gateway.ask(key=once)).status == 200
    seen = [
        await gateway.ask(headers=[CHROME], key=closed),
        await gateway.ask("GET", "/no/such/path", [CHROME], key=None),
        await gateway.ask("POST", "/v1/audio/transcriptions", [*FORM, ("Content-Encoding", "gzip")], b"x"),
        await gateway.ask(headers=[CHROME], key=once),
    ]
    await gateway.upstream.stop()
    seen.append(await gateway.ask(headers=[CHROME]))
    assert [answer.status for answer in seen] == [403, 404, 415, 429, 502]
    for answer in seen:
        assert answer["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in answer["content-security-policy"]
        assert answer["cache-control"] == "no-store"
        assert f"<code>{answer['x-request-id']}</code>" in answer.body.decode()
    assert f"Wait {seen[3]['retry-after']} seconds" in seen[3].body.decode()
    assert seen[3]["ratelimit"]
    assert [record.outcome for record in gateway.journal.records][-1] is Outcome.UPSTREAM_FAILED
    assert gateway.journal.records[-1].bytes_out == len(seen[4].body)


async def test_programs_keep_their_json(gateway: Gateway) -> None:
    """Also a script of a page, which asks for the same but does not navigate; and what the portal's API would be."""
    script = [CHROME, ("Sec-Fetch-Mode", "cors")]
    assert (await gateway.ask("GET", "/no/such/path", key=None)).code == "unknown_route"
    assert (await gateway.ask("GET", "/no/such/path", script, key=None)).code == "unknown_route"
    api = await gateway.ask("GET", "/platform/nothing", [CHROME], key=None)
    assert api["content-type"] == "application/problem+json"


async def test_no_byte_of_the_request_is_on_the_page(gateway: Gateway) -> None:
    """O-03: neither path, query nor header."""
    mark = "zq9canary"
    answer = await gateway.ask("GET", f"/{mark}?{mark}=1", [CHROME, ("X-Thing", mark), ("Cookie", mark)], key=None)
    assert answer.status == 404
    assert mark not in answer.body.decode()
