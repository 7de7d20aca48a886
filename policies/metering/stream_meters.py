"""What a WebSocket carries, by the protocol that its route names: where the format stands, and where the audio is.

================ ==========================================================================================
openai_realtime  JSON both ways; base64 of 24 kHz s16 unless the session says otherwise
deepgram         binary; ``encoding``, ``sample_rate`` and ``channels`` in the query, or a container; also ``v2``
assemblyai       binary; ``encoding`` and ``sample_rate`` in the query; v3
speechmatics     binary, or base64 in ``AddChannelAudio``; ``audio_format`` in StartRecognition
elevenlabs       base64; ``audio_format`` in the query
mistral          base64; ``session.audio_format``
whisperlive      binary; 16 kHz float32 unless the first message says otherwise
vosk             binary s16; ``config.sample_rate`` in a message, else 8 kHz
================ ==========================================================================================

What was forwarded counts, whatever came back: silence too, and what was sent before a client hung up. Text that holds
no audio (keep-alives, commits) is free. Where the server states the format of a session, that is believed.
"""

from collections.abc import Callable, Mapping
from itertools import chain

from policies.audio.pcm import Format, by_query
from policies.metering.json_stream import Path
from policies.metering.protocol_meter import ProtocolMeter, Values, milliseconds_of
from policies.metering.streams import StreamMeter

_OPENAI_RATE = 24_000
"""The only rate that OpenAI takes for ``audio/pcm``: one above it would make audio cheap."""
_OPENAI_PCM = Format("pcm_s16le", _OPENAI_RATE, channels=1, frame=2)
_SLOWEST = Format("pcm_mulaw", 8_000, channels=1, frame=1)
_TRANSCRIPTION = ("session", "audio", "input", "transcription")


class _OpenAiRealtime(ProtocolMeter):
    """``session.update`` and its beta forms; the server's ``session.created`` and ``updated`` have the last word.

    Azure names a ``deployment`` in the query, which stands for a model.
    """

    __slots__ = ("_is_settled",)

    _FORMATS: tuple[tuple[Path, Path], ...] = (
        (("session", "audio", "input", "format", "type"), ("session", "audio", "input", "format", "rate")),
        (("session", "input_audio_format"), ("session", "input_audio_params", "sample_rate_hz")),
        (("input_audio_format",), ("input_audio_params", "sample_rate_hz")),
    )
    _SAID = frozenset(chain(*_FORMATS))
    _NOTED: tuple[Path, ...] = (
        ("session", "model"),
        *((*_TRANSCRIPTION, name) for name in ("model", "language")),
        *(("session", "input_audio_transcription", name) for name in ("model", "language")),
    )
    _READ = frozenset((
        *chain(*_FORMATS), *_NOTED, ("type",),
        ("usage", "seconds"), ("usage", "input_tokens"), ("usage", "output_tokens"),
    ))  # fmt: skip

    def __init__(self, query: str) -> None:
        super().__init__(query)
        self._fields["model"] = self._fields["model"] or self._query.get("deployment", [""])[-1]
        self._is_settled = False

    def _declared(self) -> Format | None:
        return _OPENAI_PCM

    def _from_client(self, values: Values) -> None:
        self._read(values, is_asked=self._is_settled)

    def _from_upstream(self, values: Values) -> None:
        kind = values.get(("type",), "")
        if "session" in kind and self._read(values):
            self._is_settled = True
        if kind.endswith("input_audio_transcription.completed"):
            self._report(values.get(("usage", "seconds")), adds=True)
            for at, name in enumerate(("input_tokens", "output_tokens")):
                figure = values.get(("usage", name), "")
                if figure.isdecimal() and len(figure) < 10:
                    self._tokens[at] = (self._tokens[at] or 0) + int(figure)

    def _read(self, values: Values, *, is_asked: bool = False) -> bool:
        """Read a format. Of one that is said in two ways a server heeds one: the one of the longer audio counts.

        What a client asks for once the server has spoken (``is_asked``) may hold before the server says so.
        """
        if not is_asked:
            self._note(values, *self._NOTED)
        forms = [_openai_format(values[name], values.get(rate)) for name, rate in self._FORMATS if values.get(name)]
        if values.doubled & self._SAID:
            forms.append(_SLOWEST)
        if forms:
            change = self._sound.slow_down if is_asked else self._sound.change
            change(min(forms, key=lambda form: form.rate * form.frame))
        return bool(forms)


def _openai_format(name: str, rate: str | None) -> Format:
    most = _OPENAI_RATE if name in {"audio/pcm", "pcm16"} else 8_000
    form = Format.of(name, rate or most)
    if form and form.rate > most:
        form = Format.of(name, most)
    return form or _OPENAI_PCM


class _Deepgram(ProtocolMeter):
    """Version 1, and Flux (version 2)."""

    __slots__ = ()

    _READ = frozenset({("type",), ("duration",), ("start",), ("audio_window_end",)})

    def _declared(self) -> Format | None:
        return by_query(self._query)

    def _from_upstream(self, values: Values) -> None:
        kind = values.get(("type",), "")
        if kind == "Metadata":
            self._report(values.get(("duration",)))
        elif kind == "Results":
            start, length = milliseconds_of(values.get(("start",))), milliseconds_of(values.get(("duration",)))
            if start is not None and length is not None:
                self._report(str((start + length) / 1000))
        elif kind == "TurnInfo":
            self._report(values.get(("audio_window_end",)))


class _AssemblyAi(ProtocolMeter):
    """Version 3."""

    __slots__ = ()

    _READ = frozenset({("audio_duration_seconds",)})

    def _declared(self) -> Format | None:
        return by_query(self._query, encoding="pcm_s16le")

    def _from_upstream(self, values: Values) -> None:
        self._report(values.get(("audio_duration_seconds",)))


class _Speechmatics(ProtocolMeter):
    """The realtime API: raw in a format that the first StartRecognition gives, or a file.

    A second one follows a first that was refused, or counts for nothing: it makes nothing cheaper.
    """

    __slots__ = ("_is_started",)

    _READ = frozenset((
        *(("transcription_config", name) for name in ("language", "model", "operating_point")), ("message",),
        *(("audio_format", name) for name in ("type", "encoding", "sample_rate")),
    ))  # fmt: skip

    def __init__(self, query: str) -> None:
        super().__init__(query)
        self._is_started = False

    def _declared(self) -> Format | None:
        return None

    def _from_client(self, values: Values) -> None:
        self._note(values, ("transcription_config", "language"))
        if values.get(("message",)) != "StartRecognition" and ("message",) not in values.doubled:
            return
        is_again, self._is_started = self._is_started, True
        self._note(values, ("transcription_config", "model"), ("transcription_config", "operating_point"))
        if values.get(("audio_format", "type")) == "raw":
            rate = values.get(("audio_format", "sample_rate"), "")
            form = None if values.doubled else Format.of(values.get(("audio_format", "encoding"), ""), rate)
            change = self._sound.slow_down if is_again else self._sound.change
            change(form or _SLOWEST)


class _ElevenLabs(ProtocolMeter):
    """``pcm_16000``, ``ulaw_8000`` and their like; each message names its rate again: the slower one counts."""

    __slots__ = ()

    _READ = frozenset({("sample_rate",), ("config", "audio_format")})

    def _declared(self) -> Format | None:
        forms = [_elevenlabs_format(name) for name in self._query.get("audio_format", [""])]
        return min(forms, key=lambda form: form.rate * form.frame)

    def _from_client(self, values: Values) -> None:
        form = Format.of("pcm16", values.get(("sample_rate",), ""))
        if form and form.rate < self._sound.rate:
            self._sound.slow_down(form, again=self._sound.in_message)

    def _from_upstream(self, values: Values) -> None:
        if values.get(("config", "audio_format")):
            self._sound.change(_elevenlabs_format(values["config", "audio_format"]))


def _elevenlabs_format(name: str) -> Format:
    encoding, _, rate = name.partition("_")
    form = Format.of(encoding, rate) or Format.of("pcm16", 16_000)
    assert form is not None
    return form


class _Mistral(ProtocolMeter):
    """``session.update``, and the server's word on it; 16 kHz unless one says otherwise."""

    __slots__ = ("_is_settled",)

    _FORMAT: Path = ("session", "audio_format", "encoding")
    _RATE: Path = ("session", "audio_format", "sample_rate")
    _READ = frozenset({_FORMAT, _RATE, ("session", "model"), ("type",), ("usage", "prompt_audio_seconds")})

    def __init__(self, query: str) -> None:
        super().__init__(query)
        self._is_settled = False

    def _declared(self) -> Format | None:
        return Format.of("pcm16", 16_000)

    def _from_client(self, values: Values) -> None:
        self._read(values, is_asked=self._is_settled)

    def _from_upstream(self, values: Values) -> None:
        self._note(values, ("session", "model"))
        self._is_settled = (values.get(("type",)) == "session.updated" and self._read(values)) or self._is_settled
        self._report(values.get(("usage", "prompt_audio_seconds")))

    def _read(self, values: Values, *, is_asked: bool = False) -> bool:
        form = Format.of(values.get(self._FORMAT, ""), values.get(self._RATE, ""))
        if form and values.doubled:
            form = _SLOWEST
        if form:
            change = self._sound.slow_down if is_asked else self._sound.change
            change(form)
        return form is not None


class _WhisperLive(ProtocolMeter):
    """One JSON message, and then 16 kHz mono. What further ones say changes nothing at the server."""

    __slots__ = ("_is_started",)

    _READ = frozenset({("uid",), ("model",), ("language",), ("audio_format",)})

    def __init__(self, query: str) -> None:
        super().__init__(query)
        self._is_started = False

    def _declared(self) -> Format | None:
        return Format.of("float32", 16_000)

    def _binary(self, piece: bytes, last: bool) -> None:  # noqa: FBT001
        if not (last and piece == b"END_OF_AUDIO"):
            self._sound.feed(piece)

    def _from_client(self, values: Values) -> None:
        if self._is_started:
            return
        self._is_started = True
        self._note(values, ("model",), ("language",))
        self.session = values.get(("uid",), "")
        named = values.get(("audio_format",))
        if named:
            form = None if values.doubled else Format.of(named, 16_000)
            self._sound.change(form or Format.of("uint8", 16_000))


class _Vosk(ProtocolMeter):
    """``{"config": {"sample_rate": …}}``, and s16 mono.

    A rate that comes behind the first audio takes effect with another model alone: then the slower one counts.
    """

    __slots__ = ()

    _READ = frozenset({("config", "model"), ("config", "sample_rate")})

    def _declared(self) -> Format | None:
        return Format.of("pcm16", 8_000)

    def _from_client(self, values: Values) -> None:
        self._note(values, ("config", "model"))
        form = None if values.doubled else Format.of("pcm16", values.get(("config", "sample_rate"), ""))
        if form and (not self._sound.has_begun or form.rate < self._sound.rate):
            self._sound.change(form)


PROFILES: Mapping[str, Callable[[str], StreamMeter]] = {
    "openai_realtime": _OpenAiRealtime,
    "deepgram": _Deepgram,
    "assemblyai": _AssemblyAi,
    "speechmatics": _Speechmatics,
    "elevenlabs": _ElevenLabs,
    "mistral": _Mistral,
    "whisperlive": _WhisperLive,
    "vosk": _Vosk,
}
"""By the ``meter`` of a route that opens streams: what is made of a stream's query."""


def stream_meter(profile: str, query: str) -> StreamMeter | None:
    """The meter of one stream; None where the route names no protocol. ``query`` is raw."""
    make = PROFILES.get(profile)
    return make(query) if make else None
