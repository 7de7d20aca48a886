"""``gateway healthcheck`` against a real listener: what a container's engine learns from it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli.healthcheck import healthcheck


@asynccontextmanager
async def listener(answer: bytes) -> AsyncIterator[int]:
    """Something on the ops port that says ``answer`` to ``GET /livez``; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        assert request.startswith(b"GET /livez HTTP/1.1\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def check(*arguments: str, environ: Mapping[str, str] | None = None) -> Result:
    """Run the command as a process would, and let the listener's loop go on meanwhile."""
    clean = {"GATEWAY_OPS_LISTEN": "", "GATEWAY_CONFIG": "", **(environ or {})}
    return await asyncio.to_thread(CliRunner(env=clean).invoke, healthcheck, arguments)


ALIVE = b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"status":"ok"}'


async def test_a_gateway_that_lives_is_exit_0_without_a_word() -> None:
    async with listener(ALIVE) as port:
        result = await check("--address", f"127.0.0.1:{port}")
    assert (result.exit_code, result.output) == (0, "")


async def test_the_address_comes_from_the_gateways_own_setting() -> None:
    """A listener on every address is asked on loopback."""
    async with listener(ALIVE) as port:
        result = await check(environ={"GATEWAY_OPS_LISTEN": f"0.0.0.0:{port}"})
    assert result.exit_code == 0, result.output


async def test_the_address_comes_from_the_gateways_own_file(tmp_path: Path) -> None:
    """Where the environment says nothing."""
    async with listener(ALIVE) as port:
        config = tmp_path / "gateway.toml"
        config.write_text(f'ops_listen = "127.0.0.1:{port}"\n')
        result = await check(environ={"GATEWAY_CONFIG": str(config)})
    assert result.exit_code == 0, result.output


UNWELL = {
    "failing": b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
    "not HTTP": b"+PONG\r\n",
    "silent": b"",
}


@pytest.mark.parametrize("answer", UNWELL.values(), ids=UNWELL.keys())
async def test_anything_but_200_is_exit_1_and_says_which_address(answer: bytes) -> None:
    async with listener(answer) as port:
        result = await check("--address", f"127.0.0.1:{port}")
    assert result.exit_code == 1
    assert f"127.0.0.1:{port}" in result.output


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:http", ""])
async def test_nobody_there_is_exit_1(address: str) -> None:
    """A port that was free a moment ago, or an address without one."""
    async with listener(ALIVE) as port:
        pass
    result = await check("--address", address or f"127.0.0.1:{port}")
    assert result.exit_code == 1
    assert "no gateway answers on" in result.output


@pytest.mark.parametrize("text", [None, "not toml at all ["])
async def test_a_file_that_cannot_be_read_is_exit_1(tmp_path: Path, text: str | None) -> None:
    config = tmp_path / "gateway.toml"
    if text is not None:
        config.write_text(text)
    result = await check("--config", str(config))
    assert result.exit_code == 1
    assert str(config) in result.output
