"""How long an Opus packet plays (RFC 6716 section 3.1): its first byte tells, or its first two. Always at 48 kHz."""

RATE = 48_000
MOST_SAMPLES = 5760
"""120 ms, which no packet may exceed."""
MOST_SKIP = 3840
"""Samples that may be the encoder's delay (RFC 7845 section 4.2 recommends 80 ms); a larger claim is none."""

_COUNTED = 3
"""The code of a packet whose second byte holds its number of frames."""


def _frame_samples(config: int) -> int:
    if config < 12:
        return (480, 960, 1920, 2880)[config & 3]
    return (480, 960)[config & 1] if config < 16 else (120, 240, 480, 960)[config & 3]


_FRAMES = [_frame_samples(toc >> 3) for toc in range(256)]
SAMPLES = [0 if toc & 3 == _COUNTED else _FRAMES[toc] * (1 if toc & 3 == 0 else 2) for toc in range(256)]
"""By the first byte; 0 where the second one must be asked."""


def packet_samples(data: bytes, at: int, end: int) -> int:
    """What the packet from ``at`` to ``end`` plays; 0 for one that is not there."""
    if at >= end:
        return 0
    toc = data[at]
    if toc & 3 != _COUNTED:
        return SAMPLES[toc]
    return min(_FRAMES[toc] * (data[at + 1] & 63), MOST_SAMPLES) if at + 1 < end else _FRAMES[toc]
