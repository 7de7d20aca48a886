"""Frames are counted and judged alike however they are cut, and nothing of a faulty frame ever goes on."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.http.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FRAGMENT_WEIGHT,
    PING,
    PONG,
    TEXT,
    Fault,
    FrameWalker,
    close_frame,
    frame,
    masked,
)

KEY = b"\x01\x02\x83\xf4"
LIMIT = 100_000


class Watched:
    """A walker, all that it let go on, and all that it handed out."""

    def __init__(self, *, client: bool = True, limit: int = LIMIT) -> None:
        self.handed: list[tuple[int, bytes, bool]] = []
        self.walker = FrameWalker(masked=client, max_message=limit, consume=lambda *piece: self.handed.append(piece))
        self.passed = b""

    def feed(self, *pieces: bytes) -> "Watched":
        for piece in pieces:
            self.passed += self.walker.feed(piece)
        return self

    @property
    def messages(self) -> list[tuple[int, bytes]]:
        """The whole messages that were handed out."""
        found, payload = [], b""
        for opcode, piece, last in self.handed:
            payload += piece
            if last:
                found.append((opcode, payload))
                payload = b""
        return found

    @property
    def result(self) -> tuple[object, ...]:
        """All that anybody can see afterwards."""
        w = self.walker
        counts = (w.frames, w.messages, w.controls, w.text, w.binary)
        pieces = [(opcode, piece) for opcode, piece, _ in self.handed]
        return (self.passed, counts, w.fault, w.close_code, w.done, w.at_boundary, w.in_message, self.messages,
                b"".join(piece for _, piece in pieces))  # fmt: skip


def client_frame(first: int, payload: bytes, *, wide: int = 0) -> bytes:
    """A masked frame with any first byte; ``wide``: how many bytes its length is written in, else the shortest."""
    size = len(payload)
    wide = wide or (0 if size < 126 else 2 if size < 65_536 else 8)
    length = bytes((0x80 | {0: size, 2: 126, 8: 127}[wide],)) + (size.to_bytes(wide, "big") if wide else b"")
    return bytes((first,)) + length + KEY + masked(payload, KEY)


_payloads = st.one_of(st.binary(max_size=140), st.builds(bytes, st.sampled_from([0, 125, 126, 65_535, 65_536])))
_sound = st.builds(
    client_frame, st.sampled_from([0x80 | TEXT, 0x80 | BINARY, 0x80 | PING, 0x80 | PONG]), st.binary(max_size=125)
)
_any = st.one_of(
    _sound,
    st.builds(client_frame, st.integers(0, 255), _payloads),
    st.builds(lambda code, reason: close_frame(code, reason, KEY), st.integers(0, 6_000), st.text(max_size=140)),
    st.binary(max_size=20),
)


@given(st.lists(_any, max_size=8).map(b"".join), st.data())
def test_any_cut_gives_the_same_result(data: bytes, draw: st.DataObject) -> None:
    """Whole, in any pieces, and byte by byte."""
    whole = Watched().feed(data)
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=6)))
    assert Watched().feed(*(data[a:b] for a, b in pairwise([0, *cuts, len(data)]))).result == whole.result
    if len(data) < 1_000:
        assert Watched().feed(*(data[i : i + 1] for i in range(len(data)))).result == whole.result


@given(st.lists(_any, max_size=8).map(b"".join))
def test_what_goes_on_is_a_prefix(data: bytes) -> None:
    """Nothing is changed or added."""
    assert data.startswith(Watched().feed(data).passed)


@given(st.lists(st.tuples(st.sampled_from([TEXT, BINARY]), _payloads), max_size=6), st.booleans())
def test_messages_are_handed_out_unmasked(messages: list[tuple[int, bytes]], client: bool) -> None:
    """In both directions, and counted by kind."""
    watched = Watched(client=client)
    watched.feed(b"".join(frame(opcode, payload, KEY if client else b"") for opcode, payload in messages))
    assert watched.messages == messages
    assert watched.walker.text == sum(len(p) for o, p in messages if o == TEXT)
    assert watched.walker.binary == sum(len(p) for o, p in messages if o == BINARY)
    assert watched.walker.messages == watched.walker.frames == len(messages)


def test_fragments_are_one_message_and_control_frames_may_stand_between_them() -> None:
    data = (
        client_frame(TEXT, b"one ")
        + client_frame(0x80 | PING, b"?")
        + client_frame(CONTINUATION, b"two ")
        + client_frame(0x80 | CONTINUATION, b"three")
    )
    watched = Watched().feed(data)
    assert watched.messages == [(TEXT, b"one two three")]
    assert watched.passed == data
    assert (watched.walker.frames, watched.walker.controls, watched.walker.messages) == (3, 1, 1)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (client_frame(0xC0 | TEXT, b"deflated"), Fault.RESERVED_BITS),
        (client_frame(0x90 | TEXT, b""), Fault.RESERVED_BITS),
        (client_frame(0x83, b""), Fault.RESERVED_OPCODE),
        (client_frame(0x8B, b""), Fault.RESERVED_OPCODE),
        (client_frame(0x8F, b""), Fault.RESERVED_OPCODE),
        (frame(TEXT, b"not masked"), Fault.MASKING),
        (client_frame(PING, b""), Fault.CONTROL_FRAME),
        (client_frame(0x80 | PING, bytes(126)), Fault.CONTROL_FRAME),
        (client_frame(0x80 | CLOSE, bytes(126)), Fault.CONTROL_FRAME),
        (client_frame(0x80 | CONTINUATION, b""), Fault.FRAGMENTATION),
        (client_frame(TEXT, b"") + client_frame(0x80 | TEXT, b""), Fault.FRAGMENTATION),
        (client_frame(0x80 | TEXT, bytes(125), wide=2), Fault.LENGTH),
        (client_frame(0x80 | TEXT, bytes(65_535), wide=8), Fault.LENGTH),
        (b"\x82\xff" + (1 << 63).to_bytes(8, "big"), Fault.LENGTH),
        (b"\x82\xff" + b"\xff" * 8, Fault.LENGTH),
        (b"\x82\xff" + ((1 << 63) - 1).to_bytes(8, "big") + KEY, Fault.TOO_LARGE),
        (b"\x82\xff" + (LIMIT + 1).to_bytes(8, "big") + KEY, Fault.TOO_LARGE),
        (client_frame(0x80 | CLOSE, b"\x03"), Fault.CLOSE_CODE),
        (client_frame(0x80 | CLOSE, b"\x03\xe8\xff"), Fault.CLOSE_CODE),
        *((close_frame(code, "", KEY), Fault.CLOSE_CODE) for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000)),
    ],
)
def test_nothing_of_a_faulty_frame_goes_on(data: bytes, fault: Fault) -> None:
    """What stood before it does; and all that follows is lost, so that a close frame of ours can be the next thing."""
    before = client_frame(0x80 | TEXT, b"good")
    watched = Watched().feed(before + data + before)
    assert watched.walker.fault is fault
    assert watched.walker.at_boundary
    assert watched.walker.done
    assert watched.passed == before + (client_frame(TEXT, b"") if data.startswith(b"\x01") else b"")
    assert fault.close_code in (1002, 1009)


def test_a_server_does_not_mask() -> None:
    watched = Watched(client=False).feed(frame(TEXT, b"x", KEY))
    assert watched.walker.fault is Fault.MASKING


def test_fragments_add_up_and_empty_ones_weigh_something() -> None:
    """Else a message of empty fragments would have no end."""
    half = client_frame(BINARY, bytes(LIMIT // 2)) + client_frame(CONTINUATION, bytes(LIMIT // 2))
    assert Watched().feed(half).walker.fault is Fault.TOO_LARGE
    endless = client_frame(BINARY, b"") + client_frame(CONTINUATION, b"") * (LIMIT // FRAGMENT_WEIGHT)
    assert Watched().feed(endless).walker.fault is None
    assert Watched().feed(endless + client_frame(CONTINUATION, b"")).walker.fault is Fault.TOO_LARGE


def test_a_message_of_exactly_the_limit_passes() -> None:
    watched = Watched().feed(client_frame(0x80 | BINARY, bytes(LIMIT)), client_frame(0x80 | BINARY, bytes(LIMIT)))
    assert watched.walker.fault is None
    assert watched.walker.messages == 2


def test_nothing_follows_a_close_frame() -> None:
    end = close_frame(1000, "bye", KEY)
    watched = Watched().feed(end + client_frame(0x80 | TEXT, b"late"))
    assert watched.passed == end
    assert watched.walker.close_code == 1000
    assert watched.walker.done
    assert Watched().feed(client_frame(0x80 | CLOSE, b"")).walker.close_code == 1005


def test_a_stop_waits_for_the_end_of_the_frame_under_way() -> None:
    """The one close frame that we write ourselves comes between two frames of the peer's."""
    first = client_frame(0x80 | BINARY, bytes(50))
    watched = Watched().feed(first[:20])
    assert not watched.walker.at_boundary
    watched.walker.stop()
    assert not watched.walker.done
    watched.feed(first[20:] + first)
    assert watched.passed == first
    assert watched.walker.done
    assert watched.walker.binary == 50
    watched.feed(first[:20])
    assert watched.walker.at_boundary, "what is not let go on is no frame under way"
    watched.feed(first[20:] + close_frame(1000, "", KEY))
    assert watched.passed == first
    assert watched.walker.close_code == 1000, "the answer to our own close frame is still seen"


@given(st.lists(_sound, min_size=1, max_size=5).map(b"".join), st.data())
def test_a_stop_lets_whole_frames_through_wherever_it_comes(data: bytes, draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, len(data)))
    watched = Watched().feed(data[:at])
    watched.walker.stop()
    watched.feed(*(data[i : i + 1] for i in range(at, len(data))))
    again = Watched().feed(watched.passed)
    assert again.passed == watched.passed
    assert again.walker.at_boundary
    assert watched.walker.fault is None


def test_a_frame_in_one_piece_is_not_copied() -> None:
    data = client_frame(0x80 | BINARY, bytes(3_200))
    walker = FrameWalker(masked=True, max_message=LIMIT)
    assert walker.feed(data) is data


def test_a_long_reason_is_cut_between_characters() -> None:
    assert len(close_frame(4001, "é" * 100)) == 2 + 2 + 122
