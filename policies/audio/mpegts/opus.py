"""Opus in the elements of a transport stream (ETSI TS 103 491, as FFmpeg reads it).

Each packet stands behind a header that says its size, which is a claim: decoders begin anew with each element. Where
something else stands in an element they may play it all the same, as one packet, or as two where the element states a
false size.
"""

from collections import deque

from policies.audio.opus import MOST_SAMPLES, RATE, packet_samples
from policies.audio.walker import Chunk

_SYNC, _SYNC_ENDS = 0x7F, 0xE0
_STARTS_LATE, _ENDS_EARLY, _IS_EXTENDED = 0x10, 0x08, 0x04
"""Flags: how much is left out at either end, which FFmpeg plays all the same, and that something else follows."""
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
                continue
            length = 0
            if not self._is_strange:
                try:
                    length, samples = _packet(data[at : min(at + _READ_BYTES, limit)])
                except IndexError:
                    if not begins:
                        self._held = data[at:]
                        break
                else:
                    self._samples += samples
            if not length:
                self._samples += _MOST_IN_OTHERS * (not self._is_strange)
                self._is_strange, length = True, limit - at
                self.strange += length
            at += length
        self._next = before + at


def _packet(head: bytes) -> tuple[int, int]:
    """Bytes, with the header, and samples of the packet that begins so; 0 and 0 of none.

    Raises IndexError where more is needed.
    """
    flags = head[1]
    if head[0] != _SYNC or flags < _SYNC_ENDS:
        return 0, 0
    size, begins = 0, 2
    while head[begins] == 255 and size < _MOST_BYTES:
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
