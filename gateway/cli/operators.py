"""``gateway operator``: who may act across tenants, by the API and the pages."""

import click

from gateway.cli.command import Given, Group, common, with_stores
from gateway.cli.output import print_json, print_table, remark
from gateway.cli.values import EMAIL
from gateway.times import stamp
from policies.tenants import User


@click.group(cls=Group)
def operator() -> None:
    """Who may act across tenants."""


@operator.command()
@click.argument("email", type=EMAIL)
@common
def grant(given: Given, email: str) -> None:
    """Make a person an operator. The person must be a member of some tenant already."""
    found = with_stores(given, lambda stores: stores.directory.set_operator(email, operator=True))
    _print(given, found, f"{email} is an operator of this platform.")


@operator.command()
@click.argument("email", type=EMAIL)
@common
def revoke(given: Given, email: str) -> None:
    """Make an operator an ordinary member again."""
    found = with_stores(given, lambda stores: stores.directory.set_operator(email, operator=False))
    _print(given, found, f"{email} is no operator.")


@operator.command("list")
@common
def list_operators(given: Given) -> None:
    """All operators, by e-mail."""
    found = with_stores(given, lambda stores: stores.directory.operators())
    if given.json:
        print_json([_facts(each) for each in found])
        return
    print_table(("EMAIL", "NAME", "STATUS", "ID"), [(each.email, each.name, each.status, each.id) for each in found])
    if not found:
        remark("There is no operator. Make one: gateway operator grant EMAIL")


def _print(given: Given, found: User, sentence: str) -> None:
    if given.json:
        print_json(_facts(found))
    else:
        click.echo(sentence)


def _facts(user: User) -> dict[str, object]:
    return {
        "id": user.id,
        "email": user.email,
        "name": user.name,
        "status": user.status.value,
        "created_at": stamp(user.created_at),
    }
