"""What a batch of usage rows adds to the roll-ups: sums per hour and dimensions, without decoding a row."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
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
        # Every record passes here, so this is one loop over bytes: dimensions are decoded once a group.
        for row in rows:
            fields = row.split(b"\t", splits)
            key = (fields[1][:_HOUR], *fields[_BEFORE_DIMENSIONS:last_dimension], fields[model])
            sums = groups.get(key)
            if sums is None:
                groups[key] = sums = [0] * 8
            said = int(fields[status])
            if said != INTERIM:  # of a stream's records only the last one is a request
                sums[0] += 1
            if said >= 400:  # RFC 9110 section 15: where errors begin
                sums[1] += 1
            if fields[audio] != b"0":  # most requests carry none
                sums[2] += int(fields[audio])
            sums[3] += int(fields[received])
            sums[4] += int(fields[sent])
            sums[5] += int(fields[duration])
            sums[6] += int(fields[upstream])
            if fields[source] == _UNMEASURED:
                sums[7] += 1
        return [_decoded(key, sums) for key, sums in groups.items()]
    except (IndexError, ValueError, KeyError) as error:
        raise Rejected(f"A usage row is malformed: {error}.") from error


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
