"""What systemd is told, as a socket in its place hears it."""

import asyncio
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.processes.systemd import Systemd


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, str]]:
    """The manager's socket, and its name as NOTIFY_SOCKET has it."""
    with tempfile.TemporaryDirectory() as place, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        name = str(Path(place) / "notify") if request.param == "path" else f"@tahoe-gateway-test-{os.getpid()}"
        heard.bind("\0" + name[1:] if name.startswith("@") else name)
        heard.settimeout(30)
        yield heard, name


def test_the_states_of_a_service_are_told(manager: tuple[socket.socket, str]) -> None:
    """One datagram each, of lines; the time of a reload is the monotonic clock's in microseconds."""
    heard, name = manager
    systemd = Systemd({"NOTIFY_SOCKET": name})
    systemd.ready("serving")
    assert heard.recv(4_096) == b"READY=1\nSTATUS=serving"
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
    systemd.reloading()
    state, _, usec = heard.recv(4_096).decode().partition("\nMONOTONIC_USEC=")
    assert state == "RELOADING=1"
    assert before <= int(usec) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
    systemd.stopping()
    assert heard.recv(4_096).startswith(b"STOPPING=1\n")


async def test_the_watchdog_is_fed_twice_in_its_time(manager: tuple[socket.socket, str]) -> None:
    heard, name = manager
    environ = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "40000", "WATCHDOG_PID": str(os.getpid())}
    feeding = asyncio.get_running_loop().create_task(Systemd(environ).keep_watchdog())
    for _ in range(3):
        assert await asyncio.to_thread(heard.recv, 4_096) == b"WATCHDOG=1"
    feeding.cancel()
    await asyncio.wait({feeding})


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"NOTIFY_SOCKET": "/nowhere/notify"},
        {"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"},
        {"NOTIFY_SOCKET": "vsock:2:1"},
        {"WATCHDOG_USEC": "1000"},
        {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "soon"},
    ],
)
async def test_without_a_manager_nothing_happens(environ: dict[str, str]) -> None:
    """Nor when it has gone, or means another process; the gateway serves all the same."""
    systemd = Systemd(environ)
    systemd.ready("serving")
    systemd.reloading()
    systemd.stopping()
    async with asyncio.timeout(30):
        await systemd.keep_watchdog()
