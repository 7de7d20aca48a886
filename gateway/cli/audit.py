"""``gateway audit``: who changed what, and whether the trail is whole."""

import json
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.command import Given, Group, common, tell, with_stores
from gateway.cli.output import print_json, print_table, remark
from gateway.cli.values import PAST, SLUG_OR_ID
from gateway.times import stamp
from policies.audit import ActorKind, Entry, Facts, text
from storage.ports import AuditVerdict, Sought

if TYPE_CHECKING:
    from gateway.cli.stores import Stores

PLATFORM = "(platform)"
"""What the chain without a tenant is called."""
_PAGE = 1_000
"""Entries that an export holds in memory."""
_NAMED = {"user": ActorKind.USER, "key": ActorKind.API_KEY}
"""Who acted and is known by a name, by the kind of label."""

_chain_option = click.option(
    "--tenant", type=SLUG_OR_ID, help="The tenant's slug; of a removed one its id. Default: the platform's own entries."
)


@click.group(cls=Group)
def audit() -> None:
    """The audit trail: every change, chained so that tampering shows."""


@audit.command("list")
@_chain_option
@click.option("--action", default="", help="key.created, or key for all that concern keys.")
@click.option("--actor", default="", help="Id of whoever acted.")
@click.option("--target", default="", help="Id of what was changed.")
@click.option("--from", "since", type=PAST, help="Not before: 24h, 7d, or a date.")
@click.option("--to", "until", type=PAST, help="Before: 24h, 7d, or a date.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True,
              help="So many entries, the latest.")  # fmt: skip
@common
def list_entries(
    given: Given,
    tenant: str | None,
    action: str,
    actor: str,
    target: str,
    since: datetime | None,
    until: datetime | None,
    limit: int,
) -> None:
    """Entries, newest first."""
    sought = Sought(action=action, actor_id=actor, target=target, since=since, until=until)

    async def ask(stores: "Stores") -> tuple[list[Entry], dict[str, str]]:
        from storage.postgres.labels import called  # noqa: PLC0415  slow: see the package's docstring

        tenant_id = await _chain(stores, tenant)
        entries = list(await stores.audit.entries(tenant_id, sought, limit))
        names: dict[str, str] = {}
        for by, kind in _NAMED.items():
            acted = (each.actor.id for each in entries if each.actor.kind is kind)
            names |= await called(stores.pool, tenant_id or None, by, acted)
        return entries, names

    found, names = with_stores(given, ask)
    if given.json:
        print_json([_facts(each) for each in found])
        return
    print_table(
        ("AT", "WHO", "ACTION", "WHAT", "BEFORE", "AFTER"),
        [
            (
                stamp(each.at),
                each.actor.name or names.get(each.actor.id) or each.actor.id or each.actor.kind,
                each.change.action,
                each.change.target_name or each.change.target,
                _told(each.change.before),
                _told(each.change.after),
            )
            for each in found
        ],
    )
    if not found:
        remark(
            "Nothing was found."
            if tenant
            else "Nothing was found. Entries of a tenant: gateway audit list --tenant SLUG"
        )


@audit.command()
@_chain_option
@click.option("--from", "since", type=PAST, help="Not before: 24h, 7d, or a date.")
@click.option("--to", "until", type=PAST, help="Before: 24h, 7d, or a date.")
@common
def export(given: Given, tenant: str | None, since: datetime | None, until: datetime | None) -> None:
    """All entries, oldest first, as JSON lines: however many there are, with the links that chain them."""

    async def write(stores: "Stores") -> None:
        tenant_id = await _chain(stores, tenant)
        sought = Sought(since=since, until=until, sort="created")
        while found := await stores.audit.entries(tenant_id, sought, _PAGE):
            for each in found:
                click.echo(json.dumps(_facts(each)))
            sought = replace(sought, beyond=found[-1].sequence)

    with_stores(given, write)


@audit.command()
@click.option("--tenant", type=SLUG_OR_ID, help="The tenant's slug; of a removed one its id. Default: every chain.")
@common
@click.pass_context
def verify(context: click.Context, given: Given, tenant: str | None) -> None:
    """Prove that no entry was changed, removed or moved. Exit 1 when one was.

    Keep the printed sequence and link elsewhere: a later run that shows less has lost its end.
    """

    async def ask(stores: "Stores") -> tuple[list[AuditVerdict], dict[str, str]]:
        slugs = {each.id: each.slug for each in await stores.directory.tenants()}
        if tenant is not None:
            return [await stores.audit.verify(await stores.tenant_id(tenant))], slugs
        return [await stores.audit.verify(chain) for chain in await stores.audit.chains()], slugs

    verdicts, slugs = with_stores(given, ask)
    rows: list[dict[str, Any]] = [
        {
            "tenant": slugs.get(each.tenant_id, each.tenant_id) or PLATFORM,
            "entries": each.entries,
            "sequence": each.head.sequence,
            "link": each.head.link.hex(),
            "intact": each.fault is None,
            "fault_at": each.fault and each.fault.sequence,
            "finding": each.fault and each.fault.finding,
        }
        for each in verdicts
    ]
    if given.json:
        print_json(rows)
    else:
        print_table(
            ("TENANT", "ENTRIES", "UP TO", "LINK", "WRONG AT", "STATE"),
            [
                (
                    row["tenant"],
                    row["entries"],
                    row["sequence"],
                    row["link"][:16],
                    row["fault_at"] or "",
                    row["finding"] or "intact",
                )
                for row in rows
            ],
        )
    if not all(row["intact"] for row in rows):
        remark(
            "The trail is not what was written. Compare it with an export or a backup from before. Where the first "
            "entry of every tenant is said to be wrong, this command has another GATEWAY_SECRET_KEY than the gateway."
        )
        context.exit(1)


@audit.command()
@_chain_option
@click.option("--before", "until", type=PAST, required=True, help="Older than: 365d, or a date.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
def prune(given: Given, tenant: str | None, until: datetime, *, yes: bool) -> None:
    """Remove old entries for ever; what stays can still be verified. First: gateway audit export."""
    if not yes:
        click.confirm(f"Remove the entries before {stamp(until)} for ever?", abort=True)

    async def remove(stores: "Stores") -> int:
        tenant_id = await _chain(stores, tenant)
        return await stores.audit.prune(tenant_id, until)

    removed = with_stores(given, remove)
    tell(given, {"removed": removed}, f"{removed} entries removed.")


async def _chain(stores: "Stores", tenant: str | None) -> str:
    """The id of the tenant whose chain is meant; empty for the platform's own. Raises NotFound."""
    return "" if tenant is None else await stores.tenant_id(tenant)


def _told(facts: Facts | None) -> str:
    return "; ".join(f"{name}={text(value) or '-'}" for name, value in facts.items()) if facts else ""


def _facts(entry: Entry) -> dict[str, object]:
    change, actor = entry.change, entry.actor
    return {
        "sequence": entry.sequence,
        "at": stamp(entry.at, "microseconds"),
        "actor": {"kind": actor.kind.value, "id": actor.id, "name": actor.name},
        "address": actor.address,
        "agent": actor.agent,
        "request_id": actor.request_id,
        "tenant_id": change.tenant_id,
        "action": change.action,
        "target": change.target,
        "target_name": change.target_name,
        "before": change.before,
        "after": change.after,
        "link": entry.link.hex(),
    }
