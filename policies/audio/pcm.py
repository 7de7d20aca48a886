"""Plain samples whose format somebody declared: in a query, a content type, or a first message."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import parse_qsl

from policies.audio.walker import Chunk

_NS_PER_SECOND = 1_000_000_000
_NS_PER_MS = 1_000_000
MOST_RATE = 192_000
"""Hz. A declared rate makes bytes cheap: no recording of speech has more."""
_MOST_CHANNELS = 64

_S16, _FLOAT, _MULAW, _ALAW = (2, "pcm_s16le"), (4, "pcm_f32le"), (1, "pcm_mulaw"), (1, "pcm_alaw")
WIDTHS: Mapping[str, tuple[int, str]] = {
    **dict.fromkeys(("linear16", "pcm_s16le", "pcm16", "int16", "s16le", "pcm", "raw"), _S16),
    **dict.fromkeys(("audio/pcm", "audio/raw", "audio/x-raw"), _S16),
    **dict.fromkeys(("pcm_s16be", "audio/l16"), (2, "pcm_s16be")),
    **dict.fromkeys(("linear32", "pcm_f32le", "float32", "f32le"), _FLOAT),
    **dict.fromkeys(("mulaw", "ulaw", "pcm_mulaw", "g711_ulaw"), _MULAW),
    **dict.fromkeys(("audio/pcmu", "audio/mulaw", "audio/x-mulaw", "audio/basic"), _MULAW),
    **dict.fromkeys(("alaw", "pcm_alaw", "g711_alaw", "audio/pcma", "audio/alaw", "audio/x-alaw"), _ALAW),
    **dict.fromkeys(("uint8", "pcm_u8"), (1, "pcm_u8")),
    "pcm_s24le": (3, "pcm_s24le"),
    "pcm_s32le": (4, "pcm_s32le"),
}
"""Bytes of a sample and FFmpeg's name, by what services and content types call the encoding, in lower case."""


@dataclass(frozen=True, slots=True)
class Format:
    """``frame`` is the bytes that all channels take for one sample."""

    codec: str
    rate: int
    channels: int
    frame: int

    @classmethod
    def of(cls, encoding: str, rate: str | int, channels: str | int = 1) -> "Format | None":
        """What was declared; None for an encoding that is none of plain samples, or for figures that make no sense."""
        return cls.longest([encoding], [rate], [channels])

    @classmethod
    def longest(
        cls, encodings: Iterable[str], rates: Iterable[str | int], channels: Iterable[str | int]
    ) -> "Format | None":
        """Of all that were declared the one in which bytes play longest; None as for :meth:`of`."""
        named = (WIDTHS.get(encoding.strip().lower()) for encoding in encodings)
        known = min(filter(None, named), default=None)
        hz, count = (min(filter(None, map(_whole, said)), default=0) for said in (rates, channels))
        if known is None or not hz or not count:
            return None
        width, codec = known
        count = min(count, _MOST_CHANNELS)
        return cls(codec, min(hz, MOST_RATE), count, width * count)


Query: TypeAlias = Mapping[str, Sequence[str]]


def read_query(raw: str) -> Query:
    """The parameters of a query, each with all its values."""
    values: dict[str, list[str]] = {}
    for name, value in parse_qsl(raw, keep_blank_values=True):
        values.setdefault(name, []).append(value)
    return values


def by_query(query: Query, *, encoding: str = "", rate: int = 16_000) -> Format | None:
    """What ``encoding``, ``sample_rate`` and ``channels`` declare; ``encoding`` and ``rate`` where they say nothing.

    Of a name that comes twice readers take the first or the last: the longer playing counts.
    """
    return Format.longest(
        (name or encoding for name in query.get("encoding", [""])),
        (hz or rate for hz in query.get("sample_rate", [""])),
        (count or 1 for count in query.get("channels", [""])),
    )


def by_content_type(media_type: str, parameters: Mapping[str, str]) -> Format | None:
    """What a content type declares (RFC 2586 for ``audio/L16``); G.711 is of 8 kHz unless it says otherwise."""
    rate = 8_000 if WIDTHS.get(media_type, _S16)[0] == 1 else 16_000
    return Format.of(media_type, parameters.get("rate") or rate, parameters.get("channels") or 1)


def _whole(text: str | int) -> int:
    """A whole number above 0, also where it is written as 16000.0; else 0."""
    try:
        value = float(text)
    except ValueError:
        return 0
    return int(value) if 1 <= value < 1 << 31 else 0


class PcmCounter:
    """Bytes of plain samples; the format may change in between."""

    __slots__ = ("_earlier_ns", "_size", "format")

    def __init__(self, form: Format) -> None:
        self.format = form
        self._size = 0
        self._earlier_ns = 0

    @property
    def ms(self) -> int:
        """What has been counted."""
        return (self._ns + _NS_PER_MS // 2) // _NS_PER_MS

    @property
    def _ns(self) -> int:
        return self._earlier_ns + self._size * _NS_PER_SECOND // (self.format.frame * self.format.rate)

    def change(self, form: Format, again: int = 0) -> None:
        """From now on the bytes mean this, and so do the last ``again`` of those that have come."""
        if form != self.format:
            again = min(again, self._size)
            self._size -= again
            self._earlier_ns, self._size, self.format = self._ns, again, form

    def feed(self, chunk: Chunk) -> None:
        """The next bytes."""
        self._size += len(chunk)
