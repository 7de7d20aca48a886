"""Resampling by a windowed sinc: band-limited, so that what lies above the new Nyquist frequency does not fold back.

A linear interpolator would be shorter, and would mirror everything above 8 kHz of a 48 kHz recording into the very
band where consonants are told apart.
"""

import math
from collections.abc import Sequence
from operator import mul

_ZERO_CROSSINGS = 8
"""How many of the sinc's are taken on either side of its centre. From 48 kHz: some 50 multiplications a sample."""
_ROLL_OFF = 0.94
"""The pass band as a share of what the slower of the two rates can carry; the rest is the filter's slope."""


class Resampler:
    """Brings a stream from one rate to another, however it is cut into blocks. Rates are hertz."""

    def __init__(self, source_rate: int, target_rate: int) -> None:
        common = math.gcd(source_rate, target_rate)
        self._up, self._down = target_rate // common, source_rate // common
        self._cutoff = min(1.0, target_rate / source_rate) * _ROLL_OFF
        self._half = math.ceil(_ZERO_CROSSINGS / self._cutoff)
        self._filters: dict[int, list[float]] = {}
        # Silence before the first sample, so that the first output is centred on it.
        self._history = [0.0] * (self._half - 1)
        self._phase = 0

    def feed(self, samples: Sequence[float]) -> list[float]:
        """Every output whose surroundings are known by now."""
        history, taps, phase, at = self._history, 2 * self._half, self._phase, 0
        history.extend(samples)
        out = []
        while at + taps <= len(history):
            out.append(sum(map(mul, self._filter(phase), history[at : at + taps])))
            phase += self._down
            at += phase // self._up
            phase %= self._up
        del history[:at]
        self._phase = phase
        return out

    def finish(self) -> list[float]:
        """The outputs up to the last sample, which silence follows."""
        return self.feed([0.0] * self._half)

    def _filter(self, phase: int) -> list[float]:
        """The taps for an output that lies ``phase / up`` of a sample after the centre tap; their sum is 1."""
        if phase not in self._filters:
            centre = self._half - 1 + phase / self._up
            taps = [self._tap(at - centre) for at in range(2 * self._half)]
            total = sum(taps)
            self._filters[phase] = [tap / total for tap in taps]
        return self._filters[phase]

    def _tap(self, distance: float) -> float:
        """A sinc under a Hann window."""
        angle = math.pi * distance * self._cutoff
        sinc = math.sin(angle) / angle if angle else 1.0
        return sinc * (0.5 + 0.5 * math.cos(math.pi * distance / self._half))
