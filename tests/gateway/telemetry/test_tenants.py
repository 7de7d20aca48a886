"""Figures by tenant: none unless asked for, never more labels than that, and nothing of them is ever taken back."""

from gateway.telemetry.exposition import State, render
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tenants import OTHERS, TenantFigures
from policies.account.usage import INTERIM, AudioSource, Measured, Outcome, UsageRecord
from storage.usage_rows import encode


def row(tenant: str, audio_ms: int = 0, status: int = 200) -> bytes:
    measured = Measured(audio_ms=audio_ms, source=AudioSource.WALKED)
    return encode(
        UsageRecord(
            tenant_id=tenant, key_id="", user_id="", route="r", outcome=Outcome.OK, event_id="e", method="POST",
            code="", request_id="q", status=status, bytes_in=1, bytes_out=1, duration_us=1, upstream_us=1, attempt=1,
            ended_ms=0, measured=measured,
        )
    )  # fmt: skip


def page(figures: TenantFigures) -> str:
    return render(Metrics(), State(tenants=figures)).decode()


def test_no_tenant_is_named_unless_it_is_asked_for() -> None:
    """A label for each customer is a cost, and tells who the customers are to whoever may read the page."""
    figures = TenantFigures(lambda: 0)
    figures.count([row("ten_a", 1_000)])
    assert "ten_a" not in page(figures)
    assert "gateway_tenant_" not in page(figures)


def test_the_first_tenants_have_their_own_figures_and_all_others_share_one() -> None:
    """However many come after; who has figures keeps them, so no counter falls."""
    figures = TenantFigures(lambda: 2)
    figures.count([row("ten_a", 1_500), row("ten_b"), row("ten_c", 2_000)])
    figures.count([*(row(f"ten_{number}") for number in range(1_000)), row("ten_a"), row("ten_b", 500)])
    assert figures.requests == {"ten_a": 2, "ten_b": 2, OTHERS: 1_001}
    said = page(figures)
    assert 'gateway_tenant_requests_total{tenant="ten_a"} 2.0' in said
    assert 'gateway_tenant_audio_seconds_total{tenant="ten_b"} 0.5' in said
    assert 'gateway_tenant_audio_seconds_total{tenant="(others)"} 2.0' in said
    assert said.count("gateway_tenant_requests_total{") == 3


def test_what_of_a_stream_has_passed_so_far_is_audio_and_no_request() -> None:
    figures = TenantFigures(lambda: 2)
    figures.count([row("ten_a", 5_000, INTERIM), row("ten_a", 1_000, 101)])
    assert (figures.requests, figures.audio_ms) == ({"ten_a": 1}, {"ten_a": 6_000})


def test_the_bound_can_be_raised_while_it_runs() -> None:
    """At a reload."""
    most = [1]
    figures = TenantFigures(lambda: most[0])
    figures.count([row("ten_a"), row("ten_b")])
    most[0] = 2
    figures.count([row("ten_b"), row("ten_c")])
    assert figures.requests == {"ten_a": 1, OTHERS: 2, "ten_b": 1}
