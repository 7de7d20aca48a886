"""The elements of a block of AAC (ISO/IEC 14496-3 section 4.4.2.1): those without sound, and what is coupled."""

from policies.audio.aac.bits import Bits

SCE, CPE, CCE, LFE, DSE, PCE, FIL, END = range(8)
INSTANCE_BITS = 4
_RANGE_CONTROL, _MOST_LEFT_OUT = 11, 9
_BOTH = 3
"""Of a pair's channels that a third one is coupled to."""


def pass_silent(bits: Bits, element: int) -> None:
    """Pass an element that holds no sound."""
    if element == FIL:
        size = bits.read(4)
        size += bits.read(8) - 1 if size == 15 else 0
        while size > 0:
            if bits.read(4) != _RANGE_CONTROL:
                bits.skip(8 * size - 4)
                return
            size -= _pass_range_control(bits)
        return
    bits.skip(4)
    is_aligned, size = bits.read(1), bits.read(8)
    size += bits.read(8) if size == 255 else 0
    if is_aligned:
        bits.align()
    bits.skip(8 * size)


def _pass_range_control(bits: Bits) -> int:
    """Pass what controls the dynamic range (section 4.5.2.7), which decoders read to its own end; its bytes."""
    size, bands = 1, 1
    if bits.read(1):
        bits.skip(8)
        size += 1
    if bits.read(1):  # some channels are left out
        for turn in range(_MOST_LEFT_OUT):
            bits.skip(7)
            size += 1
            if turn == _MOST_LEFT_OUT - 1 or not bits.read(1):
                break
    if bits.read(1):
        bands += bits.read(4)
        bits.skip(4 + 8 * bands)
        size += 1 + bands
    if bits.read(1):
        bits.skip(8)
        size += 1
    bits.skip(8 * bands)
    return size + bands


def read_description(bits: Bits) -> set[int]:
    """Read a description of the channels (section 4.4.1.1): their elements, by kind and instance. No others come."""
    bits.skip(10)
    front, side, back, low, data, coupled = (bits.read(width) for width in (4, 4, 4, 2, 3, 4))
    for width in (4, 4, 3):
        bits.skip(width * bits.read(1))
    elements = set(_each(bits, front + side + back, 5))  # of a pair the first bit is set: CPE
    elements.update(LFE << INSTANCE_BITS | instance for instance in _each(bits, low, 4))
    bits.skip(4 * data)
    elements.update(CCE << INSTANCE_BITS | instance & 15 for instance in _each(bits, coupled, 5))
    bits.align()
    bits.skip(8 * bits.read(8))
    return elements


def _each(bits: Bits, count: int, size: int) -> list[int]:
    """So many numbers of so many bits, read at once."""
    together, mask = bits.read(count * size), (1 << size) - 1
    return [together >> at & mask for at in range(0, count * size, size)]


def pass_coupling(bits: Bits) -> tuple[int, bool]:
    """Pass what a coupling channel says of itself: how many gains follow its sound, and whether each is one word."""
    is_single, gains = bits.read(1), -1
    for _ in range(bits.read(3) + 1):
        is_pair = bits.read(1)
        bits.skip(4)
        gains += 1 + (bits.read(2) == _BOTH if is_pair else 0)
    bits.skip(4)
    return gains, is_single > 0
