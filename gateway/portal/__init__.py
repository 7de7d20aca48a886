"""Pages, accounts and the JSON API: an aiohttp application in a process of its own, one more upstream of the gateway.

============== ==============================================================================
application    the application: which modules there are, middleware, what it stands on
parts          what every handler may use: stores, secrets, clock; ``long_reads`` what may take minutes,
               ``turns`` so many at one time
caller         who asks, as the gateway says it
problem        a refusal on its way; ``problem_answers`` makes it RFC 9457 for programs, a page for browsers
bodies         forms and JSON, validated
crosssite      requests that other sites make (CSRF)
shield         security headers
cached         what anybody may keep: ETags, 304
api            the JSON API under ``/platform/v1``: operations declared once, served and documented from that
oauth          tokens for people and programs, and what others need to verify them
tickets        one-use tickets for streams
webhooks       sends events to the Redis stream and to webhooks; ``rounds`` is work that is done over and over
purging        once a day: tenants whose grace is over
pages          templates, and the style sheet and scripts that they name; ``dates`` and ``figures`` as people write them
-------------- ------------------------------------------------------------------------------
identity       what log-ins stand on, and who acts (audit)
browser        a browser's session: cookie, whose it is, what a page asks of it
proving        address and password, second factor, tries that are counted: one way for all doors
hashing        bcrypt on threads; ``strength`` judges passwords, ``choosing`` takes new ones
login          signing in and out; ``halfway`` is between the first proof and the session; ``slips`` tell what a browser
               is in the midst of
enrolling      a second factor for whoever must have one; ``trusted`` browsers where it is not asked for again
passkeys       passkeys, alone and as the second factor
oidc           signing in with other providers (OpenID Connect)
recovery       forgotten passwords; ``joining`` invitations; ``addresses`` another e-mail address
ending         what pages say of the end of their session
account        a person's own pages; ``security`` password and second factor, ``own_keys`` API tokens
statement      a tenant's month as a page that prints
admin          pages for a tenant's administrators: the API's operations, asked by people
mail           how mail leaves; ``posting`` sees to letters that nobody waits for, ``letters`` is what they say
sealing        secrets that must be read again; ``agents`` browsers by name
============== ==============================================================================

A module of endpoints holds ``routes = web.RouteTableDef()`` and its handlers, and is one line in
``application.MODULES``. If it needs more than the parts that all share, it has a ``lifetime`` beside ``routes``: an
asynchronous generator over the application (aiohttp's ``cleanup_ctx``) that puts its own into ``app[ITS_KEY]``. Paths
must lie under the prefixes of ``gateway.configuration.reserved``; nothing else reaches the portal.

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
