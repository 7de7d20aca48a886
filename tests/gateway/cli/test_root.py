"""The command as a whole: its list, its version, its shells, and how it starts."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from gateway import __version__
from gateway.cli.root import gateway
from tests.gateway.cli.conftest import Operator
from tests.servers import ROOT

HEAVY = ("aiohttp", "asyncio", "asyncpg", "pydantic", "redis", "policies", "storage")


def test_the_version_is_the_packages_own(stranger: Operator) -> None:
    assert stranger.run("--version").stdout == f"gateway {__version__}\n"


def test_the_list_says_of_each_command_what_the_command_says_of_itself() -> None:
    for name, entry in gateway.entries.items():
        assert (name, entry.load().get_short_help_str(200)) == (name, entry.summary)


def test_every_command_has_a_line_in_the_list(stranger: Operator) -> None:
    printed = " ".join(stranger.run("--help").stdout.split())
    for name, entry in gateway.entries.items():
        assert f" {name} {entry.summary}" in printed


@pytest.mark.parametrize("words", [("--version",), ("--help",), ("completion", "zsh")])
def test_nothing_heavy_is_loaded_for_a_word(words: tuple[str, ...]) -> None:
    """Start-up is what a shell's completion and every script pay for."""
    code = (
        "import sys\nfrom gateway.cli.root import gateway\n"
        f"gateway({list(words)!r}, standalone_mode=False)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_an_unknown_command_is_wrong_usage_with_a_suggestion(stranger: Operator) -> None:
    assert "Did you mean 'tenant'?" in stranger.run("tenent", status=2).stderr


def commands(group: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All that can be called, by the words that call it."""
    if not isinstance(group, click.Group):
        yield path, group
        return
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield from commands(found, *path, name)


@pytest.mark.parametrize(("path", "command"), [*commands(gateway)], ids=str)
def test_of_two_values_of_one_option_none_is_taken(path: tuple[str, ...], command: click.Command) -> None:
    """Whichever was meant; an option of many values is given for each."""
    for option in command.params:
        if isinstance(option, click.Option) and not option.is_flag:
            words = [*path, option.opts[0], "x", f"{option.opts[0]}=y"]
            done = CliRunner().invoke(gateway, words)
            assert ("more than once" in done.stderr) is not option.multiple, (words, done.output)
            assert done.exit_code == 2, (words, done.output)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(stranger: Operator, shell: str) -> None:
    assert "_GATEWAY_COMPLETE" in stranger.run("completion", shell).stdout


def test_completion_of_another_shell_is_wrong_usage(stranger: Operator) -> None:
    stranger.run("completion", "cmd.exe", status=2)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("gateway te", {"tenant"}), ("gateway key r", {"rotate", "revoke"}), ("gateway key list --t", {"--tenant"})],
)
def test_a_shell_is_offered_what_fits(typed: str, offered: set[str]) -> None:
    words = typed.split()
    environment = {
        **os.environ,
        "_GATEWAY_COMPLETE": "bash_complete",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "gateway"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert {line.partition(",")[2] for line in done.stdout.split()} == offered


def test_a_person_at_a_terminal_gets_aligned_columns(operator: Operator) -> None:
    for slug in ("a", "a-longer-one"):
        operator.run("tenant", "create", slug)
    terminal, theirs = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-m", "gateway", "tenant", "list"],
            cwd=ROOT, env={**os.environ, **operator.environment}, stdout=theirs, stdin=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        os.close(theirs)
        headings, first, second = os.read(terminal, 65_536).decode().splitlines()
    finally:
        os.close(terminal)
    assert "\t" not in headings
    assert headings.index("STATUS") == first.index("active") == second.index("active")


def test_a_reader_that_leaves_early_costs_no_traceback(operator: Operator) -> None:
    done = subprocess.run(
        f"{sys.executable} -m gateway tenant list | true",
        shell=True, cwd=ROOT, env={**os.environ, **operator.environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
