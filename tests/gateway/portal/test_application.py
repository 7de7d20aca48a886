"""What every endpoint of the portal gets for nothing: errors for people, security headers, no other site's forms."""

import shutil
from pathlib import Path

import aiohttp_jinja2
import pytest
from aiohttp import CookieJar, web
from aiohttp.test_utils import TestClient, TestServer
from pydantic import BaseModel, Field

from gateway.portal.application import application
from gateway.portal.caller import caller, client_address
from gateway.portal.parts import Parts
from gateway.portal.web import pages
from gateway.portal.web.bodies import read_form, read_json
from gateway.portal.web.crosssite import token
from storage.ports import Unavailable
from tests.gateway.portal.conftest import Client

HTML = {"Accept": "text/html,*/*;q=0.8"}


class Wish(BaseModel):
    """What the endpoints of these tests take."""

    name: str = Field(min_length=3)
    count: int


@pytest.fixture
async def client(parts: Parts) -> Client:
    """The application with a few handlers of a test's own."""
    app = application(parts)

    async def wish(request: web.Request) -> web.Response:
        made = await (read_json if request.content_type == "application/json" else read_form)(request, Wish)
        return web.json_response(made.model_dump())

    async def broken(request: web.Request) -> web.Response:
        raise Unavailable("the store") if "store" in request.query else RuntimeError("a bug")

    async def form(request: web.Request) -> web.Response:
        return web.Response(text=token(request))

    async def who(request: web.Request) -> web.Response:
        asked = caller(request)
        return web.json_response([asked.tenant_id, asked.key_id, sorted(asked.scopes), client_address(request)])

    app.router.add_post("/platform/v1/wishes", wish)
    app.router.add_post("/auth/wishes", wish)
    app.router.add_route("*", "/auth/broken", broken)
    app.router.add_get("/auth/form", form)
    app.router.add_get("/platform/v1/who", who)
    async with TestClient(TestServer(app), cookie_jar=CookieJar(unsafe=True)) as made:
        yield made


async def test_a_program_gets_a_problem_and_a_browser_a_page(client: Client) -> None:
    """The same sentences, with the request's id, and nothing that the address held."""
    ids = {"X-Request-ID": "req-1"}
    problem = await client.get("/auth/<script>", headers=ids)
    assert problem.status == 404
    assert problem.content_type == "application/problem+json"
    document = await problem.json(content_type=None)
    assert (document["code"], document["status"], document["request_id"]) == ("unknown_route", 404, "req-1")
    page = await client.get("/auth/<script>", headers=HTML | ids)
    assert (page.status, page.content_type) == (404, "text/html")
    text = await page.text()
    assert document["detail"] in text
    assert "req-1" in text
    assert "<script>" not in text


@pytest.mark.parametrize(("query", "status"), [("", 500), ("?store", 503)])
async def test_a_bug_is_500_and_an_absent_store_503(client: Client, query: str, status: int) -> None:
    """Neither says what broke."""
    answer = await client.get(f"/auth/broken{query}")
    assert answer.status == status
    assert "a bug" not in await answer.text()


async def test_every_fault_of_a_body_is_told_at_once(client: Client) -> None:
    """By field, and without the value, which may be a secret."""
    answer = await client.post("/platform/v1/wishes", json={"name": "xy", "count": "many-secrets"})
    assert answer.status == 422
    document = await answer.json(content_type=None)
    assert [error["field"] for error in document["errors"]] == ["name", "count"]
    assert "many-secrets" not in str(document)
    assert (await client.post("/platform/v1/wishes", json={"name": "xyz", "count": 1})).status == 200


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[" * 5_000, b"\xff", b'{"name": "\xed\xa0\x80"}', b'{"name": "xyz", "name": "x", "count": 1}']
)
async def test_what_is_not_json_is_422(client: Client, body: bytes) -> None:
    answer = await client.post("/platform/v1/wishes", data=body, headers={"Content-Type": "application/json"})
    assert answer.status == 422


async def test_answers_carry_the_security_headers(client: Client) -> None:
    """Pages load nothing from elsewhere, run nothing inline, and are framed and kept by nobody."""
    for path in ("/auth/nix", "/auth/form"):
        headers = (await client.get(path, headers=HTML)).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Server"] == "tahoe-gateway"
    style = await client.get("/auth/static/portal.css")
    assert style.content_type == "text/css"
    assert style.headers["Cache-Control"].startswith("public")


async def test_options_says_what_a_path_takes(client: Client) -> None:
    """Of this very path, not of all that lie beside it; and so does a method that is none of them."""
    for path, methods in (("/platform/v1/who", "GET, HEAD, OPTIONS"), ("/platform/v1/wishes", "OPTIONS, POST")):
        told = await client.options(path)
        assert (told.status, told.headers["Allow"]) == (204, methods)
        refused = await client.put(path, json={})
        assert (refused.status, refused.headers["Allow"]) == (405, methods)
    assert (await client.options("/platform/v1/nothing")).status == 404


@pytest.mark.parametrize("path", ["/auth/static/portal.css", "/platform/v1/openapi.json"])
async def test_who_has_it_already_is_told_so(client: Client, path: str) -> None:
    first = await client.get(path)
    tag = first.headers["ETag"]
    again = await client.get(path, headers={"If-None-Match": f'"other", W/{tag}'})
    assert (again.status, await again.read()) == (304, b"")
    assert (again.headers["ETag"], again.headers["Cache-Control"]) == (tag, first.headers["Cache-Control"])
    other = await client.get(path, headers={"If-None-Match": '"other"'})
    assert (other.status, await other.read()) == (200, await first.read())


async def test_a_static_file_that_changes_gets_another_address(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Browsers keep it for a day, also over an update of the gateway."""

    def address() -> str:
        pages.setup(app := web.Application())
        return str(aiohttp_jinja2.get_env(app).globals["version"])

    shipped = address()
    assert f'portal.css?v={shipped}"' in await (await client.get("/auth/login", headers=HTML)).text()
    shutil.copytree(Path(pages.__file__).parents[1], tmp_path / "portal", ignore=shutil.ignore_patterns("swagger*"))
    monkeypatch.setattr(pages, "_PORTAL", tmp_path / "portal")
    before = address()
    (tmp_path / "portal/static/portal.css").write_text("body {}")
    assert len({shipped, before, address()}) == 3


@pytest.mark.parametrize("name", ["..%2fapplication.py", "%2e%2e", "nothing.css", "portal.css%00"])
async def test_static_files_are_those_and_no_others(client: Client, name: str) -> None:
    assert (await client.get(f"/auth/static/{name}")).status == 404


async def test_the_identity_is_what_the_gateway_says(client: Client) -> None:
    headers = {
        "X-Tenant-ID": "ten_a", "X-API-Key-ID": "key_1", "X-Auth-Scopes": "b a", "X-Client-IP": "192.0.2.1",
    }  # fmt: skip
    assert await (await client.get("/platform/v1/who", headers=headers)).json() == [
        "ten_a", "key_1", ["a", "b"], "192.0.2.1",
    ]  # fmt: skip


FORM = {"name": "abc", "count": "1"}


async def test_a_form_needs_the_token_of_its_cookie(client: Client) -> None:
    """Without, with another's, or with the token alone: refused before the handler."""
    assert (await client.post("/auth/wishes", data=FORM)).status == 403
    good = await (await client.get("/auth/form")).text()
    assert (await client.post("/auth/wishes", data=FORM | {"csrf": good})).status == 200
    client.session.cookie_jar.clear()
    assert (await client.post("/auth/wishes", data=FORM | {"csrf": good})).status == 403
    await client.get("/auth/form")
    assert (await client.post("/auth/wishes", data=FORM | {"csrf": good})).status == 403
    assert (await client.post("/auth/wishes", data="x", headers={"Content-Type": "text/plain"})).status == 403


@pytest.mark.parametrize(
    ("came", "link", "text"),
    [
        ("http://gw.test/auth/login?next=/v1/models", "/auth/login", "Open the page again"),
        ("http://evil.test/auth/login", "/account", "Your account"),
        ("http://gw.test//evil.test", "/account", "Your account"),
        ("", "/account", "Your account"),
    ],
)
async def test_a_form_that_has_expired_leads_back_to_its_page(client: Client, came: str, link: str, text: str) -> None:
    """To a page of ours alone, whatever Referer says."""
    page = await client.post("/auth/wishes", data=FORM, headers=HTML | {"Referer": came})
    assert f'href="{link}">{text}</a>' in await page.text()


async def test_where_a_store_is_away_the_page_leads_to_another_try(client: Client) -> None:
    """Of the same address; of a form, which may have been taken, to its page."""
    page = await client.get("/auth/broken?store&a=%20", headers=HTML)
    assert 'href="/auth/broken?store&amp;a=%20">Try again</a>' in await page.text()
    form = {"csrf": await (await client.get("/auth/form")).text()}
    page = await client.post("/auth/broken?store", data=form, headers=HTML | {"Referer": "http://gw.test/auth/login"})
    assert 'href="/auth/login">Open the page again</a>' in await page.text()


async def test_a_form_without_a_session_leads_to_the_log_in_and_back(client: Client) -> None:
    form = {"csrf": await (await client.get("/auth/form")).text(), "name": "Ada"}
    page = await client.post("/account", data=form, headers=HTML | {"Referer": "http://gw.test/account"})
    assert page.status == 401
    assert 'href="/auth/login?next=/account">Sign in</a>' in await page.text()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://gw.test"}, 403),
        ({"Origin": "http://gw.test"}, 200),
        ({"Origin": "http://front.test:8080", "X-Forwarded-Host": "front.test:8080"}, 200),
        ({"Origin": "http://gw.test.evil"}, 403),
        ({"Origin": "http://gw.test:81"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 403),
    ],
)
async def test_json_with_a_cookie_must_come_from_our_own_pages(
    client: Client, headers: dict[str, str], status: int
) -> None:
    """As the browser says it; a browser that says nothing gets nowhere without the token."""
    answer = await client.post(
        "/platform/v1/wishes", json={"name": "abc", "count": 1}, headers=headers | {"Cookie": "a=1"}
    )
    assert answer.status == status


async def test_json_without_a_cookie_is_a_program(client: Client) -> None:
    """It can act in nobody's name but that of the credential it sends."""
    assert (await client.post("/platform/v1/wishes", json={"name": "abc", "count": 1})).status == 200


async def test_who_forgets_the_content_type_of_json_is_told_of_it(client: Client) -> None:
    """`curl -d` says that it sends a form."""
    answer = await client.post(
        "/platform/v1/wishes", data='{"name": "abc"}', headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert (answer.status, (await answer.json())["code"]) == (415, "not_json")


@pytest.mark.parametrize(
    "kind", ["multipart/form-data", "application/x-www-form-urlencoded; charset=nonsense", "text/plain", "a"]
)
async def test_a_body_that_cannot_be_read_is_refused_and_no_fault_of_ours(client: Client, kind: str) -> None:
    answer = await client.post("/auth/wishes", data=b"\xff=\xff", headers={"Content-Type": kind})
    assert answer.status in (403, 415, 422)
