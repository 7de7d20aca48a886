"""``gateway operator``."""

from tests.gateway.cli.conftest import Operator


def test_a_person_becomes_an_operator_and_is_none_again(operator: Operator) -> None:
    operator.run("tenant", "create", "acme")
    operator.run("user", "create", "--tenant", "acme", "--email", "ada@example.com")
    assert operator.json("operator", "list") == []
    operator.run("operator", "grant", "ADA@example.com")
    assert operator.table("operator", "list")[1][0] == "ada@example.com"
    operator.run("operator", "revoke", "ada@example.com")
    assert operator.json("operator", "list") == []
    entries = operator.json("audit", "list", "--action", "operator")
    assert [entry["action"] for entry in entries] == ["operator.revoked", "operator.granted"]


def test_nobody_who_is_unknown_becomes_an_operator(operator: Operator) -> None:
    assert "Nobody has the e-mail address" in operator.run("operator", "grant", "x@example.com", status=1).stderr
