"""From bytes to audio milliseconds: the meter of one request body.

A meter only watches. It is fed what is forwarded, in any cuts, and never raises; when the exchange has ended it says
what was measured and where the figure comes from (``policies.audio.sources``).

A Content-Encoding of the request is not undone here: inflating what a stranger packed would stall the event loop, and
unread it is audio at the price of its packed bytes. Metered routes refuse such requests.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import reduce
from typing import Protocol
from urllib.parse import parse_qsl

from policies.audio.pcm import WIDTHS, Format, by_content_type, by_query, read_query
from policies.audio.sources import Heard, conclude, foreseen
from policies.audio.track import UNKNOWN_BITRATE, Track
from policies.audio.transfer import Base64Stream
from policies.audio.walker import Chunk, milliseconds
from policies.elsewhere import Elsewhere
from policies.inline_audio import InlineAudio, InlineString
from policies.json_body import JsonBody
from policies.json_stream import Consumer as StringConsumer
from policies.json_stream import Path
from policies.multipart import (
    MOST_NOTED_BYTES,
    Consumer,
    MultipartWalker,
    Part,
    has_plain_names,
    parameters,
)
from policies.pair_stream import PairStream
from policies.usage import NOT_AUDIO, Measured

_TEXT_TYPES = frozenset({"application/json", "application/x-www-form-urlencoded"})
"""Requests that name their audio by URL (Deepgram, whisperX-FastAPI)."""
_TEXT_BYTES = frozenset(b"\t\n\r") | frozenset(range(0x20, 0x7F))

_FILE_FIELDS = frozenset({"file", "audio", "audio_file", "data_file"})
"""Parts that services take for the audio even without a file name; whisper.cpp is one."""

_MOST_TEXT_BYTES = 65_536
"""Of a request that names its audio by URL, or has none: a longer one has audio in it, as numbers perhaps."""
_SLACK_MS = 100
"""What the lines of a form may come to as samples."""
_NOT = frozenset({"false", "0", "no", "off", "f", "n"})
_WHISPER_SAMPLES = Format.of("pcm16", 16_000)
"""How whisper-asr-webservice reads any file with ``encode=false``, and what it calls the part with it."""
_WHISPER_FILE = "audio_file"

_PLAIN_ENCODINGS = frozenset({"", "binary", "8bit", "7bit", "base64"})


class Meter(Protocol):
    """Measures the audio of one request body."""

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the body, as they were received; what it is given is written over afterwards."""

    @property
    def so_far_ms(self) -> int:
        """What the bytes fed so far come to by themselves; final figures may be a little lower or higher."""

    @property
    def estimate_ms(self) -> int | None:
        """The best guess at the whole body, at any time: unproved, for a reservation. Never less than ``so_far_ms``.

        From what its header claims; else from what has passed, over the announced length; else from that length alone.
        None where nothing is known yet.
        """

    @property
    def passes_by(self) -> bool:
        """Whether the request names its audio by URL, as far as it has passed, and a place for its result as well."""

    def finish(self, *, reported_ms: int | None = None) -> Measured:
        """The figure for all bytes fed so far. ``reported_ms`` is the upstream's, from ``policies.audio.reported``."""


def meter_for(profile: str, content_type: str, body_bytes: int | None = None, query: str = "") -> Meter:
    """The meter for a route's profile, and a request's content type, announced length and raw query.

    A form is read as a form on any kind of route, and anything else as one file: services do not all insist on the
    type they document. Raises ValueError for a profile that is not one of ``policies.routes.METERS``.
    """
    if profile == "none":
        return _NO_METER
    if profile not in {"multipart", "raw"}:
        raise ValueError(f"{profile!r} is not a metering profile: write multipart, raw or none")
    media_type = content_type.partition(";")[0].strip().lower()
    elsewhere = Elsewhere()
    _note_pairs(elsewhere, query)
    asked = read_query(query) if query else {}
    fields = {name: asked[name][-1] for name in ("model", "language") if name in asked}
    # No service that takes forms reads an encoding in the query: believed there, it makes what nobody can walk cheap.
    declared = by_query(asked) if "encoding" in asked and profile == "raw" else None
    if media_type.startswith("multipart/"):
        undecoded = asked.get("encode", [""])[-1].lower() in _NOT
        is_raw = profile == "raw"
        return FormMeter(content_type, elsewhere, body_bytes, fields, declared, may_be_raw=is_raw, undecoded=undecoded)
    if declared is None and media_type in WIDTHS:
        declared = by_content_type(media_type, dict(parameters(content_type)))
    return BodyMeter(elsewhere, body_bytes, fields, declared, says_text=media_type in _TEXT_TYPES)


def _note_pairs(elsewhere: Elsewhere, pairs: str) -> None:
    """The places that a query names, or a form that is written like one."""
    for name, value in parse_qsl(pairs, keep_blank_values=True) if pairs else ():
        elsewhere.note((name,), value)


class FormMeter:
    """A form upload. The audio of all its files is added up; ``model`` and its like are taken down."""

    __slots__ = (
        "_body_bytes",
        "_declared",
        "_elsewhere",
        "_estimate_ms",
        "_fields",
        "_file",
        "_files",
        "_holds_until",
        "_said",
        "_size",
        "_undecoded",
        "_walker",
        "_whole",
    )

    def __init__(
        self,
        content_type: str,
        elsewhere: Elsewhere,
        body_bytes: int | None = None,
        fields: Mapping[str, str] | None = None,
        declared: Format | None = None,
        *,
        may_be_raw: bool = False,
        undecoded: bool = False,
    ) -> None:
        """``may_be_raw``: the service may take the body for one file, with the form's lines as rubbish in it.

        ``undecoded``: whisper-asr-webservice is to take its file for samples.
        """
        self._elsewhere = elsewhere
        self._undecoded = undecoded
        self._body_bytes = body_bytes
        self._fields = fields or {}
        self._said: dict[str, str] = {}  # in parts of JSON
        self._declared = declared
        self._file: _File | None = None
        self._files: list[Heard] = []  # those that have ended: a figure each, and none of their bytes
        self._size = 0
        self._estimate_ms: int | None = None
        self._holds_until = -1
        """While no more bytes than these have come the last estimate holds: most of a long WAV needs no other."""
        self._whole = Track() if may_be_raw else None
        self._walker = MultipartWalker(content_type, self._open)
        if not has_plain_names(content_type):
            elsewhere.doubt()

    def _open(self, part: Part) -> Consumer:
        self._files = self._parts_heard()
        self._holds_until = -1
        self._note()
        if not part.is_plain:
            self._elsewhere.doubt()
        is_samples = self._undecoded and part.name == _WHISPER_FILE
        self._file = _File(part, self._elsewhere, _WHISPER_SAMPLES if is_samples else self._declared)
        return self._file.feed

    def _note(self) -> None:
        if self._file:
            self._file.note()
            self._said.update(self._file.fields)

    def feed(self, chunk: Chunk) -> None:
        """See :class:`Meter`."""
        self._size += len(chunk)
        self._walker.feed(chunk)
        if self._whole:
            self._whole.feed(memoryview(chunk))

    @property
    def so_far_ms(self) -> int:
        """See :class:`Meter`."""
        return sum(heard.best_ms for heard in self._heard())

    @property
    def estimate_ms(self) -> int | None:
        """See :class:`Meter`."""
        if self._size > self._holds_until:
            heard = self._heard()
            self._estimate_ms = foreseen(heard, self._size, self._body_bytes)
            if len(heard) == 1 and heard[0].claimed_ms == self._estimate_ms:
                self._holds_until = self._size + self._foretold_bytes
        return self._estimate_ms

    @property
    def _foretold_bytes(self) -> int:
        """How many more bytes, at the least, leave the body at what its only file claims."""
        if self._files or self._whole or self._declared or self._file is None:
            return 0
        return self._file.foretold_bytes

    def _heard(self) -> list[Heard]:
        return self._as_one_file(self._parts_heard())

    def _parts_heard(self) -> list[Heard]:
        found = self._file.heard() if self._file else None
        return [*self._files, found] if found else self._files

    def _as_one_file(self, files: list[Heard]) -> list[Heard]:
        """The whole body in the place of its files, where a service that reads no forms plays more of it."""
        whole, told = (
            heard_as(self._whole, self._declared) if self._whole else None,
            sum(file.best_ms for file in files),
        )
        if whole is None or whole.walked_ms is None or whole.walked_ms <= told + max(told // 50, _SLACK_MS):
            return files
        return [replace(whole, unsure=True)]

    @property
    def passes_by(self) -> bool:
        """See :class:`Meter`."""
        if self._file:
            self._file.note()
        return self._elsewhere.passes_by

    def finish(self, *, reported_ms: int | None = None) -> Measured:
        """See :class:`Meter`."""
        self._note()
        walker, by_url = self._walker, self._elsewhere.fetches
        fields = {**self._fields, **self._said, **walker.fields}
        return conclude(self._heard(), self._size, reported_ms, sound=walker.sound, fields=fields, by_url=by_url)


class BodyMeter:
    """A body that is itself the audio; or JSON that holds it, or names it, or has none."""

    __slots__ = (
        "_body_bytes",
        "_declared",
        "_elsewhere",
        "_fields",
        "_json",
        "_pairs",
        "_track",
    )

    def __init__(
        self,
        elsewhere: Elsewhere,
        body_bytes: int | None = None,
        fields: Mapping[str, str] | None = None,
        declared: Format | None = None,
        *,
        says_text: bool = False,
    ) -> None:
        self._elsewhere = elsewhere
        self._body_bytes = body_bytes
        self._fields = fields or {}
        self._declared = declared
        self._json = JsonBody(elsewhere)
        self._pairs = InlineAudio(elsewhere, self._pair_stream) if says_text else None
        self._track = Track()

    def feed(self, chunk: Chunk) -> None:
        """See :class:`Meter`."""
        if isinstance(chunk, bytearray):
            chunk = memoryview(chunk)
        self._json.feed(chunk)
        if self._pairs and self._json.inline is None:
            self._pairs.feed(chunk)
        self._track.feed(chunk)

    def _pair_stream(self, _: object, string: Callable[[Path], StringConsumer]) -> PairStream:
        return PairStream(string, self._give_up)

    def _give_up(self) -> None:
        """What is not looked at may name anything."""
        self._elsewhere.fetches = True

    @property
    def _inline(self) -> InlineAudio | None:
        """What reads the body, if it is text."""
        return self._json.inline or self._pairs

    @property
    def so_far_ms(self) -> int:
        """See :class:`Meter`."""
        return sum(heard.best_ms for heard in self._heard())

    @property
    def estimate_ms(self) -> int | None:
        """See :class:`Meter`."""
        return foreseen(self._heard(), self._track.size, self._body_bytes)

    def _heard(self) -> list[Heard]:
        track, inline = self._track, self._inline
        if not track.size:
            return []
        # Services read JSON whatever its content type says (Starlette's request.json(), for one).
        if inline and _is_text(self._json.head, track):
            found = _heard_inside(inline, track)
            if found or (track.size <= _MOST_TEXT_BYTES and (self._elsewhere.fetches or self._declared is None)):
                return found
        return [heard_as(track, self._declared)]

    @property
    def passes_by(self) -> bool:
        """See :class:`Meter`."""
        self._note()
        return self._elsewhere.passes_by

    def _note(self) -> None:
        if self._inline:
            self._inline.note()

    def finish(self, *, reported_ms: int | None = None) -> Measured:
        """See :class:`Meter`."""
        self._note()
        inline = self._inline
        fields = {**self._fields, **inline.fields} if inline else self._fields
        by_url = self._elsewhere.fetches
        return conclude(self._heard(), self._track.size, reported_ms, sound=True, fields=fields, by_url=by_url)


class NoMeter:
    """A route that carries no audio."""

    __slots__ = ()

    so_far_ms = 0
    estimate_ms = None
    passes_by = False

    def feed(self, chunk: Chunk) -> None:
        """See :class:`Meter`."""

    def finish(self, *, reported_ms: int | None = None) -> Measured:  # noqa: ARG002  the promise has it
        """See :class:`Meter`."""
        return NOT_AUDIO


_NO_METER = NoMeter()


class _File:
    """One part of a form that may be audio.

    A transfer encoding is obeyed by some services and ignored by others. So base64 is read both ways, and the longer
    playing counts; of the other encodings only the bytes are sure, and a walk does not lower their estimate.
    """

    __slots__ = (
        "_base64", "_declared", "_elsewhere", "_is_file", "_is_noted", "_is_opaque", "_json", "_name", "_plain",
        "_string", "_text", "_undone",
    )  # fmt: skip

    def __init__(self, part: Part, elsewhere: Elsewhere, declared: Format | None = None) -> None:
        self._name = part.name
        self._elsewhere = elsewhere
        self._text = b""
        self._is_noted = False
        """As far as it ever will be: its text is complete."""
        self._json = JsonBody(elsewhere)  # Speechmatics' config, which may name what to fetch and whom to tell
        self._declared = declared
        self._is_file = part.is_file or part.name in _FILE_FIELDS
        self._string = None if self._is_file else InlineString()
        self._is_opaque = part.transfer_encoding not in _PLAIN_ENCODINGS
        self._plain = Track()
        self._base64 = Base64Stream() if part.transfer_encoding == "base64" else None
        self._undone = Track()

    def feed(self, view: memoryview) -> None:
        if len(self._text) < MOST_NOTED_BYTES:
            text = view if self._text else bytes(view).lstrip()
            self._text += text[: MOST_NOTED_BYTES - len(self._text)]
        self._json.feed(view)
        self._plain.feed(view)
        if self._string:
            self._string.feed(bytes(view))
        if self._base64:
            self._undone.feed(self._base64.decode(view))

    def note(self) -> None:
        """Tell of the places that it names so far. As often as one likes."""
        if self._json.inline is not None:
            self._json.inline.note()
        elif not self._is_noted:
            self._elsewhere.note((self._name,), self._text.decode("utf-8", "replace").strip())
            self._is_noted = len(self._text) == MOST_NOTED_BYTES

    @property
    def fields(self) -> Mapping[str, str]:
        """What it says of the model and the like, where it is JSON."""
        return self._json.inline.fields if self._json.inline else {}

    @property
    def foretold_bytes(self) -> int:
        """See :attr:`policies.audio.track.Track.foretold_bytes`; 0 where it is read in two ways."""
        return 0 if self._base64 or self._is_opaque else self._plain.foretold_bytes

    @property
    def track(self) -> Track:
        """The reading that tells more."""
        if not self._base64:
            return self._plain
        return max(self._plain, self._undone, key=lambda track: (track.walked_ms or 0, bool(track.container)))

    def heard(self) -> Heard | None:
        """None for a part that is no audio: empty, or short and without a file's name or a container's first bytes."""
        track, inline = self.track, self._json.inline
        if inline is not None and _is_text(self._json.head, track):
            found = _heard_inside(inline, track)
            if found or (track.size <= _MOST_TEXT_BYTES and self._declared is None):
                return reduce(Heard.joined, found) if found else None
        if self._string and self._string.says_audio and not track.container:
            return Heard.of(self._string.track)
        size = self._plain.size
        if not size or not (self._is_file or track.container or size > _MOST_TEXT_BYTES):
            return None
        heard = heard_as(track, self._declared)
        if self._is_opaque and heard.best_ms < heard.estimated_ms:
            return replace(heard, walked_ms=None)
        return heard


def heard_as(track: Track, declared: Format | None) -> Heard:
    """A file whose samples somebody declared to be plain: read so, or by its container, whichever plays longer.

    What begins as some container does and cannot be walked is weighed: some services read the file all the same.
    """
    heard = Heard.of(track)
    if declared is None:
        return heard
    ms = milliseconds(track.size // declared.frame, declared.rate)
    file_ms = heard.best_ms if track.is_file else heard.walked_ms
    if file_ms is not None and file_ms >= ms:
        return heard
    form = replace(heard, container="pcm", codec=declared.codec, channels=declared.channels)
    return replace(form, walked_ms=ms, claimed_ms=None, estimated_ms=ms, unsure=False)


def _heard_inside(inline: InlineAudio, track: Track) -> list[Heard]:
    """The audio in a JSON text; where most of that is none, what the rest weighs: a decoy speaks for itself alone."""
    found, rest = inline.heard, track.size - inline.audio_bytes
    if found and rest > max(_MOST_TEXT_BYTES, track.size // 4):  # escapes make a quarter of it at most
        found.append(replace(Heard.of(track), estimated_ms=rest * 8000 // UNKNOWN_BITRATE))
    return found


def _is_text(head: bytes, track: Track) -> bool:
    """Whether it begins like a text, and nothing that a decoder would find was found in it."""
    return not track.container and track.walked_ms is None and all(byte in _TEXT_BYTES for byte in head)
