"""CAF: a description that says less of its packets than they hold makes nothing cheaper."""

import random
import struct

import pytest

from policies.audio.sources import Heard
from policies.audio.track import Track
from tests.policies.audio.feeding import fed
from tests.policies.audio.oracle import played_ms

CODECS = [b"ima4", b"MAC3", b"MAC6", b"ulaw", b"ilbc", b"agsm", b"Qclp", b"samr", b"ms\0\x31", b"opus", b"lpcm"]
PACKETS = [(34, 64), (34, 1), (1, 1), (33, 1), (50, 240), (38, 160), (2, 6), (256, 1)]


def caf(codec, rate, packet, samples):
    """Noise of 6000 bytes, in packets of so many, which say how many samples each plays."""
    description = struct.pack(">d4s5I", rate, codec, 0, packet, samples, 1, 0)
    data = random.Random(4).randbytes(6000)
    head = b"caff\0\1\0\0desc" + struct.pack(">Q", len(description)) + description
    return head + b"data" + struct.pack(">Q", 4 + len(data)) + bytes(4) + data


@pytest.mark.parametrize("rate", [1000, 8000, 192_000])
@pytest.mark.parametrize(("packet", "samples"), PACKETS)
@pytest.mark.parametrize("codec", CODECS)
def test_no_packet_is_billed_below_what_ffmpeg_plays_of_it(codec, packet, samples, rate):
    data = caf(codec, rate, packet, samples)
    assert played_ms(data) <= Heard.of(fed(Track(), data)).best_ms * 1.005 + 80
