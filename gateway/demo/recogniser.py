"""PocketSphinx with the US English model of its wheel: continuous speech, the whole vocabulary, no grammar."""

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pocketsphinx import Decoder, Vad

from gateway.demo.pcm import RATE
from gateway.demo.transcript import Word
from gateway.demo.utterances import FRAME_MS

_CHUNK_FRAMES = 3
_PRIME_FRAMES = 1_000 // FRAME_MS
_DECODER_FRAME_MS = 10
_PROBE = "probe"
_VARIANT = re.compile(r"\([0-9]+\)$")


@dataclass(frozen=True, slots=True)
class Reading:
    """The words of the first ``heard_ms`` of an utterance; their times count from its start."""

    words: tuple[Word, ...]
    heard_ms: int
    final: bool = False


class Recogniser:
    """A loaded model. It hears one utterance at a time, and keeps state between them: fork it to hear two.

    Only the first of the decoder's three passes is used. On the recordings at hand (14 clips, 111 words) it makes 16
    errors where all three make 21; its words are final when the audio ends; and its partial words are of the same pass.
    """

    def __init__(self) -> None:
        self._decoder = Decoder(samprate=RATE, fwdflat=False, bestpath=False, loglevel="FATAL")
        self._decoder.add_keyphrase(_PROBE, "yes")
        self._decoder.activate_search()
        self._vad = Vad(Vad.LOOSE)

    def is_speech(self, frame: bytes) -> bool:
        """Whether a frame of 30 ms sounds like speech."""
        return bool(self._vad.is_speech(frame))

    def readings(self, frames: Iterator[bytes], *, live: bool) -> Iterator[Reading]:
        """Hear an utterance: one reading every 90 ms of audio, and at last the final one.

        The recording's spectral mean must be known before the first reading. A recording is gathered whole for it. A
        live stream gets a second of it and provisional readings; when it ends, it is heard again as a recording is.
        """
        if live:
            heard: list[bytes] = []
            for reading in self._provisional(frames, heard):
                if not reading.final:
                    yield reading
            *_, final = self._read(heard, self._spectral_mean(heard))
            yield final
        else:
            heard = list(frames)
            yield from self._read(heard, self._spectral_mean(heard))

    def _provisional(self, frames: Iterator[bytes], heard: list[bytes]) -> Iterator[Reading]:
        """Readings of a stream whose start alone is known; what has been taken from it is added to ``heard``."""

        def onwards() -> Iterator[bytes]:
            for frame in frames:
                heard.append(frame)
                yield frame

        coming = onwards()
        first = list(itertools.islice(coming, _PRIME_FRAMES))
        yield from self._read(itertools.chain(first, coming), self._spectral_mean(first))

    def _read(self, frames: Iterable[bytes], mean: str) -> Iterator[Reading]:
        decoder, coming, heard_ms = self._decoder, iter(frames), 0
        decoder.set_cmn(mean)
        decoder.start_utt()
        while chunk := list(itertools.islice(coming, _CHUNK_FRAMES)):
            decoder.process_raw(b"".join(chunk))
            heard_ms += len(chunk) * FRAME_MS
            yield Reading(self._words(), heard_ms)
        decoder.end_utt()
        yield Reading(self._words(), heard_ms, final=True)

    def _spectral_mean(self, frames: list[bytes]) -> str:
        """Cepstral mean over the audio, for the decoder's normalisation.

        The decoder would learn it while it decodes, too late for a clip of seconds: "ten of clubs" is heard as "a fan
        of close". Spotting a keyword runs the same front end at a tenth of the cost of recognising. The front end is
        made afresh, or it would add this utterance to its mean of all those before.
        """
        decoder = self._decoder
        default = decoder.current_search()
        decoder.reinit_feat()
        decoder.activate_search(_PROBE)
        decoder.start_utt()
        decoder.process_raw(b"".join(frames), full_utt=True)
        decoder.end_utt()
        decoder.activate_search(default)
        return str(decoder.get_cmn())

    def _words(self) -> tuple[Word, ...]:
        """The best path's words, without silence (<sil>) and noise ([NOISE]); times from the utterance's start."""
        return tuple(
            Word(
                text=_VARIANT.sub("", segment.word),
                start_ms=segment.start_frame * _DECODER_FRAME_MS,
                end_ms=(segment.end_frame + 1) * _DECODER_FRAME_MS,
                score=round(min(segment.ascore, 1.0), 4),
            )
            for segment in self._decoder.seg() or ()
            if segment.word[0] not in "<["
        )
