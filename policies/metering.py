"""From bytes to audio milliseconds: the meter of one request body.

A meter only watches. It is fed what is forwarded, in any cuts, and never raises; when the exchange has ended it says
what was measured and where the figure comes from (``policies.audio.sources``).

A Content-Encoding of the request is not undone here: inflating what a stranger packed would stall the event loop, and
unread it is audio at the price of its packed bytes. Metered routes refuse such requests.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from policies.audio.pcm import WIDTHS, Format, by_content_type, by_query, read_query
from policies.audio.sources import Heard, conclude, foreseen
from policies.audio.track import Track
from policies.audio.transfer import Base64Stream
from policies.audio.walker import Chunk, milliseconds
from policies.inline_audio import InlineAudio
from policies.multipart import Consumer, MultipartWalker, Part, parameters
from policies.usage import NOT_AUDIO, Measured

_TEXT_TYPES = frozenset({"application/json", "application/x-www-form-urlencoded"})
"""Requests that name their audio by URL (Deepgram, whisperX-FastAPI)."""
_TEXT_BYTES = frozenset(b"\t\n\r") | frozenset(range(0x20, 0x7F))

_FILE_FIELDS = frozenset({"file", "audio", "audio_file", "data_file"})
"""Parts that services take for the audio even without a file name; whisper.cpp is one."""

_HEAD_BYTES = 16
"""Of a body: what tells text from audio."""
_MOST_TEXT_BYTES = 65_536
"""Of a request that names its audio by URL, or has none."""
_BEFORE_JSON = b"\xef\xbb\xbf \t\r\n"
_NOT = frozenset({"false", "0", "no", "off", "f", "n"})
_WHISPER_SAMPLES = Format.of("pcm16", 16_000)
"""How whisper-asr-webservice reads any file with ``encode=false``."""

_PLAIN_ENCODINGS = frozenset({"", "binary", "8bit", "7bit", "base64"})


class Meter(Protocol):
    """Measures the audio of one request body."""

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the body, as they were received."""

    @property
    def so_far_ms(self) -> int:
        """What the bytes fed so far come to by themselves; final figures may be a little lower or higher."""

    @property
    def estimate_ms(self) -> int | None:
        """The best guess at the whole body, at any time: unproved, for a reservation. Never less than ``so_far_ms``.

        From what its header claims; else from what has passed, over the announced length; else from that length alone.
        None where nothing is known yet.
        """

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
    asked = read_query(query) if query else {}
    fields = {name: asked[name][-1] for name in ("model", "language") if name in asked}
    declared = by_query(asked) if "encoding" in asked else None
    if asked.get("encode", [""])[-1].lower() in _NOT:
        declared = _WHISPER_SAMPLES
    if media_type.startswith("multipart/"):
        return FormMeter(content_type, body_bytes, fields, declared)
    if declared is None and media_type in WIDTHS:
        declared = by_content_type(media_type, dict(parameters(content_type)))
    return BodyMeter(body_bytes, fields, declared, says_text=media_type in _TEXT_TYPES)


class FormMeter:
    """A form upload. The audio of all its files is added up; ``model`` and its like are taken down."""

    __slots__ = ("_body_bytes", "_declared", "_fields", "_file", "_files", "_size", "_walker")

    def __init__(
        self,
        content_type: str,
        body_bytes: int | None = None,
        fields: Mapping[str, str] | None = None,
        declared: Format | None = None,
    ) -> None:
        self._body_bytes = body_bytes
        self._fields = fields or {}
        self._declared = declared
        self._file: _File | None = None
        self._files: list[Heard] = []  # those that have ended: a figure each, and none of their bytes
        self._size = 0
        self._walker = MultipartWalker(content_type, self._open)

    def _open(self, part: Part) -> Consumer:
        self._files = self._heard()
        self._file = _File(part, self._declared)
        return self._file.feed

    def feed(self, chunk: Chunk) -> None:
        """See :class:`Meter`."""
        self._size += len(chunk)
        self._walker.feed(chunk)

    @property
    def so_far_ms(self) -> int:
        """See :class:`Meter`."""
        return sum(heard.best_ms for heard in self._heard())

    @property
    def estimate_ms(self) -> int | None:
        """See :class:`Meter`."""
        return foreseen(self._heard(), self._size, self._body_bytes)

    def _heard(self) -> list[Heard]:
        found = self._file.heard() if self._file else None
        return [*self._files, found] if found else self._files

    def finish(self, *, reported_ms: int | None = None) -> Measured:
        """See :class:`Meter`."""
        walker = self._walker
        fields = {**self._fields, **walker.fields}
        by_url = any(fields.get(name) for name in ("url", "audio_url"))
        return conclude(self._heard(), self._size, reported_ms, sound=walker.sound, fields=fields, by_url=by_url)


class BodyMeter:
    """A body that is itself the audio; or JSON that holds it, or names it, or has none."""

    __slots__ = ("_body_bytes", "_declared", "_fields", "_head", "_inline", "_says_text", "_track")

    def __init__(
        self,
        body_bytes: int | None = None,
        fields: Mapping[str, str] | None = None,
        declared: Format | None = None,
        *,
        says_text: bool = False,
    ) -> None:
        self._body_bytes = body_bytes
        self._fields = fields or {}
        self._declared = declared
        self._says_text = says_text
        self._head = b""
        self._track = Track()
        self._inline: InlineAudio | None = None

    def feed(self, chunk: Chunk) -> None:
        """See :class:`Meter`."""
        if len(self._head) < _HEAD_BYTES:
            self._head += chunk[: _HEAD_BYTES - len(self._head)]
            if self._inline is None and self._head.lstrip(_BEFORE_JSON)[:1] in {b"{", b"["} and self._says_text:
                self._inline = InlineAudio()
        if self._inline is not None:
            self._inline.feed(chunk)
        self._track.feed(chunk)

    @property
    def so_far_ms(self) -> int:
        """See :class:`Meter`."""
        return sum(heard.best_ms for heard in self._heard())

    @property
    def estimate_ms(self) -> int | None:
        """See :class:`Meter`."""
        return foreseen(self._heard(), self._track.size, self._body_bytes)

    def _heard(self) -> list[Heard]:
        track = self._track
        if not track.size:
            return []
        if self._says_text and not track.container and _is_text(self._head):
            found = self._inline.heard if self._inline else []
            # No request is that long without audio in it: as numbers, perhaps, or in a field of a form.
            return found or ([Heard.of(track)] if track.size > _MOST_TEXT_BYTES else [])
        return [heard_as(track, self._declared)]

    def finish(self, *, reported_ms: int | None = None) -> Measured:
        """See :class:`Meter`."""
        fields, by_url = dict(self._fields), False
        if self._inline is not None:
            self._inline.note()
            by_url = self._inline.names_url
            fields |= self._inline.fields
        elif self._says_text:
            by_url = b"url=" in self._head
        return conclude(self._heard(), self._track.size, reported_ms, sound=True, fields=fields, by_url=by_url)


class NoMeter:
    """A route that carries no audio."""

    __slots__ = ()

    so_far_ms = 0
    estimate_ms = None

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

    __slots__ = ("_base64", "_declared", "_is_file", "_is_opaque", "_plain", "_undone")

    def __init__(self, part: Part, declared: Format | None = None) -> None:
        self._declared = declared
        self._is_file = part.is_file or part.name in _FILE_FIELDS
        self._is_opaque = part.transfer_encoding not in _PLAIN_ENCODINGS
        self._plain = Track()
        self._base64 = Base64Stream() if part.transfer_encoding == "base64" else None
        self._undone = Track()

    def feed(self, view: memoryview) -> None:
        self._plain.feed(view)
        if self._base64:
            self._undone.feed(self._base64.decode(view))

    @property
    def track(self) -> Track:
        """The reading that tells more."""
        if not self._base64:
            return self._plain
        return max(self._plain, self._undone, key=lambda track: (track.walked_ms or 0, bool(track.container)))

    def heard(self) -> Heard | None:
        """None for a part that is no audio: it is empty, or has neither a file's name nor a container's first bytes."""
        track = self.track
        if not self._plain.size or not (self._is_file or track.container):
            return None
        heard = heard_as(track, self._declared)
        if self._is_opaque and heard.best_ms < heard.estimated_ms:
            return replace(heard, walked_ms=None)
        return heard


def heard_as(track: Track, declared: Format | None) -> Heard:
    """A file whose samples somebody declared to be plain: read so, or by its container, whichever plays longer."""
    heard = Heard.of(track)
    if declared is None:
        return heard
    ms = milliseconds(track.size // declared.frame, declared.rate)
    if heard.walked_ms is not None and heard.walked_ms >= ms:
        return heard
    form = replace(heard, container="pcm", codec=declared.codec, channels=declared.channels)
    return replace(form, walked_ms=ms, claimed_ms=None, estimated_ms=ms, unsure=False)


def _is_text(head: bytes) -> bool:
    return all(byte in _TEXT_BYTES for byte in head)
