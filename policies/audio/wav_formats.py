"""What WAV's format chunk says: how many bytes make how many samples, by format tag."""

import struct
from collections.abc import Callable
from typing import NamedTuple

from policies.audio.walker import milliseconds

_EXTENSIBLE = 0xFFFE
_EXTENSIBLE_BYTES = 26
_GUID_AT, _DFPWM_TAG, _DFPWM = 24, 1 << 16, bytes.fromhex("3ac1fa38811d4361a40dce53ca607cd1")
"""Of a codec of one bit a sample that has no tag."""
_FIRST_RATE_TOO_HIGH = 1 << 31
"""FFmpeg and libsndfile refuse a rate that is negative in 32 bits."""


class Layout(NamedTuple):
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
        return milliseconds(self.samples(size), self.rate)

    def samples(self, size: int) -> int:
        """Likewise, for each channel."""
        blocks, rest = divmod(size, self.block)
        return blocks * self._samples(self.block) + self._samples(rest)

    @property
    def is_guess(self) -> bool:
        """Whether its frames are of several sizes, and the smallest was taken."""
        return self.codec in _GUESSED

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


def _pcm(form: _Format) -> Layout | None:
    width = (form.bits + 7) // 8
    if not 1 <= width <= 8:  # bytes: no decoder reads samples above 64 bits
        return None
    name = "pcm_u8" if width == 1 else f"pcm_s{8 * width}{'le' if form.order == '<' else 'be'}"
    return _frames(name, form, width)


def _float(form: _Format) -> Layout | None:
    if form.bits not in {32, 64}:
        return None
    return _frames(f"pcm_f{form.bits}{'le' if form.order == '<' else 'be'}", form, form.bits // 8)


def _alaw(form: _Format) -> Layout:
    return _frames("pcm_alaw", form, 1)


def _mulaw(form: _Format) -> Layout:
    return _frames("pcm_mulaw", form, 1)


def _frames(codec: str, form: _Format, width: int) -> Layout:
    frame = width * form.channels
    return Layout(codec, form.channels, form.rate, block=frame, header=0, lead=0, bits=frame * 8)


def _ima_adpcm(form: _Format) -> Layout | None:
    # Four bytes a channel hold the first sample. The block's true size counts, not the samples it says to hold.
    header = 4 * form.channels
    if form.block < header or not 2 <= form.bits <= 5:  # the depths that IMA ADPCM has
        return None
    return Layout("adpcm_ima_wav", form.channels, form.rate, form.block, header, 1, form.bits * form.channels)


def _ms_adpcm(form: _Format) -> Layout | None:
    header = 7 * form.channels
    if form.block < header:
        return None
    return Layout("adpcm_ms", form.channels, form.rate, form.block, header, 2, 4 * form.channels)


def _by_bits(codec: str, *, is_mono: bool = False) -> "Callable[[_Format], Layout | None]":
    """A codec that takes so many bits for each sample, without blocks; some play as one channel whatever is said."""

    def make(form: _Format) -> Layout | None:
        bits = form.bits if 2 <= form.bits <= 5 else 4
        channels = 1 if is_mono else form.channels
        return Layout(codec, form.channels, form.rate, block=channels, header=0, lead=0, bits=bits * channels)

    return make


def _by_frames(codec: str, size: int, samples: int) -> "Callable[[_Format], Layout | None]":
    """A codec of frames of one size."""
    return lambda form: Layout(codec, form.channels, form.rate, block=size, header=size, lead=samples, bits=1 << 30)


def _by_blocks(codec: str, size: int, samples: int) -> "Callable[[_Format], Layout | None]":
    """A codec of frames of this size, or of the file's blocks where those are smaller."""

    def make(form: _Format) -> Layout | None:
        frame = min(form.block or size, size)
        return Layout(codec, form.channels, form.rate, block=frame, header=frame, lead=samples, bits=1 << 30)

    return make


def _wma(form: _Format) -> Layout:
    """A block is a superframe of up to sixteen frames."""
    frame = 512 if form.rate <= 16_000 else 1024 if form.rate <= 22_050 else 2048
    block = form.block or 1
    return Layout("wma", form.channels, form.rate, block=block, header=block, lead=16 * frame, bits=1 << 30)


_GUESSED = frozenset({"amr_nb", "amr_wb", "sipr", "acelp.kelvin", "wma", "msnsiren", "g729", "qcelp"})
"""Codecs whose frames have several sizes: the smallest that holds speech is taken for all."""


def _gsm(form: _Format) -> Layout:
    # Two GSM 06.10 frames share 65 bytes; there is no other size and no stereo.
    return Layout("gsm_ms", form.channels, form.rate, block=65, header=65, lead=320, bits=1)


_G726, _AMR, _AMR_WB = (
    _by_bits("adpcm_g726", is_mono=True),
    _by_frames("amr_nb", 13, 160),
    _by_frames("amr_wb", 18, 320),
)
_TRUESPEECH = _by_frames("truespeech", 32, 240)
_LAYOUTS: dict[int, Callable[[_Format], Layout | None]] = {
    0x0001: _pcm,
    _DFPWM_TAG: lambda form: Layout("dfpwm", form.channels, form.rate, form.channels, 0, 0, form.channels),
    0x0002: _ms_adpcm,
    0x0003: _float,
    0x0006: _alaw,
    0x0007: _mulaw,
    0x0010: _by_bits("adpcm_ima_oki"),
    0x0011: _ima_adpcm,
    0x0014: _G726,
    0x0017: _by_bits("adpcm_ima_oki"),
    0x0020: _by_bits("adpcm_yamaha"),
    0x0022: _TRUESPEECH,
    0x0031: _gsm,
    0x0032: _gsm,
    0x0038: _AMR,
    0x0040: _G726,
    0x0041: _by_frames("g728", 5, 20),
    0x0044: _G726,
    0x0045: _G726,
    0x0057: _AMR,
    0x0058: _AMR_WB,
    0x0064: _G726,
    0x0065: _G726,
    0x0077: _AMR,
    0x0078: _AMR_WB,
    0x0083: _by_frames("g729", 8, 80),  # of 6.4 kbit/s
    0x0125: _by_bits("adpcm_sanyo", is_mono=True),
    0x0130: _by_blocks("sipr", 20, 320),
    0x0135: _by_frames("acelp.kelvin", 10, 80),
    0x0141: _wma,
    0x0160: _wma,
    0x0161: _wma,
    0x0200: _by_bits("adpcm_ct"),
    0x028E: _by_blocks("msnsiren", 20, 320),
    0x028F: _by_bits("adpcm_g722", is_mono=True),
    0x1500: _gsm,
    0x1501: _TRUESPEECH,
}
"""By format tag. A tag that is not here (MP3 in WAV, for one) has no length that its bytes alone would tell."""


_OF_CHANNELS = frozenset((0x0001, 0x0002, 0x0003, 0x0006, 0x0007, 0x0011))
"""Whose decoders play nothing where there are said to be none; those of speech make one of it."""


def _played_bits(bits: int, valid: int, block: int, channels: int) -> int:
    """The depth that WAVE_FORMAT_EXTENSIBLE is played at.

    FFmpeg obeys the "valid bits" and libsndfile the container's, so the smaller one plays the longer. 24 bits that
    stand in 32 are the case that both know.
    """
    if (bits, valid, block) == (32, 24, 4 * channels):
        return bits
    return min(bits, valid) or max(bits, valid)


def read_format(body: bytes, order: str) -> Layout | None:
    """Read a format chunk of 14 bytes or more (without a depth it means 8 bits); None where nothing can be counted."""
    tag, channels, rate, _byte_rate, block = struct.unpack_from(order + "HHIIH", body)
    bits = struct.unpack_from(order + "H", body, 14)[0] if len(body) >= 16 else 8  # WAVEFORMAT ends before
    if tag == _EXTENSIBLE and len(body) >= _EXTENSIBLE_BYTES:
        valid, tag = struct.unpack_from(order + "H4xH", body, 18)
        bits = _played_bits(bits, valid, block, channels)
        if body[_GUID_AT:].startswith(_DFPWM):
            tag, bits = _DFPWM_TAG, 1
    make = _LAYOUTS.get(tag)
    if make is None or not 0 < rate < _FIRST_RATE_TOO_HIGH or not (channels or tag not in _OF_CHANNELS):
        return None
    return make(_Format(order, channels or 1, rate, block, bits))
