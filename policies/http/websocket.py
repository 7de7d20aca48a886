"""WebSocket frames as they pass (RFC 6455 section 5): counted and judged, neither unmasked nor put together again.

What a walker lets go on always ends inside the payload of a data frame or between two frames: a header, and a control
frame, wait until they are whole. So a faulty frame is found before a byte of it went on, and a close frame of ours can
be written behind it. A consumer, where a meter wants the text or the audio, is the only reason to unmask.
"""

import enum
from collections.abc import Callable
from typing import TypeAlias

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

Consumer: TypeAlias = Callable[[int, bytes, bool], None]
"""Takes the payload of data frames: opcode of the message (TEXT or BINARY), a piece, and whether it is the last one."""

Unmask: TypeAlias = Callable[[bytes, bytes], bytes]
"""As :func:`masked`."""

FRAGMENT_WEIGHT = 128
"""What every fragment after the first adds to its message's size, in bytes: endless empty ones reach the limit too."""
_CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)})
"""Codes that may be on the wire (RFC 6455 section 7.4, and the registry it founded)."""


class Fault(enum.Enum):
    """What a peer did wrong: the close code to end with, and a sentence."""

    RESERVED_BITS = 1002, "A frame has a reserved bit set, and no extension was agreed on."
    RESERVED_OPCODE = 1002, "A frame has a reserved opcode."
    MASKING = 1002, "Frames of a client are masked, frames of a server are not."
    FRAGMENTATION = 1002, "A frame begins a message inside another, or continues none."
    CONTROL_FRAME = 1002, "A control frame is fragmented or longer than 125 bytes."
    LENGTH = 1002, "A frame's length is not in its shortest form, or 2^63 or more."
    CLOSE_CODE = 1002, "A close frame has no valid code or reason."
    TOO_LARGE = 1009, "A message is larger than this route takes."

    def __init__(self, close_code: int, message: str) -> None:
        self.close_code = close_code
        self.message = message


def _first_byte(first: int) -> Fault | None:
    if first & 0x70:
        return Fault.RESERVED_BITS
    if first & 0x0F not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
        return Fault.RESERVED_OPCODE
    return Fault.CONTROL_FRAME if first & 0x0F >= CLOSE and first < 0x80 else None


_FIRST_BYTE = tuple(map(_first_byte, range(256)))


class FrameWalker:
    """Walks one direction. The result is the same however the bytes are cut.

    ``masked``: whether they come from a client. ``max_message``: bytes of one message, over all its fragments.
    ``unmask`` may be a quicker :func:`masked` than Python's own.
    """

    __slots__ = (
        "_consume", "_done", "_fin", "_held", "_key", "_key_size", "_left", "_mask_bit", "_max", "_message", "_mute",
        "_muted", "_phase", "_size", "_unmask", "binary", "close_code", "controls", "fault", "frames", "messages",
        "text",
    )  # fmt: skip

    def __init__(
        self, *, masked: bool, max_message: int, consume: Consumer | None = None, unmask: Unmask | None = None
    ) -> None:
        self._mask_bit, self._key_size = (0x80, 4) if masked else (0, 0)
        self._max = max_message
        self._consume = consume
        self._unmask = unmask or _unmask
        self._held = b""
        self._left = 0
        """Payload bytes of the data frame under way that have not come yet."""
        self._fin = True
        self._key = b""
        self._phase = 0
        self._message = 0
        """The opcode of the message under way, 0 between messages."""
        self._size = 0
        self._done = self._mute = self._muted = False
        self.fault: Fault | None = None
        self.close_code: int | None = None
        """The code of the close frame that has passed; 1005 where it had none (RFC 6455 section 7.1.5)."""
        self.frames = 0
        """Data frames begun."""
        self.messages = 0
        """Messages that have passed whole."""
        self.controls = 0
        """Control frames."""
        self.text = 0
        """Payload bytes of text messages."""
        self.binary = 0
        """Payload bytes of binary messages."""

    @property
    def at_boundary(self) -> bool:
        """Whether a frame of ours may follow what was let go on."""
        return not self._left or self._muted

    @property
    def in_message(self) -> bool:
        """Whether a message is under way: then only a control frame of ours may follow (RFC 6455 section 5.4)."""
        return self._message != 0

    @property
    def done(self) -> bool:
        """Whether nothing goes on any more: a close frame has passed, a fault was found, or it was told to stop."""
        return self._done or self._muted

    def stop(self) -> None:
        """Let the frame under way end, and nothing behind it. What comes is still read, for its close frame."""
        self._mute = True
        self._muted = not self._left

    def feed(self, data: bytes) -> bytes:
        """The bytes that may go on now, out of these and what was held back. Never raises."""
        if self._held:
            data = self._held + data
            self._held = b""
        end = len(data)
        muted = self._muted
        at = self._pass(data, 0, end) if self._left else 0
        if self._mute:
            passing = b"" if muted else data[:at]
            self._walk(data, at, end)
            return passing
        at = self._walk(data, at, end)
        return data if at == end else data[:at]

    def _walk(self, data: bytes, at: int, end: int) -> int:
        """Frame by frame, up to where something has to wait or to be refused."""
        while at < end and not self._done:
            after = self._frame(data, at, end)
            if after < 0:
                self._held = data[at:] if self.fault is None else b""
                break
            at = after
        return at

    def _frame(self, data: bytes, at: int, end: int) -> int:
        """One frame's header, and what has come of its payload: where that ends, or -1 if nothing of it may go on."""
        start = at + 2
        if end < start:
            return -1
        first, second = data[at], data[at + 1]
        opcode, length = first & 0x0F, second & 0x7F
        fault = _FIRST_BYTE[first]
        if second & 0x80 != self._mask_bit:
            fault = Fault.MASKING
        elif opcode >= CLOSE and length > 125:
            fault = Fault.CONTROL_FRAME
        if fault is not None:
            return self._refuse(fault)
        if length > 125:
            start += 2 if length == 126 else 8
            if end < start:
                return -1
            shortest = 126 if length == 126 else 65_536
            length = int.from_bytes(data[at + 2 : start], "big")
            if not shortest <= length < 1 << 63:
                return self._refuse(Fault.LENGTH)
        key_at = start
        start += self._key_size
        if end < start:
            return -1
        if opcode >= CLOSE:
            return self._control(opcode, data, key_at, start, start + length)
        if not self._begin(opcode, length):
            return -1
        if self._consume is not None:
            self._key, self._phase = data[key_at:start], 0
        self._left, self._fin = length, first >= 0x80
        return self._pass(data, start, end)

    def _begin(self, opcode: int, length: int) -> bool:
        if (opcode == CONTINUATION) != (self._message != 0):
            self._refuse(Fault.FRAGMENTATION)
        else:
            size = length if opcode else self._size + length + FRAGMENT_WEIGHT
            if size <= self._max:
                self._size = size
                self._message = opcode or self._message
                self.frames += 1
                return True
            self._refuse(Fault.TOO_LARGE)
        return False

    def _pass(self, data: bytes, start: int, end: int) -> int:
        """Let payload of the frame under way go on, up to its end."""
        left = self._left
        stop = min(start + left, end)
        self._left = left = left - (stop - start)
        last = not left and self._fin
        if not self._muted:
            if self._message == TEXT:
                self.text += stop - start
            else:
                self.binary += stop - start
            if self._consume is not None:
                self._hand_out(data[start:stop], last=last)
            self._muted = self._mute and not left
        if last:
            self._message = 0
            self.messages += 1
        return stop

    def _hand_out(self, piece: bytes, *, last: bool) -> None:
        assert self._consume is not None
        if self._key:
            phase = self._phase
            self._phase = (phase + len(piece)) & 3
            piece = self._unmask(piece, self._key[phase:] + self._key[:phase])
        if piece or last:
            self._consume(self._message, piece, last)

    def _control(self, opcode: int, data: bytes, key_at: int, start: int, stop: int) -> int:
        if len(data) < stop:
            return -1
        if opcode == CLOSE:
            payload = data[start:stop]
            code = _close_code(masked(payload, data[key_at:start]) if self._mask_bit else payload)
            if code is None:
                return self._refuse(Fault.CLOSE_CODE)
            self.close_code = code
            self._done = True
        self.controls += 1
        return stop

    def _refuse(self, fault: Fault) -> int:
        self.fault = fault
        self._done = True
        return -1


def _close_code(payload: bytes) -> int | None:
    if not payload:
        return 1005
    code = int.from_bytes(payload[:2], "big")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        return None
    return code if len(payload) > 1 and code in _CLOSE_CODES else None


_XORED = tuple(bytes(byte ^ key for byte in range(256)) for key in range(256))


def masked(data: bytes, key: bytes) -> bytes:
    """Mask or unmask (RFC 6455 section 5.3); ``key`` is 4 bytes, of which the first goes with the first byte."""
    piece = bytearray(data)
    for at, byte in enumerate(key):
        piece[at::4] = piece[at::4].translate(_XORED[byte])
    return bytes(piece)


_unmask = masked  # the name is an argument's of the walker


def frame(opcode: int, payload: bytes, key: bytes = b"") -> bytes:
    """A whole frame of our own; with a masking key (4 random bytes) as a client sends it."""
    size, bit = len(payload), 0x80 if key else 0
    if size < 126:
        head = bytes((0x80 | opcode, bit | size))
    elif size < 65_536:
        head = bytes((0x80 | opcode, bit | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, bit | 127)) + size.to_bytes(8, "big")
    return head + (key + masked(payload, key) if key else payload)


def close_frame(code: int, reason: str, key: bytes = b"") -> bytes:
    """A close frame; the reason is cut to what a control frame holds, between two characters."""
    text = reason.encode()[:123].decode("utf-8", "ignore").encode()
    return frame(CLOSE, code.to_bytes(2, "big") + text, key)
