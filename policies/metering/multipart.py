"""multipart/form-data as it passes (RFC 7578, RFC 2046): hands every part's bytes on, and changes nothing.

What the gateway meters must be what the service behind it reads, and parsers differ on malformed bodies. So this one is
strict where strictness hides nothing, and notes in ``irregular`` whatever two parsers could read in two ways: an honest
client never sends it, and the meter then trusts no figure that depends on the reading.
"""

import re
import sys
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple, TypeAlias
from urllib.parse import unquote

from policies.audio.track import of_name
from policies.audio.walker import Chunk

Consumer: TypeAlias = Callable[[memoryview], None]
_Data: TypeAlias = bytes | bytearray

NOTED_FIELDS = frozenset({"model", "model_id", "language", "language_code", "response_format", "stream"})
"""The text fields whose values are kept."""

MOST_NOTED_BYTES = 1024
MOST_HEADER_BYTES = 8192
"""All header fields of one part together."""
MOST_PARTS = 2000
"""Starlette reads at most 1000 files and 1000 fields."""
_MOST_BOUNDARY_BYTES = 200
"""RFC 2046 section 5.1.1 says 70; clients have been seen above it."""

_MOST_PARAMETERS = 16

_STRETCH_BYTES = 29_999
"""CPython (3.10 to 3.14) looks for a short word by Horspool's way in less than 30 000 bytes, and else in a way that is
never slow and never fast: a quarter to a fifth of the speed."""
_MOST_KINDS = 32

_MOST_STRAYS = 65_536
"""Delimiters, and beginnings of such, that begin no line: each costs about a microsecond, and a body may be made of
them. By chance a GB has 60 of the shortest that there is."""

_TELLING_BYTES = 10
"""From this length on a delimiter does not turn up within audio by itself."""

_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"?|([^;]*))', re.DOTALL)
_BOUNDARY_NAMED = re.compile(r"boundary[\s*0-9]*=", re.IGNORECASE)
_FILENAME_NAMED = re.compile(r"filename[\s*0-9]*=", re.IGNORECASE)
_CHARSET_NAMED = re.compile(r"charset[\s*0-9]*=", re.IGNORECASE)
_PLAIN_CHARSET = re.compile(
    r""";\s*charset="?(?:utf-?8|us-ascii|ascii|iso-8859-1|latin-?1|windows-1252)"?\s*(?:;|\Z)""", re.IGNORECASE
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_FOLD = re.compile(r"\r?\n[ \t]+")
_END_OF_HEADERS = re.compile(rb"\n\r?\n")
_END_OF_LINE = re.compile(rb"[ \t]{0,64}(\r?\n)")
_MAY_BE_END_OF_LINE = re.compile(rb"[ \t]{0,64}\r?\Z")


class Part(NamedTuple):
    """What the header of one part says. ``transfer_encoding`` in lower case, all of them; empty when there is none."""

    name: str
    is_file: bool
    """It has a file name, which is what makes most services read a part as a file."""
    transfer_encoding: str
    is_plain: bool = True
    """Every parser reads its name alike: one Content-Disposition, one plain name (no RFC 2231 forms)."""
    named_bitrate: int = 0
    """Of the codec that the file's name stands for, where that has no header."""


def parameters(value: str) -> list[tuple[str, str]]:
    """The parameters of a header field in their order; names in lower case, quotes undone (RFC 9110 section 5.6.6)."""
    return [
        (match[1].lower(), match[3].strip() if match[2] is None else _unescaped(match[2]))
        for match in islice(_PARAMETER.finditer(value), _MOST_PARAMETERS)
    ]


def _unescaped(quoted: str) -> str:
    return _ESCAPED.sub(r"\1", quoted) if "\\" in quoted else quoted


def boundary_of(content_type: str) -> bytes | None:
    """The one boundary of a multipart content type; None when there is none, or more than one way to read it."""
    # Counted in the text too: parsers differ on a second one, on one in a quoted value, and on RFC 2231's boundary*0.
    if not content_type.lower().startswith("multipart/") or len(_BOUNDARY_NAMED.findall(content_type)) != 1:
        return None
    boundary = dict(parameters(content_type)).get("boundary", "").encode("utf-8", "surrogateescape")
    if not 0 < len(boundary) <= _MOST_BOUNDARY_BYTES or b"\r" in boundary or b"\n" in boundary:
        return None
    return boundary


def has_plain_names(content_type: str) -> bool:
    """Whether all read the names in it alike: Starlette decodes them by the charset that the content type says.

    In UTF-7 or EBCDIC a name is not written as it reads. No client needs any of them: RFC 7578 section 5.1.2.
    """
    return len(_CHARSET_NAMED.findall(content_type)) == len(_PLAIN_CHARSET.findall(content_type))


def probe_of(delimiter: bytes) -> bytes | None:
    """The beginning of a delimiter that is found the fastest in stretches; None where none of half its length skips."""
    lengths = range(len(delimiter), len(delimiter) // 2, -1)
    return max((delimiter[:length] for length in lengths if _skips(delimiter[:length])), key=_speed, default=None)


def _skips(word: bytes) -> bool:
    """Whether it is quickly found in stretches, in whatever a stranger sends: never worse than in one go.

    Horspool's way compares at most the word's length where its last byte stands, and goes on by the distance to where
    that stands before; it passes over the whole word at any byte that is none of the word's (by its lowest six bits).
    """
    before = word.rfind(word[-1:], 0, -1)
    return 4 * (len(word) - 1 - before) >= len(word) and _kinds(word) <= _MOST_KINDS


def _speed(word: bytes) -> int:
    """In proportion to the bytes passed over at one of any kind."""
    return len(word) * (64 - _kinds(word))


def _kinds(word: bytes) -> int:
    return len({byte & 63 for byte in word})


class MultipartWalker:
    """Watches one multipart body, in any cuts; keeps no more than one part's header fields.

    ``opened`` is called at the head of every part that is not a noted field, and returns what takes its bytes: views of
    the chunks that were fed, valid during the call. Never raises; whatever it cannot follow ends in ``broken``.
    """

    __slots__ = (
        "_consumer",
        "_delimiter",
        "_ended",
        "_fresh",
        "_held",
        "_in_headers",
        "_newline",
        "_noted",
        "_opened",
        "_probe",
        "_seam",
        "_strays",
        "_stretch",
        "broken",
        "has_bare_newlines",
        "irregular",
        "parts",
    )

    def __init__(self, content_type: str, opened: Callable[[Part], Consumer]) -> None:
        boundary = boundary_of(content_type)
        self.broken = boundary is None
        """The walk ended: no usable boundary, too many parts, too much header, or too many delimiters that are none."""
        self.has_bare_newlines = False
        """Its lines end as Go's parser takes them, and others do not."""
        self.irregular = False
        """Two honest parsers could disagree on where a part begins or ends."""
        self.parts = 0
        self._opened = opened
        self._consumer: Consumer | None = None
        self._noted: dict[str, bytearray] = {}
        self._delimiter = b"--" + (boundary or b"")
        probe = probe_of(self._delimiter)
        self._probe = probe or self._delimiter
        self._stretch = _STRETCH_BYTES if probe else sys.maxsize
        self._strays = 0
        self._newline = b"\r\n"
        self._fresh = True
        self._in_headers = False
        self._ended = False
        self._held = b""
        self._seam = b""

    @property
    def fields(self) -> dict[str, str]:
        """The noted fields seen so far, each cut at :data:`MOST_NOTED_BYTES`; of several of one name the last."""
        return {name: value.decode("utf-8", "replace") for name, value in self._noted.items()}

    @property
    def sound(self) -> bool:
        """Whether every byte so far could be read in one way only, and as parts."""
        return not (self.broken or self.irregular or self.has_bare_newlines) and (
            self.parts > 0 or self._ended or self._fresh
        )

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the body."""
        data = chunk if isinstance(chunk, bytes | bytearray) else bytes(chunk)  # to be searched
        if self._held:
            data = self._held + data
        self._held = b""
        at = 0
        while at < len(data) and not self.broken:
            if self._in_headers:
                at = self._read_headers(data, at)
            elif self._ended:
                # RFC 2046 allows an epilogue. No form has one, and text in it is another parser's part.
                self.irregular = self.irregular or bool(data[at:].strip(b"\r\n\t "))
                return
            else:
                at = self._pass_content(data, at)

    def _pass_content(self, data: _Data, at: int) -> int:
        """Hand on what lies before the next delimiter, and step over that; where to go on."""
        delimiter = self._delimiter
        if self._seam and delimiter in self._seam + data[at : at + len(delimiter) - 1]:
            self.irregular = self.irregular or len(delimiter) >= _TELLING_BYTES
        search = at
        while (found := self._find(data, search)) >= 0:
            start, end = self._line_start(data, at, found), found + len(delimiter)
            if start is not None:
                line = _END_OF_LINE.match(data, end)
                if line and self._accept_newline(line[1]):
                    self._hand_on(data, at, start)
                    self._in_headers = True
                    return line.end() - 1
                if data.startswith(b"--", end):
                    self._hand_on(data, at, start)
                    self._ended = True
                    return end + 2
                if (len(data) - end < 2 and b"--".startswith(data[end:])) or _MAY_BE_END_OF_LINE.match(data, end):
                    return self._hold(data, at, start)
            self.irregular = self.irregular or start is not None or self._is_telling(data, found)
            self._strays += 1
            search = found + 1
        self.broken = self._strays > _MOST_STRAYS
        return self._hold(data, at, self._partial(data, at))

    def _find(self, data: _Data, at: int) -> int:
        """The next delimiter from ``at`` on; -1 where there is none."""
        probe, stretch = self._probe, self._stretch
        step = stretch - len(probe) + 1
        while at < len(data):
            found = data.find(probe, at, at + stretch)
            if found < 0:
                at += step
            elif data.startswith(self._delimiter, found):
                return found
            else:
                self._strays += 1
                at = found + 1
        return -1

    def _is_telling(self, data: _Data, found: int) -> bool:
        """Whether a delimiter that begins no line, as this body counts lines, can hardly be there by chance."""
        return len(self._delimiter) >= _TELLING_BYTES or data[found - 1 : found] == b"\n"

    def _line_start(self, data: _Data, at: int, found: int) -> int | None:
        """Where the content before a delimiter ends; None when the delimiter does not begin a line."""
        if self._fresh and found == 0:
            return 0
        if not self.parts and found > at and data[found - 1 : found] == b"\n":
            return found - 1
        start = found - len(self._newline)
        return start if start >= at and data.startswith(self._newline, start) else None

    def _accept_newline(self, newline: bytes) -> bool:
        """Like Go's mime/multipart, read the body in the newlines of its first delimiter; all others insist on CRLF."""
        if not self.parts:
            self._newline = newline
            self.has_bare_newlines = newline == b"\n"
        return newline == self._newline

    def _partial(self, data: _Data, at: int) -> int:
        """Where a delimiter may have begun that the next chunk completes; the end of ``data`` when nowhere."""
        if self._fresh and at == 0 and self._delimiter.startswith(data):
            return 0
        newline = data.rfind(b"\n", max(at, len(data) - len(self._delimiter)))
        if newline >= 0 and self._delimiter.startswith(data[newline + 1 :]):
            return newline - 1 if newline > at and data[newline - 1 : newline] == b"\r" else newline
        return len(data) - 1 if data.endswith(b"\r") else len(data)

    def _hold(self, data: _Data, at: int, keep: int) -> int:
        self._hand_on(data, at, keep)
        self._held = bytes(data[keep:])
        reach = len(self._delimiter) - 1
        self._seam = (self._seam + data[max(at, keep - reach) : keep])[-reach:]
        return len(data)

    def _hand_on(self, data: _Data, start: int, end: int) -> None:
        if end > start:
            self._fresh = False
            if self._consumer:
                self._consumer(memoryview(data)[start:end])

    def _read_headers(self, data: _Data, at: int) -> int:
        end = _END_OF_HEADERS.search(data, at, at + MOST_HEADER_BYTES)
        if end:
            self._open(_part(data[at : end.start()]))
            return end.end()
        self.broken = len(data) - at >= MOST_HEADER_BYTES
        self._held = bytes(data[at:])
        return len(data)

    def _open(self, part: Part) -> None:
        self.parts += 1
        self.broken = self.parts > MOST_PARTS
        self._in_headers, self._fresh, self._seam = False, False, b""
        self.irregular = self.irregular or not part.is_plain
        if part.name in NOTED_FIELDS and part.is_plain and not part.is_file:
            self._consumer = self._note(part.name)
        else:
            self._consumer = self._opened(part)

    def _note(self, name: str) -> Consumer:
        kept = self._noted[name] = bytearray()

        def note(view: memoryview) -> None:
            room = MOST_NOTED_BYTES - len(kept)
            kept.extend(view[:room])
            self.irregular = self.irregular or len(view) > room  # no field is that long: it may be audio to somebody

        return note


def _part(block: _Data) -> Part:
    name, transfer_encoding, is_file, dispositions, plain = "", "", False, 0, True
    text = block.decode("utf-8", "replace")
    if "\n " in text or "\n\t" in text:
        text = _FOLD.sub(" ", text)
    for line in text.split("\n"):
        key, _, value = line.partition(":")
        match key.strip().lower():
            case "content-disposition":
                given = parameters(value)
                name = dict(given).get("name", "")
                # Looked for in the text too: parsers differ on quotes, and a file must not pass for a field.
                is_file = is_file or "filename" in dict(given) or _FILENAME_NAMED.search(value) is not None
                dispositions += 1
                # Some parsers take the first line or the first name, some the last; some undo name*= (RFC 2231).
                names = [key for key, _ in given if key.startswith("name")]
                plain = plain and dispositions == 1 and names == ["name"]
            case "content-transfer-encoding":
                transfer_encoding = f"{transfer_encoding} {value.strip().lower()}".lstrip()
            case _:
                pass
    return Part(name, is_file, transfer_encoding, plain or not dispositions, of_name(unquote(text)) if is_file else 0)
