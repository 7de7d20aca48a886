"""What the meters of all protocols share: the sound that has passed, and the messages of both sides."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from policies.account.usage import Measured
from policies.audio.pcm import Format, PcmCounter, read_query
from policies.audio.sources import LANGUAGE, MODEL, Heard, conclude
from policies.audio.track import Track
from policies.audio.transfer import Base64Stream
from policies.audio.walker import LONGEST_MS
from policies.http.websocket import TEXT
from policies.metering.json_stream import Consumer, JsonStream, Path

_AUDIO_NAMES = frozenset({"audio", "data", "chunk", "audio_base_64"})
"""Names under which protocols put base64."""


class Values(dict[Path, str]):
    """The values of one message that are read, wherever in it they stand and however many others there are."""

    def __init__(self, read: frozenset[Path]) -> None:
        super().__init__()
        self._read = read
        self.doubled: set[Path] = set()
        """Said twice, and differently, or in other letters: readers keep the first or the last, and Go's any case."""

    def note(self, path: Path, value: str) -> None:
        """One of the message."""
        name = path if path in self._read else tuple(part.lower() for part in path)
        if name in self._read:
            if name != path or self.get(name, value) != value:
                self.doubled.add(name)
            self[name] = value


class _Sound:
    """The audio of a stream: plain samples in a known format, or a container's bytes."""

    __slots__ = ("_bytes", "_pcm", "_track", "in_message")

    def __init__(self, form: Format | None) -> None:
        self._pcm = PcmCounter(form) if form else None
        self._track = Track()
        self._bytes = self.in_message = 0
        """All, and those of the message that is passing."""

    @property
    def has_begun(self) -> bool:
        return self._bytes > 0

    @property
    def rate(self) -> int:
        """In Hz; 0 of a container."""
        return self._pcm.format.rate if self._pcm else 0

    @property
    def pace(self) -> int:
        """Bytes to the second; 0 of a container."""
        return self._pcm.format.rate * self._pcm.format.frame if self._pcm else 0

    def feed(self, piece: bytes) -> None:
        self._bytes += len(piece)
        self.in_message += len(piece)
        if self._pcm:
            self._pcm.feed(piece)
        else:
            self._track.feed(piece)

    def change(self, form: Format | None) -> None:
        """Go on in another format, or the first that is known; without one the bytes are those of a container."""
        if form is None:
            self._pcm = None if not self._bytes else self._pcm
        elif self._pcm:
            self._pcm.change(form)
        else:
            self._pcm = PcmCounter(form)

    def slow_down(self, form: Format, *, again: int = 0) -> None:
        """Go on in another format where it plays longer; ``again`` bytes of the last are in it, too."""
        if self._pcm and form.rate * form.frame < self.pace:
            self._pcm.change(form, again)

    def measured(self, reported_ms: int | None, fields: Mapping[str, str]) -> Measured:
        heard = []
        if self._pcm:
            form = self._pcm.format
            heard.append(
                Heard(
                    container="pcm",
                    codec=form.codec,
                    channels=form.channels,
                    walked_ms=self._pcm.ms,
                    claimed_ms=None,
                    estimated_ms=self._pcm.ms,
                )
            )
        if self._track.size:
            heard.append(Heard.of(self._track))
        return conclude(heard, self._bytes, reported_ms, sound=True, fields=fields)


class ProtocolMeter(ABC):
    """Both directions: binary messages are audio, text ones are JSON. A subclass knows what the JSON says."""

    _READ: ClassVar[frozenset[Path]]
    """Where in a message of either side stands what is read."""

    __slots__ = (
        "_client", "_fields", "_query", "_reported_ms", "_said", "_sound", "_tokens", "_told", "_upstream", "session"
    )  # fmt: skip

    def __init__(self, query: str) -> None:
        self.session = ""
        self._query = read_query(query)
        self._fields = {name: self._query.get(name, [""])[-1] for name in (*MODEL, *LANGUAGE)}
        self._reported_ms: int | None = None
        self._tokens: list[int | None] = [None, None]
        self._sound = _Sound(self._declared())
        self._client: JsonStream | None = None
        self._upstream: JsonStream | None = None
        self._said, self._told = Values(self._READ), Values(self._READ)

    def client_piece(self, opcode: int, piece: bytes, last: bool) -> None:  # noqa: FBT001
        """See :class:`policies.metering.streams.StreamMeter`."""
        if opcode != TEXT:
            self._binary(piece, last)
            return
        if self._client is None:
            self._said = Values(self._READ)
            self._client = JsonStream(self._said.note, self._audio_string)
            self._sound.in_message = 0
        self._client.feed(piece)
        if last:
            self._client.finish()
            self._client = None
            self._from_client(self._said)

    def upstream_piece(self, opcode: int, piece: bytes, last: bool) -> None:  # noqa: FBT001
        """See :class:`policies.metering.streams.StreamMeter`."""
        if opcode != TEXT:
            return
        if self._upstream is None:
            self._told = Values(self._READ)
            self._upstream = JsonStream(self._told.note)
        self._upstream.feed(piece)
        if last:
            self._upstream.finish()
            self._upstream = None
            self._from_upstream(self._told)

    def measured(self) -> Measured:
        """See :class:`policies.metering.streams.StreamMeter`."""
        measured = self._sound.measured(self._reported_ms, self._fields)
        if self._tokens == [None, None]:
            return measured
        return replace(measured, input_tokens=self._tokens[0], output_tokens=self._tokens[1])

    @abstractmethod
    def _declared(self) -> Format | None:
        """The format that the query, or the protocol, gives from the start; None for a container."""

    def _binary(self, piece: bytes, last: bool) -> None:  # noqa: ARG002, FBT001
        self._sound.feed(piece)

    def _audio_string(self, path: Path) -> Consumer | None:
        if not path or path[-1].lower() not in _AUDIO_NAMES:
            return None
        base64, sound = Base64Stream(is_url_safe=True), self._sound  # to Node's decoder - and _ are letters as well
        return lambda piece: sound.feed(base64.decode(piece))

    def _from_client(self, values: Values) -> None:  # noqa: B027  the same
        """A whole message of the client has passed."""

    def _from_upstream(self, values: Values) -> None:  # noqa: B027  many say nothing that counts
        """A whole message of the upstream has passed."""

    def _note(self, values: Mapping[Path, str], *paths: Path) -> None:
        """Take down the model and the language, by the last name of their paths."""
        for path in paths:
            if values.get(path):
                self._fields[path[-1]] = values[path]

    def _report(self, seconds: str | None, *, adds: bool = False) -> None:
        """The upstream's own figure: the longest of all, or one more part."""
        ms = milliseconds_of(seconds)
        if ms is not None:
            before = self._reported_ms or 0
            self._reported_ms = min(before + ms if adds else max(before, ms), LONGEST_MS)


def milliseconds_of(seconds: str | None) -> int | None:
    """Seconds as whole milliseconds; None for what is no figure, or none that can be true."""
    try:
        value = float(seconds or "nan") * 1000
    except ValueError:
        return None
    return round(value) if math.isfinite(value) and 0 <= value <= LONGEST_MS else None
