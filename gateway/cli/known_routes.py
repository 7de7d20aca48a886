"""Routes and scopes that a command names: of what does not exist it is told, before anything is changed."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from policies.bounds import limits_nothing, matters
from policies.identity import permissions
from policies.limits.allowances import What
from policies.routing.route_table import RoutesInvalid

if TYPE_CHECKING:
    from gateway.cli.stores import Stores
    from policies.routing.routes import Route


def check_routes(stores: "Stores", routes: Sequence[str]) -> None:
    """Bound to a route that is not there, a key or a plan would be good for nothing. Raises ClickException."""
    for route in routes:
        check_route(stores, route)


def check_route(stores: "Stores", name: str, limited: Iterable[What] = ()) -> None:
    """A prohibition or a limit of what does not exist would hold for nothing and look as if it did.

    So would a limit of a kind that no request of the route touches.
    """
    known = {route.name: route for route in _routes(stores)}
    if name not in known:
        said = f"there is no route {name!r}; the table has {', '.join(sorted(known))}."
        raise click.BadParameter(said, param_hint="ROUTE")
    for what in limited:
        if not matters(what, known[name]):
            said = f"{limits_nothing(what, known[name])} Routes: gateway routes list"
            raise click.BadParameter(said, param_hint=f"--{what}")


def check_scopes(stores: "Stores", scopes: Iterable[str], *more: str) -> None:
    """What is no scope would open nothing. ``more``: what also is one here. Raises BadParameter."""
    others = [*more, *stores.settings.own_scopes, *(route.scope for route in _routes(stores))]
    try:
        permissions.check_scopes(scopes, permissions.known_scopes(others))
    except ValueError as error:
        said = f"{error}. The setting own_scopes names others."
        raise click.BadParameter(said, param_hint="--scope") from None


def _routes(stores: "Stores") -> Sequence["Route"]:
    from gateway.configuration.route_file import load_routes  # noqa: PLC0415  slow: see the package's docstring

    try:
        return load_routes(stores.settings).routes
    except RoutesInvalid as error:
        raise click.ClickException("The route table cannot be used. See why: gateway check-config") from error
