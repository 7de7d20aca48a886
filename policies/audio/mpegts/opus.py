"""Opus in the elements of a transport stream (ETSI TS 103 491, as FFmpeg reads it).

Each packet stands behind a header that says its size, which is a claim: decoders begin anew with each element. Where
something else stands in an element they may play it all the same, as one packet, or as two where the element states a
false size.
"""

from collections import deque

from policies.audio.opus import MOST_SAMPLES, RATE, SAMPLES, packet_samples
from policies.audio.walker import Chunk

_SYNC, _SYNC_ENDS = 0x7F, 0xE0
_STARTS_LATE, _ENDS_EARLY, _IS_EXTENDED = 0x10, 0x08, 0x04
"""Flags: how much is left out at either end, which FFmpeg plays all the same, and that something else follows."""
_USUAL, _MORE_SIZE = b"\x7f\xe0", 255
_USUAL_BYTES = len(_USUAL) + 2
"""Of a header without flags and of a small packet, with that one's first byte."""
_MOST_BYTES = 8_192
"""Of one packet: eight channels at 2.5 Mbit/s."""
_READ_BYTES = 320
"""The longest header, and what of a packet says how long it plays."""
_SAMPLES_PER_MS = RATE // 1000
_MOST_IN_OTHERS = 2 * MOST_SAMPLES


class OpusElements:
    """Counts packets by what each says that it plays; keeps less than one header."""

    __slots__ = ("_held", "_is_strange", "_next", "_samples", "begins", "passed", "strange")

    codec = "opus"
    channels: int | None = None
    unsure = False

    def __init__(self) -> None:
        self.passed = 0
        self.strange = 0
        """Bytes of no packet."""
        self.begins: deque[int] = deque()
        """Where elements do, in what is fed next: places in the whole stream."""
        self._held = b""
        self._next = 0  # where the next packet begins
        self._is_strange = False  # what is left of the element
        self._samples = 0

    @property
    def ms(self) -> int | None:
        """What the packets play; None before the first."""
        return (self._samples + _SAMPLES_PER_MS // 2) // _SAMPLES_PER_MS or None

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the elements."""
        data, begins = self._held + bytes(chunk), self.begins
        before = self.passed - len(self._held)
        self.passed += len(chunk)
        self._held = b""
        at, end = self._next - before, len(data)
        while at < end or begins:
            limit = begins[0] - before if begins else end
            if begins and at >= limit:
                begins.popleft()
                at, self._is_strange = limit, False
                limit = begins[0] - before if begins else end
            if data.startswith(_USUAL, at) and at + _USUAL_BYTES <= limit and not self._is_strange:
                size, first = data[at + len(_USUAL)], data[at + len(_USUAL) + 1]
                if SAMPLES[first] and 0 < size < _MORE_SIZE:
                    self._samples += SAMPLES[first]
                    at += len(_USUAL) + 1 + size
                    continue
            if at < limit:
                length = self._pass_unusual(data, at, limit, is_cut=not begins)
                if not length:
                    self._held = data[at:]
                    break
                at += length
        self._next = before + at

    def _pass_unusual(self, data: bytes, at: int, limit: int, *, is_cut: bool) -> int:
        """Pass a packet with any header, or what is none up to ``limit``; how much. 0 where more may come of it."""
        if not self._is_strange:
            try:
                length, samples = _packet(data[at : min(at + _READ_BYTES, limit)])
            except IndexError:
                if is_cut:
                    return 0
                length = samples = 0
            self._samples += samples if length else _MOST_IN_OTHERS
            if length:
                return length
        self._is_strange = True
        self.strange += limit - at
        return limit - at


def _packet(head: bytes) -> tuple[int, int]:
    """Bytes, with the header, and samples of the packet that begins so; 0 and 0 of none.

    Raises IndexError where more is needed.
    """
    flags = head[1]
    if head[0] != _SYNC or flags < _SYNC_ENDS:
        return 0, 0
    size, begins = 0, 2
    while head[begins] == _MORE_SIZE and size < _MOST_BYTES:
        size, begins = size + 255, begins + 1
    size, begins = size + head[begins], begins + 1
    begins += 2 * (flags & _STARTS_LATE > 0) + 2 * (flags & _ENDS_EARLY > 0)
    if flags & _IS_EXTENDED:
        begins += 1 + head[begins]
    if size > _MOST_BYTES:
        return 0, 0
    told = head[begins : begins + min(size, 2)]
    if len(told) < min(size, 2):
        raise IndexError
    return begins + size, packet_samples(told, 0, len(told))
