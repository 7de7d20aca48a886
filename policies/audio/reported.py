"""The upstream's own figure, read from its answer as it passes.

Services say the length of the audio in these places, best first: ``duration`` (OpenAI verbose_json; vLLM writes it as a
string), ``usage.seconds`` (OpenAI json, and the last event of a stream; whole seconds with some), Mistral's
``usage.prompt_audio_seconds``, ``audio_duration``, ElevenLabs' ``audio_duration_secs``,
Deepgram's ``metadata.duration``, and where jobs and Google's answers have it. Tokens are in ``usage``. text, srt and
vtt answers say nothing, and a compressed answer is not read: none is asked for.
"""

import json
import math
import re
from typing import Any, NamedTuple, Protocol

from policies.audio.walker import LONGEST_MS

MOST_KEPT_BYTES = 64 * 1024
"""Of an answer. A longer one is looked at where services put the figure: near its head, and at its very end."""

_HEAD_BYTES = 4096
_TAIL_BYTES = 1024

# With them a service may answer with bytes that cannot be read here, or with those alone that tell nothing.
_UNREADABLE = re.compile(rb"^(?:accept[-_]encoding|range|if[-_]range):[^\r\n]*\r\n", re.IGNORECASE | re.MULTILINE)


def asking_plainly(lines: bytes) -> bytes:
    """Header lines, each with its end, by which an answer comes whole and can be read (RFC 9110 section 12.5.3)."""
    return _UNREADABLE.sub(b"", lines) + b"Accept-Encoding: identity\r\n"


class AnswerReader(Protocol):
    """Reads one answer in any cuts. Never raises."""

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the answer's body."""

    @property
    def reported_ms(self) -> int | None:
        """The figure, once the whole answer has passed; None when it has none that can be believed."""

    @property
    def tokens(self) -> "Tokens | None":
        """Likewise what it says of tokens."""


class Tokens(NamedTuple):
    """OpenAI's ``usage``: of models that are paid by tokens."""

    input: int
    output: int


def answer_reader(content_type: str, content_encoding: str = "") -> AnswerReader:
    """The reader for an answer with these header fields."""
    media_type = content_type.partition(";")[0].strip().lower()
    if content_encoding.strip().lower() not in {"", "identity"}:
        return _SILENT
    if media_type == "application/json" or media_type.endswith("+json"):
        return JsonAnswer()
    if media_type == "text/event-stream":
        return EventStreamAnswer()
    return _SILENT


class _SilentAnswer:
    """An answer in a format that never carries the figure."""

    __slots__ = ()

    reported_ms = None
    tokens = None

    def feed(self, chunk: bytes) -> None:
        pass


_SILENT = _SilentAnswer()


class JsonAnswer:
    """A JSON answer: kept and parsed as a whole when it is small and names the figure at all."""

    __slots__ = ("_kept", "_size", "_tail")

    def __init__(self) -> None:
        self._kept: list[bytes] = []
        self._size = 0
        self._tail = b""

    def feed(self, chunk: bytes) -> None:
        """Keep it while the answer is small; afterwards only its end."""
        room = MOST_KEPT_BYTES - self._size
        if room > 0:
            self._kept.append(chunk[:room])
        self._size += len(chunk)
        if self._size > MOST_KEPT_BYTES:
            self._tail = (self._tail + chunk)[-_TAIL_BYTES:]

    @property
    def reported_ms(self) -> int | None:
        """See :class:`AnswerReader`."""
        kept = b"".join(self._kept)
        if self._size > MOST_KEPT_BYTES:
            found = _near_head(kept[:_HEAD_BYTES])
            return _at_end(kept[-_TAIL_BYTES:] + self._tail) if found is None else found
        if not any(name in kept for name in _NAMES):
            return None
        return _in_object(_parsed(kept))

    @property
    def tokens(self) -> Tokens | None:
        """See :class:`AnswerReader`; of a longer answer, none."""
        kept = b"".join(self._kept)
        return _tokens_of(_parsed(kept)) if self._size <= MOST_KEPT_BYTES and b'_tokens"' in kept else None


class EventStreamAnswer:
    """Server-sent events: the figure comes with the last one, so only the end of the stream is kept."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept = bytearray()

    def feed(self, chunk: bytes) -> None:
        """Let the chunk push out what is older than it may be."""
        self._kept += chunk
        if len(self._kept) > 2 * MOST_KEPT_BYTES:  # halved at a time, so that a byte is moved once and not every time
            del self._kept[:-MOST_KEPT_BYTES]

    @property
    def reported_ms(self) -> int | None:
        """See :class:`AnswerReader`."""
        kept = bytes(self._kept[-MOST_KEPT_BYTES:])
        if not any(name in kept for name in _SECONDS):
            return None
        for line in reversed(kept.splitlines()):
            if any(name in line for name in _SECONDS):
                event = _parsed(line.removeprefix(b"data:"))
                return _at_end(line) if event is None else _in_object(event)
        return None

    @property
    def tokens(self) -> Tokens | None:
        """See :class:`AnswerReader`: those of the last event that tells."""
        for line in reversed(bytes(self._kept[-MOST_KEPT_BYTES:]).splitlines()):
            if b'_tokens"' in line and (found := _tokens_of(_parsed(line.removeprefix(b"data:")))) is not None:
                return found
        return None


def _tokens_of(answer: Any) -> Tokens | None:
    usage = answer.get("usage") if isinstance(answer, dict) else None
    if not isinstance(usage, dict):
        return None
    figures = [next((usage[name] for name in names if name in usage), 0) for names in _TOKENS]
    if not all(isinstance(figure, int) and 0 <= figure < _MOST_TOKENS for figure in figures):
        return None
    return Tokens(*figures) if any(name in usage for names in _TOKENS for name in names) else None


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _in_object(answer: Any) -> int | None:
    for path in _PATHS:
        found = answer
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        milliseconds = _milliseconds(found)
        if milliseconds is not None:
            return milliseconds
    return None


def _milliseconds(seconds: Any) -> int | None:
    """None for what is no length of audio: NaN, a negative or an absurd figure, a truth value, any other type."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float | str):
        return None
    try:
        value = float(seconds.removesuffix("s") if isinstance(seconds, str) else seconds) * 1000
    except (ValueError, OverflowError):
        return None
    return round(value) if math.isfinite(value) and 0 <= value <= LONGEST_MS else None


_TOKENS = (("input_tokens", "prompt_tokens"), ("output_tokens", "completion_tokens"))
"""OpenAI's names, and vLLM's."""
_MOST_TOKENS = 1 << 31

_SECONDS = (b'"seconds"', b'"prompt_audio_seconds"')
_NAMES = (b'duration"', *_SECONDS, b'"audio_duration_secs"', b'"totalBilledTime"', b'"totalBilledDuration"')
_PATHS = (
    ("duration",),
    ("usage", "seconds"),
    ("usage", "prompt_audio_seconds"),
    ("audio_duration",),
    ("audio_duration_secs",),
    ("metadata", "audio_duration"),  # whisperX-FastAPI, whose metadata.duration is the time the work took
    ("metadata", "duration"),
    ("job", "duration"),  # Speechmatics
    ("result", "metadata", "audio_duration"),  # Gladia
    ("audio_metadata", "audio_duration"),
    ("totalBilledTime",),  # Google, as "15s"
    ("metadata", "totalBilledDuration"),
)

_NUMBER = rb"-?[0-9][0-9.eE+-]*"

# A bracket; or a string, with what follows where it is a key and its value a whole number, bare or quoted.
_TOKEN = re.compile(
    rb'[{}\[\]]|"((?:[^"\\]|\\.)*)"(\s*:(?:\s*"?(' + _NUMBER + rb')"?(?=\s*[,}]))?)?',
    re.DOTALL,
)

# The very end of an answer is outside of any string, and a quote within a string is escaped: text cannot imitate these.
_AT_END = (
    re.compile(rb'"duration"\s*:\s*"?(' + _NUMBER + rb')"?\s*\}\s*\Z'),
    re.compile(rb'"usage"\s*:\s*\{[^{}]*"seconds"\s*:\s*(' + _NUMBER + rb")[^{}]*\}\s*\}\s*\Z"),
)


def _near_head(head: bytes) -> int | None:
    """The best figure in the first bytes of a long answer, found by following its brackets and keys."""
    found: dict[tuple[str, ...], str] = {}
    above: list[str] = []
    key = ""
    for token in _TOKEN.finditer(head):
        if token[0] in {b"{", b"["}:
            above.append(key)
            key = ""
        elif token[0] in {b"}", b"]"}:
            del above[-1:]
        elif token[2]:
            key = token[1].decode("utf-8", "replace")
            if token[3]:
                found[*above[1:], key] = token[3].decode()
    return next((ms for path in _PATHS if (ms := _milliseconds(found.get(path))) is not None), None)


def _at_end(tail: bytes) -> int | None:
    """The figure as the last thing in a long answer: at the top level, or in ``usage``."""
    for pattern in _AT_END:
        match = pattern.search(tail[-_TAIL_BYTES:])
        if match:
            return _milliseconds(match[1].decode())
    return None
