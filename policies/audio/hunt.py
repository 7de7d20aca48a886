"""For bytes that begin like nothing known: frames that FFmpeg would find in them all the same.

It looks at the first megabyte and plays MPEG audio, ADTS, LOAS, AC-3 or DTS behind any rubbish, AMR without its magic,
GSM without any, MP4 whose first box has a name that nobody knows, NUT and transport streams, and Ogg in a file that is
called so. Others must begin at once.
"""

from policies.audio.ac3 import Ac3Walker
from policies.audio.adts import AdtsWalker, LatmWalker
from policies.audio.amr import BareAmrWalker
from policies.audio.dts import PROBED_BYTES as DTS_PROBED_BYTES
from policies.audio.dts import DtsWalker, is_dts
from policies.audio.mp4.walker import Mp4Walker
from policies.audio.mpeg import MpegWalker
from policies.audio.mpegts.walker import PROBED_BYTES, PROBES, TsWalker, is_transport, seems_transport
from policies.audio.nut import NutWalker
from policies.audio.ogg import OggWalker
from policies.audio.speech import BareGsmWalker
from policies.audio.walker import Chunk, Walker

_MOST_HUNTED_BYTES = 2 << 20
"""Twice what FFmpeg looks at. What is no audio by then is not looked at further."""

_LEAST_STRANGE_BYTES = 1024
_LEAST_BEGIN_BYTES = 12


class HuntWalker:
    """All walkers at once; the one that plays longest speaks.

    MP3 in an MP4 with more of it behind is played as the movie or as frames, by who reads it.
    """

    __slots__ = (
        "_begin", "_dts", "_head", "_is_whole", "_left", "_loas", "_movie", "_seems_transport", "_told", "_transport",
        "_walkers", "strange",
    )  # fmt: skip

    claimed_ms = None

    def __init__(self, *, is_whole: bool = False) -> None:
        """``is_whole`` says that the file begins here, with no tag in front of it."""
        self._head = b""
        self._begin: bytearray | None = bytearray() if is_whole else None
        """The file's first bytes, while they may say that it is DTS."""
        self._is_whole = is_whole
        self._seems_transport = False
        self.strange = 0
        """Bytes that belong to no frame."""
        self._left = _MOST_HUNTED_BYTES
        self._movie = Mp4Walker()
        self._loas = LatmWalker(is_linked=False)
        self._transport = TsWalker()
        self._dts = DtsWalker(is_linked=False)
        self._told: tuple[Walker, ...] = (
            self._loas,
            Ac3Walker(is_linked=False),
            BareAmrWalker(wide=False),
            BareAmrWalker(wide=True),
            BareGsmWalker(),
            OggWalker(),
            NutWalker(),
        )
        """Which chance makes none of."""
        self._walkers: tuple[Walker, ...] = (
            MpegWalker(is_linked=False),
            AdtsWalker(is_linked=False),
            *self._told,
            self._dts,
            self._movie,
            self._transport,
        )

    @property
    def _best(self) -> Walker | None:
        """Chance makes LOAS of any bytes, its sync being short: it speaks of a file that is mostly that.

        In a transport stream without rubbish others find what it holds as well, in pieces. FFmpeg plays those where it
        takes the file for something else, because the packets are full of syncs.
        """
        if self._walkers == (self._dts,):
            return self._dts
        able: list[Walker] = [self._transport, self._movie]
        is_clean = self._transport.explains and self._transport.strange <= _LEAST_STRANGE_BYTES
        if not (is_clean and self._seems_transport):
            loas = self._loas
            able = [one for one in self._walkers if one is not loas or loas.strange * 2 <= loas.passed]
        return max(able, key=lambda walker: (walker.ms or 0, -walker.strange), default=None)

    @property
    def ms(self) -> int | None:
        """Of the frames found."""
        return self._best.ms if self._best else None

    @property
    def codec(self) -> str:
        """Of the frames found; empty without any."""
        return self._best.codec if self._best and self._best.ms else ""

    @property
    def channels(self) -> int | None:
        """Of the frames found."""
        return self._best.channels if self._best and self._best.ms else None

    @property
    def unsure(self) -> bool:
        """Whether there are any: but for transport streams nobody makes such a file on purpose."""
        best = self._best
        return self.ms is not None and (best is not self._transport or best.unsure)

    def feed(self, chunk: Chunk) -> None:
        """The next bytes."""
        if self._begin is not None:
            first = chunk[: DTS_PROBED_BYTES - len(self._begin)]
            self._begin += first
            self._hunt(first)
            chunk = chunk[len(first) :]
            self._judge_begin(bytes(self._begin))
        if chunk:
            self._hunt(chunk)

    def _judge_begin(self, begin: bytes) -> None:
        """Judge by the file's first bytes whether FFmpeg takes it for DTS."""
        if len(begin) < DTS_PROBED_BYTES:
            self._begin = self._begin if DtsWalker.begins(begin) or len(begin) < _LEAST_BEGIN_BYTES else None
            return
        self._begin = None
        is_packets = self._seems_transport or self._transport.explains
        if is_dts(begin) and not is_packets and not any(one.ms for one in self._told):
            self._walkers, self._left = (self._dts,), 0

    def _hunt(self, chunk: Chunk) -> None:
        if len(self._head) < PROBES[-1]:
            self._probe(chunk)
        if 0 < self._left <= len(chunk):
            self._feed(chunk[: self._left])
            chunk, self._left = chunk[self._left :], 0
            hunted = _MOST_HUNTED_BYTES
            self._walkers = tuple(one for one in self._walkers if one.ms and one.strange * 2 <= hunted)
            if self._movie.holds_media and self._movie not in self._walkers:
                self._walkers += (self._movie,)  # what it holds may be told at its end
        elif self._left:
            self._left -= len(chunk)
        self._feed(chunk)

    def _probe(self, chunk: Chunk) -> None:
        """Judge by the file's first bytes whether FFmpeg takes it for a transport stream."""
        known = len(self._head)
        self._head += chunk[: PROBES[-1] - known]
        if self._is_whole and known < PROBED_BYTES and is_transport(self._head):
            self._walkers, self._left = (self._transport,), 0
        elif len(self._walkers) > 1 and not self._seems_transport:
            sizes = (size for size in PROBES if known < size <= len(self._head))
            self._seems_transport = any(seems_transport(self._head[:size]) for size in sizes)

    def _feed(self, chunk: Chunk) -> None:
        for walker in self._walkers:
            walker.feed(chunk)
        best = self._transport if self._transport.explains else self._best
        self.strange = best.strange if best else self.strange + len(chunk)
