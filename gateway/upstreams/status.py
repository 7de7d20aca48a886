"""How an upstream is, for ``/readyz``: whether its addresses can be connected to now, and what the workers think.

Both, because either alone misleads: a worker learns of a death only from requests, or from checks where they are
configured, and a port that accepts connections may answer nothing. To https the handshake
belongs: a certificate that has expired is no connection.
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.configuration.origin import Origin
from gateway.configuration.upstreams import UpstreamSettings

_CONNECT_S = 1.5
"""Less than what ``ops`` grants the whole check, so that the other addresses are still told of."""


async def upstream_status(settings: UpstreamSettings, workers: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """``status`` is down when no address is of use, degraded when not all are.

    ``workers``: by address, how many workers use it, try it, and know it.
    """
    try:
        context = await asyncio.to_thread(settings.tls)
    except ValueError as fault:
        reached = [str(fault)] * len(settings.origins)
    else:
        reached = await asyncio.gather(
            *(_reach(origin, context, settings.server_name or origin.host) for origin in settings.origins)
        )
    addresses = dict(zip(map(str, settings.origins), reached, strict=True))
    some = "ok" in reached and (not workers or any(using for using, _, _ in workers.values()))
    every = set(reached) == {"ok"} and all(using == knowing for using, _, knowing in workers.values())
    return {
        "status": "ok" if every else "degraded" if some else "down",
        "addresses": addresses,
        "workers": {address: _opinion(*counts) for address, counts in workers.items()},
    }


def _opinion(using: int, trying: int, knowing: int) -> str:
    return f"{using} of {knowing} use it" + (f", {trying} try it with the next request" if trying else "")


async def _reach(origin: Origin, context: ssl.SSLContext | None, name: str) -> str:
    try:
        async with asyncio.timeout(_CONNECT_S):
            if origin.path:
                _, writer = await asyncio.open_unix_connection(origin.path)
            elif origin.tls:
                _, writer = await asyncio.open_connection(origin.host, origin.port, ssl=context, server_hostname=name)
            else:
                _, writer = await asyncio.open_connection(origin.host, origin.port)
    except TimeoutError:
        return f"no connection within {_CONNECT_S:g} s"
    except OSError as error:
        return str(error)
    writer.close()
    return "ok"
