"""``gateway check-config``: every fault of settings, routes and price lists at once, before anything is started."""

import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.command import Command, Given, common
from gateway.cli.output import print_json, remark
from policies.price_book import PlansInvalid
from policies.route_table import RoutesInvalid

if TYPE_CHECKING:
    from gateway.configuration.settings import Settings


@click.command("check-config", cls=Command)
@common
def check_config(given: Given) -> None:
    """Check settings, routes and price lists: every fault at once.

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
    from gateway.configuration.sources import SettingsInvalid, load  # noqa: PLC0415  slow: see the package's docstring
    from gateway.shipped import shipped  # noqa: PLC0415  the same

    faults: list[str] = []
    warnings: list[str] = []
    unusable: Collection[tuple[str, ...]] = ()
    settings: Settings | None
    try:
        settings = load(given.overrides, given.config)
    except SettingsInvalid as error:
        faults += error.faults
        settings, unusable = error.rest, error.unusable
    if settings is not None:
        (warnings if _is_bare(settings, unusable) else faults).extend(
            missing(settings, embedded=given.embedded, unusable=unusable)
        )
        faults += upstream_faults(settings, unusable)
        faults += _price_list_faults(settings)
    faults += _faults_of_routes(settings, unusable, shipped("routes.toml"))
    if not _parses_in_c():
        warnings.append("aiohttp runs without its C parser, many times slower: install a wheel of it for this Python")
    return faults, warnings


def _faults_of_routes(settings: "Settings | None", unusable: Collection[tuple[str, ...]], default: Path) -> list[str]:
    if settings is None:
        return route_faults(default)
    if ("routes_file",) in unusable:
        return []
    upstreams = {*settings.every_upstream(), *(path[1] for path in unusable if path[0] == "upstreams" and path[1:])}
    return route_faults(settings.routes_file or default, upstreams)


def missing(settings: "Settings", *, embedded: bool, unusable: Collection[tuple[str, ...]] = ()) -> list[str]:
    """What `gateway serve` cannot do without. What was set, but is ``unusable``, is a fault already."""
    if embedded:
        return []
    return [
        f"GATEWAY_{name.upper()}: it is required, unless --embedded brings the stores along"
        for name in ("database_url", "redis_url", "secret_key")
        if getattr(settings, name) is None and (name,) not in unusable
    ]


def upstream_faults(settings: "Settings", unusable: Collection[tuple[str, ...]] = ()) -> list[str]:
    """What is wrong with the files that settings of upstreams name; of those that are whole."""
    faults = []
    for name, upstream in settings.every_upstream().items():
        if any(path[:2] == ("upstreams", name) for path in unusable):
            continue
        try:
            upstream.tls()
        except ValueError as fault:
            faults.append(f"upstreams.{name}: {fault}")
    return faults


def _price_list_faults(settings: "Settings") -> list[str]:
    from gateway.usage.statements import price_lists  # noqa: PLC0415  slow: see the package's docstring

    try:
        price_lists(settings)
    except PlansInvalid as error:
        return list(error.faults)
    return []


def _is_bare(settings: "Settings", unusable: Collection[tuple[str, ...]]) -> bool:
    """Nothing but defaults as to stores: a laptop, which will say --embedded when it serves."""
    return all(getattr(settings, name) is None and (name,) not in unusable for name in ("database_url", "redis_url"))


def route_faults(path: Path, upstreams: Collection[str] | None = None) -> list[str]:
    """What is wrong with a route table, each with the file and the line."""
    from gateway.configuration.route_file import read_routes  # noqa: PLC0415  slow: see the package's docstring

    try:
        read_routes(path, upstream_timeout=1.0, upstreams=upstreams)
    except RoutesInvalid as error:
        return list(error.faults)
    return []


def _parses_in_c() -> bool:
    from aiohttp import http_parser  # noqa: PLC0415  slow: see the package's docstring

    return http_parser.HttpRequestParser is not http_parser.HttpRequestParserPy
