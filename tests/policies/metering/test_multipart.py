"""A form's parts come out byte for byte, in any cuts; what two parsers could read in two ways is noticed."""

import random

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.metering.multipart import (
    MOST_HEADER_BYTES,
    MOST_NOTED_BYTES,
    MOST_PARTS,
    MultipartWalker,
    boundary_of,
    parameters,
    probe_of,
)
from tests.policies.audio.feeding import cuts, fed

BOUNDARY = "----WebKitFormBoundary7MA4YWxkTrZu0gW"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"


class Watch:
    """A walker and what it handed on."""

    def __init__(self, content_type=TYPE):
        self.parts = []
        self.walker = MultipartWalker(content_type, self._open)
        self.feed = self.walker.feed

    def _open(self, part):
        self.parts.append([part, b""])
        return self._take

    def _take(self, view):
        assert isinstance(view, memoryview)
        self.parts[-1][1] += view

    @property
    def files(self):
        """Names and bytes, in their order."""
        return [(part.name, body) for part, body in self.parts]

    @property
    def all_of_it(self):
        """Everything that may be asked of it."""
        walker = self.walker
        return self.parts, walker.fields, walker.broken, walker.irregular, walker.sound, walker.parts


def watch(body, lengths=(1 << 30,), content_type=TYPE):
    return fed(Watch(content_type), body, lengths)


def part(name, body, *, filename=None, extra=b""):
    named = f'; filename="{filename}"'.encode() if filename is not None else b""
    return b'Content-Disposition: form-data; name="' + name.encode() + b'"' + named + b"\r\n" + extra + b"\r\n" + body


def form(*parts, boundary=BOUNDARY, newline=b"\r\n", preamble=b"", epilogue=b"\r\n"):
    edge = b"--" + boundary.encode()
    return preamble + b"".join(edge + newline + one + newline for one in parts) + edge + b"--" + epilogue


MODEL = part("model", b"whisper-1")
FILE = part("file", b"RIFF\r\n\r\n--audio\r\n", filename="a.wav", extra=b"Content-Type: audio/wav\r\n")
AUDIO = b"RIFF\r\n\r\n--audio\r\n"


@pytest.mark.parametrize("parts", [(MODEL, FILE), (FILE, MODEL)], ids=["field first", "file first"])
@pytest.mark.parametrize("preamble", [b"", b"\r\n", b"\n", b"This is MIME.\r\n"])
def test_a_field_is_noted_and_a_file_handed_on_in_either_order(parts, preamble):
    seen = watch(form(*parts, preamble=preamble))
    assert seen.files == [("file", AUDIO)]
    assert seen.parts[0][0].is_file
    assert seen.walker.fields == {"model": "whisper-1"}
    assert seen.walker.sound


def test_what_a_real_client_sends_is_read():
    """httpx2, which carries the openai SDK."""
    audio = bytes(range(256)) * 40
    request = httpx2.Request(
        "POST",
        "http://gateway/",
        data={"model": "whisper-1", "language": "de", "timestamp_granularities[]": "word"},
        files={"file": ('a "b"; c=d\\.wav', audio, "audio/wav")},
    )
    seen = watch(request.read(), (1000,), request.headers["content-type"])
    assert seen.files == [("timestamp_granularities[]", b"word"), ("file", audio)]
    assert seen.walker.fields == {"model": "whisper-1", "language": "de"}
    assert seen.walker.sound


def test_what_curl_sends_is_read():
    boundary = "------------------------d74496d66958873e"
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="clip.wav"\r\n'
        f"Content-Type: application/octet-stream\r\n\r\nRIFF\r\n--{boundary}\r\n"
        f'Content-Disposition: form-data; name="response_format"\r\n\r\nverbose_json\r\n--{boundary}--\r\n'
    ).encode()
    seen = watch(body, content_type=f"multipart/form-data; boundary={boundary}")
    assert (seen.files, seen.walker.fields) == ([("file", b"RIFF")], {"response_format": "verbose_json"})


@given(
    bodies=st.lists(
        st.lists(
            st.sampled_from(
                [b"\r", b"\n", b"\r\n", b"-", b"--", b"--" + BOUNDARY[:-1].encode(), BOUNDARY.encode(), b"x"]
            ),
            max_size=8,
        )
        .map(b"".join)
        .filter(lambda body: b"--" + BOUNDARY.encode() not in body),
        min_size=1,
        max_size=4,
    ),
    lengths=cuts,
)
def test_every_byte_of_every_part_comes_out_once(bodies, lengths):
    """Also of bodies that nearly hold the boundary, cut anywhere."""
    seen = watch(form(*[part(f"f{i}", body, filename="x") for i, body in enumerate(bodies)]), lengths)
    assert [body for _, body in seen.files] == bodies
    assert seen.walker.sound


fragments = st.lists(
    st.sampled_from(
        [
            b"--" + BOUNDARY.encode(),
            b"\r\n--" + BOUNDARY.encode(),
            b"\n--" + BOUNDARY.encode() + b"\n",
            b"\r\n",
            b"\n",
            b"--",
            b" \t",
            b"\r\n\r\n",
            MODEL,
            FILE,
            part("stream", b"true"),
            b"content-disposition:form-data;name=file;\r\n filename*=a\r\nContent-Transfer-Encoding: Base64\r\n\r\n",
            b"audio",
        ]
    ),
    max_size=12,
).map(b"".join)


@given(body=fragments, lengths=cuts)
def test_any_cut_says_the_same_of_any_body(body, lengths):
    assert watch(body, lengths).all_of_it == watch(body).all_of_it == watch(body, (1,)).all_of_it


@given(body=st.binary(max_size=400), content_type=st.text(max_size=40))
def test_nothing_raises(body, content_type):
    watch(body, (3,))
    watch(body, (3,), "multipart/form-data; boundary=" + content_type)


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('multipart/form-data; boundary="a b;c\\"d"', b'a b;c"d'),
        ("Multipart/Form-Data;charset=utf-8;BOUNDARY=abc ", b"abc"),
        ("multipart/form-data; boundary=----boundary", b"----boundary"),
        ("multipart/form-data; boundary = abc; charset=x", b"abc"),
        ("multipart/form-data", None),
        ("multipart/form-data; boundary=", None),
        ("multipart/form-data; boundary=a; boundary=b", None),
        ('multipart/form-data; x="; boundary=b"; boundary=a', None),
        ("multipart/form-data; boundary*0=a; boundary*1=b", None),
        ("multipart/form-data; boundary*=utf-8''ab", None),
        ("multipart/form-data; boundary=" + "a" * 201, None),
        ("audio/wav; boundary=abc", None),
        ("", None),
    ],
)
def test_the_boundary_is_read_if_there_is_one_way_to_read_it(content_type, boundary):
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    ("header", "is_file", "encoding"),
    [
        (b'Content-Disposition: form-data; name="file"; filename="a;b\\"c.wav"', True, ""),
        (b'Content-Disposition: form-data; filename="C:\\temp\\a.wav"; name="file"', True, ""),
        (b"content-disposition:form-data;NAME=file;FileName=x", True, ""),
        (b"Content-Disposition: form-data; name=\"file\";\r\n\tfilename*=UTF-8''na%C3%AFve.wav", True, ""),
        (b'Content-Disposition: form-data; name="file"; filename=""', True, ""),
        (b'Content-Disposition: form-data; name="file"', False, ""),
        (b'Content-Disposition: form-data; name="file"; x="', False, ""),
        (b'Content-Disposition: form-data; name="file"; x="; filename=a', True, ""),  # hidden from some parsers
        (b'X: y\r\nContent-Disposition: form-data; name="file"\r\nContent-Transfer-Encoding: BASE64 ', False, "base64"),
        (b'Content-Disposition: form-data; filename=a\r\nContent-Disposition: form-data; name="file"', True, ""),
    ],
)
def test_part_headers(header, is_file, encoding):
    seen = watch(form(header + b"\r\n\r\nAUDIO"))
    ((seen_part, body),) = seen.parts
    assert (seen_part[:3], body) == (("file", is_file, encoding), b"AUDIO")
    assert seen_part.is_plain == (header.lower().count(b"content-disposition") == 1)


def test_parameters_undo_quotes():
    assert parameters('form-data; A="x;y\\"z"; b=c d ;e') == [("a", 'x;y"z'), ("b", "c d")]


def test_fields_are_cut_and_the_last_of_a_name_counts():
    body = form(MODEL, part("model", b"x" * 5000), part("language", b"\xff\xfe"), part("prompt", b"p"))
    walker = watch(body, (100,)).walker
    assert walker.fields == {"model": "x" * MOST_NOTED_BYTES, "language": "\ufffd\ufffd"}


def test_a_noted_field_with_a_file_name_is_a_file():
    seen = watch(form(part("model", b"RIFF", filename="a")))
    assert (seen.files, seen.walker.fields) == ([("model", b"RIFF")], {})


def test_an_empty_part_and_a_part_without_headers_are_parts():
    seen = watch(form(part("file", b"", filename=""), b"\r\nbare"))
    assert seen.files == [("file", b""), ("", b"bare")]
    assert seen.walker.sound


@pytest.mark.parametrize(("between", "sound"), [(b"a--xb", True), (b"a\n--xb", False), (b"a\r\n--xb", False)])
@pytest.mark.parametrize("lengths", [(1 << 30,), (1,)])
def test_a_short_boundary_may_stand_in_audio_by_chance(between, sound, lengths):
    seen = watch(form(part("file", between, filename="x"), boundary="x"), lengths, "multipart/form-data; boundary=x")
    assert seen.files == [("file", between)]
    assert seen.walker.sound is sound


def test_a_longer_boundary_is_not_this_one():
    """A part may be multipart itself, with a boundary that begins like the outer one. Two readings: noticed."""
    seen = watch(form(part("file", f"a\r\n--{BOUNDARY}X\r\nb".encode(), filename="x")))
    assert seen.files == [("file", f"a\r\n--{BOUNDARY}X\r\nb".encode())]
    assert seen.walker.irregular


def test_blanks_behind_a_boundary_are_allowed():
    """RFC 2046 section 5.1.1: transport padding."""
    seen = watch(form(FILE).replace(BOUNDARY.encode() + b"\r\n", BOUNDARY.encode() + b" \t \r\n"), (5,))
    assert seen.files == [("file", AUDIO)]
    assert seen.walker.sound


EDGE = b"--" + BOUNDARY.encode()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(form(FILE, newline=b"\n").replace(b"\r\n", b"\n"), id="bare line feeds throughout"),
        pytest.param(
            form(part("file", b"a\n" + EDGE + b"\n" + FILE, filename="x")), id="a boundary behind a line feed"
        ),
        pytest.param(form(part("file", b"a" + EDGE + b"\r\n" + FILE, filename="x")), id="a boundary within a line"),
        pytest.param(form(part("file", EDGE + b"\r\n" + FILE, filename="x")), id="a boundary right behind the headers"),
        pytest.param(form(part("file", b"a\r\n" + EDGE + b"\nb", filename="x")), id="a line that ends in a line feed"),
        pytest.param(form(FILE, epilogue=b"\r\nmore"), id="an epilogue"),
        pytest.param(form(FILE, epilogue=b"X\r\n" + EDGE + b"--"), id="an end that is none"),
        pytest.param(b"x" + form(FILE), id="a first boundary within a line"),
    ],
)
@pytest.mark.parametrize("lengths", [(1 << 30,), (1,), (40,)])
def test_what_parsers_read_in_two_ways_is_irregular(body, lengths):
    walker = watch(body, lengths).walker
    assert walker.irregular or walker.has_bare_newlines
    assert not walker.sound


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(EDGE + b"\r\nX: " + b"y" * MOST_HEADER_BYTES + b"\r\n\r\nRIFF", id="endless headers"),
        pytest.param(form(*[part("a", b"")] * (MOST_PARTS + 1)), id="too many parts"),
    ],
)
@pytest.mark.parametrize("lengths", [(1 << 30,), (999,)])
def test_what_is_too_much_breaks_off(body, lengths):
    walker = watch(body, lengths).walker
    assert walker.broken
    assert not walker.sound


def test_a_body_without_any_part_is_not_sound():
    assert not watch(b"RIFF....WAVE" * 9).walker.sound
    assert watch(b"").walker.sound
    assert watch(form()).walker.sound


def test_a_cut_upload_is_sound_as_far_as_it_goes():
    body = form(FILE)
    seen = watch(body[: body.index(b"dio\r\n")])
    assert seen.files == [("file", b"RIFF\r\n\r\n--au")]
    assert seen.walker.sound


def test_big_chunks_are_handed_on_without_a_copy():
    views = []
    walker = MultipartWalker(TYPE, lambda _part: views.append)
    walker.feed(form(part("file", b"", filename="x"))[: -len(EDGE) - 6])
    chunk = bytes(1 << 16)
    walker.feed(chunk)
    assert [view.obj for view in views if len(view) == len(chunk)] == [chunk]
    assert views[-1].obj is chunk


HEX = "0123456789abcdef"
ALNUM = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize(
    ("before", "letters", "length"),
    [
        pytest.param("----WebKitFormBoundary", ALNUM, 16, id="Chrome, Safari"),
        pytest.param("----geckoformboundary", HEX, 32, id="Firefox"),
        pytest.param("-" * 27, "0123456789", 29, id="Firefox before"),
        pytest.param("-" * 24, ALNUM, 22, id="curl"),
        pytest.param("-" * 24, HEX, 16, id="curl before"),
        pytest.param("", HEX, 32, id="openai-python, httpx, requests, aiohttp"),
        pytest.param("----formdata-undici-0", "0123456789", 11, id="openai-node, undici"),
        pytest.param("-" * 26, "0123456789", 24, id="axios, Postman"),
        pytest.param("", HEX, 60, id="Go"),
        pytest.param("", HEX + "-", 36, id="OkHttp, .NET"),
        pytest.param("dart-http-boundary-", ALNUM + "+_-.", 51, id="Dart"),
        pytest.param("", ALNUM + "-_", 35, id="Apache HttpClient"),
    ],
)
def test_what_real_clients_draw_is_looked_for_the_quick_way(before, letters, length):
    draw = random.Random(length)
    for _ in range(300):
        delimiter = f"--{before}{''.join(draw.choices(letters, k=length))}".encode()
        probe = probe_of(delimiter)
        assert probe
        assert delimiter.startswith(probe)


def test_what_only_begins_like_a_delimiter_is_none():
    """Where the beginning alone is looked for."""
    boundary = "-" * 24 + "0123456789abcdee"
    assert len(probe_of(b"--" + boundary.encode())) < 42
    body = b"".join(b"\r\n--" + boundary[:length].encode() for length in range(20, len(boundary)))
    seen = watch(form(part("file", body, filename="x"), boundary=boundary), (500,), TYPE.replace(BOUNDARY, boundary))
    assert seen.files == [("file", body)]
    assert seen.walker.sound


@pytest.mark.parametrize("of", [b"--%b", b"--%b "])
def test_a_body_made_of_delimiters_is_given_up(of):
    """Looking at one costs a microsecond; of the shortest a gigabyte would take the worker minutes."""
    walker = MultipartWalker("multipart/form-data; boundary=x", lambda _part: len)
    walker.feed(b"--x\r\nContent-Disposition: form-data; name=file; filename=x\r\n\r\n")
    for _ in range(3):
        assert not walker.broken
        walker.feed(of % b"x" * 32_768)
    assert walker.broken
    assert not walker.sound


@pytest.mark.parametrize("boundary", ["0123456789abcdef0123456789abcdef", BOUNDARY])
def test_a_delimiter_is_found_wherever_it_stands_in_a_large_piece(boundary):
    """Across the end of a stretch that is searched by itself (the first one), too; and in a buffer."""
    content_type = f"multipart/form-data; boundary={boundary}"
    opening = form(part("file", b"", filename="x"), boundary=boundary).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    closing = f"\r\n--{boundary}--\r\n".encode()
    for size in (29_990 - len(opening) + step for step in range(-len(closing), 20)):
        buffer = bytearray(opening + bytes(size) + closing + bytes(40_000))
        seen = Watch(content_type)
        seen.feed(buffer)
        assert [len(body) for _, body in seen.files] == [size]
