"""What one packet plays, by its codec: for the containers that carry packets (Ogg, Matroska, and by table MP4)."""

from collections.abc import Sequence

from typing_extensions import override

from policies.audio import opus, vorbis, wavpack
from policies.audio.aac import setup as aac
from policies.audio.aac.blocks import Blocks
from policies.audio.aac.packed import Looks, blocks_in
from policies.audio.ac3 import ENDLESS, LAST_AC3, frame_bytes, frame_of
from policies.audio.flac import StreamInfo, frames_in, header_of, tells_all
from policies.audio.mpeg import shapes
from policies.audio.wav_formats import Layout

_NS_PER_SECOND = 1_000_000_000
_MOST_KNOWN = 64
_SWING_BYTES = 4096
"""By which a stretch of frames may exceed the average: those of more than two channels are larger now and then."""
_LEAST_MPEG_BYTES, _NS_PER_BYTE = 24, 1_000_000
"""What may hold one more frame, and what it plays at 8 kbit/s: decoders play on in a packet that holds several."""
_LEAST_AC3_BYTES, _NS_PER_AC3_BYTE = 128, 250_000
"""The same at 32 kbit/s."""
_LEAST_AAC_BYTES = 64
"""Likewise of AAC."""
_LEAST_HEAD_BYTES = 6
"""Of AC-3 and E-AC-3, what says how long a frame is."""
_FRAME_BYTES = 64
"""Of a frame, as many as make one unlike another."""
_CHANCE = 1
"""Header within a frame that may be none: chance makes one in some GB."""
_FLAC_FRAME_BYTES, _MOST_BITS = 64, 32
_AC3_RATES = (48_000, 44_100, 32_000)


class Packets:
    """One codec's packets: samples per packet, at a rate."""

    __slots__ = ()

    codec = ""
    channels: int | None = None
    rate = 1
    headers = 1
    """Packets in front that hold no sound."""
    skip = 0
    """Samples that a decoder drops at the start."""
    trims_end = False
    unsure = False
    is_checked = False
    """Whether each says itself, with a checksum, what it plays."""
    by_first: Sequence[int] = ()
    """Samples by a packet's first byte, 0 where more of it must be read; empty where that does not tell."""

    def samples(self, data: bytes, at: int, end: int) -> int:  # noqa: ARG002  the promise
        """Of the packet from ``at`` to ``end``, of which at least the first 16 bytes are there, if it has so many."""
        return 0

    def samples_by_head(self, data: bytes, at: int, end: int) -> int:
        """The same where no more than those 16 bytes may be there."""
        return self.samples(data, at, end)

    def played(self, total: int) -> int:
        """What all packets play together, of which ``samples`` said so much; more may be found out on the way."""
        return total

    def set_up(self, tail: bytes) -> None:
        """The end of the last header."""


class OpusPackets(Packets):
    """RFC 6716, with RFC 7845's header."""

    __slots__ = ("channels", "skip")

    codec = "opus"
    rate = opus.RATE
    trims_end = True
    by_first = opus.SAMPLES

    def __init__(self, head: bytes) -> None:
        self.channels = head[9] or None
        skip = int.from_bytes(head[10:12], "little")
        self.skip = skip if skip <= opus.MOST_SKIP else 0

    def samples(self, data: bytes, at: int, end: int) -> int:
        """See :class:`Packets`."""
        return 0 if data.startswith(b"Opus", at) else opus.packet_samples(data, at, end)


class VorbisPackets(Packets):
    """Vorbis I."""

    __slots__ = ("_packets", "channels", "rate")

    codec = "vorbis"
    headers = 3
    trims_end = True

    def __init__(self, head: bytes) -> None:
        """``head`` is the identification header."""
        self._packets = vorbis.Windows(head)
        self.channels = self._packets.channels
        self.rate = self._packets.rate

    def samples(self, data: bytes, at: int, end: int) -> int:
        """See :class:`Packets`."""
        return self._packets.samples(data[at]) if at < end else 0

    def set_up(self, tail: bytes) -> None:
        """See :class:`Packets`."""
        self._packets.set_up(tail)


class FlacPackets(Packets):
    """FLAC, one frame a packet (RFC 9639 section 10): nanoseconds, as each frame says its rate, or leaves it to others.

    Where the file says several rates readers differ, and the slowest plays longest.
    """

    __slots__ = ("_bits", "_known", "_looks", "_more", "_slowest", "channels", "unsure")

    codec = "flac"
    rate = _NS_PER_SECOND
    is_checked = True

    def __init__(self, info: StreamInfo, rate: int = 0) -> None:
        self.channels = info.channels
        self._slowest = min(filter(None, (info.rate, rate)), default=0)
        self._bits = info.bits
        self._known: dict[bytes, tuple[int, int]] = {}  # by the first four bytes, where those tell all; the most bytes
        self._looks = Looks()
        self._more = 0
        self.unsure = False

    def samples(self, data: bytes, at: int, end: int) -> int:
        """See :class:`Packets`."""
        looks = self._looks
        looks.left -= end - at
        if looks.left < 0:
            looks.note(data[at : at + _FRAME_BYTES], frames_in(data, at, end))
            self.unsure = looks.blocks > looks.looks + _CHANCE
        return self.samples_by_head(data, at, end)

    @override
    def played(self, total: int) -> int:
        """See :class:`Packets`."""
        return max(total, (total - self._more) * self._looks.most) if self.unsure else total

    @override
    def samples_by_head(self, data: bytes, at: int, end: int) -> int:
        """See :class:`Packets`."""
        four = data[at : min(end, at + 4)]
        known = self._known.get(four)
        if known is not None:
            played, most = known
            return played if end - at <= most else self._needed(played, (end - at) // most)
        header = header_of(data[at : min(end, at + 16)])
        if header is None:
            return 0
        rate = min(header.rate, self._slowest) or max(header.rate, self._slowest)
        played = header.samples * _NS_PER_SECOND // rate if rate else 0
        plain = header.samples * header.channels * (header.bits or self._bits or _MOST_BITS) // 8
        most = plain + plain // 8 + _FLAC_FRAME_BYTES  # a frame that does not get smaller stays as it is
        if len(self._known) < _MOST_KNOWN and tells_all(four):
            self._known[four] = played, most
        return self._needed(played, (end - at) // most)

    def _needed(self, played: int, frames: int) -> int:
        """What a packet plays whose bytes need so many frames like its first one."""
        more = played * max(frames - 1, 0)
        self._more += more
        return played + more


class SpeexPackets(Packets):
    """Speex: its header alone says how many frames a packet has, and decoders believe it."""

    __slots__ = ("_samples", "channels", "rate")

    codec = "speex"
    headers = 2
    unsure = True

    def __init__(self, head: bytes) -> None:
        self.rate = int.from_bytes(head[36:40], "little")
        self.channels = int.from_bytes(head[48:52], "little") & 0xFF or None
        self._samples = min(max(int.from_bytes(head[56:60], "little"), 160) * (head[64] or 1), self.rate)

    def samples(self, data: bytes, at: int, end: int) -> int:  # noqa: ARG002
        """See :class:`Packets`."""
        return self._samples


class AacPackets(Packets):
    """AAC: blocks that all play alike, one a packet, and no more than so many bytes on average.

    Packets that hold several all the same are found out by looking at some.
    """

    __slots__ = ("_blocks", "_looks", "_more", "_most", "_room", "_samples", "rate", "unsure")

    codec = "aac"

    def __init__(self, config: bytes, samples: int, rate: int) -> None:
        """``config`` is the set-up."""
        self._samples = samples
        self._most = aac.MOST_BYTES * aac.channels_of(config)
        self._room = _SWING_BYTES
        said = aac.blocks_of(config)
        self._blocks = Blocks(*said) if said else None
        self._looks = Looks()
        self.rate = rate
        self._more = 0
        self.unsure = False

    def samples(self, data: bytes, at: int, end: int) -> int:
        """See :class:`Packets`."""
        looks = self._looks
        looks.left -= end - at
        if looks.left < 0 and self._blocks:
            sample = data[at:end]
            looks.note(sample, blocks_in(sample, self._blocks))
            self.unsure = looks.most > 1
        self._room += self._most - end + at
        if self._room >= 0:
            return self._samples
        frames = -self._room // self._most + 1
        self._room += frames * self._most
        self._more += frames * self._samples
        return self._samples * (frames + 1)

    @override
    def played(self, total: int) -> int:
        """See :class:`Packets`."""
        return max(total, (total - self._more) * self._looks.most)

    @override
    def samples_by_head(self, data: bytes, at: int, end: int) -> int:
        """See :class:`Packets`. Of one that is too large to be read nobody knows how many blocks it has."""
        return self._samples * max((end - at) // _LEAST_AAC_BYTES, 1)


class AlacPackets(Packets):
    """ALAC: a frame is full unless it says how many samples it has, as the last one does."""

    __slots__ = ("_samples", "rate")

    codec = "alac"

    def __init__(self, samples: int, rate: int) -> None:
        self._samples = samples
        self.rate = rate

    def samples(self, data: bytes, at: int, end: int) -> int:
        """See :class:`Packets`."""
        # Three bits of element, four of instance, twelve unused; has-size; two and one more; then 32 bits of size.
        head = int.from_bytes(data[at : min(at + 7, end)].ljust(7, b"\0"), "big")
        return min(head >> 1 & 0xFFFF_FFFF, self._samples) if head >> 36 & 1 else self._samples


class PcmPackets(Packets):
    """Plain samples: a frame of all channels takes ``bits``."""

    __slots__ = ("_bits", "channels", "codec", "rate")

    def __init__(self, codec: str, bits: int, rate: int, channels: int) -> None:
        self.codec = codec
        self._bits = bits * channels
        self.rate = rate
        self.channels = channels

    def samples(self, data: bytes, at: int, end: int) -> int:  # noqa: ARG002
        """See :class:`Packets`."""
        return (end - at) * 8 // self._bits


class LayoutPackets(Packets):
    """Whole blocks of a codec that WAV may have."""

    __slots__ = ("_layout", "channels", "codec", "rate")

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.codec, self.rate, self.channels = layout.codec, layout.rate, layout.channels

    def samples(self, data: bytes, at: int, end: int) -> int:  # noqa: ARG002
        """See :class:`Packets`."""
        return self._layout.samples(end - at)


class WavPackPackets(Packets):
    """WavPack without the part of its header that says where a block ends; nanoseconds, as each says its rate.

    One that is not in the table stands deep in a block, and is taken for the slowest, flagged.
    """

    __slots__ = ("_rate", "unsure")

    codec = "wavpack"
    rate = _NS_PER_SECOND

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self.unsure = False

    def samples(self, data: bytes, at: int, end: int) -> int:  # noqa: ARG002
        """See :class:`Packets`."""
        samples, flags = (int.from_bytes(data[at + n : at + n + 4], "little") for n in (0, 4))
        index = flags >> 23 & 15
        self.unsure = self.unsure or index >= len(wavpack.RATES)
        rate = min(wavpack.RATES[index % len(wavpack.RATES)], self._rate)
        return samples * _NS_PER_SECOND // rate if samples <= wavpack.MOST_SAMPLES else 0


class MpegPackets(Packets):
    """MPEG audio, one frame a packet. A frame says its own rate, so the samples are nanoseconds."""

    __slots__ = ("_shapes", "codec")

    rate = _NS_PER_SECOND

    def __init__(self, codec: str) -> None:
        self.codec = codec
        self._shapes = shapes()

    def samples(self, data: bytes, at: int, end: int) -> int:
        """See :class:`Packets`. Frames that follow one another in it are counted each."""
        shape = self._shapes.get(data[at : min(at + 3, end)])
        played = 0
        while shape is not None:
            played += shape.samples * _NS_PER_SECOND // shape.rate
            at += shape.length
            if end - at < _LEAST_MPEG_BYTES or shape.is_free:
                return played
            shape = self._shapes.get(data[at : at + 3])
        return played and played + (end - at) * _NS_PER_BYTE

    @override
    def samples_by_head(self, data: bytes, at: int, end: int) -> int:
        """See :class:`Packets`."""
        shape = self._shapes.get(data[at : min(at + 3, end)])
        if shape is None:
            return 0
        played, rest = shape.samples * _NS_PER_SECOND // shape.rate, end - at - shape.length
        return played + rest * _NS_PER_BYTE if rest >= _LEAST_MPEG_BYTES and not shape.is_free else played


class Ac3Packets(Packets):
    """AC-3 and E-AC-3 (ATSC A/52 sections 5.4.1 and E.1.3.1): nanoseconds, as each frame says its rate.

    Behind a frame of E-AC-3 another one may stand with more channels, and plays beside it.
    """

    __slots__ = ("_known", "codec")

    rate = _NS_PER_SECOND

    def __init__(self, codec: str) -> None:
        self.codec = codec
        self._known: dict[bytes, tuple[int, int]] = {}  # by what of its head says them: what it plays, and its bytes

    def samples(self, data: bytes, at: int, end: int) -> int:
        """See :class:`Packets`. Frames that follow one another in it are counted each."""
        played, length = self._first(data, at, end)
        at += length
        while end - at >= _LEAST_HEAD_BYTES:
            frame = frame_of(data[at : at + _LEAST_HEAD_BYTES])
            if frame is None:
                return played + self._rest(end - at, length)
            at += frame[0]
            played += frame[1] * _NS_PER_SECOND // frame[2]
        return played

    @override
    def samples_by_head(self, data: bytes, at: int, end: int) -> int:
        """See :class:`Packets`."""
        played, length = self._first(data, at, end)
        return played + self._rest(end - at - length, length)

    def _rest(self, rest: int, length: int) -> int:
        """What may be in so many bytes behind a frame."""
        is_more = rest > 2 * length if self.codec == "eac3" else rest >= _LEAST_AC3_BYTES
        return rest * _NS_PER_AC3_BYTE if is_more else 0

    def _first(self, data: bytes, at: int, end: int) -> tuple[int, int]:
        """What the first frame plays, and its bytes."""
        if end - at < _LEAST_HEAD_BYTES:
            return self._read(b"")
        head = data[at : at + 6]
        key = head[2:] if self.codec == "eac3" or head[5] >> 3 > LAST_AC3 else head[4:]
        played, length = self._known.get(key) or self._read(head)
        if length < ENDLESS and len(self._known) < _MOST_KNOWN:
            self._known[key] = played, length
        return played, length

    def _read(self, head: bytes) -> tuple[int, int]:
        if len(head) < 6 or head[4] >> 6 == 3:
            return (1536 * _NS_PER_SECOND // 16_000 if self.codec == "eac3" else 0), ENDLESS
        blocks = (1, 2, 3, 6)[head[4] >> 4 & 3] if self.codec == "eac3" else 6
        return 256 * blocks * _NS_PER_SECOND // _AC3_RATES[head[4] >> 6], frame_bytes(head)


_SILENT = (b"\x80theora", b"OVP80", b"fishead\0", b"fisbone\0", b"\x80kate", b"BBCD", b"\x80daala", b"index\0")
"""What the first packet of an Ogg stream begins with that is no sound: pictures, subtitles, skeletons."""


def is_silent(head: bytes) -> bool:
    """Whether an Ogg stream that begins with this packet is known to be no sound."""
    return head.startswith(_SILENT)


def ogg_packets(head: bytes) -> Packets | None:
    """The reader for a stream that begins with this packet; None for pictures, and for what nobody knows."""
    if head.startswith(b"OpusHead") and len(head) >= 19:
        return OpusPackets(head)
    if head.startswith(b"\x01vorbis") and len(head) >= 30:
        return VorbisPackets(head) if vorbis.is_sound(head) else None
    if head.startswith(b"\x7fFLAC") and len(head) >= 51:
        return FlacPackets(StreamInfo.read(head[17:]))
    if head.startswith(b"Speex   ") and len(head) >= 68:
        speex = SpeexPackets(head)
        return speex if 0 < speex.rate < 1 << 20 else None
    return None
