"""The sample audio is what it is said to be."""

import wave

import pytest

from gateway.demo.samples import SAMPLES, Sample


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.path.stem)
def test_a_sample_is_small_16_khz_mono_and_as_long_as_stated(sample: Sample):
    assert sample.path.stat().st_size < 200_000
    with wave.open(str(sample.path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        assert round(file.getnframes() / 16) == sample.duration_ms


def test_every_clip_is_listed_and_its_words_and_licence_are_told_beside_it():
    folder = SAMPLES[0].path.parent
    assert {sample.path for sample in SAMPLES} == set(folder.glob("*.wav"))
    told = (folder / "README.md").read_text()
    assert all(f"| `{sample.path.name}` | {sample.words} |" in told and sample.licence in told for sample in SAMPLES)
