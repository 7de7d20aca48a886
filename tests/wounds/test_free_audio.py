"""Wound: audio that is free, or cheap, because somebody believed what it says of itself.

LiteLLM took a FLAC of unknown length for 192,153,584,101,141 s and an m4a for none (BerriAI/litellm#22622); AISIX and
Envoy's AI gateway charge nothing as soon as the client asks for text (api7/aisix#868, envoyproxy/ai-gateway#2186).
"""

import asyncio
import base64
import gzip
from urllib.parse import quote_from_bytes

import pytest

from policies.account.usage import AudioSource
from tests.gateway.harness import Gateway, Seen
from tests.gateway.job_service import answer
from tests.policies.audio.build import chunk, ds64, flac, fmt, frame, riff, streaminfo, wav
from tests.policies.audio.oracle import recording
from tests.policies.audio.test_containers import box_field, recorded
from tests.policies.metering.test_multipart import TYPE, form, part

PCM = bytes(range(1, 251)) * 128  # one second of 16 kHz
TEXT = part("response_format", b"text")
SECOND = wav(1.0)


def upload(body: bytes, name: str = "file", encoding: bytes = b"") -> bytes:
    return part(name, body, filename="a.txt", extra=encoding)


FORMS = {
    "a data size of nothing": upload(riff(fmt(), chunk(b"data", PCM, size=0))),
    "a data size of a tenth": upload(riff(fmt(), chunk(b"data", PCM, size=3_200))),
    "a small ds64": upload(riff(ds64(320), fmt(), chunk(b"data", PCM, size=0xFFFFFFFF), magic=b"RF64")),
    "a second format": upload(riff(fmt(rate=48_000), fmt(), chunk(b"data", PCM))),
    "audio in a junk chunk": upload(riff(fmt(), chunk(b"data", PCM[:320]), chunk(b"junk", PCM))),
    "audio behind the data": upload(riff(fmt(), chunk(b"data", PCM[:320])) + PCM),
    "a FLAC of no samples": upload(flac([frame(n, 4000) for n in range(4)], info=streaminfo(total=0))),
    "an MP3 of one frame": upload(box_field(recorded("mp3"), b"Info", 4, 1)),
    "an m4a of a millisecond": upload(box_field(recorded("m4a"), b"mdhd", 16, 16)),
    "a WebM without a Duration": upload(recorded("webm live")),
    "two songs chained": upload(recording("ogg", "libopus", 0.5, 48_000) * 2),
    "a second file": (upload(wav(0.5)), upload(wav(0.5), name="more")),
    "a file as a text field": part("file", SECOND),
    "a data URL": part("url", b"data:audio/wav;base64," + base64.b64encode(SECOND)),
    "a data URL of escapes": part("url", b"data:audio/wav," + quote_from_bytes(SECOND).encode()),
    "base64": upload(base64.encodebytes(SECOND), encoding=b"Content-Transfer-Encoding: base64\r\n"),
}


@pytest.mark.parametrize("forgery", FORMS)
@pytest.mark.parametrize("first", [True, False])
async def test_a_second_of_audio_is_a_second_whatever_it_says_and_whatever_is_asked_for(
    gateway: Gateway, forgery: str, first: bool
) -> None:
    """``text`` answers carry no length, so the bytes alone speak; the field may stand before the file or behind it."""
    fields = [("Content-Type", TYPE)]
    made = FORMS[forgery]
    files = made if isinstance(made, tuple) else (made,)
    body = form(TEXT, *files) if first else form(*files, TEXT)
    assert (await gateway.ask("POST", "/v1/audio/transcriptions", fields, body)).status == 200
    assert gateway.upstream.seen[0].body == body
    (record,) = gateway.journal.records
    assert 999 <= record.measured.audio_ms <= 1_450
    assert record.measured.response_format == "text"


@pytest.mark.parametrize(
    ("query", "kind"),
    [("encoding=linear16&sample_rate=192000&channels=64", "audio/x-ms-wma"), ("", "audio/l16;rate=192000;channels=64")],
)
async def test_a_file_that_is_called_samples_is_weighed(gateway: Gateway, query: str, kind: str) -> None:
    """With its result sent elsewhere nobody tells the length; services look into the file, whatever it is called."""
    body = recording("asf", "wmav2", 10.0, 44_100, bitrate=48_000)
    await gateway.ask("POST", f"/v1/listen?callback=https://a.test/&{query}", [("Content-Type", kind)], body)
    (record,) = gateway.journal.records
    assert record.measured.audio_ms >= 9_950


@pytest.mark.parametrize(
    "fields",
    [
        [("Content-Type", "audio/l16;rate=384000"), ("Connection", "Content-Type")],
        [("Content-Type", f"audio/l16;rate=384000;x=tkt_{48 * 'a'}")],
    ],
)
async def test_a_type_that_the_service_does_not_hear_makes_nothing_cheaper(
    gateway: Gateway, fields: list[tuple[str, str]]
) -> None:
    """A line that goes no further is not believed either: what we took for samples, the service took for a file."""
    await gateway.ask("POST", "/v1/listen", fields, PCM)
    await gateway.ask("POST", "/v1/listen", [], PCM)
    assert [seen.all("content-type") for seen in gateway.upstream.seen] == [[], []]
    known, unknown = (record.measured.audio_ms for record in gateway.journal.records)
    assert known == unknown >= 1_000


async def test_a_coding_that_the_service_does_not_hear_is_none(gateway: Gateway) -> None:
    fields = [("Content-Type", "audio/wav"), ("Content-Encoding", "gzip"), ("Connection", "content-encoding")]
    assert (await gateway.ask("POST", "/v1/listen", fields, SECOND)).status == 200
    assert gateway.upstream.seen[0].all("content-encoding") == []
    assert 999 <= gateway.journal.records[0].measured.audio_ms <= 1_001


@pytest.mark.parametrize("query", ["encoding=linear16&sample_rate=192000&channels=64", "encode=false"])
async def test_a_query_that_the_service_does_not_read_makes_nothing_cheaper(gateway: Gateway, query: str) -> None:
    """WMA, which nobody here walks, was plain samples at 192 kHz by the query alone: twenty seconds for 4 ms."""
    body = form(TEXT, upload(recording("asf", "wmav2", 10.0, 44_100, bitrate=48_000)))
    await gateway.ask("POST", f"/v1/audio/transcriptions?{query}", [("Content-Type", TYPE)], body)
    (record,) = gateway.journal.records
    assert record.measured.audio_ms >= 9_950


async def test_audio_by_url_is_not_free_to_whoever_takes_compressed_answers(gateway: Gateway) -> None:
    """SDKs offer gzip with every request, and services that take the offer said the length where nobody reads it."""

    async def compresses(_: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
        body, line = b'{"metadata":{"duration":12.5},"results":{}}', b""
        if seen.all("accept-encoding") != ["identity"]:
            body, line = gzip.compress(body), b"Content-Encoding: gzip\r\n"
        writer.write(answer(body, line=line))

    gateway.upstream.respond = compresses
    fields = [("Content-Type", "application/json"), ("Accept-Encoding", "gzip, deflate, br"), ("Range", "bytes=0-9")]
    await gateway.ask("POST", "/v1/listen", fields, b'{"url": "https://cdn.example/a.mp3"}')
    (record,) = gateway.journal.records
    assert (record.measured.audio_ms, record.measured.source) == (12_500, AudioSource.REPORTED)
    assert not gateway.upstream.seen[0].all("range")
