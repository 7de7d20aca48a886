"""A channel of a block of AAC (ISO/IEC 14496-3 section 4.4.2.7): windows, sections, scale factors, tools, spectrum."""

from collections.abc import Sequence
from functools import cache

from policies.audio.aac.bands import bands_of
from policies.audio.aac.bits import Bits
from policies.audio.aac.setup import RATES
from policies.audio.aac.spectrum import SCALE_FACTORS

MAIN, LC = 1, 2
"""Audio object types."""
SHORT_WINDOWS = 2
_RESERVED_BOOK = 12
_PREDICTED_BANDS = dict(zip(RATES, (33, 33, 38, 40, 40, 40, 41, 41, 37, 37, 37, 34, 34), strict=True))
_MOST_RESET_GROUP, _MOST_LONG_TERM_BANDS = 30, 40
_ZERO, _QUADS, _MOST_SPECTRUM, _NOISE = 0, 4, 11, 13
"""Kinds of section: up to the fourth book a word has four values, and two in later ones."""
_GAINS = ((1, 0, 5), (2, 4, 2), (8, 0, 2), (2, 4, 5))
"""By window sequence: how many windows gain control has, bits of the first one and of others (0: like those)."""


class Channel:
    """What the decoder knows of a channel's windows."""

    __slots__ = ("_ends", "_sections", "_sequence", "bands", "groups", "has_long_term", "is_short")

    def __init__(self, bits: Bits, rate: int, kind: int, samples: int) -> None:
        """Raises ValueError where a decoder refuses them."""
        bits.skip(1)
        self._sequence = bits.read(2)
        self.is_short = self._sequence == SHORT_WINDOWS
        bits.skip(1)
        self.has_long_term = False
        self._sections: list[tuple[int, int, int]] = []  # its kind, its bands, its values in all windows of the group
        self._ends = bands_of(rate, samples // 8 if self.is_short else samples, is_short=self.is_short)
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

    def _pass_prediction(self, bits: Bits, rate: int, kind: int) -> None:
        if kind == LC:
            raise ValueError("no prediction in this profile")
        if kind == MAIN:
            if bits.read(1) and not 0 < bits.read(5) <= _MOST_RESET_GROUP:
                raise ValueError("no such group of predictors")
            bits.skip(min(self.bands, _PREDICTED_BANDS[rate]))
            return
        self.has_long_term = True
        self.pass_long_term(bits)

    def pass_long_term(self, bits: Bits) -> None:
        """Pass how it is predicted from what was long before."""
        if bits.read(1):
            bits.skip(14 + min(self.bands, _MOST_LONG_TERM_BANDS))

    def read_sections(self, bits: Bits) -> None:
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

    def pass_scale_factors(self, bits: Bits) -> None:
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

    def pass_tools(self, bits: Bits, kind: int) -> None:
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

    def _pass_shaping(self, bits: Bits, kind: int) -> None:
        short = int(self.is_short)
        most = 7 if short else 20 if kind == MAIN else 12
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

    def pass_spectrum(self, bits: Bits) -> None:
        """Pass the values of all bands."""
        for kind, _, values in self._sections:
            if _ZERO < kind <= _MOST_SPECTRUM:
                bits.pass_words(kind, values // (4 if kind <= _QUADS else 2))

    def pass_sound(self, bits: Bits, kind: int) -> None:
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
