"""The public listener: makes connections, watches what is slow, and lets all finish at the end.

One ticker looks at all connections twice a second, which is what a timer for each request would cost at full load.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import structlog
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler, RequestPayloadError
from aiohttp.web_server import Server
from typing_extensions import override

from gateway.configuration.patience import Patience
from gateway.dataplane import delivery, intake
from gateway.dataplane.clients import Census
from gateway.dataplane.delivery import LastWord
from gateway.dataplane.inflow import Inflow, Scratch
from gateway.dataplane.intake import BodyTooSlow, Intake
from gateway.dataplane.server import ClientConnection, Handler
from gateway.outbox import Outbox
from policies.http.verdict import Refusal

_log = structlog.get_logger("gateway.listener")

_CUT_OFF_S = 0.1


class PublicServer(Server):
    """Makes connections, and looks twice a second for what comes too slowly and for answers that nobody takes.

    ``before_answers`` is called before answers that were held back for a moment are written: settlement's, for records.
    """

    def __init__(
        self, handler: Handler, census: Census, patience: Patience, before_answers: Callable[[], None]
    ) -> None:
        super().__init__(handler, access_log=None)  # type: ignore[arg-type]  # ClientConnection calls it its own way
        self._handler = handler
        self.census = census
        self.patience = patience
        self.outbox = Outbox(before_answers)
        self.idle: asyncio.Event | None = None
        self.heading: dict[Intake, float] = {}
        self.reading: dict[Intake, StreamReader | Inflow] = {}
        self.scratch = Scratch()
        self.writing: set[ClientConnection] = set()
        self.leaving: set[LastWord] = set()
        self._ticker: asyncio.TimerHandle | None = None

    @override
    def __call__(self) -> RequestHandler:
        if self._ticker is None:
            self._tick()
        return ClientConnection(
            self,
            self._handler,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=min(self.patience.header_s, self.patience.idle_s),  # for the first request only
            lingering_time=delivery.LINGER_S,
            max_line_size=8_190,
            max_field_size=8_190,
            max_headers=128,
        )

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in [c for c, due in self.heading.items() if due < now and not c.is_busy]:
            connection.give_up_header(Refusal.HEADER_TIMEOUT)
        for connection, body in tuple(self.reading.items()):
            if connection.body_deadline < now or connection.trickles(body):
                connection.body_deadline = float("inf")
                body.set_exception(BodyTooSlow())
            elif connection.body_broke:
                body.set_exception(RequestPayloadError("the body's framing is malformed"))
        for connection in [c for c in self.writing if c.has_stalled(now)]:
            connection.cut()
        self.census.look_for_files()
        self._ticker = loop.call_later(intake.TICK_S, self._tick)

    async def drain(self, within_s: float, idle_s: float) -> None:
        """Let every connection finish: its request, and the one that may be on its way already.

        Those that ask nothing for ``idle_s`` are closed; what is left after ``within_s`` is cut off.
        """
        self.idle = asyncio.Event()
        self.patience = replace(self.patience, idle_s=min(idle_s, within_s))
        connections = [c for c in self.connections if isinstance(c, ClientConnection)]
        for connection in connections:
            connection.finish()
        try:
            async with asyncio.timeout(within_s):
                while any(c.transport is not None for c in self.connections):
                    self.idle.clear()
                    await self.idle.wait()
        except TimeoutError:
            if any(isinstance(c, ClientConnection) and c.is_busy for c in self.connections):
                _log.warning("requests were cut off: the drain time is over", within_s=within_s)
        await self.shutdown(_CUT_OFF_S)

    def stop_ticking(self) -> None:
        """Let the loop end."""
        for one in tuple(self.leaving):
            one.end()
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
