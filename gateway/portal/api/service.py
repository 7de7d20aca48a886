"""The API as the portal mounts it: every resource's operations, and the document that describes them."""

import functools

import orjson
from aiohttp import web

from gateway.portal.api import (
    audit,
    invitations,
    issuers,
    keys,
    limit_check,
    limit_use,
    limits,
    me,
    members,
    onboarding,
    plans,
    quotas,
    second_factor,
    service_accounts,
    sessions,
    signing_keys,
    statements,
    tenants,
    usage,
    users,
    webhooks,
)
from gateway.portal.api.openapi import document
from gateway.portal.api.operations import PREFIX, Operation, handler
from gateway.portal.web.cached import kept
from gateway.portal.web.pages import render

RESOURCES = (
    me, tenants, second_factor, onboarding, plans, users, members, invitations, sessions, keys, service_accounts,
    limits, limit_use, limit_check, usage, quotas, statements, webhooks, audit, signing_keys, issuers,
)  # fmt: skip
OPERATIONS: tuple[Operation, ...] = tuple(operation for resource in RESOURCES for operation in resource.operations.all)


_DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""Swagger UI writes styles into the page, and builds parts of it from text. It runs on this page alone."""


async def docs(request: web.Request) -> web.StreamResponse:
    """The document, to read and to try."""
    page = render(request, "api_docs.html", title="API")
    page.headers["Content-Security-Policy"] = _DOCS_POLICY
    return page


async def openapi(request: web.Request) -> web.Response:
    """The document. It tells nothing that is secret, and needs no credential."""
    return kept(request, _document(), "application/json; charset=utf-8", "no-cache")


@functools.cache
def _document() -> bytes:
    """Made when somebody first asks: that takes a while, and it is the same as long as the process lives."""
    return orjson.dumps(document(OPERATIONS))


routes = [
    web.get(f"{PREFIX}/openapi.json", openapi),
    web.get("/platform/docs", docs),
    *(web.route(operation.method, operation.path, handler(operation)) for operation in OPERATIONS),
]
