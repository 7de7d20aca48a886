"""The workshop: the process that holds the loaded model, and forks a recogniser for each job.

It is forked from the server before the server has an event loop, threads or listening sockets, loads the model while
the server is already answering, and ends when the server's end of their socket closes, however that came about.
"""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import traceback
from collections.abc import AsyncIterator

from gateway.demo.messages import END, FINALIZE, Finished, Job, Message, Refused, block, read, write_job

_MOST_RECOGNISERS = 16
"""At once; further jobs wait. Each has some 25 MB of its own, and the cores are shared anyhow."""
_LONGEST_LINE = 2**20
_READY = b"r"
_NEW_JOB = b"j"
_ORDERS = (signal.SIGINT, signal.SIGTERM)


class RecogniserGone(Exception):
    """A recogniser ended in the middle of its job, or the workshop did."""


class Session:
    """A conversation with one recogniser about one job."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def feed(self, audio: bytes) -> None:
        """Hand over audio; waits while the recogniser is far behind. Raises RecogniserGone."""
        if audio:
            self._writer.write(block(audio))
            try:
                await self._writer.drain()
            except ConnectionError as gone:
                raise RecogniserGone from gone

    def give(self, audio: bytes) -> None:
        """Hand over a whole recording that is in memory already, and its end."""
        if audio:
            self._writer.write(block(audio))
        self.end()

    def finalize(self) -> None:
        """Ask that the words so far become final."""
        self._writer.write(FINALIZE)

    def end(self) -> None:
        """No more audio comes."""
        self._writer.write(END)

    async def messages(self) -> AsyncIterator[Message]:
        """All that the recogniser says, until it has said everything. Raises RecogniserGone."""
        try:
            async for line in self._reader:
                message = read(line)
                yield message
                if isinstance(message, Finished | Refused):
                    return
        except ConnectionError as gone:
            raise RecogniserGone from gone
        raise RecogniserGone


class Workshop:
    """The server's handle on the workshop."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._free = asyncio.Semaphore(_MOST_RECOGNISERS)
        self.ready = False
        """The model is loaded. Jobs may be given before: they wait."""

    async def watch(self) -> None:
        """Return when the workshop has ended, which it never does on its own; notes on the way that it is ready."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            while await loop.sock_recv(self._control, 1) == _READY:
                self.ready = True

    @contextlib.asynccontextmanager
    async def session(self, job: Job) -> AsyncIterator[Session]:
        """A recogniser for this job; leaving early ends its work. Raises RecogniserGone."""
        async with self._free:
            reader, writer = await asyncio.open_connection(sock=self._order(job), limit=_LONGEST_LINE)
            try:
                yield Session(reader, writer)
            finally:
                writer.transport.abort()

    def _order(self, job: Job) -> socket.socket:
        """Have a recogniser forked that finds its job waiting on its socket; our end of that socket."""
        ours, theirs = socket.socketpair()
        with theirs:
            ours.sendall(write_job(job))  # a line fits into a new socket's buffer
            try:
                socket.send_fds(self._control, [_NEW_JOB], [theirs.fileno()])
            except ConnectionError as gone:
                ours.close()
                raise RecogniserGone from gone
        return ours


def fork() -> socket.socket:
    """Start the workshop; the socket to make a Workshop of. Call it before there are threads or an event loop."""
    ours, theirs = socket.socketpair()
    # Orders to stop may reach the whole process group. Only the server obeys. In the workshop and its recognisers they
    # are blocked from the first moment; those end when the server has.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ORDERS)
    if os.fork():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ORDERS)
        theirs.close()
        ours.setblocking(False)  # noqa: FBT003 - the library's own signature
        return ours
    ours.close()
    # Not sys.exit: the buffers and exit handlers that a fork inherits are the server's.
    try:
        _work(theirs)
    except ConnectionError:
        os._exit(0)  # the server is gone, and that is how we are told to end
    except BaseException:  # noqa: BLE001 - the last frame of this process: say why, then end without the server's handlers
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _work(control: socket.socket) -> None:
    """Load the model, then fork a recogniser for each socket that comes, until the server closes its end."""
    # Here, because the server never needs PocketSphinx, and answers the sooner for not loading it.
    from gateway.demo.dictation import serve  # noqa: PLC0415 - see above
    from gateway.demo.recogniser import Recogniser  # noqa: PLC0415 - see above

    recogniser = Recogniser()
    gc.freeze()  # a collection in a fork would touch, and so copy, every page with an object on it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    control.send(_READY)
    while True:
        request, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not request:
            return
        connection = socket.socket(fileno=descriptors[0])
        if os.fork():
            connection.close()
            continue
        control.close()
        serve(connection, recogniser)
        return
