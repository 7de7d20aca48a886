"""Base64 and escapes come out in stream as they would come out in one piece."""

import base64
import binascii
import quopri
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.audio.transfer import Base64Stream, PercentStream, QuotedStream
from tests.policies.audio.feeding import cuts


def decoded(text, lengths=(1 << 30,), stream=None):
    stream, out, at, turn = stream or Base64Stream(), b"", 0, 0
    while at < len(text):
        length = lengths[turn % len(lengths)]
        out += stream.decode(memoryview(text)[at : at + length])
        at, turn = at + length, turn + 1
    return out


@given(data=st.binary(max_size=200), wrapped=st.booleans(), lengths=cuts)
def test_it_undoes_base64(data, wrapped, lengths):
    text = base64.encodebytes(data).replace(b"\n", b"\r\n") if wrapped else base64.b64encode(data)
    assert decoded(text, lengths) == data


@given(text=st.binary(max_size=200), lengths=cuts)
def test_nothing_raises_and_cuts_do_not_matter(text, lengths):
    assert decoded(text, lengths) == decoded(text)


@pytest.mark.parametrize(
    "text", [b"QUJD", b"QU\r\nJD", b"QU-JD!", b"QUJDRA==", b"QUJDREU=", b"=QUJD", b"Q=UJD", b"QUJDR=A=="]
)
def test_strangers_and_misplaced_padding_are_ignored_as_by_the_standard_library(text):
    assert decoded(text, (1,)) == binascii.a2b_base64(text)


def test_behind_padding_it_goes_on_as_some_decoders_do():
    assert decoded(b"QUJDRA==RUZH", (1,)) == b"ABCDEFG"


def test_a_text_full_of_padding_costs_no_more_than_another():
    assert decoded(b"QU=" * 64 + b"=Q=U=J=D") == b"A" * 64 + b"ABC"


def test_url_safe_letters_are_letters_where_that_is_wanted():
    assert Base64Stream(is_url_safe=True).decode(b"-_-_") == base64.urlsafe_b64decode(b"-_-_")


def test_a_last_character_alone_is_nothing():
    assert decoded(b"QUJDR") == b"ABC"
    assert decoded(b"QUJDR=") == b"ABC"
    assert decoded(b"QUJDRA") == b"ABC"  # unpadded: the last byte waits for a padding that never comes


@given(text=st.binary(max_size=60) | st.text("%41aG", max_size=60).map(str.encode), lengths=cuts)
def test_escapes_are_undone_as_the_standard_library_undoes_them_however_they_are_cut(text, lengths):
    """But for the last two characters, which may begin one."""
    whole = unquote_to_bytes(text)
    undone = decoded(text, lengths, PercentStream())
    assert whole.startswith(undone)
    assert len(whole) - len(undone) <= 2


@given(data=st.binary(max_size=80), lengths=cuts)
def test_quoted_printable_is_undone_as_the_standard_library_undoes_it_however_it_is_cut(data, lengths):
    text = quopri.encodestring(data, quotetabs=True)
    assert decoded(text + b"\n", lengths, QuotedStream()).rstrip(b"\n") == quopri.decodestring(text).rstrip(b"\n")


@given(text=st.text("=4aF \t\r\n%", max_size=80).map(str.encode), lengths=cuts)
def test_what_is_no_quoted_printable_says_the_same_however_it_is_cut(text, lengths):
    assert decoded(text + b".", lengths, QuotedStream()) == decoded(text + b".", stream=QuotedStream())
