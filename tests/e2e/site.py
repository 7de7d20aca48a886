"""A proxy with its shipped file, between a client, the gateway and a recording transcriber."""

import contextlib
import ipaddress
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.dataplane.forward_auth import Manners
from tests.deploy import proxies
from tests.deploy.tap import SOURCE, Tap, tapped
from tests.gateway.harness import Gateway, Options, Seen, running, say_ok


@dataclass(frozen=True, slots=True)
class Site:
    """``edge`` is the gateway as seen through the proxy; ``tap`` is the wire between the two."""

    name: str
    edge: Gateway
    gateway: Gateway
    tap: Tap

    @property
    def seen(self) -> list[Seen]:
        """What the transcriber got."""
        return self.gateway.upstream.seen

    @classmethod
    @contextlib.asynccontextmanager
    async def built(cls, name: str, directory: Path) -> AsyncIterator["Site"]:
        """The gateway trusts the far end of the wire alone, and says 202 for yes, which only Envoy would not take."""
        options = Options(
            trusted=(ipaddress.ip_network(SOURCE),), manners=Manners(status=202, login_base="https://users.test")
        )
        async with (
            running(options) as gateway,
            tapped(gateway.port) as tap,
            proxies.running(name, directory, gateway=tap.port, transcriber=gateway.upstream.port) as port,
        ):
            yield cls(name, replace(gateway, port=port), gateway, tap)

    def forget(self) -> None:
        """As if nobody had been here before."""
        self.seen.clear()
        self.tap.sent.clear()
        self.tap.instead = None
        self.gateway.keys.down = False
        self.gateway.upstream.respond, self.gateway.upstream.early = say_ok, None
