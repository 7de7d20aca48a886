"""An upstream's answer as it arrives: parsed by llhttp, or recognised; judged; its pieces kept until they are read."""

from collections.abc import Set as AbstractSet
from typing import NamedTuple

import httptools

from gateway.upstreams.failures import Broke
from policies.http.headers import AnswerHead

_MAX_HEAD = 65_536
"""The largest answer header taken, in bytes, with the interim answers before it: a service that sends nothing but
those would otherwise fill the memory."""
_HUGE_HEAD = f"its answer has a header of more than {_MAX_HEAD} bytes"


class Usual(NamedTuple):
    """An answer's header that may come again: with all of it known, how long the whole answer is."""

    header: bytes
    status: int
    head: AnswerHead
    size: int


class Familiar:
    """What an address has answered last. A service sends the same header again and again: that is walked once.

    ``hosts``: what it is asked by, and must not name itself by to clients; none where it may.
    """

    __slots__ = ("_hosts", "_last_head", "usual")

    def __init__(self, hosts: AbstractSet[bytes]) -> None:
        self._hosts = hosts
        self._last_head = (b"", AnswerHead())
        self.usual = Usual(b"", 0, AnswerHead(), -1)
        """The last answer that a connection took for repeatable."""

    def read_head(self, raw: bytes) -> AnswerHead:
        """What an answer's header amounts to.

        Raises ValueError as :meth:`AnswerHead.walk` does, and for what is not HTTP/1: llhttp takes RTSP for it, too.
        """
        if raw != self._last_head[0]:
            first, *lines = raw.split(b"\r\n")
            head = AnswerHead.walk(lines)
            if not first.startswith(b"HTTP/1."):
                raise ValueError("it speaks another protocol")
            if head.chunked and first.startswith(b"HTTP/1.0"):
                raise ValueError("chunks under HTTP/1.0, which knows none (RFC 9112 section 6.1)")
            if head.is_located and self._hosts:
                head.found_at(self._hosts)
            self._last_head = (raw, head)
        return self._last_head[1]


class Answer:
    """The answers on one connection, one after the other: ``_expect``, then ``_recognised`` or ``_parse``.

    A base class of the connection and not a member: llhttp calls back for every part, and a call more for each is dear.
    """

    __slots__ = (
        "_asked", "_bodyless", "_buffered", "_chunks", "_familiar", "_parser", "_raw", "_raw_start", "_reusable",
        "_tail", "_until_close", "_upgrade", "body_done", "head", "interim", "status",
    )  # fmt: skip

    def __init__(self, familiar: Familiar) -> None:
        self._familiar = familiar
        self._parser = httptools.HttpResponseParser(self)
        self._asked = False
        self._raw = b""
        self._raw_start = 0
        self._chunks: list[bytes] = []
        self._buffered = 0
        # An upstream may hang up, and an exchange may fail, before anything was asked.
        self._until_close = self._reusable = self.body_done = self._upgrade = False
        self._tail: bytes | None = None
        """What came behind a 101; None before one."""
        self.head: AnswerHead | None = None
        self.interim: tuple[tuple[int, AnswerHead], ...] = ()
        """Answers before the answer (RFC 9110 section 15.2) that nobody has taken yet, with their statuses."""

    def _expect(self, *, bodyless: bool, upgrade: bool) -> None:
        """A request is going out; ``bodyless`` and ``upgrade`` as :meth:`UpstreamConnection.begin` has them."""
        self._asked = True
        self._bodyless = bodyless
        self._upgrade = upgrade
        self._until_close = self._reusable = self.body_done = False
        self.interim = ()
        self.status = 0
        self.head = None

    def _recognised(self, data: bytes) -> bool:
        """Whether this is a whole answer whose header is the last one's, byte for byte: then llhttp would say the same.

        A service tells pollers the same again and again, and parsing is most of what a small answer costs. The parser
        stands between two messages, or the connection would not have been used again.
        """
        if self.head is not None or self._raw or self._bodyless or self._upgrade:
            return False
        usual = self._familiar.usual
        if len(data) != usual.size or not data.startswith(usual.header):
            return False
        self.status, self.head = usual.status, usual.head
        self._reusable = self.body_done = True
        body = data[len(usual.header) :]
        if body:
            self._chunks.append(body)
            self._buffered = len(body)
        return True

    def _parse(self, data: bytes) -> None:
        """Take the next bytes. Raises Broke for what is no answer; what comes behind one only spoils the connection."""
        if self.head is None:
            self._raw = self._raw + data if self._raw else data
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if self._tail is None:
                raise Broke("it switched protocols without having been asked to") from None
        except httptools.HttpParserError as error:
            if not self.body_done and self._tail is None:
                raise Broke(f"its answer is not well-formed HTTP: {error.__context__ or error}") from error
            self._reusable = False
        if self.head is None and len(self._raw) > _MAX_HEAD:
            raise Broke(_HUGE_HEAD)

    # --- llhttp's side -----------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A second answer where one was asked for: the connection is not to be trusted any more."""
        if self._asked and self.head is not None:
            raise Broke("it sent more than one answer")

    def on_headers_complete(self) -> None:
        """Walk the head, and decide how the body will end (RFC 9112 section 6.3).

        llhttp has judged it; its lines pass on as they came, which is cheaper than putting them together again. It has
        let only CRLF end a line, so cutting at CRLF reads what it read. Trailers are never looked at.
        """
        status = self._parser.get_status_code()
        raw, start = self._raw, self._raw_start
        while raw[start] in b"\r\n":  # llhttp passes over them one by one: a bare LF too is no line of this header
            start += 1
        end = raw.find(b"\r\n\r\n", start)
        if end > _MAX_HEAD:  # how it was cut decides nothing
            raise Broke(_HUGE_HEAD)
        head = raw[start:end]
        if b"\r\n " in head or b"\r\n\t" in head:
            raise Broke("its header has a line that continues another")
        if status < 200:
            if status == 101 and self._upgrade and self._parser.should_upgrade():
                self._switch(self._familiar.read_head(head), raw[end + 4 :])
                return
            if status < 100 or status == 101:
                raise Broke(f"its status {status} answers nothing that was asked")
            self._raw_start = end + 4
            if status != 100:  # what the gateway expects of a body it says itself
                self._inform(status, self._familiar.read_head(head))
            return
        self.status = status
        self._raw = b""
        self._raw_start = 0
        self.head = answer = self._familiar.read_head(head)
        if answer.length is None and not answer.chunked and status not in (204, 304) and not self._bodyless:
            self._until_close = True
            return
        self._reusable = self._parser.should_keep_alive()
        if status == 204 and (answer.length or answer.chunked):
            self._reusable = False  # it announces a body that cannot be, and may send it
        if self._bodyless and status not in (204, 304):
            # llhttp does not know that the request was HEAD and would wait for the body that the header announces.
            self.body_done = True
            self._parser = httptools.HttpResponseParser(self)
        elif self._reusable and answer.length is not None and not start and status not in (204, 304):
            self._familiar.usual = Usual(raw[: end + 4], status, answer, end + 4 + answer.length)

    def _inform(self, status: int, head: AnswerHead) -> None:
        """An answer before the answer. How many there can be the bound of the header says."""
        self.interim += ((status, head),)

    def _switch(self, head: AnswerHead, tail: bytes) -> None:
        """The upstream speaks another protocol from here on."""
        self.status, self.head, self._tail = 101, head, tail
        self._raw = b""
        self._asked = False

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body until it is read."""
        if self.body_done:
            self._reusable = False
            return
        self._chunks.append(data)
        self._buffered += len(data)

    def on_message_complete(self) -> None:
        """The end of an interim answer, or of the answer."""
        if self.head is not None and not self._until_close:
            self.body_done = True
