"""Wound: half a kilobyte that reads as the head of a WAV makes G.729 of what follows, to FFmpeg alone.

It has a container of some dictation machine (ACT) whose head begins with a WAV's, and prefers it. Counted as plain
samples of eight channels of 32 bits, an hour was billed as 15 seconds.
"""

import random
import struct

import pytest

from policies.audio.sources import Heard
from policies.audio.track import Track
from tests.policies.audio.build import fmt
from tests.policies.audio.feeding import fed
from tests.policies.audio.oracle import played_ms

DATA = b"data" + struct.pack("<I", 0x7FFF_0000)


def dictation(**form: int) -> bytes:
    """Ten seconds of noise."""
    head = b"RIFF" + struct.pack("<I", 0x7FFF_FFFF) + b"WAVE" + fmt(rate=8_000, **form) + DATA
    return head.ljust(256, b"\0") + b"\x84".ljust(256, b"\0") + random.Random(1).randbytes(10_000)


@pytest.mark.parametrize(("channels", "bits"), [(1, 16), (8, 32)])
@pytest.mark.parametrize("cut", [1, 255, 511, 1 << 20])
def test_dictation_is_billed_as_it_plays(channels: int, bits: int, cut: int) -> None:
    data = dictation(channels=channels, bits=bits)
    assert played_ms(data) > 9_900
    track = fed(Track(), data, (cut,))
    assert (Heard.of(track).best_ms, track.codec) == (10_000, "g729")


def test_a_wav_that_only_resembles_it_is_one() -> None:
    data = dictation().replace(b"\x84", b"\x85", 1)
    assert Heard.of(fed(Track(), data)).best_ms == pytest.approx(played_ms(data), abs=1)
