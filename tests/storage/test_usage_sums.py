"""A batch of rows adds to the roll-ups exactly what its records say."""

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.account.usage import INTERIM, AudioSource, Measured, Outcome, UsageRecord
from storage.ports import Rejected
from storage.usage_rows import CURRENT, encode
from storage.usage_sums import ABSURD, sum_rows
from tests.storage.usage_samples import HOUR_MS, NOON_MS, STORABLE, record, records


@given(st.lists(records(texts=STORABLE | st.sampled_from(["", "a"])), max_size=8))
def test_sums_are_those_of_the_records(given_records: list[UsageRecord]) -> None:
    expected: defaultdict[tuple[object, ...], list[int]] = defaultdict(lambda: [0] * 9)
    for one in given_records:
        sums = expected[
            one.ended_ms // HOUR_MS,
            one.tenant_id,
            one.key_id,
            one.user_id,
            one.route,
            one.outcome.value,
            one.measured.model,
        ]
        gained = (
            one.status != INTERIM,
            one.status >= 400,
            one.outcome is Outcome.DENIED and one.status != INTERIM,
            one.measured.audio_ms,
            one.bytes_in,
            one.bytes_out,
            one.duration_us,
            one.upstream_us,
            one.measured.source is AudioSource.UNMEASURED,
        )
        for index, figure in enumerate(gained):
            sums[index] += figure
    found = {}
    for sums in sum_rows(CURRENT, [encode(one) for one in given_records]):
        key = (sums.tenant_id, sums.key_id, sums.user_id, sums.route, sums.outcome, sums.model)
        figures = [
            sums.requests,
            sums.errors,
            sums.denied,
            sums.audio_ms,
            sums.bytes_in,
            sums.bytes_out,
            sums.duration_us,
            sums.upstream_us,
            sums.unmeasured,
        ]
        found[int(sums.hour.timestamp()) * 1000 // HOUR_MS, *key] = figures
    assert found == expected


@pytest.mark.parametrize("offset_ms", [-1, 0, HOUR_MS - 1, HOUR_MS])
def test_a_record_belongs_to_the_hour_in_which_it_ended(offset_ms: int) -> None:
    (sums,) = sum_rows(CURRENT, [encode(record(ended_ms=NOON_MS + offset_ms))])
    assert sums.hour.timestamp() * 1000 == (NOON_MS + offset_ms) // HOUR_MS * HOUR_MS


@pytest.mark.parametrize(
    "row",
    [
        b"1\n",
        b"1\tnot-a-time" + b"\t0" * 27 + b"\n",
        encode(record()).replace(b"\t80044\t", b"\t80044.5\t"),
        encode(record()).replace(b"acme", b"\xff"),
        encode(record()._replace(measured=Measured(audio_ms=ABSURD + 1))),
    ],
    ids=["short", "no instant", "no integer", "no utf-8", "absurd"],
)
def test_a_row_that_cannot_be_summed_is_rejected(row: bytes) -> None:
    with pytest.raises(Rejected):
        sum_rows(CURRENT, [encode(record()), row])
