"""``gateway healthcheck``: does the gateway of this machine live? For container images, which have no curl.

It runs every few seconds beside the gateway, so it imports next to nothing and reads the one setting it needs itself.
It asks ``/livez`` and not ``/readyz``: what is unhealthy gets restarted, and no restart brings PostgreSQL back.
"""

import http.client
import tomllib
from pathlib import Path

import click

from gateway.cli.command import Command

_DEFAULT = "127.0.0.1:9201"
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  asked on loopback, not bound
_TIMEOUT_S = 3.0


@click.command(cls=Command)
@click.option(
    "--address",
    envvar="GATEWAY_OPS_LISTEN",
    help=f"The ops listener's host:port. Default: GATEWAY_OPS_LISTEN, the configuration file's ops_listen, {_DEFAULT}.",
)
@click.option(
    "--config", envvar="GATEWAY_CONFIG", type=click.Path(path_type=Path), help="TOML file with the gateway's settings."
)
def healthcheck(address: str | None, config: Path | None) -> None:
    """Exit 0 when the gateway of this machine is alive, 1 when it is not."""
    asked = address or _from_file(config) or _DEFAULT
    try:
        status = _ask(asked)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise click.ClickException(
            f"no gateway answers on {asked}: {str(error) or type(error).__name__}. "
            "Where it listens elsewhere, say --address."
        ) from error
    if status != http.client.OK:
        raise click.ClickException(f"the gateway on {asked} answers /livez with {status}")


def _ask(address: str) -> int:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    connection = http.client.HTTPConnection(_EVERYWHERE.get(host, host), int(port), timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status
    finally:
        connection.close()


def _from_file(config: Path | None) -> str:
    if config is None:
        return ""
    try:
        return str(tomllib.loads(config.read_text()).get("ops_listen", ""))
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{config} cannot be read: {error}") from error
