"""Pages, accounts and the JSON API: an aiohttp application in a process of its own, one more upstream of the gateway.

============== ==============================================================================
application    the application: which modules there are, middleware, what it stands on
parts          what every handler may use: stores, secrets, clock; ``long_reads`` what may take minutes,
               ``turns`` so many at one time
caller         who asks, as the gateway says it
web            what every page and answer goes through: forms, refusals, templates, headers
api            the JSON API under ``/platform/v1``: operations declared once, served and documented from that
oauth          tokens for people and programs, and what others need to verify them
entry          coming in, and who came: passwords, second factors, passkeys, other providers, invitations, sessions
own            a person's own pages
admin          pages for a tenant's administrators: the API's operations, asked by people
mail           letters
tickets        tickets for streams; ``vendor_tickets`` gives them out as the SDKs of services ask for tokens
webhooks       sends events to the Redis stream and to webhooks; ``rounds`` is work that is done over and over
purging        once a day: tenants whose grace is over
============== ==============================================================================

A module of endpoints holds ``routes = web.RouteTableDef()`` and its handlers, and is one line in
``application.MODULES``. If it needs more than the parts that all share, it has a ``lifetime`` beside ``routes``: an
asynchronous generator over the application (aiohttp's ``cleanup_ctx``) that puts its own into ``app[ITS_KEY]``. Paths
must lie under the prefixes of ``gateway.configuration.reserved``; nothing else reaches the portal, except for routes of
the table with ``grants``.

    routes = web.RouteTableDef()

    @routes.post("/platform/v1/things")
    async def create(request: web.Request) -> web.Response:
        wish = await read_json(request, ThingWish)              # a pydantic model; its faults are a 422 that lists all
        who = caller(request)                                   # the identity that the gateway vouches for
        async with request.app[PARTS].pool.tenant(who.tenant_id) as connection: ...
        raise Problem(Refusal.NOT_FOUND)                        # a refusal of policies.http.verdict, as problem or page

The portal trusts the identity headers of its requests. It may, because the gateway deletes a client's own and sets
them, and because its Unix socket is 0600: nobody but the gateway can ask it anything.
"""
