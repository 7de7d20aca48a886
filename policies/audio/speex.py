"""Frames of Speex in a packet that does not say how many: each says by its mode how many bits it has (manual, 9)."""

_NARROW_BITS = (5, 43, 119, 160, 220, 300, 364, 492, 79)
"""Of a frame by its mode, with the bit that says that it is narrow and the four of the mode."""
_WIDE_BITS = (4, 36, 112, 192, 352)
"""Of what a wide frame has beside its narrow one, likewise. Decoders of narrow ones pass over it."""
_OWN, _OWN_BITS = 13, 14
"""What an application says, in bytes, whose number stands behind the mode."""
_ASIDE, _ASIDE_BITS = 14, (10, 10, 13, 13, 13, 13, 13, 13, 17, 17, 25, 25, 41, 41, 73, 73)
"""What encoder and decoder tell each other, by what it is."""
FRAME_MS = 20
_MOST_FRAMES, _LEAST_FRAME_BITS = 64, 5
"""That are read in one packet, 1.3 s; what follows them, which no encoder writes, is taken for the smallest ones."""


def frames_in(packet: bytes) -> int:
    """How many frames a packet has, at least one."""
    data, at, end, count = packet + bytes(2), 0, len(packet) * 8, 0
    while end - at >= _LEAST_FRAME_BITS and count < _MOST_FRAMES:
        first = at >> 3
        bits = (data[first] << 16 | data[first + 1] << 8 | data[first + 2]) >> 15 - (at & 7)
        mode, kind = bits >> 4 & 31, bits & 15
        if mode >> 4:
            wide = mode >> 1 & 7
            if wide >= len(_WIDE_BITS):
                break
            at += _WIDE_BITS[wide]
        elif mode < len(_NARROW_BITS):
            at += _NARROW_BITS[mode]
            count += 1
        elif mode == _OWN:
            at += _OWN_BITS + 8 * kind
        elif mode == _ASIDE:
            at += _ASIDE_BITS[kind]
        else:
            break
    if count == _MOST_FRAMES:
        count += max(end - at, 0) // _LEAST_FRAME_BITS
    return max(count, 1)
