"""The portal's application on a real socket, over PostgreSQL and Valkey: what the gateway would send it, tests send."""

import html
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any

import aiohttp_jinja2
import bcrypt
import jinja2
import pytest
from aiohttp import ClientResponse, CookieJar, web
from aiohttp.test_utils import TestClient, TestServer

from gateway.configuration.blueprint import Blueprint
from gateway.configuration.sources import load
from gateway.identity.passwords import hash_password
from gateway.portal.application import application
from gateway.portal.parts import Parts
from policies.identity.tenants import Role, Tenant, User
from storage.postgres.tenants.directory import PostgresDirectory
from tests.gateway.portal.api import Houses

Client = TestClient[web.Request, web.Application]

ISSUERS = {
    name: {"issuer": f"https://{name}.test", "jwks_url": f"https://{name}.test/keys", "audience": "gw", "tenant": "t"}
    for name in ("zebra", "ant", "mole")
}
SECRET_KEY = "a secret key of tests, thirty-two characters"


COST = 10


@pytest.fixture(autouse=True)
def quick_bcrypt() -> Iterator[None]:
    """Most tests log somebody in, and none is about how long it takes: bcrypt at its least, named as the usual one."""
    least, said = b"$2b$04$", b"$2b$%d$" % COST
    hashpw, checkpw = bcrypt.hashpw, bcrypt.checkpw
    with pytest.MonkeyPatch.context() as patch:  # its own: a test may undo what it patched
        patch.setattr(bcrypt, "hashpw", lambda word, salt: hashpw(word, salt.replace(said, least)).replace(least, said))
        patch.setattr(bcrypt, "checkpw", lambda word, stored: checkpw(word, stored.replace(said, least)))
        yield


class _Templates(jinja2.BytecodeCache):
    """Templates that were compiled for one test, for the others."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], CodeType] = {}

    def load_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:
        bucket.code = self._known.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:
        self._known[bucket.key, bucket.checksum] = bucket.code


_TEMPLATES = _Templates()


@pytest.fixture(autouse=True)
def compiled_templates() -> Iterator[None]:
    """A process compiles each of its pages once; here hundreds of applications are made in one process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aiohttp_jinja2, "setup", partial(aiohttp_jinja2.setup, bytecode_cache=_TEMPLATES))
        yield


@pytest.fixture(autouse=True)
def connections(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many connections to PostgreSQL the portal has: three, unless a test asks for others.

    What is done in the background at a start would take one each of ten, and each is a process of PostgreSQL.
    """
    monkeypatch.setattr("gateway.portal.parts._CONNECTIONS", getattr(request, "param", 3))


@pytest.fixture
async def parts(emptied_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Parts]:
    settings = load(
        {
            "state_dir": tmp_path,
            "public_url": "http://gw.test",
            "password_cost": COST,
            "mail": f"file:{tmp_path}/mail",
            "issuers": ISSUERS,
            "own_scopes": "of-the-house",
        },
        None,
        {},
    )
    async with Parts.open(Blueprint(settings, emptied_url, redis_url, SECRET_KEY)) as made:
        yield made


@dataclass(frozen=True, slots=True)
class Town:
    """A tenant with one person in it, and the ways to make more."""

    parts: Parts
    directory: PostgresDirectory
    tenant: Tenant
    user: User

    async def add(self, email: str, role: Role = Role.MEMBER, *, tenant: str | None = None) -> User:
        """One more person, with the usual password."""
        stored = hash_password(PASSWORD, self.parts.secret_for("passwords"), cost=COST)
        user, _ = await self.directory.create_user(tenant or self.tenant.id, email, "Some One", role, stored)
        return user


SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}
EMAIL = "ada@example.com"
PASSWORD = "correct horse battery staple"


@pytest.fixture
def one_instant(monkeypatch: pytest.MonkeyPatch) -> None:
    """The portal's clock stands still, so that no day and no month ends meanwhile."""
    now = datetime.now(UTC)
    monkeypatch.setattr(Parts, "now", lambda _: now)


@pytest.fixture
async def town(parts: Parts) -> Town:
    directory = PostgresDirectory(parts.pool, parts.trail)
    tenant = await directory.create_tenant("acme", "Acme")
    stored = hash_password(PASSWORD, parts.secret_for("passwords"), cost=COST)
    user, _ = await directory.create_user(tenant.id, EMAIL, "Ada", Role.OWNER, stored)
    return Town(parts, directory, tenant, user)


async def log_in(portal: Client, email: str = EMAIL, password: str = PASSWORD, **more: Any) -> ClientResponse:
    """As a program does, from the address that ``X-Client-IP`` names."""
    headers = {"X-Client-IP": "192.0.2.1", **SAME_ORIGIN} | more.pop("headers", {})
    return await portal.post("/auth/login", json={"email": email, "password": password, **more}, headers=headers)


PAGE = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin", "X-Client-IP": "192.0.2.1"}


async def form_of(portal: Client, path: str, action: str | None = None) -> tuple[str, dict[str, str]]:
    """Where the form of a page leads, and its hidden fields. ``action``: of the form that leads there."""
    page = await (await portal.get(path, headers=PAGE)).text()
    form = page if action is None else page[page.index(f'action="{action}"') :]
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form.partition("</form>")[0]))
    return action or html.unescape(re.search(r'<form method="post" action="([^"]*)"', page)[1]), hidden


async def fill(portal: Client, path: str, action: str | None = None, **fields: str) -> ClientResponse:
    """As a browser does: open the page, fill in its form, send it; the answer's redirect is not followed."""
    target, hidden = await form_of(portal, path, action)
    return await portal.post(target, data=hidden | fields, headers=PAGE, allow_redirects=False)


async def actions(parts: Parts) -> list[str]:
    """What the audit trail holds, oldest first."""
    rows = await parts.pool.read("SELECT action FROM platform.audit_entries ORDER BY at, sequence")
    return [row["action"] for row in rows]


@pytest.fixture
async def portal(parts: Parts) -> AsyncIterator[Client]:
    """A browser's view of it: cookies are kept."""
    async with TestClient(TestServer(application(parts)), cookie_jar=CookieJar(unsafe=True)) as client:
        yield client


@pytest.fixture
def houses(portal: Client, parts: Parts) -> Houses:
    """Makes tenants and callers of the API."""
    return Houses(portal, parts)
