"""An upload's content type decides how its bytes are read, unless they are a WAV file whatever it says."""

import pytest

from gateway.demo.messages import Job
from gateway.demo.pcm import Encoding, PcmFormat
from gateway.demo.problems import Problem
from gateway.demo.recordings import job_of
from gateway.demo.uploads import Upload
from tests.gateway.demo.waves import wave


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("", None),
        ("audio/wav", None),
        ("application/octet-stream", None),
        ("nonsense", None),
        ("audio/pcm", PcmFormat()),
        ("Audio/PCM; Rate=48000; channels=2", PcmFormat(rate=48_000, channels=2)),
        ('audio/raw; rate="8000"', PcmFormat(rate=8_000)),
        ("audio/L16; rate=44100", PcmFormat(Encoding.S16_BIG_ENDIAN, 44_100)),
        ("audio/PCMU", PcmFormat(Encoding.MULAW, 8_000)),
        ("audio/PCMA", PcmFormat(Encoding.ALAW, 8_000)),
        ("audio/basic", PcmFormat(Encoding.MULAW, 8_000)),
    ],
)
def test_content_types_of_raw_samples_name_their_format(content_type: str, expected: PcmFormat | None):
    assert job_of(Upload(b"\0\0", content_type)) == Job(format=expected)


def test_a_wav_file_says_its_format_itself():
    assert job_of(Upload(wave(b"\0\0"), "audio/pcm; rate=8000")) == Job()


@pytest.mark.parametrize("parameter", ["rate=fast", "rate=", "rate=-1", "channels=0", "rate=1e9"])
def test_parameters_that_no_audio_has_are_refused(parameter: str):
    with pytest.raises(Problem):
        job_of(Upload(b"\0\0", f"audio/pcm; {parameter}"))
