"""The stores of a command: the configured ones, or those embedded in a state directory, whether they run or not."""

import asyncio
import contextlib
import getpass
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import click
from pydantic import SecretStr

from gateway.cli.output import remark
from gateway.cli.own_secret import OwnSecret, Unknown
from gateway.configuration.settings import Settings
from gateway.processes.noted_address import noted
from policies.audit import OPERATOR, Actor
from storage.ports import Invalidation, StorageError, Unavailable
from storage.postgres.audit import PURPOSE as CHAIN
from storage.postgres.audit import AuditTrail, PostgresAuditLog
from storage.postgres.ids import Kind, is_id
from storage.postgres.keys.registry import PostgresKeyRegistry
from storage.postgres.limits import PostgresLimitBook
from storage.postgres.migrate import migrate
from storage.postgres.pool import Pool
from storage.postgres.tenants.directory import PostgresDirectory
from storage.postgres.tenants.invitations import PostgresInvitations
from storage.postgres.tokens.service_accounts import PostgresServiceAccounts
from storage.postgres.tokens.signing_keys import PostgresSigningKeys
from storage.postgres.usage.ledger import PostgresLedger
from storage.state import owner_of

_T = TypeVar("_T")
_LISTS: Mapping[str, str] = {
    "tenant": "gateway tenant list",
    "plan": "gateway plan list",
    "issuer": "gateway issuer list",
    "key": "gateway key list --tenant {tenant}",
    "service-account": "gateway service-account list --tenant {tenant}",
    "user": "gateway user list --tenant {tenant}",
}
"""What lists the things that an error of a store is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """Every store of one gateway. ``embedded``: they, or one of them, belong to the state directory."""

    settings: Settings
    secret: OwnSecret
    database_url: str
    redis_url: str | None
    embedded: bool
    pool: Pool
    trail: AuditTrail
    """The trail of whoever runs the command, for repositories that few commands need."""
    directory: PostgresDirectory
    keys: PostgresKeyRegistry
    limits: PostgresLimitBook
    ledger: PostgresLedger
    audit: PostgresAuditLog
    signing_keys: PostgresSigningKeys
    service_accounts: PostgresServiceAccounts
    invitations: PostgresInvitations

    def secret_for(self, purpose: str) -> bytes:
        """The gateway's own secret for one purpose. Raises StorageError."""
        return self.secret.fitting(purpose)

    async def tenant_id(self, written: str) -> str:
        """The id of a slug; an id is itself, so that what stays of a removed tenant can be named. Raises NotFound."""
        return written if is_id(Kind.TENANT, written) else (await self.directory.tenant(written)).id

    async def announce(self, change: Invalidation) -> None:
        """Tell the running gateways what they must forget; if they cannot be told, say when they will."""
        trouble = "GATEWAY_REDIS_URL is not set."
        if self.redis_url is not None:
            try:
                await _publish(self.redis_url, change)
            except Unavailable as error:
                trouble = str(error)
            else:
                return
        remark(
            f"Done, but running gateways could not be told. {trouble} It takes effect within 15 seconds, when what "
            "they remember expires."
        )


def run(
    settings: Settings,
    work: Callable[[Stores], Awaitable[_T]],
    *,
    embedded: bool,
    new_secret: bool = False,
    as_it_is: bool = False,
) -> _T:
    """Open, work, close. Raises ClickException with what a store said, which is written for operators."""
    try:
        return asyncio.run(_whole(settings, work, embedded=embedded, new_secret=new_secret, as_it_is=as_it_is))
    except StorageError as error:
        raise click.ClickException(f"{error}{_where_to_look(error)}") from error


def _where_to_look(error: StorageError) -> str:
    """The command that lists what is not there, or is there already."""
    if error.what not in _LISTS:
        return ""
    tenant = click.get_current_context().params.get("tenant") or "SLUG"
    return f" See what there is: {_LISTS[error.what].format(tenant=tenant)}"


async def _whole(
    settings: Settings, work: Callable[[Stores], Awaitable[_T]], *, embedded: bool, new_secret: bool, as_it_is: bool
) -> _T:
    async with opened(settings, embedded=embedded, new_secret=new_secret, as_it_is=as_it_is) as stores:
        return await work(stores)


@contextlib.asynccontextmanager
async def opened(
    settings: Settings, *, embedded: bool, new_secret: bool = False, as_it_is: bool = False
) -> AsyncIterator[Stores]:
    """The stores that the settings name; for those they do not name, the state directory's own. Raises StorageError.

    Without ``embedded``, a state directory stands in only when no database is named at all: a leftover of some trial
    must not be mixed with the database of another gateway. ``new_secret``: the secret may be another one than the
    gateway had when it made its signing keys; else nothing is made with such a secret. ``as_it_is``: an embedded
    database that begins here stays empty.
    """
    database, redis = _revealed(settings.database_url), _revealed(settings.redis_url)
    lent = (database is None or redis is None) if embedded else (database is None and _is_inhabited(settings.state_dir))
    async with contextlib.AsyncExitStack() as stack:
        if lent:
            fresh = not _has_data(settings.state_dir)
            own_database, redis = await _lent(settings.state_dir, redis, stack)
            if fresh and database is None and not as_it_is:
                await migrate(own_database)
            database = database or own_database
            if not settings.public_url:
                settings = settings.model_copy(update={"public_url": noted(settings.state_dir)})
        if database is None:
            raise Unknown(_nothing_configured(settings.state_dir))
        pool = _pool(database)
        stack.push_async_callback(pool.close)
        if settings.database_url is not None:
            await _reach(pool)
        secret = OwnSecret(settings=settings, embedded=lent)
        chain = partial(secret.fitting, CHAIN)
        trail = AuditTrail(chain, _whoever_runs_this())
        signing_keys = PostgresSigningKeys(pool, trail)
        if not new_secret:
            try:
                secret.sealed = await signing_keys.keys()
            except Unavailable as error:
                secret.unread = error
        yield Stores(
            settings=settings,
            secret=secret,
            database_url=database,
            redis_url=redis,
            embedded=lent,
            pool=pool,
            trail=trail,
            directory=PostgresDirectory(pool, trail),
            keys=PostgresKeyRegistry(pool, trail),
            limits=PostgresLimitBook(pool, trail),
            ledger=PostgresLedger(pool),
            audit=PostgresAuditLog(pool, chain),
            signing_keys=signing_keys,
            service_accounts=PostgresServiceAccounts(pool, trail),
            invitations=PostgresInvitations(pool, trail),
        )


async def _lent(state_dir: Path, redis: str | None, stack: contextlib.AsyncExitStack) -> tuple[str, str]:
    """The state directory's own database, and Redis where none is named."""
    from storage.embedded import attached  # noqa: PLC0415  slow: see the package's docstring

    own_database, own_redis = await stack.enter_async_context(attached(state_dir))
    return own_database, redis or own_redis


def _whoever_runs_this() -> Actor:
    """The operator, by the name that the system knows."""
    try:
        return replace(OPERATOR, name=getpass.getuser())
    except (KeyError, OSError):  # a container's user need not have a name
        return replace(OPERATOR, name=f"uid {os.getuid()}")


async def _publish(redis_url: str, change: Invalidation) -> None:
    from storage.redis.bus import RedisBus  # noqa: PLC0415  slow: see the package's docstring

    try:
        bus = RedisBus(redis_url)
    except ValueError as error:
        raise Unavailable(f"GATEWAY_REDIS_URL cannot be used: {error}.") from error
    await bus.publish(change)


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _has_data(state_dir: Path) -> bool:
    return any(state_dir.glob("pg*/PG_VERSION"))


def _is_inhabited(state_dir: Path) -> bool:
    """Whether embedded servers have been here, or somebody is about to start some."""
    try:
        return _has_data(state_dir) or ((state_dir / "lock").exists() and owner_of(state_dir) is not None)
    except OSError:  # somebody else's: attaching says what is wrong with it
        return True


def _pool(database_url: str) -> Pool:
    try:
        return Pool(database_url)
    except ValueError as error:
        raise Unknown(f"GATEWAY_DATABASE_URL cannot be used: {error}") from error


async def _reach(pool: Pool) -> None:
    try:
        await pool.ping()
    except Unavailable as error:
        raise Unavailable(
            f"{error}\nNothing was done. See that the server runs and that GATEWAY_DATABASE_URL is its address."
        ) from error


def _nothing_configured(state_dir: Path) -> str:
    return (
        "No database is configured, and there is no embedded one in the state directory "
        f"{state_dir}. Set GATEWAY_DATABASE_URL, GATEWAY_REDIS_URL and GATEWAY_SECRET_KEY as the gateway has them; or "
        "GATEWAY_STATE_DIR to the directory of a gateway with embedded servers; or add --embedded to begin with "
        "servers there."
    )
