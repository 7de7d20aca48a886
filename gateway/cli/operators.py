"""``gateway operator``: who may act across tenants, by the API and the pages."""

import click

from gateway.cli.command import Given, Group, common, tell, with_stores
from gateway.cli.output import print_json, print_table, remark
from gateway.cli.people import facts
from gateway.cli.values import EMAIL


@click.group(cls=Group)
def operator() -> None:
    """Who may act across tenants."""


@operator.command()
@click.argument("email", type=EMAIL)
@common
def grant(given: Given, email: str) -> None:
    """Make a person an operator. The person must be a member of some tenant already."""
    found = with_stores(given, lambda stores: stores.directory.set_operator(email, operator=True))
    tell(given, facts(found), f"{email} is an operator of this platform.")


@operator.command()
@click.argument("email", type=EMAIL)
@common
def revoke(given: Given, email: str) -> None:
    """Make an operator an ordinary member again."""
    found = with_stores(given, lambda stores: stores.directory.set_operator(email, operator=False))
    tell(given, facts(found), f"{email} is no operator.")


@operator.command("list")
@common
def list_operators(given: Given) -> None:
    """All operators, by e-mail."""
    found = with_stores(given, lambda stores: stores.directory.operators())
    if given.json:
        print_json([facts(each) for each in found])
        return
    print_table(("EMAIL", "NAME", "STATUS", "ID"), [(each.email, each.name, each.status, each.id) for each in found])
    if not found:
        remark("There is no operator. Make one: gateway operator grant EMAIL")
