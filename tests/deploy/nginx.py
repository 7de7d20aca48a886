"""Debian's nginx with the shipped files. Addresses and the certificate's place are replaced; nothing else is."""

import asyncio
import contextlib
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import programs
from tests.certificates import LOCALHOST, make_certificate

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "nginx"

# What a distribution's /etc/nginx/nginx.conf is around conf.d, and as careless with header names as it may be.
_MAIN = """
{user}
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ }}
http {{
    access_log off;
    underscores_in_headers on;
    ignore_invalid_headers off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/conf.d/*.conf;
}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the test has put what the shipped files name.

    ``gateway`` is a port, or socket files; ``transcriber`` is a port.
    """

    gateway: int | Sequence[Path]
    transcriber: int
    listen: str

    @property
    def servers(self) -> str:
        """The lines that lead nginx to the gateway."""
        if isinstance(self.gateway, int):
            return f"server 127.0.0.1:{self.gateway};"
        return "\n".join(f"server unix:{file};" for file in self.gateway)


def configure(directory: Path, places: Places, *names: str) -> Path:
    """Write a configuration that includes the shipped files of those names; the path of its main file."""
    (directory / "conf.d").mkdir()
    make_certificate(directory, LOCALHOST)
    _copy("upstreams.conf", directory, {
        "server 127.0.0.1:9200;": places.servers,
        "127.0.0.1:9300": f"127.0.0.1:{places.transcriber}",
    })  # fmt: skip
    replaced = {
        "forward-auth.conf": {"listen 80;": f"listen {places.listen};"},
        "proxy.conf": {"listen 443 ": f"listen {places.listen} ", "/etc/nginx/tls/": f"{directory}/"},
    }
    for name in names:
        _copy(name, directory, replaced[name])
    # Root's nginx would switch to a user who may not enter the test's private directory.
    user = "user root;" if os.geteuid() == 0 else ""
    main = directory / "nginx.conf"
    main.write_text(_MAIN.format(user=user, directory=directory))
    return main


def _copy(name: str, directory: Path, replaced: dict[str, str]) -> None:
    text = (SHIPPED / name).read_text()
    for old, new in replaced.items():
        assert old in text, f"{name} no longer says {old!r}"
        text = text.replace(old, new)
    (directory / "conf.d" / name).write_text(text)


def check(main: Path) -> str:
    """``nginx -t``: what it says. Fails with nginx's words for a configuration that it refuses."""
    command = [programs.nginx(), "-t", "-c", str(main), "-p", str(main.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


@contextlib.asynccontextmanager
async def running(directory: Path, *names: str, gateway: int | Sequence[Path], transcriber: int) -> AsyncIterator[int]:
    """Run nginx with the shipped files of those names; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        places = Places(gateway=gateway, transcriber=transcriber, listen=f"127.0.0.1:{port}")
        main = configure(directory, places, *names)
        check(main)
        # The socket listens already and nginx takes it over (the variable is how it upgrades itself in flight), so that
        # no port is guessed and nobody has to wait until nginx is up.
        process = await asyncio.create_subprocess_exec(
            programs.nginx(), "-c", str(main), "-p", str(directory), "-g", "daemon off;",
            env={"NGINX": f"{listening.fileno()};"}, pass_fds=[listening.fileno()],
        )  # fmt: skip
    try:
        yield port
    finally:
        process.terminate()
        await process.wait()
