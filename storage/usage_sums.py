"""What a batch of usage rows adds to the roll-ups: sums per hour and dimensions, without decoding a row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import add
from typing import Final

from policies.account.usage import INTERIM, AudioSource, Outcome
from storage.ports import Rejected
from storage.usage_rows import Encoding, unescape

ABSURD: Final = 10**15
"""More than a batch can truly sum up to: a petabyte, thirty years in microseconds. 9,000 such fit in a bigint.

One absurd figure must not fill a bucket: every later record of that bucket would be refused for its sake.
"""

_UNMEASURED: Final = AudioSource.UNMEASURED.encode()
_BEFORE_DIMENSIONS: Final = 2
_HOUR: Final = len("2026-11-26T07")


@dataclass(frozen=True, slots=True)
class Sums:
    """What one hour and one set of dimensions gain."""

    hour: datetime
    tenant_id: str
    key_id: str
    user_id: str
    route: str
    outcome: str
    model: str
    requests: int
    errors: int
    denied: int
    audio_ms: int
    bytes_in: int
    bytes_out: int
    unmeasured: int
    duration_us: int
    upstream_us: int


def sum_rows(encoding: Encoding, rows: Sequence[bytes]) -> list[Sums]:
    """Sums over rows of one encoding. Raises Rejected for rows of another shape and for absurd figures."""
    last_dimension = _BEFORE_DIMENSIONS + len(encoding.dimensions)
    status = last_dimension + len(encoding.texts)
    texts = {column.name: last_dimension + n for n, column in enumerate(encoding.texts)}
    model, source = texts["model"], texts["source"]
    audio, received, sent, duration, upstream = range(status + 1, status + 6)
    splits = upstream + 1
    groups: dict[tuple[bytes, ...], list[int]] = {}
    try:
        # Every record passes here, so this is one loop over bytes: words are read once a group, and figures that are
        # none, as most are, not at all.
        for row in rows:
            fields = row.split(b"\t", splits)
            key = (
                fields[1][:_HOUR], *fields[_BEFORE_DIMENSIONS:last_dimension], fields[model], fields[source],
                fields[status],
            )  # fmt: skip
            sums = groups.get(key)
            if sums is None:
                groups[key] = sums = [0] * 6
            sums[0] += 1
            if fields[audio] != b"0":
                sums[1] += int(fields[audio])
            if fields[received] != b"0":
                sums[2] += int(fields[received])
            if fields[sent] != b"0":
                sums[3] += int(fields[sent])
            sums[4] += int(fields[duration])
            if fields[upstream] != b"0":
                sums[5] += int(fields[upstream])
        return _by_dimensions(groups)
    except (IndexError, ValueError, KeyError) as error:
        raise Rejected(f"A usage row is malformed: {error}.") from error


def _by_dimensions(groups: Mapping[tuple[bytes, ...], Sequence[int]]) -> list[Sums]:
    """The groups of each set of dimensions together, whatever their sources and statuses."""
    merged: dict[tuple[bytes, ...], list[int]] = {}
    for (*key, source, status), (records, audio_ms, *others) in groups.items():
        said = int(status)
        requests = 0 if said == INTERIM else records  # of a stream's records only the last one is a request
        errors = records if said >= 400 else 0  # RFC 9110 section 15: where errors begin
        unmeasured = records if source == _UNMEASURED else 0
        gained = (requests, errors, audio_ms, *others, unmeasured)
        sums = merged.setdefault(tuple(key), [0] * len(gained))
        sums[:] = map(add, sums, gained)
    return [_decoded(key, sums) for key, sums in merged.items()]


def _decoded(key: tuple[bytes, ...], sums: list[int]) -> Sums:
    furthest = max(sums, key=abs)
    if abs(furthest) > ABSURD:
        raise Rejected(f"Usage rows have a figure beyond all reason: {furthest}.")
    hour, tenant_id, key_id, user_id, route, outcome, model = (unescape(field.decode()) for field in key)
    requests, errors, audio_ms, bytes_in, bytes_out, duration_us, upstream_us, unmeasured = sums
    return Sums(
        hour=datetime.fromisoformat(f"{hour}:00Z"),
        tenant_id=tenant_id,
        key_id=key_id,
        user_id=user_id,
        route=route,
        outcome=outcome,
        model=model,
        requests=requests,
        errors=errors,
        denied=requests if outcome == Outcome.DENIED else 0,
        audio_ms=audio_ms,
        bytes_in=bytes_in,
        bytes_out=bytes_out,
        unmeasured=unmeasured,
        duration_us=duration_us,
        upstream_us=upstream_us,
    )
