"""The second door: a trusted reverse proxy asks whether a request may pass. The very same decision answers.

The nginx dialect: ``auth_request`` understands 2xx, 401 and 403 and turns every other status into a bare 500, so that
is all it gets; the true status is in ``X-Auth-Status``, for an ``error_page`` to restore. The target is read from one
configured source: nginx passes client headers on, so a source that the operator left unset is the client's to forge
(GHSA-7x63-xv5r-3p2x). An unreadable question is refused and never allowed (Authelia CVE-2021-32637).
"""

from collections.abc import Mapping
from typing import NamedTuple

from gateway import responses
from gateway.exchange import Exchange, Settlement
from gateway.gatekeeper import Gatekeeper
from gateway.inquiries import TrustedProxies
from gateway.server import CLOSE, KEEP, ClientConnection, Next
from policies import headers as algebra
from policies.admission import Admit
from policies.inquiry import Inquiry, Target, is_plain_host
from policies.ratelimit_fields import refused_lines, state_line
from policies.verdict import Deny, Refusal


class Source(NamedTuple):
    """The two headers that carry the question; ``absolute`` when the target is a whole URL."""

    target: bytes
    method: bytes
    absolute: bool


SOURCES: Mapping[str, Source] = {
    "x-original-uri": Source(b"x-original-uri", b"x-original-method", absolute=False),
    "x-original-url": Source(b"x-original-url", b"x-original-method", absolute=True),
    "x-forwarded-uri": Source(b"x-forwarded-uri", b"x-forwarded-method", absolute=False),
}
PATH = "/auth/verify"


class ForwardAuth:
    """Answers on :data:`PATH`."""

    def __init__(self, gatekeeper: Gatekeeper, settlement: Settlement, trusted: TrustedProxies, source: Source) -> None:
        self._gatekeeper = gatekeeper
        self._settlement = settlement
        self._trusted = trusted
        self._source = source

    async def answer(
        self, asked: Inquiry | Deny, connection: ClientConnection, exchange: Exchange, *, keep_alive: bool
    ) -> Next:
        """Decide on the request that the proxy describes; a subrequest that is itself faulty is refused alike."""
        exchange.door = "forward_auth"
        verdict = await self._decide(asked, connection, exchange)
        lines = [exchange.id_line, b"Cache-Control: no-store"]
        if isinstance(verdict, Admit):
            exchange.status = 200
            identity = algebra.identity(verdict.permit.principal, verdict.permit.assertion)
            lines += [f"{name}: {value}".encode() for name, value in identity.items()]
            lines += _limit_lines(verdict)
        else:
            exchange.denied(verdict)
            status = exchange.status
            exchange.status = 401 if status == 401 else 403
            lines += [b"X-Auth-Status: %d" % status, b"X-Auth-Code: " + verdict.refusal.code.encode()]
            lines += responses.challenge(verdict)
            if verdict.taken is not None:
                lines += refused_lines(verdict.taken)
            elif status == 503:
                lines.append(responses.RETRY_SOON)
        self._settlement.settle(exchange)
        exchange.begun = True
        if connection.transport is not None:
            connection.write(responses.plain(exchange.status, lines, b"", keep_alive=keep_alive))
        return KEEP if keep_alive else CLOSE

    async def _decide(self, asked: Inquiry | Deny, connection: ClientConnection, exchange: Exchange) -> Admit | Deny:
        if connection.peer not in self._trusted:
            return Deny(refusal=Refusal.UNTRUSTED_PROXY)
        if isinstance(asked, Deny):
            return asked
        inquiry = self._question(asked)
        if isinstance(inquiry, Deny):
            return inquiry
        exchange.method, exchange.path = inquiry.method, inquiry.path
        route = self._gatekeeper.routes.match(inquiry.method, inquiry.path)
        if isinstance(route, Deny):
            return route
        exchange.route = route
        decision = await self._gatekeeper.decide(inquiry, route)
        if isinstance(decision, Admit):
            exchange.principal = decision.permit.principal
        return decision

    def _question(self, asked: Inquiry) -> Inquiry | Deny:
        try:
            method = algebra.single(asked.head.raw, self._source.method)
            raw = algebra.single(asked.head.raw, self._source.target)
        except ValueError:
            return Deny(refusal=Refusal.UNREADABLE_QUESTION)
        if not method or not raw or not raw.isascii() or not method.isalpha() or len(method) > 32:
            return Deny(refusal=Refusal.UNREADABLE_QUESTION)
        text = raw.decode("ascii")
        if self._source.absolute:
            text = _origin_form(text)
        target = Target.parse(text)
        if target is None:
            return Deny(refusal=Refusal.AMBIGUOUS_TARGET)
        return Inquiry(method.decode("ascii"), target.path, target.query, asked.head, asked.presented)


def _limit_lines(admit: Admit) -> list[bytes]:
    return [admit.permit.rate_policy, state_line(admit.taken)] if admit.taken.charges else []


def _origin_form(url: str) -> str:
    """``https://host/path?query`` -> ``/path?query``, by cutting; nothing is decoded. Other forms become unreadable.

    The host must be a plain one: ``https://host?x=/path`` is ``/`` to a URL parser and ``/path`` to a cutter.
    """
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    return f"/{path}" if scheme in ("http", "https") and is_plain_host(host) else ""
