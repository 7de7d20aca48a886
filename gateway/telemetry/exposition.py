"""Metrics in the Prometheus text format, from figures counted elsewhere. Names and labels are public interface."""

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.telemetry.metrics import SECONDS, Histogram, Labels, Metrics
from gateway.telemetry.tenants import TenantFigures

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_COUNTERS = (
    ("denials", "gateway_denials", "Refusals by stable code.", ("code",)),
    ("ratelimit", "gateway_ratelimit_decisions", "What limits decided.", ("limit", "decision")),
    ("fail_open", "gateway_fail_open", "Requests let through while a check could not be made.", ("what",)),
    ("auth", "gateway_auth", "Identifications, and how they ended.", ("method", "result")),
    ("upstream_errors", "gateway_upstream_errors", "Failures of an upstream.", ("upstream", "kind")),
    ("upstream_ejections", "gateway_upstream_ejections", "Times an address was set aside.", ("upstream", "address")),
    (
        "upstream_retries",
        "gateway_upstream_retries",
        "Requests sent to another connection or address, unseen by the client.",
        ("upstream", "why"),
    ),
    ("stream_closes", "gateway_stream_closes", "Ends of streams, by close code and by who ended it.", ("code", "by")),
    ("limit_events", "gateway_limit_events", "Allowances nearly or wholly used up.", ("limit", "per_cent")),
    ("jobs", "gateway_jobs", "What became of jobs, and of questions about them.", ("kind", "event")),
    (
        "unmeasured",
        "gateway_audio_unmeasured",
        "Requests that named their audio by URL, and whose answer said nothing of its length.",
        ("route",),
    ),
    ("credited_s", "gateway_audio_credited_seconds", "Audio taken back from the account.", ("route",)),
    ("mail", "gateway_mail", "Letters, by what became of a try.", ("result",)),
    ("lost_lines", "gateway_log_lines_lost", "Lines that a log did not take, as on a full disk.", ("log",)),
    ("journal_full", "gateway_usage_journal_full", "What the usage journal had no room for.", ("what",)),
    ("refused_connections", "gateway_refused_connections", "Connections turned away, by the limit.", ("limit",)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the parent knows beside the workers' figures."""

    journal_pending: int = 0
    shipped: int = 0
    lost_bytes: int = 0
    lost_records: int = 0
    journals_stuck: int = 0
    comparisons: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    """By what the account was compared with: when, in seconds since 1970 (0: never), and how much differed."""
    sink_lags: Mapping[str, float] = field(default_factory=dict)
    """Seconds, by sink."""
    sinks_sent: Mapping[str, int] = field(default_factory=dict)
    tenants: TenantFigures | None = None
    reload_failures: int = 0
    last_reload_successful: bool = True
    workers: Mapping[str, bool] = field(default_factory=dict)
    dependencies: Mapping[str, bool] = field(default_factory=dict)


class _Gathered(Collector):
    def __init__(self, metrics: Metrics, state: State) -> None:
        self._metrics = metrics
        self._state = state

    def collect(self) -> Iterator[Metric]:
        yield from self._routes()
        yield _histogram(
            "gateway_upstream_duration_seconds",
            "From asking an upstream to the end of its answer.",
            "upstream",
            self._metrics.upstream,
        )
        for attribute, name, text, labels in _COUNTERS:
            yield _counter(name, text, labels, getattr(self._metrics, attribute))
        yield from self._tenants()
        yield from self._load()
        yield from self._journals()
        yield from self._comparisons()
        yield from self._sinks()
        yield from self._upstream_addresses()
        yield from self._processes()

    def _routes(self) -> Iterator[Metric]:
        routes = self._metrics.routes
        requests: dict[Labels, float] = {
            (route, method, str(status), outcome): n
            for route, figures in routes.items()
            for (method, status, outcome), n in figures.requests.items()
        }
        yield _counter(
            "gateway_requests", "Requests, by how they ended.", ("route", "method", "status", "outcome"), requests
        )
        moved: dict[Labels, float] = {
            (route, way): n for route, f in routes.items() for way, n in (("in", f.bytes_in), ("out", f.bytes_out))
        }
        yield _counter("gateway_bytes", "Bytes of bodies, from clients and to them.", ("route", "direction"), moved)
        audio: dict[Labels, float] = {
            (route, source): ms / 1000 for route, f in routes.items() for source, ms in f.audio_ms.items()
        }
        yield _counter("gateway_audio_seconds", "Audio accounted, by source.", ("route", "source"), audio)
        yield _histogram(
            "gateway_request_duration_seconds",
            "From the request's header to the end of the answer.",
            "route",
            {route: f.duration for route, f in routes.items()},
        )
        yield _histogram(
            "gateway_proxy_overhead_seconds",
            "The gateway's own share of the request's time.",
            "route",
            {route: f.overhead for route, f in routes.items()},
        )

    def _tenants(self) -> Iterator[Metric]:
        figures = self._state.tenants
        if figures is None or not figures.requests:
            return
        requests: dict[Labels, float] = {(tenant,): n for tenant, n in figures.requests.items()}
        yield _counter("gateway_tenant_requests", "Requests in the ledger.", ("tenant",), requests)
        audio: dict[Labels, float] = {(tenant,): ms / 1000 for tenant, ms in figures.audio_ms.items()}
        yield _counter("gateway_tenant_audio_seconds", "Audio in the ledger.", ("tenant",), audio)

    def _load(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("gateway_inflight_requests", "Requests being served.", self._metrics.inflight)
        yield GaugeMetricFamily("gateway_open_streams", "WebSockets being relayed.", self._metrics.open_streams)
        yield GaugeMetricFamily("gateway_connections", "Client connections that are open.", self._metrics.connections)
        yield GaugeMetricFamily(
            "gateway_connections_most",
            "Client connections, streams among them, that are taken at most.",
            self._metrics.connections_most,
        )

    def _journals(self) -> Iterator[Metric]:
        state = self._state
        yield GaugeMetricFamily(
            "gateway_usage_journal_pending",
            "Usage records in the journal and not yet in the ledger.",
            state.journal_pending,
        )
        yield _counter("gateway_usage_shipped", "Usage records shipped to the ledger.", (), {(): state.shipped})
        yield _counter("gateway_usage_lost_bytes", "Journal bytes that could not be read.", (), {(): state.lost_bytes})
        lost: dict[Labels, float] = {(): state.lost_records}
        stuck = "Journals that wait for somebody: they cannot be read, or their records are not taken."
        yield GaugeMetricFamily("gateway_usage_journals_stuck", stuck, state.journals_stuck)
        yield _counter("gateway_usage_lost_records", "Records that a journal had and has no more.", (), lost)

    def _comparisons(self) -> Iterator[Metric]:
        compared = GaugeMetricFamily(
            "gateway_usage_reconcile_last_success_timestamp_seconds",
            "When the account was last compared: with its sums by any replica, with the archive by this one.",
            labels=("against",),
        )
        differences = GaugeMetricFamily(
            "gateway_usage_reconcile_differences", "How much differed when it was compared.", labels=("against",)
        )
        for against, (at, count) in self._state.comparisons.items():
            compared.add_metric((against,), at)
            differences.add_metric((against,), count)
        yield from (compared, differences)

    def _sinks(self) -> Iterator[Metric]:
        lag = GaugeMetricFamily(
            "gateway_usage_sink_lag_seconds", "Age of what a sink has not taken yet.", labels=("sink",)
        )
        for sink, seconds in self._state.sink_lags.items():
            lag.add_metric((sink,), seconds)
        yield lag
        sent: dict[Labels, float] = {(sink,): n for sink, n in self._state.sinks_sent.items()}
        yield _counter("gateway_usage_sink_sent", "Usage records that a sink took.", ("sink",), sent)

    def _upstream_addresses(self) -> Iterator[Metric]:
        up = GaugeMetricFamily(
            "gateway_upstream_up", "The share of workers that use an address.", labels=("upstream", "address")
        )
        trying = GaugeMetricFamily(
            "gateway_upstream_half_open",
            "The share of workers that try a set-aside address with one request or connection.",
            labels=("upstream", "address"),
        )
        for labels, (using, tried, knowing) in sorted(self._metrics.upstream_addresses.items()):
            up.add_metric(labels, using / knowing)
            trying.add_metric(labels, tried / knowing)
        yield from (up, trying)

    def _processes(self) -> Iterator[Metric]:
        state = self._state
        yield _counter(
            "gateway_config_reload_failures",
            "Reloads that changed nothing, because of a fault.",
            (),
            {(): state.reload_failures},
        )
        yield GaugeMetricFamily(
            "gateway_config_last_reload_successful",
            "Whether the last reload was put in force.",
            int(state.last_reload_successful),
        )
        yield _gauge("gateway_worker_up", "Whether a worker serves.", "worker", state.workers)
        yield _gauge(
            "gateway_dependency_up",
            "Whether a dependency answered when it was asked last.",
            "dependency",
            state.dependencies,
        )
        info = GaugeMetricFamily("gateway_build_info", "Which build this is.", labels=("version", "python"))
        info.add_metric((__version__, platform.python_version()), 1)
        yield info


def _counter(name: str, text: str, labels: Labels, rows: Mapping[Labels, float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in sorted(rows.items()):
        family.add_metric(values, count)
    return family


def _gauge(name: str, text: str, label: str, rows: Mapping[str, bool]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=(label,))
    for value, up in rows.items():
        family.add_metric((value,), int(up))
    return family


def _histogram(name: str, text: str, label: str, rows: Mapping[str, Histogram]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=(label,))
    bounds = [*map(str, SECONDS), "+Inf"]
    for value, histogram in sorted(rows.items()):
        counts = list(accumulate(histogram.counts))
        family.add_metric((value,), list(zip(bounds, counts, strict=True)), histogram.total)
    return family


def render(metrics: Metrics, state: State) -> bytes:
    """The whole page, the parent's own process figures included."""
    registry = CollectorRegistry()
    registry.register(_Gathered(metrics, state))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return generate_latest(registry)
