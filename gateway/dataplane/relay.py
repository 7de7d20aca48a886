"""Carries an admitted request to the upstream and its answer back, while the meter watches both pass."""

import asyncio
from collections.abc import Mapping
from typing import TypeAlias

from aiohttp.web_protocol import RequestPayloadError

from gateway.dataplane.exchange import Exchange
from gateway.dataplane.intake import BodyTooSlow
from gateway.dataplane.jobs import Jobs
from gateway.dataplane.passage import Equipment, Incoming, Passage
from gateway.dataplane.server import Next
from gateway.dataplane.settlement import Settlement
from gateway.dataplane.streams import Streams
from gateway.dataplane.upload import BodyTooLarge, Refused
from gateway.tasks import Tasks
from gateway.telemetry.metrics import Metrics
from gateway.upstreams.addresses import Upstream
from gateway.upstreams.connection import UpstreamConnection
from gateway.upstreams.failures import Abandoned, OutOfFiles, Unsent, UpstreamError
from policies.admission import Admit
from policies.http.inquiry import Inquiry
from policies.http.upgrade import Upgrade
from policies.http.verdict import Deny

Asked: TypeAlias = tuple[UpstreamConnection, float]
"""Where a request was written already, and when, on the clock of an exchange."""


class Relay:
    """The way to the upstreams and back, whoever asks."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        streams: Streams,
        jobs: Jobs,
        settlement: Settlement,
        metrics: Metrics,
        tasks: Tasks,
    ) -> None:
        self._upstreams = upstreams
        self._equipment = Equipment(streams, jobs, settlement, metrics, tasks)

    async def carry(
        self,
        admit: Admit,
        inquiry: Inquiry,
        incoming: Incoming,
        exchange: Exchange,
        upgrade: Upgrade | None = None,
        asked: Asked | None = None,
    ) -> Next | Deny:
        """Answer from the upstream, or say why not if the client has seen nothing yet. Only an Admit gets here.

        With ``upgrade`` the upstream may agree to a stream; then this lasts until that is over. With ``asked`` only its
        answer is still to come.

        Raises ConnectionError or Abandoned when the client has gone.
        """
        upstreams = self._upstreams[admit.permit.route.upstream]
        passage = Passage(self._equipment, upstreams, admit, inquiry, incoming, exchange, upgrade)
        try:
            if exchange.hold is not None and exchange.hold.grows:
                await passage.fit(exchange.hold)
            upstream = await self._ask(passage, upstreams, asked, new=upgrade is not None)
            head = upstream.head
            assert head is not None
            if upstream.pool.is_suspect:
                upstreams.went_well(upstream.pool)
            if upgrade is not None and upstream.status == 101:
                return await passage.switch(upstream, head, upgrade)
            exchange.answered(upstream.status)
            if admit.permit.route.job_kind and upstream.status < 300:
                return await passage.answer_of_job(upstream, head)
            if upstream.body_done:
                return passage.answer_whole(upstream, head)
            return await passage.answer_in_pieces(upstream, head)
        except Abandoned:
            raise
        except (UpstreamError, BodyTooSlow, BodyTooLarge, Refused, RequestPayloadError) as error:
            return passage.failed(error)
        finally:
            passage.close()

    async def _ask(
        self, passage: Passage, upstreams: Upstream, asked: Asked | None, *, new: bool
    ) -> UpstreamConnection:
        """The connection on which the answer has begun."""
        if asked is not None:
            passage.go_on(*asked)
        upstream = passage.upstream or (None if new else upstreams.idle()) or await self._take(upstreams, new=new)
        while True:
            try:
                if passage.upstream is None:
                    passage.ask(upstream)
                await upstream.heard()
                while upstream.interim:
                    passage.inform(upstream)
                    await upstream.heard()
            except Unsent as error:
                upstream = await passage.find_another(upstream, error)
            else:
                return upstream

    def upstream(self, name: str) -> Upstream:
        """The upstream of the name that routes have for it."""
        return self._upstreams[name]

    async def _take(self, upstreams: Upstream, *, new: bool) -> UpstreamConnection:
        """As :meth:`Upstream.take`. Where no file is left, those of connections that rest are used first."""
        try:
            return await upstreams.take(new=new)
        except OutOfFiles:
            if not sum(one.close_idle() for one in self._upstreams.values()):
                raise
        for _ in range(2):  # turns of the loop, in which they are closed
            await asyncio.sleep(0)
        return await upstreams.take(new=new)
