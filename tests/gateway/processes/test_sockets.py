"""Listening sockets are bound before anything else starts; what prevents it is one sentence."""

import contextlib
import errno
import socket
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from gateway.processes import sockets
from gateway.processes.sockets import (
    PortTaken,
    close_privately,
    listen,
    listen_at_files,
    listen_for_each,
    listen_privately,
    port_of,
    turn_deaf,
)

needs_ipv6 = pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this kernel has no IPv6 at all")


@pytest.mark.parametrize(
    "address", ["127.0.0.1:0", pytest.param("[::1]:0", marks=needs_ipv6), "localhost:0", "0.0.0.0:0"]
)
def test_it_listens_where_it_is_told(address: str) -> None:
    with listen(address, "GATEWAY_LISTEN") as listening:
        assert port_of(listening) > 0
        assert not listening.getblocking()
        host = listening.getsockname()[0].replace("0.0.0.0", "127.0.0.1")
        with socket.create_connection((host, port_of(listening)), timeout=30):
            pass


def test_where_no_filter_is_to_be_had_the_drain_goes_on() -> None:
    """As another user than root on some systems: Ctrl-C ended in a traceback."""

    class Refusing(socket.socket):
        def setsockopt(self, *_: object) -> None:  # type: ignore[override]  # whatever it is asked
            raise PermissionError(1, "Operation not permitted")

    with Refusing() as listening:
        turn_deaf(listening)


def test_a_deaf_socket_gives_up_who_waits_and_answers_nobody_else() -> None:
    """Who is in the queue can be accepted, with what was and will be sent; who comes now is not connected."""
    with listen("127.0.0.1:0", "GATEWAY_LISTEN") as listening:
        address = ("127.0.0.1", port_of(listening))
        with socket.create_connection(address, timeout=30) as early, socket.socket() as late:
            early.sendall(b"sent")
            turn_deaf(listening)
            late.setblocking(False)
            assert late.connect_ex(address) == errno.EINPROGRESS
            accepted, _ = listening.accept()
            with pytest.raises(BlockingIOError):
                listening.accept()
            listening.shutdown(socket.SHUT_RDWR)
            with accepted:
                early.sendall(b" later")
                accepted.settimeout(30)
                assert accepted.recv(4) == b"sent"
                assert accepted.recv(6) == b" later"
            with pytest.raises(OSError, match="not connected"):
                late.getpeername()


def test_a_handshake_that_was_begun_before_can_be_ended_after() -> None:
    """Its client takes itself for connected, and sends. With TCP_DEFER_ACCEPT the end of it is the first data."""
    with listen("127.0.0.1:0", "GATEWAY_LISTEN") as listening:
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 60)
        with socket.create_connection(("127.0.0.1", port_of(listening)), timeout=30) as early:
            with pytest.raises(BlockingIOError):
                listening.accept()
            turn_deaf(listening)
            early.sendall(b"sent")
            listening.settimeout(30)
            accepted, _ = listening.accept()
            with accepted:
                early.sendall(b" later")
                early.shutdown(socket.SHUT_WR)
                accepted.settimeout(30)
                assert accepted.makefile("rb").read() == b"sent later"


@needs_ipv6
def test_every_address_means_both_families() -> None:
    """``[::]`` takes IPv4 as well, whatever the system's default is."""
    with (
        listen("[::]:0", "GATEWAY_LISTEN") as listening,
        socket.create_connection(("127.0.0.1", port_of(listening)), timeout=30),
    ):
        pass


def test_an_occupied_port_says_so_and_leaves_nothing_open() -> None:
    with listen("127.0.0.1:0", "GATEWAY_LISTEN") as first:
        address = f"127.0.0.1:{port_of(first)}"
        with pytest.raises(PortTaken) as caught:
            listen(address, "GATEWAY_OPS_LISTEN")
    assert str(caught.value) == (
        f"{address} is in use by another process. Stop that one, or choose another with GATEWAY_OPS_LISTEN."
    )
    with listen(address, "GATEWAY_LISTEN") as again:  # at once, also while old connections linger
        assert port_of(again) == port_of(again)


def test_a_port_that_needs_privileges_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(sockets.socket.socket, "bind", denied)
    with pytest.raises(
        PortTaken, match=r"may not be bound by this user\. Choose a port above 1023 with GATEWAY_LISTEN"
    ):
        listen("127.0.0.1:80", "GATEWAY_LISTEN")


@pytest.mark.parametrize("address", ["192.0.2.1:0", "no-such-host.invalid:0", "a..b:0", "x" * 70 + ".invalid:0"])
def test_an_address_that_cannot_be_had_is_a_sentence(address: str) -> None:
    with pytest.raises(PortTaken) as caught:
        listen(address, "GATEWAY_LISTEN")
    assert str(caught.value).startswith(f"{address} cannot be bound: ")
    assert str(caught.value).endswith("Correct GATEWAY_LISTEN.")


@pytest.mark.parametrize("deep", [False, True])
def test_a_private_socket_is_ours_alone_however_long_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deep: bool
) -> None:
    """0600 from the first moment; what a dead process left is replaced; closing leaves nothing.

    The temporary directory may be as deep.
    """
    directory = tmp_path / ("d" * 120 if deep else "d")
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    if not deep:
        (directory / "portal.sock").touch()
    listening = listen_privately(directory, "portal.sock")
    path = Path(listening.getsockname())
    assert path.stat().st_mode & 0o777 == 0o600
    assert deep == (path.parent != directory)
    close_privately(listening, path)
    assert not path.exists()


def test_every_worker_has_a_file_of_its_own_for_owner_and_group(tmp_path: Path) -> None:
    """What a dead gateway left is replaced; one that is served is not, nor what is no socket."""
    path = tmp_path / "http.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    each = listen_at_files(path, "GATEWAY_LISTEN_SOCKET", 2)
    with contextlib.ExitStack() as stack:
        for listening, name in zip(each, ("http.sock", "http.sock.2"), strict=True):
            stack.enter_context(listening)
            assert listening.getsockname() == str(tmp_path / name)
            assert (tmp_path / name).stat().st_mode & 0o777 == 0o660
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(tmp_path / name))
                listening.accept()[0].close()
        with pytest.raises(PortTaken, match=r"http\.sock is in use"):
            listen_at_files(path, "GATEWAY_LISTEN_SOCKET", 1)
    (tmp_path / "file").write_text("kept")
    for place in (tmp_path / "file", tmp_path / "none" / "http.sock"):
        with pytest.raises(PortTaken, match="cannot be made"):
            listen_at_files(place, "GATEWAY_LISTEN_SOCKET", 1)
    assert (tmp_path / "file").read_text() == "kept"


def test_of_two_that_start_at_once_on_one_file_the_second_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first one's bind and its listen nobody answers there, as at a dead one's: the second took it away."""
    path = tmp_path / "http.sock"

    class Slow(socket.socket):
        def listen(self, *backlog: int) -> None:
            monkeypatch.undo()
            others.append(pool.submit(listen_at_files, path, "GATEWAY_LISTEN_SOCKET", 1))
            wait(others, timeout=0.1)  # it waits, or has done its worst
            super().listen(*backlog)

    others: list[Future[list[socket.socket]]] = []
    with ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(sockets.socket, "socket", Slow)
        (listening,) = listen_at_files(path, "GATEWAY_LISTEN_SOCKET", 1)
        with listening, pytest.raises(PortTaken, match=r"http\.sock is in use"):
            others[0].result()


def test_a_deaf_file_is_not_found_and_who_waits_can_be_accepted(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    (listening,) = listen_at_files(path, "GATEWAY_LISTEN_SOCKET", 0)
    with listening, socket.socket(socket.AF_UNIX) as early, socket.socket(socket.AF_UNIX) as late:
        early.connect(str(path))
        turn_deaf(listening)
        assert late.connect_ex(str(path)) == errno.ENOENT
        listening.accept()[0].close()


def test_every_worker_has_a_socket_of_its_own_on_one_port() -> None:
    """A hundred connections are spread over them; none is left out."""
    each = listen_for_each("127.0.0.1:0", "GATEWAY_LISTEN", 2)
    (port,) = {port_of(listening) for listening in each}
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
    counts = []
    for listening in each:
        accepted = []
        with contextlib.suppress(BlockingIOError):
            while True:
                accepted.append(listening.accept()[0])
        counts.append(len(accepted))
        for one in (*accepted, listening):
            one.close()
    for client in clients:
        client.close()
    assert sum(counts) == 100
    assert min(counts) > 10


def test_a_port_that_workers_share_is_not_shared_with_another_gateway() -> None:
    """SO_REUSEPORT would let one user's two gateways take each other's connections: the second one is told."""
    each = listen_for_each("127.0.0.1:0", "GATEWAY_LISTEN", 2)
    with pytest.raises(PortTaken, match="is in use"):
        listen_for_each(f"127.0.0.1:{port_of(each[0])}", "GATEWAY_LISTEN", 2)
    for listening in each:
        listening.close()
