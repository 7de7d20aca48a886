"""Signing in with another provider: who it is, whose account that is here, and every way in which it must not work."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient

from policies.identity.tenants import Role, UserStatus
from storage.postgres.people.accounts import PostgresPeople
from storage.postgres.tenants.departures import PostgresDepartures
from tests.gateway.portal.conftest import EMAIL, PAGE, PASSWORD, Client, Town, actions, fill, log_in
from tests.gateway.portal.oidc_world import (
    FakeProvider,
    come_back,
    portal_with,
    provider,
    set_out,
    sign_in,
    table,
)
from tests.policies.signing import signer


@pytest.fixture
async def idp() -> AsyncIterator[FakeProvider]:
    async with provider() as made:
        yield made


@pytest.fixture
async def client(town: Town, idp: FakeProvider, tmp_path: Path) -> AsyncIterator[Client]:
    """New people are let in; accounts are not connected by address."""
    async with portal_with(town.parts, tmp_path, corp=table(idp, make_people=True, tenant="acme")) as made:
        yield made


async def signed_in(client: Client) -> bool:
    return (await client.get("/account", headers=PAGE, allow_redirects=False)).status == 200


async def test_who_is_new_is_let_in_where_the_operator_says_so(client: Client, idp: FakeProvider, town: Town) -> None:
    """With name, address, tenant and role; and comes back to where they were."""
    answer = await sign_in(client, idp, query="?next=/v1/models")
    assert answer.status == 303, await answer.text()
    assert answer.headers["Location"] == "/v1/models"
    assert await signed_in(client)
    account = await PostgresPeople(town.parts.pool, town.parts.trail).account("new@example.com")
    assert account is not None
    assert (account.person.name, account.person.has_password) == ("New Person", False)
    assert [(place.slug, place.role) for place in account.places] == [("acme", Role.MEMBER)]
    assert {"user.created", "member.joined", "session.started"} <= set(await actions(town.parts))
    asked = idp.asked[0]
    assert asked["redirect_uri"] == "http://gw.test/auth/oidc/corp/callback"
    assert (asked["code_challenge_method"], len(asked["code_challenge"])) == ("S256", 43)


async def test_the_second_time_the_same_account_is_meant_whatever_its_address(
    client: Client, idp: FakeProvider, town: Town
) -> None:
    """An address that moved to somebody else moves no account."""
    assert (await sign_in(client, idp)).status == 303
    idp.said = {"email": "renamed@example.com"}
    assert (await sign_in(client, idp)).status == 303
    idp.said = {"sub": "somebody else", "email": "new@example.com"}
    answer = await sign_in(client, idp)
    assert answer.status == 403
    assert "Sign in with its password" in await answer.text()
    rows = await town.parts.pool.read("SELECT count(*) AS n FROM platform.identities")
    assert rows[0]["n"] == 1


@pytest.mark.parametrize("path", ["/auth/oidc/nobody", "/auth/oidc/nobody/callback"])
async def test_a_provider_that_is_not_there_is_a_page_for_people_and_a_code_for_programs(
    client: Client, path: str
) -> None:
    told = await client.get(path, headers={"Accept": "application/json"})
    assert (told.status, told.content_type) == (404, "application/problem+json")
    assert (await told.json())["code"] == "not_found"
    shown = await client.get(path, headers=PAGE)
    assert (shown.status, shown.content_type) == (404, "text/html")


async def test_the_log_in_page_has_its_button(client: Client, town: Town) -> None:
    text = await (await client.get("/auth/login?next=/v1/models", headers=PAGE)).text()
    assert 'href="/auth/oidc/corp?next=/v1/models"' in text
    assert "Continue with corp" in text


async def test_an_account_is_connected_by_address_only_where_the_operator_says_so(
    idp: FakeProvider, town: Town, tmp_path: Path
) -> None:
    idp.said = {"email": EMAIL}
    for allowed, status in ((False, 403), (True, 303)):
        async with portal_with(town.parts, tmp_path, corp=table(idp, link_by_email=allowed)) as client:
            answer = await sign_in(client, idp)
            assert (answer.status, answer.headers.get("Location")) == (status, "/auth/connect" if allowed else None)
            assert "identity.linked" not in await actions(town.parts)  # see test_consent.py
    await town.directory.set_user_status(town.tenant.id, EMAIL, UserStatus.DISABLED)
    async with portal_with(town.parts, tmp_path, corp=table(idp, link_by_email=True)) as client:
        assert (await sign_in(client, idp)).status == 403


@pytest.mark.parametrize("verified", [False, None, "true", 1])
async def test_an_address_that_is_not_vouched_for_leads_nowhere(
    idp: FakeProvider, town: Town, tmp_path: Path, verified: object
) -> None:
    """Neither to the account that has it nor to a new one (CVE-2023-28131 and its kin)."""
    idp.said = {"email": EMAIL, "email_verified": verified}
    settings = table(idp, link_by_email=True, make_people=True, tenant="acme")
    async with portal_with(town.parts, tmp_path, corp=settings) as client:
        answer = await sign_in(client, idp)
        assert answer.status == 403
        assert "does not vouch for" in await answer.text()
        assert not await signed_in(client)


async def test_domains_are_asked_for_each_time(idp: FakeProvider, town: Town, tmp_path: Path) -> None:
    settings = table(idp, make_people=True, tenant="acme", allowed_domains=["example.com"])
    async with portal_with(town.parts, tmp_path, corp=settings) as client:
        assert (await sign_in(client, idp)).status == 303
        for said in ({"email": "new@other.com"}, {"email": "new@example.com.evil.com"}, {"email": None}):
            idp.said = said
            client.session.cookie_jar.clear()
            assert (await sign_in(client, idp)).status == 403


async def test_groups_become_tenants_and_roles(idp: FakeProvider, town: Town, tmp_path: Path) -> None:
    await town.directory.create_tenant("globex", "Globex")
    settings = table(
        idp, make_people=True, tenant_claim="org", tenants=["o2=globex"], roles_claim="groups", roles=["boss=admin"]
    )
    async with portal_with(town.parts, tmp_path, corp=settings) as client:
        idp.said = {"org": "o9"}
        assert (await sign_in(client, idp)).status == 403
        idp.said = {"org": "o2", "groups": ["staff", "boss"]}
        assert (await sign_in(client, idp)).status == 303
        account = await PostgresPeople(town.parts.pool, town.parts.trail).account("new@example.com")
        assert account is not None
        assert [(place.slug, place.role) for place in account.places] == [("globex", Role.ADMIN)]


async def test_a_new_tenant_of_an_old_slug_does_not_get_the_providers_people(
    idp: FakeProvider, town: Town, tmp_path: Path
) -> None:
    """T-07: the operator meant the one that is gone, until the new one is named by its id."""
    departures = PostgresDepartures(town.parts.pool, town.parts.trail)
    await town.directory.create_tenant("globex", "Globex")
    await departures.delete("globex", timedelta(0))
    await departures.purge()
    successor = await town.directory.create_tenant("globex", "Others")
    for name, status in (("globex", 403), (successor.id, 303)):
        settings = table(idp, make_people=True, tenant=name, role="owner")
        async with portal_with(town.parts, tmp_path, corp=settings) as client:
            assert (await sign_in(client, idp)).status == status


async def test_claims_may_be_at_the_other_address(client: Client, idp: FakeProvider) -> None:
    """Some providers put nothing but the subject into the token; what is said of another subject counts for nobody."""
    idp.said = {"email": None, "email_verified": None}
    idp.userinfo = {"sub": "another", "email": "new@example.com", "email_verified": True}
    assert (await sign_in(client, idp)).status == 401
    idp.userinfo["sub"] = "248289761001"
    assert (await sign_in(client, idp)).status == 303


async def test_connected_by_who_is_signed_in(client: Client, idp: FakeProvider, town: Town) -> None:
    """And disconnected again; only in the session that asked for it."""
    idp.said = {"email": "private@other.example"}
    await log_in(client)
    answer = await fill(client, "/account/security", action="/account/identities/corp/connect")
    assert answer.status == 200
    location = answer.headers["Refresh"].removeprefix("0; url=")
    assert "prompt=login" in location
    back = await come_back(client, idp.authorize(location))
    assert back.headers["Location"] == "/account/security?done=linked"
    client.session.cookie_jar.clear()
    assert (await sign_in(client, idp)).status == 303
    assert "private@other.example" in await (await client.get("/account/security", headers=PAGE)).text()
    answer = await fill(client, "/account/security", action="/account/identities/disconnect")
    assert answer.headers["Location"] == "/account/security?done=unlinked"
    client.session.cookie_jar.clear()
    idp.said["email_verified"] = False
    assert (await sign_in(client, idp)).status == 403


async def test_a_connection_is_not_made_in_another_session(client: Client, idp: FakeProvider, town: Town) -> None:
    """Whoever signs in between is not connected to an account that somebody else chose."""
    await log_in(client)
    answer = await fill(client, "/account/security", action="/account/identities/corp/connect")
    query = idp.authorize(answer.headers["Refresh"].removeprefix("0; url="))
    await town.add("eve@example.com")
    await log_in(client, "eve@example.com")
    assert (await come_back(client, query)).status == 401
    assert "identity.linked" not in await actions(town.parts)


async def test_the_second_factor_is_asked_for_unless_the_provider_has_asked(
    idp: FakeProvider, town: Town, tmp_path: Path
) -> None:
    await town.parts.pool.read("SELECT 1")
    async with town.parts.pool.operator() as connection:
        await connection.execute("UPDATE platform.tenants SET second_factor_for = '{member}'")
    for asks, where in ((False, "/auth/mfa/setup"), (True, "/account")):
        settings = table(idp, make_people=True, tenant="acme", second_factor=asks)
        async with portal_with(town.parts, tmp_path, corp=settings) as client:
            answer = await sign_in(client, idp)
            assert answer.headers["Location"] == where
            assert await signed_in(client) is asks


# --- attacks ----------------------------------------------------------------------------------------------------------

BAD_CLAIMS = {
    "wrong nonce": {"nonce": "another"},
    "no nonce": {"nonce": None},
    "wrong audience": {"aud": "another"},
    "also for others": {"aud": ["tahoe", "another"]},
    "authorized party": {"azp": "another"},
    "wrong issuer": {"iss": "https://evil.example"},
    "expired": {"exp": 1_700_000_000},
    "no expiry": {"exp": None},
    "from the future": {"iat": 4_000_000_000},
    "no subject": {"sub": None},
    "number for a subject": {"sub": 17},
}


@pytest.mark.parametrize("case", BAD_CLAIMS)
async def test_an_identity_token_for_something_else_is_refused(client: Client, idp: FakeProvider, case: str) -> None:
    idp.said = BAD_CLAIMS[case]
    answer = await sign_in(client, idp)
    assert answer.status == 401
    assert "start again" in await answer.text()
    assert not await signed_in(client)


@pytest.mark.parametrize("case", ["none", "hs256", "other key", "access token", "nothing", "not a token"])
async def test_an_identity_token_that_is_not_signed_by_the_provider_is_refused(
    client: Client, idp: FakeProvider, case: str
) -> None:
    match case:
        case "none":
            idp.header = {"typ": "JWT", "alg": "none"}
        case "hs256":
            idp.header = {"typ": "JWT", "alg": "HS256"}
        case "other key":
            real, other = idp.key, signer("RS256", 2)
            idp.header = {"typ": "JWT", "kid": real.kid}
            idp.jwks = lambda _: None  # type: ignore[assignment,method-assign]  # routes hold the real one
            assert (await sign_in(client, idp)).status in (303, 401)
            client.session.cookie_jar.clear()
            idp.key = other
        case "access token":
            idp.header = {"typ": "at+jwt"}
        case "nothing":
            idp.answer = {"id_token": None}
        case "not a token":
            idp.answer = {"id_token": "a.b.c"}
    assert (await sign_in(client, idp)).status == 401
    assert not await signed_in(client)


async def test_an_answer_is_good_once(client: Client, idp: FakeProvider) -> None:
    """Of two at once one wins; afterwards none does."""
    query = idp.authorize(await set_out(client))
    cookies = {m.key: m.value for m in client.session.cookie_jar}
    answers = await asyncio.gather(*(come_back(client, query) for _ in range(3)))
    assert sorted(answer.status for answer in answers) == [303, 401, 401]
    client.session.cookie_jar.clear()
    client.session.cookie_jar.update_cookies(cookies, response_url=client.make_url("/"))
    idp.codes[query["code"]] = idp.asked[0]
    assert (await come_back(client, query)).status == 401


async def test_an_answer_is_good_in_its_own_browser_only(client: Client, idp: FakeProvider, town: Town) -> None:
    """Log-in CSRF: a victim who is sent a stranger's answer is not signed in as the stranger."""
    query = idp.authorize(await set_out(client))
    async with TestClient(client.server) as victim:
        assert (await come_back(victim, query)).status == 401
        theirs = await set_out(victim)
        mixed = {**query, "state": idp.authorize(theirs)["state"]}
        assert (await come_back(victim, mixed)).status == 401  # code injection: PKCE and nonce are the victim's own


async def test_another_providers_answer_is_not_this_ones(town: Town, idp: FakeProvider, tmp_path: Path) -> None:
    """Mix-up: neither by the address it comes to nor by ``iss`` (RFC 9207)."""
    async with provider() as other:
        tables = {"corp": table(idp, make_people=True, tenant="acme"), "evil": table(other)}
        idp.metadata = {"authorization_response_iss_parameter_supported": True}
        async with portal_with(town.parts, tmp_path, **tables) as client:
            for name, more, status in (
                ("evil", {"iss": idp.url}, 401),
                ("corp", {"iss": other.url}, 401),
                ("corp", {}, 401),
                ("corp", {"iss": idp.url + "/"}, 401),
                ("corp", {"iss": idp.url}, 303),
            ):
                query = idp.authorize(await set_out(client), **more)
                assert (await come_back(client, query, name)).status == status
    assert not other.asked


async def test_to_prove_oneself_anew_is_more_than_being_known(client: Client, idp: FakeProvider) -> None:
    """The provider was asked for a fresh log-in, and says that it was long ago; or does not say."""
    for when in (1_700_000_000, None, "now"):
        idp.said = {"auth_time": when}
        assert (await sign_in(client, idp, query="?again")).status == 401
    idp.said = {}
    assert (await sign_in(client, idp, query="?again")).status == 303


@pytest.mark.parametrize(
    "wrong",
    [
        {"issuer": "https://evil.example"},
        {"token_endpoint": "http://evil.example/token"},
        {"token_endpoint": None},
        {"jwks_uri": "file:///etc/passwd"},
        {"code_challenge_methods_supported": ["plain"]},
        {"code_challenge_methods_supported": 7},
        {"authorization_endpoint": "javascript:alert(1)"},
    ],
)
async def test_a_provider_that_cannot_be_right_is_not_used(
    client: Client, idp: FakeProvider, wrong: dict[str, object]
) -> None:
    idp.metadata = wrong
    answer = await client.get("/auth/oidc/corp", headers=PAGE, allow_redirects=False)
    assert answer.status == 503
    assert "does not answer as it should" in await answer.text()


async def test_who_is_signed_in_is_told_on_a_page_of_the_account(client: Client, idp: FakeProvider, town: Town) -> None:
    """Not on the log-in page: what went wrong with connecting an account, and with proving oneself there anew."""
    await log_in(client)
    answer = await fill(client, "/account/security", action="/account/identities/corp/connect")
    query = idp.authorize(answer.headers["Refresh"].removeprefix("0; url="))
    refused = await come_back(client, {"error": "access_denied", "state": query["state"]})
    assert refused.status == 401
    assert "<title>Error: Password and security" in await refused.text()
    query = idp.authorize(await set_out(client, query="?again&next=/account/data"))
    refused = await come_back(client, {"error": "access_denied", "state": query["state"]})
    assert "<title>Error: Confirm that it is you" in await refused.text()


async def test_a_provider_away_is_told_on_the_page_that_asked_for_it(
    client: Client, idp: FakeProvider, town: Town
) -> None:
    idp.down = True
    await log_in(client)
    refused = await fill(client, "/account/security", action="/account/identities/corp/connect")
    assert refused.status == 503
    assert "<title>Error: Password and security" in await refused.text()


async def test_nobody_else_proves_that_it_is_them(client: Client, idp: FakeProvider, town: Town) -> None:
    """Who signs in at the provider as somebody else than is signed in here changes nothing, not even the session."""
    await sign_in(client, idp)
    idp.said = {"sub": "another", "email": "eve@example.com"}
    refused = await sign_in(client, idp, query="?again&next=/account/data")
    assert refused.status == 401
    assert "another account" in await refused.text()
    assert "new@example.com" in await (await client.get("/account", headers=PAGE)).text()
    assert await town.parts.pool.read("SELECT 1 FROM platform.users WHERE email = 'eve@example.com'") == []


async def test_who_proves_itself_anew_stays_where_it_was(client: Client, idp: FakeProvider, town: Town) -> None:
    """In the tenant that it has gone on to: what it was about to do was to be done there."""
    await sign_in(client, idp)
    ((user_id,),) = await town.parts.pool.read("SELECT id FROM platform.users WHERE email = 'new@example.com'")
    other = await town.directory.create_tenant("other", "Other")
    async with town.parts.pool.tenant(other.id) as connection:
        await connection.execute(
            "INSERT INTO platform.memberships (tenant_id, user_id, role) VALUES ($1, $2, 'admin')", other.id, user_id
        )
    assert (await fill(client, "/account", action="/account/tenant", tenant=other.id)).status == 303
    assert (await sign_in(client, idp, query="?again&next=/account/data")).status == 303
    assert (await (await client.get("/platform/v1/me")).json())["tenant_id"] == other.id


async def test_a_connected_account_is_called_as_its_button(idp: FakeProvider, town: Town, tmp_path: Path) -> None:
    corp = table(idp, make_people=True, tenant="acme", label="Corp & Co")
    async with portal_with(town.parts, tmp_path, corp=corp) as client:
        await sign_in(client, idp)
        assert "<b>Corp &amp; Co</b>" in await (await client.get("/account/security", headers=PAGE)).text()


async def test_a_provider_that_is_down_is_said_to_be(client: Client, idp: FakeProvider) -> None:
    """And the password still works."""
    idp.down = True
    answer = await client.get("/auth/oidc/corp", headers=PAGE, allow_redirects=False)
    assert answer.status == 503
    assert answer.headers["Retry-After"]
    assert 'name="password"' in await answer.text()
    assert (await log_in(client, EMAIL, PASSWORD)).status == 200


async def test_what_the_provider_refuses_is_told_without_its_words(client: Client, idp: FakeProvider) -> None:
    state = idp.authorize(await set_out(client))["state"]
    answer = await come_back(client, {"error": "access_denied", "error_description": "<b>x", "state": state})
    assert answer.status == 401
    assert "<b>x" not in await answer.text()
    assert (await client.get("/auth/oidc/nobody", headers=PAGE)).status == 404
    assert (await come_back(client, {})).status == 401


async def test_a_token_need_not_name_its_key_or_its_kind(client: Client, idp: FakeProvider) -> None:
    """As OpenID Connect Core section 10.1 allows where the provider has one key; but one of its keys it must be."""
    idp.header = {"typ": None, "kid": None}
    assert (await sign_in(client, idp)).status == 303
    client.session.cookie_jar.clear()
    idp.published = [idp.key]
    idp.key = signer("RS256", 2)
    assert (await sign_in(client, idp)).status == 401
