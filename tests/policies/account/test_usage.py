"""What goes into the account, and what stays a fact beside it."""

from dataclasses import replace

import pytest

from policies.account.usage import NOT_AUDIO, AudioSource, Measured, Outcome, accounted

HEARD = Measured(audio_ms=1500, source=AudioSource.WALKED, walked_ms=1500, estimated_ms=1400, container="wav")


@pytest.mark.parametrize("outcome", Outcome)
def test_audio_that_nobody_worked_on_is_free(outcome: Outcome) -> None:
    """Charged: what went well, and what a client walked away from. The walked figure stays either way."""
    charged = outcome in (Outcome.OK, Outcome.CLIENT_GONE)
    assert accounted(HEARD, outcome) == (HEARD if charged else replace(HEARD, audio_ms=0, source=AudioSource.NONE))


def test_audio_that_was_being_answered_when_a_limit_cut_it_off_is_not() -> None:
    assert accounted(HEARD, Outcome.DENIED, begun=True) == HEARD
    assert accounted(HEARD, Outcome.UPSTREAM_FAILED, begun=True).audio_ms == 0


@pytest.mark.parametrize("outcome", Outcome)
def test_no_audio_is_no_audio(outcome: Outcome) -> None:
    assert accounted(NOT_AUDIO, outcome) is NOT_AUDIO


def test_the_labels_are_the_contracts() -> None:
    assert {str(source) for source in AudioSource} == {
        "walked", "reported", "estimated", "pending", "unmeasured", "none",
    }  # fmt: skip
    assert {str(outcome) for outcome in Outcome} == {
        "ok", "denied", "upstream_refused", "upstream_failed", "client_gone", "gateway_failed",
    }  # fmt: skip
