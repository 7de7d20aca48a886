"""Routes that a command names: of what does not exist it is told, before anything is changed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from policies.route_table import RoutesInvalid

if TYPE_CHECKING:
    from gateway.cli.stores import Stores


def check_routes(stores: "Stores", routes: Sequence[str]) -> None:
    """Bound to a route that is not there, a key or a plan would be good for nothing. Raises ClickException."""
    for route in routes:
        check_route(stores, route)


def check_route(stores: "Stores", name: str) -> None:
    """A prohibition or a limit of what does not exist would hold for nothing and look as if it did."""
    from gateway.configuration.route_file import load_routes  # noqa: PLC0415  slow: see the package's docstring

    try:
        known = sorted(route.name for route in load_routes(stores.settings).routes)
    except RoutesInvalid as error:
        raise click.ClickException("The route table cannot be used. See why: gateway check-config") from error
    if name not in known:
        raise click.BadParameter(f"there is no route {name!r}; the table has {', '.join(known)}.", param_hint="ROUTE")
