"""How commands print: JSON, tables aligned for a person, the same with tabs for a pipe, and remarks beside them."""

import json
import sys
import unicodedata
from collections.abc import Mapping, Sequence

import click

Json = Mapping[str, object] | Sequence[Mapping[str, object]]


def remark(text: str) -> None:
    """Say something about the data: on standard error, so that the data can be piped."""
    click.echo(text, err=True)


def print_json(value: Json) -> None:
    """One value: on one line for a pipe, indented for a person."""
    click.echo(json.dumps(value, indent=2 if is_terminal() else None))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns: aligned for a person; else one tab between cells, so that no width is cut or guessed."""
    lines = [list(headings), *([_cell(value) for value in row] for row in rows)]
    for line in _aligned(lines) if is_terminal() else map("\t".join, lines):
        click.echo(line)


def print_facts(facts: Mapping[str, object]) -> None:
    """What is known about one thing, a line each."""
    lines = [[name, _cell(value)] for name, value in facts.items()]
    for line in _aligned(lines) if is_terminal() else map("\t".join, lines):
        click.echo(line)


def is_terminal() -> bool:
    """Whether a person reads standard output."""
    return sys.stdout.isatty()


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]


def _cell(value: object) -> str:
    """Nothing is a dash. What would move the cursor, or end the cell, is written as an escape (CWE-150)."""
    if value is None or value == "":
        return "-"
    text = "".join(c if unicodedata.category(c)[0] != "C" else repr(c)[1:-1] for c in str(value))
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
