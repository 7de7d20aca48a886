"""Removes tenants whose grace is over, soon after the start and then once a day."""

import asyncio
from collections.abc import AsyncIterator

import structlog
from aiohttp import web

from gateway.portal.parts import PARTS, Parts
from gateway.tasks import Tasks
from storage.ports import Invalidation, StorageError
from storage.postgres.tenants.departures import PostgresDepartures

_log = structlog.get_logger("gateway.portal")
_DAY_S = 86_400.0
_SOON_S = 60.0
"""Not while a gateway starts; and when it could not be done, not at once again."""

routes = web.RouteTableDef()


async def lifetime(app: web.Application) -> AsyncIterator[None]:
    """Remove them for as long as the portal runs."""
    tasks = Tasks()
    tasks.start(_daily(app[PARTS]), "purge of tenants")
    yield
    await tasks.close()


async def _daily(parts: Parts) -> None:
    wait_s = _SOON_S
    while True:
        await asyncio.sleep(wait_s)
        try:
            await purge(parts)
            wait_s = _DAY_S
        except StorageError as error:
            _log.warning("tenants that left could not be removed; tried again soon", reason=str(error))
            wait_s = _SOON_S


async def purge(parts: Parts) -> None:
    """Remove those whose time has come, and say so. Raises StorageError."""
    for tenant in await PostgresDepartures(parts.pool, parts.trail).purge():
        _log.info("a tenant that left was removed", tenant_id=tenant.id, slug=tenant.slug)
        await parts.bus.publish(Invalidation(tenant_id=tenant.id))
