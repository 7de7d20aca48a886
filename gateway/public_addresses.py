"""Addresses that somebody else has named: they lead to the public internet, or nowhere (CWE-918)."""

import asyncio
import socket

from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override
from yarl import URL

from policies.account.events import is_public


class NotAllowed(Exception):
    """The address is not one that we may speak to."""


class PublicResolver(AbstractResolver):
    """Looks names up and gives out public addresses alone."""

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        results: list[ResolveResult] = []
        for its_family, _, proto, _, address in found:
            if not is_public(str(address[0])):
                raise NotAllowed(f"{host} leads to {address[0]}, which is not on the public internet")
            results.append(
                ResolveResult(
                    hostname=host,
                    host=str(address[0]),
                    port=port,
                    family=its_family,
                    proto=proto,
                    flags=socket.AI_NUMERICHOST,
                )
            )
        return results

    @override
    async def close(self) -> None:
        """Nothing is held."""


def check_host(url: str, *, allow_private: bool) -> None:
    """Raises NotAllowed for an address written as a number that is not public: no resolver is asked for those.

    What is not plainly an address counts, too: systems read ``2130706433``, ``127.1`` and ``0177.0.0.1`` as 127.0.0.1.
    aiohttp would not connect there; whoever names it is told at once. No public name ends in a number (URL Standard).
    """
    host = URL(url).host or ""
    is_number = ":" in host or host.rstrip(".").rpartition(".")[2].isdigit()
    if is_number and not allow_private and not is_public(host):
        raise NotAllowed(f"{host} is not on the public internet")
