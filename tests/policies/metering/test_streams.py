"""How streams end is public interface: codes and sentences, as the page for users has them."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from policies.account.usage import AudioSource, Measured
from policies.http.websocket import Fault, close_frame
from policies.metering.streams import Ending

PAGE = Path(__file__).parents[3] / "docs" / "errors.md"


def test_the_page_lists_every_ending_as_it_is() -> None:
    rows = re.findall(r"^\| (\d{4}) \| `(\w+)` \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    assert rows == [(str(ending.close_code), ending.code, ending.message) for ending in Ending]


def test_endings_are_told_apart_by_their_close_codes() -> None:
    assert len({ending.close_code for ending in Ending}) == len(list(Ending)) == len(Ending.__members__)


@pytest.mark.parametrize("ending", Ending)
def test_a_close_frame_holds_the_whole_reason(ending: Ending) -> None:
    assert close_frame(ending.close_code, f"{ending.code}: {ending.message}").endswith(ending.message.encode())


@pytest.mark.parametrize("fault", Fault)
def test_a_fault_ends_with_its_own_close_code(fault: Fault) -> None:
    assert Ending.of(fault).close_code == fault.close_code


def test_a_figure_since_an_earlier_one_is_the_difference() -> None:
    earlier = Measured(audio_ms=1_000, source=AudioSource.WALKED, walked_ms=1_000, channels=1)
    now = Measured(audio_ms=1_500, source=AudioSource.WALKED, walked_ms=1_500, reported_ms=1_400, channels=1)
    gained = now.since(earlier)
    assert (gained.audio_ms, gained.walked_ms, gained.reported_ms, gained.estimated_ms) == (500, 500, 1_400, None)
    assert now.since(Measured()) == now


def test_an_upstream_that_is_behind_a_stream_that_goes_on_is_no_discrepancy() -> None:
    """It has not heard the last second yet. One that has heard more than was walked is one at once."""
    late = Measured(audio_ms=5_000, walked_ms=5_000, reported_ms=4_000, discrepant=True)
    assert not late.so_far().discrepant
    assert replace(late, reported_ms=6_000).so_far().discrepant
    assert replace(late, reported_ms=None).so_far().discrepant
