"""The OAuth endpoints: RFC 6749, 7009, 7662, 8414, 8707 and 9700, over PostgreSQL and Valkey."""

import asyncio
import base64
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from gateway.configuration.secrets import SERVICE_SECRETS
from gateway.identity.digests import digest
from gateway.identity.signing import SEALING, new_key
from gateway.portal.oauth.parts import OAUTH
from gateway.portal.parts import Parts
from policies.http.credentials import RANDOM_BYTES, mint_client_secret
from policies.identity.jws import parse
from policies.identity.signing_keys import OVERLAP
from policies.identity.tenants import Role, ServiceAccount, Tenant, TenantStatus, User, UserStatus
from policies.identity.tokens import AccessToken, Fault
from policies.identity.verification_keys import read_key_set
from storage.ports import Invalidation
from storage.postgres.tokens.signing_keys import PostgresSigningKeys
from tests.gateway.portal.api import Houses
from tests.gateway.portal.conftest import Client

ISSUER = "http://gw.test"
SCOPES = frozenset({"transcribe", "introspect"})


@dataclass
class Office:
    """A tenant with a member and a service account, and requests to the endpoints."""

    client: Client
    houses: Houses
    parts: Parts
    tenant: Tenant
    user: User
    account: ServiceAccount
    secret: str

    @property
    def tokens(self) -> Any:
        return self.client.app[OAUTH].tokens  # type: ignore[union-attr]

    async def post(self, path: str, fields: Mapping[str, str], *, status: int = 200, **how: Any) -> Any:
        """The answer's JSON, or None without a body."""
        async with self.client.post(path, data=fields, **how) as answer:
            text = await answer.text()
            assert answer.status == status, text
            assert answer.headers["Cache-Control"] == "no-store"
            return await answer.json() if text else None

    async def service_token(self, **fields: str) -> Any:
        return await self.post(
            "/auth/token",
            {"grant_type": "client_credentials", "client_id": self.account.id, "client_secret": self.secret} | fields,
        )

    async def log_in(self) -> Any:
        """As the password grant does once the person has proved who it is."""
        principal = await self.tokens.subject(self.tenant.id, self.user.id)
        assert principal is not None
        return await self.tokens.begin(principal, frozenset({"transcribe", "usage:read"}))

    async def refresh(self, token: str, *, status: int = 200, **fields: str) -> Any:
        return await self.post(
            "/auth/token", {"grant_type": "refresh_token", "refresh_token": token} | fields, status=status
        )

    async def introspect(self, token: str) -> Any:
        return await self.post(
            "/auth/introspect", {"token": token, "client_id": self.account.id, "client_secret": self.secret}
        )


@pytest.fixture
async def office(portal: Client, houses: Houses, parts: Parts) -> Office:
    tenant = await houses.tenant()
    user, _ = await houses.directory.create_user(tenant.id, "u@example.com", "U", Role.MEMBER)
    accounts = portal.app[OAUTH].accounts  # type: ignore[union-attr]
    secret = mint_client_secret(bytes(RANDOM_BYTES))
    account = await accounts.create(
        tenant.id,
        name="worker",
        scopes=SCOPES,
        audiences=frozenset({"billing"}),
        digest=digest(parts.secret_for(SERVICE_SECRETS), secret.encode()),
    )
    return Office(portal, houses, parts, tenant, user, account, secret)


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


# --- client credentials


async def test_a_service_account_gets_a_short_token_for_the_gateway(office: Office) -> None:
    answer = await office.service_token()
    assert (answer["token_type"], answer["expires_in"], answer["scope"]) == ("Bearer", 300, "introspect transcribe")
    assert "refresh_token" not in answer
    assert office.parts.metrics.auth[("client_credentials", "ok")] == 1
    token = await office.tokens.bearers.examine(answer["access_token"].encode())
    assert isinstance(token, AccessToken)
    assert (token.subject, token.tenant_id, token.client_id) == (office.account.id, office.tenant.id, office.account.id)
    assert token.expires_s - token.issued_s == 300


async def test_a_token_for_another_service_is_for_that_alone(office: Office) -> None:
    """A-09: the audience is one of the account's, and the gateway itself does not take it."""
    for name in ("audience", "resource"):
        answer = await office.service_token(**{name: "billing"})
        jws = parse(answer["access_token"].encode())
        assert jws is not None
        assert jws.claims["aud"] == "billing"
        assert await office.tokens.bearers.examine(answer["access_token"].encode()) is Fault.WRONG_AUDIENCE
    error = await office.post(
        "/auth/token",
        {"grant_type": "client_credentials", "audience": "payroll", "client_id": office.account.id,
         "client_secret": office.secret},
        status=400,
    )  # fmt: skip
    assert error["error"] == "invalid_target"


async def test_fewer_scopes_may_be_asked_for_and_no_others(office: Office) -> None:
    assert (await office.service_token(scope="transcribe"))["scope"] == "transcribe"
    for scope in ("keys:write", "transcribe keys:write", "transcribe  x", 'a"b'):
        error = await office.post(
            "/auth/token",
            {"grant_type": "client_credentials", "scope": scope},
            headers=basic(office.account.id, office.secret),
            status=400,
        )
        assert error["error"] == "invalid_scope"


async def test_a_client_may_authenticate_in_the_header_and_in_json(office: Office) -> None:
    fields = {"grant_type": "client_credentials"}
    assert await office.post("/auth/token", fields, headers=basic(office.account.id, office.secret))
    body = fields | {"client_id": office.account.id, "client_secret": office.secret}
    async with office.client.post("/auth/token", json=body) as answer:
        assert answer.status == 200


async def test_a_client_that_is_not_who_it_says_gets_one_answer(office: Office) -> None:
    for headers in (
        basic(office.account.id, mint_client_secret(b"x" * RANDOM_BYTES)),
        basic("svc_" + "0" * 20, office.secret),
        basic(office.account.id, ""),
        basic(office.secret, office.account.id),
        {},
        {"Authorization": "Basic !!!"},
        {"Authorization": f"Bearer {office.secret}"},
    ):
        async with office.client.post(
            "/auth/token", data={"grant_type": "client_credentials"}, headers=headers
        ) as answer:
            assert answer.status == 401
            assert (await answer.json())["error"] == "invalid_client"
            assert answer.headers["WWW-Authenticate"].startswith("Basic ")


async def test_two_ways_to_authenticate_are_one_too_many(office: Office) -> None:
    error = await office.post(
        "/auth/token",
        {"grant_type": "client_credentials", "client_id": office.account.id, "client_secret": office.secret},
        headers=basic(office.account.id, office.secret),
        status=400,
    )
    assert error["error"] == "invalid_request"


@pytest.mark.parametrize("change", ["disabled", "suspended", "rotated"])
async def test_an_account_that_ended_gets_no_token(office: Office, change: str) -> None:
    """A-07, T-09; and the tokens that it has are refused from the next question on."""
    token = (await office.service_token())["access_token"]
    accounts = office.client.app[OAUTH].accounts  # type: ignore[union-attr]
    if change == "disabled":
        await accounts.disable(office.tenant.id, office.account.id)
    elif change == "suspended":
        await office.houses.directory.set_tenant_status(office.tenant.slug, TenantStatus.SUSPENDED)
    else:
        await accounts.rotate(office.tenant.id, office.account.id, digest=bytes(32), old_ends_at=office.parts.now())
    error = await office.post(
        "/auth/token", {"grant_type": "client_credentials"}, headers=basic(office.account.id, office.secret), status=401
    )
    assert error["error"] == "invalid_client"
    if change != "rotated":
        found = await office.tokens.bearers.examine(token.encode())
        principal = await office.tokens.bearers.principal(found)
        assert principal is None or principal.standing != "good"


# --- refresh


async def test_a_refresh_token_is_replaced_at_each_use(office: Office) -> None:
    """K-01."""
    issued = await office.log_in()
    answer = await office.refresh(issued.refresh)
    assert answer["refresh_token"] != issued.refresh
    assert (answer["token_type"], answer["expires_in"], answer["scope"]) == ("Bearer", 600, "transcribe usage:read")
    token = await office.tokens.bearers.examine(answer["access_token"].encode())
    assert isinstance(token, AccessToken)
    assert token.subject == office.user.id
    assert token.family.startswith("fam_")
    again = await office.refresh(answer["refresh_token"])
    assert again["refresh_token"] not in (issued.refresh, answer["refresh_token"])


async def test_a_lost_answer_is_told_again(office: Office) -> None:
    """K-03: the predecessor leads to the same successor, for a moment."""
    issued = await office.log_in()
    first = await office.refresh(issued.refresh)
    second = await office.refresh(issued.refresh)
    assert first["refresh_token"] == second["refresh_token"]
    assert (await office.refresh(first["refresh_token"]))["refresh_token"] != first["refresh_token"]


async def test_an_old_token_ends_the_log_in_and_its_access_tokens(office: Office) -> None:
    """K-02: R1 after R3, however soon; the newest is no good either, and workers are told."""
    first = await office.log_in()
    second = await office.refresh(first.refresh)
    third = await office.refresh(second["refresh_token"])
    async with aclosing(office.parts.bus.listen()) as changes, asyncio.timeout(30):
        assert await anext(changes) == Invalidation()
        error = await office.refresh(first.refresh, status=400)
        told = await anext(changes)
    assert error["error"] == "invalid_grant"
    assert (await office.refresh(third["refresh_token"], status=400))["error"] == "invalid_grant"
    found = await office.tokens.bearers.examine(third["access_token"].encode())
    assert office.tokens.state.is_revoked(found)
    assert told == Invalidation(revoked=f"family:{found.family}")
    (row,) = await office.parts.pool.read(
        "SELECT action FROM platform.audit_entries WHERE action LIKE 'refresh_family.%'"
    )
    assert row["action"] == "refresh_family.reused"


async def test_a_hundred_parallel_refreshes_log_nobody_out(office: Office) -> None:
    """The storm of many tabs: one successor for all of them, one living family, and it goes on."""
    issued = await office.log_in()
    answers = await asyncio.gather(*(office.refresh(issued.refresh) for _ in range(100)))
    assert len({answer["refresh_token"] for answer in answers}) == 1
    rows = await office.parts.pool.read("SELECT generation, ended_at FROM platform.refresh_families")
    assert [(row["generation"], row["ended_at"]) for row in rows] == [(2, None)]
    assert await office.refresh(answers[0]["refresh_token"])


@pytest.mark.parametrize("change", ["disabled", "no member", "suspended"])
async def test_a_person_who_may_no_more_gets_nothing(office: Office, change: str) -> None:
    """K-05; and who may again goes on with the token that was refused."""
    issued = await office.log_in()
    if change == "disabled":
        await office.houses.directory.set_user_status(office.tenant.id, office.user.email, UserStatus.DISABLED)
    elif change == "suspended":
        await office.houses.directory.set_tenant_status(office.tenant.slug, TenantStatus.SUSPENDED)
    else:
        async with office.parts.pool.operator() as connection:
            await connection.execute("DELETE FROM platform.memberships WHERE user_id = $1", office.user.id)
    assert (await office.refresh(issued.refresh, status=400))["error"] == "invalid_grant"
    assert not await office.parts.pool.read("SELECT FROM platform.refresh_families WHERE generation > 1")


async def test_what_is_wrong_with_a_request_does_not_cost_the_token(office: Office) -> None:
    issued = await office.log_in()
    assert (await office.refresh(issued.refresh, status=400, scope="keys:write"))["error"] == "invalid_scope"
    assert (await office.refresh(issued.refresh, status=400, client_id="another"))["error"] == "invalid_grant"
    narrow = await office.refresh(issued.refresh, scope="transcribe", client_id="first-party")
    assert narrow["scope"] == "transcribe"
    assert (await office.refresh(narrow["refresh_token"]))["scope"] == "transcribe usage:read"


async def test_what_is_no_refresh_token_is_refused(office: Office) -> None:
    for token in ("x", "thr_" + "0" * 20 + "_1_" + "A" * 43, "thk_live_" + "0" * 28, "' OR 1=1 --"):
        assert (await office.refresh(token, status=400))["error"] == "invalid_grant"


async def test_an_access_token_is_no_refresh_token_and_the_other_way_round(office: Office) -> None:
    """J-09."""
    issued = await office.log_in()
    assert (await office.refresh(issued.access, status=400))["error"] == "invalid_grant"
    assert isinstance(await office.tokens.bearers.examine(issued.refresh.encode()), Fault)


async def test_no_refresh_token_is_in_the_database(office: Office) -> None:
    """K-07."""
    issued = await office.log_in()
    await office.refresh(issued.refresh)
    (row,) = await office.parts.pool.read("SELECT to_jsonb(f)::text AS text FROM platform.refresh_families f")
    assert issued.refresh.split("_", 3)[3] not in row["text"]


async def test_logging_out_everywhere_ends_everything(office: Office) -> None:
    """K-08; and whoever logs in again at once is in again."""
    first, second = await office.log_in(), await office.log_in()
    await office.tokens.log_out_everywhere(office.user.id)
    for issued in (first, second):
        assert (await office.refresh(issued.refresh, status=400))["error"] == "invalid_grant"
        found = await office.tokens.bearers.examine(issued.access.encode())
        assert office.tokens.state.is_revoked(found)
    again = await office.log_in()
    found = await office.tokens.bearers.examine(again.access.encode())
    assert not office.tokens.state.is_revoked(found)


# --- revocation


async def test_revoking_a_refresh_token_ends_its_log_in(office: Office) -> None:
    issued = await office.log_in()
    assert await office.post("/auth/revoke", {"token": issued.refresh, "token_type_hint": "access_token"}) is None
    assert (await office.refresh(issued.refresh, status=400))["error"] == "invalid_grant"
    assert office.tokens.state.is_revoked(await office.tokens.bearers.examine(issued.access.encode()))


async def test_revoking_an_access_token_ends_that_one(office: Office) -> None:
    issued = await office.log_in()
    assert await office.post("/auth/revoke", {"token": issued.access}) is None
    assert office.tokens.state.is_revoked(await office.tokens.bearers.examine(issued.access.encode()))
    assert await office.refresh(issued.refresh)


async def test_what_is_unknown_is_as_good_as_revoked(office: Office) -> None:
    """RFC 7009 section 2.2."""
    for token in ("x", "thr_" + "0" * 20 + "_1_" + "A" * 43, "eyJ.a.b", "thk_live_x"):
        assert await office.post("/auth/revoke", {"token": token}) is None


async def test_a_client_that_authenticates_to_revoke_does_so_rightly(office: Office) -> None:
    await office.post("/auth/revoke", {"token": "x"}, headers=basic(office.account.id, office.secret))
    await office.post("/auth/revoke", {"token": "x"}, headers=basic(office.account.id, "no"), status=401)
    assert (await office.post("/auth/revoke", {}, status=400))["error"] == "invalid_request"


# --- introspection


async def test_introspection_tells_what_a_token_is_good_for_now(office: Office) -> None:
    issued = await office.log_in()
    answer = await office.introspect(issued.access)
    assert answer["active"] is True
    assert (answer["sub"], answer["tenant"], answer["iss"]) == (office.user.id, office.tenant.id, ISSUER)
    assert (answer["scope"], answer["token_type"], answer["client_id"]) == (
        "transcribe usage:read", "Bearer", "first-party"
    )  # fmt: skip
    refresh = await office.introspect(issued.refresh)
    assert (refresh["active"], refresh["token_type"]) == (True, "refresh_token")
    service = await office.service_token(audience="billing")
    assert (await office.introspect(service["access_token"]))["active"] is True
    await office.post("/auth/revoke", {"token": issued.refresh})
    for token in (issued.access, issued.refresh, "x", "eyJ.a.b", "thr_x", "thk_live_" + "0" * 28):
        assert await office.introspect(token) == {"active": False}


async def test_another_tenants_token_is_not_active(office: Office) -> None:
    """RFC 7662 section 2.2: nothing is told of what is not the caller's."""
    other = await office.houses.tenant()
    user, _ = await office.houses.directory.create_user(other.id, "o@example.com", "O", Role.MEMBER)
    principal = await office.tokens.subject(other.id, user.id)
    issued = await office.tokens.begin(principal, frozenset({"transcribe"}))
    for token in (issued.access, issued.refresh):
        assert await office.introspect(token) == {"active": False}


async def test_only_a_client_with_the_scope_may_ask(office: Office) -> None:
    await office.post("/auth/introspect", {"token": "x"}, status=401)
    accounts = office.client.app[OAUTH].accounts  # type: ignore[union-attr]
    secret = mint_client_secret(b"y" * RANDOM_BYTES)
    other = await accounts.create(
        office.tenant.id,
        name="other",
        scopes=frozenset({"transcribe"}),
        audiences=frozenset(),
        digest=digest(office.parts.secret_for(SERVICE_SECRETS), secret.encode()),
    )
    error = await office.post("/auth/introspect", {"token": "x"}, headers=basic(other.id, secret), status=403)
    assert error["error"] == "insufficient_scope"


# --- requests that are not well formed


FORM, JSON = "application/x-www-form-urlencoded", "application/json"
MALFORMED = (
    ("", FORM, "invalid_request"),
    ("grant_type=", FORM, "invalid_request"),
    ("grant_type=a&grant_type=b", FORM, "invalid_request"),
    ("grant_type=%ff", FORM, "invalid_request"),
    ("grant_type=authorization_code", FORM, "unsupported_grant_type"),
    ("&".join(f"a{number}=1" for number in range(60)), FORM, "invalid_request"),
    ('{"grant_type": "a", "grant_type": "b"}', JSON, "invalid_request"),
    ('{"grant_type": 7}', JSON, "invalid_request"),
    ('["grant_type"]', JSON, "invalid_request"),
    (r'{"grant_type": "client_credentials", "client_secret": "\ud800"}', JSON, "invalid_request"),
    ('{"grant_type": "x"', JSON, "invalid_request"),
    ("[" * 50_000, JSON, "invalid_request"),
    ("grant_type=client_credentials", "text/plain", "invalid_request"),
)


async def test_a_malformed_request_is_an_error_of_the_standard(office: Office) -> None:
    for body, kind, error in MALFORMED:
        answer = await office.post("/auth/token", body, headers={"Content-Type": kind}, status=400)  # type: ignore[arg-type]
        assert (answer["error"], body[:40]) == (error, body[:40])
        assert answer["error_description"].endswith(".")


async def test_a_huge_body_is_refused(office: Office) -> None:
    body = "grant_type=" + "x" * 70_000
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await office.post("/auth/token", body, headers=kind, status=413))["error"] == "invalid_request"  # type: ignore[arg-type]


# --- discovery


async def test_others_find_what_they_need_to_verify_our_tokens(office: Office) -> None:
    """RFC 7517, RFC 8414; and the published keys verify what was issued."""
    async with office.client.get("/.well-known/oauth-authorization-server") as answer:
        metadata = await answer.json()
    assert metadata["issuer"] == ISSUER
    assert metadata["jwks_uri"] == f"{ISSUER}/.well-known/jwks.json"
    async with office.client.get("/.well-known/jwks.json") as answer:
        assert answer.headers["Cache-Control"] == "public, max-age=300"
        document = await answer.json(content_type="application/jwk-set+json")
    keys = read_key_set(document)
    assert keys.left_out == ()
    jws = parse((await office.service_token())["access_token"].encode())
    assert jws is not None
    assert jws.key_id in keys.keys
    assert all("d" not in jwk for jwk in document["keys"])


async def test_a_pending_key_is_published_before_it_signs(office: Office) -> None:
    """X-02."""
    store = PostgresSigningKeys(office.parts.pool, office.parts.trail)
    now = office.parts.now()
    before = parse((await office.service_token())["access_token"].encode())
    pending = new_key("ES256", office.parts.secret_for(SEALING), created_at=now, active_at=now + timedelta(minutes=10))
    await store.succeed(pending, OVERLAP)
    await office.tokens.state.refresh()
    async with office.client.get("/.well-known/jwks.json") as answer:
        published = {jwk["kid"] for jwk in (await answer.json(content_type=None))["keys"]}
    after = parse((await office.service_token())["access_token"].encode())
    assert before is not None
    assert after is not None
    assert published == {before.key_id, pending.id}
    assert after.key_id == before.key_id


async def test_a_store_that_is_down_is_neither_yes_nor_no(office: Office) -> None:
    """K-06: 503, no token, and never "revoked"; what is there is not thrown away on it."""
    await office.parts.pool.close()
    refresh, client = "thr_" + "0" * 20 + "_1_" + "A" * 43, {"client_id": "svc_x", "client_secret": "x"}
    for path, fields in (
        ("/auth/token", {"grant_type": "refresh_token", "refresh_token": refresh}),
        ("/auth/token", {"grant_type": "client_credentials"} | client),
        ("/auth/revoke", {"token": refresh}),
        ("/auth/introspect", {"token": "x"} | client),
    ):
        async with office.client.post(path, data=fields) as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "2"
            assert set(await answer.json()) == {"error", "error_description", "request_id"}


async def test_the_api_takes_a_services_or_a_guests_scopes_at_their_word(office: Office) -> None:
    """Neither is a member with a role; the gateway has bounded the scopes already."""
    for subject in ("svc_" + "0" * 20, "corp:17"):
        headers = {"X-Tenant-ID": office.tenant.id, "X-User-ID": subject, "X-Auth-Scopes": "usage:read platform:write"}
        async with office.client.get("/platform/v1/me", headers=headers) as answer:
            assert (await answer.json())["permissions"] == ["usage:read"]
