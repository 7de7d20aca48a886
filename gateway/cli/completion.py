"""``gateway completion``: the script that makes a shell complete this command."""

import click
from click.shell_completion import get_completion_class

from gateway.cli.command import Command


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash: add to ~/.bashrc      eval "$(gateway completion bash)"
    zsh:  add to ~/.zshrc       eval "$(gateway completion zsh)"
    fish: run once              gateway completion fish > ~/.config/fish/completions/gateway.fish
    """  # noqa: D301  click reads the backspace as "leave these lines alone"
    script = get_completion_class(shell)
    assert script is not None  # click brings all three
    click.echo(script(ctx.find_root().command, {}, "gateway", "_GATEWAY_COMPLETE").source())
