"""AAC as a stream: ADTS frames (ISO/IEC 13818-7 section 6.2), and LOAS (ISO/IEC 14496-3 section 1.7), flagged.

A frame holds 1024 samples for each of its blocks, at the core's rate: with spectral band replication a decoder puts out
twice as many at twice the rate, which plays as long.
"""

import re
import struct
from bisect import bisect_left

from typing_extensions import override

from policies.audio.aac.blocks import LOOKED_AT_BYTES, Blocks, begins_block
from policies.audio.aac.packed import Looks, blocks_in
from policies.audio.aac.setup import MOST_BYTES, RATES, SAMPLES
from policies.audio.frames import NS_PER_SECOND, FrameWalker
from policies.audio.walker import Chunk

_ADTS_BYTES = 7
_CRC_BYTES = 2
_FIRST_WORDS = struct.Struct(">HIB")
"""Sync word, version, layer and whether there is a CRC; profile, rate, channels and length; how many blocks."""
_SHAPE = 0x3DC0_0000
"""Of the second of them, what says rate and channels."""
_HEADER = re.compile(rb"\xff[\xf0\xf1\xf8\xf9][\x00-\x33\x40-\x73\x80-\xb3\xc0-\xf3]")
"""The third byte says the rate."""
_HEADER_BEGINS_BYTES, _NO_HEADER = 3, 0xF4
"""Of them; and what stands in none of these."""
_SEEN_BYTES = _ADTS_BYTES + _CRC_BYTES + LOOKED_AT_BYTES
_FEW_HIDDEN, _HIDDEN_EVERY, _HIDDEN_PART = 4, 1 << 12, 32
"""Headers with a block behind them that belong to no frame: twice what the loudest stereo makes by chance."""
_MOST_LOOKS, _LOOK_EVERY = 1024, 1 << 9
"""Behind more headers than these, four times as many as loud stereo has, nobody looks: they count."""
_MOST_HEADER_BYTES = _ADTS_BYTES + _CRC_BYTES
_EIGHT, _MOST_CHANNELS = 7, 8
"""How a header says eight channels, which is the most; of 0 the frames say it."""
_LOAS_SYNC = 0x2B7
_LEAST_MUX_BYTES = 4
_SLOWEST_LATM = 8_000
"""For a LATM stream whose configuration is not read."""
_SAME_MUX = 0x80
"""The first bit of a frame that has no configuration."""


class AdtsWalker(FrameWalker):
    """Counts the blocks of ADTS frames.

    A frame's length is a claim: decoders stop where its sound ends, and play on with what else is in it. So headers
    inside frames count, where a block stands behind more of them than chance makes, and so do frames longer than one
    can be.
    """

    __slots__ = ("_begins", "_chosen", "_hidden", "_hidden_ns", "_looks", "_searched", "_tail")

    _PATTERN = re.compile(rb"\xff[\xf0\xf1\xf8\xf9]")
    _HEADER_BYTES = _ADTS_BYTES
    _CHANCE_EVERY = 1 << 16

    def __init__(self, *, is_linked: bool = True) -> None:
        super().__init__(is_linked=is_linked)
        self._begins: list[int] = []  # where frames do that are in the tail
        self._tail = b""
        self._searched = 0  # so many bytes of the stream
        self._looks = self._hidden = self._hidden_ns = 0
        self._chosen = Looks()

    @property
    def codec(self) -> str:
        """Of every frame."""
        return "aac"

    @property
    @override
    def unsure(self) -> bool:
        """See :class:`FrameWalker`."""
        return super().unsure or self._chosen.most > 1

    @property
    def ns(self) -> int:
        """See :class:`FrameWalker`."""
        ns = super().ns
        found = max(sum((kind.linked + kind.sought) * ((key & 3) + 1) for key, kind in self._kinds.items()), 1)
        if not ns:
            return 0
        needed = (self.passed - self.strange) // (_MOST_HEADER_BYTES + MOST_BYTES * (self.channels or _MOST_CHANNELS))
        return max(ns * max(needed, found) // found, ns * self._chosen.most, ns + self._hidden_inside(found))

    def _hidden_inside(self, found: int) -> int:
        """What the headers inside frames play; of those in the last bytes nobody knows yet what stands behind them."""
        last = self._hidden_in(self._tail, min(len(self._tail), self._followed_bytes))
        if self._hidden + len(last) <= _FEW_HIDDEN + self.passed // _HIDDEN_EVERY + found // _HIDDEN_PART:
            return 0
        return self._hidden_ns + sum(_ns_of(self._tail, at) for at in last)

    @override
    def feed(self, chunk: Chunk) -> None:
        """See :class:`FrameWalker`."""
        super().feed(chunk)
        if self._patience.lost_at:
            return
        data = self._tail + chunk
        told = min(len(data) - _SEEN_BYTES, self._followed_bytes)
        if told > 0:
            for at in self._hidden_in(data, told):
                self._looks += 1
                if self._looks > _MOST_LOOKS + (self._searched + at) // _LOOK_EVERY or _has_block(data, at):
                    self._hidden += 1
                    self._hidden_ns += _ns_of(data, at)
            self._searched += told
            self._begins = [begin - told for begin in self._begins[bisect_left(self._begins, told) :]]
            data = data[told:]
        self._tail = data

    @property
    def _followed_bytes(self) -> int:
        """Behind those that were searched, as far as it is known where frames begin."""
        return self.passed - len(self._held) - self._searched

    def _hidden_in(self, data: bytes, stop: int) -> list[int]:
        """Where in the bytes behind those that were searched headers stand, before ``stop``, that begin no frame."""
        inside, begins = bytearray(data[: stop + _HEADER_BEGINS_BYTES - 1]), self._begins
        for at in begins[: bisect_left(begins, stop)]:
            inside[at] = _NO_HEADER
        return [header.start() for header in _HEADER.finditer(inside)]

    def _follow(self, data: bytes, at: int, last: int) -> int:
        read, begins, chosen = _FIRST_WORDS.unpack_from, self._begins.append, self._chosen
        before = self.passed - len(data) - self._searched
        while at <= last:
            sync, said, more = read(data, at)
            length, rate, more = said >> 5 & 0x1FFF, said >> 26 & 15, more & 3
            if sync & 0xFFF6 != 0xFFF0 or length < _ADTS_BYTES or rate >= len(RATES):
                break
            kind = self._kinds.get(rate << 2 | more) or self._kind(rate << 2 | more, SAMPLES * (more + 1), RATES[rate])
            if chosen.left < length:
                if len(data) - at < length:
                    self._pending = kind
                    return ~at
                self._pending = None
                _look(chosen, data[at : at + length], length)
            else:
                chosen.left -= length
            begins(before + at)
            if self.channels is None:
                configuration = said >> 22 & 7
                self.channels = (_MOST_CHANNELS if configuration == _EIGHT else configuration) or None
            if not self._is_linked:
                at = self._seek(kind, at, length, data, last)
                if not self._is_linked:
                    break
                continue
            # The fast way: as long as frames of this kind follow each other, and none is chosen.
            like, shape, left, count = sync, said & _SHAPE, chosen.left, 0
            while True:
                count += 1
                at += length
                if at > last:
                    break
                sync, said, behind = read(data, at)
                length = said >> 5 & 0x1FFF
                if sync != like or said & _SHAPE != shape or behind & 3 != more or not _ADTS_BYTES <= length <= left:
                    break
                left -= length
                begins(before + at)
            kind.linked += count
            chosen.left = left
        return at

    def _ns_at(self, data: bytes, at: int) -> int:
        header = int.from_bytes(data[at : at + _ADTS_BYTES], "big")
        rate = header >> 34 & 15
        if header >> 40 & 0xFFF6 != 0xFFF0 or header >> 13 & 0x1FFF < _ADTS_BYTES or rate >= len(RATES):
            return 0
        return SAMPLES * ((header & 3) + 1) * NS_PER_SECOND // RATES[rate]


def _look(chosen: Looks, frame: bytes, length: int) -> None:
    chosen.left -= length
    second, third = frame[1:3]
    sound = _ADTS_BYTES if second & 1 else _ADTS_BYTES + _CRC_BYTES
    blocks = blocks_in(frame[sound:], Blocks(RATES[third >> 2 & 15], (third >> 6) + 1))
    chosen.note(frame, -(-blocks // ((frame[6] & 3) + 1)))


def _ns_of(data: bytes, at: int) -> int:
    return SAMPLES * NS_PER_SECOND // RATES[data[at + 2] >> 2 & 15]


def _has_block(data: bytes, at: int) -> bool:
    second, third, fourth = data[at + 1 : at + 4]
    sound = at + (_ADTS_BYTES if second & 1 else _ADTS_BYTES + _CRC_BYTES)
    channels = (third & 1) << 2 | fourth >> 6
    return begins_block(data, sound, RATES[third >> 2 & 15], (third >> 6) + 1, channels)


class LatmWalker(FrameWalker):
    """Counts LOAS frames; of the rates that configurations say the slowest holds for all."""

    __slots__ = ("_kind_known",)

    _PATTERN = re.compile(rb"\x56[\xe0-\xff]")
    _HEADER_BYTES = 3
    _CHANCE_EVERY = 1 << 9

    @property
    def codec(self) -> str:
        """Of every frame."""
        return "aac_latm"

    @property
    def unsure(self) -> bool:
        """A later configuration may say another rate."""
        return True

    def __init__(self, *, is_linked: bool = True) -> None:
        super().__init__(is_linked=is_linked)
        self._kind_known = False

    def _follow(self, data: bytes, at: int, last: int) -> int:
        while at <= last:
            header = int.from_bytes(data[at : at + 3], "big")
            if header >> 13 != _LOAS_SYNC or header & 0x1FFF < _LEAST_MUX_BYTES:
                break
            kind = self._kind(0, SAMPLES, _SLOWEST_LATM)
            if not self._is_linked:
                at = self._seek(kind, at, 3 + (header & 0x1FFF), data, last)
                if not self._is_linked:
                    break
                continue
            if len(data) - at <= 3:
                return ~at
            if data[at + 3] < _SAME_MUX:
                if len(data) - at < 12:
                    return ~at
                samples, rate = _latm_frame(data[at + 3 : at + 12])
                ns = samples * NS_PER_SECOND // rate
                kind.ns = max(kind.ns, ns) if self._kind_known else ns
                self._kind_known = True
            kind.linked += 1
            at += 3 + (header & 0x1FFF)
        return at

    def _ns_at(self, data: bytes, at: int) -> int:
        header = int.from_bytes(data[at : at + 3], "big")
        return self._kind(0, SAMPLES, _SLOWEST_LATM).ns if header >> 13 == _LOAS_SYNC else 0


def _latm_frame(mux: bytes) -> tuple[int, int]:
    """Samples and rate by StreamMuxConfig (section 1.7.3): only its first version is read."""
    bits = int.from_bytes(mux, "big")
    width = 8 * len(mux)

    def field(start: int, size: int) -> int:
        return bits >> width - start - size & (1 << size) - 1

    # useSameStreamMux, audioMuxVersion, allStreamsSameTimeFraming; numSubFrames 6, numProgram 4, numLayer 3;
    # then AudioSpecificConfig: object type 5, frequency index 4.
    if field(0, 2) != 0:
        return SAMPLES, _SLOWEST_LATM
    rate = field(21, 4)
    return SAMPLES * (field(3, 6) + 1), RATES[rate] if rate < len(RATES) else _SLOWEST_LATM
