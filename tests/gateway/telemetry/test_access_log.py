"""The access log: whole lines in order, in pieces that workers cannot cut for each other; no request pays for it."""

import asyncio
import errno
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.telemetry import access_log
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.json_lines import json_line
from gateway.telemetry.metrics import Metrics

PIPE_BUF = 4_096
"""What Linux writes to a pipe in one piece (pipe(7))."""


@dataclass
class Written:
    """Every write, as it came."""

    pieces: list[bytes] = field(default_factory=list)

    def write(self, _: int, piece: bytes) -> int:
        """Stand in for os.write."""
        self.pieces.append(bytes(piece))
        return len(piece)

    @property
    def lines(self) -> list[dict[str, object]]:
        """What was written, read back."""
        return [json.loads(line) for line in b"".join(self.pieces).split(b"\n")[:-1]]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Written:
    made = Written()
    monkeypatch.setattr(access_log.os, "write", made.write)
    return made


async def test_lines_come_in_order_a_few_milliseconds_later_in_one_write(written: Written) -> None:
    log = AccessLog(1, Metrics())
    for number in range(3):
        log.emit({"n": number})
    assert written.pieces == []
    while not written.pieces:  # noqa: ASYNC110  nothing would set an event
        await asyncio.sleep(0.001)
    assert written.pieces == [b'{"n":0}\n{"n":1}\n{"n":2}\n']
    log.emit({"n": 3})
    log.flush()
    log.flush()
    assert written.pieces[1:] == [b'{"n":3}\n']


_lines = st.dictionaries(
    st.sampled_from(["path", "ua", "cause", "id"]),
    st.one_of(st.text(max_size=2_000), st.integers(0, 2**62)),
    min_size=1,
)


@given(lines=st.lists(_lines, min_size=1, max_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_write_is_longer_than_a_pipe_takes_in_one_piece_and_each_ends_with_a_line(
    written: Written, lines: list[dict[str, object]]
) -> None:
    """Or lines of two workers would cut each other. What fits is as it was said; what does not has its strings cut."""
    written.pieces.clear()
    log = AccessLog(1, Metrics())
    for line in lines:
        log.emit(line)
    log.flush()
    for piece in written.pieces:
        assert 0 < len(piece) <= PIPE_BUF
        assert piece.endswith(b"\n")
    assert len(written.lines) == len(lines)
    for found, said in zip(written.lines, lines, strict=True):
        assert found.keys() == said.keys()
        for name, value in said.items():
            assert found[name] == value or str(value).startswith(str(found[name]))


async def test_fields_that_were_encoded_before_are_a_part_of_the_line_and_cut_with_it(written: Written) -> None:
    log = AccessLog(1, Metrics())
    rest = b"," + json_line({"path": "/\x85", "ua": "\x9b" * 600})[1:]
    log.emit({"n": 1}, rest)
    log.emit({"cause": "x" * 3_000}, rest)
    log.flush()
    whole, cut = written.lines
    assert whole == {"n": 1, "path": "/\x85", "ua": "\x9b" * 600}
    assert cut.keys() == {"cause", "path", "ua"}
    assert all(len(line) < PIPE_BUF for line in b"".join(written.pieces).split(b"\n"))


async def test_a_path_of_eight_kilobytes_is_one_piece(written: Written) -> None:
    log = AccessLog(1, Metrics())
    log.emit({"path": "/" + "a" * 8_191, "ua": "\x9b" * 256, "status": 404})
    log.flush()
    (line,) = written.lines
    assert len(written.pieces[0]) <= PIPE_BUF
    assert line["status"] == 404
    assert str(line["path"]).startswith("/aaa")


async def test_what_cannot_be_cut_is_still_a_line(written: Written) -> None:
    log = AccessLog(1, Metrics())
    log.emit({"a": 1})
    log.emit({"a": ["x" * 5_000]})
    log.emit({"a": 2})
    log.flush()
    assert [line["a"] for line in written.lines] == [1, ["x" * 5_000], 2]


def _full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def _reader_gone() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def _reader_asleep() -> int:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with open(os.dup(reading), "rb", closefd=True):  # noqa: PTH123  a descriptor
        while True:
            try:
                os.write(writing, b"x" * 65_536)
            except BlockingIOError:
                return writing


async def test_a_line_of_which_a_part_was_taken_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a disk that gets room in the midst of it: what follows would be one line with its beginning."""
    taken = bytearray()

    def write(_: int, data: memoryview) -> int:
        taken.extend(data[:5])
        return len(data[:5])

    monkeypatch.setattr(access_log.os, "write", write)
    log = AccessLog(1, Metrics())
    log.emit({"n": 1})
    log.emit({"n": 2})
    log.flush()
    assert taken == b'{"n":1}\n{"n":2}\n'


async def test_a_line_that_a_full_disk_cut_spoils_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is a line of its own, when there is room again."""
    taken, room = bytearray(), [4]

    def write(_: int, data: memoryview | bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        some = bytes(data[: room[0]])
        taken.extend(some)
        room[0] -= len(some)
        return len(some)

    monkeypatch.setattr(access_log.os, "write", write)
    log = AccessLog(1, metrics := Metrics())
    log.emit({"n": 1})
    log.flush()
    room[0] = 100
    for number in (2, 3):
        log.emit({"n": number})
        log.flush()
    assert taken == b'{"n"\n{"n":2}\n{"n":3}\n'
    assert metrics.lost_lines["access",] == 1


@pytest.mark.parametrize("trouble", [_full_disk, _reader_gone, _reader_asleep])
async def test_a_log_that_cannot_be_written_costs_lines_and_nothing_else(trouble: Callable[[], int]) -> None:
    """A full disk, a reader that has gone, one that shares a pipe which may not block: no request hears of it."""
    descriptor, metrics = trouble(), Metrics()
    try:
        log = AccessLog(descriptor, metrics)
        for _ in range(3):
            log.emit({"a": "x" * 3_000})
            log.emit({"a": "x" * 3_000})
            log.flush()
        assert not log._queued
        assert metrics.lost_lines == {("access",): 6}
    finally:
        os.close(descriptor)
