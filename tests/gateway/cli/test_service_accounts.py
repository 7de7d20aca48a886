"""``gateway service-account``: an id and a secret that is seen once."""

from typing import Any

from tests.gateway.cli.conftest import Operator


def test_an_account_is_made_listed_rotated_and_disabled(operator: Operator) -> None:
    operator.run("tenant", "create", "acme")
    made: Any = operator.json("service-account", "create", "--tenant", "acme", "--name", "w", "--audience", "billing")
    assert made["client_secret"].startswith("ths_")
    assert (made["scopes"], made["audiences"]) == (["transcribe"], ["billing"])
    (listed,) = operator.json("service-account", "list", "--tenant", "acme")  # type: ignore[misc]
    assert listed == {name: made[name] for name in listed}
    assert "client_secret" not in listed
    again: Any = operator.json("service-account", "rotate", made["id"])
    assert again["client_secret"] != made["client_secret"]
    words = ("--name", "v", "--scope", "introspect", "--audience", "none")
    changed: Any = operator.json("service-account", "set", made["id"], *words)
    assert (changed["name"], changed["scopes"], changed["audiences"]) == ("v", ["introspect"], [])
    assert "name what is to change" in operator.run("service-account", "set", made["id"], status=2).stderr
    ended: Any = operator.json("service-account", "disable", made["id"])
    assert ended["status"] == "disabled"
    rows = operator.table("service-account", "list", "--tenant", "acme")
    assert [row[4] for row in rows] == ["STATUS", "disabled"]


def test_what_is_not_there_is_said_plainly(operator: Operator) -> None:
    operator.run("tenant", "create", "acme")
    for verb in ("rotate", "disable", "set"):
        assert (
            "no service account 'svc_x'"
            in operator.run(
                "service-account", verb, "svc_x", *(["--name", "n"] if verb == "set" else []), status=1
            ).stderr
        )
    operator.run("service-account", "create", "--tenant", "acme", "--name", "w")
    again = operator.run("service-account", "create", "--tenant", "acme", "--name", "w", status=1)
    assert "'w' already" in again.stderr
