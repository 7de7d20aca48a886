"""The shipped deployment files, read."""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
_VARIABLE = re.compile(r"\$\{([A-Z_]+):-([^}]*)\}")


def text(name: str) -> str:
    """A file of the repository."""
    return (ROOT / name).read_text()


def compose() -> dict[str, Any]:
    """``docker-compose.yml`` as it is without an ``.env``: every variable at its default."""
    return yaml.safe_load(_VARIABLE.sub(lambda found: found[2], text("docker-compose.yml")))


def compose_variables() -> dict[str, set[str]]:
    """Every variable that ``docker-compose.yml`` reads, with all the defaults that it gives."""
    found: dict[str, set[str]] = {}
    for name, default in _VARIABLE.findall(text("docker-compose.yml")):
        found.setdefault(name, set()).add(default)
    return found


def stages() -> dict[str, list[tuple[str, str]]]:
    """The Dockerfile's stages by name: their instructions, each a word in upper case and the rest of it."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^\s*#.*\n", "", text("Dockerfile")))
    found: dict[str, list[tuple[str, str]]] = {"": []}
    lines = found[""]
    for line in filter(None, map(str.strip, joined.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            lines = found.setdefault(rest.split()[-1], [])
        lines.append((word, rest.strip()))
    return found


def image(target: str) -> list[tuple[str, str]]:
    """The instructions that make a target, those of the stages below it first."""
    own = stages()[target]
    below = own[0][1].split()[0]
    return (image(below) if below in stages() else []) + own
