"""Where a block of AAC (ISO/IEC 14496-3 section 4.4.2) ends, and whether bytes are the beginning of one.

A block does not say how long it is: only who reads all its code words comes to its end. That takes some tenth of a
millisecond, a hundred times what may be spent on each, so it is for samples of a file.

Its beginning is cheaper. Compressed data imitates a frame's header now and then: loud stereo, whose code words are runs
of ones, four times as often as chance. What stands behind such a header is then no block: its sections, which are read
up to the first channel's scale factors, do not fill the bands that they are for.
"""

import struct
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import NamedTuple

from policies.audio.aac.setup import MOST_BYTES, RATES, SAMPLES
from policies.audio.aac.spectrum import PADDING_BITS, SCALE_FACTORS, pass_words

LOOKED_AT_BYTES = 320
"""Behind a header. What more of filling stands before a block costs its sender as much as the block may save."""
_HEAD = struct.Struct(">I")
_HEAD_BYTES = 4
_USUAL_BYTES = 16
"""As many as tell it nearly always."""

_WIDTHS_96 = "14x4 5x8 5x12 16 16 24 28 36 44 11x64"
_WIDTHS_64 = "14x4 4x8 3x12 3x16 20 24 24 28 36 18x40"
_WIDTHS_48 = "10x4 7x8 12 12 12 12 16 16 20 20 24 24 28 28 19x32 96"
_WIDTHS_32 = "10x4 7x8 12 12 12 12 16 16 20 20 24 24 28 28 22x32"
_WIDTHS_24 = "11x4 10x8 4x12 16 16 16 20 20 24 24 28 28 32 36 36 40 44 48 52 52 5x64"
_WIDTHS_16 = "11x8 9x12 4x16 20 20 20 24 24 28 28 32 36 40 40 44 48 52 56 60 64 64 64 64"
_WIDTHS_8 = "13x12 7x16 4x20 24 24 24 28 28 32 36 36 40 44 48 52 56 60 64 80"
_WIDTHS = dict(
    zip(
        RATES,
        (_WIDTHS_96,) * 2 + (_WIDTHS_64,) + (_WIDTHS_48,) * 2 + (_WIDTHS_32,) + (_WIDTHS_24,) * 2
        + (_WIDTHS_16,) * 3 + (_WIDTHS_8,) * 2,
        strict=True,
    )
)  # fmt: skip
_SHORT_96, _SHORT_48 = "6x4 3x8 16 28 36", "5x4 3x8 12 12 12 16 16 16"
_SHORT_24, _SHORT_16 = "7x4 3x8 12 12 16 16 20", "8x4 8 8 12 12 16 20 20"
_SHORT_8 = "7x4 4x8 12 16 20 20"
_SHORT_WIDTHS = dict(
    zip(
        RATES,
        (_SHORT_96,) * 3 + (_SHORT_48,) * 3 + (_SHORT_24,) * 2 + (_SHORT_16,) * 3 + (_SHORT_8,) * 2,
        strict=True,
    )
)
"""Values to the band (ISO/IEC 14496-3 section 4.5.4)."""


@cache
def _bands(rate: int, length: int, *, is_short: bool) -> Sequence[int]:
    """Where each band ends, from 0 on, in a window of so many values."""
    widths: list[int] = []
    for item in (_SHORT_WIDTHS if is_short else _WIDTHS)[rate].split():
        times, _, width = item.rpartition("x")
        widths += [int(width)] * int(times or 1)
    ends = [min(end, length) for end in accumulate(widths, initial=0)]
    return ends[: ends.index(length) + 1]


_SCE, _CPE, _CCE, _LFE, _DSE, _PCE, _FIL, _END = range(8)
_SHORT_WINDOWS = 2
_INSTANCE_BITS = 4
_RANGE_CONTROL, _MOST_LEFT_OUT = 11, 9
_BOTH = 3
"""Of a pair's channels that a third one is coupled to."""
_MOST_BYTES = 16 * MOST_BYTES + 4096
"""Of a block, with room for what is no sound."""
_RESERVED_MASK, _RESERVED_BOOK = 3, 12
_MAIN, _LC = 1, 2
_PREDICTED_BANDS = dict(zip(RATES, (33, 33, 38, 40, 40, 40, 41, 41, 37, 37, 37, 34, 34), strict=True))
_MOST_RESET_GROUP, _MOST_LONG_TERM_BANDS = 30, 40


_ZERO, _QUADS, _MOST_SPECTRUM, _NOISE = 0, 4, 11, 13
"""Kinds of section: up to the fourth book a word has four values, and two in later ones."""
_GAINS = ((1, 0, 5), (2, 4, 2), (8, 0, 2), (2, 4, 5))
"""By window sequence: how many windows gain control has, bits of the first one and of others (0: like those)."""


class _EndError(Exception):
    """The bytes are over before it can be told."""


class _Bits:
    """A reader of bits."""

    __slots__ = ("_bits", "_left")

    def __init__(self, data: bytes) -> None:
        self._bits = int.from_bytes(data, "big") << PADDING_BITS
        self._left = 8 * len(data) + PADDING_BITS

    @property
    def left(self) -> int:
        """Before the end; below 0 behind it."""
        return self._left - PADDING_BITS

    def read(self, size: int) -> int:
        self._left = left = self._left - size
        if left < PADDING_BITS:
            raise _EndError
        return self._bits >> left & (1 << size) - 1

    def skip(self, size: int) -> None:
        self._left -= size

    def align(self) -> None:
        self._left -= self._left % 8

    def pass_words(self, book: int, count: int) -> None:
        """Raises ValueError where there is none."""
        self._left = pass_words(book, count, self._bits, self._left)


class _Channel:
    """What the decoder knows of a channel's windows."""

    __slots__ = ("_ends", "_sections", "_sequence", "bands", "groups", "has_long_term", "is_short")

    def __init__(self, bits: _Bits, rate: int, kind: int, samples: int) -> None:
        """Raises ValueError where a decoder refuses them."""
        bits.skip(1)
        self._sequence = bits.read(2)
        self.is_short = self._sequence == _SHORT_WINDOWS
        bits.skip(1)
        self.has_long_term = False
        self._sections: list[tuple[int, int, int]] = []  # its kind, its bands, its values in all windows of the group
        self._ends = _bands(rate, samples // 8 if self.is_short else samples, is_short=self.is_short)
        if self.is_short:
            self.bands = bits.read(4)
            self.groups = _groups(bits.read(7))
        else:
            self.bands = bits.read(6)
            self.groups = (1,)
            if bits.read(1):
                self._pass_prediction(bits, rate, kind)
        if self.bands >= len(self._ends):
            raise ValueError("more bands than there are")

    def _pass_prediction(self, bits: _Bits, rate: int, kind: int) -> None:
        if kind == _LC:
            raise ValueError("no prediction in this profile")
        if kind == _MAIN:
            if bits.read(1) and not 0 < bits.read(5) <= _MOST_RESET_GROUP:
                raise ValueError("no such group of predictors")
            bits.skip(min(self.bands, _PREDICTED_BANDS[rate]))
            return
        self.has_long_term = True
        self.pass_long_term(bits)

    def pass_long_term(self, bits: _Bits) -> None:
        """Pass how it is predicted from what was long before."""
        if bits.read(1):
            bits.skip(14 + min(self.bands, _MOST_LONG_TERM_BANDS))

    def read_sections(self, bits: _Bits) -> None:
        """Raise ValueError where they do not fill the bands."""
        width, ends, bands = 3 if self.is_short else 5, self._ends, self.bands
        sections = self._sections = []
        for windows in self.groups:
            band = 0
            while band < bands:
                kind = bits.read(4)
                if kind == _RESERVED_BOOK:
                    raise ValueError("no such code book")
                begins = band
                while True:
                    step = bits.read(width)
                    band += step
                    if band > bands:
                        raise ValueError("a section beyond the bands")
                    if step != (1 << width) - 1:
                        break
                sections.append((kind, band - begins, (ends[band] - ends[begins]) * windows))

    def pass_scale_factors(self, bits: _Bits) -> None:
        """Pass one for each band that has any; the first one of noise takes nine bits."""
        count, is_noisy = 0, False
        for kind, bands, _ in self._sections:
            if kind == _NOISE and not is_noisy and bands:
                bits.pass_words(SCALE_FACTORS, count)
                bits.skip(9)
                count, is_noisy = -1, True
            count += bands if kind != _ZERO else 0
        bits.pass_words(SCALE_FACTORS, count)

    @property
    def sounding_bands(self) -> int:
        """Bands that hold anything."""
        return sum(bands for kind, bands, _ in self._sections if kind != _ZERO)

    def pass_tools(self, bits: _Bits, kind: int) -> None:
        """Pass pulses, noise shaping and gain control."""
        if bits.read(1):
            if self.is_short:
                raise ValueError("no pulses in short windows")
            pulses = bits.read(2) + 1
            if bits.read(6) >= len(self._ends) - 1:
                raise ValueError("pulses beyond the bands")
            bits.skip(9 * pulses)
        if bits.read(1):
            self._pass_shaping(bits, kind)
        if bits.read(1):
            windows, first, others = _GAINS[self._sequence]
            for _ in range(bits.read(2)):
                for window in range(windows):
                    bits.skip(bits.read(3) * (4 + (others if window else first or others)))

    def _pass_shaping(self, bits: _Bits, kind: int) -> None:
        short = int(self.is_short)
        most = 7 if short else 20 if kind == _MAIN else 12
        for _ in range(8 if short else 1):
            filters = bits.read(2 - short)
            width = 3 + bits.read(1) if filters else 0
            for _ in range(filters):
                bits.skip(6 - 2 * short)
                order = bits.read(5 - 2 * short)
                if order > most:
                    raise ValueError("no such order")
                if order:
                    bits.skip(1)
                    bits.skip(order * (width - bits.read(1)))

    def pass_spectrum(self, bits: _Bits) -> None:
        """Pass the values of all bands."""
        for kind, _, values in self._sections:
            if _ZERO < kind <= _MOST_SPECTRUM:
                bits.pass_words(kind, values // (4 if kind <= _QUADS else 2))

    def pass_sound(self, bits: _Bits, kind: int) -> None:
        """Pass all that follows its windows."""
        self.read_sections(bits)
        self.pass_scale_factors(bits)
        self.pass_tools(bits, kind)
        self.pass_spectrum(bits)


@cache
def _groups(grouping: int) -> Sequence[int]:
    """How many of eight short windows each group has: a set bit joins the next one to the last."""
    groups = [1]
    for bit in range(6, -1, -1):
        if grouping >> bit & 1:
            groups[-1] += 1
        else:
            groups.append(1)
    return groups


class Blocks(NamedTuple):
    """The blocks of one stream, as its set-up describes them: ``rate`` is one of ``RATES``, ``kind`` an object type."""

    rate: int
    kind: int = _LC
    samples: int = SAMPLES

    def pass_block(self, data: bytes, at: int) -> tuple[int, bool]:
        """Where the block ends that begins at ``at``, or ``at`` where none does; and whether it has sound."""
        bits = _Bits(data[at : at + _MOST_BYTES])
        size, has_sound = bits.left, False
        try:
            while (element := bits.read(3)) != _END:
                if element == _PCE:
                    bits.skip(4)
                    _described(bits)
                elif element in {_FIL, _DSE}:
                    _pass_silent(bits, element)
                else:
                    bits.skip(4)
                    self._pass_channels(bits, element)
                    has_sound = True
                if bits.left < 0:
                    return at, False
        except (_EndError, ValueError):
            return at, False
        return at + (size - bits.left + 7) // 8, has_sound

    def _pass_channels(self, bits: _Bits, element: int) -> None:
        rate, kind, samples = self
        gains, is_single = _pass_coupling(bits) if element == _CCE else (0, True)
        if element == _CPE and bits.read(1):
            channel = _Channel(bits, rate, kind, samples)
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
        for _ in range(element == _CPE):
            bits.skip(8)
            _Channel(bits, rate, kind, samples).pass_sound(bits, kind)
        bits.skip(8)
        channel = _Channel(bits, rate, kind, samples)
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
            return _read_block(_Bits(data[at : at + size]), rate, kind, channels)
        except _EndError:
            continue
        except ValueError:
            return False
    return len(data) - at < LOOKED_AT_BYTES


def _is_none(head: int, rate: int, kind: int, channels: int) -> bool:
    """What the first four bytes refuse already, of what chance makes more than half."""
    element = head >> 29
    if element == _END or (element == _CCE and channels):
        return True
    if element not in {_SCE, _LFE, _CPE}:
        return False
    windows = head >> 1 if element != _CPE else head >> 8 if head >> 24 & 1 else head
    most, most_short = _most_bands(rate)
    if windows >> 13 & 3 == _SHORT_WINDOWS:
        return windows >> 8 & 15 > most_short
    return windows >> 6 & 63 > most or (kind == _LC and windows >> 5 & 1 > 0)


@cache
def _most_bands(rate: int) -> tuple[int, int]:
    """In a long window and in a short one."""
    return len(_bands(rate, SAMPLES, is_short=False)) - 1, len(_bands(rate, SAMPLES // 8, is_short=True)) - 1


def _read_block(bits: _Bits, rate: int, kind: int, channels: int) -> bool:
    described: set[int] | None = None
    while (element := bits.read(3)) != _END:
        if element == _CCE and channels:
            return False
        if element == _PCE:
            described = _described(bits)
            continue
        if element in {_FIL, _DSE}:
            _pass_silent(bits, element)
            continue
        instance = bits.read(4)
        if described is not None and element << _INSTANCE_BITS | instance not in described:
            return False
        if element == _CPE and bits.read(1):
            channel = _Channel(bits, rate, kind, SAMPLES)
            mask = bits.read(2)
            if mask == _RESERVED_MASK:
                return False
            bits.skip(len(channel.groups) * channel.bands * (mask == 1) + 8)
        else:
            if element == _CCE:
                _pass_coupling(bits)
            bits.skip(8)
            channel = _Channel(bits, rate, kind, SAMPLES)
        channel.read_sections(bits)
        return True
    return False


def _pass_silent(bits: _Bits, element: int) -> None:
    """Pass an element that holds no sound."""
    if element == _FIL:
        size = bits.read(4)
        size += bits.read(8) - 1 if size == 15 else 0
        while size > 0:
            if bits.read(4) != _RANGE_CONTROL:
                bits.skip(8 * size - 4)
                return
            size -= _pass_range_control(bits)
        return
    bits.skip(4)
    is_aligned, size = bits.read(1), bits.read(8)
    size += bits.read(8) if size == 255 else 0
    if is_aligned:
        bits.align()
    bits.skip(8 * size)


def _pass_range_control(bits: _Bits) -> int:
    """Pass what controls the dynamic range (section 4.5.2.7), which decoders read to its own end; its bytes."""
    size, bands = 1, 1
    if bits.read(1):
        bits.skip(8)
        size += 1
    if bits.read(1):  # some channels are left out
        for turn in range(_MOST_LEFT_OUT):
            bits.skip(7)
            size += 1
            if turn == _MOST_LEFT_OUT - 1 or not bits.read(1):
                break
    if bits.read(1):
        bands += bits.read(4)
        bits.skip(4 + 8 * bands)
        size += 1 + bands
    if bits.read(1):
        bits.skip(8)
        size += 1
    bits.skip(8 * bands)
    return size + bands


def _described(bits: _Bits) -> set[int]:
    """Read a description of the channels (section 4.4.1.1): their elements, by kind and instance. No others come."""
    bits.skip(10)
    front, side, back, low, data, coupled = (bits.read(width) for width in (4, 4, 4, 2, 3, 4))
    for width in (4, 4, 3):
        bits.skip(width * bits.read(1))
    elements = set(_each(bits, front + side + back, 5))  # of a pair the first bit is set: _CPE
    elements.update(_LFE << _INSTANCE_BITS | instance for instance in _each(bits, low, 4))
    bits.skip(4 * data)
    elements.update(_CCE << _INSTANCE_BITS | instance & 15 for instance in _each(bits, coupled, 5))
    bits.align()
    bits.skip(8 * bits.read(8))
    return elements


def _each(bits: _Bits, count: int, size: int) -> list[int]:
    """So many numbers of so many bits, read at once."""
    together, mask = bits.read(count * size), (1 << size) - 1
    return [together >> at & mask for at in range(0, count * size, size)]


def _pass_coupling(bits: _Bits) -> tuple[int, bool]:
    """Pass what a coupling channel says of itself: how many gains follow its sound, and whether each is one word."""
    is_single, gains = bits.read(1), -1
    for _ in range(bits.read(3) + 1):
        is_pair = bits.read(1)
        bits.skip(4)
        gains += 1 + (bits.read(2) == _BOTH if is_pair else 0)
    bits.skip(4)
    return gains, is_single > 0
