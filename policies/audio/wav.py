"""WAV (RIFF, RIFX, RF64, BW64): the bytes of every data chunk, over the frame that the format chunk describes.

The byte rate is never read: players ignore it. Of several format chunks FFmpeg obeys the first and libsndfile the last:
the one that plays longest counts. What no size may hide stands in ``policies.audio.chunks``.
"""

from collections.abc import Callable, Mapping

from policies.audio.ac3 import Ac3Walker
from policies.audio.adts import AdtsWalker
from policies.audio.chunks import FORM, ChunkWalker, Reading
from policies.audio.disguise import Disguise
from policies.audio.flac import FlacWalker
from policies.audio.mpeg import MpegWalker
from policies.audio.walker import Walker
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
    0xF1AC: FlacWalker,
}
"""Format tags whose data is a stream of frames."""
_EXTENSIBLE, _KIND_AT, _EAC3 = 0xFFFE, 24, bytes.fromhex("af87fba7022dfb42a4d405cd93843bdd")
_LEAST_WMA_BYTES = 18
_PLAIN = 0x0001
"""The one whose data FFmpeg probes for another codec's."""


class _Reading(Reading):
    __slots__ = ()

    DATA = b"data"
    READ = {b"fmt ": 14, b"ds64": 16}  # noqa: RUF012  a table, never written to
    METADATA = frozenset(_METADATA_NAMES[at : at + 4] for at in range(0, len(_METADATA_NAMES), 4))

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
            self.add_layout(read_format(whole, self.order))
            framed = _FRAMED.get(0x2000 if tag == _EXTENSIBLE and whole[_KIND_AT:] == _EAC3 else tag)
            if tag == _PLAIN and not self.disguise:
                self.disguise = Disguise()
            if framed and not self.layouts and not self.inner:
                self.inner = framed()


class WavWalker(ChunkWalker):
    """Counts the data bytes of the file."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(_Reading())
