"""Walked before reported before estimated; every figure is kept, and contradictions are noticed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.account.usage import NOT_AUDIO, AudioSource
from policies.audio.sources import Heard, conclude
from policies.audio.walker import LONGEST_MS

WALKED, REPORTED, ESTIMATED = AudioSource.WALKED, AudioSource.REPORTED, AudioSource.ESTIMATED


def heard(walked=None, claimed=None, estimated=4000, container="wav", channels=1):
    return Heard(
        container=container,
        codec="",
        channels=channels,
        walked_ms=walked,
        claimed_ms=claimed,
        estimated_ms=estimated,
    )


def concluded(*files, reported=None, body=1_000_000, sound=True):
    return conclude(files, body, reported, sound=sound, fields={})


@pytest.mark.parametrize(
    ("files", "rest", "expected"),
    [
        pytest.param([heard(5000)], {}, (5000, WALKED, False), id="walked"),
        pytest.param([heard(5000)], {"reported": 5050}, (5000, WALKED, False), id="reported agrees"),
        pytest.param([heard(5000)], {"reported": 4800}, (5000, WALKED, True), id="reported is less: discrepant"),
        pytest.param([heard(5000)], {"reported": 0}, (5000, WALKED, True), id="reported nothing"),
        pytest.param([heard(1100)], {"reported": 2000}, (1100, WALKED, False), id="reported in whole seconds, upwards"),
        pytest.param([heard(1100)], {"reported": 3000}, (3000, REPORTED, True), id="more than a second off"),
        pytest.param([heard(700)], {"reported": 790}, (700, WALKED, False), id="less than a tenth of a second off"),
        pytest.param([heard(5000, claimed=0)], {}, (5000, WALKED, True), id="header says less: nothing is saved"),
        pytest.param([heard(5000, claimed=90_000)], {}, (5000, WALKED, True), id="header says more: nothing is added"),
        pytest.param([heard(5000, claimed=5099)], {}, (5000, WALKED, False), id="header within 2 %"),
        pytest.param([heard(60_000)], {"reported": 60_000, "body": 900}, (60_000, WALKED, False), id="walked silence"),
        pytest.param([heard()], {}, (4000, ESTIMATED, False), id="estimated"),
        pytest.param([heard()], {"reported": 9900}, (9900, REPORTED, False), id="reported before estimated"),
        pytest.param([heard()], {"reported": 0}, (0, REPORTED, False), id="a reported zero is a figure"),
        pytest.param([heard()], {"reported": 21_000, "body": 1000}, (4000, ESTIMATED, True), id="more than bytes hold"),
        pytest.param([heard(5000), heard(7000)], {}, (12_000, WALKED, False), id="two files"),
        pytest.param([heard(5000), heard()], {}, (9000, ESTIMATED, False), id="one of two walked"),
        pytest.param([heard(5000), heard()], {"reported": 6000}, (6000, REPORTED, False), id="the report is of both"),
        pytest.param([heard(5000), heard()], {"reported": 50}, (5000, REPORTED, False), id="never less than walked"),
        pytest.param([], {}, (0, AudioSource.NONE, False), id="no audio"),
        pytest.param([], {"reported": 8000}, (8000, REPORTED, False), id="audio by URL"),
        pytest.param([heard(5000)], {"sound": False}, (250_000, ESTIMATED, True), id="a form read in two ways: bytes"),
        pytest.param([heard(9_000_000)], {"sound": False}, (9_000_000, ESTIMATED, True), id="or what was walked"),
        pytest.param([], {"sound": False, "reported": 7000}, (7000, REPORTED, True), id="or what was reported"),
        pytest.param([heard(LONGEST_MS * 2)], {}, (LONGEST_MS, WALKED, True), id="the sanity cap"),
    ],
)
def test_the_best_source_counts_and_a_difference_is_noted(files, rest, expected):
    measured = concluded(*files, **rest)
    assert (measured.audio_ms, measured.source, measured.discrepant) == expected


def test_every_figure_is_kept():
    measured = concluded(heard(5000), heard(container="mp3", estimated=9000, channels=2), reported=6000)
    assert (measured.walked_ms, measured.reported_ms, measured.estimated_ms) == (5000, 6000, 13_000)
    assert (measured.container, measured.channels) == ("mp3", 2)  # of the file that counts most; the most channels


def test_no_audio_is_the_known_nothing():
    assert concluded() == NOT_AUDIO


figures = st.none() | st.integers(0, LONGEST_MS)
files = st.lists(st.builds(heard, figures, figures, st.integers(0, LONGEST_MS)), max_size=3)


@given(files=files, reported=figures, body=st.integers(0, 1 << 40), sound=st.booleans())
def test_no_claim_and_no_report_lowers_what_was_walked(files, reported, body, sound):
    measured = concluded(*files, reported=reported, body=body, sound=sound)
    assert min(measured.walked_ms or 0, LONGEST_MS) <= measured.audio_ms <= LONGEST_MS
    if measured.source is WALKED:
        assert measured.audio_ms == min(sum(file.walked_ms for file in files), LONGEST_MS)
