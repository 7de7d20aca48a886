"""Bars stay in their box, and what is there is seen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.portal.admin.charts import HEIGHT, Piece, round_above, stacked

_ROWS = st.lists(st.lists(st.integers(0, 10**12), min_size=3, max_size=3), max_size=40)


@given(_ROWS)
def test_every_piece_is_inside_and_every_figure_is_seen(rows: list[list[int]]) -> None:
    made = stacked(rows)
    assert len(made.bars) == len(rows)
    for row, bar in zip(rows, made.bars, strict=True):
        assert [piece.series for piece in bar.pieces] == [place for place, figure in enumerate(row) if figure]
        for piece in bar.pieces:
            assert piece.height >= 1
            assert piece.y >= 0
            assert piece.y + piece.height <= HEIGHT + 3, "the least that is seen may push by that much"


def test_pieces_stand_on_one_another() -> None:
    assert stacked([[50, 25, 0], [0, 0, 100]]).bars[0].pieces == (Piece(0, 50.0, 50.0), Piece(1, 25.0, 25.0))


def test_the_upper_edge_is_round_in_the_unit_and_bars_are_as_high_as_their_own_figures() -> None:
    """0.4 minutes and a little are not drawn as half a minute, though that is what the edge says."""
    made = stacked([[25_074], [3_000]], unit=6_000)
    assert made.top == 30_000
    assert [bar.pieces for bar in made.bars] == [(Piece(0, 16.42, 83.58),), (Piece(0, 90.0, 10.0),)]


@pytest.mark.parametrize(("figure", "top"), [(0, 1), (1, 1), (3, 5), (5, 5), (6, 10), (11, 20), (21, 50), (501, 1_000)])
def test_the_top_is_a_round_figure(figure: int, top: int) -> None:
    assert round_above(figure) == top
