"""Alerts and dashboard speak of metrics, labels and values that the gateway really has.

A query for a name that does not exist is no error to Prometheus: it is silence, and so is an alert on it.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry import exposition
from gateway.telemetry.metrics import Metrics
from policies.account.usage import AudioSource, Outcome
from policies.http.verdict import Refusal
from tests.deploy import files

RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(files.text("config/prometheus/alerts.yml"))["groups"] for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads(files.text("config/grafana/dashboards/gateway.json"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]

QUERIES = [(rule["alert"], rule["expr"]) for rule in RULES] + [
    (f"{panel['title']} {target['refId']}", target["expr"]) for panel in PANELS for target in panel.get("targets", ())
]
SCRAPED = {"job", "instance"}
"""Labels that Prometheus adds."""


def exposed() -> dict[str, set[str]]:
    """Every sample name that a scrape can hold, with its labels."""
    metrics = Metrics()
    metrics.route("r").requests[("GET", 200, Outcome.OK)] += 1
    metrics.route("r").audio_ms[AudioSource.WALKED] += 1
    metrics.upstream["default"].observe(1.0)
    metrics.upstream_addresses[("default", "10.0.0.1:9300")] = [1, 0, 1]
    for attribute, _, _, labels in exposition._COUNTERS:
        getattr(metrics, attribute)[("x",) * len(labels)] += 1
    state = exposition.State(
        workers={"1": True}, sink_lags={"x": 0.0}, sinks_sent={"x": 0}, comparisons={"sums": (0.0, 0)}
    )
    page = exposition.render(metrics, state)
    found: dict[str, set[str]] = {"up": set()}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


EXPOSED = exposed()
VALUES = {
    "outcome": set(Outcome),
    "source": set(AudioSource),
    "code": {refusal.code for refusal in Refusal},
    "kind": {refusal.code for refusal in Refusal},
    "job": {"tahoe-gateway"},
    "against": {"sums", "archive"},
}


class Selector(NamedTuple):
    """One metric in a query, and what its labels must be: (label, value), alternatives apart."""

    metric: str
    matchers: list[tuple[str, str]]


_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_NOT_METRICS = {"and", "or", "unless", "offset", "bool"}


def selectors(expr: str) -> Iterator[Selector]:
    """Every selector of a PromQL expression, with or without braces."""
    for metric, braces in re.findall(r"([a-zA-Z_:]\w*)\s*\{([^}]*)\}", expr):
        yield Selector(metric, [(k, v) for k, values in _MATCHER.findall(braces) for v in values.split("|")])
    bare = re.sub(r"[a-zA-Z_:]\w*\s*\{[^}]*\}|\[[^\]]*\]", " ", _GROUPING.sub(" ", expr))
    for name in re.findall(r"\b([a-zA-Z_:][\w:]*)\b(?!\s*\()", bare):
        if name not in _NOT_METRICS:
            yield Selector(name, [])


def test_a_query_is_taken_apart_as_prometheus_does() -> None:
    """The reader itself, on a query with everything in it."""
    expr = 'sum by (a, le) (rate(m_total{x="1",y=~"a|b"}[5m])) / on (a) count(n) > 0.5 unless o offset 10m or vector(0)'
    assert list(selectors(expr)) == [
        Selector("m_total", [("x", "1"), ("y", "a"), ("y", "b")]),
        Selector("n", []),
        Selector("o", []),
    ]


@pytest.mark.parametrize(("where", "expr"), QUERIES, ids=[where for where, _ in QUERIES])
def test_every_name_in_a_query_is_one_that_the_gateway_exposes(where: str, expr: str) -> None:
    """Metric, labels, and the values of those labels whose values are a closed list."""
    found = list(selectors(expr))
    assert found, where
    for metric, matchers in found:
        assert metric in EXPOSED
        for label, value in matchers:
            assert label in EXPOSED[metric] | SCRAPED
            assert value.startswith("$") or value in VALUES.get(label, {value})
    labels = set().union(*(EXPOSED[metric] for metric, _ in found)) | SCRAPED
    for grouped in _GROUPING.findall(expr):
        assert {label.strip() for label in grouped.split(",")} <= labels


def test_the_dashboards_variables_are_filled_from_metrics_that_exist() -> None:
    """And every variable that a query uses is declared."""
    declared = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            inside, _, label = variable["query"]["query"].removeprefix("label_values(").rstrip(")").rpartition(",")
            (selector, *_) = selectors(inside if "{" in inside else f"{inside}{{}}")
            assert label.strip() in EXPOSED[selector.metric] | SCRAPED
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD))) - {"__rate_interval", "__all"}
    assert used == declared


def test_every_alert_says_what_happens_what_to_do_and_how_urgent_it_is() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
    for rule in RULES:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert set(rule["annotations"]) == {"summary", "description"}


def test_every_metric_of_the_contract_is_on_the_dashboard() -> None:
    """What is counted is also shown; the histograms by their buckets."""
    shown = {metric for _, expr in QUERIES for metric, _ in selectors(expr)}
    ours = {
        name for name in EXPOSED if name.startswith("gateway_") and not name.endswith(("_created", "_sum", "_count"))
    }
    assert ours - shown == set()


def test_panels_have_ids_of_their_own_and_do_not_lie_on_each_other() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    taken = [
        (column, line)
        for position in (panel["gridPos"] for panel in PANELS)
        for column in range(position["x"], position["x"] + position["w"])
        for line in range(position["y"], position["y"] + position["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(column for column, _ in taken) == 23
