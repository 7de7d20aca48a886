"""`gateway limits`: what is set is what is shown, and what the gateways are told."""

import pytest

from storage.ports import Invalidation
from tests.gateway.cli.conftest import Operator
from tests.gateway.cli.listening import invalidations

NOTHING = {"tenant": "acme", "requests": None, "default_requests": None, "keys": []}


@pytest.fixture
def acme(operator: Operator) -> Operator:
    """An operator with a tenant `acme`."""
    operator.run("tenant", "create", "acme")
    return operator


def test_a_tenants_rate_is_set_replaced_and_lifted(acme: Operator) -> None:
    assert acme.json("limits", "show", "--tenant", "acme") == NOTHING
    done = acme.run("limits", "set", "--tenant", "acme", "--requests", "600/m")
    assert done.stdout == "Tenant acme: requests 600/m.\n"
    assert acme.table("limits", "show", "--tenant", "acme")[1] == ["tenant", "acme", "600/m"]
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
    assert acme.table("limits", "show", "--tenant", "acme")[2] == [key, "ci", "10/h"]


def test_the_default_is_shown_where_it_holds(acme: Operator) -> None:
    acme.environment["GATEWAY_DEFAULT_REQUESTS"] = "60/m"
    assert acme.table("limits", "show", "--tenant", "acme")[1] == ["default", "setting default_requests", "60/m"]
    assert acme.json("limits", "show", "--tenant", "acme")["default_requests"] == "60/m"


@pytest.mark.parametrize("of_key", [False, True])
def test_gateways_are_told(acme: Operator, *, of_key: bool) -> None:
    tenant_id = acme.json("tenant", "list")[0]["id"]
    key = acme.json("key", "create", "--tenant", "acme", "--name", "ci")["id"] if of_key else ""
    with invalidations(acme.environment["GATEWAY_REDIS_URL"]) as heard:
        acme.run("limits", "set", "--tenant", "acme", *(("--key", key) if key else ()), "--requests", "1/d")
        assert heard.get(timeout=5) == Invalidation(tenant_id=tenant_id, key_id=key)


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
    ],
)
def test_wrong_usage_is_found_before_any_store_is_asked(stranger: Operator, words: tuple[str, ...]) -> None:
    assert stranger.run("limits", *words, status=2).stdout == ""
