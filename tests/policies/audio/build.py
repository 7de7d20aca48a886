"""Writes WAV and FLAC files byte by byte, honest and forged ones. The FLAC frames are valid in every bit."""

import functools
import struct

EXTENSIBLE = 0xFFFE
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")


# -- WAV ---------------------------------------------------------------------------------------------------------------


def chunk(name, body, *, size=None, pad=True):
    """A RIFF chunk; ``size`` is what its header says, where that is not the truth."""
    padding = b"\0" if pad and len(body) & 1 else b""
    return name + struct.pack("<I", len(body) if size is None else size) + body + padding


def fmt(*, tag=1, channels=1, rate=16_000, bits=16, block=None, byte_rate=None, extra=b""):
    block = channels * ((bits + 7) // 8) if block is None else block
    byte_rate = rate * block & 0xFFFFFFFF if byte_rate is None else byte_rate
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, byte_rate, block, bits) + extra)


def extensible(*, valid, tag=1, **basics):
    extra = struct.pack("<HHIH", 22, valid, 4, tag) + _GUID_TAIL
    return fmt(tag=EXTENSIBLE, extra=extra, **basics)


def ds64(data_size):
    return chunk(b"ds64", struct.pack("<QQQI", 0, data_size, 0, 0))


def riff(*chunks, magic=b"RIFF"):
    body = b"WAVE" + b"".join(chunks)
    return magic + struct.pack("<I", min(len(body), 0xFFFFFFFF)) + body


def wav(seconds=1.0, **form):
    """An honest mono WAV of 16 bits at 16 kHz, or as ``form`` says."""
    channels, rate, bits = form.get("channels", 1), form.get("rate", 16_000), form.get("bits", 16)
    return riff(fmt(**form), chunk(b"data", bytes(round(seconds * rate) * channels * ((bits + 7) // 8))))


# -- FLAC (RFC 9639) ---------------------------------------------------------------------------------------------------

_BLOCK_CODES = {192: 1, 576: 2, 1152: 3, 2304: 4, 4608: 5} | {256 << n: 8 + n for n in range(8)}
_RATE_CODES = {0: 0, 88200: 1, 176400: 2, 192000: 3, 8000: 4, 16000: 5, 22050: 6, 24000: 7, 32000: 8, 44100: 9}
_RATE_CODES |= {48000: 10, 96000: 11}
_BITS_CODES = {0: 0, 8: 1, 12: 2, 16: 4, 20: 5, 24: 6, 32: 7}


def crc(data, polynomial, width):
    """Most significant bit first, from 0."""
    table, mask = _crc_table(polynomial, width), (1 << width) - 1
    register = 0
    for byte in data:
        register = register << 8 & mask ^ table[register >> width - 8 ^ byte]
    return register


@functools.cache
def _crc_table(polynomial, width):
    table, mask = [], (1 << width) - 1
    for byte in range(256):
        register = byte << width - 8
        for _ in range(8):
            register = (register << 1 ^ (polynomial if register >> width - 1 else 0)) & mask
        table.append(register)
    return table


def coded_number(number):
    """The frame's number, in the UTF-8 of before RFC 3629, up to 36 bits."""
    if number < 0x80:
        return bytes([number])
    tail, room = [], 0x3F
    while number > room or not tail:
        tail.append(0x80 | number & 0x3F)
        number >>= 6
        room >>= 1
    return bytes([~(room << 1 | 1) & 0xFF | number, *reversed(tail)])


def header(number, samples, *, rate=16_000, channels=1, bits=16, variable=False, stereo=None):
    """A frame's header. ``rate`` and ``bits`` of 0 refer to STREAMINFO; ``stereo`` is a code of 8, 9 or 10."""
    if samples in _BLOCK_CODES:
        size, sizes = _BLOCK_CODES[samples], b""
    else:
        size, sizes = (6, bytes([samples - 1])) if samples <= 256 else (7, struct.pack(">H", samples - 1))
    if rate in _RATE_CODES:
        speed, speeds = _RATE_CODES[rate], b""
    elif rate % 1000 == 0 and rate < 256_000:
        speed, speeds = 12, bytes([rate // 1000])
    elif rate < 65_536:
        speed, speeds = 13, struct.pack(">H", rate)
    else:
        speed, speeds = 14, struct.pack(">H", rate // 10)
    layout = (channels - 1 if stereo is None else stereo) << 4 | _BITS_CODES[bits] << 1
    whole = bytes([0xFF, 0xF8 | variable, size << 4 | speed, layout]) + coded_number(number) + sizes + speeds
    return whole + bytes([crc(whole, 0x07, 8)])


def frame(number, samples, *, noise=b"", **shape):
    """A whole frame of one constant value a channel, or of the verbatim ``noise`` (mono, two bytes a sample)."""
    width = (shape.get("bits") or 16) // 8
    body = b"\x02" + noise if noise else (b"\x00" + b"\x2a" * width) * shape.get("channels", 1)
    whole = header(number, samples, **shape) + body
    return whole + struct.pack(">H", crc(whole, 0x8005, 16))


def block(kind, body, *, last=False, size=None):
    """A metadata block."""
    return bytes([kind | last << 7]) + (len(body) if size is None else size).to_bytes(3, "big") + body


def streaminfo(*, rate=16_000, channels=1, bits=16, total=0):
    packed = rate << 44 | channels - 1 << 41 | bits - 1 << 36 | total
    return struct.pack(">HH6xQ16x", 16, 65_535, packed)


def flac(frames, *, info=None, between=()):
    """A stream of frames behind STREAMINFO and the blocks ``between``."""
    info = info or streaminfo()
    blocks = [(0, info), *between]
    written = [block(kind, body, last=i == len(blocks) - 1) for i, (kind, body) in enumerate(blocks)]
    return b"fLaC" + b"".join(written) + b"".join(frames)


# -- both --------------------------------------------------------------------------------------------------------------


def id3v2(size):
    """A tag of so many bytes behind its header."""
    return b"ID3\x04\x00\x00" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + bytes(size)
