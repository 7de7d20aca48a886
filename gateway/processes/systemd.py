"""What systemd is told, by the protocol of sd_notify(3): a datagram of lines to the socket that it names.

Without that socket, or when it cannot be written to, nothing happens: the gateway serves all the same.
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Mapping


class Systemd:
    """One service's line to its manager."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        mine = not pid or pid == str(os.getpid())
        self._watchdog_s = int(usec) / 1e6 if usec.isdecimal() and mine else 0.0

    def _tell(self, *lines: str) -> None:
        if self._address:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
                line.setblocking(False)  # noqa: FBT003  its only argument
                line.sendto("\n".join(lines).encode(), self._address)

    def ready(self, status: str) -> None:
        """It serves: after a start, and after a reload, whatever became of that."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """A reload has begun; the time is CLOCK_MONOTONIC's, as ``Type=notify-reload`` asks for."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000}")

    def stopping(self) -> None:
        """It drains."""
        self._tell("STOPPING=1", "STATUS=draining")

    async def keep_watchdog(self) -> None:
        """Say twice in the agreed time that the parent's loop turns; returns at once where nothing was agreed."""
        while self._address and self._watchdog_s > 0:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_s / 2)
