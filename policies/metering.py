"""From bytes to audio milliseconds: the meter of one request body.

A meter only watches. It is fed what is forwarded, in any cuts, and never raises; when the exchange has ended it says
what was measured and where the figure comes from (``policies.audio.sources``).

A Content-Encoding of the request is not undone here: inflating what a stranger packed would stall the event loop, and
unread it is audio at the price of its packed bytes. Metered routes refuse such requests.
"""

from dataclasses import replace
from typing import Protocol

from policies.audio.sniff import SNIFF_BYTES
from policies.audio.sources import Heard, conclude, foreseen
from policies.audio.track import Track
from policies.audio.transfer import Base64Stream
from policies.audio.walker import Chunk
from policies.multipart import Consumer, MultipartWalker, Part
from policies.usage import NOT_AUDIO, Measured

_TEXT_TYPES = frozenset({"application/json", "application/x-www-form-urlencoded"})
"""Requests that name their audio by URL (Deepgram, whisperX-FastAPI)."""
_TEXT_BYTES = frozenset(b"\t\n\r") | frozenset(range(0x20, 0x7F))

_FILE_FIELDS = frozenset({"file", "audio", "audio_file", "data_file"})
"""Parts that services take for the audio even without a file name; whisper.cpp is one."""

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


def meter_for(profile: str, content_type: str, body_bytes: int | None = None) -> Meter:
    """The meter for a route's profile (``multipart``, ``raw`` or ``none``) and a request's content type and length.

    A form is read as a form on either kind of route, and anything else as one file: services do not all insist on the
    type they document. Raises ValueError for a profile that is none of the three.
    """
    if profile == "none":
        return _NO_METER
    if profile not in {"multipart", "raw"}:
        raise ValueError(f"{profile!r} is not a metering profile: write multipart, raw or none")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type.startswith("multipart/"):
        return FormMeter(content_type, body_bytes)
    return BodyMeter(body_bytes, says_text=media_type in _TEXT_TYPES)


class FormMeter:
    """A form upload. The audio of all its files is added up; ``model`` and its like are taken down."""

    __slots__ = ("_body_bytes", "_files", "_size", "_walker")

    def __init__(self, content_type: str, body_bytes: int | None = None) -> None:
        self._body_bytes = body_bytes
        self._files: list[_File] = []
        self._size = 0
        self._walker = MultipartWalker(content_type, self._open)

    def _open(self, part: Part) -> Consumer:
        file = _File(part)
        self._files.append(file)
        return file.feed

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
        return [found for file in self._files if (found := file.heard()) is not None]

    def finish(self, *, reported_ms: int | None = None) -> Measured:
        """See :class:`Meter`."""
        walker = self._walker
        return conclude(self._heard(), self._size, reported_ms, sound=walker.sound, fields=walker.fields)


class BodyMeter:
    """A body that is itself the audio, or, where its type and its first bytes both say text, a request without any."""

    __slots__ = ("_body_bytes", "_head", "_says_text", "_track")

    def __init__(self, body_bytes: int | None = None, *, says_text: bool = False) -> None:
        self._body_bytes = body_bytes
        self._says_text = says_text
        self._head = b""
        self._track = Track()

    def feed(self, chunk: Chunk) -> None:
        """See :class:`Meter`."""
        if len(self._head) < SNIFF_BYTES:
            self._head += chunk[: SNIFF_BYTES - len(self._head)]
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
        is_audio = track.size and not (self._says_text and not track.container and _is_text(self._head))
        return [Heard.of(track)] if is_audio else []

    def finish(self, *, reported_ms: int | None = None) -> Measured:
        """See :class:`Meter`."""
        return conclude(self._heard(), self._track.size, reported_ms, sound=True, fields={})


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

    __slots__ = ("_base64", "_is_file", "_is_opaque", "_plain", "_undone")

    def __init__(self, part: Part) -> None:
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
        heard = Heard.of(track)
        if self._is_opaque and heard.best_ms < heard.estimated_ms:
            return replace(heard, walked_ms=None)
        return heard


def _is_text(head: bytes) -> bool:
    return all(byte in _TEXT_BYTES for byte in head)
