"""FLV: what its tags of sound carry, by codec. Tags of pictures and scripts are none, where they end as they say.

Behind the first one that does not readers search, so all that follows it is weighed; and so is sound in other codecs.
"""

import struct
from collections.abc import Callable

from policies.audio.aac.setup import SAMPLES, channels_of, frame_of
from policies.audio.flv_extended import ExtendedSound
from policies.audio.frames import NS_PER_SECOND
from policies.audio.mpeg import MpegWalker
from policies.audio.packets import AacPackets
from policies.audio.speex import FRAME_MS, frames_in
from policies.audio.walker import Chunk

_HEADER_BYTES, _OFFSET_AT, _TAG_BYTES, _BEHIND_BYTES, _KIND_BYTES = 9, 5, 11, 4, 2
"""Of the file, where it says how long it is; of a tag; what says behind it how long it was; and what says in front of
sound which it is."""
_FIRST_WORDS, _BEHIND = struct.Struct(">I7xH"), struct.Struct(">I")
"""Of a tag: its type and length, and what it says in front of sound; and behind it."""
_LEAST_BYTES = _TAG_BYTES + _KIND_BYTES + _BEHIND_BYTES
_TYPE, _SOUND, _SILENT = 0x1F, 8, frozenset((9, 18))
"""Which bits are a tag's type, and those of sound, and of pictures and scripts."""
_MP3, _AAC, _CONFIG, _FRAME = frozenset((2, 14)), 10, 0, 1
_CONFIG_BYTES = 64
_SLOWEST_NS = SAMPLES * NS_PER_SECOND // 7_350
_MOST_READ_BYTES = 65_536
"""Of a tag of AAC; in a longer one nobody looks for blocks."""
_MOST_DESCRIPTIONS = 4096
"""Behind more different ones the rest is weighed."""
_UNKNOWN_KBITS, _SPEECH_KBITS, _OTHER_KBITS = 8, 4, 6
"""Of what is in no tag, where AAC or MP3 was heard in front of it, and else, when it may be Speex; and of sound in
codecs that are not walked."""
_NS_PER_MS = 1_000_000
_CODECS, _ADPCM, _SPEEX = 16, 1, 11
_READ_WHOLE = frozenset((_SPEEX, 9))
"""Speex, and what later versions added."""
_ADPCM_HEAD_BITS, _ADPCM_SAMPLES = 22, 4096
_LITTLE_ENDIAN = 3
_PLAIN, _SLOW = frozenset((0, _LITTLE_ENDIAN)), frozenset((7, 8))
"""Plain samples, and A-law and mu-law, which are at 8 kHz whatever a tag says."""
_NELLYMOSER, _NELLYMOSER_BYTES, _NELLYMOSER_SAMPLES = {4: 16_000, 5: 8_000, 6: 0}, 64, 256
"""By its kind the rate; 0 where the tag says it."""
_NAMES = {
    0: "pcm_s16le", 1: "adpcm_swf", 3: "pcm_s16le", 4: "nellymoser", 5: "nellymoser", 6: "nellymoser", 7: "pcm_alaw",
    8: "pcm_mulaw",
}  # fmt: skip


def _played(kind: int, first: int, size: int) -> tuple[int, int] | None:
    """What a tag of so many bytes of sound plays: samples, and their rate. ``first`` is the first of the bytes."""
    codec, rate = kind >> 4, 44_100 << (kind >> 2 & 3) >> 3
    channels, width = (kind & 1) + 1, (kind >> 1 & 1) + 1
    if codec in _PLAIN:
        return size // (channels * width), rate
    if codec in _SLOW:
        return size // channels, 8_000
    if codec in _NELLYMOSER:
        return size // _NELLYMOSER_BYTES * _NELLYMOSER_SAMPLES, _NELLYMOSER[codec] or rate
    if codec != _ADPCM:
        return None
    each, head = ((first >> 6) + 2) * channels, _ADPCM_HEAD_BITS * channels
    blocks, rest = divmod(size * 8 - 2, head + each * (_ADPCM_SAMPLES - 1))
    return blocks * _ADPCM_SAMPLES + (1 + (rest - head) // each if rest >= head else 0), rate


class FlvWalker:
    """Walks tags in any cuts; keeps the beginning of one."""

    __slots__ = (
        "_aac", "_before", "_described", "_descriptions", "_extended", "_first", "_frame_ns", "_held", "_is_lost",
        "_kinds", "_left", "_mp3", "_other", "_other_codec", "_plain_ns", "_played", "_sink", "_size", "_then",
        "_wanted", "channels", "passed", "strange",
    )  # fmt: skip

    claimed_ms = None

    def __init__(self) -> None:
        self.channels: int | None = None
        self.passed = self.strange = 0
        self._held = bytearray()
        self._wanted = _HEADER_BYTES
        self._then: Callable[[bytes], None] = self._pass_header
        """What is to be done with the bytes that are wanted."""
        self._left = 0
        """Of a tag, what passes; where that goes is ``_sink``."""
        self._sink: Callable[[bytes], None] | None = None
        self._size = 0
        """Of the last tag with its header."""
        self._descriptions = 0
        self._is_lost = False
        self._other = 0
        """Bytes of sound that is not walked."""
        self._plain_ns = 0
        """Of samples and frames whose bytes tell."""
        self._kinds = [b""] * _CODECS
        """What tags said of those, by codec."""
        self._other_codec, self._first = "", b""
        self._mp3 = MpegWalker(is_linked=False)
        self._extended = ExtendedSound()
        self._described = b""
        self._aac: AacPackets | None = None
        self._played = self._before = 0
        """Samples of AAC since its last description, and before."""
        self._frame_ns = 0
        """What 1024 of them play, by the slowest description."""

    @property
    def codec(self) -> str:
        """FFmpeg's name; empty until known."""
        named = self._other_codec or self._extended.codec
        return "aac" if self._samples else self._mp3.codec if self._mp3.ms else named

    @property
    def unsure(self) -> bool:
        """Whether any of it was weighed, or holds more blocks of AAC than tags."""
        is_more = (self._aac is not None and self._aac.unsure) or self._extended.unsure
        return is_more or self.strange + self._mp3.strange + self._other > 0

    @property
    def _samples(self) -> int:
        return self._before + (self._aac.played(self._played) if self._aac else self._played)

    @property
    def ms(self) -> int | None:
        """Of all tags of sound, and by its weight of what is in none."""
        aac_ns = self._samples * (self._frame_ns or _SLOWEST_NS) // SAMPLES
        kbits = _UNKNOWN_KBITS if self._samples or self._mp3.ms else _SPEECH_KBITS
        other = self._other + self._extended.other
        weight_ms = (self.strange + self._mp3.strange) * 8 // kbits + other * 8 // _OTHER_KBITS
        played_ns = self._extended.ns(max(self._mp3.ns, 0) + aac_ns + self._plain_ns)
        return (played_ns + _NS_PER_MS // 2) // _NS_PER_MS + weight_ms or None

    def feed(self, chunk: Chunk) -> None:
        """The next bytes."""
        self.passed += len(chunk)
        data, at = bytes(chunk), 0
        while at < len(data) and not self._is_lost:
            if self._then == self._open and not self._held:
                at = self._follow(data, at)
            if self._left:
                piece = data[at : at + self._left]
                self._left -= len(piece)
                if self._sink is not None:
                    self._sink(piece)
            else:
                piece = data[at : at + self._wanted - len(self._held)]
                self._held += piece
                if len(self._held) == self._wanted:
                    held, self._held = bytes(self._held), bytearray()
                    self._then(held)
            at += len(piece)
        self._extended.flush()
        if self._is_lost:
            self.strange += len(data) - at

    def _follow(self, data: bytes, at: int) -> int:
        """Read the usual tags that are whole, one behind the other; where the first other one begins."""
        aac, played, frames = self._aac, 0, []
        last = len(data) - _LEAST_BYTES
        while at <= last:
            said, kind = _FIRST_WORDS.unpack_from(data, at)
            length = said & 0xFF_FFFF
            end = at + _TAG_BYTES + length
            if end + _BEHIND_BYTES > len(data) or _BEHIND.unpack_from(data, end)[0] != length + _TAG_BYTES:
                break
            if said >> 24 & _TYPE == _SOUND and length >= _KIND_BYTES:
                codec = kind >> 12
                if codec in _MP3:
                    frames.append(data[at + _TAG_BYTES + 1 : end])
                elif length > _MOST_READ_BYTES or (codec == _AAC and kind & 0xFF == _CONFIG):
                    break
                elif codec in _READ_WHOLE:
                    self._hear_whole(data, at + _TAG_BYTES, end)
                elif codec != _AAC or kind & 0xFF != _FRAME:
                    self._count(data[at + _TAG_BYTES : at + _TAG_BYTES + _KIND_BYTES], length - 1)
                elif aac is None:
                    played += SAMPLES
                elif length > _KIND_BYTES:
                    played += aac.samples(data, at + _TAG_BYTES + _KIND_BYTES, end)
            elif said >> 24 & _TYPE not in _SILENT:
                self.strange += length
            at = end + _BEHIND_BYTES
        self._played += played
        if frames:
            self._mp3.feed(b"".join(frames))
        return at

    def _want(self, size: int, then: Callable[[bytes], None]) -> None:
        self._wanted, self._then = size, then

    def _pass_header(self, head: bytes) -> None:
        """The file has begun. Readers go on where it says that its header ends, as far behind as that may be."""
        self._left, self._sink = max(int.from_bytes(head[_OFFSET_AT:], "big") - _HEADER_BYTES, 0), self._weigh
        self._want(_BEHIND_BYTES, self._begin)

    def _begin(self, _: bytes) -> None:
        """The file has begun, or a tag has ended as it should."""
        self._want(_TAG_BYTES, self._open)

    def _open(self, head: bytes) -> None:
        """A tag begins."""
        kind, length = head[0] & _TYPE, int.from_bytes(head[1:4], "big")
        self._size, self._left, self._sink = length + _TAG_BYTES, length, None
        self._want(_BEHIND_BYTES, self._close)
        if kind == _SOUND and length >= _KIND_BYTES:
            self._left = 0
            self._want(_KIND_BYTES, self._hear)
        elif kind not in _SILENT:
            self._sink = self._weigh

    def _close(self, size: bytes) -> None:
        """A tag has ended."""
        if int.from_bytes(size, "big") == self._size:
            self._begin(size)
        else:
            self._is_lost = True
            self.strange += self._size + _BEHIND_BYTES

    def _hear(self, kind: bytes) -> None:
        """A tag of sound has begun; its second byte is AAC's, or sound already."""
        self._left = left = self._size - _TAG_BYTES - _KIND_BYTES
        self._want(_BEHIND_BYTES, self._close)
        codec = kind[0] >> 4
        if codec in _MP3:
            self._sink = self._mp3.feed
            self._mp3.feed(kind[1:])
        elif codec == _AAC and kind[1] == _FRAME:
            self._frame(left)
        elif codec == _AAC and kind[1] == _CONFIG and 0 < left <= _CONFIG_BYTES:
            self._left = 0
            self._want(left, self._describe)
        elif codec in _READ_WHOLE and left < _MOST_READ_BYTES:
            self._left, self._first = 0, kind
            self._want(left, self._hear_rest)
        else:
            self._sink = None
            self._count(kind, left + 1)

    def _count(self, kind: bytes, size: int) -> None:
        """What a tag plays of which only the first byte is asked, or by what one before said: many heed the first."""
        codec, slowest_ns = kind[0] >> 4, 0
        self.channels = (kind[0] & 1) + 1
        group = _LITTLE_ENDIAN if codec in _PLAIN else codec
        if kind[0] not in self._kinds[group]:
            self._kinds[group] += bytes((kind[0],))
        for one in self._kinds[group]:
            played = _played(one, kind[1], size)
            if played is None:
                self._other += size
                return
            ns = played[0] * NS_PER_SECOND // played[1]
            slowest_ns = max(slowest_ns, ns)
        self._plain_ns += slowest_ns
        self._other_codec = _NAMES[codec]

    def _hear_rest(self, rest: bytes) -> None:
        whole = self._first + rest
        self._hear_whole(whole, 0, len(whole))
        self._want(_BEHIND_BYTES, self._close)

    def _hear_whole(self, data: bytes, at: int, end: int) -> None:
        """A tag's sound that is all here: a packet of any number of frames of Speex, or what later versions added."""
        if data[at] >> 4 == _SPEEX:
            self._plain_ns += frames_in(data[at + 1 : end]) * FRAME_MS * _NS_PER_MS
            self._other_codec = "speex"
        else:
            self._extended.take(data, at, end)

    def _frame(self, size: int) -> None:
        """A tag of AAC begins; it holds one block, unless somebody packed more into it."""
        self._sink = None
        if self._aac is None:
            self._played += SAMPLES
        elif size > _MOST_READ_BYTES:
            self._played += self._aac.samples_by_head(b"", 0, size)
        elif size:
            self._left = 0
            self._want(size, self._look)

    def _look(self, block: bytes) -> None:
        assert self._aac is not None
        self._played += self._aac.samples(block, 0, len(block))
        self._want(_BEHIND_BYTES, self._close)

    def _describe(self, config: bytes) -> None:
        """How long frames of AAC play: where there are several descriptions, as the slowest says."""
        if config != self._described:
            self._descriptions += 1
            self._is_lost = self._descriptions > _MOST_DESCRIPTIONS
            self._before, self._played = self._samples, 0
            self._described, self._aac = config, AacPackets(config, SAMPLES, 1)
        samples, rate = frame_of(config) or (SAMPLES, 7_350)
        self._frame_ns = max(self._frame_ns, samples * NS_PER_SECOND // rate)
        self.channels = channels_of(config)
        self._want(_BEHIND_BYTES, self._close)

    def _weigh(self, piece: bytes) -> None:
        self.strange += len(piece)
