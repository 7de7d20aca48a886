"""FLAC (RFC 9639): the blocks of every frame are counted; STREAMINFO's total is a claim and no more.

A frame does not say where it ends, so frames are found by their sync code and believed by the CRC-8 of their header.
What may *not* decide is the frame's own number: FFmpeg and libFLAC play a file whose frames are all numbered 0, and a
walker that asked for rising numbers would count one of them. Compressed data imitates a header by chance about once in
60 MB; such a header disagrees with the stream's rate, channels, bits or numbering, and is not counted while that stays
rare. Where it is not rare it is no accident: decoders play those frames too, and they are counted.
"""

import re
from functools import cache
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from policies.audio.walker import Chunk, milliseconds

_NS_PER_SECOND = 1_000_000_000
_NS_PER_MS = 1_000_000

_MAGIC = b"fLaC"
_BLOCK_HEADER_BYTES = 4
_STREAMINFO = 0
_STREAMINFO_BYTES = 34

_CHANCE_EVERY = 1 << 24
"""Bytes to one header imitated by chance, with room: the odds are one in 60 MB."""

# RFC 9639 section 9.1: the codes of a frame header's third and fourth byte. A rate or depth of 0 is STREAMINFO's.
_SAMPLES = (0, 192, 576, 1152, 2304, 4608, 0, 0, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_SAMPLES_IN_TWO_BYTES = 7
_RATES = (0, 88200, 176400, 192000, 8000, 16000, 22050, 24000, 32000, 44100, 48000, 96000)
_RATES_AS_WRITTEN = {12: (1, 1000), 13: (2, 1), 14: (2, 10)}  # code: (bytes, Hz to the unit)
_RATE_FORBIDDEN = 15
_CHANNELS = (1, 2, 3, 4, 5, 6, 7, 8, 2, 2, 2)
_BITS = (0, 8, 12, None, 16, 20, 24, 32)
_VARIABLE = 0xF9

# The frame's number, coded like UTF-8 in up to 7 bytes (section 9.1.5): how many bytes follow the first one.
_MORE = {first: 7 - (first ^ 0xFF).bit_length() for first in range(0xC0, 0xFF)}
_ONE_BYTE = 0x80
_TWO_TOP_BITS, _CONTINUATION, _SIX_BITS = 0xC0, 0x80, 0x3F


def _class(members: list[int]) -> bytes:
    return b"[" + b"".join(b"\\x%02x" % byte for byte in members) + b"]"


# Sync code and blocking strategy; no reserved block size, no forbidden rate; no reserved channels, depth or last bit;
# what a number may begin with.
# A regular expression, because it passes over 2.5 GB/s where bytes.find, once for each strategy, makes 0.6.
_CANDIDATE = re.compile(
    rb"\xff[\xf8\xf9]"
    + _class([b for b in range(256) if b >> 4 and b & 15 != _RATE_FORBIDDEN])
    + _class([b for b in range(256) if b >> 4 < len(_CHANNELS) and _BITS[b >> 1 & 7] is not None and not b & 1])
    + rb"[\x00-\x7f\xc0-\xfe]"
)
_CANDIDATE_BYTES = 5
_MOST_HEADER_BYTES = 16


def _crc8_table() -> bytes:
    table = bytearray()
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc << 1 ^ 0x107 if crc & 0x80 else crc << 1  # x^8 + x^2 + x + 1 (section 9.1.8)
        table.append(crc)
    return bytes(table)


_CRC8 = _crc8_table()


class FrameHeader(NamedTuple):
    """What the header of one frame says; ``rate`` and ``bits`` are 0 where it leaves them to STREAMINFO."""

    samples: int
    rate: int
    channels: int
    bits: int
    variable: bool
    number: int
    """Of the frame, or of its first sample where block sizes vary."""


class _Head(NamedTuple):
    """What the first four bytes of a header say; ``samples`` and ``rate`` are 0 where bytes behind the number do."""

    samples: int
    size_bytes: int
    rate: int
    rate_bytes: int
    unit: int
    channels: int
    bits: int
    variable: bool
    crc: int
    more_bytes: int
    """Behind the number."""


@cache
def _head(four: bytes) -> _Head:
    """Read four bytes that are known to be possible: of one stream they are nearly always the same."""
    _, strategy, sizes, layout = four
    samples, size_bytes = _SAMPLES[sizes >> 4], 0
    if not samples:
        size_bytes = 2 if sizes >> 4 == _SAMPLES_IN_TWO_BYTES else 1
    rate, rate_bytes, unit = 0, 0, 1
    if sizes & 15 < len(_RATES):
        rate = _RATES[sizes & 15]
    else:
        rate_bytes, unit = _RATES_AS_WRITTEN[sizes & 15]
    depth = _BITS[layout >> 1 & 7] or 0
    is_variable = strategy == _VARIABLE
    return _Head(
        samples, size_bytes, rate, rate_bytes, unit, _CHANNELS[layout >> 4], depth, is_variable, _crc8(0, four),
        size_bytes + rate_bytes,
    )  # fmt: skip


def _crc8(crc: int, data: Chunk) -> int:
    for byte in data:
        crc = _CRC8[crc ^ byte]
    return crc


def frame_header(data: Chunk, at: int) -> FrameHeader | None:
    """Read the frame header at ``at``, whose first four bytes are known to be possible; None when its CRC is wrong.

    Raises IndexError when ``data`` ends before that can be told.
    """
    head = _head(bytes(data[at : at + 4]))
    number = data[at + 4]
    crc = _CRC8[head[8] ^ number]
    if number < _ONE_BYTE and not head[9] and data[at + 5] != crc:
        return None
    samples, size_bytes, rate, rate_bytes, unit, channels, bits, variable, _, _ = head
    end = at + 5
    if number >= _ONE_BYTE:
        more = _MORE.get(number, 0)
        if not more:
            return None
        number &= 0x3F >> more
        for _ in range(more):
            byte = data[end]
            if byte & _TWO_TOP_BITS != _CONTINUATION:
                return None
            crc = _CRC8[crc ^ byte]
            number = number << 6 | byte & 0x3F
            end += 1
    if size_bytes or rate_bytes:
        sizes, end = end, end + size_bytes + rate_bytes
        crc = _crc8(crc, data[sizes:end])
        samples = samples or int.from_bytes(data[sizes : sizes + size_bytes], "big") + 1
        rate = rate or int.from_bytes(data[sizes + size_bytes : end], "big") * unit
    return FrameHeader(samples, rate, channels, bits, variable, number) if data[end] == crc else None


def header_of(frame: bytes) -> FrameHeader | None:
    """The header that these bytes begin with; None where they do not, or end before it does."""
    try:
        return frame_header(frame, 0) if _CANDIDATE.match(frame) else None
    except IndexError:
        return None


def frames_in(data: bytes, at: int, end: int) -> int:
    """How many frames of one depth and as many channels begin from ``at`` on, where one does: what decoders play."""
    return len(_places(data, at, end))


def frame_sizes(data: bytes) -> list[int]:
    """The sizes of such frames, of each that another one follows."""
    return [after - before for before, after in pairwise(_places(data, 0, len(data)))]


def _places(data: bytes, at: int, end: int) -> list[int]:
    places, shape = [], None
    for found in _CANDIDATE.finditer(data, at, end):
        header = header_of(data[found.start() : found.start() + _MOST_HEADER_BYTES])
        if header is not None:
            shape = shape or (header.channels, header.bits)
            if shape == (header.channels, header.bits):
                places.append(found.start())
    return places


def tells_all(four: bytes) -> bool:
    """Whether the first four bytes of a possible header say how long its frame plays."""
    head = _head(four)
    return not head.more_bytes


class StreamInfo(NamedTuple):
    """What the first metadata block says of the whole stream."""

    rate: int
    channels: int
    bits: int
    samples: int

    @classmethod
    def read(cls, block: bytes) -> "StreamInfo":
        """Section 8.2: behind ten bytes of sizes 20 bits of rate, 3 of channels, 5 of depth, 36 of samples."""
        packed = int.from_bytes(block[10:18], "big")
        return cls(packed >> 44, (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1, packed & (1 << 36) - 1)


_NO_STREAMINFO = StreamInfo(0, 0, 0, 0)


class _Tally:
    """Adds frames up to a playing time; exact to a nanosecond for each change of rate."""

    __slots__ = ("_doubtful", "_doubtful_ns", "_earlier_ns", "_familiar", "_last", "_next_number", "_rate", "_samples")

    def __init__(self) -> None:
        self._last: tuple[int, int, int, bool] | None = None
        self._familiar: set[tuple[int, int, int, bool]] = set()
        self._next_number = 0
        self._rate = 1
        self._samples = 0
        self._earlier_ns = 0
        self._doubtful = 0
        self._doubtful_ns = 0

    def add(self, header: FrameHeader, stream: StreamInfo) -> bool:
        """Count one frame, at the slower of its rate and STREAMINFO's: FFmpeg obeys the one, libsndfile the other."""
        samples, rate, channels, bits, variable, number = header
        if header[1:5] == self._last:
            # Nearly every frame is of the last one's shape.
            goes_on = number == self._next_number
            self.add_like(samples, number + (samples if variable else 1))
            return goes_on
        shape = (rate or stream.rate, channels, bits or stream.bits, variable)
        rate = min(shape[0], stream.rate or shape[0])
        if not rate:
            return False
        if not self._familiar:
            self._familiar = {shape, (stream.rate, stream.channels, stream.bits, variable)}
        elif shape not in self._familiar and number != self._next_number:
            self._doubtful += 1
            self._doubtful_ns += samples * _NS_PER_SECOND // rate
            return False
        self._last = header[1:5]
        self._next_number = number + (samples if variable else 1)
        if rate != self._rate:
            self._earlier_ns += self._samples * _NS_PER_SECOND // self._rate
            self._rate, self._samples = rate, 0
        self._samples += samples
        return False

    def add_like(self, samples: int, next_number: int) -> None:
        """One more frame of the last one's shape."""
        self._samples += samples
        self._next_number = next_number

    def ns(self, passed: int) -> int:
        """Nanoseconds counted, without the frames that agree with nothing if chance may have made them."""
        believed = self._earlier_ns + self._samples * _NS_PER_SECOND // self._rate
        return believed + (self._doubtful_ns if self._doubtful > 1 + passed // _CHANCE_EVERY else 0)


_Like: TypeAlias = tuple[bytes, int, int, int, int]
"""Headers of blocks of one size that differ in the last six bits of a number of two bytes or more alone.

What they have in common, how many bytes that is and its CRC; the least of their numbers; samples.
"""
_NOTHING_LIKE: _Like = (b"", 0, 0, 0, 0)


def _like(data: Chunk, start: int, header: FrameHeader) -> _Like:
    """Those like the one that was read there."""
    four = bytes(data[start : start + 4])
    head = _head(four)
    if header.variable or header.number < _ONE_BYTE or head.more_bytes:
        return _NOTHING_LIKE
    number = bytes(data[start + 4 : start + 4 + _MORE[data[start + 4]]])
    crc = _crc8(head.crc, number)
    return four + number, 4 + len(number), crc, header.number & ~_SIX_BITS, header.samples


class FlacWalker:
    """Passes the metadata blocks by their sizes, then finds every frame; keeps fewer than 64 bytes of the stream.

    A second stream behind the first one plays on in every decoder tried, so its frames count too.
    """

    __slots__ = ("_held", "_in_frames", "_is_last_block", "_like", "_passed", "_skip", "_stream", "_tally", "channels")

    codec = "flac"
    strange = 0
    unsure = False

    def __init__(self) -> None:
        self.channels: int | None = None
        self._held = b""
        self._passed = 0
        self._skip = len(_MAGIC)
        self._is_last_block = False
        self._in_frames = False
        self._stream = _NO_STREAMINFO
        self._tally = _Tally()
        self._like = _NOTHING_LIKE

    @property
    def ms(self) -> int | None:
        """Of the frames whose headers have passed; None before the first."""
        ns = self._tally.ns(self._passed)
        return (ns + _NS_PER_MS // 2) // _NS_PER_MS if ns else None

    @property
    def claimed_ms(self) -> int | None:
        """STREAMINFO's total: 0, which reads as None, when it was written into a pipe."""
        stream = self._stream
        return milliseconds(stream.samples, stream.rate) if stream.rate and stream.samples else None

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the file, from its magic on."""
        if not self._passed and chunk and chunk[0] != _MAGIC[0]:
            self._in_frames = True
        self._passed += len(chunk)
        if self._in_frames:
            self._find_frames(chunk, 0)
            return
        data = self._held + chunk if self._held else chunk
        self._held = b""
        at = self._pass_metadata(data)
        if self._in_frames:
            self._find_frames(data, at)

    def _pass_metadata(self, data: Chunk) -> int:
        """Where the frames begin in ``data``, or its end when they do not yet."""
        at, size = 0, len(data)
        while True:
            step = min(self._skip, size - at)
            self._skip -= step
            at += step
            if self._skip:
                return size
            if self._is_last_block:
                self._in_frames = True
                return at
            whole = self._read_block(bytes(data[at : at + _BLOCK_HEADER_BYTES + _STREAMINFO_BYTES]))
            if not whole:
                self._held = bytes(data[at:])
                return size
            at += whole

    def _read_block(self, head: bytes) -> int:
        """Read one block's header, and STREAMINFO with it; the header's size, or 0 while too little has arrived."""
        if len(head) < _BLOCK_HEADER_BYTES:
            return 0
        length = int.from_bytes(head[1:4], "big")
        if head[0] & 0x7F == _STREAMINFO and length >= _STREAMINFO_BYTES and not self._stream.rate:
            if len(head) < _BLOCK_HEADER_BYTES + _STREAMINFO_BYTES:
                return 0
            self._stream = StreamInfo.read(head[_BLOCK_HEADER_BYTES:])
            self.channels = self._stream.channels
        self._is_last_block = head[0] >> 7 == 1
        self._skip = length
        return _BLOCK_HEADER_BYTES

    def _find_frames(self, chunk: Chunk, at: int) -> None:
        """Count the frames whose headers begin here, or began in the last bytes of what has passed."""
        if self._held:
            # By themselves, so that the chunk need not be copied behind them.
            seam = self._held + chunk[at : at + _MOST_HEADER_BYTES]
            if len(chunk) - at <= _MOST_HEADER_BYTES:
                chunk, at = seam, 0
            else:
                self._search(seam, 0, len(self._held))
        waits = self._search(chunk, at, len(chunk))
        self._held = bytes(chunk[min(waits, max(at, len(chunk) - _CANDIDATE_BYTES + 1)) :])

    def _search(self, data: Chunk, at: int, stop: int) -> int:
        """Count the frames that begin before ``stop``; where the one begins whose header is not here, or ``stop``."""
        # A header may lie within another one's bytes: a forged one must not hide the true one behind it.
        tally, (begins, size, crc, first, samples) = self._tally, self._like
        for candidate in _CANDIDATE.finditer(data, at):
            start = candidate.start()
            if start >= stop:
                break
            try:
                if size and data[start : start + size] == begins:
                    low, said = data[start + size : start + size + 2]
                    if said == _CRC8[crc ^ low] and low & _TWO_TOP_BITS == _CONTINUATION:
                        tally.add_like(samples, (first | low & _SIX_BITS) + 1)
                    continue
                header = frame_header(data, start)
            except (IndexError, ValueError):
                return start
            if header is not None:
                goes_on = tally.add(header, self._stream)
                if goes_on or size:
                    begins, size, crc, first, samples = like = _like(data, start, header) if goes_on else _NOTHING_LIKE
                    self._like = like
                if self.channels is None:
                    self.channels = header.channels
        return stop
