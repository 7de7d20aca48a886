"""Signing in with another provider: what was once believed too easily, or written down too readily."""

import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway.portal.conftest import (
    EMAIL,
    PAGE,
    Client,
    Town,
    actions,
    compiled_templates,
    log_in,
    parts,
    quick_bcrypt,
    town,
)
from tests.gateway.portal.oidc_world import (
    SECRET,
    FakeProvider,
    come_back,
    portal_with,
    provider,
    set_out,
    sign_in,
    table,
)
from tests.policies.signing import b64, signer

__all__ = ["compiled_templates", "parts", "quick_bcrypt", "town"]


@pytest.fixture
async def idp() -> AsyncIterator[FakeProvider]:
    async with provider() as made:
        yield made


@pytest.fixture
async def client(town: Town, idp: FakeProvider, tmp_path: Path) -> AsyncIterator[Client]:
    """New people are let in, and accounts are connected by address."""
    settings = table(idp, make_people=True, tenant="acme", link_by_email=True)
    async with portal_with(town.parts, tmp_path, corp=settings) as made:
        yield made


@pytest.mark.parametrize(("ago", "fresh"), [(None, False), (3_600, False), (0, True), (-9_999_999, True)])
async def test_a_provider_that_asked_nothing_has_proved_nothing(
    client: Client, idp: FakeProvider, ago: int | None, fresh: bool
) -> None:
    """Whoever finds a browser that is signed in there comes in, but changes no address and removes no second factor."""
    idp.said = {"auth_time": None if ago is None else int(time.time()) - ago}
    assert (await sign_in(client, idp)).status == 303
    answer = await client.get("/account/email", headers=PAGE, allow_redirects=False)
    assert (answer.status == 200) is fresh
    assert fresh or answer.headers["Location"].startswith("/account/confirm")


async def test_nobody_fills_the_trail_by_opening_an_address(client: Client, idp: FakeProvider, town: Town) -> None:
    """Only a log-in that this browser began, of which there are so many, is one that failed."""
    for query in ({}, {"state": "x", "code": "y"}, {"state": "x", "error": "access_denied"}):
        assert (await come_back(client, query)).status == 401
    assert "login.failed" not in await actions(town.parts)
    state = idp.authorize(await set_out(client))["state"]
    assert (await come_back(client, {"state": state, "error": "access_denied"})).status == 401
    assert (await actions(town.parts)).count("login.failed") == 1


async def test_a_mailbox_that_looks_like_another_in_small_letters_is_not_that_one(
    client: Client, idp: FakeProvider, town: Town
) -> None:
    """The Kelvin sign becomes a ``k``: with it somebody else's mailbox, and well verified (GitHub, 2019)."""
    await town.add("mike@example.com")
    idp.said = {"email": "mi\u212ae@example.com"}
    assert (await sign_in(client, idp)).status == 403
    assert "identity.linked" not in await actions(town.parts)
    assert (await log_in(client, "mi\u212ae@example.com")).status == 401


async def test_who_says_an_address_says_whether_it_is_verified(client: Client, idp: FakeProvider, town: Town) -> None:
    """The token vouches for no address that only the other answer holds."""
    idp.said = {"email": None, "email_verified": True}
    idp.userinfo = {"sub": "248289761001", "email": EMAIL, "email_verified": False}
    assert (await sign_in(client, idp)).status == 403
    assert "identity.linked" not in await actions(town.parts)


async def test_the_provider_alone_gives_nobody_an_account_that_is_here_already(
    client: Client, idp: FakeProvider, town: Town
) -> None:
    """Its word for an address, however often it is given, is no more than a question to the account's owner."""
    idp.said = {"email": EMAIL}
    for _ in range(2):
        answer = await sign_in(client, idp)
        assert (answer.status, answer.headers["Location"]) == (303, "/auth/connect")
        assert (await client.get("/account", headers=PAGE, allow_redirects=False)).status == 303
    assert not {"identity.linked", "session.started"} & set(await actions(town.parts))


@pytest.mark.parametrize("named", [True, False])
async def test_keys_that_change_shut_nobody_out(client: Client, idp: FakeProvider, named: bool) -> None:
    """A signature that no known key has made is a reason to read the key set at once; not again for a while."""
    if not named:
        idp.header |= {"kid": None}
    assert (await sign_in(client, idp)).status == 303
    idp.published = [idp.key, signer("RS256", 2)]
    idp.key = idp.published[1]
    assert (await sign_in(client, idp)).status == 303
    assert idp.jwks_asked == 2
    idp.key = signer("RS256", 3)
    for _ in range(3):
        assert (await sign_in(client, idp)).status == 401
    assert idp.jwks_asked == 2


async def test_the_clients_secret_signs_no_identity_token(client: Client, idp: FakeProvider) -> None:
    """HS256 with the secret that both know, or with the public key that all know (CVE-2016-10555)."""
    now = int(time.time())
    for secret in (SECRET.encode(), json.dumps(idp.key.jwk).encode()):
        query = idp.authorize(await set_out(client))
        claims = {"iss": idp.url, "aud": "tahoe", "sub": "s", "iat": now, "exp": now + 300, "email_verified": True,
                  "email": EMAIL, "nonce": idp.asked[-1]["nonce"]}  # fmt: skip
        head = {"typ": "JWT", "alg": "HS256", "kid": idp.key.kid}
        text = b64(json.dumps(head).encode()) + b"." + b64(json.dumps(claims).encode())
        forged = text + b"." + b64(hmac.digest(secret, text, hashlib.sha256))
        idp.answer = {"id_token": forged.decode()}
        assert (await come_back(client, query)).status == 401


GARBAGE = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "not UTF-8": b'{"id_token":"\xff"}',
    "twice the same": b'{"id_token":"a","id_token":"b"}',
    "deep": b'{"a":' + b"[" * 100_000,
    "huge": b'{"id_token":"' + b"a" * 5_000_000 + b'"}',
    "a huge token": b'{"id_token":"' + b"a" * 200_000 + b"." + b"b" * 40_000 + b'.c"}',
    "a number": b'{"id_token":1e999}',
}


async def test_garbage_in_the_providers_place_signs_nobody_in(client: Client, idp: FakeProvider) -> None:
    """Whatever answers instead of the provider, short or endless: a refusal in our words, and no bug of ours."""
    for what, idp.garbage in GARBAGE.items():
        answer = await come_back(client, idp.authorize(await set_out(client)))
        assert answer.status == 401, what
        assert "start again" in await answer.text()
