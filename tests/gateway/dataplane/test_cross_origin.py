"""Pages of other sites call proxied routes where the operator lets them, with a key and never with a cookie."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import async_playwright

from tests import programs
from tests.gateway.harness import Answer, Gateway, Options, Seen, running
from tests.gateway.stream_harness import StreamUpstream

APP = "https://app.example.com"
T = "/v1/audio/transcriptions"
ORIGIN = ("Origin", APP)
ASKING = [ORIGIN, ("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "authorization")]


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with running(Options(cors_origins=(APP,))) as made:
        yield made


async def preflight(gateway: Gateway, target: str = T, headers: Sequence[tuple[str, str]] = ASKING) -> Answer:
    return await gateway.ask("OPTIONS", target, headers, key=None)


async def test_a_browser_asks_first_without_a_key_and_the_upstream_is_not_asked(gateway: Gateway) -> None:
    answer = await preflight(gateway)
    assert (answer.status, answer.body) == (204, b"")
    assert answer["access-control-allow-origin"] == APP
    assert answer["access-control-allow-methods"] == "POST"
    assert answer["access-control-allow-headers"] == "authorization"
    assert "content-length" not in dict(answer.headers)
    assert not gateway.upstream.seen
    assert gateway.lines[-1]["status"] == 204


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        (T, [("Origin", "https://evil.example"), *ASKING[1:]], 405),
        (T, [ORIGIN], 405),
        ("/nowhere", ASKING, 404),
        ("/platform/v1/me", ASKING, 200),  # the portal's own to say, which lets nobody in
        ("/auth/verify", ASKING, 403),
    ],
)
async def test_nothing_else_is_opened(
    gateway: Gateway, target: str, headers: Sequence[tuple[str, str]], status: int
) -> None:
    answer = await preflight(gateway, target, headers)
    assert answer.status == status
    assert not answer.all("access-control-allow-methods")


async def test_by_default_no_other_site_is_let_in() -> None:
    async with running() as gateway:
        assert (await preflight(gateway)).status == 405
        assert not (await gateway.ask(headers=[ORIGIN])).all("access-control-allow-origin")


async def test_answers_and_refusals_may_be_read_there(gateway: Gateway) -> None:
    """Refusals too: a page with a wrong key would learn of a network error. The upstream's own word is left out."""

    async def respond(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 0\r\n\r\n")

    gateway.upstream.respond = respond
    for key, status in (("", 200), ("thk_live_wrong", 401)):
        answer = await gateway.ask(headers=[ORIGIN], key=key)
        assert (answer.status, answer["access-control-allow-origin"]) == (status, APP)
        assert "X-Request-ID" in answer["access-control-expose-headers"]
    assert not (await gateway.ask(headers=[("Origin", "https://evil.example")], key="bad")).all(
        "access-control-allow-origin"
    )


async def test_what_belongs_to_the_portal_is_never_opened(gateway: Gateway) -> None:
    for target in ("/account", "/platform/v1/me"):
        answer = await gateway.ask("GET", target, [ORIGIN], key=None)
        assert not answer.all("access-control-allow-origin")


UPLOAD = """async ([url, key]) => {
    const form = new FormData();
    form.set("model", "m");
    form.set("file", new Blob([new Uint8Array(64)]), "a.wav");
    const headers = {Authorization: `Bearer ${key}`, "X-Stainless-Lang": "js"};
    const answer = await fetch(url + "/v1/audio/transcriptions", {method: "POST", headers, body: form});
    return [answer.status, answer.headers.get("x-request-id") !== null, await answer.json()];
}"""
STREAM = """([url, protocols]) => new Promise(resolve => {
    const socket = new WebSocket(url + "/v1/realtime?model=m", protocols);
    socket.onopen = () => socket.send("hello");
    socket.onmessage = message => resolve([socket.protocol, message.data]);
    socket.onclose = () => resolve("closed");
})"""


async def test_a_page_of_another_site_in_a_real_browser() -> None:
    """As OpenAI's SDK does in a browser: an upload with headers of its own; a stream, its key as a subprotocol."""

    async def app_page(_: web.Request) -> web.Response:
        return web.Response(text="<title>app</title>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", app_page)
    streams = StreamUpstream()
    await streams.start()
    async with TestServer(app) as site, async_playwright() as playwright:
        page_at = str(site.make_url("/"))
        browser = await playwright.chromium.launch(executable_path=programs.chromium(), args=["--no-sandbox"])
        page = await browser.new_page()
        await page.goto(page_at)
        async with running(Options(cors_origins=(page_at.rstrip("/"),))) as gateway:
            assert await page.evaluate(UPLOAD, [gateway.url, gateway.key]) == [200, True, {"text": "hello"}]
            assert [seen.method for seen in gateway.upstream.seen] == ["POST"]
            status, told, body = await page.evaluate(UPLOAD, [gateway.url, "thk_live_wrong"])
            assert (status, told, body["error"]["code"]) == (401, True, "invalid_api_key")
        async with running(Options(upstream_url=f"http://127.0.0.1:{streams.port}")) as gateway:
            url = gateway.url.replace("http", "ws")
            offered = ["realtime", f"openai-insecure-api-key.{gateway.key}"]
            assert await page.evaluate(STREAM, [url, offered]) == ["realtime", "hello"]
            assert await page.evaluate(STREAM, [url, ["realtime", "openai-insecure-api-key.wrong"]]) == "closed"
        await browser.close()
    await streams.stop()
