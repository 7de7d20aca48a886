"""A provider on a real socket that does what a test tells it to, and a portal that people sign in to with it."""

import base64
import hashlib
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from aiohttp import ClientResponse, CookieJar, web
from aiohttp.test_utils import TestClient, TestServer

from gateway.configuration.sources import load
from gateway.portal.application import application
from gateway.portal.parts import Parts
from tests.gateway.portal.conftest import PAGE, Client
from tests.policies.signing import Signer, signer

CLIENT = "tahoe"
SECRET = "secret of the client: 100%"
SUBJECT = "248289761001"


@dataclass
class FakeProvider:
    """A provider. ``said`` are claims over the right ones, None removes one; ``metadata`` likewise."""

    url: str = ""
    key: Signer = field(default_factory=lambda: signer("RS256"))
    said: dict[str, Any] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=lambda: {"typ": "JWT"})
    metadata: dict[str, Any] = field(default_factory=dict)
    userinfo: dict[str, Any] | None = None
    answer: dict[str, Any] = field(default_factory=dict)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)
    published: list[Signer] = field(default_factory=list)
    """Its key set, where that is not the one key."""
    jwks_asked: int = 0
    down: bool = False
    garbage: bytes | None = None
    """What stands in the place of the answer with the token."""

    def authorize(self, location: str, **more: str) -> dict[str, str]:
        """What the person's consent gives: the query of the way back."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
        self.asked.append(query)
        code = secrets.token_urlsafe(8)
        self.codes[code] = query
        return {"code": code, "state": query["state"]} | more

    async def consent(self, request: web.Request) -> web.Response:
        """For a browser: everybody is signed in here, and consents."""
        query = self.authorize(str(request.url))
        raise web.HTTPFound(f"{request.query['redirect_uri']}?{urlencode(query)}")

    async def discovery(self, _: web.Request) -> web.Response:
        if self.down:
            return web.Response(status=503)
        found = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "code_challenge_methods_supported": ["S256"],
        } | self.metadata
        return web.json_response({name: value for name, value in found.items() if value is not None})

    async def jwks(self, _: web.Request) -> web.Response:
        self.jwks_asked += 1
        return web.json_response({"keys": [key.jwk for key in self.published or [self.key]]})

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if self.garbage is not None:
            return web.Response(body=self.garbage, content_type="application/json")
        query = self.codes.pop(str(form.get("code")), None)
        basic = base64.b64encode(f"{CLIENT}:secret%20of%20the%20client%3A%20100%25".encode()).decode()
        digest = hashlib.sha256(str(form.get("code_verifier")).encode()).digest()
        if (
            query is None
            or request.headers.get("Authorization") != f"Basic {basic}"
            or base64.urlsafe_b64encode(digest).decode().rstrip("=") != query["code_challenge"]
            or form["redirect_uri"] != query["redirect_uri"]
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        now = int(time.time())
        claims = {
            "iss": self.url, "aud": CLIENT, "sub": SUBJECT, "iat": now, "exp": now + 300, "nonce": query["nonce"],
            "email": "new@example.com", "email_verified": True, "name": "New Person", "auth_time": now,
        } | self.said  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        said = {"id_token": self.key.token(claims, header=self.header).decode(), "access_token": "opaque"}
        return web.json_response(said | {"token_type": "Bearer"} | self.answer)

    async def user(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "Bearer opaque":
            return web.json_response({"error": "invalid_token"}, status=401)
        return web.json_response(self.userinfo or {"sub": SUBJECT})


@asynccontextmanager
async def provider() -> AsyncIterator[FakeProvider]:
    """One of its own on a port of its own."""
    made, app = FakeProvider(), web.Application()
    app.router.add_get("/.well-known/openid-configuration", made.discovery)
    app.router.add_get("/authorize", made.consent)
    app.router.add_get("/jwks", made.jwks)
    app.router.add_post("/token", made.token)
    app.router.add_get("/userinfo", made.user)
    async with TestServer(app) as server:
        made.url = str(server.make_url("")).rstrip("/")
        yield made


@asynccontextmanager
async def portal_with(parts: Parts, tmp_path: Path, **tables: dict[str, Any]) -> AsyncIterator[Client]:
    """A portal with these providers."""
    config = tmp_path / "oidc.toml"
    lines = []
    for name, values in tables.items():
        lines.append(f"[oidc.{name}]")
        lines += [f"{key} = {toml(value)}" for key, value in values.items()]
    config.write_text("\n".join(lines))
    mail = f"file:{tmp_path}/mail"
    settings = load(
        {"state_dir": tmp_path, "public_url": "http://gw.test", "password_cost": 10, "mail": mail}, config, {}
    )
    app = application(replace(parts, settings=settings))
    async with TestClient(TestServer(app), cookie_jar=CookieJar(unsafe=True)) as client:
        yield client


def toml(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, list) else f'"{value}"'


def table(idp: FakeProvider, **more: Any) -> dict[str, Any]:
    """A provider's settings."""
    return {"issuer": idp.url, "client_id": CLIENT, "client_secret": SECRET} | more


async def set_out(client: Client, name: str = "corp", query: str = "") -> str:
    """Press the button; where it leads."""
    answer = await client.get(f"/auth/oidc/{name}{query}", headers=PAGE, allow_redirects=False)
    assert answer.status == 303, await answer.text()
    return answer.headers["Location"]


async def come_back(client: Client, query: dict[str, str], name: str = "corp") -> ClientResponse:
    """The way back from the provider, as another site sends it."""
    headers = PAGE | {"Sec-Fetch-Site": "cross-site"}
    return await client.get(f"/auth/oidc/{name}/callback", params=query, headers=headers, allow_redirects=False)


async def sign_in(client: Client, idp: FakeProvider, name: str = "corp", query: str = "") -> ClientResponse:
    """There and back."""
    return await come_back(client, idp.authorize(await set_out(client, name, query)), name)
