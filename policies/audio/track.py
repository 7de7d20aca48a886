"""One file: skips its ID3v2 tag, sniffs the container, feeds the walker for it. The table of walkers is here."""

import re
from collections.abc import Callable, Mapping

from policies.audio.adts import AdtsWalker, LatmWalker
from policies.audio.aiff import AiffWalker
from policies.audio.amr import AmrWalker
from policies.audio.asf import AsfWalker
from policies.audio.avi.walker import AviWalker
from policies.audio.caf.walker import CafWalker
from policies.audio.chunks import ChunkWalker
from policies.audio.flac import FlacWalker
from policies.audio.flv import FlvWalker
from policies.audio.hunt import HuntWalker
from policies.audio.matroska.walker import MatroskaWalker
from policies.audio.mp4.walker import Mp4Walker
from policies.audio.mpeg import MpegWalker
from policies.audio.mpegps import PsWalker
from policies.audio.nist import NistWalker
from policies.audio.nut import BITRATE as NUT_BITRATE
from policies.audio.nut import NutWalker
from policies.audio.ogg import OggWalker
from policies.audio.plain import AuWalker
from policies.audio.sniff import SNIFF_BYTES, Container, begins_a_file, id3v2_bytes, sniff
from policies.audio.speech import DssWalker, SpeechWalker
from policies.audio.tta import TtaWalker
from policies.audio.voc import VocWalker
from policies.audio.walker import LONGEST_MS, Chunk, Walker
from policies.audio.wav import WavWalker
from policies.audio.wave64 import Wave64Walker
from policies.audio.wavpack import WavPackWalker

WALKERS: Mapping[Container, Callable[[], Walker]] = {
    Container.WAV: WavWalker,
    Container.FLAC: FlacWalker,
    Container.OGG: OggWalker,
    Container.MP3: MpegWalker,
    Container.ADTS: AdtsWalker,
    Container.LATM: LatmWalker,
    Container.MP4: Mp4Walker,
    Container.MATROSKA: MatroskaWalker,
    Container.AMR: AmrWalker,
    Container.AIFF: AiffWalker,
    Container.AU: AuWalker,
    Container.WAVE64: Wave64Walker,
    Container.CAF: CafWalker,
    Container.AVI: AviWalker,
    Container.FLV: FlvWalker,
    Container.WAVPACK: WavPackWalker,
    Container.TTA: TtaWalker,
    Container.VOC: VocWalker,
    Container.NIST: NistWalker,
    Container.ASF: AsfWalker,
    Container.MPEGPS: PsWalker,
    Container.CODEC2: SpeechWalker,
    Container.ILBC: SpeechWalker,
    Container.DSS: DssWalker,
    Container.UNKNOWN: HuntWalker,
}
"""A new container is one line here, and a file beside this one."""

ASSUMED_BITRATES: Mapping[Container, int] = {
    Container.OGG: 16_000,
    Container.MP3: 32_000,
    Container.ADTS: 24_000,
    Container.LATM: 8_000,
    Container.MP4: 16_000,
    Container.MATROSKA: 16_000,
    Container.AMR: 4_750,
    Container.CAF: 16_000,
    Container.WAVE64: 4_750,
    Container.ASF: 4_000,
    Container.CODEC2: 700,
    Container.DSS: 5_300,
    Container.DS2: 13_000,
    Container.REAL: 4_750,
    Container.NUT: NUT_BITRATE,
    Container.NSV: 4_000,
    Container.IAMF: 6_000,
    Container.WTV: 4_750,
    Container.QCP: 4_750,
    Container.XWMA: 4_750,
    Container.AUDIBLE: 8_000,
    Container.TWINVQ: 8_000,
}
"""Bits per second of thrifty speech recordings, for a file whose walker found nothing, or less than half of it.

What is not in the table of walkers is always weighed: there, of the codecs that it may hold, the thriftiest speech.
"""

UNKNOWN_BITRATE = 32_000
"""For bytes that nothing explains: a foreign container, a foreign codec in a known one, a file that says nothing.

Low, so that bytes count for much: the sender chooses the container, and the unknown must not be the cheap one. Who
wants a true account of raw PCM puts a WAV header in front of it.
"""

_FOREIGN_BITRATE = 4_750
"""Of a codec in WAV that nobody knows here."""
_NAMED = re.compile(r"\.(?:(g729)|(gsm)|g723_1|tco|rco)(?![a-z0-9])", re.IGNORECASE)
_G729_BITRATE, _GSM_BITRATE, _G723_BITRATE = 8_000, 13_200, 5_300
_TOLD_BY_LITTLE = frozenset((None, Container.UNKNOWN, Container.MP3, Container.ADTS, Container.LATM))
_TAG_HEADER_BYTES = 10
_PROBED_BYTES = 2048
"""In which FFmpeg looks for NUT, whatever a file begins like."""


def of_name(text: str) -> int:
    """The bit rate of the codec that FFmpeg takes a file for because a text calls it so; 0 where none does."""
    rates = [
        _G729_BITRATE if found[1] else _GSM_BITRATE if found[2] else _G723_BITRATE for found in _NAMED.finditer(text)
    ]
    return min(rates, default=0)


class Track:
    """One file's bytes, from the first to the last, in any cuts."""

    __slots__ = (
        "_held", "_in_tag", "_named_bitrate", "_nut", "_pages_in_tag", "_tag_left", "_walker", "container", "is_file",
        "size", "tag_size",
    )  # fmt: skip

    def __init__(self, named_bitrate: int = 0) -> None:
        """``named_bitrate`` is that of a codec without a header, which the file's name alone says: see ``of_name``."""
        self._named_bitrate = named_bitrate
        self.container: Container | None = None
        """None until there were bytes enough to tell."""
        self.is_file = False
        """Whether its first bytes say that it is no plain samples."""
        self.size = 0
        self.tag_size = 0
        self._tag_left = 0
        self._held = b""
        self._walker: Walker | None = None
        self._nut: NutWalker | None = NutWalker()
        self._in_tag: HuntWalker | None = None
        self._pages_in_tag: OggWalker | None = None

    @property
    def walked_ms(self) -> int | None:
        """What a decoder would play of it; None when that could not be counted. Never 0: that is a file unexplained."""
        walker = self._speaker
        if walker and self._hidden_ms:
            return max(self._hidden_ms, walker.ms or 0)
        if walker is None or self._is_named or walker.strange * 2 > self._sound_bytes:
            return None
        return walker.ms or None

    @property
    def _hidden_ms(self) -> int:
        """Of NUT behind what seems something else; 0 where there is none."""
        return self._nut.ms or 0 if self._nut else 0

    @property
    def _is_named(self) -> bool:
        """Whether its bytes say too little for FFmpeg not to go by its name."""
        return self._named_bitrate > 0 and self.container in _TOLD_BY_LITTLE

    @property
    def _speaker(self) -> Walker | None:
        """Of a file that ends inside its tag, the one that hunted there: decoders do not believe such a tag."""
        return self._walker or self._in_tag

    @property
    def _sound_bytes(self) -> int:
        return self.size - self.tag_size if self.size > self.tag_size else self.size

    @property
    def claimed_ms(self) -> int | None:
        """What its header says of itself, under the sanity cap."""
        claimed = self._speaker.claimed_ms if self._speaker else None
        return claimed and min(claimed, LONGEST_MS)

    @property
    def foretold_bytes(self) -> int:
        """How many more bytes, at the least, leave it as long as ``claimed_ms`` says, or shorter."""
        walker = self._walker
        return walker.foretold_bytes if isinstance(walker, ChunkWalker) and self.walked_ms else 0

    @property
    def estimated_ms(self) -> int:
        """Its weight, or what was found among strange bytes. An only tag counts."""
        if self.walked_ms or not self._speaker:
            return self.weight_ms
        return max(self.weight_ms, self._speaker.ms or 0)

    @property
    def weight_ms(self) -> int:
        """Its bytes over an assumed bit rate."""
        bitrate = ASSUMED_BITRATES.get(self.container or Container.UNKNOWN, UNKNOWN_BITRATE)
        bitrate = self._named_bitrate if self._is_named else bitrate
        if isinstance(self._walker, WavWalker) and self._walker.is_foreign:
            bitrate = _FOREIGN_BITRATE
        return self._sound_bytes * 8000 // bitrate

    @property
    def unsure(self) -> bool:
        """Whether its figure rests on a guess, or on what the file says of itself."""
        return self._speaker is not None and (self._speaker.unsure or self._hidden_ms > 0)

    @property
    def codec(self) -> str:
        """FFmpeg's name; empty until known."""
        return self._speaker.codec if self._speaker else ""

    @property
    def channels(self) -> int | None:
        """None until known."""
        return self._speaker.channels if self._speaker else None

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the file."""
        self.size += len(chunk)
        if self._walker:
            self._walker.feed(chunk)
            if self._nut:
                self._look_for_nut(self._nut, chunk)
        elif self.container is None:
            self._begin(memoryview(chunk))

    def _look_for_nut(self, nut: NutWalker, chunk: Chunk) -> None:
        """FFmpeg is surest of it, and prefers it to most others."""
        room = len(chunk) if nut.ms else _PROBED_BYTES - nut.strange
        nut.feed(chunk[:room])
        if nut.ms:
            nut.feed(chunk[room:])
        elif nut.strange >= _PROBED_BYTES:
            self._nut = None

    def _begin(self, view: memoryview) -> None:
        while view:
            if self._tag_left:
                step = min(self._tag_left, len(view))
                self._tag_left -= step
                if self._in_tag:
                    self._in_tag.feed(view[:step])
                if self._pages_in_tag:
                    self._pages_in_tag.feed(view[:step])
                view = view[step:]
                if not self._tag_left:
                    self._in_tag = None
                continue
            step = SNIFF_BYTES - len(self._held)
            self._held += view[:step]
            view = view[step:]
            if len(self._held) < SNIFF_BYTES:
                return
            tag = id3v2_bytes(self._held)
            if not tag:
                self._open(view)
                return
            self.tag_size += tag
            self._tag_left = max(tag - SNIFF_BYTES, 0)
            if self._tag_left:
                self._in_tag = HuntWalker()
                self._in_tag.feed(self._held[_TAG_HEADER_BYTES:])
                self._pages_in_tag = self._pages_in_tag or OggWalker()
                self._pages_in_tag.feed(self._held[_TAG_HEADER_BYTES:])
            self._held = self._held[tag:]

    def _open(self, view: memoryview) -> None:
        self.container = sniff(self._held)
        self.is_file = self.tag_size > 0 or begins_a_file(self._held)
        make = WALKERS.get(self.container)
        if make:
            is_bare = self.container is Container.UNKNOWN and not self.tag_size
            self._walker = HuntWalker(is_whole=True) if is_bare else make()
            if self.container is Container.OGG and self._pages_in_tag and self._pages_in_tag.ms:
                # FFmpeg passes over no tag here: it looks for pages from the file's first byte on.
                self._walker = self._pages_in_tag
            begun = b"".join((self._held, view))
            self._walker.feed(begun)
            if self._nut and not isinstance(self._walker, HuntWalker):  # which looks for it everywhere
                self._look_for_nut(self._nut, begun)
            else:
                self._nut = None
        self._held, self._pages_in_tag = b"", None
