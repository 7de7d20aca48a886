"""What was used as lines of a table and bars of a chart: one for each bucket, by what became of the requests."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from gateway.portal.admin.charts import Bars, stacked
from gateway.portal.admin.times import Range
from gateway.portal.api.usage import GroupShown
from policies.account.usage import Outcome

ENDS = ("Answered", "Refused", "Failed")
"""What became of requests, as bars show it from the bottom up."""
_TENTH_MS = 6_000
"""A tenth of a minute."""
_END_OF: Mapping[str, int] = {Outcome.OK: 0, Outcome.DENIED: 1}


class Line(NamedTuple):
    """One bucket: the requests of each of ``ENDS``, and the audio."""

    since: datetime
    ends: tuple[int, int, int]
    audio_ms: int


def lines(groups: Sequence[GroupShown], span: Range) -> list[Line]:
    """A line for every bucket, also where nothing was; from sums for each bucket and outcome."""
    ends: dict[datetime, list[int]] = {at: [0, 0, 0] for at in span.starts()}
    audio: dict[datetime, int] = dict.fromkeys(ends, 0)
    for group in groups:
        if group.since in ends:
            ends[group.since][_END_OF.get(group.label, 2)] += group.requests
            audio[group.since] += group.audio_ms
    return [Line(at, (found[0], found[1], found[2]), audio[at]) for at, found in ends.items()]


def requests_of(found: Sequence[Line]) -> Bars:
    """Their requests as bars."""
    return stacked([line.ends for line in found])


def audio_of(found: Sequence[Line]) -> Bars:
    """Their audio as bars, in milliseconds; the figure above is a round one in minutes."""
    return stacked([[line.audio_ms] for line in found], unit=_TENTH_MS)
