"""``gateway check-config``: every fault of settings, routes and price lists at once, before anything is started."""

import asyncio
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.command import Command, Given, common
from gateway.cli.output import print_json, remark
from policies.account.price_book import PlansInvalid
from policies.routing.route_table import RoutesInvalid

if TYPE_CHECKING:
    from gateway.configuration.settings import Settings


@click.command("check-config", cls=Command)
@common
def check_config(given: Given) -> None:
    """Check settings, routes and price lists: every fault at once.

    Exit status 1 if there is any. With --embedded: as for `gateway serve --embedded`. Nothing is connected to, but the
    database where [issuers] or [oidc] name a tenant by its slug: whether that was another tenant's before.
    """
    found = examine(given.overrides, given.config, embedded=given.embedded)
    faults = found.faults if found.is_bare else [*found.faults, *found.missing]
    warnings = [*found.missing] if found.is_bare else []
    if found.settings is not None:
        warnings += _former_slugs(found.settings)
    if not _parses_in_c():
        warnings.append("aiohttp runs without its C parser, many times slower: install a wheel of it for this Python")
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """A configuration, as far as it can be told without connecting to anything.

    ``settings`` are those that can be used, None where there is no saying. ``missing`` is what `gateway serve` cannot
    do without; ``is_bare``: nothing but defaults as to stores, a laptop, which will say --embedded when it serves.
    """

    settings: "Settings | None"
    faults: list[str]
    missing: list[str]
    is_bare: bool


def examine(overrides: Mapping[str, Any], config: Path | None, *, embedded: bool) -> Examined:
    """Every fault of settings, of the files that they name, of routes and of price lists, at once."""
    from gateway.configuration.sources import SettingsInvalid, load  # noqa: PLC0415  slow: see the package's docstring
    from gateway.shipped import shipped  # noqa: PLC0415  the same

    faults: list[str] = []
    needed: list[str] = []
    unusable: Collection[tuple[str, ...]] = ()
    is_bare = False
    settings: Settings | None
    try:
        settings = load(overrides, config)
    except SettingsInvalid as error:
        faults += error.faults
        settings, unusable = error.rest, error.unusable
    if settings is not None:
        needed = [] if embedded else _missing(settings, unusable)
        is_bare = _is_bare(settings, unusable)
        faults += _upstream_faults(settings, unusable)
        faults += _price_list_faults(settings)
    faults += _faults_of_routes(settings, unusable, shipped("routes.toml"))
    return Examined(settings=settings, faults=faults, missing=needed, is_bare=is_bare)


def judged(overrides: Mapping[str, Any], config: Path | None, *, embedded: bool) -> "Settings":
    """Settings to serve with, at a start and a reload. Raises SettingsInvalid with all that :func:`examine` finds."""
    from gateway.configuration.sources import SettingsInvalid  # noqa: PLC0415  slow: see the package's docstring

    found = examine(overrides, config, embedded=embedded)
    faults = [*found.faults, *found.missing]
    if faults or found.settings is None:
        raise SettingsInvalid(faults)
    return found.settings


def _faults_of_routes(settings: "Settings | None", unusable: Collection[tuple[str, ...]], default: Path) -> list[str]:
    if settings is None:
        return route_faults(default)
    if ("routes_file",) in unusable:
        return []
    upstreams = {*settings.every_upstream(), *(path[1] for path in unusable if path[0] == "upstreams" and path[1:])}
    return route_faults(settings.routes_file or default, upstreams)


_REQUIRED = {
    "database_url": "such as postgresql://tahoe:PASSWORD@HOST/tahoe",
    "redis_url": "such as redis://:PASSWORD@HOST:6379/0",
    "secret_key": "make one with: openssl rand -hex 32",
}


def _missing(settings: "Settings", unusable: Collection[tuple[str, ...]]) -> list[str]:
    """What was set, but is ``unusable``, is a fault already."""
    return [
        f"GATEWAY_{name.upper()}: it is required, unless --embedded brings the stores along; {how}"
        for name, how in _REQUIRED.items()
        if getattr(settings, name) is None and (name,) not in unusable
    ]


_BEHIND_TLS = ("addresses", "ca_file", "client_certificate", "client_key")


def _upstream_faults(settings: "Settings", unusable: Collection[tuple[str, ...]]) -> list[str]:
    """What is wrong with the files that settings of upstreams name; of those that are whole."""
    faults = []
    for name, upstream in settings.every_upstream().items():
        needed = {("upstreams", name), *(("upstreams", name, field) for field in _BEHIND_TLS)}
        if not needed.isdisjoint(unusable):
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


def _former_slugs(settings: "Settings") -> list[str]:
    """The tables that name a tenant by a slug which means nobody any more: all of their people would be refused."""
    from gateway.configuration.issuers import table  # noqa: PLC0415  slow: see the package's docstring
    from storage.ports import StorageError  # noqa: PLC0415  the same

    named = {
        f"{kind}.{name}": {one.tenant, *table(one.tenants).values()}
        for kind, tables in (("issuers", settings.issuers), ("oidc", settings.oidc))
        for name, one in tables.items()
    }
    slugs = sorted(set().union(*named.values()) - {""})
    if not slugs or settings.database_url is None:
        return []
    try:
        former = asyncio.run(_asked_for_former(settings.database_url.get_secret_value(), slugs))
    except StorageError as error:
        return [f"whether {', '.join(slugs)} was the slug of a tenant that is gone cannot be asked: {error}"]
    return [
        f"{place}: {slug} was the slug of a tenant that is gone, so nobody comes in by it: name the tenant by its id"
        for place, slugs_there in named.items()
        for slug in sorted(slugs_there & former)
    ]


async def _asked_for_former(database_url: str, slugs: Sequence[str]) -> set[str]:
    """Raises StorageError."""
    from storage.postgres.pool import Pool  # noqa: PLC0415  slow: see the package's docstring
    from storage.postgres.tenant_rows import FORMER  # noqa: PLC0415  the same

    pool = Pool(database_url)
    try:
        return {row["slug"] for row in await pool.read(FORMER, slugs)}
    finally:
        await pool.close()


def _is_bare(settings: "Settings", unusable: Collection[tuple[str, ...]]) -> bool:
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
