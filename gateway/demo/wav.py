"""RIFF WAVE: where the samples are and how they are written.

The standard library's reader refuses float and G.711 samples, and believes the header's length. Here the length is
believed only where the bytes bear it out: recorders that write to a pipe leave 0 or 0xFFFFFFFF there.
"""

import struct
from dataclasses import dataclass

from gateway.demo.pcm import Encoding, PcmFormat, Unreadable

_PCM, _FLOAT, _ALAW, _MULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE

_ENCODINGS = {
    (_PCM, 1): Encoding.U8,
    (_PCM, 2): Encoding.S16,
    (_PCM, 3): Encoding.S24,
    (_PCM, 4): Encoding.S32,
    (_FLOAT, 4): Encoding.F32,
    (_FLOAT, 8): Encoding.F64,
    (_ALAW, 1): Encoding.ALAW,
    (_MULAW, 1): Encoding.MULAW,
}
"""By format tag and bytes a sample."""

_OTHERS = (
    (b"fLaC", "FLAC"),
    (b"OggS", "Ogg"),
    (b"ID3", "MP3"),
    (b"\xff\xfb", "MP3"),
    (b"\xff\xf3", "MP3"),
    (b"\xff\xf1", "AAC"),
    (b"\xff\xf9", "AAC"),
    (b"\x1aE\xdf\xa3", "WebM"),
    (b"FORM", "AIFF"),
    (b".snd", "AU"),
    (b"#!AMR", "AMR"),
)

WHAT_IS_READ = (
    "The demo recogniser reads WAV (PCM of 8 to 32 bits, float, mu-law, A-law; any rate, any channels) and raw PCM"
    " with a content type of audio/pcm. To convert: ffmpeg -i FILE -ac 1 -ar 16000 out.wav"
)


@dataclass(frozen=True, slots=True)
class Wave:
    """A file's sample format and its samples' bytes."""

    format: PcmFormat
    samples: bytes


def is_wave(data: bytes) -> bool:
    """Whether the bytes begin as a RIFF or RF64 WAVE file does."""
    return data[:4] in {b"RIFF", b"RF64"} and data[8:12] == b"WAVE"


def parse(data: bytes) -> Wave:
    """Find the samples. Raises Unreadable."""
    if not is_wave(data):
        raise Unreadable(f"{_described(data)} {WHAT_IS_READ}")
    form: PcmFormat | None = None
    at = 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        at += 8
        if name == b"data":
            if form is None:
                raise Unreadable("This WAV file is damaged: its samples come before their format.")
            return Wave(form, _samples(data, at, size))
        if name == b"fmt ":
            form = _format(data[at : at + size])
        at += size + size % 2  # chunks are padded to even lengths
    raise Unreadable("This WAV file is cut short: it ends before its samples.")


def _samples(data: bytes, at: int, size: int) -> bytes:
    seen = len(data) - at
    if not seen:
        raise Unreadable("This WAV file holds no samples.")
    return data[at : at + size] if 0 < size <= seen else data[at:]


def _format(chunk: bytes) -> PcmFormat:
    if len(chunk) < 16:  # the fixed part of a WAVEFORMAT
        raise Unreadable("This WAV file is damaged: its format chunk is too short.")
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == _EXTENSIBLE and len(chunk) >= 26:  # the sub-format's GUID begins with the tag proper
        (tag,) = struct.unpack_from("<H", chunk, 24)
    encoding = _ENCODINGS.get((tag, (bits + 7) // 8))
    if encoding is None:
        raise Unreadable(f"This WAV file holds samples of format {tag:#06x} with {bits} bits. {WHAT_IS_READ}")
    return PcmFormat(encoding, rate, channels)


def _described(data: bytes) -> str:
    name = next((name for magic, name in _OTHERS if data.startswith(magic)), None)
    if data[4:8] == b"ftyp":
        name = "MP4"
    if not data:
        return "The file is empty."
    return f"This is {name} audio." if name else "This is not a WAV file."
