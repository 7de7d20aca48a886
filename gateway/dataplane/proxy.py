"""The first door: read the question, decide, relay or refuse, settle. Every request ends here, whatever happens."""

import asyncio
import time
from collections.abc import Awaitable, Sequence
from collections.abc import Set as AbstractSet

import structlog
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from gateway.dataplane import responses
from gateway.dataplane.exchange import Caller, Exchange
from gateway.dataplane.forward_auth import ForwardAuth
from gateway.dataplane.gatekeeper import Gatekeeper
from gateway.dataplane.inquiries import Reader, RequestIds, TrustedProxies, usable_request_id
from gateway.dataplane.jobs import Jobs
from gateway.dataplane.passage import Incoming
from gateway.dataplane.recall import Reply
from gateway.dataplane.relay import Relay
from gateway.dataplane.repeats import Desk, Errand, Passing, Recurrent, Refrain
from gateway.dataplane.server import CLOSE, KEEP, ClientConnection, Next
from gateway.dataplane.settlement import Settlement
from gateway.telemetry.metrics import Metrics
from gateway.upstreams.failures import Abandoned
from policies.account.usage import Outcome
from policies.admission import Admit
from policies.http.browsers import head_so_far, login_path, path_so_far
from policies.http.cors import Cors
from policies.http.credentials import CONFLICT, NOTHING, Presented
from policies.http.headers import RequestHead
from policies.http.inquiry import Inquiry
from policies.http.questions import PATH as FORWARD_AUTH
from policies.http.upgrade import Upgrade
from policies.http.verdict import Deny, Refusal
from policies.routing.routes import PORTAL, RESERVED, Route

_log = structlog.get_logger("gateway.proxy")

_UNMATCHED = Deny(refusal=Refusal.UNKNOWN_ROUTE)


class Proxy:
    """The handler of the public listener."""

    def __init__(
        self,
        *,
        gatekeeper: Gatekeeper,
        forward_auth: ForwardAuth,
        relay: Relay,
        jobs: Jobs,
        settlement: Settlement,
        metrics: Metrics,
        trusted: TrustedProxies,
        withheld: AbstractSet[bytes] = frozenset(),
        session_cookie: str = "",
        cors: Cors | None = None,
    ) -> None:
        self._gatekeeper = gatekeeper
        self._forward_auth = forward_auth
        self._relay = relay
        self._jobs = jobs
        self._settlement = settlement
        self._metrics = metrics
        self._ids = RequestIds()
        self._reader = Reader(
            frozenset((*gatekeeper.routes.exact, *forward_auth.dialects)), trusted, withheld, session_cookie, cors
        )
        self._desk = Desk(gatekeeper, settlement, metrics)
        self.draining = False

    async def __call__(self, connection: ClientConnection, message: RawRequestMessage, body: StreamReader) -> Next:
        """Answer one request."""
        known = connection.known
        if known is None or known.head.raw != message.raw_headers or known.version != message.version:
            known = connection.known = self._reader.recall(message.raw_headers, message.version, connection.peer)
        request_id = usable_request_id(known.head.request_id) or self._ids.make(self._now_ms())
        exchange = Exchange(request_id, message.method, message.path.partition("?")[0], known.caller)
        self._metrics.inflight += 1
        incoming = Incoming(connection, message, body, known)
        return await self._see_through(incoming, exchange, self._answer(incoming, exchange))

    async def _see_through(self, incoming: Incoming, exchange: Exchange, answering: Awaitable[Next | Deny]) -> Next:
        """Whatever becomes of it: an answer, and a settlement."""
        connection, head = incoming.connection, incoming.known.head
        try:
            answer = await answering
            if isinstance(answer, Next):
                return answer
            keep = answer.refusal.keeps_connection and incoming.may_stay
            return self._refuse(connection, exchange, answer, head, keep_alive=keep)
        except (ConnectionError, Abandoned):
            exchange.broke_off(Outcome.CLIENT_GONE, 499)
            return CLOSE
        except asyncio.CancelledError:
            exchange.broke_off(Outcome.GATEWAY_FAILED, 503)  # the drain time is over
            raise
        except Exception:  # noqa: BLE001  the last resort for our own bugs: logged whole, answered 500, never passed on
            _log.exception("a request failed inside the gateway", request_id=exchange.request_id)
            exchange.outcome = Outcome.GATEWAY_FAILED
            return self._broke(connection, exchange, head)
        finally:
            self._metrics.inflight -= 1
            self._settlement.settle(exchange)

    def again(self, connection: ClientConnection, refrain: Recurrent) -> bool:
        """See :class:`Handler`."""
        try:
            if not self._gatekeeper.stands(refrain.permit, refrain.presented):
                return False
        except Exception:  # noqa: BLE001  a bug of ours: the task comes upon it once more, and answers for it
            return False
        refrain.errand(self._desk, connection, self._ids.make(int(time.time() * 1000))).begin()
        return True

    async def go_on(self, connection: ClientConnection, errand: Errand) -> Next:
        """See :class:`Handler`."""
        refrain, exchange = errand.refrain, errand.exchange()
        incoming = Incoming(connection, refrain.message, EMPTY_PAYLOAD, refrain.known)
        return await self._see_through(incoming, exchange, self._rest(errand, incoming, exchange))

    async def _rest(self, errand: Errand, incoming: Incoming, exchange: Exchange) -> Next | Deny:
        """What is left to do of an errand."""
        if errand.fault is not None:
            raise errand.fault
        decision, refrain = errand.decision, errand.refrain
        if decision is None:
            address = refrain.known.caller.address
            decision = await self._gatekeeper.hold(refrain.permit, refrain.bound, refrain.inquiry, address)
            if isinstance(decision, Admit):
                exchange.hold = decision.hold
        if isinstance(errand, Reply):
            asking = errand.refrain.asking
            return self._forward_auth.say(decision, asking, incoming.connection, exchange, keep_alive=True)
        assert isinstance(errand, Passing)
        if not isinstance(decision, Admit):
            return decision
        asked = None if errand.asked_on is None else (errand.asked_on, errand.asked)
        return await self._relay.carry(decision, refrain.inquiry, incoming, exchange, asked=asked)

    def unreadable(self, connection: ClientConnection, refusal: Refusal) -> None:
        """Answer where there is no request to speak of; it is counted and logged all the same."""
        exchange = Exchange(self._ids.make(self._now_ms()), "-", "-", Caller(connection.peer, ""))
        head = None if refusal is Refusal.MALFORMED_REQUEST else head_so_far(connection.beginning)
        path = path_so_far(connection.beginning)
        if self._forward_auth.refuse_unread(path, refusal, connection, exchange):
            return
        self._refuse(connection, exchange, Deny(refusal=refusal), head, keep_alive=False, path=path)

    def failed(self, connection: ClientConnection, exchange: Exchange) -> None:
        """Answer 500 where the record of an answer could not be made: the last resort, as above."""
        _log.exception("a request failed inside the gateway", request_id=exchange.request_id)
        assert connection.known is not None
        exchange.outcome = Outcome.GATEWAY_FAILED
        deny = Deny(refusal=Refusal.INTERNAL_ERROR)
        self._refuse(connection, exchange, deny, connection.known.head, keep_alive=False)

    async def _answer(self, incoming: Incoming, exchange: Exchange) -> Next | Deny:
        connection, message = incoming.connection, incoming.message
        inquiry = self._reader.read(message.method, message.path, incoming.known)
        if isinstance(inquiry, Deny):
            dialect = self._forward_auth.dialect(exchange.path)
            exchange.method, exchange.path = "-", ascii(exchange.path)[1:-1][:256]
            if dialect is not None:
                return await self._forward_auth.answer(dialect, inquiry, incoming, exchange, keep_alive=False)
            return inquiry
        is_asked = inquiry.path in self._forward_auth.dialects  # of Envoy's questions only their beginning is known
        route = _UNMATCHED if is_asked else self._gatekeeper.routes.match(inquiry.method, inquiry.path)
        is_ours = isinstance(route, Deny) or route.upstream == PORTAL  # no other route reaches forward-auth's paths
        if is_ours and inquiry.path.startswith(FORWARD_AUTH):
            return await self._second_door(inquiry, incoming, exchange)
        if isinstance(route, Deny):
            preflight = self._preflight(inquiry, route)
            if not preflight:
                return route
            exchange.status = 204
            return self._answer_empty(connection, exchange, preflight, keep_alive=incoming.may_stay)
        exchange.route = route
        if message.upgrade and inquiry.head.upgrade.lower() == b"websocket" and route.websocket:
            return await self._open_stream(inquiry, route, incoming, exchange)
        return await self._pass(inquiry, route, incoming, exchange)

    async def _pass(self, inquiry: Inquiry, route: Route, incoming: Incoming, exchange: Exchange) -> Next | Deny:
        """Judge what was read, and have it carried."""
        connection, message = incoming.connection, incoming.message
        decision = await self._gatekeeper.decide(inquiry, route, exchange.caller.address)
        if isinstance(decision, Admit):
            exchange.hold = decision.hold
            if route.job_kind:
                decision = await self._jobs.judge(decision, inquiry.path)
        if isinstance(decision, Deny):
            login = login_path(inquiry, decision) if decision.refusal.status == 401 else None
            return decision if login is None else self._to_login(connection, exchange, decision, login)
        exchange.principal = decision.permit.principal
        refusal = _unservable(inquiry, message.upgrade, route)
        if refusal is not None:
            return Deny(refusal=refusal, principal=exchange.principal)
        after = await self._relay.carry(decision, inquiry, incoming, exchange)
        if after is KEEP and connection.whole(message):
            upstream, likeness = self._relay.upstream(route.upstream), self._settlement.likeness(exchange)
            connection.refrain = Refrain.of(message, inquiry, incoming.known, decision, upstream, likeness)
        return after

    async def _open_stream(self, inquiry: Inquiry, route: Route, incoming: Incoming, exchange: Exchange) -> Next | Deny:
        """An upgrade is judged like any request, and before its 101."""
        if self.draining:
            return Deny(refusal=Refusal.DRAINING)  # it would only be closed again
        head, connection = inquiry.head, incoming.connection
        upgrade = Upgrade.read(head, inquiry.method, incoming.message.version, inquiry.query)
        if isinstance(upgrade, Deny):
            return upgrade
        if not connection.has_switched:  # two Upgrade lines, of which the parser believed the other one
            return Deny(refusal=Refusal.MALFORMED_HANDSHAKE)
        inquiry.query = upgrade.query
        if upgrade.ticket:
            alone = inquiry.presented is NOTHING
            inquiry.presented = Presented(upgrade.ticket) if alone else CONFLICT
        decision = await self._gatekeeper.decide(inquiry, route, exchange.caller.address)
        if isinstance(decision, Admit):
            exchange.hold = decision.hold
            if route.job_kind:
                decision = await self._jobs.judge(decision, inquiry.path)
        if isinstance(decision, Deny):
            return decision
        exchange.principal = decision.permit.principal
        return await self._relay.carry(decision, inquiry, incoming, exchange, upgrade)

    async def _second_door(self, inquiry: Inquiry, incoming: Incoming, exchange: Exchange) -> Next | Deny:
        dialect = self._forward_auth.dialect(inquiry.path)
        if dialect is None:
            return Deny(refusal=Refusal.UNKNOWN_ROUTE)
        return await self._forward_auth.answer(dialect, inquiry, incoming, exchange, keep_alive=incoming.may_stay)

    def _refuse(
        self, connection: ClientConnection, exchange: Exchange, deny: Deny, head: RequestHead | None, *,
        keep_alive: bool, path: str = "",
    ) -> Next:  # fmt: skip
        """Settle, then answer a refusal, in the shape of ``path`` where the exchange has none."""
        exchange.denied(deny)
        dialect = responses.dialect_of(exchange.route, path or exchange.path, head, self._gatekeeper.routes)
        is_ours = exchange.route is not None and exchange.route.is_own
        answer, exchange.bytes_out = responses.refusal(
            deny,
            exchange.request_id,
            dialect,
            keep_alive=keep_alive,
            send_body=exchange.method != "HEAD",
            more=() if head is None or is_ours else self._reader.cors.lines(head.raw),
        )
        return self._say(connection, exchange, answer, keep_alive=keep_alive)

    def _to_login(self, connection: ClientConnection, exchange: Exchange, deny: Deny, login: str) -> Next:
        """A person before a browser signs in, and comes back."""
        exchange.denied(deny)
        exchange.status = 302
        lines = (b"Location: " + login.encode(), b"Cache-Control: no-store")
        return self._answer_empty(connection, exchange, lines, keep_alive=False)

    def _preflight(self, inquiry: Inquiry, route: Deny) -> tuple[bytes, ...]:
        """The answer to a browser that asks whether another site's page may call a path; empty where it is not that.

        It has no credential and takes nothing of any limit.
        """
        if inquiry.method != "OPTIONS" or not route.allow or inquiry.path.split("/")[1] in RESERVED:
            return ()
        return self._reader.cors.preflight(inquiry.head.raw, route.allow)

    def _answer_empty(
        self, connection: ClientConnection, exchange: Exchange, lines: Sequence[bytes], *, keep_alive: bool
    ) -> Next:
        """Settle, then answer with a header alone."""
        whole = responses.plain(exchange.status, [exchange.id_line, *lines], b"", keep_alive=keep_alive)
        return self._say(connection, exchange, whole, keep_alive=keep_alive)

    def _say(self, connection: ClientConnection, exchange: Exchange, whole: bytes, *, keep_alive: bool) -> Next:
        """Settle, then write an answer of our own, if anybody is there to read it."""
        self._settlement.settle(exchange)
        exchange.begun = True
        if connection.transport is not None:
            connection.write(whole)
        return KEEP if keep_alive else CLOSE

    def _broke(self, connection: ClientConnection, exchange: Exchange, head: RequestHead) -> Next:
        """Answer for a bug: 500 while the client has seen nothing, afterwards a cut connection."""
        if not exchange.begun:
            return self._refuse(connection, exchange, Deny(refusal=Refusal.INTERNAL_ERROR), head, keep_alive=False)
        connection.cut()
        return CLOSE

    @staticmethod
    def _now_ms() -> int:
        return int(time.time() * 1000)


def _unservable(inquiry: Inquiry, upgrade: bool, route: Route) -> Refusal | None:  # noqa: FBT001  a parser's flag
    """What a request asks of the relay that it cannot give, found before a byte of the body is read."""
    head = inquiry.head
    if upgrade and head.upgrade.lower() == b"websocket":
        return Refusal.UPGRADE_NOT_SUPPORTED
    if route.websocket:
        return Refusal.UPGRADE_REQUIRED
    if head.expect and {one.strip() for one in head.expect.lower().split(b",")} != {b"100-continue"}:
        return Refusal.EXPECTATION_FAILED
    if route.meter != "none" and head.content_encoding.lower() not in (b"", b"identity"):
        return Refusal.ENCODED_BODY
    if head.content_lengths and int(head.content_lengths[0]) > route.max_body:
        return Refusal.BODY_TOO_LARGE
    return None
