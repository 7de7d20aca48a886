"""`gateway tenant`: what an operator does to a tenant, the registry knows and the gateways are told."""

import pytest

from storage.ports import Invalidation
from tests.gateway.cli.conftest import Operator
from tests.gateway.cli.listening import invalidations


def test_create_says_what_was_made_and_what_comes_next(operator: Operator) -> None:
    result = operator.run("tenant", "create", "acme", "--name", "Acme Ltd.")
    assert result.stdout == "Tenant acme made.\n"
    assert "gateway key create --tenant acme" in result.stderr
    (row,) = operator.json("tenant", "list")
    assert (row["slug"], row["name"], row["status"]) == ("acme", "Acme Ltd.", "active")


def test_create_as_json_is_the_tenant(operator: Operator) -> None:
    made = operator.json("tenant", "create", "acme")
    assert made == operator.json("tenant", "list")[0]
    assert (made["name"], made["plan"], made["delete_after"]) == ("acme", None, None)
    assert sorted(made) == ["created_at", "delete_after", "id", "name", "plan", "slug", "status"]


def test_a_slug_is_taken_once(operator: Operator) -> None:
    operator.run("tenant", "create", "acme")
    assert "There is a tenant acme already" in operator.run("tenant", "create", "acme", status=1).stderr


def test_list_is_a_table_by_slug(operator: Operator) -> None:
    assert operator.table("tenant", "list") == [["SLUG", "NAME", "STATUS", "CREATED", "ID", "PLAN", "DELETED AFTER"]]
    for slug in ("b", "a"):
        operator.run("tenant", "create", slug)
    assert [row[0] for row in operator.table("tenant", "list")] == ["SLUG", "a", "b"]


@pytest.mark.parametrize(("change", "status"), [("suspend", "suspended"), ("resume", "active")])
def test_a_change_of_status_is_stored_and_told(operator: Operator, change: str, status: str) -> None:
    tenant = operator.json("tenant", "create", "acme")
    with invalidations(operator.environment["GATEWAY_REDIS_URL"]) as heard:
        result = operator.run("tenant", change, "acme")
        assert heard.get(timeout=30) == Invalidation(tenant_id=tenant["id"])
    assert result.stdout.startswith(f"Tenant acme is {status}")
    assert result.stderr == ""
    assert operator.json("tenant", "list")[0]["status"] == status
    assert operator.json("tenant", change, "acme")["status"] == status


def test_a_route_is_denied_and_allowed_again(operator: Operator) -> None:
    tenant = operator.json("tenant", "create", "acme")
    with invalidations(operator.environment["GATEWAY_REDIS_URL"]) as heard:
        result = operator.run("tenant", "route", "acme", "openai.transcriptions", "--deny")
        assert heard.get(timeout=30) == Invalidation(tenant_id=tenant["id"])
    assert result.stdout == "Tenant acme may not use openai.transcriptions.\n"
    assert operator.json("tenant", "route", "acme") == {"tenant": "acme", "denied_routes": ["openai.transcriptions"]}
    assert operator.table("tenant", "route", "acme") == [["DENIED"], ["openai.transcriptions"]]
    allowed = operator.json("tenant", "route", "acme", "openai.transcriptions", "--allow")
    assert allowed == {"tenant": "acme", "denied_routes": []}


def test_a_prohibition_of_an_unknown_route_would_be_a_lie(operator: Operator) -> None:
    operator.run("tenant", "create", "acme")
    refused = operator.run("tenant", "route", "acme", "openai.transcription", "--deny", status=2)
    assert "openai.transcriptions" in refused.stderr
    assert operator.json("tenant", "route", "acme")["denied_routes"] == []


def test_an_old_prohibition_can_be_lifted_though_its_route_is_gone(operator: Operator) -> None:
    operator.run("tenant", "create", "acme")
    operator.run("tenant", "route", "acme", "route.of.yesterday", "--allow")


@pytest.mark.parametrize(
    ("words", "listed"),
    [
        ("tenant create acme", "gateway tenant list"),
        ("tenant onboard new --owner o@example.com --plan gold", "gateway plan list"),
        ("plan assign gold acme", "gateway plan list"),
        ("issuer disable corp", "gateway issuer list"),
        ("user remove --tenant acme --email o@example.com --yes", "gateway user list --tenant acme"),
        ("operator grant o@example.com", "gateway user list --tenant SLUG"),
        ("service-account disable svc_x", "gateway service-account list --tenant SLUG"),
    ],
)
def test_what_is_not_there_or_there_already_is_listed_by_a_command(acme: Operator, words: str, listed: str) -> None:
    assert acme.run(*words.split(), status=1).stderr.endswith(f" See what there is: {listed}\n")


@pytest.mark.parametrize("words", [("suspend", "nobody"), ("resume", "nobody"), ("route", "nobody")])
def test_an_unknown_tenant_is_a_failure(operator: Operator, words: tuple[str, ...]) -> None:
    said = operator.run("tenant", *words, status=1).stderr
    assert said == "Error: There is no tenant 'nobody'. See what there is: gateway tenant list\n"


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("create",),
        ("create", "Acme"),
        ("create", "acme", "--name", ""),
        ("create", "acme", "--name", "two\nlines"),
        ("suspend",),
        ("suspend", "-acme"),
        ("route", "acme", "openai.transcriptions"),
        ("route", "acme", "--deny"),
        ("list", "acme"),
    ],
)
def test_wrong_usage_is_found_before_any_store_is_asked(stranger: Operator, words: tuple[str, ...]) -> None:
    assert stranger.run("tenant", *words, status=2).stdout == ""
