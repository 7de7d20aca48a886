"""Wound: who puts so many empty things in front of a file that nobody looks at it any more was billed half of it.

Walkers end their patience with a file that is made of what plays nothing. The rest was weighed like a usual recording,
at 16 to 32 kbit/s, and speech takes 6.
"""

import pytest

from policies.audio import walker
from policies.audio.sources import Heard
from policies.audio.track import Track
from tests.policies.audio.feeding import fed
from tests.policies.audio.oracle import played_ms, recording

S = 20.0
INFO, CLUSTER = b"\x15\x49\xa9\x66", b"\x1f\x43\xb6\x75"
FRAGMENTS = (("movflags", "frag_keyframe+empty_moov+default_base_moof"), ("frag_duration", "2000000"))
WEBM, MP4 = ("webm", "libopus", S, 48_000, 1, 6_000), ("mp4", "aac", S, 8_000, 1, 8_000, FRAGMENTS)
THINGS = {
    "empty elements between clusters of WebM": (WEBM, CLUSTER, 0, b"\xec\x80"),
    "empty elements before WebM's tracks": (WEBM, INFO, 0, b"\xec\x80"),
    "empty boxes between fragments of MP4": (MP4, b"moof", -4, b"\0\0\0\x08free"),
    "empty boxes before a movie": (MP4, b"moov", -4, b"\0\0\0\x08free"),
    "empty chunks of AVI": (("avi", "libmp3lame", S, 8_000, 1, 8_000), b"movi", 4, b"JUNK\0\0\0\0"),
    "empty packets of MPEG-PS": (
        ("mpeg", "libmp3lame", S, 8_000, 1, 8_000), b"\0\0\1\xc0", 0, b"\0\0\1\xe0\0\4\x81\0\0\0"
    ),
}  # fmt: skip


@pytest.mark.parametrize("thing", THINGS)
def test_small_things_in_front_make_nothing_cheaper(monkeypatch: pytest.MonkeyPatch, thing: str) -> None:
    """With less patience than is served with, so that a few hundred do."""
    monkeypatch.setattr(walker, "_MOST_TURNS", 300)
    made, before, beside, empty = THINGS[thing]
    data = recording(*made)
    at = data.index(before) + beside
    forged = data[:at] + empty * 450 + data[at:]
    assert played_ms(forged) >= S * 990
    assert Heard.of(fed(Track(), forged)).best_ms >= played_ms(forged)
    assert Heard.of(fed(Track(), forged, (1000, 7))) == Heard.of(fed(Track(), forged))
