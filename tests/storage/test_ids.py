from hypothesis import given
from hypothesis import strategies as st

from storage.postgres.ids import Kind, is_id, make_id, new_id

FIFTY_BITS = st.integers(0, 2**50 - 1)
KINDS = st.sampled_from(Kind)


@given(KINDS, FIFTY_BITS, FIFTY_BITS)
def test_an_id_is_its_prefix_and_twenty_characters(kind: Kind, now_ms: int, chance: int) -> None:
    made = make_id(kind, now_ms, chance)
    assert made.startswith(kind)
    assert len(made) == len(kind) + 20
    assert is_id(kind, made)


@given(KINDS, st.tuples(FIFTY_BITS, FIFTY_BITS), st.tuples(FIFTY_BITS, FIFTY_BITS))
def test_ids_sort_by_the_millisecond_and_never_coincide(kind: Kind, one: tuple, other: tuple) -> None:
    assert (make_id(kind, *one) < make_id(kind, *other)) == (one < other)


@given(st.text(), KINDS)
def test_other_text_is_not_an_id(text: str, kind: Kind) -> None:
    assert not is_id(kind, text)


def test_an_id_of_one_kind_is_not_of_another() -> None:
    assert not is_id(Kind.TENANT, new_id(Kind.KEY))


def test_an_id_with_anything_after_it_is_none() -> None:
    """A newline above all: ``$`` in a pattern would let it pass."""
    assert not is_id(Kind.KEY, new_id(Kind.KEY) + "\n")
    assert not is_id(Kind.KEY, new_id(Kind.KEY) + "\0")


def test_new_ids_differ() -> None:
    assert len({new_id(Kind.KEY) for _ in range(1000)}) == 1000
