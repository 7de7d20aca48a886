"""Where the programs are that some tests drive. A missing one is an error with a remedy, never a skipped test."""

import shutil
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent


def nginx() -> str:
    """The path of nginx: installed, or unpacked by ``make test``."""
    for place in (shutil.which("nginx"), "/usr/sbin/nginx", _ROOT / ".venv" / "nginx" / "usr" / "sbin" / "nginx"):
        if place is not None and Path(place).is_file():
            return str(place)
    pytest.fail("nginx is missing: run `make test`, which fetches it, or apt-get install nginx")
