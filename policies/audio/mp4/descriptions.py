"""Sample descriptions of MP4 (``stsd``): what one sample of a track plays.

ISO/IEC 14496-12 section 8.5.2, the codecs' own registrations beside it, and QuickTime's older and newer versions.
"""

import struct
from collections.abc import Callable, Mapping
from typing import NamedTuple

from policies.audio.aac import setup as aac
from policies.audio.aac.blocks import Blocks
from policies.audio.flac import StreamInfo

_SPEC_TYPE, _CONFIG_TYPE, _ELEMENTARY = 0x05, 0x04, 0x03
_AAC = 0x40
_ENTRY_BYTES = 36
"""Of an audio sample entry, up to its own boxes (QuickTime's later versions have more)."""
_MOST_MPEG_BYTES = 1729
"""Of a frame: 384 kbit/s of layer II at 32 kHz."""
_MOST_AC3_BYTES = 4096
_MOST_AMR_BYTES, _MOST_AMR_WB_BYTES = 32, 61
_FLAC_FRAME_BYTES = 64
"""Around its samples, with room."""
SHORT_MPEG = 576
"""Samples of an MP3 frame below 32 kHz."""


class Frames(NamedTuple):
    """What one sample plays: ``samples`` at ``rate``; of plain PCM, a frame of ``size`` bytes is one.

    ``most`` is what a codec's frame takes at most: decoders play on in a sample that holds several. ``blocks``: of AAC.
    """

    codec: str
    samples: int
    rate: int
    size: int = 0
    most: int = 0
    blocks: Blocks | None = None


class Description(NamedTuple):
    """The first entry; ``frames`` is None where nobody knows its codec."""

    channels: int
    frames: Frames | None
    pre_skip: int
    """Of Opus, at 48 kHz: where no edits are listed decoders leave it out."""

    @classmethod
    def read(cls, body: bytes) -> "Description":
        """Read the box. Raises struct.error for an entry that is cut short."""
        entry = body[8:]
        name = entry[4:8]
        version, channels, bits, fixed = struct.unpack_from(">H6xHH4xI", entry, 16)
        rate = fixed >> 16
        if version == 2 and len(entry) >= 72:
            exact, channels, bits = struct.unpack_from(">dI4xI", entry, 40)
            rate = int(exact) if 0 < exact < 1 << 31 else rate
        make = _CODECS.get(name)
        bits = (_inner(entry, b"pcmC")[5:6] or bytes((bits & 0xFF,)))[0]
        frames = make(entry, rate) if make else _pcm(name, rate, channels, bits)
        return cls(channels, frames, int.from_bytes(_inner(entry, b"dOps")[2:4], "big"))


def _inner(entry: bytes, name: bytes) -> bytes:
    """What stands behind the first four bytes of this name inside an entry; empty without it."""
    at = entry.find(name, _ENTRY_BYTES)
    return entry[at + 4 :] if at >= 0 else b""


def descriptors(body: bytes) -> tuple[int, bytes]:
    """The kind of codec, and its set-up, that descriptors say (ISO/IEC 14496-1 section 7.2.6); AAC's, if none do."""
    at, kind = 0, _AAC
    while at + 2 <= len(body):
        tag, size = body[at], 0
        at += 1
        for _ in range(4):
            if at >= len(body):
                break
            size = size << 7 | body[at] & 0x7F
            at += 1
            if not body[at - 1] & 0x80:
                break
        if tag == _ELEMENTARY:
            at += 3
        elif tag == _CONFIG_TYPE and at < len(body):
            kind = body[at]
            at += 13
        elif tag == _SPEC_TYPE:
            return kind, body[at : at + size]
        else:
            at += size
    return kind, b""


def _mp4a(entry: bytes, rate: int) -> Frames | None:
    """Descriptors within ``esds``."""
    kind, config = descriptors(_inner(entry, b"esds")[4:])
    if kind in {0x69, 0x6B}:
        return _mp3(entry, rate)
    if kind in {0x40, 0x66, 0x67, 0x68}:
        samples, core = aac.frame_of(config) or (aac.SAMPLES, rate)
        most = aac.MOST_BYTES * aac.channels_of(config)
        said = aac.blocks_of(config)
        return Frames("aac", samples, core, most=most, blocks=Blocks(*said) if said else None)
    return {0xA5: _ac3, 0xA6: _ac3}.get(kind, lambda *_: None)(entry, rate)


def _mp3(entry: bytes, rate: int) -> Frames:  # noqa: ARG001  one shape for all
    return Frames("mp3", 1152 if rate >= 32_000 else SHORT_MPEG, rate, most=_MOST_MPEG_BYTES)


def _ac3(entry: bytes, rate: int) -> Frames:
    return Frames("eac3" if entry[4:8] == b"ec-3" else "ac3", 1536, rate, most=_MOST_AC3_BYTES)


def _alac(entry: bytes, rate: int) -> Frames:
    # QuickTime names the format once more in front of it.
    cookie = _inner(entry, b"\0\0\0\x24alac")[8:]
    samples, exact = int.from_bytes(cookie[:4], "big"), int.from_bytes(cookie[20:24], "big")
    return Frames("alac", samples if 0 < samples < 1 << 20 else 4096, exact or rate)


def _flac(entry: bytes, rate: int) -> Frames:
    info = _inner(entry, b"dfLa")[8:]  # version and flags, and the metadata block's header
    exact = int.from_bytes(info[10:13], "big") >> 4
    # A rate that does not fit the entry's 16 bits is cut there, or left out; of two others the slower one plays longer.
    slowest = exact if rate in {0, exact & 0xFFFF} else min(exact or rate, rate)
    samples, stream = int.from_bytes(info[2:4], "big"), StreamInfo.read(info)
    plain = samples * stream.channels * ((stream.bits + 7) // 8)  # a frame that does not get smaller stays as it is
    return Frames("flac", samples, slowest, most=plain + _FLAC_FRAME_BYTES if plain else 0)


def _opus(entry: bytes, rate: int) -> Frames:  # noqa: ARG001
    return Frames("opus", 0, 48_000)


def _amr(entry: bytes, rate: int) -> Frames:
    wide = entry[4:8] == b"sawb"
    packed = max(_inner(entry, b"damr")[8:9].ljust(1, b"\1")[0], 1)  # frames to the sample (3GPP TS 26.244)
    samples, rate, most = (320, 16_000, _MOST_AMR_WB_BYTES) if wide else (160, 8_000, _MOST_AMR_BYTES)
    return Frames("amr_wb" if wide else "amr_nb", samples * packed, rate, most=most * packed)


_CODECS: Mapping[bytes, Callable[[bytes, int], Frames | None]] = {
    b"mp4a": _mp4a,
    b".mp3": _mp3,
    b"ac-3": _ac3,
    b"ec-3": _ac3,
    b"alac": _alac,
    b"fLaC": _flac,
    b"Opus": _opus,
    b"samr": _amr,
    b"sawb": _amr,
}

_PCM_BITS = {b"sowt": 16, b"twos": 16, b"raw ": 8, b"in24": 24, b"in32": 32, b"fl32": 32, b"fl64": 64, b"ulaw": 8,
             b"alaw": 8, b"lpcm": 0, b"ipcm": 0, b"fpcm": 0}  # fmt: skip


def _pcm(name: bytes, rate: int, channels: int, bits: int) -> Frames | None:
    known = _PCM_BITS.get(name)
    if known is None:
        return None
    wide = bits if name in {b"sowt", b"twos", b"raw "} and bits in {8, 16, 24, 32} else known or bits
    size = channels * (wide // 8)
    return Frames(f"pcm_{name.decode().strip()}", 1, rate, size) if size else None
