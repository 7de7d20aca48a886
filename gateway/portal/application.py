"""The portal's application: which modules there are, in which order the middleware stands, what it stands on."""

from typing import Any

from aiohttp import web

from gateway.portal import purging, tickets, vendor_tickets, webhooks
from gateway.portal.admin import audit, invitations, keys, limits, members, new_keys, overview, usage
from gateway.portal.api import service
from gateway.portal.entry import choosing, enrolling, identity, joining, login, recovery
from gateway.portal.entry.oidc import consent, flow, linking
from gateway.portal.entry.passkeys import joining as passkey_joining
from gateway.portal.entry.passkeys import keeping, using
from gateway.portal.mail import posting, sending
from gateway.portal.oauth import discovery, endpoints
from gateway.portal.own import account, addresses, security, statement
from gateway.portal.own import keys as own_keys
from gateway.portal.parts import PARTS, Parts
from gateway.portal.web import crosssite, pages, problem_answers, shield

MODULES: tuple[Any, ...] = (
    service, webhooks, purging, pages, endpoints, discovery, tickets,
    identity, sending, posting, login, choosing, recovery, joining, account, security, enrolling, flow, linking,
    consent, keeping, using, passkey_joining, addresses, own_keys, statement,
    overview, new_keys, keys, members, invitations, usage, limits, audit,
)  # fmt: skip
"""Each has ``routes``, and a ``lifetime`` if it opens something; one line to add another."""

_MAX_BODY = 1_048_576


def application(parts: Parts) -> web.Application:
    """Everything in place. Problems outermost: what the others raise is answered there as well."""
    app = web.Application(middlewares=[problem_answers.middleware, crosssite.middleware], client_max_size=_MAX_BODY)
    app[PARTS] = parts
    app.on_response_prepare.append(shield.add_headers)
    pages.setup(app)
    for module in MODULES:
        app.add_routes(module.routes)
        if hasattr(module, "lifetime"):
            app.cleanup_ctx.append(module.lifetime)
    vendor_tickets.setup(app, parts.table)
    return app
