"""The settlement of a request: exactly once, synchronously, before the last byte of the answer leaves.

Whatever happens, every request ends in :meth:`Settlement.settle`: usage record, log line and metrics. Nothing in it can
wait, so a client that vanishes cannot prevent it. Small answers, which are written together at the end of the loop's
turn, have their records written together just before (:meth:`Settlement.settle_soon`); lines and metrics come last.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.dataplane.exchange import Booked, Exchange, Likeness, Repetition, Settled
from gateway.telemetry.access_log import AccessLog, encoded
from gateway.telemetry.json_lines import json_line
from gateway.telemetry.metrics import Metrics
from policies.account.usage import INTERIM, NOT_AUDIO, AudioSource, Measured, Outcome, UsageRecord, accounted
from policies.http.credentials import redacted
from policies.identity.principals import Principal
from policies.limits.holding import Spent
from storage.journal.writer import JournalFull
from storage.usage_rows import encode, fill, instant, outline

_LINE_AGAIN = (
    b'{"ts":%b,"level":"info","event":"access","request_id":"%b","bytes_in":0,"bytes_out":%d,'
    b'"duration_ms":%d.%03d,"upstream_ms":%d.%03d,"audio_ms":0%b'
)
"""What :func:`_line` says of a request without a body whose id is ours, and what it has in common with others."""
_MISSED = "(none)"
"""The route label of requests that no route names: one label, however many paths are tried."""


class Journal(Protocol):
    """Where settled records go before the answer does."""

    def append(self, row: bytes) -> None:
        """Raises JournalFull."""

    def append_all(self, rows: Sequence[bytes]) -> int:
        """Rows from the first on, as many as there is room for without more ado; how many."""


class Settlement:
    """Settles exchanges. ``event_prefix`` is unique to this process for ever, so that event ids are."""

    def __init__(self, metrics: Metrics, log: AccessLog, journal: Journal, event_prefix: str) -> None:
        self._metrics = metrics
        self._log = log
        self._journal = journal
        self._prefix = event_prefix
        self._events = 0
        self._settled: list[Settled] = []
        """Those whose records are due."""
        self._told: list[Settled] = []
        """Those whose lines are due."""

    def settle(self, exchange: Exchange) -> None:
        """Write the record of a request that has ended, or is about to; line and figures follow at the turn's end.

        Once: later calls for the same exchange do nothing.
        """
        if not exchange.settled and self._end(exchange):
            now = time.time()
            row = self._row(exchange, now, instant(int(now * 1000)))
            if row:
                self._append(exchange, row)
            self._tell_soon([exchange])

    def settle_soon(self, exchange: Exchange, retract: Callable[[Exchange], None]) -> None:
        """The same for an answer that the listener's outbox holds: the records of a turn are written together, before.

        ``retract`` is called, while the error is handled, where the record cannot be: then the answer must not leave.
        """
        if not exchange.settled and self._end(exchange):
            exchange.retract = retract
            self._write_soon(exchange)

    def settle_again(self, repetition: Repetition) -> None:
        """The same for one more that is like one before. Once."""
        self._write_soon(repetition)

    def _write_soon(self, settled: Settled) -> None:
        if not self._settled:
            asyncio.get_running_loop().call_soon(self.write_down)
        self._settled.append(settled)

    def likeness(self, exchange: Exchange) -> Likeness | None:
        """What the next one like this one will share with it; None where there is more to it, or nobody knows yet."""
        caller, route = exchange.caller, exchange.route
        if not exchange.settled or route is None or not caller.outline or exchange.measure is not None:
            return None
        if exchange.cause or _made_from(exchange, NOT_AUDIO) != caller.lately:
            return None
        figures, labels = self._metrics.route(route.name), (exchange.method, exchange.status, exchange.outcome)
        times = self._metrics.upstream[exchange.upstream] if exchange.upstream else None
        return Likeness(exchange.status, caller.outline, caller.common, figures, labels, times)

    def likeness_of_many(self, exchange: Exchange) -> Likeness | None:
        """The same for an exchange that will come again on other connections: all of it is worked out now."""
        caller, principal, route = exchange.caller, exchange.principal, exchange.route
        if caller.outline is None and principal is not None and principal.tenant_id and route is not None:
            record = self._record(exchange, principal, route.name, NOT_AUDIO, exchange.ended, exchange.took)
            caller.outline = outline(record)
        return self.likeness(exchange)

    def _end(self, exchange: Exchange) -> bool:
        """Note how it ended. Whether there is more to do: a stream is settled by this."""
        exchange.settled = True
        exchange.took = took = time.perf_counter() - exchange.started
        if exchange.booked is not None:
            self._settle_stream(exchange, exchange.booked, took)
            return False
        if exchange.measure is not None:
            exchange.measured = accounted(exchange.measure(), exchange.outcome, begun=exchange.begun)
        if exchange.hold is not None:
            exchange.hold.settle(_spent(exchange, exchange.measured))
        return True

    def write_down(self) -> None:
        """Append the records of all that is settled: in one go they cost less than between other work."""
        settled, self._settled = self._settled, []
        if not settled:
            return
        now = time.time()
        ended = instant(int(now * 1000))
        written: Sequence[Settled] = settled
        owners: list[Settled] = []
        rows = []
        for exchange in settled:
            try:
                row = self._row(exchange, now, ended)
            except Exception:  # noqa: BLE001  handed to the last resort: a bug with one of them is not the others'
                exchange.retract(exchange)  # type: ignore[arg-type]  # its own
                written = [one for one in written if one is not exchange]
                continue
            if row:
                owners.append(exchange)
                rows.append(row)
        try:
            kept = self._journal.append_all(rows)
            for exchange, row in zip(owners[kept:], rows[kept:], strict=True):
                self._append(exchange, row)
        except Exception:  # noqa: BLE001  the same
            for exchange in written:
                exchange.retract(exchange)  # type: ignore[arg-type]  # its own
        else:
            self._tell_soon(written)

    def _tell_soon(self, settled: Sequence[Settled]) -> None:
        if not self._told:
            asyncio.get_running_loop().call_soon(self.tell)
        self._told += settled

    def tell(self) -> None:
        """Count and log what was written down in this turn of the loop."""
        told, self._told = self._told, []
        lines: list[bytes] = []
        at, stamp = 0.0, b""
        for exchange in told:
            if isinstance(exchange, Repetition):
                if exchange.ended != at:  # those of one turn have one instant
                    at = exchange.ended
                    stamp = b"%d.%03d" % divmod(int(at * 1e3), 1000)
                lines.append(_count_again(exchange, exchange.like, stamp))
                continue
            route, measured, took, upstream_s = exchange.route, exchange.measured, exchange.took, exchange.upstream_s
            figures = self._metrics.route(route.name if route is not None else _MISSED)
            labels = exchange.method if route is not None else "-", exchange.status, exchange.outcome
            figures.count(labels, took, took - upstream_s, exchange.bytes_in, exchange.bytes_out)
            if measured is not NOT_AUDIO and measured.source is not AudioSource.NONE:
                figures.audio_ms[measured.source] += measured.audio_ms
                if measured.source is AudioSource.UNMEASURED and route is not None:
                    self._metrics.unmeasured[(route.name,)] += 1
            if exchange.upstream:
                self._metrics.upstream[exchange.upstream].observe(upstream_s)
            if exchange.code:
                self._metrics.denials[(exchange.code,)] += 1
            lines.append(encoded(_line(exchange, took, exchange.ended, measured), exchange.common))
        if lines:
            self._log.add(lines)

    def checkpoint(self, exchange: Exchange) -> None:
        """Write down what has passed of an open stream since the last time, so that a crash loses only what came after.

        Its records add up: each holds the difference, and all but the last have the interim status 100.
        """
        assert exchange.booked is not None
        exchange.status = INTERIM
        self._book(exchange, exchange.booked, time.perf_counter() - exchange.started)
        exchange.status = 101

    def _settle_stream(self, exchange: Exchange, booked: Booked, took: float) -> None:
        measured = self._book(exchange, booked, took)
        if exchange.hold is not None:
            exchange.hold.settle(_spent(exchange, measured))
        figures = self._metrics.route(exchange.route.name if exchange.route is not None else _MISSED)
        figures.requests[(exchange.method, exchange.status, exchange.outcome)] += 1
        figures.duration.observe(took)
        figures.overhead.observe(took - exchange.upstream_s)
        self._metrics.upstream[exchange.upstream].observe(exchange.upstream_s)
        if exchange.code:
            self._metrics.denials[(exchange.code,)] += 1
        line = _line(exchange, took, time.time(), measured)
        self._log.emit(line | {"close_code": exchange.close_code}, _common(exchange, measured))

    def _book(self, exchange: Exchange, booked: Booked, took: float) -> Measured:
        """One record of a stream, and its share of the figures; what was measured in all.

        The audio is accounted whatever the end is: it was worked on as it came.
        """
        measured = NOT_AUDIO if exchange.measure is None else exchange.measure()
        gained = (measured.so_far() if exchange.status == INTERIM else measured).since(booked.measured)
        passed = exchange.bytes_in - booked.bytes_in, exchange.bytes_out - booked.bytes_out
        booked.records += 1
        principal, route = exchange.principal, exchange.route
        if principal is not None and principal.tenant_id and route is not None:
            totals = exchange.bytes_in, exchange.bytes_out, exchange.upstream_s
            exchange.bytes_in, exchange.bytes_out = passed
            exchange.upstream_s = max(exchange.upstream_s - booked.took, 0.0)
            record = self._record(exchange, principal, route.name, gained, time.time(), took - booked.took)
            self._append(exchange, encode(record))
            exchange.bytes_in, exchange.bytes_out, exchange.upstream_s = totals
        figures = self._metrics.route(route.name if route is not None else _MISSED)
        figures.bytes_in += passed[0]
        figures.bytes_out += passed[1]
        if gained.audio_ms:
            figures.audio_ms[gained.source] += gained.audio_ms
        booked.bytes_in, booked.bytes_out = exchange.bytes_in, exchange.bytes_out
        booked.took, booked.measured = took, measured
        return measured

    def _row(self, exchange: Settled, now: float, ended: str) -> bytes:
        """The usage row of a request that ended now; empty where there is no tenant to account it to."""
        if isinstance(exchange, Repetition):
            exchange.ended = now
            self._events += 1  # once more what stands below: a call for each would be a tenth of this
            return fill(
                exchange.like.outline, ended, f"{self._prefix}{self._events}", exchange.request_id, 0,
                exchange.bytes_out, int(exchange.took * 1e6), int(exchange.upstream_s * 1e6),
            )  # fmt: skip
        measured, principal, route, caller = exchange.measured, exchange.principal, exchange.route, exchange.caller
        exchange.ended = now
        exchange.common = _common(exchange, measured)
        if principal is None or not principal.tenant_id or route is None:
            return b""
        if measured is NOT_AUDIO and caller.outline:
            return fill(
                caller.outline, ended, self._event_id(), exchange.request_id, exchange.bytes_in, exchange.bytes_out,
                int(exchange.took * 1e6), int(exchange.upstream_s * 1e6),
            )  # fmt: skip
        record = self._record(exchange, principal, route.name, measured, now, exchange.took)
        if measured is NOT_AUDIO and caller.repeats and caller.outline is None:
            caller.outline = outline(record)
        return encode(record)

    def _record(
        self, exchange: Exchange, principal: Principal, route: str, measured: Measured, now: float, took: float
    ) -> UsageRecord:
        return UsageRecord(  # by position: by keyword it costs a request half a microsecond more
            principal.tenant_id,
            principal.key_id,
            principal.user_id,
            route,
            exchange.outcome,
            self._event_id(),
            exchange.method,
            exchange.code,
            exchange.request_id,
            exchange.status,
            exchange.bytes_in,
            exchange.bytes_out,
            int(took * 1e6),
            int(exchange.upstream_s * 1e6),
            1 if exchange.booked is None else exchange.booked.records,
            int(now * 1000),
            measured,
        )

    def _event_id(self) -> str:
        self._events += 1
        return f"{self._prefix}{self._events}"

    def _append(self, exchange: Settled, row: bytes) -> None:
        try:
            self._journal.append(row)
        except JournalFull as error:
            # The work is done and the answer exists; the log line beside it holds the same facts. New requests are
            # refused at the door until there is room (Gatekeeper), so this is the tail of what was in flight.
            self._metrics.journal_full[("record",)] += 1
            exchange.cause = f"usage record not journalled: {error}"


def _count_again(repetition: Repetition, like: Likeness, stamp: bytes) -> bytes:
    """Count one more that is like one before; its line."""
    took, upstream_s = repetition.took, repetition.upstream_s
    like.figures.count(like.labels, took, took - upstream_s, 0, repetition.bytes_out)
    if like.upstream is not None:
        like.upstream.observe(upstream_s)
    if repetition.cause:
        return encoded(_line(repetition, took, repetition.ended, NOT_AUDIO), like.common)
    took_us, upstream_us = int(took * 1e6), int(upstream_s * 1e6)
    return _LINE_AGAIN % (
        stamp, repetition.request_id.encode(), repetition.bytes_out, took_us // 1000, took_us % 1000,
        upstream_us // 1000, upstream_us % 1000, like.common,
    )  # fmt: skip


def _spent(exchange: Exchange, measured: Measured) -> Spent:
    """What it came to as the ledger will count it, from which a lost counter is restored."""
    return Spent(measured.audio_ms, exchange.bytes_in, exchange.outcome is not Outcome.DENIED)


def _line(exchange: Settled, took: float, now: float, measured: Measured) -> dict[str, object]:
    """What is new in an access line. :func:`_common` has the rest."""
    line: dict[str, object] = {
        "ts": int(now * 1e3) / 1e3,  # round() goes through decimal text and costs three times as much
        "level": "info",
        "event": "access",
        "request_id": exchange.request_id,
        "bytes_in": exchange.bytes_in,
        "bytes_out": exchange.bytes_out,
        "duration_ms": int(took * 1e6) / 1e3,
        "upstream_ms": int(exchange.upstream_s * 1e6) / 1e3,
        "audio_ms": measured.audio_ms,
    }
    if exchange.cause:
        line["cause"] = exchange.cause
    return line


def _made_from(exchange: Exchange, measured: Measured) -> tuple[object, ...]:
    return (
        exchange.route, exchange.path, exchange.outcome, exchange.method, exchange.code, measured.source, exchange.door,
        exchange.principal, exchange.status,
    )  # fmt: skip


def _common(exchange: Exchange, measured: Measured) -> bytes:
    """The fields of an access line that are those of the caller's last one, as a rule: found again, not written again.

    With those of :func:`_line` they are all there are, and none can hold a credential: the query is not among them.
    """
    caller, principal, route = exchange.caller, exchange.principal, exchange.route
    made_from = _made_from(exchange, measured)
    caller.repeats = made_from == caller.lately
    if caller.repeats:
        return caller.common
    fields: dict[str, object] = {
        "door": exchange.door,
        "remote_ip": caller.address,
        "method": exchange.method,
        "route": route.name if route is not None else "",
        "path": redacted(exchange.path[:1_024]),
        "status": exchange.status,
        "outcome": exchange.outcome,
        "code": exchange.code,
        "audio_source": measured.source,
        "ua": caller.agent,
    }
    if principal is not None:
        fields["auth_method"] = principal.method
        fields["tenant_id"] = principal.tenant_id
        fields["key_id"] = principal.key_id
        fields["user_id"] = principal.user_id
    # A copy: what orjson gives back keeps the room that it was written in, 8 kB, and this is kept for every connection.
    caller.lately, caller.common, caller.outline = made_from, b"," + json_line(fields)[1:], None
    return caller.common
