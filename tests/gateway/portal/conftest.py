"""The portal's application on a real socket, over PostgreSQL and Valkey: what the gateway would send it, tests send."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.portal.application import application
from gateway.portal.parts import Parts
from gateway.services import Blueprint
from gateway.settings import load
from tests.gateway.portal.api import Houses

Client = TestClient[web.Request, web.Application]

SECRET_KEY = "a secret key of tests, thirty-two characters"


@pytest.fixture
async def parts(migrated_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Parts]:
    settings = load({"state_dir": tmp_path, "public_url": "http://gw.test"}, None, {})
    async with Parts.open(Blueprint(settings, migrated_url, redis_url, SECRET_KEY)) as made:
        yield made


@pytest.fixture
async def portal(parts: Parts) -> AsyncIterator[Client]:
    """A browser's view of it: cookies are kept."""
    async with TestClient(TestServer(application(parts))) as client:
        yield client


@pytest.fixture
def houses(portal: Client, parts: Parts) -> Houses:
    """Makes tenants and callers of the API."""
    return Houses(portal, parts)
