"""The API as the portal mounts it: every resource's operations, and the document that describes them."""

from aiohttp import web

from gateway.portal.api import audit, keys, me, members, tenants, webhooks
from gateway.portal.api.openapi import document
from gateway.portal.api.operations import PREFIX, Operation, handler
from gateway.portal.parts import PARTS

RESOURCES = (me, tenants, members, keys, webhooks, audit)
OPERATIONS: tuple[Operation, ...] = tuple(operation for resource in RESOURCES for operation in resource.operations.all)


async def openapi(request: web.Request) -> web.Response:
    """The document. It tells nothing that is secret, and needs no credential."""
    return web.json_response(document(OPERATIONS, request.app[PARTS].public_url))


routes = [
    web.get(f"{PREFIX}/openapi.json", openapi),
    *(web.route(operation.method, operation.path, handler(operation)) for operation in OPERATIONS),
]
