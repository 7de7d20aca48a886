"""Webhooks: where a tenant's events are sent, what became of each, and sending again."""

import re
import secrets
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from yarl import URL

from gateway.portal.api.operations import Ask, InTenant, Operations, Sent, Shown
from gateway.portal.api.paging import ByAge, Page
from gateway.portal.api.shapes import Instant
from gateway.portal.web.problem import Problem
from gateway.portal.webhooks import SECRETS
from gateway.public_addresses import NotAllowed, check_host
from policies.account.events import secret_text
from policies.http.verdict import Refusal
from policies.identity.permissions import Permission
from storage.postgres.events.webhooks import Delivery, PostgresWebhooks, Webhook
from storage.postgres.ids import Kind, new_id
from storage.sealed import seal

operations = Operations("webhooks")

_SECRET_BYTES = 32
_PATTERN = re.compile(r"^(\*|[a-z_]+\.(\*|[a-z_]+))$")


def _pattern(text: str) -> str:
    if _PATTERN.fullmatch(text) is None:
        raise ValueError("write a type such as key.created, a family such as key.*, or * for all")
    return text


Patterns = Annotated[
    list[
        Annotated[str, AfterValidator(_pattern), Field(max_length=64, json_schema_extra={"pattern": _PATTERN.pattern})]
    ],
    Field(min_length=1, max_length=32, description="`key.created`, `key.*`, or `*` for all."),
]


_Url = Annotated[str, Field(min_length=8, max_length=2_048, json_schema_extra={"format": "uri"})]


class WebhookShown(Shown):
    """Where events are sent."""

    id: str
    url: str
    description: str
    events: list[str]
    enabled: bool
    created_at: Instant


class WebhookMade(WebhookShown):
    """A new webhook, or one with a new secret, which is shown this once."""

    secret: str = Field(description="Verify signatures with it (Standard Webhooks).")


class WebhookWish(Sent):
    """A new webhook."""

    url: _Url
    description: str = Field(default="", max_length=200)
    events: Patterns


class WebhookChange(Sent):
    """What of a webhook changes."""

    url: _Url | None = None
    description: str | None = Field(default=None, max_length=200)
    events: Patterns | None = None
    enabled: bool | None = None


class Replacement(Sent):
    """How a secret is replaced."""

    overlap_s: int = Field(default=86_400, ge=0, le=7 * 86_400, description="Seconds for which both secrets sign.")


class DeliveryShown(Shown):
    """One event for one webhook."""

    id: int
    event_id: str
    type: str
    state: Literal["pending", "delivered", "dead"]
    attempts: int
    next_at: Instant | None
    status: int | None = Field(description="The last answer's status.")
    trouble: str
    created_at: Instant
    ended_at: Instant | None


class WebhookList(ByAge, InTenant):
    """Which webhooks."""

    state: Literal["enabled", "disabled"] | None = None


class DeliveryList(ByAge, InTenant):
    """Which deliveries."""

    state: Literal["pending", "delivered", "dead"] | None = None


@operations.get("/webhooks", Permission.WEBHOOKS_READ, query=WebhookList, answer=Page[WebhookShown])
async def list_webhooks(ask: Ask[WebhookList, Any]) -> Page[WebhookShown]:
    """The tenant's webhooks, newest first if nothing else is said."""
    query = ask.query
    found = await _webhooks(ask).page(
        ask.tenant_id,
        query.limit + 1,
        sort=query.sort,
        beyond=ask.cursors.beyond(query.cursor),
        enabled=None if query.state is None else query.state == "enabled",
    )
    return ask.cursors.page([_shown(each) for each in found], query.limit, [[each.id] for each in found])


@operations.post("/webhooks", Permission.WEBHOOKS_WRITE, body=WebhookWish, answer=WebhookMade)
async def create_webhook(ask: Ask[InTenant, WebhookWish]) -> WebhookMade:
    """Send the tenant's events somewhere. The secret is in this answer and nowhere else."""
    wish = ask.body
    ask.who.require_fresh()
    _check_url(ask, wish.url)
    webhook_id, secret = new_id(Kind.WEBHOOK), secrets.token_bytes(_SECRET_BYTES)
    made = await _webhooks(ask).create(
        ask.tenant_id,
        webhook_id,
        url=wish.url,
        description=wish.description,
        events=wish.events,
        sealed_secret=seal(ask.parts.secret_for(SECRETS), secret, webhook_id),
    )
    return WebhookMade(**_shown(made).model_dump(), secret=secret_text(secret))


@operations.get("/webhooks/{webhook_id}", Permission.WEBHOOKS_READ, answer=WebhookShown)
async def show_webhook(ask: Ask[InTenant, Any]) -> WebhookShown:
    """One webhook."""
    return _shown(await _webhooks(ask).webhook(ask.tenant_id, ask.path("webhook_id")))


@operations.patch("/webhooks/{webhook_id}", Permission.WEBHOOKS_WRITE, body=WebhookChange, answer=WebhookShown)
async def change_webhook(ask: Ask[InTenant, WebhookChange]) -> WebhookShown:
    """Send elsewhere, send other events, stop, or go on. What waits is sent to the new address; the secret stays."""
    edit = ask.body
    if edit.url is not None:
        ask.who.require_fresh()
        _check_url(ask, edit.url)
    changed = await _webhooks(ask).change(
        ask.tenant_id,
        ask.path("webhook_id"),
        url=edit.url,
        description=edit.description,
        events=edit.events,
        enabled=edit.enabled,
        check=lambda current: ask.check_version(_shown(current)),
    )
    return _shown(changed)


@operations.post(
    "/webhooks/{webhook_id}/secret", Permission.WEBHOOKS_WRITE, body=Replacement, answer=WebhookMade, status=200
)
async def replace_webhook_secret(ask: Ask[InTenant, Replacement]) -> WebhookMade:
    """Sign with a new secret; with the old one as well for as long as is said."""
    ask.who.require_fresh()  # whoever sees the secret can sign with it
    webhook_id, secret = ask.path("webhook_id"), secrets.token_bytes(_SECRET_BYTES)
    found = await _webhooks(ask).replace_secret(
        ask.tenant_id,
        webhook_id,
        seal(ask.parts.secret_for(SECRETS), secret, webhook_id),
        ask.parts.now() + timedelta(seconds=ask.body.overlap_s),
    )
    return WebhookMade(**_shown(found).model_dump(), secret=secret_text(secret))


@operations.delete("/webhooks/{webhook_id}", Permission.WEBHOOKS_WRITE)
async def delete_webhook(ask: Ask[InTenant, Any]) -> None:
    """End a webhook, and what was still to be delivered."""
    await _webhooks(ask).delete(
        ask.tenant_id, ask.path("webhook_id"), lambda current: ask.check_version(_shown(current))
    )


@operations.get(
    "/webhooks/{webhook_id}/deliveries", Permission.WEBHOOKS_READ, query=DeliveryList, answer=Page[DeliveryShown]
)
async def list_deliveries(ask: Ask[DeliveryList, Any]) -> Page[DeliveryShown]:
    """What became of each event, newest first if nothing else is said. Dead ones were given up after three days."""
    query, webhook_id = ask.query, ask.path("webhook_id")
    found = await _webhooks(ask).deliveries(
        ask.tenant_id,
        webhook_id,
        query.limit + 1,
        sort=query.sort,
        beyond=ask.cursors.beyond(query.cursor),
        state=query.state,
    )
    return ask.cursors.page([_delivery(each) for each in found], query.limit, [[each.id] for each in found])


@operations.post(
    "/webhooks/{webhook_id}/deliveries/{delivery_id}/replay",
    Permission.WEBHOOKS_WRITE,
    answer=DeliveryShown,
    status=202,
)
async def replay_delivery(ask: Ask[InTenant, Any]) -> DeliveryShown:
    """Send an event again, now."""
    text = ask.path("delivery_id")
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1
    return _delivery(await _webhooks(ask).replay(ask.tenant_id, ask.path("webhook_id"), number))


def _webhooks(ask: Ask[Any, Any]) -> PostgresWebhooks:
    return PostgresWebhooks(ask.parts.pool, ask.trail)


def _check_url(ask: Ask[Any, Any], text: str) -> None:
    allowed = ask.parts.settings.webhooks_allow_private
    fault = ""
    try:
        url = URL(text)
        if url.scheme != "https" and not (allowed and url.scheme == "http"):
            fault = "It must begin with https://."
        elif not url.host or url.user or url.password or url.fragment:
            fault = "Write https://host/path, without a user and a fragment."
        else:
            check_host(text, allow_private=allowed)
    except ValueError:
        fault = "This is not a URL."
    except NotAllowed as error:
        fault = f"{error}."
    if fault:
        raise Problem(Refusal.INVALID_INPUT, fields={"url": fault})


def _shown(webhook: Webhook) -> WebhookShown:
    return WebhookShown(
        id=webhook.id,
        url=webhook.url,
        description=webhook.description,
        events=list(webhook.events),
        enabled=webhook.enabled,
        created_at=webhook.created_at,
    )


def _delivery(delivery: Delivery) -> DeliveryShown:
    return DeliveryShown(
        id=delivery.id,
        event_id=delivery.event_id,
        type=delivery.type,
        state=delivery.state,
        attempts=delivery.attempts,
        next_at=delivery.next_at if delivery.state == "pending" else None,
        status=delivery.status,
        trouble=delivery.trouble,
        created_at=delivery.created_at,
        ended_at=delivery.ended_at,
    )
