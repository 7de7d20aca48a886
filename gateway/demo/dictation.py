"""From a job's bytes to its messages: one forked recogniser's whole life."""

import contextlib
import socket
from collections.abc import Iterable, Iterator
from dataclasses import replace

from gateway.demo import wav
from gateway.demo.messages import Finished, Heard, Job, Message, Opened, Refused, blocks, read_job, write
from gateway.demo.pcm import Converter, PcmFormat, Unreadable
from gateway.demo.recogniser import Reading, Recogniser
from gateway.demo.settling import Settling
from gateway.demo.transcript import Word
from gateway.demo.utterances import Flush, Speech, Utterances, cut

_BLOCK_BYTES = 2**16
"""Converted at a time, so that a long recording's first words do not wait for its end."""


def serve(connection: socket.socket, recogniser: Recogniser) -> None:
    """Do the one job that comes over the connection. A server that hangs up ends it early, and quietly."""
    with contextlib.suppress(ConnectionError), connection, connection.makefile("rb") as stream:
        job = read_job(stream.readline())
        for message in transcribe(job, blocks(stream), recogniser):
            connection.sendall(write(message))


def transcribe(job: Job, chunks: Iterable[bytes | Flush], recogniser: Recogniser) -> Iterator[Message]:
    """The messages of one job, the last being Finished or Refused."""
    try:
        form, chunks = (job.format, chunks) if job.format else _opened(chunks)
    except Unreadable as refusal:
        yield Refused(str(refusal))
        return
    yield Opened()
    converter = Converter(form)
    for speech in Utterances(cut(_converted(converter, chunks)), recogniser.is_speech):
        for heard in _utterance(speech, recogniser.readings(speech.frames, live=job.live)):
            # The stream's last frame is filled up with silence that nobody sent.
            yield replace(heard, end_ms=min(heard.end_ms, converter.duration_ms))
    yield Finished(converter.duration_ms)


def _opened(chunks: Iterable[bytes | Flush]) -> tuple[PcmFormat, list[bytes]]:
    """Tell a file's samples from its header. Raises Unreadable."""
    wave = wav.parse(b"".join(chunk for chunk in chunks if isinstance(chunk, bytes)))
    return wave.format, [wave.samples]


def _converted(converter: Converter, chunks: Iterable[bytes | Flush]) -> Iterator[bytes | Flush]:
    for chunk in chunks:
        if isinstance(chunk, Flush):
            yield chunk
            continue
        for at in range(0, len(chunk), _BLOCK_BYTES):
            yield converter.feed(chunk[at : at + _BLOCK_BYTES])
    yield converter.finish()


def _utterance(speech: Speech, readings: Iterable[Reading]) -> Iterator[Heard]:
    """One message whenever the words change, and one at the end."""
    settling, last = Settling(), None
    for reading in readings:
        words = tuple(_shifted(word, speech.start_ms) for word in reading.words)
        now_ms = speech.start_ms + reading.heard_ms
        settled = settling.finish(words) if reading.final else settling.hear(words, now_ms)
        spoken = [word.text for word in words]
        if reading.final or settled or spoken != last:
            yield Heard(words, settled, speech.start_ms, now_ms, reading.final)
        last = spoken


def _shifted(word: Word, by_ms: int) -> Word:
    return replace(word, start_ms=word.start_ms + by_ms, end_ms=word.end_ms + by_ms)
