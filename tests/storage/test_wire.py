"""One connection to Redis: addresses, framing, and that every reply goes to the one who asked."""

import asyncio
import ssl
import time
from pathlib import Path

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.ports import Unavailable
from storage.redis.wire import Address, RedisRefused, Wire, encode
from tests.certificates import LOOPBACK, make_certificate
from tests.storage.scripted_redis import Command, Scripted, obliging, scripted
from tests.storage.waiting import until

HOST = Address("127.0.0.1", 6379, "", "", "", 0, tls=False)


def address(**changed: object) -> Address:
    return Address(**{name: changed.get(name, getattr(HOST, name)) for name in Address.__slots__})


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", HOST),
        ("redis://127.0.0.1", HOST),
        ("redis://redis.internal:6380/3", address(host="redis.internal", port=6380, database=3)),
        ("redis://host?db=2", address(host="host", database=2)),
        ("redis://[::1]:7000/", address(host="::1", port=7000)),
        ("redis://:secret@h", address(host="h", password="secret")),
        (
            "redis://user:p%40ss%2Fw%3A@h:1/1",
            address(host="h", port=1, username="user", password="p@ss/w:", database=1),
        ),
        ("rediss://h", address(host="h", tls=True)),
        ("rediss://u:p@h:6390/5", address(host="h", port=6390, username="u", password="p", database=5, tls=True)),
        ("unix:///run/redis.sock", address(path="/run/redis.sock")),
        ("unix:///run/a%20b.sock?db=4", address(path="/run/a b.sock", database=4)),
        ("unix://user:pw@/run/redis.sock", address(path="/run/redis.sock", username="user", password="pw")),
    ],
)
def test_an_address_is_read(url: str, expected: Address) -> None:
    assert Address.parse(url) == expected


@pytest.mark.parametrize(
    "url",
    ["", "h:6379", "http://h", "postgresql://h/db", "redis://:hunter2@h:x", "redis://h:99999", "redis://h/hunter2",
     "redis://:hun/ter2@h", "redis://:hunter2#@h:6379/0", "redis://h?db=-1", "redis://[::1", "unix://", "unix:",
     "unix://run/redis.sock", "unix:///a?db=x"],
)  # fmt: skip
def test_what_is_no_address_is_refused_and_no_password_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        Address.parse(url)
    assert "hun" not in str(caught.value)


@given(words=st.lists(st.binary(max_size=50), min_size=1, max_size=6))
def test_a_command_is_what_redis_reads(words: list[bytes]) -> None:
    reader = hiredis.Reader()
    reader.feed(encode(*words))
    assert reader.gets() == words
    assert reader.gets() is False


async def connected(script: Scripted, timeout: float = 5.0, url: str = "") -> Wire:
    return await Wire.connect(Address.parse(url or script.url), timeout)


async def echo(command: Command) -> bytes | None:
    return b"+PONG\r\n" if command[0] == b"PING" else b"$%d\r\n%b\r\n" % (len(command[-1]), command[-1])


async def test_many_questions_in_one_piece_get_their_own_answers() -> None:
    async with scripted(echo) as script:
        wire = await connected(script)
        asked = (wire.ask(encode(b"ECHO", b"%d" % number)) for number in range(500))
        assert await asyncio.gather(*asked) == [b"%d" % number for number in range(500)]
        wire.close()


async def test_an_answer_in_single_bytes_is_one_answer() -> None:
    async def piecemeal(command: Command) -> bytes | None:
        if command[0] == b"PING":
            return b"+PONG\r\n"
        for byte in b"*2\r\n:1\r\n$3\r\nabc\r\n":
            script.writers[0].write(bytes([byte]))
            await asyncio.sleep(0)
        return None

    async with scripted(piecemeal) as script:
        wire = await connected(script)
        assert await wire.ask(encode(b"GET", b"k")) == [1, b"abc"]
        wire.close()


async def test_a_question_that_nobody_waits_for_any_more_keeps_its_place() -> None:
    """CVE-2023-28858: one reply behind is somebody else's data."""
    held = asyncio.Event()

    async def slowly(command: Command) -> bytes | None:
        if command[-1] == b"slow":
            await held.wait()
        return await echo(command)

    async with scripted(slowly) as script:
        wire = await connected(script)
        async with asyncio.TaskGroup() as group:
            slow, mine = (group.create_task(wire.ask(encode(b"ECHO", word))) for word in (b"slow", b"mine"))
            await until(lambda: len(wire._due) == 2)
            slow.cancel()
            held.set()
        assert mine.result() == b"mine"
        wire.close()


async def test_an_overdue_reply_ends_the_connection_for_all_who_wait() -> None:
    """Whether a late one would be theirs nobody can tell; they are told at once, and in time."""

    async def mute(command: Command) -> bytes | None:
        return b"+PONG\r\n" if command[0] == b"PING" else None

    async with scripted(mute) as script:
        wire = await connected(script, timeout=0.1)
        begun = asyncio.get_running_loop().time()
        asked = (wire.ask(encode(b"GET", b"k")) for _ in range(3))
        for outcome in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(outcome, Unavailable)
            assert "does not answer in time" in str(outcome)
        assert 0.1 <= asyncio.get_running_loop().time() - begun < 2.0
        script.writers[0].write(b"+late\r\n")
        with pytest.raises(Unavailable, match="closed"):
            await wire.ask(encode(b"PING"))


async def test_a_pause_of_the_whole_machine_is_no_silence_of_redis() -> None:
    """Nobody could answer while nobody ran; else every pause would leave the limits of all who wait uncounted."""
    async with scripted(echo) as script:
        wire = await connected(script, timeout=0.1)
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(wire.ask(encode(b"ECHO", b"x")))
            await asyncio.sleep(0)
            time.sleep(0.3)  # noqa: ASYNC251  the pause is what is under test
        assert asked.result() == b"x"
        wire.close()


async def test_a_reply_in_time_keeps_the_connection() -> None:
    """The watch is over the oldest question that is still open, not over the first one ever asked."""
    async with scripted(echo) as script:
        wire = await connected(script, timeout=0.1)
        end = asyncio.get_running_loop().time() + 0.25
        while asyncio.get_running_loop().time() < end:
            assert await wire.ask(encode(b"ECHO", b"x")) == b"x"
        assert wire.is_open
        wire.close()


async def test_a_reply_that_nobody_asked_for_ends_the_connection() -> None:
    """A server that is not in step with us is not asked again."""
    async with scripted(echo) as script:
        wire = await connected(script)
        script.writers[0].write(b"+surprise\r\n")
        await until(lambda: not wire.is_open)
        with pytest.raises(Unavailable, match="closed"):
            await wire.ask(encode(b"PING"))


async def test_an_error_reply_is_the_servers_own_words_and_the_connection_lives() -> None:
    async def refusing(command: Command) -> bytes:
        return b"-WRONGTYPE no\r\n" if command[0] == b"GET" else await obliging(command)

    async with scripted(refusing) as script:
        wire = await connected(script)
        with pytest.raises(RedisRefused, match=r"^WRONGTYPE no$"):
            await wire.ask(encode(b"GET", b"k"))
        assert await wire.ask(encode(b"PING")) == b"PONG"
        wire.close()


@pytest.mark.parametrize("end", [b"", b"!nonsense\r\n", b"$-7\r\n", b"*999999999999999999999\r\n", b"HTTP/1.1 400\r\n"])
async def test_all_who_wait_are_told_when_the_connection_breaks_or_speaks_nonsense(end: bytes) -> None:
    async def answer(command: Command) -> bytes | None:
        return b"+PONG\r\n" if command[0] == b"PING" else None

    async with scripted(answer) as script:
        wire = await connected(script)
        asked = asyncio.gather(*(wire.ask(encode(b"GET", b"k")) for _ in range(3)), return_exceptions=True)
        script.writers[0].write(end)
        if not end:
            script.writers[0].transport.abort()
        for outcome in await asked:
            assert isinstance(outcome, Unavailable)
        assert not wire.is_open


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("redis://127.0.0.1:{}", [(b"PING",)]),
        ("redis://:pw@127.0.0.1:{}/2", [(b"AUTH", b"pw"), (b"SELECT", b"2"), (b"PING",)]),
        ("redis://u:pw@127.0.0.1:{}", [(b"AUTH", b"u", b"pw"), (b"PING",)]),
    ],
)
async def test_the_greeting(url: str, asked: list[Command]) -> None:
    async with scripted() as script:
        (await connected(script, url=url.format(script.port))).close()
        assert script.asked == asked


@pytest.mark.parametrize(
    "words",
    [
        b"NOAUTH Authentication required.",
        b"WRONGPASS invalid username-password pair",
        b"LOADING Redis is loading the dataset in memory",
        b"ERR max number of clients reached",
        b"MASTERDOWN Link with MASTER is down",
    ],
)
async def test_a_server_that_refuses_the_greeting_is_unavailable_in_its_own_words(words: bytes) -> None:
    async def refusing(_: Command) -> bytes:
        return b"-%b\r\n" % words

    async with scripted(refusing) as script:
        with pytest.raises(Unavailable, match=words.decode().split()[0]):
            await connected(script)


async def test_a_server_that_never_answers_is_unavailable_within_the_time_out() -> None:
    async def mute(_: Command) -> None:
        return None

    async with scripted(mute) as script:
        begun = asyncio.get_running_loop().time()
        with pytest.raises(Unavailable, match="no answer in time"):
            await connected(script, timeout=0.1)
        assert asyncio.get_running_loop().time() - begun < 2.0


@pytest.mark.parametrize(
    "url",
    ["redis://127.0.0.1:1", "unix:///nowhere/redis.sock", "unix:///" + "x" * 200, "redis://" + "x" * 64 + ".invalid",
     "redis://a..b"],
)  # fmt: skip
async def test_a_server_that_is_not_there_is_unavailable(url: str) -> None:
    with pytest.raises(Unavailable, match="Redis cannot be reached"):
        await Wire.connect(Address.parse(url), 5.0)


async def test_tls_is_spoken_and_the_certificate_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """U-06: an unknown certificate is no connection, and no password is sent over it."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate, key = make_certificate(tmp_path, LOOPBACK)
    context.load_cert_chain(certificate, key)
    async with scripted(tls=context) as script:
        url = f"rediss://:pw@127.0.0.1:{script.port}"
        with pytest.raises(Unavailable, match="certificate"):
            await connected(script, url=url)
        assert script.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        wire = await connected(script, url=url)
        assert await wire.ask(encode(b"PING")) == b"PONG"
        wire.close()
        with pytest.raises(Unavailable, match="certificate"):
            await connected(script, url=url.replace("127.0.0.1", "localhost"))
