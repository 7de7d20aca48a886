"""What server and recogniser say to each other over their socket.

The server sends one line of JSON, the job, and then audio in blocks: a length of four bytes, and that many bytes. A
length of 0 ends the audio; 0xFFFFFFFF asks that the words so far become final. The recogniser answers in lines of JSON,
so that a recogniser that hostile audio has taken over can say nothing but sentences.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from gateway.demo.pcm import Encoding, PcmFormat
from gateway.demo.transcript import Word
from gateway.demo.utterances import FLUSH, Flush

_LENGTH = struct.Struct("!I")
_FLUSH = 0xFFFFFFFF
END = _LENGTH.pack(0)
FINALIZE = _LENGTH.pack(_FLUSH)


@dataclass(frozen=True, slots=True)
class Job:
    """A recording that is all there, or a live stream. ``format`` is None where the audio itself says it (WAV)."""

    live: bool = False
    format: PcmFormat | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """The audio can be read."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The words of one utterance so far, or (``final``) for good. ``settled`` are those that became certain with it.

    The settled words of all messages, in order, are the transcript as a stream tells it: none is ever taken back.
    """

    words: tuple[Word, ...]
    settled: tuple[Word, ...]
    start_ms: int
    end_ms: int
    final: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """All audio was heard."""

    duration_ms: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The audio cannot be read; why, for whoever sent it."""

    reason: str


Message = Opened | Heard | Finished | Refused


def block(audio: bytes) -> bytes:
    """Audio as it travels. Not for empty audio, which would read as the end."""
    return _LENGTH.pack(len(audio)) + audio


def blocks(stream: BinaryIO) -> Iterator[bytes | Flush]:
    """The audio of a job, until its end. A server that vanished ends it too, wherever it was cut."""
    while len(head := stream.read(_LENGTH.size)) == _LENGTH.size:
        (length,) = _LENGTH.unpack(head)
        if not length:
            return
        yield FLUSH if length == _FLUSH else stream.read(length)


def write_job(job: Job) -> bytes:
    """One line."""
    return json.dumps(asdict(job)).encode() + b"\n"


def read_job(line: bytes) -> Job:
    """The inverse of write_job."""
    fields = json.loads(line)
    form = fields["format"]
    return Job(
        live=fields["live"],
        format=form and PcmFormat(Encoding(form["encoding"]), form["rate"], form["channels"]),
    )


def write(message: Message) -> bytes:
    """One line."""
    return json.dumps({"type": type(message).__name__, **asdict(message)}).encode() + b"\n"


def read(line: bytes) -> Message:
    """The inverse of write. Raises ValueError for a type that does not exist."""
    match json.loads(line):
        case {"type": "Opened"}:
            return Opened()
        case {"type": "Heard", "words": words, "settled": settled, "start_ms": start, "end_ms": end, "final": final}:
            return Heard(_words(words), _words(settled), start, end, final)
        case {"type": "Finished", "duration_ms": duration_ms}:
            return Finished(duration_ms)
        case {"type": "Refused", "reason": reason}:
            return Refused(reason)
        case other:
            raise ValueError(f"{other!r} is no message of a recogniser")


def _words(rows: list[dict[str, Any]]) -> tuple[Word, ...]:
    return tuple(Word(**row) for row in rows)
