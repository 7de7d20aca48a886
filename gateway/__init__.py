"""The outside world: sockets, clocks, processes, pages. A room imports those below it, never those above.

================  =====================================================================
cli               the ``gateway`` command and its sub-commands
demo              the demo's transcriber and its sample audio
processes         parent, workers and portal: how they start, talk, reload and end
portal            pages, accounts and the JSON API, in a process of its own
dataplane         the way of a request: listened for, judged, carried, settled
upstreams         the services behind the gateway, and the connections to them
identity          who asks: keys, tokens, sessions, and what signs and believes them
usage             what is made of the account: read, sent on, compared
configuration     what is set: settings, routes, secrets, and every fault of them
telemetry         metrics, the access log, the application log
tasks             background tasks that cannot vanish
outbox            small writes of one loop iteration, made together
times             moments as text
locales           the languages and time zones that people choose from
public_addresses  addresses that somebody else has named
shipped           the data files that come with the product
================  =====================================================================
"""

from importlib import metadata

__version__ = metadata.version("tahoe-gateway")
