"""The meter of a form upload, and of one part of it that may be audio."""

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce

from policies.account.usage import Measured
from policies.audio.pcm import Format
from policies.audio.sources import Heard, conclude, foreseen
from policies.audio.track import UNKNOWN_BITRATE, Track
from policies.audio.transfer import Base64Stream, QuotedStream
from policies.audio.walker import Chunk
from policies.metering.elsewhere import Elsewhere
from policies.metering.inline_audio import InlineString
from policies.metering.json_body import JsonBody
from policies.metering.multipart import MOST_NOTED_BYTES, Consumer, MultipartWalker, Part, has_plain_names
from policies.metering.readings import MOST_TEXT_BYTES, heard_as, heard_inside, is_text, says_more

_FILE_FIELDS = frozenset({"file", "audio", "audio_file", "data_file"})
"""Parts that services take for the audio even without a file name; whisper.cpp is one."""
_SLACK_MS = 100
"""What the lines of a form may come to as samples."""
_WHISPER_SAMPLES = Format.of("pcm16", 16_000)
"""How whisper-asr-webservice reads any file with ``encode=false``, and what it calls the part with it."""
_WHISPER_FILE = "audio_file"
_DOUBTED_BITRATE = 4_000
"""Of a form that no honest client sends: who reads it otherwise may find the thriftiest speech in it."""
_PLAIN_ENCODINGS = frozenset({"", "binary", "8bit", "7bit", "base64"})


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
        self._file: _FormPart | None = None
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
        self._file = _FormPart(part, self._elsewhere, _WHISPER_SAMPLES if is_samples else self._declared)
        return self._file.feed

    def _note(self) -> None:
        if self._file:
            self._file.note()
            self._said.update(self._file.fields)

    def feed(self, chunk: Chunk) -> None:
        """See :class:`policies.metering.meters.Meter`."""
        self._size += len(chunk)
        self._walker.feed(chunk)
        if self._whole:
            self._whole.feed(memoryview(chunk))

    @property
    def estimate_ms(self) -> int | None:
        """See :class:`policies.metering.meters.Meter`."""
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
        """See :class:`policies.metering.meters.Meter`."""
        if self._file:
            self._file.note()
        return self._elsewhere.passes_by

    def finish(self, *, reported_ms: int | None = None) -> Measured:
        """See :class:`policies.metering.meters.Meter`."""
        self._note()
        walker, by_url = self._walker, self._elsewhere.fetches
        fields = {**self._fields, **self._said, **walker.fields}
        bitrate = _DOUBTED_BITRATE if walker.broken or walker.irregular else UNKNOWN_BITRATE
        return conclude(
            self._heard(),
            self._size,
            reported_ms,
            sound=walker.sound,
            fields=fields,
            by_url=by_url,
            weighed_bitrate=bitrate,
        )


class _FormPart:
    """One part of a form that may be audio.

    A transfer encoding is obeyed by some services and ignored by others. So base64 and quoted-printable are read both
    ways, and the longest playing counts; of all encodings but base64 only the bytes are sure, and a walk does not lower
    their estimate.
    """

    __slots__ = (
        "_declared", "_elsewhere", "_is_file", "_is_noted", "_is_opaque", "_json", "_name", "_plain",
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
        self._plain = Track(part.named_bitrate)
        self._undone: list[tuple[Base64Stream | QuotedStream, Track]] = [
            (undo(), Track(part.named_bitrate))
            for name, undo in (("base64", Base64Stream), ("quoted", QuotedStream))
            if name in part.transfer_encoding
        ]

    def feed(self, view: memoryview) -> None:
        if len(self._text) < MOST_NOTED_BYTES:
            text = view if self._text else bytes(view).lstrip()
            self._text += text[: MOST_NOTED_BYTES - len(self._text)]
        self._json.feed(view)
        self._plain.feed(view)
        if self._string:
            self._string.feed(bytes(view))
        for undo, track in self._undone:
            track.feed(undo.decode(view))

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
        return 0 if self._undone or self._is_opaque else self._plain.foretold_bytes

    @property
    def track(self) -> Track:
        """The reading that tells more."""
        if not self._undone:
            return self._plain
        return max(
            self._plain,
            *(track for _, track in self._undone),
            key=lambda track: (track.walked_ms or 0, bool(track.container)),
        )

    def heard(self) -> Heard | None:
        """None for a part that is no audio: empty, or short and without a file's name or a container's first bytes."""
        track, inline = self.track, self._json.inline
        if inline is not None and (is_text(self._json.head, track) or says_more(inline, track)):
            found = heard_inside(inline, track)
            if found or (track.size <= MOST_TEXT_BYTES and self._declared is None):
                return reduce(Heard.joined, found) if found else None
        if self._string and self._string.says_audio and not track.container:
            return Heard.of(self._string.track)
        size = self._plain.size
        if not size or not (self._is_file or track.container or size > MOST_TEXT_BYTES):
            return None
        heard = heard_as(track, self._declared)
        if self._is_opaque and heard.best_ms < heard.estimated_ms:
            return replace(heard, walked_ms=None)
        return heard
