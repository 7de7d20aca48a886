"""What is decided, and nothing else: pure, synchronous, no I/O, no clock.

A request travels through one type per stage, so that a skipped stage does not type-check::

    Inquiry -> Presented -> Principal -> Permit -> charges -> levels -> Admit | Deny

=========== ==============================================================================
http        requests, their headers and credentials, WebSockets, and every answer by name
identity    who asks, and by which proof
routing     where a request leads
authorise   may this principal use this route now
bounds      which allowances a request touches, and how much of each it is likely to need
limits      how much of what, in which time, and how that is taken
admission   the last word: a permit and what the limits said
metering    from bytes to milliseconds of audio, in whatever they travel; ``audio`` holds one walker a container
jobs        whose a job of the upstream is
corrections what a job's result adds to the account, or takes back
account     what use amounts to: records, events, prices
people      people: signing in, invitations, what of a log-in still holds; ``federation`` other providers' word
audit       who changed what, and the chain that makes tampering show
networks    addresses and networks of proxies and clients, in one form
=========== ==============================================================================

Time is always an argument: whole milliseconds since the Unix epoch, named ``now_ms``.
"""
