"""Where a block of AAC (ISO/IEC 14496-3 section 4.4.2) ends, and whether bytes are the beginning of one.

A block does not say how long it is: only who reads all its code words comes to its end. That takes some tenth of a
millisecond, a hundred times what may be spent on each, so it is for samples of a file.

Its beginning is cheaper. Compressed data imitates a frame's header now and then: loud stereo, whose code words are runs
of ones, four times as often as chance. What stands behind such a header is then no block: its sections, which are read
up to the first channel's scale factors, do not fill the bands that they are for.
"""

import struct
from typing import NamedTuple

from policies.audio.aac.bands import most_bands
from policies.audio.aac.bits import Bits, EndError
from policies.audio.aac.channel import LC, SHORT_WINDOWS, Channel
from policies.audio.aac.elements import (
    CCE,
    CPE,
    DSE,
    END,
    FIL,
    INSTANCE_BITS,
    LFE,
    PCE,
    SCE,
    pass_coupling,
    pass_silent,
    read_description,
)
from policies.audio.aac.setup import MOST_BYTES, SAMPLES
from policies.audio.aac.spectrum import SCALE_FACTORS

LOOKED_AT_BYTES = 320
"""Behind a header. What more of filling stands before a block costs its sender as much as the block may save."""
_HEAD = struct.Struct(">I")
_HEAD_BYTES = 4
_USUAL_BYTES = 16
"""As many as tell it nearly always."""
_MOST_BYTES = 16 * MOST_BYTES + 4096
"""Of a block, with room for what is no sound."""
_RESERVED_MASK = 3


class Blocks(NamedTuple):
    """The blocks of one stream, as its set-up describes them: ``rate`` is one of ``RATES``, ``kind`` an object type."""

    rate: int
    kind: int = LC
    samples: int = SAMPLES

    def pass_block(self, data: bytes, at: int) -> tuple[int, bool]:
        """Where the block ends that begins at ``at``, or ``at`` where none does; and whether it has sound."""
        bits = Bits(data[at : at + _MOST_BYTES])
        size, has_sound = bits.left, False
        try:
            while (element := bits.read(3)) != END:
                if element == PCE:
                    bits.skip(4)
                    read_description(bits)
                elif element in {FIL, DSE}:
                    pass_silent(bits, element)
                else:
                    bits.skip(4)
                    self._pass_channels(bits, element)
                    has_sound = True
                if bits.left < 0:
                    return at, False
        except (EndError, ValueError):
            return at, False
        return at + (size - bits.left + 7) // 8, has_sound

    def _pass_channels(self, bits: Bits, element: int) -> None:
        rate, kind, samples = self
        gains, is_single = pass_coupling(bits) if element == CCE else (0, True)
        if element == CPE and bits.read(1):
            channel = Channel(bits, rate, kind, samples)
            if channel.has_long_term:
                channel.pass_long_term(bits)
            mask = bits.read(2)
            if mask == _RESERVED_MASK:
                raise ValueError("no such mask")
            bits.skip(len(channel.groups) * channel.bands * (mask == 1))
            for _ in range(2):
                bits.skip(8)
                channel.pass_sound(bits, kind)
            return
        for _ in range(element == CPE):
            bits.skip(8)
            Channel(bits, rate, kind, samples).pass_sound(bits, kind)
        bits.skip(8)
        channel = Channel(bits, rate, kind, samples)
        channel.pass_sound(bits, kind)
        for _ in range(gains):
            bits.pass_words(SCALE_FACTORS, 1 if is_single or bits.read(1) else channel.sounding_bands)


def begins_block(data: bytes, at: int, rate: int, kind: int, channels: int) -> bool:
    """Whether a decoder would find sound in the block that begins at ``at``; True where the stream ends too early.

    ``kind`` is the audio object type that the header in front says, ``channels`` its channel configuration: none but
    the one that is described elsewhere (0) has coupling channels.
    """
    if at + _HEAD_BYTES <= len(data) and _is_none(_HEAD.unpack_from(data, at)[0], rate, kind, channels):
        return False
    for size in (_USUAL_BYTES, LOOKED_AT_BYTES):
        try:
            return _read_block(Bits(data[at : at + size]), rate, kind, channels)
        except EndError:
            continue
        except ValueError:
            return False
    return len(data) - at < LOOKED_AT_BYTES


def _is_none(head: int, rate: int, kind: int, channels: int) -> bool:
    """What the first four bytes refuse already, of what chance makes more than half."""
    element = head >> 29
    if element == END or (element == CCE and channels):
        return True
    if element not in {SCE, LFE, CPE}:
        return False
    windows = head >> 1 if element != CPE else head >> 8 if head >> 24 & 1 else head
    most, most_short = most_bands(rate)
    if windows >> 13 & 3 == SHORT_WINDOWS:
        return windows >> 8 & 15 > most_short
    return windows >> 6 & 63 > most or (kind == LC and windows >> 5 & 1 > 0)


def _read_block(bits: Bits, rate: int, kind: int, channels: int) -> bool:
    described: set[int] | None = None
    while (element := bits.read(3)) != END:
        if element == CCE and channels:
            return False
        if element == PCE:
            described = read_description(bits)
            continue
        if element in {FIL, DSE}:
            pass_silent(bits, element)
            continue
        instance = bits.read(4)
        if described is not None and element << INSTANCE_BITS | instance not in described:
            return False
        if element == CPE and bits.read(1):
            channel = Channel(bits, rate, kind, SAMPLES)
            mask = bits.read(2)
            if mask == _RESERVED_MASK:
                return False
            bits.skip(len(channel.groups) * channel.bands * (mask == 1) + 8)
        else:
            if element == CCE:
                pass_coupling(bits)
            bits.skip(8)
            channel = Channel(bits, rate, kind, SAMPLES)
        channel.read_sections(bits)
        return True
    return False
