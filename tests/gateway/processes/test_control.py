"""Parent and worker talk in questions and answers; the end of the stream, and nothing else, is the other's death."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from gateway.processes.control import Channel, Gone, Message


async def nobody(_: Message) -> None:
    """Answers nothing."""


@asynccontextmanager
async def talking(
    parent: Callable[[Message], Awaitable[Any]], worker: Callable[[Message], Awaitable[Any]]
) -> AsyncIterator[tuple[Channel, Channel]]:
    """Both ends, each reading until the other closes."""
    ours, theirs = socket.socketpair()
    ends = await Channel.over(ours, parent), await Channel.over(theirs, worker)
    async with asyncio.TaskGroup() as reading:
        for end in ends:
            reading.create_task(end.run())
        yield ends
        for end in ends:
            end.close()


@asynccontextmanager
async def facing_a_socket(
    hear: Callable[[Message], Awaitable[Any]] = nobody,
) -> AsyncIterator[tuple[Channel, socket.socket]]:
    """One end, and the bare socket of the other."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    end = await Channel.over(ours, hear)
    async with asyncio.TaskGroup() as reading:
        reading.create_task(end.run())
        with theirs:
            yield end, theirs
        end.close()


async def test_a_question_gets_its_own_answer() -> None:
    async def worker(message: Message) -> dict[str, object]:
        return {"did": message["do"], "with": message["number"]}

    async with talking(nobody, worker) as (parent, _):
        answers = await asyncio.gather(*(parent.ask("sum", 5.0, number=number) for number in range(50)))
    assert answers == [{"did": "sum", "with": number} for number in range(50)]


async def test_both_ends_ask_at_the_same_time() -> None:
    """The numbers of one end mean nothing to the other."""

    async def parent(message: Message) -> str:
        return f"parent heard {message['do']}"

    async def worker(message: Message) -> str:
        return f"worker heard {message['do']}"

    async with talking(parent, worker) as (one, other):
        answers = await asyncio.gather(one.ask("a", 5.0), other.ask("b", 5.0), one.ask("c", 5.0))
    assert answers == ["worker heard a", "parent heard b", "worker heard c"]


async def test_what_is_said_unasked_is_heard_and_not_answered() -> None:
    heard: asyncio.Queue[Message] = asyncio.Queue()
    async with talking(nobody, heard.put) as (parent, worker):
        parent.tell({"do": "forget", "tenant_id": "ten_a"})
        assert await heard.get() == {"do": "forget", "tenant_id": "ten_a"}
        assert not worker._asked


async def test_a_large_answer_and_odd_keys_arrive_whole() -> None:
    """Figures of many routes are more than a socket's buffer."""
    figures = {"routes": {f"r{n}": ["x\n\u2028" * 50] * 20 for n in range(300)}, "by_status": {200: 1}}

    async def worker(_: Message) -> dict[str, object]:
        return figures

    async with talking(nobody, worker) as (parent, _):
        assert await parent.ask("metrics", 10.0) == figures | {"by_status": {"200": 1}}


async def test_those_who_wait_are_told_when_the_other_end_dies() -> None:
    async with facing_a_socket() as (end, other):
        asked = asyncio.gather(*(end.ask("metrics", 60.0) for _ in range(3)), return_exceptions=True)
        await asyncio.get_running_loop().sock_recv(other, 10_000)
        other.close()
        async with asyncio.timeout(30):
            assert [str(outcome) for outcome in await asked] == ["the other process has ended"] * 3


async def test_a_dead_end_is_told_nothing_and_asked_nothing() -> None:
    """At once, and not after the time-out."""
    async with facing_a_socket() as (end, other):
        other.close()
        while not end._writer.is_closing():  # noqa: ASYNC110  nothing would set an event
            await asyncio.sleep(0)
        end.tell({"do": "forget"})
        async with asyncio.timeout(30):
            with pytest.raises(Gone, match="has ended"):
                await end.ask("metrics", 60.0)


@pytest.mark.parametrize("said", [b'{"n":1,"is":{"routes', b"{", b'{"ready":true}'])
async def test_a_death_in_mid_sentence_is_a_death_and_no_error(said: bytes) -> None:
    """``kill -9`` while figures were being written: the stream ends, the half is not believed."""
    heard: list[Message] = []

    async def hear(message: Message) -> None:
        heard.append(message)

    async with facing_a_socket(hear) as (end, other):
        asked = asyncio.gather(end.ask("metrics", 60.0), return_exceptions=True)
        await asyncio.get_running_loop().sock_recv(other, 10_000)
        other.send(said)
        other.close()
        async with asyncio.timeout(30):
            assert [type(outcome) for outcome in await asked] == [Gone]
    assert heard == []


async def test_a_late_answer_is_nobodys() -> None:
    """It is no message to be acted upon, nor is it answered: an answer to an answer once ended the worker."""
    late = asyncio.Event()

    async def worker(message: Message) -> str:
        if message["do"] == "slow":
            await late.wait()
        return f"done {message['do']}"

    heard: list[Message] = []

    async def parent(message: Message) -> None:
        heard.append(message)

    async with talking(parent, worker) as (one, other):
        with pytest.raises(Gone, match=r"no answer to 'slow' within 0\.01 s"):
            await one.ask("slow", 0.01)
        late.set()
        assert await one.ask("quick", 5.0) == "done quick"
        assert heard == []
        assert not one._asked
        assert not other._writer.is_closing()


async def test_an_answer_to_a_question_that_was_never_asked_is_ignored() -> None:
    async with facing_a_socket() as (end, other):
        other.send(orjson.dumps({"n": 77, "is": 1}) + b"\n")
        asked = asyncio.gather(end.ask("x", 5.0))
        await asyncio.get_running_loop().sock_recv(other, 10_000)
        other.send(orjson.dumps({"n": 1, "is": None}) + b"\n")
        assert await asked == [None]
