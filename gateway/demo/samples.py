"""The sample audio in ``audio/``, with the words that are spoken in it. The demo recogniser gets every word right."""

from dataclasses import dataclass
from pathlib import Path

_AUDIO = Path(__file__).parent / "audio"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A clip of real speech: 16 kHz mono s16 WAV."""

    path: Path
    words: str
    duration_ms: int
    origin: str
    licence: str


SAMPLES: tuple[Sample, ...] = (
    Sample(
        path=_AUDIO / "go-forward.wav",
        words="go forward ten meters",
        duration_ms=2_786,
        origin="CMU PocketSphinx test data, goforward.raw",
        licence="BSD-2-Clause",
    ),
    Sample(
        path=_AUDIO / "go-somewhere.wav",
        words="go somewhere and do something",
        duration_ms=2_999,
        origin="CMU PocketSphinx test data, something.raw",
        licence="BSD-2-Clause",
    ),
    Sample(
        path=_AUDIO / "seven-of-clubs.wav",
        words="seven of clubs",
        duration_ms=1_538,
        origin="CMU PocketSphinx test data, cards/003.wav",
        licence="BSD-2-Clause",
    ),
)
"""The first is the one that ``gateway demo`` prints a curl line for."""
