"""WAV files for tests, made of a format and samples."""

import struct

PCM, FLOAT, ALAW, MULAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE


def fmt(tag: int = PCM, channels: int = 1, rate: int = 16_000, bits: int = 16, extra: bytes = b"") -> bytes:
    """A format chunk's content."""
    block = channels * bits // 8
    return struct.pack("<HHIIHH", tag, channels, rate, rate * block, block, bits) + extra


def extensible(tag: int, channels: int, bits: int) -> bytes:
    """A WAVE_FORMAT_EXTENSIBLE chunk's content, whose GUID carries the real tag."""
    guid = struct.pack("<H", tag) + bytes.fromhex("000000001000800000aa00389b71")
    return fmt(EXTENSIBLE, channels, bits=bits, extra=struct.pack("<HHI", 22, bits, 0) + guid)


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    """A chunk, padded; ``size`` forges its length."""
    return name + struct.pack("<I", len(content) if size is None else size) + content + bytes(len(content) % 2)


def riff(*chunks: bytes, magic: bytes = b"RIFF") -> bytes:
    """A file."""
    content = b"WAVE" + b"".join(chunks)
    return magic + struct.pack("<I", len(content)) + content


def wave(samples: bytes, form: bytes | None = None, size: int | None = None) -> bytes:
    """A file of a format chunk and a data chunk."""
    return riff(chunk(b"fmt ", form or fmt()), chunk(b"data", samples, size))
