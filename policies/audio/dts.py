"""DTS: core frames in the four forms that FFmpeg knows, and the extensions behind them (ETSI TS 102 114).

The words of a frame come with either byte first, whole or with 14 of their 16 bits in use. Whether something else
stands in a frame nobody asks who reads it; but an extension may play longer than the core in front of it.
"""

import re
from struct import pack, unpack
from typing import NamedTuple

from policies.audio.frames import NS_PER_SECOND, FrameWalker

_EXTENSION = b"\x64\x58\x20\x25"
_RATES = (0, 8_000, 16_000, 32_000, 0, 0, 11_025, 22_050, 44_100, 0, 0, 12_000, 24_000, 48_000, 96_000, 192_000)
"""Of a core, by its code (section 5.3.1)."""
_OTHER_RATES = (
    8_000, 16_000, 32_000, 64_000, 128_000, 22_050, 44_100, 88_200, 176_400, 352_800, 12_000, 24_000, 48_000, 96_000,
    192_000, 384_000,
)  # fmt: skip
"""Of an extension that plays alone (section 7.3.1)."""
_BLOCK_SAMPLES, _BLOCKS_STEP, _LEAST_BYTES = 32, 8, 96
_LOSSLESS, _LOW = b"\x41\xa2\x95\x47", b"\x0a\x80\x19\x21"
"""What plays instead of a core: lossless sound, and sound of a low bit rate (DTS Express)."""
_IN_BAND_RATE = 96_000
"""Above it sound is in two bands, of half the rate each."""
_LOSSLESS_HEAD_BYTES = 256 + 6
_LOW_NS = 128_000_000
"""The longest frame of a low bit rate: 1024 samples at 8 kHz, and as many times more at higher rates."""
_LOOKED_AT_BYTES = 4_096
"""Of an extension, for what plays longer."""
_MOST_BYTES = 16_384
"""Of an extension in front of any core whose end is waited for."""
_FORM_BYTES, _PLAIN_FORM = 10, b"\x7f\xfe"
"""What says a frame's length and time, if its words are whole; and the form that extensions may follow."""
PROBED_BYTES, _UNPROBED_BYTES, _SURE_FRAMES, _LOUD = 16_384, 4_096, 4, 601
"""Of a file's first bytes, what FFmpeg looks at, and from where on; for how many frames, and how loud as samples."""
_MOST_SURE_BYTES = 2_816
"""Of such a frame: 200 of MP3 would be more, which FFmpeg would be as sure of."""
_OTHERS = (b"\0\0\1\xba", b"\x72\xf8\x1f\x4e")
"""What it would rather take it for: a programme stream, or S/PDIF."""
_TAIL_BYTES = 6
"""Of a core's begin by which readers find it."""


class _Core(NamedTuple):
    length: int
    least: int
    """From where on readers look for the next frame."""
    samples: int
    rate: int


def _core_of(head: bytes) -> _Core | None:
    """What the core that begins so says."""
    first, is_short = head[0], False
    if first in {0xFE, 0xFF}:  # the lower byte of each word first
        head = pack(">6H", *unpack("<6H", head))
    if first in {0x1F, 0xFF}:
        bits, is_short = 0, True
        for word in unpack(">6H", head):
            bits = bits << 14 | word & 0x3FFF
        head = (bits << 12).to_bytes(12, "big")
    bits = int.from_bytes(head[4:10], "big")
    blocks, size, rate = (bits >> 34 & 127) + 1, (bits >> 20 & 0x3FFF) + 1, _RATES[bits >> 10 & 15]
    if bits >> 42 != 63 or blocks % _BLOCKS_STEP or size < _LEAST_BYTES or not rate:
        return None
    return _Core((size * 8 + 13) // 14 * 2 if is_short else size, size, blocks * _BLOCK_SAMPLES, rate)


def _extension_bytes(head: bytes) -> int:
    """Of one with its header."""
    bits = int.from_bytes(head[5:10], "big")
    return (bits >> 5 & 0xFFFFF if bits >> 37 & 1 else bits >> 13 & 0xFFFF) + 1


def is_dts(head: bytes) -> bool:
    """Whether FFmpeg is sure of it by a file's first bytes, and sees nothing else there: frames of one small size.

    It asks for four of them behind the first 4 KiB, each at an even place, and for loud noise as samples.
    """
    core = _core_of(head[:12]) if len(head) >= PROBED_BYTES and DtsWalker.begins(head) else None
    if core is None or core.length > _MOST_SURE_BYTES or any(other in head for other in _OTHERS):
        return False
    places = range(0, PROBED_BYTES, core.length)
    if not all(head.startswith(head[: min(_FORM_BYTES, PROBED_BYTES - at)], at) for at in places):
        return False
    words = unpack(f"<{(PROBED_BYTES - _UNPROBED_BYTES) // 2}h", head[_UNPROBED_BYTES:PROBED_BYTES])
    steps = [abs(word - before) for before, word in zip(words, words[2:], strict=False) if word or before]
    seen = sum(at > _UNPROBED_BYTES and not at & 1 for at in places[:-1])
    return seen >= _SURE_FRAMES and sum(steps) > _LOUD * len(steps)


def _lossless_ns(head: bytes) -> int:
    """What the frame of lossless sound plays that begins so (section 8.2): its header, and its first channels'."""
    bits = int.from_bytes(head[:24], "big")
    begins, size_bits = (bits >> 148 & 0xFF) + 1, (bits >> 143 & 31) + 1
    sizes = bits >> 131 - size_bits & 0xFF
    bits = int.from_bytes(head[begins : begins + 6], "big")
    rate = _OTHER_RATES[bits >> 19 - (bits >> 34 & 15) & 15]
    return (NS_PER_SECOND << (sizes >> 4) + (sizes & 15)) // (rate >> (rate > _IN_BAND_RATE))


def _extension_ns(body: bytes) -> int:
    """What an extension with these first bytes plays if nothing else does."""
    at = body.find(_LOSSLESS)
    if at >= 0:
        return _lossless_ns(body[at : at + _LOSSLESS_HEAD_BYTES])
    return _LOW_NS if _LOW in body else 0


class DtsWalker(FrameWalker):
    """Counts cores, and what extensions play beyond them."""

    __slots__ = ("_core_ns", "_form")

    _PATTERN = re.compile(
        rb"\x7f\xfe\x80\x01[\xfc-\xff]|\xfe\x7f\x01\x80.[\xfc-\xff]|\x1f\xff\xe8\0\x07[\xf0-\xff]"
        rb"|\xff\x1f\0\xe8[\xf0-\xff]\x07|\x64\x58\x20\x25",
        re.DOTALL,
    )
    _HEADER_BYTES = 12
    _CHANCE_EVERY = 1 << 20

    def __init__(self, *, is_linked: bool = True) -> None:
        super().__init__(is_linked=is_linked)
        self._form = b""
        """The first core's: readers look for no others."""
        self._core_ns = 0
        """Of the core that an extension stands right behind."""

    @classmethod
    def begins(cls, head: bytes) -> bool:
        """Whether these are the first bytes of a core, or of an extension."""
        return cls._PATTERN.match(head) is not None

    @property
    def codec(self) -> str:
        """Of every frame."""
        return "dts"

    def _follow(self, data: bytes, at: int, last: int) -> int:
        begins = self._PATTERN.match
        while 0 <= at <= last and begins(data, at):
            before = at
            if data.startswith(_EXTENSION, at):
                at = self._pass_extension(data, at, last)
            else:
                at = self._pass_cores(data, at, last)
            if at == before:
                break
        return at

    def _pass_cores(self, data: bytes, at: int, last: int) -> int:
        """Count cores that begin alike; where to go on, as :meth:`_follow` says it."""
        head = data[at : at + _FORM_BYTES]
        self._form = self._form or head[:2]
        core = _core_of(data[at : at + self._HEADER_BYTES])
        if core is None:
            self._is_linked = False
            return at
        kind = self._kind(core.samples << 20 | core.rate, core.samples, core.rate)
        if head[:2] != self._form:
            kind.sought += 1
            self._is_linked = False
            return at
        length = core.length
        if core.least < length:
            if at + length > last:
                self._pending = kind
                return ~at
            self._pending = None
            inner = self._PATTERN.search(data, at + core.least, at + length + _TAIL_BYTES - 1)
            length = inner.start() - at if inner else length
        if not self._is_linked:
            at = self._seek(kind, at, length, data, last)
            self._core_ns = kind.ns if self._is_linked and self._form == _PLAIN_FORM else 0
            return at
        count = 1
        at += length
        while core.least == length and at <= last and data.startswith(head, at):
            count += 1
            at += length
        kind.linked += count
        self._core_ns = kind.ns if self._form == _PLAIN_FORM else 0
        return at

    def _pass_extension(self, data: bytes, at: int, last: int) -> int:
        """Pass one. Its length is believed right behind a core, or where no core was in front of it."""
        length = _extension_bytes(data[at : at + self._HEADER_BYTES])
        is_bound = not self._form or (self._core_ns > 0 and self._is_linked)
        if length < _LEAST_BYTES or not is_bound:
            self._is_linked = False
            return at
        is_sought = not self._is_linked
        looked_at = min(length, _LOOKED_AT_BYTES)
        if at + looked_at > len(data) or (is_sought and at + length > last and length <= _MOST_BYTES):
            return ~at
        if is_sought and not (length <= _MOST_BYTES and self._ns_at(data, at + length)):
            return at
        played = max(_extension_ns(data[at : at + looked_at]) - self._core_ns, 0)
        self._kind(0, 1, NS_PER_SECOND).linked += played
        self._is_linked, self._core_ns = True, 0
        return at + length

    def _ns_at(self, data: bytes, at: int) -> int:
        if not self._PATTERN.match(data, at):
            return 0
        if data.startswith(_EXTENSION, at):
            return 1
        core = _core_of(data[at : at + self._HEADER_BYTES])
        return core.samples * NS_PER_SECOND // core.rate if core else 0
