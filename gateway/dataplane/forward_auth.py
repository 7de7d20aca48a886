"""The second door: a trusted reverse proxy asks whether a request may pass. The very same decision answers.

nginx's ``auth_request`` understands 2xx, 401 and 403 and turns every other status into a bare 500, so that is all it
gets; the true status is in ``X-Auth-Status``, for an ``error_page`` to restore. Traefik, Caddy and Envoy hand a refusal
on as it is, so they get the one that the client would have had from the first door.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.dataplane import responses
from gateway.dataplane.exchange import Exchange
from gateway.dataplane.gatekeeper import Gatekeeper
from gateway.dataplane.holder import Holder
from gateway.dataplane.inquiries import TrustedProxies
from gateway.dataplane.jobs import Jobs
from gateway.dataplane.passage import Incoming
from gateway.dataplane.recall import LONGEST, Asking, Memory, Question
from gateway.dataplane.remembered import Remembered
from gateway.dataplane.server import CLOSE, KEEP, ClientConnection, Next
from gateway.dataplane.settlement import Settlement
from policies.admission import Admit
from policies.authorise import Permit
from policies.http import headers as algebra
from policies.http.browsers import login_location
from policies.http.credentials import Presented
from policies.http.inquiry import Inquiry
from policies.http.questions import CADDY, ENVOY, SOURCES, TRAEFIK, Dialect, nginx, question
from policies.http.upgrade import from_same_origin, protocols_without_credentials
from policies.http.verdict import Deny, Refusal
from policies.identity.principals import Method, Principal
from policies.limits.ratelimit_fields import state_line
from policies.routing.routes import PORTAL

_NOT_STORED = b"Cache-Control: no-store"
_REMEMBERED = 4_096
_UNSAID = "It configures its streams, which only the gateway's own address does for them."
_PLAIN = str.maketrans('"\\', "'/")
"""A sentence that may stand between the quotation marks of a JSON text."""
_REMOVED = b"x-envoy-auth-headers-to-remove: " + ", ".join(algebra.CREDENTIALS).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How the operator wants this door to answer.

    ``source`` is the key of SOURCES that nginx's question is read from; ``status`` the one of a yes, 200 or 202;
    ``oauth2_proxy`` adds the headers of oauth2-proxy; ``login_base`` is our public URL, empty to redirect nobody.
    """

    source: str = "x-original-uri"
    status: int = 200
    oauth2_proxy: bool = False
    login_base: str = ""


class ForwardAuth:
    """Answers on the paths of :attr:`dialects`, and below Envoy's."""

    def __init__(
        self, gatekeeper: Gatekeeper, jobs: Jobs, settlement: Settlement, trusted: TrustedProxies, manners: Manners
    ) -> None:
        self._gatekeeper = gatekeeper
        self._jobs = jobs
        self._settlement = settlement
        self._trusted = trusted
        self._manners = manners
        self._identities: dict[bytes, bytes] = {}
        self._memory: Memory = Remembered()
        self.dialects: Mapping[str, Dialect] = {
            dialect.path: dialect for dialect in (nginx(SOURCES[manners.source]), TRAEFIK, CADDY, ENVOY)
        }

    def dialect(self, path: str) -> Dialect | None:
        """The dialect that is asked in on this path, if it is one of this door's."""
        return self.dialects.get(path) or (ENVOY if path.startswith(f"{ENVOY.path}/") else None)

    async def answer(
        self, dialect: Dialect, asked: Inquiry | Deny, incoming: Incoming, exchange: Exchange, *, keep_alive: bool
    ) -> Next:
        """Decide on the request that the proxy describes; a subrequest that is itself faulty is refused alike."""
        exchange.door = "forward_auth"
        connection = incoming.connection
        asking = Asking(dialect, asked, self._question(dialect, asked, connection))
        inquiry = asking.inquiry
        verdict = inquiry if isinstance(inquiry, Deny) else await self._decide(inquiry, exchange)
        after = self.say(verdict, asking, connection, exchange, keep_alive=keep_alive)
        if after is KEEP and isinstance(verdict, Admit):
            connection.memory = self._memory
            self._remember(verdict, asking, incoming, exchange)
        return after

    def say(
        self, verdict: Admit | Deny, asking: Asking, connection: ClientConnection, exchange: Exchange, *,
        keep_alive: bool,
    ) -> Next:  # fmt: skip
        """Settle, and answer."""
        dialect, asked, inquiry = asking
        if isinstance(verdict, Admit):
            exchange.status = self._manners.status if dialect.allows_on_any_2xx else 200
            lines = self._yes(dialect, verdict, exchange) + _protocols(asked)
            whole = responses.plain(exchange.status, lines, b"", keep_alive=keep_alive)
        else:
            exchange.denied(verdict)
            login = login_location(self._manners.login_base, inquiry, verdict) if isinstance(inquiry, Inquiry) else None
            if not dialect.relays_answers:
                whole = _no_to_nginx(verdict, exchange, login, keep_alive=keep_alive)
            elif login is not None:
                whole = _to_login(exchange, login, keep_alive=keep_alive)
            else:
                head = inquiry.head if isinstance(inquiry, Inquiry) else None
                whole = self._no(verdict, asked, exchange, head, keep_alive=keep_alive)
        self._settlement.settle(exchange)
        exchange.begun = True
        if connection.transport is not None:
            connection.write(whole)
        return KEEP if keep_alive else CLOSE

    def refuse_unread(self, path: str, refusal: Refusal, connection: ClientConnection, exchange: Exchange) -> bool:
        """Answer nginx where its subrequest could not be read, as a client's header may be too large: 403 as well.

        False where it is somebody else who asks, or a dialect that hands on what the first door says.
        """
        dialect = self.dialect(path)
        if dialect is None or dialect.relays_answers or connection.peer not in self._trusted:
            return False
        exchange.door = "forward_auth"
        deny = Deny(refusal=refusal)
        self.say(deny, Asking(dialect, deny, deny), connection, exchange, keep_alive=False)
        return True

    def _remember(self, admit: Admit, asking: Asking, incoming: Incoming, exchange: Exchange) -> None:
        """Keep what it amounts to when it comes again, where there is no more to that than to any."""
        known, permit, inquiry = incoming.known, admit.permit, asking.inquiry
        data, presented = incoming.connection.whole(incoming.message), known.presented
        if not isinstance(inquiry, Inquiry):
            return
        bound = () if permit.bounds is None else Holder.bound(permit.bounds, inquiry, is_seen=False)
        is_usual = (
            0 < len(data) <= LONGEST
            and not (bound and (known.head.content_lengths or permit.route.websocket))
            and (admit.hold is None or not admit.hold.grows)
            and not permit.route.job_kind
            and not known.head.request_id
            and not known.head.upgrade
            and not known.head.websocket
        )
        place = (incoming.connection.peer, data)
        if not is_usual or not isinstance(presented, Presented) or not self._memory.has_come(place):
            return
        likeness = self._settlement.likeness_of_many(exchange)
        if likeness is not None:
            beginning = responses.status_line(exchange.status) + b"X-Request-ID: "
            lines = [b"", *self._standing(asking.dialect, permit)]
            if permit.charges and not bound:
                lines += [permit.rate_policy, b""]
            question = Question.of(
                incoming.message, known, asking, presented, permit, bound, likeness, beginning, b"\r\n".join(lines)
            )
            self._memory.keep(place, question)

    def _question(self, dialect: Dialect, asked: Inquiry | Deny, connection: ClientConnection) -> Inquiry | Deny:
        if connection.peer not in self._trusted:
            return Deny(refusal=Refusal.UNTRUSTED_PROXY)
        if isinstance(asked, Deny):
            return asked
        known = connection.known
        if dialect.source is None or known is None:
            return question(dialect, asked)
        if known.question is None or known.question[0] is not dialect:
            known.question = (dialect, question(dialect, asked))
        read = known.question[1]
        if isinstance(read, Deny):
            return read
        # Not the same one again: whoever judges it may put another credential in place of what was presented.
        return Inquiry(read.method, read.path, read.query, asked.head, asked.presented)

    async def _decide(self, inquiry: Inquiry, exchange: Exchange) -> Admit | Deny:
        exchange.method, exchange.path = inquiry.method, inquiry.path
        route = self._gatekeeper.routes.match(inquiry.method, inquiry.path)
        if isinstance(route, Deny):
            return route
        # Open to everybody there, or answered there; and the proxy's own service may have such a path too, with tokens.
        if route.upstream == PORTAL:
            return Deny(refusal=Refusal.UNKNOWN_ROUTE)
        exchange.route = route
        decision = await self._gatekeeper.decide(inquiry, route, exchange.caller.address, is_seen=False)
        if isinstance(decision, Admit):
            exchange.hold = decision.hold  # settled with the answer: when the request itself ends is not told here
            if route.job_kind:
                decision = await self._jobs.judge(decision, inquiry.path, is_seen=False)
        if isinstance(decision, Deny):
            return decision
        presented = inquiry.presented
        if isinstance(presented, Presented) and presented.ticket is not None and presented.ticket.first:
            return Deny(refusal=Refusal.INVALID_TICKET, detail=_UNSAID)
        exchange.principal = decision.permit.principal
        by_session = exchange.principal.method is Method.SESSION
        if route.websocket and by_session and not from_same_origin(inquiry.head, self._manners.login_base.encode()):
            return Deny(refusal=Refusal.ORIGIN_NOT_ALLOWED, principal=exchange.principal)
        return decision

    def _yes(self, dialect: Dialect, admit: Admit, exchange: Exchange) -> list[bytes]:
        """Every identity header, also one without a value: a header that is absent lets the client's copy through."""
        lines = [exchange.id_line, *self._standing(dialect, admit.permit)]
        if admit.taken.charges:
            lines += [admit.permit.rate_policy, state_line(admit.taken)]
        return [*lines, *admit.limit_lines]

    def _standing(self, dialect: Dialect, permit: Permit) -> list[bytes]:
        """The lines that every yes to this permit has."""
        lines = [_NOT_STORED, self._identity(permit)]
        return [*lines, _REMOVED] if dialect.removes_headers else lines

    def _no(
        self, deny: Deny, asked: Inquiry | Deny, exchange: Exchange, head: algebra.RequestHead | None, *,
        keep_alive: bool,
    ) -> bytes:  # fmt: skip
        """The refusal of the first door. A subrequest by HEAD is answered without a body, whatever it asks about."""
        whole, exchange.bytes_out = responses.refusal(
            deny,
            exchange.request_id,
            responses.dialect_of(exchange.route, exchange.path, head, self._gatekeeper.routes),
            keep_alive=keep_alive,
            send_body=isinstance(asked, Deny) or asked.method != "HEAD",
            pages=self._manners.login_base or None,  # the proxy's own host need not have them
        )
        return whole

    def _identity(self, permit: Permit) -> bytes:
        """The identity lines, joined; made once for all permits that say the same."""
        lines = self._identities.get(permit.identity)
        if lines is None:
            found = _fields(algebra.identity(permit.principal, permit.assertion))
            if self._manners.oauth2_proxy:
                found += _fields(_as_oauth2_proxy(permit.principal))
            if len(self._identities) >= _REMEMBERED:
                self._identities.clear()
            lines = self._identities[permit.identity] = b"\r\n".join(found)
        return lines


def _protocols(asked: Inquiry | Deny) -> list[bytes]:
    """The subprotocols of a stream without the credential among them, for the proxy to send on over the client's."""
    if isinstance(asked, Deny) or not asked.head.websocket:
        return []
    left = protocols_without_credentials(asked.head)
    return [] if left is None else [b"Sec-WebSocket-Protocol: " + left]


def _fields(values: Mapping[str, str]) -> list[bytes]:
    return [f"{name}: {value}".encode() for name, value in values.items()]


def _as_oauth2_proxy(principal: Principal) -> dict[str, str]:
    """What oauth2-proxy says of a session (its ``--set-xauthrequest``); e-mail addresses are not known here."""
    user = principal.user_id or principal.key_id
    values = {"User": user, "Email": "", "Groups": ",".join(principal.roles), "Preferred-Username": user}
    return {f"X-Auth-Request-{name}": algebra.ascii_value(value) for name, value in values.items()}


def _no_to_nginx(deny: Deny, exchange: Exchange, login: str | None, *, keep_alive: bool) -> bytes:
    """401 or 403, and all that an ``error_page`` needs to say the rest."""
    true = exchange.status
    exchange.status = 401 if true == 401 else 403
    code = deny.refusal.code.encode()
    lines = [exchange.id_line, _NOT_STORED, b"X-Auth-Status: %d" % true, b"X-Auth-Code: " + code]
    lines.append(b"X-Auth-Message: " + algebra.ascii_value(deny.message).translate(_PLAIN).encode())
    lines += responses.challenge(deny)
    if login is not None:
        lines.append(b"Location: " + login.encode())
    lines += responses.advice(deny)
    return responses.plain(exchange.status, lines, b"", keep_alive=keep_alive)


def _to_login(exchange: Exchange, login: str, *, keep_alive: bool) -> bytes:
    exchange.status = 302
    lines: Sequence[bytes] = (exchange.id_line, _NOT_STORED, b"Location: " + login.encode())
    return responses.plain(302, lines, b"", keep_alive=keep_alive)
