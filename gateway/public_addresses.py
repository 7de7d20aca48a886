"""Addresses that somebody else has named: they lead to the public internet, or nowhere (CWE-918)."""

import asyncio
import contextlib
import ipaddress
import socket

from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override
from yarl import URL

from policies.events import is_public


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
    """Raises NotAllowed for an address written as a number that is not public: no resolver is asked for those."""
    host = URL(url).host or ""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        if not allow_private and not is_public(host):
            raise NotAllowed(f"{host} is not on the public internet")
