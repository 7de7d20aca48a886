"""The chunks of a CAF: its description, cookie, table of packets and data, in whatever order they stand."""

import struct

from policies.audio.caf.kinds import KINDS, Description, Kind
from policies.audio.caf.table import Table
from policies.audio.plain import MOST_RATE, framed_of, frames_of
from policies.audio.steps import Lost, Reader, Steps
from policies.audio.walker import Chunk
from policies.audio.wav_formats import Layout

_HEAD_BYTES, _CHUNK = 20, struct.Struct(">4sq")
_DESCRIPTION, _TABLE = struct.Struct(">d4s4xIIII"), struct.Struct(">qqii")
_EDITS_BYTES, _MOST_COOKIE_BYTES = 4, 4096
_TO_THE_END = 1 << 62
_SAMPLES = {b"lpcm": 0, b"ulaw": 8, b"alaw": 8}
"""Bits of a sample; 0 where the description says it. Decoders know how long one is, and ask no packet."""
_MUCH = 1 << 40
"""Bytes, to see which reading plays longer."""


class CafWalker:
    """Counts bytes of samples and of frames of one size; of other codecs packets."""

    __slots__ = (
        "_cookie", "_kind", "_layout", "_rate", "_reader", "_samples", "_table", "_total", "channels", "passed",
    )  # fmt: skip

    def __init__(self) -> None:
        self.channels: int | None = None
        self.passed = 0
        self._layout: Layout | None = None
        self._kind: Kind | None = None
        self._table = Table()
        self._rate = 1
        self._samples = self._total = 0
        self._cookie = b""
        self._reader = Reader(self._read())

    @property
    def _said(self) -> Description:
        return Description(self._rate, self._samples, self._total, self._cookie)

    @property
    def codec(self) -> str:
        """FFmpeg's name; empty until known."""
        return self._kind.codec if self._kind else self._layout.codec if self._layout else ""

    @property
    def strange(self) -> int:
        """All, of a codec that is not known, and where there is no table for one that needs it."""
        if self._kind:
            return self.passed if self._kind.needs_table and not self._table.count else 0
        return 0 if self._layout else self.passed

    @property
    def unsure(self) -> bool:
        """Whether the figure rests on a guess, or on what the file says of frames of one size."""
        return self._kind is None or self._kind.is_unsure(self._table, self._said)

    @property
    def claimed_ms(self) -> int | None:
        """By the table."""
        return self._total * 1000 // self._rate or None if self._rate else None

    @property
    def ms(self) -> int | None:
        """Of the data."""
        if self._layout:
            return self._layout.ms(self._table.data) or None
        return self._kind.ms(self._table, self._said) or None if self._kind else None

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the file."""
        self.passed += len(chunk)
        unread = self._reader.feed(chunk)
        self._table.data += unread

    def _read(self) -> Steps:
        yield _HEAD_BYTES
        self._describe((yield _DESCRIPTION.size))
        while True:
            name, size = _CHUNK.unpack((yield _CHUNK.size))
            if name == b"data":
                yield _EDITS_BYTES
                self._table.begin_data()
                self._reader.sink = self._hear
                yield -(size - _EDITS_BYTES if size >= _EDITS_BYTES else _TO_THE_END)
            elif size < 0:
                raise Lost
            elif name == b"kuki" and size <= _MOST_COOKIE_BYTES:
                self._cookie = yield size
            elif name == b"pakt" and size >= _TABLE.size:
                packets, valid, priming, remainder = _TABLE.unpack((yield _TABLE.size))
                self._total = max(valid + priming + remainder, 0) if self._kind else 0
                self._table.begin(packets)
                self._reader.sink = self._table.read
                yield _TABLE.size - size
            else:
                yield -size

    def _describe(self, body: bytes) -> None:
        rate, name, size, samples, channels, bits = _DESCRIPTION.unpack(body)
        is_rate = 1 <= rate < MOST_RATE
        if not is_rate and name not in KINDS:
            raise Lost
        self._rate, self._samples, self.channels = int(rate) if is_rate else 0, samples, channels
        codec = f"caf_{name.decode('ascii', 'replace').strip().lower()}"
        if name in KINDS:
            self._kind, self._table.fixed = KINDS[name](), size
        elif name in _SAMPLES:
            self._layout = frames_of(codec, channels, self._rate, _SAMPLES[name] or bits)
        else:
            framed = framed_of(name, channels, self._rate, size)
            stated = None
            if size and samples:
                stated = Layout(codec, channels, self._rate, block=size, header=size, lead=samples, bits=1 << 62)
            known = [layout for layout in (framed, stated) if layout]
            self._layout = max(known, key=lambda layout: layout.ms(_MUCH), default=None)

    def _hear(self, data: bytes, _is_last: bool) -> None:  # noqa: FBT001
        self._table.take(data)
        if self._kind:
            self._kind.take(data, self._said)
