"""Feeds a walker in cuts, and looks at everything that it says."""

from hypothesis import strategies as st

cuts = st.lists(st.integers(1, 60), min_size=1, max_size=40)
"""Lengths of chunks, used in turn until the data ends."""


def fed(walker, data, lengths=(1 << 30,)):
    """The walker, fed with ``data`` in chunks of these lengths; every other one a view that is written over."""
    at = turn = 0
    while at < len(data):
        length = lengths[turn % len(lengths)]
        piece = data[at : at + length]
        if turn % 2:
            buffer = bytearray(piece)
            walker.feed(memoryview(buffer))
            buffer[:] = b"\xa5" * len(buffer)
        else:
            walker.feed(piece)
        at, turn = at + length, turn + 1
    return walker


def said(walker):
    return walker.ms, walker.claimed_ms, walker.channels, walker.codec
