"""What the packets of a CAF play, by codec. It is the codec's to say, and not the description's."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

from policies.audio.aac import setup as aac
from policies.audio.aac.blocks import Blocks
from policies.audio.ac3 import Ac3Walker
from policies.audio.ac3 import frame_of as ac3_frame_of
from policies.audio.amr import NARROW_BYTES, AmrFrames
from policies.audio.caf.table import Table
from policies.audio.flac import FlacWalker
from policies.audio.mp4.descriptions import descriptors
from policies.audio.mpeg import MpegWalker, shapes
from policies.audio.opus import MOST_SAMPLES as MOST_OPUS
from policies.audio.opus import RATE as OPUS_RATE
from policies.audio.opus import packet_samples
from policies.audio.walker import milliseconds

_NS_PER_MS, _AMR_RATE, _UNKNOWN_RATE = 1_000_000, 8_000, 8_000
_LEAST_AAC_BYTES = 64
_STREAMINFO_BYTES, _FLAC_HEAD = 34, b"fLaC\x80\0\0\x22"
_ALAC_BYTES, _OLD_ALAC, _OLD_ALAC_BYTES = 24, b"frmaalac", 24


class Description(NamedTuple):
    """What the file says of its sound: its rate, samples to the packet, all samples (0: unknown), the cookie."""

    rate: int
    """0 where it is none."""
    samples: int
    """0 where they vary."""
    total: int
    cookie: bytes


class Kind(ABC):
    """One codec's packets."""

    __slots__ = ()

    codec: ClassVar[str]
    needs_table: ClassVar[bool] = True
    """Whether without one nobody can tell."""

    def take(self, data: bytes, said: Description) -> None:  # noqa: B027  most kinds ask the table alone
        """More of the data."""

    @abstractmethod
    def ms(self, table: Table, said: Description) -> int:
        """What they play."""

    def is_unsure(self, table: Table, said: Description) -> bool:  # noqa: ARG002
        """Whether that is a guess."""
        return table.is_odd


class Opus(Kind):
    """Each packet as long as is stated, and as the longest of those that were kept."""

    __slots__ = ()
    codec = "opus"

    def ms(self, table: Table, said: Description) -> int:
        """See :class:`Kind`."""
        return milliseconds(table.count * max(self._most(table), self._stated(said)), OPUS_RATE)

    def is_unsure(self, table: Table, said: Description) -> bool:
        """See :class:`Kind`."""
        return table.is_odd or self._stated(said) != self._most(table)

    @staticmethod
    def _most(table: Table) -> int:
        return max((packet_samples(head, 0, size) for head, size in table.kept()), default=MOST_OPUS)

    @staticmethod
    def _stated(said: Description) -> int:
        return min(said.samples * OPUS_RATE // said.rate, MOST_OPUS) if said.rate else MOST_OPUS


class Aac(Kind):
    """Each packet a block, unless several were packed into one."""

    __slots__ = ()
    codec = "aac"

    def ms(self, table: Table, said: Description) -> int:
        """See :class:`Kind`. Without a set-up no decoder plays it."""
        _, config = descriptors(said.cookie)
        samples, rate = aac.frame_of(config) or (aac.SAMPLES, said.rate or aac.RATES[-1])
        return milliseconds(self._blocks(table, config) * samples, rate)

    def is_unsure(self, table: Table, said: Description) -> bool:
        """See :class:`Kind`."""
        return table.is_odd or self._blocks(table, descriptors(said.cookie)[1]) > table.count

    @staticmethod
    def _blocks(table: Table, config: bytes) -> int:
        if table.is_odd:
            return table.data // _LEAST_AAC_BYTES
        most = table.data // (aac.MOST_BYTES * aac.channels_of(config))
        plain = aac.blocks_of(config)
        packed = table.windows.most_blocks(Blocks(*plain), table.pairs, table.data) if plain and table.count else 0
        return max(table.count, most, packed)


class Alac(Kind):
    """Each packet a frame, the last one as long as is stated."""

    __slots__ = ()
    codec = "alac"

    def ms(self, table: Table, said: Description) -> int:
        """See :class:`Kind`."""
        cookie = said.cookie[_OLD_ALAC_BYTES:] if said.cookie[4:].startswith(_OLD_ALAC) else said.cookie
        frame = int.from_bytes(cookie[:4], "big") if len(cookie) >= _ALAC_BYTES else said.samples
        rates = (said.rate, int.from_bytes(cookie[20:24], "big"))
        rate = min(filter(None, rates), default=_UNKNOWN_RATE)
        most = table.count * frame
        return milliseconds(max(min(said.total or most, most), most - frame), rate)


class Flac(Kind):
    """Frames, wherever they stand."""

    __slots__ = ("_walker",)
    codec = "flac"
    needs_table = False

    def __init__(self) -> None:
        self._walker: FlacWalker | None = None

    def take(self, data: bytes, said: Description) -> None:
        """See :class:`Kind`."""
        if self._walker is None:
            self._walker = FlacWalker()
            info = said.cookie[-_STREAMINFO_BYTES:]
            self._walker.feed(_FLAC_HEAD + info if len(info) == _STREAMINFO_BYTES else b"")
        self._walker.feed(data)

    def ms(self, table: Table, said: Description) -> int:  # noqa: ARG002
        """See :class:`Kind`."""
        return (self._walker.ms if self._walker else None) or 0


class _Framed(Kind):
    """Frames one behind the other, each a packet. Where one that was kept is not, as many as there may be."""

    __slots__ = ("_walker",)
    needs_table = False
    WALKER: ClassVar[Callable[[], "MpegWalker | Ac3Walker | AmrFrames"]]
    LONGEST_MS: ClassVar[int]
    LEAST_BITS: ClassVar[int]
    """A second."""

    def __init__(self) -> None:
        self._walker = type(self).WALKER()

    def take(self, data: bytes, said: Description) -> None:  # noqa: ARG002
        """See :class:`Kind`."""
        self._walker.feed(data)

    def ms(self, table: Table, said: Description) -> int:  # noqa: ARG002
        """See :class:`Kind`."""
        walked = self._walker.ns // _NS_PER_MS
        if self._is_plain(table):
            return walked
        return max(walked, table.count * self.LONGEST_MS, table.data * 8000 // self.LEAST_BITS)

    def is_unsure(self, table: Table, said: Description) -> bool:  # noqa: ARG002
        """See :class:`Kind`."""
        return not self._is_plain(table)

    def _is_plain(self, table: Table) -> bool:
        return not table.is_odd and all(self.length(head) == size for head, size in table.kept())

    @staticmethod
    @abstractmethod
    def length(head: bytes) -> int:
        """Of the frame that begins so."""


class _Mpeg(_Framed):
    __slots__ = ()
    WALKER = staticmethod(lambda: MpegWalker(is_linked=False))
    LONGEST_MS, LEAST_BITS = 72, 8_000

    @staticmethod
    def length(head: bytes) -> int:
        """See :class:`_Framed`."""
        shape = shapes().get(head[:3])
        return shape.length if shape else 0


class Mp3(_Mpeg):
    """Layer III."""

    __slots__ = ()
    codec = "mp3"


class Mp2(_Mpeg):
    """Layer II."""

    __slots__ = ()
    codec = "mp2"


class Mp1(_Mpeg):
    """Layer I."""

    __slots__ = ()
    codec = "mp1"


class Ac3(_Framed):
    """AC-3."""

    __slots__ = ()
    codec = "ac3"
    WALKER = staticmethod(lambda: Ac3Walker(is_linked=False))
    LONGEST_MS, LEAST_BITS = 96, 32_000

    @staticmethod
    def length(head: bytes) -> int:
        """See :class:`_Framed`."""
        frame = ac3_frame_of(head)
        return frame[0] if frame else 0


class Amr(_Framed):
    """AMR, of any of its bit rates."""

    __slots__ = ()
    codec = "amr_nb"
    WALKER = staticmethod(lambda: AmrFrames(wide=False))
    LONGEST_MS, LEAST_BITS = 20, 5_200

    def ms(self, table: Table, said: Description) -> int:
        """See :class:`Kind`. Decoders play it at the file's rate."""
        return super().ms(table, said) * _AMR_RATE // min(said.rate or _AMR_RATE, _AMR_RATE)

    @staticmethod
    def length(head: bytes) -> int:
        """See :class:`_Framed`."""
        return NARROW_BYTES[head[0] >> 3 & 15]


KINDS: dict[bytes, Callable[[], Kind]] = {
    b"opus": Opus,
    b"aac ": Aac,
    b"alac": Alac,
    b"flac": Flac,
    b".mp1": Mp1,
    b".mp2": Mp2,
    b".mp3": Mp3,
    b"ac-3": Ac3,
    b"samr": Amr,
}
"""By the description's name."""
