"""Reading bodies and forms, never more than the largest recording that is taken."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.demo import problems

LARGEST_AUDIO = 25 * 2**20
"""Bytes. OpenAI's own limit for an upload."""
_LARGEST_FIELD = 2**16
_MOST_PARTS = 64


@dataclass(frozen=True, slots=True)
class Upload:
    """Audio, and what the sender says it is: ``Content-Type`` in full, perhaps empty."""

    audio: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Form:
    """A multipart form: its file, and its text fields in order."""

    upload: Upload
    fields: dict[str, list[str]] = field(default_factory=dict)

    def last(self, name: str) -> str | None:
        """The field's value; the last, where it was given more than once."""
        return self.fields[name][-1] if name in self.fields else None


class _Chunks(Protocol):
    """What bodies and parts of forms have in common."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...


async def read_body(request: web.Request) -> Upload:
    """A body that is the audio. Raises Problem."""
    _require_plain(request)
    if (request.content_length or 0) > LARGEST_AUDIO:
        raise problems.too_large(LARGEST_AUDIO)
    audio = await _bounded(request.content.iter_chunked(2**16), LARGEST_AUDIO)
    return Upload(audio, request.headers.get("Content-Type", ""))


async def read_form(request: web.Request) -> Form:
    """A multipart form with one part named ``file``. Raises Problem."""
    _require_plain(request)
    if request.content_type != "multipart/form-data":
        raise problems.invalid("Send the audio as multipart/form-data, in a part named file.", code="invalid_form")
    if (request.content_length or 0) > LARGEST_AUDIO + _MOST_PARTS * _LARGEST_FIELD:
        raise problems.too_large(LARGEST_AUDIO)
    try:
        form = await _parts(request)
    except (ValueError, AssertionError, HttpProcessingError) as malformed:  # aiohttp's parser raises all three
        raise problems.invalid("The form is damaged or cut short. Send it again.", code="invalid_form") from malformed
    if form is None:
        raise problems.invalid("There is no part named file in the form.", "file", "missing_file")
    return form


def _require_plain(request: web.Request) -> None:
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise problems.Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", "Send the body without a Content-Encoding."
        )


async def _parts(request: web.Request) -> Form | None:
    upload: Upload | None = None
    fields: dict[str, list[str]] = {}
    count = 0
    async for part in await request.multipart():
        count += 1
        if not isinstance(part, BodyPartReader) or count > _MOST_PARTS:
            raise problems.invalid("The form has nested parts, or too many of them.", code="invalid_form")
        if part.name == "file":
            upload = Upload(await _bounded(_chunks(part), LARGEST_AUDIO), part.headers.get("Content-Type", ""))
        else:
            value = await _bounded(_chunks(part), _LARGEST_FIELD)
            fields.setdefault(part.name or "", []).append(value.decode(errors="replace"))
    return Form(upload, fields) if upload else None


async def _chunks(part: BodyPartReader) -> AsyncIterator[bytes]:
    while chunk := await part.read_chunk(2**16):
        yield chunk


async def _bounded(chunks: _Chunks, limit: int) -> bytes:
    gathered = bytearray()
    async for chunk in chunks:
        gathered += chunk
        if len(gathered) > limit:
            raise problems.too_large(limit)
    return bytes(gathered)
