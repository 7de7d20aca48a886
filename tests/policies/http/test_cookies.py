"""The session cookie is found whatever else stands in the header, and two that differ are none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.http.cookies import session_cookie, single, values

NAME = session_cookie(secure=True)


def test_its_name_says_how_it_may_be_set() -> None:
    assert NAME == "__Host-tahoe_session"
    assert session_cookie(secure=False) == "tahoe_session"


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([], None),
        ([""], None),
        ([f"{NAME}=a"], "a"),
        ([f"x=1; {NAME}=a; y=2"], "a"),
        ([f"x=1;{NAME}=a"], "a"),
        ([f"{NAME}=a=b=="], "a=b=="),
        ([f"{NAME}=a; {NAME}=a"], "a"),
        ([f"{NAME}=a; {NAME}=b"], None),
        ([f"{NAME}=a", f"{NAME}=b"], None),
        ([f"{NAME}="], None),
        ([f"{NAME}=; {NAME}=a"], "a"),
        ([NAME], None),
        ([f"{NAME.lower()}=a"], None),
        ([f"x{NAME}=a"], None),
        ([f'"x; {NAME}=a"'], 'a"'),
        ([f"={NAME}=a"], None),
    ],
)
def test_the_one_value_or_none(lines: list[str], found: str | None) -> None:
    assert single(lines, NAME) == found


@given(st.lists(st.text(max_size=40), max_size=5))
def test_any_header_is_read(lines: list[str]) -> None:
    """No error; and what is found stands there as it is."""
    for value in values(lines, "a"):
        assert any(f"a={value}" in line for line in lines)
