"""WAV (RIFF, RIFX, RF64, BW64): the bytes of every data chunk, over the frame that the format chunk describes.

A data size is honoured as far as the bytes go, as decoders do. Of 0, and from 0x7FFF0000 on, it means "to the end": a
pipe leaves that behind (0 and 0xFFFFFFFF from FFmpeg, 0x7FFFF... from SoX). Every data chunk counts, since FFmpeg plays
them all from a pipe, and the first format chunk, as in FFmpeg. The byte rate is never read: players ignore it.
"""

import copy
import struct
from collections.abc import Callable
from typing import NamedTuple

from policies.audio.walker import Chunk, milliseconds

_RIFF_HEADER_BYTES = 12
_CHUNK_HEADER_BYTES = 8
_KEPT_BYTES = 40
"""Of a chunk that is read: all of WAVE_FORMAT_EXTENSIBLE, and the first three fields of ds64."""

_TO_THE_END = 1 << 63
_LEFT_BY_A_PIPE = 0x7FFF_0000
"""The smallest 32-bit size that is read as "unknown"."""

_MOST_CHUNKS = 4096
"""No recorder writes more. What follows counts as audio: a file of empty chunks costs its sender, not us."""

_NO_CHUNK = bytes(_CHUNK_HEADER_BYTES)
"""What recorders fill a file up with: it reads as a chunk without name and size, and is passed over in long strides."""
_ZEROS_AT_ONCE = 4096

_READ_CHUNKS = {b"fmt ": 14, b"ds64": 16}
"""The chunks that are read, and the size below which they say too little."""

_EXTENSIBLE = 0xFFFE
_EXTENSIBLE_BYTES = 26
_FIRST_RATE_TOO_HIGH = 1 << 31
"""FFmpeg and libsndfile refuse a rate that is negative in 32 bits."""


class _Layout(NamedTuple):
    """How bytes become samples: blocks of ``block`` bytes, each with a header that already holds ``lead`` samples.

    ``bits`` is what one sample of all channels takes behind the header. Plain PCM is one sample to the block.
    """

    codec: str
    channels: int
    rate: int
    block: int
    header: int
    lead: int
    bits: int

    def ms(self, size: int) -> int:
        """The playing time of so many bytes. A last block cut short plays as far as it goes."""
        blocks, rest = divmod(size, self.block)
        return milliseconds(blocks * self._samples(self.block) + self._samples(rest), self.rate)

    def _samples(self, size: int) -> int:
        if size < self.header:
            return 0
        return self.lead + (size - self.header) * 8 // self.bits


class _Format(NamedTuple):
    """The format chunk, whose byte rate nobody needs. ``order`` is struct's mark for the byte order."""

    order: str
    channels: int
    rate: int
    block: int
    bits: int


def _pcm(form: _Format) -> _Layout | None:
    width = (form.bits + 7) // 8
    if not 1 <= width <= 8:  # bytes: no decoder reads samples above 64 bits
        return None
    name = "pcm_u8" if width == 1 else f"pcm_s{8 * width}{'le' if form.order == '<' else 'be'}"
    return _frames(name, form, width)


def _float(form: _Format) -> _Layout | None:
    if form.bits not in {32, 64}:
        return None
    return _frames(f"pcm_f{form.bits}{'le' if form.order == '<' else 'be'}", form, form.bits // 8)


def _alaw(form: _Format) -> _Layout:
    return _frames("pcm_alaw", form, 1)


def _mulaw(form: _Format) -> _Layout:
    return _frames("pcm_mulaw", form, 1)


def _frames(codec: str, form: _Format, width: int) -> _Layout:
    frame = width * form.channels
    return _Layout(codec, form.channels, form.rate, block=frame, header=0, lead=0, bits=frame * 8)


def _ima_adpcm(form: _Format) -> _Layout | None:
    # Four bytes a channel hold the first sample. The block's true size counts, not the samples it says to hold.
    header = 4 * form.channels
    if form.block < header or not 2 <= form.bits <= 5:  # the depths that IMA ADPCM has
        return None
    return _Layout("adpcm_ima_wav", form.channels, form.rate, form.block, header, 1, form.bits * form.channels)


def _ms_adpcm(form: _Format) -> _Layout | None:
    header = 7 * form.channels
    if form.block < header:
        return None
    return _Layout("adpcm_ms", form.channels, form.rate, form.block, header, 2, 4 * form.channels)


def _gsm(form: _Format) -> _Layout:
    # Two GSM 06.10 frames share 65 bytes; there is no other size and no stereo.
    return _Layout("gsm_ms", form.channels, form.rate, block=65, header=65, lead=320, bits=1)


_LAYOUTS: dict[int, Callable[[_Format], _Layout | None]] = {
    0x0001: _pcm,
    0x0002: _ms_adpcm,
    0x0003: _float,
    0x0006: _alaw,
    0x0007: _mulaw,
    0x0011: _ima_adpcm,
    0x0031: _gsm,
}
"""By format tag. A tag that is not here (MP3 in WAV, for one) has no length that its bytes alone would tell."""


def _played_bits(bits: int, valid: int, block: int, channels: int) -> int:
    """The depth that WAVE_FORMAT_EXTENSIBLE is played at.

    FFmpeg obeys the "valid bits" and libsndfile the container's, so the smaller one plays the longer. 24 bits that
    stand in 32 are the case that both know.
    """
    if (bits, valid, block) == (32, 24, 4 * channels):
        return bits
    return min(bits, valid) or max(bits, valid)


def _layout(body: bytes, order: str) -> _Layout | None:
    """Read a format chunk of 14 bytes or more (without a depth it means 8 bits); None where nothing can be counted."""
    tag, channels, rate, _byte_rate, block = struct.unpack_from(order + "HHIIH", body)
    bits = struct.unpack_from(order + "H", body, 14)[0] if len(body) >= 16 else 8  # WAVEFORMAT ends before
    if tag == _EXTENSIBLE and len(body) >= _EXTENSIBLE_BYTES:
        valid, tag = struct.unpack_from(order + "H4xH", body, 18)
        bits = _played_bits(bits, valid, block, channels)
    make = _LAYOUTS.get(tag)
    if make is None or not channels or not 0 < rate < _FIRST_RATE_TOO_HIGH:
        return None
    return make(_Format(order, channels, rate, block, bits))


def _zeros(view: memoryview) -> int:
    """How many bytes of zeros, in whole chunk headers, ``view`` begins with."""
    zeros = len(view) - len(bytes(view).lstrip(b"\0"))
    return zeros - zeros % _CHUNK_HEADER_BYTES


class _Reading:
    """One reading of the file: chunk after chunk, passed over by their sizes.

    Behind a data chunk of odd size there are two. RIFF puts a byte there that it does not count, and FFmpeg's demuxer
    looks for the next chunk at once: ``unpadded`` is its reading from there on, and the one that plays longer counts.
    """

    __slots__ = (
        "_chunks",
        "_held",
        "_in_data",
        "_is_long",
        "_left",
        "_long_size",
        "_order",
        "_pad",
        "_size",
        "_waits_for",
        "_want",
        "claimed",
        "layout",
        "pads_data",
        "played",
        "unpadded",
    )

    def __init__(self) -> None:
        self.layout: _Layout | None = None
        self.played: int | None = None
        """Bytes of data chunks that have passed; None before the first."""
        self.claimed: int | None = 0
        """The same by the sizes they state; None once one of them states none."""
        self.unpadded: _Reading | None = None
        self.pads_data = True
        self._order = "<"
        self._is_long = False
        self._long_size = 0
        # the bytes being gathered: of which chunk (empty for the next one's header), how many, and those that came
        self._waits_for = b"RIFF"
        self._want = _RIFF_HEADER_BYTES
        self._held = b""
        # the chunk that is passing
        self._chunks = 0
        self._size = _RIFF_HEADER_BYTES
        self._left = 0
        self._pad = 0
        self._in_data = False

    def feed(self, view: memoryview) -> None:
        if self.unpadded:
            self.unpadded.feed(view)
        at, end = 0, len(view)
        while at < end:
            if self._left:
                step = min(self._left, end - at)
                at += step
                self._left -= step
                if self._in_data:
                    self.played = (self.played or 0) + step
                if not self._left:
                    self._end_chunk(view[at:])
            else:
                step = min(self._want - len(self._held), end - at)
                self._held += view[at : at + step]
                at += step
                if self._held == _NO_CHUNK and not self._waits_for:
                    self._held = b""
                    at += _zeros(view[at : at + _ZEROS_AT_ONCE])
                elif len(self._held) == self._want:
                    self._read()

    def _end_chunk(self, rest: memoryview) -> None:
        pad, self._pad = self._pad, 0
        was_data, self._in_data = self._in_data, False
        if was_data and pad and not self.unpadded:
            self.unpadded = copy.copy(self)
            self.unpadded.pads_data = False  # so that this one has no data chunk with a pad, and splits no more
            self.unpadded.feed(rest)
        self._left = pad

    @property
    def ms(self) -> int | None:
        return self.layout.ms(self.played) if self.layout and self.played is not None else None

    def _read(self) -> None:
        whole, self._held = self._held, b""
        match self._waits_for:
            case b"":
                self._open(whole[:4], int.from_bytes(whole[4:], "little" if self._order == "<" else "big"))
                return
            case b"RIFF":
                self._order = ">" if whole.startswith(b"RIFX") else "<"
                self._is_long = whole.startswith((b"RF64", b"BW64"))
            case b"ds64":
                self._long_size = min(int.from_bytes(whole[8:16], "little"), _TO_THE_END)
            case _:
                self.layout = self.layout or _layout(whole, self._order)
        self._pass(self._size - len(whole), padded=bool(self._size & 1))

    def _open(self, kind: bytes, size: int) -> None:
        self._chunks += 1
        if self._chunks > _MOST_CHUNKS:
            self._open_data(0)
        elif kind == b"data":
            self._open_data(size)
        elif size >= _READ_CHUNKS.get(kind, _TO_THE_END):
            self._waits_for, self._want, self._size = kind, min(size, _KEPT_BYTES), size
        else:
            self._pass(size, padded=bool(size & 1))

    def _open_data(self, size: int) -> None:
        if self._is_long and self._long_size:
            # EBU Tech 3306: ds64 speaks when the short size is all ones. When both speak, readers differ: the longer.
            size = self._long_size if size in {0, 0xFFFF_FFFF} else max(self._long_size, size)
            self._long_size = 0
        elif size >= _LEFT_BY_A_PIPE:
            size = 0
        self.claimed = self.claimed + size if size and self.claimed is not None else None
        self.played = self.played or 0
        self._in_data = True
        self._pass(size or _TO_THE_END, padded=self.pads_data and bool(size & 1))

    def _pass(self, size: int, *, padded: bool) -> None:
        """Let the rest of a chunk go by, and the byte that RIFF puts behind a chunk of odd size without counting it."""
        self._waits_for, self._want = b"", _CHUNK_HEADER_BYTES
        self._left, self._pad = (size, int(padded)) if size else (int(padded), 0)


class WavWalker:
    """Counts the data bytes of the file; keeps fewer than 256 bytes of it."""

    __slots__ = ("_reading",)

    def __init__(self) -> None:
        self._reading = _Reading()

    @property
    def codec(self) -> str:
        """Such as ``pcm_s16le``; empty for a format that cannot be counted."""
        layout = self._reading.layout
        return layout.codec if layout else ""

    @property
    def channels(self) -> int | None:
        """As the format chunk says."""
        layout = self._reading.layout
        return layout.channels if layout else None

    @property
    def ms(self) -> int | None:
        """Of the data bytes that have passed; None without a data chunk, or without a format that can be counted."""
        played = self._reading.ms
        other = self._reading.unpadded
        return max(played or 0, other.ms or 0) if other else played

    @property
    def claimed_ms(self) -> int | None:
        """The data chunks by the sizes they state; None when one of them states none."""
        reading = self._reading
        return reading.layout.ms(reading.claimed) if reading.layout and reading.claimed else None

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the file, from ``RIFF`` on."""
        self._reading.feed(memoryview(chunk))
