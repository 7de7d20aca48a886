"""Passkeys under attack: an authenticator in software, whose answers are wrong in one place each."""

import hashlib
import json
import secrets
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cbor2
import pytest
from aiohttp import ClientResponse, CookieJar
from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url

from gateway.configuration.sources import load
from gateway.portal.application import application
from policies.identity.tenants import UserStatus
from tests.gateway.portal.conftest import EMAIL, PAGE, PASSWORD, SAME_ORIGIN, Client, Town, actions, log_in
from tests.storage.waiting import until

ORIGIN = "http://localhost:9200"
PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40


@dataclass
class Authenticator:
    """One passkey. What it says may be bent by each call."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    id: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    count: int = 0
    user: str = ""

    def make(self, options: dict[str, Any], *, flags: int = PRESENT | VERIFIED, **bent: Any) -> dict[str, Any]:
        """A registration response to these options."""
        self.user = options["user"]["id"]
        point = self.key.public_key().public_numbers()
        public = {1: 2, 3: -7, -1: 1, -2: point.x.to_bytes(32), -3: point.y.to_bytes(32)}
        attested = bytes(16) + struct.pack(">H", len(self.id)) + self.id + cbor2.dumps(public)
        said = self._data(flags | ATTESTED, **bent) + attested
        response = {
            "clientDataJSON": bytes_to_base64url(_client_data("webauthn.create", options, **bent)),
            "attestationObject": bytes_to_base64url(cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": said})),
            "transports": ["internal"],
        }
        return self._credential(response)

    def use(self, options: dict[str, Any], *, flags: int = PRESENT | VERIFIED, **bent: Any) -> dict[str, Any]:
        """An authentication response to these options."""
        self.count += 1
        said, client = self._data(flags, **bent), _client_data("webauthn.get", options, **bent)
        signature = self.key.sign(said + hashlib.sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
        response = {
            "clientDataJSON": bytes_to_base64url(client),
            "authenticatorData": bytes_to_base64url(said),
            "signature": bytes_to_base64url(signature),
            "userHandle": bent.get("user", self.user),
        }
        return self._credential(response)

    def _data(self, flags: int, *, host: str = "localhost", count: int | None = None, **_: Any) -> bytes:
        number = self.count if count is None else count
        return hashlib.sha256(host.encode()).digest() + struct.pack(">BI", flags, number)

    def _credential(self, response: dict[str, Any]) -> dict[str, Any]:
        name = bytes_to_base64url(self.id)
        return {"id": name, "rawId": name, "type": "public-key", "response": response, "clientExtensionResults": {}}


def _client_data(kind: str, options: dict[str, Any], /, *, origin: str = ORIGIN, **bent: Any) -> bytes:
    said = {"type": bent.get("kind", kind), "challenge": bent.get("challenge", options["challenge"]), "origin": origin}
    return json.dumps(said).encode()


@pytest.fixture
async def client(town: Town, tmp_path: Path) -> AsyncIterator[Client]:
    settings = load(
        {"state_dir": tmp_path, "public_url": ORIGIN, "password_cost": 10, "mail": f"file:{tmp_path}/mail"}, None, {}
    )
    app = application(replace(town.parts, settings=settings))
    async with TestClient(TestServer(app), cookie_jar=CookieJar(unsafe=True)) as made:
        yield made


async def ask(client: Client, path: str, **body: Any) -> ClientResponse:
    return await client.post(path, json=body, headers=SAME_ORIGIN)


async def options(client: Client, path: str = "/auth/passkey/options") -> dict[str, Any]:
    answer = await ask(client, path)
    assert answer.status == 200, await answer.text()
    found = await answer.json()
    assert len(base64url_to_bytes(found["challenge"])) == 32
    assert isinstance(found, dict)
    return found


async def registered(client: Client, email: str = EMAIL) -> Authenticator:
    """Somebody's passkey; nobody is signed in afterwards."""
    await log_in(client, email)
    made = Authenticator()
    credential = made.make(await options(client, "/account/passkeys/options"))
    assert (await ask(client, "/account/passkeys", credential=credential, name="one")).status == 201
    client.session.cookie_jar.clear()
    return made


async def test_the_owner_is_told_and_may_take_the_list_along(client: Client, town: Town, tmp_path: Path) -> None:
    """By mail, because somebody else may have made it; and in the export of one's data, without the key."""
    await registered(client)
    await log_in(client)
    export = await (await client.get("/account/data/export.json", headers=PAGE)).json()
    assert [sorted(one) for one in export["passkeys"]] == [["created_at", "last_used_at", "name"]]
    assert export["other_accounts"] == []
    await until(lambda: list((tmp_path / "mail").glob("*.eml")) != [])
    (letter,) = (tmp_path / "mail").glob("*.eml")
    assert "A passkey was added to your account" in letter.read_text()


async def is_signed_in(client: Client) -> bool:
    return (await client.get("/account", headers=PAGE, allow_redirects=False)).status == 200


async def test_a_passkey_signs_in_and_goes_where_one_was_going(client: Client, town: Town) -> None:
    passkey = await registered(client)
    answer = await ask(client, "/auth/passkey", credential=passkey.use(await options(client)), next="/v1/models")
    assert await answer.json() == {"location": "/v1/models"}
    assert await is_signed_in(client)
    client.session.cookie_jar.clear()
    credential = passkey.use(await options(client))
    answer = await ask(client, "/auth/passkey", credential=credential, next="https://evil.example/")
    assert await answer.json() == {"location": "/account"}


BENT: dict[str, dict[str, Any]] = {
    "another site": {"origin": "https://evil.example"},
    "another port": {"origin": "http://localhost:9999"},
    "another host's key": {"host": "evil.example"},
    "nobody there": {"flags": 0},
    "not verified": {"flags": PRESENT},
    "a registration": {"kind": "webauthn.create"},
    "another challenge": {"challenge": bytes_to_base64url(bytes(32))},
    "no challenge": {"challenge": None},
    "another user": {"user": bytes_to_base64url(b"usr_00000000000000000000")},
    "a counter that stands": {"count": 0},
}


@pytest.mark.parametrize("case", BENT)
async def test_an_answer_that_is_bent_opens_nothing(client: Client, town: Town, case: str) -> None:
    passkey = await registered(client)
    first = await ask(client, "/auth/passkey", credential=passkey.use(await options(client)))
    assert first.status == 200
    client.session.cookie_jar.clear()
    answer = await ask(client, "/auth/passkey", credential=passkey.use(await options(client), **BENT[case]))
    assert (answer.status, (await answer.json(content_type=None))["code"]) == (401, "passkey_failed")
    assert not await is_signed_in(client)
    assert (await actions(town.parts))[-1] == "login.failed"


async def test_a_challenge_is_good_once_in_one_browser_for_one_purpose(client: Client, town: Town) -> None:
    passkey = await registered(client)
    asked = await options(client)
    assert (await ask(client, "/auth/passkey", credential=passkey.use(asked))).status == 200
    assert (await ask(client, "/auth/passkey", credential=passkey.use(asked))).status == 401
    asked = await options(client)
    client.session.cookie_jar.clear()
    await options(client)  # another browser
    assert (await ask(client, "/auth/passkey", credential=passkey.use(asked))).status == 401
    await log_in(client)
    asked = await options(client)
    made = Authenticator().make(asked | {"user": {"id": "x"}})
    assert (await ask(client, "/account/passkeys", credential=made)).status == 401


@pytest.mark.parametrize("bent", [{"origin": "https://evil.example"}, {"flags": PRESENT}, {"host": "evil.example"}])
async def test_a_bent_registration_makes_nothing(client: Client, town: Town, bent: dict[str, Any]) -> None:
    await log_in(client)
    credential = Authenticator().make(await options(client, "/account/passkeys/options"), **bent)
    assert (await ask(client, "/account/passkeys", credential=credential)).status == 401
    assert "passkey.added" not in await actions(town.parts)


@pytest.mark.parametrize("junk", [{}, {"rawId": 7}, {"response": []}, {"response": {"clientDataJSON": "e30"}}])
async def test_junk_is_refused(client: Client, town: Town, junk: dict[str, Any]) -> None:
    await options(client)
    assert (await ask(client, "/auth/passkey", credential=junk)).status == 401


async def test_a_known_passkey_is_nobody_elses(client: Client, town: Town) -> None:
    """An id that is taken cannot be taken over; and a stranger's passkey is no second factor of mine."""
    passkey = await registered(client)
    await town.add("eve@example.com")
    await log_in(client, "eve@example.com")
    again = replace(passkey, key=ec.generate_private_key(ec.SECP256R1()))
    credential = again.make(await options(client, "/account/passkeys/options"))
    assert (await ask(client, "/account/passkeys", credential=credential)).status == 409
    client.session.cookie_jar.clear()
    theirs = await registered(client, "eve@example.com")
    async with town.parts.pool.operator() as connection:
        await connection.execute("UPDATE platform.tenants SET second_factor_for = '{owner,member}'")
    page = await (await client.get("/auth/login", headers=PAGE)).text()
    token = page.partition('name="csrf" value="')[2].partition('"')[0]
    form = {"csrf": token, "email": EMAIL, "password": "correct horse battery staple"}
    answer = await client.post("/auth/login", data=form, headers=PAGE, allow_redirects=False)
    assert answer.headers["Location"] == "/auth/mfa"
    asked = await options(client, "/auth/mfa/passkey/options")
    assert [one["id"] for one in asked["allowCredentials"]] == [bytes_to_base64url(passkey.id)]
    assert (await ask(client, "/auth/mfa/passkey", credential=theirs.use(asked))).status == 401
    assert not await is_signed_in(client)
    asked = await options(client, "/auth/mfa/passkey/options")
    assert (await ask(client, "/auth/mfa/passkey", credential=passkey.use(asked))).status == 200


async def make_stale(town: Town) -> None:
    """Whoever is signed in did it a while ago."""
    async with town.parts.pool.operator() as connection:
        await connection.execute("UPDATE platform.sessions SET authenticated_at = now() - interval '1 hour'")


async def test_a_passkey_confirms_that_it_is_still_its_person(client: Client, town: Town) -> None:
    """For what asks for a fresh proof: the person's own passkey, to a question of this purpose, in this browser."""
    passkey = await registered(client)
    await town.add("eve@example.com")
    theirs = await registered(client, "eve@example.com")
    await log_in(client)
    await make_stale(town)
    assert (
        'data-passkey="confirm" data-next="/account/email"'
        in await (await client.get("/account/email", headers=PAGE)).text()
    )
    for wrong in (
        theirs.use(await options(client, "/account/confirm/passkey/options")),
        passkey.use(await options(client)),
        passkey.use(await options(client, "/account/confirm/passkey/options"), flags=PRESENT),
    ):
        assert (await ask(client, "/account/confirm/passkey", credential=wrong)).status == 401
        assert (await ask(client, "/account/passkeys/options")).status == 403
    asked = await options(client, "/account/confirm/passkey/options")
    assert [one["id"] for one in asked["allowCredentials"]] == [bytes_to_base64url(passkey.id)]
    answer = await ask(client, "/account/confirm/passkey", credential=passkey.use(asked), next="/account/email")
    assert await answer.json() == {"location": "/account/email"}
    assert (await client.get("/account/email", headers=PAGE, allow_redirects=False)).status == 200


async def test_a_program_of_who_has_passkeys_alone_is_told_what_to_do(client: Client, town: Town) -> None:
    """Not asked for a code that there is none of."""
    await registered(client)
    async with town.parts.pool.operator() as connection:
        await connection.execute("UPDATE platform.tenants SET second_factor_for = '{owner}'")
    for code in ({}, {"code": "123456"}):
        answer = await log_in(client, **code)
        assert (answer.status, (await answer.json(content_type=None))["code"]) == (403, "passkey_required")
        form = {"grant_type": "password", "email": EMAIL, "password": PASSWORD, **code}
        answer = await client.post("/auth/token", data=form)
        said = await answer.json()
        assert (answer.status, said["error"]) == (403, "interaction_required")
        assert "make an API token" in said["error_description"]


async def test_who_is_disabled_has_no_passkey(client: Client, town: Town) -> None:
    passkey = await registered(client)
    await town.directory.set_user_status(town.tenant.id, EMAIL, UserStatus.DISABLED)
    assert (await ask(client, "/auth/passkey", credential=passkey.use(await options(client)))).status == 401


async def test_without_a_name_for_the_gateway_no_page_offers_any(portal: Client, town: Town) -> None:
    """Browsers have none over plain HTTP, nor for an address."""
    assert "passkey" not in await (await portal.get("/auth/login", headers=PAGE)).text()
    assert (await ask(portal, "/auth/passkey/options")).status == 404
