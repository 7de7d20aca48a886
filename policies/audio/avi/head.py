"""What an AVI says in front of its chunks: its streams, their formats, and where indexes are said to be."""

import re
import struct
from collections.abc import Generator, Iterator
from typing import NamedTuple

from policies.audio.sounds import Sound, sound_of

_HEADER, _LIST_BYTES = struct.Struct("<4sI"), 12
_SILENT_KINDS = frozenset((b"vids", b"txts", b"mids"))
_XAN = b"Axan"
"""Who writes it calls its DPCM plain samples."""
_OPEN = frozenset((b"hdrl", b"strl", b"odml"))
_LISTS = _OPEN | {b"movi", b"INFO"}
_PASSED = frozenset((b"avih", b"dmlh", b"strn", b"strd", b"vprp", b"JUNK", b"ISFT", b"IDIT", b"INFO"))
_PADDED = _LISTS | {b"JUNK", b"ISFT", b"IDIT", b"strn", b"strf", b"dmlh"}
"""Behind which FFmpeg passes the byte that fills an odd size up; behind others it does not."""
_LEAST_BYTES = {b"avih": 56, b"strh": 48, b"vprp": 36}
_PICTURE_BYTES, _SAMPLE_SIZE_AT = 40, 44
_SUPER_HEAD, _SUPER_ENTRY = struct.Struct("<3xBI16x"), struct.Struct("<QII")
_MOST_STREAMS = 100
_FEW_NAMES = 5
"""Chunks of one name in a row behind which FFmpeg takes no other."""


class Stream:
    """One stream: its sound, if it is one; sums over the chunks of it that have passed, and that an index named."""

    __slots__ = ("indexed", "indexes", "name", "names", "passed", "sound")

    def __init__(self, sound: Sound | None) -> None:
        self.sound = sound
        self.passed = self.indexed = 0
        self.indexes: list[int] = []
        """Where parts of its index are said to stand, the next one last."""
        self.name, self.names = b"", 0
        """Of its last chunk, and of how many more in front of that one."""

    def is_doubtful(self, name: bytes) -> bool:
        """Whether FFmpeg passes over a chunk of this name, behind strange bytes, only where it plays others alone."""
        return self.names >= _FEW_NAMES and name != self.name


class Head(NamedTuple):
    """Where the chunks begin and (0: nobody says) end; the streams, by the two digits of their chunks."""

    begins: int
    ends: int
    streams: dict[bytes, Stream]

    def pattern(self) -> re.Pattern[bytes]:
        """What FFmpeg takes for a chunk behind anything."""
        any_stream = b"|".join(self.streams) or b"(?!)"
        return re.compile(rb"(?:%b)[\0-\x7f]{2}|LIST|JUNK|idx1|indx|ix(?:%b)" % (any_stream, any_stream), re.DOTALL)

    def sound_pattern(self) -> re.Pattern[bytes]:
        """A chunk of sound whose size is below 256 MB."""
        sounds = [number for number, stream in self.streams.items() if stream.sound]
        return re.compile(rb"(?:%b|00(?=wb))[\0-\x7f]{2}...[\0-\x0f]" % (b"|".join(sounds) or b"(?!)"), re.DOTALL)


def reading(head: bytearray) -> Generator[None, None, Head | None]:
    """Read a head as it grows, each chunk once; None in the end where something stands that no recorder writes."""
    streams: dict[bytes, Stream] = {}
    stream, kind, sample_size = Stream(None), b"", 0
    for chunk in _chunks(head):
        if chunk is None:
            yield
            continue
        name, at, size = chunk
        body = bytes(head[at : at + size])
        if name == b"movi":
            return None if kind else Head(at, at + size if size else 0, streams)
        if (size & 1 and name not in _PADDED) or size < _LEAST_BYTES.get(name, 0):
            return None
        if name == b"strh" and not kind and body[4:8] != _XAN and len(streams) < _MOST_STREAMS:
            kind, sample_size = body[:4], int.from_bytes(body[_SAMPLE_SIZE_AT:][:4], "little")
        elif name == b"strf" and (kind in _SILENT_KINDS or kind == b"auds"):
            sound = sound_of(body, sample_size) if kind == b"auds" else None
            stream = streams[b"%02d" % len(streams)] = Stream(sound)
            if (kind == b"auds" and sound is None) or (kind == b"vids" and size < _PICTURE_BYTES):
                return None
            kind = b""
        elif name == b"indx" and not kind:
            stream.indexes = sorted(_places(body), reverse=True)
        elif name not in _PASSED or (name == b"INFO" and not _is_full(body[4:])) or (name == b"strd" and stream.sound):
            return None
    return None


def _is_full(info: bytes) -> bool:
    """Whether chunks fill a list: FFmpeg goes on behind the first one that does not fit, inside."""
    at = 0
    while at + _HEADER.size <= len(info):
        size = _HEADER.unpack_from(info, at)[1]
        at += _HEADER.size + size + (size & 1)
    return at == len(info)


def _chunks(head: bytearray) -> Iterator[tuple[bytes, int, int] | None]:
    """Name, body and size of each, within the head's lists too; the last one is the list of all others.

    None as long as there must be more of the head first.

    One that does not end within the last list that was opened in front of it is cut short by FFmpeg: it has no name.
    """
    at, ends = _LIST_BYTES, 0
    while True:
        while at + _LIST_BYTES > len(head):
            yield None
        name, size = _HEADER.unpack_from(head, at)
        at += _HEADER.size
        if name == b"LIST":
            name = bytes(head[at : at + 4])
            ends = at + size
            if name in _OPEN:
                at += 4
                continue
            name = name if name in _LISTS else b""
        elif name in _LISTS or at < ends < at + size:
            name = b""
        while name != b"movi" and at + size > len(head):
            yield None
        yield name, at, size
        at += size + (size & 1)


def _places(body: bytes) -> Iterator[int]:
    """Of the parts of an index; what is itself one, or has no room, stands nowhere, so that it is missed."""
    if len(body) < _SUPER_HEAD.size:
        return
    kind, count = _SUPER_HEAD.unpack_from(body)
    room = (len(body) - _SUPER_HEAD.size) // _SUPER_ENTRY.size
    if count > room:
        yield 0
    for number in range(min(count, room)):
        place, _, _ = _SUPER_ENTRY.unpack_from(body, _SUPER_HEAD.size + number * _SUPER_ENTRY.size)
        yield 0 if kind else place
