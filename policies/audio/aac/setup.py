"""AudioSpecificConfig (ISO/IEC 14496-3 section 1.6.2.1): how many samples a frame of AAC holds, and at what rate.

With spectral band replication the decoder's rate is twice the core's and a frame has twice the samples: it plays as
long, so only the core is read.
"""

RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)
"""By sampling frequency index."""
MOST_BYTES = 768
"""Of a frame and channel (ISO/IEC 14496-3 section 4.5.3.1: 6144 bits)."""
SAMPLES = 1024

_ESCAPE_TYPE, _ESCAPE_RATE = 31, 15
_LOW_DELAY = {23: (512, 480), 39: (512, 480)}  # AAC-LD and AAC-ELD, by frameLengthFlag
_USAC = 42
_PLAIN_TYPES = frozenset((1, 2, 3, 4))
"""Whose set-up ends in a program's elements where it has no channel configuration."""
_REPLICATED_TYPES = frozenset((5, 29))
_CHANNELS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 7: 8, 11: 7, 12: 8, 14: 8}
_CONFIG_BYTES = 48
"""Of a set-up, with room for 45 elements."""


def frame_of(config: bytes) -> tuple[int, int] | None:
    """Samples to the frame, and their rate in Hz; None where it does not say."""
    bits = int.from_bytes(config[:16].ljust(16, b"\0"), "big")
    at = 0

    def field(size: int) -> int:
        nonlocal at
        at += size
        return bits >> 128 - at & (1 << size) - 1

    kind = field(5)
    if kind == _ESCAPE_TYPE:
        kind = 32 + field(6)
    index = field(4)
    rate = field(24) if index == _ESCAPE_RATE else RATES[index] if index < len(RATES) else 0
    if not rate or len(config) < 2:
        return None
    field(4)  # channels
    if kind in _REPLICATED_TYPES:  # replication, said in front: the core's own type follows
        if field(4) == _ESCAPE_RATE:
            field(24)
        kind = field(5)
    if kind == _USAC:
        return (768 if field(3) == 0 else SAMPLES), rate
    is_short = field(1)
    if kind in _LOW_DELAY:
        return _LOW_DELAY[kind][is_short], rate
    return (960 if is_short else SAMPLES), rate


def blocks_of(config: bytes) -> tuple[int, int, int] | None:
    """Of a stream of plain blocks their rate, object type and samples; None where it has others, or says too little."""
    frame = frame_of(config)
    if frame is None or frame[1] not in RATES:
        return None
    kind = config[0] >> 3
    if kind in _REPLICATED_TYPES:  # the core's own type follows the rate of what is replicated
        bits = int.from_bytes(config[:8].ljust(8, b"\0"), "big")
        at = 5 + 4 + 4 + 4 + (24 if bits >> 64 - 17 & 15 == _ESCAPE_RATE else 0)
        kind = bits >> 64 - at - 5 & 31
    return (frame[1], kind, frame[0]) if kind in _PLAIN_TYPES else None


def channels_of(config: bytes) -> int:
    """By the channel configuration (section 1.6.3.4), or the elements that are described behind it; else 2."""
    at, kind = 5, config[0] >> 3 if config else 0
    bits = int.from_bytes(config[:_CONFIG_BYTES].ljust(_CONFIG_BYTES, b"\0"), "big")

    def field(size: int) -> int:
        nonlocal at
        at += size
        return bits >> 8 * _CONFIG_BYTES - at & (1 << size) - 1

    if kind == _ESCAPE_TYPE:
        kind = 32 + field(6)
    if field(4) == _ESCAPE_RATE:
        field(24)
    configuration = field(4)
    if configuration or kind not in _PLAIN_TYPES:
        return _CHANNELS.get(configuration, 2)
    field(1)
    if field(1):  # depends on a core coder
        field(14)
    field(1 + 4 + 2 + 4)  # no extension; a program's tag, type and rate
    elements, low = sum(field(4) for _ in range(3)), field(2)
    field(3 + 4)
    for size in (4, 4, 3):  # ways to mix them down
        if field(1):
            field(size)
    return sum(1 + (field(5) >> 4) for _ in range(elements)) + low or 2
