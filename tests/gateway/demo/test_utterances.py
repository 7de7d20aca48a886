"""Speech is cut at pauses, no frame of it is lost, and a stream's end or a flush ends it."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from gateway.demo.utterances import FLUSH, FRAME_BYTES, Flush, Utterances, cut

SPEECH, SILENCE = b"\1", b"\0"


def found(frames: Iterable[bytes | Flush]) -> list[tuple[int, str]]:
    """Start in milliseconds, and the frames as a row of 1 (speech) and 0."""
    utterances = Utterances(frames, lambda frame: frame == SPEECH)
    return [(one.start_ms, b"".join(one.frames).hex()[1::2]) for one in utterances]


def row(pattern: str) -> list[bytes | Flush]:
    return [{"1": SPEECH, "0": SILENCE, "F": FLUSH}[mark] for mark in pattern]


def test_speech_begins_with_the_frames_that_lead_into_it_and_ends_after_a_pause():
    assert found(row("0" * 20 + "1" * 8 + "0" * 20 + "1" * 5)) == [
        (450, "0" * 5 + "1" * 8 + "0" * 15),
        (1_290, "0" * 5 + "1" * 5),
    ]


def test_a_click_is_no_speech():
    assert found(row("0" * 10 + "1" * 4 + "0" * 30)) == []


def test_a_short_gap_within_speech_does_not_end_it():
    assert found(row("1" * 10 + "0" * 14 + "1" * 10)) == [(0, "1" * 10 + "0" * 14 + "1" * 10)]


def test_a_flush_ends_the_utterance_at_once_and_means_nothing_in_silence():
    assert found(row("F000F" + "1" * 6 + "F" + "1" * 6)) == [(0, "000" + "1" * 6), (270, "1" * 6)]


def test_endless_speech_is_cut_after_thirty_seconds():
    assert [len(frames) for _, frames in found(row("1" * 2_500))] == [1_000, 1_000, 500]


@given(st.lists(st.sampled_from("110F"), max_size=300))
def test_utterances_lie_in_the_stream_in_order_and_never_overlap(marks: list[str]):
    audio = [mark for mark in marks if mark != "F"]
    end = 0
    for start_ms, frames in found(row("".join(marks))):
        start = start_ms // 30
        assert start >= end
        assert "".join(audio[start : start + len(frames)]) == frames
        end = start + len(frames)


@given(st.lists(st.binary(max_size=3 * FRAME_BYTES), max_size=5))
def test_frames_are_whole_and_hold_every_byte_and_only_silence_besides(chunks: list[bytes]):
    data, frames = b"".join(chunks), list(cut(chunks))
    assert all(len(frame) == FRAME_BYTES for frame in frames)
    assert b"".join(frames) == data.ljust(len(frames) * FRAME_BYTES, b"\0")
    assert len(frames) == -(-len(data) // FRAME_BYTES)
