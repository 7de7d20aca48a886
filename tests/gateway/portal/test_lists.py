"""Every list of the API's document is walked in the same way: a page at a time, in either order, cursor by cursor."""

import json
from dataclasses import replace
from typing import Any

import pytest

from gateway.portal.api.openapi import document
from gateway.portal.api.service import OPERATIONS
from gateway.portal.parts import Parts
from policies.identity.tenants import Role
from storage.postgres.usage.ledger import PostgresLedger
from storage.usage_rows import encode
from tests.gateway.portal.api import Caller, Houses
from tests.gateway.portal.conftest import ISSUERS
from tests.gateway.portal.test_isolation import MARK, body_of, furnished, tried
from tests.gateway.portal.test_issuers_api import CORP
from tests.storage.usage_samples import record

PREFIX = "/platform/v1"
FEWEST = 3
"""In each list, so that there are two pages of two."""


def lists() -> dict[str, dict[str, Any]]:
    """By path, the GET of everything whose answer is a page."""
    described = document(OPERATIONS)
    pages = {
        f"#/components/schemas/{name}"
        for name, schema in described["components"]["schemas"].items()
        if "next_cursor" in schema.get("properties", ())
    }
    return {
        path.removeprefix(PREFIX): operations["get"]
        for path, operations in described["paths"].items()
        if "get" in operations
        and operations["get"]["responses"]["200"]["content"].get("application/json", {}).get("schema", {}).get("$ref")
        in pages
    }


LISTS = lists()


async def peopled(houses: Houses, parts: Parts) -> tuple[Caller, dict[str, str]]:
    """Somebody who sees every list, and what their paths name; there is enough in each."""
    owner = await houses.person(operator=True)
    await houses.first_signing_key()
    ids = await furnished(houses, parts, owner)
    for n in range(FEWEST):
        await houses.tenant()
        session = await houses.person(owner.tenant, Role.VIEWER)
        assert session.user is not None
        for path, wish in (
            ("/keys", {"name": f"k{n}"}),
            ("/roles", {"name": f"role-{n}", "permissions": []}),
            ("/plans", {"name": f"plan-{n}"}),
            ("/service-accounts", {"name": f"account {n}"}),
            ("/invitations", {"email": f"new{n}@example.com"}),
            ("/webhooks", {"url": f"https://example.com/{n}", "events": ["operator.*"]}),
            ("/signing-keys", None),
        ):
            await owner.ask("POST", path, wish, status=201)
    await owner.ask("PUT", "/limits", {"requests": ["5/m", "50/day", "500/month"], "audio": ["9h/month"]})
    async with parts.pool.operator() as connection:
        await connection.execute(
            "INSERT INTO platform.deliveries (tenant_id, webhook_id, event_id, type, body, state)"
            " SELECT $1, $2, 'evt' || n, 'key.created', '{}', 'dead' FROM generate_series(1, 3) n",
            owner.tenant.id,
            ids["webhook_id"],
        )
        await connection.execute(
            "INSERT INTO platform.sessions SELECT (jsonb_populate_record(s, jsonb_build_object('id', s.id || n,"
            " 'digest', '\\x' || repeat('0' || n, 32)))).* FROM platform.sessions s, generate_series(1, 3) n"
        )
    ended = int(parts.now().timestamp() * 1000) - FEWEST  # the month may be a minute old
    tenants = [owner.tenant.id] * FEWEST + [f"ten_gone{n}" for n in range(FEWEST)]
    rows = [encode(record(tenant_id=tenant, ended_ms=ended + n // 2)) for n, tenant in enumerate(tenants)]
    await PostgresLedger(parts.pool).ship("j", 0, 1, rows)
    return owner, ids


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("/webhooks?state=enabled", 1),
        ("/webhooks?state=disabled", 0),
        ("/service-accounts?state=enabled", 0),
        ("/service-accounts?state=disabled", 1),
        ("/invitations?state=pending", 1),
        ("/invitations?state=revoked", 1),
        ("/invitations?state=accepted", 0),
        ("/roles?kind=own", 1),
        ("/roles?kind=built-in", 5),
        ("/plans?rating=list-a", 1),
        ("/plans?rating=list-b", 0),
        ("/signing-keys?stage=pending", 1),
        ("/signing-keys?stage=gone", 0),
        ("/issuers?issuer=https://ant.test", 1),
        ("/issuers?issuer=https://none.test", 0),
    ],
)
async def test_filters_show_what_they_name(houses: Houses, query: str, shown: int) -> None:
    """All of it, and nothing else."""
    owner = await houses.person(operator=True)
    await houses.first_signing_key()
    account = await owner.ask("POST", "/service-accounts", {"name": "a"}, status=201)
    await owner.ask("DELETE", f"/service-accounts/{account['id']}", status=204)
    for _ in range(2):  # the second one takes the place of the first
        await owner.ask("POST", "/invitations", {"email": "i@example.com"}, status=201)
    await owner.ask("POST", "/webhooks", {"url": "https://example.com/", "events": ["operator.*"]}, status=201)
    await owner.ask("POST", "/roles", {"name": "clerk", "permissions": []}, status=201)
    await owner.ask("POST", "/plans", {"name": "small", "rating": "list-a"}, status=201)
    await owner.ask("POST", "/signing-keys", status=201)
    assert len((await owner.ask("GET", query))["data"]) == shown


async def test_issuers_are_shown_as_the_settings_name_them(houses: Houses) -> None:
    """Theirs is the order of the settings; one by its name; to operators alone."""
    operator, owner = await houses.person(operator=True), await houses.person()
    listed = (await operator.ask("GET", "/issuers?sort=created"))["data"]
    assert [one["name"] for one in listed] == list(ISSUERS)
    assert await operator.ask("GET", "/issuers/mole") == listed[2]
    assert listed[2].items() >= ISSUERS["mole"].items()
    await operator.ask("GET", "/issuers/none", status=404)
    await owner.ask("GET", "/issuers", status=403)


async def test_a_page_of_limits_has_the_version_of_all(houses: Houses) -> None:
    """T-11: whichever page or part of them was seen, a change of any in between is noticed."""
    owner = await houses.person(operator=True)
    key = await owner.ask("POST", "/keys", {"name": "k"}, status=201)
    await owner.ask("PUT", "/limits", {"requests": ["5/m", "50/day", "500/month"]})
    seen = await owner.client.get(f"{PREFIX}/limits?limit=1&key_id={key['id']}", headers=dict(owner.headers))
    version = {"If-Match": seen.headers["ETag"]}
    await owner.ask("PUT", "/limits", {"key_id": key["id"], "requests": ["5/m"]}, headers=version)
    await owner.ask("PUT", "/limits", {"key_id": key["id"], "requests": ["6/m"]}, headers=version, status=412)


async def test_every_change_heeds_the_version_that_it_is_meant_for(houses: Houses, parts: Parts) -> None:
    """T-11: what the document has an ``If-Match`` for is refused with a version that is not the current one."""
    owner = await houses.person(operator=True)
    ids = {**await furnished(houses, parts, owner), "slug": (await houses.tenant()).slug}
    await owner.ask("POST", "/plans", {"name": MARK}, status=201)
    await owner.ask("POST", "/issuers", CORP | {"name": MARK}, status=201)
    stale = replace(owner, headers={**owner.headers, "If-Match": '"stale"'})
    for operation in OPERATIONS:
        if operation.method in ("PATCH", "PUT", "DELETE"):
            path = operation.path.format_map(ids)
            status, text = await tried(stale, operation, path, body_of(operation))
            assert status == 412, (operation.name, text)


FORECAST = {"exhausted_at", "forecast"}
"""Of quotas: another one at every look."""


async def walked(caller: Caller, path: str, **query: str) -> tuple[list[str], str]:
    """What the pages of two hold together, and the cursor of the second."""
    words = "&".join(["limit=2", *(f"{name}={value}" for name, value in query.items())])
    seen: list[str] = []
    first = cursor = ""
    while cursor is not None:
        page = await caller.ask("GET", f"{path}?{words}&cursor={cursor}")
        assert len(page["data"]) <= 2
        assert len(seen) < 200, f"{path} has no end"
        seen += [json.dumps(each | dict.fromkeys(FORECAST & each.keys()), sort_keys=True) for each in page["data"]]
        cursor = page["next_cursor"]
        first = first or cursor
    return seen, first


def test_the_lists_are_those_that_are_known() -> None:
    """So that none leaves the walk below unnoticed."""
    assert len(LISTS) >= 18


@pytest.mark.parametrize("path", LISTS)
def test_every_list_is_filtered_sorted_and_paged(path: str) -> None:
    """It says so in the document; pages are bounded, and there is something to filter by."""
    parameters = {each["name"]: each for each in LISTS[path]["parameters"] if each["in"] == "query"}
    assert {"limit", "cursor", "sort"} <= parameters.keys()
    assert parameters["limit"]["schema"]["maximum"] <= 200
    assert {"created", "-created"} <= set(parameters["sort"]["schema"]["enum"])
    assert parameters.keys() - {"limit", "cursor", "sort", "tenant"}


async def test_every_list_is_walked_in_every_order(houses: Houses, parts: Parts) -> None:
    """Newest first is oldest first backwards; a cursor is good for the list and the order that gave it."""
    caller, ids = await peopled(houses, parts)
    cursors: dict[str, str] = {}
    for template, operation in LISTS.items():
        path = template.format_map(ids)
        orders = next(each["schema"] for each in operation["parameters"] if each["name"] == "sort")
        found = {sort: await walked(caller, path, sort=sort) for sort in orders["enum"]}
        oldest, cursors[path] = found["created"]
        assert len(oldest) == len(set(oldest)) >= FEWEST, path
        assert found["-created"][0] == oldest[::-1], path
        for sort, (seen, cursor) in found.items():
            assert sorted(seen) == sorted(oldest), (path, sort)
            for other in set(orders["enum"]) - {sort}:
                await caller.ask("GET", f"{path}?sort={other}&cursor={cursor}", status=422)
        assert (await walked(caller, path))[0] == found[orders["default"]][0], path
    for path, cursor in zip(cursors, [*list(cursors.values())[1:], cursors[next(iter(cursors))]], strict=True):
        problem = await caller.ask("GET", f"{path}?sort=created&cursor={cursor}", status=422)
        assert problem["errors"][0]["field"] == "cursor"
