"""`gateway limits`: what is set is what is shown, and what the gateways are told."""

import pytest
from redis import Redis

from storage.ports import Invalidation
from tests.gateway.cli.conftest import Operator
from tests.gateway.cli.listening import invalidations

NOTHING = {
    "tenant": "acme", "requests": None, "default_requests": None, "time_zone": "UTC", "anchor_day": 1, "keys": [],
    "limits": [],
}  # fmt: skip


def test_a_tenants_rate_is_set_replaced_and_lifted(acme: Operator) -> None:
    assert acme.json("limits", "show", "--tenant", "acme") == NOTHING
    done = acme.run("limits", "set", "--tenant", "acme", "--requests", "600/m")
    assert done.stdout == "Tenant acme: requests 600/m.\n"
    assert acme.table("limits", "show", "--tenant", "acme")[1][:5] == ["tenant", "acme", "requests", "600/m", "0 (0 %)"]
    acme.run("limits", "set", "--tenant", "acme", "--requests", "5/s")
    assert acme.json("limits", "show", "--tenant", "acme")["requests"] == "5/s"
    lifted = acme.json("limits", "set", "--tenant", "acme", "--requests", "none")
    assert lifted == {"tenant": "acme", "key": None, "requests": None}
    assert acme.json("limits", "show", "--tenant", "acme") == NOTHING


def test_a_key_has_a_rate_of_its_own(acme: Operator) -> None:
    key = acme.json("key", "create", "--tenant", "acme", "--name", "ci")["id"]
    acme.run("limits", "set", "--tenant", "acme", "--key", key, "--requests", "10/h")
    shown = acme.json("limits", "show", "--tenant", "acme")
    assert (shown["requests"], shown["keys"]) == (None, [{"id": key, "name": "ci", "requests": "10/h"}])
    assert acme.table("limits", "show", "--tenant", "acme")[2][:4] == [key, "ci", "requests", "10/h"]
    acme.environment["GATEWAY_REDIS_URL"] = "redis://127.0.0.1:1"
    assert (
        "What is in use is not known: limits cannot be counted: Redis"
        in acme.run("limits", "show", "--tenant", "acme").stderr
    )


def test_the_default_is_shown_where_it_holds(acme: Operator) -> None:
    acme.environment["GATEWAY_DEFAULT_REQUESTS"] = "60/m"
    assert acme.table("limits", "show", "--tenant", "acme")[1][:4] == [
        "default",
        "setting default_requests",
        "requests",
        "60/m",
    ]
    assert acme.json("limits", "show", "--tenant", "acme")["default_requests"] == "60/m"


@pytest.mark.parametrize("of_key", [False, True])
def test_gateways_are_told(acme: Operator, *, of_key: bool) -> None:
    tenant_id = acme.json("tenant", "list")[0]["id"]
    key = acme.json("key", "create", "--tenant", "acme", "--name", "ci")["id"] if of_key else ""
    with invalidations(acme.environment["GATEWAY_REDIS_URL"]) as heard:
        acme.run("limits", "set", "--tenant", "acme", *(("--key", key) if key else ()), "--requests", "1/d")
        assert heard.get(timeout=30) == Invalidation(tenant_id=tenant_id, key_id=key)


def test_a_key_of_another_tenant_is_not_there(acme: Operator) -> None:
    acme.run("tenant", "create", "other")
    key = acme.json("key", "create", "--tenant", "other", "--name", "ci")["id"]
    refused = acme.run("limits", "set", "--tenant", "acme", "--key", key, "--requests", "1/s", status=1)
    assert "This tenant has no key" in refused.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("set", "--tenant", "acme"),
        ("set", "--requests", "1/s"),
        ("set", "--tenant", "acme", "--requests", "many"),
        ("set", "--tenant", "acme", "--requests", "0/s"),
        ("set", "--tenant", "acme", "--requests", "1/w"),
        ("show",),
        ("set", "--tenant", "acme", "--audio", "3600/h"),
        ("set", "--tenant", "acme", "--audio", "1h/week"),
        ("set", "--tenant", "acme", "--bytes", "1XB/h"),
        ("set", "--tenant", "acme", "--concurrency", "0"),
        ("set", "--tenant", "acme", "--streams", "5/m"),
        ("set", "--tenant", "acme", "--anchor-day", "32"),
        ("set", "--tenant", "acme", "--requests", "600/m", "--requests", "10/s"),
        ("set", "--tenant", "acme", "--user", "a@example.com", "--key", "key_x", "--streams", "5"),
    ],
)
def test_wrong_usage_is_found_before_any_store_is_asked(stranger: Operator, words: tuple[str, ...]) -> None:
    assert stranger.run("limits", *words, status=2).stdout == ""


def test_limits_of_every_kind_are_set_and_shown_together(acme: Operator) -> None:
    acme.run("user", "create", "--tenant", "acme", "--email", "ann@example.com", "--password-stdin", stdin="x" * 20)
    acme.run(
        "limits", "set", "--tenant", "acme", "--requests", "600/m", "--concurrency", "10", "--streams", "5",
        "--audio", "3600s/h", "--audio", "100h/month", "--bytes", "10GB/d", "--time-zone", "Europe/Berlin",
        "--anchor-day", "15",
    )  # fmt: skip
    acme.run("limits", "set", "--tenant", "acme", "--user", "ANN@example.com", "--audio", "1h/day", "--shadow")
    acme.run("limits", "set", "--tenant", "acme", "--route", "deepgram.stream", "--streams", "2")
    shown = acme.json("limits", "show", "--tenant", "acme")
    assert (shown["time_zone"], shown["anchor_day"], shown["requests"]) == ("Europe/Berlin", 15, "600/m")
    said = [(one["name"], one["limit"], one["used"], one["shadow"]) for one in shown["limits"]]
    assert said == [
        ("tenant-audio", "3600s/h", 0, False),
        ("tenant-audio-month", "100h/month", 0, False),
        ("tenant-bytes", "10GB/d", 0, False),
        ("tenant-concurrency", "10", 0, False),
        ("tenant-requests", "600/m", 0, False),
        ("tenant-streams", "5", 0, False),
        ("tenant-streams:deepgram.stream", "2", 0, False),
        ("user-audio-day", "1h/day", 0, True),
    ]
    month = shown["limits"][1]
    assert (month["forecast"], month["exhausted_at"]) in ((0, None), (None, None))  # in a month's first hours
    assert acme.table("limits", "show", "--tenant", "acme")[0][6] == "AT THIS PACE"
    assert acme.table("limits", "show", "--tenant", "acme")[8][1:5] == [
        "ann@example.com",
        "audio",
        "1h/day",
        "0 min (0 %)",
    ]
    whole_again = acme.table("limits", "show", "--tenant", "acme")[2][5]
    assert whole_again[11:] in ("22:00:00Z", "23:00:00Z"), "midnight in Berlin"


def test_a_window_and_a_calendar_period_are_two_limits_and_none_lifts_both(acme: Operator) -> None:
    def shown() -> list[str]:
        return [one["limit"] for one in acme.json("limits", "show", "--tenant", "acme")["limits"]]

    set_audio = ("limits", "set", "--tenant", "acme", "--audio")
    acme.run(*set_audio, "100h/month")
    with Redis.from_url(acme.environment["GATEWAY_REDIS_URL"]) as counters:
        (month,) = counters.keys(f"limit:{{{acme.json('tenant', 'list')[0]['id']}}}::audio:*")
        assert counters.hget(month, "used") == b"0", "as the account has it"
    acme.run(*set_audio, "60s/m")
    acme.run(*set_audio, "90s/m")
    assert [one["limit"] for one in acme.json("limits", "show", "--tenant", "acme")["limits"]] == [
        "90s/m",
        "100h/month",
    ]
    acme.run(*set_audio, "none", "--audio", "50h/month")
    assert [one["limit"] for one in acme.json("limits", "show", "--tenant", "acme")["limits"]] == ["50h/month"]
    assert acme.run(*set_audio, "none").stdout == "Tenant acme: audio none.\n"
    assert acme.json("limits", "show", "--tenant", "acme")["limits"] == []


def test_a_limit_on_a_route_that_is_not_there_can_only_be_lifted(acme: Operator) -> None:
    """It would hold for nothing, and look as if it did."""
    refused = acme.run("limits", "set", "--tenant", "acme", "--route", "nope", "--requests", "5/m", status=2)
    assert "there is no route 'nope'" in refused.stderr
    for route, option, amount, why in (
        ("deepgram.listen", "--streams", "2", "opens no streams"),
        ("deepgram.stream", "--concurrency", "2", "opens streams"),
        ("openai.models", "--audio", "1h/d", "has no audio"),
    ):
        useless = acme.run("limits", "set", "--tenant", "acme", "--route", route, option, amount, status=2)
        assert f"It would limit nothing: the route {route} {why}" in useless.stderr
    assert acme.json("limits", "show", "--tenant", "acme")["limits"] == []
    acme.run("limits", "set", "--tenant", "acme", "--route", "nope", "--requests", "none")


def test_a_time_zone_that_is_none_is_refused(acme: Operator) -> None:
    refused = acme.run("limits", "set", "--tenant", "acme", "--time-zone", "Mars/Olympus", status=2)
    assert "is not a time zone" in refused.stderr
