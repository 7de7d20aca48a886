"""``python -m gateway.demo.transcriber``: serve the demo transcriber, over TCP or a Unix socket, until told to stop.

It prints where it listens, once it does, and after that nothing but errors. It answers before the model is loaded
(``GET /health`` says whether it is); the first request waits for it.
"""

import argparse
import asyncio
import importlib.util
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.demo import workshop
from gateway.demo.deepgram_api import Deepgram
from gateway.demo.openai_api import OpenAI
from gateway.demo.problems import explained
from gateway.demo.workshop import Workshop

_SHUTDOWN_SECONDS = 0.5
"""How long open requests may go on after the order to stop."""


def application(shop: Workshop) -> web.Application:
    """All routes, over one workshop."""

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "model": "ready" if shop.ready else "loading"})

    app = web.Application(middlewares=[explained])
    app.router.add_get("/health", health)
    app.add_routes(OpenAI(shop).routes())
    app.add_routes(Deepgram(shop).routes())
    return app


async def serve(shop: Workshop, *, host: str, port: int, unix: Path | None) -> int:
    """Serve until SIGTERM or SIGINT (0), or until the workshop is lost (1)."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for order in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(order, stop.set)
    runner = web.AppRunner(
        application(shop),
        access_log=None,
        logger=_log(),
        auto_decompress=False,  # or a body that is no gzip after all would end in a 500
        handler_cancellation=True,  # a client that hangs up ends its recogniser's work
        shutdown_timeout=_SHUTDOWN_SECONDS,
    )
    await runner.setup()
    site = web.UnixSite(runner, unix) if unix else web.TCPSite(runner, host, port)
    try:
        await site.start()
    except OSError as error:
        print(f"The demo transcriber cannot listen: {error}", file=sys.stderr)  # noqa: T201 - a command's own error
        return 1
    (address,) = runner.addresses
    place = address if isinstance(address, str) else f"http://{address[0]}:{address[1]}"
    print(f"The demo transcriber listens on {place}", flush=True)  # noqa: T201 - for whoever waits for it
    try:
        return await _until(stop, shop)
    finally:
        await runner.cleanup()
        if unix:
            _forget(unix)


def _forget(unix: Path) -> None:
    unix.unlink(missing_ok=True)


def _log() -> logging.Logger:
    """Where aiohttp reports faults. Not those of clients: it would quote the malformed line, a credential perhaps."""
    log = logging.getLogger(__name__)
    log.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError)))
    return log


async def _until(stop: asyncio.Event, shop: Workshop) -> int:
    async with asyncio.TaskGroup() as tasks:
        stopped, lost = tasks.create_task(stop.wait()), tasks.create_task(shop.watch())
        await asyncio.wait({stopped, lost}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        lost.cancel()
    if stop.is_set():
        return 0
    print("The demo transcriber lost the process that holds its model.", file=sys.stderr)  # noqa: T201 - as above
    return 1


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m gateway.demo.transcriber", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=9300, help="TCP port (%(default)s)")
    parser.add_argument("--unix", type=Path, metavar="PATH", help="listen on a Unix socket instead")
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("pocketsphinx") is None:
        print("The demo needs PocketSphinx: in a checkout, make install", file=sys.stderr)  # noqa: T201 - as above
        return 1
    control = workshop.fork()
    return asyncio.run(serve(Workshop(control), host=options.host, port=options.port, unix=options.unix))


if __name__ == "__main__":
    sys.exit(main())
