"""Listening sockets, bound before anything else starts: an occupied port is the first fault seen."""

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_LONGEST_PATH = 100
"""sockaddr_un.sun_path is 108 bytes with its final NUL; some of that is kept in hand."""
_ROOM = len("/tahoe-gateway-12345678/transcriber.sock")
"""The longest name that one gets in such a place."""

_SO_ATTACH_FILTER = 26
"""Linux's number (asm-generic/socket.h); the socket module does not name it."""
_NO_SYN = b"".join(
    struct.pack("@HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # ldb [13]: the flags of a TCP segment (RFC 9293 section 3.1)
        (0x54, 0, 0, 0x12),  # and #SYN|ACK
        (0x15, 0, 1, 0x02),  # jeq #SYN
        (0x06, 0, 0, 0),  # ret #0: drop it
        (0x06, 0, 0, 0xFFFF_FFFF),  # ret #-1: take it whole
    )
)
"""A socket filter (linux/filter.h) that drops what begins a connection, and nothing else."""
QUEUE = 4_096
"""Connections that may wait to be accepted; the system's somaxconn bounds it as well."""


class PortTaken(Exception):
    """A listening address cannot be had; the message says which and what to do."""


def listen(address: str, setting: str) -> socket.socket:
    """A listening, non-blocking TCP socket for ``host:port``; port 0 lets the system choose. Raises PortTaken."""
    listening = _bound(address, setting, shared=False)
    listening.listen(QUEUE)
    return listening


def listen_for_each(address: str, setting: str, workers: int) -> list[socket.socket]:
    """A socket for every worker, all on one address: the system spreads connections over them evenly (SO_REUSEPORT).

    Workers that share one socket do not: who wakes first takes all that wait. The price is that a connection waits for
    one worker; so the sockets stay the parent's, which lets others stand in. Raises PortTaken, also for another
    gateway's port, which the system would let one user share.
    """
    if workers <= 1:
        return [listen(address, setting)]
    first = _bound(address, setting, shared=False)
    port = port_of(first)
    first.close()
    sockets = [_bound(f"{address.rpartition(':')[0]}:{port}", setting, shared=True) for _ in range(workers)]
    for listening in sockets:
        listening.listen(QUEUE)
    return sockets


def _bound(address: str, setting: str, *, shared: bool) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            bound.bind(where)
        except BaseException:
            bound.close()
            raise
    except OSError as error:
        raise PortTaken(_sentence(address, setting, error)) from error
    except UnicodeError as error:
        raise PortTaken(f"{address} cannot be bound: no host has such a name. Correct {setting}.") from error
    bound.setblocking(False)  # noqa: FBT003  its only argument
    return bound


def listen_at_files(path: Path, setting: str, workers: int) -> list[socket.socket]:
    """A Unix socket for every worker, for the owner and the group of the file: ``path``, ``path.2``, ``path.3``.

    Each worker has a file because a file cannot have a socket each, as a port can. What stands there is replaced if it
    is a socket that nobody listens at. Raises PortTaken.
    """
    others = [path.with_name(f"{path.name}.{number}") for number in range(2, workers + 1)]
    with contextlib.ExitStack() as undo, _alone_in(path.parent):
        sockets = [undo.enter_context(_at_file(one, setting)) for one in (path, *others)]
        undo.pop_all()
    return sockets


@contextlib.contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Wait while another gateway looks who listens there and puts its files there: neither sees half of the other."""
    with contextlib.ExitStack() as closing:
        with contextlib.suppress(OSError):  # without it the files cannot be made either, or it knows no locks
            held = os.open(directory, os.O_RDONLY)
            closing.callback(os.close, held)
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _at_file(path: Path, setting: str) -> socket.socket:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)  # noqa: FBT003  a queue that is full is somebody's, too
        if path.is_socket() and asking.connect_ex(str(path)) not in (errno.ECONNREFUSED, errno.ENOENT):
            raise PortTaken(_sentence(str(path), setting, OSError(errno.EADDRINUSE, "")))
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o117)
    try:
        if path.is_socket():
            path.unlink(missing_ok=True)
        listening.bind(str(path))
        listening.listen(QUEUE)
    except OSError as error:
        listening.close()
        raise PortTaken(
            f"The socket {path} cannot be made: {error.strerror or error}. See that its directory is there and this"
            f" user may write in it, or correct {setting}."
        ) from error
    finally:
        os.umask(before)
    listening.setblocking(False)  # noqa: FBT003  its only argument
    return listening


async def serve_file(make: Callable[[], asyncio.BaseProtocol], listening: socket.socket) -> asyncio.Server:
    """Accept from a Unix socket. Its name stays when the server closes: others may listen at it (Python 3.13 on)."""
    keeping: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
    server = await asyncio.get_running_loop().create_unix_server(make, sock=listening, **keeping)
    # asyncio has made the queue 100 long, and a Unix socket whose queue is full refuses: 502 in a storm.
    listening.listen(QUEUE)
    return server


def turn_deaf(listening: socket.socket) -> None:
    """Have the system drop what would begin a connection: who begins from here on waits, and is refused at the close.

    Who waits in the queue stays there, and can still be accepted: else whoever came between the last accept and the
    close would be reset. Who has half a handshake behind it can end it, as it takes itself for connected already; a
    connection inherits the filter, and sees no other SYN. (socket(7), SO_ATTACH_FILTER.) Such a reset may happen
    where the system lets this user have no filter (EPERM; seen without privileges on Linux 6.18). A file is not found
    from here on.
    """
    if listening.family == socket.AF_UNIX:
        Path(listening.getsockname()).unlink(missing_ok=True)
        return
    filtering = ctypes.create_string_buffer(_NO_SYN, len(_NO_SYN))
    program = struct.pack("@HP", len(_NO_SYN) // 8, ctypes.addressof(filtering))
    with contextlib.suppress(PermissionError):
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def listen_privately(directory: Path, name: str) -> socket.socket:
    """A listening Unix socket that this user alone can open: in ``directory``, or where a short path can be had.

    Whatever stood there before belonged to a process that is dead: the caller owns the directory. Raises PortTaken.
    """
    path = directory / name
    if len(os.fsencode(path)) > _LONGEST_PATH:
        path = Path(tempfile.mkdtemp(prefix="tahoe-gateway-", dir=short_base())) / name
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        listening.bind(str(path))
        listening.listen(1_024)
    except OSError as error:
        listening.close()
        raise PortTaken(f"The socket {path} cannot be made: {error.strerror or error}.") from error
    finally:
        os.umask(before)
    listening.setblocking(False)  # noqa: FBT003  its only argument
    return listening


def short_base() -> str:
    """Where a directory for sockets can be made whose own place has too long a path. TMPDIR may be long itself."""
    base = tempfile.gettempdir()
    return base if len(os.fsencode(base)) + _ROOM <= _LONGEST_PATH else "/tmp"  # noqa: S108  for mkdtemp alone


def close_privately(listening: socket.socket, path: Path) -> None:
    """Close such a socket, if its server has not, and take its name away."""
    listening.close()
    path.unlink(missing_ok=True)
    if path.parent.name.startswith("tahoe-gateway-"):
        path.parent.rmdir()


def _sentence(address: str, setting: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{address} is in use by another process. Stop that one, or choose another with {setting}."
    if error.errno == errno.EACCES:
        return f"{address} may not be bound by this user. Choose a port above 1023 with {setting}."
    return f"{address} cannot be bound: {error.strerror or error}. Correct {setting}."


def port_of(listening: socket.socket) -> int:
    """The port that was bound."""
    return int(listening.getsockname()[1])
