"""Tables show what is stored and do nothing to the terminal."""

import pytest

from gateway.cli import output


@pytest.fixture(params=["pipe", "terminal"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Who reads standard output."""
    monkeypatch.setattr(output, "is_terminal", lambda: request.param == "terminal")
    return request.param


def test_a_table_is_aligned_for_people_and_has_tabs_for_programs(
    reader: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output.print_table(("A", "LONGER"), [("long cell", 1), (None, "")])
    assert capsys.readouterr().out == (
        "A          LONGER\nlong cell  1\n-          -\n" if reader == "terminal" else "A\tLONGER\nlong cell\t1\n-\t-\n"
    )


def test_facts_are_a_line_each_aligned_for_people(reader: str, capsys: pytest.CaptureFixture[str]) -> None:
    output.print_facts({"requests": 3, "audio_ms": 0})
    assert capsys.readouterr().out == (
        "requests  3\naudio_ms  0\n" if reader == "terminal" else "requests\t3\naudio_ms\t0\n"
    )


def test_json_is_indented_for_people_and_one_line_for_programs(reader: str, capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"a": "\N{GREEK SMALL LETTER ALPHA}"})
    assert capsys.readouterr().out == ('{\n  "a": "\\u03b1"\n}\n' if reader == "terminal" else '{"a": "\\u03b1"}\n')


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("a\tb\nc", r"a\tb\nc"),
        ("\x9b31m", r"\x9b31m"),
        ("\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe", r"\u202egpj.exe"),
        ("\ud800", r"\ud800"),
    ],
)
def test_no_cell_moves_the_cursor_or_ends_itself(
    reader: str, hostile: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output.print_table(("A",), [(hostile,)])
    assert capsys.readouterr().out == f"A\n{shown}\n"
