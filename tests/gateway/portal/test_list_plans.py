"""A page costs what a page holds, in every order of every list, however long the list is."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.portal.parts import Parts
from storage.postgres.pool import Pool
from tests.gateway.portal.api import Caller, Houses
from tests.gateway.portal.test_isolation import furnished
from tests.gateway.portal.test_lists import LISTS

MANY, OTHERS = 300, 19
"""Of each thing in this tenant, and so many times as many of another between them."""
MOST = 30
"""Rows that may be looked at for a page of two."""
FEW = {
    "/issuers": "operators make them, a handful",
    "/plans": "operators make them, some",
    "/roles": "a tenant has a hundred at most",
    "/signing-keys": "one in some months",
    "/usage/tenants": "a sum over all of them",
    "/usage/quotas": "the tenant's own, and one member's or key's",
    "/usage/events": "raw records have no index by tenant, so that booking them is cheap: a day is read whole",
}
"""Lists that are read whole, and why that may be."""
MAY_READ_MORE = {
    ("/memberships", "email"): "row-level security of people hashes the tenant's memberships, and reads no more",
    ("/limits/use", "created"): "the calendar of one tenant, by its id: a table this small is read whole for it",
    ("/limits/use", "-created"): "the same",
}
"""Where a scan may look at more, and why; whether it does is the planner's choice of the moment."""

FILL = """
    INSERT INTO platform.tenants (id, slug, name)
    SELECT 'ten_' || n, 's' || n, 'x' FROM generate_series(1, {many}) n;

    CREATE TEMPORARY TABLE number ON COMMIT DROP AS
    SELECT CASE o WHEN 0 THEN '{mine}' ELSE '{other}' END AS tenant, n * 100 + o AS n, o = 0 AS is_mine,
        lpad(n::text, 18, '0') || lpad(o::text, 2, '0') AS tail, sha256((n || '/' || o)::bytea) AS digest
    FROM generate_series(1, {many}) n, generate_series(0, {others}) o ORDER BY n, o;

    INSERT INTO platform.users (id, email, name) SELECT 'usr_' || tail, tail || '@example.com', 'x' FROM number;
    INSERT INTO platform.memberships (tenant_id, user_id, role, created_at)
    SELECT tenant, 'usr_' || tail, 'member', now() - n * interval '1 second' FROM number;
    INSERT INTO platform.sessions (id, digest, tenant_id, user_id, methods, address, agent, expires_at)
    SELECT 'ses_' || tail, digest, tenant, 'usr_' || tail, '{{pwd}}', '', '', now() + interval '1 hour' FROM number;
    INSERT INTO platform.refresh_families (id, tenant_id, user_id, client_id, scopes, seed, expires_at)
    SELECT 'fam_' || tail, tenant, 'usr_' || tail, 'first-party', '{{}}', digest, now() + interval '1 hour' FROM number;
    INSERT INTO platform.api_keys (id, tenant_id, name, digest, last4, scopes)
    SELECT 'key_' || tail, tenant, 'x', digest, 'last', '{{}}' FROM number;
    INSERT INTO platform.limits (tenant_id, key_id, count, period_ms)
    SELECT tenant, 'key_' || tail, 5, 60000 FROM number;
    INSERT INTO platform.service_accounts (id, tenant_id, name, scopes, audiences)
    SELECT 'svc_' || tail, tenant, tail, '{{}}', '{{}}' FROM number;
    INSERT INTO platform.invitations (id, tenant_id, email, role, digest, expires_at)
    SELECT 'inv_' || tail, tenant, tail || '@example.com', 'member', digest, now() + interval '1 hour' FROM number;
    INSERT INTO platform.webhooks (id, tenant_id, url, description, events, secret)
    SELECT 'whk_' || tail, tenant, 'https://x.test/', '', '{{}}', '' FROM number;
    INSERT INTO platform.deliveries (tenant_id, webhook_id, event_id, type, body, state)
    SELECT tenant, CASE WHEN is_mine THEN '{webhook_id}' ELSE 'whk_' || tail END, tail, 'key.created', '{{}}', 'dead'
    FROM number;
    INSERT INTO platform.audit_entries
    SELECT tenant, n, now(), 'user', '', '', '', '', '', 'key.created', '', '', NULL, NULL, digest FROM number;
    ANALYZE;
"""


async def filled(houses: Houses, parts: Parts) -> tuple[Caller, dict[str, str]]:
    """An operator in the tenant, and what the paths name there."""
    owner, other = await houses.person(operator=True), await houses.tenant()
    ids = await furnished(houses, parts, owner)
    async with parts.pool.operator() as connection:
        statement = FILL.format(many=MANY, others=OTHERS, mine=owner.tenant.id, other=other.id, **ids)
        await connection.execute(statement)
    return owner, ids


def scans(plan: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """What each scan of a plan looked at."""
    looked = sum(
        plan.get(name, 0) for name in ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    )
    if plan["Node Type"].endswith("Scan") and "Relation Name" in plan:
        yield f"{plan['Node Type']} on {plan['Relation Name']}", int(looked * plan["Actual Loops"])
    for below in plan.get("Plans", ()):
        yield from scans(below)


async def test_a_page_looks_at_about_as_many_rows_as_it_holds(
    houses: Houses, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As PostgreSQL says that it does: no order sorts a whole list, none walks past another tenant's rows."""
    caller, ids = await filled(houses, parts)
    asked: list[tuple[str, tuple[object, ...], str | None]] = []
    read = Pool.read

    async def noted(pool: Pool, sql: str, *args: object, tenant_id: str | None = None) -> Any:
        asked.append((sql, args, tenant_id))
        return await read(pool, sql, *args, tenant_id=tenant_id)

    monkeypatch.setattr(Pool, "read", noted)
    found: dict[tuple[str, str], list[str]] = {}
    for path, operation in LISTS.items():
        if path in FEW:
            continue
        (sort,) = [each["schema"] for each in operation["parameters"] if each["name"] == "sort"]
        for order in sort["enum"]:
            url = f"{path.format_map(ids)}?limit=2&sort={order}"
            asked.clear()
            cursor = (await caller.ask("GET", url))["next_cursor"]
            assert len((await caller.ask("GET", f"{url}&cursor={cursor}"))["data"]) == 2, url
            for sql, args, tenant_id in asked:
                if "hashtextextended" in sql:  # the version of all limits
                    continue
                (row,) = await read(parts.pool, f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", *args, tenant_id=tenant_id)
                looks = scans(json.loads(row["QUERY PLAN"])[0]["Plan"])
                many = [f"{looked} rows by {what}" for what, looked in looks if looked > MOST]
                if many:
                    found[path, order] = many
    assert found.keys() <= MAY_READ_MORE.keys(), found
