"""The metrics page: the names and labels that dashboards rely on, and figures that add up over processes."""

import json
import math
import re
from collections import defaultdict
from pathlib import Path

import orjson
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.exposition import CONTENT_TYPE, State, render
from gateway.telemetry.metrics import COUNTERS, SECONDS, Metrics
from gateway.telemetry.tenants import TenantFigures
from policies.account.usage import AudioSource, Outcome
from policies.identity.principals import Method

CONTRACT = {
    "gateway_requests_total": {"route", "method", "status", "outcome"},
    "gateway_request_duration_seconds_bucket": {"route", "le"},
    "gateway_proxy_overhead_seconds_bucket": {"route", "le"},
    "gateway_upstream_duration_seconds_bucket": {"upstream", "le"},
    "gateway_denials_total": {"code"},
    "gateway_ratelimit_decisions_total": {"limit", "decision"},
    "gateway_fail_open_total": {"what"},
    "gateway_audio_seconds_total": {"route", "source"},
    "gateway_bytes_total": {"route", "direction"},
    "gateway_inflight_requests": set(),
    "gateway_open_streams": set(),
    "gateway_usage_journal_pending": set(),
    "gateway_usage_shipped_total": set(),
    "gateway_auth_total": {"method", "result"},
    "gateway_build_info": {"version", "python"},
    "gateway_upstream_errors_total": {"upstream", "kind"},
    "gateway_upstream_ejections_total": {"upstream", "address"},
    "gateway_upstream_half_open": {"upstream", "address"},
    "gateway_upstream_retries_total": {"upstream", "why"},
    "gateway_upstream_up": {"upstream", "address"},
    "gateway_usage_journal_full_total": {"what"},
    "gateway_refused_connections_total": {"limit"},
    "gateway_log_lines_lost_total": {"log"},
    "gateway_config_reload_failures_total": set(),
    "gateway_config_last_reload_successful": set(),
    "gateway_connections": set(),
    "gateway_connections_most": set(),
    "gateway_usage_journals_stuck": set(),
    "gateway_usage_lost_bytes_total": set(),
    "gateway_usage_lost_records_total": set(),
    "gateway_usage_reconcile_last_success_timestamp_seconds": {"against"},
    "gateway_usage_reconcile_differences": {"against"},
    "gateway_usage_sink_lag_seconds": {"sink"},
    "gateway_usage_sink_sent_total": {"sink"},
    "gateway_worker_up": {"worker"},
    "gateway_dependency_up": {"dependency"},
    "gateway_stream_closes_total": {"code", "by"},
    "gateway_limit_events_total": {"limit", "per_cent"},
    "gateway_jobs_total": {"kind", "event"},
    "gateway_audio_unmeasured_total": {"route"},
    "gateway_audio_credited_seconds_total": {"route"},
    "gateway_mail_total": {"result"},
    "gateway_tenant_requests_total": {"tenant"},
    "gateway_tenant_audio_seconds_total": {"tenant"},
}
PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
SHARES = (
    "gateway_worker_up", "gateway_dependency_up", "gateway_build_info",
    "gateway_upstream_up", "gateway_upstream_half_open",
)  # fmt: skip
PARENTS = re.compile("_usage_|_config_|_tenant_")
"""What the parent knows by itself, and does not add up."""
TENANTS = TenantFigures(lambda: 1)
TENANTS.requests["ten_1"], TENANTS.audio_ms["ten_1"] = 8, 8_500
STATE = State(
    tenants=TENANTS,
    sink_lags={"http": 1.5},
    sinks_sent={"http": 6},
    journal_pending=3,
    shipped=4,
    lost_bytes=5,
    comparisons={"sums": (1.0, 2)},
    workers={"1": True, "2": False},
    dependencies={"redis": False},
)

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


def samples(metrics: Metrics, state: State = STATE) -> Samples:
    """By name, then by labels."""
    found: Samples = defaultdict(dict)
    for family in text_string_to_metric_families(render(metrics, state).decode()):
        for sample in family.samples:
            found[sample.name][tuple(sorted(sample.labels.items()))] = sample.value
    return found


def busy() -> Metrics:
    """One of everything."""
    metrics = Metrics()
    figures = metrics.route("openai.transcriptions")
    figures.requests[("POST", 200, Outcome.OK)] += 7
    for histogram in (figures.duration, figures.overhead, metrics.upstream["default"]):
        histogram.observe(0.02)
    figures.bytes_in, figures.bytes_out = 100, 20
    figures.audio_ms[AudioSource.WALKED] += 1_500
    metrics.denials[("missing_credential",)] += 1
    metrics.ratelimit[("tenant-requests", "refused")] += 2
    metrics.fail_open[("ratelimit",)] += 1
    metrics.auth[(Method.API_KEY, "ok")] += 3
    metrics.upstream_errors[("default", "timeout")] += 1
    metrics.upstream_ejections[("default", "10.0.0.1:9300")] += 1
    metrics.upstream_retries[("default", "unsent")] += 1
    metrics.upstream_addresses[("default", "10.0.0.1:9300")] = [1, 1, 2]
    metrics.journal_full[("record",)] += 1
    metrics.stream_closes[("1000", "client")] += 1
    metrics.limit_events[("tenant-audio-month", "80")] += 1
    metrics.jobs[("assemblyai", "made")] += 1
    metrics.unmeasured[("deepgram.listen",)] += 1
    metrics.credited_s[("assemblyai.transcripts",)] += 1
    metrics.inflight, metrics.open_streams = 2, 1
    return metrics


def test_every_name_and_label_of_the_contract_is_there() -> None:
    found = samples(busy())
    for name, labels in CONTRACT.items():
        assert found[name], name
        for row in found[name]:
            assert {label for label, _ in row} == labels, name


def test_nothing_else_is_called_ours() -> None:
    """A name that appears is one that somebody relies on."""
    ours = {name.removesuffix("_sum").removesuffix("_count") for name in samples(busy()) if name.startswith("gateway_")}
    assert ours <= set(CONTRACT) | {name.removesuffix("_bucket") for name in CONTRACT}


def test_the_page_for_operators_lists_every_metric_as_it_is() -> None:
    rows = re.findall(r"^\| `(gateway_\w+)` \|([^|]*)\| ([^|]+) \|", PAGE.read_text(), re.MULTILINE)
    listed = {name: (set(re.findall(r"`(\w+)`", labels)), text) for name, labels, text in rows}
    text = dict(re.findall(r"^# HELP (gateway_\w+) (.+)$", render(busy(), STATE).decode(), re.MULTILINE))
    assert len(listed) == len(rows)
    assert listed == {
        name: (labels - {"le"}, text[name])
        for name, labels in ((name.removesuffix("_bucket"), labels) for name, labels in CONTRACT.items())
    }


def test_the_figures_are_the_ones_that_were_counted() -> None:
    found = samples(busy())
    one = {name: next(iter(rows.values())) for name, rows in found.items() if len(rows) == 1}
    assert one["gateway_requests_total"] == 7
    assert one["gateway_audio_seconds_total"] == 1.5
    assert one["gateway_ratelimit_decisions_total"] == 2
    assert (one["gateway_inflight_requests"], one["gateway_open_streams"]) == (2, 1)
    assert (one["gateway_usage_journal_pending"], one["gateway_usage_shipped_total"]) == (3, 4)
    assert one["gateway_usage_lost_bytes_total"] == 5
    assert found["gateway_bytes_total"] == {
        (("direction", "in"), ("route", "openai.transcriptions")): 100,
        (("direction", "out"), ("route", "openai.transcriptions")): 20,
    }
    assert found["gateway_worker_up"] == {(("worker", "1"),): 1, (("worker", "2"),): 0}
    assert found["gateway_dependency_up"] == {(("dependency", "redis"),): 0}
    assert found["gateway_auth_total"] == {(("method", "api_key"), ("result", "ok")): 3}


def test_an_idle_gateway_has_a_page_too() -> None:
    found = samples(Metrics(), State())
    assert found["gateway_inflight_requests"] == {(): 0}
    assert found["gateway_usage_shipped_total"] == {(): 0}
    assert found["process_start_time_seconds"]
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")


@given(seconds=st.lists(st.one_of(st.floats(0, 1_000), st.sampled_from(SECONDS)), max_size=30))
def test_a_histogram_is_cumulative_and_ends_with_all(seconds: list[float]) -> None:
    """A value on a bound counts below it, as ``le`` says."""
    metrics = Metrics()
    for value in seconds:
        metrics.upstream["default"].observe(value)
    found = samples(metrics)
    if not seconds:
        assert not found["gateway_upstream_duration_seconds_bucket"]
        return
    buckets = {float(dict(row)["le"]): n for row, n in found["gateway_upstream_duration_seconds_bucket"].items()}
    assert sorted(buckets) == [*SECONDS, math.inf]
    for bound, n in buckets.items():
        assert n == sum(value <= bound for value in seconds)
    (total,) = found["gateway_upstream_duration_seconds_sum"].values()
    assert math.isclose(total, sum(seconds), abs_tol=1e-6)
    assert list(found["gateway_upstream_duration_seconds_count"].values()) == [len(seconds)]


_labels = st.text(st.characters(codec="utf-8"), max_size=6)


@given(rows=st.dictionaries(_labels, st.integers(1, 5), max_size=4))
def test_no_label_leaves_its_line(rows: dict[str, int]) -> None:
    """Quotes, backslashes and line ends are escaped; the page reads back as it was counted."""
    metrics = Metrics()
    for label, n in rows.items():
        metrics.denials[(label,)] += n
    assert samples(metrics)["gateway_denials_total"] == {(("code", label),): n for label, n in rows.items()}


def merged(*parts: tuple[dict[str, object], bool]) -> Metrics:
    whole = Metrics()
    for snapshot, alive in parts:
        whole.merge(snapshot, alive=alive)
    return whole


def test_a_snapshot_travels_as_json_and_adds_up() -> None:
    travelled = orjson.loads(orjson.dumps(busy().snapshot(), option=orjson.OPT_NON_STR_KEYS))
    assert json.loads(json.dumps(busy().snapshot())) == travelled
    once, twice = samples(merged((travelled, True))), samples(merged((travelled, True), (busy().snapshot(), True)))
    assert {n: rows for n, rows in once.items() if n.startswith("gateway")} == {
        n: rows for n, rows in samples(busy()).items() if n.startswith("gateway")
    }
    for name in CONTRACT:
        if name not in SHARES and not PARENTS.search(name):
            assert twice[name] == {row: 2 * n for row, n in once[name].items()}, name


def test_a_dead_process_keeps_its_counters_and_loses_its_gauges() -> None:
    found = samples(merged((busy().snapshot(), False)))
    assert list(found["gateway_requests_total"].values()) == [7]
    assert (found["gateway_inflight_requests"], found["gateway_open_streams"]) == ({(): 0}, {(): 0})


def test_a_snapshot_is_a_copy_that_later_requests_do_not_change() -> None:
    """In one process the parent merges the worker's own figures: they must not be the very same lists."""
    metrics = busy()
    first = merged((metrics.snapshot(), True))
    before = samples(first)
    metrics.route("openai.transcriptions").duration.observe(1.0)
    metrics.denials[("missing_credential",)] += 1
    assert samples(first)["gateway_denials_total"] == before["gateway_denials_total"]
    again = merged((metrics.snapshot(), True))
    assert (
        samples(first)["gateway_request_duration_seconds_bucket"] == before["gateway_request_duration_seconds_bucket"]
    )
    assert samples(again)["gateway_denials_total"] != before["gateway_denials_total"]


def test_every_counter_has_its_place_on_the_page() -> None:
    metrics = Metrics()
    for name in COUNTERS:
        two = name in ("ratelimit", "auth") or name.startswith("upstream_")
        getattr(metrics, name)[("a", "b") if two else ("a",)] += 9
    found = {name: rows for name, rows in samples(metrics).items() if name.startswith("gateway_")}
    assert sum(9 in rows.values() for rows in found.values()) == len(COUNTERS)
