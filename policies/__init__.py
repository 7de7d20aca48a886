"""What is decided, and nothing else: pure, synchronous, no I/O, no clock.

A request travels through one type per stage, so that a skipped stage does not type-check::

    Inquiry -> Presented -> Principal -> Permit -> charges -> levels -> Admit | Deny

============== ==============================================================================
inquiry        the question, as both doors ask it; ambiguous targets are refused here
questions      how each reverse proxy asks whether a request may pass
browsers       which refused request is a person's before a browser, and where that person signs in
verdict        the answer: Admit, Deny, and every refusal by name, status and code
routes         what a route is: who may use it, its limits and times, and its upstream
route_table    which route a method and a path lead to; ``route_fields`` reads each from plain data
credentials    where a credential may stand in a request; the format of an API key
tokens         access tokens: what one must say to be believed; ``jws`` takes one apart
verification_keys
               the keys that signatures are verified with, judged when they are loaded
signing_keys   a signing key's stage, from its instants and the clock
foreign        tokens of other issuers: what their claims mean here
refresh        refresh tokens: what one looks like, and what it leads to
principals     who is asking
people         people: signing in, invitations, what of a log-in still holds; ``federation`` other providers' word
cookies        the session cookie; ``crosssite`` whether a page of our own sent it
cors           the pages of other sites that may call proxied routes from a browser
tenants        the nouns of the registry: Tenant, User, Membership, ApiKey, RouteOverride
audit          who changed what, and the chain that makes tampering show
permissions    what a role allows in a tenant's administration
admission      the last word: a permit and what the limits said
authorise      may this principal use this route now
limits         charges, levels and the GCRA arithmetic; ``ratelimit_fields`` says them on the wire
allowances     what operators grant: so much of what, in which time, to whom
bounds         which allowances a request touches, and how much of each it is likely to need
calendars      days and months in a tenant's time zone, from its anchor day; ``forecast`` where one is heading
holding        leases and reservations: the rule by which they are taken, extended and settled
networks       addresses and networks of proxies and clients, in one form
headers        hop-by-hop removal; identity headers: delete by normalised name, then set
jobs           whose a job of the upstream is
corrections    what a job's result adds to the account, or takes back
strict_json    JSON with one reading
events         events for others: envelope, signature, retries
usage          the record of one request; ``usage_event`` the same as a CloudEvent
plans          limits and routes under one name, for the tenants that are on the plan
rating         what usage costs by a price list; ``price_book`` reads the lists
upstreams      which address gets a request, and what is learnt from how it went
metering       from bytes to milliseconds: ``form_meter`` of a form, ``body_meter`` of any other body, ``readings``
               where one may be read in several ways; ``audio`` holds one walker a container
tickets        one-use tickets for streams; ``subprotocols`` finds credentials where browsers must put them
streams        how a stream ends, by name; what may watch one pass
upgrade        the opening of a WebSocket: what each side must say
websocket      WebSocket frames as they pass: counted and judged
multipart      finds the audio in a form as it passes; ``inline_audio`` in the strings of a body, which ``json_stream``
               reads of JSON and ``pair_stream`` of a link-like form;
               ``json_body`` finds that in any encoding; ``json_depth`` leaves out what is deep in it
elsewhere      whether a request names its audio by URL, and a place for its result
stream_meters  finds the audio in a stream, by its protocol; ``protocol_meter`` is what they share
============== ==============================================================================

Time is always an argument: whole milliseconds since the Unix epoch, named ``now_ms``.
"""
