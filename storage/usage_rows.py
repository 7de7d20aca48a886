r"""How a usage record is written: one line of PostgreSQL's COPY text format, which is also the journal's payload.

The gateway pays for this encoding once, while it holds the record; from there on the bytes travel unread to ``COPY``
(PostgreSQL manual, "COPY", section "Text Format"): fields end with a tab, the row with a newline, ``\N`` is NULL, and
backslash, tab, newline and carriage return inside a text are escaped.

Every row opens with the number of its encoding. :data:`ENCODINGS` is the only place that knows what stands in a row:
a new encoding is a new entry, and the old ones stay as long as a journal or a rejected row may hold them.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any, Final, cast

from policies.account.usage import NOT_AUDIO, AudioSource, Measured, Outcome, UsageRecord
from storage.ports import StorageError

Value = str | int | bool | None

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_SECOND: Final = int((datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - _EPOCH).total_seconds())


@dataclass(frozen=True, slots=True)
class Column:
    """One field of a row: its name in the database, where it stands in the record, and how its text is read back."""

    name: str
    attribute: str
    decode: Callable[[str], Value] = str

    def read(self, value: Value) -> Value:
        """What the record holds, from what the database does: enumerations are texts there."""
        return self.decode(value) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class Encoding:
    """One layout. The encoding's number and the instant stand first, then what is listed here, in this order."""

    number: int
    dimensions: tuple[Column, ...]
    """What the roll-ups tell apart."""
    texts: tuple[Column, ...]
    counted: tuple[Column, ...]
    """The status, and what the roll-ups sum."""
    numbers: tuple[Column, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        """The record's own columns in the order of the row; ``encoding`` and ``ended_at`` stand before them."""
        return self.dimensions + self.texts + self.counted + self.numbers

    @property
    def names(self) -> tuple[str, ...]:
        """The column list for ``COPY``."""
        return ("encoding", "ended_at", *(column.name for column in self.columns))


def _boolean(text: str) -> bool:
    return text == "True"


_FIRST: Final = Encoding(
    number=1,
    dimensions=(
        Column("tenant_id", "tenant_id"),
        Column("key_id", "key_id"),
        Column("user_id", "user_id"),
        Column("route", "route"),
        Column("outcome", "outcome", Outcome),
    ),
    texts=(
        Column("event_id", "event_id"),
        Column("method", "method"),
        Column("code", "code"),
        Column("request_id", "request_id"),
        Column("source", "measured.source", AudioSource),
        Column("container", "measured.container"),
        Column("codec", "measured.codec"),
        Column("model", "measured.model"),
        Column("language", "measured.language"),
        Column("response_format", "measured.response_format"),
    ),
    counted=(
        Column("status", "status", int),
        Column("audio_ms", "measured.audio_ms", int),
        Column("bytes_in", "bytes_in", int),
        Column("bytes_out", "bytes_out", int),
        Column("duration_us", "duration_us", int),
        Column("upstream_us", "upstream_us", int),
    ),
    numbers=(
        Column("attempt", "attempt", int),
        Column("walked_ms", "measured.walked_ms", int),
        Column("reported_ms", "measured.reported_ms", int),
        Column("estimated_ms", "measured.estimated_ms", int),
        Column("channels", "measured.channels", int),
        Column("discrepant", "measured.discrepant", _boolean),
    ),
)

_WITH_TOKENS: Final = replace(
    _FIRST,
    number=2,
    numbers=(
        *_FIRST.numbers,
        Column("input_tokens", "measured.input_tokens", int),
        Column("output_tokens", "measured.output_tokens", int),
    ),
)
ENCODINGS: Final[Mapping[int, Encoding]] = {
    1: _FIRST,
    2: _WITH_TOKENS,
    3: replace(
        _WITH_TOKENS,
        number=3,
        texts=(*_WITH_TOKENS.texts, Column("job", "measured.job")),
        numbers=(*_WITH_TOKENS.numbers, Column("before_ms", "measured.before_ms", int)),
    ),
}
CURRENT: Final = ENCODINGS[3]

LONG: Final = 600
"""Characters that all texts of one record may have together before any is cut.

The roll-ups' keys are made of texts, and a B-tree entry may take 2,704 bytes: a third of a page (PostgreSQL manual,
"B-Tree Indexes"). 600 characters are at most 2,400 bytes in UTF-8.
"""
DIMENSION_LIMIT: Final = 120
TEXT_LIMIT: Final = 1024

LONGEST_ID: Final = 64
"""Characters of an event's or request's id, where a row is filled in."""

_prefix: Final = f"{CURRENT.number}\t"
_dimension_count: Final = len(CURRENT.dimensions)
_text_tabs: Final = _dimension_count + len(CURRENT.texts) - 1
_texts_of: Final = attrgetter(*(column.attribute for column in CURRENT.dimensions + CURRENT.texts))
_numbers_of: Final = attrgetter(*(column.attribute for column in CURRENT.counted + CURRENT.numbers))
_numbers_format: Final = "\t".join("%s" for _ in CURRENT.counted + CURRENT.numbers)

# Most requests carry no audio: what the measure contributes to their rows is the same text each time.
_own_texts: Final = sum("." not in column.attribute for column in CURRENT.dimensions + CURRENT.texts)
_own_end: Final = _own_texts + sum("." not in column.attribute for column in CURRENT.counted + CURRENT.numbers)
assert tuple(c.attribute for c in CURRENT.columns if "." not in c.attribute) == UsageRecord._fields[:_own_end]
_silent_texts: Final = "".join(
    f"\t{getattr(NOT_AUDIO, column.attribute.removeprefix('measured.'))}"
    for column in CURRENT.texts
    if "." in column.attribute
)
_silent_numbers: Final = "\t".join(
    str(getattr(NOT_AUDIO, column.attribute.removeprefix("measured."))).replace("None", r"\N")
    if "." in column.attribute
    else "%s"
    for column in CURRENT.counted + CURRENT.numbers
)

_event_at: Final = UsageRecord._fields.index("event_id")
_audio_at: Final = [column.name for column in CURRENT.counted].index("audio_ms")
_request_at: Final = UsageRecord._fields.index("request_id")

_UNPLAIN: Final = re.compile(r"[^ -~]|[\\%]")
"""What :func:`outline` leaves to :func:`encode`."""
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
"""PostgreSQL's text holds neither NUL nor half a surrogate pair; both become U+FFFD."""
_ESCAPE: Final = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_UNESCAPE: Final = {"\\": "\\", "t": "\t", "n": "\n", "r": "\r"}


def encode(record: UsageRecord) -> bytes:
    """One row, newline included.

    What a row cannot hold is bent rather than refused, because a record that is refused is audio for free: NUL and lone
    surrogates become U+FFFD, negative figures 0 (but what a correction takes back), an instant outside the years 1970
    to 9999 the nearest in them; when the texts have more than ``LONG`` characters together, each is cut to its limit.
    """
    silent = record.measured is NOT_AUDIO
    own = cast("tuple[str, ...]", record[:_own_texts])  # texts, by the assertion above
    texts = "\t".join(own) + _silent_texts if silent else "\t".join(_texts_of(record))
    if (
        len(texts) > LONG
        or texts.count("\t") != _text_tabs
        or "\\" in texts
        or "\n" in texts
        or "\r" in texts
        or "\0" in texts
    ):
        texts = _encode_texts(_texts_of(record))
    if silent:
        numbers = _silent_numbers % record[_own_texts:_own_end]
    else:
        # Digits, True, False and None alone stand here, so a plain replace cannot hit a client's text.
        numbers = (_numbers_format % _numbers_of(record)).replace("None", r"\N")
    if "-" in numbers:
        numbers = _bounded(numbers, record.measured)
    row = f"{_prefix}{instant(record.ended_ms)}\t{texts}\t{numbers}\n"
    try:
        return row.encode()
    except UnicodeEncodeError:
        return _UNSTORABLE.sub("\ufffd", row).encode()


def outline(record: UsageRecord) -> str:
    """The row of every record without audio that is this one but for ids, instant, sizes and times: see :func:`fill`.

    Empty where texts have to be looked at each time: they hold what must be escaped, or may have to be cut.
    """
    own = list(cast("tuple[str, ...]", record[:_own_texts]))
    own[_event_at] = own[_request_at] = ""
    texts = "\t".join(own)
    if len(texts) + len(_silent_texts) + 2 * LONGEST_ID > LONG or _UNPLAIN.search("".join(own)):
        return ""
    own[_event_at] = own[_request_at] = "%s"
    numbers = _silent_numbers % (record.status, "%d", "%d", "%d", "%d", record.attempt)
    return f"{_prefix}%s\t{chr(9).join(own)}{_silent_texts}\t{numbers}\n"


def fill(
    outline: str, ended: str, event_id: str, request_id: str, bytes_in: int, bytes_out: int,
    duration_us: int, upstream_us: int,
) -> bytes:  # fmt: skip
    """The row that :func:`encode` would make, of what ended at that :func:`instant`.

    Ids are plain ASCII of at most ``LONGEST_ID``, no figure is negative.
    """
    return (outline % (ended, event_id, request_id, bytes_in, bytes_out, duration_us, upstream_us)).encode()


def instant(ended_ms: int) -> str:
    """An instant as it stands in a row."""
    seconds, milliseconds = divmod(ended_ms, 1000)
    return f"{_second(seconds)}.{milliseconds:03d}Z"


def decode(row: bytes) -> UsageRecord:
    """The record that a row holds. Raises StorageError for a row of an unknown encoding or of another shape."""
    encoding = encoding_of(row)
    texts = row.decode().removesuffix("\n").split("\t")[1:]
    if len(texts) != len(encoding.columns) + 1:
        raise StorageError(f"A usage row has {len(texts) + 1} fields; encoding {encoding.number} has more or fewer.")
    instant = datetime.fromisoformat(texts[0])
    values = (
        None if text == r"\N" else column.decode(unescape(text))
        for column, text in zip(encoding.columns, texts[1:], strict=True)
    )
    by_attribute = {column.attribute: value for column, value in zip(encoding.columns, values, strict=True)}
    return record_of(instant, by_attribute)


def encoding_of(row: bytes) -> Encoding:
    """The encoding that a row names. Raises StorageError when this program does not know it."""
    number = row[: row.find(b"\t")]
    try:
        return ENCODINGS[int(number)]
    except (KeyError, ValueError):
        raise StorageError(
            f"A usage row is in encoding {number[:20]!r}; this gateway knows {sorted(ENCODINGS)}. It was written by a"
            " newer gateway: start that one again to ship it. Nothing is lost meanwhile."
        ) from None


def by_encoding(rows: Sequence[bytes]) -> Iterator[tuple[Encoding, list[bytes]]]:
    """The rows in runs of one encoding. Raises as :func:`encoding_of`."""
    # Two bytes tell apart the encodings below 10, tab included, and those below 100.
    for _, group in groupby(rows, key=itemgetter(slice(2))):
        listed = list(group)
        yield encoding_of(listed[0]), listed


def unescape(text: str) -> str:
    """The text that a field of a row stands for."""
    return _ESCAPED.sub(lambda match: _UNESCAPE[match[1]], text) if "\\" in text else text


def record_of(ended_at: datetime, values: Mapping[str, Any]) -> UsageRecord:
    """A record from its instant and its values by attribute path (``"status"``, ``"measured.audio_ms"``).

    What an earlier encoding has no place for is what a measure says without it.
    """
    measured = {field.name: values.get(f"measured.{field.name}", field.default) for field in fields(Measured)}
    own = {name: value for name, value in values.items() if "." not in name}
    ended_ms = (ended_at - _EPOCH) // timedelta(milliseconds=1)
    return UsageRecord(ended_ms=ended_ms, measured=Measured(**measured), **own)


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    """The text of a second. Records of one second share it: formatting a date costs more than the rest of the row."""
    nearest = min(max(seconds, 0), _LAST_SECOND)
    return (_EPOCH + timedelta(seconds=nearest)).strftime("%Y-%m-%dT%H:%M:%S")


def _bounded(numbers: str, measured: Measured) -> str:
    """Without negative figures, but for audio that a correction takes back: at most what was accounted before."""
    figures = ["0" if number.startswith("-") else number for number in numbers.split("\t")]
    if measured.before_ms is not None:
        figures[_audio_at] = str(max(measured.audio_ms, -max(measured.before_ms, 0)))
    return "\t".join(figures)


def _encode_texts(texts: tuple[str, ...]) -> str:
    limits: tuple[int | None, ...] = (None,) * len(texts)
    if sum(map(len, texts)) + len(texts) - 1 > LONG:
        limits = (DIMENSION_LIMIT,) * _dimension_count + (TEXT_LIMIT,) * (len(texts) - _dimension_count)
    return "\t".join(
        _UNSTORABLE.sub("\ufffd", text[:limit]).translate(_ESCAPE) for text, limit in zip(texts, limits, strict=True)
    )
