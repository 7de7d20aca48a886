"""What one process writes, the other reads."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.demo import messages
from gateway.demo.messages import Finished, Heard, Job, Message, Opened, Refused
from gateway.demo.pcm import Encoding, PcmFormat
from gateway.demo.transcript import Word
from gateway.demo.utterances import FLUSH

MS = st.integers(0, 10**9)
WORDS = st.lists(st.builds(Word, st.text(), MS, MS, st.floats(0, 1)), max_size=3).map(tuple)
MESSAGES = st.one_of(
    st.just(Opened()),
    st.builds(Heard, WORDS, WORDS, MS, MS, st.booleans()),
    st.builds(Finished, MS),
    st.builds(Refused, st.text()),
)


@given(MESSAGES)
def test_every_message_is_one_line_and_comes_back_as_it_was(message: Message):
    line = messages.write(message)
    assert line.count(b"\n") == 1
    assert messages.read(line) == message


@pytest.mark.parametrize("form", [None, PcmFormat(), PcmFormat(Encoding.MULAW, 8_000, 2)])
@pytest.mark.parametrize("live", [True, False])
def test_a_job_comes_back_as_it_was(form: PcmFormat | None, *, live: bool):
    assert messages.read_job(messages.write_job(Job(live, form))) == Job(live, form)


def test_a_message_of_no_known_type_is_an_error():
    with pytest.raises(ValueError, match="no message of a recogniser"):
        messages.read(b'{"type": "Surprise"}')


def test_audio_comes_in_blocks_until_its_end_and_a_server_that_vanished_ends_it_too():
    sent = messages.block(b"abc") + messages.FINALIZE + messages.block(b"d") + messages.END + b"not read"
    assert list(messages.blocks(io.BytesIO(sent))) == [b"abc", FLUSH, b"d"]
    assert list(messages.blocks(io.BytesIO(messages.block(b"abc")))) == [b"abc"]
    assert list(messages.blocks(io.BytesIO(messages.block(b"abc") + b"\0\0"))) == [b"abc"]
