"""Other issuers by the API: made, changed and removed by operators, beside those of the settings."""

import pytest

from gateway.portal.parts import Parts
from policies.identity.permissions import Permission
from policies.identity.tenants import Role
from storage.postgres.subjects import PostgresSubjects
from storage.postgres.tenants.departures import PostgresDepartures
from tests.gateway.portal.api import EVERYTHING, Houses
from tests.gateway.portal.conftest import actions

CORP = {
    "name": "corp",
    "issuer": "https://login.corp.example/",
    "jwks_url": "https://login.corp.example/jwks",
    "audience": "gateway",
    "tenant_claim": "org.id",
    "tenants": ["o1=acme"],
    "scopes": ["asr=transcribe"],
    "roles": ["staff=viewer"],
}


async def test_one_is_made_shown_changed_and_removed(houses: Houses, parts: Parts) -> None:
    operator = await houses.person(operator=True)
    made = await operator.ask("POST", "/issuers", CORP, status=201)
    assert made.items() >= {**CORP, "source": "api", "enabled": True, "types": ["at+jwt"]}.items()
    assert await operator.ask("GET", "/issuers/corp") == made
    assert [each["name"] for each in (await operator.ask("GET", "/issuers?source=api"))["data"]] == ["corp"]
    changed = await operator.ask("PATCH", "/issuers/corp", {"tenant": "acme", "tenant_claim": "", "tenants": []})
    assert changed == made | {"tenant": "acme", "tenant_claim": "", "tenants": []}
    assert not (await operator.ask("PATCH", "/issuers/corp", {"enabled": False}))["enabled"]
    assert (await operator.ask("GET", "/issuers?state=disabled"))["data"][0]["name"] == "corp"
    await operator.ask("DELETE", "/issuers/corp", status=204)
    for method, body in (("GET", None), ("PATCH", {}), ("DELETE", None)):
        await operator.ask(method, "/issuers/corp", body, status=404)
    told = [action for action in await actions(parts) if action.startswith("issuer.")]
    assert told == ["issuer.created", "issuer.changed", "issuer.changed", "issuer.deleted"]
    rows = await parts.pool.read("SELECT type FROM platform.outbox WHERE subject = 'corp' ORDER BY id")
    assert [row["type"] for row in rows] == told


async def test_a_change_is_made_to_the_version_that_was_seen(houses: Houses) -> None:
    """T-11; a creation is done once for its key."""
    operator = await houses.person(operator=True)
    once = {"Idempotency-Key": "one"}
    first = await operator.ask("POST", "/issuers", CORP, status=201, headers=once)
    assert await operator.ask("POST", "/issuers", CORP, status=201, headers=once) == first
    async with operator.client.get("/platform/v1/issuers/corp", headers=dict(operator.headers)) as answer:
        version = {"If-Match": answer.headers["ETag"]}
    await operator.ask("PATCH", "/issuers/corp", {"audience": "other"}, headers=version)
    await operator.ask("PATCH", "/issuers/corp", {"audience": "third"}, headers=version, status=412)
    await operator.ask("DELETE", "/issuers/corp", headers=version, status=412)
    assert (await operator.ask("GET", "/issuers/corp"))["audience"] == "other"


WRONG: list[tuple[dict[str, object], set[str]]] = [
    ({"issuer": "http://gw.test"}, {"issuer"}),
    ({"issuer": "http://gw.test/"}, {"issuer"}),
    ({"issuer": "two words", "audience": "", "jwks_url": "file:///etc/passwd", "tenants": ["a=No Slug"]},
     {"issuer", "audience", "jwks_url", "tenants"}),
    ({"algorithms": ["HS256"]}, {"algorithms"}),
    ({"algorithms": ["none", "EdDSA"]}, {"algorithms"}),
    ({"algorithms": []}, {"algorithms"}),
    ({"tenant": "acme"}, {"tenant_claim"}),
    ({"tenant_claim": ""}, {"tenant_claim"}),
    ({"roles": ["staff=root"], "scopes": ["a=b", "a=c"]}, {"roles", "scopes"}),
    ({"source": "settings", "created_at": None, "id": "1"}, {"source", "created_at", "id"}),
    ({"enabled": 1, "types": "JWT"}, {"enabled", "types"}),
    *(({"jwks_url": url}, {"jwks_url"}) for url in (
        "http://login.corp.example/jwks", "http://127.0.0.1/jwks", "https://127.0.0.1/jwks", "https://10.0.0.1/jwks",
        "https://[::1]/jwks", "https://[::ffff:169.254.169.254]/jwks", "https://u:p@login.corp.example/jwks", "//x/y",
    )),
]  # fmt: skip


@pytest.mark.parametrize(("body", "fields"), WRONG, ids=[str(body) for body, _ in WRONG])
async def test_every_field_that_is_wrong_is_named(houses: Houses, body: dict[str, object], fields: set[str]) -> None:
    """T-04, U-02, J-01: at the creation and at a change, which then is not made."""
    operator = await houses.person(operator=True)
    problem = await operator.ask("POST", "/issuers", CORP | body, status=422)
    assert {error["field"] for error in problem["errors"]} == fields
    made = await operator.ask("POST", "/issuers", CORP, status=201)
    problem = await operator.ask("PATCH", "/issuers/corp", body, status=422)
    assert {error["field"] for error in problem["errors"]} == fields
    assert await operator.ask("GET", "/issuers/corp") == made


async def test_a_name_and_an_issuer_are_there_once_and_those_of_the_settings_stay(houses: Houses) -> None:
    operator = await houses.person(operator=True)
    await operator.ask("POST", "/issuers", CORP, status=201)
    for change in ({"issuer": "https://other.example"}, {"name": "other"}, {"name": "ant"},
                   {"name": "other", "issuer": "https://ant.test"}):  # fmt: skip
        assert (await operator.ask("POST", "/issuers", CORP | change, status=409))["code"] == "already_exists"
    await operator.ask("POST", "/issuers", CORP | {"name": "other", "issuer": "https://other.example"}, status=201)
    for issuer in (CORP["issuer"], "https://ant.test"):
        await operator.ask("PATCH", "/issuers/other", {"issuer": issuer}, status=409)
    fixed = await operator.ask("GET", "/issuers/ant")
    assert (fixed["source"], fixed["enabled"], fixed["created_at"]) == ("settings", True, None)
    assert (await operator.ask("PATCH", "/issuers/ant", {"enabled": False}, status=409))["code"] == "in_use"
    assert (await operator.ask("DELETE", "/issuers/ant", status=409))["code"] == "in_use"


async def test_nobody_takes_an_issuer_but_operators_and_for_no_more_than_they_hold(houses: Houses) -> None:
    """T-05: an issuer gives what its roles and scopes mean, so who adds it must hold that."""
    owner = await houses.person()
    for caller in (owner, await houses.machine(owner.tenant, EVERYTHING), await houses.person(role=Role.ADMIN)):
        for method, path, body in (
            ("POST", "", CORP),
            ("PATCH", "/ant", {}),
            ("DELETE", "/ant", None),
            ("GET", "", None),
        ):
            assert (await caller.ask(method, f"/issuers{path}", body, status=403))["code"] == "insufficient_permission"
    narrow = await houses.person(operator=True, scopes=f"{Permission.PLATFORM_READ} {Permission.PLATFORM_WRITE}")
    assert (await narrow.ask("POST", "/issuers", CORP, status=403))["code"] == "exceeds_own_permissions"
    harmless = CORP | {"roles": [], "scopes": ["asr=an-upstreams-own"]}
    await narrow.ask("POST", "/issuers", harmless, status=201)
    await narrow.ask("PATCH", "/issuers/corp", {"roles": ["staff=owner"]}, status=403)
    operator = await houses.person(operator=True)
    await operator.ask("PATCH", "/issuers/corp", {"roles": ["staff=owner"]})
    await narrow.ask("PATCH", "/issuers/corp", {"jwks_url": "https://evil.example/keys"}, status=403)
    await narrow.ask("PATCH", "/issuers/corp", {"enabled": False})
    await narrow.ask("PATCH", "/issuers/corp", {"enabled": True}, status=403)
    await narrow.ask("DELETE", "/issuers/corp", status=204)


async def test_a_slug_of_a_tenant_that_is_gone_is_no_issuers_any_more(houses: Houses, parts: Parts) -> None:
    """T-07: the next tenant of that slug does not inherit the guests of the last one; by its id it can have its own."""
    operator = await houses.person(operator=True)
    tenant = (await operator.ask("POST", "/tenants", {"slug": "leaves", "name": "Leaves"}, status=201))["id"]
    await operator.ask("POST", "/issuers", CORP | {"tenants": ["o1=leaves"]}, status=201)
    await operator.ask("DELETE", "/tenants/leaves?grace_days=0")
    assert [each.slug for each in await PostgresDepartures(parts.pool, parts.trail).purge()] == ["leaves"]
    successor = (await operator.ask("POST", "/tenants", {"slug": "leaves", "name": "Others"}, status=201))["id"]
    subjects = PostgresSubjects(parts.pool)
    assert await subjects.identify_subject("leaves", "") is None
    assert successor != tenant
    await operator.ask("PATCH", "/issuers/corp", {"enabled": False})
    again = CORP | {"name": "again", "issuer": "https://again.example"}
    for body in ({"tenants": ["o2=leaves"]}, {"tenants": [], "tenant_claim": "", "tenant": "leaves"}):
        await operator.ask("POST", "/issuers", again | body, status=422)
    await operator.ask("POST", "/issuers", again | {"tenants": [f"o2={successor}"]}, status=201)
    await operator.ask("PATCH", "/issuers/again", {"tenants": ["o2=leaves"]}, status=422)
    found = await subjects.identify_subject(successor, "")
    assert found is not None
    assert found.tenant_slug == "leaves"
