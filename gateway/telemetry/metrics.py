"""Metrics of one process: plain counters on the hot path, carried to the parent on request and merged there.

prometheus-client's own counters take a lock and, with several processes, a memory-mapped file for each increment; a
request touches a dozen. Here an increment is one dictionary operation. ``exposition`` renders the merged figures with
prometheus-client.
"""

from bisect import bisect_left
from collections import defaultdict
from typing import Any, TypeAlias

Labels: TypeAlias = tuple[str, ...]

SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
    600.0,
)  # fmt: skip
"""Bucket bounds: the gateway's own fraction of a millisecond at one end, an hour of audio at the other."""


class Histogram:
    """Counts per bucket, and the sum. ``counts`` has one more entry than SECONDS, for what is above them all."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.total += seconds

    def snapshot(self) -> list[Any]:
        """As JSON-able data."""
        return [self.counts, self.total]

    def merge(self, snapshot: list[Any]) -> None:
        """Add another one's observations."""
        counts, total = snapshot
        self.counts = [a + b for a, b in zip(self.counts, counts, strict=True)]
        self.total += total


class RouteFigures:
    """What is counted for one route, as attributes: the settlement touches nearly all of them for every request."""

    __slots__ = ("audio_ms", "bytes_in", "bytes_out", "duration", "overhead", "requests")

    def __init__(self) -> None:
        self.requests: defaultdict[tuple[str, int, str], int] = defaultdict(int)
        """method, status, outcome"""
        self.duration = Histogram()
        self.overhead = Histogram()
        self.bytes_in = 0
        self.bytes_out = 0
        self.audio_ms: defaultdict[str, int] = defaultdict(int)
        """source"""

    def count(self, labels: tuple[str, int, str], took: float, overhead: float, bytes_in: int, bytes_out: int) -> None:
        """Count one request. Times in seconds; both histograms are seen to here: a call less for each."""
        self.requests[labels] += 1
        histogram = self.duration
        histogram.counts[bisect_left(SECONDS, took)] += 1
        histogram.total += took
        histogram = self.overhead
        histogram.counts[bisect_left(SECONDS, overhead)] += 1
        histogram.total += overhead
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out


COUNTERS = (
    "denials", "ratelimit", "fail_open", "auth", "upstream_errors", "upstream_ejections", "upstream_retries",
    "journal_full", "refused_connections", "stream_closes", "limit_events", "jobs", "unmeasured", "credited_s",
    "mail", "lost_lines",
)  # fmt: skip
GAUGES = ("inflight", "open_streams", "connections", "connections_most", "full_journals")


class Metrics:
    """The figures of one process. Counters are keyed by their label values, in the contract's order."""

    __slots__ = ("routes", "upstream", "upstream_addresses", *COUNTERS, *GAUGES)

    def __init__(self) -> None:
        self.routes: dict[str, RouteFigures] = {}
        self.upstream: defaultdict[str, Histogram] = defaultdict(Histogram)
        self.denials: defaultdict[Labels, int] = defaultdict(int)
        """code"""
        self.ratelimit: defaultdict[Labels, int] = defaultdict(int)
        """limit, decision"""
        self.fail_open: defaultdict[Labels, int] = defaultdict(int)
        """what. Zero is said from the start: an increase from nothing is no increase to Prometheus."""
        self.auth: defaultdict[Labels, int] = defaultdict(int)
        """method, result"""
        self.upstream_errors: defaultdict[Labels, int] = defaultdict(int)
        """upstream, kind"""
        self.upstream_ejections: defaultdict[Labels, int] = defaultdict(int)
        """upstream, address"""
        self.upstream_retries: defaultdict[Labels, int] = defaultdict(int)
        """upstream, why"""
        self.upstream_addresses: dict[Labels, list[int]] = {}
        """upstream, address: how many workers use it, how many try whether it is well again, how many know it"""
        self.journal_full: defaultdict[Labels, int] = defaultdict(int)
        """what"""
        self.refused_connections: defaultdict[Labels, int] = defaultdict(int)
        """limit"""
        self.stream_closes: defaultdict[Labels, int] = defaultdict(int)
        """code, by"""
        self.limit_events: defaultdict[Labels, int] = defaultdict(int)
        """limit, per cent"""
        self.jobs: defaultdict[Labels, int] = defaultdict(int)
        """kind, event"""
        self.unmeasured: defaultdict[Labels, int] = defaultdict(int)
        """route"""
        self.credited_s: defaultdict[Labels, float] = defaultdict(float)
        """route"""
        self.mail: defaultdict[Labels, int] = defaultdict(int)
        """result"""
        self.lost_lines: defaultdict[Labels, int] = defaultdict(int)
        """log"""
        self.inflight = 0
        self.open_streams = 0
        self.connections = 0
        self.connections_most = 0
        """How many of them are taken at most."""
        self.full_journals = 0
        """How many workers refuse what they could not account for. ``/readyz`` tells."""
        self.fail_open |= {("ratelimit",): 0, ("quota",): 0, ("token_subject",): 0}
        self.refused_connections |= {("address",): 0, ("total",): 0, ("files",): 0, ("unheard",): 0}
        self.journal_full |= {("request",): 0, ("record",): 0}
        self.lost_lines |= {("access",): 0}
        self.mail |= {("sent",): 0, ("put_off",): 0, ("failed",): 0}

    def route(self, name: str) -> RouteFigures:
        """The figures of one route."""
        figures = self.routes.get(name)
        if figures is None:
            figures = self.routes[name] = RouteFigures()
        return figures

    def snapshot(self) -> dict[str, Any]:
        """Everything as JSON-able data, for :meth:`merge`."""
        return {
            "routes": {
                name: {
                    "requests": [[*labels, n] for labels, n in f.requests.items()],
                    "duration": f.duration.snapshot(),
                    "overhead": f.overhead.snapshot(),
                    "bytes": [f.bytes_in, f.bytes_out],
                    "audio_ms": dict(f.audio_ms),
                }
                for name, f in self.routes.items()
            },
            "upstream": {name: h.snapshot() for name, h in self.upstream.items()},
            "upstream_addresses": [[*labels, *counts] for labels, counts in self.upstream_addresses.items()],
            "counters": {name: [[*labels, n] for labels, n in getattr(self, name).items()] for name in COUNTERS},
            "gauges": {name: getattr(self, name) for name in GAUGES},
        }

    def merge(self, snapshot: dict[str, Any], *, alive: bool) -> None:
        """Add another process's figures. A dead process has no gauges any more; what it counted stays counted."""
        for name, row in snapshot["routes"].items():
            figures = self.route(name)
            for method, status, outcome, n in row["requests"]:
                figures.requests[(method, status, outcome)] += n
            figures.duration.merge(row["duration"])
            figures.overhead.merge(row["overhead"])
            figures.bytes_in += row["bytes"][0]
            figures.bytes_out += row["bytes"][1]
            for source, ms in row["audio_ms"].items():
                figures.audio_ms[source] += ms
        for name, histogram in snapshot["upstream"].items():
            self.upstream[name].merge(histogram)
        for name, rows in snapshot["counters"].items():
            counter = getattr(self, name)
            for *labels, n in rows:
                counter[tuple(labels)] += n
        if alive:
            for upstream, address, *counts in snapshot["upstream_addresses"]:
                before = self.upstream_addresses.get((upstream, address), [0, 0, 0])
                self.upstream_addresses[(upstream, address)] = [a + b for a, b in zip(before, counts, strict=True)]
            for name, value in snapshot["gauges"].items():
                setattr(self, name, getattr(self, name) + value)
