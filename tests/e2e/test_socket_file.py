"""nginx with the shipped ``forward-auth.conf`` asks over the files of ``listen_socket``: no port, no trusted peer."""

import asyncio
import subprocess
from pathlib import Path

from tests.deploy import nginx
from tests.e2e.running import GATEWAY, alive, children, environment, eventually, serving
from tests.e2e.test_serve import SlowUpstream, upstream
from tests.gateway.harness import Answer
from tests.ports import free_port

__all__ = ["upstream"]


async def test_nginx_asks_at_the_files_whoever_else_wants_them_and_after_a_kill(
    tmp_path: Path, upstream: SlowUpstream
) -> None:
    """A second gateway on the same files is told and takes nothing away; what a killed one left is replaced."""
    upstream.go.set()
    file, state = tmp_path / "http.sock", tmp_path / "state"
    files = [file, tmp_path / "http.sock.2"]
    edge = tmp_path / "nginx"
    edge.mkdir()
    async with nginx.running(edge, "forward-auth.conf", gateway=files, transcriber=upstream.server_port) as port:
        with serving(state, upstream, workers="2", listen_socket=str(file)) as (gateway, _, key):
            assert [await asked(port, key) for _ in range(4)] == [200] * 4
            assert await asked(port, "") == 401
            assert "http.sock is in use by another process" in refused(tmp_path / "other", file)
            assert [await asked(port, key) for _ in range(4)] == [200] * 4
            family = [gateway.process.pid, *children(gateway.process.pid)]
            gateway.process.kill()
            assert eventually(lambda: not alive(family))
            assert all(file.is_socket() for file in files)
        with serving(state, upstream, key=key, workers="2", listen_socket=str(file)):
            assert [await asked(port, key) for _ in range(4)] == [200] * 4


def refused(state: Path, file: Path) -> str:
    """What a gateway says that finds the file taken."""
    port = free_port(and_next=True)
    env = environment(
        state_dir=str(state), listen=f"127.0.0.1:{port}", ops_listen=f"127.0.0.1:{port + 1}", listen_socket=str(file)
    )
    done = subprocess.run([*GATEWAY, "serve", "--embedded"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stderr


async def asked(port: int, key: str) -> int:
    """The status that nginx answers with."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /v1/models HTTP/1.0\r\nHost: a\r\nX-API-Key: {key}\r\n\r\n".encode())
    answer = Answer.parse(await reader.read())
    writer.close()
    return answer.status
