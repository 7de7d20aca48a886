"""WAV (RIFF, RIFX, RF64, BW64): the bytes of every data chunk, over the frame that the format chunk describes.

The byte rate is never read: players ignore it. Of several format chunks FFmpeg obeys the first and libsndfile the last:
the one that plays longest counts. What no size may hide stands in ``policies.audio.chunks``.
"""

from collections.abc import Callable, Mapping
from typing import Literal

from policies.audio.ac3 import Ac3Walker
from policies.audio.act import Act
from policies.audio.adts import AdtsWalker
from policies.audio.chunks import FORM, ChunkWalker, Reading
from policies.audio.disguise import Disguise
from policies.audio.dts import DtsWalker
from policies.audio.flac import FlacWalker
from policies.audio.mpeg import MpegWalker
from policies.audio.speech import G723_TAGS, G723Walker
from policies.audio.walker import Chunk, Walker
from policies.audio.wav_formats import read_format
from policies.audio.wma import TAGS as WMA
from policies.audio.wma import Wma

_METADATA_NAMES = (
    b"LISTlistbextiXMLid3 ID3 factcue smplinstPEAKcartaxmlchna_PMXlevlacidDISPumidminfelm1regnafspubxtSAUR"
)
_LARGEST_SIZE = (1 << 63) - 1
_FRAMED: Mapping[int, Callable[[], Walker]] = {
    0x0050: MpegWalker,
    0x0055: MpegWalker,
    0x1600: AdtsWalker,
    0x2000: lambda: Ac3Walker(is_linked=False),
    0x2001: lambda: DtsWalker(is_linked=False),
    0xF1AC: FlacWalker,
}
"""Format tags whose data is a stream of frames."""
_EXTENSIBLE, _KIND_AT, _EAC3 = 0xFFFE, 24, bytes.fromhex("af87fba7022dfb42a4d405cd93843bdd")
_LEAST_WMA_BYTES = 18
_PLAIN = 0x0001
"""The one whose data FFmpeg probes for another codec's."""
_KNOWN = G723_TAGS | {_PLAIN}


class _Reading(Reading):
    __slots__ = ("is_foreign",)

    DATA = b"data"
    READ = {b"fmt ": 14, b"ds64": 16}  # noqa: RUF012  a table, never written to
    METADATA = frozenset(_METADATA_NAMES[at : at + 4] for at in range(0, len(_METADATA_NAMES), 4))

    def __init__(self) -> None:
        super().__init__()
        self.is_foreign = False
        """Whether its samples are said to be in a codec that is not known."""

    def take(self, kind: bytes, whole: bytes) -> None:
        if kind == FORM:
            self.order = ">" if whole.startswith(b"RIFX") else "<"
            self.is_long = whole.startswith((b"RF64", b"BW64"))
        elif kind == b"ds64":
            self.long_size = min(int.from_bytes(whole[8:16], "little"), _LARGEST_SIZE)
        else:
            tag = int.from_bytes(whole[:2], "little" if self.order == "<" else "big")
            if tag in WMA and self.order == "<" and len(whole) >= _LEAST_WMA_BYTES and not (self.layouts or self.inner):
                self.inner = Wma(whole)
                return
            layout = read_format(whole, self.order)
            self.add_layout(layout)
            framed = _FRAMED.get(0x2000 if tag == _EXTENSIBLE and whole[_KIND_AT:] == _EAC3 else tag)
            self.is_foreign = self.is_foreign or (layout is None and framed is None and tag not in _KNOWN)
            if tag == _PLAIN and not self.disguise:
                self.disguise = Disguise()
            if framed and not self.layouts and not self.inner:
                self.inner = framed()
            if tag in G723_TAGS and not self.inner:
                order: Literal["little", "big"] = "little" if self.order == "<" else "big"
                rate, block = int.from_bytes(whole[4:8], order), int.from_bytes(whole[12:14], order)
                self.inner = G723Walker(rate, block or 1) if rate else None


class WavWalker(ChunkWalker):
    """Counts the data bytes of the file; or it is no WAV, and looks like one."""

    __slots__ = ("_act", "_wav")

    def __init__(self) -> None:
        self._wav = _Reading()
        super().__init__(self._wav)
        self._act: Act | None = Act()

    @property
    def is_foreign(self) -> bool:
        """See :attr:`_Reading.is_foreign`."""
        return self._wav.is_foreign

    @property
    def codec(self) -> str:
        """FFmpeg's name; empty for a format that cannot be counted."""
        return "g729" if self._act and self._act.ms else super().codec

    @property
    def ms(self) -> int | None:
        """Of the one that plays longer."""
        return max(super().ms or 0, self._act.ms) if self._act and self._act.ms else super().ms

    @property
    def foretold_bytes(self) -> int:
        """See :attr:`policies.audio.chunks.Reading.foretold_bytes`."""
        return 0 if self._act else super().foretold_bytes

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the file, from its magic on."""
        if self._act:
            self._act.feed(chunk)
            self._act = None if self._act.is_none else self._act
        super().feed(chunk)
