"""One stream of a transport stream: the frames of sound in it, if there are any; what no frames explain is weighed."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

from policies.audio.ac3 import Ac3Walker
from policies.audio.adts import AdtsWalker, LatmWalker
from policies.audio.dts import DtsWalker
from policies.audio.frames import FrameWalker
from policies.audio.mpeg import MpegWalker
from policies.audio.mpegts.opus import OpusElements
from policies.audio.mpegts.packets import PES_BYTES

_CLEAR_BYTES, _TRIED_BYTES = 8_192, 65_536
"""What is looked at of a stream before it is known what it is: where frames of one kind explain all of it, and else."""
_WEIGHED_BITS = 32_000
OPUS_TIMES = 8
"""How much more thrifty Opus is than what is weighed."""
_KINDS: tuple[type[FrameWalker], ...] = (MpegWalker, AdtsWalker, LatmWalker, Ac3Walker, DtsWalker)


Frames: TypeAlias = FrameWalker | OpusElements


class Said(NamedTuple):
    """How long a stream plays, of frames and of what is weighed in it."""

    ms: int
    frames: Frames | None
    """Who walks those that explain most of it; None where none do."""
    weighed_ms: int
    """What of it is weighed."""


class Stream:
    """Its bytes, as they come in packets."""

    __slots__ = ("_due", "_head", "_opus", "_passed", "_pieces", "_said", "_skip", "_walkers", "is_opus")

    def __init__(self) -> None:
        self._opus: OpusElements | None = OpusElements()
        self._walkers: Sequence[Frames] = [*(kind(is_linked=False) for kind in _KINDS), self._opus]
        self._pieces: list[bytes] = []
        self._passed = self._skip = 0
        self._head = b""  # of an element, while it is too short to say how long it is
        self.is_opus = False
        """Whether tables call it so."""
        self._due: int | None = _CLEAR_BYTES
        self._said: Said | None = None

    def call(self, *, opus: bool) -> None:
        """Tables call it Opus, or do not: decoders play as that whatever stands in its elements."""
        if opus != self.is_opus:
            self.is_opus, self._said = opus, None

    def begin(self, payload: bytes) -> None:
        """A packetised element begins (section 2.4.3.6)."""
        self._head = payload if len(payload) < PES_BYTES else b""
        if self._head:
            return
        header = PES_BYTES + payload[8]
        self._skip = max(header - len(payload), 0)
        self._add(payload[header:], (0,))

    @property
    def is_in_header(self) -> bool:
        """Whether what comes next belongs to a header."""
        return self._skip > 0 or len(self._head) > 0

    @property
    def wants_begins(self) -> bool:
        """Whether it has to know where its elements begin."""
        return self._opus is not None

    def go_on(self, payload: bytes, begins: Iterable[int] = ()) -> None:
        """More of it; others begin at these places in it."""
        if self._head:
            self.begin(self._head + payload)
            return
        if self._skip:
            skipped = min(self._skip, len(payload))
            self._skip -= skipped
            payload = payload[skipped:]
        self._add(payload, begins)

    def _add(self, payload: bytes, begins: Iterable[int]) -> None:
        self._said = None
        if self._opus:
            self._opus.begins.extend(self._passed + begin for begin in begins)
        self._pieces.append(payload)
        self._passed += len(payload)

    def flush(self) -> None:
        """Walk what has come."""
        if self._pieces:
            data = b"".join(self._pieces)
            self._pieces = []
            for walker in self._walkers:
                walker.feed(data)

    @property
    def is_judged(self) -> bool:
        """Whether it is known what it is."""
        return self._due is None

    @property
    def room(self) -> int | None:
        """Bytes up to the next look at it; None where there is none."""
        return None if self._due is None else self._due - self._passed

    def look(self) -> None:
        """Look what its bytes are, of which there are as many as were waited for."""
        self.flush()
        speaking = self._speaking()
        if self._passed >= _TRIED_BYTES or (len(speaking) == 1 and not speaking[0].strange):
            opus = self._walkers[-1]
            if self.is_opus and speaking and opus not in speaking:
                speaking.append(opus)
            self._walkers, self._due, self._said = speaking or [self._walkers[0], opus], None, None
            self._opus = self._opus if opus in self._walkers else None
        else:
            self._due = _TRIED_BYTES

    def _speaking(self) -> list[Frames]:
        """Those that explain most of it; of DTS and Opus, which begin alike, DTS where that explains all."""
        speaking = [one for one in self._walkers if self._speaks(one)]
        is_dts = any(isinstance(one, DtsWalker) and not one.strange for one in speaking)
        return [one for one in speaking if one is not self._opus] if is_dts else speaking

    @staticmethod
    def _speaks(walker: Frames) -> bool:
        return bool(walker.ms) and walker.strange * 2 <= walker.passed

    @property
    def said(self) -> Said:
        """What is known of it so far; of many streams somebody may ask after every packet."""
        if self._said is None:
            frames = max(self._speaking(), key=lambda one: one.ms or 0, default=None)
            weighed_ms = weight_ms(self._passed if frames is None else frames.strange)
            ms = weighed_ms + (frames.ms or 0 if frames else 0)
            if self.is_opus:
                as_opus = self._opus.ms or 0 if self._opus else weight_ms(self._passed) * OPUS_TIMES
                ms = max(ms, as_opus)
            self._said = Said(ms, frames, weighed_ms)
        return self._said


def weight_ms(size: int) -> int:
    """How long so many bytes play, at the bit rate of thrifty speech."""
    return size * 8000 // _WEIGHED_BITS
