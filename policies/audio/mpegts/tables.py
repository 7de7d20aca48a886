"""What the tables of a transport stream say of its streams (ISO/IEC 13818-1 section 2.4.4): pictures are no sound.

A stream is pictures, or text, where the tables say so that readers go by (those with a right checksum, of a programme
that is listed) and nothing else is said of it.
"""

import re
from functools import cache

PICTURES = frozenset((0x01, 0x02, 0x10, 0x1B, 0x20, 0x21, 0x24, 0x33, 0x42, 0xD1, 0xD2, 0xEA))
_METADATA, _PRIVATE = 0x15, 0x06
_TEXT = frozenset((0x56, 0x59))
"""Descriptors of teletext and subtitles; beside any but these and a language (0x0A) private data may be sound."""
_HARMLESS = _TEXT | {0x0A, 0x52}
_OPUS, _REGISTERED = b"Opus", re.compile(rb"\x05.Opus", re.DOTALL)
"""Who registered the format of private data, however long the descriptor says that it is."""
MOST_SECTIONS = 1 << 8
"""That are remembered; of who has more nothing is certain."""
_MOST_CUT = 64
"""Places where sections are cut; of who has more there may be Opus."""
_LEAST_SECTION_BYTES, _IN_FORCE = 9, 1
_LISTS, _DESCRIBES = 0, 2
"""Tables: of the programmes, and of one programme's streams."""


class Tables:
    """Those that have passed."""

    __slots__ = ("_begun", "_is_doubted", "_kinds", "_listed", "_sections", "cut", "names_opus", "opus")

    def __init__(self) -> None:
        self._listed: dict[int, int] = {}
        """Programmes, by where their streams are described."""
        self._kinds: dict[int, bool] = {}
        """Whether all that was said of a stream says that it is no sound."""
        self.opus: set[int] = set()
        """Streams that are called so."""
        self._sections: set[tuple[int, bytes]] = set()
        """Those that were read, and where."""
        self.names_opus = False
        """Whether one of them says that there is Opus, which plays long."""
        self.cut: set[int] = set()
        """Where sections go on in packets that say nothing else of it, which may name it yet."""
        self._begun: set[int] = set()
        """How many bytes of its name packets of those have ended with."""
        self._is_doubted = False
        """Whether not all was read that is said of streams: nothing of it is certain then."""

    def is_silent(self, number: int) -> bool:
        """Whether a stream is no sound."""
        return not self._is_doubted and self._kinds.get(number, False)

    def doubt(self, number: int) -> None:
        """Something there may be a table, and was not read."""
        self._is_doubted = True
        self._cut(number, b"")

    def _cut(self, number: int, payload: bytes) -> None:
        """A section goes on behind this."""
        self.cut.add(number)
        self.names_opus = self.names_opus or len(self.cut) > _MOST_CUT
        self.go_on(payload)

    def go_on(self, payload: bytes) -> None:
        """More of a section that was cut: as far as it says that there is Opus, whichever packets decoders drop."""
        self.names_opus = self.names_opus or (
            _OPUS in payload or any(payload.startswith(_OPUS[begun:]) for begun in self._begun)
        )
        self._begun.update(begun for begun in range(1, len(_OPUS)) if payload.endswith(_OPUS[:begun]))
        if self.names_opus:
            self.cut.clear()

    def read(self, number: int, payload: bytes) -> bool:
        """Read the sections that begin in a packet; whether any was new.

        One that goes on in the next packet says nothing for certain.
        """
        at, before = 1 + payload[0], len(self._sections)
        self.names_opus = self.names_opus or _REGISTERED.search(payload) is not None
        if self._is_doubted and self.names_opus:
            return False
        while at < len(payload) and payload[at] != 0xFF:
            length = int.from_bytes(payload[at + 1 : at + 3], "big") & 0xFFF
            section = payload[at : at + 3 + length]
            at += 3 + length
            is_known = section[:1] in (b"\0", b"\2")
            is_cut = len(section) < 3 + length
            if is_cut and (is_known or number in self._listed or self._is_doubted):
                self._cut(number, payload)
            if not is_known or self._is_doubted or (number, section) in self._sections:
                continue
            self._sections.add((number, section))
            if is_cut or len(self._sections) > MOST_SECTIONS:
                self._is_doubted = True
            elif length >= _LEAST_SECTION_BYTES and section[5] & _IN_FORCE and not checksum(section):
                self._take(number, section)
        return len(self._sections) > before

    def _take(self, number: int, section: bytes) -> None:
        body = section[8:-4]
        if section[0] == _LISTS and not number:
            for at in range(0, len(body) - 3, 4):
                self._listed[int.from_bytes(body[at + 2 : at + 4], "big") & 0x1FFF] = int.from_bytes(
                    body[at : at + 2], "big"
                )
        elif section[0] == _DESCRIBES:
            is_listed = self._listed.get(number) == int.from_bytes(section[3:5], "big")
            at = 4 + (int.from_bytes(body[2:4], "big") & 0xFFF)
            while at + 5 <= len(body):
                of = int.from_bytes(body[at + 1 : at + 3], "big") & 0x1FFF
                size = int.from_bytes(body[at + 3 : at + 5], "big") & 0xFFF
                descriptors = body[at + 5 : at + 5 + size]
                silent = _is_silent(body[at], descriptors)
                if _REGISTERED.search(descriptors):
                    self.opus.add(of)
                if is_listed or not silent:
                    self._kinds[of] = silent and self._kinds.get(of, True)
                at += 5 + size


def _is_silent(kind: int, descriptors: bytes) -> bool:
    """Whether a stream so described is no sound."""
    if kind != _PRIVATE:
        return kind in PICTURES or kind == _METADATA
    tags, at = set(), 0
    while at + 2 <= len(descriptors):
        tags.add(descriptors[at])
        at += 2 + descriptors[at + 1]
    return bool(tags & _TEXT) and tags <= _HARMLESS


@cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C1_1DB7 if value >> 31 else value << 1) & 0xFFFF_FFFF
        table.append(value)
    return tuple(table)


def checksum(section: bytes) -> int:
    """Of a whole section with its checksum: 0 where that is right (annex A)."""
    table, value = _crc_table(), 0xFFFF_FFFF
    for byte in section:
        value = value << 8 & 0xFFFF_FFFF ^ table[value >> 24 ^ byte]
    return value
