"""Audio inside a JSON body: base64 strings and data URLs; or a URL in its place, which carries none.

OpenAI's ``input_audio``, Google's ``audio.content``, ``known_speaker_references`` and the like put base64 into a
string; Deepgram, AssemblyAI, Gladia and others name a place to fetch from.
"""

import copy

from policies.audio.sources import Heard
from policies.audio.track import Track
from policies.audio.transfer import Base64Stream
from policies.audio.walker import Chunk
from policies.elsewhere import Elsewhere, is_place
from policies.json_stream import MOST_KEPT_BYTES, Consumer, JsonStream, Path

_DATA_URL, _HEAD_BYTES = b"data:", 256
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_="
_TELLING_BYTES = 2048
"""From this many decoded bytes on a string of base64 is taken for audio even if no container is known in it."""
_NOTED = frozenset({"model", "speech_model", "language", "language_code", "response_format"})
_MOST_STRINGS = 256
"""Strings of audio told apart; the rest is one."""


class _String:
    """One string: a data URL, plain base64, or neither."""

    __slots__ = ("_foreign", "_head", "_is_open", "_readings", "size", "text")

    def __init__(self) -> None:
        self.text = bytearray()
        # By base64 with the URL-safe letters; and, once one of them has come, by base64 that passes over them.
        self._readings = [(Base64Stream(is_url_safe=True), Track())]
        self._head = b""
        self._is_open = False
        self.size = 0
        self._foreign = 0

    def feed(self, piece: bytes) -> None:
        room = MOST_KEPT_BYTES - len(self.text)
        if room > 0:
            self.text += piece[:room]
        if self._is_open:
            self._decode(piece)
            return
        self._head += piece
        if self._head.startswith(_DATA_URL[: len(self._head)]):
            _, comma, rest = self._head.partition(b",")
            if not comma:
                if len(self._head) < _HEAD_BYTES:
                    return
            else:
                self._head = rest
        self._is_open = True
        self._decode(self._head)
        self._head = b""

    def _decode(self, piece: bytes) -> None:
        self.size += len(piece)
        self._foreign += len(piece.translate(None, _BASE64))
        if len(self._readings) == 1 and (b"-" in piece or b"_" in piece):
            base64, track = copy.deepcopy(self._readings[0])
            base64.is_url_safe = False
            self._readings.append((base64, track))
        for base64, track in self._readings:
            track.feed(base64.decode(piece))

    @property
    def track(self) -> Track:
        """The reading that tells more."""
        return max((track for _, track in self._readings), key=lambda one: (one.walked_ms or 0, bool(one.container)))

    @property
    def is_audio(self) -> bool:
        """Text has spaces in it, and base64 no more than its line breaks.

        A place is none, unless it plays: decoders pass over the colon of ``http://``, and players over what that makes.
        """
        track = self.track
        is_text = self._foreign * 20 > self.size
        if is_text or (track.walked_ms is None and is_place(self.text[:8].decode("latin-1"))):
            return False
        return bool(track.container) or track.size >= _TELLING_BYTES


class InlineAudio:
    """Walks one JSON body in any cuts; tells ``elsewhere`` of the places that it names."""

    __slots__ = ("_current", "_elsewhere", "_ended", "_ended_bytes", "_path", "_stream", "fields")

    def __init__(self, elsewhere: Elsewhere) -> None:
        self.fields: dict[str, str] = {}
        self._elsewhere = elsewhere
        self._ended: list[Heard] = []
        self._ended_bytes = 0
        self._current: _String | None = None
        self._path: Path = ()
        self._stream = JsonStream(self._value, self._string)

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
        """Of text, in the strings that are audio."""
        current = self._current
        return self._ended_bytes + (current.size if current and current.is_audio else 0)

    def _string(self, path: Path) -> Consumer:
        self._end()
        self._path = path
        self._current = _String()
        return self._current.feed

    def _value(self, path: Path, value: str) -> None:  # noqa: ARG002  numbers and the like say nothing
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
        else:
            self._elsewhere.note(self._path, text)
