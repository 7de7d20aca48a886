"""Whether bytes are the beginning of a block of AAC (ISO/IEC 14496-3 section 4.4.2), as a decoder finds out.

Compressed data imitates a frame's header now and then: loud stereo, whose code words are runs of ones, four times as
often as chance. What stands behind such a header is then no block: its sections, which are read here up to the first
channel's scale factors, do not fill the bands that they are for.
"""

from policies.audio.aac import RATES

LOOKED_AT_BYTES = 320
"""Behind a header. What more of filling stands before a block costs its sender as much as the block may save."""
_USUAL_BYTES = 16
"""As many as tell it nearly always."""

_BANDS = dict(zip(RATES, (41, 41, 47, 49, 49, 51, 47, 47, 43, 43, 43, 40, 40), strict=True))
_SHORT_BANDS = dict(zip(RATES, (12, 12, 12, 14, 14, 14, *(15,) * 7), strict=True))
_SCE, _CPE, _CCE, _LFE, _DSE, _PCE, _FIL, _END = range(8)
_SHORT_WINDOWS = 2
_RESERVED_MASK, _RESERVED_BOOK = 3, 12
_MAIN, _LC = 1, 2
_PREDICTED_BANDS = dict(zip(RATES, (33, 33, 38, 40, 40, 40, 41, 41, 37, 37, 37, 34, 34), strict=True))
_MOST_RESET_GROUP, _MOST_LONG_TERM_BANDS = 30, 40


class _EndError(Exception):
    """The bytes are over before it can be told."""


class _Bits:
    """A reader of bits."""

    __slots__ = ("_bits", "_left")

    def __init__(self, data: bytes) -> None:
        self._bits = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def read(self, size: int) -> int:
        self._left = left = self._left - size
        if left < 0:
            raise _EndError
        return self._bits >> left & (1 << size) - 1

    def skip(self, size: int) -> None:
        self._left -= size

    def align(self) -> None:
        self._left -= self._left % 8


class _Channel:
    """What the decoder knows of a channel's windows."""

    __slots__ = ("bands", "groups", "is_short")

    def __init__(self, bits: _Bits, rate: int, kind: int) -> None:
        """Raises ValueError where a decoder refuses them."""
        bits.skip(1)
        self.is_short = bits.read(2) == _SHORT_WINDOWS
        bits.skip(1)
        if self.is_short:
            self.bands = bits.read(4)
            self.groups = 8 - bits.read(7).bit_count()
        else:
            self.bands = bits.read(6)
            self.groups = 1
            if bits.read(1):
                self._pass_prediction(bits, rate, kind)
        if self.bands > (_SHORT_BANDS if self.is_short else _BANDS)[rate]:
            raise ValueError("more bands than there are")

    def _pass_prediction(self, bits: _Bits, rate: int, kind: int) -> None:
        if kind == _LC:
            raise ValueError("no prediction in this profile")
        if kind == _MAIN:
            if bits.read(1) and not 0 < bits.read(5) <= _MOST_RESET_GROUP:
                raise ValueError("no such group of predictors")
            bits.skip(min(self.bands, _PREDICTED_BANDS[rate]))
        elif bits.read(1):
            bits.skip(14 + min(self.bands, _MOST_LONG_TERM_BANDS))

    def read_sections(self, bits: _Bits) -> None:
        """Raise ValueError where they do not fill the bands."""
        width = 3 if self.is_short else 5
        for _ in range(self.groups):
            band = 0
            while band < self.bands:
                if bits.read(4) == _RESERVED_BOOK:
                    raise ValueError("no such code book")
                while True:
                    step = bits.read(width)
                    band += step
                    if band > self.bands:
                        raise ValueError("a section beyond the bands")
                    if step != (1 << width) - 1:
                        break


def begins_block(data: bytes, rate: int, kind: int, channels: int) -> bool:
    """Whether a decoder would find sound in the block that ``data`` begins; True where the stream ends too early.

    ``kind`` is the audio object type that the header in front says, ``channels`` its channel configuration: none but
    the one that is described elsewhere (0) has coupling channels.
    """
    for size in (_USUAL_BYTES, len(data)):
        try:
            return _read_block(_Bits(data[:size]), rate, kind, channels)
        except _EndError:
            continue
        except ValueError:
            return False
    return len(data) < LOOKED_AT_BYTES


def _read_block(bits: _Bits, rate: int, kind: int, channels: int) -> bool:
    described: set[tuple[int, int]] | None = None
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
        if described is not None and (element, instance) not in described:
            return False
        if element == _CPE and bits.read(1):
            channel = _Channel(bits, rate, kind)
            mask = bits.read(2)
            if mask == _RESERVED_MASK:
                return False
            bits.skip(channel.groups * channel.bands * (mask == 1) + 8)
        else:
            if element == _CCE:
                _pass_coupling(bits)
            bits.skip(8)
            channel = _Channel(bits, rate, kind)
        channel.read_sections(bits)
        return True
    return False


def _pass_silent(bits: _Bits, element: int) -> None:
    """Pass an element that holds no sound."""
    if element == _FIL:
        size = bits.read(4)
        bits.skip(8 * (size + bits.read(8) - 1 if size == 15 else size))
        return
    bits.skip(4)
    is_aligned, size = bits.read(1), bits.read(8)
    size += bits.read(8) if size == 255 else 0
    if is_aligned:
        bits.align()
    bits.skip(8 * size)


def _described(bits: _Bits) -> set[tuple[int, int]]:
    """Read a description of the channels (section 4.4.1.1): their elements, by kind and instance. No others come."""
    bits.skip(10)
    front, side, back, low, data, coupled = (bits.read(width) for width in (4, 4, 4, 2, 3, 4))
    for width in (4, 4, 3):
        bits.skip(width * bits.read(1))
    elements = {(bits.read(1), bits.read(4)) for _ in range(front + side + back)}  # of a pair the first is set: _CPE
    elements |= {(_LFE, bits.read(4)) for _ in range(low)}
    bits.skip(4 * data)
    elements |= {(_CCE, bits.read(5) & 15) for _ in range(coupled)}
    bits.align()
    bits.skip(8 * bits.read(8))
    return elements


def _pass_coupling(bits: _Bits) -> None:
    """Pass what a coupling channel says of itself."""
    bits.skip(1)
    for _ in range(bits.read(3) + 1):
        is_pair = bits.read(1)
        bits.skip(4 + 2 * is_pair)
    bits.skip(4)
