"""Feeds a walker in cuts, and looks at everything that it says."""

import sys

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


def calls_to_watch(walker, data, length):
    """How many functions are called where somebody asks for the figure after every piece, as a reservation does.

    What a walker does over and over shows in it, on any machine alike.
    """
    count, before = 0, sys.getprofile()

    def note(_frame, event, _function):
        nonlocal count
        count += event.endswith("call")

    sys.setprofile(note)
    try:
        for at in range(0, len(data), length):
            walker.feed(data[at : at + length])
            assert walker.ms is None or walker.ms > 0
    finally:
        sys.setprofile(before)
    return count


def said(walker):
    return walker.ms, walker.claimed_ms, walker.channels, walker.codec
