"""``gateway demo``: everything at once on a laptop, with real speech to text behind it, and what to paste next."""

import asyncio
import os
import secrets
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import click
import orjson
import structlog

from gateway.cli.command import Command, Given, common
from gateway.cli.config import judged
from gateway.cli.output import remark
from gateway.cli.serve import run, settings_or_exit
from gateway.configuration.secrets import derived
from gateway.configuration.settings import Settings
from gateway.demo.samples import SAMPLES
from gateway.identity.digests import digest
from gateway.identity.passwords import hash_password
from gateway.processes.sockets import short_base
from gateway.processes.supervisor import Stores, Supervisor
from gateway.shipped import shipped
from gateway.telemetry import application_log
from policies.audit import SYSTEM
from policies.http.credentials import RANDOM_BYTES, mint_key
from policies.identity.tenants import Role
from storage.embedded.account import Account
from storage.embedded.process import Log, spawn, stop
from storage.ports import AlreadyExists, NewKey, NotFound
from storage.postgres.audit import PURPOSE as CHAIN
from storage.postgres.audit import AuditTrail
from storage.postgres.keys.registry import PostgresKeyRegistry
from storage.postgres.pool import Pool
from storage.postgres.tenants.directory import PostgresDirectory
from storage.state import default_state_dir

TENANT = "demo"
ADMIN = "admin@demo.example"
SCOPE = "transcribe"
_MEMORY = "demo.json"
_PORT = 9200
_RESTART_S = 0.5

_log = structlog.get_logger("gateway.demo")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the first start made. Later starts read it back from the state directory (mode 0600)."""

    key: str
    password: str


@click.command(cls=Command)
@click.option("--port", type=click.IntRange(1, 65_534), help="The gateway's port on 127.0.0.1.  [default: 9200]")
@click.option("--upstream", help="Use this transcription service instead of the demo's own.")
@common
def demo(given: Given, port: int | None, upstream: str | None) -> None:
    """Try it: PostgreSQL, Valkey, a transcriber, a tenant, a user and an API key, until Ctrl-C."""
    addresses = _addresses(port)
    overrides: dict[str, Any] = given.overrides | addresses
    with tempfile.TemporaryDirectory(prefix="tahoe-demo-", dir=short_base()) as sockets:
        own = None if upstream else Path(sockets) / "transcriber.sock"
        overrides["upstream"] = upstream or f"unix:{own}"
        settings = settings_or_exit(overrides, given.config, embedded=True)
        if settings.mail is None:
            overrides["mail"] = f"file:{quote(str(settings.state_dir / 'mail'))}"
        if settings.plans_file is None:
            overrides["plans_file"] = shipped("plans.example.toml")
        settings = settings_or_exit(overrides, given.config, embedded=True)
        application_log.configure(settings.log_level)
        read = partial(judged, overrides, given.config, embedded=True)
        ports = dict.fromkeys(addresses, "--port")
        remark("Starting PostgreSQL, Valkey, a speech recogniser and the gateway; the first time takes longest.")
        run(_Demo(settings, own, read, ports, as_json=given.json).run())


def _addresses(port: int | None) -> dict[str, str]:
    """Loopback, unless the environment says otherwise and the command line does not; operations on the next port."""
    addresses = {}
    if port is not None or "GATEWAY_LISTEN" not in os.environ:
        addresses["listen"] = f"127.0.0.1:{port or _PORT}"
    public = addresses.get("listen") or os.environ["GATEWAY_LISTEN"]
    chosen = public.rpartition(":")[2]
    if "GATEWAY_OPS_LISTEN" not in os.environ and chosen.isdecimal():
        addresses["ops_listen"] = f"127.0.0.1:{int(chosen) + 1}"
    return addresses


def _url(listen: str) -> str:
    """Where this machine reaches a listening address."""
    host, _, port = listen.rpartition(":")
    here = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104  compared, not bound
    return f"http://{here}:{port}"


class _Demo:
    """One run of the demo."""

    def __init__(
        self,
        settings: Settings,
        socket: Path | None,
        read: Callable[[], Settings],
        ports: Mapping[str, str],
        *,
        as_json: bool,
    ) -> None:
        self._settings = settings
        self._ports = ports
        self._read = read
        self._socket = socket
        self._as_json = as_json
        self._credentials: Credentials | None = None

    async def run(self) -> None:
        """The transcriber beside the gateway, both until the signal to stop."""
        supervisor = Supervisor(
            self._settings,
            embedded=True,
            read=self._read,
            prepare=self._prepare,
            on_ready=self._greet,
            ports=self._ports,
            ends_with_terminal=True,
        )
        if self._socket is None:
            await supervisor.run()
            return
        transcriber = asyncio.get_running_loop().create_task(_keep_transcriber(self._socket))
        try:
            await supervisor.run()
        finally:
            transcriber.cancel()
            await asyncio.wait({transcriber})

    async def _prepare(self, stores: Stores) -> None:
        pool = Pool(stores.database_url)
        try:
            self._credentials = await _seed(pool, stores.secret_key, self._settings.state_dir / _MEMORY)
        finally:
            await pool.close()

    async def _greet(self) -> None:
        assert self._credentials is not None
        if self._as_json:
            click.echo(orjson.dumps(_facts(self._settings, self._credentials)))
        else:
            click.echo("\n".join(_greeting(self._settings, self._credentials)))


async def _keep_transcriber(socket: Path) -> None:
    """The demo's speech to text, started again when it dies."""
    me = Account(uid=os.getuid(), gid=os.getgid(), name="", borrowed=False)
    command = (sys.executable, "-P", "-m", "gateway.demo.transcriber", "--unix", socket)
    while True:
        process = await spawn(
            command,
            account=me,
            cwd=Path("/"),
            death_signal=signal.SIGTERM,
            log=Log(socket.with_suffix(".log")),
        )
        try:
            status = await process.wait()
        finally:
            await stop(process, ((signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0)))
        _log.error("the demo transcriber died", exit_status=status)
        await asyncio.sleep(_RESTART_S)


async def _seed(pool: Pool, secret_key: str, memory: Path) -> Credentials:
    """The demo's tenant, user and key: made at the first start, found again later."""
    trail = AuditTrail(lambda: derived(secret_key, CHAIN), SYSTEM)
    directory, keys = PostgresDirectory(pool, trail), PostgresKeyRegistry(pool, trail)
    try:
        tenant = await directory.tenant(TENANT)
    except NotFound:
        tenant = await directory.create_tenant(TENANT, "Demo")
    pepper = derived(secret_key, "api-keys")
    known = _recall(memory)
    if known is not None and await keys.identify_key(digest(pepper, known.key.encode())) is not None:
        return known
    made = Credentials(mint_key(secrets.token_bytes(RANDOM_BYTES)), secrets.token_urlsafe(15))
    await keys.create_key(
        tenant.id,
        NewKey(
            name="demo",
            digest=digest(pepper, made.key.encode()),
            last4=made.key[-4:],
            scopes=frozenset({SCOPE}),
        ),
    )
    try:
        hashed = await asyncio.to_thread(hash_password, made.password, derived(secret_key, "passwords"))
        await directory.create_user(tenant.id, ADMIN, "Demo Admin", Role.OWNER, hashed)
    except AlreadyExists:
        _log.warning("the demo's admin is there already, with the password of an earlier start", email=ADMIN)
    await directory.set_operator(ADMIN, operator=True)
    _remember(memory, made)
    return made


def _recall(memory: Path) -> Credentials | None:
    return Credentials(**orjson.loads(memory.read_bytes())) if memory.exists() else None


def _remember(memory: Path, made: Credentials) -> None:
    descriptor = os.open(memory, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(orjson.dumps({"key": made.key, "password": made.password}))


def _facts(settings: Settings, credentials: Credentials) -> dict[str, str]:
    return {
        "url": _url(settings.listen),
        "ops_url": _url(settings.ops_listen),
        "tenant": TENANT,
        "key": credentials.key,
        "admin_email": ADMIN,
        "admin_password": credentials.password,
        "sample": str(SAMPLES[0].path),
        "sample_words": SAMPLES[0].words,
        "state_dir": str(settings.state_dir),
    }


def _greeting(settings: Settings, credentials: Credentials) -> Iterator[str]:
    """What a newcomer reads. Commands stand alone on their lines and work when pasted into any shell."""
    url, ops, pages, sample = _url(settings.listen), _url(settings.ops_listen), settings.base_url, SAMPLES[0]
    auth = f'-H "Authorization: Bearer {credentials.key}"'
    ask = f"curl -sS {url}/v1/audio/transcriptions {auth} -F file=@{shlex.quote(str(sample.path))} -F model=demo"
    yield ""
    yield "Tahoe Gateway is ready. Everything runs on this machine; Ctrl-C stops all of it."
    yield ""
    yield f"  gateway    {url}"
    yield f"  metrics    {ops}/metrics   health  {ops}/readyz"
    yield f"  tenant     {TENANT}"
    yield f"  sign in    {pages}/account   administration  {pages}/admin"
    yield f"  the API    {pages}/platform/docs"
    yield f"  admin      {ADMIN}  password  {credentials.password}"
    yield f"  API key    {credentials.key}"
    yield f"  state      {settings.state_dir}"
    if settings.mail is not None and (letters := settings.mail.get_secret_value()).startswith("file:"):
        yield f"  mail       {unquote(letters.removeprefix('file:'))}  letters lie there and are not sent"
    yield ""
    yield f"Send real speech through it. The words spoken are: {sample.words}"
    yield ask
    yield ""
    yield "The same as subtitles, and as server-sent events while it listens:"
    yield f"{ask} -F response_format=srt"
    yield f"{ask} -N -F stream=true"
    yield ""
    yield "Without a key it is refused:"
    yield f"curl -sS -i {url}/v1/models"
    yield ""
    yield "What the tenant has used (a call without a key belongs to nobody):"
    yield f"{_command(settings)} usage report --tenant {TENANT} --json"
    yield ""


def _command(settings: Settings) -> str:
    """How to call ``gateway`` from anywhere, against this state directory."""
    program = Path(sys.argv[0])
    called = shlex.quote(str(program.absolute())) if program.name == "gateway" else f"{sys.executable} -m gateway"
    if settings.state_dir != default_state_dir():
        return f"GATEWAY_STATE_DIR={shlex.quote(str(settings.state_dir))} {called}"
    return called
