"""The route table's file: read, compiled, and every fault told with its line."""

import re
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from gateway.configuration.reserved import ROUTES as RESERVED
from gateway.configuration.settings import Settings
from gateway.configuration.toml_lines import Lines, Place
from gateway.shipped import shipped
from policies.routing.route_table import RoutesInvalid, RouteTable

_LINE = re.compile(r"\(at line ([0-9]+), column [0-9]+\)$")


def load_routes(settings: Settings) -> RouteTable:
    """The route table, and the gateway's own routes with it. Raises RoutesInvalid with every fault."""
    table = read_routes(
        settings.routes_file or shipped("routes.toml"),
        upstream_timeout=settings.upstream_timeout,
        upstreams=settings.every_upstream(),
    )
    return table.with_own(RESERVED)


def read_routes(path: Path, *, upstream_timeout: float, upstreams: Collection[str] | None) -> RouteTable:
    """The compiled table. ``upstreams``: those that exist; None when nobody knows.

    ``upstream_timeout`` bounds the wait for an answer on routes that do not say otherwise. Raises RoutesInvalid.
    """
    try:
        text = path.read_text()
        table = tomllib.loads(text)
    except OSError as error:
        raise RoutesInvalid([((), f"{path}: it cannot be read: {error.strerror}")]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RoutesInvalid([((), not_toml(path, error))]) from error
    entries = _entries(table)
    for entry in entries:
        entry.setdefault("first_byte_s", upstream_timeout)
    strays: list[tuple[Place, str]] = [
        (("routes", index, "upstream"), f"route {index + 1} ({entry.get('name')}): no upstream is called '{name}'")
        for index, entry in enumerate(entries)
        if upstreams is not None and isinstance(name := entry.get("upstream", "default"), str) and name not in upstreams
    ]
    compiled, faults = None, strays
    try:
        compiled = RouteTable.compile(table)
    except RoutesInvalid as error:
        faults = [*zip(error.places, error.faults, strict=True), *strays]
    if compiled is None or faults:
        lines = Lines(text)
        faults.sort(key=lambda fault: lines.of(fault[0]) or 0)
        raise RoutesInvalid([(place, f"{path}{lines.spot(place)}: {sentence}") for place, sentence in faults])
    return compiled


def place_of(path: Path, name: str) -> str:
    """``file:12``, where the route of that name begins in a table that compiles."""
    text = path.read_text()
    index = next(index for index, entry in enumerate(_entries(tomllib.loads(text))) if entry.get("name") == name)
    return f"{path}{Lines(text).spot(('routes', index))}"


def not_toml(path: Path, error: ValueError) -> str:
    """``file:3: it is not TOML: …``; the parser tells the line in its sentence alone."""
    found = _LINE.search(str(error))
    return f"{path}:{found[1]}: it is not TOML: {error}" if found else f"{path}: it is not TOML: {error}"


def _entries(table: dict[str, Any]) -> list[dict[str, Any]]:
    entries = table.get("routes")
    if not isinstance(entries, list):
        return []
    return [entry for entry in entries if isinstance(entry, dict)]
