"""A form of names and values in any cuts: the values as the standard library reads them, and nothing raises."""

from urllib.parse import parse_qsl, urlencode

from hypothesis import given
from hypothesis import strategies as st

from policies.metering.multipart import MOST_PARTS
from policies.metering.pair_stream import PairStream
from tests.policies.audio.feeding import cuts, fed


def read(text, lengths=(1 << 30,)):
    pairs, warnings = [], []

    def string(path):
        pairs.append((path, value := bytearray()))
        return value.extend

    fed(PairStream(string, lambda: warnings.append("too many")), text, lengths)
    return [(*path, bytes(value).decode()) for path, value in pairs], warnings


@given(pairs=st.lists(st.tuples(st.text(max_size=9), st.text(max_size=20))), lengths=cuts)
def test_what_the_standard_library_writes_is_read_in_any_cuts(pairs, lengths):
    text = urlencode(pairs)
    # A name alone has no value to hand on.
    assert read(text.encode(), lengths)[0] == parse_qsl(text, keep_blank_values=True, encoding="utf-8")


@given(text=st.binary(max_size=200) | st.text("a=&%4+", max_size=60).map(str.encode), lengths=cuts)
def test_nothing_raises_and_cuts_do_not_matter(text, lengths):
    def values(lengths):
        seen = bytearray()
        fed(PairStream(lambda _: seen.extend, lambda: None), text, lengths)
        return bytes(seen)

    assert values(lengths) == values((1 << 30,))


def test_of_more_pairs_than_any_form_has_the_rest_is_not_read():
    pairs, warnings = read(b"a=1&" * (MOST_PARTS + 9))
    assert len(pairs) == MOST_PARTS
    assert warnings == ["too many"]
