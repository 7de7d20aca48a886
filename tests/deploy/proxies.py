"""nginx, Caddy, Envoy and Traefik with the shipped files. Addresses are replaced; nothing else is."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests import programs
from tests.deploy import nginx
from tests.ports import free_port

SHIPPED = Path(__file__).resolve().parents[2] / "config"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """How a proxy is started, and the words with which it says that it listens.

    ``empty`` is what it answers while it listens and has no routes yet.
    """

    file: str
    command: Callable[[Path, int], list[str]]
    replaced: Callable[[int, int, int], Mapping[str, str]]
    ready: bytes
    empty: bytes = b""


_PROGRAMS: Mapping[str, Program] = {
    "caddy": Program(
        file="caddy/Caddyfile",
        command=lambda file, _: [programs.caddy(), "run", "--adapter", "caddyfile", "--config", str(file)],
        replaced=lambda listen, gateway, transcriber: {
            "\n:80 {": f"\nhttp://:{listen} {{\n\tbind 127.0.0.1",
            "{$TAHOE_GATEWAY:127.0.0.1:9200}": f"127.0.0.1:{gateway}",
            "{$TAHOE_TRANSCRIBER:127.0.0.1:9300}": f"127.0.0.1:{transcriber}",
        },
        ready=b"serving initial configuration",
    ),
    "envoy": Program(
        file="envoy/envoy.yaml",
        command=lambda file, _: [
            programs.envoy(), "-c", str(file), "--concurrency", "1", "--disable-hot-restart", "-l", "info",
        ],
        replaced=lambda listen, gateway, transcriber: {
            "address: 0.0.0.0, port_value: 80 ": f"address: 127.0.0.1, port_value: {listen} ",
            "port_value: 9200 ": f"port_value: {gateway} ",
            "port_value: 9300 ": f"port_value: {transcriber} ",
        },
        ready=b"starting main dispatch loop",
    ),
    "traefik": Program(
        file="traefik/tahoe.yml",
        command=lambda file, listen: [
            programs.traefik(), f"--entryPoints.web.address=127.0.0.1:{listen}", f"--providers.file.filename={file}",
            "--entryPoints.web.transport.lifeCycle.graceTimeOut=0", "--global.checkNewVersion=false",
            "--global.sendAnonymousUsage=false", "--log.level=INFO", "--providers.providersThrottleDuration=10ms",
        ],
        replaced=lambda _, gateway, transcriber: {
            "http://127.0.0.1:9200": f"http://127.0.0.1:{gateway}",
            "http://127.0.0.1:9300": f"http://127.0.0.1:{transcriber}",
        },
        ready=b"Starting provider",
        empty=b"404 page not found",
    ),
}  # fmt: skip

NAMES = ("nginx", *_PROGRAMS)


@contextlib.asynccontextmanager
async def running(name: str, directory: Path, *, gateway: int, transcriber: int) -> AsyncIterator[int]:
    """Run the proxy of that name with its shipped file; its port."""
    if name == "nginx":
        async with nginx.running(directory, "forward-auth.conf", gateway=gateway, transcriber=transcriber) as port:
            yield port
        return
    program = _PROGRAMS[name]
    port = free_port()
    text = (SHIPPED / program.file).read_text()
    for old, new in program.replaced(port, gateway, transcriber).items():
        assert old in text, f"{program.file} no longer says {old!r}"
        text = text.replace(old, new)
    file = directory / Path(program.file).name
    file.write_text(text)
    process = await asyncio.create_subprocess_exec(
        *program.command(file, port), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT, env={"HOME": str(directory), "PATH": os.defpath},
    )  # fmt: skip
    assert process.stdout is not None
    said = b""
    async with asyncio.timeout(60):
        while line := await process.stdout.readline():
            said += line
            if program.ready in line:
                break
        else:
            raise AssertionError(f"{name} did not start:\n{said.decode(errors='replace')}")
    reading = asyncio.get_running_loop().create_task(_read_on(process.stdout))
    try:
        async with asyncio.timeout(60):
            while program.empty and program.empty in await _said_by(port):  # noqa: ASYNC110  it tells nobody
                await asyncio.sleep(0.02)
        yield port
    finally:
        process.terminate()
        await process.wait()
        await reading


async def _said_by(port: int) -> bytes:
    """Its answer to a path that the gateway never lets pass."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer):
        writer.write(b"GET /auth/verify HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n\r\n")
        return await reader.read()


async def _read_on(stream: asyncio.StreamReader) -> None:
    """So that the proxy never waits for its log to be read."""
    while await stream.read(65_536):
        pass
