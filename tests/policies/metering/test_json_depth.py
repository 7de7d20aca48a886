"""What stands deep in a JSON text is left out, in any cuts, and nothing else."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.metering.json_depth import Shallows

TEXTS = st.text(st.sampled_from('a"\\{}[]:, é\n')) | st.text(max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=30,
)


def emptied(value: Any, left: int) -> Any:
    """The value with everything below so many levels taken out."""
    if isinstance(value, dict):
        return {name: emptied(one, left - 1) for name, one in value.items()} if left > 0 else {}
    if isinstance(value, list):
        return [emptied(one, left - 1) for one in value] if left > 0 else []
    return value


def shallow(text: bytes, deepest: int, size: int) -> bytes:
    walker = Shallows(deepest)
    return b"".join(walker.feed(text[start : start + size]) for start in range(0, len(text), size))


@given(VALUES, st.integers(1, 4), st.integers(1, 40), st.booleans())
def test_only_what_is_deep_is_left_out(value: Any, deepest: int, size: int, escaped: bool) -> None:
    text = json.dumps(value, ensure_ascii=escaped).encode()
    assert json.loads(shallow(text, deepest, size)) == emptied(value, deepest)


@given(st.binary() | st.text('{}[]"\\a').map(str.encode), st.integers(1, 3), st.integers(1, 9))
def test_no_bytes_make_it_raise_and_no_cut_changes_what_it_says(data: bytes, deepest: int, size: int) -> None:
    cut, whole = shallow(data, deepest, size), shallow(data, deepest, max(len(data), 1))
    assert cut == whole


@pytest.mark.parametrize("unit", [b"{", b"}", b'"', b"\\", b'"\\', b'{"', b"[]", b'a"', b'""'])
def test_no_text_makes_it_slow(unit: bytes) -> None:
    """Linear in the bytes: half a megabyte of anything."""
    text = unit * (500_000 // len(unit))
    began = time.process_time()
    shallow(text, 1, 65_536)
    assert time.process_time() - began < 3.0
