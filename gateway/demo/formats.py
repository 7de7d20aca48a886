"""A transcript in each of OpenAI's response formats."""

import enum
import math
import zlib
from collections.abc import Callable
from typing import Any

from gateway.demo.transcript import Transcript, Utterance, Word

LANGUAGE = "english"


class ResponseFormat(enum.StrEnum):
    """What a client may ask for."""

    JSON = "json"
    TEXT = "text"
    VERBOSE_JSON = "verbose_json"
    SRT = "srt"
    VTT = "vtt"


class Granularity(enum.StrEnum):
    """Which timestamps verbose_json carries."""

    SEGMENT = "segment"
    WORD = "word"


def json(transcript: Transcript) -> dict[str, Any]:
    """The text and what it is billed by."""
    return {"text": transcript.text, "usage": _usage(transcript)}


def verbose_json(transcript: Transcript, task: str, granularities: frozenset[Granularity]) -> dict[str, Any]:
    """Every figure; ``task`` is transcribe or translate."""
    body: dict[str, Any] = {
        "task": task,
        "language": LANGUAGE,
        "duration": seconds(transcript.duration_ms),
        "text": transcript.text,
    }
    if Granularity.SEGMENT in granularities:
        body["segments"] = [_segment(at, utterance) for at, utterance in enumerate(transcript.utterances)]
    if Granularity.WORD in granularities:
        body["words"] = [
            {"word": word.text, "start": seconds(word.start_ms), "end": seconds(word.end_ms)}
            for word in transcript.words
        ]
    return body | {"usage": _usage(transcript)}


def srt(transcript: Transcript) -> str:
    """SubRip: numbered cues, a comma before the milliseconds."""
    return "".join(
        f"{number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n{cue.text}\n\n"
        for number, cue in enumerate(transcript.utterances, start=1)
    )


def vtt(transcript: Transcript) -> str:
    """WebVTT (W3C): a header, a dot before the milliseconds."""
    cues = (
        f"{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n{cue.text}\n\n" for cue in transcript.utterances
    )
    return "WEBVTT\n\n" + "".join(cues)


def text(transcript: Transcript) -> str:
    """The words, and a newline as OpenAI sends it."""
    return transcript.text + "\n"


PLAIN: dict[ResponseFormat, tuple[str, Callable[[Transcript], str]]] = {
    ResponseFormat.TEXT: ("text/plain", text),
    ResponseFormat.SRT: ("application/x-subrip", srt),
    ResponseFormat.VTT: ("text/vtt", vtt),
}
"""The formats that are not JSON: their content type, and how they are written."""


def seconds(ms: int) -> float:
    """Milliseconds as JSON carries them."""
    return ms / 1000


def _usage(transcript: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": seconds(transcript.duration_ms)}


def _segment(at: int, utterance: Utterance) -> dict[str, Any]:
    """Whisper's segment. What Whisper alone knows is empty (tokens) or constant (temperature)."""
    written = utterance.text.encode()
    return {
        "id": at,
        "seek": utterance.start_ms // 10,  # Whisper counts mel frames of 10 ms
        "start": seconds(utterance.start_ms),
        "end": seconds(utterance.end_ms),
        "text": utterance.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": _mean_log_score(utterance.words),
        "compression_ratio": round(len(written) / len(zlib.compress(written)), 4),
        "no_speech_prob": _silence(utterance),
    }


def _mean_log_score(words: tuple[Word, ...]) -> float:
    """The decoder's own scores in Whisper's place; 1e-9 stands for a score that rounded to 0."""
    return round(sum(math.log(max(word.score, 1e-9)) for word in words) / len(words), 4)


def _silence(utterance: Utterance) -> float:
    """The share of the utterance in which the decoder heard no word."""
    spoken = sum(word.end_ms - word.start_ms for word in utterance.words)
    return round(max(0.0, 1 - spoken / (utterance.end_ms - utterance.start_ms)), 4)


def _clock(ms: int, point: str) -> str:
    minutes, ms = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{ms // 1000:02}{point}{ms % 1000:03}"
