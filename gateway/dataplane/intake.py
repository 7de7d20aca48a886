"""What comes from a client: headers, and bodies, on top of aiohttp's parser and its flow control.

Who takes too long is watched from outside, by the one ticker of the listener: here stands since when, by what measure.
"""

import asyncio
import re
from typing import TYPE_CHECKING, Any, Protocol, cast

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, EmptyStreamReader, StreamReader
from aiohttp.web_protocol import RequestHandler, RequestPayloadError
from typing_extensions import override

from gateway.configuration.patience import Patience
from gateway.dataplane.clients import Census
from gateway.dataplane.inflow import BUFFER_BYTES, Inflow, Scratch, Take
from gateway.dataplane.recall import Memory
from gateway.outbox import Outbox
from policies.http.verdict import Refusal

if TYPE_CHECKING:
    from aiohttp.web_server import Server

TICK_S = 0.5
"""How often the listener looks for what comes too slowly, in seconds."""
_MAX_HEADER = 65_536
"""The largest header taken, in bytes; its lines and their number have bounds of their own."""
_BEGINNING = 8_704
"""How much is kept of a header that does not end, to know a browser by; a request line is in it, whole."""
_RTSP = b" RTSP/"
_OTHER_PROTOCOL = re.compile(rb"[\r\n]*[^\r\n]* RTSP/[^\r\n]*\r?\n")
"""A request line of RTSP (RFC 7826), which llhttp takes for one of HTTP."""
_EMPTY_LINE = b"\r\n\r\n"
_MOST_STEPS = 256
"""In how many steps without a request a piece is read that is nothing but empty lines."""


class BodyTooSlow(Exception):
    """The client's body stopped arriving, or trickles."""


class Listener(Protocol):
    """What the connections of a listener share, and where they say what they wait for."""

    census: Census
    patience: Patience
    outbox: Outbox
    scratch: Scratch
    idle: asyncio.Event | None
    """Set whenever a connection ends, while draining."""
    heading: dict["Intake", float]
    """Who has sent a part of a header, and when its end is due."""
    reading: dict["Intake", StreamReader | Inflow]
    """Who waits for its client's body."""
    writing: set[Any]
    """Who waits for its client to take what was written."""
    leaving: set[Any]
    """Those that were turned away and have a moment to read why."""


class Again(tuple[RawRequestMessage, StreamReader]):
    """A message that was not parsed again."""

    __slots__ = ()


class Intake(RequestHandler):
    """The receiving half of a client's connection; what it answers is its one subclass's.

    A subclass and not a member: aiohttp's protocol is one object, and a call more for each piece is dear.
    """

    __slots__ = (
        "_again", "_ahead", "_between", "_body", "_had_bytes", "_has_more", "_header_bytes", "_last", "_left",
        "_rated", "_server", "_waited_s", "beginning", "body_deadline", "memory",
    )  # fmt: skip

    def __init__(self, server: Listener, **options: Any) -> None:
        super().__init__(cast("Server", server), loop=asyncio.get_running_loop(), **options)
        self._parser = self._new_parser()
        self._server = server
        self._body: StreamReader | None = None
        """The body of the request that is being served."""
        self.body_deadline = float("inf")
        self.beginning = b""
        """The beginning of a header that is not complete, or cannot be read: at most :data:`_BEGINNING` bytes."""
        self._between = True
        """Whether the parser certainly holds nothing but, at the most, a part of a header."""
        self._ahead = b""
        """What came behind the request that filled the queue, and the parser has not seen yet."""
        self._has_more = False
        """Whether the parser may hold more than the request that it told last."""
        self._left = 0
        """How much of the last request's body the parser has not been given yet; -1 where that is not known."""
        self._last = b""
        self.memory: Memory | None = None
        """Where a trusted proxy asks: what is remembered of its questions."""
        self._again: Again | None = None
        """The request that ``_last`` was, byte for byte and whole."""
        self._header_bytes = 0
        """How much has arrived of a header that is not complete."""
        self._rated: StreamReader | Inflow | None = None
        """The body whose rate is being watched; the two below belong to it."""
        self._had_bytes = 0
        self._waited_s = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether a request is being served."""
        return self._request_in_progress

    # --- headers -----------------------------------------------------------------------------------------------------

    @override
    def data_received(self, data: bytes) -> None:
        """Parse, unless these are the bytes of the last request again: clients poll, and parsing is a third of a poll.

        Only a request without a body is recognised, which came in one piece with nothing before or behind it. While
        another one is being served it goes the parser's way, where those that wait are bounded. On a connection that a
        trusted proxy asks on, the bytes of any question that is remembered are recognised alike.
        """
        waiter = self._waiter
        if waiter is not None and not waiter.done() and not self._request_in_progress:
            if self.memory is not None and self._is_remembered(self.memory, data):
                return
            if self._again is not None and data == self._last:
                if not self._comes_again():
                    self._messages.append(self._again)
                    waiter.set_result(None)
                return
        if self._left:
            is_one = self._left < 0 or len(data) <= self._left
        else:
            is_one = not self._header_bytes and data.find(_EMPTY_LINE) == len(data) - len(_EMPTY_LINE)
        if not self._ahead and not self._has_more and (is_one or not data):
            self._parse(data, is_one=self._left >= 0 and data != b"")
            if self._has_more:
                self._go_ahead(b"", data)
        else:
            self._go_ahead(data)

    def _go_ahead(self, data: bytes, given: bytes = b"") -> None:
        """Parse a header or a body at a time, until the queue is full: a fault drops all that came in one with it.

        Where chunks end only the parser knows. It stops after each request, so it is asked for what is behind them.
        ``given``: what it has got last.
        """
        rest, fed, steps = self._ahead + data, 0, 0
        self._ahead = b""
        while (fed < len(rest) or self._has_more) and not self._close:
            queued = len(self._messages)
            if queued >= self._max_msg_queue_size and not self._upgraded:  # nothing behind one is for it
                self._ahead = rest[fed:]
                return
            if self._has_more:
                self._parse(b"", is_one=False)
                if not self._has_more:
                    self._look_behind(given)
            else:
                is_one = self._left >= 0 and steps < _MOST_STEPS
                given = rest[fed : self._end_of_one(rest, fed)] if is_one else rest[fed:]
                self._parse(given, is_one=is_one)
                fed += len(given)
            if len(self._messages) == queued:
                steps += 1
            elif not isinstance(self._messages[-1][0], RawRequestMessage):
                return

    def _end_of_one(self, rest: bytes, start: int) -> int:
        """Where the header or the body that ``rest`` goes on with ends at the earliest; all of what is no HTTP."""
        if self._upgraded:
            return len(rest)
        if self._left:
            return min(len(rest), start + self._left)
        if self._header_bytes and rest[start : start + 1] in (b"\r", b"\n"):  # the end of one, which was cut
            return len(rest) - len(rest[start:].lstrip(b"\r\n"))
        place = rest.find(_EMPTY_LINE, start)
        return len(rest) if place < 0 else place + len(_EMPTY_LINE)

    def _parse(self, data: bytes, *, is_one: bool) -> None:
        """Give it to the parser, which tells one request at the most. ``is_one``: no two of them can be in it."""
        queued, between = len(self._messages), self._between
        body = self._messages[-1][1] if queued else self._body
        in_header = body is None or body.is_eof()
        if self._parser is not None:
            self._parser.message_consumed()
        super().data_received(data)
        self._again = None
        self._between = self._has_more = False
        if len(self._messages) == queued:
            has_ended = not in_header and (body is None or body.is_eof())
            self._has_more = has_ended and not (is_one and self._left > 0)
            if self._left > 0:
                self._left -= len(data)
            elif has_ended:
                self._left = 0
            if data and in_header and not self._upgraded:
                self._between = between and not queued and not self._request_in_progress  # so it holds no message back
                self._header_grew(data)
            return
        message, body = self._messages[-1]
        beginning, self.beginning = self.beginning + data, b""
        if isinstance(message, RawRequestMessage):
            is_whole = isinstance(body, EmptyStreamReader) or body.is_eof()
            self._left = 0 if is_whole else _left_of(message, body)
            self._has_more = message.upgrade or (is_whole and not is_one)
        else:
            self.beginning = beginning[:_BEGINNING]
        if _RTSP in beginning and _OTHER_PROTOCOL.match(beginning):
            self._refuse(queued, beginning, Refusal.UNSUPPORTED_HTTP_VERSION)
        elif not data or len(data) + self._header_bytes > _MAX_HEADER:
            self._refuse_oversize(queued, beginning)
        if between and is_one and data.endswith(_EMPTY_LINE):
            self._came_alone(data, may_repeat=not self._header_bytes and not queued)
        if self._header_bytes:
            self._header_came()

    def _look_behind(self, given: bytes) -> None:
        """Note the header that has begun behind what the parser told of a piece; behind a body it has no beginning."""
        last = self._messages[-1][0] if self._messages else None
        is_sized = isinstance(last, RawRequestMessage) and "Content-Length" in last.headers
        begun = given[given.rfind(_EMPTY_LINE) + len(_EMPTY_LINE) :]
        if begun and not self._left and not is_sized and not self._upgraded:
            self._header_grew(begun)

    def _came_alone(self, data: bytes, *, may_repeat: bool) -> None:
        """The end of one request came, with nothing behind it: note it, to recognise it when it comes again."""
        message, body = self._messages[-1]
        if isinstance(message, RawRequestMessage) and isinstance(body, EmptyStreamReader) and not message.upgrade:
            self._between = True
            if may_repeat and data.count(_EMPTY_LINE) == 1 and not message.should_close:
                self._last, self._again = data, Again((message, body))

    def whole(self, message: RawRequestMessage) -> bytes:
        """The bytes of this message, if it would be recognised by them; else none."""
        return self._last if self._again is not None and self._again[0] is message else b""

    def _is_remembered(self, memory: Memory, data: bytes) -> bool:
        """Answer a question that is remembered, without the connection's task, if that can be done."""
        raise NotImplementedError  # the answering half does; aiohttp's protocol has no abstract methods

    def _comes_again(self) -> bool:
        """Serve ``_again`` once more without the connection's task, if that can be done."""
        raise NotImplementedError  # as above

    def _header_grew(self, piece: bytes) -> None:
        """A piece of a header: its time runs from the first one, and is not renewed."""
        if not self._header_bytes:
            self.beginning = b""
            self._server.heading[self] = self._loop.time() + self._server.patience.header_s
        self._header_bytes += len(piece)
        self.beginning += piece[: _BEGINNING - len(self.beginning)]
        if self._header_bytes > _MAX_HEADER:
            self.give_up_header(Refusal.REQUEST_HEADERS_TOO_LARGE)

    def _header_came(self) -> None:
        self._header_bytes = 0
        self._server.heading.pop(self, None)

    def _refuse_oversize(self, queued: int, piece: bytes) -> None:
        """Judge the headers that came complete as those in pieces are: how they were cut decides nothing."""
        for place in range(queued, len(self._messages)):
            message = self._messages[place][0]
            if isinstance(message, RawRequestMessage) and _size(message) > _MAX_HEADER:
                self._refuse(place, piece, Refusal.REQUEST_HEADERS_TOO_LARGE)
                return

    def _refuse(self, place: int, piece: bytes, refusal: Refusal) -> None:
        """Answer the message at this place of the queue by a refusal, and none behind it."""
        while len(self._messages) > place:
            self._messages.pop()
        self.beginning = piece[:_BEGINNING]
        self.give_up_header(refusal)

    def give_up_header(self, refusal: Refusal) -> None:
        """Answer a header that will not be read to its end, and take nothing more."""
        self._server.heading.pop(self, None)
        self._close = True
        self._messages.append((cast("RawRequestMessage", refusal), EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- bodies ------------------------------------------------------------------------------------------------------

    async def next_piece(self, body: StreamReader, idle_s: float) -> bytes:
        """The next piece of a body, empty at its end.

        Raises BodyTooSlow, RequestPayloadError when it is not well-formed, ConnectionError when the client has gone.
        """
        self.body_deadline = self._loop.time() + idle_s
        self._server.reading[self] = body
        try:
            return await body.readany()
        except (RequestPayloadError, HttpProcessingError):
            # aiohttp's text repeats bytes of the body; the pure-Python parser even hands out its own exception.
            raise RequestPayloadError("the body's framing is malformed") from None
        finally:
            self._server.reading.pop(self, None)

    def pour(self, body: StreamReader, left: int, idle_s: float, take: Take) -> Inflow | None:
        """A way around the parser for the rest of a body of known length.

        None while the parser still holds a part of it, and where it is not worth the trouble. All that has come of the
        body must have been read.
        """
        if left < 2 * BUFFER_BYTES or self.transport is None or self._reading_paused or self._buffer_paused:
            return None
        return Inflow(self, self._server.scratch, body, left, idle_s=idle_s, take=take)

    def read_into(self, inflow: Inflow, idle_s: float) -> None:
        """Let it have what comes, and watch how it comes. Raises ConnectionResetError when the client has gone."""
        if self.transport is None:
            raise ConnectionResetError("the client has gone")
        if self.transport.get_protocol() is not inflow:
            self.transport.set_protocol(inflow)
        self.body_deadline = self._loop.time() + idle_s
        self._server.reading[self] = inflow
        self.transport.resume_reading()

    def stop_reading(self) -> None:
        """Let the client wait."""
        self._server.reading.pop(self, None)
        if self.transport is not None:
            self.transport.pause_reading()

    def body_came(self, body: StreamReader, total_bytes: int) -> None:
        """All of a body has gone around the parser: a new one reads on behind it."""
        self._server.reading.pop(self, None)
        self._parser, self._left = self._new_parser(), 0
        if self.transport is not None:
            self.transport.set_protocol(self)
        body.total_bytes = total_bytes
        body.feed_eof()

    def _new_parser(self) -> HttpRequestParser:
        """A parser that stops after each request, as a fault drops all that it was about to tell with it."""
        return HttpRequestParser(
            self, self._loop, self._read_bufsize, max_line_size=self.max_line_size,
            max_field_size=self.max_field_size, max_headers=self.max_headers, payload_exception=RequestPayloadError,
            auto_decompress=False, max_msg_queue_size=1,
        )  # fmt: skip

    def trickles(self, body: StreamReader | Inflow) -> bool:
        """Whether a body that is waited for comes below the least rate. Asked at every tick of the server.

        Only time spent waiting for the client counts: a body that the upstream holds up is not slow.
        """
        if body is not self._rated:
            self._rated, self._had_bytes, self._waited_s = body, body.total_bytes, 0.0
            return False
        patience = self._server.patience
        self._waited_s += TICK_S
        if self._waited_s < patience.body_window_s:
            return False
        slow = body.total_bytes - self._had_bytes < patience.body_rate * self._waited_s
        self._had_bytes, self._waited_s = body.total_bytes, 0.0
        return slow

    @property
    def body_broke(self) -> bool:
        """Whether the parser gave up inside the body that is being read: it queues an error and tells nobody else."""
        return bool(self._messages) and self._body is not None and not self._body.is_eof()


def _size(message: RawRequestMessage) -> int:
    """The size of a header in bytes, with its line ends."""
    return len(message.method) + len(message.path) + sum(len(n) + len(v) + 4 for n, v in message.raw_headers)


def _left_of(message: RawRequestMessage, body: StreamReader) -> int:
    """How much of a body is still to come; -1 where it comes in chunks."""
    return -1 if message.chunked else int(message.headers.get("Content-Length", "-1")) - body.total_bytes
