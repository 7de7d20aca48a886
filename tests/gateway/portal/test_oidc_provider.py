"""Signing in with a provider that is not ours: Authlib's, in a process of its own."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from tests.gateway.portal.conftest import PAGE, Town
from tests.gateway.portal.oidc_world import come_back, portal_with, set_out

PERSON = {"sub": "grace", "email": "grace@example.com", "email_verified": True, "name": "Grace"}


@pytest.fixture
async def issuer() -> AsyncIterator[str]:
    """Where it listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ("-W", "ignore", "-m", "oidc_provider_mock", "-p", str(port), "--user-claims", json.dumps(PERSON))
    process = await asyncio.create_subprocess_exec(sys.executable, *words, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    said = b""
    while b"running on" not in said.lower():
        line = await process.stderr.readline()
        assert line, said.decode()
        said += line
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    await process.communicate()


async def test_there_and_back(issuer: str, town: Town, tmp_path: Path) -> None:
    """Discovery, consent, code, PKCE, identity token, user information: a new person is signed in."""
    settings = {
        "issuer": issuer, "client_id": "tahoe", "client_secret": "any", "make_people": True, "tenant": "acme",
    }  # fmt: skip
    async with portal_with(town.parts, tmp_path, corp=settings) as client, aiohttp.ClientSession() as browser:
        consent = await browser.post(await set_out(client), data={"sub": "grace"}, allow_redirects=False)
        assert consent.status == 302, await consent.text()
        back = URL(consent.headers["Location"])
        assert back.path == "/auth/oidc/corp/callback"
        answer = await come_back(client, dict(back.query))
        assert answer.status == 303, await answer.text()
        assert "grace@example.com" in await (await client.get("/account", headers=PAGE)).text()
        denied = await browser.post(await set_out(client), data={"action": "deny"}, allow_redirects=False)
        answer = await come_back(client, dict(URL(denied.headers["Location"]).query))
        assert answer.status == 401
