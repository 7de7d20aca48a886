"""Frames of Speex in a packet that does not say how many: each says by its mode how many bits it has (manual, 9)."""

_NARROW_BITS = (5, 43, 119, 160, 220, 300, 364, 492, 79)
"""Of a frame by its mode, with the bit that says that it is narrow and the four of the mode."""
_WIDE_BITS = (4, 36, 112, 192, 352)
"""Of what a wide frame has behind its narrow half, likewise."""
_LEAST_BITS = 5
FRAME_MS = 20


def frames_in(packet: bytes) -> int:
    """How many frames a packet has, at least one."""
    bits, left = int.from_bytes(packet, "big"), len(packet) * 8
    count = 0
    while left >= _LEAST_BITS:
        mode = bits >> left - 5 & 31
        if mode >= len(_NARROW_BITS):
            break
        left -= _NARROW_BITS[mode]
        count += 1
        if left >= _WIDE_BITS[0] and bits >> left - 1 & 1:
            wide = bits >> left - 4 & 7
            left -= _WIDE_BITS[wide] if wide < len(_WIDE_BITS) else left
    return max(count, 1)
