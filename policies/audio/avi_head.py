"""What an AVI says in front of its chunks: its streams, their formats, and where indexes are said to be."""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from policies.audio.avi_sounds import Sound, sound_of

_HEADER, _LIST_BYTES = struct.Struct("<4sI"), 12
_SILENT_KINDS = frozenset((b"vids", b"txts", b"mids"))
_XAN = b"Axan"
"""Who writes it calls its DPCM plain samples."""
_OPEN = frozenset((b"hdrl", b"strl", b"odml"))
_PASSED = frozenset((b"avih", b"dmlh", b"strn", b"strd", b"vprp", b"JUNK", b"ISFT", b"IDIT", b"INFO"))
_SUPER_HEAD, _SUPER_ENTRY = struct.Struct("<3xBI16x"), struct.Struct("<QII")
_MOST_STREAMS = 100


class Stream:
    """One stream: its sound, if it is one; sums over the chunks of it that have passed, and that an index named."""

    __slots__ = ("indexed", "indexes", "passed", "sound")

    def __init__(self, sound: Sound | None) -> None:
        self.sound = sound
        self.passed = self.indexed = 0
        self.indexes: list[int] = []
        """Where parts of its index are said to stand, the next one last."""


class Head(NamedTuple):
    """Where the chunks begin and (0: nobody says) end; the streams, by the two digits of their chunks."""

    begins: int
    ends: int
    streams: dict[bytes, Stream]

    def pattern(self) -> re.Pattern[bytes]:
        """What FFmpeg takes for a chunk behind anything: of sound whatever its name ends in."""
        sounds = b"|".join(number for number, stream in self.streams.items() if stream.sound)
        silent = b"|".join(number for number, stream in self.streams.items() if not stream.sound)
        either = b"|".join(self.streams)
        return re.compile(
            rb"(?:%s)[\0-\x7f]{2}|(?:%s)(?:d[bc]|pc|tx)|LIST|JUNK|idx1|ix(?:%s)" % (sounds, silent or b"(?!)", either),
            re.DOTALL,
        )


def read_head(head: bytes) -> Head | None:
    """None where the chunks have not begun, or where something stands that no recorder writes."""
    streams: dict[bytes, Stream] = {}
    stream, kind = Stream(None), b""
    for name, at, size in _chunks(head):
        body = head[at : at + size]
        if name == b"movi":
            return None if kind else Head(at, at + size if size else 0, streams)
        if name == b"strh" and not kind and body[4:8] != _XAN and len(streams) < _MOST_STREAMS:
            kind = body[:4]
        elif name == b"strf" and (kind in _SILENT_KINDS or kind == b"auds"):
            stream = streams[b"%02d" % len(streams)] = Stream(sound_of(body) if kind == b"auds" else None)
            if kind == b"auds" and stream.sound is None:
                return None
            kind = b""
        elif name == b"indx" and not kind:
            stream.indexes = sorted(_places(body), reverse=True)
        elif name not in _PASSED:
            return None
    return None


def _chunks(head: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, body and size of each, within the head's lists too; the last one is the list of all others."""
    at = _LIST_BYTES
    while at + _LIST_BYTES <= len(head):
        name, size = _HEADER.unpack_from(head, at)
        at += _HEADER.size
        if name == b"LIST":
            name = head[at : at + 4]
            if name in _OPEN:
                at += 4
                continue
        yield name, at, size
        if name == b"movi":
            return
        at += size + (size & 1)


def _places(body: bytes) -> Iterator[int]:
    """Of the parts of an index; an entry that is itself one stands nowhere, so that it is missed."""
    if len(body) < _SUPER_HEAD.size:
        return
    kind, count = _SUPER_HEAD.unpack_from(body)
    room = (len(body) - _SUPER_HEAD.size) // _SUPER_ENTRY.size
    for number in range(min(count, room)):
        place, _, _ = _SUPER_ENTRY.unpack_from(body, _SUPER_HEAD.size + number * _SUPER_ENTRY.size)
        yield 0 if kind else place
