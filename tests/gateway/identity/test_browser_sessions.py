"""A browser's session opens proxied routes: for its own pages, while both stores say that it lives, and no longer."""

import asyncio
import base64
from dataclasses import replace

import pytest

from policies.identity.principals import Method
from storage.ports import Invalidation
from tests.gateway.harness import PRINCIPAL, Gateway, Options, running

SECRET = "s" * 43
COOKIE = ("Cookie", f"theme=dark; tahoe_session={SECRET}")
OWN = ("Sec-Fetch-Site", "same-origin")
CHROME = "text/html,application/xhtml+xml,*/*;q=0.8"


@pytest.fixture(autouse=True)
def _signed_in(gateway: Gateway) -> None:
    gateway.sessions.by_secret[SECRET.encode()] = replace(
        PRINCIPAL, method=Method.SESSION, key_id="", user_id="usr_ada"
    )


async def test_the_upstream_learns_who_it_is_and_never_the_cookie(gateway: Gateway) -> None:
    assert (await gateway.ask("GET", "/v1/models", [COOKIE], key=None)).status == 200
    (seen,) = gateway.upstream.seen
    assert seen.all("x-user-id") == ["usr_ada"]
    assert seen.all("x-tenant-id") == ["ten_a"]
    assert "cookie" not in seen.names()
    assert gateway.lines[0]["auth_method"] == "session"
    assert SECRET not in str(gateway.lines)


@pytest.mark.parametrize(
    ("extra", "status"),
    [((OWN,), 200), ((("Origin", "http://gateway.test"),), 200), ((), 403), ((("Sec-Fetch-Site", "cross-site"),), 403),
     ((("Origin", "http://evil.test"),), 403), ((("Origin", "null"),), 403)],
)  # fmt: skip
async def test_what_changes_something_must_come_from_our_own_page(
    gateway: Gateway, extra: tuple[tuple[str, str], ...], status: int
) -> None:
    """C-01: another site's page sends the cookie along without wanting to know."""
    multipart = ("Content-Type", "multipart/form-data; boundary=b")
    answer = await gateway.ask("POST", "/v1/audio/transcriptions", [COOKIE, multipart, *extra], b"--b--\r\n", key=None)
    assert answer.status == status
    assert len(gateway.upstream.seen) == (status == 200)


async def test_two_credentials_are_one_too_many(gateway: Gateway) -> None:
    """H-10: with a key beside it, or with another session."""
    assert (await gateway.ask("GET", "/v1/models", [COOKIE])).code == "conflicting_credentials"
    twice = ("Cookie", f"tahoe_session={SECRET}; tahoe_session=other")
    assert (await gateway.ask("GET", "/v1/models", [twice], key=None)).code == "conflicting_credentials"
    assert not gateway.upstream.seen


@pytest.mark.parametrize("place", [("Authorization", f"Bearer {SECRET}"), ("X-API-Key", SECRET)])
async def test_a_session_is_good_in_its_cookie_alone(gateway: Gateway, place: tuple[str, str]) -> None:
    """Also while it is remembered; and a key in the cookie is none."""
    assert (await gateway.ask("GET", "/v1/models", [COOKIE], key=None)).status == 200
    assert (await gateway.ask("GET", "/v1/models", [place], key=None)).status == 401
    assert (
        await gateway.ask("GET", "/v1/models", [("Cookie", f"tahoe_session={gateway.key}")], key=None)
    ).status == 401


async def test_stores_that_are_away_are_503_and_never_a_redirect(gateway: Gateway) -> None:
    """Not even for whoever was signed in a moment ago: nobody knows whether it has ended. No loop of redirects."""
    assert (await gateway.ask("GET", "/v1/models", [COOKIE], key=None)).status == 200
    gateway.sessions.down = True
    gateway.snapshot.forget(Invalidation())
    answer = await gateway.ask("GET", "/v1/models", [COOKIE, ("Accept", CHROME)], key=None)
    assert answer.status == 503
    assert not answer.all("location")
    gateway.sessions.down = False
    assert (await gateway.ask("GET", "/v1/models", [COOKIE], key=None)).status == 200


async def test_it_is_believed_for_as_long_as_it_is_fresh_and_not_longer() -> None:
    """An API key lives on through an outage of the registry; a session does not."""
    async with running(Options(fresh_s=0.0, stale_s=60.0)) as gateway:
        gateway.sessions.by_secret[SECRET.encode()] = replace(PRINCIPAL, method=Method.SESSION)
        assert (await gateway.ask("GET", "/v1/models", [COOKIE], key=None)).status == 200
        gateway.sessions.down = True
        assert (await gateway.ask("GET", "/v1/models", [COOKIE], key=None)).status == 503


async def test_a_session_that_was_ended_is_forgotten_when_told(gateway: Gateway) -> None:
    """T-08, C-05: the bus tells within a second; until then the answer is at hand without asking."""
    for _ in range(3):
        assert (await gateway.ask("GET", "/v1/models", [COOKIE], key=None)).status == 200
    assert gateway.sessions.asked == 1
    gateway.sessions.by_secret.clear()
    gateway.snapshot.forget(Invalidation(user_id="usr_ada"))
    answer = await gateway.ask("GET", "/v1/models", [COOKIE], key=None)
    assert (answer.status, answer.code) == (401, "session_ended")


async def test_a_browser_is_sent_to_the_log_in_and_a_program_is_not(gateway: Gateway) -> None:
    """With a session that is over, and with none; by a path of ours, with the way back."""
    gateway.sessions.by_secret.clear()
    for headers in ([COOKIE], []):
        page = await gateway.ask("GET", "/v1/models?a=b%20c", [*headers, ("Accept", CHROME)], key=None)
        assert (page.status, page["location"]) == (302, "/auth/login?next=/v1/models%3Fa%3Db%2520c")
        assert page["cache-control"] == "no-store"
        assert (await gateway.ask("GET", "/v1/models", headers, key=None)).status == 401
    assert (await gateway.ask("GET", "/v1/models", [("Accept", CHROME)], key="thk_live_nonsense")).status == 401
    assert gateway.lines[0]["status"] == 302


async def test_fifty_browsers_at_once_get_each_its_own_answer(gateway: Gateway) -> None:
    """C-12: secrets that begin and end alike; one question each, however many ask."""
    for number in range(25):
        secret = f"{'a' * 20}{number:03}{'z' * 20}".encode()
        gateway.sessions.by_secret[secret] = replace(PRINCIPAL, method=Method.SESSION, user_id=f"usr_{number}")

    async def ask(number: int) -> None:
        cookie = ("Cookie", f"tahoe_session={'a' * 20}{number:03}{'z' * 20}")
        request_id = ("X-Request-ID", f"req-{number}")
        assert (await gateway.ask("GET", "/v1/models", [cookie, request_id], key=None)).status == 200

    await asyncio.gather(*(ask(number % 25) for number in range(50)))
    assert {(s.all("x-request-id")[0], s.all("x-user-id")[0]) for s in gateway.upstream.seen} == {
        (f"req-{number}", f"usr_{number}") for number in range(25)
    }
    assert gateway.sessions.asked == 25


@pytest.mark.parametrize(
    ("origin", "status"), [("http://gateway.test", 200), ("http://evil.test", 403), ("null", 403), ("", 403)]
)
async def test_a_stream_is_opened_by_our_own_page_alone(gateway: Gateway, origin: str, status: int) -> None:
    """W-01: the upstream is never asked otherwise. This one knows no WebSockets and says 200."""
    key = base64.b64encode(b"k" * 16).decode()
    fields = [COOKIE, ("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    fields += [("Sec-WebSocket-Key", key), *([("Origin", origin)] if origin else [])]
    answer = await gateway.ask("GET", "/v1/realtime", fields, key=None)
    assert answer.status == status
    assert len(gateway.upstream.seen) == (status == 200)
