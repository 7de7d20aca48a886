"""Every key has the line where the operator finds it."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.configuration.toml_lines import Lines, Place

TEXT = (
    '''\
# a comment

one = 1
two.three = "[[not.a.heading]]"
list = [
  "a",   # a comment ]
  "b",
]
text = """
[table]
key = 1
"""; # is no TOML
'''.replace('"""; # is no TOML', '"""')
    + """
[table]
key = { inner = 2, other = [1, 2] }

  [[ "many" . more ]]  # with a comment
a = 1

[many.more.below]
b = 2
[[many.more]]
'a' = 3
  c.d = 4
[[many.more.inside]]
x = 1
[[many.more.inside]]
x = 2
[other.deep]
k = '[x]'
"""
)

PLACES: list[tuple[Place, int | None]] = [
    (("one",), 3), (("two",), 4), (("two", "three"), 4), (("list",), 5), (("list", 1), 5), (("text",), 9),
    (("table",), 14), (("table", "key"), 15), (("table", "key", "inner"), 15), (("table", "missing"), 14),
    (("many", "more", 0), 17), (("many", "more", 0, "a"), 18), (("many", "more", 0, "below", "b"), 21),
    (("many", "more", 1), 22), (("many", "more", 1, "a"), 23), (("many", "more", 1, "c", "d"), 24),
    (("many", "more", 1, "inside", 0, "x"), 26), (("many", "more", 1, "inside", 1, "x"), 28),
    (("many", "more", 1, "inside", 1, "missing"), 27), (("other", "deep", "k"), 30), (("nowhere",), None), ((), None),
]  # fmt: skip


@pytest.mark.parametrize(("place", "line"), PLACES, ids=[".".join(map(str, place)) for place, _ in PLACES])
def test_a_key_has_a_line_and_what_is_missing_that_of_its_table(place: Place, line: int | None) -> None:
    tomllib.loads(TEXT)
    assert Lines(TEXT).of(place) == line
    assert Lines(TEXT).spot(place) == (f":{line}" if line else "")


def test_only_a_newline_ends_a_line() -> None:
    """Not what Unicode calls a line separator: editors and the parser do not count it."""
    assert Lines("a = '\u2028\x85'\nb = 1\n").of(("b",)) == 2


def test_line_ends_of_other_systems_count_alike() -> None:
    assert Lines(TEXT.replace("\n", "\r\n")).of(("many", "more", 1, "a")) == 23


_names = st.sampled_from(["a", "b", '"c d"', "'e.f'", "g.h"])
_values = st.sampled_from(["1", '"x"', "[\n1,\n2]", "'''\n[a]\n'''", '"""\na = 1\n"""', "{ z = 1 }", "1979-05-27"])


@given(
    lines=st.lists(st.one_of(st.just("# [[c]]"), st.just(""), st.tuples(_names, _values).map(" = ".join)), max_size=8)
)
def test_of_any_file_every_key_of_the_top_has_the_line_that_names_it(lines: list[str]) -> None:
    text = "\n".join(lines)
    try:
        parsed = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    rows = text.splitlines()
    for key in parsed:
        line = Lines(text).of((key,))
        assert line is not None
        assert rows[line - 1].lstrip("\"'").startswith(key)
