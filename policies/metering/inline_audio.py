"""Audio in the strings of a body: base64 and data URLs; or a URL in its place, which carries none.

OpenAI's ``input_audio``, Google's ``audio.content``, ``known_speaker_references`` and the like put base64 into a
string; Groq's ``url`` takes a data URL; Deepgram, AssemblyAI, Gladia and others name a place to fetch from.
"""

import copy
from collections.abc import Callable
from typing import Protocol

from policies.audio.sources import Heard
from policies.audio.track import Track
from policies.audio.transfer import Base64Stream, PercentStream
from policies.audio.walker import Chunk
from policies.metering.elsewhere import Elsewhere, is_place
from policies.metering.json_stream import MOST_KEPT_BYTES, Consumer, JsonStream, Path

_DATA_URL, _HEAD_BYTES = b"data:", 256
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_="
_TELLING_BYTES = 2048
"""From this many decoded bytes on a string of base64 is taken for audio even if no container is known in it."""
_NUMBERS_BEGIN = frozenset("-0123456789")
_NOTED = frozenset({"model", "speech_model", "operating_point", "language", "language_code", "response_format"})
_MOST_STRINGS = 256
"""Strings of audio told apart; the rest is one."""
_ONE_IN = 20
"""Strangers make a text of what might be base64, and escapes bytes of what might be a text."""


class _Reading:
    """One way to undo a string: a URL's escapes, then base64, of which a reader knows one or both."""

    __slots__ = ("base64", "percent", "track")

    def __init__(self, base64: Base64Stream | None, percent: PercentStream | None = None) -> None:
        self.base64 = base64
        self.percent = percent
        self.track = Track()

    def feed(self, piece: bytes) -> None:
        if self.percent:
            piece = self.percent.decode(piece)
        self.track.feed(self.base64.decode(piece) if self.base64 else piece)

    def with_strangers(self) -> "_Reading":
        """The same from here on, by base64 to which the URL-safe letters are strangers."""
        other = copy.deepcopy(self)
        if other.base64:
            other.base64.is_url_safe = False
        return other


class InlineString:
    """One string: a data URL, plain base64, or neither."""

    __slots__ = (
        "_escapes", "_foreign", "_head", "_is_doubled", "_is_open", "_readings", "_says_base64", "size", "text",
    )  # fmt: skip

    def __init__(self) -> None:
        self.text = bytearray()
        self._readings = [_Reading(Base64Stream(is_url_safe=True))]
        self._head = b""
        self._is_open = False
        self._is_doubled = False
        self._says_base64: bool | None = None
        """None of what is no data URL."""
        self.size = 0
        self._foreign = 0
        self._escapes = 0

    def feed(self, piece: bytes) -> None:
        """The next bytes of it."""
        room = MOST_KEPT_BYTES - len(self.text)
        if room > 0:
            self.text += piece[:room]
        if self._is_open:
            self._decode(piece)
            return
        # Python's urllib and the WHATWG read such a URL behind white space, and its scheme in any case.
        self._head = (self._head + piece).lstrip()
        if _DATA_URL.startswith(self._head[: len(_DATA_URL)].lower()):
            kind, comma, rest = self._head.partition(b",")
            if not comma and len(self._head) < _HEAD_BYTES:
                return
            if comma:
                self._open_url(kind)
                self._head = rest
        self._is_open = True
        self._decode(self._head)
        self._head = b""

    def _open_url(self, kind: bytes) -> None:
        """Begin a data URL: some readers undo its escapes (RFC 2397), others read what follows the comma as base64."""
        self._says_base64 = b"base64" in kind.lower()
        base64 = Base64Stream(is_url_safe=True) if self._says_base64 else None
        self._readings.append(_Reading(base64, PercentStream()))

    def _decode(self, piece: bytes) -> None:
        self.size += len(piece)
        self._foreign += len(piece.translate(None, _BASE64))
        self._escapes += piece.count(b"%")
        if not self._is_doubled and (b"-" in piece or b"_" in piece):
            self._is_doubled = True
            self._readings += [one.with_strangers() for one in self._readings if one.base64]
        for reading in self._readings:
            reading.feed(piece)

    @property
    def track(self) -> Track:
        """The reading that tells more. As base64 a string of escapes is noise, in which frames are found."""
        readings = self._readings
        if self._is_escaped:
            readings = [one for one in readings if one.percent or one.track.container] or readings
        tracks = (reading.track for reading in readings)
        return max(tracks, key=lambda one: (one.walked_ms or 0, bool(one.container), one.size))

    @property
    def _is_escaped(self) -> bool:
        return self._says_base64 is not None and self._escapes * _ONE_IN > self.size

    @property
    def _is_text(self) -> bool:
        """Text has spaces in it, and base64 no more than its line breaks."""
        if self._says_base64 or self._is_escaped:
            return False
        return self._foreign * _ONE_IN > self.size

    @property
    def is_audio(self) -> bool:
        """Whether it plays, or is long and no text.

        The name of a place is audio only if it plays: decoders pass over the colon of ``http://``, and players over
        whatever that decodes to.
        """
        track = self.track
        if track.walked_ms and track.container and (self._says_base64 is not None or track.size >= _TELLING_BYTES):
            return True
        if self._is_text or (track.walked_ms is None and is_place(self.text[:8].decode("latin-1"))):
            return False
        return bool(track.container) or track.size >= _TELLING_BYTES

    @property
    def says_audio(self) -> bool:
        """The same where a long text is likelier: it must be a data URL, or begin like a file."""
        return self.is_audio and (self._says_base64 is not None or bool(self.track.container))


class Strings(Protocol):
    """What finds the strings of a body, in any cuts: JSON's, or a form's."""

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the body."""


class InlineAudio:
    """Walks one body's strings in any cuts; tells ``elsewhere`` of the places that it names."""

    __slots__ = ("_current", "_elsewhere", "_ended", "_ended_bytes", "_path", "_stream", "fields", "numbers")

    def __init__(
        self,
        elsewhere: Elsewhere,
        strings: Callable[[Callable[[Path, str], None], Callable[[Path], Consumer]], Strings] = JsonStream,
    ) -> None:
        """``strings`` is made with what takes the short values, and what is asked for a consumer of each string."""
        self.fields: dict[str, str] = {}
        self.numbers = 0
        """How many stand in it: they may be samples."""
        self._elsewhere = elsewhere
        self._ended: list[Heard] = []
        self._ended_bytes = 0
        self._current: InlineString | None = None
        self._path: Path = ()
        self._stream = strings(self._value, self._string)

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the body."""
        self._stream.feed(chunk)

    @property
    def heard(self) -> list[Heard]:
        """One for every string that is audio, the one that is passing too."""
        current = self._current
        return [*self._ended, Heard.of(current.track)] if current and current.is_audio else list(self._ended)

    @property
    def audio_bytes(self) -> int:
        """Bytes of the text that are in strings of audio."""
        current = self._current
        return self._ended_bytes + (current.size if current and current.is_audio else 0)

    def _string(self, path: Path) -> Consumer:
        self._end()
        self._path = path
        self._current = InlineString()
        return self._current.feed

    def _value(self, path: Path, value: str) -> None:  # noqa: ARG002  what is no string is no audio, and no place
        self.numbers += value[:1] in _NUMBERS_BEGIN
        self._end()

    def _end(self) -> None:
        self.note()
        ended, self._current = self._current, None
        if ended is not None and ended.is_audio:
            self._ended_bytes += ended.size
            heard = Heard.of(ended.track)
            if len(self._ended) < _MOST_STRINGS:
                self._ended.append(heard)
            else:
                self._ended[-1] = self._ended[-1].joined(heard)

    def note(self) -> None:
        """Take down what the last string says, if it is no audio. As often as one likes."""
        if self._current is None or self._current.is_audio:
            return
        name = self._path[-1] if self._path else ""
        text = self._current.text.decode("utf-8", "replace")
        if name in _NOTED and len(self._path) <= 2:
            self.fields[name] = text
        elif self._path == ("speech_models",):  # AssemblyAI's, the wanted one first
            self.fields.setdefault("speech_model", text)
        else:
            self._elsewhere.note(self._path, text)
