"""JSON that two parsers may read in two ways is none."""

import pytest

from policies.identity import strict_json


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 1}', "NaN", "-Infinity", "1e999", "[-1e999]", "[" * 100_000, "9" * 5_000]
)
def test_what_has_no_one_reading_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        strict_json.read(text)


def test_all_else_is_read_as_it_is() -> None:
    assert strict_json.read('{"a": [1, -1.5e3, null, true, "x"]}') == {"a": [1, -1500.0, None, True, "x"]}
