"""Ports for programs that are told where to listen."""

import contextlib
import secrets
import socket
from pathlib import Path

_FROM = 10_100
"""Above 10080, the last port that no browser connects to (Fetch standard, "port blocking")."""


def free_port(*, and_next: bool = False) -> int:
    """A port of loopback that nobody has, ``and_next``: nor its successor.

    It is below those that the kernel gives to whoever connects: it would give one of them away before the program that
    is started with it has come so far.
    """
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = _FROM + 2 * secrets.randbelow((first - _FROM) // 2)
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            if and_next:
                other.bind(("127.0.0.1", port + 1))
            return port
