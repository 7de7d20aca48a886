"""Onboarding, plans, tenants that leave, keys that change: by commands, asking before what cannot be undone."""

import click.testing
import pytest
from redis import Redis

from storage.ports import Invalidation
from tests.gateway.cli.conftest import Operator
from tests.gateway.cli.listening import invalidations

OPEN = "openai.transcriptions"


@pytest.fixture
def at_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person types: the runner's standard input says that it is a terminal."""
    monkeypatch.setattr(click.testing._NamedTextIOWrapper, "isatty", lambda _: True, raising=False)


def test_onboarding_is_one_command(operator: Operator) -> None:
    """A key that is there, and the owner's link, as no mail is configured."""
    operator.run("plan", "create", "gold", "--requests", "600/m")
    words = ("tenant", "onboard", "acme", "--owner", "Ann@Example.com", "--plan", "gold", "--key", "first")
    made = operator.json(*words)
    assert (made["tenant"]["slug"], made["tenant"]["plan"]) == ("acme", "gold")
    assert made["key"]["key"].startswith("thk_live_")
    assert "/auth/invite/" in made["invitation"]["link"]
    assert [key["id"] for key in operator.json("key", "list", "--tenant", "acme")] == [made["key"]["id"]]
    assert "There is a tenant acme already" in operator.run(*words, status=1).stderr


def test_onboarding_leaves_nothing_of_what_could_not_be_whole(operator: Operator) -> None:
    words = ("tenant", "onboard", "acme", "--owner", "a@example.com", "--plan", "nothing")
    assert "no plan 'nothing'" in operator.run(*words, status=1).stderr
    assert operator.json("tenant", "list") == []
    result = operator.run(*words[:-2])
    assert "/auth/invite/" in result.stdout
    assert "Give this link to a@example.com" in result.stderr


def test_a_plan_is_made_set_and_given_and_the_gateways_are_told(acme: Operator) -> None:
    made = acme.json("plan", "create", "gold", "--requests", "600/m", "--audio", "100h/month", "--route", OPEN)
    assert made["limits"] == {"requests": ["600/m"], "audio": ["100h/month"]}
    (tenant,) = acme.json("tenant", "list")
    with invalidations(acme.environment["GATEWAY_REDIS_URL"]) as heard:
        result = acme.run("plan", "assign", "gold", "acme")
        assert result.stdout == "Tenant acme is on plan gold.\n"
        with Redis.from_url(acme.environment["GATEWAY_REDIS_URL"]) as counters:
            (month,) = counters.keys(f"limit:{{{tenant['id']}}}::audio:*")
            assert counters.hget(month, "used") == b"0", "as the account has it"
        changed = acme.json("plan", "set", "gold", "--requests", "none", "--route", "none", "--note", "n")
        assert [heard.get(timeout=30) for _ in range(2)] == [Invalidation(tenant_id=tenant["id"])] * 2
    assert (changed["limits"], changed["routes"], changed["note"]) == ({"audio": ["100h/month"]}, [], "n")
    assert [row[:5] for row in acme.table("plan", "list")[1:]] == [["gold", "audio 100h/month", "all", "-", "1"]]
    limits = acme.json("limits", "show", "--tenant", "acme")["limits"]
    assert [(limit["limit"], limit["plan"]) for limit in limits] == [("100h/month", "gold")]
    assert "Tenants are on the plan" in acme.run("plan", "delete", "gold", status=1).stderr
    assert acme.json("plan", "assign", "none", "acme")["plan"] is None
    acme.run("plan", "delete", "gold")
    assert acme.json("plan", "list") == []


def test_a_plan_of_unknown_routes_would_be_a_lie(operator: Operator) -> None:
    assert OPEN in operator.run("plan", "create", "gold", "--route", "openai.transcription", status=2).stderr
    operator.run("plan", "set", "gold", status=2)


def test_a_tenant_leaves_is_restored_and_is_gone(acme: Operator) -> None:
    with invalidations(acme.environment["GATEWAY_REDIS_URL"]) as heard:
        result = acme.run("tenant", "delete", "acme")
        (tenant,) = acme.json("tenant", "list")
        assert heard.get(timeout=30) == Invalidation(tenant_id=tenant["id"])
    assert "gateway tenant restore acme" in result.stderr
    assert tenant["status"] == "deleting"
    assert "being deleted" in acme.run("tenant", "resume", "acme", status=1).stderr
    assert acme.json("tenant", "purge") == []
    assert acme.run("tenant", "restore", "acme").stdout == "Tenant acme is active.\n"
    acme.run("tenant", "delete", "acme", "--grace", "0s")
    assert [each["slug"] for each in acme.json("tenant", "purge", "--dry-run")] == ["acme"]
    assert [each["slug"] for each in acme.json("tenant", "purge")] == ["acme"]
    assert acme.json("tenant", "list") == []
    assert acme.json("tenant", "create", "acme")["id"] != tenant["id"]
    trail = acme.json("audit", "list", "--tenant", tenant["id"])
    assert trail[0]["action"] == "tenant.purged", "what stays is found by its id"
    assert acme.json("audit", "list", "--tenant", "acme")[0]["action"] == "tenant.created"
    assert acme.json("usage", "report", "--tenant", tenant["id"])["requests"] == 0


def test_a_member_is_removed_with_its_keys(acme: Operator) -> None:
    made = acme.json("user", "create", "--tenant", "acme", "--email", "ann@example.com")
    acme.run("user", "create", "--tenant", "acme", "--email", "own@example.com", "--role", "owner")
    acme.run("key", "create", "--tenant", "acme", "--name", "k", "--user", "ann@example.com")
    with invalidations(acme.environment["GATEWAY_REDIS_URL"]) as heard:
        acme.run("user", "remove", "--tenant", "acme", "--email", "ann@example.com")
        assert heard.get(timeout=30) == Invalidation(user_id=made["id"])
    assert [row["status"] for row in acme.json("key", "list", "--tenant", "acme")] == ["revoked"]
    assert "last owner" in acme.run("user", "remove", "--tenant", "acme", "--email", "own@example.com", status=1).stderr
    acme.run("user", "remove", "--tenant", "acme", "--email", "ann@example.com", status=1)


def test_a_key_is_bound_changed_and_rests(acme: Operator) -> None:
    made = acme.json(
        "key", "create", "--tenant", "acme", "--name", "k", "--network", "10.0.0.0/8", "--route", OPEN,
        "--metadata", "team=a=b",
    )  # fmt: skip

    def key() -> dict[str, object]:
        (row,) = acme.json("key", "list", "--tenant", "acme")
        return row

    assert (key()["networks"], key()["routes"], key()["metadata"]) == (["10.0.0.0/8"], [OPEN], {"team": "a=b"})
    assert acme.run("key", "disable", made["id"]).stdout.endswith("is disabled.\n")
    assert key()["status"] == "disabled"
    acme.run("key", "enable", made["id"])
    changed = acme.json(
        "key", "set", made["id"], "--name", "other", "--network", "none", "--route", "none", "--metadata", "none",
        "--scope", "keys:read", "--expires", "10d",
    )  # fmt: skip
    assert changed == key()
    assert (changed["name"], changed["networks"], changed["routes"], changed["metadata"], changed["scopes"]) == (
        "other", [], [], {}, ["keys:read"],
    )  # fmt: skip
    acme.json("key", "create", "--tenant", "acme", "--name", "for ever")
    expiring = acme.json("key", "list", "--tenant", "acme", "--expiring", "30d")
    assert [row["id"] for row in expiring] == [made["id"]]
    assert acme.json("key", "list", "--tenant", "acme", "--expiring", "5d") == []
    assert acme.json("key", "list", "--tenant", "acme", "--unused", "1d") == []
    assert len(acme.json("key", "list", "--tenant", "acme", "--unused", "0s")) == 2


@pytest.mark.parametrize(
    "words",
    [
        ("key", "set", "key_x"),
        ("key", "set", "key_x", "--network", "everywhere"),
        ("key", "set", "key_x", "--metadata", "word"),
        ("key", "list", "--tenant", "acme", "--unused", "soon"),
        ("plan", "create", "Gold"),
        ("plan", "set", "gold"),
        ("plan", "create", "gold", "--requests", "many"),
        ("tenant", "onboard", "acme"),
        ("tenant", "onboard", "acme", "--owner", "nobody"),
        ("tenant", "delete"),
    ],
)
def test_wrong_usage_is_found_before_any_store_is_asked(stranger: Operator, words: tuple[str, ...]) -> None:
    assert stranger.run(*words, status=2).stdout == ""


@pytest.mark.usefixtures("at_terminal")
@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_a_person_is_asked_and_can_think_better_of_it(acme: Operator, answer: str) -> None:
    made = acme.json("key", "create", "--tenant", "acme", "--name", "k")
    for words in (("key", "revoke", made["id"]), ("tenant", "delete", "acme")):
        assert "?" in acme.run(*words, stdin=answer, status=1).stderr
    assert acme.json("key", "list", "--tenant", "acme")[0]["status"] == "active"
    acme.run("tenant", "delete", "acme", stdin="y\n")
    acme.run("tenant", "restore", "acme")
    acme.run("key", "revoke", made["id"], "--yes")
    assert acme.json("key", "list", "--tenant", "acme")[0]["status"] == "revoked"
