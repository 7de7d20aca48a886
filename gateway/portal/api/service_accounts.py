"""Service accounts: programs of a tenant that get short tokens for a secret."""

import secrets
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.configuration.secrets import SERVICE_SECRETS
from gateway.identity.digests import digest
from gateway.portal.api.operations import Ask, InTenant, Operations, Sent, Shown
from gateway.portal.api.paging import ByName, Page
from gateway.portal.api.shapes import Instant, Name, ServiceScopes
from policies.http.credentials import RANDOM_BYTES, mint_client_secret
from policies.identity.permissions import Permission
from policies.identity.tenants import ServiceAccount
from storage.ports import Invalidation
from storage.postgres.absences import no_account
from storage.postgres.tokens.service_accounts import PostgresServiceAccounts

operations = Operations("service-accounts")

Audiences = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+$")]],
    Field(max_length=16, description="Other services that it may have tokens for."),
]


class ServiceAccountShown(Shown):
    """A program. Its secret cannot be shown again."""

    id: str
    name: str
    scopes: list[str]
    audiences: list[str]
    created_at: Instant
    disabled_at: Instant | None


class ServiceAccountMade(ServiceAccountShown):
    """A program with a new secret: the only time that it is shown."""

    client_secret: str


class ServiceAccountWish(Sent):
    """A new program."""

    name: Name
    scopes: ServiceScopes = Field(default=["transcribe"])
    audiences: Audiences = Field(default=[])


class ServiceAccountEdit(Sent):
    """What of a program changes; what is left out stays."""

    name: Name | None = None
    scopes: ServiceScopes | None = None
    audiences: Audiences | None = None


class SecretWish(Sent):
    """How a secret is replaced."""

    overlap_s: int = Field(default=3_600, ge=0, le=30 * 86_400, description="Seconds for which the old one works.")


class ServiceAccountList(ByName, InTenant):
    """Which programs."""

    state: Literal["enabled", "disabled"] | None = None


@operations.get(
    "/service-accounts", Permission.SERVICE_ACCOUNTS_READ, query=ServiceAccountList, answer=Page[ServiceAccountShown]
)
async def list_service_accounts(ask: Ask[ServiceAccountList, Any]) -> Page[ServiceAccountShown]:
    """The tenant's service accounts, by name if nothing else is said, disabled ones included."""
    query = ask.query
    found = await _accounts(ask).page(
        ask.tenant_id,
        query.limit + 1,
        sort=query.sort,
        beyond=ask.cursors.beyond(query.cursor),
        disabled=None if query.state is None else query.state == "disabled",
    )
    places = [[each.name if query.sort == "name" else each.id] for each in found]
    return ask.cursors.page([_shown(each) for each in found], query.limit, places)


@operations.post(
    "/service-accounts", Permission.SERVICE_ACCOUNTS_WRITE, body=ServiceAccountWish, answer=ServiceAccountMade
)
async def create_service_account(ask: Ask[InTenant, ServiceAccountWish]) -> ServiceAccountMade:
    """Make a service account. Its secret is in this answer and nowhere else."""
    wish = ask.body
    ask.who.may_give(wish.scopes)
    secret, its_digest = _mint(ask)
    made = await _accounts(ask).create(
        ask.tenant_id,
        name=wish.name,
        scopes=frozenset(wish.scopes),
        audiences=frozenset(wish.audiences),
        digest=its_digest,
    )
    return ServiceAccountMade(**_shown(made).model_dump(), client_secret=secret)


@operations.get("/service-accounts/{account_id}", Permission.SERVICE_ACCOUNTS_READ, answer=ServiceAccountShown)
async def show_service_account(ask: Ask[InTenant, Any]) -> ServiceAccountShown:
    """One service account."""
    return _shown(await _account(ask))


@operations.patch(
    "/service-accounts/{account_id}",
    Permission.SERVICE_ACCOUNTS_WRITE,
    body=ServiceAccountEdit,
    answer=ServiceAccountShown,
)
async def change_service_account(ask: Ask[InTenant, ServiceAccountEdit]) -> ServiceAccountShown:
    """Change a service account: in effect within a second, also for the tokens that it has."""
    edit = ask.body

    def check(current: ServiceAccount) -> None:
        ask.check_version(_shown(current))
        if edit.scopes is not None or edit.audiences is not None:  # that is giving them anew
            ask.who.may_give(current.scopes | frozenset(edit.scopes or ()))

    changed = await _accounts(ask).change(
        ask.tenant_id,
        ask.path("account_id"),
        name=edit.name,
        scopes=None if edit.scopes is None else frozenset(edit.scopes),
        audiences=None if edit.audiences is None else frozenset(edit.audiences),
        check=check,
    )
    await ask.announce(Invalidation(tenant_id=ask.tenant_id, user_id=changed.id))
    return _shown(changed)


@operations.post(
    "/service-accounts/{account_id}/secret",
    Permission.SERVICE_ACCOUNTS_WRITE,
    body=SecretWish,
    answer=ServiceAccountMade,
    status=200,
)
async def replace_service_secret(ask: Ask[InTenant, SecretWish]) -> ServiceAccountMade:
    """Make a new secret; the old one works for as long as is said."""
    account = await _account(ask)
    ask.who.may_give(account.scopes)  # whoever sees the secret can use it
    secret, its_digest = _mint(ask)
    await _accounts(ask).rotate(
        ask.tenant_id,
        account.id,
        digest=its_digest,
        old_ends_at=ask.parts.now() + timedelta(seconds=ask.body.overlap_s),
    )
    return ServiceAccountMade(**_shown(account).model_dump(), client_secret=secret)


@operations.delete("/service-accounts/{account_id}", Permission.SERVICE_ACCOUNTS_WRITE)
async def disable_service_account(ask: Ask[InTenant, Any]) -> None:
    """Give it no more tokens, and refuse those that it has, and its keys."""
    account = await _accounts(ask).disable(
        ask.tenant_id, ask.path("account_id"), lambda current: ask.check_version(_shown(current))
    )
    await ask.announce(Invalidation(tenant_id=ask.tenant_id, user_id=account.id))


def _accounts(ask: Ask[Any, Any]) -> PostgresServiceAccounts:
    return PostgresServiceAccounts(ask.parts.pool, ask.trail)


async def _account(ask: Ask[Any, Any]) -> ServiceAccount:
    account_id = ask.path("account_id")
    account = await _accounts(ask).account(account_id)
    if account.tenant_id != ask.tenant_id:
        raise no_account(account_id)
    return account


def _mint(ask: Ask[Any, Any]) -> tuple[str, bytes]:
    secret = mint_client_secret(secrets.token_bytes(RANDOM_BYTES))
    return secret, digest(ask.parts.secret_for(SERVICE_SECRETS), secret.encode("ascii"))


def _shown(account: ServiceAccount) -> ServiceAccountShown:
    return ServiceAccountShown(
        id=account.id,
        name=account.name,
        scopes=sorted(account.scopes),
        audiences=sorted(account.audiences),
        created_at=account.created_at,
        disabled_at=account.disabled_at,
    )
