"""A tenant's webhooks: where its events go, and the log of what was delivered there; ``deliveries`` makes that."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

import asyncpg

from policies.audit import Change, Facts, changed
from policies.limits.plans import Counted
from storage.ports import NotFound
from storage.postgres import values
from storage.postgres.address import Connection
from storage.postgres.audit import AuditTrail
from storage.postgres.ids import Kind, is_id
from storage.postgres.order import LAST_NUMBER, by_age
from storage.postgres.pool import Pool
from storage.postgres.room import require_room


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Where events go. The secret is not among it."""

    id: str
    tenant_id: str
    url: str
    description: str
    events: tuple[str, ...]
    enabled: bool
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event for one webhook. ``trouble`` is what the last attempt ended with, for people."""

    id: int
    webhook_id: str
    event_id: str
    type: str
    state: Literal["pending", "delivered", "dead"]
    attempts: int
    next_at: datetime
    status: int | None
    trouble: str
    created_at: datetime
    ended_at: datetime | None


_WEBHOOK = """
    SELECT id, tenant_id, url, description, events, enabled, created_at FROM platform.webhooks WHERE tenant_id = $1
"""
_SORTS = by_age("id")
_DELIVERY_SORTS = by_age("id", 0, LAST_NUMBER)
_DELIVERY = """
    SELECT id, webhook_id, event_id, type, state, attempts, next_at, status, trouble, created_at, ended_at
    FROM platform.deliveries
    WHERE tenant_id = $1 AND webhook_id = $2
"""


class PostgresWebhooks:
    """One tenant's, by the first argument of each method."""

    def __init__(self, pool: Pool, trail: AuditTrail) -> None:
        self._pool = pool
        self._trail = trail

    async def create(
        self,
        tenant_id: str,
        webhook_id: str,
        *,
        url: str,
        description: str,
        events: Sequence[str],
        sealed_secret: bytes,
    ) -> Webhook:
        """A new one. The id comes from the caller, because the secret is sealed for it."""
        description = _clean_description(description)
        async with self._pool.tenant(tenant_id) as connection:
            await require_room(connection, tenant_id, Counted.WEBHOOKS)
            rows = await connection.fetch(
                """
                INSERT INTO platform.webhooks (id, tenant_id, url, description, events, secret)
                VALUES ($1, $2, $3, $4, $5, $6)
                RETURNING id, tenant_id, url, description, events, enabled, created_at
                """,
                webhook_id,
                tenant_id,
                url,
                description,
                sorted(set(events)),
                sealed_secret,
            )
            made = _webhook(rows[0])
            after: Facts = {"url": url, "events": list(made.events)}
            await self._trail.record(connection, _change("created", made, after=after))
        return made

    async def page(
        self, tenant_id: str, limit: int, *, sort: str, beyond: str | int | None, enabled: bool | None
    ) -> Sequence[Webhook]:
        """Those whose id is ``beyond`` another's; ``enabled`` ones, or the others, where given."""
        order = _SORTS[sort]
        rows = await self._pool.read(
            f"{_WEBHOOK} AND ($4::bool IS NULL OR enabled = $4) {order.page('$2', '$3')}",
            tenant_id,
            order.after(beyond),
            limit,
            enabled,
            tenant_id=tenant_id,
        )
        return [_webhook(row) for row in rows]

    async def webhook(self, tenant_id: str, webhook_id: str) -> Webhook:
        """Raises NotFound."""
        if not is_id(Kind.WEBHOOK, webhook_id):
            raise _no_webhook(webhook_id)
        rows = await self._pool.read(f"{_WEBHOOK} AND id = $2", tenant_id, webhook_id, tenant_id=tenant_id)
        if not rows:
            raise _no_webhook(webhook_id)
        return _webhook(rows[0])

    async def change(
        self,
        tenant_id: str,
        webhook_id: str,
        *,
        url: str | None = None,
        description: str | None = None,
        events: Sequence[str] | None = None,
        enabled: bool | None = None,
        check: Callable[[Webhook], None] = lambda _: None,
    ) -> Webhook:
        """The webhook with what is given changed. ``check`` sees it as it was, and may raise. Raises NotFound.

        What waits goes to the new address: a delivery names its webhook, and the address is read when it is made.
        """
        async with self._pool.tenant(tenant_id) as connection:
            old = await _locked(connection, tenant_id, webhook_id)
            check(old)
            new = replace(
                old,
                url=old.url if url is None else url,
                description=old.description if description is None else _clean_description(description),
                events=old.events if events is None else tuple(sorted(set(events))),
                enabled=old.enabled if enabled is None else enabled,
            )
            await connection.execute(
                "UPDATE platform.webhooks SET url = $2, description = $3, events = $4, enabled = $5 WHERE id = $1",
                webhook_id,
                new.url,
                new.description,
                new.events,
                new.enabled,
            )
            for change in _changes(old, new):
                await self._trail.record(connection, change)
        return new

    async def replace_secret(self, tenant_id: str, webhook_id: str, sealed: bytes, old_until: datetime) -> Webhook:
        """Sign with a new secret, and with the old one as well until ``old_until``. Raises NotFound."""
        found = await self.webhook(tenant_id, webhook_id)
        async with self._pool.operator() as connection:  # a tenant's scope cannot read a secret, not even to move it
            await connection.execute(
                """
                UPDATE platform.webhooks SET old_secret = secret, old_until = $3, secret = $4
                WHERE tenant_id = $1 AND id = $2
                """,
                tenant_id,
                webhook_id,
                old_until,
                sealed,
            )
            await self._trail.record(connection, _change("secret_replaced", found))
        return found

    async def delete(self, tenant_id: str, webhook_id: str, check: Callable[[Webhook], None] = lambda _: None) -> None:
        """End it, and what was still to be delivered. ``check`` sees it as it was, and may raise. Raises NotFound."""
        async with self._pool.tenant(tenant_id) as connection:
            found = await _locked(connection, tenant_id, webhook_id)
            check(found)
            await connection.execute("DELETE FROM platform.webhooks WHERE id = $1", webhook_id)
            await self._trail.record(connection, _change("deleted", found))

    async def deliveries(
        self, tenant_id: str, webhook_id: str, limit: int, *, sort: str, beyond: str | int | None, state: str | None
    ) -> Sequence[Delivery]:
        """Those ``beyond`` another's id. Raises NotFound when the webhook is not the tenant's."""
        await self.webhook(tenant_id, webhook_id)
        order = _DELIVERY_SORTS[sort]
        rows = await self._pool.read(
            f"{_DELIVERY} AND ($4::text IS NULL OR state = $4) {order.page('$3', '$5')}",
            tenant_id,
            webhook_id,
            order.after(beyond),
            state,
            limit,
            tenant_id=tenant_id,
        )
        return [_delivery(row) for row in rows]

    async def replay(self, tenant_id: str, webhook_id: str, delivery_id: int) -> Delivery:
        """Send it again, now, whatever became of it before. Raises NotFound."""
        async with self._pool.tenant(tenant_id) as connection:
            rows = await connection.fetch(
                """
                UPDATE platform.deliveries SET state = 'pending', attempts = 0, next_at = now(), ended_at = NULL
                WHERE tenant_id = $1 AND webhook_id = $2 AND id = $3
                RETURNING id, webhook_id, event_id, type, state, attempts, next_at, status, trouble, created_at,
                    ended_at
                """,
                tenant_id,
                webhook_id,
                delivery_id,
            )
            if not rows:
                raise NotFound(f"This webhook has no delivery {delivery_id}.")
            found = _delivery(rows[0])
            await self._trail.record(
                connection,
                Change(
                    tenant_id=tenant_id,
                    action="webhook.replayed",
                    target=webhook_id,
                    target_name=found.type,
                    after={"event": found.event_id},
                ),
            )
        return found


async def _locked(connection: Connection, tenant_id: str, webhook_id: str) -> Webhook:
    """Until the transaction ends. Raises NotFound."""
    rows = []
    if is_id(Kind.WEBHOOK, webhook_id):
        rows = await connection.fetch(f"{_WEBHOOK} AND id = $2 FOR UPDATE", tenant_id, webhook_id)
    if not rows:
        raise _no_webhook(webhook_id)
    return _webhook(rows[0])


def _clean_description(text: str) -> str:
    return values.clean_line(text, "the description of a webhook")


def _changes(old: Webhook, new: Webhook) -> list[Change]:
    """What the trail tells: that it was stopped or goes on, and what else of it is different."""
    found = []
    before, after = changed(_facts(old), _facts(new))
    if after:
        found.append(_change("changed", new, before=before, after=after))
    if old.enabled != new.enabled:
        found.append(_change("enabled" if new.enabled else "disabled", new))
    return found


def _facts(webhook: Webhook) -> Facts:
    return {"url": webhook.url, "description": webhook.description, "events": list(webhook.events)}


def _change(verb: str, webhook: Webhook, *, before: Facts | None = None, after: Facts | None = None) -> Change:
    return Change(
        tenant_id=webhook.tenant_id,
        action=f"webhook.{verb}",
        target=webhook.id,
        target_name=webhook.url,
        before=before,
        after=after,
    )


def _no_webhook(webhook_id: str) -> NotFound:
    return NotFound(f"This tenant has no webhook {webhook_id!r}.")


def _webhook(row: asyncpg.Record) -> Webhook:
    return Webhook(
        id=row["id"],
        tenant_id=row["tenant_id"],
        url=row["url"],
        description=row["description"],
        events=tuple(row["events"]),
        enabled=row["enabled"],
        created_at=row["created_at"],
    )


def _delivery(row: asyncpg.Record) -> Delivery:
    return Delivery(**dict(row))
