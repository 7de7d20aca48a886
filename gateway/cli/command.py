"""What every command has in common: where its settings come from, how it prints, how it comes to the stores."""

import functools
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from typing_extensions import override

from gateway.cli.output import Json, print_json

if TYPE_CHECKING:
    from gateway.cli.stores import Stores
    from gateway.configuration.settings import Settings

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The common options as they were written."""

    config: Path | None
    state_dir: Path | None
    embedded: bool
    json: bool

    @property
    def overrides(self) -> dict[str, Any]:
        """What the command line says about settings."""
        return {} if self.state_dir is None else {"state_dir": self.state_dir}

    def settings(self) -> "Settings":
        """All sources together. Raises ClickException with every fault."""
        from gateway.configuration.sources import SettingsInvalid, load  # noqa: PLC0415  slow: see the package's docstring

        try:
            return load(self.overrides, self.config)
        except SettingsInvalid as error:
            faults = "\n".join(f"  {fault}" for fault in error.faults)
            raise click.ClickException(f"the settings cannot be used; nothing was done.\n{faults}") from error


class Command(click.Command):
    """Takes an option of one value once: of two values nobody knows which was meant."""

    @override
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            _check_once(ctx, self.get_params(ctx), args)
        return super().parse_args(ctx, args)


class Group(click.Group):
    """A group of such commands."""

    command_class = Command


def _check_once(ctx: click.Context, params: Iterable[click.Parameter], args: Iterable[str]) -> None:
    valued = {
        name: option
        for option in params
        if isinstance(option, click.Option) and not (option.is_flag or option.count)
        for name in option.opts
    }
    seen = set()
    words = iter(args)
    for word in words:
        name, has_value, _ = word.partition("=")
        if name == "--":
            return
        if name not in valued:
            continue
        if name in seen and not valued[name].multiple:
            raise click.UsageError(f"{name} is given more than once, and takes one value.", ctx)
        seen.add(name)
        if not has_value:
            next(words, None)


def common(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that every command has; ``command`` gets them as a :class:`Given`, first."""

    @click.option("--config", type=click.Path(path_type=Path), help="TOML file with settings.")
    @click.option("--state-dir", type=click.Path(path_type=Path), help="State directory of the gateway that is meant.")
    @click.option("--embedded", is_flag=True, help="Use the PostgreSQL and Valkey of the state directory.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @functools.wraps(command)
    def collected(config: Path | None, state_dir: Path | None, *, embedded: bool, as_json: bool, **rest: Any) -> None:
        command(Given(config=config, state_dir=state_dir, embedded=embedded, json=as_json), **rest)

    return collected


yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def confirm(question: str, *, yes: bool) -> None:
    """Ask before what cannot be undone; only a person at a terminal is asked, so that scripts never wait.

    Raises Abort: nothing is done then.
    """
    if not yes and sys.stdin.isatty():
        click.confirm(question, abort=True, err=True)


def tell(given: Given, facts: Json, sentence: str) -> None:
    """What was done: the facts as JSON, or the sentence."""
    if given.json:
        print_json(facts)
    else:
        click.echo(sentence)


def with_stores(
    given: Given, work: Callable[["Stores"], Awaitable[_T]], *, new_secret: bool = False, as_it_is: bool = False
) -> _T:
    """Open the stores, do the work, close them. Raises ClickException for whatever a store says against it.

    ``new_secret`` lets it work with another secret than the gateway had, ``as_it_is`` with an empty database.
    """
    from gateway.cli.stores import run  # noqa: PLC0415  slow: see the package's docstring

    return run(given.settings(), work, embedded=given.embedded, new_secret=new_secret, as_it_is=as_it_is)
