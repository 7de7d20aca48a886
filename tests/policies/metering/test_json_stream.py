"""JSON in any cuts: every short value with its path, long strings handed on unescaped, and nothing raises."""

import json

from hypothesis import given
from hypothesis import strategies as st

from policies.metering.json_stream import JsonStream
from tests.policies.audio.feeding import cuts, fed


def read(text, lengths=(1 << 30,), streamed=()):
    values, strings = [], {}

    def string(path):
        return strings.setdefault(path, bytearray()).extend if path and path[-1] in streamed else None

    fed(stream := JsonStream(lambda path, value: values.append((path, value)), string), text, lengths).finish()
    assert stream.depth >= 0
    return values, {path: bytes(found) for path, found in strings.items()}


def test_values_come_with_their_paths_and_lists_leave_no_trace():
    text = b'{"a": 1.5, "b": {"c": [true, null, {"d": "e"}]}, "f": ["g"], "": ""}'
    assert read(text)[0] == [
        (("a",), "1.5"),
        (("b", "c"), "true"),
        (("b", "c"), "null"),
        (("b", "c", "d"), "e"),
        (("f",), "g"),
        (("",), ""),
    ]


def test_a_long_string_is_handed_on_unescaped():
    text = b'{"x": {"audio": "' + rb"a\/b\u002b\\\"\n" * 3 + b'"}, "audio": "q"}'
    assert read(text, streamed={"audio"})[1] == {("x", "audio"): b'a/b+\\"\n' * 3, ("audio",): b"q"}


def test_of_a_name_that_comes_twice_both_are_seen():
    assert read(b'{"a": 1, "a": 2}')[0] == [(("a",), "1"), (("a",), "2")]


def test_the_deep_has_no_names_and_costs_nothing():
    assert read(b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"[2]")[0][-1][1] == "2"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@given(value=values, lengths=cuts, ascii_only=st.booleans())
def test_any_json_in_any_cuts_says_the_same(value, lengths, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only).replace("/", "\\/").encode("utf-8", "replace")
    assert read(text, lengths, {"a"}) == read(text, streamed={"a"})
    if isinstance(value, dict) and all(isinstance(one, str) for one in value.values()) and "\\ud" not in str(text):
        assert [one for _, one in read(text)[0]] == list(value.values())


@given(text=st.binary(max_size=200) | st.text(alphabet='{}[]",:\\u0a"', max_size=60).map(str.encode), lengths=cuts)
def test_what_is_no_json_raises_nothing(text, lengths):
    assert read(text, lengths, {"a"}) == read(text, streamed={"a"})
