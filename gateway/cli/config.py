"""``gateway check-config``: every fault of settings and routes at once, before anything is started."""

import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.command import Given, common
from gateway.cli.output import print_json, remark
from policies.routes import RoutesInvalid, RouteTable

if TYPE_CHECKING:
    from gateway.settings import Settings

_HEADING = re.compile(r"\s*\[\[\s*routes\s*\]\]")
_NAME = re.compile(r"""\s*name\s*=\s*["']([^"']*)["']""")
_NUMBERED = re.compile(r"route ([0-9]+) \(")
_NAMED = re.compile(r"'([^']*)'")


@click.command("check-config")
@common
def check_config(given: Given) -> None:
    """Check settings and routes: every fault at once.

    Exit status 1 if there is any. With --embedded: as for `gateway serve --embedded`. Nothing is connected to.
    """
    faults, warnings = _check(given)
    if given.json:
        print_json({"ok": not faults, "faults": faults, "warnings": warnings})
    else:
        for fault in faults:
            remark(fault)
        for warning in warnings:
            remark(f"warning: {warning}")
        if not faults:
            click.echo("configuration is fine" if not warnings else "configuration is fine, but for the warnings above")
    if faults:
        remark(f"{len(faults)} to correct.")
        sys.exit(1)


def _check(given: Given) -> tuple[list[str], list[str]]:
    """The faults, and what is no fault but may be unwanted."""
    from gateway.settings import SettingsInvalid, load  # noqa: PLC0415  slow: see the package's docstring
    from gateway.shipped import shipped  # noqa: PLC0415  the same

    faults: list[str] = []
    warnings: list[str] = []
    try:
        settings = load(given.overrides, given.config)
    except SettingsInvalid as error:
        faults += error.faults
        routes_file = error.routes_file
    else:
        routes_file = settings.routes_file
        (warnings if _is_bare(settings) else faults).extend(missing(settings, embedded=given.embedded))
    faults += route_faults(routes_file or shipped("routes.toml"))
    if not _parses_in_c():
        warnings.append("aiohttp runs without its C parser, many times slower: install a wheel of it for this Python")
    return faults, warnings


def missing(settings: "Settings", *, embedded: bool) -> list[str]:
    """What `gateway serve` cannot do without."""
    if embedded:
        return []
    return [
        f"GATEWAY_{name.upper()}: it is required, unless --embedded brings the stores along"
        for name in ("database_url", "redis_url", "secret_key")
        if getattr(settings, name) is None
    ]


def _is_bare(settings: "Settings") -> bool:
    """Nothing but defaults as to stores: a laptop, which will say --embedded when it serves."""
    return settings.database_url is None and settings.redis_url is None


def route_faults(path: Path) -> list[str]:
    """What is wrong with a route table, each with the file, and the line where it can be told."""
    try:
        text = path.read_text()
        table = tomllib.loads(text)
    except OSError as error:
        return [f"{path}: it cannot be read: {error.strerror}"]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return [f"{path}: it is not TOML: {error}"]
    try:
        RouteTable.compile(table)
    except RoutesInvalid as error:
        lines = _Lines(text)
        return [f"{path}{lines.of(fault)}: {fault}" for fault in error.faults]
    return []


class _Lines:
    """Where things are in a route table. A table written in another way than ``[[routes]]`` has no lines here."""

    def __init__(self, text: str) -> None:
        lines = text.splitlines()
        self._text = lines
        self._headings = [number for number, line in enumerate(lines, 1) if _HEADING.match(line)]
        named = ((match[1], number) for number, line in enumerate(lines, 1) if (match := _NAME.match(line)))
        # The last of two with one name is the one that was added.
        self._names: Mapping[str, int] = dict(named)

    def of(self, fault: str) -> str:
        """``:12`` for a fault, or nothing."""
        numbered = _NUMBERED.match(fault)
        if numbered:
            place = int(numbered[1]) - 1
            return f":{self._headings[place]}" if place < len(self._headings) else ""
        words = _NAMED.findall(fault)
        if fault.startswith("unknown table") and words:
            return self._table(words[0])
        return next((f":{self._names[word]}" for word in words if word in self._names), "")

    def _table(self, name: str) -> str:
        opening = re.compile(rf"\s*(\[+\s*{re.escape(name)}\b|{re.escape(name)}\s*=)")
        return next((f":{number}" for number, line in enumerate(self._text, 1) if opening.match(line)), "")


def _parses_in_c() -> bool:
    from aiohttp import http_parser  # noqa: PLC0415  slow: see the package's docstring

    return http_parser.HttpRequestParser is not http_parser.HttpRequestParserPy
