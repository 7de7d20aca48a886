"""A transcript is well formed in every format, also an empty one and one of many hours."""

import pytest

from gateway.demo import formats
from gateway.demo.formats import Granularity
from gateway.demo.transcript import Transcript, Utterance, Word

ONE = Utterance(0, 1_500, (Word("go", 100, 350, 0.9), Word("forward", 350, 900, 0.8)))
TWO = Utterance(36_061_001, 36_062_000, (Word("ten", 36_061_100, 36_061_600, 0.0),))
LONG = Transcript(36_062_500, (ONE, TWO))
SILENT = Transcript(1_000, ())
BOTH = frozenset(Granularity)


def test_srt_numbers_its_cues_and_writes_hours_and_commas():
    assert formats.srt(LONG) == (
        "1\n00:00:00,000 --> 00:00:01,500\ngo forward\n\n2\n10:01:01,001 --> 10:01:02,000\nten\n\n"
    )


def test_vtt_has_its_header_and_writes_dots():
    assert formats.vtt(LONG) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\ngo forward\n\n10:01:01.001 --> 10:01:02.000\nten\n\n"
    )


def test_silence_is_an_empty_transcript_in_every_format():
    assert formats.text(SILENT) == "\n"
    assert formats.srt(SILENT) == ""
    assert formats.vtt(SILENT) == "WEBVTT\n\n"
    assert formats.json(SILENT) == {"text": "", "usage": {"type": "duration", "seconds": 1.0}}
    assert formats.verbose_json(SILENT, "transcribe", BOTH)["segments"] == []


def test_verbose_json_carries_all_that_clients_of_whisper_read():
    body = formats.verbose_json(LONG, "translate", BOTH)
    assert (body["task"], body["language"], body["duration"]) == ("translate", "english", 36_062.5)
    assert body["text"] == "go forward ten"
    assert body["words"][1] == {"word": "forward", "start": 0.35, "end": 0.9}
    first, second = body["segments"]
    assert (first["id"], first["start"], first["end"], first["text"]) == (0, 0.0, 1.5, "go forward")
    assert (second["id"], second["seek"]) == (1, 3_606_100)
    assert first["avg_logprob"] == pytest.approx(-0.1643, abs=1e-4)
    assert first["no_speech_prob"] == pytest.approx(1 - 0.8 / 1.5, abs=1e-4)
    assert second["avg_logprob"] < -1  # a score that rounded to nothing is still a number


@pytest.mark.parametrize(
    ("granularities", "keys"),
    [
        ({Granularity.SEGMENT}, {"segments"}),
        ({Granularity.WORD}, {"words"}),
        (BOTH, {"segments", "words"}),
    ],
)
def test_verbose_json_has_the_timestamps_that_were_asked_for(granularities: set[Granularity], keys: set[str]):
    body = formats.verbose_json(LONG, "transcribe", frozenset(granularities))
    assert {"segments", "words"} & body.keys() == keys
