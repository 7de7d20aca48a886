"""Files made of named chunks, as WAV and AIFF are: which of their bytes are samples, and which may be.

A size is honoured as far as the bytes go, as decoders do. Of 0, and from 0x7FFF0000 on, the size of the samples means
"to the end": a pipe leaves that behind (0 and 0xFFFFFFFF from FFmpeg, 0x7FFFF... from SoX). Every chunk of samples
counts, since FFmpeg plays them all from a pipe.

A forged size can hide audio from the reader that obeys it and show it to another one: simple readers take all that
follows the 44th byte for samples. So what stands in a chunk that no recorder writes, behind the last chunk, or in more
metadata than a recording has, counts as audio. Zeros do not: recorders fill files up with them.
"""

import copy
import enum
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from policies.audio.disguise import Disguise
from policies.audio.speech import G723Walker
from policies.audio.walker import Chunk, Walker
from policies.audio.wav_formats import Layout
from policies.audio.wma import Wma

FORM = b"form"
"""Stands for the file's header: magic, size and form."""
_RIFF_HEADER_BYTES = 12
_CHUNK_HEADER_BYTES = 8
_KEPT_BYTES = 40
"""How much of a chunk is read: all of WAVE_FORMAT_EXTENSIBLE, and the first three fields of ds64."""

_TO_THE_END = 1 << 63
_LEFT_BY_A_PIPE = 0x7FFF_0000
"""The smallest 32-bit size that is read as "unknown"."""

_MOST_CHUNKS = 4096
"""No recorder writes more. What follows counts as audio: a file of empty chunks costs its sender, not us."""

_NO_CHUNK = bytes(_CHUNK_HEADER_BYTES)
"""What recorders fill a file up with: it reads as a chunk without name and size, and is passed over in long strides."""
_ZEROS_AT_ONCE = 4096

_MOST_METADATA_BYTES = 65_536
"""Metadata that is free in any file; in a longer one an eighth of the samples' size is free."""
_MOST_STRANGE_BYTES = 8192
"""The same of anything else that is neither samples nor zeros."""

_MOST_LAYOUTS = 4


def _zeros(view: memoryview) -> int:
    """How many bytes of zeros, in whole chunk headers, ``view`` begins with."""
    zeros = len(view) - len(bytes(view).lstrip(b"\0"))
    return zeros - zeros % _CHUNK_HEADER_BYTES


class _Kind(enum.Enum):
    """What the chunk that is passing holds."""

    DATA = 1
    METADATA = 2
    STRANGE = 3
    PAD = 4


class Reading(ABC):
    """One reading of the file: chunk after chunk, passed over by their sizes.

    Behind a data chunk of odd size there are two. RIFF puts a byte there that it does not count, and FFmpeg's demuxer
    looks for the next chunk at once: ``unpadded`` is its reading from there on, and the one that plays longer counts.
    """

    __slots__ = (
        "_chunks",
        "_held",
        "_kind",
        "_left",
        "_pad",
        "_size",
        "_waits_for",
        "_want",
        "_zeros",
        "claimed",
        "disguise",
        "inner",
        "is_long",
        "layouts",
        "long_size",
        "metadata",
        "order",
        "pads_data",
        "played",
        "strange",
        "unpadded",
    )

    DATA: ClassVar[bytes]
    READ: ClassVar[Mapping[bytes, int]]
    """The chunks that are read, and the size below which they say too little."""
    METADATA: ClassVar[frozenset[bytes]]
    """What recorders and editors write beside the samples: text, marks, pictures."""

    def __init__(self) -> None:
        self.layouts: list[Layout] = []
        """By the format chunks that can be counted; of too many the slowest."""
        self.metadata = 0
        self.strange = 0
        """Bytes of chunks that are known to be no audio, and of all others, without the zeros around them."""
        self._zeros: int | None = None  # the last ones of this chunk, once it had a byte that is none
        self.played: int | None = None
        """Bytes of data chunks that have passed; None before the first."""
        self.claimed: int | None = 0
        """The same by the sizes they state; None once one of them states none."""
        self.unpadded: Reading | None = None
        self.pads_data = True
        self.inner: Walker | Wma | None = None
        """Takes the data of a codec whose frames must be walked."""
        self.disguise: Disguise | None = None
        """Takes data that a decoder may find frames in, whatever the file says."""
        self.order = "<"
        self.is_long = False
        self.long_size = 0
        # the bytes being gathered: of which chunk (empty for the next one's header), how many, and those that came
        self._waits_for = FORM
        self._want = _RIFF_HEADER_BYTES
        self._held = b""
        # the chunk that is passing
        self._chunks = 0
        self._size = _RIFF_HEADER_BYTES
        self._left = 0
        self._pad = 0
        self._kind = _Kind.STRANGE

    def feed(self, view: memoryview) -> None:
        """The next bytes of the file."""
        if self.unpadded:
            self.unpadded.feed(view)
        at, end = 0, len(view)
        while at < end:
            begins, are_samples = at, self._left > 0 and self._kind is _Kind.DATA
            if self._left:
                step = min(self._left, end - at)
                self._pass_by(view[at : at + step])
                at += step
                self._left -= step
                if not self._left:
                    self._end_chunk(view[at:])
            else:
                step = min(self._want - len(self._held), end - at)
                self._held += view[at : at + step]
                at += step
                if self._held == _NO_CHUNK and not self._waits_for:
                    self._held = b""
                    at += _zeros(view[at : at + _ZEROS_AT_ONCE])
                elif len(self._held) == self._want:
                    self._read()
            if self.disguise and not are_samples and self.played is not None:
                self.disguise.feed_behind(view[begins:at])

    def _pass_by(self, view: memoryview) -> None:
        if self._kind is _Kind.DATA:
            self.played = (self.played or 0) + len(view)
            if self.inner:
                self.inner.feed(view)
            if self.disguise:
                self.disguise.feed(view)
                self.disguise = None if self.disguise.is_none else self.disguise
        elif self._kind is _Kind.METADATA:
            self.metadata += len(view)
        elif self._kind is _Kind.STRANGE:
            self._weigh(bytes(view))

    def _weigh(self, strange: bytes) -> None:
        """Count a chunk that is no audio by its name, from its first byte that is not zero to its last one."""
        upto = len(strange.rstrip(b"\0"))
        if self._zeros is None:
            self.strange += len(strange[:upto].lstrip(b"\0"))
            self._zeros = len(strange) - upto if upto else None
        elif upto:
            self.strange += self._zeros + upto
            self._zeros = len(strange) - upto
        else:
            self._zeros += len(strange)

    def _end_chunk(self, rest: memoryview) -> None:
        pad, self._pad = self._pad, 0
        was_data, self._kind = self._kind is _Kind.DATA, _Kind.PAD
        if was_data and pad and not self.unpadded:
            self.unpadded = copy.copy(self)
            self.unpadded.layouts = list(self.layouts)
            self.unpadded.inner = self.unpadded.disguise = None
            self.unpadded.pads_data = False  # so that this one has no data chunk with a pad, and splits no more
            self.unpadded.feed(rest)
        self._left = pad

    @property
    def longest_ms(self) -> int | None:
        """What a decoder plays of the bytes so far, by the reading that plays longer; None where none can."""
        if not (self.unpadded or self.inner or self.disguise):
            return self._ms
        figures = [self._ms]
        if self.unpadded:
            figures.append(self.unpadded.longest_ms)
        figures += [walker.ms for walker in (self.inner, self.disguise) if walker]
        return max((figure for figure in figures if figure is not None), default=None)

    @property
    def claimed_ms(self) -> int | None:
        """The data chunks by the sizes they state; None when one of them states none."""
        return self.layout.ms(self.claimed) if self.layout and self.claimed else None

    @property
    def foretold_bytes(self) -> int:
        """How many more bytes cannot make it longer than it claims to be: the rest of a chunk of plain samples."""
        if self._kind is not _Kind.DATA or self.unpadded or self.inner or self.disguise or self._hidden:
            return 0
        return self._left if self.claimed and len(self.layouts) == 1 else 0

    @property
    def _hidden(self) -> int:
        """Bytes beside the samples that count as audio."""
        hidden = self.strange if self.strange > _MOST_STRANGE_BYTES else 0
        if self.metadata > max(_MOST_METADATA_BYTES, (self.played or 0) // 8):
            hidden += self.metadata
        return hidden

    @property
    def _ms(self) -> int | None:
        played, hidden = self.played or 0, self._hidden
        if self.played is None and not hidden:
            return None
        if len(self.layouts) == 1:
            return self.layouts[0].ms(played + hidden)
        return max((layout.ms(played + hidden) for layout in self.layouts), default=None)

    @property
    def layout(self) -> Layout | None:
        """What the file says it is: the first one."""
        return self.layouts[0] if self.layouts else None

    def add_layout(self, layout: Layout | None) -> None:
        """One more description of the samples, if it is one."""
        if layout is None or layout in self.layouts:
            return
        self.layouts.append(layout)
        if len(self.layouts) > _MOST_LAYOUTS:
            self.layouts.remove(min(self.layouts[1:], key=lambda known: known.ms(_TO_THE_END)))

    @abstractmethod
    def take(self, kind: bytes, whole: bytes) -> None:
        """The file's header, :data:`FORM`, or the first 40 bytes of a chunk that is read."""

    def _read(self) -> None:
        whole, self._held = self._held, b""
        if not self._waits_for:
            self._open(whole[:4], int.from_bytes(whole[4:], "little" if self.order == "<" else "big"))
            return
        self.take(self._waits_for, whole)
        self._kind, self._zeros = _Kind.STRANGE, None
        self._pass(self._size - len(whole), padded=bool(self._size & 1))

    def _open(self, kind: bytes, size: int) -> None:
        self._chunks += 1
        if self._chunks > _MOST_CHUNKS:
            self._open_data(0)
        elif kind == self.DATA:
            self._open_data(size)
        elif size >= self.READ.get(kind, _TO_THE_END):
            self._waits_for, self._want, self._size = kind, min(size, _KEPT_BYTES), size
        else:
            self._kind = _Kind.METADATA if kind in self.METADATA else _Kind.STRANGE
            if self._kind is _Kind.STRANGE:
                self.strange += _CHUNK_HEADER_BYTES
                self._zeros = None
            self._pass(size, padded=bool(size & 1))

    def _open_data(self, size: int) -> None:
        if self.is_long and self.long_size:
            # EBU Tech 3306: ds64 speaks when the short size is all ones. When both speak, readers differ: the longer.
            size = self.long_size if size in {0, 0xFFFF_FFFF} else max(self.long_size, size)
            self.long_size = 0
        elif size >= _LEFT_BY_A_PIPE:
            size = 0
        self.claimed = self.claimed + size if size and self.claimed is not None else None
        self.played = self.played or 0
        self._kind = _Kind.DATA
        self._pass(size or _TO_THE_END, padded=self.pads_data and bool(size & 1))

    def _pass(self, size: int, *, padded: bool) -> None:
        """Let the rest of a chunk go by, and the byte that RIFF puts behind a chunk of odd size without counting it."""
        self._waits_for, self._want = b"", _CHUNK_HEADER_BYTES
        self._left, self._pad = (size, int(padded)) if size else (int(padded), 0)


class ChunkWalker:
    """The promise of a walker, over one reading; keeps fewer than 256 bytes of the file."""

    __slots__ = ("reading",)

    strange = 0

    def __init__(self, reading: Reading) -> None:
        self.reading = reading

    @property
    def codec(self) -> str:
        """FFmpeg's name; empty for a format that cannot be counted."""
        if self.reading.inner:
            return self.reading.inner.codec
        return self.reading.layout.codec if self.reading.layout else ""

    @property
    def unsure(self) -> bool:
        """Whether its codec's frames are of several sizes."""
        if isinstance(self.reading.inner, G723Walker):
            return self.reading.inner.unsure
        return self.reading.layout is not None and self.reading.layout.is_guess

    @property
    def channels(self) -> int | None:
        """As the file says."""
        if self.reading.inner:
            return self.reading.inner.channels
        return self.reading.layout.channels if self.reading.layout else None

    @property
    def ms(self) -> int | None:
        """See :attr:`Reading.longest_ms`."""
        return self.reading.longest_ms

    @property
    def claimed_ms(self) -> int | None:
        """See :attr:`Reading.claimed_ms`."""
        return self.reading.claimed_ms

    @property
    def foretold_bytes(self) -> int:
        """See :attr:`Reading.foretold_bytes`."""
        return self.reading.foretold_bytes

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the file, from its magic on."""
        self.reading.feed(memoryview(chunk))
