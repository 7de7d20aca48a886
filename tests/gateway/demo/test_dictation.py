"""The recogniser gets the words right, the same ones every time, from every format that carries them."""

import struct
from array import array

import pytest

from gateway.demo.dictation import transcribe
from gateway.demo.messages import Finished, Heard, Job, Opened, Refused
from gateway.demo.pcm import Encoding, PcmFormat
from gateway.demo.recogniser import Recogniser
from gateway.demo.resample import Resampler
from gateway.demo.samples import SAMPLES, Sample
from gateway.demo.utterances import FLUSH
from tests.gateway.demo.waves import FLOAT, fmt, wave

FIRST = SAMPLES[0]
HEADER_BYTES = 44


def pcm(sample: Sample) -> bytes:
    return sample.path.read_bytes()[HEADER_BYTES:]


def finals(recogniser: Recogniser, job: Job, *chunks: object) -> list[str]:
    heard = [one for one in transcribe(job, chunks, recogniser) if isinstance(one, Heard) and one.final]
    return [" ".join(word.text for word in one.words) for one in heard]


@pytest.mark.parametrize(("live", "samples"), [(False, SAMPLES), (True, SAMPLES[::2])], ids=["recording", "live"])
def test_every_sample_is_heard_word_for_word_whatever_was_heard_before(
    recogniser: Recogniser, samples: tuple[Sample, ...], *, live: bool
):
    job, pause = Job(live=live, format=PcmFormat()), bytes(32_000)
    audio = b"".join(pcm(sample) + pause for sample in samples)
    assert finals(recogniser, job, audio) == [sample.words for sample in samples]


def test_a_stereo_float_file_of_48_khz_gives_the_same_words(recogniser: Recogniser):
    resampler = Resampler(16_000, 48_000)
    samples = resampler.feed(array("h", pcm(FIRST))) + resampler.finish()
    frames = struct.pack(f"<{2 * len(samples)}f", *(half / 32_768 for sample in samples for half in (sample, sample)))
    data = wave(frames, fmt(FLOAT, channels=2, rate=48_000, bits=32))
    assert finals(recogniser, Job(), data) == [FIRST.words]


def test_words_carry_times_within_their_utterance_and_the_audio(recogniser: Recogniser):
    *_, last, finished = transcribe(Job(), [FIRST.path.read_bytes()], recogniser)
    assert finished == Finished(FIRST.duration_ms)
    assert isinstance(last, Heard)
    edges = [edge for word in last.words for edge in (word.start_ms, word.end_ms)]
    assert edges == sorted(edges)
    assert last.start_ms <= edges[0] < edges[-1] <= last.end_ms <= FIRST.duration_ms


def test_most_words_settle_while_the_audio_is_still_being_heard(recogniser: Recogniser):
    heard = [one for one in transcribe(Job(), [FIRST.path.read_bytes()], recogniser) if isinstance(one, Heard)]
    early = [word.text for one in heard if not one.final for word in one.settled]
    assert early == FIRST.words.split()[:3]


def test_a_flush_makes_the_words_so_far_final(recogniser: Recogniser):
    audio = pcm(FIRST)
    middle = 2 * 16_000 * 117 // 100 // 2 * 2  # between "forward" and "ten"
    job = Job(live=True, format=PcmFormat())
    first, *_ = finals(recogniser, job, audio[:middle], FLUSH, audio[middle:])
    assert first == "go forward"


@pytest.mark.parametrize("data", [bytes(64_000), b"\x10\x00\xf0\xff" * 16_000, b""], ids=["silence", "hum", "nothing"])
def test_what_is_not_speech_has_no_words(recogniser: Recogniser, data: bytes):
    job = Job(format=PcmFormat())
    assert list(transcribe(job, [data], recogniser)) == [Opened(), Finished(len(data) // 32)]


def test_telephone_audio_is_taken(recogniser: Recogniser):
    job = Job(format=PcmFormat(Encoding.MULAW, 8_000))
    assert list(transcribe(job, [b"\xff" * 8_000], recogniser)) == [Opened(), Finished(1_000)]


def test_what_is_not_audio_is_refused_before_anything_is_heard(recogniser: Recogniser):
    (refusal,) = transcribe(Job(), [b"hello"], recogniser)
    assert isinstance(refusal, Refused)
