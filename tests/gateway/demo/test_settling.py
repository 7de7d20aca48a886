"""Settled words are never taken back, and in the end all words are told."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.demo.settling import Settling
from gateway.demo.transcript import Word


def words(text: str, each_ms: int = 300) -> tuple[Word, ...]:
    return tuple(Word(word, at * each_ms, (at + 1) * each_ms, 1.0) for at, word in enumerate(text.split()))


def told(readings: list[tuple[str, int]], final: str) -> list[str]:
    """What each reading settles, and then the final one."""
    settling = Settling()
    fresh = [settling.hear(words(text), now_ms) for text, now_ms in readings]
    return [" ".join(word.text for word in some) for some in [*fresh, settling.finish(words(final))]]


def test_a_word_settles_when_it_has_stood_for_seven_readings_and_lies_well_back():
    readings = [("go", 300 * at) for at in range(1, 9)]
    assert told(readings, "go") == ["", "", "", "", "", "", "go", "", ""]


def test_a_word_near_the_present_waits_however_long_it_has_stood():
    assert told([("go", 1_000)] * 20, "go")[:20] == [""] * 20


def test_a_word_that_wavers_holds_back_all_that_follow_it():
    readings = [("go forward ten" if at % 2 else "go for ten", 5_000) for at in range(12)]
    assert "".join(told(readings, "go forward ten")[:12]) == "go"


def test_a_final_reading_that_contradicts_a_settled_word_adds_only_what_comes_after_it():
    readings = [("not fun", 3_000)] * 7
    assert told(readings, "not until exposed")[-2:] == ["not fun", "exposed"]


@given(st.lists(st.tuples(st.lists(st.sampled_from("abc"), max_size=6), st.integers(0, 9_000)), max_size=30))
def test_a_final_reading_that_agrees_leaves_exactly_its_words_told(readings: list[tuple[list[str], int]]):
    settling = Settling()
    settled: list[Word] = []
    for texts, now_ms in readings:
        settled += settling.hear(words(" ".join(texts)), now_ms)
    final = (*settled, Word("end", 90_000, 90_300, 1.0))
    assert [*settled, *settling.finish(final)] == list(final)
